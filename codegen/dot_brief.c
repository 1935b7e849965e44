/* A product that runs faster than it compiles: one register tile, k by ones, serves all of it, so
 * that the kernel is short. Operands are read in place; a right one that is far or lies along k is
 * packed by the tiles. Where rows or columns are no multiple of a tile, the last ones begin earlier
 * and are computed twice, to the same bits. An element is one chain over ascending k. */
#include "base/checked.h"
#include "codegen/lower_dot.h"
#include "passes/brief.h"

#define COMPILE_SHARE 0.004  /* of the run that a vector of a tile is worth in compile time … */
#define SHARE_WORK (1 << 22) /* … where it is so many multiplications; of a longer one, less */
#define LONG_WORK (1 << 26)
#define SHORT_SUMS 16
#define TURNED_SUMS 12       /* beside the code that turns squares */
#define TILE_CYCLES 180.0    /* until a tile is at work, and after it */
#define SUM_CYCLES 3.0
#define STREAM_BYTES 40.0 /* a cycle from the second cache */
#define STRIP_BYTES 24.0  /* the same of a packed strip */
#define MOST_BLOCKS 16
#define NEAR_BYTES (512 * 1024) /* of A, which stays in the second cache beside a strip */
#define BLOCK_BYTES (1024 * 1024) /* of strips beside each other, where A is longer: half of it */
#define BAND_BYTES (128 * 1024)   /* of A that pass by such a block together */
#define PACK_ROWS 4               /* what packing a strip costs, in rows; … */
#define TURN_ROWS 10              /* … along k */

/* How the tiles of a kernel, blocks of columns down a block of rows, cover the result. */
typedef struct brief {
    kiln_dot *dot;
    int64_t width, block_columns, n_column_blocks; /* of a register tile, of a tile; tiles across */
    int64_t block_rows, n_row_blocks;
    int64_t band_rows; /* of a block that pass by its columns together */
} brief;

static bool is_in_place(const kiln_dot *dot, const kiln_dot_operand *operand)
{
    return operand->mode == KILN_DOT_DIRECT && operand->source.dtype == dot->dtype;
}

/* Elements that are computed twice must read the same again: not what the result is stored over. */
static bool is_repeatable(const kiln_dot *dot)
{
    const kiln_lower *lower = dot->lower;
    for (uint32_t i = 0; i < lower->kernel->params.n; i++)
        if (lower->kernel->params.at[i].may_overlap) return false;
    return true;
}

static int64_t count_work(const kiln_matmul_roles *roles)
{
    return roles->batch_size * roles->m_size * roles->n_size * roles->k_size;
}

/* Rows in place unless each k of them is far from the next and they are met often. */
static void choose_rows(kiln_dot *dot)
{
    kiln_dot_operand *a = &dot->a;
    bool is_far = a->k_step != 1 && a->step == 1 && count_work(&dot->roles) > SHARE_WORK;
    if (is_in_place(dot, a) && is_far) a->mode = KILN_DOT_COPY_M;
}

bool kiln_dot_is_brief(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_arena *arena = &lower->scope->arena;
    kiln_value anchor = lower->group->anchor;
    if (lower->group->tuned.rows || !is_repeatable(dot)) return false;
    bool is_near = kiln_dot_may_be_brief(arena, lower->graph, anchor);
    bool is_packed = kiln_dot_may_pack_briefly(arena, lower->graph, anchor, lower->machine);
    if (!is_near && !is_packed) return false;
    dot->vectors = 1; /* of no columns yet: a copy of rows does not pay, whatever their distance */
    kiln_dot_find_operands(dot);
    if (is_near && is_in_place(dot, &dot->a) && is_in_place(dot, &dot->b)) return true;
    if (!is_packed || dot->b.mode == KILN_DOT_PANELS) return false;
    kiln_dot_use_strips(dot);
    choose_rows(dot);
    return true;
}

/* What all tiles cost, in cycles, their compile beside it. A step of k is bound by fma, by loads,
 * of which those of B in place mostly cross a line, by fma that wait for the ones before, or by B
 * on its way from the second cache. */
static double cost_of(const kiln_dot *dot, uint32_t rows, uint32_t vectors)
{
    const kiln_matmul_roles *roles = &dot->roles;
    const kiln_machine *machine = dot->lower->machine;
    bool is_packed = dot->b.mode == KILN_DOT_STRIPS;
    int64_t sums = (int64_t)rows * vectors, width = (int64_t)vectors * dot->lanes;
    int64_t bytes = vectors * machine->vector_bytes;
    double rate = is_packed ? STRIP_BYTES : STREAM_BYTES, all = (double)count_work(roles);
    double share = all > SHARE_WORK ? COMPILE_SHARE * SHARE_WORK / all : COMPILE_SHARE;
    double work = (double)sums * 0.5, loads = (rows + (is_packed ? 1.0 : 2.0) * vectors) * 0.5;
    double stream = bytes * roles->k_size > machine->l1_bytes / 2 ? (double)bytes / rate : 0;
    double step = work > loads ? work : loads, latency = 4;
    if (step < latency) step = latency;
    if (step < stream) step = stream;
    double tile = step * (double)roles->k_size + TILE_CYCLES + SUM_CYCLES * (double)sums;
    int64_t n = kiln_ceil_div(roles->m_size, rows) * kiln_ceil_div(roles->n_size, width);
    return tile * (double)n * (1 + share * (double)sums);
}

/* Vectors of a tile that compiles in some 4.5 ms: a third of a tile's time goes with them. What
 * runs for half a millisecond and more is worth larger ones. */
static uint32_t most_sums(const kiln_dot *dot)
{
    if (count_work(&dot->roles) > LONG_WORK) return KILN_TILE_SUMS;
    return dot->b.mode == KILN_DOT_STRIPS && dot->b_is_by_k ? TURNED_SUMS : SHORT_SUMS;
}

static void choose_tile(kiln_dot *dot)
{
    const kiln_matmul_roles *roles = &dot->roles;
    uint32_t registers = dot->lower->machine->n_vector_registers;
    uint32_t most = most_sums(dot);
    double best = -1;
    for (uint32_t vectors = 1; vectors <= KILN_TILE_VECTORS; vectors++) {
        if (vectors > kiln_ceil_div(roles->n_size, dot->lanes)) break;
        for (uint32_t rows = 1; rows <= KILN_TILE_ROWS && rows <= roles->m_size; rows++) {
            if (rows * vectors + vectors + 1 > registers) break;
            if (rows * vectors > most) break;
            double cost = cost_of(dot, rows, vectors);
            if (best >= 0 && cost >= best) continue;
            best = cost;
            dot->rows = rows;
            dot->vectors = vectors;
        }
    }
}

/* Sets how many register tiles across and rows down a tile has, for even shares of the threads: no
 * block of rows is shorter than a register tile, strips beside each other fit the second cache. */
static void cut(brief *b)
{
    const kiln_dot *dot = b->dot;
    bool is_packed = dot->b.mode == KILN_DOT_STRIPS;
    int64_t m = dot->roles.m_size, strips = kiln_ceil_div(dot->roles.n_size, b->width);
    int64_t threads = kiln_max_i64(1, dot->lower->schedule->n_threads), best = INT64_MAX;
    int64_t a_bytes = m * dot->roles.k_size * (int64_t)kiln_dtype_bytes(dot->dtype), most = 1;
    bool is_met_late = a_bytes > NEAR_BYTES || dot->a.mode != KILN_DOT_DIRECT;
    if (is_packed && is_met_late)
        most = kiln_max_i64(1, BLOCK_BYTES / kiln_dot_strip_bytes(dot));
    int64_t extra = is_packed ? (dot->b_is_by_k ? TURN_ROWS : PACK_ROWS) : 0;
    for (int64_t each = kiln_min_i64(most, strips); each > 0; each--) {
        for (int64_t n = 1; n <= MOST_BLOCKS && (n == 1 || threads > 1); n++) {
            int64_t rows = kiln_round_up(kiln_ceil_div(m, n), dot->rows);
            int64_t blocks = kiln_ceil_div(m, rows), across = kiln_ceil_div(strips, each);
            if (blocks > 1 && m - (blocks - 1) * rows < dot->rows) continue;
            int64_t tiles = across * blocks * dot->roles.batch_size;
            int64_t work = kiln_ceil_div(tiles, threads) * each * (rows + extra);
            if (work >= best) continue;
            best = work;
            b->block_columns = each * b->width;
            b->n_column_blocks = across;
            b->block_rows = kiln_min_i64(rows, m);
            b->n_row_blocks = blocks;
        }
    }
}

/* Rows of A that pass by all columns of a tile before the next ones do. */
static void choose_band(brief *b)
{
    const kiln_dot *dot = b->dot;
    int64_t row = dot->roles.k_size * (int64_t)kiln_dtype_bytes(dot->dtype);
    b->band_rows = b->block_rows;
    if (b->block_columns == b->width && dot->a.mode == KILN_DOT_DIRECT) return;
    int64_t rows = kiln_max_i64(1, BAND_BYTES / row / dot->rows) * dot->rows;
    b->band_rows = kiln_min_i64(rows, b->block_rows);
}

/* The first column of the register tile at `column`: the last one begins earlier. */
static kiln_kv place_columns(const brief *b, kiln_kv column)
{
    kiln_kernel *k = b->dot->lower->kernel;
    int64_t last = b->dot->roles.n_size - b->width;
    if (last < 0) return kiln_k_const_i64(k, 0);
    if (last % b->width == 0) return column;
    return kiln_k_min(k, column, kiln_k_const_i64(k, last));
}

/* Masks off what a single tile has beyond the columns. */
static kiln_kv mask_columns(const kiln_dot *dot)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t at = (int64_t)(dot->vectors - 1) * dot->lanes, n = dot->roles.n_size;
    if (at + dot->lanes <= n) return 0;
    return kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, n - at));
}

static kiln_tile make_tile(const kiln_dot *dot)
{
    bool is_packed = dot->b.mode == KILN_DOT_STRIPS;
    kiln_tile tile = {.lower = dot->lower,
                      .dtype = dot->dtype,
                      .lanes = dot->lanes,
                      .rows = dot->rows,
                      .vectors = dot->vectors,
                      .a = dot->a.source,
                      .b = dot->b.source,
                      .a_k = dot->a.k_step,
                      .b_k = dot->b.k_step,
                      .b_is_near = true,
                      .b_is_aligned = is_packed,
                      .unroll = 1};
    if (is_packed)
        tile.b_is_near = kiln_dot_strip_bytes(dot) <= dot->lower->machine->l1_bytes / 10 * 7;
    int64_t step = is_packed ? dot->k_block_size * dot->lanes : dot->lanes;
    for (uint32_t v = 0; v < dot->vectors; v++) tile.b_vector[v] = v * step;
    return tile;
}

/* The register tile at (row, column), B from `b` on; what is packed needs no masks to be loaded. */
static void emit_tile(kiln_dot *dot, kiln_kv row, kiln_kv column, kiln_kv b)
{
    kiln_tile tile = make_tile(dot);
    kiln_kv a = kiln_dot_use_rows(dot, &tile, row), mask = mask_columns(dot);
    kiln_tile_zero(&tile);
    if (dot->b.mode == KILN_DOT_DIRECT) tile.b_mask = mask;
    kiln_tile_accumulate(&tile, a, b, dot->roles.k_size);
    tile.masks[dot->vectors - 1] = mask;
    kiln_axis_index columns = kiln_axis_vector(column, 1);
    kiln_epilogue_emit(&dot->epilogue, &tile, row, columns, tile.lanes);
}

/* Down the rows first … end, in the columns whose strip stands at `column`. */
static void emit_rows(brief *b, kiln_kv column, kiln_kv first, kiln_kv end)
{
    kiln_dot *dot = b->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv placed = place_columns(b, column);
    bool is_packed = dot->b.mode == KILN_DOT_STRIPS;
    kiln_kv from = kiln_dot_column_offset(dot, is_packed ? column : placed);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, dot->rows);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv row = kiln_k_min(k, at, kiln_k_add_imm(k, end, -(int64_t)dot->rows));
    emit_tile(dot, row, placed, from);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* The columns of the tile at work for the rows first … end, which are copied if that is wanted. */
static void emit_band(brief *b, kiln_kv first, kiln_kv end)
{
    kiln_dot *dot = b->dot;
    kiln_kernel *k = dot->lower->kernel;
    dot->first_row = first;
    kiln_dot_copy_rows(dot, first, end);
    if (b->block_columns == b->width) {
        emit_rows(b, dot->first_column, first, end);
        return;
    }
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, dot->first_column, dot->column_end, b->width);
    uint32_t mark = kiln_lower_mark(dot->lower);
    emit_rows(b, column, first, end);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

static void pack_columns(brief *b)
{
    kiln_dot *dot = b->dot;
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv column = dot->first_column;
    bool is_one = b->block_columns == b->width;
    if (!is_one) column = kiln_k_loop(k, KILN_LOOP_SERIAL, column, dot->column_end, b->width);
    uint32_t mark = kiln_lower_mark(dot->lower);
    kiln_dot_pack_strip(dot, column, place_columns(b, column));
    kiln_lower_cut(dot->lower, mark);
    if (!is_one) kiln_k_end(k);
}

/* A block of columns, down a block of rows. */
static void emit_block(brief *b, kiln_kv number)
{
    kiln_dot *dot = b->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv across = kiln_k_rem_imm(k, number, b->n_column_blocks);
    kiln_kv rest = kiln_k_div_imm(k, number, b->n_column_blocks);
    kiln_kv first = kiln_k_mul_imm(k, kiln_k_rem_imm(k, rest, b->n_row_blocks), b->block_rows);
    dot->batch = kiln_k_div_imm(k, rest, b->n_row_blocks);
    if (dot->roles.batch_size == 1) dot->batch = kiln_k_const_i64(k, 0);
    kiln_kv end = kiln_k_add_imm(k, first, b->block_rows);
    end = kiln_k_min(k, end, kiln_k_const_i64(k, dot->roles.m_size));
    dot->first_column = kiln_k_mul_imm(k, across, b->block_columns);
    dot->column_end = kiln_k_add_imm(k, dot->first_column, b->block_columns);
    dot->column_end = kiln_k_min(k, dot->column_end, kiln_k_const_i64(k, dot->roles.n_size));
    if (dot->b.mode == KILN_DOT_STRIPS) pack_columns(b);
    if (b->band_rows == b->block_rows) {
        emit_band(b, first, end);
        return;
    }
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, b->band_rows);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv begin = kiln_k_min(k, at, kiln_k_add_imm(k, end, -(int64_t)dot->rows));
    emit_band(b, begin, kiln_k_min(k, kiln_k_add_imm(k, at, b->band_rows), end));
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
    cut(&b);
    choose_band(&b);
    dot->block_columns = b.block_columns;
    dot->block_rows = b.band_rows + dot->rows; /* the last band may begin earlier */
    kiln_dot_add_locals(dot);
    k->n_tiles = (uint32_t)(b.n_column_blocks * b.n_row_blocks * dot->roles.batch_size);
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
