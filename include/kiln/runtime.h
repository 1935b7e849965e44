/* The runtime: contexts, executables, workspaces, running. libkiln-rt has all of this and no
 * compiler; executables come from kiln_compile (kiln/compile.h) or kiln_executable_load.
 *
 *     kiln_context *context;
 *     kiln_context_create(NULL, &context);
 *     kiln_executable *model;
 *     if (kiln_executable_load(context, "model.so", "model", &model))
 *         puts(kiln_context_message(context));
 *     kiln_workspace *workspace;
 *     kiln_workspace_create(model, &workspace);
 *     kiln_run(workspace, inputs, 1, outputs, 1);
 *
 * Threads: a context may be used by many threads; an executable is immutable and shared; a
 * workspace is one run at a time. An executable keeps what it needs of its context alive;
 * workspaces keep their executable alive: destroy in any order. */
#ifndef KILN_RUNTIME_H
#define KILN_RUNTIME_H

#include "kiln/program.h"
#include "kiln/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_context kiln_context;
typedef struct kiln_executable kiln_executable;
typedef struct kiln_workspace kiln_workspace;

/* Memory of large objects (arenas, constants). `release` gets the bytes that were asked for. */
typedef struct kiln_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes);
    void *user;
} kiln_allocator;

/* Runs body(state, worker) once for every worker 0 … n_workers - 1, at the same time or in any
 * order, and returns when all are done. */
typedef void kiln_parallel_fn(void *user, uint32_t n_workers,
                              void (*body)(void *state, uint32_t worker), void *state);

/* Zero means default everywhere. */
typedef struct kiln_context_options {
    size_t struct_bytes;               /* sizeof(kiln_context_options) */
    uint32_t threads;                  /* workers of a run, the caller included; default: what
                                          affinity and cgroup quota allow; 1 creates no thread;
                                          at most 1024 */
    uint32_t reserved;
    int64_t max_bytes;                 /* cap of one arena or tensor; default 80 % of memory */
    const kiln_allocator *allocator;   /* default: page-aligned, huge pages where allowed */
    kiln_parallel_fn *parallel;        /* default: the context's own pool */
    void *parallel_user;
} kiln_context_options;

/* `options` may be NULL. INVALID for options out of range. */
KILN_API kiln_status kiln_context_create(const kiln_context_options *options,
                                         kiln_context **out_context);
/* Gives up one ownership; the last one frees. NULL is allowed, here and in every destructor. */
KILN_API void kiln_context_destroy(kiln_context *context);
/* One more owner, who calls kiln_context_destroy too. Returns the context. */
KILN_API kiln_context *kiln_context_retain(kiln_context *context);
/* The sentence of the last failure on this context by this or another thread; never NULL; it stays
 * as it is for the next seven failures. For NULL: why a context could not be made, in general. */
KILN_API const char *kiln_context_message(const kiln_context *context);
KILN_API uint32_t kiln_context_threads(const kiln_context *context);

/* A function of the caller's that graphs call by name (kiln_custom_call in kiln/graph.h). It reads
 * inputs, writes all of the outputs, depends on nothing else, and may run on any thread, in several
 * runs at once. */
typedef kiln_status kiln_custom_fn(void *user, const kiln_custom_call_args *args);
/* Registers a function until the context goes; of one name the last one counts. `signature` is what
 * follows the name, "(f32[2,3], i64[]) -> (f32[2])", or NULL for any types. Before the compile or
 * load of what calls it. A status other than OK ends the run with it. */
KILN_API kiln_status kiln_context_register(kiln_context *context, const char *name,
                                           const char *signature, kiln_custom_fn *run,
                                           void *user);
/* The features of this machine, as KILN_CPU_ bits. */
KILN_API uint64_t kiln_cpu_features(void);

/* Loads a shared object made by kiln_compile_library. `path` names a file of the caller's trust: it
 * is code. `prefix` is the name it was compiled under. ABI, CORRUPT or IO when it does not fit,
 * UNSUPPORTED naming the CPU feature that is missing. */
KILN_API kiln_status kiln_executable_load(kiln_context *context, const char *path,
                                          const char *prefix, kiln_executable **out_executable);
/* An executable over a program the caller keeps alive (statically linked models). */
KILN_API kiln_status kiln_executable_create(kiln_context *context, const kiln_program *program,
                                            kiln_executable **out_executable);
KILN_API void kiln_executable_destroy(kiln_executable *executable);
KILN_API const kiln_program *kiln_executable_program(const kiln_executable *executable);
/* Index of the input or output of that name, or -1. */
KILN_API int32_t kiln_executable_find_input(const kiln_executable *executable, const char *name);
KILN_API int32_t kiln_executable_find_output(const kiln_executable *executable, const char *name);
/* Bytes of a run beside inputs, outputs and constants: arena + scratch of `threads` workers (0: the
 * context's). Exact. */
KILN_API int64_t kiln_executable_peak_bytes(const kiln_executable *executable, uint32_t threads);

/* Everything one run at a time needs; allocates all memory of its runs. */
KILN_API kiln_status kiln_workspace_create(kiln_executable *executable,
                                           kiln_workspace **out_workspace);
KILN_API void kiln_workspace_destroy(kiln_workspace *workspace);
KILN_API const char *kiln_workspace_message(const kiln_workspace *workspace);
/* Ends runs of this workspace with DEADLINE once they have taken that long; 0 lifts it. */
KILN_API void kiln_workspace_set_deadline(kiln_workspace *workspace, int64_t nanoseconds);
/* Ends the run in progress with CANCELLED, from any thread. No run in progress: no effect. */
KILN_API void kiln_workspace_cancel(kiln_workspace *workspace);

/* Runs the program. `inputs` and `outputs` follow the program's ports in order, type and dims;
 * memory is the caller's, aligned to the element. An output may share exactly the memory of an
 * input donated to it; any other overlap is INVALID, and so is a run while another one of this
 * workspace is in progress. Allocates nothing; takes a few KB of the caller's stack as a rule, at
 * most 4 MB where a kernel has many thousands of instructions. INVALID (outputs untouched), RANGE,
 * DEADLINE or CANCELLED (outputs undefined); sentence on the workspace. */
KILN_API kiln_status kiln_run(kiln_workspace *workspace, const kiln_tensor *inputs,
                              uint32_t n_inputs, const kiln_tensor *outputs, uint32_t n_outputs);

/* The dims of output `output` after a run with these `outputs`, all of the program's: the port's,
 * with the count of its rows for an output whose size depends on the data (`donated_to` and
 * `counted_axis` of kiln_port_row). The elements of that shape stand dense at the front of its
 * memory. Writes `rank` numbers. INVALID for NULL and for an output that is not there. */
KILN_API kiln_status kiln_executable_output_dims(const kiln_executable *executable,
                                                 uint32_t output, const kiln_tensor *outputs,
                                                 int64_t out_dims[KILN_MAX_RANK]);

/* Times of the last run, one row per step of the program, in nanoseconds; a step that ran several
 * times has the sum. NULL unless profiling was switched on. */
KILN_API void kiln_workspace_set_profile(kiln_workspace *workspace, int is_on);
KILN_API const uint64_t *kiln_workspace_step_times(const kiln_workspace *workspace);

#ifdef __cplusplus
}
#endif
#endif
