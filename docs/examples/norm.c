/* Bias, GELU, residual and layer norm over rows of 768: six operations that become one kernel.
 * Compiled fused and unfused, timed, and checked against the reference evaluator. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kiln/kiln.h"

enum { ROWS = 256, WIDTH = 768, RUNS = 50 };

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static kiln_graph *build(kiln_context *context)
{
    static float bias[WIDTH], scale[WIDTH], offset[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        bias[i] = (float)(i % 7) * 0.1f;
        scale[i] = 1 + (float)(i % 5) * 0.01f;
        offset[i] = (float)(i % 3) * 0.1f;
    }
    kiln_graph *graph;
    if (kiln_graph_create(context, "norm", &graph)) return NULL;
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){ROWS, WIDTH});
    kiln_value residual = kiln_input(graph, "residual", KILN_f32, 2, (int64_t[]){ROWS, WIDTH});
    kiln_value b = kiln_constant(graph, KILN_f32, 1, (int64_t[]){WIDTH}, bias);
    kiln_value s = kiln_constant(graph, KILN_f32, 1, (int64_t[]){WIDTH}, scale);
    kiln_value o = kiln_constant(graph, KILN_f32, 1, (int64_t[]){WIDTH}, offset);
    kiln_value y = kiln_gelu(graph, kiln_add(graph, x, b), 0);
    kiln_output(graph, "y", kiln_layer_norm(graph, kiln_add(graph, y, residual), s, o, 1e-5));
    return graph;
}

/* Compiles and times one schedule; the result stays in `output`. Returns milliseconds, < 0 on
 * failure. */
static double run(const kiln_graph *graph, int is_unfused, const kiln_tensor *inputs,
                  const kiln_tensor *output)
{
    kiln_compile_options options = {.struct_bytes = sizeof options, .is_unfused = is_unfused};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    double best = -1;
    if (kiln_compile(graph, &options, &executable) ||
        kiln_workspace_create(executable, &workspace)) {
        fprintf(stderr, "%s\n", kiln_graph_message(graph));
    } else {
        for (int i = 0; i < RUNS; i++) {
            double start = now_ms();
            if (kiln_run(workspace, inputs, 2, output, 1)) return -1;
            double time = now_ms() - start;
            if (best < 0 || time < best) best = time;
        }
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return best;
}

int main(void)
{
    static float x[ROWS * WIDTH], residual[ROWS * WIDTH], ours[ROWS * WIDTH],
        expected[ROWS * WIDTH];
    int64_t dims[] = {ROWS, WIDTH};
    kiln_tensor inputs[] = {{KILN_f32, 2, dims, x, sizeof x},
                            {KILN_f32, 2, dims, residual, sizeof residual}};
    kiln_tensor output = {KILN_f32, 2, dims, ours, sizeof ours};
    kiln_tensor reference = {KILN_f32, 2, dims, expected, sizeof expected};
    for (int i = 0; i < ROWS * WIDTH; i++) {
        x[i] = sinf((float)i * 0.37f);
        residual[i] = cosf((float)i * 0.11f);
    }
    kiln_context *context;
    if (kiln_context_create(NULL, &context)) return 1;
    kiln_graph *graph = build(context);
    double unfused = run(graph, 1, inputs, &output), fused = run(graph, 0, inputs, &output);
    if (unfused < 0 || fused < 0 || kiln_evaluate(graph, inputs, 2, &reference, 1)) return 1;
    float worst = 0;
    for (int i = 0; i < ROWS * WIDTH; i++) worst = fmaxf(worst, fabsf(ours[i] - expected[i]));
    printf("norm: unfused %.3f ms, fused %.3f ms; largest difference from the evaluator %.1e: %s\n",
           unfused, fused, worst, worst < 1e-5f ? "ok" : "TOO LARGE");
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return worst < 1e-5f ? 0 : 1;
}
