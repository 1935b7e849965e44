/* Reductions of ONNX. Axes are an attribute, and an operand since operator set 18 (ReduceSum: 13).
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "graph/io/onnx_extent.h"

typedef struct reduce_axes {
    kiln_ints axes; /* sorted */
    bool is_kept, is_none;
    uint32_t rank;
    int64_t dims[KILN_MAX_RANK]; /* of the result with kept axes */
} reduce_axes;

static reduce_axes axes_read(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t since =
        call->row->kiln == KILN_OP_reduce_sum && !strcmp(call->row->op, "ReduceSum") ? 13 : 18;
    reduce_axes result = {.is_kept = kiln_onnx_flag(call, "keepdims", true)};
    kiln_ints given = {0};
    bool is_noop = kiln_onnx_flag(call, "noop_with_empty_axes", false);
    if (call->opset < since) {
        kiln_onnx_ints(call, "axes", &given);
    } else if (kiln_onnx_has(call, 1)) {
        given = kiln_onnx_known_ints(call, 1);
    }
    if (given.n) {
        result.axes = kiln_onnx_axes(call, given, type->rank);
    } else if (is_noop) {
        result.is_none = true;
    } else {
        int64_t *all = kiln_onnx_dims(call, type->rank);
        for (uint32_t i = 0; i < type->rank; i++) all[i] = i;
        result.axes = (kiln_ints){type->rank, all};
    }
    for (uint32_t i = 0, k = 0; i < type->rank; i++) {
        bool is_reduced = k < result.axes.n && result.axes.at[k] == i;
        k += is_reduced;
        if (!is_reduced || result.is_kept)
            result.dims[result.rank++] = is_reduced ? 1 : type->dims[i];
    }
    return result;
}

static kiln_value reduce(kiln_onnx_call *call, kiln_op op, kiln_value a, const reduce_axes *axes)
{
    kiln_value reduced =
        axes->axes.n ? kiln_add_reduce(call->graph, op, a, axes->axes.n, axes->axes.at) : a;
    return kiln_add_reshape(call->graph, reduced, axes->rank, axes->dims);
}

/* Of an operand whose size depends on the data: what is not there does not count. */
static kiln_value filled(kiln_onnx_call *call, const reduce_axes *axes, double filler)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    const kiln_onnx_extent *extent = kiln_onnx_extent_find(call, a);
    for (uint32_t i = 0; extent && i < axes->axes.n; i++) {
        if (axes->axes.at[i] == extent->axis) return kiln_onnx_extent_fill(call, a, filler);
    }
    return a;
}

/* What leaves a reduction as it is; for integers the conversion takes the nearest number. */
static double neutral(kiln_op op)
{
    return op == KILN_OP_reduce_max   ? -INFINITY
           : op == KILN_OP_reduce_min ? INFINITY
                                      : op == KILN_OP_reduce_prod;
}

static kiln_value import_reduce(kiln_onnx_call *call)
{
    reduce_axes axes = axes_read(call);
    kiln_value a = filled(call, &axes, neutral(call->row->kiln));
    return axes.is_none ? a : reduce(call, call->row->kiln, a, &axes);
}

/* The mean over an axis of which only a counted part is there. */
static kiln_value mean_counted(kiln_onnx_call *call, kiln_value a, const reduce_axes *axes,
                               kiln_onnx_extent extent)
{
    kiln_dtype dtype = kiln_graph_type(call->graph, a)->dtype;
    const kiln_type *type = kiln_onnx_type(call, 0);
    double n = 1;
    for (uint32_t i = 0; i < axes->axes.n; i++) {
        if (axes->axes.at[i] != extent.axis) n *= (double)type->dims[axes->axes.at[i]];
    }
    kiln_value count = kiln_onnx_with(call, KILN_OP_mul, extent.count, n);
    count = kiln_add_broadcast(call->graph, kiln_add_convert(call->graph, count, dtype), axes->rank,
                               axes->dims, NULL);
    return kiln_add_binary(call->graph, KILN_OP_div, reduce(call, KILN_OP_reduce_sum, a, axes),
                           count);
}

static kiln_value import_mean(kiln_onnx_call *call)
{
    reduce_axes axes = axes_read(call);
    const kiln_type *type = kiln_onnx_type(call, 0);
    if (axes.is_none) return call->inputs[0];
    const kiln_onnx_extent *extent = kiln_onnx_extent_find(call, call->inputs[0]);
    kiln_onnx_extent before = extent ? *extent : (kiln_onnx_extent){0};
    kiln_value a = filled(call, &axes, 0);
    if (a.id != call->inputs[0].id) return mean_counted(call, a, &axes, before);
    if (kiln_onnx_is_float(type->dtype)) return reduce(call, KILN_OP_mean, call->inputs[0], &axes);
    double n = 1;
    for (uint32_t i = 0; i < axes.axes.n; i++) n *= (double)type->dims[axes.axes.at[i]];
    return kiln_onnx_with(call, KILN_OP_div,
                          reduce(call, KILN_OP_reduce_sum, call->inputs[0], &axes), n);
}

/* L1, L2 and SumSquare: a sum of something of each element. */
static kiln_value import_norm(kiln_onnx_call *call)
{
    reduce_axes axes = axes_read(call);
    bool is_l1 = call->row->kiln == KILN_OP_abs, is_l2 = call->row->kiln == KILN_OP_sqrt;
    kiln_value each =
        kiln_add_unary(call->graph, is_l1 ? KILN_OP_abs : KILN_OP_square, filled(call, &axes, 0));
    kiln_value sum = axes.is_none ? each : reduce(call, KILN_OP_reduce_sum, each, &axes);
    if (!is_l2) return sum;
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype;
    if (kiln_onnx_is_float(dtype)) return kiln_add_unary(call->graph, KILN_OP_sqrt, sum);
    sum = kiln_add_unary(call->graph, KILN_OP_sqrt, kiln_add_convert(call->graph, sum, KILN_f64));
    return kiln_add_convert(call->graph, sum, dtype);
}

static kiln_value import_log_sum(kiln_onnx_call *call)
{
    reduce_axes axes = axes_read(call);
    kiln_value a = kiln_onnx_operand(call, 0);
    return kiln_add_unary(call->graph, KILN_OP_log,
                          axes.is_none ? a : reduce(call, KILN_OP_reduce_sum, a, &axes));
}

/* max + log(sum(e^(a - max))), with 0 for an infinite maximum */
static kiln_value import_log_sum_exp(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    reduce_axes axes = axes_read(call);
    kiln_value a = kiln_onnx_operand(call, 0);
    if (axes.is_none || axes.axes.n == 0) return a;
    kiln_value top = kiln_add_reduce(graph, KILN_OP_reduce_max, a, axes.axes.n, axes.axes.at);
    kiln_value base = kiln_onnx_select(call, kiln_add_unary(graph, KILN_OP_is_finite, top), top,
                                       kiln_add_splat_like(graph, top, 0));
    kiln_value wide = kiln_add_unreduce(graph, base, a, axes.axes.n, axes.axes.at);
    kiln_value each =
        kiln_add_unary(graph, KILN_OP_exp, kiln_add_binary(graph, KILN_OP_sub, a, wide));
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, each, axes.axes.n, axes.axes.at);
    kiln_value result =
        kiln_add_binary(graph, KILN_OP_add, base, kiln_add_unary(graph, KILN_OP_log, sum));
    return kiln_add_reshape(graph, result, axes.rank, axes.dims);
}

static kiln_value import_arg(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    kiln_attrs attrs = {KILN_FAMILY_arg,
                        .arg = {axis, kiln_onnx_flag(call, "select_last_index", false)}};
    kiln_value at = kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = call->row->kiln, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
    if (!kiln_onnx_flag(call, "keepdims", true)) return at;
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) dims[i] = i == axis ? 1 : type->dims[i];
    return kiln_add_reshape(call->graph, at, type->rank, dims);
}

#define ROW(op, function, kiln)                                                                    \
    {                                                                                              \
        op, 6, KILN_ONNX_NEWEST, 1, 2, function, KILN_OP_##kiln                                    \
    }

const kiln_onnx_row kiln_onnx_reduce_rows[] = {
    ROW("ReduceSum", import_reduce, reduce_sum),
    ROW("ReduceProd", import_reduce, reduce_prod),
    ROW("ReduceMax", import_reduce, reduce_max),
    ROW("ReduceMin", import_reduce, reduce_min),
    ROW("ReduceMean", import_mean, none),
    ROW("ReduceL1", import_norm, abs),
    ROW("ReduceL2", import_norm, sqrt),
    ROW("ReduceSumSquare", import_norm, square),
    ROW("ReduceLogSum", import_log_sum, none),
    ROW("ReduceLogSumExp", import_log_sum_exp, none),
    {"ArgMax", 6, KILN_ONNX_NEWEST, 1, 1, import_arg, KILN_OP_argmax},
    {"ArgMin", 6, KILN_ONNX_NEWEST, 1, 1, import_arg, KILN_OP_argmin},
    {0},
};
