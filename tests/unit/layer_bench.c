/* Builds, evaluates, compiles, runs, compares. */
#include "tests/unit/layer_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/element.h"
#include "graph/graph.h"

#define MOST 8 /* inputs, outputs */

static kiln_context *context;
static double seeds[MOST];

int layer_set_up(void **state)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    return kiln_context_create(&options, &context);
}

int layer_tear_down(void **state)
{
    kiln_context_destroy(context);
    return 0;
}

kiln_context *layer_context(void)
{
    return context;
}

kiln_value layer_input(kiln_graph *graph, double seed, uint32_t rank, const int64_t *dims)
{
    uint32_t number = graph->inputs.n;
    char name[16];
    assert_true(number < MOST);
    seeds[number] = seed;
    snprintf(name, sizeof name, "x%u", number);
    return kiln_input(graph, name, KILN_f32, rank, dims);
}

static kiln_tensor new_tensor(const kiln_type *type)
{
    void *data = calloc(1, (size_t)type->bytes + 1);
    assert_non_null(data);
    return (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
}

static void compare(const layer_case *test, const char *how, const kiln_tensor *outputs, uint32_t n)
{
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        int64_t n_elements = 1;
        for (uint32_t axis = 0; axis < outputs[i].rank; axis++) n_elements *= outputs[i].dims[axis];
        for (int64_t j = 0; j < n_elements; j++, at++) {
            double found = kiln_tensor_get(&outputs[i], j);
            double expected = at < test->n ? test->values[at] : NAN;
            if (fabs(found - expected) <= 2e-5 * (1 + fabs(expected))) continue;
            if (isnan(found) && at < test->n && isnan(expected)) continue;
            if (found == expected) continue;
            fail_msg("%s, %s: output %u, element %lld is %.9g; expected %.9g", test->name, how, i,
                     (long long)j, found, expected);
        }
    }
    if (at != test->n) fail_msg("%s: %zu elements; expected %zu", test->name, at, test->n);
}

static void run_compiled(kiln_graph *graph, const kiln_tensor *inputs, kiln_tensor *outputs)
{
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (kiln_compile(graph, NULL, &executable))
        fail_msg("%s: %s", graph->name, kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, inputs, graph->inputs.n, outputs, graph->outputs.n))
        fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void check_one(const layer_case *test)
{
    kiln_graph *graph;
    kiln_tensor inputs[MOST], outputs[MOST];
    assert_int_equal(kiln_graph_create(context, test->name, &graph), KILN_OK);
    test->build(graph);
    if (kiln_graph_status(graph)) fail_msg("%s: %s", test->name, kiln_graph_message(graph));
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        inputs[i] = new_tensor(kiln_graph_type(graph, graph->inputs.at[i]));
        float *data = inputs[i].data;
        for (size_t j = 0; j < inputs[i].bytes / sizeof *data; j++)
            data[j] = (float)sin(0.7 * (double)j + seeds[i]);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        outputs[i] = new_tensor(kiln_graph_type(graph, graph->outputs.at[i].value));
    if (kiln_evaluate(graph, inputs, graph->inputs.n, outputs, graph->outputs.n))
        fail_msg("%s: %s", test->name, kiln_graph_message(graph));
    compare(test, "evaluated", outputs, graph->outputs.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) memset(outputs[i].data, 0, outputs[i].bytes);
    run_compiled(graph, inputs, outputs);
    compare(test, "compiled", outputs, graph->outputs.n);
    for (uint32_t i = 0; i < graph->inputs.n; i++) free(inputs[i].data);
    for (uint32_t i = 0; i < graph->outputs.n; i++) free(outputs[i].data);
    kiln_graph_destroy(graph);
}

void layer_check(const layer_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) check_one(&cases[i]);
}
