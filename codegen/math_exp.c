/* exp, expm1, logistic. x = n ln2 + r with n the nearest integer (found by adding a large constant, so
 * no rounding instruction is needed), e^r = 1 + (r + r^2 Q(r)), and 2^n is made from the low bits of
 * the sum: the constant holds the bias. */
#include "codegen/math_build.h"
#include "codegen/math_tables.h"

typedef struct exp_format {
    double magic;        /* 1.5 * 2^(bits of the mantissa) */
    int64_t mantissa;    /* its bits */
    int64_t bias;
    double low, high;    /* e^low is 0, e^high infinite, when rounded */
    double ln2_high, ln2_low; /* n * ln2_high is exact */
    double minus;        /* e^minus - 1 rounds to -1 */
} exp_format;

static const exp_format formats[2] = {
    {0x1.8p23, 23, 127, -104.5, 89.0, 0x1.63p-1, -0x1.bd0106p-13, -18.0},
    {0x1.8p52, 52, 1023, -746.0, 710.0, 0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33, -40.0},
};

static const exp_format *format_of(const kiln_kernel *k, kiln_kv x)
{
    return &formats[is_f64(k, x)];
}

/* e^x = 2^n (1 + tail); `bits` hold n + bias in their low end. */
typedef struct exp_parts {
    kiln_kv tail, bits;
} exp_parts;

static exp_parts exp_split(kiln_kernel *k, kiln_kv x, int64_t bias)
{
    const exp_format *format = format_of(k, x);
    double magic = format->magic + (double)bias;
    kiln_kv sum = fma_scale(k, x, 0x1.71547652b82fep0, num(k, x, magic));
    kiln_kv n = add_num(k, sum, -magic);
    kiln_kv r = fma_scale(k, n, -format->ln2_high, x);
    r = fma_scale(k, n, -format->ln2_low, r);
    kiln_kv q = is_f64(k, x) ? poly_of(k, r, exp_f64) : poly_of(k, r, exp_f32);
    kiln_kv square = mul(k, r, r);
    kiln_kv tail = kiln_k_fma(k, square, q, r);
    return (exp_parts){.tail = tail, .bits = bits_of(k, sum)};
}

static kiln_kv power_of_two(kiln_kernel *k, const exp_format *format, kiln_kv bits)
{
    return float_of(k, int_op(k, KILN_K_shl, bits, format->mantissa));
}

/* e^x for x in [low, high] or NaN, denormal results and overflow included: 2^n in two steps, so that
 * only the second one rounds. */
static kiln_kv exp_in_range(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    exp_parts parts = exp_split(k, x, 2 * format->bias);
    kiln_kv p = add_num(k, parts.tail, 1.0);
    kiln_kv half = int_op(k, KILN_K_shr, parts.bits, 1);
    kiln_kv rest = sub(k, parts.bits, half);
    p = mul(k, p, power_of_two(k, format, half));
    return mul(k, p, power_of_two(k, format, rest));
}

kiln_kv kiln_math_exp(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    x = at_least(k, x, format->low);
    return exp_in_range(k, at_most(k, x, format->high));
}

/* 2^n - 1 + 2^n tail, with half of 2^n so that n = bias + 1 does not overflow early. */
kiln_kv kiln_math_expm1(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    kiln_kv inside = at_least(k, x, format->minus);
    inside = at_most(k, inside, format->high);
    exp_parts parts = exp_split(k, inside, format->bias - 1);
    kiln_kv scale = power_of_two(k, format, parts.bits);
    kiln_kv rest = add_num(k, scale, -0.5);
    kiln_kv half = kiln_k_fma(k, scale, parts.tail, rest);
    kiln_kv result = add(k, half, half);
    kiln_kv is_tiny = compare_num(k, KILN_K_lt, absolute(k, x), 0x1p-60);
    return kiln_k_select(k, is_tiny, x, result);
}

/* 1 / (1 + z) for z in [0, 1]: a cubic, then one step of third order on the exact residual. */
static kiln_kv reciprocal(kiln_kernel *k, kiln_kv z)
{
    if (is_f64(k, z)) {
        kiln_kv one = num(k, z, 1.0);
        return quotient(k, one, add(k, one, z));
    }
    kiln_kv r = poly_of(k, z, reciprocal_f32);
    kiln_kv rest = num_sub(k, 1.0, r);
    kiln_kv e = kiln_k_fma(k, negative(k, r), z, rest);
    e = kiln_k_fma(k, e, e, e);
    return kiln_k_fma(k, r, e, r);
}

/* By z = e^-|x|: 1 / (1 + z), or z / (1 + z) left of 0. */
kiln_kv kiln_math_logistic(kiln_kernel *k, kiln_kv x)
{
    kiln_kv size = at_most(k, absolute(k, x), -format_of(k, x)->low);
    kiln_kv z = exp_in_range(k, negative(k, size));
    kiln_kv r = reciprocal(k, z);
    kiln_kv is_left = compare_num(k, KILN_K_lt, x, 0.0);
    return mul(k, r, else_num(k, is_left, z, 1.0));
}

