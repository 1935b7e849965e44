/* Graphs of one operation at many shapes -> how long each takes to compile. Every shape is a kernel
 * that the context has not seen; then it has. */
#include "benchmarks/one_op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kiln/kiln.h"

#define FIRST_DIM 101 /* square matrices of this many rows, … */
#define N_SHAPES 40   /* … and of one more each time */

typedef struct one_op {
    const char *name;
    kiln_value (*build)(kiln_graph *graph, kiln_value a, int64_t n);
} one_op;

static kiln_value build_neg(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_neg(graph, a);
}

static kiln_value build_add(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_add(graph, a, a);
}

static kiln_value build_exp(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_exp(graph, a);
}

static kiln_value build_tanh(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_tanh(graph, a);
}

static kiln_value build_gelu(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_gelu(graph, a, 0);
}

static kiln_value build_transpose(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_transpose(graph, a, (int64_t[]){1, 0});
}

static kiln_value build_concat(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_concat(graph, 2, (kiln_value[]){a, a}, 1);
}

static kiln_value build_sum_rows(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_reduce_sum(graph, a, 1, (int64_t[]){1});
}

static kiln_value build_sum_columns(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_reduce_sum(graph, a, 1, (int64_t[]){0});
}

static kiln_value build_argmax(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_argmax(graph, a, 1, 0);
}

static kiln_value build_softmax(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_softmax(graph, a, 1);
}

static kiln_value build_layer_norm(kiln_graph *graph, kiln_value a, int64_t n)
{
    kiln_value scale = kiln_input(graph, "scale", KILN_f32, 1, &n);
    kiln_value offset = kiln_input(graph, "offset", KILN_f32, 1, &n);
    return kiln_layer_norm(graph, a, scale, offset, 1e-5);
}

static kiln_value build_max_pool(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    int64_t two[] = {2, 2};
    return kiln_window_max(graph, a, &(kiln_window_options){.sizes = two, .strides = two});
}

static kiln_value build_matmul(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_matmul(graph, a, a);
}

static kiln_value build_log_softmax(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_log_softmax(graph, a, 1);
}

static kiln_value build_pow(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_pow(graph, a, a);
}

static kiln_value build_sort(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_sort(graph, a, 1, 0);
}

/* A convolution of f32[1, 8, n, n], or f32[1, 8, 8 n], by a kernel of these dims. */
static kiln_value convolve(kiln_graph *graph, int64_t n, const int64_t *kernel_dims,
                           const kiln_conv_options *options)
{
    kiln_value image = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, 8, n, n});
    kiln_value kernel = kiln_input(graph, "kernel", KILN_f32, 4, kernel_dims);
    return kiln_convolution(graph, image, kernel, options);
}

static kiln_value build_argsort(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_argsort(graph, a, 1, 0);
}

static kiln_value build_softmax_columns(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)n;
    return kiln_softmax(graph, a, 0);
}

static kiln_value build_random_bits(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    kiln_value key = kiln_input(graph, "key", KILN_u32, 1, (int64_t[]){2});
    return kiln_random_bits(graph, key, 2, (int64_t[]){n, n});
}

static kiln_value build_convolution(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    return convolve(graph, n, (int64_t[]){8, 8, 3, 3}, NULL);
}

static kiln_value build_padded_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t two[] = {2, 2};
    return convolve(graph, n, (int64_t[]){8, 8, 5, 5},
                    &(kiln_conv_options){.low = two, .high = two});
}

static kiln_value build_pointwise_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    return convolve(graph, n, (int64_t[]){16, 8, 1, 1}, NULL);
}

static kiln_value build_strided_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t two[] = {2, 2}, three[] = {3, 3};
    kiln_value image = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, 3, n, n});
    kiln_value kernel = kiln_input(graph, "kernel", KILN_f32, 4, (int64_t[]){16, 3, 7, 7});
    return kiln_convolution(graph, image, kernel,
                            &(kiln_conv_options){.strides = two, .low = three, .high = three});
}

static kiln_value build_depthwise_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t one[] = {1, 1};
    return convolve(graph, n, (int64_t[]){8, 1, 3, 3},
                    &(kiln_conv_options){.low = one, .high = one, .groups = 8});
}

static kiln_value build_grouped_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t one[] = {1, 1};
    return convolve(graph, n, (int64_t[]){16, 4, 3, 3},
                    &(kiln_conv_options){.low = one, .high = one, .groups = 2});
}

static kiln_value build_dilated_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t two[] = {2, 2};
    return convolve(graph, n, (int64_t[]){8, 8, 3, 3},
                    &(kiln_conv_options){.low = two, .high = two, .rhs_dilation = two});
}

static kiln_value build_transposed_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t two[] = {2, 2};
    return convolve(graph, n, (int64_t[]){8, 8, 4, 4},
                    &(kiln_conv_options){.low = two, .high = two, .lhs_dilation = two});
}

static kiln_value build_conv_1d(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    kiln_value line = kiln_input(graph, "line", KILN_f32, 3, (int64_t[]){1, 16, 8 * n});
    kiln_value kernel = kiln_input(graph, "kernel", KILN_f32, 3, (int64_t[]){16, 16, 5});
    return kiln_convolution(graph, line, kernel, NULL);
}

/* Features innermost, as they stand between the layers of a network. */
static kiln_value build_nhwc_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t one[] = {1, 1}, image[] = {0, 3, 1, 2}, taps[] = {3, 2, 0, 1};
    kiln_value pixels = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, n, n, 8});
    kiln_value kernel = kiln_input(graph, "kernel", KILN_f32, 4, (int64_t[]){3, 3, 8, 16});
    return kiln_convolution(graph, pixels, kernel,
                            &(kiln_conv_options){.low = one,
                                                 .high = one,
                                                 .input_axes = image,
                                                 .kernel_axes = taps,
                                                 .output_axes = image});
}

/* 56 x 56 x 64, as in ResNet-50, and near it. */
static kiln_value build_large_conv(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t one[] = {1, 1}, side = n - FIRST_DIM + 56;
    kiln_value image = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, 64, side, side});
    kiln_value kernel = kiln_input(graph, "kernel", KILN_f32, 4, (int64_t[]){64, 64, 3, 3});
    return kiln_convolution(graph, image, kernel, &(kiln_conv_options){.low = one, .high = one});
}

static kiln_value build_padded_pool(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t three[] = {1, 1, 3, 3}, two[] = {1, 1, 2, 2}, one[] = {0, 0, 1, 1};
    kiln_value image = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, 8, n, n});
    return kiln_window_max(
        graph, image,
        &(kiln_window_options){.sizes = three, .strides = two, .low = one, .high = one});
}

static kiln_value build_pool_sum(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    int64_t three[] = {1, 1, 3, 3};
    kiln_value image = kiln_input(graph, "image", KILN_f32, 4, (int64_t[]){1, 8, n, n});
    return kiln_window_sum(graph, image, &(kiln_window_options){.sizes = three});
}

static kiln_value build_pool_grad(kiln_graph *graph, kiln_value a, int64_t n)
{
    int64_t two[] = {2, 2}, dims[] = {n / 2, n / 2};
    kiln_value source = kiln_input(graph, "source", KILN_f32, 2, dims);
    return kiln_window_max_grad(graph, a, source,
                                &(kiln_window_options){.sizes = two, .strides = two});
}

static kiln_value build_gram(kiln_graph *graph, kiln_value a, int64_t n)
{
    return kiln_matmul(graph, a, build_transpose(graph, a, n));
}

static kiln_value build_wide_matmul(kiln_graph *graph, kiln_value a, int64_t n)
{
    kiln_value b = kiln_input(graph, "right", KILN_f32, 2, (int64_t[]){n, 512});
    return kiln_matmul(graph, a, b);
}

static kiln_value build_matrix_vector(kiln_graph *graph, kiln_value a, int64_t n)
{
    return kiln_matmul(graph, a, kiln_input(graph, "right", KILN_f32, 2, (int64_t[]){n, 1}));
}

/* The scores of an attention with eight heads of 64. */
static kiln_value build_scores(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    kiln_value queries = kiln_input(graph, "queries", KILN_f32, 3, (int64_t[]){8, n, 64});
    kiln_value keys = kiln_input(graph, "keys", KILN_f32, 3, (int64_t[]){8, n, 64});
    return kiln_matmul(graph, queries, kiln_transpose(graph, keys, (int64_t[]){0, 2, 1}));
}

static kiln_value build_batches(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    kiln_value left = kiln_input(graph, "left", KILN_f32, 3, (int64_t[]){16, n, n});
    kiln_value right = kiln_input(graph, "right", KILN_f32, 3, (int64_t[]){16, n, n});
    return kiln_matmul(graph, left, right);
}

static kiln_value build_square(kiln_graph *graph, kiln_dtype dtype, int64_t n)
{
    kiln_value left = kiln_input(graph, "left", dtype, 2, (int64_t[]){n, n});
    return kiln_matmul(graph, left, kiln_input(graph, "right", dtype, 2, (int64_t[]){n, n}));
}

static kiln_value build_large_matmul(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    return build_square(graph, KILN_f32, n + 400);
}

static kiln_value build_f64_matmul(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    return build_square(graph, KILN_f64, n);
}

static kiln_value build_bf16_matmul(kiln_graph *graph, kiln_value a, int64_t n)
{
    (void)a;
    return build_square(graph, KILN_bf16, n);
}

static const one_op ops[] = {
    {"neg", build_neg},
    {"add", build_add},
    {"exp", build_exp},
    {"tanh", build_tanh},
    {"gelu", build_gelu},
    {"transpose", build_transpose},
    {"concat", build_concat},
    {"sum of rows", build_sum_rows},
    {"sum of columns", build_sum_columns},
    {"argmax of rows", build_argmax},
    {"softmax", build_softmax},
    {"layer norm", build_layer_norm},
    {"max pool 2 x 2", build_max_pool},
    {"matrix product", build_matmul},
    {"by n x 512", build_wide_matmul},
    {"by its transpose", build_gram},
    {"matrix by vector", build_matrix_vector},
    {"8 heads' scores", build_scores},
    {"16 products", build_batches},
    {"of n + 400", build_large_matmul},
    {"of f64", build_f64_matmul},
    {"of bf16", build_bf16_matmul},
    {"convolution 3 x 3", build_convolution},
    {"padded 5 x 5", build_padded_conv},
    {"1 x 1", build_pointwise_conv},
    {"strided 7 x 7", build_strided_conv},
    {"depthwise 3 x 3", build_depthwise_conv},
    {"grouped 3 x 3", build_grouped_conv},
    {"dilated 3 x 3", build_dilated_conv},
    {"transposed 4 x 4", build_transposed_conv},
    {"of lines, 5", build_conv_1d},
    {"channels last", build_nhwc_conv},
    {"56 x 56 x 64", build_large_conv},
    {"max pool 3 x 3", build_padded_pool},
    {"sum pool 3 x 3", build_pool_sum},
    {"max pool grad", build_pool_grad},
    {"log softmax", build_log_softmax},
    {"pow", build_pow},
    {"sort", build_sort},
    {"argsort", build_argsort},
    {"softmax of columns", build_softmax_columns},
    {"random bits", build_random_bits},
};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Milliseconds; negative when the compile failed, with its message printed. */
static double compile_once(kiln_context *context, const one_op *op, int64_t n)
{
    kiln_graph *graph;
    kiln_executable *executable = NULL;
    double begin = now_ms();
    if (kiln_graph_create(context, op->name, &graph)) return -1;
    kiln_value a = kiln_input(graph, "a", KILN_f32, 2, (int64_t[]){n, n});
    kiln_output(graph, "b", op->build(graph, a, n));
    kiln_status status = kiln_compile(graph, NULL, &executable);
    double ms = now_ms() - begin;
    if (status) fprintf(stderr, "bench: %s: %s\n", op->name, kiln_graph_message(graph));
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    return status ? -1 : ms;
}

static int time_op(kiln_context *context, const one_op *op)
{
    double first[N_SHAPES], again[N_SHAPES];
    for (int i = 0; i < N_SHAPES; i++) {
        first[i] = compile_once(context, op, FIRST_DIM + i);
        again[i] = compile_once(context, op, FIRST_DIM + i);
        if (first[i] < 0 || again[i] < 0) return 1;
    }
    qsort(first, N_SHAPES, sizeof *first, compare_times);
    qsort(again, N_SHAPES, sizeof *again, compare_times);
    printf("%-18s %8.2f %8.2f %8.2f\n", op->name, first[0], first[N_SHAPES / 2],
           again[N_SHAPES / 2]);
    return 0;
}

int print_one_op_compiles(uint32_t threads, const char *only)
{
    kiln_context *context;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
    if (kiln_context_create(&options, &context)) return 1;
    printf("compiles of one operation on f32[n,n], n = %d to %d, threads %u, ms\n\n", FIRST_DIM,
           FIRST_DIM + N_SHAPES - 1, threads);
    printf("%-18s %8s %8s %8s\n", "operation", "least", "median", "again");
    int status = compile_once(context, &ops[0], FIRST_DIM - 1) < 0; /* opens the backend */
    for (unsigned i = 0; i < sizeof ops / sizeof *ops && !status; i++)
        if (!only || strstr(ops[i].name, only)) status = time_op(context, &ops[i]);
    kiln_context_destroy(context);
    return status;
}
