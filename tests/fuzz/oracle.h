/* What a graph must give and how far it may be off. Bounds follow elementwise, linear and moving
 * nodes; so the graph is first written without regions, composites, complex and narrow values: the
 * paths that its data takes, trip by trip, then the passes that do the rest. The evaluator's result
 * of the graph as it stands must be within the same bounds. */
#ifndef KILN_TESTS_FUZZ_ORACLE_H
#define KILN_TESTS_FUZZ_ORACLE_H

#include "fuzz/shrink.h"
#include "ops/bound.h"

typedef struct fuzz_bound {
    const double **errors; /* by output; NULL: exact */
    bool is_loose;         /* what decides a path is itself inexact: nothing is known */
} fuzz_bound;

typedef struct fuzz_oracle {
    const bounds *bounds;    /* of the graph written out */
    const kiln_type **types; /* by output: how its bytes are compared */
    const void **values;     /* by output: of the graph written out */
    fuzz_bound strict, free; /* without and with rules of grade ROUND */
    kiln_tensor *evaluated;  /* by output: of the graph as it stands */
    bool has_chains;         /* sums that the evaluator rounds one by one */
    bool has_cuts;           /* complex values that are computed meet a function's cut */
    bool is_complex;         /* the evaluator has other formulas for it */
} fuzz_oracle;

fuzz_oracle *fuzz_oracle_open(kiln_scope *scope, const fuzz_case *c);
#endif
