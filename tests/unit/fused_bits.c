/* Compile the variants, compare the bits. */
#include "fused_bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

#define MOST_INPUTS 8

static const compiled_variant variants[] = {
    {"unfused", NULL, 1, 0, 1},   {"one thread", NULL, 0, 0, 1}, {"two threads", NULL, 0, 0, 2},
    {"v3", "x86-64-v3", 0, 0, 2}, {"v4", "x86-64-v4", 0, 0, 2},
};

static void fill(kiln_tensor *tensor, uint64_t *random)
{
    for (size_t i = 0; i < tensor->bytes / 4; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        if (tensor->dtype == KILN_i32)
            ((int32_t *)tensor->data)[i] = (int32_t)(*random >> 48);
        else
            ((float *)tensor->data)[i] = (float)(int32_t)(*random >> 32) / 2147483648.0f;
    }
}

static void draw_inputs(kiln_scope *scope, const kiln_graph *graph, kiln_tensor *inputs)
{
    uint64_t random = 1;
    assert_true(graph->inputs.n <= MOST_INPUTS);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->inputs.at[i]);
        inputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims, NULL, (size_t)type->bytes};
        inputs[i].data = kiln_arena_alloc(&scope->arena, (size_t)type->bytes);
        fill(&inputs[i], &random);
    }
}

static void compare(const compiled_result *expected, const compiled_result *found, uint32_t n,
                    const char *name)
{
    for (uint32_t i = 0; i < n; i++) {
        const kiln_tensor *a = &expected->outputs[i], *b = &found->outputs[i];
        assert_int_equal(a->bytes, b->bytes);
        if (memcmp(a->data, b->data, a->bytes) != 0)
            fail_msg("%s: output %u has other bits than the groups one by one", name, i);
    }
}

void fused_bits_check(const char *text, fused_count_fn *count)
{
    compiled_contexts contexts;
    assert_true(compiled_contexts_open(&contexts));
    kiln_graph *graph;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    assert_int_equal(kiln_parse_text(contexts.of[1], text, strlen(text), &graph), KILN_OK);
    kiln_tensor inputs[MOST_INPUTS];
    draw_inputs(&scope, graph, inputs);
    compiled_result expected = {0};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        if (variants[v].target_cpu && !compiled_can_run(variants[v].target_cpu)) continue;
        compiled_result result = compiled_run(&scope, &contexts, graph, &variants[v], inputs);
        if (result.status) fail_msg("%s: %s", variants[v].name, result.message);
        assert_int_equal(result.overrun, -1);
        if (v == 0) {
            expected = result;
            continue;
        }
        compare(&expected, &result, graph->outputs.n, variants[v].name);
        count(&variants[v], result.n_kernels, expected.n_kernels);
    }
    kiln_graph_destroy(graph);
    kiln_scope_close(&scope);
    compiled_contexts_close(&contexts);
}
