/* The verifier: every single-field corruption of a sound graph is rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "graph/attrs.h"
#include "graph/graph.h"

static const char text[] =
    "kiln 1\n"
    "graph v(%f: f32[2,3], %g: f32[2,3], %image: f32[1,8,8,4], %kernel: f32[3,3,4,6], %starts: "
    "i64[2],\n"
    "        %m: f32[3,5], %n: i64[]) {\n"
    "  %0: f32[2] = constant {value = [1, 2]}\n"
    "  %1: f32[2,3] = constant {value = splat 3}\n"
    "  %2: i32[2,3] = iota {axis = 1}\n"
    "  %3: f32[2,3] = add %f, %g\n"
    "  %4: bool[2,3] = lt %3, %1\n"
    "  %5: f32[2,3] = select %4, %f, %g\n"
    "  %6: f32[2] = reduce_sum %5 {axes = [1]}\n"
    "  %7: i64[2] = argmax %f {axis = 1, last = true}\n"
    "  %8: f32[2,2] = window_max %f {sizes = [1, 2], strides = [1, 1], low = [0, 0], high = [0, "
    "0], dilations = [1, 1]}\n"
    "  %9: f32[4,2] = broadcast %6 {axes = [1]}\n"
    "  %10: f32[3,2] = reshape %f\n"
    "  %11: f32[3,2] = transpose %f {permutation = [1, 0]}\n"
    "  %12: f32[1,2] = slice %f {starts = [1, 0], limits = [2, 3], strides = [1, 2]}\n"
    "  %13: f32[] = constant {value = splat 0.5}\n"
    "  %14: f32[4,4] = pad %f, %13 {low = [1, -1], high = [0, 0], interior = [1, 1]}\n"
    "  %15: f32[4,3] = concat %f, %g {axis = 0}\n"
    "  %16: f32[2,2,3] = take %f, %2 {axis = 1}\n"
    "  %17: f32[1,2] = dynamic_slice %f, %starts {sizes = [1, 2]}\n"
    "  %18: f32[2,3] = dynamic_update %f, %17, %starts\n"
    "  %19: f32[2,5] = dot_general %f, %m {lhs_batch = [], rhs_batch = [], lhs_contract = [1], "
    "rhs_contract = [0], accumulate = f32}\n"
    "  %20: f32[1,8,8,6] = convolution %image, %kernel {strides = [1, 1], low = [1, 1], high = [1, "
    "1], "
    "lhs_dilation = [1, 1], rhs_dilation = [1, 1], groups = 1, input_axes = [0, 3, 1, 2], "
    "kernel_axes = [3, 2, 0, 1], output_axes = [0, 3, 1, 2], accumulate = f32}\n"
    "  %21: f32[2,3] = barrier %f {serial = 9}\n"
    "  %22: f32[2,3] = softmax %f {axis = 1}\n"
    "  %23: f32[2] = mean %f {axes = [1]}\n"
    "  %24: bf16[2,3] = convert %f\n"
    "  check %n \"bad\"\n"
    "  return %22, %20 as \"features\"\n"
    "}\n";

typedef struct bench {
    kiln_graph *graph;
    uint32_t n_tried, n_missed;
} bench;

/* The graph must be rejected as it stands; the caller has corrupted it and puts it right
 * afterwards. */
static void expect_rejected(bench *b, const char *what, uint32_t id, int64_t detail)
{
    kiln_error error = {0};
    b->n_tried++;
    if (kiln_graph_verify(b->graph, "mutant", &error) == KILN_INTERNAL && error.message[0]) return;
    printf("accepted: %s of node %u (%lld)\n", what, id, (long long)detail);
    b->n_missed++;
}

#define MUTATE(place, value, what, detail)                                                         \
    do {                                                                                           \
        __typeof__(place) before = (place);                                                        \
        (place) = (value);                                                                         \
        expect_rejected(b, (what), id, (detail));                                                  \
        (place) = before;                                                                          \
    } while (0)

static void mutate_ints(bench *b, uint32_t id, const char *name, kiln_ints *ints)
{
    MUTATE(ints->n, ints->n + 1, name, -1);
    if (ints->n) MUTATE(ints->n, ints->n - 1, name, -2);
    if (ints->n) MUTATE(ints->at, NULL, name, -3);
    for (uint32_t i = 0; i < ints->n; i++) {
        int64_t *entry = (int64_t *)&ints->at[i];
        MUTATE(*entry, -1000, name, i);
        MUTATE(*entry, (int64_t)1 << 50, name, i);
        MUTATE(*entry, INT64_MIN, name, i);
    }
}

static void mutate_field(bench *b, uint32_t id, const kiln_field_row *field, void *at)
{
    switch (field->kind) {
    case KILN_FIELD_KIND_INT:
    case KILN_FIELD_KIND_CHOICE:
        MUTATE(*(int64_t *)at, -1, field->name, -1);
        MUTATE(*(int64_t *)at, 1000, field->name, 1000);
        return;
    case KILN_FIELD_KIND_INTS:
        mutate_ints(b, id, field->name, at);
        return;
    case KILN_FIELD_KIND_BOOL:
        MUTATE(*(uint8_t *)at, 2, field->name, 2);
        return;
    case KILN_FIELD_KIND_DTYPE:
        MUTATE(*(kiln_dtype *)at, KILN_NO_DTYPE, field->name, 0);
        MUTATE(*(kiln_dtype *)at, (kiln_dtype)99, field->name, 99);
        MUTATE(*(kiln_dtype *)at, KILN_bool, field->name, KILN_bool);
        return;
    case KILN_FIELD_KIND_STRING:
        MUTATE(*(const char **)at, NULL, field->name, 0);
        return;
    case KILN_FIELD_KIND_REGIONS: {
        kiln_regions *regions = at;
        MUTATE(regions->n, 0, field->name, 0);
        MUTATE(regions->n, KILN_MAX_REGIONS + 1, field->name, 1);
        return;
    }
    case KILN_FIELD_KIND_LITERAL: {
        kiln_literal *literal = at;
        MUTATE(literal->bytes, literal->bytes + 4, field->name, 4);
        MUTATE(literal->bytes, -1, field->name, -1);
        MUTATE(literal->kind, (kiln_literal_kind)9, field->name, 9);
        MUTATE(literal->kind, KILN_LITERAL_FILE, field->name, KILN_LITERAL_FILE);
        MUTATE(literal->data, NULL, field->name, 0);
        return;
    }
    case KILN_FIELD_KIND_FLOAT:
        return;
    }
}

static void mutate_type(bench *b, uint32_t id)
{
    kiln_node *node = b->graph->nodes.at[id];
    kiln_type *type = (kiln_type *)node->type;
    kiln_type copy = *type, other = *type;
    other.dtype = type->dtype == KILN_f32 ? KILN_f64 : KILN_f32;
    MUTATE(node->type, NULL, "type", 0);
    MUTATE(node->type, &copy, "type that is not interned", 0);
    MUTATE(node->type, &other, "type of another dtype", 0);
    MUTATE(type->dtype, (kiln_dtype)77, "dtype", 77);
    MUTATE(type->rank, 17, "rank", 17);
    MUTATE(type->n_elements, type->n_elements + 1, "n_elements", 1);
    MUTATE(type->bytes, type->bytes - 1, "bytes", -1);
    MUTATE(type->n_items, 1, "n_items", 1);
    if (type->rank) MUTATE(*(int64_t *)&type->dims[0], -1, "dim", -1);
    if (type->rank) MUTATE(*(int64_t *)&type->dims[0], type->dims[0] + 1, "dim", 1);
}

static void mutate_node(bench *b, uint32_t id)
{
    kiln_node *node = b->graph->nodes.at[id];
    MUTATE(b->graph->nodes.at[id], NULL, "node", 0);
    MUTATE(node->id, id + 1, "id", 1);
    MUTATE(node->op, 0, "op", 0);
    MUTATE(node->op, KILN_N_OPS, "op", KILN_N_OPS);
    MUTATE(node->op, node->op == KILN_OP_clamp ? KILN_OP_neg : KILN_OP_clamp, "op", KILN_OP_clamp);
    if (node->op != KILN_OP_concat) MUTATE(node->n_inputs, node->n_inputs + 1, "n_inputs", 1);
    if (node->n_inputs) MUTATE(node->n_inputs, node->n_inputs - 1, "n_inputs", -1);
    if (node->n_inputs) MUTATE(node->inputs, NULL, "inputs", 0);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value *operand = (kiln_value *)&node->inputs[i];
        MUTATE(operand->id, 0, "operand", i);
        MUTATE(operand->id, id, "operand", i);
        MUTATE(operand->id, 100000, "operand", i);
        MUTATE(operand->graph, b->graph->id + 1, "operand's graph", i);
    }
    kiln_attrs other = {node->attrs ? KILN_FAMILY_none : KILN_FAMILY_axis};
    MUTATE(node->attrs, node->attrs ? NULL : &other, "attrs", 0);
    if (!node->attrs) return;
    kiln_attrs *attrs = (kiln_attrs *)node->attrs;
    const kiln_family_row *family = kiln_family_fields(attrs->family);
    MUTATE(attrs->family, KILN_FAMILY_affine, "family", KILN_FAMILY_affine);
    for (uint32_t i = 0; i < family->n_fields; i++) {
        mutate_field(b, id, &family->fields[i], (char *)attrs + family->fields[i].offset);
    }
}

static void mutate_graph(bench *b)
{
    kiln_graph *graph = b->graph;
    uint32_t id = 0;
    MUTATE(graph->id, 0, "graph id", 0);
    MUTATE(graph->inputs.n, graph->inputs.n - 1, "inputs", -1);
    MUTATE(graph->inputs.at[1].id, graph->inputs.at[0].id, "input", 1);
    MUTATE(graph->inputs.at[1].graph, 0, "input", 1);
    MUTATE(graph->nodes.at[1]->label, NULL, "input name", 0);
    MUTATE(graph->nodes.at[1]->label, "g", "input name", 1);
    MUTATE(graph->outputs.at[0].value.id, 0, "output", 0);
    MUTATE(graph->outputs.at[0].value.id, graph->nodes.n, "output", 0);
    MUTATE(graph->outputs.at[0].value.graph, graph->id + 1, "output", 0);
    MUTATE(graph->outputs.at[0].name, NULL, "output name", 0);
    MUTATE(graph->outputs.at[0].name, "features", "output name", 0);
    MUTATE(graph->checks.at[0].value.id, 1, "check", 0);
    MUTATE(graph->checks.at[0].value.id, 0, "check", 0);
    MUTATE(graph->checks.at[0].sentence, NULL, "check", 0);
    MUTATE(graph->origins.n, graph->origins.n - 1, "origins", 0);
    MUTATE(graph->n_serials, 2, "n_serials", 2);
}

static void test_every_mutant_is_rejected(void **state)
{
    (void)state;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        bench b = {kiln_graph_parse(&scope, NULL, text, sizeof text - 1)};
        assert_int_equal(kiln_graph_verify(b.graph, "sound", &error), KILN_OK);
        for (uint32_t id = 1; id < b.graph->nodes.n; id++) {
            mutate_type(&b, id);
            mutate_node(&b, id);
        }
        mutate_graph(&b);
        assert_int_equal(kiln_graph_verify(b.graph, "restored", &error), KILN_OK);
        assert_true(b.n_tried > 200);
        assert_int_equal(b.n_missed, 0);
        printf("%u mutants\n", b.n_tried);
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_mutant_is_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
