/* Graph passes on large graphs: chains that rules walk along, constants within the folding budget,
 * and what a strict compile leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "passes/fold.h"
#include "passes/pass.h"

#define DIMS(...)                                                                                  \
    (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                            \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef void body_fn(kiln_pipeline *pipeline, kiln_graph *graph);

static void run_body(body_fn *body)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_pipeline pipeline = {.scope = &scope, .machine = kiln_machine_find("x86-64-v3")};
        body(&pipeline, kiln_graph_open(&scope, NULL, "test"));
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}

static kiln_value input(kiln_graph *graph, const char *name, uint32_t rank, const int64_t *dims)
{
    return kiln_add_input(graph, kiln_graph_tensor(graph, KILN_f32, rank, dims), name, false);
}

static uint32_t count_op(const kiln_graph *graph, kiln_op op)
{
    uint32_t n = 0;
    for (uint32_t id = 1; id < graph->nodes.n; id++) n += graph->nodes.at[id]->op == op;
    return n;
}

/* Elementwise nodes over a view: each moves under it. */
static kiln_value add_chain(kiln_graph *graph, kiln_value a, int n)
{
    kiln_value half = kiln_add_splat_like(graph, a, 0.5), at = a;
    for (int i = 0; i < n; i++) {
        at = i % 2 ? kiln_add_unary(graph, KILN_OP_tanh, at)
                   : kiln_add_binary(graph, KILN_OP_add, at, half);
    }
    return at;
}

static void chain_body(kiln_pipeline *pipeline, kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(6)), m = input(graph, "m", DIMS(2, 3));
    kiln_add_output(graph, add_chain(graph, kiln_add_reshape(graph, x, DIMS(2, 3)), 5000),
                    "reshaped");
    kiln_add_output(
        graph, add_chain(graph, kiln_add_broadcast(graph, x, DIMS(4, 6), (int64_t[]){1}), 5000),
        "repeated");
    kiln_value turned =
        kiln_add_transpose(graph, kiln_add_unary(graph, KILN_OP_exp, m), (int64_t[]){1, 0});
    kiln_add_output(graph, add_chain(graph, turned, 5000), "turned");
    kiln_graph *result = kiln_pipeline_run(pipeline, graph);
    /* The first two chains are one chain over x. */
    assert_int_equal(count_op(result, KILN_OP_tanh), 2 * 2500);
    for (uint32_t i = 0; i < result->outputs.n; i++) {
        const kiln_node *last = kiln_graph_node(result, result->outputs.at[i].value);
        assert_int_equal(kiln_node_row(last)->class_, KILN_VIEW);
    }
}

static void transposes_body(kiln_pipeline *pipeline, kiln_graph *graph)
{
    kiln_value at = input(graph, "x", DIMS(2, 3, 5));
    for (int i = 0; i < 10000; i++) at = kiln_add_transpose(graph, at, (int64_t[]){1, 2, 0});
    kiln_add_output(graph, at, NULL);
    kiln_graph *result = kiln_pipeline_run(pipeline, graph);
    assert_int_equal(result->nodes.n, 3); /* 10000 turns are one */
}

static void long_body(kiln_pipeline *pipeline, kiln_graph *graph)
{
    kiln_value x = input(graph, "x", DIMS(8)), at = x;
    for (int i = 0; i < 100000; i++) at = kiln_add_binary(graph, KILN_OP_add, at, x);
    kiln_add_output(graph, at, NULL);
    assert_int_equal(kiln_pipeline_run(pipeline, graph)->nodes.n, 100002);
}

static void test_rules_walk_chains_in_few_sweeps(void **state)
{
    (void)state;
    run_body(chain_body);
    run_body(transposes_body);
    run_body(long_body);
}

/* A weight of 2^20 elements, of which no two neighbours are equal. */
static kiln_value large_constant(kiln_graph *graph)
{
    uint32_t n = 1u << 20;
    float *data = kiln_new_array(&graph->scope->arena, float, n);
    for (uint32_t i = 0; i < n; i++) data[i] = (float)(i % 1000);
    return kiln_add_constant(graph, kiln_graph_tensor(graph, KILN_f32, DIMS(1024, 1024)), data);
}

static void large_body(kiln_pipeline *pipeline, kiln_graph *graph)
{
    kiln_value w = large_constant(graph), x = input(graph, "x", DIMS(1024, 1024));
    kiln_value doubled = kiln_add_binary(graph, KILN_OP_add, w, w);
    kiln_value turned = kiln_add_transpose(graph, doubled, (int64_t[]){1, 0});
    kiln_value curved = kiln_add_unary(graph, KILN_OP_exp, kiln_add_unary(graph, KILN_OP_neg, w));
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_add, x, turned), "exact");
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_mul, x, curved), "inexact");
    kiln_graph *result = kiln_pipeline_run(pipeline, graph);
    assert_int_equal(count_op(result, KILN_OP_transpose), 0);
    assert_int_equal(count_op(result, KILN_OP_neg), 0);
    /* No compiler for this machine is at hand here, and another's e^x may round otherwise. */
    assert_int_equal(count_op(result, KILN_OP_exp), 1);
    const kiln_node *sum = kiln_graph_node(result, result->outputs.at[0].value);
    const kiln_node *folded = kiln_graph_node(result, sum->inputs[1]);
    const float *data = folded->attrs->literal.value.data;
    assert_true(data[1] == 2 * (float)(1024 % 1000));
}

static uint32_t n_runs;

static kiln_status run_constant(void *user, const kiln_graph *graph, kiln_tensor *outputs,
                                kiln_error *error)
{
    assert_ptr_equal(user, &n_runs);
    assert_int_equal(graph->inputs.n, 0);
    n_runs++;
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) kiln_eval(&scope, graph, NULL, outputs);
    return kiln_scope_close(&scope);
}

static void run_body_constant(kiln_pipeline *pipeline, kiln_graph *graph)
{
    pipeline->run_constant = run_constant;
    pipeline->run_constant_user = &n_runs;
    kiln_value w = large_constant(graph), x = input(graph, "x", DIMS(1024, 1024));
    kiln_value curved = kiln_add_unary(graph, KILN_OP_exp, w);
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_mul, x, curved), NULL);
    kiln_graph *result = kiln_pipeline_run(pipeline, graph);
    assert_int_equal(count_op(result, KILN_OP_exp), 0);
    assert_int_equal(n_runs, 1);
}

/* Every permutation of awkward dims, elements of every size: element by element. */
static void check_transpose(kiln_graph *graph, kiln_dtype dtype, const int64_t *permutation)
{
    static const int64_t dims[] = {17, 3, 1, 33};
    const kiln_type *type = kiln_graph_tensor(graph, dtype, 4, dims);
    size_t size = kiln_dtype_bytes(dtype);
    unsigned char *from = kiln_arena_alloc(&graph->arena, (size_t)type->bytes);
    unsigned char *to = kiln_arena_alloc(&graph->arena, (size_t)type->bytes);
    for (int64_t i = 0; i < type->bytes; i++) from[i] = (unsigned char)(i * 31 + i / 251);
    kiln_fold_transpose(type, permutation, from, to);
    int64_t at[4] = {0}, step[4] = {99, 33, 33, 1}, n = 0;
    for (at[0] = 0; at[0] < dims[permutation[0]]; at[0]++)
        for (at[1] = 0; at[1] < dims[permutation[1]]; at[1]++)
            for (at[2] = 0; at[2] < dims[permutation[2]]; at[2]++)
                for (at[3] = 0; at[3] < dims[permutation[3]]; at[3]++, n++) {
                    int64_t source = 0;
                    for (int i = 0; i < 4; i++) source += at[i] * step[permutation[i]];
                    assert_memory_equal(to + (size_t)n * size, from + (size_t)source * size, size);
                }
}

static void transpose_body(kiln_pipeline *pipeline, kiln_graph *graph)
{
    static const int64_t permutations[][4] = {{3, 2, 1, 0}, {0, 1, 2, 3}, {1, 2, 3, 0},
                                              {2, 3, 1, 0}, {0, 3, 1, 2}, {3, 0, 2, 1}};
    static const kiln_dtype dtypes[] = {KILN_u8, KILN_bf16, KILN_f32, KILN_f64};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 4; j++) check_transpose(graph, dtypes[j], permutations[i]);
    }
}

static void test_constants_are_transposed(void **state)
{
    (void)state;
    run_body(transpose_body);
}

static void test_folding_keeps_to_its_budget_and_grade(void **state)
{
    (void)state;
    run_body(large_body);
    run_body(run_body_constant);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_walk_chains_in_few_sweeps),
        cmocka_unit_test(test_constants_are_transposed),
        cmocka_unit_test(test_folding_keeps_to_its_budget_and_grade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
