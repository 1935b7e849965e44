/* Cases of differentiation: reductions, windows, cumulative operations, order, normalisations. */
#include "tests/unit/gradient_cases.h"

static kiln_value x234(gradient_bench *b)
{
    return bench_draw(b, -2, 2, DIMS(2, 3, 4));
}

static kiln_value x34(gradient_bench *b)
{
    return bench_draw(b, -2, 2, DIMS(3, 4));
}

/* Drawn from a range that the other draws do not have. */
static kiln_value some(gradient_bench *b, int64_t n)
{
    return bench_draw(b, 0.5, 1.5, 1, &n);
}

#define OVER_AXES(ROW)                                                                             \
    ROW(reduce_sum) ROW(reduce_prod) ROW(reduce_max) ROW(reduce_min) ROW(mean) ROW(variance)
#define BUILD_OVER(op) BUILD(op, kiln_##op(g, x234(b), 2, INTS{0, 2}))
OVER_AXES(BUILD_OVER)

static kiln_value build_prod_of_zero(gradient_bench *b)
{
    kiln_value x = kiln_mul(b->graph, x34(b),
                            kiln_constant(b->graph, KILN_f64, DIMS(3, 4),
                                          (double[12]){1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0}));
    return kiln_reduce_prod(b->graph, x, 1, INTS{1});
}

static const kiln_window_options window = {.sizes = INTS{1, 3},
                                           .strides = INTS{2, 2},
                                           .low = INTS{0, 1},
                                           .high = INTS{1, 2},
                                           .dilations = INTS{1, 2}};
#define BUILD_WINDOW(op) BUILD(op, kiln_##op(g, bench_draw(b, -2, 2, DIMS(3, 9)), &window))
BUILD_WINDOW(window_sum)
BUILD_WINDOW(window_max)
BUILD_WINDOW(window_min)
BUILD(window_crop,
      kiln_window_sum(g, bench_draw(b, -2, 2, DIMS(9)),
                      &(kiln_window_options){
                          .sizes = INTS{2}, .strides = INTS{3}, .low = INTS{-1}, .high = INTS{-2}}))
BUILD(window_max_grad,
      kiln_window_max_grad(g, kiln_iota(g, KILN_f64, DIMS(3, 8), 1),
                           bench_draw(b, -2, 2, DIMS(3, 4)),
                           &(kiln_window_options){.sizes = INTS{1, 2}, .strides = INTS{1, 2}}))

/* An infinite identity times a weight is no difference: the first of an exclusive one is cut. */
static kiln_value finite_only(kiln_graph *g, kiln_value a)
{
    return kiln_select(g, kiln_is_finite(g, a), a, kiln_scalar(g, KILN_f64, 0));
}
BUILD(sum_plain, kiln_cumulative_sum(g, x34(b), 1, NULL))
BUILD(sum_after, kiln_cumulative_sum(g, x34(b), 1, &(kiln_cumulative_options){1, 1}))
BUILD(max_plain, kiln_cumulative_max(g, x34(b), 1, NULL))
BUILD(max_back, kiln_cumulative_max(g, x34(b), 0, &(kiln_cumulative_options){0, 1}))
BUILD(max_before,
      finite_only(g, kiln_cumulative_max(g, x34(b), 1, &(kiln_cumulative_options){1, 0})))
BUILD(min_plain, kiln_cumulative_min(g, x34(b), 0, NULL))
BUILD(min_after,
      finite_only(g, kiln_cumulative_min(g, x34(b), 1, &(kiln_cumulative_options){1, 1})))

BUILD(sort, kiln_sort(g, x34(b), 1, 1))
BUILD(sparsemax, kiln_sparsemax(g, x34(b), 1))
BUILD(softmax, kiln_softmax(g, x34(b), 0))
BUILD(log_softmax, kiln_log_softmax(g, x34(b), 1))
BUILD(layer_norm, kiln_layer_norm(g, x34(b), some(b, 4), some(b, 4), 1e-3))
BUILD(rms_norm, kiln_rms_norm(g, x34(b), some(b, 4), 1e-3))
BUILD(
    local_norm,
    kiln_local_norm(g, bench_draw(b, -2, 2, DIMS(1, 5, 2)),
                    &(kiln_local_norm_options){
                        .axis = 1, .before = 1, .after = 1, .alpha = 0.1, .beta = 0.75, .bias = 1}))
BUILD(group_norm,
      kiln_group_norm(g, bench_draw(b, -2, 2, DIMS(2, 4, 2)),
                      &(kiln_group_norm_options){
                          .groups = 2, .scale = some(b, 4), .offset = some(b, 4), .epsilon = 1e-3}))

static kiln_value build_layer_norm_all(gradient_bench *b)
{
    kiln_value scale = bench_draw(b, -1, 1, DIMS(3, 4)), offset = bench_draw(b, -1, 1, DIMS(3, 4));
    return kiln_layer_norm(b->graph, x34(b), scale, offset, 1e-3);
}

static kiln_value build_batch_norm(gradient_bench *b)
{
    kiln_batch_norm_operands operands = {some(b, 3), some(b, 3), some(b, 3), some(b, 3)};
    return kiln_batch_norm(b->graph, x234(b), &operands, 1, 1e-3);
}

static kiln_value build_batch_norm_training(gradient_bench *b)
{
    kiln_batch_norm_operands operands = {.scale = some(b, 3), .offset = some(b, 3)};
    return kiln_batch_norm_training(b->graph, x234(b), &operands, 1, 1e-3);
}

static kiln_batch_norm_grad_operands grad_operands(gradient_bench *b)
{
    return (kiln_batch_norm_grad_operands){some(b, 3), some(b, 3), some(b, 3), x234(b)};
}

static kiln_value build_batch_norm_grad(gradient_bench *b)
{
    kiln_batch_norm_grad_operands operands = grad_operands(b);
    return kiln_batch_norm_grad(b->graph, x234(b), &operands, 1, 1e-3);
}

static kiln_value build_batch_norm_grad_scale(gradient_bench *b)
{
    kiln_batch_norm_grad_operands operands = grad_operands(b);
    return kiln_batch_norm_grad_scale(b->graph, x234(b), &operands, 1, 1e-3);
}

#define ROW(op, name) {KILN_OP_##op, #name, build_##name},
#define SAME(op) ROW(op, op)
const gradient_case reduce_cases[] = {
    OVER_AXES(SAME) ROW(reduce_prod, prod_of_zero) SAME(window_sum) SAME(window_max)
        SAME(window_min) ROW(window_sum, window_crop) SAME(window_max_grad)
            ROW(cumulative_sum, sum_plain) ROW(cumulative_sum, sum_after)
                ROW(cumulative_max, max_plain) ROW(cumulative_max, max_back)
                    ROW(cumulative_max, max_before) ROW(cumulative_min, min_plain)
                        ROW(cumulative_min, min_after) SAME(sort) SAME(sparsemax) SAME(softmax)
                            SAME(log_softmax) SAME(layer_norm) ROW(layer_norm, layer_norm_all)
                                SAME(rms_norm) SAME(local_norm) SAME(group_norm) SAME(batch_norm)
                                    SAME(batch_norm_training) SAME(batch_norm_grad)
                                        SAME(batch_norm_grad_scale){0},
};
