/* Dot groups by matrix tiles: [batch, row block, column block] work tiles. Inside one, for each
 * block of k and group of panels, runs over k as long as the panels' part stays in the first cache;
 * in a run, blocks of tiles down the rows, whose operand streams from the second cache. Sums stand
 * in a local between runs (or every run has fresh ones, which are added to it), whence they go to
 * the epilogue, row by row, while the next block or group of panels is at work. */

#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/math.h"
#include "kiln/program.h"

typedef struct column_group column_group;
/* What happens to `n_rows` rows from `row` on. */
typedef void block_fn(kiln_amx *amx, kiln_kv row, int64_t n_rows, const column_group *group);
struct column_group {
    bool is_stored;         /* the sums are ready, only the outputs are left */
    bool is_end;            /* the block of k at work is the last one */
    kiln_kv first, column;  /* of the work tile, of the group */
    uint32_t vectors, last; /* lanes of the last vector that exist */
    /* the run at work: steps of the block of k, n from number `begin` on */
    kiln_kv begin;
    int64_t n;
    bool is_first, is_last;
};

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

/* Where the fresh sums of the block at `row` stand: one of two places, so that the block before
 * still has its own. */
static kiln_kv scratch_at(const kiln_amx *amx, kiln_kv row)
{
    const kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t rows = dot->rows * KILN_TILE_SIDE, width = dot->vectors * KILN_TILE_SIDE;
    kiln_kv number = kiln_k_div_imm(k, kiln_k_binary(k, KILN_K_sub, row, dot->first_row), rows);
    return kiln_k_mul_imm(k, kiln_k_rem_imm(k, number, 2), rows * width);
}

/* Where the sums of row `row` of a group stand. */
static kiln_kv sums_at(const kiln_amx *amx, kiln_kv row, const column_group *group)
{
    const kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t width = dot->vectors * KILN_TILE_SIDE;
    if (amx->sums == amx->scratch) return scratch_at(amx, row);
    kiln_kv in_block = kiln_k_binary(k, KILN_K_sub, row, dot->first_row);
    kiln_kv number = kiln_k_binary(k, KILN_K_sub, group->column, group->first);
    number = kiln_k_div_imm(k, number, width);
    if (amx->is_deferred) number = kiln_k_rem_imm(k, number, 2);
    number = kiln_k_mul_imm(k, number, dot->block_rows);
    return kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_add, number, in_block), width);
}

/* Whether the run at work is the first one of all. */
static bool is_start(const kiln_amx *amx, const column_group *group)
{
    return group->is_first && amx->k_block == amx->k_padded;
}

static kiln_amx_result result_of(kiln_amx *amx, const kiln_amx_rest *rest)
{
    const column_group *group = rest->user;
    kiln_amx_result result = {.row = rest->row,
                              .column = group->column,
                              .sums = sums_at(amx, rest->row, group),
                              .vectors = group->vectors,
                              .last = group->last};
    if (amx->is_fresh) {
        result.fresh = scratch_at(amx, rest->row);
        result.is_alone = is_start(amx, group);
    }
    return result;
}

/* Rows of the block at rest->row to the outputs. */
static void store_block_rows(kiln_amx *amx, const kiln_amx_rest *rest, const kiln_kv range[2],
                             uint32_t step)
{
    kiln_amx_result result = result_of(amx, rest);
    kiln_amx_store(amx, &result, range, step);
}

static void fetch_block_rows(kiln_amx *amx, const kiln_amx_rest *rest, kiln_kv row, uint32_t n)
{
    kiln_amx_result result = result_of(amx, rest);
    row = kiln_k_binary(amx->dot.lower->kernel, KILN_K_add, rest->row, row);
    kiln_amx_fetch_lines(amx, &result, row, n);
}

/* sums += scratch; the first run has nothing to add to. */
static void add_block_rows(kiln_amx *amx, const kiln_amx_rest *rest, const kiln_kv range[2],
                           uint32_t step)
{
    const column_group *group = rest->user;
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t width = amx->dot.vectors * KILN_TILE_SIDE;
    kiln_kv sums = sums_at(amx, rest->row, group), scratch = scratch_at(amx, rest->row);
    kiln_kv is_first = 0, none = kiln_k_const_i64(k, 0);
    if (group->is_first && !group->is_end) {
        is_first = kiln_k_binary(k, KILN_K_eq, amx->k_first, none);
        is_first = kiln_k_splat(k, is_first, KILN_TILE_SIDE);
    }
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, range[0], range[1], step);
    kiln_kv base = kiln_k_mul_imm(k, row, width);
    for (uint32_t i = 0; i < step * group->vectors; i++) {
        int64_t offset = i / group->vectors * width + i % group->vectors * KILN_TILE_SIDE;
        kiln_kv at = kiln_k_add_imm(k, base, offset);
        kiln_kv from = kiln_k_binary(k, KILN_K_add, scratch, at);
        kiln_kv to = kiln_k_binary(k, KILN_K_add, sums, at), sum;
        kiln_kv more = kiln_k_load(k, amx->scratch, from, KILN_TILE_SIDE, 0, KILN_MEM_ALIGNED);
        if (is_start(amx, group)) {
            sum = more;
        } else {
            sum = kiln_k_load(k, amx->sums, to, KILN_TILE_SIDE, 0, KILN_MEM_ALIGNED);
            sum = kiln_k_binary(k, KILN_K_add, sum, more);
        }
        if (is_first) sum = kiln_k_select(k, is_first, more, sum);
        kiln_k_store(k, amx->sums, to, sum, 0, KILN_MEM_ALIGNED);
    }
    kiln_k_end(k);
}

/* What is left to do once the block at `row` has its sums. */
static kiln_amx_rest rest_of(kiln_amx *amx, kiln_kv row, int64_t n_rows, const column_group *group)
{
    bool is_added = amx->is_fresh && !(group->is_last && group->is_end);
    return (kiln_amx_rest){.emit = is_added ? add_block_rows : store_block_rows,
                           .fetch = is_added ? NULL : fetch_block_rows,
                           .user = group,
                           .row = row,
                           .n_rows = n_rows,
                           .is_short = is_added};
}

/* All of it, at once. */
static void finish_block(kiln_amx *amx, kiln_kv row, int64_t n_rows, const column_group *group)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_amx_rest rest = rest_of(amx, row, n_rows, group);
    int64_t whole = n_rows / 4 * 4;
    kiln_kv range[2] = {kiln_k_const_i64(k, 0), kiln_k_const_i64(k, whole)};
    if (whole) rest.emit(amx, &rest, range, 4);
    range[0] = range[1];
    range[1] = kiln_k_const_i64(k, n_rows);
    if (whole < n_rows) rest.emit(amx, &rest, range, 1);
}

/* What the next run reads of B goes to the second cache: each block fetches some lines of every
 * tile, the run after the last one being the first of the next group of panels. */
static void plan_ahead(kiln_amx *amx, kiln_amx_block *block, kiln_kv row, const column_group *group)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t rows = dot->rows * KILN_TILE_SIDE, tile_lines = KILN_TILE_WORDS / KILN_TILE_SIDE;
    int64_t n_blocks = kiln_ceil_div(kiln_min_i64(dot->block_rows, dot->roles.m_size), rows);
    if (!amx->is_ahead) return;
    block->lines = (uint32_t)kiln_ceil_div(tile_lines, n_blocks);
    kiln_kv number = kiln_k_div_imm(k, kiln_k_binary(k, KILN_K_sub, row, dot->first_row), rows);
    kiln_kv share = kiln_k_mul_imm(k, number, block->lines * KILN_TILE_SIDE);
    int64_t next = amx->run * KILN_TILE_WORDS;
    if (group->is_last)
        next = dot->vectors * amx->panel_words -
               (amx->k_here_padded / amx->tile_k - group->n) * KILN_TILE_WORDS;
    kiln_kv from = kiln_k_add_imm(k, block->b, next);
    block->ahead = kiln_k_binary(k, KILN_K_add, from, share);
}

static kiln_amx_block find_block(kiln_amx *amx, kiln_kv row, int64_t n_rows,
                                 const column_group *group)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    kiln_amx_block block = {.vectors = group->vectors,
                            .rows = (uint32_t)kiln_ceil_div(n_rows, KILN_TILE_SIDE),
                            .n = group->n};
    int64_t n_panels = kiln_ceil_div(dot->roles.n_size, KILN_TILE_SIDE);
    block.a = kiln_amx_row_offset(amx, row);
    block.first = group->begin;
    if (!amx->step_place)
        block.a =
            kiln_k_binary(k, KILN_K_add, block.a, kiln_k_mul_imm(k, group->begin, amx->a_step));
    kiln_kv panel = kiln_k_div_imm(k, group->column, KILN_TILE_SIDE);
    panel = kiln_k_binary(k, KILN_K_add, panel, kiln_k_mul_imm(k, dot->batch, n_panels));
    kiln_kv b = kiln_k_mul_imm(k, panel, amx->panel_words);
    kiln_kv step = kiln_k_mul_imm(k, amx->k_first, KILN_TILE_WORDS / amx->tile_k);
    b = kiln_k_binary(k, KILN_K_add, b, step);
    step = kiln_k_mul_imm(k, group->begin, KILN_TILE_WORDS);
    block.b = kiln_k_binary(k, KILN_K_add, b, step);
    plan_ahead(amx, &block, row, group);
    return block;
}

/* Whether blocks leave something to the next one. */
static bool has_rest(const kiln_amx *amx, const column_group *group)
{
    return amx->is_fresh || (group->is_last && !amx->is_deferred);
}

/* What the block of a run does between its steps: what is left of the block before, or a share of
 * what the group of columns before left of the same rows. */
static kiln_amx_rest find_rest(kiln_amx *amx, kiln_kv row, int64_t n_rows,
                               const column_group *group, column_group *out_before)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t rows = amx->dot.rows * KILN_TILE_SIDE, width = amx->dot.vectors * KILN_TILE_SIDE;
    kiln_kv before = kiln_k_binary(k, KILN_K_sub, row, amx->dot.first_row);
    *out_before = *group;
    kiln_amx_rest rest = rest_of(amx, kiln_k_add_imm(k, row, -rows), rows, out_before);
    if (amx->is_deferred) {
        before = kiln_k_binary(k, KILN_K_sub, group->column, group->first);
        out_before->column = kiln_k_add_imm(k, group->column, -width);
        out_before->vectors = amx->dot.vectors;
        out_before->last = KILN_TILE_SIDE;
        rest.row = row;
        rest.n_rows = n_rows;
        rest.n_steps = amx->k_padded / amx->tile_k;
        rest.begin = group->begin;
    }
    rest.exists = kiln_k_min(k, before, kiln_k_const_i64(k, 1));
    return rest;
}

static void run_block(kiln_amx *amx, kiln_kv row, int64_t n_rows, const column_group *group)
{
    int64_t rows = amx->dot.rows * KILN_TILE_SIDE;
    kiln_amx_block block = find_block(amx, row, n_rows, group);
    column_group before;
    block.sums = amx->is_fresh ? amx->scratch : amx->sums;
    block.at = amx->is_fresh ? scratch_at(amx, row) : sums_at(amx, row, group);
    block.is_fresh = amx->is_fresh || group->is_first;
    bool is_shared = amx->is_deferred || (n_rows == rows && has_rest(amx, group));
    kiln_amx_rest rest;
    if (is_shared) rest = find_rest(amx, row, n_rows, group, &before);
    if (is_shared) block.rest = &rest;
    kiln_amx_run(amx, &block);
}

/* Does `emit` for the blocks of n_rows rows from first to end. */
static void over_rows(kiln_amx *amx, const kiln_kv range[2], int64_t n_rows,
                      const column_group *group, block_fn *emit)
{
    kiln_lower *lower = amx->dot.lower;
    int64_t rows = amx->dot.rows * KILN_TILE_SIDE;
    kiln_kv row = kiln_k_loop(lower->kernel, KILN_LOOP_SERIAL, range[0], range[1], rows);
    uint32_t mark = kiln_lower_mark(lower);
    emit(amx, row, n_rows, group);
    kiln_lower_cut(lower, mark);
    kiln_k_end(lower->kernel);
}

/* Blocks of n_rows rows from first to end; the last one has nobody to do what it leaves. */
static void emit_rows(kiln_amx *amx, kiln_kv first, kiln_kv end, int64_t n_rows,
                      const column_group *group)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t rows = amx->dot.rows * KILN_TILE_SIDE;
    kiln_kv range[2] = {first, end};
    if (group->is_stored) {
        over_rows(amx, range, n_rows, group, finish_block);
        return;
    }
    over_rows(amx, range, n_rows, group, run_block);
    if (!has_rest(amx, group)) return;
    if (n_rows == rows) range[0] = kiln_k_max(k, first, kiln_k_add_imm(k, end, -rows));
    over_rows(amx, range, n_rows, group, finish_block);
}

/* All rows of the work tile for a run over k. */
static void emit_run(kiln_amx *amx, kiln_kv row_end, const column_group *group)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t rows = dot->rows * KILN_TILE_SIDE, m = dot->roles.m_size, tail = m % rows;
    kiln_kv whole = kiln_k_const_i64(k, m - tail);
    if (amx->is_moved && !group->is_stored) {
        kiln_amx_block block = find_block(amx, dot->first_row, rows, group);
        kiln_amx_find_added(amx, &block);
    }
    if (m >= rows) emit_rows(amx, dot->first_row, kiln_k_min(k, row_end, whole), rows, group);
    if (tail) emit_rows(amx, kiln_k_max(k, dot->first_row, whole), row_end, tail, group);
}

/* The runs over the block of k: the first and the last one have code of their own. */
static void emit_runs(kiln_amx *amx, kiln_kv row_end, column_group *group)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = amx->k_here_padded / amx->tile_k, run = amx->run;
    int64_t n_runs = kiln_ceil_div(n, run), last = (n_runs - 1) * run;
    group->begin = kiln_k_const_i64(k, 0);
    group->n = run < n ? run : n;
    group->is_first = true;
    group->is_last = n_runs == 1;
    emit_run(amx, row_end, group);
    group->is_first = false;
    if (n_runs > 2) {
        kiln_kv begin = kiln_k_const_i64(k, run), end = kiln_k_const_i64(k, last);
        group->begin = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, run);
        uint32_t mark = kiln_lower_mark(lower);
        emit_run(amx, row_end, group);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
    if (n_runs == 1) return;
    group->begin = kiln_k_const_i64(k, last);
    group->n = n - last;
    group->is_last = true;
    emit_run(amx, row_end, group);
}

static void emit_columns(kiln_amx *amx, kiln_kv first, kiln_kv end, column_group group,
                         kiln_kv row_end)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    group.column = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, dot->vectors * KILN_TILE_SIDE);
    uint32_t mark = kiln_lower_mark(dot->lower);
    if (group.is_stored)
        emit_run(amx, row_end, &group);
    else
        emit_runs(amx, row_end, &group);
    kiln_lower_cut(dot->lower, mark);
    kiln_k_end(k);
}

/* The groups of columns of a work tile. */
static void emit_groups(kiln_amx *amx, column_group group, kiln_kv column_end, kiln_kv row_end)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t width = dot->vectors * KILN_TILE_SIDE, n = dot->roles.n_size;
    kiln_kv whole = kiln_k_const_i64(k, n / width * width);
    group.vectors = dot->vectors;
    group.last = KILN_TILE_SIDE;
    if (n >= width)
        emit_columns(amx, group.first, kiln_k_min(k, column_end, whole), group, row_end);
    if (n % width == 0) return;
    group.vectors = (uint32_t)kiln_ceil_div(n % width, KILN_TILE_SIDE);
    group.last = (uint32_t)((n - 1) % KILN_TILE_SIDE + 1);
    emit_columns(amx, kiln_k_max(k, group.first, whole), column_end, group, row_end);
}

/* The results of the last group, which no other one follows. */
static void emit_deferred(kiln_amx *amx, column_group group)
{
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t width = dot->vectors * KILN_TILE_SIDE, n = dot->roles.n_size, tail = n % width;
    kiln_kv whole = kiln_k_const_i64(k, n - tail);
    kiln_kv end = kiln_k_min(k, amx->column_end, whole);
    kiln_kv begin = kiln_k_max(k, group.first, kiln_k_add_imm(k, end, -width));
    if (tail) { /* it is the last one where there is one */
        kiln_kv past = kiln_k_binary(k, KILN_K_sub, amx->column_end, end);
        begin = kiln_k_binary(k, KILN_K_add, begin, kiln_k_mul_imm(k, past, width));
    }
    group.is_stored = true;
    group.vectors = dot->vectors;
    group.last = KILN_TILE_SIDE;
    if (n >= width) emit_columns(amx, begin, end, group, amx->row_end);
    if (!tail) return;
    group.vectors = (uint32_t)kiln_ceil_div(tail, KILN_TILE_SIDE);
    group.last = (uint32_t)((n - 1) % KILN_TILE_SIDE + 1);
    emit_columns(amx, kiln_k_max(k, group.first, whole), amx->column_end, group, amx->row_end);
}

/* A block of k: `size` of it from `first` on. */
static void add_k(kiln_amx *amx, kiln_kv first, int64_t size, const column_group *group)
{
    kiln_lower *lower = amx->dot.lower;
    uint32_t mark = kiln_lower_mark(lower);
    amx->k_first = first;
    amx->k_here = size;
    amx->k_here_padded = kiln_round_up(size, amx->tile_k);
    kiln_amx_copy_rows(amx, amx->dot.first_row, amx->row_end);
    emit_groups(amx, *group, amx->column_end, amx->row_end);
    kiln_lower_cut(lower, mark);
}

/* The blocks of k; the last one, with code of its own, makes the outputs. */
static void emit_k(kiln_amx *amx, column_group group)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t size = amx->dot.roles.k_size, whole = (size - 1) / amx->k_block * amx->k_block;
    if (whole > 0) {
        kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
        kiln_kv first = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, amx->k_block);
        add_k(amx, first, amx->k_block, &group);
        kiln_k_end(k);
    }
    whole = whole > 0 ? whole : 0;
    group.is_end = true;
    add_k(amx, kiln_k_const_i64(k, whole), size - whole, &group);
}

static void emit_tile(kiln_amx *amx, kiln_kv number)
{
    kiln_dot *dot = &amx->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv column_block = kiln_lower_op_imm(lower, KILN_K_rem, number, dot->n_column_blocks);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, number, dot->n_column_blocks);
    kiln_kv row_block = kiln_lower_op_imm(lower, KILN_K_rem, rest, dot->n_row_blocks);
    dot->batch = kiln_lower_op_imm(lower, KILN_K_div, rest, dot->n_row_blocks);
    kiln_amx_find_streams(amx);
    if (dot->roles.batch_size == 1) dot->batch = kiln_k_const_i64(k, 0);
    dot->first_row = kiln_k_mul_imm(k, row_block, dot->block_rows);
    kiln_kv row_end = kiln_k_add_imm(k, dot->first_row, dot->block_rows);
    amx->row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, dot->roles.m_size));
    column_group group = {.is_stored = false};
    group.first = kiln_k_mul_imm(k, column_block, dot->block_columns);
    kiln_kv column_end = kiln_k_add_imm(k, group.first, dot->block_columns);
    amx->column_end = kiln_k_min(k, column_end, kiln_k_const_i64(k, dot->roles.n_size));
    emit_k(amx, group);
    if (amx->is_deferred) emit_deferred(amx, group);
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
    kiln_dot *dot = &amx->dot;
    kiln_kernel *k = dot->lower->kernel;
    int64_t rows = kiln_round_up(dot->block_rows, KILN_TILE_SIDE);
    int64_t width = dot->vectors * KILN_TILE_SIDE;
    if (amx->is_deferred) {
        amx->sums = kiln_kernel_add_local(k, dot->dtype, 2 * rows * width);
        return;
    }
    amx->scratch = amx->sums =
        kiln_kernel_add_local(k, dot->dtype, 2 * dot->rows * KILN_TILE_SIDE * width);
    if (amx->is_fresh) amx->sums = kiln_kernel_add_local(k, dot->dtype, rows * dot->block_columns);
}

/* By the signs of A and B. */
static kiln_instr_op byte_product(kiln_dtype a, kiln_dtype b)
{
    if (a == KILN_i8) return b == KILN_i8 ? KILN_K_tile_dot_i8 : KILN_K_tile_dot_i8u8;
    return b == KILN_i8 ? KILN_K_tile_dot_u8i8 : KILN_K_tile_dot_u8;
}

void kiln_amx_set_format(kiln_amx *amx, kiln_format format)
{
    const kiln_lower *lower = amx->dot.lower;
    amx->n_parts = kiln_format_parts(format);
    amx->tile_k = kiln_format_step(format);
    amx->product = KILN_K_tile_dot_bf16;
    amx->element = KILN_u16;
    if (format != KILN_FORMAT_I8_K4N16) return;
    const kiln_node *node = kiln_graph_node(lower->graph, lower->group->anchor);
    kiln_dtype dtypes[2];
    for (uint32_t i = 0; i < 2; i++)
        dtypes[i] = kiln_graph_type(lower->graph, node->inputs[i])->dtype;
    amx->product = byte_product(dtypes[0], dtypes[1]);
    amx->is_moved = lower->machine->has_vnni && !lower->machine->has_amx && dtypes[0] == dtypes[1];
    amx->element = dtypes[0];
}

void kiln_amx_lower(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    uint32_t input = kiln_amx_input(lower);
    kiln_amx_set_format(amx, lower->group->inputs[input].format);
    amx->b_buffer = lower->buffer_of[input];
    kiln_amx_plan(amx);
    kiln_amx_add_local(amx);
    add_sums(amx);
    set_work(dot);
    dot->epilogue = kiln_epilogue_plain(lower, lower->group->anchor, dot->dtype);
    dot->epilogue.index = kiln_dot_result_index;
    dot->epilogue.user = dot;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_tile(amx, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_lower_amx(kiln_lower *lower, const kiln_matmul_roles *roles, kiln_dtype dtype)
{
    kiln_amx amx = {.dot = {.lower = lower, .roles = *roles, .dtype = dtype}};
    kiln_dot_describe(&amx.dot, lower->group->anchor);
    kiln_amx_lower(&amx);
}
