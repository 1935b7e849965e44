/* Composites that read or write the bits of floats: tests, rounding, neighbours, fewer bits. */
#include <math.h>

#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

RULE(is_nan)
{
    return kiln_add_binary(g, KILN_OP_ne, inputs[0], inputs[0]);
}

RULE(is_inf)
{
    return is_number(g, size(g, inputs[0]), INFINITY);
}

/* floor |a|, and one more from a fraction of 1/2 on */
RULE(round_half_away)
{
    kiln_value b = size(g, inputs[0]), low = whole(g, b);
    kiln_value is_up =
        kiln_add_binary(g, KILN_OP_ge, less(g, b, low), kiln_add_splat_like(g, b, 0.5));
    return with_sign(g, choose(g, is_up, plus_n(g, low, 1), low), inputs[0]);
}

typedef struct float_shape {
    kiln_dtype bits;
    int width, mantissa, bias;
} float_shape;

static float_shape shape_of(const kiln_graph *g, kiln_value a)
{
    switch (kiln_graph_type(g, a)->dtype) {
    case KILN_f64:
        return (float_shape){KILN_u64, 64, 52, 1023};
    case KILN_f32:
        return (float_shape){KILN_u32, 32, 23, 127};
    case KILN_bf16:
        return (float_shape){KILN_u16, 16, 7, 127};
    default:
        return (float_shape){KILN_u16, 16, 10, 15};
    }
}

static kiln_value bitcast(kiln_graph *g, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(g, a);
    const kiln_type *given = kiln_graph_tensor(g, dtype, type->rank, type->dims);
    return kiln_graph_add(
        g, &(kiln_node_spec){.op = KILN_OP_bitcast, .given = given, .inputs = &a, .n_inputs = 1});
}

/* A splat of exact bits: a double does not hold all of 64. */
static kiln_value splat_bits(kiln_graph *g, kiln_value like, uint64_t bits)
{
    const kiln_type *type = kiln_graph_type(g, like);
    kiln_attrs attrs = {KILN_FAMILY_literal};
    attrs.literal.value = (kiln_literal){
        .kind = KILN_LITERAL_SPLAT, .data = &bits, .bytes = (int64_t)kiln_dtype_bytes(type->dtype)};
    kiln_value scalar =
        kiln_graph_add(g, &(kiln_node_spec){.op = KILN_OP_constant,
                                            .given = kiln_graph_tensor(g, type->dtype, 0, NULL),
                                            .attrs = &attrs});
    return kiln_add_broadcast_to(g, scalar, type->rank, type->dims);
}

/* One step of the bits away from 0 when b lies there, else towards it; from 0 to the least. */
RULE(next_after)
{
    kiln_value a = inputs[0], b = inputs[1];
    if (kiln_dtype_bits(kiln_graph_type(g, a)->dtype) < 16) {
        kiln_fail(g->scope, KILN_INVALID,
                  "next_after: operand %s; expected a float of 16 to 64 bits",
                  kiln_rule_type(g, a));
    }
    float_shape shape = shape_of(g, a);
    kiln_value bits = bitcast(g, a, shape.bits);
    kiln_value is_up = kiln_add_binary(g, KILN_OP_gt, b, a);
    kiln_value is_away = kiln_add_binary(g, KILN_OP_eq, is_up, is_above(g, a, 0));
    kiln_value next =
        choose(g, is_away, plus_n(g, bits, 1), less(g, bits, kiln_add_splat_like(g, bits, 1)));
    kiln_value sign = splat_bits(g, bits, (uint64_t)1 << (shape.width - 1));
    kiln_value least = choose(g, is_up, kiln_add_splat_like(g, bits, 1), plus_n(g, sign, 1));
    next = choose(g, is_number(g, a, 0), least, next);
    kiln_value y = bitcast(g, next, kiln_graph_type(g, a)->dtype);
    y = choose(g, kiln_add_binary(g, KILN_OP_eq, a, b), b, y);
    y = choose(g, kiln_add_binary(g, KILN_OP_ne, b, b), b, y);
    return choose(g, kiln_add_binary(g, KILN_OP_ne, a, a), a, y);
}

/* The nearest number with so many mantissa bits, ties to even, as bits; the carry may reach the
 * exponent. */
static kiln_value round_mantissa(kiln_graph *g, kiln_value bits, int dropped)
{
    kiln_value last = mask_n(g, right_n(g, bits, dropped), 1);
    uint64_t half = ((uint64_t)1 << (dropped - 1)) - 1;
    bits = sum(g, sum(g, bits, splat_bits(g, bits, half)), last);
    return kiln_add_binary(g, KILN_OP_and, bits,
                           splat_bits(g, bits, ~(((uint64_t)1 << dropped) - 1)));
}

/* Exponents beyond the smaller range become infinities, below it zeros: no denormals. */
RULE(reduce_precision)
{
    bool is_small = kiln_dtype_bits(kiln_graph_type(g, inputs[0])->dtype) < 16;
    kiln_value a = is_small ? kiln_add_convert(g, inputs[0], KILN_f32) : inputs[0];
    float_shape shape = shape_of(g, a);
    int64_t exponent = attrs->reduce_precision.exponent_bits;
    int64_t mantissa = attrs->reduce_precision.mantissa_bits;
    if (exponent < 1 || exponent > 63 || mantissa < 0 || mantissa > 63) {
        kiln_fail(g->scope, KILN_INVALID,
                  "reduce_precision: %lld exponent and %lld mantissa bits; expected 1 to 63 and 0 "
                  "to 63",
                  (long long)exponent, (long long)mantissa);
    }
    int own = shape.width - 1 - shape.mantissa;
    kiln_value bits = bitcast(g, a, shape.bits), kept = bits;
    if (mantissa < shape.mantissa) bits = round_mantissa(g, bits, shape.mantissa - (int)mantissa);
    if (exponent < own) {
        int64_t bias = ((int64_t)1 << (exponent - 1)) - 1;
        kiln_value sign = kiln_add_binary(g, KILN_OP_and, kept,
                                          splat_bits(g, kept, (uint64_t)1 << (shape.width - 1)));
        uint64_t field = ((uint64_t)1 << own) - 1;
        kiln_value scale = mask_n(g, right_n(g, bits, shape.mantissa), (double)field);
        kiln_value infinite = splat_bits(g, bits, field << shape.mantissa);
        bits = choose(g, is_above(g, scale, (double)(shape.bias + bias)), join(g, sign, infinite),
                      bits);
        kiln_value is_low = kiln_add_binary(
            g, KILN_OP_le, scale, kiln_add_splat_like(g, scale, (double)(shape.bias - bias)));
        bits = choose(g, is_low, sign, bits);
    }
    kiln_value y = bitcast(g, bits, kiln_graph_type(g, a)->dtype);
    y = choose(g, kiln_add_binary(g, KILN_OP_ne, a, a), a, y);
    return kiln_rule_narrow(g, y, kiln_graph_type(g, inputs[0])->dtype);
}
