/* Bad graphs, case by case (G1 to G9): what the builder, the text and binary readers and the
 * compile say to them. A row names its case, the status and a text that the sentence must contain.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "context.h"
#include "graph/graph.h"

#define DIMS(...)                                                                                  \
    (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef struct bench {
    kiln_graph *graph;
    kiln_value x, y; /* f32[2,3] and i32[3,5] */
} bench;

typedef void mistake_fn(bench *b);

static bench bench_open(void)
{
    bench b = {0};
    assert_int_equal(kiln_graph_create(context, "bad", &b.graph), KILN_OK);
    b.x = kiln_input(b.graph, "x", KILN_f32, DIMS(2, 3));
    b.y = kiln_input(b.graph, "y", KILN_i32, DIMS(3, 5));
    return b;
}

static void null_name(bench *b)
{
    kiln_input(b->graph, NULL, KILN_f32, DIMS(2));
}
static void null_data(bench *b)
{
    kiln_constant(b->graph, KILN_f32, DIMS(2), NULL);
}
static void null_options(bench *b)
{
    kiln_pad(b->graph, b->x, b->x, NULL);
}
static void null_operands(bench *b)
{
    kiln_concat(b->graph, 2, NULL, 0);
}
static void freed_handle(bench *b)
{
    bench other = bench_open();
    kiln_graph_destroy(other.graph);
    kiln_exp(b->graph, other.x);
}
static void foreign_handle(bench *b)
{
    bench other = bench_open();
    kiln_output(b->graph, "z", other.x);
    kiln_graph_destroy(other.graph);
}
static void large_index(bench *b)
{
    kiln_neg(b->graph, (kiln_value){4000000000u, b->x.graph});
}
static void axis_out_of_range(bench *b)
{
    kiln_softmax(b->graph, b->x, -3);
}
static void item_of_a_tensor(bench *b)
{
    kiln_item(b->graph, b->x, 1);
}

static void rank_17(bench *b)
{
    static const int64_t dims[17] = {1};
    kiln_input(b->graph, "z", KILN_f32, 17, dims);
}
static void dim_below_0(bench *b)
{
    kiln_splat(b->graph, KILN_f32, DIMS(2, -1), 0);
}
static void dims_overflow(bench *b)
{
    kiln_broadcast(b->graph, kiln_scalar(b->graph, KILN_f32, 1),
                   DIMS((int64_t)1 << 40, (int64_t)1 << 40), NULL);
}
static void dims_overflow_behind_0(bench *b)
{
    kiln_input(b->graph, "z", KILN_f32, DIMS(0, (int64_t)1 << 62, 4));
}

static void two_dtypes(bench *b)
{
    kiln_add(b->graph, b->x, b->y);
}
static void inner_dims(bench *b)
{
    kiln_matmul(b->graph, b->x, kiln_reshape(b->graph, b->x, DIMS(2, 3)));
}
static void broadcast_clash(bench *b)
{
    kiln_mul(b->graph, b->x, kiln_splat(b->graph, KILN_f32, DIMS(2, 4), 1));
}
static void constant_bytes(bench *b)
{
    int64_t dims[] = {6};
    kiln_constant_tensor(b->graph, &(kiln_tensor){KILN_f32, 1, dims, "abcd", 4});
}
static void borrowed_bytes(bench *b)
{
    int64_t dims[] = {6};
    kiln_constant_borrowed(b->graph, &(kiln_tensor){KILN_i8, 1, dims, "abcdefgh", 8});
}

/* A region is finished by the first node that takes it. */
static void added_after_the_end(bench *b)
{
    kiln_graph *region;
    assert_int_equal(kiln_graph_create(context, "r", &region), KILN_OK);
    kiln_value p = kiln_input(region, "p", KILN_f32, DIMS(2, 3));
    kiln_output(region, "q", kiln_neg(region, p));
    kiln_output(b->graph, "z",
                kiln_item(b->graph, kiln_call(b->graph, region, &(kiln_arguments){1, &b->x}), 0));
    kiln_exp(region, p);
    assert_int_equal(kiln_graph_status(region), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(region), "finished"));
    assert_int_equal(kiln_graph_status(b->graph), KILN_OK);
    kiln_graph_destroy(region);
    kiln_label(b->graph, b->x, "end of the case"); /* the sentence that the row expects */
}

static const struct {
    const char *name;
    mistake_fn *make;
    kiln_status status;
    const char *sentence;
} mistakes[] = {
    {"G1 null name", null_name, KILN_INVALID, "input: the name is NULL"},
    {"G1 null data", null_data, KILN_INVALID, "constant: data is NULL; expected 8 bytes"},
    {"G1 null options", null_options, KILN_INVALID, "pad: options is NULL"},
    {"G1 null operands", null_operands, KILN_INVALID, "concat: "},
    {"G1 freed handle", freed_handle, KILN_INVALID, "exp: operand 0 belongs to another graph"},
    {"G1 foreign handle", foreign_handle, KILN_INVALID, "belongs to another graph"},
    {"G1 index out of range", large_index, KILN_INVALID, "neg: operand 0"},
    {"G1 axis out of range", axis_out_of_range, KILN_INVALID,
     "softmax: axis is -3 for rank 2; expected -2 to 1"},
    {"G1 item of a tensor", item_of_a_tensor, KILN_INVALID, "item: "},
    {"G2 rank 17", rank_17, KILN_INVALID, "shape: rank is 17; expected at most 16"},
    {"G2 dim -1", dim_below_0, KILN_INVALID, "shape: dim 1 is -1; expected 0 or more"},
    {"G2 product overflows", dims_overflow, KILN_INVALID, "overflows"},
    {"G2 product overflows behind 0", dims_overflow_behind_0, KILN_INVALID, "overflows"},
    {"G3 two dtypes", two_dtypes, KILN_INVALID, "add: operands are f32[2,3] and i32[3,5]"},
    {"G3 inner dims", inner_dims, KILN_INVALID, "dot_general: operands are f32[2,3] and f32[2,3]"},
    {"G3 broadcast clash", broadcast_clash, KILN_INVALID,
     "mul: operands are f32[2,3] and f32[2,4]"},
    {"G4 too few bytes", constant_bytes, KILN_INVALID, "4 bytes for f32[6]; expected 24"},
    {"G4 too many bytes", borrowed_bytes, KILN_INVALID, "8 bytes for i8[6]; expected 6"},
    {"G5 added after the end", added_after_the_end, KILN_INVALID, "label: \"end of the case\""},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        bench b = bench_open();
        kiln_executable *executable = NULL;
        mistakes[i].make(&b);
        kiln_output(b.graph, "last", b.x);
        kiln_status status = kiln_compile(b.graph, NULL, &executable);
        if (status != mistakes[i].status ||
            !strstr(kiln_graph_message(b.graph), mistakes[i].sentence))
            fail_msg("%s: %s: %s", mistakes[i].name, kiln_status_name(status),
                     kiln_graph_message(b.graph));
        assert_null(executable);
        kiln_graph_destroy(b.graph);
    }
}

static kiln_status run_graph(kiln_graph *graph, const kiln_tensor *inputs, uint32_t n_inputs,
                             kiln_tensor *output)
{
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    kiln_status status = kiln_compile(graph, NULL, &executable);
    if (status) fail_msg("%s", kiln_graph_message(graph));
    if (!status) status = kiln_workspace_create(executable, &workspace);
    if (!status) status = kiln_run(workspace, inputs, n_inputs, output, 1);
    if (status) fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return status;
}

/* G2: dims of 0 are accepted, and what comes out is empty, or the identity of what was reduced. */
static void test_empty_dims(void **state)
{
    (void)state;
    static const int64_t empty[] = {0, 3}, sums[] = {3};
    float out[3] = {9, 9, 9};
    kiln_graph *graph;
    kiln_tensor input = {KILN_f32, 2, empty, NULL, 0}, none = {KILN_f32, 2, empty, NULL, 0};
    kiln_tensor output = {KILN_f32, 1, sums, out, sizeof out};
    assert_int_equal(kiln_graph_create(context, "empty", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, empty);
    kiln_output(graph, "y", kiln_softmax(graph, kiln_exp(graph, x), 1));
    assert_int_equal(run_graph(graph, &input, 1, &none), KILN_OK);
    kiln_graph_destroy(graph);
    assert_int_equal(kiln_graph_create(context, "empty", &graph), KILN_OK);
    x = kiln_input(graph, "x", KILN_f32, 2, empty);
    kiln_output(graph, "y", kiln_reduce_sum(graph, x, 1, (int64_t[]){0}));
    assert_int_equal(run_graph(graph, &input, 1, &output), KILN_OK);
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 0);
    kiln_graph_destroy(graph);
}

/* G5: a graph without an output; and one that goes on after a compile, which changes nothing. */
static void test_the_end_of_a_graph(void **state)
{
    (void)state;
    bench b = bench_open();
    kiln_executable *first = NULL, *second = NULL;
    assert_int_equal(kiln_compile(b.graph, NULL, &first), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(b.graph), "it has no output; expected one or more"));
    kiln_output(b.graph, "a", kiln_exp(b.graph, b.x));
    assert_int_equal(kiln_compile(b.graph, NULL, &first), KILN_OK);
    kiln_output(b.graph, "b", kiln_neg(b.graph, b.x));
    assert_int_equal(kiln_compile(b.graph, NULL, &second), KILN_OK);
    assert_int_equal(kiln_executable_program(first)->n_outputs, 1);
    assert_int_equal(kiln_executable_program(second)->n_outputs, 2);
    kiln_executable_destroy(first);
    kiln_executable_destroy(second);
    kiln_output(b.graph, "b", kiln_neg(b.graph, b.x));
    assert_int_equal(kiln_graph_status(b.graph), KILN_INVALID);
    assert_non_null(strstr(kiln_graph_message(b.graph), "the name \"b\""));
    kiln_graph_destroy(b.graph);
}

/* G6: loops 64 deep are accepted, one more is a limit. The other sizes are in unit/linear.c. */
static kiln_status nest_loops(int n_deep, char *out_message)
{
    static char text[65536];
    size_t n = (size_t)sprintf(text, "graph g(%%x: i64[], %%n: i64[]) {\n");
    for (int i = 0; i < n_deep; i++) {
        n += (size_t)sprintf(
            text + n,
            "  %%0: (i64[], i64[]) = while %%x, %%n {n_carried = 2, limit = 9, regions = ["
            "graph c(%%x: i64[], %%n: i64[]) { %%0: bool[] = lt %%x, %%n return %%0 },"
            "graph b(%%x: i64[], %%n: i64[]) {\n");
    }
    n += (size_t)sprintf(text + n, "  %%0: i64[] = neg %%x return %%n, %%n }");
    for (int i = 0; i < n_deep; i++) {
        n += (size_t)sprintf(text + n, "]}\n  %%1: i64[] = item %%0 {index = 0}"
                                       "  %%2: i64[] = item %%0 {index = 1} return %%1, %%2 }");
    }
    kiln_graph *graph = NULL;
    kiln_status status = kiln_parse_text(context, text, n, &graph);
    strcpy(out_message, kiln_context_message(context));
    kiln_graph_destroy(graph);
    return status;
}

static void test_nested_loops(void **state)
{
    (void)state;
    char message[1100];
    if (nest_loops(63, message)) fail_msg("G6 63 loops: %s", message);
    assert_int_equal(nest_loops(65, message), KILN_LIMIT);
    assert_non_null(strstr(message, "64"));
}

static const struct {
    const char *name, *text;
    kiln_status status;
    const char *sentence;
} texts[] = {
    {"G8 unbalanced", "graph g(%x: f32[2) {", KILN_MODEL, "1:18: found \")\"; expected ,"},
    {"G8 never closed", "graph g(%x: f32[2]) {\n return %x", KILN_MODEL, "2:11: "},
    {"G8 1e999", "graph g() {\n %0: f32[] = constant {value = splat 1e999} return %0 }", KILN_MODEL,
     "2:38: 1e999 is out of range for f32"},
    {"G8 a dim of 30 digits", "graph g(%x: f32[999999999999999999999999999999]) { return %x }",
     KILN_MODEL, "1:1"},
    {"G8 rank 17", "graph g(%x: f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]) { return %x }", KILN_MODEL,
     "1:"},
    {"G8 deep types", "graph g(%x: ((((((((f32[2])))))))) { return %x }", KILN_MODEL,
     "1:14: found \"(\"; expected a dtype"},
    {"G8 a place in a line", "graph g(%x: f32[2]) {\n\t%0: f32[2] = exp %z\n return %0 }",
     KILN_MODEL,
     "2:19: %\"z\" is not defined above\n   %0: f32[2] = exp %z\n                    ^"},
    {"G8 a place at the end", "graph g(%x: f32[2]) {\n return %x", KILN_MODEL,
     "\n   return %x\n            ^"},
    {"G8 a place in a long line",
     "graph g(%xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: f32[2]) "
     "{ %0: \x01\xff return %0 }",
     KILN_MODEL,
     "1:99: found \"\\x01\"; expected a dtype\n"
     "  xxxxxxxxxxxxxxxxxxxxxxxx: f32[2]) { %0: ?? return %0 }\n"
     "                                          ^"},
    {"G8 an id twice",
     "graph g(%x: f32[2]) {\n %0: f32[2] = exp %x\n %0: f32[2] = neg %x return %0 }", KILN_MODEL,
     "3:2: %0 is defined twice"},
    {"G7 a newer text", "kiln 2\ngraph g() {\n}", KILN_ABI, "1:6: another version"},
};

/* G8; a number of 10^6 digits and a million brackets are in unit/text.c. */
static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kiln_graph *graph = NULL;
        kiln_status status = kiln_parse_text(context, texts[i].text, strlen(texts[i].text), &graph);
        const char *message = kiln_context_message(context);
        if (status != texts[i].status || !strstr(message, texts[i].sentence) || graph)
            fail_msg("%s: %s: %s", texts[i].name, kiln_status_name(status), message);
    }
}

/* G9: a graph that was changed behind the builder's back is found before code is made of it. All
 * kinds of changes are in unit/verify.c. */
static void test_changed_graphs(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        bench b = bench_open();
        kiln_executable *executable = NULL;
        kiln_value z = kiln_exp(b.graph, b.x);
        kiln_output(b.graph, "z", z);
        kiln_node *node = b.graph->nodes.at[z.id];
        const kiln_type *type = node->type;
        kiln_value *operand = (kiln_value *)(uintptr_t)node->inputs;
        if (kind == 0) node->type = kiln_graph_type(b.graph, b.y);
        if (kind == 1) operand->id = z.id;
        if (kind == 2) node->op = KILN_N_OPS;
        assert_int_equal(kiln_compile(b.graph, NULL, &executable), KILN_INTERNAL);
        if (!strstr(kiln_graph_message(b.graph), "node "))
            fail_msg("G9: %s", kiln_graph_message(b.graph));
        node->op = KILN_OP_exp;
        node->type = type;
        *operand = b.x;
        kiln_graph_destroy(b.graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_empty_dims),
        cmocka_unit_test(test_the_end_of_a_graph),
        cmocka_unit_test(test_nested_loops),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_changed_graphs),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
