/* The `kiln` command. One file a subcommand; options come from one table; every failure is one line
 * on stderr and an exit code of cli_status_exit. Built on the public API, `opt` excepted: it runs
 * passes. */
#ifndef KILN_CODEGEN_CLI_CLI_H
#define KILN_CODEGEN_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "kiln/kiln.h"

#define CLI_EXIT_DIFFERENT 1
#define CLI_EXIT_USAGE 2
#define CLI_MAX_REPEATS 256

/* One NAME=VALUE of a repeated option; both point into argv. */
typedef struct cli_pair {
    const char *name; /* not terminated: name_bytes */
    size_t name_bytes;
    const char *value;
} cli_pair;

typedef struct cli_options {
    const char *model, *second; /* what convert writes */
    cli_pair inputs[CLI_MAX_REPEATS], dims[CLI_MAX_REPEATS];
    uint32_t n_inputs, n_dims;
    const char *target, *target_cpu, *precision, *output_dir, *output, *header, *name, *passes,
        *cache_dir, *weights, *rows;
    int64_t threads, seed, milliseconds;
    bool is_strict, is_unfused, is_tuned, is_json, is_cache_shown, is_uncached;
} cli_options;

/* A model ready to compile or run: a graph, or an executable loaded from a .so. */
typedef struct cli_model {
    kiln_context *context;
    kiln_graph *graph;           /* NULL for a .so */
    kiln_executable *executable; /* after cli_model_compile, or of the .so */
    kiln_workspace *workspace;
    kiln_tensor *inputs, *outputs; /* by port; owned */
    uint32_t n_inputs, n_outputs;
    int64_t (*dims)[KILN_MAX_RANK]; /* of the ports, inputs first */
    kiln_tensor given[CLI_MAX_REPEATS]; /* the --input files, in the order of the options */
    uint32_t n_given;
    bool is_cached; /* cli_model_compile may use the cache */
} cli_model;

/* All of these return an exit code, and have printed their line when it is not 0. */
int cli_parse(int argc, char **argv, cli_options *options);
bool cli_has_ending(const char *path, const char *ending);
int cli_model_open(const cli_options *options, cli_model *model);
/* Compiles (a .so is ready) with or without fusion, replacing what was compiled before. */
int cli_model_compile(cli_model *model, const cli_options *options, bool is_unfused);
/* Allocates the ports: given files are checked against their port, others are random from the
 * seed. */
int cli_model_fill(cli_model *model, const cli_options *options);
int cli_model_run(cli_model *model);
void cli_model_close(cli_model *model);

/* Floats are uniform in [-1, 1); integers and bool are 0 or 1, which is in range for indices and
 * masks. */
void cli_fill_random(kiln_tensor *tensor, uint64_t seed);
/* Element i as a number. */
double cli_element(const kiln_tensor *tensor, size_t i);
/* How many of them there are; a complex element counts as two. */
size_t cli_count(const kiln_tensor *tensor);
/* Integers and bool. */
bool cli_is_whole(kiln_dtype dtype);

/* "f32[2,3]", cut to `bytes`. */
void cli_type_string(const kiln_tensor *tensor, char *out, size_t bytes);

/* One line that the next one replaces, on a terminal only; the last one, done == total, clears
 * it. */
void cli_show_progress(const char *stage, uint32_t done, uint32_t total);

/* Where `run` keeps compiled models: --cache-dir, $KILN_CACHE, $XDG_CACHE_HOME/kiln or
 * ~/.cache/kiln; false when it is to keep none. */
bool cli_cache_dir(const cli_options *options, char *out_path, size_t bytes);

/* The compile options that the command line asks for, with progress on a terminal. */
int cli_compile_options(const cli_options *options, bool is_unfused,
                        kiln_compile_options *out_options);

/* One line of an output's first elements; and DIR/NAME.npy, the folder made if it is not there. */
void cli_print_output(const char *name, const kiln_tensor *tensor);
int cli_write_output(kiln_context *context, const char *dir, const char *name,
                     const kiln_tensor *tensor);

#define CLI_MAX_ROWS 64

/* The numbers of --rows; none without it. */
typedef struct cli_rows {
    int64_t at[CLI_MAX_ROWS];
    uint32_t n;
} cli_rows;
int cli_parse_rows(const char *text, cli_rows *rows);

/* Whether a --dim NAME=? leaves a batch open; run, bench and compile then go here. */
bool cli_has_open_dim(const cli_options *options);
int cli_run_open(const cli_options *options);
int cli_bench_open(const cli_options *options);
int cli_compile_open(const cli_options *options);

/* Between these two, a signal that asks the command to end waits until what is being written is
 * whole or gone. */
void cli_guard_begin(void);
void cli_guard_end(void);

/* Prints "kiln: message" and returns the exit code of `status`. */
int cli_fail(kiln_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_status_exit(kiln_status status);

int cli_run(const cli_options *options);
int cli_bench(const cli_options *options);
int cli_compile(const cli_options *options);
int cli_check(const cli_options *options);
int cli_explain(const cli_options *options);
int cli_opt(const cli_options *options);
int cli_info(const cli_options *options);
int cli_convert(const cli_options *options);
#endif
