/* PACK groups: an operand of a contraction, read through its views, into panels of 16 columns:
 * tiles are panels, one vector of columns for every k, or bands of rows of k over all panels. Where
 * k is contiguous instead of the columns, blocks are read along k and transposed in registers.
 * Columns past n are zero. Constants are packed by pack.c instead. */
#include "codegen/amx.h"
#include "codegen/gemm.h"
#include "codegen/math.h"
#include "kiln/program.h"

typedef struct packing {
    kiln_lower *lower;
    kiln_value value;
    const kiln_type *type;
    kiln_ints batch, n, k;  /* axes of the operand in the contraction's roles */
    int64_t n_batch, n_n, n_k;
    uint32_t lanes;
    bool is_by_k;
} packing;

static int64_t size_of(const packing *p, kiln_ints axes)
{
    int64_t size = 1;
    for (uint32_t i = 0; i < axes.n; i++) size *= p->type->dims[axes.at[i]];
    return size;
}

static void find_roles(packing *p)
{
    kiln_lower *lower = p->lower;
    kiln_arena *arena = &lower->scope->arena;
    kiln_value consumer = lower->group->outputs[0].consumer;
    const kiln_node *node = kiln_graph_node(lower->graph, consumer);
    if (node->op != KILN_OP_convolution) {
        kiln_matmul_roles roles;
        kiln_dot_roles(arena, lower->graph, consumer, &roles);
        p->batch = roles.b_batch;
        p->n = roles.b_n;
        p->k = roles.b_k;
        p->n_batch = size_of(p, p->batch);
        p->n_n = size_of(p, p->n);
    } else { /* [out, in, spatial…] by role: k is (spatial…, in), groups cut the out features */
        kiln_ints kernel = node->attrs->conv.kernel_axes;
        int64_t *axes = kiln_new_array(arena, int64_t, kernel.n);
        for (uint32_t i = 2; i < kernel.n; i++) axes[i - 2] = kernel.at[i];
        axes[kernel.n - 2] = kernel.at[1];
        p->n = (kiln_ints){1, kernel.at};
        p->k = (kiln_ints){kernel.n - 1, axes};
        p->n_batch = node->attrs->conv.groups;
        p->n_n = p->n_batch ? size_of(p, p->n) / p->n_batch : 0;
    }
    p->n_k = size_of(p, p->k);
}

static void spread(packing *p, kiln_axis_index at, kiln_ints axes, kiln_index *index)
{
    int64_t dims[KILN_MAX_RANK] = {0};
    kiln_axis_index digits[KILN_MAX_RANK];
    for (uint32_t i = 0; i < axes.n; i++) dims[i] = p->type->dims[axes.at[i]];
    kiln_lower_delinearize(p->lower, at, axes.n, dims, digits);
    for (uint32_t i = 0; i < axes.n; i++) index->axis[axes.at[i]] = digits[i];
}

/* A vector of the batch at (column, k): over columns, or over k. In a convolution the batch is part
 * of the column. */
static kiln_kv load_vector(packing *p, kiln_kv batch, kiln_kv column, kiln_kv k_at)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    kiln_index index = {.rank = p->type->rank};
    kiln_axis_index row = kiln_axis_scalar(k_at, 1), of_batch = kiln_axis_scalar(batch, 1);
    if (p->batch.n == 0)
        column = kiln_k_binary(k, KILN_K_add, column, kiln_k_mul_imm(k, batch, p->n_n));
    kiln_axis_index columns = kiln_axis_scalar(column, 1);
    (p->is_by_k ? &row : &columns)->step = 1;
    columns.extent = size_of(p, p->n);
    row.extent = p->n_k;
    of_batch.extent = p->n_batch;
    spread(p, of_batch, p->batch, &index);
    spread(p, row, p->k, &index);
    spread(p, columns, p->n, &index);
    return kiln_lower_value(lower, p->value, &index);
}

/* Stores a vector of columns at `k_at` of panel `tile`. */
static void store_columns(packing *p, kiln_kv tile, kiln_kv k_at, uint32_t first, kiln_kv value)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv row = kiln_lower_op_imm(lower, KILN_K_mul, tile, p->n_k);
    row = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_add, row, k_at), KILN_PANEL);
    kiln_access access = {.buffer = lower->buffer_of[lower->group->n_inputs],
                          .dtype = p->type->dtype,
                          .lanes = p->lanes};
    access.offset = kiln_axis_vector(kiln_k_add_imm(k, row, first), p->lanes);
    kiln_lower_store_at(lower, &access, value);
}

/* One vector of panel `panel`; `first` is its first column within the panel. */
static void pack_vector(packing *p, kiln_kv tile, kiln_kv k_at, uint32_t first)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n_panels = (p->n_n + KILN_PANEL - 1) / KILN_PANEL;
    kiln_kv panel = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_panels);
    kiln_kv batch = kiln_lower_op_imm(lower, KILN_K_div, tile, n_panels);
    kiln_kv column = kiln_lower_op_imm(lower, KILN_K_mul, panel, KILN_PANEL);
    column = kiln_lower_op_imm(lower, KILN_K_add, column, first);
    if (p->n_n % KILN_PANEL) {
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, p->n_n), column);
        lower->mask = kiln_k_active(k, p->lanes, left);
    }
    kiln_kv value = load_vector(p, batch, column, k_at);
    if (lower->mask) {
        kiln_dtype dtype = (kiln_dtype)kiln_kernel_at(k, value)->dtype;
        value = kiln_k_select(k, lower->mask, value, kiln_k_const_bits(k, dtype, p->lanes, 0));
    }
    lower->mask = 0;
    store_columns(p, tile, k_at, first, value);
}

/* A block of lanes x lanes: rows are columns of the operand, the first `n_columns` of which exist;
 * of the k, the first `n_k`. */
static void pack_block(packing *p, kiln_kv tile, kiln_kv k_at, int64_t n_columns, int64_t n_k)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n_panels = (p->n_n + KILN_PANEL - 1) / KILN_PANEL;
    kiln_kv panel = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_panels);
    kiln_kv batch = kiln_lower_op_imm(lower, KILN_K_div, tile, n_panels);
    kiln_kv column = kiln_lower_op_imm(lower, KILN_K_mul, panel, KILN_PANEL);
    for (uint32_t first = 0; first < KILN_PANEL; first += p->lanes) {
        kiln_kv rows[KILN_PANEL], zero = 0;
        lower->mask = kiln_k_active(k, p->lanes, kiln_k_const_i64(k, n_k));
        for (uint32_t i = 0; i < p->lanes && first + i < n_columns; i++)
            rows[i] = load_vector(p, batch, kiln_lower_op_imm(lower, KILN_K_add, column, first + i),
                                  k_at);
        lower->mask = 0;
        kiln_dtype dtype = kiln_compute_dtype(p->type->dtype);
        for (uint32_t i = 0; i < p->lanes; i++) {
            if (first + i >= n_columns)
                rows[i] = zero ? zero : (zero = kiln_k_const_bits(k, dtype, p->lanes, 0));
        }
        kiln_lower_transpose(k, rows, p->lanes);
        for (uint32_t i = 0; i < p->lanes && i < n_k; i++)
            store_columns(p, tile, kiln_k_add_imm(k, k_at, i), first, rows[i]);
    }
}

/* A panel of `n_columns` columns, block after block; emitted inside a loop of at most one trip. */
static void pack_panel(packing *p, kiln_kv tile, int64_t n_columns)
{
    kiln_kernel *k = p->lower->kernel;
    int64_t whole = p->n_k / p->lanes * p->lanes;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv k_at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, p->lanes);
    uint32_t mark = kiln_lower_mark(p->lower);
    pack_block(p, tile, k_at, n_columns, p->lanes);
    kiln_lower_cut(p->lower, mark);
    kiln_k_end(k);
    if (whole < p->n_k) pack_block(p, tile, end, n_columns, p->n_k - whole);
}

static void pack_by_blocks(packing *p, kiln_kv tile)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n_panels = (p->n_n + KILN_PANEL - 1) / KILN_PANEL, last = p->n_n % KILN_PANEL;
    if (!last) {
        pack_panel(p, tile, KILN_PANEL);
        return;
    }
    kiln_kv panel = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_panels);
    kiln_kv end = kiln_k_const_i64(k, n_panels), middle = kiln_k_const_i64(k, n_panels - 1);
    kiln_kv next = kiln_k_add_imm(k, panel, 1);
    kiln_kv begin = kiln_k_max(k, panel, middle);
    end = kiln_k_min(k, next, end);
    kiln_k_loop(k, KILN_LOOP_SERIAL, panel, kiln_k_min(k, next, middle), 1);
    uint32_t mark = kiln_lower_mark(lower);
    pack_panel(p, tile, KILN_PANEL);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
    kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    mark = kiln_lower_mark(lower);
    pack_panel(p, tile, last);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Whether neighbours in memory are neighbours in k, not in the columns. */
static bool is_contiguous_in_k(const packing *p)
{
    kiln_strided strided;
    if (!p->k.n || !kiln_lower_strided(p->lower, p->value, &strided)) return false;
    int64_t inner = p->k.at[p->k.n - 1], across = p->n.n ? p->n.at[p->n.n - 1] : -1;
    bool is_across = across >= 0 && strided.strides[across] == 1 && p->n_n > 1;
    return strided.strides[inner] == 1 && p->type->dims[inner] >= p->lanes && !is_across;
}

static void pack_by_rows(packing *p, kiln_kv tile)
{
    kiln_kernel *k = p->lower->kernel;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, p->n_k);
    kiln_kv k_at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t mark = kiln_lower_mark(p->lower);
    for (uint32_t first = 0; first < KILN_PANEL; first += p->lanes)
        pack_vector(p, tile, k_at, first);
    kiln_lower_cut(p->lower, mark);
    kiln_k_end(k);
}

/* Rows of k in one go: each is read from one end to the other, so that pages and lines are met
 * once. */
#define BAND 32

static bool wants_bands(const packing *p, int64_t n_panels)
{
    return !p->is_by_k && n_panels >= 8 && p->n_k >= 8 * BAND;
}

static void pack_by_bands(packing *p, kiln_kv tile, int64_t n_panels)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n_bands = (p->n_k + BAND - 1) / BAND;
    kiln_kv band = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_bands);
    kiln_kv batch = kiln_lower_op_imm(lower, KILN_K_div, tile, n_bands);
    kiln_kv first_panel = kiln_k_mul_imm(k, batch, n_panels);
    kiln_kv begin = kiln_k_mul_imm(k, band, BAND);
    kiln_kv end = kiln_k_min(k, kiln_k_add_imm(k, begin, BAND), kiln_k_const_i64(k, p->n_k));
    kiln_kv number =
        kiln_k_loop(k, KILN_LOOP_SERIAL, first_panel, kiln_k_add_imm(k, first_panel, n_panels), 1);
    uint32_t outer = kiln_lower_mark(lower);
    kiln_kv k_at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
    uint32_t inner = kiln_lower_mark(lower);
    for (uint32_t first = 0; first < KILN_PANEL; first += p->lanes)
        pack_vector(p, number, k_at, first);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}

void kiln_lower_pack(kiln_lower *lower)
{
    if (kiln_format_parts(lower->group->outputs[0].format)) {
        kiln_lower_pack_tiles(lower);
        return;
    }
    packing p = {.lower = lower, .value = lower->group->outputs[0].value};
    kiln_kernel *k = lower->kernel;
    p.type = kiln_graph_type(lower->graph, p.value);
    find_roles(&p);
    p.lanes = kiln_machine_lanes(lower->machine, kiln_compute_dtype(p.type->dtype));
    if (p.lanes > KILN_PANEL) p.lanes = KILN_PANEL;
    lower->lanes = p.lanes;
    int64_t n_panels = (p.n_n + KILN_PANEL - 1) / KILN_PANEL;
    if (p.n_k == 0) n_panels = 0;
    if (n_panels * p.n_batch > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: more than 2^32 - 1 panels; expected fewer",
                  lower->group->label);
    p.is_by_k = n_panels * p.n_batch > 0 && is_contiguous_in_k(&p);
    bool is_banded = wants_bands(&p, n_panels);
    k->n_tiles = (uint32_t)((is_banded ? (p.n_k + BAND - 1) / BAND : n_panels) * p.n_batch);
    k->is_pack = true;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t outside = kiln_lower_mark(lower);
    if (k->n_tiles > 0) {
        if (p.is_by_k)
            pack_by_blocks(&p, tile);
        else if (is_banded)
            pack_by_bands(&p, tile, n_panels);
        else
            pack_by_rows(&p, tile);
    }
    kiln_lower_cut(lower, outside);
    kiln_k_end(k);
}
