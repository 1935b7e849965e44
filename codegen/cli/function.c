/* kiln run, bench and compile with an open batch (--dim NAME=?): one function, called with several
 * numbers of rows, --rows N[,N...] or those of the --input files, and what it kept; or written to a
 * shared object. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codegen/cli/cli.h"

#define MAX_RUNS 20000
#define MAX_OUTPUTS 1024

typedef struct open_model {
    kiln_context *context;
    kiln_function *function;
    const kiln_function_input *listed;
    kiln_tensor given[CLI_MAX_REPEATS];
    uint32_t n_given, n_inputs, n_outputs;
    cli_rows rows; /* run, bench: to call it with; compile: to compile for together */
    kiln_tensor *inputs, *outputs; /* of the call at hand */
    int64_t (*dims)[KILN_MAX_RANK];
    kiln_output_type *types;
} open_model;

bool cli_has_open_dim(const cli_options *options)
{
    for (uint32_t i = 0; i < options->n_dims; i++) {
        if (strcmp(options->dims[i].value, "?") == 0) return true;
    }
    return false;
}

static const cli_pair *find_pair(const cli_pair *pairs, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++) {
        bool is_same = strlen(name) == pairs[i].name_bytes &&
                       memcmp(pairs[i].name, name, pairs[i].name_bytes) == 0;
        if (is_same) return &pairs[i];
    }
    return NULL;
}

int cli_parse_rows(const char *text, cli_rows *rows)
{
    rows->n = 0;
    while (text && *text) {
        char *end;
        errno = 0;
        long long number = strtoll(text, &end, 10);
        bool is_good = end != text && !errno && number >= 0 && (*end == ',' || !*end);
        if (!is_good || rows->n == CLI_MAX_ROWS)
            return cli_fail(KILN_INVALID,
                            "--rows: \"%s\" was given; expected up to %d numbers, "
                            "N,N,...",
                            text, CLI_MAX_ROWS);
        rows->at[rows->n++] = number;
        text = end + (*end == ',');
    }
    return 0;
}

static int open_function(const cli_options *options, open_model *model, bool is_ahead)
{
    kiln_compile_options compile_options;
    char open_dim[256] = "", cache_dir[4096];
    for (uint32_t i = 0; i < options->n_dims; i++) {
        const cli_pair *dim = &options->dims[i];
        if (strcmp(dim->value, "?") != 0) continue;
        if (*open_dim) return cli_fail(KILN_INVALID, "--dim: two dims are open; expected one");
        snprintf(open_dim, sizeof open_dim, "%.*s", (int)dim->name_bytes, dim->name);
    }
    int exit_code = cli_compile_options(options, options->is_unfused, &compile_options);
    if (exit_code) return exit_code;
    if (!is_ahead && cli_cache_dir(options, cache_dir, sizeof cache_dir))
        compile_options.cache_dir = cache_dir;
    kiln_function_options function_options = {sizeof function_options, .compile = &compile_options,
                                              .open_dim = open_dim};
    if (is_ahead && model->rows.n) {
        function_options.row_sizes = model->rows.at;
        function_options.n_row_sizes = model->rows.n;
    }
    kiln_status status = kiln_function_open_onnx(model->context, options->model, NULL,
                                                 &function_options, &model->function);
    if (status) return cli_fail(status, "%s", kiln_context_message(model->context));
    model->listed = kiln_function_inputs(model->function, &model->n_inputs);
    return 0;
}

/* The file given for an input, or NULL. */
static const kiln_tensor *find_given(const cli_options *options, const open_model *model,
                                     const char *name)
{
    const cli_pair *pair = find_pair(options->inputs, options->n_inputs, name);
    return pair ? &model->given[pair - options->inputs] : NULL;
}

static int find_rows(const cli_options *options, open_model *model)
{
    cli_rows *rows = &model->rows;
    for (uint32_t i = 0; i < model->n_inputs && !rows->n; i++) {
        const kiln_tensor *given = find_given(options, model, model->listed[i].name);
        bool has_rows = given && model->listed[i].is_batched && given->rank;
        if (has_rows) rows->at[rows->n++] = given->dims[0];
    }
    if (rows->n) return 0;
    return cli_fail(KILN_INVALID, "--rows is missing; expected it, or an --input that has the dim");
}

static int open_model_open(const cli_options *options, open_model *model, bool is_ahead)
{
    kiln_context_options context_options = {sizeof context_options,
                                            .threads = (uint32_t)options->threads};
    if (!cli_has_ending(options->model, ".onnx"))
        return cli_fail(KILN_INVALID, "--dim: \"%s\" has no open dims; expected an .onnx model",
                        options->model);
    kiln_status status = kiln_context_create(&context_options, &model->context);
    if (status) return cli_fail(status, "%s", kiln_status_meaning(status));
    for (uint32_t i = 0; i < options->n_inputs; i++, model->n_given++) {
        status = kiln_read_npy(model->context, options->inputs[i].value, &model->given[i]);
        if (status) return cli_fail(status, "%s", kiln_context_message(model->context));
    }
    int exit_code = cli_parse_rows(options->rows, &model->rows);
    if (!exit_code) exit_code = open_function(options, model, is_ahead);
    if (!exit_code && !is_ahead) exit_code = find_rows(options, model);
    if (exit_code) return exit_code;
    model->inputs = calloc(model->n_inputs + 1, sizeof *model->inputs);
    model->dims = calloc(model->n_inputs + 1, sizeof *model->dims);
    bool is_ready = model->inputs && model->dims;
    return is_ready ? 0 : cli_fail(KILN_NO_MEMORY, "ports were not allocated");
}

/* A dim that the file leaves open: the rows, or what --dim says. */
static int resolve_dim(const cli_options *options, const kiln_function_input *input, uint32_t axis,
                       int64_t rows, int64_t *out)
{
    const cli_pair *pair = find_pair(options->dims, options->n_dims, input->dim_names[axis]);
    char *end = NULL;
    if (input->dims[axis] >= 0) {
        *out = input->dims[axis];
    } else if (input->is_batched && axis == 0) {
        *out = rows;
    } else {
        *out = pair ? strtoll(pair->value, &end, 10) : -1;
        if (!pair || *end || *out < 0)
            return cli_fail(KILN_INVALID, "unbound dim \"%s\" of input \"%s\"; expected --dim %s=N",
                            input->dim_names[axis], input->name, input->dim_names[axis]);
    }
    return 0;
}

static int make_input(const cli_options *options, open_model *model, uint32_t number, int64_t rows)
{
    const kiln_function_input *input = &model->listed[number];
    const kiln_tensor *given = find_given(options, model, input->name);
    kiln_tensor *tensor = &model->inputs[number];
    int exit_code = 0;
    *tensor = (kiln_tensor){.dtype = input->dtype, .dims = model->dims[number]};
    tensor->rank = input->rank == KILN_NONE && given ? given->rank : input->rank;
    if (tensor->rank == KILN_NONE)
        return cli_fail(KILN_INVALID, "input \"%s\" has no shape in the file; expected --input",
                        input->name);
    bool is_given =
        given && given->rank == tensor->rank && (!input->is_batched || given->dims[0] == rows);
    for (uint32_t i = 0; i < tensor->rank && !exit_code; i++) {
        if (is_given)
            model->dims[number][i] = given->dims[i];
        else
            exit_code = resolve_dim(options, input, i, rows, &model->dims[number][i]);
    }
    if (exit_code) return exit_code;
    int64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (__builtin_mul_overflow(count, tensor->dims[i], &count) || count > (INT64_MAX >> 8))
            return cli_fail(KILN_LIMIT, "input \"%s\": more than 2^55 elements", input->name);
    }
    tensor->bytes = ((size_t)count * kiln_dtype_bits(tensor->dtype) + 7) / 8;
    if (is_given && (given->dtype != tensor->dtype || given->bytes != tensor->bytes))
        return cli_fail(KILN_INVALID, "input \"%s\": its file is of another type", input->name);
    tensor->data = aligned_alloc(64, (tensor->bytes + 127) & ~(size_t)63);
    if (!tensor->data)
        return cli_fail(KILN_NO_MEMORY, "\"%s\": %zu bytes", input->name, tensor->bytes);
    if (is_given)
        memcpy(tensor->data, given->data, tensor->bytes);
    else
        cli_fill_random(tensor, (uint64_t)options->seed * 1000003u + number);
    return 0;
}

static void free_ports(open_model *model)
{
    for (uint32_t i = 0; i < model->n_inputs && model->inputs; i++) {
        free(model->inputs[i].data);
        model->inputs[i].data = NULL;
    }
    for (uint32_t i = 0; i < model->n_outputs && model->outputs; i++) free(model->outputs[i].data);
    free(model->outputs);
    free(model->types);
    model->outputs = NULL;
    model->types = NULL;
    model->n_outputs = 0;
}

/* Compiles for the inputs and makes room for what comes out. */
static int make_outputs(open_model *model)
{
    uint32_t n = MAX_OUTPUTS;
    model->types = calloc(MAX_OUTPUTS, sizeof *model->types);
    model->outputs = calloc(MAX_OUTPUTS, sizeof *model->outputs);
    if (!model->types || !model->outputs)
        return cli_fail(KILN_NO_MEMORY, "ports were not allocated");
    kiln_status status =
        kiln_function_prepare(model->function, model->inputs, model->n_inputs, model->types, &n);
    if (status) return cli_fail(status, "%s", kiln_context_message(model->context));
    if (n > MAX_OUTPUTS)
        return cli_fail(KILN_LIMIT, "the model has %u outputs; expected at most %d", n,
                        MAX_OUTPUTS);
    for (uint32_t i = 0; i < n; i++, model->n_outputs++) {
        const kiln_output_type *type = &model->types[i];
        void *data = aligned_alloc(64, (type->bytes + 127) & ~(size_t)63);
        if (!data) return cli_fail(KILN_NO_MEMORY, "\"%s\": %zu bytes", type->name, type->bytes);
        model->outputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims, data, type->bytes};
    }
    return 0;
}

static int make_ports(const cli_options *options, open_model *model, int64_t rows)
{
    int exit_code = 0;
    free_ports(model);
    for (uint32_t i = 0; i < model->n_inputs && !exit_code; i++)
        exit_code = make_input(options, model, i, rows);
    return exit_code ? exit_code : make_outputs(model);
}

static int run_once(open_model *model)
{
    kiln_status status = kiln_function_run(model->function, model->inputs, model->n_inputs,
                                           model->outputs, model->n_outputs);
    return status ? cli_fail(status, "%s", kiln_context_message(model->context)) : 0;
}

static void print_report(open_model *model)
{
    kiln_function_report report;
    kiln_function_inspect(model->function, &report);
    printf("function: %llu calls, %llu hits, %llu misses compiled in %.3f s, %llu chunks, "
           "%u kept in %lld bytes, %llu given up\n",
           (unsigned long long)report.n_calls, (unsigned long long)report.n_hits,
           (unsigned long long)report.n_misses, report.compile_seconds,
           (unsigned long long)report.n_chunks, report.n_executables, (long long)report.bytes,
           (unsigned long long)report.n_evicted);
}

static void close_model(open_model *model)
{
    free_ports(model);
    free(model->inputs);
    free(model->dims);
    for (uint32_t i = 0; i < model->n_given; i++) kiln_tensor_free(&model->given[i]);
    kiln_function_destroy(model->function);
    kiln_context_destroy(model->context);
}

int cli_compile_open(const cli_options *options)
{
    static open_model model;
    int exit_code = open_model_open(options, &model, true);
    for (uint32_t i = 0; i < model.n_inputs && !exit_code; i++)
        exit_code = make_input(options, &model, i, 1); /* of their types */
    if (!exit_code) {
        kiln_library_paths paths = {options->output, options->header, options->name};
        kiln_status status =
            kiln_function_compile_library(model.function, model.inputs, model.n_inputs, &paths);
        cli_guard_end();
        if (status) exit_code = cli_fail(status, "%s", kiln_context_message(model.context));
    }
    close_model(&model);
    return exit_code;
}

int cli_run_open(const cli_options *options)
{
    static open_model model;
    int exit_code = open_model_open(options, &model, false);
    for (uint32_t k = 0; k < model.rows.n && !exit_code; k++) {
        exit_code = make_ports(options, &model, model.rows.at[k]);
        if (!exit_code) exit_code = run_once(&model);
        for (uint32_t i = 0; i < model.n_outputs && !exit_code; i++) {
            cli_print_output(model.types[i].name, &model.outputs[i]);
            if (options->output_dir && k + 1 == model.rows.n)
                exit_code = cli_write_output(model.context, options->output_dir,
                                             model.types[i].name, &model.outputs[i]);
        }
    }
    if (!exit_code) print_report(&model);
    close_model(&model);
    return exit_code;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int measure(open_model *model, int64_t rows, double budget_ms)
{
    double *times = malloc(MAX_RUNS * sizeof *times);
    if (!times) return cli_fail(KILN_NO_MEMORY, "%d times were not allocated", MAX_RUNS);
    int exit_code = run_once(model);
    double start = now_ms(), before = start;
    uint32_t n = 0;
    while (!exit_code && n < MAX_RUNS && (n == 0 || before - start < budget_ms)) {
        exit_code = run_once(model);
        double after = now_ms();
        times[n++] = after - before;
        before = after;
    }
    if (!exit_code) {
        qsort(times, n, sizeof *times, compare_times);
        printf("rows %-6lld median %10.4f ms  min %10.4f ms  %12.1f rows/s\n", (long long)rows,
               times[n / 2], times[0], (double)rows / times[n / 2] * 1e3);
    }
    free(times);
    return exit_code;
}

int cli_bench_open(const cli_options *options)
{
    static open_model model;
    int exit_code = open_model_open(options, &model, false);
    for (uint32_t k = 0; k < model.rows.n && !exit_code; k++) {
        exit_code = make_ports(options, &model, model.rows.at[k]);
        double budget = (double)options->milliseconds / model.rows.n;
        if (!exit_code) exit_code = measure(&model, model.rows.at[k], budget);
    }
    if (!exit_code) print_report(&model);
    close_model(&model);
    return exit_code;
}
