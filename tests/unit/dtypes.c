/* Conversions between dtypes: all patterns of 4, 8 and 16 bits, the odd values of wider ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dtype_bench.h"

static bool is_real(kiln_dtype dtype)
{
    return !kiln_dtype_in(dtype, KILN_TYPES_COMPLEX);
}

/* Every pattern of a dtype of at most 16 bits. */
static kiln_value every_pattern(bench *b, kiln_dtype dtype)
{
    int64_t n = (int64_t)1 << kiln_dtype_bits(dtype);
    kiln_value value = bench_input(b, dtype, n);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = (uint64_t)i;
        kiln_element_copy(dtype, b->inputs[0].data, i, &bits, 0);
    }
    return value;
}

#define MAX_ODD 4096

/* Values around every edge of every narrow float and integer, for a wider dtype. */
static int64_t odd_values(double *out)
{
    static const double plain[] = {0, 1, 0.5, 1.5, 2.5, 1e30, 1e-30, 1e300, 3e38, INFINITY, NAN};
    int64_t n = 0;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) out[n++] = plain[i];
    for (int bit = 2; bit <= 64; bit++) {
        double edge = ldexp(1, bit);
        out[n++] = edge;
        out[n++] = edge - 1;
        out[n++] = edge + 1;
        out[n++] = edge - 0.5;
    }
    static const kiln_dtype narrow[] = {KILN_f4e2m1, KILN_f8e4m3fn, KILN_f8e5m2, KILN_f8e4m3fnuz,
                                        KILN_f8e5m2fnuz};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        for (int code = 0; code < 1 << (kiln_dtype_bits(narrow[i]) - 1); code++) {
            double low = kiln_element_to_double(narrow[i], &(uint8_t){(uint8_t)code});
            double high = kiln_element_to_double(narrow[i], &(uint8_t){(uint8_t)(code + 1)});
            if (!isfinite(low)) continue;
            double middle = isfinite(high) && high > low ? (low + high) / 2 : low * 1.0625;
            out[n++] = middle;
            out[n++] = (double)nextafterf((float)middle, 0);
            out[n++] = nextafter(middle, 1e9);
        }
    }
    for (int64_t i = 0, half = n; i < half; i++) out[n++] = -out[i];
    return n;
}

static kiln_value odd_input(bench *b, kiln_dtype dtype)
{
    double values[MAX_ODD];
    int64_t n = odd_values(values);
    assert_true(n <= MAX_ODD);
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, n);
    for (int64_t i = 0; i < n; i++) kiln_tensor_set(&b->inputs[number], i, values[i]);
    return value;
}

/* Graphs */

static void add_conversions(bench *b, kiln_value x)
{
    kiln_dtype from = kiln_graph_type(b->graph, x)->dtype;
    const kiln_type *type = kiln_graph_type(b->graph, x);
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        kiln_dtype to = bench_dtypes[i];
        if (!is_real(to)) continue;
        char name[32];
        snprintf(name, sizeof name, "to %s", kiln_dtype_name(to));
        kiln_add_output(b->graph, kiln_add_convert(b->graph, x, to), name);
        bool is_bits = to != KILN_bool && from != KILN_bool && to != from &&
                       kiln_dtype_bits(to) == kiln_dtype_bits(from);
        if (!is_bits) continue;
        snprintf(name, sizeof name, "as %s", kiln_dtype_name(to));
        kiln_node_spec spec = {.op = KILN_OP_bitcast, .inputs = &x, .n_inputs = 1};
        spec.given = kiln_graph_tensor(b->graph, to, type->rank, type->dims);
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), name);
    }
}

static void build_pattern_conversions(bench *b, kiln_dtype dtype)
{
    add_conversions(b, every_pattern(b, dtype));
}

static void build_odd_conversions(bench *b, kiln_dtype dtype)
{
    add_conversions(b, odd_input(b, dtype));
}

static void test_conversions_of_every_pattern(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        if (is_real(bench_dtypes[i]) && kiln_dtype_bits(bench_dtypes[i]) <= 16 &&
            bench_dtypes[i] != KILN_bool)
            bench_do(build_pattern_conversions, bench_dtypes[i]);
    }
}

static void test_conversions_of_odd_values(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        if (is_real(bench_dtypes[i]) && kiln_dtype_bits(bench_dtypes[i]) > 16)
            bench_do(build_odd_conversions, bench_dtypes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions_of_every_pattern),
        cmocka_unit_test(test_conversions_of_odd_values),
    };
    return cmocka_run_group_tests(tests, bench_set_up, bench_tear_down);
}
