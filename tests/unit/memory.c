/* Planned memory: the arena is within 5 % of the most bytes alive at one step on whole models and
 * on training steps, as `kiln explain` says it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "benchmarks/workloads.h"

static void check_arena(void (*build)(kiln_graph *), int64_t least_bytes)
{
    kiln_context *context;
    kiln_graph *graph;
    char *text = NULL;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "memory", &graph), KILN_OK);
    build(graph);
    kiln_compile_options options = {.struct_bytes = sizeof options, .target_cpu = "x86-64-v4"};
    if (kiln_explain(graph, &options, &text)) fail_msg("%s", kiln_graph_message(graph));
    const char *line = strstr(text, "\narena ");
    assert_non_null(line);
    long long arena, bound;
    assert_int_equal(
        sscanf(line, "\narena %lld bytes; lower bound (most alive at once) %lld", &arena, &bound),
        2);
    assert_true(bound >= least_bytes); /* the graph keeps what it is here for */
    assert_true(arena >= bound && (double)arena <= 1.05 * (double)bound);
    kiln_free(text);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

static void resnet50_is_near_its_bound(void **state)
{
    check_arena(build_resnet50, 4 << 20);
}

static void bert_is_near_its_bound(void **state)
{
    check_arena(build_bert_base, 1 << 20);
}

/* The largest skip connection and the enlarged picture beside it live at once. */
static void unet_is_near_its_bound(void **state)
{
    check_arena(build_unet, (32 + 64) * 128 * 128 * 4);
}

/* Four activations of 128 x 512 wait for the backward pass. */
static void trained_mlp_is_near_its_bound(void **state)
{
    check_arena(build_train_mlp, 4 * 128 * 512 * 4);
}

static void trained_cnn_is_near_its_bound(void **state)
{
    check_arena(build_train_cnn, 128 * (32 * 1024 + 2 * 64 * 256) * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet50_is_near_its_bound),
        cmocka_unit_test(bert_is_near_its_bound),
        cmocka_unit_test(unet_is_near_its_bound),
        cmocka_unit_test(trained_mlp_is_near_its_bound),
        cmocka_unit_test(trained_cnn_is_near_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
