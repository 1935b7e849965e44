/* Convolution groups: kernels, strides, padding, dilations, groups, layouts, dtypes, epilogues. */
#include "lowered.h"

#define NHWC LIST(0, 3, 1, 2)
#define HWIO LIST(3, 2, 0, 1)

typedef struct shape {
    int64_t batch, height, width, in, out, kernel;
} shape;

/* NHWC, HWIO and square kernels; what `more` says besides. */
static kiln_value conv2d(kiln_graph *g, shape s, kiln_conv_options more)
{
    int64_t groups = more.groups ? more.groups : 1;
    kiln_value x = kiln_input(g, "x", KILN_f32, 4, LIST(s.batch, s.height, s.width, s.in));
    kiln_value w = kiln_input(g, "w", KILN_f32, 4, LIST(s.kernel, s.kernel, s.in / groups, s.out));
    more.input_axes = more.output_axes = NHWC;
    more.kernel_axes = HWIO;
    return kiln_convolution(g, x, w, &more);
}

#define CONV(name, options, ...)                                                                   \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        OUT(conv2d(g, (shape){__VA_ARGS__}, (kiln_conv_options)options));                          \
    }
#define WITH(...) {__VA_ARGS__}
#define SAME .low = LIST(1, 1), .high = LIST(1, 1)

CONV(pixels, WITH(0), 2, 5, 6, 20, 40, 1)
CONV(pixels_strided, WITH(.strides = LIST(2, 2)), 2, 9, 10, 20, 40, 1)
CONV(pixels_far, WITH(.strides = LIST(2, 3)), 2, 9, 13, 1024, 304, 1)
CONV(pixels_beyond, WITH(.high = LIST(0, 3), .strides = LIST(2, 2)), 1, 7, 8, 20, 40, 1)
CONV(pixels_grouped, WITH(.groups = 2, .strides = LIST(2, 2)), 1, 7, 9, 32, 96, 1)
CONV(valid, WITH(0), 1, 9, 11, 16, 32, 3)
CONV(same, WITH(SAME), 2, 14, 14, 16, 48, 3)
CONV(small, WITH(SAME), 1, 7, 7, 32, 50, 3)
CONV(wide, WITH(SAME), 1, 4, 61, 8, 16, 3)
CONV(strided, WITH(SAME, .strides = LIST(2, 2)), 1, 15, 16, 16, 32, 3)
CONV(first, WITH(.low = LIST(3, 3), .high = LIST(3, 3), .strides = LIST(2, 2)), 1, 37, 40, 3, 64, 7)
CONV(uneven, WITH(.low = LIST(0, 2), .high = LIST(3, 1), .strides = LIST(1, 3)), 1, 12, 17, 5, 7, 4)
CONV(cropped, WITH(.low = LIST(-2, -1), .high = LIST(-1, -3)), 1, 12, 17, 5, 16, 3)
CONV(dilated, WITH(.low = LIST(2, 2), .high = LIST(2, 2), .rhs_dilation = LIST(2, 3)), 1, 11, 13, 8,
     24, 3)
CONV(transposed, WITH(SAME, .lhs_dilation = LIST(2, 3)), 1, 6, 5, 8, 24, 3)
CONV(transposed_pixels, WITH(.lhs_dilation = LIST(2, 2), .high = LIST(1, 1)), 1, 6, 5, 8, 24, 1)
CONV(both_dilated,
     WITH(SAME, .lhs_dilation = LIST(2, 1), .rhs_dilation = LIST(1, 2), .strides = LIST(3, 1)), 1,
     6, 9, 8, 24, 3)
CONV(grouped, WITH(SAME, .groups = 4), 2, 8, 9, 16, 80, 3)
CONV(grouped_pixels, WITH(.groups = 2), 1, 8, 9, 10, 12, 1)
CONV(depthwise, WITH(SAME, .groups = 40), 2, 9, 10, 40, 40, 3)
CONV(depthwise_strided, WITH(SAME, .groups = 32, .strides = LIST(2, 2)), 1, 14, 14, 32, 32, 3)
CONV(depthwise_wide, WITH(SAME, .groups = 512), 1, 17, 40, 512, 512, 3)
CONV(depthwise_multiple, WITH(SAME, .groups = 6), 1, 7, 8, 6, 18, 3)
CONV(many_features, WITH(SAME), 1, 4, 5, 1024, 20, 3)
CONV(few_rows, WITH(SAME), 1, 2, 30, 64, 128, 3)
CONV(outside, WITH(.low = LIST(5, 5), .high = LIST(5, 5)), 1, 2, 2, 4, 16, 3)

/* By Winograd's algorithm, which passes name, not the builder. */
static kiln_value by_winograd(kiln_graph *g, int64_t side, kiln_value y)
{
    ((kiln_attrs *)(uintptr_t)kiln_graph_node(g, y)->attrs)->conv.winograd = side;
    return y;
}

static kiln_value winograd2d(kiln_graph *g, int64_t side, shape s, kiln_conv_options more)
{
    return by_winograd(g, side, conv2d(g, s, more));
}

#define WINOGRAD(name, side, options, ...)                                                         \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        OUT(winograd2d(g, side, (shape){__VA_ARGS__}, (kiln_conv_options)options));                \
    }
WINOGRAD(f2, 2, WITH(SAME), 1, 7, 7, 32, 48, 3)
WINOGRAD(f2_valid, 2, WITH(0), 3, 8, 11, 16, 32, 3)
WINOGRAD(f4, 4, WITH(SAME), 1, 14, 14, 32, 64, 3)
WINOGRAD(f4_whole, 4, WITH(SAME), 2, 16, 12, 16, 16, 3)
WINOGRAD(f4_uneven, 4, WITH(.low = LIST(0, 2), .high = LIST(3, 1)), 3, 9, 23, 16, 80, 3)
WINOGRAD(f4_small, 4, WITH(SAME), 5, 3, 2, 1024, 32, 3)
WINOGRAD(f4_cropped, 4, WITH(.low = LIST(-2, -1), .high = LIST(-1, -3)), 1, 24, 17, 16, 32, 3)
WINOGRAD(f4_outside, 4, WITH(.low = LIST(19, 25), .high = LIST(19, 5)), 1, 5, 6, 16, 32, 3)
WINOGRAD(f4_rows, 4, WITH(SAME), 1, 60, 64, 48, 16, 3)

static void build_f4_residual(kiln_graph *g)
{
    kiln_value y = winograd2d(g, 4, (shape){2, 10, 13, 16, 48, 3}, (kiln_conv_options){SAME});
    y = kiln_add(g, kiln_add(g, y, IN("b", f32, 48)), IN("r", f32, 2, 10, 13, 48));
    OUT(kiln_max(g, y, kiln_scalar(g, KILN_f32, 0)));
}

static void build_f2_swish(kiln_graph *g)
{
    kiln_value y = winograd2d(g, 2, (shape){1, 10, 13, 16, 48, 3}, (kiln_conv_options){SAME});
    OUT(kiln_mul(g, y, kiln_logistic(g, y)));
}

static void build_bias_relu_residual(kiln_graph *g)
{
    kiln_value y = conv2d(g, (shape){1, 10, 13, 16, 40, 3}, (kiln_conv_options){SAME});
    y = kiln_add(g, kiln_add(g, y, IN("b", f32, 40)), IN("r", f32, 1, 10, 13, 40));
    OUT(kiln_max(g, y, kiln_scalar(g, KILN_f32, 0)));
}

static void build_swish(kiln_graph *g)
{
    kiln_value y = conv2d(g, (shape){1, 10, 13, 16, 40, 3}, (kiln_conv_options){SAME, .groups = 2});
    OUT(kiln_mul(g, y, kiln_logistic(g, y)));
}

static void build_line(kiln_graph *g)
{
    kiln_conv_options options = {.low = LIST(1), .high = LIST(1), .input_axes = LIST(0, 2, 1),
                                 .kernel_axes = LIST(2, 1, 0), .output_axes = LIST(0, 2, 1)};
    OUT(kiln_convolution(g, IN("x", f32, 2, 33, 6), IN("w", f32, 3, 6, 20), &options));
}

static void build_volume(kiln_graph *g)
{
    kiln_conv_options options = {.low = LIST(1, 1, 0),
                                 .high = LIST(1, 0, 1),
                                 .strides = LIST(2, 1, 1),
                                 .input_axes = LIST(0, 4, 1, 2, 3),
                                 .kernel_axes = LIST(4, 3, 0, 1, 2),
                                 .output_axes = LIST(0, 4, 1, 2, 3)};
    OUT(kiln_convolution(g, IN("x", f32, 1, 5, 6, 7, 6), IN("w", f32, 3, 2, 3, 6, 20), &options));
}

/* Channels first: the input and the output are strided in features. */
static void build_channels_first(kiln_graph *g)
{
    kiln_conv_options options = {SAME, .kernel_axes = HWIO};
    OUT(kiln_convolution(g, IN("x", f32, 1, 8, 6, 7), IN("w", f32, 3, 3, 8, 20), &options));
}

static void build_pixels_strided_channels_first(kiln_graph *g)
{
    kiln_conv_options options = {.strides = LIST(2, 2), .kernel_axes = HWIO};
    OUT(kiln_convolution(g, IN("x", f32, 1, 8, 6, 7), IN("w", f32, 1, 1, 8, 20), &options));
}

static void build_pixels_strided_line(kiln_graph *g)
{
    kiln_conv_options options = {.strides = LIST(3), .input_axes = LIST(0, 2, 1),
                                 .kernel_axes = LIST(2, 1, 0), .output_axes = LIST(0, 2, 1)};
    OUT(kiln_convolution(g, IN("x", f32, 2, 34, 16), IN("w", f32, 1, 16, 48), &options));
}

/* Channels first with few features: the window is woven from planes. */
#define PLANES(name, dtype, options, ...)                                                          \
    static void build_##name(kiln_graph *g)                                                        \
    {                                                                                              \
        kiln_conv_options more = options;                                                          \
        shape s = {__VA_ARGS__};                                                                   \
        kiln_value x = IN("x", dtype, s.batch, s.in, s.height, s.width),                           \
                   w = IN("w", dtype, s.kernel, s.kernel, s.in, s.out);                            \
        more.kernel_axes = HWIO;                                                                   \
        OUT(kiln_convolution(g, x, w, &more));                                                     \
    }
PLANES(planes_2, f32, WITH(SAME), 1, 6, 16, 2, 20, 3)
PLANES(planes_3, f32, WITH(.low = LIST(3, 3), .high = LIST(3, 3), .strides = LIST(2, 2)), 2, 13, 40,
       3, 16, 7)
PLANES(planes_4, f32, WITH(.low = LIST(-2, -1), .high = LIST(-1, -3)), 1, 12, 17, 4, 16, 3)
PLANES(planes_bf16, bf16, WITH(SAME), 1, 5, 21, 3, 16, 3)

static void build_f2_channels_first(kiln_graph *g)
{
    kiln_conv_options options = {SAME, .kernel_axes = HWIO};
    kiln_value x = IN("x", f32, 1, 16, 6, 7), w = IN("w", f32, 3, 3, 16, 32);
    OUT(by_winograd(g, 2, kiln_convolution(g, x, w, &options)));
}

#define TYPED(dtype)                                                                               \
    static void build_##dtype(kiln_graph *g)                                                       \
    {                                                                                              \
        kiln_conv_options options = {SAME, .input_axes = NHWC, .kernel_axes = HWIO,                \
                                     .output_axes = NHWC};                                         \
        OUT(kiln_convolution(g, IN("x", dtype, 1, 6, 7, 5), IN("w", dtype, 3, 3, 5, 20),           \
                             &options));                                                           \
    }
TYPED(f64)
TYPED(bf16)
TYPED(f16)
TYPED(i32)

#define CASE(name, tolerance) {#name, KILN_GROUP_CONV, build_##name, tolerance}
#define PACKED(name, tolerance) {#name " packed", KILN_GROUP_CONV, build_##name, tolerance, true}

static const group_case cases[] = {
    CASE(pixels, 1e-4),
    CASE(same, 1e-3),
    CASE(grouped, 1e-3),
    CASE(bf16, 2e-2),
    CASE(line, 1e-4),
    CASE(depthwise, 1e-4),
    CASE(depthwise_strided, 1e-4),
    CASE(depthwise_wide, 1e-4),
    CASE(depthwise_multiple, 1e-4),
    PACKED(pixels, 1e-4),
    PACKED(pixels_strided, 1e-4),
    PACKED(pixels_far, 1e-2),
    PACKED(pixels_beyond, 1e-4),
    PACKED(pixels_grouped, 1e-4),
    PACKED(pixels_strided_line, 1e-4),
    PACKED(pixels_strided_channels_first, 1e-4),
    PACKED(valid, 1e-3),
    PACKED(same, 1e-3),
    PACKED(small, 1e-3),
    PACKED(wide, 1e-3),
    PACKED(strided, 1e-3),
    PACKED(first, 1e-3),
    PACKED(uneven, 1e-3),
    PACKED(cropped, 1e-3),
    PACKED(dilated, 1e-3),
    PACKED(transposed, 1e-3),
    PACKED(transposed_pixels, 1e-3),
    PACKED(both_dilated, 1e-3),
    PACKED(grouped, 1e-3),
    PACKED(grouped_pixels, 1e-3),
    PACKED(many_features, 1e-2),
    PACKED(few_rows, 1e-2),
    PACKED(outside, 1e-3),
    PACKED(bias_relu_residual, 1e-3),
    PACKED(swish, 1e-3),
    PACKED(line, 1e-3),
    PACKED(volume, 1e-3),
    PACKED(channels_first, 1e-3),
    PACKED(planes_2, 1e-3),
    PACKED(planes_3, 1e-3),
    PACKED(planes_4, 1e-3),
    PACKED(planes_bf16, 2e-2),
    PACKED(f64, 1e-11),
    PACKED(bf16, 2e-2),
    PACKED(f16, 1e-2),
    PACKED(i32, 0),
    PACKED(f2, 1e-3),
    PACKED(f2_valid, 1e-3),
    PACKED(f4, 1e-3),
    PACKED(f4_whole, 1e-3),
    PACKED(f4_uneven, 1e-3),
    PACKED(f4_small, 1e-2),
    PACKED(f4_rows, 1e-3),
    PACKED(f4_cropped, 1e-3),
    PACKED(f4_outside, 1e-3),
    PACKED(f2_channels_first, 1e-3),
    PACKED(f4_residual, 1e-3),
    PACKED(f2_swish, 1e-3),
};

int main(void)
{
    return run_cases(cases, sizeof cases / sizeof *cases);
}
