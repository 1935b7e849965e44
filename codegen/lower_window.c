/* Window groups: one WINDOW node, prologue on its operand, epilogue on its result. The innermost
 * axis is vectorised; the taps of the other axes are loops whose bounds leave padding out. Where
 * the window runs along the vectorised axis, lanes in the padding are switched off. */
#include "base/checked.h"
#include "codegen/lower_gpu.h"
#include "codegen/lower_stage.h"

#define TILE_BYTES 65536
#define UNROLLED_TAPS 8
#define LONG_ROW 7     /* vectors */
#define LEAST_LINES 16 /* below, rows of a line go to several threads */

typedef struct window_walk {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *operand;
    uint32_t split; /* axes of the result from here on are the inner one */
    int64_t n_rows, n_inner;
    kiln_axis_index row;
    kiln_kv lead[KILN_MAX_RANK]; /* indices before the inner axis where they are at hand */
    bool has_lead;
    bool is_inside;    /* all taps of the last of them are inside the operand */
    bool is_looped;    /* taps stay loops: little work that gathers gains nothing by more code */
    bool reaches_back; /* a ragged row's last vector begins earlier, not masked */
    kiln_index at;     /* of the operand, axes filled as loops open */
    kiln_kv guard;
} window_walk;

static bool has_taps(const window_walk *w, uint32_t axis)
{
    return w->node->attrs->window.sizes.at[axis] > 1 || w->node->attrs->window.low.at[axis] != 0 ||
           w->node->attrs->window.high.at[axis] != 0;
}

/* First tap whose position o * stride - low + t * dilation is not below 0. */
static kiln_kv first_tap(const window_walk *w, uint32_t axis, kiln_kv start)
{
    kiln_lower *lower = w->lower;
    int64_t dilation = w->node->attrs->window.dilations.at[axis];
    if (w->node->attrs->window.low.at[axis] <= 0) return kiln_lower_i64(lower, 0);
    kiln_kv below = kiln_lower_op(lower, KILN_K_neg, start, 0);
    below = kiln_lower_op_imm(lower, KILN_K_max, below, 0);
    below = kiln_lower_op_imm(lower, KILN_K_add, below, dilation - 1);
    return kiln_lower_op_imm(lower, KILN_K_div, below, dilation);
}

/* The last tap of the last window is below the operand's dim. */
static bool ends_inside(const window_walk *w, uint32_t axis)
{
    const kiln_node *node = w->node;
    int64_t reach =
        (node->attrs->window.sizes.at[axis] - 1) * node->attrs->window.dilations.at[axis];
    int64_t start = (node->type->dims[axis] - 1) * node->attrs->window.strides.at[axis] -
                    node->attrs->window.low.at[axis];
    return start + reach < w->operand->dims[axis];
}

/* End of the taps whose position is below the operand's dim. */
static kiln_kv end_of_taps(const window_walk *w, uint32_t axis, kiln_kv start)
{
    kiln_lower *lower = w->lower;
    int64_t dilation = w->node->attrs->window.dilations.at[axis], n = w->operand->dims[axis];
    kiln_kv all = kiln_lower_i64(lower, w->node->attrs->window.sizes.at[axis]);
    if (ends_inside(w, axis)) return all;
    kiln_kv left = kiln_lower_op(lower, KILN_K_sub, kiln_lower_i64(lower, n - 1 + dilation), start);
    left = kiln_lower_op_imm(lower, KILN_K_max, left, 0);
    left = kiln_lower_op_imm(lower, KILN_K_div, left, dilation);
    return kiln_lower_op(lower, KILN_K_min, left, all);
}

/* Opens the loop over the taps of an axis. */
static kiln_kv open_taps(const window_walk *w, uint32_t axis, const kiln_axis_index *start)
{
    kiln_lower *lower = w->lower;
    int64_t size = w->node->attrs->window.sizes.at[axis], known;
    kiln_kv begin = kiln_lower_i64(lower, 0), end = kiln_lower_i64(lower, size);
    if (kiln_axis_is_uniform(start) && !(w->is_inside && axis + 1 == w->split)) {
        begin = first_tap(w, axis, start->base);
        end = end_of_taps(w, axis, start->base);
    }
    bool is_fixed = !w->is_looped && kiln_kernel_is_const(lower->kernel, begin, &known) &&
                    kiln_kernel_is_const(lower->kernel, end, &known) && size <= UNROLLED_TAPS;
    kiln_loop_kind kind = is_fixed ? KILN_LOOP_UNROLL : KILN_LOOP_SERIAL;
    return kiln_k_loop(lower->kernel, kind, begin, end, 1);
}

/* Sets the operand's index on an axis at one tap, and where it is inside. */
static void set_tap(window_walk *w, uint32_t axis, const kiln_axis_index *start, kiln_kv tap)
{
    kiln_lower *lower = w->lower;
    kiln_axis_index shift = kiln_axis_scalar(tap, 1);
    shift = kiln_axis_affine(lower, &shift, w->node->attrs->window.dilations.at[axis], 0);
    w->at.axis[axis] = kiln_axis_add(lower, start, &shift);
    w->at.axis[axis].extent = w->operand->dims[axis];
    bool is_inside = w->node->attrs->window.low.at[axis] <= 0 && ends_inside(w, axis);
    if (kiln_axis_is_uniform(start) || (is_inside && !lower->mask)) return;
    const kiln_axis_index *at = &w->at.axis[axis];
    kiln_kv inside = kiln_axis_below(lower, at, kiln_lower_i64(lower, w->operand->dims[axis]));
    kiln_kv below = kiln_axis_below(lower, at, kiln_lower_i64(lower, 0));
    inside = kiln_lower_and(lower, inside, kiln_lower_op(lower, KILN_K_not, below, 0));
    w->guard = kiln_lower_and(lower, w->guard, inside);
    w->at.axis[axis].is_guarded = true;
}

/* The reduced window at the result's index: one vector. */
static kiln_kv window_value(window_walk *w, const kiln_index *result)
{
    kiln_lower *lower = w->lower;
    kiln_partials carries[KILN_MAX_RANK], partials;
    uint32_t marks[KILN_MAX_RANK], depth = 0;
    kiln_partials_begin(lower, lower->group->anchor, 1, &partials);
    if (lower->lanes > 1) kiln_partials_hurry(lower, &partials);
    w->at.rank = w->operand->rank;
    w->guard = 0;
    for (uint32_t i = 0; i < w->operand->rank; i++) {
        int64_t stride = w->node->attrs->window.strides.at[i],
                low = w->node->attrs->window.low.at[i];
        kiln_axis_index start = kiln_axis_affine(lower, &result->axis[i], stride, -low);
        w->at.axis[i] = start;
        if (!has_taps(w, i)) continue;
        start = kiln_axis_plain(lower, &start);
        kiln_kv tap = open_taps(w, i, &start);
        marks[depth] = kiln_lower_mark(lower);
        kiln_partials_carry(lower, &partials);
        carries[depth++] = partials;
        set_tap(w, i, &start, tap);
    }
    kiln_kv mask = lower->mask;
    kiln_kv value = kiln_lower_value_where(lower, w->node->inputs[0], &w->at, w->guard);
    lower->mask = w->guard;
    kiln_partials_step(lower, &partials, 0, value, &w->row);
    lower->mask = mask;
    while (depth-- > 0) {
        kiln_partials_next(lower, &carries[depth], &partials);
        kiln_lower_cut(lower, marks[depth]);
        kiln_k_end(lower->kernel);
        kiln_partials_last(lower, &carries[depth], &partials);
    }
    kiln_partials_settle(lower, &partials);
    return kiln_partials_result(lower, &partials, 0);
}

static kiln_index result_index(window_walk *w, const kiln_type *type, kiln_axis_index inner)
{
    kiln_lower *lower = w->lower;
    kiln_index index = {.rank = type->rank};
    const kiln_type *own = w->node->type;
    inner.extent = w->n_inner;
    if (type->rank == own->rank &&
        memcmp(type->dims, own->dims, own->rank * sizeof *own->dims) == 0) {
        if (w->has_lead)
            for (uint32_t i = 0; i < w->split; i++) index.axis[i] = kiln_axis_scalar(w->lead[i], 1);
        else
            kiln_lower_delinearize(lower, w->row, w->split, type->dims, index.axis);
        kiln_lower_delinearize(lower, inner, type->rank - w->split, type->dims + w->split,
                               index.axis + w->split);
        return index;
    }
    kiln_axis_index linear = kiln_axis_affine(lower, &w->row, w->n_inner, 0);
    linear = kiln_axis_add(lower, &linear, &inner);
    linear.extent = type->n_elements;
    kiln_lower_delinearize(lower, linear, type->rank, type->dims, index.axis);
    return index;
}

static void emit_vector(window_walk *w, kiln_axis_index inner)
{
    kiln_lower *lower = w->lower;
    const kiln_group *group = lower->group;
    kiln_index index = result_index(w, w->node->type, inner);
    kiln_lower_bind(lower, group->anchor, window_value(w, &index));
    kiln_kv *values = kiln_new_array(&lower->scope->arena, kiln_kv, group->n_outputs);
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        index = result_index(w, kiln_graph_type(lower->graph, group->outputs[i].value), inner);
        values[i] = kiln_lower_value(lower, group->outputs[i].value, &index);
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        index = result_index(w, kiln_graph_type(lower->graph, group->outputs[i].value), inner);
        kiln_lower_store(lower, i, &index, values[i]);
    }
    kiln_lower_unbind(lower, 1);
}

/* Vector by vector; the last one begins earlier and makes some elements again. */
static void emit_row_back(window_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_lower_i64(lower, 0), end = kiln_lower_i64(lower, w->n_inner);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, lower->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    at = kiln_lower_op_imm(lower, KILN_K_min, at, w->n_inner - lower->lanes);
    emit_vector(w, kiln_axis_vector(at, 1));
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static void emit_row(window_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    int64_t lanes = lower->lanes, main_end = w->n_inner / lanes * lanes;
    if (w->reaches_back && main_end > 0 && main_end < w->n_inner) {
        emit_row_back(w);
        return;
    }
    if (main_end > 0) {
        kiln_kv end = kiln_lower_i64(lower, main_end);
        kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_lower_i64(lower, 0), end, lanes);
        uint32_t mark = kiln_lower_mark(lower);
        emit_vector(w, kiln_axis_vector(at, lanes));
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
    if (main_end == w->n_inner) return;
    lower->mask = kiln_k_active(k, lower->lanes, kiln_lower_i64(lower, w->n_inner - main_end));
    uint32_t mark = kiln_lower_mark(lower);
    kiln_axis_index at = {.base = kiln_lower_i64(lower, main_end), .multiple = main_end, .step = 1};
    emit_vector(w, at);
    kiln_lower_cut(lower, mark);
    lower->mask = 0;
}

static int64_t choose_rows_per_tile(const window_walk *w)
{
    double taps = 1, bytes = (double)w->n_inner * 8;
    for (uint32_t i = 0; i < w->operand->rank; i++)
        taps *= (double)w->node->attrs->window.sizes.at[i];
    int64_t rows = (int64_t)(TILE_BYTES / (bytes * (1 + taps / 4) + 1));
    return rows > 0 ? rows : 1;
}

static window_walk open_window(kiln_lower *lower)
{
    window_walk w = {.lower = lower, .node = kiln_graph_node(lower->graph, lower->group->anchor)};
    w.operand = kiln_graph_type(lower->graph, w.node->inputs[0]);
    const kiln_type *type = w.node->type;
    w.split = type->rank > 0 ? type->rank - 1 : 0;
    w.n_inner = type->rank > 0 ? type->dims[w.split] : 1;
    w.n_rows = w.n_inner > 0 ? type->n_elements / w.n_inner : 0;
    uint32_t lanes = 1;
    while (lanes < lower->lanes && lanes < w.n_inner) lanes *= 2;
    lower->lanes = lanes;
    return w;
}

/* Columns begin … end of the line whose leading indices are set. */
static void emit_columns(window_walk *w, int64_t begin, int64_t end, bool is_inside)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    if (begin >= end) return;
    kiln_kv from = kiln_lower_i64(lower, begin), to = kiln_lower_i64(lower, end);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, from, to, 1);
    uint32_t mark = kiln_lower_mark(lower);
    w->lead[w->split - 1] = column;
    w->is_inside = is_inside;
    emit_row(w);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* A line: all columns, that is the axis before the inner one. In its middle all taps are inside. */
static void emit_line(window_walk *w)
{
    uint32_t axis = w->split - 1;
    int64_t stride = w->node->attrs->window.strides.at[axis], n = w->node->type->dims[axis];
    int64_t low = w->node->attrs->window.low.at[axis];
    int64_t reach =
        (w->node->attrs->window.sizes.at[axis] - 1) * w->node->attrs->window.dilations.at[axis];
    int64_t first = kiln_min_i64(n, low > 0 ? kiln_ceil_div(low, stride) : 0);
    int64_t room = w->operand->dims[axis] - 1 + low - reach;
    int64_t end = room < 0 ? first : kiln_min_i64(n, room / stride + 1);
    end = kiln_max_i64(end, first);
    w->has_lead = true;
    emit_columns(w, 0, first, false);
    emit_columns(w, first, end, true);
    emit_columns(w, end, n, false);
}

static void emit_some_rows(void *user, kiln_kv image, kiln_kv begin, kiln_kv end)
{
    window_walk *w = user;
    kiln_kernel *k = w->lower->kernel;
    w->lead[0] = image;
    w->lead[1] = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t mark = kiln_lower_mark(w->lower);
    w->row = kiln_axis_zero(w->lower);
    emit_line(w);
    kiln_lower_cut(w->lower, mark);
    kiln_k_end(k);
}

kiln_row_maker kiln_window_row_maker(kiln_lower *lower)
{
    window_walk *w = kiln_new(&lower->scope->arena, window_walk);
    *w = open_window(lower);
    return (kiln_row_maker){emit_some_rows, w};
}

/* Columns of a line, where lines are enough for all threads and outputs have the window's index;
 * else 1: rows go one by one. */
static int64_t line_columns(const window_walk *w)
{
    const kiln_group *group = w->lower->group;
    const kiln_type *type = w->node->type;
    int64_t n = w->split > 0 ? type->dims[w->split - 1] : 1;
    if (n < 2 || w->n_rows / n < LEAST_LINES) return 1;
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        const kiln_type *own = kiln_graph_type(w->lower->graph, group->outputs[i].value);
        size_t bytes = type->rank * sizeof *type->dims;
        if (own->rank != type->rank || memcmp(own->dims, type->dims, bytes) != 0) return 1;
    }
    return n;
}

/* The line of number w->row. */
static void emit_numbered_line(window_walk *w)
{
    kiln_axis_index axes[KILN_MAX_RANK];
    kiln_lower_delinearize(w->lower, w->row, w->split - 1, w->node->type->dims, axes);
    for (uint32_t i = 0; i + 1 < w->split; i++) {
        axes[i] = kiln_axis_plain(w->lower, &axes[i]);
        w->lead[i] = axes[i].base;
    }
    w->row = kiln_axis_zero(w->lower);
    emit_line(w);
}

/* Whether a last vector that begins earlier, which is half the code, costs no more than a masked
 * one. It does where taps run along short rows (3 x 3 of 64 x 56 x 56 takes 0.153 ms so, 0.143
 * masked; of 8 x 125 x 125 0.090 and 0.107; along channels alone 0.275 and 0.288) or many (sums of
 * 8 x 350 x 350 0.393 and 0.382). */
static bool is_cheap_back(const window_walk *w)
{
    bool is_medium = w->node->type->n_elements < 8 * KILN_SMALL_ELEMENTS;
    bool runs_along = w->split < w->operand->rank && has_taps(w, w->split);
    return !runs_along || (is_medium && w->n_inner >= LONG_ROW * w->lower->lanes);
}

void kiln_lower_window(kiln_lower *lower)
{
    kiln_kernel *k = lower->kernel;
    window_walk w = open_window(lower);
    bool is_small = w.node->type->n_elements < KILN_SMALL_ELEMENTS;
    w.is_looped = is_small && w.split > 0 && w.node->attrs->window.strides.at[w.split] > 1;
    w.reaches_back = (is_small || is_cheap_back(&w)) && !kiln_lower_writes_over_inputs(lower);
    int64_t n_columns = line_columns(&w), n_rows = w.n_rows / n_columns;
    int64_t per_tile = kiln_max_i64(1, choose_rows_per_tile(&w) / n_columns);
    int64_t n_tiles = kiln_ceil_div(n_rows, per_tile);
    if (n_tiles > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld tiles; expected at most 2^32 - 1",
                  lower->group->label, (long long)n_tiles);
    k->n_tiles = (uint32_t)n_tiles;
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, tile, per_tile);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, per_tile);
    end = kiln_lower_op_imm(lower, KILN_K_min, end, n_rows);
    w.row = kiln_axis_scalar(kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1), 1);
    w.row.extent = n_rows;
    uint32_t inside = kiln_lower_mark(lower);
    if (n_rows > 0 && n_columns > 1) emit_numbered_line(&w);
    if (n_rows > 0 && n_columns == 1) emit_row(&w);
    kiln_lower_cut(lower, inside);
    kiln_k_end(k);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* A thread is one element of the result. */
void kiln_lower_gpu_window(kiln_lower *lower)
{
    window_walk w = {.lower = lower, .node = kiln_graph_node(lower->graph, lower->group->anchor)};
    w.operand = kiln_graph_type(lower->graph, w.node->inputs[0]);
    w.n_rows = 1;
    w.n_inner = w.node->type->n_elements;
    lower->lanes = 1;
    kiln_kv at = kiln_gpu_open_elements(lower, w.n_inner);
    uint32_t mark = kiln_lower_mark(lower);
    w.row = kiln_axis_zero(lower);
    if (w.n_inner > 0) emit_vector(&w, kiln_axis_scalar(at, 1));
    kiln_lower_cut(lower, mark);
    kiln_gpu_close_elements(lower);
}
