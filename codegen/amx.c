/* The tiles of a block: which registers hold what while a step runs. Sums take the first registers;
 * what is left holds operands, loaded when they are wanted and not there. Walking rows and columns
 * as a snake changes one operand at a time, so a 2 x 2 block loads 4 tiles for 4 products, a 3 x 2
 * block 7 for 6. */
#include "codegen/amx.h"

#include "base/checked.h"

/* The products of parts of one step: small ones mostly first, one side changing at a time. */
typedef struct part_pair {
    uint8_t a, b;
} part_pair;

static const part_pair one_pair[] = {{0, 0}};
static const part_pair six_pairs[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 0}, {0, 2}};

#define UNROLL 2
#define EMPTY 0xff
#define LINE_WORDS 16

/* Registers first … first + n - 1 hold operand tiles of one side. */
typedef struct tile_pool {
    uint32_t first, n, next;
    uint8_t part[KILN_N_TILES], number[KILN_N_TILES];
} tile_pool;

typedef struct tile_step {
    kiln_amx *amx;
    const kiln_amx_block *block;
    tile_pool a, b;
    kiln_kv a_at, b_at, ahead; /* element offsets of the step */
    /* A rest has a share in every slot, `share` rows; the slots are numbered through the loop over
     * k. 0: none. */
    kiln_kv first_slot;
    uint32_t slot;
    int64_t share;
    bool has_halves; /* two slots in a step */
} tile_step;

/* The register of a pool that holds (part, number); one is given up when none does: then *is_new.
 */
static uint32_t find_register(tile_pool *pool, uint32_t part, uint32_t number, bool *is_new)
{
    for (uint32_t i = 0; i < pool->n; i++) {
        if (pool->part[i] == part && pool->number[i] == number) return pool->first + i;
    }
    uint32_t at = pool->next;
    pool->next = (at + 1) % pool->n;
    pool->part[at] = (uint8_t)part;
    pool->number[at] = (uint8_t)number;
    *is_new = true;
    return pool->first + at;
}

/* Elements from the first tile of a step of B to another one. */
static int64_t b_tile(const kiln_amx *amx, uint32_t part, uint32_t number)
{
    return number * amx->panel_words + part * (amx->panel_words / amx->n_parts);
}

static void load_rows(const tile_step *step, uint32_t tile, uint32_t part, uint32_t number)
{
    const kiln_amx *amx = step->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv at = kiln_k_add_imm(k, step->a_at, number * amx->a_tile + part * amx->a_part);
    kiln_k_tile_load(k, tile | KILN_TILE_STREAM, amx->dot.a.source.buffer, at, amx->a_row);
}

static void load_columns(const tile_step *step, uint32_t tile, uint32_t part, uint32_t number)
{
    const kiln_amx *amx = step->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv at = kiln_k_add_imm(k, step->b_at, b_tile(amx, part, number));
    kiln_k_tile_load(k, tile, amx->b_buffer, at, KILN_TILE_SIDE);
}

static uint32_t take_rows(tile_step *step, uint32_t part, uint32_t number)
{
    bool is_new = false;
    uint32_t tile = find_register(&step->a, part, number, &is_new);
    if (is_new) load_rows(step, tile, part, number);
    return tile;
}

static uint32_t take_columns(tile_step *step, uint32_t part, uint32_t number)
{
    bool is_new = false;
    uint32_t tile = find_register(&step->b, part, number, &is_new);
    if (is_new) load_columns(step, tile, part, number);
    return tile;
}

static void forget(tile_pool *pool)
{
    for (uint32_t i = 0; i < KILN_N_TILES; i++) pool->part[i] = EMPTY;
}

static uint32_t count_pairs(const kiln_amx *amx)
{
    return amx->n_parts == 3 ? 6 : 1;
}

/* Products of one pair of parts, along the rows and back. */
static void emit_pair(tile_step *step, part_pair pair, bool *is_back)
{
    const kiln_amx_block *block = step->block;
    kiln_kernel *k = step->amx->dot.lower->kernel;
    for (uint32_t r = 0; r < block->rows; r++) {
        for (uint32_t i = 0; i < block->vectors; i++) {
            uint32_t v = *is_back ? block->vectors - 1 - i : i;
            uint32_t a = take_rows(step, pair.a, r);
            uint32_t b = take_columns(step, pair.b, v);
            kiln_k_tile_dot(k, step->amx->product, r * block->vectors + v, a, b);
        }
        *is_back = !*is_back;
    }
}

/* The share of pair number `p` in what a step fetches. */
static void fetch_ahead(const tile_step *step, uint32_t p)
{
    const kiln_amx *amx = step->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    uint32_t n_tiles = step->block->vectors * amx->n_parts;
    for (uint32_t tile = p; step->block->lines && tile < n_tiles; tile += count_pairs(amx)) {
        int64_t from = b_tile(amx, tile % amx->n_parts, tile / amx->n_parts);
        for (uint32_t i = 0; i < step->block->lines; i++) {
            kiln_kv line = kiln_k_add_imm(k, step->ahead, from + i * LINE_WORDS);
            kiln_k_prefetch_far(k, amx->b_buffer, line);
        }
    }
}

static void emit_rest(kiln_amx *amx, const kiln_amx_block *block, kiln_kv at, int64_t share);

static void emit_step(tile_step *step)
{
    kiln_kernel *k = step->amx->dot.lower->kernel;
    const part_pair *pairs = step->amx->n_parts == 3 ? six_pairs : one_pair;
    bool is_back = false;
    forget(&step->a);
    forget(&step->b);
    for (uint32_t p = 0; p < count_pairs(step->amx); p++) {
        fetch_ahead(step, p);
        emit_pair(step, pairs[p], &is_back);
        if (!step->share) continue;
        kiln_kv at = kiln_k_add_imm(k, step->first_slot, step->slot++);
        emit_rest(step->amx, step->block, at, step->share);
    }
}

/* Element offset in A of step `number` of the block; where steps have places, of all k. */
static kiln_kv offset_in_a(kiln_amx *amx, kiln_kv number)
{
    if (amx->step_place) return amx->step_place(amx, number);
    return kiln_k_mul_imm(amx->dot.lower->kernel, number, amx->a_step);
}

kiln_kv kiln_amx_step_offset(kiln_amx *amx, const kiln_amx_block *block, kiln_kv step)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    if (amx->step_place) step = kiln_k_binary(k, KILN_K_add, block->first, step);
    return offset_in_a(amx, step);
}

/* Steps of k from `first` on, `n` of them in a row. */
static void emit_steps(tile_step *step, kiln_kv first, int64_t n)
{
    kiln_amx *amx = step->amx;
    const kiln_amx_block *block = step->block;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv number = amx->step_place ? kiln_k_binary(k, KILN_K_add, block->first, first) : first;
    kiln_kv b_offset = kiln_k_mul_imm(k, first, KILN_TILE_WORDS);
    kiln_kv a = kiln_k_binary(k, KILN_K_add, block->a, offset_in_a(amx, number));
    kiln_kv b = kiln_k_binary(k, KILN_K_add, block->b, b_offset), ahead = block->ahead;
    if (block->lines) ahead = kiln_k_binary(k, KILN_K_add, ahead, b_offset);
    step->slot = 0;
    for (int64_t i = 0; i < n; i++) {
        if (amx->step_place && i)
            a = kiln_k_binary(k, KILN_K_add, block->a,
                              offset_in_a(amx, kiln_k_add_imm(k, number, i)));
        step->a_at = kiln_k_add_imm(k, a, amx->step_place ? 0 : i * amx->a_step);
        step->b_at = kiln_k_add_imm(k, b, i * KILN_TILE_WORDS);
        if (block->lines) step->ahead = kiln_k_add_imm(k, ahead, i * KILN_TILE_WORDS);
        emit_step(step);
    }
}

static tile_step open_step(kiln_amx *amx, const kiln_amx_block *block)
{
    uint32_t n_sums = block->rows * block->vectors, n_free = KILN_N_TILES - n_sums;
    uint32_t n_a = n_free / 2 < block->rows ? n_free / 2 : block->rows;
    tile_step step = {.amx = amx, .block = block};
    step.a = (tile_pool){.first = n_sums, .n = n_a};
    step.b = (tile_pool){.first = n_sums + n_a, .n = n_free - n_a};
    return step;
}

int64_t kiln_amx_pitch(const kiln_amx *amx, const kiln_amx_block *block)
{
    return block->pitch ? block->pitch : amx->dot.vectors * KILN_TILE_SIDE;
}

/* Element of the sums where those of tile number `i` begin. */
static kiln_kv tile_of_sums(const kiln_amx *amx, const kiln_amx_block *block, uint32_t i)
{
    int64_t row = i / block->vectors * KILN_TILE_SIDE;
    int64_t offset = row * kiln_amx_pitch(amx, block) + i % block->vectors * KILN_TILE_SIDE;
    return kiln_k_add_imm(amx->dot.lower->kernel, block->at, offset);
}

/* Steps of an iteration of the loop over k: in x6 one is long enough. */
static int64_t unrolled(const kiln_amx *amx)
{
    return amx->n_parts == 3 ? 1 : UNROLL;
}

/* Whether a step loads the operands of the next one, each as soon as its register is free: 2 x 2
 * tiles, whose four operands stand in registers of their own. 6 % faster than loading before use,
 * and more where B comes from memory. */
static bool is_ahead_of_use(const kiln_amx *amx, const kiln_amx_block *block)
{
    bool is_square = block->rows == 2 && block->vectors == 2;
    return is_square && amx->n_parts == 1 && amx->dot.lower->machine->has_amx;
}

/* Iterations of the loop over n steps; the last step of those that load ahead stands after it. */
static int64_t iterations_of(const kiln_amx *amx, const kiln_amx_block *block, int64_t n)
{
    return (is_ahead_of_use(amx, block) ? n - 1 : n) / unrolled(amx);
}

/* Iterations over which the rest is spread; with rest->n_steps all runs' together. */
static int64_t rest_iterations(const kiln_amx *amx, const kiln_amx_block *block)
{
    int64_t n = block->rest->n_steps, run = amx->run;
    if (!n) return iterations_of(amx, block, block->n);
    int64_t tail = n % run ? iterations_of(amx, block, n % run) : 0;
    return n / run * iterations_of(amx, block, run) + tail;
}

/* The number of an iteration that begins at step `at`, among those. */
static kiln_kv rest_number(const kiln_amx *amx, const kiln_amx_block *block, kiln_kv at)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv number = kiln_k_div_imm(k, at, unrolled(amx));
    if (!block->rest->n_steps) return number;
    kiln_kv before = kiln_k_div_imm(k, block->rest->begin, amx->run);
    before = kiln_k_mul_imm(k, before, iterations_of(amx, block, amx->run));
    return kiln_k_binary(k, KILN_K_add, before, number);
}

/* Rows at * share … of the rest, `share` of them, none past its end. */
static void emit_rest(kiln_amx *amx, const kiln_amx_block *block, kiln_kv at, int64_t share)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    const kiln_amx_rest *rest = block->rest;
    kiln_kv end = kiln_k_const_i64(k, rest->n_rows);
    kiln_kv range[2] = {kiln_k_min(k, kiln_k_mul_imm(k, at, share), end)};
    kiln_kv length =
        kiln_k_min(k, kiln_k_binary(k, KILN_K_sub, end, range[0]), kiln_k_const_i64(k, share));
    length = kiln_k_binary(k, KILN_K_mul, rest->exists, length);
    range[1] = kiln_k_binary(k, KILN_K_add, range[0], length);
    uint32_t step = 4;
    while (share % step || rest->n_rows % step) step /= 2;
    rest->emit(amx, rest, range, step);
}

/* What is left of the block before, where no steps are in between. */
static void emit_all_rest(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    int64_t unroll = unrolled(amx), here = block->n / unroll * unroll;
    int64_t iterations = rest_iterations(amx, block);
    kiln_kv zero = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, here);
    if (!iterations) {
        emit_rest(amx, block, zero, block->rest->n_rows);
        return;
    }
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, unroll);
    int64_t share = kiln_ceil_div(block->rest->n_rows, iterations);
    emit_rest(amx, block, rest_number(amx, block, at), share);
    kiln_k_end(k);
}

/* Where step `number` of the block has its operands. */
static void place_step(tile_step *step, kiln_kv number)
{
    kiln_amx *amx = step->amx;
    const kiln_amx_block *block = step->block;
    kiln_kernel *k = amx->dot.lower->kernel;
    kiln_kv b_offset = kiln_k_mul_imm(k, number, KILN_TILE_WORDS);
    kiln_kv a_offset = kiln_amx_step_offset(amx, block, number);
    step->a_at = kiln_k_binary(k, KILN_K_add, block->a, a_offset);
    step->b_at = kiln_k_binary(k, KILN_K_add, block->b, b_offset);
    if (block->lines) step->ahead = kiln_k_binary(k, KILN_K_add, block->ahead, b_offset);
}

static void emit_share(tile_step *step)
{
    kiln_kernel *k = step->amx->dot.lower->kernel;
    if (!step->share) return;
    kiln_kv at = kiln_k_add_imm(k, step->first_slot, step->slot++);
    emit_rest(step->amx, step->block, at, step->share);
}

/* The products of a step whose operands are there; `next`, or 0, is the step to load. */
static void emit_loaded_step(tile_step *step, kiln_kv next)
{
    kiln_amx *amx = step->amx;
    kiln_kernel *k = amx->dot.lower->kernel;
    uint32_t a = step->a.first, b = step->b.first;
    fetch_ahead(step, 0);
    if (next) place_step(step, next);
    kiln_k_tile_dot(k, amx->product, 0, a, b);
    kiln_k_tile_dot(k, amx->product, 1, a, b + 1);
    if (next) load_rows(step, a, 0, 0);
    if (step->has_halves) emit_share(step);
    kiln_k_tile_dot(k, amx->product, 2, a + 1, b);
    if (next) load_columns(step, b, 0, 0);
    kiln_k_tile_dot(k, amx->product, 3, a + 1, b + 1);
    if (next) load_rows(step, a + 1, 0, 1);
    if (next) load_columns(step, b + 1, 0, 1);
    emit_share(step);
}

static void load_first_step(tile_step *step)
{
    place_step(step, kiln_k_const_i64(step->amx->dot.lower->kernel, 0));
    load_rows(step, step->a.first, 0, 0);
    load_columns(step, step->b.first, 0, 0);
    load_columns(step, step->b.first + 1, 0, 1);
    load_rows(step, step->a.first + 1, 0, 1);
}

/* Steps from `first` on, `n` of them; the operands of the first one are there. */
static void emit_loaded_steps(tile_step *step, kiln_kv first, int64_t n, bool is_end)
{
    kiln_kernel *k = step->amx->dot.lower->kernel;
    step->slot = 0;
    for (int64_t i = 0; i < n; i++) {
        kiln_kv next = is_end && i == n - 1 ? 0 : kiln_k_add_imm(k, first, i + 1);
        place_step(step, kiln_k_add_imm(k, first, i));
        emit_loaded_step(step, next);
    }
}

/* Shares of the rest in a step, or 0: one after an iteration. Products of tiles and other work
 * overlap as far as the processor looks ahead, some 500 instructions: a gelu after every second
 * product (a row of 32 results) costs half of what it does after every eighth. What follows
 * products of bytes is short enough for that (2 % slower in pieces). */
static int64_t slots_of(const kiln_amx *amx, const kiln_amx_block *block)
{
    if (!block->rest || block->rest->is_short) return count_pairs(amx);
    bool is_bf16 = amx->product == KILN_K_tile_dot_bf16 && amx->n_parts == 1;
    return !is_bf16 ? 0 : is_ahead_of_use(amx, block) ? 2 : 1;
}

/* The loop over k, with the rest between its steps. */
static void emit_loop(kiln_amx *amx, tile_step *step)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    const kiln_amx_block *block = step->block;
    const kiln_amx_rest *rest = block->rest;
    kiln_kv zero = kiln_k_const_i64(k, 0);
    bool is_ahead = is_ahead_of_use(amx, block);
    int64_t unroll = unrolled(amx), iterations = rest ? rest_iterations(amx, block) : 0;
    int64_t slots = unroll * slots_of(amx, block);
    int64_t here = iterations_of(amx, block, block->n) * unroll;
    if (rest && !iterations) emit_rest(amx, block, zero, rest->n_rows);
    if (is_ahead) load_first_step(step);
    kiln_kv end = kiln_k_const_i64(k, here);
    kiln_kv at = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, end, unroll);
    step->has_halves = slots > unroll * count_pairs(amx);
    if (iterations && slots) {
        step->share = kiln_ceil_div(rest->n_rows, iterations * slots);
        step->first_slot = kiln_k_mul_imm(k, rest_number(amx, block, at), slots);
    }
    if (is_ahead)
        emit_loaded_steps(step, at, unroll, false);
    else
        emit_steps(step, at, unroll);
    if (iterations && !slots) {
        int64_t share = kiln_ceil_div(rest->n_rows, iterations);
        emit_rest(amx, block, rest_number(amx, block, at), share);
    }
    kiln_k_end(k);
    step->share = 0;
    if (is_ahead)
        emit_loaded_steps(step, end, block->n - here, true);
    else if (here < block->n)
        emit_steps(step, end, block->n - here);
}

void kiln_amx_run(kiln_amx *amx, const kiln_amx_block *block)
{
    kiln_kernel *k = amx->dot.lower->kernel;
    if (!amx->dot.lower->machine->has_amx) {
        kiln_amx_run_vectors(amx, block);
        if (block->rest) emit_all_rest(amx, block);
        return;
    }
    uint32_t n_sums = block->rows * block->vectors;
    int64_t width = kiln_amx_pitch(amx, block);
    tile_step step = open_step(amx, block);
    for (uint32_t i = 0; i < n_sums; i++) {
        if (block->is_fresh)
            kiln_k_tile_zero(k, i);
        else
            kiln_k_tile_load(k, i, block->sums, tile_of_sums(amx, block, i), width);
    }
    emit_loop(amx, &step);
    for (uint32_t i = 0; i < n_sums; i++)
        kiln_k_tile_store(k, i, block->sums, tile_of_sums(amx, block, i), width);
}
