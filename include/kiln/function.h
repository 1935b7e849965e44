/* Shapes that vary: a function compiles its model for every signature of inputs that it meets and
 * keeps what it compiled.
 *
 *     kiln_function *function;
 *     kiln_function_options options = {sizeof options, .open_dim = "batch"};
 *     if (kiln_function_open_onnx(context, "model.onnx", NULL, &options, &function))
 *         puts(kiln_context_message(context));
 *     kiln_function_run(function, inputs, 1, outputs, 1);
 *
 * A signature is the dtype, rank and dims of each input. Executables are kept up to a number and up
 * to a size; the one used longest ago goes first, once no run uses it any more.
 *
 * Threads: any number of threads may call a function at the same time; each run has a workspace of
 * its own, and what two threads need at once is compiled once, while the others wait for it. Only
 * kiln_function_destroy must come alone and last. Sentences are on the context. */
#ifndef KILN_FUNCTION_H
#define KILN_FUNCTION_H

#include "kiln/compile.h"
#include "kiln/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_function kiln_function;

/* Makes the graph of one signature, with these inputs in this order; the graph goes to the
 * function. Of `inputs` the dtypes and dims count; data only where kiln_function_options.values
 * says so. May be called by several threads at once. A status other than OK is returned by the run;
 * it should leave its sentence on the context. */
typedef kiln_status kiln_build_fn(void *user, kiln_context *context, const kiln_tensor *inputs,
                                  uint32_t n_inputs, kiln_graph **out_graph);

/* Zero means default everywhere. */
typedef struct kiln_function_options {
    size_t struct_bytes;                 /* sizeof(kiln_function_options) */
    const kiln_compile_options *compile; /* its strings are copied */
    int64_t max_bytes;                   /* constants and workspaces of what is kept; default
                                            half of what the context allows one arena */
    uint32_t max_executables;            /* default 16 */
    uint32_t n_row_sizes;
    /* An open leading batch. ONNX: the name of the dim, "batch", or "INPUT:0" for one without a
     * name; it must be the first dim of the inputs that have it. Else is_batched, by input. */
    const char *open_dim;
    const unsigned char *is_batched;
    uint32_t n_is_batched;
    uint32_t n_values;
    const int64_t *row_sizes;  /* the batches to compile for together, ascending;
                                  default 1, 8, 64 */
    const char *const *values; /* ONNX: inputs whose value the model must know (shapes,
                                  axes, counts): it is part of the signature */
} kiln_function_options;

/* `build` is called with `user` as long as the function lives. `options` may be NULL. */
KILN_API kiln_status kiln_function_create(kiln_context *context, kiln_build_fn *build, void *user,
                                          const kiln_function_options *options,
                                          kiln_function **out_function);
/* An ONNX model, imported for every signature; the file stays where it is, unchanged. `import` may
 * be NULL; of it dims and report count, and only dims that no input of the call binds. */
KILN_API kiln_status kiln_function_open_onnx(kiln_context *context, const char *path,
                                             const kiln_import_options *import,
                                             const kiln_function_options *options,
                                             kiln_function **out_function);
KILN_API void kiln_function_destroy(kiln_function *function);

/* An input of a model from a file. */
typedef struct kiln_function_input {
    const char *name;
    kiln_dtype dtype;
    uint32_t rank;                        /* KILN_NONE: open */
    int64_t dims[KILN_MAX_RANK];          /* -1: open */
    const char *dim_names[KILN_MAX_RANK]; /* "INPUT:AXIS" without a name */
    int is_batched;
} kiln_function_input;

/* Lent; none for a function made by kiln_function_create. */
KILN_API const kiln_function_input *kiln_function_inputs(const kiln_function *function,
                                                         uint32_t *out_n);

/* An output of one signature. */
typedef struct kiln_output_type {
    const char *name; /* lent until the function is destroyed */
    kiln_dtype dtype;
    uint32_t rank;
    int64_t dims[KILN_MAX_RANK]; /* of the bound, where the size depends on the data: */
    size_t bytes;
    uint32_t counted_by; /* the output that counts the entries of counted_axis, or
                            KILN_NONE */
    uint32_t counted_axis;
} kiln_output_type;

/* Compiles for these inputs if that is still to be done, and says what the outputs will be.
 * `n_types` is the room in `out_types` on the way in, the number of outputs on the way out; may be
 * NULL with it. */
KILN_API kiln_status kiln_function_prepare(kiln_function *function, const kiln_tensor *inputs,
                                           uint32_t n_inputs, kiln_output_type *out_types,
                                           uint32_t *n_types);

/* Runs the model on inputs of any shape: as kiln_run of an executable for their signature, which is
 * compiled if there is none, does; and with its statuses.
 *
 * With an open batch one executable runs any number n of rows, in chunks of the row sizes, the last
 * one reaching back over rows that were done where that saves runs. Every graph of n rows is first
 * proved to treat its rows alike and apart: UNSUPPORTED names the node that mixes them. Where the
 * graph of n rows is another one than those of the row sizes (a model that looks at n, say), it is
 * compiled for itself. A row has the bits that a compile for its chunk's size gives;
 * docs/functions.md says when these are those of the whole batch. Inputs must not be donated
 * then. */
KILN_API kiln_status kiln_function_run(kiln_function *function, const kiln_tensor *inputs,
                                       uint32_t n_inputs, const kiln_tensor *outputs,
                                       uint32_t n_outputs);

typedef struct kiln_library_paths {
    const char *library; /* of the shared object */
    const char *header;  /* or NULL: none */
    const char *prefix;  /* NULL: "model" */
} kiln_library_paths;

/* Compiles the model for the signature of `inputs` to a shared object, as kiln_compile_library
 * does. With an open batch it runs any number of rows (PREFIX_run_rows, or kiln_executable_load and
 * kiln_run); how many `inputs` have does not matter, and UNSUPPORTED names the node that mixes rows
 * or the number of rows for which the model is another function. */
KILN_API kiln_status kiln_function_compile_library(kiln_function *function,
                                                   const kiln_tensor *inputs, uint32_t n_inputs,
                                                   const kiln_library_paths *paths);

typedef struct kiln_function_report {
    uint64_t n_calls;       /* of run and prepare */
    uint64_t n_hits;        /* that found everything compiled */
    uint64_t n_misses;      /* executables compiled */
    uint64_t n_evicted;     /* executables given up */
    uint64_t n_chunks;      /* of open batches that were run */
    uint32_t n_executables; /* kept now */
    uint32_t reserved;
    int64_t bytes;          /* of their constants and workspaces */
    double compile_seconds; /* of all misses, import included */
} kiln_function_report;
KILN_API void kiln_function_inspect(kiln_function *function, kiln_function_report *out_report);

#ifdef __cplusplus
}
#endif
#endif
