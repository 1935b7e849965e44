/* Depthwise convolution, the general way: every output feature reads one input feature, so vectors
 * run over features and nothing is summed across them. A tile is a block of output rows and
 * features, whose input window is copied; inside, runs of pixels of one row share the loads of the
 * taps. */
#include "base/checked.h"
#include "codegen/lower_conv.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define LOCAL_BYTES (128 * 1024)
#define RUN_PIXELS 8
#define BLOCK_ROWS 16
#define TILES_PER_THREAD 8

typedef struct depthwise {
    kiln_conv *conv;
    int64_t n_row_blocks, n_feature_blocks, features, width;
    kiln_kv block_row, block_feature; /* of the tile at work */
    kiln_kv feature; /* of the vector at work, within the block */
    uint32_t last;   /* its lanes that exist */
} depthwise;

kiln_kv kiln_conv_load_tap(kiln_conv *conv, const kiln_kv taps[KILN_CONV_AXES], kiln_kv feature,
                           kiln_kv mask)
{
    kiln_lower *lower = conv->lower;
    kiln_index index = {.rank = conv->n_spatial + 2};
    index.axis[conv->kernel_axes.at[0]] = kiln_axis_vector(feature, 1);
    index.axis[conv->kernel_axes.at[1]] = kiln_axis_zero(lower);
    for (uint32_t i = 0; i < conv->n_spatial; i++)
        index.axis[conv->kernel_axes.at[i + 2]] =
            kiln_axis_scalar(taps[KILN_CONV_AXES - conv->n_spatial + i], 1);
    lower->lanes = conv->lanes;
    lower->mask = mask;
    kiln_kv value = kiln_lower_value(lower, conv->node->inputs[1], &index);
    lower->mask = 0;
    return kiln_k_convert(lower->kernel, value, conv->dtype);
}

/* The taps of one kernel row at local element `at`, for all pixels of the run. */
static void accumulate_row(const depthwise *d, kiln_tile *tile, kiln_kv taps[KILN_CONV_AXES],
                           kiln_kv at, kiln_kv feature)
{
    const kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_W];
    for (int64_t tap = 0; tap < axis->kernel; tap++) {
        taps[KILN_CONV_W] = kiln_k_const_i64(k, tap);
        kiln_kv weight = kiln_conv_load_tap(d->conv, taps, feature, tile->b_mask);
        for (uint32_t x = 0; x < tile->rows; x++) {
            int64_t offset = (x * axis->local_stride + tap * axis->rhs_dilation) * conv->pitch;
            kiln_kv value =
                kiln_k_load(k, conv->local, kiln_k_add_imm(k, at, offset), tile->lanes, 0, 0);
            tile->sums[x] = kiln_tile_multiply_add(k, value, weight, tile->sums[x]);
        }
    }
}

/* A run of `tile->rows` pixels from (row, column) on. */
static void emit_run(depthwise *d, kiln_tile *tile, kiln_kv row, kiln_kv column)
{
    kiln_conv *conv = d->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    kiln_kv down = kiln_k_binary(k, KILN_K_sub, row, d->block_row);
    kiln_kv at = kiln_k_mul_imm(k, down, axis[KILN_CONV_H].local_stride * conv->row_pitch);
    kiln_kv right = kiln_k_mul_imm(k, column, axis[KILN_CONV_W].local_stride * conv->pitch);
    at = kiln_k_binary(k, KILN_K_add, at, kiln_k_binary(k, KILN_K_add, right, d->feature));
    kiln_kv output = kiln_k_binary(k, KILN_K_add, d->block_feature, d->feature);
    if (d->last < tile->lanes)
        tile->b_mask = kiln_k_active(k, tile->lanes, kiln_k_const_i64(k, d->last));
    kiln_kv zero = kiln_k_const_i64(k, 0), taps[KILN_CONV_AXES] = {0};
    kiln_tile_zero(tile);
    taps[KILN_CONV_D] =
        kiln_tile_loop(tile, zero, kiln_k_const_i64(k, axis[KILN_CONV_D].kernel), 1);
    kiln_kv slice = kiln_k_mul_imm(k, taps[KILN_CONV_D], conv->slice);
    slice = kiln_k_binary(k, KILN_K_add, at, slice);
    taps[KILN_CONV_H] =
        kiln_tile_loop(tile, zero, kiln_k_const_i64(k, axis[KILN_CONV_H].kernel), 1);
    uint32_t mark = kiln_lower_mark(lower);
    int64_t row_step = axis[KILN_CONV_H].rhs_dilation * conv->row_pitch;
    kiln_kv line = kiln_k_mul_imm(k, taps[KILN_CONV_H], row_step);
    accumulate_row(d, tile, taps, kiln_k_binary(k, KILN_K_add, slice, line), output);
    kiln_lower_cut(lower, mark);
    kiln_tile_loop_end(tile);
    kiln_tile_loop_end(tile);
    conv->row = row;
    conv->column = column;
    conv->tile_width = tile->rows;
    kiln_axis_index features = kiln_axis_vector(output, 1);
    features.extent = conv->out_features * conv->groups;
    kiln_epilogue_emit(&conv->epilogue, tile, zero, features, d->last);
}

/* A vector of features over all pixels of the block. */
static void emit_vector(depthwise *d, kiln_kv feature, uint32_t last)
{
    d->feature = feature;
    d->last = last;
    kiln_conv *conv = d->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_W].out, whole = out / d->width * d->width;
    kiln_kv row_end = kiln_k_add_imm(k, d->block_row, conv->block_rows);
    row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, conv->axis[KILN_CONV_H].out));
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, d->block_row, row_end, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    kiln_tile tile = {.lower = conv->lower, .dtype = conv->dtype, .lanes = conv->lanes,
                      .rows = (uint32_t)d->width, .vectors = 1};
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, d->width);
    uint32_t inner = kiln_lower_mark(conv->lower);
    emit_run(d, &tile, row, column);
    kiln_lower_cut(conv->lower, inner);
    kiln_k_end(k);
    tile.rows = (uint32_t)(out - whole);
    if (tile.rows) emit_run(d, &tile, row, end);
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

static void emit_tile(void *user, kiln_kv number)
{
    depthwise *d = user;
    kiln_conv *conv = d->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv block = kiln_lower_op_imm(lower, KILN_K_rem, number, d->n_feature_blocks);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, number, d->n_feature_blocks);
    kiln_kv rows = kiln_lower_op_imm(lower, KILN_K_rem, rest, d->n_row_blocks);
    rest = kiln_lower_op_imm(lower, KILN_K_div, rest, d->n_row_blocks);
    conv->depth = kiln_lower_op_imm(lower, KILN_K_rem, rest, conv->axis[KILN_CONV_D].out);
    conv->image = kiln_lower_op_imm(lower, KILN_K_div, rest, conv->axis[KILN_CONV_D].out);
    d->block_row = conv->first_row = kiln_k_mul_imm(k, rows, conv->block_rows);
    d->block_feature = conv->feature = kiln_k_mul_imm(k, block, d->features);
    kiln_conv_copy(conv);
    int64_t n_whole = d->features / conv->lanes * conv->lanes;
    kiln_kv begin = kiln_k_const_i64(k, 0), whole = kiln_k_const_i64(k, n_whole);
    kiln_kv feature = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, whole, conv->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    emit_vector(d, feature, conv->lanes);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
    if (n_whole < d->features) emit_vector(d, whole, (uint32_t)(d->features - n_whole));
}

/* Blocks of equal size, whole vectors unless there is one, that hold a few rows in the local. */
static void choose_features(depthwise *d, int64_t bytes_of_feature)
{
    const kiln_conv *conv = d->conv;
    int64_t total = conv->out_features * conv->groups;
    d->features = total;
    for (int64_t n = 2;
         d->features * bytes_of_feature > LOCAL_BYTES && total / n >= 2 * conv->lanes; n++)
        if (total % n == 0 && total / n % conv->lanes == 0) d->features = total / n;
    d->n_feature_blocks = total / d->features;
}

static void choose_blocks(depthwise *d)
{
    kiln_conv *conv = d->conv;
    const kiln_conv_axis *axis = conv->axis;
    int64_t out = axis[KILN_CONV_W].out;
    d->width = kiln_ceil_div(out, kiln_ceil_div(out, RUN_PIXELS));
    int64_t column_bytes = kiln_conv_axis_local(&axis[KILN_CONV_W], out) *
                           axis[KILN_CONV_D].kernel * (int64_t)kiln_dtype_bytes(conv->dtype);
    choose_features(d, column_bytes * kiln_conv_axis_local(&axis[KILN_CONV_H], 4));
    int64_t rows = 1, most = kiln_min_i64(BLOCK_ROWS, axis[KILN_CONV_H].out);
    while (rows < most &&
           kiln_conv_axis_local(&axis[KILN_CONV_H], rows + 1) * column_bytes * d->features <=
               LOCAL_BYTES)
        rows++;
    int64_t others = conv->batch * axis[KILN_CONV_D].out * d->n_feature_blocks;
    int64_t wanted = (int64_t)conv->lower->schedule->n_threads * TILES_PER_THREAD;
    int64_t enough = kiln_max_i64(1, axis[KILN_CONV_H].out * others / wanted);
    rows = kiln_max_i64(kiln_min_i64(rows, 4), kiln_min_i64(rows, enough));
    d->n_row_blocks = kiln_ceil_div(axis[KILN_CONV_H].out, rows);
    conv->feature_divide = conv->out_features;
    kiln_conv_add_local(conv, rows, d->features);
}

void kiln_conv_lower_depthwise(kiln_conv *conv)
{
    if (kiln_conv_lower_direct(conv)) return;
    depthwise d = {.conv = conv};
    choose_blocks(&d);
    int64_t sizes[] = {conv->batch, conv->axis[KILN_CONV_D].out, d.n_row_blocks,
                       d.n_feature_blocks};
    kiln_conv_lower_tiles(conv, (kiln_ints){4, sizes}, emit_tile, &d);
}
