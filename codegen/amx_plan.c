/* How a contraction by tiles is cut: tiles of a block, runs and blocks of k, work tiles. */
#include "base/checked.h"
#include "codegen/amx.h"

#define BLOCK_BYTES (1024 * 1024)  /* of A, in the second cache */
#define RUN_STEPS 16               /* of bf16: 32 KiB of two panels in the first cache */
#define EXACT_STEPS 64             /* of bytes, by vectors: 128 KiB, which the second cache gives */
#define FRESH_STEPS 32             /* of more than so many, and rows, every run has fresh sums */
#define X6_K 512                   /* k of a block */
#define FRESH_ELEMENTS (512 * 512) /* of A, half a megabyte: more of it fights with B */
#define AHEAD_BYTES (512 * 1024)   /* more of B than this does not wait in the second cache */
#define FRESH_ROWS 512             /* higher blocks read B less often, where k is cut for them */
#define FRESH_FEW_ROWS 256         /* with FRESH_COLUMNS: sums that stay near the second cache */
#define FRESH_COLUMNS 2048
#define NEAR_BYTES (256 * 1024)
#define NEAR_ROWS 96
#define TILE_CYCLES 20000.0 /* fewer are not worth handing out */
#define TILES_PER_THREAD 4
#define NEAR_TILES 4     /* of one thread: rows and sums stay near; 7 % of BERT at batch 8 */
#define FAR_PER_THREAD 2 /* where B is far: lower row blocks read it more often */

/* Tiles of a block. More sums mean fewer loads a product; a last block of one tile's rows would be
 * bound by the latency of its few sums, so numbers of rows that leave one are cut in twos. */
static void choose_block(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    int64_t rows = kiln_ceil_div(dot->roles.m_size, KILN_TILE_SIDE);
    int64_t panels = kiln_ceil_div(dot->roles.n_size, KILN_TILE_SIDE);
    bool is_two = rows % 2 == 0 || amx->n_parts == 3 || rows % 3 == 1;
    dot->rows = rows == 1 ? 1 : is_two ? 2 : 3;
    dot->vectors = rows == 1 ? 4 : 2;
    if (panels < dot->vectors) dot->vectors = (uint32_t)panels;
}

/* The most steps of a run. Sums of bytes are exact in any order, and vectors are slow enough for
 * the second cache: sums that stay in registers save 2 to 4 % of 2,048^3. */
static int64_t most_steps(const kiln_amx *amx)
{
    bool is_exact = amx->product != KILN_K_tile_dot_bf16;
    return is_exact && !amx->dot.lower->machine->has_amx ? EXACT_STEPS : RUN_STEPS;
}

/* Runs of one length, a whole number of iterations: they decide the bits, so the shape alone
 * decides them. Few rows read B from memory, where all of k at a time is better (128 x 768 x 3,072:
 * 266 us, 300 with fresh runs); copies of convolutions hold all of k. */
static void choose_runs(kiln_amx *amx)
{
    bool is_x6 = amx->n_parts == 3, is_dot = !amx->add_local;
    int64_t n = amx->k_padded / amx->tile_k, n_runs = kiln_ceil_div(n, most_steps(amx));
    amx->k_block = amx->k_padded;
    amx->run = kiln_round_up(kiln_ceil_div(n, n_runs), 2);
    if (is_x6) amx->run = KILN_X6_CHUNK / KILN_TILE_K;
    bool is_large = n > FRESH_STEPS && amx->dot.roles.m_size >= FRESH_ROWS;
    amx->is_fresh = is_x6 || (is_dot && amx->dot.dtype == KILN_f32 && is_large);
    amx->is_deferred = !amx->is_fresh && n > amx->run;
}

/* The most rows of a block with fresh sums, so that every thread has its share of them. */
static int64_t fresh_rows(const kiln_amx *amx)
{
    if (amx->n_parts == 3) return FRESH_FEW_ROWS;
    int64_t share = amx->dot.lower->schedule->n_threads * FAR_PER_THREAD;
    int64_t rows = kiln_ceil_div(amx->dot.roles.m_size, kiln_max_i64(share, 1));
    return rows < FRESH_ROWS ? FRESH_FEW_ROWS : FRESH_ROWS;
}

/* Blocks of k, whole runs: no bits depend on them. */
static void choose_k(kiln_amx *amx)
{
    int64_t most = amx->n_parts == 3 ? X6_K : FRESH_ELEMENTS / fresh_rows(amx);
    int64_t run = amx->run * amx->tile_k;
    if (!amx->is_fresh || amx->dot.a.mode == KILN_DOT_DIRECT) return;
    most = kiln_max_i64(most / run * run, run);
    amx->k_block = kiln_min_i64(most, amx->k_padded);
}

/* Row blocks as high as the second cache holds; then cut until every thread has some. */
static void choose_work(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t rows = dot->rows * KILN_TILE_SIDE, width = dot->vectors * KILN_TILE_SIDE;
    int64_t row_bytes = 64 / amx->tile_k * amx->n_parts * amx->k_block;
    int64_t most_rows = kiln_max_i64(rows, BLOCK_BYTES / row_bytes / rows * rows);
    int64_t near_rows = amx->near_rows ? amx->near_rows : NEAR_ROWS;
    /* Where all of B stays in the cache, few rows at a time: their results and what is added to
     * them lie together. */
    amx->is_near = amx->n_parts == 1 && roles->n_size * row_bytes <= NEAR_BYTES;
    if (amx->is_near) most_rows = kiln_min_i64(most_rows, near_rows / rows * rows);
    int64_t n_rows = kiln_ceil_div(roles->m_size, most_rows), n_columns = 1;
    if (amx->is_fresh) {
        most_rows = kiln_min_i64(most_rows, fresh_rows(amx) / rows * rows);
        n_rows = kiln_ceil_div(roles->m_size, most_rows);
        n_columns = kiln_ceil_div(roles->n_size, FRESH_COLUMNS);
    }
    double products = amx->n_parts == 3 ? 6 : 1;
    double tiles =
        (double)kiln_round_up(roles->m_size, KILN_TILE_SIDE) * (double)roles->n_size / 256;
    double cycles = tiles * 16 * (double)(amx->k_padded / amx->tile_k) * products;
    double wanted = cycles * (double)roles->batch_size / TILE_CYCLES;
    double threads = dot->lower->schedule->n_threads;
    bool is_far = amx->is_fresh || (amx->is_ahead && amx->product == KILN_K_tile_dot_bf16);
    double enough = threads * (is_far ? FAR_PER_THREAD : TILES_PER_THREAD);
    /* blocks of columns copy the same rows */
    bool is_by_rows = roles->m_size >= roles->n_size;
    if (!is_by_rows && dot->a.mode != KILN_DOT_DIRECT) enough = threads;
    if (wanted > enough) wanted = enough;
    if (threads <= 1 && wanted > NEAR_TILES) wanted = NEAR_TILES;
    int64_t missing = (int64_t)(wanted / (double)(roles->batch_size * n_rows * n_columns) + 0.999);
    if (missing > 1 && is_by_rows)
        n_rows = kiln_min_i64(n_rows * missing, kiln_ceil_div(roles->m_size, rows));
    else if (missing > 1)
        n_columns = kiln_min_i64(n_columns * missing, kiln_ceil_div(roles->n_size, width));
    dot->block_rows = kiln_round_up(kiln_ceil_div(roles->m_size, n_rows), rows);
    dot->n_row_blocks = kiln_ceil_div(roles->m_size, dot->block_rows);
    dot->block_columns = kiln_round_up(kiln_ceil_div(roles->n_size, n_columns), width);
    dot->n_column_blocks = kiln_ceil_div(roles->n_size, dot->block_columns);
}

void kiln_amx_plan(kiln_amx *amx)
{
    const kiln_matmul_roles *roles = &amx->dot.roles;
    amx->k_padded = kiln_round_up(roles->k_size, amx->tile_k);
    choose_runs(amx);
    amx->panel_words = amx->k_padded / amx->tile_k * KILN_TILE_WORDS * amx->n_parts;
    kiln_amx_find_rows(amx);
    choose_k(amx);
    choose_block(amx);
    int64_t b_bytes = kiln_ceil_div(roles->n_size, KILN_TILE_SIDE) * amx->panel_words * 4;
    amx->is_ahead = b_bytes * roles->batch_size >= AHEAD_BYTES;
    choose_work(amx);
}
