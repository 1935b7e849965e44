/* Compiling a graph: to an executable in memory, or to a shared object with a C header.
 *
 *     kiln_compile_options options = {sizeof options};
 *     kiln_executable *executable;
 *     if (kiln_compile(graph, &options, &executable)) puts(kiln_graph_message(graph));
 *
 * The graph is not changed and may be destroyed after either call. */
#ifndef KILN_COMPILE_H
#define KILN_COMPILE_H

#include "kiln/graph.h"
#include "kiln/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How f32 contractions multiply. FMA is exact f32; the others are asked for by name. */
typedef enum kiln_precision {
    KILN_PRECISION_FMA = 0,
    KILN_PRECISION_X6 = 1,   /* six bf16 products per f32 product, as accurate as the FMA chain */
    KILN_PRECISION_BF16 = 2, /* operands rounded to bf16 */
} kiln_precision;

/* An open batch: the graph is for the fewest rows (the first dim of its batched inputs), best one;
 * `larger` are the same for more rows at once. Every graph must be proved to treat its rows apart
 * and alike, and all of them to be the same function of a row: else UNSUPPORTED, naming the node
 * that mixes rows. What is compiled runs any number of rows, 0 included, in chunks of these sizes;
 * fewer than the smallest are padded (docs/functions.md). kiln_function makes the graphs itself.
 * For target cuda the smallest is one row. */
typedef struct kiln_open_batch {
    const unsigned char *is_batched; /* by input */
    uint32_t n_is_batched;           /* inputs beyond are not */
    uint32_t n_larger;               /* up to 64 */
    const kiln_graph *const *larger; /* by ascending rows */
} kiln_open_batch;

/* Zero means default everywhere. */
typedef struct kiln_compile_options {
    size_t struct_bytes;       /* sizeof(kiln_compile_options) */
    const char *target;        /* "cpu" (default) or "cuda" */
    const char *target_cpu; /* "host" (default), "x86-64", "x86-64-v3", "x86-64-v3-vnni",
                               "x86-64-v4", "x86-64-vnni", "x86-64-bf16", "x86-64-amx"; for cuda
                               "sm_80", "sm_90a" */
    kiln_precision precision;
    int is_strict;             /* only rewrites that keep every bit */
    int is_unfused;            /* one kernel per node of the graph (a composite is one) */
    int flush_denormals;
    uint32_t compile_threads;  /* default: the context's threads */
    int64_t max_bytes;         /* LIMIT when the arena would be larger */
    const char *dump_dir;      /* every stage as numbered files; default: $KILN_DUMP */
    /* Stages: "passes", "lower", "compile"; "link" with done 0 comes before a library's first
     * file. */
    void (*progress)(void *user, const char *stage, uint32_t done, uint32_t total);
    void *progress_user;
    const char *cache_dir;     /* kiln_compile keeps and finds compiled models there; NULL: nowhere.
                                  The caller's alone: made with mode 0700, else not used */
    int64_t cache_bytes;       /* the models used last stay within it; default 8 GiB */
    const kiln_open_batch *open_batch; /* NULL: the shapes are those of the graph */
    int is_tuned;              /* times a few register tiles and blockings of each heavy product on
                                  this machine while compiling and keeps the fastest: seconds, and
                                  not the same code every time, but the same bits. Labels of steps
                                  say what was chosen */
} kiln_compile_options;

/* `options` may be NULL. The first mistake of the builder is returned here; so is UNSUPPORTED,
 * which names every node that the target cannot run. Sentence on the graph. */
KILN_API kiln_status kiln_compile(const kiln_graph *graph, const kiln_compile_options *options,
                                  kiln_executable **out_executable);

/* Compiles to the shared object `path` (written whole or not at all), which needs libc and libm
 * only and exports PREFIX_run, PREFIX_arena_bytes, PREFIX_inputs, PREFIX_outputs and
 * PREFIX_program; for a graph with custom calls also PREFIX_call, which takes their functions, and
 * with options.open_batch PREFIX_run_rows, which takes any number of rows.
 * `header` is a path or NULL; `prefix` matches [a-z][a-z0-9_]{0,30}, NULL for "model". Needs the
 * system's C compiler driver to link: UNSUPPORTED where there is none. */
KILN_API kiln_status kiln_compile_library(const kiln_graph *graph,
                                          const kiln_compile_options *options, const char *path,
                                          const char *header, const char *prefix);

/* What a compile did, for people: groups, bytes saved, roofline shares, refused fusions. The text
 * is the caller's to free with kiln_free. */
KILN_API kiln_status kiln_explain(const kiln_graph *graph, const kiln_compile_options *options,
                                  char **out_text);
/* Runs passes by name over the graph ("expand,simplify") and prints the result as a text graph; the
 * last name may be "schedule" or "kernels" instead. The text is the caller's to free with
 * kiln_free. */
KILN_API kiln_status kiln_print_passes(const kiln_graph *graph, const kiln_compile_options *options,
                                       const char *passes, char **out_text);
KILN_API void kiln_free(void *memory);

/* What became of options.cache_dir. */
typedef enum kiln_cache_use {
    KILN_CACHE_NONE = 0,    /* not asked for, or not for this target */
    KILN_CACHE_HIT = 1,     /* loaded from it */
    KILN_CACHE_MISS = 2,    /* compiled, and stored for the next time */
    KILN_CACHE_DAMAGED = 3, /* what was there was no whole entry: compiled, and stored anew */
    KILN_CACHE_REFUSED = 4, /* the folder is a link, another's, or writable by others; compiled */
} kiln_cache_use;

/* Figures of a compiled executable; zeros for one that was loaded. */
typedef struct kiln_compile_report {
    double seconds;          /* wall time of kiln_compile */
    uint32_t n_nodes;        /* of the graph after the passes */
    uint32_t n_groups;       /* = kernel launches of a run */
    uint32_t n_kernels;      /* distinct ones */
    int64_t flops;           /* of one run; an FMA is two */
    int64_t bytes;           /* read and written by kernels in one run */
    kiln_cache_use cache;
    uint32_t n_compiled;     /* of n_kernels: a context compiles a kernel once and keeps its code */
} kiln_compile_report;
KILN_API void kiln_executable_report(const kiln_executable *executable,
                                     kiln_compile_report *out_report);

/* What a cache folder holds. IO when it cannot be read. */
typedef struct kiln_cache_info {
    uint32_t n_entries;
    int64_t bytes;
    int64_t limit; /* the default one */
} kiln_cache_info;
KILN_API kiln_status kiln_cache_inspect(const char *cache_dir, kiln_cache_info *out_info);

/* Runs the reference evaluator: slow, independent of the compiler. Shapes as in kiln_run. */
KILN_API kiln_status kiln_evaluate(const kiln_graph *graph, const kiln_tensor *inputs,
                                   uint32_t n_inputs, const kiln_tensor *outputs,
                                   uint32_t n_outputs);
/* kiln_executable_output_dims for the outputs of kiln_evaluate. */
KILN_API kiln_status kiln_graph_output_dims(const kiln_graph *graph, uint32_t output,
                                            const kiln_tensor *outputs,
                                            int64_t out_dims[KILN_MAX_RANK]);

#ifdef __cplusplus
}
#endif
#endif
