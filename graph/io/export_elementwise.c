/* ONNX export of elementwise operations. Operators that lack a dtype compute in a wider one;
 * operations without an operator are built from several. */
#include <math.h>

#include "graph/io/export.h"

const char *kiln_export_cast(kiln_export_call *call, const char *name, kiln_dtype dtype)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "to", kiln_onnx_number(dtype));
    bool is_f8 = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) && kiln_dtype_bits(dtype) == 8;
    if (is_f8) kiln_export_attr_int(&attrs, "saturate", 0);
    return kiln_export_emit(call, "Cast", &attrs, name);
}

/* The row's operator over the operands. */
const char *kiln_export_nary(kiln_export_call *call)
{
    const char *inputs[4];
    for (uint32_t i = 0; i < call->node->n_inputs && i < 4; i++)
        inputs[i] = kiln_export_small(call, i);
    return kiln_export_emit_list(call, call->row->onnx, NULL, call->node->n_inputs, inputs);
}

const char *kiln_export_ne(kiln_export_call *call)
{
    return kiln_export_emit(call, "Not", NULL, kiln_export_nary(call));
}

/* An exponent of u64 that is negative as i64 gives way to a positive one of the same power: odd
 * bases return after 2^62 steps, even ones have come to 0 after 64. */
const char *kiln_export_pow(kiln_export_call *call)
{
    const char *base = kiln_export_small(call, 0), *exponent = kiln_export_small(call, 1);
    if (call->own == KILN_u64) {
        const kiln_type type = {KILN_i64, 0, NULL, 1, 8, 0, NULL};
        const int64_t step = (int64_t)1 << 62, rest = step - 1;
        const char *low = kiln_export_emit(call, "BitwiseAnd", NULL, exponent,
                                           kiln_export_constant(call, &type, &rest));
        const char *is_large =
            kiln_export_emit(call, "Less", NULL, exponent, kiln_export_scalar(call, KILN_i64, 0));
        exponent = kiln_export_emit(call, "Where", NULL, is_large,
                                    kiln_export_emit(call, "BitwiseOr", NULL, low,
                                                     kiln_export_constant(call, &type, &step)),
                                    exponent);
    }
    return kiln_export_emit(call, "Pow", NULL, base, exponent);
}

/* sign * floor |x| */
const char *kiln_export_trunc(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    const char *size =
        kiln_export_emit(call, "Floor", NULL, kiln_export_emit(call, "Abs", NULL, x));
    return kiln_export_emit(call, "Mul", NULL, kiln_export_emit(call, "Sign", NULL, x), size);
}

/* tanh(x / 2) (e^x + 1): exact near 0, as tanh is */
const char *kiln_export_expm1(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    const char *half = kiln_export_scalar(call, call->dtype, 0.5);
    const char *one = kiln_export_scalar(call, call->dtype, 1);
    const char *tanh =
        kiln_export_emit(call, "Tanh", NULL, kiln_export_emit(call, "Mul", NULL, x, half));
    const char *sum =
        kiln_export_emit(call, "Add", NULL, kiln_export_emit(call, "Exp", NULL, x), one);
    return kiln_export_emit(call, "Mul", NULL, tanh, sum);
}

/* u = 1 + x; log(u) x / (u - 1), which undoes the rounding of u; x where u is 1 or +infinite */
const char *kiln_export_log1p(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    const char *one = kiln_export_scalar(call, call->dtype, 1);
    const char *u = kiln_export_emit(call, "Add", NULL, x, one);
    const char *log = kiln_export_emit(call, "Log", NULL, u);
    const char *ratio =
        kiln_export_emit(call, "Div", NULL, x, kiln_export_emit(call, "Sub", NULL, u, one));
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "detect_negative", 0);
    const char *is_end =
        kiln_export_emit(call, "Or", NULL, kiln_export_emit(call, "Equal", NULL, u, one),
                         kiln_export_emit(call, "IsInf", &attrs, u));
    return kiln_export_emit(call, "Where", NULL, is_end, x,
                            kiln_export_emit(call, "Mul", NULL, log, ratio));
}

const char *kiln_export_rsqrt(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    return kiln_export_emit(call, "Reciprocal", NULL, kiln_export_emit(call, "Sqrt", NULL, x));
}

const char *kiln_export_is_finite(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    const char *either =
        kiln_export_emit(call, "Or", NULL, kiln_export_emit(call, "IsNaN", NULL, x),
                         kiln_export_emit(call, "IsInf", NULL, x));
    return kiln_export_emit(call, "Not", NULL, either);
}

const char *kiln_export_not(kiln_export_call *call)
{
    bool is_bool = call->own == KILN_bool;
    return kiln_export_emit(call, is_bool ? "Not" : "BitwiseNot", NULL,
                            kiln_export_operand(call, 0));
}

const char *kiln_export_logical(kiln_export_call *call)
{
    const char *op = call->row->onnx;
    if (call->own != KILN_bool) op = kiln_arena_format(call->export->arena, "Bitwise%s", op);
    return kiln_export_emit(call, op, NULL, kiln_export_small(call, 0), kiln_export_small(call, 1));
}

/* max and min of bool are or and and */
const char *kiln_export_extreme(kiln_export_call *call)
{
    if (call->own != KILN_bool) return kiln_export_nary(call);
    bool is_max = call->node->op == KILN_OP_max;
    return kiln_export_emit(call, is_max ? "Or" : "And", NULL, kiln_export_small(call, 0),
                            kiln_export_small(call, 1));
}

/* C's remainder; for unsigned integers it is the plain one, which runtimes do not take through
 * f64. */
const char *kiln_export_fmod(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    bool is_unsigned = kiln_dtype_kind_of(call->own) == KILN_DTYPE_KIND_UINT;
    if (!is_unsigned) kiln_export_attr_int(&attrs, "fmod", 1);
    return kiln_export_emit(call, "Mod", &attrs, kiln_export_small(call, 0),
                            kiln_export_small(call, 1));
}

/* Floats saturate in integers below 32 bits and at 0: what ONNX leaves open. */
const char *kiln_export_convert(kiln_export_call *call)
{
    const char *name = kiln_export_operand(call, 0);
    kiln_dtype to = call->type->dtype;
    kiln_dtype_kind kind = kiln_dtype_kind_of(to);
    bool is_integer = kind == KILN_DTYPE_KIND_INT || kind == KILN_DTYPE_KIND_UINT;
    if (kiln_dtype_kind_of(call->own) == KILN_DTYPE_KIND_FLOAT && is_integer) {
        int bits = (int)kiln_dtype_bits(to);
        bool is_signed = kind == KILN_DTYPE_KIND_INT;
        double low = is_signed ? -ldexp(1, bits - 1) : 0;
        double high = ldexp(1, bits - is_signed) - 1;
        bool is_small = bits < 16 || (bits == 16 && kiln_dtype_bytes(call->dtype) > 2);
        if (is_small || !is_signed)
            name = kiln_export_emit(call, "Max", NULL, name,
                                    kiln_export_scalar(call, call->dtype, low));
        if (is_small)
            name = kiln_export_emit(call, "Min", NULL, name,
                                    kiln_export_scalar(call, call->dtype, high));
    }
    return kiln_export_cast(call, name, to);
}

const char *kiln_export_bitcast(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "to", kiln_onnx_number(call->type->dtype));
    return kiln_export_emit(call, "BitCast", &attrs, kiln_export_operand(call, 0));
}

/* Zeros have signs too: the reciprocal shows them. */
static const char *is_negative(kiln_export_call *call, const char *x, const char *zero)
{
    const char *inverse = kiln_export_emit(call, "Reciprocal", NULL, x);
    return kiln_export_emit(call, "Or", NULL, kiln_export_emit(call, "Less", NULL, x, zero),
                            kiln_export_emit(call, "Less", NULL, inverse, zero));
}

/* The angle in the first quadrant, then mirrored by the signs of x and y. */
const char *kiln_export_atan2(kiln_export_call *call)
{
    kiln_dtype dtype = call->dtype;
    const char *y = kiln_export_small(call, 0), *x = kiln_export_small(call, 1);
    const char *zero = kiln_export_scalar(call, dtype, 0);
    const char *pi = kiln_export_scalar(call, dtype, acos(-1.0));
    const char *ratio = kiln_export_emit(call, "Div", NULL, kiln_export_emit(call, "Abs", NULL, y),
                                         kiln_export_emit(call, "Abs", NULL, x));
    const char *is_far =
        kiln_export_emit(call, "And", NULL, kiln_export_emit(call, "IsInf", NULL, x),
                         kiln_export_emit(call, "IsInf", NULL, y));
    ratio =
        kiln_export_emit(call, "Where", NULL, is_far, kiln_export_scalar(call, dtype, 1), ratio);
    const char *is_origin =
        kiln_export_emit(call, "And", NULL, kiln_export_emit(call, "Equal", NULL, x, zero),
                         kiln_export_emit(call, "Equal", NULL, y, zero));
    const char *angle = kiln_export_emit(call, "Where", NULL, is_origin, zero,
                                         kiln_export_emit(call, "Atan", NULL, ratio));
    angle = kiln_export_emit(call, "Where", NULL, is_negative(call, x, zero),
                             kiln_export_emit(call, "Sub", NULL, pi, angle), angle);
    return kiln_export_emit(call, "Where", NULL, is_negative(call, y, zero),
                            kiln_export_emit(call, "Neg", NULL, angle), angle);
}

/* Where has no bool and few integers; the condition is never widened. */
const char *kiln_export_select(kiln_export_call *call)
{
    kiln_dtype dtype = call->type->dtype, wide = dtype;
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    bool is_whole = kind == KILN_DTYPE_KIND_FLOAT || kind == KILN_DTYPE_KIND_COMPLEX;
    if (!is_whole && dtype != KILN_i64) wide = KILN_i32;
    if (dtype == KILN_u32 || dtype == KILN_u64) wide = KILN_i64;
    const char *inputs[3];
    for (uint32_t i = 0; i < 3; i++) {
        inputs[i] = kiln_export_small(call, i);
        if (i && wide != dtype) inputs[i] = kiln_export_cast(call, inputs[i], wide);
    }
    const char *made = kiln_export_emit_list(call, "Where", NULL, 3, inputs);
    return wide == dtype ? made : kiln_export_cast(call, made, dtype);
}

const char *kiln_export_clamp(kiln_export_call *call)
{
    const char *low =
        kiln_export_emit(call, "Max", NULL, kiln_export_small(call, 0), kiln_export_small(call, 1));
    return kiln_export_emit(call, "Min", NULL, low, kiln_export_small(call, 2));
}

/* Bits */

/* The unsigned dtype of BitShift that holds `dtype`. */
static kiln_dtype shift_dtype(kiln_dtype dtype)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    return bytes == 1 ? KILN_u8 : bytes == 8 ? KILN_u64 : KILN_u32;
}

static const char *as_unsigned(kiln_export_call *call, const char *name, kiln_dtype dtype)
{
    uint32_t bits = (uint32_t)kiln_dtype_bits(dtype);
    if (bits == 16) name = kiln_export_cast(call, name, KILN_u16);
    name = kiln_export_cast(call, name, shift_dtype(dtype));
    if (bits >= 8) return name;
    const char *mask = kiln_export_scalar(call, shift_dtype(dtype), (1 << bits) - 1);
    return kiln_export_emit(call, "BitwiseAnd", NULL, name, mask);
}

static const char *shift(kiln_export_call *call, const char *a, const char *b, bool is_left)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_string(&attrs, "direction", is_left ? "LEFT" : "RIGHT");
    return kiln_export_emit(call, "BitShift", &attrs, a, b);
}

/* A signed dtype that operators have and every shifted pattern fits, by wrapping. */
static kiln_dtype signed_dtype(kiln_dtype dtype)
{
    return kiln_dtype_bytes(dtype) < 4 ? KILN_i32 : KILN_i64;
}

/* The counts, at most bits - 1; *out_is_good says which were within 0 … bits - 1. */
static const char *shift_counts(kiln_export_call *call, const char **out_is_good)
{
    kiln_dtype dtype = call->own, wide = signed_dtype(dtype);
    double bits = (double)kiln_dtype_bits(dtype);
    const char *counts = kiln_export_cast(call, kiln_export_small(call, 1), wide);
    const char *is_low =
        kiln_export_emit(call, "Less", NULL, counts, kiln_export_scalar(call, wide, bits));
    const char *is_negative =
        kiln_export_emit(call, "Less", NULL, counts, kiln_export_scalar(call, wide, 0));
    *out_is_good = kiln_export_emit(call, "And", NULL, is_low,
                                    kiln_export_emit(call, "Not", NULL, is_negative));
    counts = kiln_export_emit(call, "Where", NULL, *out_is_good, counts,
                              kiln_export_scalar(call, wide, bits - 1));
    return kiln_export_cast(call, counts, shift_dtype(dtype));
}

/* Of the unsigned pattern; counts outside 0 … bits - 1 give 0. */
const char *kiln_export_shift(kiln_export_call *call)
{
    kiln_dtype dtype = call->own, wide = signed_dtype(dtype);
    bool is_left = call->node->op == KILN_OP_shift_left;
    const char *is_good, *counts = shift_counts(call, &is_good);
    const char *a = as_unsigned(call, kiln_export_operand(call, 0), dtype);
    const char *made = kiln_export_cast(call, shift(call, a, counts, is_left), wide);
    made = kiln_export_emit(call, "Where", NULL, is_good, made, kiln_export_scalar(call, wide, 0));
    return kiln_export_cast(call, made, dtype);
}

/* x >> b, and ~(~x >> b) where x < 0: the pattern that is shifted has no top bit. */
const char *kiln_export_shift_arithmetic(kiln_export_call *call)
{
    static const kiln_dtype twins[] = {[2] = KILN_i2,   [4] = KILN_i4,   [8] = KILN_i8,
                                       [16] = KILN_i16, [32] = KILN_i32, [64] = KILN_i64};
    kiln_dtype dtype = call->own, wide = signed_dtype(dtype);
    const char *is_good, *counts = shift_counts(call, &is_good);
    const char *a = kiln_export_operand(call, 0);
    a = kiln_export_cast(call, kiln_export_cast(call, a, twins[kiln_dtype_bits(dtype)]), wide);
    const char *is_negative =
        kiln_export_emit(call, "Less", NULL, a, kiln_export_scalar(call, wide, 0));
    a = kiln_export_emit(call, "Where", NULL, is_negative,
                         kiln_export_emit(call, "BitwiseNot", NULL, a), a);
    a = kiln_export_cast(call, a, shift_dtype(dtype));
    const char *made = kiln_export_cast(call, shift(call, a, counts, false), wide);
    made = kiln_export_emit(call, "Where", NULL, is_negative,
                            kiln_export_emit(call, "BitwiseNot", NULL, made), made);
    return kiln_export_cast(call, made, dtype);
}

/* a as unsigned with a new last axis, shifted right by 0 … bits - 1 */
static const char *all_shifts(kiln_export_call *call, int64_t *out_axis)
{
    kiln_dtype dtype = call->own, pattern = shift_dtype(dtype);
    uint32_t rank = call->type->rank, bits = (uint32_t)kiln_dtype_bits(dtype);
    int64_t axis = rank;
    const char *a = as_unsigned(call, kiln_export_operand(call, 0), dtype);
    a = kiln_export_emit(call, "Unsqueeze", NULL, a, kiln_export_ints(call, (kiln_ints){1, &axis}));
    int64_t *counts = kiln_export_filled(call, bits, 0);
    for (uint32_t i = 0; i < bits; i++) counts[i] = i;
    const char *list = kiln_export_ints(call, (kiln_ints){bits, counts});
    *out_axis = axis;
    return shift(call, a, kiln_export_cast(call, list, pattern), false);
}

static const char *sum_last(kiln_export_call *call, const char *name, int64_t axis)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "keepdims", 0);
    const char *axes = kiln_export_ints(call, (kiln_ints){1, &axis});
    return kiln_export_emit(call, "ReduceSum", &attrs, kiln_export_cast(call, name, KILN_i64),
                            axes);
}

const char *kiln_export_popcnt(kiln_export_call *call)
{
    int64_t axis;
    const char *shifted = all_shifts(call, &axis);
    const char *one = kiln_export_scalar(call, shift_dtype(call->own), 1);
    const char *low = kiln_export_emit(call, "BitwiseAnd", NULL, shifted, one);
    return kiln_export_cast(call, sum_last(call, low, axis), call->own);
}

/* bits minus the number of shifts that leave something */
const char *kiln_export_clz(kiln_export_call *call)
{
    int64_t axis;
    const char *left = kiln_export_cast(call, all_shifts(call, &axis), KILN_bool);
    const char *bits = kiln_export_scalar(call, KILN_i64, (double)kiln_dtype_bits(call->own));
    const char *clear = kiln_export_emit(call, "Sub", NULL, bits, sum_last(call, left, axis));
    return kiln_export_cast(call, clear, call->own);
}
