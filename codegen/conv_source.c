/* The copy of a convolution's input window. Positions run over the padded, dilated input; those
 * that fall on an element are copied, the others keep the zeros written before. */
#include "codegen/lower_conv.h"

#include "base/checked.h"
#include "codegen/math.h"

#define MOST_PLANES 4
#define SLACK 64 /* elements after the local: zeros are written in whole vectors */

static bool is_compact(const kiln_conv_axis *axis)
{
    return axis->kernel == 1 && axis->lhs_dilation == 1;
}

int64_t kiln_conv_axis_local(const kiln_conv_axis *axis, int64_t n)
{
    if (is_compact(axis)) return n;
    return (n - 1) * axis->stride + (axis->kernel - 1) * axis->rhs_dilation + 1;
}

static void set_axis(kiln_conv *conv, uint32_t which, uint32_t spatial)
{
    const kiln_type *result = conv->node->type;
    kiln_conv_axis *axis = &conv->axis[which];
    const kiln_attrs *attrs = conv->node->attrs;
    axis->in = conv->input->dims[conv->input_axes.at[spatial + 2]];
    axis->out = result->dims[conv->output_axes.at[spatial + 2]];
    axis->kernel = conv->kernel->dims[conv->kernel_axes.at[spatial + 2]];
    axis->stride = attrs->conv.strides.at[spatial];
    axis->low = attrs->conv.low.at[spatial];
    axis->lhs_dilation = attrs->conv.lhs_dilation.at[spatial];
    axis->rhs_dilation = attrs->conv.rhs_dilation.at[spatial];
    axis->step = is_compact(axis) ? axis->stride : 1;
    axis->local_stride = is_compact(axis) ? 1 : axis->stride;
}

void kiln_conv_describe(kiln_lower *lower, kiln_value anchor, kiln_conv *out_conv)
{
    const kiln_node *node = kiln_graph_node(lower->graph, anchor);
    kiln_conv conv = {.lower = lower, .node = node};
    conv.input = kiln_graph_type(lower->graph, node->inputs[0]);
    conv.kernel = kiln_graph_type(lower->graph, node->inputs[1]);
    conv.input_axes = node->attrs->conv.input_axes;
    conv.kernel_axes = node->attrs->conv.kernel_axes;
    conv.output_axes = node->attrs->conv.output_axes;
    conv.n_spatial = conv.input->rank - 2;
    if (conv.n_spatial > KILN_CONV_AXES)
        kiln_fail(lower->scope, KILN_UNSUPPORTED,
                  "%s: convolution over %u spatial dims; expected at most 3",
                  kiln_node_string(&lower->scope->arena, lower->graph, anchor), conv.n_spatial);
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++)
        conv.axis[i] = (kiln_conv_axis){.in = 1,
                                        .out = 1,
                                        .kernel = 1,
                                        .stride = 1,
                                        .lhs_dilation = 1,
                                        .rhs_dilation = 1,
                                        .step = 1,
                                        .local_stride = 1};
    for (uint32_t i = 0; i < conv.n_spatial; i++)
        set_axis(&conv, KILN_CONV_AXES - conv.n_spatial + i, i);
    conv.groups = node->attrs->conv.groups;
    conv.batch = conv.input->dims[conv.input_axes.at[0]];
    conv.in_features = conv.input->dims[conv.input_axes.at[1]] / conv.groups;
    conv.out_features = node->type->dims[conv.output_axes.at[1]] / conv.groups;
    conv.dtype = kiln_compute_dtype(node->attrs->conv.accumulate);
    conv.lanes = kiln_machine_lanes(lower->machine, conv.dtype);
    if (conv.lanes > KILN_PANEL) conv.lanes = KILN_PANEL;
    lower->lanes = conv.lanes;
    *out_conv = conv;
}

void kiln_conv_add_local(kiln_conv *conv, int64_t rows, int64_t n_features)
{
    int64_t bytes = n_features * (int64_t)kiln_dtype_bytes(conv->dtype);
    conv->n_features = n_features;
    conv->pitch =
        bytes % 4096 == 0 ? n_features + KILN_PANEL : n_features; /* not all in one cache set */
    conv->local_width = kiln_conv_axis_local(&conv->axis[KILN_CONV_W], conv->axis[KILN_CONV_W].out);
    conv->block_rows = rows;
    conv->local_rows = kiln_conv_axis_local(&conv->axis[KILN_CONV_H], rows);
    int64_t n,
        dims[] = {conv->axis[KILN_CONV_D].kernel, conv->local_rows, conv->local_width, conv->pitch};
    if (!kiln_checked_product(dims, 4, &n))
        kiln_fail(conv->lower->scope, KILN_LIMIT, "group %s: the window of one row overflows",
                  conv->lower->group->label);
    conv->row_pitch = conv->local_width * conv->pitch;
    conv->slice = conv->local_rows * conv->row_pitch;
    conv->local = kiln_kernel_add_local(conv->lower->kernel, conv->dtype, n + SLACK);
}

/* A stretch of positions: number t in begin … end is local element t * local_scale + local_first
 * and input element t * input_scale + input_first. */
typedef struct stretch {
    kiln_kv begin, end, local_first, input_first;
    int64_t local_scale, input_scale;
} stretch;

static kiln_kv at_least_zero(kiln_kernel *k, kiln_kv a)
{
    return kiln_k_max(k, a, kiln_k_const_i64(k, 0));
}

/* Of the `n` local elements from padded position `first` on, those that are input elements. */
static stretch find_stretch(kiln_conv *conv, const kiln_conv_axis *axis, kiln_kv first, int64_t n)
{
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    kiln_kv before = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, axis->low), first);
    kiln_kv start = kiln_k_add_imm(k, first, -axis->low); /* input position of local element 0 */
    int64_t unit = axis->lhs_dilation > 1 ? axis->lhs_dilation : axis->step;
    if (axis->lhs_dilation > 1) {
        stretch s = {
            .local_first = before, .local_scale = unit, .input_first = zero, .input_scale = 1};
        s.begin = kiln_k_div_imm(k, kiln_k_add_imm(k, at_least_zero(k, start), unit - 1), unit);
        s.end = kiln_k_div_imm(k, at_least_zero(k, kiln_k_add_imm(k, start, n - 1 + unit)), unit);
        s.end = kiln_k_min(k, s.end, kiln_k_const_i64(k, axis->in));
        return s;
    }
    stretch s = {.local_first = zero, .local_scale = 1, .input_first = start, .input_scale = unit};
    s.begin = kiln_k_div_imm(k, kiln_k_add_imm(k, at_least_zero(k, before), unit - 1), unit);
    kiln_kv last = kiln_k_add_imm(k, before, axis->in - 1 + unit);
    s.end = kiln_k_div_imm(k, at_least_zero(k, last), unit);
    s.end = kiln_k_min(k, s.end, kiln_k_const_i64(k, n));
    return s;
}

static kiln_kv place_at(kiln_kernel *k, kiln_kv number, int64_t scale, kiln_kv first)
{
    return kiln_k_binary(k, KILN_K_add, kiln_k_mul_imm(k, number, scale), first);
}

static bool has_zeros(const kiln_conv *conv)
{
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) {
        const kiln_conv_axis *axis = &conv->axis[i];
        int64_t last =
            (axis->out - 1) * axis->stride + (axis->kernel - 1) * axis->rhs_dilation - axis->low;
        if (axis->low > 0 || axis->lhs_dilation > 1 || last > axis->in - 1) return true;
    }
    return conv->axis[KILN_CONV_H].out % conv->block_rows !=
           0; /* rows past the last are read too */
}

static void write_zeros(kiln_conv *conv)
{
    kiln_kernel *k = conv->lower->kernel;
    int64_t n = conv->axis[KILN_CONV_D].kernel * conv->slice;
    kiln_kv zero = kiln_k_const_bits(k, conv->dtype, conv->lanes, 0);
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, n);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, conv->lanes);
    kiln_k_store(k, conv->local, at, zero, 0, KILN_MEM_ALIGNED);
    kiln_k_end(k);
}

/* Where the copy stands: input positions of depth and row, and the local's element there. */
typedef struct copy_place {
    kiln_kv depth, row, local;
} copy_place;

static kiln_index input_index(kiln_conv *conv, const copy_place *place)
{
    kiln_index index = {.rank = conv->input->rank};
    kiln_kv positions[] = {place->depth, place->row, 0};
    index.axis[conv->input_axes.at[0]] = kiln_axis_scalar(conv->image, 1);
    for (uint32_t i = 0; i < conv->n_spatial; i++) {
        uint32_t which = KILN_CONV_AXES - conv->n_spatial + i;
        if (positions[which])
            index.axis[conv->input_axes.at[i + 2]] = kiln_axis_scalar(positions[which], 1);
    }
    return index;
}

static void copy_vector(kiln_conv *conv, const kiln_index *index, kiln_kv to, kiln_kv mask)
{
    kiln_lower *lower = conv->lower;
    lower->lanes = conv->lanes;
    lower->mask = mask;
    kiln_kv value = kiln_lower_value(lower, conv->node->inputs[0], index);
    value = kiln_k_convert(lower->kernel, value, conv->dtype);
    kiln_k_store(lower->kernel, conv->local, to, value, mask, 0);
    lower->mask = 0;
}

/* Vectors over elements 0 … n - 1, by a loop and a tail, or in short code by a loop whose last one
 * begins earlier; `emit` makes one. */
typedef void vector_fn(kiln_conv *conv, const copy_place *place, kiln_kv at, kiln_kv mask);

static void over_vectors(kiln_conv *conv, const copy_place *place, int64_t n, vector_fn *emit)
{
    kiln_kernel *k = conv->lower->kernel;
    int64_t whole = n / conv->lanes * conv->lanes, last = n - conv->lanes;
    if (conv->lower->is_short && last > 0) whole = n;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    if (whole > 0) {
        kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, conv->lanes);
        uint32_t mark = kiln_lower_mark(conv->lower);
        if (whole % conv->lanes) at = kiln_k_min(k, at, kiln_k_const_i64(k, last));
        emit(conv, place, at, 0);
        kiln_lower_cut(conv->lower, mark);
        kiln_k_end(k);
    }
    if (whole == n) return;
    emit(conv, place, end, kiln_k_active(k, conv->lanes, kiln_k_const_i64(k, n - whole)));
}

/* The input columns that the local's row holds, as constants: the first, and how many. */
static void row_columns(const kiln_conv *conv, int64_t *out_first, int64_t *out_n)
{
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_W];
    int64_t first = kiln_max_i64(0, -axis->low);
    int64_t end = kiln_min_i64(axis->in, conv->local_width - axis->low);
    *out_first = first;
    *out_n = kiln_max_i64(0, end - first);
}

/* Elements of a row: columns and features as one axis. */
static void copy_row_vector(kiln_conv *conv, const copy_place *place, kiln_kv at, kiln_kv mask)
{
    kiln_lower *lower = conv->lower;
    int64_t first, n;
    row_columns(conv, &first, &n);
    kiln_axis_index linear =
        kiln_axis_vector(kiln_k_add_imm(lower->kernel, at, first * conv->n_features), 1);
    kiln_axis_index digits[2];
    int64_t dims[] = {conv->axis[KILN_CONV_W].in, conv->n_features};
    linear.extent = dims[0] * dims[1];
    kiln_index index = input_index(conv, place);
    kiln_lower_delinearize(lower, linear, 2, dims, digits);
    if (conv->n_spatial > 0) index.axis[conv->input_axes.at[conv->n_spatial + 1]] = digits[0];
    index.axis[conv->input_axes.at[1]] = digits[1];
    copy_vector(conv, &index, kiln_k_binary(lower->kernel, KILN_K_add, place->local, at), mask);
}

/* Images in planes: few features, each with its columns side by side. */
static bool has_planes(const kiln_conv *conv)
{
    kiln_strided strided;
    if (conv->n_spatial == 0 || conv->n_features < 2 || conv->n_features > MOST_PLANES)
        return false;
    if (!kiln_lower_strided(conv->lower, conv->node->inputs[0], &strided)) return false;
    int64_t columns = conv->input_axes.at[conv->n_spatial + 1];
    return strided.strides[columns] == 1 && strided.strides[conv->input_axes.at[1]] != 1;
}

/* The vector of elements `first` … of one row of pixels, element i being feature i mod n of column
 * i / n. */
static kiln_kv weave(kiln_kernel *k, const kiln_kv *planes, uint32_t n, uint32_t first)
{
    uint32_t lanes = kiln_kernel_at(k, planes[0])->lanes;
    kiln_kv woven = planes[0];
    for (uint32_t f = 1; f < n; f++) {
        int64_t from[KILN_K_MAX_LANES];
        for (uint32_t i = 0; i < lanes; i++) {
            uint32_t column = (first + i) / n, feature = (first + i) % n;
            from[i] = f == 1 ? column : i;
            if (feature == f) from[i] = lanes + column;
        }
        woven = kiln_k_shuffle(k, woven, planes[f], lanes, from);
    }
    return woven;
}

/* Columns `at` … of a row, `n` of them and at most as many as there are lanes: a load a plane. */
static void copy_planes(kiln_conv *conv, const copy_place *place, kiln_kv at, int64_t n)
{
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    uint32_t n_planes = (uint32_t)conv->n_features, lanes = conv->lanes;
    int64_t first, all;
    kiln_kv planes[MOST_PLANES];
    row_columns(conv, &first, &all);
    kiln_index index = input_index(conv, place);
    kiln_axis_index columns = kiln_axis_vector(kiln_k_add_imm(k, at, first), 1);
    index.axis[conv->input_axes.at[conv->n_spatial + 1]] = columns;
    lower->lanes = lanes;
    lower->mask = n < lanes ? kiln_k_active(k, lanes, kiln_k_const_i64(k, n)) : 0;
    for (uint32_t f = 0; f < n_planes; f++) {
        index.axis[conv->input_axes.at[1]] = kiln_axis_scalar(kiln_k_const_i64(k, f), 1);
        kiln_kv value = kiln_lower_value(lower, conv->node->inputs[0], &index);
        planes[f] = kiln_k_convert(k, value, conv->dtype);
    }
    lower->mask = 0;
    kiln_kv to = place_at(k, at, n_planes, place->local);
    for (uint32_t i = 0; i < n_planes && i * lanes < n * n_planes; i++) {
        int64_t rest = n * n_planes - i * lanes;
        kiln_kv mask = rest < lanes ? kiln_k_active(k, lanes, kiln_k_const_i64(k, rest)) : 0;
        kiln_k_store(k, conv->local, kiln_k_add_imm(k, to, i * lanes),
                     weave(k, planes, n_planes, i * lanes), mask, 0);
    }
}

static void copy_row_of_planes(kiln_conv *conv, const copy_place *place, int64_t n)
{
    kiln_kernel *k = conv->lower->kernel;
    int64_t whole = n / conv->lanes * conv->lanes;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, conv->lanes);
    uint32_t mark = kiln_lower_mark(conv->lower);
    copy_planes(conv, place, at, conv->lanes);
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
    if (whole < n) copy_planes(conv, place, end, n - whole);
}

/* Features of one pixel, whose column is place->row of a place made for it. */
typedef struct pixel_place {
    copy_place place;
    kiln_kv column;
} pixel_place;

static void copy_pixel_vector(kiln_conv *conv, const copy_place *place, kiln_kv at, kiln_kv mask)
{
    const pixel_place *pixel = (const pixel_place *)place;
    kiln_kernel *k = conv->lower->kernel;
    kiln_index index = input_index(conv, place);
    if (conv->n_spatial > 0)
        index.axis[conv->input_axes.at[conv->n_spatial + 1]] = kiln_axis_scalar(pixel->column, 1);
    kiln_kv feature = kiln_k_binary(k, KILN_K_add, conv->feature, at);
    kiln_axis_index features = kiln_axis_vector(feature, 1);
    if (conv->feature_divide > 1) {
        features.divide = conv->feature_divide;
        features.extent = conv->feature_divide * conv->input->dims[conv->input_axes.at[1]];
    }
    index.axis[conv->input_axes.at[1]] = features;
    copy_vector(conv, &index, kiln_k_binary(k, KILN_K_add, place->local, at), mask);
}

static void copy_pixels(kiln_conv *conv, const copy_place *place)
{
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv first = kiln_k_const_i64(k, 0);
    stretch s = find_stretch(conv, &conv->axis[KILN_CONV_W], first, conv->local_width);
    kiln_kv t = kiln_k_loop(k, KILN_LOOP_SERIAL, s.begin, s.end, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    pixel_place pixel = {.place = *place};
    kiln_kv local = place_at(k, t, s.local_scale, s.local_first);
    pixel.place.local = place_at(k, local, conv->pitch, place->local);
    pixel.column = place_at(k, t, s.input_scale, s.input_first);
    over_vectors(conv, &pixel.place, conv->n_features, copy_pixel_vector);
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

static void copy_row(kiln_conv *conv, const copy_place *place)
{
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_W];
    bool is_whole =
        conv->n_features == conv->input->dims[conv->input_axes.at[1]] && conv->feature_divide <= 1;
    bool is_merged =
        is_whole && conv->pitch == conv->n_features && axis->lhs_dilation == 1 && axis->step == 1;
    if (!is_merged) {
        copy_pixels(conv, place);
        return;
    }
    int64_t first, n;
    row_columns(conv, &first, &n);
    copy_place moved = *place;
    int64_t skipped = (first + axis->low) * conv->pitch;
    moved.local = kiln_k_add_imm(conv->lower->kernel, place->local, skipped);
    if (has_planes(conv))
        copy_row_of_planes(conv, &moved, n);
    else
        over_vectors(conv, &moved, n * conv->n_features, copy_row_vector);
}

static void copy_rows(kiln_conv *conv, const copy_place *slice)
{
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_H];
    kiln_kv first = kiln_k_mul_imm(k, conv->first_row, axis->stride);
    stretch s = find_stretch(conv, axis, first, conv->local_rows);
    kiln_kv t = kiln_k_loop(k, KILN_LOOP_SERIAL, s.begin, s.end, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    copy_place place = *slice;
    kiln_kv local = place_at(k, t, s.local_scale, s.local_first);
    place.row = place_at(k, t, s.input_scale, s.input_first);
    place.local = place_at(k, local, conv->row_pitch, slice->local);
    copy_row(conv, &place);
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

void kiln_conv_copy(kiln_conv *conv)
{
    kiln_kernel *k = conv->lower->kernel;
    const kiln_conv_axis *axis = &conv->axis[KILN_CONV_D];
    if (has_zeros(conv)) write_zeros(conv);
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, axis->kernel);
    if (conv->lower->is_short && conv->n_spatial < KILN_CONV_AXES) {
        copy_rows(conv, &(copy_place){.depth = zero, .local = zero});
        return;
    }
    kiln_kv tap = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    kiln_kv first = kiln_k_mul_imm(k, conv->depth, axis->stride);
    first = place_at(k, tap, axis->rhs_dilation, first);
    stretch s = find_stretch(conv, axis, first, 1);
    kiln_kv t =
        kiln_k_loop(k, KILN_LOOP_SERIAL, s.begin, s.end, 1); /* one trip, or none in the padding */
    uint32_t inner = kiln_lower_mark(conv->lower);
    copy_place slice = {.local = kiln_k_mul_imm(k, tap, conv->slice)};
    slice.depth = place_at(k, t, s.input_scale, s.input_first);
    copy_rows(conv, &slice);
    kiln_lower_cut(conv->lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}

void kiln_conv_result_index(void *user, kiln_kv row, kiln_axis_index column, kiln_index *out_index)
{
    kiln_conv *conv = user;
    kiln_lower *lower = conv->lower;
    kiln_kv down = kiln_lower_op_imm(lower, KILN_K_div, row, conv->tile_width);
    kiln_kv right = kiln_lower_op_imm(lower, KILN_K_rem, row, conv->tile_width);
    kiln_kv positions[KILN_CONV_AXES] = {conv->depth};
    positions[KILN_CONV_H] = kiln_lower_op(lower, KILN_K_add, conv->row, down);
    positions[KILN_CONV_W] = kiln_lower_op(lower, KILN_K_add, conv->column, right);
    out_index->rank = conv->n_spatial + 2;
    out_index->axis[conv->output_axes.at[0]] = kiln_axis_scalar(conv->image, 1);
    out_index->axis[conv->output_axes.at[1]] = column; /* counts over all groups */
    for (uint32_t i = 0; i < conv->n_spatial; i++)
        out_index->axis[conv->output_axes.at[i + 2]] =
            kiln_axis_scalar(positions[KILN_CONV_AXES - conv->n_spatial + i], 1);
}

void kiln_conv_open_epilogue(kiln_conv *conv)
{
    conv->epilogue = kiln_epilogue_create(conv->lower, conv->lower->group->anchor, conv->dtype);
    conv->epilogue.index = kiln_conv_result_index;
    conv->epilogue.user = conv;
}

void kiln_conv_lower_tiles(kiln_conv *conv, kiln_ints sizes,
                           void (*emit)(void *user, kiln_kv number), void *user)
{
    kiln_lower *lower = conv->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n;
    if (!kiln_checked_product(sizes.at, sizes.n, &n) || n > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: more than 2^32 - 1 tiles; expected fewer",
                  lower->group->label);
    k->n_tiles = (uint32_t)n;
    kiln_conv_open_epilogue(conv);
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit(user, number);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
