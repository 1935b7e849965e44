/* Parts of the pass inline: what regions over scalars become. Values are of the rewrite's
 * target. */
#ifndef KILN_PASSES_INLINE_H
#define KILN_PASSES_INLINE_H

#include "passes/rewrite.h"

/* The items of a node with regions over scalars; NULL when it is none, or too large for that. */
kiln_value *kiln_inline_scalar(kiln_rewrite *rewrite, const kiln_node *node);

/* The same for one op: `inputs` mapped, `out` with room for the items. */
typedef kiln_value *kiln_inline_fn(kiln_rewrite *rewrite, const kiln_node *node,
                                   kiln_value *inputs, kiln_value *out);
kiln_inline_fn kiln_inline_scatter_with, kiln_inline_select, kiln_inline_while;

/* The region at every index of `args`, whose dims are those of `like`. */
void kiln_region_widen(kiln_graph *graph, const kiln_graph *region, const kiln_type *like,
                       const kiln_value *args, kiln_value *out);
/* The scatter of a region that is a known combination, or KILN_OP_none. */
kiln_op kiln_region_scatter(const kiln_graph *region, kiln_dtype dtype);
#endif
