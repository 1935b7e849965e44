/* A user's program on the installed compiler: out = tanh(x * x) over 5 numbers, compiled and run
 * here, and compiled to the shared object argv[1]. */
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>

static int fail(const char *message)
{
    fprintf(stderr, "user_kiln: %s\n", message);
    return 1;
}

int main(int n, char **arguments)
{
    static const int64_t dims[] = {5};
    float x[5] = {-2, -1, 0, 0.5f, 3}, out[5] = {0};
    kiln_context *context;
    kiln_graph *graph;
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (n < 2 || kiln_context_create(NULL, &context)) return 2;
    if (kiln_graph_create(context, "f", &graph)) return fail(kiln_context_message(context));
    kiln_value value = kiln_input(graph, "x", KILN_f32, 1, dims);
    kiln_output(graph, "out", kiln_tanh(graph, kiln_mul(graph, value, value)));
    if (kiln_compile(graph, NULL, &executable)) return fail(kiln_graph_message(graph));
    if (kiln_compile_library(graph, NULL, arguments[1], NULL, "user")) {
        return fail(kiln_graph_message(graph));
    }
    kiln_graph_destroy(graph);
    if (kiln_workspace_create(executable, &workspace)) return fail(kiln_context_message(context));
    kiln_tensor input = {KILN_f32, 1, dims, x, sizeof x};
    kiln_tensor output = {KILN_f32, 1, dims, out, sizeof out};
    if (kiln_run(workspace, &input, 1, &output, 1)) return fail(kiln_workspace_message(workspace));
    for (int i = 0; i < 5; i++) {
        if (!(fabsf(out[i] - tanhf(x[i] * x[i])) < 1e-6f)) return fail("a wrong result");
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_context_destroy(context);
    puts("compiled and ran");
    return 0;
}
