/* Options from one table: strict numbers, no repeats where one value is meant, nearest name on a
 * mistake. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/cli/cli.h"

typedef enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_COUNT,
    OPTION_SECONDS,
    OPTION_PAIRS,
} option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    size_t offset;
    int64_t least, most; /* COUNT */
} option_row;

#define AT(field) offsetof(cli_options, field)

static const option_row rows[] = {
    {"--input", OPTION_PAIRS, AT(inputs), 0, 0},
    {"--dim", OPTION_PAIRS, AT(dims), 0, 0},
    {"--target", OPTION_TEXT, AT(target), 0, 0},
    {"--target-cpu", OPTION_TEXT, AT(target_cpu), 0, 0},
    {"--precision", OPTION_TEXT, AT(precision), 0, 0},
    {"--output-dir", OPTION_TEXT, AT(output_dir), 0, 0},
    {"-o", OPTION_TEXT, AT(output), 0, 0},
    {"--header", OPTION_TEXT, AT(header), 0, 0},
    {"--name", OPTION_TEXT, AT(name), 0, 0},
    {"--run", OPTION_TEXT, AT(passes), 0, 0},
    {"--rows", OPTION_TEXT, AT(rows), 0, 0},
    {"--weights", OPTION_TEXT, AT(weights), 0, 0},
    {"--threads", OPTION_COUNT, AT(threads), 1, 1024},
    {"--seed", OPTION_COUNT, AT(seed), 0, INT64_MAX},
    {"--seconds", OPTION_SECONDS, AT(milliseconds), 0, 0},
    {"--strict", OPTION_FLAG, AT(is_strict), 0, 0},
    {"--unfused", OPTION_FLAG, AT(is_unfused), 0, 0},
    {"--tune", OPTION_FLAG, AT(is_tuned), 0, 0},
    {"--json", OPTION_FLAG, AT(is_json), 0, 0},
    {"--cache", OPTION_FLAG, AT(is_cache_shown), 0, 0},
    {"--no-cache", OPTION_FLAG, AT(is_uncached), 0, 0},
    {"--cache-dir", OPTION_TEXT, AT(cache_dir), 0, 0},
};

#define N_ROWS (sizeof rows / sizeof *rows)

int cli_status_exit(kiln_status status)
{
    static const unsigned char exits[] = {
        [KILN_OK] = 0,        [KILN_INVALID] = 2,   [KILN_MODEL] = 2,  [KILN_UNSUPPORTED] = 3,
        [KILN_LIMIT] = 5,     [KILN_NO_MEMORY] = 4, [KILN_IO] = 4,     [KILN_CORRUPT] = 2,
        [KILN_ABI] = 2,       [KILN_DEADLINE] = 5,  [KILN_CANCELLED] = 5, [KILN_DEVICE] = 4,
        [KILN_RANGE] = 2,     [KILN_INTERNAL] = 70,
    };
    return (unsigned)status < sizeof exits ? exits[status] : 70;
}

int cli_fail(kiln_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr); /* over what progress wrote */
    fputs("kiln: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return cli_status_exit(status);
}

/* Number of single-character edits between two names, by rows of the usual table. */
static int edit_distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strlen(b);
    if (n > 62) return 64;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1] && i < 64; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], cost = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < cost) cost = above + 1;
            if (row[j - 1] + 1 < cost) cost = row[j - 1] + 1;
            row[j] = cost;
            diagonal = above;
        }
    }
    return row[n];
}

static int fail_unknown(const char *name)
{
    const char *nearest = rows[0].name;
    for (size_t i = 1; i < N_ROWS; i++) {
        if (edit_distance(name, rows[i].name) < edit_distance(name, nearest))
            nearest = rows[i].name;
    }
    return cli_fail(KILN_INVALID, "option \"%s\" is unknown; the nearest is %s", name, nearest);
}

static int parse_count(const option_row *row, const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!*text || *end || errno || value < row->least || value > row->most) {
        return cli_fail(KILN_INVALID,
                        "%s: \"%s\" was given; expected a whole number from %lld to %lld",
                        row->name, text, (long long)row->least, (long long)row->most);
    }
    *out = value;
    return 0;
}

static int parse_seconds(const option_row *row, const char *text, int64_t *out)
{
    char *end;
    double value = strtod(text, &end);
    if (!*text || *end || !(value >= 0.001) || value > 3600) {
        return cli_fail(KILN_INVALID, "%s: \"%s\" was given; expected seconds from 0.001 to 3600",
                        row->name, text);
    }
    *out = (int64_t)(value * 1000);
    return 0;
}

static int parse_pair(const option_row *row, const char *text, cli_options *options)
{
    bool is_input = row->offset == AT(inputs);
    cli_pair *pairs = is_input ? options->inputs : options->dims;
    uint32_t *n = is_input ? &options->n_inputs : &options->n_dims;
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1]) {
        return cli_fail(KILN_INVALID, "%s: \"%s\" was given; expected %s", row->name, text,
                        is_input ? "NAME=FILE.npy" : "NAME=N");
    }
    for (uint32_t i = 0; i < *n; i++) {
        if (pairs[i].name_bytes == (size_t)(equals - text) &&
            memcmp(pairs[i].name, text, pairs[i].name_bytes) == 0) {
            return cli_fail(KILN_INVALID, "%s: \"%.*s\" is given twice; expected once", row->name,
                            (int)pairs[i].name_bytes, text);
        }
    }
    if (*n == CLI_MAX_REPEATS) {
        return cli_fail(KILN_INVALID, "%s: given more than %d times", row->name, CLI_MAX_REPEATS);
    }
    pairs[(*n)++] = (cli_pair){text, (size_t)(equals - text), equals + 1};
    return 0;
}

static int parse_option(const option_row *row, const char *value, cli_options *options)
{
    char *field = (char *)options + row->offset;
    switch (row->kind) {
    case OPTION_FLAG: *(bool *)field = true; return 0;
    case OPTION_TEXT: *(const char **)field = value; return 0;
    case OPTION_COUNT: return parse_count(row, value, (int64_t *)field);
    case OPTION_SECONDS: return parse_seconds(row, value, (int64_t *)field);
    case OPTION_PAIRS: return parse_pair(row, value, options);
    }
    return CLI_EXIT_USAGE;
}

static int take_model(const char *path, cli_options *options)
{
    if (options->second) {
        return cli_fail(KILN_INVALID, "\"%s\" comes after \"%s\" and \"%s\"; expected no more",
                        path, options->model, options->second);
    }
    *(options->model ? &options->second : &options->model) = path;
    return 0;
}

int cli_parse(int argc, char **argv, cli_options *options)
{
    bool is_given[N_ROWS] = {false};
    int exit_code = 0;
    options->seed = 1;
    options->milliseconds = 2000;
    for (int i = 0; i < argc && !exit_code; i++) {
        if (argv[i][0] != '-') {
            exit_code = take_model(argv[i], options);
            continue;
        }
        size_t at = 0;
        while (at < N_ROWS && strcmp(argv[i], rows[at].name) != 0) at++;
        if (at == N_ROWS) return fail_unknown(argv[i]);
        const option_row *row = &rows[at];
        if (is_given[at] && row->kind != OPTION_PAIRS) {
            return cli_fail(KILN_INVALID, "%s: given twice; expected once", row->name);
        }
        is_given[at] = true;
        if (row->kind != OPTION_FLAG && i + 1 == argc) {
            return cli_fail(KILN_INVALID, "%s: its value is missing", row->name);
        }
        exit_code = parse_option(row, row->kind == OPTION_FLAG ? NULL : argv[++i], options);
    }
    return exit_code;
}
