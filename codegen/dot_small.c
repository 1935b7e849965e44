/* A dot with fewer than 16 results (0 included): every result is a row reduction of 64 lanes:
 * element k goes to lane k mod 64, the lanes are added by halves. A tile is one result. */
#include "codegen/lower_dot.h"
#include "codegen/math.h"
#include "kiln/program.h"

#define ROW_LANES 64

/* B's elements k … in the lanes, from panels or through its views. */
static kiln_kv load_b(kiln_dot *dot, kiln_kv column, kiln_axis_index at)
{
    kiln_lower *lower = dot->lower;
    if (dot->b.mode != KILN_DOT_PANELS) {
        kiln_index index = kiln_dot_b_index(dot, kiln_axis_scalar(column, 1), at);
        return kiln_lower_value(lower, dot->b.value, &index);
    }
    kiln_kernel *k = lower->kernel;
    int64_t k_size = dot->roles.k_size; /* fewer than 16 columns: one panel a batch */
    kiln_kv base = kiln_k_mul_imm(k, dot->batch, k_size);
    base = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_add, base, at.base), KILN_PANEL);
    kiln_access access = {.buffer = dot->b.source.buffer, .dtype = dot->b.source.dtype,
                          .lanes = lower->lanes, .mask = lower->mask};
    access.offset = kiln_axis_scalar(kiln_k_binary(k, KILN_K_add, base, column), 1);
    access.offset.step = KILN_PANEL;
    return kiln_lower_load_at(lower, &access);
}

static kiln_kv add_products(kiln_dot *dot, kiln_kv row, kiln_kv column, kiln_kv at, kiln_kv sum)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_index index =
        kiln_dot_a_index(dot, kiln_axis_scalar(row, 1), kiln_axis_vector(at, ROW_LANES));
    kiln_kv a = kiln_k_convert(k, kiln_lower_value(lower, dot->a.value, &index), dot->dtype);
    kiln_kv b = kiln_k_convert(k, load_b(dot, column, kiln_axis_vector(at, ROW_LANES)), dot->dtype);
    bool is_float = kiln_dtype_is_float(dot->dtype);
    kiln_kv next = is_float ? kiln_k_fma(k, a, b, sum)
                            : kiln_k_binary(k, KILN_K_add, sum, kiln_k_binary(k, KILN_K_mul, a, b));
    /* operands that all lanes share are not 0 where the mask is off */
    return lower->mask ? kiln_k_select(k, lower->mask, next, sum) : next;
}

static kiln_kv add_lanes(kiln_kernel *k, kiln_kv sum)
{
    for (uint32_t half = ROW_LANES / 2; half > 0; half /= 2) {
        int64_t low[ROW_LANES], high[ROW_LANES];
        for (uint32_t i = 0; i < half; i++) {
            low[i] = i;
            high[i] = i + half;
        }
        kiln_kv a = kiln_k_shuffle(k, sum, 0, half, low);
        kiln_kv b = kiln_k_shuffle(k, sum, 0, half, high);
        sum = kiln_k_binary(k, KILN_K_add, a, b);
    }
    return sum;
}

/* The sum over k for one result. */
static kiln_kv row_sum(kiln_dot *dot, kiln_kv row, kiln_kv column)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t size = dot->roles.k_size, whole = size / ROW_LANES * ROW_LANES;
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    kiln_kv start = kiln_k_const_bits(k, dot->dtype, ROW_LANES, 0);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, ROW_LANES);
    kiln_kv carry = kiln_k_carry(k, start);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv next = add_products(dot, row, column, at, carry);
    kiln_lower_cut(lower, mark);
    kiln_k_next(k, carry, next);
    kiln_k_end(k);
    kiln_kv sum = kiln_k_last(k, carry);
    if (whole < size) {
        lower->mask = kiln_k_active(k, ROW_LANES, kiln_k_const_i64(k, size - whole));
        sum = add_products(dot, row, column, end, sum);
        lower->mask = 0;
    }
    return add_lanes(k, sum);
}

static void emit_result(kiln_dot *dot, kiln_kv number)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv column = kiln_k_rem_imm(k, number, dot->roles.n_size);
    kiln_kv rest = kiln_k_div_imm(k, number, dot->roles.n_size);
    kiln_kv row = kiln_k_rem_imm(k, rest, dot->roles.m_size);
    dot->batch = kiln_k_div_imm(k, rest, dot->roles.m_size);
    lower->lanes = ROW_LANES;
    kiln_tile tile = {.lower = lower, .dtype = dot->dtype, .lanes = 1, .rows = 1, .vectors = 1};
    tile.sums[0] = row_sum(dot, row, column);
    kiln_epilogue_emit(&dot->epilogue, &tile, row, kiln_axis_scalar(column, 1), 1);
}

void kiln_dot_lower_small(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    dot->rows = dot->vectors = 1;
    k->n_tiles = (uint32_t)kiln_graph_type(lower->graph, lower->group->anchor)->n_elements;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    if (k->n_tiles > 0) {
        kiln_dot_find_operands(dot);
        dot->epilogue = kiln_epilogue_create(lower, lower->group->anchor, dot->dtype);
        dot->epilogue.index = kiln_dot_result_index;
        dot->epilogue.user = dot;
        emit_result(dot, number);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
