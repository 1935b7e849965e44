/* Compiling and running a graph as tests do: some options, outputs between guard bytes. */
#ifndef KILN_TESTS_OPS_COMPILED_H
#define KILN_TESTS_OPS_COMPILED_H

#include "graph/graph.h"
#include "kiln/compile.h"

typedef struct compiled_variant {
    const char *name;
    const char *target_cpu; /* NULL: host */
    int is_unfused, is_strict;
    uint32_t threads; /* 1 or 2 */
} compiled_variant;

/* Contexts of one and two threads. */
typedef struct compiled_contexts {
    kiln_context *of[3];
} compiled_contexts;

bool compiled_contexts_open(compiled_contexts *contexts);
void compiled_contexts_close(compiled_contexts *contexts);

/* True where this machine can run code for that target ("x86-64-v4"). */
bool compiled_can_run(const char *target_cpu);

typedef struct compiled_result {
    kiln_status status;
    char message[KILN_MESSAGE_BYTES];
    kiln_tensor *outputs; /* in the scope's arena; NULL unless status is OK */
    int32_t overrun;      /* the output beside which guard bytes changed, or -1 */
    uint32_t n_kernels, n_compiled;
    double compile_seconds;
} compiled_result;

/* The options of a variant. */
kiln_compile_options compiled_options(const compiled_variant *variant);
/* The executable, or NULL with status and message in the result. The graph is not changed but for
 * its context and last sentence. */
kiln_executable *compiled_open(const compiled_contexts *contexts, kiln_graph *graph,
                               const compiled_variant *variant, compiled_result *result);
/* Runs it on inputs; outputs go to the result. */
void compiled_execute(kiln_scope *scope, const kiln_graph *graph, kiln_executable *executable,
                      const kiln_tensor *inputs, compiled_result *result);

/* Both. */
compiled_result compiled_run(kiln_scope *scope, const compiled_contexts *contexts,
                             kiln_graph *graph, const compiled_variant *variant,
                             const kiln_tensor *inputs);
#endif
