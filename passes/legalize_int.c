/* Elements of 4 and 2 bits: unpacking and packing as views and bit operations of bytes, and integer
 * arithmetic in 8 bits, whose low bits are right whatever the high ones; the result is wrapped.
 * Tiles store whole bytes, so two threads never share one. */
#include "base/checked.h"
#include "passes/legalize.h"

static bool is_signed(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
}

static double mask_of(kiln_dtype dtype)
{
    return (double)((1 << kiln_dtype_bits(dtype)) - 1);
}

kiln_value kiln_packed_wrap(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    double high = 8 - (double)kiln_dtype_bits(dtype);
    if (!is_signed(dtype)) return kiln_legal_with(graph, KILN_OP_and, a, mask_of(dtype));
    a = kiln_legal_with(graph, KILN_OP_shift_left, a, high);
    return kiln_legal_with(graph, KILN_OP_shift_right_arithmetic, a, high);
}

kiln_value kiln_packed_clamp(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    double half = (mask_of(dtype) + 1) / 2;
    a = kiln_legal_with(graph, KILN_OP_max, a, is_signed(dtype) ? -half : 0);
    return kiln_legal_with(graph, KILN_OP_min, a, is_signed(dtype) ? half - 1 : mask_of(dtype));
}

/* bytes[m] => [m,k], the bits of column i moved to the top; then all columns down => [k m] =>
 * dims. */
kiln_value kiln_packed_unpack(kiln_graph *graph, kiln_value bytes, const kiln_type *type)
{
    int64_t bits = (int64_t)kiln_dtype_bits(type->dtype), k = 8 / bits;
    int64_t n = type->n_elements, m = kiln_ceil_div(n, k), zero = 0, all = k * m;
    int64_t dims[] = {m, k};
    kiln_value columns = kiln_add_broadcast(graph, bytes, 2, dims, &zero);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {1}};
    kiln_node_spec spec = {
        KILN_OP_iota, kiln_graph_tensor(graph, KILN_u8, 2, dims), NULL, 0, &attrs, NULL};
    kiln_value up = kiln_legal_with(graph, KILN_OP_mul, kiln_graph_add(graph, &spec), (double)bits);
    up =
        kiln_add_binary(graph, KILN_OP_sub, kiln_add_splat_like(graph, up, (double)(8 - bits)), up);
    kiln_value a = kiln_add_binary(graph, KILN_OP_shift_left, columns, up);
    kiln_op shift = KILN_OP_shift_right_logical;
    if (is_signed(type->dtype)) {
        a = kiln_legal_bitcast(graph, a, KILN_i8);
        shift = KILN_OP_shift_right_arithmetic;
    }
    a = kiln_add_reshape(graph, kiln_legal_with(graph, shift, a, (double)(8 - bits)), 1, &all);
    if (n != all) a = kiln_legal_slice(graph, a, &zero, &n);
    return kiln_add_reshape(graph, a, type->rank, type->dims);
}

/* A column of [m,k] as [m]. */
static kiln_value column(kiln_graph *graph, kiln_value rows, int64_t number)
{
    int64_t m = kiln_graph_type(graph, rows)->dims[0];
    int64_t starts[] = {0, number}, limits[] = {m, number + 1};
    return kiln_add_reshape(graph, kiln_legal_slice(graph, rows, starts, limits), 1, &m);
}

kiln_value kiln_packed_pack(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    int64_t bits = (int64_t)kiln_dtype_bits(dtype), k = 8 / bits;
    int64_t n = kiln_graph_type(graph, a)->n_elements, m = kiln_ceil_div(n, k), zero = 0;
    int64_t dims[] = {m, k}, missing = k * m - n;
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
    kiln_value whole = kiln_legal_with(graph, KILN_OP_and, column(graph, a, 0), mask_of(dtype));
    for (int64_t i = 1; i < k; i++) {
        kiln_value part = column(graph, a, i);
        if (i + 1 < k) part = kiln_legal_with(graph, KILN_OP_and, part, mask_of(dtype));
        part = kiln_legal_with(graph, KILN_OP_shift_left, part, (double)(i * bits));
        whole = kiln_add_binary(graph, KILN_OP_or, whole, part);
    }
    return whole;
}

/* Operations for which 8 bits mean something else than fewer: operand 0 as they need it. */
static kiln_value adapt_operand(kiln_graph *graph, kiln_op op, kiln_value a, kiln_dtype dtype)
{
    switch ((int)op) {
    case KILN_OP_popcnt:
    case KILN_OP_clz:
    case KILN_OP_shift_right_logical:
        return kiln_legal_with(graph, KILN_OP_and, a, mask_of(dtype));
    case KILN_OP_shift_right_arithmetic:
        return kiln_packed_wrap(graph, a, kiln_dtype_bits(dtype) == 2 ? KILN_i2 : KILN_i4);
    default:
        return a;
    }
}

static kiln_value adapt_result(kiln_graph *graph, const kiln_node *node, kiln_value a)
{
    kiln_dtype dtype = node->type->dtype;
    switch ((int)node->op) {
    case KILN_OP_clz:
        a = kiln_legal_with(graph, KILN_OP_sub, a, 8 - (double)kiln_dtype_bits(dtype));
        return kiln_packed_wrap(graph, a, dtype); /* the 2 zeros of an i2 are -2 */
    case KILN_OP_reduce_max: /* an empty range gives the least of 8 bits */
    case KILN_OP_reduce_min:
    case KILN_OP_window_max:
    case KILN_OP_window_min:
        return kiln_packed_clamp(graph, a, dtype);
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
        inputs[0] = adapt_operand(legal->target, (kiln_op)node->op, inputs[0],
                                  kiln_legal_operand(legal, node, 0)->dtype);
    kiln_dtype dtype = node->type->dtype;
    kiln_value a = kiln_legal_node(legal, node, inputs, kiln_legal_dtype(dtype));
    return kiln_dtype_is_packed(dtype) ? adapt_result(legal->target, node, a) : a;
}
