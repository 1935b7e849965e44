/* Sampling along a grid: a sample with coordinates from the data is a take from the flattened
 * spatial dims and a weight a corner. Cubic weights are Keys' with a = -0.75. */
#include "graph/grid.h"

#include "base/checked.h"

static kiln_value with_number(kiln_graph *graph, kiln_op op, kiln_value a, double number)
{
    return kiln_add_binary(graph, op, a, kiln_add_splat_like(graph, a, number));
}

static kiln_value choose(kiln_graph *graph, kiln_value condition, kiln_value a, kiln_value b)
{
    kiln_value inputs[] = {condition, a, b};
    return kiln_graph_add(graph,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3});
}

static kiln_value take(kiln_graph *graph, kiln_value a, kiln_value index, uint32_t axis)
{
    kiln_value inputs[] = {a, index};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_take, NULL, inputs, 2, &attrs, NULL});
}

static kiln_value iota(kiln_graph *graph, kiln_dtype dtype, const int64_t *dims)
{
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    const kiln_type *type = kiln_graph_tensor(graph, dtype, 2, dims);
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &attrs, NULL});
}

/* Number `i` of each point of [n, points, numbers]. */
static kiln_value coordinate_of(kiln_graph *graph, kiln_value points, int64_t i)
{
    const int64_t *dims = kiln_graph_type(graph, points)->dims;
    int64_t starts[] = {0, 0, i}, limits[] = {dims[0], dims[1], i + 1}, ones[] = {1, 1, 1};
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{3, starts}, {3, limits}, {3, ones}}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_slice, NULL, &points, 1, &attrs, NULL});
}

/* From -1 … 1 to places along a dim. */
static kiln_value grid_place(kiln_graph *graph, const kiln_grid_plan *plan, kiln_value at,
                             int64_t dim)
{
    double size = (double)dim;
    at = with_number(graph, KILN_OP_add, at, 1);
    if (plan->is_aligned) return with_number(graph, KILN_OP_mul, at, (size - 1) / 2);
    return with_number(graph, KILN_OP_sub, with_number(graph, KILN_OP_mul, at, size / 2), 0.5);
}

/* Places beyond the borders come back as from a mirror at low and high. */
static kiln_value grid_mirror(kiln_graph *graph, const kiln_grid_plan *plan, kiln_value at,
                              int64_t dim)
{
    double low = plan->is_aligned ? 0 : -0.5,
           high = plan->is_aligned ? (double)dim - 1 : (double)dim - 0.5;
    double span = high - low;
    if (span <= 0) return kiln_add_splat_like(graph, at, 0);
    at = kiln_add_unary(graph, KILN_OP_abs, with_number(graph, KILN_OP_sub, at, low));
    kiln_value turns =
        kiln_add_unary(graph, KILN_OP_floor, with_number(graph, KILN_OP_div, at, span));
    kiln_value rest =
        kiln_add_binary(graph, KILN_OP_sub, at, with_number(graph, KILN_OP_mul, turns, span));
    kiln_value half =
        kiln_add_unary(graph, KILN_OP_floor, with_number(graph, KILN_OP_mul, turns, 0.5));
    kiln_value is_odd = with_number(
        graph, KILN_OP_ne,
        kiln_add_binary(graph, KILN_OP_sub, turns, with_number(graph, KILN_OP_mul, half, 2)), 0);
    kiln_value back =
        kiln_add_binary(graph, KILN_OP_sub, kiln_add_splat_like(graph, rest, span), rest);
    return with_number(graph, KILN_OP_add, choose(graph, is_odd, back, rest), low);
}

static kiln_value grid_clamp(kiln_graph *graph, kiln_value at, int64_t dim)
{
    at = with_number(graph, KILN_OP_max, at, 0);
    return with_number(graph, KILN_OP_min, at, (double)kiln_max_i64(dim - 1, 0));
}

/* Taps along one axis: places (f32, whole) and weights. */
typedef struct grid_taps {
    uint32_t n;
    kiln_value at[4], weight[4];
} grid_taps;

static kiln_value cubic(kiln_graph *graph, kiln_value distance, bool is_near)
{
    double a = -0.75;
    kiln_value x = kiln_add_unary(graph, KILN_OP_abs, distance),
               sum = kiln_add_splat_like(graph, x, is_near ? a + 2 : a);
    const double rest[2][3] = {{-5 * a, 8 * a, -4 * a}, {-(a + 3), 0, 1}};
    for (uint32_t i = 0; i < 3; i++)
        sum = with_number(graph, KILN_OP_add, kiln_add_binary(graph, KILN_OP_mul, sum, x),
                          rest[is_near][i]);
    return sum;
}

static grid_taps taps_make(kiln_graph *graph, const kiln_grid_plan *plan, kiln_value at)
{
    grid_taps taps = {.n = plan->mode == 'n' ? 1 : plan->mode == 'c' ? 4 : 2};
    if (taps.n == 1) {
        taps.at[0] = kiln_add_unary(graph, KILN_OP_round_even, at);
        return taps;
    }
    kiln_value base = kiln_add_unary(graph, KILN_OP_floor, at);
    kiln_value part = kiln_add_binary(graph, KILN_OP_sub, at, base);
    for (uint32_t i = 0; i < taps.n; i++) {
        double shift = taps.n == 4 ? (double)i - 1 : (double)i;
        taps.at[i] = with_number(graph, KILN_OP_add, base, shift);
        if (taps.n == 4) {
            taps.weight[i] =
                cubic(graph, with_number(graph, KILN_OP_sub, part, shift), i == 1 || i == 2);
        } else {
            kiln_value one = kiln_add_splat_like(graph, part, 1);
            taps.weight[i] = i ? part : kiln_add_binary(graph, KILN_OP_sub, one, part);
        }
    }
    return taps;
}

/* One corner: the elements at whole places, [batch, points, channels], zero outside where asked. */
static kiln_value corner_take(kiln_graph *graph, const kiln_grid_plan *plan, kiln_value rows,
                              const kiln_value *at)
{
    int64_t wide[3] = {plan->type->dims[0], plan->points, plan->type->dims[1]}, axes[2] = {0, 1};
    kiln_value place = {0}, is_in = {0};
    int64_t spatial = 1;
    bool is_short = kiln_graph_type(graph, rows)->dims[0] < INT32_MAX / 2; /* rounded dims, too */
    kiln_dtype index = is_short ? KILN_i32 : KILN_i64;
    for (uint32_t i = 0; i < plan->n; i++) {
        int64_t dim = plan->type->dims[i + 2];
        kiln_value low = with_number(graph, KILN_OP_ge, at[i], 0);
        kiln_value high = with_number(graph, KILN_OP_le, at[i], (double)dim - 1);
        kiln_value both = kiln_add_binary(graph, KILN_OP_and, low, high), own = at[i];
        is_in = is_in.id ? kiln_add_binary(graph, KILN_OP_and, is_in, both) : both;
        if (plan->padding == 'r') own = grid_mirror(graph, plan, own, dim);
        own = kiln_add_convert(graph, grid_clamp(graph, own, dim), index);
        if (place.id) place = with_number(graph, KILN_OP_mul, place, (double)dim);
        place = place.id ? kiln_add_binary(graph, KILN_OP_add, place, own) : own;
        spatial *= dim;
    }
    kiln_value batch = iota(graph, index, wide);
    place = kiln_add_binary(graph, KILN_OP_add, place,
                            with_number(graph, KILN_OP_mul, batch, (double)spatial));
    kiln_value taken = take(graph, rows, place, 0);
    if (plan->padding != 'z') return taken;
    return choose(graph, kiln_add_broadcast(graph, is_in, 3, wide, axes), taken,
                  kiln_add_splat_like(graph, taken, 0));
}

static kiln_value corners_sum(kiln_graph *graph, const kiln_grid_plan *plan, kiln_value rows,
                              const grid_taps *taps)
{
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
        kiln_value part = corner_take(graph, plan, rows, at);
        if (n_corners > 1)
            part = kiln_add_binary(graph, KILN_OP_mul, part,
                                   kiln_add_broadcast(graph, weight, 3, wide, axes));
        sum = sum.id ? kiln_add_binary(graph, KILN_OP_add, sum, part) : part;
    }
    return sum;
}

kiln_value kiln_grid_apply(kiln_graph *graph, const kiln_grid_plan *plan, const kiln_value *inputs)
{
    grid_taps taps[3];
    const kiln_type *grid = kiln_graph_type(graph, inputs[1]);
    int64_t order[5] = {0}, back[5] = {0}, flat[2] = {1, plan->type->dims[1]}, dims[5],
            last[2] = {grid->dims[0], plan->points};
    int64_t list[3] = {grid->dims[0], plan->points, plan->n};
    kiln_value points =
        kiln_add_convert(graph, kiln_add_reshape(graph, inputs[1], 3, list), KILN_f32);
    for (uint32_t i = 0; i < plan->n; i++) {
        kiln_value at = coordinate_of(graph, points, plan->n - 1 - i);
        at = grid_place(graph, plan, kiln_add_reshape(graph, at, 2, last), plan->type->dims[i + 2]);
        if (plan->padding == 'b' && plan->mode != 'c')
            at = grid_clamp(graph, at, plan->type->dims[i + 2]);
        if (plan->padding == 'r' && plan->mode != 'c')
            at = grid_clamp(graph, grid_mirror(graph, plan, at, plan->type->dims[i + 2]),
                            plan->type->dims[i + 2]);
        taps[i] = taps_make(graph, plan, at);
    }
    for (uint32_t i = 0; i < plan->type->rank; i++) {
        order[i] = i == 0 ? 0 : i + 1 == plan->type->rank ? 1 : i + 1;
        back[i] = i == 0 ? 0 : i == 1 ? plan->type->rank - 1 : i - 1;
        dims[i] = i + 1 == plan->type->rank ? plan->type->dims[1] : grid->dims[i];
        if (i != 1) flat[0] *= plan->type->dims[i];
    }
    kiln_value rows =
        kiln_add_transpose(graph, kiln_add_convert(graph, inputs[0], KILN_f32), order);
    kiln_value sum = corners_sum(graph, plan, kiln_add_reshape(graph, rows, 2, flat), taps);
    sum = kiln_add_transpose(graph, kiln_add_reshape(graph, sum, plan->type->rank, dims), back);
    return kiln_add_convert(graph, sum, plan->type->dtype);
}
