/* window_max_grad, the gradient of a maximum over windows: the place of the first maximum of
 * each window is found by argmax over its taps, and the source is added there. Leading axes without
 * a window are rows that never meet. A place is a window's corner and a tap's steps, lines along
 * single axes, so that it is sums for an element; taps are the last axis but one, and vectors run
 * along lines of windows. */
#include "base/checked.h"
#include "graph/element.h"
#include "graph/rules/terms.h"

typedef struct pool_run {
    kiln_graph *g;
    const kiln_type *type, *out; /* of the operand, of the windows' results */
    const kiln_attrs *attrs;
    kiln_dtype index; /* of places */
    bool is_flat;     /* windows are one axis: more would be too many with rows and taps */
    uint32_t first;   /* axes before are rows */
    int64_t rows, n_in, n_out, n_taps;
} pool_run;

/* The windows' axes with one more among them, of taps or rows. */
typedef struct frame {
    uint32_t rank;
    int64_t dims[KILN_MAX_RANK], axis[KILN_MAX_RANK], more;
} frame;

static frame make_frame(const pool_run *run, int64_t more, bool is_first)
{
    uint32_t n = run->is_flat ? 1 : run->type->rank - run->first;
    frame f = {.rank = n + 1, .more = is_first ? 0 : n - 1};
    for (uint32_t i = 0; i < n; i++) {
        f.axis[i] = i + (i >= f.more);
        f.dims[f.axis[i]] = run->is_flat ? run->n_out : run->out->dims[run->first + i];
    }
    f.dims[f.more] = more;
    return f;
}

static kiln_value node(kiln_graph *g, kiln_op op, uint32_t n, const kiln_value *inputs,
                       const kiln_attrs *attrs)
{
    return kiln_graph_add(
        g, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = n, .attrs = attrs});
}

static kiln_value rest(kiln_graph *g, kiln_value a, int64_t n)
{
    return kiln_add_binary(g, KILN_OP_rem, a, kiln_add_splat_like(g, a, (double)n));
}

static kiln_value iota(const pool_run *run, int64_t n)
{
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    const kiln_type *type = kiln_graph_tensor(run->g, run->index, 1, &n);
    return kiln_graph_add(run->g,
                          &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &attrs});
}

/* What taps of these numbers add to the place along axis i. */
static kiln_value steps_along(const pool_run *run, uint32_t i, kiln_value taps)
{
    kiln_graph *g = run->g;
    const int64_t *sizes = run->attrs->window.sizes.at;
    int64_t inner = 1, outer = 1;
    for (uint32_t k = i + 1; k < run->type->rank; k++) inner *= sizes[k];
    for (uint32_t k = run->first; k < i; k++) outer *= sizes[k];
    kiln_value step = over_n(g, taps, (double)inner);
    if (outer > 1) step = rest(g, step, sizes[i]);
    return times_n(g, step, (double)run->attrs->window.dilations.at[i]);
}

/* Windows along an axis. */
typedef struct reach {
    int64_t dim, first, last; /* of the operand; corners of the first and the last window */
    int64_t step, span;       /* between taps; from the first tap to the last */
} reach;

static reach reach_along(const pool_run *run, uint32_t i)
{
    int64_t size = run->attrs->window.sizes.at[i];
    reach r = {.dim = run->type->dims[i], .first = -run->attrs->window.low.at[i]};
    r.last = r.first + (run->out->dims[i] - 1) * run->attrs->window.strides.at[i];
    r.step = size > 1 ? run->attrs->window.dilations.at[i] : 1;
    r.span = (size - 1) * r.step;
    return r;
}

/* By window: the place of its corner. */
static kiln_value corners(const pool_run *run, uint32_t i)
{
    kiln_graph *g = run->g;
    int64_t inner = 1, dim = run->out->dims[i];
    kiln_value number = iota(run, run->is_flat ? run->n_out : dim);
    for (uint32_t k = i + 1; k < run->type->rank; k++) inner *= run->out->dims[k];
    if (run->is_flat) number = rest(g, over_n(g, number, (double)inner), dim);
    number = times_n(g, number, (double)run->attrs->window.strides.at[i]);
    return plus_n(g, number, -(double)run->attrs->window.low.at[i]);
}

static int64_t multiple_above(int64_t a, int64_t n)
{
    return kiln_ceil_div(kiln_max_i64(a, 0), n) * n;
}

/* By window: the least place in the operand that is whole steps from the corner. */
static kiln_value least_places(kiln_graph *g, const reach *r, kiln_value corner)
{
    if (r->step == 1) return kiln_add_splat_like(g, corner, 0);
    return rest(g, plus_n(g, corner, (double)multiple_above(-r->first, r->step)), r->step);
}

/* By window: the greatest such place. */
static kiln_value greatest_places(kiln_graph *g, const reach *r, kiln_value corner)
{
    int64_t end = r->dim - 1;
    if (r->step == 1) return kiln_add_splat_like(g, corner, (double)end);
    int64_t above = end + multiple_above(r->last - end, r->step);
    return number_less(g, (double)end, rest(g, number_less(g, (double)above, corner), r->step));
}

/* A line of windows along axis i, in a frame. */
static kiln_value spread(const pool_run *run, uint32_t i, const frame *f, kiln_value line)
{
    const int64_t *axis = &f->axis[run->is_flat ? 0 : i - run->first];
    return kiln_add_broadcast(run->g, line, f->rank, f->dims, axis);
}

/* The places along axis i. A tap over an edge is the window's nearest element once more, which
 * changes neither the maximum nor where it is first. */
static kiln_value places_along(const pool_run *run, uint32_t i, const frame *f, kiln_value step)
{
    kiln_graph *g = run->g;
    const reach r = reach_along(run, i);
    kiln_value corner = corners(run, i), at = sum(g, spread(run, i, f, corner), step);
    if (r.last + r.span >= r.dim) {
        kiln_value greatest = spread(run, i, f, greatest_places(g, &r, corner));
        at = kiln_add_binary(g, KILN_OP_min, at, greatest);
    }
    if (r.first < 0) {
        kiln_value least = spread(run, i, f, least_places(g, &r, corner));
        at = kiln_add_binary(g, KILN_OP_max, at, least);
    }
    return at;
}

/* The place within a row for each window and tap of a frame. */
static kiln_value places(const pool_run *run, const frame *f, kiln_value taps)
{
    kiln_graph *g = run->g;
    kiln_value place = {0};
    int64_t stride = 1;
    for (uint32_t i = run->type->rank; i-- > run->first;) {
        kiln_value step = steps_along(run, i, taps);
        if (kiln_graph_type(g, taps)->rank == 1)
            step = kiln_add_broadcast(g, step, f->rank, f->dims, &f->more);
        kiln_value at = times_n(g, places_along(run, i, f, step), (double)stride);
        place = place.id ? sum(g, place, at) : at;
        stride *= run->type->dims[i];
    }
    return place;
}

/* Which windows have an element; id 0: all. */
static kiln_value find_filled(const pool_run *run, const frame *f)
{
    kiln_graph *g = run->g;
    kiln_value filled = {0};
    for (uint32_t i = run->first; i < run->type->rank; i++) {
        const reach r = reach_along(run, i);
        if (r.first + r.span >= 0 && r.last < r.dim && r.step <= r.dim) continue;
        kiln_value corner = corners(run, i), least = least_places(g, &r, corner);
        least = kiln_add_binary(g, KILN_OP_max, corner, least);
        kiln_value end = plus_n(g, corner, (double)(r.span + 1));
        end = kiln_add_binary(g, KILN_OP_min, end, kiln_add_splat_like(g, end, (double)r.dim));
        kiln_value is_filled = spread(run, i, f, kiln_add_binary(g, KILN_OP_lt, least, end));
        filled = filled.id ? kiln_add_binary(g, KILN_OP_and, filled, is_filled) : is_filled;
    }
    return filled;
}

/* Which tap of each window is its first maximum: [rows, windows' axes]. */
static kiln_value best_taps(const pool_run *run, kiln_value a)
{
    kiln_graph *g = run->g;
    int64_t flat[2] = {run->rows, run->n_in};
    frame f = make_frame(run, run->n_taps, false);
    kiln_value pair[] = {kiln_add_reshape(g, a, 2, flat), places(run, &f, iota(run, run->n_taps))};
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {1}};
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {1 + f.more, false}};
    kiln_value taps = node(g, KILN_OP_take, 2, pair, &along);
    return kiln_add_convert(g, node(g, KILN_OP_argmax, 1, &taps, &arg), run->index);
}

/* A window of more taps than a tensor may have is refused where its taps are made. */
static void measure(pool_run *run)
{
    const kiln_attrs *attrs = run->attrs;
    uint32_t rank = run->type->rank;
    int64_t most = 0;
    run->rows = run->n_in = run->n_out = run->n_taps = 1;
    for (uint32_t i = 0; i < rank; i++) {
        const reach r = reach_along(run, i);
        bool is_row = run->first == i && i + 1 < rank && attrs->window.sizes.at[i] == 1 &&
                      attrs->window.strides.at[i] == 1 && attrs->window.low.at[i] == 0 &&
                      attrs->window.high.at[i] == 0;
        run->first += is_row;
        run->rows *= is_row ? r.dim : 1;
        run->n_in *= is_row ? 1 : r.dim;
        run->n_out *= is_row ? 1 : run->out->dims[i];
        if (!kiln_checked_mul(run->n_taps, attrs->window.sizes.at[i], &run->n_taps))
            run->n_taps = INT64_MAX;
        if (!is_row) most = kiln_max_i64(most, kiln_max_i64(-r.first, r.last + r.span));
    }
    most = kiln_max_i64(kiln_max_i64(most, run->n_in), kiln_max_i64(run->n_out, run->n_taps));
    run->is_flat = rank - run->first + 2 > KILN_MAX_RANK;
    run->index = most < INT32_MAX / 4 ? KILN_i32 : KILN_i64; /* sums of them fit */
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
    kiln_value zero = kiln_add_splat_like(g, inputs[0], 0);
    if (run.type->n_elements == 0 || run.out->n_elements == 0) return zero;
    if (run.type->rank == 0) return inputs[1];
    measure(&run);
    int64_t flat[2] = {run.rows, run.n_in}, windows[2] = {run.rows, run.n_out};
    int64_t first = 0, second = 1;
    frame f = make_frame(&run, run.rows, true);
    kiln_value place = places(&run, &f, best_taps(&run, inputs[0]));
    kiln_value filled = find_filled(&run, &f), dropped = kiln_add_splat_like(g, place, -1);
    if (filled.id) place = choose(g, filled, place, dropped);
    place = kiln_add_reshape(g, place, 2, windows);
    kiln_attrs scatter = {KILN_FAMILY_scatter};
    scatter.scatter.inserted_axes = scatter.scatter.start_map = (kiln_ints){1, &second};
    scatter.scatter.operand_batch = scatter.scatter.indices_batch = (kiln_ints){1, &first};
    scatter.scatter.index_axis = 2;
    kiln_value operands[3] = {kiln_add_reshape(g, zero, 2, flat), place,
                              kiln_add_reshape(g, inputs[1], 2, windows)};
    kiln_value y = node(g, KILN_OP_scatter_add, 3, operands, &scatter);
    return kiln_add_reshape(g, y, run.type->rank, run.type->dims);
}
