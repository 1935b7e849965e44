/* What routine kernels share: one ROUTINE node a group, its operands in memory (or views of it),
 * its result written by loops of the routine's own, which may read back what they wrote. */
#ifndef KILN_CODEGEN_LOWER_ROUTINE_H
#define KILN_CODEGEN_LOWER_ROUTINE_H

#include "codegen/lower.h"

/* The group's ROUTINE node. */
const kiln_node *kiln_routine_node(const kiln_lower *lower);

/* Loops that are open, each with the mark of its memo. */
typedef struct kiln_nest {
    kiln_lower *lower;
    uint32_t n;
    uint32_t marks[4 * KILN_MAX_RANK];
} kiln_nest;

/* Opens the loop over the tiles; closed by kiln_nest_close. LIMIT beyond 2^32 - 1 tiles. */
kiln_kv kiln_nest_tiles(kiln_nest *nest, int64_t n_tiles);
kiln_kv kiln_nest_loop(kiln_nest *nest, kiln_kv begin, kiln_kv end, int64_t step);
/* Closes loops until `n` are open. Carries must have had their next. */
void kiln_nest_close(kiln_nest *nest, uint32_t n);

/* Runs body for begin … end - 1 (i64 scalars) as vectors of `lanes`, the last one masked; sets
 * lower->lanes and lower->mask, and leaves one lane and no mask. */
typedef void kiln_lanes_fn(kiln_lower *lower, void *state, kiln_axis_index at);
typedef struct kiln_lanes_loop {
    kiln_kv begin, end;
    uint32_t lanes;
    kiln_lanes_fn *body;
    void *state;
} kiln_lanes_loop;
void kiln_nest_lanes(kiln_lower *lower, const kiln_lanes_loop *loop);
/* The group's lanes, fewer where `n` is small. */
uint32_t kiln_routine_lanes(const kiln_lower *lower, int64_t n);

/* The result's element as it stands now, in compute form. */
kiln_kv kiln_routine_result(kiln_lower *lower, const kiln_index *index);

/* One function a row. */
typedef void kiln_routine_fn(kiln_lower *lower);
kiln_routine_fn kiln_lower_scatter, kiln_lower_argsort, kiln_lower_cumulative;
kiln_routine_fn kiln_lower_cholesky, kiln_lower_forward_solve;
#endif
