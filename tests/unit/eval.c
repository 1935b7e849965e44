/* The evaluator against results worked out by hand: every class, total integer semantics, NaN,
 * empty shapes, composites, and its own failures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "graph/element.h"
#include "graph/graph.h"
#include "kiln/compile.h"

#define DIMS(...)                                                                                  \
    (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                            \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define INTS(...) ((kiln_ints){sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[]){__VA_ARGS__}})

static kiln_scope scope;
static kiln_error failure;

/* A test body runs inside a scope; an unexpected failure below it fails the test. */
typedef struct body {
    void (*run)(kiln_graph *graph);
} body;

static void run_body(void **state)
{
    const body *test = *state;
    memset(&failure, 0, sizeof failure);
    kiln_scope_open(&scope, &failure);
    if (kiln_scope_try(&scope)) test->run(kiln_graph_open(&scope, NULL, "test"));
    if (kiln_scope_close(&scope)) fail_msg("%s", failure.message);
}

static kiln_value constant(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                           const double *values)
{
    const kiln_type *type = kiln_graph_tensor(graph, dtype, rank, dims);
    char *data = kiln_arena_alloc(&scope.arena, (size_t)type->bytes + 1);
    kiln_element_store_double(dtype, data, 0, type->n_elements, values);
    return kiln_add_constant(graph, type, data);
}

#define CONSTANT(dtype, dims, ...) constant(graph, dtype, dims, (double[]){__VA_ARGS__})

static kiln_value node(kiln_graph *graph, kiln_op op, uint32_t n, const kiln_value *inputs,
                       const kiln_attrs *attrs)
{
    return kiln_graph_add(
        graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = n, .attrs = attrs});
}

/* Evaluates `value` and compares its elements; NaN equals NaN. */
static void expect(kiln_graph *graph, kiln_value value, int64_t n, const double *expected)
{
    void **values = kiln_eval_nodes(&scope, graph, NULL);
    const kiln_type *type = kiln_graph_type(graph, value);
    assert_int_equal(type->n_elements, n);
    double *found = kiln_new_array(&scope.arena, double, n);
    kiln_element_load_double(type->dtype, values[value.id], 0, n, found);
    for (int64_t i = 0; i < n; i++) {
        if (isnan(found[i]) && isnan(expected[i])) continue;
        if (found[i] != expected[i] || signbit(found[i]) != signbit(expected[i])) {
            fail_msg("element %lld is %.17g; expected %.17g", (long long)i, found[i], expected[i]);
        }
    }
}

#define EXPECT(value, ...)                                                                         \
    expect(graph, value, sizeof((double[]){__VA_ARGS__}) / 8, (double[]){__VA_ARGS__})

static void test_integers_are_total(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_i8, DIMS(6), -128, -128, 7, -7, 5, 127);
    kiln_value b = CONSTANT(KILN_i8, DIMS(6), -1, 0, -2, 2, 0, 9);
    EXPECT(kiln_add_binary(graph, KILN_OP_div, a, b), -128, -1, -3, -3, -1, 14);
    EXPECT(kiln_add_binary(graph, KILN_OP_rem, a, b), 0, -128, 1, -1, 5, 1);
    EXPECT(kiln_add_binary(graph, KILN_OP_add, a, b), 127, -128, 5, -5, 5, -120);
    EXPECT(kiln_add_binary(graph, KILN_OP_shift_left, a, b), 0, -128, 0, -28, 5, 0);
    EXPECT(kiln_add_binary(graph, KILN_OP_shift_right_logical, a, b), 0, -128, 0, 62, 5, 0);
    EXPECT(kiln_add_binary(graph, KILN_OP_shift_right_arithmetic, a, b), -1, -128, 0, -2, 5, 0);
    EXPECT(kiln_add_binary(graph, KILN_OP_pow, a, b), 0, 1, 0, 49, 1, 127);
    EXPECT(kiln_add_unary(graph, KILN_OP_abs, a), -128, -128, 7, 7, 5, 127);
    EXPECT(kiln_add_unary(graph, KILN_OP_clz, a), 0, 0, 5, 0, 5, 1);
    EXPECT(kiln_add_unary(graph, KILN_OP_popcnt, a), 1, 1, 3, 6, 2, 7);
}

static void test_casts_saturate_and_round_once(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f64, DIMS(7), NAN, INFINITY, -INFINITY, 300.9, -0.9, -3.5, 1e30);
    EXPECT(kiln_add_convert(graph, a, KILN_u8), 0, 255, 0, 255, 0, 0, 255);
    EXPECT(kiln_add_convert(graph, a, KILN_i8), 0, 127, -128, 127, 0, -3, 127);
    EXPECT(kiln_add_convert(graph, a, KILN_bool), 1, 1, 1, 1, 1, 1, 1);
    /* 2^24 + 1 + 2^-30 rounds up; through 2^24 + 1 it would tie to even and round down. */
    int64_t exact = ((int64_t)1 << 54) + ((int64_t)1 << 30) + 1;
    kiln_value b = kiln_add_constant(graph, kiln_graph_tensor(graph, KILN_i64, 0, NULL), &exact);
    EXPECT(kiln_add_convert(graph, b, KILN_f32), 0x1p54 + 0x1p31);
    EXPECT(kiln_add_convert(graph, CONSTANT(KILN_f64, DIMS(2), 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8),
                            KILN_bf16),
           1 + 0x1p-7, 1);
    EXPECT(kiln_add_convert(graph, CONSTANT(KILN_i32, DIMS(2), 257, -1), KILN_u8), 1, 255);
}

static void test_nan_and_signed_zero(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(4), NAN, 0.0, -0.0, 1);
    kiln_value b = CONSTANT(KILN_f32, DIMS(4), 1, -0.0, 0.0, NAN);
    EXPECT(kiln_add_binary(graph, KILN_OP_max, a, b), NAN, 0.0, 0.0, NAN);
    EXPECT(kiln_add_binary(graph, KILN_OP_min, a, b), NAN, -0.0, -0.0, NAN);
    EXPECT(kiln_add_binary(graph, KILN_OP_ne, a, b), 1, 0, 0, 1);
    EXPECT(kiln_add_unary(graph, KILN_OP_sign, a), NAN, 0.0, -0.0, 1);
    kiln_value c = CONSTANT(KILN_f32, DIMS(2, 3), 1, NAN, NAN, 4, 4, 2);
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_max, c, 1, (int64_t[]){1}), NAN, 4);
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {1, false}};
    EXPECT(node(graph, KILN_OP_argmax, 1, &c, &arg), 1, 0);
    arg.arg.last = true;
    EXPECT(node(graph, KILN_OP_argmax, 1, &c, &arg), 2, 1);
    EXPECT(node(graph, KILN_OP_argmin, 1, &c, &arg), 2, 2);
}

static void test_empty_ranges_give_the_identity(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(2, 0), 0), b = CONSTANT(KILN_i8, DIMS(2, 0), 0);
    int64_t axis = 1;
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_sum, a, 1, &axis), 0, 0);
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_max, a, 1, &axis), -INFINITY, -INFINITY);
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_prod, b, 1, &axis), 1, 1);
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_max, b, 1, &axis), -128, -128);
    EXPECT(kiln_add_reduce(graph, KILN_OP_reduce_min, b, 1, &axis), 127, 127);
    EXPECT(kiln_add_reduce(graph, KILN_OP_mean, a, 1, &axis), NAN, NAN);
}

static void test_views_and_moves(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_i32, DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    kiln_value zero = constant(graph, KILN_i32, 0, NULL, (double[]){0});
    EXPECT(kiln_add_transpose(graph, a, (int64_t[]){1, 0}), 1, 4, 2, 5, 3, 6);
    kiln_attrs axes = {KILN_FAMILY_axes, .axes = {INTS(0, 1)}};
    EXPECT(node(graph, KILN_OP_reverse, 1, &a, &axes), 6, 5, 4, 3, 2, 1);
    kiln_attrs slice = {KILN_FAMILY_slice, .slice = {INTS(0, 0), INTS(2, 3), INTS(1, 2)}};
    EXPECT(node(graph, KILN_OP_slice, 1, &a, &slice), 1, 3, 4, 6);
    kiln_attrs pad = {KILN_FAMILY_pad, .pad = {INTS(-1, 1), INTS(0, -1), INTS(0, 1)}};
    EXPECT(node(graph, KILN_OP_pad, 2, (kiln_value[]){a, zero}, &pad), 0, 4, 0, 5, 0);
    kiln_value column = CONSTANT(KILN_i32, DIMS(2, 1), 8, 9);
    EXPECT(kiln_add_broadcast_to(graph, column, DIMS(2, 2)), 8, 8, 9, 9);
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {1}};
    EXPECT(node(graph, KILN_OP_concat, 2, (kiln_value[]){column, a}, &axis), 8, 1, 2, 3, 9, 4, 5,
           6);
    kiln_value index = CONSTANT(KILN_i64, DIMS(2), 7, -1);
    EXPECT(node(graph, KILN_OP_take, 2, (kiln_value[]){a, index}, &axis), 3, 1, 6, 4);
    kiln_attrs sizes = {KILN_FAMILY_sizes, .sizes = {INTS(1, 2)}};
    EXPECT(node(graph, KILN_OP_dynamic_slice, 2, (kiln_value[]){a, index}, &sizes), 4, 5);
    EXPECT(node(graph, KILN_OP_dynamic_update, 3, (kiln_value[]){a, column, index}, NULL), 8, 2, 3,
           9, 5, 6);
}

static kiln_value counted(kiln_graph *graph, uint32_t rank, const int64_t *dims)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i];
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
    const kiln_type *type = kiln_graph_tensor(graph, KILN_i32, 1, &n);
    kiln_value at =
        kiln_graph_add(graph, &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &axis});
    at = kiln_add_binary(graph, KILN_OP_add, at, kiln_add_splat_like(graph, at, 1));
    return kiln_add_reshape(graph, at, rank, dims);
}

/* The examples of StableHLO's specification. */
static void test_gather_and_scatter(kiln_graph *graph)
{
    kiln_value a = counted(graph, DIMS(2, 3, 4, 2));
    kiln_value at = CONSTANT(KILN_i64, DIMS(2, 2, 3, 2), 0, 0, 1, 0, 2, 1, 0, 1, 1, 1, 0, 9, 0, 0,
                             2, 1, 2, 2, 1, 2, 0, 1, 1, 0);
    kiln_attrs gather = {KILN_FAMILY_gather,
                         .gather = {INTS(3, 4), INTS(1), INTS(0), INTS(1), INTS(2, 1), 3,
                                    INTS(1, 1, 2, 2)}};
    EXPECT(node(graph, KILN_OP_gather, 2, (kiln_value[]){a, at}, &gather), 1, 2, 3, 4, 3, 4, 5, 6,
           13, 14, 15, 16, 33, 34, 35, 36, 35, 36, 37, 38, 41, 42, 43, 44, 1, 2, 3, 4, 13, 14, 15,
           16, 21, 22, 23, 24, 43, 44, 45, 46, 33, 34, 35, 36, 27, 28, 29, 30);
    kiln_attrs scatter = {KILN_FAMILY_scatter,
                          .scatter = {INTS(3, 4), INTS(1), INTS(0), INTS(1), INTS(2, 1), 3}};
    kiln_value ones = kiln_add_splat(graph, KILN_i32, DIMS(2, 2, 3, 2, 2), 1);
    EXPECT(node(graph, KILN_OP_scatter_add, 3, (kiln_value[]){a, at, ones}, &scatter), 3, 4, 6, 7,
           6, 7, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 17, 18, 19, 20, 22, 23, 24, 25, 25, 26, 28,
           29, 30, 31, 31, 32, 35, 36, 38, 39, 38, 39, 39, 40, 41, 42, 44, 45, 46, 47, 47, 48);
}

static void test_orders(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(2, 4), 3, NAN, -0.0, 0, 1, 1, -INFINITY, INFINITY);
    kiln_attrs up = {KILN_FAMILY_sort, .sort = {1, false}}, down = up;
    down.sort.descending = true;
    EXPECT(node(graph, KILN_OP_argsort, 1, &a, &up), 2, 3, 0, 1, 2, 0, 1, 3);
    EXPECT(node(graph, KILN_OP_argsort, 1, &a, &down), 1, 0, 2, 3, 3, 0, 1, 2);
    kiln_value b = CONSTANT(KILN_i32, DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    kiln_attrs sum = {KILN_FAMILY_cumulative, .cumulative = {1, false, false}};
    EXPECT(node(graph, KILN_OP_cumulative_sum, 1, &b, &sum), 1, 3, 6, 4, 9, 15);
    kiln_attrs back = {KILN_FAMILY_cumulative, .cumulative = {1, true, true}};
    EXPECT(node(graph, KILN_OP_cumulative_prod, 1, &b, &back), 6, 3, 1, 30, 6, 1);
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {0}};
    kiln_value at = CONSTANT(KILN_i64, DIMS(1, 3), 1, 0, 9);
    EXPECT(node(graph, KILN_OP_take_along, 2, (kiln_value[]){b, at}, &along), 4, 2, 6);
}

/* The known answers that come with the paper's library: counters, key, words. */
static void test_random_words(kiln_graph *graph)
{
    kiln_value zero = CONSTANT(KILN_u32, DIMS(2), 0, 0);
    kiln_value four = CONSTANT(KILN_u32, DIMS(4), 0, 0, 0, 0);
    kiln_value pi = CONSTANT(KILN_u32, DIMS(2), 0x13198a2e, 0x03707344);
    kiln_value at = CONSTANT(KILN_u32, DIMS(2), 0x243f6a88, 0x85a308d3);
    kiln_value full = CONSTANT(KILN_u32, DIMS(2), UINT32_MAX, UINT32_MAX);
    EXPECT(kiln_add_binary(graph, KILN_OP_threefry2x32, zero, zero), 0x6b200159, 0x99ba4efe);
    EXPECT(kiln_add_binary(graph, KILN_OP_threefry2x32, full, full), 0x1cb996fc, 0xbb002be7);
    EXPECT(kiln_add_binary(graph, KILN_OP_threefry2x32, pi, at), 0xc4923a9c, 0x483df7a0);
    EXPECT(kiln_add_binary(graph, KILN_OP_philox4x32, zero, four), 0x6627e8d5, 0xe169c58d,
           0xbc57ac4c, 0x9b00dbd8);
    four = CONSTANT(KILN_u32, DIMS(4), UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
    EXPECT(kiln_add_binary(graph, KILN_OP_philox4x32, full, four), 0x408f276d, 0x41c83b0e,
           0xa20bc7c6, 0x6d5451fd);
    kiln_value key = CONSTANT(KILN_u32, DIMS(2), 0xa4093822, 0x299f31d0);
    four = CONSTANT(KILN_u32, DIMS(4), 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344);
    EXPECT(kiln_add_binary(graph, KILN_OP_philox4x32, key, four), 0xd16cfe09, 0x94fdcceb,
           0x5001e420, 0x24126ea1);
}

/* f32 as f16 would round it, as a type of 3 exponent and 1 mantissa bits, and the limits. */
static void test_fewer_bits(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(6), 1 + 0x1p-11, 1 + 0x3p-11, 65520, -65519, 0x1p-15,
                            NAN);
    kiln_attrs half = {KILN_FAMILY_reduce_precision, .reduce_precision = {5, 10}};
    EXPECT(node(graph, KILN_OP_reduce_precision, 1, &a, &half), 1, 1 + 0x1p-9, INFINITY, -65504,
           0, NAN);
    kiln_value b = CONSTANT(KILN_f32, DIMS(4), 1.25, -1.26, 13, -0.1);
    kiln_attrs few = {KILN_FAMILY_reduce_precision, .reduce_precision = {3, 1}};
    EXPECT(node(graph, KILN_OP_reduce_precision, 1, &b, &few), 1, -1.5, 12, -0.0);
}

/* 2.5 and 0.25 lie between two numbers of four bits: 2 + 0.5 - 1 is 1, 0.5 * 0.5 * 6 is 0. */
static void test_scatters_of_four_bits_round_each_step(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f4e2m1, DIMS(3), 2, 0.5, 6);
    kiln_value at = CONSTANT(KILN_i32, DIMS(5), 0, 1, 0, 1, 2);
    kiln_value b = CONSTANT(KILN_f4e2m1, DIMS(5), 0.5, 0.5, -1, 6, 4);
    kiln_attrs scatter = {KILN_FAMILY_scatter, .scatter = {{0}, INTS(0), {0}, {0}, INTS(0), 1}};
    EXPECT(node(graph, KILN_OP_scatter_add, 3, (kiln_value[]){a, at, b}, &scatter), 1, 6, 6);
    EXPECT(node(graph, KILN_OP_scatter_mul, 3, (kiln_value[]){a, at, b}, &scatter), -1, 0, 6);
    EXPECT(node(graph, KILN_OP_scatter, 3, (kiln_value[]){a, at, b}, &scatter), -1, 6, 4);
    EXPECT(node(graph, KILN_OP_scatter_max, 3, (kiln_value[]){a, at, b}, &scatter), 2, 6, 6);
}

/* Ties go to the first; the second window lies half in the padding. */
static void test_gradients_of_pools_and_norms(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(1, 4), 1, 5, 5, 2);
    kiln_value b = CONSTANT(KILN_f32, DIMS(1, 3), 10, 20, 30);
    kiln_attrs window = {KILN_FAMILY_window,
                         .window = {INTS(1, 2), INTS(1, 2), INTS(0, 1), INTS(0, 1), INTS(1, 1)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){a, b}, &window), 10, 20, 0,
           30);
    kiln_value x = CONSTANT(KILN_f64, DIMS(2, 1), -1, 1), one = CONSTANT(KILN_f64, DIMS(1), 1);
    kiln_value zero = CONSTANT(KILN_f64, DIMS(1), 0), g = CONSTANT(KILN_f64, DIMS(2, 1), 3, 1);
    kiln_attrs norm = {KILN_FAMILY_batch_norm, .batch_norm = {1, 3}};
    EXPECT(node(graph, KILN_OP_batch_norm_training, 3, (kiln_value[]){x, one, zero}, &norm), -0.5,
           0.5);
    kiln_value all[] = {x, one, zero, one, g};
    EXPECT(node(graph, KILN_OP_batch_norm_grad_scale, 5, all, &norm), -1);
    EXPECT(node(graph, KILN_OP_batch_norm_grad, 5, all, &norm), 0.375, -0.375);
}

/* Over padding the place is that of an element, also of the least value, or of none where there is
 * none. */
static void test_gradients_of_padded_pools(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(1, 4), 1, 5, 5, 2);
    kiln_value least = CONSTANT(KILN_f32, DIMS(1, 4), -INFINITY, -INFINITY, NAN, -INFINITY);
    kiln_value three = CONSTANT(KILN_f32, DIMS(1, 3), 10, 20, 30);
    kiln_value four = CONSTANT(KILN_f32, DIMS(1, 4), 1, 2, 3, 4);
    kiln_attrs apart = {KILN_FAMILY_window,
                        .window = {INTS(1, 3), INTS(1, 1), INTS(0, 2), INTS(0, 2), INTS(1, 2)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){a, four}, &apart), 0, 6, 4, 0);
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){least, four}, &apart), 0, 6, 4,
           0);
    kiln_attrs beside = {KILN_FAMILY_window,
                         .window = {INTS(1, 2), INTS(1, 3), INTS(0, 3), INTS(0, 2), INTS(1, 1)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){least, three}, &beside), 20, 0, 0,
           30);
    kiln_attrs over = {KILN_FAMILY_window,
                       .window = {INTS(1, 2), INTS(1, 2), INTS(0, 1), INTS(0, 1), INTS(1, 1)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){least, three}, &over), 10, 0, 20,
           30);
    kiln_value bytes = CONSTANT(KILN_u8, DIMS(4), 0, 0, 1, 0);
    kiln_value five = CONSTANT(KILN_u8, DIMS(5), 1, 2, 3, 4, 5);
    kiln_attrs far = {KILN_FAMILY_window,
                      .window = {INTS(3), INTS(2), INTS(4), INTS(3), INTS(1)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){bytes, five}, &far), 2, 0, 7, 0);
}

/* Steps over the whole operand, and windows beyond what 32 bits can count. */
static void test_gradients_of_pools_with_gaps(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(2), 4, 9);
    kiln_value three = CONSTANT(KILN_f32, DIMS(3), 1, 2, 3);
    kiln_value four = CONSTANT(KILN_f32, DIMS(4), 1, 2, 3, 4);
    kiln_attrs wide = {KILN_FAMILY_window,
                       .window = {INTS(2), INTS(1), INTS(2), INTS(3), INTS(3)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){a, four}, &wide), 3, 5);
    int64_t far = (int64_t)1 << 33;
    kiln_attrs beyond = {KILN_FAMILY_window,
                         .window = {INTS(2), INTS(far), INTS(far), INTS(far), INTS(1)}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){a, three}, &beyond), 0, 2);
}

static void test_gradient_of_a_pool_over_all_axes(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4), 1, 2, 3,
                            4, 5, 9, 7, 8);
    kiln_value b = CONSTANT(KILN_f32, DIMS(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2), 3, 4);
    kiln_ints one = INTS(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
    kiln_ints zero = INTS(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    kiln_ints two = INTS(2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2);
    kiln_attrs window = {KILN_FAMILY_window, .window = {two, two, zero, zero, one}};
    EXPECT(node(graph, KILN_OP_window_max_grad, 2, (kiln_value[]){a, b}, &window), 0, 0, 0, 0, 0, 3,
           0, 4);
}

static void test_windows(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(5), 1, 2, 3, 4, 5);
    kiln_attrs window = {KILN_FAMILY_window,
                         .window = {INTS(2), INTS(2), INTS(1), INTS(1), INTS(2)}};
    EXPECT(node(graph, KILN_OP_window_sum, 1, &a, &window), 2, 6, 4);
    EXPECT(node(graph, KILN_OP_window_max, 1, &a, &window), 2, 4, 4);
}

static void test_contractions(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(2, 3), 1, 2, 3, 4, 5, 6);
    kiln_value b = CONSTANT(KILN_f32, DIMS(2, 3), 1, 0, -1, 2, 2, 2);
    kiln_attrs dot = {
        KILN_FAMILY_dot,
        .dot = {.lhs_contract = INTS(1), .rhs_contract = INTS(1), .accumulate = KILN_f32}};
    EXPECT(node(graph, KILN_OP_dot_general, 2, (kiln_value[]){a, b}, &dot), -2, 12, -2, 30);
    dot.dot.lhs_batch = dot.dot.rhs_batch = INTS(0);
    EXPECT(node(graph, KILN_OP_dot_general, 2, (kiln_value[]){a, b}, &dot), -2, 30);

    /* One row of five, a kernel of two, stride 2, padding 1, then transposed by lhs dilation. */
    kiln_value image = CONSTANT(KILN_f32, DIMS(1, 1, 5), 1, 2, 3, 4, 5);
    kiln_value kernel = CONSTANT(KILN_f32, DIMS(1, 1, 2), 10, 1);
    kiln_attrs conv = {KILN_FAMILY_conv, .conv = {.strides = INTS(2),
                                                  .low = INTS(1),
                                                  .high = INTS(1),
                                                  .lhs_dilation = INTS(1),
                                                  .rhs_dilation = INTS(1),
                                                  .groups = 1,
                                                  .input_axes = INTS(0, 1, 2),
                                                  .kernel_axes = INTS(0, 1, 2),
                                                  .output_axes = INTS(0, 1, 2),
                                                  .accumulate = KILN_f32}};
    kiln_value pair[] = {image, kernel};
    EXPECT(node(graph, KILN_OP_convolution, 2, pair, &conv), 1, 23, 45);
    conv.conv.strides = INTS(1);
    conv.conv.lhs_dilation = INTS(2);
    EXPECT(node(graph, KILN_OP_convolution, 2, pair, &conv), 1, 10, 2, 20, 3, 30, 4, 40, 5, 50);
}

static void test_composites_go_through_their_rules(kiln_graph *graph)
{
    kiln_value a = CONSTANT(KILN_f32, DIMS(3), -1e4, 0, 1e4);
    EXPECT(kiln_add_unary(graph, KILN_OP_softplus, a), 0, (double)(float)M_LN2, 1e4);
    EXPECT(kiln_add_unary(graph, KILN_OP_hard_swish, a), -0.0, 0, 1e4);
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
    EXPECT(node(graph, KILN_OP_softmax, 1, &a, &axis), 0, 0, 1);
    kiln_value x = CONSTANT(KILN_bf16, DIMS(2, 2), 1, 3, 5, 5),
               one = CONSTANT(KILN_bf16, DIMS(2), 1, 1);
    kiln_value zero = CONSTANT(KILN_bf16, DIMS(2), 0, 0);
    kiln_attrs norm = {KILN_FAMILY_norm, .norm = {0x1p-20}};
    EXPECT(node(graph, KILN_OP_layer_norm, 3, (kiln_value[]){x, one, zero}, &norm), -1, 1, 0, 0);
}

static void test_attention_shares_key_heads(kiln_graph *graph)
{
    /* Two query heads over one key head; causal row 0 sees column 0 only. */
    kiln_value q = CONSTANT(KILN_f32, DIMS(1, 2, 2, 1), 0, 0, 0, 100);
    kiln_value k = CONSTANT(KILN_f32, DIMS(1, 1, 2, 1), 1, 2),
               v = CONSTANT(KILN_f32, DIMS(1, 1, 2, 1), 4, 8);
    kiln_attrs attention = {KILN_FAMILY_attention, .attention = {1, true}};
    EXPECT(node(graph, KILN_OP_attention, 3, (kiln_value[]){q, k, v}, &attention), 4, 6, 4, 8);
    kiln_value mask = CONSTANT(KILN_bool, DIMS(1, 2), 0, 1);
    attention.attention.causal = false;
    EXPECT(node(graph, KILN_OP_attention, 4, (kiln_value[]){q, k, v, mask}, &attention), 8, 8, 8,
           8);
}

static void test_ports_are_checked(kiln_graph *graph)
{
    int64_t dims[] = {2};
    float data[2] = {1, 2}, result[2];
    kiln_value x = kiln_add_input(graph, kiln_graph_tensor(graph, KILN_f32, 1, dims), "x", false);
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_add, x, x), "sum");
    kiln_tensor in = {KILN_f32, 1, dims, data, sizeof data},
                out = {KILN_f32, 1, dims, result, sizeof result};
    assert_int_equal(kiln_evaluate(graph, &in, 1, &out, 1), KILN_OK);
    assert_true(result[0] == 2 && result[1] == 4);
    assert_int_equal(kiln_evaluate(graph, &in, 1, &out, 0), KILN_INVALID);
    in.dtype = KILN_i32;
    assert_int_equal(kiln_evaluate(graph, &in, 1, &out, 1), KILN_INVALID);
    assert_string_equal(graph->report.message, "input \"x\": type is i32[2]; expected f32[2]");
    in.dtype = KILN_f32;
    out.bytes = 4;
    assert_int_equal(kiln_evaluate(graph, &in, 1, &out, 1), KILN_INVALID);
    assert_int_equal(kiln_evaluate(NULL, &in, 1, &out, 1), KILN_INVALID);
}

static void test_checks_give_range(kiln_graph *graph)
{
    kiln_value x = kiln_add_input(graph, kiln_graph_tensor(graph, KILN_i64, 0, NULL), "x", false);
    kiln_add_check(graph, x, "x: not 0; expected 0");
    int64_t value = 0;
    kiln_tensor in = {KILN_i64, 0, NULL, &value, sizeof value};
    assert_int_equal(kiln_evaluate(graph, &in, 1, NULL, 0), KILN_OK);
    value = 3;
    assert_int_equal(kiln_evaluate(graph, &in, 1, NULL, 0), KILN_RANGE);
}

static void test_values_beyond_memory_are_refused(kiln_graph *graph)
{
    kiln_add_output(
        graph, kiln_add_splat(graph, KILN_f64, DIMS((int64_t)1 << 20, (int64_t)1 << 20), 1), NULL);
    int64_t dims[] = {(int64_t)1 << 20, (int64_t)1 << 20};
    double nothing;
    kiln_tensor out = {KILN_f64, 2, dims, &nothing, (size_t)1 << 43};
    assert_int_equal(kiln_evaluate(graph, NULL, 0, &out, 1), KILN_LIMIT);
}

#define CASE(name)                                                                                 \
    {                                                                                              \
#name, run_body, NULL, NULL, &(body)                                                       \
        {                                                                                          \
            name                                                                                   \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_integers_are_total),
        CASE(test_casts_saturate_and_round_once),
        CASE(test_nan_and_signed_zero),
        CASE(test_empty_ranges_give_the_identity),
        CASE(test_views_and_moves),
        CASE(test_gather_and_scatter),
        CASE(test_orders),
        CASE(test_gradients_of_pools_and_norms),
        CASE(test_gradients_of_padded_pools),
        CASE(test_gradients_of_pools_with_gaps),
        CASE(test_gradient_of_a_pool_over_all_axes),
        CASE(test_random_words),
        CASE(test_fewer_bits),
        CASE(test_scatters_of_four_bits_round_each_step),
        CASE(test_windows),
        CASE(test_contractions),
        CASE(test_composites_go_through_their_rules),
        CASE(test_attention_shares_key_heads),
        CASE(test_ports_are_checked),
        CASE(test_checks_give_range),
        CASE(test_values_beyond_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
