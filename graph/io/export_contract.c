/* ONNX export of contractions: MatMul where the axes stand as it wants them, else Einsum; Conv with
 * its axes brought in order. */
#include "base/checked.h"
#include "graph/io/export.h"

/* What is multiplied: the result's dtype, which a wide node's operands are narrower than. Products
 * and sums are those of the values either way. */
static kiln_dtype factor_dtype(const kiln_export_call *call)
{
    return call->type->dtype == call->own ? call->dtype : call->type->dtype;
}

static const char *factor(kiln_export_call *call, uint32_t i)
{
    const char *name = kiln_export_operand(call, i);
    kiln_dtype dtype = kiln_export_type(call, i)->dtype, to = factor_dtype(call);
    if (dtype == call->own) dtype = call->dtype;
    return dtype == to ? name : kiln_export_cast(call, name, to);
}

static bool is_rising(kiln_ints axes)
{
    for (uint32_t i = 0; i < axes.n; i++) {
        if (axes.at[i] != i) return false;
    }
    return true;
}

/* lhs [batch…, m, k], rhs [batch…, k, n]; without batch lhs may have any free axes. */
static bool is_matmul(const kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    uint32_t lhs = kiln_export_type(call, 0)->rank, rhs = kiln_export_type(call, 1)->rank;
    uint32_t batch = attrs->dot.lhs_batch.n;
    return attrs->dot.lhs_contract.n == 1 && is_rising(attrs->dot.lhs_batch) &&
           is_rising(attrs->dot.rhs_batch) && attrs->dot.lhs_contract.at[0] == lhs - 1 &&
           attrs->dot.rhs_contract.at[0] == batch && rhs == batch + 2 &&
           (batch == 0 ? lhs >= 2 : lhs == batch + 2);
}

static bool holds(kiln_ints axes, uint32_t axis, uint32_t *out_place)
{
    for (*out_place = 0; *out_place < axes.n; ++*out_place) {
        if (axes.at[*out_place] == axis) return true;
    }
    return false;
}

/* A letter for each axis of an operand: shared ones by their place in batch and contract lists. */
static void put_letters(kiln_export_call *call, uint32_t operand, kiln_text *equation,
                        kiln_text *free_letters)
{
    const kiln_attrs *attrs = call->node->attrs;
    kiln_ints batch = operand ? attrs->dot.rhs_batch : attrs->dot.lhs_batch;
    kiln_ints contract = operand ? attrs->dot.rhs_contract : attrs->dot.lhs_contract;
    uint32_t rank = kiln_export_type(call, operand)->rank, place, n_free = 0;
    for (uint32_t axis = 0; axis < rank; axis++) {
        char letter;
        if (holds(batch, axis, &place)) {
            letter = (char)('a' + place);
        } else if (holds(contract, axis, &place)) {
            letter = (char)('a' + batch.n + place);
        } else {
            letter = (char)(operand ? 'Z' - n_free++ : 'A' + n_free++);
            kiln_text_append_n(free_letters, &letter, 1);
        }
        kiln_text_append_n(equation, &letter, 1);
    }
}

static const char *dot_as_einsum(kiln_export_call *call, const char *const *inputs)
{
    kiln_arena *arena = call->export->arena;
    kiln_text equation = {.arena = arena}, free_letters = {.arena = arena};
    const kiln_attrs *attrs = call->node->attrs;
    put_letters(call, 0, &equation, &free_letters);
    kiln_text_append(&equation, ",");
    put_letters(call, 1, &equation, &free_letters);
    kiln_text_append(&equation, "->");
    for (uint32_t i = 0; i < attrs->dot.lhs_batch.n; i++) {
        char letter = (char)('a' + i);
        kiln_text_append_n(&equation, &letter, 1);
    }
    kiln_text_append(&equation, kiln_text_string(&free_letters));
    kiln_wire list = kiln_export_attrs(call);
    kiln_export_attr_string(&list, "equation", kiln_text_string(&equation));
    return kiln_export_emit_list(call, "Einsum", &list, 2, inputs);
}

const char *kiln_export_dot(kiln_export_call *call)
{
    const char *inputs[2] = {factor(call, 0), factor(call, 1)};
    if (is_matmul(call)) return kiln_export_emit_list(call, "MatMul", NULL, 2, inputs);
    return dot_as_einsum(call, inputs);
}

const char *kiln_export_linear(kiln_export_call *call)
{
    const kiln_type *a = kiln_export_type(call, 0), *c = NULL;
    const char *x = kiln_export_operand(call, 0), *w = kiln_export_operand(call, 1);
    if (call->node->n_inputs > 2) c = kiln_export_type(call, 2);
    if (c && a->rank == 2)
        return kiln_export_emit(call, "Gemm", NULL, x, w, kiln_export_operand(call, 2));
    const char *made = kiln_export_emit(call, "MatMul", NULL, x, w);
    return c ? kiln_export_emit(call, "Add", NULL, made, kiln_export_operand(call, 2)) : made;
}

/* The operand with dilation and negative pads done, in the order [batch, feature, spatial…];
 * *out_pads what Conv is left with. */
static const char *conv_operand(kiln_export_call *call, int64_t *out_pads)
{
    const kiln_attrs *attrs = call->node->attrs;
    const kiln_type *type = kiln_export_type(call, 0);
    uint32_t rank = type->rank, spatial = rank - 2;
    int64_t dims[KILN_MAX_RANK], low[KILN_MAX_RANK] = {0}, high[KILN_MAX_RANK] = {0},
                                 interior[KILN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < rank; i++) dims[i] = type->dims[attrs->conv.input_axes.at[i]];
    for (uint32_t i = 0; i < spatial; i++) {
        low[i + 2] = kiln_min_i64(attrs->conv.low.at[i], 0);
        high[i + 2] = kiln_min_i64(attrs->conv.high.at[i], 0);
        interior[i + 2] = attrs->conv.lhs_dilation.at[i] - 1;
        out_pads[i] = kiln_max_i64(attrs->conv.low.at[i], 0);
        out_pads[spatial + i] = kiln_max_i64(attrs->conv.high.at[i], 0);
    }
    const char *name = kiln_export_transpose(call, factor(call, 0), attrs->conv.input_axes);
    const kiln_type ordered = {factor_dtype(call), rank, dims, type->n_elements,
                               type->bytes,        0,    NULL};
    kiln_export_padding padding = {{rank, low}, {rank, high}, {rank, interior}};
    return kiln_export_pad(call, name, &ordered, &padding,
                           kiln_export_scalar(call, factor_dtype(call), 0));
}

const char *kiln_export_convolution(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    uint32_t rank = call->type->rank;
    int64_t pads[2 * KILN_MAX_RANK], back[KILN_MAX_RANK];
    if (kiln_dtype_kind_of(call->type->dtype) != KILN_DTYPE_KIND_FLOAT)
        kiln_export_refuse(call, "a convolution of integers; expected floats");
    if (rank < 3) kiln_export_refuse(call, "a convolution without spatial axes; expected one");
    const char *x = conv_operand(call, pads);
    const char *w = kiln_export_transpose(call, factor(call, 1), attrs->conv.kernel_axes);
    kiln_wire list = kiln_export_attrs(call);
    kiln_export_attr_ints(&list, "strides", attrs->conv.strides);
    kiln_export_attr_ints(&list, "dilations", attrs->conv.rhs_dilation);
    kiln_export_attr_ints(&list, "pads", (kiln_ints){2 * (rank - 2), pads});
    kiln_export_attr_int(&list, "group", attrs->conv.groups);
    const char *made = kiln_export_emit(call, "Conv", &list, x, w);
    for (uint32_t i = 0; i < rank; i++) back[attrs->conv.output_axes.at[i]] = i;
    return kiln_export_transpose(call, made, (kiln_ints){rank, back});
}
