/* Operators that take parts of tensors or put parts together: Slice, Split, Concat, Pad, Trilu. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

/* Starts, ends, axes and steps of Slice, wherever this operator set has them. */
typedef struct slice_request {
    kiln_ints starts, ends, axes, steps;
    bool has_axes, has_steps;
} slice_request;

static slice_request request_read(kiln_onnx_call *call)
{
    slice_request request = {0};
    if (call->opset < 10) {
        if (!kiln_onnx_ints(call, "starts", &request.starts) ||
            !kiln_onnx_ints(call, "ends", &request.ends))
            kiln_onnx_fail(call, "attr 'starts' or 'ends' is missing; expected both");
        request.has_axes = kiln_onnx_ints(call, "axes", &request.axes);
        return request;
    }
    request.starts = kiln_onnx_known_ints(call, 1);
    request.ends = kiln_onnx_known_ints(call, 2);
    request.has_axes = kiln_onnx_has(call, 3);
    request.has_steps = kiln_onnx_has(call, 4);
    if (request.has_axes) request.axes = kiln_onnx_known_ints(call, 3);
    if (request.has_steps) request.steps = kiln_onnx_known_ints(call, 4);
    return request;
}

static int64_t clamp(int64_t a, int64_t low, int64_t high)
{
    return a < low ? low : a > high ? high : a;
}

typedef struct slice_range {
    int64_t start, limit, stride; /* ascending */
    bool is_reversed;
} slice_range;

/* The elements start, start + step, … before end, as Python counts them. */
static slice_range range_make(int64_t dim, int64_t start, int64_t end, int64_t step)
{
    if (start < 0) start = start < -dim ? (step > 0 ? 0 : -1) : start + dim;
    if (end < 0) end = end < -dim ? (step > 0 ? 0 : -1) : end + dim;
    if (step > 0) {
        start = clamp(start, 0, dim);
        end = clamp(end, start, dim);
        return (slice_range){start, end, step > dim ? kiln_max_i64(dim, 1) : step, false};
    }
    start = clamp(start, -1, dim - 1);
    end = clamp(end, -1, start);
    int64_t stride = step < -dim ? kiln_max_i64(dim, 1) : -step;
    int64_t n = (start - end + stride - 1) / stride;
    if (n == 0) return (slice_range){0, 0, 1, false};
    return (slice_range){start - (n - 1) * stride, start + 1, stride, true};
}

static kiln_value import_slice(kiln_onnx_call *call)
{
    if (kiln_onnx_slice_moves(call)) return kiln_onnx_import_moving_slice(call);
    const kiln_type *type = kiln_onnx_type(call, 0);
    slice_request request = request_read(call);
    uint32_t n = request.starts.n, n_reversed = 0;
    bool is_seen[KILN_MAX_RANK] = {0};
    int64_t starts[KILN_MAX_RANK], limits[KILN_MAX_RANK], strides[KILN_MAX_RANK],
        reversed[KILN_MAX_RANK];
    if (request.ends.n != n || (request.has_axes && request.axes.n != n) ||
        (request.has_steps && request.steps.n != n) || n > type->rank)
        kiln_onnx_fail(call, "%u starts, %u ends; expected as many as axes and steps, at most %u",
                       n, request.ends.n, type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        starts[i] = 0;
        limits[i] = type->dims[i];
        strides[i] = 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t axis = kiln_onnx_axis(call, request.has_axes ? request.axes.at[i] : i, type->rank);
        int64_t step = request.has_steps ? request.steps.at[i] : 1;
        if (step == 0 || is_seen[axis])
            kiln_onnx_fail(call, "step %" PRId64 " of axis %u; expected one of each axis, not 0",
                           step, axis);
        is_seen[axis] = true;
        slice_range range =
            range_make(type->dims[axis], request.starts.at[i], request.ends.at[i], step);
        starts[axis] = range.start;
        limits[axis] = range.limit;
        strides[axis] = range.stride;
    }
    kiln_attrs attrs = {
        KILN_FAMILY_slice,
        .slice = {{type->rank, starts}, {type->rank, limits}, {type->rank, strides}}};
    kiln_value part = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_slice,
                                                                    .inputs = call->inputs,
                                                                    .n_inputs = 1,
                                                                    .attrs = &attrs});
    for (uint32_t i = 0; i < n; i++) {
        uint32_t axis = kiln_onnx_axis(call, request.has_axes ? request.axes.at[i] : i, type->rank);
        if (request.has_steps && request.steps.at[i] < 0) reversed[n_reversed++] = axis;
    }
    if (n_reversed == 0) return part;
    kiln_ints axes = kiln_onnx_axes(call, (kiln_ints){n_reversed, reversed}, type->rank);
    attrs = (kiln_attrs){KILN_FAMILY_axes, .axes = {axes}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_reverse, .inputs = &part, .n_inputs = 1, .attrs = &attrs});
}

static kiln_value import_concat(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    if (!kiln_onnx_has_attribute(call, "axis"))
        kiln_onnx_fail(call, "attr 'axis' is missing; expected an axis");
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    for (uint32_t i = 0; i < call->n_inputs; i++) kiln_onnx_operand(call, i);
    return kiln_onnx_concat(call, call->n_inputs, call->inputs, axis);
}

/* The sizes of the parts: given, or equal with the last one smaller. */
static kiln_ints split_sizes(kiln_onnx_call *call, int64_t dim)
{
    kiln_ints given = {0};
    if (call->opset < 13 ? kiln_onnx_ints(call, "split", &given) : kiln_onnx_has(call, 1)) {
        return call->opset < 13 ? given : kiln_onnx_known_ints(call, 1);
    }
    int64_t n = kiln_onnx_int(call, "num_outputs", call->n_outputs);
    if (n != call->n_outputs || n < 1)
        kiln_onnx_fail(call, "attr 'num_outputs' is %" PRId64 "; expected %u", n, call->n_outputs);
    if (dim % n && call->opset < 18)
        kiln_onnx_fail(call, "dim %" PRId64 " in %" PRId64 " parts; expected a divisor", dim, n);
    int64_t *sizes = kiln_onnx_dims(call, (uint32_t)n), size = kiln_ceil_div(dim, n);
    for (int64_t i = 0; i < n; i++) sizes[i] = clamp(dim - i * size, 0, size);
    return (kiln_ints){(uint32_t)n, sizes};
}

static kiln_value import_split(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    kiln_ints sizes = split_sizes(call, type->dims[axis]);
    int64_t at = 0;
    if (sizes.n != call->n_outputs)
        kiln_onnx_fail(call, "%u sizes for %u outputs; expected as many", sizes.n, call->n_outputs);
    for (uint32_t i = 0; i < sizes.n; i++) {
        if (sizes.at[i] < 0 || sizes.at[i] > type->dims[axis] - at)
            kiln_onnx_fail(call, "size %u is %" PRId64 "; expected sizes that add up to %" PRId64,
                           i, sizes.at[i], type->dims[axis]);
        kiln_onnx_result(call, i,
                         kiln_onnx_slice(call, call->inputs[0], axis, at, at + sizes.at[i]));
        at += sizes.at[i];
    }
    if (at != type->dims[axis])
        kiln_onnx_fail(call, "sizes add up to %" PRId64 "; expected %" PRId64, at,
                       type->dims[axis]);
    return call->outputs[0];
}

/* Pad */

typedef struct pad_request {
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK];
    kiln_value value; /* a scalar */
} pad_request;

static void pads_read(kiln_onnx_call *call, const kiln_type *type, pad_request *request)
{
    kiln_ints pads = {0}, axes = {0};
    bool is_attribute = call->opset < 11, has_axes = kiln_onnx_has(call, 3);
    if (is_attribute) {
        kiln_onnx_ints(call, "pads", &pads);
    } else {
        pads = kiln_onnx_known_ints(call, 1);
        if (has_axes) axes = kiln_onnx_known_ints(call, 3);
    }
    uint32_t n = has_axes ? axes.n : type->rank;
    if (pads.n != 2 * n) kiln_onnx_fail(call, "%u pads; expected %u", pads.n, 2 * n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t axis = has_axes ? kiln_onnx_axis(call, axes.at[i], type->rank) : i;
        int64_t low = pads.at[i], high = pads.at[i + n], padded;
        bool is_good = kiln_checked_add(type->dims[axis], low, &padded) &&
                       kiln_checked_add(padded, high, &padded) && padded >= 0;
        if (!is_good || low < -type->dims[axis] || high < -type->dims[axis])
            kiln_onnx_fail(call,
                           "pads %" PRId64 " and %" PRId64 " of dim %" PRId64
                           "; expected a result of 0 or more",
                           low, high, type->dims[axis]);
        kiln_onnx_check_size(call, 1, &padded);
        request->low[axis] = low;
        request->high[axis] = high;
    }
    if (is_attribute || !kiln_onnx_has(call, 2)) {
        double value = is_attribute ? kiln_onnx_float(call, "value", 0) : 0;
        request->value = kiln_onnx_scalar(call, type->dtype, value);
    } else {
        request->value = kiln_add_reshape(call->graph, call->inputs[2], 0, NULL);
    }
}

static kiln_value pad_constant(kiln_onnx_call *call, const kiln_type *type,
                               const pad_request *request)
{
    kiln_value inputs[] = {call->inputs[0], request->value};
    int64_t interior[KILN_MAX_RANK] = {0};
    kiln_attrs attrs = {
        KILN_FAMILY_pad,
        .pad = {{type->rank, request->low}, {type->rank, request->high}, {type->rank, interior}}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_pad, .inputs = inputs, .n_inputs = 2, .attrs = &attrs});
}

/* Where element `at` of the padded dim comes from. */
static int64_t pad_source(char mode, int64_t at, int64_t dim)
{
    if (mode == 'e') return clamp(at, 0, dim - 1);
    int64_t period = mode == 'w' ? dim : kiln_max_i64(2 * (dim - 1), 1);
    at %= period;
    if (at < 0) at += period;
    return at < dim ? at : period - at;
}

/* Edge, reflect and wrap: a take along each padded axis. */
static kiln_value pad_repeat(kiln_onnx_call *call, const kiln_type *type,
                             const pad_request *request, char mode)
{
    kiln_value a = call->inputs[0];
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        int64_t dim = type->dims[axis], padded = dim + request->low[axis] + request->high[axis];
        if (request->low[axis] == 0 && request->high[axis] == 0) continue;
        if (dim == 0 || padded > 1 << 24)
            kiln_onnx_fail(
                call, "dim %u of %" PRId64 " padded to %" PRId64 "; expected something to repeat",
                axis, dim, padded);
        int64_t *places = kiln_new_array(&call->scope->arena, int64_t, padded + 1);
        for (int64_t i = 0; i < padded; i++)
            places[i] = pad_source(mode, i - request->low[axis], dim);
        kiln_ints list = {(uint32_t)padded, places};
        a = kiln_onnx_take(call, a, kiln_onnx_constant_ints(call, KILN_i64, list), axis);
    }
    return a;
}

static kiln_value import_pad(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    pad_request request = {0};
    pads_read(call, type, &request);
    const char *mode = kiln_onnx_string(call, "mode", "constant");
    if (!strcmp(mode, "constant")) return pad_constant(call, type, &request);
    if (strcmp(mode, "edge") && strcmp(mode, "reflect") && strcmp(mode, "wrap"))
        kiln_onnx_fail(call, "attr 'mode' is %s; expected constant, edge, reflect or wrap",
                       kiln_onnx_quote(&call->scope->arena, mode));
    return pad_repeat(call, type, &request, mode[0]);
}

/* Keeps columns - rows >= k (upper) or <= k (lower). */
static kiln_value import_trilu(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    int64_t k = kiln_onnx_has(call, 1) ? kiln_onnx_known_int(call, 1) : 0;
    const int64_t *dims = type->dims + type->rank - 2;
    kiln_value row = kiln_onnx_iota(call, KILN_i64, 2, dims, 0);
    kiln_value column = kiln_onnx_iota(call, KILN_i64, 2, dims, 1);
    kiln_value apart = kiln_add_binary(call->graph, KILN_OP_sub, column, row);
    bool is_upper = kiln_onnx_flag(call, "upper", true);
    double bound = (double)clamp(k, -((int64_t)1 << 41), (int64_t)1 << 41);
    kiln_value is_kept = kiln_onnx_with(call, is_upper ? KILN_OP_ge : KILN_OP_le, apart, bound);
    return kiln_onnx_select(call, is_kept, call->inputs[0],
                            kiln_add_splat_like(call->graph, call->inputs[0], 0));
}

#define ROW(op, least, most, function)                                                             \
    {                                                                                              \
        op, 6, KILN_ONNX_NEWEST, least, most, function                                             \
    }

const kiln_onnx_row kiln_onnx_slice_rows[] = {
    {"Slice", 6, 9, 1, 1, import_slice},
    {"Slice", 10, KILN_ONNX_NEWEST, 3, 5, import_slice},
    ROW("Concat", 1, KILN_ONNX_ANY, import_concat),
    {"Split", 6, 12, 1, 1, import_split},
    {"Split", 13, KILN_ONNX_NEWEST, 1, 2, import_split},
    {"Pad", 6, 10, 1, 1, import_pad},
    {"Pad", 11, KILN_ONNX_NEWEST, 2, 4, import_pad},
    {"Trilu", 14, KILN_ONNX_NEWEST, 1, 2, import_trilu},
    {0},
};
