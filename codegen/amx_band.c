/* Convolutions whose tiles of A are loaded from a copy of the input's rows: with a stride of 1, 16
 * neighbouring outputs read pixels at one distance at every tap. A work tile copies a band of
 * padded rows once, not a window a pixel; its rows count the padded image's pixels, so that those
 * at the end of a row, and rows between images, are computed and not stored. A step's place follows
 * from its number: the taps of a kernel row lie together. With a larger stride the band is split
 * into planes, one for each remainder of row and column, so that neighbours are together again.
 *
 * 1 x 1 kernels without padding read the input in place. */
#include "base/checked.h"
#include "codegen/amx_conv.h"
#include "codegen/math.h"

#define MOST_PIXEL_BYTES 1024 /* pixels further apart share few sets of the first cache */
#define MOST_WASTE 1.4        /* computed pixels for one that is stored */
#define NEAR_ROWS 512         /* rows of a work tile, where all of B stays in the cache */

static int64_t pixel_bytes(const kiln_amx_conv *c)
{
    return c->conv.in_features * (64 / c->amx.tile_k);
}

static bool is_plain_axis(const kiln_conv_axis *axis)
{
    return axis->lhs_dilation == 1 && axis->rhs_dilation == 1;
}

static bool is_strided(const kiln_amx_conv *c)
{
    return c->conv.axis[KILN_CONV_H].stride > 1 || c->conv.axis[KILN_CONV_W].stride > 1;
}

/* Planes that the taps of an axis read, and the pixels of one of them. */
static int64_t planes_of(const kiln_conv_axis *axis)
{
    return kiln_min_i64(axis->stride, axis->kernel);
}

static int64_t extent_of(const kiln_conv_axis *axis)
{
    return axis->out + (axis->kernel - 1) / axis->stride;
}

static int64_t n_padded(const kiln_amx_conv *c)
{
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *w = &c->conv.axis[KILN_CONV_W];
    int64_t rows = (c->conv.batch - 1) * extent_of(h) + h->out - 1;
    return rows * extent_of(w) + w->out;
}

/* Whether the input's pixels are the rows of A as they stand. */
static bool is_in_place(const kiln_amx_conv *c)
{
    const kiln_conv *conv = &c->conv;
    const kiln_conv_axis *h = &conv->axis[KILN_CONV_H], *w = &conv->axis[KILN_CONV_W];
    if (is_strided(c) || h->kernel != 1 || w->kernel != 1) return false;
    if (h->low || w->low || h->in != h->out) return false;
    if (w->in != w->out || c->amx.dot.roles.m_size % KILN_TILE_SIDE) return false;
    int64_t expected = conv->in_features;
    for (uint32_t i = conv->n_spatial; i-- > 0;) {
        if (c->input.strides[conv->input_axes.at[i + 2]] != expected) return false;
        expected *= conv->axis[KILN_CONV_AXES - conv->n_spatial + i].in;
    }
    return conv->batch == 1 || c->input.strides[conv->input_axes.at[0]] == expected;
}

bool kiln_amx_band_fits(const kiln_amx_conv *c)
{
    const kiln_conv *conv = &c->conv;
    const kiln_conv_axis *depth = &conv->axis[KILN_CONV_D], *w = &conv->axis[KILN_CONV_W];
    bool is_tap = w->kernel == 1 && conv->axis[KILN_CONV_H].kernel == 1;
    if (depth->out != 1 || depth->kernel != 1 || depth->in != 1 || depth->low) return false;
    if (!is_plain_axis(&conv->axis[KILN_CONV_H]) || !is_plain_axis(w)) return false;
    if (!c->is_dense || conv->in_features % c->amx.tile_k) return false;
    if (is_tap && is_strided(c)) return false; /* a window is a pixel */
    if (pixel_bytes(c) > MOST_PIXEL_BYTES) return false;
    return (double)n_padded(c) <= MOST_WASTE * (double)c->amx.dot.roles.m_size;
}

/* Features of the pixel of the window, zeros outside. */
static void copy_pixel(kiln_amx_conv *c, const kiln_amx_window *w)
{
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv column = w->at[KILN_CONV_W], zero = kiln_k_const_i64(k, 0);
    kiln_kv is_inside = kiln_amx_is_within(k, column, c->conv.axis[KILN_CONV_W].in);
    is_inside = kiln_k_binary(k, KILN_K_and, is_inside, w->is_inside);
    kiln_kv high = kiln_k_convert(k, kiln_k_mul_imm(k, is_inside, c->lanes), KILN_i8);
    kiln_kv mask = kiln_k_binary(k, KILN_K_lt, kiln_k_lanes(k, KILN_i8, c->lanes),
                                 kiln_k_splat(k, high, c->lanes));
    kiln_kv from = kiln_amx_place(c, w), end = kiln_k_const_i64(k, c->conv.in_features);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, c->lanes);
    kiln_kv value =
        kiln_k_load(k, c->source.buffer, kiln_k_binary(k, KILN_K_add, from, at), c->lanes, mask, 0);
    kiln_kv to = kiln_k_binary(k, KILN_K_add, w->to, at);
    kiln_k_store(k, c->amx.dot.a.source.buffer, to, kiln_amx_moved(&c->amx, value), 0, 0);
    kiln_k_end(k);
}

/* A row of every plane, from row `line` of the padded image on. */
static void copy_planes(kiln_amx_conv *c, kiln_amx_window w, kiln_kv line)
{
    kiln_kernel *k = c->conv.lower->kernel;
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *x = &c->conv.axis[KILN_CONV_W];
    kiln_kv zero = kiln_k_const_i64(k, 0), to = w.to, column;
    kiln_kv last = kiln_k_const_i64(k, planes_of(h) * planes_of(x));
    kiln_kv plane = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, last, 1);
    kiln_kv first = kiln_k_rem_imm(k, plane, planes_of(x));
    line = kiln_k_binary(k, KILN_K_add, line, kiln_k_div_imm(k, plane, planes_of(x)));
    w.at[KILN_CONV_H] = kiln_k_add_imm(k, line, -h->low);
    w.is_inside = kiln_amx_is_within(k, w.at[KILN_CONV_H], h->in);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, plane, c->plane));
    kiln_kv pixel =
        kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_const_i64(k, c->padded_columns), 1);
    column = kiln_k_binary(k, KILN_K_add, first, kiln_k_mul_imm(k, pixel, x->stride));
    w.at[KILN_CONV_W] = kiln_k_add_imm(k, column, -x->low);
    w.to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, pixel, c->pitch));
    copy_pixel(c, &w);
    kiln_k_end(k);
    kiln_k_end(k);
}

/* Copies the padded rows that outputs first … end - 1 read. */
static void copy_band(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_lower *lower = c->conv.lower;
    kiln_kernel *k = lower->kernel;
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H];
    kiln_kv last = kiln_k_div_imm(k, kiln_k_add_imm(k, end, -1), c->padded_columns);
    c->first_padded = kiln_k_div_imm(k, first, c->padded_columns);
    last = kiln_k_add_imm(k, last, 1 + (h->kernel - 1) / h->stride);
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, c->first_padded, last, 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_amx_window w = {.image = kiln_k_div_imm(k, row, c->padded_rows)};
    kiln_kv in_image = kiln_k_rem_imm(k, row, c->padded_rows);
    w.at[KILN_CONV_D] = kiln_k_const_i64(k, 0);
    w.at[KILN_CONV_H] = kiln_k_add_imm(k, in_image, -h->low);
    w.at[KILN_CONV_W] = kiln_k_const_i64(k, -c->conv.axis[KILN_CONV_W].low);
    w.is_inside = kiln_amx_is_within(k, w.at[KILN_CONV_H], h->in);
    w.to = kiln_k_binary(k, KILN_K_sub, row, c->first_padded);
    w.to = kiln_k_mul_imm(k, w.to, c->padded_columns * c->pitch);
    if (is_strided(c))
        copy_planes(c, w, kiln_k_mul_imm(k, in_image, h->stride));
    else
        kiln_amx_copy_stretch(c, &w, c->padded_columns);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static kiln_kv band_offset(kiln_amx *amx, kiln_kv row)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_kernel *k = c->conv.lower->kernel;
    kiln_kv start = kiln_k_mul_imm(k, c->first_padded, c->padded_columns);
    kiln_kv pixel = kiln_k_binary(k, KILN_K_sub, row, start);
    return kiln_k_mul_imm(k, pixel, c->pitch);
}

static kiln_kv pixel_offset(kiln_amx *amx, kiln_kv row)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_kernel *k = c->conv.lower->kernel;
    return kiln_k_add_imm(k, kiln_k_mul_imm(k, row, c->conv.in_features), c->input.origin);
}

/* The output pixel of a padded one, and whether there is one. */
static kiln_kv stored_row(kiln_amx *amx, kiln_kv row, kiln_kv *out_exists)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_kernel *k = c->conv.lower->kernel;
    int64_t height = c->conv.axis[KILN_CONV_H].out, width = c->conv.axis[KILN_CONV_W].out;
    kiln_kv line = kiln_k_div_imm(k, row, c->padded_columns);
    kiln_kv column = kiln_k_rem_imm(k, row, c->padded_columns);
    kiln_kv image = kiln_k_div_imm(k, line, c->padded_rows);
    line = kiln_k_rem_imm(k, line, c->padded_rows);
    *out_exists = kiln_k_binary(k, KILN_K_and, kiln_amx_is_within(k, line, height),
                                kiln_amx_is_within(k, column, width));
    line = kiln_k_binary(k, KILN_K_add, line, kiln_k_mul_imm(k, image, height));
    return kiln_k_binary(k, KILN_K_add, column, kiln_k_mul_imm(k, line, width));
}

/* The part of a step's place that `tap` of an axis makes: `unit` elements for every pixel of a
 * plane, `plane` for every plane. */
static kiln_kv tap_place(kiln_kernel *k, kiln_kv tap, int64_t stride, int64_t unit, int64_t plane)
{
    if (stride == 1) return kiln_k_mul_imm(k, tap, unit);
    kiln_kv at = kiln_k_mul_imm(k, kiln_k_div_imm(k, tap, stride), unit);
    kiln_kv in_planes = kiln_k_mul_imm(k, kiln_k_rem_imm(k, tap, stride), plane);
    return kiln_k_binary(k, KILN_K_add, at, in_planes);
}

static kiln_kv band_step(kiln_amx *amx, kiln_kv number)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_kernel *k = c->conv.lower->kernel;
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *w = &c->conv.axis[KILN_CONV_W];
    int64_t steps = c->conv.in_features / amx->tile_k, row = c->padded_columns * c->pitch;
    kiln_kv at = kiln_k_rem_imm(k, number, w->kernel * steps);
    if (w->stride == 1 && c->pitch == c->conv.in_features) {
        at = kiln_k_mul_imm(k, at, amx->a_step);
    } else {
        kiln_kv tap = kiln_k_div_imm(k, at, steps);
        at = kiln_k_mul_imm(k, kiln_k_rem_imm(k, at, steps), amx->a_step);
        at = kiln_k_binary(k, KILN_K_add, at, tap_place(k, tap, w->stride, c->pitch, c->plane));
    }
    kiln_kv tap = kiln_k_div_imm(k, number, w->kernel * steps);
    tap = tap_place(k, tap, h->stride, row, planes_of(w) * c->plane);
    return kiln_k_binary(k, KILN_K_add, at, tap);
}

static void add_band(kiln_amx *amx)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_dot *dot = &amx->dot;
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *w = &c->conv.axis[KILN_CONV_W];
    int64_t features = c->conv.in_features, columns = c->padded_columns;
    c->lanes = (uint32_t)amx->tile_k;
    c->pitch = features;
    if (is_strided(c) && pixel_bytes(c) % MOST_PIXEL_BYTES == 0) c->pitch += c->lanes;
    amx->a_row = c->pitch;
    amx->a_tile = c->pitch * KILN_TILE_SIDE;
    amx->a_step = amx->tile_k;
    dot->a.source.dtype = KILN_NO_DTYPE;
    if (amx->row_offset == pixel_offset) {
        dot->a.mode = KILN_DOT_DIRECT;
        dot->a.source.buffer = c->source.buffer;
        return;
    }
    amx->step_place = band_step;
    dot->a.mode = KILN_DOT_COPY_K;
    int64_t rows = kiln_ceil_div(dot->block_rows, columns) + 1 + (h->kernel - 1) / h->stride;
    int64_t past = (2 * KILN_TILE_SIDE + w->kernel) * c->pitch; /* what the last tile reads */
    c->plane = rows * columns * c->pitch;
    int64_t n_planes = planes_of(h) * planes_of(w);
    dot->a.source.buffer =
        kiln_kernel_add_local(dot->lower->kernel, amx->element, n_planes * c->plane + past);
}

void kiln_amx_band_open(kiln_amx_conv *c)
{
    kiln_amx *amx = &c->amx;
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *w = &c->conv.axis[KILN_CONV_W];
    amx->add_local = add_band;
    amx->copy = copy_band;
    amx->near_rows = NEAR_ROWS;
    if (is_in_place(c)) {
        amx->row_offset = pixel_offset;
        return;
    }
    c->padded_rows = extent_of(h);
    c->padded_columns = extent_of(w);
    amx->dot.roles.m_size = n_padded(c);
    amx->row_offset = band_offset;
    bool is_dense = w->kernel == 1 && (h->kernel == 1 || c->conv.batch == 1);
    if (!is_dense) amx->result_row = stored_row;
}
