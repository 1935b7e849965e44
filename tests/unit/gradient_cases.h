/* Cases of differentiation: each builds one value of f64 inputs that it draws from a range. */
#ifndef KILN_TESTS_GRADIENT_CASES_H
#define KILN_TESTS_GRADIENT_CASES_H

#include "graph/graph.h"
#include "kiln/kiln.h"

#define MAX_DRAWN 5

/* A graph that is being built, and the inputs with respect to which it is differentiated. */
typedef struct gradient_bench {
    kiln_graph *graph;
    uint32_t n;
    kiln_value inputs[MAX_DRAWN];
    double low[MAX_DRAWN], high[MAX_DRAWN];
} gradient_bench;

/* The next input, whose elements are drawn from low … high. */
kiln_value bench_draw(gradient_bench *b, double low, double high, uint32_t rank,
                      const int64_t *dims);

typedef struct gradient_case {
    kiln_op op; /* which the graph must have */
    const char *call;
    kiln_value (*build)(gradient_bench *b);
} gradient_case;

/* Tables end with op none. */
extern const gradient_case elementwise_cases[], move_cases[], reduce_cases[], contract_cases[];

#define DIMS(...)                                                                                  \
    (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* A case's graph by one call of the builder on `g`. */
#define BUILD(name, call)                                                                          \
    static kiln_value build_##name(gradient_bench *b)                                              \
    {                                                                                              \
        kiln_graph *g = b->graph;                                                                  \
        return call;                                                                               \
    }
#define INTS (int64_t[])
#endif
