/* SafeTensors: what is written reads back and computes; files that are damaged, contradictory or
 * hostile give their status and a sentence that names the place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"

static kiln_context *context;
static char folder[] = "/tmp/kiln-safetensors-XXXXXX", path[96], other[96];

static int set_up(void **state)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    snprintf(other, sizeof other, "%s/b.safetensors", folder);
    return kiln_context_create(NULL, &context);
}

static int tear_down(void **state)
{
    unlink(path);
    unlink(other);
    kiln_context_destroy(context);
    return rmdir(folder); /* nothing half-written is left */
}

/* A file of that header length, header and so many bytes of data: 0, 1, 2, … */
static void write_raw(uint64_t length, const char *header, size_t n_header, size_t n_data)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 8; i++) fputc((int)(length >> 8 * i & 255), file);
    fwrite(header, 1, n_header, file);
    for (size_t i = 0; i < n_data; i++) fputc((int)(i & 255), file);
    assert_int_equal(fclose(file), 0);
}

static void write_header(const char *header, size_t n_data)
{
    write_raw(strlen(header), header, strlen(header), n_data);
}

static void check_open(kiln_status wanted, const char *text)
{
    kiln_safetensors *file = NULL;
    kiln_status status = kiln_safetensors_open(context, path, &file);
    const char *message = kiln_context_message(context);
    if (status != wanted || (status && (file || !strstr(message, text))))
        fail_msg("%s: %s; expected %s: …%s…", kiln_status_name(status), message,
                 kiln_status_name(wanted), text);
    kiln_safetensors_close(file);
}

static void check(const char *header, size_t n_data, kiln_status wanted, const char *text)
{
    write_header(header, n_data);
    check_open(wanted, text);
}

#define A(fields) "{\"a\":{" fields "}}"
#define U8_2 "\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]"

static void test_good_files_open(void **state)
{
    check(A(U8_2), 2, KILN_OK, "");
    check("{}", 0, KILN_OK, "");
    check("{ }   ", 0, KILN_OK, "");
    check(" {}", 0, KILN_MODEL, "byte 8: the header reads \" {}\"; expected `{`");
    check("{\n\t\"a\" : {\"shape\" :[ 2 ],\r\"data_offsets\": [0 , 2],\"dtype\":\"U8\"} } ", 2,
          KILN_OK, "");
    check("{\"e\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[2,2]},\"a\":{" U8_2 "}}", 2,
          KILN_OK, "");
    check("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{" U8_2 "}}", 2, KILN_OK, "");
}

static void test_names_unescape(void **state)
{
    write_header("{\"__metadata__\":{\"k\\u00e9y\":\"\\ud83d\\ude00\\n\\\"\"},"
                 "\"a\\/b\\\\\":{" U8_2 "}}",
                 2);
    kiln_safetensors *file;
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    assert_string_equal(kiln_safetensors_metadata(file, "k\xc3\xa9y"), "\xf0\x9f\x98\x80\n\"");
    assert_null(kiln_safetensors_metadata(file, "other"));
    assert_int_equal(kiln_safetensors_count(file), 1);
    const kiln_safetensor *tensor = kiln_safetensors_find(file, "a/b\\");
    assert_non_null(tensor);
    assert_ptr_equal(tensor, kiln_safetensors_at(file, 0));
    assert_null(kiln_safetensors_at(file, 1));
    uint8_t data[2];
    assert_int_equal(kiln_safetensors_read(file, tensor, data, 2), KILN_OK);
    assert_int_equal(data[1], 1);
    assert_int_equal(kiln_safetensors_read(file, tensor, data, 3), KILN_INVALID);
    kiln_safetensors_close(file);
}

/* S1, S2 */
static void test_header_lengths(void **state)
{
    FILE *out = fopen(path, "wb");
    fclose(out);
    for (int n = 0; n < 8; n++) {
        char text[64];
        snprintf(text, sizeof text, "a file of %d bytes", n);
        check_open(KILN_MODEL, text);
        out = fopen(path, "ab");
        fputc(0, out);
        fclose(out);
    }
    write_raw(3, "{}", 2, 0);
    check_open(KILN_MODEL, "header length 3, file 10 bytes");
    write_raw((uint64_t)1 << 63, "{}", 2, 0);
    check_open(KILN_MODEL, "header length 9223372036854775808, file 10 bytes");
    write_raw(UINT64_MAX, "{}", 2, 0);
    check_open(KILN_MODEL, "header length 18446744073709551615, file 10 bytes");
    write_raw(100000001, "{}", 2, 0);
    assert_int_equal(truncate(path, 100000009), 0);
    check_open(KILN_LIMIT, "header length 100000001; expected at most 100000000");
}

/* S3, S6, S9, S11 */
static void test_headers_that_are_not_json(void **state)
{
    static const struct {
        const char *header, *text;
    } cases[] = {
        {"", "byte 8: the header reads \"\""},
        {"[]", "byte 8: the header reads \"[]\"; expected `{`"},
        {"{", "expected a name"},
        {"{}}", "byte 10: the header reads \"}\""},
        {"{}\n", "expected blanks up to the end"},
        {"{\"a\xff\":{" U8_2 "}}", "byte 11: the header reads \"\\xff"},
        {"{\"a\xed\xa0\x80\":{" U8_2 "}}", "expected UTF-8 text"},
        {"{\"a\\u0000\":{" U8_2 "}}", "other than NUL"},
        {"{\"a\\ud800\":{" U8_2 "}}", "expected a character of text"},
        {"{\"a\\x\":{" U8_2 "}}", "an escape of JSON"},
        {"{\"a\n\":{" U8_2 "}}", "expected UTF-8 text"},
        {"{\"a", "a string that ends"},
        {"{\"a\\", "a string that ends"},
        {"{\"a\" {" U8_2 "}}", "expected `:`"},
        {"{\"a\":{" U8_2 "},}", "expected a name"},
        {"{\"a\":{" U8_2 ",}}", "expected a field"},
        {"{\"a\":{" U8_2 "}", "expected `}`"},
        {"{'a':1}", "expected a name"},
        {A("\"dtype\":\"U8\",\"shape\":[-2],\"data_offsets\":[0,2]"),
         "byte 36: the header reads \"-2],"},
        {A("\"dtype\":\"U8\",\"shape\":[2.0],\"data_offsets\":[0,2]"), "whole number from 0"},
        {A("\"dtype\":\"U8\",\"shape\":[2e0],\"data_offsets\":[0,2]"), "whole number from 0"},
        {A("\"dtype\":\"U8\",\"shape\":[02],\"data_offsets\":[0,2]"), "whole number from 0"},
        {A("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,9007199254740993]"), "byte 57"},
        {A("\"dtype\":\"U8\",\"shape\":[9223372036854775808,4,0],\"data_offsets\":[0,2]"),
         "whole number from 0 to 2^53"},
        {A("\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]"), "expected `,`"},
        {A("\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,2]"), "expected `]`"},
        {A("\"dtype\":8,\"shape\":[],\"data_offsets\":[0,1]"), "expected a dtype"},
        {"{\"a\":[]}", "expected `{`"},
        {"{\"__metadata__\":{\"k\":1}}", "expected a text as metadata"},
        {"{\"__metadata__\":[]}", "expected `{`"},
        {"{\"__metadata__\":{\"k\":{}}}", "expected a text as metadata"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(cases[i].header, 2, KILN_MODEL, cases[i].text);
    write_raw(6, "{}\0\0\0", 6, 0);
    check_open(KILN_MODEL, "byte 10: the header reads \"\\x00");
}

static void test_deep_json_and_high_ranks(void **state)
{
    enum { DEEP = 100000 };
    char *header = malloc(2 * DEEP + 128);
    int n = sprintf(header, "{\"a\":{\"shape\":");
    memset(header + n, '[', DEEP);
    header[n + DEEP] = 0;
    check(header, 2, KILN_MODEL, "byte 23: the header reads \"[[[");
    for (int i = 0; i < DEEP; i++) memcpy(header + n + 1 + 2 * i, "1,", 2);
    check(header, 2, KILN_LIMIT, "tensor \"a\" has a rank over 16");
    free(header);
}

/* S4 */
static void test_places(void **state)
{
#define TWO(b0, e0, s0, b1, e1, s1)                                                                \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[" #s0 "],\"data_offsets\":[" #b0 "," #e0 "]},"            \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[" #s1 "],\"data_offsets\":[" #b1 "," #e1 "]}}"
    check(TWO(0, 2, 2, 2, 5, 3), 5, KILN_OK, "");
    check(TWO(2, 5, 3, 0, 2, 2), 5, KILN_OK, "");
    check(TWO(0, 3, 3, 2, 5, 3), 5, KILN_MODEL,
          "tensor \"b\" at 2 to 5 overlaps tensor \"a\" at 0 to 3");
    check(TWO(0, 2, 2, 3, 5, 2), 5, KILN_MODEL,
          "a hole before tensor \"b\" at 3 to 5, after tensor \"a\" at 0 to 2");
    check(TWO(1, 2, 1, 2, 5, 3), 5, KILN_MODEL, "a hole before tensor \"a\" at 1 to 2");
    check(TWO(0, 2, 2, 2, 5, 3), 6, KILN_MODEL, "1 bytes after the last tensor");
    check("{}", 1, KILN_MODEL, "1 bytes after the last tensor");
    check(TWO(0, 2, 2, 2, 5, 3), 4, KILN_MODEL, "tensor \"b\" at 2 to 5, but the data has 4 bytes");
    check(A("\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,0]"), 2, KILN_MODEL,
          "tensor \"a\": data from 2 to 0");
#undef TWO
}

/* S5 */
static void test_sizes(void **state)
{
    check(A("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,2]"), 2, KILN_MODEL,
          "tensor \"a\": f32[2] needs 8 bytes, has 2");
    check(A("\"dtype\":\"U8\",\"shape\":[4503599627370496,4503599627370496],"
            "\"data_offsets\":[0,0]"),
          0, KILN_MODEL, "tensor \"a\": shape's size overflows");
    check(A("\"dtype\":\"U8\",\"shape\":[4503599627370496,4503599627370496,0],"
            "\"data_offsets\":[0,0]"),
          0, KILN_MODEL, "tensor \"a\": shape's size overflows");
}

/* S7, S8 */
static void test_fields_and_dtypes(void **state)
{
    check("{\"a\":{" U8_2 "},\"a\":{" U8_2 "}}", 2, KILN_MODEL, "byte 61: duplicate \"a\"");
    check("{\"a\":{" U8_2 "},\"\\u0061\":{" U8_2 "}}", 2, KILN_MODEL, "duplicate \"a\"");
    check("{\"__metadata__\":{},\"__metadata__\":{}}", 0, KILN_MODEL, "duplicate \"__metadata__\"");
    check(A("\"dtype\":\"U8\"," U8_2), 2, KILN_MODEL, "duplicate field \"dtype\"");
    check(A(U8_2 ",\"color\":1"), 2, KILN_MODEL, "unknown field \"color\"");
    check(A("\"dtype\":\"U8\",\"data_offsets\":[0,2]"), 2, KILN_MODEL, "tensor \"a\" has no shape");
    check(A("\"shape\":[2],\"data_offsets\":[0,2]"), 2, KILN_MODEL, "tensor \"a\" has no dtype");
    check(A("\"dtype\":\"U8\",\"shape\":[2]"), 2, KILN_MODEL, "has no data_offsets");
    check("{\"a\":{}}", 0, KILN_MODEL, "expected a field");
    check(A("\"dtype\":\"X9\",\"shape\":[2],\"data_offsets\":[0,2]"), 2, KILN_UNSUPPORTED,
          "tensor \"a\" has an unknown dtype \"X9\"");
    check(A("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]"), 2, KILN_UNSUPPORTED,
          "tensor \"a\" has the dtype \"F4\"");
}

/* S10: as many tensors on the same bytes as a header of 100 MB holds. */
static void test_many_tensors_on_the_same_bytes(void **state)
{
    enum { N = 1750000 };
    size_t size = (size_t)N * 64, n = 1;
    char *header = malloc(size);
    header[0] = '{';
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(header + n,
                             "\"%07x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},", i);
    header[n - 1] = '}';
    write_raw(n, header, n, 1);
    free(header);
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    check_open(KILN_MODEL, "overlaps tensor");
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    print_message("%d tensors refused in %.2f s\n", N, seconds);
}

/* Compiles `a + a` over the tensor as a constant and reads the sum. */
static kiln_status run_constant(const kiln_safetensors *file, int64_t n, float *out, char *message)
{
    kiln_graph *graph;
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    kiln_tensor like = {KILN_f32, 1, &n};
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_value a = kiln_constant_safetensor(graph, file, "a", &like);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 0, NULL);
    kiln_output(graph, NULL, kiln_add(graph, a, x));
    assert_int_equal(kiln_graph_status(graph), KILN_OK);
    kiln_status status = kiln_compile(graph, NULL, &executable);
    snprintf(message, 256, "%s", kiln_graph_message(graph));
    if (status == KILN_OK) {
        float zero = 0;
        kiln_tensor input = {KILN_f32, 0, NULL, &zero, 4},
                    output = {KILN_f32, 1, &n, out, (size_t)n * 4};
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        status = kiln_run(workspace, &input, 1, &output, 1);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return status;
}

enum { LARGE = 20000 };

static void write_large(float first)
{
    static float data[LARGE];
    for (int i = 0; i < LARGE; i++) data[i] = first + (float)i;
    kiln_named_tensor tensor = {"a", {KILN_f32, 1, (int64_t[]){LARGE}, data, sizeof data}};
    assert_int_equal(kiln_write_safetensors(context, path, 1, &tensor), KILN_OK);
}

/* S13 */
static void test_files_that_change_after_open(void **state)
{
    static float out[LARGE];
    char message[256];
    kiln_safetensors *file;
    write_large(5);
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    assert_int_equal(run_constant(file, LARGE, out, message), KILN_OK);
    assert_true(out[0] == 5 && out[LARGE - 1] == LARGE + 4);
    write_large(7); /* another file under the same name */
    assert_int_equal(kiln_safetensors_read(file, kiln_safetensors_at(file, 0), out, sizeof out),
                     KILN_OK);
    assert_true(out[0] == 5);
    assert_int_equal(run_constant(file, LARGE, out, message), KILN_IO);
    assert_non_null(strstr(message, "has changed since the graph was built"));
    kiln_safetensors_close(file);
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(kiln_safetensors_read(file, kiln_safetensors_at(file, 0), out, sizeof out),
                     KILN_IO);
    assert_non_null(strstr(kiln_context_message(context), "the file became shorter"));
    assert_int_equal(run_constant(file, LARGE, out, message), KILN_IO);
    kiln_safetensors_close(file);
}

/* S14 */
static void test_a_tensor_of_another_type(void **state)
{
    kiln_safetensors *file;
    kiln_graph *graph;
    write_large(0);
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    const int64_t square[] = {100, 200}, line[] = {LARGE};
    const struct {
        const char *name;
        kiln_tensor like;
        const char *text;
    } cases[] = {
        {"a", {KILN_f32, 2, square}, "tensor \"a\" is f32[20000]; expected f32[100,200]"},
        {"a", {KILN_f16, 1, line}, "tensor \"a\" is f32[20000]; expected f16[20000]"},
        {"b", {KILN_f32, 1, line}, "no tensor \"b\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
        kiln_constant_safetensor(graph, file, cases[i].name, &cases[i].like);
        assert_int_equal(kiln_graph_status(graph), KILN_INVALID);
        assert_non_null(strstr(kiln_graph_message(graph), cases[i].text));
        kiln_graph_destroy(graph);
    }
    kiln_safetensors_close(file);
}

/* S12 */
static void test_bool_is_normalised(void **state)
{
    enum { N = 70000 }; /* beyond what a graph copies */
    char header[128];
    kiln_safetensors *file;
    kiln_graph *graph;
    static uint8_t data[N];
    snprintf(header, sizeof header, A("\"dtype\":\"BOOL\",\"shape\":[%d],\"data_offsets\":[0,%d]"),
             N, N);
    write_header(header, N);
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    assert_int_equal(kiln_safetensors_read(file, kiln_safetensors_at(file, 0), data, N), KILN_OK);
    assert_int_equal(data[0], 0);
    assert_int_equal(data[7], 1);
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_output(graph, NULL, kiln_constant_safetensor(graph, file, "a", NULL));
    memset(data, 9, N);
    kiln_tensor output = {KILN_bool, 1, (int64_t[]){N}, data, N};
    assert_int_equal(kiln_evaluate(graph, NULL, 0, &output, 1), KILN_OK);
    for (int i = 0; i < N; i++) assert_int_equal(data[i], (i & 255) != 0);
    kiln_graph_destroy(graph);
    kiln_safetensors_close(file);
}

/* Every dtype of both, ranks 0 to 2, an empty tensor: all come back, aligned, in a stated order. */
static void test_what_is_written_reads_back(void **state)
{
    static const kiln_dtype dtypes[] = {
        KILN_bool, KILN_i8,   KILN_u8,  KILN_i16, KILN_u16, KILN_i32,      KILN_u32,    KILN_i64,
        KILN_u64,  KILN_bf16, KILN_f16, KILN_f32, KILN_f64, KILN_f8e4m3fn, KILN_f8e5m2, KILN_c64,
    };
    enum { N = sizeof dtypes / sizeof *dtypes };
    static const int64_t dims[] = {2, 3}, none[] = {0, 3};
    uint8_t data[96], read[96];
    kiln_named_tensor tensors[N + 1];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i & 1);
    for (uint32_t i = 0; i < N; i++) {
        size_t bytes = kiln_dtype_bytes(dtypes[i]) * (i % 2 ? 6 : 1);
        tensors[i] = (kiln_named_tensor){kiln_dtype_name(dtypes[i]),
                                         {dtypes[i], i % 2 ? 2 : 0, dims, data, bytes}};
    }
    tensors[N] = (kiln_named_tensor){"empty \"\\\n\xc3\xa9", {KILN_i32, 2, none, NULL, 0}};
    assert_int_equal(kiln_write_safetensors(context, path, N + 1, tensors), KILN_OK);
    kiln_safetensors *file;
    assert_int_equal(kiln_safetensors_open(context, path, &file), KILN_OK);
    assert_int_equal(kiln_safetensors_count(file), N + 1);
    for (uint32_t i = 0; i <= N; i++) {
        const kiln_tensor *wanted = &tensors[i].tensor;
        const kiln_safetensor *found = kiln_safetensors_find(file, tensors[i].name);
        assert_non_null(found);
        assert_int_equal(found->dtype, wanted->dtype);
        assert_int_equal(found->rank, wanted->rank);
        assert_int_equal(found->bytes, wanted->bytes);
        assert_int_equal(found->offset % (int64_t)kiln_dtype_bytes(found->dtype), 0);
        assert_int_equal(kiln_safetensors_read(file, found, read, wanted->bytes), KILN_OK);
        assert_memory_equal(read, data, wanted->bytes);
    }
    kiln_safetensors_close(file);
}

static void test_bad_tensors_are_not_written(void **state)
{
    float one = 1;
    kiln_tensor good = {KILN_f32, 0, NULL, &one, 4}, bad = {KILN_f32, 1, (int64_t[]){2}, &one, 4};
    kiln_named_tensor same[] = {{"a", good}, {"a", good}}, unnamed = {NULL, good};
    kiln_named_tensor size = {"a", bad}, text = {"\xff", good}, taken = {"__metadata__", good};
    unlink(other);
    assert_int_equal(kiln_write_safetensors(context, other, 2, same), KILN_INVALID);
    assert_non_null(strstr(kiln_context_message(context), "tensor \"a\": its name is taken"));
    assert_int_equal(kiln_write_safetensors(context, other, 1, &unnamed), KILN_INVALID);
    assert_int_equal(kiln_write_safetensors(context, other, 1, &size), KILN_INVALID);
    assert_non_null(strstr(kiln_context_message(context), "rank 1, 4 bytes"));
    assert_int_equal(kiln_write_safetensors(context, other, 1, &text), KILN_INVALID);
    assert_int_equal(kiln_write_safetensors(context, other, 1, &taken), KILN_INVALID);
    assert_int_equal(access(other, F_OK), -1);
    kiln_named_tensor named = {"a", good};
    assert_int_equal(kiln_write_safetensors(context, "/nowhere/a.safetensors", 1, &named), KILN_IO);
}

/* Each bit of a file flipped: a status, and never our own mistake. */
static void test_every_bit_flip_gives_a_status(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"k\":\"v\"},\"a\":{" U8_2 "}}";
    for (size_t bit = 0; bit < (sizeof header + 7) * 8; bit++) {
        char flipped[sizeof header + 8] = {0};
        flipped[0] = sizeof header - 1;
        memcpy(flipped + 8, header, sizeof header - 1);
        flipped[bit / 8] = (char)(flipped[bit / 8] ^ 1 << bit % 8);
        uint64_t length = 0;
        for (int i = 0; i < 8; i++) length |= (uint64_t)(uint8_t)flipped[i] << 8 * i;
        write_raw(length, flipped + 8, sizeof header - 1, 2);
        kiln_safetensors *file = NULL;
        kiln_status status = kiln_safetensors_open(context, path, &file);
        assert_int_equal(status == KILN_OK, file != NULL);
        assert_true(status == KILN_OK || status == KILN_MODEL || status == KILN_UNSUPPORTED);
        kiln_safetensors_close(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_files_open),
        cmocka_unit_test(test_names_unescape),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_headers_that_are_not_json),
        cmocka_unit_test(test_deep_json_and_high_ranks),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_fields_and_dtypes),
        cmocka_unit_test(test_many_tensors_on_the_same_bytes),
        cmocka_unit_test(test_files_that_change_after_open),
        cmocka_unit_test(test_a_tensor_of_another_type),
        cmocka_unit_test(test_bool_is_normalised),
        cmocka_unit_test(test_what_is_written_reads_back),
        cmocka_unit_test(test_bad_tensors_are_not_written),
        cmocka_unit_test(test_every_bit_flip_gives_a_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
