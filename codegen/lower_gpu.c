/* Pointwise and row groups on GPUs. Pointwise: a thread computes a vector of neighbouring elements
 * of the merged index space. Rows: 64 threads walk a row, thread j being logical lane j of the
 * CPU's rule, and halve the lanes in the same order in shared memory, so that sums have the CPU's
 * bits. */
#include "codegen/lower_gpu.h"

#include "base/checked.h"
#include "codegen/lower_row.h"

#define ELEMENTS 4 /* of a thread: 16 bytes of f32 */
#define ROWS (KILN_GPU_BLOCK / KILN_ROW_LANES)
#define KEEP_BYTES 8192 /* of a row: four rows stay below the 48 KB that any block may have */

kiln_kv kiln_gpu_open_threads(kiln_lower *lower, int64_t n_blocks, kiln_kv *out_block)
{
    kiln_kernel *k = lower->kernel;
    if (n_blocks > INT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld blocks; expected at most 2^31 - 1",
                  lower->group->label, (long long)n_blocks);
    k->n_tiles = (uint32_t)n_blocks;
    k->block_threads = KILN_GPU_BLOCK;
    *out_block = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    kiln_kv zero = kiln_lower_i64(lower, 0);
    return kiln_k_loop(k, KILN_LOOP_THREADS, zero, kiln_lower_i64(lower, KILN_GPU_BLOCK), 1);
}

void kiln_gpu_close_threads(kiln_lower *lower)
{
    kiln_k_end(lower->kernel);
    kiln_k_end(lower->kernel);
}

kiln_kv kiln_gpu_open_elements(kiln_lower *lower, int64_t n)
{
    kiln_kv block, thread, count = kiln_lower_i64(lower, n);
    thread = kiln_gpu_open_threads(lower, kiln_ceil_div(n, KILN_GPU_BLOCK), &block);
    kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, block, KILN_GPU_BLOCK);
    first = kiln_lower_op(lower, KILN_K_add, first, thread);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, 1);
    end = kiln_lower_op(lower, KILN_K_min, end, count);
    return kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, first, end, 1);
}

void kiln_gpu_close_elements(kiln_lower *lower)
{
    kiln_k_end(lower->kernel);
    kiln_gpu_close_threads(lower);
}

/* The thread's vector of outputs `first` to `end`, of one shape, if it exists: a loop of at most
 * one trip. */
static void emit_outputs(kiln_lower *lower, uint32_t first, uint32_t end, kiln_kv thread)
{
    kiln_kernel *k = lower->kernel;
    const kiln_operand *outputs = lower->group->outputs;
    const kiln_type *type = kiln_graph_type(lower->graph, outputs[first].value);
    kiln_kv begin = kiln_lower_op_imm(lower, KILN_K_mul, thread, lower->lanes);
    kiln_kv n = kiln_lower_i64(lower, type->n_elements);
    kiln_kv last =
        kiln_lower_op(lower, KILN_K_min, kiln_lower_op_imm(lower, KILN_K_add, begin, 1), n);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, last, lower->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    if (type->n_elements % lower->lanes != 0)
        lower->mask = kiln_k_active(k, lower->lanes, kiln_k_binary(k, KILN_K_sub, n, at));
    kiln_axis_index linear = kiln_axis_vector(at, lower->lanes);
    kiln_index index = {.rank = type->rank};
    linear.extent = type->n_elements;
    kiln_lower_delinearize(lower, linear, type->rank, type->dims, index.axis);
    kiln_kv *values = kiln_new_array(&lower->scope->arena, kiln_kv, end - first);
    for (uint32_t i = first; i < end; i++)
        values[i - first] = kiln_lower_value(lower, outputs[i].value, &index);
    for (uint32_t i = first; i < end; i++) kiln_lower_store(lower, i, &index, values[i - first]);
    lower->mask = 0;
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static bool is_same_shape(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

void kiln_lower_gpu_pointwise(kiln_lower *lower)
{
    const kiln_operand *outputs = lower->group->outputs;
    uint32_t n = lower->group->n_outputs;
    int64_t most = 0;
    lower->lanes = ELEMENTS;
    for (uint32_t i = 0; i < n; i++)
        most = kiln_max_i64(most, kiln_graph_type(lower->graph, outputs[i].value)->n_elements);
    kiln_kv block,
        thread =
            kiln_gpu_open_threads(lower, kiln_ceil_div(most, KILN_GPU_BLOCK * ELEMENTS), &block);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv before = kiln_lower_op_imm(lower, KILN_K_mul, block, KILN_GPU_BLOCK);
    thread = kiln_lower_op(lower, KILN_K_add, before, thread);
    for (uint32_t first = 0, end; first < n; first = end) {
        const kiln_type *type = kiln_graph_type(lower->graph, outputs[first].value);
        end = first + 1;
        while (end < n && is_same_shape(type, kiln_graph_type(lower->graph, outputs[end].value)))
            end++;
        if (type->n_elements > 0) emit_outputs(lower, first, end, thread);
    }
    kiln_lower_cut(lower, mark);
    kiln_gpu_close_threads(lower);
}

/* Lanes below `half` take the partial of the lane `half` above; every thread passes every barrier.
 */
static void tree_level(kiln_row_walk *w, kiln_partials *own, const uint32_t locals[2], int64_t half)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv slot = kiln_lower_op(lower, KILN_K_add, w->slot_base, w->thread_lane);
    kiln_kv other = kiln_lower_op_imm(lower, KILN_K_add, slot, half);
    kiln_kv is_low = kiln_lower_op(lower, KILN_K_lt, w->thread_lane, kiln_lower_i64(lower, half));
    kiln_partials above = *own;
    above.value[0] = kiln_k_load(k, locals[0], other, 1, is_low, 0);
    if (own->is_arg) above.at[0] = kiln_k_load(k, locals[1], other, 1, is_low, 0);
    kiln_partials_merge(lower, own, &above);
    kiln_k_store(k, locals[0], slot, own->value[0], is_low, 0);
    if (own->is_arg) kiln_k_store(k, locals[1], slot, own->at[0], is_low, 0);
    kiln_k_barrier(k);
}

static kiln_kv tree_of_threads(kiln_row_walk *w, kiln_partials *partials)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    uint32_t locals[2] = {kiln_kernel_add_local(k, partials->compute, KILN_GPU_BLOCK), 0};
    if (partials->is_arg) locals[1] = kiln_kernel_add_local(k, partials->position, KILN_GPU_BLOCK);
    kiln_kv slot = kiln_lower_op(lower, KILN_K_add, w->slot_base, w->thread_lane);
    kiln_k_store(k, locals[0], slot, partials->value[0], 0, 0);
    if (partials->is_arg) kiln_k_store(k, locals[1], slot, partials->at[0], 0, 0);
    kiln_k_barrier(k);
    for (int64_t half = KILN_ROW_LANES / 2; half > 0; half /= 2)
        tree_level(w, partials, locals, half);
    partials->value[0] = kiln_k_load(k, locals[0], w->slot_base, 1, 0, 0);
    if (partials->is_arg) partials->at[0] = kiln_k_load(k, locals[1], w->slot_base, 1, 0, 0);
    return kiln_partials_result(lower, partials, 0);
}

void kiln_lower_gpu_row(kiln_lower *lower)
{
    kiln_row_walk w = {.lower = lower, .tree = tree_of_threads};
    lower->lanes = 1;
    kiln_stages_find(lower, KEEP_BYTES, false, &w.stages);
    kiln_row_add_locals(&w, ROWS);
    int64_t n_rows = w.stages.n_results;
    kiln_kv block, thread = kiln_gpu_open_threads(lower, kiln_ceil_div(n_rows, ROWS), &block);
    uint32_t mark = kiln_lower_mark(lower);
    w.thread_lane = kiln_lower_op_imm(lower, KILN_K_rem, thread, KILN_ROW_LANES);
    kiln_kv within = kiln_lower_op_imm(lower, KILN_K_div, thread, KILN_ROW_LANES);
    kiln_kv row =
        kiln_lower_op(lower, KILN_K_add, kiln_lower_op_imm(lower, KILN_K_mul, block, ROWS), within);
    if (n_rows % ROWS != 0) {
        w.mask = kiln_lower_op(lower, KILN_K_lt, row, kiln_lower_i64(lower, n_rows));
        row = kiln_lower_op_imm(lower, KILN_K_min, row, kiln_max_i64(n_rows, 1) - 1);
    }
    w.small_mask = kiln_lower_op(lower, KILN_K_eq, w.thread_lane, kiln_lower_i64(lower, 0));
    w.small_mask = kiln_lower_and(lower, w.small_mask, w.mask);
    w.row = kiln_axis_scalar(row, 1);
    w.slot_base = kiln_lower_op_imm(lower, KILN_K_mul, within, KILN_ROW_LANES);
    int64_t room = kiln_round_up(w.stages.n_reduced, KILN_ROW_LANES);
    w.local_base = kiln_lower_op_imm(lower, KILN_K_mul, within, room);
    kiln_row_walk_all(&w);
    kiln_lower_cut(lower, mark);
    kiln_gpu_close_threads(lower);
}
