/* A product that runs faster than it compiles: one register tile, k by ones, serves all of it, so
 * that the kernel is short. Operands are read in place. Where rows or columns are no multiple of a
 * tile, the last rows of a block begin earlier and are computed twice, and columns past the end are
 * masked off. An element is one chain over ascending k, as everywhere. */
#include "base/checked.h"
#include "codegen/lower_dot.h"
#include "passes/brief.h"

#define COMPILE_SHARE 0.004 /* of the run that a vector of a tile is worth in compile time */
#define TILE_CYCLES 180.0   /* until a tile is at work, and after it */
#define SUM_CYCLES 3.0
#define STREAM_BYTES 40.0 /* a cycle from the second cache */
#define MOST_BLOCKS 16

/* How the tiles of a kernel, each some columns down a block of rows, cover the result. */
typedef struct brief {
    kiln_dot *dot;
    int64_t width, n_columns; /* of a tile; tiles across */
    int64_t block_rows, n_row_blocks;
} brief;

static bool is_in_place(const kiln_dot *dot, const kiln_dot_operand *operand)
{
    return operand->mode == KILN_DOT_DIRECT && operand->source.dtype == dot->dtype;
}

/* Rows that are computed twice must read the same again: not what the result is stored over. */
static bool is_repeatable(const kiln_dot *dot)
{
    const kiln_lower *lower = dot->lower;
    for (uint32_t i = 0; i < lower->kernel->params.n; i++)
        if (lower->kernel->params.at[i].may_overlap) return false;
    return true;
}

bool kiln_dot_is_brief(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_arena *arena = &lower->scope->arena;
    if (lower->group->tuned.rows || !is_repeatable(dot)) return false;
    if (!kiln_dot_may_be_brief(arena, lower->graph, lower->group->anchor)) return false;
    dot->vectors = 1; /* of no columns yet: a copy of rows does not pay, whatever their distance */
    kiln_dot_find_operands(dot);
    return is_in_place(dot, &dot->a) && is_in_place(dot, &dot->b);
}

/* What all tiles cost, in cycles, their compile beside it. A step of k is bound by fma, by loads,
 * of which those of B mostly cross a line, by fma that wait for the ones before, or by B on its way
 * from the second cache. */
static double cost_of(const kiln_dot *dot, uint32_t rows, uint32_t vectors)
{
    const kiln_matmul_roles *roles = &dot->roles;
    const kiln_machine *machine = dot->lower->machine;
    int64_t sums = (int64_t)rows * vectors, width = (int64_t)vectors * dot->lanes;
    int64_t bytes = vectors * machine->vector_bytes;
    double work = (double)sums * 0.5, loads = (rows + 2.0 * vectors) * 0.5, latency = 4;
    double stream =
        bytes * roles->k_size > machine->l1_bytes / 2 ? (double)bytes / STREAM_BYTES : 0;
    double step = work > loads ? work : loads;
    if (step < latency) step = latency;
    if (step < stream) step = stream;
    double tile = step * (double)roles->k_size + TILE_CYCLES + SUM_CYCLES * (double)sums;
    int64_t n = kiln_ceil_div(roles->m_size, rows) * kiln_ceil_div(roles->n_size, width);
    return tile * (double)n * (1 + COMPILE_SHARE * (double)sums);
}

static void choose_tile(kiln_dot *dot)
{
    const kiln_matmul_roles *roles = &dot->roles;
    uint32_t registers = dot->lower->machine->n_vector_registers;
    double best = -1;
    for (uint32_t vectors = 1; vectors <= KILN_TILE_VECTORS; vectors++) {
        if (vectors > kiln_ceil_div(roles->n_size, dot->lanes)) break;
        for (uint32_t rows = 1; rows <= KILN_TILE_ROWS && rows <= roles->m_size; rows++) {
            if (rows * vectors + vectors + 1 > registers) break;
            double cost = cost_of(dot, rows, vectors);
            if (best >= 0 && cost >= best) continue;
            best = cost;
            dot->rows = rows;
            dot->vectors = vectors;
        }
    }
}

/* Blocks of rows, so many that the threads have even shares; none is shorter than a tile. */
static void cut_rows(brief *b)
{
    const kiln_dot *dot = b->dot;
    int64_t m = dot->roles.m_size, tiles = b->n_columns * dot->roles.batch_size, best = INT64_MAX;
    int64_t threads = kiln_max_i64(1, dot->lower->schedule->n_threads);
    for (int64_t n = 1; n <= MOST_BLOCKS && (n == 1 || threads > 1); n++) {
        int64_t rows = kiln_round_up(kiln_ceil_div(m, n), dot->rows),
                blocks = kiln_ceil_div(m, rows);
        if (blocks > 1 && m - (blocks - 1) * rows < dot->rows) continue;
        int64_t work = kiln_ceil_div(tiles * blocks, threads) * rows;
        if (work >= best) continue;
        best = work;
        b->block_rows = kiln_min_i64(rows, m);
        b->n_row_blocks = blocks;
    }
}

/* Masks off columns past the end, where a tile has some. */
static void mask_columns(const brief *b, kiln_tile *tile, kiln_kv column)
{
    kiln_kernel *k = b->dot->lower->kernel;
    int64_t n = b->dot->roles.n_size, last = (b->n_columns - 1) * b->width;
    for (uint32_t v = 0; v < tile->vectors; v++) {
        int64_t at = (int64_t)v * tile->lanes;
        tile->b_vector[v] = at;
        if (last + at + tile->lanes <= n) continue;
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, n - at), column);
        tile->masks[v] = kiln_k_active(k, tile->lanes, left);
    }
}

static void emit_tile(kiln_dot *dot, kiln_tile *tile, kiln_kv row, kiln_kv column)
{
    kiln_kv a = kiln_dot_use_rows(dot, tile, row), b = kiln_dot_column_offset(dot, column);
    kiln_tile_zero(tile);
    kiln_tile_accumulate(tile, a, b, dot->roles.k_size);
    kiln_axis_index columns = kiln_axis_vector(column, tile->lanes);
    kiln_epilogue_emit(&dot->epilogue, tile, row, columns, tile->lanes);
}

/* The columns of a tile, down a block of rows. */
static void emit_block(brief *b, kiln_kv number)
{
    kiln_dot *dot = b->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_tile tile = {.lower = lower,
                      .dtype = dot->dtype,
                      .lanes = dot->lanes,
                      .rows = dot->rows,
                      .vectors = dot->vectors,
                      .a = dot->a.source,
                      .b = dot->b.source,
                      .a_k = dot->a.k_step,
                      .b_k = dot->b.k_step,
                      .b_is_near = true,
                      .unroll = 1};
    kiln_kv column = kiln_k_mul_imm(k, kiln_k_rem_imm(k, number, b->n_columns), b->width);
    kiln_kv rest = kiln_k_div_imm(k, number, b->n_columns);
    kiln_kv block = kiln_k_rem_imm(k, rest, b->n_row_blocks);
    kiln_kv first = kiln_k_mul_imm(k, block, b->block_rows);
    dot->batch = kiln_k_div_imm(k, rest, b->n_row_blocks);
    if (dot->roles.batch_size == 1) dot->batch = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_add_imm(k, first, b->block_rows);
    end = kiln_k_min(k, end, kiln_k_const_i64(k, dot->roles.m_size));
    mask_columns(b, &tile, column);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, tile.rows);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv row = kiln_k_min(k, at, kiln_k_add_imm(k, end, -(int64_t)tile.rows));
    emit_tile(dot, &tile, row, column);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_dot_lower_brief(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    lower->is_short = true;
    choose_tile(dot);
    brief b = {.dot = dot, .width = (int64_t)dot->vectors * dot->lanes};
    b.n_columns = kiln_ceil_div(dot->roles.n_size, b.width);
    cut_rows(&b);
    k->n_tiles = (uint32_t)(b.n_columns * b.n_row_blocks * dot->roles.batch_size);
    dot->epilogue = kiln_epilogue_create(lower, lower->group->anchor, dot->dtype);
    dot->epilogue.index = kiln_dot_result_index;
    dot->epilogue.user = dot;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_block(&b, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
