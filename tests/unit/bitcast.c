/* kiln_bitcast between dtypes of all sizes: the bytes of the result are those of the operand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "context.h"

#define N_BYTES 192

static const kiln_dtype dtypes[] = {
    KILN_i2,     KILN_u2,  KILN_i4,  KILN_u4,  KILN_f4e2m1, KILN_i8,  KILN_u8,  KILN_f8e4m3fn,
    KILN_f8e5m2, KILN_i16, KILN_u16, KILN_f16, KILN_bf16,   KILN_i32, KILN_u32, KILN_f32,
    KILN_i64,    KILN_u64, KILN_f64};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

/* Finite values in every dtype: no exponent has all its bits. */
static void fill(unsigned char *bytes)
{
    unsigned random = 1;
    for (size_t i = 0; i < N_BYTES; i++) {
        random = random * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(random >> 24 & 0xbf);
    }
}

/* One graph: an input of `from`, an output of each dtype. */
static kiln_graph *make_graph(kiln_dtype from)
{
    kiln_graph *graph = NULL;
    size_t bits = kiln_dtype_bits(from);
    int64_t n = N_BYTES * 8 / (int64_t)bits;
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", from, 1, &n);
    for (size_t i = 0; i < N_DTYPES; i++) {
        size_t to = kiln_dtype_bits(dtypes[i]);
        kiln_value a = x;
        if (to > bits) a = kiln_reshape(graph, x, 2, (int64_t[]){-1, (int64_t)(to / bits)});
        kiln_output(graph, kiln_dtype_name(dtypes[i]), kiln_bitcast(graph, a, dtypes[i]));
    }
    return graph;
}

static void run(kiln_graph *graph, const kiln_tensor *x, kiln_tensor *y)
{
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_compile(graph, NULL, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, x, 1, y, N_DTYPES)) fail_msg("%s", kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void check_from(kiln_dtype from)
{
    unsigned char in[N_BYTES], out[N_DTYPES][N_BYTES];
    size_t bits = kiln_dtype_bits(from);
    int64_t n = N_BYTES * 8 / (int64_t)bits, dims[N_DTYPES][2];
    kiln_graph *graph = make_graph(from);
    kiln_tensor x = {from, 1, &n, in, N_BYTES}, y[N_DTYPES];
    fill(in);
    for (size_t i = 0; i < N_DTYPES; i++) {
        size_t to = kiln_dtype_bits(dtypes[i]);
        dims[i][0] = to > bits ? N_BYTES * 8 / (int64_t)to : n;
        dims[i][1] = (int64_t)(bits / to);
        y[i] = (kiln_tensor){dtypes[i], to < bits ? 2 : 1, dims[i], out[i], N_BYTES};
    }
    for (int is_compiled = 0; is_compiled < 2; is_compiled++) {
        memset(out, 0, sizeof out);
        if (is_compiled)
            run(graph, &x, y);
        else if (kiln_evaluate(graph, &x, 1, y, N_DTYPES))
            fail_msg("%s", kiln_graph_message(graph));
        for (size_t i = 0; i < N_DTYPES; i++)
            if (memcmp(out[i], in, N_BYTES))
                fail_msg("%s to %s, %s", kiln_dtype_name(from), kiln_dtype_name(dtypes[i]),
                         is_compiled ? "compiled" : "evaluated");
    }
    kiln_graph_destroy(graph);
}

static void test_bytes_stay(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_DTYPES; i++) check_from(dtypes[i]);
}

static void test_parts_must_fill_an_element(void **state)
{
    (void)state;
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_graph_create(context, "g", &graph), KILN_OK);
    kiln_value x = kiln_input(graph, "x", KILN_f16, 2, (int64_t[]){4, 3});
    assert_int_equal(kiln_bitcast(graph, x, KILN_u64).id, 0);
    assert_non_null(strstr(kiln_graph_message(graph),
                           "bitcast: from f16[4,3] to u64; expected a last dim of 4"));
    kiln_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_stay),
        cmocka_unit_test(test_parts_must_fill_an_element),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
