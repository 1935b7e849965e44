/* The plan of a resize (kiln/images.h) with sizes and scales known; what importer and builder
 * share. */
#ifndef KILN_GRAPH_RESIZE_H
#define KILN_GRAPH_RESIZE_H

#include "graph/graph.h"
#include "kiln/images.h"

typedef struct kiln_resize_plan {
    kiln_resize_mode mode;
    kiln_resize_coordinate place;
    kiln_resize_round round;
    bool is_antialias, is_outside_excluded;
    double cubic, outside;
    uint32_t rank;
    int64_t out[KILN_MAX_RANK];
    float scale[KILN_MAX_RANK];
    double from[KILN_MAX_RANK], to[KILN_MAX_RANK]; /* region of CROP */
} kiln_resize_plan;

/* Whether the tables of weights are of a sane size. */
bool kiln_resize_fits(const kiln_resize_plan *plan, const kiln_type *type);
/* Integers but for nearest are resized in f32 and converted back. */
kiln_value kiln_resize_apply(kiln_graph *graph, const kiln_resize_plan *plan, kiln_value a);
#endif
