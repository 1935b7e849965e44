/* Convolutions whose tiles of A are loaded from a copy of the input's rows: with a stride of 1, 16
 * neighbouring outputs read pixels at one distance at every tap. A work tile copies a band of
 * padded rows once, not a window a pixel; its rows count the padded image's pixels, so that those
 * at the end of a row, and rows between images, are computed and not stored. A step's place follows
 * from its number: the taps of a kernel row lie together.
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
    return axis->stride == 1 && axis->lhs_dilation == 1 && axis->rhs_dilation == 1;
}

static int64_t n_padded(const kiln_amx_conv *c)
{
    const kiln_conv_axis *h = &c->conv.axis[KILN_CONV_H], *w = &c->conv.axis[KILN_CONV_W];
    int64_t rows = (c->conv.batch - 1) * (h->out + h->kernel - 1) + h->out - 1;
    return rows * (w->out + w->kernel - 1) + w->out;
}

/* Whether the input's pixels are the rows of A as they stand. */
static bool is_in_place(const kiln_amx_conv *c)
{
    const kiln_conv *conv = &c->conv;
    const kiln_conv_axis *h = &conv->axis[KILN_CONV_H], *w = &conv->axis[KILN_CONV_W];
    if (h->kernel != 1 || w->kernel != 1 || h->low || w->low || h->in != h->out) return false;
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
    if (depth->out != 1 || depth->kernel != 1 || depth->in != 1 || depth->low) return false;
    if (!is_plain_axis(&conv->axis[KILN_CONV_H]) || !is_plain_axis(w)) return false;
    if (!c->is_dense || conv->in_features % c->amx.tile_k) return false;
    if (pixel_bytes(c) > MOST_PIXEL_BYTES) return false;
    return (double)n_padded(c) <= MOST_WASTE * (double)c->amx.dot.roles.m_size;
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
    last = kiln_k_add_imm(k, last, h->kernel);
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, c->first_padded, last, 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_amx_window w = {.image = kiln_k_div_imm(k, row, c->padded_rows)};
    kiln_kv in_image = kiln_k_rem_imm(k, row, c->padded_rows);
    w.at[KILN_CONV_D] = kiln_k_const_i64(k, 0);
    w.at[KILN_CONV_H] = kiln_k_add_imm(k, in_image, -h->low);
    w.at[KILN_CONV_W] = kiln_k_const_i64(k, -c->conv.axis[KILN_CONV_W].low);
    w.is_inside = kiln_amx_is_within(k, w.at[KILN_CONV_H], h->in);
    w.to = kiln_k_binary(k, KILN_K_sub, row, c->first_padded);
    w.to = kiln_k_mul_imm(k, w.to, c->padded_columns * c->conv.in_features);
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
    return kiln_k_mul_imm(k, pixel, c->conv.in_features);
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

static void add_band(kiln_amx *amx)
{
    kiln_amx_conv *c = (kiln_amx_conv *)amx;
    kiln_dot *dot = &amx->dot;
    const kiln_conv_axis *w = &c->conv.axis[KILN_CONV_W];
    int64_t features = c->conv.in_features, columns = c->padded_columns;
    c->lanes = (uint32_t)amx->tile_k;
    amx->a_row = features;
    amx->a_tile = features * KILN_TILE_SIDE;
    amx->a_step = amx->tile_k;
    dot->a.source.dtype = KILN_NO_DTYPE;
    if (amx->row_offset == pixel_offset) {
        dot->a.mode = KILN_DOT_DIRECT;
        dot->a.source.buffer = c->source.buffer;
        return;
    }
    amx->stretch = w->kernel * features / amx->tile_k;
    amx->jump = columns * features;
    dot->a.mode = KILN_DOT_COPY_K;
    int64_t rows = kiln_ceil_div(dot->block_rows, columns) + c->conv.axis[KILN_CONV_H].kernel;
    int64_t past = (2 * KILN_TILE_SIDE + w->kernel) * features; /* what the last tile reads */
    dot->a.source.buffer =
        kiln_kernel_add_local(dot->lower->kernel, amx->element, rows * columns * features + past);
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
    c->padded_rows = h->out + h->kernel - 1;
    c->padded_columns = w->out + w->kernel - 1;
    amx->dot.roles.m_size = n_padded(c);
    amx->row_offset = band_offset;
    bool is_dense = w->kernel == 1 && (h->kernel == 1 || c->conv.batch == 1);
    if (!is_dense) amx->result_row = stored_row;
}
