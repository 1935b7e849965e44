/* Rows of the op table beside the elementwise ones, on every narrow and every complex dtype that
 * they take: one case a row, made from the table. A row that needs more than operands and the
 * attributes here has its cases elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dtype_bench.h"

#define SIDE 4
#define LIST(...) {sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[]){__VA_ARGS__}}

/* Small values of both signs, which sums and products of a few leave in range. */
static void fill(bench *b, uint32_t input, kiln_dtype dtype)
{
    bool has_signs = !kiln_dtype_in(dtype, KILN_TYPES_INTEGER) ||
                     kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
    for (int64_t i = 0; i < SIDE * SIDE; i++) {
        int64_t size = (i * 5 + input) % 3;
        uint64_t bits = (uint64_t)(has_signs && i % 4 == 1 ? -size / 2 : size);
        double number[2] = {(double)size * (i % 4 == 1 ? -0.5 : 0.5), (double)(i % 3) - 1};
        if (kiln_dtype_in(dtype, KILN_TYPES_INTEGER))
            kiln_element_copy(dtype, b->inputs[input].data, i, &bits, 0);
        else if (kiln_dtype_in(dtype, KILN_TYPES_COMPLEX))
            kiln_element_store_double(kiln_dtype_part(dtype), b->inputs[input].data, 2 * i, 2,
                                      number);
        else
            kiln_element_store_double(dtype, b->inputs[input].data, i, 1, number);
    }
}

static kiln_value square(bench *b, kiln_dtype dtype)
{
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, SIDE * SIDE);
    fill(b, number, dtype);
    return kiln_add_reshape(b->graph, value, 2, (int64_t[]){SIDE, SIDE});
}

static kiln_value numbers(bench *b, uint32_t rank, const int64_t *dims, const int64_t *values)
{
    return kiln_add_constant(b->graph, kiln_graph_tensor(b->graph, KILN_i64, rank, dims), values);
}

static kiln_value corner(bench *b, kiln_value x)
{
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {LIST(0, 1), LIST(2, 3), LIST(1, 1)}};
    return kiln_graph_add(b->graph, &(kiln_node_spec){KILN_OP_slice, NULL, &x, 1, &attrs, NULL});
}

/* For squares. */
static const kiln_attrs families[] = {
    {KILN_FAMILY_axis, .axis = {1}},
    {KILN_FAMILY_axes, .axes = {LIST(1)}},
    {KILN_FAMILY_arg, .arg = {1, true}},
    {KILN_FAMILY_permutation, .permutation = {LIST(1, 0)}},
    {KILN_FAMILY_slice, .slice = {LIST(0, 1), LIST(4, 4), LIST(3, 2)}},
    {KILN_FAMILY_sizes, .sizes = {LIST(2, 3)}},
    {KILN_FAMILY_pad, .pad = {LIST(1, -1), LIST(0, 2), LIST(0, 1)}},
    {KILN_FAMILY_gather, .gather = {LIST(1), LIST(0), {0}, {0}, LIST(0), 1, LIST(1, SIDE)}},
    {KILN_FAMILY_scatter, .scatter = {LIST(1), LIST(0), {0}, {0}, LIST(0), 1}},
    {KILN_FAMILY_sort, .sort = {1, true}},
    {KILN_FAMILY_cumulative, .cumulative = {0, true, false}},
    {KILN_FAMILY_window,
     .window = {LIST(2, 3), LIST(1, 2), LIST(1, 0), LIST(0, 1), LIST(1, 1)}},
    {KILN_FAMILY_serial, .serial = {0}},
    {KILN_FAMILY_dot, .dot = {{0}, {0}, LIST(1), LIST(0), KILN_f32, 0}},
};

/* The attributes of a case; false where the family has none. */
static bool attrs_of(kiln_op op, kiln_dtype dtype, kiln_attrs *out)
{
    kiln_family family = (kiln_family)kiln_op_rows[op].attrs;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (families[i].family != family) continue;
        *out = families[i];
        if (family == KILN_FAMILY_dot) out->dot.accumulate = kiln_dtype_accumulator(dtype);
        return true;
    }
    return family == KILN_FAMILY_none;
}

/* Operands after the first; how many there are in all, 0 where the row is not one of these. */
static uint32_t operands_of(bench *b, kiln_op op, kiln_value other, kiln_value *in)
{
    const int64_t two[] = {2}, three[] = {3, 1}, at[] = {2, 1, 3};
    kiln_dtype dtype = kiln_graph_type(b->graph, in[0])->dtype;
    switch (op) {
    case KILN_OP_pad:
        in[1] = kiln_add_splat(b->graph, dtype, 0, NULL, 1);
        return 2;
    case KILN_OP_take:
        in[1] = numbers(b, 1, two, at);
        return 2;
    case KILN_OP_dynamic_slice:
        in[1] = numbers(b, 1, two, at);
        return 2;
    case KILN_OP_dynamic_update:
        in[1] = corner(b, in[0]);
        in[2] = numbers(b, 1, two, at);
        return 3;
    case KILN_OP_gather:
        in[1] = numbers(b, 2, three, at);
        return 2;
    case KILN_OP_scatter:
    case KILN_OP_scatter_add:
    case KILN_OP_scatter_mul:
    case KILN_OP_scatter_max:
    case KILN_OP_scatter_min:
        in[1] = numbers(b, 2, (int64_t[]){SIDE, 1}, (int64_t[]){2, 0, 2, 9});
        in[2] = other;
        return 3;
    case KILN_OP_concat:
    case KILN_OP_dot_general:
        in[1] = other;
        return 2;
    default:
        return kiln_op_rows[op].min_inputs == 1 ? 1 : 0;
    }
}

static bool is_case(kiln_op op, kiln_dtype dtype)
{
    const kiln_op_row *row = &kiln_op_rows[op];
    if (!kiln_dtype_in(dtype, row->types) || op == KILN_OP_cholesky) return false;
    switch (row->class_) {
    case KILN_REDUCE:
    case KILN_WINDOW:
    case KILN_VIEW:
    case KILN_MOVE:
    case KILN_ROUTINE:
    case KILN_CONTRACT:
        return true;
    case KILN_SOURCE:
    case KILN_ELEMENTWISE:
    case KILN_REGION:
    case KILN_COMPOSITE:
        return false;
    }
    return false;
}

static void build_rows(bench *b, kiln_dtype dtype)
{
    kiln_value first = square(b, dtype), other = square(b, dtype);
    b->is_widest_only = true;
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    if (kiln_dtype_in(dtype, KILN_TYPES_COMPLEX)) b->error = dtype == KILN_c64 ? 1e-5 : 1e-13;
    for (kiln_op op = 1; op < KILN_N_OPS; op++) {
        kiln_value in[3] = {first};
        kiln_attrs attrs;
        bool is_given = kiln_op_rows[op].result == KILN_RESULT_GIVEN;
        if (is_given || !is_case(op, dtype) || !attrs_of(op, dtype, &attrs)) continue;
        uint32_t n = operands_of(b, op, other, in);
        if (!n) continue;
        bool is_plain = kiln_op_rows[op].attrs == KILN_FAMILY_none;
        kiln_node_spec spec = {op, NULL, in, n, is_plain ? NULL : &attrs, NULL};
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), kiln_op_rows[op].name);
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        kiln_dtype dtype = bench_dtypes[i];
        bool is_old = dtype == KILN_bool || dtype == KILN_i8 || dtype == KILN_u8;
        bool is_narrow = kiln_dtype_bits(dtype) <= 8 && !is_old;
        if (is_narrow || kiln_dtype_in(dtype, KILN_TYPES_COMPLEX)) bench_do(build_rows, dtype);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, bench_set_up, bench_tear_down);
}
