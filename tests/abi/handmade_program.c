/* The hand-made program: two steps in a region, a copy, a step with scratch, a loop of BRANCH and
 * JUMP, and a CHECK. Tiles of the row steps are groups of 8 rows. */
#include "tests/abi/handmade_program.h"

#include <stddef.h>

#include "kiln/types.h"

#define ROWS HANDMADE_ROWS
#define COLUMNS HANDMADE_COLUMNS
#define CELLS (ROWS * COLUMNS)
#define TILE_ROWS 8
#define N_TILES ((ROWS + TILE_ROWS - 1) / TILE_ROWS)
#define EXPORT __attribute__((visibility("default")))

static uint32_t tile_end_row(uint32_t tile)
{
    uint32_t end = (tile + 1) * TILE_ROWS;
    return end < ROWS ? end : ROWS;
}

/* x, y, t: t = x * 2 + y */
static void scale_add(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    const float *x = args->buffers[0], *y = args->buffers[1];
    float *t = args->buffers[2];
    for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
        for (uint32_t i = tile * TILE_ROWS * COLUMNS; i < tile_end_row(tile) * COLUMNS; i++) {
            t[i] = x[i] * 2 + y[i];
        }
    }
}

/* t, table, u: u = t + table, from the last row up, so that a step begun too early is seen */
static void add_table(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    const float *t = args->buffers[0], *table = args->buffers[1];
    float *u = args->buffers[2];
    for (uint32_t tile = tile_begin; tile < tile_end; tile++) {
        uint32_t from = N_TILES - 1 - tile;
        for (uint32_t row = from * TILE_ROWS; row < tile_end_row(from); row++) {
            for (uint32_t c = 0; c < COLUMNS; c++) {
                u[row * COLUMNS + c] = t[row * COLUMNS + c] + table[c];
            }
        }
    }
}

/* v, out: each row less its mean; the row passes through scratch */
static void center(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    const float *v = args->buffers[0];
    float *out = args->buffers[1], *row_copy = args->scratch;
    for (uint32_t row = tile_begin * TILE_ROWS; row < tile_end_row(tile_end - 1); row++) {
        float sum = 0;
        for (uint32_t c = 0; c < COLUMNS; c++) {
            row_copy[c] = v[row * COLUMNS + c];
            sum += row_copy[c];
        }
        for (uint32_t c = 0; c < COLUMNS; c++) {
            out[row * COLUMNS + c] = row_copy[c] - sum / COLUMNS;
        }
    }
}

/* state, total: the loop's start; state = {column, bool "done"} */
static void loop_start(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    int64_t *column = args->buffers[0];
    *column = 0;
    *(unsigned char *)args->buffers[1] = 0;
    *(float *)args->buffers[2] = 0;
}

/* x, column, done, total: one trip */
static void loop_trip(const kiln_kernel_args *args, uint32_t tile_begin, uint32_t tile_end)
{
    const float *x = args->buffers[0];
    int64_t *column = args->buffers[1];
    *(float *)args->buffers[3] += x[*column];
    *column += 1;
    *(unsigned char *)args->buffers[2] = *column == COLUMNS;
}

static const int64_t matrix_dims[] = {ROWS, COLUMNS};

static const kiln_port_row inputs[] = {
    {"x", KILN_f32, 2, matrix_dims, CELLS * 4, 0, 0},
    {"y", KILN_f32, 2, matrix_dims, CELLS * 4, KILN_NONE, 0},
    {"fault", KILN_i64, 0, NULL, 8, KILN_NONE, 0},
};

static const kiln_port_row outputs[] = {
    {"out", KILN_f32, 2, matrix_dims, CELLS * 4, KILN_NONE, 0},
    {"total", KILN_f32, 0, NULL, 4, KILN_NONE, 0},
};

static const _Alignas(64) float column_table[COLUMNS] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
};

#define ARENA_ROW 68032 /* CELLS * 4, up to a multiple of 64 */

enum { X, Y, FAULT, OUT, TOTAL, TABLE, T, U, V, COLUMN, DONE };

static const kiln_buffer_row buffers[] = {
    [X] = {KILN_BUFFER_INPUT, 0, 0, CELLS * 4},
    [Y] = {KILN_BUFFER_INPUT, 1, 0, CELLS * 4},
    [FAULT] = {KILN_BUFFER_INPUT, 2, 0, 8},
    [OUT] = {KILN_BUFFER_OUTPUT, 0, 0, CELLS * 4},
    [TOTAL] = {KILN_BUFFER_OUTPUT, 1, 0, 4},
    [TABLE] = {KILN_BUFFER_CONSTANT, KILN_NONE, 0, sizeof column_table},
    [T] = {KILN_BUFFER_ARENA, KILN_NONE, 0, CELLS * 4},
    [U] = {KILN_BUFFER_ARENA, KILN_NONE, ARENA_ROW, CELLS * 4},
    [V] = {KILN_BUFFER_ARENA, KILN_NONE, 2 * ARENA_ROW, CELLS * 4},
    [COLUMN] = {KILN_BUFFER_ARENA, KILN_NONE, 3 * ARENA_ROW, 8},
    [DONE] = {KILN_BUFFER_ARENA, KILN_NONE, 3 * ARENA_ROW + 64, 1},
};

static const uint32_t operands[] = {
    COLUMN, DONE, TOTAL,    /* 0: loop_start */
    X, COLUMN, DONE, TOTAL, /* 3: loop_trip */
    DONE,                   /* 7: branch */
    FAULT,                  /* 8: check */
    X, Y, T,                /* 9: scale_add */
    T, TABLE, U,            /* 12: add_table */
    U, V,                   /* 15: copy */
    V, OUT,                 /* 17: center */
};

#define COST 400000 /* far more than it takes: the tests are about sharing */

static const kiln_step_row steps[] = {
    {KILN_STEP_KERNEL, 3, 0, 3, 1, 0, 10, 0, 0},
    {KILN_STEP_KERNEL, 4, 3, 4, 1, 0, 10, 1, 0},
    {KILN_STEP_BRANCH, 4, 7, 1, 0, 0, 0, KILN_NONE, 0},
    {KILN_STEP_JUMP, 1, 0, 0, 0, 0, 0, KILN_NONE, 0},
    {KILN_STEP_CHECK, 2, 8, 1, 0, 0, 0, KILN_NONE, 0},
    {KILN_STEP_KERNEL, 0, 9, 3, N_TILES, 1, COST, KILN_NONE, 0},
    {KILN_STEP_KERNEL, 1, 12, 3, N_TILES, 1, COST, KILN_NONE, 0},
    {KILN_STEP_COPY, 0, 15, 2, 0, 1, 0, KILN_NONE, 0},
    {KILN_STEP_KERNEL, 2, 17, 2, N_TILES, 1, COST, KILN_NONE, 0},
};

static kiln_kernel_fn *const kernels[] = {scale_add, add_table, center, loop_start, loop_trip};
static const char *const kernel_names[] = {"scale_add", "add_table", "center", "loop_start",
                                           "loop_trip"};
static const char *const strings[] = {"loop", "trip", "x: a row index below 0; expected 0 or more"};

EXPORT const kiln_program handmade_program = {
    .abi = KILN_PROGRAM_ABI,
    .struct_bytes = sizeof(kiln_program),
    .name = "handmade",
    .target = "x86-64",
    .producer = "by hand",
    .inputs = inputs,
    .outputs = outputs,
    .buffers = buffers,
    .operands = operands,
    .steps = steps,
    .kernels = kernels,
    .kernel_names = kernel_names,
    .strings = strings,
    .n_inputs = 3,
    .n_outputs = 2,
    .n_buffers = sizeof buffers / sizeof *buffers,
    .n_operands = sizeof operands / sizeof *operands,
    .n_steps = sizeof steps / sizeof *steps,
    .n_kernels = sizeof kernels / sizeof *kernels,
    .n_strings = sizeof strings / sizeof *strings,
    .constants = column_table,
    .constant_bytes = sizeof column_table,
    .arena_bytes = 3 * ARENA_ROW + 128,
    .scratch_bytes = COLUMNS * 4,
};
