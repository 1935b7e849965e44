/* usage: export-cases FOLDER [FAMILY]
 * Every op case as an ONNX model of its own: FOLDER/<n>/model.onnx, inputs.txt, input_<i>.npy and
 * output_<i>.npy as the evaluator gives them. Values are tame: no zero divisors, no NaN going in,
 * numbers within every dtype. Exit 1 when an export fails for another reason than UNSUPPORTED. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/describe.h"
#include "graph/io/export_model.h"
#include "kiln/kiln.h"
#include "ops/cases.h"

typedef struct export_run {
    const char *folder;
    kiln_context *context;
    uint32_t n_exported, n_refused, n_failed;
} export_run;

/* Factors of a product are near 1, so that it does not overflow. */
static void fill_tame(op_batch *batch, kiln_tensor *tensor, bool is_factor)
{
    size_t n = tensor->bytes / kiln_dtype_bytes(tensor->dtype);
    kiln_dtype_kind kind = kiln_dtype_kind_of(tensor->dtype);
    for (size_t i = 0; i < n; i++) {
        uint64_t random = op_random(batch);
        double value = (double)(random >> 11) * 0x1p-53 * 3 - 1.5;
        if (is_factor) value = 1 + value / 30;
        if (kind == KILN_DTYPE_KIND_BOOL) value = random & 1;
        if (kind == KILN_DTYPE_KIND_INT || kind == KILN_DTYPE_KIND_UINT)
            value = (double)(1 + (is_factor ? 0 : random % 5));
        if (kind == KILN_DTYPE_KIND_INT && random >> 40 & 1) value = -value;
        kiln_element_store_double(tensor->dtype, tensor->data, (int64_t)i, 1, &value);
    }
}

/* The batch's graph with one output and what that needs. */
static kiln_graph *graph_of_case(kiln_scope *scope, const op_batch *batch, uint32_t output)
{
    const kiln_graph *from = batch->graph;
    kiln_graph *to = kiln_graph_open(scope, NULL, "case");
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, from->nodes.n);
    bool *is_needed = kiln_new_array(&scope->arena, bool, from->nodes.n);
    is_needed[from->outputs.at[output].value.id] = true;
    for (uint32_t id = from->nodes.n - 1; id > 0; id--) {
        const kiln_node *node = from->nodes.at[id];
        for (uint32_t i = 0; is_needed[id] && i < node->n_inputs; i++)
            is_needed[node->inputs[i].id] = true;
    }
    for (uint32_t id = 1; id < from->nodes.n; id++) {
        if (is_needed[id]) map[id] = kiln_graph_copy(to, from, from->nodes.at[id], map);
    }
    kiln_add_output(to, map[from->outputs.at[output].value.id], "y");
    return to;
}

static void write_tensor(export_run *run, const char *kind, uint32_t i, const kiln_tensor *tensor)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%u/%s_%u.npy", run->folder, run->n_exported, kind, i);
    if (kiln_write_npy(run->context, path, tensor)) {
        fprintf(stderr, "%s\n", kiln_context_message(run->context));
        run->n_failed++;
    }
}

static void write_case(export_run *run, op_batch *batch, const kiln_graph *graph, const char *name)
{
    kiln_arena *arena = &batch->scope->arena;
    char path[4096];
    snprintf(path, sizeof path, "%s/%u/inputs.txt", run->folder, run->n_exported);
    FILE *file = fopen(path, "w");
    kiln_op op = kiln_graph_node(graph, graph->outputs.at[0].value)->op;
    bool is_factor = op == KILN_OP_reduce_prod || op == KILN_OP_window_prod ||
                     op == KILN_OP_cumulative_prod || op == KILN_OP_scatter_mul;
    kiln_tensor *inputs = kiln_new_array(arena, kiln_tensor, graph->inputs.n + 1);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->inputs.at[i]);
        inputs[i] =
            (kiln_tensor){type->dtype, type->rank, type->dims,
                          kiln_arena_alloc(arena, (size_t)type->bytes + 16), (size_t)type->bytes};
        fill_tame(batch, &inputs[i], is_factor);
        write_tensor(run, "input", i, &inputs[i]);
        if (file)
            fprintf(file, "%s %s\n", kiln_graph_node(graph, graph->inputs.at[i])->label,
                    kiln_dtype_name(type->dtype));
    }
    const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[0].value);
    kiln_tensor output = {type->dtype, type->rank, type->dims,
                          kiln_arena_alloc(arena, (size_t)type->bytes + 16), (size_t)type->bytes};
    kiln_eval(batch->scope, graph, inputs, &output);
    write_tensor(run, "output", 0, &output);
    if (file) {
        fprintf(file, "y %s\n%s %s\n", kiln_dtype_name(type->dtype), batch->name, name);
        fclose(file);
    }
}

static void export_case(export_run *run, op_batch *batch, uint32_t output)
{
    char path[4096];
    const char *name = batch->graph->outputs.at[output].name;
    kiln_graph *graph = graph_of_case(batch->scope, batch, output);
    snprintf(path, sizeof path, "%s/%u", run->folder, run->n_exported);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%u/model.onnx", run->folder, run->n_exported);
    kiln_status status = kiln_export_onnx(graph, path, NULL);
    if (status == KILN_OK) {
        write_case(run, batch, graph, name);
        run->n_exported++;
        return;
    }
    printf("%s %s: %s: %s\n", batch->name, name, kiln_status_name(status),
           kiln_graph_message(graph));
    *(status == KILN_UNSUPPORTED ? &run->n_refused : &run->n_failed) += 1;
}

static void export_family(export_run *run, const op_family *family, kiln_dtype dtype)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        op_batch *batch = kiln_new(&scope.arena, op_batch);
        batch->scope = &scope;
        batch->dtype = dtype;
        batch->name =
            kiln_arena_format(&scope.arena, "%s %s", family->name, kiln_dtype_name(dtype));
        batch->graph = kiln_graph_open(&scope, NULL, batch->name);
        family->add(batch);
        for (uint32_t i = 0; i < batch->graph->outputs.n; i++) export_case(run, batch, i);
    }
    if (kiln_scope_close(&scope) == KILN_OK) return;
    fprintf(stderr, "%s %s: %s\n", family->name, kiln_dtype_name(dtype), error.message);
    run->n_failed++;
}

/* Narrow floats, 4-bit integers and complex numbers have tests of their own, in tests/unit. */
static bool has_cases(kiln_dtype dtype)
{
    uint32_t bits = kiln_dtype_bits(dtype);
    if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_COMPLEX) return false;
    return bits >= (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT ? 16 : 8);
}

int main(int argc, char **argv)
{
    static const kiln_dtype dtypes[] = {
#define KILN_DTYPE(name, number, bytes, kind) KILN_##name,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    };
    export_run run = {.folder = argc > 1 ? argv[1] : NULL};
    if (!run.folder || kiln_context_create(NULL, &run.context)) return 2;
    for (uint32_t f = 0; f < op_n_families; f++) {
        if (argc > 2 && strcmp(argv[2], op_families[f].name) != 0) continue;
        for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
            if (!has_cases(dtypes[i]) || !kiln_onnx_number(dtypes[i])) continue;
            export_family(&run, &op_families[f], dtypes[i]);
        }
    }
    printf("%u cases exported, %u without a form in ONNX, %u failed\n", run.n_exported,
           run.n_refused, run.n_failed);
    kiln_context_destroy(run.context);
    return run.n_failed || run.n_exported == 0;
}
