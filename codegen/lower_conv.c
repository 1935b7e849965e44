/* Convolution groups as implicit products: [image, depth, block of output rows, group, block of
 * output features] tiles. A tile copies its input window, then register tiles of pixels x features
 * accumulate over the taps. A 1 x 1 kernel with stride 1 and no padding is a plain product over all
 * pixels, and goes the way of the dots. */
#include "codegen/lower_conv.h"
#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/lower_dot.h"
#include "codegen/math.h"
#include "codegen/winograd.h"
#include "kiln/program.h"

#define MOST_FEATURE_BLOCKS 64
#define CYCLES_PER_COPY 3.0         /* of a vector of the window */
#define CYCLES_PER_TILE 3000.0      /* of the kernel, whatever it does */
#define WEIGHT_BYTES_PER_CYCLE 10.0 /* from beyond the second cache */

typedef struct product {
    kiln_conv *conv;
    kiln_tile_source kernel;
    bool is_packed;
    int64_t kernel_step, kernel_origin; /* elements from one k to the next, when not packed */
    int64_t k_size;                     /* taps x input features of a group */
    bool is_row_joined;    /* the taps of a kernel row and their features are one run of A */
    int64_t height, width; /* output pixels of a register tile */
    uint32_t vectors;
    int64_t block_rows, block_features, n_feature_blocks, n_row_blocks;
    kiln_kv group;     /* of the tile at work */
    kiln_kv block_row; /* its first output row */
    kiln_kv row_end;   /* behind its last one; none: as many as a block has */
    bool is_band;      /* it is a few rows of a band */
    int64_t ring;      /* rows of A that its buffer has room for; 0: the window is copied, or all
                          rows are there */
    bool is_in_place;  /* A is read where it stands: no window is copied */
    int64_t image_stride, row_stride, origin; /* of such an A, by rows of the result */
} product;

/* A register tile: height x width pixels, `vectors` of features, `last` lanes in the last one. */
typedef struct pixel_tile {
    int64_t height, width;
    uint32_t vectors, last;
    kiln_kv feature; /* within the group */
} pixel_tile;

static kiln_tile make_tile(const product *p, const pixel_tile *shape)
{
    const kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tile tile = {.lower = conv->lower,
                      .dtype = conv->dtype,
                      .lanes = conv->lanes,
                      .rows = (uint32_t)(shape->height * shape->width),
                      .vectors = shape->vectors,
                      .a = {conv->local, KILN_NO_DTYPE},
                      .b = p->kernel,
                      .a_k = 1};
    for (int64_t y = 0; y < shape->height; y++)
        for (int64_t x = 0; x < shape->width; x++)
            tile.a_row[y * shape->width + x] =
                y * conv->axis[KILN_CONV_H].local_stride * conv->row_pitch +
                x * conv->axis[KILN_CONV_W].local_stride * conv->pitch;
    if (p->is_packed) {
        kiln_tile_use_panels(&tile, p->k_size);
        return tile;
    }
    tile.b_k = p->kernel_step;
    for (uint32_t v = 0; v < tile.vectors; v++) tile.b_vector[v] = (int64_t)v * tile.lanes;
    if (shape->last < tile.lanes)
        tile.b_mask = kiln_k_active(k, tile.lanes, kiln_k_const_i64(k, shape->last));
    return tile;
}

/* The kernel's element for k = 0 and the tile's first feature. */
static kiln_kv kernel_offset(const product *p, kiln_kv feature)
{
    kiln_kernel *k = p->conv->lower->kernel;
    int64_t features = p->conv->out_features;
    if (!p->is_packed) {
        kiln_kv first = kiln_k_add_imm(k, kiln_k_mul_imm(k, p->group, features), p->kernel_origin);
        return kiln_k_binary(k, KILN_K_add, first, feature);
    }
    kiln_kv start = kiln_k_mul_imm(k, p->group, kiln_round_up(features, KILN_PANEL) * p->k_size);
    return kiln_k_binary(k, KILN_K_add, start, kiln_k_mul_imm(k, feature, p->k_size));
}

/* A loop over taps, unless there is one. */
static kiln_kv open_taps(kiln_tile *tile, int64_t n)
{
    kiln_kernel *k = tile->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    if (n == 1) return zero;
    return kiln_tile_loop(tile, zero, kiln_k_const_i64(k, n), 1);
}

static kiln_kv step_by(kiln_kernel *k, kiln_kv base, kiln_kv tap, int64_t step)
{
    return kiln_k_binary(k, KILN_K_add, base, kiln_k_mul_imm(k, tap, step));
}

static void accumulate_taps(const product *p, kiln_tile *tile, kiln_kv a, kiln_kv b)
{
    const kiln_conv *conv = p->conv;
    kiln_kernel *k = tile->lower->kernel;
    const kiln_conv_axis *axis = conv->axis;
    int64_t features = conv->in_features, width = axis[KILN_CONV_W].kernel;
    int64_t of_row = width * features * tile->b_k, of_slice = axis[KILN_CONV_H].kernel * of_row;
    kiln_kv depth = open_taps(tile, axis[KILN_CONV_D].kernel);
    kiln_kv a_at = step_by(k, a, depth, conv->slice), b_at = step_by(k, b, depth, of_slice);
    kiln_kv down = open_taps(tile, axis[KILN_CONV_H].kernel);
    a_at = step_by(k, a_at, down, axis[KILN_CONV_H].rhs_dilation * conv->row_pitch);
    b_at = step_by(k, b_at, down, of_row);
    if (p->is_row_joined) {
        kiln_kv far = tile->far;
        int64_t far_row = width * features / 4 * KILN_PANEL * tile->far_lines;
        if (far) tile->far = step_by(k, far, down, far_row);
        kiln_tile_accumulate(tile, a_at, b_at, width * features);
        tile->far = far;
    } else {
        kiln_kv right = open_taps(tile, width);
        a_at = step_by(k, a_at, right, axis[KILN_CONV_W].rhs_dilation * conv->pitch);
        b_at = step_by(k, b_at, right, features * tile->b_k);
        kiln_tile_accumulate(tile, a_at, b_at, features);
        if (width > 1) kiln_tile_loop_end(tile);
    }
    if (axis[KILN_CONV_H].kernel > 1) kiln_tile_loop_end(tile);
    if (axis[KILN_CONV_D].kernel > 1) kiln_tile_loop_end(tile);
}

/* Lets the tile fetch its share of the next strip of features where the kernel does not stay in the
 * second cache. */
static void fetch_next(const product *p, kiln_tile *tile, const pixel_tile *shape, kiln_kv row,
                       kiln_kv column)
{
    const kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_W].out, strip = (int64_t)p->vectors * conv->lanes;
    int64_t n_columns = kiln_ceil_div(out, p->width);
    int64_t bytes = p->k_size * conv->out_features * (int64_t)kiln_dtype_bytes(conv->dtype);
    if (!p->is_packed || !p->is_row_joined || bytes <= conv->lower->machine->l2_bytes / 2) return;
    if (p->is_band) return; /* the kernels of a band are small */
    if (conv->axis[KILN_CONV_D].kernel > 1) return;
    kiln_kv down = kiln_k_div_imm(k, kiln_k_binary(k, KILN_K_sub, row, p->block_row), p->height);
    kiln_kv right = kiln_k_div_imm(k, column, p->width);
    kiln_tile_next next = {.number = step_by(k, right, down, n_columns),
                           .n_tiles = kiln_ceil_div(conv->block_rows, p->height) * n_columns,
                           .k_size = p->k_size,
                           .panel = p->k_size * KILN_PANEL};
    next.from = kernel_offset(p, kiln_k_add_imm(k, shape->feature, strip));
    kiln_tile_fetch(tile, &next);
}

/* The element of A for column 0 of a row of the output. */
static kiln_kv row_of_a(const product *p, kiln_kv row)
{
    const kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    if (!p->is_in_place) {
        kiln_kv down = kiln_k_binary(k, KILN_K_sub, row, p->block_row);
        return kiln_k_mul_imm(k, down, conv->axis[KILN_CONV_H].local_stride * conv->row_pitch);
    }
    kiln_kv at = p->ring ? kiln_k_rem_imm(k, row, p->ring) : row;
    at = step_by(k, kiln_k_mul_imm(k, at, p->row_stride), conv->image, p->image_stride);
    return kiln_k_add_imm(k, at, p->origin);
}

/* The register tile whose first pixel is (row, column) of the output. */
static void emit_register_tile(product *p, const pixel_tile *shape, kiln_kv row, kiln_kv column)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tile tile = make_tile(p, shape);
    kiln_kv a = row_of_a(p, row);
    a = step_by(k, a, column, conv->axis[KILN_CONV_W].local_stride * conv->pitch);
    kiln_tile_zero(&tile);
    fetch_next(p, &tile, shape, row, column);
    accumulate_taps(p, &tile, a, kernel_offset(p, shape->feature));
    conv->row = row;
    conv->column = column;
    conv->tile_width = shape->width;
    kiln_kv feature = kiln_k_binary(k, KILN_K_add, shape->feature,
                                    kiln_k_mul_imm(k, p->group, conv->out_features));
    kiln_axis_index features = kiln_axis_vector(feature, 1);
    features.extent = conv->out_features * conv->groups;
    kiln_epilogue_emit(&conv->epilogue, &tile, kiln_k_const_i64(k, 0), features, shape->last);
}

/* All columns of output rows first … end in steps of the full height. */
static void emit_rows(product *p, pixel_tile shape, kiln_kv first, kiln_kv end)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_W].out, whole = out / shape.width * shape.width;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, p->height);
    uint32_t mark = kiln_lower_mark(conv->lower);
    kiln_kv begin = kiln_k_const_i64(k, 0), stop = kiln_k_const_i64(k, whole);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, stop, shape.width);
    uint32_t inner = kiln_lower_mark(conv->lower);
    emit_register_tile(p, &shape, row, column);
    kiln_lower_cut(conv->lower, inner);
    kiln_k_end(k);
    if (whole < out) {
        shape.width = out - whole;
        emit_register_tile(p, &shape, row, stop);
    }
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

/* Features first … end of the group in steps of the full width. */
static void emit_features(product *p, pixel_tile shape, kiln_kv first, kiln_kv end)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_H].out, whole = out / p->height * p->height;
    kiln_kv row_end = p->row_end;
    if (!row_end) row_end = kiln_k_add_imm(k, p->block_row, conv->block_rows);
    row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, out));
    kiln_kv split = kiln_k_const_i64(k, whole);
    shape.feature = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, (int64_t)p->vectors * conv->lanes);
    uint32_t mark = kiln_lower_mark(conv->lower);
    shape.height = p->height;
    emit_rows(p, shape, p->block_row, kiln_k_min(k, row_end, split));
    if (whole < out) {
        shape.height = out - whole;
        emit_rows(p, shape, kiln_k_max(k, p->block_row, split), row_end);
    }
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

static void emit_tile(void *user, kiln_kv number)
{
    product *p = user;
    kiln_conv *conv = p->conv;
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    int64_t width = (int64_t)p->vectors * conv->lanes, features = conv->out_features;
    kiln_kv block = kiln_lower_op_imm(lower, KILN_K_rem, number, p->n_feature_blocks);
    kiln_kv rest = kiln_lower_op_imm(lower, KILN_K_div, number, p->n_feature_blocks);
    p->group = kiln_lower_op_imm(lower, KILN_K_rem, rest, conv->groups);
    rest = kiln_lower_op_imm(lower, KILN_K_div, rest, conv->groups);
    kiln_kv rows = kiln_lower_op_imm(lower, KILN_K_rem, rest, p->n_row_blocks);
    rest = kiln_lower_op_imm(lower, KILN_K_div, rest, p->n_row_blocks);
    conv->depth = kiln_lower_op_imm(lower, KILN_K_rem, rest, conv->axis[KILN_CONV_D].out);
    conv->image = kiln_lower_op_imm(lower, KILN_K_div, rest, conv->axis[KILN_CONV_D].out);
    p->block_row = kiln_k_mul_imm(k, rows, conv->block_rows);
    conv->first_row = p->block_row;
    conv->feature = kiln_k_mul_imm(k, p->group, conv->in_features);
    if (!p->is_in_place) kiln_conv_copy(conv);
    kiln_kv first = kiln_k_mul_imm(k, block, p->block_features);
    kiln_kv end = kiln_k_add_imm(k, first, p->block_features);
    end = kiln_k_min(k, end, kiln_k_const_i64(k, features));
    kiln_kv whole = kiln_k_const_i64(k, features / width * width);
    pixel_tile shape = {.width = p->width, .vectors = p->vectors, .last = conv->lanes};
    if (features >= width) emit_features(p, shape, first, kiln_k_min(k, end, whole));
    if (features % width == 0) return;
    shape.vectors = (uint32_t)kiln_ceil_div(features % width, conv->lanes);
    shape.last = (uint32_t)((features - 1) % conv->lanes + 1);
    emit_features(p, shape, kiln_k_max(k, first, whole), end);
}

/* Pixels of a register tile: as many of a row as fit, then more rows. */
static void choose_pixels(const product *p, uint32_t rows, int64_t *out_width, int64_t *out_height)
{
    const kiln_conv_axis *axis = p->conv->axis;
    int64_t out = axis[KILN_CONV_W].out;
    int64_t most = p->is_band ? 1 : axis[KILN_CONV_H].out;
    *out_width = kiln_ceil_div(out, kiln_ceil_div(out, rows));
    *out_height = kiln_max_i64(1, kiln_min_i64(rows / *out_width, most));
}

/* Cycles of all register tiles of width x height pixels over an image, tails included. */
static double pixel_cycles(const product *p, int64_t width, int64_t height, uint32_t vectors)
{
    const kiln_conv_axis *axis = p->conv->axis;
    int64_t widths[] = {width, axis[KILN_CONV_W].out % width},
            heights[] = {height, axis[KILN_CONV_H].out % height};
    int64_t columns[] = {axis[KILN_CONV_W].out / width, 1},
            rows[] = {axis[KILN_CONV_H].out / height, 1};
    double cycles = 0;
    for (uint32_t i = 0; i < 4; i++) {
        int64_t pixels = widths[i % 2] * heights[i / 2];
        if (!pixels) continue;
        cycles += (double)(columns[i % 2] * rows[i / 2]) *
                  kiln_tile_cycles(p->conv->lower->machine, (uint32_t)pixels, vectors, p->k_size);
    }
    return cycles;
}

/* A strip's weights and the next one's stay in the second cache beside the window. */
static bool has_room_for_strips(const product *p, int64_t strip)
{
    const kiln_conv *conv = p->conv;
    int64_t bytes = p->k_size * strip * (int64_t)kiln_dtype_bytes(conv->dtype);
    return 2 * bytes <= conv->lower->machine->l2_bytes / 4 * 3;
}

/* Cycles of all features of an image and group: whole strips, and one of the vectors that are
 * left. */
static double strip_cycles(const product *p, int64_t width, int64_t height, uint32_t vectors)
{
    int64_t strip = (int64_t)vectors * p->conv->lanes, features = p->conv->out_features;
    uint32_t rest = (uint32_t)kiln_ceil_div(features % strip, p->conv->lanes);
    double cycles = (double)(features / strip) * pixel_cycles(p, width, height, vectors);
    return rest ? cycles + pixel_cycles(p, width, height, rest) : cycles;
}

/* Bytes of the window that `rows` rows of outputs read. */
static int64_t window_bytes(const kiln_conv *conv, int64_t rows)
{
    const kiln_conv_axis *axis = conv->axis;
    return kiln_conv_axis_local(&axis[KILN_CONV_W], axis[KILN_CONV_W].out) * conv->in_features *
           (int64_t)kiln_dtype_bytes(conv->dtype) * axis[KILN_CONV_D].kernel *
           kiln_conv_axis_local(&axis[KILN_CONV_H], rows);
}

/* Cycles of the longest share of a thread when tiles have `rows` rows of outputs and `features` of
 * the features: what their products take, the copy of their window, and their weights, which come
 * half unseen behind the products. `cycles` are those of all products of an image and group. */
static double block_cycles(const product *p, double cycles, int64_t rows, int64_t features)
{
    const kiln_conv *conv = p->conv;
    const kiln_conv_axis *axis = conv->axis;
    double bytes = (double)kiln_dtype_bytes(conv->dtype), out = (double)axis[KILN_CONV_H].out;
    int64_t real = kiln_min_i64(rows, axis[KILN_CONV_H].out);
    double copy = (double)window_bytes(conv, real) / bytes / conv->lanes * CYCLES_PER_COPY;
    if (p->is_in_place) copy = 0;
    double part = (double)features / (double)conv->out_features;
    if (part > 1) part = 1;
    double weights = (double)(p->k_size * conv->out_features) * bytes * part;
    double one = cycles * (double)real / out * part + copy + weights / WEIGHT_BYTES_PER_CYCLE / 2 +
                 CYCLES_PER_TILE;
    double n_tiles = (double)(conv->batch * axis[KILN_CONV_D].out * conv->groups *
                              kiln_ceil_div(conv->out_features, features) *
                              kiln_ceil_div(axis[KILN_CONV_H].out, rows));
    double threads = conv->lower->schedule->n_threads;
    double share = n_tiles / (threads > 1 ? threads : 1);
    return one * (double)(int64_t)(share + 0.999);
}

/* Rows and features of a tile, for the least time, which it returns; the window stays in the second
 * cache. */
static double choose_blocks(product *p, double cycles)
{
    kiln_conv *conv = p->conv;
    int64_t out = conv->axis[KILN_CONV_H].out, width = (int64_t)p->vectors * conv->lanes;
    int64_t room = conv->lower->machine->l2_bytes / 2;
    int64_t strips = kiln_ceil_div(conv->out_features, width);
    double best = -1;
    for (int64_t rows = p->height; rows < out + p->height; rows += p->height) {
        if (rows > p->height && window_bytes(conv, rows) > room) break;
        for (int64_t n = 1; n <= kiln_min_i64(strips, MOST_FEATURE_BLOCKS); n++) {
            int64_t features = kiln_ceil_div(strips, n) * width;
            double all = block_cycles(p, cycles, rows, features);
            if (best >= 0 && all >= best) continue;
            best = all;
            p->block_rows = rows;
            p->block_features = features;
        }
    }
    return best;
}

/* Rows, width and vectors of a register tile, and the blocks that go with them, for the least
 * time. */
static void choose_tile(product *p)
{
    const kiln_conv *conv = p->conv;
    const kiln_machine *machine = conv->lower->machine;
    uint32_t unit = conv->lanes < KILN_PANEL ? KILN_PANEL / conv->lanes : 1;
    double threads = kiln_max_i64(1, conv->lower->schedule->n_threads), best = -1;
    double images = (double)(conv->batch * conv->axis[KILN_CONV_D].out * conv->groups);
    for (uint32_t vectors = unit; vectors <= KILN_TILE_VECTORS; vectors += unit) {
        if (vectors > unit && !has_room_for_strips(p, (int64_t)vectors * conv->lanes)) break;
        for (uint32_t rows = 1; rows <= KILN_TILE_ROWS; rows++) {
            bool fits = rows * vectors + vectors + 1 <= machine->n_vector_registers ||
                        (rows <= 2 && vectors == unit);
            if (!fits || rows * vectors > KILN_TILE_SUMS) continue;
            product it = *p;
            it.vectors = vectors;
            choose_pixels(p, rows, &it.width, &it.height);
            double cycles = strip_cycles(p, it.width, it.height, vectors);
            bool is_worse = best >= 0 && cycles * (p->is_band ? 1 : images / threads) >= best;
            if (is_worse) continue; /* however it is cut */
            if (!p->is_band) cycles = choose_blocks(&it, cycles);
            if (best >= 0 && cycles >= best) continue;
            best = cycles;
            *p = it;
        }
    }
}

/* Where the kernel stands: in panels, or dense with features innermost and one distance between
 * k. */
static void find_kernel(product *p)
{
    kiln_conv *conv = p->conv;
    kiln_lower *lower = conv->lower;
    kiln_value value = conv->node->inputs[1];
    kiln_strided strided;
    for (uint32_t i = 0; i < lower->group->n_inputs; i++) {
        const kiln_operand *operand = &lower->group->inputs[i];
        if (operand->value.id != value.id || operand->format != KILN_FORMAT_PANEL16) continue;
        p->is_packed = true;
        p->kernel = (kiln_tile_source){lower->buffer_of[i], conv->kernel->dtype};
        return;
    }
    bool is_right = kiln_lower_strided(lower, value, &strided);
    int64_t expected = is_right ? strided.strides[conv->kernel_axes.at[1]] : 0;
    p->kernel_step = expected;
    expected *= conv->in_features;
    for (uint32_t i = conv->n_spatial + 2; is_right && i-- > 2;) {
        int64_t axis = conv->kernel_axes.at[i];
        is_right = conv->kernel->dims[axis] == 1 || strided.strides[axis] == expected;
        expected *= conv->kernel->dims[axis];
    }
    is_right = is_right && strided.strides[conv->kernel_axes.at[0]] == 1;
    if (!is_right)
        kiln_fail(lower->scope, KILN_INTERNAL,
                  "group %s: the kernel is neither packed nor dense with output features innermost",
                  lower->group->label);
    p->kernel = (kiln_tile_source){lower->buffer_of[strided.input], conv->kernel->dtype};
    p->kernel_origin = strided.origin;
}

/* Operands, the register tile and, but for a band, the blocks. */
static void open_product(product *p)
{
    const kiln_conv_axis *axis = p->conv->axis;
    p->k_size = axis[KILN_CONV_D].kernel * axis[KILN_CONV_H].kernel * axis[KILN_CONV_W].kernel *
                p->conv->in_features;
    find_kernel(p);
    choose_tile(p);
}

/* A 1 x 1 kernel without padding reads rows where they stand, when features lie together. */
static bool find_rows(product *p)
{
    kiln_conv *conv = p->conv;
    kiln_lower *lower = conv->lower;
    kiln_strided strided;
    if (conv->n_spatial != 2 || conv->groups > 1) return false;
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) {
        const kiln_conv_axis *axis = &conv->axis[i];
        if (axis->kernel != 1 || axis->low != 0 || axis->lhs_dilation != 1) return false;
        if ((axis->out - 1) * axis->stride >= axis->in) return false;
    }
    if (conv->input->dtype != conv->dtype) return false;
    if (!kiln_lower_strided(lower, conv->node->inputs[0], &strided)) return false;
    if (strided.strides[conv->input_axes.at[1]] != 1) return false;
    p->is_in_place = true;
    p->ring = lower->ring_of ? lower->ring_of[strided.input].rows : 0;
    p->image_stride = strided.strides[conv->input_axes.at[0]];
    p->row_stride = strided.strides[conv->input_axes.at[2]] * conv->axis[KILN_CONV_H].stride;
    p->origin = strided.origin;
    conv->local = lower->buffer_of[strided.input];
    conv->pitch = strided.strides[conv->input_axes.at[3]] * conv->axis[KILN_CONV_W].stride;
    conv->row_pitch = p->row_stride;
    return true;
}

static bool is_row_joined(const kiln_conv *conv)
{
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_W];
    return axis->kernel == 1 || (axis->rhs_dilation == 1 && conv->pitch == conv->in_features);
}

static void lower_product(kiln_conv *conv)
{
    const kiln_conv_axis *axis = conv->axis;
    product p = {.conv = conv};
    find_rows(&p);
    open_product(&p);
    p.n_row_blocks = kiln_ceil_div(axis[KILN_CONV_H].out, p.block_rows);
    p.n_feature_blocks = kiln_ceil_div(conv->out_features, p.block_features);
    conv->block_rows = p.block_rows;
    if (!p.is_in_place) kiln_conv_add_local(conv, p.block_rows, conv->in_features);
    p.is_row_joined = is_row_joined(conv);
    int64_t sizes[] = {conv->batch, axis[KILN_CONV_D].out, p.n_row_blocks, conv->groups,
                       p.n_feature_blocks};
    kiln_conv_lower_tiles(conv, (kiln_ints){5, sizes}, emit_tile, &p);
}

/* A few rows of the result; the kernel's features strip by strip. */
static void emit_some_rows(void *user, kiln_kv image, kiln_kv begin, kiln_kv end)
{
    product *p = user;
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t width = (int64_t)p->vectors * conv->lanes, features = conv->out_features;
    kiln_kv zero = kiln_k_const_i64(k, 0), whole = kiln_k_const_i64(k, features / width * width);
    conv->image = image;
    conv->depth = conv->feature = p->group = zero;
    p->block_row = conv->first_row = begin;
    p->row_end = end;
    if (!p->is_in_place) kiln_conv_copy(conv);
    pixel_tile shape = {.width = p->width, .vectors = p->vectors, .last = conv->lanes};
    if (features >= width) emit_features(p, shape, zero, whole);
    if (features % width == 0) return;
    shape.vectors = (uint32_t)kiln_ceil_div(features % width, conv->lanes);
    shape.last = (uint32_t)((features - 1) % conv->lanes + 1);
    emit_features(p, shape, whole, kiln_k_const_i64(k, features));
}

kiln_row_maker kiln_conv_row_maker(kiln_lower *lower, int64_t most)
{
    kiln_conv *conv = kiln_new(&lower->scope->arena, kiln_conv);
    kiln_conv_describe(lower, conv);
    if (conv->groups > 1) return kiln_conv_direct_row_maker(conv);
    product *p = kiln_new(&lower->scope->arena, product);
    p->conv = conv;
    p->is_band = true;
    open_product(p);
    if (!find_rows(p)) kiln_conv_add_local(conv, most, conv->in_features);
    p->is_row_joined = is_row_joined(conv);
    kiln_conv_open_epilogue(conv);
    return (kiln_row_maker){emit_some_rows, p};
}

/* The roles of a 1 x 1 convolution as a product: batch and space are rows. */
static bool is_plain_product(const kiln_conv *conv)
{
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) {
        const kiln_conv_axis *axis = &conv->axis[i];
        if (axis->kernel != 1 || axis->stride != 1 || axis->low != 0 || axis->lhs_dilation != 1)
            return false;
        if (axis->in != axis->out) return false;
    }
    return conv->groups == 1;
}

static kiln_ints axes_but(kiln_arena *arena, kiln_ints axes, uint32_t skipped)
{
    int64_t *list = kiln_new_array(arena, int64_t, axes.n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < axes.n; i++)
        if (i != skipped) list[n++] = axes.at[i];
    return (kiln_ints){n, list};
}

static void lower_plain_product(kiln_conv *conv)
{
    kiln_arena *arena = &conv->lower->scope->arena;
    const kiln_attrs *attrs = conv->node->attrs;
    kiln_matmul_roles roles = {
        .batch_size = 1, .n_size = conv->out_features, .k_size = conv->in_features};
    roles.m = axes_but(arena, attrs->conv.output_axes, 1);
    roles.n = (kiln_ints){1, attrs->conv.output_axes.at + 1};
    roles.a_m = axes_but(arena, attrs->conv.input_axes, 1);
    roles.a_k = roles.k = (kiln_ints){1, attrs->conv.input_axes.at + 1};
    roles.b_k = (kiln_ints){1, attrs->conv.kernel_axes.at + 1};
    roles.b_n = (kiln_ints){1, attrs->conv.kernel_axes.at};
    roles.m_size = conv->batch;
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) roles.m_size *= conv->axis[i].out;
    if (kiln_amx_input(conv->lower) != KILN_NONE)
        kiln_lower_amx(conv->lower, &roles, conv->dtype);
    else
        kiln_dot_lower_roles(conv->lower, &roles, conv->dtype);
}

void kiln_lower_conv(kiln_lower *lower)
{
    kiln_conv conv;
    kiln_conv_describe(lower, &conv);
    kiln_kernel *k = lower->kernel;
    if (conv.node->type->n_elements == 0) {
        kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
        kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
        kiln_k_end(k);
    } else if (kiln_conv_lower_winograd(&conv)) {
        return;
    } else if (conv.groups > 1 && conv.in_features == 1) {
        kiln_conv_lower_depthwise(&conv);
    } else if (is_plain_product(&conv)) {
        lower_plain_product(&conv);
    } else if (kiln_amx_input(lower) != KILN_NONE) {
        kiln_lower_amx_conv(&conv);
    } else {
        lower_product(&conv);
    }
}
