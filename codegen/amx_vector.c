/* The tiles of a block where there are no matrix tiles, by vectors: bytes by dots of four, bf16 by
 * dots of two. Everything else of amx.h stays as it is: formats, windows, copies, blocks, results.
 * A register tile holds a few rows of one or two panels; for each word of k one of A goes to all
 * lanes. Sums of integers are the same in any order; those of bf16 are one chain a run. */
#include "codegen/amx.h"
#include "codegen/gemm.h"

#define WORDS 16 /* of k in a step */
#define UNROLL 2

#define MOVE 0x80808080 /* 128 more for each of four bytes */

typedef struct vector_run {
    kiln_amx *amx;
    const kiln_amx_block *block;
    kiln_tile tile; /* sums, rows, vectors */
    /* Bytes with sign by bytes with sign, for a machine whose first ones have none: those of A are
       128 more, and what that adds is taken off the sums before they start. */
    bool is_moved, is_added; /* this run sums what that adds */
    kiln_kv added[KILN_TILE_VECTORS];
    uint32_t panel; /* the first one of the register tile */
    kiln_kv row;    /* of the block, the first one of the register tile */
} vector_run;

/* The dtype of a vector: sums, and words that multiply. */
static kiln_dtype sum_dtype(const kiln_amx *amx)
{
    return amx->product == KILN_K_tile_dot_bf16 ? KILN_f32 : KILN_i32;
}

/* A word of row `row` of the register tile in all lanes. */
static kiln_kv load_word(const vector_run *run, kiln_kv at, uint32_t row)
{
    const kiln_amx *amx = run->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv move = 0;
    if (run->is_moved) move = kiln_k_const_bits(k, KILN_i32, run->tile.lanes, MOVE);
    if (run->is_added) return move;
    uint32_t buffer = amx->dot.a.source.buffer;
    uint32_t n = (uint32_t)amx->tile_k / WORDS;
    kiln_kv word, parts[4];
    at = kiln_k_add_imm(k, at, row * amx->a_row);
    if (amx->is_by_m) {
        word = kiln_k_load(k, buffer, at, 1, 0, 0);
    } else {
        for (uint32_t i = 0; i < n; i++)
            parts[i] = kiln_k_load(k, buffer, kiln_k_add_imm(k, at, i), 1, 0, 0);
        word = n == 4 ? kiln_byte_word(k, parts) : kiln_half_word(k, parts);
    }
    word = kiln_k_splat(k, kiln_k_bitcast(k, word, sum_dtype(amx)), run->tile.lanes);
    return move ? kiln_k_binary(k, KILN_K_xor, word, move) : word;
}

/* Word `number` of the steps at element `a` of A and `b` of B. */
static void emit_word(vector_run *run, kiln_kv a, kiln_kv b, kiln_kv number)
{
    const kiln_amx *amx = run->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_tile *tile = &run->tile;
    uint32_t per_panel = KILN_TILE_SIDE / tile->lanes;
    kiln_kv columns[KILN_TILE_VECTORS];
    b = kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, number, KILN_TILE_SIDE));
    for (uint32_t v = 0; v < tile->vectors; v++) {
        int64_t offset = (run->panel + v / per_panel) * amx->panel_words +
                         (int64_t)(v % per_panel) * tile->lanes;
        kiln_kv at = kiln_k_add_imm(k, b, offset);
        columns[v] = kiln_k_load(k, amx->b_buffer, at, tile->lanes, 0, KILN_MEM_ALIGNED);
        columns[v] = kiln_k_bitcast(k, columns[v], sum_dtype(amx));
    }
    kiln_instr_op product = run->is_moved ? KILN_K_dot4_u8i8 : amx->product;
    int64_t per_word = amx->is_by_m ? 1 : amx->tile_k / WORDS;
    a = kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, number, per_word));
    for (uint32_t r = 0; r < tile->rows; r++) {
        kiln_kv word = load_word(run, a, r), *sums = tile->sums + r * tile->vectors;
        for (uint32_t v = 0; v < tile->vectors; v++) {
            if (amx->product == KILN_K_tile_dot_bf16)
                sums[v] = kiln_k_dot2(k, word, columns[v], sums[v]);
            else
                sums[v] = kiln_k_dot4(k, product, word, columns[v], sums[v]);
        }
    }
}

/* Where the sums of a vector stand. */
static kiln_kv place_of(const vector_run *run, uint32_t row, uint32_t vector)
{
    const kiln_amx *amx = run->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t pitch = kiln_amx_pitch(amx, run->block);
    kiln_kv at = kiln_k_mul_imm(k, kiln_k_add_imm(k, run->row, row), pitch);
    at = kiln_k_binary(k, KILN_K_add, run->block->at, at);
    return kiln_k_add_imm(k, at, run->panel * KILN_TILE_SIDE + (int64_t)vector * run->tile.lanes);
}

static void load_sums(vector_run *run)
{
    kiln_kernel *k = run->amx->dot.lower->kernel;
    kiln_tile *tile = &run->tile;
    kiln_tile_zero(tile);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        if (!run->block->is_fresh) {
            kiln_kv at = place_of(run, i / tile->vectors, i % tile->vectors);
            kiln_kv sum = kiln_k_load(k, run->block->sums, at, tile->lanes, 0, 0);
            tile->sums[i] = kiln_k_bitcast(k, sum, sum_dtype(run->amx));
        }
        if (run->is_moved)
            tile->sums[i] = kiln_k_binary(k, KILN_K_sub, tile->sums[i],
                                          run->added[i % tile->vectors]);
    }
}

static void store_sums(vector_run *run)
{
    kiln_kernel *k = run->amx->dot.lower->kernel;
    kiln_tile *tile = &run->tile;
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        kiln_kv at = place_of(run, i / tile->vectors, i % tile->vectors);
        kiln_kv sum = kiln_k_bitcast(k, tile->sums[i], run->amx->dot.dtype);
        kiln_k_store(k, run->block->sums, at, sum, 0, 0);
    }
}

/* All steps of a register tile whose rows stand from element `row` of A on. */
static void emit_steps(vector_run *run, kiln_kv row)
{
    kiln_amx *amx = run->amx;
    const kiln_amx_block *block = run->block;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), words = kiln_k_const_i64(k, WORDS);
    kiln_kv step = kiln_tile_loop(&run->tile, zero, kiln_k_const_i64(k, block->n), 1);
    kiln_kv a = kiln_k_binary(k, KILN_K_add, row, kiln_amx_step_offset(amx, block, step));
    kiln_kv b = kiln_k_mul_imm(k, step, KILN_TILE_WORDS);
    b = kiln_k_binary(k, KILN_K_add, block->b, b);
    kiln_kv number = kiln_tile_loop(&run->tile, zero, words, UNROLL);
    for (uint32_t i = 0; i < UNROLL; i++) emit_word(run, a, b, kiln_k_add_imm(k, number, i));
    kiln_tile_loop_end(&run->tile);
    kiln_tile_loop_end(&run->tile);
}

/* What 128 more in every byte of A adds to a sum of each column. */
static void emit_added(vector_run *run)
{
    vector_run columns = *run;
    columns.is_added = true;
    columns.tile.rows = 1;
    kiln_tile_zero(&columns.tile);
    emit_steps(&columns, run->block->a);
    for (uint32_t v = 0; v < run->tile.vectors; v++) run->added[v] = columns.tile.sums[v];
}

static void emit_register_tile(vector_run *run)
{
    kiln_amx *amx = run->amx;
    const kiln_amx_block *block = run->block;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv tile_row = kiln_k_mul_imm(k, kiln_k_div_imm(k, run->row, KILN_TILE_SIDE), amx->a_tile);
    kiln_kv row = kiln_k_mul_imm(k, kiln_k_rem_imm(k, run->row, KILN_TILE_SIDE), amx->a_row);
    row = kiln_k_binary(k, KILN_K_add, block->a, kiln_k_binary(k, KILN_K_add, tile_row, row));
    load_sums(run);
    emit_steps(run, row);
    store_sums(run);
}

void kiln_amx_run_vectors(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = kiln_machine_lanes(lower->machine, KILN_i32);
    if (lanes > KILN_TILE_SIDE) lanes = KILN_TILE_SIDE;
    bool is_wide = lower->machine->n_vector_registers >= 32;
    uint32_t rows = is_wide ? 8 : 4, most_panels = is_wide ? 2 : 1;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_const_i64(k, block->rows * (int64_t)KILN_TILE_SIDE);
    for (uint32_t panel = 0; panel < block->vectors; panel += most_panels) {
        uint32_t left = block->vectors - panel, panels = left < most_panels ? left : most_panels;
        vector_run run = {.amx = amx, .block = block, .panel = panel};
        run.is_moved = lower->machine->has_vnni && amx->product == KILN_K_tile_dot_i8;
        run.tile = (kiln_tile){.lower = lower,
                               .dtype = sum_dtype(amx),
                               .lanes = lanes,
                               .rows = rows,
                               .vectors = panels * (KILN_TILE_SIDE / lanes)};
        if (run.is_moved) emit_added(&run);
        run.row = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, rows);
        uint32_t mark = kiln_lower_mark(lower);
        emit_register_tile(&run);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
}
