/* The graph: interning, type rules and their sentences, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "graph/attrs.h"
#include "graph/element.h"
#include "graph/graph.h"

/* Each test body runs in a scope of its own; a failure inside must be the one the test expects. */
typedef void body_fn(kiln_graph *graph);

static kiln_error last_error;

static kiln_status run_body(body_fn *body)
{
    kiln_scope scope;
    memset(&last_error, 0, sizeof last_error);
    kiln_scope_open(&scope, &last_error);
    if (kiln_scope_try(&scope)) body(kiln_graph_open(&scope, NULL, "test"));
    return kiln_scope_close(&scope);
}

static void expect_ok(body_fn *body)
{
    kiln_status status = run_body(body);
    assert_string_equal(last_error.message, "");
    assert_int_equal(status, KILN_OK);
}

static void expect_fail(body_fn *body, kiln_status status, const char *sentence)
{
    assert_int_equal(run_body(body), status);
    assert_string_equal(last_error.message, sentence);
}

static kiln_value input(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t rank,
                        const int64_t *dims)
{
    return kiln_add_input(graph, kiln_graph_tensor(graph, dtype, rank, dims), name, false);
}

#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}

static void intern_body(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", KILN_f32, DIMS(2, 3)),
               y = input(graph, "y", KILN_f32, DIMS(2, 3));
    assert_int_not_equal(x.id, y.id);
    assert_ptr_equal(kiln_graph_type(graph, x), kiln_graph_type(graph, y));
    kiln_value sum = kiln_add_binary(graph, KILN_OP_add, x, y);
    assert_int_equal(sum.id, kiln_add_binary(graph, KILN_OP_add, x, y).id);
    assert_int_not_equal(sum.id, kiln_add_binary(graph, KILN_OP_add, y, x).id);
    kiln_value rows = kiln_add_reduce(graph, KILN_OP_reduce_sum, sum, 1, (int64_t[]){0});
    assert_int_equal(rows.id,
                     kiln_add_reduce(graph, KILN_OP_reduce_sum, sum, 1, (int64_t[]){0}).id);
    assert_int_not_equal(rows.id,
                         kiln_add_reduce(graph, KILN_OP_reduce_sum, sum, 1, (int64_t[]){1}).id);
    kiln_value one = kiln_add_splat_like(graph, x, 1), also = kiln_add_splat_like(graph, y, 1);
    assert_int_equal(one.id, also.id);
    assert_int_not_equal(kiln_add_splat_like(graph, x, 0.0).id,
                         kiln_add_splat_like(graph, x, -0.0).id);
    assert_int_equal(graph->inputs.n, 2);
}

static void barrier_body(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", KILN_f32, DIMS(4));
    for (int i = 0; i < 2; i++) {
        kiln_attrs attrs = {KILN_FAMILY_serial, .serial = {graph->n_serials}};
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_barrier, NULL, &x, 1, &attrs, NULL});
    }
    assert_int_equal(graph->nodes.n, 4);
}

static void constant_body(kiln_graph *graph)
{
    const kiln_type *type = kiln_graph_tensor(graph, KILN_i32, DIMS(2, 2));
    kiln_value a = kiln_add_constant(graph, type, (int32_t[]){1, 2, 3, 4});
    assert_int_equal(a.id, kiln_add_constant(graph, type, (int32_t[]){1, 2, 3, 4}).id);
    assert_int_not_equal(a.id, kiln_add_constant(graph, type, (int32_t[]){1, 2, 3, 5}).id);
    kiln_value seven = kiln_add_constant(graph, type, (int32_t[]){7, 7, 7, 7});
    const kiln_literal *literal = &kiln_graph_node(graph, seven)->attrs->literal.value;
    assert_int_equal(literal->kind, KILN_LITERAL_SPLAT);
    int32_t read[4];
    kiln_literal_read(graph->scope, type, literal, read);
    assert_memory_equal(read, ((int32_t[]){7, 7, 7, 7}), sizeof read);
    const kiln_type *large = kiln_graph_tensor(graph, KILN_i32, DIMS(20000));
    int32_t *data = kiln_new_array(&graph->scope->arena, int32_t, 20000);
    data[9] = 1;
    kiln_value blob = kiln_add_constant(graph, large, data);
    assert_int_equal(kiln_graph_node(graph, blob)->attrs->literal.value.kind, KILN_LITERAL_BLOB);
    assert_int_not_equal(blob.id, kiln_add_constant(graph, large, data).id);
    assert_int_equal(
        kiln_add_constant(graph, kiln_graph_tensor(graph, KILN_f32, DIMS(0, 3)), NULL).graph,
        graph->id);
}

static void chain_body(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", KILN_f32, DIMS(8)), at = x;
    for (int i = 0; i < 1000000; i++) at = kiln_add_binary(graph, KILN_OP_add, at, x);
    kiln_add_output(graph, at, NULL);
    assert_int_equal(graph->nodes.n, 1000002);
}

static void wide_body(kiln_graph *graph)
{
    uint32_t n = 100000;
    kiln_value *parts = kiln_new_array(&graph->scope->arena, kiln_value, n);
    kiln_value x = input(graph, "x", KILN_f32, DIMS(1));
    for (uint32_t i = 0; i < n; i++) parts[i] = x;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    kiln_value all =
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_concat, NULL, parts, n, &attrs, NULL});
    assert_int_equal(kiln_graph_type(graph, all)->dims[0], 100000);
}

static void copy_body(kiln_graph *graph)
{
    kiln_value x = input(graph, "x", KILN_f32, DIMS(2, 3));
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {1}};
    kiln_value y =
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_softmax, NULL, &x, 1, &axis, "prob"});
    kiln_add_output(graph, y, "y");
    kiln_graph *next = kiln_graph_open(graph->scope, NULL, "next");
    kiln_value map[8];
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        map[id] = kiln_graph_copy(next, graph, graph->nodes.at[id], map);
    }
    assert_int_equal(next->nodes.n, graph->nodes.n);
    assert_int_equal(next->inputs.n, 1);
    const kiln_node *copy = kiln_graph_node(next, map[y.id]);
    assert_string_equal(copy->label, "prob");
    assert_int_equal(copy->attrs->axis.axis, 1);
    assert_int_equal(copy->type->dims[1], 3);
    assert_int_equal(next->origins.at[map[y.id].id], y.id);
    assert_int_not_equal(next->id, graph->id);
}

static void test_equal_nodes_are_one(void **state)
{
    (void)state;
    expect_ok(intern_body);
    expect_ok(barrier_body);
    expect_ok(constant_body);
}

static void test_a_million_nodes_and_wide_operands_are_linear(void **state)
{
    (void)state;
    expect_ok(chain_body);
    expect_ok(wide_body);
}

static void test_copies_keep_types_labels_and_origins(void **state)
{
    (void)state;
    expect_ok(copy_body);
}

static void mismatch(kiln_graph *graph)
{
    kiln_add_binary(graph, KILN_OP_add, input(graph, "x", KILN_f32, DIMS(2, 3)),
                    input(graph, "y", KILN_f32, DIMS(3)));
}
static void wrong_dtype(kiln_graph *graph)
{
    kiln_add_unary(graph, KILN_OP_exp, input(graph, "x", KILN_i32, DIMS(2)));
}
static void rank_17(kiln_graph *graph)
{
    int64_t dims[17] = {0};
    kiln_graph_tensor(graph, KILN_f32, 17, dims);
}
static void negative_dim(kiln_graph *graph)
{
    kiln_graph_tensor(graph, KILN_f32, DIMS(2, -1));
}
static void overflow(kiln_graph *graph)
{
    kiln_graph_tensor(graph, KILN_f32, DIMS(INT64_MAX / 2, 4, 0));
}
static void too_large(kiln_graph *graph)
{
    kiln_graph_tensor(graph, KILN_i8, DIMS((int64_t)1 << 30, (int64_t)1 << 30));
}
static void foreign(kiln_graph *graph)
{
    kiln_graph *other = kiln_graph_open(graph->scope, NULL, "other");
    kiln_add_unary(graph, KILN_OP_neg, input(other, "x", KILN_f32, DIMS(2)));
}
static void no_value(kiln_graph *graph)
{
    kiln_add_unary(graph, KILN_OP_neg, (kiln_value){0, 0});
}
static void two_names(kiln_graph *graph)
{
    input(graph, "x", KILN_f32, DIMS(2));
    input(graph, "x", KILN_f32, DIMS(3));
}
static void constant_size(kiln_graph *graph)
{
    kiln_literal literal = {KILN_LITERAL_BYTES, "abcd", 4};
    kiln_add_literal(graph, kiln_graph_tensor(graph, KILN_f32, DIMS(6)), &literal);
}
static void bad_permutation(kiln_graph *graph)
{
    kiln_add_transpose(graph, input(graph, "x", KILN_f32, DIMS(2, 3)), (int64_t[]){1, 1});
}
static void bad_check(kiln_graph *graph)
{
    kiln_add_check(graph, input(graph, "x", KILN_f32, DIMS(2)), "no");
}

static void test_mistakes_have_sentences(void **state)
{
    (void)state;
    expect_fail(mismatch, KILN_INVALID,
                "add: operands are f32[2,3] and f32[3]; expected equal types");
    expect_fail(wrong_dtype, KILN_INVALID, "exp: operand 0 is i32[2]; "
                 "expected a float or complex dtype");
    expect_fail(rank_17, KILN_INVALID, "shape: rank is 17; expected at most 16");
    expect_fail(negative_dim, KILN_INVALID, "shape: dim 1 is -1; expected 0 or more");
    expect_fail(overflow, KILN_INVALID,
                "shape: the size of f32[4611686018427387903,4,0] overflows; expected at most 2^48 "
                "elements");
    expect_fail(
        too_large, KILN_LIMIT,
        "shape: i8[1073741824,1073741824]; expected dims to 2^40 and at most 2^48 elements");
    expect_fail(foreign, KILN_INVALID,
                "neg: operand 0 belongs to another graph; expected a value of graph \"test\"");
    expect_fail(no_value, KILN_INVALID,
                "neg: operand 0 is no value; expected a value of graph \"test\"");
    expect_fail(two_names, KILN_INVALID,
                "input: the name \"x\" is taken; expected a name of its own");
    expect_fail(constant_size, KILN_INVALID, "constant: 4 bytes for f32[6]; expected 24");
    expect_fail(bad_permutation, KILN_INVALID,
                "transpose: permutation is [1, 1]; expected distinct axes below 2");
    expect_fail(bad_check, KILN_INVALID, "check: the value is f32[2]; expected i64[]");
}

/* Rules of ops whose result is not that of an operand. */
static const kiln_type *result(kiln_graph *graph, kiln_op op, const kiln_value *inputs, uint32_t n,
                               const kiln_attrs *attrs)
{
    return kiln_graph_type(
        graph, kiln_graph_add(graph, &(kiln_node_spec){op, NULL, inputs, n, attrs, NULL}));
}

static void expect_dims(const kiln_type *type, uint32_t rank, const int64_t *dims)
{
    assert_int_equal(type->rank, rank);
    for (uint32_t i = 0; i < rank; i++) assert_int_equal(type->dims[i], dims[i]);
}

static kiln_ints ints(uint32_t n, const int64_t *at)
{
    return (kiln_ints){n, at};
}

static void shapes_body(kiln_graph *graph)
{
    kiln_value image = input(graph, "image", KILN_f32, DIMS(1, 3, 224, 224));
    kiln_value kernel = input(graph, "kernel", KILN_f32, DIMS(64, 3, 7, 7));
    kiln_attrs conv = {KILN_FAMILY_conv,
                       .conv = {ints(DIMS(2, 2)), ints(DIMS(3, 3)), ints(DIMS(3, 3)),
                                ints(DIMS(1, 1)), ints(DIMS(1, 1)), 1, ints(DIMS(0, 1, 2, 3)),
                                ints(DIMS(0, 1, 2, 3)), ints(DIMS(0, 3, 1, 2)), KILN_f32}};
    kiln_value pair[] = {image, kernel};
    expect_dims(result(graph, KILN_OP_convolution, pair, 2, &conv), DIMS(1, 112, 112, 64));
    kiln_attrs window = {KILN_FAMILY_window,
                         .window = {ints(DIMS(1, 1, 3, 3)), ints(DIMS(1, 1, 2, 2)),
                                    ints(DIMS(0, 0, 1, 1)), ints(DIMS(0, 0, 1, 1)),
                                    ints(DIMS(1, 1, 1, 1))}};
    expect_dims(result(graph, KILN_OP_window_max, &image, 1, &window), DIMS(1, 3, 112, 112));
    kiln_value q = input(graph, "q", KILN_f32, DIMS(2, 5, 7)),
               k = input(graph, "k", KILN_f32, DIMS(7, 2, 6));
    kiln_attrs dot = {KILN_FAMILY_dot, .dot = {ints(DIMS(0)), ints(DIMS(1)), ints(DIMS(2)),
                                               ints(DIMS(0)), KILN_f32}};
    kiln_value qk[] = {q, k};
    expect_dims(result(graph, KILN_OP_dot_general, qk, 2, &dot), DIMS(2, 5, 6));
    kiln_attrs slice = {KILN_FAMILY_slice,
                        .slice = {ints(DIMS(0, 1, 0)), ints(DIMS(2, 5, 7)), ints(DIMS(1, 2, 3))}};
    expect_dims(result(graph, KILN_OP_slice, &q, 1, &slice), DIMS(2, 2, 3));
    kiln_value index = input(graph, "index", KILN_i32, DIMS(4, 4));
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {1}};
    expect_dims(result(graph, KILN_OP_take, (kiln_value[]){q, index}, 2, &axis), DIMS(2, 4, 4, 7));
    kiln_attrs pad = {KILN_FAMILY_pad,
                      .pad = {ints(DIMS(1, 0, -1)), ints(DIMS(0, 0, 2)), ints(DIMS(0, 1, 0))}};
    kiln_value zero = kiln_add_splat(graph, KILN_f32, 0, NULL, 0);
    expect_dims(result(graph, KILN_OP_pad, (kiln_value[]){q, zero}, 2, &pad), DIMS(3, 9, 8));
    kiln_attrs scale = {KILN_FAMILY_attention, .attention = {0, false}};
    kiln_value heads = input(graph, "heads", KILN_f32, DIMS(1, 4, 9, 8));
    expect_dims(result(graph, KILN_OP_attention, (kiln_value[]){heads, heads, heads}, 3, &scale),
                DIMS(1, 4, 9, 8));
}

static void test_rules_give_shapes(void **state)
{
    (void)state;
    expect_ok(shapes_body);
}

static void test_rows_and_fields_are_found(void **state)
{
    (void)state;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        assert_int_equal(kiln_op_find(row->name, strlen(row->name)), op);
        assert_true(row->min_inputs <= row->max_inputs);
        assert_true((kiln_expand_rules[op] != NULL) == (row->class_ == KILN_COMPOSITE));
    }
    assert_int_equal(kiln_op_find("ad", 2), KILN_OP_none);
    assert_int_equal(kiln_op_rows[KILN_OP_attention].min_inputs, 3);
    assert_int_equal(kiln_op_rows[KILN_OP_attention].max_inputs, 4);
    assert_int_equal(kiln_op_rows[KILN_OP_concat].max_inputs, 255);
    const kiln_family_row *conv = kiln_family_fields(KILN_FAMILY_conv);
    assert_int_equal(conv->n_fields, 12);
    assert_string_equal(conv->fields[5].name, "groups");
    kiln_attrs attrs = {KILN_FAMILY_conv, .conv = {.groups = 7}};
    assert_int_equal(*(const int64_t *)kiln_attrs_field(&attrs, &conv->fields[5]), 7);
}

static void expect_f16(double value, uint16_t bits)
{
    uint16_t out;
    kiln_element_from_double(KILN_f16, value, &out);
    assert_int_equal(out, bits);
}

static void test_elements_convert(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t in = (uint16_t)bits, out;
        double value = kiln_element_to_double(KILN_f16, &in);
        if (value != value) continue;
        kiln_element_from_double(KILN_f16, value, &out);
        assert_int_equal(out, in);
        value = kiln_element_to_double(KILN_bf16, &in);
        if (value != value) continue;
        kiln_element_from_double(KILN_bf16, value, &out);
        assert_int_equal(out, in);
    }
    expect_f16(65519.9, 0x7bff);
    expect_f16(65520, 0x7c00);
    expect_f16(1.0 + 0x1p-11, 0x3c00); /* a tie goes to even */
    expect_f16(1.0 + 0x3p-11, 0x3c02);
    expect_f16(0x1p-25, 0);
    expect_f16(0x1.8p-25, 1);
    int8_t small;
    kiln_element_from_double(KILN_i8, 1e9, &small);
    assert_int_equal(small, 127);
    kiln_element_from_double(KILN_i8, -128.9, &small);
    assert_int_equal(small, -128);
    uint64_t large;
    kiln_element_from_double(KILN_u64, 1e30, &large);
    assert_true(large == UINT64_MAX);
    kiln_element_from_double(KILN_u64, -1, &large);
    assert_true(large == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_nodes_are_one),
        cmocka_unit_test(test_a_million_nodes_and_wide_operands_are_linear),
        cmocka_unit_test(test_copies_keep_types_labels_and_origins),
        cmocka_unit_test(test_mistakes_have_sentences),
        cmocka_unit_test(test_rules_give_shapes),
        cmocka_unit_test(test_rows_and_fields_are_found),
        cmocka_unit_test(test_elements_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
