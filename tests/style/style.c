/* usage: style SOURCE. The rules of docs/design.md that a program can check, on every C file of the
 * tree: who includes whom, sizes of files, functions, lines and parameter lists, depth, blanks, and
 * calls that a library must not make. Exceptions stand in allowed.def, each with its reason. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MAX_COLUMNS 100
#define MAX_FUNCTION_LINES 60
#define MAX_FILE_LINES 600
#define MAX_HEADER_LINES 250
#define MAX_DEPTH 4 /* braces, the function's own included */
#define MAX_PARAMETERS 5
#define PATH_BYTES 4096

/* A path that ends with a slash stands for all below it. */
static const struct {
    const char *rule, *path;
} allowed[] = {
#define ALLOW(rule, path, reason) {#rule, path},
#include "allowed.def"
#undef ALLOW
};

/* Folders, and whose headers they may include. The longest name that fits a path counts. */
static const struct {
    const char *folder, *may_include;
} layers[] = {
    {"include/kiln/", "kiln/"},
    {"include/base/", "kiln/ base/"},
    {"runtime/", "kiln/ base/ runtime/"},
    {"graph/", "kiln/ base/ graph/"},
    {"passes/", "kiln/ base/ graph/ passes/"},
    {"codegen/", "kiln/ base/ graph/ passes/ codegen/ runtime/"},
    {"docs/examples/", "kiln/ model.h"},
};

/* Libraries return statuses and leave the process alone. */
static const char *const banned_calls[] = {"abort",  "exit",   "_exit",  "assert", "system",
                                           "popen",  "setenv", "putenv", "signal", "sigaction",
                                           "atexit", "gets",   "strcat", "sprintf"};

static int n_files, n_faults;

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n >= m && strcmp(text + n - m, with) == 0;
}

static bool is_allowed(const char *rule, const char *path)
{
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        const char *row = allowed[i].path;
        bool is_path = ends(row, "/") ? begins(path, row) : strcmp(path, row) == 0;
        if (is_path && strcmp(allowed[i].rule, rule) == 0) return true;
    }
    return false;
}

__attribute__((format(printf, 4, 5)))
static void report(const char *rule, const char *path, int line, const char *format, ...)
{
    if (is_allowed(rule, path)) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_error("%s:%d: %s: %s\n", path, line, rule, text);
    n_faults++;
}

static bool is_library(const char *path)
{
    return (begins(path, "runtime/") || begins(path, "graph/") || begins(path, "passes/") ||
            begins(path, "codegen/")) &&
           !begins(path, "codegen/cli/");
}

static void check_include(const char *path, int line, const char *text)
{
    const char *quote = strchr(text, '"');
    if (!begins(text, "#include") || !quote) return;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        if (!begins(path, layers[i].folder)) continue;
        char allowed_names[128];
        snprintf(allowed_names, sizeof allowed_names, "%s", layers[i].may_include);
        char *rest = NULL;
        for (char *name = strtok_r(allowed_names, " ", &rest); name;
             name = strtok_r(NULL, " ", &rest)) {
            if (begins(quote + 1, name)) return;
        }
        report("layers", path, line, "includes %.60s; expected one of %s", quote,
               layers[i].may_include);
        return;
    }
}

static int columns_of(const char *line)
{
    int n = 0;
    for (; *line; line++) n += ((unsigned char)*line & 0xc0) != 0x80;
    return n;
}

static void check_line(const char *path, int number, const char *line)
{
    size_t n = strlen(line);
    int columns = columns_of(line);
    if (columns > MAX_COLUMNS) report("columns", path, number, "%d columns", columns);
    if (strchr(line, '\t')) report("blanks", path, number, "a tab");
    if (n && (line[n - 1] == ' ' || line[n - 1] == '\r')) {
        report("blanks", path, number, "a blank at the end");
    }
    check_include(path, number, line);
}

/* Overwrites comments, strings and characters with blanks; lines stay lines. */
static void blank_text(char *text)
{
    char in = 0;
    for (char *at = text; *at; at++) {
        char here = *at, next = at[1];
        if (in == 0 && here == '/' && (next == '*' || next == '/')) {
            in = next;
            *at++ = ' ';
        } else if (in == 0 && (here == '"' || here == '\'')) {
            in = here;
        } else if (in == '*' && here == '*' && next == '/') {
            in = 0;
            *at++ = ' ';
        } else if ((in == '"' || in == '\'') && here == '\\' && next && next != '\n') {
            *at++ = ' ';
        } else if (in == here && (in == '"' || in == '\'')) {
            in = 0;
        } else if (here == '\n') {
            if (in == '/') in = 0;
            continue;
        } else if (in == 0) {
            continue;
        }
        *at = ' ';
    }
}

static void check_calls(const char *path, int number, const char *line)
{
    for (size_t i = 0; i < sizeof banned_calls / sizeof *banned_calls; i++) {
        size_t n = strlen(banned_calls[i]);
        for (const char *at = line; (at = strstr(at, banned_calls[i])); at += n) {
            bool is_word = at == line || (!isalnum((unsigned char)at[-1]) && at[-1] != '_');
            if (is_word && at[n] == '(') report("calls", path, number, "%s", banned_calls[i]);
        }
    }
}

/* Parameters of the signature that ends at `end`: the commas between its outermost brackets. */
static int count_parameters(const char *begin, const char *end)
{
    int depth = 0, n = 0;
    bool is_empty = true;
    for (const char *at = begin; at < end; at++) {
        if (*at == '(') depth++;
        if (depth == 1 && *at == ',') n++;
        if (depth == 1 && *at != '(' && !isspace((unsigned char)*at) && *at != ')')
            is_empty = false;
        if (*at == ')') depth--;
    }
    return is_empty ? 0 : n + 1;
}

typedef struct function {
    const char *signature; /* since the last line of its own that ended something */
    int first_line, depth;
    bool is_open;
} function;

/* A function opens with a brace of its own at the first column and closes with one. */
static void follow_functions(const char *path, function *f, int number, const char *line)
{
    if (!f->is_open && strcmp(line, "{") == 0) {
        int n = count_parameters(f->signature, line);
        if (n > MAX_PARAMETERS) report("parameters", path, number, "%d", n);
        *f = (function){.first_line = number, .is_open = true};
    }
    size_t n = strlen(line);
    char last = n ? line[n - 1] : 0;
    bool is_end = n == 0 || last == ';' || last == '}' || line[0] == '#' || last == ' ';
    if (!f->is_open && is_end) f->signature = line + n;
    if (!f->is_open) return;
    bool is_too_deep = false;
    for (const char *at = line; *at; at++) {
        if (*at == '{') is_too_deep = ++f->depth > MAX_DEPTH || is_too_deep;
        if (*at == '}') f->depth--;
    }
    if (is_too_deep) report("depth", path, number, "nested %d deep", MAX_DEPTH);
    if (strcmp(line, "}") != 0) return;
    int lines = number - f->first_line + 1;
    if (lines > MAX_FUNCTION_LINES) report("function", path, f->first_line, "%d lines", lines);
    *f = (function){.signature = line + 1};
}

static void check_code(const char *path, char *text)
{
    blank_text(text);
    function f = {.signature = text};
    int number = 0;
    for (char *line = text; line; ) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        number++;
        if (is_library(path)) check_calls(path, number, line);
        if (ends(path, ".c")) follow_functions(path, &f, number, line);
        if (end) *end = '\n';
        line = end ? end + 1 : NULL;
    }
}

static char *file_text(const char *full)
{
    FILE *file = fopen(full, "rb");
    char *text = NULL;
    size_t n = 0, room = 0;
    while (file) {
        if (room - n < 4096) text = realloc(text, room = room * 2 + 8192);
        size_t got = fread(text + n, 1, room - n - 1, file);
        n += got;
        if (!got) break;
    }
    if (file) fclose(file);
    if (text) text[n] = 0;
    return text;
}

static void check_file(const char *source, const char *path)
{
    char full[2 * PATH_BYTES];
    snprintf(full, sizeof full, "%s/%s", source, path);
    char *text = file_text(full);
    if (!text) {
        report("file", path, 0, "not readable");
        return;
    }
    n_files++;
    size_t bytes = strlen(text);
    if (bytes && text[bytes - 1] != '\n') report("blanks", path, 0, "no newline at the end");
    if (!begins(text, "/*")) report("opening", path, 1, "no comment that says what the file owns");
    int number = 0;
    char *copy = strdup(text), *rest = copy;
    for (char *line; (line = strsep(&rest, "\n")) && (rest || *line); ) {
        check_line(path, ++number, line);
    }
    free(copy);
    bool is_header = ends(path, ".h");
    int most = is_header ? MAX_HEADER_LINES : MAX_FILE_LINES;
    if (number > most) report("file", path, number, "%d lines; at most %d", number, most);
    check_code(path, text);
    free(text);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void check_folder(const char *source, const char *folder)
{
    char full[2 * PATH_BYTES];
    struct dirent **entries;
    snprintf(full, sizeof full, "%s/%s", source, folder);
    int n = scandir(full, &entries, NULL, by_name);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        char path[PATH_BYTES];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        snprintf(full, sizeof full, "%s/%s", source, path);
        if (name[0] != '.' && stat(full, &info) == 0) {
            bool is_code = ends(name, ".c") || ends(name, ".h") || ends(name, ".def");
            if (S_ISDIR(info.st_mode)) check_folder(source, path);
            if (S_ISREG(info.st_mode) && is_code) check_file(source, path);
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

static void test_the_tree_follows_its_rules(void **state)
{
    static const char *const folders[] = {"include", "runtime", "graph",      "passes",
                                          "codegen", "tests",   "benchmarks", "docs"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) check_folder(*state, folders[i]);
    print_message("%d files\n", n_files);
    assert_true(n_files > 50);
    assert_int_equal(n_faults, 0);
}

/* The checks see what they are for. */
static void test_the_rules_find_faults(void **state)
{
    (void)state;
    char code[] = "static void f(int a, int b, int c, int d, int e, int f)\n"
                  "{\n    if (a) {\n for (;;) {\n if (b) {\n while (c) {\n }\n }\n }\n }\n"
                  "    exit(1); /* abort() */\n    puts(\"abort()\");\n}\n";
    int before = n_faults;
    check_code("runtime/x.c", code);
    assert_int_equal(n_faults - before, 3); /* parameters, depth, exit */
    check_line("graph/x.c", 1, "#include \"passes/pass.h\"");
    check_line("codegen/x.c", 1, "#include \"passes/pass.h\"");
    check_line("graph/x.c", 1, "x;\t");
    check_line("graph/x.c", 1, "x; ");
    assert_int_equal(n_faults - before, 6);
    assert_int_equal(columns_of("12µs…"), 5);
    n_faults = before;
}

int main(int n, char **arguments)
{
    if (n < 2) return 2;
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rules_find_faults),
        cmocka_unit_test_prestate(test_the_tree_follows_its_rules, arguments[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
