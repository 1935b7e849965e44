/* What the folding pass computes by itself, because the evaluator would be slow at it. */
#ifndef KILN_PASSES_FOLD_H
#define KILN_PASSES_FOLD_H

#include "graph/graph.h"

/* Result axis i of `to` is axis permutation[i] of `from`, which has that type; both dense. */
void kiln_fold_transpose(const kiln_type *type, const int64_t *permutation, const void *from,
                         void *to);
#endif
