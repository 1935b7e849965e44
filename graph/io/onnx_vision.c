/* Operators of vision models: sampling along grids, crops, and what is learnt from both. A sample
 * with coordinates from the data is a take from the flattened spatial dims and a weight a corner.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

/* GridSample */

typedef struct grid_plan {
    uint32_t n; /* spatial dims */
    bool is_aligned;
    char mode, padding; /* first letters of the attributes: n, l or b, c; z, b, r */
    const kiln_type *type;
    int64_t points; /* of the result, per batch */
} grid_plan;

/* From -1 … 1 to places along a dim. */
static kiln_value grid_place(kiln_onnx_call *call, const grid_plan *plan, kiln_value at,
                             int64_t dim)
{
    double size = (double)dim;
    at = kiln_onnx_with(call, KILN_OP_add, at, 1);
    if (plan->is_aligned) return kiln_onnx_with(call, KILN_OP_mul, at, (size - 1) / 2);
    return kiln_onnx_with(call, KILN_OP_sub, kiln_onnx_with(call, KILN_OP_mul, at, size / 2), 0.5);
}

/* Places beyond the borders come back as from a mirror at low and high. */
static kiln_value grid_mirror(kiln_onnx_call *call, const grid_plan *plan, kiln_value at,
                              int64_t dim)
{
    kiln_graph *graph = call->graph;
    double low = plan->is_aligned ? 0 : -0.5,
           high = plan->is_aligned ? (double)dim - 1 : (double)dim - 0.5;
    double span = high - low;
    if (span <= 0) return kiln_add_splat_like(graph, at, 0);
    at = kiln_add_unary(graph, KILN_OP_abs, kiln_onnx_with(call, KILN_OP_sub, at, low));
    kiln_value turns =
        kiln_add_unary(graph, KILN_OP_floor, kiln_onnx_with(call, KILN_OP_div, at, span));
    kiln_value rest =
        kiln_add_binary(graph, KILN_OP_sub, at, kiln_onnx_with(call, KILN_OP_mul, turns, span));
    kiln_value half =
        kiln_add_unary(graph, KILN_OP_floor, kiln_onnx_with(call, KILN_OP_mul, turns, 0.5));
    kiln_value is_odd = kiln_onnx_with(
        call, KILN_OP_ne,
        kiln_add_binary(graph, KILN_OP_sub, turns, kiln_onnx_with(call, KILN_OP_mul, half, 2)), 0);
    kiln_value back =
        kiln_add_binary(graph, KILN_OP_sub, kiln_add_splat_like(graph, rest, span), rest);
    return kiln_onnx_with(call, KILN_OP_add, kiln_onnx_select(call, is_odd, back, rest), low);
}

static kiln_value grid_clamp(kiln_onnx_call *call, kiln_value at, int64_t dim)
{
    at = kiln_onnx_with(call, KILN_OP_max, at, 0);
    return kiln_onnx_with(call, KILN_OP_min, at, (double)kiln_max_i64(dim - 1, 0));
}

/* Taps along one axis: places (f32, whole) and weights. */
typedef struct grid_taps {
    uint32_t n;
    kiln_value at[4], weight[4];
} grid_taps;

static kiln_value cubic(kiln_onnx_call *call, kiln_value distance, bool is_near)
{
    double a = -0.75;
    kiln_value x = kiln_add_unary(call->graph, KILN_OP_abs, distance),
               sum = kiln_add_splat_like(call->graph, x, is_near ? a + 2 : a);
    const double rest[2][3] = {{-5 * a, 8 * a, -4 * a}, {-(a + 3), 0, 1}};
    for (uint32_t i = 0; i < 3; i++)
        sum = kiln_onnx_with(call, KILN_OP_add, kiln_add_binary(call->graph, KILN_OP_mul, sum, x),
                             rest[is_near][i]);
    return sum;
}

static grid_taps taps_make(kiln_onnx_call *call, const grid_plan *plan, kiln_value at)
{
    grid_taps taps = {.n = plan->mode == 'n' ? 1 : plan->mode == 'c' ? 4 : 2};
    if (taps.n == 1) {
        taps.at[0] = kiln_add_unary(call->graph, KILN_OP_round_even, at);
        return taps;
    }
    kiln_value base = kiln_add_unary(call->graph, KILN_OP_floor, at);
    kiln_value part = kiln_add_binary(call->graph, KILN_OP_sub, at, base);
    for (uint32_t i = 0; i < taps.n; i++) {
        double shift = taps.n == 4 ? (double)i - 1 : (double)i;
        taps.at[i] = kiln_onnx_with(call, KILN_OP_add, base, shift);
        if (taps.n == 4) {
            taps.weight[i] =
                cubic(call, kiln_onnx_with(call, KILN_OP_sub, part, shift), i == 1 || i == 2);
        } else {
            kiln_value one = kiln_add_splat_like(call->graph, part, 1);
            taps.weight[i] = i ? part : kiln_add_binary(call->graph, KILN_OP_sub, one, part);
        }
    }
    return taps;
}

/* One corner: the elements at whole places, [batch, points, channels], zero outside where asked. */
static kiln_value corner_take(kiln_onnx_call *call, const grid_plan *plan, kiln_value rows,
                              const kiln_value *at)
{
    kiln_graph *graph = call->graph;
    int64_t wide[3] = {plan->type->dims[0], plan->points, plan->type->dims[1]}, axes[2] = {0, 1};
    kiln_value place = {0}, is_in = {0};
    int64_t spatial = 1;
    for (uint32_t i = 0; i < plan->n; i++) {
        int64_t dim = plan->type->dims[i + 2];
        kiln_value low = kiln_onnx_with(call, KILN_OP_ge, at[i], 0);
        kiln_value high = kiln_onnx_with(call, KILN_OP_le, at[i], (double)dim - 1);
        kiln_value both = kiln_add_binary(graph, KILN_OP_and, low, high), own = at[i];
        is_in = is_in.id ? kiln_add_binary(graph, KILN_OP_and, is_in, both) : both;
        if (plan->padding == 'r') own = grid_mirror(call, plan, own, dim);
        own = kiln_add_convert(graph, grid_clamp(call, own, dim), KILN_i64);
        if (place.id) place = kiln_onnx_with(call, KILN_OP_mul, place, (double)dim);
        place = place.id ? kiln_add_binary(graph, KILN_OP_add, place, own) : own;
        spatial *= dim;
    }
    kiln_value batch = kiln_onnx_iota(call, KILN_i64, 2, wide, 0);
    place = kiln_add_binary(graph, KILN_OP_add, place,
                            kiln_onnx_with(call, KILN_OP_mul, batch, (double)spatial));
    kiln_value taken = kiln_onnx_take(call, rows, place, 0);
    if (plan->padding != 'z') return taken;
    return kiln_onnx_select(call, kiln_add_broadcast(graph, is_in, 3, wide, axes), taken,
                            kiln_add_splat_like(graph, taken, 0));
}

static kiln_value corners_sum(kiln_onnx_call *call, const grid_plan *plan, kiln_value rows,
                              const grid_taps *taps)
{
    kiln_graph *graph = call->graph;
    int64_t wide[3] = {plan->type->dims[0], plan->points, plan->type->dims[1]}, axes[2] = {0, 1};
    uint32_t n_corners = 1;
    kiln_value sum = {0};
    for (uint32_t i = 0; i < plan->n; i++) n_corners *= taps[i].n;
    for (uint32_t corner = 0; corner < n_corners; corner++) {
        kiln_value at[3], weight = {0};
        for (uint32_t i = 0, rest = corner; i < plan->n; rest /= taps[i].n, i++) {
            uint32_t tap = rest % taps[i].n;
            kiln_value own = taps[i].weight[tap];
            at[i] = taps[i].at[tap];
            weight = weight.id ? kiln_add_binary(graph, KILN_OP_mul, weight, own) : own;
        }
        kiln_value part = corner_take(call, plan, rows, at);
        if (n_corners > 1)
            part = kiln_add_binary(graph, KILN_OP_mul, part,
                                   kiln_add_broadcast(graph, weight, 3, wide, axes));
        sum = sum.id ? kiln_add_binary(graph, KILN_OP_add, sum, part) : part;
    }
    return sum;
}

static void grid_read(kiln_onnx_call *call, grid_plan *plan)
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
    grid_plan plan;
    grid_taps taps[3];
    grid_read(call, &plan);
    kiln_graph *graph = call->graph;
    const kiln_type *grid = kiln_onnx_type(call, 1);
    int64_t order[5] = {0}, back[5] = {0}, flat[2] = {1, plan.type->dims[1]}, dims[5],
            last[2] = {grid->dims[0], plan.points};
    int64_t list[3] = {grid->dims[0], plan.points, plan.n};
    if (plan.type->n_elements == 0) kiln_onnx_refuse(call, "an empty operand");
    kiln_value points =
        kiln_add_convert(graph, kiln_add_reshape(graph, call->inputs[1], 3, list), KILN_f32);
    for (uint32_t i = 0; i < plan.n; i++) {
        kiln_value at = kiln_onnx_slice(call, points, 2, plan.n - 1 - i, plan.n - i);
        at = grid_place(call, &plan, kiln_add_reshape(graph, at, 2, last), plan.type->dims[i + 2]);
        if (plan.padding == 'b' && plan.mode != 'c')
            at = grid_clamp(call, at, plan.type->dims[i + 2]);
        if (plan.padding == 'r' && plan.mode != 'c')
            at = grid_clamp(call, grid_mirror(call, &plan, at, plan.type->dims[i + 2]),
                            plan.type->dims[i + 2]);
        taps[i] = taps_make(call, &plan, at);
    }
    for (uint32_t i = 0; i < plan.type->rank; i++) {
        order[i] = i == 0 ? 0 : i + 1 == plan.type->rank ? 1 : i + 1;
        back[i] = i == 0 ? 0 : i == 1 ? plan.type->rank - 1 : i - 1;
        dims[i] = i + 1 == plan.type->rank ? plan.type->dims[1] : grid->dims[i];
        if (i != 1) flat[0] *= plan.type->dims[i];
    }
    kiln_value rows =
        kiln_add_transpose(graph, kiln_add_convert(graph, call->inputs[0], KILN_f32), order);
    kiln_value sum = corners_sum(call, &plan, kiln_add_reshape(graph, rows, 2, flat), taps);
    sum = kiln_add_transpose(graph, kiln_add_reshape(graph, sum, plan.type->rank, dims), back);
    return kiln_add_convert(graph, sum, plan.type->dtype);
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
