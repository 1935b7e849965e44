/* Derivatives of triangular systems and of Cholesky's factor (Murray, Differentiation of the
 * Cholesky decomposition, 2016). Only the lower triangle of an operand is read, so only it has a
 * gradient. */
#include "graph/rules/derive.h"

/* Over the last two axes: a b^T where `axis` is the last, a^T b where it is the one before. */
static kiln_value multiply(kiln_graph *g, kiln_value a, kiln_value b, int64_t axis)
{
    const kiln_type *type = kiln_graph_type(g, a);
    int64_t batch[KILN_MAX_RANK];
    uint32_t n = type->rank - 2;
    for (uint32_t i = 0; i < n; i++) batch[i] = i;
    kiln_attrs attrs = {KILN_FAMILY_dot};
    attrs.dot.lhs_batch = attrs.dot.rhs_batch = (kiln_ints){n, batch};
    attrs.dot.lhs_contract = attrs.dot.rhs_contract = (kiln_ints){1, &axis};
    attrs.dot.accumulate = kiln_rule_compute_dtype(type->dtype);
    kiln_value inputs[2] = {a, b};
    return kiln_derive_node(g, KILN_OP_dot_general, 2, inputs, &attrs);
}

static kiln_value place(kiln_graph *g, kiln_value a, uint32_t from_end)
{
    const kiln_type *type = kiln_graph_type(g, a);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {type->rank - from_end}};
    const kiln_type *places = kiln_graph_tensor(g, KILN_i64, type->rank, type->dims);
    return kiln_graph_add(g, &(kiln_node_spec){KILN_OP_iota, places, NULL, 0, &attrs, NULL});
}

/* What is below the diagonal of `a`, `diagonal` on it, 0 above. */
static kiln_value lower(kiln_graph *g, kiln_value a, kiln_value diagonal)
{
    kiln_value row = place(g, a, 2), column = place(g, a, 1);
    kiln_value on = choose(g, kiln_add_binary(g, KILN_OP_eq, row, column), diagonal,
                           kiln_add_splat_like(g, a, 0));
    return choose(g, kiln_add_binary(g, KILN_OP_gt, row, column), a, on);
}

/* a^-T b, or b a^-1 from the right. */
static kiln_value solve(kiln_graph *g, kiln_value a, kiln_value b, bool is_left, bool is_unit)
{
    kiln_attrs attrs = {KILN_FAMILY_triangular, .triangular = {is_left, true, is_left, is_unit}};
    kiln_value inputs[2] = {a, b};
    return kiln_derive_node(g, KILN_OP_triangular_solve, 2, inputs, &attrs);
}

/* Of b: a^-T dx; of a: minus that times x^T. */
void kiln_derive_forward_solve(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    bool is_unit = d->node->attrs->unit.unit_diagonal;
    kiln_value db = solve(g, d->node->inputs[0], d->gradients[0], true, is_unit);
    if (d->is_wanted[1]) d->out[1] = db;
    if (!d->is_wanted[0]) return;
    kiln_value da = minus(g, multiply(g, db, d->result, d->node->type->rank - 1));
    d->out[0] = lower(g, da, is_unit ? kiln_derive_zeros(d, 0) : da);
}

/* L^-T P L^-1 with P the lower triangle of L^T dL, its diagonal halved; what the upper triangle
 * would get is the lower's. */
void kiln_derive_cholesky(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    uint32_t rank = d->node->type->rank;
    kiln_value p = multiply(g, d->result, d->gradients[0], rank - 2);
    p = lower(g, p, times_n(g, p, 0.5));
    kiln_value s = solve(g, d->result, solve(g, d->result, p, true, false), false, false);
    int64_t *order = kiln_derive_axes(d, rank);
    order[rank - 1] = rank - 2;
    order[rank - 2] = rank - 1;
    d->out[0] = lower(g, sum(g, s, kiln_add_transpose(g, s, order)), s);
}
