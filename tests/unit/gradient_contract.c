/* Cases of differentiation: contractions, systems of equations, indices, regions, layers. */
#include "tests/unit/gradient_cases.h"

#define DRAW(...) bench_draw(b, -1, 1, DIMS(__VA_ARGS__))
/* i64 indices in a vector, and in rows of two. */
#define PLACES(n, ...) kiln_constant(g, KILN_i64, DIMS(n), INTS{__VA_ARGS__})
#define PAIRS(n, ...) kiln_constant(g, KILN_i64, DIMS(n, 2), INTS{__VA_ARGS__})

BUILD(matmul, kiln_matmul(g, DRAW(2, 3), DRAW(3, 4)))
/* batch b, summed s and t in another order, free f and h */
BUILD(dot_mixed, kiln_dot_general(g, DRAW(3, 2, 4, 2), DRAW(2, 4, 3, 5),
                                  &(kiln_dot_options){.n_batch = 1,
                                                      .n_contract = 2,
                                                      .lhs_batch = INTS{1},
                                                      .rhs_batch = INTS{0},
                                                      .lhs_contract = INTS{2, 0},
                                                      .rhs_contract = INTS{1, 2}}))
BUILD(linear, kiln_linear(g, DRAW(2, 3), DRAW(3, 4), DRAW(4)))
BUILD(conv, kiln_convolution(g, DRAW(1, 2, 4, 5), DRAW(2, 2, 2, 3), NULL))
BUILD(conv_strided, kiln_convolution(g, DRAW(2, 1, 6, 5), DRAW(2, 1, 3, 2),
                                     &(kiln_conv_options){.strides = INTS{2, 3},
                                                          .low = INTS{1, 0},
                                                          .high = INTS{0, 2},
                                                          .rhs_dilation = INTS{2, 1}}))
BUILD(conv_groups,
      kiln_convolution(g, DRAW(2, 4, 5), DRAW(6, 2, 3),
                       &(kiln_conv_options){
                           .strides = INTS{2}, .low = INTS{1}, .high = INTS{1}, .groups = 2}))
BUILD(conv_depthwise,
      kiln_convolution(g, DRAW(1, 3, 4, 4), DRAW(3, 1, 2, 2), &(kiln_conv_options){.groups = 3}))
BUILD(conv_transposed,
      kiln_convolution(g, DRAW(1, 2, 3), DRAW(2, 2, 3),
                       &(kiln_conv_options){
                           .lhs_dilation = INTS{2}, .low = INTS{2}, .high = INTS{1}}))
/* a result axis of two places where the padding leaves more, and cropped operands */
BUILD(conv_rest,
      kiln_convolution(g, DRAW(1, 1, 8), DRAW(1, 1, 2),
                       &(kiln_conv_options){.strides = INTS{3}, .low = INTS{-1}, .high = INTS{1}}))
BUILD(conv_layout, kiln_convolution(g, DRAW(4, 2, 2), DRAW(2, 2, 3),
                                    &(kiln_conv_options){.input_axes = INTS{1, 2, 0},
                                                         .kernel_axes = INTS{2, 1, 0},
                                                         .output_axes = INTS{0, 2, 1}}))
BUILD(cholesky_lower, kiln_cholesky(g,
                                    kiln_add(g, DRAW(2, 3, 3),
                                             kiln_constant(g, KILN_f64, DIMS(3, 3),
                                                           (double[]){5, 0, 0, 0, 5, 0, 0, 0, 5})),
                                    1))
static kiln_value solvable(gradient_bench *b)
{
    return kiln_add(
        b->graph, bench_draw(b, -1, 1, DIMS(3, 3)),
        kiln_constant(b->graph, KILN_f64, DIMS(3, 3), (double[]){3, 0, 0, 0, 3, 0, 0, 0, 3}));
}
BUILD(forward_solve, kiln_forward_solve(g, solvable(b), DRAW(3, 2), 0))
BUILD(forward_solve_unit, kiln_forward_solve(g, solvable(b), DRAW(3, 2), 1))
BUILD(triangular_solve, kiln_triangular_solve(g, solvable(b), DRAW(2, 3),
                                              &(kiln_triangular_options){.right = 1, .upper = 1}))
BUILD(fft, kiln_fft(g, DRAW(6, 2), 1, INTS{0}, 0))
BUILD(rotary, kiln_rotary(g, DRAW(1, 2, 3, 4), DRAW(3, 2), DRAW(3, 2), 0))

static kiln_value build_attention(gradient_bench *b)
{
    kiln_value q = DRAW(1, 2, 3, 2), k = DRAW(1, 1, 4, 2), v = DRAW(1, 1, 4, 3);
    kiln_attention_options options = {.mask = DRAW(1, 2, 3, 4)};
    return kiln_attention(b->graph, q, k, v, &options);
}

static kiln_value build_attention_causal(gradient_bench *b)
{
    kiln_value q = DRAW(1, 2, 3, 2), k = DRAW(1, 2, 3, 2), v = DRAW(1, 2, 3, 2);
    return kiln_attention(b->graph, q, k, v, &(kiln_attention_options){.is_causal = 1});
}

static kiln_value build_dropout(gradient_bench *b)
{
    kiln_value key = kiln_constant(b->graph, KILN_u32, DIMS(2), (uint32_t[]){3, 5});
    return kiln_dropout(b->graph, DRAW(2, 6), key, 0.5);
}

/* Indices beyond both ends, and twice the same. */
BUILD(take, kiln_take(g, DRAW(3, 2), PAIRS(3, 0, 2, 9, -4, 2, 1), 0))
BUILD(take_last, kiln_take(g, DRAW(2, 3), PLACES(2, 2, 0), 1))
BUILD(take_along, kiln_take_along(g, DRAW(3, 2), PAIRS(2, 2, 0, 2, 9), 0))
BUILD(gather, kiln_gather(g, DRAW(4, 5), PAIRS(3, 0, 1, 3, 9, 0, 2),
                          &(kiln_gather_options){.n_offset = 1,
                                                 .n_collapsed = 1,
                                                 .n_map = 2,
                                                 .offset_axes = INTS{1},
                                                 .collapsed_axes = INTS{0},
                                                 .start_map = INTS{0, 1},
                                                 .index_axis = 1,
                                                 .sizes = INTS{1, 2}}))
/* Windows of two that partly stick out, and two that meet. */
static const kiln_scatter_options windows = {.n_window = 1,
                                             .n_inserted = 1,
                                             .n_map = 2,
                                             .window_axes = INTS{1},
                                             .inserted_axes = INTS{0},
                                             .start_map = INTS{0, 1},
                                             .index_axis = 1};
BUILD(scatter_add, kiln_scatter_add(g, DRAW(3, 4), PAIRS(5, 0, 1, 2, 3, 0, 2, 1, -1, 7, 0),
                                    DRAW(5, 2), &windows))
BUILD(scatter,
      kiln_scatter(g, DRAW(3, 4), PAIRS(5, 0, 1, 2, 3, 0, 2, 1, -1, 7, 0), DRAW(5, 2), &windows))

/* Regions */

static kiln_graph *open_region(const gradient_bench *b)
{
    kiln_graph *region = NULL;
    kiln_graph_create(b->graph->context, "region", &region);
    return region;
}

static kiln_value build_call(gradient_bench *b)
{
    kiln_graph *r = open_region(b);
    kiln_value x = kiln_input(r, "x", KILN_f64, DIMS(2, 3)),
               y = kiln_input(r, "y", KILN_f64, DIMS(3));
    kiln_output(r, NULL, kiln_exp(r, x));
    kiln_output(r, NULL, kiln_mul(r, x, y));
    kiln_arguments arguments = {2, (kiln_value[]){DRAW(2, 3), DRAW(3)}};
    kiln_value tuple = kiln_call(b->graph, r, &arguments);
    kiln_graph_destroy(r);
    return kiln_mul(b->graph, kiln_item(b->graph, tuple, 0), kiln_item(b->graph, tuple, 1));
}

static kiln_value build_map(gradient_bench *b)
{
    kiln_graph *r = open_region(b);
    kiln_value x = kiln_input(r, "x", KILN_f64, 0, NULL), y = kiln_input(r, "y", KILN_f64, 0, NULL);
    kiln_value twice = kiln_mul(r, kiln_sin(r, x), kiln_scalar(r, KILN_f64, 2));
    kiln_output(r, NULL, kiln_mul(r, twice, y));
    kiln_arguments arguments = {2, (kiln_value[]){DRAW(2, 3), DRAW(2, 3)}};
    kiln_value tuple = kiln_map(b->graph, r, &arguments);
    kiln_graph_destroy(r);
    return kiln_item(b->graph, tuple, 0);
}

/* x^2 or x y, by whether the first of y is above a number. */
static kiln_value build_choice(gradient_bench *b, double number, int is_case)
{
    kiln_graph *g = b->graph, *regions[2] = {open_region(b), open_region(b)};
    for (int i = 0; i < 2; i++) {
        kiln_value x = kiln_input(regions[i], "x", KILN_f64, DIMS(3));
        kiln_value y = kiln_input(regions[i], "y", KILN_f64, DIMS(3));
        kiln_output(regions[i], NULL, kiln_mul(regions[i], x, i ? y : x));
    }
    kiln_value y = DRAW(3);
    kiln_value first =
        kiln_reshape(g, kiln_slice(g, y, &(kiln_slice_options){.limits = INTS{1}}), 0, NULL);
    kiln_value is_above = kiln_gt(g, first, kiln_scalar(g, KILN_f64, number));
    kiln_arguments arguments = {2, (kiln_value[]){DRAW(3), y}};
    kiln_value tuple =
        is_case ? kiln_case(g, kiln_convert(g, is_above, KILN_i32), 2, regions, &arguments)
                : kiln_if(g, is_above, regions[0], regions[1], &arguments);
    kiln_graph_destroy(regions[0]);
    kiln_graph_destroy(regions[1]);
    return kiln_item(g, tuple, 0);
}
BUILD(if, build_choice(b, g ? -9 : 0, 0))
BUILD(else, build_choice(b, g ? 9 : 0, 0))
BUILD(case, build_choice(b, g ? -9 : 0, 1))

/* h = tanh(w h + x), a count besides; gives the h after the last trip and the squares of all. */
static kiln_value build_scan(gradient_bench *b)
{
    kiln_graph *g = b->graph, *r = open_region(b);
    kiln_value count = kiln_input(r, "count", KILN_i64, 0, NULL);
    kiln_value h = kiln_input(r, "h", KILN_f64, DIMS(2)), x = kiln_input(r, "x", KILN_f64, DIMS(2));
    kiln_value w = kiln_input(r, "w", KILN_f64, DIMS(2, 2));
    kiln_value column = kiln_reshape(r, h, DIMS(2, 1));
    kiln_value next = kiln_reshape(r, kiln_matmul(r, w, column), DIMS(2));
    next = kiln_tanh(r, kiln_add(r, next, x));
    kiln_output(r, NULL, kiln_add(r, count, kiln_scalar(r, KILN_i64, 1)));
    kiln_output(r, NULL, next);
    kiln_output(r, NULL, kiln_mul(r, kiln_square(r, next), kiln_convert(r, count, KILN_f64)));
    kiln_value start = DRAW(2), sequence = DRAW(4, 2), weights = DRAW(2, 2);
    kiln_scan_options options = {.body = r,
                                 .n_carried = 2,
                                 .n_sequences = 1,
                                 .n_fixed = 1,
                                 .carried = (kiln_value[]){kiln_scalar(g, KILN_i64, 2), start},
                                 .sequences = &sequence,
                                 .fixed = &weights,
                                 .length = 4};
    kiln_value tuple = kiln_scan(g, &options);
    kiln_graph_destroy(r);
    return kiln_add(g, kiln_item(g, tuple, 1), kiln_item(g, tuple, 2));
}

BUILD(lstm,
      kiln_lstm(g, DRAW(3, 1, 2),
                &(kiln_recurrent_options){.weights = DRAW(1, 8, 2), .recurrent = DRAW(1, 8, 2)})
          .y)

#define ROW(op, name) {KILN_OP_##op, #name, build_##name},
#define SAME(op) ROW(op, op)
const gradient_case contract_cases[] = {
    ROW(dot_general, matmul) ROW(dot_general, dot_mixed) SAME(linear) ROW(convolution, conv) ROW(
        convolution, conv_strided) ROW(convolution, conv_groups) ROW(convolution, conv_depthwise)
        ROW(convolution, conv_transposed) ROW(convolution, conv_rest) ROW(convolution, conv_layout)
            ROW(cholesky, cholesky_lower) SAME(forward_solve) ROW(forward_solve, forward_solve_unit)
                SAME(triangular_solve) SAME(fft) SAME(rotary) SAME(attention)
                    ROW(attention, attention_causal) SAME(dropout) SAME(take) ROW(take, take_last)
                        SAME(take_along) SAME(gather) SAME(scatter_add) SAME(scatter) SAME(call)
                            ROW(item, call) SAME(map) SAME(if) ROW(if, else) SAME(case) SAME(scan)
                                ROW(scan, lstm){0},
};
