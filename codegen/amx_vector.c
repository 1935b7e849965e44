/* The tiles of a block where there are no matrix tiles, by vectors: bytes by dots of four, bf16 by
 * dots of two. Everything else of amx.h stays as it is: formats, windows, copies, blocks, results.
 * A register tile holds a few rows of one or two panels; for each word of k one of A goes to all
 * lanes. Sums of integers are the same in any order; those of bf16 are one chain a run. */
#include "codegen/amx.h"
#include "codegen/gemm.h"

#define WORDS 16 /* of k in a step */
#define UNROLL 2

typedef struct vector_run {
    kiln_amx *amx;
    const kiln_amx_block *block;
    kiln_tile tile;           /* sums, rows, vectors */
    bool is_added;            /* the run sums what moving A adds */
    uint32_t panel, n_panels; /* of the register tile, the first one */
    kiln_kv row;              /* of the block, the first one of the register tile */
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
    if (run->is_added) return kiln_k_const_bits(k, KILN_i32, run->tile.lanes, KILN_AMX_MOVE);
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
    return amx->dot.a.mode == KILN_DOT_DIRECT ? kiln_amx_moved(amx, word) : word;
}

/* The product of bytes where those of A are moved: with sign they have none, and the reverse. */
static kiln_instr_op product_of(const kiln_amx *amx)
{
    if (!amx->is_moved) return amx->product;
    return amx->product == KILN_K_tile_dot_i8 ? KILN_K_dot4_u8i8 : KILN_K_dot4_i8u8;
}

/* Word `number` of the steps at elements at[0] of A and at[1] of B, the i-th of an iteration. What
 * moving adds has one row only: there it has sums of its own, as chains of one would wait. */
static void emit_word(vector_run *run, const kiln_kv at[2], kiln_kv number, uint32_t i)
{
    const kiln_amx *amx = run->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_tile *tile = &run->tile;
    uint32_t per_panel = KILN_TILE_SIDE / tile->lanes;
    kiln_kv columns[KILN_TILE_VECTORS], a = at[0], b = at[1];
    b = kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, number, KILN_TILE_SIDE));
    for (uint32_t v = 0; v < tile->vectors; v++) {
        int64_t offset = (run->panel + v / per_panel) * amx->panel_words +
                         (int64_t)(v % per_panel) * tile->lanes;
        kiln_kv from = kiln_k_add_imm(k, b, offset);
        columns[v] = kiln_k_load(k, amx->b_buffer, from, tile->lanes, 0, KILN_MEM_ALIGNED);
        columns[v] = kiln_k_bitcast(k, columns[v], sum_dtype(amx));
    }
    kiln_instr_op product = product_of(amx);
    int64_t per_word = amx->is_by_m ? 1 : amx->tile_k / WORDS;
    a = kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, number, per_word));
    uint32_t begin = run->is_added ? i : 0, end = run->is_added ? i + 1 : tile->rows;
    for (uint32_t r = begin; r < end; r++) {
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
        uint32_t vector = run->panel * KILN_TILE_SIDE / tile->lanes + i % tile->vectors;
        if (run->amx->is_moved)
            tile->sums[i] = kiln_k_binary(k, KILN_K_sub, tile->sums[i], run->amx->added[vector]);
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
    for (uint32_t i = 0; i < UNROLL; i++)
        emit_word(run, (kiln_kv[]){a, b}, kiln_k_add_imm(k, number, i), i);
    kiln_tile_loop_end(&run->tile);
    kiln_tile_loop_end(&run->tile);
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

/* The register tile of rows x some panels from `panel` on. */
static vector_run open_run(kiln_amx *amx, const kiln_amx_block *block, uint32_t panel)
{
    const kiln_machine *machine = amx->dot.lower->machine;
    uint32_t lanes = kiln_machine_lanes(machine, KILN_i32), left = block->vectors - panel;
    bool is_wide = machine->n_vector_registers >= 32;
    uint32_t most_panels = is_wide ? 2 : 1, panels = left < most_panels ? left : most_panels;
    if (lanes > KILN_TILE_SIDE) lanes = KILN_TILE_SIDE;
    return (vector_run){.amx = amx,
                        .block = block,
                        .panel = panel,
                        .n_panels = panels,
                        .tile = {.lower = amx->dot.lower,
                                 .dtype = sum_dtype(amx),
                                 .lanes = lanes,
                                 .rows = is_wide ? 8 : 4,
                                 .vectors = panels * (KILN_TILE_SIDE / lanes)}};
}

void kiln_amx_find_added(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    uint32_t n = 0;
    for (uint32_t panel = 0, panels; panel < block->vectors; panel += panels) {
        vector_run run = open_run(amx, block, panel);
        panels = run.n_panels;
        run.is_added = true;
        run.tile.rows = UNROLL;
        kiln_tile_zero(&run.tile);
        emit_steps(&run, block->a);
        const kiln_kv *sums = run.tile.sums;
        for (uint32_t v = 0; v < run.tile.vectors; v++)
            amx->added[n++] = kiln_k_binary(k, KILN_K_add, sums[v], sums[v + run.tile.vectors]);
    }
}

void kiln_amx_run_vectors(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_const_i64(k, block->rows * (int64_t)KILN_TILE_SIDE);
    for (uint32_t panel = 0, panels; panel < block->vectors; panel += panels) {
        vector_run run = open_run(amx, block, panel);
        panels = run.n_panels;
        run.row = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, run.tile.rows);
        uint32_t mark = kiln_lower_mark(lower);
        if (block->rest && block->rest->fetch && panel == 0)
            block->rest->fetch(amx, block->rest, run.row, run.tile.rows);
        emit_register_tile(&run);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
}
