/* Loops that the compiler turns into vector code (built with -O3 -mavx2), around the vector
 * functions of the GNU C library. */
#define _GNU_SOURCE
#include "tests/accuracy/reference.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* x within +-limit: what lies beyond gives the same f32, and the vector functions would take their
 * slow way there. NaN stays. */
static inline double within(double x, double limit)
{
    x = x > limit ? limit : x;
    return x < -limit ? -limit : x;
}

#ifdef KILN_HAS_VECTOR_LIBRARY
typedef double vec4 __attribute__((vector_size(32)));
#define TRUTH(name, limit)                                                                         \
    vec4 _ZGVdN4v_##name(vec4 x);                                                                  \
    static void true_##name(double *truth, const double *x, size_t n)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) truth[i] = within(x[i], limit);                             \
        for (size_t i = 0; i < n; i += 4) {                                                        \
            vec4 value;                                                                            \
            memcpy(&value, truth + i, sizeof value);                                               \
            value = _ZGVdN4v_##name(value);                                                        \
            memcpy(truth + i, &value, sizeof value);                                               \
        }                                                                                          \
    }
#else
#define TRUTH(name, limit)                                                                         \
    static void true_##name(double *truth, const double *x, size_t n)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) truth[i] = name(within(x[i], limit));                       \
    }
#endif
TRUTH(exp, 700.0)
TRUTH(expm1, 700.0)
TRUTH(log, INFINITY)
TRUTH(log1p, INFINITY)
TRUTH(sin, INFINITY)
TRUTH(cos, INFINITY)
TRUTH(tan, INFINITY)
TRUTH(atan, INFINITY)
TRUTH(tanh, 30.0)
TRUTH(erf, 10.0)
TRUTH(cbrt, INFINITY)
TRUTH(asin, INFINITY)
TRUTH(acos, INFINITY)
TRUTH(sinh, 700.0)
TRUTH(cosh, 700.0)
TRUTH(asinh, INFINITY)
TRUTH(acosh, INFINITY)
TRUTH(atanh, INFINITY)
TRUTH(erfc, 26.0)
#undef TRUTH

#define TRUTH(name, expression)                                                                    \
    static void true_##name(double *truth, const double *x, size_t n)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) truth[i] = expression;                                      \
    }
TRUTH(sqrt, sqrt(x[i]))
TRUTH(rsqrt, 1 / sqrt(x[i]))
TRUTH(neg, -x[i])
TRUTH(abs, fabs(x[i]))
TRUTH(floor, floor(x[i]))
TRUTH(ceil, ceil(x[i]))
TRUTH(trunc, trunc(x[i]))
TRUTH(round_even, rint(x[i]))
TRUTH(round, round(x[i]))
TRUTH(sign, x[i] > 0 ? 1.0 : x[i] < 0 ? -1.0 : x[i])
#undef TRUTH

/* By z = e^-|x|, which does not overflow. */
static void true_logistic(double *truth, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) truth[i] = -fabs(x[i]);
    true_exp(truth, truth, n);
    for (size_t i = 0; i < n; i++) truth[i] = (x[i] < 0 ? truth[i] : 1.0) / (1.0 + truth[i]);
}

/* max(x, 0) + log1p(e^-|x|) */
static void true_softplus(double *truth, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) truth[i] = -fabs(x[i]);
    true_exp(truth, truth, n);
    true_log1p(truth, truth, n);
    for (size_t i = 0; i < n; i++) truth[i] += x[i] < 0 ? 0 : x[i];
}

static void true_log_sigmoid(double *truth, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) truth[i] = -fabs(x[i]);
    true_exp(truth, truth, n);
    true_log1p(truth, truth, n);
    for (size_t i = 0; i < n; i++) truth[i] = (x[i] > 0 ? 0 : x[i]) - truth[i];
}

static void true_lgamma_each(double *truth, const double *x, size_t n)
{
    int sign;
    for (size_t i = 0; i < n; i++) truth[i] = lgamma_r(x[i], &sign);
}

#define SERIES_FROM 10.0

/* By the recurrence to x >= 10 and the asymptotic series; below 1/2 by reflection. */
static void true_digamma_each(double *truth, const double *x, size_t n)
{
    enum { PART = 64 };
    for (size_t first = 0; first < n; first += PART) {
        double up[PART], log_up[PART], angle[PART], steps[PART];
        size_t count = n - first < PART ? n - first : PART;
        for (size_t i = 0; i < count; i++) {
            double a = x[first + i], b = a < 0.5 ? 1 - a : a, sum = 0;
            angle[i] = (a - rint(a)) * M_PI;
            for (int j = 0; j < (int)SERIES_FROM; j++) sum += 1 / (b + j);
            steps[i] = b > 1e6 ? 0 : sum;
            up[i] = b > 1e6 ? b : b + SERIES_FROM;
        }
        for (size_t i = count; i < PART; i++) up[i] = angle[i] = 1;
        true_log(log_up, up, PART);
        true_tan(angle, angle, PART);
        for (size_t i = 0; i < count; i++) {
            double a = x[first + i], r = 1 / up[i], q = r * r;
            double tail =
                q * (1.0 / 12 -
                     q * (1.0 / 120 -
                          q * (1.0 / 252 -
                               q * (1.0 / 240 - q * (1.0 / 132 - q * (691.0 / 32760 - q / 12))))));
            double y = log_up[i] - r / 2 - tail - steps[i];
            bool is_pole = a <= 0 && a == floor(a);
            truth[first + i] = is_pole ? NAN : a < 0.5 ? y - M_PI / angle[i] : y;
        }
    }
}

/* The start of true_erf_inv, good to 1e-6 (Giles, Approximating the erfinv function, 2010). */
static double erf_inv_start(double x, double w)
{
    static const double near[] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                  -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                  -0.00417768164,  0.246640727,    1.50140941};
    static const double far[] = {-0.000200214257, 0.000100950558, 0.00134934322,
                                 -0.00367342844,  0.00573950773,  -0.0076224613,
                                 0.00943887047,   1.00167406,     2.83297682};
    const double *c = w < 5 ? near : far;
    double t = w < 5 ? w - 2.5 : sqrt(w) - 3, p = c[0];
    for (int i = 1; i < 9; i++) p = p * t + c[i];
    return p * x;
}

/* Two steps of Halley's method on erfc(y) = 1 - |x|, on erf(y) = |x| near 0. */
static void true_erf_inv_each(double *truth, const double *x, size_t n)
{
    enum { PART = 64 };
    for (size_t first = 0; first < n; first += PART) {
        double b[PART], y[PART], e[PART], c[PART], slope[PART];
        for (size_t i = 0; i < PART; i++) {
            b[i] = first + i < n ? fabs(x[first + i]) : 0.5;
            b[i] = b[i] < 1 ? b[i] : 0.5;
            y[i] = (1 - b[i]) * (1 + b[i]);
        }
        true_log(y, y, PART);
        for (size_t i = 0; i < PART; i++) y[i] = erf_inv_start(b[i], -y[i]);
        for (int step = 0; step < 2; step++) {
            true_erf(e, y, PART);
            true_erfc(c, y, PART);
            for (size_t i = 0; i < PART; i++) slope[i] = -y[i] * y[i];
            true_exp(slope, slope, PART);
            for (size_t i = 0; i < PART; i++) {
                double away = b[i] < 0.5 ? e[i] - b[i] : (1 - b[i]) - c[i];
                double u = away / (slope[i] * M_2_SQRTPI);
                y[i] -= u / (1 + y[i] * u);
            }
        }
        for (size_t i = 0; i < PART && first + i < n; i++) {
            double a = x[first + i], size = fabs(a) == 1 ? INFINITY : fabs(a) < 1 ? y[i] : NAN;
            truth[first + i] = a < 0 ? -size : a == 0 ? a : size;
        }
    }
}

static const struct {
    const char *name;
    truth_fn *truth;
} truths[] = {
    {"exp", true_exp},
    {"expm1", true_expm1},
    {"log", true_log},
    {"log1p", true_log1p},
    {"sin", true_sin},
    {"cos", true_cos},
    {"tan", true_tan},
    {"atan", true_atan},
    {"tanh", true_tanh},
    {"erf", true_erf},
    {"sqrt", true_sqrt},
    {"rsqrt", true_rsqrt},
    {"neg", true_neg},
    {"abs", true_abs},
    {"floor", true_floor},
    {"ceil", true_ceil},
    {"trunc", true_trunc},
    {"round_even", true_round_even},
    {"sign", true_sign},
    {"logistic", true_logistic},
    {"cbrt", true_cbrt},
    {"asin", true_asin},
    {"acos", true_acos},
    {"sinh", true_sinh},
    {"cosh", true_cosh},
    {"asinh", true_asinh},
    {"acosh", true_acosh},
    {"atanh", true_atanh},
    {"erfc", true_erfc},
    {"lgamma", true_lgamma_each},
    {"digamma", true_digamma_each},
    {"erf_inv", true_erf_inv_each},
    {"softplus", true_softplus},
    {"log_sigmoid", true_log_sigmoid},
    {"round_half_away", true_round},
};

truth_fn *find_truth(const char *name)
{
    for (size_t i = 0; i < sizeof truths / sizeof *truths; i++)
        if (strcmp(truths[i].name, name) == 0) return truths[i].truth;
    return NULL;
}

long double true_erf_inv(long double a)
{
    long double b = fabsl(a);
    if (!(b < 1)) return b == 1 ? copysignl(INFINITY, a) : NAN;
    double start[4] = {(double)b, 0, 0, 0}, out[4];
    true_erf_inv_each(out, start, 4);
    long double y = out[0];
    for (int step = 0; step < 2 && b > 0; step++) {
        long double away = b < 0.5L ? erfl(y) - b : (1 - b) - erfcl(y);
        y -= away / (expl(-y * y) * 2 / sqrtl(acosl(-1)));
    }
    return copysignl(y, a);
}

long double true_digamma(long double a)
{
    long double steps = 0;
    if (a <= 0 && a == floorl(a)) return NAN;
    if (a < 0.5L) {
        long double pi = acosl(-1);
        return true_digamma(1 - a) - pi / tanl(pi * (a - rintl(a)));
    }
    for (; a < 40; a++) steps += 1 / a;
    long double q = 1 / (a * a);
    long double tail =
        q * (1 / 12.0L -
             q * (1 / 120.0L -
                  q * (1 / 252.0L - q * (1 / 240.0L - q * (1 / 132.0L - q * 691 / 32760.0L)))));
    return logl(a) - 0.5L / a - tail - steps;
}

#define INFINITE INT64_C(0x7ff0000000000000)
#define SIZE_BITS INT64_MAX

static int64_t bits_of(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double value_of(int64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* In words of one width and without branches, so that four values go together; sizes of floats
 * compare as integers. */
double farthest_from_truth(const float *got, const double *truth, size_t n, bool *out_is_odd)
{
    int64_t most = 0, odd = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t g = bits_of(got[i]), r = bits_of((float)truth[i]);
        int64_t binade = bits_of(truth[i]) & INFINITE, least = INT64_C(897) << 52;
        binade = binade < least ? least : binade;
        /* 2^(23 - e) from 2^e: the exponent fields add up to 2 * 1023 + 23 */
        double scale = value_of((int64_t)((UINT64_C(2069) << 52) - (uint64_t)binade));
        int64_t error = bits_of(fabs(got[i] - truth[i]) * scale);
        int64_t is_nan = -(int64_t)((g & SIZE_BITS) > INFINITE);
        int64_t is_infinite = -(int64_t)((g & SIZE_BITS) == INFINITE);
        odd |= is_nan ^ -(int64_t)((r & SIZE_BITS) > INFINITE);
        odd |= is_infinite ^ -(int64_t)((r & SIZE_BITS) == INFINITE);
        odd |= ~is_nan & (g ^ r) & INT64_MIN;
        error &= ~(is_nan | is_infinite);
        most = error > most ? error : most;
    }
    *out_is_odd = odd != 0;
    return value_of(most);
}

void widen(double *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i];
}
