/* .npy files: what is written reads back, and files that are not what they say are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kiln/kiln.h"

static kiln_context *context;
static char folder[] = "/tmp/kiln-npy-XXXXXX", path[64];

static int set_up(void **state)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/a.npy", folder);
    return kiln_context_create(NULL, &context);
}

static int tear_down(void **state)
{
    unlink(path);
    rmdir(folder);
    kiln_context_destroy(context);
    return 0;
}

static void test_every_dtype_comes_back(void **state)
{
    static const kiln_dtype dtypes[] = {
#define KILN_DTYPE(name, number, bits, kind) KILN_##name,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    };
    int64_t dims[] = {2, 3};
    uint8_t data[96];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        size_t bits = kiln_dtype_bits(dtypes[i]);
        bool is_raw = dtypes[i] == KILN_bf16 || bits < 8 ||
                      (dtypes[i] >= KILN_f4e2m1 && dtypes[i] <= KILN_f8e5m2fnuz);
        kiln_tensor read, tensor = {dtypes[i], 2, dims, data, (6 * bits + 7) / 8};
        assert_int_equal(kiln_write_npy(context, path, &tensor), KILN_OK);
        assert_int_equal(kiln_read_npy(context, path, &read), KILN_OK);
        kiln_dtype raw = bits == 16 ? KILN_u16 : KILN_u8;
        assert_int_equal(read.dtype, is_raw ? raw : dtypes[i]);
        assert_int_equal(read.rank, bits < 8 ? 1 : 2);
        assert_int_equal(read.dims[read.rank - 1], bits == 2 ? 2 : 3);
        assert_memory_equal(read.data, data, tensor.bytes);
        kiln_tensor_free(&read);
        assert_null(read.data);
        kiln_tensor_free(&read);
    }
}

static void test_scalars_and_empty_tensors(void **state)
{
    float one = 1;
    int64_t dims[] = {3, 0};
    kiln_tensor read, scalar = {KILN_f32, 0, NULL, &one, 4}, empty = {KILN_f32, 2, dims, NULL, 0};
    assert_int_equal(kiln_write_npy(context, path, &scalar), KILN_OK);
    assert_int_equal(kiln_read_npy(context, path, &read), KILN_OK);
    assert_int_equal(read.rank, 0);
    assert_true(*(float *)read.data == 1);
    kiln_tensor_free(&read);
    assert_int_equal(kiln_write_npy(context, path, &empty), KILN_OK);
    assert_int_equal(kiln_read_npy(context, path, &read), KILN_OK);
    assert_int_equal(read.dims[0], 3);
    assert_int_equal(read.bytes, 0);
    kiln_tensor_free(&read);
}

/* A version 1 file with that dict and n bytes of data. */
static void write_file(const char *dict, size_t n)
{
    FILE *file = fopen(path, "wb");
    size_t length = strlen(dict);
    uint8_t head[10] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)length, (uint8_t)(length >> 8)};
    fwrite(head, 1, 10, file);
    fwrite(dict, 1, length, file);
    for (size_t i = 0; i < n; i++) fputc(0, file);
    fclose(file);
}

static void check(const char *dict, size_t n, kiln_status wanted, const char *text)
{
    kiln_tensor read = {0};
    write_file(dict, n);
    kiln_status status = kiln_read_npy(context, path, &read);
    const char *message = status ? kiln_context_message(context) : "";
    if (status != wanted || !strstr(message, text))
        fail_msg("%s: %s; expected %s: …%s…", kiln_status_name(status), message,
                 kiln_status_name(wanted), text);
    kiln_tensor_free(&read);
}

static void test_headers(void **state)
{
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8, KILN_OK, "");
    check("{\"descr\": '<f4'}", 8, KILN_MODEL, "expected one each");
    check("{'shape': (2,), 'fortran_order': False, 'descr': '<f4'}", 8, KILN_OK, "");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9, KILN_MODEL,
          "data has 9 bytes; expected 8");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 7, KILN_MODEL,
          "data has 7 bytes; expected 8");
    check("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", 8, KILN_UNSUPPORTED,
          "type is \">f4\"");
    check("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 8, KILN_UNSUPPORTED,
          "type is \"|O\"");
    check("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1)}", 8, KILN_UNSUPPORTED,
          "column-major");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", 8, KILN_MODEL,
          "a dim of 0 or more");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, KILN_MODEL,
          "expected one each");
    check("{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}", 8, KILN_MODEL, "expected one each");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, KILN_MODEL, "expected `}`");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", 8,
          KILN_MODEL, "overflows");
    check("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 8,
          KILN_MODEL, "below 2^63");
    check("", 0, KILN_MODEL, "expected `{`");
}

static void test_every_truncation_is_refused(void **state)
{
    int64_t dims[] = {2};
    float data[] = {1, 2};
    kiln_tensor read, tensor = {KILN_f32, 1, dims, data, 8};
    assert_int_equal(kiln_write_npy(context, path, &tensor), KILN_OK);
    for (off_t n = 135; n >= 0; n--) {
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(kiln_read_npy(context, path, &read), KILN_MODEL);
    }
}

static void test_wrong_arguments_touch_nothing(void **state)
{
    int64_t dims[] = {2}, negative[] = {-2};
    float data[] = {1, 2};
    kiln_tensor bad = {KILN_f32, 1, dims, data, 4}, low = {KILN_f32, 1, negative, data, 8};
    kiln_tensor none = {KILN_NO_DTYPE, 1, dims, data, 8}, good = {KILN_f32, 1, dims, data, 8};
    unlink(path);
    assert_int_equal(kiln_write_npy(context, path, &bad), KILN_INVALID);
    assert_int_equal(kiln_write_npy(context, path, &low), KILN_INVALID);
    assert_int_equal(kiln_write_npy(context, path, &none), KILN_INVALID);
    assert_int_equal(kiln_write_npy(context, NULL, &good), KILN_INVALID);
    assert_int_equal(kiln_write_npy(context, "/nonexistent/a.npy", &good), KILN_IO);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(kiln_read_npy(context, path, &good), KILN_IO);
    assert_int_equal(kiln_read_npy(NULL, NULL, NULL), KILN_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_dtype_comes_back),
        cmocka_unit_test(test_scalars_and_empty_tensors),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_wrong_arguments_touch_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
