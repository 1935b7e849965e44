/* Random graphs as regions: bodies of loops, branches and scans over several values, some of which
 * are written over their operands. Compiled runs must agree with the evaluator, within bounds that
 * are followed through the trips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fuzz/oracle.h"
#include "kiln/kiln.h"
#include "random_graph.h"

#define TRIPS 20 /* more than a scan that is unrolled */
#define SLACK 4  /* of the bounds: rewrites round in another order */

/* A value of the type of `like` within -1 … 1: the first result of that type, or the operand moved
 * by the mean of one of the results. */
static kiln_value step_value(kiln_graph *graph, kiln_value like, const kiln_value *results,
                             uint32_t first)
{
    const kiln_type *type = kiln_graph_type(graph, like);
    for (uint32_t i = 0; i < RANDOM_GRAPH_OUTPUTS; i++) {
        kiln_value result = results[(first + i) % RANDOM_GRAPH_OUTPUTS];
        if (kiln_graph_type(graph, result) == type)
            return kiln_add_unary(graph, KILN_OP_tanh, result);
    }
    kiln_value small = kiln_add_unary(graph, KILN_OP_tanh, results[first % RANDOM_GRAPH_OUTPUTS]);
    uint32_t rank = kiln_graph_type(graph, small)->rank;
    const int64_t axes[] = {0, 1, 2, 3, 4, 5};
    kiln_value sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, small, rank, axes);
    kiln_value factor = kiln_add_splat_like(graph, like, 0.5);
    kiln_value half = kiln_add_binary(graph, KILN_OP_mul, like, factor);
    kiln_value wide = kiln_add_broadcast(graph, sum, type->rank, type->dims, NULL);
    return kiln_add_unary(graph, KILN_OP_tanh, kiln_add_binary(graph, KILN_OP_add, half, wide));
}

/* (a, b, c, d) -> values of their types, in another order of sources for every seed. */
static void add_step(kiln_scope *scope, kiln_graph *graph, const kiln_value *args, uint64_t seed,
                     kiln_value *out)
{
    kiln_graph *random = kiln_graph_open(scope, NULL, "random");
    kiln_value results[RANDOM_GRAPH_OUTPUTS];
    random_graph_build(random, seed);
    kiln_graph_inline(graph, random, args, results);
    for (uint32_t i = 0; i < RANDOM_GRAPH_INPUTS; i++)
        out[i] = step_value(graph, args[i], results, (uint32_t)(seed + i));
}

/* The inputs of a random graph of that seed, in a graph. */
static void add_inputs(kiln_scope *scope, kiln_graph *graph, uint64_t seed, kiln_value *out)
{
    kiln_graph *random = kiln_graph_open(scope, NULL, "random");
    random_graph_build(random, seed);
    for (uint32_t i = 0; i < RANDOM_GRAPH_INPUTS; i++) {
        const kiln_node *input = kiln_graph_node(random, random->inputs.at[i]);
        out[i] = kiln_add_input(graph, kiln_graph_retype(graph, input->type), input->label, false);
    }
}

static kiln_value long_scalar(kiln_graph *graph, int64_t value)
{
    return kiln_add_constant(graph, kiln_graph_tensor(graph, KILN_i64, 0, NULL), &value);
}

static void add_results(kiln_graph *graph, kiln_value tuple, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) kiln_add_output(graph, kiln_add_item(graph, tuple, i), NULL);
}

static kiln_value add_region_node(kiln_graph *graph, kiln_op op, uint32_t n,
                                  const kiln_value *inputs, const kiln_attrs *attrs)
{
    return kiln_graph_add(graph, &(kiln_node_spec){op, NULL, inputs, n, attrs, NULL});
}

/* One branch is a random graph, the other another of the same inputs. */
static void build_if(kiln_scope *scope, kiln_graph *graph, uint64_t seed)
{
    kiln_value inputs[RANDOM_GRAPH_INPUTS + 1];
    const kiln_graph *regions[2];
    add_inputs(scope, graph, seed, inputs + 1);
    kiln_value sum = kiln_add_unary(graph, KILN_OP_tanh, inputs[1]);
    sum = kiln_add_reduce(graph, KILN_OP_reduce_sum, sum, 2, (int64_t[]){0, 1});
    inputs[0] = kiln_add_binary(graph, KILN_OP_gt, sum, kiln_add_splat_like(graph, sum, 0));
    for (uint32_t r = 0; r < 2; r++) {
        kiln_graph *region = kiln_graph_open(scope, NULL, "branch");
        kiln_value args[RANDOM_GRAPH_INPUTS], results[RANDOM_GRAPH_INPUTS];
        add_inputs(scope, region, seed, args);
        add_step(scope, region, args, seed + 8 * r, results);
        for (uint32_t i = 0; i < RANDOM_GRAPH_INPUTS; i++)
            kiln_add_output(region, results[i], NULL);
        kiln_region_close(scope, region);
        regions[r] = region;
    }
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {{2, regions}}};
    add_results(graph, add_region_node(graph, KILN_OP_if, 5, inputs, &attrs), 4);
}

static kiln_value add_barrier(kiln_graph *graph, kiln_value value)
{
    kiln_attrs attrs = {KILN_FAMILY_serial, .serial = {graph->n_serials}};
    kiln_node_spec spec = {KILN_OP_barrier, NULL, &value, 1, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

/* Three trips, which no pass may know; a, b and c go around, d stays. */
static void build_while(kiln_scope *scope, kiln_graph *graph, uint64_t seed)
{
    kiln_value inputs[RANDOM_GRAPH_INPUTS + 1];
    const kiln_graph *regions[2];
    add_inputs(scope, graph, seed, inputs + 1);
    inputs[0] = add_barrier(graph, long_scalar(graph, 0));
    for (uint32_t r = 0; r < 2; r++) {
        kiln_graph *region = kiln_graph_open(scope, NULL, r ? "body" : "condition");
        kiln_value args[RANDOM_GRAPH_INPUTS], results[RANDOM_GRAPH_INPUTS];
        const kiln_type *number = kiln_graph_tensor(region, KILN_i64, 0, NULL);
        kiln_value trip = kiln_add_input(region, number, "trip", false);
        add_inputs(scope, region, seed, args);
        kiln_op op = r ? KILN_OP_add : KILN_OP_lt;
        kiln_add_output(region, kiln_add_binary(region, op, trip, long_scalar(region, r ? 1 : 3)),
                        NULL);
        if (r) add_step(scope, region, args, seed, results);
        for (uint32_t i = 0; r && i < 3; i++) kiln_add_output(region, results[i], NULL);
        kiln_region_close(scope, region);
        regions[r] = region;
    }
    kiln_attrs attrs = {KILN_FAMILY_loop, .loop = {4, 100, {2, regions}}};
    add_results(graph, add_region_node(graph, KILN_OP_while, 5, inputs, &attrs), 4);
}

/* a goes around, b is fed by rows, the step of c is stacked, d stays. */
static void build_scan(kiln_scope *scope, kiln_graph *graph, uint64_t seed)
{
    kiln_value inputs[RANDOM_GRAPH_INPUTS], args[RANDOM_GRAPH_INPUTS], results[RANDOM_GRAPH_INPUTS];
    add_inputs(scope, graph, seed, inputs);
    const kiln_type *row = kiln_graph_type(graph, inputs[1]);
    int64_t dims[KILN_MAX_RANK] = {TRIPS}, axes[KILN_MAX_RANK];
    for (uint32_t i = 0; i < row->rank; i++) {
        dims[i + 1] = row->dims[i];
        axes[i] = i + 1;
    }
    kiln_value rows = kiln_add_broadcast(graph, inputs[1], row->rank + 1, dims, axes);
    const kiln_type *stack = kiln_graph_tensor(graph, KILN_f32, row->rank + 1, dims);
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
    kiln_value numbers =
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, stack, NULL, 0, &axis, NULL});
    kiln_value sequence = kiln_add_binary(graph, KILN_OP_sub, rows, numbers);
    sequence = kiln_add_unary(graph, KILN_OP_tanh, sequence);
    kiln_graph *region = kiln_graph_open(scope, NULL, "body");
    add_inputs(scope, region, seed, args);
    add_step(scope, region, args, seed, results);
    kiln_add_output(region, results[0], NULL);
    kiln_add_output(region, results[2], NULL);
    kiln_region_close(scope, region);
    const kiln_graph *regions[] = {region};
    kiln_attrs attrs = {KILN_FAMILY_scan, .scan = {1, 1, TRIPS, {1, regions}}};
    kiln_value operands[] = {inputs[0], sequence, inputs[2], inputs[3]};
    add_results(graph, add_region_node(graph, KILN_OP_scan, 4, operands, &attrs), 2);
}

/* Where a path depends on a value that is itself inexact nothing is known. */
static void check_outputs(kiln_scope *scope, kiln_graph *graph, uint64_t seed,
                          const kiln_tensor *inputs, const kiln_tensor *outputs)
{
    fuzz_case c = {graph, inputs};
    const fuzz_oracle *oracle = fuzz_oracle_open(scope, &c);
    for (uint32_t i = 0; i < graph->outputs.n && !oracle->free.is_loose; i++) {
        const kiln_type *type = oracle->types[i];
        const double *errors =
            bound_scaled(&scope->arena, oracle->free.errors[i], type->n_elements, SLACK);
        bound_miss miss = bound_compare(type, outputs[i].data, oracle->values[i], errors);
        if (miss.index >= 0)
            fail_msg("seed %llu: output %u element %lld: %.9g; expected %.9g within %g",
                     (unsigned long long)seed, i, (long long)miss.index, miss.found, miss.expected,
                     miss.bound);
    }
}

static kiln_tensor new_tensor(const kiln_graph *graph, kiln_value value)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    return (kiln_tensor){type->dtype, type->rank, type->dims, calloc(1, (size_t)type->bytes + 64),
                         (size_t)type->bytes};
}

static void run_compiled(const kiln_graph *graph, uint64_t seed, const kiln_tensor *inputs,
                         const kiln_tensor *outputs)
{
    kiln_compile_options options = {
        .struct_bytes = sizeof options, .is_unfused = seed % 5 == 0, .compile_threads = 1};
    kiln_executable *executable = NULL;
    kiln_workspace *workspace = NULL;
    if (kiln_compile(graph, &options, &executable))
        fail_msg("seed %llu: %s", (unsigned long long)seed, kiln_graph_message(graph));
    assert_int_equal(kiln_workspace_create(executable, &workspace), KILN_OK);
    for (int twice = 0; twice < 2; twice++) {
        if (kiln_run(workspace, inputs, graph->inputs.n, outputs, graph->outputs.n))
            fail_msg("seed %llu: %s", (unsigned long long)seed, kiln_workspace_message(workspace));
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
}

static void check_graph(kiln_scope *scope, kiln_graph *graph, uint64_t seed)
{
    kiln_tensor inputs[RANDOM_GRAPH_INPUTS], outputs[4];
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        inputs[i] = new_tensor(graph, graph->inputs.at[i]);
        random_graph_fill(seed * 4 + i, inputs[i].data, inputs[i].bytes / sizeof(float));
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        outputs[i] = new_tensor(graph, graph->outputs.at[i].value);
    run_compiled(graph, seed, inputs, outputs);
    check_outputs(scope, graph, seed, inputs, outputs);
    for (uint32_t i = 0; i < graph->outputs.n; i++) free(outputs[i].data);
    for (uint32_t i = 0; i < graph->inputs.n; i++) free(inputs[i].data);
}

/* KILN_SEEDS=FIRST:LAST runs others than the usual few. */
static void test_regions_agree_with_the_evaluator(void **state)
{
    (void)state;
    typedef void build_fn(kiln_scope *, kiln_graph *, uint64_t);
    static build_fn *const builds[] = {build_if, build_while, build_scan};
    unsigned long long first = 0, last = 8;
    const char *seeds = getenv("KILN_SEEDS");
    if (seeds) assert_int_equal(sscanf(seeds, "%llu:%llu", &first, &last), 2);
    kiln_context *context = NULL;
    kiln_context_options options = {.struct_bytes = sizeof options, .threads = 2};
    assert_int_equal(kiln_context_create(&options, &context), KILN_OK);
    for (uint64_t seed = first; seed <= last; seed++) {
        kiln_error error = {0};
        kiln_scope scope;
        kiln_scope_open(&scope, &error);
        if (kiln_scope_try(&scope)) {
            kiln_graph *graph = kiln_graph_open(&scope, context, "test");
            builds[seed % 3](&scope, graph, seed);
            check_graph(&scope, graph, seed);
        }
        kiln_scope_close(&scope);
        assert_string_equal(error.message, "");
    }
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_regions_agree_with_the_evaluator)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
