/* Elementwise ops on narrow dtypes, all patterns and pairs of them; integer arithmetic at its
 * edges; moves and sums of packed elements. */
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

/* Every pattern of a dtype of at most 16 bits, `times` times each, in turns. */
static kiln_value every_pattern(bench *b, kiln_dtype dtype, int64_t each, int64_t turns)
{
    int64_t n = (int64_t)1 << kiln_dtype_bits(dtype), at = 0;
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, n * each * turns);
    for (int64_t turn = 0; turn < turns; turn++) {
        for (int64_t i = 0; i < n * each; i++) {
            uint64_t bits = (uint64_t)(i / each);
            kiln_element_copy(dtype, b->inputs[number].data, at++, &bits, 0);
        }
    }
    return value;
}

static bool is_plain_op(uint32_t op, uint32_t n_inputs, kiln_dtype dtype)
{
    const kiln_op_row *row = &kiln_op_rows[op];
    return row->class_ == KILN_ELEMENTWISE && row->min_inputs == n_inputs &&
           row->result != KILN_RESULT_GIVEN && op != KILN_OP_select && op != KILN_OP_complex &&
           kiln_dtype_in(dtype, row->types);
}

static void add_ops(bench *b, const kiln_value *inputs, uint32_t n_inputs)
{
    kiln_dtype dtype = kiln_graph_type(b->graph, inputs[0])->dtype;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (!is_plain_op(op, n_inputs, dtype)) continue;
        kiln_node_spec spec = {.op = (kiln_op)op, .inputs = inputs, .n_inputs = n_inputs};
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), kiln_op_rows[op].name);
    }
}

static void build_unary(bench *b, kiln_dtype dtype)
{
    kiln_value x = every_pattern(b, dtype, 1, 1);
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    add_ops(b, &x, 1);
}

static void build_binary(bench *b, kiln_dtype dtype)
{
    int64_t n = (int64_t)1 << kiln_dtype_bits(dtype);
    kiln_value inputs[2];
    inputs[0] = every_pattern(b, dtype, n, 1);
    inputs[1] = every_pattern(b, dtype, 1, n);
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    add_ops(b, inputs, 2);
}

static void test_unary_ops_of_every_pattern(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        if (kiln_dtype_bits(bench_dtypes[i]) <= 8) bench_do(build_unary, bench_dtypes[i]);
    }
}

static void test_binary_ops_of_every_pair(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        bool is_narrow = kiln_dtype_bits(bench_dtypes[i]) == 4;
        if (is_narrow || bench_dtypes[i] == KILN_i8 || bench_dtypes[i] == KILN_u8 ||
            bench_dtypes[i] == KILN_f8e4m3fn)
            bench_do(build_binary, bench_dtypes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary_ops_of_every_pattern),
        cmocka_unit_test(test_binary_ops_of_every_pair),
    };
    return cmocka_run_group_tests(tests, bench_set_up, bench_tear_down);
}
