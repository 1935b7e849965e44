/* Text graphs for callers: read from a file or memory, printed to memory of the caller's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/context.h"
#include "graph/describe.h"
#include "kiln/compile.h"
#include "kiln/model.h"

#define TEXT_BYTES_MAX ((int64_t)1 << 31)

typedef struct text_source {
    kiln_context *context;
    const char *path; /* or NULL: text and bytes */
    const char *text;
    size_t bytes;
} text_source;

static void close_file(void *file)
{
    fclose(file);
}

static void read_file(kiln_scope *scope, text_source *source)
{
    const char *name = kiln_quoted(&scope->arena, source->path);
    FILE *file = fopen(source->path, "rb");
    struct stat about;
    if (!file) kiln_fail(scope, KILN_IO, "%s: %s", name, strerror(errno));
    kiln_scope_defer(scope, close_file, file);
    if (fstat(fileno(file), &about) || !S_ISREG(about.st_mode)) {
        kiln_fail(scope, KILN_IO, "%s: is no regular file", name);
    }
    if (about.st_size > TEXT_BYTES_MAX) {
        kiln_fail(scope, KILN_LIMIT, "%s: %lld bytes; expected at most 2 GiB", name,
                  (long long)about.st_size);
    }
    char *text = kiln_arena_alloc(&scope->arena, (size_t)about.st_size + 1);
    source->bytes = fread(text, 1, (size_t)about.st_size, file);
    if (ferror(file)) kiln_fail(scope, KILN_IO, "%s: %s", name, strerror(errno));
    source->text = text;
}

static kiln_status source_parse(text_source *source, kiln_graph **out_graph)
{
    kiln_error error = {0};
    kiln_graph *volatile graph = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        if (source->path) read_file(&scope, source);
        kiln_graph *made = kiln_graph_parse(&scope, source->context, source->text, source->bytes);
        kiln_scope_keep(&scope, made);
        kiln_graph_attach(made, NULL);
        graph = made;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_OK) {
        *out_graph = graph;
        return status;
    }
    bool has_path = source->path && status != KILN_IO;
    return kiln_context_fail(source->context, status, "%s%s%s", has_path ? source->path : "",
                             has_path ? ":" : "", error.message);
}

kiln_status kiln_read_text(kiln_context *context, const char *path, kiln_graph **out_graph)
{
    if (!context) return KILN_INVALID;
    if (!path || !out_graph) {
        return kiln_context_fail(context, KILN_INVALID, "read_text: %s is NULL",
                                 path ? "out_graph" : "path");
    }
    return source_parse(&(text_source){context, path, NULL, 0}, out_graph);
}

kiln_status kiln_parse_text(kiln_context *context, const char *text, size_t bytes,
                            kiln_graph **out_graph)
{
    if (!context) return KILN_INVALID;
    if (!text || !out_graph) {
        return kiln_context_fail(context, KILN_INVALID, "parse_text: %s is NULL",
                                 text ? "out_graph" : "text");
    }
    return source_parse(&(text_source){context, NULL, text, bytes}, out_graph);
}

kiln_status kiln_print_text(const kiln_graph *graph, char **out_text)
{
    if (!graph || !out_text) return KILN_INVALID;
    if (graph->error.status != KILN_OK) return graph->error.status;
    kiln_error error = {0};
    char *volatile copy = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text text = {.arena = &scope.arena};
        kiln_graph_print(graph, &text);
        copy = strdup(kiln_text_string(&text));
        if (!copy) kiln_fail(&scope, KILN_NO_MEMORY, "print: %zu bytes were not available", text.n);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_OK) {
        *out_text = copy;
    } else {
        kiln_graph_set_message(graph, &error);
    }
    return status;
}

void kiln_free(void *memory)
{
    free(memory);
}
