/* Pointwise groups with transposed operands: gathers along the output's innermost axis would touch
 * a cache line for each element. Instead both axes are cut into square blocks: the operand is read
 * along its own contiguous axis, the block is transposed in registers by log2(n) rounds of
 * shuffles, and the rest of the expression is computed along the output's. The last blocks of a
 * ragged axis begin earlier and make some elements again; where an axis is shorter than a block, or
 * an output may lie over an input, edges are masked. */
#include "codegen/lower_pointwise.h"

#include <string.h>

#include "base/checked.h"
#include "codegen/lower_stage.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define CHUNK_B 64  /* a tile: so many elements along the operand's axis … */
#define CHUNK_A 256 /* … and along the output's */

/* Of little work: a block of 16 compiles in 8 ms, one of 8 in 2, and such an output takes
 * microseconds either way. */
#define SMALL_LANES 8
#define SMALL_BLOCKS 131072 /* elements of such an output */
#define LEAST_LANES 4
/* What rows that gather cost beside their estimate: [32000,8,4] turned takes 0.38 ms by gathers of
 * 22.5 by estimate, 0.105 by blocks of 23. */
#define GATHERED 1.25
#define ZIP_BYTES 16 /* vectors in which two rows interleave by one instruction */

typedef struct block_plan {
    kiln_lower *lower;
    const kiln_type *type;
    uint32_t a0, b0, b1; /* output axes: a is [a0, rank), the stored vectors; b is [b0, b1) */
    int64_t n_a, n_b, n_outer;
    uint32_t n_outer_axes;
    uint32_t outer_axis[KILN_MAX_RANK];
    int64_t outer_dims[KILN_MAX_RANK];
    uint32_t lanes;
    bool reaches_back;          /* over an edge: an element may be stored twice */
    kiln_vec(kiln_value) views; /* transposed operands */
    kiln_axis_index outer;      /* at work */
} block_plan;

static void set_axes(block_plan *p, uint32_t a0, uint32_t b0, uint32_t b1)
{
    p->a0 = a0;
    p->b0 = b0;
    p->b1 = b1;
    p->n_a = p->n_b = p->n_outer = 1;
    p->n_outer_axes = 0;
    for (uint32_t i = 0; i < p->type->rank; i++) {
        int64_t dim = p->type->dims[i];
        if (i >= a0) {
            p->n_a *= dim;
        } else if (i >= b0 && i < b1) {
            p->n_b *= dim;
        } else {
            p->outer_axis[p->n_outer_axes] = i;
            p->outer_dims[p->n_outer_axes++] = dim;
            p->n_outer *= dim;
        }
    }
}

static kiln_index block_index(const block_plan *p, kiln_axis_index b, kiln_axis_index a)
{
    kiln_lower *lower = p->lower;
    kiln_index index = {.rank = p->type->rank};
    kiln_axis_index digits[KILN_MAX_RANK], outer = p->outer;
    outer.extent = p->n_outer;
    a.extent = p->n_a;
    b.extent = p->n_b;
    kiln_lower_delinearize(lower, outer, p->n_outer_axes, p->outer_dims, digits);
    for (uint32_t i = 0; i < p->n_outer_axes; i++) index.axis[p->outer_axis[i]] = digits[i];
    kiln_lower_delinearize(lower, b, p->b1 - p->b0, p->type->dims + p->b0, index.axis + p->b0);
    kiln_lower_delinearize(lower, a, index.rank - p->a0, p->type->dims + p->a0, index.axis + p->a0);
    return index;
}

/* base + i, kept below n where the block may reach over the edge. */
static kiln_axis_index line_axis(kiln_lower *lower, kiln_axis_index base, uint32_t i, int64_t edge)
{
    kiln_axis_index axis = kiln_axis_affine(lower, &base, 1, i);
    if (edge) axis = kiln_axis_scalar(kiln_lower_op_imm(lower, KILN_K_min, axis.base, edge - 1), 1);
    return axis;
}

/* The transpose of short vectors: in each round rows of the lower half interleave with those of the
 * upper one, which turns the bits of row and lane, read as one number, by one. */
static void zip_rows(kiln_kernel *k, kiln_kv *rows, uint32_t n)
{
    int64_t low[KILN_K_MAX_LANES], high[KILN_K_MAX_LANES];
    kiln_kv from[KILN_K_MAX_LANES];
    for (uint32_t lane = 0; lane < n; lane++) {
        low[lane] = lane / 2 + lane % 2 * n;
        high[lane] = low[lane] + n / 2;
    }
    for (uint32_t bit = 1; bit < n; bit *= 2) {
        memcpy(from, rows, n * sizeof *rows);
        for (uint32_t i = 0; i < n / 2; i++) {
            rows[2 * i] = kiln_k_shuffle(k, from[i], from[i + n / 2], n, low);
            rows[2 * i + 1] = kiln_k_shuffle(k, from[i], from[i + n / 2], n, high);
        }
    }
}

/* rows[i] lane j becomes rows[j] lane i: each round exchanges one bit of the row's number with the
 * same bit of the lane's. */
void kiln_lower_transpose(kiln_kernel *k, kiln_kv *rows, uint32_t n)
{
    if (n * kiln_dtype_bytes((kiln_dtype)kiln_kernel_at(k, rows[0])->dtype) <= ZIP_BYTES) {
        zip_rows(k, rows, n);
        return;
    }
    int64_t low[KILN_K_MAX_LANES], high[KILN_K_MAX_LANES];
    for (uint32_t bit = 1; bit < n; bit *= 2) {
        for (uint32_t lane = 0; lane < n; lane++) {
            low[lane] = lane & bit ? n + lane - bit : lane;
            high[lane] = lane & bit ? n + lane : lane + bit;
        }
        for (uint32_t i = 0; i < n; i++) {
            if (i & bit) continue;
            kiln_kv a = rows[i], b = rows[i + bit];
            rows[i] = kiln_k_shuffle(k, a, b, n, low);
            rows[i + bit] = kiln_k_shuffle(k, a, b, n, high);
        }
    }
}

/* Lines b + i of the block: the stored vectors. rows: n lines of each view. */
static void emit_lines(block_plan *p, kiln_axis_index b, kiln_axis_index a, const kiln_kv *rows,
                       bool is_edge)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    const kiln_group *group = lower->group;
    kiln_kv *values = kiln_new_array(&lower->scope->arena, kiln_kv, group->n_outputs);
    kiln_kv left_a = kiln_lower_op(lower, KILN_K_sub, kiln_lower_i64(lower, p->n_a), a.base);
    kiln_kv zero = kiln_lower_i64(lower, 0), n_b = kiln_lower_i64(lower, p->n_b);
    kiln_axis_index vector = a;
    vector.step = 1;
    for (uint32_t i = 0; i < p->lanes; i++) {
        kiln_index index = block_index(p, line_axis(lower, b, i, is_edge ? p->n_b : 0), vector);
        if (is_edge) {
            kiln_kv is_line = kiln_k_binary(k, KILN_K_lt, kiln_k_add_imm(k, b.base, i), n_b);
            lower->mask = kiln_k_active(k, p->lanes, kiln_k_select(k, is_line, left_a, zero));
        }
        for (uint32_t v = 0; v < p->views.n; v++)
            kiln_lower_bind(lower, p->views.at[v], rows[v * p->lanes + i]);
        for (uint32_t j = 0; j < group->n_outputs; j++)
            values[j] = kiln_lower_value(lower, group->outputs[j].value, &index);
        for (uint32_t j = 0; j < group->n_outputs; j++)
            kiln_lower_store(lower, j, &index, values[j]);
        kiln_lower_unbind(lower, p->views.n);
        lower->mask = 0;
    }
}

/* The block at scalars b and a. */
static void emit_block(block_plan *p, kiln_axis_index b, kiln_axis_index a, bool is_edge)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv *rows = kiln_new_array(&lower->scope->arena, kiln_kv, (size_t)p->views.n * p->lanes);
    kiln_axis_index vector = b;
    vector.step = 1;
    kiln_kv left_b = kiln_lower_op(lower, KILN_K_sub, kiln_lower_i64(lower, p->n_b), b.base);
    if (is_edge) lower->mask = kiln_k_active(k, p->lanes, left_b);
    for (uint32_t v = 0; v < p->views.n; v++) {
        kiln_kv *own = rows + v * p->lanes;
        for (uint32_t i = 0; i < p->lanes; i++) {
            kiln_axis_index line = line_axis(lower, a, i, is_edge ? p->n_a : 0);
            kiln_index index = block_index(p, vector, line);
            own[i] = kiln_lower_value(lower, p->views.at[v], &index);
        }
        kiln_lower_transpose(k, own, p->lanes);
    }
    lower->mask = 0;
    emit_lines(p, b, a, rows, is_edge);
}

/* Where the block at `at` begins that is to end within n. */
static kiln_axis_index block_begin(const block_plan *p, kiln_kv at, int64_t n)
{
    bool is_ragged = p->reaches_back && n % p->lanes;
    if (is_ragged) at = kiln_lower_op_imm(p->lower, KILN_K_min, at, n - p->lanes);
    return kiln_axis_scalar(at, is_ragged ? 1 : p->lanes);
}

/* The loop over blocks of a, from `begin` to `end`, at block b. */
static void emit_blocks(block_plan *p, kiln_kv b, kiln_kv range[2], bool is_edge)
{
    kiln_lower *lower = p->lower;
    kiln_kv a = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, range[0], range[1], p->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    emit_block(p, block_begin(p, b, p->n_b), block_begin(p, a, p->n_a), is_edge);
    kiln_lower_cut(lower, mark);
    kiln_k_end(lower->kernel);
}

/* Whole blocks of line b first, then those over an edge: a loop without trips where there are
 * none. */
static void emit_masked_blocks(block_plan *p, kiln_kv b, kiln_kv range[2])
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t whole_a = p->n_a / p->lanes * p->lanes, whole_b = p->n_b / p->lanes * p->lanes;
    kiln_kv a_whole = kiln_k_min(k, range[1], kiln_lower_i64(lower, whole_a));
    kiln_kv is_whole = kiln_k_binary(k, KILN_K_lt, b, kiln_lower_i64(lower, whole_b));
    kiln_kv rest = kiln_k_max(k, a_whole, range[0]);
    if (whole_b != p->n_b) rest = kiln_k_select(k, is_whole, rest, range[0]);
    if (whole_a > 0 && whole_b > 0) emit_blocks(p, b, (kiln_kv[]){range[0], rest}, false);
    if (whole_a != p->n_a || whole_b != p->n_b)
        emit_blocks(p, b, (kiln_kv[]){rest, range[1]}, true);
}

static void emit_tile(block_plan *p, kiln_kv chunk_b, kiln_kv chunk_a)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv b_begin = kiln_k_mul_imm(k, chunk_b, CHUNK_B),
            a_begin = kiln_k_mul_imm(k, chunk_a, CHUNK_A);
    kiln_kv b_end =
        kiln_k_min(k, kiln_k_add_imm(k, b_begin, CHUNK_B), kiln_lower_i64(lower, p->n_b));
    kiln_kv a_end =
        kiln_k_min(k, kiln_k_add_imm(k, a_begin, CHUNK_A), kiln_lower_i64(lower, p->n_a));
    kiln_kv b = kiln_k_loop(k, KILN_LOOP_SERIAL, b_begin, b_end, p->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    if (p->reaches_back)
        emit_blocks(p, b, (kiln_kv[]){a_begin, a_end}, false);
    else
        emit_masked_blocks(p, b, (kiln_kv[]){a_begin, a_end});
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static void emit_tiles(block_plan *p)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t chunks_a = kiln_ceil_div(p->n_a, CHUNK_A), chunks_b = kiln_ceil_div(p->n_b, CHUNK_B);
    lower->lanes = p->lanes;
    k->n_tiles = (uint32_t)(p->n_outer * chunks_a * chunks_b);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv chunk_a = kiln_lower_op_imm(lower, KILN_K_rem, tile, chunks_a);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, tile, chunks_a);
    kiln_kv chunk_b = kiln_lower_op_imm(lower, KILN_K_rem, rest, chunks_b);
    p->outer = kiln_axis_scalar(kiln_lower_op_imm(lower, KILN_K_div, rest, chunks_b), 1);
    if (p->n_outer == 1) p->outer = kiln_axis_zero(lower);
    emit_tile(p, chunk_b, chunk_a);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Views that are read at the stored index only: all above them is ELEMENTWISE. */
static void find_views(block_plan *p)
{
    kiln_lower *lower = p->lower;
    const kiln_group *group = lower->group;
    bool *is_mixed = kiln_new_array(&lower->scope->arena, bool, group->n_nodes + 1);
    for (uint32_t i = group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(lower->graph, group->nodes[i]);
        bool is_map = kiln_node_row(node)->class_ == KILN_ELEMENTWISE;
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            if (at != KILN_NONE && (is_mixed[i] || !is_map)) is_mixed[at] = true;
        }
        bool is_view = kiln_node_row(node)->class_ == KILN_VIEW && node->type->dtype != KILN_bool;
        if (is_view && !is_mixed[i])
            kiln_vec_push(&p->views, &lower->scope->arena, group->nodes[i]);
    }
}

/* A scratch plan inside a tile loop. */
static block_plan trial_plan(const block_plan *p, kiln_lower *scratch)
{
    block_plan trial = *p;
    *scratch = kiln_lower_scratch(p->lower);
    scratch->lanes = p->lanes;
    trial.lower = scratch;
    kiln_kernel *k = scratch->kernel;
    trial.outer = kiln_axis_scalar(
        kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1), 1);
    return trial;
}

/* Whether a view is read without gathers along b, or along a. */
static bool reads_evenly(const block_plan *p, kiln_value view, bool along_b)
{
    kiln_lower scratch;
    block_plan trial = trial_plan(p, &scratch);
    uint32_t first = scratch.kernel->instrs.n;
    kiln_kv at = kiln_k_tile_end(scratch.kernel);
    kiln_axis_index scalar = kiln_axis_scalar(at, p->lanes),
                    vector = kiln_axis_vector(at, p->lanes);
    kiln_index index = block_index(&trial, along_b ? vector : scalar, along_b ? scalar : vector);
    kiln_lower_value(&scratch, view, &index);
    for (uint32_t i = first; i < scratch.kernel->instrs.n; i++)
        if (scratch.kernel->instrs.at[i].op == KILN_K_gather) return false;
    return true;
}

static double block_cost(const block_plan *p)
{
    kiln_lower scratch;
    block_plan trial = trial_plan(p, &scratch);
    uint32_t first = scratch.kernel->instrs.n;
    kiln_axis_index at = kiln_axis_scalar(kiln_k_tile_end(scratch.kernel), p->lanes);
    emit_block(&trial, at, at, false);
    double blocks =
        (double)kiln_ceil_div(p->n_a, p->lanes) * (double)kiln_ceil_div(p->n_b, p->lanes);
    return kiln_lower_cost(scratch.kernel, first) * blocks * (double)p->n_outer;
}

/* The operand's contiguous axis: the first on which some view that gathers along a does not. */
static bool find_axes(block_plan *p)
{
    uint32_t last = p->type->rank - 1;
    for (uint32_t axis = last; axis-- > 0;) {
        if (p->type->dims[axis] == 1) continue;
        set_axes(p, last, axis, axis + 1);
        for (uint32_t v = 0; v < p->views.n; v++)
            if (!reads_evenly(p, p->views.at[v], false) && reads_evenly(p, p->views.at[v], true))
                return true;
    }
    return false;
}

/* Keeps the views that the blocks help; false when none is left. */
static bool keep_views(block_plan *p)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < p->views.n; v++)
        if (!reads_evenly(p, p->views.at[v], false) && reads_evenly(p, p->views.at[v], true))
            p->views.at[n++] = p->views.at[v];
    p->views.n = n;
    return n > 0;
}

static bool all_read_evenly_along_b(const block_plan *p)
{
    for (uint32_t v = 0; v < p->views.n; v++)
        if (!reads_evenly(p, p->views.at[v], true)) return false;
    return true;
}

/* Merges axes into b while the views stay contiguous, and into a while that costs nothing. */
static double widen(block_plan *p)
{
    while (p->b0 > 0) {
        block_plan wider = *p;
        set_axes(&wider, p->a0, p->b0 - 1, p->b1);
        if (!all_read_evenly_along_b(&wider)) break;
        *p = wider;
    }
    double best = block_cost(p);
    for (uint32_t a0 = p->a0; a0-- > p->b1;) {
        block_plan wider = *p;
        set_axes(&wider, a0, p->b0, p->b1);
        double cost = block_cost(&wider);
        if (cost > best) break;
        best = cost;
        *p = wider;
    }
    return best;
}

/* Axes shorter than a block are cut into narrower ones where that is less work. */
static double narrow(block_plan *p, double best)
{
    block_plan trial = *p;
    while (trial.lanes > LEAST_LANES && trial.lanes / 2 >= kiln_min_i64(p->n_a, p->n_b)) {
        trial.lanes /= 2;
        double cost = block_cost(&trial);
        if (cost > best) continue;
        best = cost;
        *p = trial;
    }
    return best;
}

bool kiln_lower_blocks(kiln_lower *lower, const kiln_type *type, double cost_of_rows)
{
    block_plan p = {.lower = lower, .type = type, .lanes = lower->lanes > 16 ? 16 : lower->lanes};
    if (type->rank < 2 || type->n_elements == 0) return false;
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        kiln_dtype dtype = kiln_graph_type(lower->graph, lower->group->nodes[i])->dtype;
        if (p.lanes > 8 && kiln_dtype_bytes(dtype) == 8) p.lanes = 8;
    }
    if (type->n_elements < SMALL_BLOCKS && p.lanes > SMALL_LANES) p.lanes = SMALL_LANES;
    find_views(&p);
    if (p.views.n == 0 || !find_axes(&p) || !keep_views(&p)) return false;
    if (narrow(&p, widen(&p)) >= GATHERED * cost_of_rows) return false;
    p.reaches_back = p.n_a >= p.lanes && p.n_b >= p.lanes && !kiln_lower_writes_over_inputs(lower);
    emit_tiles(&p);
    return true;
}
