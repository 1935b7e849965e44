/* A function and what it keeps. function.c owns the table of entries and runs them; function_make.c
 * makes the entry of a signature; function_rows.c has what an open batch needs; function_onnx.c is
 * the build function of ONNX models.
 *
 * Invariants: everything under "table" is read and written under `lock`. An entry is made by the
 * thread that listed it, without the lock; the others wait on `made`. Once READY only its list of
 * idle workspaces, its counts and `used` change. An entry that is given up is no longer listed, and
 * goes with its last holder. Making the entry of a number of rows may wait for the one whose rows
 * are open; that one waits for none. */
#ifndef KILN_CODEGEN_FUNCTION_H
#define KILN_CODEGEN_FUNCTION_H

#include <pthread.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/scope.h"
#include "base/vec.h"
#include "codegen/sha256.h"
#include "kiln/function.h"

#define KILN_MAX_ROW_SIZES 16
#define KILN_OPEN_ROWS (-1) /* as the first dim of batched inputs: the signature of any rows */
#define KILN_MAX_SIGNATURES 1024 /* of those served by executables of others */

typedef struct kiln_signature_input {
    kiln_dtype dtype;
    uint32_t rank;
    int64_t dims[KILN_MAX_RANK];
    void *value; /* bound inputs only */
    size_t value_bytes;
} kiln_signature_input;

typedef struct kiln_idle_workspace {
    struct kiln_idle_workspace *next;
    kiln_workspace *workspace;
} kiln_idle_workspace;

typedef enum kiln_entry_state {
    KILN_ENTRY_MAKING,
    KILN_ENTRY_READY,
    KILN_ENTRY_FAILED,
} kiln_entry_state;

typedef struct kiln_entry {
    struct kiln_entry *next;
    uint32_t n_holders; /* the list, and those at work with it */
    bool is_listed;
    kiln_entry_state state;
    uint64_t used; /* the function's clock at the last call */
    kiln_arena arena;
    uint32_t n_inputs, n_outputs;
    kiln_signature_input *inputs;
    kiln_output_type *outputs;
    kiln_executable *executable; /* NULL: is_cut */
    kiln_idle_workspace *idle;
    uint32_t n_workspaces;
    double seconds;                        /* of the compile */
    bool is_compiled;                      /* making it compiled something, or waited for that */
    int64_t rows;                          /* of an open batch, else 0; or KILN_OPEN_ROWS */
    bool is_cut;                           /* served by the executable of KILN_OPEN_ROWS */
    unsigned char form[KILN_SHA256_BYTES]; /* of the graph, with an open batch */
    kiln_status status; /* FAILED: and why */
    char sentence[KILN_MESSAGE_BYTES];
} kiln_entry;

struct kiln_function {
    kiln_context *context; /* one count */
    kiln_arena arena;
    kiln_build_fn *build;
    void *user;
    kiln_compile_options compile;
    int64_t max_bytes;
    uint32_t max_executables;
    const unsigned char *is_batched; /* by input; NULL without an open batch */
    const bool *is_value;            /* by input: its value is part of the signature; NULL: none */
    uint32_t n_inputs;               /* of the two above */
    uint32_t n_row_sizes;
    int64_t row_sizes[KILN_MAX_ROW_SIZES];
    kiln_function_input *listed; /* of an ONNX model */
    uint32_t n_listed;

    pthread_mutex_t lock;
    pthread_cond_t made;
    kiln_entry *entries; /* table */
    uint64_t clock;
    char **names; /* of outputs, as the first signature has them */
    uint32_t n_names;
    kiln_function_report report;
};

/* Checks and copies the options; in `scope` until kiln_scope_keep. What is made becomes a function,
 * with a lock and a count of its context, by kiln_function_start. */
kiln_function *kiln_function_start(kiln_function *function);
kiln_function *kiln_function_make(kiln_scope *scope, kiln_context *context,
                                  const kiln_function_options *options);

/* The entry of a signature, READY, held; made if there is none. Sentence on the context. Sets
 * *is_new when this call, or one that it waited for, compiled something. */
kiln_status kiln_entry_acquire(kiln_function *function, const kiln_tensor *inputs,
                               uint32_t n_inputs, kiln_entry **out_entry, bool *is_new);
void kiln_entry_release(kiln_function *function, kiln_entry *entry);

/* What a signature is made of must be there before it is looked at. */
kiln_status kiln_function_check_inputs(const kiln_function *function, const kiln_tensor *inputs,
                                       uint32_t n_inputs);
/* The graph of a signature, checked against it. */
kiln_status kiln_function_build(kiln_function *function, const kiln_tensor *inputs,
                                uint32_t n_inputs, kiln_graph **out_graph);
/* Builds, proves and compiles what `entry` is for; its arena is its own. */
kiln_status kiln_entry_make(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs);

/* The rows of an open batch, or 0 in *out_rows without one; INVALID when batched inputs differ. */
kiln_status kiln_rows_count(const kiln_function *function, const kiln_tensor *inputs,
                            uint32_t n_inputs, int64_t *out_rows);
/* Proves that the graph keeps its rows apart and digests its form; sentence on the graph. */
kiln_status kiln_rows_prove(const kiln_function *function, const kiln_graph *graph, int64_t n,
                            unsigned char out_form[KILN_SHA256_BYTES]);
/* Sets is_cut when the executable of open rows is the function that the entry's form says; makes it
 * if there is none. */
kiln_status kiln_rows_plan(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs);

/* Graphs of the row sizes; those of one form, ascending, stand in `alike` from `first` on. */
typedef struct kiln_row_graphs {
    uint32_t n, first;
    kiln_graph *at[KILN_MAX_ROW_SIZES + 2]; /* all that were built; gone with the scope */
    const kiln_graph *alike[KILN_MAX_ROW_SIZES];
    unsigned char form[KILN_SHA256_BYTES];
} kiln_row_graphs;

/* Builds them for a signature, whose number of rows does not matter, and proves them. Strict: other
 * numbers of rows are not going to be proved, so a size of another form is UNSUPPORTED. */
kiln_row_graphs *kiln_rows_build(kiln_scope *scope, kiln_function *function,
                                 const kiln_tensor *inputs, uint32_t n_inputs, bool is_strict);
/* What to compile, with options that are lent by the graphs. */
const kiln_graph *kiln_rows_open_batch(const kiln_function *function, const kiln_row_graphs *graphs,
                                       kiln_open_batch *out_open);
/* Compiles the entry of open rows: of the sizes those whose graph is the same function of a row. */
kiln_status kiln_rows_make(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs);
/* Runs an entry that is cut. */
kiln_status kiln_rows_run(kiln_function *function, const kiln_entry *entry,
                          const kiln_tensor *inputs, const kiln_tensor *outputs,
                          uint32_t n_outputs);

/* Runs an entry that has an executable. */
kiln_status kiln_entry_run(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs,
                           const kiln_tensor *outputs, uint32_t n_outputs);
#endif
