/* Tuning: results have the bits of an untuned compile, whatever was found to be fastest; the choice
 * is written to the labels of the steps, and is there again after a reload from a shared object and
 * from the cache, which keeps tuned and untuned models apart; other machines are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kiln/kiln.h"

#define M 96
#define K 200 /* and columns */
#define N K

static kiln_context *context;
static float x[M * K], w[K * N];

static kiln_graph *build(void)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "tuned", &graph), KILN_OK);
    int64_t x_dims[] = {M, K}, w_dims[] = {K, N};
    kiln_value a = kiln_input(graph, "x", KILN_f32, 2, x_dims);
    kiln_value weights = kiln_constant(graph, KILN_f32, 2, w_dims, w);
    kiln_value first = kiln_matmul(graph, a, weights);
    kiln_label(graph, first, "first layer");
    kiln_output(graph, "y", kiln_matmul(graph, first, weights));
    return graph;
}

static void run(kiln_executable *executable, float *y)
{
    kiln_workspace *workspace;
    int64_t x_dims[] = {M, K}, y_dims[] = {M, N};
    kiln_tensor input = {KILN_f32, 2, x_dims, x, sizeof x};
    kiln_tensor output = {KILN_f32, 2, y_dims, y, M * N * sizeof *y};
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    kiln_workspace_destroy(workspace);
}

/* How many steps say what was tuned; `labels` are all of them, one after the other. */
static int count_records(const kiln_executable *executable, char *labels, size_t bytes)
{
    const kiln_program *program = kiln_executable_program(executable);
    int n = 0;
    labels[0] = 0;
    for (uint32_t i = 0; i < program->n_steps; i++) {
        if (program->steps[i].label == KILN_NONE) continue;
        const char *label = program->strings[program->steps[i].label];
        n += strstr(label, ", tuned: tiles of ") != NULL;
        strncat(labels, label, bytes - strlen(labels) - 1);
    }
    return n;
}

static kiln_executable *compile(int is_tuned, const char *cache)
{
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_tuned = is_tuned, .cache_dir = cache};
    kiln_executable *executable;
    kiln_graph *graph = build();
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    return executable;
}

static float plain[M * N], other[M * N];
static char labels[4096], again[4096];

static void test_tuned_results_have_the_same_bits(void **unused)
{
    kiln_executable *untuned = compile(0, NULL), *tuned = compile(1, NULL);
    assert_int_equal(count_records(untuned, labels, sizeof labels), 0);
    assert_int_equal(count_records(tuned, labels, sizeof labels), 2);
    assert_non_null(strstr(labels, "first layer, tuned: tiles of "));
    run(untuned, plain);
    run(tuned, other);
    assert_memory_equal(plain, other, sizeof plain);
    kiln_executable_destroy(untuned);
    kiln_executable_destroy(tuned);
}

static void test_a_library_keeps_the_choice(void **unused)
{
    char folder[] = "tune-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "./%s/tuned.so", folder);
    kiln_compile_options options = {.struct_bytes = sizeof options, .is_tuned = 1};
    kiln_graph *graph = build();
    if (kiln_compile_library(graph, &options, path, NULL, NULL))
        fail_msg("%s", kiln_graph_message(graph));
    kiln_graph_destroy(graph);
    kiln_executable *loaded;
    assert_int_equal(kiln_executable_load(context, path, "model", &loaded), KILN_OK);
    assert_int_equal(count_records(loaded, labels, sizeof labels), 2);
    run(loaded, other);
    assert_memory_equal(plain, other, sizeof plain);
    kiln_executable_destroy(loaded);
    unlink(path);
    rmdir(folder);
}

static void test_the_cache_keeps_tuned_models_apart(void **unused)
{
    char folder[] = "tune-cache-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    kiln_executable *tuned = compile(1, folder), *untuned = compile(0, folder);
    kiln_executable *found = compile(1, folder);
    kiln_compile_report report;
    kiln_executable_report(untuned, &report);
    assert_int_not_equal(report.cache, KILN_CACHE_HIT);
    kiln_executable_report(found, &report);
    assert_int_equal(report.cache, KILN_CACHE_HIT);
    assert_int_equal(count_records(tuned, labels, sizeof labels), 2);
    assert_int_equal(count_records(found, again, sizeof again), 2);
    assert_string_equal(labels, again);
    kiln_executable_destroy(tuned);
    kiln_executable_destroy(untuned);
    kiln_executable_destroy(found);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_only_this_machine_is_timed(void **unused)
{
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_tuned = 1, .target = "cuda"};
    kiln_graph *graph = build();
    assert_int_not_equal(kiln_compile_library(graph, &options, "never.so", NULL, NULL), KILN_OK);
    kiln_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tuned_results_have_the_same_bits),
        cmocka_unit_test(test_a_library_keeps_the_choice),
        cmocka_unit_test(test_the_cache_keeps_tuned_models_apart),
        cmocka_unit_test(test_only_this_machine_is_timed),
    };
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    if (kiln_context_create(&options, &context)) return 1;
    for (int i = 0; i < M * K; i++) x[i] = (float)(i % 101 - 50) / 64;
    for (int i = 0; i < K * N; i++) w[i] = (float)(i % 97 - 48) / 256;
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return status;
}
