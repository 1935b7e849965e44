/* ONNX export of composites that ONNX has as one operator. */
#include <math.h>

#include "graph/io/export.h"

const char *kiln_export_square(kiln_export_call *call)
{
    const char *x = kiln_export_operand(call, 0);
    return kiln_export_emit(call, "Mul", NULL, x, x);
}

const char *kiln_export_slope(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_float(&attrs, "alpha", call->node->attrs->slope.slope);
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0));
}

const char *kiln_export_affine(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_float(&attrs, "alpha", call->node->attrs->affine.scale);
    kiln_export_attr_float(&attrs, "beta", call->node->attrs->affine.offset);
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0));
}

const char *kiln_export_gelu(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_string(&attrs, "approximate", call->node->attrs->gelu.tanh ? "tanh" : "none");
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0));
}

const char *kiln_export_axis(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", call->node->attrs->axis.axis);
    return kiln_export_emit(call, call->row->onnx, &attrs, kiln_export_operand(call, 0));
}

/* Parameters of the operand's own dtype, which is what ONNX wants. */
static bool has_one_dtype(const kiln_graph *graph, const kiln_node *node)
{
    for (uint32_t i = 1; i < node->n_inputs; i++) {
        if (kiln_graph_type(graph, node->inputs[i])->dtype != node->type->dtype) return false;
    }
    return true;
}

/* ONNX's epsilon is f32, and its layer norm of f64 computes in f32. */
bool kiln_export_fits_norm(const kiln_graph *graph, const kiln_node *node)
{
    kiln_dtype dtype = node->type->dtype;
    return has_one_dtype(graph, node) && dtype != KILN_bf16 && dtype != KILN_f64;
}

bool kiln_export_fits_batch_norm(const kiln_graph *graph, const kiln_node *node)
{
    return kiln_export_fits_norm(graph, node) && node->attrs->batch_norm.axis == 1;
}

/* Within the operators' own dtypes; ONNX computes narrow ones as it likes. */
bool kiln_export_fits_float(const kiln_graph *graph, const kiln_node *node)
{
    return node->type->dtype == KILN_f32 || node->type->dtype == KILN_f16;
}

const char *kiln_export_layer_norm(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", -(int64_t)kiln_export_type(call, 1)->rank);
    kiln_export_attr_float(&attrs, "epsilon", call->node->attrs->norm.epsilon);
    const char *inputs[3];
    for (uint32_t i = 0; i < call->node->n_inputs; i++) inputs[i] = kiln_export_operand(call, i);
    return kiln_export_emit_list(call, call->row->onnx, &attrs, call->node->n_inputs, inputs);
}

const char *kiln_export_batch_norm(kiln_export_call *call)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_float(&attrs, "epsilon", call->node->attrs->batch_norm.epsilon);
    const char *inputs[5];
    for (uint32_t i = 0; i < 5; i++) inputs[i] = kiln_export_operand(call, i);
    return kiln_export_emit_list(call, "BatchNormalization", &attrs, 5, inputs);
}
