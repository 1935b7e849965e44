/* Column groups: reductions over axes of which some are not trailing. The results' innermost axes
 * are vectorised; for a strip of up to STRIP vectors of results, the reduced elements are walked in
 * row- major order with one partial vector per vector of results. More than CHUNK of them are added
 * in chunks, in order. Stages as in lower_stage.h, each one walk down the strip; what they share
 * and costs more than a load is kept in scratch memory, an element's vectors side by side. */
#include "base/checked.h"
#include "codegen/lower_gpu.h"
#include "codegen/lower_stage.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define STRIP 4
#define CHUNK 1024

typedef struct column_walk {
    kiln_lower *lower;
    kiln_stages stages;
    const kiln_stage *stage;
    bool is_reduced[KILN_MAX_RANK]; /* axes of the full shape */
    const kiln_type *small;         /* type of the first reduction */
    uint32_t split;                 /* axes of `small` from here on are vectorised as one */
    int64_t n_outer, n_inner;
    uint32_t n_vectors; /* of a strip */
    kiln_axis_index outer, inner[STRIP];
    kiln_kv mask[STRIP];
    kiln_kv local_base;      /* minus the number of the strip's first column */
    uint32_t *locals;        /* of the kept values, by node position */
    kiln_partials *partials; /* n_vectors each */
} column_walk;

/* The index in the shape of the results of vector `number`. */
static kiln_index small_index(const column_walk *w, const kiln_type *type, uint32_t number)
{
    kiln_lower *lower = w->lower;
    kiln_index index = {.rank = type->rank};
    bool is_same = type->rank == w->small->rank &&
                   memcmp(type->dims, w->small->dims, type->rank * sizeof *type->dims) == 0;
    if (is_same) {
        kiln_lower_delinearize(lower, w->outer, w->split, type->dims, index.axis);
        kiln_lower_delinearize(lower, w->inner[number], type->rank - w->split,
                               type->dims + w->split, index.axis + w->split);
        return index;
    }
    kiln_axis_index linear = kiln_axis_affine(lower, &w->outer, w->n_inner, 0);
    linear = kiln_axis_add(lower, &linear, &w->inner[number]);
    linear.extent = type->n_elements;
    kiln_lower_delinearize(lower, linear, type->rank, type->dims, index.axis);
    return index;
}

/* The index in the full shape: kept axes from the result, reduced ones from the element. */
static kiln_index full_index(const column_walk *w, kiln_axis_index element, uint32_t number)
{
    kiln_lower *lower = w->lower;
    const kiln_type *full = w->stages.full;
    kiln_index index = {.rank = full->rank}, kept = small_index(w, w->small, number);
    kiln_axis_index reduced[KILN_MAX_RANK];
    int64_t dims[KILN_MAX_RANK];
    uint32_t n_reduced = 0, n_kept = 0;
    for (uint32_t i = 0; i < full->rank; i++)
        if (w->is_reduced[i]) dims[n_reduced++] = full->dims[i];
    element.extent = w->stages.n_reduced;
    kiln_lower_delinearize(lower, element, n_reduced, dims, reduced);
    n_reduced = 0;
    for (uint32_t i = 0; i < full->rank; i++)
        index.axis[i] = w->is_reduced[i] ? reduced[n_reduced++] : kept.axis[n_kept++];
    return index;
}

static void bind_vector(column_walk *w, kiln_kv *const *results, uint32_t n_bound, uint32_t number)
{
    uint32_t at = 0;
    for (uint32_t s = 0; s < n_bound; s++)
        for (uint32_t i = 0; i < w->stages.stage[s].reductions.n; i++, at++)
            kiln_lower_bind(w->lower, w->stages.stage[s].reductions.at[i], results[at][number]);
}

static void keep_value(column_walk *w, kiln_value node, const kiln_axis_index *element,
                       uint32_t number, kiln_kv value)
{
    kiln_lower *lower = w->lower;
    int64_t lanes = lower->lanes;
    kiln_axis_index at = kiln_axis_affine(lower, element, w->n_vectors * lanes, number * lanes);
    at.step = 1;
    kiln_access access = {
        .buffer = w->locals[kiln_lower_position(lower, node)], .lanes = lower->lanes, .offset = at};
    kiln_lower_store_at(lower, &access, value);
}

static void bind_kept(column_walk *w, uint32_t number)
{
    kiln_lower *lower = w->lower;
    const kiln_stage *stage = &w->stages.stage[number];
    const kiln_type *full = w->stages.full;
    int64_t strides[KILN_MAX_RANK] = {0};
    int64_t reduced = (int64_t)w->n_vectors * lower->lanes, inner = 1;
    uint32_t n_kept = w->small->rank;
    for (uint32_t i = full->rank; i-- > 0;) {
        bool is_inner = !w->is_reduced[i] && n_kept-- > w->split;
        int64_t *stride = w->is_reduced[i] ? &reduced : &inner;
        if (!w->is_reduced[i] && !is_inner) continue;
        strides[i] = *stride;
        *stride *= full->dims[i];
    }
    for (uint32_t i = 0; i < stage->kept.n; i++) {
        kiln_value node = stage->kept.at[i];
        kiln_lower_bind_local(lower, node, w->locals[kiln_lower_position(lower, node)], strides);
        lower->bindings.at[lower->bindings.n - 1].base = w->local_base;
    }
}

static void add_locals(column_walk *w)
{
    kiln_lower *lower = w->lower;
    w->locals = kiln_new_array(&lower->scope->arena, uint32_t, lower->group->n_nodes);
    for (uint32_t i = 0; i < w->stages.n; i++) {
        for (uint32_t j = 0; j < w->stages.stage[i].kept.n; j++) {
            kiln_value node = w->stages.stage[i].kept.at[j];
            kiln_dtype dtype = kiln_compute_dtype(kiln_graph_type(lower->graph, node)->dtype);
            w->locals[kiln_lower_position(lower, node)] = kiln_kernel_add_local(
                lower->kernel, dtype, w->stages.n_reduced * w->n_vectors * lower->lanes);
        }
    }
}

/* One reduced element for all vectors of the strip. */
static void walk_element(column_walk *w, kiln_axis_index element, kiln_kv *const *results,
                         uint32_t stage)
{
    kiln_lower *lower = w->lower;
    for (uint32_t v = 0; v < w->n_vectors; v++) {
        uint32_t n_bindings = lower->bindings.n;
        kiln_index index = full_index(w, element, v);
        bind_vector(w, results, stage, v);
        lower->mask = w->mask[v];
        for (uint32_t i = 0; i < w->stage->kept.n; i++) {
            kiln_kv value = kiln_lower_value(lower, w->stage->kept.at[i], &index);
            keep_value(w, w->stage->kept.at[i], &element, v, value);
        }
        for (uint32_t i = 0; i < w->stage->reductions.n; i++) {
            const kiln_node *node = kiln_graph_node(lower->graph, w->stage->reductions.at[i]);
            kiln_kv value = kiln_lower_value(lower, node->inputs[0], &index);
            lower->mask = 0; /* lanes beyond the results are never stored */
            kiln_partials_step(lower, &w->partials[i], v, value, &element);
            lower->mask = w->mask[v];
        }
        kiln_kv *values = kiln_new_array(&lower->scope->arena, kiln_kv, w->stage->outputs.n + 1);
        for (uint32_t i = 0; i < w->stage->outputs.n; i++)
            values[i] = kiln_lower_value(
                lower, lower->group->outputs[w->stage->outputs.at[i]].value, &index);
        for (uint32_t i = 0; i < w->stage->outputs.n; i++)
            kiln_lower_store(lower, w->stage->outputs.at[i], &index, values[i]);
        kiln_lower_unbind(lower, lower->bindings.n - n_bindings);
        lower->mask = 0;
    }
}

static kiln_partials *copy_partials(const column_walk *w)
{
    return kiln_arena_copy(&w->lower->scope->arena, w->partials,
                           w->stage->reductions.n * sizeof *w->partials);
}

static void open_carries(column_walk *w)
{
    for (uint32_t i = 0; i < w->stage->reductions.n; i++)
        kiln_partials_carry(w->lower, &w->partials[i]);
}

static void close_loop(column_walk *w, const kiln_partials *carries, uint32_t mark)
{
    uint32_t n = w->stage->reductions.n;
    for (uint32_t i = 0; i < n; i++) kiln_partials_next(w->lower, &carries[i], &w->partials[i]);
    kiln_lower_cut(w->lower, mark);
    kiln_k_end(w->lower->kernel);
    for (uint32_t i = 0; i < n; i++) kiln_partials_last(w->lower, &carries[i], &w->partials[i]);
}

static void walk_loop(column_walk *w, kiln_kv begin, kiln_kv end, kiln_kv *const *results,
                      uint32_t stage)
{
    kiln_lower *lower = w->lower;
    kiln_kv at = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    open_carries(w);
    kiln_partials *carries = copy_partials(w);
    walk_element(w, kiln_axis_scalar(at, 1), results, stage);
    close_loop(w, carries, mark);
}

static void begin_partials(column_walk *w)
{
    for (uint32_t i = 0; i < w->stage->reductions.n; i++)
        kiln_partials_begin(w->lower, w->stage->reductions.at[i], w->n_vectors, &w->partials[i]);
}

static void walk_chunks(column_walk *w, kiln_kv *const *results, uint32_t stage)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv n = kiln_lower_i64(lower, w->stages.n_reduced);
    kiln_kv chunk = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_lower_i64(lower, 0), n, CHUNK);
    uint32_t mark = kiln_lower_mark(lower);
    open_carries(w);
    kiln_partials *carries = copy_partials(w), *totals = copy_partials(w);
    begin_partials(w);
    walk_loop(w, chunk, kiln_k_min(k, kiln_k_add_imm(k, chunk, CHUNK), n), results, stage);
    for (uint32_t i = 0; i < w->stage->reductions.n; i++) {
        kiln_partials_merge(lower, &totals[i], &w->partials[i]);
        w->partials[i] = totals[i];
    }
    close_loop(w, carries, mark);
}

/* What comes of the columns' results alone is made for each column once, before the walks that
 * read it, and remembered. */
static void make_small(column_walk *w, kiln_kv *const *results, uint32_t n_stages)
{
    kiln_lower *lower = w->lower;
    const kiln_group *group = lower->group;
    bool *is_late = kiln_new_array(&lower->scope->arena, bool, group->n_nodes);
    for (uint32_t s = n_stages; s < w->stages.n; s++)
        for (uint32_t i = 0; i < w->stages.stage[s].reductions.n; i++)
            is_late[kiln_lower_position(lower, w->stages.stage[s].reductions.at[i])] = true;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, group->nodes[i]);
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            is_late[i] |= at != KILN_NONE && is_late[at];
        }
        bool is_small =
            kiln_node_row(node)->class_ == KILN_ELEMENTWISE && node->type->rank == w->small->rank &&
            memcmp(node->type->dims, w->small->dims, node->type->rank * sizeof *node->type->dims) ==
                0;
        for (uint32_t v = 0; is_small && !is_late[i] && v < w->n_vectors; v++) {
            uint32_t n_bindings = lower->bindings.n;
            kiln_index index = small_index(w, node->type, v);
            bind_vector(w, results, n_stages, v);
            lower->mask = w->mask[v];
            kiln_lower_value(lower, group->nodes[i], &index);
            kiln_lower_unbind(lower, lower->bindings.n - n_bindings);
            lower->mask = 0;
        }
    }
}

/* All stages of a strip, then the outputs of the results' shape. results[i] are vectors of
 * reduction number i, in the order of the stages. */
static void walk_strip(column_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_arena *arena = &lower->scope->arena;
    uint32_t n = 0;
    uint32_t n_bindings = lower->bindings.n;
    kiln_kv **results = kiln_arena_array(arena, lower->group->n_nodes, sizeof *results);
    for (uint32_t s = 0; s < w->stages.n; s++) {
        w->stage = &w->stages.stage[s];
        w->partials = kiln_new_array(arena, kiln_partials, w->stage->reductions.n + 1);
        if (s > 0) make_small(w, results, s);
        begin_partials(w);
        if (w->stages.n_reduced > CHUNK && w->stage->reductions.n > 0)
            walk_chunks(w, results, s);
        else
            walk_loop(w, kiln_lower_i64(lower, 0), kiln_lower_i64(lower, w->stages.n_reduced),
                      results, s);
        for (uint32_t i = 0; i < w->stage->reductions.n; i++, n++) {
            results[n] = kiln_new_array(arena, kiln_kv, w->n_vectors);
            for (uint32_t v = 0; v < w->n_vectors; v++)
                results[n][v] = kiln_partials_result(lower, &w->partials[i], v);
        }
        bind_kept(w, s);
    }
    kiln_lower_unbind(lower, lower->bindings.n - n_bindings);
    for (uint32_t v = 0; v < w->n_vectors; v++) {
        bind_vector(w, results, w->stages.n, v);
        lower->mask = w->mask[v];
        for (uint32_t i = 0; i < w->stages.small_outputs.n; i++) {
            uint32_t number = w->stages.small_outputs.at[i];
            kiln_value node = lower->group->outputs[number].value;
            kiln_index index = small_index(w, kiln_graph_type(lower->graph, node), v);
            kiln_lower_store(lower, number, &index, kiln_lower_value(lower, node, &index));
        }
        kiln_lower_unbind(lower, lower->bindings.n - n_bindings);
        lower->mask = 0;
    }
}

/* Axes of the result that follow the last reduced one lie together in memory: one vectorised axis.
 */
static void find_inner(column_walk *w, const kiln_node *reduction)
{
    kiln_ints axes = {.n = 1, .at = &reduction->attrs->arg.axis};
    if (reduction->attrs->family == KILN_FAMILY_axes) axes = reduction->attrs->axes.axes;
    for (uint32_t i = 0; i < axes.n; i++) w->is_reduced[axes.at[i]] = true;
    w->small = reduction->type;
    uint32_t rank = kiln_graph_type(w->lower->graph, reduction->inputs[0])->rank, n_inner = 0;
    while (n_inner < rank && !w->is_reduced[rank - 1 - n_inner]) n_inner++;
    if (n_inner == 0 && w->small->rank > 0) n_inner = 1;
    w->split = w->small->rank - n_inner;
    w->n_outer = w->n_inner = 1;
    for (uint32_t i = 0; i < w->small->rank; i++) {
        int64_t *n = i < w->split ? &w->n_outer : &w->n_inner;
        *n *= w->small->dims[i];
    }
}

/* Whether what is reduced is gathered. */
static bool is_gathered(const column_walk *w)
{
    const kiln_group *group = w->lower->group;
    bool has_moves = false;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(w->lower->graph, group->nodes[i]);
        has_moves |= kiln_node_row(node)->class_ == KILN_MOVE;
    }
    if (!has_moves) return false;
    kiln_lower scratch = kiln_lower_scratch(w->lower);
    kiln_kernel *k = scratch.kernel;
    scratch.lanes = w->lower->lanes;
    column_walk trial = *w;
    trial.lower = &scratch;
    kiln_stages_find(w->lower, 0, false, &trial.stages);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    trial.outer = kiln_axis_scalar(kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1), 1);
    trial.outer.extent = w->n_outer;
    kiln_kv first = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, scratch.lanes);
    trial.inner[0] = kiln_axis_vector(first, scratch.lanes);
    trial.inner[0].extent = w->n_inner;
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    kiln_index index = full_index(&trial, kiln_axis_scalar(at, 1), 0);
    const kiln_stage *stage = &trial.stages.stage[0];
    for (uint32_t i = 0; i < stage->reductions.n; i++) {
        const kiln_node *node = kiln_graph_node(scratch.graph, stage->reductions.at[i]);
        kiln_lower_value(&scratch, node->inputs[0], &index);
    }
    return kiln_lower_gather_cost(k, 0) > 0;
}

/* Little work in a chain: as little code as can be. */
static bool is_small_chain(const kiln_lower *lower, const kiln_type *full)
{
    bool is_chain = false;
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        kiln_value output = lower->group->outputs[i].value;
        is_chain |= kiln_graph_type(lower->graph, output)->n_elements == full->n_elements;
    }
    return is_chain && full->n_elements < KILN_SMALL_ELEMENTS;
}

/* Two vectors at a time in brief chains, for less code (one would be less still, but waits for its
 * chains of sums). Gathers keep the ports busy by themselves, and neighbouring vectors share
 * nothing of them: one. */
static void choose_strip(column_walk *w, bool is_brief)
{
    uint32_t lanes = 1;
    while (lanes < w->lower->lanes && lanes < w->n_inner) lanes *= 2;
    w->lower->lanes = lanes;
    int64_t n = kiln_ceil_div(kiln_max_i64(w->n_inner, 1), lanes);
    w->n_vectors = (uint32_t)kiln_min_i64(n, is_gathered(w) ? 1 : is_brief ? 2 : STRIP);
}

/* All of the strip that begins at column `first`, a multiple of `multiple`. */
static void walk_from(column_walk *w, kiln_kv first, int64_t multiple)
{
    kiln_lower *lower = w->lower;
    int64_t strip = (int64_t)w->n_vectors * lower->lanes;
    bool is_ragged = multiple % strip == 0 && w->n_inner % strip != 0;
    w->local_base = kiln_lower_op_imm(lower, KILN_K_mul, first, -1);
    for (uint32_t v = 0; v < w->n_vectors; v++) {
        kiln_axis_index inner = kiln_axis_vector(first, multiple);
        w->inner[v] = kiln_axis_affine(lower, &inner, 1, (int64_t)v * lower->lanes);
        w->inner[v].extent = w->n_inner;
        if (!is_ragged) continue;
        kiln_kv left =
            kiln_lower_op(lower, KILN_K_sub, kiln_lower_i64(lower, w->n_inner), w->inner[v].base);
        w->mask[v] = kiln_k_active(lower->kernel, lower->lanes, left);
    }
    walk_strip(w);
}

/* All strips of a tile; the last one begins earlier, so that none has a mask: stores with one are
 * slow (121 columns by 121: 9.4 us with masks, 7.2 without). */
static void walk_lapping(column_walk *w, int64_t strip)
{
    kiln_lower *lower = w->lower;
    kiln_kv end = kiln_lower_i64(lower, w->n_inner), first = kiln_lower_i64(lower, 0);
    first = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, first, end, strip);
    uint32_t mark = kiln_lower_mark(lower);
    walk_from(w, kiln_lower_op_imm(lower, KILN_K_min, first, w->n_inner - strip), 1);
    kiln_lower_cut(lower, mark);
    kiln_k_end(lower->kernel);
}

void kiln_lower_column(kiln_lower *lower)
{
    kiln_kernel *k = lower->kernel;
    column_walk w = {.lower = lower};
    const kiln_node *anchor = kiln_graph_node(lower->graph, lower->group->anchor);
    find_inner(&w, anchor);
    bool is_brief = is_small_chain(lower, kiln_graph_type(lower->graph, anchor->inputs[0]));
    choose_strip(&w, is_brief);
    int64_t strip = (int64_t)w.n_vectors * lower->lanes;
    kiln_stages_find(lower, lower->machine->l2_bytes / 4 / strip, false, &w.stages);
    add_locals(&w);
    bool is_lapping = is_brief && w.n_inner > strip && w.n_inner % strip != 0 &&
                      !kiln_lower_writes_over_inputs(lower);
    int64_t n_strips = is_lapping ? 1 : kiln_ceil_div(w.n_inner, strip);
    int64_t n_tiles = w.n_outer * n_strips;
    if (n_tiles > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld tiles; expected at most 2^32 - 1",
                  lower->group->label, (long long)n_tiles);
    k->n_tiles = (uint32_t)n_tiles;
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    if (n_tiles > 0) {
        kiln_kv first = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_strips);
        w.outer = kiln_axis_scalar(kiln_lower_op_imm(lower, KILN_K_div, tile, n_strips), 1);
        w.outer.extent = w.n_outer;
        if (is_lapping)
            walk_lapping(&w, strip);
        else
            walk_from(&w, kiln_lower_op_imm(lower, KILN_K_mul, first, strip), strip);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* A thread is one result. */
void kiln_lower_gpu_column(kiln_lower *lower)
{
    column_walk w = {.lower = lower, .n_vectors = 1};
    lower->lanes = 1;
    kiln_stages_find(lower, 0, false, &w.stages);
    find_inner(&w, kiln_graph_node(lower->graph, w.stages.stage[0].reductions.at[0]));
    w.split = 0;
    w.n_outer = 1;
    w.n_inner = w.stages.n_results;
    w.inner[0] = kiln_axis_scalar(kiln_gpu_open_elements(lower, w.n_inner), 1);
    w.inner[0].extent = w.n_inner;
    uint32_t mark = kiln_lower_mark(lower);
    w.outer = kiln_axis_zero(lower);
    if (w.n_inner > 0) walk_strip(&w);
    kiln_lower_cut(lower, mark);
    kiln_gpu_close_elements(lower);
}
