/* Operators between images and patches of them: Col2Im, MaxUnpool, the places of maxima of MaxPool,
 * RoiAlign. Places that are known at import become constant indices. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

#define MAX_PLACES ((int64_t)1 << 26)

/* A constant of i64 that the caller fills. */
static int64_t *places_new(kiln_onnx_call *call, int64_t n)
{
    if (n > MAX_PLACES)
        kiln_onnx_refuse(call, "%" PRId64 " places; expected at most %" PRId64, n, MAX_PLACES);
    return kiln_new_array(&call->scope->arena, int64_t, n + 1);
}

static kiln_value places_constant(kiln_onnx_call *call, const int64_t *places, uint32_t rank,
                                  const int64_t *dims)
{
    return kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, KILN_i64, rank, dims),
                             places);
}

static void unravel(int64_t linear, uint32_t rank, const int64_t *dims, int64_t *out)
{
    for (uint32_t i = rank; i-- > 0; linear /= dims[i]) out[i] = linear % dims[i];
}

/* Windows over spatial dims: where tap k of window o stands. */
typedef struct patch_grid {
    uint32_t n;
    int64_t dims[KILN_MAX_RANK], out[KILN_MAX_RANK], n_dims, n_out, n_taps;
    const kiln_onnx_window *window;
} patch_grid;

/* places[o * n_taps + k]: the row-major place within the dims, -1 in the padding. With is_column
 * the first spatial dim is the fastest. */
static int64_t *grid_places(kiln_onnx_call *call, const patch_grid *grid, bool is_column)
{
    int64_t total = MAX_PLACES + 1, at[KILN_MAX_RANK], tap[KILN_MAX_RANK];
    if (!kiln_checked_mul(grid->n_out, grid->n_taps, &total)) total = MAX_PLACES + 1;
    int64_t *places = places_new(call, total);
    for (int64_t i = 0; i < total; i++) {
        unravel(i / grid->n_taps, grid->n, grid->out, at);
        unravel(i % grid->n_taps, grid->n, grid->window->kernel, tap);
        int64_t place = 0, stride = 1;
        for (uint32_t step = 0; step < grid->n; step++) {
            uint32_t k = is_column ? step : grid->n - 1 - step;
            int64_t x = at[k] * grid->window->strides[k] - grid->window->low[k] +
                        tap[k] * grid->window->dilations[k];
            if (x < 0 || x >= grid->dims[k]) place = INT64_MIN;
            if (place >= 0) place += x * stride;
            stride *= grid->dims[k];
        }
        places[i] = place < 0 ? -1 : place;
    }
    return places;
}

static kiln_value add_node(kiln_onnx_call *call, kiln_op op, uint32_t n, const kiln_value *inputs,
                           const kiln_attrs *attrs)
{
    return kiln_graph_add(
        call->graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = n, .attrs = attrs});
}

/* The first place of the maximum of each window of a[batch, channel, dims…], counted through the
 * whole operand. */
kiln_value kiln_onnx_max_places(kiln_onnx_call *call, const kiln_onnx_window *window,
                                const int64_t *out, bool is_column)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_type(call, 0);
    patch_grid grid = {.n = window->n, .n_dims = 1, .n_out = 1, .n_taps = 1, .window = window};
    int64_t dims[KILN_MAX_RANK] = {type->dims[0], type->dims[1]};
    for (uint32_t i = 0; i < window->n; i++) {
        grid.dims[i] = type->dims[i + 2];
        grid.out[i] = dims[i + 2] = out[i];
        grid.n_dims *= grid.dims[i];
        grid.n_out *= out[i];
        grid.n_taps *= window->kernel[i];
    }
    int64_t rows = type->dims[0] * type->dims[1], flat[2] = {rows, grid.n_dims};
    int64_t wide[3] = {rows, grid.n_out, grid.n_taps}, tail[2] = {grid.n_out, grid.n_taps};
    int64_t narrow[2] = {rows, grid.n_out}, axes[2] = {1, 2};
    kiln_value places = places_constant(call, grid_places(call, &grid, false), 2, tail);
    kiln_value a = kiln_add_reshape(graph, call->inputs[0], 2, flat);
    kiln_value taps = kiln_onnx_take(call, a, places, 1);
    kiln_value is_in = kiln_onnx_with(call, KILN_OP_ge, places, 0);
    double least = kiln_onnx_is_float(type->dtype) ? -INFINITY : -128;
    if (kiln_dtype_kind_of(type->dtype) == KILN_DTYPE_KIND_UINT) least = 0;
    taps = kiln_onnx_select(call, kiln_add_broadcast(graph, is_in, 3, wide, axes), taps,
                            kiln_add_splat_like(graph, taps, least));
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {2, false}};
    kiln_value best = add_node(call, KILN_OP_argmax, 1, &taps, &arg);
    kiln_value row = kiln_onnx_with(call, KILN_OP_mul, kiln_onnx_iota(call, KILN_i64, 2, narrow, 1),
                                    (double)grid.n_taps);
    int64_t n_all = grid.n_out * grid.n_taps;
    kiln_value named = places_constant(call, grid_places(call, &grid, is_column), 1, &n_all);
    kiln_value at = kiln_onnx_take(call, named, kiln_add_binary(graph, KILN_OP_add, row, best), 0);
    kiln_value base = kiln_onnx_with(
        call, KILN_OP_mul, kiln_onnx_iota(call, KILN_i64, 2, narrow, 0), (double)grid.n_dims);
    at = kiln_add_binary(graph, KILN_OP_add, at, base);
    return kiln_add_reshape(graph, at, type->rank, dims);
}

/* a[m] added to zeros of `dims` at places[m]; the places may be outside. */
static kiln_value scattered(kiln_onnx_call *call, kiln_op op, kiln_value *inputs, int64_t window)
{
    int64_t zero = 0, one = 1;
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = (kiln_ints){window > 0, &zero};
    attrs.scatter.inserted_axes = attrs.scatter.start_map =
        (kiln_ints){1, window > 0 ? &one : &zero};
    attrs.scatter.index_axis = 1;
    return add_node(call, op, 3, inputs, &attrs);
}

/* A list attribute of n entries of at least `least`, or `fallback`. */
static void list_read(kiln_onnx_call *call, const char *name, kiln_ints out, int64_t fallback)
{
    kiln_ints given;
    int64_t *to = (int64_t *)out.at;
    bool has = kiln_onnx_ints(call, name, &given);
    if (has && given.n != out.n)
        kiln_onnx_fail(call, "attr '%s' has %u entries; expected %u", name, given.n, out.n);
    for (uint32_t i = 0; i < out.n; i++) {
        to[i] = has ? given.at[i] : fallback;
        if (to[i] < fallback || to[i] > 1 << 20)
            kiln_onnx_fail(call, "attr '%s' has %" PRId64 "; expected at least %" PRId64, name,
                           to[i], fallback);
    }
}

static void col2im_read(kiln_onnx_call *call, patch_grid *grid, kiln_onnx_window *window)
{
    kiln_ints image = kiln_onnx_known_ints(call, 1), block = kiln_onnx_known_ints(call, 2);
    int64_t pads[2 * KILN_MAX_RANK];
    if (image.n == 0 || image.n > 6 || block.n != image.n)
        kiln_onnx_fail(call, "%u image and %u block dims; expected 1 to 6 of both", image.n,
                       block.n);
    grid->n = window->n = image.n;
    list_read(call, "dilations", (kiln_ints){image.n, window->dilations}, 1);
    list_read(call, "strides", (kiln_ints){image.n, window->strides}, 1);
    list_read(call, "pads", (kiln_ints){2 * image.n, pads}, 0);
    grid->n_dims = grid->n_out = grid->n_taps = 1;
    grid->window = window;
    for (uint32_t i = 0; i < image.n; i++) {
        window->kernel[i] = block.at[i];
        window->low[i] = pads[i];
        grid->dims[i] = image.at[i];
        int64_t reach = (block.at[i] - 1) * window->dilations[i] + 1;
        int64_t room = image.at[i] + pads[i] + pads[image.n + i] - reach;
        if (image.at[i] < 1 || block.at[i] < 1 || room < 0 || image.at[i] > 1 << 24)
            kiln_onnx_fail(call, "blocks of %" PRId64 " in dim %" PRId64 "; expected ones that fit",
                           block.at[i], image.at[i]);
        grid->out[i] = room / window->strides[i] + 1;
        grid->n_dims *= grid->dims[i];
        grid->n_out *= grid->out[i];
        grid->n_taps *= block.at[i];
    }
}

/* [batch, channel * taps, windows]: all taps added where they stand. */
static kiln_value import_col2im(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    patch_grid grid = {0};
    kiln_onnx_window window = {0};
    col2im_read(call, &grid, &window);
    if (type->rank != 3 || type->dims[1] % grid.n_taps || type->dims[2] != grid.n_out)
        kiln_onnx_fail(call, "%" PRId64 " windows of %" PRId64 " taps; expected the operand's dims",
                       grid.n_out, grid.n_taps);
    int64_t channels = type->dims[1] / grid.n_taps, rows = type->dims[0] * channels;
    int64_t split[3] = {rows, grid.n_taps, grid.n_out}, swap[3] = {0, 2, 1};
    int64_t flat[2] = {rows, grid.n_out * grid.n_taps}, image[2] = {rows, grid.n_dims};
    int64_t dims[KILN_MAX_RANK] = {type->dims[0], channels};
    for (uint32_t i = 0; i < grid.n; i++) dims[i + 2] = grid.dims[i];
    kiln_value a = kiln_add_reshape(graph, call->inputs[0], 3, split);
    a = kiln_add_reshape(graph, kiln_add_transpose(graph, a, swap), 2, flat);
    kiln_value inputs[3] = {kiln_add_splat(graph, type->dtype, 2, image, 0),
                            places_constant(call, grid_places(call, &grid, false), 1, &flat[1]), a};
    kiln_value y = scattered(call, KILN_OP_scatter_add, inputs, 1);
    return kiln_add_reshape(graph, y, grid.n + 2, dims);
}

/* Elements put back at their places, which count through the whole result. */
static kiln_value import_max_unpool(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    kiln_onnx_window window;
    int64_t dims[KILN_MAX_RANK] = {type->dims[0], type->dims[1]}, n = type->n_elements, total;
    kiln_onnx_window_read(call, NULL, &window);
    for (uint32_t i = 0; i < window.n; i++) {
        dims[i + 2] = (type->dims[i + 2] - 1) * window.strides[i] - window.low[i] - window.high[i] +
                      window.kernel[i];
    }
    const kiln_type *whole = kiln_graph_tensor(graph, type->dtype, type->rank, dims);
    total = whole->n_elements;
    kiln_value inputs[3] = {kiln_add_splat(graph, type->dtype, 1, &total, 0),
                            kiln_add_reshape(graph, kiln_onnx_operand(call, 1), 1, &n),
                            kiln_add_reshape(graph, call->inputs[0], 1, &n)};
    kiln_value y = scattered(call, KILN_OP_scatter, inputs, 0);
    y = kiln_add_reshape(graph, y, type->rank, dims);
    if (!kiln_onnx_has(call, 2)) return y;
    kiln_ints given = kiln_onnx_known_ints(call, 2);
    for (uint32_t i = 0; i < type->rank; i++) {
        if (given.n != type->rank || given.at[i] < dims[i])
            kiln_onnx_fail(call, "output_shape of %u dims; expected %u, no less than the windows'",
                           given.n, type->rank);
        y = kiln_onnx_pad_high(call, y, i, given.at[i] - dims[i], 0);
    }
    return y;
}

typedef struct roi_plan {
    int64_t rois, height, width, samples; /* of the result; samples along each axis of a bin */
    double scale, offset;
    bool is_max;
} roi_plan;

/* Samples of a bin along one axis: f32[rois, bins * samples] coordinates. */
static kiln_value roi_axis(kiln_onnx_call *call, const roi_plan *plan, uint32_t column,
                           int64_t bins)
{
    kiln_graph *graph = call->graph;
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype;
    int64_t n = bins * plan->samples, dims[2] = {plan->rois, n}, rois[1] = {plan->rois}, first = 0;
    kiln_value ends[2];
    for (uint32_t i = 0; i < 2; i++) {
        ends[i] = kiln_onnx_slice(call, call->inputs[1], 1, column + 2 * i, column + 2 * i + 1);
        ends[i] = kiln_add_reshape(graph, ends[i], 1, rois);
        ends[i] = kiln_onnx_with(call, KILN_OP_mul, ends[i], plan->scale);
        ends[i] = kiln_onnx_with(call, KILN_OP_sub, ends[i], plan->offset);
    }
    kiln_value size = kiln_add_binary(graph, KILN_OP_sub, ends[1], ends[0]);
    if (plan->offset == 0) size = kiln_onnx_with(call, KILN_OP_max, size, 1);
    size = kiln_onnx_with(call, KILN_OP_div, size, (double)bins);
    kiln_value at = kiln_add_convert(graph, kiln_onnx_iota(call, KILN_i64, 2, dims, 1), dtype);
    at = kiln_onnx_with(call, KILN_OP_add, at, 0.5);
    at = kiln_onnx_with(call, KILN_OP_div, at, (double)plan->samples);
    at = kiln_add_binary(graph, KILN_OP_mul, at, kiln_add_broadcast(graph, size, 2, dims, &first));
    return kiln_add_binary(graph, KILN_OP_add, at,
                           kiln_add_broadcast(graph, ends[0], 2, dims, &first));
}

/* The two neighbours of coordinates along an axis of `dim`, and their weights; all 0 outside. */
typedef struct roi_taps {
    kiln_value at[2], weight[2];
} roi_taps;

static roi_taps roi_neighbours(kiln_onnx_call *call, kiln_value x, int64_t dim)
{
    kiln_graph *graph = call->graph;
    kiln_value is_in = kiln_add_binary(graph, KILN_OP_and, kiln_onnx_with(call, KILN_OP_ge, x, -1),
                                       kiln_onnx_with(call, KILN_OP_le, x, (double)dim));
    x = kiln_onnx_with(call, KILN_OP_max, x, 0);
    x = kiln_onnx_with(call, KILN_OP_min, x, (double)(dim - 1));
    kiln_value low = kiln_add_unary(graph, KILN_OP_floor, x);
    kiln_value share = kiln_add_binary(graph, KILN_OP_sub, x, low);
    kiln_value zero = kiln_add_splat_like(graph, x, 0), one = kiln_add_splat_like(graph, x, 1);
    roi_taps taps;
    taps.at[0] = kiln_add_convert(graph, low, KILN_i64);
    taps.at[1] = kiln_onnx_with(call, KILN_OP_add, taps.at[0], 1);
    taps.at[1] = kiln_onnx_with(call, KILN_OP_min, taps.at[1], (double)(dim - 1));
    taps.weight[0] =
        kiln_onnx_select(call, is_in, kiln_add_binary(graph, KILN_OP_sub, one, share), zero);
    taps.weight[1] = kiln_onnx_select(call, is_in, share, zero);
    return taps;
}

static void roi_read(kiln_onnx_call *call, roi_plan *plan)
{
    const kiln_type *rois = kiln_onnx_ranked(call, 1, 2);
    bool is_new = call->opset >= 16;
    const char *mode = kiln_onnx_string(call, "mode", "avg");
    const char *shift = is_new
                            ? kiln_onnx_string(call, "coordinate_transformation_mode", "half_pixel")
                            : "output_half_pixel";
    plan->rois = rois->dims[0];
    plan->height = kiln_onnx_int(call, "output_height", 1);
    plan->width = kiln_onnx_int(call, "output_width", 1);
    plan->samples = kiln_onnx_int(call, "sampling_ratio", 0);
    plan->scale = kiln_onnx_float(call, "spatial_scale", 1);
    plan->offset = strcmp(shift, "half_pixel") ? 0 : 0.5;
    plan->is_max = !strcmp(mode, "max");
    if (plan->samples == 0)
        kiln_onnx_refuse(call, "attr 'sampling_ratio' is 0: the number of "
                               "samples depends on the data");
    if (rois->rank != 2 || rois->dims[1] != 4 || plan->height < 1 || plan->width < 1 ||
        plan->height > 4096 || plan->width > 4096 || plan->samples < 0 || plan->samples > 256)
        kiln_onnx_fail(call,
                       "%" PRId64 " x %" PRId64 " bins of %" PRId64 " samples; expected 1 or "
                       "more, and regions of 4 numbers",
                       plan->height, plan->width, plan->samples);
}

/* Four neighbours of every sample, weighted; of a bin the mean over samples of their sum, or the
 * largest of all. */
static kiln_value import_roi_align(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 4);
    roi_plan p;
    roi_read(call, &p);
    int64_t h = type->dims[2], w = type->dims[3], c = type->dims[1], first = 0;
    int64_t rows = p.height * p.samples, columns = p.width * p.samples;
    int64_t grid[3] = {p.rois, rows, columns}, y_axes[2] = {0, 1}, x_axes[2] = {0, 2};
    int64_t flat[2] = {type->dims[0] * h * w, c}, last[4] = {0, 2, 3, 1}, spread[3] = {0, 1, 2};
    int64_t wide[4] = {p.rois, rows, columns, c};
    if (type->rank != 4 || h == 0 || w == 0) kiln_onnx_fail(call, "an image without elements");
    roi_taps y = roi_neighbours(call, roi_axis(call, &p, 1, p.height), h);
    roi_taps x = roi_neighbours(call, roi_axis(call, &p, 0, p.width), w);
    kiln_value pixels = kiln_add_transpose(graph, call->inputs[0], last);
    pixels = kiln_add_reshape(graph, pixels, 2, flat);
    kiln_value image = kiln_add_convert(graph, kiln_onnx_operand(call, 2), KILN_i64), total = {0};
    image = kiln_onnx_with(call, KILN_OP_mul, image, (double)(h * w));
    image = kiln_add_broadcast(graph, image, 3, grid, &first);
    for (uint32_t i = 0; i < 4; i++) {
        kiln_value row = kiln_onnx_with(call, KILN_OP_mul, y.at[i / 2], (double)w);
        kiln_value at =
            kiln_add_binary(graph, KILN_OP_add, kiln_add_broadcast(graph, row, 3, grid, y_axes),
                            kiln_add_broadcast(graph, x.at[i % 2], 3, grid, x_axes));
        at = kiln_add_binary(graph, KILN_OP_add, at, image);
        kiln_value weight = kiln_add_binary(
            graph, KILN_OP_mul, kiln_add_broadcast(graph, y.weight[i / 2], 3, grid, y_axes),
            kiln_add_broadcast(graph, x.weight[i % 2], 3, grid, x_axes));
        kiln_value part = kiln_add_binary(graph, KILN_OP_mul, kiln_onnx_take(call, pixels, at, 0),
                                          kiln_add_broadcast(graph, weight, 4, wide, spread));
        kiln_op joins = p.is_max ? KILN_OP_max : KILN_OP_add;
        total = i ? kiln_add_binary(graph, joins, total, part) : part;
    }
    int64_t bins[6] = {p.rois, p.height, p.samples, p.width, p.samples, c}, inner[2] = {2, 4};
    total = kiln_add_reshape(graph, total, 6, bins);
    total = kiln_add_reduce(graph, p.is_max ? KILN_OP_reduce_max : KILN_OP_mean, total, 2, inner);
    return kiln_add_transpose(graph, total, (int64_t[]){0, 3, 1, 2});
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_patch_rows[] = {
    ROW("Col2Im", 18, 3, 3, import_col2im),
    ROW("MaxUnpool", 9, 2, 3, import_max_unpool),
    ROW("RoiAlign", 10, 3, 3, import_roi_align),
    {0},
};
