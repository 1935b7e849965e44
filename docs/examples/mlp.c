/* An MLP with a softmax, through the builder: 784 → 256 → 10 over a batch of 32. Compiled, run, and
 * checked against the reference evaluator. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kiln/kiln.h"

enum { BATCH = 32, WIDTH = 784, HIDDEN = 256, CLASSES = 10 };

/* Pseudo-random weights in [-scale, scale); the same in every run. */
static float *make_weights(size_t n, float scale)
{
    static uint32_t state = 1;
    float *data = malloc(n * sizeof *data);
    for (size_t i = 0; data && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = ((float)(state >> 8) / (1 << 23) - 1) * scale;
    }
    return data;
}

static kiln_value weights(kiln_graph *graph, uint32_t rank, const int64_t *dims, float scale)
{
    size_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= (size_t)dims[i];
    float *data = make_weights(n, scale);
    kiln_value value = kiln_constant(graph, KILN_f32, rank, dims, data);
    free(data); /* the graph has its own copy */
    return value;
}

static kiln_graph *build(kiln_context *context)
{
    kiln_graph *graph;
    if (kiln_graph_create(context, "mlp", &graph)) return NULL;
    kiln_value x = kiln_input(graph, "image", KILN_f32, 2, (int64_t[]){BATCH, WIDTH});
    kiln_value w1 = weights(graph, 2, (int64_t[]){WIDTH, HIDDEN}, 0.05f);
    kiln_value b1 = weights(graph, 1, (int64_t[]){HIDDEN}, 0.05f);
    kiln_value w2 = weights(graph, 2, (int64_t[]){HIDDEN, CLASSES}, 0.1f);
    kiln_value b2 = weights(graph, 1, (int64_t[]){CLASSES}, 0.1f);
    kiln_value hidden = kiln_relu(graph, kiln_linear(graph, x, w1, b1));
    kiln_output(graph, "probability", kiln_softmax(graph, kiln_linear(graph, hidden, w2, b2), 1));
    return graph;
}

int main(void)
{
    static float image[BATCH * WIDTH], ours[BATCH * CLASSES], expected[BATCH * CLASSES];
    kiln_tensor input = {KILN_f32, 2, (int64_t[]){BATCH, WIDTH}, image, sizeof image};
    kiln_tensor output = {KILN_f32, 2, (int64_t[]){BATCH, CLASSES}, ours, sizeof ours};
    kiln_tensor reference = {KILN_f32, 2, (int64_t[]){BATCH, CLASSES}, expected, sizeof expected};
    for (size_t i = 0; i < BATCH * WIDTH; i++) image[i] = (float)(i % 251) / 251;

    kiln_context *context;
    if (kiln_context_create(NULL, &context)) return 1;
    kiln_graph *graph = build(context);
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (!graph || kiln_compile(graph, NULL, &executable) ||
        kiln_evaluate(graph, &input, 1, &reference, 1)) {
        fprintf(stderr, "%s\n", kiln_graph_message(graph));
        return 1;
    }
    if (kiln_workspace_create(executable, &workspace)) return 1;
    if (kiln_run(workspace, &input, 1, &output, 1)) {
        fprintf(stderr, "%s\n", kiln_workspace_message(workspace));
        return 1;
    }
    float worst = 0;
    for (size_t i = 0; i < BATCH * CLASSES; i++) worst = fmaxf(worst, fabsf(ours[i] - expected[i]));
    kiln_compile_report report;
    kiln_executable_report(executable, &report);
    printf(
        "mlp: compiled in %.0f ms to %u kernels; largest difference from the evaluator %.1e: %s\n",
        report.seconds * 1e3, report.n_groups, worst, worst < 1e-5f ? "ok" : "TOO LARGE");
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return worst < 1e-5f ? 0 : 1;
}
