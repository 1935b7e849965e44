/* Graph passes and their manager. A pass reads a const graph and builds the next. pipeline.def is
 * the only place that knows the order; the manager checks what a pass needs, verifies after it,
 * times it and dumps on request. */
#ifndef KILN_PASSES_PASS_H
#define KILN_PASSES_PASS_H

#include "graph/graph.h"
#include "passes/machine.h"
#include "passes/schedule.h"

/* Facts about a graph that passes need and give. */
typedef enum kiln_fact {
    KILN_FACT_VERIFIED = 1,    /* graph/verify.c accepts it; every pass needs and gives it */
    KILN_FACT_PRIMITIVE = 2,   /* no composite that the backend does not claim */
    KILN_FACT_SIMPLE = 4,      /* no rule of simplify applies */
    KILN_FACT_FOLDED = 8,      /* no foldable node of constant operands within the budget */
    KILN_FACT_LAID_OUT = 16,   /* convolutions are NHWC, kernels HWIO */
} kiln_fact;

/* Runs an all-constant graph on this machine as a compiled program would: outputs in order. Filled
 * by codegen; NULL where there is no compiler for the host. */
typedef kiln_status kiln_run_constant_fn(void *user, const kiln_graph *graph, kiln_tensor *outputs,
                                         kiln_error *error);

typedef struct kiln_pipeline {
    kiln_scope *scope;
    kiln_context *context;
    const kiln_machine *machine;
    uint32_t n_threads;
    bool is_strict, is_unfused, flush_denormals, is_tuned;
    int precision;              /* kiln_precision */
    int64_t max_bytes;
    const char *dump_dir;       /* NULL: no dumps */
    kiln_run_constant_fn *run_constant;
    void *run_constant_user;
    uint32_t n_dumps;
    kiln_text *log;             /* timings and refusals for explain, or NULL */
} kiln_pipeline;

/* The graph itself where nothing changes. */
typedef kiln_graph *kiln_pass_fn(kiln_pipeline *pipeline, const kiln_graph *graph);

typedef struct kiln_pass {
    const char *name;
    kiln_pass_fn *run;
    uint32_t needs, gives, breaks; /* sets of kiln_fact */
} kiln_pass;

/* The pass of that name, or NULL. */
const kiln_pass *kiln_pass_find(const char *name, size_t n);

/* One pass with its checks: verify, time, dump. For `kiln opt` and golden tests. */
kiln_graph *kiln_pass_run(kiln_pipeline *pipeline, const kiln_pass *pass, const kiln_graph *graph);

/* All graph passes of pipeline.def in order. */
kiln_graph *kiln_pipeline_run(kiln_pipeline *pipeline, const kiln_graph *graph);

/* Graph to schedule: groups, then memory; verified. The graph must outlive the schedule. */
kiln_schedule *kiln_fuse(kiln_pipeline *pipeline, const kiln_graph *graph);
void kiln_plan_memory(kiln_pipeline *pipeline, kiln_schedule *schedule);

/* Writes `text` to dump_dir/NNN-stage, NNN counting up over the compile; nothing without a
 * dump_dir. IO when the folder or file cannot be written. */
void kiln_pipeline_dump(kiln_pipeline *pipeline, const char *stage, const char *text);

#define KILN_PASS(name, needs, gives, breaks) kiln_pass_fn kiln_pass_##name;
#include "passes/pipeline.def"
#undef KILN_PASS
#endif
