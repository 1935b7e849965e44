/* Complex systems of equations as real ones of twice the size: x + y i stands as [[x, -y], [y, x]],
 * which adds and multiplies like it. Such a block of a lower triangular matrix is lower triangular
 * again where it is real, as on the diagonal of a Cholesky factor (so the real factor of the blocks
 * is the complex one in blocks) or of a triangular matrix whose rows have been divided by it. */
#include "passes/legalize.h"

static kiln_value stacked(kiln_graph *graph, kiln_value a, kiln_value b, uint32_t axis)
{
    kiln_value parts[] = {a, b};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_concat, NULL, parts, 2, &attrs, NULL});
}

/* [..., n, m] with new axes of 1 behind the last two: [..., n, 1, m, 1]; m alone where is_rows. */
static kiln_value spread(kiln_graph *graph, kiln_value a, bool is_rows)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t dims[KILN_MAX_RANK + 2];
    uint32_t n = type->rank, rank = 0;
    if (n + 2 > KILN_MAX_RANK)
        kiln_fail(graph->scope, KILN_LIMIT, "a complex system of rank %u; expected at most %d", n,
                  KILN_MAX_RANK - 2);
    for (uint32_t i = 0; i < n; i++) {
        dims[rank++] = type->dims[i];
        if (i + 2 == n || (i + 1 == n && !is_rows)) dims[rank++] = 1;
    }
    return kiln_add_reshape(graph, a, rank, dims);
}

/* [..., 2 n, 2 m] of blocks. */
static kiln_value to_blocks(kiln_graph *graph, kiln_parts a)
{
    const kiln_type *type = kiln_graph_type(graph, a.re);
    uint32_t rank = type->rank;
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) dims[i] = type->dims[i] * (i + 2 >= rank ? 2 : 1);
    kiln_value re = spread(graph, a.re, false), im = spread(graph, a.im, false);
    kiln_value minus = kiln_add_unary(graph, KILN_OP_neg, im);
    kiln_value upper = stacked(graph, re, minus, rank + 1),
               lower = stacked(graph, im, re, rank + 1);
    return kiln_add_reshape(graph, stacked(graph, upper, lower, rank - 1), rank, dims);
}

/* Every second row from `row` on, and every second column from 0 on where is_square. */
static kiln_value from_blocks(kiln_graph *graph, kiln_value a, int64_t row, bool is_square)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t starts[KILN_MAX_RANK] = {0}, strides[KILN_MAX_RANK];
    uint32_t n = type->rank;
    for (uint32_t i = 0; i < n; i++) strides[i] = i + 2 == n || (i + 1 == n && is_square) ? 2 : 1;
    starts[n - 2] = row;
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, type->dims}, {n, strides}}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_slice, NULL, &a, 1, &attrs, NULL});
}

/* true on the diagonal of the last two axes. */
static kiln_value is_diagonal(kiln_graph *graph, kiln_value like)
{
    const kiln_type *type = kiln_graph_type(graph, like);
    type = kiln_graph_tensor(graph, KILN_i32, type->rank, type->dims);
    kiln_value at[2];
    for (uint32_t i = 0; i < 2; i++) {
        kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {type->rank - 2 + i}};
        at[i] = kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &attrs, NULL});
    }
    return kiln_add_binary(graph, KILN_OP_eq, at[0], at[1]);
}

kiln_parts kiln_parts_cholesky(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    kiln_value zero = kiln_add_splat_like(graph, a.im, 0);
    a.im = kiln_legal_select(graph, is_diagonal(graph, a.im), zero, a.im);
    kiln_value blocks = to_blocks(graph, a);
    kiln_node_spec spec = {KILN_OP_cholesky, NULL, &blocks, 1, NULL, node->label};
    blocks = kiln_graph_add(graph, &spec);
    return (kiln_parts){from_blocks(graph, blocks, 0, true), from_blocks(graph, blocks, 1, true)};
}

/* The diagonal of a, [..., n, 1], along the columns of `like`, [..., n, m]. */
static kiln_value diagonal_along(kiln_graph *graph, kiln_value a, kiln_value like)
{
    const kiln_type *type = kiln_graph_type(graph, a), *wide = kiln_graph_type(graph, like);
    int64_t last = type->rank - 1, axes[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
    kiln_value own =
        kiln_legal_select(graph, is_diagonal(graph, a), a, kiln_add_splat_like(graph, a, 0));
    own = kiln_add_reduce(graph, KILN_OP_reduce_sum, own, 1, &last);
    return kiln_add_broadcast(graph, own, wide->rank, wide->dims, axes);
}

static kiln_parts divide_rows(kiln_graph *graph, kiln_parts a, kiln_parts diagonal_of)
{
    kiln_parts by = {diagonal_along(graph, diagonal_of.re, a.re),
                     diagonal_along(graph, diagonal_of.im, a.re)};
    return kiln_parts_rows[KILN_OP_div].binary(graph, a, by);
}

kiln_parts kiln_parts_forward_solve(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    kiln_parts b = kiln_legal_parts(legal, node->inputs[1]), scaled = a;
    if (!node->attrs->unit.unit_diagonal) {
        scaled = divide_rows(graph, a, a);
        b = divide_rows(graph, b, a);
    }
    const kiln_type *type = kiln_graph_type(graph, b.re);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++)
        dims[i] = type->dims[i] * (i + 2 == type->rank ? 2 : 1);
    kiln_value rows =
        stacked(graph, spread(graph, b.re, true), spread(graph, b.im, true), type->rank - 1);
    kiln_value pair[] = {to_blocks(graph, scaled), kiln_add_reshape(graph, rows, type->rank, dims)};
    kiln_attrs unit = {KILN_FAMILY_unit, .unit = {true}};
    kiln_node_spec spec = {KILN_OP_forward_solve, NULL, pair, 2, &unit, node->label};
    kiln_value x = kiln_graph_add(graph, &spec);
    return (kiln_parts){from_blocks(graph, x, 0, false), from_blocks(graph, x, 1, false)};
}
