/* Triangular systems in every spelling, out of the one the routine knows: a lower matrix on the
 * left. An upper matrix is a lower one read from the end of both axes; on the right all is
 * transposed. */
#include "graph/rules/rules.h"

static kiln_value transposed(kiln_graph *graph, kiln_value a)
{
    uint32_t rank = kiln_graph_type(graph, a)->rank;
    int64_t order[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) order[i] = i;
    order[rank - 1] = rank - 2;
    order[rank - 2] = rank - 1;
    return kiln_add_transpose(graph, a, order);
}

static kiln_value reversed(kiln_graph *graph, kiln_value a, uint32_t n)
{
    uint32_t rank = kiln_graph_type(graph, a)->rank;
    int64_t axes[2] = {rank - 2, rank - 1};
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{n, axes}}};
    return kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_reverse, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

kiln_value kiln_expand_triangular_solve(kiln_graph *graph, const kiln_value *inputs,
                                        uint32_t n_inputs, const kiln_attrs *attrs)
{
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    if (type->rank < 2 || kiln_graph_type(graph, inputs[1])->rank != type->rank) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "triangular_solve: operands %s and %s; expected equal ranks from 2",
                  kiln_rule_type(graph, inputs[0]), kiln_rule_type(graph, inputs[1]));
    }
    bool is_left = attrs->triangular.left, is_lower = attrs->triangular.lower;
    kiln_value pair[2] = {inputs[0], is_left ? inputs[1] : transposed(graph, inputs[1])};
    if (attrs->triangular.transpose == is_left) {
        pair[0] = transposed(graph, pair[0]);
        is_lower = !is_lower;
    }
    if (!is_lower) {
        pair[0] = reversed(graph, pair[0], 2);
        pair[1] = reversed(graph, pair[1], 1);
    }
    kiln_attrs unit = {KILN_FAMILY_unit, .unit = {attrs->triangular.unit_diagonal}};
    kiln_value x = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_forward_solve, .inputs = pair, .n_inputs = 2, .attrs = &unit});
    if (!is_lower) x = reversed(graph, x, 1);
    return is_left ? x : transposed(graph, x);
}
