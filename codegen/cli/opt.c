/* kiln opt: runs named passes over a text graph and prints the result; `schedule` and `kernels` print
 * what a compile would group and lower. */
#include <string.h>

#include "codegen/cli/cli.h"
#include "codegen/lower.h"
#include "passes/pass.h"

static void print_kernels(const kiln_schedule *schedule, kiln_text *text)
{
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        kiln_text_printf(text, "# group %u: %s\n", i, schedule->groups.at[i].label);
        kiln_kernel_print(kiln_lower_group(schedule->scope, schedule, i), text);
    }
}

/* Runs one name of the list. Returns the next graph; prints and returns NULL when it was a last stage. */
static const kiln_graph *run_stage(kiln_pipeline *pipeline, const kiln_graph *graph, const char *name,
                                   size_t n, kiln_text *text)
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
        kiln_fail(pipeline->scope, KILN_INVALID, "--run: there is no pass \"%.*s\"; kiln --help names them",
                  (int)n, name);
    }
    return kiln_pass_run(pipeline, pass, graph);
}

static void run_passes(kiln_pipeline *pipeline, const kiln_graph *graph, const char *list)
{
    kiln_text text = {.arena = &pipeline->scope->arena};
    while (graph && *list) {
        size_t n = strcspn(list, ",");
        graph = run_stage(pipeline, graph, list, n, &text);
        list += n + (list[n] == ',');
    }
    if (graph) kiln_graph_print(graph, &text);
    fputs(kiln_text_string(&text), stdout);
}

int cli_opt(const cli_options *options)
{
    if (!options->passes) return cli_fail(KILN_INVALID, "opt: --run PASS[,PASS] is missing");
    cli_model model;
    int exit_code = cli_model_open(options, &model);
    if (!exit_code && !model.graph) {
        exit_code = cli_fail(KILN_INVALID, "opt: a compiled .so was given; expected a .onnx or .kiln model");
    }
    if (!exit_code) {
        kiln_error error = {0};
        kiln_scope scope;
        const char *cpu = options->target_cpu;
        const kiln_machine *machine = cpu && strcmp(cpu, "host") != 0
                                          ? kiln_machine_find(cpu)
                                          : kiln_machine_best(kiln_cpu_features());
        kiln_scope_open(&scope, &error);
        if (kiln_scope_try(&scope)) {
            if (!machine) kiln_fail(&scope, KILN_INVALID, "target cpu \"%s\" is unknown", cpu);
            kiln_pipeline pipeline = {
                .scope = &scope,
                .context = model.context,
                .machine = machine,
                .n_threads = kiln_context_threads(model.context),
                .is_strict = options->is_strict,
                .is_unfused = options->is_unfused,
            };
            run_passes(&pipeline, model.graph, options->passes);
        }
        kiln_status status = kiln_scope_close(&scope);
        if (status != KILN_OK) exit_code = cli_fail(status, "%s", error.message);
    }
    cli_model_close(&model);
    return exit_code;
}
