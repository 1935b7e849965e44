/* Chains of products or convolutions whose weights leave the second caches: each step also gets the
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

/* A graph of one input and one output; `widths` as its builder reads them. */
typedef struct chain {
    kiln_graph *(*build)(kiln_context *context, const int64_t *widths);
    const int64_t *widths;
    uint32_t n_shared; /* steps whose weights the one before knows */
} chain;

static kiln_value add_weights(kiln_graph *graph, uint32_t rank, const int64_t *dims, uint32_t seed)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i];
    float *data = malloc((size_t)n * sizeof *data);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = ((float)(seed >> 8) / (1 << 23) - 1) / 16;
    }
    kiln_value value = kiln_constant(graph, KILN_f32, rank, dims, data);
    free(data);
    return value;
}

/* Widths in turn: k above 1,024 and below, columns that are no multiple of a tile's. */
static kiln_graph *build_products(kiln_context *context, const int64_t *widths)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "chain", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){ROWS, widths[0]});
    for (uint32_t i = 0; i < LAYERS; i++)
        x = kiln_relu(graph, kiln_matmul(graph, x, add_weights(graph, 2, widths + i, i + 1)));
    kiln_output(graph, "y", x);
    return graph;
}

/* 3 x 3 and 1 x 1 kernels with strides of 2 and 1. */
static kiln_graph *build_convolutions(kiln_context *context, const int64_t *widths)
{
    static const int64_t size[] = {3, 1, 1, 3}, stride[] = {2, 1, 2, 2};
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "chain", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 4, (int64_t[]){1, widths[0], 25, 25});
    for (uint32_t i = 0; i < LAYERS; i++) {
        int64_t dims[] = {widths[i + 1], widths[i], size[i], size[i]};
        int64_t strides[] = {stride[i], stride[i]}, pads[] = {size[i] / 2, size[i] / 2};
        kiln_conv_options options = {.strides = strides, .low = pads, .high = pads};
        x = kiln_convolution(graph, x, add_weights(graph, 4, dims, i + 1), &options);
        x = kiln_relu(graph, x);
    }
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

static kiln_tensor make_tensor(const kiln_port_row *port)
{
    kiln_tensor tensor = {port->dtype, port->rank, port->dims, malloc(port->bytes), port->bytes};
    return tensor;
}

/* The result, to be freed; with one thread it is compared with the evaluator's. */
static kiln_tensor run(const chain *it, uint32_t threads)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    kiln_context *context;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    kiln_graph *graph = it->build(context, it->widths);
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    const kiln_program *program = kiln_executable_program(executable);
    assert_int_equal(count_shared_constants(program), it->n_shared);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_tensor input = make_tensor(program->inputs), output = make_tensor(program->outputs);
    size_t n_inputs = input.bytes / sizeof(float), n_outputs = output.bytes / sizeof(float);
    for (size_t i = 0; i < n_inputs; i++) ((float *)input.data)[i] = (float)(i % 23) / 11 - 1;
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    kiln_tensor wanted = make_tensor(program->outputs);
    if (threads == 1) assert_int_equal(kiln_evaluate(graph, &input, 1, &wanted, 1), KILN_OK);
    for (size_t i = 0; threads == 1 && i < n_outputs; i++) {
        float expected = ((float *)wanted.data)[i];
        assert_true(fabsf(((float *)output.data)[i] - expected) <= 1e-3f * (1 + fabsf(expected)));
    }
    free(wanted.data);
    free(input.data);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return output;
}

static void check(chain it)
{
    kiln_tensor first = run(&it, 1);
    for (uint32_t threads = 2; threads <= 3; threads++) {
        kiln_tensor other = run(&it, threads);
        assert_int_equal(first.bytes, other.bytes);
        assert_memory_equal(first.data, other.data, first.bytes);
        free(other.data);
    }
    free(first.data);
}

static void test_large_weights_are_asked_for_early(void **state)
{
    (void)state;
    check((chain){build_products, (int64_t[]){512, 1500, 1210, 530, 1024}, LAYERS - 1});
}

static void test_weights_that_stay_in_the_caches_are_not(void **state)
{
    (void)state;
    check((chain){build_products, (int64_t[]){96, 128, 80, 64, 48}, 0});
}

static void test_convolutions_ask_for_large_weights(void **state)
{
    (void)state;
    check((chain){build_convolutions, (int64_t[]){48, 272, 1040, 496, 320}, LAYERS - 1});
}

static void test_convolutions_do_not_ask_for_small_ones(void **state)
{
    (void)state;
    check((chain){build_convolutions, (int64_t[]){8, 24, 40, 16, 24}, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_weights_are_asked_for_early),
        cmocka_unit_test(test_weights_that_stay_in_the_caches_are_not),
        cmocka_unit_test(test_convolutions_ask_for_large_weights),
        cmocka_unit_test(test_convolutions_do_not_ask_for_small_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
