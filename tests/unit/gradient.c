/* Differentiation: every op with a rule against central differences of the evaluator in f64, what
 * is built compiled against the evaluator, refusals, conventions and mistakes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/gradient.h"
#include "tests/unit/gradient_cases.h"

#define MAX_ELEMENTS 512

static kiln_context *context;

static int set_up(void **state)
{
    (void)state;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 1};
    return kiln_context_create(&options, &context);
}

static int tear_down(void **state)
{
    (void)state;
    kiln_context_destroy(context);
    return 0;
}

static kiln_graph *open_graph(void)
{
    kiln_graph *graph;
    assert_int_equal(kiln_graph_create(context, "gradient", &graph), KILN_OK);
    return graph;
}

/* Numbers in 0 … 1, the same in every run. */
static double fraction(uint32_t seed)
{
    uint32_t h = seed * 2654435761u + 97;
    h = (h ^ h >> 15) * 2246822519u;
    h = (h ^ h >> 13) * 3266489917u;
    return ((h ^ h >> 16) >> 8) / 16777216.0;
}

kiln_value bench_draw(gradient_bench *b, double low, double high, uint32_t rank,
                      const int64_t *dims)
{
    char name[] = {'x', (char)('0' + b->n), 0};
    kiln_value value = kiln_input(b->graph, name, KILN_f64, rank, dims);
    b->inputs[b->n] = value;
    b->low[b->n] = low;
    b->high[b->n++] = high;
    return value;
}

static size_t count_elements(const kiln_graph *graph, kiln_value value)
{
    size_t n = 1;
    for (uint32_t i = 0; i < kiln_value_rank(graph, value); i++)
        n *= (size_t)kiln_value_dims(graph, value)[i];
    assert_true(n <= MAX_ELEMENTS);
    return n;
}

static kiln_tensor tensor_of(const kiln_graph *graph, kiln_value value, double *data)
{
    return (kiln_tensor){.dtype = KILN_f64,
                         .rank = kiln_value_rank(graph, value),
                         .dims = kiln_value_dims(graph, value),
                         .data = data,
                         .bytes = count_elements(graph, value) * sizeof *data};
}

static void check_graph(const kiln_graph *graph, const char *call)
{
    if (kiln_graph_status(graph)) fail_msg("%s: %s", call, kiln_graph_message(graph));
}

/* One case at work: f has output y, df the gradients of sum(y * weight). */
typedef struct case_run {
    const gradient_case *row;
    gradient_bench f, df;
    kiln_value y, gradients[MAX_DRAWN];
    size_t n_y;
    double x[MAX_DRAWN][MAX_ELEMENTS], weight[MAX_ELEMENTS];
    kiln_tensor inputs[MAX_DRAWN];
} case_run;

static void run_open(case_run *run, const gradient_case *row)
{
    memset(run, 0, sizeof *run);
    run->row = row;
    run->f.graph = open_graph();
    run->df.graph = open_graph();
    run->y = row->build(&run->f);
    kiln_output(run->f.graph, "y", run->y);
    check_graph(run->f.graph, row->call);
    run->n_y = count_elements(run->f.graph, run->y);
    for (size_t i = 0; i < run->n_y; i++) run->weight[i] = fraction((uint32_t)i + 777) + 0.5;
    for (uint32_t i = 0; i < run->f.n; i++) {
        double low = run->f.low[i], range = run->f.high[i] - low;
        size_t n = count_elements(run->f.graph, run->f.inputs[i]);
        for (size_t k = 0; k < n; k++)
            run->x[i][k] = low + range * fraction((uint32_t)k * 7 + i * 1000 + 1);
        run->inputs[i] = tensor_of(run->f.graph, run->f.inputs[i], run->x[i]);
    }
}

static void run_differentiate(case_run *run)
{
    kiln_graph *g = run->df.graph;
    kiln_value y = run->row->build(&run->df);
    kiln_value weight =
        kiln_constant(g, KILN_f64, kiln_value_rank(g, y), kiln_value_dims(g, y), run->weight);
    kiln_arguments values = {run->df.n, run->df.inputs};
    kiln_gradient(g, y, weight, &values, run->gradients);
    for (uint32_t i = 0; i < values.n; i++) kiln_output(g, NULL, run->gradients[i]);
    check_graph(g, run->row->call);
}

static void run_close(case_run *run)
{
    kiln_graph_destroy(run->f.graph);
    kiln_graph_destroy(run->df.graph);
}

static double weighted_sum(case_run *run)
{
    double y[MAX_ELEMENTS], sum = 0;
    kiln_tensor out = tensor_of(run->f.graph, run->y, y);
    if (kiln_evaluate(run->f.graph, run->inputs, run->f.n, &out, 1))
        fail_msg("%s: %s", run->row->call, kiln_graph_message(run->f.graph));
    for (size_t i = 0; i < run->n_y; i++) sum += y[i] * run->weight[i];
    return sum;
}

static void evaluate_gradients(case_run *run, double out[MAX_DRAWN][MAX_ELEMENTS])
{
    kiln_tensor outputs[MAX_DRAWN];
    for (uint32_t i = 0; i < run->df.n; i++)
        outputs[i] = tensor_of(run->df.graph, run->gradients[i], out[i]);
    if (kiln_evaluate(run->df.graph, run->inputs, run->df.n, outputs, run->df.n))
        fail_msg("%s: %s", run->row->call, kiln_graph_message(run->df.graph));
}

/* (f(x + h) - f(x - h)) / 2 h for each element of each input. */
static void check_differences(case_run *run)
{
    static double found[MAX_DRAWN][MAX_ELEMENTS];
    evaluate_gradients(run, found);
    for (uint32_t i = 0; i < run->f.n; i++) {
        size_t n = count_elements(run->f.graph, run->f.inputs[i]);
        for (size_t k = 0; k < n; k++) {
            double x = run->x[i][k], h = 1e-5;
            run->x[i][k] = x + h;
            double above = weighted_sum(run);
            run->x[i][k] = x - h;
            double slope = (above - weighted_sum(run)) / (2 * h);
            run->x[i][k] = x;
            if (!(fabs(found[i][k] - slope) <= 1e-6 * (1 + fabs(slope))))
                fail_msg("%s: gradient %zu of input %u at %g is %.12g; differences give %.12g",
                         run->row->call, k, i, x, found[i][k], slope);
        }
    }
}

static bool has_op(const kiln_graph *graph, kiln_op op)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (graph->nodes.at[id]->op == op) return true;
    }
    return false;
}

static const gradient_case *const tables[] = {elementwise_cases, move_cases, reduce_cases,
                                              contract_cases};
#define N_TABLES (sizeof tables / sizeof *tables)

static void test_differences(void **state)
{
    (void)state;
    static case_run run;
    bool is_covered[KILN_N_OPS] = {false};
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const gradient_case *row = tables[t]; row->op; row++) {
            run_open(&run, row);
            run_differentiate(&run);
            if (!has_op(run.f.graph, row->op)) fail_msg("%s: not in its graph", row->call);
            check_differences(&run);
            is_covered[row->op] = true;
            run_close(&run);
        }
    }
    for (int op = 1; op < KILN_N_OPS; op++) {
        kiln_derivative_kind kind = kiln_derivative_rows[op].kind;
        bool has_rule = kind == KILN_DERIVATIVE_RULE || kind == KILN_DERIVATIVE_EXPANSION;
        if (has_rule && !is_covered[op]) fail_msg("%s has no case", kiln_op_rows[op].name);
    }
}

/* What passes and kernels make of the gradients is what the evaluator makes of them. */
static void check_compiled(case_run *run)
{
    static double expected[MAX_DRAWN][MAX_ELEMENTS], found[MAX_DRAWN][MAX_ELEMENTS];
    kiln_graph *g = run->df.graph;
    kiln_tensor outputs[MAX_DRAWN];
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    evaluate_gradients(run, expected);
    for (uint32_t i = 0; i < run->df.n; i++) outputs[i] = tensor_of(g, run->gradients[i], found[i]);
    if (kiln_compile(g, NULL, &executable))
        fail_msg("%s: %s", run->row->call, kiln_graph_message(g));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    if (kiln_run(workspace, run->inputs, run->df.n, outputs, run->df.n))
        fail_msg("%s: %s", run->row->call, kiln_workspace_message(workspace));
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    for (uint32_t i = 0; i < run->df.n; i++) {
        for (size_t k = 0; k < count_elements(g, run->gradients[i]); k++) {
            double y = expected[i][k];
            if (!(fabs(found[i][k] - y) <= 1e-9 * (1 + fabs(y))))
                fail_msg("%s: gradient %zu of input %u is %.17g compiled and %.17g evaluated",
                         run->row->call, k, i, found[i][k], y);
        }
    }
}

static void test_compiled(void **state)
{
    (void)state;
    static case_run run;
    for (size_t t = 1; t < N_TABLES; t++) {
        for (const gradient_case *row = tables[t]; row->op; row++) {
            run_open(&run, row);
            run_differentiate(&run);
            check_compiled(&run);
            run_close(&run);
        }
    }
}

/* Conventions, by values of one gradient at one element each. */

static kiln_value number(kiln_graph *g, double value)
{
    return kiln_scalar(g, KILN_f64, value);
}

/* Of f(x) at `at`, with respect to x. */
static double slope(kiln_value (*f)(kiln_graph *g, kiln_value x), double at)
{
    kiln_graph *g = open_graph();
    kiln_value x = kiln_input(g, "x", KILN_f64, 0, NULL), dx;
    kiln_gradient(g, f(g, x), (kiln_value){0, 0}, &(kiln_arguments){1, &x}, &dx);
    kiln_output(g, NULL, dx);
    check_graph(g, "slope");
    double y = 0;
    kiln_tensor in = tensor_of(g, x, &at), out = tensor_of(g, dx, &y);
    if (kiln_evaluate(g, &in, 1, &out, 1)) fail_msg("%s", kiln_graph_message(g));
    kiln_graph_destroy(g);
    return y;
}

static kiln_value with_zero_max(kiln_graph *g, kiln_value x)
{
    return kiln_max(g, x, number(g, 0));
}

static kiln_value with_narrow(kiln_graph *g, kiln_value x)
{
    return kiln_convert(g, kiln_mul(g, kiln_convert(g, x, KILN_f32), kiln_scalar(g, KILN_f32, 3)),
                        KILN_f64);
}

static kiln_value with_steps(kiln_graph *g, kiln_value x)
{
    return kiln_add(g, kiln_floor(g, x), kiln_mul(g, kiln_sign(g, x), x));
}

static kiln_value with_elu(kiln_graph *g, kiln_value x)
{
    return kiln_elu(g, x, 2);
}

static kiln_value with_rounding(kiln_graph *g, kiln_value x)
{
    return kiln_reduce_precision(g, kiln_square(g, x), 8, 3);
}

static void test_conventions(void **state)
{
    (void)state;
    assert_true(slope(kiln_relu, 0) == 0 && slope(kiln_relu, 1) == 1);
    assert_true(slope(kiln_relu6, 6) == 0 && slope(kiln_abs, 0) == 0);
    assert_true(slope(with_zero_max, 0) == 0.5);
    assert_true(slope(with_steps, 3.5) == 1 && slope(with_steps, -3.5) == -1);
    assert_true(slope(with_narrow, 1.1) == 3);
    assert_true(slope(kiln_softplus, 0) == 0.5);
    /* no infinity meets a zero */
    assert_true(slope(with_elu, 1000) == 1 && slope(kiln_selu, 1e300) > 1.05);
    assert_true(slope(kiln_softplus, 1e300) == 1 && slope(kiln_softplus, -1e300) == 0);
    assert_true(slope(kiln_log_sigmoid, -1e300) == 1);
    /* as if nothing were rounded */
    assert_true(slope(with_rounding, 1.7) == 3.4);
}

/* d/dx (x^3), its derivative and the one after it. */
static void test_higher_orders(void **state)
{
    (void)state;
    kiln_graph *g = open_graph();
    kiln_value x = kiln_input(g, "x", KILN_f64, 0, NULL), y = kiln_mul(g, kiln_square(g, x), x);
    double at = 2, expected[] = {12, 12, 6}, found[3];
    kiln_tensor in = tensor_of(g, x, &at), out[3];
    for (int i = 0; i < 3; i++) {
        kiln_gradient(g, y, (kiln_value){0, 0}, &(kiln_arguments){1, &x}, &y);
        kiln_output(g, NULL, y);
        check_graph(g, "higher orders");
        out[i] = tensor_of(g, y, &found[i]);
    }
    assert_int_equal(kiln_evaluate(g, &in, 1, out, 3), KILN_OK);
    for (int i = 0; i < 3; i++) assert_true(found[i] == expected[i]);
    kiln_graph_destroy(g);
}

/* y = h^2 + x with h = 3 x: of a value on the way, of what it hangs on, of what y does not know. */
static void test_values_on_the_way(void **state)
{
    (void)state;
    kiln_graph *g = open_graph();
    kiln_value x = kiln_input(g, "x", KILN_f64, 0, NULL);
    kiln_value other = kiln_input(g, "other", KILN_f64, DIMS(2));
    kiln_value h = kiln_mul(g, x, number(g, 3)), y = kiln_add(g, kiln_mul(g, h, h), x);
    kiln_value values[] = {h, x, other, y, x}, out[5];
    kiln_gradient(g, y, number(g, 2), &(kiln_arguments){5, values}, out);
    for (int i = 0; i < 5; i++) kiln_output(g, NULL, out[i]);
    check_graph(g, "values on the way");
    double at[] = {2, 0, 0}, found[5][2];
    kiln_tensor in[] = {tensor_of(g, x, at), tensor_of(g, other, at + 1)}, outputs[5];
    for (int i = 0; i < 5; i++) outputs[i] = tensor_of(g, out[i], found[i]);
    assert_int_equal(kiln_evaluate(g, in, 2, outputs, 5), KILN_OK);
    assert_true(found[0][0] == 24 && found[1][0] == 74 && found[4][0] == 74);
    assert_true(found[2][0] == 0 && found[2][1] == 0 && found[3][0] == 2);
    kiln_graph_destroy(g);
}

/* Refusals and mistakes */

static kiln_value refuse_while(kiln_graph *g, kiln_value x)
{
    kiln_graph *condition = open_graph(), *body = open_graph();
    kiln_value a = kiln_input(condition, "a", KILN_f64, 0, NULL);
    kiln_output(condition, NULL, kiln_lt(condition, a, number(condition, 9)));
    a = kiln_input(body, "a", KILN_f64, 0, NULL);
    kiln_output(body, NULL, kiln_mul(body, a, number(body, 2)));
    kiln_while_options options = {
        .condition = condition, .body = body, .n_carried = 1, .carried = &x};
    kiln_value y = kiln_item(g, kiln_while(g, &options), 0);
    kiln_graph_destroy(condition);
    kiln_graph_destroy(body);
    return y;
}

static kiln_value refuse_next_after(kiln_graph *g, kiln_value x)
{
    return kiln_next_after(g, x, number(g, 1));
}

static kiln_value refuse_complex(kiln_graph *g, kiln_value x)
{
    return kiln_real(g, kiln_exp(g, kiln_complex(g, x, x)));
}

static kiln_value refuse_cumulative_prod(kiln_graph *g, kiln_value x)
{
    x = kiln_cumulative_prod(g, kiln_broadcast(g, x, DIMS(3), NULL), 0, NULL);
    return kiln_reduce_sum(g, x, 0, NULL);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        kiln_value (*f)(kiln_graph *g, kiln_value x);
        const char *op, *why;
    } rows[] = {
        {refuse_while, "gradient: while %", "expected kiln_scan"},
        {refuse_next_after, "gradient: next_after %", "has no derivative"},
        {refuse_complex, "gradient: real %", "complex"},
        {refuse_cumulative_prod, "gradient: cumulative_prod %", "running product"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_graph *g = open_graph();
        kiln_value x = kiln_input(g, "x", KILN_f64, 0, NULL), dx = x;
        kiln_gradient(g, rows[i].f(g, x), (kiln_value){0, 0}, &(kiln_arguments){1, &x}, &dx);
        assert_int_equal(kiln_graph_status(g), KILN_UNSUPPORTED);
        const char *message = kiln_graph_message(g);
        if (strncmp(message, rows[i].op, strlen(rows[i].op)) || !strstr(message, rows[i].why))
            fail_msg("%s", message);
        assert_int_equal(dx.id, 0);
        kiln_graph_destroy(g);
    }
    for (int op = 1; op < KILN_N_OPS; op++) {
        const kiln_derivative_row *row = &kiln_derivative_rows[op];
        assert_int_not_equal(row->kind, KILN_DERIVATIVE_NONE);
        if (row->kind == KILN_DERIVATIVE_REFUSED) assert_true(strlen(row->what) > 8);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    static const char *const sentences[] = {
        "gradient: the result is f64[2] and there is no cotangent; expected one element",
        "gradient: the cotangent is f64[]; expected f64[2]",
        "gradient: the result is i64[]; expected a float",
        "gradient: a value is i64[]; expected a float",
    };
    for (int i = 0; i < 4; i++) {
        kiln_graph *g = open_graph();
        kiln_value x = kiln_input(g, "x", KILN_f64, DIMS(2)), n = kiln_scalar(g, KILN_i64, 1);
        kiln_value none = {0, 0}, dx;
        kiln_gradient(g, i == 2 ? n : x,
                      i == 1   ? number(g, 1)
                      : i == 3 ? x
                               : none,
                      &(kiln_arguments){1, i == 3 ? &n : &x}, &dx);
        assert_int_equal(kiln_graph_status(g), KILN_INVALID);
        assert_string_equal(kiln_graph_message(g), sentences[i]);
        kiln_graph_destroy(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),       cmocka_unit_test(test_compiled),
        cmocka_unit_test(test_conventions),       cmocka_unit_test(test_higher_orders),
        cmocka_unit_test(test_values_on_the_way), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
