/* Recurrent layers against PyTorch's values and ONNX's formulas, evaluated and compiled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/layer_bench.h"
#include "tests/unit/recurrent_values.h"

#define IN(seed, ...) layer_input(g, seed, DIMS(__VA_ARGS__))
#define BUILD(name) static void build_##name(kiln_graph *g)
enum { LENGTH = 5, BATCH = 3, INPUT = 4, HIDDEN = 2 };

/* Inputs are made in the order of their seeds. */
static kiln_recurrent_options weights(kiln_graph *g, int64_t gates, int64_t directions)
{
    kiln_recurrent_options options = {.order = KILN_GATES_PYTORCH};
    options.weights = IN(1, directions, gates * HIDDEN, INPUT);
    options.recurrent = IN(2, directions, gates * HIDDEN, HIDDEN);
    options.bias = IN(3, directions, gates * HIDDEN);
    options.recurrent_bias = IN(4, directions, gates * HIDDEN);
    if (directions == 2) options.direction = KILN_DIRECTION_BOTH;
    return options;
}

static void outputs(kiln_graph *g, kiln_recurrent_result result)
{
    kiln_output(g, NULL, result.y);
    kiln_output(g, NULL, result.h);
    if (result.c.id) kiln_output(g, NULL, result.c);
}

BUILD(lstm)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 4, 2);
    options.h = IN(5, 2, BATCH, HIDDEN);
    options.c = IN(6, 2, BATCH, HIDDEN);
    outputs(g, kiln_lstm(g, x, &options));
}
BUILD(gru)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 3, 2);
    options.h = IN(5, 2, BATCH, HIDDEN);
    outputs(g, kiln_gru(g, x, &options));
}
BUILD(rnn)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 1, 1);
    options.activations[0][0].kind = KILN_ACTIVATION_RELU;
    outputs(g, kiln_rnn(g, x, &options));
}
BUILD(lengths)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 4, 2);
    options.lengths = kiln_constant(g, KILN_i32, DIMS(BATCH), (int32_t[]){5, 3, 2});
    outputs(g, kiln_lstm(g, x, &options));
}
/* Too long to be unrolled. */
BUILD(long_gru)
{
    kiln_value x = IN(0, 40, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 3, 1);
    kiln_recurrent_result result = kiln_gru(g, x, &options);
    kiln_slice_options last = {.starts = (int64_t[]){39, 0, 0}};
    kiln_output(g, NULL, kiln_slice(g, result.y, &last));
    kiln_output(g, NULL, result.h);
}
BUILD(onnx_lstm)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = {
        .direction = KILN_DIRECTION_REVERSE, .clip = 0.6, .is_coupled = 1};
    options.weights = IN(1, 1, 4 * HIDDEN, INPUT);
    options.recurrent = IN(2, 1, 4 * HIDDEN, HIDDEN);
    options.bias = IN(3, 1, 4 * HIDDEN);
    options.peepholes = IN(5, 1, 3 * HIDDEN);
    options.activations[0][0] = (kiln_activation){KILN_ACTIVATION_HARD_SIGMOID, 0.3, 0.4};
    options.activations[0][1] = (kiln_activation){KILN_ACTIVATION_ELU, 0.7, 0};
    options.activations[0][2] = (kiln_activation){KILN_ACTIVATION_SCALED_TANH, 1.5, 0.5};
    outputs(g, kiln_lstm(g, x, &options));
}
BUILD(onnx_gru)
{
    kiln_value x = IN(0, LENGTH, BATCH, INPUT);
    kiln_recurrent_options options = weights(g, 3, 1);
    options.order = KILN_GATES_ONNX;
    options.is_reset_first = 1;
    options.activations[0][1].kind = KILN_ACTIVATION_SOFTSIGN;
    outputs(g, kiln_gru(g, x, &options));
}

static void test_layers_are_those_of_pytorch_and_onnx(void **state)
{
    static const layer_case cases[] = {
        LAYER_CASE(lstm),     LAYER_CASE(gru),       LAYER_CASE(rnn),     LAYER_CASE(lengths),
        LAYER_CASE(long_gru), LAYER_CASE(onnx_lstm), LAYER_CASE(onnx_gru)};
    layer_check(cases, sizeof cases / sizeof *cases);
}

static void expect_mistake(kiln_graph *g, kiln_recurrent_result result, const char *sentence)
{
    assert_int_equal(result.y.id, 0);
    if (!strstr(kiln_graph_message(g), sentence))
        fail_msg("\"%s\" lacks \"%s\"", kiln_graph_message(g), sentence);
    kiln_graph_destroy(g);
}

static void test_mistakes_name_the_operand(void **state)
{
    kiln_graph *g;
    kiln_recurrent_options options;
#define OPEN()                                                                                     \
    assert_int_equal(kiln_graph_create(layer_context(), "wrong", &g), KILN_OK);                    \
    options = weights(g, 3, 1)
    OPEN();
    expect_mistake(g, kiln_gru(g, IN(0, 5, 3, 7), &options),
                   "gru: operand is f32[1,6,4]; expected");
    OPEN();
    expect_mistake(g, kiln_lstm(g, IN(0, 5, 3, 4), &options),
                   "lstm: operand is f32[1,6,4]; expected");
    OPEN();
    options.h = IN(1, 2, 3, 2);
    expect_mistake(g, kiln_gru(g, IN(0, 5, 3, 4), &options),
                   "gru: operand is f32[2,3,2]; expected");
    OPEN();
    options.lengths = IN(1, 3);
    expect_mistake(g, kiln_gru(g, IN(0, 5, 3, 4), &options), "gru: lengths are f32[3]; expected");
    OPEN();
    expect_mistake(g, kiln_rnn(g, IN(0, 5, 3), &options), "rnn: operands f32[5,3] and");
    OPEN();
    expect_mistake(g, kiln_rnn(g, IN(0, 5, 3), NULL), "rnn: operand 2 is no value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_are_those_of_pytorch_and_onnx),
        cmocka_unit_test(test_mistakes_name_the_operand),
    };
    return cmocka_run_group_tests(tests, layer_set_up, layer_tear_down);
}
