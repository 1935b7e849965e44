/* The public builder: calls of kiln/images.h. */
#include <math.h>

#include "base/checked.h"
#include "graph/builder.h"
#include "graph/element.h"
#include "graph/grid.h"
#include "graph/resize.h"
#include "graph/rules/rules.h"

/* Shuffles: request->axis is the factor. */

typedef struct shuffle {
    int64_t n, c, h, w, r;
} shuffle;

static shuffle shuffle_of(kiln_graph *graph, const kiln_request *request, int64_t divisor)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    int64_t r = request->axis;
    bool fits = type->rank == 4 && r >= 1 && r <= KILN_MAX_DIM && type->dims[1] % divisor == 0;
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "%s: operand %s, factor %lld; expected rank 4 and "
                  "dims that it divides",
                  request->name, kiln_rule_type(graph, request->inputs[0]), (long long)r);
    }
    return (shuffle){type->dims[0], type->dims[1], type->dims[2], type->dims[3], r};
}

static kiln_value turn(kiln_graph *graph, kiln_value a, const int64_t *dims, const int64_t *order)
{
    return kiln_add_transpose(graph, kiln_add_reshape(graph, a, 6, dims), order);
}

static int64_t square_of(const kiln_request *request)
{
    int64_t square = 0;
    bool is_sane = request->axis >= 1 && kiln_checked_mul(request->axis, request->axis, &square);
    return is_sane ? square : INT64_MAX;
}

static kiln_value shuffle_body(kiln_graph *graph, const kiln_request *request)
{
    static const int64_t order[] = {0, 1, 4, 2, 5, 3};
    shuffle s = shuffle_of(graph, request, square_of(request));
    int64_t c = s.c / (s.r * s.r), from[] = {s.n, c, s.r, s.r, s.h, s.w};
    int64_t to[] = {s.n, c, s.h * s.r, s.w * s.r};
    return kiln_add_reshape(graph, turn(graph, request->inputs[0], from, order), 4, to);
}

kiln_value kiln_pixel_shuffle(kiln_graph *graph, kiln_value a, int64_t factor)
{
    kiln_request request = {.name = "pixel_shuffle", .inputs = {a}, .n = 1, .axis = factor};
    return kiln_build(graph, shuffle_body, &request);
}

static kiln_value unshuffle_body(kiln_graph *graph, const kiln_request *request)
{
    static const int64_t order[] = {0, 1, 3, 5, 2, 4};
    shuffle s = shuffle_of(graph, request, 1);
    int64_t h = s.h / s.r, w = s.w / s.r, from[] = {s.n, s.c, h, s.r, w, s.r};
    if (s.h % s.r || s.w % s.r) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "pixel_unshuffle: operand %s, factor %lld; expected dims that it divides",
                  kiln_rule_type(graph, request->inputs[0]), (long long)s.r);
    }
    int64_t to[] = {s.n, s.c * s.r * s.r, h, w};
    return kiln_add_reshape(graph, turn(graph, request->inputs[0], from, order), 4, to);
}

kiln_value kiln_pixel_unshuffle(kiln_graph *graph, kiln_value a, int64_t factor)
{
    kiln_request request = {.name = "pixel_unshuffle", .inputs = {a}, .n = 1, .axis = factor};
    return kiln_build(graph, unshuffle_body, &request);
}

static kiln_value channels_body(kiln_graph *graph, const kiln_request *request)
{
    static const int64_t order[] = {0, 2, 1, 3};
    const kiln_type *type = kiln_build_type(graph, request, 0);
    int64_t groups = request->axis, rest = 1;
    if (type->rank < 2 || groups < 1 || type->dims[1] % groups) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "channel_shuffle: %lld groups of %s; expected a divisor of the second dim",
                  (long long)groups, kiln_rule_type(graph, request->inputs[0]));
    }
    for (uint32_t i = 2; i < type->rank; i++) rest *= type->dims[i];
    int64_t dims[] = {type->dims[0], groups, type->dims[1] / groups, rest};
    kiln_value a = kiln_add_reshape(graph, request->inputs[0], 4, dims);
    return kiln_add_reshape(graph, kiln_add_transpose(graph, a, order), type->rank, type->dims);
}

kiln_value kiln_channel_shuffle(kiln_graph *graph, kiln_value a, int64_t groups)
{
    kiln_request request = {.name = "channel_shuffle", .inputs = {a}, .n = 1, .axis = groups};
    return kiln_build(graph, channels_body, &request);
}

/* Resizing */

static void plan_axis(kiln_graph *graph, const kiln_resize_options *options, kiln_resize_plan *plan,
                      uint32_t axis, int64_t dim)
{
    plan->from[axis] = options->from ? options->from[axis] : 0;
    plan->to[axis] = options->to ? options->to[axis] : 1;
    double out = 0, scale = options->scales ? options->scales[axis] : 0;
    bool is_crop = plan->place == KILN_COORDINATE_CROP;
    if (options->scales) {
        out = floor((double)dim * (is_crop ? plan->to[axis] - plan->from[axis] : 1) * scale);
    } else {
        out = (double)options->sizes[axis];
        scale = dim ? (double)((float)out / (float)dim) : 1;
    }
    bool is_sane = scale > 0 && out >= 0 && out < (double)KILN_MAX_DIM && (dim == 0) == (out == 0);
    if (!is_sane) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "resize: axis %u of dim %lld to %g with scale %g; expected a size above 0", axis,
                  (long long)dim, out, scale);
    }
    plan->out[axis] = (int64_t)out;
    plan->scale[axis] = (float)scale;
}

static kiln_value resize_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_resize_options *options = request->options;
    const kiln_type *type = kiln_build_type(graph, request, 0);
    if (!options || !options->sizes == !options->scales) {
        kiln_fail(graph->scope, KILN_INVALID, "resize: %s; expected sizes or scales",
                  !options         ? "options is NULL"
                  : options->sizes ? "sizes and scales"
                                   : "neither sizes nor scales");
    }
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER) || type->rank == 0) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "resize: operand %s; expected numbers, rank 1 or more",
                  kiln_rule_type(graph, request->inputs[0]));
    }
    kiln_resize_plan plan = {options->mode,
                             options->place,
                             options->round,
                             options->is_antialias != 0,
                             options->is_outside_excluded != 0,
                             options->cubic != 0 ? options->cubic : -0.75,
                             options->outside,
                             type->rank};
    for (uint32_t i = 0; i < type->rank; i++) plan_axis(graph, options, &plan, i, type->dims[i]);
    if (!kiln_resize_fits(&plan, type)) {
        kiln_fail(graph->scope, KILN_LIMIT,
                  "resize: %s needs too many weights; expected scales of 1/4096 or more and sizes "
                  "below 2^22",
                  kiln_rule_type(graph, request->inputs[0]));
    }
    kiln_value a = kiln_resize_apply(graph, &plan, kiln_rule_widen(graph, request->inputs[0]));
    return kiln_rule_narrow(graph, a, type->dtype);
}

kiln_value kiln_resize(kiln_graph *graph, kiln_value a, const kiln_resize_options *options)
{
    kiln_request request = {.name = "resize", .inputs = {a}, .n = 1, .options = options};
    return kiln_build(graph, resize_body, &request);
}

static kiln_value grid_body(kiln_graph *graph, const kiln_request *request)
{
    static const char modes[] = {'n', 'l', 'c'}, paddings[] = {'z', 'b', 'r'};
    static const kiln_grid_options none = {.mode = KILN_RESIZE_LINEAR};
    const kiln_grid_options *options = request->options ? request->options : &none;
    const kiln_type *a = kiln_build_type(graph, request, 0),
                    *at = kiln_build_type(graph, request, 1);
    uint32_t n = a->rank - 2;
    bool fits = a->rank >= 3 && a->rank <= 5 && at->rank == n + 2 && at->dims[n + 1] == n &&
                at->dims[0] == a->dims[0] && a->n_elements > 0 &&
                kiln_dtype_in(a->dtype, KILN_TYPES_FLOAT) &&
                kiln_dtype_in(at->dtype, KILN_TYPES_FLOAT) && (unsigned)options->mode < 3 &&
                (unsigned)options->padding < 3;
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "grid_sample: operands %s and %s; expected [n, c, spatial…], not empty, and "
                  "[n, dims…, number of spatial dims]",
                  kiln_rule_type(graph, request->inputs[0]),
                  kiln_rule_type(graph, request->inputs[1]));
    }
    kiln_grid_plan plan = {
        n, options->is_aligned != 0, modes[options->mode], paddings[options->padding], a, 1};
    for (uint32_t i = 0; i < n; i++) plan.points *= at->dims[i + 1];
    return kiln_grid_apply(graph, &plan, request->inputs);
}

kiln_value kiln_grid_sample(kiln_graph *graph, kiln_value a, kiln_value grid,
                            const kiln_grid_options *options)
{
    kiln_request request = {.name = "grid_sample", .inputs = {a, grid}, .n = 2, .options = options};
    return kiln_build(graph, grid_body, &request);
}
