/* How far a compiled graph may be from the evaluator, element by element. Both round every node, so
 * the distance is followed through the graph: what the operands' distances do to the result, plus
 * what this node's own rounding may add (ULP table of the functions; gamma_k times the sum of
 * absolute terms for sums). 0: the same bits; infinity: any value, because a discontinuity, an
 * overflow or a cancellation of infinities lies within reach. */
#ifndef KILN_TESTS_OPS_BOUND_H
#define KILN_TESTS_OPS_BOUND_H

#include "graph/eval.h"

typedef struct bounds {
    const kiln_graph *graph; /* without composites */
    kiln_value *map;         /* by id of the original graph: the value in `graph` */
    void **values;           /* by id in `graph`: what the evaluator gives */
    double **errors;         /* by id in `graph`: one bound an element, or NULL for all 0 */
    bool is_strict;          /* without rules of grade ROUND */
    bool has_inverses;       /* such rules widened a bound */
} bounds;

/* Everything lives in the scope's arena. */
bounds *bounds_open(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
                    bool is_strict);

/* Units in the last place that a function may be off by: the promise of docs/accuracy.md. 0 for
 * operations that are correctly rounded or exact. */
double bound_ulps(kiln_op op);
/* The distance between neighbours of `dtype` at x (floats). */
double bound_ulp(kiln_dtype dtype, double x);
/* The largest finite number. */
double bound_largest(kiln_dtype dtype);

typedef struct bound_miss {
    int64_t index; /* -1: all elements are within their bounds */
    double found, expected, bound;
    int64_t n_missed;
} bound_miss;

/* `slack` times the errors, which may be NULL: rewrites round in another order. In the arena. */
const double *bound_scaled(kiln_arena *arena, const double *errors, int64_t n, double slack);
/* Compares n elements; errors may be NULL. NaNs are equal; the sign of zero counts where the bound
 * is 0; an infinity stands for the first value beyond the largest. */
bound_miss bound_compare(const kiln_type *type, const void *found, const void *expected,
                         const double *errors);
#endif
