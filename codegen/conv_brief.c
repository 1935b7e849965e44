/* A convolution that runs faster than it compiles, as one short kernel: one register tile of output
 * features x vectors of output columns. Elements of the kernel are broadcast, columns of the image
 * are loaded where they stand, and what lies outside of it is masked off, so nothing is packed or
 * copied. Where features or rows are no multiple of a tile, the last ones begin earlier and are
 * computed twice. An element is one chain over the taps (depth, row, column) and input features.
 * With input dilation d the columns of one remainder by d are a plain convolution by every d-th
 * tap. */
#include "base/checked.h"
#include "codegen/lower_conv.h"
#include "codegen/math.h"
#include "passes/brief_conv.h"

#define COMPILE_SHARE 0.004 /* of the run that a vector of a tile is worth in compile time */
#define TILE_CYCLES 120.0   /* until a tile is at work, and after it */
#define TAP_CYCLES 12.0     /* of a tap, whatever it does, … */
#define MASK_CYCLES 1.5     /* … and of a mask of its */
#define SUM_CYCLES 3.0
#define MOST_BLOCKS 16

/* What a tap is along an axis: kernel elements and input positions. */
typedef struct tap_axis {
    kiln_kv first;           /* kernel element of tap 0 */
    kiln_kv position;        /* its input position, of the output at work */
    int64_t n;               /* taps */
    int64_t step, move;      /* kernel elements and positions from one tap to the next */
    int64_t in_step, k_step; /* elements of image and kernel from one position to the next */
    bool is_exact;           /* every tap is in the kernel and every position in the image */
} tap_axis;

typedef struct brief_conv {
    kiln_conv *conv;
    kiln_strided image, kernel;
    int64_t rows, down, across;  /* of a tile: features, output rows, vectors of columns */
    int64_t n_phases, n_columns; /* remainders of columns by the dilation; most columns of one */
    int64_t column_tiles;        /* of them */
    int64_t block_rows, block_features;
    kiln_kv group, row, feature; /* of the tile at work */
    kiln_kv column, phase;
    tap_axis taps[KILN_CONV_AXES];
    kiln_tile *tile;
} brief_conv;

static bool is_split(const kiln_conv_axis *axis)
{
    return axis->lhs_dilation > 1;
}

/* Whether every tap of every output up to number `last` stands on an element. */
static bool is_exact(const kiln_conv_axis *axis, int64_t last)
{
    int64_t end = last * axis->stride + (axis->kernel - 1) * axis->rhs_dilation - axis->low;
    return !is_split(axis) && axis->low <= 0 && end < axis->in;
}

static int64_t width_of(const brief_conv *b)
{
    return b->across * b->conv->lanes;
}

/* Whether vector `x` of some tile reads columns outside of the image. */
static bool has_edge(const brief_conv *b, int64_t x)
{
    int64_t tile = (b->column_tiles - 1) * width_of(b);
    return !is_exact(&b->conv->axis[KILN_CONV_W], tile + (x + 1) * b->conv->lanes - 1);
}

/* The taps of output `at`: all of them, or with dilation those that meet elements, which for one
 * remainder is every d-th. `at` is a number below out. */
static void place_taps(brief_conv *b, uint32_t which, kiln_kv at)
{
    const kiln_conv_axis *axis = &b->conv->axis[which];
    kiln_kernel *k = b->conv->lower->kernel;
    tap_axis *taps = &b->taps[which];
    int64_t apart = axis->lhs_dilation, stride = axis->stride;
    taps->n = kiln_ceil_div(axis->kernel, apart);
    taps->is_exact = is_exact(axis, axis->out - 1);
    taps->step = apart;
    taps->move = is_split(axis) ? 1 : axis->rhs_dilation;
    taps->first = kiln_k_const_i64(k, 0);
    taps->position = kiln_k_add_imm(k, kiln_k_mul_imm(k, at, stride), -axis->low);
    if (!is_split(axis)) return;
    /* The first tap t with at * stride + t - low a multiple of d; `lift` of them make the number
       positive. */
    int64_t reach = (axis->out - 1) * stride + (axis->low < 0 ? -axis->low : 0);
    int64_t lift = kiln_ceil_div(reach, apart);
    kiln_kv number = kiln_k_const_i64(k, axis->low + lift * apart);
    number = kiln_k_binary(k, KILN_K_sub, number, kiln_k_mul_imm(k, at, stride));
    kiln_kv before = kiln_k_div_imm(k, number, apart);
    taps->first = kiln_k_rem_imm(k, number, apart);
    taps->position = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, lift), before);
}

static kiln_kv step_by(kiln_kernel *k, kiln_kv base, kiln_kv n, int64_t step)
{
    return kiln_k_binary(k, KILN_K_add, base, kiln_k_mul_imm(k, n, step));
}

/* The tap at work: offsets from where image and kernel begin, and columns that exist. */
typedef struct conv_tap {
    kiln_kv image, kernel;
    kiln_kv limit[KILN_TILE_VECTORS]; /* of columns, by row of the tile; 0: the tap has none */
    kiln_kv column;                   /* of the tile's first output */
} conv_tap;

/* `limit` where 0 <= position < in, else 0. */
static kiln_kv limit_where(kiln_kernel *k, kiln_kv position, int64_t in, kiln_kv limit)
{
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, in);
    kiln_kv is_over = kiln_k_binary(k, KILN_K_ge, position, end);
    limit = kiln_k_select(k, is_over, zero, limit);
    kiln_kv is_under = kiln_k_binary(k, KILN_K_lt, position, zero);
    return kiln_k_select(k, is_under, zero, limit);
}

/* Adds tap `number` along an axis. */
static void add_tap(brief_conv *b, uint32_t which, kiln_kv number, conv_tap *tap)
{
    kiln_kernel *k = b->conv->lower->kernel;
    const kiln_conv_axis *axis = &b->conv->axis[which];
    const tap_axis *taps = &b->taps[which];
    kiln_kv element = step_by(k, taps->first, number, taps->step);
    kiln_kv position = step_by(k, taps->position, number, taps->move);
    kiln_kv zero = kiln_k_const_i64(k, 0);
    if (axis->kernel % axis->lhs_dilation != 0) {
        kiln_kv last = kiln_k_const_i64(k, axis->kernel - 1);
        kiln_kv is_over = kiln_k_binary(k, KILN_K_lt, last, element);
        for (int64_t y = 0; y < b->down; y++)
            tap->limit[y] = kiln_k_select(k, is_over, zero, tap->limit[y]);
        element = kiln_k_min(k, element, last);
    }
    tap->kernel = step_by(k, tap->kernel, element, taps->k_step);
    tap->image = step_by(k, tap->image, position, taps->in_step);
    if (which == KILN_CONV_W) tap->column = position;
    for (int64_t y = 0; y < b->down && which != KILN_CONV_W && !taps->is_exact; y++) {
        int64_t down = which == KILN_CONV_H ? y * axis->stride : 0;
        kiln_kv at = kiln_k_add_imm(k, position, down);
        tap->limit[y] = limit_where(k, at, axis->in, tap->limit[y]);
    }
}

/* The lanes of the tile's vectors that stand on elements; none for all of them. */
static void mask_vectors(brief_conv *b, const conv_tap *tap)
{
    kiln_kernel *k = b->conv->lower->kernel;
    uint32_t lanes = b->conv->lanes;
    int64_t stride = b->conv->axis[KILN_CONV_W].stride;
    bool is_inside = b->taps[KILN_CONV_D].is_exact && b->taps[KILN_CONV_H].is_exact;
    for (int64_t x = 0; x < b->across; x++) {
        if (is_inside && !has_edge(b, x)) continue;
        kiln_kv numbers = kiln_k_lanes(k, KILN_i32, lanes);
        numbers =
            kiln_k_binary(k, KILN_K_mul, numbers, kiln_k_const_int(k, KILN_i32, lanes, stride));
        kiln_kv first = kiln_k_add_imm(k, tap->column, x * lanes * stride);
        first = kiln_k_splat(k, kiln_k_convert(k, first, KILN_i32), lanes);
        kiln_kv at = kiln_k_bitcast(k, kiln_k_binary(k, KILN_K_add, numbers, first), KILN_u32);
        for (int64_t y = 0; y < b->down; y++) {
            kiln_kv limit = kiln_k_splat(k, kiln_k_convert(k, tap->limit[y], KILN_u32), lanes);
            b->tile->masks[y * b->across + x] = kiln_k_binary(k, KILN_K_lt, at, limit);
        }
    }
}

/* Columns that do not lie together, one by one. */
static kiln_kv gather_columns(void *user, uint32_t vector, kiln_kv at, int64_t step)
{
    const brief_conv *b = user;
    kiln_lower *lower = b->conv->lower;
    const kiln_tile *tile = b->tile;
    int64_t apart = b->taps[KILN_CONV_W].in_step * b->conv->axis[KILN_CONV_W].stride;
    kiln_kv first = kiln_k_add_imm(lower->kernel, at, tile->b_vector[vector] + step);
    kiln_axis_index offset = kiln_axis_vector(first, 1);
    offset.step = apart;
    kiln_access access = {.buffer = tile->b.buffer,
                          .dtype = tile->b.dtype,
                          .lanes = tile->lanes,
                          .mask = tile->masks[vector],
                          .is_guarded = true,
                          .offset = offset};
    return kiln_lower_load_at(lower, &access);
}

/* All taps, in one loop, and in it the input features. */
static void accumulate(brief_conv *b, kiln_kv image, kiln_kv kernel)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    tap_axis *taps = b->taps;
    int64_t n = taps[KILN_CONV_D].n * taps[KILN_CONV_H].n * taps[KILN_CONV_W].n;
    kiln_kv number = kiln_k_const_i64(k, 0);
    if (n > 1) number = kiln_tile_loop(b->tile, number, kiln_k_const_i64(k, n), 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    conv_tap tap = {.image = image, .kernel = kernel};
    for (int64_t y = 0; y < b->down; y++)
        tap.limit[y] = kiln_k_const_i64(k, conv->axis[KILN_CONV_W].in);
    kiln_kv rest = kiln_k_div_imm(k, number, taps[KILN_CONV_W].n);
    add_tap(b, KILN_CONV_W, kiln_k_rem_imm(k, number, taps[KILN_CONV_W].n), &tap);
    add_tap(b, KILN_CONV_H, kiln_k_rem_imm(k, rest, taps[KILN_CONV_H].n), &tap);
    add_tap(b, KILN_CONV_D, kiln_k_div_imm(k, rest, taps[KILN_CONV_H].n), &tap);
    mask_vectors(b, &tap);
    kiln_tile_accumulate(b->tile, tap.kernel, tap.image, conv->in_features);
    kiln_lower_cut(conv->lower, mark);
    if (n > 1) kiln_tile_loop_end(b->tile);
}

/* The index of the result at feature `row`, columns from `column` on: an epilogue's callback. */
static void result_index(void *user, kiln_kv row, kiln_axis_index column, kiln_index *out_index)
{
    brief_conv *b = user;
    kiln_conv *conv = b->conv;
    kiln_lower *lower = conv->lower;
    kiln_kv positions[KILN_CONV_AXES] = {conv->depth, conv->row};
    out_index->rank = conv->n_spatial + 2;
    out_index->axis[conv->output_axes.at[0]] = kiln_axis_scalar(conv->image, 1);
    out_index->axis[conv->output_axes.at[1]] = kiln_axis_scalar(row, 1);
    for (uint32_t i = 0; i + 1 < conv->n_spatial; i++)
        out_index->axis[conv->output_axes.at[i + 2]] =
            kiln_axis_scalar(positions[KILN_CONV_AXES - conv->n_spatial + i], 1);
    kiln_axis_index *last = &out_index->axis[conv->output_axes.at[conv->n_spatial + 1]];
    *last = kiln_axis_affine(lower, &column, b->n_phases, 0);
    kiln_axis_index phase = kiln_axis_scalar(b->phase, 1);
    if (b->n_phases > 1) *last = kiln_axis_add(lower, last, &phase);
}

/* Stores the sums, one row of the tile after the other. */
static void store_tile(brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_tile *all = b->tile;
    int64_t out = conv->axis[KILN_CONV_W].out, lanes = conv->lanes;
    bool is_even = out % b->n_phases == 0 && b->n_columns % width_of(b) == 0;
    kiln_kv n = kiln_k_const_i64(k, b->n_columns);
    if (out % b->n_phases != 0) {
        kiln_kv left = kiln_k_const_i64(k, out + b->n_phases - 1);
        left = kiln_k_binary(k, KILN_K_sub, left, b->phase);
        n = kiln_k_div_imm(k, left, b->n_phases);
    }
    kiln_tile part = *all;
    part.vectors = (uint32_t)b->across;
    for (int64_t x = 0; x < b->across; x++) {
        kiln_kv at = kiln_k_add_imm(k, b->column, x * lanes);
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, n, at);
        bool is_whole =
            is_even || (out % b->n_phases == 0 &&
                        (b->column_tiles - 1) * width_of(b) + (x + 1) * lanes <= b->n_columns);
        part.masks[x] = is_whole ? 0 : kiln_k_active(k, conv->lanes, left);
    }
    kiln_kv feature = step_by(k, b->feature, b->group, conv->out_features);
    for (int64_t y = 0; y < b->down; y++) {
        for (int64_t i = 0; i < b->rows * b->across; i++)
            part.sums[i] = all->sums[i / b->across * all->vectors + y * b->across + i % b->across];
        conv->row = kiln_k_add_imm(k, b->row, y);
        kiln_epilogue_emit(&conv->epilogue, &part, feature, kiln_axis_vector(b->column, 1),
                           conv->lanes);
    }
}

/* The register tile from (feature, row, column) on. */
static void emit_register_tile(brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    int64_t to_feature = b->kernel.strides[conv->kernel_axes.at[0]];
    tap_axis *taps = b->taps;
    kiln_tile tile = {.lower = conv->lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = (uint32_t)b->rows,
                      .vectors = (uint32_t)(b->down * b->across),
                      .a = {conv->lower->buffer_of[b->kernel.input], conv->kernel->dtype},
                      .b = {conv->lower->buffer_of[b->image.input], conv->input->dtype},
                      .a_k = b->kernel.strides[conv->kernel_axes.at[1]],
                      .b_k = b->image.strides[conv->input_axes.at[1]],
                      .b_is_near = true,
                      .unroll = 1};
    int64_t beside = axis[KILN_CONV_W].stride * taps[KILN_CONV_W].in_step;
    int64_t below = axis[KILN_CONV_H].stride * taps[KILN_CONV_H].in_step;
    for (int64_t r = 0; r < b->rows; r++) tile.a_row[r] = r * to_feature;
    for (int64_t v = 0; v < b->down * b->across; v++)
        tile.b_vector[v] = v / b->across * below + v % b->across * conv->lanes * beside;
    if (beside != 1) {
        tile.widen = gather_columns;
        tile.widen_user = b;
    }
    b->tile = &tile;
    place_taps(b, KILN_CONV_D, conv->depth);
    place_taps(b, KILN_CONV_H, b->row);
    place_taps(b, KILN_CONV_W, is_split(&axis[KILN_CONV_W]) ? b->phase : b->column);
    if (is_split(&axis[KILN_CONV_W]))
        taps[KILN_CONV_W].position =
            kiln_k_binary(k, KILN_K_add, taps[KILN_CONV_W].position, b->column);
    kiln_kv image = kiln_k_mul_imm(k, b->group, conv->in_features * tile.b_k);
    image = step_by(k, image, conv->image, b->image.strides[conv->input_axes.at[0]]);
    image = kiln_k_add_imm(k, image, b->image.origin);
    kiln_kv kernel = step_by(k, b->feature, b->group, conv->out_features);
    kernel = kiln_k_add_imm(k, kiln_k_mul_imm(k, kernel, to_feature), b->kernel.origin);
    kiln_tile_zero(&tile);
    accumulate(b, image, kernel);
    store_tile(b);
}

/* A loop, unless it has one trip. */
static kiln_kv open_steps(brief_conv *b, kiln_kv begin, kiln_kv end, int64_t step, bool is_loop)
{
    return is_loop ? kiln_k_loop(b->conv->lower->kernel, KILN_LOOP_SERIAL, begin, end, step)
                   : begin;
}

static void close_steps(brief_conv *b, uint32_t mark, bool is_loop)
{
    kiln_lower_cut(b->conv->lower, mark);
    if (is_loop) kiln_k_end(b->conv->lower->kernel);
}

/* All columns of the rows and features at work. */
static void emit_columns(brief_conv *b)
{
    kiln_kernel *k = b->conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), n = kiln_k_const_i64(k, b->n_columns);
    kiln_kv n_phases = kiln_k_const_i64(k, b->n_phases);
    bool is_phased = b->n_phases > 1, is_cut = b->column_tiles > 1;
    b->phase = open_steps(b, zero, n_phases, 1, is_phased);
    uint32_t outer = kiln_lower_mark(b->conv->lower);
    b->column = open_steps(b, zero, n, width_of(b), is_cut);
    uint32_t inner = kiln_lower_mark(b->conv->lower);
    emit_register_tile(b);
    close_steps(b, inner, is_cut);
    close_steps(b, outer, is_phased);
}

/* Block `number` of `n` things in blocks of `size`: where it begins and ends. */
typedef struct block {
    kiln_kv begin, end;
} block;

static block block_of(kiln_kernel *k, kiln_kv number, int64_t size, int64_t n)
{
    block it = {.begin = kiln_k_mul_imm(k, number, size)};
    it.end = kiln_k_add_imm(k, it.begin, size);
    if (n % size != 0) it.end = kiln_k_min(k, it.end, kiln_k_const_i64(k, n));
    return it;
}

/* The step that begins at `at`, or earlier where it would not be whole. */
static kiln_kv begin_earlier(kiln_kernel *k, kiln_kv at, kiln_kv end, int64_t size, bool is_whole)
{
    return is_whole ? at : kiln_k_min(k, at, kiln_k_add_imm(k, end, -size));
}

static void emit_tile(void *user, kiln_kv number)
{
    brief_conv *b = user;
    kiln_conv *conv = b->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    int64_t out = conv->axis[KILN_CONV_H].out, features = conv->out_features;
    int64_t n_row_blocks = kiln_ceil_div(out, b->block_rows);
    int64_t n_feature_blocks = kiln_ceil_div(features, b->block_features);
    int64_t sizes[] = {n_row_blocks, n_feature_blocks, conv->groups, conv->axis[KILN_CONV_D].out,
                       conv->batch};
    kiln_kv digits[5];
    for (uint32_t i = 0; i < 5; i++) {
        digits[i] = sizes[i] == 1 ? kiln_k_const_i64(k, 0) : kiln_k_rem_imm(k, number, sizes[i]);
        if (sizes[i] > 1) number = kiln_k_div_imm(k, number, sizes[i]);
    }
    b->group = digits[2];
    conv->depth = digits[3];
    conv->image = digits[4];
    conv->epilogue.index = result_index;
    conv->epilogue.user = b;
    block rows = block_of(k, digits[0], b->block_rows, out);
    block strip = block_of(k, digits[1], b->block_features, features);
    bool has_rows = b->block_rows > b->down, has_features = b->block_features > b->rows;
    b->row = open_steps(b, rows.begin, rows.end, b->down, has_rows);
    uint32_t outer = kiln_lower_mark(lower);
    bool is_whole = b->block_rows % b->down == 0 && out % b->block_rows % b->down == 0;
    b->row = begin_earlier(k, b->row, rows.end, b->down, is_whole);
    b->feature = open_steps(b, strip.begin, strip.end, b->rows, has_features);
    uint32_t inner = kiln_lower_mark(lower);
    is_whole = b->block_features % b->rows == 0 && features % b->block_features % b->rows == 0;
    b->feature = begin_earlier(k, b->feature, strip.end, b->rows, is_whole);
    emit_columns(b);
    close_steps(b, inner, has_features);
    close_steps(b, outer, has_rows);
}

/* Rows that are computed twice must read the same again: not what the result is stored over. */
static bool is_repeatable(const kiln_conv *conv)
{
    const kiln_lower *lower = conv->lower;
    for (uint32_t i = 0; i < lower->kernel->params.n; i++)
        if (lower->kernel->params.at[i].may_overlap) return false;
    return true;
}

/* What all tiles of such a size cost, in cycles, their compile beside it. */
static double cost_of(const brief_conv *b)
{
    const kiln_conv *conv = b->conv;
    int64_t sums = b->rows * b->down * b->across, vectors = b->down * b->across, taps = 1;
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++)
        taps *= kiln_ceil_div(conv->axis[i].kernel, conv->axis[i].lhs_dilation);
    double work = (double)sums * 0.5, loads = (double)b->rows * 0.5 + (double)vectors, latency = 4;
    double step = work > loads ? work : loads;
    if (step < latency) step = latency;
    double tap = TAP_CYCLES + MASK_CYCLES * (double)vectors + step * (double)conv->in_features;
    double tile = TILE_CYCLES + SUM_CYCLES * (double)sums + tap * (double)taps;
    double n = (double)kiln_ceil_div(conv->out_features, b->rows) *
               (double)kiln_ceil_div(conv->axis[KILN_CONV_H].out, b->down) *
               (double)kiln_ceil_div(b->n_columns, width_of(b));
    return tile * n * (1 + COMPILE_SHARE * (double)sums);
}

static bool fits(const brief_conv *b, bool is_repeatable)
{
    const kiln_conv *conv = b->conv;
    int64_t vectors = b->down * b->across, features = conv->out_features;
    int64_t out = conv->axis[KILN_CONV_H].out;
    bool is_whole = features % b->rows == 0 && out % b->down == 0;
    return vectors <= KILN_TILE_VECTORS && b->rows <= features && b->down <= out &&
           (is_repeatable || is_whole) && b->rows * vectors <= KILN_TILE_SUMS &&
           b->rows * vectors + vectors + 1 <= conv->lower->machine->n_vector_registers;
}

static void choose_tile(brief_conv *b)
{
    bool may_repeat = is_repeatable(b->conv);
    bool is_split_down = is_split(&b->conv->axis[KILN_CONV_H]);
    int64_t n_vectors = kiln_ceil_div(b->n_columns, b->conv->lanes);
    brief_conv best = *b, it = *b;
    double least = -1;
    for (it.across = 1; it.across <= kiln_min_i64(KILN_TILE_VECTORS, n_vectors); it.across++) {
        for (it.down = 1; it.down <= (is_split_down ? 1 : KILN_TILE_VECTORS); it.down++) {
            for (it.rows = 1; it.rows <= KILN_TILE_ROWS; it.rows++) {
                if (!fits(&it, may_repeat)) continue;
                double cost = cost_of(&it);
                if (least >= 0 && cost >= least) continue;
                least = cost;
                best = it;
            }
        }
    }
    *b = best;
    b->column_tiles = kiln_ceil_div(b->n_columns, width_of(b));
}

/* Blocks of rows, or of features where rows are few, so many that the threads have even shares;
 * none is shorter than a tile. */
static void cut_blocks(brief_conv *b)
{
    const kiln_conv *conv = b->conv;
    int64_t threads = kiln_max_i64(1, conv->lower->schedule->n_threads), best = INT64_MAX;
    int64_t tiles = conv->batch * conv->axis[KILN_CONV_D].out * conv->groups;
    int64_t out = conv->axis[KILN_CONV_H].out, features = conv->out_features;
    bool is_by_rows = out / b->down >= threads || out * b->rows >= features * b->down;
    int64_t n = is_by_rows ? out : features, unit = is_by_rows ? b->down : b->rows;
    b->block_rows = out;
    b->block_features = features;
    for (int64_t i = 1; i <= MOST_BLOCKS && threads > 1; i++) {
        int64_t size = kiln_round_up(kiln_ceil_div(n, i), unit), blocks = kiln_ceil_div(n, size);
        if (blocks > 1 && n - (blocks - 1) * size < unit) continue;
        int64_t work = kiln_ceil_div(tiles * blocks, threads) * size;
        if (work >= best) continue;
        best = work;
        *(is_by_rows ? &b->block_rows : &b->block_features) = kiln_min_i64(size, n);
    }
}

static void find_operands(brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_lower *lower = conv->lower;
    if (!kiln_lower_strided(lower, conv->node->inputs[0], &b->image) ||
        !kiln_lower_strided(lower, conv->node->inputs[1], &b->kernel))
        kiln_fail(lower->scope, KILN_INTERNAL,
                  "group %s: an operand of a brief convolution is not strided memory",
                  lower->group->label);
    for (uint32_t i = 0; i < conv->n_spatial; i++) {
        tap_axis *taps = &b->taps[KILN_CONV_AXES - conv->n_spatial + i];
        taps->in_step = b->image.strides[conv->input_axes.at[i + 2]];
        taps->k_step = b->kernel.strides[conv->kernel_axes.at[i + 2]];
    }
}

bool kiln_conv_lower_brief(kiln_conv *conv)
{
    const kiln_group *group = conv->lower->group;
    if (!kiln_conv_is_brief(conv->lower->graph, group->anchor)) return false;
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (group->inputs[i].consumer.id) return false; /* packed all the same */

    const kiln_conv_axis *columns = &conv->axis[KILN_CONV_W];
    brief_conv b = {.conv = conv};
    conv->lower->is_short = true;
    find_operands(&b);
    b.n_phases = kiln_min_i64(columns->lhs_dilation, columns->out);
    b.n_columns = kiln_ceil_div(columns->out, b.n_phases);
    choose_tile(&b);
    cut_blocks(&b);
    int64_t sizes[] = {conv->batch, conv->axis[KILN_CONV_D].out, conv->groups,
                       kiln_ceil_div(conv->axis[KILN_CONV_H].out, b.block_rows),
                       kiln_ceil_div(conv->out_features, b.block_features)};
    kiln_conv_lower_tiles(conv, (kiln_ints){5, sizes}, emit_tile, &b);
    return true;
}
