/* Functions and their entries made: options copied; the graph of a signature built, proved where
 * the batch is open, compiled, or served by executables that are there. */
#include "codegen/function.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/context.h"
#include "codegen/compile.h"
#include "runtime/context.h"

static const char *copy_string(kiln_arena *arena, const char *string)
{
    return string ? kiln_arena_string(arena, string) : NULL;
}

static void copy_compile_options(kiln_scope *scope, kiln_function *function,
                                 const kiln_compile_options *options)
{
    kiln_compile_options *own = &function->compile;
    if (options) {
        if (options->struct_bytes < sizeof(size_t) || options->struct_bytes > sizeof *own)
            kiln_fail(scope, KILN_INVALID, "compile options: struct_bytes is %zu; expected %zu",
                      options->struct_bytes, sizeof *own);
        memcpy(own, options, options->struct_bytes);
    }
    own->struct_bytes = sizeof *own;
    own->target = copy_string(&function->arena, own->target);
    own->target_cpu = copy_string(&function->arena, own->target_cpu);
    own->dump_dir = copy_string(&function->arena, own->dump_dir);
    own->cache_dir = copy_string(&function->arena, own->cache_dir);
}

static void copy_row_sizes(kiln_scope *scope, kiln_function *function,
                           const kiln_function_options *options)
{
    static const int64_t defaults[] = {1, 8, 64};
    const int64_t *sizes = options->row_sizes ? options->row_sizes : defaults;
    uint32_t n = options->row_sizes ? options->n_row_sizes : 3;
    if (n < 1 || n > KILN_MAX_ROW_SIZES)
        kiln_fail(scope, KILN_INVALID, "function options: %u row sizes; expected 1 to %d", n,
                  KILN_MAX_ROW_SIZES);
    for (uint32_t i = 0; i < n; i++) {
        if (sizes[i] < 1 || (i && sizes[i] <= sizes[i - 1]))
            kiln_fail(scope, KILN_INVALID,
                      "function options: row size %lld; expected ascending numbers above 0",
                      (long long)sizes[i]);
        function->row_sizes[i] = sizes[i];
    }
    function->n_row_sizes = n;
}

static void function_free(void *object)
{
    kiln_function *function = object;
    kiln_arena_fini(&function->arena);
    free(function);
}

kiln_function *kiln_function_make(kiln_scope *scope, kiln_context *context,
                                  const kiln_function_options *options)
{
    kiln_function_options own = {0};
    kiln_function *function = calloc(1, sizeof *function);
    if (!function) kiln_fail(scope, KILN_NO_MEMORY, "function: no memory");
    kiln_arena_init(&function->arena, scope);
    kiln_scope_defer(scope, function_free, function);
    if (options) {
        if (options->struct_bytes < sizeof(size_t) || options->struct_bytes > sizeof own)
            kiln_fail(scope, KILN_INVALID, "function options: struct_bytes is %zu; expected %zu",
                      options->struct_bytes, sizeof own);
        memcpy(&own, options, options->struct_bytes);
    }
    if (own.max_bytes < 0)
        kiln_fail(scope, KILN_INVALID, "function options: max_bytes is %lld; expected 0 or more",
                  (long long)own.max_bytes);
    copy_compile_options(scope, function, own.compile);
    copy_row_sizes(scope, function, &own);
    if (own.is_batched) {
        unsigned char *copy = kiln_arena_copy(&function->arena, own.is_batched, own.n_is_batched);
        function->is_batched = copy;
        function->n_inputs = own.n_is_batched;
    }
    function->context = context;
    function->max_bytes = own.max_bytes ? own.max_bytes : context->max_bytes / 2;
    function->max_executables = own.max_executables ? own.max_executables : 16;
    return function;
}

kiln_status kiln_function_create(kiln_context *context, kiln_build_fn *build, void *user,
                                 const kiln_function_options *options, kiln_function **out_function)
{
    if (!context) return KILN_INVALID;
    kiln_error error = {0};
    kiln_function *volatile function = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (!build || !out_function)
            kiln_fail(&scope, KILN_INVALID, "kiln_function_create: build or out_function is NULL");
        kiln_function *made = kiln_function_make(&scope, context, options);
        if (options && options->struct_bytes == sizeof *options &&
            (options->open_dim || options->n_values))
            kiln_fail(&scope, KILN_INVALID,
                      "function options: open_dim and values are for models from files; expected "
                      "is_batched");
        made->build = build;
        made->user = user;
        kiln_scope_keep(&scope, made);
        function = made;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status) return kiln_context_fail(context, status, "%s", error.message);
    *out_function = kiln_function_start(function);
    return KILN_OK;
}

kiln_function *kiln_function_start(kiln_function *function)
{
    kiln_context_retain(function->context);
    pthread_mutex_init(&function->lock, NULL);
    pthread_cond_init(&function->made, NULL);
    return function;
}

/* Entries */

static bool is_port(const kiln_type *type, const kiln_tensor *tensor)
{
    bool is_same = type->dtype == tensor->dtype && type->rank == tensor->rank;
    for (uint32_t i = 0; is_same && i < type->rank; i++) is_same = type->dims[i] == tensor->dims[i];
    return is_same;
}

static kiln_status check_graph(const kiln_function *function, const kiln_graph *graph,
                               const kiln_tensor *inputs, uint32_t n_inputs)
{
    if (graph->error.status)
        return kiln_context_fail(function->context, graph->error.status, "%s",
                                 graph->error.message);
    if (graph->inputs.n != n_inputs)
        return kiln_context_fail(function->context, KILN_INVALID,
                                 "function: %u inputs were given; the graph has %u", n_inputs,
                                 graph->inputs.n);
    for (uint32_t i = 0; i < n_inputs; i++) {
        const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
        if (!is_port(node->type, &inputs[i]))
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "function: input %u of the graph that was built is of another "
                                     "type than the one given",
                                     i);
        if (function->is_batched && node->attrs->input.donated)
            return kiln_context_fail(function->context, KILN_INVALID,
                                     "function: input %u is donated; expected none with an open "
                                     "batch",
                                     i);
    }
    return KILN_OK;
}

/* The names of outputs outlive their entries: kept once for the function. */
static const char *keep_name(kiln_function *function, uint32_t number, const char *name)
{
    pthread_mutex_lock(&function->lock);
    if (number >= function->n_names) {
        char **grown = realloc(function->names, (number + 1) * sizeof *grown);
        if (grown) {
            function->names = grown;
            grown[number] = strdup(name ? name : "");
            function->n_names = number + 1;
        }
    }
    const char *kept = number < function->n_names ? function->names[number] : NULL;
    pthread_mutex_unlock(&function->lock);
    return kept ? kept : "";
}

static void fill_outputs(kiln_function *function, kiln_entry *entry, const kiln_graph *graph)
{
    entry->n_outputs = graph->outputs.n;
    entry->outputs = kiln_new_array(&entry->arena, kiln_output_type, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        kiln_output_type *output = &entry->outputs[i];
        *output = (kiln_output_type){.dtype = type->dtype, .rank = type->rank};
        output->name = keep_name(function, i, graph->outputs.at[i].name);
        output->bytes = (size_t)type->bytes;
        output->counted_by = graph->outputs.at[i].counted_by;
        output->counted_axis = graph->outputs.at[i].counted_axis;
        memcpy(output->dims, type->dims, type->rank * sizeof *type->dims);
    }
}

static kiln_status compile_graph(kiln_function *function, kiln_entry *entry,
                                 const kiln_graph *graph)
{
    entry->is_compiled = true;
    kiln_status status = kiln_compile(graph, &function->compile, &entry->executable);
    if (status)
        return kiln_context_fail(function->context, status, "%s", kiln_graph_message(graph));
    return KILN_OK;
}

static kiln_status serve_graph(kiln_function *function, kiln_entry *entry, const kiln_graph *graph,
                               const kiln_tensor *inputs)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        entry->arena.scope = &scope;
        fill_outputs(function, entry, graph);
    }
    kiln_status status = kiln_scope_close(&scope);
    entry->arena.scope = NULL;
    if (status) return kiln_context_fail(function->context, status, "%s", error.message);
    if (entry->rows > 0) {
        status = kiln_rows_prove(function, graph, entry->rows, entry->form);
        if (status)
            return kiln_context_fail(function->context, status, "%s", kiln_graph_message(graph));
        status = kiln_rows_plan(function, entry, inputs);
    }
    if (status || entry->is_cut) return status;
    return compile_graph(function, entry, graph);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

kiln_status kiln_function_build(kiln_function *function, const kiln_tensor *inputs,
                                uint32_t n_inputs, kiln_graph **out_graph)
{
    kiln_graph *graph = NULL;
    kiln_status status =
        function->build(function->user, function->context, inputs, n_inputs, &graph);
    if (!status && !graph)
        status = kiln_context_fail(function->context, KILN_INVALID,
                                   "function: build made no graph; expected one");
    if (!status) status = check_graph(function, graph, inputs, n_inputs);
    if (status) {
        kiln_graph_destroy(graph);
        return status;
    }
    *out_graph = graph;
    return KILN_OK;
}

static kiln_status make_signature(kiln_function *function, kiln_entry *entry,
                                  const kiln_tensor *inputs)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_function_build(function, inputs, entry->n_inputs, &graph);
    if (!status) status = serve_graph(function, entry, graph, inputs);
    kiln_graph_destroy(graph);
    return status;
}

kiln_status kiln_entry_make(kiln_function *function, kiln_entry *entry, const kiln_tensor *inputs)
{
    double start = now_seconds();
    kiln_status status = kiln_rows_count(function, inputs, entry->n_inputs, &entry->rows);
    if (status) return status;
    status = entry->rows == KILN_OPEN_ROWS ? kiln_rows_make(function, entry, inputs)
                                           : make_signature(function, entry, inputs);
    entry->seconds = now_seconds() - start;
    return status;
}

/* Compiled ahead of time */

static kiln_status write_open(kiln_function *function, const kiln_tensor *inputs, uint32_t n_inputs,
                              const kiln_library_paths *paths)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_open_batch open;
        kiln_row_graphs *graphs = kiln_rows_build(&scope, function, inputs, n_inputs, true);
        const kiln_graph *graph = kiln_rows_open_batch(function, graphs, &open);
        kiln_compile_options options = function->compile;
        options.open_batch = &open;
        kiln_status status = kiln_compile_library(graph, &options, paths->library, paths->header,
                                                  paths->prefix);
        if (status) kiln_fail(&scope, status, "%s", kiln_graph_message(graph));
    }
    kiln_status status = kiln_scope_close(&scope);
    return status ? kiln_context_fail(function->context, status, "%s", error.message) : KILN_OK;
}

static kiln_status write_closed(kiln_function *function, const kiln_tensor *inputs,
                                uint32_t n_inputs, const kiln_library_paths *paths)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_function_build(function, inputs, n_inputs, &graph);
    if (status) return status;
    status = kiln_compile_library(graph, &function->compile, paths->library, paths->header,
                                  paths->prefix);
    if (status) kiln_context_fail(function->context, status, "%s", kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    return status;
}

kiln_status kiln_function_compile_library(kiln_function *function, const kiln_tensor *inputs,
                                          uint32_t n_inputs, const kiln_library_paths *paths)
{
    int64_t rows;
    if (!function) return KILN_INVALID;
    if (!paths || !paths->library)
        return kiln_context_fail(function->context, KILN_INVALID,
                                 "compile_library: paths or its library is NULL");
    kiln_status status = kiln_function_check_inputs(function, inputs, n_inputs);
    if (!status) status = kiln_rows_count(function, inputs, n_inputs, &rows);
    if (status) return status;
    return function->is_batched ? write_open(function, inputs, n_inputs, paths)
                                : write_closed(function, inputs, n_inputs, paths);
}
