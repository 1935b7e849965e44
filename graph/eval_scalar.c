/* Scalar meanings of the elementwise ops, on doubles and on 64-bit integers: one row an op. Also
 * the combining steps of reductions and windows. Total: no input is undefined. */
#include <math.h>

#include "graph/eval.h"

static double f_neg(double a)
{
    return -a;
}
static double f_sign(double a)
{
    return a > 0 ? 1 : a < 0 ? -1 : a;
}
static double f_rsqrt(double a)
{
    return 1 / sqrt(a);
}
static double f_is_finite(double a)
{
    return isfinite(a) != 0;
}

static double f_logistic(double a)
{
    double power = exp(-fabs(a));
    return a >= 0 ? 1 / (1 + power) : power / (1 + power);
}

static double f_add(double a, double b)
{
    return a + b;
}
static double f_sub(double a, double b)
{
    return a - b;
}
static double f_mul(double a, double b)
{
    return a * b;
}
static double f_div(double a, double b)
{
    return a / b;
}
static double f_eq(double a, double b)
{
    return a == b;
}
static double f_ne(double a, double b)
{
    return a != b;
}
static double f_lt(double a, double b)
{
    return a < b;
}
static double f_le(double a, double b)
{
    return a <= b;
}
static double f_gt(double a, double b)
{
    return a > b;
}
static double f_ge(double a, double b)
{
    return a >= b;
}

static double f_max(double a, double b)
{
    if (isnan(a) || isnan(b)) return NAN;
    if (a == b) return signbit(a) ? b : a;
    return a > b ? a : b;
}

static double f_min(double a, double b)
{
    if (isnan(a) || isnan(b)) return NAN;
    if (a == b) return signbit(a) ? a : b;
    return a < b ? a : b;
}

typedef const kiln_eval_int kind_t;

static uint64_t i_neg(uint64_t a, kind_t *kind)
{
    return 0 - a;
}
static uint64_t i_abs(uint64_t a, kind_t *kind)
{
    return kind->is_signed && (int64_t)a < 0 ? 0 - a : a;
}

static uint64_t i_sign(uint64_t a, kind_t *kind)
{
    if (kind->is_signed && (int64_t)a < 0) return UINT64_MAX;
    return a != 0;
}

static uint64_t i_not(uint64_t a, kind_t *kind)
{
    return kind->is_bool ? !a : ~a;
}
static uint64_t low_bits(uint64_t a, kind_t *kind)
{
    return a & UINT64_MAX >> (64 - kind->bits);
}
static uint64_t i_popcnt(uint64_t a, kind_t *kind)
{
    return (uint64_t)__builtin_popcountll(low_bits(a, kind));
}

static uint64_t i_clz(uint64_t a, kind_t *kind)
{
    uint64_t low = low_bits(a, kind);
    return (uint64_t)(low ? __builtin_clzll(low) - (64 - kind->bits) : kind->bits);
}

static uint64_t i_add(uint64_t a, uint64_t b, kind_t *kind)
{
    return a + b;
}
static uint64_t i_sub(uint64_t a, uint64_t b, kind_t *kind)
{
    return a - b;
}
static uint64_t i_mul(uint64_t a, uint64_t b, kind_t *kind)
{
    return a * b;
}
static uint64_t i_and(uint64_t a, uint64_t b, kind_t *kind)
{
    return a & b;
}
static uint64_t i_or(uint64_t a, uint64_t b, kind_t *kind)
{
    return a | b;
}
static uint64_t i_xor(uint64_t a, uint64_t b, kind_t *kind)
{
    return a ^ b;
}
static uint64_t i_eq(uint64_t a, uint64_t b, kind_t *kind)
{
    return a == b;
}
static uint64_t i_ne(uint64_t a, uint64_t b, kind_t *kind)
{
    return a != b;
}

static uint64_t i_lt(uint64_t a, uint64_t b, kind_t *kind)
{
    return kind->is_signed ? (int64_t)a < (int64_t)b : a < b;
}

static uint64_t i_le(uint64_t a, uint64_t b, kind_t *kind)
{
    return !i_lt(b, a, kind);
}
static uint64_t i_gt(uint64_t a, uint64_t b, kind_t *kind)
{
    return i_lt(b, a, kind);
}
static uint64_t i_ge(uint64_t a, uint64_t b, kind_t *kind)
{
    return !i_lt(a, b, kind);
}
static uint64_t i_max(uint64_t a, uint64_t b, kind_t *kind)
{
    return i_lt(a, b, kind) ? b : a;
}
static uint64_t i_min(uint64_t a, uint64_t b, kind_t *kind)
{
    return i_lt(b, a, kind) ? b : a;
}

/* Division by -1 is negation, which wraps for the least integer instead of trapping. */
static uint64_t i_div(uint64_t a, uint64_t b, kind_t *kind)
{
    if (b == 0) return UINT64_MAX;
    if (!kind->is_signed) return a / b;
    return b == UINT64_MAX ? 0 - a : (uint64_t)((int64_t)a / (int64_t)b);
}

static uint64_t i_rem(uint64_t a, uint64_t b, kind_t *kind)
{
    if (b == 0) return a;
    if (!kind->is_signed) return a % b;
    return b == UINT64_MAX ? 0 : (uint64_t)((int64_t)a % (int64_t)b);
}

static uint64_t i_pow(uint64_t a, uint64_t b, kind_t *kind)
{
    if (kind->is_signed && (int64_t)b < 0) {
        if (a == 1) return 1;
        return a == UINT64_MAX ? (b & 1 ? a : 1) : 0;
    }
    uint64_t result = 1;
    for (; b; b >>= 1, a *= a) {
        if (b & 1) result *= a;
    }
    return result;
}

static bool is_shift(uint64_t b, kind_t *kind)
{
    return b < (uint64_t)kind->bits;
}
static uint64_t i_shl(uint64_t a, uint64_t b, kind_t *kind)
{
    return is_shift(b, kind) ? a << b : 0;
}

static uint64_t i_shr(uint64_t a, uint64_t b, kind_t *kind)
{
    return is_shift(b, kind) ? low_bits(a, kind) >> b : 0;
}

static uint64_t i_sar(uint64_t a, uint64_t b, kind_t *kind)
{
    int64_t value = (int64_t)(a << (64 - kind->bits)) >> (64 - kind->bits);
    return (uint64_t)(value >> (is_shift(b, kind) ? b : 63));
}

#define FLOAT_1(name, function) [KILN_OP_##name] = {.unary = function}
#define FLOAT_2(name, function) [KILN_OP_##name] = {.binary = function}
#define INT_1(name, function) [KILN_OP_##name] = {.unary_int = function}
#define INT_2(name, function) [KILN_OP_##name] = {.binary_int = function}
#define BOTH_1(name, f, i) [KILN_OP_##name] = {.unary = f, .unary_int = i}
#define BOTH_2(name, f, i) [KILN_OP_##name] = {.binary = f, .binary_int = i}

const kiln_eval_scalar kiln_eval_scalars[KILN_N_OPS] = {
    BOTH_1(neg, f_neg, i_neg),
    BOTH_1(abs, fabs, i_abs),
    BOTH_1(sign, f_sign, i_sign),
    FLOAT_1(floor, floor),
    FLOAT_1(ceil, ceil),
    FLOAT_1(trunc, trunc),
    FLOAT_1(round_even, nearbyint),
    FLOAT_1(exp, exp),
    FLOAT_1(expm1, expm1),
    FLOAT_1(log, log),
    FLOAT_1(log1p, log1p),
    FLOAT_1(sqrt, sqrt),
    FLOAT_1(rsqrt, f_rsqrt),
    FLOAT_1(sin, sin),
    FLOAT_1(cos, cos),
    FLOAT_1(tan, tan),
    FLOAT_1(atan, atan),
    FLOAT_1(tanh, tanh),
    FLOAT_1(erf, erf),
    FLOAT_1(logistic, f_logistic),
    FLOAT_1(is_finite, f_is_finite),
    INT_1(not, i_not),
    INT_1(popcnt, i_popcnt),
    INT_1(clz, i_clz),
    BOTH_2(add, f_add, i_add),
    BOTH_2(sub, f_sub, i_sub),
    BOTH_2(mul, f_mul, i_mul),
    BOTH_2(div, f_div, i_div),
    BOTH_2(rem, fmod, i_rem),
    BOTH_2(max, f_max, i_max),
    BOTH_2(min, f_min, i_min),
    BOTH_2(pow, pow, i_pow),
    FLOAT_2(atan2, atan2),
    INT_2(and, i_and),
    INT_2(or, i_or),
    INT_2(xor, i_xor),
    INT_2(shift_left, i_shl),
    INT_2(shift_right_logical, i_shr),
    INT_2(shift_right_arithmetic, i_sar),
    BOTH_2(eq, f_eq, i_eq),
    BOTH_2(ne, f_ne, i_ne),
    BOTH_2(lt, f_lt, i_lt),
    BOTH_2(le, f_le, i_le),
    BOTH_2(gt, f_gt, i_gt),
    BOTH_2(ge, f_ge, i_ge),
    BOTH_2(reduce_sum, f_add, i_add),
    BOTH_2(reduce_prod, f_mul, i_mul),
    BOTH_2(reduce_max, f_max, i_max),
    BOTH_2(reduce_min, f_min, i_min),
    INT_2(reduce_any, i_or),
    INT_2(reduce_all, i_and),
    BOTH_2(window_sum, f_add, i_add),
    BOTH_2(window_prod, f_mul, i_mul),
    BOTH_2(window_max, f_max, i_max),
    BOTH_2(window_min, f_min, i_min),
};

kiln_eval_int kiln_eval_int_of(kiln_dtype dtype)
{
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    return (kiln_eval_int){.bits = (int)kiln_dtype_bits(dtype),
                           .is_signed = kind == KILN_DTYPE_KIND_INT,
                           .is_bool = kind == KILN_DTYPE_KIND_BOOL};
}
