/* What the tests of layers share: operands by a formula, and a graph evaluated and compiled whose
 * outputs, one after the other, are compared with known values. */
#ifndef KILN_TESTS_LAYER_BENCH_H
#define KILN_TESTS_LAYER_BENCH_H

#include "kiln/kiln.h"

/* An input whose element i is sin(0.7 i + seed). */
kiln_value layer_input(kiln_graph *graph, double seed, uint32_t rank, const int64_t *dims);

/* Adds the outputs. */
typedef void layer_build_fn(kiln_graph *graph);
typedef struct layer_case {
    const char *name;
    layer_build_fn *build;
    const double *values; /* of all outputs */
    size_t n;
} layer_case;
#define LAYER_CASE(name_)                                                                          \
    {                                                                                              \
#name_, build_##name_, name_##_values, sizeof name_##_values / sizeof *name_##_values      \
    }

int layer_set_up(void **state);
int layer_tear_down(void **state);
/* For regions. */
kiln_context *layer_context(void);
/* Within 2e-5 of 1 + |value|, evaluated and compiled. */
void layer_check(const layer_case *cases, size_t n);

#define DIMS(...)                                                                                  \
    (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#endif
