/* The public builder: what training needs of normalisation and pooling. */
#include "graph/builder.h"

static kiln_value batch_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_batch_norm};
    attrs.batch_norm.axis = kiln_build_axis(graph, request, request->axis, rank);
    attrs.batch_norm.epsilon = request->number;
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_batch_norm_training(kiln_graph *graph, kiln_value a,
                                    const kiln_batch_norm_operands *operands, int64_t axis,
                                    double epsilon)
{
    kiln_request request = {KILN_OP_batch_norm_training, .inputs = {a}, .n = 3, .axis = axis,
                            .number = epsilon};
    if (operands) {
        request.inputs[1] = operands->scale;
        request.inputs[2] = operands->offset;
    }
    return kiln_build(graph, batch_body, &request);
}

static kiln_value grad(kiln_graph *graph, kiln_request *request,
                       const kiln_batch_norm_grad_operands *operands)
{
    request->n = 5;
    if (operands) {
        request->inputs[1] = operands->scale;
        request->inputs[2] = operands->mean;
        request->inputs[3] = operands->variance;
        request->inputs[4] = operands->gradient;
    }
    return kiln_build(graph, batch_body, request);
}

kiln_value kiln_batch_norm_grad(kiln_graph *graph, kiln_value a,
                                const kiln_batch_norm_grad_operands *operands, int64_t axis,
                                double epsilon)
{
    kiln_request request = {KILN_OP_batch_norm_grad, .inputs = {a}, .axis = axis,
                            .number = epsilon};
    return grad(graph, &request, operands);
}

kiln_value kiln_batch_norm_grad_scale(kiln_graph *graph, kiln_value a,
                                      const kiln_batch_norm_grad_operands *operands, int64_t axis,
                                      double epsilon)
{
    kiln_request request = {KILN_OP_batch_norm_grad_scale, .inputs = {a}, .axis = axis,
                            .number = epsilon};
    return grad(graph, &request, operands);
}

static kiln_value select_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_window_options *options = request->options;
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    if (!options) kiln_fail(graph->scope, KILN_INVALID, "window_max_grad: options is NULL");
    kiln_attrs attrs = {KILN_FAMILY_window};
    attrs.window.sizes = kiln_build_list(graph, options->sizes, rank, 1);
    attrs.window.strides = kiln_build_list(graph, options->strides, rank, 1);
    attrs.window.low = kiln_build_list(graph, options->low, rank, 0);
    attrs.window.high = kiln_build_list(graph, options->high, rank, 0);
    attrs.window.dilations = kiln_build_list(graph, options->dilations, rank, 1);
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_window_max_grad(kiln_graph *graph, kiln_value a, kiln_value source,
                                const kiln_window_options *options)
{
    kiln_request request = {KILN_OP_window_max_grad, .inputs = {a, source}, .n = 2,
                            .options = options};
    return kiln_build(graph, select_body, &request);
}
