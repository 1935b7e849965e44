/* kiln_function: one compile a signature, bounds by number and by bytes, open batches of ONNX
 * models, values that are part of the signature, and two threads at once. */
#include "unit/function_bench.h"

#include <pthread.h>

#include "unit/onnx_bytes.h"

static char twice[] = "graph g(%x: f32[$1,3]) {"
                      "  %0: f32[$1,3] = add %x, %x"
                      "  %1: f32[$1,3] = relu %0 return %1 }";

static kiln_function *open_function(kiln_context *context, char *text,
                                    const kiln_function_options *options)
{
    kiln_function *function = NULL;
    if (kiln_function_create(context, bench_build, text, options, &function))
        fail_msg("%s", kiln_context_message(context));
    return function;
}

static void call_twice(kiln_context *context, kiln_function *function, int64_t rows)
{
    bench_call call = {0};
    bench_add(&call, KILN_f32, 2, (int64_t[]){rows, 3});
    if (bench_prepare(function, &call) || bench_run(function, &call))
        fail_msg("%s", kiln_context_message(context));
    assert_int_equal(call.n_outputs, 1);
    const float *x = call.inputs[0].data, *y = call.outputs[0].data;
    for (int64_t i = 0; i < rows * 3; i++) assert_true(y[i] == (x[i] > 0 ? 2 * x[i] : 0));
    bench_close(&call);
}

static kiln_function_report inspect(kiln_function *function)
{
    kiln_function_report report;
    kiln_function_inspect(function, &report);
    return report;
}

static void test_a_signature_is_compiled_once(void **state)
{
    (void)state;
    kiln_context *context = bench_context(1);
    kiln_function *function = open_function(context, twice, NULL);
    static const int64_t rows[] = {2, 5, 2, 7, 5, 2};
    for (size_t i = 0; i < 6; i++) call_twice(context, function, rows[i]);
    kiln_function_report report = inspect(function);
    assert_int_equal(report.n_calls, 12); /* prepare and run */
    assert_int_equal(report.n_misses, 3);
    assert_int_equal(report.n_hits, 9);
    assert_int_equal(report.n_executables, 3);
    assert_int_equal(report.n_evicted, 0);
    assert_true(report.compile_seconds > 0);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
}

static void test_the_one_used_longest_ago_goes(void **state)
{
    (void)state;
    kiln_context *context = bench_context(1);
    kiln_function_options options = {sizeof options, .max_executables = 2};
    kiln_function *function = open_function(context, twice, &options);
    call_twice(context, function, 2);
    call_twice(context, function, 3);
    call_twice(context, function, 2);
    call_twice(context, function, 4); /* 3 goes */
    assert_int_equal(inspect(function).n_evicted, 1);
    call_twice(context, function, 2);
    assert_int_equal(inspect(function).n_misses, 3);
    call_twice(context, function, 3);
    assert_int_equal(inspect(function).n_misses, 4);
    assert_int_equal(inspect(function).n_executables, 2);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
}

static char weighty[] = "graph g(%x: f32[$1,64]) {"
                        "  %0: f32[64,64] = iota {axis = 1}"
                        "  %1: f32[$1,64] = dot_general %x, %0 {lhs_batch = [], rhs_batch = [],"
                        "    lhs_contract = [1], rhs_contract = [0], accumulate = f32}"
                        "  return %1 }";

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    kiln_context *context = bench_context(1);
    kiln_function_options options = {sizeof options, .max_bytes = 1};
    kiln_function *function = open_function(context, weighty, &options);
    for (int64_t rows = 2; rows < 5; rows++) {
        bench_call call = {0};
        bench_add(&call, KILN_f32, 2, (int64_t[]){rows, 64});
        if (bench_prepare(function, &call) || bench_run(function, &call))
            fail_msg("%s", kiln_context_message(context));
        bench_close(&call);
    }
    kiln_function_report report = inspect(function);
    assert_int_equal(report.n_misses >= 3, 1);
    assert_int_equal(report.n_executables, 0); /* none is in use, none fits */
    assert_true(report.bytes <= 1);
    assert_true(report.n_evicted == report.n_misses);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
}

static void test_failures_are_told_and_not_kept(void **state)
{
    (void)state;
    static char wrong[] = "graph g(%x: f32[$1,3]) { %0: f32[$1,4] = abs %x return %0 }";
    static char other[] = "graph g(%x: f32[$2,3]) { %0: f32[$2,3] = abs %x return %0 }";
    kiln_context *context = bench_context(1);
    static const struct {
        char *text;
        kiln_status status;
        const char *sentence;
    } rows[] = {
        {wrong, KILN_MODEL, "f32[2,4]"},
        {other, KILN_INVALID, "input 0 of the graph that was built is of another type"},
    };
    for (size_t i = 0; i < 2; i++) {
        kiln_function *function = open_function(context, rows[i].text, NULL);
        bench_call call = {0};
        bench_add(&call, KILN_f32, 2, (int64_t[]){2, 3});
        for (int again = 0; again < 2; again++) {
            assert_int_equal(bench_prepare(function, &call), rows[i].status);
            assert_non_null(strstr(kiln_context_message(context), rows[i].sentence));
        }
        assert_int_equal(inspect(function).n_executables, 0);
        bench_close(&call);
        kiln_function_destroy(function);
    }
    kiln_context_destroy(context);
}

static void test_tensors_are_checked(void **state)
{
    (void)state;
    kiln_context *context = bench_context(1);
    static const unsigned char batched[] = {1};
    kiln_function_options options = {sizeof options, .is_batched = batched, .n_is_batched = 1};
    for (int is_open = 0; is_open < 2; is_open++) {
        kiln_function *function = open_function(context, twice, is_open ? &options : NULL);
        bench_call call = {0};
        bench_add(&call, KILN_f32, 2, (int64_t[]){13, 3});
        assert_int_equal(bench_prepare(function, &call), KILN_OK);
        kiln_tensor good = call.outputs[0];
        call.outputs[0].data = call.inputs[0].data;
        assert_int_equal(bench_run(function, &call), KILN_INVALID);
        assert_non_null(strstr(kiln_context_message(context), "overlaps"));
        call.outputs[0] = good;
        call.outputs[0].bytes -= 4;
        assert_int_equal(bench_run(function, &call), KILN_INVALID);
        assert_non_null(strstr(kiln_context_message(context), "bytes"));
        call.outputs[0] = good;
        call.inputs[0].rank = 17;
        assert_int_equal(bench_run(function, &call), KILN_INVALID);
        assert_non_null(strstr(kiln_context_message(context), "rank is over 16"));
        call.inputs[0].rank = 2;
        assert_int_equal(bench_run(function, &call), KILN_OK);
        bench_close(&call);
        kiln_function_destroy(function);
    }
    kiln_context_destroy(context);
}

/* Two threads, more shapes than are kept: compiled, given up and run all at once. */
typedef struct worker {
    kiln_context *context;
    kiln_function *function;
    uint32_t seed;
    int n_wrong;
} worker;

static void *work(void *object)
{
    worker *own = object;
    for (int k = 0; k < 60; k++) {
        own->seed = own->seed * 1664525u + 1013904223u;
        int64_t rows = 1 + own->seed % 23, dims[2] = {rows, 3};
        float x[69], y[69];
        for (int64_t i = 0; i < rows * 3; i++) x[i] = (float)(i % 7) - 3;
        kiln_tensor in = {KILN_f32, 2, dims, x, (size_t)rows * 12}, out = in;
        out.data = y;
        if (kiln_function_run(own->function, &in, 1, &out, 1)) own->n_wrong += 1000;
        for (int64_t i = 0; i < rows * 3; i++) own->n_wrong += y[i] != (x[i] > 0 ? 2 * x[i] : 0);
    }
    return NULL;
}

static void test_two_threads_share_a_function(void **state)
{
    (void)state;
    static const unsigned char batched[] = {1};
    for (int is_open = 0; is_open < 2; is_open++) {
        kiln_context *context = bench_context(2);
        kiln_function_options options = {sizeof options, .max_executables = 3,
                                         .is_batched = is_open ? batched : NULL, .n_is_batched = 1};
        kiln_function *function = open_function(context, twice, &options);
        worker workers[2] = {{context, function, 1, 0}, {context, function, 2, 0}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, work, &workers[i]);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
        assert_int_equal(workers[0].n_wrong + workers[1].n_wrong, 0);
        kiln_function_report report = inspect(function);
        assert_int_equal(report.n_calls, 120);
        assert_true(report.n_executables <= 3);
        assert_int_equal(report.n_misses - report.n_evicted, report.n_executables);
        if (is_open) assert_int_equal(report.n_evicted, 0); /* 1 and 8 rows serve them all */
        kiln_function_destroy(function);
        kiln_context_destroy(context);
    }
}

/* ONNX */

/* y = softmax(x) over the last axis, or over the first one. */
static void write_model(const char *path, const char *op, int64_t axis)
{
    bytes graph = {0}, output = {0}, only = node(op, "x", "y");
    put(&only, 5, attribute_int("axis", axis));
    put(&graph, 1, only);
    put(&graph, 11, open_value("x", "batch", 4));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file.at, 1, file.n, out), file.n);
    fclose(out);
}

static void test_an_open_dim_of_a_file(void **state)
{
    (void)state;
    static const char path[] = "function_case.onnx";
    kiln_context *context = bench_context(1);
    kiln_function_options options = {sizeof options, .open_dim = "batch"};
    kiln_function *function = NULL;
    uint32_t n;
    write_model(path, "Softmax", 1);
    if (kiln_function_open_onnx(context, path, NULL, &options, &function))
        fail_msg("%s", kiln_context_message(context));
    const kiln_function_input *input = kiln_function_inputs(function, &n);
    assert_int_equal(n, 1);
    assert_string_equal(input->name, "x");
    assert_string_equal(input->dim_names[0], "batch");
    assert_true(input->is_batched && input->dims[0] == -1 && input->dims[1] == 4);
    for (int64_t rows = 20; rows < 30; rows++) {
        bench_call call = {0};
        bench_add(&call, KILN_f32, 2, (int64_t[]){rows, 4});
        if (bench_prepare(function, &call) || bench_run(function, &call))
            fail_msg("%s", kiln_context_message(context));
        assert_string_equal(call.types[0].name, "y");
        assert_int_equal(call.types[0].dims[0], rows);
        const float *y = call.outputs[0].data;
        for (int64_t i = 0; i < rows; i++) {
            float sum = y[4 * i] + y[4 * i + 1] + y[4 * i + 2] + y[4 * i + 3];
            assert_true(sum > 0.999f && sum < 1.001f);
        }
        bench_close(&call);
    }
    kiln_function_report report = inspect(function);
    assert_int_equal(report.n_misses, 1); /* for all rows */
    assert_true(report.n_chunks >= 30);
    kiln_function_destroy(function);
    write_model(path, "Softmax", 0);
    assert_int_equal(kiln_function_open_onnx(context, path, NULL, &options, &function), KILN_OK);
    bench_call call = {0};
    bench_add(&call, KILN_f32, 2, (int64_t[]){3, 4});
    assert_int_equal(bench_prepare(function, &call), KILN_UNSUPPORTED);
    assert_non_null(strstr(kiln_context_message(context), "softmax"));
    assert_non_null(strstr(kiln_context_message(context), "mixes the rows of the batch"));
    bench_close(&call);
    kiln_function_destroy(function);
    options.open_dim = "other";
    assert_int_equal(kiln_function_open_onnx(context, path, NULL, &options, &function),
                     KILN_INVALID);
    assert_non_null(strstr(kiln_context_message(context), "no input has an open dim other"));
    remove(path);
    kiln_context_destroy(context);
}

/* Reshape's shape is an input: its value is part of the signature. */
static void test_values_are_part_of_the_signature(void **state)
{
    (void)state;
    static const char path[] = "function_value.onnx", *const names[] = {"i"};
    bytes graph = {0}, output = {0};
    put(&graph, 1, node("Reshape", "x,i", "y"));
    put(&graph, 11, value("x", FLOAT, 1, (int64_t[]){4}));
    put(&graph, 11, value("i", INT64, 1, (int64_t[]){2}));
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    bytes file = model(graph, 17);
    FILE *out = fopen(path, "wb");
    assert_int_equal(fwrite(file.at, 1, file.n, out), file.n);
    fclose(out);
    kiln_context *context = bench_context(1);
    kiln_function_options options = {sizeof options, .values = names, .n_values = 1};
    kiln_function *function = NULL;
    assert_int_equal(kiln_function_open_onnx(context, path, NULL, &options, &function), KILN_OK);
    static const int64_t shapes[][2] = {{2, 2}, {4, 1}, {2, 2}};
    for (size_t i = 0; i < 3; i++) {
        bench_call call = {0};
        bench_add(&call, KILN_f32, 1, (int64_t[]){4});
        bench_add(&call, KILN_i64, 1, (int64_t[]){2});
        memcpy(call.inputs[1].data, shapes[i], sizeof shapes[i]);
        if (bench_prepare(function, &call) || bench_run(function, &call))
            fail_msg("%s", kiln_context_message(context));
        assert_int_equal(call.types[0].dims[0], shapes[i][0]);
        assert_memory_equal(call.outputs[0].data, call.inputs[0].data, 16);
        bench_close(&call);
    }
    assert_int_equal(inspect(function).n_misses, 2);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
    remove(path);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    static const int64_t sizes[] = {8, 4};
    kiln_context *context = bench_context(1);
    kiln_function *function = NULL;
    const struct {
        kiln_function_options options;
        const char *sentence;
    } rows[] = {
        {{.struct_bytes = 3}, "struct_bytes is 3"},
        {{sizeof(kiln_function_options), .max_bytes = -1}, "max_bytes is -1"},
        {{sizeof(kiln_function_options), .row_sizes = sizes, .n_row_sizes = 2}, "row size 4"},
        {{sizeof(kiln_function_options), .row_sizes = sizes}, "0 row sizes"},
        {{sizeof(kiln_function_options), .open_dim = "n"}, "for models from files"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(
            kiln_function_create(context, bench_build, twice, &rows[i].options, &function),
            KILN_INVALID);
        assert_non_null(strstr(kiln_context_message(context), rows[i].sentence));
    }
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_signature_is_compiled_once),
        cmocka_unit_test(test_the_one_used_longest_ago_goes),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_failures_are_told_and_not_kept),
        cmocka_unit_test(test_tensors_are_checked),
        cmocka_unit_test(test_two_threads_share_a_function),
        cmocka_unit_test(test_an_open_dim_of_a_file),
        cmocka_unit_test(test_values_are_part_of_the_signature),
        cmocka_unit_test(test_options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
