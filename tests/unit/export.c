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

/* A loop, a choice with a call in it, a scan. */
static const char regions[] =
    "kiln 1\n"
    "graph power(%n: i64[], %x: f32[], %c: bool[], %v: f32[2], %q: f32[3,2]) {\n"
    "  %0: i64[] = constant {value = splat 0}\n"
    "  %1: f32[] = constant {value = splat 1}\n"
    "  %2: (i64[], f32[]) = while %0, %1, %n, %x {n_carried = 2, limit = 1000, regions = "
    "[graph condition(%i: i64[], %y: f32[], %n: i64[], %x: f32[]) {\n"
    "    %0: bool[] = lt %i, %n\n"
    "    return %0\n"
    "  }, graph body(%i: i64[], %y: f32[], %n: i64[], %x: f32[]) {\n"
    "    %0: i64[] = constant {value = splat 1}\n"
    "    %1: i64[] = add %i, %0\n"
    "    %2: f32[] = mul %y, %x\n"
    "    return %1, %2\n"
    "  }]}\n"
    "  %3: f32[] = item %2 {index = 1}\n"
    "  %4: (f32[2]) = if %c, %v {regions = [graph t(%a: f32[2]) { return %a }, graph f(%a: "
    "f32[2]) {\n"
    "    %0: (f32[2]) = call %a {regions = [graph square(%b: f32[2]) {\n"
    "      %0: f32[2] = silu %b\n"
    "      return %0\n"
    "    }]}\n"
    "    %1: f32[2] = item %0 {index = 0}\n"
    "    return %1\n"
    "  }]}\n"
    "  %5: f32[2] = item %4 {index = 0}\n"
    "  %6: (f32[2], f32[3,2]) = scan %v, %q, %5 {n_carried = 1, n_slices = 1, length = 3, "
    "regions = [graph b(%s: f32[2], %x: f32[2], %k: f32[2]) {\n"
    "    %0: f32[2] = add %s, %x\n"
    "    %1: f32[2] = mul %0, %k\n"
    "    return %1, %0\n"
    "  }]}\n"
    "  %7: f32[2] = item %6 {index = 0}\n"
    "  %8: f32[3,2] = item %6 {index = 1}\n"
    "  return %3, %5, %7, %8\n"
    "}\n";

/* The four results, one after the other. */
static void evaluate_regions(const kiln_graph *graph, uint8_t choice, float y[11])
{
    static float v[2] = {1.5f, -2}, q[6] = {0, 1, 2, 3, 4, 5}, x = 1.5f;
    static const int64_t two[] = {2}, three_two[] = {3, 2};
    int64_t n = 5;
    kiln_tensor inputs[5], outputs[4];
    inputs[0] = (kiln_tensor){KILN_i64, 0, NULL, &n, 8};
    inputs[1] = (kiln_tensor){KILN_f32, 0, NULL, &x, 4};
    inputs[2] = (kiln_tensor){KILN_bool, 0, NULL, &choice, 1};
    inputs[3] = (kiln_tensor){KILN_f32, 1, two, v, sizeof v};
    inputs[4] = (kiln_tensor){KILN_f32, 2, three_two, q, sizeof q};
    outputs[0] = (kiln_tensor){KILN_f32, 0, NULL, y, 4};
    outputs[1] = (kiln_tensor){KILN_f32, 1, two, y + 1, 8};
    outputs[2] = (kiln_tensor){KILN_f32, 1, two, y + 3, 8};
    outputs[3] = (kiln_tensor){KILN_f32, 2, three_two, y + 5, 24};
    if (kiln_evaluate(graph, inputs, 5, outputs, 4)) fail_msg("%s", kiln_graph_message(graph));
}

static void test_regions_become_if_and_loop(void **state)
{
    float y[11], again[11];
    kiln_graph *graph = NULL;
    if (kiln_parse_text(context, regions, strlen(regions), &graph))
        fail_msg("%s", kiln_context_message(context));
    if (kiln_export_onnx(graph, path, NULL)) fail_msg("%s", kiln_graph_message(graph));
    kiln_graph *other = import_back();
    for (uint8_t choice = 0; choice < 2; choice++) {
        evaluate_regions(graph, choice, y);
        evaluate_regions(other, choice, again);
        assert_true(y[0] == 7.59375f);
        for (int i = 0; i < 11; i++) assert_true(fabsf(y[i] - again[i]) < 1e-5f);
    }
    kiln_graph_destroy(other);
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
        cmocka_unit_test(test_regions_become_if_and_loop),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
