/* Convolution groups as implicit products: [image, depth, block of output rows, group, block of
 * output features] tiles. A tile copies its input window, then register tiles of pixels x features
 * accumulate over the taps. A 1 x 1 kernel with stride 1 and no padding is a plain product over all
 * pixels, and goes the way of the dots. */
#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/conv_product.h"
#include "codegen/lower_dot.h"
#include "codegen/math.h"
#include "codegen/winograd.h"
#include "kiln/program.h"
#include "passes/brief_conv.h"

/* A register tile: height x width pixels, `vectors` of features, `last` lanes in the last one. */
typedef struct pixel_tile {
    int64_t height, width;
    uint32_t vectors, last;
    kiln_kv feature; /* within the group */
} pixel_tile;

static kiln_tile make_tile(const kiln_conv_product *p, const pixel_tile *shape)
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
    tile.unroll = p->is_brief ? 1 : 0;
    tile.b_is_near = p->is_brief;
    for (uint32_t v = 0; v < tile.vectors; v++) tile.b_vector[v] = (int64_t)v * tile.lanes;
    if (shape->last < tile.lanes)
        tile.b_mask = kiln_k_active(k, tile.lanes, kiln_k_const_i64(k, shape->last));
    return tile;
}

/* The kernel's element for k = 0 and the tile's first feature. */
static kiln_kv kernel_offset(const kiln_conv_product *p, kiln_kv feature)
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

static void accumulate_taps(const kiln_conv_product *p, kiln_tile *tile, kiln_kv a, kiln_kv b)
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
        int64_t far_row = width * features / 4 * KILN_PANEL;
        if (!tile->far_stream) far_row *= tile->far_lines;
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

static int64_t count_pixel_tiles(const kiln_conv_product *p)
{
    const kiln_conv *conv = p->conv;
    return kiln_ceil_div(conv->block_rows, p->height) *
           kiln_ceil_div(conv->axis[KILN_CONV_W].out, p->width);
}

/* k is one run for the requests of a tile; a band's kernels are small. */
static bool may_fetch(const kiln_conv_product *p)
{
    return p->is_packed && p->is_row_joined && !p->is_band &&
           p->conv->axis[KILN_CONV_D].kernel == 1;
}

/* Lets the tile fetch its share of the next strip of features where the kernel does not stay in the
 * second cache, or of what the next contraction begins with. */
static void fetch_next(const kiln_conv_product *p, kiln_tile *tile, const pixel_tile *shape,
                       kiln_kv row, kiln_kv column)
{
    const kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t strip = (int64_t)p->vectors * conv->lanes;
    int64_t bytes = p->k_size * conv->out_features * (int64_t)kiln_dtype_bytes(conv->dtype);
    if (!may_fetch(p)) return;
    kiln_kv down = kiln_k_div_imm(k, kiln_k_binary(k, KILN_K_sub, row, p->block_row), p->height);
    kiln_kv right = kiln_k_div_imm(k, column, p->width);
    kiln_kv number = step_by(k, right, down, kiln_ceil_div(conv->axis[KILN_CONV_W].out, p->width));
    if (p->ahead.is_at_work) {
        kiln_ahead_fetch(&p->ahead, tile, number, count_pixel_tiles(p), p->k_size);
        return;
    }
    if (bytes <= conv->lower->machine->l2_bytes / 2) return;
    kiln_tile_next next = {.buffer = p->kernel.buffer,
                           .number = number,
                           .n_tiles = count_pixel_tiles(p),
                           .steps = p->k_size,
                           .n_panels = kiln_tile_panels(tile),
                           .size = p->k_size,
                           .panel = p->k_size * KILN_PANEL};
    kiln_kv feature = kiln_k_add_imm(k, shape->feature, strip);
    kiln_kv is_over = kiln_k_binary(k, KILN_K_le, p->features_end, feature);
    next.from = kiln_k_select(k, is_over, p->next_kernel, kernel_offset(p, feature));
    kiln_tile_fetch(tile, &next);
}

/* The element of A for column 0 of a row of the output. */
static kiln_kv row_of_a(const kiln_conv_product *p, kiln_kv row)
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
static void emit_register_tile(kiln_conv_product *p, const pixel_tile *shape, kiln_kv row,
                               kiln_kv column)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_tile tile = make_tile(p, shape);
    kiln_kv a = row_of_a(p, row);
    a = step_by(k, a, column, conv->axis[KILN_CONV_W].local_stride * conv->pitch);
    kiln_tile_zero(&tile);
    fetch_next(p, &tile, shape, row, column);
    conv->row = row;
    conv->column = column;
    conv->tile_width = shape->width;
    kiln_kv feature = kiln_k_binary(k, KILN_K_add, shape->feature,
                                    kiln_k_mul_imm(k, p->group, conv->out_features));
    kiln_axis_index features = kiln_axis_vector(feature, 1);
    features.extent = conv->out_features * conv->groups;
    bool is_run = shape->height == 1 || shape->width == conv->axis[KILN_CONV_W].out;
    if (is_run && !p->is_brief)
        kiln_epilogue_follow(&conv->epilogue, &tile, kiln_k_const_i64(k, 0), features);
    accumulate_taps(p, &tile, a, kernel_offset(p, shape->feature));
    kiln_epilogue_emit(&conv->epilogue, &tile, kiln_k_const_i64(k, 0), features, shape->last);
}

/* All columns of output rows first … end in steps of the full height. */
static void emit_rows(kiln_conv_product *p, pixel_tile shape, kiln_kv first, kiln_kv end)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_W].out, whole = out / shape.width * shape.width;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, p->height);
    uint32_t mark = kiln_lower_mark(conv->lower);
    if (p->is_brief) whole = out;
    kiln_kv begin = kiln_k_const_i64(k, 0), stop = kiln_k_const_i64(k, whole);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, stop, shape.width);
    uint32_t inner = kiln_lower_mark(conv->lower);
    if (out % shape.width && p->is_brief)
        column = kiln_k_min(k, column, kiln_k_const_i64(k, out - shape.width));
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
static void emit_features(kiln_conv_product *p, pixel_tile shape, kiln_kv first, kiln_kv end)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    int64_t out = conv->axis[KILN_CONV_H].out, whole = out / p->height * p->height;
    kiln_kv row_end = p->row_end;
    if (!row_end) row_end = kiln_k_add_imm(k, p->block_row, conv->block_rows);
    row_end = kiln_k_min(k, row_end, kiln_k_const_i64(k, out));
    kiln_kv split = kiln_k_const_i64(k, whole);
    int64_t width = (int64_t)p->vectors * conv->lanes, features = conv->out_features;
    shape.feature = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, width);
    uint32_t mark = kiln_lower_mark(conv->lower);
    if (p->is_brief && features % width && features > width)
        shape.feature = kiln_k_min(k, shape.feature, kiln_k_const_i64(k, features - width));
    shape.height = p->height;
    emit_rows(p, shape, p->block_row, kiln_k_min(k, row_end, split));
    if (whole < out) {
        shape.height = out - whole;
        emit_rows(p, shape, kiln_k_max(k, p->block_row, split), row_end);
    }
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

/* The same, of which a worker's last ones ask for the next contraction's weights. */
static void emit_strips(kiln_conv_product *p, pixel_tile shape, kiln_kv first, kiln_kv end)
{
    int64_t width = (int64_t)p->vectors * p->conv->lanes;
    kiln_kv last = kiln_ahead_columns(p->conv->lower, &p->ahead, first, end, width);
    emit_features(p, shape, first, last);
    p->ahead.is_at_work = p->ahead.is_planned;
    if (p->ahead.is_at_work) emit_features(p, shape, last, end);
    p->ahead.is_at_work = false;
}

static void begin_requests(kiln_conv_product *p, kiln_kv number)
{
    kiln_conv *conv = p->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv after = kiln_k_add_imm(k, number, 1), group = p->group;
    kiln_kv block = kiln_k_rem_imm(k, after, p->n_feature_blocks);
    p->group = kiln_k_rem_imm(k, kiln_k_div_imm(k, after, p->n_feature_blocks), conv->groups);
    p->next_kernel = kernel_offset(p, kiln_k_mul_imm(k, block, p->block_features));
    p->group = group;
    kiln_ahead_begin(conv->lower, &p->ahead, number);
}

static void emit_tile(void *user, kiln_kv number)
{
    kiln_conv_product *p = user;
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
    p->features_end = end;
    if (p->is_brief && features >= width) {
        emit_features(p, shape, first, end);
        return;
    }
    begin_requests(p, number);
    if (features >= width) emit_strips(p, shape, first, kiln_k_min(k, end, whole));
    if (features % width == 0) return;
    shape.vectors = (uint32_t)kiln_ceil_div(features % width, conv->lanes);
    shape.last = (uint32_t)((features - 1) % conv->lanes + 1);
    emit_features(p, shape, kiln_k_max(k, first, whole), end);
}

/* Where the kernel stands: in panels, or dense with features innermost and one distance between
 * k. */
static void find_kernel(kiln_conv_product *p)
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

static int64_t count_taps(const kiln_conv *conv)
{
    const kiln_conv_axis *axis = conv->axis;
    return axis[KILN_CONV_D].kernel * axis[KILN_CONV_H].kernel * axis[KILN_CONV_W].kernel;
}

/* Whether one register tile serves all pixels and features. */
static bool is_brief(const kiln_conv_product *p)
{
    const kiln_lower *lower = p->conv->lower;
    return !p->is_band && !p->is_packed && kiln_conv_is_repeatable(p->conv) &&
           kiln_conv_choose_form(lower->graph, lower->group->anchor, lower->machine) ==
               KILN_CONV_BY_FEATURES;
}

/* Operands, the register tile and, but for a band, the blocks. */
static void open_product(kiln_conv_product *p)
{
    p->k_size = count_taps(p->conv) * p->conv->in_features;
    find_kernel(p);
    p->is_brief = is_brief(p);
    if (p->is_brief) p->conv->lower->is_short = true;
    kiln_conv_choose_tile(p);
}

/* A 1 x 1 kernel without padding reads rows where they stand, when features lie together. */
static bool find_rows(kiln_conv_product *p)
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
    kiln_conv_product p = {.conv = conv};
    find_rows(&p);
    open_product(&p);
    conv->block_rows = p.block_rows;
    if (!p.is_in_place) kiln_conv_add_local(conv, p.block_rows, conv->in_features);
    p.is_row_joined = is_row_joined(conv);
    if (may_fetch(&p) && conv->dtype == KILN_f32)
        kiln_ahead_plan(conv->lower, p.k_size, count_pixel_tiles(&p), &p.ahead);
    int64_t sizes[] = {conv->batch, axis[KILN_CONV_D].out, p.n_row_blocks, conv->groups,
                       p.n_feature_blocks};
    kiln_conv_lower_tiles(conv, (kiln_ints){5, sizes}, emit_tile, &p);
}

/* A few rows of the result; the kernel's features strip by strip. */
static void emit_some_rows(void *user, kiln_kv image, kiln_kv begin, kiln_kv end)
{
    kiln_conv_product *p = user;
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
    kiln_conv_describe(lower, lower->group->anchor, conv);
    if (conv->groups > 1) return kiln_conv_direct_row_maker(conv);
    kiln_conv_product *p = kiln_new(&lower->scope->arena, kiln_conv_product);
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

static kiln_matmul_roles plain_roles(const kiln_conv *conv)
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
    return roles;
}

static void lower_plain_product(kiln_conv *conv)
{
    kiln_matmul_roles roles = plain_roles(conv);
    if (kiln_amx_input(conv->lower) != KILN_NONE)
        kiln_lower_amx(conv->lower, &roles, conv->dtype);
    else
        kiln_dot_lower_roles(conv->lower, &roles, conv->dtype);
}

bool kiln_conv_first_weights(kiln_lower *lower, kiln_value anchor, kiln_first_weights *out_first)
{
    kiln_conv conv;
    kiln_conv_describe(lower, anchor, &conv);
    if (conv.groups > 1 || conv.node->type->n_elements == 0) return false;
    if (is_plain_product(&conv)) {
        kiln_matmul_roles roles = plain_roles(&conv);
        return kiln_dot_roles_first_weights(lower, &roles, out_first);
    }
    kiln_conv_product p = {.conv = &conv, .k_size = count_taps(&conv) * conv.in_features};
    p.is_in_place = count_taps(&conv) == 1;
    kiln_conv_choose_tile(&p);
    *out_first = (kiln_first_weights){.n_panels = (int64_t)p.vectors * conv.lanes / KILN_PANEL,
                                      .size = p.k_size,
                                      .panel = p.k_size * KILN_PANEL,
                                      .n_tiles = conv.batch * conv.axis[KILN_CONV_D].out *
                                                 p.n_row_blocks * p.n_feature_blocks,
                                      .n_blocks = p.n_feature_blocks,
                                      .block = p.block_features * p.k_size};
    return true;
}

void kiln_lower_conv(kiln_lower *lower)
{
    kiln_conv conv;
    kiln_conv_describe(lower, lower->group->anchor, &conv);
    kiln_kernel *k = lower->kernel;
    if (conv.node->type->n_elements == 0) {
        kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
        kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
        kiln_k_end(k);
    } else if (kiln_conv_lower_brief(&conv) || kiln_conv_lower_winograd(&conv)) {
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
