/* sin, cos, tan. The argument is divided by pi/2 with as many bits of 2/pi as matter for its
 * exponent: bits whose product with x is a multiple of 4 are left out, the rest comes from a table
 * by exponent. So every float has its right value, without a second path for large ones. f32 works
 * in f64. */
#include <math.h>

#include "codegen/math_build.h"
#include "codegen/math_tables.h"

/* |x| in quarter turns: quadrant in the two low bits of `quadrant`, fraction in [-1/2, 1/2]. */
typedef struct turns {
    kiln_kv quadrant; /* i64 */
    kiln_kv fraction; /* f64 */
} turns;

/* value + magic rounds to an integer, whose low bits stand in the sum's. */
static kiln_kv take_whole(kiln_kernel *k, kiln_kv *value)
{
    double magic = 0x1.8p52;
    kiln_kv sum = add_num(k, *value, magic);
    *value = sub(k, *value, add_num(k, sum, -magic));
    return bits_of(k, sum);
}

/* Part `row` of 2/pi for exponent block `block`. */
static kiln_kv inverse_part(kiln_kernel *k, uint32_t row, kiln_kv block)
{
    uint32_t table = kiln_kernel_add_table(k, KILN_f32, 32, two_over_pi_f32[row]);
    return kiln_k_convert(k, kiln_k_lookup(k, table, block), KILN_f64);
}

/* Blocks of four exponents. x is scaled by the block's, so products of 24 bits with 24 are below
 * 2^29 and exact, and so are the sums but for the last two, whose error is relative to the
 * fraction. */
static turns reduce_single(kiln_kernel *k, kiln_kv x)
{
    kiln_kv bits = bits_of(k, absolute(k, x));
    kiln_kv exponent = int_op(k, KILN_K_shr, bits, 23);
    kiln_kv above = int_op(k, KILN_K_sub, exponent, 150);
    above = int_op(k, KILN_K_max, above, 0);
    kiln_kv block = int_op(k, KILN_K_shr, above, 2);
    bits = sub(k, bits, int_op(k, KILN_K_shl, block, 25));
    kiln_kv size = kiln_k_convert(k, float_of(k, bits), KILN_f64);
    kiln_kv fraction = mul(k, size, inverse_part(k, 0, block));
    kiln_kv quadrant = take_whole(k, &fraction);
    fraction = kiln_k_fma(k, size, inverse_part(k, 1, block), fraction);
    quadrant = add(k, quadrant, take_whole(k, &fraction));
    fraction = kiln_k_fma(k, size, inverse_part(k, 2, block), fraction);
    fraction = kiln_k_fma(k, size, inverse_part(k, 3, block), fraction);
    return (turns){.quadrant = quadrant, .fraction = fraction};
}

/* Sine and cosine of the fraction of a quarter turn. */
typedef struct sine_pair {
    kiln_kv sine, cosine;
} sine_pair;

static sine_pair pair_single(kiln_kernel *k, kiln_kv fraction)
{
    kiln_kv square = mul(k, fraction, fraction);
    kiln_kv sine = mul(k, fraction, poly_of(k, square, sin_mid));
    return (sine_pair){.sine = sine, .cosine = poly_of(k, square, cos_mid)};
}

/* true where bit `bit` of the quadrant is set */
static kiln_kv has_bit(kiln_kernel *k, kiln_kv quadrant, int64_t bit)
{
    kiln_kv masked = int_op(k, KILN_K_and, quadrant, bit);
    return int_op(k, KILN_K_ne, masked, 0);
}

static kiln_kv negative_where(kiln_kernel *k, kiln_kv condition, kiln_kv a)
{
    return kiln_k_select(k, condition, negative(k, a), a);
}

typedef enum trig_kind { TRIG_SIN, TRIG_COS, TRIG_TAN } trig_kind;

/* The function of |x| from quadrant and pair. */
static kiln_kv assemble(kiln_kernel *k, trig_kind kind, kiln_kv quadrant, sine_pair pair)
{
    if (kind == TRIG_COS) quadrant = int_op(k, KILN_K_add, quadrant, 1);
    kiln_kv is_odd = has_bit(k, quadrant, 1);
    kiln_kv main_part = kiln_k_select(k, is_odd, pair.cosine, pair.sine);
    if (kind != TRIG_TAN) return negative_where(k, has_bit(k, quadrant, 2), main_part);
    kiln_kv other = kiln_k_select(k, is_odd, negative(k, pair.sine), pair.cosine);
    return quotient(k, main_part, other);
}

static kiln_kv trig(kiln_kernel *k, trig_kind kind, kiln_kv x)
{
    bool is_wide = is_f64(k, x);
    kiln_kv value;
    if (is_wide) {
        kiln_turns turn = kiln_math_turns(k, x);
        sine_pair pair;
        pair.sine = kiln_math_turn_sine(k, turn);
        pair.cosine = kiln_math_turn_cosine(k, turn);
        value = assemble(k, kind, turn.quadrant, pair);
    } else {
        turns turn = reduce_single(k, x);
        value = assemble(k, kind, turn.quadrant, pair_single(k, turn.fraction));
        value = kiln_k_convert(k, value, KILN_f32);
    }
    if (kind != TRIG_COS) { /* odd functions */
        kiln_kv sign = kiln_k_const_bits(k, is_wide ? KILN_i64 : KILN_i32, lanes_of(k, x),
                                         is_wide ? 1ull << 63 : 1ull << 31);
        sign = both(k, bits_of(k, x), sign);
        value = float_of(k, kiln_k_binary(k, KILN_K_xor, bits_of(k, value), sign));
    }
    return else_num(k, compare_num(k, KILN_K_lt, absolute(k, x), INFINITY), value, NAN);
}

kiln_kv kiln_math_sin(kiln_kernel *k, kiln_kv x)
{
    return trig(k, TRIG_SIN, x);
}

kiln_kv kiln_math_cos(kiln_kernel *k, kiln_kv x)
{
    return trig(k, TRIG_COS, x);
}

kiln_kv kiln_math_tan(kiln_kernel *k, kiln_kv x)
{
    return trig(k, TRIG_TAN, x);
}
