/* Open batches: which graphs are proved to keep the rows of a batch apart, with the same results in
 * chunks as in one piece; which are refused, and what the refusal says. */
#include "unit/function_bench.h"

#define DOT(lists) "{" lists ", accumulate = f32}"

/* A template with inputs of `types` by number of rows; the sentence of the refusal, or NULL. */
typedef struct graph_case {
    const char *name, *text, *refusal;
} graph_case;

static const graph_case cases[] = {
    {"mlp",
     "graph g(%x: f32[$1,6], %w: f32[6,5], %b: f32[5]) {"
     "  %0: f32[$1,5] = linear %x, %w, %b"
     "  %1: f32[$1,5] = gelu %0 {tanh = false}"
     "  %2: f32[$1,5] = softmax %1 {axis = 1}"
     "  return %2 }",
     NULL},
    {"attention over each row",
     "graph g(%x: f32[$1,6,8]) {"
     "  %0: f32[$1,6,2,4] = reshape %x"
     "  %1: f32[$1,2,6,4] = transpose %0 {permutation = [0, 2, 1, 3]}"
     "  %2: f32[$1,2,6,4] = attention %1, %1, %1 {scale = 0, causal = true}"
     "  %3: f32[$1,6,2,4] = transpose %2 {permutation = [0, 2, 1, 3]}"
     "  %4: f32[$6,8] = reshape %3"
     "  return %4 }",
     NULL},
    {"rows moved to a later axis and back",
     "graph g(%x: f32[$1,3,4]) {"
     "  %0: f32[3,$1,4] = transpose %x {permutation = [1, 0, 2]}"
     "  %1: f32[$1,4] = reduce_max %0 {axes = [0]}"
     "  %2: i64[$1] = argmax %1 {axis = 1, last = false}"
     "  return %1, %2 }",
     NULL},
    {"a table",
     "graph g(%x: i64[$1,3], %t: f32[9,4]) {"
     "  %0: f32[$1,3,4] = take %t, %x {axis = 0}"
     "  %1: f32[$1,4] = reduce_sum %0 {axes = [1]}"
     "  return %1 }",
     NULL},
    {"sorted, padded, joined, cut",
     "graph g(%x: f32[$1,5]) {"
     "  %0: f32[$1,5] = sort %x {axis = 1, descending = true}"
     "  %1: f32[] = constant {value = splat 0.5}"
     "  %2: f32[$1,7] = pad %0, %1 {low = [0, 1], high = [0, 1], interior = [0, 0]}"
     "  %3: f32[$1,5] = cumulative_sum %x {axis = 1, exclusive = false, reverse = false}"
     "  %4: f32[$1,12] = concat %2, %3 {axis = 1}"
     "  %5: f32[$1,4] = slice %4 {starts = [0, 2], limits = [$1, 10], strides = [1, 2]}"
     "  %6: f32[$1,4] = reverse %5 {axes = [1]}"
     "  return %6 }",
     NULL},
    {"image",
     "graph g(%x: f32[$1,2,6,6], %w: f32[3,2,3,3]) {"
     "  %0: f32[$1,3,6,6] = convolution %x, %w {strides = [1, 1], low = [1, 1], high = [1, "
     "1],"
     "    lhs_dilation = [1, 1], rhs_dilation = [1, 1], groups = 1, input_axes = [0, 1, 2, "
     "3],"
     "    kernel_axes = [0, 1, 2, 3], output_axes = [0, 1, 2, 3], accumulate = f32}"
     "  %1: f32[$1,3,3,3] = window_max %0 {sizes = [1, 1, 2, 2], strides = [1, 1, 2, 2],"
     "    low = [0, 0, 0, 0], high = [0, 0, 0, 0], dilations = [1, 1, 1, 1]}"
     "  return %1 }",
     NULL},
    {"two inputs, products of rows with themselves",
     "graph g(%x: f32[$1,3,4], %y: f32[$1,4]) {"
     "  %0: f32[$1,3] = dot_general %x, %y " DOT(
         "lhs_batch = [0], rhs_batch = [0],"
         " lhs_contract = [2], rhs_contract = [1]") "  %1: f32[3] = dot_general %x, "
                                                    "%y " DOT("lhs_batch = [], rhs_batch = "
                                                              "[],"
                                                              " lhs_contract = [0, 2], "
                                                              "rhs_contract = [0, 1]") "  "
                                                                                       "ret"
                                                                                       "urn"
                                                                                       " %"
                                                                                       "0 "
                                                                                       "}",
     NULL},
    {"a recurrent state",
     "graph g(%s: f32[$1,40,3], %w: f32[3,3], %r: f32[$1,3]) {"
     "  %9: f32[40,$1,3] = transpose %s {permutation = [1, 0, 2]}"
     "  %0: f32[$1,3] = constant {value = splat 0}"
     "  %1: (f32[$1,3], f32[40,$1,3]) = scan %0, %9, %w {n_carried = 1, n_slices = 1,"
     "    length = 40, regions = [graph b(%h: f32[$1,3], %x: f32[$1,3], %w: f32[3,3]) {"
     "      %0: f32[$1,3] = linear %h, %w"
     "      %1: f32[$1,3] = add %0, %x"
     "      %2: f32[$1,3] = tanh %1 return %2, %1 }]}"
     "  %2: f32[$1,3] = item %1 {index = 0}"
     "  %3: f32[40,$1,3] = item %1 {index = 1}"
     "  %4: f32[$1,3] = reduce_sum %3 {axes = [0]}"
     "  %5: f32[$1,3] = add %r, %4"
     "  return %2, %5 }",
     NULL},
    {"a loop and a choice",
     "graph g(%x: f32[$1,3], %n: i64[], %c: bool[]) {"
     "  %0: i64[] = constant {value = splat 0}"
     "  %1: (i64[], f32[$1,3]) = while %0, %x, %n {n_carried = 2, limit = 9, regions = ["
     "    graph c(%i: i64[], %x: f32[$1,3], %n: i64[]) { %0: bool[] = lt %i, %n return %0 },"
     "    graph b(%i: i64[], %x: f32[$1,3], %n: i64[]) {"
     "      %0: i64[] = constant {value = splat 1} %1: i64[] = add %i, %0"
     "      %2: f32[$1,3] = tanh %x return %1, %2 }]}"
     "  %2: f32[$1,3] = item %1 {index = 1}"
     "  %3: (f32[$1,3]) = if %c, %2 {regions = ["
     "    graph t(%x: f32[$1,3]) { %0: f32[$1,3] = neg %x return %0 },"
     "    graph e(%x: f32[$1,3]) { %0: f32[$1,3] = abs %x return %0 }]}"
     "  %4: f32[$1,3] = item %3 {index = 0}"
     "  return %4 }",
     NULL},
    {"sums over the batch in a loop",
     "graph g(%x: f32[$1,3], %n: i64[]) {"
     "  %0: i64[] = constant {value = splat 0}"
     "  %1: (i64[], f32[$1,3]) = while %0, %x, %n {n_carried = 2, limit = 9, regions = ["
     "    graph c(%i: i64[], %x: f32[$1,3], %n: i64[]) { %0: bool[] = lt %i, %n return %0 },"
     "    graph b(%i: i64[], %x: f32[$1,3], %n: i64[]) {"
     "      %0: i64[] = constant {value = splat 1} %1: i64[] = add %i, %0"
     "      %2: f32[3] = reduce_max %x {axes = [0]}"
     "      %3: f32[$1,3] = broadcast %2 {axes = [1]} return %1, %3 }]}"
     "  %2: f32[$1,3] = item %1 {index = 1}"
     "  return %2 }",
     "while %0, %x, %n"},
    {"rows decide how often",
     "graph g(%x: f32[$1], %n: i64[]) {"
     "  %0: (f32[$1]) = while %x {n_carried = 1, limit = 9, regions = ["
     "    graph c(%x: f32[$1]) { %0: f32[] = reduce_sum %x {axes = [0]}"
     "      %1: f32[] = constant {value = splat 1} %2: bool[] = lt %0, %1 return %2 },"
     "    graph b(%x: f32[$1]) { %0: f32[$1] = add %x, %x return %0 }]}"
     "  %1: f32[$1] = item %0 {index = 0}"
     "  return %1 }",
     "how often it repeats depends on rows"},
    {"sums over the batch",
     "graph g(%x: f32[$1,3]) {"
     "  %0: f32[3] = mean %x {axes = [0]}"
     "  %1: f32[$1,3] = broadcast %0 {axes = [1]}"
     "  %2: f32[$1,3] = sub %x, %1"
     "  return %2 }",
     "node %0: f32[3] = mean %x {axes = [0]} mixes the rows of the batch: it reduces over "
     "the "
     "rows; expected rows apart"},
    {"each row with every other",
     "graph g(%x: f32[$1,3]) {"
     "  %0: f32[$1,$1] = dot_general %x, %x " DOT(
         "lhs_batch = [], rhs_batch = [],"
         " lhs_contract = [1], rhs_contract = [1]") "  return %0 }",
     "dot_general %x, %x"},
    {"transposed",
     "graph g(%x: f32[$1,3]) {"
     "  %0: f32[3,$1] = transpose %x {permutation = [1, 0]} return %0 }",
     "output \"y\" is f32[3,13], without the rows of the batch along its first axis"},
    {"reversed", "graph g(%x: f32[$1,3]) { %0: f32[$1,3] = reverse %x {axes = [0]} return %0 }",
     "it works along the axis of the rows"},
    {"the first row",
     "graph g(%x: f32[$1,3]) {"
     "  %0: f32[1,3] = slice %x {starts = [0, 0], limits = [1, 3], strides = [1, 1]}"
     "  %1: f32[$1,3] = broadcast %0 {axes = [0, 1]} return %1 }",
     "it takes some of the rows"},
    {"rows numbered",
     "graph g(%x: f32[$1,3]) {"
     "  %0: f32[$1,3] = iota {axis = 0} %1: f32[$1,3] = add %x, %0 return %1 }",
     "an operand without rows differs from row to row"},
    {"shuffled into columns", "graph g(%x: f32[$1,3]) { %0: f32[3,$1] = reshape %x return %0 }",
     "no axis of its result counts rows"},
    {"rows as places",
     "graph g(%x: i64[$1,3]) {"
     "  %0: i64[$1,3,3] = take %x, %x {axis = 0} return %0 }",
     "it takes from other rows"},
    {"no rows at all",
     "graph g(%x: f32[$1,3]) { %0: f32[2] = constant {value = splat 1}"
     "  return %0 }",
     "without the rows"},
};

static void add_inputs(bench_call *call, const char *text, int64_t rows)
{
    for (const char *at = strchr(text, '('); *at != ')'; at++) {
        if (*at != ':') continue;
        int64_t dims[8];
        uint32_t rank = 0;
        kiln_dtype dtype = at[2] == 'i' ? KILN_i64 : at[2] == 'b' ? KILN_bool : KILN_f32;
        at = strchr(at, '[');
        while (*at != ']' && at[1] != ']') {
            int is_rows = at[1] == '$';
            char *end;
            dims[rank++] = strtoll(at + 1 + is_rows, &end, 10) * (is_rows ? rows : 1);
            at = end;
        }
        bench_add(call, dtype, rank, dims);
    }
}

static kiln_function *open_case(kiln_context *context, const graph_case *one, int is_open,
                                const int64_t *sizes)
{
    unsigned char batched[8] = {0};
    kiln_function_options options = {sizeof options, .is_batched = is_open ? batched : NULL,
                                     .n_is_batched = 8, .row_sizes = sizes, .n_row_sizes = 2};
    kiln_function *function = NULL;
    uint32_t n = 0;
    for (const char *at = strchr(one->text, '('); *at != ')'; at++)
        if (*at == '[') batched[n++] = at[1] == '$';
    if (kiln_function_create(context, bench_build, (void *)(uintptr_t)one->text, &options,
                             &function))
        fail_msg("%s", kiln_context_message(context));
    return function;
}

static void check_near(const graph_case *one, const kiln_tensor *a, const kiln_tensor *b)
{
    assert_int_equal(a->bytes, b->bytes);
    for (size_t i = 0; i < a->bytes / kiln_dtype_bytes(a->dtype); i++) {
        double x = kiln_tensor_get(a, (int64_t)i), y = kiln_tensor_get(b, (int64_t)i);
        double distance = x > y ? x - y : y - x, size = y > 0 ? y : -y;
        if (!(distance <= 1e-5 * (size + 1)))
            fail_msg("%s: element %zu is %g in chunks, %g at once", one->name, i, x, y);
    }
}

static void test_chunks_compute_what_the_whole_does(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 4};
    kiln_context *context = bench_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].refusal) continue;
        kiln_function *open = open_case(context, &cases[i], 1, sizes);
        kiln_function *plain = open_case(context, &cases[i], 0, sizes);
        bench_call a = {0}, b = {0};
        add_inputs(&a, cases[i].text, 13);
        add_inputs(&b, cases[i].text, 13);
        if (bench_prepare(open, &a) || bench_run(open, &a) || bench_prepare(plain, &b) ||
            bench_run(plain, &b))
            fail_msg("%s: %s", cases[i].name, kiln_context_message(context));
        for (uint32_t k = 0; k < a.n_outputs; k++)
            check_near(&cases[i], &a.outputs[k], &b.outputs[k]);
        kiln_function_report report;
        kiln_function_inspect(open, &report);
        if (report.n_chunks != 4) /* 4 + 4 + 4 + 1 */
            fail_msg("%s: %u chunks", cases[i].name, (unsigned)report.n_chunks);
        bench_close(&a);
        bench_close(&b);
        kiln_function_destroy(open);
        kiln_function_destroy(plain);
    }
    kiln_context_destroy(context);
}

static void test_what_mixes_rows_is_refused(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 4};
    kiln_context *context = bench_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!cases[i].refusal) continue;
        kiln_function *function = open_case(context, &cases[i], 1, sizes);
        bench_call call = {0};
        add_inputs(&call, cases[i].text, 13);
        assert_int_equal(bench_prepare(function, &call), KILN_UNSUPPORTED);
        if (!strstr(kiln_context_message(context), cases[i].refusal))
            fail_msg("%s: %s", cases[i].name, kiln_context_message(context));
        bench_close(&call);
        kiln_function_destroy(function);
    }
    kiln_context_destroy(context);
}

/* A model that looks at the number of rows is compiled for each, and never cut. */
static void test_graphs_that_look_at_the_batch_are_not_cut(void **state)
{
    (void)state;
    static const graph_case counted[] = {
        {"times n",
         "graph g(%x: f32[$1,2]) { %0: f32[$1,2] = constant {value = splat $1}"
         "  %1: f32[$1,2] = mul %x, %0 return %1 }",
         NULL},
        {"times a sum of n ones",
         "graph g(%x: f32[$1,2]) { %0: f32[$1] = constant {value = splat 1}"
         "  %1: f32[] = reduce_sum %0 {axes = [0]}"
         "  %2: f32[$1,2] = broadcast %1 {axes = []}"
         "  %3: f32[$1,2] = mul %x, %2 return %3 }",
         NULL},
    };
    static const int64_t sizes[] = {1, 4};
    kiln_context *context = bench_context(1);
    for (size_t i = 0; i < 2; i++) {
        kiln_function *function = open_case(context, &counted[i], 1, sizes);
        bench_call call = {0};
        add_inputs(&call, counted[i].text, 13);
        if (bench_prepare(function, &call) || bench_run(function, &call))
            fail_msg("%s", kiln_context_message(context));
        kiln_function_report report;
        kiln_function_inspect(function, &report);
        assert_int_equal(report.n_chunks, 0);
        const float *x = call.inputs[0].data, *y = call.outputs[0].data;
        for (int k = 0; k < 26; k++) assert_true(y[k] == 13 * x[k]);
        bench_close(&call);
        kiln_function_destroy(function);
    }
    kiln_context_destroy(context);
}

/* The rows of a chunk have the bits of a compile for the chunk's size; here 13 rows of sizes 2 and
 * 8 are 0…7 and, reaching back, 5…12. */
static void test_chunks_have_the_bits_of_their_size(void **state)
{
    (void)state;
    static const int64_t sizes[] = {2, 8};
    kiln_context *context = bench_context(2);
    kiln_function *open = open_case(context, &cases[0], 1, sizes);
    kiln_function *plain = open_case(context, &cases[0], 0, sizes);
    bench_call a = {0}, b = {0};
    add_inputs(&a, cases[0].text, 13);
    add_inputs(&b, cases[0].text, 8);
    if (bench_prepare(open, &a) || bench_run(open, &a) || bench_prepare(plain, &b))
        fail_msg("%s", kiln_context_message(context));
    static const int starts[] = {5, 0};
    for (int i = 0; i < 2; i++) {
        float *x = a.inputs[0].data, *y = a.outputs[0].data;
        memcpy(b.inputs[0].data, x + 6 * starts[i], 8 * 6 * sizeof *x);
        for (uint32_t k = 1; k < 3; k++)
            memcpy(b.inputs[k].data, a.inputs[k].data, a.inputs[k].bytes);
        assert_int_equal(bench_run(plain, &b), KILN_OK);
        assert_memory_equal(b.outputs[0].data, y + 5 * starts[i], (i ? 5 : 8) * 5 * sizeof *y);
    }
    kiln_function_report report;
    kiln_function_inspect(open, &report);
    assert_int_equal(report.n_chunks, 2);
    bench_close(&a);
    bench_close(&b);
    kiln_function_destroy(open);
    kiln_function_destroy(plain);
    kiln_context_destroy(context);
}

/* Where every chunk has 16 results and more, the order of sums is that of the whole batch. */
static void test_wide_chunks_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    static const int64_t sizes[] = {4, 8};
    kiln_context *context = bench_context(2);
    for (size_t i = 0; i < 2; i++) { /* mlp, attention */
        kiln_function *open = open_case(context, &cases[i], 1, sizes);
        kiln_function *plain = open_case(context, &cases[i], 0, sizes);
        bench_call a = {0}, b = {0};
        add_inputs(&a, cases[i].text, 37);
        add_inputs(&b, cases[i].text, 37);
        if (bench_prepare(open, &a) || bench_run(open, &a) || bench_prepare(plain, &b) ||
            bench_run(plain, &b))
            fail_msg("%s", kiln_context_message(context));
        assert_memory_equal(a.outputs[0].data, b.outputs[0].data, a.outputs[0].bytes);
        bench_close(&a);
        bench_close(&b);
        kiln_function_destroy(open);
        kiln_function_destroy(plain);
    }
    kiln_context_destroy(context);
}

static void test_donated_inputs_are_refused(void **state)
{
    (void)state;
    static const graph_case donated = {
        "donated", "graph g(%x: f32[$1,2] donated) { %0: f32[$1,2] = abs %x return %0 }", NULL};
    static const int64_t sizes[] = {1, 4};
    kiln_context *context = bench_context(1);
    kiln_function *function = open_case(context, &donated, 1, sizes);
    bench_call call = {0};
    bench_add(&call, KILN_f32, 2, (int64_t[]){3, 2});
    assert_int_equal(bench_prepare(function, &call), KILN_INVALID);
    assert_non_null(strstr(kiln_context_message(context), "input 0 is donated"));
    bench_close(&call);
    kiln_function_destroy(function);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_compute_what_the_whole_does),
        cmocka_unit_test(test_what_mixes_rows_is_refused),
        cmocka_unit_test(test_graphs_that_look_at_the_batch_are_not_cut),
        cmocka_unit_test(test_chunks_have_the_bits_of_their_size),
        cmocka_unit_test(test_wide_chunks_have_the_bits_of_the_whole),
        cmocka_unit_test(test_donated_inputs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
