/* pow: |x|^y = 2^(y log2|x|), then the sign. f32 works in f64, whose spare bits absorb that the
 * error of the logarithm grows by y; f64 keeps the logarithm as a sum of two numbers for the same
 * reason. */
#include <math.h>

#include "codegen/math_build.h"
#include "codegen/math_tables.h"

#define LN2 0x1.62e42fefa39efp-1
#define LOG2_E 0x1.71547652b82fep0
#define SQRT_HALF 0x3fe6a09e667f3bcd /* its bits */

/* log2 |x| for pow: -inf at 0, inf and NaN as they are. */
static kiln_kv log2_size(kiln_kernel *k, kiln_kv size, kiln_kv value)
{
    value = kiln_k_select(k, compare_num(k, KILN_K_lt, size, INFINITY), value, size);
    return num_where(k, compare_num(k, KILN_K_eq, size, 0.0), -INFINITY, value);
}

/* |x|^y is 1 whatever the other operand: so y log2|x| is 0, not 0 * inf. */
static kiln_kv is_constant_one(kiln_kernel *k, kiln_kv size, kiln_kv y)
{
    kiln_kv is_one = compare_num(k, KILN_K_eq, size, 1.0);
    return either(k, is_one, compare_num(k, KILN_K_eq, y, 0.0));
}

/* |x|^y in f64 for f32 operands. */
static kiln_kv pow_size(kiln_kernel *k, kiln_kv size, kiln_kv y)
{
    kiln_log_parts parts = kiln_math_log_split(k, size);
    kiln_kv value = fma_scale(k, kiln_math_log_mid(k, parts.f), LOG2_E, parts.e);
    kiln_kv w = mul(k, y, log2_size(k, size, value));
    w = num_where(k, is_constant_one(k, size, y), 0.0, w);
    w = at_least(k, w, -200.0);
    w = at_most(k, w, 200.0);
    double magic = 0x1.8p52 + 1023;
    kiln_kv sum = add_num(k, w, magic);
    kiln_kv r = sub(k, w, add_num(k, sum, -magic));
    r = mul_num(k, r, LN2);
    kiln_kv scale = float_of(k, int_op(k, KILN_K_shl, bits_of(k, sum), 52));
    kiln_kv square = mul(k, r, r);
    kiln_kv tail = kiln_k_fma(k, square, poly_of(k, r, exp_mid), r);
    return mul(k, add_num(k, tail, 1.0), scale);
}

/* A double-double: high + low. */
typedef struct wide_value {
    kiln_kv high, low;
} wide_value;

/* What rounding a * b to `high` lost (by fma; where there is none, only a part of it). */
static kiln_kv product_low(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv high)
{
    return kiln_k_fma(k, a, b, negative(k, high));
}

/* a + b with what rounding lost. */
static wide_value sum_exact(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv high = add(k, a, b);
    kiln_kv from_b = sub(k, high, a);
    kiln_kv from_a = sub(k, high, from_b);
    kiln_kv lost_a = sub(k, a, from_a);
    kiln_kv lost_b = sub(k, b, from_b);
    return (wide_value){.high = high, .low = add(k, lost_a, lost_b)};
}

static kiln_kv entry(kiln_kernel *k, const double *table, kiln_kv index)
{
    return kiln_k_lookup(k, kiln_kernel_add_table(k, KILN_f64, 32, table), index);
}

/* log2 of m 2^e by c, 1 / m of its interval to 7 bits: f = m c - 1 is small, log2(1 / c) comes in
 * two parts, and log2(1 + f) is f log2(e), a product of two parts, and f^2 P(f). */
static wide_value log2_near(kiln_kernel *k, kiln_kv e, kiln_kv m, kiln_kv interval)
{
    kiln_kv c = entry(k, pow_inverse, interval), product = mul(k, m, c);
    kiln_kv f = add_num(k, product, -1.0); /* exact; beyond 2^-6 m c - 1 has a bit more */
    kiln_kv main_part = mul_num(k, f, LOG2_E);
    kiln_kv low = product_low(k, f, num(k, f, LOG2_E), main_part);
    low = fma_scale(k, f, 0x1.777d0ffda0d24p-56, low); /* log2(e) - LOG2_E */
    kiln_kv lost = mul_num(k, product_low(k, m, c, product), LOG2_E);
    low = add(k, low, kiln_k_fma(k, negative(k, lost), f, lost)); /* lost / (1 + f) */
    kiln_kv square = mul(k, f, f);
    low = kiln_k_fma(k, square, poly_of(k, f, pow_tail), low);
    low = add(k, low, entry(k, pow_log_low, interval));
    kiln_kv head = add(k, e, entry(k, pow_log_high, interval)); /* exact: 40 bits and 11 */
    wide_value sum = sum_exact(k, head, main_part);
    sum.low = add(k, sum.low, low);
    return sum;
}

static wide_value log2_double(kiln_kernel *k, kiln_kv size)
{
    kiln_kv is_small = compare_num(k, KILN_K_lt, size, 0x1p-1022);
    kiln_kv normal = kiln_k_select(k, is_small, mul_num(k, size, 0x1p54), size);
    kiln_kv shift = num_where(k, is_small, -54.0, num(k, size, 0.0));
    kiln_kv bits = int_op(k, KILN_K_sub, bits_of(k, normal), SQRT_HALF);
    kiln_kv e = int_op(k, KILN_K_shr, bits, 52);
    e = float_of(k, int_op(k, KILN_K_add, e, 0x4338000000000000)); /* the bits of 1.5 * 2^52 */
    e = add(k, add_num(k, e, -0x1.8p52), shift);
    kiln_kv m = int_op(k, KILN_K_and, bits, 0xfffffffffffff);
    kiln_kv interval = kiln_k_convert(k, int_op(k, KILN_K_shr, m, 47), KILN_i32);
    m = float_of(k, int_op(k, KILN_K_add, m, SQRT_HALF));
    return log2_near(k, e, m, interval);
}

/* 2^(w + low) for |w| <= 1100: the power of two in two steps, for denormal results. */
static kiln_kv exp2_double(kiln_kernel *k, kiln_kv w, kiln_kv low)
{
    double magic = 0x1.8p52 + 2046;
    kiln_kv sum = add_num(k, w, magic);
    kiln_kv r = sub(k, w, add_num(k, sum, -magic));
    r = mul_num(k, add(k, r, low), LN2);
    kiln_kv half = int_op(k, KILN_K_shr, bits_of(k, sum), 1);
    kiln_kv rest = sub(k, bits_of(k, sum), half);
    kiln_kv square = mul(k, r, r);
    kiln_kv tail = kiln_k_fma(k, square, poly_of(k, r, exp_f64), r);
    kiln_kv p = add_num(k, tail, 1.0);
    p = mul(k, p, float_of(k, int_op(k, KILN_K_shl, half, 52)));
    return mul(k, p, float_of(k, int_op(k, KILN_K_shl, rest, 52)));
}

static kiln_kv pow_size_double(kiln_kernel *k, kiln_kv size, kiln_kv y)
{
    wide_value value = log2_double(k, size);
    kiln_kv high = log2_size(k, size, value.high);
    kiln_kv w = mul(k, y, high);
    kiln_kv low = product_low(k, y, high, w);
    low = kiln_k_fma(k, y, value.low, low);
    w = num_where(k, is_constant_one(k, size, y), 0.0, w);
    kiln_kv is_inside = compare_num(k, KILN_K_lt, absolute(k, w), 1100.0);
    kiln_kv is_sound = compare_num(k, KILN_K_lt, absolute(k, low), 1.0);
    low = else_num(k, both(k, is_inside, is_sound), low, 0.0);
    return exp2_double(k, at_most(k, at_least(k, w, -1100.0), 1100.0), low);
}

/* The sign of x^y, and NaN for a negative x to a power that is not an integer. */
static kiln_kv pow_sign(kiln_kernel *k, kiln_kv x, kiln_kv y, kiln_kv value)
{
    bool is_wide = is_f64(k, y);
    double even_from = is_wide ? 0x1p53 : 0x1p24; /* all larger numbers are even integers */
    kiln_kv is_even = compare_num(k, KILN_K_ge, absolute(k, y), even_from);
    kiln_kv n = kiln_k_convert(k, y, is_wide ? KILN_i64 : KILN_i32);
    kiln_kv is_whole = is_eq(k, kiln_k_convert(k, n, dtype_of(k, y)), y);
    kiln_kv low = int_op(k, KILN_K_and, n, 1);
    kiln_kv is_odd = int_op(k, KILN_K_ne, low, 0);
    is_odd = both(k, is_odd, is_whole);
    is_odd = both(k, is_odd, kiln_k_unary(k, KILN_K_not, is_even));
    is_whole = either(k, is_whole, is_even);
    value = kiln_k_select(k, is_odd, copy_sign(k, value, x), value);
    kiln_kv is_wrong = compare_num(k, KILN_K_lt, x, 0.0);
    is_wrong = both(k, is_wrong, compare_num(k, KILN_K_gt, x, -INFINITY));
    is_wrong = both(k, is_wrong, kiln_k_unary(k, KILN_K_not, is_whole));
    return num_where(k, is_wrong, NAN, value);
}

kiln_kv kiln_math_pow(kiln_kernel *k, kiln_kv x, kiln_kv y)
{
    kiln_kv size = absolute(k, x), value;
    if (is_f64(k, x)) {
        value = pow_size_double(k, size, y);
    } else {
        size = kiln_k_convert(k, size, KILN_f64);
        value = pow_size(k, size, kiln_k_convert(k, y, KILN_f64));
        value = kiln_k_convert(k, value, KILN_f32);
    }
    value = pow_sign(k, x, y, value);
    kiln_kv is_one = compare_num(k, KILN_K_eq, x, 1.0); /* to any power, NaN too */
    return num_where(k, is_one, 1.0, value);
}
