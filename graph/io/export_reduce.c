/* ONNX export of reductions and windows. Pooling operators serve windows of floats; other windows
 * are as many strided slices as the window has elements, combined one by one. */
#include <inttypes.h>
#include <math.h>

#include "base/checked.h"
#include "graph/io/export.h"

#define SLICES_MAX 256 /* elements of a window that become slices */

double kiln_export_identity(const kiln_export_call *call)
{
    switch ((kiln_op)call->node->op) {
    case KILN_OP_reduce_prod:
    case KILN_OP_cumulative_prod:
    case KILN_OP_window_prod:
    case KILN_OP_reduce_all:
        return 1;
    case KILN_OP_reduce_max:
    case KILN_OP_cumulative_max:
    case KILN_OP_window_max:
        break;
    case KILN_OP_reduce_min:
    case KILN_OP_cumulative_min:
    case KILN_OP_window_min:
        return kiln_dtype_kind_of(call->own) == KILN_DTYPE_KIND_FLOAT ? INFINITY : 0x1p70;
    default:
        return 0;
    }
    if (call->own == KILN_bool) return 0;
    /* beyond every integer: it saturates to the least */
    return kiln_dtype_kind_of(call->own) == KILN_DTYPE_KIND_FLOAT ? -INFINITY : -0x1p70;
}

const char *kiln_export_identity_scalar(kiln_export_call *call)
{
    double value = kiln_export_identity(call);
    if (kiln_dtype_kind_of(call->own) == KILN_DTYPE_KIND_FLOAT)
        return kiln_export_scalar(call, call->dtype, value);
    const char *name = kiln_export_scalar(call, call->own, value);
    return call->dtype == call->own ? name : kiln_export_cast(call, name, call->dtype);
}

const char *kiln_export_reduce(kiln_export_call *call)
{
    kiln_ints axes = call->node->attrs->axes.axes;
    if (axes.n == 0) return kiln_export_operand(call, 0);
    if (kiln_export_type(call, 0)->n_elements == 0) {
        const char *none = kiln_export_scalar(call, call->own, kiln_export_identity(call));
        kiln_export_set_small(call, none, 0, NULL);
        return NULL;
    }
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "keepdims", 0);
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0),
                            kiln_export_ints(call, axes));
}

const char *kiln_export_arg(kiln_export_call *call)
{
    const kiln_attrs *given = call->node->attrs;
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", given->arg.axis);
    kiln_export_attr_int(&attrs, "keepdims", 0);
    kiln_export_attr_int(&attrs, "select_last_index", given->arg.last);
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0));
}

/* Windows */

typedef struct window_call {
    kiln_export_call *call;
    const kiln_type *type; /* of the operand */
    kiln_ints sizes, strides, low, high, dilations;
} window_call;

static window_call window_of(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    return (window_call){call,
                         kiln_export_type(call, 0),
                         attrs->window.sizes,
                         attrs->window.strides,
                         attrs->window.low,
                         attrs->window.high,
                         attrs->window.dilations};
}

static bool is_plain_axis(const window_call *window, uint32_t axis)
{
    return window->sizes.at[axis] == 1 && window->strides.at[axis] == 1 &&
           window->low.at[axis] == 0 && window->high.at[axis] == 0;
}

/* A sum over all elements up to (or from) each one is CumSum. */
static bool is_cumulative(const window_call *window, int64_t *out_axis, bool *out_is_reverse)
{
    uint32_t n = 0;
    for (uint32_t axis = 0; axis < window->type->rank; axis++) {
        int64_t dim = window->type->dims[axis];
        bool is_before = window->low.at[axis] == dim - 1 && window->high.at[axis] == 0;
        bool is_after = window->high.at[axis] == dim - 1 && window->low.at[axis] == 0;
        if (is_plain_axis(window, axis)) continue;
        if (n++ || window->sizes.at[axis] != dim || window->strides.at[axis] != 1 ||
            window->dilations.at[axis] != 1 || !(is_before || is_after))
            return false;
        *out_axis = axis;
        *out_is_reverse = !is_before;
    }
    return n == 1;
}

/* Pads of at most the window's reach, and not negative: what pooling operators take. */
static bool pools(const window_call *window, uint32_t *out_n)
{
    *out_n = 0;
    for (uint32_t axis = 0; axis < window->type->rank; axis++) {
        int64_t size = window->sizes.at[axis];
        if (is_plain_axis(window, axis)) continue;
        ++*out_n;
        if (window->low.at[axis] < 0 || window->high.at[axis] < 0 || window->low.at[axis] >= size ||
            window->high.at[axis] >= size)
            return false;
    }
    return *out_n >= 1 && *out_n <= 3 && window->type->n_elements && window->call->type->n_elements;
}

/* Axes without a window first, as one; then those with. */
static const char *pool_as(const window_call *window, const char *op, bool is_average)
{
    kiln_export_call *call = window->call;
    uint32_t rank = window->type->rank, n = 0, m = 2;
    int64_t permutation[KILN_MAX_RANK], dims[KILN_MAX_RANK + 2] = {1, 1}, back[KILN_MAX_RANK];
    int64_t lists[5][KILN_MAX_RANK], result[KILN_MAX_RANK];
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (!is_plain_axis(window, axis)) continue;
        dims[1] *= window->type->dims[axis];
        permutation[n++] = axis;
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (is_plain_axis(window, axis)) continue;
        lists[0][m - 2] = window->sizes.at[axis];
        lists[1][m - 2] = window->strides.at[axis];
        lists[2][m - 2] = window->dilations.at[axis];
        lists[3][m - 2] = window->low.at[axis];
        lists[4][m - 2] = window->high.at[axis];
        dims[m++] = window->type->dims[axis];
        permutation[n++] = axis;
    }
    uint32_t spatial = m - 2;
    memcpy(lists[3] + spatial, lists[4], spatial * sizeof(int64_t));
    for (uint32_t i = 0; i < rank; i++) {
        back[permutation[i]] = i;
        result[i] = call->type->dims[permutation[i]];
    }
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_ints(&attrs, "kernel_shape", (kiln_ints){spatial, lists[0]});
    kiln_export_attr_ints(&attrs, "strides", (kiln_ints){spatial, lists[1]});
    kiln_export_attr_ints(&attrs, "dilations", (kiln_ints){spatial, lists[2]});
    kiln_export_attr_ints(&attrs, "pads", (kiln_ints){2 * spatial, lists[3]});
    if (is_average) kiln_export_attr_int(&attrs, "count_include_pad", 1);
    const char *name =
        kiln_export_transpose(call, kiln_export_operand(call, 0), (kiln_ints){rank, permutation});
    name = kiln_export_reshape(call, name, m, dims);
    name = kiln_export_emit(call, op, &attrs, name);
    name = kiln_export_reshape(call, name, rank, result);
    return kiln_export_transpose(call, name, (kiln_ints){rank, back});
}

static const char *sum_as_average(const window_call *window)
{
    kiln_export_call *call = window->call;
    int64_t count = 1;
    if (call->export->opset < 19) call->export->opset = 19; /* dilations */
    for (uint32_t axis = 0; axis < window->type->rank; axis++) count *= window->sizes.at[axis];
    const char *mean = pool_as(window, "AveragePool", true);
    return kiln_export_emit(call, "Mul", NULL, mean,
                            kiln_export_scalar(call, call->dtype, (double)count));
}

/* The elements that stand `place` elements into each window. */
static const char *window_slice(const window_call *window, const char *name, int64_t place)
{
    kiln_export_call *call = window->call;
    uint32_t rank = window->type->rank;
    int64_t *starts = kiln_export_filled(call, rank, 0), *ends = kiln_export_filled(call, rank, 0);
    int64_t *axes = kiln_export_filled(call, rank, 0);
    for (uint32_t axis = rank; axis-- > 0; place /= window->sizes.at[axis]) {
        axes[axis] = axis;
        starts[axis] = place % window->sizes.at[axis] * window->dilations.at[axis];
        ends[axis] = starts[axis] + (call->type->dims[axis] - 1) * window->strides.at[axis] + 1;
        ends[axis] = kiln_max_i64(ends[axis], starts[axis]);
    }
    return kiln_export_emit(
        call, "Slice", NULL, name, kiln_export_ints(call, (kiln_ints){rank, starts}),
        kiln_export_ints(call, (kiln_ints){rank, ends}),
        kiln_export_ints(call, (kiln_ints){rank, axes}), kiln_export_ints(call, window->strides));
}

static const char *window_as_slices(const window_call *window)
{
    kiln_export_call *call = window->call;
    uint32_t rank = window->type->rank;
    int64_t count = 1;
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (!kiln_checked_mul(count, window->sizes.at[axis], &count) || count > SLICES_MAX)
            kiln_export_refuse(call, "a window of more than %d elements without a pooling operator",
                               SLICES_MAX);
    }
    kiln_export_padding padding = {
        window->low, window->high, {rank, kiln_export_filled(call, rank, 0)}};
    const char *name = kiln_export_operand(call, 0), *made = NULL;
    const char *none = kiln_export_identity_scalar(call);
    name = kiln_export_pad(call, name, window->type, &padding, none);
    for (int64_t place = 0; place < count; place++) {
        const char *part = window_slice(window, name, place);
        made = made ? kiln_export_emit(call, call->row->onnx, NULL, made, part) : part;
    }
    return made;
}

const char *kiln_export_window(kiln_export_call *call)
{
    window_call window = window_of(call);
    kiln_op op = call->node->op;
    bool is_float = kiln_dtype_kind_of(call->dtype) == KILN_DTYPE_KIND_FLOAT, is_reverse;
    uint32_t n;
    int64_t axis;
    if (op == KILN_OP_window_sum && is_cumulative(&window, &axis, &is_reverse)) {
        kiln_wire attrs = kiln_export_attrs(call);
        kiln_export_attr_int(&attrs, "reverse", is_reverse);
        return kiln_export_emit(call, "CumSum", &attrs, kiln_export_operand(call, 0),
                                kiln_export_scalar(call, KILN_i64, (double)axis));
    }
    if (!is_float || !pools(&window, &n)) return window_as_slices(&window);
    if (op == KILN_OP_window_max) return pool_as(&window, "MaxPool", false);
    if (op == KILN_OP_window_sum && call->dtype != KILN_f64) return sum_as_average(&window);
    return window_as_slices(&window);
}
