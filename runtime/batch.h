/* Open batches: n rows in, chunks of the compiled sizes out. Here is what the runtime and compiled
 * models by themselves share; batch.c binds and runs workspaces.
 *
 *     37 rows, sizes 1, 8, 64:   0…7  8…15  16…23  24…31  29…36 */
#ifndef KILN_RUNTIME_BATCH_H
#define KILN_RUNTIME_BATCH_H

#include <stdbool.h>

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
 * that is filled by the rest, or more than half; the latter reaches back. Size 0 fits always. */
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
    *out_first = done;
    return 0;
}
#endif
