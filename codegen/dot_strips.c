/* Strips: columns of B that a tile of a brief product packs into a local before its rows pass by,
 * a vector of them for each k, vector after vector. Where k is contiguous, squares are read along k
 * and turned in memory: as many equal rounds as a lane's number has bits, each of which zips the
 * rows of the upper half with those of the lower one, so that the code is one round in loops. */
#include "base/checked.h"
#include "codegen/lower_dot.h"
#include "codegen/math.h"

static int64_t strip_elements(const kiln_dot *dot)
{
    return dot->k_block_size * dot->lanes * dot->vectors;
}

void kiln_dot_use_strips(kiln_dot *dot)
{
    dot->b.mode = KILN_DOT_STRIPS;
    dot->b_is_by_k = kiln_dot_columns_are_along_k(dot);
    dot->k_block_size = kiln_max_i64(dot->roles.k_size, dot->b_is_by_k ? dot->lanes : 1);
    dot->b.k_step = dot->lanes;
}

int64_t kiln_dot_strip_bytes(const kiln_dot *dot)
{
    return strip_elements(dot) * (int64_t)kiln_dtype_bytes(dot->dtype);
}

void kiln_dot_add_strips(kiln_dot *dot)
{
    int64_t n, spare = dot->b_is_by_k ? (int64_t)dot->lanes * dot->lanes : 0;
    int64_t strips = kiln_ceil_div(dot->block_columns, (int64_t)dot->vectors * dot->lanes);
    if (!kiln_checked_mul(strip_elements(dot), strips, &n) || !kiln_checked_add(n, spare, &n))
        kiln_fail(dot->lower->scope, KILN_LIMIT,
                  "group %s: strips overflow; expected fewer columns", dot->lower->group->label);
    dot->b.source.buffer = kiln_kernel_add_local(dot->lower->kernel, dot->dtype, n);
    dot->b.source.dtype = KILN_NO_DTYPE;
}

kiln_kv kiln_dot_strip_offset(kiln_dot *dot, kiln_kv column)
{
    kiln_kernel *k = dot->lower->kernel;
    column = kiln_k_binary(k, KILN_K_sub, column, dot->first_column);
    return kiln_k_mul_imm(k, column, dot->k_block_size);
}

/* Elements of B that the lanes hold, in the dtype of the sums. */
static kiln_kv load_lanes(kiln_dot *dot, kiln_axis_index column, kiln_axis_index at, kiln_kv mask)
{
    kiln_lower *lower = dot->lower;
    lower->lanes = dot->lanes;
    lower->mask = mask;
    kiln_index index = kiln_dot_b_index(dot, column, at);
    kiln_kv value = kiln_lower_value(lower, dot->b.value, &index);
    lower->mask = 0;
    value = kiln_k_convert(lower->kernel, value, dot->dtype);
    return kiln_k_splat(lower->kernel, value, dot->lanes);
}

static void store(kiln_dot *dot, kiln_kv at, kiln_kv value)
{
    kiln_k_store(dot->lower->kernel, dot->b.source.buffer, at, value, 0, KILN_MEM_ALIGNED);
}

static kiln_kv load(kiln_dot *dot, kiln_kv at)
{
    return kiln_k_load(dot->lower->kernel, dot->b.source.buffer, at, dot->lanes, 0,
                       KILN_MEM_ALIGNED);
}

/* A vector of columns for each k; `to` is the strip, `column` its first column. */
static void pack_along_columns(kiln_dot *dot, kiln_kv to, kiln_kv column)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = dot->roles.n_size, last = (int64_t)(dot->vectors - 1) * dot->lanes;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, dot->roles.k_size);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, at, dot->lanes));
    for (uint32_t v = 0; v < dot->vectors; v++) {
        int64_t first = (int64_t)v * dot->lanes;
        kiln_axis_index columns = kiln_axis_vector(kiln_k_add_imm(k, column, first), 1);
        kiln_kv mask = first == last && first + dot->lanes > n
                           ? kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, n - first))
                           : 0;
        kiln_kv value = load_lanes(dot, columns, kiln_axis_scalar(at, 1), mask);
        store(dot, kiln_k_add_imm(k, to, first * dot->k_block_size), value);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* The rows of a square to `to`: row i is k `at` … of column first + i; where there are fewer
 * columns than a vector has lanes, the last one stands for those past it. */
static void read_square(kiln_dot *dot, kiln_kv first, kiln_kv at, kiln_kv to)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = dot->roles.n_size, size = dot->roles.k_size;
    kiln_kv zero = kiln_k_const_i64(k, 0), lanes = kiln_k_const_i64(k, dot->lanes), mask = 0;
    if (size < dot->lanes) mask = kiln_k_active(k, dot->lanes, kiln_k_const_i64(k, size));
    kiln_kv i = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, lanes, 1);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv column = kiln_k_binary(k, KILN_K_add, first, i);
    if (n < (int64_t)dot->vectors * dot->lanes)
        column = kiln_k_min(k, column, kiln_k_const_i64(k, n - 1));
    kiln_kv row = load_lanes(dot, kiln_axis_scalar(column, 1), kiln_axis_vector(at, 1), mask);
    store(dot, kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, i, dot->lanes)), row);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* One round: rows p of both halves, zipped, become rows 2p and 2p + 1. */
static void zip_rows(kiln_dot *dot, kiln_kv from, kiln_kv to)
{
    kiln_kernel *k = dot->lower->kernel;
    int64_t low[KILN_K_MAX_LANES], high[KILN_K_MAX_LANES], n = dot->lanes;
    for (int64_t i = 0; i < n; i++) {
        low[i] = i / 2 + i % 2 * n;
        high[i] = low[i] + n / 2;
    }
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, n * n / 2);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, n);
    from = kiln_k_binary(k, KILN_K_add, from, at);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, at, 2));
    kiln_kv a = load(dot, from), b = load(dot, kiln_k_add_imm(k, from, n * n / 2));
    store(dot, to, kiln_k_shuffle(k, a, b, (uint32_t)n, low));
    store(dot, kiln_k_add_imm(k, to, n), kiln_k_shuffle(k, a, b, (uint32_t)n, high));
    kiln_k_end(k);
}

/* Turns the square at `from`; the last of the rounds, to and fro, writes it to its place. */
static void turn_square(kiln_dot *dot, kiln_kv from, kiln_kv to, uint32_t n_rounds)
{
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, n_rounds);
    kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    kiln_kv source = kiln_k_carry(k, from), target = kiln_k_carry(k, to);
    zip_rows(dot, source, target);
    kiln_k_next(k, source, target);
    kiln_k_next(k, target, source);
    kiln_k_end(k);
}

/* Square after square along k, the last of which begins earlier, a vector of columns after the
 * other. */
static void pack_along_k(kiln_dot *dot, kiln_kv to, kiln_kv column)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t lanes = dot->lanes, size = dot->roles.k_size;
    int64_t strips = kiln_ceil_div(dot->block_columns, dot->vectors * lanes);
    kiln_kv spare = kiln_k_const_i64(k, strip_elements(dot) * strips);
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, size);
    uint32_t n_rounds = (uint32_t)__builtin_ctz(dot->lanes);
    kiln_kv width = kiln_k_const_i64(k, dot->vectors * lanes);
    kiln_kv vector = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, width, lanes);
    uint32_t outer = kiln_lower_mark(lower);
    kiln_kv first = kiln_k_binary(k, KILN_K_add, column, vector);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, vector, dot->k_block_size));
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, lanes);
    uint32_t inner = kiln_lower_mark(lower);
    if (size > lanes && size % lanes) at = kiln_k_min(k, at, kiln_k_const_i64(k, size - lanes));
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, at, lanes));
    kiln_kv begin = n_rounds % 2 ? spare : to, other = n_rounds % 2 ? to : spare;
    read_square(dot, first, at, begin);
    turn_square(dot, begin, other, n_rounds);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}

void kiln_dot_pack_strip(kiln_dot *dot, kiln_kv place, kiln_kv column)
{
    kiln_kv to = kiln_dot_strip_offset(dot, place);
    if (dot->b_is_by_k)
        pack_along_k(dot, to, column);
    else
        pack_along_columns(dot, to, column);
}
