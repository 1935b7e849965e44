/* Walking rows: what the CPU and the GPU lowering of row groups share. */
#ifndef KILN_CODEGEN_LOWER_ROW_H
#define KILN_CODEGEN_LOWER_ROW_H

#include "codegen/lower_stage.h"

#define KILN_ROW_LANES 64 /* logical lanes of a row: element i goes to lane i mod 64 */

typedef struct kiln_row_walk kiln_row_walk;
struct kiln_row_walk {
    kiln_lower *lower;
    kiln_stages stages;
    const kiln_stage *stage; /* at work */
    kiln_axis_index row;
    uint32_t unroll;         /* vectors of one trip: all logical lanes when reducing */
    bool is_small;           /* little work: as little code as can be; CPU */
    bool is_prefetching;     /* this stage asks for the next row's inputs */
    kiln_partials *partials; /* of the stage's reductions */
    uint32_t *locals;        /* of the kept values, by node position */
    kiln_kv (*tree)(kiln_row_walk *w, kiln_partials *partials); /* all lanes to one value */
    /* GPU: a thread is one logical lane; none on a CPU */
    kiln_kv thread_lane;      /* i64 */
    kiln_kv mask, small_mask; /* this thread's row exists; and it stores one element a row */
    kiln_kv slot_base;        /* the row's first thread in the block */
    kiln_kv local_base;       /* where the row's kept values begin in their locals */
};

/* One stage of w->row: binds its kept values and returns its reductions' results. */
const kiln_kv *kiln_row_walk_stage(kiln_row_walk *w, uint32_t number);
/* Binds the kept values of a stage that the row has been through. */
void kiln_row_bind_kept(kiln_row_walk *w, uint32_t number);
/* All stages of w->row, then the outputs with one element a row. */
void kiln_row_walk_all(kiln_row_walk *w);
/* Strides of one row's elements in a local: row-major over the trailing n_reduced, 0 before
 * them. */
void kiln_row_strides(const kiln_type *type, int64_t n_reduced, int64_t *out_strides);
/* lower->lanes, or fewer for short rows. */
uint32_t kiln_row_lanes(const kiln_lower *lower, int64_t n_reduced);
/* The tree of one thread's vectors, for `tree`. */
kiln_kv kiln_row_tree(kiln_row_walk *w, kiln_partials *partials);
/* Locals for the kept values of `n_rows` rows at a time, each rounded up to the logical lanes. */
void kiln_row_add_locals(kiln_row_walk *w, int64_t n_rows);
#endif
