/* Det, by elimination with the largest pivots, unrolled over the rows; and the operators of
 * ai.onnx.ml that are a step of arithmetic. */
#include <inttypes.h>

#include "graph/io/onnx_op.h"

#define MAX_ROWS 64

typedef struct det_run {
    kiln_onnx_call *call;
    kiln_graph *g;
    int64_t batch, n;
    kiln_value a, is_left; /* [batch, n, n]; bool[batch, n]: rows that were no pivot yet */
    kiln_value det;        /* [batch] */
} det_run;

static kiln_value reduced(det_run *run, kiln_op op, kiln_value a, int64_t axis)
{
    return kiln_add_reduce(run->g, op, a, 1, &axis);
}

/* [batch, n] along the rows (axis 1) or columns (axis 2) of [batch, n, n]. */
static kiln_value spread(det_run *run, kiln_value a, int64_t axis)
{
    int64_t dims[3] = {run->batch, run->n, run->n}, axes[2] = {0, axis};
    return kiln_add_broadcast(run->g, a, 3, dims, axes);
}

static kiln_value spread_batch(det_run *run, kiln_value a)
{
    int64_t dims[2] = {run->batch, run->n}, first = 0;
    return kiln_add_broadcast(run->g, a, 2, dims, &first);
}

/* Takes the row with the largest element of column k among those left, multiplies by that element
 * with the sign of the rows before it, and clears the column. */
static void det_step(det_run *run, int64_t k)
{
    kiln_onnx_call *call = run->call;
    int64_t vector[2] = {run->batch, run->n};
    kiln_value column = kiln_onnx_slice(call, run->a, 2, k, k + 1);
    column = kiln_add_reshape(run->g, column, 2, vector);
    kiln_value zero = kiln_add_splat_like(run->g, column, 0);
    kiln_value height = kiln_add_unary(run->g, KILN_OP_abs, column);
    height = kiln_onnx_select(call, run->is_left, height, kiln_add_splat_like(run->g, column, -1));
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {1, false}};
    kiln_value place = kiln_graph_add(
        run->g,
        &(kiln_node_spec){.op = KILN_OP_argmax, .inputs = &height, .n_inputs = 1, .attrs = &arg});
    kiln_value rows = kiln_onnx_iota(call, KILN_i64, 2, vector, 1);
    kiln_value wanted = spread_batch(run, place);
    kiln_value is_pivot = kiln_add_binary(run->g, KILN_OP_eq, rows, wanted);
    kiln_value is_before = kiln_add_binary(run->g, KILN_OP_lt, rows, wanted);
    is_before = kiln_add_binary(run->g, KILN_OP_and, is_before, run->is_left);
    kiln_value before =
        reduced(run, KILN_OP_reduce_sum, kiln_add_convert(run->g, is_before, KILN_i64), 1);
    kiln_value is_odd =
        kiln_onnx_with(call, KILN_OP_ne, kiln_onnx_with(call, KILN_OP_and, before, 1), 0);
    kiln_value pivot =
        reduced(run, KILN_OP_reduce_sum, kiln_onnx_select(call, is_pivot, column, zero), 1);
    kiln_value factor =
        kiln_onnx_select(call, is_odd, kiln_add_unary(run->g, KILN_OP_neg, pivot), pivot);
    run->det = kiln_add_binary(run->g, KILN_OP_mul, run->det, factor);
    kiln_value row = kiln_onnx_select(call, spread(run, is_pivot, 1), run->a,
                                      kiln_add_splat_like(run->g, run->a, 0));
    row = reduced(run, KILN_OP_reduce_sum, row, 1);
    kiln_value share = kiln_add_binary(run->g, KILN_OP_div, column, spread_batch(run, pivot));
    kiln_value is_zero = spread_batch(run, kiln_onnx_with(call, KILN_OP_eq, pivot, 0));
    share = kiln_onnx_select(call, is_zero, zero, share);
    kiln_value taken =
        kiln_add_binary(run->g, KILN_OP_mul, spread(run, share, 1), spread(run, row, 2));
    run->a = kiln_add_binary(run->g, KILN_OP_sub, run->a, taken);
    run->is_left = kiln_add_binary(run->g, KILN_OP_and, run->is_left,
                                   kiln_add_unary(run->g, KILN_OP_not, is_pivot));
}

static kiln_value import_det(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    int64_t n = type->dims[type->rank - 1];
    if (type->dims[type->rank - 2] != n)
        kiln_onnx_fail(call, "matrices of %" PRId64 " columns; expected square ones", n);
    if (n > MAX_ROWS)
        kiln_onnx_refuse(call, "matrices of %" PRId64 " rows; expected at most %d", n, MAX_ROWS);
    int64_t batch = n ? type->n_elements / (n * n) : 1, all[3] = {batch, n, n};
    for (uint32_t i = 0; !n && i + 2 < type->rank; i++) batch *= type->dims[i];
    all[0] = batch;
    det_run run = {.call = call, .g = call->graph, .batch = batch, .n = n};
    run.a = kiln_add_reshape(call->graph, call->inputs[0], 3, all);
    run.is_left = kiln_add_splat(call->graph, KILN_bool, 2, all, 1);
    run.det = kiln_add_splat(call->graph, type->dtype, 1, all, 1);
    for (int64_t k = 0; k < n; k++) {
        kiln_onnx_count(call);
        det_step(&run, k);
    }
    return kiln_add_reshape(call->graph, run.det, type->rank - 2, type->dims);
}

static kiln_value import_binarizer(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    double threshold = kiln_onnx_float(call, "threshold", 0);
    return kiln_add_convert(call->graph, kiln_onnx_with(call, KILN_OP_gt, a, threshold),
                            kiln_onnx_type(call, 0)->dtype);
}

/* Elements along the last axis. */
static kiln_value import_extractor(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1), *given = kiln_onnx_type(call, 1);
    int64_t n = given->n_elements, dims[2] = {1, n};
    kiln_value at = kiln_add_reshape(call->graph, call->inputs[1], 1, &n);
    at = kiln_onnx_indices(call, at, type->dims[type->rank - 1]);
    kiln_value y = kiln_onnx_take(call, call->inputs[0], at, type->rank - 1);
    return type->rank == 1 ? kiln_add_reshape(call->graph, y, 2, dims) : y;
}

const kiln_onnx_row kiln_onnx_matrix_rows[] = {
    {"Det", 11, KILN_ONNX_NEWEST, 1, 1, import_det, KILN_OP_none},
    {0},
};

const kiln_onnx_row kiln_onnx_ml_rows[] = {
    {"Binarizer", 1, KILN_ONNX_NEWEST, 1, 1, import_binarizer, KILN_OP_none},
    {"ArrayFeatureExtractor", 1, KILN_ONNX_NEWEST, 2, 2, import_extractor, KILN_OP_none},
    {"TreeEnsemble", 5, KILN_ONNX_NEWEST, 1, 1, kiln_onnx_import_trees, KILN_OP_none},
    {0},
};
