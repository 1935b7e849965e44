/* Scatters: the operand is copied to the result, then the updates are combined into it in row-major
 * order. Slices that differ along an axis which every window covers in whole, or a batch axis,
 * never meet: the longest such axis is cut into tiles, and where it is the last one, it is walked
 * by vectors. Parts of windows outside of the operand fall away through the bounds of the loops. */
#include "base/checked.h"
#include "codegen/lower_routine.h"
#include "codegen/math.h"
#include "graph/gather.h"

#define TILE_WORK 16384 /* elements copied and updated by a tile, about */

typedef struct scatter_walk {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *type, *indices, *updates;
    kiln_gather_plan plan;
    uint32_t cut;       /* operand axis that tiles share, or the rank */
    kiln_kv first, end; /* this tile's part of it */
    kiln_nest nest;
    kiln_index at;   /* in the result */
    kiln_index from; /* in the updates */
    bool is_copy;
} scatter_walk;

static void set_scalar(kiln_index *index, uint32_t axis, kiln_kv value)
{
    index->axis[axis] = kiln_axis_scalar(value, 1);
}

/* Combines the update at w->from into the result at w->at. */
static void emit_update(scatter_walk *w)
{
    static const kiln_op combining[KILN_N_OPS] = {
        [KILN_OP_scatter_add] = KILN_OP_add,
        [KILN_OP_scatter_mul] = KILN_OP_mul,
        [KILN_OP_scatter_max] = KILN_OP_max,
        [KILN_OP_scatter_min] = KILN_OP_min,
    };
    kiln_lower *lower = w->lower;
    kiln_op op = combining[w->node->op];
    kiln_kv value = kiln_lower_value(lower, w->node->inputs[2], &w->from);
    if (op) {
        kiln_kv args[2] = {kiln_routine_result(lower, &w->at), value};
        value = kiln_math_op(lower->kernel, op, w->type->dtype, w->type->dtype, args);
    }
    kiln_lower_store(lower, 0, &w->at, value);
}

static void emit_copied(scatter_walk *w)
{
    kiln_kv value = kiln_lower_value(w->lower, w->node->inputs[0], &w->at);
    kiln_lower_store(w->lower, 0, &w->at, value);
}

/* One vector along the last axis. */
static void emit_vector(kiln_lower *lower, void *state, kiln_axis_index at)
{
    scatter_walk *w = state;
    uint32_t last = w->type->rank - 1;
    w->at.axis[last] = at;
    if (w->is_copy) {
        emit_copied(w);
        return;
    }
    w->from.axis[w->plan.offset[last]] = at;
    emit_update(w);
}

/* Loops over all of a tile's part of the operand. */
static void emit_copy(scatter_walk *w)
{
    kiln_lower *lower = w->lower;
    uint32_t open = w->nest.n, rank = w->type->rank;
    kiln_kv zero = kiln_lower_i64(lower, 0);
    w->is_copy = true;
    for (uint32_t i = 0; i < rank; i++) {
        kiln_kv begin = i == w->cut ? w->first : zero;
        kiln_kv end = i == w->cut ? w->end : kiln_lower_i64(lower, w->type->dims[i]);
        if (i + 1 < rank) {
            set_scalar(&w->at, i, kiln_nest_loop(&w->nest, begin, end, 1));
            continue;
        }
        uint32_t lanes = kiln_routine_lanes(lower, w->type->dims[i]);
        kiln_nest_lanes(lower, &(kiln_lanes_loop){begin, end, lanes, emit_vector, w});
    }
    if (rank == 0) emit_copied(w);
    kiln_nest_close(&w->nest, open);
    w->is_copy = false;
}

/* Entry `component` of the index vector at hand as i64, kept within low … high. */
static kiln_kv start_of(scatter_walk *w, uint32_t component, int64_t low, int64_t high)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_index index = {.rank = w->indices->rank};
    for (uint32_t i = 0; i < index.rank; i++) {
        int32_t axis = w->plan.walk[i];
        index.axis[i] = axis < 0 ? kiln_axis_scalar(kiln_lower_i64(lower, component), component)
                                 : w->from.axis[axis];
    }
    kiln_kv value = kiln_lower_value(lower, w->node->inputs[1], &index);
    kiln_dtype dtype = (kiln_dtype)kiln_kernel_at(k, value)->dtype;
    if (dtype == KILN_u64) value = kiln_k_min(k, value, kiln_k_const_int(k, dtype, 1, high));
    value = kiln_k_convert(k, value, KILN_i64);
    return kiln_k_min(k, kiln_k_max(k, value, kiln_lower_i64(lower, low)),
                      kiln_lower_i64(lower, high));
}

/* Loops over the part of the window along operand axis `i` that lies inside. The last axis, when it
 * is walked by vectors, is left to the caller. */
static void open_axis(scatter_walk *w, uint32_t i, kiln_kv *begin, kiln_kv *end)
{
    kiln_lower *lower = w->lower;
    int64_t size = w->plan.sizes[i], dim = w->type->dims[i];
    kiln_kv start = 0;
    *begin = i == w->cut ? w->first : kiln_lower_i64(lower, 0);
    *end = i == w->cut ? w->end : kiln_lower_i64(lower, size);
    if (w->plan.batch[i] >= 0) {
        w->at.axis[i] = w->from.axis[w->plan.batch[i]];
        return;
    }
    if (w->plan.component[i] >= 0) {
        start = start_of(w, (uint32_t)w->plan.component[i], -size, dim);
        kiln_kv below = kiln_lower_op(lower, KILN_K_neg, start, 0);
        *begin = kiln_lower_op_imm(lower, KILN_K_max, below, 0);
        kiln_kv room = kiln_lower_op(lower, KILN_K_sub, kiln_lower_i64(lower, dim), start);
        *end = kiln_lower_op(lower, KILN_K_min, *end, room);
    } else if (i + 1 == w->type->rank && w->plan.offset[i] >= 0 &&
               kiln_gather_is_apart(&w->plan, w->type, i)) {
        return;
    }
    kiln_kv at = kiln_nest_loop(&w->nest, *begin, *end, 1);
    if (w->plan.offset[i] >= 0) set_scalar(&w->from, (uint32_t)w->plan.offset[i], at);
    set_scalar(&w->at, i, start ? kiln_lower_op(lower, KILN_K_add, start, at) : at);
}

/* Loops over the index vectors, then over the window of each. */
static void emit_updates(scatter_walk *w)
{
    kiln_lower *lower = w->lower;
    uint32_t open = w->nest.n, rank = w->type->rank;
    kiln_kv begin = 0, end = 0, zero = kiln_lower_i64(lower, 0);
    int32_t shared = w->cut < rank ? w->plan.batch[w->cut] : -1;
    for (uint32_t i = 0; i < w->indices->rank; i++) {
        int32_t axis = w->plan.walk[i];
        if (axis < 0) continue;
        kiln_kv last = kiln_lower_i64(lower, w->updates->dims[axis]);
        kiln_kv at = kiln_nest_loop(&w->nest, axis == shared ? w->first : zero,
                                    axis == shared ? w->end : last, 1);
        set_scalar(&w->from, (uint32_t)axis, at);
    }
    for (uint32_t i = 0; i < rank; i++) open_axis(w, i, &begin, &end);
    bool is_last = rank > 0 && w->plan.offset[rank - 1] >= 0 &&
                   kiln_gather_is_apart(&w->plan, w->type, rank - 1);
    if (is_last) {
        uint32_t lanes = kiln_routine_lanes(lower, w->type->dims[rank - 1]);
        kiln_nest_lanes(lower, &(kiln_lanes_loop){begin, end, lanes, emit_vector, w});
    } else {
        emit_update(w);
    }
    kiln_nest_close(&w->nest, open);
}

/* Chooses the axis that tiles share; returns how much of it a tile has. */
static int64_t choose_cut(scatter_walk *w)
{
    int64_t longest = 1, block;
    w->cut = w->type->rank;
    for (uint32_t i = 0; i < w->type->rank; i++) {
        if (!kiln_gather_is_apart(&w->plan, w->type, i) || w->type->dims[i] <= longest) continue;
        longest = w->type->dims[i];
        w->cut = i;
    }
    if (w->cut == w->type->rank) return 1;
    int64_t work = (w->type->n_elements + w->updates->n_elements) / longest;
    block = kiln_ceil_div(TILE_WORK, kiln_max_i64(work, 1));
    if (w->cut + 1 == w->type->rank) block = kiln_ceil_div(block, 64) * 64;
    return block < longest ? block : longest;
}

void kiln_lower_scatter(kiln_lower *lower)
{
    scatter_walk w = {.lower = lower, .nest = {.lower = lower}};
    w.node = kiln_routine_node(lower);
    w.type = w.node->type;
    w.indices = kiln_graph_type(lower->graph, w.node->inputs[1]);
    w.updates = kiln_graph_type(lower->graph, w.node->inputs[2]);
    w.at.rank = w.type->rank;
    w.from.rank = w.updates->rank;
    lower->lanes = 1;
    kiln_gather_plan_make(w.node->attrs, w.type, w.indices, w.updates, &w.plan);
    int64_t block = choose_cut(&w), dim = w.cut < w.type->rank ? w.type->dims[w.cut] : 1;
    bool is_empty = w.type->n_elements == 0;
    kiln_kv tile = kiln_nest_tiles(&w.nest, is_empty ? 0 : kiln_ceil_div(dim, block));
    if (!is_empty) {
        w.first = kiln_lower_op_imm(lower, KILN_K_mul, tile, block);
        w.end = kiln_lower_op_imm(lower, KILN_K_add, w.first, block);
        w.end = kiln_lower_op_imm(lower, KILN_K_min, w.end, dim);
        emit_copy(&w);
        if (w.updates->n_elements > 0) emit_updates(&w);
    }
    kiln_nest_close(&w.nest, 0);
}
