/* Depthwise convolution of a dense input, in place: vectors run over features, register tiles over
 * runs of pixels of one output row. Taps outside the input are skipped: rows by the bounds of the
 * loop over kernel rows, columns because the runs at the ends of a row stand in the code one by
 * one. */
#include "base/checked.h"
#include "codegen/lower_conv.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define RUN_PIXELS 8
#define END_RUNS 4 /* runs that touch an end of the row; more go through the copy */
#define MOST_ROWS 16
#define ROWS_PER_TILE 0.25       /* what a tile costs besides its rows: edges are read twice */
#define LEAST_VECTORS 4          /* of features of a block: short pieces of wide rows come slowly */
#define WINDOW_BYTES (24 * 1024) /* of the rows that a row of outputs reads, in the first cache */

typedef struct direct {
    kiln_conv *conv;
    kiln_tile_source input;
    int64_t image_stride, row_stride, column_stride, origin;
    int64_t width; /* of a run */
    int64_t rows, n_row_blocks;
    int64_t block_features;             /* that go through the rows of a tile together */
    kiln_kv first_feature, end_feature; /* of the block at work */
    int64_t first_run, end_run;         /* runs that see no end of the row */
    int64_t ring; /* rows that the input has room for: row r stands at r % ring; 0: all of them */
    kiln_kv row, base; /* output row at work; input element of its first tap and feature 0, of row 0
                          where the input is a ring */
    kiln_kv first_row; /* input row of the first tap */
    kiln_kv tap_begin, tap_end; /* kernel rows inside the input */
} direct;

/* A run of pixels: `column` is its first output column, a constant `at` where the run is at an
 * end. */
typedef struct pixel_run {
    kiln_kv column;
    int64_t at, n;
    bool is_end;
} pixel_run;

static bool is_inside(const direct *d, const pixel_run *run, int64_t x, int64_t tap)
{
    const kiln_conv_axis *axis = &d->conv->axis[KILN_CONV_W];
    int64_t column = (run->at + x) * axis->stride - axis->low + tap * axis->rhs_dilation;
    return !run->is_end || (column >= 0 && column < axis->in);
}

/* One kernel row for all pixels of the run. */
static void add_taps(direct *d, kiln_tile *tile, const pixel_run *run, kiln_kv taps[KILN_CONV_AXES],
                     kiln_kv feature)
{
    kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    kiln_kv at = kiln_k_mul_imm(k, taps[KILN_CONV_H], axis[KILN_CONV_H].rhs_dilation);
    if (d->ring) at = kiln_k_rem_imm(k, kiln_k_binary(k, KILN_K_add, at, d->first_row), d->ring);
    at = kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, at, d->row_stride), d->base);
    kiln_kv right = kiln_k_mul_imm(k, run->column, axis[KILN_CONV_W].stride * d->column_stride);
    at = kiln_k_binary(k, KILN_K_add, at, kiln_k_binary(k, KILN_K_add, right, feature));
    for (int64_t tap = 0; tap < axis[KILN_CONV_W].kernel; tap++) {
        taps[KILN_CONV_W] = kiln_k_const_i64(k, tap);
        kiln_kv weight = kiln_conv_load_tap(conv, taps, feature, tile->b_mask);
        for (uint32_t x = 0; x < tile->rows; x++) {
            if (!is_inside(d, run, x, tap)) continue;
            int64_t column = x * axis[KILN_CONV_W].stride + tap * axis[KILN_CONV_W].rhs_dilation;
            kiln_kv from = kiln_k_add_imm(k, at, column * d->column_stride);
            kiln_kv value = kiln_k_load(k, d->input.buffer, from, tile->lanes, tile->b_mask, 0);
            tile->sums[x] = kiln_tile_multiply_add(k, value, weight, tile->sums[x]);
        }
    }
}

/* A vector of features for a run. */
static void emit_vector(direct *d, const pixel_run *run, kiln_kv feature, uint32_t last)
{
    kiln_conv *conv = d->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    kiln_tile tile = {.lower = lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = (uint32_t)run->n,
                      .vectors = 1};
    if (last < tile.lanes) tile.b_mask = kiln_k_active(k, tile.lanes, kiln_k_const_i64(k, last));
    kiln_kv zero = kiln_k_const_i64(k, 0), taps[KILN_CONV_AXES] = {zero, zero, zero};
    kiln_tile_zero(&tile);
    taps[KILN_CONV_H] = kiln_tile_loop(&tile, d->tap_begin, d->tap_end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    add_taps(d, &tile, run, taps, feature);
    kiln_lower_cut(lower, mark);
    kiln_tile_loop_end(&tile);
    conv->row = d->row;
    conv->column = run->column;
    conv->tile_width = run->n;
    kiln_axis_index features = kiln_axis_vector(feature, 1);
    features.extent = conv->groups;
    kiln_epilogue_emit(&conv->epilogue, &tile, zero, features, last);
}

/* All features of the block for a run; the last ones of the image, when they are no whole vector,
 * in a loop of at most one trip. */
static void emit_run(direct *d, const pixel_run *run)
{
    kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t whole = conv->groups / conv->lanes * conv->lanes;
    kiln_kv split = kiln_k_const_i64(k, whole);
    for (uint32_t part = 0; part < 2; part++) {
        kiln_kv begin = part ? kiln_k_max(k, d->first_feature, split) : d->first_feature;
        kiln_kv end = part ? d->end_feature : kiln_k_min(k, d->end_feature, split);
        if (part ? whole == conv->groups : !whole) continue;
        kiln_kv feature = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, conv->lanes);
        uint32_t mark = kiln_lower_mark(conv->lower);
        emit_vector(d, run, feature, part ? (uint32_t)(conv->groups - whole) : conv->lanes);
        kiln_lower_cut(conv->lower, mark);
        kiln_k_end(k);
    }
}

static void emit_end_run(direct *d, int64_t number)
{
    int64_t at = number * d->width, left = d->conv->axis[KILN_CONV_W].out - at;
    pixel_run run = {.at = at, .n = kiln_min_i64(left, d->width), .is_end = true};
    run.column = kiln_k_const_i64(d->conv->lower->kernel, at);
    emit_run(d, &run);
}

static void emit_row(direct *d)
{
    kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t n_runs = kiln_ceil_div(conv->axis[KILN_CONV_W].out, d->width);
    for (int64_t i = 0; i < d->first_run; i++) emit_end_run(d, i);
    if (d->first_run < d->end_run) {
        kiln_kv begin = kiln_k_const_i64(k, d->first_run * d->width);
        kiln_kv end = kiln_k_const_i64(k, d->end_run * d->width);
        pixel_run run = {.n = d->width};
        run.column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, d->width);
        uint32_t mark = kiln_lower_mark(conv->lower);
        emit_run(d, &run);
        kiln_lower_cut(conv->lower, mark);
        kiln_k_end(k);
    }
    for (int64_t i = kiln_max_i64(d->first_run, d->end_run); i < n_runs; i++) emit_end_run(d, i);
}

/* The kernel rows whose input row exists, and where the row's first tap stands. */
static void place_row(direct *d)
{
    kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    int64_t unit = axis[KILN_CONV_H].rhs_dilation;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_kv first = kiln_k_mul_imm(k, d->row, axis[KILN_CONV_H].stride);
    first = kiln_k_add_imm(k, first, -axis[KILN_CONV_H].low);
    kiln_kv before = kiln_k_max(k, kiln_k_binary(k, KILN_K_sub, zero, first), zero);
    d->tap_begin = kiln_k_div_imm(k, kiln_k_add_imm(k, before, unit - 1), unit);
    kiln_kv last = kiln_k_const_i64(k, axis[KILN_CONV_H].in - 1 + unit);
    last = kiln_k_max(k, kiln_k_binary(k, KILN_K_sub, last, first), zero);
    kiln_kv n_taps = kiln_k_const_i64(k, axis[KILN_CONV_H].kernel);
    d->tap_end = kiln_k_min(k, kiln_k_div_imm(k, last, unit), n_taps);
    d->first_row = first;
    d->base = kiln_k_mul_imm(k, d->ring ? zero : first, d->row_stride);
    kiln_kv image = kiln_k_mul_imm(k, conv->image, d->image_stride);
    d->base = kiln_k_binary(k, KILN_K_add, d->base, image);
    d->base = kiln_k_add_imm(k, d->base, d->origin - axis[KILN_CONV_W].low * d->column_stride);
}

/* Rows begin … end of the image at work, a block of features after the other. */
static void emit_rows(direct *d, kiln_kv begin, kiln_kv end)
{
    kiln_lower *lower = d->conv->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), last = kiln_k_const_i64(k, d->conv->groups);
    d->first_feature = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, last, d->block_features);
    uint32_t outer = kiln_lower_mark(lower);
    d->end_feature = kiln_k_min(k, kiln_k_add_imm(k, d->first_feature, d->block_features), last);
    d->row = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t inner = kiln_lower_mark(lower);
    place_row(d);
    emit_row(d);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}

static void emit_tile(void *user, kiln_kv number)
{
    direct *d = user;
    kiln_conv *conv = d->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv block = kiln_lower_op_imm(lower, KILN_K_rem, number, d->n_row_blocks);
    conv->image = kiln_lower_op_imm(lower, KILN_K_div, number, d->n_row_blocks);
    conv->depth = kiln_k_const_i64(k, 0);
    kiln_kv begin = kiln_k_mul_imm(k, block, d->rows), end = kiln_k_add_imm(k, begin, d->rows);
    end = kiln_k_min(k, end, kiln_k_const_i64(k, conv->axis[KILN_CONV_H].out));
    emit_rows(d, begin, end);
}

/* Rows of the thread that has most of them, and what its tiles cost. */
static double row_share(const direct *d, int64_t rows)
{
    const kiln_conv *conv = d->conv;
    int64_t threads = kiln_max_i64(1, conv->lower->schedule->n_threads);
    int64_t n = kiln_ceil_div(conv->axis[KILN_CONV_H].out, rows) * conv->batch;
    double tiles = (double)kiln_ceil_div(n, threads);
    return tiles * ((double)rows + ROWS_PER_TILE);
}

/* Even shares of rows for the threads, and features whose rows stay in the first cache. */
static void choose_tiles(direct *d)
{
    const kiln_conv *conv = d->conv;
    const kiln_conv_axis *axis = conv->axis;
    int64_t out = axis[KILN_CONV_H].out, bytes = (int64_t)kiln_dtype_bytes(conv->dtype);
    d->rows = 1;
    for (int64_t rows = 2; rows <= kiln_min_i64(out, MOST_ROWS); rows++)
        if (row_share(d, rows) < row_share(d, d->rows)) d->rows = rows;
    d->n_row_blocks = kiln_ceil_div(out, d->rows);
    int64_t most = WINDOW_BYTES / (axis[KILN_CONV_H].kernel * axis[KILN_CONV_W].in * bytes);
    d->block_features = conv->groups;
    if (most < LEAST_VECTORS * conv->lanes || conv->groups <= most) return;
    int64_t n_blocks = kiln_ceil_div(conv->groups, most);
    d->block_features = kiln_round_up(kiln_ceil_div(conv->groups, n_blocks), conv->lanes);
}

/* Runs that see no end: all taps of all their pixels are inside. */
static void find_runs(direct *d)
{
    const kiln_conv_axis *axis = &d->conv->axis[KILN_CONV_W];
    d->width = kiln_ceil_div(axis->out, kiln_ceil_div(axis->out, RUN_PIXELS));
    int64_t n_runs = kiln_ceil_div(axis->out, d->width);
    int64_t first = axis->low > 0 ? kiln_ceil_div(axis->low, axis->stride) : 0;
    int64_t room = axis->in - 1 + axis->low - (axis->kernel - 1) * axis->rhs_dilation;
    int64_t end = room < 0 ? 0 : kiln_min_i64(axis->out, room / axis->stride + 1);
    d->first_run = kiln_min_i64(kiln_ceil_div(first, d->width), n_runs);
    d->end_run = kiln_max_i64(end / d->width, d->first_run);
}

/* Whether the input can be read where it stands. One without elements (all taps are padding) has
 * nothing to read. */
static bool find_input(direct *d)
{
    kiln_conv *conv = d->conv;
    kiln_lower *lower = conv->lower;
    kiln_strided strided;
    bool is_fit = conv->out_features == 1 && conv->n_spatial == 2 && conv->input->n_elements > 0 &&
                  conv->input->dtype == conv->dtype && conv->axis[KILN_CONV_H].lhs_dilation == 1 &&
                  conv->axis[KILN_CONV_W].lhs_dilation == 1;
    if (!is_fit || !kiln_lower_strided(lower, conv->node->inputs[0], &strided)) return false;
    if (strided.strides[conv->input_axes.at[1]] != 1) return false;
    d->image_stride = strided.strides[conv->input_axes.at[0]];
    d->row_stride = strided.strides[conv->input_axes.at[2]];
    d->column_stride = strided.strides[conv->input_axes.at[3]];
    d->origin = strided.origin;
    d->input = (kiln_tile_source){lower->buffer_of[strided.input], conv->input->dtype};
    d->ring = lower->ring_of ? lower->ring_of[strided.input].rows : 0;
    find_runs(d);
    return true;
}

bool kiln_conv_lower_direct(kiln_conv *conv)
{
    direct d = {.conv = conv};
    if (!find_input(&d)) return false;
    int64_t n_runs = kiln_ceil_div(conv->axis[KILN_CONV_W].out, d.width);
    if (n_runs - (d.end_run - d.first_run) > END_RUNS) return false;
    choose_tiles(&d);
    int64_t sizes[] = {conv->batch, d.n_row_blocks};
    kiln_conv_lower_tiles(conv, (kiln_ints){2, sizes}, emit_tile, &d);
    return true;
}

static void emit_some_rows(void *user, kiln_kv image, kiln_kv begin, kiln_kv end)
{
    direct *d = user;
    kiln_kernel *k = d->conv->lower->kernel;
    d->conv->image = image;
    d->conv->depth = kiln_k_const_i64(k, 0);
    emit_rows(d, begin, end);
}

kiln_row_maker kiln_conv_direct_row_maker(kiln_conv *conv)
{
    direct *d = kiln_new(&conv->lower->scope->arena, direct);
    d->conv = conv;
    if (!find_input(d))
        kiln_fail(conv->lower->scope, KILN_INTERNAL,
                  "group %s: a depthwise member of a band does not read its input in place",
                  conv->lower->group->label);
    choose_tiles(d);
    kiln_conv_open_epilogue(conv);
    return (kiln_row_maker){emit_some_rows, d};
}
