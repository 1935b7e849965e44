/* A model from its file, with its ports filled: what every subcommand starts from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/cli/cli.h"

bool cli_has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcmp(path + n - m, ending) == 0;
}

static char *copy_name(const cli_pair *pair)
{
    return strndup(pair->name, pair->name_bytes);
}

/* Dims from --dim and shapes from the --input files, as import options. */
typedef struct bindings {
    kiln_dim_binding dims[CLI_MAX_REPEATS];
    kiln_shape_binding shapes[CLI_MAX_REPEATS];
    kiln_import_options options;
} bindings;

static void free_bindings(bindings *bound)
{
    for (uint32_t i = 0; i < bound->options.n_dims; i++) free((void *)bound->dims[i].name);
    for (uint32_t i = 0; i < bound->options.n_shapes; i++) free((void *)bound->shapes[i].input);
    free(bound);
}

/* Nodes that cannot be imported, each on its line: the context's sentence has room for some
 * only. */
static void show_unsupported(void *user, const char *line)
{
    ++*(uint32_t *)user;
    fprintf(stderr, "kiln: %s\n", line);
}

static int bind_dims(const cli_options *options, const cli_model *model, bindings *bound)
{
    bound->options = (kiln_import_options){sizeof bound->options, bound->dims, 0, bound->shapes, 0};
    for (uint32_t i = 0; i < options->n_dims; i++) {
        char *end;
        errno = 0;
        long long size = strtoll(options->dims[i].value, &end, 10);
        if (*end || errno || size < 0) {
            return cli_fail(KILN_INVALID, "--dim: \"%s\" was given; expected NAME=N with N >= 0",
                            options->dims[i].name);
        }
        bound->dims[i] = (kiln_dim_binding){copy_name(&options->dims[i]), size};
        bound->options.n_dims++;
    }
    for (uint32_t i = 0; i < model->n_given; i++) {
        const kiln_tensor *tensor = &model->given[i];
        bound->shapes[i] =
            (kiln_shape_binding){copy_name(&options->inputs[i]), tensor->rank, tensor->dims};
        bound->options.n_shapes++;
    }
    return 0;
}

static int read_given(const cli_options *options, cli_model *model)
{
    for (uint32_t i = 0; i < options->n_inputs; i++) {
        kiln_status status =
            kiln_read_npy(model->context, options->inputs[i].value, &model->given[i]);
        if (status != KILN_OK) return cli_fail(status, "%s", kiln_context_message(model->context));
        model->n_given++;
    }
    return 0;
}

static int import_onnx(const cli_options *options, cli_model *model)
{
    uint32_t n_unsupported = 0;
    bindings *bound = calloc(1, sizeof *bound);
    if (!bound) return cli_fail(KILN_NO_MEMORY, "%zu bytes were not available", sizeof *bound);
    kiln_status status = KILN_OK;
    int exit_code = bind_dims(options, model, bound);
    bound->options.report = show_unsupported;
    bound->options.report_user = &n_unsupported;
    if (!exit_code)
        status = kiln_import_onnx(model->context, options->model, &bound->options, &model->graph);
    free_bindings(bound);
    if (status == KILN_OK) return exit_code;
    if (n_unsupported == 0) return cli_fail(status, "%s", kiln_context_message(model->context));
    return cli_fail(status, "%s: %u nodes cannot be imported", options->model, n_unsupported);
}

static int read_model(const cli_options *options, cli_model *model)
{
    kiln_status status;
    bool is_onnx = cli_has_ending(options->model, ".onnx");
    if (options->n_dims && !is_onnx) {
        return cli_fail(KILN_INVALID, "--dim: \"%s\" has no open dims; expected an .onnx model",
                        options->model);
    }
    if (is_onnx) return import_onnx(options, model);
    if (cli_has_ending(options->model, ".so")) {
        status = kiln_executable_load(model->context, options->model,
                                      options->name ? options->name : "model", &model->executable);
    } else if (cli_has_ending(options->model, ".kilnb")) {
        status = kiln_read_binary(model->context, options->model, &model->graph);
    } else if (cli_has_ending(options->model, ".kiln")) {
        status = kiln_read_text(model->context, options->model, &model->graph);
    } else {
        return cli_fail(KILN_INVALID,
                        "\"%s\": its ending names no kind of model; expected .onnx, .kiln, "
                        ".kilnb or .so",
                        options->model);
    }
    if (status != KILN_OK) return cli_fail(status, "%s", kiln_context_message(model->context));
    return 0;
}

int cli_model_open(const cli_options *options, cli_model *model)
{
    *model = (cli_model){0};
    kiln_context_options context_options = {
        .struct_bytes = sizeof context_options,
        .threads = (uint32_t)options->threads,
    };
    kiln_status status = kiln_context_create(&context_options, &model->context);
    if (status != KILN_OK) return cli_fail(status, "%s", kiln_status_meaning(status));
    int exit_code = read_given(options, model);
    return exit_code ? exit_code : read_model(options, model);
}

void cli_show_progress(const char *stage, uint32_t done, uint32_t total)
{
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\r\033[K%s %u/%u", stage, done, total);
    if (done == total) fputs("\r\033[K", stderr);
}

static void show_stage(void *user, const char *stage, uint32_t done, uint32_t total)
{
    if (strcmp(stage, "link") == 0 && done == 0) cli_guard_begin(); /* cli_compile ends it */
    cli_show_progress(stage, done, total);
}

int cli_compile_options(const cli_options *options, bool is_unfused,
                        kiln_compile_options *out_options)
{
    static const char *const modes[] = {"fma", "x6", "bf16"};
    uint32_t precision = 0;
    if (options->precision) {
        while (precision < 3 && strcmp(options->precision, modes[precision]) != 0) precision++;
        if (precision == 3) {
            return cli_fail(KILN_INVALID, "--precision: \"%s\" was given; expected fma, x6 or bf16",
                            options->precision);
        }
    }
    *out_options = (kiln_compile_options){
        .struct_bytes = sizeof *out_options,
        .target = options->target,
        .target_cpu = options->target_cpu,
        .precision = (kiln_precision)precision,
        .is_strict = options->is_strict,
        .is_unfused = is_unfused,
        .is_tuned = options->is_tuned,
        .progress = show_stage,
    };
    return 0;
}

bool cli_cache_dir(const cli_options *options, char *out_path, size_t bytes)
{
    const char *own = options->cache_dir ? options->cache_dir : getenv("KILN_CACHE");
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (options->is_uncached) return false;
    if (own) {
        n = snprintf(out_path, bytes, "%s", own);
    } else if (xdg && *xdg) {
        n = snprintf(out_path, bytes, "%s/kiln", xdg);
    } else if (home && *home) {
        n = snprintf(out_path, bytes, "%s/.cache/kiln", home);
    }
    return n > 0 && (size_t)n < bytes;
}

int cli_model_compile(cli_model *model, const cli_options *options, bool is_unfused)
{
    char cache_dir[4096];
    kiln_workspace_destroy(model->workspace);
    model->workspace = NULL;
    if (model->graph) {
        kiln_executable_destroy(model->executable);
        model->executable = NULL;
        kiln_compile_options compile_options;
        int exit_code = cli_compile_options(options, is_unfused, &compile_options);
        if (exit_code) return exit_code;
        if (model->is_cached && cli_cache_dir(options, cache_dir, sizeof cache_dir))
            compile_options.cache_dir = cache_dir;
        kiln_status status = kiln_compile(model->graph, &compile_options, &model->executable);
        if (status != KILN_OK) return cli_fail(status, "%s", kiln_graph_message(model->graph));
        kiln_compile_report report;
        kiln_executable_report(model->executable, &report);
        if (report.cache == KILN_CACHE_REFUSED)
            fprintf(stderr,
                    "kiln: cache %s: not used; expected a folder of yours, no link, "
                    "with mode 0700\n",
                    cache_dir);
    }
    kiln_status status = kiln_workspace_create(model->executable, &model->workspace);
    if (status != KILN_OK) return cli_fail(status, "%s", kiln_context_message(model->context));
    return 0;
}

/* The rows of an open batch: --rows, those of a file for it, or the fewest. */
static int find_rows(const cli_model *model, const cli_options *options, int64_t *out_rows)
{
    const kiln_program *program = kiln_executable_program(model->executable);
    cli_rows rows;
    int exit_code = cli_parse_rows(options->rows, &rows);
    *out_rows = rows.n ? rows.at[0] : program->rows;
    if (exit_code) return exit_code;
    if (rows.n && !program->rows)
        return cli_fail(KILN_INVALID, "--rows: the batch of the model is not open; expected one "
                                      "compiled with --dim NAME=?");
    if (rows.n > 1) return cli_fail(KILN_INVALID, "--rows: %u numbers; expected one", rows.n);
    for (uint32_t i = 0; program->rows && i < program->n_inputs; i++) {
        const char *name = program->inputs[i].name;
        for (uint32_t k = 0; k < model->n_given && program->is_batched[i]; k++) {
            const cli_pair *pair = &options->inputs[k];
            bool is_it = strlen(name) == pair->name_bytes &&
                         memcmp(name, pair->name, pair->name_bytes) == 0;
            if (is_it && model->given[k].rank && !rows.n) *out_rows = model->given[k].dims[0];
        }
    }
    return 0;
}

/* The port `number`, with `rows` where the batch is open. */
static int allocate_port(cli_model *model, uint32_t number, int64_t rows, kiln_tensor *tensor)
{
    const kiln_program *program = kiln_executable_program(model->executable);
    bool is_input = number < program->n_inputs;
    const kiln_port_row *port =
        is_input ? &program->inputs[number] : &program->outputs[number - program->n_inputs];
    int64_t *dims = model->dims[number], bytes = port->bytes;
    for (uint32_t i = 0; i < port->rank; i++) dims[i] = port->dims[i];
    if (program->rows && program->is_batched[number]) {
        bytes /= program->rows;
        dims[0] = dims[0] / program->rows;
        if (__builtin_mul_overflow(dims[0], rows, &dims[0]) ||
            __builtin_mul_overflow(bytes, rows, &bytes) || bytes > INT64_MAX - 128)
            return cli_fail(KILN_LIMIT, "\"%s\": more than 2^63 bytes", port->name);
    }
    *tensor = (kiln_tensor){(kiln_dtype)port->dtype, port->rank, dims, NULL, (size_t)bytes};
    tensor->data = aligned_alloc(64, ((size_t)bytes + 127) & ~(size_t)63);
    if (!tensor->data)
        return cli_fail(KILN_NO_MEMORY, "\"%s\": %zu bytes", port->name, tensor->bytes);
    memset(tensor->data, 0, tensor->bytes);
    return 0;
}

/* Dtypes that .npy lacks are stored raw and read back as unsigned integers, packed ones as a list
 * of bytes. */
static bool is_fitting(const kiln_tensor *tensor, const kiln_tensor *given)
{
    size_t bits = kiln_dtype_bits(tensor->dtype);
    kiln_dtype raw = bits == 16 ? KILN_u16 : KILN_u8;
    bool is_raw = given->dtype == raw && bits <= 16 && !cli_is_whole(tensor->dtype);
    if (bits < 8) return given->dtype == raw && given->rank == 1 && given->bytes == tensor->bytes;
    bool is_same = (tensor->dtype == given->dtype || is_raw) && tensor->rank == given->rank;
    for (uint32_t i = 0; is_same && i < given->rank; i++)
        is_same = tensor->dims[i] == given->dims[i];
    return is_same;
}

static int fill_given(cli_model *model, const cli_pair *pair, const kiln_tensor *given)
{
    char *name = copy_name(pair);
    int32_t number = name ? kiln_executable_find_input(model->executable, name) : -1;
    free(name);
    if (number < 0) {
        return cli_fail(KILN_INVALID, "--input: the model has no input \"%.*s\"",
                        (int)pair->name_bytes, pair->name);
    }
    kiln_tensor *tensor = &model->inputs[number];
    if (!is_fitting(tensor, given)) {
        char found[512], expected[512];
        cli_type_string(given, found, sizeof found);
        cli_type_string(tensor, expected, sizeof expected);
        return cli_fail(KILN_INVALID, "%s: it holds %s; input \"%.*s\" is %s", pair->value, found,
                        (int)pair->name_bytes, pair->name, expected);
    }
    memcpy(tensor->data, given->data, given->bytes);
    return 0;
}

int cli_model_fill(cli_model *model, const cli_options *options)
{
    const kiln_program *program = kiln_executable_program(model->executable);
    int64_t rows;
    int exit_code = find_rows(model, options, &rows);
    model->inputs = calloc(program->n_inputs + 1, sizeof *model->inputs);
    model->outputs = calloc(program->n_outputs + 1, sizeof *model->outputs);
    model->dims = calloc(program->n_inputs + program->n_outputs + 1, sizeof *model->dims);
    if (!model->inputs || !model->outputs || !model->dims)
        return cli_fail(KILN_NO_MEMORY, "ports were not allocated");
    for (uint32_t i = 0; i < program->n_inputs && !exit_code; i++) {
        exit_code = allocate_port(model, i, rows, &model->inputs[i]);
        model->n_inputs++;
        if (!exit_code) cli_fill_random(&model->inputs[i], (uint64_t)options->seed * 1000003u + i);
    }
    for (uint32_t i = 0; i < program->n_outputs && !exit_code; i++) {
        exit_code = allocate_port(model, program->n_inputs + i, rows, &model->outputs[i]);
        model->n_outputs++;
    }
    for (uint32_t i = 0; i < model->n_given && !exit_code; i++) {
        exit_code = fill_given(model, &options->inputs[i], &model->given[i]);
    }
    return exit_code;
}

int cli_model_run(cli_model *model)
{
    kiln_status status = kiln_run(model->workspace, model->inputs, model->n_inputs, model->outputs,
                                  model->n_outputs);
    if (status != KILN_OK) return cli_fail(status, "%s", kiln_workspace_message(model->workspace));
    return 0;
}

void cli_model_close(cli_model *model)
{
    for (uint32_t i = 0; i < model->n_inputs; i++) free(model->inputs[i].data);
    for (uint32_t i = 0; i < model->n_outputs; i++) free(model->outputs[i].data);
    for (uint32_t i = 0; i < model->n_given; i++) kiln_tensor_free(&model->given[i]);
    free(model->inputs);
    free(model->outputs);
    free(model->dims);
    kiln_workspace_destroy(model->workspace);
    kiln_executable_destroy(model->executable);
    kiln_graph_destroy(model->graph);
    kiln_context_destroy(model->context);
}
