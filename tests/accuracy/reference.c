/* Loops that the compiler turns into vector code (built with -O3 -mavx2), around the vector
 * functions of the GNU C library. */
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
TRUTH(sign, x[i] > 0 ? 1.0 : x[i] < 0 ? -1.0 : x[i])
#undef TRUTH

/* By z = e^-|x|, which does not overflow. */
static void true_logistic(double *truth, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) truth[i] = -fabs(x[i]);
    true_exp(truth, truth, n);
    for (size_t i = 0; i < n; i++) truth[i] = (x[i] < 0 ? truth[i] : 1.0) / (1.0 + truth[i]);
}

static const struct {
    const char *name;
    truth_fn *truth;
} truths[] = {
    {"exp", true_exp},         {"expm1", true_expm1},     {"log", true_log},
    {"log1p", true_log1p},     {"sin", true_sin},         {"cos", true_cos},
    {"tan", true_tan},         {"atan", true_atan},       {"tanh", true_tanh},
    {"erf", true_erf},         {"sqrt", true_sqrt},       {"rsqrt", true_rsqrt},
    {"neg", true_neg},         {"abs", true_abs},         {"floor", true_floor},
    {"ceil", true_ceil},       {"trunc", true_trunc},     {"round_even", true_round_even},
    {"sign", true_sign},       {"logistic", true_logistic},
};

truth_fn *find_truth(const char *name)
{
    for (size_t i = 0; i < sizeof truths / sizeof *truths; i++)
        if (strcmp(truths[i].name, name) == 0) return truths[i].truth;
    return NULL;
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
