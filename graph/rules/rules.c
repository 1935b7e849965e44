/* The table of composite rules, made from the COMPOSITE rows of ops.def (a row without a rule does
 * not link), and the few steps that several families share. */
#include "graph/element.h"
#include "graph/rules/rules.h"

#define KILN_OP(name, class_, n_inputs, types, result, attrs, meaning) KILN_RULE_##class_(name)
#define KILN_RULE_COMPOSITE(name) [KILN_OP_##name] = kiln_expand_##name,
kiln_expand_fn *const kiln_expand_rules[KILN_N_OPS] = {
#include "kiln/ops.def"
};
#undef KILN_OP

kiln_dtype kiln_rule_compute_dtype(kiln_dtype dtype)
{
    bool is_narrow = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) && kiln_dtype_bits(dtype) < 32;
    return is_narrow ? KILN_f32 : dtype;
}

kiln_value kiln_rule_narrow(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    return kiln_graph_type(graph, a)->dtype == dtype ? a : kiln_add_convert(graph, a, dtype);
}

kiln_value kiln_rule_widen(kiln_graph *graph, kiln_value a)
{
    return kiln_rule_narrow(graph, a, kiln_rule_compute_dtype(kiln_graph_type(graph, a)->dtype));
}

kiln_value kiln_rule_add_number(kiln_graph *graph, kiln_value a, double number)
{
    return kiln_add_binary(graph, KILN_OP_add, a, kiln_add_splat_like(graph, a, number));
}

kiln_value kiln_rule_mul_number(kiln_graph *graph, kiln_value a, double number)
{
    return kiln_add_binary(graph, KILN_OP_mul, a, kiln_add_splat_like(graph, a, number));
}

kiln_value kiln_rule_mean(kiln_graph *graph, kiln_value a, kiln_ints axes)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, a, axes.n, axes.at);
    double count = 1;
    for (uint32_t i = 0; i < axes.n; i++) count *= (double)type->dims[axes.at[i]];
    return kiln_add_binary(graph, KILN_OP_div, sum, kiln_add_splat_like(graph, sum, count));
}

kiln_value kiln_rule_softmax(kiln_graph *graph, kiln_value a, int64_t axis)
{
    kiln_value top = kiln_add_reduce(graph, KILN_OP_reduce_max, a, 1, &axis);
    kiln_value low =
        kiln_add_binary(graph, KILN_OP_sub, a, kiln_add_unreduce(graph, top, a, 1, &axis));
    kiln_value power = kiln_add_unary(graph, KILN_OP_exp, low);
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, power, 1, &axis);
    /* one division a row: dividing each element costs more than all the rest but exp */
    kiln_value share = kiln_add_binary(graph, KILN_OP_div, kiln_add_splat_like(graph, sum, 1), sum);
    return kiln_add_binary(graph, KILN_OP_mul, power, kiln_add_unreduce(graph, share, a, 1, &axis));
}

const char *kiln_rule_type(const kiln_graph *graph, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    kiln_text text = {.arena = &graph->scope->arena};
    kiln_text_type(&text, type->dtype, type->rank, type->dims);
    return kiln_text_string(&text);
}

void kiln_rule_check_axis(kiln_graph *graph, const char *op, kiln_value a, int64_t axis)
{
    uint32_t rank = kiln_graph_type(graph, a)->rank;
    if (axis < 0 || axis >= (int64_t)rank) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: axis is %lld for %s; expected 0 to rank - 1", op,
                  (long long)axis, kiln_rule_type(graph, a));
    }
}
