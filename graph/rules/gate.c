/* Smooth gates: activations of one operand by the logistic function and its relatives, gated halves
 * (glu), and the sparse relative of softmax. bf16 and f16 compute in f32 and round once. */
#include <math.h>
#include <string.h>

#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

RULE(swish)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value gate = kiln_add_unary(g, KILN_OP_logistic, times_n(g, a, attrs->slope.slope));
    return narrow_like(g, times(g, a, gate), inputs[0]);
}

RULE(softplus_beta)
{
    kiln_value a = times_n(g, kiln_rule_widen(g, inputs[0]), attrs->slope.slope);
    kiln_value y = over_n(g, kiln_add_unary(g, KILN_OP_softplus, a), attrs->slope.slope);
    return narrow_like(g, y, inputs[0]);
}

/* -softplus(-a) */
RULE(log_sigmoid)
{
    kiln_value a = minus(g, kiln_rule_widen(g, inputs[0]));
    return narrow_like(g, minus(g, kiln_add_unary(g, KILN_OP_softplus, a)), inputs[0]);
}

RULE(softsign)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    return narrow_like(g, over(g, a, plus_n(g, size(g, a), 1)), inputs[0]);
}

RULE(tanh_shrink)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    return narrow_like(g, less(g, a, kiln_add_unary(g, KILN_OP_tanh, a)), inputs[0]);
}

/* (a + r) / 2 with r = sqrt(a^2 + b); below 0 b / (r - a) / 2, which does not cancel. Where a^2
 * would overflow the root is |a|. */
RULE(squareplus)
{
    double b = attrs->slope.slope;
    kiln_value a = kiln_rule_widen(g, inputs[0]), length = size(g, a);
    kiln_value is_large = is_above(g, length, 0x1p60);
    kiln_value bounded = choose_n(g, is_large, 1, a);
    kiln_value r = root(g, plus_n(g, times(g, bounded, bounded), b));
    r = choose(g, is_large, length, r);
    kiln_value upper = times_n(g, sum(g, a, r), 0.5);
    kiln_value lower = times_n(g, number_over(g, b, less(g, r, a)), 0.5);
    return narrow_like(g, choose(g, is_below(g, a, 0), lower, upper), inputs[0]);
}

/* Elements from … limit - 1 along one axis. */
static kiln_value cut(kiln_graph *g, kiln_value a, int64_t axis, const int64_t *range)
{
    const kiln_type *type = kiln_graph_type(g, a);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = type->dims[i];
        strides[i] = 1;
    }
    starts[axis] = range[0];
    limits[axis] = range[1];
    uint32_t n = type->rank;
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    return kiln_graph_add(g, &(kiln_node_spec){KILN_OP_slice, NULL, &a, 1, &attrs, NULL});
}

RULE(glu)
{
    int64_t axis = attrs->axis.axis;
    kiln_rule_check_axis(g, "glu", inputs[0], axis);
    int64_t dim = kiln_graph_type(g, inputs[0])->dims[axis];
    if (dim % 2) {
        kiln_fail(g->scope, KILN_INVALID, "glu: axis %lld of %s; expected an even dim",
                  (long long)axis, kiln_rule_type(g, inputs[0]));
    }
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value first = cut(g, a, axis, (int64_t[]){0, dim / 2});
    kiln_value gate =
        kiln_add_unary(g, KILN_OP_logistic, cut(g, a, axis, (int64_t[]){dim / 2, dim}));
    return narrow_like(g, times(g, first, gate), inputs[0]);
}

/* Martins and Astudillo, From Softmax to Sparsemax (2016): with z sorted downwards, the support are
 * the k for which 1 + k z_k > z_1 + … + z_k, and what is above their threshold stays. */
RULE(sparsemax)
{
    int64_t axis = attrs->axis.axis;
    kiln_rule_check_axis(g, "sparsemax", inputs[0], axis);
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    const kiln_type *type = kiln_graph_type(g, a);
    if (type->dims[axis] == 0) return inputs[0];
    kiln_value top = kiln_add_reduce(g, KILN_OP_reduce_max, a, 1, &axis);
    a = less(g, a, kiln_add_unreduce(g, top, a, 1, &axis));
    kiln_attrs sort = {KILN_FAMILY_sort, .sort = {axis, true}};
    kiln_value z = kiln_graph_add(g, &(kiln_node_spec){KILN_OP_sort, NULL, &a, 1, &sort, NULL});
    kiln_attrs up_to = {KILN_FAMILY_cumulative, .cumulative = {axis, false, false}};
    kiln_value sums =
        kiln_graph_add(g, &(kiln_node_spec){KILN_OP_cumulative_sum, NULL, &z, 1, &up_to, NULL});
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {axis}};
    kiln_value k = kiln_graph_add(g, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &along, NULL});
    k = plus_n(g, k, 1);
    kiln_value is_in = kiln_add_binary(g, KILN_OP_gt, plus_n(g, times(g, k, z), 1), sums);
    kiln_value zero = kiln_add_splat_like(g, a, 0);
    kiln_value count = choose(g, is_in, kiln_add_splat_like(g, a, 1), zero);
    count = kiln_add_reduce(g, KILN_OP_reduce_sum, count, 1, &axis);
    kiln_value total = kiln_add_reduce(g, KILN_OP_reduce_sum, choose(g, is_in, z, zero), 1, &axis);
    kiln_value least = over(g, plus_n(g, total, -1), count);
    kiln_value y = less(g, a, kiln_add_unreduce(g, least, a, 1, &axis));
    return narrow_like(g, kiln_add_binary(g, KILN_OP_max, y, zero), inputs[0]);
}
