/* A dot whose tiles pack their columns of a dynamic right operand themselves: a block of columns
 * goes into panels in a local that stays in the second cache, then all rows pass by it. No element
 * is packed twice, no thread reads what another one packed, and nothing is fetched ahead while
 * products run. Each thread has an equal share of the columns; its last block takes the rest. */
#include "base/checked.h"
#include "codegen/lower_dot.h"
#include "passes/row_move.h"

#define PANEL_BYTES (1024 * 1024) /* of a block of columns: half of the second cache */
#define ROW_BYTES (128 * 1024)    /* of A that pass by together */
#define BAND 32                   /* rows of B in one go: each is read along the block */
#define GROUP 4                   /* panels packed side by side */
#define AHEAD 16                  /* rows of B that are asked for before they are read */

bool kiln_dot_has_own_panels(const kiln_dot *dot)
{
    const kiln_dot_operand *b = &dot->b;
    return b->mode == KILN_DOT_DIRECT && b->step == 1 && dot->dtype == KILN_f32 &&
           b->source.dtype == KILN_f32 && !dot->is_streamed &&
           kiln_dot_packs_itself(&dot->roles, dot->lower->schedule->n_threads);
}

void kiln_dot_choose_panels(kiln_dot *dot)
{
    const kiln_matmul_roles *roles = &dot->roles;
    int64_t width = (int64_t)dot->vectors * dot->lanes, row_bytes = roles->k_size * 4;
    int64_t threads = kiln_max_i64(1, dot->lower->schedule->n_threads), strip = width * row_bytes;
    dot->b.mode = KILN_DOT_OWN_PANELS;
    dot->share_columns = roles->n_size / threads;
    int64_t strips = kiln_max_i64(1, dot->share_columns / width);
    int64_t each = kiln_max_i64(1, (PANEL_BYTES + strip / 2) / strip);
    dot->share_blocks = kiln_max_i64(1, (strips + each / 2) / each);
    dot->block_columns = dot->share_blocks == 1 ? dot->share_columns : each * width;
    dot->n_column_blocks = dot->share_blocks * threads;
    dot->n_row_blocks = dot->n_k_blocks = 1;
    dot->k_block_size = roles->k_size;
    dot->block_rows = kiln_max_i64(1, ROW_BYTES / row_bytes / dot->rows) * dot->rows;
}

void kiln_dot_add_panels(kiln_dot *dot)
{
    int64_t last = dot->share_columns - (dot->share_blocks - 1) * dot->block_columns;
    int64_t n, columns = kiln_max_i64(dot->block_columns, last);
    if (!kiln_checked_mul(columns, dot->roles.k_size, &n))
        kiln_fail(dot->lower->scope, KILN_LIMIT,
                  "group %s: panels overflow; expected fewer columns", dot->lower->group->label);
    dot->panels = kiln_kernel_add_local(dot->lower->kernel, dot->dtype, n);
}

void kiln_dot_place_panels(kiln_dot *dot, kiln_kv number)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv share = kiln_k_div_imm(k, number, dot->share_blocks);
    kiln_kv block = kiln_k_rem_imm(k, number, dot->share_blocks);
    kiln_kv begin = kiln_k_mul_imm(k, share, dot->share_columns);
    kiln_kv end = kiln_k_add_imm(k, begin, dot->share_columns);
    dot->share_begin = begin;
    kiln_kv last = kiln_k_const_i64(k, dot->share_blocks - 1);
    dot->batch = kiln_k_const_i64(k, 0);
    dot->first_column =
        kiln_k_binary(k, KILN_K_add, begin, kiln_k_mul_imm(k, block, dot->block_columns));
    dot->column_end = kiln_k_select(k, kiln_k_binary(k, KILN_K_le, last, block), end,
                                    kiln_k_add_imm(k, dot->first_column, dot->block_columns));
}

/* Rows first … end of k of `n` panels, the first of which begins at `column`. */
static void pack_rows(kiln_dot *dot, kiln_kv column, kiln_kv first, kiln_kv end, uint32_t n)
{
    kiln_kernel *k = dot->lower->kernel;
    uint32_t b = dot->b.source.buffer;
    kiln_kv from = kiln_dot_b_offset(dot, column), to = kiln_dot_column_offset(dot, column);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1);
    from = kiln_k_binary(k, KILN_K_add, from, kiln_k_mul_imm(k, at, dot->b.k_step));
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, at, KILN_PANEL));
    for (uint32_t panel = 0; panel < n; panel++)
        kiln_k_prefetch(k, b, kiln_k_add_imm(k, from, panel * KILN_PANEL + AHEAD * dot->b.k_step));
    for (uint32_t v = 0; v < n * KILN_PANEL; v += dot->lanes) {
        int64_t place = v / KILN_PANEL * dot->roles.k_size * KILN_PANEL + v % KILN_PANEL;
        kiln_kv value = kiln_k_load(k, b, kiln_k_add_imm(k, from, v), dot->lanes, 0, 0);
        kiln_k_store(k, dot->panels, kiln_k_add_imm(k, to, place), value, 0, KILN_MEM_ALIGNED);
    }
    kiln_k_end(k);
}

/* The same for all columns first … end, n panels at a time. */
static void pack_columns(kiln_dot *dot, kiln_kv first, kiln_kv end, kiln_kv band, uint32_t n)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv all = kiln_k_const_i64(k, dot->roles.k_size);
    kiln_kv band_end = kiln_k_min(k, kiln_k_add_imm(k, band, BAND), all);
    kiln_kv column = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, n * KILN_PANEL);
    uint32_t mark = kiln_lower_mark(lower);
    pack_rows(dot, column, band, band_end, n);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_dot_pack_panels(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), all = kiln_k_const_i64(k, dot->roles.k_size);
    kiln_kv columns = kiln_k_binary(k, KILN_K_sub, dot->column_end, dot->first_column);
    kiln_kv rest = kiln_k_rem_imm(k, columns, GROUP * KILN_PANEL);
    kiln_kv whole = kiln_k_binary(k, KILN_K_sub, dot->column_end, rest);
    kiln_kv band = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, all, BAND);
    uint32_t mark = kiln_lower_mark(lower);
    pack_columns(dot, dot->first_column, whole, band, GROUP);
    pack_columns(dot, whole, dot->column_end, band, 1);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
