/* exp, expm1, logistic. x = n ln2 + r with n the nearest integer (found by adding a large constant,
 * so no rounding instruction is needed), e^r = 1 + r (1 + r Q(r)), and 2^n is made from the low
 * bits of the sum: the constant holds the bias. */
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
    {0x1.8p23, 23, 127, -104.0, 89.0, 0x1.63p-1, -0x1.bd0106p-13, -18.0},
    {0x1.8p52, 52, 1023, -746.0, 710.0, 0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33, -40.0},
};

static const exp_format *format_of(const kiln_kernel *k, kiln_kv x)
{
    return &formats[is_f64(k, x)];
}

/* e^x = 2^n e^r, or e^-x = 2^-n e^r; e^r = 1 + r + r^2 q; `bits` end in n + bias. */
typedef struct exp_parts {
    kiln_kv r, q, bits;
    kiln_kv n, r_high; /* r is r_high - n ln2_low, rounded */
} exp_parts;

static exp_parts split(kiln_kernel *k, kiln_kv x, int64_t bias, bool is_inverse)
{
    const exp_format *format = format_of(k, x);
    double magic = format->magic + (double)bias, sign = is_inverse ? 1.0 : -1.0;
    kiln_kv sum = fma_scale(k, x, 0x1.71547652b82fep0, num(k, x, magic));
    kiln_kv n = add_num(k, sum, -magic);
    kiln_kv r_high = fma_scale(k, n, sign * format->ln2_high, is_inverse ? negative(k, x) : x);
    kiln_kv r = fma_scale(k, n, sign * format->ln2_low, r_high);
    kiln_kv q = is_f64(k, x) ? poly_of(k, r, exp_f64) : poly_of(k, r, exp_f32);
    return (exp_parts){.r = r, .q = q, .bits = bits_of(k, sum), .n = n, .r_high = r_high};
}

static exp_parts exp_split(kiln_kernel *k, kiln_kv x, int64_t bias)
{
    return split(k, x, bias, false);
}

static kiln_kv power_of_two(kiln_kernel *k, const exp_format *format, kiln_kv bits)
{
    return float_of(k, int_op(k, KILN_K_shl, bits, format->mantissa));
}

/* a 2^n in two steps, so that only the second one rounds, where the result is denormal; `bits` hold
 * n + 2 bias. */
static kiln_kv scale_by(kiln_kernel *k, const exp_format *format, kiln_kv a, kiln_kv bits)
{
    kiln_kv half = int_op(k, KILN_K_shr, bits, 1);
    kiln_kv rest = sub(k, bits, half);
    a = mul(k, a, power_of_two(k, format, half));
    return mul(k, a, power_of_two(k, format, rest));
}

static bool has_scale(const kiln_kernel *k, kiln_kv a)
{
    return k->machine->has_scale && !is_f64(k, a);
}

/* a 2^n; n is the float of what the bits hold. */
static kiln_kv scale(kiln_kernel *k, const exp_format *format, kiln_kv a, const exp_parts *parts)
{
    if (has_scale(k, a)) return kiln_k_binary(k, KILN_K_scale, a, parts->n);
    return scale_by(k, format, a, parts->bits);
}

/* Below `low` the result is a 0 that is selected, not computed: a product that underflows costs a
 * hundred cycles on common processors, and masks of attention are full of -inf. As one instruction
 * it is masked, so what its operands are there does not matter. */
static kiln_kv above_low(kiln_kernel *k, kiln_kv x, kiln_kv *out_is_low)
{
    *out_is_low = compare_num(k, KILN_K_lt, x, format_of(k, x)->low);
    return has_scale(k, x) ? x : num_where(k, *out_is_low, 0.0, x);
}

/* e^r */
static kiln_kv exp_rest(kiln_kernel *k, const exp_parts *parts)
{
    kiln_kv slope = fma_num(k, parts->r, parts->q, 1.0);
    return fma_num(k, parts->r, slope, 1.0);
}

kiln_kv kiln_math_exp(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    kiln_kv is_low;
    x = at_most(k, above_low(k, x, &is_low), format->high);
    exp_parts parts = exp_split(k, x, 2 * format->bias);
    kiln_kv p = exp_rest(k, &parts);
    return num_where(k, is_low, 0.0, scale(k, format, p, &parts));
}

/* n <= 0, so 2^(n + DOWN) is a normal number, and one product is left to make denormal results. The
 * magic number is as even as the other's: ties go the same way. */
#define DOWN 65
kiln_kv kiln_math_exp_down(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    kiln_kv is_low;
    x = above_low(k, x, &is_low);
    exp_parts parts = exp_split(k, x, format->bias + DOWN);
    kiln_kv p = exp_rest(k, &parts);
    if (has_scale(k, x)) {
        p = kiln_k_binary(k, KILN_K_scale, p, parts.n);
    } else {
        p = mul(k, p, power_of_two(k, format, parts.bits));
        p = mul_num(k, p, 0x1p-65);
    }
    return num_where(k, is_low, 0.0, p);
}

/* 2^n - 1 + 2^n (e^r - 1), with half of 2^n so that n = bias + 1 does not overflow early. */
kiln_kv kiln_math_expm1(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    kiln_kv inside = at_least(k, x, format->minus);
    inside = at_most(k, inside, format->high);
    exp_parts parts = exp_split(k, inside, format->bias - 1);
    kiln_kv scale = power_of_two(k, format, parts.bits);
    kiln_kv rest = add_num(k, scale, -0.5);
    kiln_kv lost = fma_scale(k, parts.n, -format->ln2_low, sub(k, parts.r_high, parts.r));
    kiln_kv square = mul(k, parts.r, parts.r);
    kiln_kv tail = kiln_k_fma(k, square, parts.q, lost);
    kiln_kv half = kiln_k_fma(k, scale, parts.r, rest); /* exact where the result is below 1 */
    half = kiln_k_fma(k, scale, tail, half);
    kiln_kv result = add(k, half, half);
    kiln_kv is_tiny = compare_num(k, KILN_K_lt, absolute(k, x), 0x1p-60);
    return kiln_k_select(k, is_tiny, x, result);
}

/* With v = 2^n, x = n ln2 - r: v / (1 + (v + (e^r - 1))). The inner sum rounds where it is small,
 * so that x < 0 loses nothing by 1 being added last. v is 2^64 times as large, which leaves the
 * last product to make denormal results. The quotient is cheaper than steps towards the reciprocal:
 * three instructions that wait beside other work. */
kiln_kv kiln_math_logistic(kiln_kernel *k, kiln_kv x)
{
    const exp_format *format = format_of(k, x);
    kiln_kv is_low = compare_num(k, KILN_K_lt, x, format->low);
    exp_parts parts = split(k, at_most(k, x, 40.0), format->bias + 64, true);
    kiln_kv slope = fma_num(k, parts.r, parts.q, 1.0);
    kiln_kv rest = mul(k, parts.r, slope);
    kiln_kv v = power_of_two(k, format, parts.bits);
    kiln_kv sum = add_num(k, fma_scale(k, v, 0x1p-64, rest), 1.0);
    return num_where(k, is_low, 0.0, mul_num(k, quotient(k, v, sum), 0x1p-64));
}
