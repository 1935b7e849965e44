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
#include "graph/attrs.h"

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
    b->is_widest_only = dtype == KILN_f8e4m3fn;
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    add_ops(b, inputs, 2);
}

static void test_unary_ops_of_every_pattern(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        if (kiln_dtype_bits(bench_dtypes[i]) <= 16) bench_do(build_unary, bench_dtypes[i]);
    }
}

static void test_binary_ops_of_every_pair(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        bool is_narrow = kiln_dtype_bits(bench_dtypes[i]) < 8;
        if (is_narrow || bench_dtypes[i] == KILN_i8 || bench_dtypes[i] == KILN_u8 ||
            bench_dtypes[i] == KILN_f8e4m3fn)
            bench_do(build_binary, bench_dtypes[i]);
    }
}

/* All pairs of the values where integer arithmetic has edges: 0, -1, least and largest, shifts by
 * as many bits as there are and more. */
static void build_edges(bench *b, kiln_dtype dtype)
{
    uint64_t bits = kiln_dtype_bits(dtype), least = (uint64_t)1 << (bits - 1);
    const uint64_t values[] = {0,     1,         2,         3,         7,    100,      UINT64_MAX,
                               least, least + 1, least - 1, least - 2, bits, bits - 1, bits + 1};
    int64_t n = sizeof values / sizeof *values;
    kiln_value inputs[] = {bench_input(b, dtype, n * n), bench_input(b, dtype, n * n)};
    for (int64_t i = 0; i < n * n; i++) {
        kiln_element_copy(dtype, b->inputs[0].data, i, &values[i / n], 0);
        kiln_element_copy(dtype, b->inputs[1].data, i, &values[i % n], 0);
    }
    add_ops(b, inputs, 1);
    add_ops(b, inputs, 2);
}

static void test_integers_at_their_edges(void **state)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        kiln_dtype dtype = bench_dtypes[i];
        if (kiln_dtype_in(dtype, KILN_TYPES_INTEGER) && kiln_dtype_bits(dtype) > 8)
            bench_do(build_edges, dtype);
    }
}

#define ROWS 7
#define COLUMNS 5

/* An odd number of elements, so that rows begin in the middle of bytes. */
static kiln_value odd_matrix(bench *b, kiln_dtype dtype)
{
    int64_t n = ROWS * COLUMNS, dims[] = {ROWS, COLUMNS};
    kiln_value x = bench_input(b, dtype, n);
    b->is_widest_only = true;
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = (uint64_t)(i * 5 % 16);
        double number = (double)bits;
        if (kiln_dtype_in(dtype, KILN_TYPES_COMPLEX))
            kiln_element_store_double(dtype, b->inputs[0].data, i, 1, &number);
        else
            kiln_element_copy(dtype, b->inputs[0].data, i, &bits, 0);
    }
    return kiln_add_reshape(b->graph, x, 2, dims);
}

static void build_moves(bench *b, kiln_dtype dtype)
{
    kiln_graph *g = b->graph;
    kiln_value x = odd_matrix(b, dtype);
    int64_t permutation[] = {1, 0}, axes[] = {0, 1}, low[] = {1, 0}, high[] = {0, 2};
    int64_t none[] = {0, 0}, starts[] = {1, 1}, limits[] = {6, 4}, strides[] = {2, 1};
    kiln_add_output(g, kiln_add_transpose(g, x, permutation), "transpose");
    kiln_attrs slice = {KILN_FAMILY_slice, .slice = {{2, starts}, {2, limits}, {2, strides}}};
    kiln_node_spec spec = {KILN_OP_slice, NULL, &x, 1, &slice, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "slice");
    kiln_attrs reverse = {KILN_FAMILY_axes, .axes = {{1, axes}}};
    spec = (kiln_node_spec){KILN_OP_reverse, NULL, &x, 1, &reverse, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "reverse");
    kiln_attrs pad = {KILN_FAMILY_pad, .pad = {{2, low}, {2, high}, {2, none}}};
    kiln_value pair[] = {x, kiln_add_splat(g, dtype, 0, NULL, 3)};
    spec = (kiln_node_spec){KILN_OP_pad, NULL, pair, 2, &pad, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "pad");
    kiln_attrs concat = {KILN_FAMILY_axis, .axis = {1}};
    spec = (kiln_node_spec){KILN_OP_concat, NULL, (kiln_value[]){x, x}, 2, &concat, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "concat");
    uint8_t bytes[ROWS * COLUMNS];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 29);
    const kiln_type *type = kiln_graph_type(g, x);
    kiln_value list = kiln_add_constant(g, type, bytes);
    kiln_value inputs[] = {kiln_add_binary(g, KILN_OP_eq, x, list), list,
                           kiln_add_splat_like(g, x, 1)};
    spec = (kiln_node_spec){KILN_OP_select, NULL, inputs, 3, NULL, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "select");
}

static void build_sums(bench *b, kiln_dtype dtype)
{
    static const kiln_op ops[] = {KILN_OP_reduce_sum, KILN_OP_reduce_prod, KILN_OP_reduce_max,
                                  KILN_OP_reduce_min};
    kiln_graph *g = b->graph;
    kiln_value x = odd_matrix(b, dtype);
    int64_t axes[] = {0, 1}, permutation[] = {1, 0};
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    for (size_t i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s %zu", kiln_op_rows[ops[i / 2]].name, i % 2);
        kiln_add_output(g, kiln_add_reduce(g, ops[i / 2], x, 1, &axes[i % 2]), name);
    }
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {1, false}};
    kiln_node_spec spec = {KILN_OP_argmax, NULL, &x, 1, &arg, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "argmax");
    kiln_value pair[] = {x, kiln_add_transpose(g, x, permutation)};
    kiln_attrs dot = {
        KILN_FAMILY_dot,
        .dot = {{0}, {0}, {1, &axes[1]}, {1, &axes[0]}, kiln_dtype_accumulator(dtype)}};
    spec = (kiln_node_spec){KILN_OP_dot_general, NULL, pair, 2, &dot, NULL};
    kiln_add_output(g, kiln_graph_add(g, &spec), "dot");
}

/* A choice between two regions, which nobody can make before the run. */
static void build_regions(bench *b, kiln_dtype dtype)
{
    kiln_graph *g = b->graph;
    kiln_value x = odd_matrix(b, dtype);
    const kiln_type *type = kiln_graph_type(g, x);
    const kiln_graph *regions[2];
    for (int i = 0; i < 2; i++) {
        kiln_graph *region = kiln_graph_open(b->scope, g->context, i ? "b" : "a");
        kiln_value a = kiln_add_input(region, kiln_graph_retype(region, type), "a", false);
        a = i ? kiln_add_unary(region, KILN_OP_neg, a) : kiln_add_binary(region, KILN_OP_add, a, a);
        kiln_add_output(region, a, NULL);
        kiln_region_close(b->scope, region);
        regions[i] = region;
    }
    kiln_attrs attrs = {.family = KILN_FAMILY_regions};
    kiln_attrs_set_regions(&attrs, (kiln_regions){2, regions});
    kiln_value is_any = kiln_add_binary(g, KILN_OP_ne, x, kiln_add_splat_like(g, x, 0));
    is_any = kiln_add_reduce(g, KILN_OP_reduce_any, is_any, 2, (int64_t[]){0, 1});
    kiln_value flags[] = {is_any, kiln_add_unary(g, KILN_OP_not, is_any)};
    for (int i = 0; i < 2; i++) {
        kiln_node_spec spec = {KILN_OP_if, NULL, (kiln_value[]){flags[i], x}, 2, &attrs, NULL};
        kiln_value choice = kiln_add_item(g, kiln_graph_add(g, &spec), 0);
        kiln_add_output(g, choice, i ? "no" : "yes");
    }
}

static void for_narrow_dtypes(bench_fn *fn)
{
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        kiln_dtype dtype = bench_dtypes[i];
        bool is_old = dtype == KILN_bool || dtype == KILN_i8 || dtype == KILN_u8;
        if (kiln_dtype_bits(dtype) <= 8 && !is_old) bench_do(fn, dtype);
    }
}

static void test_moves(void **state)
{
    for_narrow_dtypes(build_moves);
}

static void test_sums(void **state)
{
    for_narrow_dtypes(build_sums);
}

static void test_regions(void **state)
{
    for_narrow_dtypes(build_regions);
    bench_do(build_regions, KILN_c64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary_ops_of_every_pattern),
        cmocka_unit_test(test_binary_ops_of_every_pair),
        cmocka_unit_test(test_integers_at_their_edges),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_regions),
    };
    return cmocka_run_group_tests(tests, bench_set_up, bench_tear_down);
}
