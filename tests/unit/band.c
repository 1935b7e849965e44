/* Row bands give the bits of the groups that they are made of: chains compiled fused and unfused,
 * for one and two threads, on the host, x86-64-v3 and -v4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"
#include "ops/compiled.h"

#define CONV(value, operand, kernel, dims, places, groups)                                         \
    "  " value ": f32[" dims "] = convolution " operand ", " kernel " {" places ", "               \
    "lhs_dilation=[1,1], rhs_dilation=[1,1], groups=" groups ", input_axes=[0,3,1,2], "            \
    "kernel_axes=[3,2,0,1], output_axes=[0,3,1,2], accumulate=f32}\n"
#define PLAIN "strides=[1,1], low=[0,0], high=[0,0]"
#define SAME "strides=[1,1], low=[1,1], high=[1,1]"
#define HALF "strides=[2,2], low=[1,1], high=[1,1]"
#define POOL                                                                                       \
    "{sizes=[1,3,3,1], strides=[1,2,2,1], low=[0,1,1,0], high=[0,1,1,0], dilations=[1,1,1,1]}"

/* Odd sizes, a residual, a chain of seven whose tiles share rows, NaN-keeping clamps and a pool. */
static const char inverted[] =
    "kiln 1\n"
    "graph f(%x: f32[2,37,29,24], %e: f32[1,1,24,75], %d: f32[3,3,1,75], %p: f32[1,1,75,24]) "
    "{\n" CONV("%0", "%x", "%e", "2,37,29,75", PLAIN,
               "1") "  %1: f32[2,37,29,75] = relu6 %0\n" CONV("%2", "%1", "%d", "2,37,29,75", SAME,
                                                              "75") "  %3: f32[2,37,29,75] = relu6 "
                                                                    "%2\n" CONV(
                                                                        "%4", "%3", "%p",
                                                                        "2,37,29,24", PLAIN,
                                                                        "1") "  %5: "
                                                                             "f32[2,37,29,24] = "
                                                                             "add %4, %x\n"
                                                                             "  return %5\n}\n";
static const char stem[] =
    "kiln 1\n"
    "graph f(%x: f32[1,45,38,3], %s: f32[3,3,3,32], %d: f32[3,3,1,32], %p: f32[1,1,32,18], "
    "%e: f32[1,1,18,50], %h: f32[3,3,1,50], %q: f32[1,1,50,33]) {\n" CONV(
        "%0", "%x", "%s", "1,23,19,32", HALF,
        "1") "  %1: f32[1,23,19,32] = relu %0\n" CONV("%2", "%1", "%d", "1,23,19,32", SAME, "32")
        CONV("%3", "%2", "%p", "1,23,19,18", PLAIN, "1")
            CONV("%4", "%3", "%e", "1,23,19,50", PLAIN, "1")
                CONV("%5", "%4", "%h", "1,12,10,50", HALF, "50")
                    CONV("%6", "%5", "%q", "1,12,10,33", PLAIN,
                         "1") "  %7: f32[1,6,5,33] = window_max %6 " POOL "\n"
                              "  return %7\n}\n";

static void fill(kiln_tensor *tensor, uint64_t *random)
{
    float *values = tensor->data;
    for (size_t i = 0; i < tensor->bytes / 4; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(int32_t)(*random >> 32) / 2147483648.0f;
    }
}

static void check(const char *text)
{
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
    assert_int_equal(kiln_parse_text(contexts.of[1], text, strlen(text), &graph), KILN_OK);
    kiln_tensor inputs[8];
    uint64_t random = 1;
    uint32_t n_unfused = 0;
    const kiln_tensor *expected = NULL;
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->inputs.at[i]);
        inputs[i] = (kiln_tensor){.dtype = type->dtype, .rank = type->rank, .dims = type->dims};
        inputs[i].bytes = type->bytes;
        inputs[i].data = kiln_arena_alloc(&scope.arena, (size_t)type->bytes);
        fill(&inputs[i], &random);
    }
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        if (variants[v].target_cpu && !compiled_can_run(variants[v].target_cpu)) continue;
        compiled_result result = compiled_run(&scope, &contexts, graph, &variants[v], inputs);
        if (result.status) fail_msg("%s: %s", variants[v].name, result.message);
        assert_int_equal(result.overrun, -1);
        if (!expected) {
            expected = result.outputs;
            n_unfused = result.n_kernels;
            continue;
        }
        if (memcmp(expected->data, result.outputs->data, (size_t)expected->bytes) != 0)
            fail_msg("%s gives other bits than the groups one by one", variants[v].name);
        bool is_v4 = v + 1 == sizeof variants / sizeof *variants;
        if (is_v4) assert_true(result.n_kernels + 3 < n_unfused);
    }
    kiln_graph_destroy(graph);
    kiln_scope_close(&scope);
    compiled_contexts_close(&contexts);
}

static void test_inverted_residual(void **state)
{
    (void)state;
    check(inverted);
}

static void test_stem_and_pool(void **state)
{
    (void)state;
    check(stem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inverted_residual),
        cmocka_unit_test(test_stem_and_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
