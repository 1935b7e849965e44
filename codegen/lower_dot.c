/* Dot groups: [batch, row block, column block] tiles; inside a tile, for each block of k and each
 * group of columns, register tiles down the rows of the block, so that the block of A and a panel
 * of B stay in the second cache. Row and column tails are tiles of their own sizes. */
#include "codegen/lower_dot.h"

#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define PLACED_ROWS 8  /* of a tile whose rows lie anywhere: as many addresses stay in registers */
#define NARROW_ROWS 16 /* of a tile of all columns in one vector: more fight for the first cache */

/* A tile's place: the columns of a group. */
typedef struct column_group {
    kiln_kv column;
    uint32_t vectors, last; /* lanes of the last vector that exist */
} column_group;

static kiln_tile make_tile(kiln_dot *dot, uint32_t rows, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_tile tile = {.lower = dot->lower,
                      .dtype = dot->dtype,
                      .lanes = dot->lanes,
                      .rows = rows,
                      .vectors = group->vectors,
                      .a = dot->a.source,
                      .b = dot->b.source,
                      .a_k = dot->a.k_step};
    if (dot->b.mode == KILN_DOT_WIDEN) {
        kiln_dot_use_widening(dot, &tile, group->column);
        return tile;
    }
    bool is_own = dot->b.mode == KILN_DOT_OWN_PANELS;
    if (is_own) tile.b = (kiln_tile_source){.buffer = dot->panels, .dtype = KILN_NO_DTYPE};
    if (is_own || dot->b.mode == KILN_DOT_PANELS) {
        kiln_tile_use_panels(&tile, dot->roles.k_size);
        return tile;
    }
    tile.b_k = dot->b.k_step;
    for (uint32_t v = 0; v < tile.vectors; v++) tile.b_vector[v] = (int64_t)v * tile.lanes;
    bool is_ragged = group->last < tile.lanes && dot->b.mode == KILN_DOT_DIRECT;
    if (is_ragged) tile.b_mask = kiln_k_active(k, tile.lanes, kiln_k_const_i64(k, group->last));
    return tile;
}

/* Adds what stands in the totals to the sums, and puts the result back. */
static void add_totals(kiln_dot *dot, kiln_tile *tile, bool is_kept)
{
    kiln_kernel *k = dot->lower->kernel;
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        kiln_kv at = kiln_k_const_i64(k, (int64_t)i * tile->lanes);
        kiln_kv total = kiln_k_load(k, dot->totals, at, tile->lanes, 0, KILN_MEM_ALIGNED);
        tile->sums[i] = kiln_k_binary(k, KILN_K_add, total, tile->sums[i]);
        if (is_kept) kiln_k_store(k, dot->totals, at, tile->sums[i], 0, KILN_MEM_ALIGNED);
    }
}

static void load_totals(kiln_dot *dot, kiln_tile *tile)
{
    kiln_kernel *k = dot->lower->kernel;
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++)
        tile->sums[i] = kiln_k_load(k, dot->totals, kiln_k_const_i64(k, (int64_t)i * tile->lanes),
                                    tile->lanes, 0, KILN_MEM_ALIGNED);
}

/* Adds a * b for n k, the first at `a` and `b`. */
static void add_products(kiln_dot *dot, kiln_tile *tile, kiln_kv a, kiln_kv b, int64_t n)
{
    if (tile->widen)
        kiln_dot_accumulate_widened(dot, tile, a, b, n);
    else
        kiln_tile_accumulate(tile, a, b, n);
}

/* More than one chunk of k: the totals start as the first chunk. */
static void accumulate_chunks(kiln_dot *dot, kiln_tile *tile, kiln_kv a, kiln_kv b)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t size = dot->roles.k_size, n_whole = size / KILN_CHUNK, rest = size % KILN_CHUNK;
    kiln_tile_zero(tile);
    add_products(dot, tile, a, b, KILN_CHUNK);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++)
        kiln_k_store(k, dot->totals, kiln_k_const_i64(k, (int64_t)i * tile->lanes), tile->sums[i],
                     0, KILN_MEM_ALIGNED);
    kiln_kv begin = kiln_k_const_i64(k, 1), end = kiln_k_const_i64(k, n_whole);
    kiln_kv chunk = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    kiln_kv a_at =
        kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, chunk, KILN_CHUNK * tile->a_k));
    kiln_kv b_at =
        kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, chunk, KILN_CHUNK * tile->b_k));
    kiln_tile_zero(tile);
    add_products(dot, tile, a_at, b_at, KILN_CHUNK);
    add_totals(dot, tile, true);
    kiln_k_end(k);
    if (!rest) {
        load_totals(dot, tile);
        return;
    }
    kiln_tile_zero(tile);
    a_at = kiln_k_add_imm(k, a, n_whole * KILN_CHUNK * tile->a_k);
    b_at = kiln_k_add_imm(k, b, n_whole * KILN_CHUNK * tile->b_k);
    add_products(dot, tile, a_at, b_at, rest);
    add_totals(dot, tile, false);
}

/* Where the sums of the register tile at (row, column) wait between blocks of k. */
static kiln_kv partial_offset(kiln_dot *dot, kiln_kv row, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv column = kiln_k_binary(k, KILN_K_sub, group->column, dot->first_column);
    kiln_kv at = kiln_k_binary(k, KILN_K_sub, row, dot->first_row);
    at = kiln_k_mul_imm(k, at, (int64_t)group->vectors * dot->lanes);
    return kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, column, dot->block_rows), at);
}

/* The sums so far; before a chunk's first block of k they are +0: the mask is off, memory is not
 * read. */
static void load_partial(kiln_dot *dot, kiln_tile *tile, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv past = dot->k_block;
    if (dot->totals) past = kiln_k_rem_imm(k, past, KILN_CHUNK / dot->k_block_size);
    past = kiln_k_mul_imm(k, past, tile->lanes);
    kiln_kv mask = kiln_k_active(k, tile->lanes, past);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        kiln_kv from = kiln_k_add_imm(k, at, (int64_t)i * tile->lanes);
        tile->sums[i] = kiln_k_load(k, dot->partial, from, tile->lanes, mask, 0);
    }
}

/* The last chunk's sums, after those of the chunks before. */
static void add_tile_totals(kiln_dot *dot, kiln_tile *tile, kiln_kv at)
{
    kiln_kernel *k = dot->lower->kernel;
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        kiln_kv from = kiln_k_add_imm(k, at, (int64_t)i * tile->lanes);
        kiln_kv total = kiln_k_load(k, dot->totals, from, tile->lanes, 0, KILN_MEM_ALIGNED);
        tile->sums[i] = kiln_k_binary(k, KILN_K_add, total, tile->sums[i]);
    }
}

/* After the last block of a chunk: the tile's sums go to its totals, which start as the first
 * chunk. */
static void end_chunk(kiln_dot *dot)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t n = KILN_CHUNK / dot->k_block_size;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_kv all = kiln_k_const_i64(k, dot->block_rows * dot->block_columns);
    kiln_kv position = kiln_k_rem_imm(k, dot->k_block, n), last = kiln_k_const_i64(k, n - 1);
    kiln_kv is_end = kiln_k_binary(k, KILN_K_le, last, position);
    kiln_kv chunk = kiln_k_mul_imm(k, kiln_k_div_imm(k, dot->k_block, n), dot->lanes);
    kiln_kv is_later = kiln_k_active(k, dot->lanes, chunk);
    kiln_kv at =
        kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_select(k, is_end, all, zero), dot->lanes);
    kiln_kv sum = kiln_k_load(k, dot->partial, at, dot->lanes, 0, KILN_MEM_ALIGNED);
    kiln_kv total = kiln_k_load(k, dot->totals, at, dot->lanes, 0, KILN_MEM_ALIGNED);
    total = kiln_k_select(k, is_later, kiln_k_binary(k, KILN_K_add, total, sum), sum);
    kiln_k_store(k, dot->totals, at, total, 0, KILN_MEM_ALIGNED);
    kiln_k_end(k);
}

/* Register tiles down the rows of a block, and k of its last block. */
static int64_t count_row_tiles(const kiln_dot *dot)
{
    return kiln_min_i64(dot->block_rows, dot->roles.m_size) / dot->rows;
}

static int64_t last_k(const kiln_dot *dot)
{
    return dot->roles.k_size - (dot->n_k_blocks - 1) * dot->k_block_size;
}

/* Where B goes on after this group of columns: at the next columns of the block of k, then at the
 * first ones of the tile's next block or of the next tile. */
static kiln_kv next_panel(kiln_dot *dot, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t block_size = dot->k_block_size * KILN_PANEL;
    kiln_kv next = kiln_k_add_imm(k, group->column, (int64_t)dot->vectors * dot->lanes);
    kiln_kv zero = kiln_k_const_i64(k, 0), block = dot->k_block;
    if (block) {
        kiln_kv is_over = kiln_k_binary(k, KILN_K_le, dot->column_end, next);
        kiln_kv after = dot->is_last ? zero : kiln_k_add_imm(k, block, 1);
        block = kiln_k_select(k, is_over, after, block);
        if (!dot->is_last) next = kiln_k_select(k, is_over, dot->first_column, next);
    }
    kiln_kv is_out = kiln_k_binary(k, KILN_K_le, kiln_k_const_i64(k, dot->roles.n_size), next);
    next = kiln_dot_column_offset(dot, kiln_k_select(k, is_out, zero, next));
    if (!block) return next;
    return kiln_k_binary(k, KILN_K_add, next, kiln_k_mul_imm(k, block, block_size));
}

/* Lets the tile fetch its share of what comes next: here, or in the next contraction. */
static void fetch_next(kiln_dot *dot, kiln_tile *tile, kiln_kv row, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv number = kiln_k_binary(k, KILN_K_sub, row, dot->first_row);
    number = kiln_k_div_imm(k, number, dot->rows);
    if (dot->ahead.is_at_work && tile->rows == dot->rows) {
        kiln_ahead_fetch(&dot->ahead, tile, number, count_row_tiles(dot), last_k(dot));
        return;
    }
    if (dot->b.mode != KILN_DOT_PANELS) return;
    kiln_tile_next next = {.buffer = tile->b.buffer,
                           .from = next_panel(dot, group),
                           .number = number,
                           .n_tiles = count_row_tiles(dot),
                           .steps = dot->k_block_size,
                           .n_panels = kiln_tile_panels(tile),
                           .size = dot->k_block_size,
                           .panel = dot->roles.k_size * KILN_PANEL,
                           .goes_on = true};
    kiln_tile_fetch(tile, &next);
}

static void accumulate(kiln_dot *dot, kiln_tile *tile, kiln_kv row, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv a = kiln_dot_use_rows(dot, tile, row);
    kiln_kv b = kiln_dot_column_offset(dot, group->column);
    fetch_next(dot, tile, row, group);
    if (dot->totals && dot->n_k_blocks == 1) {
        accumulate_chunks(dot, tile, a, b);
        return;
    }
    int64_t size = dot->k_block_size, n = size;
    if (dot->is_last) n = last_k(dot);
    if (dot->n_k_blocks == 1) {
        kiln_tile_zero(tile);
    } else {
        a = kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, dot->k_block, size * tile->a_k));
        if (!dot->widen) /* whose copies hold the block at work */
            b = kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, dot->k_block, size * tile->b_k));
        load_partial(dot, tile, partial_offset(dot, row, group));
    }
    add_products(dot, tile, a, b, n);
}

static void emit_register_tile(kiln_dot *dot, kiln_kv row, uint32_t rows, const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_tile tile = make_tile(dot, rows, group);
    kiln_axis_index column = kiln_axis_vector(group->column, dot->lanes);
    if (dot->is_last) kiln_epilogue_follow(&dot->epilogue, &tile, row, column);
    accumulate(dot, &tile, row, group);
    if (dot->is_last) {
        if (dot->totals && dot->n_k_blocks > 1)
            add_tile_totals(dot, &tile, partial_offset(dot, row, group));
        kiln_epilogue_emit(&dot->epilogue, &tile, row, column, group->last);
        return;
    }
    kiln_kv at = partial_offset(dot, row, group);
    for (uint32_t i = 0; i < rows * group->vectors; i++)
        kiln_k_store(k, dot->partial, kiln_k_add_imm(k, at, (int64_t)i * tile.lanes), tile.sums[i],
                     0, KILN_MEM_ALIGNED);
}

/* Register tiles of `rows` rows from first to end, steps of dot->rows. */
static void emit_rows(kiln_dot *dot, kiln_kv first, kiln_kv end, uint32_t rows,
                      const column_group *group)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, dot->rows);
    uint32_t mark = kiln_lower_mark(dot->lower);
    emit_register_tile(dot, row, rows, group);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

/* Columns first … end in steps of the full width, `vectors` of them each. */
static void emit_columns(kiln_dot *dot, kiln_kv first, kiln_kv end, column_group group,
                         kiln_kv row_end)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t width = (int64_t)dot->vectors * dot->lanes, m = dot->roles.m_size;
    kiln_kv whole = kiln_k_const_i64(k, m / dot->rows * dot->rows);
    group.column = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, width);
    uint32_t mark = kiln_lower_mark(dot->lower);
    kiln_dot_copy_columns(dot, group.column, group.vectors, group.last);
    if (m >= dot->rows)
        emit_rows(dot, dot->first_row, kiln_k_min(k, row_end, whole), dot->rows, &group);
    uint32_t tail = (uint32_t)(m % dot->rows);
    if (tail) emit_rows(dot, kiln_k_max(k, dot->first_row, whole), row_end, tail, &group);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

/* All columns of the tile: groups of the full width, and the rest. */
static void emit_block(kiln_dot *dot, kiln_kv row_end)
{
    kiln_kernel *k = dot->lower->kernel;
    bool is_own = dot->b.mode == KILN_DOT_OWN_PANELS;
    int64_t width = (int64_t)dot->vectors * dot->lanes;
    int64_t n = is_own ? dot->share_columns : dot->roles.n_size;
    kiln_kv column = dot->first_column, whole = kiln_k_const_i64(k, n / width * width);
    if (is_own) whole = kiln_k_binary(k, KILN_K_add, dot->share_begin, whole);
    column_group group = {.vectors = dot->vectors, .last = dot->lanes};
    if (n >= width) {
        kiln_kv end = kiln_k_min(k, dot->column_end, whole);
        kiln_kv last = end;
        bool is_ahead = dot->ahead.is_planned && dot->is_last;
        if (is_ahead) last = kiln_ahead_columns(dot->lower, &dot->ahead, column, end, width);
        emit_columns(dot, column, last, group, row_end);
        dot->ahead.is_at_work = is_ahead;
        if (is_ahead) emit_columns(dot, last, end, group, row_end);
        dot->ahead.is_at_work = false;
    }
    if (n % width == 0) return;
    group.vectors = (uint32_t)kiln_ceil_div(n % width, dot->lanes);
    group.last = (uint32_t)((n - 1) % dot->lanes + 1);
    emit_columns(dot, kiln_k_max(k, column, whole), dot->column_end, group, row_end);
}

/* All rows pass by the columns that the tile packs. */
static void emit_packed_tile(kiln_dot *dot, kiln_kv number)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_dot_place_panels(dot, number);
    kiln_dot_pack_panels(dot);
    kiln_kv zero = kiln_k_const_i64(k, 0), m = kiln_k_const_i64(k, dot->roles.m_size);
    dot->is_last = true;
    dot->first_row = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, m, dot->block_rows);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv row_end = kiln_k_min(k, kiln_k_add_imm(k, dot->first_row, dot->block_rows), m);
    kiln_dot_copy_rows(dot, dot->first_row, row_end);
    emit_block(dot, row_end);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static void emit_tile(kiln_dot *dot, kiln_kv number)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    if (dot->b.mode == KILN_DOT_OWN_PANELS) {
        emit_packed_tile(dot, number);
        return;
    }
    kiln_kv column_block = kiln_lower_op_imm(lower, KILN_K_rem, number, dot->n_column_blocks);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, number, dot->n_column_blocks);
    kiln_kv row_block = kiln_lower_op_imm(lower, KILN_K_rem, rest, dot->n_row_blocks);
    dot->batch = kiln_lower_op_imm(lower, KILN_K_div, rest, dot->n_row_blocks);
    if (dot->roles.batch_size == 1) dot->batch = kiln_k_const_i64(k, 0);
    kiln_kv row = kiln_k_mul_imm(k, row_block, dot->block_rows);
    kiln_kv row_end = kiln_k_add_imm(k, row, dot->block_rows);
    row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, dot->roles.m_size));
    dot->first_row = row;
    kiln_ahead_begin(lower, &dot->ahead, number);
    kiln_dot_copy_rows(dot, row, row_end);
    kiln_kv column = kiln_k_mul_imm(k, column_block, dot->block_columns);
    kiln_kv column_end = kiln_k_add_imm(k, column, dot->block_columns);
    dot->first_column = column;
    dot->column_end = kiln_k_min(k, column_end, kiln_k_const_i64(k, dot->roles.n_size));
    if (dot->is_streamed) {
        kiln_dot_emit_strip(dot);
        return;
    }
    dot->is_last = dot->n_k_blocks == 1;
    if (!dot->is_last) {
        kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, dot->n_k_blocks - 1);
        dot->k_block = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
        uint32_t mark = kiln_lower_mark(lower);
        emit_block(dot, row_end);
        if (dot->totals) end_chunk(dot);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
        dot->is_last = true;
        dot->k_block = end;
    }
    emit_block(dot, row_end);
}

static const int64_t *dims_of(const kiln_lower *lower, kiln_value value, kiln_ints axes)
{
    const kiln_type *type = kiln_graph_type(lower->graph, value);
    int64_t *dims = kiln_new_array(&lower->scope->arena, int64_t, axes.n + 1);
    for (uint32_t i = 0; i < axes.n; i++) dims[i] = type->dims[axes.at[i]];
    return dims;
}

void kiln_dot_describe(kiln_dot *dot, kiln_value contraction)
{
    kiln_lower *lower = dot->lower;
    const kiln_node *node = kiln_graph_node(lower->graph, contraction);
    const kiln_matmul_roles *roles = &dot->roles;
    dot->batch_dims = dims_of(lower, node->inputs[0], roles->a_batch);
    dot->m_dims = dims_of(lower, node->inputs[0], roles->a_m);
    dot->k_dims = dims_of(lower, node->inputs[0], roles->a_k);
    dot->n_dims = dims_of(lower, node->inputs[1], roles->b_n);
    dot->a.value = node->inputs[0];
    dot->b.value = node->inputs[1];
    dot->lanes = kiln_machine_lanes(lower->machine, dot->dtype);
    if (dot->lanes > KILN_PANEL) dot->lanes = KILN_PANEL;
    lower->lanes = dot->lanes;
}

static void set_tiles(kiln_dot *dot)
{
    int64_t n, sizes[] = {dot->roles.batch_size, dot->n_row_blocks, dot->n_column_blocks};
    if (!kiln_checked_product(sizes, 3, &n) || n > UINT32_MAX)
        kiln_fail(dot->lower->scope, KILN_LIMIT,
                  "group %s: more than 2^32 - 1 tiles; expected fewer", dot->lower->group->label);
    dot->lower->kernel->n_tiles = (uint32_t)n;
}

static void lower_tiled(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    const kiln_matmul_roles *roles = &dot->roles;
    kiln_tile_shape shape = {dot->lanes, roles->m_size, roles->n_size, roles->k_size, 0};
    if (roles->n_size <= dot->lanes) shape.most_rows = NARROW_ROWS;
    if (kiln_dot_has_row_move(dot)) shape.most_rows = PLACED_ROWS;
    kiln_tile_choice choice = {.cycles = -1};
    kiln_tile_rank(lower->machine, &shape, 1, &choice);
    const kiln_tuned *tuned = dot->tuned = &lower->group->tuned;
    dot->rows = tuned->rows ? tuned->rows : choice.rows;
    dot->vectors = tuned->rows ? tuned->vectors : choice.vectors;
    if (kiln_dot_find_weights(dot)) kiln_dot_choose_widening(dot);
    kiln_dot_choose_blocks(dot, choice.cycles);
    kiln_dot_find_operands(dot);
    dot->is_streamed = kiln_dot_is_streamed(dot);
    if (dot->is_streamed) kiln_dot_choose_strips(dot);
    bool is_own = kiln_dot_has_own_panels(dot);
    if (is_own) kiln_dot_choose_panels(dot);
    kiln_dot_add_locals(dot);
    set_tiles(dot);
    if (dot->dtype == KILN_f32 && !dot->is_streamed && !is_own)
        kiln_ahead_plan(lower, last_k(dot), count_row_tiles(dot), &dot->ahead);
    if (!dot->is_streamed && !dot->widen && !is_own) {
        lower->kernel->n_blocks[0] = (uint32_t)dot->n_row_blocks;
        lower->kernel->n_blocks[1] = (uint32_t)dot->n_column_blocks;
    }
    int64_t sums = dot->block_rows * dot->block_columns;
    bool is_cut = dot->n_k_blocks > 1;
    if (is_cut || dot->is_streamed)
        dot->partial = kiln_kernel_add_local(lower->kernel, dot->dtype, sums);
    if (roles->k_size > KILN_CHUNK && kiln_dtype_is_float(dot->dtype))
        dot->totals = kiln_kernel_add_local(lower->kernel, dot->dtype,
                                            is_cut ? sums : KILN_TILE_SUMS * dot->lanes);
    dot->epilogue = kiln_epilogue_create(lower, lower->group->anchor, dot->dtype);
    dot->epilogue.index = kiln_dot_result_index;
    dot->epilogue.user = dot;
    kiln_kernel *k = lower->kernel;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_tile(dot, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_dot_lower_roles(kiln_lower *lower, const kiln_matmul_roles *roles, kiln_dtype dtype)
{
    kiln_dot dot = {.lower = lower, .roles = *roles, .dtype = dtype};
    kiln_dot_describe(&dot, lower->group->anchor);
    if (kiln_graph_type(lower->graph, lower->group->anchor)->n_elements < KILN_PANEL)
        kiln_dot_lower_small(&dot);
    else if (kiln_dot_is_brief(&dot))
        kiln_dot_lower_brief(&dot);
    else
        lower_tiled(&dot);
}

bool kiln_dot_roles_first_weights(kiln_lower *lower, const kiln_matmul_roles *roles,
                                  kiln_first_weights *out_first)
{
    kiln_dot dot = {.lower = lower, .roles = *roles, .dtype = KILN_f32};
    if (roles->batch_size != 1) return false;
    dot.lanes = kiln_min_i64(kiln_machine_lanes(lower->machine, dot.dtype), KILN_PANEL);
    kiln_tile_choice choice =
        kiln_tile_choose(lower->machine, dot.lanes, roles->m_size, roles->n_size, roles->k_size);
    dot.rows = choice.rows;
    dot.vectors = choice.vectors;
    kiln_dot_choose_blocks(&dot, choice.cycles);
    *out_first = (kiln_first_weights){.n_panels = (int64_t)dot.vectors * dot.lanes / KILN_PANEL,
                                      .size = dot.k_block_size,
                                      .panel = roles->k_size * KILN_PANEL,
                                      .n_tiles = dot.n_row_blocks * dot.n_column_blocks,
                                      .n_blocks = dot.n_column_blocks,
                                      .block = dot.block_columns * roles->k_size};
    return true;
}

bool kiln_dot_first_weights(kiln_lower *lower, kiln_value anchor, kiln_first_weights *out_first)
{
    kiln_matmul_roles roles;
    kiln_dot_roles(&lower->scope->arena, lower->graph, anchor, &roles);
    return kiln_dot_roles_first_weights(lower, &roles, out_first);
}

void kiln_lower_dot(kiln_lower *lower)
{
    kiln_value anchor = lower->group->anchor;
    const kiln_node *node = kiln_graph_node(lower->graph, anchor);
    kiln_matmul_roles roles;
    kiln_dot_roles(&lower->scope->arena, lower->graph, anchor, &roles);
    kiln_dtype dtype = kiln_compute_dtype(node->attrs->dot.accumulate);
    if (kiln_amx_input(lower) != KILN_NONE)
        kiln_lower_amx(lower, &roles, dtype);
    else
        kiln_dot_lower_roles(lower, &roles, dtype);
}
