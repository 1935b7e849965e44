/* Short names for the steps of long elementwise formulas: sum(g, a, b) is a + b. For rules only. */
#ifndef KILN_GRAPH_RULES_TERMS_H
#define KILN_GRAPH_RULES_TERMS_H

#include "graph/rules/rules.h"

#define KILN_TERM_1(name, op)                                                                      \
    static inline kiln_value name(kiln_graph *g, kiln_value a)                                     \
    {                                                                                              \
        return kiln_add_unary(g, KILN_OP_##op, a);                                                 \
    }
#define KILN_TERM_2(name, op)                                                                      \
    static inline kiln_value name(kiln_graph *g, kiln_value a, kiln_value b)                       \
    {                                                                                              \
        return kiln_add_binary(g, KILN_OP_##op, a, b);                                             \
    }
/* The same with a number as second operand. */
#define KILN_TERM_N(name, op)                                                                      \
    static inline kiln_value name(kiln_graph *g, kiln_value a, double number)                      \
    {                                                                                              \
        return kiln_add_binary(g, KILN_OP_##op, a, kiln_add_splat_like(g, a, number));             \
    }

KILN_TERM_1(minus, neg)
KILN_TERM_1(size, abs)
KILN_TERM_1(root, sqrt)
KILN_TERM_1(power, exp)
KILN_TERM_1(natural, log)
KILN_TERM_1(whole, floor)
KILN_TERM_2(sum, add)
KILN_TERM_2(less, sub)
KILN_TERM_2(times, mul)
KILN_TERM_2(over, div)
KILN_TERM_2(mix, xor)
KILN_TERM_2(join, or)
KILN_TERM_N(plus_n, add)
KILN_TERM_N(times_n, mul)
KILN_TERM_N(over_n, div)
KILN_TERM_N(is_above, gt)
KILN_TERM_N(is_below, lt)
KILN_TERM_N(is_number, eq)
KILN_TERM_N(left_n, shift_left)
KILN_TERM_N(right_n, shift_right_logical)
KILN_TERM_N(mask_n, and)

static inline kiln_value number_less(kiln_graph *g, double number, kiln_value a)
{
    return kiln_add_binary(g, KILN_OP_sub, kiln_add_splat_like(g, a, number), a);
}

static inline kiln_value number_over(kiln_graph *g, double number, kiln_value a)
{
    return kiln_add_binary(g, KILN_OP_div, kiln_add_splat_like(g, a, number), a);
}

static inline kiln_value choose(kiln_graph *g, kiln_value condition, kiln_value yes, kiln_value no)
{
    kiln_value inputs[] = {condition, yes, no};
    return kiln_graph_add(g,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3});
}

static inline kiln_value choose_n(kiln_graph *g, kiln_value condition, double yes, kiln_value no)
{
    return choose(g, condition, kiln_add_splat_like(g, no, yes), no);
}

/* c[0] + a c[1] + … by Horner's scheme. */
static inline kiln_value polynomial(kiln_graph *g, kiln_value a, const double *c, uint32_t n)
{
    kiln_value y = kiln_add_splat_like(g, a, c[n - 1]);
    for (uint32_t i = n - 1; i-- > 0;) y = plus_n(g, times(g, y, a), c[i]);
    return y;
}

/* |value| with the sign of `like`; -0 keeps its sign, NaN of `like` gives NaN. */
static inline kiln_value with_sign(kiln_graph *g, kiln_value value, kiln_value like)
{
    kiln_value signed_value = choose(g, is_below(g, like, 0), minus(g, value), value);
    kiln_value is_odd = kiln_add_unary(
        g, KILN_OP_not, kiln_add_binary(g, KILN_OP_ne, like, kiln_add_splat_like(g, like, 0)));
    kiln_value is_nan = kiln_add_binary(g, KILN_OP_ne, like, like);
    return choose(g, join(g, is_odd, is_nan), like, signed_value);
}

/* f16, bf16 and f32 become f64: the steps then round far below the result's last place. */
static inline kiln_value widen_f64(kiln_graph *g, kiln_value a)
{
    return kiln_rule_narrow(g, a, KILN_f64);
}

static inline kiln_value narrow_like(kiln_graph *g, kiln_value a, kiln_value like)
{
    return kiln_rule_narrow(g, a, kiln_graph_type(g, like)->dtype);
}

#undef KILN_TERM_1
#undef KILN_TERM_2
#undef KILN_TERM_N
#endif
