/* Brief convolutions, one short kernel that reads both operands in place: padding, strides,
 * dilations of both kinds, groups, tails of features, rows and columns, dtypes, epilogues. */
#include "lowered.h"

#define SAME .low = LIST(1, 1), .high = LIST(1, 1)
#define WITH(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

typedef struct shape {
    int64_t batch, height, width, in, out, rows, columns;
} shape;

/* NCHW and OIHW. */
static kiln_value conv2d(kiln_graph *g, shape s, kiln_dtype dtype, kiln_conv_options more)
{
    int64_t groups = more.groups ? more.groups : 1;
    kiln_value x = kiln_input(g, "x", dtype, 4, LIST(s.batch, s.in, s.height, s.width));
    kiln_value w = kiln_input(g, "w", dtype, 4, LIST(s.out, s.in / groups, s.rows, s.columns));
    return kiln_convolution(g, x, w, &more);
}

#define CONV(name, options, ...)                                                                   \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        shape s = {__VA_ARGS__};                                                                   \
        OUT(conv2d(g, s, KILN_f32, (kiln_conv_options)options));                                   \
    }

CONV(valid, WITH(0), 2, 9, 37, 3, 11, 3, 3)
CONV(same, WITH(SAME), 2, 14, 14, 5, 13, 3, 3)
CONV(same_wide, WITH(SAME), 1, 3, 150, 4, 9, 3, 3)
CONV(same_small, WITH(SAME), 3, 7, 7, 16, 24, 3, 3)
CONV(one_column, WITH(SAME), 1, 9, 1, 4, 5, 3, 3)
CONV(one_feature, WITH(SAME), 1, 20, 33, 4, 1, 3, 3)
CONV(pixels, WITH(0), 2, 15, 17, 6, 10, 1, 1)
CONV(strided, WITH(SAME, .strides = LIST(2, 2)), 1, 30, 33, 4, 6, 3, 3)
CONV(first, WITH(.low = LIST(3, 3), .high = LIST(3, 3), .strides = LIST(2, 2)), 2, 37, 41, 3, 18, 7,
     7)
CONV(strided_far, WITH(.strides = LIST(5, 7)), 1, 31, 131, 2, 6, 5, 7)
CONV(cropped, WITH(.low = LIST(-2, -1), .high = LIST(-1, -3)), 1, 12, 25, 5, 7, 3, 2)
CONV(uneven, WITH(.low = LIST(0, 2), .high = LIST(3, 1), .strides = LIST(1, 3)), 1, 12, 57, 5, 7, 4,
     4)
CONV(dilated, WITH(.low = LIST(2, 2), .high = LIST(2, 2), .rhs_dilation = LIST(2, 3)), 1, 11, 33, 8,
     9, 3, 3)
CONV(transposed, WITH(SAME, .lhs_dilation = LIST(2, 3)), 1, 6, 15, 8, 10, 3, 3)
CONV(transposed_even, WITH(.low = LIST(2, 2), .high = LIST(2, 2), .lhs_dilation = LIST(2, 2)), 2, 9,
     18, 4, 6, 4, 4)
CONV(transposed_far, WITH(.low = LIST(3, 1), .high = LIST(2, 5), .lhs_dilation = LIST(4, 5)), 1, 5,
     9, 3, 4, 3, 2)
CONV(transposed_cropped, WITH(.low = LIST(-1, -4), .high = LIST(0, -1), .lhs_dilation = LIST(2, 3)),
     1, 7, 12, 3, 4, 3, 4)
CONV(transposed_rows, WITH(SAME, .lhs_dilation = LIST(3, 1), .strides = LIST(2, 2)), 1, 8, 41, 3, 4,
     4, 3)
CONV(grouped, WITH(SAME, .groups = 4), 2, 8, 19, 16, 20, 3, 3)
CONV(depthwise, WITH(SAME, .groups = 6), 2, 9, 20, 6, 6, 3, 3)
CONV(depthwise_multiple, WITH(SAME, .groups = 3, .strides = LIST(2, 1)), 1, 9, 20, 3, 9, 3, 3)
CONV(outside, WITH(.low = LIST(9, 21), .high = LIST(9, 25)), 1, 2, 3, 4, 5, 3, 3)

static void build_line(kiln_graph *g)
{
    kiln_conv_options options = {.low = LIST(1), .high = LIST(2)};
    OUT(kiln_convolution(g, IN("x", f32, 2, 6, 133), IN("w", f32, 20, 6, 4), &options));
}

static void build_line_transposed(kiln_graph *g)
{
    kiln_conv_options options = {.low = LIST(2), .high = LIST(1), .lhs_dilation = LIST(4)};
    OUT(kiln_convolution(g, IN("x", f32, 2, 3, 13), IN("w", f32, 7, 3, 8), &options));
}

static void build_volume(kiln_graph *g)
{
    kiln_conv_options options = {
        .low = LIST(1, 1, 0), .high = LIST(1, 0, 1), .strides = LIST(2, 1, 1)};
    OUT(kiln_convolution(g, IN("x", f32, 1, 6, 5, 6, 17), IN("w", f32, 20, 6, 3, 2, 3), &options));
}

static void build_volume_transposed(kiln_graph *g)
{
    kiln_conv_options options = {
        .low = LIST(1, 2, 2), .high = LIST(1, 2, 1), .lhs_dilation = LIST(2, 2, 2)};
    OUT(kiln_convolution(g, IN("x", f32, 1, 3, 4, 5, 9), IN("w", f32, 5, 3, 3, 4, 4), &options));
}

/* The result channels last, kernel elements apart by other distances. */
static void build_mixed(kiln_graph *g)
{
    kiln_conv_options options = {SAME, .kernel_axes = LIST(3, 2, 0, 1),
                                 .output_axes = LIST(0, 3, 1, 2)};
    OUT(kiln_convolution(g, IN("x", f32, 1, 8, 6, 19), IN("w", f32, 3, 3, 8, 21), &options));
}

/* Image, kernel and result channels last. */
static kiln_value conv_last(kiln_graph *g, shape s, kiln_dtype dtype, kiln_conv_options more)
{
    int64_t groups = more.groups ? more.groups : 1;
    more.input_axes = more.output_axes = LIST(0, 3, 1, 2);
    more.kernel_axes = LIST(3, 2, 0, 1);
    kiln_value x = kiln_input(g, "x", dtype, 4, LIST(s.batch, s.height, s.width, s.in));
    kiln_value w = kiln_input(g, "w", dtype, 4, LIST(s.rows, s.columns, s.in / groups, s.out));
    return kiln_convolution(g, x, w, &more);
}

#define LAST(name, options, ...)                                                                   \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        shape s = {__VA_ARGS__};                                                                   \
        OUT(conv_last(g, s, KILN_f32, (kiln_conv_options)options));                                \
    }

LAST(last, WITH(SAME), 2, 19, 37, 8, 16, 3, 3)
LAST(last_uneven, WITH(SAME), 2, 14, 29, 5, 43, 3, 2)
LAST(last_wide, WITH(SAME), 1, 5, 131, 4, 100, 3, 3)
LAST(last_narrow, WITH(0), 3, 9, 4, 6, 3, 3, 3)
LAST(last_strided, WITH(SAME, .strides = LIST(2, 3)), 1, 31, 33, 6, 20, 3, 3)
LAST(last_dilated, WITH(SAME, .rhs_dilation = LIST(2, 2)), 1, 15, 33, 6, 20, 3, 3)
LAST(last_transposed, WITH(SAME, .lhs_dilation = LIST(2, 3)), 1, 6, 15, 8, 10, 3, 3)
LAST(last_grouped, WITH(SAME, .groups = 3), 2, 8, 19, 12, 57, 3, 3)

static void build_last_residual(kiln_graph *g)
{
    shape s = {2, 10, 23, 6, 35, 3, 3};
    kiln_value y = conv_last(g, s, KILN_f32, (kiln_conv_options){SAME});
    y = kiln_add(g, y, IN("r", f32, 2, 10, 23, 35));
    OUT(kiln_max(g, y, kiln_scalar(g, KILN_f32, 0)));
}

static void build_residual(kiln_graph *g)
{
    kiln_value y = conv2d(g, (shape){2, 10, 23, 6, 13, 3, 3}, KILN_f32, (kiln_conv_options){SAME});
    y = kiln_add(g, y, IN("r", f32, 2, 13, 10, 23));
    OUT(kiln_max(g, y, kiln_scalar(g, KILN_f32, 0)));
}

static void build_swish(kiln_graph *g)
{
    kiln_conv_options options = {SAME, .groups = 2};
    kiln_value y = conv2d(g, (shape){1, 10, 23, 6, 14, 3, 3}, KILN_f32, options);
    OUT(kiln_mul(g, y, kiln_logistic(g, y)));
}

#define TYPED(dtype)                                                                               \
    static void build_##dtype(kiln_graph *g)                                                       \
    {                                                                                              \
        shape s = {1, 6, 19, 5, 11, 3, 3};                                                         \
        OUT(conv2d(g, s, KILN_##dtype, (kiln_conv_options){SAME, .strides = LIST(1, 2)}));         \
    }
#define TYPED_LAST(dtype)                                                                          \
    static void build_last_##dtype(kiln_graph *g)                                                  \
    {                                                                                              \
        shape s = {1, 6, 19, 5, 11, 3, 3};                                                         \
        OUT(conv_last(g, s, KILN_##dtype, (kiln_conv_options){SAME}));                             \
    }
TYPED_LAST(f64)
TYPED_LAST(f16)
TYPED_LAST(bf16)
TYPED(f64)
TYPED(i32)
TYPED(u64)

#define CASE(name, tolerance)                                                                      \
    {                                                                                              \
#name, KILN_GROUP_CONV, build_##name, tolerance                                            \
    }

static const group_case cases[] = {
    CASE(valid, 1e-4),
    CASE(same, 1e-4),
    CASE(same_wide, 1e-4),
    CASE(same_small, 1e-3),
    CASE(one_column, 1e-4),
    CASE(one_feature, 1e-4),
    CASE(pixels, 1e-4),
    CASE(strided, 1e-4),
    CASE(first, 1e-3),
    CASE(strided_far, 1e-4),
    CASE(cropped, 1e-4),
    CASE(uneven, 1e-4),
    CASE(dilated, 1e-4),
    CASE(transposed, 1e-4),
    CASE(transposed_even, 1e-4),
    CASE(transposed_far, 1e-4),
    CASE(transposed_cropped, 1e-4),
    CASE(transposed_rows, 1e-4),
    CASE(grouped, 1e-4),
    CASE(depthwise, 1e-4),
    CASE(depthwise_multiple, 1e-4),
    CASE(outside, 1e-4),
    CASE(line, 1e-4),
    CASE(line_transposed, 1e-4),
    CASE(volume, 1e-4),
    CASE(volume_transposed, 1e-4),
    CASE(mixed, 1e-4),
    CASE(last, 1e-4),
    CASE(last_uneven, 1e-4),
    CASE(last_wide, 1e-4),
    CASE(last_narrow, 1e-4),
    CASE(last_strided, 1e-4),
    CASE(last_dilated, 1e-4),
    CASE(last_transposed, 1e-4),
    CASE(last_grouped, 1e-4),
    CASE(last_residual, 1e-4),
    CASE(last_f64, 1e-12),
    CASE(last_f16, 1e-2),
    CASE(last_bf16, 1e-1),
    CASE(residual, 1e-4),
    CASE(swish, 1e-4),
    CASE(f64, 1e-12),
    CASE(i32, 0),
    CASE(u64, 0),
};

int main(void)
{
    return run_cases(cases, sizeof cases / sizeof *cases);
}
