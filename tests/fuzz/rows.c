/* The generator draws every row of the op table and every dtype, and nine pairs of classes in ten,
 * within a few thousand seeds; a seed gives one graph, another seed another one. The shrinker
 * leaves what a failure needs, and a file gives the case back that was saved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fuzz/generate.h"
#include "fuzz/saved.h"

#define SEEDS 10000

typedef struct found {
    uint32_t ops[KILN_N_OPS], dtypes[32], pairs[16][16];
} found;

static void count_graph(found *out, const kiln_graph *graph, int depth)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        out->ops[node->op]++;
        out->dtypes[node->type->dtype]++;
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            const kiln_node *from = kiln_graph_node(graph, node->inputs[i]);
            out->pairs[kiln_node_row(from)->class_][kiln_node_row(node)->class_]++;
        }
    }
    for (uint32_t i = 0; i < graph->regions.n && depth < 4; i++)
        count_graph(out, graph->regions.at[i], depth + 1);
}

static void count_seed(found *out, uint64_t seed)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) count_graph(out, fuzz_generate(&scope, seed)->batch.graph, 0);
    if (kiln_scope_close(&scope)) fail_msg("seed %u: %s", (unsigned)seed, error.message);
}

static void test_every_row_and_dtype_is_drawn(void **state)
{
    (void)state;
    static found all;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) count_seed(&all, seed);
    uint32_t n_missing = 0;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (all.ops[op]) continue;
        print_message("never drawn: %s\n", kiln_op_rows[op].name);
        n_missing++;
    }
    for (int dtype = 1; dtype < 32; dtype++) {
        if (!kiln_dtype_bits((kiln_dtype)dtype) || all.dtypes[dtype]) continue;
        print_message("never drawn: %s\n", kiln_dtype_name((kiln_dtype)dtype));
        n_missing++;
    }
    uint32_t n_pairs = 0, n_possible = 0;
    for (int from = 0; from <= KILN_COMPOSITE; from++) {
        for (int to = KILN_ELEMENTWISE; to <= KILN_COMPOSITE; to++) {
            n_possible++;
            n_pairs += all.pairs[from][to] > 0;
        }
    }
    assert_int_equal(n_missing, 0);
    assert_true(10 * n_pairs >= 9 * n_possible);
}

static const char *text_of(kiln_scope *scope, uint64_t seed)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print(fuzz_generate(scope, seed)->batch.graph, &text);
    return kiln_text_string(&text);
}

static void check_seed(uint64_t seed)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        const char *text = text_of(&scope, seed);
        assert_string_equal(text, text_of(&scope, seed));
        assert_string_not_equal(text, text_of(&scope, seed + 1));
    }
    assert_int_equal(kiln_scope_close(&scope), KILN_OK);
}

static void test_a_seed_is_one_graph(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) check_seed(seed);
}

static bool has_op(const fuzz_case *c, kiln_op op)
{
    for (uint32_t id = 1; id < c->graph->nodes.n; id++) {
        if (c->graph->nodes.at[id]->op == op) return true;
    }
    return false;
}

static bool has_tanh(void *user, const fuzz_case *candidate)
{
    (void)user;
    return has_op(candidate, KILN_OP_tanh);
}

static const char *print_case(kiln_scope *scope, const fuzz_case *c)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print(c->graph, &text);
    return kiln_text_string(&text);
}

/* Shrinks the first large graph with a tanh from the seed on; saves it and reads it again. */
static void check_shrinking(kiln_scope *scope, uint64_t seed, const char *path)
{
    fuzz_case large;
    do {
        fuzz_graph *g = fuzz_generate(scope, seed++);
        large = (fuzz_case){g->batch.graph, g->batch.inputs.at};
    } while (large.graph->nodes.n < 12 || !has_op(&large, KILN_OP_tanh) ||
             has_op(&large, KILN_OP_custom_call));
    fuzz_case small = fuzz_shrink(scope, large, has_tanh, NULL);
    assert_true(has_tanh(NULL, &small));
    assert_int_equal(small.graph->nodes.n, 3); /* none, the input, the tanh */
    assert_true(fuzz_save(scope, path, &small, "a tanh"));
    fuzz_case again = fuzz_load(scope, NULL, path);
    assert_string_equal(print_case(scope, &again), print_case(scope, &small));
    assert_int_equal(again.inputs[0].bytes, small.inputs[0].bytes);
    assert_memory_equal(again.inputs[0].data, small.inputs[0].data, small.inputs[0].bytes);
}

static void test_a_case_is_shrunk_and_saved(void **state)
{
    (void)state;
    char path[] = "/tmp/kiln-fuzz-case-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) check_shrinking(&scope, 1, path);
    if (kiln_scope_close(&scope)) fail_msg("%s", error.message);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_and_dtype_is_drawn),
        cmocka_unit_test(test_a_seed_is_one_graph),
        cmocka_unit_test(test_a_case_is_shrunk_and_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
