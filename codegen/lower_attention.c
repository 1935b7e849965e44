/* Attention groups: tiles are a batch element or a stretch of its rows. A tile packs the keys once;
 * then, for each block of rows: scores by register tiles into a local, the rows through one
 * reduction after the other in place (the walk of row groups), and the weights times the values by
 * register tiles again. Scores never leave the first caches. Every element is computed as the
 * separate groups would, so the bits agree. */
#include "codegen/amx_attention.h"
#include "codegen/lower_dot.h"
#include "codegen/lower_row.h"

#include "base/checked.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define MOST_ROWS 16 /* of a block: every register tile of it is code of its own */
#define NEAR_BEST 1.005 /* a block that takes so much longer but has fewer rows is less code */
#define FED_STEPS 64
#define LOAD_COST 0.6
#define TILES_PER_THREAD 4
#define MOST_FETCHED 4 /* rows of keys and values for a row of scores */

typedef struct attention {
    kiln_lower *lower;
    kiln_attention_match match;
    kiln_dot first, second;
    uint32_t scores, keys, values; /* locals; values: KILN_NONE when read in place */
    int64_t pitch;                 /* of a row of scores, in elements */
    int64_t value_pitch;
    int64_t block, n_parts, part_rows;
    kiln_row_walk walk;
    uint32_t results[KILN_MAX_ATTENTION_REDUCTIONS]; /* locals, an element a row */
    bool is_tiled; /* products of bf16 by matrix tiles */
    kiln_amx_attention tiles;
} attention;

/* A block of rows at work: `rows` of them from `row` on. */
typedef struct row_block {
    kiln_kv row;
    uint32_t rows;
} row_block;

/* Where a register tile stands: rows row0 … of the block, columns from `column` on, of whose last
 * vector `last` lanes exist. */
typedef struct tile_place {
    uint32_t row0, last;
    kiln_kv column;
} tile_place;

/* What a product of the block does for one register tile. */
typedef void tile_fn(attention *a, const row_block *block, kiln_tile *tile, const tile_place *at);

/* Where column `column` of an operand with `depth` steps of k starts in its local of panels. */
static kiln_kv panel_offset(kiln_kernel *k, kiln_kv column, int64_t depth)
{
    kiln_kv panel = kiln_k_mul_imm(k, kiln_k_div_imm(k, column, KILN_PANEL), depth * KILN_PANEL);
    return kiln_k_binary(k, KILN_K_add, panel, kiln_k_rem_imm(k, column, KILN_PANEL));
}

/* Vectors along n, element by element of k. */
static void pack_vectors(attention *a, kiln_dot *dot, uint32_t local, kiln_kv column)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = dot->roles.n_size, depth = dot->roles.k_size;
    kiln_kv mask = n % dot->lanes ? kiln_k_active(k, dot->lanes, kiln_k_binary(k, KILN_K_sub,
                                                  kiln_k_const_i64(k, n), column)) : 0;
    kiln_kv base = panel_offset(k, column, depth), zero = kiln_k_const_i64(k, 0);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, depth), 1);
    uint32_t mark = kiln_lower_mark(lower);
    lower->lanes = dot->lanes;
    lower->mask = mask;
    kiln_index index =
        kiln_dot_b_index(dot, kiln_axis_vector(column, dot->lanes), kiln_axis_scalar(at, 1));
    kiln_kv value = kiln_lower_value(lower, dot->b.value, &index);
    if (mask)
        value = kiln_k_select(k, mask, value, kiln_k_const_bits(k, dot->dtype, dot->lanes, 0));
    lower->mask = 0;
    kiln_kv to = kiln_k_binary(k, KILN_K_add, base, kiln_k_mul_imm(k, at, KILN_PANEL));
    kiln_k_store(k, local, to, value, 0, 0);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Vectors along k, transposed in registers: for an operand whose k lies together. */
static void pack_squares(attention *a, kiln_dot *dot, uint32_t local, kiln_kv column)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    int64_t depth = dot->roles.k_size;
    kiln_kv base = panel_offset(k, column, depth), zero = kiln_k_const_i64(k, 0);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, depth), dot->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv rows[KILN_PANEL];
    lower->lanes = dot->lanes;
    for (uint32_t i = 0; i < dot->lanes; i++) {
        kiln_axis_index row = kiln_axis_scalar(kiln_k_add_imm(k, column, i), 1);
        kiln_index index = kiln_dot_b_index(dot, row, kiln_axis_vector(at, dot->lanes));
        rows[i] = kiln_lower_value(lower, dot->b.value, &index);
    }
    kiln_lower_transpose(k, rows, dot->lanes);
    kiln_kv to = kiln_k_binary(k, KILN_K_add, base, kiln_k_mul_imm(k, at, KILN_PANEL));
    for (uint32_t i = 0; i < dot->lanes; i++)
        kiln_k_store(k, local, kiln_k_add_imm(k, to, i * KILN_PANEL), rows[i], 0, 0);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static bool has_squares(const kiln_dot *dot)
{
    return dot->b.k_step == 1 && dot->b.step != 1 && dot->roles.n_size % dot->lanes == 0 &&
           dot->roles.k_size % dot->lanes == 0;
}

/* Copies one operand of a product to a local of panels. */
static void pack_panels(attention *a, kiln_dot *dot, uint32_t local)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, dot->roles.n_size);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, dot->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    if (has_squares(dot))
        pack_squares(a, dot, local, column);
    else
        pack_vectors(a, dot, local, column);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* A product's register tiles for a block of so many rows. The second cache feeds any of them, since
 * what they read was asked for before: so no more steps of k count than the first cache holds. */
static kiln_tile_choice choose_tile(const attention *a, const kiln_dot *dot, int64_t rows)
{
    int64_t steps = kiln_min_i64(dot->roles.k_size, FED_STEPS);
    return kiln_tile_choose(a->lower->machine, dot->lanes, rows, dot->roles.n_size, steps);
}

static kiln_tile make_tile(attention *a, kiln_dot *dot, uint32_t rows, uint32_t vectors)
{
    return (kiln_tile){.lower = a->lower, .dtype = dot->dtype, .lanes = dot->lanes, .rows = rows,
                       .vectors = vectors};
}

/* All register tiles of the block's rows and n columns: whole groups of vectors in a loop, then the
 * rest. */
static void emit_product(attention *a, kiln_dot *dot, const row_block *block, int64_t n,
                         tile_fn *emit)
{
    kiln_kernel *k = a->lower->kernel;
    uint32_t lanes = dot->lanes;
    kiln_tile_choice choice = choose_tile(a, dot, block->rows);
    int64_t width = (int64_t)choice.vectors * lanes, whole = n / width * width;
    for (uint32_t row0 = 0; row0 < block->rows; row0 += choice.rows) {
        uint32_t rows = block->rows - row0 < choice.rows ? block->rows - row0 : choice.rows;
        if (whole) {
            kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0),
                                         kiln_k_const_i64(k, whole), width);
            uint32_t mark = kiln_lower_mark(a->lower);
            kiln_tile tile = make_tile(a, dot, rows, choice.vectors);
            emit(a, block, &tile, &(tile_place){row0, lanes, column});
            kiln_lower_cut(a->lower, mark);
            kiln_k_end(k);
        }
        if (whole == n) continue;
        uint32_t mark = kiln_lower_mark(a->lower);
        kiln_tile tile = make_tile(a, dot, rows, (uint32_t)kiln_ceil_div(n - whole, lanes));
        tile_place at = {row0, (uint32_t)((n - 1) % lanes + 1), kiln_k_const_i64(k, whole)};
        emit(a, block, &tile, &at);
        kiln_lower_cut(a->lower, mark);
    }
}

/* Scores of a register tile, to the local. Columns past the last key are products with zeros that
 * nothing reads. */
static void emit_scores(attention *a, const row_block *block, kiln_tile *tile,
                        const tile_place *place)
{
    kiln_kernel *k = a->lower->kernel;
    kiln_dot *dot = &a->first;
    tile->a = dot->a.source;
    tile->a_k = dot->a.k_step;
    for (uint32_t r = 0; r < tile->rows; r++) tile->a_row[r] = r * dot->a.step;
    tile->b = (kiln_tile_source){.buffer = a->keys, .dtype = KILN_NO_DTYPE};
    tile->b_is_near = true;
    kiln_tile_use_panels(tile, dot->roles.k_size);
    kiln_kv from = kiln_dot_row_offset(dot, kiln_k_add_imm(k, block->row, place->row0));
    kiln_tile_zero(tile);
    kiln_tile_accumulate(tile, from, kiln_k_mul_imm(k, place->column, dot->roles.k_size),
                         dot->roles.k_size);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) {
        int64_t at = (place->row0 + i / tile->vectors) * a->pitch +
                     (int64_t)(i % tile->vectors) * tile->lanes;
        kiln_k_store(k, a->scores, kiln_k_add_imm(k, place->column, at), tile->sums[i], 0, 0);
    }
}

static void emit_outputs(attention *a, const row_block *block, kiln_tile *tile,
                         const tile_place *place)
{
    kiln_kernel *k = a->lower->kernel;
    kiln_dot *dot = &a->second;
    tile->a = (kiln_tile_source){.buffer = a->scores, .dtype = KILN_NO_DTYPE};
    tile->a_k = 1;
    for (uint32_t r = 0; r < tile->rows; r++) tile->a_row[r] = r * a->pitch;
    kiln_kv from;
    if (a->values == KILN_NONE) {
        tile->b = dot->b.source;
        tile->b_k = dot->b.k_step;
        for (uint32_t v = 0; v < tile->vectors; v++) tile->b_vector[v] = (int64_t)v * tile->lanes;
        if (place->last < tile->lanes) {
            tile->b_mask = kiln_k_active(k, tile->lanes, kiln_k_const_i64(k, place->last));
        }
        from = kiln_dot_column_offset(dot, place->column);
    } else {
        tile->b = (kiln_tile_source){.buffer = a->values, .dtype = KILN_NO_DTYPE};
        kiln_tile_use_panels(tile, dot->roles.k_size);
        from = kiln_k_mul_imm(k, place->column, dot->roles.k_size);
    }
    tile->b_is_near = true;
    kiln_tile_zero(tile);
    kiln_tile_accumulate(tile, kiln_k_const_i64(k, place->row0 * a->pitch), from,
                         dot->roles.k_size);
    kiln_kv row = kiln_k_add_imm(k, block->row, place->row0);
    kiln_epilogue_emit(&dot->epilogue, tile, row, kiln_axis_vector(place->column, tile->lanes),
                       place->last);
}

/* While a row is at work, the row of the next block comes into the second cache, and that row's
 * share of the next batch element's keys and values. */
static void fetch_ahead(attention *a, const row_block *block, kiln_kv r)
{
    kiln_kernel *k = a->lower->kernel;
    kiln_dot *first = &a->first, *second = &a->second;
    int64_t share = kiln_ceil_div(a->match.columns, a->match.rows);
    kiln_kv row = kiln_k_binary(k, KILN_K_add, block->row, r), batch = first->batch;
    kiln_dot_fetch_a(first, kiln_k_add_imm(k, row, a->block));
    if (share > MOST_FETCHED) return;
    first->batch = second->batch = kiln_k_add_imm(k, batch, 1);
    for (int64_t i = 0; i < share; i++) {
        kiln_kv column = kiln_k_add_imm(k, kiln_k_mul_imm(k, row, share), i);
        column = kiln_k_min(k, column, kiln_k_const_i64(k, a->match.columns - 1));
        kiln_dot_fetch_b(first, column);
        kiln_dot_fetch_b(second, column);
    }
    first->batch = second->batch = batch;
}

/* What row r of the block has been through before stage `number`: the results of reductions and
 * where its scores stand. */
static void bind_row(attention *a, kiln_kv r, uint32_t number)
{
    kiln_lower *lower = a->lower;
    int64_t strides[KILN_MAX_RANK];
    kiln_row_strides(kiln_graph_type(lower->graph, a->match.scores), a->match.columns, strides);
    kiln_lower_bind_local(lower, a->match.scores, a->scores, strides);
    lower->bindings.at[lower->bindings.n - 1].base = a->walk.local_base;
    for (uint32_t i = 0; i < number; i++) {
        kiln_kv result = kiln_k_load(lower->kernel, a->results[i], r, 1, 0, 0);
        kiln_lower_bind(lower, a->match.reductions[i], result);
        kiln_row_bind_kept(&a->walk, i);
    }
}

/* One stage of all the block's rows. The end of a reduction is a chain of its own; the next row's
 * work runs beside it, since it does not wait for that. */
static void emit_stage(attention *a, const row_block *block, uint32_t number)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv r = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0),
                            kiln_k_const_i64(k, block->rows), 1);
    uint32_t mark = kiln_lower_mark(lower), n_bindings = lower->bindings.n;
    if (number == 0) fetch_ahead(a, block, r);
    kiln_kv before = kiln_k_mul_imm(k, a->first.batch, a->match.rows);
    kiln_kv row = kiln_k_binary(k, KILN_K_add, before, kiln_k_binary(k, KILN_K_add, block->row, r));
    a->walk.row = kiln_axis_scalar(row, 1);
    a->walk.local_base = kiln_k_mul_imm(k, r, a->pitch);
    lower->lanes = a->first.lanes;
    lower->lanes = kiln_row_lanes(lower, a->match.columns);
    bind_row(a, r, number);
    const kiln_kv *results = kiln_row_walk_stage(&a->walk, number);
    if (number < a->match.n_reductions) kiln_k_store(k, a->results[number], r, results[0], 0, 0);
    kiln_lower_unbind(lower, lower->bindings.n - n_bindings);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static void emit_rows(attention *a, const row_block *block)
{
    for (uint32_t i = 0; i < a->walk.stages.n; i++) emit_stage(a, block, i);
}

static void emit_block(attention *a, const row_block *block)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    if (a->is_tiled) {
        kiln_amx_attention_scores(&a->tiles, block->row, block->rows);
        emit_rows(a, block);
        kiln_amx_attention_outputs(&a->tiles, block->row, block->rows);
        return;
    }
    a->first.first_row = block->row;
    kiln_dot_copy_rows(&a->first, block->row, kiln_k_add_imm(k, block->row, block->rows));
    emit_product(a, &a->first, block, kiln_round_up(a->match.columns, KILN_PANEL), emit_scores);
    emit_rows(a, block);
    emit_product(a, &a->second, block, a->second.roles.n_size, emit_outputs);
}

static void emit_tile(attention *a, kiln_kv number)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    int64_t rows = a->match.rows, whole = rows / a->block * a->block;
    kiln_kv batch = kiln_k_div_imm(k, number, a->n_parts),
            part = kiln_k_rem_imm(k, number, a->n_parts);
    a->first.batch = a->second.batch = batch;
    if (a->is_tiled) kiln_amx_attention_pack(&a->tiles, batch);
    if (!a->is_tiled) pack_panels(a, &a->first, a->keys);
    if (!a->is_tiled && a->values != KILN_NONE) pack_panels(a, &a->second, a->values);
    kiln_kv first = kiln_k_mul_imm(k, part, a->part_rows);
    kiln_kv end = kiln_k_min(k, kiln_k_add_imm(k, first, a->part_rows), kiln_k_const_i64(k, rows));
    if (whole) {
        kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first,
                                  kiln_k_min(k, end, kiln_k_const_i64(k, whole)), a->block);
        uint32_t mark = kiln_lower_mark(lower);
        emit_block(a, &(row_block){row, (uint32_t)a->block});
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
    if (whole == rows) return;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_max(k, first, kiln_k_const_i64(k, whole)),
                              end, a->block);
    uint32_t mark = kiln_lower_mark(lower);
    emit_block(a, &(row_block){row, (uint32_t)(rows - whole)});
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static uint32_t add_results(attention *a, kiln_value reduction)
{
    kiln_dtype dtype = kiln_graph_type(a->lower->graph, reduction)->dtype;
    return kiln_kernel_add_local(a->lower->kernel, kiln_compute_dtype(dtype), a->block);
}

/* Stages of the walk: reduction i over operand i, kept in place of the scores; last, the
 * weights. */
static void set_stages(attention *a)
{
    kiln_lower *lower = a->lower;
    kiln_arena *arena = &lower->scope->arena;
    const kiln_attention_match *match = &a->match;
    kiln_stages *stages = &a->walk.stages;
    a->walk.lower = lower;
    a->walk.tree = kiln_row_tree;
    stages->n = match->n_reductions + 1;
    stages->n_results = a->first.roles.batch_size * match->rows;
    stages->n_reduced = match->columns;
    stages->full = kiln_graph_type(lower->graph, match->scores);
    kiln_value kept = match->scores;
    for (uint32_t i = 0; i < stages->n; i++) {
        bool is_last = i == match->n_reductions;
        kiln_value full = is_last ? match->weights : match->operands[i];
        if (!is_last) a->results[i] = add_results(a, match->reductions[i]);
        if (!is_last) kiln_vec_push(&stages->stage[i].reductions, arena, match->reductions[i]);
        if (full.id != kept.id) kiln_vec_push(&stages->stage[i].kept, arena, full);
        kept = full;
    }
    a->walk.locals = kiln_new_array(arena, uint32_t, lower->group->n_nodes + 1);
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) a->walk.locals[i] = a->scores;
}

/* Cycles of a product for a block of rows. Loads slow the clock: 4 x 4 vectors take a twentieth
 * longer than 6 x 4, which do as many multiply-adds a cycle with a sixth fewer. */
static double product_cycles(const attention *a, const kiln_dot *dot, int64_t rows)
{
    kiln_tile_choice tile = choose_tile(a, dot, rows);
    double sums = (double)tile.rows * tile.vectors, loads = (double)tile.rows + tile.vectors;
    double steps = (double)dot->roles.k_size;
    double trips = steps > FED_STEPS ? steps / FED_STEPS : 1;
    return tile.cycles * trips * (1 + LOAD_COST * loads / sums);
}

static double all_cycles(const attention *a, int64_t block)
{
    int64_t rows = a->match.rows, rest = rows % block;
    double cycles = product_cycles(a, &a->first, block) + product_cycles(a, &a->second, block);
    cycles *= (double)(rows / block);
    if (!rest) return cycles;
    return cycles + product_cycles(a, &a->first, rest) + product_cycles(a, &a->second, rest);
}

/* The fewest rows that take about the least time: their scores stay in the first cache, the code is
 * short. Twice as many where keys and values leave the second cache. */
static void choose_block(attention *a)
{
    const kiln_matmul_roles *first = &a->first.roles, *second = &a->second.roles;
    int64_t rows = a->match.rows, most = kiln_min_i64(rows, MOST_ROWS);
    double cycles[MOST_ROWS + 1], best = 0;
    for (int64_t block = 1; block <= most; block++) {
        cycles[block] = all_cycles(a, block);
        if (block == 1 || cycles[block] < best) best = cycles[block];
    }
    a->block = 1;
    while (cycles[a->block] > best * NEAR_BEST) a->block++;
    double bytes = (double)first->k_size + (double)second->n_size;
    bytes *= (double)a->match.columns * sizeof(float);
    if (bytes > a->lower->machine->l2_bytes / 4 * 3) a->block = kiln_min_i64(2 * a->block, rows);
}

static void choose_blocks(attention *a)
{
    int64_t rows = a->match.rows;
    if (!a->is_tiled) choose_block(a);
    if (a->is_tiled) a->block = kiln_min_i64(rows, KILN_AMX_ATTENTION_ROWS);
    int64_t n_blocks = kiln_ceil_div(rows, a->block);
    int64_t enough = (int64_t)a->lower->schedule->n_threads * TILES_PER_THREAD;
    int64_t n_parts = kiln_ceil_div(enough, a->first.roles.batch_size);
    if (a->lower->schedule->n_threads <= 1) n_parts = 1;
    a->part_rows = kiln_ceil_div(n_blocks, kiln_min_i64(n_parts, n_blocks)) * a->block;
    a->n_parts = kiln_ceil_div(rows, a->part_rows);
}

static void prepare_products(attention *a)
{
    kiln_lower *lower = a->lower;
    kiln_kernel *k = lower->kernel;
    kiln_dot *first = &a->first, *second = &a->second;
    if (a->is_tiled) {
        kiln_amx_attention_prepare(&a->tiles, first, second, a->block);
        a->scores = a->tiles.scores;
        a->pitch = a->tiles.pitch;
        return;
    }
    first->rows = second->rows = (uint32_t)a->block;
    first->vectors = second->vectors = 2;
    first->block_rows = a->block;
    first->block_columns = first->roles.n_size;
    second->block_columns = second->roles.n_size;
    kiln_dot_find_operands(first);
    first->b.mode = KILN_DOT_PANELS;
    kiln_dot_add_locals(first);
    kiln_dot_find_operands(second);
    int64_t key_columns = kiln_round_up(a->match.columns, KILN_PANEL);
    a->scores = kiln_kernel_add_local(k, KILN_f32, a->block * a->pitch);
    a->keys = kiln_kernel_add_local(k, KILN_f32, key_columns * first->roles.k_size);
    a->values = KILN_NONE;
    if (second->b.mode != KILN_DOT_DIRECT) {
        int64_t columns = kiln_round_up(second->roles.n_size, KILN_PANEL);
        a->values = kiln_kernel_add_local(k, KILN_f32, columns * second->roles.k_size);
    }
    second->epilogue = kiln_epilogue_create(lower, lower->group->anchor, second->dtype);
    second->epilogue.index = kiln_dot_result_index;
    second->epilogue.user = second;
}

static void describe_product(kiln_dot *dot, kiln_value node)
{
    dot->dtype = KILN_f32;
    kiln_dot_roles(&dot->lower->scope->arena, dot->lower->graph, node, &dot->roles);
    kiln_dot_describe(dot, node);
}

void kiln_lower_attention(kiln_lower *lower)
{
    attention a = {.lower = lower, .first = {.lower = lower}, .second = {.lower = lower}};
    if (!kiln_match_attention(&lower->scope->arena, lower->graph, lower->group->anchor, &a.match)) {
        kiln_fail(lower->scope, KILN_INTERNAL, "group %s: it is no attention", lower->group->label);
    }
    a.is_tiled = kiln_graph_type(lower->graph, a.match.weights)->dtype == KILN_bf16;
    describe_product(&a.first, a.match.scores);
    describe_product(&a.second, lower->group->anchor);
    a.pitch = kiln_round_up(a.match.columns, KILN_PANEL) +
              KILN_PANEL; /* an odd number of lines, mostly */
    choose_blocks(&a);
    prepare_products(&a);
    set_stages(&a);
    kiln_kernel *k = lower->kernel;
    int64_t n_tiles;
    if (!kiln_checked_mul(a.first.roles.batch_size, a.n_parts, &n_tiles) || n_tiles > UINT32_MAX) {
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: more than 2^32 - 1 tiles; expected fewer",
                  lower->group->label);
    }
    k->n_tiles = (uint32_t)n_tiles;
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_tile(&a, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
