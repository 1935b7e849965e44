/* Norms over parts of the features: groups of them (one group: all features of an example; as many
 * as features: instance norm), and neighbours (local response norm, Krizhevsky 2012). */
#include "graph/element.h"
#include "graph/rules/terms.h"

/* A parameter of the features, in the compute dtype, along axis 1 of the operand's dims. */
static kiln_value feature_parameter(kiln_graph *g, kiln_value a, kiln_value p)
{
    static const int64_t axis = 1;
    const kiln_type *type = kiln_graph_type(g, a), *found = kiln_graph_type(g, p);
    bool is_float = kiln_dtype_in(found->dtype, KILN_TYPES_FLOAT);
    if (!is_float || found->rank != 1 || found->dims[0] != type->dims[1]) {
        kiln_fail(g->scope, KILN_INVALID, "group_norm: parameter is %s; expected dims [%lld]",
                  kiln_rule_type(g, p), (long long)type->dims[1]);
    }
    p = kiln_rule_narrow(g, p, type->dtype);
    return kiln_add_broadcast(g, p, type->rank, type->dims, &axis);
}

kiln_value kiln_expand_group_norm(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]);
    int64_t groups = attrs->group_norm.groups, last = 2;
    if (type->rank < 2 || groups < 1 || type->dims[1] % groups) {
        kiln_fail(g->scope, KILN_INVALID,
                  "group_norm: %lld groups of %s; expected a divisor of its second dim",
                  (long long)groups, kiln_rule_type(g, inputs[0]));
    }
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value scale = feature_parameter(g, a, inputs[1]);
    kiln_value offset = feature_parameter(g, a, inputs[2]);
    if (type->n_elements == 0) return inputs[0];
    int64_t rows[] = {type->dims[0], groups, type->n_elements / (type->dims[0] * groups)};
    kiln_value x = kiln_add_reshape(g, a, 3, rows);
    kiln_ints axes = {1, &last};
    kiln_value distance = less(g, x, kiln_add_unreduce(g, kiln_rule_mean(g, x, axes), x, 1, &last));
    kiln_value variance = kiln_rule_mean(g, times(g, distance, distance), axes);
    kiln_value r = kiln_add_unary(g, KILN_OP_rsqrt, plus_n(g, variance, attrs->group_norm.epsilon));
    kiln_value y = times(g, distance, kiln_add_unreduce(g, r, x, 1, &last));
    y = kiln_add_reshape(g, y, type->rank, type->dims);
    return narrow_like(g, sum(g, times(g, y, scale), offset), inputs[0]);
}

kiln_value kiln_expand_local_norm(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]);
    int64_t axis = attrs->local_norm.axis, before = attrs->local_norm.before;
    int64_t after = attrs->local_norm.after, most = 1 << 20;
    kiln_rule_check_axis(g, "local_norm", inputs[0], axis);
    if (before < 0 || after < 0 || before > most || after > most) {
        kiln_fail(g->scope, KILN_INVALID,
                  "local_norm: %lld before and %lld after; expected 0 to %lld", (long long)before,
                  (long long)after, (long long)most);
    }
    int64_t ones[KILN_MAX_RANK], sizes[KILN_MAX_RANK], low[KILN_MAX_RANK] = {0},
                                                       high[KILN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < type->rank; i++) ones[i] = sizes[i] = 1;
    sizes[axis] = before + after + 1;
    low[axis] = before;
    high[axis] = after;
    uint32_t n = type->rank;
    kiln_attrs window = {KILN_FAMILY_window,
                         .window = {{n, sizes}, {n, ones}, {n, low}, {n, high}, {n, ones}}};
    kiln_value a = kiln_rule_widen(g, inputs[0]), square = times(g, a, a);
    kiln_value total =
        kiln_graph_add(g, &(kiln_node_spec){KILN_OP_window_sum, NULL, &square, 1, &window, NULL});
    total = plus_n(g, times_n(g, total, attrs->local_norm.alpha), attrs->local_norm.bias);
    kiln_value beta = kiln_add_splat_like(g, total, attrs->local_norm.beta);
    return narrow_like(g, over(g, a, kiln_add_binary(g, KILN_OP_pow, total, beta)), inputs[0]);
}
