/* Sizes that depend on the data: outputs have a bound and a count, the same evaluated, compiled and
 * read back from text and binary files; what would mix entries that are not there is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "context.h"
#include "graph/graph.h"
#include "onnx_bytes.h"

#define MAX_OUTPUTS 8

/* An output of whatever type it has. */
static bytes named(const char *name)
{
    bytes out = {0};
    put_text(&out, 1, name);
    return out;
}

/* nz = NonZero(x), v = GatherND(x, Transpose(nz)), s = ReduceSum(v), n = Shape(nz) */
static bytes chain(const char *last_op)
{
    bytes graph = {0};
    put(&graph, 1, node("NonZero", "x", "nz"));
    put(&graph, 1, node("Transpose", "nz", "t"));
    put(&graph, 1, node("GatherND", "x,t", "v"));
    put(&graph, 1, node(last_op, "v", "s"));
    put(&graph, 1, node("Shape", "nz", "n"));
    put_text(&graph, 2, "g");
    put(&graph, 11, value("x", FLOAT, 2, (const int64_t[]){2, 3}));
    put(&graph, 12, named("nz"));
    put(&graph, 12, named("v"));
    put(&graph, 12, named("s"));
    put(&graph, 12, named("n"));
    return model(graph, 13);
}

static kiln_graph *import(bytes file)
{
    kiln_graph *graph = NULL;
    if (kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph))
        fail_msg("%s", kiln_context_message(context));
    return graph;
}

typedef struct run {
    kiln_tensor input, outputs[MAX_OUTPUTS];
    int64_t dims[MAX_OUTPUTS][KILN_MAX_RANK];
    _Alignas(8) char data[MAX_OUTPUTS][96];
} run;

static void run_open(run *r, const kiln_graph *graph, float *x)
{
    static const int64_t dims[] = {2, 3};
    memset(r, 0, sizeof *r);
    r->input = (kiln_tensor){KILN_f32, 2, dims, x, 24};
    assert_int_equal(graph->outputs.n, 5);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        assert_true(type->bytes <= 96);
        r->outputs[i] =
            (kiln_tensor){type->dtype, type->rank, type->dims, r->data[i], (size_t)type->bytes};
    }
}

/* All sizes and the elements that are there, against what is expected of x. */
static void run_check(const run *r, const float *x)
{
    int64_t n = 0, places[12], count;
    float sum = 0, values[6];
    for (int64_t i = 0; i < 6; i++) {
        if (x[i] == 0) continue;
        values[n] = x[i];
        sum += x[i];
        places[n++] = i;
    }
    for (int64_t i = 0; i < n; i++) places[n + i] = places[i] % 3;
    for (int64_t i = 0; i < n; i++) places[i] /= 3;
    assert_int_equal(r->dims[0][0], 2);
    assert_int_equal(r->dims[0][1], n);
    assert_int_equal(r->dims[1][0], n);
    assert_memory_equal(r->data[0], places, (size_t)n * 16);
    assert_memory_equal(r->data[1], values, (size_t)n * 4);
    assert_memory_equal(r->data[2], &sum, 4);
    assert_memory_equal(r->data[3], ((int64_t[]){2, n}), 16);
    memcpy(&count, r->data[4], 8);
    assert_int_equal(count, n);
}

static void compiled_check(kiln_graph *graph, float *x)
{
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    run r;
    run_open(&r, graph, x);
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    assert_int_equal(kiln_run(workspace, &r.input, 1, r.outputs, 5), KILN_OK);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(kiln_executable_output_dims(executable, i, r.outputs, r.dims[i]), KILN_OK);
    run_check(&r, x);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void graph_check(kiln_graph *graph)
{
    float rows[][6] = {{0, 1, 0, 2, 3, 0}, {1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run r;
        run_open(&r, graph, rows[i]);
        if (kiln_evaluate(graph, &r.input, 1, r.outputs, 5))
            fail_msg("%s", kiln_graph_message(graph));
        for (uint32_t k = 0; k < 5; k++)
            assert_int_equal(kiln_graph_output_dims(graph, k, r.outputs, r.dims[k]), KILN_OK);
        run_check(&r, rows[i]);
        compiled_check(graph, rows[i]);
    }
}

static void test_sizes_follow_the_data(void **state)
{
    kiln_graph *graph = import(chain("ReduceSum"));
    assert_string_equal(graph->outputs.at[4].name, "nz.count");
    graph_check(graph);
    kiln_graph_destroy(graph);
}

static void test_files_keep_what_counts(void **state)
{
    kiln_graph *graph = import(chain("ReduceSum")), *text = NULL, *binary = NULL;
    char *printed = NULL, path[] = "/tmp/kiln-dynamic-XXXXXX";
    assert_int_equal(kiln_print_text(graph, &printed), KILN_OK);
    assert_non_null(strstr(printed, " as \"nz\" counted 1 by 4"));
    assert_int_equal(kiln_parse_text(context, printed, strlen(printed), &text), KILN_OK);
    graph_check(text);
    close(mkstemp(path));
    assert_int_equal(kiln_write_binary(graph, path, NULL), KILN_OK);
    assert_int_equal(kiln_read_binary(context, path, &binary), KILN_OK);
    unlink(path);
    graph_check(binary);
    kiln_free(printed);
    kiln_graph_destroy(binary);
    kiln_graph_destroy(text);
    kiln_graph_destroy(graph);
}

static void test_operators_that_need_a_fixed_size_are_refused(void **state)
{
    static const char *const ops[] = {"Softmax", "Hardmax", "ArgMax", "LogSoftmax"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        bytes file = chain(ops[i]);
        kiln_graph *graph = NULL;
        kiln_status status = kiln_import_onnx_memory(context, file.at, file.n, NULL, &graph);
        const char *message = kiln_context_message(context);
        if (status != KILN_UNSUPPORTED || !strstr(message, "has a size that depends on the data") ||
            !strstr(message, ops[i]))
            fail_msg("%s: %s: %s", ops[i], kiln_status_name(status), message);
    }
}

/* y = x[:, at : at + 2] as exporters write it: the place is a scalar, the end is a sum of its own.
 * With `is_loose` the end is another input. */
static bytes moving_slice(bool is_loose)
{
    bytes graph = {0};
    const int64_t one[] = {1}, two = 2, axis = 1, shape = 1;
    put(&graph, 5, tensor("two", INT64, 0, NULL, &two, sizeof two));
    put(&graph, 5, tensor("axis", INT64, 1, one, &axis, sizeof axis));
    put(&graph, 5, tensor("shape", INT64, 1, one, &shape, sizeof shape));
    put(&graph, 1, node("Reshape", "at,shape", "from"));
    put(&graph, 1, node("Add", "two,at", "end"));
    put(&graph, 1, node("Reshape", is_loose ? "other,shape" : "end,shape", "to"));
    put(&graph, 1, node("Slice", "x,from,to,axis", "y"));
    put_text(&graph, 2, "g");
    put(&graph, 11, value("x", FLOAT, 2, (const int64_t[]){2, 5}));
    put(&graph, 11, value("at", INT64, 0, NULL));
    if (is_loose) put(&graph, 11, value("other", INT64, 0, NULL));
    put(&graph, 12, named("y"));
    return model(graph, 18);
}

static void test_a_slice_moves_with_the_data(void **state)
{
    static const float x[2][5] = {{0, 1, 2, 3, 4}, {10, 11, 12, 13, 14}};
    static const int64_t places[] = {0, 3, -3, -5, 4, -2, -6}; /* from the fifth on: it leaves x */
    kiln_graph *graph = import(moving_slice(false));
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    assert_int_equal(kiln_compile(graph, NULL, &executable), KILN_OK);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        float y[2][2] = {{0}};
        int64_t first = places[i] < 0 ? places[i] + 5 : places[i];
        const int64_t dims[] = {2, 5}, narrow[] = {2, 2};
        kiln_tensor inputs[] = {{KILN_f32, 2, dims, (void *)(uintptr_t)x, sizeof x},
                                {KILN_i64, 0, NULL, (void *)(uintptr_t)&places[i], 8}};
        kiln_tensor output = {KILN_f32, 2, narrow, y, sizeof y};
        for (int is_compiled = 0; is_compiled < 2; is_compiled++) {
            kiln_status status = is_compiled ? kiln_run(workspace, inputs, 2, &output, 1)
                                             : kiln_evaluate(graph, inputs, 2, &output, 1);
            const char *message =
                is_compiled ? kiln_workspace_message(workspace) : kiln_graph_message(graph);
            assert_int_equal(status, i < 4 ? KILN_OK : KILN_RANGE);
            if (i >= 4) assert_non_null(strstr(message, "a slice leaves its axis"));
            for (int64_t k = 0; i < 4 && k < 4; k++)
                assert_true(y[k / 2][k % 2] == x[k / 2][first + k % 2]);
        }
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    bytes loose = moving_slice(true);
    assert_int_equal(kiln_import_onnx_memory(context, loose.at, loose.n, NULL, &graph),
                     KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_context_message(context), "ends do not follow them"));
}

static void test_damaged_counts_are_refused(void **state)
{
    static const char *const texts[][2] = {
        {"kiln 1 graph f(%x: i64[]) { return %x counted 0 by 0 }", "axis"},
        {"kiln 1 graph f(%x: f32[2], %n: i64[]) { return %x counted 1 by 1, %n }", "axis"},
        {"kiln 1 graph f(%x: f32[2], %n: i64[]) { return %x counted 0 by -1, %n }", "by none"},
        {"kiln 1 graph f(%x: f32[2], %n: i64[]) { return %x counted 0 of 1, %n }", "by"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kiln_graph *graph = NULL;
        kiln_status status = kiln_parse_text(context, texts[i][0], strlen(texts[i][0]), &graph);
        assert_int_equal(status, KILN_MODEL);
        assert_non_null(strstr(kiln_context_message(context), texts[i][1]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_follow_the_data),
        cmocka_unit_test(test_files_keep_what_counts),
        cmocka_unit_test(test_operators_that_need_a_fixed_size_are_refused),
        cmocka_unit_test(test_a_slice_moves_with_the_data),
        cmocka_unit_test(test_damaged_counts_are_refused),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
