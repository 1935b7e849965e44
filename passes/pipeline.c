/* The manager of graph passes: order from pipeline.def, facts checked, the graph verified, timed
 * and dumped after each pass. */
#include <string.h>
#include <time.h>

#include "passes/pass.h"

static const kiln_pass passes[] = {
#define KILN_PASS(name, needs, gives, breaks) {#name, kiln_pass_##name, needs, gives, breaks},
#include "passes/pipeline.def"
#undef KILN_PASS
};

#define N_PASSES (sizeof passes / sizeof *passes)

const kiln_pass *kiln_pass_find(const char *name, size_t n)
{
    for (size_t i = 0; i < N_PASSES; i++) {
        if (strlen(passes[i].name) == n && memcmp(passes[i].name, name, n) == 0) return &passes[i];
    }
    return NULL;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void dump_graph(kiln_pipeline *pipeline, const char *name, const kiln_graph *graph)
{
    if (!pipeline->dump_dir) return;
    kiln_arena *arena = &pipeline->scope->arena;
    kiln_text text = {.arena = arena};
    kiln_graph_print_brief(graph, &text);
    kiln_pipeline_dump(pipeline, kiln_arena_format(arena, "%s.kiln", name),
                       kiln_text_string(&text));
}

static void verify_graph(kiln_pipeline *pipeline, const char *where, const kiln_graph *graph)
{
    kiln_error error = {0};
    if (kiln_graph_verify(graph, where, &error) == KILN_OK) return;
    kiln_fail(pipeline->scope, KILN_INTERNAL, "%s", error.message);
}

kiln_graph *kiln_pass_run(kiln_pipeline *pipeline, const kiln_pass *pass, const kiln_graph *graph)
{
    double start = now_ms();
    kiln_graph *next = pass->run(pipeline, graph);
    double ran = now_ms();
    const char *where = kiln_arena_format(&pipeline->scope->arena, "after %s", pass->name);
    if (next != graph) verify_graph(pipeline, where, next);
    if (pipeline->log) {
        kiln_text_printf(pipeline->log, "pass %-10s %6u nodes %8.2f ms, verified in %.2f ms\n",
                         pass->name, next->nodes.n - 1, ran - start, now_ms() - ran);
    }
    dump_graph(pipeline, pass->name, next);
    return next;
}

kiln_graph *kiln_pipeline_run(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    if (graph->outputs.n == 0) {
        kiln_fail(pipeline->scope, KILN_INVALID, "graph: has no outputs; expected at least one");
    }
    uint32_t facts = KILN_FACT_VERIFIED;
    kiln_graph *next = NULL;
    verify_graph(pipeline, "graph", graph);
    dump_graph(pipeline, "source", graph);
    for (size_t i = 0; i < N_PASSES; i++) {
        const kiln_pass *pass = &passes[i];
        if ((facts & pass->needs) != pass->needs) {
            kiln_fail(pipeline->scope, KILN_INTERNAL, "pass %s needs facts %#x and has %#x",
                      pass->name, pass->needs, facts);
        }
        next = kiln_pass_run(pipeline, pass, next ? next : graph);
        facts = (facts & ~pass->breaks) | pass->gives;
    }
    return next;
}
