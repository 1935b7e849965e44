/* The first third of Winograd's algorithm: patches of the input to points. An image that stands
 * dense in memory is read in place: which positions of a patch lie in the padding is known for
 * every Winograd tile, so tiles at the edges have code of their own that reads nothing there.
 * Anything else (a value computed on the way, odd paddings) goes through the window's copy. */
#include "codegen/winograd.h"

#include "base/checked.h"

/* False when there are more kinds of tiles than there is room for. */
static bool list_parts(const kiln_winograd *w, const kiln_conv_axis *axis, int64_t n_tiles,
                       kiln_winograd_part *parts, uint32_t *out_n)
{
    uint32_t n = 0;
    for (int64_t tile = 0; tile < n_tiles; tile++) {
        int64_t begin = tile * w->rule->side - axis->low;
        kiln_winograd_part part = {tile, tile + 1, kiln_max_i64(0, -begin),
                                   kiln_min_i64(w->reach, axis->in - begin)};
        if (n && parts[n - 1].low == part.low && parts[n - 1].high == part.high) {
            parts[n - 1].end++;
            continue;
        }
        if (n == KILN_WINOGRAD_PARTS) return false;
        parts[n++] = part;
    }
    *out_n = n;
    return true;
}

static bool is_in_place(kiln_winograd *w)
{
    kiln_conv *conv = w->conv;
    kiln_winograd_input *input = &w->input;
    const kiln_conv_axis *axis = conv->axis;
    kiln_strided strided;
    if (conv->input->dtype != conv->dtype) return false;
    if (!kiln_lower_strided(conv->lower, conv->node->inputs[0], &strided)) return false;
    if (strided.strides[conv->input_axes.at[1]] != 1) return false;
    input->source = (kiln_tile_source){conv->lower->buffer_of[strided.input], KILN_NO_DTYPE};
    input->origin = strided.origin;
    input->image = strided.strides[conv->input_axes.at[0]];
    input->row = strided.strides[conv->input_axes.at[2]];
    input->column = strided.strides[conv->input_axes.at[3]];
    input->origin -= axis[KILN_CONV_H].low * input->row + axis[KILN_CONV_W].low * input->column;
    return list_parts(w, &axis[KILN_CONV_H], w->n_rows, input->row_parts, &input->n_row_parts) &&
           list_parts(w, &axis[KILN_CONV_W], w->n_columns, input->column_parts,
                      &input->n_column_parts);
}

void kiln_winograd_find_input(kiln_winograd *w)
{
    kiln_conv *conv = w->conv;
    if (is_in_place(w)) return;
    /* the window of a row of Winograd tiles: the result as if it were whole ones */
    conv->axis[KILN_CONV_H].out = w->n_rows * w->rule->side;
    conv->axis[KILN_CONV_W].out = w->n_columns * w->rule->side;
    kiln_conv_add_local(conv, w->rule->side, conv->in_features);
    w->input = (kiln_winograd_input){.is_local = true,
                                     .source = {conv->local, KILN_NO_DTYPE},
                                     .row = conv->row_pitch,
                                     .column = conv->pitch,
                                     .n_row_parts = 1,
                                     .n_column_parts = 1};
    w->input.row_parts[0] = (kiln_winograd_part){0, w->n_rows, 0, w->reach};
    w->input.column_parts[0] = (kiln_winograd_part){0, w->n_columns, 0, w->reach};
}

/* A patch and where its points go. */
typedef struct patch {
    const kiln_winograd_part *rows, *columns;
    kiln_kv from, to;
} patch;

static kiln_kv load_element(const kiln_winograd *w, const patch *p, int64_t y, int64_t x)
{
    const kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    bool is_inside =
        y >= p->rows->low && y < p->rows->high && x >= p->columns->low && x < p->columns->high;
    if (!is_inside) return kiln_k_const_bits(k, conv->dtype, conv->lanes, 0);
    kiln_kv at = kiln_k_add_imm(k, p->from, y * w->input.row + x * w->input.column);
    return kiln_k_load(k, w->input.source.buffer, at, conv->lanes, 0, 0);
}

static void transform_patch(kiln_winograd *w, const patch *p)
{
    kiln_kernel *k = w->conv->lower->kernel;
    kiln_kv lines[KILN_WINOGRAD_REACH][KILN_WINOGRAD_REACH]; /* by column */
    for (int64_t x = 0; x < w->reach; x++) {
        kiln_kv in[KILN_WINOGRAD_REACH];
        for (int64_t y = 0; y < w->reach; y++) in[y] = load_element(w, p, y, x);
        w->rule->data(k, in, lines[x]);
    }
    for (int64_t y = 0; y < w->reach; y++) {
        kiln_kv in[KILN_WINOGRAD_REACH], out[KILN_WINOGRAD_REACH];
        for (int64_t x = 0; x < w->reach; x++) in[x] = lines[x][y];
        w->rule->data(k, in, out);
        for (int64_t x = 0; x < w->reach; x++) {
            kiln_kv at = kiln_k_add_imm(k, p->to, (y * w->reach + x) * w->data_point);
            kiln_k_store(k, w->data, at, out[x], 0, KILN_MEM_ALIGNED);
        }
    }
}

/* A row of Winograd tiles; `p` is the patch of an imagined one at column 0, feature 0. */
static void transform_row(kiln_winograd *w, const patch *row)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), n_features = kiln_k_const_i64(k, conv->in_features);
    for (uint32_t i = 0; i < w->input.n_column_parts; i++) {
        patch p = {row->rows, &w->input.column_parts[i], row->from, row->to};
        kiln_kv begin = kiln_k_const_i64(k, p.columns->first);
        kiln_kv end = kiln_k_const_i64(k, p.columns->end);
        kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
        kiln_kv right = kiln_k_mul_imm(k, column, w->rule->side * w->input.column);
        kiln_kv from = kiln_k_binary(k, KILN_K_add, row->from, right);
        kiln_kv to =
            kiln_k_binary(k, KILN_K_add, row->to, kiln_k_mul_imm(k, column, w->data_pitch));
        kiln_kv feature = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, n_features, conv->lanes);
        p.from = kiln_k_binary(k, KILN_K_add, from, feature);
        p.to = kiln_k_binary(k, KILN_K_add, to, feature);
        transform_patch(w, &p);
        kiln_k_end(k);
        kiln_k_end(k);
    }
}

kiln_kv kiln_winograd_enter_row(kiln_winograd *w, kiln_kv row)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    conv->image = kiln_k_div_imm(k, row, w->n_rows);
    kiln_kv down = kiln_k_rem_imm(k, row, w->n_rows);
    conv->first_row = kiln_k_mul_imm(k, down, w->rule->side);
    return down;
}

/* The first element of a row of patches. */
static kiln_kv row_start(const kiln_winograd *w)
{
    const kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    if (w->input.is_local) return kiln_k_const_i64(k, 0);
    kiln_kv image = kiln_k_mul_imm(k, conv->image, w->input.image);
    kiln_kv row = kiln_k_mul_imm(k, conv->first_row, w->input.row);
    return kiln_k_add_imm(k, kiln_k_binary(k, KILN_K_add, image, row), w->input.origin);
}

void kiln_winograd_transform(kiln_winograd *w)
{
    kiln_conv *conv = w->conv;
    kiln_kernel *k = conv->lower->kernel;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, w->first_row, w->end_row, 1);
    uint32_t mark = kiln_lower_mark(conv->lower);
    kiln_kv down = kiln_winograd_enter_row(w, row), next = kiln_k_add_imm(k, down, 1);
    kiln_kv tile = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, row, w->first_row), w->n_columns);
    patch p = {.to = kiln_k_mul_imm(k, tile, w->data_pitch)};
    if (w->input.is_local) kiln_conv_copy(conv);
    p.from = row_start(w);
    for (uint32_t i = 0; i < w->input.n_row_parts; i++) { /* one trip for the row's own part */
        p.rows = &w->input.row_parts[i];
        kiln_kv begin = kiln_k_max(k, down, kiln_k_const_i64(k, p.rows->first));
        kiln_kv end = kiln_k_min(k, next, kiln_k_const_i64(k, p.rows->end));
        kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
        transform_row(w, &p);
        kiln_k_end(k);
    }
    kiln_lower_cut(conv->lower, mark);
    kiln_k_end(k);
}
