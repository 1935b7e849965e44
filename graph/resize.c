/* Resizing, one axis after the other. Along an axis every result element is a weighted
 * sum of a few operand elements (taps), whose places and weights are known when the graph is built:
 * one take a tap. A whole-number nearest enlargement is a broadcast; antialiasing, whose taps are
 * many, a product with the matrix of weights. Coordinates are computed in f32, as other
 * implementations do, so that ties of nearest fall the same way. */
#include "graph/resize.h"

#include <math.h>

#include "base/checked.h"
#include "graph/element.h"

#define MOST_STRETCH 4096
#define MOST_WEIGHTS (1 << 24)

/* Where result element `at` stands along the operand's axis. */
static float coordinate(const kiln_resize_plan *plan, uint32_t axis, int64_t in, int64_t at)
{
    float scale = plan->scale[axis], x = (float)at, n = (float)in, m = scale * n;
    if (fabsf(m - (float)plan->out[axis]) < 1e-3f) m = (float)plan->out[axis];
    switch (plan->place) {
    case KILN_COORDINATE_HALF_PIXEL:
        return (x + 0.5f) / scale - 0.5f;
    case KILN_COORDINATE_HALF_SYMMETRIC: {
        float adjustment = (float)plan->out[axis] / (scale * n), center = n / 2;
        return center * (1 - adjustment) + (x + 0.5f) / scale - 0.5f;
    }
    case KILN_COORDINATE_PYTORCH_HALF:
        return m > 1 ? (x + 0.5f) / scale - 0.5f : 0;
    case KILN_COORDINATE_ALIGN_CORNERS:
        return m > 1 ? x * (n - 1) / (m - 1) : 0;
    case KILN_COORDINATE_ASYMMETRIC:
        return x / scale;
    case KILN_COORDINATE_CROP:
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

static double tap_weight(const kiln_resize_plan *plan, double distance)
{
    if (plan->mode == KILN_RESIZE_CUBIC) return cubic_weight(plan->cubic, distance);
    return fmax(1 - fabs(distance), 0);
}

static int64_t nearest(const kiln_resize_plan *plan, float x)
{
    switch (plan->round) {
    case KILN_ROUND_PREFER_FLOOR:
        return (int64_t)ceilf(x - 0.5f);
    case KILN_ROUND_PREFER_CEIL:
        return (int64_t)floorf(x + 0.5f);
    case KILN_ROUND_FLOOR:
        return (int64_t)floorf(x);
    case KILN_ROUND_CEIL:
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
    bool *is_outside; /* by element, for KILN_COORDINATE_CROP; NULL when none is */
} tap_table;

static void taps_fill(const kiln_resize_plan *plan, uint32_t axis, tap_table *taps, double stretch)
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

static tap_table taps_make(kiln_graph *graph, const kiln_resize_plan *plan, uint32_t axis,
                           int64_t in)
{
    tap_table taps = {.n = plan->mode == KILN_RESIZE_NEAREST  ? 1
                           : plan->mode == KILN_RESIZE_LINEAR ? 2
                                                              : 4,
                      .in = in,
                      .out = plan->out[axis]};
    double stretch = 1;
    if (plan->is_antialias && plan->mode != KILN_RESIZE_NEAREST && plan->scale[axis] < 1) {
        stretch = 1 / (double)plan->scale[axis];
        taps.n = 2 * (uint32_t)ceil(stretch * taps.n / 2);
    }
    taps.places = kiln_new_array(&graph->scope->arena, int64_t, taps.n * taps.out + 1);
    taps.weights = kiln_new_array(&graph->scope->arena, double, taps.n *taps.out + 1);
    if (plan->place == KILN_COORDINATE_CROP)
        taps.is_outside = kiln_new_array(&graph->scope->arena, bool, taps.out + 1);
    taps_fill(plan, axis, &taps, stretch);
    return taps;
}

/* A constant of doubles in a float dtype. */
static kiln_value constant_floats(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                  const int64_t *dims, const double *values)
{
    const kiln_type *type = kiln_graph_tensor(graph, dtype, rank, dims);
    size_t width = kiln_dtype_bytes(dtype);
    char *data = kiln_arena_alloc(&graph->scope->arena, (size_t)type->bytes + 16);
    for (int64_t i = 0; i < type->n_elements; i++)
        kiln_element_from_double(dtype, values[i], data + (size_t)i * width);
    return kiln_add_constant(graph, type, data);
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

static kiln_value repeat(kiln_graph *graph, kiln_value a, uint32_t axis, int64_t factor)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t wide[KILN_MAX_RANK + 1], axes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        axes[i] = i + (i > axis);
        wide[axes[i]] = dims[i] = type->dims[i];
    }
    wide[axis + 1] = factor;
    dims[axis] *= factor;
    a = kiln_add_broadcast(graph, a, type->rank + 1, wide, axes);
    return kiln_add_reshape(graph, a, type->rank, dims);
}

/* sum over k of a[…, k, …] weights[k, i] */
static kiln_value weigh(kiln_graph *graph, kiln_value a, uint32_t axis, const tap_table *taps)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t dims[2] = {taps->in, taps->out}, contract[1] = {axis}, first[1] = {0},
            order[KILN_MAX_RANK];
    double *matrix = kiln_new_array(&graph->scope->arena, double, taps->in * taps->out + 1);
    for (uint32_t t = 0; t < taps->n; t++) {
        for (int64_t i = 0; i < taps->out; i++)
            matrix[taps->places[t * taps->out + i] * taps->out + i] +=
                taps->weights[t * taps->out + i];
    }
    kiln_value operands[] = {a, constant_floats(graph, type->dtype, 2, dims, matrix)};
    kiln_attrs attrs = {
        KILN_FAMILY_dot,
        .dot = {{0}, {0}, {1, contract}, {1, first}, kiln_dtype_accumulator(type->dtype)}};
    kiln_value product = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_dot_general, .inputs = operands, .n_inputs = 2, .attrs = &attrs});
    for (uint32_t i = 0; i < type->rank; i++)
        order[i] = i < axis ? i : i == axis ? type->rank - 1 : i - 1;
    return kiln_add_transpose(graph, product, order);
}

static kiln_value outside_fill(kiln_graph *graph, const kiln_resize_plan *plan, kiln_value a,
                               const tap_table *taps, uint32_t axis)
{
    int64_t dims[1] = {taps->out};
    const kiln_type *type = kiln_graph_tensor(graph, KILN_bool, 1, dims);
    const kiln_type *whole = kiln_graph_type(graph, a);
    int64_t axes[1] = {axis};
    kiln_value is_outside = kiln_add_constant(graph, type, taps->is_outside);
    kiln_value inputs[] = {kiln_add_broadcast(graph, is_outside, plan->rank, whole->dims, axes),
                           kiln_add_splat_like(graph, a, plan->outside), a};
    return kiln_graph_add(graph,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3});
}

/* The elements under tap t of every result element. */
static kiln_value take_places(kiln_graph *graph, kiln_value a, const tap_table *taps, uint32_t t,
                              uint32_t axis)
{
    const kiln_type *type = kiln_graph_tensor(graph, KILN_i64, 1, &taps->out);
    kiln_value places = kiln_add_constant(graph, type, taps->places + t * taps->out);
    kiln_value inputs[] = {a, places};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_take, NULL, inputs, 2, &attrs, NULL});
}

static kiln_value axis_resize(kiln_graph *graph, const kiln_resize_plan *plan, kiln_value a,
                              uint32_t axis)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    tap_table taps = taps_make(graph, plan, axis, type->dims[axis]);
    int64_t factor = repeat_factor(&taps), dims[1] = {taps.out}, along[1] = {axis};
    if (factor && type->rank < KILN_MAX_RANK)
        return factor == 1 ? a : repeat(graph, a, axis, factor);
    kiln_value sum = {0};
    if (taps.n > 4) sum = weigh(graph, a, axis, &taps);
    for (uint32_t t = 0; t < taps.n && taps.n <= 4; t++) {
        kiln_value part = take_places(graph, a, &taps, t, axis);
        if (taps.n > 1) {
            kiln_value weights =
                constant_floats(graph, type->dtype, 1, dims, taps.weights + t * taps.out);
            const kiln_type *wide = kiln_graph_type(graph, part);
            weights = kiln_add_broadcast(graph, weights, wide->rank, wide->dims, along);
            part = kiln_add_binary(graph, KILN_OP_mul, part, weights);
        }
        sum = sum.id ? kiln_add_binary(graph, KILN_OP_add, sum, part) : part;
    }
    return taps.is_outside ? outside_fill(graph, plan, sum, &taps, axis) : sum;
}

/* Taps of a result element along an axis, without widening for antialiasing. */
static uint32_t plain_taps(const kiln_resize_plan *plan)
{
    return plan->mode == KILN_RESIZE_NEAREST ? 1 : plan->mode == KILN_RESIZE_LINEAR ? 2 : 4;
}

bool kiln_resize_fits(const kiln_resize_plan *plan, const kiln_type *type)
{
    for (uint32_t axis = 0; axis < plan->rank; axis++) {
        int64_t in = type->dims[axis], out = plan->out[axis], n = plain_taps(plan);
        bool is_wide = plan->is_antialias && n > 1 && plan->scale[axis] < 1;
        if (is_wide && !(plan->scale[axis] >= 1.0f / MOST_STRETCH)) return false;
        if (is_wide) n = n * ((int64_t)ceilf(1 / plan->scale[axis]) + 1);
        if (out > MOST_WEIGHTS / n) return false;
        if (is_wide && in > MOST_WEIGHTS / kiln_max_i64(out, 1)) return false;
    }
    return true;
}

kiln_value kiln_resize_apply(kiln_graph *graph, const kiln_resize_plan *plan, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    bool is_whole =
        plan->mode == KILN_RESIZE_NEAREST || kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT);
    if (!is_whole) a = kiln_add_convert(graph, a, KILN_f32);
    for (uint32_t axis = type->rank; axis-- > 0;) {
        bool is_same = plan->out[axis] == type->dims[axis] && plan->scale[axis] == 1 &&
                       plan->place != KILN_COORDINATE_CROP;
        if (is_same || type->dims[axis] == 0) continue;
        a = axis_resize(graph, plan, a, axis);
    }
    return is_whole ? a : kiln_add_convert(graph, a, type->dtype);
}
