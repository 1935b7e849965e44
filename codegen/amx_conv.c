/* Convolutions by matrix tiles: products whose rows are output pixels and whose k are taps and
 * features. A work tile copies the windows of its pixels to a local, a row each, zeros for the
 * padding; then it is a product as any other. The features of a kernel row lie together in NHWC, so
 * a window is copied by stretches of width x features elements. What amx_band.c reads without
 * windows is left to it. */
#include "codegen/amx_conv.h"
#include "base/checked.h"
#include "codegen/math.h"

#define UNROLLED 8          /* vectors of a stretch */
#define SAME_SET_BYTES 1024 /* rows at multiples of this are moved apart */

static int64_t stride_of(const kiln_amx_conv *c, uint32_t axis)
{
    const kiln_conv *conv = &c->conv;
    uint32_t first = KILN_CONV_AXES - conv->n_spatial;
    return axis < first ? 0 : c->input.strides[conv->input_axes.at[axis - first + 2]];
}

kiln_kv kiln_amx_is_within(kiln_kernel *k, kiln_kv a, int64_t n)
{
    kiln_kv zero = kiln_k_const_i64(k, 0), one = kiln_k_const_i64(k, 1);
    kiln_kv low = kiln_k_min(k, kiln_k_max(k, kiln_k_add_imm(k, a, 1), zero), one);
    kiln_kv left = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, n), a);
    return kiln_k_binary(k, KILN_K_and, low, kiln_k_min(k, kiln_k_max(k, left, zero), one));
}

/* Element `bound` of a stretch as a number of lanes of its vector `at`: one byte, so that a mask is
 * one comparison. */
static kiln_kv lane_bound(const kiln_amx_conv *c, kiln_kv bound, kiln_kv at)
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), most = kiln_k_const_i64(k, c->lanes);
    bound = kiln_k_binary(k, KILN_K_sub, bound, at);
    bound = kiln_k_min(k, kiln_k_max(k, bound, zero), most);
    return kiln_k_splat(k, kiln_k_convert(k, bound, KILN_i8), c->lanes);
}

/* Vector `at` of a stretch: elements low … high - 1 of it exist, the others are zeros. */
static void copy_vector(kiln_amx_conv *c, kiln_kv from, kiln_kv to, kiln_kv at,
                        const kiln_kv bounds[2])
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv lanes = kiln_k_lanes(k, KILN_i8, c->lanes);
    kiln_kv low = lane_bound(c, bounds[0], at), high = lane_bound(c, bounds[1], at);
    kiln_kv mask = kiln_k_binary(k, KILN_K_lt, lanes, high);
    mask = kiln_k_binary(k, KILN_K_and, mask, kiln_k_binary(k, KILN_K_ge, lanes, low));
    from = kiln_k_binary(k, KILN_K_add, from, at);
    kiln_kv value = kiln_k_load(k, c->source.buffer, from, c->lanes, mask, 0);
    to = kiln_k_binary(k, KILN_K_add, to, at);
    kiln_k_store(k, c->amx.dot.a.source.buffer, to, kiln_amx_moved(&c->amx, value), 0, 0);
}

/* Whether all taps of all windows are inside along an axis. */
static bool is_unpadded(const kiln_conv_axis *axis)
{
    int64_t last = (axis->out - 1) * axis->stride + (axis->kernel - 1) * axis->rhs_dilation;
    return axis->low <= 0 && last - axis->low < axis->in && axis->lhs_dilation == 1;
}

kiln_kv kiln_amx_place(const kiln_amx_conv *c, const kiln_amx_window *w)
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv at = kiln_k_mul_imm(k, w->image, c->input.strides[c->conv.input_axes.at[0]]);
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++)
        at = kiln_k_binary(k, KILN_K_add, at, kiln_k_mul_imm(k, w->at[i], stride_of(c, i)));
    return kiln_k_add_imm(k, at, c->input.origin);
}

void kiln_amx_copy_stretch(kiln_amx_conv *c, const kiln_amx_window *w, int64_t taps)
{
    kiln_lower *lower = c->conv.lower;
    kiln_kernel *k = lower->kernel;
    const kiln_conv_axis *axis = &c->conv.axis[KILN_CONV_W];
    int64_t features = c->conv.in_features, n = taps * features;
    kiln_kv zero = kiln_k_const_i64(k, 0), column = w->at[KILN_CONV_W];
    kiln_kv from = kiln_amx_place(c, w);
    kiln_kv before = kiln_k_max(k, kiln_k_binary(k, KILN_K_sub, zero, column), zero);
    kiln_kv left = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, axis->in), column);
    left = kiln_k_min(k, kiln_k_max(k, left, zero), kiln_k_const_i64(k, taps));
    if (is_unpadded(axis)) {
        before = zero;
        left = kiln_k_const_i64(k, taps);
    }
    left = kiln_k_binary(k, KILN_K_mul, left, w->is_inside);
    kiln_kv bounds[2] = {kiln_k_mul_imm(k, before, features), kiln_k_mul_imm(k, left, features)};
    int64_t n_vectors = kiln_ceil_div(n, c->lanes);
    if (n_vectors <= UNROLLED) {
        for (int64_t v = 0; v < n_vectors; v++)
            copy_vector(c, from, w->to, kiln_k_const_i64(k, v * c->lanes), bounds);
        return;
    }
    kiln_kv end = kiln_k_const_i64(k, n);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, c->lanes);
    copy_vector(c, from, w->to, at, bounds);
    kiln_k_end(k);
}

static kiln_kv moved(kiln_kernel *k, kiln_kv from, kiln_kv tap, int64_t step)
{
    return kiln_k_binary(k, KILN_K_add, from, kiln_k_mul_imm(k, tap, step));
}

/* The taps of the window along an axis and those inside it. */
static kiln_kv open_taps(kiln_amx_conv *c, kiln_amx_window *w, uint32_t which, int64_t elements)
{
    kiln_kernel *k = c->conv.lower->kernel;
    const kiln_conv_axis *axis = &c->conv.axis[which];
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, axis->kernel);
    kiln_kv tap = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    w->at[which] = moved(k, w->at[which], tap, axis->rhs_dilation);
    w->to = moved(k, w->to, tap, elements);
    return tap;
}

static void copy_window(kiln_amx_conv *c, kiln_amx_window w)
{
    kiln_kernel *k = c->conv.lower->kernel;
    const kiln_conv_axis *axis = c->conv.axis;
    int64_t row = axis[KILN_CONV_W].kernel * c->conv.in_features;
    open_taps(c, &w, KILN_CONV_D, axis[KILN_CONV_H].kernel * row);
    open_taps(c, &w, KILN_CONV_H, row);
    w.is_inside = kiln_k_const_i64(k, 1);
    for (uint32_t i = KILN_CONV_D; i <= KILN_CONV_H; i++) {
        if (is_unpadded(&axis[i])) continue;
        kiln_kv is_within = kiln_amx_is_within(k, w.at[i], axis[i].in);
        w.is_inside = kiln_k_binary(k, KILN_K_and, w.is_inside, is_within);
    }
    if (c->is_joined) {
        kiln_amx_copy_stretch(c, &w, axis[KILN_CONV_W].kernel);
    } else {
        open_taps(c, &w, KILN_CONV_W, c->conv.in_features);
        kiln_amx_copy_stretch(c, &w, 1);
        kiln_k_end(k);
    }
    kiln_k_end(k);
    kiln_k_end(k);
}

/* Lines of a window that the taps of several kernel rows share are put together in registers: few
 * and short ones. */
static bool is_woven(const kiln_amx_conv *c)
{
    const kiln_conv_axis *axis = c->conv.axis;
    int64_t n = axis[KILN_CONV_W].kernel * c->conv.in_features;
    bool is_short = c->amx.k_padded / c->lanes <= UNROLLED && n >= c->lanes / 4;
    return c->is_joined && is_short && n % c->lanes && n < c->amx.dot.roles.k_size;
}

/* Lanes low … high - 1. */
static kiln_kv lane_range(kiln_kernel *k, uint32_t lanes, int64_t low, int64_t high)
{
    kiln_kv number = kiln_k_lanes(k, KILN_i8, lanes), zero = kiln_k_const_i64(k, 0);
    kiln_kv first = kiln_k_add_imm(k, zero, low), last = kiln_k_add_imm(k, zero, high);
    first = kiln_k_splat(k, kiln_k_convert(k, first, KILN_i8), lanes);
    last = kiln_k_splat(k, kiln_k_convert(k, last, KILN_i8), lanes);
    return kiln_k_binary(k, KILN_K_and, kiln_k_binary(k, KILN_K_ge, number, first),
                         kiln_k_binary(k, KILN_K_lt, number, last));
}

/* Elements `begin` … of a window that lies inside the input, a line of them. */
static kiln_kv weave_line(kiln_amx_conv *c, kiln_kv from, int64_t begin)
{
    kiln_kernel *k = c->conv.lower->kernel;
    const kiln_conv_axis *d = &c->conv.axis[KILN_CONV_D], *h = &c->conv.axis[KILN_CONV_H];
    int64_t n = c->conv.axis[KILN_CONV_W].kernel * c->conv.in_features, lanes = c->lanes;
    int64_t end = kiln_min_i64(begin + lanes, c->amx.dot.roles.k_size);
    kiln_kv line = 0;
    for (int64_t piece = begin / n; piece * n < end; piece++) {
        int64_t low = kiln_max_i64(piece * n - begin, 0);
        int64_t high = kiln_min_i64((piece + 1) * n, end) - begin;
        int64_t place = piece / h->kernel * d->rhs_dilation * stride_of(c, KILN_CONV_D) +
                        piece % h->kernel * h->rhs_dilation * stride_of(c, KILN_CONV_H);
        kiln_kv at = kiln_k_add_imm(k, from, place + begin - piece * n);
        kiln_kv mask = lane_range(k, c->lanes, low, high);
        kiln_kv part = kiln_k_load(k, c->source.buffer, at, c->lanes, mask, 0);
        line = line ? kiln_k_binary(k, KILN_K_or, line, part) : part;
    }
    return line;
}

/* i64: whether all of the window lies inside the input. */
static kiln_kv is_whole_inside(const kiln_amx_conv *c, const kiln_amx_window *w)
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv is_inside = kiln_k_const_i64(k, 1);
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) {
        const kiln_conv_axis *axis = &c->conv.axis[i];
        int64_t reach = (axis->kernel - 1) * axis->rhs_dilation;
        if (is_unpadded(axis)) continue;
        kiln_kv is_within = kiln_amx_is_within(k, w->at[i], axis->in - reach);
        is_inside = kiln_k_binary(k, KILN_K_and, is_inside, is_within);
    }
    return is_inside;
}

/* The window in whole lines where it lies inside, else by stretches. */
static void weave_window(kiln_amx_conv *c, const kiln_amx_window *w)
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), one = kiln_k_const_i64(k, 1);
    kiln_kv is_inside = is_whole_inside(c, w);
    kiln_k_loop(k, KILN_LOOP_SERIAL, zero, is_inside, 1);
    kiln_kv from = kiln_amx_place(c, w);
    for (int64_t at = 0; at < c->amx.k_padded; at += c->lanes)
        kiln_k_store(k, c->amx.dot.a.source.buffer, kiln_k_add_imm(k, w->to, at),
                     kiln_amx_moved(&c->amx, weave_line(c, from, at)), 0, 0);
    kiln_k_end(k);
    kiln_k_loop(k, KILN_LOOP_SERIAL, is_inside, one, 1);
    copy_window(c, *w);
    kiln_k_end(k);
}

/* The windows of pixels first … end - 1. */
static void copy_rows(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_lower *lower = c->conv.lower;
    kiln_kernel *k = lower->kernel;
    const kiln_conv_axis *axis = c->conv.axis;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1), rest = row;
    uint32_t mark = kiln_lower_mark(lower);
    kiln_amx_window w = {.to = kiln_amx_row_offset(amx, row)};
    for (uint32_t i = KILN_CONV_AXES; i-- > 0;) {
        kiln_kv at = kiln_k_rem_imm(k, rest, axis[i].out);
        rest = kiln_k_div_imm(k, rest, axis[i].out);
        w.at[i] = kiln_k_add_imm(k, kiln_k_mul_imm(k, at, axis[i].stride), -axis[i].low);
    }
    w.image = rest;
    if (amx->k_padded > amx->dot.roles.k_size) {
        kiln_kv zero = kiln_k_const_bits(k, amx->element, c->lanes, 0);
        kiln_kv last = kiln_k_add_imm(k, w.to, amx->k_padded - c->lanes);
        kiln_k_store(k, amx->dot.a.source.buffer, last, zero, 0, 0);
    }
    if (is_woven(c))
        weave_window(c, &w);
    else
        copy_window(c, w);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Rows of the local are windows, at an odd distance in lines where they would share sets. */
static void add_local(kiln_amx *amx)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_dot *dot = &amx->dot;
    c->pitch = amx->k_padded;
    c->lanes = (uint32_t)amx->tile_k;
    if (c->pitch / c->lanes * 64 % SAME_SET_BYTES == 0) c->pitch += c->lanes;
    amx->a_row = c->pitch;
    amx->a_tile = c->pitch * KILN_TILE_SIDE;
    amx->a_step = amx->tile_k;
    dot->a.mode = KILN_DOT_COPY_K;
    dot->a.source.dtype = KILN_NO_DTYPE;
    int64_t rows = kiln_round_up(dot->block_rows, KILN_TILE_SIDE);
    dot->a.source.buffer =
        kiln_kernel_add_local(dot->lower->kernel, amx->element, rows * c->pitch + KILN_AMX_SLACK);
}

static void find_input(kiln_amx_conv *c)
{
    kiln_lower *lower = c->conv.lower;
    kiln_value value = c->conv.node->inputs[0];
    const kiln_ints *axes = &c->conv.input_axes;
    bool is_strided = kiln_lower_strided(lower, value, &c->input);
    if (!is_strided || (c->conv.in_features > 1 && c->input.strides[axes->at[1]] != 1))
        kiln_fail(lower->scope, KILN_INTERNAL,
                  "group %s: the input's features do not lie together; expected NHWC",
                  lower->group->label);
    c->source.buffer = lower->buffer_of[c->input.input];
    const kiln_conv_axis *axis = &c->conv.axis[KILN_CONV_W];
    c->is_dense = stride_of(c, KILN_CONV_W) == c->conv.in_features;
    c->is_joined = axis->kernel == 1 || (axis->rhs_dilation == 1 && c->is_dense);
}

void kiln_lower_amx_conv(kiln_conv *conv)
{
    kiln_lower *lower = conv->lower;
    kiln_arena *arena = &lower->scope->arena;
    const kiln_attrs *attrs = conv->node->attrs;
    kiln_amx_conv c = {.amx = {.dot = {.lower = lower, .dtype = conv->dtype}}, .conv = *conv};
    kiln_dot *dot = &c.amx.dot;
    find_input(&c);
    kiln_matmul_roles *roles = &dot->roles;
    int64_t *axes = kiln_new_array(arena, int64_t, conv->n_spatial + 1);
    int64_t *dims = kiln_new_array(arena, int64_t, conv->n_spatial + 2);
    roles->m_size = 1;
    for (uint32_t i = 0; i <= conv->n_spatial; i++) {
        axes[i] = attrs->conv.output_axes.at[i ? i + 1 : 0];
        dims[i] = conv->node->type->dims[axes[i]];
        roles->m_size *= dims[i];
    }
    dims[conv->n_spatial + 1] = roles->n_size = conv->out_features;
    roles->batch_size = 1;
    roles->k_size = conv->in_features;
    for (uint32_t i = 0; i < KILN_CONV_AXES; i++) roles->k_size *= conv->axis[i].kernel;
    roles->m = (kiln_ints){conv->n_spatial + 1, axes};
    roles->n = (kiln_ints){1, attrs->conv.output_axes.at + 1};
    dot->a.value = conv->node->inputs[0];
    dot->lanes = conv->lanes;
    dot->m_dims = dims;
    dot->n_dims = dims + conv->n_spatial + 1;
    c.amx.copy = copy_rows;
    c.amx.add_local = add_local;
    kiln_amx_set_format(&c.amx, lower->group->inputs[kiln_amx_input(lower)].format);
    if (kiln_amx_band_fits(&c)) kiln_amx_band_open(&c);
    kiln_amx_lower(&c.amx);
}
