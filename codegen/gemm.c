/* The register tile generator: sums in loop carries, k unrolled by four. Offsets of rows and
 * vectors are constants, so the machine code has one index register per operand and no spills. */
#include "codegen/gemm.h"

#include "base/checked.h"
#include "codegen/math.h"

#define UNROLL 4
#define MOST_LINES 4 /* that are asked for in as many steps of k */
#define LINE_BYTES 64
#define PREFETCH_STEPS 16
#define PREFETCH_ROWS 4 /* fewer rows are bound by the loads themselves */
#define FOLLOWED_ROWS 8 /* the first cache's own prefetcher loses its way among more loads */

static kiln_kv to_sum_dtype(kiln_tile *tile, kiln_kv value, kiln_tile_source source)
{
    kiln_kernel *k = tile->lower->kernel;
    if (source.dtype != KILN_NO_DTYPE) value = kiln_math_from_storage(k, value, source.dtype);
    return kiln_k_convert(k, value, tile->dtype);
}

kiln_kv kiln_tile_load_row(kiln_tile *tile, kiln_kv at, int64_t offset)
{
    kiln_kernel *k = tile->lower->kernel;
    kiln_kv value = kiln_k_load(k, tile->a.buffer, kiln_k_add_imm(k, at, offset), 1, 0, 0);
    return kiln_k_splat(k, to_sum_dtype(tile, value, tile->a), tile->lanes);
}

static kiln_kv load_vector(kiln_tile *tile, uint32_t vector, kiln_kv at, int64_t offset)
{
    kiln_kernel *k = tile->lower->kernel;
    if (tile->widen) return tile->widen(tile->widen_user, vector, at, offset);
    kiln_kv mask = vector + 1 == tile->vectors ? tile->b_mask : 0;
    if (tile->masks[vector]) mask = tile->masks[vector];
    uint32_t flags = tile->b_is_aligned && !mask ? KILN_MEM_ALIGNED : 0;
    kiln_kv offset_of = kiln_k_add_imm(k, at, tile->b_vector[vector] + offset);
    return to_sum_dtype(tile, kiln_k_load(k, tile->b.buffer, offset_of, tile->lanes, mask, flags),
                        tile->b);
}

kiln_kv kiln_tile_multiply_add(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv sum)
{
    if (kiln_dtype_is_float((kiln_dtype)kiln_kernel_at(k, a)->dtype))
        return kiln_k_fma(k, a, b, sum);
    return kiln_k_binary(k, KILN_K_add, sum, kiln_k_binary(k, KILN_K_mul, a, b));
}

/* Whether B's lines are asked for a few steps ahead: they come in once for all rows, a line per
 * vector and step. What was fetched from further away is in the second cache by now, and few rows
 * leave it to the machine to bring it nearer. */
static bool is_fetched_near(const kiln_tile *tile)
{
    if (tile->b_is_near || tile->rows < PREFETCH_ROWS) return false;
    return !tile->far || tile->rows > FOLLOWED_ROWS;
}

/* Step `step` of k after the elements at `a` and `b`. */
static void emit_step(kiln_tile *tile, kiln_kv a, kiln_kv b, int64_t step)
{
    kiln_kernel *k = tile->lower->kernel;
    kiln_kv vectors[KILN_TILE_VECTORS];
    bool is_ahead = is_fetched_near(tile);
    for (uint32_t v = 0; is_ahead && v < tile->vectors; v++) {
        int64_t offset = tile->b_vector[v] + (step + PREFETCH_STEPS) * tile->b_k;
        kiln_k_prefetch(k, tile->b.buffer, kiln_k_add_imm(k, b, offset));
    }
    for (uint32_t v = 0; v < tile->vectors; v++)
        vectors[v] = load_vector(tile, v, b, step * tile->b_k);
    for (uint32_t r = 0; r < tile->rows; r++) {
        kiln_kv from = tile->a_place[r] ? kiln_k_binary(k, KILN_K_add, a, tile->a_place[r]) : a;
        kiln_kv row = kiln_tile_load_row(tile, from, tile->a_row[r] + step * tile->a_k);
        kiln_kv *sums = tile->sums + r * tile->vectors;
        for (uint32_t v = 0; v < tile->vectors; v++)
            sums[v] = kiln_tile_multiply_add(k, row, vectors[v], sums[v]);
    }
}

void kiln_tile_zero(kiln_tile *tile)
{
    kiln_kv zero = kiln_k_const_bits(tile->lower->kernel, tile->dtype, tile->lanes, 0);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++) tile->sums[i] = zero;
}

kiln_kv kiln_tile_loop(kiln_tile *tile, kiln_kv begin, kiln_kv end, int64_t step)
{
    kiln_kernel *k = tile->lower->kernel;
    kiln_kv variable = kiln_k_loop(k, KILN_LOOP_SERIAL, begin, end, step);
    for (uint32_t i = 0; i < tile->rows * tile->vectors; i++)
        tile->sums[i] = kiln_k_carry(k, tile->sums[i]);
    return variable;
}

/* The carries of the innermost open loop, in order. */
static void open_carries(const kiln_kernel *k, kiln_kv *out_carries, uint32_t n)
{
    kiln_kv at = k->open_loops.at[k->open_loops.n - 1];
    for (uint32_t i = 0; i < n; i++) {
        do at++;
        while (kiln_kernel_at(k, at)->op != KILN_K_carry);
        out_carries[i] = at;
    }
}

void kiln_tile_loop_end(kiln_tile *tile)
{
    kiln_kernel *k = tile->lower->kernel;
    kiln_kv carries[KILN_TILE_SUMS];
    uint32_t n = tile->rows * tile->vectors;
    open_carries(k, carries, n);
    for (uint32_t i = 0; i < n; i++) kiln_k_next(k, carries[i], tile->sums[i]);
    kiln_k_end(k);
    for (uint32_t i = 0; i < n; i++) tile->sums[i] = kiln_k_last(k, carries[i]);
}

static void fetch_far(kiln_tile *tile, kiln_kv at)
{
    kiln_kernel *k = tile->lower->kernel;
    int64_t line = LINE_BYTES / (int64_t)kiln_dtype_bytes(tile->dtype);
    int64_t next = tile->far_stream ? line : tile->far_lines * line;
    int64_t beside = tile->far_stream ? tile->far_stream * line : line;
    kiln_kv from = kiln_k_mul_imm(k, at, next / UNROLL);
    from = kiln_k_binary(k, KILN_K_add, tile->far, from);
    for (int64_t i = 0; i < tile->far_lines; i++)
        kiln_k_prefetch_far(k, tile->far_buffer, kiln_k_add_imm(k, from, i * beside));
}

int64_t kiln_tile_most_lines(int64_t steps, int64_t n_tiles)
{
    return steps / UNROLL * MOST_LINES * n_tiles;
}

int64_t kiln_tile_panels(const kiln_tile *tile)
{
    return kiln_ceil_div((int64_t)tile->vectors * tile->lanes, KILN_PANEL);
}

void kiln_tile_fetch(kiln_tile *tile, const kiln_tile_next *next)
{
    kiln_kernel *k = tile->lower->kernel;
    int64_t trips = next->steps / UNROLL, lines = 1, wanted = next->n_panels * next->size;
    while (lines < MOST_LINES && lines * trips * next->n_tiles < wanted) lines *= 2;
    int64_t each = lines * trips, last = kiln_max_i64(0, wanted - each);
    if (wanted == 0 || each * next->n_tiles < wanted) return;
    kiln_kv line = kiln_k_mul_imm(k, next->number, each);
    if (!next->goes_on) line = kiln_k_min(k, line, kiln_k_const_i64(k, last));
    kiln_kv panel = kiln_k_mul_imm(k, kiln_k_div_imm(k, line, next->size), next->panel);
    kiln_kv part = kiln_k_mul_imm(k, kiln_k_rem_imm(k, line, next->size), KILN_PANEL);
    tile->far = kiln_k_binary(k, KILN_K_add, kiln_k_binary(k, KILN_K_add, panel, part), next->from);
    tile->far_lines = lines;
    tile->far_stream = next->panel == next->size * KILN_PANEL ? trips : 0;
    tile->far_buffer = next->buffer;
}

/* At step `at` of `n`: the lines of one row beside the results; all rows by the end. */
static void fetch_beside(kiln_tile *tile, kiln_kv at, int64_t n)
{
    kiln_kernel *k = tile->lower->kernel;
    if (!tile->n_beside) return;
    int64_t rows = tile->beside_rows ? tile->beside_rows : tile->rows;
    kiln_kv row = kiln_k_div_imm(k, kiln_k_mul_imm(k, at, rows), n);
    for (uint32_t i = 0; i < tile->n_beside; i++) {
        const kiln_tile_beside *beside = &tile->beside[i];
        kiln_kv from =
            kiln_k_binary(k, KILN_K_add, beside->at, kiln_k_mul_imm(k, row, beside->stride));
        for (uint32_t v = 0; v < tile->vectors; v++)
            kiln_k_prefetch_far(k, beside->buffer,
                                kiln_k_add_imm(k, from, (int64_t)v * tile->lanes));
    }
}

void kiln_tile_accumulate(kiln_tile *tile, kiln_kv a, kiln_kv b, int64_t n)
{
    kiln_kernel *k = tile->lower->kernel;
    int64_t unroll = tile->unroll ? tile->unroll : UNROLL, whole = n / unroll * unroll;
    if (whole > unroll) {
        kiln_kv begin = kiln_k_const_i64(k, 0), end = kiln_k_const_i64(k, whole);
        kiln_kv at = kiln_tile_loop(tile, begin, end, unroll);
        kiln_kv a_at = kiln_k_binary(k, KILN_K_add, a, kiln_k_mul_imm(k, at, tile->a_k));
        kiln_kv b_at = kiln_k_binary(k, KILN_K_add, b, kiln_k_mul_imm(k, at, tile->b_k));
        if (tile->far) fetch_far(tile, at);
        fetch_beside(tile, at, whole);
        for (int64_t u = 0; u < unroll; u++) emit_step(tile, a_at, b_at, u);
        kiln_tile_loop_end(tile);
    } else {
        whole = 0;
    }
    for (int64_t u = whole; u < n; u++) emit_step(tile, a, b, u);
}

void kiln_tile_use_panels(kiln_tile *tile, int64_t k_size)
{
    tile->b_k = KILN_PANEL;
    tile->b_is_aligned = true;
    tile->b_mask = 0;
    for (uint32_t v = 0; v < tile->vectors; v++) {
        int64_t column = (int64_t)v * tile->lanes;
        tile->b_vector[v] = column / KILN_PANEL * k_size * KILN_PANEL + column % KILN_PANEL;
    }
}

/* Cycles of one step of k: two fma a cycle, fewer where there is more than a load for two of them
 * (measured from the first cache: 8 x 3, 9 x 3 and 6 x 4 vectors reach all of the two, 14 x 2 and
 * 12 x 2 94 %, 28 x 1 83 %; from the second one 9 x 3 falls behind, and 7 x 2, 10 x 2 and 13 x 2
 * take a cycle more than their work); four cycles until a sum can be
 * added to again; and B at 20 bytes a cycle where its panels are too long for the first cache. */
static double step_cycles(const kiln_machine *machine, uint32_t rows, uint32_t vectors, int64_t k)
{
    double work = rows * vectors * 0.5, loads = (rows + vectors) * 0.58, latency = 4;
    if (rows + vectors > work)
        work += 0.85;
    else if (rows > 8)
        work *= 1.03;
    double most = work > loads ? work : loads;
    int64_t panel_bytes = k * vectors * machine->vector_bytes;
    double stream =
        panel_bytes > machine->l1_bytes / 10 * 7 ? vectors * machine->vector_bytes / 20.0 : 0;
    if (stream > most) most = stream;
    return most > latency ? most : latency;
}

double kiln_tile_cycles(const kiln_machine *machine, uint32_t rows, uint32_t vectors, int64_t k)
{
    return step_cycles(machine, rows, vectors, k) * (double)k + 16 + 2.0 * rows * vectors;
}

static double rows_cycles(const kiln_machine *machine, int64_t m, kiln_tile_choice tile, int64_t k)
{
    double cycles = (double)(m / tile.rows) * kiln_tile_cycles(machine, tile.rows, tile.vectors, k);
    uint32_t tail = (uint32_t)(m % tile.rows);
    return tail ? cycles + kiln_tile_cycles(machine, tail, tile.vectors, k) : cycles;
}

static bool tile_fits(const kiln_machine *machine, uint32_t rows, uint32_t vectors, uint32_t unit)
{
    uint32_t registers = machine->n_vector_registers;
    bool fits = rows * vectors + vectors + 1 <= registers || (rows <= 2 && vectors == unit);
    return fits && rows * vectors <= KILN_TILE_SUMS;
}

static double all_cycles(const kiln_machine *machine, const kiln_tile_shape *shape,
                         kiln_tile_choice tile)
{
    int64_t n_vectors = kiln_ceil_div(shape->n, shape->lanes);
    kiln_tile_choice rest = {.rows = tile.rows, .vectors = (uint32_t)(n_vectors % tile.vectors)};
    double cycles =
        (double)(n_vectors / tile.vectors) * rows_cycles(machine, shape->m, tile, shape->k);
    return rest.vectors ? cycles + rows_cycles(machine, shape->m, rest, shape->k) : cycles;
}

/* Puts a tile in its place among those found; of equal ones the first stays ahead. */
static uint32_t insert_tile(kiln_tile_choice *tiles, uint32_t n, uint32_t most,
                            kiln_tile_choice tile)
{
    uint32_t at = n;
    while (at > 0 && tile.cycles < tiles[at - 1].cycles) at--;
    if (at == most) return n;
    if (n < most) n++;
    for (uint32_t i = n - 1; i > at; i--) tiles[i] = tiles[i - 1];
    tiles[at] = tile;
    return n;
}

uint32_t kiln_tile_rank(const kiln_machine *machine, const kiln_tile_shape *shape, uint32_t most,
                        kiln_tile_choice *out_tiles)
{
    uint32_t unit = shape->lanes < KILN_PANEL ? KILN_PANEL / shape->lanes : 1, n = 0;
    uint32_t most_rows = shape->most_rows ? shape->most_rows : KILN_TILE_ROWS;
    for (uint32_t vectors = unit; vectors <= KILN_TILE_VECTORS; vectors += unit) {
        for (uint32_t rows = 1; rows <= most_rows && rows <= shape->m; rows++) {
            if (!tile_fits(machine, rows, vectors, unit)) continue;
            kiln_tile_choice tile = {.rows = rows, .vectors = vectors};
            tile.cycles = all_cycles(machine, shape, tile);
            n = insert_tile(out_tiles, n, most, tile);
        }
    }
    return n;
}

kiln_tile_choice kiln_tile_choose(const kiln_machine *machine, uint32_t lanes, int64_t m, int64_t n,
                                  int64_t k)
{
    kiln_tile_choice best = {.cycles = -1};
    kiln_tile_shape shape = {.lanes = lanes, .m = m, .n = n, .k = k};
    kiln_tile_rank(machine, &shape, 1, &best);
    return best;
}
