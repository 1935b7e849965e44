/* Activations: one operand, its shape and dtype. bf16 and f16 compute in f32 and round once at the
 * end. Spelled so that no intermediate overflows where the result does not. */
#include <math.h>

#include "graph/rules/rules.h"

static kiln_dtype dtype_of(const kiln_graph *graph, kiln_value a)
{
    return kiln_graph_type(graph, a)->dtype;
}

static kiln_value select_value(kiln_graph *graph, kiln_value condition, kiln_value yes,
                               kiln_value no)
{
    kiln_value inputs[] = {condition, yes, no};
    kiln_node_spec spec = {.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3};
    return kiln_graph_add(graph, &spec);
}

static kiln_value clamp_unit(kiln_graph *graph, kiln_value a)
{
    kiln_value inputs[] = {kiln_add_splat_like(graph, a, 0), a, kiln_add_splat_like(graph, a, 1)};
    kiln_node_spec spec = {.op = KILN_OP_clamp, .inputs = inputs, .n_inputs = 3};
    return kiln_graph_add(graph, &spec);
}

kiln_value kiln_expand_square(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                              const kiln_attrs *attrs)
{
    return kiln_add_binary(graph, KILN_OP_mul, inputs[0], inputs[0]);
}

kiln_value kiln_expand_reciprocal(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    return kiln_add_binary(graph, KILN_OP_div, kiln_add_splat_like(graph, inputs[0], 1), inputs[0]);
}

kiln_value kiln_expand_conj(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_value re = kiln_add_unary(graph, KILN_OP_real, inputs[0]);
    kiln_value im = kiln_add_unary(graph, KILN_OP_imag, inputs[0]);
    im = kiln_add_unary(graph, KILN_OP_neg, im);
    return kiln_add_binary(graph, KILN_OP_complex, re, im);
}

kiln_value kiln_expand_relu(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    return kiln_add_binary(graph, KILN_OP_max, inputs[0], kiln_add_splat_like(graph, inputs[0], 0));
}

kiln_value kiln_expand_leaky_relu(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value is_up = kiln_add_binary(graph, KILN_OP_ge, a, kiln_add_splat_like(graph, a, 0));
    kiln_value down = kiln_rule_mul_number(graph, a, attrs->slope.slope);
    return kiln_rule_narrow(graph, select_value(graph, is_up, a, down), dtype_of(graph, inputs[0]));
}

kiln_value kiln_expand_elu(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                           const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value is_up = kiln_add_binary(graph, KILN_OP_gt, a, kiln_add_splat_like(graph, a, 0));
    kiln_value down = kiln_add_unary(graph, KILN_OP_expm1, a);
    down = kiln_rule_mul_number(graph, down, attrs->slope.slope);
    return kiln_rule_narrow(graph, select_value(graph, is_up, a, down), dtype_of(graph, inputs[0]));
}

/* Phi(a) as (1 + erf(a / sqrt 2)) / 2. */
static kiln_value gelu_erf(kiln_graph *graph, kiln_value a)
{
    kiln_value t = kiln_add_unary(graph, KILN_OP_erf, kiln_rule_mul_number(graph, a, M_SQRT1_2));
    return kiln_rule_mul_number(graph, kiln_rule_add_number(graph, t, 1), 0.5);
}

/* Phi(a) as (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) / 2 (Hendrycks and Gimpel, 2016), with the
 * cube taken as a (1 + c a^2): no cancellation, and infinite a stays infinite instead of NaN. */
static kiln_value gelu_tanh(kiln_graph *graph, kiln_value a)
{
    kiln_value square = kiln_add_binary(graph, KILN_OP_mul, a, a);
    kiln_value stretch =
        kiln_rule_add_number(graph, kiln_rule_mul_number(graph, square, 0.044715), 1);
    kiln_value inner = kiln_add_binary(graph, KILN_OP_mul, a, stretch);
    inner = kiln_rule_mul_number(graph, inner, 0.79788456080286535588);
    kiln_value t = kiln_add_unary(graph, KILN_OP_tanh, inner);
    return kiln_rule_mul_number(graph, kiln_rule_add_number(graph, t, 1), 0.5);
}

kiln_value kiln_expand_gelu(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value phi = attrs->gelu.tanh ? gelu_tanh(graph, a) : gelu_erf(graph, a);
    kiln_value y = kiln_add_binary(graph, KILN_OP_mul, a, phi);
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}

kiln_value kiln_expand_silu(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value y =
        kiln_add_binary(graph, KILN_OP_mul, a, kiln_add_unary(graph, KILN_OP_logistic, a));
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}

/* max(a, 0) + log1p(e^-|a|): the exponential never overflows. */
static kiln_value softplus_of(kiln_graph *graph, kiln_value a)
{
    kiln_value size = kiln_add_unary(graph, KILN_OP_abs, a);
    kiln_value power = kiln_add_unary(graph, KILN_OP_exp, kiln_add_unary(graph, KILN_OP_neg, size));
    kiln_value top = kiln_add_binary(graph, KILN_OP_max, a, kiln_add_splat_like(graph, a, 0));
    return kiln_add_binary(graph, KILN_OP_add, top, kiln_add_unary(graph, KILN_OP_log1p, power));
}

kiln_value kiln_expand_softplus(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                const kiln_attrs *attrs)
{
    kiln_value y = softplus_of(graph, kiln_rule_widen(graph, inputs[0]));
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}

kiln_value kiln_expand_mish(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                            const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value t = kiln_add_unary(graph, KILN_OP_tanh, softplus_of(graph, a));
    kiln_value y = kiln_add_binary(graph, KILN_OP_mul, a, t);
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}

kiln_value kiln_expand_hard_sigmoid(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                    const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value line = kiln_rule_mul_number(graph, a, attrs->affine.scale);
    kiln_value y = clamp_unit(graph, kiln_rule_add_number(graph, line, attrs->affine.offset));
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}

kiln_value kiln_expand_hard_swish(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value line = kiln_rule_add_number(graph, kiln_rule_mul_number(graph, a, 1.0 / 6), 0.5);
    kiln_value y = kiln_add_binary(graph, KILN_OP_mul, a, clamp_unit(graph, line));
    return kiln_rule_narrow(graph, y, dtype_of(graph, inputs[0]));
}
