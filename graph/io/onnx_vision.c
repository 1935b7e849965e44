/* Operators of vision models: sampling along grids, crops, and what is learnt from both. A sample
 * with coordinates from the data is a take from the flattened spatial dims and a weight a corner.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/grid.h"
#include "graph/io/onnx_op.h"

/* GridSample */

static void grid_read(kiln_onnx_call *call, kiln_grid_plan *plan)
{
    const kiln_type *grid = kiln_onnx_ranked(call, 1, 4);
    plan->type = kiln_onnx_ranked(call, 0, 4);
    plan->n = plan->type->rank - 2;
    plan->is_aligned = kiln_onnx_flag(call, "align_corners", false);
    const char *mode = kiln_onnx_string(call, "mode", "linear");
    plan->mode = !strcmp(mode, "bicubic") ? 'c' : !strcmp(mode, "bilinear") ? 'l' : mode[0];
    plan->padding = kiln_onnx_string(call, "padding_mode", "zeros")[0];
    if (!strchr("nlc", plan->mode) || !strchr("zbr", plan->padding) || !plan->mode ||
        !plan->padding)
        kiln_onnx_fail(call, "attr 'mode' is %s; expected nearest, linear or cubic",
                       kiln_onnx_quote(&call->scope->arena, mode));
    if (plan->n > 3 || grid->rank != plan->n + 2 || grid->dims[plan->n + 1] != plan->n ||
        grid->dims[0] != plan->type->dims[0])
        kiln_onnx_fail(call, "a grid of rank %u for rank %u; expected one point of %u numbers each",
                       grid->rank, plan->type->rank, plan->n);
    plan->points = 1;
    for (uint32_t i = 0; i < plan->n; i++) plan->points *= grid->dims[i + 1];
}

static kiln_value import_grid_sample(kiln_onnx_call *call)
{
    kiln_grid_plan plan;
    grid_read(call, &plan);
    if (plan.type->n_elements == 0) kiln_onnx_refuse(call, "an empty operand");
    return kiln_grid_apply(call->graph, &plan, call->inputs);
}

/* AffineGrid: theta [n, 2, 3] or [n, 3, 4] times the homogeneous points of an even grid. */
static kiln_value import_affine_grid(kiln_onnx_call *call)
{
    kiln_ints size = kiln_onnx_known_ints(call, 1);
    bool is_aligned = kiln_onnx_flag(call, "align_corners", false);
    const kiln_type *theta = kiln_onnx_ranked(call, 0, 3);
    uint32_t n = size.n - 2;
    if (size.n < 4 || size.n > 5 || theta->rank != 3 || theta->dims[1] != n ||
        theta->dims[2] != n + 1)
        kiln_onnx_fail(call, "a size of %u dims; expected 4 or 5 that fit theta", size.n);
    int64_t dims[4], points = 1, out[5], batch[1] = {2}, contract[1] = {0};
    for (uint32_t i = 0; i < n; i++) {
        dims[i] = size.at[i + 2];
        if (dims[i] < 1 || dims[i] > 1 << 20)
            kiln_onnx_fail(call, "size %" PRId64 "; expected 1 or more", dims[i]);
        points *= dims[i];
    }
    kiln_value rows[4];
    int64_t one[2] = {1, points};
    for (uint32_t i = 0; i <= n; i++) {
        rows[i] = kiln_add_splat(call->graph, KILN_f32, 2, one, 1);
        if (i == n) break;
        int64_t dim = dims[n - 1 - i];
        double step = is_aligned ? (dim > 1 ? 2.0 / (double)(dim - 1) : 0) : 2.0 / (double)dim;
        double first = is_aligned ? (dim > 1 ? -1 : 0) : -1 + step / 2;
        kiln_value at = kiln_onnx_iota(call, KILN_f32, n, dims, n - 1 - i);
        at = kiln_onnx_with(call, KILN_OP_add, kiln_onnx_with(call, KILN_OP_mul, at, step), first);
        rows[i] = kiln_add_reshape(call->graph, at, 2, one);
    }
    kiln_value operands[] = {kiln_add_convert(call->graph, call->inputs[0], KILN_f32),
                             kiln_onnx_concat(call, n + 1, rows, 0)};
    kiln_attrs attrs = {KILN_FAMILY_dot, .dot = {{0}, {0}, {1, batch}, {1, contract}, KILN_f32}};
    kiln_value product = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dot_general,
                                                                       .inputs = operands,
                                                                       .n_inputs = 2,
                                                                       .attrs = &attrs});
    static const int64_t turn[3] = {0, 2, 1};
    out[0] = theta->dims[0];
    for (uint32_t i = 0; i < n; i++) out[i + 1] = dims[i];
    out[n + 1] = n;
    product =
        kiln_add_reshape(call->graph, kiln_add_transpose(call->graph, product, turn), n + 2, out);
    return kiln_add_convert(call->graph, product, theta->dtype);
}

/* CenterCropPad: each axis cut or padded evenly, the odd element at the end. */
static kiln_value import_center_crop_pad(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints shape = kiln_onnx_known_ints(call, 1), axes;
    int64_t low[KILN_MAX_RANK] = {0}, high[KILN_MAX_RANK] = {0}, zeros[KILN_MAX_RANK] = {0};
    bool has_axes = kiln_onnx_ints(call, "axes", &axes);
    if (shape.n != (has_axes ? axes.n : type->rank))
        kiln_onnx_fail(call, "%u sizes; expected one an axis", shape.n);
    for (uint32_t i = 0; i < shape.n; i++) {
        uint32_t axis = has_axes ? kiln_onnx_axis(call, axes.at[i], type->rank) : i;
        int64_t extra;
        if (shape.at[i] < 0 || !kiln_checked_sub(shape.at[i], type->dims[axis], &extra))
            kiln_onnx_fail(call, "size %" PRId64 "; expected 0 or more", shape.at[i]);
        low[axis] = extra >= 0 ? extra / 2 : -(-extra / 2);
        high[axis] = extra - low[axis];
    }
    kiln_value inputs[] = {call->inputs[0], kiln_onnx_scalar(call, type->dtype, 0)};
    kiln_attrs attrs = {KILN_FAMILY_pad,
                        .pad = {{type->rank, low}, {type->rank, high}, {type->rank, zeros}}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_pad, .inputs = inputs, .n_inputs = 2, .attrs = &attrs});
}

const kiln_onnx_row kiln_onnx_vision_rows[] = {
    {"GridSample", 16, KILN_ONNX_NEWEST, 2, 2, import_grid_sample},
    {"AffineGrid", 20, KILN_ONNX_NEWEST, 2, 2, import_affine_grid},
    {"CenterCropPad", 18, KILN_ONNX_NEWEST, 2, 2, import_center_crop_pad},
    {0},
};
