/* Derivatives of elementwise operations: a and b are the operands, y the result, dy its gradient.
 * Steps have slope 0 where they are flat, and at a kink the gradient is one of those beside it or,
 * for the two operands of max and min, half for each. */
#include <math.h>

#include "graph/rules/derive.h"

#define ONE(op, slope)                                                                             \
    void kiln_derive_##op(kiln_derivation *d)                                                      \
    {                                                                                              \
        kiln_graph *g = d->graph;                                                                  \
        kiln_value a = d->node->inputs[0], y = d->result, dy = d->gradients[0];                    \
        (void)g, (void)a, (void)y;                                                                 \
        d->out[0] = slope;                                                                         \
    }
#define TWO(op, slope_a, slope_b)                                                                  \
    void kiln_derive_##op(kiln_derivation *d)                                                      \
    {                                                                                              \
        kiln_graph *g = d->graph;                                                                  \
        kiln_value a = d->node->inputs[0], b = d->node->inputs[1];                                 \
        kiln_value y = d->result, dy = d->gradients[0];                                            \
        (void)g, (void)a, (void)b, (void)y, (void)dy;                                              \
        if (d->is_wanted[0]) d->out[0] = slope_a;                                                  \
        if (d->is_wanted[1]) d->out[1] = slope_b;                                                  \
    }

static kiln_value sign(kiln_graph *g, kiln_value a)
{
    return kiln_add_unary(g, KILN_OP_sign, a);
}

static kiln_value rsqrt(kiln_graph *g, kiln_value a)
{
    return kiln_add_unary(g, KILN_OP_rsqrt, a);
}

static kiln_value squared(kiln_graph *g, kiln_value a)
{
    return times(g, a, a);
}

/* 1 - a^2 without cancellation near 1 */
static kiln_value one_less_square(kiln_graph *g, kiln_value a)
{
    return times(g, number_less(g, 1, a), plus_n(g, a, 1));
}

/* e^-(a^2) */
static kiln_value bell(kiln_graph *g, kiln_value a)
{
    return power(g, minus(g, squared(g, a)));
}

ONE(neg, minus(g, dy))
ONE(abs, times(g, dy, sign(g, a)))
ONE(exp, times(g, dy, y))
ONE(expm1, times(g, dy, plus_n(g, y, 1)))
ONE(log, over(g, dy, a))
ONE(log1p, over(g, dy, plus_n(g, a, 1)))
ONE(sqrt, over(g, times_n(g, dy, 0.5), y))
ONE(rsqrt, times(g, times_n(g, dy, -0.5), over(g, y, a)))
ONE(sin, times(g, dy, kiln_add_unary(g, KILN_OP_cos, a)))
ONE(cos, minus(g, times(g, dy, kiln_add_unary(g, KILN_OP_sin, a))))
ONE(tan, times(g, dy, plus_n(g, squared(g, y), 1)))
ONE(atan, over(g, dy, plus_n(g, squared(g, a), 1)))
ONE(tanh, times(g, dy, one_less_square(g, y)))
ONE(erf, times(g, dy, times_n(g, bell(g, a), M_2_SQRTPI)))
ONE(logistic, times(g, dy, times(g, y, number_less(g, 1, y))))
ONE(convert, kiln_add_convert(g, dy, kiln_graph_type(g, a)->dtype))
ONE(barrier, dy)

TWO(add, dy, dy)
TWO(sub, dy, minus(g, dy))
TWO(mul, times(g, dy, b), times(g, dy, a))
TWO(div, over(g, dy, b), minus(g, times(g, dy, over(g, y, b))))
TWO(rem, dy, minus(g, times(g, dy, kiln_add_unary(g, KILN_OP_trunc, over(g, a, b)))))

/* dy where `is_chosen`, half of it where a and b are equal, else 0 */
static kiln_value shared(kiln_derivation *d, kiln_op is_chosen)
{
    kiln_graph *g = d->graph;
    kiln_value a = d->node->inputs[0], b = d->node->inputs[1], dy = d->gradients[0];
    kiln_value half = times_n(g, dy, 0.5), zero = kiln_add_splat_like(g, dy, 0);
    kiln_value rest = choose(g, kiln_add_binary(g, KILN_OP_eq, a, b), half, zero);
    return choose(g, kiln_add_binary(g, is_chosen, a, b), dy, rest);
}

TWO(max, shared(d, KILN_OP_gt), shared(d, KILN_OP_lt))
TWO(min, shared(d, KILN_OP_lt), shared(d, KILN_OP_gt))

/* b a^(b - 1), and 0 for b = 0, also where a is 0 */
static kiln_value power_base(kiln_graph *g, kiln_value a, kiln_value b)
{
    kiln_value lower = kiln_add_binary(g, KILN_OP_pow, a, plus_n(g, b, -1));
    return choose_n(g, is_number(g, b, 0), 0, times(g, b, lower));
}

/* y log a, and 0 for a = 0, where y is 0 or 1 */
static kiln_value power_exponent(kiln_graph *g, kiln_value a, kiln_value b, kiln_value y)
{
    kiln_value is_flat =
        kiln_add_binary(g, KILN_OP_and, is_number(g, a, 0),
                        kiln_add_binary(g, KILN_OP_ge, b, kiln_add_splat_like(g, b, 0)));
    return choose_n(g, is_flat, 0, times(g, y, natural(g, a)));
}

TWO(pow, times(g, dy, power_base(g, a, b)), times(g, dy, power_exponent(g, a, b, y)))

static kiln_value radius(kiln_graph *g, kiln_value a, kiln_value b)
{
    return sum(g, squared(g, a), squared(g, b));
}

TWO(atan2, times(g, dy, over(g, b, radius(g, a, b))),
    minus(g, times(g, dy, over(g, a, radius(g, a, b)))))

void kiln_derive_select(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value condition = d->node->inputs[0], dy = d->gradients[0];
    kiln_value zero = kiln_add_splat_like(g, dy, 0);
    if (d->is_wanted[1]) d->out[1] = choose(g, condition, dy, zero);
    if (d->is_wanted[2]) d->out[2] = choose(g, condition, zero, dy);
}

/* The value gets it strictly inside, a bound where it is the result. */
void kiln_derive_clamp(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value low = d->node->inputs[0], a = d->node->inputs[1], high = d->node->inputs[2];
    kiln_value dy = d->gradients[0], zero = kiln_add_splat_like(g, dy, 0);
    kiln_value floor = kiln_add_binary(g, KILN_OP_max, a, low);
    kiln_value is_below_high = kiln_add_binary(g, KILN_OP_lt, floor, high);
    kiln_value at_low = kiln_add_binary(g, KILN_OP_le, a, low);
    kiln_value at_high = kiln_add_binary(g, KILN_OP_ge, floor, high);
    kiln_value below = choose(g, is_below_high, dy, zero);
    if (d->is_wanted[0]) d->out[0] = choose(g, at_low, below, zero);
    if (d->is_wanted[1]) d->out[1] = choose(g, at_low, zero, below);
    if (d->is_wanted[2]) d->out[2] = choose(g, at_high, dy, zero);
}

/* Composites of one operand whose expansion has another slope at a kink, overflows beside a
 * `select`, or works on bits. Like their expansions they compute in f32 for narrower types. */
#define WIDE(op, slope)                                                                            \
    void kiln_derive_##op(kiln_derivation *d)                                                      \
    {                                                                                              \
        kiln_graph *g = d->graph;                                                                  \
        kiln_value a = kiln_rule_widen(g, d->node->inputs[0]), y = kiln_rule_widen(g, d->result);  \
        kiln_value dy = kiln_rule_widen(g, d->gradients[0]);                                       \
        (void)g, (void)a, (void)y;                                                                 \
        d->out[0] = narrow_like(g, slope, d->result);                                              \
    }

static kiln_value above_zero(kiln_graph *g, kiln_value a, kiln_value yes, kiln_value no)
{
    return choose(g, is_above(g, a, 0), yes, no);
}

#define SHIFT 8 /* the asymptotic series is taken at x + 8 */

/* The second derivative of log Gamma, at x >= 1/2. */
static kiln_value trigamma_upper(kiln_graph *g, kiln_value x)
{
    static const double series[] = {1.0 / 6,   -1.0 / 30, 1.0 / 42,
                                    -1.0 / 30, 5.0 / 66,  -691.0 / 2730};
    kiln_value steps = number_over(g, 1, squared(g, x));
    for (int i = 1; i < SHIFT; i++)
        steps = sum(g, steps, number_over(g, 1, squared(g, plus_n(g, x, i))));
    kiln_value r = number_over(g, 1, plus_n(g, x, SHIFT)), square = squared(g, r);
    kiln_value tail = times(g, times(g, r, square), polynomial(g, square, series, 6));
    return sum(g, steps, sum(g, tail, sum(g, r, times_n(g, square, 0.5))));
}

/* Below 1/2: (pi / sin(pi a))^2 less its value at 1 - a; the sine counts from the nearest integer,
 * where it is exact. */
static kiln_value trigamma(kiln_graph *g, kiln_value a)
{
    kiln_value is_low = is_below(g, a, 0.5);
    kiln_value upper = trigamma_upper(g, choose(g, is_low, number_less(g, 1, a), a));
    kiln_value rest = less(g, a, kiln_add_unary(g, KILN_OP_round_even, a));
    kiln_value sine = kiln_add_unary(g, KILN_OP_sin, times_n(g, rest, M_PI));
    kiln_value lower = less(g, squared(g, number_over(g, M_PI, sine)), upper);
    return choose(g, is_low, lower, upper);
}

static double slope_of(const kiln_derivation *d)
{
    return d->node->attrs->slope.slope;
}

#define SELU_SCALE 1.0507009873554805
#define SELU_SLOPE 1.6732632423543772

ONE(square, times(g, dy, times_n(g, a, 2)))
ONE(relu, above_zero(g, y, dy, kiln_add_splat_like(g, dy, 0)))
WIDE(elu, above_zero(g, a, dy, times(g, dy, plus_n(g, y, slope_of(d)))))
WIDE(celu, above_zero(g, a, dy, times(g, dy, plus_n(g, over_n(g, y, slope_of(d)), 1))))
WIDE(selu, times(g, dy,
                 above_zero(g, a, kiln_add_splat_like(g, a, SELU_SCALE),
                            plus_n(g, y, SELU_SCALE *SELU_SLOPE))))
WIDE(softplus, times(g, dy, kiln_add_unary(g, KILN_OP_logistic, a)))
WIDE(cbrt, over(g, dy, times_n(g, squared(g, y), 3)))
WIDE(asin, times(g, dy, rsqrt(g, one_less_square(g, a))))
WIDE(acos, minus(g, times(g, dy, rsqrt(g, one_less_square(g, a)))))
WIDE(sinh, times(g, dy, kiln_add_unary(g, KILN_OP_cosh, a)))
WIDE(cosh, times(g, dy, kiln_add_unary(g, KILN_OP_sinh, a)))
WIDE(asinh, times(g, dy, rsqrt(g, plus_n(g, squared(g, a), 1))))
WIDE(acosh, times(g, dy, times(g, rsqrt(g, plus_n(g, a, -1)), rsqrt(g, plus_n(g, a, 1)))))
WIDE(atanh, over(g, dy, one_less_square(g, a)))
WIDE(erfc, times(g, dy, times_n(g, bell(g, a), -M_2_SQRTPI)))
WIDE(erf_inv, times(g, dy, times_n(g, power(g, squared(g, y)), 1 / M_2_SQRTPI)))
WIDE(lgamma, times(g, dy, kiln_add_unary(g, KILN_OP_digamma, a)))
WIDE(digamma, times(g, dy, trigamma(g, a)))
/* rounding counts as no change */
ONE(reduce_precision, dy)
