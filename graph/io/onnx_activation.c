/* Activations of ONNX and the softmax family. */
#include <math.h>
#include <string.h>

#include "graph/io/onnx_op.h"

/* Operand 0, f16 and bf16 as f32: several steps would round several times. */
static kiln_value wide_operand(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    return kiln_add_convert(call->graph, a, kiln_dtype_accumulator(kiln_onnx_type(call, 0)->dtype));
}

static kiln_value narrow(kiln_onnx_call *call, kiln_value a)
{
    return kiln_add_convert(call->graph, a, kiln_onnx_type(call, 0)->dtype);
}

static kiln_value import_unary(kiln_onnx_call *call)
{
    if (call->row->kiln == KILN_OP_relu)
        return kiln_add_unary(call->graph, KILN_OP_relu, kiln_onnx_operand(call, 0));
    return narrow(call, kiln_add_unary(call->graph, call->row->kiln, wide_operand(call)));
}

static kiln_value with_attrs(kiln_onnx_call *call, kiln_op op, const kiln_attrs *attrs)
{
    kiln_value a = wide_operand(call);
    kiln_node_spec spec = {.op = op, .inputs = &a, .n_inputs = 1, .attrs = attrs};
    return narrow(call, kiln_graph_add(call->graph, &spec));
}

/* LeakyRelu and Elu: one slope, called alpha. */
static kiln_value import_sloped(kiln_onnx_call *call)
{
    double fallback = call->row->kiln == KILN_OP_elu ? 1 : 0.01f;
    kiln_attrs attrs = {KILN_FAMILY_slope, .slope = {kiln_onnx_float(call, "alpha", fallback)}};
    return with_attrs(call, call->row->kiln, &attrs);
}

static kiln_value import_hard_sigmoid(kiln_onnx_call *call)
{
    kiln_attrs attrs = {KILN_FAMILY_affine, .affine = {kiln_onnx_float(call, "alpha", 0.2f),
                                                       kiln_onnx_float(call, "beta", 0.5)}};
    return with_attrs(call, KILN_OP_hard_sigmoid, &attrs);
}

static kiln_value import_gelu(kiln_onnx_call *call)
{
    const char *kind = kiln_onnx_string(call, "approximate", "none");
    bool is_tanh = !strcmp(kind, "tanh");
    if (!is_tanh && strcmp(kind, "none"))
        kiln_onnx_fail(call, "attr 'approximate' is %s; expected none or tanh",
                       kiln_onnx_quote(&call->scope->arena, kind));
    kiln_attrs attrs = {KILN_FAMILY_gelu, .gelu = {is_tanh}};
    return with_attrs(call, KILN_OP_gelu, &attrs);
}

/* a where a > 0, else what `low` makes of it */
static kiln_value positive_or(kiln_onnx_call *call, kiln_value high, kiln_value low)
{
    kiln_value is_high = kiln_onnx_with(call, KILN_OP_gt, kiln_onnx_operand(call, 0), 0);
    return kiln_onnx_select(call, is_high, high, low);
}

static kiln_value import_selu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    bool is_usual =
        !kiln_onnx_has_attribute(call, "alpha") && !kiln_onnx_has_attribute(call, "gamma");
    if (is_usual &&
        kiln_onnx_type(call, 0)->dtype != KILN_f64) /* whose constants have more digits */
        return kiln_add_unary(call->graph, KILN_OP_selu, a);
    double alpha = kiln_onnx_float(call, "alpha", 1.67326319217681884765625);
    double gamma = kiln_onnx_float(call, "gamma", 1.05070102214813232421875);
    kiln_value low = kiln_onnx_with(call, KILN_OP_mul,
                                    kiln_add_unary(call->graph, KILN_OP_expm1, a), alpha * gamma);
    return positive_or(call, kiln_onnx_with(call, KILN_OP_mul, a, gamma), low);
}

static kiln_value import_celu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    double alpha = kiln_onnx_float(call, "alpha", 1);
    kiln_value scaled = kiln_onnx_with(call, KILN_OP_div, a, alpha);
    kiln_value low = kiln_onnx_with(call, KILN_OP_mul,
                                    kiln_add_unary(call->graph, KILN_OP_expm1, scaled), alpha);
    return positive_or(call, a, low);
}

static kiln_value import_thresholded_relu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value is_high = kiln_onnx_with(call, KILN_OP_gt, a, kiln_onnx_float(call, "alpha", 1));
    return kiln_onnx_select(call, is_high, a, kiln_add_splat_like(call->graph, a, 0));
}

static kiln_value import_shrink(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    kiln_value a = kiln_onnx_operand(call, 0);
    double lambda = kiln_onnx_float(call, "lambd", 0.5), bias = kiln_onnx_float(call, "bias", 0);
    kiln_value zero = kiln_add_splat_like(graph, a, 0);
    kiln_value high = kiln_onnx_select(call, kiln_onnx_with(call, KILN_OP_gt, a, lambda),
                                       kiln_onnx_with(call, KILN_OP_sub, a, bias), zero);
    return kiln_onnx_select(call, kiln_onnx_with(call, KILN_OP_lt, a, -lambda),
                            kiln_onnx_with(call, KILN_OP_add, a, bias), high);
}

static kiln_value import_prelu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value slope = kiln_onnx_operand(call, 1);
    uint32_t rank = kiln_onnx_type(call, 0)->rank;
    bool is_channel = call->opset < 7 && kiln_onnx_type(call, 1)->rank == 1 && rank > 1;
    if (is_channel) slope = kiln_onnx_along(call, slope, 1, rank);
    kiln_value low = kiln_onnx_binary(call, KILN_OP_mul, a, slope);
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, a, 0);
    return kiln_onnx_select(call, is_low, low, a);
}

static kiln_value import_swish(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    double alpha = kiln_onnx_float(call, "alpha", 1);
    if (alpha == 1) return kiln_add_unary(call->graph, KILN_OP_silu, a);
    kiln_value gate =
        kiln_add_unary(call->graph, KILN_OP_logistic, kiln_onnx_with(call, KILN_OP_mul, a, alpha));
    return kiln_add_binary(call->graph, KILN_OP_mul, a, gate);
}

/* One where the maximum first stands along the axis, else zero. */
static kiln_value hardmax(kiln_onnx_call *call, kiln_value a, uint32_t axis)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    kiln_attrs attrs = {KILN_FAMILY_arg, .arg = {axis, false}};
    kiln_value at = kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_argmax, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
    int64_t axes[1] = {axis};
    kiln_value wide = kiln_add_unreduce(call->graph, at, a, 1, axes);
    kiln_value place = kiln_onnx_iota(call, KILN_i64, type->rank, type->dims, axis);
    return kiln_add_convert(call->graph, kiln_add_binary(call->graph, KILN_OP_eq, wide, place),
                            type->dtype);
}

static kiln_value softmax_along(kiln_onnx_call *call, kiln_value a, uint32_t axis)
{
    if (call->row->kiln == KILN_OP_argmax) return hardmax(call, a, axis);
    kiln_dtype dtype = kiln_graph_type(call->graph, a)->dtype;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    a = kiln_add_convert(call->graph, a, kiln_dtype_accumulator(dtype));
    kiln_node_spec spec = {.op = call->row->kiln, .inputs = &a, .n_inputs = 1, .attrs = &attrs};
    return kiln_add_convert(call->graph, kiln_graph_add(call->graph, &spec), dtype);
}

/* Before operator set 13 the dims from `axis` on count as one. */
static kiln_value import_softmax(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis =
        kiln_onnx_axis(call, kiln_onnx_int(call, "axis", call->opset < 13 ? 1 : -1), type->rank);
    if (call->opset >= 13 || axis + 1 == type->rank) return softmax_along(call, a, axis);
    int64_t flat[2] = {1, 1};
    for (uint32_t i = 0; i < type->rank; i++) flat[i >= axis] *= type->dims[i];
    kiln_value rows = kiln_add_reshape(call->graph, a, 2, flat);
    return kiln_add_reshape(call->graph, softmax_along(call, rows, 1), type->rank, type->dims);
}

#define UNARY(op, since, kiln)                                                                     \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, 1, 1, import_unary, KILN_OP_##kiln                            \
    }
#define ROW(op, since, function)                                                                   \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, 1, 1, function                                                \
    }

const kiln_onnx_row kiln_onnx_activation_rows[] = {
    UNARY("Relu", 6, relu),
    UNARY("Sigmoid", 6, logistic),
    UNARY("Softplus", 6, softplus),
    UNARY("Mish", 18, mish),
    UNARY("HardSwish", 14, hard_swish),
    {"LeakyRelu", 6, KILN_ONNX_NEWEST, 1, 1, import_sloped, KILN_OP_leaky_relu},
    {"Elu", 6, KILN_ONNX_NEWEST, 1, 1, import_sloped, KILN_OP_elu},
    ROW("HardSigmoid", 6, import_hard_sigmoid),
    ROW("Gelu", 20, import_gelu),
    ROW("Selu", 6, import_selu),
    ROW("Celu", 12, import_celu),
    ROW("ThresholdedRelu", 10, import_thresholded_relu),
    UNARY("Softsign", 6, softsign),
    ROW("Shrink", 9, import_shrink),
    ROW("Swish", 24, import_swish),
    {"PRelu", 6, KILN_ONNX_NEWEST, 2, 2, import_prelu},
    {"Softmax", 6, KILN_ONNX_NEWEST, 1, 1, import_softmax, KILN_OP_softmax},
    {"LogSoftmax", 6, KILN_ONNX_NEWEST, 1, 1, import_softmax, KILN_OP_log_softmax},
    {"Hardmax", 6, KILN_ONNX_NEWEST, 1, 1, import_softmax, KILN_OP_argmax},
    {0},
};
