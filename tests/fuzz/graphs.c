/* Differential fuzzing: random graphs, compiled in several ways, against the evaluator and against
 * each other. `fuzz-graphs [--seed N] [--count N] [--seconds S] [--keep-going]`; a failing graph is
 * shrunk and printed with the seed that makes it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuzz/check.h"
#include "fuzz/generate.h"
#include "fuzz/shrink.h"
#include "ops/bound.h"

typedef struct fuzz_run {
    fuzz_checker checker;
    uint64_t n_graphs, n_nodes, n_failures, n_invalid;
    uint64_t n_elements, n_bounded; /* of outputs; those with a sharp bound */
    uint64_t seen[16][16];          /* pairs of classes, producer and consumer */
} fuzz_run;

#define LINKED_EVERY 100

typedef struct shrink_goal {
    fuzz_run *run;
    fuzz_failure failure;
} shrink_goal;

static bool fails_alike(void *user, const fuzz_case *candidate)
{
    shrink_goal *goal = user;
    kiln_error error = {0};
    kiln_scope scope;
    volatile bool is_alike = false;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        fuzz_how how = {false, goal->failure.variant};
        fuzz_failure found = fuzz_check(&goal->run->checker, &scope, candidate, &how);
        is_alike = found.variant == goal->failure.variant && found.status == goal->failure.status;
        if (is_alike) goal->failure = found;
    }
    kiln_scope_close(&scope);
    return is_alike;
}

static void report_failure(fuzz_run *run, kiln_scope *scope, const fuzz_graph *g,
                           const fuzz_failure *failure)
{
    shrink_goal goal = {run, *failure};
    fuzz_case start = {g->batch.graph, g->batch.inputs.at};
    fuzz_case small = fuzz_shrink(scope, start, fails_alike, &goal);
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print(small.graph, &text);
    fprintf(stderr, "%s: %s\nshrunk: %s\n%s\n", g->batch.name, failure->sentence,
            goal.failure.sentence, kiln_text_string(&text));
}

static void note_coverage(fuzz_run *run, const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            run->seen[kiln_node_row(kiln_graph_node(graph, node->inputs[i]))->class_]
                     [kiln_node_row(node)->class_]++;
        }
        run->n_nodes++;
    }
}

/* How sharp the comparison is: output elements that may differ by less than one part in 1,000. */
static void note_bounds(fuzz_run *run, kiln_scope *scope, const fuzz_graph *g)
{
    const bounds *b = bounds_open(scope, g->batch.graph, g->batch.inputs.at);
    for (uint32_t i = 0; i < g->batch.graph->outputs.n; i++) {
        kiln_value value = b->map[g->batch.graph->outputs.at[i].value.id];
        const kiln_type *type = kiln_graph_type(b->graph, value);
        const double *errors = b->errors[value.id];
        run->n_elements += (uint64_t)type->n_elements;
        for (int64_t at = 0; at < type->n_elements; at++) {
            double expected;
            kiln_element_load_double(type->dtype, b->values[value.id], at, 1, &expected);
            run->n_bounded += !errors || errors[at] <= fabs(expected) * 1e-3 || errors[at] == 0;
        }
    }
}

static bool run_seed(fuzz_run *run, uint64_t seed)
{
    kiln_error error = {0};
    kiln_scope scope;
    volatile bool is_good = false;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        fuzz_graph *g = fuzz_generate(&scope, seed);
        note_coverage(run, g->batch.graph);
        if (run->n_graphs % 16 == 0) note_bounds(run, &scope, g);
        fuzz_case c = {g->batch.graph, g->batch.inputs.at};
        fuzz_how how = {seed % LINKED_EVERY == 0, -1};
        fuzz_failure failure = fuzz_check(&run->checker, &scope, &c, &how);
        is_good = failure.variant < 0;
        if (!is_good) report_failure(run, &scope, g, &failure);
    }
    run->n_graphs++;
    if (kiln_scope_close(&scope) != KILN_OK) {
        fprintf(stderr, "seed %llu: not valid: %s\n", (unsigned long long)seed, error.message);
        run->n_invalid++;
    }
    run->n_failures += !is_good;
    return is_good;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_summary(const fuzz_run *run, uint64_t seed, double seconds)
{
    int n_pairs = 0, n_possible = 0;
    for (int from = 0; from <= KILN_COMPOSITE; from++) {
        for (int to = KILN_ELEMENTWISE; to <= KILN_COMPOSITE; to++) {
            bool is_made = from != KILN_ROUTINE && from != KILN_REGION && to != KILN_ROUTINE &&
                           to != KILN_REGION;
            n_possible += is_made;
            n_pairs += is_made && run->seen[from][to] > 0;
        }
    }
    printf(
        "%llu graphs from seed %llu in %.1f s, %llu nodes, %llu kernels, %llu compiled, %llu "
        "linked, %d of %d pairs of "
        "classes, "
        "%.0f %% of elements bounded to 0.1 %%, %llu not valid, %llu unsupported, %llu failures\n",
        (unsigned long long)run->n_graphs, (unsigned long long)seed, seconds,
        (unsigned long long)run->n_nodes, (unsigned long long)run->checker.n_kernels,
        (unsigned long long)run->checker.n_compiled, (unsigned long long)run->checker.n_linked,
        n_pairs, n_possible,
        run->n_elements ? 100.0 * (double)run->n_bounded / (double)run->n_elements : 100.0,
        (unsigned long long)run->n_invalid, (unsigned long long)run->checker.n_unsupported,
        (unsigned long long)run->n_failures);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, count = UINT64_MAX;
    double limit = 0;
    bool keeps_going = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--keep-going") == 0)
            keeps_going = true;
        else if (strcmp(argv[i], "--seed") == 0 && has_value)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0 && has_value)
            count = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0 && has_value)
            limit = strtod(argv[++i], NULL);
        else
            return 2;
    }
    if (count == UINT64_MAX && limit == 0) count = 100;
    fuzz_run run = {0};
    if (!fuzz_checker_open(&run.checker)) return 1;
    double start = seconds_now();
    for (uint64_t i = 0; i < count; i++) {
        if (limit > 0 && seconds_now() - start > limit) break;
        if (!run_seed(&run, seed + i) && !keeps_going) break;
    }
    fuzz_checker_close(&run.checker);
    print_summary(&run, seed, seconds_now() - start);
    return run.n_failures > 0;
}
