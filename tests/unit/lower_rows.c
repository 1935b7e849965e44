/* Groups with reductions and windows: rows, columns, pooling, cumulative sums. */
#include "lowered.h"

/* Rows */

static kiln_value like_row(kiln_graph *g, kiln_value r, int64_t rows, int64_t cols)
{
    return kiln_broadcast(g, r, 2, LIST(rows, cols), LIST(0));
}

static void softmax_of(kiln_graph *g, int64_t rows, int64_t cols)
{
    kiln_value x = kiln_input(g, "x", KILN_f32, 2, LIST(rows, cols));
    kiln_value most = kiln_reduce_max(g, x, 1, LIST(1));
    kiln_value e = kiln_exp(g, kiln_sub(g, x, like_row(g, most, rows, cols)));
    kiln_value sum = kiln_reduce_sum(g, e, 1, LIST(1));
    OUT(kiln_div(g, e, like_row(g, sum, rows, cols)));
}

static void build_softmax_10(kiln_graph *g) { softmax_of(g, 33, 10); }
static void build_softmax_64(kiln_graph *g) { softmax_of(g, 3, 64); }
static void build_softmax_100(kiln_graph *g) { softmax_of(g, 7, 100); }
static void build_softmax_1000(kiln_graph *g) { softmax_of(g, 40, 1000); }
/* Little work, yet more than one chunk, of values that are made for the sum first. */
static void build_softmax_20003(kiln_graph *g) { softmax_of(g, 1, 20003); }
static void build_softmax_one(kiln_graph *g) { softmax_of(g, 5, 1); }

static void build_layer_norm(kiln_graph *g)
{
    int64_t n = 6, d = 173;
    kiln_value x = IN("x", f32, 6, 173), r = IN("r", f32, 6, 173), s = IN("s", f32, 173),
               t = IN("t", f32, 173);
    kiln_value h = kiln_add(g, kiln_tanh(g, x), r), count = kiln_scalar(g, KILN_f32, (double)d);
    kiln_value mean = kiln_div(g, kiln_reduce_sum(g, h, 1, LIST(1)), count);
    kiln_value c = kiln_sub(g, h, like_row(g, mean, n, d));
    kiln_value var = kiln_div(g, kiln_reduce_sum(g, kiln_mul(g, c, c), 1, LIST(1)), count);
    kiln_value scale = kiln_rsqrt(g, kiln_add(g, var, kiln_scalar(g, KILN_f32, 1e-5)));
    OUT(kiln_add(g, kiln_mul(g, kiln_mul(g, c, like_row(g, scale, n, d)), s), t));
    OUT(h);
    OUT(mean);
}

static void build_reductions(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 5, 130);
    OUT(kiln_reduce_sum(g, x, 1, LIST(2)));
    OUT(kiln_reduce_max(g, x, 1, LIST(2)));
    OUT(kiln_reduce_min(g, kiln_exp(g, x), 1, LIST(2)));
    OUT(kiln_argmax(g, x, 2, 0));
    OUT(kiln_argmin(g, x, 2, 1));
}

static void build_ties(kiln_graph *g)
{
    kiln_value x = IN("x", i32, 9, 200);
    OUT(kiln_argmax(g, x, 1, 0));
    OUT(kiln_argmax(g, x, 1, 1));
    OUT(kiln_argmin(g, x, 1, 0));
    OUT(kiln_argmin(g, x, 1, 1));
    OUT(kiln_reduce_sum(g, x, 1, LIST(1)));
    OUT(kiln_reduce_prod(g, x, 1, LIST(1)));
}

static void build_nan_args(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 9, 40);
    kiln_value y = kiln_log(g, x); /* NaN for half of them */
    OUT(kiln_argmax(g, y, 1, 0));
    OUT(kiln_argmin(g, y, 1, 1));
    OUT(kiln_reduce_max(g, y, 1, LIST(1)));
}

/* Tells zeros by their sign, and that it is NaN but not which. */
static kiln_value telling(kiln_graph *g, kiln_value r)
{
    kiln_value seven = kiln_broadcast(g, kiln_scalar(g, KILN_f32, 7), 1, LIST(9), NULL);
    return kiln_div(g, seven, kiln_select(g, kiln_ne(g, r, r), seven, r));
}

/* Zeros of both signs, of one sign, and NaNs, also where they are few. */
static void build_odd_extremes(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 9, 200);
    kiln_value zeros = kiln_mul(g, x, kiln_scalar(g, KILN_f32, 0)), size = kiln_abs(g, zeros);
    kiln_value rare = kiln_sqrt(g, kiln_add(g, x, kiln_scalar(g, KILN_f32, 3.98)));
    kiln_value is_top = kiln_gt(g, x, kiln_scalar(g, KILN_f32, 3.85));
    kiln_value top = kiln_select(g, is_top, size, kiln_neg(g, size));
    kiln_value rows[] = {zeros, size, kiln_neg(g, size), kiln_sqrt(g, x), rare, kiln_neg(g, rare),
                         top, kiln_neg(g, top)};
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OUT(telling(g, kiln_reduce_max(g, rows[i], 1, LIST(1))));
        OUT(telling(g, kiln_reduce_min(g, rows[i], 1, LIST(1))));
    }
}

static void build_flags(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 9, 77);
    OUT(kiln_reduce_any(g, kiln_gt(g, x, kiln_scalar(g, KILN_f32, 3.95)), 1, LIST(1)));
    OUT(kiln_reduce_all(g, kiln_gt(g, x, kiln_scalar(g, KILN_f32, -3.95)), 1, LIST(1)));
}

static void build_full_sum(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 7, 70001 / 7 + 13);
    OUT(kiln_reduce_sum(g, x, 0, NULL));
    OUT(kiln_reduce_max(g, x, 0, NULL));
}

static void build_narrow_sums(kiln_graph *g)
{
    kiln_value x = IN("x", bf16, 5, 90), y = IN("y", f16, 5, 90), z = IN("z", f64, 5, 90),
               w = IN("w", i8, 5, 90);
    OUT(kiln_reduce_sum(g, x, 1, LIST(1)));
    OUT(kiln_reduce_sum(g, y, 1, LIST(1)));
    OUT(kiln_reduce_sum(g, z, 1, LIST(1)));
    OUT(kiln_reduce_sum(g, w, 1, LIST(1)));
}

static void build_empty_rows(kiln_graph *g)
{
    OUT(kiln_reduce_max(g, IN("x", f32, 5, 0), 1, LIST(1)));
}

static void build_no_rows(kiln_graph *g)
{
    OUT(kiln_reduce_max(g, IN("x", f32, 0, 5), 1, LIST(1)));
}

static void build_two_axes(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 4, 6, 9, 11);
    kiln_value sum = kiln_reduce_sum(g, x, 2, LIST(2, 3));
    OUT(kiln_mul(g, x, kiln_broadcast(g, sum, DIMS(4, 6, 9, 11), LIST(0, 1))));
    OUT(kiln_reshape(g, sum, DIMS(24, 1)));
}

/* Columns */

static void build_columns(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 37, 101);
    OUT(kiln_reduce_sum(g, x, 1, LIST(0)));
    OUT(kiln_exp(g, kiln_reduce_max(g, kiln_neg(g, x), 1, LIST(0))));
    OUT(kiln_argmax(g, x, 0, 0));
}

static void build_middle(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 20, 4, 9);
    OUT(kiln_reduce_sum(g, x, 1, LIST(1)));
    OUT(kiln_reduce_prod(g, x, 1, LIST(1)));
}

static void build_mixed(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 3, 20, 4, 9);
    OUT(kiln_reduce_sum(g, x, 3, LIST(0, 2, 3)));
}

static void build_long_columns(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2500, 5);
    OUT(kiln_reduce_sum(g, x, 1, LIST(0)));
}

static void build_column_norm(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 30, 70);
    kiln_value mean = kiln_div(g, kiln_reduce_sum(g, x, 1, LIST(0)), kiln_scalar(g, KILN_f32, 30));
    kiln_value c = kiln_sub(g, x, kiln_broadcast(g, mean, DIMS(30, 70), LIST(1)));
    OUT(kiln_reduce_sum(g, kiln_mul(g, c, c), 1, LIST(0)));
    OUT(c);
}

/* Windows */

static void build_pool(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 13, 11, 20), b = IN("b", f32, 20);
    kiln_window_options w = {LIST(1, 3, 3, 1), LIST(1, 2, 2, 1), LIST(0, 1, 1, 0), LIST(0, 1, 1, 0),
                             NULL};
    OUT(kiln_add(g, kiln_window_max(g, kiln_neg(g, x), &w), b));
}

static void build_pool_nchw(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 2, 3, 13, 43);
    kiln_window_options w = {LIST(1, 1, 3, 3), LIST(1, 1, 2, 2), LIST(0, 0, 1, 1), LIST(0, 0, 0, 1),
                             LIST(1, 1, 2, 1)};
    OUT(kiln_window_sum(g, x, &w));
}

static void build_cumulative(kiln_graph *g)
{
    kiln_value x = IN("x", f32, 5, 37);
    kiln_window_options along = {LIST(1, 37), NULL, LIST(0, 36), NULL, NULL};
    OUT(kiln_window_sum(g, x, &along));
}

static void build_cumulative_down(kiln_graph *g)
{
    kiln_value x = IN("x", i64, 9, 20);
    kiln_window_options down = {LIST(9, 1), NULL, LIST(8, 0), NULL, NULL};
    OUT(kiln_window_prod(g, x, &down));
}

static const group_case cases[] = {
    {"softmax_10", KILN_GROUP_ROW, build_softmax_10, 1e-6},
    {"softmax_64", KILN_GROUP_ROW, build_softmax_64, 1e-6},
    {"softmax_100", KILN_GROUP_ROW, build_softmax_100, 1e-6},
    {"softmax_1000", KILN_GROUP_ROW, build_softmax_1000, 1e-6},
    {"softmax_20003", KILN_GROUP_ROW, build_softmax_20003, 1e-6},
    {"softmax_one", KILN_GROUP_ROW, build_softmax_one, 1e-6},
    {"layer_norm", KILN_GROUP_ROW, build_layer_norm, 1e-5},
    {"reductions", KILN_GROUP_ROW, build_reductions, 1e-5},
    {"ties", KILN_GROUP_ROW, build_ties, 0},
    {"nan_args", KILN_GROUP_ROW, build_nan_args, 1e-6},
    {"odd_extremes", KILN_GROUP_ROW, build_odd_extremes, 1e-6},
    {"flags", KILN_GROUP_ROW, build_flags, 0},
    {"full_sum", KILN_GROUP_ROW, build_full_sum, 1e-5},
    {"narrow_sums", KILN_GROUP_ROW, build_narrow_sums, 1e-2},
    {"empty_rows", KILN_GROUP_ROW, build_empty_rows, 0},
    {"no_rows", KILN_GROUP_ROW, build_no_rows, 0},
    {"two_axes", KILN_GROUP_ROW, build_two_axes, 1e-5},
    {"columns", KILN_GROUP_COLUMN, build_columns, 1e-5},
    {"middle", KILN_GROUP_COLUMN, build_middle, 1e-5},
    {"mixed", KILN_GROUP_COLUMN, build_mixed, 1e-4},
    {"long_columns", KILN_GROUP_COLUMN, build_long_columns, 1e-4},
    {"column_norm", KILN_GROUP_COLUMN, build_column_norm, 1e-5},
    {"pool", KILN_GROUP_WINDOW, build_pool, 1e-6},
    {"pool_nchw", KILN_GROUP_WINDOW, build_pool_nchw, 1e-5},
    {"cumulative", KILN_GROUP_WINDOW, build_cumulative, 1e-5},
    {"cumulative_down", KILN_GROUP_WINDOW, build_cumulative_down, 0},
};

int main(void)
{
    return run_cases(cases, sizeof cases / sizeof *cases);
}
