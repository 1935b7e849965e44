/* Text graphs for callers: read from a file or memory, printed to memory of the caller's or to a
 * file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/context.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/io/write.h"
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

/* Comes back here for regions of regions: at most KILN_MAX_NESTING deep. A file's name is not part
 * of a node's identity, so that it may change in place. */
static void resolve_files(const kiln_graph *graph, kiln_arena *arena, const char *folder, int n)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        kiln_regions regions = kiln_attrs_regions(node->attrs);
        for (uint32_t i = 0; i < regions.n; i++) resolve_files(regions.at[i], arena, folder, n);
        if (node->op != KILN_OP_constant) continue;
        kiln_literal *literal = (kiln_literal *)(uintptr_t)&node->attrs->literal.value;
        if (literal->kind != KILN_LITERAL_FILE) continue;
        literal->file = kiln_arena_format(arena, "%.*s%s", n, folder, literal->file);
    }
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
        const char *slash = source->path ? strrchr(source->path, '/') : NULL;
        if (slash) resolve_files(made, &made->arena, source->path, (int)(slash + 1 - source->path));
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

/* The graph with constants that stand beside it as stretches of that file. */
static kiln_graph *graph_detach(const kiln_weights_plan *plan, const kiln_graph *graph)
{
    kiln_graph *to = kiln_graph_open(plan->scope, graph->context, graph->name);
    kiln_value *map = kiln_new_array(&plan->scope->arena, kiln_value, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (!plan->offsets[id]) {
            map[id] = kiln_graph_copy(to, graph, node, map);
            continue;
        }
        const kiln_type *type = kiln_graph_retype(to, node->type);
        kiln_literal literal = {KILN_LITERAL_FILE, NULL, node->type->bytes, plan->name,
                                plan->offsets[id]};
        map[id] = kiln_add_literal(to, type, &literal);
        if (node->label)
            to->nodes.at[map[id].id]->label = kiln_arena_string(&to->arena, node->label);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        kiln_copy_output(to, map[output->value.id], output);
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        const kiln_graph_check *check = &graph->checks.at[i];
        kiln_add_check(to, map[check->value.id], check->sentence);
    }
    return to;
}

static void write_text(kiln_weights_plan *plan, const kiln_graph *graph)
{
    kiln_text text = {.arena = &plan->scope->arena};
    kiln_sink *sink = kiln_sink_open(plan->scope, plan->path);
    plan->least = KILN_LITERAL_BYTES_MAX + 1;
    plan->is_needed = kiln_weights_bytes(graph, plan->least) > 0;
    kiln_weights_place(plan, graph);
    kiln_graph_print(plan->name ? graph_detach(plan, graph) : graph, &text);
    kiln_sink_write(sink, kiln_text_string(&text), text.n);
    kiln_weights_commit(plan);
    kiln_sink_commit(sink);
}

kiln_status kiln_write_text(const kiln_graph *graph, const char *path,
                            const kiln_write_options *options)
{
    return kiln_write_model(graph, path, options, write_text);
}

void kiln_free(void *memory)
{
    free(memory);
}
