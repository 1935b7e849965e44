/* Type rules of windows and contractions. */
#include "base/checked.h"
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"

#define SIZE_LIMIT KILN_MAX_DIM

/* 1 + (n - 1) * dilation, the reach of n dilated elements; 0 for none. Operands are below 2^41, so
 * only the product can overflow. */
static bool dilated(int64_t n, int64_t dilation, int64_t *out)
{
    if (n == 0) {
        *out = 0;
        return true;
    }
    return kiln_checked_mul(n - 1, dilation, out) && kiln_checked_add(*out, 1, out);
}

int64_t kiln_infer_window_dim(const kiln_infer_call *call, uint32_t axis, kiln_window_axis window)
{
    int64_t padded, reach;
    if (!dilated(window.dim, window.base_dilation, &padded) ||
        !dilated(window.size, window.dilation, &reach) ||
        !kiln_checked_add(padded, window.low, &padded) ||
        !kiln_checked_add(padded, window.high, &padded) || padded < 0) {
        kiln_infer_fail(call, "axis %u of %s has no valid size with low %lld and high %lld", axis,
                        kiln_infer_types_string(call), (long long)window.low,
                        (long long)window.high);
    }
    return padded < reach ? 0 : (padded - reach) / window.stride + 1;
}

const kiln_type *kiln_infer_window(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    uint32_t rank = type->rank;
    kiln_ints sizes = call->attrs->window.sizes, strides = call->attrs->window.strides;
    kiln_ints low = call->attrs->window.low, high = call->attrs->window.high;
    kiln_ints dilations = call->attrs->window.dilations;
    kiln_infer_ints(call, "sizes", sizes, rank);
    kiln_infer_ints(call, "strides", strides, rank);
    kiln_infer_ints(call, "low", low, rank);
    kiln_infer_ints(call, "high", high, rank);
    kiln_infer_ints(call, "dilations", dilations, rank);
    kiln_infer_range(call, "sizes", sizes, 1, SIZE_LIMIT);
    kiln_infer_range(call, "strides", strides, 1, SIZE_LIMIT);
    kiln_infer_range(call, "low", low, -SIZE_LIMIT, SIZE_LIMIT);
    kiln_infer_range(call, "high", high, -SIZE_LIMIT, SIZE_LIMIT);
    kiln_infer_range(call, "dilations", dilations, 1, SIZE_LIMIT);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        kiln_window_axis axis = {type->dims[i], sizes.at[i], strides.at[i],  low.at[i],
                                 high.at[i],    1,           dilations.at[i]};
        dims[i] = kiln_infer_window_dim(call, i, axis);
    }
    return kiln_graph_tensor(call->graph, type->dtype, rank, dims);
}

static bool is_byte(const kiln_type *type)
{
    return type->dtype == KILN_i8 || type->dtype == KILN_u8;
}

/* Sums are kept in a dtype of the same kind, at least as wide. Bytes of any sign meet in i32. */
static void check_accumulate(const kiln_infer_call *call, kiln_dtype accumulate, int64_t wide)
{
    const kiln_type *a = call->types[0], *b = call->types[1];
    if (is_byte(a) && is_byte(b) && accumulate == KILN_i32 && wide) return;
    if (a->dtype != b->dtype) {
        kiln_infer_fail(call, "operands are %s; expected one dtype", kiln_infer_types_string(call));
    }
    if (kiln_dtype_kind_of(accumulate) != kiln_dtype_kind_of(a->dtype) ||
        kiln_dtype_bytes(accumulate) < kiln_dtype_bytes(a->dtype)) {
        kiln_infer_fail(call, "accumulate is %s for %s; expected the same kind, at least as wide",
                        kiln_dtype_name(accumulate), kiln_dtype_name(a->dtype));
    }
}

/* The result's dtype: that of the operands, or of the sums. */
static kiln_dtype result_dtype(const kiln_infer_call *call, kiln_dtype accumulate, int64_t wide)
{
    if (wide != 0 && wide != 1)
        kiln_infer_fail(call, "wide is %lld; expected 0 or 1", (long long)wide);
    return wide ? accumulate : call->types[0]->dtype;
}

static uint32_t axis_set(kiln_ints axes)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < axes.n; i++) set |= 1u << axes.at[i];
    return set;
}

const kiln_type *kiln_infer_dot(const kiln_infer_call *call)
{
    const kiln_type *a = call->types[0], *b = call->types[1];
    kiln_ints a_batch = call->attrs->dot.lhs_batch, b_batch = call->attrs->dot.rhs_batch;
    kiln_ints a_sum = call->attrs->dot.lhs_contract, b_sum = call->attrs->dot.rhs_contract;
    kiln_infer_axes(call, "lhs_batch", a_batch, a->rank, false);
    kiln_infer_axes(call, "rhs_batch", b_batch, b->rank, false);
    kiln_infer_axes(call, "lhs_contract", a_sum, a->rank, false);
    kiln_infer_axes(call, "rhs_contract", b_sum, b->rank, false);
    uint32_t a_used = axis_set(a_batch) | axis_set(a_sum),
             b_used = axis_set(b_batch) | axis_set(b_sum);
    if (a_batch.n != b_batch.n || a_sum.n != b_sum.n || (axis_set(a_batch) & axis_set(a_sum)) ||
        (axis_set(b_batch) & axis_set(b_sum))) {
        kiln_infer_fail(call, "batch and contract axes of the two operands do not pair up");
    }
    int64_t dims[2 * KILN_MAX_RANK];
    uint32_t rank = 0;
    bool is_equal = true;
    for (uint32_t i = 0; i < a_batch.n; i++) {
        dims[rank++] = a->dims[a_batch.at[i]];
        is_equal &= a->dims[a_batch.at[i]] == b->dims[b_batch.at[i]];
    }
    for (uint32_t i = 0; i < a_sum.n; i++) is_equal &= a->dims[a_sum.at[i]] == b->dims[b_sum.at[i]];
    if (!is_equal) {
        kiln_infer_fail(call, "operands are %s; expected equal batch and contracted dims",
                        kiln_infer_types_string(call));
    }
    for (uint32_t i = 0; i < a->rank; i++) {
        if (!(a_used >> i & 1)) dims[rank++] = a->dims[i];
    }
    for (uint32_t i = 0; i < b->rank; i++) {
        if (!(b_used >> i & 1)) dims[rank++] = b->dims[i];
    }
    check_accumulate(call, call->attrs->dot.accumulate, call->attrs->dot.wide);
    kiln_dtype dtype = result_dtype(call, call->attrs->dot.accumulate, call->attrs->dot.wide);
    return kiln_graph_tensor(call->graph, dtype, rank, dims);
}

static void check_conv_lists(const kiln_infer_call *call, uint32_t rank)
{
    const struct {
        const char *name;
        kiln_ints ints;
        int64_t low;
    } spatial[] =
        {
            {"strides", call->attrs->conv.strides, 1},
            {"low", call->attrs->conv.low, -SIZE_LIMIT},
            {"high", call->attrs->conv.high, -SIZE_LIMIT},
            {"lhs_dilation", call->attrs->conv.lhs_dilation, 1},
            {"rhs_dilation", call->attrs->conv.rhs_dilation, 1},
        },
      axes[] = {
          {"input_axes", call->attrs->conv.input_axes, 0},
          {"kernel_axes", call->attrs->conv.kernel_axes, 0},
          {"output_axes", call->attrs->conv.output_axes, 0},
      };
    for (uint32_t i = 0; i < sizeof spatial / sizeof *spatial; i++) {
        kiln_infer_ints(call, spatial[i].name, spatial[i].ints, rank - 2);
        kiln_infer_range(call, spatial[i].name, spatial[i].ints, spatial[i].low, SIZE_LIMIT);
    }
    for (uint32_t i = 0; i < sizeof axes / sizeof *axes; i++) {
        kiln_infer_ints(call, axes[i].name, axes[i].ints, rank);
        kiln_infer_axes(call, axes[i].name, axes[i].ints, rank, false);
    }
}

static bool all_ones(kiln_ints list)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (list.at[i] != 1) return false;
    return true;
}

static void check_winograd(const kiln_infer_call *call)
{
    const kiln_attrs *attrs = call->attrs;
    const kiln_type *kernel = call->types[1];
    const int64_t *k = attrs->conv.kernel_axes.at;
    int64_t side = attrs->conv.winograd;
    if (side == 0) return;
    bool is_plain = attrs->conv.groups == 1 && all_ones(attrs->conv.strides) &&
                    all_ones(attrs->conv.lhs_dilation) && all_ones(attrs->conv.rhs_dilation);
    bool is_square = kernel->rank == 4 && kernel->dims[k[2]] == 3 && kernel->dims[k[3]] == 3;
    bool is_f32 = kernel->dtype == KILN_f32 && attrs->conv.accumulate == KILN_f32;
    if ((side == 2 || side == 4) && is_plain && is_square && is_f32) return;
    kiln_infer_fail(call,
                    "winograd is %lld; expected 2 or 4, and a 3 x 3 kernel of f32 with strides and "
                    "dilations of 1 and one group",
                    (long long)side);
}

const kiln_type *kiln_infer_convolution(const kiln_infer_call *call)
{
    const kiln_type *input = call->types[0], *kernel = call->types[1];
    uint32_t rank = input->rank;
    if (rank < 2 || kernel->rank != rank) {
        kiln_infer_fail(call, "operands are %s; expected equal ranks of 2 or more",
                        kiln_infer_types_string(call));
    }
    check_conv_lists(call, rank);
    check_accumulate(call, call->attrs->conv.accumulate, call->attrs->conv.wide);
    check_winograd(call);
    const int64_t *in = call->attrs->conv.input_axes.at, *k = call->attrs->conv.kernel_axes.at;
    const int64_t *out = call->attrs->conv.output_axes.at;
    int64_t groups = call->attrs->conv.groups;
    int64_t in_features = input->dims[in[1]], out_features = kernel->dims[k[0]];
    bool divides = groups >= 1 && in_features % groups == 0 && out_features % groups == 0;
    if (!divides || kernel->dims[k[1]] != in_features / groups) {
        kiln_infer_fail(call,
                        "groups is %lld, input features %lld, kernel %lld to %lld; expected "
                        "features that groups divides and a kernel from %lld / groups",
                        (long long)groups, (long long)in_features, (long long)kernel->dims[k[1]],
                        (long long)out_features, (long long)in_features);
    }
    int64_t dims[KILN_MAX_RANK];
    dims[out[0]] = input->dims[in[0]];
    dims[out[1]] = out_features;
    for (uint32_t i = 0; i + 2 < rank; i++) {
        kiln_window_axis axis = {
            input->dims[in[i + 2]],
            kernel->dims[k[i + 2]],
            call->attrs->conv.strides.at[i],
            call->attrs->conv.low.at[i],
            call->attrs->conv.high.at[i],
            call->attrs->conv.lhs_dilation.at[i],
            call->attrs->conv.rhs_dilation.at[i],
        };
        if (axis.size == 0)
            kiln_infer_fail(call, "kernel is empty; expected spatial dims of 1 or more");
        dims[out[i + 2]] = kiln_infer_window_dim(call, (uint32_t)in[i + 2], axis);
    }
    kiln_dtype dtype = result_dtype(call, call->attrs->conv.accumulate, call->attrs->conv.wide);
    return kiln_graph_tensor(call->graph, dtype, rank, dims);
}
