/* Making a failing graph small: one output, then an operand of it, nodes cut off by inputs that
 * hold what the evaluator gave, nodes bypassed by an operand of their type, inputs of zeros, as
 * long as the failure stays. */
#ifndef KILN_TESTS_FUZZ_SHRINK_H
#define KILN_TESTS_FUZZ_SHRINK_H

#include "graph/graph.h"

typedef struct fuzz_case {
    kiln_graph *graph;
    const kiln_tensor *inputs;
} fuzz_case;

/* True when the case still fails as it should for the shrinking to go on. */
typedef bool fuzz_still_fails(void *user, const fuzz_case *candidate);

/* A smaller case, in the scope. */
fuzz_case fuzz_shrink(kiln_scope *scope, fuzz_case start, fuzz_still_fails *still_fails,
                      void *user);
#endif
