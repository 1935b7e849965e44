/* MatMul and Gemm: contractions without copies, transposes are told by the contracted axes. */
#include <inttypes.h>

#include "graph/io/onnx_op.h"

static kiln_value dot(kiln_onnx_call *call, const kiln_value *operands, const kiln_attrs *attrs)
{
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dot_general,
                                                         .inputs = operands,
                                                         .n_inputs = 2,
                                                         .attrs = attrs});
}

/* The dims before the last two of both, broadcast against each other. */
static uint32_t batch_dims(kiln_onnx_call *call, const kiln_type *a, const kiln_type *b,
                           int64_t *dims)
{
    uint32_t n = (a->rank > b->rank ? a->rank : b->rank) - 2;
    for (uint32_t i = 0; i < n; i++) {
        int64_t x = i + a->rank < n + 2 ? 1 : a->dims[i + a->rank - 2 - n];
        int64_t y = i + b->rank < n + 2 ? 1 : b->dims[i + b->rank - 2 - n];
        if (x != y && x != 1 && y != 1)
            kiln_onnx_fail(call, "batch dims %" PRId64 " and %" PRId64 "; expected equal ones", x,
                           y);
        dims[i] = x == 1 ? y : x;
    }
    return n;
}

static kiln_value batch_spread(kiln_onnx_call *call, kiln_value a, uint32_t n, const int64_t *batch)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < n; i++) dims[i] = batch[i];
    dims[n] = type->dims[type->rank - 2];
    dims[n + 1] = type->dims[type->rank - 1];
    return kiln_add_broadcast_to(call->graph, a, n + 2, dims);
}

/* Both of rank 2 or more. A matrix on the right needs no batch: the dims of a are all free. */
static kiln_value matmul_full(kiln_onnx_call *call, kiln_value a, kiln_value b,
                              kiln_dtype accumulate)
{
    const kiln_type *left = kiln_graph_type(call->graph, a),
                    *right = kiln_graph_type(call->graph, b);
    int64_t batch[KILN_MAX_RANK], axes[KILN_MAX_RANK], k_left = left->rank - 1,
                                                       k_right = right->rank - 2;
    uint32_t n = 0;
    if (right->rank > 2) {
        n = batch_dims(call, left, right, batch);
        a = batch_spread(call, a, n, batch);
        b = batch_spread(call, b, n, batch);
        k_left = n + 1;
        k_right = n;
    }
    for (uint32_t i = 0; i < n; i++) axes[i] = i;
    kiln_value operands[] = {a, b};
    kiln_attrs attrs = {KILN_FAMILY_dot,
                        .dot = {{n, axes}, {n, axes}, {1, &k_left}, {1, &k_right}, accumulate}};
    return dot(call, operands, &attrs);
}

kiln_value kiln_onnx_matmul(kiln_onnx_call *call, kiln_value a, kiln_value b, kiln_dtype accumulate)
{
    const kiln_type *left = kiln_graph_type(call->graph, a),
                    *right = kiln_graph_type(call->graph, b);
    if (left->rank == 0 || right->rank == 0)
        kiln_onnx_fail(call, "an operand is a scalar; expected matrices or vectors");
    bool is_row = left->rank == 1, is_column = right->rank == 1;
    int64_t left_k = left->dims[left->rank - 1],
            right_k = right->dims[is_column ? 0 : right->rank - 2];
    if (left_k != right_k)
        kiln_onnx_fail(call, "inner dims are %" PRId64 " and %" PRId64 "; expected equal ones",
                       left_k, right_k);
    if (is_row) a = kiln_add_reshape(call->graph, a, 2, (int64_t[]){1, left_k});
    if (is_column) b = kiln_add_reshape(call->graph, b, 2, (int64_t[]){right_k, 1});
    kiln_value product = matmul_full(call, a, b, accumulate);
    if (!is_row && !is_column) return product;
    const kiln_type *type = kiln_graph_type(call->graph, product);
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if ((is_row && i + 2 == type->rank) || (is_column && i + 1 == type->rank)) continue;
        dims[rank++] = type->dims[i];
    }
    return kiln_add_reshape(call->graph, product, rank, dims);
}

static kiln_value import_matmul(kiln_onnx_call *call)
{
    kiln_dtype accumulate = kiln_dtype_accumulator(kiln_onnx_type(call, 0)->dtype);
    return kiln_onnx_matmul(call, kiln_onnx_operand(call, 0), kiln_onnx_operand(call, 1),
                            accumulate);
}

static kiln_value import_gemm(kiln_onnx_call *call)
{
    const kiln_type *left = kiln_onnx_type(call, 0), *right = kiln_onnx_type(call, 1);
    double alpha = kiln_onnx_float(call, "alpha", 1), beta = kiln_onnx_float(call, "beta", 1);
    if (call->opset < 7) kiln_onnx_ignore(call, "broadcast");
    if (left->rank != 2 || right->rank != 2)
        kiln_onnx_fail(call, "operands have rank %u and %u; expected matrices", left->rank,
                       right->rank);
    int64_t k_left = !kiln_onnx_flag(call, "transA", false),
            k_right = kiln_onnx_flag(call, "transB", false);
    kiln_attrs attrs = {
        KILN_FAMILY_dot,
        .dot = {{0}, {0}, {1, &k_left}, {1, &k_right}, kiln_dtype_accumulator(left->dtype)}};
    kiln_value product = dot(call, call->inputs, &attrs);
    const kiln_type *type = kiln_graph_type(call->graph, product);
    if (alpha != 1) product = kiln_onnx_with(call, KILN_OP_mul, product, alpha);
    if (!kiln_onnx_has(call, 2) || beta == 0) return product;
    kiln_value bias = call->inputs[2];
    if (beta != 1) bias = kiln_onnx_with(call, KILN_OP_mul, bias, beta);
    return kiln_add_binary(call->graph, KILN_OP_add, product,
                           kiln_add_broadcast_to(call->graph, bias, type->rank, type->dims));
}

const kiln_onnx_row kiln_onnx_linear_rows[] = {
    {"MatMul", 6, KILN_ONNX_NEWEST, 2, 2, import_matmul},
    {"Gemm", 6, KILN_ONNX_NEWEST, 2, 3, import_gemm},
    {0},
};
