/* Random graphs, compiled and run against the evaluator: what fuse, plan and the lowerings make of
 * combinations that nobody wrote down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"
#include "random_graph.h"

/* The text of a random graph; the caller frees it. */
static char *random_text(uint64_t seed)
{
    char *volatile copy = NULL;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_graph *graph = kiln_graph_open(&scope, NULL, "test");
        random_graph_build(graph, seed);
        kiln_text text = {.arena = &scope.arena};
        kiln_graph_print(graph, &text);
        copy = strdup(kiln_text_string(&text));
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
    return copy;
}

static kiln_tensor new_tensor(const kiln_type *type)
{
    void *data = calloc(1, (size_t)type->bytes + 64);
    return (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
}

static void run_seed(kiln_context *context, uint64_t seed)
{
    char *text = random_text(seed);
    kiln_graph *graph;
    assert_int_equal(kiln_parse_text(context, text, strlen(text), &graph), KILN_OK);
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_unfused = seed % 3 == 0, .compile_threads = 1};
    kiln_tensor inputs[RANDOM_GRAPH_INPUTS], expected[RANDOM_GRAPH_OUTPUTS],
        outputs[RANDOM_GRAPH_OUTPUTS];
    for (uint32_t i = 0; i < RANDOM_GRAPH_INPUTS; i++) {
        inputs[i] = new_tensor(kiln_graph_type(graph, graph->inputs.at[i]));
        random_graph_fill(seed * 4 + i, inputs[i].data, inputs[i].bytes / sizeof(float));
    }
    for (uint32_t i = 0; i < RANDOM_GRAPH_OUTPUTS; i++) {
        expected[i] = new_tensor(kiln_graph_type(graph, graph->outputs.at[i].value));
        outputs[i] = new_tensor(kiln_graph_type(graph, graph->outputs.at[i].value));
    }
    kiln_status status =
        kiln_evaluate(graph, inputs, RANDOM_GRAPH_INPUTS, expected, RANDOM_GRAPH_OUTPUTS);
    assert_int_equal(status, KILN_OK);
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    status = kiln_compile(graph, &options, &executable);
    if (status) fail_msg("graph %llu: %s", (unsigned long long)seed, kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    status = kiln_run(workspace, inputs, RANDOM_GRAPH_INPUTS, outputs, RANDOM_GRAPH_OUTPUTS);
    assert_int_equal(status, KILN_OK);
    for (uint32_t i = 0; i < RANDOM_GRAPH_OUTPUTS; i++) {
        if (random_graph_is_near(&expected[i], &outputs[i])) continue;
        fprintf(stderr, "%s", text);
        fail_msg("graph %llu: output %u differs", (unsigned long long)seed, i);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    for (uint32_t i = 0; i < RANDOM_GRAPH_INPUTS; i++) free(inputs[i].data);
    for (uint32_t i = 0; i < RANDOM_GRAPH_OUTPUTS; i++) {
        free(expected[i].data);
        free(outputs[i].data);
    }
    kiln_graph_destroy(graph);
    free(text);
}

/* KILN_SEEDS=FIRST:LAST runs other graphs than the usual few. */
static void compiled_graphs_give_the_evaluators_outputs(void **state)
{
    unsigned long long first = 1, last = 12;
    const char *seeds = getenv("KILN_SEEDS");
    if (seeds) assert_int_equal(sscanf(seeds, "%llu:%llu", &first, &last), 2);
    kiln_context *context;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    for (uint64_t seed = first; seed <= last; seed++) run_seed(context, seed);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiled_graphs_give_the_evaluators_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
