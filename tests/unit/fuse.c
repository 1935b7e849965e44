/* Fusion and planning on small graphs: which groups come out, and that the checker accepts them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "passes/pass.h"

#define DIMS(...)                                                                                  \
    (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                            \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef void build_fn(kiln_graph *graph);

/* Builds, fuses and plans; `expected` lists the groups' kinds and `arena` the bytes (-1: any);
 * `explained` is in the explanation. */
typedef struct fuse_case {
    build_fn *build;
    bool is_unfused;
    const char *expected;
    int64_t arena;
    const char *explained;
} fuse_case;

static void list_kinds(const kiln_schedule *schedule, kiln_text *text)
{
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        if (i) kiln_text_append(text, " ");
        kiln_text_append(text, kiln_group_kind_name(schedule->groups.at[i].kind));
    }
}

static void run_case(const fuse_case *test)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_graph *graph = kiln_graph_open(&scope, NULL, "test");
        test->build(graph);
        kiln_pipeline pipeline = {.scope = &scope,
                                  .machine = kiln_machine_find("x86-64-v4"),
                                  .n_threads = 2,
                                  .is_unfused = test->is_unfused};
        kiln_schedule *schedule = kiln_fuse(&pipeline, graph);
        kiln_plan_memory(&pipeline, schedule);
        kiln_text text = {.arena = &scope.arena}, dump = {.arena = &scope.arena};
        list_kinds(schedule, &text);
        kiln_schedule_print(schedule, &dump);
        kiln_schedule_explain(schedule, &dump);
        if (strcmp(kiln_text_string(&text), test->expected) != 0)
            print_error("%s", kiln_text_string(&dump));
        assert_string_equal(kiln_text_string(&text), test->expected);
        if (test->explained && !strstr(kiln_text_string(&dump), test->explained))
            fail_msg("%s; expected %s", kiln_text_string(&dump), test->explained);
        if (test->arena >= 0) assert_int_equal(schedule->arena_bytes, test->arena);
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}

static kiln_value input(kiln_graph *graph, const char *name, uint32_t rank, const int64_t *dims)
{
    return kiln_add_input(graph, kiln_graph_tensor(graph, KILN_f32, rank, dims), name, false);
}

static kiln_value binary(kiln_graph *graph, kiln_op op, kiln_value a, kiln_value b)
{
    return kiln_add_binary(graph, op, a, b);
}

static kiln_value softmax(kiln_graph *graph, kiln_value x)
{
    int64_t last = (int64_t)kiln_graph_type(graph, x)->rank - 1;
    kiln_value most = kiln_add_reduce(graph, KILN_OP_reduce_max, x, 1, &last);
    kiln_value shifted = binary(graph, KILN_OP_sub, x, kiln_add_unreduce(graph, most, x, 1, &last));
    kiln_value e = kiln_add_unary(graph, KILN_OP_exp, shifted);
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, e, 1, &last);
    return binary(graph, KILN_OP_div, e, kiln_add_unreduce(graph, sum, x, 1, &last));
}

static void build_softmax(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(64, 100));
    kiln_value scaled = binary(graph, KILN_OP_mul, x, kiln_add_splat_like(graph, x, 0.125));
    kiln_add_output(graph, softmax(graph, scaled), "y");
}

static kiln_value row_mean(kiln_graph *graph, kiln_value x)
{
    int64_t last = (int64_t)kiln_graph_type(graph, x)->rank - 1;
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, x, 1, &last);
    return binary(graph, KILN_OP_mul, sum, kiln_add_splat_like(graph, sum, 0.01));
}

/* As an importer writes it: the mean keeps its axis as a dim of 1. */
static void build_layer_norm(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(8, 64, 100)), r = input(graph, "r", DIMS(8, 64, 100));
    kiln_value h = binary(graph, KILN_OP_add, kiln_add_unary(graph, KILN_OP_erf, x), r);
    kiln_value mean = kiln_add_reshape(graph, row_mean(graph, h), DIMS(8, 64, 1));
    kiln_value centred =
        binary(graph, KILN_OP_sub, h, kiln_add_broadcast_to(graph, mean, DIMS(8, 64, 100)));
    kiln_value variance = row_mean(graph, binary(graph, KILN_OP_mul, centred, centred));
    kiln_value scale =
        kiln_add_unary(graph, KILN_OP_rsqrt, kiln_add_reshape(graph, variance, DIMS(8, 64, 1)));
    kiln_value y =
        binary(graph, KILN_OP_mul, centred, kiln_add_broadcast_to(graph, scale, DIMS(8, 64, 100)));
    kiln_add_output(graph, y, "y");
}

static kiln_value dot(kiln_graph *graph, kiln_value a, kiln_value b)
{
    static const int64_t one = 1, zero = 0;
    kiln_attrs attrs = {.family = KILN_FAMILY_dot};
    attrs.dot.lhs_contract = (kiln_ints){1, &one};
    attrs.dot.rhs_contract = (kiln_ints){1, &zero};
    attrs.dot.accumulate = KILN_f32;
    kiln_value inputs[] = {a, b};
    kiln_node_spec spec = {
        .op = KILN_OP_dot_general, .inputs = inputs, .n_inputs = 2, .attrs = &attrs};
    return kiln_graph_add(graph, &spec);
}

static void build_mlp(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(256, 200)), w = input(graph, "w", DIMS(200, 100));
    kiln_value bias = input(graph, "bias", DIMS(100)), w2 = input(graph, "w2", DIMS(100, 10));
    kiln_value h = dot(graph, x, w);
    h = binary(graph, KILN_OP_add, h, kiln_add_broadcast_to(graph, bias, DIMS(256, 100)));
    h = binary(graph, KILN_OP_max, h, kiln_add_splat_like(graph, h, 0));
    kiln_add_output(graph, softmax(graph, dot(graph, h, w2)), "y");
}

/* One value feeds a chain and, whole, another output: one kernel, two outputs. */
static void build_two_outputs(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(1000));
    kiln_value e = kiln_add_unary(graph, KILN_OP_exp, x);
    kiln_add_output(graph, e, "e");
    kiln_add_output(graph, binary(graph, KILN_OP_add, e, x), "sum");
}

/* a -> contraction -> c, and a -> c: nothing may merge a with c around the contraction. */
static void build_diamond(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(64, 64)), w = input(graph, "w", DIMS(64, 64));
    kiln_value a = kiln_add_unary(graph, KILN_OP_exp, x);
    kiln_value d = dot(graph, a, w);
    kiln_add_output(graph, binary(graph, KILN_OP_add, d, a), "y");
}

static void build_column(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(100, 64));
    int64_t axis = 0;
    kiln_value a = binary(graph, KILN_OP_mul, x, x);
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, x, 1, &axis);
    kiln_value squares = kiln_add_reduce(graph, KILN_OP_reduce_sum, a, 1, &axis);
    kiln_add_output(graph, kiln_add_unary(graph, KILN_OP_sqrt, squares), "norm");
    kiln_add_output(graph, sum, "sum");
}

/* Inputs and constants as outputs, and one value twice: copies, no groups. */
static void build_copies(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(4, 5));
    kiln_value e = kiln_add_unary(graph, KILN_OP_exp, x);
    kiln_add_output(graph, kiln_add_reshape(graph, x, DIMS(20)), "same");
    kiln_add_output(graph, e, "e");
    kiln_add_output(graph, kiln_add_reshape(graph, e, DIMS(20)), "flat");
}

/* A transposed operand whose axes are merged is no strided memory: it is copied first. */
static void build_unstrided(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(4, 8, 16)), w = input(graph, "w", DIMS(32, 64));
    kiln_value t = kiln_add_transpose(graph, x, (int64_t[]){1, 0, 2});
    kiln_add_output(graph, dot(graph, kiln_add_reshape(graph, t, DIMS(16, 32)), w), "y");
}

/* A chain of elementwise steps around contractions: memory of dying inputs is taken over. */
static void build_in_place(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(64, 64)), w = input(graph, "w", DIMS(64, 64));
    kiln_value a = dot(graph, x, w);
    kiln_value s = softmax(graph, a);
    kiln_add_output(graph, dot(graph, s, w), "y");
}

static void build_taken_rows(kiln_graph *graph)
{
    kiln_value table = input(graph, "table", DIMS(1000, 64)), w = input(graph, "w", DIMS(64, 96));
    const kiln_type *indices = kiln_graph_tensor(graph, KILN_i32, DIMS(32));
    kiln_value at = kiln_add_input(graph, indices, "at", false);
    kiln_attrs attrs = {.family = KILN_FAMILY_axis, .axis = {.axis = 0}};
    kiln_value inputs[] = {table, at};
    kiln_node_spec spec = {.op = KILN_OP_take, .inputs = inputs, .n_inputs = 2, .attrs = &attrs};
    kiln_add_output(graph, dot(graph, kiln_graph_add(graph, &spec), w), "y");
}

static void fused_cases(void **state)
{
    static const fuse_case cases[] = {
        {build_softmax, false, "row", 0},
        {build_softmax, true, "pointwise row pointwise pointwise row pointwise", 25600 + 256},
        {build_layer_norm, false, "row", 0},
        {build_mlp, false, "dot dot row", -1},
        {build_two_outputs, false, "pointwise", 0},
        {build_two_outputs, true, "pointwise pointwise", 0},
        {build_diamond, false, "pointwise dot", -1},
        {build_column, false, "column", 0},
        {build_copies, false, "pointwise", 0},
        {build_unstrided, false, "pointwise dot", 16 * 32 * 4},
        {build_in_place, false, "attention", -1},
        {build_taken_rows, false, "dot", 0, "rows read by take"},
        {build_taken_rows, true, "pointwise dot", 32 * 64 * 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fused_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
