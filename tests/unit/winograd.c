/* Winograd's algorithm in compiled convolutions: that shapes choose it, that strict compiles do not
 * use it, and how far its results are from exact ones, beside the direct sum's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"

typedef struct layer {
    int64_t features; /* in and out */
    int64_t side;     /* of the image; decides which algorithm is chosen */
    double bound;     /* of the worst error over the sum of the products' sizes */
} layer;

static void fill(float *data, int64_t n, uint32_t state)
{
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
}

static int64_t n_image(const layer *l)
{
    return l->features * l->side * l->side;
}

/* x conv w, NCHW, by a program compiled for so many threads. */
static float *run_compiled(const layer *l, const float *x, const float *w, int is_strict,
                           uint32_t threads)
{
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = threads};
    kiln_compile_options options = {.struct_bytes = sizeof options, .is_strict = is_strict};
    int64_t dims[] = {1, l->features, l->side, l->side},
            kernel[] = {l->features, l->features, 3, 3};
    int64_t one[] = {1, 1};
    kiln_conv_options conv = {.low = one, .high = one};
    kiln_context *context;
    kiln_graph *graph;
    kiln_executable *executable;
    kiln_workspace *workspace;
    assert_int_equal(kiln_context_create(&context_options, &context), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "layer", &graph), KILN_OK);
    kiln_value image = kiln_input(graph, "x", KILN_f32, 4, dims);
    kiln_value weights = kiln_constant(graph, KILN_f32, 4, kernel, w);
    kiln_output(graph, "y", kiln_convolution(graph, image, weights, &conv));
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    size_t bytes = (size_t)n_image(l) * sizeof(float);
    float *y = calloc(1, bytes), *copy = malloc(bytes);
    memcpy(copy, x, bytes);
    kiln_tensor in = {KILN_f32, 4, dims, copy, bytes}, out = {KILN_f32, 4, dims, y, bytes};
    assert_int_equal(kiln_run(workspace, &in, 1, &out, 1), KILN_OK);
    free(copy);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return y;
}

/* Sums in f64 of one result; the sum of the products' sizes too. */
static double exact(const layer *l, const float *x, const float *w, int64_t at, double *out_sizes)
{
    int64_t area = l->side * l->side, feature = at / area;
    int64_t row = at % area / l->side, column = at % l->side;
    double sum = 0, sizes = 0;
    for (int64_t i = 0; i < l->features * 9; i++) {
        int64_t in = i / 9, y = row + i % 9 / 3 - 1, z = column + i % 3 - 1;
        if (y < 0 || z < 0 || y >= l->side || z >= l->side) continue;
        double product = (double)x[in * area + y * l->side + z] *
                         (double)w[(feature * l->features + in) * 9 + i % 9];
        sum += product;
        sizes += fabs(product);
    }
    *out_sizes = sizes;
    return sum;
}

static double worst(const layer *l, const float *x, const float *w, const float *y)
{
    double most = 0;
    for (int64_t at = 0; at < n_image(l); at += 7) {
        double sizes, sum = exact(l, x, w, at, &sizes);
        most = fmax(most, fabs(y[at] - sum) / sizes);
    }
    return most;
}

/* F(2 x 2) for maps that its tiles fill better, F(4 x 4) for the larger ones. */
static void results_are_within_the_bound(void **state)
{
    static const layer layers[] = {{64, 10, 4e-7}, {64, 28, 2e-6}, {256, 10, 4e-7}};
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const layer *l = &layers[i];
        int64_t n_kernel = 9 * l->features * l->features;
        float *x = malloc((size_t)n_image(l) * sizeof *x);
        float *w = malloc((size_t)n_kernel * sizeof *w);
        fill(x, n_image(l), 3);
        fill(w, n_kernel, 5);
        float *fast = run_compiled(l, x, w, 0, 1), *also = run_compiled(l, x, w, 0, 2);
        float *direct = run_compiled(l, x, w, 1, 1);
        size_t bytes = (size_t)n_image(l) * sizeof(float);
        assert_memory_equal(fast, also, bytes);
        assert_true(memcmp(fast, direct, bytes) != 0);
        double error = worst(l, x, w, fast), strict = worst(l, x, w, direct);
        print_message("%lld features, %lld pixels: %.2g, direct %.2g\n", (long long)l->features,
                      (long long)l->side, error, strict);
        assert_true(error <= l->bound && strict <= 4e-7);
        free(direct);
        free(also);
        free(fast);
        free(w);
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(results_are_within_the_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
