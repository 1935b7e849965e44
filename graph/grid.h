/* Sampling along a grid (kiln/images.h); what importer and builder share. */
#ifndef KILN_GRAPH_GRID_H
#define KILN_GRAPH_GRID_H

#include "graph/graph.h"

typedef struct kiln_grid_plan {
    uint32_t n; /* spatial dims, 1 to 3 */
    bool is_aligned;
    char mode, padding; /* n nearest, l linear, c cubic; z zeros, b border, r reflection */
    const kiln_type *type;
    int64_t points; /* of the result, per batch */
} kiln_grid_plan;

/* Of a, which is not empty, and its grid, in f32. */
kiln_value kiln_grid_apply(kiln_graph *graph, const kiln_grid_plan *plan, const kiln_value *inputs);
#endif
