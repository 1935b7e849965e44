/* Nodes with complex operands or results over pairs of real values: moves and sums part by part,
 * products of reductions and contractions by the formula of one product, the rest by the rows of
 * legalize_complex.c. */
#include <string.h>

#include "base/checked.h"
#include "graph/describe.h"
#include "passes/legalize.h"

static bool is_complex(const kiln_type *type)
{
    return kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX);
}

kiln_parts kiln_legal_parts(const kiln_legal *legal, kiln_value source)
{
    return (kiln_parts){legal->values[source.id], legal->imaginary[source.id]};
}

/* The node over one part of its complex operands. */
static kiln_value part_node(kiln_legal *legal, const kiln_node *node, bool is_imaginary)
{
    kiln_value *inputs = kiln_new_array(&legal->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_parts parts = kiln_legal_parts(legal, node->inputs[i]);
        bool takes_im = is_imaginary && is_complex(kiln_legal_operand(legal, node, i));
        inputs[i] = takes_im ? parts.im : parts.re;
    }
    return kiln_legal_node(legal, node, inputs, kiln_dtype_part(node->type->dtype));
}

static kiln_parts each_part(kiln_legal *legal, const kiln_node *node)
{
    kiln_value re = part_node(legal, node, false);
    return (kiln_parts){re, part_node(legal, node, true)};
}

/* (a + b i)(c + d i), with the products by the node itself. */
static kiln_parts contract(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    kiln_parts b = kiln_legal_parts(legal, node->inputs[1]);
    kiln_value pairs[4][2] = {{a.re, b.re}, {a.im, b.im}, {a.re, b.im}, {a.im, b.re}};
    kiln_value products[4];
    for (int i = 0; i < 4; i++)
        products[i] = kiln_legal_node(legal, node, pairs[i], kiln_dtype_part(node->type->dtype));
    kiln_value re = kiln_add_binary(graph, KILN_OP_sub, products[0], products[1]);
    return (kiln_parts){re, kiln_add_binary(graph, KILN_OP_add, products[2], products[3])};
}

/* Columns from … from + n - 1 of [rows, columns]. */
static kiln_value columns(kiln_graph *graph, kiln_value a, int64_t from, int64_t n)
{
    int64_t starts[] = {0, from}, limits[] = {kiln_graph_type(graph, a)->dims[0], from + n};
    return kiln_legal_slice(graph, a, starts, limits);
}

/* One more column, of `value`. */
static kiln_value pad_column(kiln_graph *graph, kiln_value a, double value)
{
    int64_t zeros[] = {0, 0}, high[] = {0, 1};
    kiln_ints none = {2, zeros}, behind = {2, high};
    kiln_attrs attrs = {KILN_FAMILY_pad, .pad = {none, behind, none}};
    kiln_dtype dtype = kiln_graph_type(graph, a)->dtype;
    kiln_value inputs[] = {a, kiln_add_splat(graph, dtype, 0, NULL, value)};
    kiln_node_spec spec = {KILN_OP_pad, NULL, inputs, 2, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

/* The reduced axes last and joined: [rows, columns]. */
static kiln_value as_rows(kiln_graph *graph, kiln_value a, kiln_ints axes, const int64_t *dims)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t permutation[KILN_MAX_RANK];
    uint32_t n = 0, dropped = 0;
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        bool is_dropped = dropped < axes.n && axes.at[dropped] == (int64_t)axis;
        if (is_dropped)
            dropped++;
        else
            permutation[n++] = axis;
    }
    for (uint32_t i = 0; i < axes.n; i++) permutation[n++] = axes.at[i];
    return kiln_add_reshape(graph, kiln_add_transpose(graph, a, permutation), 2, dims);
}

/* Products by halves: columns i and i + n / 2 are multiplied until one is left. */
static kiln_parts product(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    const kiln_type *from = kiln_legal_operand(legal, node, 0), *type = node->type;
    kiln_ints axes = node->attrs->axes.axes;
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    int64_t dims[] = {type->n_elements, 1};
    for (uint32_t i = 0; i < axes.n; i++) dims[1] *= from->dims[axes.at[i]];
    a = (kiln_parts){as_rows(graph, a.re, axes, dims), as_rows(graph, a.im, axes, dims)};
    for (int64_t n = dims[1]; n != 1; n = kiln_ceil_div(n, 2)) {
        if (n % 2 || n == 0) {
            a.re = pad_column(graph, a.re, 1);
            a.im = pad_column(graph, a.im, 0);
        }
        if (n == 0) break;
        int64_t half = kiln_ceil_div(n, 2);
        kiln_parts low = {columns(graph, a.re, 0, half), columns(graph, a.im, 0, half)};
        kiln_parts high = {columns(graph, a.re, half, half), columns(graph, a.im, half, half)};
        a = kiln_parts_rows[KILN_OP_mul].binary(graph, low, high);
    }
    a.re = kiln_add_reshape(graph, a.re, type->rank, type->dims);
    a.im = kiln_add_reshape(graph, a.im, type->rank, type->dims);
    return a;
}

static kiln_parts convert(kiln_legal *legal, const kiln_node *node)
{
    kiln_graph *graph = legal->target;
    kiln_dtype to = node->type->dtype, part = kiln_dtype_part(to);
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    bool is_from_complex = is_complex(kiln_legal_operand(legal, node, 0));
    if (to == KILN_bool) {
        kiln_value zero = kiln_add_splat_like(graph, a.re, 0);
        return kiln_parts_rows[KILN_OP_ne].binary(graph, a, (kiln_parts){zero, zero});
    }
    kiln_dtype from = kiln_dtype_part(kiln_legal_operand(legal, node, 0)->dtype);
    kiln_value re = kiln_legal_number(graph, a.re, from, part);
    if (!is_complex(node->type)) return (kiln_parts){.re = re};
    kiln_value im = is_from_complex ? kiln_legal_number(graph, a.im, from, part)
                                    : kiln_add_splat_like(graph, re, 0);
    return (kiln_parts){re, im};
}

/* min(max(a, b), c) */
static kiln_parts clamp(kiln_legal *legal, const kiln_node *node)
{
    kiln_parts in[3];
    for (uint32_t i = 0; i < 3; i++) in[i] = kiln_legal_parts(legal, node->inputs[i]);
    in[1] = kiln_parts_rows[KILN_OP_max].binary(legal->target, in[0], in[1]);
    return kiln_parts_rows[KILN_OP_min].binary(legal->target, in[1], in[2]);
}

static bool is_part_wise(const kiln_node *node)
{
    return node->op == KILN_OP_reduce_sum || node->op == KILN_OP_scatter ||
           node->op == KILN_OP_scatter_add || kiln_legal_is_move(node);
}

kiln_parts kiln_legal_complex_node(kiln_legal *legal, const kiln_node *node)
{
    const kiln_parts_row *row = &kiln_parts_rows[node->op];
    if (node->op == KILN_OP_convert) return convert(legal, node);
    if (node->op == KILN_OP_reduce_prod) return product(legal, node);
    if (kiln_node_row(node)->class_ == KILN_CONTRACT) return contract(legal, node);
    if (node->op == KILN_OP_clamp) return clamp(legal, node);
    if (node->op == KILN_OP_cholesky) return kiln_parts_cholesky(legal, node);
    if (node->op == KILN_OP_forward_solve) return kiln_parts_forward_solve(legal, node);
    if (is_part_wise(node)) return each_part(legal, node);
    kiln_parts a = kiln_legal_parts(legal, node->inputs[0]);
    if (row->unary) return row->unary(legal->target, a);
    if (row->binary) return row->binary(legal->target, a, kiln_legal_parts(legal, node->inputs[1]));
    kiln_fail(legal->pipeline->scope, KILN_UNSUPPORTED,
              "%s of %s: does not compile for complex dtypes; expected real ones",
              kiln_node_row(node)->name,
              kiln_type_string(&legal->pipeline->scope->arena, kiln_legal_operand(legal, node, 0)));
}

/* Ports: [dims, 2] */

kiln_parts kiln_parts_split(kiln_graph *graph, kiln_value port)
{
    const kiln_type *type = kiln_graph_type(graph, port);
    uint32_t last = type->rank - 1;
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK];
    memcpy(limits, type->dims, type->rank * sizeof *limits);
    limits[last] = 1;
    kiln_value re = kiln_legal_slice(graph, port, starts, limits);
    starts[last] = 1;
    limits[last] = 2;
    kiln_value im = kiln_legal_slice(graph, port, starts, limits);
    re = kiln_add_reshape(graph, re, last, type->dims);
    return (kiln_parts){re, kiln_add_reshape(graph, im, last, type->dims)};
}

kiln_value kiln_parts_join(kiln_graph *graph, kiln_parts parts)
{
    const kiln_type *type = kiln_graph_type(graph, parts.re);
    int64_t dims[KILN_MAX_RANK] = {0};
    if (type->rank == KILN_MAX_RANK) {
        kiln_fail(graph->scope, KILN_LIMIT, "a complex value of rank %d; expected at most %d",
                  KILN_MAX_RANK, KILN_MAX_RANK - 1);
    }
    memcpy(dims, type->dims, type->rank * sizeof *dims);
    dims[type->rank] = 1;
    kiln_value inputs[] = {kiln_add_reshape(graph, parts.re, type->rank + 1, dims),
                           kiln_add_reshape(graph, parts.im, type->rank + 1, dims)};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {type->rank}};
    kiln_node_spec spec = {KILN_OP_concat, NULL, inputs, 2, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}
