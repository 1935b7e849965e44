/* Cumulative sums, products, maxima and minima. Along the last axis a row is walked in blocks of
 * 16: within a block each lane takes in the one 1, 2, 4 and 8 before it, then the total of the
 * blocks before comes in. Along other axes neighbouring rows are the lanes of vectors and each is
 * one chain. Either way the order depends on the shape alone. bf16 and f16 are kept in f32. */
#include "base/checked.h"
#include "codegen/lower_routine.h"
#include "codegen/math.h"

#define BLOCK 16
#define TILE_WORK 16384 /* elements of a tile, about */

typedef struct scan_walk {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *type;
    kiln_op fold; /* reduce_…: step and identity */
    kiln_dtype compute;
    uint32_t axis;
    int64_t n, n_outer, n_inner; /* elements along, before and after the axis */
    kiln_nest nest;
    kiln_index at;
} scan_walk;

static kiln_kv combine(const scan_walk *w, kiln_kv a, kiln_kv b)
{
    return kiln_math_combine(w->lower->kernel, w->fold, a, b);
}

static kiln_kv identity(const scan_walk *w, uint32_t lanes)
{
    return kiln_math_identity(w->lower->kernel, w->fold, w->compute, lanes);
}

/* Sets the index along the axis, from the far end when reversed. */
static void set_along(scan_walk *w, kiln_axis_index step)
{
    bool is_reversed = w->node->attrs->cumulative.reverse;
    w->at.axis[w->axis] = is_reversed ? kiln_axis_affine(w->lower, &step, -1, w->n - 1) : step;
}

static void store_value(const scan_walk *w, kiln_kv value)
{
    value = kiln_math_round_to(w->lower->kernel, value, w->type->dtype);
    kiln_lower_store(w->lower, 0, &w->at, value);
}

/* Lane i takes lane i - distance, the first ones the identity. */
static kiln_kv shift(const scan_walk *w, kiln_kv a, uint32_t distance)
{
    uint32_t lanes = w->lower->lanes;
    int64_t from[BLOCK];
    for (uint32_t i = 0; i < lanes; i++) from[i] = i < distance ? lanes + i : i - distance;
    return kiln_k_shuffle(w->lower->kernel, a, identity(w, lanes), lanes, from);
}

/* One block at `step` of the row; returns the total so far. */
static kiln_kv emit_block(scan_walk *w, kiln_kv step, kiln_kv before)
{
    kiln_lower *lower = w->lower;
    uint32_t lanes = lower->lanes;
    set_along(w, lanes == 1 ? kiln_axis_scalar(step, 1) : kiln_axis_vector(step, lanes));
    kiln_kv value = kiln_lower_value(lower, w->node->inputs[0], &w->at);
    for (uint32_t distance = 1; distance < lanes; distance *= 2)
        value = combine(w, shift(w, value, distance), value);
    kiln_kv spread = kiln_k_splat(lower->kernel, before, lanes);
    kiln_kv full = combine(w, spread, value);
    kiln_kv out = full;
    if (w->node->attrs->cumulative.exclusive)
        out = lanes == 1 ? before : combine(w, spread, shift(w, value, 1));
    store_value(w, out);
    return lanes == 1 ? full : kiln_k_extract(lower->kernel, full, lanes - 1);
}

static void emit_row(scan_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = 1;
    while (lanes < BLOCK && lanes < w->n) lanes *= 2;
    lower->lanes = lanes;
    int64_t whole = w->n / lanes * lanes;
    kiln_kv total = identity(w, 1);
    if (whole > 0) {
        kiln_kv end = kiln_lower_i64(lower, whole);
        kiln_kv step = kiln_nest_loop(&w->nest, kiln_lower_i64(lower, 0), end, lanes);
        kiln_kv carry = kiln_k_carry(k, total);
        kiln_k_next(k, carry, emit_block(w, step, carry));
        kiln_nest_close(&w->nest, w->nest.n - 1);
        total = kiln_k_last(k, carry);
    }
    if (whole < w->n) {
        lower->mask = kiln_k_active(k, lanes, kiln_lower_i64(lower, w->n - whole));
        emit_block(w, kiln_lower_i64(lower, whole), total);
        lower->mask = 0;
    }
    lower->lanes = 1;
}

/* A vector of neighbouring rows. */
static void emit_rows(kiln_lower *lower, void *state, kiln_axis_index inner)
{
    scan_walk *w = state;
    kiln_kernel *k = lower->kernel;
    uint32_t after = w->axis + 1;
    inner.extent = w->n_inner;
    kiln_lower_delinearize(lower, inner, w->type->rank - after, w->type->dims + after,
                           w->at.axis + after);
    kiln_kv step =
        kiln_nest_loop(&w->nest, kiln_lower_i64(lower, 0), kiln_lower_i64(lower, w->n), 1);
    kiln_kv carry = kiln_k_carry(k, identity(w, lower->lanes));
    set_along(w, kiln_axis_scalar(step, 1));
    kiln_kv next = combine(w, carry, kiln_lower_value(lower, w->node->inputs[0], &w->at));
    store_value(w, w->node->attrs->cumulative.exclusive ? carry : next);
    kiln_k_next(k, carry, next);
    kiln_nest_close(&w->nest, w->nest.n - 1);
}

static void set_outer(scan_walk *w, kiln_kv row)
{
    kiln_axis_index linear = kiln_axis_scalar(row, 1);
    linear.extent = w->n_outer;
    kiln_lower_delinearize(w->lower, linear, w->axis, w->type->dims, w->at.axis);
}

/* Rows of contiguous elements, several a tile. */
static void lower_last_axis(scan_walk *w)
{
    kiln_lower *lower = w->lower;
    int64_t per_tile = kiln_max_i64(1, TILE_WORK / kiln_max_i64(1, w->n));
    kiln_kv tile = kiln_nest_tiles(&w->nest, kiln_ceil_div(w->n_outer, per_tile));
    kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, tile, per_tile);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, per_tile);
    end = kiln_lower_op_imm(lower, KILN_K_min, end, w->n_outer);
    set_outer(w, kiln_nest_loop(&w->nest, first, end, 1));
    for (uint32_t i = w->axis + 1; i < w->type->rank; i++) w->at.axis[i] = kiln_axis_zero(lower);
    emit_row(w);
}

/* Blocks of rows side by side, one a tile. */
static void lower_inner_axis(scan_walk *w)
{
    kiln_lower *lower = w->lower;
    int64_t block = kiln_ceil_div(kiln_max_i64(1, TILE_WORK / w->n), 64) * 64;
    int64_t n_blocks = kiln_ceil_div(w->n_inner, block), n_tiles;
    if (!kiln_checked_mul(n_blocks, w->n_outer, &n_tiles)) n_tiles = INT64_MAX;
    kiln_kv tile = kiln_nest_tiles(&w->nest, n_tiles);
    set_outer(w, kiln_lower_op_imm(lower, KILN_K_div, tile, n_blocks));
    kiln_kv begin = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_blocks);
    begin = kiln_lower_op_imm(lower, KILN_K_mul, begin, block);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, begin, block);
    end = kiln_lower_op_imm(lower, KILN_K_min, end, w->n_inner);
    uint32_t lanes = kiln_routine_lanes(lower, w->n_inner);
    kiln_nest_lanes(lower, &(kiln_lanes_loop){begin, end, lanes, emit_rows, w});
}

void kiln_lower_cumulative(kiln_lower *lower)
{
    static const kiln_op folds[KILN_N_OPS] = {
        [KILN_OP_cumulative_sum] = KILN_OP_reduce_sum,
        [KILN_OP_cumulative_prod] = KILN_OP_reduce_prod,
        [KILN_OP_cumulative_max] = KILN_OP_reduce_max,
        [KILN_OP_cumulative_min] = KILN_OP_reduce_min,
    };
    scan_walk w = {.lower = lower, .nest = {.lower = lower}, .n_outer = 1, .n_inner = 1};
    w.node = kiln_routine_node(lower);
    w.type = w.node->type;
    w.fold = folds[w.node->op];
    w.compute = kiln_compute_dtype(w.type->dtype);
    w.axis = (uint32_t)w.node->attrs->cumulative.axis;
    w.n = w.type->dims[w.axis];
    w.at.rank = w.type->rank;
    for (uint32_t i = 0; i < w.axis; i++) w.n_outer *= w.type->dims[i];
    for (uint32_t i = w.axis + 1; i < w.type->rank; i++) w.n_inner *= w.type->dims[i];
    lower->lanes = 1;
    if (w.type->n_elements == 0)
        kiln_nest_tiles(&w.nest, 0);
    else if (w.n_inner == 1)
        lower_last_axis(&w);
    else
        lower_inner_axis(&w);
    kiln_nest_close(&w.nest, 0);
}
