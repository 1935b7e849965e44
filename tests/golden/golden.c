/* Golden files: a graph, what to run on it, and the exact text that comes out.
 *
 *     # run: expand,simplify,schedule x86-64-v4 threads=2 unfused
 *     graph f(...) { ... }
 *     # expect:
 *     ...
 *
 * The stages are graph passes, then `schedule` or `kernels`; without those the graph is printed,
 * and reading it back must print the same. `# expect-error:` holds the sentence of a failure
 * instead. KILN_BLESS=1 rewrites expectations. Arguments: the files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/lower.h"
#include "passes/pass.h"

#define MAX_FILE (1 << 20)

typedef struct golden {
    kiln_scope *scope;
    kiln_pipeline pipeline;
    const char *stages;
    size_t n_stages;
} golden;

/* One word after the stages: a machine, threads=N, unfused, strict or attention. */
static void read_word(golden *test, const char *word)
{
    unsigned threads;
    if (sscanf(word, "threads=%u", &threads) == 1) {
        test->pipeline.n_threads = threads;
    } else if (strcmp(word, "unfused") == 0) {
        test->pipeline.is_unfused = true;
    } else if (strcmp(word, "strict") == 0) {
        test->pipeline.is_strict = true;
    } else if (kiln_machine_find(word)) {
        test->pipeline.machine = kiln_machine_find(word);
    } else {
        kiln_fail(test->scope, KILN_INVALID, "# run: \"%s\" is no machine and no option", word);
    }
}

static void read_run_line(golden *test, const char *text)
{
    static const char mark[] = "# run: ";
    if (strncmp(text, mark, sizeof mark - 1) != 0) {
        kiln_fail(test->scope, KILN_INVALID, "the first line is no \"# run: PASSES\"");
    }
    test->stages = text + sizeof mark - 1;
    test->n_stages = strcspn(test->stages, " \n");
    const char *at = test->stages + test->n_stages;
    while (*at == ' ') {
        size_t n = strcspn(++at, " \n");
        read_word(test, kiln_arena_format(&test->scope->arena, "%.*s", (int)n, at));
        at += n;
    }
}

static void print_kernels(golden *test, const kiln_schedule *schedule, kiln_text *text)
{
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        kiln_text_printf(text, "# group %u\n", i);
        kiln_kernel_print(kiln_lower_group(test->scope, schedule, i), text);
    }
}

/* Prints the graph; what it reads back as must print the same. */
static void print_graph(golden *test, const kiln_graph *graph, kiln_text *text)
{
    kiln_text again = {.arena = &test->scope->arena};
    kiln_graph_print(graph, text);
    const char *printed = kiln_text_string(text);
    kiln_graph_print(kiln_graph_parse(test->scope, NULL, printed, strlen(printed)), &again);
    if (strcmp(printed, kiln_text_string(&again)) != 0) {
        kiln_fail(test->scope, KILN_INTERNAL, "the graph reads back differently");
    }
}

static void run_stages(golden *test, const kiln_graph *graph, kiln_text *text)
{
    const char *at = test->stages, *end = at + test->n_stages;
    while (at < end) {
        size_t n = strcspn(at, ", \n");
        bool is_schedule = n == 8 && memcmp(at, "schedule", n) == 0;
        bool is_kernels = n == 7 && memcmp(at, "kernels", n) == 0;
        if (is_schedule || is_kernels) {
            kiln_schedule *schedule = kiln_fuse(&test->pipeline, graph);
            kiln_plan_memory(&test->pipeline, schedule);
            if (is_schedule)
                kiln_schedule_print(schedule, text);
            else
                print_kernels(test, schedule, text);
            return;
        }
        const kiln_pass *pass = kiln_pass_find(at, n);
        if (!pass)
            kiln_fail(test->scope, KILN_INVALID, "# run: there is no pass \"%.*s\"", (int)n, at);
        graph = kiln_pass_run(&test->pipeline, pass, graph);
        at += n + 1;
    }
    print_graph(test, graph, text);
}

static void run_text(kiln_scope *scope, const char *text, size_t n_graph, kiln_text *out)
{
    golden test = {.scope = scope};
    test.pipeline.scope = scope;
    test.pipeline.machine = kiln_machine_find("x86-64-v4");
    test.pipeline.n_threads = 1;
    read_run_line(&test, text);
    const char *graph = strchr(text, '\n') + 1;
    size_t n_run = (size_t)(graph - text);
    run_stages(&test, kiln_graph_parse(scope, NULL, graph, n_graph - n_run), out);
}

static bool write_expectation(const char *path, const char *text, size_t n_graph, const char *mark,
                              const char *found)
{
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    fwrite(text, 1, n_graph, file);
    fprintf(file, "%s\n%s", mark, found);
    return fclose(file) == 0;
}

static void print_difference(const char *path, const char *expected, const char *found)
{
    size_t line = 1, at = 0;
    for (size_t i = 0; expected[i] && expected[i] == found[i]; i++) {
        if (expected[i] != '\n') continue;
        line++;
        at = i + 1;
    }
    fprintf(stderr, "%s: line %zu of the result differs\n  expected %.*s\n  found    %.*s\n", path,
            line, (int)strcspn(expected + at, "\n"), expected + at, (int)strcspn(found + at, "\n"),
            found + at);
    fprintf(stderr, "KILN_BLESS=1 accepts what was found:\n%s", found);
}

/* Runs the test; the result, or the sentence of the failure, in `out`. */
static const char *run_golden(const char *text, size_t n_graph, char *out)
{
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text result = {.arena = &scope.arena};
        run_text(&scope, text, n_graph, &result);
        snprintf(out, MAX_FILE, "%s", kiln_text_string(&result));
    }
    if (kiln_scope_close(&scope) == KILN_OK) return "# expect:";
    snprintf(out, MAX_FILE, "%s: %s\n", kiln_status_name(error.status), error.message);
    return "# expect-error:";
}

static bool check_file(const char *path, char *text, char *found)
{
    FILE *file = fopen(path, "rb");
    if (!file) return fprintf(stderr, "%s: cannot be read\n", path) < 0;
    size_t n = fread(text, 1, MAX_FILE - 1, file);
    fclose(file);
    text[n] = 0;
    const char *expectation = strstr(text, "# expect");
    size_t n_graph = expectation ? (size_t)(expectation - text) : n;
    const char *mark = run_golden(text, n_graph, found);
    const char *expected = expectation ? strchr(expectation, '\n') : NULL;
    size_t n_mark = strlen(mark);
    bool is_same = expected && (size_t)(expected - expectation) == n_mark &&
                   memcmp(expectation, mark, n_mark) == 0 && strcmp(expected + 1, found) == 0;
    if (is_same) return true;
    if (getenv("KILN_BLESS")) return write_expectation(path, text, n_graph, mark, found);
    print_difference(path, expected ? expected + 1 : "", found);
    return false;
}

int main(int argc, char **argv)
{
    char *text = malloc(MAX_FILE), *found = malloc(MAX_FILE);
    int n_failed = 0;
    for (int i = 1; i < argc && text && found; i++) n_failed += !check_file(argv[i], text, found);
    free(text);
    free(found);
    return argc < 2 || n_failed ? 1 : 0;
}
