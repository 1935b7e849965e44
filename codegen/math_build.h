/* Shorthands of the kernel builders for codegen/math_*.c, and the functions those files share. A
 * constant takes dtype and lanes of its neighbour; statements hold one nested builder call at most,
 * so that numbering does not depend on the C compiler. */
#ifndef KILN_CODEGEN_MATH_BUILD_H
#define KILN_CODEGEN_MATH_BUILD_H

#include "codegen/math.h"

static inline kiln_dtype dtype_of(const kiln_kernel *k, kiln_kv a)
{
    return (kiln_dtype)kiln_kernel_at(k, a)->dtype;
}

static inline uint32_t lanes_of(const kiln_kernel *k, kiln_kv a)
{
    return kiln_kernel_at(k, a)->lanes;
}

static inline bool is_f64(const kiln_kernel *k, kiln_kv a)
{
    return dtype_of(k, a) == KILN_f64;
}

/* A float constant like `a`; an integer constant (any dtype but floats) like `a`. */
static inline kiln_kv num(kiln_kernel *k, kiln_kv a, double value)
{
    return kiln_k_const_float(k, dtype_of(k, a), lanes_of(k, a), value);
}

static inline kiln_kv whole(kiln_kernel *k, kiln_kv a, int64_t value)
{
    return kiln_k_const_int(k, dtype_of(k, a), lanes_of(k, a), value);
}

#define KILN_BINARY_SHORTHAND(name, op)                                                            \
    static inline kiln_kv name(kiln_kernel *k, kiln_kv a, kiln_kv b)                               \
    {                                                                                              \
        return kiln_k_binary(k, KILN_K_##op, a, b);                                                \
    }
KILN_BINARY_SHORTHAND(add, add)
KILN_BINARY_SHORTHAND(sub, sub)
KILN_BINARY_SHORTHAND(mul, mul)
KILN_BINARY_SHORTHAND(quotient, div)
KILN_BINARY_SHORTHAND(both, and)
KILN_BINARY_SHORTHAND(either, or)
KILN_BINARY_SHORTHAND(is_eq, eq)
KILN_BINARY_SHORTHAND(is_lt, lt)
KILN_BINARY_SHORTHAND(copy_sign, copysign)
#undef KILN_BINARY_SHORTHAND

/* a op constant, for floats. */
static inline kiln_kv add_num(kiln_kernel *k, kiln_kv a, double c)
{
    return add(k, a, num(k, a, c));
}

static inline kiln_kv mul_num(kiln_kernel *k, kiln_kv a, double c)
{
    return mul(k, a, num(k, a, c));
}

/* c - a */
static inline kiln_kv num_sub(kiln_kernel *k, double c, kiln_kv a)
{
    return sub(k, num(k, a, c), a);
}

static inline kiln_kv compare_num(kiln_kernel *k, kiln_instr_op op, kiln_kv a, double c)
{
    return kiln_k_binary(k, op, a, num(k, a, c));
}

/* a op constant, for integers. */
static inline kiln_kv int_op(kiln_kernel *k, kiln_instr_op op, kiln_kv a, int64_t c)
{
    return kiln_k_binary(k, op, a, whole(k, a, c));
}

/* a * c + b, a * b + c */
static inline kiln_kv fma_scale(kiln_kernel *k, kiln_kv a, double c, kiln_kv b)
{
    return kiln_k_fma(k, a, num(k, a, c), b);
}

static inline kiln_kv fma_num(kiln_kernel *k, kiln_kv a, kiln_kv b, double c)
{
    return kiln_k_fma(k, a, b, num(k, a, c));
}

static inline kiln_kv absolute(kiln_kernel *k, kiln_kv a)
{
    return kiln_k_unary(k, KILN_K_abs, a);
}

static inline kiln_kv negative(kiln_kernel *k, kiln_kv a)
{
    return kiln_k_unary(k, KILN_K_neg, a);
}

/* min and max with a constant that keep a NaN. */
static inline kiln_kv at_most(kiln_kernel *k, kiln_kv a, double c)
{
    return kiln_k_binary(k, KILN_K_min_fast, num(k, a, c), a);
}

static inline kiln_kv at_least(kiln_kernel *k, kiln_kv a, double c)
{
    return kiln_k_binary(k, KILN_K_max_fast, num(k, a, c), a);
}

/* condition ? c : a, condition ? a : c */
static inline kiln_kv num_where(kiln_kernel *k, kiln_kv condition, double c, kiln_kv a)
{
    return kiln_k_select(k, condition, num(k, a, c), a);
}

static inline kiln_kv else_num(kiln_kernel *k, kiln_kv condition, kiln_kv a, double c)
{
    return kiln_k_select(k, condition, a, num(k, a, c));
}

/* The bits of a float as a signed integer, and back. */
static inline kiln_kv bits_of(kiln_kernel *k, kiln_kv a)
{
    return kiln_k_bitcast(k, a, is_f64(k, a) ? KILN_i64 : KILN_i32);
}

static inline kiln_kv float_of(kiln_kernel *k, kiln_kv bits)
{
    return kiln_k_bitcast(k, bits, kiln_dtype_bytes(dtype_of(k, bits)) == 8 ? KILN_f64 : KILN_f32);
}

/* Horner's scheme: c[0] + a c[1] + … + a^(n-1) c[n-1]. */
kiln_kv kiln_math_poly(kiln_kernel *k, kiln_kv a, const double *c, uint32_t n);
#define poly_of(k, a, table) kiln_math_poly((k), (a), (table), sizeof(table) / sizeof *(table))

/* Computes `f` of an f32 in f64 and rounds. */
typedef kiln_kv kiln_math_fn(kiln_kernel *k, kiln_kv a);
kiln_kv kiln_math_wide(kiln_kernel *k, kiln_math_fn *f, kiln_kv a);

/* One function a family member; f32 and f64. */
kiln_math_fn kiln_math_exp, kiln_math_expm1, kiln_math_logistic;
kiln_math_fn kiln_math_log, kiln_math_log1p;
kiln_math_fn kiln_math_tanh, kiln_math_erf;
kiln_math_fn kiln_math_sin, kiln_math_cos, kiln_math_tan, kiln_math_atan;
kiln_math_fn kiln_math_rsqrt, kiln_math_sign;
kiln_kv kiln_math_pow(kiln_kernel *k, kiln_kv a, kiln_kv b);
kiln_kv kiln_math_atan2(kiln_kernel *k, kiln_kv y, kiln_kv x);
kiln_kv kiln_math_rem(kiln_kernel *k, kiln_kv a, kiln_kv b);
/* x = 2^e (1 + f) for a normal x > 0, e as a float, 1 + f in [sqrt(1/2), sqrt(2)). */
typedef struct kiln_log_parts {
    kiln_kv e, f;
} kiln_log_parts;
kiln_log_parts kiln_math_log_split(kiln_kernel *k, kiln_kv x);
/* log1p(f) of that f, in f64 for f32 results. */
kiln_kv kiln_math_log_mid(kiln_kernel *k, kiln_kv f);
/* |x| (f64) = quadrant * pi/2 + angle + lost, |angle| <= pi/4; and sine and cosine of angle +
 * lost. */
typedef struct kiln_turns {
    kiln_kv quadrant; /* i64, to be read mod 4 */
    kiln_kv angle, lost;
} kiln_turns;
kiln_turns kiln_math_turns(kiln_kernel *k, kiln_kv x);
kiln_kv kiln_math_turn_sine(kiln_kernel *k, kiln_turns turns);
kiln_kv kiln_math_turn_cosine(kiln_kernel *k, kiln_turns turns);
/* floor, ceil, trunc or round_even; exact on machines without the instruction too. */
kiln_kv kiln_math_round(kiln_kernel *k, kiln_instr_op op, kiln_kv a);
/* Conversion between graph dtypes, in compute dtypes. */
kiln_kv kiln_math_convert(kiln_kernel *k, kiln_kv a, kiln_dtype from, kiln_dtype to);
/* One integer or bool op; NULL result 0 when the op is not one. */
kiln_kv kiln_math_int_op(kiln_kernel *k, kiln_op op, const kiln_kv *args);
#endif
