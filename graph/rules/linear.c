/* linear: a dense layer, a[..., k] * b[k, n] (+ c[n]), as one contraction and one addition. */
#include "graph/rules/rules.h"

kiln_value kiln_expand_linear(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                              const kiln_attrs *attrs)
{
    const kiln_type *a = kiln_graph_type(graph, inputs[0]), *b = kiln_graph_type(graph, inputs[1]);
    if (a->rank < 1 || b->rank != 2 || a->dtype != b->dtype || a->dims[a->rank - 1] != b->dims[0]) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "linear: operands are %s and %s; expected a[..., k] and b[k, n]",
                  kiln_rule_type(graph, inputs[0]), kiln_rule_type(graph, inputs[1]));
    }
    int64_t last = a->rank - 1, first = 0;
    kiln_attrs dot = {.family = KILN_FAMILY_dot};
    dot.dot.lhs_contract = (kiln_ints){1, &last};
    dot.dot.rhs_contract = (kiln_ints){1, &first};
    dot.dot.accumulate = kiln_rule_compute_dtype(a->dtype);
    kiln_node_spec spec = {
        .op = KILN_OP_dot_general, .inputs = inputs, .n_inputs = 2, .attrs = &dot};
    kiln_value y = kiln_graph_add(graph, &spec);
    if (n_inputs < 3) return y;

    const kiln_type *c = kiln_graph_type(graph, inputs[2]), *type = kiln_graph_type(graph, y);
    if (c->rank != 1 || c->dtype != type->dtype || c->dims[0] != b->dims[1]) {
        kiln_fail(graph->scope, KILN_INVALID, "linear: offset is %s; expected %s[%lld]",
                  kiln_rule_type(graph, inputs[2]), kiln_dtype_name(type->dtype),
                  (long long)b->dims[1]);
    }
    kiln_value offset = kiln_add_broadcast(graph, inputs[2], type->rank, type->dims, &last);
    return kiln_add_binary(graph, KILN_OP_add, y, offset);
}
