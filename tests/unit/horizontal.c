/* Horizontal groups give the bits of the groups that they are made of, on one and two threads, on
 * the host, x86-64-v3 and -v4; and so do donated inputs that another member reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"
#include "ops/compiled.h"

enum { N_OUTPUTS = 6, N_KERNELS = 1 };

/* Maps, a row, a column and a table of 32 numbers beside each other, all of odd sizes. */
static const char mixed[] =
    "kiln 1\n"
    "graph f(%p: f32[77], %q: f32[9,13], %x: f32[5,70], %i: i32[19], %d: f32[77] donated) {\n"
    "  %0: f32[77] = tanh %p\n"
    "  %1: f32[13,9] = transpose %q {permutation = [1, 0]}\n"
    "  %2: f32[13,9] = erf %1\n"
    "  %3: f32[5] = reduce_sum %x {axes = [1]}\n"
    "  %4: f32[70] = reduce_max %x {axes = [0]}\n"
    "  %5: i32[19] = mul %i, %i\n"
    "  %6: f32[7] = slice %d {starts = [3], limits = [10], strides = [1]}\n"
    "  %7: f32[7] = exp %6\n"
    "  return %0, %2, %3, %4, %5, %7\n}\n";

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

static void compare(const compiled_result *expected, const compiled_result *found, const char *name)
{
    for (uint32_t i = 0; i < N_OUTPUTS; i++)
        if (memcmp(expected->outputs[i].data, found->outputs[i].data, expected->outputs[i].bytes) !=
            0)
            fail_msg("%s: output %u has other bits than the groups one by one", name, i);
}

static void test_members(void **state)
{
    (void)state;
    static const compiled_variant variants[] = {
        {"unfused", NULL, 1, 0, 1},   {"one thread", NULL, 0, 0, 1}, {"two threads", NULL, 0, 0, 2},
        {"v3", "x86-64-v3", 0, 0, 2}, {"v4", "x86-64-v4", 0, 0, 2},
    };
    compiled_contexts contexts;
    assert_true(compiled_contexts_open(&contexts));
    kiln_graph *graph;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    assert_int_equal(kiln_parse_text(contexts.of[1], mixed, strlen(mixed), &graph), KILN_OK);
    kiln_tensor inputs[5];
    uint64_t random = 1;
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->inputs.at[i]);
        inputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims, NULL, (size_t)type->bytes};
        inputs[i].data = kiln_arena_alloc(&scope.arena, (size_t)type->bytes);
        fill(&inputs[i], &random);
    }
    compiled_result expected = {0};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        if (variants[v].target_cpu && !compiled_can_run(variants[v].target_cpu)) continue;
        compiled_result result = compiled_run(&scope, &contexts, graph, &variants[v], inputs);
        if (result.status) fail_msg("%s: %s", variants[v].name, result.message);
        assert_int_equal(result.overrun, -1);
        if (!expected.outputs) expected = result;
        compare(&expected, &result, variants[v].name);
        if (variants[v].threads == 2) assert_int_equal(result.n_kernels, N_KERNELS);
    }
    kiln_graph_destroy(graph);
    kiln_scope_close(&scope);
    compiled_contexts_close(&contexts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_members)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
