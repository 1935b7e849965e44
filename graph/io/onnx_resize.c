/* Resize and Upsample, one axis after the other. Along an axis every result element is a weighted
 * sum of a few operand elements (taps), whose places and weights are known at import: one take a
 * tap. A whole-number nearest enlargement is a broadcast; antialiasing, whose taps are many, a
 * product with the matrix of weights. Coordinates are computed in f32, as other implementations do,
 * so that ties of nearest fall the same way. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

typedef enum resize_mode { NEAREST, LINEAR, CUBIC } resize_mode;
typedef enum resize_place {
    HALF_PIXEL,
    HALF_SYMMETRIC,
    PYTORCH_HALF,
    ALIGN_CORNERS,
    ASYMMETRIC,
    CROP
} resize_place;
typedef enum resize_round { PREFER_FLOOR, PREFER_CEIL, FLOOR, CEIL } resize_round;

typedef struct resize_plan {
    resize_mode mode;
    resize_place place;
    resize_round round;
    bool is_antialias, is_outside_excluded;
    double cubic, outside;
    uint32_t rank;
    int64_t out[KILN_MAX_RANK];
    float scale[KILN_MAX_RANK];
    double from[KILN_MAX_RANK], to[KILN_MAX_RANK]; /* region of CROP */
} resize_plan;

/* Index of the attribute's word in a list that ends with NULL. */
static int word_read(kiln_onnx_call *call, const char *name, const char *fallback,
                     const char *const *words)
{
    const char *given = kiln_onnx_string(call, name, fallback);
    for (int i = 0; words[i]; i++) {
        if (!strcmp(words[i], given)) return i;
    }
    kiln_onnx_fail(call, "attr '%s' is %s; expected one of the operator's words", name,
                   kiln_onnx_quote(&call->scope->arena, given));
}

static void words_read(kiln_onnx_call *call, resize_plan *plan)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
    static const char *const places[] = {"half_pixel",
                                         "half_pixel_symmetric",
                                         "pytorch_half_pixel",
                                         "align_corners",
                                         "asymmetric",
                                         "tf_crop_and_resize",
                                         NULL};
    static const char *const rounds[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                         NULL};
    bool is_old = call->opset < 11;
    plan->mode = (resize_mode)word_read(call, "mode", "nearest", modes);
    plan->place = is_old ? ASYMMETRIC
                         : (resize_place)word_read(call, "coordinate_transformation_mode",
                                                   "half_pixel", places);
    plan->round = is_old
                      ? FLOOR
                      : (resize_round)word_read(call, "nearest_mode", "round_prefer_floor", rounds);
    plan->is_antialias = kiln_onnx_flag(call, "antialias", false);
    plan->is_outside_excluded = kiln_onnx_flag(call, "exclude_outside", false);
    plan->cubic = kiln_onnx_float(call, "cubic_coeff_a", -0.75);
    plan->outside = kiln_onnx_float(call, "extrapolation_value", 0);
}

static void scale_set(kiln_onnx_call *call, resize_plan *plan, uint32_t axis, double scale)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    double out = floor((double)type->dims[axis] * scale);
    if (plan->place == CROP)
        out = floor((double)type->dims[axis] * (plan->to[axis] - plan->from[axis]) * scale);
    if (!(scale > 0) || !(out >= 0 && out < (double)KILN_MAX_DIM))
        kiln_onnx_fail(call, "scale %g of axis %u; expected one above 0", scale, axis);
    plan->scale[axis] = (float)scale;
    plan->out[axis] = (int64_t)out;
}

/* sizes of all axes in the list; the policy keeps the aspect ratio of them */
static void sizes_set(kiln_onnx_call *call, resize_plan *plan, kiln_ints axes, kiln_ints sizes)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};
    const kiln_type *type = kiln_onnx_type(call, 0);
    int policy = word_read(call, "keep_aspect_ratio_policy", "stretch", policies);
    float common = policy == 1 ? INFINITY : 0;
    for (uint32_t i = 0; i < axes.n; i++) {
        uint32_t axis = (uint32_t)axes.at[i];
        if (sizes.at[i] < 0 || sizes.at[i] > KILN_MAX_DIM ||
            (type->dims[axis] == 0) != (sizes.at[i] == 0))
            kiln_onnx_fail(call, "size %" PRId64 " of dim %" PRId64 "; expected 1 or more",
                           sizes.at[i], type->dims[axis]);
        plan->out[axis] = sizes.at[i];
        plan->scale[axis] = type->dims[axis] ? (float)sizes.at[i] / (float)type->dims[axis] : 1;
        common = policy == 1 ? fminf(common, plan->scale[axis]) : fmaxf(common, plan->scale[axis]);
    }
    for (uint32_t i = 0; policy && i < axes.n; i++) {
        uint32_t axis = (uint32_t)axes.at[i];
        plan->scale[axis] = common;
        plan->out[axis] = (int64_t)floorf(common * (float)type->dims[axis] + 0.5f);
    }
}

static kiln_ints axes_read(kiln_onnx_call *call, const kiln_type *type)
{
    kiln_ints given;
    int64_t *axes = kiln_onnx_dims(call, type->rank);
    if (!kiln_onnx_ints(call, "axes", &given)) {
        for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
        return (kiln_ints){type->rank, axes};
    }
    if (given.n > type->rank)
        kiln_onnx_fail(call, "attr 'axes' has %u entries; expected at most %u", given.n,
                       type->rank);
    for (uint32_t i = 0; i < given.n; i++) axes[i] = kiln_onnx_axis(call, given.at[i], type->rank);
    return (kiln_ints){given.n, axes};
}

static void region_read(kiln_onnx_call *call, resize_plan *plan, kiln_ints axes)
{
    const double *region;
    for (uint32_t i = 0; i < plan->rank; i++) plan->to[i] = 1;
    if (plan->place != CROP) return;
    if (kiln_onnx_known_floats(call, 1, &region) != 2 * axes.n)
        kiln_onnx_fail(call, "roi has the wrong length; expected %u", 2 * axes.n);
    for (uint32_t i = 0; i < axes.n; i++) {
        plan->from[axes.at[i]] = region[i];
        plan->to[axes.at[i]] = region[i + axes.n];
    }
}

/* Scales, from the operand or (Upsample 7) the attribute. */
static uint32_t scales_read(kiln_onnx_call *call, uint32_t operand, const double **out)
{
    uint32_t n = 0;
    const float *given = NULL;
    if (operand) return kiln_onnx_known_floats(call, operand, out);
    if (!kiln_onnx_floats(call, "scales", &n, &given))
        kiln_onnx_fail(call, "attr 'scales' is missing; expected it");
    double *scales = kiln_new_array(&call->scope->arena, double, n + 1);
    for (uint32_t i = 0; i < n; i++) scales[i] = given[i];
    *out = scales;
    return n;
}

static void plan_read(kiln_onnx_call *call, resize_plan *plan)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    bool has_sizes = kiln_onnx_has(call, 3) && kiln_onnx_type(call, 3)->n_elements > 0;
    uint32_t operand = call->opset >= 11 ? 2 : call->opset >= 9 ? 1 : 0;
    plan->rank = type->rank;
    words_read(call, plan);
    kiln_ints axes = axes_read(call, type);
    region_read(call, plan, axes);
    for (uint32_t i = 0; i < type->rank; i++) {
        plan->out[i] = type->dims[i];
        plan->scale[i] = 1;
    }
    if (has_sizes) {
        kiln_ints sizes = kiln_onnx_known_ints(call, 3);
        if (sizes.n != axes.n) kiln_onnx_fail(call, "%u sizes; expected %u", sizes.n, axes.n);
        sizes_set(call, plan, axes, sizes);
        return;
    }
    const double *scales;
    kiln_onnx_ignore(call, "keep_aspect_ratio_policy");
    uint32_t n = scales_read(call, operand, &scales);
    if (n != axes.n) kiln_onnx_fail(call, "%u scales; expected %u", n, axes.n);
    for (uint32_t i = 0; i < n; i++) scale_set(call, plan, (uint32_t)axes.at[i], scales[i]);
}

/* Where result element `at` stands along the operand's axis. */
static float coordinate(const resize_plan *plan, uint32_t axis, int64_t in, int64_t at)
{
    float scale = plan->scale[axis], x = (float)at, n = (float)in, m = scale * n;
    if (fabsf(m - (float)plan->out[axis]) < 1e-3f) m = (float)plan->out[axis];
    switch (plan->place) {
    case HALF_PIXEL:
        return (x + 0.5f) / scale - 0.5f;
    case HALF_SYMMETRIC: {
        float adjustment = (float)plan->out[axis] / (scale * n), center = n / 2;
        return center * (1 - adjustment) + (x + 0.5f) / scale - 0.5f;
    }
    case PYTORCH_HALF:
        return m > 1 ? (x + 0.5f) / scale - 0.5f : 0;
    case ALIGN_CORNERS:
        return m > 1 ? x * (n - 1) / (m - 1) : 0;
    case ASYMMETRIC:
        return x / scale;
    case CROP:
        break;
    }
    float from = (float)plan->from[axis], to = (float)plan->to[axis];
    if (m > 1) return from * (n - 1) + x * (to - from) * (n - 1) / (m - 1);
    return 0.5f * (from + to) * (n - 1);
}

static double cubic_weight(double a, double x)
{
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static double tap_weight(const resize_plan *plan, double distance)
{
    if (plan->mode == CUBIC) return cubic_weight(plan->cubic, distance);
    return fmax(1 - fabs(distance), 0);
}

static int64_t nearest(const resize_plan *plan, float x)
{
    switch (plan->round) {
    case PREFER_FLOOR:
        return (int64_t)ceilf(x - 0.5f);
    case PREFER_CEIL:
        return (int64_t)floorf(x + 0.5f);
    case FLOOR:
        return (int64_t)floorf(x);
    case CEIL:
        return (int64_t)ceilf(x);
    }
    return 0;
}

/* Taps of all result elements along one axis: place and weight of tap t of element i at [t * out +
 * i]. */
typedef struct tap_table {
    uint32_t n; /* taps an element */
    int64_t in, out;
    int64_t *places;
    double *weights;
    bool *is_outside; /* by element, for CROP; NULL when none is */
} tap_table;

static void taps_fill(const resize_plan *plan, uint32_t axis, tap_table *taps, double stretch)
{
    for (int64_t i = 0; i < taps->out; i++) {
        float x = coordinate(plan, axis, taps->in, i);
        int64_t first = (int64_t)floor((double)x) - (taps->n / 2 - 1);
        double sum = 0;
        if (!(fabsf(x) < 1e12f)) x = 0; /* a region of NaN or infinity */
        if (taps->is_outside) taps->is_outside[i] = x < 0 || x > (float)(taps->in - 1);
        for (uint32_t t = 0; t < taps->n; t++) {
            int64_t place = taps->n == 1 ? nearest(plan, x) : first + t;
            double weight =
                taps->n == 1 ? 1 : tap_weight(plan, ((double)x - (double)place) / stretch);
            bool is_out = place < 0 || place >= taps->in;
            if (is_out && plan->is_outside_excluded) weight = taps->n == 1;
            sum += weight;
            taps->places[t * taps->out + i] = kiln_max_i64(kiln_min_i64(place, taps->in - 1), 0);
            taps->weights[t * taps->out + i] = weight;
        }
        for (uint32_t t = 0; t < taps->n && sum != 0; t++) taps->weights[t * taps->out + i] /= sum;
    }
}

static tap_table taps_make(kiln_onnx_call *call, const resize_plan *plan, uint32_t axis, int64_t in)
{
    tap_table taps = {.n = plan->mode == NEAREST  ? 1
                           : plan->mode == LINEAR ? 2
                                                  : 4,
                      .in = in,
                      .out = plan->out[axis]};
    double stretch = 1;
    if (plan->is_antialias && plan->mode != NEAREST && plan->scale[axis] < 1) {
        stretch = 1 / (double)plan->scale[axis];
        if (stretch > 4096)
            kiln_onnx_refuse(call, "antialias at scale %g", (double)plan->scale[axis]);
        taps.n = 2 * (uint32_t)ceil(stretch * taps.n / 2);
    }
    if (taps.out > (1 << 24) / taps.n) kiln_onnx_refuse(call, "a size of %" PRId64, taps.out);
    taps.places = kiln_new_array(&call->scope->arena, int64_t, taps.n * taps.out + 1);
    taps.weights = kiln_new_array(&call->scope->arena, double, taps.n *taps.out + 1);
    if (plan->place == CROP)
        taps.is_outside = kiln_new_array(&call->scope->arena, bool, taps.out + 1);
    taps_fill(plan, axis, &taps, stretch);
    return taps;
}

/* A constant of doubles in a float dtype. */
static kiln_value constant_floats(kiln_onnx_call *call, kiln_dtype dtype, uint32_t rank,
                                  const int64_t *dims, const double *values)
{
    const kiln_type *type = kiln_graph_tensor(call->graph, dtype, rank, dims);
    size_t width = kiln_dtype_bytes(dtype);
    char *data = kiln_arena_alloc(&call->scope->arena, (size_t)type->bytes + 16);
    for (int64_t i = 0; i < type->n_elements; i++)
        kiln_element_from_double(dtype, values[i], data + (size_t)i * width);
    return kiln_add_constant(call->graph, type, data);
}

/* The factor when every element of the operand stands `factor` times in a row; else 0. */
static int64_t repeat_factor(const tap_table *taps)
{
    if (taps->n != 1 || taps->in == 0 || taps->out % taps->in || taps->is_outside) return 0;
    int64_t factor = taps->out / taps->in;
    for (int64_t i = 0; i < taps->out; i++) {
        if (taps->places[i] != i / factor) return 0;
    }
    return factor;
}

static kiln_value repeat(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t factor)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t wide[KILN_MAX_RANK + 1], axes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        axes[i] = i + (i > axis);
        wide[axes[i]] = dims[i] = type->dims[i];
    }
    wide[axis + 1] = factor;
    dims[axis] *= factor;
    a = kiln_add_broadcast(call->graph, a, type->rank + 1, wide, axes);
    return kiln_add_reshape(call->graph, a, type->rank, dims);
}

/* sum over k of a[…, k, …] weights[k, i] */
static kiln_value weigh(kiln_onnx_call *call, kiln_value a, uint32_t axis, const tap_table *taps)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t dims[2] = {taps->in, taps->out}, contract[1] = {axis}, first[1] = {0},
            order[KILN_MAX_RANK];
    if (taps->in > (1 << 24) / kiln_max_i64(taps->out, 1))
        kiln_onnx_refuse(call, "antialias of %" PRId64, taps->in);
    double *matrix = kiln_new_array(&call->scope->arena, double, taps->in * taps->out + 1);
    for (uint32_t t = 0; t < taps->n; t++) {
        for (int64_t i = 0; i < taps->out; i++)
            matrix[taps->places[t * taps->out + i] * taps->out + i] +=
                taps->weights[t * taps->out + i];
    }
    kiln_value operands[] = {a, constant_floats(call, type->dtype, 2, dims, matrix)};
    kiln_attrs attrs = {
        KILN_FAMILY_dot,
        .dot = {{0}, {0}, {1, contract}, {1, first}, kiln_dtype_accumulator(type->dtype)}};
    kiln_value product = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dot_general,
                                                                       .inputs = operands,
                                                                       .n_inputs = 2,
                                                                       .attrs = &attrs});
    for (uint32_t i = 0; i < type->rank; i++)
        order[i] = i < axis ? i : i == axis ? type->rank - 1 : i - 1;
    return kiln_add_transpose(call->graph, product, order);
}

static kiln_value outside_fill(kiln_onnx_call *call, const resize_plan *plan, kiln_value a,
                               const tap_table *taps, uint32_t axis)
{
    int64_t dims[1] = {taps->out};
    const kiln_type *type = kiln_graph_tensor(call->graph, KILN_bool, 1, dims);
    kiln_value is_outside = kiln_onnx_along(
        call, kiln_add_constant(call->graph, type, taps->is_outside), axis, plan->rank);
    kiln_value outside =
        kiln_onnx_scalar(call, kiln_graph_type(call->graph, a)->dtype, plan->outside);
    return kiln_onnx_select(call, is_outside, outside, a);
}

static kiln_value axis_resize(kiln_onnx_call *call, const resize_plan *plan, kiln_value a,
                              uint32_t axis)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    tap_table taps = taps_make(call, plan, axis, type->dims[axis]);
    int64_t factor = repeat_factor(&taps), dims[1] = {taps.out};
    if (factor && type->rank < KILN_MAX_RANK)
        return factor == 1 ? a : repeat(call, a, axis, factor);
    kiln_value sum = {0};
    if (taps.n > 4) sum = weigh(call, a, axis, &taps);
    for (uint32_t t = 0; t < taps.n && taps.n <= 4; t++) {
        kiln_ints places = {(uint32_t)taps.out, taps.places + t * taps.out};
        kiln_value part =
            kiln_onnx_take(call, a, kiln_onnx_constant_ints(call, KILN_i64, places), axis);
        if (taps.n > 1) {
            kiln_value weights =
                constant_floats(call, type->dtype, 1, dims, taps.weights + t * taps.out);
            part = kiln_onnx_binary(call, KILN_OP_mul, part,
                                    kiln_onnx_along(call, weights, axis, type->rank));
        }
        sum = sum.id ? kiln_add_binary(call->graph, KILN_OP_add, sum, part) : part;
    }
    return taps.is_outside ? outside_fill(call, plan, sum, &taps, axis) : sum;
}

static kiln_value import_resize(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    resize_plan plan = {0};
    plan_read(call, &plan);
    kiln_value a = kiln_onnx_operand(call, 0);
    bool is_whole = plan.mode == NEAREST || kiln_onnx_is_float(type->dtype);
    if (!is_whole) a = kiln_add_convert(call->graph, a, KILN_f32);
    for (uint32_t axis = type->rank; axis-- > 0;) {
        bool is_same =
            plan.out[axis] == type->dims[axis] && plan.scale[axis] == 1 && plan.place != CROP;
        if (is_same || type->dims[axis] == 0) continue;
        a = axis_resize(call, &plan, a, axis);
    }
    return is_whole ? a : kiln_add_convert(call->graph, a, type->dtype);
}

const kiln_onnx_row kiln_onnx_resize_rows[] = {
    {"Upsample", 6, 8, 1, 1, import_resize},
    {"Upsample", 9, 9, 2, 2, import_resize},
    {"Resize", 10, 10, 2, 2, import_resize},
    {"Resize", 11, KILN_ONNX_NEWEST, 1, 4, import_resize},
    {0},
};
