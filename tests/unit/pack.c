/* Packing at run time: products whose second operand is an input, by columns and by rows, with
 * tails, compiled for every model that this machine can run, against the evaluator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kiln/kiln.h"

typedef struct shape {
    int64_t batch, m, n, k;
    int b_k; /* axis of b[batch, …] that is summed: 1 or 2 */
    kiln_dtype dtype;
} shape;

static const shape shapes[] = {
    {1, 64, 64, 64, 2, KILN_f32},  {1, 50, 37, 61, 2, KILN_f32}, {3, 49, 16, 16, 2, KILN_f32},
    {2, 60, 5, 70, 2, KILN_f32},   {2, 48, 33, 3, 2, KILN_f32},  {1, 64, 80, 20, 1, KILN_f32},
    {2, 60, 37, 61, 1, KILN_f32},  {2, 50, 37, 61, 2, KILN_f64}, {1, 50, 37, 61, 2, KILN_bf16},
    {2, 50, 270, 140, 1, KILN_f32}, {1, 50, 256, 128, 1, KILN_bf16},
    {1, 50, 37, 61, 2, KILN_i32},  {1, 50, 37, 61, 2, KILN_i8},  {2, 50, 37, 61, 1, KILN_i8},
};

static const char *const machines[] = {"x86-64", "x86-64-v3", "x86-64-v4"};

static kiln_context *context;

static void fill(const kiln_tensor *t, uint32_t seed)
{
    size_t size = kiln_dtype_bytes(t->dtype);
    for (size_t i = 0; i < t->bytes / size; i++) {
        seed = seed * 1664525u + 1013904223u;
        int value = (int)(seed >> 24) % 7 - 3;
        if (t->dtype == KILN_f32) ((float *)t->data)[i] = (float)value;
        if (t->dtype == KILN_f64) ((double *)t->data)[i] = value;
        if (t->dtype == KILN_bf16) ((uint16_t *)t->data)[i] = (uint16_t)(0x3f80 + value);
        if (t->dtype == KILN_i32) ((int32_t *)t->data)[i] = value;
        if (t->dtype == KILN_i8) ((int8_t *)t->data)[i] = (int8_t)value;
    }
}

static kiln_tensor tensor(kiln_dtype dtype, const int64_t *dims)
{
    size_t n = (size_t)(dims[0] * dims[1] * dims[2]) * kiln_dtype_bytes(dtype);
    return (kiln_tensor){dtype, 3, dims, calloc(1, n + 64), n};
}

/* Small integers: sums are exact whatever their order, but for bf16, whose results are rounded
 * alike. */
static void check(const shape *s, const char *machine)
{
    kiln_graph *g;
    assert_int_equal(kiln_graph_create(context, "pack", &g), KILN_OK);
    int64_t a_dims[] = {s->batch, s->m, s->k}, c_dims[] = {s->batch, s->m, s->n};
    int64_t b_dims[] = {s->batch, s->b_k == 1 ? s->k : s->n, s->b_k == 1 ? s->n : s->k};
    kiln_value a = kiln_input(g, "a", s->dtype, 3, a_dims),
               b = kiln_input(g, "b", s->dtype, 3, b_dims);
    int64_t zero = 0, two = 2, b_k = s->b_k;
    kiln_dot_options options = {.n_batch = 1, .lhs_batch = &zero, .rhs_batch = &zero,
                                .n_contract = 1, .lhs_contract = &two, .rhs_contract = &b_k};
    kiln_output(g, "c", kiln_dot_general(g, a, b, &options));
    kiln_tensor inputs[] = {tensor(s->dtype, a_dims), tensor(s->dtype, b_dims)};
    kiln_tensor found = tensor(s->dtype, c_dims), expected = tensor(s->dtype, c_dims);
    fill(&inputs[0], 1);
    fill(&inputs[1], 2);
    kiln_compile_options compile = {.struct_bytes = sizeof compile, .target_cpu = machine};
    kiln_executable *executable;
    kiln_workspace *workspace;
    if (kiln_compile(g, &compile, &executable)) fail_msg("%s", kiln_graph_message(g));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, inputs, 2, &found, 1))
        fail_msg("%s", kiln_workspace_message(workspace));
    if (kiln_evaluate(g, inputs, 2, &expected, 1)) fail_msg("%s", kiln_graph_message(g));
    assert_memory_equal(found.data, expected.data, found.bytes);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(g);
    free(inputs[0].data);
    free(inputs[1].data);
    free(found.data);
    free(expected.data);
}

static void packed_products_are_right(void **state)
{
    (void)state;
    __builtin_cpu_init();
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++) {
        if (m == 1 && !__builtin_cpu_supports("avx2")) continue;
        if (m == 2 && !__builtin_cpu_supports("avx512bw")) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(&shapes[i], machines[m]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packed_products_are_right)};
    if (kiln_context_create(NULL, &context)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
