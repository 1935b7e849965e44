/* The space of COLUMN groups: what reductions, maps and results of one share. */
#ifndef KILN_PASSES_COLUMN_H
#define KILN_PASSES_COLUMN_H

#include "passes/schedule.h"

/* The axes of a reduction, ascending. */
kiln_ints kiln_reduced_axes(const kiln_node *reduction);
/* Whether two reductions are over the same axes of operands with the same dims. */
bool kiln_is_same_columns(const kiln_graph *graph, const kiln_node *a, const kiln_node *b);
/* Whether a broadcast gives each element that `reduction` reads what came of its column. */
bool kiln_is_column_broadcast(const kiln_graph *graph, const kiln_node *reduction,
                              const kiln_node *broadcast);
#endif
