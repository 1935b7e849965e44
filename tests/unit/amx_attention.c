/* Attention in bf16 by matrix tiles: the bits of the separate kernels, for any number of threads,
 * and near the evaluator. */
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

#define TOLERANCE 0.02 /* of numbers of size 1, rounded to 8 bits three times */

typedef struct shape {
    int64_t heads, rows, columns, depth, width;
    int is_masked;
} shape;

static const shape shapes[] = {
    {2, 64, 64, 64, 64, 0}, {3, 40, 70, 48, 40, 0},   {1, 33, 100, 36, 17, 0},
    {2, 96, 33, 32, 80, 1}, {1, 32, 300, 64, 128, 0}, {1, 50, 16, 40, 16, 1},
    {2, 48, 112, 96, 48, 0}, {1, 20, 80, 32, 32, 1},
};

static uint32_t state = 1;

static float *numbers(int64_t n)
{
    float *data = malloc((size_t)n * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
    return data;
}

static kiln_graph *build(const shape *s, kiln_context *context)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "attention", &graph), KILN_OK);
    int64_t q[] = {1, s->heads, s->rows, s->depth}, k[] = {1, s->heads, s->columns, s->depth};
    int64_t v[] = {1, s->heads, s->columns, s->width}, mask[] = {1, 1, s->rows, s->columns};
    kiln_value inputs[] = {
        kiln_input(graph, "q", KILN_f32, 4, q), kiln_input(graph, "k", KILN_f32, 4, k),
        kiln_input(graph, "v", KILN_f32, 4, v), kiln_input(graph, "m", KILN_f32, 4, mask)};
    int64_t order[] = {0, 1, 3, 2};
    kiln_value keys = kiln_transpose(graph, inputs[1], order);
    kiln_value scores = kiln_matmul(graph, inputs[0], keys);
    if (s->is_masked) scores = kiln_add(graph, scores, inputs[3]);
    kiln_value weights = kiln_softmax(graph, scores, -1);
    kiln_output(graph, "y", kiln_matmul(graph, weights, inputs[2]));
    return graph;
}

typedef struct problem {
    const shape *s;
    kiln_tensor inputs[4], output;
    int64_t dims[5][4], n_y;
} problem;

static kiln_tensor tensor(int64_t *dims, float *data)
{
    size_t n = (size_t)(dims[0] * dims[1] * dims[2] * dims[3]);
    return (kiln_tensor){KILN_f32, 4, dims, data, n * sizeof *data};
}

static void create(const shape *s, problem *p)
{
    int64_t dims[5][4] = {{1, s->heads, s->rows, s->depth},
                          {1, s->heads, s->columns, s->depth},
                          {1, s->heads, s->columns, s->width},
                          {1, 1, s->rows, s->columns},
                          {1, s->heads, s->rows, s->width}};
    p->s = s;
    p->n_y = s->heads * s->rows * s->width;
    memcpy(p->dims, dims, sizeof dims);
    for (int i = 0; i < 4; i++)
        p->inputs[i] = tensor(p->dims[i], numbers(dims[i][1] * dims[i][2] * dims[i][3]));
}

/* threads 0: the evaluator */
static float *run(problem *p, uint32_t threads, int is_unfused)
{
    kiln_context *context;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = threads ? threads : 1};
    assert_int_equal(kiln_context_create(&context_options, &context), KILN_OK);
    kiln_graph *graph = build(p->s, context);
    float *y = calloc((size_t)p->n_y, sizeof *y);
    p->output = tensor(p->dims[4], y);
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .precision = KILN_PRECISION_BF16,
                                    .target_cpu = "x86-64-amx",
                                    .is_unfused = is_unfused,
                                    .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (threads == 0) {
        assert_int_equal(kiln_evaluate(graph, p->inputs, 4, &p->output, 1), KILN_OK);
    } else {
        if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        assert_int_equal(kiln_run(workspace, p->inputs, 4, &p->output, 1), KILN_OK);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return y;
}

static void fused_is_unfused_and_near_the_evaluator(void **unused)
{
    (void)unused;
    uint64_t needed = kiln_machine_find("x86-64-amx")->cpu_features;
    if ((needed & ~kiln_cpu_features()) || !kiln_cpu_enable(needed)) skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem p;
        create(&shapes[i], &p);
        float *want = run(&p, 0, 0), *one = run(&p, 1, 0), *two = run(&p, 2, 0);
        float *apart = run(&p, 2, 1);
        assert_memory_equal(one, two, (size_t)p.n_y * 4);
        if (memcmp(one, apart, (size_t)p.n_y * 4))
            fail_msg("shape %d: not the bits of separate kernels", (int)i);
        for (int64_t j = 0; j < p.n_y; j++)
            if (!(fabsf(one[j] - want[j]) <= (float)TOLERANCE))
                fail_msg("shape %d: element %lld is %g; expected %g", (int)i, (long long)j, one[j],
                         want[j]);
        for (int j = 0; j < 4; j++) free(p.inputs[j].data);
        free(want);
        free(one);
        free(two);
        free(apart);
    }
}

static void it_is_one_kernel(void **unused)
{
    (void)unused;
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    kiln_graph *graph = build(&shapes[0], context);
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .precision = KILN_PRECISION_BF16,
                                    .target_cpu = "x86-64-amx"};
    char *text = NULL;
    if (kiln_explain(graph, &options, &text)) fail_msg("%s", kiln_graph_message(graph));
    assert_non_null(strstr(text, "attention"));
    /* conversions happen where operands are packed */
    assert_non_null(strstr(text, " in 1 groups"));
    kiln_free(text);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_is_unfused_and_near_the_evaluator),
        cmocka_unit_test(it_is_one_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
