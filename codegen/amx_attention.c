/* The products of an attention by matrix tiles, block of rows by block of rows. */
#include "codegen/amx_attention.h"

#include "base/checked.h"
#include "codegen/math.h"

#define VECTORS 2 /* panels of a group */
#define WIDTH (VECTORS * KILN_TILE_SIDE)
#define LANES KILN_TILE_K /* weights rounded at a time */

static void add_panels(kiln_amx *amx)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_amx_set_format(amx, KILN_FORMAT_BF16_K2N16);
    amx->dot.vectors = VECTORS;
    amx->k_padded = amx->k_block = kiln_round_up(amx->dot.roles.k_size, KILN_TILE_K);
    amx->k_here = amx->dot.roles.k_size;
    amx->k_here_padded = amx->k_padded;
    amx->k_first = kiln_k_const_i64(k, 0);
    amx->panel_words = amx->k_padded / 2 * KILN_TILE_SIDE;
    int64_t columns = kiln_round_up(amx->dot.roles.n_size, WIDTH);
    int64_t words = columns / KILN_TILE_SIDE * amx->panel_words;
    amx->b_buffer = kiln_kernel_add_local(k, KILN_u32, words);
}

void kiln_amx_attention_prepare(kiln_amx_attention *t, const kiln_dot *first,
                                const kiln_dot *second, int64_t block)
{
    kiln_lower *lower = first->lower;
    kiln_kernel *k = lower->kernel;
    t->block = block;
    t->first = (kiln_amx){.dot = *first};
    t->second = (kiln_amx){.dot = *second};
    add_panels(&t->first);
    add_panels(&t->second);
    t->first.dot.block_rows = block;
    kiln_amx_find_rows(&t->first);
    kiln_amx_add_local(&t->first);
    t->pitch = kiln_round_up(first->roles.n_size, WIDTH) + KILN_TILE_SIDE;
    t->scores = kiln_kernel_add_local(k, KILN_f32, KILN_AMX_ATTENTION_ROWS * t->pitch);
    kiln_amx *amx = &t->second;
    amx->a_row = amx->k_padded + KILN_TILE_K;
    amx->a_tile = amx->a_row * KILN_TILE_SIDE;
    amx->a_step = KILN_TILE_K;
    t->weights = kiln_kernel_add_local(k, KILN_u16, KILN_AMX_ATTENTION_ROWS * amx->a_row);
    amx->dot.a.source.buffer = t->weights;
    amx->sums = kiln_kernel_add_local(k, KILN_f32, KILN_AMX_ATTENTION_ROWS * WIDTH);
    amx->dot.epilogue = kiln_epilogue_plain(lower, lower->group->anchor, KILN_f32);
    amx->dot.epilogue.index = kiln_dot_result_index;
    amx->dot.epilogue.user = &amx->dot;
}

/* Panels of one batch element; an odd last one has zeros beside it. */
static void pack(kiln_amx *amx, kiln_kv batch)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    amx->dot.batch = batch;
    int64_t n = kiln_ceil_div(amx->dot.roles.n_size, KILN_TILE_SIDE);
    kiln_amx_pack_local(&amx->dot, amx->b_buffer);
    if (n % VECTORS == 0) return;
    kiln_kv begin = kiln_k_const_i64(k, n * amx->panel_words);
    kiln_kv end = kiln_k_const_i64(k, (n + 1) * amx->panel_words);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, KILN_TILE_SIDE);
    kiln_kv zero = kiln_k_const_bits(k, KILN_u32, KILN_TILE_SIDE, 0);
    kiln_k_store(k, amx->b_buffer, at, zero, 0, KILN_MEM_ALIGNED);
    kiln_k_end(k);
}

void kiln_amx_attention_pack(kiln_amx_attention *t, kiln_kv batch)
{
    pack(&t->first, batch);
    pack(&t->second, batch);
}

static kiln_amx_block make_block(const kiln_amx *amx, kiln_kv column, int64_t rows)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv panel = kiln_k_div_imm(k, column, KILN_TILE_SIDE);
    return (kiln_amx_block){.rows = (uint32_t)kiln_ceil_div(rows, KILN_TILE_SIDE),
                            .vectors = VECTORS,
                            .n = amx->k_padded / KILN_TILE_K,
                            .b = kiln_k_mul_imm(k, panel, amx->panel_words),
                            .is_fresh = true};
}

void kiln_amx_attention_scores(kiln_amx_attention *t, kiln_kv row, int64_t rows)
{
    kiln_amx *amx = &t->first;
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    amx->dot.first_row = row;
    kiln_amx_copy_rows(amx, row, kiln_k_add_imm(k, row, rows));
    kiln_kv a = kiln_amx_row_offset(amx, row);
    kiln_kv begin = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_const_i64(k, kiln_round_up(amx->dot.roles.n_size, WIDTH));
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, WIDTH);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_amx_block block = make_block(amx, column, rows);
    block.a = a;
    block.sums = t->scores;
    block.at = column;
    block.pitch = t->pitch;
    kiln_amx_run(amx, &block);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* 32 weights of a row from column `at` on, of which `left` exist, to bf16. They are bf16 numbers
 * already, as f32. */
static void round_weights(kiln_amx_attention *t, kiln_kv from, kiln_kv to, int64_t left)
{
    kiln_kernel *k = t->first.dot.lower->kernel;
    kiln_kv value = kiln_k_load(k, t->scores, from, LANES, 0, 0);
    kiln_kv shift = kiln_k_const_bits(k, KILN_u32, LANES, 16);
    kiln_kv bits = kiln_k_bitcast(k, value, KILN_u32);
    bits = kiln_k_convert(k, kiln_k_binary(k, KILN_K_shr, bits, shift), KILN_u16);
    kiln_kv mask = kiln_k_active(k, LANES, kiln_k_const_i64(k, left));
    if (mask) bits = kiln_k_select(k, mask, bits, kiln_k_const_bits(k, KILN_u16, LANES, 0));
    kiln_k_store(k, t->weights, to, bits, 0, KILN_MEM_ALIGNED);
}

static void copy_weights(kiln_amx_attention *t, int64_t rows)
{
    kiln_kernel *k = t->first.dot.lower->kernel;
    int64_t columns = t->second.dot.roles.k_size, whole = columns / LANES * LANES;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv r = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, rows), 1);
    kiln_kv from = kiln_k_mul_imm(k, r, t->pitch), to = kiln_k_mul_imm(k, r, t->second.a_row);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, LANES);
    kiln_kv here = kiln_k_binary(k, KILN_K_add, from, at);
    round_weights(t, here, kiln_k_binary(k, KILN_K_add, to, at), LANES);
    kiln_k_end(k);
    if (whole < columns)
        round_weights(t, kiln_k_add_imm(k, from, whole), kiln_k_add_imm(k, to, whole),
                      columns - whole);
    kiln_k_end(k);
}

/* Outputs of `vectors` panels from `column` on. */
static void emit_group(kiln_amx_attention *t, kiln_kv row, int64_t rows, kiln_amx_result *result)
{
    kiln_amx *amx = &t->second;
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t whole = rows / 4 * 4;
    kiln_amx_block block = make_block(amx, result->column, rows);
    block.vectors = result->vectors;
    block.a = block.at = result->sums = kiln_k_const_i64(k, 0);
    block.sums = amx->sums;
    kiln_amx_run(amx, &block);
    result->row = row;
    kiln_kv range[2] = {kiln_k_const_i64(k, 0), kiln_k_const_i64(k, whole)};
    if (whole) kiln_amx_store(amx, result, range, 4);
    range[0] = range[1];
    range[1] = kiln_k_const_i64(k, rows);
    if (whole < rows) kiln_amx_store(amx, result, range, 1);
}

void kiln_amx_attention_outputs(kiln_amx_attention *t, kiln_kv row, int64_t rows)
{
    kiln_lower *lower = t->second.dot.lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = t->second.dot.roles.n_size, whole = n / WIDTH * WIDTH;
    copy_weights(t, rows);
    kiln_amx_result result = {.vectors = VECTORS, .last = KILN_TILE_SIDE};
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    uint32_t mark = kiln_lower_mark(lower);
    if (whole) {
        result.column = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, WIDTH);
        emit_group(t, row, rows, &result);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
    if (whole == n) return;
    result.column = end;
    result.vectors = (uint32_t)kiln_ceil_div(n - whole, KILN_TILE_SIDE);
    result.last = (uint32_t)((n - 1) % KILN_TILE_SIDE + 1);
    emit_group(t, row, rows, &result);
    kiln_lower_cut(lower, mark);
}
