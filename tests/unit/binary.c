/* Binary graphs: what is written reads back as the same text, and files that are damaged,
 * contradictory or of another version give their status and a sentence that names the place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"
#include "tests/unit/onnx_bytes.h"

static kiln_context *context;
static char folder[] = "/tmp/kiln-binary-XXXXXX", path[96], text_path[96], weights[96];

static int set_up(void **state)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/g.kilnb", folder);
    snprintf(text_path, sizeof text_path, "%s/g.kiln", folder);
    snprintf(weights, sizeof weights, "%s/g.safetensors", folder);
    return kiln_context_create(NULL, &context);
}

static int tear_down(void **state)
{
    unlink(path);
    unlink(text_path);
    unlink(weights);
    kiln_context_destroy(context);
    return rmdir(folder); /* nothing half-written is left */
}

static void write_file(const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static kiln_graph *parse(const char *text)
{
    kiln_graph *graph = NULL;
    if (kiln_parse_text(context, text, strlen(text), &graph))
        fail_msg("%s", kiln_context_message(context));
    return graph;
}

static kiln_graph *read_back(void)
{
    kiln_graph *graph = NULL;
    if (kiln_read_binary(context, path, &graph)) fail_msg("%s", kiln_context_message(context));
    return graph;
}

static const char *const texts[] = {
    "kiln 1\ngraph \"a \\\"name\\\"\"(%x: f32[2,3] donated, %\"in 2\": i64[]) {\n"
    "  %0: f32[2,3] = constant {value = [1, -0, nan(0x7fc00001), inf, 0x1.99999ap-4, 3]} \"w/1\"\n"
    "  %1: f32[2,3] = add %x, %0 \"sum\"\n"
    "  %2: f32[3] = reduce_sum %1 {axes = [0]}\n"
    "  %3: bool[4] = constant {value = [true, false, true, true]}\n"
    "  %4: i64[] = constant {value = splat 0}\n"
    "  %5: f32[2,3] = elu %1 {slope = 0x1.8p-3}\n"
    "  %6: f32[2,2] = dot_general %1, %5 {lhs_batch = [], rhs_batch = [], lhs_contract = [1], "
    "rhs_contract = [1], accumulate = f32}\n"
    "  %7: f32[3] = barrier %2 {serial = 0}\n"
    "  check %4 \"never\"\n"
    "  return %7, %3 as \"mask\", %6, %\"in 2\"\n}\n",
    "kiln 1\ngraph empty(%x: bf16[0,7]) {\n  return %x\n}\n",
};

static void test_text_comes_back(void **state)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kiln_graph *graph = parse(texts[i]);
        if (kiln_write_binary(graph, path, NULL)) fail_msg("%s", kiln_graph_message(graph));
        kiln_graph *other = read_back();
        char *wanted, *found;
        assert_int_equal(kiln_print_text(graph, &wanted), KILN_OK);
        assert_int_equal(kiln_print_text(other, &found), KILN_OK);
        assert_string_equal(found, wanted);
        kiln_free(wanted);
        kiln_free(found);
        kiln_graph_destroy(other);
        kiln_graph_destroy(graph);
    }
}

/* sum_{i<3} body: a region within a region, used twice. */
static kiln_graph *build_regions(void)
{
    kiln_graph *inner, *outer, *graph;
    kiln_graph_create(context, "inner", &inner);
    kiln_graph_create(context, "outer", &outer);
    kiln_graph_create(context, "graph", &graph);
    kiln_value a = kiln_input(inner, "a", KILN_f32, 1, (int64_t[]){4});
    kiln_output(inner, NULL, kiln_exp(inner, a));
    kiln_value b = kiln_input(outer, "b", KILN_f32, 1, (int64_t[]){4});
    kiln_value c = kiln_item(outer, kiln_call(outer, inner, &(kiln_arguments){1, &b}), 0);
    kiln_output(outer, NULL, kiln_add(outer, c, b));
    kiln_value x = kiln_input(graph, "x", KILN_f32, 1, (int64_t[]){4});
    kiln_value is = kiln_input(graph, "is", KILN_bool, 0, NULL);
    kiln_value y = kiln_item(graph, kiln_if(graph, is, outer, inner, &(kiln_arguments){1, &x}), 0);
    kiln_output(graph, NULL, y);
    kiln_graph_destroy(inner);
    kiln_graph_destroy(outer);
    if (kiln_graph_status(graph)) fail_msg("%s", kiln_graph_message(graph));
    return graph;
}

static void test_regions_come_back(void **state)
{
    kiln_graph *graph = build_regions();
    if (kiln_write_binary(graph, path, NULL)) fail_msg("%s", kiln_graph_message(graph));
    kiln_graph *other = read_back();
    char *wanted, *found;
    assert_int_equal(kiln_print_text(graph, &wanted), KILN_OK);
    assert_int_equal(kiln_print_text(other, &found), KILN_OK);
    assert_string_equal(found, wanted);
    assert_non_null(strstr(found, "exp"));
    kiln_free(wanted);
    kiln_free(found);
    kiln_graph_destroy(other);
    kiln_graph_destroy(graph);
}

enum { LARGE = 20000 };
static float table[LARGE];

static void check_large(kiln_graph *graph)
{
    static float x[LARGE], y[LARGE];
    int64_t dims[] = {LARGE};
    for (int i = 0; i < LARGE; i++) x[i] = 1;
    kiln_tensor input = {KILN_f32, 1, dims, x, sizeof x}, output = {KILN_f32, 1, dims, y, sizeof y};
    if (kiln_evaluate(graph, &input, 1, &output, 1)) fail_msg("%s", kiln_graph_message(graph));
    for (int i = 0; i < LARGE; i++) assert_true(y[i] == table[i] + 1);
    kiln_graph_destroy(graph);
}

static void test_large_constants_stand_in_the_file_or_beside_it(void **state)
{
    kiln_graph *graph, *other = NULL;
    kiln_write_options options = {sizeof options, "g.safetensors"};
    for (int i = 0; i < LARGE; i++) table[i] = (float)(i % 977);
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_value w = kiln_constant(graph, KILN_f32, 1, (int64_t[]){LARGE}, table);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 1, (int64_t[]){LARGE});
    kiln_output(graph, NULL, kiln_add(graph, x, kiln_label(graph, w, "w")));
    assert_int_equal(kiln_write_binary(graph, path, NULL), KILN_OK);
    check_large(read_back());
    assert_int_equal(kiln_write_binary(graph, path, &options), KILN_OK);
    other = read_back();
    /* a graph from a file goes on as text, whose weights stand beside it */
    assert_int_equal(kiln_write_text(other, text_path, NULL), KILN_OK);
    kiln_graph_destroy(other);
    assert_int_equal(kiln_read_text(context, text_path, &other), KILN_OK);
    check_large(other);
    assert_int_equal(kiln_write_weights(graph, weights), KILN_OK);
    kiln_safetensors *file;
    assert_int_equal(kiln_safetensors_open(context, weights, &file), KILN_OK);
    assert_int_equal(kiln_safetensors_find(file, "w")->bytes, sizeof table);
    kiln_safetensors_close(file);
    unlink(weights);
    assert_int_equal(kiln_read_binary(context, path, &other), KILN_IO);
    kiln_graph_destroy(graph);
}

/* Files by hand: type, node, graph, file. */
static bytes type_of(const char *dtype, int64_t dim)
{
    bytes out = {0}, dims = {0};
    put_varint(&dims, (uint64_t)dim);
    put_text(&out, 1, dtype);
    put(&out, 2, dims);
    return out;
}

static bytes node_of(const char *op, const char *label, int64_t operand)
{
    bytes out = {0}, operands = {0};
    put_text(&out, 1, op);
    put(&out, 2, type_of("f32", 3));
    put_varint(&operands, (uint64_t)operand);
    if (operand) put(&out, 3, operands);
    if (label) put_text(&out, 5, label);
    return out;
}

static bytes input_node(void)
{
    bytes out = node_of("input", "x", 0), serial = {0}, donated = {0};
    put_text(&serial, 1, "serial");
    put_int(&serial, 2, 0);
    put_text(&donated, 1, "donated");
    put_int(&donated, 2, 0);
    put(&out, 4, serial);
    put(&out, 4, donated);
    return out;
}

static bytes file_of(bytes second, int64_t output, int64_t oldest_reader)
{
    bytes out = {0}, graph = {0}, port = {0};
    put_text(&graph, 1, "g");
    put(&graph, 2, input_node());
    put(&graph, 2, second);
    put_int(&port, 1, output);
    put(&graph, 3, port);
    put_text(&out, 1, "kiln graph");
    put_int(&out, 2, oldest_reader + 1);
    put_int(&out, 3, oldest_reader);
    put(&out, 4, graph);
    return out;
}

static void check_file(bytes file, kiln_status wanted, const char *text)
{
    kiln_graph *graph = NULL;
    write_file(file.at, file.n);
    kiln_status status = kiln_read_binary(context, path, &graph);
    const char *message = kiln_context_message(context);
    if (status != wanted || (status && (graph || !strstr(message, text))))
        fail_msg("%s: %s; expected %s: …%s…", kiln_status_name(status), message,
                 kiln_status_name(wanted), text);
    kiln_graph_destroy(graph);
}

/* G7 */
static void test_contradictions(void **state)
{
    check_file(file_of(node_of("exp", NULL, 1), 2, 1), KILN_OK, "");
    check_file(file_of(node_of("exp", NULL, 3), 2, 1), KILN_MODEL,
               "graph 0, node 2: operand 0 is node 3; expected one from 1 to 1");
    check_file(file_of(node_of("exp", NULL, 2), 2, 1), KILN_MODEL, "operand 0 is node 2");
    check_file(file_of(node_of("exp", NULL, -1), 2, 1), KILN_MODEL, "operand 0 is node -1");
    check_file(file_of(node_of("exp", NULL, 1), 3, 1), KILN_MODEL, "an output or check of node 3");
    check_file(file_of(node_of("exp", NULL, 1), 0, 1), KILN_MODEL, "an output or check of node 0");
    check_file(file_of(node_of("shine", NULL, 1), 2, 1), KILN_UNSUPPORTED, "operation \"shine\"");
    check_file(file_of(node_of("relu", NULL, 0), 2, 1), KILN_MODEL, "relu");
    check_file(file_of(node_of("is_finite", NULL, 1), 2, 1), KILN_MODEL,
               "is_finite gives bool[3]; the file says f32[3]");
    check_file(file_of(node_of("elu", NULL, 1), 2, 1), KILN_MODEL, "no field slope");
    check_file(file_of(input_node(), 2, 1), KILN_MODEL, "\"x\"");
}

static void test_versions_and_unknown_fields(void **state)
{
    bytes good = file_of(node_of("exp", NULL, 1), 2, 1), file = good, node;
    check_file(file_of(node_of("exp", NULL, 1), 2, 2), KILN_ABI,
               "version 3 wants a reader of version 2; this one has version 1");
    put_int(&file, 1001, 5); /* newer, and may be skipped */
    check_file(file, KILN_OK, "");
    file = good;
    put_int(&file, 9, 5);
    check_file(file, KILN_MODEL, "unknown field: number 9");
    node = node_of("exp", NULL, 1);
    put_text(&node, 12, "x");
    check_file(file_of(node, 2, 1), KILN_MODEL, "graph.node.unknown field: number 12");
    file = (bytes){0};
    put_text(&file, 1, "kiln grape");
    check_file(file, KILN_MODEL, "not a binary Kiln graph");
    check_file((bytes){0}, KILN_MODEL, "the file is empty or truncated");
    file = (bytes){0};
    put_text(&file, 1, "kiln graph");
    put_int(&file, 3, 1);
    check_file(file, KILN_MODEL, "no graph in the file");
}

static void check_status_only(const void *data, size_t n)
{
    kiln_graph *graph = NULL;
    write_file(data, n);
    kiln_status status = kiln_read_binary(context, path, &graph);
    assert_int_equal(status == KILN_OK, graph != NULL);
    assert_int_not_equal(status, KILN_INTERNAL);
    assert_int_not_equal(status, KILN_INVALID);
    if (!graph) return;
    kiln_error error = {0};
    assert_int_equal(kiln_graph_verify(graph, "after reading", &error), KILN_OK);
    kiln_graph_destroy(graph);
}

/* Truncations of two files, and a bit of every byte. */
static void test_damage_gives_a_status(void **state)
{
    kiln_graph *graphs[] = {parse(texts[0]), build_regions()};
    for (int i = 0; i < 2; i++) {
        static uint8_t data[4096];
        assert_int_equal(kiln_write_binary(graphs[i], path, NULL), KILN_OK);
        FILE *file = fopen(path, "rb");
        size_t n = fread(data, 1, sizeof data, file);
        fclose(file);
        assert_true(n > 0 && n < sizeof data);
        for (size_t length = 0; length < n; length += 5) check_status_only(data, length);
        for (size_t at = 0; at < n; at++) {
            uint8_t bit = (uint8_t)(1u << at * 5 % 8);
            data[at] ^= bit;
            check_status_only(data, n);
            data[at] ^= bit;
        }
        kiln_graph_destroy(graphs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_comes_back),
        cmocka_unit_test(test_regions_come_back),
        cmocka_unit_test(test_large_constants_stand_in_the_file_or_beside_it),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_versions_and_unknown_fields),
        cmocka_unit_test(test_damage_gives_a_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
