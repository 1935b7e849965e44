/* Differential fuzzing: random graphs, compiled in several ways, against the evaluator and against
 * each other; a failing graph is shrunk, printed with the seed that makes it and saved where
 * `--save` says; `--replay` runs saved ones. A number of seconds or of graphs, from a seed on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/check.h"
#include "fuzz/generate.h"
#include "fuzz/oracle.h"
#include "fuzz/saved.h"
#include "fuzz/shrink.h"
#include "fuzz/watch.h"

typedef struct fuzz_run {
    fuzz_watch watch;
    fuzz_checker checker;
    const char *folder; /* where failing graphs go, or NULL */
    int only;           /* one variant, or -1 */
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
    fuzz_watch_beat(&goal->run->watch);
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
    fprintf(stderr, "%s: %s\n", g->batch.name, failure->sentence);
    shrink_goal goal = {run, *failure};
    fuzz_case start = {g->batch.graph, g->batch.inputs.at};
    fuzz_case small = fuzz_shrink(scope, start, fails_alike, &goal);
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print(small.graph, &text);
    fprintf(stderr, "shrunk: %s\n%s\n", goal.failure.sentence, kiln_text_string(&text));
    if (!run->folder) return;
    const char *path = kiln_arena_format(&scope->arena, "%s/%s.kiln", run->folder, g->batch.name);
    char *space = strchr(path + strlen(run->folder), ' ');
    if (space) *space = '-';
    if (!fuzz_save(scope, path, &small, goal.failure.sentence))
        fprintf(stderr, "%s: cannot be written\n", path);
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
static void note_bounds(fuzz_run *run, kiln_scope *scope, const fuzz_case *c)
{
    const fuzz_oracle *oracle = fuzz_oracle_open(scope, c);
    for (uint32_t i = 0; i < c->graph->outputs.n; i++) {
        const kiln_type *type = oracle->types[i];
        const double *errors = oracle->free.errors[i];
        run->n_elements += (uint64_t)type->n_elements;
        for (int64_t at = 0; at < type->n_elements && !oracle->free.is_loose; at++) {
            double expected;
            kiln_element_load_double(type->dtype, oracle->values[i], at, 1, &expected);
            run->n_bounded += !errors || errors[at] <= fabs(expected) * 1e-3 || errors[at] == 0;
        }
    }
}

static bool run_seed(void *user, uint64_t seed)
{
    fuzz_run *run = user;
    kiln_error error = {0};
    kiln_scope scope;
    volatile bool is_good = false;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        fuzz_graph *g = fuzz_generate(&scope, seed);
        note_coverage(run, g->batch.graph);
        fuzz_case c = {g->batch.graph, g->batch.inputs.at};
        fuzz_how how = {seed % LINKED_EVERY == 0, run->only};
        fuzz_failure failure = fuzz_check(&run->checker, &scope, &c, &how);
        if (run->n_graphs % 16 == 0) note_bounds(run, &scope, &c);
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

/* Pairs of classes, producer and consumer: anything may read anything, but nothing is a source of
 * operands. */
static void print_pairs(const fuzz_run *run)
{
    int n_pairs = 0, n_possible = 0;
    for (int from = 0; from <= KILN_COMPOSITE; from++) {
        for (int to = KILN_ELEMENTWISE; to <= KILN_COMPOSITE; to++) {
            n_possible++;
            n_pairs += run->seen[from][to] > 0;
        }
    }
    printf("pairs of classes: %d of %d, %d %%\n", n_pairs, n_possible, 100 * n_pairs / n_possible);
}

#define ULL(x) ((unsigned long long)(x))

static void print_summary(const fuzz_run *run, double seconds)
{
    const fuzz_checker *checker = &run->checker;
    uint64_t seed = run->watch.first, done = run->watch.done;
    printf("%llu graphs, seeds %llu to %llu, in %.1f s (%.1f a second): %llu disagreements, %llu "
           "died or too slow, %llu not valid, %llu unsupported\n",
           ULL(done), ULL(seed), ULL(done ? seed + done - 1 : seed), seconds,
           (double)done / seconds, ULL(run->n_failures), ULL(run->watch.n_lost),
           ULL(run->n_invalid), ULL(checker->n_unsupported));
    printf("%llu nodes, %llu kernels, %llu of them compiled, %.0f %% of elements bounded to "
           "0.1 %%\nruns:",
           ULL(run->n_nodes), ULL(checker->n_kernels), ULL(checker->n_compiled),
           run->n_elements ? 100.0 * (double)run->n_bounded / (double)run->n_elements : 100.0);
    for (int v = 0; fuzz_variant_name(v); v++)
        printf("%s %s %llu", v ? "," : "", fuzz_variant_name(v), ULL(checker->n_runs[v]));
    printf(" (%llu without a form in ONNX)\n", ULL(checker->n_unwritten));
    print_pairs(run);
}

/* One saved case in every way. */
static bool replay(fuzz_run *run, const char *path)
{
    kiln_error error = {0};
    kiln_scope scope;
    volatile bool is_good = false;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        fuzz_case c = fuzz_load(&scope, run->checker.contexts.of[1], path);
        fuzz_how how = {true, -1};
        fuzz_failure failure = fuzz_check(&run->checker, &scope, &c, &how);
        is_good = failure.variant < 0;
        printf("%s: %s\n", path, is_good ? "ok" : failure.sentence);
    }
    if (kiln_scope_close(&scope) != KILN_OK) printf("%s: %s\n", path, error.message);
    return is_good;
}

#define NO_VARIANT (-2)
static int find_variant(const char *name)
{
    for (int v = 0; fuzz_variant_name(v); v++) {
        if (strcmp(fuzz_variant_name(v), name) == 0) return v;
    }
    return NO_VARIANT;
}

/* `*out_first_file`: argv from there on, 0: none. */
static bool read_options(int argc, char **argv, fuzz_run *run, int *out_first_file)
{
    fuzz_watch *watch = &run->watch;
    run->only = -1;
    *watch = (fuzz_watch){.first = 1, .count = UINT64_MAX, .limit = 20};
    for (int i = 1; i < argc && !*out_first_file; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--keep-going") == 0)
            watch->keeps_going = true;
        else if (strcmp(argv[i], "--seed") == 0 && has_value)
            watch->first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--count") == 0 && has_value)
            watch->count = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0 && has_value)
            watch->seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--limit") == 0 && has_value)
            watch->limit = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--save") == 0 && has_value)
            run->folder = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && has_value)
            run->only = find_variant(argv[++i]);
        else if (strcmp(argv[i], "--replay") == 0 && has_value)
            *out_first_file = i + 1;
        else
            return false;
    }
    if (watch->count == UINT64_MAX && watch->seconds == 0) watch->count = 100;
    return run->only != NO_VARIANT;
}

static bool open_checker(void *user)
{
    return fuzz_checker_open(&((fuzz_run *)user)->checker);
}

static void close_checker(void *user)
{
    fuzz_checker_close(&((fuzz_run *)user)->checker);
}

static void clear_checker(void *user)
{
    fuzz_checker_clear(&((fuzz_run *)user)->checker);
}

static bool run_seeds(fuzz_run *run)
{
    double start = fuzz_watch_now();
    fuzz_work work = {open_checker, run_seed, close_checker, clear_checker, run};
    fuzz_watch_run(&run->watch, &work);
    print_summary(run, fuzz_watch_now() - start);
    return !run->watch.has_failed;
}

static bool replay_all(fuzz_run *run, char **paths, int n)
{
    bool is_good = fuzz_checker_open(&run->checker);
    if (!is_good) return false;
    for (int i = 0; i < n; i++) is_good &= replay(run, paths[i]);
    fuzz_checker_close(&run->checker);
    return is_good;
}

int main(int argc, char **argv)
{
    int first_file = 0;
    fuzz_run *run = fuzz_watch_alloc(sizeof *run);
    if (!run) return 1;
    if (!read_options(argc, argv, run, &first_file)) {
        fprintf(stderr, "usage: fuzz-graphs [--seed N] [--count N] [--seconds S] [--keep-going] "
                        "[--limit S] [--only VARIANT] [--save FOLDER] [--replay FILE...]\n");
        return 2;
    }
    if (first_file) return !replay_all(run, argv + first_file, argc - first_file);
    return !run_seeds(run);
}
