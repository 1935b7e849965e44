/* window_max_grad, the gradient of a maximum over windows: the place of the first maximum of
 * each window is found by argmax over its taps, and the source is added there. Leading axes without
 * a window are rows that never meet. */
#include <math.h>

#include "graph/element.h"
#include "graph/rules/terms.h"

typedef struct pool_run {
    kiln_graph *g;
    const kiln_type *type, *out; /* of the operand, of the windows' results */
    const kiln_attrs *attrs;
    uint32_t first; /* axes before are rows */
    int64_t rows, n_in, n_out, n_taps;
} pool_run;

static kiln_value node(kiln_graph *g, kiln_op op, uint32_t n, const kiln_value *inputs,
                       const kiln_attrs *attrs)
{
    return kiln_graph_add(
        g, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = n, .attrs = attrs});
}

static kiln_value digit(kiln_graph *g, kiln_value number, int64_t divide, int64_t modulo)
{
    kiln_value whole_part = over_n(g, number, (double)divide);
    kiln_value n = kiln_add_splat_like(g, number, (double)modulo);
    return kiln_add_binary(g, KILN_OP_rem, whole_part, n);
}

/* The place of tap `tap` of window `window` (i64 of one shape) within a row, and whether it is
 * inside the operand. */
static kiln_value place_of(const pool_run *run, kiln_value window, kiln_value tap,
                           kiln_value *out_inside)
{
    kiln_graph *g = run->g;
    int64_t stride = 1, out_stride = 1, tap_stride = 1;
    kiln_value place = kiln_add_splat_like(g, window, 0);
    *out_inside = is_number(g, place, 0);
    for (uint32_t i = run->type->rank; i-- > run->first;) {
        int64_t size = run->attrs->window.sizes.at[i], dim = run->type->dims[i];
        kiln_value at = digit(g, window, out_stride, run->out->dims[i]);
        at = times_n(g, at, (double)run->attrs->window.strides.at[i]);
        kiln_value step = digit(g, tap, tap_stride, size);
        step = times_n(g, step, (double)run->attrs->window.dilations.at[i]);
        at = plus_n(g, sum(g, at, step), -(double)run->attrs->window.low.at[i]);
        kiln_value is_in =
            kiln_add_binary(g, KILN_OP_and, is_above(g, at, -1), is_below(g, at, (double)dim));
        *out_inside = kiln_add_binary(g, KILN_OP_and, *out_inside, is_in);
        place = sum(g, place, times_n(g, at, (double)stride));
        stride *= dim;
        out_stride *= run->out->dims[i];
        tap_stride *= size;
    }
    return place;
}

static kiln_value iota(kiln_graph *g, uint32_t rank, const int64_t *dims, int64_t axis)
{
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    const kiln_type *type = kiln_graph_tensor(g, KILN_i64, rank, dims);
    return kiln_graph_add(g, &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &attrs});
}

/* The least value of a dtype, as a double. */
static double least_of(kiln_dtype dtype)
{
    if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT) return -INFINITY;
    if (kiln_dtype_kind_of(dtype) != KILN_DTYPE_KIND_INT) return 0;
    return -ldexp(1, 8 * (int)kiln_dtype_bytes(dtype) - 1);
}

/* Which tap of each window is its first maximum: i64[rows, windows]. */
static kiln_value best_taps(const pool_run *run, kiln_value a)
{
    kiln_graph *g = run->g;
    int64_t flat[2] = {run->rows, run->n_in}, grid[2] = {run->n_out, run->n_taps};
    int64_t wide[3] = {run->rows, run->n_out, run->n_taps}, axes[2] = {1, 2};
    kiln_value inside;
    kiln_value place = place_of(run, iota(g, 2, grid, 0), iota(g, 2, grid, 1), &inside);
    kiln_value pair[] = {kiln_add_reshape(g, a, 2, flat), place};
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {1}}, arg = {KILN_FAMILY_arg, .arg = {2, false}};
    kiln_value taps = node(g, KILN_OP_take, 2, pair, &along);
    kiln_value is_in = kiln_add_broadcast(g, inside, 3, wide, axes);
    kiln_value least = kiln_add_splat_like(g, taps, least_of(run->type->dtype));
    taps = choose(g, is_in, taps, least);
    return node(g, KILN_OP_argmax, 1, &taps, &arg);
}

static void measure(pool_run *run)
{
    const kiln_attrs *attrs = run->attrs;
    run->rows = run->n_in = run->n_out = run->n_taps = 1;
    for (uint32_t i = 0; i < run->type->rank; i++) {
        bool is_row = run->first == i && attrs->window.sizes.at[i] == 1 &&
                      attrs->window.strides.at[i] == 1 && attrs->window.low.at[i] == 0 &&
                      attrs->window.high.at[i] == 0;
        run->first += is_row;
        run->rows *= is_row ? run->type->dims[i] : 1;
        run->n_in *= is_row ? 1 : run->type->dims[i];
        run->n_out *= is_row ? 1 : run->out->dims[i];
        run->n_taps *= attrs->window.sizes.at[i];
    }
}

kiln_value kiln_expand_window_max_grad(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,
                                       const kiln_attrs *attrs)
{
    pool_run run = {.g = g, .type = kiln_graph_type(g, inputs[0]), .attrs = attrs};
    run.out = kiln_graph_type(g, node(g, KILN_OP_window_max, 1, inputs, attrs));
    if (run.out != kiln_graph_type(g, inputs[1])) {
        kiln_fail(g->scope, KILN_INVALID,
                  "window_max_grad: source %s; expected one number a window of %s",
                  kiln_rule_type(g, inputs[1]), kiln_rule_type(g, inputs[0]));
    }
    measure(&run);
    kiln_value zero = kiln_add_splat_like(g, inputs[0], 0);
    if (run.type->n_elements == 0 || run.out->n_elements == 0) return zero;
    int64_t flat[2] = {run.rows, run.n_in}, windows[2] = {run.rows, run.n_out};
    int64_t first = 0, second = 1;
    kiln_value inside, best = best_taps(&run, inputs[0]);
    kiln_value place = place_of(&run, iota(g, 2, windows, 1), best, &inside);
    place = choose(g, inside, place, kiln_add_splat_like(g, place, -1)); /* dropped */
    kiln_attrs scatter = {KILN_FAMILY_scatter};
    scatter.scatter.inserted_axes = scatter.scatter.start_map = (kiln_ints){1, &second};
    scatter.scatter.operand_batch = scatter.scatter.indices_batch = (kiln_ints){1, &first};
    scatter.scatter.index_axis = 2;
    kiln_value operands[3] = {kiln_add_reshape(g, zero, 2, flat), place,
                              kiln_add_reshape(g, inputs[1], 2, windows)};
    kiln_value y = node(g, KILN_OP_scatter_add, 3, operands, &scatter);
    return kiln_add_reshape(g, y, run.type->rank, run.type->dims);
}
