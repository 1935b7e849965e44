/* The weights that the next contraction reads first. The runtime gives a worker an equal,
 * contiguous share of the tiles of every step, so it is known which columns it begins with. Another
 * number of threads gets other lines and the same bits. */
#include "codegen/ahead.h"

#include "base/checked.h"
#include "kiln/program.h"

static uint32_t find_weights(const kiln_group *group)
{
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *operand = &group->inputs[i];
        if (operand->consumer.id && operand->consumer.id != group->anchor.id) return i;
    }
    return KILN_NONE;
}

void kiln_ahead_plan(kiln_lower *lower, int64_t steps, int64_t n_tiles, kiln_ahead *out_ahead)
{
    *out_ahead = (kiln_ahead){0};
    uint32_t input = find_weights(lower->group);
    if (input == KILN_NONE) return;
    kiln_value next = lower->group->inputs[input].consumer;
    kiln_first_weights first;
    bool is_dot = kiln_graph_node(lower->graph, next)->op == KILN_OP_dot_general;
    if (!(is_dot ? kiln_dot_first_weights : kiln_conv_first_weights)(lower, next, &first)) return;
    int64_t most = kiln_tile_most_lines(steps, n_tiles) / first.n_panels;
    first.size = kiln_min_i64(first.size, most);
    *out_ahead = (kiln_ahead){
        .buffer = lower->buffer_of[input], .is_planned = first.size > 0, .first = first};
}

void kiln_ahead_begin(kiln_lower *lower, kiln_ahead *ahead, kiln_kv number)
{
    kiln_kernel *k = lower->kernel;
    if (!ahead->is_planned) return;
    int64_t n_threads = kiln_max_i64(1, lower->schedule->n_threads), n = k->n_tiles;
    kiln_kv after = kiln_k_add_imm(k, number, 1), zero = kiln_k_const_i64(k, 0);
    kiln_kv thread = kiln_k_div_imm(k, kiln_k_mul_imm(k, after, n_threads), n);
    kiln_kv end = kiln_k_div_imm(k, kiln_k_mul_imm(k, thread, n), n_threads);
    ahead->is_end = kiln_k_binary(k, KILN_K_eq, end, after);
    kiln_kv first = kiln_k_mul_imm(k, kiln_k_add_imm(k, thread, -1), ahead->first.n_tiles);
    first = kiln_k_max(k, kiln_k_div_imm(k, first, n_threads), zero);
    first = kiln_k_rem_imm(k, first, ahead->first.n_blocks);
    ahead->from = kiln_k_mul_imm(k, first, ahead->first.block);
}

kiln_kv kiln_ahead_columns(kiln_lower *lower, const kiln_ahead *ahead, kiln_kv first, kiln_kv end,
                           int64_t width)
{
    kiln_kernel *k = lower->kernel;
    if (!ahead->is_planned) return end;
    kiln_kv last = kiln_k_add_imm(k, end, -width);
    return kiln_k_select(k, ahead->is_end, kiln_k_max(k, first, last), end);
}

void kiln_ahead_fetch(const kiln_ahead *ahead, kiln_tile *tile, kiln_kv number, int64_t n_tiles,
                      int64_t steps)
{
    kiln_tile_next next = {.buffer = ahead->buffer,
                           .from = ahead->from,
                           .number = number,
                           .n_tiles = n_tiles,
                           .steps = steps,
                           .n_panels = ahead->first.n_panels,
                           .size = ahead->first.size,
                           .panel = ahead->first.panel};
    kiln_tile_fetch(tile, &next);
}
