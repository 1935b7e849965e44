/* Losses of ONNX. The class of each target is picked by comparing with all classes, so that a
 * target outside of them picks nothing. */
#include <string.h>

#include "graph/io/onnx_op.h"

/* a[n, c, …] where c is the target of [n, …], summed over c. */
static kiln_value class_pick(kiln_onnx_call *call, kiln_value a, kiln_value target)
{
    static const int64_t axis[1] = {1};
    const kiln_type *type = kiln_graph_type(call->graph, a);
    kiln_value classes = kiln_onnx_iota(call, KILN_i64, type->rank, type->dims, 1);
    kiln_value wide = kiln_add_unreduce(call->graph, target, a, 1, axis);
    kiln_value is_it = kiln_add_binary(call->graph, KILN_OP_eq, wide, classes);
    kiln_value picked = kiln_onnx_select(call, is_it, a, kiln_add_splat_like(call->graph, a, 0));
    return kiln_add_reduce(call->graph, KILN_OP_reduce_sum, picked, 1, axis);
}

static kiln_value sum_all(kiln_onnx_call *call, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t axes[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
    return kiln_add_reduce(call->graph, KILN_OP_reduce_sum, a, type->rank, axes);
}

/* -weight[target] * scores[target], reduced as asked. */
static kiln_value likelihood(kiln_onnx_call *call, kiln_value scores)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_graph_type(graph, scores), *given = kiln_onnx_type(call, 1);
    const char *reduction = kiln_onnx_string(call, "reduction", "mean");
    int64_t axes[1] = {1};
    if (type->rank < 2 || given->rank + 1 != type->rank)
        kiln_onnx_fail(call, "scores of rank %u, targets of rank %u; expected one less", type->rank,
                       given->rank);
    kiln_value target = kiln_add_convert(graph, call->inputs[1], KILN_i64), weight;
    kiln_value loss = kiln_add_unary(graph, KILN_OP_neg, class_pick(call, scores, target));
    if (kiln_onnx_has(call, 2)) {
        kiln_value all = kiln_add_convert(graph, call->inputs[2], type->dtype);
        weight =
            class_pick(call, kiln_add_broadcast(graph, all, type->rank, type->dims, axes), target);
    } else {
        weight = kiln_add_splat_like(graph, loss, 1);
    }
    if (kiln_onnx_has_attribute(call, "ignore_index")) {
        double ignored = (double)kiln_onnx_int(call, "ignore_index", 0);
        kiln_value zero = kiln_add_splat_like(graph, loss, 0),
                   is_out = kiln_onnx_with(call, KILN_OP_eq, target, ignored);
        weight = kiln_onnx_select(call, is_out, zero, weight);
        loss = kiln_onnx_select(call, is_out, zero, loss);
    }
    loss = kiln_add_binary(graph, KILN_OP_mul, loss, weight);
    if (!strcmp(reduction, "none")) return loss;
    if (!strcmp(reduction, "sum")) return sum_all(call, loss);
    if (strcmp(reduction, "mean"))
        kiln_onnx_fail(call, "attr 'reduction' is %s; expected none, sum or mean",
                       kiln_onnx_quote(&call->scope->arena, reduction));
    return kiln_add_binary(graph, KILN_OP_div, sum_all(call, loss), sum_all(call, weight));
}

static kiln_value import_likelihood(kiln_onnx_call *call)
{
    return likelihood(call, kiln_onnx_operand(call, 0));
}

static kiln_value import_cross_entropy(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_onnx_ranked(call, 0, 2);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {1}};
    kiln_value scores = kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_log_softmax, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
    kiln_onnx_result(call, 1, scores);
    return likelihood(call, scores);
}

const kiln_onnx_row kiln_onnx_loss_rows[] = {
    {"NegativeLogLikelihoodLoss", 12, KILN_ONNX_NEWEST, 2, 3, import_likelihood},
    {"SoftmaxCrossEntropyLoss", 12, KILN_ONNX_NEWEST, 2, 3, import_cross_entropy},
    {0},
};
