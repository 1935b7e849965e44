/* Convolutions in bf16 by matrix tiles: against the evaluator on operands that bf16 holds exactly,
 * and against machines without tiles; the same bits for any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"
#include "passes/machine.h"
#include "runtime/cpu.h"

typedef struct shape {
    int64_t batch, height, width, in, out, kernel[2], stride, low, high, dilation;
    int has_residual;
} shape;

static const shape shapes[] = {
    {1, 14, 14, 64, 64, {3, 3}, 1, 1, 1, 1, 0},  {2, 7, 7, 32, 48, {3, 3}, 1, 1, 1, 1, 1},
    {1, 15, 16, 32, 40, {3, 3}, 2, 1, 1, 1, 0},  {1, 37, 40, 3, 64, {7, 7}, 2, 3, 3, 1, 0},
    {2, 9, 10, 48, 32, {1, 1}, 2, 0, 0, 1, 0},   {1, 12, 13, 96, 70, {1, 1}, 1, 0, 0, 1, 1},
    {1, 11, 13, 16, 24, {3, 3}, 1, 2, 2, 2, 0},  {1, 12, 17, 5, 17, {4, 4}, 3, 0, 1, 1, 0},
    {1, 6, 6, 300, 16, {3, 3}, 1, 1, 1, 1, 0},   {1, 2, 2, 16, 16, {3, 3}, 1, 5, 5, 1, 0},
    {3, 5, 40, 33, 33, {3, 1}, 1, -1, 2, 1, 1},  {2, 14, 15, 32, 48, {3, 3}, 1, 1, 1, 1, 1},
    {3, 17, 40, 64, 33, {3, 1}, 1, -1, 2, 1, 1}, {2, 8, 8, 96, 40, {1, 1}, 1, 0, 0, 1, 1},
    {1, 40, 41, 32, 32, {2, 5}, 1, 0, 3, 1, 0},  {3, 20, 20, 64, 32, {1, 1}, 1, 1, 0, 1, 0},
    {2, 15, 17, 64, 40, {3, 3}, 2, 1, 1, 1, 1},  {1, 29, 34, 32, 33, {5, 4}, 3, 2, 1, 1, 0},
    {2, 9, 11, 512, 32, {3, 3}, 2, 1, 0, 1, 0},  {3, 13, 14, 32, 48, {2, 2}, 4, -1, 2, 1, 0},
    {3, 21, 19, 5, 24, {3, 5}, 2, 2, 3, 1, 1},   {2, 18, 30, 3, 16, {5, 3}, 1, 0, 0, 1, 0},
    {2, 4, 5, 7, 16, {6, 2}, 1, 3, 3, 1, 0},     {1, 20, 16, 4, 16, {3, 1}, 2, 1, 1, 3, 0},
};

static uint32_t state = 1;

/* Eighths in [-1, 1): products and their sums of thousands are exact. */
static void fill(float *data, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (float)(int)(state >> 28) / 8 - 1;
    }
}

typedef struct problem {
    int64_t x_dims[4], w_dims[4], y_dims[4], n_x, n_w, n_y;
    float *x, *w, *r;
} problem;

static int64_t out_size(const shape *s, int64_t size, int64_t kernel)
{
    return (size + s->low + s->high - (kernel - 1) * s->dilation - 1) / s->stride + 1;
}

static float *numbers(int64_t n)
{
    float *data = malloc((size_t)n * sizeof *data);
    assert_non_null(data);
    fill(data, n);
    return data;
}

static problem create(const shape *s)
{
    problem p = {.x_dims = {s->batch, s->height, s->width, s->in},
                 .w_dims = {s->kernel[0], s->kernel[1], s->in, s->out},
                 .y_dims = {s->batch, out_size(s, s->height, s->kernel[0]),
                            out_size(s, s->width, s->kernel[1]), s->out}};
    p.n_x = s->batch * s->height * s->width * s->in;
    p.n_w = s->kernel[0] * s->kernel[1] * s->in * s->out;
    p.n_y = s->batch * p.y_dims[1] * p.y_dims[2] * s->out;
    p.x = numbers(p.n_x);
    p.w = numbers(p.n_w);
    p.r = numbers(p.n_y);
    return p;
}

static kiln_graph *build(const shape *s, const problem *p, kiln_context *context)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "conv", &graph), KILN_OK);
    int64_t low[] = {s->low, s->low}, high[] = {s->high, s->high};
    int64_t strides[] = {s->stride, s->stride}, dilation[] = {s->dilation, s->dilation};
    int64_t nhwc[] = {0, 3, 1, 2}, hwio[] = {3, 2, 0, 1};
    kiln_conv_options options = {.strides = strides, .low = low, .high = high,
                                 .rhs_dilation = dilation, .input_axes = nhwc,
                                 .kernel_axes = hwio, .output_axes = nhwc};
    kiln_value x = kiln_input(graph, "x", KILN_f32, 4, p->x_dims);
    kiln_value w = kiln_constant(graph, KILN_f32, 4, p->w_dims, p->w);
    kiln_value r = kiln_input(graph, "r", KILN_f32, 4, p->y_dims);
    kiln_value y = kiln_convolution(graph, x, w, &options);
    if (s->has_residual) y = kiln_relu(graph, kiln_add(graph, y, r));
    kiln_output(graph, "y", y);
    return graph;
}

/* The result on a machine with `threads` threads; 0: the evaluator's. */
static float *run(const shape *s, const problem *p, const char *machine, uint32_t threads)
{
    kiln_context *context;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = threads ? threads : 1};
    assert_int_equal(kiln_context_create(&context_options, &context), KILN_OK);
    kiln_graph *graph = build(s, p, context);
    float *y = calloc((size_t)p->n_y + 16, sizeof *y);
    kiln_tensor inputs[] = {{KILN_f32, 4, p->x_dims, p->x, (size_t)p->n_x * 4},
                            {KILN_f32, 4, p->y_dims, p->r, (size_t)p->n_y * 4}};
    kiln_tensor output = {KILN_f32, 4, p->y_dims, y, (size_t)p->n_y * 4};
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .precision = KILN_PRECISION_BF16,
                                    .target_cpu = machine,
                                    .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (threads == 0) {
        assert_int_equal(kiln_evaluate(graph, inputs, 2, &output, 1), KILN_OK);
    } else {
        if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        assert_int_equal(kiln_run(workspace, inputs, 2, &output, 1), KILN_OK);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return y;
}

static void expect_equal(const shape *s, const problem *p, const float *is, const float *want)
{
    for (int64_t i = 0; i < p->n_y; i++) {
        if (is[i] == want[i]) continue;
        fail_msg("%dx%dx%d to %d: element %lld is %g; expected %g", (int)s->height, (int)s->width,
                 (int)s->in, (int)s->out, (long long)i, is[i], want[i]);
    }
}

static void check(const char *machine)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem p = create(&shapes[i]);
        float *want = run(&shapes[i], &p, machine, 0), *one = run(&shapes[i], &p, machine, 1);
        float *two = run(&shapes[i], &p, machine, 2);
        expect_equal(&shapes[i], &p, one, want);
        assert_memory_equal(one, two, (size_t)p.n_y * 4);
        free(want);
        free(one);
        free(two);
        free(p.x);
        free(p.w);
        free(p.r);
    }
}

static int has(const char *machine)
{
    uint64_t needed = kiln_machine_find(machine)->cpu_features;
    return (needed & ~kiln_cpu_features()) == 0 && kiln_cpu_enable(needed);
}

static void tiles_give_the_evaluators_sums(void **unused)
{
    (void)unused;
    if (!has("x86-64-amx")) skip();
    check("x86-64-amx");
}

static void so_do_machines_without_tiles(void **unused)
{
    (void)unused;
    if (!has("x86-64-v3")) skip();
    check("x86-64-v3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_give_the_evaluators_sums),
        cmocka_unit_test(so_do_machines_without_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
