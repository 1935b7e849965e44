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

static const gradient_case *const tables[] = {elementwise_cases, move_cases};
#define N_TABLES (sizeof tables / sizeof *tables)

static void test_differences(void **state)
{
    (void)state;
    static case_run run;
    for (size_t t = 0; t < N_TABLES; t++) {
        for (const gradient_case *row = tables[t]; row->op; row++) {
            run_open(&run, row);
            run_differentiate(&run);
            assert_true(has_op(run.f.graph, row->op));
            check_differences(&run);
            run_close(&run);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
