/* A format each: written, read, compared. */
#define _GNU_SOURCE /* memmem */
#include "fuzz/files.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kiln/kiln.h"

static const char *text_of(kiln_scope *scope, const kiln_graph *graph)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_graph_print(graph, &text);
    return kiln_text_string(&text);
}

static void take(compiled_result *result, kiln_status status, const char *format,
                 const char *sentence)
{
    result->status = status;
    snprintf(result->message, sizeof result->message, "%s: %.900s", format, sentence);
}

/* Lines are the same, but for a constant that says where it stands instead of what it is. */
static bool is_same_line(const char *a, size_t n, const char *b, size_t m)
{
    static const char start[] = "value = blob ";
    const char *blob = memmem(a, n, start, sizeof start - 1);
    if (blob) n = m = (size_t)(blob - a) < m ? (size_t)(blob - a) : m;
    return n == m && memcmp(a, b, n) == 0;
}

/* Compares what was read, and lets it go. */
static void expect_same(kiln_scope *scope, const char *expected, kiln_graph *read,
                        const char *format, compiled_result *result)
{
    const char *found = text_of(scope, read);
    kiln_graph_destroy(read);
    while (*found || *expected) {
        size_t n = strcspn(found, "\n"), m = strcspn(expected, "\n");
        if (!is_same_line(found, n, expected, m)) {
            char sentence[600];
            snprintf(sentence, sizeof sentence, "read again as \"%.*s\" instead of \"%.*s\"",
                     (int)(n < 250 ? n : 250), found, (int)(m < 250 ? m : 250), expected);
            take(result, KILN_INTERNAL, format, sentence);
            return;
        }
        found += n + (found[n] != 0);
        expected += m + (expected[m] != 0);
    }
}

static void run_text(kiln_scope *scope, const kiln_graph *graph, compiled_result *result)
{
    kiln_graph *read = NULL;
    const char *text = text_of(scope, graph);
    kiln_status status = kiln_parse_text(graph->context, text, strlen(text), &read);
    if (status)
        take(result, status, "text", kiln_context_message(graph->context));
    else
        expect_same(scope, text, read, "text", result);
}

static void run_binary(kiln_scope *scope, const char *path, const kiln_graph *graph,
                       compiled_result *result)
{
    kiln_graph *read = NULL;
    kiln_status status = kiln_write_binary(graph, path, NULL);
    if (status) {
        take(result, status, "binary", kiln_graph_message(graph));
    } else if ((status = kiln_read_binary(graph->context, path, &read))) {
        take(result, status, "binary", kiln_context_message(graph->context));
    } else {
        expect_same(scope, text_of(scope, graph), read, "binary", result);
    }
    unlink(path);
}

static void evaluate(kiln_scope *scope, const kiln_graph *graph, const kiln_graph *read,
                     const kiln_tensor *inputs, compiled_result *result)
{
    if (read->inputs.n != graph->inputs.n || read->outputs.n != graph->outputs.n) {
        take(result, KILN_INTERNAL, "ONNX", "read again with other inputs or outputs");
        return;
    }
    kiln_arena *arena = &scope->arena;
    result->outputs = kiln_new_array(arena, kiln_tensor, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        result->outputs[i] =
            (kiln_tensor){type->dtype, type->rank, type->dims,
                          kiln_arena_alloc(arena, (size_t)type->bytes + 16), (size_t)type->bytes};
    }
    kiln_status status =
        kiln_evaluate(read, inputs, graph->inputs.n, result->outputs, graph->outputs.n);
    if (status) take(result, status, "ONNX", kiln_graph_message(read));
    if (status) result->outputs = NULL;
}

static void run_onnx(kiln_scope *scope, const char *path, const fuzz_case *c,
                     compiled_result *result)
{
    kiln_graph *read = NULL;
    kiln_status status = kiln_export_onnx(c->graph, path, NULL);
    if (status) {
        take(result, status, "ONNX", kiln_graph_message(c->graph));
    } else if ((status = kiln_import_onnx(c->graph->context, path, NULL, &read))) {
        take(result, status == KILN_UNSUPPORTED ? KILN_MODEL : status, "ONNX",
             kiln_context_message(c->graph->context));
    } else {
        evaluate(scope, c->graph, read, c->inputs, result);
        kiln_graph_destroy(read);
    }
    unlink(path);
}

void fuzz_files_run(kiln_scope *scope, const char *folder, const fuzz_case *c,
                    compiled_result *result)
{
    const char *binary = kiln_arena_format(&scope->arena, "%s/graph.kilnb", folder);
    const char *onnx = kiln_arena_format(&scope->arena, "%s/graph.onnx", folder);
    *result = (compiled_result){.overrun = -1};
    run_text(scope, c->graph, result);
    if (!result->status) run_binary(scope, binary, c->graph, result);
    if (!result->status) run_onnx(scope, onnx, c, result);
}
