/* Parts of models as graphs. */
#include "benchmarks/workloads.h"

#include "benchmarks/ocean.h"

#include <math.h>
#include <stdlib.h>

static uint32_t weight_state = 1;

void restart_weights(void)
{
    weight_state = 1;
}

kiln_value random_weights(kiln_graph *graph, uint32_t rank, const int64_t *dims, float scale)
{
    size_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= (size_t)dims[i];
    float *data = malloc(n * sizeof *data);
    for (size_t i = 0; data && i < n; i++) {
        weight_state = weight_state * 1664525u + 1013904223u;
        data[i] = ((float)(weight_state >> 8) / (1 << 23) - 1) * scale;
    }
    kiln_value value = kiln_constant(graph, KILN_f32, rank, dims, data);
    free(data);
    return value;
}

void build_nothing(kiln_graph *graph)
{
    int64_t none = 0;
    kiln_output(graph, "y", kiln_splat(graph, KILN_f32, 1, &none, 0));
}

static void build_chain(kiln_graph *graph, int64_t rows, int64_t columns)
{
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){rows, columns});
    kiln_value g = kiln_input(graph, "g", KILN_f32, 1, &columns);
    kiln_value b = kiln_input(graph, "b", KILN_f32, 1, &columns);
    kiln_value y = kiln_add(graph, kiln_mul(graph, x, g), b);
    y = kiln_mul(graph, kiln_gelu(graph, y, 0), kiln_logistic(graph, x));
    y = kiln_mul(graph, kiln_tanh(graph, y), kiln_scalar(graph, KILN_f32, 0.5));
    kiln_output(graph, "y", kiln_add(graph, y, x));
}

static void build_chain_16m(kiln_graph *graph)
{
    build_chain(graph, 4096, 4096);
}

static void build_chain_256k(kiln_graph *graph)
{
    build_chain(graph, 256, 1024);
}

static void build_norm(kiln_graph *graph)
{
    int64_t dims[] = {2048, 768};
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, dims);
    kiln_value r = kiln_input(graph, "r", KILN_f32, 2, dims);
    kiln_value y = kiln_gelu(graph, kiln_add(graph, x, random_weights(graph, 1, dims + 1, 1)), 0);
    kiln_value scale = random_weights(graph, 1, dims + 1, 1),
               offset = random_weights(graph, 1, dims + 1, 1);
    kiln_output(graph, "y", kiln_layer_norm(graph, kiln_add(graph, y, r), scale, offset, 1e-5));
}

static void build_softmax(kiln_graph *graph)
{
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){4096, 1024});
    x = kiln_mul(graph, x, kiln_scalar(graph, KILN_f32, 0.125));
    kiln_output(graph, "y", kiln_softmax(graph, x, 1));
}

static void build_matmul(kiln_graph *graph, kiln_dtype dtype, int64_t size)
{
    int64_t dims[] = {size, size};
    kiln_value a = kiln_input(graph, "a", dtype, 2, dims);
    kiln_value b = kiln_input(graph, "b", dtype, 2, dims);
    kiln_output(graph, "y", kiln_matmul(graph, a, b));
}

static void build_matmul_1024(kiln_graph *graph)
{
    build_matmul(graph, KILN_f32, 1024);
}

static void build_matmul_2048(kiln_graph *graph)
{
    build_matmul(graph, KILN_f32, 2048);
}

static void build_matmul_bf16_2048(kiln_graph *graph)
{
    build_matmul(graph, KILN_bf16, 2048);
}

static void build_mlp(kiln_graph *graph, int64_t batch)
{
    static const int64_t widths[] = {784, 512, 512, 10};
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){batch, widths[0]});
    for (int i = 0; i < 3; i++) {
        kiln_value w = random_weights(graph, 2, widths + i, 1 / sqrtf((float)widths[i]));
        kiln_value b = random_weights(graph, 1, widths + i + 1, 0.1f);
        x = kiln_linear(graph, x, w, b);
        if (i < 2) x = kiln_relu(graph, x);
    }
    kiln_output(graph, "y", x);
}

static void build_mlp_b1(kiln_graph *graph)
{
    build_mlp(graph, 1);
}

static void build_mlp_b128(kiln_graph *graph)
{
    build_mlp(graph, 128);
}

static void build_attention(kiln_graph *graph)
{
    int64_t dims[] = {8, 12, 512, 64};
    kiln_value q = kiln_input(graph, "q", KILN_f32, 4, dims);
    kiln_value k = kiln_input(graph, "k", KILN_f32, 4, dims);
    kiln_value v = kiln_input(graph, "v", KILN_f32, 4, dims);
    kiln_output(graph, "y", kiln_attention(graph, q, k, v, NULL));
}

static void build_state_1m(kiln_graph *graph)
{
    build_equation_of_state(graph, 1 << 20);
}

static void build_mixing_1m(kiln_graph *graph)
{
    build_isoneutral_mixing(graph, 1 << 20);
}

static void build_energy_1m(kiln_graph *graph)
{
    build_turbulent_energy(graph, 1 << 20);
}

const workload workloads[] = {
    {"chain_16M", build_chain_16m, 0, 1, KILN_PRECISION_FMA},
    {"chain_256K", build_chain_256k, 0, 1, KILN_PRECISION_FMA},
    {"bias_gelu_res_ln_2048x768", build_norm, 0, 1, KILN_PRECISION_FMA},
    {"softmax_4096x1024", build_softmax, 0, 1, KILN_PRECISION_FMA},
    {"matmul_f32_1024", build_matmul_1024, 1, 1, KILN_PRECISION_FMA},
    {"matmul_f32_2048", build_matmul_2048, 1, 0, KILN_PRECISION_FMA},
    {"matmul_f32_2048", build_matmul_2048, 1, 0, KILN_PRECISION_X6},
    {"matmul_bf16_2048", build_matmul_bf16_2048, 1, 0, KILN_PRECISION_FMA},
    {"mlp_b1", build_mlp_b1, 0, 0, KILN_PRECISION_FMA},
    {"mlp_b128", build_mlp_b128, 1, 1, KILN_PRECISION_FMA},
    {"attention_8x12x512x64", build_attention, 1, 0, KILN_PRECISION_FMA},
    {"resnet50_b1", build_resnet50, 1, 1, KILN_PRECISION_FMA},
    {"bert_base_b1_s128", build_bert_base, 1, 1, KILN_PRECISION_FMA},
    {"equation_of_state_1M", build_state_1m, 0, 0, KILN_PRECISION_FMA},
    {"isoneutral_mixing_1M", build_mixing_1m, 0, 0, KILN_PRECISION_FMA},
    {"turbulent_energy_1M", build_energy_1m, 0, 0, KILN_PRECISION_FMA},
    {"unet_b1_128", build_unet, 1, 0, KILN_PRECISION_FMA},
    {"train_mlp_b128", build_train_mlp, 1, 0, KILN_PRECISION_FMA},
    {"train_cnn_b128", build_train_cnn, 1, 0, KILN_PRECISION_FMA},
};
const unsigned n_workloads = sizeof workloads / sizeof *workloads;
