/* Words of tiles: bytes by fours, and an f32 value in bf16 parts, by pairs. Residuals are exact: a
 * bf16 value rounded from x shares its leading bits, so x - value fits f32. */
#include "codegen/amx.h"
#include "codegen/math.h"
#include "codegen/pack.h"

static kiln_kv bits_op(kiln_kernel *k, kiln_instr_op op, kiln_kv a, uint32_t b)
{
    uint32_t lanes = kiln_kernel_at(k, a)->lanes;
    return kiln_k_binary(k, op, a, kiln_k_const_bits(k, KILN_u32, lanes, b));
}

static kiln_kv round_bits(kiln_kernel *k, kiln_kv value)
{
    return kiln_k_bitcast(k, kiln_math_round_to(k, value, KILN_bf16), KILN_u32);
}

/* Rounds to the nearest bf16, in the upper half; the lower one holds anything. What is left over is
 * exact, so that halves may go either way. */
static kiln_kv round_up(kiln_kernel *k, kiln_kv bits)
{
    return bits_op(k, KILN_K_add, bits, 0x8000);
}

/* Of the finite numbers near infinity and of what is not finite the first part is cut, not rounded:
 * the next part makes up. What is left of infinities is nothing; of NaNs whose first part looks
 * like infinity it is a NaN. */
static void three_parts(kiln_kernel *k, kiln_kv value, kiln_kv *out_parts)
{
    uint32_t lanes = kiln_kernel_at(k, value)->lanes;
    kiln_kv zero = kiln_k_const_bits(k, KILN_f32, lanes, 0);
    kiln_kv bits = kiln_k_bitcast(k, value, KILN_u32);
    kiln_kv size = bits_op(k, KILN_K_and, bits, 0x7fffffff);
    kiln_kv is_rounded = bits_op(k, KILN_K_lt, size, KILN_BF16_CUT);
    kiln_kv is_infinite = bits_op(k, KILN_K_eq, size, 0x7f800000);
    kiln_kv first = kiln_k_select(k, is_rounded, round_up(k, bits), bits);
    out_parts[0] = bits_op(k, KILN_K_and, first, 0xffff0000);
    kiln_kv part = kiln_k_bitcast(k, out_parts[0], KILN_f32);
    kiln_kv rest = kiln_k_select(k, is_infinite, zero, kiln_k_binary(k, KILN_K_sub, value, part));
    kiln_kv second = round_up(k, kiln_k_bitcast(k, rest, KILN_u32));
    out_parts[1] = bits_op(k, KILN_K_and, second, 0xffff0000);
    part = kiln_k_bitcast(k, out_parts[1], KILN_f32);
    rest = kiln_k_binary(k, KILN_K_sub, rest, part);
    out_parts[2] = round_up(k, kiln_k_bitcast(k, rest, KILN_u32));
    out_parts[2] = bits_op(k, KILN_K_and, out_parts[2], 0xffff0000);
}

void kiln_bf16_parts(kiln_kernel *k, kiln_kv value, uint32_t n_parts, kiln_kv *out_parts)
{
    if (n_parts == 1)
        out_parts[0] = round_bits(k, value);
    else
        three_parts(k, value, out_parts);
}

void kiln_bf16_parts_of(kiln_kernel *k, kiln_kv value, kiln_dtype dtype, uint32_t n_parts,
                        kiln_kv *out_parts)
{
    if (dtype == KILN_bf16)
        out_parts[0] = kiln_k_bitcast(k, value, KILN_u32);
    else
        kiln_bf16_parts(k, value, n_parts, out_parts);
}

kiln_kv kiln_bf16_pair(kiln_kernel *k, kiln_kv first, kiln_kv second)
{
    return kiln_k_binary(k, KILN_K_or, bits_op(k, KILN_K_shr, first, 16), second);
}

kiln_kv kiln_half_word(kiln_kernel *k, const kiln_kv *halves)
{
    kiln_kv low = kiln_k_convert(k, kiln_k_bitcast(k, halves[0], KILN_u16), KILN_u32);
    kiln_kv high = kiln_k_convert(k, kiln_k_bitcast(k, halves[1], KILN_u16), KILN_u32);
    return kiln_k_binary(k, KILN_K_or, low, bits_op(k, KILN_K_shl, high, 16));
}

kiln_kv kiln_byte_word(kiln_kernel *k, const kiln_kv *bytes)
{
    kiln_kv word = 0;
    for (uint32_t i = 0; i < 4; i++) {
        kiln_kv byte = kiln_k_convert(k, kiln_k_bitcast(k, bytes[i], KILN_u8), KILN_u32);
        if (i) byte = bits_op(k, KILN_K_shl, byte, 8 * i);
        word = i ? kiln_k_binary(k, KILN_K_or, word, byte) : byte;
    }
    return word;
}
