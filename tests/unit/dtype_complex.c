/* Complex values compiled against the evaluator: every op, sums, products, contractions, moves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "dtype_bench.h"

/* Points on a grid and around the unit circle, some far away or tiny; none on a branch cut's wrong
 * side by rounding. */
static const double coordinates[] = {0, 0.25, -0.5, 1, -1, 0.999, 1.75, -3, 0.001, 12, -30};
#define N_COORDINATES ((int64_t)(sizeof coordinates / sizeof *coordinates))
#define N_POINTS (N_COORDINATES * N_COORDINATES)

static kiln_value points(bench *b, kiln_dtype dtype, int64_t turn)
{
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, N_POINTS);
    for (int64_t i = 0; i < N_POINTS; i++) {
        int64_t j = i * turn % N_POINTS;
        double parts[] = {coordinates[j % N_COORDINATES], coordinates[j / N_COORDINATES]};
        kiln_element_store_double(kiln_dtype_part(dtype), b->inputs[number].data, 2 * i, 2, parts);
    }
    return value;
}

static void set_error(bench *b, kiln_dtype dtype)
{
    b->is_widest_only = dtype == KILN_c128;
    b->error = dtype == KILN_c64 ? 0x1p-20 : 0x1p-48;
}

static void build_ops(bench *b, kiln_dtype dtype)
{
    set_error(b, dtype);
    kiln_value inputs[] = {points(b, dtype, 1), points(b, dtype, 7)};
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        bool is_plain = row->class_ == KILN_ELEMENTWISE || row->class_ == KILN_COMPOSITE;
        if (!is_plain || op == KILN_OP_select || row->result == KILN_RESULT_GIVEN) continue;
        if (op == KILN_OP_pow || op == KILN_OP_atan2) continue;
        if (row->attrs || row->min_inputs > 2 || !kiln_dtype_in(dtype, row->types)) continue;
        kiln_node_spec spec = {(kiln_op)op, NULL, inputs, row->min_inputs, NULL, NULL};
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), row->name);
    }
}

/* e^(b log a) has the error of b log a. */
static void build_pow(bench *b, kiln_dtype dtype)
{
    set_error(b, dtype);
    b->error *= 128;
    kiln_value x = points(b, dtype, 1), y = points(b, dtype, 7);
    kiln_add_output(b->graph, kiln_add_binary(b->graph, KILN_OP_pow, x, y), "pow");
}

static void build_conversions(bench *b, kiln_dtype dtype)
{
    kiln_value z = points(b, dtype, 1), x = kiln_add_unary(b->graph, KILN_OP_real, z);
    for (size_t i = 0; i < bench_n_dtypes; i++) {
        char name[32];
        snprintf(name, sizeof name, "to %s", kiln_dtype_name(bench_dtypes[i]));
        kiln_add_output(b->graph, kiln_add_convert(b->graph, z, bench_dtypes[i]), name);
        snprintf(name, sizeof name, "by %s", kiln_dtype_name(bench_dtypes[i]));
        kiln_value narrow = kiln_add_convert(b->graph, x, bench_dtypes[i]);
        kiln_add_output(b->graph, kiln_add_convert(b->graph, narrow, dtype), name);
    }
}

static void build_moves(bench *b, kiln_dtype dtype)
{
    kiln_graph *g = b->graph;
    kiln_value z = points(b, dtype, 1), y = points(b, dtype, 7);
    int64_t dims[] = {N_COORDINATES, N_COORDINATES}, permutation[] = {1, 0};
    kiln_value square = kiln_add_reshape(g, z, 2, dims);
    kiln_add_output(g, kiln_add_transpose(g, square, permutation), "transpose");
    kiln_value flag = kiln_add_binary(g, KILN_OP_eq, z, y);
    kiln_value inputs[] = {flag, z, kiln_add_splat_like(g, z, 3)};
    kiln_node_spec select = {KILN_OP_select, NULL, inputs, 3, NULL, NULL};
    kiln_add_output(g, kiln_graph_add(g, &select), "select");
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    kiln_node_spec concat = {KILN_OP_concat, NULL, (kiln_value[]){z, y}, 2, &attrs, NULL};
    kiln_add_output(g, kiln_graph_add(g, &concat), "concat");
    kiln_add_output(g, kiln_add_unary(g, KILN_OP_conj, square), "conj");
    float constant[] = {1, 2, 3, 4, -5, 6};
    double wide[] = {1, 2, 3, 4, -5, 6};
    int64_t three = 3;
    const void *data = dtype == KILN_c64 ? (const void *)constant : wide;
    kiln_value list = kiln_add_constant(g, kiln_graph_tensor(g, dtype, 1, &three), data);
    kiln_add_output(g, list, "constant");
}

static void build_sums(bench *b, kiln_dtype dtype)
{
    set_error(b, dtype);
    kiln_graph *g = b->graph;
    kiln_value z = points(b, dtype, 1), y = points(b, dtype, 7);
    int64_t dims[] = {N_COORDINATES, N_COORDINATES};
    kiln_value a = kiln_add_reshape(g, z, 2, dims), c = kiln_add_reshape(g, y, 2, dims);
    int64_t axes[] = {0, 1};
    for (uint32_t i = 0; i < 2; i++) {
        kiln_add_output(g, kiln_add_reduce(g, KILN_OP_reduce_sum, a, 1, &axes[i]), i ? "s1" : "s0");
        kiln_add_output(g, kiln_add_reduce(g, KILN_OP_reduce_prod, a, 1, &axes[i]),
                        i ? "p1" : "p0");
    }
    kiln_value near = kiln_add_binary(g, KILN_OP_div, c, kiln_add_splat_like(g, c, 8));
    kiln_add_output(g, kiln_add_reduce(g, KILN_OP_reduce_prod, near, 2, axes), "all");
    kiln_attrs attrs = {KILN_FAMILY_dot, .dot = {{0}, {0}, {1, &axes[1]}, {1, &axes[0]}, dtype}};
    kiln_node_spec dot = {KILN_OP_dot_general, NULL, (kiln_value[]){a, c}, 2, &attrs, NULL};
    kiln_add_output(g, kiln_graph_add(g, &dot), "dot");
    kiln_attrs batch = {KILN_FAMILY_dot,
                        .dot = {{1, axes}, {1, axes}, {1, &axes[1]}, {1, &axes[1]}, dtype}};
    dot.attrs = &batch;
    kiln_add_output(g, kiln_graph_add(g, &dot), "batch");
}

static void test_ops(void **state)
{
    bench_do(build_ops, KILN_c64);
    bench_do(build_ops, KILN_c128);
    bench_do(build_pow, KILN_c64);
    bench_do(build_pow, KILN_c128);
}

static void test_conversions(void **state)
{
    bench_do(build_conversions, KILN_c64);
    bench_do(build_conversions, KILN_c128);
}

static void test_moves(void **state)
{
    bench_do(build_moves, KILN_c64);
    bench_do(build_moves, KILN_c128);
}

static void test_sums_products_and_contractions(void **state)
{
    bench_do(build_sums, KILN_c64);
    bench_do(build_sums, KILN_c128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_sums_products_and_contractions),
    };
    return cmocka_run_group_tests(tests, bench_set_up, bench_tear_down);
}
