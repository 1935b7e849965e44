/* The short subcommands: compile, check, explain, info. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/cli/cli.h"

static int fail_needs_graph(const char *command)
{
    return cli_fail(KILN_INVALID, "%s: a compiled .so was given; expected a .onnx or .kiln model",
                    command);
}

int cli_compile(const cli_options *options)
{
    if (!options->output) return cli_fail(KILN_INVALID, "compile: -o OUT.so is missing");
    if (cli_has_open_dim(options)) return cli_compile_open(options);
    cli_model model;
    kiln_compile_options compile_options;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) exit_code = fail_needs_graph("compile");
    if (!exit_code) exit_code = cli_compile_options(options, options->is_unfused, &compile_options);
    if (!exit_code) {
        kiln_status status = kiln_compile_library(model.graph, &compile_options, options->output,
                                                  options->header, options->name);
        cli_guard_end();
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", kiln_graph_message(model.graph));
    }
    cli_model_close(&model);
    return exit_code;
}

/* Floats agree within 1e-3 of the value (1e-2 where they have 16 bits, 0.3 below) plus a tenth of
 * that of the largest one; the rest exactly. */
static bool is_near(const kiln_tensor *a, const kiln_tensor *b, double *out_worst)
{
    *out_worst = 0;
    if (cli_is_whole(a->dtype)) return a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0;
    size_t size = kiln_dtype_bytes(a->dtype), n = cli_count(a);
    double largest = 0, bound = size == 1 ? 0.3 : size == 2 ? 1e-2 : 1e-3;
    for (size_t i = 0; i < n; i++) {
        double y = fabs(cli_element(b, i));
        if (isfinite(y) && y > largest) largest = y;
    }
    for (size_t i = 0; i < n; i++) {
        double x = cli_element(a, i), y = cli_element(b, i);
        if ((isnan(x) && isnan(y)) || x == y) continue;
        double error = fabs(x - y);
        if (!(error <= bound * (fabs(y) + 0.1 * largest))) return false;
        if (error / largest > *out_worst) *out_worst = error / largest;
    }
    return true;
}

static int compare_outputs(const cli_model *model, const kiln_tensor *expected)
{
    const kiln_program *program = kiln_executable_program(model->executable);
    int exit_code = 0;
    for (uint32_t i = 0; i < model->n_outputs && !exit_code; i++) {
        double worst;
        const char *name = program->outputs[i].name;
        if (is_near(&model->outputs[i], &expected[i], &worst)) {
            printf("output \"%s\": agrees, largest difference %.2g of its largest value\n", name,
                   worst);
            continue;
        }
        fprintf(stderr, "kiln: output \"%s\": the compiled result differs from the evaluator's\n",
                name);
        exit_code = CLI_EXIT_DIFFERENT;
    }
    return exit_code;
}

static int compare_with_evaluator(cli_model *model)
{
    int exit_code = cli_model_run(model);
    kiln_tensor *expected = calloc(model->n_outputs + 1, sizeof *expected);
    bool is_complete = expected != NULL;
    for (uint32_t i = 0; is_complete && i < model->n_outputs; i++) {
        expected[i] = model->outputs[i];
        expected[i].data = calloc(1, expected[i].bytes + 1);
        is_complete = expected[i].data != NULL;
    }
    if (!exit_code && !is_complete)
        exit_code = cli_fail(KILN_NO_MEMORY, "outputs were not allocated");
    if (!exit_code) {
        kiln_status status =
            kiln_evaluate(model->graph, model->inputs, model->n_inputs, expected, model->n_outputs);
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", kiln_graph_message(model->graph));
    }
    if (!exit_code) exit_code = compare_outputs(model, expected);
    for (uint32_t i = 0; expected && i < model->n_outputs; i++) free(expected[i].data);
    free(expected);
    return exit_code;
}

int cli_check(const cli_options *options)
{
    cli_model model;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) exit_code = fail_needs_graph("check");
    if (!exit_code) exit_code = cli_model_compile(&model, options, options->is_unfused);
    if (!exit_code && model.n_given) {
        exit_code = cli_model_fill(&model, options);
        if (!exit_code) exit_code = compare_with_evaluator(&model);
    }
    if (!exit_code) {
        kiln_compile_report report;
        kiln_executable_report(model.executable, &report);
        printf("%s: ok, %u nodes, %u kernels (%u distinct), compiled in %.3f s\n", options->model,
               report.n_nodes, report.n_groups, report.n_kernels, report.seconds);
    }
    cli_model_close(&model);
    return exit_code;
}

int cli_explain(const cli_options *options)
{
    cli_model model;
    kiln_compile_options compile_options;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) exit_code = fail_needs_graph("explain");
    if (!exit_code) exit_code = cli_compile_options(options, options->is_unfused, &compile_options);
    if (!exit_code) {
        char *text = NULL;
        kiln_status status = kiln_explain(model.graph, &compile_options, &text);
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", kiln_graph_message(model.graph));
        if (text) fputs(text, stdout);
        kiln_free(text);
    }
    cli_model_close(&model);
    return exit_code;
}

static void print_ports(const char *title, const kiln_port_row *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char type[512];
        kiln_tensor tensor = {(kiln_dtype)ports[i].dtype, ports[i].rank, ports[i].dims, NULL, 0};
        cli_type_string(&tensor, type, sizeof type);
        printf("%s \"%s\": %s\n", title, ports[i].name, type);
    }
}

/* An open batch, of which the ports show the smallest size. */
static void print_rows(const kiln_program *program)
{
    if (!program->rows) return;
    printf("open batch: any number of rows, in chunks of %lld", (long long)program->rows);
    for (uint32_t i = 0; i < program->n_larger; i++)
        printf(", %lld", (long long)program->larger[i]->rows);
    puts("");
}

static int64_t find_arena(const kiln_program *program)
{
    int64_t bytes = program->arena_bytes;
    for (uint32_t i = 0; i < program->n_larger; i++) {
        if (program->larger[i]->arena_bytes > bytes) bytes = program->larger[i]->arena_bytes;
    }
    return bytes;
}

/* Whether a target works is found by compiling something small for it. */
static void print_target(kiln_context *context, const char *target)
{
    kiln_graph *graph = NULL;
    kiln_executable *executable = NULL;
    kiln_compile_options options = {.struct_bytes = sizeof options, .target = target};
    if (kiln_graph_create(context, "probe", &graph)) return;
    kiln_output(graph, NULL, kiln_abs(graph, kiln_input(graph, "x", KILN_f32, 0, NULL)));
    if (kiln_compile(graph, &options, &executable)) {
        const char *message = kiln_graph_message(graph); /* may name the target itself */
        size_t n = strlen(target);
        bool is_named = strncmp(message, target, n) == 0 && message[n] == ':';
        printf("target %s: %s\n", target, message + (is_named ? n + 2 : 0));
    } else {
        printf("target %s: %s\n", target, kiln_executable_program(executable)->target);
    }
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
}

static void print_cache(const cli_options *options)
{
    char path[4096];
    kiln_cache_info info;
    if (!cli_cache_dir(options, path, sizeof path)) {
        puts("cache: none");
    } else if (kiln_cache_inspect(path, &info)) {
        printf("cache %s: nothing there yet\n", path);
    } else {
        printf("cache %s: %u models, %.1f MB of at most %.1f MB\n", path, info.n_entries,
               (double)info.bytes * 1e-6, (double)info.limit * 1e-6);
    }
}

int cli_info(const cli_options *options)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } features[] = {
        {KILN_CPU_SSE41, "sse4.1"},
        {KILN_CPU_AVX2, "avx2"},
        {KILN_CPU_FMA, "fma"},
        {KILN_CPU_F16C, "f16c"},
        {KILN_CPU_AVX512, "avx512"},
        {KILN_CPU_AVX512_VNNI, "avx512-vnni"},
        {KILN_CPU_AVX512_BF16, "avx512-bf16"},
        {KILN_CPU_AVX512_FP16, "avx512-fp16"},
        {KILN_CPU_AMX_BF16, "amx-bf16"},
        {KILN_CPU_AMX_INT8, "amx-int8"},
    };
    cli_model model = {0};
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = (uint32_t)options->threads};
    kiln_status status = kiln_context_create(&context_options, &model.context);
    if (status != KILN_OK) return cli_fail(status, "%s", kiln_status_meaning(status));
    printf("kiln %s\nthreads %u\ncpu features", KILN_VERSION, kiln_context_threads(model.context));
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        if (kiln_cpu_features() & features[i].bit) printf(" %s", features[i].name);
    }
    puts("");
    print_target(model.context, "cpu");
    print_target(model.context, "cuda");
    kiln_context_destroy(model.context);
    if (options->is_cache_shown) print_cache(options);
    if (!options->model) return 0;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code) exit_code = cli_model_compile(&model, options, false);
    if (!exit_code) {
        const kiln_program *program = kiln_executable_program(model.executable);
        print_ports("input", program->inputs, program->n_inputs);
        print_ports("output", program->outputs, program->n_outputs);
        print_rows(program);
        printf("target %s\nconstants %lld bytes\narena %lld bytes\n", program->target,
               (long long)program->constant_bytes, (long long)find_arena(program));
    }
    cli_model_close(&model);
    return exit_code;
}
