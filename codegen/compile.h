/* A compile in progress: graph → schedule → kernels → objects → program. compile.c runs the stages;
 * jobs.c spreads kernels over threads; constants.c fills the constants; program.c lays out the
 * tables. */
#ifndef KILN_CODEGEN_COMPILE_H
#define KILN_CODEGEN_COMPILE_H

#include "codegen/backend.h"
#include "codegen/kernel.h"
#include "codegen/part.h"
#include "kiln/compile.h"
#include "passes/pass.h"
#include "passes/schedule.h"

typedef struct kiln_compilation kiln_compilation;

/* A distinct kernel: groups whose kernels print the same share one. */
typedef struct kiln_unit {
    const kiln_kernel *kernel;
    const char *text;   /* its identity, with the name of the machine it needs */
    const char *symbol; /* "k_" and the hash of the text */
    kiln_object object;
} kiln_unit;

struct kiln_compilation {
    kiln_scope *scope;
    kiln_pipeline pipeline;
    const kiln_compile_options *options; /* never NULL: defaults filled in */
    const kiln_graph *source;            /* the user's */
    const kiln_graph *graph;             /* after the passes; of the first part */
    kiln_schedule *schedule;             /* of the first part */
    kiln_vec(kiln_part) parts;           /* the user's graph, then regions */
    const kiln_backend *backend;
    kiln_vec(kiln_unit) units;           /* of all sizes of an open batch */
    int64_t rows;                        /* of an open batch, else 0 */
    const bool *is_batched;              /* open batch: by input */
    uint32_t n_larger;
    kiln_compilation **larger;           /* open batch: for more rows; what they compile to is the
                                            head's: no options, units or backend of their own */
    uint32_t n_compiled;                 /* units the context did not know */
};

/* What an executable made here owns, and what a shared object is written from. Freed by
 * kiln_artifact_destroy once it is no scope's. */
typedef struct kiln_artifact {
    kiln_arena arena;               /* program tables, names, object bytes */
    kiln_program program;
    kiln_code *code;                /* NULL for an artifact that is only written to a file */
    kiln_object *objects;           /* by kernel of the program */
    kiln_program **larger;          /* program.larger, program.n_larger of them */
    kiln_context *context;          /* whose memory the constants are; outlives the artifact */
    void *constants;                /* on huge pages where the context has them */
    int64_t constant_capacity;      /* bytes allocated; program.constant_bytes of them are used */
    kiln_compile_report report;
} kiln_artifact;

void kiln_artifact_destroy(void *artifact);
/* An empty one, in `scope` until kiln_scope_keep. */
kiln_artifact *kiln_artifact_open(kiln_scope *scope);
/* Loads the objects of a complete artifact into this process. */
void kiln_artifact_load(kiln_scope *scope, kiln_artifact *artifact);
/* Gives the larger sizes what the program has: code and constants. */
void kiln_artifact_share(kiln_artifact *artifact);

/* A compilation in `scope`; options are copied with the defaults of a shorter struct. INVALID for
 * options out of range, a graph that holds its builder's error, or one without outputs. */
kiln_compilation *kiln_compilation_open(kiln_scope *scope, const kiln_graph *graph,
                                        const kiln_compile_options *options, bool is_run_here);

/* All stages up to machine code. */
void kiln_compilation_run(kiln_compilation *compilation);

/* Compiles every unit's kernel to an object, on up to n_threads threads. The first failing unit's
 * error (in unit order) is raised. */
void kiln_compile_units(kiln_compilation *compilation, uint32_t n_threads);

/* batch.c: opens the compilations of the larger sizes and proves that all treat the rows of a batch
 * apart and alike. For a head whose options have open_batch. */
void kiln_batch_open(kiln_compilation *head);
/* Size `i`: the head, then the larger ones. */
kiln_compilation *kiln_compilation_size(kiln_compilation *head, uint32_t i);

/* One block with the constants of all sizes; one that a former size has too is there once. */
typedef struct kiln_constant_block {
    char *memory;
    int64_t end;                 /* the next constant's place, 64-byte aligned */
    kiln_vec(kiln_stretch) kept; /* in memory */
    uint32_t n_former;           /* of `kept`: those of former sizes */
} kiln_constant_block;

/* The most bytes that the constants of a schedule take. */
int64_t kiln_bound_constants(const kiln_schedule *schedule, int64_t start);
/* Writes every constant in its format to the block and its offset to offsets, by place. */
void kiln_fill_constants(kiln_scope *scope, const kiln_schedule *schedule,
                         kiln_constant_block *block, int64_t *offsets);

/* Fills artifact->program from the schedule: buffers, steps, ports, kernel names; not the code. */
void kiln_fill_program(kiln_compilation *compilation, kiln_artifact *artifact, const char *name);

/* An artifact in the compilation's scope, with constants; code loaded when is_loaded. */
kiln_artifact *kiln_artifact_create(kiln_compilation *compilation, bool is_loaded);

/* The tables and objects of which kiln_compile_library makes a shared object, in the scope. */
const kiln_artifact *kiln_compile_ahead(kiln_scope *scope, const kiln_graph *graph,
                                        const kiln_compile_options *options);

/* The machine model of target cuda: the device's, which must be there when is_run_here; and the
 * kernels of an artifact for it. */
const kiln_machine *kiln_find_device(kiln_scope *scope, const kiln_compile_options *options,
                                     bool is_run_here);
void kiln_fill_device_kernels(const kiln_compilation *compilation, kiln_artifact *artifact);

/* Passes, fusion and planning only, reported as text. */
void kiln_explain_compilation(kiln_compilation *compilation, kiln_text *text);
/* The named passes only, the result printed. */
void kiln_print_compilation(kiln_compilation *compilation, const char *passes, kiln_text *text);
#endif
