/* Conversions: bf16 and f16 by integer code (round to nearest even, denormals kept, NaN quiet), in
 * instructions only where those are exact. Values of both are carried as f32. */
#include <math.h>

#include "codegen/math_build.h"

kiln_dtype kiln_compute_dtype(kiln_dtype dtype)
{
    return dtype == KILN_bf16 || dtype == KILN_f16 ? KILN_f32 : dtype;
}

kiln_dtype kiln_storage_dtype(kiln_dtype dtype)
{
    return dtype == KILN_bf16 || dtype == KILN_f16 ? KILN_u16 : dtype;
}

static kiln_kv unsigned_bits(kiln_kernel *k, kiln_kv value)
{
    return kiln_k_bitcast(k, value, KILN_u32);
}

/* Nearest even at bit `drop` of f32 patterns. */
static kiln_kv round_bits(kiln_kernel *k, kiln_kv bits, int64_t drop)
{
    kiln_kv odd = int_op(k, KILN_K_and, int_op(k, KILN_K_shr, bits, drop), 1);
    bits = add(k, bits, int_op(k, KILN_K_add, odd, ((int64_t)1 << (drop - 1)) - 1));
    return int_op(k, KILN_K_and, bits, -((int64_t)1 << drop));
}

/* The instruction takes numbers below 2^-126 for zeros. Their patterns plus one exponent are those
 * of numbers that round alike. */
static kiln_kv round_by_instruction(kiln_kernel *k, kiln_kv bits)
{
    kiln_kv is_tiny = int_op(k, KILN_K_eq, int_op(k, KILN_K_and, bits, 0x7f800000), 0);
    bits = kiln_k_select(k, is_tiny, int_op(k, KILN_K_add, bits, 0x800000), bits);
    kiln_kv value = kiln_k_convert(k, kiln_k_bitcast(k, bits, KILN_f32), KILN_bf16);
    bits = kiln_k_bitcast(k, value, KILN_u16);
    bits = kiln_k_select(k, is_tiny, int_op(k, KILN_K_sub, bits, 0x80), bits);
    return int_op(k, KILN_K_shl, kiln_k_convert(k, bits, KILN_u32), 16);
}

static kiln_kv round_bf16(kiln_kernel *k, kiln_kv value)
{
    kiln_kv bits = unsigned_bits(k, value);
    if (k->machine->has_bf16_dot)
        return kiln_k_bitcast(k, round_by_instruction(k, bits), KILN_f32);
    kiln_kv quiet = int_op(k, KILN_K_and, int_op(k, KILN_K_or, bits, 0x400000), 0xffff0000);
    kiln_kv is_nan = kiln_k_binary(k, KILN_K_ne, value, value);
    bits = kiln_k_select(k, is_nan, quiet, round_bits(k, bits, 16));
    return kiln_k_bitcast(k, bits, KILN_f32);
}

static kiln_kv round_f16(kiln_kernel *k, kiln_kv value)
{
    if (k->machine->has_f16)
        return kiln_k_convert(k, kiln_k_convert(k, value, KILN_f16), KILN_f32);
    kiln_kv size = absolute(k, value);
    kiln_kv normal = kiln_k_bitcast(k, round_bits(k, unsigned_bits(k, size), 13), KILN_f32);
    kiln_kv tiny = add_num(k, add_num(k, size, 0.5), -0.5); /* the unit of 0.5 is the least f16 */
    normal = num_where(k, compare_num(k, KILN_K_gt, normal, 65504.0), INFINITY, normal);
    normal = kiln_k_select(k, compare_num(k, KILN_K_lt, size, 0x1p-14), tiny, normal);
    kiln_kv is_nan = kiln_k_binary(k, KILN_K_ne, value, value);
    return copy_sign(k, num_where(k, is_nan, NAN, normal), value);
}

kiln_kv kiln_math_round_to(kiln_kernel *k, kiln_kv value, kiln_dtype dtype)
{
    if (dtype == KILN_bf16) return round_bf16(k, value);
    return dtype == KILN_f16 ? round_f16(k, value) : value;
}

kiln_kv kiln_math_from_storage(kiln_kernel *k, kiln_kv bits, kiln_dtype dtype)
{
    if (dtype != KILN_bf16 && dtype != KILN_f16) return bits;
    if (dtype == KILN_f16 && k->machine->has_f16)
        return kiln_k_convert(k, kiln_k_bitcast(k, bits, KILN_f16), KILN_f32);
    kiln_kv wide = kiln_k_convert(k, bits, KILN_u32);
    if (dtype == KILN_bf16) return kiln_k_bitcast(k, int_op(k, KILN_K_shl, wide, 16), KILN_f32);
    kiln_kv size = int_op(k, KILN_K_and, wide, 0x7fff);
    kiln_kv scaled = kiln_k_bitcast(k, int_op(k, KILN_K_shl, size, 13), KILN_f32);
    scaled = mul_num(k, scaled, 0x1p112);
    kiln_kv is_edge = int_op(k, KILN_K_ge, size, 0x7c00);
    kiln_kv edge = int_op(k, KILN_K_or, int_op(k, KILN_K_shl, size, 13), 0x7f800000);
    kiln_kv value = kiln_k_select(k, is_edge, edge, unsigned_bits(k, scaled));
    kiln_kv sign = int_op(k, KILN_K_shl, int_op(k, KILN_K_and, wide, 0x8000), 16);
    return kiln_k_bitcast(k, either(k, value, sign), KILN_f32);
}

/* The f16 pattern of an f32 that is an f16 already. */
static kiln_kv pack_f16(kiln_kernel *k, kiln_kv value)
{
    if (k->machine->has_f16)
        return kiln_k_bitcast(k, kiln_k_convert(k, value, KILN_f16), KILN_u16);
    kiln_kv size = absolute(k, value);
    kiln_kv normal = int_op(k, KILN_K_sub, unsigned_bits(k, size), (int64_t)112 << 23);
    normal = int_op(k, KILN_K_shr, normal, 13);
    kiln_kv tiny = int_op(k, KILN_K_and, unsigned_bits(k, add_num(k, size, 0.5)), 0x3ff);
    kiln_kv bits = kiln_k_select(k, compare_num(k, KILN_K_lt, size, 0x1p-14), tiny, normal);
    kiln_kv is_inside = compare_num(k, KILN_K_le, size, 65504.0);
    kiln_kv is_infinite = compare_num(k, KILN_K_eq, size, INFINITY);
    kiln_kv edge = kiln_k_select(k, is_infinite, whole(k, bits, 0x7c00), whole(k, bits, 0x7e00));
    bits = kiln_k_select(k, is_inside, bits, edge);
    kiln_kv sign = int_op(k, KILN_K_shr, unsigned_bits(k, value), 16);
    sign = int_op(k, KILN_K_and, sign, 0x8000);
    return kiln_k_convert(k, either(k, bits, sign), KILN_u16);
}

kiln_kv kiln_math_to_storage(kiln_kernel *k, kiln_kv value, kiln_dtype dtype)
{
    if (dtype == KILN_f16) return pack_f16(k, value);
    if (dtype != KILN_bf16) return value;
    kiln_kv high = int_op(k, KILN_K_shr, unsigned_bits(k, value), 16);
    return kiln_k_convert(k, high, KILN_u16);
}

/* f64 to f32 rounding inexact values to odd: rounding the result once more is then right. */
static kiln_kv narrow_to_odd(kiln_kernel *k, kiln_kv value)
{
    kiln_kv near = kiln_k_convert(k, value, KILN_f32);
    kiln_kv back = kiln_k_convert(k, near, KILN_f64);
    kiln_kv is_above = kiln_k_binary(k, KILN_K_gt, absolute(k, back), absolute(k, value));
    kiln_kv bits = unsigned_bits(k, near);
    bits = kiln_k_select(k, is_above, int_op(k, KILN_K_sub, bits, 1), bits);
    bits = int_op(k, KILN_K_or, bits, 1);
    kiln_kv is_inexact = kiln_k_binary(k, KILN_K_lt, back, value);
    is_inexact = either(k, is_inexact, kiln_k_binary(k, KILN_K_gt, back, value));
    return kiln_k_select(k, is_inexact, kiln_k_bitcast(k, bits, KILN_f32), near);
}

/* 64-bit integers to f64 so that inexact values are odd in their last bit. */
static kiln_kv long_to_odd(kiln_kernel *k, kiln_kv a)
{
    bool is_signed = dtype_of(k, a) == KILN_i64;
    kiln_kv low = int_op(k, KILN_K_and, a, 0x7ff);
    kiln_kv has_low = int_op(k, KILN_K_ne, low, 0);
    kiln_kv head = sub(k, a, low);
    head = kiln_k_select(k, has_low, int_op(k, KILN_K_or, head, 0x800), head);
    kiln_kv is_exact = int_op(k, KILN_K_lt, a, (int64_t)1 << 53);
    if (is_signed) is_exact = both(k, is_exact, int_op(k, KILN_K_gt, a, -((int64_t)1 << 53)));
    return kiln_k_convert(k, kiln_k_select(k, is_exact, a, head), KILN_f64);
}

static kiln_kv to_short_float(kiln_kernel *k, kiln_kv a, kiln_dtype from, kiln_dtype to)
{
    size_t bytes = kiln_dtype_bytes(from);
    if (kiln_dtype_is_int(from) && bytes == 8) {
        a = narrow_to_odd(k, long_to_odd(k, a));
    } else if (kiln_dtype_is_int(from) && bytes == 4) {
        a = narrow_to_odd(k, kiln_k_convert(k, a, KILN_f64));
    } else if (from == KILN_f64) {
        a = narrow_to_odd(k, a);
    } else {
        a = kiln_k_convert(k, a, KILN_f32);
    }
    return kiln_math_round_to(k, a, to);
}

kiln_kv kiln_math_convert(kiln_kernel *k, kiln_kv a, kiln_dtype from, kiln_dtype to)
{
    if (from == to) return a;
    if (to == KILN_bf16 || to == KILN_f16) return to_short_float(k, a, from, to);
    if (to != KILN_bool) return kiln_k_convert(k, a, to);
    bool is_float = kiln_dtype_is_float(dtype_of(k, a));
    return is_float ? compare_num(k, KILN_K_ne, a, 0.0) : int_op(k, KILN_K_ne, a, 0);
}
