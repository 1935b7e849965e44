/* Bad data and bad calls at run time, case by case (X1 to X10), through compiled code. A row names
 * its case, the status and a text that the sentence must contain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "context.h"
#include "graph/graph.h"
#include "unit/onnx_bytes.h"

#define DIMS(...)                                                                                  \
    (int64_t[])                                                                                    \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static kiln_graph *parse(const char *text)
{
    kiln_graph *graph = NULL;
    if (kiln_parse_text(context, text, strlen(text), &graph))
        fail_msg("%s: %s", kiln_context_message(context), text);
    return graph;
}

/* Compiles and destroys the graph. */
static kiln_workspace *workspace_of(kiln_graph *graph)
{
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return workspace;
}

/* X1 */
static void test_wrong_tensors(void **state)
{
    (void)state;
    float x[16] = {0}, y[8];
    const struct {
        const char *name;
        kiln_tensor input;
        void *output;
        uint32_t n;
        const char *sentence;
    } rows[] = {
        {"X1 count", {KILN_f32, 2, DIMS(2, 3), x, 24}, y, 2, "inputs: 2 were given; expected 1"},
        {"X1 shape",
         {KILN_f32, 2, DIMS(5, 3), x, 60},
         y,
         1,
         "input \"x\": dims are [5,3]; expected [2,3]"},
        {"X1 rank", {KILN_f32, 1, DIMS(6), x, 24}, y, 1, "input \"x\": rank is 1; expected 2"},
        {"X1 dtype",
         {KILN_i32, 2, DIMS(2, 3), x, 24},
         y,
         1,
         "input \"x\": dtype is i32; expected f32"},
        {"X1 no dims", {KILN_f32, 2, NULL, x, 24}, y, 1, "input \"x\": dims is NULL"},
        {"X1 no data", {KILN_f32, 2, DIMS(2, 3), NULL, 24}, y, 1, "input \"x\": data is NULL"},
        {"X1 bytes", {KILN_f32, 2, DIMS(2, 3), x, 20}, y, 1, "bytes is 20; expected 24"},
        {"X1 misaligned",
         {KILN_f32, 2, DIMS(2, 3), (char *)x + 2, 24},
         y,
         1,
         "data is misaligned; expected a multiple of 4 bytes"},
        {"X1 overlap",
         {KILN_f32, 2, DIMS(2, 3), x, 24},
         x + 1,
         1,
         "output \"y\": its memory overlaps input \"x\""},
    };
    kiln_workspace *workspace =
        workspace_of(parse("graph g(%x: f32[2,3]) { %0: f32[2,3] = exp %x return %0 }"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_tensor inputs[2] = {rows[i].input, rows[i].input};
        kiln_tensor output = {KILN_f32, 2, DIMS(2, 3), rows[i].output, 24};
        kiln_status status = kiln_run(workspace, inputs, rows[i].n, &output, 1);
        if (status != KILN_INVALID || !strstr(kiln_workspace_message(workspace), rows[i].sentence))
            fail_msg("%s: %s: %s", rows[i].name, kiln_status_name(status),
                     kiln_workspace_message(workspace));
    }
    kiln_workspace_destroy(workspace);
    kiln_graph *graph = parse("graph g(%x: f32[2]) { return %x }");
    kiln_executable *executable = NULL;
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    assert_int_equal(kiln_executable_find_input(executable, "z"), -1); /* X1 name */
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
}

/* A model of x, i and perhaps u, with one node. */
static bytes index_model(const char *op, uint32_t rank, const int64_t *index_dims, int has_updates)
{
    bytes graph = {0}, output = {0};
    put(&graph, 1, node(op, has_updates ? "x,i,u" : "x,i", "y"));
    put(&graph, 11, value("x", FLOAT, 1, DIMS(4)));
    put(&graph, 11, value("i", INT64, rank, index_dims));
    if (has_updates) put(&graph, 11, value("u", FLOAT, 1, DIMS(1)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    return model(graph, 17);
}

static kiln_status run_index(bytes file, const kiln_tensor *inputs, uint32_t n, kiln_tensor *output,
                             char *out_sentence)
{
    kiln_graph *graph = NULL;
    if (kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph))
        fail_msg("%s", kiln_context_message(context));
    kiln_workspace *workspace = workspace_of(graph);
    kiln_status status = kiln_run(workspace, inputs, n, output, 1);
    strcpy(out_sentence, kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    return status;
}

typedef struct index_case {
    const char *op;
    uint32_t index_rank, has_updates, n_out;
    const char *sentence;
} index_case;

static void check_index(const index_case *row, int64_t index)
{
    char sentence[1100];
    float x[4] = {1, 2, 3, 4}, u[1] = {9}, y[4];
    kiln_tensor inputs[] = {{KILN_f32, 1, DIMS(4), x, 16},
                            {KILN_i64, row->index_rank, DIMS(1, 1), &index, 8},
                            {KILN_f32, 1, DIMS(1), u, 4}};
    kiln_tensor output = {KILN_f32, 1, DIMS(row->n_out), y, 4 * row->n_out};
    bytes file = index_model(row->op, row->index_rank, DIMS(1, 1), (int)row->has_updates);
    kiln_status status = run_index(file, inputs, 2 + row->has_updates, &output, sentence);
    if (status != KILN_RANGE || !strstr(sentence, row->sentence))
        fail_msg("X2 %s %lld: %s: %s", row->op, (long long)index, kiln_status_name(status),
                 sentence);
}

/* X2: as ONNX models the index is refused; as graphs take clamps. */
static void test_indices(void **state)
{
    (void)state;
    static const int64_t wrong[] = {-10, 7, INT64_MIN, INT64_MAX};
    static const index_case rows[] = {
        {"Gather", 1, 0, 1, "node 'Gather' (Gather): indices out of range"},
        {"GatherElements", 1, 0, 1, "(GatherElements): indices out of range"},
        {"GatherND", 2, 0, 1, "(GatherND): indices out of range"},
        {"ScatterND", 2, 1, 4, "(ScatterND): indices out of range"},
        {"ScatterElements", 1, 1, 4, "(ScatterElements): indices out of range"},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t k = 0; k < 4; k++) check_index(&rows[r], wrong[k]);
    kiln_workspace *workspace = workspace_of(
        parse("graph g(%x: f32[4], %i: i64[4]) { %0: f32[4] = take %x, %i {axis = 0} return %0 }"));
    float x[4] = {1, 2, 3, 4}, y[4];
    int64_t all[] = {-10, 7, INT64_MIN, 1};
    kiln_tensor inputs[] = {{KILN_f32, 1, DIMS(4), x, 16}, {KILN_i64, 1, DIMS(4), all, 32}};
    kiln_tensor output = {KILN_f32, 1, DIMS(4), y, 16};
    assert_int_equal(kiln_run(workspace, inputs, 2, &output, 1), KILN_OK);
    assert_true(y[0] == 1 && y[1] == 4 && y[2] == 1 && y[3] == 2);
    kiln_workspace_destroy(workspace);
}

/* X3: division is total. */
static void test_division(void **state)
{
    (void)state;
    int32_t a[] = {INT32_MIN, 7, -7, 0}, b[] = {-1, 0, 0, 0}, quotient[4], rest[4];
    static const int32_t quotients[] = {INT32_MIN, -1, -1, -1}, rests[] = {0, 7, -7, 0};
    kiln_workspace *workspace =
        workspace_of(parse("graph g(%a: i32[4], %b: i32[4]) { %0: i32[4] = div %a, %b"
                           "  %1: i32[4] = rem %a, %b return %0, %1 }"));
    kiln_tensor inputs[] = {{KILN_i32, 1, DIMS(4), a, 16}, {KILN_i32, 1, DIMS(4), b, 16}};
    kiln_tensor outputs[] = {{KILN_i32, 1, DIMS(4), quotient, 16},
                             {KILN_i32, 1, DIMS(4), rest, 16}};
    assert_int_equal(kiln_run(workspace, inputs, 2, outputs, 2), KILN_OK);
    assert_memory_equal(quotient, quotients, sizeof quotient);
    assert_memory_equal(rest, rests, sizeof rest);
    kiln_workspace_destroy(workspace);
}

/* X4: casts saturate, NaN is 0. */
static void test_casts(void **state)
{
    (void)state;
    float x[] = {__builtin_nanf(""), __builtin_inff(), -__builtin_inff(), 1e30f, -1};
    static const int32_t signed_[] = {0, INT32_MAX, INT32_MIN, INT32_MAX, -1};
    static const uint8_t unsigned_[] = {0, 255, 0, 255, 0}, bools[] = {1, 1, 1, 1, 1};
    int32_t i[5];
    uint8_t u[5], b[5];
    kiln_workspace *workspace =
        workspace_of(parse("graph g(%x: f32[5]) { %0: i32[5] = convert %x %1: u8[5] = convert %x"
                           "  %2: bool[5] = convert %x return %0, %1, %2 }"));
    kiln_tensor input = {KILN_f32, 1, DIMS(5), x, 20};
    kiln_tensor outputs[] = {
        {KILN_i32, 1, DIMS(5), i, 20}, {KILN_u8, 1, DIMS(5), u, 5}, {KILN_bool, 1, DIMS(5), b, 5}};
    assert_int_equal(kiln_run(workspace, &input, 1, outputs, 3), KILN_OK);
    assert_memory_equal(i, signed_, sizeof i);
    assert_memory_equal(u, unsigned_, sizeof u);
    assert_memory_equal(b, bools, sizeof b);
    kiln_workspace_destroy(workspace);
}

#define ENDLESS(limit)                                                                             \
    "graph g(%n: i64[]) {"                                                                         \
    "  %0: (i64[]) = while %n {n_carried = 1, limit = " limit ", regions = ["                      \
    "    graph c(%n: i64[]) { %0: bool[] = constant {value = splat true} return %0 },"             \
    "    graph b(%n: i64[]) { %0: i64[] = constant {value = splat 1} %1: i64[] = add %n, %0"       \
    "      return %1 }]}"                                                                          \
    "  %1: i64[] = item %0 {index = 0} return %1 }"

/* X5 */
static void test_endless_loops(void **state)
{
    (void)state;
    int64_t n = 0, out;
    kiln_tensor input = {KILN_i64, 0, NULL, &n, 8}, output = {KILN_i64, 0, NULL, &out, 8};
    kiln_workspace *workspace = workspace_of(parse(ENDLESS("2147483647")));
    kiln_workspace_set_deadline(workspace, 20000000);
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_DEADLINE);
    assert_non_null(strstr(kiln_workspace_message(workspace), "its deadline of 20000000 ns"));
    kiln_workspace_destroy(workspace);
    workspace = workspace_of(parse(ENDLESS("1000")));
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_RANGE);
    assert_non_null(strstr(kiln_workspace_message(workspace), "while: over 1000 trips"));
    kiln_workspace_destroy(workspace);
}

#define I64(name, n, ...) tensor(name, INT64, 1, DIMS(n), DIMS(__VA_ARGS__), 8 * (n))
#define I64_SCALAR(name, value) tensor(name, INT64, 0, NULL, DIMS(value), 8)

/* One node over x: f32[4], with constants. */
static one_node op_of(const char *op, const char *inputs, uint32_t n, const bytes *constants)
{
    one_node one = {.op = op, .inputs = inputs, .outputs = "y", .rank = 1, .dims = {4}};
    one.n_initializers = n;
    memcpy(one.initializers, constants, n * sizeof *constants);
    return one;
}

static void check_import(const char *name, const one_node *one, kiln_status wanted,
                         const char *sentence)
{
    bytes file = one_node_model(one);
    kiln_graph *graph = NULL;
    kiln_status status = kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph);
    const char *message = kiln_context_message(context);
    if (status != wanted || !strstr(message, sentence))
        fail_msg("%s: %s: %s", name, kiln_status_name(status), message);
}

#define CONSTANTS(...)                                                                             \
    sizeof((bytes[]){__VA_ARGS__}) / sizeof(bytes), (bytes[])                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* X6: sizes that no machine has, and those that are only too large for this one. */
static void test_huge_results(void **state)
{
    (void)state;
    one_node one = op_of("ConstantOfShape", "s", CONSTANTS(I64("s", 2, (int64_t)1 << 40, 1024)));
    check_import("X6 ConstantOfShape", &one, KILN_LIMIT,
                 "f32[1099511627776,1024]; expected dims to 2^40 and at most 2^48 elements");
    one = op_of("Expand", "x,s", CONSTANTS(I64("s", 2, (int64_t)1 << 62, 1)));
    check_import("X6 Expand", &one, KILN_LIMIT,
                 "a result of dims [4611686018427387904, 4]; expected dims to 2^40");
    one = op_of("Tile", "x,s", CONSTANTS(I64("s", 1, (int64_t)1 << 60)));
    check_import("X6 Tile", &one, KILN_LIMIT,
                 "dims [4, 1152921504606846976]; expected dims to 2^40");
    one = op_of("Pad", "x,s", CONSTANTS(I64("s", 2, (int64_t)1 << 41, 0)));
    check_import("X6 Pad", &one, KILN_LIMIT, "a result of dims [2199023255556]");
    one = op_of("Range", "a,b,c",
                CONSTANTS(I64_SCALAR("a", 0), I64_SCALAR("b", INT64_MAX), I64_SCALAR("c", 1)));
    check_import("X6 Range", &one, KILN_LIMIT,
                 "9223372036854775807 elements; expected at most 2^24");
    kiln_graph *graph = parse("graph g(%x: f32[1048576,1048576]) {"
                              "  %0: f32[1048576,1048576] = exp %x"
                              "  %1: f32[1048576,1048576] = reverse %0 {axes = [0]}"
                              "  %2: f32[1048576,1048576] = cumulative_sum %1 {axis = 0,"
                              "    exclusive = false, reverse = false}"
                              "  %3: f32[1048576] = reduce_sum %2 {axes = [0]} return %3 }");
    kiln_executable *executable = NULL;
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_LIMIT); /* X6 compiled */
    if (!strstr(kiln_graph_message(graph), "bytes"))
        fail_msg("X6 compiled: %s", kiln_graph_message(graph));
    kiln_graph_destroy(graph);
}

/* X7: values that a model fixes are refused at import, by what they are. */
static void test_wrong_values(void **state)
{
    (void)state;
    one_node one = op_of("TopK", "x,k", CONSTANTS(I64("k", 1, -1)));
    one.outputs = "y,i";
    check_import("X7 TopK -1", &one, KILN_MODEL, "k is -1 of 4");
    one.initializers[0] = I64("k", 1, 5);
    check_import("X7 TopK 5", &one, KILN_MODEL, "k is 5 of 4");
    one = op_of("Split", "x,s", CONSTANTS(I64("s", 2, -1, 5)));
    one.outputs = "y,z";
    check_import("X7 Split", &one, KILN_MODEL, "size 0 is -1");
    one = op_of("Slice", "x,b,e,a,s",
                CONSTANTS(I64("b", 1, 0), I64("e", 1, 4), I64("a", 1, 0), I64("s", 1, 0)));
    check_import("X7 Slice", &one, KILN_MODEL, "step 0 of axis 0");
    one = op_of("Range", "a,b,c",
                CONSTANTS(I64_SCALAR("a", 0), I64_SCALAR("b", 9), I64_SCALAR("c", 0)));
    check_import("X7 Range", &one, KILN_MODEL, "from 0 to 9 by 0");
    one = op_of("OneHot", "x,d,v", CONSTANTS(I64_SCALAR("d", -1), I64("v", 2, 0, 1)));
    one.dtype = INT64;
    check_import("X7 OneHot", &one, KILN_MODEL, "depth is -1; expected 1 to 2^24");
    one = op_of("Resize", "x,,s", CONSTANTS(tensor("s", FLOAT, 1, DIMS(1), (float[]){0}, 4)));
    check_import("X7 Resize", &one, KILN_MODEL, "scale 0 of axis 0");
    one = op_of("ReverseSequence", "x,n", CONSTANTS(I64("n", 2, 100, 1)));
    one.rank = 2;
    one.dims[1] = 2;
    check_import("X7 ReverseSequence", &one, KILN_MODEL,
                 "length 100 of sequence 0; expected 0 to 4");
}

/* X7: lengths that only the data has. */
static void test_wrong_lengths(void **state)
{
    (void)state;
    bytes graph = {0}, output = {0};
    char sentence[1100];
    float x[8] = {0}, y[8];
    int64_t lengths[2] = {4, 100};
    put(&graph, 1, node("ReverseSequence", "x,i", "y"));
    put(&graph, 11, value("x", FLOAT, 2, DIMS(4, 2)));
    put(&graph, 11, value("i", INT64, 1, DIMS(2)));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    kiln_tensor inputs[] = {{KILN_f32, 2, DIMS(4, 2), x, 32}, {KILN_i64, 1, DIMS(2), lengths, 16}};
    kiln_tensor out = {KILN_f32, 2, DIMS(4, 2), y, 32};
    assert_int_equal(run_index(model(graph, 17), inputs, 2, &out, sentence), KILN_RANGE);
    assert_non_null(strstr(sentence, "(ReverseSequence): lengths out of range"));
    lengths[1] = 0;
    assert_int_equal(run_index(model(graph, 17), inputs, 2, &out, sentence), KILN_OK);
}

/* X8: every operation without attributes over [0,3], as far as its types allow, in one graph; then
 * those with attributes. */
static void test_empty_batches(void **state)
{
    (void)state;
    static const kiln_dtype dtypes[] = {KILN_f32, KILN_i32, KILN_bool};
    uint32_t n_ops = 0;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        bool is_plain = row->attrs == KILN_FAMILY_none && row->result != KILN_RESULT_GIVEN &&
                        row->min_inputs >= 1 && row->min_inputs <= 3;
        bool is_found = false;
        for (size_t d = 0; d < 3 && is_plain && !is_found; d++) {
            char text[512];
            const char *dtype = kiln_dtype_name(dtypes[d]);
            const char *result = row->result == KILN_RESULT_BOOL ? "bool" : dtype;
            const char *operands = row->min_inputs == 1   ? "%x"
                                   : row->min_inputs == 2 ? "%x, %x"
                                                          : "%x, %x, %x";
            snprintf(text, sizeof text, "graph g(%%x: %s[0,3]) { %%0: %s[0,3] = %s %s return %%0 }",
                     dtype, result, row->name, operands);
            kiln_graph *graph = NULL;
            if (kiln_parse_text(context, text, strlen(text), &graph)) continue;
            kiln_workspace *workspace = workspace_of(graph);
            kiln_tensor input = {dtypes[d], 2, DIMS(0, 3), NULL, 0}, output = input;
            if (row->result == KILN_RESULT_BOOL) output.dtype = KILN_bool;
            if (kiln_run(workspace, &input, 1, &output, 1))
                fail_msg("X8 %s: %s", row->name, kiln_workspace_message(workspace));
            kiln_workspace_destroy(workspace);
            is_found = true;
        }
        n_ops += is_found;
    }
    print_message("%u operations over an empty batch\n", n_ops);
    assert_true(n_ops > 60);
}

static const char *const empty_graphs[] = {
    "graph g(%x: f32[0,4]) { %0: f32[0,4] = softmax %x {axis = 1} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,4] = softmax %x {axis = 0} return %0 }",
    "graph g(%x: f32[0,4]) { %0: i64[0,4] = argsort %x {axis = 1, descending = false} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,4] = cumulative_sum %x {axis = 0, exclusive = false,"
    " reverse = false} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[4] = reduce_max %x {axes = [0]} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[] = mean %x {axes = [0, 1]} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,0] = dot_general %x, %x {lhs_batch = [], rhs_batch = [],"
    " lhs_contract = [1], rhs_contract = [1], accumulate = f32} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[4,4] = dot_general %x, %x {lhs_batch = [], rhs_batch = [],"
    " lhs_contract = [0], rhs_contract = [0], accumulate = f32} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[] = constant {value = splat 1}"
    " %1: f32[2,4] = pad %x, %0 {low = [1, 0], high = [1, 0], interior = [0, 0]} return %1 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,4] = concat %x, %x {axis = 0} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[4,0] = transpose %x {permutation = [1, 0]} return %0 }",
    "graph g(%x: f32[0,4]) { %0: i64[0] = constant {value = []}"
    " %1: f32[0,0] = take %x, %0 {axis = 1} return %1 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,1,2,2] = reshape %x %1: f32[2,1,1,1] = constant {value ="
    " splat 1} %2: f32[0,2,2,2] = convolution %0, %1 {strides = [1, 1], low = [0, 0], high = [0,"
    " 0], lhs_dilation = [1, 1], rhs_dilation = [1, 1], groups = 1, input_axes = [0, 1, 2, 3],"
    " kernel_axes = [0, 1, 2, 3], output_axes = [0, 1, 2, 3], accumulate = f32} return %2 }",
    "graph g(%x: f32[0,4]) { %0: f32[0,3] = window_max %x {sizes = [1, 2], strides = [1, 1], low ="
    " [0, 0], high = [0, 0], dilations = [1, 1]} return %0 }",
    "graph g(%x: f32[0,4]) { %0: f32[4] = constant {value = splat 1}"
    " %1: f32[0,4] = layer_norm %x, %0, %0 {epsilon = 1} return %1 }",
};

static void test_empty_batches_with_attributes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof empty_graphs / sizeof *empty_graphs; i++) {
        float out[16] = {0};
        kiln_graph *graph = parse(empty_graphs[i]);
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[0].value);
        int64_t dims[4];
        memcpy(dims, type->dims, type->rank * sizeof *dims);
        kiln_tensor input = {KILN_f32, 2, DIMS(0, 4), NULL, 0};
        kiln_tensor output = {type->dtype, type->rank, dims, out, (size_t)type->bytes};
        assert_true(sizeof out >= output.bytes);
        kiln_workspace *workspace = workspace_of(graph);
        if (kiln_run(workspace, &input, 1, &output, 1))
            fail_msg("X8 %s: %s", empty_graphs[i], kiln_workspace_message(workspace));
        kiln_workspace_destroy(workspace);
    }
}

/* X9: a run inside the run, on the same workspace and on what has been destroyed meanwhile. */
typedef struct meeting {
    kiln_workspace *workspace;
    kiln_context *context;
    kiln_executable *executable;
    kiln_status inner;
} meeting;

static kiln_status meet(void *user, const kiln_custom_call_args *args)
{
    meeting *at = user;
    at->inner = kiln_run(at->workspace, NULL, 0, NULL, 0);
    kiln_executable_destroy(at->executable);
    kiln_context_destroy(at->context);
    memcpy(args->outputs[0], args->inputs[0], 8);
    return KILN_OK;
}

static void test_destroyed_and_shared(void **state)
{
    (void)state;
    static const char text[] = "graph g(%x: f32[2]) { %0: f32[2] = exp %x"
                               "  %1: (f32[2]) = custom_call %0 {target = \"meet\"}"
                               "  %2: f32[2] = item %1 {index = 0} %3: f32[2] = neg %2"
                               "  return %3 }";
    meeting at = {0};
    kiln_graph *graph = NULL;
    float x[2] = {0, 0}, y[2];
    kiln_tensor input = {KILN_f32, 1, DIMS(2), x, 8}, output = {KILN_f32, 1, DIMS(2), y, 8};
    assert_int_equal(kiln_context_create(NULL, &at.context), KILN_OK);
    assert_int_equal(kiln_context_register(at.context, "meet", NULL, meet, &at), KILN_OK);
    assert_int_equal(kiln_parse_text(at.context, text, sizeof text - 1, &graph), KILN_OK);
    if (kiln_compile(graph, NULL, &at.executable)) fail_msg("%s", kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    assert_int_equal(kiln_workspace_create(at.executable, &at.workspace), KILN_OK);
    assert_int_equal(kiln_run(at.workspace, &input, 1, &output, 1), KILN_OK);
    assert_int_equal(at.inner, KILN_INVALID); /* X9 one workspace, two runs */
    assert_true(y[0] == -1 && y[1] == -1);    /* X9 destroyed during the run: afterwards */
    kiln_workspace_destroy(at.workspace);
}

/* X10 */
static void test_numbers_of_threads(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {(uint32_t)-1, 1000000000, 1025};
    kiln_context *other = NULL;
    for (size_t i = 0; i < 3; i++) {
        kiln_context_options options = {sizeof options, .threads = wrong[i]};
        assert_int_equal(kiln_context_create(&options, &other), KILN_INVALID);
        assert_null(other);
    }
    assert_non_null(strstr(kiln_context_message(NULL), "1024"));
    kiln_context_options options = {sizeof options, .threads = 0};
    assert_int_equal(kiln_context_create(&options, &other), KILN_OK);
    assert_true(kiln_context_threads(other) >= 1);
    kiln_context_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_indices),
        cmocka_unit_test(test_division),
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_endless_loops),
        cmocka_unit_test(test_huge_results),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_wrong_lengths),
        cmocka_unit_test(test_empty_batches),
        cmocka_unit_test(test_empty_batches_with_attributes),
        cmocka_unit_test(test_destroyed_and_shared),
        cmocka_unit_test(test_numbers_of_threads),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
