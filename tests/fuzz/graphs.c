/* Differential fuzzing: random graphs, compiled in several ways, against the evaluator and against
 * each other. `fuzz-graphs [--seed N] [--count N] [--seconds S] [--keep-going]`; a failing graph is
 * shrunk and printed with the seed that makes it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuzz/generate.h"
#include "fuzz/shrink.h"
#include "ops/compiled.h"

/* `slack` multiplies the bounds: rewrites may round in another order. */
typedef struct fuzz_variant {
    compiled_variant compiled;
    int same_as; /* index of the variant with the same bits, or -1 */
    bool f32_only;
    double slack;
} fuzz_variant;

static const fuzz_variant variants[] = {
    {{"strict unfused", NULL, 1, 1, 1}, -1, false, 1},
    {{"fused", NULL, 0, 0, 2}, -1, false, 4},
    {{"fused, one thread", NULL, 0, 0, 1}, 1, false, 4},
    {{"fused v3", "x86-64-v3", 0, 0, 1}, -1, true, 4},
    {{"fused v4", "x86-64-v4", 0, 0, 1}, 3, true, 4},
};
#define N_VARIANTS ((int)(sizeof variants / sizeof *variants))

typedef struct fuzz_run {
    compiled_contexts contexts;
    uint64_t n_graphs, n_nodes, n_kernels, n_failures, n_invalid, n_unsupported;
    uint64_t n_elements, n_bounded; /* of outputs; those with a sharp bound */
    uint64_t seen[16][16];          /* pairs of classes, producer and consumer */
} fuzz_run;

typedef struct fuzz_failure {
    int tried;   /* the variant at work */
    int variant; /* -1: none */
    kiln_status status;
    char sentence[KILN_MESSAGE_BYTES];
} fuzz_failure;

static bool has_only_f32(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        kiln_dtype dtype = graph->nodes.at[id]->type->dtype;
        if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT && dtype != KILN_f32) return false;
    }
    return true;
}

static const double *scaled(kiln_scope *scope, const double *errors, int64_t n, double slack)
{
    if (!errors) return NULL;
    double *copy = kiln_new_array(&scope->arena, double, n + 1);
    for (int64_t i = 0; i < n; i++) copy[i] = errors[i] * slack;
    return copy;
}

static void set_miss(fuzz_failure *failure, int variant, const char *output, const bound_miss *miss)
{
    failure->variant = variant;
    snprintf(failure->sentence, sizeof failure->sentence,
             "%s: output %s: %lld elements differ, the first is %lld: %.9g (%a), expected %.9g "
             "(%a) within %g",
             variants[variant].compiled.name, output, (long long)miss->n_missed,
             (long long)miss->index, miss->found, miss->found, miss->expected, miss->expected,
             miss->bound);
}

static void compare_bounds(kiln_scope *scope, const fuzz_case *c, const bounds *b,
                           const compiled_result *result, fuzz_failure *failure)
{
    int v = failure->tried;
    for (uint32_t i = 0; i < c->graph->outputs.n && failure->variant < 0; i++) {
        kiln_value value = b->map[c->graph->outputs.at[i].value.id];
        const kiln_type *type = kiln_graph_type(b->graph, value);
        const double *errors =
            scaled(scope, b->errors[value.id], type->n_elements, variants[v].slack);
        bound_miss miss = bound_compare(type, result->outputs[i].data, b->values[value.id], errors);
        if (miss.index >= 0) set_miss(failure, v, c->graph->outputs.at[i].name, &miss);
    }
    if (result->overrun >= 0 && failure->variant < 0) {
        failure->variant = v;
        snprintf(failure->sentence, sizeof failure->sentence,
                 "%s: output %d: written beyond its memory", variants[v].compiled.name,
                 result->overrun);
    }
}

static void compare_bits(const fuzz_case *c, int v, const compiled_result *results,
                         fuzz_failure *failure)
{
    const compiled_result *other = &results[variants[v].same_as];
    for (uint32_t i = 0; other->outputs && i < c->graph->outputs.n && failure->variant < 0; i++) {
        const kiln_type *type = kiln_graph_type(c->graph, c->graph->outputs.at[i].value);
        bound_miss miss =
            bound_compare(type, results[v].outputs[i].data, other->outputs[i].data, NULL);
        if (miss.index >= 0) set_miss(failure, v, c->graph->outputs.at[i].name, &miss);
    }
}

/* Compiles and compares; the first failure, or variant -1. `only` restricts to one variant and the
 * one it is compared with. */
static fuzz_failure check_case(fuzz_run *run, kiln_scope *scope, const fuzz_case *c, int only)
{
    fuzz_failure failure = {.variant = -1};
    compiled_result results[N_VARIANTS];
    memset(results, 0, sizeof results);
    const bounds *b = bounds_open(scope, c->graph, c->inputs);
    bool is_f32 = has_only_f32(c->graph);
    for (int v = 0; v < N_VARIANTS && failure.variant < 0; v++) {
        const fuzz_variant *variant = &variants[v];
        if (only >= 0 && v != only && v != variants[only].same_as) continue;
        if (variant->f32_only && !is_f32) continue;
        if (variant->compiled.target_cpu && !compiled_can_run(variant->compiled.target_cpu))
            continue;
        results[v] = compiled_run(scope, &run->contexts, c->graph, &variant->compiled, c->inputs);
        run->n_kernels += results[v].n_kernels;
        if (results[v].status == KILN_UNSUPPORTED) {
            run->n_unsupported++;
            continue;
        }
        if (results[v].status != KILN_OK) {
            failure = (fuzz_failure){.variant = v, .status = results[v].status};
            snprintf(failure.sentence, sizeof failure.sentence, "%s: %s: %.900s",
                     variant->compiled.name, kiln_status_name(results[v].status),
                     results[v].message);
            break;
        }
        failure.tried = v;
        compare_bounds(scope, c, b, &results[v], &failure);
        if (variant->same_as >= 0) compare_bits(c, v, results, &failure);
    }
    return failure;
}

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
        fuzz_failure found = check_case(goal->run, &scope, candidate, goal->failure.variant);
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
        fuzz_failure failure = check_case(run, &scope, &c, -1);
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
        "%llu graphs from seed %llu in %.1f s, %llu nodes, %llu kernels, %d of %d pairs of "
        "classes, "
        "%.0f %% of elements bounded to 0.1 %%, %llu not valid, %llu unsupported, %llu failures\n",
        (unsigned long long)run->n_graphs, (unsigned long long)seed, seconds,
        (unsigned long long)run->n_nodes, (unsigned long long)run->n_kernels, n_pairs, n_possible,
        run->n_elements ? 100.0 * (double)run->n_bounded / (double)run->n_elements : 100.0,
        (unsigned long long)run->n_invalid, (unsigned long long)run->n_unsupported,
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
    if (!compiled_contexts_open(&run.contexts)) return 1;
    double start = seconds_now();
    for (uint64_t i = 0; i < count; i++) {
        if (limit > 0 && seconds_now() - start > limit) break;
        if (!run_seed(&run, seed + i) && !keeps_going) break;
    }
    compiled_contexts_close(&run.contexts);
    print_summary(&run, seed, seconds_now() - start);
    return run.n_failures > 0;
}
