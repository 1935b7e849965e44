/* Narrow floats as patterns: decoding to f32 and rounding from f32 or f64, in integer operations of
 * the graph, for every format of graph/element.c. Formats are given by fraction, exponent and bias;
 * what is special at the top follows from the format's row. */
#include <math.h>

#include "passes/legalize.h"

/* The layout of the wide float at the other end. */
typedef struct wide_float {
    kiln_dtype dtype, bits_dtype;
    int fraction, bias;
    double infinity; /* its pattern */
} wide_float;

static const wide_float single = {KILN_f32, KILN_u32, 23, 127, 0x7f800000};
static const wide_float twice = {KILN_f64, KILN_u64, 52, 1023, 0x7ff0000000000000};

static kiln_value splat_like(kiln_graph *graph, kiln_value like, kiln_dtype dtype, double value)
{
    const kiln_type *type = kiln_graph_type(graph, like);
    return kiln_add_splat(graph, dtype, type->rank, type->dims, value);
}

kiln_value kiln_float_decode(kiln_graph *graph, kiln_value pattern, kiln_dtype dtype)
{
    const kiln_float_format *format = kiln_float_format_of(dtype);
    int fraction = format->fraction, width = format->fraction + format->exponent;
    kiln_value wide = kiln_add_convert(graph, pattern, KILN_u32);
    kiln_value size = kiln_legal_with(graph, KILN_OP_and, wide, ldexp(1, width) - 1);
    kiln_value bits = kiln_legal_with(graph, KILN_OP_shift_left, size, 23 - fraction);

    /* A subnormal m is read as the fraction of 2^least, from which 2^least is taken away. */
    int least = 1 - format->bias;
    kiln_value tiny = kiln_legal_with(graph, KILN_OP_add, bits, ldexp(127 + least, 23));
    tiny = kiln_legal_bitcast(graph, tiny, KILN_f32);
    tiny = kiln_legal_with(graph, KILN_OP_sub, tiny, ldexp(1, least));
    kiln_value normal = kiln_legal_with(graph, KILN_OP_add, bits, ldexp(127 - format->bias, 23));
    normal = kiln_legal_bitcast(graph, normal, KILN_f32);
    kiln_value is_tiny = kiln_legal_with(graph, KILN_OP_lt, size, ldexp(1, fraction));
    kiln_value value = kiln_legal_select(graph, is_tiny, tiny, normal);

    if (format->over > format->top && !format->is_unsigned_zero) {
        bool has_infinity = format->over != format->nan;
        kiln_value top = splat_like(graph, size, KILN_f32, has_infinity ? INFINITY : NAN);
        kiln_value is_beyond = kiln_legal_with(graph, KILN_OP_gt, size, format->top);
        value = kiln_legal_select(graph, is_beyond, top, value);
        kiln_value is_nan = kiln_legal_with(graph, KILN_OP_gt, size, format->over);
        kiln_value nan = splat_like(graph, size, KILN_f32, NAN);
        if (has_infinity) value = kiln_legal_select(graph, is_nan, nan, value);
    }
    kiln_value sign = kiln_legal_with(graph, KILN_OP_ge, wide, ldexp(1, width));
    value = kiln_legal_select(graph, sign, kiln_add_unary(graph, KILN_OP_neg, value), value);
    if (!format->is_unsigned_zero) return value;
    kiln_value is_nan = kiln_legal_with(graph, KILN_OP_eq, wide, format->nan);
    return kiln_legal_select(graph, is_nan, splat_like(graph, size, KILN_f32, NAN), value);
}

/* The magnitude's pattern, rounded to nearest even; beyond `top` where it is too large. */
static kiln_value round_size(kiln_graph *graph, kiln_value size, const wide_float *wide,
                             const kiln_float_format *format)
{
    int drop = wide->fraction - format->fraction, least = 1 - format->bias;
    kiln_value odd = kiln_legal_with(graph, KILN_OP_shift_right_logical, size, drop);
    odd = kiln_legal_with(graph, KILN_OP_and, odd, 1);
    kiln_value normal = kiln_add_binary(graph, KILN_OP_add, size, odd);
    normal = kiln_legal_with(graph, KILN_OP_add, normal, ldexp(1, drop - 1) - 1);
    normal = kiln_legal_with(graph, KILN_OP_shift_right_logical, normal, drop);
    double rebias = ldexp(wide->bias - format->bias, format->fraction);
    normal = kiln_legal_with(graph, KILN_OP_sub, normal, rebias);

    /* The unit of 2^magic is the least subnormal, so an addition rounds to it. */
    int magic = least - format->fraction + wide->fraction;
    kiln_value tiny = kiln_legal_bitcast(graph, size, wide->dtype);
    tiny = kiln_legal_with(graph, KILN_OP_add, tiny, ldexp(1, magic));
    tiny = kiln_legal_bitcast(graph, tiny, wide->bits_dtype);
    tiny = kiln_legal_with(graph, KILN_OP_sub, tiny, ldexp(wide->bias + magic, wide->fraction));
    double edge = ldexp(wide->bias + least, wide->fraction);
    kiln_value is_tiny = kiln_legal_with(graph, KILN_OP_lt, size, edge);
    return kiln_legal_select(graph, is_tiny, tiny, normal);
}

/* A pattern in all elements; with their signs unless it has one. */
static kiln_value signed_code(kiln_graph *graph, kiln_value sign, int code, int width)
{
    kiln_value splat = kiln_add_splat_like(graph, sign, code);
    return code >> width ? splat : kiln_add_binary(graph, KILN_OP_or, sign, splat);
}

kiln_value kiln_float_encode(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_float_format *format = kiln_float_format_of(dtype);
    const wide_float *wide = kiln_graph_type(graph, a)->dtype == KILN_f64 ? &twice : &single;
    int width = format->fraction + format->exponent, bits = wide == &twice ? 64 : 32;
    kiln_value pattern = kiln_legal_bitcast(graph, a, wide->bits_dtype);
    kiln_value sign = kiln_legal_with(graph, KILN_OP_shift_right_logical, pattern, bits - 1);
    sign = kiln_legal_with(graph, KILN_OP_shift_left, sign, width);
    kiln_value size = kiln_add_unary(graph, KILN_OP_abs, a);
    size = kiln_legal_bitcast(graph, size, wide->bits_dtype);
    kiln_value code = round_size(graph, size, wide, format);

    if (format->is_unsigned_zero) {
        kiln_value is_zero = kiln_legal_with(graph, KILN_OP_eq, code, 0);
        sign = kiln_legal_select(graph, is_zero, code, sign);
    }
    kiln_value value = kiln_add_binary(graph, KILN_OP_or, sign, code);
    kiln_value over = signed_code(graph, sign, format->over, width);
    kiln_value is_beyond = kiln_legal_with(graph, KILN_OP_gt, code, format->top);
    value = kiln_legal_select(graph, is_beyond, over, value);
    if (format->nan != format->over) {
        kiln_value nan = signed_code(graph, sign, format->nan, width);
        kiln_value is_nan = kiln_legal_with(graph, KILN_OP_gt, size, wide->infinity);
        value = kiln_legal_select(graph, is_nan, nan, value);
    }
    return kiln_add_convert(graph, value, KILN_u8);
}
