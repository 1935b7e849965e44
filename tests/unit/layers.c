/* The calls of kiln/layers.h against PyTorch's values, evaluated and compiled; their mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/layer_bench.h"
#include "tests/unit/layer_values.h"

#define IN(seed, ...) layer_input(g, seed, DIMS(__VA_ARGS__))
#define BUILD(name) static void build_##name(kiln_graph *g)
#define OUT(value) kiln_output(g, NULL, value)
static const kiln_value none;

static kiln_value twice(kiln_graph *g)
{
    kiln_value a = IN(0, 2, 6);
    return kiln_add(g, a, a);
}

BUILD(glu)
{
    OUT(kiln_glu(g, twice(g), 1));
}
BUILD(softmin)
{
    OUT(kiln_softmin(g, twice(g), -1));
}
BUILD(sparsemax)
{
    OUT(kiln_sparsemax(g, twice(g), -1));
}
BUILD(prelu)
{
    kiln_value a = IN(1, 2, 3, 4), slope = IN(2, 3);
    OUT(kiln_prelu(g, a, kiln_reshape(g, slope, DIMS(3, 1))));
}
BUILD(rrelu)
{
    OUT(kiln_rrelu(g, IN(1, 2, 3), none, 0.1, 0.3));
}
BUILD(group)
{
    kiln_value a = IN(0, 2, 4, 3), scale = IN(1, 4), offset = IN(2, 4);
    OUT(kiln_group_norm(g, a, &(kiln_group_norm_options){scale, offset, 2, 1e-3}));
}
BUILD(instance)
{
    OUT(kiln_instance_norm(g, IN(0, 2, 4, 3), none, none, 1e-3));
}
BUILD(local)
{
    kiln_local_norm_options options = {1, 1, 1, 0.5 / 3, 0.75, 2};
    OUT(kiln_local_norm(g, IN(0, 2, 4, 3), &options));
}
BUILD(normalize)
{
    OUT(kiln_normalize(g, IN(0, 2, 4, 3), -2, 1e-3));
}

static kiln_value four_indices(kiln_graph *g)
{
    static const int32_t indices[] = {2, 0, 1, 4};
    return kiln_constant(g, KILN_i32, DIMS(2, 2), indices);
}

BUILD(one_hot)
{
    OUT(kiln_one_hot(g, four_indices(g), 5, 1, KILN_f32));
}
BUILD(embedding)
{
    OUT(kiln_embedding(g, IN(3, 5, 3), four_indices(g)));
}

static void build_turned(kiln_graph *g, int interleaved)
{
    kiln_value a = IN(0, 1, 2, 3, 6), angle = IN(1, 3, 2);
    OUT(kiln_rotary(g, a, kiln_cos(g, angle), kiln_sin(g, angle), interleaved));
}
BUILD(rotary)
{
    build_turned(g, 0);
}
BUILD(rotary_pairs)
{
    build_turned(g, 1);
}

static void build_sequences(kiln_graph *g, int is_causal)
{
    kiln_value q = IN(0, 8, 4, 3), k = IN(1, 9, 2, 3), v = IN(2, 9, 2, 5);
    kiln_varlen_options options = {.is_causal = is_causal};
    options.query_ends = kiln_constant(g, KILN_i32, DIMS(3), (int32_t[]){0, 3, 7});
    options.key_ends = kiln_constant(g, KILN_i64, DIMS(3), (int64_t[]){0, 4, 9});
    OUT(kiln_attention_varlen(g, q, k, v, &options));
}
BUILD(varlen)
{
    build_sequences(g, 0);
}
BUILD(varlen_causal)
{
    build_sequences(g, 1);
}

static void test_layers_compute_what_pytorch_does(void **state)
{
    static const layer_case cases[] = {
        LAYER_CASE(glu),          LAYER_CASE(softmin),   LAYER_CASE(sparsemax),
        LAYER_CASE(prelu),        LAYER_CASE(rrelu),     LAYER_CASE(group),
        LAYER_CASE(instance),     LAYER_CASE(local),     LAYER_CASE(normalize),
        LAYER_CASE(one_hot),      LAYER_CASE(embedding), LAYER_CASE(rotary),
        LAYER_CASE(rotary_pairs), LAYER_CASE(varlen),    LAYER_CASE(varlen_causal),
    };
    layer_check(cases, sizeof cases / sizeof *cases);
}

/* Without a slope drawn beyond low … high, and not all the same. */
static void test_random_slopes_are_within_their_range(void **state)
{
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(layer_context(), "rrelu", &g), KILN_OK);
    uint32_t key[] = {1, 2};
    kiln_value a = kiln_splat(g, KILN_f32, DIMS(64), -1);
    kiln_value k = kiln_constant(g, KILN_u32, DIMS(2), key);
    OUT(kiln_rrelu(g, a, k, 0.25, 0.75));
    float y[64], least = 0, most = -1;
    int64_t dims = 64;
    kiln_tensor out = {KILN_f32, 1, &dims, y, sizeof y};
    assert_int_equal(kiln_evaluate(g, NULL, 0, &out, 1), KILN_OK);
    for (int i = 0; i < 64; i++) {
        least = y[i] < least ? y[i] : least;
        most = y[i] > most ? y[i] : most;
    }
    assert_true(least >= -0.75f && least < -0.6f && most <= -0.25f && most > -0.4f);
    kiln_graph_destroy(g);
}

static void expect_mistake(kiln_graph *g, kiln_value value, const char *sentence)
{
    assert_int_equal(value.id, 0);
    if (!strstr(kiln_graph_message(g), sentence))
        fail_msg("\"%s\" lacks \"%s\"", kiln_graph_message(g), sentence);
    kiln_graph_destroy(g);
}

static void test_mistakes_name_the_call(void **state)
{
    kiln_graph *g;
#define MISTAKE(sentence, ...)                                                                     \
    assert_int_equal(kiln_graph_create(layer_context(), "wrong", &g), KILN_OK);                    \
    expect_mistake(g, __VA_ARGS__, sentence)
    MISTAKE("glu: axis 0 of f32[3]; expected an even dim", kiln_glu(g, IN(0, 3), 0));
    MISTAKE("group_norm: 3 groups of f32[2,4,3]",
            kiln_group_norm(g, IN(0, 2, 4, 3), &(kiln_group_norm_options){.groups = 3}));
    MISTAKE("group_norm: operand f32[2]; expected rank 2",
            kiln_instance_norm(g, IN(0, 2), none, none, 0));
    MISTAKE("local_norm: -1 before",
            kiln_local_norm(g, IN(0, 4), &(kiln_local_norm_options){.before = -1}));
    MISTAKE("normalize: axis is 2 for rank 1", kiln_normalize(g, IN(0, 2), 2, 0));
    MISTAKE("normalize: operand 0 is no value", kiln_normalize(g, none, 2, 0));
    MISTAKE("one_hot: indices f32[2]", kiln_one_hot(g, IN(0, 2), 3, 0, KILN_f32));
    MISTAKE("rotary: operand 1 is f32[3]", kiln_rotary(g, IN(0, 4), IN(1, 3), IN(2, 3), 0));
    MISTAKE("rotary: operand 1 is f32[]; expected half",
            kiln_rotary(g, IN(0, 4), kiln_scalar(g, KILN_f32, 0), IN(2, 2), 0));
    MISTAKE("attention_varlen: operands f32[4], f32[4], f32[4]",
            kiln_attention_varlen(
                g, IN(0, 4), IN(1, 4), IN(2, 4),
                &(kiln_varlen_options){.query_ends = kiln_iota(g, KILN_i64, DIMS(2), 0)}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_compute_what_pytorch_does),
        cmocka_unit_test(test_random_slopes_are_within_their_range),
        cmocka_unit_test(test_mistakes_name_the_call),
    };
    return cmocka_run_group_tests(tests, layer_set_up, layer_tear_down);
}
