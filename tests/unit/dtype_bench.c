/* Evaluate, compile, compare. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dtype_bench.h"
#include "ops/compiled.h"

static kiln_context *context;

int bench_set_up(void **state)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    return kiln_context_create(&options, &context);
}

int bench_tear_down(void **state)
{
    kiln_context_destroy(context);
    return 0;
}

const kiln_dtype bench_dtypes[] = {
#define KILN_DTYPE(name, number, bits, kind) KILN_##name,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
};
const size_t bench_n_dtypes = sizeof bench_dtypes / sizeof *bench_dtypes;

static kiln_tensor new_tensor(kiln_scope *scope, const kiln_type *type)
{
    void *data = kiln_arena_alloc(&scope->arena, (size_t)type->bytes + 8);
    memset(data, 0x5a, (size_t)type->bytes + 8);
    return (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
}

kiln_value bench_input(bench *b, kiln_dtype dtype, int64_t n)
{
    static const char *const names[] = {"x", "y", "z"};
    uint32_t number = b->graph->inputs.n;
    const kiln_type *type = kiln_graph_tensor(b->graph, dtype, 1, &n);
    b->inputs[number] = new_tensor(b->scope, type);
    return kiln_add_input(b->graph, type, names[number], false);
}

/* Where a pattern stands among the floats of its dtype, by sign and size. */
static int64_t order_of(kiln_dtype dtype, uint64_t bits)
{
    uint64_t sign = (uint64_t)1 << (kiln_dtype_bits(dtype) - 1);
    return bits & sign ? -(int64_t)(bits & (sign - 1)) : (int64_t)bits;
}

static uint64_t bits_at(const kiln_tensor *tensor, int64_t i)
{
    uint64_t bits[2] = {0};
    kiln_element_copy(tensor->dtype, bits, 0, tensor->data, i);
    return bits[0];
}

/* Parts within `error` of the size of the wanted value; NaN where it is NaN, infinite parts equal.
 */
static bool is_near(const bench *b, const kiln_tensor *want, const kiln_tensor *got, int64_t i)
{
    kiln_dtype part = kiln_dtype_part(want->dtype);
    int n = part == want->dtype ? 1 : 2;
    double x[2] = {0}, y[2] = {0};
    kiln_element_load_double(part, want->data, n * i, n, x);
    kiln_element_load_double(part, got->data, n * i, n, y);
    double least = part == KILN_f32 ? 0x1p-140 : 0x1p-1060, size = hypot(x[0], x[1]);
    for (int j = 0; j < n; j++) {
        if (x[j] == y[j] || (isnan(x[j]) && isnan(y[j]))) continue;
        if (!(fabs(x[j] - y[j]) <= b->error * size + least) || isinf(size)) return false;
    }
    return true;
}

static bool is_same(const bench *of, const kiln_tensor *a, const kiln_tensor *b, int64_t i)
{
    if (of->error > 0 && kiln_dtype_in(a->dtype, KILN_TYPES_FIELD)) return is_near(of, a, b, i);
    uint64_t x = bits_at(a, i), y = bits_at(b, i);
    if (x == y) return true;
    if (!kiln_dtype_in(a->dtype, KILN_TYPES_FLOAT)) return false;
    double f = kiln_tensor_get(a, i), g = kiln_tensor_get(b, i);
    if (isnan(f) || isnan(g)) return isnan(f) && isnan(g);
    return llabs(order_of(a->dtype, x) - order_of(a->dtype, y)) <= of->steps;
}

/* Reading bits of a 16-bit NaN makes it quiet. */
static bool is_nan_bits(const bench *b, const char *name, int64_t i)
{
    bool is_half = b->inputs[0].dtype == KILN_f16 || b->inputs[0].dtype == KILN_bf16;
    return is_half && name[0] == 'a' && isnan(kiln_tensor_get(&b->inputs[0], i));
}

static void check_output(const bench *b, const char *target, uint32_t number,
                         const kiln_tensor *want, const kiln_tensor *got)
{
    const kiln_graph_output *output = &b->graph->outputs.at[number];
    int64_t n = kiln_graph_type(b->graph, output->value)->n_elements;
    for (int64_t i = 0; i < n; i++) {
        if (is_same(b, want, got, i) || is_nan_bits(b, output->name, i)) continue;
        char operands[256] = "";
        for (uint32_t j = 0; j < b->graph->inputs.n; j++) {
            size_t at = strlen(operands);
            snprintf(operands + at, sizeof operands - at, " %.17g",
                     kiln_tensor_get(&b->inputs[j], i));
        }
        fail_msg("%s on %s: element %lld, operands%s of %s: %.17g (%#llx), expected %.17g (%#llx)",
                 output->name, target, (long long)i, operands, kiln_dtype_name(b->inputs[0].dtype),
                 kiln_tensor_get(got, i), (unsigned long long)bits_at(got, i),
                 kiln_tensor_get(want, i), (unsigned long long)bits_at(want, i));
    }
    size_t used =
        (size_t)n * kiln_dtype_bits(got->dtype) % 8; /* bits of the last byte, if not all */
    if (used) assert_int_equal(((uint8_t *)got->data)[got->bytes - 1] >> used, 0);
    uint8_t *beyond = (uint8_t *)got->data + got->bytes;
    for (int i = 0; i < 8; i++) assert_int_equal(beyond[i], 0x5a);
}

static void run_target(bench *b, const char *target, const kiln_tensor *want)
{
    kiln_graph *graph = b->graph;
    kiln_compile_options options = {.struct_bytes = sizeof options, .target_cpu = target};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_compile(graph, &options, &executable)) fail_msg("%s", kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    kiln_tensor *got = kiln_new_array(&b->scope->arena, kiln_tensor, graph->outputs.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        got[i] = new_tensor(b->scope, kiln_graph_type(graph, graph->outputs.at[i].value));
    if (kiln_run(workspace, b->inputs, graph->inputs.n, got, graph->outputs.n))
        fail_msg("%s", kiln_workspace_message(workspace));
    for (uint32_t i = 0; i < graph->outputs.n; i++) check_output(b, target, i, &want[i], &got[i]);
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void bench_run(bench *b)
{
    static const char *const targets[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
    kiln_graph *graph = b->graph;
    kiln_tensor *want = kiln_new_array(&b->scope->arena, kiln_tensor, graph->outputs.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        want[i] = new_tensor(b->scope, kiln_graph_type(graph, graph->outputs.at[i].value));
    if (kiln_evaluate(graph, b->inputs, graph->inputs.n, want, graph->outputs.n))
        fail_msg("%s", kiln_graph_message(graph));
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        bool is_last = i == 2 || !compiled_can_run(targets[i + 1]);
        if (b->is_widest_only && !is_last) continue;
        if (compiled_can_run(targets[i])) run_target(b, targets[i], want);
    }
}

void bench_do(bench_fn *fn, kiln_dtype dtype)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        bench b = {.scope = &scope, .graph = kiln_graph_open(&scope, context, "dtypes")};
        fn(&b, dtype);
        bench_run(&b);
    }
    kiln_scope_close(&scope);
    assert_string_equal(error.message, "");
}
