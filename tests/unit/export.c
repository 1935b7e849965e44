/* ONNX export: every operation has a row, and what is written imports again and computes the same.
 * What ONNX Runtime makes of it is seen by tests/conformance. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/io/export.h"
#include "kiln/kiln.h"

static kiln_context *context;
static char folder[] = "/tmp/kiln-export-XXXXXX", path[96], weights[96], outside[96];

static int set_up(void **state)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    snprintf(outside, sizeof outside, "%s/../kiln-export-outside", folder);
    return kiln_context_create(NULL, &context);
}

static int tear_down(void **state)
{
    unlink(path);
    unlink(weights);
    kiln_context_destroy(context);
    return rmdir(folder); /* nothing half-written is left */
}

static void test_every_operation_has_a_row(void **state)
{
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (kiln_op_rows[op].class_ == KILN_COMPOSITE || kiln_export_rows[op].export) continue;
        fail_msg("%s has no row in graph/io/export_rows.c", kiln_op_rows[op].name);
    }
}

static kiln_graph *import_back(void)
{
    kiln_graph *graph = NULL;
    if (kiln_import_onnx(context, path, NULL, &graph))
        fail_msg("%s", kiln_context_message(context));
    return graph;
}

enum { WIDE = 300 };
static float table[WIDE * 64];

/* A bit of everything: a large constant, a splat, a broadcast, composites with and without an
 * operator, an awkward name, a check. */
static kiln_graph *build(void)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "a \"graph\"", &graph), KILN_OK);
    for (int i = 0; i < WIDE * 64; i++) table[i] = (float)sin(i);
    kiln_value x = kiln_input(graph, "v0", KILN_f32, 2, (int64_t[]){5, WIDE});
    kiln_value w = kiln_constant(graph, KILN_f32, 2, (int64_t[]){WIDE, 64}, table);
    kiln_value b = kiln_constant(graph, KILN_f32, 1, (int64_t[]){64}, table);
    kiln_value y = kiln_linear(graph, x, kiln_label(graph, w, "weight/1"), b);
    kiln_value half = kiln_splat(graph, KILN_f32, 2, (int64_t[]){5, 64}, 0.5);
    y = kiln_mul(graph, kiln_mish(graph, y), half);
    y = kiln_layer_norm(graph, kiln_silu(graph, y), b, b, 1e-5);
    y = kiln_softmax(graph, kiln_reshape(graph, y, 3, (int64_t[]){5, 8, 8}), 1);
    kiln_require_zero(graph, kiln_scalar(graph, KILN_i64, 0), "never");
    kiln_output(graph, "v1", y);
    kiln_output(graph, "v0", x);
    kiln_output(graph, "again", y);
    assert_int_equal(kiln_graph_status(graph), KILN_OK);
    return graph;
}

/* Both graphs, the same input: the first output within rounding. */
static void check_same(const kiln_graph *graph, const kiln_graph *other)
{
    static float x[5 * WIDE], y[2][5 * 64], copy[5 * WIDE], again[5 * 64];
    static const int64_t wide[] = {5, WIDE}, narrow[] = {5, 8, 8};
    const kiln_graph *graphs[] = {graph, other};
    for (int i = 0; i < 5 * WIDE; i++) x[i] = (float)cos(i);
    for (int i = 0; i < 2; i++) {
        kiln_tensor input = {KILN_f32, 2, wide, x, sizeof x}, outputs[3];
        outputs[0] = (kiln_tensor){KILN_f32, 3, narrow, y[i], sizeof y[i]};
        outputs[1] = (kiln_tensor){KILN_f32, 2, wide, copy, sizeof copy};
        outputs[2] = (kiln_tensor){KILN_f32, 3, narrow, again, sizeof again};
        if (kiln_evaluate(graphs[i], &input, 1, outputs, 3))
            fail_msg("%s", kiln_graph_message(graphs[i]));
        assert_memory_equal(copy, x, sizeof x);
        assert_memory_equal(again, y[i], sizeof again);
    }
    for (int i = 0; i < 5 * 64; i++) assert_true(fabsf(y[0][i] - y[1][i]) < 1e-6f);
}

static void test_what_is_written_imports_and_computes_the_same(void **state)
{
    kiln_graph *graph = build();
    if (kiln_export_onnx(graph, path, NULL)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(access(weights, F_OK), -1);
    kiln_graph *other = import_back();
    check_same(graph, other);
    assert_string_equal(kiln_graph_node(other, other->inputs.at[0])->label, "v0");
    assert_string_equal(other->outputs.at[1].name, "v0_1"); /* one name space in ONNX */
    kiln_graph_destroy(other);
    kiln_graph_destroy(graph);
}

static void test_weights_stand_beside_where_asked(void **state)
{
    kiln_graph *graph = build();
    kiln_write_options options = {sizeof options, "model.safetensors"};
    if (kiln_export_onnx(graph, path, &options)) fail_msg("%s", kiln_graph_message(graph));
    kiln_safetensors *file;
    assert_int_equal(kiln_safetensors_open(context, weights, &file), KILN_OK);
    assert_int_equal(kiln_safetensors_count(file), 1);
    const kiln_safetensor *tensor = kiln_safetensors_find(file, "weight/1");
    assert_non_null(tensor);
    static float read[WIDE * 64];
    assert_int_equal(kiln_safetensors_read(file, tensor, read, sizeof read), KILN_OK);
    assert_memory_equal(read, table, sizeof read);
    kiln_safetensors_close(file);
    kiln_graph *other = import_back();
    check_same(graph, other);
    /* over its own source: the graph reads the old file until both new ones are complete */
    assert_int_equal(kiln_export_onnx(other, path, &options), KILN_OK);
    kiln_graph *third = import_back();
    check_same(graph, third);
    assert_int_equal(kiln_export_onnx(other, path, NULL), KILN_IO);
    assert_non_null(strstr(kiln_graph_message(other), "has changed since the graph was built"));
    kiln_graph_destroy(third);
    kiln_graph_destroy(other);
    kiln_graph_destroy(graph);
    unlink(weights);
}

/* O30 */
static void test_weights_do_not_leave_the_folder(void **state)
{
    static const char *const paths[] = {
        "../kiln-export-outside", "/tmp/kiln-export-outside", "a/../../b", "c:w", "", "a\\b"};
    kiln_graph *graph = build();
    unlink(path);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        kiln_write_options options = {sizeof options, paths[i]};
        assert_int_equal(kiln_export_onnx(graph, path, &options), KILN_INVALID);
        assert_non_null(strstr(kiln_graph_message(graph), "leaves the model's folder"));
    }
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(outside, F_OK), -1);
    kiln_write_options options = {1, NULL};
    assert_int_equal(kiln_export_onnx(graph, path, &options), KILN_INVALID);
    assert_int_equal(kiln_export_onnx(graph, "/nowhere/a.onnx", NULL), KILN_IO);
    assert_int_equal(kiln_graph_status(graph), KILN_OK);
    kiln_graph_destroy(graph);
}

static void test_every_node_without_a_form_is_listed(void **state)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_i32, 4, (int64_t[]){1, 2, 5, 5});
    kiln_value k = kiln_input(graph, "k", KILN_i32, 4, (int64_t[]){2, 2, 3, 3});
    kiln_value y = kiln_convolution(graph, x, k, NULL);
    kiln_output(graph, NULL, kiln_convolution(graph, kiln_abs(graph, y), k, NULL));
    unlink(path);
    assert_int_equal(kiln_export_onnx(graph, path, NULL), KILN_UNSUPPORTED);
    const char *message = kiln_graph_message(graph);
    assert_non_null(strstr(message, "2 nodes have no form in ONNX"));
    assert_non_null(strstr(message, "%0: i32[1,2,3,3] = convolution"));
    assert_non_null(strstr(message, "%2: i32[1,2,1,1] = convolution"));
    assert_int_equal(access(path, F_OK), -1);
    kiln_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_has_a_row),
        cmocka_unit_test(test_what_is_written_imports_and_computes_the_same),
        cmocka_unit_test(test_weights_stand_beside_where_asked),
        cmocka_unit_test(test_weights_do_not_leave_the_folder),
        cmocka_unit_test(test_every_node_without_a_form_is_listed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
