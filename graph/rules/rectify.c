/* Activations made of pieces: straight lines, shrinkage, exponential tails below zero. One operand
 * (prelu: a slope for every element); NaN stays NaN. */
#include <math.h>

#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

static kiln_value clamp_to(kiln_graph *g, kiln_value a, double low, double high)
{
    kiln_value inputs[] = {kiln_add_splat_like(g, a, low), a, kiln_add_splat_like(g, a, high)};
    return kiln_graph_add(g,
                          &(kiln_node_spec){.op = KILN_OP_clamp, .inputs = inputs, .n_inputs = 3});
}

RULE(relu6)
{
    return clamp_to(g, inputs[0], 0, 6);
}

RULE(hard_tanh)
{
    return clamp_to(g, inputs[0], attrs->range.low, attrs->range.high);
}

/* a <= number */
static kiln_value is_up_to(kiln_graph *g, kiln_value a, double number)
{
    return kiln_add_binary(g, KILN_OP_le, a, kiln_add_splat_like(g, a, number));
}

RULE(threshold)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value is_low = is_up_to(g, a, attrs->threshold.threshold);
    return narrow_like(g, choose_n(g, is_low, attrs->threshold.value, a), inputs[0]);
}

RULE(hard_shrink)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value is_small = is_up_to(g, size(g, a), attrs->slope.slope);
    return narrow_like(g, choose_n(g, is_small, 0, a), inputs[0]);
}

RULE(soft_shrink)
{
    double by = attrs->slope.slope;
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value moved = choose(g, is_above(g, a, 0), plus_n(g, a, -by), plus_n(g, a, by));
    return narrow_like(g, choose_n(g, is_up_to(g, size(g, a), by), 0, moved), inputs[0]);
}

RULE(sparse_plus)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]), b = plus_n(g, a, 1);
    kiln_value middle = times_n(g, times(g, b, b), 0.25);
    kiln_value y = choose(g, is_up_to(g, a, 1), middle, a);
    return narrow_like(g, choose_n(g, is_up_to(g, a, -1), 0, y), inputs[0]);
}

RULE(prelu)
{
    kiln_value a = kiln_rule_widen(g, inputs[0]), slope = kiln_rule_widen(g, inputs[1]);
    return narrow_like(g, choose(g, is_below(g, a, 0), times(g, a, slope), a), inputs[0]);
}

static kiln_value minus_one_power(kiln_graph *g, kiln_value a)
{
    return kiln_add_unary(g, KILN_OP_expm1, a);
}

/* Klambauer and others, Self-Normalizing Neural Networks (2017). */
RULE(selu)
{
    static const double alpha = 1.6732632423543772848170429916717;
    static const double scale = 1.0507009873554804934193349852946;
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value low = times_n(g, minus_one_power(g, a), alpha * scale);
    return narrow_like(g, choose(g, is_above(g, a, 0), times_n(g, a, scale), low), inputs[0]);
}

RULE(celu)
{
    double alpha = attrs->slope.slope;
    kiln_value a = kiln_rule_widen(g, inputs[0]);
    kiln_value low = times_n(g, minus_one_power(g, over_n(g, a, alpha)), alpha);
    return narrow_like(g, choose(g, is_above(g, a, 0), a, low), inputs[0]);
}
