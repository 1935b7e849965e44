/* The calls of kiln/losses.h against PyTorch's values, evaluated and compiled; their mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/layer_bench.h"
#include "tests/unit/loss_values.h"

#define IN(seed, ...) layer_input(g, seed, DIMS(__VA_ARGS__))
#define BUILD(name) static void build_##name(kiln_graph *g)
#define OUT(value) kiln_output(g, NULL, value)
#define MEAN KILN_REDUCTION_MEAN
#define SUM KILN_REDUCTION_SUM
#define EACH KILN_REDUCTION_NONE

static kiln_value number(kiln_graph *g, double value)
{
    return kiln_scalar(g, KILN_f32, value);
}

/* scale * a + offset */
static kiln_value line(kiln_graph *g, kiln_value a, double scale, double offset)
{
    return kiln_add(g, kiln_mul(g, a, number(g, scale)), number(g, offset));
}

/* -1 or 1 */
static kiln_value sides(kiln_graph *g, kiln_value a)
{
    return kiln_select(g, kiln_gt(g, a, number(g, 0)), number(g, 1), number(g, -1));
}

#define PAIR kiln_value p = IN(0, 3, 4), t = IN(1, 3, 4)

BUILD(l1)
{
    PAIR;
    OUT(kiln_l1_loss(g, p, t, MEAN));
    OUT(kiln_l1_loss(g, p, t, SUM));
}
BUILD(mse)
{
    PAIR;
    OUT(kiln_mse_loss(g, p, t, MEAN));
    OUT(kiln_mse_loss(g, p, t, EACH));
}
BUILD(smooth_l1)
{
    PAIR;
    OUT(kiln_smooth_l1_loss(g, p, t, 0.5, MEAN));
    OUT(kiln_smooth_l1_loss(g, p, t, 0, MEAN));
}
BUILD(huber)
{
    PAIR;
    OUT(kiln_huber_loss(g, p, t, 0.7, MEAN));
}
BUILD(log_cosh)
{
    PAIR;
    OUT(kiln_log_cosh_loss(g, line(g, p, 3, 0), t, MEAN));
}
BUILD(hinge)
{
    kiln_value p = IN(0, 3, 4), t = sides(g, IN(2, 3, 4));
    OUT(kiln_hinge_loss(g, p, t, 1, MEAN));
    OUT(kiln_hinge_loss(g, p, t, 2, MEAN));
}
BUILD(soft_margin)
{
    kiln_value p = IN(0, 3, 4), t = sides(g, IN(2, 3, 4));
    OUT(kiln_soft_margin_loss(g, p, t, MEAN));
}
BUILD(hinge_embedding)
{
    kiln_value p = IN(0, 3, 4), t = sides(g, IN(2, 3, 4));
    OUT(kiln_hinge_embedding_loss(g, p, t, 0.5, MEAN));
}
BUILD(binary)
{
    PAIR;
    kiln_binary_options weighted = {.weight = line(g, IN(3, 4), 1, 2)};
    kiln_binary_options sum = {.reduction = SUM};
    p = line(g, p, 0.49, 0.5);
    t = line(g, t, 0.5, 0.5);
    OUT(kiln_binary_cross_entropy(g, p, t, &weighted));
    OUT(kiln_binary_cross_entropy(g, p, t, &sum));
    OUT(kiln_binary_cross_entropy(g, kiln_iota(g, KILN_f32, DIMS(2), 0),
                                  kiln_splat(g, KILN_f32, DIMS(2), 1), NULL));
}
BUILD(binary_logits)
{
    PAIR;
    kiln_binary_options weighted = {.weight = line(g, IN(3, 4), 1, 2),
                                    .positive_weight = line(g, IN(4, 4), 1, 2)};
    p = line(g, p, 3, 0);
    t = line(g, t, 0.5, 0.5);
    OUT(kiln_binary_cross_entropy_logits(g, p, t, &weighted));
    OUT(kiln_binary_cross_entropy_logits(g, p, t, NULL));
}
BUILD(kl)
{
    PAIR;
    kiln_value a = kiln_log_softmax(g, p, 1), log = kiln_log_softmax(g, t, 1);
    kiln_value share = kiln_exp(g, log);
    kiln_value large = kiln_threshold(g, share, 0.2, 0);
    OUT(kiln_kl_divergence(g, a, large, 0, KILN_REDUCTION_BATCH_MEAN));
    OUT(kiln_kl_divergence(g, a, log, 1, SUM));
    OUT(kiln_kl_divergence(g, a, large, 0, MEAN));
}
BUILD(poisson)
{
    PAIR;
    OUT(kiln_poisson_loss(g, p, t, MEAN));
}
BUILD(gaussian)
{
    PAIR;
    OUT(kiln_gaussian_loss(g, p, t, line(g, IN(5, 3, 4), 1, 1), NULL));
}

static kiln_value classes(kiln_graph *g)
{
    return kiln_constant(g, KILN_i32, DIMS(3, 2), (int32_t[]){1, 4, 0, 2, 2, 3});
}

BUILD(cross_entropy)
{
    kiln_value s = line(g, IN(0, 3, 5, 2), 3, 0), y = classes(g);
    kiln_class_options weighted = {line(g, IN(6, 5), 1, 2), 1, 2, 0, MEAN}, smooth = weighted;
    kiln_class_options each = {.smoothing = 0.1, .reduction = EACH};
    smooth.smoothing = 0.1;
    OUT(kiln_cross_entropy(g, s, y, NULL));
    OUT(kiln_cross_entropy(g, s, y, &weighted));
    OUT(kiln_cross_entropy(g, s, y, &smooth));
    OUT(kiln_cross_entropy(g, s, y, &each));
}
BUILD(cross_entropy_shares)
{
    kiln_value s = line(g, IN(0, 3, 5, 2), 3, 0), q = kiln_softmax(g, IN(7, 3, 5, 2), 1);
    kiln_class_options smooth = {.weights = line(g, IN(6, 5), 1, 2), .smoothing = 0.2};
    kiln_class_options sum = {.reduction = SUM};
    OUT(kiln_cross_entropy(g, s, q, &smooth));
    OUT(kiln_cross_entropy(g, s, q, &sum));
}
BUILD(cross_entropy_one)
{
    kiln_value s = line(g, IN(0, 3, 5, 2), 3, 0);
    kiln_slice_options first = {.limits = (int64_t[]){1, 5, 1}};
    s = kiln_reshape(g, kiln_slice(g, s, &first), DIMS(5));
    OUT(kiln_cross_entropy(g, s, kiln_constant(g, KILN_i64, 0, NULL, (int64_t[]){1}), NULL));
}
BUILD(nll)
{
    kiln_value s = kiln_log_softmax(g, line(g, IN(0, 3, 5, 2), 3, 0), 1), y = classes(g);
    kiln_class_options weighted = {.weights = line(g, IN(6, 5), 1, 2)};
    kiln_class_options each = {.reduction = EACH};
    OUT(kiln_nll_loss(g, s, y, &weighted));
    OUT(kiln_nll_loss(g, s, y, &each));
}
BUILD(multi_margin)
{
    kiln_value a = IN(0, 3, 5), y = kiln_constant(g, KILN_i32, DIMS(3), (int32_t[]){1, 0, 2});
    kiln_margin_options options = {0.5, 2, EACH};
    OUT(kiln_multi_margin_loss(g, a, y, NULL));
    OUT(kiln_multi_margin_loss(g, a, y, &options));
}
BUILD(multilabel)
{
    PAIR;
    OUT(kiln_multilabel_loss(g, p, line(g, t, 0.5, 0.5), MEAN));
}
BUILD(ranking)
{
    kiln_value pair[] = {IN(0, 3, 4), IN(1, 3, 4)};
    OUT(kiln_margin_ranking_loss(g, pair, sides(g, IN(2, 3, 4)), 0.3, MEAN));
}
BUILD(cosine)
{
    kiln_value pair[] = {IN(0, 3, 4), IN(1, 3, 4)};
    kiln_value t = kiln_constant(g, KILN_f32, DIMS(3), (float[]){1, -1, 1});
    OUT(kiln_cosine_embedding_loss(g, pair, t, 0.2, MEAN));
    OUT(kiln_cosine_embedding_loss(g, pair, t, 0.2, EACH));
}
BUILD(triplet)
{
    kiln_value triple[] = {IN(0, 3, 4), IN(1, 3, 4), IN(5, 3, 4)};
    kiln_triplet_options options = {.margin = 2, .power = 1, .swap = 1, .reduction = EACH};
    OUT(kiln_triplet_loss(g, triple, NULL));
    OUT(kiln_triplet_loss(g, triple, &options));
}
BUILD(ctc)
{
    static const int32_t targets[] = {1, 1, 2, 3, 1, 2, 2, 2, 2};
    kiln_value logs = kiln_log_softmax(g, line(g, IN(0, 6, 3, 4), 2, 0), 2);
    kiln_value t = kiln_constant(g, KILN_i32, DIMS(3, 3), targets);
    kiln_ctc_options options = {
        .input_lengths = kiln_constant(g, KILN_i64, DIMS(3), (int64_t[]){6, 4, 3}),
        .target_lengths = kiln_constant(g, KILN_i32, DIMS(3), (int32_t[]){3, 2, 3}),
        .reduction = EACH};
    OUT(kiln_ctc_loss(g, logs, t, &options));
    options.reduction = MEAN;
    options.is_zero_infinite = 1;
    OUT(kiln_ctc_loss(g, logs, t, &options));
}
BUILD(ctc_long)
{
    static const int32_t targets[] = {0, 1, 1, 3, 3, 0, 1, 3};
    kiln_value logs = kiln_log_softmax(g, IN(3, 20, 2, 5), 2);
    kiln_value t = kiln_constant(g, KILN_i32, DIMS(2, 4), targets);
    kiln_ctc_options options = {
        .input_lengths = kiln_constant(g, KILN_i64, DIMS(2), (int64_t[]){20, 17}),
        .target_lengths = kiln_constant(g, KILN_i64, DIMS(2), (int64_t[]){4, 0}),
        .blank = 2,
        .reduction = EACH};
    OUT(kiln_ctc_loss(g, logs, t, &options));
    options.reduction = MEAN;
    OUT(kiln_ctc_loss(g, logs, t, &options));
}

static void test_losses_are_those_of_pytorch(void **state)
{
    static const layer_case cases[] = {
        LAYER_CASE(l1),           LAYER_CASE(mse),
        LAYER_CASE(smooth_l1),    LAYER_CASE(huber),
        LAYER_CASE(log_cosh),     LAYER_CASE(hinge),
        LAYER_CASE(soft_margin),  LAYER_CASE(hinge_embedding),
        LAYER_CASE(binary),       LAYER_CASE(binary_logits),
        LAYER_CASE(kl),           LAYER_CASE(poisson),
        LAYER_CASE(gaussian),     LAYER_CASE(cross_entropy),
        LAYER_CASE(nll),          LAYER_CASE(cross_entropy_shares),
        LAYER_CASE(multi_margin), LAYER_CASE(cross_entropy_one),
        LAYER_CASE(multilabel),   LAYER_CASE(ranking),
        LAYER_CASE(cosine),       LAYER_CASE(triplet),
        LAYER_CASE(ctc),          LAYER_CASE(ctc_long),
    };
    layer_check(cases, sizeof cases / sizeof *cases);
}

static void expect_mistake(kiln_graph *g, kiln_value value, const char *sentence)
{
    assert_int_equal(value.id, 0);
    if (!strstr(kiln_graph_message(g), sentence))
        fail_msg("\"%s\" lacks \"%s\"", kiln_graph_message(g), sentence);
    kiln_graph_destroy(g);
}

static void test_mistakes_name_the_loss(void **state)
{
    kiln_graph *g;
#define MISTAKE(sentence, ...)                                                                     \
    assert_int_equal(kiln_graph_create(layer_context(), "wrong", &g), KILN_OK);                    \
    expect_mistake(g, __VA_ARGS__, sentence)
    MISTAKE("mse_loss: operand 1 is i32[3,2]", kiln_mse_loss(g, IN(0, 3, 2), classes(g), MEAN));
    MISTAKE("nll_loss: scores f32[3,5], targets i32[3,2]",
            kiln_nll_loss(g, IN(0, 3, 5), classes(g), NULL));
    MISTAKE("cross_entropy: scores f32[], targets i32[3,2]",
            kiln_cross_entropy(g, number(g, 0), classes(g), NULL));
    MISTAKE("cross_entropy: weights f32[4]; expected [5]",
            kiln_cross_entropy(g, IN(0, 3, 5, 2), classes(g),
                               &(kiln_class_options){.weights = IN(1, 4)}));
    MISTAKE("triplet_loss: operand 0 is no value", kiln_triplet_loss(g, NULL, NULL));
    MISTAKE("ctc_loss: operand 2 is no value", kiln_ctc_loss(g, IN(0, 3, 5, 2), classes(g), NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_are_those_of_pytorch),
        cmocka_unit_test(test_mistakes_name_the_loss),
    };
    return cmocka_run_group_tests(tests, layer_set_up, layer_tear_down);
}
