/* 4-bit elements: unpacking and packing as views and bit operations of bytes, and integer
 * arithmetic in 8 bits, whose low half is right whatever the high half; the result is wrapped to 4
 * bits. Tiles store whole bytes, so two threads never share one. */
#include "base/checked.h"
#include "passes/legalize.h"

kiln_value kiln_packed_wrap(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    if (dtype != KILN_i4) return kiln_legal_with(graph, KILN_OP_and, a, 15);
    a = kiln_legal_with(graph, KILN_OP_shift_left, a, 4);
    return kiln_legal_with(graph, KILN_OP_shift_right_arithmetic, a, 4);
}

/* bytes[m] => [m,2], the low half moved up in column 0; then all columns down => [2 m] => dims. */
kiln_value kiln_packed_unpack(kiln_graph *graph, kiln_value bytes, const kiln_type *type)
{
    int64_t n = type->n_elements, m = kiln_ceil_div(n, 2), zero = 0, twice = 2 * m;
    int64_t dims[] = {m, 2};
    kiln_value pairs = kiln_add_broadcast(graph, bytes, 2, dims, &zero);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {1}};
    kiln_node_spec spec = {
        KILN_OP_iota, kiln_graph_tensor(graph, KILN_u8, 2, dims), NULL, 0, &attrs, NULL};
    kiln_value is_low = kiln_legal_with(graph, KILN_OP_eq, kiln_graph_add(graph, &spec), 0);
    kiln_value moved = kiln_legal_with(graph, KILN_OP_shift_left, pairs, 4);
    kiln_value a = kiln_legal_select(graph, is_low, moved, pairs);
    kiln_op shift = KILN_OP_shift_right_logical;
    if (type->dtype == KILN_i4) {
        a = kiln_legal_bitcast(graph, a, KILN_i8);
        shift = KILN_OP_shift_right_arithmetic;
    }
    a = kiln_add_reshape(graph, kiln_legal_with(graph, shift, a, 4), 1, &twice);
    if (n != twice) a = kiln_legal_slice(graph, a, &zero, &n);
    return kiln_add_reshape(graph, a, type->rank, type->dims);
}

/* Column 0 or 1 of [m,2] as [m]. */
static kiln_value column(kiln_graph *graph, kiln_value pairs, int64_t number)
{
    int64_t m = kiln_graph_type(graph, pairs)->dims[0];
    int64_t starts[] = {0, number}, limits[] = {m, number + 1};
    return kiln_add_reshape(graph, kiln_legal_slice(graph, pairs, starts, limits), 1, &m);
}

kiln_value kiln_packed_pack(kiln_graph *graph, kiln_value a)
{
    int64_t n = kiln_graph_type(graph, a)->n_elements, m = kiln_ceil_div(n, 2), zero = 0;
    int64_t dims[] = {m, 2}, missing = 2 * m - n;
    kiln_ints none = {1, &zero}, behind = {1, &missing};
    if (kiln_graph_type(graph, a)->dtype != KILN_u8) a = kiln_legal_bitcast(graph, a, KILN_u8);
    a = kiln_add_reshape(graph, a, 1, &n);
    if (missing) {
        kiln_attrs attrs = {KILN_FAMILY_pad, .pad = {none, behind, none}};
        kiln_value inputs[] = {a, kiln_add_splat(graph, KILN_u8, 0, NULL, 0)};
        kiln_node_spec spec = {KILN_OP_pad, NULL, inputs, 2, &attrs, NULL};
        a = kiln_graph_add(graph, &spec);
    }
    a = kiln_add_reshape(graph, a, 2, dims);
    kiln_value low = kiln_legal_with(graph, KILN_OP_and, column(graph, a, 0), 15);
    kiln_value high = kiln_legal_with(graph, KILN_OP_shift_left, column(graph, a, 1), 4);
    return kiln_add_binary(graph, KILN_OP_or, low, high);
}

/* Operations for which 8 bits mean something else than 4: operand 0 as they need it. */
static kiln_value adapt_operand(kiln_graph *graph, kiln_op op, kiln_value a)
{
    switch ((int)op) {
    case KILN_OP_popcnt:
    case KILN_OP_clz:
    case KILN_OP_shift_right_logical:
        return kiln_legal_with(graph, KILN_OP_and, a, 15);
    case KILN_OP_shift_right_arithmetic:
        return kiln_packed_wrap(graph, a, KILN_i4);
    default:
        return a;
    }
}

static kiln_value adapt_result(kiln_graph *graph, const kiln_node *node, kiln_value a)
{
    kiln_dtype dtype = node->type->dtype;
    bool is_signed = dtype == KILN_i4;
    switch ((int)node->op) {
    case KILN_OP_clz:
        return kiln_legal_with(graph, KILN_OP_sub, a, 4);
    case KILN_OP_reduce_max: /* an empty range gives the least of 8 bits */
    case KILN_OP_reduce_min:
    case KILN_OP_window_max:
    case KILN_OP_window_min:
        a = kiln_legal_with(graph, KILN_OP_max, a, is_signed ? -8 : 0);
        return kiln_legal_with(graph, KILN_OP_min, a, is_signed ? 7 : 15);
    case KILN_OP_max:
    case KILN_OP_min:
    case KILN_OP_clamp:
        return a;
    default:
        return kiln_packed_wrap(graph, a, dtype);
    }
}

kiln_value kiln_legal_int_node(kiln_legal *legal, const kiln_node *node)
{
    kiln_value *inputs = kiln_new_array(&legal->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = legal->values[node->inputs[i].id];
    if (node->n_inputs && kiln_dtype_is_packed(kiln_legal_operand(legal, node, 0)->dtype))
        inputs[0] = adapt_operand(legal->target, (kiln_op)node->op, inputs[0]);
    kiln_dtype dtype = node->type->dtype;
    kiln_value a = kiln_legal_node(legal, node, inputs, kiln_legal_dtype(dtype));
    return kiln_dtype_is_packed(dtype) ? adapt_result(legal->target, node, a) : a;
}
