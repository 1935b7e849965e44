/* Normalisations, as composites where the op table has them, so that the compiler sees them whole.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

static kiln_value norm(kiln_onnx_call *call, kiln_op op, const kiln_value *operands,
                       const kiln_attrs *attrs)
{
    uint32_t n = kiln_op_rows[op].min_inputs;
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = op, .inputs = operands, .n_inputs = n, .attrs = attrs});
}

static void channel_check(kiln_onnx_call *call, uint32_t i, int64_t channels)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank != 1 || type->dims[0] != channels)
        kiln_onnx_fail(call, "operand %u has rank %u; expected a vector of %" PRId64, i, type->rank,
                       channels);
}

/* Statistics of this batch, for training_mode; outputs 1 and 2 are the running ones. */
static void batch_statistics(kiln_onnx_call *call, kiln_value *operands)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t axes[KILN_MAX_RANK];
    double momentum = kiln_onnx_float(call, "momentum", 0.9f);
    uint32_t n = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i != 1) axes[n++] = i;
    }
    for (uint32_t i = 3; i < 5; i++) {
        kiln_op op = i == 3 ? KILN_OP_mean : KILN_OP_variance;
        kiln_value now = kiln_add_reduce(call->graph, op, operands[0], n, axes);
        kiln_value kept = kiln_onnx_with(call, KILN_OP_mul, operands[i], momentum);
        kiln_value part = kiln_onnx_with(call, KILN_OP_mul, now, 1 - momentum);
        kiln_onnx_result(call, i - 2, kiln_add_binary(call->graph, KILN_OP_add, kept, part));
        operands[i] = now;
    }
}

static kiln_value import_batch_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    kiln_value operands[5] = {call->inputs[0]};
    kiln_onnx_ignore(call, "momentum");
    kiln_onnx_ignore(call, "consumed_inputs");
    if (call->opset < 7) kiln_onnx_ignore(call, "is_test");
    if (!kiln_onnx_flag(call, "spatial", true)) kiln_onnx_refuse(call, "attr 'spatial' is 0");
    for (uint32_t i = 1; i < 5; i++) {
        channel_check(call, i, type->dims[1]);
        operands[i] = kiln_add_convert(call->graph, call->inputs[i], type->dtype);
    }
    if (kiln_onnx_flag(call, "training_mode", false)) batch_statistics(call, operands);
    kiln_attrs attrs = {KILN_FAMILY_batch_norm,
                        .batch_norm = {1, kiln_onnx_float(call, "epsilon", 1e-5f)}};
    return norm(call, KILN_OP_batch_norm, operands, &attrs);
}

/* Scale or offset over the dims from `axis`: operand i broadcast, or a splat. */
static kiln_value tail_operand(kiln_onnx_call *call, uint32_t i, uint32_t axis, double fallback)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    const int64_t *dims = type->dims + axis;
    uint32_t rank = type->rank - axis;
    if (!kiln_onnx_has(call, i)) return kiln_add_splat(call->graph, KILN_f32, rank, dims, fallback);
    return kiln_add_broadcast_to(call->graph, call->inputs[i], rank, dims);
}

/* Mean and 1 / sqrt(variance + epsilon) over the dims from `axis`, kept as ones. */
static void layer_statistics(kiln_onnx_call *call, kiln_value a, uint32_t axis, double epsilon)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t axes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = i < axis ? type->dims[i] : 1;
        if (i >= axis) axes[i - axis] = i;
    }
    kiln_value mean = kiln_add_reduce(call->graph, KILN_OP_mean, a, type->rank - axis, axes);
    kiln_value spread = kiln_add_reduce(call->graph, KILN_OP_variance, a, type->rank - axis, axes);
    spread = kiln_add_unary(call->graph, KILN_OP_rsqrt,
                            kiln_onnx_with(call, KILN_OP_add, spread, epsilon));
    if (kiln_onnx_wants(call, 1))
        kiln_onnx_result(call, 1, kiln_add_reshape(call->graph, mean, type->rank, dims));
    if (kiln_onnx_wants(call, 2))
        kiln_onnx_result(call, 2, kiln_add_reshape(call->graph, spread, type->rank, dims));
}

/* LayerNormalization and RMSNormalization: f16 and bf16 are normalised in f32. */
static kiln_value import_layer_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), type->rank);
    double epsilon = kiln_onnx_float(call, "epsilon", 1e-5f);
    kiln_dtype dtype = type->dtype == KILN_f64 ? KILN_f64 : KILN_f32;
    kiln_onnx_ignore(call, "stash_type");
    kiln_value operands[3] = {call->inputs[0], tail_operand(call, 1, axis, 1),
                              tail_operand(call, 2, axis, 0)};
    for (uint32_t i = 0; i < 3; i++)
        operands[i] = kiln_add_convert(call->graph, operands[i], dtype);
    if (call->row->kiln == KILN_OP_layer_norm) layer_statistics(call, operands[0], axis, epsilon);
    kiln_attrs attrs = {KILN_FAMILY_norm, .norm = {epsilon}};
    return kiln_add_convert(call->graph, norm(call, call->row->kiln, operands, &attrs),
                            type->dtype);
}

/* Rows [..., width] normalised without scale, then back to the dims of the operand. */
static kiln_value rows_normalize(kiln_onnx_call *call, uint32_t rank, const int64_t *rows,
                                 double epsilon)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_value wide = kiln_add_reshape(call->graph, call->inputs[0], rank, rows);
    kiln_value operands[3] = {wide, kiln_add_splat(call->graph, type->dtype, 1, &rows[rank - 1], 1),
                              kiln_add_splat(call->graph, type->dtype, 1, &rows[rank - 1], 0)};
    kiln_attrs attrs = {KILN_FAMILY_norm, .norm = {epsilon}};
    kiln_value normal = norm(call, KILN_OP_layer_norm, operands, &attrs);
    return kiln_add_reshape(call->graph, normal, type->rank, type->dims);
}

static kiln_value scale_offset(kiln_onnx_call *call, kiln_value a, kiln_value scale,
                               kiln_value offset)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t axes[1] = {1};
    scale = kiln_add_broadcast(call->graph, scale, type->rank, type->dims, axes);
    offset = kiln_add_broadcast(call->graph, offset, type->rank, type->dims, axes);
    return kiln_add_binary(call->graph, KILN_OP_add,
                           kiln_add_binary(call->graph, KILN_OP_mul, a, scale), offset);
}

static kiln_value import_instance_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    int64_t rows[3] = {type->dims[0], type->dims[1], 1};
    for (uint32_t i = 2; i < type->rank; i++) rows[2] *= type->dims[i];
    channel_check(call, 1, type->dims[1]);
    channel_check(call, 2, type->dims[1]);
    kiln_value normal = rows_normalize(call, 3, rows, kiln_onnx_float(call, "epsilon", 1e-5f));
    return scale_offset(call, normal, call->inputs[1], call->inputs[2]);
}

/* Scale and offset: one a group before operator set 21, one a channel since. */
static kiln_value import_group_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    int64_t groups = kiln_onnx_int(call, "num_groups", 0);
    kiln_onnx_ignore(call, "stash_type");
    if (groups < 1 || type->dims[1] % groups)
        kiln_onnx_fail(
            call, "attr 'num_groups' is %" PRId64 " for %" PRId64 " channels; expected a divisor",
            groups, type->dims[1]);
    int64_t rows[3] = {type->dims[0], groups, type->dims[1] / groups};
    kiln_value parts[2];
    for (uint32_t i = 0; i < 2; i++) {
        channel_check(call, i + 1, call->opset < 21 ? groups : type->dims[1]);
        parts[i] = call->inputs[i + 1];
        if (call->opset >= 21) continue;
        int64_t axes[1] = {0}, spread[2] = {groups, rows[2]};
        parts[i] = kiln_add_broadcast(call->graph, parts[i], 2, spread, axes);
        parts[i] = kiln_add_reshape(call->graph, parts[i], 1, &type->dims[1]);
    }
    for (uint32_t i = 2; i < type->rank; i++) rows[2] *= type->dims[i];
    kiln_value normal = rows_normalize(call, 3, rows, kiln_onnx_float(call, "epsilon", 1e-5f));
    return scale_offset(call, normal, parts[0], parts[1]);
}

/* a / (bias + alpha / size * (sum of squares of `size` neighbouring channels)) ^ beta */
static kiln_value import_lrn(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    int64_t size = kiln_onnx_int(call, "size", 0), ones[KILN_MAX_RANK], sizes[KILN_MAX_RANK];
    int64_t low[KILN_MAX_RANK] = {0}, high[KILN_MAX_RANK] = {0};
    if (size < 1 || size > KILN_MAX_DIM)
        kiln_onnx_fail(call, "attr 'size' is %" PRId64 "; expected 1 or more", size);
    for (uint32_t i = 0; i < type->rank; i++) ones[i] = sizes[i] = 1;
    sizes[1] = size;
    low[1] = (size - 1) / 2;
    high[1] = size - 1 - low[1];
    kiln_attrs attrs = {KILN_FAMILY_window, .window = {{type->rank, sizes},
                                                       {type->rank, ones},
                                                       {type->rank, low},
                                                       {type->rank, high},
                                                       {type->rank, ones}}};
    kiln_value square = kiln_add_unary(call->graph, KILN_OP_square, call->inputs[0]);
    kiln_value sum = norm(call, KILN_OP_window_sum, &square, &attrs);
    sum = kiln_onnx_with(call, KILN_OP_mul, sum,
                         kiln_onnx_float(call, "alpha", 1e-4f) / (double)size);
    sum = kiln_onnx_with(call, KILN_OP_add, sum, kiln_onnx_float(call, "bias", 1));
    kiln_value root = kiln_onnx_with(call, KILN_OP_pow, sum, kiln_onnx_float(call, "beta", 0.75));
    return kiln_add_binary(call->graph, KILN_OP_div, call->inputs[0], root);
}

static kiln_value import_mean_variance_norm(kiln_onnx_call *call)
{
    static const int64_t usual[] = {0, 2, 3};
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints axes = {3, usual}, given;
    if (kiln_onnx_ints(call, "axes", &given)) axes = given;
    axes = kiln_onnx_axes(call, axes, type->rank);
    kiln_graph *graph = call->graph;
    kiln_value a = call->inputs[0];
    kiln_value mean = kiln_add_reduce(graph, KILN_OP_mean, a, axes.n, axes.at);
    kiln_value apart =
        kiln_add_binary(graph, KILN_OP_sub, a, kiln_add_unreduce(graph, mean, a, axes.n, axes.at));
    kiln_value spread = kiln_add_reduce(graph, KILN_OP_variance, a, axes.n, axes.at);
    spread = kiln_onnx_with(call, KILN_OP_add, kiln_add_unary(graph, KILN_OP_sqrt, spread), 1e-9);
    return kiln_add_binary(graph, KILN_OP_div, apart,
                           kiln_add_unreduce(graph, spread, a, axes.n, axes.at));
}

static kiln_value import_lp_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    int64_t axes[1] = {kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), type->rank)};
    int64_t p = kiln_onnx_int(call, "p", 2);
    if (p != 1 && p != 2) kiln_onnx_fail(call, "attr 'p' is %" PRId64 "; expected 1 or 2", p);
    kiln_value a = call->inputs[0];
    kiln_value each = kiln_add_unary(call->graph, p == 1 ? KILN_OP_abs : KILN_OP_square, a);
    kiln_value sum = kiln_add_reduce(call->graph, KILN_OP_reduce_sum, each, 1, axes);
    if (p == 2) sum = kiln_add_unary(call->graph, KILN_OP_sqrt, sum);
    kiln_value wide = kiln_add_unreduce(call->graph, sum, a, 1, axes);
    kiln_value is_zero = kiln_onnx_with(call, KILN_OP_eq, wide, 0);
    return kiln_onnx_select(call, is_zero, kiln_add_splat_like(call->graph, a, 0),
                            kiln_add_binary(call->graph, KILN_OP_div, a, wide));
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_norm_rows[] = {
    ROW("BatchNormalization", 6, 5, 5, import_batch_norm),
    {"LayerNormalization", 17, KILN_ONNX_NEWEST, 1, 3, import_layer_norm, KILN_OP_layer_norm},
    {"RMSNormalization", 23, KILN_ONNX_NEWEST, 2, 2, import_layer_norm, KILN_OP_rms_norm},
    ROW("InstanceNormalization", 6, 3, 3, import_instance_norm),
    ROW("GroupNormalization", 18, 3, 3, import_group_norm),
    ROW("LRN", 6, 1, 1, import_lrn),
    ROW("MeanVarianceNormalization", 9, 1, 1, import_mean_variance_norm),
    ROW("LpNormalization", 6, 1, 1, import_lp_norm),
    {0},
};
