/* Open batches: n rows in, chunks of the compiled sizes out. Here is what the runtime and compiled
 * models by themselves share; batch.c binds and runs workspaces.
 *
 *     37 rows, sizes 1, 8, 64:   0…7  8…15  16…23  24…31  29…36 */
#ifndef KILN_RUNTIME_BATCH_H
#define KILN_RUNTIME_BATCH_H

#include <stdbool.h>
#include <string.h>

#include "kiln/program.h"

#define KILN_MAX_LARGER 64u

/* Fields of abi 2 are not there in older tables. */
static inline bool kiln_program_is_open(const kiln_program *program)
{
    return program->abi >= 2 && program->rows > 0;
}

/* Size `i` of an open program: itself, then the larger ones. */
static inline const kiln_program *kiln_program_size(const kiln_program *program, uint32_t i)
{
    return i ? program->larger[i - 1] : program;
}

static inline uint32_t kiln_program_n_sizes(const kiln_program *program)
{
    return kiln_program_is_open(program) ? program->n_larger + 1 : 1;
}

/* Port `port`, inputs before outputs. */
static inline const kiln_port_row *kiln_program_port(const kiln_program *program, uint32_t port)
{
    return port < program->n_inputs ? &program->inputs[port]
                                    : &program->outputs[port - program->n_inputs];
}

/* The size that runs next when `done` < n of n rows are done, and its first row: the largest one
 * that is filled by the rest, or more than half; the latter reaches back, and so does the smallest
 * one. Fewer rows than it has are run by themselves, padded. */
static inline uint32_t kiln_batch_next(const kiln_program *program, int64_t n, int64_t done,
                                       int64_t *out_first)
{
    int64_t left = n - done;
    for (uint32_t i = program->n_larger; i > 0; i--) {
        int64_t rows = program->larger[i - 1]->rows;
        if (rows > n || left <= rows / 2) continue;
        *out_first = left >= rows ? done : n - rows;
        return i;
    }
    *out_first = left >= program->rows ? done : n > program->rows ? n - program->rows : 0;
    return 0;
}

/* Bytes of one row of a batched port. */
static inline int64_t kiln_batch_row_bytes(const kiln_program *program, uint32_t port)
{
    return kiln_program_port(program, port)->bytes / program->rows;
}

/* Padded rows of batched ports lie at the end of the arena of the smallest size: the bytes of those
 * before `port`. None where the smallest size is one row. */
static inline int64_t kiln_batch_pad_bytes(const kiln_program *program, uint32_t port)
{
    int64_t bytes = 0;
    for (uint32_t p = 0; p < port && program->rows > 1; p++) {
        if (program->is_batched[p]) bytes += (kiln_program_port(program, p)->bytes + 63) / 64 * 64;
    }
    return bytes;
}

static inline char *kiln_batch_pad(const kiln_program *program, uint32_t port, char *arena)
{
    return arena + program->arena_bytes - kiln_batch_pad_bytes(program, port + 1);
}

/* The rows, then the last one again and again. */
static inline void kiln_batch_fill(const kiln_program *program, uint32_t port, int64_t rows,
                                   const void *from, char *to)
{
    size_t bytes = (size_t)kiln_batch_row_bytes(program, port);
    if (!bytes) return;
    memcpy(to, from, (size_t)rows * bytes);
    for (int64_t i = rows; i < program->rows; i++)
        memcpy(to + (size_t)i * bytes, to + (size_t)(i - 1) * bytes, bytes);
}
#endif
