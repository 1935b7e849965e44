/* Products whose constant weights are codes with scales: fused, the codes stay packed in the
 * program's constants and are widened as they are read; every result has the bits of weights that
 * were widened before (unfused), for any number of threads and vector width, and is near the
 * evaluator's. Problems cover rows in registers and in copies, k of several chunks and of odd
 * length, ragged columns, tables by column and by block, codes along k and along the columns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kiln/kiln.h"
#include "runtime/cpu.h"

typedef struct problem {
    int64_t m, k, n;
    int64_t block;   /* of k with one scale; 0: a scale a column; -1: one for all */
    kiln_dtype codes;
    int bits;        /* of the codes' values */
    int has_zero;    /* zero points like the scales */
    int is_by_column; /* codes are [n,k] */
    double bytes;    /* of constants for a code, at most, with the tables */
} problem;

static const problem problems[] = {
    {1, 96, 80, 0, KILN_i8, 8, 0, 0, 1.1},      {2, 97, 50, 0, KILN_i8, 8, 1, 0, 1.5},
    {1, 130, 64, -1, KILN_i8, 4, 0, 0, 0.6},    {3, 128, 96, 32, KILN_u8, 4, 1, 1, 0.8},
    {12, 160, 70, 32, KILN_u8, 8, 0, 1, 1.4},   {13, 160, 70, 32, KILN_i8, 4, 1, 0, 0.9},
    {70, 98, 66, 0, KILN_u8, 4, 1, 1, 0.8},     {2, 8256, 20, 64, KILN_i8, 4, 1, 1, 1.0},
    {40, 4200, 18, 60, KILN_u8, 4, 0, 0, 1.0},  {2, 8195, 17, 0, KILN_i8, 8, 1, 0, 2.0},
    {130, 2064, 33, 16, KILN_i8, 8, 0, 1, 2.5}, {5, 510, 48, 17, KILN_i8, 4, 0, 1, 1.4},
    {4, 130, 40, 0, KILN_bf16, 16, 0, 1, 2.6},  {12, 130, 40, 0, KILN_f16, 16, 0, 0, 2.6},
    {2, 128, 64, 32, KILN_i4, 4, 0, 0, 0.7},    {20, 128, 64, 0, KILN_u4, 4, 1, 0, 0.7},
};

static uint32_t state;
static uint32_t draw(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static void *draw_codes(const problem *p)
{
    int64_t n = p->k * p->n;
    uint8_t *bytes = malloc((size_t)n * 2);
    assert_non_null(bytes);
    for (int64_t i = 0; i < n; i++) {
        uint8_t code = (uint8_t)draw();
        bool is_packed = p->codes == KILN_i4 || p->codes == KILN_u4;
        if (p->bits == 4 && !is_packed)
            code = (uint8_t)(p->codes == KILN_i8 ? (int8_t)(code << 4) >> 4 : code & 15);
        if (p->bits == 16) /* floats near 1 */
            ((uint16_t *)(void *)bytes)[i] =
                (uint16_t)((p->codes == KILN_bf16 ? 0x3f80 : 0x3c00) ^ (draw() & 0x807f));
        else
            bytes[i] = code;
    }
    return bytes;
}

/* Scales or zero points over the weights, [n,k] or [k,n]. */
static kiln_value spread(kiln_graph *graph, const problem *p, const int64_t *dims, bool is_zero)
{
    int64_t blocks = p->block > 0 ? p->k / p->block : 1, n = p->block < 0 ? 1 : p->n * blocks;
    float *values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = is_zero ? (float)(draw() % 16) : ldexpf((float)(draw() % 4096 + 1), -16);
    kiln_value a;
    if (p->block < 0) {
        a = kiln_scalar(graph, KILN_f32, values[0]);
    } else if (p->block == 0) {
        int64_t axis = p->is_by_column ? 0 : 1;
        a = kiln_broadcast(graph, kiln_constant(graph, KILN_f32, 1, &p->n, values), 2, dims, &axis);
    } else { /* along k, then each value `block` times */
        int64_t small[] = {p->is_by_column ? p->n : blocks, p->is_by_column ? blocks : p->n};
        int64_t wide[] = {small[0], p->is_by_column ? small[1] : p->block,
                          p->is_by_column ? p->block : small[1]};
        int64_t axes[] = {0, p->is_by_column ? 1 : 2};
        a = kiln_broadcast(graph, kiln_constant(graph, KILN_f32, 2, small, values), 3, wide, axes);
        a = kiln_reshape(graph, a, 2, dims);
    }
    free(values);
    return a;
}

static kiln_graph *build(kiln_context *context, const problem *p)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "weights", &graph), KILN_OK);
    state = (uint32_t)(p->m * 31 + p->k);
    int64_t dims[] = {p->is_by_column ? p->n : p->k, p->is_by_column ? p->k : p->n};
    int64_t x_dims[] = {p->m, p->k};
    void *codes = draw_codes(p);
    kiln_value x = kiln_input(graph, "x", KILN_f32, 2, x_dims);
    kiln_value w = kiln_convert(graph, kiln_constant(graph, p->codes, 2, dims, codes), KILN_f32);
    if (p->has_zero) w = kiln_sub(graph, w, spread(graph, p, dims, true));
    w = kiln_mul(graph, w, spread(graph, p, dims, false));
    if (p->is_by_column) w = kiln_transpose(graph, w, NULL);
    kiln_output(graph, "y", kiln_matmul(graph, x, w));
    free(codes);
    return graph;
}

typedef struct way {
    const char *cpu;
    uint32_t threads;
    int is_unfused;
} way;

static void run(kiln_graph *graph, const problem *p, const way *how, float *x, float *y)
{
    kiln_compile_options options = {.struct_bytes = sizeof options,
                                    .target_cpu = how->cpu,
                                    .is_unfused = how->is_unfused,
                                    .compile_threads = how->threads};
    kiln_executable *executable;
    kiln_workspace *workspace;
    int64_t x_dims[] = {p->m, p->k}, y_dims[] = {p->m, p->n};
    kiln_tensor input = {KILN_f32, 2, x_dims, x, (size_t)(p->m * p->k) * sizeof *x};
    kiln_tensor output = {KILN_f32, 2, y_dims, y, (size_t)(p->m * p->n) * sizeof *y};
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    double bytes = (double)kiln_executable_program(executable)->constant_bytes;
    double most = p->bytes * (double)(p->k * ((p->n + 15) / 16 * 16)) + 1024;
    if (!how->is_unfused && bytes > most)
        fail_msg("%lld x %lld: %.0f bytes of constants", (long long)p->k, (long long)p->n, bytes);
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    assert_int_equal(kiln_run(workspace, &input, 1, &output, 1), KILN_OK);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void evaluate(kiln_graph *graph, const problem *p, float *x, float *y)
{
    int64_t x_dims[] = {p->m, p->k}, y_dims[] = {p->m, p->n};
    kiln_tensor input = {KILN_f32, 2, x_dims, x, (size_t)(p->m * p->k) * sizeof *x};
    kiln_tensor output = {KILN_f32, 2, y_dims, y, (size_t)(p->m * p->n) * sizeof *y};
    if (kiln_evaluate(graph, &input, 1, &output, 1)) fail_msg("%s", kiln_graph_message(graph));
}

static void check(const problem *p)
{
    static const way ways[] = {{"x86-64-v3", 1, 1}, {"x86-64-v3", 2, 0}, {"x86-64-v4", 1, 0},
                               {"x86-64-v4", 2, 0}, {"host", 2, 0}};
    size_t n = (size_t)(p->m * p->n);
    float *x = malloc((size_t)(p->m * p->k) * sizeof *x), *y = malloc(3 * n * sizeof *y);
    assert_non_null(x);
    assert_non_null(y);
    for (int64_t i = 0; i < p->m * p->k; i++) x[i] = (float)sin(0.37 * (double)i);
    kiln_context *context;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    kiln_graph *graph = build(context, p);
    evaluate(graph, p, x, y);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool is_first = i == 0, has_v4 = kiln_cpu_features() & KILN_CPU_AVX512;
        if (strcmp(ways[i].cpu, "x86-64-v4") == 0 && !has_v4) continue;
        run(graph, p, &ways[i], x, y + (is_first ? n : 2 * n));
        if (is_first)
            for (size_t j = 0; j < n; j++)
                assert_true(fabsf(y[j] - y[n + j]) <= 1e-5f * (float)p->k + 1e-5f * fabsf(y[j]));
        else if (memcmp(y + n, y + 2 * n, n * sizeof *y) != 0)
            fail_msg("[%lld,%lld,%lld] on %s: other bits", (long long)p->m, (long long)p->k,
                     (long long)p->n, ways[i].cpu);
    }
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    free(x);
    free(y);
}

static void test_weights_are_widened_as_they_are_read(void **unused)
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) check(&problems[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_are_widened_as_they_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
