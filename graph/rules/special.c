/* Special functions, in f64 for narrower types: erfc, erf_inv, lgamma, digamma. */
#include <math.h>

#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

/* Chebyshev series of log(e^(z^2) erfc(z) / t) in 2 t - 1, t = 2 / (2 + z), interpolated at 30
 * points with 40 digits. */
static const double erfc_series[] = {
    -0.6513268598908547171,     0.6419697923564902603,      0.019476473204185836312,
    -0.0095615147868086316421,  -0.0009465953444820368661,  0.00036683949785276145168,
    4.2523324806907771838e-5,   -2.0278578112534243344e-5,  -1.624290004647025328e-6,
    1.3036558355805230209e-6,   1.5626441722066319001e-8,   -8.5238095914926712795e-8,
    6.5290544390990157455e-9,   5.059343495551311165e-9,    -9.9136415649288222074e-10,
    -2.2736512229332712317e-10, 9.6467911020291125312e-11,  2.3940380829111147899e-12,
    -6.8860275263774381335e-12, 8.9448792719791097816e-13,  3.1309214003015689085e-13,
    -1.12708223679201536e-13,   3.8109056937193011452e-16,  7.106097404816650678e-15,
    -1.5230272603012621043e-15, -9.4576636803810246017e-17, 1.21020371499552377e-16,
    -2.8138739323853512799e-17,
};

/* Clenshaw's recurrence. */
static kiln_value chebyshev(kiln_graph *g, kiln_value y, const double *c, uint32_t n)
{
    kiln_value twice = times_n(g, y, 2), next = kiln_add_splat_like(g, y, 0), own = next;
    for (uint32_t i = n - 1; i > 0; i--) {
        kiln_value before = plus_n(g, less(g, times(g, twice, own), next), c[i]);
        next = own;
        own = before;
    }
    return plus_n(g, less(g, times(g, y, own), next), c[0]);
}

/* erfc of z >= 0: t e^(series - z^2); z^2 in two parts, so that e^-z^2 keeps its last places. */
static kiln_value erfc_upper(kiln_graph *g, kiln_value z)
{
    kiln_value t = number_over(g, 2, plus_n(g, z, 2));
    kiln_value y = plus_n(g, times_n(g, t, 2), -1);
    kiln_value series = chebyshev(g, y, erfc_series, sizeof erfc_series / sizeof *erfc_series);
    kiln_value capped = choose_n(g, is_above(g, z, 30), 30, z); /* 0 from there on */
    kiln_value high = kiln_add_convert(g, kiln_add_convert(g, capped, KILN_f32), KILN_f64);
    kiln_value low = times(g, less(g, capped, high), sum(g, capped, high));
    kiln_value first = power(g, minus(g, times(g, high, high)));
    return times(g, times(g, t, first), power(g, less(g, series, low)));
}

static kiln_value erfc_f64(kiln_graph *g, kiln_value a)
{
    kiln_value upper = erfc_upper(g, size(g, a));
    return choose(g, is_below(g, a, 0), number_less(g, 2, upper), upper);
}

RULE(erfc)
{
    return narrow_like(g, erfc_f64(g, widen_f64(g, inputs[0])), inputs[0]);
}

/* Giles, Approximating the erfinv function (2010): the start, good to 1e-7. */
static kiln_value erf_inv_start(kiln_graph *g, kiln_value b, kiln_value rest)
{
    static const double near[] = {1.50140941,     0.246640727,    -0.00417768164,
                                  -0.00125372503, 0.00021858087,  -4.39150654e-06,
                                  -3.5233877e-06, 3.43273939e-07, 2.81022636e-08};
    static const double far[] = {2.83297682,    1.00167406,     0.00943887047,
                                 -0.0076224613, 0.00573950773,  -0.00367342844,
                                 0.00134934322, 0.000100950558, -0.000200214257};
    kiln_value w = minus(g, natural(g, times(g, rest, plus_n(g, b, 1))));
    kiln_value low = polynomial(g, plus_n(g, w, -2.5), near, 9);
    kiln_value high = polynomial(g, plus_n(g, root(g, w), -3), far, 9);
    return times(g, choose(g, is_below(g, w, 5), low, high), b);
}

/* Halley's method on erfc(y) = 1 - |a|, two steps. */
RULE(erf_inv)
{
    kiln_value a = widen_f64(g, inputs[0]), b = size(g, a), rest = number_less(g, 1, b);
    kiln_value y = erf_inv_start(g, b, rest);
    for (int i = 0; i < 2; i++) {
        kiln_value away =
            choose(g, is_below(g, b, 0.5), less(g, kiln_add_unary(g, KILN_OP_erf, y), b),
                   less(g, rest, erfc_upper(g, y)));
        kiln_value slope = times_n(g, power(g, minus(g, times(g, y, y))), M_2_SQRTPI);
        kiln_value step = over(g, away, slope);
        y = less(g, y, over(g, step, plus_n(g, times(g, y, step), 1)));
    }
    y = choose_n(g, is_number(g, b, 1), INFINITY, y);
    y = choose_n(g, is_above(g, b, 1), NAN, y);
    return narrow_like(g, with_sign(g, y, a), inputs[0]);
}

#define SHIFT 8 /* Stirling's series is taken at x + 8 */

/* x (x + 1) … (x + 7) */
static kiln_value rising(kiln_graph *g, kiln_value x)
{
    kiln_value product = x;
    for (int i = 1; i < SHIFT; i++) product = times(g, product, plus_n(g, x, i));
    return product;
}

/* log Gamma of x >= 1/2. */
static kiln_value lgamma_upper(kiln_graph *g, kiln_value x)
{
    static const double series[] = {1.0 / 12,    -1.0 / 360, 1.0 / 1260,
                                    -1.0 / 1680, 1.0 / 1188, -691.0 / 360360};
    kiln_value is_large = is_above(g, x, 1e6);
    kiln_value small = choose_n(g, is_large, 1, x);
    kiln_value z = choose(g, is_large, x, plus_n(g, x, SHIFT)), r = number_over(g, 1, z);
    kiln_value tail = times(g, r, polynomial(g, times(g, r, r), series, 6));
    kiln_value main = times(g, plus_n(g, z, -0.5), plus_n(g, natural(g, z), -1));
    main = plus_n(g, sum(g, main, tail), 0.41893853320467274178); /* (log(2 pi) - 1) / 2 */
    kiln_value lowered = less(g, main, natural(g, rising(g, small)));
    return choose(g, is_large, main, lowered);
}

/* Below 1/2: log(pi / |sin(pi x)|) - log Gamma(1 - x); +infinity at 0, -1, -2, … */
RULE(lgamma)
{
    kiln_value a = widen_f64(g, inputs[0]), is_low = is_below(g, a, 0.5);
    kiln_value upper = lgamma_upper(g, choose(g, is_low, number_less(g, 1, a), a));
    kiln_value nearest = kiln_add_unary(g, KILN_OP_round_even, a);
    kiln_value folded = size(g, less(g, a, nearest)); /* exact */
    kiln_value sine = kiln_add_unary(g, KILN_OP_sin, times_n(g, folded, M_PI));
    kiln_value lower = less(g, number_less(g, log(M_PI), natural(g, sine)), upper);
    lower = choose_n(g, is_number(g, folded, 0), INFINITY, lower);
    kiln_value y = choose(g, is_low, lower, upper);
    y = choose_n(g, join(g, is_number(g, a, 1), is_number(g, a, 2)), 0, y);
    return narrow_like(g, choose_n(g, is_number(g, size(g, a), INFINITY), INFINITY, y), inputs[0]);
}

static kiln_value digamma_upper(kiln_graph *g, kiln_value x)
{
    static const double series[] = {1.0 / 12,   -1.0 / 120, 1.0 / 252,
                                    -1.0 / 240, 1.0 / 132,  -691.0 / 32760};
    kiln_value steps = number_over(g, 1, x);
    for (int i = 1; i < SHIFT; i++) steps = sum(g, steps, number_over(g, 1, plus_n(g, x, i)));
    kiln_value z = plus_n(g, x, SHIFT), r = number_over(g, 1, z), square = times(g, r, r);
    kiln_value tail = times(g, square, polynomial(g, square, series, 6));
    kiln_value y = less(g, less(g, natural(g, z), times_n(g, r, 0.5)), tail);
    return less(g, y, steps);
}

/* Below 1/2: digamma(1 - x) - pi / tan(pi x); NaN at 0, -1, -2, … */
RULE(digamma)
{
    kiln_value a = widen_f64(g, inputs[0]), is_low = is_below(g, a, 0.5);
    kiln_value upper = digamma_upper(g, choose(g, is_low, number_less(g, 1, a), a));
    kiln_value rest = less(g, a, kiln_add_unary(g, KILN_OP_round_even, a)); /* exact */
    kiln_value tangent = kiln_add_unary(g, KILN_OP_tan, times_n(g, rest, M_PI));
    kiln_value lower = less(g, upper, number_over(g, M_PI, tangent));
    lower = choose_n(g, is_number(g, rest, 0), NAN, lower);
    return narrow_like(g, choose(g, is_low, lower, upper), inputs[0]);
}
