/* Composites of reductions: mean, variance, softmax. bf16 and f16 compute in f32. */
#include "graph/rules/rules.h"

kiln_value kiln_expand_mean(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_value y = kiln_rule_mean(graph, kiln_rule_widen(graph, inputs[0]), attrs->axes.axes);
    return kiln_rule_narrow(graph, y, kiln_graph_type(graph, inputs[0])->dtype);
}

/* Two passes (the mean first): no cancellation for data far from zero. */
kiln_value kiln_expand_variance(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                const kiln_attrs *attrs)
{
    kiln_ints axes = attrs->axes.axes;
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value mean = kiln_add_unreduce(graph, kiln_rule_mean(graph, a, axes), a, axes.n, axes.at);
    kiln_value distance = kiln_add_binary(graph, KILN_OP_sub, a, mean);
    kiln_value square = kiln_add_binary(graph, KILN_OP_mul, distance, distance);
    kiln_value y = kiln_rule_mean(graph, square, axes);
    return kiln_rule_narrow(graph, y, kiln_graph_type(graph, inputs[0])->dtype);
}

kiln_value kiln_expand_softmax(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                               const kiln_attrs *attrs)
{
    kiln_rule_check_axis(graph, "softmax", inputs[0], attrs->axis.axis);
    kiln_value y = kiln_rule_softmax(graph, kiln_rule_widen(graph, inputs[0]), attrs->axis.axis);
    return kiln_rule_narrow(graph, y, kiln_graph_type(graph, inputs[0])->dtype);
}

kiln_value kiln_expand_log_softmax(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                   const kiln_attrs *attrs)
{
    int64_t axis = attrs->axis.axis;
    kiln_rule_check_axis(graph, "log_softmax", inputs[0], axis);
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value top = kiln_add_reduce(graph, KILN_OP_reduce_max, a, 1, &axis);
    kiln_value low =
        kiln_add_binary(graph, KILN_OP_sub, a, kiln_add_unreduce(graph, top, a, 1, &axis));
    kiln_value power = kiln_add_unary(graph, KILN_OP_exp, low);
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, power, 1, &axis);
    kiln_value log = kiln_add_unreduce(graph, kiln_add_unary(graph, KILN_OP_log, sum), a, 1, &axis);
    kiln_value y = kiln_add_binary(graph, KILN_OP_sub, low, log);
    return kiln_rule_narrow(graph, y, kiln_graph_type(graph, inputs[0])->dtype);
}
