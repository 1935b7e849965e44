/* docs/stablehlo.md is made from stablehlo.def: this prints the page and compares it with the file
 * given, or writes it when KILN_BLESS=1. Every row named there is one of ops.def, every call one of
 * the public headers. usage: stablehlo-page PAGE HEADER… */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"

static const struct {
    const char *op, *rows, *calls, *note;
} ops[] = {
#define STABLEHLO(op, rows, calls, note) {#op, rows, calls, note},
#include "tests/docs/stablehlo.def"
#undef STABLEHLO
};
#define N_OPS (sizeof ops / sizeof *ops)

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (!text) exit(2);
    if (file) {
        text[fread(text, 1, (1 << 20) - 1, file)] = 0;
        fclose(file);
    }
    return text;
}

/* The next name at *at, of n characters; NULL behind the last. */
static const char *next_name(const char **at, size_t *n)
{
    const char *name = *at + strspn(*at, " ");
    *n = strcspn(name, " ");
    *at = name + *n;
    return *n ? name : NULL;
}

/* "kiln_name(" behind a blank, or behind the star of a pointer. */
static bool is_declared(int n_headers, char **headers, const char *name, size_t n)
{
    char value[128], pointer[128];
    bool is_found = false;
    snprintf(value, sizeof value, " %.*s(", (int)n, name);
    snprintf(pointer, sizeof pointer, "*%.*s(", (int)n, name);
    for (int i = 0; i < n_headers && !is_found; i++) {
        char *text = read_file(headers[i]);
        is_found = strstr(text, value) || strstr(text, pointer);
        free(text);
    }
    return is_found;
}

static int check_names(int n_headers, char **headers)
{
    int n_wrong = 0;
    size_t n;
    for (size_t i = 0; i < N_OPS; i++) {
        const char *rows = ops[i].rows, *calls = ops[i].calls, *name;
        while ((name = next_name(&rows, &n)) != NULL) {
            if (kiln_op_find(name, n) != KILN_OP_none) continue;
            fprintf(stderr, "%s: no row %.*s\n", ops[i].op, (int)n, name);
            n_wrong++;
        }
        while ((name = next_name(&calls, &n)) != NULL) {
            if (is_declared(n_headers, headers, name, n)) continue;
            fprintf(stderr, "%s: no call %.*s\n", ops[i].op, (int)n, name);
            n_wrong++;
        }
        if (!*ops[i].rows && !*ops[i].note) n_wrong++;
    }
    return n_wrong;
}

static void append_names(kiln_text *page, const char *names)
{
    size_t n;
    for (const char *name; (name = next_name(&names, &n)) != NULL;)
        kiln_text_printf(page, " `%.*s`", (int)n, name);
    kiln_text_append(page, " |");
}

static void append_page(kiln_text *page)
{
    uint32_t n_covered = 0;
    for (size_t i = 0; i < N_OPS; i++) n_covered += *ops[i].rows != 0;
    kiln_text_printf(
        page,
        "# StableHLO's operations\n\n"
        "Every operation of StableHLO's specification and what it is in Kiln: rows of\n"
        "[the op table](ops.md), calls of the builder. %u of %zu have one; the others are about\n"
        "tokens, distribution or asynchronous execution, of which a pure graph has none. Dtypes "
        "are\n"
        "StableHLO's, complex ones included, but for quantised types, which are integers between\n"
        "rows that scale. Made from `tests/docs/stablehlo.def` by a test.\n\n"
        "| StableHLO | rows | calls | note |\n| --- | --- | --- | --- |\n",
        n_covered, N_OPS);
    for (size_t i = 0; i < N_OPS; i++) {
        kiln_text_printf(page, "| `%s` |", ops[i].op);
        append_names(page, ops[i].rows);
        append_names(page, ops[i].calls);
        kiln_text_printf(page, "%s%s |\n", *ops[i].note ? " " : "", ops[i].note);
    }
}

static int check_or_write(const char *path, const char *text)
{
    char *found = read_file(path);
    bool is_equal = strcmp(found, text) == 0;
    free(found);
    if (is_equal) return 0;
    if (!getenv("KILN_BLESS")) {
        fprintf(stderr, "%s is not current; run this test with KILN_BLESS=1\n", path);
        return 1;
    }
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    fputs(text, file);
    return fclose(file) != 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    kiln_error error = {0};
    kiln_scope scope;
    volatile int result = 1;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text page = {.arena = &scope.arena};
        append_page(&page);
        int n_wrong = check_names(argc - 2, argv + 2);
        result = n_wrong ? 1 : check_or_write(argv[1], kiln_text_string(&page));
    }
    return kiln_scope_close(&scope) ? 1 : result;
}
