/* Cases of differentiation: elementwise operations and activations. */
#include "tests/unit/gradient_cases.h"

/* UNARY(op, low, high): the call of that name. */
#define UNARIES(ROW)                                                                               \
    ROW(neg, -2, 2)                                                                                \
    ROW(abs, -2, 2)                                                                                \
    ROW(exp, -2, 2) ROW(expm1, -2, 2) ROW(log, 0.3, 3) ROW(log1p, -0.5, 3) ROW(sqrt, 0.3, 3)       \
        ROW(rsqrt, 0.3, 3) ROW(sin, -3, 3) ROW(cos, -3, 3) ROW(tan, -1.2, 1.2) ROW(atan, -3, 3)    \
            ROW(tanh, -2, 2) ROW(erf, -2, 2) ROW(logistic, -3, 3) ROW(barrier, -2, 2)              \
                ROW(square, -2, 2) ROW(reciprocal, 0.4, 3) ROW(relu, -2, 2) ROW(silu, -4, 4)       \
                    ROW(softplus, -4, 4) ROW(mish, -4, 4) ROW(hard_swish, -5, 5)                   \
                        ROW(log_sigmoid, -4, 4) ROW(softsign, -3, 3) ROW(tanh_shrink, -3, 3)       \
                            ROW(selu, -3, 3) ROW(relu6, -3, 9) ROW(sparse_plus, -3, 3)             \
                                ROW(cbrt, 0.2, 3) ROW(asin, -0.9, 0.9) ROW(acos, -0.9, 0.9)        \
                                    ROW(sinh, -2, 2) ROW(cosh, -2, 2) ROW(asinh, -3, 3)            \
                                        ROW(acosh, 1.2, 4) ROW(atanh, -0.9, 0.9) ROW(erfc, -2, 2)  \
                                            ROW(erf_inv, -0.9, 0.9) ROW(lgamma, -2.9, 4)           \
                                                ROW(digamma, 0.2, 6)
#define BINARIES(ROW)                                                                              \
    ROW(add, -2, 2)                                                                                \
    ROW(sub, -2, 2)                                                                                \
    ROW(mul, -2, 2) ROW(div, 0.5, 3) ROW(rem, 0.5, 5) ROW(max, -2, 2) ROW(min, -2, 2)              \
        ROW(pow, 0.4, 2.5) ROW(atan2, 0.2, 2) ROW(prelu, -2, 2)
#define SLOPED(ROW)                                                                                \
    ROW(leaky_relu, 0.1)                                                                           \
    ROW(elu, 1.5)                                                                                  \
    ROW(celu, 1.5) ROW(swish, 1.7) ROW(softplus_beta, 1.7) ROW(squareplus, 1.5)                    \
        ROW(hard_shrink, 0.5) ROW(soft_shrink, 0.5) ROW(gelu, 0)

#define BUILD_UNARY(op, low, high)                                                                 \
    static kiln_value build_##op(gradient_bench *b)                                                \
    {                                                                                              \
        return kiln_##op(b->graph, bench_draw(b, low, high, DIMS(2, 3)));                          \
    }
#define BUILD_BINARY(op, low, high)                                                                \
    static kiln_value build_##op(gradient_bench *b)                                                \
    {                                                                                              \
        kiln_value x = bench_draw(b, low, high, DIMS(2, 3));                                       \
        return kiln_##op(b->graph, x, bench_draw(b, low, high, DIMS(2, 3)));                       \
    }
#define BUILD_SLOPED(op, slope)                                                                    \
    static kiln_value build_##op(gradient_bench *b)                                                \
    {                                                                                              \
        return kiln_##op(b->graph, bench_draw(b, -3, 3, DIMS(2, 3)), slope);                       \
    }

UNARIES(BUILD_UNARY)
BINARIES(BUILD_BINARY)
SLOPED(BUILD_SLOPED)
BUILD(gelu_tanh, kiln_gelu(g, bench_draw(b, -3, 3, DIMS(2, 3)), 1))
BUILD(digamma_low, kiln_digamma(g, bench_draw(b, -0.9, -0.1, DIMS(2, 3))))
BUILD(hard_sigmoid, kiln_hard_sigmoid(g, bench_draw(b, -4, 4, DIMS(2, 3)), 0.2, 0.5))
BUILD(hard_tanh, kiln_hard_tanh(g, bench_draw(b, -2, 2, DIMS(2, 3)), -1, 1.2))
BUILD(threshold, kiln_threshold(g, bench_draw(b, -2, 2, DIMS(2, 3)), 0.3, 7))
BUILD(glu, kiln_glu(g, bench_draw(b, -2, 2, DIMS(2, 6)), 1))
BUILD(pow_negative, kiln_pow(g, bench_draw(b, -2, -0.5, DIMS(4)), kiln_scalar(g, KILN_f64, 3)))

static kiln_value build_select(gradient_bench *b)
{
    kiln_value x = bench_draw(b, -2, 2, DIMS(2, 3)), y = bench_draw(b, -2, 2, DIMS(2, 3));
    return kiln_select(b->graph, kiln_gt(b->graph, x, y), kiln_square(b->graph, x), y);
}

static kiln_value build_clamp(gradient_bench *b)
{
    kiln_value low = bench_draw(b, -1, 0, DIMS(2, 6)), x = bench_draw(b, -2, 2, DIMS(2, 6));
    return kiln_clamp(b->graph, low, x, bench_draw(b, 0, 1, DIMS(2, 6)));
}

/* Bounds of which the high one wins. */
static kiln_value build_clamp_crossed(gradient_bench *b)
{
    kiln_value low = bench_draw(b, 0, 1, DIMS(2, 6)), x = bench_draw(b, -2, 2, DIMS(2, 6));
    return kiln_clamp(b->graph, low, x, bench_draw(b, -1, 0, DIMS(2, 6)));
}

/* Integers count as constants; gradient.c has conversions between floats, which differences do not
 * see. */
static kiln_value build_convert(gradient_bench *b)
{
    kiln_value x = bench_draw(b, -2, 2, DIMS(2, 3));
    kiln_value whole = kiln_convert(b->graph, x, KILN_i32);
    return kiln_mul(b->graph, x, kiln_convert(b->graph, whole, KILN_f64));
}

/* Rounding does not show in an element that has few bits: the slope is that of the factor. */
static kiln_value build_reduce_precision(gradient_bench *b)
{
    kiln_value x = bench_draw(b, -2, 2, DIMS(2, 3));
    return kiln_reduce_precision(b->graph, x, 11, 52);
}

#define ROW_2(op, slope) {KILN_OP_##op, #op, build_##op},
#define ROW_3(op, low, high) {KILN_OP_##op, #op, build_##op},
#define ROW(op, name) {KILN_OP_##op, #name, build_##name},
const gradient_case elementwise_cases[] = {
    UNARIES(ROW_3) BINARIES(ROW_3) SLOPED(ROW_2) ROW(gelu, gelu_tanh) ROW(digamma, digamma_low)
        ROW(hard_sigmoid, hard_sigmoid) ROW(hard_tanh, hard_tanh) ROW(threshold, threshold)
            ROW(glu, glu) ROW(pow, pow_negative) ROW(select, select) ROW(clamp, clamp)
                ROW(clamp, clamp_crossed) ROW(convert, convert)
                    ROW(reduce_precision, reduce_precision){0},
};
