/* Integer and bool operations with total meanings: what the instructions leave undefined is
 * selected away before them. */
#include "codegen/math_build.h"

static int64_t bits_in(const kiln_kernel *k, kiln_kv a)
{
    return 8 * (int64_t)kiln_dtype_bytes(dtype_of(k, a));
}

static kiln_dtype with_sign(kiln_dtype dtype, bool is_signed)
{
    static const kiln_dtype signed_of[] = {
        [1] = KILN_i8, [2] = KILN_i16, [4] = KILN_i32, [8] = KILN_i64};
    static const kiln_dtype plain_of[] = {
        [1] = KILN_u8, [2] = KILN_u16, [4] = KILN_u32, [8] = KILN_u64};
    size_t bytes = kiln_dtype_bytes(dtype);
    return is_signed ? signed_of[bytes] : plain_of[bytes];
}

static bool is_signed(const kiln_kernel *k, kiln_kv a)
{
    return kiln_dtype_is_signed(dtype_of(k, a));
}

/* b, or 1 where dividing by b is undefined: b = 0, and b = -1. */
static kiln_kv safe_divisor(kiln_kernel *k, kiln_kv b)
{
    kiln_kv is_unsafe = int_op(k, KILN_K_eq, b, 0);
    if (is_signed(k, b)) is_unsafe = either(k, is_unsafe, int_op(k, KILN_K_eq, b, -1));
    return kiln_k_select(k, is_unsafe, whole(k, b, 1), b);
}

static kiln_kv int_div(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv q = kiln_k_binary(k, KILN_K_div, a, safe_divisor(k, b));
    if (is_signed(k, a)) {
        kiln_kv is_minus_one = int_op(k, KILN_K_eq, b, -1);
        q = kiln_k_select(k, is_minus_one, negative(k, a), q);
    }
    kiln_kv is_zero = int_op(k, KILN_K_eq, b, 0);
    return kiln_k_select(k, is_zero, whole(k, a, -1), q);
}

static kiln_kv int_rem(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv r = kiln_k_binary(k, KILN_K_rem, a, safe_divisor(k, b));
    return kiln_k_select(k, int_op(k, KILN_K_eq, b, 0), a, r);
}

static kiln_kv int_abs(kiln_kernel *k, kiln_kv a, kiln_kv unused)
{
    (void)unused;
    if (!is_signed(k, a)) return a;
    kiln_kv is_below = int_op(k, KILN_K_lt, a, 0);
    return kiln_k_select(k, is_below, negative(k, a), a);
}

static kiln_kv int_sign(kiln_kernel *k, kiln_kv a, kiln_kv unused)
{
    (void)unused;
    kiln_kv is_above = int_op(k, KILN_K_gt, a, 0);
    kiln_kv sign = kiln_k_select(k, is_above, whole(k, a, 1), whole(k, a, 0));
    if (!is_signed(k, a)) return sign;
    kiln_kv is_below = int_op(k, KILN_K_lt, a, 0);
    return kiln_k_select(k, is_below, whole(k, a, -1), sign);
}

/* Shifts of a as an integer with or without sign; b outside 0 … bits - 1 shifts everything out. */
static kiln_kv shift(kiln_kernel *k, kiln_instr_op op, bool fills_sign, const kiln_kv *args)
{
    kiln_dtype dtype = dtype_of(k, args[0]);
    kiln_kv a = kiln_k_bitcast(k, args[0], with_sign(dtype, fills_sign));
    kiln_kv n = kiln_k_bitcast(k, args[1], with_sign(dtype, false));
    kiln_kv is_inside = int_op(k, KILN_K_lt, n, bits_in(k, n));
    kiln_kv last = whole(k, n, fills_sign ? bits_in(k, n) - 1 : 0);
    n = kiln_k_select(k, is_inside, n, last);
    kiln_kv result = kiln_k_binary(k, op, a, kiln_k_bitcast(k, n, dtype_of(k, a)));
    if (!fills_sign) result = kiln_k_select(k, is_inside, result, whole(k, result, 0));
    return kiln_k_bitcast(k, result, dtype);
}

static kiln_kv int_shl(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return shift(k, KILN_K_shl, false, (kiln_kv[]){a, b});
}

static kiln_kv int_shr(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return shift(k, KILN_K_shr, false, (kiln_kv[]){a, b});
}

static kiln_kv int_sar(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return shift(k, KILN_K_shr, true, (kiln_kv[]){a, b});
}

/* 0 to a negative power, or 1 / a^n truncated: nothing but 1 and -1 have one. */
static kiln_kv negative_power(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv is_odd = int_op(k, KILN_K_ne, int_op(k, KILN_K_and, b, 1), 0);
    kiln_kv of_minus_one = kiln_k_select(k, is_odd, whole(k, a, -1), whole(k, a, 1));
    kiln_kv is_minus_one = int_op(k, KILN_K_eq, a, -1);
    kiln_kv value = kiln_k_select(k, is_minus_one, of_minus_one, whole(k, a, 0));
    return kiln_k_select(k, int_op(k, KILN_K_eq, a, 1), a, value);
}

/* Squares and multiplies, a bit of b a trip. */
static kiln_kv int_pow(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, bits_in(k, a));
    kiln_kv one = whole(k, a, 1);
    kiln_kv exponent = kiln_k_bitcast(k, b, with_sign(dtype_of(k, b), false));
    kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    kiln_kv result = kiln_k_carry(k, one);
    kiln_kv base = kiln_k_carry(k, a);
    kiln_kv left = kiln_k_carry(k, exponent);
    kiln_kv is_odd = int_op(k, KILN_K_ne, int_op(k, KILN_K_and, left, 1), 0);
    kiln_kv grown = kiln_k_select(k, is_odd, mul(k, result, base), result);
    kiln_kv square = mul(k, base, base);
    kiln_kv rest = int_op(k, KILN_K_shr, left, 1);
    kiln_k_next(k, result, grown);
    kiln_k_next(k, base, square);
    kiln_k_next(k, left, rest);
    kiln_k_end(k);
    kiln_kv value = kiln_k_last(k, result);
    if (!is_signed(k, a)) return value;
    kiln_kv is_below = int_op(k, KILN_K_lt, b, 0);
    return kiln_k_select(k, is_below, negative_power(k, a, b), value);
}

typedef struct int_row {
    kiln_kv (*fn)(kiln_kernel *k, kiln_kv a, kiln_kv b);
} int_row;

static const int_row int_rows[KILN_N_OPS] = {
    [KILN_OP_abs] = {int_abs},
    [KILN_OP_sign] = {int_sign},
    [KILN_OP_div] = {int_div},
    [KILN_OP_rem] = {int_rem},
    [KILN_OP_pow] = {int_pow},
    [KILN_OP_shift_left] = {int_shl},
    [KILN_OP_shift_right_logical] = {int_shr},
    [KILN_OP_shift_right_arithmetic] = {int_sar},
};

/* Order of bools: false < true. */
static kiln_kv bool_op(kiln_kernel *k, kiln_op op, kiln_kv a, kiln_kv b)
{
    kiln_kv swap = a;
    switch ((int)op) {
    case KILN_OP_max: return either(k, a, b);
    case KILN_OP_min: return both(k, a, b);
    case KILN_OP_ne: return kiln_k_binary(k, KILN_K_xor, a, b);
    case KILN_OP_eq: return kiln_k_unary(k, KILN_K_not, kiln_k_binary(k, KILN_K_xor, a, b));
    case KILN_OP_gt:
    case KILN_OP_le: a = b, b = swap; break;
    case KILN_OP_lt:
    case KILN_OP_ge: break;
    default: return 0;
    }
    kiln_kv is_less = both(k, kiln_k_unary(k, KILN_K_not, a), b);
    bool is_strict = op == KILN_OP_lt || op == KILN_OP_gt;
    return is_strict ? is_less : kiln_k_unary(k, KILN_K_not, is_less);
}

kiln_kv kiln_math_int_op(kiln_kernel *k, kiln_op op, const kiln_kv *args)
{
    kiln_dtype dtype = dtype_of(k, args[0]);
    bool has_two = kiln_op_rows[op].min_inputs == 2;
    if (dtype == KILN_bool) return has_two ? bool_op(k, op, args[0], args[1]) : 0;
    if (!kiln_dtype_is_int(dtype) || !int_rows[op].fn) return 0;
    return int_rows[op].fn(k, args[0], has_two ? args[1] : 0);
}
