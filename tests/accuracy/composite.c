/* One operation, from the builder to compiled code. */
#include "tests/accuracy/composite.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t dims[] = {COMPOSITE_TILE};

static void demand(bool is_right, const char *message)
{
    if (is_right) return;
    fprintf(stderr, "%s\n", message);
    exit(2);
}

static kiln_graph *make_graph(kiln_context *context, kiln_op op, kiln_dtype dtype)
{
    kiln_graph *volatile made = NULL;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_graph *graph = kiln_graph_open(&scope, context, kiln_op_rows[op].name);
        kiln_value x = kiln_add_input(graph, kiln_graph_tensor(graph, dtype, 1, dims), "x", false);
        kiln_add_output(graph, kiln_add_unary(graph, op, x), "y");
        kiln_scope_keep(&scope, graph);
        kiln_graph_attach(graph, NULL);
        made = graph;
    }
    demand(kiln_scope_close(&scope) == KILN_OK, error.message);
    return made;
}

composite composite_open(kiln_op op, kiln_dtype dtype, const char *machine)
{
    composite code = {0};
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    demand(kiln_context_create(&options, &code.context) == KILN_OK, "no context");
    kiln_graph *graph = make_graph(code.context, op, dtype);
    kiln_compile_options compile = {.struct_bytes = sizeof compile, .target_cpu = machine};
    bool is_made = kiln_compile(graph, &compile, &code.executable) == KILN_OK;
    demand(is_made, kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    return code;
}

void composite_close(composite *code)
{
    kiln_executable_destroy(code->executable);
    kiln_context_destroy(code->context);
}

kiln_workspace *composite_workspace(kiln_executable *executable)
{
    kiln_workspace *workspace = NULL;
    if (!executable) return NULL;
    demand(kiln_workspace_create(executable, &workspace) == KILN_OK, "no workspace");
    return workspace;
}

void composite_run(kiln_workspace *workspace, kiln_dtype dtype, void *in, void *out)
{
    size_t bytes = COMPOSITE_TILE * (size_t)kiln_dtype_bytes(dtype);
    kiln_tensor x = {dtype, 1, dims, in, bytes}, y = {dtype, 1, dims, out, bytes};
    demand(kiln_run(workspace, &x, 1, &y, 1) == KILN_OK, kiln_workspace_message(workspace));
}
