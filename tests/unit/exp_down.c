/* e^(x - max x) takes fewer instructions than e^x: the same bits as the plain op, down to the
 * smallest numbers, and NaN where the row has one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

enum { ROWS = 4, COLUMNS = 3001 };

static kiln_graph *build(kiln_context *context, kiln_dtype dtype)
{
    kiln_graph *graph;
    int64_t dims[] = {ROWS, COLUMNS}, first = 0, last = 1;
    assert_int_equal(kiln_graph_create(context, "down", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", dtype, 2, dims);
    kiln_value max = kiln_broadcast(graph, kiln_reduce_max(graph, x, 1, &last), 2, dims, &first);
    kiln_output(graph, "shifted", kiln_exp(graph, kiln_sub(graph, x, max)));
    kiln_output(graph, "plain", kiln_exp(graph, kiln_input(graph, "y", dtype, 2, dims)));
    return graph;
}

/* Rows whose maximum is 0, so that x less it is x; -inf here and there. */
static void fill(kiln_dtype dtype, void *data, int has_nan)
{
    double lowest = dtype == KILN_f64 ? 800 : 120;
    uint32_t seed = 7;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        seed = seed * 1664525u + 1013904223u;
        double share = seed / 4294967296.0, x = -lowest * share * share;
        if (i % 3 == 0) x = -lowest * (1 - share / 4);
        if (i % 97 == 5) x = -INFINITY;
        if (i % COLUMNS == 11) x = 0;
        if (has_nan && i == COLUMNS + 20) x = NAN;
        if (dtype == KILN_f64)
            ((double *)data)[i] = x;
        else
            ((float *)data)[i] = (float)x;
    }
}

static void run(kiln_executable *executable, kiln_dtype dtype, int has_nan, void *out[2])
{
    int64_t dims[] = {ROWS, COLUMNS};
    size_t bytes = ROWS * COLUMNS * kiln_dtype_bytes(dtype);
    void *in[] = {malloc(bytes), malloc(bytes)};
    kiln_tensor inputs[2], outputs[2];
    for (int i = 0; i < 2; i++) {
        fill(dtype, in[i], has_nan && i == 0);
        inputs[i] = (kiln_tensor){dtype, 2, dims, in[i], bytes};
        outputs[i] = (kiln_tensor){dtype, 2, dims, out[i], bytes};
    }
    kiln_workspace *workspace;
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    assert_int_equal(kiln_run(workspace, inputs, 2, outputs, 2), KILN_OK);
    kiln_workspace_destroy(workspace);
    for (int i = 0; i < 2; i++) free(in[i]);
}

static int is_nan_at(kiln_dtype dtype, const void *data, int i)
{
    return dtype == KILN_f64 ? isnan(((const double *)data)[i]) : isnan(((const float *)data)[i]);
}

static void check(kiln_dtype dtype, const char *cpu)
{
    kiln_context *context;
    kiln_executable *executable;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    kiln_graph *graph = build(context, dtype);
    kiln_compile_options options = {sizeof options, .target_cpu = cpu};
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    size_t row = COLUMNS * kiln_dtype_bytes(dtype);
    char *out[] = {malloc(ROWS * row), malloc(ROWS * row)};
    run(executable, dtype, 0, (void *[]){out[0], out[1]});
    assert_memory_equal(out[0], out[1], ROWS * row);
    run(executable, dtype, 1, (void *[]){out[0], out[1]});
    for (int i = 0; i < COLUMNS; i++) assert_true(is_nan_at(dtype, out[0] + row, i));
    assert_memory_equal(out[0], out[1], row);
    assert_memory_equal(out[0] + 2 * row, out[1] + 2 * row, (ROWS - 2) * row);
    for (int i = 0; i < 2; i++) free(out[i]);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_same_bits_as_the_plain_op(void **state)
{
    (void)state;
    const char *cpus[] = {NULL, "x86-64-v3", "x86-64"};
    for (size_t i = 0; i < sizeof cpus / sizeof *cpus; i++) {
        check(KILN_f32, cpus[i]);
        check(KILN_f64, cpus[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits_as_the_plain_op)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
