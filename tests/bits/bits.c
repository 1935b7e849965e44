/* The same bits: from 1 and 2 threads, from run to run, from the just-in-time compiler and a shared
 * object, and for x86-64-v3 and x86-64-v4. Over ResNet-50 and an encoder layer's operations built
 * here, and over any ONNX model given as an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "benchmarks/workloads.h"

#define MAX_PORTS 8

static const char *onnx_path, *onnx_input;
static int64_t onnx_dims[4];

typedef struct model {
    kiln_context *context;
    kiln_graph *graph;
} model;

typedef struct result {
    size_t bytes;
    void *data; /* all outputs, one after the other */
} result;

static kiln_context *make_context(uint32_t threads)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    kiln_context *context;
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    return context;
}

static void build_chain(kiln_graph *graph)
{
    int64_t dims[] = {33, 130};
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, dims);
    kiln_value w = random_weights(graph, 2, (int64_t[]){130, 70}, 0.2f);
    kiln_value b = random_weights(graph, 1, (int64_t[]){70}, 0.2f);
    kiln_value s = random_weights(graph, 1, (int64_t[]){70}, 1);
    kiln_value y = kiln_gelu(graph, kiln_linear(graph, kiln_softmax(graph, x, 1), w, b), 0);
    kiln_output(graph, "norm", kiln_layer_norm(graph, y, s, b, 1e-5));
    kiln_output(graph, "sum", kiln_reduce_sum(graph, kiln_tanh(graph, x), 1, (int64_t[]){0}));
    kiln_output(graph, "exp", kiln_exp(graph, kiln_sin(graph, x)));
}

/* Rows so many and long that k is cut into blocks, and the first of them alone, where it is not. */
static void build_cut_products(kiln_graph *graph)
{
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){128, 1056});
    kiln_value w = random_weights(graph, 2, (int64_t[]){1056, 100}, 0.2f);
    kiln_slice_options first = {.starts = (int64_t[]){0, 0}, .limits = (int64_t[]){16, 1056}};
    kiln_output(graph, "all", kiln_matmul(graph, x, w));
    kiln_output(graph, "few", kiln_matmul(graph, kiln_slice(graph, x, &first), w));
}

/* The same with k beyond a chunk. */
static void build_cut_chunks(kiln_graph *graph)
{
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){20, 9001});
    kiln_value w = random_weights(graph, 2, (int64_t[]){9001, 60}, 0.2f);
    kiln_slice_options first = {.starts = (int64_t[]){0, 0}, .limits = (int64_t[]){5, 9001}};
    kiln_output(graph, "all", kiln_matmul(graph, x, w));
    kiln_output(graph, "few", kiln_matmul(graph, kiln_slice(graph, x, &first), w));
}

/* The same for rows so few that the weights, an input, are streamed. */
static void build_streamed_products(kiln_graph *graph)
{
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){20, 530});
    kiln_value w = kiln_input(graph, "w", KILN_f32, 2, (int64_t[]){530, 1003});
    kiln_slice_options first = {.starts = (int64_t[]){0, 0}, .limits = (int64_t[]){3, 530}};
    kiln_output(graph, "all", kiln_matmul(graph, x, w));
    kiln_output(graph, "few", kiln_matmul(graph, kiln_slice(graph, x, &first), w));
}

/* Convolutions of halves whose kernels are inputs: one short kernel where loads of halves have
 * masks, elsewhere a pack and a copied window. */
static void add_half_convolutions(kiln_graph *graph, kiln_dtype dtype)
{
    const int64_t pads[] = {1, 1}, twos[] = {2, 2};
    kiln_value x = kiln_input(graph, "x", dtype, 4, (int64_t[]){2, 6, 13, 37});
    kiln_value w = kiln_input(graph, "w", dtype, 4, (int64_t[]){11, 6, 3, 3});
    kiln_value parts = kiln_input(graph, "parts", dtype, 4, (int64_t[]){6, 1, 3, 3});
    kiln_conv_options options[] = {{.low = pads, .high = pads},
                                   {.low = pads, .high = pads, .strides = twos},
                                   {.low = pads, .high = pads, .lhs_dilation = twos},
                                   {.rhs_dilation = twos},
                                   {.strides = twos, .accumulate = dtype}};
    for (uint32_t i = 0; i < sizeof options / sizeof *options; i++)
        kiln_output(graph, NULL, kiln_convolution(graph, x, w, &options[i]));
    kiln_conv_options depthwise = {.low = pads, .high = pads, .groups = 6};
    kiln_output(graph, NULL, kiln_convolution(graph, x, parts, &depthwise));
}

static void build_f16_convolutions(kiln_graph *graph)
{
    add_half_convolutions(graph, KILN_f16);
}

static void build_bf16_convolutions(kiln_graph *graph)
{
    add_half_convolutions(graph, KILN_bf16);
}

static model build_model(void (*build)(kiln_graph *), uint32_t threads)
{
    model made = {.context = make_context(threads)};
    if (build) {
        restart_weights();
        assert_int_equal(kiln_graph_create(made.context, "model", &made.graph), KILN_OK);
        build(made.graph);
        return made;
    }
    kiln_shape_binding shape = {onnx_input, 4, onnx_dims};
    kiln_import_options options = {.struct_bytes = sizeof options, .shapes = &shape, .n_shapes = 1};
    if (kiln_import_onnx(made.context, onnx_path, &options, &made.graph)) {
        fail_msg("%s", kiln_context_message(made.context));
    }
    return made;
}

static void destroy_model(model *made)
{
    kiln_graph_destroy(made->graph);
    kiln_context_destroy(made->context);
}

static void *fill_port(const kiln_port_row *port, uint32_t number)
{
    float *data = aligned_alloc(64, ((size_t)port->bytes + 127) & ~(size_t)63);
    assert_non_null(data);
    uint32_t state = 17 + number;
    for (int64_t i = 0; i < port->bytes / 4; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
    int is_half = port->dtype == KILN_f16 || port->dtype == KILN_bf16;
    uint16_t *halves = (uint16_t *)data; /* between -2 and 2 */
    for (int64_t i = 0; is_half && i < port->bytes / 2; i++) halves[i] &= 0xbfff;
    return data;
}

static result run(kiln_executable *executable)
{
    const kiln_program *program = kiln_executable_program(executable);
    kiln_tensor inputs[MAX_PORTS], outputs[MAX_PORTS];
    result all = {0};
    assert_true(program->n_inputs <= MAX_PORTS && program->n_outputs <= MAX_PORTS);
    for (uint32_t i = 0; i < program->n_outputs; i++)
        all.bytes += (size_t)program->outputs[i].bytes;
    all.data = calloc(1, all.bytes + 1);
    char *at = all.data;
    for (uint32_t i = 0; i < program->n_inputs; i++) {
        const kiln_port_row *port = &program->inputs[i];
        inputs[i] = (kiln_tensor){(kiln_dtype)port->dtype, port->rank, port->dims,
                                  fill_port(port, i), (size_t)port->bytes};
    }
    for (uint32_t i = 0; i < program->n_outputs; i++) {
        const kiln_port_row *port = &program->outputs[i];
        outputs[i] =
            (kiln_tensor){(kiln_dtype)port->dtype, port->rank, port->dims, at, (size_t)port->bytes};
        at += port->bytes;
    }
    kiln_workspace *workspace;
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    for (int i = 0; i < 2; i++) {
        if (kiln_run(workspace, inputs, program->n_inputs, outputs, program->n_outputs)) {
            fail_msg("%s", kiln_workspace_message(workspace));
        }
    }
    kiln_workspace_destroy(workspace);
    for (uint32_t i = 0; i < program->n_inputs; i++) free(inputs[i].data);
    return all;
}

static result compile_and_run(void (*build)(kiln_graph *), const char *cpu, uint32_t threads)
{
    model made = build_model(build, threads);
    kiln_compile_options options = {.struct_bytes = sizeof options, .target_cpu = cpu};
    kiln_executable *executable;
    if (kiln_compile(made.graph, &options, &executable))
        fail_msg("%s", kiln_graph_message(made.graph));
    result all = run(executable);
    kiln_executable_destroy(executable);
    destroy_model(&made);
    return all;
}

static result link_and_run(void (*build)(kiln_graph *))
{
    char path[] = "./kiln-bits-XXXXXX.so";
    int file = mkstemps(path, 3);
    assert_true(file >= 0);
    close(file);
    model made = build_model(build, 1);
    if (kiln_compile_library(made.graph, NULL, path, NULL, "bits")) {
        fail_msg("%s", kiln_graph_message(made.graph));
    }
    kiln_executable *executable;
    if (kiln_executable_load(made.context, path, "bits", &executable)) {
        fail_msg("%s", kiln_context_message(made.context));
    }
    unlink(path);
    result all = run(executable);
    kiln_executable_destroy(executable);
    destroy_model(&made);
    return all;
}

static void assert_same(result expected, result found, const char *what)
{
    assert_int_equal(expected.bytes, found.bytes);
    if (memcmp(expected.data, found.data, expected.bytes) != 0)
        fail_msg("%s gives other bits", what);
    free(found.data);
}

static void check_model(void (*build)(kiln_graph *))
{
    result expected = compile_and_run(build, NULL, 1);
    assert_same(expected, compile_and_run(build, NULL, 1), "another compile");
    assert_same(expected, compile_and_run(build, NULL, 2), "a run on two threads");
    assert_same(expected, link_and_run(build), "the shared object");
    if (kiln_cpu_features() & KILN_CPU_FMA) {
        assert_same(expected, compile_and_run(build, "x86-64-v3", 2), "x86-64-v3");
    } else {
        print_message("skipped x86-64-v3: this machine has no FMA\n");
    }
    if (kiln_cpu_features() & KILN_CPU_AVX512) {
        assert_same(expected, compile_and_run(build, "x86-64-v4", 1), "x86-64-v4");
    } else {
        print_message("skipped x86-64-v4: this machine has no AVX-512\n");
    }
    free(expected.data);
}

static void test_rows_and_products(void **state)
{
    (void)state;
    check_model(build_chain);
}

/* The second output has the same bits as the first rows of the first one. */
static void check_first_rows(void (*build)(kiln_graph *), size_t all, size_t few)
{
    check_model(build);
    result both = compile_and_run(build, NULL, 2);
    assert_int_equal(both.bytes, sizeof(float) * (all + few));
    assert_memory_equal(both.data, (char *)both.data + sizeof(float) * all, sizeof(float) * few);
    free(both.data);
}

static void test_cut_products(void **state)
{
    (void)state;
    check_first_rows(build_cut_products, 128 * 100, 16 * 100);
    check_first_rows(build_cut_chunks, 20 * 60, 5 * 60);
}

static void test_streamed_products(void **state)
{
    (void)state;
    check_first_rows(build_streamed_products, 20 * 1003, 3 * 1003);
}

static void test_half_convolutions(void **state)
{
    (void)state;
    check_model(build_f16_convolutions);
    check_model(build_bf16_convolutions);
}

static void test_resnet50(void **state)
{
    (void)state;
    check_model(build_resnet50);
}

static void test_onnx_model(void **state)
{
    (void)state;
    if (!onnx_path) skip();
    check_model(NULL);
}

/* usage: bits [MODEL.onnx INPUT N C H W] */
int main(int argc, char **argv)
{
    if (argc == 7) {
        onnx_path = argv[1];
        onnx_input = argv[2];
        for (int i = 0; i < 4; i++) onnx_dims[i] = atoll(argv[3 + i]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_and_products), cmocka_unit_test(test_cut_products),
        cmocka_unit_test(test_streamed_products), cmocka_unit_test(test_half_convolutions),
        cmocka_unit_test(test_resnet50),          cmocka_unit_test(test_onnx_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
