/* The sweep that every graph pass is: live nodes of the source in order, each copied or replaced in the
 * next graph. Inputs are kept in order, used or not; outputs, checks and names come along. */
#ifndef KILN_PASSES_REWRITE_H
#define KILN_PASSES_REWRITE_H

#include "passes/pass.h"

typedef struct kiln_rewrite {
    kiln_pipeline *pipeline;
    const kiln_graph *source;
    kiln_graph *graph;   /* the next one */
    kiln_value *map;     /* by id of the source: the value here, of the same type */
    const bool *is_live; /* by id of the source: some output or check needs it */
    void *user;
} kiln_rewrite;

/* What becomes of `node` (id `id`) of the source, its operands already mapped. Returns a value of
 * rewrite->graph with the node's type. */
typedef kiln_value kiln_rewrite_fn(kiln_rewrite *rewrite, uint32_t id, const kiln_node *node);

kiln_graph *kiln_rewrite_graph(kiln_pipeline *pipeline, const kiln_graph *source, kiln_rewrite_fn *rewrite,
                               void *user);

/* The node copied as it is. */
kiln_value kiln_rewrite_copy(kiln_rewrite *rewrite, const kiln_node *node);

/* By id: whether an output or a check needs the node. In the scope's arena. */
bool *kiln_live_nodes(kiln_scope *scope, const kiln_graph *graph);
#endif
