/* If, Loop and Scan of ONNX that depend on the data, or are too long to unroll: imported as
 * regions, evaluated and compiled; loops whose values change their shapes, unrolled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"
#include "onnx_bytes.h"

static kiln_context *context;

/* A graph of nodes; names of inputs and outputs with their types come after. */
typedef struct graph_bytes {
    bytes at;
} graph_bytes;

static void add_node(graph_bytes *graph, bytes made)
{
    put(&graph->at, 1, made);
}

static void add_input(graph_bytes *graph, bytes made)
{
    put(&graph->at, 11, made);
}

static void add_output(graph_bytes *graph, bytes made)
{
    put(&graph->at, 12, made);
}

static bytes attribute_graph(const char *name, graph_bytes graph)
{
    bytes out = {0};
    put_text(&out, 1, name);
    put_text(&graph.at, 2, name);
    put(&out, 6, graph.at);
    put_int(&out, 20, 5);
    return out;
}

static bytes f32_pair(const char *name)
{
    return value(name, FLOAT, 1, (const int64_t[]){2});
}

static bytes scalar(const char *name, int dtype)
{
    return value(name, dtype, 0, NULL);
}

/* A body that carries the pair v to w, for as long as `on`. */
static void add_signature(graph_bytes *body)
{
    add_input(body, scalar("i", INT64));
    add_input(body, scalar("c", BOOL));
    add_input(body, f32_pair("v"));
    add_output(body, scalar("on", BOOL));
    add_output(body, f32_pair("w"));
}

static void add_loop(graph_bytes *graph, graph_bytes body, const char *operands,
                     const char *results)
{
    bytes loop = node("Loop", operands, results);
    put(&loop, 5, attribute_graph("body", body));
    add_node(graph, loop);
}

static bytes constant(const char *name, int dtype, const void *data, size_t n)
{
    return tensor(name, dtype, 0, NULL, data, n);
}

/* Imports, then evaluates and runs; "y" must be `expected`, two numbers. */
static void check_as(int is_region, graph_bytes graph, const void *const *inputs,
                     const float *expected)
{
    put_text(&graph.at, 2, "g");
    bytes file = model(graph.at, 17);
    kiln_graph *made = NULL;
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_import_onnx_memory(context, file.at, file.n, NULL, &made))
        fail_msg("%s", kiln_context_message(context));
    assert_int_equal(made->depth > 0, is_region);
    kiln_tensor ins[4], out = {KILN_f32, 1, (const int64_t[]){2}, (float[2]){0}, 8};
    for (uint32_t i = 0; i < made->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(made, made->inputs.at[i]);
        ins[i] = (kiln_tensor){type->dtype, type->rank, type->dims,
                               (void *)(uintptr_t)inputs[i], (size_t)type->bytes};
    }
    if (kiln_evaluate(made, ins, made->inputs.n, &out, 1))
        fail_msg("%s", kiln_graph_message(made));
    assert_memory_equal(out.data, expected, 8);
    memset(out.data, 0, 8);
    if (kiln_compile(made, NULL, &executable)) fail_msg("%s", kiln_graph_message(made));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, ins, made->inputs.n, &out, 1))
        fail_msg("%s", kiln_workspace_message(workspace));
    assert_memory_equal(out.data, expected, 8);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(made);
}

static void check(graph_bytes graph, const void *const *inputs, const float *expected)
{
    check_as(1, graph, inputs, expected);
}

/* y = p ? x + k : neg(-x * k): a constant and a value of the graph around are captured, one by
 * both branches. */
static graph_bytes if_graph(void)
{
    graph_bytes graph = {0}, then = {0}, other = {0};
    float two = 2;
    add_node(&then, node("Add", "x,k", "t"));
    add_output(&then, f32_pair("t"));
    add_node(&other, node("Mul", "n,k", "m"));
    add_node(&other, node("Sub", "m,x", "e"));
    add_output(&other, f32_pair("e"));
    bytes choice = node("If", "p", "y");
    put(&choice, 5, attribute_graph("then_branch", then));
    put(&choice, 5, attribute_graph("else_branch", other));
    add_node(&graph, node("Neg", "x", "n"));
    add_node(&graph, choice);
    put(&graph.at, 5, constant("k", FLOAT, &two, 4));
    add_input(&graph, scalar("p", BOOL));
    add_input(&graph, f32_pair("x"));
    add_output(&graph, f32_pair("y"));
    return graph;
}

static void test_a_branch_is_chosen_by_the_data(void **state)
{
    (void)state;
    const float x[] = {1, 5};
    check(if_graph(), (const void *[]){&(bool){true}, x}, (const float[]){3, 7});
    check(if_graph(), (const void *[]){&(bool){false}, x}, (const float[]){-3, -15});
}

/* v = v * k + i while max(v) < 100; the number of trips is left out, an input, or INT64_MAX. */
static graph_bytes loop_graph(const char *operands)
{
    graph_bytes graph = {0}, body = {0};
    float two = 2, hundred = 100;
    int64_t many = INT64_MAX;
    bool yes = true;
    bytes cast = node("Cast", "i", "f"), most = node("ReduceMax", "w", "m");
    put(&cast, 5, attribute_int("to", FLOAT));
    put(&most, 5, attribute_int("keepdims", 0));
    add_node(&body, node("Mul", "v,k", "d"));
    add_node(&body, cast);
    add_node(&body, node("Add", "d,f", "w"));
    add_node(&body, most);
    add_node(&body, node("Less", "m,h", "on"));
    add_signature(&body);
    add_loop(&graph, body, operands, "y");
    put(&graph.at, 5, constant("k", FLOAT, &two, 4));
    put(&graph.at, 5, constant("h", FLOAT, &hundred, 4));
    put(&graph.at, 5, constant("many", INT64, &many, 8));
    put(&graph.at, 5, constant("yes", BOOL, &yes, 1));
    add_input(&graph, f32_pair("x"));
    add_input(&graph, scalar("n", INT64));
    add_output(&graph, f32_pair("y"));
    return graph;
}

static void test_a_loop_ends_by_the_data(void **state)
{
    (void)state;
    const float x[] = {1, 2};
    const int64_t n = 3, none = 0;
    /* (1, 2) (2, 4) (5, 9) (12, 20) (27, 43) (58, 90) (121, 185) */
    check(loop_graph(",yes,x"), (const void *[]){x, &n}, (const float[]){121, 185});
    check(loop_graph("many,yes,x"), (const void *[]){x, &n}, (const float[]){121, 185});
    check(loop_graph("n,yes,x"), (const void *[]){x, &n}, (const float[]){12, 20});
    check(loop_graph("n,,x"), (const void *[]){x, &none}, x);
}

/* 9,000 trips: v + 1 each, and the rows of the running value, of which the last counts. */
static void test_a_long_loop_stacks_its_rows(void **state)
{
    (void)state;
    graph_bytes graph = {0}, body = {0};
    float one = 1;
    int64_t trips = 9000, last = 8999;
    add_node(&body, node("Add", "v,k", "w"));
    add_node(&body, node("Identity", "w", "row"));
    add_node(&body, node("Identity", "c", "on"));
    add_signature(&body);
    add_output(&body, f32_pair("row"));
    add_loop(&graph, body, "n,,x", "v,rows");
    add_node(&graph, node("Gather", "rows,last", "y"));
    put(&graph.at, 5, constant("k", FLOAT, &one, 4));
    put(&graph.at, 5, constant("n", INT64, &trips, 8));
    put(&graph.at, 5, constant("last", INT64, &last, 8));
    add_input(&graph, f32_pair("x"));
    add_output(&graph, f32_pair("y"));
    const float x[] = {0, 0.5f};
    check(graph, (const void *[]){x}, (const float[]){9000, 9000.5f});
}

/* v = (v, i) each trip; y is what stands at places 0 and `last`. Bodies have `n_more` nodes more.
 */
static graph_bytes growing_graph(const char *operands, int64_t last, int n_more)
{
    graph_bytes graph = {0}, body = {0};
    const int64_t trips[] = {5, 1000}, places[] = {0, last}, one = 1;
    bytes cast = node("Cast", "i", "f"), joined = node("Concat", "v,r", "w");
    put(&cast, 5, attribute_int("to", FLOAT));
    put(&joined, 5, attribute_int("axis", 0));
    add_node(&body, cast);
    add_node(&body, node("Reshape", "f,one", "r"));
    for (int i = 0; i < n_more; i++)
        add_node(&body, node("Abs", "r", (char[]){(char)('A' + i), 0}));
    add_node(&body, joined);
    add_node(&body, node("Identity", "c", "on"));
    add_signature(&body);
    add_loop(&graph, body, operands, "z");
    add_node(&graph, node("Gather", "z,places", "y"));
    put(&graph.at, 5, constant("five", INT64, &trips[0], 8));
    put(&graph.at, 5, constant("many", INT64, &trips[1], 8));
    put(&graph.at, 5, tensor("places", INT64, 1, (const int64_t[]){2}, places, 16));
    put(&graph.at, 5, tensor("one", INT64, 1, &one, &one, 8));
    add_input(&graph, f32_pair("x"));
    if (!strncmp(operands, "n,", 2)) add_input(&graph, scalar("n", INT64));
    add_output(&graph, f32_pair("y"));
    return graph;
}

static void test_shapes_change_from_trip_to_trip(void **state)
{
    (void)state;
    const float x[] = {1.5f, 2};
    check_as(0, growing_graph("five,,x", 6, 0), (const void *[]){x}, (const float[]){1.5f, 4});
    /* 18,000 nodes: more than are unrolled where a region will do */
    check_as(0, growing_graph("many,,x", 1001, 13), (const void *[]){x},
             (const float[]){1.5f, 999});
}

/* What no region can say names the node and what to do. */
static void test_shapes_that_depend_on_the_data_are_refused(void **state)
{
    (void)state;
    graph_bytes graph = growing_graph("n,,x", 2, 0);
    put_text(&graph.at, 2, "g");
    bytes file = model(graph.at, 17);
    kiln_graph *made = NULL;
    assert_int_equal(kiln_import_onnx_memory(context, file.at, file.n, NULL, &made),
                     KILN_UNSUPPORTED);
    const char *message = kiln_context_message(context);
    if (!strstr(message, "node 0 'Loop' ('Loop'): 'ai.onnx' 17 (i64, -, f32): carried value 0 is "
                         "f32[2] before a trip and f32[3] after it; expected one type, or trips "
                         "whose number is known at import"))
        fail_msg("%s", message);
    /* with the number bound there is a size */
    const int64_t three = 3;
    const kiln_value_binding bound = {"n", {KILN_i64, 0, NULL, (void *)(uintptr_t)&three, 8}};
    const kiln_import_options options = {
        .struct_bytes = sizeof options, .values = &bound, .n_values = 1};
    if (kiln_import_onnx_memory(context, file.at, file.n, &options, &made))
        fail_msg("%s", kiln_context_message(context));
    kiln_graph_destroy(made);
}

/* A sequence is carried: y = the first and the last of x, x + 1, ... , each a tensor. */
static void test_sequences_are_carried(void **state)
{
    (void)state;
    graph_bytes graph = {0}, body = {0};
    const int64_t trips = 4, last = -1;
    float one = 1;
    add_node(&body, node("SequenceInsert", "s,v", "t"));
    add_node(&body, node("Add", "v,one", "w"));
    add_node(&body, node("Identity", "c", "on"));
    add_input(&body, scalar("i", INT64));
    add_input(&body, scalar("c", BOOL));
    add_input(&body, scalar("s", FLOAT)); /* no importer reads the types of a body */
    add_input(&body, f32_pair("v"));
    add_output(&body, scalar("on", BOOL));
    add_output(&body, scalar("t", FLOAT));
    add_output(&body, f32_pair("w"));
    bytes loop = node("Loop", "trips,,empty,x", "list,w");
    put(&loop, 5, attribute_graph("body", body));
    add_node(&graph, node("SequenceEmpty", "", "empty"));
    add_node(&graph, loop);
    add_node(&graph, node("SequenceAt", "list,last", "e"));
    add_node(&graph, node("Mul", "e,x", "y"));
    put(&graph.at, 5, constant("one", FLOAT, &one, 4));
    put(&graph.at, 5, constant("trips", INT64, &trips, 8));
    put(&graph.at, 5, constant("last", INT64, &last, 8));
    add_input(&graph, f32_pair("x"));
    add_output(&graph, f32_pair("y"));
    const float x[] = {1, 2};
    check_as(0, graph, (const void *[]){x}, (const float[]){4, 10});
}

/* 30 Ifs within each other, all true: text and time grow with the depth, not with its power. */
static void test_nested_choices_take_linear_time(void **state)
{
    (void)state;
    graph_bytes inner = {0}, graph = {0};
    add_node(&inner, node("Neg", "x", "t"));
    add_output(&inner, f32_pair("t"));
    for (int i = 0; i < 30; i++) {
        graph_bytes other = {0}, outer = {0};
        add_node(&other, node("Abs", "x", "e"));
        add_output(&other, f32_pair("e"));
        bytes choice = node("If", "p", "t");
        put(&choice, 5, attribute_graph("then_branch", inner));
        put(&choice, 5, attribute_graph("else_branch", other));
        add_node(&outer, choice);
        if (i < 29) add_output(&outer, f32_pair("t"));
        inner = outer;
    }
    graph = inner;
    add_node(&graph, node("Identity", "t", "y"));
    add_input(&graph, scalar("p", BOOL));
    add_input(&graph, f32_pair("x"));
    add_output(&graph, f32_pair("y"));
    const float x[] = {1, -2};
    check(graph, (const void *[]){&(bool){true}, x}, (const float[]){-1, 2});
    check(graph, (const void *[]){&(bool){false}, x}, (const float[]){1, 2});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_branch_is_chosen_by_the_data),
        cmocka_unit_test(test_a_loop_ends_by_the_data),
        cmocka_unit_test(test_a_long_loop_stacks_its_rows),
        cmocka_unit_test(test_shapes_change_from_trip_to_trip),
        cmocka_unit_test(test_shapes_that_depend_on_the_data_are_refused),
        cmocka_unit_test(test_sequences_are_carried),
        cmocka_unit_test(test_nested_choices_take_linear_time),
    };
    kiln_context_create(
        &(kiln_context_options){.struct_bytes = sizeof(kiln_context_options), .threads = 1},
        &context);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
