/* Elementwise ops as kernel instructions: one row an op. Most are one instruction in every dtype;
 * the float functions live in math_exp.c, math_log.c, math_pow.c, math_erf.c, math_trig.c,
 * math_atan.c and math_basic.c, what integers and bools need besides in math_int.c, conversions in
 * math_convert.c. */
#include <math.h>

#include "codegen/math_build.h"

typedef kiln_kv binary_fn(kiln_kernel *k, kiln_kv a, kiln_kv b);

typedef struct math_row {
    uint8_t instr; /* one instruction for all dtypes that have no row of their own in math_int.c */
    uint8_t rounding; /* floor … round_even */
    bool is_exact;    /* a bf16 or f16 result needs no rounding */
    kiln_math_fn *unary;
    binary_fn *binary;
} math_row;

static const math_row rows[KILN_N_OPS] = {
    [KILN_OP_neg] = {.instr = KILN_K_neg, .is_exact = true},
    [KILN_OP_abs] = {.instr = KILN_K_abs, .is_exact = true},
    [KILN_OP_sign] = {.unary = kiln_math_sign, .is_exact = true},
    [KILN_OP_floor] = {.rounding = KILN_K_floor, .is_exact = true},
    [KILN_OP_ceil] = {.rounding = KILN_K_ceil, .is_exact = true},
    [KILN_OP_trunc] = {.rounding = KILN_K_trunc, .is_exact = true},
    [KILN_OP_round_even] = {.rounding = KILN_K_round_even, .is_exact = true},
    [KILN_OP_exp] = {.unary = kiln_math_exp},
    [KILN_OP_expm1] = {.unary = kiln_math_expm1},
    [KILN_OP_log] = {.unary = kiln_math_log},
    [KILN_OP_log1p] = {.unary = kiln_math_log1p},
    [KILN_OP_sqrt] = {.instr = KILN_K_sqrt},
    [KILN_OP_rsqrt] = {.unary = kiln_math_rsqrt},
    [KILN_OP_sin] = {.unary = kiln_math_sin},
    [KILN_OP_cos] = {.unary = kiln_math_cos},
    [KILN_OP_tan] = {.unary = kiln_math_tan},
    [KILN_OP_atan] = {.unary = kiln_math_atan},
    [KILN_OP_tanh] = {.unary = kiln_math_tanh},
    [KILN_OP_erf] = {.unary = kiln_math_erf},
    [KILN_OP_logistic] = {.unary = kiln_math_logistic},
    [KILN_OP_not] = {.instr = KILN_K_not},
    [KILN_OP_popcnt] = {.instr = KILN_K_popcnt},
    [KILN_OP_clz] = {.instr = KILN_K_clz},
    [KILN_OP_add] = {.instr = KILN_K_add},
    [KILN_OP_sub] = {.instr = KILN_K_sub},
    [KILN_OP_mul] = {.instr = KILN_K_mul},
    [KILN_OP_div] = {.instr = KILN_K_div},
    [KILN_OP_rem] = {.binary = kiln_math_rem, .is_exact = true},
    [KILN_OP_max] = {.instr = KILN_K_max, .is_exact = true},
    [KILN_OP_min] = {.instr = KILN_K_min, .is_exact = true},
    [KILN_OP_pow] = {.binary = kiln_math_pow},
    [KILN_OP_atan2] = {.binary = kiln_math_atan2},
    [KILN_OP_and] = {.instr = KILN_K_and},
    [KILN_OP_or] = {.instr = KILN_K_or},
    [KILN_OP_xor] = {.instr = KILN_K_xor},
    [KILN_OP_eq] = {.instr = KILN_K_eq},
    [KILN_OP_ne] = {.instr = KILN_K_ne},
    [KILN_OP_lt] = {.instr = KILN_K_lt},
    [KILN_OP_le] = {.instr = KILN_K_le},
    [KILN_OP_gt] = {.instr = KILN_K_gt},
    [KILN_OP_ge] = {.instr = KILN_K_ge},
};

/* The bits of a float constant in all lanes; false when `a` is none. */
static bool float_constant(const kiln_kernel *k, kiln_kv a, double *out_value)
{
    const kiln_instr *instr = kiln_kernel_at(k, a);
    if (instr->op == KILN_K_splat) instr = kiln_kernel_at(k, instr->args[0]);
    if (instr->op != KILN_K_const) return false;
    uint32_t low = (uint32_t)instr->imm;
    float single;
    memcpy(&single, &low, sizeof single);
    memcpy(out_value, &instr->imm, sizeof *out_value);
    if (instr->dtype == KILN_f32) *out_value = single;
    return true;
}

/* Integers in the order of the floats, -0 below +0; its own inverse. */
static kiln_kv ordered_bits(kiln_kernel *k, kiln_kv bits)
{
    kiln_kv low = int_op(k, KILN_K_and, int_op(k, KILN_K_shr, bits, 31), 0x7fffffff);
    return kiln_k_binary(k, KILN_K_xor, bits, low);
}

/* max and min of f16 values as integers: LLVM 19 narrows its own float instructions, and compares
 * with selects, to f16, and there without AVX512-FP16 drops NaNs or calls fmaxf. */
static kiln_kv extreme_f16(kiln_kernel *k, bool is_max, kiln_kv a, kiln_kv b)
{
    kiln_kv x = ordered_bits(k, bits_of(k, a)), y = ordered_bits(k, bits_of(k, b));
    kiln_kv best = kiln_k_binary(k, is_max ? KILN_K_max : KILN_K_min, x, y);
    kiln_kv value = float_of(k, ordered_bits(k, best));
    value = kiln_k_select(k, kiln_k_binary(k, KILN_K_ne, b, b), b, value);
    return kiln_k_select(k, kiln_k_binary(k, KILN_K_ne, a, a), a, value);
}

/* max and min of floats. A constant operand leaves one instruction that keeps a NaN of the other;
 * of equal zeros it gives that other, so max with +0 adds +0, and min with -0 takes the general
 * way. */
static kiln_kv extreme(kiln_kernel *k, bool is_max, kiln_dtype dtype, const kiln_kv *args)
{
    kiln_kv a = args[0], b = args[1];
    double c;
    kiln_instr_op fast = is_max ? KILN_K_max_fast : KILN_K_min_fast;
    kiln_instr_op full = is_max ? KILN_K_max : KILN_K_min;
    if (!kiln_dtype_is_float(dtype_of(k, a))) return kiln_k_binary(k, full, a, b);
    if (float_constant(k, a, &c)) {
        kiln_kv swap = a;
        a = b;
        b = swap;
    }
    if (!float_constant(k, b, &c) || isnan(c) || (c == 0 && !is_max && signbit(c)))
        return dtype == KILN_f16 ? extreme_f16(k, is_max, a, b) : kiln_k_binary(k, full, a, b);
    kiln_kv value = kiln_k_binary(k, fast, b, a);
    return c == 0 && is_max && !signbit(c) ? add_num(k, value, 0.0) : value;
}

static kiln_kv clamp(kiln_kernel *k, kiln_dtype dtype, const kiln_kv *args)
{
    kiln_kv value = extreme(k, true, dtype, (kiln_kv[]){args[1], args[0]});
    return extreme(k, false, dtype, (kiln_kv[]){value, args[2]});
}

static kiln_kv bitcast(kiln_kernel *k, kiln_kv a, kiln_dtype from, kiln_dtype to)
{
    if (from == KILN_bool || to == KILN_bool) return kiln_math_convert(k, a, from, to);
    a = kiln_math_to_storage(k, a, from);
    return kiln_math_from_storage(k, kiln_k_bitcast(k, a, kiln_storage_dtype(to)), to);
}

/* Ops that no row describes; 0 for the others. */
static kiln_kv odd_op(kiln_kernel *k, kiln_op op, const kiln_dtype types[2], const kiln_kv *args)
{
    switch ((int)op) {
    case KILN_OP_select: return kiln_k_select(k, args[0], args[1], args[2]);
    case KILN_OP_clamp: return clamp(k, types[0], args);
    case KILN_OP_convert: return kiln_math_convert(k, args[0], types[0], types[1]);
    case KILN_OP_bitcast: return bitcast(k, args[0], types[0], types[1]);
    case KILN_OP_is_finite: return compare_num(k, KILN_K_lt, absolute(k, args[0]), INFINITY);
    default: return 0;
    }
}

kiln_kv kiln_math_op(kiln_kernel *k, kiln_op op, kiln_dtype dtype, kiln_dtype result,
                     const kiln_kv *args)
{
    kiln_kv value = odd_op(k, op, (kiln_dtype[]){dtype, result}, args);
    if (!value) value = kiln_math_int_op(k, op, args);
    if (value) return value;
    const math_row *row = &rows[op];
    if (op == KILN_OP_max || op == KILN_OP_min) {
        value = extreme(k, op == KILN_OP_max, dtype, args);
    } else if (row->unary) {
        value = row->unary(k, args[0]);
    } else if (row->binary) {
        value = row->binary(k, args[0], args[1]);
    } else if (row->rounding) {
        value = kiln_math_round(k, (kiln_instr_op)row->rounding, args[0]);
    } else if (row->instr) {
        bool has_two = kiln_op_rows[op].min_inputs == 2;
        value = has_two ? kiln_k_binary(k, (kiln_instr_op)row->instr, args[0], args[1])
                        : kiln_k_unary(k, (kiln_instr_op)row->instr, args[0]);
    } else {
        kiln_fail(k->scope, KILN_INTERNAL, "kernel %s: %s has no instructions", k->label,
                  kiln_op_rows[op].name);
    }
    return row->is_exact ? value : kiln_math_round_to(k, value, result);
}

typedef struct combine_row {
    kiln_op op;
    double identity; /* of floats */
} combine_row;

static const combine_row combine_rows[KILN_N_OPS] = {
    [KILN_OP_reduce_sum] = {KILN_OP_add, 0.0},
    [KILN_OP_reduce_prod] = {KILN_OP_mul, 1.0},
    [KILN_OP_reduce_max] = {KILN_OP_max, -INFINITY},
    [KILN_OP_reduce_min] = {KILN_OP_min, INFINITY},
    [KILN_OP_reduce_any] = {KILN_OP_or, 0.0},
    [KILN_OP_reduce_all] = {KILN_OP_and, 1.0},
    [KILN_OP_window_sum] = {KILN_OP_add, 0.0},
    [KILN_OP_window_prod] = {KILN_OP_mul, 1.0},
    [KILN_OP_window_max] = {KILN_OP_max, -INFINITY},
    [KILN_OP_window_min] = {KILN_OP_min, INFINITY},
};

kiln_kv kiln_math_combine(kiln_kernel *k, kiln_op op, kiln_kv a, kiln_kv b)
{
    kiln_dtype dtype = dtype_of(k, a);
    return kiln_math_op(k, combine_rows[op].op, dtype, dtype, (kiln_kv[]){a, b});
}

kiln_kv kiln_math_identity(kiln_kernel *k, kiln_op op, kiln_dtype compute, uint32_t lanes)
{
    const combine_row *row = &combine_rows[op];
    if (kiln_dtype_is_float(compute)) return kiln_k_const_float(k, compute, lanes, row->identity);
    if (row->op != KILN_OP_max && row->op != KILN_OP_min)
        return kiln_k_const_int(k, compute, lanes, (int64_t)row->identity);
    if (compute == KILN_bool) return kiln_k_const_int(k, compute, lanes, row->op == KILN_OP_min);
    uint64_t least = 0, top = (uint64_t)1 << (8 * kiln_dtype_bytes(compute) - 1);
    if (kiln_dtype_is_signed(compute)) least = top;
    return kiln_k_const_bits(k, compute, lanes, row->op == KILN_OP_max ? least : ~least);
}
