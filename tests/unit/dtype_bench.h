/* What the tests of dtypes share: a graph over inputs whose values are known is evaluated, compiled
 * for every CPU model that runs here, and compared output by output. */
#ifndef KILN_TESTS_DTYPE_BENCH_H
#define KILN_TESTS_DTYPE_BENCH_H

#include "graph/element.h"
#include "kiln/kiln.h"

typedef struct bench {
    kiln_scope *scope;
    kiln_graph *graph;
    kiln_tensor inputs[3];
    int steps;    /* by which floats may differ */
    double error; /* of complex values, relative to their size; and of real ones, if not 0 */
    /* Compiled code of one CPU model is enough: where its compiling is slow. */
    bool is_widest_only;
} bench;

extern const kiln_dtype bench_dtypes[]; /* all of them */
extern const size_t bench_n_dtypes;

/* The context: for cmocka_run_group_tests. */
int bench_set_up(void **state);
int bench_tear_down(void **state);

/* An input x, y or z of n elements, to be filled in b->inputs. */
kiln_value bench_input(bench *b, kiln_dtype dtype, int64_t n);

typedef void bench_fn(bench *b, kiln_dtype dtype);

/* Builds and runs in a scope of its own. */
void bench_do(bench_fn *fn, kiln_dtype dtype);
#endif
