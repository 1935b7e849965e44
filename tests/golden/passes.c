/* Golden cases of graph passes, many to a file: a `# run:` line, a graph, and what must come out.
 *
 *     # run: expand,simplify strict     passes, or `all` for the whole pipeline; `strict` and
 *     graph f(%x: f32[4]) { … }         `bf16` are options
 *     # expect:                         the graph after the passes, up to the line "}"
 *     # expect-error:                   or the sentence, on the next line
 *
 * Input and result are also evaluated on the same numbers, which must agree (bit for bit where it
 * says strict, to a sixteenth where it says bf16). KILN_BLESS=1 writes what came out into the
 * files. With `rules` as the first argument every rule of simplify must have fired in some case. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/element.h"
#include "kiln/compile.h"
#include "passes/rewrite.h"

#define CASE_MAX 65536

typedef struct golden_case {
    const char *run, *graph, *graph_end; /* in the file's text */
    const char *ending, *expect, *expect_end;
    bool is_error;
    double tolerance; /* of values, relative beyond 1; 0 is the same bits */
} golden_case;

static char *fired; /* the logs of all cases */

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = NULL;
    size_t n = 0, got;
    do {
        text = realloc(text, n + 4097);
        got = fread(text + n, 1, 4096, file);
        n += got;
    } while (got);
    text[n] = 0;
    fclose(file);
    return text;
}

static const char *line_after(const char *at)
{
    const char *end = strchr(at, '\n');
    return end ? end + 1 : at + strlen(at);
}

/* The next case from `text` on; false at the end of the file or where the form is broken. */
static bool case_next(const char *text, golden_case *out)
{
    *out = (golden_case){.run = strstr(text, "# run:")};
    if (!out->run) return false;
    out->graph = line_after(out->run);
    out->ending = strstr(out->graph, "# expect");
    if (!out->ending) return false;
    out->graph_end = out->ending;
    out->is_error = strncmp(out->ending, "# expect-error:", 15) == 0;
    out->expect = out->expect_end = line_after(out->ending);
    if (out->is_error && *out->expect != '\n') out->expect_end = line_after(out->expect);
    if (strncmp(out->expect, "graph", 5) != 0) return true; /* not blessed yet */
    while (*out->expect_end && strncmp(out->expect_end, "}\n", 2) != 0) {
        out->expect_end = line_after(out->expect_end);
    }
    out->expect_end = line_after(out->expect_end);
    return true;
}

/* Numbers in -2 … 2 that differ from each other; bools alternate. */
static void fill_input(kiln_tensor *tensor, uint32_t seed)
{
    size_t bytes = kiln_dtype_bytes(tensor->dtype);
    uint32_t state = seed * 2654435761u + 12345;
    for (size_t i = 0; i < tensor->bytes / bytes; i++) {
        state = state * 1664525u + 1013904223u;
        double value = (double)(state >> 8) / (double)(1 << 22) - 2;
        if (tensor->dtype == KILN_bool) value = state >> 31;
        if (tensor->dtype == KILN_i64 && tensor->rank == 0) value = 0; /* a count of failures */
        kiln_element_from_double(tensor->dtype, value, (char *)tensor->data + i * bytes);
    }
}

static kiln_tensor *new_tensors(kiln_scope *scope, const kiln_graph *graph, bool is_input)
{
    uint32_t n = is_input ? graph->inputs.n : graph->outputs.n;
    kiln_tensor *tensors = kiln_new_array(&scope->arena, kiln_tensor, n);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *type =
            kiln_graph_type(graph, is_input ? graph->inputs.at[i] : graph->outputs.at[i].value);
        tensors[i] = (kiln_tensor){type->dtype, type->rank, type->dims,
                                   kiln_arena_alloc(&scope->arena, (size_t)type->bytes),
                                   (size_t)type->bytes};
        if (is_input) fill_input(&tensors[i], i + 1);
    }
    return tensors;
}

static bool elements_agree(kiln_dtype dtype, const char *a, const char *b, double tolerance)
{
    if (memcmp(a, b, kiln_dtype_bytes(dtype)) == 0) return true;
    if (!kiln_dtype_in(dtype, KILN_TYPES_FLOAT)) return false;
    double x = kiln_element_to_double(dtype, a), y = kiln_element_to_double(dtype, b);
    if (isnan(x) && isnan(y)) return true;
    return fabs(x - y) <= tolerance * fmax(1, fabs(x));
}

static void compare_values(kiln_scope *scope, const kiln_graph *before, const kiln_graph *after,
                           double tolerance)
{
    kiln_tensor *inputs = new_tensors(scope, before, true);
    kiln_tensor *old = new_tensors(scope, before, false), *new = new_tensors(scope, after, false);
    kiln_eval(scope, before, inputs, old);
    kiln_eval(scope, after, inputs, new);
    for (uint32_t i = 0; i < before->outputs.n; i++) {
        size_t bytes = kiln_dtype_bytes(old[i].dtype);
        for (size_t at = 0; at < old[i].bytes; at += bytes) {
            const char *a = (char *)old[i].data + at, *b = (char *)new[i].data + at;
            if (elements_agree(old[i].dtype, a, b, tolerance)) continue;
            kiln_fail(scope, KILN_INTERNAL,
                      "output %u differs at element %zu: %.9g before, %.9g after", i, at / bytes,
                      kiln_element_to_double(old[i].dtype, a),
                      kiln_element_to_double(old[i].dtype, b));
        }
    }
}

/* What the case gives, in malloc'd text. */
static char *case_run(golden_case *c)
{
    kiln_error error = {0};
    char *volatile result = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text log = {.arena = &scope.arena}, text = {.arena = &scope.arena};
        kiln_pipeline pipeline = {.scope = &scope,
                                  .machine = kiln_machine_find("x86-64-v3"),
                                  .n_threads = 2,
                                  .log = &log};
        const kiln_graph *before =
            kiln_graph_parse(&scope, NULL, c->graph, (size_t)(c->graph_end - c->graph));
        const kiln_graph *graph = before;
        char words[512] = {0};
        size_t n = strcspn(c->run + 6, "\n");
        memcpy(words, c->run + 6, n < 511 ? n : 511);
        pipeline.is_strict = strstr(words, "strict") != NULL;
        bool is_bf16 = strstr(words, "bf16") != NULL;
        pipeline.precision = is_bf16 ? KILN_PRECISION_BF16 : KILN_PRECISION_FMA;
        c->tolerance = is_bf16 ? 1.0 / 16 : pipeline.is_strict ? 0 : 1e-5;
        for (char *word = strtok(words, " ,"); word; word = strtok(NULL, " ,")) {
            const kiln_pass *pass = kiln_pass_find(word, strlen(word));
            if (strcmp(word, "strict") == 0 || strcmp(word, "bf16") == 0) continue;
            if (!pass && strcmp(word, "all") != 0)
                kiln_fail(&scope, KILN_INVALID, "no pass %s", word);
            graph =
                pass ? kiln_pass_run(&pipeline, pass, graph) : kiln_pipeline_run(&pipeline, graph);
        }
        kiln_graph_print(graph, &text);
        const char *printed = kiln_text_string(&text);
        result = strdup(line_after(printed)); /* without "kiln 1" */
        if (strstr(kiln_text_string(&log), "still changing")) {
            kiln_fail(&scope, KILN_INTERNAL, "simplify does not come to an end");
        }
        compare_values(&scope, before, graph, c->tolerance);
        size_t old = fired ? strlen(fired) : 0;
        fired = realloc(fired, old + strlen(kiln_text_string(&log)) + 1);
        strcpy(fired + old, kiln_text_string(&log));
    }
    c->is_error = kiln_scope_close(&scope) != KILN_OK;
    if (!c->is_error) return result;
    free(result);
    char *message = malloc(strlen(error.message) + 2);
    sprintf(message, "%s\n", error.message);
    return message;
}

/* Runs the cases of one file; the number that failed. */
static int run_file(const char *path, bool is_blessing)
{
    char *text = read_whole(path),
         *blessed = calloc(1, 2 * (text ? strlen(text) : 0) + CASE_MAX * 4);
    const char *at = text;
    int n_failed = 0, n_cases = 0;
    golden_case c;
    for (; at && case_next(at, &c); n_cases++) {
        bool expects_error = c.is_error;
        char *result = case_run(&c);
        size_t n = (size_t)(c.expect_end - c.expect);
        bool is_right =
            expects_error == c.is_error && strlen(result) == n && memcmp(result, c.expect, n) == 0;
        if (!is_right && !is_blessing) {
            printf("%s, case %d (%.*s):\n--- expected\n%.*s+++ found\n%s", path, n_cases + 1,
                   (int)strcspn(c.run, "\n"), c.run, (int)n, c.expect, result);
            n_failed++;
        }
        strncat(blessed, at, (size_t)(c.ending - at));
        strcat(blessed, c.is_error ? "# expect-error:\n" : "# expect:\n");
        strcat(blessed, result);
        at = c.expect_end;
        free(result);
    }
    if (n_cases == 0) {
        printf("%s: no cases\n", path);
        n_failed++;
    }
    FILE *file = is_blessing && at ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%s%s", blessed, at);
        fclose(file);
    }
    free(blessed);
    free(text);
    return n_failed;
}

static int check_rules(void)
{
    int n_missing = 0;
    for (const kiln_rule *const *family = kiln_rule_families; *family; family++) {
        for (const kiln_rule *rule = *family; rule->name; rule++) {
            char line[128];
            snprintf(line, sizeof line, "simplify: rule %s,", rule->name);
            if (fired && strstr(fired, line)) continue;
            printf("rule %s never fires (%s)\n", rule->name, rule->pattern);
            n_missing++;
        }
    }
    return n_missing;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_folder(const char *path, bool is_blessing)
{
    DIR *folder = opendir(path);
    char *names[256];
    int n = 0, n_failed = 0;
    for (struct dirent *entry; folder && n < 256 && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length < 6 || strcmp(entry->d_name + length - 5, ".kiln") != 0) continue;
        names[n] = malloc(strlen(path) + length + 2);
        sprintf(names[n++], "%s/%s", path, entry->d_name);
    }
    if (folder) closedir(folder);
    if (n == 0) {
        printf("%s: no .kiln files\n", path);
        return 1;
    }
    qsort(names, (size_t)n, sizeof *names, compare_names);
    for (int i = 0; i < n; i++) {
        n_failed += run_file(names[i], is_blessing);
        free(names[i]);
    }
    return n_failed;
}

int main(int argc, char **argv)
{
    const char *bless = getenv("KILN_BLESS");
    bool checks_rules = argc > 1 && strcmp(argv[1], "rules") == 0;
    int n_failed = 0;
    for (int i = 1 + checks_rules; i < argc; i++)
        n_failed += run_folder(argv[i], bless && *bless == '1');
    if (checks_rules) n_failed += check_rules();
    free(fired);
    if (n_failed) printf("%d failed\n", n_failed);
    return n_failed != 0;
}
