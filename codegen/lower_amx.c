/* Dot groups by matrix tiles: [batch, row block, column block] work tiles. Inside one, for each
 * group of panels, blocks of tiles down the rows; a block runs over all of k, so its sums leave the
 * registers once (x6: once a chunk), and A's rows and B's panel stream from the second cache. Sums
 * go through a small local to the epilogue, row by row. */
#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define BLOCK_BYTES (1024 * 1024) /* of A, in the second cache */
#define TILE_CYCLES 20000.0       /* fewer are not worth handing out */
#define TILES_PER_THREAD 4
#define EPILOGUE_ROWS 4 /* unrolled */

typedef struct column_group {
    kiln_kv column;
    uint32_t vectors, last; /* lanes of the last vector that exist */
} column_group;

uint32_t kiln_amx_input(const kiln_lower *lower)
{
    const kiln_group *group = lower->group;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *operand = &group->inputs[i];
        bool is_anchor = operand->consumer.id == group->anchor.id;
        if (is_anchor && kiln_format_parts(operand->format)) return i;
    }
    return KILN_NONE;
}

static kiln_tile load_sums(const kiln_amx *amx, const column_group *group, kiln_kv row,
                           uint32_t rows)
{
    const kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t width = dot->vectors * KILN_TILE_SIDE;
    kiln_tile tile = {.lower = dot->lower,
                      .dtype = KILN_f32,
                      .lanes = KILN_TILE_SIDE,
                      .rows = rows,
                      .vectors = group->vectors};
    kiln_kv base = kiln_k_mul_imm(k, row, width);
    for (uint32_t i = 0; i < rows * group->vectors; i++) {
        int64_t at = i / group->vectors * width + i % group->vectors * KILN_TILE_SIDE;
        tile.sums[i] = kiln_k_load(k, amx->sums, kiln_k_add_imm(k, base, at), KILN_TILE_SIDE, 0,
                                   KILN_MEM_ALIGNED);
    }
    return tile;
}

/* Rows first … end - 1 of the block at `row`, `step` at a time. */
static void store_rows(kiln_amx *amx, const column_group *group, kiln_kv row, int64_t first,
                       int64_t end)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    uint32_t step = end - first >= EPILOGUE_ROWS ? EPILOGUE_ROWS : 1;
    kiln_kv begin = kiln_k_const_i64(k, first), stop = kiln_k_const_i64(k, end);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, stop, step);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_tile tile = load_sums(amx, group, at, step);
    kiln_axis_index column = kiln_axis_vector(group->column, KILN_TILE_SIDE);
    kiln_kv row_at = kiln_k_binary(k, KILN_K_add, row, at);
    kiln_epilogue_emit(&amx->dot.epilogue, &tile, row_at, column, group->last);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* sums += scratch */
static void add_chunk(kiln_amx *amx, uint32_t rows, uint32_t vectors)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t width = amx->dot.vectors * KILN_TILE_SIDE;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, rows * KILN_TILE_SIDE);
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 4);
    kiln_kv base = kiln_k_mul_imm(k, row, width);
    for (uint32_t i = 0; i < 4 * vectors; i++) {
        int64_t offset = i / vectors * width + i % vectors * KILN_TILE_SIDE;
        kiln_kv at = kiln_k_add_imm(k, base, offset);
        kiln_kv sum = kiln_k_load(k, amx->sums, at, KILN_TILE_SIDE, 0, KILN_MEM_ALIGNED);
        kiln_kv more = kiln_k_load(k, amx->scratch, at, KILN_TILE_SIDE, 0, KILN_MEM_ALIGNED);
        kiln_k_store(k, amx->sums, at, kiln_k_binary(k, KILN_K_add, sum, more), 0,
                     KILN_MEM_ALIGNED);
    }
    kiln_k_end(k);
}

static void run_chunks(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t n = amx->k_padded / KILN_TILE_K, chunk = KILN_X6_CHUNK / KILN_TILE_K;
    int64_t first = n < chunk ? n : chunk, whole = n / chunk * chunk;
    kiln_amx_run(amx, block, kiln_k_const_i64(k, 0), first, amx->sums);
    if (whole > chunk) {
        kiln_kv begin = kiln_k_const_i64(k, chunk), end = kiln_k_const_i64(k, whole);
        kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, chunk);
        kiln_amx_run(amx, block, at, chunk, amx->scratch);
        add_chunk(amx, block->rows, block->vectors);
        kiln_k_end(k);
    }
    if (whole == n || n < chunk) return;
    kiln_amx_run(amx, block, kiln_k_const_i64(k, whole), n - whole, amx->scratch);
    add_chunk(amx, block->rows, block->vectors);
}

/* `n_rows` rows from `row` on. */
static void emit_block(kiln_amx *amx, kiln_kv row, int64_t n_rows, const column_group *group)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    kiln_amx_block block = {.vectors = group->vectors,
                            .rows = (uint32_t)kiln_ceil_div(n_rows, KILN_TILE_SIDE)};
    int64_t n_panels = kiln_ceil_div(dot->roles.n_size, KILN_TILE_SIDE);
    block.a = kiln_dot_row_offset(dot, row);
    kiln_kv panel = kiln_k_div_imm(k, group->column, KILN_TILE_SIDE);
    panel = kiln_k_binary(k, KILN_K_add, panel, kiln_k_mul_imm(k, dot->batch, n_panels));
    block.b = kiln_k_mul_imm(k, panel, amx->panel_words);
    if (amx->n_parts == 3)
        run_chunks(amx, &block);
    else
        kiln_amx_run(amx, &block, kiln_k_const_i64(k, 0), amx->k_padded / KILN_TILE_K, amx->sums);
    int64_t whole = n_rows / EPILOGUE_ROWS * EPILOGUE_ROWS;
    if (whole) store_rows(amx, group, row, 0, whole);
    if (whole < n_rows) store_rows(amx, group, row, whole, n_rows);
}

/* Blocks of n_rows rows from first to end, in steps of full blocks. */
static void emit_rows(kiln_amx *amx, kiln_kv first, kiln_kv end, int64_t n_rows,
                      const column_group *group)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kv row =
        kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, first, end, amx->dot.rows * KILN_TILE_SIDE);
    uint32_t mark = kiln_lower_mark(lower);
    emit_block(amx, row, n_rows, group);
    kiln_lower_cut(lower, mark);
    kiln_k_end(lower->kernel);
}

static void emit_columns(kiln_amx *amx, kiln_kv first, kiln_kv end, column_group group,
                         kiln_kv row_end)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t rows = dot->rows * KILN_TILE_SIDE, m = dot->roles.m_size, tail = m % rows;
    kiln_kv whole = kiln_k_const_i64(k, m - tail);
    group.column = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, dot->vectors * KILN_TILE_SIDE);
    uint32_t mark = kiln_lower_mark(dot->lower);
    if (m >= rows) emit_rows(amx, dot->first_row, kiln_k_min(k, row_end, whole), rows, &group);
    if (tail) emit_rows(amx, kiln_k_max(k, dot->first_row, whole), row_end, tail, &group);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

static void emit_tile(kiln_amx *amx, kiln_kv number)
{
    kiln_dot *dot = &amx->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t width = dot->vectors * KILN_TILE_SIDE, n = dot->roles.n_size;
    kiln_kv column_block = kiln_lower_op_imm(lower, KILN_K_rem, number, dot->n_column_blocks);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, number, dot->n_column_blocks);
    kiln_kv row_block = kiln_lower_op_imm(lower, KILN_K_rem, rest, dot->n_row_blocks);
    dot->batch = kiln_lower_op_imm(lower, KILN_K_div, rest, dot->n_row_blocks);
    if (dot->roles.batch_size == 1) dot->batch = kiln_k_const_i64(k, 0);
    dot->first_row = kiln_k_mul_imm(k, row_block, dot->block_rows);
    kiln_kv row_end = kiln_k_add_imm(k, dot->first_row, dot->block_rows);
    row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, dot->roles.m_size));
    kiln_amx_copy_rows(amx, dot->first_row, row_end);
    kiln_kv column = kiln_k_mul_imm(k, column_block, dot->block_columns);
    kiln_kv column_end = kiln_k_add_imm(k, column, dot->block_columns);
    column_end = kiln_k_min(k, column_end, kiln_k_const_i64(k, n));
    kiln_kv whole = kiln_k_const_i64(k, n / width * width);
    column_group group = {.vectors = dot->vectors, .last = KILN_TILE_SIDE};
    if (n >= width) emit_columns(amx, column, kiln_k_min(k, column_end, whole), group, row_end);
    if (n % width == 0) return;
    group.vectors = (uint32_t)kiln_ceil_div(n % width, KILN_TILE_SIDE);
    group.last = (uint32_t)((n - 1) % KILN_TILE_SIDE + 1);
    emit_columns(amx, kiln_k_max(k, column, whole), column_end, group, row_end);
}

/* Tiles of a block. More sums mean fewer loads a product; a last block of one tile's rows would be
 * bound by the latency of its few sums, so numbers of rows that leave one are cut in twos. */
static void choose_block(kiln_dot *dot)
{
    int64_t rows = kiln_ceil_div(dot->roles.m_size, KILN_TILE_SIDE);
    int64_t panels = kiln_ceil_div(dot->roles.n_size, KILN_TILE_SIDE);
    dot->rows = rows == 1 ? 1 : rows == 2 || (rows % 3 == 1 && rows < 9) ? 2 : 3;
    dot->vectors = rows == 1 ? 4 : 2;
    if (panels < dot->vectors) dot->vectors = (uint32_t)panels;
}

/* Row blocks as high as the second cache holds; then cut until every thread has some. */
static void choose_work(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t rows = dot->rows * KILN_TILE_SIDE, width = dot->vectors * KILN_TILE_SIDE;
    int64_t row_bytes = 2 * amx->n_parts * amx->k_padded;
    int64_t most_rows = kiln_max_i64(rows, BLOCK_BYTES / row_bytes / rows * rows);
    int64_t n_rows = kiln_ceil_div(roles->m_size, most_rows), n_columns = 1;
    double products = amx->n_parts == 3 ? 6 : 1;
    double cycles =
        (double)roles->m_size * (double)roles->n_size * (double)amx->k_padded / 512 * products;
    double wanted = cycles * (double)roles->batch_size / TILE_CYCLES;
    double enough = (double)dot->lower->schedule->n_threads * TILES_PER_THREAD;
    if (wanted > enough) wanted = enough;
    if (dot->lower->schedule->n_threads <= 1) wanted = 1;
    int64_t missing = (int64_t)(wanted / (double)(roles->batch_size * n_rows) + 0.999);
    if (missing > 1 && roles->m_size >= roles->n_size)
        n_rows = kiln_min_i64(n_rows * missing, kiln_ceil_div(roles->m_size, rows));
    else if (missing > 1)
        n_columns = kiln_min_i64(missing, kiln_ceil_div(roles->n_size, width));
    dot->block_rows = kiln_round_up(kiln_ceil_div(roles->m_size, n_rows), rows);
    dot->n_row_blocks = kiln_ceil_div(roles->m_size, dot->block_rows);
    dot->block_columns = kiln_round_up(kiln_ceil_div(roles->n_size, n_columns), width);
    dot->n_column_blocks = kiln_ceil_div(roles->n_size, dot->block_columns);
}

static void set_work(kiln_dot *dot)
{
    int64_t n, sizes[] = {dot->roles.batch_size, dot->n_row_blocks, dot->n_column_blocks};
    if (!kiln_checked_product(sizes, 3, &n) || n > UINT32_MAX)
        kiln_fail(dot->lower->scope, KILN_LIMIT,
                  "group %s: more than 2^32 - 1 tiles; expected fewer", dot->lower->group->label);
    dot->lower->kernel->n_tiles = (uint32_t)n;
}

static void add_sums(kiln_amx *amx)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t elements = (int64_t)amx->dot.rows * amx->dot.vectors * KILN_TILE_WORDS;
    amx->sums = kiln_kernel_add_local(k, KILN_f32, elements);
    amx->scratch = amx->n_parts == 3 ? kiln_kernel_add_local(k, KILN_f32, elements) : amx->sums;
}

void kiln_lower_amx(kiln_lower *lower, const kiln_matmul_roles *roles)
{
    uint32_t input = kiln_amx_input(lower);
    kiln_kernel *k = lower->kernel;
    kiln_value anchor = lower->group->anchor;
    kiln_amx amx = {.dot = {.lower = lower, .roles = *roles, .dtype = KILN_f32}};
    kiln_dot *dot = &amx.dot;
    amx.n_parts = kiln_format_parts(lower->group->inputs[input].format);
    amx.b_buffer = lower->buffer_of[input];
    amx.k_padded = kiln_round_up(roles->k_size, KILN_TILE_K);
    amx.panel_words = amx.k_padded / 2 * KILN_TILE_SIDE * amx.n_parts;
    kiln_dot_describe(dot, anchor);
    choose_block(dot);
    choose_work(&amx);
    kiln_amx_find_rows(&amx);
    kiln_amx_add_local(&amx);
    add_sums(&amx);
    set_work(dot);
    dot->epilogue = (kiln_epilogue){.lower = lower,
                                    .node = anchor,
                                    .from = KILN_f32,
                                    .to = kiln_graph_type(lower->graph, anchor)->dtype,
                                    .index = kiln_dot_result_index,
                                    .user = dot};
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_tile(&amx, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
