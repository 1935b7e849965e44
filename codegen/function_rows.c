/* Open batches of functions: one executable for all numbers of rows, made of the graphs of a few;
 * and the proof for each number of rows that it serves that its graph is the same function. */
#include "codegen/function.h"

#include <string.h>

#include "base/context.h"
#include "codegen/compile.h"
#include "passes/rows.h"
#include "runtime/batch.h"
#include "runtime/context.h"

static bool is_batched(const kiln_function *function, uint32_t input)
{
    return function->is_batched && input < function->n_inputs && function->is_batched[input];
}

kiln_status kiln_rows_count(const kiln_function *function, const kiln_tensor *inputs,
                            uint32_t n_inputs, int64_t *out_rows)
{
    const kiln_tensor *first = NULL;
    *out_rows = 0;
    for (uint32_t i = 0; i < n_inputs; i++) {
        if (!is_batched(function, i)) continue;
        if (inputs[i].rank == 0)
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "rows: input %u is a scalar; expected a batch", i);
        if (!first) first = &inputs[i];
        if (inputs[i].dims[0] != first->dims[0])
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "rows: input %u has %lld rows; expected %lld as those before",
                                     i, (long long)inputs[i].dims[0], (long long)first->dims[0]);
        *out_rows = inputs[i].dims[0];
    }
    return KILN_OK;
}

kiln_status kiln_rows_prove(const kiln_function *function, const kiln_graph *graph, int64_t n,
                            unsigned char out_form[KILN_SHA256_BYTES])
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation =
            kiln_compilation_open(&scope, graph, &function->compile, true);
        bool *batched = kiln_new_array(&scope.arena, bool, graph->inputs.n + 1);
        for (uint32_t i = 0; i < graph->inputs.n; i++) batched[i] = is_batched(function, i);
        kiln_rows_spec spec = {.n = n, .is_batched = batched};
        const char *form = kiln_rows_form(&compilation->pipeline, graph, &spec);
        kiln_sha256_of(form, strlen(form), out_form);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status) kiln_graph_set_message(graph, &error);
    return status;
}

/* The inputs of a signature with other rows in those that are batched. Data is what the signature
 * knows of it. */
typedef struct row_view {
    kiln_tensor *tensors;
    int64_t (*dims)[KILN_MAX_RANK];
} row_view;

static row_view view_open(kiln_scope *scope, const kiln_function *function, const kiln_tensor *from,
                          uint32_t n)
{
    row_view view;
    view.tensors = kiln_new_array(&scope->arena, kiln_tensor, n + 1);
    view.dims =
        (int64_t(*)[KILN_MAX_RANK])kiln_new_array(&scope->arena, int64_t, (n + 1) * KILN_MAX_RANK);
    for (uint32_t i = 0; i < n; i++) {
        view.tensors[i] = from[i];
        if (!is_batched(function, i)) continue;
        memcpy(view.dims[i], from[i].dims, from[i].rank * sizeof *from[i].dims);
        view.tensors[i].dims = view.dims[i];
        view.tensors[i].data = NULL;
        view.tensors[i].bytes = 0;
    }
    return view;
}

static void view_set_rows(const kiln_function *function, row_view *view, uint32_t n, int64_t rows)
{
    for (uint32_t i = 0; i < n; i++)
        if (is_batched(function, i)) view->dims[i][0] = rows;
}

/* The entry of all numbers of rows: that of a signature in which they are open. */
static kiln_status acquire_open(kiln_function *function, const kiln_tensor *inputs, uint32_t n,
                                kiln_entry **out_entry, bool *is_new)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_entry *volatile entry = NULL;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_entry *found = NULL;
        row_view view = view_open(&scope, function, inputs, n);
        view_set_rows(function, &view, n, KILN_OPEN_ROWS);
        kiln_status status = kiln_entry_acquire(function, view.tensors, n, &found, is_new);
        if (status) kiln_fail(&scope, status, "%s", kiln_context_message(function->context));
        entry = found;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status) return kiln_context_fail(function->context, status, "%s", error.message);
    *out_entry = entry;
    return KILN_OK;
}

/* Rows of 4-bit elements may share a byte, and a batch whose values the graph knows is no row: such
 * batches are run in one piece. */
static bool is_cuttable(const kiln_function *function, const kiln_entry *entry)
{
    for (uint32_t i = 0; i < entry->n_inputs; i++) {
        if (kiln_dtype_bits(entry->inputs[i].dtype) < 8) return false;
        if (is_batched(function, i) && function->is_value && function->is_value[i]) return false;
    }
    for (uint32_t i = 0; i < entry->n_outputs; i++)
        if (kiln_dtype_bits(entry->outputs[i].dtype) < 8) return false;
    return true;
}

kiln_status kiln_rows_plan(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs)
{
    kiln_entry *open = NULL;
    bool is_new = false;
    if (!is_cuttable(function, entry)) return KILN_OK;
    kiln_status status = acquire_open(function, inputs, entry->n_inputs, &open, &is_new);
    if (status) return status;
    entry->is_compiled |= is_new;
    entry->is_cut = memcmp(open->form, entry->form, sizeof entry->form) == 0;
    kiln_entry_release(function, open);
    return KILN_OK;
}

/* Making the open entry */

static void release_graphs(void *object)
{
    kiln_row_graphs *graphs = object;
    for (uint32_t i = 0; i < graphs->n; i++) kiln_graph_destroy(graphs->at[i]);
}

typedef struct graph_maker {
    kiln_scope *scope;
    kiln_function *function;
    row_view view;
    uint32_t n_inputs;
    kiln_row_graphs *graphs;
} graph_maker;

/* Builds the graph of so many rows and proves it; NULL when its form is not the one of all. The
 * first graph says what that is. */
static kiln_graph *make_graph(graph_maker *make, int64_t rows)
{
    kiln_function *function = make->function;
    kiln_row_graphs *graphs = make->graphs;
    unsigned char form[KILN_SHA256_BYTES];
    kiln_graph *graph = NULL;
    view_set_rows(function, &make->view, make->n_inputs, rows);
    kiln_status status =
        kiln_function_build(function, make->view.tensors, make->n_inputs, &graph);
    if (status) kiln_fail(make->scope, status, "%s", kiln_context_message(function->context));
    graphs->at[graphs->n++] = graph;
    status = kiln_rows_prove(function, graph, rows, form);
    if (status == KILN_UNSUPPORTED && rows == 1 && graphs->n > 1) return NULL;
    if (status) kiln_fail(make->scope, status, "%s", kiln_graph_message(graph));
    if (graphs->n == 1) memcpy(graphs->form, form, sizeof form);
    return memcmp(form, graphs->form, sizeof form) == 0 ? graph : NULL;
}

_Noreturn static void fail_unlike(kiln_scope *scope, int64_t rows)
{
    kiln_fail(scope, KILN_UNSUPPORTED,
              "rows: the graph of %lld rows computes another function of a row than others; "
              "expected the same for any number",
              (long long)rows);
}

/* From the largest size down. The graph of one row may have a form of its own, because more of it
 * folds: two rows stand in then. */
kiln_row_graphs *kiln_rows_build(kiln_scope *scope, kiln_function *function,
                                 const kiln_tensor *inputs, uint32_t n_inputs, bool is_strict)
{
    const int64_t *sizes = function->row_sizes;
    uint32_t n = function->n_row_sizes;
    kiln_row_graphs *graphs = kiln_new(&scope->arena, kiln_row_graphs);
    kiln_scope_defer(scope, release_graphs, graphs);
    graph_maker make = {scope, function, view_open(scope, function, inputs, n_inputs), n_inputs,
                        graphs};
    graphs->first = KILN_MAX_ROW_SIZES;
    for (uint32_t i = n; i-- > 0;) {
        const kiln_graph *graph = make_graph(&make, sizes[i]);
        bool is_two = !graph && sizes[i] == 1 && (n < 2 || sizes[1] > 2);
        if (is_two) graph = make_graph(&make, 2);
        if (graph) graphs->alike[--graphs->first] = graph;
        if (!graph && is_strict && (is_two || sizes[i] > 1)) fail_unlike(scope, sizes[i]);
    }
    int64_t probe = sizes[n - 1] + 1; /* nothing else says that rows are not counted */
    bool is_single = graphs->first + 1 == KILN_MAX_ROW_SIZES;
    if (is_strict && is_single && !make_graph(&make, probe)) fail_unlike(scope, probe);
    return graphs;
}

const kiln_graph *kiln_rows_open_batch(const kiln_function *function, const kiln_row_graphs *graphs,
                                       kiln_open_batch *out_open)
{
    *out_open = (kiln_open_batch){
        .is_batched = function->is_batched,
        .n_is_batched = function->n_inputs,
        .n_larger = KILN_MAX_ROW_SIZES - graphs->first - 1,
        .larger = graphs->alike + graphs->first + 1,
    };
    return graphs->alike[graphs->first];
}

kiln_status kiln_rows_make(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_open_batch open;
        kiln_row_graphs *graphs =
            kiln_rows_build(&scope, function, inputs, entry->n_inputs, false);
        const kiln_graph *graph = kiln_rows_open_batch(function, graphs, &open);
        kiln_compile_options options = function->compile;
        options.open_batch = &open;
        memcpy(entry->form, graphs->form, sizeof entry->form);
        entry->is_compiled = true;
        kiln_status status = kiln_compile(graph, &options, &entry->executable);
        if (status) kiln_fail(&scope, status, "%s", kiln_graph_message(graph));
    }
    kiln_status status = kiln_scope_close(&scope);
    return status ? kiln_context_fail(function->context, status, "%s", error.message) : KILN_OK;
}

/* Runs */

static uint64_t count_chunks(const kiln_program *program, int64_t rows)
{
    uint64_t n = 0;
    for (int64_t done = 0; done < rows; n++) {
        int64_t first;
        uint32_t size = kiln_batch_next(program, rows, done, &first);
        done = first + kiln_program_size(program, size)->rows;
    }
    return n;
}

kiln_status kiln_rows_run(kiln_function *function, const kiln_entry *entry,
                          const kiln_tensor *inputs, const kiln_tensor *outputs, uint32_t n_outputs)
{
    kiln_entry *open = NULL;
    bool is_new = false;
    kiln_status status = acquire_open(function, inputs, entry->n_inputs, &open, &is_new);
    if (status) return status;
    status = kiln_entry_run(function, open, inputs, outputs, n_outputs);
    uint64_t n_chunks =
        status ? 0 : count_chunks(kiln_executable_program(open->executable), entry->rows);
    kiln_entry_release(function, open);
    pthread_mutex_lock(&function->lock);
    function->report.n_chunks += n_chunks;
    pthread_mutex_unlock(&function->lock);
    return status;
}
