/* The weights that the next product of the schedule reads first: whoever computes the last columns
 * of its share asks for them as k runs, for they come from the third cache or from memory, and a
 * product that begins with cold panels waits 10 µs for them. The runtime gives a worker an equal,
 * contiguous share of the tiles of every step, so it is known which columns it begins with. Hints
 * only: another number of threads gets other lines and the same bits. */
#include "codegen/lower_dot.h"

#include "base/checked.h"
#include "kiln/program.h"

#define STEPS 4 /* of k between two requests */
#define MOST_LINES 4

static uint32_t find_weights(const kiln_dot *dot)
{
    const kiln_group *group = dot->lower->group;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *operand = &group->inputs[i];
        if (operand->format == KILN_FORMAT_PANEL16 && operand->consumer.id != group->anchor.id)
            return i;
    }
    return KILN_NONE;
}

static kiln_dot describe_next(const kiln_dot *dot, kiln_value anchor)
{
    const kiln_lower *lower = dot->lower;
    kiln_dot next = {.lower = dot->lower, .dtype = dot->dtype, .lanes = dot->lanes};
    kiln_dot_roles(&lower->scope->arena, lower->graph, anchor, &next.roles);
    const kiln_matmul_roles *roles = &next.roles;
    kiln_tile_choice choice =
        kiln_tile_choose(lower->machine, next.lanes, roles->m_size, roles->n_size, roles->k_size);
    next.rows = choice.rows;
    next.vectors = choice.vectors;
    kiln_dot_choose_blocks(&next, choice.cycles);
    return next;
}

void kiln_dot_plan_ahead(kiln_dot *dot)
{
    uint32_t input = find_weights(dot);
    if (input == KILN_NONE || dot->dtype != KILN_f32 || dot->is_streamed) return;
    kiln_dot next = describe_next(dot, dot->lower->group->inputs[input].consumer);
    if (next.roles.batch_size != 1) return;
    int64_t n_panels = (int64_t)next.vectors * next.lanes / KILN_PANEL;
    int64_t wanted = n_panels * next.k_block_size;
    int64_t last = dot->roles.k_size - (dot->n_k_blocks - 1) * dot->k_block_size;
    int64_t n_tiles = kiln_min_i64(dot->block_rows, dot->roles.m_size) / dot->rows;
    int64_t requests = last / STEPS * n_tiles;
    kiln_dot_ahead ahead = {.buffer = dot->lower->buffer_of[input],
                            .lines = 1,
                            .per_tile = last / STEPS,
                            .block_size = next.k_block_size,
                            .panel = next.roles.k_size * KILN_PANEL,
                            .n_tiles = next.n_row_blocks * next.n_column_blocks,
                            .n_column_blocks = next.n_column_blocks,
                            .columns = next.block_columns * next.roles.k_size};
    while (ahead.lines < MOST_LINES && ahead.lines * requests < wanted) ahead.lines *= 2;
    ahead.per_tile *= ahead.lines;
    if (ahead.lines * requests >= wanted) dot->ahead = ahead;
}

void kiln_dot_begin_ahead(kiln_dot *dot, kiln_kv number)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_dot_ahead *ahead = &dot->ahead;
    if (!ahead->lines) return;
    int64_t n_threads = kiln_max_i64(1, dot->lower->schedule->n_threads), n = k->n_tiles;
    kiln_kv after = kiln_k_add_imm(k, number, 1), zero = kiln_k_const_i64(k, 0);
    kiln_kv thread = kiln_k_div_imm(k, kiln_k_mul_imm(k, after, n_threads), n);
    kiln_kv end = kiln_k_div_imm(k, kiln_k_mul_imm(k, thread, n), n_threads);
    ahead->is_end = kiln_k_binary(k, KILN_K_eq, end, after);
    kiln_kv first = kiln_k_mul_imm(k, kiln_k_add_imm(k, thread, -1), ahead->n_tiles);
    first = kiln_k_max(k, kiln_k_div_imm(k, first, n_threads), zero);
    first = kiln_k_rem_imm(k, first, ahead->n_column_blocks);
    ahead->from = kiln_k_mul_imm(k, first, ahead->columns);
}

kiln_kv kiln_dot_last_columns(kiln_dot *dot, kiln_kv first, kiln_kv end)
{
    kiln_kernel *k = dot->lower->kernel;
    if (!dot->ahead.lines || !dot->is_last) return end;
    kiln_kv last = kiln_k_add_imm(k, end, -(int64_t)dot->vectors * dot->lanes);
    return kiln_k_select(k, dot->ahead.is_end, kiln_k_max(k, first, last), end);
}

void kiln_dot_fetch_ahead(kiln_dot *dot, kiln_tile *tile, kiln_kv row)
{
    kiln_kernel *k = dot->lower->kernel;
    const kiln_dot_ahead *ahead = &dot->ahead;
    kiln_kv index = kiln_k_div_imm(k, kiln_k_binary(k, KILN_K_sub, row, dot->first_row), dot->rows);
    kiln_kv line = kiln_k_mul_imm(k, index, ahead->per_tile);
    kiln_kv panel = kiln_k_mul_imm(k, kiln_k_div_imm(k, line, ahead->block_size), ahead->panel);
    line = kiln_k_mul_imm(k, kiln_k_rem_imm(k, line, ahead->block_size), KILN_PANEL);
    kiln_kv from = kiln_k_binary(k, KILN_K_add, ahead->from, panel);
    tile->far = kiln_k_binary(k, KILN_K_add, from, line);
    tile->far_lines = ahead->lines;
    tile->far_buffer = ahead->buffer;
}
