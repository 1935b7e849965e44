/* Weights widened as a product reads them (passes/weights.h): codes in panels of bytes or of two
 * codes a byte, and tables of what stays the same along a block of k. With few rows every vector of
 * codes is widened in registers, once for all rows of the tile; with many, the columns at work are
 * widened into a local that all rows read. Four-bit codes take their first steps, as long as they
 * depend on the code alone, in one permutation of sixteen entries. The numbers are those that the
 * graph computes, so the sums are those of weights that were widened before. */
#include "base/checked.h"
#include "codegen/lower_dot.h"
#include "codegen/math.h"
#include "kiln/program.h"
#include "passes/weights.h"

#define MOST_ROWS 12 /* in registers; more rows pay for a copy */
#define MOST_VECTORS 4
#define NIBBLES 16

typedef struct widen_table {
    uint32_t buffer;
    kiln_dtype dtype;
    int64_t block, n_blocks;
    kiln_kv entries[KILN_TILE_VECTORS]; /* of the block at work */
} widen_table;

struct kiln_dot_widen {
    kiln_dot *dot;
    kiln_weights weights;
    bool is_nibbles, is_lookup[KILN_WEIGHT_NODES]; /* a node that follows from the code alone */
    uint32_t top, lookup; /* the last such node and its table; KILN_NONE: none */
    uint32_t buffer;
    kiln_dtype dtype; /* of the codes */
    int64_t pitch;    /* bytes or elements of a column in the panels */
    widen_table tables[KILN_WEIGHT_TABLES];
    kiln_kv column;                                               /* of the first vector */
    kiln_kv pair_at[KILN_TILE_VECTORS], pairs[KILN_TILE_VECTORS]; /* the codes loaded last */
    int64_t pair_step[KILN_TILE_VECTORS];
};

static uint32_t find_input(const kiln_lower *lower, kiln_value value, bool is_table)
{
    const kiln_group *group = lower->group;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *input = &group->inputs[i];
        bool is_right = input->consumer.id == group->anchor.id && input->value.id == value.id &&
                        input->format != KILN_FORMAT_DENSE;
        if (is_right && is_table == (input->format == KILN_FORMAT_TABLE16)) return i;
    }
    return KILN_NONE;
}

static uint32_t node_number(const kiln_weights *weights, kiln_value value)
{
    for (uint32_t i = 0; i < weights->n_nodes; i++)
        if (weights->nodes[i].id == value.id) return i;
    return KILN_NONE;
}

/* Ops whose results do not depend on who computes them. */
static bool is_exact(kiln_op op)
{
    static const kiln_op ops[] = {KILN_OP_convert, KILN_OP_add, KILN_OP_sub, KILN_OP_mul,
                                  KILN_OP_neg,     KILN_OP_and, KILN_OP_or,  KILN_OP_xor};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ops[i] == op) return true;
    return false;
}

static bool follows_from_code(const kiln_dot_widen *w, const kiln_node *node)
{
    if (node->op == KILN_OP_constant) return true;
    bool is_all = is_exact((kiln_op)node->op);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t number = node_number(&w->weights, node->inputs[i]);
        bool is_code = node->inputs[i].id == w->weights.codes.id;
        is_all = is_all && (is_code || (number != KILN_NONE && w->is_lookup[number]));
    }
    return is_all;
}

/* Splats follow from the code, too, but are no result of a lookup. */
static bool is_splat(const kiln_graph *graph, kiln_value value)
{
    return kiln_graph_node(graph, value)->op == KILN_OP_constant;
}

/* The one node at which what follows from the code alone ends, or none. */
static void find_top(kiln_dot_widen *w)
{
    const kiln_graph *graph = w->dot->lower->graph;
    const kiln_weights *weights = &w->weights;
    uint32_t last = weights->n_nodes - 1;
    w->top = KILN_NONE;
    for (uint32_t i = 0; i < weights->n_nodes; i++)
        w->is_lookup[i] = follows_from_code(w, kiln_graph_node(graph, weights->nodes[i]));
    if (w->is_lookup[last]) w->top = last;
    for (uint32_t i = 0; i < weights->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, weights->nodes[i]);
        for (uint32_t j = 0; !w->is_lookup[i] && j < node->n_inputs; j++) {
            kiln_value input = node->inputs[j];
            uint32_t number = node_number(weights, input);
            bool is_code = input.id == weights->codes.id;
            bool is_end = number != KILN_NONE && w->is_lookup[number] && !is_splat(graph, input);
            if (is_end && (w->top == KILN_NONE || w->top == number)) {
                w->top = number;
            } else if (is_code || is_end) {
                w->top = KILN_NONE;
                return;
            }
        }
    }
}

/* The node for each of the sixteen codes, by the evaluator. */
static void add_lookup(kiln_dot_widen *w)
{
    kiln_lower *lower = w->dot->lower;
    const kiln_type *type = kiln_graph_type(lower->graph, w->weights.nodes[w->top]);
    const int64_t dims[] = {NIBBLES};
    uint8_t codes[NIBBLES];
    uint32_t words[NIBBLES];
    for (uint32_t i = 0; i < NIBBLES; i++)
        codes[i] = (uint8_t)(w->dtype == KILN_i8 && i > 7 ? i | 0xf0 : i);
    kiln_graph *graph = kiln_graph_open(lower->scope, lower->graph->context, "lookup");
    kiln_value code = kiln_add_constant(graph, kiln_graph_tensor(graph, w->dtype, 1, dims), codes);
    kiln_value values[KILN_WEIGHT_NODES] = {{0}};
    for (uint32_t i = 0; i <= w->top; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, w->weights.nodes[i]);
        if (!w->is_lookup[i]) continue;
        kiln_value inputs[3] = {{0}};
        const kiln_type *of = kiln_graph_tensor(graph, node->type->dtype, 1, dims);
        kiln_node_spec spec = {.op = (kiln_op)node->op,
                               .inputs = inputs,
                               .n_inputs = node->n_inputs,
                               .attrs = node->attrs};
        if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) spec.given = of;
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t number = node_number(&w->weights, node->inputs[j]);
            inputs[j] = number == KILN_NONE ? code : values[number];
        }
        values[i] = kiln_graph_add(graph, &spec);
    }
    kiln_add_output(graph, values[w->top], NULL);
    kiln_tensor output = {type->dtype, 1, dims, words, sizeof words};
    kiln_eval(lower->scope, graph, NULL, &output);
    w->lookup = kiln_kernel_add_table(lower->kernel, type->dtype, NIBBLES, words);
}

static void find_lookup(kiln_dot_widen *w)
{
    w->top = w->lookup = KILN_NONE;
    if (!w->is_nibbles) return;
    find_top(w);
    if (w->top == KILN_NONE) return;
    const kiln_type *type = kiln_graph_type(w->dot->lower->graph, w->weights.nodes[w->top]);
    if (type->dtype == KILN_f32 || type->dtype == KILN_i32)
        add_lookup(w);
    else
        w->top = KILN_NONE;
}

static bool find_table(kiln_dot_widen *w, uint32_t number)
{
    const kiln_lower *lower = w->dot->lower;
    widen_table *table = &w->tables[number];
    uint32_t input = find_input(lower, w->weights.tables[number], true);
    if (input == KILN_NONE) return false;
    table->buffer = lower->buffer_of[input];
    table->dtype = kiln_graph_type(lower->graph, w->weights.tables[number])->dtype;
    table->block = kiln_repeat_block(lower->graph, lower->group->inputs[input]);
    table->n_blocks = kiln_ceil_div(w->dot->roles.k_size, kiln_max_i64(1, table->block));
    return true;
}

bool kiln_dot_find_weights(kiln_dot *dot)
{
    kiln_lower *lower = dot->lower;
    kiln_dot_widen *w = kiln_new(&lower->scope->arena, kiln_dot_widen);
    w->dot = dot;
    if (!kiln_match_weights(&lower->scope->arena, lower->graph, lower->group->anchor, &w->weights))
        return false;
    uint32_t input = find_input(lower, w->weights.codes, false);
    if (input == KILN_NONE) return false;
    w->buffer = lower->buffer_of[input];
    w->dtype = kiln_graph_type(lower->graph, w->weights.codes)->dtype;
    w->is_nibbles = lower->group->inputs[input].format == KILN_FORMAT_NIBBLE16;
    w->pitch = w->is_nibbles ? kiln_ceil_div(dot->roles.k_size, 2) : dot->roles.k_size;
    for (uint32_t i = 0; i < w->weights.n_tables; i++)
        if (!find_table(w, i)) return false;
    find_lookup(w);
    dot->widen = w;
    return true;
}

/* Whether chunks of k begin with blocks. */
static bool has_whole_blocks(const kiln_dot *dot)
{
    int64_t block = dot->widen->weights.block, size = dot->roles.k_size;
    return size <= KILN_CHUNK || block >= size || KILN_CHUNK % block == 0;
}

void kiln_dot_choose_widening(kiln_dot *dot)
{
    const kiln_dot_widen *w = dot->widen;
    int64_t m = dot->roles.m_size, registers = dot->lower->machine->n_vector_registers;
    int64_t unit = dot->lanes < KILN_PANEL ? KILN_PANEL / dot->lanes : 1;
    int64_t all = kiln_round_up(kiln_ceil_div(dot->roles.n_size, dot->lanes), unit);
    dot->b.mode = KILN_DOT_COPY_K;
    if (m > MOST_ROWS || !has_whole_blocks(dot)) return;
    for (int64_t vectors = kiln_min_i64(MOST_VECTORS, all); vectors >= 1; vectors--) {
        int64_t needed = vectors * (m + w->weights.n_tables + 1) + 2;
        bool fits = needed <= registers || (vectors == unit && m <= 2);
        if (vectors % unit || !fits || vectors * m > KILN_TILE_SUMS) continue;
        dot->b.mode = KILN_DOT_WIDEN;
        dot->rows = (uint32_t)m;
        dot->vectors = (uint32_t)vectors;
        return;
    }
}

/* What precedes vector `vector` in panels of `pitch` rows. */
static int64_t vector_offset(const kiln_dot *dot, uint32_t vector, int64_t pitch)
{
    int64_t column = (int64_t)vector * dot->lanes;
    return column / KILN_PANEL * pitch * KILN_PANEL + column % KILN_PANEL;
}

static kiln_kv load_at(kiln_dot_widen *w, uint32_t buffer, kiln_dtype dtype, kiln_kv at)
{
    kiln_lower *lower = w->dot->lower;
    kiln_access access = {.buffer = buffer, .dtype = dtype, .lanes = w->dot->lanes};
    access.offset = kiln_axis_vector(at, 1);
    return kiln_lower_load_at(lower, &access);
}

/* The tables' entries of the block that begins at k number `k_at`. */
static void load_tables(kiln_dot_widen *w, kiln_kv k_at, uint32_t vectors)
{
    kiln_kernel *k = w->dot->lower->kernel;
    for (uint32_t v = 0; v < vectors; v++) w->pair_at[v] = 0;
    for (uint32_t t = 0; t < w->weights.n_tables; t++) {
        widen_table *table = &w->tables[t];
        kiln_kv at = kiln_k_mul_imm(k, w->column, table->n_blocks);
        if (table->n_blocks > 1) {
            kiln_kv row = kiln_k_div_imm(k, k_at, table->block);
            at = kiln_k_binary(k, KILN_K_add, at, kiln_k_mul_imm(k, row, KILN_PANEL));
        }
        for (uint32_t v = 0; v < vectors; v++) {
            int64_t offset = vector_offset(w->dot, v, table->n_blocks);
            table->entries[v] =
                load_at(w, table->buffer, table->dtype, kiln_k_add_imm(k, at, offset));
        }
    }
}

/* Two codes a byte as i32 lanes: those of k number at + step, which is even, and the next. */
static kiln_kv load_pair(kiln_dot_widen *w, uint32_t vector, kiln_kv at, int64_t step)
{
    kiln_kernel *k = w->dot->lower->kernel;
    if (w->pair_at[vector] == at && w->pair_step[vector] == step / 2) return w->pairs[vector];
    kiln_kv from = kiln_k_mul_imm(k, w->column, w->pitch);
    from = kiln_k_binary(k, KILN_K_add, from, kiln_k_mul_imm(k, at, KILN_PANEL / 2));
    int64_t offset = vector_offset(w->dot, vector, w->pitch) + step / 2 * KILN_PANEL;
    kiln_kv pair = load_at(w, w->buffer, KILN_u8, kiln_k_add_imm(k, from, offset));
    w->pair_at[vector] = at;
    w->pair_step[vector] = step / 2;
    return w->pairs[vector] = kiln_k_convert(k, pair, KILN_i32);
}

static kiln_kv shift(kiln_kernel *k, kiln_instr_op op, kiln_kv value, int64_t bits, uint32_t lanes)
{
    return kiln_k_binary(k, op, value, kiln_k_const_int(k, KILN_i32, lanes, bits));
}

/* A code of four bits as an index of the lookup or, without one, as the graph has it. */
static kiln_kv load_nibble(kiln_dot_widen *w, uint32_t vector, kiln_kv at, int64_t step)
{
    kiln_kernel *k = w->dot->lower->kernel;
    uint32_t lanes = w->dot->lanes;
    kiln_kv pair = load_pair(w, vector, at, step);
    kiln_kv code = step % 2 ? shift(k, KILN_K_shr, pair, 4, lanes)
                            : shift(k, KILN_K_and, pair, NIBBLES - 1, lanes);
    if (w->top != KILN_NONE) return code;
    if (w->dtype == KILN_i8)
        code = shift(k, KILN_K_shr, shift(k, KILN_K_shl, code, 28, lanes), 28, lanes);
    return kiln_k_convert(k, code, w->dtype);
}

static kiln_kv load_codes(kiln_dot_widen *w, uint32_t vector, kiln_kv at, int64_t step)
{
    kiln_kernel *k = w->dot->lower->kernel;
    if (w->is_nibbles) return load_nibble(w, vector, at, step);
    kiln_kv from = kiln_k_mul_imm(k, w->column, w->pitch);
    from = kiln_k_binary(k, KILN_K_add, from, kiln_k_mul_imm(k, at, KILN_PANEL));
    int64_t offset = vector_offset(w->dot, vector, w->pitch) + step * KILN_PANEL;
    return load_at(w, w->buffer, w->dtype, kiln_k_add_imm(k, from, offset));
}

/* The value of an operand of the expression: codes, a table's entries, or a node. */
static kiln_kv operand_value(kiln_dot_widen *w, kiln_value value, uint32_t vector, kiln_kv codes,
                             const kiln_kv *values)
{
    if (value.id == w->weights.codes.id) return codes;
    for (uint32_t t = 0; t < w->weights.n_tables; t++)
        if (value.id == w->weights.tables[t].id) return w->tables[t].entries[vector];
    return values[node_number(&w->weights, value)];
}

static kiln_kv splat_value(kiln_dot_widen *w, kiln_value value)
{
    kiln_lower *lower = w->dot->lower;
    kiln_index index = {.rank = kiln_graph_type(lower->graph, value)->rank};
    for (uint32_t i = 0; i < index.rank; i++) index.axis[i] = kiln_axis_zero(lower);
    uint32_t mark = kiln_lower_mark(lower);
    kiln_kv splat =
        kiln_k_splat(lower->kernel, kiln_lower_value(lower, value, &index), w->dot->lanes);
    kiln_lower_cut(lower, mark);
    return splat;
}

static kiln_kv widen_vector(void *user, uint32_t vector, kiln_kv at, int64_t step)
{
    kiln_dot_widen *w = user;
    kiln_kernel *k = w->dot->lower->kernel;
    const kiln_graph *graph = w->dot->lower->graph;
    kiln_kv codes = load_codes(w, vector, at, step), values[KILN_WEIGHT_NODES] = {0};
    for (uint32_t i = 0; i < w->weights.n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, w->weights.nodes[i]);
        if (i == w->top) {
            values[i] = kiln_k_lookup(k, w->lookup, codes);
            continue;
        }
        if (node->op == KILN_OP_constant) {
            values[i] = splat_value(w, w->weights.nodes[i]);
            continue;
        }
        if (w->top != KILN_NONE && w->is_lookup[i]) continue;
        kiln_kv args[3] = {0};
        for (uint32_t j = 0; j < node->n_inputs; j++)
            args[j] = operand_value(w, node->inputs[j], vector, codes, values);
        kiln_value typed = node->inputs[node->op == KILN_OP_select ? 1 : 0];
        kiln_dtype dtype = kiln_graph_type(graph, typed)->dtype;
        values[i] = kiln_math_op(k, (kiln_op)node->op, dtype, node->type->dtype, args);
    }
    return kiln_k_convert(k, values[w->weights.n_nodes - 1], w->dot->dtype);
}

void kiln_dot_use_widening(kiln_dot *dot, kiln_tile *tile, kiln_kv column)
{
    dot->widen->column = column;
    tile->widen = widen_vector;
    tile->widen_user = dot->widen;
    tile->b_k = 1;
    tile->b_is_near = true; /* what is fetched ahead is not where floats would be */
}

void kiln_dot_accumulate_widened(kiln_dot *dot, kiln_tile *tile, kiln_kv a, kiln_kv k_at, int64_t n)
{
    kiln_dot_widen *w = dot->widen;
    kiln_kernel *k = dot->lower->kernel;
    int64_t block = w->weights.block, whole = n / block;
    if (block >= dot->roles.k_size) {
        load_tables(w, k_at, tile->vectors);
        kiln_tile_accumulate(tile, a, k_at, n);
        return;
    }
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
    if (whole > 0) {
        kiln_kv number = kiln_tile_loop(tile, begin, end, 1);
        kiln_kv a_at =
            kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, number, block * tile->a_k));
        kiln_kv first = kiln_k_binary(k, KILN_K_add, k_at, kiln_k_mul_imm(k, number, block));
        load_tables(w, first, tile->vectors);
        kiln_tile_accumulate(tile, a_at, first, block);
        kiln_tile_loop_end(tile);
    }
    if (n % block == 0) return;
    kiln_kv last = kiln_k_add_imm(k, k_at, whole * block);
    load_tables(w, last, tile->vectors);
    kiln_tile_accumulate(tile, kiln_k_add_imm(k, a, whole * block * tile->a_k), last, n % block);
}

/* Widens k number k_at, two of them where codes are pairs, into the local. */
static void copy_step(kiln_dot_widen *w, kiln_kv k_at, kiln_kv begin, uint32_t vectors)
{
    kiln_dot *dot = w->dot;
    kiln_kernel *k = dot->lower->kernel;
    kiln_kv row = kiln_k_mul_imm(k, kiln_k_binary(k, KILN_K_sub, k_at, begin), dot->b.k_step);
    for (int64_t step = 0; step < (w->is_nibbles ? 2 : 1); step++) {
        for (uint32_t v = 0; v < vectors; v++) {
            kiln_kv value = widen_vector(w, v, k_at, step);
            int64_t offset = step * dot->b.k_step + (int64_t)v * dot->lanes;
            kiln_k_store(k, dot->b.source.buffer, kiln_k_add_imm(k, row, offset), value, 0,
                         KILN_MEM_ALIGNED);
        }
    }
}

void kiln_dot_copy_widened(kiln_dot *dot, kiln_kv column, uint32_t vectors)
{
    kiln_dot_widen *w = dot->widen;
    kiln_lower *lower = dot->lower;
    kiln_kernel *k = lower->kernel;
    int64_t block = w->weights.block;
    kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, dot->roles.k_size);
    if (dot->n_k_blocks > 1) {
        begin = kiln_k_mul_imm(k, dot->k_block, dot->k_block_size);
        end = kiln_k_min(k, kiln_k_add_imm(k, begin, dot->k_block_size), end);
    }
    w->column = column;
    kiln_kv first = kiln_k_div_imm(k, begin, block);
    kiln_kv past = kiln_k_div_imm(k, kiln_k_add_imm(k, end, block - 1), block);
    kiln_kv number = kiln_k_loop(k, KILN_LOOP_SERIAL, first, past, 1);
    uint32_t outer = kiln_lower_mark(lower);
    kiln_kv at = kiln_k_mul_imm(k, number, block);
    kiln_kv stop = kiln_k_min(k, kiln_k_add_imm(k, at, block), end);
    load_tables(w, at, vectors);
    kiln_kv k_at =
        kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_max(k, at, begin), stop, w->is_nibbles ? 2 : 1);
    uint32_t inner = kiln_lower_mark(lower);
    copy_step(w, k_at, begin, vectors);
    kiln_lower_cut(lower, inner);
    kiln_k_end(k);
    kiln_lower_cut(lower, outer);
    kiln_k_end(k);
}
