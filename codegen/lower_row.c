/* Row groups: reductions over trailing axes and maps over the same rows. A tile is a block of rows;
 * a row runs through the stages of lower_stage.h, each one walk over its elements. Element i goes
 * to logical lane i mod 64, whatever the vectors' width; long rows are summed in chunks of CHUNK
 * elements that are added lane by lane, in order. Values that cost more than a load are kept in
 * scratch memory between the stages. */
#include "codegen/lower_row.h"

#include <string.h>

#include "base/checked.h"
#include "codegen/math.h"

#define CHUNK 16384
#define TILE_BYTES 65536

/* Leading axes are the row, trailing ones the element, if the dims split there. */
static kiln_index row_index(const kiln_row_walk *w, const kiln_type *type, kiln_axis_index element)
{
    kiln_lower *lower = w->lower;
    kiln_index index = {.rank = type->rank};
    kiln_axis_index row = w->row;
    int64_t rows = 1;
    uint32_t split = 0;
    while (split < type->rank && rows < w->stages.n_results) rows *= type->dims[split++];
    row.extent = w->stages.n_results;
    element.extent = w->stages.n_reduced;
    if (rows == w->stages.n_results && type->n_elements == rows * w->stages.n_reduced) {
        kiln_lower_delinearize(lower, row, split, type->dims, index.axis);
        kiln_lower_delinearize(lower, element, type->rank - split, type->dims + split,
                               index.axis + split);
        return index;
    }
    kiln_axis_index linear = kiln_axis_affine(lower, &row, w->stages.n_reduced, 0);
    linear = kiln_axis_add(lower, &linear, &element);
    linear.extent = type->n_elements;
    kiln_lower_delinearize(lower, linear, type->rank, type->dims, index.axis);
    return index;
}

static kiln_kv row_value(const kiln_row_walk *w, kiln_value node, kiln_axis_index element)
{
    kiln_index index = row_index(w, kiln_graph_type(w->lower->graph, node), element);
    return kiln_lower_value(w->lower, node, &index);
}

static void keep_value(const kiln_row_walk *w, kiln_value node, kiln_axis_index element,
                       kiln_kv value)
{
    kiln_lower *lower = w->lower;
    kiln_access access = {.buffer = w->locals[kiln_lower_position(lower, node)],
                          .lanes = lower->lanes,
                          .offset = element};
    if (w->local_base) {
        kiln_axis_index base = kiln_axis_scalar(w->local_base, 1);
        access.offset = kiln_axis_add(lower, &element, &base);
    }
    /* room is rounded up to whole vectors, so tails need no mask */
    kiln_lower_store_at(lower, &access, value);
}

static kiln_axis_index element_axis(const kiln_row_walk *w, const kiln_axis_index *at,
                                    uint32_t number)
{
    kiln_axis_index axis = kiln_axis_affine(w->lower, at, 1, (int64_t)number * w->lower->lanes);
    axis.extent = w->stages.n_reduced;
    return axis;
}

/* Asks for the next row's inputs while this row is being computed: the first walk of a row waits
 * for memory, the later ones leave it idle. */
static void prefetch_next(kiln_row_walk *w, kiln_axis_index element)
{
    kiln_lower *lower = w->lower;
    const kiln_axis_index row = w->row;
    int64_t n_full = w->stages.n_results * w->stages.n_reduced;
    w->row = kiln_axis_affine(lower, &row, 1, 1);
    for (uint32_t i = 0; i < lower->group->n_inputs; i++) {
        const kiln_type *type = kiln_graph_type(lower->graph, lower->group->inputs[i].value);
        if (type->n_elements != n_full || !lower->place_of[i]->strides) continue;
        kiln_index index = row_index(w, type, element);
        kiln_axis_index offset = kiln_lower_offset(lower, lower->place_of[i], &index);
        if (!offset.lanes) kiln_k_prefetch(lower->kernel, lower->buffer_of[i], offset.base);
    }
    w->row = row;
}

/* Vector `number` of a trip that starts at `at`: reductions step, values are collected for storing.
 */
static void walk_vector(kiln_row_walk *w, const kiln_axis_index *at, uint32_t number,
                        kiln_kv *out_values)
{
    kiln_lower *lower = w->lower;
    const kiln_stage *stage = w->stage;
    kiln_axis_index element = element_axis(w, at, number);
    if (w->is_prefetching) prefetch_next(w, element);
    for (uint32_t i = 0; i < stage->reductions.n; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, stage->reductions.at[i]);
        kiln_kv value = row_value(w, node->inputs[0], element);
        kiln_partials_step(lower, &w->partials[i], number, value, &element);
    }
    for (uint32_t i = 0; i < stage->kept.n; i++)
        keep_value(w, stage->kept.at[i], element, row_value(w, stage->kept.at[i], element));
    for (uint32_t i = 0; i < stage->outputs.n; i++)
        out_values[i] = row_value(w, lower->group->outputs[stage->outputs.at[i]].value, element);
}

/* `n` vectors from `at` on; the last one is masked by `mask`, all by the walk's own. */
static void walk_trip(kiln_row_walk *w, kiln_axis_index at, uint32_t n, kiln_kv mask)
{
    kiln_lower *lower = w->lower;
    uint32_t n_outputs = w->stage->outputs.n;
    kiln_kv *values = kiln_new_array(&lower->scope->arena, kiln_kv, (size_t)n * n_outputs + 1);
    /* node by node over all vectors: chains of dependent instructions side by side */
    for (uint32_t j = 0; n > 1 && j < w->stage->maps.n; j++) {
        for (uint32_t i = 0; i < n; i++) {
            lower->mask = i + 1 == n && mask ? mask : w->mask;
            row_value(w, w->stage->maps.at[j], element_axis(w, &at, i));
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        lower->mask = i + 1 == n && mask ? mask : w->mask;
        walk_vector(w, &at, i, values + i * n_outputs);
    }
    for (uint32_t i = 0; i < n * n_outputs; i++) {
        uint32_t vector = i / n_outputs, number = w->stage->outputs.at[i % n_outputs];
        kiln_value node = lower->group->outputs[number].value;
        lower->mask = vector + 1 == n && mask ? mask : w->mask;
        kiln_index index =
            row_index(w, kiln_graph_type(lower->graph, node), element_axis(w, &at, vector));
        kiln_lower_store(lower, number, &index, values[i]);
    }
    lower->mask = 0;
}

static kiln_partials *copy_partials(const kiln_row_walk *w)
{
    return kiln_arena_copy(&w->lower->scope->arena, w->partials,
                           w->stage->reductions.n * sizeof *w->partials);
}

static void open_carries(kiln_row_walk *w)
{
    for (uint32_t i = 0; i < w->stage->reductions.n; i++)
        kiln_partials_carry(w->lower, &w->partials[i]);
}

static void close_loop(kiln_row_walk *w, const kiln_partials *carries, uint32_t mark)
{
    uint32_t n = w->stage->reductions.n;
    for (uint32_t i = 0; i < n; i++) kiln_partials_next(w->lower, &carries[i], &w->partials[i]);
    kiln_lower_cut(w->lower, mark);
    kiln_k_end(w->lower->kernel);
    for (uint32_t i = 0; i < n; i++) kiln_partials_last(w->lower, &carries[i], &w->partials[i]);
}

/* Whole trips from `begin` to `end`; a thread of a GPU takes every 64th element. */
static void walk_loop(kiln_row_walk *w, kiln_kv begin, kiln_kv end)
{
    kiln_lower *lower = w->lower;
    int64_t step = (int64_t)w->unroll * lower->lanes;
    if (w->thread_lane) {
        begin = kiln_k_binary(lower->kernel, KILN_K_add, begin, w->thread_lane);
        step = KILN_ROW_LANES;
    }
    kiln_kv at = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, begin, end, step);
    uint32_t mark = kiln_lower_mark(lower);
    open_carries(w);
    kiln_partials *carries = copy_partials(w);
    kiln_axis_index axis = w->thread_lane ? kiln_axis_scalar(at, 1) : kiln_axis_vector(at, step);
    walk_trip(w, axis, w->unroll, 0);
    close_loop(w, carries, mark);
}

/* Elements `begin` to `end`, both known. */
static void walk_range(kiln_row_walk *w, int64_t begin, int64_t end)
{
    kiln_lower *lower = w->lower;
    int64_t step = (int64_t)w->unroll * lower->lanes,
            main_end = begin + (end - begin) / step * step;
    if (w->thread_lane) main_end = end;
    if (main_end == begin + step && !w->thread_lane)
        walk_trip(
            w,
            (kiln_axis_index){.base = kiln_lower_i64(lower, begin), .multiple = begin, .step = 1},
            w->unroll, 0);
    else if (main_end > begin)
        walk_loop(w, kiln_lower_i64(lower, begin), kiln_lower_i64(lower, main_end));
    int64_t rest = end - main_end;
    if (rest == 0) return;
    uint32_t n = (uint32_t)kiln_ceil_div(rest, lower->lanes);
    int64_t in_last = rest - (int64_t)(n - 1) * lower->lanes;
    kiln_kv mask = kiln_k_active(lower->kernel, lower->lanes, kiln_lower_i64(lower, in_last));
    kiln_axis_index at = {.base = kiln_lower_i64(lower, main_end), .multiple = main_end, .step = 1};
    walk_trip(w, at, n, mask);
}

/* Elements that come twice, and their order, make no difference to these. */
static bool is_idempotent(kiln_op op)
{
    return op != KILN_OP_reduce_sum && op != KILN_OP_reduce_prod;
}

/* Whether the stage may go vector by vector, with the last one beginning earlier. */
static bool is_by_singles(const kiln_row_walk *w)
{
    const kiln_lower *lower = w->lower;
    bool is_again = w->stage->outputs.n > 0 && w->stages.n_reduced % lower->lanes != 0;
    if (!w->is_small || w->stages.n_reduced <= lower->lanes) return false;
    for (uint32_t i = 0; i < w->stage->reductions.n; i++)
        if (!is_idempotent((kiln_op)kiln_graph_node(lower->graph, w->stage->reductions.at[i])->op))
            return false;
    return !(is_again && kiln_lower_writes_over_inputs(lower));
}

/* Vector by vector: the code stands there once. */
static void walk_singles(kiln_row_walk *w)
{
    kiln_lower *lower = w->lower;
    int64_t n = w->stages.n_reduced, last = n - lower->lanes;
    bool is_ragged = n % lower->lanes != 0;
    kiln_kv begin = kiln_lower_i64(lower, 0), end = kiln_lower_i64(lower, n);
    kiln_kv at = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, begin, end, lower->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    open_carries(w);
    kiln_partials *carries = copy_partials(w);
    if (is_ragged) at = kiln_lower_op_imm(lower, KILN_K_min, at, last);
    walk_trip(w, kiln_axis_vector(at, is_ragged ? 1 : lower->lanes), 1, 0);
    close_loop(w, carries, mark);
}

static void begin_partials(kiln_row_walk *w)
{
    kiln_lower *lower = w->lower;
    int64_t used = kiln_ceil_div(kiln_max_i64(w->stages.n_reduced, 1), lower->lanes);
    bool is_single = is_by_singles(w);
    int64_t n = w->thread_lane || is_single ? 1 : kiln_min_i64(KILN_ROW_LANES / lower->lanes, used);
    for (uint32_t i = 0; i < w->stage->reductions.n; i++) {
        kiln_partials_begin(lower, w->stage->reductions.at[i], (uint32_t)n, &w->partials[i]);
        if (!is_single && (w->thread_lane || n == 1)) continue;
        kiln_partials_hurry(lower, &w->partials[i]);
        w->partials[i].is_shift = kiln_lower_is_shift(lower, w->stage->reductions.at[i]);
    }
}

/* Chunks of a long row: each is reduced from the identity and then merged into the totals. */
static void walk_chunks(kiln_row_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    int64_t main_end = w->stages.n_reduced / CHUNK * CHUNK;
    kiln_kv chunk = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_lower_i64(lower, 0),
                                kiln_lower_i64(lower, main_end), CHUNK);
    uint32_t mark = kiln_lower_mark(lower);
    open_carries(w);
    kiln_partials *carries = copy_partials(w), *totals = copy_partials(w);
    begin_partials(w);
    walk_loop(w, chunk, kiln_k_add_imm(k, chunk, CHUNK));
    for (uint32_t i = 0; i < w->stage->reductions.n; i++) {
        kiln_partials_merge(lower, &totals[i], &w->partials[i]);
        w->partials[i] = totals[i];
    }
    close_loop(w, carries, mark);
    if (main_end == w->stages.n_reduced) return;
    totals = copy_partials(w);
    begin_partials(w);
    walk_range(w, main_end, w->stages.n_reduced);
    for (uint32_t i = 0; i < w->stage->reductions.n; i++) {
        kiln_partials_merge(lower, &totals[i], &w->partials[i]);
        w->partials[i] = totals[i];
    }
}

void kiln_row_strides(const kiln_type *type, int64_t n_reduced, int64_t *out_strides)
{
    int64_t stride = 1;
    memset(out_strides, 0, type->rank * sizeof *out_strides);
    for (uint32_t i = type->rank; i-- > 0 && stride < n_reduced;) {
        out_strides[i] = stride;
        stride *= type->dims[i];
    }
}

void kiln_row_bind_kept(kiln_row_walk *w, uint32_t number)
{
    kiln_lower *lower = w->lower;
    const kiln_stage *stage = &w->stages.stage[number];
    for (uint32_t i = 0; i < stage->kept.n; i++) {
        kiln_value node = stage->kept.at[i];
        int64_t strides[KILN_MAX_RANK];
        kiln_row_strides(kiln_graph_type(lower->graph, node), w->stages.n_reduced, strides);
        kiln_lower_bind_local(lower, node, w->locals[kiln_lower_position(lower, node)], strides);
        lower->bindings.at[lower->bindings.n - 1].base = w->local_base;
    }
}

const kiln_kv *kiln_row_walk_stage(kiln_row_walk *w, uint32_t number)
{
    kiln_lower *lower = w->lower;
    w->stage = &w->stages.stage[number];
    uint32_t n = w->stage->reductions.n;
    w->partials = kiln_new_array(&lower->scope->arena, kiln_partials, n + 1);
    w->unroll = n > 0 ? KILN_ROW_LANES / lower->lanes : 2;
    if (w->thread_lane) w->unroll = 1;
    w->is_prefetching = number == 1 && !w->thread_lane && !w->is_small && w->stages.n_results > 1;
    begin_partials(w);
    if (is_by_singles(w))
        walk_singles(w);
    else if (n > 0 && w->stages.n_reduced > CHUNK)
        walk_chunks(w);
    else
        walk_range(w, 0, w->stages.n_reduced);
    kiln_kv *results = kiln_new_array(&lower->scope->arena, kiln_kv, n + 1);
    for (uint32_t i = 0; i < n; i++) results[i] = w->tree(w, &w->partials[i]);
    kiln_row_bind_kept(w, number);
    if (w->thread_lane && w->stage->kept.n > 0) kiln_k_barrier(lower->kernel);
    return results;
}

static void store_small(kiln_row_walk *w)
{
    kiln_lower *lower = w->lower;
    uint32_t lanes = lower->lanes;
    lower->lanes = 1;
    lower->mask = w->small_mask;
    for (uint32_t i = 0; i < w->stages.small_outputs.n; i++) {
        uint32_t number = w->stages.small_outputs.at[i];
        kiln_value node = lower->group->outputs[number].value;
        const kiln_type *type = kiln_graph_type(lower->graph, node);
        kiln_index index = {.rank = type->rank};
        kiln_lower_delinearize(lower, w->row, type->rank, type->dims, index.axis);
        kiln_lower_store(lower, number, &index, kiln_lower_value(lower, node, &index));
    }
    lower->lanes = lanes;
    lower->mask = 0;
}

void kiln_row_walk_all(kiln_row_walk *w)
{
    uint32_t n_bindings = w->lower->bindings.n;
    for (uint32_t i = 0; i < w->stages.n; i++) {
        const kiln_stage *stage = &w->stages.stage[i];
        const kiln_kv *results = kiln_row_walk_stage(w, i);
        for (uint32_t j = 0; j < stage->reductions.n; j++)
            kiln_lower_bind(w->lower, stage->reductions.at[j], results[j]);
    }
    /* other threads of the row may still be reading what a small output lies over */
    if (w->thread_lane && kiln_lower_writes_over_inputs(w->lower)) kiln_k_barrier(w->lower->kernel);
    store_small(w);
    kiln_lower_unbind(w->lower, w->lower->bindings.n - n_bindings);
}

void kiln_row_add_locals(kiln_row_walk *w, int64_t n_rows)
{
    kiln_lower *lower = w->lower;
    w->locals = kiln_new_array(&lower->scope->arena, uint32_t, lower->group->n_nodes);
    for (uint32_t i = 0; i < w->stages.n; i++) {
        for (uint32_t j = 0; j < w->stages.stage[i].kept.n; j++) {
            kiln_value node = w->stages.stage[i].kept.at[j];
            kiln_dtype dtype = kiln_compute_dtype(kiln_graph_type(lower->graph, node)->dtype);
            int64_t n = n_rows * kiln_round_up(w->stages.n_reduced, KILN_ROW_LANES);
            w->locals[kiln_lower_position(lower, node)] =
                kiln_kernel_add_local(lower->kernel, dtype, n);
        }
    }
}

/* Bytes that one row moves. */
static double row_bytes(const kiln_row_walk *w)
{
    double bytes = 0;
    const kiln_lower *lower = w->lower;
    double rows = (double)kiln_max_i64(w->stages.n_results, 1);
    for (uint32_t i = 0; i < lower->group->n_inputs; i++)
        bytes += (double)kiln_graph_type(lower->graph, lower->group->inputs[i].value)->bytes / rows;
    for (uint32_t i = 0; i < lower->group->n_outputs; i++)
        bytes +=
            (double)kiln_graph_type(lower->graph, lower->group->outputs[i].value)->bytes / rows;
    return bytes;
}

uint32_t kiln_row_lanes(const kiln_lower *lower, int64_t n_reduced)
{
    uint32_t lanes = 1;
    while (lanes < lower->lanes && lanes < n_reduced) lanes *= 2;
    return lanes;
}

kiln_kv kiln_row_tree(kiln_row_walk *w, kiln_partials *partials)
{
    return kiln_partials_tree(w->lower, partials);
}

static bool is_small(const kiln_lower *lower)
{
    const kiln_group *group = lower->group;
    int64_t most = 0;
    for (uint32_t i = 0; i < group->n_nodes + group->n_inputs; i++) {
        kiln_value value =
            i < group->n_nodes ? group->nodes[i] : group->inputs[i - group->n_nodes].value;
        most = kiln_max_i64(most, kiln_graph_type(lower->graph, value)->n_elements);
    }
    return most < KILN_SMALL_ELEMENTS;
}

void kiln_lower_row(kiln_lower *lower)
{
    kiln_kernel *k = lower->kernel;
    kiln_row_walk w = {.lower = lower, .tree = kiln_row_tree};
    w.is_small = is_small(lower);
    kiln_stages_find(lower, lower->machine->l2_bytes / 4, w.is_small, &w.stages);
    lower->lanes = kiln_row_lanes(lower, w.stages.n_reduced);
    kiln_row_add_locals(&w, 1);
    int64_t n_rows = w.stages.n_results;
    int64_t per_tile = kiln_max_i64(1, (int64_t)(TILE_BYTES / (row_bytes(&w) + 1)));
    k->n_tiles = (uint32_t)kiln_ceil_div(n_rows, per_tile);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    if (n_rows == 1) {
        w.row = kiln_axis_zero(lower);
        kiln_row_walk_all(&w);
    } else {
        kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, tile, per_tile);
        kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, per_tile);
        end = kiln_lower_op_imm(lower, KILN_K_min, end, n_rows);
        w.row = kiln_axis_scalar(kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1), 1);
        uint32_t inside = kiln_lower_mark(lower);
        kiln_row_walk_all(&w);
        kiln_lower_cut(lower, inside);
        kiln_k_end(k);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
