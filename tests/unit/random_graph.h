/* Random graphs over small f32 values, for tests that compare two ways to run a graph. */
#ifndef KILN_TESTS_RANDOM_GRAPH_H
#define KILN_TESTS_RANDOM_GRAPH_H

#include "graph/graph.h"

#define RANDOM_GRAPH_INPUTS 4
#define RANDOM_GRAPH_OUTPUTS 5

/* Fills an empty graph; the same seed gives the same graph. Sizes of 0 and 1 occur. */
void random_graph_build(kiln_graph *graph, uint64_t seed);
/* A number below n; advances the seed. */
uint32_t random_graph_number(uint64_t *seed, uint32_t n);
/* Fills f32 elements with numbers in [-1, 1). */
void random_graph_fill(uint64_t seed, float *data, size_t n);
/* Whether two f32 tensors agree to 1e-5 of the largest magnitude; equal bits always do. */
bool random_graph_is_near(const kiln_tensor *a, const kiln_tensor *b);
#endif
