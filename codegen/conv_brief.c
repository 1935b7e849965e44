/* A convolution that runs faster than it compiles, as one short kernel: one register tile of output
 * features x vectors of output columns. Elements of the kernel are broadcast, columns of the image
 * are loaded where they stand, and what lies outside of it is masked off, so nothing is packed or
 * copied. Where features or rows are no multiple of a tile, the last ones begin earlier and are
 * computed twice. An element is one chain over the taps (depth, row, column) and input features.
 * With input dilation d the columns of one remainder by d are a plain convolution by every d-th
 * tap. */
#include "codegen/conv_brief.h"
#include "base/checked.h"
#include "codegen/math.h"
#include "passes/brief_conv.h"

#define MOST_FLAT_COLUMNS 512 /* numbers of lanes are split by a product of 32 bits */
#define FULL_LANES 0.85       /* of the vectors of a row */
#define MOST_FLAT_ROWS (1 << 16)
#define MOST_WIDENED (1 << 16) /* elements of a kernel */

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

/* Whether vector `x` of some tile reads columns outside of the image. */
static bool has_edge(const kiln_brief_conv *b, int64_t x)
{
    int64_t tile = (b->column_tiles - 1) * kiln_brief_conv_width(b);
    int64_t last = tile + (x + 1) * b->conv->lanes - 1;
    if (b->is_flat) return last >= b->n_columns || !b->taps[KILN_CONV_W].is_exact;
    return !is_exact(&b->conv->axis[KILN_CONV_W], b->is_paired ? last + 1 : last);
}

/* The taps of output `at`: all of them, or with dilation those that meet elements, which for one
 * remainder is every d-th. `at` is a number below out. */
static void place_taps(kiln_brief_conv *b, uint32_t which, kiln_kv at)
{
    const kiln_conv_axis *axis = &b->conv->axis[which];
    kiln_kernel *k = b->conv->lower->kernel;
    kiln_tap_axis *taps = &b->taps[which];
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
    kiln_kv row, column;              /* of the tile's first output; flat: of the first output */
} conv_tap;

/* `limit` where 0 <= position < in, else 0. */
static kiln_kv limit_where(kiln_kernel *k, kiln_kv position, int64_t in, kiln_kv limit)
{
    kiln_kv at = kiln_k_convert(k, position, KILN_u64); /* below 0 is far above */
    kiln_kv is_in = kiln_k_binary(k, KILN_K_lt, at, kiln_k_const_int(k, KILN_u64, 1, in));
    return kiln_k_select(k, is_in, limit, kiln_k_const_i64(k, 0));
}

#define FRACTION_BITS 24
#define LANE_BITS 20

/* Splits number a < n into a / by and a % by, by a product where numbers are small: a division in
 * LLVM's hands is several times the code. */
typedef struct digits {
    kiln_kv high, low;
} digits;

static digits split_number(kiln_kernel *k, kiln_kv a, int64_t n, int64_t by)
{
    if (by == 1) return (digits){a, kiln_k_const_i64(k, 0)};
    if (n <= by) return (digits){kiln_k_const_i64(k, 0), a};
    if (n >= (1 << FRACTION_BITS) / by)
        return (digits){kiln_k_div_imm(k, a, by), kiln_k_rem_imm(k, a, by)};
    digits it;
    it.high = kiln_k_mul_imm(k, a, kiln_ceil_div(1 << FRACTION_BITS, by));
    it.high = kiln_k_div_imm(k, it.high, 1 << FRACTION_BITS);
    it.low = kiln_k_binary(k, KILN_K_sub, a, kiln_k_mul_imm(k, it.high, by));
    return it;
}

/* Adds tap `number` along an axis. */
static void add_tap(kiln_brief_conv *b, uint32_t which, kiln_kv number, conv_tap *tap)
{
    kiln_kernel *k = b->conv->lower->kernel;
    const kiln_conv_axis *axis = &b->conv->axis[which];
    const kiln_tap_axis *taps = &b->taps[which];
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
    if (which == KILN_CONV_H) tap->row = position;
    if (which == KILN_CONV_H && b->is_flat) return; /* lanes differ */
    for (int64_t y = 0; y < b->down && which != KILN_CONV_W && !taps->is_exact; y++) {
        int64_t down = which == KILN_CONV_H ? y * axis->stride : 0;
        kiln_kv at = kiln_k_add_imm(k, position, down);
        tap->limit[y] = limit_where(k, at, axis->in, tap->limit[y]);
    }
}

/* The lanes of a vector that stand on elements: positions `apart` apart, the first one at `first`.
 */
static kiln_kv lanes_below(kiln_kernel *k, uint32_t lanes, kiln_kv first, int64_t apart,
                           kiln_kv limit)
{
    kiln_kv numbers = kiln_k_lanes(k, KILN_i32, lanes);
    kiln_kv steps = kiln_k_const_int(k, KILN_i32, lanes, apart);
    numbers = kiln_k_binary(k, KILN_K_mul, numbers, steps);
    first = kiln_k_splat(k, kiln_k_convert(k, first, KILN_i32), lanes);
    kiln_kv at = kiln_k_bitcast(k, kiln_k_binary(k, KILN_K_add, numbers, first), KILN_u32);
    limit = kiln_k_splat(k, kiln_k_convert(k, limit, KILN_u32), lanes);
    return kiln_k_binary(k, KILN_K_lt, at, limit);
}

/* What flat lanes are as rows and columns, from column `first` on. */
static void split_lanes(kiln_brief_conv *b, kiln_kv first)
{
    kiln_kernel *k = b->conv->lower->kernel;
    int64_t columns = b->conv->axis[KILN_CONV_W].out, lanes = b->conv->lanes;
    int64_t end = kiln_round_up(b->n_columns, kiln_brief_conv_width(b));
    digits at = split_number(k, first, end, columns);
    for (int64_t x = 0; x < b->across; x++) {
        kiln_kv number = kiln_k_convert(k, kiln_k_add_imm(k, at.low, x * lanes), KILN_i32);
        kiln_kv row = kiln_k_splat(k, kiln_k_convert(k, at.high, KILN_i32), b->conv->lanes);
        kiln_kv lane = kiln_k_lanes(k, KILN_i32, b->conv->lanes);
        number = kiln_k_binary(k, KILN_K_add, lane, kiln_k_splat(k, number, b->conv->lanes));
        kiln_kv part =
            kiln_k_const_int(k, KILN_i32, b->conv->lanes, kiln_ceil_div(1 << LANE_BITS, columns));
        kiln_kv shift = kiln_k_const_int(k, KILN_i32, b->conv->lanes, LANE_BITS);
        kiln_kv more = kiln_k_binary(k, KILN_K_mul, number, part);
        more = kiln_k_binary(k, KILN_K_shr, more, shift);
        kiln_kv width = kiln_k_const_int(k, KILN_i32, b->conv->lanes, columns);
        kiln_kv over = kiln_k_binary(k, KILN_K_mul, more, width);
        b->flat_row[x] = kiln_k_binary(k, KILN_K_add, row, more);
        b->flat_column[x] = kiln_k_binary(k, KILN_K_sub, number, over);
    }
}

/* Lanes at `at` moved by `by` that stay in 0 … limit - 1. */
static kiln_kv moved_below(const kiln_brief_conv *b, kiln_kv at, kiln_kv by, kiln_kv limit)
{
    kiln_kernel *k = b->conv->lower->kernel;
    by = kiln_k_splat(k, kiln_k_convert(k, by, KILN_i32), b->conv->lanes);
    at = kiln_k_bitcast(k, kiln_k_binary(k, KILN_K_add, at, by), KILN_u32);
    limit = kiln_k_splat(k, kiln_k_convert(k, limit, KILN_u32), b->conv->lanes);
    return kiln_k_binary(k, KILN_K_lt, at, limit);
}

/* The masks of flat vectors: rows and columns that the tap finds in the image. */
static void mask_flat(kiln_brief_conv *b, const conv_tap *tap)
{
    kiln_kernel *k = b->conv->lower->kernel;
    kiln_kv rows = kiln_k_const_i64(k, b->conv->axis[KILN_CONV_H].in);
    bool is_inside = b->taps[KILN_CONV_D].is_exact && b->taps[KILN_CONV_H].is_exact;
    kiln_kv right = kiln_k_binary(k, KILN_K_sub, tap->column, b->column);
    for (int64_t x = 0; x < b->across; x++) {
        if (is_inside && !has_edge(b, x)) continue;
        kiln_kv row = moved_below(b, b->flat_row[x], tap->row, rows);
        kiln_kv column = moved_below(b, b->flat_column[x], right, tap->limit[0]);
        b->tile->masks[x] = kiln_k_binary(k, KILN_K_and, row, column);
    }
}

/* Of one load of a pair of vectors: halves come in one. */
static uint32_t pair_lanes(const kiln_brief_conv *b)
{
    return b->conv->input->dtype == b->conv->dtype ? b->conv->lanes : 2 * b->conv->lanes;
}

/* The masks of the tile's vectors; none where all of them stand on elements. */
static void mask_vectors(kiln_brief_conv *b, const conv_tap *tap)
{
    kiln_kernel *k = b->conv->lower->kernel;
    int64_t lanes = b->conv->lanes, stride = b->conv->axis[KILN_CONV_W].stride;
    bool is_inside = b->taps[KILN_CONV_D].is_exact && b->taps[KILN_CONV_H].is_exact;
    for (int64_t x = 0; x < b->across; x++) {
        kiln_kv first = kiln_k_add_imm(k, tap->column, x * lanes * stride);
        if (is_inside && !has_edge(b, x)) continue;
        for (int64_t y = 0; y < b->down; y++) {
            int64_t v = y * b->across + x;
            if (!b->is_paired) {
                b->tile->masks[v] = lanes_below(k, b->tile->lanes, first, stride, tap->limit[y]);
                continue;
            }
            uint32_t n = pair_lanes(b);
            kiln_kv second = kiln_k_add_imm(k, first, lanes);
            b->masks[v][0] = lanes_below(k, n, first, 1, tap->limit[y]);
            if (n == lanes) b->masks[v][1] = lanes_below(k, n, second, 1, tap->limit[y]);
        }
    }
}

/* Every other column of two vectors. */
static kiln_kv load_pair(kiln_brief_conv *b, uint32_t vector, kiln_kv first)
{
    kiln_kernel *k = b->conv->lower->kernel;
    const kiln_tile *tile = b->tile;
    int64_t from[KILN_K_MAX_LANES];
    uint32_t n = pair_lanes(b);
    for (uint32_t i = 0; i < tile->lanes; i++) from[i] = 2 * (int64_t)i;
    kiln_kv low = kiln_k_load(k, tile->b.buffer, first, n, b->masks[vector][0], 0), high = 0;
    if (n == tile->lanes) {
        kiln_kv second = kiln_k_add_imm(k, first, n);
        high = kiln_k_load(k, tile->b.buffer, second, n, b->masks[vector][1], 0);
    }
    kiln_kv value = kiln_k_shuffle(k, low, high, tile->lanes, from);
    return kiln_math_from_storage(k, value, tile->b.dtype);
}

/* Columns that do not lie together. */
static kiln_kv load_columns(void *user, uint32_t vector, kiln_kv at, int64_t step)
{
    kiln_brief_conv *b = user;
    kiln_lower *lower = b->conv->lower;
    const kiln_tile *tile = b->tile;
    int64_t apart = b->taps[KILN_CONV_W].in_step * b->conv->axis[KILN_CONV_W].stride;
    kiln_kv first = kiln_k_add_imm(lower->kernel, at, tile->b_vector[vector] + step);
    if (b->is_paired) return load_pair(b, vector, first);
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
static void accumulate(kiln_brief_conv *b, kiln_kv image, kiln_kv kernel)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tap_axis *taps = b->taps;
    int64_t n = taps[KILN_CONV_D].n * taps[KILN_CONV_H].n * taps[KILN_CONV_W].n;
    kiln_kv number = kiln_k_const_i64(k, 0);
    if (n > 1) number = kiln_tile_loop(b->tile, number, kiln_k_const_i64(k, n), 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    conv_tap tap = {.image = image, .kernel = kernel};
    for (int64_t y = 0; y < b->down; y++)
        tap.limit[y] = kiln_k_const_i64(k, conv->axis[KILN_CONV_W].in);
    digits columns = split_number(k, number, n, taps[KILN_CONV_W].n);
    digits rows = split_number(k, columns.high, n / taps[KILN_CONV_W].n, taps[KILN_CONV_H].n);
    add_tap(b, KILN_CONV_W, columns.low, &tap);
    add_tap(b, KILN_CONV_H, rows.low, &tap);
    add_tap(b, KILN_CONV_D, rows.high, &tap);
    if (b->is_flat)
        mask_flat(b, &tap);
    else
        mask_vectors(b, &tap);
    kiln_tile_accumulate(b->tile, tap.kernel, tap.image, conv->in_features);
    kiln_lower_cut(conv->lower, mark);
    if (n > 1) kiln_tile_loop_end(b->tile);
}

/* The index of the result at feature `row`, columns from `column` on: an epilogue's callback. */
static void result_index(void *user, kiln_kv row, kiln_axis_index column, kiln_index *out_index)
{
    kiln_brief_conv *b = user;
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
    if (b->is_flat) {
        int64_t dims[] = {conv->axis[KILN_CONV_H].out, conv->axis[KILN_CONV_W].out};
        kiln_axis_index both[2];
        column.extent = b->n_columns;
        kiln_lower_delinearize(lower, column, 2, dims, both);
        out_index->axis[conv->output_axes.at[conv->n_spatial]] = both[0];
        *last = both[1];
        return;
    }
    *last = kiln_axis_affine(lower, &column, b->n_phases, 0);
    kiln_axis_index phase = kiln_axis_scalar(b->phase, 1);
    if (b->n_phases > 1) *last = kiln_axis_add(lower, last, &phase);
}

/* Stores the sums, one row of the tile after the other. */
static void store_tile(kiln_brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_tile *all = b->tile;
    int64_t out = conv->axis[KILN_CONV_W].out, lanes = conv->lanes;
    bool is_even = out % b->n_phases == 0 && b->n_columns % kiln_brief_conv_width(b) == 0;
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
            is_even ||
            (out % b->n_phases == 0 &&
             (b->column_tiles - 1) * kiln_brief_conv_width(b) + (x + 1) * lanes <= b->n_columns);
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
static void emit_register_tile(kiln_brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    int64_t to_feature = b->kernel.strides[conv->kernel_axes.at[0]];
    kiln_tap_axis *taps = b->taps;
    kiln_tile tile = {.lower = conv->lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = (uint32_t)b->rows,
                      .vectors = (uint32_t)(b->down * b->across),
                      .a = b->features,
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
        tile.widen = load_columns;
        tile.widen_user = b;
    }
    b->tile = &tile;
    place_taps(b, KILN_CONV_D, conv->depth);
    place_taps(b, KILN_CONV_H, b->is_flat ? kiln_k_const_i64(k, 0) : b->row);
    place_taps(b, KILN_CONV_W, is_split(&axis[KILN_CONV_W]) ? b->phase : b->column);
    if (is_split(&axis[KILN_CONV_W]))
        taps[KILN_CONV_W].position =
            kiln_k_binary(k, KILN_K_add, taps[KILN_CONV_W].position, b->column);
    kiln_kv image = kiln_k_mul_imm(k, b->group, conv->in_features * tile.b_k);
    image = step_by(k, image, conv->image, b->image.strides[conv->input_axes.at[0]]);
    image = kiln_k_add_imm(k, image, b->image.origin);
    kiln_kv kernel = step_by(k, b->feature, b->group, conv->out_features);
    kernel = kiln_k_add_imm(k, kiln_k_mul_imm(k, kernel, to_feature), b->kernel.origin);
    if (b->is_flat) split_lanes(b, b->column);
    kiln_tile_zero(&tile);
    accumulate(b, image, kernel);
    store_tile(b);
}

/* A loop, unless it has one trip. */
static kiln_kv open_steps(kiln_brief_conv *b, kiln_kv begin, kiln_kv end, int64_t step,
                          bool is_loop)
{
    return is_loop ? kiln_k_loop(b->conv->lower->kernel, KILN_LOOP_SERIAL, begin, end, step)
                   : begin;
}

static void close_steps(kiln_brief_conv *b, uint32_t mark, bool is_loop)
{
    kiln_lower_cut(b->conv->lower, mark);
    if (is_loop) kiln_k_end(b->conv->lower->kernel);
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

/* All columns of the rows and features at work. */
static void emit_columns(kiln_brief_conv *b, block columns)
{
    kiln_kernel *k = b->conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), n_phases = kiln_k_const_i64(k, b->n_phases);
    bool is_phased = b->n_phases > 1, is_cut = b->block_columns > kiln_brief_conv_width(b);
    b->phase = open_steps(b, zero, n_phases, 1, is_phased);
    uint32_t outer = kiln_lower_mark(b->conv->lower);
    b->column = open_steps(b, columns.begin, columns.end, kiln_brief_conv_width(b), is_cut);
    uint32_t inner = kiln_lower_mark(b->conv->lower);
    emit_register_tile(b);
    close_steps(b, inner, is_cut);
    close_steps(b, outer, is_phased);
}

/* The step that begins at `at`, or earlier where it would not be whole. */
static kiln_kv begin_earlier(kiln_kernel *k, kiln_kv at, kiln_kv end, int64_t size, bool is_whole)
{
    return is_whole ? at : kiln_k_min(k, at, kiln_k_add_imm(k, end, -size));
}

/* A kernel of halves is widened to a local, since every register tile meets each element. */
static void find_features(kiln_brief_conv *b)
{
    const kiln_lower *lower = b->conv->lower;
    uint32_t input = b->kernel.input;
    const kiln_type *type = kiln_graph_type(lower->graph, lower->group->inputs[input].value);
    b->features = (kiln_tile_source){lower->buffer_of[input], type->dtype};
    b->n_widened = type->dtype == b->conv->dtype || b->conv->groups > 1 ? 0 : type->n_elements;
    if (b->n_widened > MOST_WIDENED) b->n_widened = 0;
    if (!b->n_widened) return;
    b->features.buffer = kiln_kernel_add_local(lower->kernel, b->conv->dtype, b->n_widened);
    b->features.dtype = KILN_NO_DTYPE;
}

static void widen_features(const kiln_brief_conv *b)
{
    const kiln_conv *conv = b->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t n = b->n_widened, lanes = conv->lanes;
    if (n == 0) return;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, n);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, lanes);
    kiln_kv mask = n < lanes ? kiln_k_active(k, conv->lanes, end) : 0;
    if (n > lanes && n % lanes) at = kiln_k_min(k, at, kiln_k_const_i64(k, n - lanes));
    uint32_t from = conv->lower->buffer_of[b->kernel.input];
    kiln_kv value = kiln_k_load(k, from, at, conv->lanes, mask, 0);
    value = kiln_math_from_storage(k, value, conv->kernel->dtype);
    kiln_k_store(k, b->features.buffer, at, value, mask, 0);
    kiln_k_end(k);
}

static void emit_tile(void *user, kiln_kv number)
{
    kiln_brief_conv *b = user;
    kiln_conv *conv = b->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    int64_t out = b->n_rows, features = conv->out_features;
    int64_t sizes[] = {kiln_ceil_div(b->n_columns, b->block_columns),
                       kiln_ceil_div(out, b->block_rows),
                       kiln_ceil_div(features, b->block_features),
                       conv->groups,
                       conv->axis[KILN_CONV_D].out,
                       conv->batch};
    kiln_kv at[6];
    for (uint32_t i = 0; i < 6; i++) {
        at[i] = sizes[i] == 1 ? kiln_k_const_i64(k, 0) : kiln_k_rem_imm(k, number, sizes[i]);
        if (sizes[i] > 1) number = kiln_k_div_imm(k, number, sizes[i]);
    }
    b->group = at[3];
    conv->depth = at[4];
    conv->image = at[5];
    conv->epilogue.index = result_index;
    conv->epilogue.user = b;
    block columns = block_of(k, at[0], b->block_columns, b->n_columns);
    block rows = block_of(k, at[1], b->block_rows, out);
    block strip = block_of(k, at[2], b->block_features, features);
    widen_features(b);
    bool has_rows = b->block_rows > b->down, has_features = b->block_features > b->rows;
    b->row = open_steps(b, rows.begin, rows.end, b->down, has_rows);
    uint32_t outer = kiln_lower_mark(lower);
    bool is_whole = b->block_rows % b->down == 0 && out % b->block_rows % b->down == 0;
    b->row = begin_earlier(k, b->row, rows.end, b->down, is_whole);
    b->feature = open_steps(b, strip.begin, strip.end, b->rows, has_features);
    uint32_t inner = kiln_lower_mark(lower);
    is_whole = b->block_features % b->rows == 0 && features % b->block_features % b->rows == 0;
    b->feature = begin_earlier(k, b->feature, strip.end, b->rows, is_whole);
    emit_columns(b, columns);
    close_steps(b, inner, has_features);
    close_steps(b, outer, has_rows);
}

static void find_operands(kiln_brief_conv *b)
{
    kiln_conv *conv = b->conv;
    kiln_lower *lower = conv->lower;
    if (!kiln_lower_strided(lower, conv->node->inputs[0], &b->image) ||
        !kiln_lower_strided(lower, conv->node->inputs[1], &b->kernel))
        kiln_fail(lower->scope, KILN_INTERNAL,
                  "group %s: an operand of a brief convolution is not strided memory",
                  lower->group->label);
    for (uint32_t i = 0; i < conv->n_spatial; i++) {
        kiln_tap_axis *taps = &b->taps[KILN_CONV_AXES - conv->n_spatial + i];
        taps->in_step = b->image.strides[conv->input_axes.at[i + 2]];
        taps->k_step = b->kernel.strides[conv->kernel_axes.at[i + 2]];
    }
}

/* Whether rows are to count as one: then few columns leave no lanes empty, and pixels alone need no
 * loop over rows. Masks of such lanes are more code. */
static bool is_flat(const kiln_brief_conv *b)
{
    int64_t lanes = b->conv->lanes, n = b->conv->axis[KILN_CONV_W].out;
    bool is_masked = b->conv->axis[KILN_CONV_W].kernel * b->conv->axis[KILN_CONV_H].kernel > 1;
    if (is_masked && (double)n > FULL_LANES * (double)kiln_round_up(n, lanes)) return false;
    const kiln_conv_axis *rows = &b->conv->axis[KILN_CONV_H];
    const kiln_conv_axis *columns = &b->conv->axis[KILN_CONV_W];
    const kiln_tap_axis *taps = b->taps;
    return b->conv->n_spatial >= 2 && rows->stride == 1 && columns->stride == 1 &&
           !is_split(rows) && !is_split(columns) && columns->in == columns->out &&
           taps[KILN_CONV_W].in_step == 1 && taps[KILN_CONV_H].in_step == columns->in &&
           columns->in <= MOST_FLAT_COLUMNS && rows->out <= MOST_FLAT_ROWS;
}

bool kiln_conv_lower_brief(kiln_conv *conv)
{
    const kiln_lower *lower = conv->lower;
    const kiln_group *group = lower->group;
    if (kiln_conv_choose_form(lower->graph, group->anchor, lower->machine) != KILN_CONV_BY_COLUMNS)
        return false;
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (group->inputs[i].consumer.id) return false; /* packed all the same */

    const kiln_conv_axis *columns = &conv->axis[KILN_CONV_W];
    kiln_brief_conv b = {.conv = conv};
    conv->lower->is_short = true;
    find_operands(&b);
    b.is_paired = columns->stride == 2 && b.taps[KILN_CONV_W].in_step == 1;
    b.is_flat = is_flat(&b);
    b.n_phases = kiln_min_i64(columns->lhs_dilation, columns->out);
    b.n_columns = kiln_ceil_div(columns->out, b.n_phases);
    b.n_rows = conv->axis[KILN_CONV_H].out;
    if (b.is_flat) {
        b.n_columns *= b.n_rows;
        b.n_rows = 1;
    }
    kiln_brief_conv_plan(&b);
    find_features(&b);
    int64_t sizes[] = {conv->batch,
                       conv->axis[KILN_CONV_D].out,
                       conv->groups,
                       kiln_ceil_div(b.n_rows, b.block_rows),
                       kiln_ceil_div(b.n_columns, b.block_columns),
                       kiln_ceil_div(conv->out_features, b.block_features)};
    kiln_conv_lower_tiles(conv, (kiln_ints){6, sizes}, emit_tile, &b);
    return true;
}
