/* ONNX files that are damaged, contradictory or hostile: each gives its status and a sentence that
 * names the place, and leaves nothing behind (the sanitizer build counts). */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "context.h"
#include "tests/unit/onnx_bytes.h"

#define DIMS(...)                                                                                  \
    (const int64_t[])                                                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define I64(name, n, ...) tensor(name, INT64, 1, DIMS(n), DIMS(__VA_ARGS__), 8 * (n))

static void check_bytes(const void *data, size_t n, kiln_status wanted, const char *text)
{
    kiln_graph *graph = NULL;
    kiln_status status = kiln_import_onnx_memory(context, data, n, NULL, &graph);
    const char *message = kiln_context_message(context);
    if (status != wanted || graph || !strstr(message, text))
        fail_msg("%s: %s; expected %s: …%s…", kiln_status_name(status), message,
                 kiln_status_name(wanted), text);
}

static void check_model(bytes file, kiln_status wanted, const char *text)
{
    check_bytes(file.at, file.n, wanted, text);
}

static void check(const one_node *one, kiln_status wanted, const char *text)
{
    check_model(one_node_model(one), wanted, text);
}

static bytes small_model(void)
{
    one_node gemm = {.op = "Gemm", .inputs = "x,w,b", .outputs = "y", .rank = 2, .dims = {2, 3}};
    float zeros[8] = {0};
    gemm.initializers[gemm.n_initializers++] = tensor("w", FLOAT, 2, DIMS(3, 2), zeros, 24);
    gemm.initializers[gemm.n_initializers++] = tensor("b", FLOAT, 1, DIMS(2), zeros, 8);
    gemm.attributes[gemm.n_attributes++] = attribute_float("alpha", 0.5f);
    return one_node_model(&gemm);
}

/* O1 */
static void test_every_truncation_is_a_model_error(void **state)
{
    bytes file = small_model();
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph), KILN_OK);
    kiln_graph_destroy(graph);
    check_bytes("", 0, KILN_MODEL, "byte 0: the file is empty");
    for (size_t n = 1; n < file.n; n++) check_bytes(file.at, n, KILN_MODEL, "model: ");
    check_bytes(file.at, file.n / 2, KILN_MODEL, "byte 3: graph: length");
}

/* O2 */
static void test_every_bit_flip_gives_a_status(void **state)
{
    bytes file = small_model();
    for (size_t bit = 0; bit < file.n * 8; bit++) {
        bytes flipped = file;
        flipped.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        kiln_graph *graph = NULL;
        kiln_status status = kiln_import_onnx_memory(context, flipped.at, flipped.n, NULL, &graph);
        assert_int_equal(status == KILN_OK, graph != NULL);
        assert_int_not_equal(status, KILN_INTERNAL);
        if (!graph) continue;
        kiln_error error = {0};
        assert_int_equal(kiln_graph_verify(graph, "after import", &error), KILN_OK);
        kiln_graph_destroy(graph);
    }
}

/* O3: graph { node { attribute { g { … } } } }, written from the inside out; O4, 30 nested Ifs in
 * linear time, is in onnx_region.c. */
static void test_deep_nesting_is_a_limit(void **state)
{
    static const uint8_t fields[3] = {1 << 3 | 2, 6 << 3 | 2, 5 << 3 | 2};
    enum { SIZE = 1 << 16 };
    uint8_t *file = calloc(SIZE, 1);
    size_t from = SIZE;
    for (int level = 0; level < 5000; level++) {
        size_t length = SIZE - from;
        for (int i = 2; i >= 0; i--)
            file[--from] = (uint8_t)((length >> 7 * i & 127) | (i < 2 ? 128 : 0));
        file[--from] = level == 4999 ? 7 << 3 | 2 : fields[level % 3];
    }
    check_bytes(file + from, SIZE - from, KILN_LIMIT, "nesting of at most 200");
    free(file);
}

/* O2, O6, O7: noise, lengths beyond any file, varints and tags at their edges. */
static void test_odd_bytes_are_model_errors(void **state)
{
    static const struct {
        const char *at;
        size_t n;
    } rows[] = {
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* 11 bytes of a varint */
        {"\x00\x00", 2},                                          /* field 0 */
        {"\x0b", 1},                                              /* a group */
        {"\x0f\x00", 2},                                          /* wire type 7 */
        {"\x3a\x80\x80\x80\x80\x20", 6},                          /* a graph of 2^33 bytes */
        {"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* of 2^64 - 1 */
        {"\x3a\x0a\x2a\x08\x0a\x80\x80\x80\x80\x80\x01\x00", 12}, /* packed dims of 2^35 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_bytes(rows[i].at, rows[i].n, KILN_MODEL, "model: ");
    uint8_t noise[4096];
    uint32_t seed = 1;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
        kiln_graph *graph = NULL;
        kiln_status status = kiln_import_onnx_memory(context, noise, sizeof noise, NULL, &graph);
        assert_int_equal(status, KILN_MODEL);
        assert_null(graph);
    }
}

/* O5 */
static void test_many_empty_messages_are_a_limit(void **state)
{
    enum { N = 2000000 };
    uint8_t *file = malloc(2 * N + 16);
    bytes head = {0};
    put_varint(&head, 7 << 3 | 2);
    put_varint(&head, 2 * N);
    memcpy(file, head.at, head.n);
    for (size_t i = 0; i < N; i++) memcpy(file + head.n + 2 * i, (uint8_t[]){11 << 3 | 2, 0}, 2);
    check_bytes(file, head.n + 2 * N, KILN_LIMIT, "proto memory");
    free(file);
}

/* O8, O9, O10, O11 */
static void test_tensors(void **state)
{
    one_node add = {
        .op = "Add", .inputs = "x,w", .outputs = "y", .rank = 1, .dims = {3}, .n_initializers = 1};
    float data[6] = {0};
    add.initializers[0] = tensor("w", FLOAT, 2, DIMS(-1, 3), data, 12);
    check(&add, KILN_MODEL, "initializer 'w': dim 0 is -1");
    add.initializers[0] = tensor("w", FLOAT, 2, DIMS((int64_t)1 << 62, 4), data, 0);
    check(&add, KILN_MODEL, "initializer 'w': the element count overflows");
    add.initializers[0] = tensor("w", FLOAT, 3, DIMS((int64_t)1 << 62, 4, 0), data, 0);
    check(&add, KILN_MODEL, "initializer 'w': the element count overflows");
    add.initializers[0] = tensor("w", FLOAT, 2, DIMS(2, 3), data, 4);
    check(&add, KILN_MODEL, "needs 24 bytes, has 4");
    add.initializers[0] = tensor("w", FLOAT, 2, DIMS(1, 3), data, 16);
    check(&add, KILN_MODEL, "needs 12 bytes, has 16");
    add.initializers[0] = tensor("w", 0, 1, DIMS(3), data, 12);
    check(&add, KILN_MODEL, "unknown dtype 0");
    add.initializers[0] = tensor("w", 999, 1, DIMS(3), data, 12);
    check(&add, KILN_MODEL, "unknown dtype 999");
    add.initializers[0] = tensor("w", 8, 1, DIMS(3), data, 12);
    check(&add, KILN_UNSUPPORTED, "dtype string");
    bytes typed = {0};
    put_int(&typed, 1, (int64_t)1 << 40);
    put_int(&typed, 2, FLOAT);
    put_text(&typed, 8, "w");
    add.initializers[0] = typed;
    check(&add, KILN_MODEL, "needs 1099511627776 elements, has 0");
}

static bytes two_nodes(const char *in1, const char *out1, const char *in2, const char *out2)
{
    bytes graph = {0}, output = {0};
    put(&graph, 1, node("Neg", in1, out1));
    put(&graph, 1, node("Abs", in2, out2));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    return model(graph, 17);
}

/* O12, O13, O14 */
static void test_names(void **state)
{
    check_model(two_nodes("b", "a", "a", "b"), KILN_MODEL,
                "cycle through nodes 0 'Neg' -> 1 'Abs'");
    check_model(two_nodes("a", "a", "a", "y"), KILN_MODEL, "cycle through nodes 0 'Neg'");
    check_model(two_nodes("x", "y", "x", "y"), KILN_MODEL,
                "'y' is defined by node 0 and by node 1");
    check_model(two_nodes("x", "x", "x", "y"), KILN_MODEL,
                "'x' is defined by input 0 and by node 0");
    check_model(two_nodes("z", "a", "a", "y"), KILN_MODEL,
                "node 0 'Neg' ('Neg'): operand 0 'z' is not defined");
    check_model(two_nodes("x", "a", "a", "b"), KILN_MODEL, "output 'y': is not defined");
}

/* O32 */
static void test_texts(void **state)
{
    check_model(two_nodes("x", "a", "%n\n\"'", "y"), KILN_MODEL,
                "operand 0 '%n\\x0a\\\"'' is not defined");
    bytes graph = {0}, bad = {0};
    put_data(&bad, 1, "a\0b", 3);
    put(&graph, 1, bad);
    check_model(model(graph, 17), KILN_MODEL, "graph.node.input: \"a\\x00b\"; expected UTF-8");
    bytes other = {0}, surrogate = {0};
    put_data(&surrogate, 3, "\xed\xa0\x80", 3);
    put(&other, 1, surrogate);
    check_model(model(other, 17), KILN_MODEL,
                "graph.node.name: \"\\xed\\xa0\\x80\"; expected UTF-8");
    bytes far = {0}, large = {0};
    char text[4098];
    memset(text, 'a', sizeof text);
    put_data(&large, 1, text, 4097);
    put(&far, 1, large);
    check_model(model(far, 17), KILN_LIMIT, "text of 4097 bytes; expected at most 4096");
}

/* O16 */
static void test_operator_sets(void **state)
{
    one_node one = {.op = "Frob", .inputs = "x", .outputs = "y", .rank = 1, .dims = {2}};
    check(&one, KILN_UNSUPPORTED, "node 0 'Frob' ('Frob'): 'ai.onnx' 17 (f32): no such operator");
    one.op = "Neg";
    one.opset = 9999;
    check(&one, KILN_UNSUPPORTED, "opset 9999; expected 1 to");
    bytes graph = {0};
    put(&graph, 1, node("Neg", "x", "y"));
    check_model(model(graph, 0), KILN_MODEL, "no opset_import");
    bytes domain = {0}, output = {0}, strange = node("Neg", "x", "a");
    put_text(&strange, 7, "my.domain");
    put(&domain, 1, strange);
    put(&domain, 1, node("Frob", "a", "b"));
    put(&domain, 1, node("Grob", "x", "y"));
    put(&domain, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&domain, 12, output);
    check_model(model(domain, 17), KILN_UNSUPPORTED,
                "3 nodes cannot be imported:\nnode 0 'Neg' ('Neg'): 'my.domain'");
    check_model(model(domain, 17), KILN_UNSUPPORTED, "\nnode 2 'Grob' ('Grob'): 'ai.onnx' 17");
}

/* O17, O20 */
static void test_attributes(void **state)
{
    one_node one = {.op = "Softmax", .inputs = "x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    one.attributes[one.n_attributes++] = attribute_float("axis", 1);
    check(&one, KILN_MODEL, "attr 'axis' is of type FLOAT; expected INT");
    one.attributes[0] = attribute_int("axis", 2);
    check(&one, KILN_MODEL, "axis 2 of rank 2; expected one in [-2, 2)");
    one.attributes[0] = attribute_int("axis", 1);
    one.attributes[one.n_attributes++] = attribute_int("axis", 0);
    check(&one, KILN_MODEL, "attr 'axis' stands twice");
    one.attributes[1] = attribute_int("speed", 0);
    check(&one, KILN_UNSUPPORTED, "attr 'speed' is not known");
    one_node concat = {.op = "Concat", .inputs = "x,x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    check(&concat, KILN_MODEL, "attr 'axis' is missing");
    one_node many = {.op = "Relu", .inputs = "x,x", .outputs = "y", .rank = 2, .dims = {2, 3}};
    check(&many, KILN_MODEL, "2 operands; expected 1 to 1");
}

/* O18, O19, O21 */
static void test_convolutions(void **state)
{
    float data[36] = {0};
    one_node one = {.op = "Conv", .inputs = "x,w", .outputs = "y", .rank = 4, .dims = {1, 1, 3, 3}};
    one.initializers[one.n_initializers++] = tensor("w", FLOAT, 0, NULL, data, 4);
    check(&one, KILN_MODEL, "operand of rank 4, weights of rank 0");
    one.initializers[0] = tensor("w", FLOAT, 4, DIMS(1, 2, 2, 2), data, 32);
    check(&one, KILN_MODEL, "expected 1 input channels");
    one.initializers[0] = tensor("w", FLOAT, 4, DIMS(1, 1, 2, 2), data, 16);
    one.attributes[one.n_attributes++] = attribute_int("group", 0);
    check(&one, KILN_MODEL, "attr 'group' is 0");
    one.attributes[0] = attribute_ints("strides", 2, DIMS(0, 1));
    check(&one, KILN_MODEL, "attr 'strides' has 0");
    one.attributes[0] = attribute_ints("kernel_shape", 2, DIMS(0, 1));
    check(&one, KILN_MODEL, "attr 'kernel_shape' has 0");
    one.attributes[0] = attribute_ints("pads", 4, DIMS(-2, 0, -2, 0));
    check(&one, KILN_MODEL, "spatial dim 0 is 3 with pads -2 and -2");
    one.attributes[0] = attribute_ints("pads", 3, DIMS(1, 1, 1));
    check(&one, KILN_MODEL, "attr 'pads' has 3 entries; expected 4");
    one_node gemm = {.op = "Gemm", .inputs = "x,x", .outputs = "y"};
    check(&gemm, KILN_MODEL, "operands have rank 0 and 0");
    one_node turned = {.op = "Gemm", .inputs = "x,x", .outputs = "y", .rank = 2, .dims = {2, 2}};
    turned.attributes[turned.n_attributes++] = attribute_int("transB", 823);
    check(&turned, KILN_MODEL, "attr 'transB' is 823; expected 0 or 1");
}

/* O22, O23, O24 */
static void test_shapes(void **state)
{
    one_node turn = {.op = "Transpose",
                     .inputs = "x",
                     .outputs = "y",
                     .n_attributes = 1,
                     .rank = 2,
                     .dims = {2, 3}};
    turn.attributes[0] = attribute_ints("perm", 2, DIMS(0, 2));
    check(&turn, KILN_MODEL, "attr 'perm' has 2 at 1");
    turn.attributes[0] = attribute_ints("perm", 2, DIMS(0, 0));
    check(&turn, KILN_MODEL, "attr 'perm' has 0 at 1");
    turn.attributes[0] = attribute_ints("perm", 2, DIMS(-1, 0));
    check(&turn, KILN_MODEL, "attr 'perm' has -1 at 0");
    one_node shape = {.op = "Reshape", .inputs = "x,s", .outputs = "y", .rank = 2, .dims = {2, 3}};
    shape.n_initializers = 1;
    shape.initializers[0] = I64("s", 2, -1, -1);
    check(&shape, KILN_MODEL, "shape[1] is -1");
    shape.initializers[0] = I64("s", 2, -2, 3);
    check(&shape, KILN_MODEL, "shape[0] is -2");
    shape.initializers[0] = I64("s", 2, -1, 4);
    check(&shape, KILN_MODEL, "shape[0] is -1 beside 4 elements of 6");
    shape.initializers[0] = I64("s", 2, 5, 5);
    check(&shape, KILN_MODEL, "node 0 'Reshape' ('Reshape'): reshape");
    shape.dims[0] = 0;
    shape.initializers[0] = I64("s", 2, -1, 0);
    shape.attributes[shape.n_attributes++] = attribute_int("allowzero", 1);
    check(&shape, KILN_MODEL, "shape[0] is -1 beside 0 elements");
    shape.initializers[0] = I64("s", 2, (int64_t)1 << 62, (int64_t)1 << 62);
    check(&shape, KILN_MODEL, "element count overflows");
    one_node concat = {.op = "Concat", .inputs = "x,x", .outputs = "y", .rank = 1, .dims = {2}};
    concat.attributes[concat.n_attributes++] = attribute_int("axis", -2);
    check(&concat, KILN_MODEL, "axis -2 of rank 1");
    one_node sum = {.op = "CumSum", .inputs = "x,s", .outputs = "y", .rank = 1, .dims = {2}};
    sum.initializers[sum.n_initializers++] = I64("s", 1, 1);
    check(&sum, KILN_MODEL, "axis 1 of rank 1");
    one_node scale = {
        .op = "QuantizeLinear", .inputs = "x,s", .outputs = "y", .rank = 2, .dims = {2, 2}};
    scale.initializers[scale.n_initializers++] = tensor("s", FLOAT, 1, DIMS(2), (float[]){1, 2}, 8);
    scale.attributes[scale.n_attributes++] = attribute_int("axis", 3);
    check(&scale, KILN_MODEL, "axis 3 of rank 2");
    one_node gather = {.op = "Gather", .inputs = "x,s", .outputs = "y", .rank = 1, .dims = {2}};
    gather.initializers[gather.n_initializers++] = I64("s", 1, 2);
    check(&gather, KILN_MODEL, "index 2 of dim 2");
}

/* O25 */
static void test_equations(void **state)
{
    static const char *const equations[] = {"ij,->,zz", "ij->k", "i.j->ij",
                                            "ij->ii",   "i->",   "ij,jk->ik"};
    for (size_t i = 0; i < sizeof equations / sizeof *equations; i++) {
        one_node one = {.op = "Einsum", .inputs = "x", .outputs = "y", .rank = 2, .dims = {2, 2}};
        one.attributes[one.n_attributes++] = attribute_text("equation", equations[i]);
        check(&one, KILN_MODEL, "equation");
    }
}

/* O31 */
static void test_declared_outputs(void **state)
{
    bytes graph = {0};
    put(&graph, 1, node("Neg", "x", "y"));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put(&graph, 12, value("y", FLOAT, 1, DIMS(3)));
    check_model(model(graph, 17), KILN_MODEL, "output 'y': is f32[2]");
    bytes twice = {0};
    put(&twice, 1, node("Neg", "x", "y"));
    put(&twice, 11, value("x", FLOAT, 1, DIMS(2)));
    put(&twice, 12, value("y", FLOAT, 1, DIMS(2)));
    put(&twice, 12, value("y", FLOAT, 1, DIMS(2)));
    check_model(model(twice, 17), KILN_MODEL, "'y' is defined by output 0 and by output 1");
    put(&twice, 11, value("x", FLOAT, 1, DIMS(2)));
    check_model(model(twice, 17), KILN_MODEL, "'x' is defined by input 0 and by input 1");
    one_node large = {
        .op = "Neg", .inputs = "x", .outputs = "y", .rank = 2, .dims = {(int64_t)1 << 62, 4}};
    check(&large, KILN_MODEL, "input 'x': no name, or an element count that overflows");
}

/* O15 */
static void test_recursive_functions(void **state)
{
    bytes graph = {0}, file = {0}, id = {0}, output = {0}, caller = node("f", "x", "y");
    put_text(&caller, 7, "mine");
    put(&graph, 1, caller);
    put(&graph, 11, value("x", FLOAT, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    file = model(graph, 17);
    for (int i = 0; i < 2; i++) {
        bytes function = {0}, inner = node(i ? "f" : "g", "a", "b");
        put_text(&inner, 7, "mine");
        put_text(&function, 1, i ? "g" : "f");
        put_text(&function, 4, "a");
        put_text(&function, 5, "b");
        put(&function, 7, inner);
        put_int(&id, 2, 17);
        put(&function, 9, id);
        put_text(&function, 10, "mine");
        put(&file, 25, function);
    }
    check_model(file, KILN_MODEL, "recursion f -> f");
}

/* O33: what optimisers have stumbled over is accepted, and computes what the evaluator does. */
static void check_bait(const one_node *one)
{
    bytes file = one_node_model(one);
    kiln_graph *graph = NULL;
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    float x[8] = {-2, 0.5f, 1, 7, -0.0f, 3, 9, -4}, wanted[8] = {0}, got[8] = {0};
    if (kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph))
        fail_msg("%s: %s", one->op, kiln_context_message(context));
    const kiln_type *in = kiln_graph_type(graph, graph->inputs.at[0]);
    const kiln_type *out = kiln_graph_type(graph, graph->outputs.at[0].value);
    assert_true(in->bytes <= 32 && out->bytes <= 32);
    kiln_tensor input = {in->dtype, in->rank, in->dims, x, (size_t)in->bytes};
    kiln_tensor output = {out->dtype, out->rank, out->dims, wanted, (size_t)out->bytes};
    assert_int_equal(kiln_evaluate(graph, &input, 1, &output, 1), KILN_OK);
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    output.data = got;
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    assert_memory_equal(got, wanted, (size_t)out->bytes);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
}

static void test_bait_of_optimisers(void **state)
{
    float limits[2] = {0, 6}, c[4] = {1, 2, 3, 4};
    one_node clip = {.op = "Clip", .inputs = "x,a,b", .outputs = "y"};
    clip.initializers[clip.n_initializers++] = tensor("a", FLOAT, 0, NULL, &limits[0], 4);
    clip.initializers[clip.n_initializers++] = tensor("b", FLOAT, 0, NULL, &limits[1], 4);
    check_bait(&clip);
    one_node gemm = {.op = "Gemm", .inputs = "x,x,c", .outputs = "y", .rank = 2, .dims = {2, 2}};
    gemm.initializers[gemm.n_initializers++] = tensor("c", FLOAT, 2, DIMS(2, 1), c, 8);
    gemm.attributes[gemm.n_attributes++] = attribute_int("transA", 1);
    gemm.attributes[gemm.n_attributes++] = attribute_int("transB", 1);
    check_bait(&gemm);
    one_node same = {.op = "Identity", .inputs = "x", .outputs = "y", .rank = 1, .dims = {3}};
    check_bait(&same);
    one_node turn = {.op = "Transpose", .inputs = "x", .outputs = "y", .rank = 0};
    check_bait(&turn);
    one_node sum = {.op = "ReduceSum", .inputs = "x", .outputs = "y", .rank = 0};
    check_bait(&sum);
}

/* External data */

static char folder[] = "/tmp/kiln-onnx-XXXXXX";

static void write_file(const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void put_entry(bytes *out, const char *key, const char *text)
{
    bytes entry = {0};
    put_text(&entry, 1, key);
    put_text(&entry, 2, text);
    put(out, 13, entry);
}

static void check_external(const char *const *entries, kiln_status wanted, const char *text)
{
    one_node add = {
        .op = "Add", .inputs = "x,w", .outputs = "y", .rank = 1, .dims = {6}, .n_initializers = 1};
    bytes *w = &add.initializers[0];
    put_int(w, 1, 6);
    put_int(w, 2, FLOAT);
    put_text(w, 8, "w");
    put_int(w, 14, 1);
    for (; *entries; entries += 2) put_entry(w, entries[0], entries[1]);
    bytes file = one_node_model(&add);
    char path[256];
    write_file("model.onnx", file.at, file.n);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    kiln_graph *graph = NULL;
    kiln_status status = kiln_import_onnx(context, path, NULL, &graph);
    const char *message = status ? kiln_context_message(context) : "";
    if (status != wanted || !strstr(message, text))
        fail_msg("%s: %s; expected %s: …%s…", kiln_status_name(status), message,
                 kiln_status_name(wanted), text);
    kiln_graph_destroy(graph);
}

#define ENTRIES(...)                                                                               \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* O26, O27, O28, O29; O30 is in export.c */
static void test_external_data(void **state)
{
    char path[256], other[256];
    float data[6] = {1, 2, 3, 4, 5, 6};
    assert_non_null(mkdtemp(folder));
    write_file("w.bin", data, sizeof data);
    check_external(ENTRIES("location", "w.bin"), KILN_OK, "");
    check_external(ENTRIES("location", "./w.bin", "offset", "0", "length", "24"), KILN_OK, "");
    check_external(ENTRIES("location", "../w.bin"), KILN_MODEL, "leaves the model directory");
    check_external(ENTRIES("location", "/etc/passwd"), KILN_MODEL, "leaves the model directory");
    check_external(ENTRIES("location", "C:\\w.bin"), KILN_MODEL, "leaves the model directory");
    check_external(ENTRIES("location", "w.bin", "offset", "20", "length", "24"), KILN_MODEL,
                   "offset 20 + 24 > 24");
    check_external(ENTRIES("location", "w.bin", "offset", "1152921504606846976"), KILN_MODEL,
                   "> 24");
    check_external(ENTRIES("location", "w.bin", "length", "20"), KILN_MODEL,
                   "needs 24 bytes, has 20");
    check_external(ENTRIES("location", "w.bin", "offset", "-1"), KILN_MODEL,
                   "external offset is '-1'");
    check_external(ENTRIES("location", "w.bin", "colour", "red"), KILN_MODEL,
                   "unknown external key 'colour'");
    check_external(ENTRIES("location", "w.bin", "location", "w.bin"), KILN_MODEL,
                   "'location' stands twice");
    check_external(ENTRIES("offset", "0"), KILN_MODEL, "without location");
    check_external(ENTRIES("location", "none.bin"), KILN_IO, "'none.bin'");
    snprintf(path, sizeof path, "%s/link.bin", folder);
    assert_int_equal(symlink("w.bin", path), 0);
    check_external(ENTRIES("location", "link.bin"), KILN_MODEL, "through a link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_external(ENTRIES("location", "link.bin"), KILN_MODEL, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(".", path), 0);
    check_external(ENTRIES("location", "link.bin/w.bin"), KILN_MODEL, "through a link");
    assert_int_equal(unlink(path), 0);
    snprintf(other, sizeof other, "%s/w.bin", folder);
    assert_int_equal(link(other, path), 0);
    check_external(ENTRIES("location", "w.bin"), KILN_MODEL, "not a regular file with one name");
    unlink(path);
    unlink(other);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    unlink(path);
    rmdir(folder);
}

static void test_arguments(void **state)
{
    bytes file = small_model();
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_import_onnx_memory(NULL, file.at, file.n, NULL, &graph), KILN_INVALID);
    assert_int_equal(kiln_import_onnx_memory(context, NULL, 0, NULL, &graph), KILN_INVALID);
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, NULL), KILN_INVALID);
    assert_int_equal(kiln_import_onnx(context, "/nonexistent", NULL, &graph), KILN_IO);
    assert_int_equal(kiln_import_onnx(context, "/tmp", NULL, &graph), KILN_IO);
    kiln_import_options options = {1000};
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, &options, &graph),
                     KILN_INVALID);
    assert_null(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_truncation_is_a_model_error),
        cmocka_unit_test(test_every_bit_flip_gives_a_status),
        cmocka_unit_test(test_odd_bytes_are_model_errors),
        cmocka_unit_test(test_deep_nesting_is_a_limit),
        cmocka_unit_test(test_many_empty_messages_are_a_limit),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_operator_sets),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_equations),
        cmocka_unit_test(test_declared_outputs),
        cmocka_unit_test(test_recursive_functions),
        cmocka_unit_test(test_bait_of_optimisers),
        cmocka_unit_test(test_external_data),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
