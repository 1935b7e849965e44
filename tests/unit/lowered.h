/* Lowered groups against the evaluator: each case builds a graph that is one group, with every node
 * in it. It runs on the machine models that this processor has; f32 results must have the same bits
 * on all models with FMA, whatever the order of the tiles. */
#ifndef KILN_TESTS_LOWERED_H
#define KILN_TESTS_LOWERED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kiln/kiln.h"
#include "passes/schedule.h"

#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}
#define LIST(...) ((int64_t[]){__VA_ARGS__})

typedef void build_fn(kiln_graph *g);

typedef struct group_case {
    const char *name;
    kiln_group_kind kind;
    build_fn *build;
    double tolerance; /* relative to max(1, |expected|) */
    bool is_packed;   /* the second operand of the contraction, an input, comes in panels */
} group_case;

/* Runs the cases, or only $KILN_CASE; the program's exit status. */
int run_cases(const group_case *cases, size_t n_cases);

#define IN(name, dtype, ...) kiln_input(g, name, KILN_##dtype, DIMS(__VA_ARGS__))
#define OUT(value) kiln_output(g, NULL, value)
#endif
