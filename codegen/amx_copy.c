/* The first operand of a contraction by tiles. It is read in place when it is bf16, row-major,
 * whole in steps and tiles, and its rows do not fight for one set of the first cache; else a block
 * of rows is copied to a local, [row][part][k], rounded or split, zeros past k. Rows past the last
 * one hold anything: they only reach sums that are not stored. */
#include "codegen/amx.h"

#include "base/checked.h"
#include "codegen/math.h"

#define LINE 64
#define SAME_SET_BYTES 1024 /* rows at multiples of this share few sets */

static kiln_dtype a_dtype(const kiln_amx *amx)
{
    return kiln_graph_type(amx->dot.lower->graph, amx->dot.a.value)->dtype;
}

void kiln_amx_find_rows(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    bool is_regular = kiln_dot_rows_are_regular(dot);
    bool is_whole = dot->roles.k_size == amx->k_padded && dot->roles.m_size % KILN_TILE_SIDE == 0;
    dot->a.mode = KILN_DOT_COPY_K;
    amx->is_by_m = is_regular && dot->a.step == 1 && dot->a.k_step != 1;
    if (!is_regular || !is_whole || dot->a.k_step != 1 || a_dtype(amx) != KILN_bf16) return;
    if (dot->a.step * 2 % SAME_SET_BYTES) dot->a.mode = KILN_DOT_DIRECT;
}

void kiln_amx_add_local(kiln_amx *amx)
{
    kiln_dot *dot = &amx->dot;
    int64_t per_word = amx->is_by_m ? 2 : 1; /* elements of bf16 in one of the local */
    amx->a_step = KILN_TILE_K / per_word;
    if (dot->a.mode == KILN_DOT_DIRECT) return;
    int64_t lines = (amx->n_parts * amx->k_block * 2 / LINE) | 1; /* odd: rows in different sets */
    kiln_dtype dtype = amx->is_by_m ? KILN_u32 : KILN_u16;
    amx->a_part = amx->k_block / per_word;
    dot->a.step = lines * LINE / (int64_t)kiln_dtype_bytes(dtype);
    dot->a.source.dtype = KILN_NO_DTYPE;
    dot->a.source.buffer =
        kiln_kernel_add_local(dot->lower->kernel, dtype, dot->block_rows * dot->a.step);
}

/* 16 or 32 elements of a row from `at` on to element `to`; `left` of them exist. */
static void copy_elements(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv to, int64_t left)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = lower->lanes;
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

static void copy_rows_by_k(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    int64_t size = amx->k_here;
    uint32_t lanes = a_dtype(amx) == KILN_bf16 ? 2 * KILN_TILE_SIDE : KILN_TILE_SIDE;
    int64_t whole = size / lanes * lanes;
    lower->lanes = lanes;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv to = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, row, first), amx->dot.a.step);
    kiln_kv zero = kiln_k_const_i64(k, 0), stop = kiln_k_const_i64(k, whole);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, stop, lanes);
    uint32_t inner = kiln_lower_mark(lower);
    kiln_kv from = kiln_k_binary(k, KILN_K_add, amx->k_first, at);
    copy_elements(amx, row, from, kiln_k_binary(k, KILN_K_add, to, at), lanes);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    for (int64_t rest = whole; rest < amx->k_here_padded; rest += lanes) {
        kiln_kv here = kiln_k_add_imm(k, amx->k_first, rest);
        copy_elements(amx, row, here, kiln_k_add_imm(k, to, rest), size - rest);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* The parts of 16 rows at `at` of k. */
static void load_rows(kiln_amx *amx, kiln_kv row, kiln_kv at, kiln_kv *out_parts)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv last = kiln_k_const_i64(k, amx->dot.roles.k_size - 1);
    bool is_whole = amx->k_here == amx->k_here_padded;
    kiln_kv inside = is_whole ? at : kiln_k_min(k, at, last);
    kiln_index index =
        kiln_dot_a_index(&amx->dot, kiln_axis_vector(row, 1), kiln_axis_scalar(inside, 1));
    kiln_kv value =
        kiln_k_splat(k, kiln_lower_value(lower, amx->dot.a.value, &index), lower->lanes);
    kiln_bf16_parts_of(k, value, a_dtype(amx), amx->n_parts, out_parts);
    if (is_whole) return;
    kiln_kv is_inside = kiln_k_splat(k, kiln_k_binary(k, KILN_K_le, at, last), lower->lanes);
    kiln_kv zero = kiln_k_const_bits(k, KILN_u32, lower->lanes, 0);
    for (uint32_t p = 0; p < amx->n_parts; p++)
        out_parts[p] = kiln_k_select(k, is_inside, out_parts[p], zero);
}

/* A that is contiguous in m: 16 rows along the lanes, pairs of k scattered to their rows. */
static void copy_rows_by_m(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    kiln_lower *lower = amx->dot.lower;
    kiln_kernel *k = lower->kernel;
    lower->lanes = KILN_TILE_SIDE;
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, KILN_TILE_SIDE);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv mask = kiln_k_active(k, lower->lanes, kiln_k_binary(k, KILN_K_sub, end, row));
    kiln_kv steps = kiln_k_lanes(k, KILN_i64, lower->lanes);
    kiln_kv stride = kiln_k_const_int(k, KILN_i64, lower->lanes, amx->dot.a.step);
    kiln_kv base = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, row, first), amx->dot.a.step);
    steps = kiln_k_binary(k, KILN_K_mul, steps, stride);
    kiln_kv zero = kiln_k_const_i64(k, 0), pairs = kiln_k_const_i64(k, amx->k_here_padded / 2);
    kiln_kv pair = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, pairs, 1);
    uint32_t inner = kiln_lower_mark(lower);
    kiln_kv even[3], odd[3], at = kiln_k_mul_imm(k, pair, 2);
    at = kiln_k_binary(k, KILN_K_add, amx->k_first, at);
    lower->mask = mask;
    load_rows(amx, row, at, even);
    load_rows(amx, row, kiln_k_add_imm(k, at, 1), odd);
    lower->mask = 0;
    for (uint32_t p = 0; p < amx->n_parts; p++) {
        kiln_kv word = kiln_bf16_pair(k, even[p], odd[p]);
        kiln_kv to = kiln_k_add_imm(k, kiln_k_binary(k, KILN_K_add, base, pair), p * amx->a_part);
        to = kiln_k_binary(k, KILN_K_add, kiln_k_splat(k, to, lower->lanes), steps);
        kiln_k_scatter(k, amx->dot.a.source.buffer, to, word, mask);
    }
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_amx_copy_rows(kiln_amx *amx, kiln_kv first, kiln_kv end)
{
    if (amx->dot.a.mode == KILN_DOT_DIRECT) return;
    if (amx->is_by_m)
        copy_rows_by_m(amx, first, end);
    else
        copy_rows_by_k(amx, first, end);
}
