/* Dtypes compiled against the evaluator on every CPU model: all patterns of 4, 8 and 16 bits
 * through every conversion and elementwise op, the odd values of wider ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/element.h"
#include "kiln/kiln.h"
#include "kiln/program.h"
#include "ops/compiled.h"

static kiln_context *context;

static int set_up(void **state)
{
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    return kiln_context_create(&options, &context);
}

static int tear_down(void **state)
{
    kiln_context_destroy(context);
    return 0;
}

static const kiln_dtype all_dtypes[] = {
#define KILN_DTYPE(name, number, bits, kind) KILN_##name,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
};
#define N_DTYPES (sizeof all_dtypes / sizeof *all_dtypes)

static bool is_real(kiln_dtype dtype)
{
    return !kiln_dtype_in(dtype, KILN_TYPES_COMPLEX);
}

/* A test in the making: a graph over inputs whose values are known. */
typedef struct bench {
    kiln_scope *scope;
    kiln_graph *graph;
    kiln_tensor inputs[3];
    int steps; /* by which floats may differ */
} bench;

static kiln_tensor new_tensor(kiln_scope *scope, const kiln_type *type)
{
    void *data = kiln_arena_alloc(&scope->arena, (size_t)type->bytes + 8);
    memset(data, 0x5a, (size_t)type->bytes + 8);
    return (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
}

static kiln_value bench_input(bench *b, kiln_dtype dtype, int64_t n)
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
    uint64_t bits = 0;
    kiln_element_copy(tensor->dtype, &bits, 0, tensor->data, i);
    return bits;
}

static bool is_same(const kiln_tensor *a, const kiln_tensor *b, int64_t i, int steps)
{
    uint64_t x = bits_at(a, i), y = bits_at(b, i);
    if (x == y) return true;
    if (!kiln_dtype_in(a->dtype, KILN_TYPES_FLOAT)) return false;
    double f = kiln_tensor_get(a, i), g = kiln_tensor_get(b, i);
    if (isnan(f) || isnan(g)) return isnan(f) && isnan(g);
    return llabs(order_of(a->dtype, x) - order_of(a->dtype, y)) <= steps;
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
        if (is_same(want, got, i, b->steps) || is_nan_bits(b, output->name, i)) continue;
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
    bool has_half = kiln_dtype_bits(got->dtype) == 4 && n % 2;
    if (has_half) assert_int_equal(((uint8_t *)got->data)[n / 2] >> 4, 0);
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
        if (compiled_can_run(targets[i])) run_target(b, targets[i], want);
    }
}

typedef void bench_fn(bench *b, kiln_dtype dtype);

/* Builds and runs in a scope of its own. */
static void bench_do(bench_fn *fn, kiln_dtype dtype)
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

/* Values */

/* Every pattern of a dtype of at most 16 bits, `times` times each, in turns. */
static kiln_value every_pattern(bench *b, kiln_dtype dtype, int64_t each, int64_t turns)
{
    int64_t n = (int64_t)1 << kiln_dtype_bits(dtype), at = 0;
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, n * each * turns);
    for (int64_t turn = 0; turn < turns; turn++) {
        for (int64_t i = 0; i < n * each; i++) {
            uint64_t bits = (uint64_t)(i / each);
            kiln_element_copy(dtype, b->inputs[number].data, at++, &bits, 0);
        }
    }
    return value;
}

#define MAX_ODD 4096

/* Values around every edge of every narrow float and integer, for a wider dtype. */
static int64_t odd_values(double *out)
{
    static const double plain[] = {0, 1, 0.5, 1.5, 2.5, 1e30, 1e-30, 1e300, 3e38, INFINITY, NAN};
    int64_t n = 0;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) out[n++] = plain[i];
    for (int bit = 2; bit <= 64; bit++) {
        double edge = ldexp(1, bit);
        out[n++] = edge;
        out[n++] = edge - 1;
        out[n++] = edge + 1;
        out[n++] = edge - 0.5;
    }
    static const kiln_dtype narrow[] = {KILN_f4e2m1, KILN_f8e4m3fn, KILN_f8e5m2, KILN_f8e4m3fnuz,
                                        KILN_f8e5m2fnuz};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        for (int code = 0; code < 1 << (kiln_dtype_bits(narrow[i]) - 1); code++) {
            double low = kiln_element_to_double(narrow[i], &(uint8_t){(uint8_t)code});
            double high = kiln_element_to_double(narrow[i], &(uint8_t){(uint8_t)(code + 1)});
            if (!isfinite(low)) continue;
            double middle = isfinite(high) && high > low ? (low + high) / 2 : low * 1.0625;
            out[n++] = middle;
            out[n++] = (double)nextafterf((float)middle, 0);
            out[n++] = nextafter(middle, 1e9);
        }
    }
    for (int64_t i = 0, half = n; i < half; i++) out[n++] = -out[i];
    return n;
}

static kiln_value odd_input(bench *b, kiln_dtype dtype)
{
    double values[MAX_ODD];
    int64_t n = odd_values(values);
    assert_true(n <= MAX_ODD);
    uint32_t number = b->graph->inputs.n;
    kiln_value value = bench_input(b, dtype, n);
    for (int64_t i = 0; i < n; i++) kiln_tensor_set(&b->inputs[number], i, values[i]);
    return value;
}

/* Graphs */

static void add_conversions(bench *b, kiln_value x)
{
    kiln_dtype from = kiln_graph_type(b->graph, x)->dtype;
    const kiln_type *type = kiln_graph_type(b->graph, x);
    for (size_t i = 0; i < N_DTYPES; i++) {
        kiln_dtype to = all_dtypes[i];
        if (!is_real(to)) continue;
        char name[32];
        snprintf(name, sizeof name, "to %s", kiln_dtype_name(to));
        kiln_add_output(b->graph, kiln_add_convert(b->graph, x, to), name);
        bool is_bits = to != KILN_bool && from != KILN_bool && to != from &&
                       kiln_dtype_bits(to) == kiln_dtype_bits(from);
        if (!is_bits) continue;
        snprintf(name, sizeof name, "as %s", kiln_dtype_name(to));
        kiln_node_spec spec = {.op = KILN_OP_bitcast, .inputs = &x, .n_inputs = 1};
        spec.given = kiln_graph_tensor(b->graph, to, type->rank, type->dims);
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), name);
    }
}

static bool is_plain_op(uint32_t op, uint32_t n_inputs, kiln_dtype dtype)
{
    const kiln_op_row *row = &kiln_op_rows[op];
    return row->class_ == KILN_ELEMENTWISE && row->min_inputs == n_inputs &&
           row->result != KILN_RESULT_GIVEN && op != KILN_OP_select &&
           kiln_dtype_in(dtype, row->types);
}

static void add_ops(bench *b, const kiln_value *inputs, uint32_t n_inputs)
{
    kiln_dtype dtype = kiln_graph_type(b->graph, inputs[0])->dtype;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        if (!is_plain_op(op, n_inputs, dtype)) continue;
        kiln_node_spec spec = {.op = (kiln_op)op, .inputs = inputs, .n_inputs = n_inputs};
        kiln_add_output(b->graph, kiln_graph_add(b->graph, &spec), kiln_op_rows[op].name);
    }
}

static void build_pattern_conversions(bench *b, kiln_dtype dtype)
{
    add_conversions(b, every_pattern(b, dtype, 1, 1));
}

static void build_odd_conversions(bench *b, kiln_dtype dtype)
{
    add_conversions(b, odd_input(b, dtype));
}

static void build_unary(bench *b, kiln_dtype dtype)
{
    kiln_value x = every_pattern(b, dtype, 1, 1);
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    add_ops(b, &x, 1);
}

static void build_binary(bench *b, kiln_dtype dtype)
{
    int64_t n = (int64_t)1 << kiln_dtype_bits(dtype);
    kiln_value inputs[2];
    inputs[0] = every_pattern(b, dtype, n, 1);
    inputs[1] = every_pattern(b, dtype, 1, n);
    b->steps = kiln_dtype_in(dtype, KILN_TYPES_FLOAT) ? 1 : 0;
    add_ops(b, inputs, 2);
}

static void test_conversions_of_every_pattern(void **state)
{
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (is_real(all_dtypes[i]) && kiln_dtype_bits(all_dtypes[i]) <= 16 &&
            all_dtypes[i] != KILN_bool)
            bench_do(build_pattern_conversions, all_dtypes[i]);
    }
}

static void test_conversions_of_odd_values(void **state)
{
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (is_real(all_dtypes[i]) && kiln_dtype_bits(all_dtypes[i]) > 16)
            bench_do(build_odd_conversions, all_dtypes[i]);
    }
}

static void test_unary_ops_of_every_pattern(void **state)
{
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (kiln_dtype_bits(all_dtypes[i]) <= 16) bench_do(build_unary, all_dtypes[i]);
    }
}

static void test_binary_ops_of_every_pair(void **state)
{
    for (size_t i = 0; i < N_DTYPES; i++) {
        bool is_narrow = kiln_dtype_bits(all_dtypes[i]) == 4;
        if (is_narrow || all_dtypes[i] == KILN_i8 || all_dtypes[i] == KILN_u8 ||
            all_dtypes[i] == KILN_f8e4m3fn)
            bench_do(build_binary, all_dtypes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions_of_every_pattern),
        cmocka_unit_test(test_conversions_of_odd_values),
        cmocka_unit_test(test_unary_ops_of_every_pattern),
        cmocka_unit_test(test_binary_ops_of_every_pair),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
