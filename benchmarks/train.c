/* One step of training as a graph: forward, gradients, and gradient descent in place: weights are
 * donated. The activations that the backward pass reads stay alive across the forward one, which is
 * what planning memory for training is about. */
#include "benchmarks/workloads.h"

enum { BATCH = 128, CLASSES = 10 };

static const float learning_rate = 0.05f;

static kiln_value scaled(kiln_graph *graph, kiln_value x, double factor)
{
    return kiln_mul(graph, x, kiln_scalar(graph, KILN_f32, factor));
}

/* Cross entropy with labels that the caller passes. */
static kiln_value loss_of(kiln_graph *graph, kiln_value logits)
{
    int64_t dims[] = {BATCH, CLASSES};
    kiln_value labels = kiln_input(graph, "labels", KILN_f32, 2, dims);
    kiln_value terms = kiln_mul(graph, labels, kiln_log_softmax(graph, logits, 1));
    kiln_value sum = kiln_reduce_sum(graph, terms, 2, (int64_t[]){0, 1});
    kiln_value loss = scaled(graph, sum, -1.0 / BATCH);
    kiln_output(graph, "loss", loss);
    return loss;
}

/* Outputs every weight after a step against its gradient, under its name. */
static void output_trained(kiln_graph *graph, kiln_value loss, const kiln_arguments *weights,
                           const char *const *names)
{
    enum { MOST = 16 };
    kiln_value gradients[MOST];
    kiln_gradient(graph, loss, (kiln_value){0, 0}, weights, gradients);
    for (uint32_t i = 0; i < weights->n; i++) {
        kiln_value step = scaled(graph, gradients[i], learning_rate);
        kiln_output(graph, names[i], kiln_sub(graph, weights->values[i], step));
    }
}

void build_train_mlp(kiln_graph *graph)
{
    enum { LAYERS = 5 };
    static const int64_t widths[LAYERS + 1] = {784, 512, 512, 512, 512, CLASSES};
    static const char *const names[] = {"w0", "b0", "w1", "b1", "w2", "b2", "w3", "b3", "w4", "b4"};
    kiln_value w[2 * LAYERS];
    kiln_value h = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){BATCH, widths[0]});
    for (int i = 0; i < LAYERS; i++) {
        w[2 * i] = kiln_input_donated(graph, names[2 * i], KILN_f32, 2, widths + i);
        w[2 * i + 1] = kiln_input_donated(graph, names[2 * i + 1], KILN_f32, 1, widths + i + 1);
        h = kiln_linear(graph, h, w[2 * i], w[2 * i + 1]);
        if (i + 1 < LAYERS) h = kiln_relu(graph, h);
    }
    output_trained(graph, loss_of(graph, h), &(kiln_arguments){2 * LAYERS, w}, names);
}

/* A 3 x 3 convolution, padded by one. */
typedef struct layer {
    int64_t in, out, stride;
} layer;

void build_train_cnn(kiln_graph *graph)
{
    enum { LAYERS = 4, LAST = 64 };
    static const layer layers[] = {{3, 32, 1}, {32, 64, 2}, {64, 64, 1}, {64, LAST, 2}};
    static const char *const names[] = {"k0", "k1", "k2", "k3", "w"};
    kiln_value weights[LAYERS + 1];
    kiln_value h = kiln_input(graph, "x", KILN_f32, 4, (int64_t[]){BATCH, 3, 32, 32});
    for (int i = 0; i < LAYERS; i++) {
        int64_t dims[] = {layers[i].out, layers[i].in, 3, 3}, pad[] = {1, 1};
        int64_t strides[] = {layers[i].stride, layers[i].stride};
        kiln_conv_options options = {.strides = strides, .low = pad, .high = pad};
        weights[i] = kiln_input_donated(graph, names[i], KILN_f32, 4, dims);
        h = kiln_relu(graph, kiln_convolution(graph, h, weights[i], &options));
    }
    weights[LAYERS] = kiln_input_donated(graph, "w", KILN_f32, 2, (int64_t[]){LAST, CLASSES});
    kiln_value means = kiln_mean(graph, h, 2, (int64_t[]){2, 3});
    kiln_value loss = loss_of(graph, kiln_matmul(graph, means, weights[LAYERS]));
    output_trained(graph, loss, &(kiln_arguments){LAYERS + 1, weights}, names);
}
