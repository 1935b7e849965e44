/* One node whose distances are looked for: what the files of bounds share. */
#ifndef OPS_BOUND_RUN_H
#define OPS_BOUND_RUN_H

#include "ops/bound.h"

typedef struct bound_run {
    kiln_scope *scope;
    bounds *out;
    const kiln_node *node;
    double *error; /* of the node, zeroed */
} bound_run;

/* Of operand i: its type, its elements, their distances or NULL for all 0. */
const kiln_type *bound_operand_type(const bound_run *run, uint32_t i);
const void *bound_operand_data(const bound_run *run, uint32_t i);
const double *bound_operand_error(const bound_run *run, uint32_t i);
/* Whether an operand has distances. */
bool bound_has_errors(const bound_run *run);

/* Whether a number off by `error` may be infinite or, being infinite, may be the largest number:
 * infinities that are sure have errors below the top's unit. */
bool bound_reaches_top(kiln_dtype dtype, double x, double error);

/* Fills run->error of an elementwise node. */
void bound_elementwise(bound_run *run);
#endif
