/* log, log1p. x = 2^e m with m in [sqrt(1/2), sqrt(2)), log x = e ln2 + log1p(m - 1). The f32
 * form of log1p works in f64, whose 29 spare bits make it right but for the last rounding. */
#include <math.h>

#include "codegen/math_build.h"
#include "codegen/math_tables.h"

#define LN2 0x1.62e42fefa39efp-1

typedef struct log_format {
    int64_t sqrt_half;    /* bits of sqrt(1/2) */
    int64_t fraction;     /* mask of the mantissa */
    int64_t mantissa;
    double least, scale;  /* least normal number; what makes denormals normal */
    double scale_log2;
    double magic;
    double ln2_high, ln2_low;
} log_format;

static const log_format formats[2] = {
    {0x3f3504f3, 0x7fffff, 23, 0x1p-126, 0x1p24, 24, 0x1.8p23, 0x1.63p-1, -0x1.bd0106p-13},
    {0x3fe6a09e667f3bcd, 0xfffffffffffff, 52, 0x1p-1022, 0x1p54, 54, 0x1.8p52, 0x1.62e42fee00000p-1,
     0x1.a39ef35793c76p-33},
};

kiln_log_parts kiln_math_log_split(kiln_kernel *k, kiln_kv x)
{
    const log_format *format = &formats[is_f64(k, x)];
    kiln_kv bits = int_op(k, KILN_K_sub, bits_of(k, x), format->sqrt_half);
    kiln_kv e = int_op(k, KILN_K_shr, bits, format->mantissa);
    union {
        double d;
        float f;
        int64_t i64;
        int32_t i32;
    } magic = {0};
    if (is_f64(k, x)) {
        magic.d = format->magic;
    } else {
        magic.f = (float)format->magic;
    }
    e = int_op(k, KILN_K_add, e, is_f64(k, x) ? magic.i64 : magic.i32);
    kiln_kv m = int_op(k, KILN_K_and, bits, format->fraction);
    m = float_of(k, int_op(k, KILN_K_add, m, format->sqrt_half));
    kiln_kv exponent = add_num(k, float_of(k, e), -format->magic);
    return (kiln_log_parts){.e = exponent, .f = add_num(k, m, -1.0)};
}

/* log1p(f) - f, and ln2_low e added to it. */
static kiln_kv log_tail(kiln_kernel *k, kiln_log_parts parts, double ln2_low)
{
    kiln_kv f = parts.f;
    if (is_f64(
            k,
            f)) { /* s = f / (2 + f): log1p(f) = f - (h - s (h + z R(z))), h = f^2 / 2, z = s^2 */
        kiln_kv s = quotient(k, f, add_num(k, f, 2.0));
        kiln_kv h = mul(k, f, mul_num(k, f, 0.5));
        kiln_kv z = mul(k, s, s);
        kiln_kv inner = kiln_k_fma(k, z, poly_of(k, z, log_f64), h);
        inner = mul(k, s, inner);
        inner = fma_scale(k, parts.e, ln2_low, inner);
        return sub(k, inner, h);
    }
    kiln_kv square = mul(k, f, f);
    kiln_kv cube = mul(k, square, f);
    kiln_kv rest = mul(k, cube, poly_of(k, f, log_f32));
    rest = fma_scale(k, parts.e, ln2_low, rest);
    return fma_scale(k, square, -0.5, rest);
}

/* e ln2_high + f with what its rounding lost, then the tail. */
static kiln_kv log_sum(kiln_kernel *k, kiln_log_parts parts)
{
    const log_format *format = &formats[is_f64(k, parts.f)];
    kiln_kv tail = log_tail(k, parts, format->ln2_low);
    kiln_kv high = mul_num(k, parts.e, format->ln2_high);
    kiln_kv sum = add(k, high, parts.f);
    kiln_kv lost = sub(k, parts.f, sub(k, sum, high));
    return add(k, sum, add(k, tail, lost));
}

/* -inf at 0, NaN below, x itself for inf and NaN. */
static kiln_kv log_edges(kiln_kernel *k, kiln_kv x, kiln_kv value)
{
    value = kiln_k_select(k, compare_num(k, KILN_K_lt, x, INFINITY), value, x);
    kiln_kv is_zero = compare_num(k, KILN_K_eq, x, 0.0);
    kiln_kv edge = num_where(k, is_zero, -INFINITY, num(k, x, NAN));
    return kiln_k_select(k, compare_num(k, KILN_K_le, x, 0.0), edge, value);
}

kiln_kv kiln_math_log(kiln_kernel *k, kiln_kv x)
{
    const log_format *format = &formats[is_f64(k, x)];
    kiln_kv is_small = compare_num(k, KILN_K_lt, x, format->least);
    kiln_kv normal = kiln_k_select(k, is_small, mul_num(k, x, format->scale), x);
    kiln_kv shift = num_where(k, is_small, -format->scale_log2, num(k, x, 0.0));
    kiln_log_parts parts = kiln_math_log_split(k, normal);
    parts.e = add(k, parts.e, shift);
    return log_edges(k, x, log_sum(k, parts));
}

kiln_kv kiln_math_log_mid(kiln_kernel *k, kiln_kv f)
{
    kiln_kv square = mul(k, f, f);
    return kiln_k_fma(k, square, poly_of(k, f, log_mid), f);
}

static kiln_kv log1p_single(kiln_kernel *k, kiln_kv x)
{
    kiln_kv one_more = add_num(k, x, 1.0);
    kiln_log_parts parts = kiln_math_log_split(k, one_more);
    kiln_kv value = kiln_math_log_mid(k, parts.f);
    value = fma_scale(k, parts.e, LN2, value);
    return log_edges(k, one_more, value);
}

/* log(u) + (x - (u - 1)) / u with u = 1 + x rounded. */
static kiln_kv log1p_double(kiln_kernel *k, kiln_kv x)
{
    kiln_kv u = add_num(k, x, 1.0);
    kiln_log_parts parts = kiln_math_log_split(k, u);
    kiln_kv lost = sub(k, x, add_num(k, u, -1.0));
    kiln_kv is_large = compare_num(k, KILN_K_gt, x, 0x1p53); /* u - 1 is x, or inf - inf */
    lost = quotient(k, num_where(k, is_large, 0.0, lost), u);
    kiln_kv value = log_sum(k, parts);
    return log_edges(k, u, add(k, value, lost));
}

kiln_kv kiln_math_log1p(kiln_kernel *k, kiln_kv x)
{
    bool is_wide = is_f64(k, x);
    kiln_kv value = is_wide ? log1p_double(k, x) : kiln_math_wide(k, log1p_single, x);
    kiln_kv is_tiny = compare_num(k, KILN_K_lt, absolute(k, x), is_wide ? 0x1p-54 : 0x1p-26);
    return kiln_k_select(k, is_tiny, x, value);
}
