/* Contractions of bytes: products and convolutions of i8 and u8 in every mix of signs, with results
 * in i32, against the evaluator, bit by bit: sums of integers are exact, so machines with matrix
 * tiles and those without must agree, for any number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/kiln.h"
#include "passes/machine.h"
#include "runtime/cpu.h"

typedef struct array {
    kiln_dtype dtype;
    uint32_t rank;
    int64_t dims[4], n;
    void *data;
} array;

static uint32_t state = 1;

static array array_create(kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    array a = {.dtype = dtype, .rank = rank, .n = 1};
    for (uint32_t i = 0; i < rank; i++) a.n *= a.dims[i] = dims[i];
    a.data = malloc((size_t)a.n * kiln_dtype_bytes(dtype) + 1);
    assert_non_null(a.data);
    for (int64_t i = 0; i < a.n * (int64_t)kiln_dtype_bytes(dtype); i++) {
        state = state * 1664525u + 1013904223u;
        uint8_t byte = (uint8_t)(state >> 24);
        ((uint8_t *)a.data)[i] = state >> 20 & 7 ? byte : byte & 1 ? 0x80 : 0xff;
    }
    return a;
}

static kiln_tensor tensor_of(const array *a)
{
    return (kiln_tensor){a->dtype, a->rank, a->dims, a->data,
                         (size_t)a->n * kiln_dtype_bytes(a->dtype)};
}

typedef kiln_value build_fn(kiln_graph *graph, const void *user, kiln_value a, kiln_value b);

typedef struct problem {
    array a, b;
    int is_constant;
    build_fn *build;
    const void *user;
    int64_t n_y;
    kiln_dtype y_dtype;
    const char *name;
} problem;

/* The result on that machine, or the evaluator's for NULL. The caller frees it. */
static void *run(problem *p, const char *cpu, uint32_t threads)
{
    kiln_context *context;
    kiln_graph *graph;
    kiln_context_options context_options = {.struct_bytes = sizeof context_options,
                                            .threads = threads};
    assert_int_equal(kiln_context_create(&context_options, &context), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "bytes", &graph), KILN_OK);
    kiln_value a = kiln_input(graph, "a", p->a.dtype, p->a.rank, p->a.dims);
    kiln_value b = p->is_constant
                       ? kiln_constant(graph, p->b.dtype, p->b.rank, p->b.dims, p->b.data)
                       : kiln_input(graph, "b", p->b.dtype, p->b.rank, p->b.dims);
    kiln_value y = p->build(graph, p->user, a, b);
    kiln_output(graph, "y", y);
    int64_t dims[4];
    uint32_t rank = kiln_value_rank(graph, y);
    p->n_y = 1;
    for (uint32_t i = 0; i < rank; i++) p->n_y *= dims[i] = kiln_value_dims(graph, y)[i];
    p->y_dtype = kiln_value_dtype(graph, y);
    size_t bytes = (size_t)p->n_y * kiln_dtype_bytes(p->y_dtype);
    kiln_tensor inputs[] = {tensor_of(&p->a), tensor_of(&p->b)},
                output = {p->y_dtype, rank, dims, malloc(bytes + 1), bytes};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    uint32_t n = p->is_constant ? 1 : 2;
    if (!cpu) {
        if (kiln_evaluate(graph, inputs, n, &output, 1)) fail_msg("%s", kiln_graph_message(graph));
    } else {
        kiln_compile_options options = {
            .struct_bytes = sizeof options, .target_cpu = cpu, .compile_threads = 1};
        if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
        assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
        assert_int_equal(kiln_run(workspace, inputs, n, &output, 1), KILN_OK);
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
    return output.data;
}

static bool can_run(const kiln_machine *machine)
{
    uint64_t features = machine->cpu_features;
    return machine->kind == KILN_MACHINE_CPU && !(features & ~kiln_cpu_features()) &&
           kiln_cpu_enable(features);
}

/* Every problem on machines with tiles; on the others, which share their code, one in seven. */
static bool is_chosen(const kiln_machine *machine)
{
    static uint32_t n;
    return machine->has_amx || (machine->has_fma && n++ % 7 == 0);
}

static void check(problem *p)
{
    void *expected = run(p, NULL, 1);
    size_t bytes = (size_t)p->n_y * kiln_dtype_bytes(p->y_dtype);
    for (const kiln_machine *machine = kiln_machines; machine->name; machine++) {
        if (!can_run(machine)) {
            if (machine->kind == KILN_MACHINE_CPU) printf("SKIP: %s\n", machine->name);
            continue;
        }
        if (!is_chosen(machine)) continue;
        for (uint32_t threads = machine->has_amx ? 1 : 2; threads <= 2; threads++) {
            void *y = run(p, machine->name, threads);
            if (memcmp(y, expected, bytes) != 0)
                fail_msg("%s, %s x %s: other bits on %s with %u threads", p->name,
                         kiln_dtype_name(p->a.dtype), kiln_dtype_name(p->b.dtype), machine->name,
                         threads);
            free(y);
        }
    }
    free(expected);
}

static const kiln_dtype signs[][2] = {
    {KILN_i8, KILN_i8}, {KILN_u8, KILN_i8}, {KILN_i8, KILN_u8}, {KILN_u8, KILN_u8}};

static void check_signs(problem *p, const int64_t *a_dims, const int64_t *b_dims, uint32_t which)
{
    p->a = array_create(signs[which % 4][0], (uint32_t)4, a_dims);
    p->b = array_create(signs[which % 4][1], (uint32_t)4, b_dims);
    check(p);
    free(p->a.data);
    free(p->b.data);
}

typedef struct dot_shape {
    const char *name;
    int64_t batch, m, n, k;
    int is_a_transposed, is_b_transposed, is_constant;
} dot_shape;

static const dot_shape dots[] = {
    {"row", 1, 1, 64, 64, 0, 0, 1},
    {"few", 1, 5, 17, 33, 0, 0, 1},
    {"both transposed", 1, 33, 31, 40, 1, 1, 0},
    {"ragged", 2, 49, 65, 129, 0, 0, 0},
    {"whole", 1, 48, 96, 64, 0, 0, 0},
    {"batch", 3, 32, 64, 96, 0, 1, 1},
    {"by m", 1, 100, 70, 300, 1, 0, 0},
    {"direct", 1, 32, 200, 128, 0, 1, 1},
    {"deep", 1, 34, 40, 2500, 0, 0, 1},
    {"small", 1, 2, 3, 9, 0, 0, 0},
    {"by columns", 1, 64, 48, 192, 1, 1, 1},
};

static kiln_value build_dot(kiln_graph *graph, const void *user, kiln_value a, kiln_value b)
{
    const dot_shape *s = user;
    static const int64_t batch[] = {0, 1};
    int64_t a_k = s->is_a_transposed ? 2 : 3, b_k = s->is_b_transposed ? 3 : 2;
    kiln_dot_options options = {.n_batch = 2,
                                .n_contract = 1,
                                .lhs_batch = batch,
                                .rhs_batch = batch,
                                .lhs_contract = &a_k,
                                .rhs_contract = &b_k,
                                .accumulate = KILN_i32,
                                .is_wide = 1};
    return kiln_dot_general(graph, a, b, &options);
}

static void products_are_exact(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < sizeof dots / sizeof *dots; i++) {
        const dot_shape *s = &dots[i];
        int64_t a[] = {1, s->batch, s->m, s->k}, b[] = {1, s->batch, s->k, s->n};
        if (s->is_a_transposed) memcpy(a + 2, (int64_t[]){s->k, s->m}, 2 * sizeof *a);
        if (s->is_b_transposed) memcpy(b + 2, (int64_t[]){s->n, s->k}, 2 * sizeof *b);
        problem p = {.is_constant = s->is_constant, .build = build_dot, .user = s, .name = s->name};
        for (uint32_t j = 0; j < (i < 2 ? 4 : 1); j++) check_signs(&p, a, b, i + j);
    }
}

typedef struct conv_shape {
    const char *name;
    int64_t batch, height, width, in, out, kernel[2], stride, low, dilation, groups;
} conv_shape;

static const conv_shape convs[] = {
    {"3x3", 1, 14, 14, 64, 64, {3, 3}, 1, 1, 1, 1},
    {"images", 2, 7, 7, 32, 48, {3, 3}, 1, 1, 1, 1},
    {"strided", 1, 15, 16, 32, 40, {3, 3}, 2, 1, 1, 1},
    {"first layer", 1, 37, 40, 3, 64, {7, 7}, 2, 3, 1, 1},
    {"1x1 strided", 2, 9, 10, 48, 32, {1, 1}, 2, 0, 1, 1},
    {"1x1", 1, 12, 13, 96, 70, {1, 1}, 1, 0, 1, 1},
    {"dilated", 1, 11, 13, 16, 24, {3, 3}, 1, 2, 2, 1},
    {"depthwise", 1, 9, 9, 24, 24, {3, 3}, 1, 1, 1, 24},
    {"grouped", 1, 8, 9, 32, 48, {3, 3}, 1, 1, 1, 2},
};

static kiln_value build_conv(kiln_graph *graph, const void *user, kiln_value a, kiln_value b)
{
    const conv_shape *s = user;
    int64_t strides[] = {s->stride, s->stride}, pads[] = {s->low, s->low},
            dilations[] = {s->dilation, s->dilation};
    kiln_conv_options options = {.strides = strides,
                                 .low = pads,
                                 .high = pads,
                                 .rhs_dilation = dilations,
                                 .groups = s->groups,
                                 .accumulate = KILN_i32,
                                 .is_wide = 1};
    return kiln_convolution(graph, a, b, &options);
}

static void convolutions_are_exact(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        const conv_shape *s = &convs[i];
        int64_t a[] = {s->batch, s->in, s->height, s->width},
                b[] = {s->out, s->in / s->groups, s->kernel[0], s->kernel[1]};
        problem p = {.is_constant = 1, .build = build_conv, .user = s, .name = s->name};
        check_signs(&p, a, b, i);
        check_signs(&p, a, b, i + 1);
    }
}

/* Bytes meet in i32 only. */
static void other_sums_are_refused(void **unused)
{
    (void)unused;
    kiln_context *context;
    kiln_graph *graph;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_int_equal(kiln_graph_create(context, "mixed", &graph), KILN_OK);
    int64_t dims[] = {4, 4}, one = 1, zero = 0;
    kiln_value a = kiln_input(graph, "a", KILN_i8, 2, dims);
    kiln_value b = kiln_input(graph, "b", KILN_u8, 2, dims);
    kiln_dot_options options = {.n_contract = 1, .lhs_contract = &one, .rhs_contract = &zero};
    kiln_output(graph, "y", kiln_dot_general(graph, a, b, &options));
    assert_int_equal(kiln_graph_status(graph), KILN_INVALID);
    assert_string_equal(kiln_graph_message(graph),
                        "dot_general: operands are i8[4,4] and u8[4,4]; expected one dtype");
    kiln_graph_destroy(graph);
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_exact),
        cmocka_unit_test(convolutions_are_exact),
        cmocka_unit_test(other_sums_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
