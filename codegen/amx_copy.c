/* The first operand of a contraction by tiles. It is read in place when it is bf16 or bytes,
 * row-major, whole in steps and tiles, its rows do not fight for one set of the first cache and few
 * columns read them; else a block of rows is copied to a local, [row / 16][part][k / 32][row %
 * 16][k % 32], rounded or split, zeros past k. Rows past the last one hold anything: they only
 * reach sums that are not stored. */
#include "codegen/amx.h"

#include "base/checked.h"
#include "codegen/math.h"

#define SAME_SET_BYTES 1024   /* rows at multiples of this fight for one set */
#define MANY_COLUMNS 256      /* tiles whose lines lie together load faster, which pays from here */
#define MANY_MOVED_COLUMNS 33 /* a second register tile moves the same bytes once more */

static kiln_dtype a_dtype(const kiln_amx *amx)
{
    return kiln_graph_type(amx->dot.lower->graph, amx->dot.a.value)->dtype;
}

static bool is_byte(const kiln_amx *amx)
{
    return kiln_dtype_bytes(amx->element) == 1;
}

/* Whether the elements stand in memory as tiles want them. */
static bool is_plain(const kiln_amx *amx)
{
    return is_byte(amx) || a_dtype(amx) == KILN_bf16;
}

void kiln_amx_find_rows(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    if (amx->copy) {
        dot->a.mode = KILN_DOT_COPY_K;
        return;
    }
    bool is_regular = kiln_dot_rows_are_regular(dot);
    bool is_whole = dot->roles.k_size == amx->k_padded && dot->roles.m_size % KILN_TILE_SIDE == 0;
    dot->a.mode = KILN_DOT_COPY_K;
    amx->is_by_m = is_regular && dot->a.step == 1 && dot->a.k_step != 1;
    if (!is_regular || !is_whole || dot->a.k_step != 1 || !is_plain(amx)) return;
    if (dot->roles.n_size >= (amx->is_moved ? MANY_MOVED_COLUMNS : MANY_COLUMNS)) return;
    if (dot->a.step * (64 / amx->tile_k) % SAME_SET_BYTES) dot->a.mode = KILN_DOT_DIRECT;
}

void kiln_amx_add_local(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    if (amx->add_local) {
        amx->add_local(amx);
        return;
    }
    int64_t per_word = amx->is_by_m ? amx->tile_k / 16 : 1; /* elements in one of the local */
    amx->a_row = amx->a_step = amx->tile_k;
    if (dot->a.mode == KILN_DOT_DIRECT) {
        amx->a_row = dot->a.step;
        amx->a_tile = dot->a.step * KILN_TILE_SIDE;
        return;
    }
    amx->a_row /= per_word;
    amx->a_step = amx->a_row * KILN_TILE_SIDE;
    amx->a_part = amx->k_block / amx->tile_k * amx->a_step;
    amx->a_tile = amx->a_part * amx->n_parts;
    dot->a.source.dtype = KILN_NO_DTYPE;
    int64_t n_tiles = kiln_ceil_div(dot->block_rows, KILN_TILE_SIDE);
    dot->a.source.buffer = kiln_kernel_add_local(
        dot->lower->kernel, amx->is_by_m ? KILN_u32 : amx->element, n_tiles * amx->a_tile);
}

kiln_kv kiln_amx_row_offset(kiln_amx *amx, kiln_kv row)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    if (amx->row_offset) return amx->row_offset(amx, row);
    if (amx->dot.a.mode == KILN_DOT_DIRECT) return kiln_dot_row_offset(&amx->dot, row);
    kiln_kv in_block = kiln_k_binary(k, KILN_K_sub, row, amx->dot.first_row);
    kiln_kv tile = kiln_k_div_imm(k, in_block, KILN_TILE_SIDE);
    kiln_kv at = kiln_k_mul_imm(k, tile, amx->a_tile);
    return kiln_k_binary(
        k, KILN_K_add, at,
        kiln_k_mul_imm(k, kiln_k_rem_imm(k, in_block, KILN_TILE_SIDE), amx->a_row));
}

kiln_kv kiln_amx_moved(const kiln_amx *amx, kiln_kv value)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    if (!amx->is_moved) return value;
    const kiln_instr *instr = kiln_kernel_at(k, value);
    kiln_kv move = kiln_k_const_bits(k, instr->dtype, instr->lanes, KILN_AMX_MOVE);
    return kiln_k_binary(k, KILN_K_xor, value, move);
}

/* 64 bytes of a row from `at` on to element `to`; `left` of them exist. */
static void copy_bytes(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv to, int64_t left)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    lower->mask = kiln_k_active(k, lower->lanes, kiln_k_const_i64(k, left));
    kiln_index index =
        kiln_dot_a_index(&amx->dot, kiln_axis_scalar(row, 1), kiln_axis_vector(at, 1));
    kiln_kv value = kiln_lower_value(lower, amx->dot.a.value, &index);
    value = kiln_k_splat(k, value, lower->lanes);
    kiln_kv zero = kiln_k_const_bits(k, amx->element, lower->lanes, 0);
    if (lower->mask) value = kiln_k_select(k, lower->mask, value, zero);
    lower->mask = 0;
    kiln_k_store(k, amx->dot.a.source.buffer, to, kiln_amx_moved(amx, value), 0, 0);
}

/* 16 or 32 elements of a row from `at` on to element `to`; `left` of them exist. */
static void copy_elements(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv to, int64_t left)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = lower->lanes;
    if (is_byte(amx)) {
        copy_bytes(amx, row, at, to, left);
        return;
    }
    kiln_kv parts[3], zero = kiln_k_const_bits(k, KILN_u32, lanes, 0);
    for (uint32_t p = 0; p < amx->n_parts; p++) parts[p] = zero;
    if (left > 0) {
        kiln_kv mask = kiln_k_active(k, lanes, kiln_k_const_i64(k, left));
        lower->mask = mask;
        kiln_index index =
            kiln_dot_a_index(&amx->dot, kiln_axis_scalar(row, 1), kiln_axis_vector(at, 1));
        kiln_kv value = kiln_lower_value(lower, amx->dot.a.value, &index);
        value = kiln_k_splat(k, value, lanes);
        kiln_bf16_parts_of(k, value, a_dtype(amx), amx->n_parts, parts);
        for (uint32_t p = 0; mask && p < amx->n_parts; p++)
            parts[p] = kiln_k_select(k, mask, parts[p], zero);
        lower->mask = 0;
    }
    for (uint32_t p = 0; p < amx->n_parts; p++) {
        kiln_kv half =
            kiln_k_binary(k, KILN_K_shr, parts[p], kiln_k_const_bits(k, KILN_u32, lanes, 16));
        half = kiln_k_convert(k, half, KILN_u16);
        kiln_k_store(k, amx->dot.a.source.buffer, kiln_k_add_imm(k, to, p * amx->a_part), half, 0,
                     0);
    }
}

/* The steps of row `row`, a line of bf16 each. */
static void copy_rows_by_k(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = (uint32_t)(is_plain(amx) ? amx->tile_k : amx->tile_k / 2);
    int64_t whole = amx->k_here / amx->tile_k, n_steps = amx->k_here_padded / amx->tile_k;
    lower->lanes = lanes;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv to = kiln_amx_row_offset(amx, row);
    kiln_kv zero = kiln_k_const_i64(k, 0), stop = kiln_k_const_i64(k, whole);
    kiln_kv step = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, stop, 1);
    uint32_t inner = kiln_lower_mark(lower);
    kiln_kv from = kiln_k_mul_imm(k, step, amx->tile_k);
    from = kiln_k_binary(k, KILN_K_add, amx->k_first, from);
    kiln_kv at = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, step, amx->a_step));
    for (uint32_t i = 0; i < amx->tile_k; i += lanes)
        copy_elements(amx, row, kiln_k_add_imm(k, from, i), kiln_k_add_imm(k, at, i), lanes);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    for (uint32_t i = 0; whole < n_steps && i < amx->tile_k; i += lanes) {
        int64_t here = whole * amx->tile_k + i;
        from = kiln_k_add_imm(k, amx->k_first, here);
        at = kiln_k_add_imm(k, to, whole * amx->a_step + i);
        copy_elements(amx, row, from, at, amx->k_here - here);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* Element `at` of k of 16 rows, past the last k anything. */
static kiln_kv row_values(kiln_amx *amx, kiln_kv row, kiln_kv at)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_index index =
        kiln_dot_a_index(&amx->dot, kiln_axis_vector(row, 1), kiln_axis_scalar(at, 1));
    return kiln_k_splat(lower->kernel, kiln_lower_value(lower, amx->dot.a.value, &index),
                        lower->lanes);
}

/* The same of bytes: what meets zeros of B may be any of them. */
static kiln_kv load_byte(kiln_amx *amx, kiln_kv row, kiln_kv at)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    bool is_whole = amx->k_here == amx->k_here_padded;
    if (!is_whole) at = kiln_k_min(k, at, kiln_k_const_i64(k, amx->dot.roles.k_size - 1));
    return row_values(amx, row, at);
}

/* The parts of 16 rows at `at` of k. */
static void load_rows(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv *out_parts)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv last = kiln_k_const_i64(k, amx->dot.roles.k_size - 1);
    bool is_whole = amx->k_here == amx->k_here_padded;
    kiln_kv value = row_values(amx, row, is_whole ? at : kiln_k_min(k, at, last));
    kiln_bf16_parts_of(k, value, a_dtype(amx), amx->n_parts, out_parts);
    if (is_whole) return;
    kiln_kv is_inside = kiln_k_splat(k, kiln_k_binary(k, KILN_K_le, at, last), lower->lanes);
    kiln_kv zero = kiln_k_const_bits(k, KILN_u32, lower->lanes, 0);
    for (uint32_t p = 0; p < amx->n_parts; p++)
        out_parts[p] = kiln_k_select(k, is_inside, out_parts[p], zero);
}

/* The words of 16 rows at `at` of k: two bf16 numbers of each part, or four bytes. */
static void load_words(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv *out_words)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    if (is_byte(amx)) {
        kiln_kv bytes[4];
        for (uint32_t i = 0; i < 4; i++) bytes[i] = load_byte(amx, row, kiln_k_add_imm(k, at, i));
        out_words[0] = kiln_amx_moved(amx, kiln_byte_word(k, bytes));
        return;
    }
    kiln_kv even[3], odd[3];
    load_rows(amx, row, at, even);
    load_rows(amx, row, kiln_k_add_imm(k, at, 1), odd);
    for (uint32_t p = 0; p < amx->n_parts; p++) out_words[p] = kiln_bf16_pair(k, even[p], odd[p]);
}

/* A that is contiguous in m: 16 rows along the lanes, words of k scattered to their rows. */
static void copy_rows_by_m(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    lower->lanes = KILN_TILE_SIDE;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, KILN_TILE_SIDE);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv mask = kiln_k_active(k, lower->lanes, kiln_k_binary(k, KILN_K_sub, end, row));
    kiln_kv steps = kiln_k_lanes(k, KILN_i64, lower->lanes);
    kiln_kv stride = kiln_k_const_int(k, KILN_i64, lower->lanes, amx->a_row);
    kiln_kv base = kiln_amx_row_offset(amx, row);
    steps = kiln_k_binary(k, KILN_K_mul, steps, stride);
    int64_t per_word = amx->tile_k / 16;
    kiln_kv zero = kiln_k_const_i64(k, 0), n = kiln_k_const_i64(k, amx->k_here_padded / per_word);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, n, 1);
    uint32_t inner = kiln_lower_mark(lower);
    kiln_kv words[3], at = kiln_k_mul_imm(k, number, per_word);
    at = kiln_k_binary(k, KILN_K_add, amx->k_first, at);
    lower->mask = mask;
    load_words(amx, row, at, words);
    lower->mask = 0;
    kiln_kv step = kiln_k_mul_imm(k, kiln_k_div_imm(k, number, KILN_TILE_SIDE), amx->a_step);
    kiln_kv place = kiln_k_binary(k, KILN_K_add, step, kiln_k_rem_imm(k, number, KILN_TILE_SIDE));
    for (uint32_t p = 0; p < amx->n_parts; p++) {
        kiln_kv to = kiln_k_add_imm(k, kiln_k_binary(k, KILN_K_add, base, place), p * amx->a_part);
        to = kiln_k_binary(k, KILN_K_add, kiln_k_splat(k, to, lower->lanes), steps);
        kiln_k_scatter(k, amx->dot.a.source.buffer, to, words[p], mask);
    }
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_amx_copy_rows(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    if (amx->dot.a.mode == KILN_DOT_DIRECT) return;
    if (amx->copy)
        amx->copy(amx, first, end);
    else if (amx->is_by_m)
        copy_rows_by_m(amx, first, end);
    else
        copy_rows_by_k(amx, first, end);
}
