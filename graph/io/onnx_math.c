/* Elementwise arithmetic, comparison and logic of ONNX. Operands broadcast as in NumPy. */
#include <math.h>

#include "graph/io/onnx_op.h"

static kiln_value import_unary(kiln_onnx_call *call)
{
    return kiln_add_unary(call->graph, call->row->kiln, kiln_onnx_operand(call, 0));
}

/* Before operator set 7 operand 1 stretched only with `broadcast`, its dims standing from `axis`
 * on. */
static kiln_value old_operand(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0), *own = kiln_onnx_type(call, 1);
    if (call->opset >= 7 || !kiln_onnx_flag(call, "broadcast", false)) return call->inputs[1];
    if (!kiln_onnx_has_attribute(call, "axis")) return call->inputs[1];
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    int64_t dims[KILN_MAX_RANK];
    if (axis + own->rank > type->rank)
        kiln_onnx_fail(call, "operand 1 has rank %u from axis %u; expected at most rank %u",
                       own->rank, axis, type->rank);
    for (uint32_t i = 0; i < type->rank - axis; i++) dims[i] = i < own->rank ? own->dims[i] : 1;
    return kiln_add_reshape(call->graph, call->inputs[1], type->rank - axis, dims);
}

static kiln_value import_binary(kiln_onnx_call *call)
{
    return kiln_onnx_binary(call, call->row->kiln, kiln_onnx_operand(call, 0), old_operand(call));
}

/* Max, Min and Sum of any number of operands. */
static kiln_value import_variadic(kiln_onnx_call *call)
{
    kiln_value result = kiln_onnx_operand(call, 0);
    for (uint32_t i = 1; i < call->n_inputs; i++) {
        result = kiln_onnx_binary(call, call->row->kiln, result, kiln_onnx_operand(call, i));
    }
    return result;
}

static kiln_value import_mean(kiln_onnx_call *call)
{
    kiln_value sum = import_variadic(call);
    return kiln_onnx_with(call, KILN_OP_div, sum, call->n_inputs);
}

/* The one value of a constant operand: true when it is a single known number. */
static bool is_number(kiln_onnx_call *call, kiln_value value, double *out)
{
    const kiln_type *type = kiln_graph_type(call->graph, value);
    const void *data = type->n_elements == 1 ? kiln_onnx_known(call, value) : NULL;
    if (data) *out = kiln_onnx_float_at(type->dtype, data, 0);
    return data != NULL;
}

/* The result has the type of the base. Squares and cubes are products. */
static kiln_value import_pow(kiln_onnx_call *call)
{
    kiln_value base = kiln_onnx_operand(call, 0), power = old_operand(call);
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype, other = kiln_onnx_type(call, 1)->dtype;
    double number;
    if (kiln_onnx_type(call, 1)->rank <= kiln_onnx_type(call, 0)->rank &&
        is_number(call, power, &number)) {
        if (number == 1) return base;
        if (number == 2) return kiln_add_unary(call->graph, KILN_OP_square, base);
        if (number == 3)
            return kiln_add_binary(call->graph, KILN_OP_mul,
                                   kiln_add_unary(call->graph, KILN_OP_square, base), base);
    }
    bool is_mixed = !kiln_onnx_is_float(dtype) && kiln_onnx_is_float(other);
    kiln_dtype wide = is_mixed ? KILN_f64 : dtype;
    base = kiln_add_convert(call->graph, base, wide);
    power = kiln_add_convert(call->graph, power, wide);
    return kiln_add_convert(call->graph, kiln_onnx_binary(call, KILN_OP_pow, base, power), dtype);
}

/* fmod 1 is C's remainder; otherwise the sign is the divisor's, as in Python. */
static kiln_value import_mod(kiln_onnx_call *call)
{
    kiln_value values[] = {kiln_onnx_operand(call, 0), kiln_onnx_operand(call, 1)};
    kiln_onnx_broadcast(call, 2, values);
    kiln_graph *graph = call->graph;
    kiln_dtype_kind kind = kiln_dtype_kind_of(kiln_onnx_type(call, 0)->dtype);
    kiln_value rem = kiln_add_binary(graph, KILN_OP_rem, values[0], values[1]);
    if (kiln_onnx_flag(call, "fmod", false) || kind == KILN_DTYPE_KIND_UINT) return rem;
    kiln_value is_rem_low = kiln_onnx_with(call, KILN_OP_lt, rem, 0);
    kiln_value is_other_low = kiln_onnx_with(call, KILN_OP_lt, values[1], 0);
    kiln_value differs = kiln_add_binary(graph, KILN_OP_xor, is_rem_low, is_other_low);
    kiln_value is_some = kiln_onnx_with(call, KILN_OP_ne, rem, 0);
    kiln_value shifted = kiln_add_binary(graph, KILN_OP_add, rem, values[1]);
    return kiln_onnx_select(call, kiln_add_binary(graph, KILN_OP_and, differs, is_some), shifted,
                            rem);
}

static kiln_value import_shift(kiln_onnx_call *call)
{
    const char *direction = kiln_onnx_string(call, "direction", "");
    bool is_left = direction[0] == 'L' && direction[1] == 'E';
    if (!is_left && direction[0] != 'R')
        kiln_onnx_fail(call, "attr 'direction' is %s; expected LEFT or RIGHT",
                       kiln_onnx_quote(&call->scope->arena, direction));
    bool is_signed = kiln_dtype_kind_of(kiln_onnx_type(call, 0)->dtype) == KILN_DTYPE_KIND_INT;
    kiln_op right = is_signed ? KILN_OP_shift_right_arithmetic : KILN_OP_shift_right_logical;
    return kiln_onnx_binary(call, is_left ? KILN_OP_shift_left : right, kiln_onnx_operand(call, 0),
                            kiln_onnx_operand(call, 1));
}

static kiln_value import_is_nan(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    return kiln_add_binary(call->graph, KILN_OP_ne, a, a);
}

static kiln_value import_is_inf(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    bool has_negative = kiln_onnx_flag(call, "detect_negative", true);
    bool has_positive = kiln_onnx_flag(call, "detect_positive", true);
    kiln_value low = kiln_onnx_with(call, KILN_OP_eq, a, -INFINITY);
    kiln_value high = kiln_onnx_with(call, KILN_OP_eq, a, INFINITY);
    if (has_negative && has_positive) return kiln_add_binary(call->graph, KILN_OP_or, low, high);
    if (has_negative || has_positive) return has_negative ? low : high;
    return kiln_add_splat_like(call->graph, low, 0);
}

static kiln_value import_where(kiln_onnx_call *call)
{
    return kiln_onnx_select(call, kiln_onnx_operand(call, 0), kiln_onnx_operand(call, 1),
                            kiln_onnx_operand(call, 2));
}

/* A bound of Clip: operand i, or before operator set 11 the attribute; id 0 when there is none. */
static kiln_value clip_bound(kiln_onnx_call *call, uint32_t i, const char *attribute)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    if (call->opset >= 11) {
        if (!kiln_onnx_has(call, i)) return (kiln_value){0};
        const kiln_type *type = kiln_onnx_type(call, i), *like = kiln_onnx_type(call, 0);
        if (type->n_elements != 1)
            kiln_onnx_fail(call, "operand %u is not a scalar; expected one", i);
        kiln_value scalar = kiln_add_reshape(call->graph, call->inputs[i], 0, NULL);
        return kiln_add_broadcast_to(call->graph, scalar, like->rank, like->dims);
    }
    if (!kiln_onnx_has_attribute(call, attribute)) return (kiln_value){0};
    return kiln_add_splat_like(call->graph, a, kiln_onnx_float(call, attribute, 0));
}

static kiln_value import_clip(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value low = clip_bound(call, 1, "min"), high = clip_bound(call, 2, "max");
    if (low.id && high.id) {
        kiln_value values[] = {low, a, high};
        return kiln_graph_add(
            call->graph, &(kiln_node_spec){.op = KILN_OP_clamp, .inputs = values, .n_inputs = 3});
    }
    if (low.id) return kiln_add_binary(call->graph, KILN_OP_max, a, low);
    return high.id ? kiln_add_binary(call->graph, KILN_OP_min, a, high) : a;
}

#define UNARY(op, since, kiln)                                                                     \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, 1, 1, import_unary, KILN_OP_##kiln                            \
    }
#define BINARY(op, since, kiln)                                                                    \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, 2, 2, import_binary, KILN_OP_##kiln                           \
    }
#define VARIADIC(op, kiln)                                                                         \
    {                                                                                              \
        op, 6, KILN_ONNX_NEWEST, 1, KILN_ONNX_ANY, import_variadic, KILN_OP_##kiln                 \
    }
#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_math_rows[] = {
    UNARY("Neg", 6, neg),
    UNARY("Abs", 6, abs),
    UNARY("Sign", 9, sign),
    UNARY("Floor", 6, floor),
    UNARY("Ceil", 6, ceil),
    UNARY("Round", 11, round_even),
    UNARY("Exp", 6, exp),
    UNARY("Log", 6, log),
    UNARY("Sqrt", 6, sqrt),
    UNARY("Sin", 6, sin),
    UNARY("Cos", 6, cos),
    UNARY("Tan", 6, tan),
    UNARY("Atan", 6, atan),
    UNARY("Tanh", 6, tanh),
    UNARY("Erf", 9, erf),
    UNARY("Reciprocal", 6, reciprocal),
    UNARY("Not", 1, not ),
    UNARY("BitwiseNot", 18, not ),
    BINARY("Add", 6, add),
    BINARY("Sub", 6, sub),
    BINARY("Mul", 6, mul),
    BINARY("Div", 6, div),
    BINARY("And", 6, and),
    BINARY("Or", 6, or),
    BINARY("Xor", 6, xor),
    BINARY("BitwiseAnd", 18, and),
    BINARY("BitwiseOr", 18, or),
    BINARY("BitwiseXor", 18, xor),
    BINARY("Equal", 6, eq),
    BINARY("Less", 6, lt),
    BINARY("Greater", 6, gt),
    BINARY("LessOrEqual", 12, le),
    BINARY("GreaterOrEqual", 12, ge),
    VARIADIC("Max", max),
    VARIADIC("Min", min),
    VARIADIC("Sum", add),
    {"Mean", 6, KILN_ONNX_NEWEST, 1, KILN_ONNX_ANY, import_mean, KILN_OP_add},
    ROW("Pow", 6, 2, 2, import_pow),
    ROW("Mod", 10, 2, 2, import_mod),
    ROW("BitShift", 11, 2, 2, import_shift),
    ROW("IsNaN", 9, 1, 1, import_is_nan),
    ROW("IsInf", 10, 1, 1, import_is_inf),
    ROW("Where", 9, 3, 3, import_where),
    ROW("Clip", 6, 1, 3, import_clip),
    UNARY("Asin", 6, asin),
    UNARY("Acos", 6, acos),
    UNARY("Sinh", 9, sinh),
    UNARY("Cosh", 9, cosh),
    UNARY("Asinh", 9, asinh),
    UNARY("Acosh", 9, acosh),
    UNARY("Atanh", 9, atanh),
    {0},
};
