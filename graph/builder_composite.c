/* The public builder: composites with attributes. */
#include "graph/builder.h"

kiln_value kiln_build_numbers(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {kiln_op_rows[request->op].attrs};
    switch (attrs.family) {
    case KILN_FAMILY_slope:
        attrs.slope.slope = request->number;
        break;
    case KILN_FAMILY_affine:
        attrs.affine.scale = request->number;
        attrs.affine.offset = request->other;
        break;
    case KILN_FAMILY_range:
        attrs.range.low = request->number;
        attrs.range.high = request->other;
        break;
    case KILN_FAMILY_threshold:
        attrs.threshold.threshold = request->number;
        attrs.threshold.value = request->other;
        break;
    case KILN_FAMILY_rotary:
        attrs.rotary.interleaved = request->flag;
        break;
    case KILN_FAMILY_gelu:
        attrs.gelu.tanh = request->flag;
        break;
    case KILN_FAMILY_norm:
        attrs.norm.epsilon = request->number;
        break;
    default:
        return kiln_build_node(graph, request, NULL);
    }
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_leaky_relu(kiln_graph *graph, kiln_value a, double slope)
{
    kiln_request request = {KILN_OP_leaky_relu, .inputs = {a}, .n = 1, .number = slope};
    return kiln_build(graph, kiln_build_numbers, &request);
}

kiln_value kiln_elu(kiln_graph *graph, kiln_value a, double slope)
{
    kiln_request request = {KILN_OP_elu, .inputs = {a}, .n = 1, .number = slope};
    return kiln_build(graph, kiln_build_numbers, &request);
}

kiln_value kiln_gelu(kiln_graph *graph, kiln_value a, int tanh)
{
    kiln_request request = {KILN_OP_gelu, .inputs = {a}, .n = 1, .flag = tanh != 0};
    return kiln_build(graph, kiln_build_numbers, &request);
}

kiln_value kiln_hard_sigmoid(kiln_graph *graph, kiln_value a, double scale, double offset)
{
    kiln_request request = {KILN_OP_hard_sigmoid, .inputs = {a}, .n = 1, .number = scale,
                            .other = offset};
    return kiln_build(graph, kiln_build_numbers, &request);
}

kiln_value kiln_layer_norm(kiln_graph *graph, kiln_value a, kiln_value scale, kiln_value offset,
                           double epsilon)
{
    kiln_request request = {KILN_OP_layer_norm, .inputs = {a, scale, offset}, .n = 3,
                            .number = epsilon};
    return kiln_build(graph, kiln_build_numbers, &request);
}

kiln_value kiln_rms_norm(kiln_graph *graph, kiln_value a, kiln_value scale, double epsilon)
{
    kiln_request request = {KILN_OP_rms_norm, .inputs = {a, scale}, .n = 2, .number = epsilon};
    return kiln_build(graph, kiln_build_numbers, &request);
}

static kiln_value batch_norm_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_batch_norm_operands *operands = request->options;
    if (!operands) kiln_fail(graph->scope, KILN_INVALID, "batch_norm: operands is NULL");
    kiln_request full = *request;
    full.inputs[1] = operands->scale;
    full.inputs[2] = operands->offset;
    full.inputs[3] = operands->mean;
    full.inputs[4] = operands->variance;
    full.n = 5;
    uint32_t rank = kiln_build_type(graph, &full, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_batch_norm};
    attrs.batch_norm.axis = kiln_build_axis(graph, &full, request->axis, rank);
    attrs.batch_norm.epsilon = request->number;
    return kiln_build_node(graph, &full, &attrs);
}

kiln_value kiln_batch_norm(kiln_graph *graph, kiln_value a,
                           const kiln_batch_norm_operands *operands, int64_t axis, double epsilon)
{
    kiln_request request = {KILN_OP_batch_norm, .inputs = {a}, .options = operands, .axis = axis,
                            .number = epsilon};
    return kiln_build(graph, batch_norm_body, &request);
}

kiln_value kiln_linear(kiln_graph *graph, kiln_value a, kiln_value b, kiln_value c)
{
    kiln_request request = {KILN_OP_linear, .inputs = {a, b, c}, .n = c.id ? 3 : 2};
    return kiln_build(graph, kiln_build_numbers, &request);
}

static kiln_value attention_body(kiln_graph *graph, const kiln_request *request)
{
    static const kiln_attention_options standard;
    const kiln_attention_options *options = request->options ? request->options : &standard;
    kiln_request full = *request;
    full.inputs[3] = options->mask;
    full.n = options->mask.id ? 4 : 3;
    kiln_attrs attrs = {KILN_FAMILY_attention,
                        .attention = {options->scale, options->is_causal != 0}};
    return kiln_build_node(graph, &full, &attrs);
}

kiln_value kiln_attention(kiln_graph *graph, kiln_value query, kiln_value key, kiln_value value,
                          const kiln_attention_options *options)
{
    kiln_request request = {KILN_OP_attention, .inputs = {query, key, value}, .options = options};
    return kiln_build(graph, attention_body, &request);
}
