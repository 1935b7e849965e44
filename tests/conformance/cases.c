/* Runs ONNX cases: folders with model.onnx, input_<i>.npy and output_<i>.npy in the model's order,
 * and maybe files `tolerance` ("rtol atol"), `inputs.txt` (their names) and `dtypes.txt` (what
 * NumPy has no type for, by number of ONNX). Prints a line for each case that does not pass and a
 * summary; compiled cases that run no kernel, because all of it is known, count apart.
 *
 *     onnx-cases [--compiled] [--verbose] [--rtol R] [--atol A] [--only TEXT] [--least N]
 *                FOLDER...
 *
 * FOLDER is a case or holds cases. Exit: 0 when none failed and at least N passed, 1 otherwise, 2
 * usage. Nodes that the importer refuses count apart; of random outputs the values are not
 * compared. The reference evaluator runs the graph unless --compiled is given. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/element.h"
#include "graph/graph.h"
#include "kiln/kiln.h"

#define MAX_PORTS 64

typedef struct case_options {
    bool is_compiled, is_verbose;
    double rtol, atol;
    const char *only;
} case_options;

typedef struct case_run {
    const case_options *options;
    const char *folder;
    kiln_context *context;
    kiln_graph *graph;
    kiln_tensor inputs[MAX_PORTS], wanted[MAX_PORTS], got[MAX_PORTS];
    int64_t dims[MAX_PORTS][KILN_MAX_RANK]; /* of `got`: the graph's, the bounds of what varies */
    uint32_t n_inputs, n_outputs, n_got;
    uint32_t n_kernels;
    char why[2048];
} case_run;

typedef enum case_result { PASSED, NO_KERNEL, UNSUPPORTED, FAILED, N_RESULTS } case_result;

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* Reads PREFIX_0.npy, PREFIX_1.npy, … */
static uint32_t tensors_read(case_run *run, const char *prefix, kiln_tensor *tensors)
{
    char path[4096];
    for (uint32_t i = 0; i < MAX_PORTS; i++) {
        snprintf(path, sizeof path, "%s/%s_%u.npy", run->folder, prefix, i);
        if (!is_file(path) || kiln_read_npy(run->context, path, &tensors[i])) return i;
    }
    return MAX_PORTS;
}

/* Small numbers that an operator may need to know: shapes, axes, counts, scales. */
static bool is_parameter(const kiln_tensor *tensor)
{
    return tensor->rank <= 1 && tensor->bytes > 0 && tensor->bytes <= 128;
}

/* NumPy has no narrow floats and integers: files carry their bits in u16 or u8, one a byte those of
 * 4 and 2 bits. */
static void take_dtype(kiln_tensor *tensor, kiln_dtype dtype)
{
    size_t n = tensor->bytes;
    uint8_t *data = tensor->data;
    tensor->dtype = dtype;
    if (kiln_dtype_bits(dtype) >= 8) return;
    tensor->bytes = (n * kiln_dtype_bits(dtype) + 7) / 8;
    for (size_t i = 0; i < n; i++) kiln_element_copy(dtype, data, (int64_t)i, &data[i], 0);
}

/* ONNX's numbers of the dtypes whose bits stand in files as unsigned integers. */
static void dtypes_read(case_run *run)
{
    char path[4096];
    int number;
    snprintf(path, sizeof path, "%s/dtypes.txt", run->folder);
    FILE *file = fopen(path, "r");
    for (uint32_t i = 0; file && i < run->n_inputs && fscanf(file, "%d", &number) == 1; i++) {
        if (number == 16) take_dtype(&run->inputs[i], KILN_bf16);
    }
    if (file) fclose(file);
}

static case_result run_import(case_run *run)
{
    kiln_value_binding values[MAX_PORTS];
    char path[4096];
    kiln_shape_binding shapes[MAX_PORTS];
    char names[MAX_PORTS][256];
    kiln_import_options options = {sizeof options, .shapes = shapes, .n_shapes = run->n_inputs};
    snprintf(path, sizeof path, "%s/inputs.txt", run->folder);
    FILE *file = fopen(path, "r");
    for (uint32_t i = 0; i < run->n_inputs; i++) {
        if (!file || !fgets(names[i], sizeof names[i], file)) names[i][0] = 0;
        names[i][strcspn(names[i], "\n")] = 0;
        shapes[i] = (kiln_shape_binding){names[i], run->inputs[i].rank, run->inputs[i].dims};
    }
    if (file) fclose(file);
    snprintf(path, sizeof path, "%s/model.onnx", run->folder);
    kiln_status status = kiln_import_onnx(run->context, path, &options, &run->graph);
    dtypes_read(run);
    for (uint32_t i = 0; i < run->n_inputs; i++) {
        if (!is_parameter(&run->inputs[i])) continue;
        values[options.n_values++] = (kiln_value_binding){names[i], run->inputs[i]};
    }
    options.values = values;
    if (status == KILN_UNSUPPORTED && options.n_values)
        status = kiln_import_onnx(run->context, path, &options, &run->graph);
    if (status == KILN_OK) return PASSED;
    snprintf(run->why, sizeof run->why, "%s: %s", kiln_status_name(status),
             kiln_context_message(run->context));
    return status == KILN_UNSUPPORTED ? UNSUPPORTED : FAILED;
}

/* Memory for all outputs, those that count others too. */
static bool ports_fit(case_run *run)
{
    const kiln_graph *graph = run->graph;
    run->n_got = graph->outputs.n;
    if (graph->inputs.n != run->n_inputs || run->n_got < run->n_outputs || run->n_got > MAX_PORTS) {
        snprintf(run->why, sizeof run->why, "%u inputs and %u outputs; expected %u and %u",
                 graph->inputs.n, run->n_got, run->n_inputs, run->n_outputs);
        return false;
    }
    for (uint32_t i = 0; i < run->n_inputs; i++)
        take_dtype(&run->inputs[i], kiln_graph_type(graph, graph->inputs.at[i])->dtype);
    for (uint32_t i = 0; i < run->n_got; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        kiln_tensor *got = &run->got[i];
        if (i < run->n_outputs) take_dtype(&run->wanted[i], type->dtype);
        memcpy(run->dims[i], type->dims, type->rank * sizeof *type->dims);
        *got = (kiln_tensor){type->dtype, type->rank, run->dims[i], NULL, (size_t)type->bytes};
        got->data = calloc(1, got->bytes + 64);
    }
    return true;
}

/* Gives outputs the sizes that they have after the run. */
static bool outputs_fit(case_run *run)
{
    kiln_scope scope;
    kiln_error error = {0};
    for (uint32_t i = 0; i < run->n_outputs; i++) {
        const kiln_tensor *want = &run->wanted[i];
        kiln_tensor *got = &run->got[i];
        int64_t n = 1;
        kiln_graph_output_dims(run->graph, i, run->got, run->dims[i]);
        for (uint32_t k = 0; k < got->rank; k++) n *= run->dims[i][k];
        got->bytes = ((size_t)n * kiln_dtype_bits(got->dtype) + 7) / 8;
        bool is_same = got->rank == want->rank && got->bytes == want->bytes;
        for (uint32_t k = 0; is_same && k < want->rank; k++)
            is_same = got->dims[k] == want->dims[k];
        if (is_same) continue;
        kiln_scope_open(&scope, &error);
        kiln_text text = {.arena = &scope.arena};
        kiln_text_type(&text, got->dtype, got->rank, got->dims);
        kiln_text_append(&text, "; expected ");
        kiln_text_type(&text, want->dtype, want->rank, want->dims);
        snprintf(run->why, sizeof run->why, "output %u is %s", i, kiln_text_string(&text));
        kiln_scope_close(&scope);
        return false;
    }
    return true;
}

static uint32_t kernels_count(const kiln_program *program)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < program->n_steps; i++) n += program->steps[i].kind == KILN_STEP_KERNEL;
    return n;
}

static case_result run_compiled(case_run *run)
{
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    kiln_status status = kiln_compile(run->graph, NULL, &executable);
    const char *message = kiln_graph_message(run->graph);
    if (status == KILN_OK) {
        run->n_kernels = kernels_count(kiln_executable_program(executable));
        status = kiln_workspace_create(executable, &workspace);
        message = kiln_context_message(run->context);
    }
    if (status == KILN_OK) {
        status = kiln_run(workspace, run->inputs, run->n_inputs, run->got, run->n_got);
        message = kiln_workspace_message(workspace);
    }
    if (status) snprintf(run->why, sizeof run->why, "%s: %s", kiln_status_name(status), message);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return status == KILN_OK ? PASSED : status == KILN_UNSUPPORTED ? UNSUPPORTED : FAILED;
}

static case_result run_graph(case_run *run)
{
    if (run->options->is_compiled) return run_compiled(run);
    kiln_status status =
        kiln_evaluate(run->graph, run->inputs, run->n_inputs, run->got, run->n_got);
    if (status == KILN_OK) return PASSED;
    snprintf(run->why, sizeof run->why, "%s: %s", kiln_status_name(status),
             kiln_graph_message(run->graph));
    return FAILED;
}

/* The element that is furthest out of tolerance. */
static case_result output_compare(case_run *run, uint32_t i, double rtol, double atol)
{
    const kiln_tensor *want = &run->wanted[i], *got = &run->got[i];
    double worst = 0;
    size_t n = 1;
    for (uint32_t k = 0; k < want->rank; k++) n *= (size_t)want->dims[k];
    for (size_t k = 0; k < n; k++) {
        double a = kiln_tensor_get(got, (int64_t)k), b = kiln_tensor_get(want, (int64_t)k);
        double room = atol + rtol * fabs(b), apart = fabs(a - b);
        if (a == b || (isnan(a) && isnan(b))) continue;
        double excess =
            isnan(apart) || isinf(apart) ? INFINITY : apart / (room > 0 ? room : 1e-300);
        if (excess <= 1 || excess <= worst) continue;
        worst = excess;
        snprintf(run->why, sizeof run->why, "output %u, element %zu is %.9g; expected %.9g", i, k,
                 a, b);
    }
    return worst > 1 ? FAILED : PASSED;
}

/* Random numbers are another framework's: only their shapes and types are compared. */
static bool is_random(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        uint16_t op = graph->nodes.at[id]->op;
        if (op == KILN_OP_random_uniform || op == KILN_OP_random_normal) return true;
    }
    return false;
}

static case_result run_compare(case_run *run)
{
    char path[4096];
    double rtol = run->options->rtol, atol = run->options->atol;
    snprintf(path, sizeof path, "%s/tolerance", run->folder);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%lf %lf", &rtol, &atol) != 2) rtol = atol = 0;
        fclose(file);
    }
    if (is_random(run->graph)) return PASSED;
    for (uint32_t i = 0; i < run->n_outputs; i++) {
        if (output_compare(run, i, rtol, atol) != PASSED) return FAILED;
    }
    return PASSED;
}

static case_result case_do(const case_options *options, kiln_context *context, const char *folder)
{
    case_run *run = calloc(1, sizeof *run);
    run->options = options;
    run->folder = folder;
    run->context = context;
    run->n_inputs = tensors_read(run, "input", run->inputs);
    run->n_outputs = tensors_read(run, "output", run->wanted);
    case_result result = run_import(run);
    if (result == PASSED && !ports_fit(run)) result = FAILED;
    if (result == PASSED) result = run_graph(run);
    if (result == PASSED && !outputs_fit(run)) result = FAILED;
    if (result == PASSED) result = run_compare(run);
    if (result == PASSED && options->is_compiled && !run->n_kernels) result = NO_KERNEL;
    const char *name = strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder;
    static const char *const words[] = {"passed", "passed without a kernel", "unsupported",
                                        "FAILED"};
    if (result == FAILED || options->is_verbose)
        printf("%s %s: %u kernels %s\n", words[result], name, run->n_kernels, run->why);
    for (uint32_t i = 0; i < run->n_got; i++) free(run->got[i].data);
    for (uint32_t i = 0; i < run->n_inputs; i++) kiln_tensor_free(&run->inputs[i]);
    for (uint32_t i = 0; i < run->n_outputs; i++) kiln_tensor_free(&run->wanted[i]);
    kiln_graph_destroy(run->graph);
    free(run);
    return result;
}

static int names_ascend(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void folder_do(const case_options *options, kiln_context *context, const char *folder,
                      uint32_t *counts)
{
    char path[4096];
    struct dirent **entries = NULL;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (is_file(path)) {
        counts[case_do(options, context, folder)]++;
        return;
    }
    int n = scandir(folder, &entries, NULL, names_ascend);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s/model.onnx", folder, entries[i]->d_name);
        bool is_wanted =
            is_file(path) && (!options->only || strstr(entries[i]->d_name, options->only));
        path[strlen(path) - strlen("/model.onnx")] = 0;
        if (is_wanted) counts[case_do(options, context, path)]++;
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    case_options options = {.rtol = 1e-3, .atol = 1e-5};
    kiln_context *context;
    uint32_t counts[N_RESULTS] = {0}, least = 0;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        bool has_value = i + 1 < argc;
        if (!strcmp(argv[i], "--compiled"))
            options.is_compiled = true;
        else if (!strcmp(argv[i], "--verbose"))
            options.is_verbose = true;
        else if (has_value && !strcmp(argv[i], "--rtol"))
            options.rtol = atof(argv[++i]);
        else if (has_value && !strcmp(argv[i], "--atol"))
            options.atol = atof(argv[++i]);
        else if (has_value && !strcmp(argv[i], "--only"))
            options.only = argv[++i];
        else if (has_value && !strcmp(argv[i], "--least"))
            least = (uint32_t)atoi(argv[++i]);
        else
            return 2;
    }
    if (i == argc || kiln_context_create(NULL, &context)) return 2;
    for (; i < argc; i++) folder_do(&options, context, argv[i], counts);
    uint32_t n_passed = counts[PASSED] + counts[NO_KERNEL];
    printf("%u passed", n_passed);
    if (options.is_compiled) printf(" (%u of them ran no kernel)", counts[NO_KERNEL]);
    printf(", %u unsupported, %u failed\n", counts[UNSUPPORTED], counts[FAILED]);
    kiln_context_destroy(context);
    return counts[FAILED] != 0 || n_passed < least;
}
