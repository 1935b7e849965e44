/* A chain of products whose weights leave the second caches: each product's step also gets the
 * weights that come next, and the bits are the same for any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

#define ROWS 19
#define LAYERS 4

static kiln_value add_weights(kiln_graph *graph, int64_t rows, int64_t columns, uint32_t seed)
{
    float *data = malloc((size_t)(rows * columns) * sizeof *data);
    for (int64_t i = 0; i < rows * columns; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = ((float)(seed >> 8) / (1 << 23) - 1) / 16;
    }
    int64_t dims[] = {rows, columns};
    kiln_value value = kiln_constant(graph, KILN_f32, 2, dims, data);
    free(data);
    return value;
}

/* Widths in turn: k above 1,024 and below, columns that are no multiple of a tile's. */
static kiln_graph *build(kiln_context *context, const int64_t *widths)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "chain", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){ROWS, widths[0]});
    for (int i = 0; i < LAYERS; i++)
        x = kiln_relu(graph, kiln_matmul(graph, x, add_weights(graph, widths[i], widths[i + 1],
                                                               (uint32_t)i + 1)));
    kiln_output(graph, "y", x);
    return graph;
}

static uint32_t count_shared_constants(const kiln_program *program)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s + 1 < program->n_steps; s++) {
        const kiln_step_row *a = &program->steps[s], *b = a + 1;
        for (uint32_t i = 0; i < a->n_operands; i++) {
            uint32_t row = program->operands[a->first_operand + i];
            int is_constant = program->buffers[row].kind == KILN_BUFFER_CONSTANT;
            for (uint32_t j = 0; is_constant && j < b->n_operands; j++)
                n += program->operands[b->first_operand + j] == row;
        }
    }
    return n;
}

static void run(const int64_t *widths, uint32_t threads, uint32_t n_shared, float *out)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    kiln_graph *graph = build(context, widths);
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(count_shared_constants(kiln_executable_program(executable)), n_shared);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    float *x = malloc((size_t)(ROWS * widths[0]) * sizeof *x);
    for (int64_t i = 0; i < ROWS * widths[0]; i++) x[i] = (float)(i % 23) / 11 - 1;
    int64_t in[] = {ROWS, widths[0]}, to[] = {ROWS, widths[LAYERS]};
    kiln_tensor input = {KILN_f32, 2, in, x, (size_t)(ROWS * widths[0]) * sizeof *x};
    kiln_tensor output = {KILN_f32, 2, to, out, (size_t)(ROWS * widths[LAYERS]) * sizeof *out};
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    if (threads == 1) {
        float *expected = malloc(output.bytes);
        kiln_tensor wanted = output;
        wanted.data = expected;
        assert_int_equal(kiln_evaluate(graph, &input, 1, &wanted, 1), KILN_OK);
        for (int64_t i = 0; i < ROWS * widths[LAYERS]; i++)
            assert_true(fabsf(out[i] - expected[i]) <= 1e-3f * (1 + fabsf(expected[i])));
        free(expected);
    }
    free(x);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void check(const int64_t *widths, uint32_t n_shared)
{
    size_t n = (size_t)(ROWS * widths[LAYERS]);
    float *first = malloc(n * sizeof *first), *other = malloc(n * sizeof *other);
    run(widths, 1, n_shared, first);
    for (uint32_t threads = 2; threads <= 3; threads++) {
        run(widths, threads, n_shared, other);
        assert_memory_equal(first, other, n * sizeof *first);
    }
    free(first);
    free(other);
}

static void test_large_weights_are_asked_for_early(void **state)
{
    (void)state;
    check((int64_t[]){512, 1500, 1210, 530, 1024}, LAYERS - 1);
}

static void test_weights_that_stay_in_the_caches_are_not(void **state)
{
    (void)state;
    check((int64_t[]){96, 128, 80, 64, 48}, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_weights_are_asked_for_early),
        cmocka_unit_test(test_weights_that_stay_in_the_caches_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
