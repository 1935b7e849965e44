/* How a gather or a scatter walks: what each axis of the operand has to do with the index vectors
 * and with the axes of the slices (the result of a gather, the updates of a scatter). StableHLO's
 * meaning: slice axes that are not offset (window) axes run over the index vectors; the start of
 * operand axis start_map[c] is component c of the vector; batch axes are shared one to one. */
#ifndef KILN_GRAPH_GATHER_H
#define KILN_GRAPH_GATHER_H

#include "graph/graph.h"

typedef struct kiln_gather_plan {
    uint32_t rank, slice_rank, index_rank, n_components;
    /* by operand axis */
    int32_t component[KILN_MAX_RANK]; /* of the index vector that moves the axis, or -1 */
    int32_t batch[KILN_MAX_RANK];     /* slice axis that is the same index (a batch axis), or -1 */
    int32_t offset[KILN_MAX_RANK];    /* slice axis that walks it within the slice, or -1 */
    int64_t sizes[KILN_MAX_RANK];     /* of the slice; 1 where nothing walks it */
    /* by axis of the indices */
    int32_t walk[KILN_MAX_RANK]; /* slice axis that is the same index; -1 for the index axis */
} kiln_gather_plan;

/* Of a node whose attributes have passed its type rule. `slice` is the type of the result (gather)
 * or of the updates (scatter). */
void kiln_gather_plan_make(const kiln_attrs *attrs, const kiln_type *operand,
                           const kiln_type *indices, const kiln_type *slice,
                           kiln_gather_plan *out_plan);

/* Whether operand axis `axis` is walked in whole by every slice, or is a batch axis: slices of
 * different indices along it never meet. */
bool kiln_gather_is_apart(const kiln_gather_plan *plan, const kiln_type *operand, uint32_t axis);
#endif
