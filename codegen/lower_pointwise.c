/* Pointwise groups: [rows, inner] loops over the index space of the outputs. Which trailing axes
 * are merged into the inner, vectorised one is found by lowering one vector for each split into a
 * scratch kernel and counting: a dense operand wants all axes merged, a broadcast or a shifted one
 * does not. Tiles are blocks of rows, or blocks of the inner axis where that is long. Tails are
 * masked, or made by a vector that begins earlier. */
#include "codegen/lower_pointwise.h"

#include "base/checked.h"
#include "codegen/lower_stage.h"
#include "codegen/math.h"
#include "kiln/program.h"

/* Traffic of a tile: small enough that threads balance, large enough that a tile's start is free.
 */
#define TILE_BYTES 65536
#define SMALL_TILE_BYTES 16384
#define SMALL_TOTAL_BYTES (1 << 20)
#define MAX_UNROLL 5
#define PREFETCH_BYTES 2048
/* Of so many lanes half are as fast where most instructions work on two vectors, and half the code
 * (sin and pow on AVX-512; on AVX2, by 4 lanes, they take 1.3 to 1.5 times as long). */
#define WIDE_LANES 16

/* One index space and how to walk it. */
typedef struct space {
    const kiln_type *type;      /* dims of its outputs */
    kiln_vec(uint32_t) outputs; /* numbers */
    kiln_vec(kiln_value) maps;  /* ELEMENTWISE nodes at the outputs' own index, ids ascending */
    uint32_t split;             /* axes from here on are the inner one */
    int64_t n_rows, n_inner;
    uint32_t lanes, unroll;
    int64_t rows_per_tile, block; /* block: of the inner axis; n_inner when it is not cut */
    int64_t n_tiles;
    bool is_large; /* no cache holds the outputs until they are read */
    double cost;   /* estimated cycles */
} space;

static bool is_same_shape(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static int64_t product(const int64_t *dims, uint32_t n)
{
    int64_t result = 1;
    for (uint32_t i = 0; i < n; i++) result *= dims[i];
    return result;
}

static kiln_axis_index axis_const(kiln_lower *lower, int64_t value, int64_t step)
{
    kiln_axis_index axis = {.base = kiln_lower_i64(lower, value), .multiple = value, .step = step};
    return axis;
}

/* The index of inner vector `inner` in row `row`. */
static kiln_index space_index(kiln_lower *lower, const space *s, kiln_axis_index row,
                              kiln_axis_index inner)
{
    kiln_index index = {.rank = s->type->rank};
    row.extent = s->n_rows;
    inner.extent = s->n_inner;
    kiln_lower_delinearize(lower, row, s->split, s->type->dims, index.axis);
    kiln_lower_delinearize(lower, inner, index.rank - s->split, s->type->dims + s->split,
                           index.axis + s->split);
    return index;
}

/* Asks for what the inputs hold further on: the processor by itself looks ahead to the end of a
 * page only. The chain of tanh, erf and logistic over 64 MB takes 10.4 ms without, 8.0 with 512
 * bytes, 7.0 with 2 KiB, 7.6 with 8 KiB. */
static void prefetch_inputs(kiln_lower *lower, const space *s, const kiln_index *index)
{
    for (uint32_t i = 0; i < lower->group->n_inputs; i++) {
        const kiln_type *type = kiln_graph_type(lower->graph, lower->group->inputs[i].value);
        const kiln_place *place = lower->place_of[i];
        if (!is_same_shape(type, s->type) || !place->strides) continue;
        kiln_axis_index offset = kiln_lower_offset(lower, place, index);
        if (offset.lanes || offset.step != 1) continue;
        int64_t ahead = PREFETCH_BYTES / (int64_t)kiln_dtype_bytes(type->dtype);
        kiln_k_prefetch(lower->kernel, lower->buffer_of[i],
                        kiln_k_add_imm(lower->kernel, offset.base, ahead));
    }
}

/* Values of all outputs for `n` vectors from `inner` on, then the stores: reads of a tile come
 * before writes, so that loads need not wait where an output lies in an input's place. The vectors
 * advance node by node: a polynomial is one chain of dependent instructions longer than what a core
 * looks ahead, so a second chain has to stand beside it. */
static void emit_vectors(kiln_lower *lower, const space *s, kiln_axis_index row,
                         kiln_axis_index inner, uint32_t n)
{
    kiln_index index[MAX_UNROLL];
    kiln_vec(kiln_kv) values = {0};
    for (uint32_t u = 0; u < n; u++) {
        kiln_axis_index axis = kiln_axis_affine(lower, &inner, 1, (int64_t)u * s->lanes);
        index[u] = space_index(lower, s, row, axis);
        if (s->is_large) prefetch_inputs(lower, s, &index[u]);
    }
    for (uint32_t i = 0; n > 1 && i < s->maps.n; i++)
        for (uint32_t u = 0; u < n; u++) kiln_lower_value(lower, s->maps.at[i], &index[u]);
    for (uint32_t u = 0; u < n; u++) {
        for (uint32_t i = 0; i < s->outputs.n; i++) {
            kiln_value node = lower->group->outputs[s->outputs.at[i]].value;
            kiln_vec_push(&values, &lower->scope->arena, kiln_lower_value(lower, node, &index[u]));
        }
    }
    for (uint32_t u = 0; u < n; u++)
        for (uint32_t i = 0; i < s->outputs.n; i++)
            kiln_lower_store(lower, s->outputs.at[i], &index[u], values.at[u * s->outputs.n + i]);
}

/* By what the lanes of little work are to be divided: 1 unless the instructions from `first` on
 * take many more than one vector each (f32 functions that are computed in f64, bytes that are
 * gathered); by half of the vectors of the widest one. */
static uint32_t excess_from(const kiln_kernel *k, uint32_t first)
{
    uint32_t n = 0, n_vectors = 0, widest = 1;
    for (uint32_t i = first; i < k->instrs.n; i++) {
        const kiln_instr *instr = &k->instrs.at[i];
        if (kiln_instr_rule_of(instr->op) == KILN_RULE_VALUE) continue;
        uint32_t bytes = instr->lanes * (uint32_t)kiln_dtype_bytes((kiln_dtype)instr->dtype);
        uint32_t vectors = bytes > k->machine->vector_bytes ? bytes / k->machine->vector_bytes : 1;
        n++;
        n_vectors += vectors;
        widest = vectors > widest ? vectors : widest;
    }
    if (n_vectors * 3 <= n * 4) return 1;
    return widest > 4 ? widest / 2 : 2;
}

/* *out_gathered: the gathers' part of the cost. */
static double split_cost(const kiln_lower *lower, const space *trial, uint32_t *out_excess,
                         double *out_gathered)
{
    kiln_lower scratch = kiln_lower_scratch(lower);
    kiln_kernel *k = scratch.kernel;
    scratch.lanes = trial->lanes;
    kiln_kv zero = kiln_lower_i64(&scratch, 0);
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_tile_end(k), 1);
    uint32_t first_row = k->instrs.n;
    /* what a row computes once is asked for at its first element, outside the inner loop */
    kiln_kv inner = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, kiln_k_tile_end(k), trial->lanes);
    uint32_t first_inner = k->instrs.n;
    bool is_ragged = trial->n_inner % trial->lanes != 0;
    if (is_ragged) scratch.mask = kiln_k_active(k, trial->lanes, kiln_k_tile_begin(k));
    emit_vectors(&scratch, trial, kiln_axis_scalar(row, 1), kiln_axis_vector(inner, trial->lanes),
                 1);
    *out_excess = excess_from(k, first_inner);
    double each = kiln_lower_cost(k, first_inner), around = 4.0 + (first_inner - first_row);
    *out_gathered = kiln_lower_gather_cost(k, first_inner) / each;
    double n_vectors = (double)kiln_ceil_div(trial->n_inner, trial->lanes);
    return (double)trial->n_rows * (n_vectors * each + (trial->split ? around : 0));
}

static uint32_t lanes_for(uint32_t most, int64_t n)
{
    uint32_t lanes = 1;
    while (lanes < most && lanes < n) lanes *= 2;
    return lanes;
}

/* Gathers keep the ports busy by themselves: beside much other work, or where they are most of a
 * little, one vector at a time has the code once and is as fast. Sampling along a grid takes 15 ms
 * to compile instead of 23; but 1000 x 1000 elements along an axis take 0.47 ms by four, 0.51 by
 * one. */
#define MUCH_COST 100
#define MANY_GATHERED (1 << 18)

/* Chains side by side keep both vector ports busy (the chain of tanh, erf and logistic over 256 K
 * elements takes 0.115 ms by two, 0.098 by four, 0.094 by five, 0.099 by eight); small work is not
 * worth the compile time, and very long expressions have no registers left for it. */
static uint32_t unroll_for(double cost_of_vector, int64_t n_elements, double gathered)
{
    bool is_much = cost_of_vector > MUCH_COST, is_many = n_elements >= MANY_GATHERED;
    bool is_filled = is_much ? gathered > 0 : gathered > 0.5 && !is_many;
    if (n_elements < KILN_SMALL_ELEMENTS || is_filled) return 1;
    if (cost_of_vector <= 40) return 4;
    if (cost_of_vector <= 80) return MAX_UNROLL;
    return cost_of_vector <= 160 ? 2 : 1;
}

static void choose_split(const kiln_lower *lower, space *s)
{
    double best = -1;
    space trial = *s;
    uint32_t last = s->type->rank > 0 ? s->type->rank - 1 : 0;
    for (uint32_t split = 0; split <= last; split++) {
        if (split > 0 && s->type->dims[split - 1] == 1) continue;
        trial.split = split;
        trial.n_rows = product(s->type->dims, split);
        trial.n_inner = product(s->type->dims + split, s->type->rank - split);
        trial.lanes = lanes_for(lower->lanes, trial.n_inner);
        uint32_t excess;
        double gathered;
        double cost = split_cost(lower, &trial, &excess, &gathered);
        if (best >= 0 && cost >= best) continue;
        best = trial.cost = cost;
        double n_vectors = (double)kiln_ceil_div(trial.n_inner, trial.lanes) * (double)trial.n_rows;
        trial.unroll = unroll_for(cost / n_vectors, s->type->n_elements, gathered);
        *s = trial;
        bool is_small = s->type->n_elements < KILN_SMALL_ELEMENTS;
        if (is_small && s->lanes >= WIDE_LANES) s->lanes /= excess;
    }
}

/* Bytes that one element of the space moves. */
static double bytes_of_element(const kiln_lower *lower, const space *s)
{
    double bytes = 0, n = (double)s->type->n_elements;
    for (uint32_t i = 0; i < s->outputs.n; i++)
        bytes += (double)kiln_dtype_bytes(
            kiln_graph_type(lower->graph, lower->group->outputs[s->outputs.at[i]].value)->dtype);
    for (uint32_t i = 0; i < lower->group->n_inputs; i++) {
        const kiln_type *type = kiln_graph_type(lower->graph, lower->group->inputs[i].value);
        bytes += (double)kiln_dtype_bytes(type->dtype) * (type->n_elements < n ? 0.1 : 1.0);
    }
    return bytes;
}

/* The last vector of a ragged axis may begin earlier, and make some elements again, instead of
 * being masked: then the code stands there once. Not where an output may lie over an input. */
static bool reaches_back(const kiln_lower *lower, const space *s)
{
    return s->unroll == 1 && s->n_inner >= s->lanes && lower->store_flags == 0 &&
           !kiln_lower_writes_over_inputs(lower);
}

static void choose_tiles(const kiln_lower *lower, space *s)
{
    double each = bytes_of_element(lower, s);
    double total = each * (double)s->type->n_elements;
    int64_t elements =
        (int64_t)((total < SMALL_TOTAL_BYTES ? SMALL_TILE_BYTES : TILE_BYTES) / each);
    int64_t step = (int64_t)s->lanes * s->unroll;
    elements = kiln_max_i64(kiln_round_up(elements, step), step);
    s->block = s->n_inner;
    s->rows_per_tile = kiln_max_i64(1, elements / kiln_max_i64(1, s->n_inner));
    if (s->n_inner >= 2 * elements) {
        s->block = elements;
        s->rows_per_tile = 1;
        /* the last block is not so short that its vector would reach into another tile */
        while (s->n_inner % s->block > 0 && s->n_inner % s->block < s->lanes) s->block += step;
    }
    s->n_tiles = kiln_ceil_div(s->n_rows, s->rows_per_tile) * kiln_ceil_div(s->n_inner, s->block);
}

/* Elements from `begin` to `end`, which is not within a vector but at the end of the axis. */
static void emit_inner_back(kiln_lower *lower, const space *s, kiln_axis_index row, kiln_kv begin,
                            kiln_kv end)
{
    kiln_kernel *k = lower->kernel;
    bool is_ragged = s->n_inner % s->lanes != 0;
    int64_t bits = s->n_inner | s->lanes; /* the last of them divides where all vectors begin */
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, s->lanes);
    uint32_t mark = kiln_lower_mark(lower);
    if (is_ragged) at = kiln_lower_op_imm(lower, KILN_K_min, at, s->n_inner - s->lanes);
    emit_vectors(lower, s, row, kiln_axis_vector(at, bits & -bits), 1);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* From a constant begin to a constant end: a loop of whole steps, then what is left. */
static void emit_inner_whole(kiln_lower *lower, const space *s, kiln_axis_index row)
{
    kiln_kernel *k = lower->kernel;
    if (s->n_inner > s->lanes && reaches_back(lower, s)) {
        kiln_kv zero = kiln_lower_i64(lower, 0);
        emit_inner_back(lower, s, row, zero, kiln_lower_i64(lower, s->n_inner));
        return;
    }
    int64_t step = (int64_t)s->lanes * s->unroll, main_end = s->n_inner / step * step;
    if (main_end == step) {
        emit_vectors(lower, s, row, axis_const(lower, 0, 1), s->unroll);
    } else if (main_end > 0) {
        kiln_kv end = kiln_lower_i64(lower, main_end);
        kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_lower_i64(lower, 0), end, step);
        uint32_t mark = kiln_lower_mark(lower);
        emit_vectors(lower, s, row, kiln_axis_vector(at, step), s->unroll);
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
    int64_t rest = s->n_inner - main_end, n = rest / s->lanes;
    if (n > 0) emit_vectors(lower, s, row, axis_const(lower, main_end, 1), (uint32_t)n);
    rest -= n * s->lanes;
    if (rest == 0) return;
    lower->mask = kiln_k_active(k, s->lanes, kiln_lower_i64(lower, rest));
    emit_vectors(lower, s, row, axis_const(lower, s->n_inner - rest, 1), 1);
    lower->mask = 0;
}

/* Block number `block` of the inner axis. */
static void emit_inner_block(kiln_lower *lower, const space *s, kiln_axis_index row, kiln_kv block)
{
    kiln_kernel *k = lower->kernel;
    int64_t step = (int64_t)s->lanes * s->unroll;
    kiln_kv begin = kiln_lower_op_imm(lower, KILN_K_mul, block, s->block);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, begin, s->block);
    end = kiln_lower_op_imm(lower, KILN_K_min, end, s->n_inner);
    if (reaches_back(lower, s)) {
        emit_inner_back(lower, s, row, begin, end);
        return;
    }
    kiln_kv whole = kiln_lower_i64(lower, s->n_inner / step * step);
    kiln_kv main_end = kiln_lower_op(lower, KILN_K_min, end, whole);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, main_end, step);
    uint32_t mark = kiln_lower_mark(lower);
    emit_vectors(lower, s, row, kiln_axis_vector(at, step), s->unroll);
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
    if (s->n_inner % step == 0) return;
    kiln_kv rest = kiln_k_max(k, begin, main_end);
    at = kiln_k_loop(k, KILN_LOOP_SERIAL, rest, end, s->lanes);
    mark = kiln_lower_mark(lower);
    if (s->n_inner % s->lanes != 0)
        lower->mask = kiln_k_active(k, s->lanes, kiln_k_binary(k, KILN_K_sub, end, at));
    emit_vectors(lower, s, row, kiln_axis_vector(at, s->lanes), 1);
    lower->mask = 0;
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

static void emit_tile(kiln_lower *lower, const space *s, kiln_kv tile)
{
    kiln_kernel *k = lower->kernel;
    int64_t n_blocks = kiln_ceil_div(s->n_inner, s->block);
    if (n_blocks > 1) {
        if (s->n_rows == 1) {
            emit_inner_block(lower, s, kiln_axis_zero(lower), tile);
            return;
        }
        kiln_kv row = kiln_lower_op_imm(lower, KILN_K_div, tile, n_blocks);
        kiln_kv block = kiln_lower_op_imm(lower, KILN_K_rem, tile, n_blocks);
        emit_inner_block(lower, s, kiln_axis_scalar(row, 1), block);
        return;
    }
    if (s->n_rows == 1) {
        emit_inner_whole(lower, s, kiln_axis_zero(lower));
        return;
    }
    kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, tile, s->rows_per_tile);
    kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, s->rows_per_tile);
    end = kiln_lower_op_imm(lower, KILN_K_min, end, s->n_rows);
    kiln_kv row = kiln_k_loop(k, KILN_LOOP_SERIAL, first, end, 1);
    uint32_t mark = kiln_lower_mark(lower);
    emit_inner_whole(lower, s, kiln_axis_scalar(row, 1));
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}

/* The nodes reached from the outputs through ELEMENTWISE nodes. */
static void find_maps(kiln_lower *lower, space *s)
{
    const kiln_group *group = lower->group;
    kiln_arena *arena = &lower->scope->arena;
    bool *is_map = kiln_new_array(arena, bool, group->n_nodes + 1);
    for (uint32_t i = 0; i < s->outputs.n; i++) {
        uint32_t at = kiln_lower_position(lower, group->outputs[s->outputs.at[i]].value);
        if (at != KILN_NONE) is_map[at] = true;
    }
    for (uint32_t i = group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(lower->graph, group->nodes[i]);
        is_map[i] = is_map[i] && kiln_node_row(node)->class_ == KILN_ELEMENTWISE;
        for (uint32_t j = 0; is_map[i] && j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            if (at != KILN_NONE) is_map[at] = true;
        }
    }
    for (uint32_t i = 0; i < group->n_nodes; i++)
        if (is_map[i]) kiln_vec_push(&s->maps, arena, group->nodes[i]);
}

static bool is_large(const kiln_lower *lower, const space *s)
{
    bool result = true;
    for (uint32_t i = 0; i < s->outputs.n; i++) {
        const kiln_place *place = lower->place_of[lower->group->n_inputs + s->outputs.at[i]];
        result = result && place->bytes >= lower->machine->l3_bytes;
    }
    return result;
}

/* Outputs that no cache holds until they are read are written past them, which saves reading them
 * first: adding 1 to 64 MB takes 5.3 instead of 9.4 ms on one core. */
static bool is_streamed(const kiln_lower *lower, const space *s)
{
    bool is_fresh = true;
    for (uint32_t i = 0; i < s->outputs.n; i++) {
        const kiln_place *place = lower->place_of[lower->group->n_inputs + s->outputs.at[i]];
        uint32_t buffer = lower->buffer_of[lower->group->n_inputs + s->outputs.at[i]];
        is_fresh = is_fresh && place->origin == 0 && !lower->kernel->params.at[buffer].may_overlap;
    }
    return is_fresh && s->is_large;
}

/* Streaming stores need alignment, which a port may not have: both kinds of code, one runs. */
static void emit_streamed(kiln_lower *lower, const space *s, kiln_kv tile)
{
    kiln_kernel *k = lower->kernel;
    kiln_kv rest = kiln_lower_i64(lower, 0);
    for (uint32_t i = 0; i < s->outputs.n; i++) {
        uint32_t buffer = lower->buffer_of[lower->group->n_inputs + s->outputs.at[i]];
        if (k->params.at[buffer].alignment >= 64) continue;
        rest = kiln_k_binary(k, KILN_K_or, rest, kiln_k_address(k, buffer));
    }
    rest = kiln_k_binary(k, KILN_K_and, rest, kiln_lower_i64(lower, 63));
    kiln_kv unaligned = kiln_k_min(k, rest, kiln_lower_i64(lower, 1));
    for (int is_plain = 0; is_plain < 2; is_plain++) {
        kiln_kv begin = is_plain ? kiln_lower_i64(lower, 0) : unaligned;
        kiln_kv end = is_plain ? unaligned : kiln_lower_i64(lower, 1);
        kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, 1);
        uint32_t mark = kiln_lower_mark(lower);
        lower->store_flags = is_plain ? 0 : KILN_MEM_STREAM;
        space way = *s;
        if (is_plain) way.unroll = 1; /* seldom run */
        emit_tile(lower, &way, tile);
        lower->store_flags = 0;
        kiln_lower_cut(lower, mark);
        kiln_k_end(k);
    }
}

/* Outputs of one shape share loops. */
static space *find_spaces(const kiln_lower *lower, uint32_t *out_n)
{
    kiln_arena *arena = &lower->scope->arena;
    space *all = kiln_new_array(arena, space, lower->group->n_outputs);
    uint32_t n = 0;
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        const kiln_type *type = kiln_graph_type(lower->graph, lower->group->outputs[i].value);
        uint32_t at = 0;
        if (type->n_elements == 0) continue;
        while (at < n && !is_same_shape(all[at].type, type)) at++;
        if (at == n) all[n++].type = type;
        kiln_vec_push(&all[at].outputs, arena, i);
    }
    *out_n = n;
    return all;
}

void kiln_lower_pointwise(kiln_lower *lower)
{
    kiln_kernel *k = lower->kernel;
    uint32_t n;
    space *spaces = find_spaces(lower, &n);
    int64_t n_tiles = 0;
    for (uint32_t i = 0; i < n; i++) {
        find_maps(lower, &spaces[i]);
        spaces[i].is_large = is_large(lower, &spaces[i]);
        choose_split(lower, &spaces[i]);
        if (n == 1 && kiln_lower_blocks(lower, spaces[i].type, spaces[i].cost)) return;
        choose_tiles(lower, &spaces[i]);
        n_tiles = kiln_max_i64(n_tiles, spaces[i].n_tiles);
    }
    if (n_tiles > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld tiles; expected at most 2^32 - 1",
                  lower->group->label, (long long)n_tiles);
    k->n_tiles = (uint32_t)n_tiles;
    kiln_kv tile = kiln_k_loop(k, KILN_LOOP_TILES, kiln_k_tile_begin(k), kiln_k_tile_end(k), 1);
    uint32_t mark = kiln_lower_mark(lower);
    for (uint32_t i = 0; i < n; i++) {
        bool is_shorter = spaces[i].n_tiles < n_tiles;
        kiln_kv at = tile, end = kiln_lower_i64(lower, spaces[i].n_tiles);
        if (is_shorter) {
            end = kiln_k_min(k, kiln_k_add_imm(k, tile, 1), end);
            at = kiln_k_loop(k, KILN_LOOP_SERIAL, tile, end, 1);
        }
        uint32_t inside = kiln_lower_mark(lower);
        lower->lanes = spaces[i].lanes;
        if (is_streamed(lower, &spaces[i]))
            emit_streamed(lower, &spaces[i], at);
        else
            emit_tile(lower, &spaces[i], at);
        kiln_lower_cut(lower, inside);
        if (is_shorter) kiln_k_end(k);
    }
    kiln_lower_cut(lower, mark);
    kiln_k_end(k);
}
