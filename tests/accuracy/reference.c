/* Loops that the compiler turns into vector code (built with -O3 -mavx2), around the vector
 * functions of the GNU C library. */
#include "tests/accuracy/reference.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef KILN_HAS_VECTOR_LIBRARY
typedef double vec4 __attribute__((vector_size(32)));
#define TRUTH(name)                                                                                \
    vec4 _ZGVdN4v_##name(vec4 x);                                                                  \
    static void true_##name(double *truth, const double *x, size_t n)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i += 4) {                                                        \
            vec4 value;                                                                            \
            memcpy(&value, x + i, sizeof value);                                                   \
            value = _ZGVdN4v_##name(value);                                                        \
            memcpy(truth + i, &value, sizeof value);                                               \
        }                                                                                          \
    }
#else
#define TRUTH(name)                                                                                \
    static void true_##name(double *truth, const double *x, size_t n)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) truth[i] = name(x[i]);                                      \
    }
#endif
TRUTH(exp)
TRUTH(expm1)
TRUTH(log)
TRUTH(log1p)
TRUTH(sin)
TRUTH(cos)
TRUTH(tan)
TRUTH(atan)
TRUTH(tanh)
TRUTH(erf)
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

/* 0 for numbers, 1 for infinities and what rounds to them, 2 for NaN; with the sign of numbers. */
static int32_t kind_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t size = bits & 0x7fffffff;
    int32_t kind = size > 0x7f800000 ? 2 : size == 0x7f800000;
    return kind == 2 ? 4 : kind | (int32_t)(bits >> 31) << 1;
}

double farthest_from_truth(const float *got, const double *truth, size_t n, bool *out_is_odd)
{
    double most = 0;
    int32_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &truth[i], sizeof bits);
        bits &= 0x7ff0000000000000u;
        double binade;
        memcpy(&binade, &bits, sizeof binade);
        binade = binade < 0x1p-126 ? 0x1p-126 : binade;
        double error = fabs(got[i] - truth[i]) / (binade * 0x1p-23);
        int32_t kind = kind_of(got[i]);
        odd |= kind ^ kind_of((float)truth[i]);
        error = kind & 5 ? 0 : error; /* infinite or NaN, both */
        most = error > most ? error : most;
    }
    *out_is_odd = odd != 0;
    return most;
}

void widen(double *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i];
}
