/* kiln_print_passes: named passes over a graph, and the result as text; `schedule` and `kernels`
 * print what a compile would group and lower. */
#include <stdlib.h>
#include <string.h>

#include "codegen/compile.h"
#include "codegen/lower.h"

static void print_kernels(const kiln_schedule *schedule, kiln_text *text)
{
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        kiln_text_printf(text, "# group %u: %s\n", i, schedule->groups.at[i].label);
        kiln_kernel_print(kiln_lower_group(schedule->scope, schedule, i), text);
    }
}

/* Runs one name of the list. Returns the next graph; prints and returns NULL when it was a last
 * stage. */
static const kiln_graph *run_stage(kiln_pipeline *pipeline, const kiln_graph *graph,
                                   const char *name, size_t n, kiln_text *text)
{
    bool is_schedule = n == 8 && memcmp(name, "schedule", n) == 0;
    if (is_schedule || (n == 7 && memcmp(name, "kernels", n) == 0)) {
        kiln_schedule *schedule = kiln_fuse(pipeline, graph);
        kiln_plan_memory(pipeline, schedule);
        if (is_schedule) {
            kiln_schedule_print(schedule, text);
        } else {
            print_kernels(schedule, text);
        }
        return NULL;
    }
    const kiln_pass *pass = kiln_pass_find(name, n);
    if (!pass) {
        kiln_text known = {.arena = &pipeline->scope->arena};
#define KILN_PASS(name, needs, gives, breaks) \
    if (!strstr(kiln_text_string(&known), #name)) kiln_text_append(&known, #name ", ");
#include "passes/pipeline.def"
#undef KILN_PASS
        kiln_fail(pipeline->scope, KILN_INVALID,
                  "passes: there is no \"%.*s\"; expected %sschedule or kernels", (int)n, name,
                  kiln_text_string(&known));
    }
    return kiln_pass_run(pipeline, pass, graph);
}

void kiln_print_compilation(kiln_compilation *compilation, const char *passes, kiln_text *text)
{
    const kiln_graph *graph = compilation->source;
    while (graph && *passes) {
        size_t n = strcspn(passes, ",");
        graph = run_stage(&compilation->pipeline, graph, passes, n, text);
        passes += n + (passes[n] == ',');
    }
    if (graph) kiln_graph_print(graph, text);
}
