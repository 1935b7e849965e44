/* PACK groups in the tile formats: a work tile is one step of k for all columns, so the operand is
 * read row by row as it mostly lies in memory, and every panel gets a stretch of its own. Rows of k
 * go in pairs (bytes in fours), two panels at a time: that is a line of bf16. What pack_tiles.c
 * does for constants. */
#include "base/checked.h"
#include "codegen/amx.h"
#include "codegen/math.h"
#include "kiln/program.h"

typedef struct packing {
    kiln_lower *lower;
    kiln_dot dot; /* roles and dims of the consumer: its B is packed */
    kiln_dtype dtype;
    uint32_t n_parts;
    int64_t tile_k, k_padded, n_panels;
    kiln_kv step; /* of k, at work */
    uint32_t buffer;
    kiln_kv first_panel; /* of the batch at work */
} packing;

static bool is_byte(const packing *p)
{
    return kiln_dtype_bytes(p->dtype) == 1;
}

/* Parts of 16 columns at row `at` of k, or their bytes, zeros outside. */
static void load_columns(packing *p, kiln_kv column, kiln_kv at, kiln_kv *out_parts)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t n = p->dot.roles.n_size, size = p->dot.roles.k_size;
    kiln_kv last = kiln_k_const_i64(k, size - 1), is_on = 0;
    kiln_kv inside = size == p->k_padded ? at : kiln_k_min(k, at, last);
    if (n % KILN_TILE_SIDE) {
        kiln_kv left = kiln_k_binary(k, KILN_K_sub, kiln_k_const_i64(k, n), column);
        lower->mask = is_on = kiln_k_active(k, lower->lanes, left);
    }
    kiln_axis_index columns = kiln_axis_vector(column, KILN_TILE_SIDE);
    kiln_index index = kiln_dot_b_index(&p->dot, columns, kiln_axis_scalar(inside, 1));
    kiln_kv value = kiln_k_splat(k, kiln_lower_value(lower, p->dot.b.value, &index), lower->lanes);
    lower->mask = 0;
    if (is_byte(p))
        out_parts[0] = value;
    else
        kiln_bf16_parts_of(k, value, p->dtype, p->n_parts, out_parts);
    if (size != p->k_padded) {
        kiln_kv is_inside = kiln_k_splat(k, kiln_k_binary(k, KILN_K_le, at, last), lower->lanes);
        is_on = kiln_lower_and(lower, is_on, is_inside);
    }
    kiln_dtype dtype = is_byte(p) ? p->dtype : KILN_u32;
    kiln_kv zero = kiln_k_const_bits(k, dtype, lower->lanes, 0);
    for (uint32_t i = 0; is_on && i < p->n_parts; i++)
        out_parts[i] = kiln_k_select(k, is_on, out_parts[i], zero);
}

/* Word `number` of the step, for panel `panel`: two rows, or four of bytes. */
static void pack_word(packing *p, kiln_kv panel, kiln_kv number)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t per_word = p->tile_k / 16, part_words = p->k_padded / per_word * KILN_TILE_SIDE;
    kiln_kv rows[4][3] = {{0}};
    kiln_kv column = kiln_lower_op_imm(lower, KILN_K_mul, panel, KILN_TILE_SIDE);
    kiln_kv at = kiln_k_mul_imm(k, p->step, p->tile_k);
    at = kiln_k_binary(k, KILN_K_add, at, kiln_k_mul_imm(k, number, per_word));
    for (int64_t i = 0; i < per_word; i++)
        load_columns(p, column, kiln_k_add_imm(k, at, i), rows[i]);
    kiln_kv to = kiln_k_binary(k, KILN_K_add, p->first_panel, panel);
    to = kiln_k_mul_imm(k, to, part_words * p->n_parts);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, p->step, KILN_TILE_WORDS));
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, number, KILN_TILE_SIDE));
    for (uint32_t i = 0; i < p->n_parts; i++) {
        kiln_kv bytes[] = {rows[0][0], rows[1][0], rows[2][0], rows[3][0]};
        kiln_kv word =
            is_byte(p) ? kiln_byte_word(k, bytes) : kiln_bf16_pair(k, rows[0][i], rows[1][i]);
        kiln_k_store(k, p->buffer, kiln_k_add_imm(k, to, i * part_words), word, 0,
                     KILN_MEM_ALIGNED);
    }
}

/* Whether the columns' k lie together in memory, whole steps of them: gathering along the columns
 * would touch a line for each element. */
static bool is_by_k(packing *p)
{
    bool is_whole = p->dot.roles.k_size == p->k_padded;
    return !is_byte(p) && p->n_parts == 1 && is_whole && kiln_dot_columns_are_along_k(&p->dot);
}

/* 16 k of a column from `at` on, rounded. */
static kiln_kv load_k(packing *p, kiln_kv column, kiln_kv at)
{
    kiln_lower *lower = p->lower;
    kiln_axis_index ks = kiln_axis_vector(at, KILN_TILE_SIDE);
    kiln_index index = kiln_dot_b_index(&p->dot, kiln_axis_scalar(column, 1), ks);
    kiln_kv part, value = kiln_lower_value(lower, p->dot.b.value, &index);
    kiln_bf16_parts_of(lower->kernel, kiln_k_splat(lower->kernel, value, lower->lanes), p->dtype, 1,
                       &part);
    return part;
}

/* 16 k of the two panels from `column` on. A word holds a column of the one and the same of the
 * other, so that one transposition in registers turns both. */
static void pack_square(packing *p, kiln_kv column, kiln_kv at, kiln_kv to)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t panel_words = p->k_padded / 2 * KILN_TILE_SIDE;
    kiln_kv words[KILN_TILE_SIDE], half = kiln_k_const_bits(k, KILN_u32, lower->lanes, 16);
    for (uint32_t i = 0; i < KILN_TILE_SIDE; i++) {
        kiln_kv low = load_k(p, kiln_k_add_imm(k, column, i), at);
        kiln_kv high = load_k(p, kiln_k_add_imm(k, column, KILN_TILE_SIDE + i), at);
        words[i] = kiln_bf16_pair(k, low, high);
    }
    kiln_lower_transpose(k, words, KILN_TILE_SIDE);
    kiln_kv upper = kiln_k_const_bits(k, KILN_u32, lower->lanes, 0xffff0000);
    for (uint32_t i = 0; i < KILN_TILE_SIDE; i += 2) {
        kiln_kv low = kiln_bf16_pair(k, kiln_k_binary(k, KILN_K_shl, words[i], half),
                                     kiln_k_binary(k, KILN_K_shl, words[i + 1], half));
        kiln_kv high =
            kiln_bf16_pair(k, words[i], kiln_k_binary(k, KILN_K_and, words[i + 1], upper));
        int64_t row = i / 2 * KILN_TILE_SIDE;
        kiln_k_store(k, p->buffer, kiln_k_add_imm(k, to, row), low, 0, KILN_MEM_ALIGNED);
        kiln_k_store(k, p->buffer, kiln_k_add_imm(k, to, panel_words + row), high, 0,
                     KILN_MEM_ALIGNED);
    }
}

/* The step of whole panels 0 … end - 1, two at a time. */
static void pack_squares(packing *p, int64_t end)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    int64_t panel_words = p->k_padded / 2 * KILN_TILE_SIDE;
    kiln_kv zero = kiln_k_const_i64(k, 0), stop = kiln_k_const_i64(k, end);
    kiln_kv panel = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, stop, 2);
    uint32_t outer = kiln_lower_mark(lower);
    kiln_kv column = kiln_k_mul_imm(k, panel, KILN_TILE_SIDE);
    kiln_kv to = kiln_k_binary(k, KILN_K_add, p->first_panel, panel);
    to = kiln_k_mul_imm(k, to, panel_words);
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, p->step, KILN_TILE_WORDS));
    kiln_kv two = kiln_k_const_i64(k, 2);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, two, 1);
    uint32_t inner = kiln_lower_mark(lower);
    kiln_kv at = kiln_k_mul_imm(k, p->step, p->tile_k);
    at = kiln_k_binary(k, KILN_K_add, at, kiln_k_mul_imm(k, number, KILN_TILE_SIDE));
    to = kiln_k_binary(k, KILN_K_add, to, kiln_k_mul_imm(k, number, KILN_TILE_WORDS / 2));
    pack_square(p, column, at, to);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}

/* Panels first … end - 1, `n` at a time. */
static void pack_panels(packing *p, int64_t first, int64_t end, uint32_t n)
{
    kiln_lower *lower = p->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv begin = kiln_k_const_i64(k, first), stop = kiln_k_const_i64(k, end);
    kiln_kv panel = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, stop, n);
    uint32_t outer = kiln_lower_mark(lower);
    kiln_kv zero = kiln_k_const_i64(k, 0), end_word = kiln_k_const_i64(k, KILN_TILE_SIDE);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end_word, 1);
    uint32_t inner = kiln_lower_mark(lower);
    for (uint32_t i = 0; i < n; i++) pack_word(p, kiln_k_add_imm(k, panel, i), number);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}

static void pack_all(packing *p)
{
    int64_t twos = p->n_panels / 2 * 2;
    if (is_by_k(p)) {
        twos = p->dot.roles.n_size / KILN_TILE_SIDE / 2 * 2;
        if (twos) pack_squares(p, twos);
    } else if (twos) {
        pack_panels(p, 0, twos, 2);
    }
    if (twos < p->n_panels) pack_panels(p, twos, p->n_panels, 1);
}

void kiln_amx_pack_local(kiln_dot *dot, uint32_t local)
{
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    packing p = {.lower = lower, .dot = *dot, .n_parts = 1, .tile_k = KILN_TILE_K, .buffer = local};
    p.dtype = kiln_graph_type(lower->graph, dot->b.value)->dtype;
    p.k_padded = kiln_round_up(dot->roles.k_size, KILN_TILE_K);
    p.n_panels = kiln_ceil_div(dot->roles.n_size, KILN_TILE_SIDE);
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, p.k_padded / KILN_TILE_K);
    lower->lanes = KILN_TILE_SIDE;
    p.first_panel = zero;
    p.step = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    pack_all(&p);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

void kiln_lower_pack_tiles(kiln_lower *lower)
{
    kiln_operand output = lower->group->outputs[0];
    kiln_kernel *k = lower->kernel;
    packing p = {.lower = lower, .dot = {.lower = lower, .dtype = KILN_f32}};
    p.dtype = kiln_graph_type(lower->graph, output.value)->dtype;
    p.n_parts = kiln_format_parts(output.format);
    p.tile_k = kiln_format_step(output.format);
    kiln_dot_roles(&lower->scope->arena, lower->graph, output.consumer, &p.dot.roles);
    kiln_dot_describe(&p.dot, output.consumer);
    p.k_padded = kiln_round_up(p.dot.roles.k_size, p.tile_k);
    p.n_panels = kiln_ceil_div(p.dot.roles.n_size, KILN_TILE_SIDE);
    int64_t n_steps = p.k_padded / p.tile_k, n = n_steps * p.dot.roles.batch_size;
    if (n > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: more than 2^32 - 1 steps; expected fewer",
                  lower->group->label);
    k->n_tiles = (uint32_t)n;
    k->is_pack = true;
    lower->lanes = KILN_TILE_SIDE;
    kiln_kv begin = kiln_k_tile_begin(k), end = kiln_k_tile_end(k);
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, begin, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    p.step = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_steps);
    p.dot.batch = kiln_lower_op_imm(lower, KILN_K_div, tile, n_steps);
    p.buffer = lower->buffer_of[lower->group->n_inputs];
    p.first_panel = kiln_k_mul_imm(k, p.dot.batch, p.n_panels);
    pack_all(&p);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
