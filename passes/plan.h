/* Memory planning at work: intervals of steps get offsets in one arena. */
#ifndef KILN_PASSES_PLAN_H
#define KILN_PASSES_PLAN_H

#include "passes/pass.h"

/* A stretch of the arena that one place, or several that take over from each other, occupies. */
typedef struct kiln_block {
    int64_t bytes; /* a multiple of 64 */
    uint32_t first, last;
    int64_t offset; /* result */
} kiln_block;

/* Places blocks so that those which live at the same step do not overlap; returns the arena's
 * bytes. Several greedy orders are tried until one meets `*out_bound`, the most bytes alive at one
 * step. */
int64_t kiln_place_blocks(kiln_scope *scope, kiln_block *blocks, uint32_t n, int64_t *out_bound);

typedef struct kiln_output_ref {
    uint32_t group, number; /* output `number` of a group */
} kiln_output_ref;

/* plan_share.c: the input whose memory an output of its group may take over, as a position in
 * group->inputs, or KILN_NONE. `can_take` says which inputs are free for it. */
uint32_t kiln_shared_input(kiln_scope *scope, const kiln_schedule *schedule, kiln_output_ref output,
                           const bool *can_take);

/* plan_donate.c: fills schedule->donations; the places are complete. */
void kiln_plan_donations(kiln_scope *scope, kiln_schedule *schedule);
#endif
