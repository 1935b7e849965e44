/* Roots, inverse trigonometric and hyperbolic functions, in f64 for narrower types. Signs are put
 * back at the end, so odd functions are odd to the bit and keep -0. */
#include <math.h>

#include "graph/element.h"
#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

/* e^(log |a| / 3) and one step of Newton's method; 0 and infinity are their own roots. Small
 * numbers grow first, so that y^3 is not denormal. */
RULE(cbrt)
{
    if (kiln_dtype_in(kiln_graph_type(g, inputs[0])->dtype, KILN_TYPES_COMPLEX)) {
        kiln_value root = power(g, over_n(g, natural(g, inputs[0]), 3));
        return choose(g, is_number(g, inputs[0], 0), inputs[0], root);
    }
    kiln_value a = widen_f64(g, inputs[0]), small = is_below(g, size(g, a), 0x1p-900);
    kiln_value b = choose(g, small, times_n(g, size(g, a), 0x1p162), size(g, a));
    kiln_value y = power(g, over_n(g, natural(g, b), 3)), square = times(g, y, y);
    kiln_value excess = less(g, times(g, square, y), b);
    kiln_value better = less(g, y, over(g, excess, times_n(g, square, 3)));
    kiln_value is_plain =
        kiln_add_binary(g, KILN_OP_and, is_above(g, b, 0), is_below(g, b, INFINITY));
    better = choose(g, is_plain, better, b);
    better = choose(g, small, times_n(g, better, 0x1p-54), better);
    return narrow_like(g, with_sign(g, better, a), inputs[0]);
}

/* The other side of the triangle with hypotenuse 1. */
static kiln_value other_side(kiln_graph *g, kiln_value a)
{
    return root(g, times(g, number_less(g, 1, a), plus_n(g, a, 1)));
}

RULE(asin)
{
    kiln_value a = widen_f64(g, inputs[0]);
    return narrow_like(g, kiln_add_binary(g, KILN_OP_atan2, a, other_side(g, a)), inputs[0]);
}

RULE(acos)
{
    kiln_value a = widen_f64(g, inputs[0]);
    return narrow_like(g, kiln_add_binary(g, KILN_OP_atan2, other_side(g, a), a), inputs[0]);
}

/* e^b / 2 without overflow below the result's. */
static kiln_value half_power(kiln_graph *g, kiln_value b)
{
    kiln_value half = power(g, times_n(g, b, 0.5));
    return times(g, times_n(g, half, 0.5), half);
}

/* (e + e / (e + 1)) / 2 with e = expm1 b */
RULE(sinh)
{
    kiln_value a = widen_f64(g, inputs[0]), b = size(g, a);
    kiln_value e = kiln_add_unary(g, KILN_OP_expm1, b);
    kiln_value near = times_n(g, sum(g, e, over(g, e, plus_n(g, e, 1))), 0.5);
    kiln_value y = choose(g, is_above(g, b, 22), half_power(g, b), near);
    return narrow_like(g, with_sign(g, y, a), inputs[0]);
}

RULE(cosh)
{
    kiln_value b = size(g, widen_f64(g, inputs[0])), e = power(g, b);
    kiln_value near = times_n(g, sum(g, e, number_over(g, 1, e)), 0.5);
    return narrow_like(g, choose(g, is_above(g, b, 22), half_power(g, b), near), inputs[0]);
}

static kiln_value log_1p(kiln_graph *g, kiln_value a)
{
    return kiln_add_unary(g, KILN_OP_log1p, a);
}

/* log1p(b + b^2 / (1 + sqrt(b^2 + 1))); log b + log 2 where b^2 would overflow */
RULE(asinh)
{
    kiln_value a = widen_f64(g, inputs[0]), b = size(g, a), square = times(g, b, b);
    kiln_value part = over(g, square, plus_n(g, root(g, plus_n(g, square, 1)), 1));
    kiln_value far = plus_n(g, natural(g, b), M_LN2);
    kiln_value y = choose(g, is_above(g, b, 1e9), far, log_1p(g, sum(g, b, part)));
    return narrow_like(g, with_sign(g, y, a), inputs[0]);
}

/* log1p(t + sqrt(t (t + 2))) with t = a - 1 */
RULE(acosh)
{
    kiln_value a = widen_f64(g, inputs[0]), t = plus_n(g, a, -1);
    kiln_value near = log_1p(g, sum(g, t, root(g, times(g, t, plus_n(g, t, 2)))));
    kiln_value far = plus_n(g, natural(g, a), M_LN2);
    kiln_value y = choose(g, is_above(g, a, 1e9), far, near);
    return narrow_like(g, choose_n(g, is_below(g, a, 1), NAN, y), inputs[0]);
}

/* log1p(2 b / (1 - b)) / 2 */
RULE(atanh)
{
    kiln_value a = widen_f64(g, inputs[0]), b = size(g, a);
    kiln_value y = log_1p(g, over(g, times_n(g, b, 2), number_less(g, 1, b)));
    return narrow_like(g, with_sign(g, times_n(g, y, 0.5), a), inputs[0]);
}
