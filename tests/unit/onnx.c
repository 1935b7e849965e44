/* ONNX operators by family: models of one node, written as wire bytes, imported and evaluated
 * against numbers worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"
#include "tests/unit/onnx_bytes.h"

static kiln_graph *import(kiln_context *context, const bytes *file,
                          const kiln_import_options *options)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_import_onnx_memory(context, file->at, file->n, options, &graph);
    if (status) fail_msg("%s: %s", kiln_status_name(status), kiln_context_message(context));
    return graph;
}

/* Imports, checks the dims of "y" and compares its elements as f32. */
static void check_model(const bytes *file, const float *x, uint32_t rank, const int64_t *dims,
                        const float *y)
{
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    kiln_graph *graph = import(context, file, NULL);
    const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[0].value);
    assert_int_equal(type->rank, rank);
    for (uint32_t i = 0; i < rank; i++) assert_int_equal(type->dims[i], dims[i]);
    assert_int_equal(type->dtype, KILN_f32);
    const kiln_type *given = kiln_graph_type(graph, graph->inputs.at[0]);
    float *got = calloc((size_t)type->n_elements + 1, 4),
          *copy = calloc((size_t)given->n_elements + 1, 4);
    memcpy(copy, x, (size_t)given->bytes);
    kiln_tensor input = {KILN_f32, given->rank, given->dims, copy, (size_t)given->bytes};
    kiln_tensor output = {KILN_f32, rank, dims, got, (size_t)type->bytes};
    kiln_status status = kiln_evaluate(graph, &input, 1, &output, 1);
    if (status) fail_msg("%s", kiln_graph_message(graph));
    for (int64_t i = 0; i < type->n_elements; i++) {
        if (isnan(got[i]) && isnan(y[i])) continue;
        if (!(fabsf(got[i] - y[i]) <= 1e-5f * (1 + fabsf(y[i]))))
            fail_msg("%d: %g, not %g", (int)i, got[i], y[i]);
    }
    free(got);
    free(copy);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void check(const one_node *one, const float *x, uint32_t rank, const int64_t *dims,
                  const float *y)
{
    bytes file = one_node_model(one);
    check_model(&file, x, rank, dims, y);
}

#define FLOATS(...)                                                                                \
    (const float[])                                                                                \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define DIMS(...)                                                                                  \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define I64(name, n, ...) tensor(name, INT64, 1, DIMS(n), DIMS(__VA_ARGS__), 8 * (n))
#define F32(name, rank, dims, ...)                                                                 \
    tensor(name, FLOAT, rank, dims, FLOATS(__VA_ARGS__), sizeof FLOATS(__VA_ARGS__))

static void test_elementwise(void **state)
{
    one_node add = {.op = "Add", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 2}};
    add.initializers[add.n_initializers++] = F32("b", 1, DIMS(2), 10, 20);
    check(&add, FLOATS(1, 2, 3, 4), 2, DIMS(2, 2), FLOATS(11, 22, 13, 24));
    one_node power = {.op = "Pow", .inputs = "x,b", .outputs = "y", .rank = 1, .dims = {2}};
    power.initializers[power.n_initializers++] = F32("b", 0, NULL, 3);
    check(&power, FLOATS(2, -3), 1, DIMS(2), FLOATS(8, -27));
    one_node clip = {.op = "Clip", .inputs = "x,,b", .outputs = "y", .rank = 1, .dims = {3}};
    clip.initializers[clip.n_initializers++] = F32("b", 0, NULL, 2);
    check(&clip, FLOATS(-1, 2, 3), 1, DIMS(3), FLOATS(-1, 2, 2));
    one_node old = {
        .op = "Clip", .inputs = "x", .outputs = "y", .rank = 1, .dims = {3}, .opset = 7};
    old.attributes[old.n_attributes++] = attribute_float("min", 0);
    check(&old, FLOATS(-1, 2, 3), 1, DIMS(3), FLOATS(0, 2, 3));
    one_node asinh_ = {.op = "Asinh", .inputs = "x", .outputs = "y", .rank = 1, .dims = {3}};
    check(&asinh_, FLOATS(-2, 0, 1e20f), 1, DIMS(3), FLOATS(-1.4436355f, 0, 46.744849f));
}

/* com.microsoft: images are [batch, height, width, channel], weights as those of Conv. */
static void test_convolution_with_channels_last(void **state)
{
    static const char *const ops[] = {"NhwcConv", "NhwcFusedConv"};
    for (int i = 0; i < 2; i++) {
        bytes graph = {0}, id = {0}, output = {0}, conv = node(ops[i], "x,w,b", "y");
        put_text(&conv, 7, "com.microsoft");
        if (i) put(&conv, 5, attribute_text("activation", "Relu"));
        put(&graph, 1, conv);
        put(&graph, 5, F32("w", 4, DIMS(2, 2, 1, 2), 1, 10, 100, 1000, -1, 0, 0, -1));
        put(&graph, 5, F32("b", 1, DIMS(2), 0.5f, 0));
        put(&graph, 11, value("x", FLOAT, 4, DIMS(1, 1, 3, 2)));
        put_text(&output, 1, "y");
        put(&graph, 12, output);
        bytes file = model(graph, 17);
        put_text(&id, 1, "com.microsoft");
        put_int(&id, 2, 1);
        put(&file, 8, id);
        check_model(&file, FLOATS(1, 2, 3, 4, 5, 6), 4, DIMS(1, 1, 2, 2),
                    i ? FLOATS(4231.5f, 0, 6453.5f, 0) : FLOATS(4231.5f, -5, 6453.5f, -9));
    }
}

static void test_softmax_flattens_before_13(void **state)
{
    one_node softmax = {
        .op = "Softmax", .inputs = "x", .outputs = "y", .rank = 3, .dims = {1, 2, 2}};
    float half[4] = {0.5f, 0.5f, 0.5f, 0.5f}, quarter[4] = {0.25f, 0.25f, 0.25f, 0.25f},
          zero[4] = {0};
    check(&softmax, zero, 3, DIMS(1, 2, 2), half);
    softmax.opset = 11;
    check(&softmax, zero, 3, DIMS(1, 2, 2), quarter);
}

static void test_shapes(void **state)
{
    one_node reshape = {
        .op = "Reshape", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    reshape.initializers[reshape.n_initializers++] = I64("b", 3, 0, 1, -1);
    float six[6] = {1, 2, 3, 4, 5, 6};
    check(&reshape, six, 3, DIMS(2, 1, 3), six);
    one_node transpose = {
        .op = "Transpose", .inputs = "x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    check(&transpose, six, 2, DIMS(3, 2), FLOATS(1, 4, 2, 5, 3, 6));
    one_node squeeze = {
        .op = "Squeeze", .inputs = "x", .outputs = "y", .rank = 3, .dims = {1, 6, 1}, .opset = 11};
    squeeze.attributes[squeeze.n_attributes++] = attribute_ints("axes", 1, DIMS(-1));
    check(&squeeze, six, 2, DIMS(1, 6), six);
    one_node tile = {.op = "Tile", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {1, 2}};
    tile.initializers[tile.n_initializers++] = I64("b", 2, 2, 2);
    check(&tile, six, 2, DIMS(2, 4), FLOATS(1, 2, 1, 2, 1, 2, 1, 2));
    one_node depth = {
        .op = "DepthToSpace", .inputs = "x", .outputs = "y", .rank = 4, .dims = {1, 4, 1, 1}};
    depth.attributes[depth.n_attributes++] = attribute_int("blocksize", 2);
    check(&depth, six, 4, DIMS(1, 1, 2, 2), six);
}

static void test_slices(void **state)
{
    one_node slice = {.op = "Slice", .inputs = "x,b,c,d,e", .outputs = "y", .rank = 1, .dims = {6}};
    slice.initializers[slice.n_initializers++] = I64("b", 1, -1);
    slice.initializers[slice.n_initializers++] = I64("c", 1, -100);
    slice.initializers[slice.n_initializers++] = I64("d", 1, 0);
    slice.initializers[slice.n_initializers++] = I64("e", 1, -2);
    float six[6] = {1, 2, 3, 4, 5, 6};
    check(&slice, six, 1, DIMS(3), FLOATS(6, 4, 2));
    one_node pad = {
        .op = "Pad", .inputs = "x,b", .outputs = "y", .n_attributes = 1, .rank = 1, .dims = {3}};
    pad.attributes[0] = attribute_text("mode", "reflect");
    pad.initializers[pad.n_initializers++] = I64("b", 2, 2, 1);
    check(&pad, six, 1, DIMS(6), FLOATS(3, 2, 1, 2, 3, 2));
    pad.attributes[0] = attribute_text("mode", "constant");
    check(&pad, six, 1, DIMS(6), FLOATS(0, 0, 1, 2, 3, 0));
    one_node split = {.op = "Split", .inputs = "x,b", .outputs = ",y", .rank = 1, .dims = {6}};
    split.initializers[split.n_initializers++] = I64("b", 2, 4, 2);
    check(&split, six, 1, DIMS(2), FLOATS(5, 6));
    one_node trilu = {.op = "Trilu", .inputs = "x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    trilu.attributes[trilu.n_attributes++] = attribute_int("upper", 0);
    check(&trilu, six, 2, DIMS(2, 3), FLOATS(1, 0, 0, 4, 5, 0));
}

static void test_indices(void **state)
{
    float six[6] = {1, 2, 3, 4, 5, 6};
    one_node gather = {.op = "Gather", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    gather.initializers[gather.n_initializers++] = I64("b", 2, -1, 0);
    gather.attributes[gather.n_attributes++] = attribute_int("axis", 1);
    check(&gather, six, 2, DIMS(2, 2), FLOATS(3, 1, 6, 4));
    one_node elements = {
        .op = "GatherElements", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    elements.initializers[elements.n_initializers++] =
        tensor("b", INT64, 2, DIMS(1, 3), DIMS(1, 0, -1), 24);
    check(&elements, six, 2, DIMS(1, 3), FLOATS(4, 2, 6));
    one_node nd = {.op = "GatherND", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    nd.initializers[nd.n_initializers++] = tensor("b", INT64, 2, DIMS(2, 2), DIMS(0, 1, 1, 2), 32);
    check(&nd, six, 1, DIMS(2), FLOATS(2, 6));
    one_node scatter = {
        .op = "ScatterND", .inputs = "x,b,c", .outputs = "y", .rank = 1, .dims = {3}};
    scatter.initializers[scatter.n_initializers++] =
        tensor("b", INT64, 2, DIMS(2, 1), DIMS(2, 0), 16);
    scatter.initializers[scatter.n_initializers++] = F32("c", 1, DIMS(2), 8, 9);
    check(&scatter, six, 1, DIMS(3), FLOATS(9, 2, 8));
    one_node sum = {.op = "CumSum", .inputs = "x,b", .outputs = "y", .rank = 1, .dims = {3}};
    sum.initializers[sum.n_initializers++] = tensor("b", INT64, 0, NULL, DIMS(0), 8);
    sum.attributes[sum.n_attributes++] = attribute_int("exclusive", 1);
    check(&sum, six, 1, DIMS(3), FLOATS(0, 1, 3));
}

static void test_reductions(void **state)
{
    float six[6] = {1, 2, 3, 4, 5, 6};
    one_node mean = {.op = "ReduceMean", .inputs = "x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    mean.attributes[mean.n_attributes++] = attribute_ints("axes", 1, DIMS(-1));
    check(&mean, six, 2, DIMS(2, 1), FLOATS(2, 5));
    one_node sum = {.op = "ReduceSum", .inputs = "x,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    sum.initializers[sum.n_initializers++] = I64("b", 1, 0);
    sum.attributes[sum.n_attributes++] = attribute_int("keepdims", 0);
    check(&sum, six, 1, DIMS(3), FLOATS(5, 7, 9));
    one_node lse = {.op = "ReduceLogSumExp", .inputs = "x", .outputs = "y", .rank = 1, .dims = {2}};
    check(&lse, FLOATS(1000, 1000), 1, DIMS(1), FLOATS(1000.6931f));
    check(&lse, FLOATS(-INFINITY, 0), 1, DIMS(1), FLOATS(0));
}

static void test_linear(void **state)
{
    float six[6] = {1, 2, 3, 4, 5, 6};
    one_node gemm = {.op = "Gemm", .inputs = "x,b,c", .outputs = "y", .rank = 2, .dims = {2, 3}};
    gemm.initializers[gemm.n_initializers++] = F32("b", 2, DIMS(1, 3), 1, 0, 1);
    gemm.initializers[gemm.n_initializers++] = F32("c", 1, DIMS(1), 1);
    gemm.attributes[gemm.n_attributes++] = attribute_int("transB", 1);
    gemm.attributes[gemm.n_attributes++] = attribute_float("alpha", 0.5f);
    gemm.attributes[gemm.n_attributes++] = attribute_float("beta", 10);
    check(&gemm, six, 2, DIMS(2, 1), FLOATS(12, 15));
    one_node vector = {
        .op = "MatMul", .inputs = "x,b", .outputs = "y", .rank = 3, .dims = {1, 2, 3}};
    vector.initializers[vector.n_initializers++] = F32("b", 1, DIMS(3), 1, 0, -1);
    check(&vector, six, 2, DIMS(1, 2), FLOATS(-2, -2));
    one_node batched = {
        .op = "MatMul", .inputs = "b,x", .outputs = "y", .rank = 3, .dims = {3, 2, 1}};
    batched.initializers[batched.n_initializers++] = F32("b", 2, DIMS(1, 2), 1, 10);
    check(&batched, six, 3, DIMS(3, 1, 1), FLOATS(21, 43, 65));
}

static void test_convolutions(void **state)
{
    float nine[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    one_node conv = {
        .op = "Conv", .inputs = "x,b,c", .outputs = "y", .rank = 4, .dims = {1, 1, 3, 3}};
    conv.initializers[conv.n_initializers++] = F32("b", 4, DIMS(1, 1, 2, 2), 1, 0, 0, 1);
    conv.initializers[conv.n_initializers++] = F32("c", 1, DIMS(1), 100);
    conv.attributes[conv.n_attributes++] = attribute_ints("strides", 2, DIMS(2, 2));
    conv.attributes[conv.n_attributes++] = attribute_text("auto_pad", "SAME_LOWER");
    check(&conv, nine, 4, DIMS(1, 1, 2, 2), FLOATS(101, 103, 107, 114));
    one_node turned = {
        .op = "ConvTranspose", .inputs = "x,b", .outputs = "y", .rank = 3, .dims = {1, 2, 2}};
    turned.initializers[turned.n_initializers++] = F32("b", 3, DIMS(2, 1, 3), 1, 2, 3, 10, 20, 30);
    turned.attributes[turned.n_attributes++] = attribute_ints("strides", 1, DIMS(2));
    turned.attributes[turned.n_attributes++] = attribute_int("group", 2);
    check(&turned, nine, 3, DIMS(1, 2, 5), FLOATS(1, 2, 5, 4, 6, 30, 60, 130, 80, 120));
}

static void test_pools(void **state)
{
    float nine[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    one_node pool = {
        .op = "MaxPool", .inputs = "x", .outputs = "y", .rank = 4, .dims = {1, 1, 3, 3}};
    pool.attributes[pool.n_attributes++] = attribute_ints("kernel_shape", 2, DIMS(2, 2));
    pool.attributes[pool.n_attributes++] = attribute_ints("strides", 2, DIMS(2, 2));
    pool.attributes[pool.n_attributes++] = attribute_int("ceil_mode", 1);
    check(&pool, nine, 4, DIMS(1, 1, 2, 2), FLOATS(5, 6, 8, 9));
    pool.op = "AveragePool";
    check(&pool, nine, 4, DIMS(1, 1, 2, 2), FLOATS(3, 4.5f, 7.5f, 9));
    one_node global = {
        .op = "GlobalAveragePool", .inputs = "x", .outputs = "y", .rank = 4, .dims = {1, 1, 3, 3}};
    check(&global, nine, 4, DIMS(1, 1, 1, 1), FLOATS(5));
}

static void test_norms(void **state)
{
    one_node batch = {.op = "BatchNormalization",
                      .inputs = "x,s,b,m,v",
                      .outputs = "y",
                      .rank = 2,
                      .dims = {2, 2}};
    batch.initializers[batch.n_initializers++] = F32("s", 1, DIMS(2), 1, 2);
    batch.initializers[batch.n_initializers++] = F32("b", 1, DIMS(2), 0, 1);
    batch.initializers[batch.n_initializers++] = F32("m", 1, DIMS(2), 1, 2);
    batch.initializers[batch.n_initializers++] = F32("v", 1, DIMS(2), 4, 1);
    batch.attributes[batch.n_attributes++] = attribute_float("epsilon", 0);
    check(&batch, FLOATS(1, 2, 3, 4), 2, DIMS(2, 2), FLOATS(0, 1, 1, 5));
    one_node layer = {
        .op = "LayerNormalization", .inputs = "x,s", .outputs = "y", .rank = 2, .dims = {1, 2}};
    layer.initializers[layer.n_initializers++] = F32("s", 1, DIMS(2), 1, 3);
    check(&layer, FLOATS(-100, 100), 2, DIMS(1, 2), FLOATS(-1, 3));
    one_node instance = {.op = "InstanceNormalization",
                         .inputs = "x,s,b",
                         .outputs = "y",
                         .rank = 3,
                         .dims = {1, 2, 2}};
    instance.initializers[instance.n_initializers++] = F32("s", 1, DIMS(2), 1, 3);
    instance.initializers[instance.n_initializers++] = F32("b", 1, DIMS(2), 0, 5);
    check(&instance, FLOATS(-100, 100, 0, 200), 3, DIMS(1, 2, 2), FLOATS(-1, 1, 2, 8));
}

static void test_resize(void **state)
{
    one_node resize = {.op = "Resize",
                       .inputs = "x,,b",
                       .outputs = "y",
                       .n_attributes = 1,
                       .rank = 3,
                       .dims = {1, 1, 2}};
    resize.initializers[resize.n_initializers++] = F32("b", 1, DIMS(3), 1, 1, 2);
    resize.attributes[0] = attribute_text("mode", "nearest");
    check(&resize, FLOATS(1, 3), 3, DIMS(1, 1, 4), FLOATS(1, 1, 3, 3));
    resize.attributes[0] = attribute_text("mode", "linear");
    check(&resize, FLOATS(1, 3), 3, DIMS(1, 1, 4), FLOATS(1, 1.5f, 2.5f, 3));
    resize.attributes[resize.n_attributes++] =
        attribute_text("coordinate_transformation_mode", "align_corners");
    check(&resize, FLOATS(1, 4), 3, DIMS(1, 1, 4), FLOATS(1, 2, 3, 4));
}

/* Shape -> Gather -> Unsqueeze -> Concat -> Reshape, as exporters write it. */
static void test_shape_arithmetic_is_known(void **state)
{
    bytes graph = {0}, gather = node("Gather", "s,zero", "d"),
          unsqueeze = node("Unsqueeze", "d,axes", "u");
    bytes concat = node("Concat", "u,rest", "shape"), output = {0};
    put(&concat, 5, attribute_int("axis", 0));
    put(&graph, 1, node("Shape", "x", "s"));
    put(&graph, 1, gather);
    put(&graph, 1, unsqueeze);
    put(&graph, 1, concat);
    put(&graph, 1, node("Reshape", "x,shape", "y"));
    put(&graph, 5, tensor("zero", INT64, 0, NULL, DIMS(0), 8));
    put(&graph, 5, I64("axes", 1, 0));
    put(&graph, 5, I64("rest", 1, -1));
    put(&graph, 11, value("x", FLOAT, 3, DIMS(2, 1, 2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    check_model(&file, FLOATS(1, 2, 3, 4), 2, DIMS(2, 2), FLOATS(1, 2, 3, 4));
}

static void test_nodes_may_stand_in_any_order(void **state)
{
    bytes graph = {0}, output = {0};
    put(&graph, 1, node("Neg", "a", "y"));
    put(&graph, 1, node("Abs", "x", "a"));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    check_model(&file, FLOATS(1, -2), 1, DIMS(2), FLOATS(-1, -2));
}

/* s = h^2 x with h = -x; its Gradient stands first in the file and is taken at h = |x|. */
static bytes gradient_model(const char *of)
{
    bytes graph = {0}, output = {0}, xs = {0}, zs = {0}, id = {0};
    bytes gradient = node("Gradient", "a,x", "y");
    put_text(&gradient, 7, "ai.onnx.preview.training");
    put_text(&xs, 1, "xs");
    put_text(&xs, 9, "h");
    put_int(&xs, 20, ATTRIBUTE_STRINGS);
    put_text(&zs, 1, "zs");
    put_text(&zs, 9, "x");
    put_int(&zs, 20, ATTRIBUTE_STRINGS);
    put(&gradient, 5, xs);
    put(&gradient, 5, zs);
    put(&gradient, 5, attribute_text("y", of));
    put(&graph, 1, gradient);
    put(&graph, 1, node("Mul", "p,h", "s"));
    put(&graph, 1, node("Mul", "h,x", "p"));
    put(&graph, 1, node("Neg", "x", "h"));
    put(&graph, 1, node("Abs", "x", "a"));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    put_text(&id, 1, "ai.onnx.preview.training");
    put_int(&id, 2, 1);
    put(&file, 8, id);
    return file;
}

static void test_gradients_of_named_values(void **state)
{
    bytes file = gradient_model("s");
    check_model(&file, FLOATS(1, -3), 1, DIMS(2), FLOATS(2, -18));
    file = gradient_model("p");
    check_model(&file, FLOATS(1, -3), 1, DIMS(2), FLOATS(1, -3));
    file = gradient_model("a"); /* does not hang on h */
    check_model(&file, FLOATS(1, -3), 1, DIMS(2), FLOATS(0, 0));
}

static void test_wrong_gradients_are_refused(void **state)
{
    static const char *const rows[][2] = {
        {"y", "expected a graph without cycles"},
        {"nothing", "node 0 'Gradient' ('Gradient'): 'nothing' is not defined"},
    };
    kiln_context *context;
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    for (int i = 0; i < 2; i++) {
        bytes file = gradient_model(rows[i][0]);
        assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph),
                         KILN_MODEL);
        if (!strstr(kiln_context_message(context), rows[i][1]))
            fail_msg("%s", kiln_context_message(context));
    }
    kiln_context_destroy(context);
}

static void test_symbolic_dims_are_bound(void **state)
{
    bytes graph = {0}, dim = {0}, shape = {0}, type = {0}, outer = {0}, x = {0}, y = {0};
    put_text(&dim, 2, "batch");
    put(&shape, 1, dim);
    put_int(&type, 1, FLOAT);
    put(&type, 2, shape);
    put(&outer, 1, type);
    put_text(&x, 1, "x");
    put(&x, 2, outer);
    put_text(&y, 1, "y");
    put(&graph, 1, node("Neg", "x", "y"));
    put(&graph, 11, x);
    put(&graph, 12, y);
    bytes file = model(graph, 17);
    kiln_context *context;
    kiln_graph *made = NULL;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, &made), KILN_INVALID);
    assert_non_null(strstr(kiln_context_message(context), "'batch' of input 'x'"));
    kiln_import_options by_name = {sizeof by_name, .dims = &(kiln_dim_binding){"batch", 3},
                                   .n_dims = 1};
    made = import(context, &file, &by_name);
    assert_int_equal(kiln_graph_type(made, made->inputs.at[0])->dims[0], 3);
    kiln_graph_destroy(made);
    kiln_import_options by_place = {sizeof by_place, .dims = &(kiln_dim_binding){"x:0", 4},
                                    .n_dims = 1};
    made = import(context, &file, &by_place);
    assert_int_equal(kiln_graph_type(made, made->inputs.at[0])->dims[0], 4);
    kiln_graph_destroy(made);
    kiln_import_options by_shape = {sizeof by_shape, .n_shapes = 1};
    by_shape.shapes = &(kiln_shape_binding){"x", 1, DIMS(5)};
    made = import(context, &file, &by_shape);
    assert_int_equal(kiln_graph_type(made, made->inputs.at[0])->dims[0], 5);
    kiln_graph_destroy(made);
    by_shape.dims = by_name.dims;
    by_shape.n_dims = 1;
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, &by_shape, &made),
                     KILN_INVALID);
    assert_non_null(
        strstr(kiln_context_message(context), "input 'x': dim 0 is bound to 3; expected 5"));
    kiln_context_destroy(context);
}

/* Evaluates a graph of i64 input 1 after f32 input 0. */
static kiln_status evaluate_two(kiln_graph *graph, const float *x, const int64_t *i, float *y)
{
    kiln_tensor ports[3];
    const void *data[] = {x, i, y};
    for (uint32_t k = 0; k < 3; k++) {
        kiln_value value = k < 2 ? graph->inputs.at[k] : graph->outputs.at[0].value;
        const kiln_type *type = kiln_graph_type(graph, value);
        ports[k] = (kiln_tensor){type->dtype, type->rank, type->dims, (void *)(uintptr_t)data[k],
                                 (size_t)type->bytes};
    }
    return kiln_evaluate(graph, ports, 2, ports + 2, 1);
}

static bytes two_input_model(const char *op, uint32_t n)
{
    bytes graph = {0}, output = {0};
    put(&graph, 1, node(op, "x,i", "y"));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(4)));
    put(&graph, 11, value("i", INT64, 1, DIMS(n)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    return model(graph, 17);
}

static void test_indices_from_data_are_checked(void **state)
{
    bytes file = two_input_model("Gather", 2);
    float x[4] = {1, 2, 3, 4}, y[2];
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    kiln_graph *graph = import(context, &file, NULL);
    assert_int_equal(evaluate_two(graph, x, DIMS(-1, 2), y), KILN_OK);
    assert_true(y[0] == 4 && y[1] == 3);
    assert_int_equal(evaluate_two(graph, x, DIMS(0, 4), y), KILN_RANGE);
    assert_non_null(
        strstr(kiln_graph_message(graph), "node 'Gather' (Gather): indices out of range"));
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void test_a_fixed_input_is_checked(void **state)
{
    bytes file = two_input_model("Reshape", 2);
    float x[4] = {1, 2, 3, 4}, y[4];
    kiln_context *context;
    kiln_graph *graph = NULL;
    int64_t shape[2] = {2, 2};
    kiln_value_binding binding = {"i", {KILN_i64, 1, DIMS(2), shape, sizeof shape}};
    kiln_import_options options = {sizeof options, .values = &binding, .n_values = 1};
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph),
                     KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_context_message(context), "operand 1 depends on the data"));
    graph = import(context, &file, &options);
    assert_int_equal(evaluate_two(graph, x, DIMS(2, 2), y), KILN_OK);
    assert_true(y[3] == 4);
    assert_int_equal(evaluate_two(graph, x, DIMS(4, 1), y), KILN_RANGE);
    assert_non_null(strstr(kiln_graph_message(graph), "input 'i': another value than at import"));
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

/* leak(a) = LeakyRelu(a) with alpha from the caller's attribute. */
static void test_functions_are_imported_in_place(void **state)
{
    bytes function = {0}, body = node("LeakyRelu", "a", "b"), alpha = {0}, id = {0},
          caller = node("leak", "x", "y");
    put_text(&alpha, 1, "alpha");
    put_int(&alpha, 20, ATTRIBUTE_FLOAT);
    put_text(&alpha, 21, "slope");
    put(&body, 5, alpha);
    put_text(&function, 1, "leak");
    put_text(&function, 4, "a");
    put_text(&function, 5, "b");
    put_text(&function, 6, "slope");
    put(&function, 7, body);
    put_int(&id, 2, 17);
    put(&function, 9, id);
    put_text(&function, 10, "mine");
    put_text(&caller, 7, "mine");
    put(&caller, 5, attribute_float("slope", 0.25f));
    bytes graph = {0}, output = {0};
    put(&graph, 1, caller);
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    put(&file, 25, function);
    check_model(&file, FLOATS(-4, 3), 1, DIMS(2), FLOATS(-1, 3));
}

static void test_orders_and_scatters(void **state)
{
    one_node top = {.op = "TopK", .inputs = "x,k", .outputs = "y,i", .rank = 2, .dims = {2, 4}};
    top.initializers[top.n_initializers++] = I64("k", 1, 2);
    check(&top, FLOATS(1, -3, 2, 2, -INFINITY, 5, NAN, -0.0f), 2, DIMS(2, 2), FLOATS(2, 2, NAN, 5));
    one_node scatter = {
        .op = "ScatterElements", .inputs = "x,i,u", .outputs = "y", .rank = 1, .dims = {3}};
    scatter.attributes[scatter.n_attributes++] = attribute_text("reduction", "add");
    scatter.initializers[scatter.n_initializers++] = I64("i", 3, 1, 1, -1);
    scatter.initializers[scatter.n_initializers++] = F32("u", 1, DIMS(3), 10, 20, 5);
    check(&scatter, FLOATS(1, 2, 3), 1, DIMS(3), FLOATS(1, 32, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_convolution_with_channels_last),
        cmocka_unit_test(test_softmax_flattens_before_13),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_indices),
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_shape_arithmetic_is_known),
        cmocka_unit_test(test_nodes_may_stand_in_any_order),
        cmocka_unit_test(test_gradients_of_named_values),
        cmocka_unit_test(test_wrong_gradients_are_refused),
        cmocka_unit_test(test_symbolic_dims_are_bound),
        cmocka_unit_test(test_indices_from_data_are_checked),
        cmocka_unit_test(test_a_fixed_input_is_checked),
        cmocka_unit_test(test_functions_are_imported_in_place),
        cmocka_unit_test(test_orders_and_scatters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
