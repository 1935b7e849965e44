/* Whole models as graphs: ResNet-50 at batch 1 with its batch norms, an encoder of BERT-base's
 * sizes over 128 tokens, and a small U-Net, whose skip connections live across all that lies below.
 */
#include <math.h>

#include "benchmarks/workloads.h"

typedef struct conv_shape {
    int64_t in, out, size, stride;
} conv_shape;

static kiln_value conv_norm(kiln_graph *graph, kiln_value x, conv_shape shape)
{
    int64_t kernel[] = {shape.out, shape.in, shape.size, shape.size};
    int64_t strides[] = {shape.stride, shape.stride}, pad[] = {shape.size / 2, shape.size / 2};
    float scale = sqrtf(3.0f / (float)(shape.in * shape.size * shape.size));
    kiln_conv_options options = {.strides = strides, .low = pad, .high = pad};
    x = kiln_convolution(graph, x, random_weights(graph, 4, kernel, scale), &options);
    kiln_batch_norm_operands norm = {
        .scale = random_weights(graph, 1, &shape.out, 1),
        .offset = random_weights(graph, 1, &shape.out, 0.1f),
        .mean = random_weights(graph, 1, &shape.out, 0.1f),
        .variance = kiln_splat(graph, KILN_f32, 1, &shape.out, 1),
    };
    return kiln_batch_norm(graph, x, &norm, 1, 1e-5);
}

static kiln_value bottleneck(kiln_graph *graph, kiln_value x, conv_shape shape)
{
    int64_t inner = shape.out / 4;
    kiln_value y = kiln_relu(graph, conv_norm(graph, x, (conv_shape){shape.in, inner, 1, 1}));
    y = kiln_relu(graph, conv_norm(graph, y, (conv_shape){inner, inner, 3, shape.stride}));
    y = conv_norm(graph, y, (conv_shape){inner, shape.out, 1, 1});
    if (shape.in != shape.out) {
        x = conv_norm(graph, x, (conv_shape){shape.in, shape.out, 1, shape.stride});
    }
    return kiln_relu(graph, kiln_add(graph, y, x));
}

void build_resnet50(kiln_graph *graph)
{
    static const int counts[] = {3, 4, 6, 3};
    kiln_value x = kiln_input(graph, "x", KILN_f32, 4, (int64_t[]){1, 3, 224, 224});
    x = kiln_relu(graph, conv_norm(graph, x, (conv_shape){3, 64, 7, 2}));
    kiln_window_options pool = {
        .sizes = (int64_t[]){1, 1, 3, 3},
        .strides = (int64_t[]){1, 1, 2, 2},
        .low = (int64_t[]){0, 0, 1, 1},
        .high = (int64_t[]){0, 0, 1, 1},
    };
    x = kiln_window_max(graph, x, &pool);
    int64_t channels = 64;
    for (int stage = 0; stage < 4; stage++) {
        int64_t out = 256 << stage;
        for (int block = 0; block < counts[stage]; block++) {
            int64_t stride = block == 0 && stage > 0 ? 2 : 1;
            x = bottleneck(graph, x, (conv_shape){channels, out, 3, stride});
            channels = out;
        }
    }
    x = kiln_mean(graph, x, 2, (int64_t[]){2, 3});
    kiln_value w = random_weights(graph, 2, (int64_t[]){2048, 1000}, 0.02f);
    kiln_value b = random_weights(graph, 1, (int64_t[]){1000}, 0.02f);
    kiln_output(graph, "y", kiln_linear(graph, x, w, b));
}

enum { DEPTH = 4, PICTURE = 128 };

static kiln_value two_convs(kiln_graph *graph, kiln_value x, int64_t in, int64_t out)
{
    x = kiln_relu(graph, conv_norm(graph, x, (conv_shape){in, out, 3, 1}));
    return kiln_relu(graph, conv_norm(graph, x, (conv_shape){out, out, 3, 1}));
}

/* Every pixel twice along both spatial axes. */
static kiln_value enlarge(kiln_graph *graph, kiln_value x, int64_t channels, int64_t size)
{
    int64_t pixels[] = {1, channels, size, 1, size, 1}, spread[] = {1, channels, size, 2, size, 2};
    x = kiln_broadcast(graph, kiln_reshape(graph, x, 6, pixels), 6, spread, NULL);
    return kiln_reshape(graph, x, 4, (int64_t[]){1, channels, 2 * size, 2 * size});
}

void build_unet(kiln_graph *graph)
{
    static const int64_t widths[DEPTH + 1] = {32, 64, 128, 256, 256};
    int64_t sizes[] = {1, 1, 2, 2}, size = PICTURE, channels = 3;
    kiln_window_options pool = {.sizes = sizes, .strides = sizes};
    kiln_value skips[DEPTH];
    kiln_value x = kiln_input(graph, "x", KILN_f32, 4, (int64_t[]){1, channels, size, size});
    for (int i = 0; i < DEPTH; i++) {
        skips[i] = two_convs(graph, x, channels, widths[i]);
        x = kiln_window_max(graph, skips[i], &pool);
        channels = widths[i];
        size /= 2;
    }
    x = two_convs(graph, x, channels, widths[DEPTH]);
    channels = widths[DEPTH];
    for (int i = DEPTH; i-- > 0;) {
        kiln_value parts[] = {skips[i], enlarge(graph, x, channels, size)};
        x = two_convs(graph, kiln_concat(graph, 2, parts, 1), widths[i] + channels, widths[i]);
        channels = widths[i];
        size *= 2;
    }
    kiln_output(graph, "y", conv_norm(graph, x, (conv_shape){channels, 2, 1, 1}));
}

enum { LENGTH = 128, WIDTH = 768, HEADS = 12, INNER = 3072, VOCABULARY = 30522, LAYERS = 12 };

static kiln_value dense(kiln_graph *graph, kiln_value x, int64_t in, int64_t out)
{
    kiln_value w = random_weights(graph, 2, (int64_t[]){in, out}, 1 / sqrtf((float)in));
    return kiln_linear(graph, x, w, random_weights(graph, 1, &out, 0.02f));
}

static kiln_value norm(kiln_graph *graph, kiln_value x)
{
    int64_t width = WIDTH;
    kiln_value scale = random_weights(graph, 1, &width, 1),
               offset = random_weights(graph, 1, &width, 0.1f);
    return kiln_layer_norm(graph, x, scale, offset, 1e-5);
}

static kiln_value split_heads(kiln_graph *graph, kiln_value x)
{
    x = kiln_reshape(graph, x, 4, (int64_t[]){1, LENGTH, HEADS, WIDTH / HEADS});
    return kiln_transpose(graph, x, (int64_t[]){0, 2, 1, 3});
}

static kiln_value encoder_layer(kiln_graph *graph, kiln_value x)
{
    kiln_value q = split_heads(graph, dense(graph, x, WIDTH, WIDTH));
    kiln_value k = split_heads(graph, dense(graph, x, WIDTH, WIDTH));
    kiln_value v = split_heads(graph, dense(graph, x, WIDTH, WIDTH));
    kiln_value a = kiln_attention(graph, q, k, v, NULL);
    a = kiln_transpose(graph, a, (int64_t[]){0, 2, 1, 3});
    a = kiln_reshape(graph, a, 3, (int64_t[]){1, LENGTH, WIDTH});
    x = norm(graph, kiln_add(graph, x, dense(graph, a, WIDTH, WIDTH)));
    kiln_value y = kiln_gelu(graph, dense(graph, x, WIDTH, INNER), 0);
    return norm(graph, kiln_add(graph, x, dense(graph, y, INNER, WIDTH)));
}

void build_bert_base(kiln_graph *graph)
{
    kiln_value ids = kiln_input(graph, "ids", KILN_i64, 2, (int64_t[]){1, LENGTH});
    kiln_value words = random_weights(graph, 2, (int64_t[]){VOCABULARY, WIDTH}, 1);
    kiln_value positions = random_weights(graph, 2, (int64_t[]){LENGTH, WIDTH}, 1);
    kiln_value x = norm(graph, kiln_add(graph, kiln_take(graph, words, ids, 0), positions));
    for (int i = 0; i < LAYERS; i++) x = encoder_layer(graph, x);
    kiln_output(graph, "y", x);
}
