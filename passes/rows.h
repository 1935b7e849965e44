/* Whether a graph treats the rows of a batch alike and apart: row i of every output depends on row
 * i of the batched inputs only, and in the same way for every i. Decided by op class, value by
 * value; what is not known to keep rows apart counts as mixing them. */
#ifndef KILN_PASSES_ROWS_H
#define KILN_PASSES_ROWS_H

#include "passes/pass.h"

typedef struct kiln_rows_spec {
    int64_t n;              /* rows; > 0 */
    const bool *is_batched; /* by input: its first axis has n entries, one a row */
} kiln_rows_spec;

/* Proves it, or fails with UNSUPPORTED and a sentence naming the node that mixes rows.
 *
 * Returns the form of the graph: a text of every live node in which the number of rows does not
 * occur. Graphs of n and of m rows that have one form compute the same function of a row. */
const char *kiln_rows_form(kiln_pipeline *pipeline, const kiln_graph *graph,
                           const kiln_rows_spec *spec);
#endif
