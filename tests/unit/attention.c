/* Attention as one kernel: against the evaluator, and to the bit against the separate kernels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

typedef struct shape {
    int64_t batch, heads, key_heads, rows, columns, width, value_width;
    int is_causal, is_masked,
        is_transposed; /* transposed: [batch, length, heads, width] in memory */
    uint32_t n_groups;                       /* of the fused schedule */
    int is_computed; /* queries are made of an input, elementwise */
} shape;

static const shape shapes[] = {
    {1, 2, 2, 37, 53, 16, 16, 0, 0, 0, 1, 0},  {2, 4, 2, 33, 64, 24, 20, 1, 0, 0, 1, 0},
    {1, 2, 1, 5, 17, 7, 9, 0, 1, 0, 1, 0},     {1, 12, 12, 128, 128, 64, 64, 0, 0, 1, 1, 0},
    {1, 1, 1, 1, 100, 32, 32, 0, 0, 0, 1, 0},  {3, 1, 1, 16, 1, 16, 16, 0, 0, 0, 1, 0},
    {1, 2, 2, 14, 513, 8, 48, 0, 1, 1, 1, 0},  {2, 2, 2, 61, 80, 32, 32, 0, 0, 0, 1, 1},
    {1, 3, 3, 40, 33, 20, 24, 1, 1, 1, 1, 1},  {1, 1, 1, 20, 4096, 64, 64, 0, 1, 0, 1, 0},
};

static kiln_value add_operand(kiln_graph *graph, const char *name, const int64_t *dims,
                              int is_transposed)
{
    if (!is_transposed) return kiln_input(graph, name, KILN_f32, 4, dims);
    int64_t stored[] = {dims[0], dims[2], dims[1], dims[3]};
    kiln_value value = kiln_input(graph, name, KILN_f32, 4, stored);
    return kiln_transpose(graph, value, (int64_t[]){0, 2, 1, 3});
}

static kiln_graph *build(kiln_context *context, const shape *s)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "attention", &graph), KILN_OK);
    int64_t q[] = {s->batch, s->heads, s->rows, s->width};
    int64_t k[] = {s->batch, s->key_heads, s->columns, s->width};
    int64_t v[] = {s->batch, s->key_heads, s->columns, s->value_width};
    kiln_attention_options options = {.is_causal = s->is_causal};
    kiln_value query = add_operand(graph, "q", q, s->is_transposed);
    kiln_value key = add_operand(graph, "k", k, s->is_transposed);
    kiln_value value = add_operand(graph, "v", v, s->is_transposed);
    if (s->is_computed) {
        kiln_value shift = kiln_input(graph, "shift", KILN_f32, 1, &s->width);
        query = kiln_tanh(graph, kiln_add(graph, query, shift));
    }
    if (s->is_masked) {
        options.mask =
            kiln_input(graph, "m", KILN_f32, 4, (int64_t[]){s->batch, 1, s->rows, s->columns});
    }
    kiln_output(graph, "y", kiln_attention(graph, query, key, value, &options));
    return graph;
}

static kiln_tensor make_port(const kiln_port_row *port, uint32_t seed)
{
    kiln_tensor tensor = {(kiln_dtype)port->dtype, port->rank, port->dims, NULL,
                          (size_t)port->bytes};
    tensor.data = calloc(1, tensor.bytes + 4);
    for (size_t i = 0; seed && i < tensor.bytes / 4; i++) {
        seed = seed * 1664525u + 1013904223u;
        ((float *)tensor.data)[i] = (float)(seed >> 8) / (1 << 22) - 2;
    }
    return tensor;
}

static void run(kiln_executable *executable, const kiln_tensor *inputs, uint32_t n,
                const kiln_tensor *output)
{
    kiln_workspace *workspace;
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, inputs, n, output, 1))
        fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
}

static kiln_executable *compile(const kiln_graph *graph, int is_unfused, const char *cpu)
{
    kiln_compile_options options = {sizeof options, .is_unfused = is_unfused, .target_cpu = cpu};
    kiln_executable *executable;
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    return executable;
}

static void check_shape(const shape *s)
{
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    kiln_graph *graph = build(context, s);
    const char *cpus[] = {NULL, NULL, "x86-64"};
    kiln_executable *executables[3];
    for (int i = 0; i < 3; i++) executables[i] = compile(graph, i == 1, cpus[i]);
    kiln_compile_report report;
    kiln_executable_report(executables[0], &report);
    assert_int_equal(report.n_groups, s->n_groups);

    const kiln_program *program = kiln_executable_program(executables[0]);
    kiln_tensor inputs[5], outputs[4];
    for (uint32_t i = 0; i < program->n_inputs; i++)
        inputs[i] = make_port(&program->inputs[i], i + 1);
    for (int i = 0; i < 4; i++) outputs[i] = make_port(&program->outputs[0], 0);
    for (int i = 0; i < 3; i++) run(executables[i], inputs, program->n_inputs, &outputs[i]);
    assert_int_equal(kiln_evaluate(graph, inputs, program->n_inputs, &outputs[3], 1), KILN_OK);

    assert_memory_equal(outputs[0].data, outputs[1].data, outputs[0].bytes);
    for (size_t i = 0; i < outputs[0].bytes / 4; i++) {
        float expected = ((float *)outputs[3].data)[i];
        assert_true(fabsf(((float *)outputs[0].data)[i] - expected) <= 2e-6f);
        assert_true(fabsf(((float *)outputs[2].data)[i] - expected) <= 2e-6f);
    }
    for (uint32_t i = 0; i < program->n_inputs; i++) free(inputs[i].data);
    for (int i = 0; i < 4; i++) free(outputs[i].data);
    for (int i = 0; i < 3; i++) kiln_executable_destroy(executables[i]);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_one_kernel_gives_the_bits_of_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_shape(&shapes[i]);
}

/* Scores that are also an output must be stored, so the parts stay apart. */
static void test_scores_that_are_wanted_stay(void **state)
{
    (void)state;
    kiln_context *context;
    kiln_graph *graph;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "kept", &graph), KILN_OK);
    int64_t dims[] = {32, 32};
    kiln_value q = kiln_input(graph, "q", KILN_f32, 2, dims);
    kiln_value weights = kiln_softmax(graph, kiln_matmul(graph, q, q), 1);
    kiln_output(graph, "weights", weights);
    kiln_output(graph, "y", kiln_matmul(graph, weights, q));
    kiln_executable *executable = compile(graph, 0, NULL);
    kiln_compile_report report;
    kiln_executable_report(executable, &report);
    assert_true(report.n_groups >= 3);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_kernel_gives_the_bits_of_many),
        cmocka_unit_test(test_scores_that_are_wanted_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
