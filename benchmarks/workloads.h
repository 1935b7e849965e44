/* The workloads of `./run bench`, built with the graph builder: parts of models and whole ones,
 * weights pseudo-random. */
#ifndef KILN_BENCHMARKS_WORKLOADS_H
#define KILN_BENCHMARKS_WORKLOADS_H

#include "kiln/kiln.h"

typedef struct workload {
    const char *name;
    void (*build)(kiln_graph *graph);
    int is_compute_bound; /* report GFLOP/s against the FMA limit, else GB/s against a copy */
    int is_quick;         /* shown by ./run demo */
    kiln_precision precision; /* other than fma: only where the machine has matrix tiles */
} workload;

extern const workload workloads[];
extern const unsigned n_workloads;

/* models.c */
void build_resnet50(kiln_graph *graph);
void build_bert_base(kiln_graph *graph);
KILN_API void build_unet(kiln_graph *graph);
/* train.c */
KILN_API void build_train_mlp(kiln_graph *graph);
KILN_API void build_train_cnn(kiln_graph *graph);

/* One output without elements and no work: what a call costs by itself. */
KILN_API void build_nothing(kiln_graph *graph);

/* A constant of pseudo-random values in [-scale, scale): the next ones of a sequence that is the
 * same in every process, and starts again at restart_weights. */
void restart_weights(void);
kiln_value random_weights(kiln_graph *graph, uint32_t rank, const int64_t *dims, float scale);
#endif
