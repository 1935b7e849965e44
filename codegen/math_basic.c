/* Functions that are exact or nearly one instruction: rounding to integers, remainder, sign, rsqrt,
 * and the polynomial scheme the others share. */
#include <math.h>

#include "codegen/math_build.h"

kiln_kv kiln_math_poly(kiln_kernel *k, kiln_kv a, const double *c, uint32_t n)
{
    kiln_kv sum = num(k, a, c[n - 1]);
    for (uint32_t i = n - 1; i > 0; i--) sum = fma_num(k, sum, a, c[i - 1]);
    return sum;
}

kiln_kv kiln_math_wide(kiln_kernel *k, kiln_math_fn *f, kiln_kv a)
{
    return kiln_k_convert(k, f(k, kiln_k_convert(k, a, KILN_f64)), KILN_f32);
}

/* Without the instruction: |a| + 2^mantissa - 2^mantissa is the nearest integer, one step corrects
 * it. */
static kiln_kv round_by_adding(kiln_kernel *k, kiln_instr_op op, kiln_kv a)
{
    double magic = is_f64(k, a) ? 0x1p52 : 0x1p23;
    kiln_kv size = absolute(k, a);
    kiln_kv nearest = add_num(k, add_num(k, size, magic), -magic);
    nearest = copy_sign(k, nearest, a);
    kiln_kv wrong = 0, fixed = 0;
    if (op == KILN_K_floor) {
        wrong = kiln_k_binary(k, KILN_K_gt, nearest, a);
        fixed = add_num(k, nearest, -1.0);
    } else if (op == KILN_K_ceil) {
        wrong = kiln_k_binary(k, KILN_K_lt, nearest, a);
        fixed = add_num(k, nearest, 1.0);
    } else if (op == KILN_K_trunc) {
        wrong = kiln_k_binary(k, KILN_K_gt, absolute(k, nearest), size);
        fixed = sub(k, nearest, copy_sign(k, num(k, a, 1.0), a));
    }
    if (wrong) nearest = kiln_k_select(k, wrong, fixed, nearest);
    nearest = copy_sign(k, nearest, a);
    return kiln_k_select(k, compare_num(k, KILN_K_lt, size, magic), nearest, a);
}

kiln_kv kiln_math_round(kiln_kernel *k, kiln_instr_op op, kiln_kv a)
{
    return k->machine->has_round ? kiln_k_unary(k, op, a) : round_by_adding(k, op, a);
}

kiln_kv kiln_math_sign(kiln_kernel *k, kiln_kv a)
{
    kiln_kv has_sign = compare_num(k, KILN_K_gt, absolute(k, a), 0.0);
    return kiln_k_select(k, has_sign, copy_sign(k, num(k, a, 1.0), a), a);
}

/* r = 1 / sqrt(a) rounded twice, then what both roundings lost: with s = sqrt(a) rounded, s s - a
 * and 1 - r s are exact by fma. Small operands are scaled so that the residuals do not vanish. */
kiln_kv kiln_math_rsqrt(kiln_kernel *k, kiln_kv a)
{
    double least = is_f64(k, a) ? 0x1p-900 : 0x1p-100, scale = is_f64(k, a) ? 0x1p200 : 0x1p48;
    kiln_kv is_small = compare_num(k, KILN_K_lt, a, least);
    kiln_kv scaled = kiln_k_select(k, is_small, mul_num(k, a, scale), a);
    kiln_kv s = kiln_k_unary(k, KILN_K_sqrt, scaled);
    kiln_kv r = quotient(k, num(k, s, 1.0), s);
    kiln_kv of_root = kiln_k_fma(k, s, s, negative(k, scaled));
    kiln_kv of_quotient = fma_num(k, negative(k, r), s, 1.0);
    kiln_kv square = mul(k, r, r);
    kiln_kv error = kiln_k_fma(k, mul_num(k, of_root, 0.5), square, of_quotient);
    kiln_kv refined = kiln_k_fma(k, r, error, r);
    kiln_kv is_plain = compare_num(k, KILN_K_lt, r, INFINITY); /* not a = 0, inf or NaN */
    is_plain = both(k, is_plain, compare_num(k, KILN_K_gt, r, 0.0));
    r = kiln_k_select(k, is_plain, refined, r);
    kiln_kv back = else_num(k, is_small, num(k, r, sqrt(scale)), 1.0);
    return mul(k, r, back);
}

/* The exponent (biased) of a number >= 0, denormals by what it would be. */
static kiln_kv exponent_of(kiln_kernel *k, kiln_kv a)
{
    kiln_kv is_small = compare_num(k, KILN_K_lt, a, 0x1p-1022);
    kiln_kv normal = kiln_k_select(k, is_small, mul_num(k, a, 0x1p54), a);
    kiln_kv exponent = int_op(k, KILN_K_shr, bits_of(k, normal), 52);
    return kiln_k_select(k, is_small, int_op(k, KILN_K_sub, exponent, 54), exponent);
}

/* b 2^s, s >= 0: in two steps, since 2^s itself may overflow. */
static kiln_kv scale_up(kiln_kernel *k, kiln_kv b, kiln_kv s)
{
    kiln_kv half = int_op(k, KILN_K_shr, s, 1);
    kiln_kv rest = sub(k, s, half);
    half = int_op(k, KILN_K_shl, int_op(k, KILN_K_add, half, 1023), 52);
    rest = int_op(k, KILN_K_shl, int_op(k, KILN_K_add, rest, 1023), 52);
    b = mul(k, b, float_of(k, half));
    return mul(k, b, float_of(k, rest));
}

/* One bit of the quotient, for f64 without fma: r - b 2^s, the multiple nearest below r. */
static kiln_kv rem_bit(kiln_kernel *k, kiln_kv r, kiln_kv b)
{
    kiln_kv of_r = exponent_of(k, r);
    kiln_kv s = sub(k, of_r, exponent_of(k, b));
    kiln_kv unit = scale_up(k, b, int_op(k, KILN_K_max, s, 0));
    kiln_kv is_above = kiln_k_binary(k, KILN_K_gt, unit, r);
    unit = kiln_k_select(k, is_above, mul_num(k, unit, 0.5), unit);
    kiln_kv left = sub(k, r, unit);
    return kiln_k_select(k, is_lt(k, r, b), r, left);
}

/* One step of the division: r - q b 2^s with q b 2^s the largest multiple of b 2^s <= r, for s such
 * that q < 2^27 or so: exact. */
static kiln_kv rem_step(kiln_kernel *k, kiln_kv r, kiln_kv b)
{
    kiln_kv of_r = exponent_of(k, r);
    kiln_kv s = sub(k, of_r, exponent_of(k, b));
    s = int_op(k, KILN_K_max, int_op(k, KILN_K_sub, s, 26), 0);
    kiln_kv unit = scale_up(k, b, s);
    kiln_kv q = kiln_math_round(k, KILN_K_trunc, quotient(k, r, unit));
    kiln_kv left = kiln_k_fma(k, negative(k, q), unit, r);
    kiln_kv is_over = compare_num(k, KILN_K_lt, left, 0.0); /* the quotient was rounded up */
    left = kiln_k_select(k, is_over, add(k, left, unit), left);
    kiln_kv is_done = is_lt(k, r, b);
    return kiln_k_select(k, is_done, r, left);
}

/* |a| rem |b| in f64, `n_steps` of 26 bits of the quotient, or of one bit. */
static kiln_kv rem_size(kiln_kernel *k, kiln_kv a, kiln_kv b, int64_t n_steps)
{
    bool is_by_bit = n_steps > 100;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, n_steps);
    kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    kiln_kv r = kiln_k_carry(k, a);
    kiln_k_next(k, r, is_by_bit ? rem_bit(k, r, b) : rem_step(k, r, b));
    kiln_k_end(k);
    return kiln_k_last(k, r);
}

kiln_kv kiln_math_rem(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv size_a = absolute(k, a), size_b = absolute(k, b), r;
    if (is_f64(k, a)) {
        r = rem_size(k, size_a, size_b, k->machine->has_fma ? 82 : 2150);
    } else {
        kiln_kv wide_a = kiln_k_convert(k, size_a, KILN_f64);
        r = rem_size(k, wide_a, kiln_k_convert(k, size_b, KILN_f64), 12);
        r = kiln_k_convert(k, r, KILN_f32);
    }
    r = copy_sign(k, r, a);
    kiln_kv is_finite = compare_num(k, KILN_K_lt, size_a, INFINITY);
    kiln_kv by_infinity = compare_num(k, KILN_K_eq, size_b, INFINITY);
    r = kiln_k_select(k, by_infinity, a, r);
    kiln_kv is_sound = both(k, is_finite, compare_num(k, KILN_K_gt, size_b, 0.0));
    return else_num(k, is_sound, r, NAN);
}
