/* Reduction of f64 angles: |x| = m 2^q times the 192 bits of 2/pi that matter, in integers (Payne
 * and Hanek), so every double has its right quadrant and 53 right bits of the rest. Small angles
 * stay. */
#include "codegen/math_build.h"
#include "codegen/math_tables.h"

#define LOW_32 0xffffffff
#define PI_2_HIGH 0x1.921fb54442d18p0
#define PI_2_LOW 0x1.1a62633145c07p-54

static kiln_kv shift_left(kiln_kernel *k, kiln_kv a, int64_t n)
{
    return int_op(k, KILN_K_shl, a, n);
}

static kiln_kv shift_right(kiln_kernel *k, kiln_kv a, int64_t n)
{
    return int_op(k, KILN_K_shr, a, n);
}

/* High 64 bits of the product of two u64. */
static kiln_kv product_high(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv a0 = int_op(k, KILN_K_and, a, LOW_32), a1 = shift_right(k, a, 32);
    kiln_kv b0 = int_op(k, KILN_K_and, b, LOW_32), b1 = shift_right(k, b, 32);
    kiln_kv p00 = mul(k, a0, b0), p01 = mul(k, a0, b1);
    kiln_kv p10 = mul(k, a1, b0), p11 = mul(k, a1, b1);
    kiln_kv middle = shift_right(k, p00, 32);
    middle = add(k, middle, int_op(k, KILN_K_and, p01, LOW_32));
    middle = add(k, middle, int_op(k, KILN_K_and, p10, LOW_32));
    kiln_kv high = add(k, p11, shift_right(k, p01, 32));
    high = add(k, high, shift_right(k, p10, 32));
    return add(k, high, shift_right(k, middle, 32));
}

/* 64 bits of 2/pi from bit `shift` of word `index` on, for three consecutive words. */
static void inverse_bits(kiln_kernel *k, kiln_kv index, kiln_kv shift, kiln_kv out[3])
{
    uint32_t table = kiln_kernel_add_table(k, KILN_u64, 20, two_over_pi_words);
    kiln_kv words[4];
    for (int64_t i = 0; i < 4; i++)
        words[i] = kiln_k_lookup(k, table, int_op(k, KILN_K_add, index, i));
    kiln_kv rest = sub(k, whole(k, shift, 63), shift);
    for (int i = 0; i < 3; i++) {
        kiln_kv high = kiln_k_binary(k, KILN_K_shl, words[i], shift);
        kiln_kv low = shift_right(k, words[i + 1], 1);
        out[i] = either(k, high, kiln_k_binary(k, KILN_K_shr, low, rest));
    }
}

/* |x| times 2/pi mod 4 as 128 bits: the quadrant, then a signed fraction times 2^126 in two
 * words. */
typedef struct fixed_turns {
    kiln_kv quadrant, high, low; /* u64, i64, u64 */
} fixed_turns;

static fixed_turns turns_fixed(kiln_kernel *k, kiln_kv x)
{
    kiln_kv bits = kiln_k_bitcast(k, absolute(k, x), KILN_u64);
    kiln_kv exponent = int_op(k, KILN_K_max, shift_right(k, bits, 52), 1013);
    kiln_kv m = int_op(k, KILN_K_and, bits, 0xfffffffffffff);
    m = int_op(k, KILN_K_or, m, 0x10000000000000);
    kiln_kv first =
        int_op(k, KILN_K_sub, exponent, 1013); /* first bit that matters, after 64 zeros */
    kiln_kv index = kiln_k_convert(k, shift_right(k, first, 6), KILN_i32);
    index = int_op(k, KILN_K_min, index, 16);
    kiln_kv inverse[3];
    inverse_bits(k, index, int_op(k, KILN_K_and, first, 63), inverse);
    kiln_kv middle = mul(k, m, inverse[1]);
    kiln_kv low = add(k, middle, product_high(k, m, inverse[2]));
    kiln_kv has_carry = is_lt(k, low, middle);
    kiln_kv high = mul(k, m, inverse[0]);
    high = add(k, high, product_high(k, m, inverse[1]));
    high = kiln_k_select(k, has_carry, int_op(k, KILN_K_add, high, 1), high);
    kiln_kv quadrant = shift_right(k, int_op(k, KILN_K_add, high, (int64_t)1 << 61), 62);
    high = sub(k, high, shift_left(k, quadrant, 62));
    high = kiln_k_bitcast(k, high, KILN_i64);
    return (fixed_turns){.quadrant = quadrant, .high = high, .low = low};
}

kiln_turns kiln_math_turns(kiln_kernel *k, kiln_kv x)
{
    fixed_turns fixed = turns_fixed(k, x);
    kiln_kv head = shift_left(k, shift_right(k, fixed.high, 11), 11);
    kiln_kv rest = int_op(k, KILN_K_and, fixed.high, 0x7ff);
    kiln_kv tail = kiln_k_convert(k, shift_right(k, fixed.low, 11), KILN_f64);
    rest = fma_scale(k, tail, 0x1p-53, kiln_k_convert(k, rest, KILN_f64));
    head = kiln_k_convert(k, head, KILN_f64);
    kiln_kv high = add(k, head, rest);
    kiln_kv low = sub(k, rest, sub(k, high, head));
    high = mul_num(k, high, 0x1p-62);
    low = mul_num(k, low, 0x1p-62);
    /* times pi/2 */
    kiln_kv angle = mul_num(k, high, PI_2_HIGH);
    kiln_kv lost = fma_scale(k, high, PI_2_HIGH, negative(k, angle));
    lost = fma_scale(k, high, PI_2_LOW, lost);
    lost = fma_scale(k, low, PI_2_HIGH, lost);
    kiln_kv size = absolute(k, x);
    kiln_kv is_small = compare_num(k, KILN_K_lt, size, 0.785);
    kiln_kv quadrant = kiln_k_bitcast(k, fixed.quadrant, KILN_i64);
    quadrant = kiln_k_select(k, is_small, whole(k, quadrant, 0), quadrant);
    angle = kiln_k_select(k, is_small, size, angle);
    lost = num_where(k, is_small, 0.0, lost);
    return (kiln_turns){.quadrant = quadrant, .angle = angle, .lost = lost};
}

kiln_kv kiln_math_turn_sine(kiln_kernel *k, kiln_turns turns)
{
    kiln_kv y = turns.angle;
    kiln_kv z = mul(k, y, y);
    kiln_kv cube = mul(k, y, z);
    kiln_kv tail = mul(k, cube, poly_of(k, z, sin_f64));
    kiln_kv slope = fma_scale(k, z, -0.5, num(k, z, 1.0));
    tail = kiln_k_fma(k, turns.lost, slope, tail);
    return add(k, y, tail);
}

kiln_kv kiln_math_turn_cosine(kiln_kernel *k, kiln_turns turns)
{
    kiln_kv y = turns.angle;
    kiln_kv z = mul(k, y, y);
    kiln_kv half = mul_num(k, z, 0.5);
    kiln_kv main_part = num_sub(k, 1.0, half);
    kiln_kv lost = sub(k, num_sub(k, 1.0, main_part), half);
    kiln_kv square = mul(k, z, z);
    kiln_kv tail = mul(k, square, poly_of(k, z, cos_f64));
    tail = kiln_k_fma(k, negative(k, y), turns.lost, tail);
    return add(k, main_part, add(k, lost, tail));
}
