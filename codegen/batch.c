/* Open batches, compiled: the graph of fewest rows and those of more, each proved to keep its rows
 * apart, all of one form (passes/rows.h). The head's compilation lowers and emits for all sizes, so
 * kernels of one text are one, and so are constants of the same bytes. */
#include <string.h>

#include "codegen/compile.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "passes/rows.h"
#include "runtime/batch.h"

kiln_compilation *kiln_compilation_size(kiln_compilation *head, uint32_t i)
{
    return i ? head->larger[i - 1] : head;
}

static const kiln_type *input_type(const kiln_graph *graph, uint32_t i)
{
    return kiln_graph_type(graph, graph->inputs.at[i]);
}

static void check_whole_bytes(kiln_scope *scope, const kiln_graph *graph, const kiln_type *type)
{
    if (kiln_dtype_bits(type->dtype) >= 8) return;
    kiln_fail(scope, KILN_UNSUPPORTED,
              "open batch: graph %s has a port of %s, whose rows may share a byte; expected whole "
              "bytes",
              kiln_quoted(&scope->arena, graph->name ? graph->name : ""),
              kiln_type_string(&scope->arena, type));
}

/* Rows of the batched inputs, all the same. */
static int64_t count_rows(kiln_scope *scope, const kiln_graph *graph, const bool *is_batched)
{
    int64_t rows = -1;
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = input_type(graph, i);
        if (kiln_graph_node(graph, graph->inputs.at[i])->attrs->input.donated)
            kiln_fail(scope, KILN_INVALID,
                      "open batch: input %u is donated; expected none with an open batch", i);
        check_whole_bytes(scope, graph, type);
        if (!is_batched[i]) continue;
        if (type->rank == 0 || (rows >= 0 && type->dims[0] != rows))
            kiln_fail(scope, KILN_INVALID,
                      "open batch: input %u is %s; expected as many rows as the inputs before", i,
                      kiln_type_string(&scope->arena, type));
        rows = type->dims[0];
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        check_whole_bytes(scope, graph, kiln_graph_type(graph, graph->outputs.at[i].value));
    if (rows < 0) kiln_fail(scope, KILN_INVALID, "open batch: no input is batched; expected one");
    return rows;
}

static const char *prove(kiln_compilation *compilation, const bool *is_batched)
{
    const kiln_rows_spec spec = {.n = compilation->rows, .is_batched = is_batched};
    return kiln_rows_form(&compilation->pipeline, compilation->source, &spec);
}

/* A compilation that differs from the head by its graph. */
static kiln_compilation *open_larger(const kiln_compilation *head, const kiln_graph *graph)
{
    kiln_compilation *larger = kiln_new(&head->scope->arena, kiln_compilation);
    if (!graph) kiln_fail(head->scope, KILN_INVALID, "open batch: a larger graph is NULL");
    if (graph->error.status != KILN_OK) kiln_fail_with(head->scope, &graph->error);
    if (graph->inputs.n != head->source->inputs.n || graph->outputs.n != head->source->outputs.n)
        kiln_fail(head->scope, KILN_INVALID,
                  "open batch: a larger graph has %u inputs and %u outputs; expected %u and %u",
                  graph->inputs.n, graph->outputs.n, head->source->inputs.n,
                  head->source->outputs.n);
    *larger = *head;
    larger->source = graph;
    larger->larger = NULL;
    larger->n_larger = 0;
    larger->pipeline.run_constant_user = larger;
    larger->pipeline.dump_dir = NULL; /* what is dumped is the graph of one row */
    larger->rows = count_rows(head->scope, graph, head->is_batched);
    return larger;
}

void kiln_batch_open(kiln_compilation *head)
{
    kiln_scope *scope = head->scope;
    const kiln_open_batch *open = head->options->open_batch;
    bool *is_batched = kiln_new_array(&scope->arena, bool, head->source->inputs.n + 1);
    bool is_listed = open->n_is_batched == 0 || open->is_batched;
    if (open->n_larger > KILN_MAX_LARGER || (open->n_larger && !open->larger) || !is_listed)
        kiln_fail(scope, KILN_INVALID,
                  "open batch: %u larger graphs; expected up to %u, and tables that are there",
                  open->n_larger, KILN_MAX_LARGER);
    for (uint32_t i = 0; i < head->source->inputs.n && i < open->n_is_batched; i++)
        is_batched[i] = open->is_batched[i];
    head->is_batched = is_batched;
    head->rows = count_rows(scope, head->source, is_batched);
    bool is_gpu = head->pipeline.machine->kind == KILN_MACHINE_GPU;
    if (head->rows < 1 || (head->rows > 1 && is_gpu))
        kiln_fail(scope, KILN_INVALID, "open batch: the graph has %lld rows; expected %s",
                  (long long)head->rows, is_gpu ? "one for this target" : "one or more");
    const char *form = prove(head, is_batched);
    kiln_compilation **all = kiln_new_array(&scope->arena, kiln_compilation *, open->n_larger + 1);
    int64_t before = head->rows;
    for (uint32_t i = 0; i < open->n_larger; i++) {
        all[i] = open_larger(head, open->larger[i]);
        if (all[i]->rows <= before)
            kiln_fail(scope, KILN_INVALID,
                      "open batch: a graph of %lld rows follows one of %lld; expected more",
                      (long long)all[i]->rows, (long long)before);
        before = all[i]->rows;
        if (strcmp(prove(all[i], is_batched), form) != 0)
            kiln_fail(scope, KILN_UNSUPPORTED,
                      "open batch: the graph of %lld rows computes another function of a row than "
                      "the smallest; expected the same",
                      (long long)before);
    }
    head->larger = all;
    head->n_larger = open->n_larger;
}
