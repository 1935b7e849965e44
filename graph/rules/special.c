/* Special functions, in f64 for narrower types: erfc, erf_inv, lgamma, digamma. */
#include <math.h>

#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

/* log(e^(z^2) erfc(z) / t) as a polynomial in 2 t - 1, t = 2 / (2 + z): the Chebyshev series
 * through 30 points with 40 digits, cut after 14 terms for results of f32 and fewer bits (within
 * 2e-9). */
static const double erfc_single[] = {
    -0.6717940851517215,     0.6726432205460084,    0.0473434175210675,    -0.046895482160995,
    -0.009874534918291376,   0.00882355817764504,   0.0017706661186296705, -0.0023392777240525907,
    -0.00018278214171601174, 0.0006579538477710213, -3.21137723121264e-05, -0.000154633790829664,
    1.3371503491274785e-05,  2.072307095777817e-05,
};
static const double erfc_double[] = {
    -0.6717940840566923,     0.6726432239776567,     0.04734330684190443,
    -0.0468956102311752,     -0.009872689366389882,  0.008824938557057209,
    0.001758933557797383,    -0.0023458125004259035, -0.0001462468633597666,
    0.0006736787950448366,   -9.373503129242911e-05, -0.000174302944062264,
    7.140101464759949e-05,   3.1745167555133724e-05, -3.0187886045550546e-05,
    1.3775904527773224e-07,  8.56262636176753e-06,   -2.948046725313491e-06,
    -1.2723158844322997e-06, 1.2501044289088215e-06, -1.6849436977872108e-07,
    -2.496503529294978e-07,  1.5334131293480474e-07, 1.4829456048085791e-09,
    -3.917108252960829e-08,  1.1159689441096502e-08, 4.060769826096468e-09,
    -1.8883588304159373e-09,
};

/* erfc of z >= 0: t e^(series - z^2). For f64 z^2 in two parts, so that e^-z^2 keeps its last
 * places. */
static kiln_value erfc_upper(kiln_graph *g, kiln_value z, bool is_wide)
{
    const double *terms = is_wide ? erfc_double : erfc_single;
    uint32_t n = (is_wide ? sizeof erfc_double : sizeof erfc_single) / sizeof *terms;
    kiln_value t = number_over(g, 2, plus_n(g, z, 2));
    kiln_value series = polynomial(g, plus_n(g, times_n(g, t, 2), -1), terms, n);
    kiln_value capped = choose_n(g, is_above(g, z, 30), 30, z); /* 0 from there on */
    if (!is_wide) return times(g, t, power(g, less(g, series, times(g, capped, capped))));
    kiln_value high = kiln_add_convert(g, kiln_add_convert(g, capped, KILN_f32), KILN_f64);
    kiln_value low = times(g, less(g, capped, high), sum(g, capped, high));
    kiln_value first = power(g, minus(g, times(g, high, high)));
    return times(g, times(g, t, first), power(g, less(g, series, low)));
}

RULE(erfc)
{
    kiln_value a = widen_f64(g, inputs[0]);
    bool is_wide = kiln_graph_type(g, inputs[0])->dtype == KILN_f64;
    kiln_value upper = erfc_upper(g, size(g, a), is_wide);
    kiln_value y = choose(g, is_below(g, a, 0), number_less(g, 2, upper), upper);
    return narrow_like(g, y, inputs[0]);
}

/* erf_inv(x) / x as a polynomial in w - centre, w = -log(1 - x^2), and beyond `edge` in
 * sqrt(w) - far_centre (as Giles does, Approximating the erfinv function, 2010): interpolated with
 * 50 digits, within 7e-9 for results of f32 and fewer bits, within 2e-16 for f64. */
static const double near_single[] = {
    1.501409351110792,       0.24664028942745514,    -0.004177320040540122,
    -0.0012527485028416628,  0.00021825772396383332, -4.9596917942159365e-06,
    -3.4234142742220455e-06, 4.6541741050231655e-07, 1.598430613390006e-08,
    -8.739010702830122e-09,  4.671932509038665e-10,
};
static const double far_single[] = {
    2.832976794473863,      1.0016750658410518,     0.009445743820559802, -0.0076391390344015256,
    0.005682678522078122,   -0.003587815770102154,  0.001497222508820111, -7.604790170802735e-05,
    -0.0003199266729325994, 0.00012924175469266932,
};
static const double near_double[] = {
    1.6536545626831027,      0.2401581824255883,     -0.00603367087142785,
    -0.000740702534154477,   0.00018673420802464837, -1.3882523394405316e-05,
    -1.3654691850603575e-06, 4.234788173782339e-07,  -2.9070382262927266e-08,
    -4.11266082002324e-09,   1.0512181539804126e-09, -5.414287198084716e-11,
    -1.2976885526532075e-11, 2.6304834740560442e-12, -8.118399443074353e-14,
    -4.001237735091896e-14,  6.596407712420834e-15,  -4.0282154327661744e-17,
    -1.3016928016796445e-16, 1.557432024623325e-17,  1.150022252066253e-18,
    -3.4996044354754177e-19, -1.113483769832702e-21, 3.240704459379902e-21,
};
static const double far_double[] = {
    4.09222342366813,       1.0099782771612555,      0.0007127499726621096,
    -0.0006078940274627185, 0.0002121767132056046,   -6.441975072298072e-05,
    2.1980128895453253e-05, -1.0197665338895134e-05, 5.807264696473426e-06,
    -3.211125941112318e-06, 1.4901851903269014e-06,  -5.152672352708825e-07,
    9.327240859925412e-08,  2.562348190534966e-08,   -3.0120575961569274e-08,
    1.3424821848038925e-08, -3.084983385664055e-09,  -1.7980638833458265e-10,
    4.728196676100834e-10,  -1.9210504408416395e-10, 2.9786269434914873e-11,
    4.479088406222693e-12,  -2.951697245933496e-12,  1.1365910629608314e-12,
    -5.164813362913276e-13, 5.244241386342308e-14,   5.535738066337284e-14,
    -1.532989469214737e-14, -9.59911757600551e-16,   4.994109867463594e-16,
};

typedef struct erf_inv_terms {
    double edge, centre, far_centre;
    const double *near, *far;
    uint32_t n_near, n_far;
} erf_inv_terms;

#define TERMS(kind)                                                                                \
    .near = near_##kind, .n_near = sizeof near_##kind / sizeof(double), .far = far_##kind,         \
    .n_far = sizeof far_##kind / sizeof(double)

RULE(erf_inv)
{
    static const erf_inv_terms narrow = {5, 2.5, 3, TERMS(single)},
                               wide = {6.25, 3.125, 4.25, TERMS(double)};
    bool is_wide = kiln_graph_type(g, inputs[0])->dtype == KILN_f64;
    const erf_inv_terms *t = is_wide ? &wide : &narrow;
    kiln_value a = widen_f64(g, inputs[0]), b = size(g, a), rest = number_less(g, 1, b);
    kiln_value w = minus(g, natural(g, times(g, rest, plus_n(g, b, 1))));
    kiln_value near = polynomial(g, plus_n(g, w, -t->centre), t->near, t->n_near);
    kiln_value far = polynomial(g, plus_n(g, root(g, w), -t->far_centre), t->far, t->n_far);
    kiln_value y = times(g, choose(g, is_below(g, w, t->edge), near, far), b);
    y = choose_n(g, is_number(g, b, 1), INFINITY, y);
    y = choose_n(g, is_above(g, b, 1), NAN, y);
    return narrow_like(g, with_sign(g, y, a), inputs[0]);
}

/* sin(pi a) / a and cos(pi a) as polynomials in a^2, |a| <= 1/2, within 2e-16. */
static const double sine_pi[] = {
    3.141592653589793,     -5.167712780049969,      2.5501640398773007,
    -0.5992645293189447,   0.0821458865731029,      -0.007370430505916944,
    0.0004662998161898394, -2.1903497074626018e-05, 7.697826768224191e-07,
};
static const double cosine_pi[] = {
    1.0,
    -4.934802200544676,
    4.058712126416497,
    -1.335262768843447,
    0.23533063012953284,
    -0.025806888737002202,
    0.0019295562724817132,
    -0.00010456655338748738,
    4.149564353942586e-06,
};

/* sin(pi a), or cos(pi a), |a| <= 1/2. */
static kiln_value of_half_turns(kiln_graph *g, kiln_value a, const double *terms, bool is_odd)
{
    kiln_value even = polynomial(g, times(g, a, a), terms, sizeof sine_pi / sizeof *sine_pi);
    return is_odd ? times(g, a, even) : even;
}

#define SHIFT 8 /* Stirling's series is taken at x + 8 */

/* x (x + 1) … (x + 7) */
static kiln_value rising(kiln_graph *g, kiln_value x)
{
    kiln_value product = x;
    for (int i = 1; i < SHIFT; i++) product = times(g, product, plus_n(g, x, i));
    return product;
}

/* Stirling's series at x + SHIFT >= 8.5, or at x where is_large: log Gamma there. */
static kiln_value stirling(kiln_graph *g, kiln_value x, kiln_value is_large)
{
    static const double series[] = {1.0 / 12,    -1.0 / 360, 1.0 / 1260,
                                    -1.0 / 1680, 1.0 / 1188, -691.0 / 360360};
    kiln_value z = choose(g, is_large, x, plus_n(g, x, SHIFT)), r = number_over(g, 1, z);
    kiln_value tail = times(g, r, polynomial(g, times(g, r, r), series, 6));
    kiln_value main = times(g, plus_n(g, z, -0.5), plus_n(g, natural(g, z), -1));
    return plus_n(g, sum(g, main, tail), 0.41893853320467274178); /* (log(2 pi) - 1) / 2 */
}

#define TINY_SCALE 0x1p400 /* sines of multiples of denormals: linear, but not exact */

/* log Gamma(x + 8) - log(x … (x + 7)), x = a; below 1/2 x = 1 - a, taken from
 * log(pi / |sin(pi a)|), so that one logarithm does for sine and product; +infinity at 0, -1, … */
RULE(lgamma)
{
    kiln_value a = widen_f64(g, inputs[0]), is_low = is_below(g, a, 0.5);
    kiln_value x = choose(g, is_low, number_less(g, 1, a), a), is_large = is_above(g, x, 1e6);
    kiln_value nearest = kiln_add_unary(g, KILN_OP_round_even, a);
    kiln_value rest = size(g, less(g, a, nearest)), is_tiny = is_below(g, rest, 1e-200);
    rest = choose(g, is_tiny, times_n(g, rest, TINY_SCALE), rest);
    kiln_value sine = of_half_turns(g, rest, sine_pi, true);
    kiln_value product = choose_n(g, is_large, 1, rising(g, x));
    kiln_value down = natural(g, choose(g, is_low, over(g, product, sine), product));
    kiln_value y = less(g, stirling(g, x, is_large), down);
    kiln_value about = choose_n(g, is_tiny, log(M_PI) + log(TINY_SCALE),
                                kiln_add_splat_like(g, y, log(M_PI)));
    kiln_value lower = choose_n(g, is_number(g, rest, 0), INFINITY, less(g, about, y));
    y = choose(g, is_low, lower, y);
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
    kiln_value cosine = times_n(g, of_half_turns(g, rest, cosine_pi, false), M_PI);
    kiln_value lower = less(g, upper, over(g, cosine, of_half_turns(g, rest, sine_pi, true)));
    lower = choose_n(g, is_number(g, rest, 0), NAN, lower);
    return narrow_like(g, choose(g, is_low, lower, upper), inputs[0]);
}
