/* One step of training as a graph: forward, backward written out by the rules of calculus, and
 * gradient descent in place: weights are donated. The activations that the backward pass reads stay
 * alive across the forward one, which is what planning memory for training is about. */
#include "benchmarks/workloads.h"

enum { BATCH = 128, CLASSES = 10 };

static const float learning_rate = 0.05f;

static kiln_value scaled(kiln_graph *graph, kiln_value x, double factor)
{
    return kiln_mul(graph, x, kiln_scalar(graph, KILN_f32, factor));
}

static void output_trained(kiln_graph *graph, const char *name, kiln_value weights,
                           kiln_value gradient)
{
    kiln_output(graph, name, kiln_sub(graph, weights, scaled(graph, gradient, learning_rate)));
}

static kiln_value masked(kiln_graph *graph, kiln_value gradient, kiln_value activation)
{
    kiln_value zero = kiln_scalar(graph, KILN_f32, 0);
    return kiln_select(graph, kiln_gt(graph, activation, zero), gradient, zero);
}

static kiln_value transposed(kiln_graph *graph, kiln_value x)
{
    return kiln_transpose(graph, x, NULL);
}

static kiln_value sum_rows(kiln_graph *graph, kiln_value x)
{
    return kiln_reduce_sum(graph, x, 1, (int64_t[]){0});
}

/* Stores the loss and gives its gradient with respect to the logits. */
static kiln_value loss_gradient(kiln_graph *graph, kiln_value logits)
{
    int64_t dims[] = {BATCH, CLASSES};
    kiln_value labels = kiln_input(graph, "labels", KILN_f32, 2, dims);
    kiln_value shares = kiln_softmax(graph, logits, 1);
    kiln_value terms = kiln_mul(graph, labels, kiln_log_softmax(graph, logits, 1));
    kiln_value sum = kiln_reduce_sum(graph, terms, 2, (int64_t[]){0, 1});
    kiln_output(graph, "loss", scaled(graph, sum, -1.0 / BATCH));
    return scaled(graph, kiln_sub(graph, shares, labels), 1.0 / BATCH);
}

void build_train_mlp(kiln_graph *graph)
{
    enum { LAYERS = 5 };
    static const int64_t widths[LAYERS + 1] = {784, 512, 512, 512, 512, CLASSES};
    static const char *const names[][2] = {
        {"w0", "b0"}, {"w1", "b1"}, {"w2", "b2"}, {"w3", "b3"}, {"w4", "b4"}};
    kiln_value h[LAYERS + 1], w[LAYERS], b[LAYERS];
    h[0] = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){BATCH, widths[0]});
    for (int i = 0; i < LAYERS; i++) {
        w[i] = kiln_input_donated(graph, names[i][0], KILN_f32, 2, widths + i);
        b[i] = kiln_input_donated(graph, names[i][1], KILN_f32, 1, widths + i + 1);
        h[i + 1] = kiln_linear(graph, h[i], w[i], b[i]);
        if (i + 1 < LAYERS) h[i + 1] = kiln_relu(graph, h[i + 1]);
    }
    kiln_value gradient = loss_gradient(graph, h[LAYERS]);
    for (int i = LAYERS; i-- > 0;) {
        kiln_value down = kiln_matmul(graph, gradient, transposed(graph, w[i]));
        kiln_value of_w = kiln_matmul(graph, transposed(graph, h[i]), gradient);
        output_trained(graph, names[i][0], w[i], of_w);
        output_trained(graph, names[i][1], b[i], sum_rows(graph, gradient));
        if (i > 0) gradient = masked(graph, down, h[i]);
    }
}

/* A 3 x 3 convolution over `size` x `size`, padded by one. */
typedef struct layer {
    int64_t in, out, size, stride;
} layer;

static kiln_value convolve(kiln_graph *graph, kiln_value x, kiln_value kernel, layer shape)
{
    int64_t strides[] = {shape.stride, shape.stride}, pad[] = {1, 1};
    kiln_conv_options options = {.strides = strides, .low = pad, .high = pad};
    return kiln_convolution(graph, x, kernel, &options);
}

/* The gradient of the input: the gradient of the result, spread by the stride, against the kernel
 * turned around, features in and out exchanged. */
static kiln_value input_gradient(kiln_graph *graph, kiln_value gradient, kiln_value kernel,
                                 layer shape)
{
    static const int64_t exchanged[] = {1, 0, 2, 3};
    int64_t spread[] = {shape.stride, shape.stride}, low[] = {1, 1};
    int64_t rest = (shape.size - 1) % shape.stride, high[] = {1 + rest, 1 + rest};
    kiln_conv_options options = {
        .low = low, .high = high, .lhs_dilation = spread, .kernel_axes = exchanged};
    kiln_value turned = kiln_reverse(graph, kernel, 2, (int64_t[]){2, 3});
    return kiln_convolution(graph, gradient, turned, &options);
}

/* The gradient of the kernel: the input against the gradient of the result, summed over the batch,
 * which stands where features do. */
static kiln_value kernel_gradient(kiln_graph *graph, kiln_value x, kiln_value gradient, layer shape)
{
    static const int64_t exchanged[] = {1, 0, 2, 3};
    int64_t spread[] = {shape.stride, shape.stride}, low[] = {1, 1};
    int64_t last = (shape.size - 1) / shape.stride * shape.stride;
    int64_t rest = last + 2 - shape.size, high[] = {rest, rest};
    kiln_conv_options options = {.low = low,
                                 .high = high,
                                 .rhs_dilation = spread,
                                 .input_axes = exchanged,
                                 .kernel_axes = exchanged,
                                 .output_axes = exchanged};
    return kiln_convolution(graph, x, gradient, &options);
}

void build_train_cnn(kiln_graph *graph)
{
    enum { LAYERS = 4, LAST = 64, AREA = 64 };
    static const layer layers[] = {
        {3, 32, 32, 1}, {32, 64, 32, 2}, {64, 64, 16, 1}, {64, LAST, 16, 2}};
    static const char *const names[] = {"k0", "k1", "k2", "k3"};
    kiln_value h[LAYERS + 1], kernels[LAYERS];
    h[0] = kiln_input(graph, "x", KILN_f32, 4, (int64_t[]){BATCH, 3, 32, 32});
    for (int i = 0; i < LAYERS; i++) {
        int64_t dims[] = {layers[i].out, layers[i].in, 3, 3};
        kernels[i] = kiln_input_donated(graph, names[i], KILN_f32, 4, dims);
        h[i + 1] = kiln_relu(graph, convolve(graph, h[i], kernels[i], layers[i]));
    }
    kiln_value w = kiln_input_donated(graph, "w", KILN_f32, 2, (int64_t[]){LAST, CLASSES});
    kiln_value means = kiln_mean(graph, h[LAYERS], 2, (int64_t[]){2, 3});
    kiln_value gradient = loss_gradient(graph, kiln_matmul(graph, means, w));
    output_trained(graph, "w", w, kiln_matmul(graph, transposed(graph, means), gradient));
    gradient = kiln_matmul(graph, gradient, transposed(graph, w));
    gradient =
        scaled(graph, kiln_reshape(graph, gradient, 4, (int64_t[]){BATCH, LAST, 1, 1}), 1.0 / AREA);
    for (int i = LAYERS; i-- > 0;) {
        gradient = masked(graph, gradient, h[i + 1]);
        kiln_value of_kernel = kernel_gradient(graph, h[i], gradient, layers[i]);
        output_trained(graph, names[i], kernels[i], of_kernel);
        if (i > 0) gradient = input_gradient(graph, gradient, kernels[i], layers[i]);
    }
}
