/* Compile, run, look at the guard bytes. */
#include "ops/compiled.h"

#include <stdio.h>
#include <string.h>

#define GUARD 64
#define GUARD_BYTE 0xa5

bool compiled_contexts_open(compiled_contexts *contexts)
{
    memset(contexts, 0, sizeof *contexts);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        kiln_context_options options = {.struct_bytes = sizeof options, .threads = threads};
        if (kiln_context_create(&options, &contexts->of[threads])) return false;
    }
    return true;
}

void compiled_contexts_close(compiled_contexts *contexts)
{
    for (uint32_t threads = 1; threads <= 2; threads++) kiln_context_destroy(contexts->of[threads]);
}

bool compiled_can_run(const char *target_cpu)
{
    uint64_t features = kiln_cpu_features();
    if (strcmp(target_cpu, "x86-64-v4") == 0) return features & KILN_CPU_AVX512;
    if (strcmp(target_cpu, "x86-64-v3") == 0)
        return features & KILN_CPU_AVX2 && features & KILN_CPU_FMA;
    return true;
}

/* Output memory between guards, filled so that what is not written shows. */
static kiln_tensor *make_outputs(kiln_scope *scope, const kiln_graph *graph)
{
    kiln_tensor *outputs = kiln_new_array(&scope->arena, kiln_tensor, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        size_t bytes = (size_t)type->bytes;
        unsigned char *memory = kiln_arena_alloc(&scope->arena, bytes + 2 * GUARD);
        memset(memory, GUARD_BYTE, bytes + 2 * GUARD);
        outputs[i] = (kiln_tensor){type->dtype, type->rank, type->dims, memory + GUARD, bytes};
    }
    return outputs;
}

static bool is_guard_whole(const unsigned char *at)
{
    for (int i = 0; i < GUARD; i++) {
        if (at[i] != GUARD_BYTE) return false;
    }
    return true;
}

static int32_t find_overrun(const kiln_graph *graph, const kiln_tensor *outputs)
{
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const unsigned char *data = outputs[i].data;
        if (!is_guard_whole(data - GUARD) || !is_guard_whole(data + outputs[i].bytes))
            return (int32_t)i;
    }
    return -1;
}

kiln_compile_options compiled_options(const compiled_variant *variant)
{
    return (kiln_compile_options){.struct_bytes = sizeof(kiln_compile_options),
                                  .target_cpu = variant->target_cpu,
                                  .is_unfused = variant->is_unfused,
                                  .is_strict = variant->is_strict};
}

kiln_executable *compiled_open(const compiled_contexts *contexts, kiln_graph *graph,
                               const compiled_variant *variant, compiled_result *result)
{
    kiln_compile_options options = compiled_options(variant);
    kiln_executable *executable = NULL;
    *result = (compiled_result){.overrun = -1};
    graph->context = contexts->of[variant->threads];
    result->status = kiln_compile(graph, &options, &executable);
    if (result->status) {
        snprintf(result->message, sizeof result->message, "%s", kiln_graph_message(graph));
        return NULL;
    }
    kiln_compile_report report;
    kiln_executable_report(executable, &report);
    result->n_kernels = report.n_kernels;
    result->n_compiled = report.n_compiled;
    result->compile_seconds = report.seconds;
    return executable;
}

void compiled_execute(kiln_scope *scope, const kiln_graph *graph, kiln_executable *executable,
                      const kiln_tensor *inputs, compiled_result *result)
{
    kiln_workspace *workspace = NULL;
    result->status = kiln_workspace_create(executable, &workspace);
    if (result->status) {
        snprintf(result->message, sizeof result->message, "%s",
                 kiln_context_message(graph->context));
        return;
    }
    result->outputs = make_outputs(scope, graph);
    result->status =
        kiln_run(workspace, inputs, graph->inputs.n, result->outputs, graph->outputs.n);
    if (result->status)
        snprintf(result->message, sizeof result->message, "%s", kiln_workspace_message(workspace));
    result->overrun = find_overrun(graph, result->outputs);
    kiln_workspace_destroy(workspace);
}

compiled_result compiled_run(kiln_scope *scope, const compiled_contexts *contexts,
                             kiln_graph *graph, const compiled_variant *variant,
                             const kiln_tensor *inputs)
{
    compiled_result result;
    kiln_executable *executable = compiled_open(contexts, graph, variant, &result);
    if (executable) compiled_execute(scope, graph, executable, inputs, &result);
    kiln_executable_destroy(executable);
    return result;
}
