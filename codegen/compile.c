/* kiln_compile: graph in, executable out. Stages: passes, fuse, plan memory, lower, machine code,
 * program. Kernels that print the same are compiled once: equal layers cost one. */
#include "codegen/compile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "codegen/cache.h"
#include "codegen/cuda/backend.h"
#include "codegen/effort.h"
#include "codegen/library.h"
#include "codegen/lower.h"
#include "codegen/object.h"
#include "codegen/tune.h"
#include "runtime/context.h"
#include "runtime/cpu.h"
#include "runtime/executable.h"

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void report_progress(const kiln_compilation *compilation, const char *stage, uint32_t done,
                            uint32_t total)
{
    const kiln_compile_options *options = compilation->options;
    if (options->progress) options->progress(options->progress_user, stage, done, total);
}

static void dump_schedules(kiln_compilation *compilation)
{
    kiln_arena *arena = &compilation->scope->arena;
    if (!compilation->pipeline.dump_dir) return;
    for (uint32_t i = 0; i < compilation->parts.n; i++) {
        kiln_text text = {.arena = arena};
        kiln_schedule_print(compilation->parts.at[i].schedule, &text);
        const char *name = i ? kiln_arena_format(arena, "schedule-region%u.txt", i)
                             : "schedule.txt";
        kiln_pipeline_dump(&compilation->pipeline, name, kiln_text_string(&text));
    }
}

static void dump_unit(kiln_compilation *compilation, const kiln_unit *unit)
{
    if (!compilation->pipeline.dump_dir) return;
    kiln_arena *arena = &compilation->scope->arena;
    kiln_pipeline_dump(&compilation->pipeline, kiln_arena_format(arena, "%s.kernel", unit->symbol),
                       unit->text);
    kiln_text text = {.arena = arena};
    compilation->backend->emit(compilation->scope, unit->kernel, unit->symbol, &text);
    kiln_pipeline_dump(&compilation->pipeline, kiln_arena_format(arena, "%s.ll", unit->symbol),
                       kiln_text_string(&text));
}

static const char *kernel_text(kiln_arena *arena, const kiln_kernel *kernel)
{
    kiln_text text = {.arena = arena};
    kiln_text_printf(&text, "machine %s\n", kiln_kernel_target(kernel)->name);
    kiln_kernel_print(kernel, &text);
    return kiln_text_string(&text);
}

/* The unit with the kernel's text, or a new one. Two texts of one hash get different symbols. */
static uint32_t find_unit(kiln_compilation *compilation, const kiln_kernel *kernel)
{
    kiln_arena *arena = &compilation->scope->arena;
    const char *text = kernel_text(arena, kernel);
    uint64_t hash = kiln_hash_bytes(KILN_HASH_SEED, text, strlen(text));
    const char *symbol = kiln_arena_format(arena, "k_%016llx", (unsigned long long)hash);
    for (uint32_t i = 0; i < compilation->units.n; i++) {
        if (strcmp(compilation->units.at[i].symbol, symbol) != 0) continue;
        if (strcmp(compilation->units.at[i].text, text) == 0) return i;
        symbol = kiln_arena_format(arena, "%s_%u", symbol, compilation->units.n);
    }
    kiln_unit unit = {.kernel = kernel, .text = text, .symbol = symbol};
    kiln_vec_push(&compilation->units, arena, unit);
    return compilation->units.n - 1;
}

/* Units are the head's. */
static void lower_groups(kiln_compilation *compilation, kiln_part *part)
{
    kiln_scope *scope = compilation->scope;
    const kiln_schedule *schedule = part->schedule;
    uint32_t n = schedule->groups.n;
    part->kernels = kiln_new_array(&scope->arena, kiln_kernel *, n + 1);
    part->unit_of = kiln_new_array(&scope->arena, uint32_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (schedule->groups.at[i].kind == KILN_GROUP_REGION) continue;
        kiln_kernel *kernel = kiln_lower_group(scope, schedule, i);
        kiln_error error = {0};
        if (kiln_kernel_verify(kernel, &error) != KILN_OK) {
            kiln_fail(scope, KILN_INTERNAL, "group %u (%s): %s", i, schedule->groups.at[i].label,
                      error.message);
        }
        part->kernels[i] = kernel;
        report_progress(compilation, "lower", i + 1, n);
    }
    if (compilation->parts.n == 1)
        kiln_choose_effort(compilation->source, schedule, part->kernels);
    for (uint32_t i = 0; i < n; i++)
        if (part->kernels[i]) part->unit_of[i] = find_unit(compilation, part->kernels[i]);
}

/* Passes, fusion and planning of one size. */
static void plan_size(kiln_compilation *compilation)
{
    kiln_parts_open(compilation);
    kiln_parts_plan(compilation);
    dump_schedules(compilation);
}

void kiln_compilation_run(kiln_compilation *compilation)
{
    kiln_pipeline *pipeline = &compilation->pipeline;
    kiln_scope *scope = compilation->scope;
    uint32_t n_sizes = compilation->n_larger + 1;
    report_progress(compilation, "passes", 0, 1);
    for (uint32_t s = 0; s < n_sizes; s++) plan_size(kiln_compilation_size(compilation, s));
    bool is_gpu = pipeline->machine->kind == KILN_MACHINE_GPU;
    compilation->backend = is_gpu ? kiln_backend_cuda() : kiln_backend_open(scope, "llvm");
    for (uint32_t s = 0; s < n_sizes; s++) {
        kiln_compilation *size = kiln_compilation_size(compilation, s);
        for (uint32_t i = 0; pipeline->is_tuned && i < size->parts.n; i++)
            kiln_tune_part(compilation, &size->parts.at[i]);
        for (uint32_t i = 0; i < size->parts.n; i++)
            lower_groups(compilation, &size->parts.at[i]);
    }
    for (uint32_t i = 0; i < compilation->units.n; i++)
        dump_unit(compilation, &compilation->units.at[i]);
    report_progress(compilation, "compile", 0, compilation->units.n);
    uint32_t n_threads = compilation->options->compile_threads;
    kiln_compile_units(compilation, n_threads ? n_threads : pipeline->n_threads);
    report_progress(compilation, "compile", compilation->units.n, compilation->units.n);
}

void kiln_artifact_destroy(void *object)
{
    kiln_artifact *artifact = object;
    if (!artifact) return;
    kiln_code_unload(artifact->code);
    if (artifact->constants) {
        kiln_context_release(artifact->context, artifact->constants, artifact->constant_capacity);
    }
    kiln_arena_fini(&artifact->arena);
    free(artifact);
}

void kiln_artifact_load(kiln_scope *scope, kiln_artifact *artifact)
{
    kiln_program *program = &artifact->program;
    kiln_code_load(scope, artifact->objects, program->n_kernels, &artifact->code);
    kiln_kernel_fn **kernels =
        kiln_new_array(&artifact->arena, kiln_kernel_fn *, program->n_kernels);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        kernels[i] = kiln_code_function(artifact->code, i);
    }
    program->kernels = kernels;
    kiln_artifact_share(artifact);
}

static void fill_report(const kiln_compilation *compilation, kiln_compile_report *report)
{
    report->n_nodes = compilation->graph->nodes.n ? compilation->graph->nodes.n - 1 : 0;
    report->n_kernels = compilation->units.n;
    report->n_compiled = compilation->n_compiled;
    for (uint32_t p = 0; p < compilation->parts.n; p++) {
        const kiln_schedule *schedule = compilation->parts.at[p].schedule;
        report->n_groups += schedule->groups.n;
        for (uint32_t i = 0; i < schedule->groups.n; i++) {
            report->flops += schedule->groups.at[i].flops;
            report->bytes += schedule->groups.at[i].bytes;
        }
    }
}

kiln_artifact *kiln_artifact_open(kiln_scope *scope)
{
    kiln_artifact *artifact = calloc(1, sizeof *artifact);
    if (!artifact) kiln_fail(scope, KILN_NO_MEMORY, "compile: %zu bytes", sizeof *artifact);
    kiln_arena_init(&artifact->arena, scope);
    kiln_scope_defer(scope, kiln_artifact_destroy, artifact);
    return artifact;
}

kiln_artifact *kiln_artifact_create(kiln_compilation *compilation, bool is_loaded)
{
    kiln_artifact *artifact = kiln_artifact_open(compilation->scope);
    const char *name = compilation->source->name;
    kiln_fill_program(compilation, artifact, name ? name : "");
    artifact->objects = kiln_new_array(&artifact->arena, kiln_object, compilation->units.n + 1);
    for (uint32_t i = 0; i < compilation->units.n; i++) {
        kiln_object object = compilation->units.at[i].object;
        object.data = kiln_arena_copy(&artifact->arena, object.data, object.bytes);
        object.symbol = kiln_arena_string(&artifact->arena, object.symbol);
        artifact->objects[i] = object;
    }
    if (is_loaded && compilation->pipeline.machine->kind == KILN_MACHINE_GPU) {
        kiln_fill_device_kernels(compilation, artifact);
    } else if (is_loaded) {
        kiln_artifact_load(compilation->scope, artifact);
    }
    fill_report(compilation, &artifact->report);
    return artifact;
}

static const kiln_machine *find_machine(kiln_scope *scope, const kiln_compile_options *options,
                                        bool is_run_here)
{
    const char *target = options->target ? options->target : "cpu";
    const char *cpu = options->target_cpu ? options->target_cpu : "host";
    if (strcmp(target, "cuda") == 0) return kiln_find_device(scope, options, is_run_here);
    if (strcmp(target, "cpu") != 0) {
        kiln_fail(scope, KILN_INVALID, "target \"%s\" is unknown; expected cpu or cuda", target);
    }
    bool is_host = strcmp(cpu, "host") == 0;
    const kiln_machine *machine =
        is_host ? kiln_machine_best(kiln_cpu_worthwhile(kiln_cpu_features()))
                : kiln_machine_find(cpu);
    if (!machine || machine->kind != KILN_MACHINE_CPU) {
        kiln_fail(scope, KILN_INVALID,
                  "target cpu \"%s\" is unknown; expected host, x86-64, x86-64-v3, "
                  "x86-64-v3-vnni, x86-64-v4, x86-64-vnni, x86-64-bf16 or x86-64-amx",
                  cpu);
    }
    if (is_run_here && (machine->cpu_features & ~kiln_cpu_features())) {
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "target cpu %s: this machine lacks features that it needs", machine->name);
    }
    return machine;
}

static kiln_status run_constant(void *user, const kiln_graph *graph, kiln_tensor *outputs,
                                kiln_error *error);

static void check_precision(kiln_scope *scope, const kiln_compile_options *options,
                            const kiln_machine *machine)
{
    if ((unsigned)options->precision > KILN_PRECISION_BF16)
        kiln_fail(scope, KILN_INVALID, "precision: %d is unknown; expected fma, x6 or bf16",
                  (int)options->precision);
    if (options->precision == KILN_PRECISION_X6 && !machine->has_amx)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "precision x6: machine %s has no matrix tiles; expected x86-64-amx, or fma",
                  machine->name);
}

/* Candidates are timed here, so the code must run here. */
static void check_tuning(kiln_scope *scope, const kiln_machine *machine)
{
    bool is_here = machine->kind == KILN_MACHINE_CPU &&
                   !(machine->cpu_features & ~kiln_cpu_features()) &&
                   kiln_cpu_enable(machine->cpu_features);
    if (!is_here)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "tuning: machine %s is not this one; expected one whose code runs here",
                  machine->name);
}

kiln_compilation *kiln_compilation_open(kiln_scope *scope, const kiln_graph *graph,
                                        const kiln_compile_options *options, bool is_run_here)
{
    kiln_compile_options *filled = kiln_new(&scope->arena, kiln_compile_options);
    if (options) {
        if (options->struct_bytes < sizeof(size_t) || options->struct_bytes > sizeof *filled) {
            kiln_fail(scope, KILN_INVALID, "compile options: struct_bytes is %zu; expected %zu",
                      options->struct_bytes, sizeof *filled);
        }
        memcpy(filled, options, options->struct_bytes);
    }
    if (graph->error.status != KILN_OK) kiln_fail_with(scope, &graph->error);
    if (!graph->outputs.n)
        kiln_fail(scope, KILN_INVALID, "graph: it has no output; expected one or more");
    kiln_compilation *compilation = kiln_new(&scope->arena, kiln_compilation);
    compilation->scope = scope;
    compilation->options = filled;
    compilation->source = graph;
    const char *dump_dir = filled->dump_dir ? filled->dump_dir : getenv("KILN_DUMP");
    compilation->pipeline = (kiln_pipeline){
        .scope = scope,
        .context = graph->context,
        .machine = find_machine(scope, filled, is_run_here),
        .n_threads = graph->context ? kiln_context_threads(graph->context) : 1,
        .is_strict = filled->is_strict != 0,
        .is_unfused = filled->is_unfused != 0,
        .flush_denormals = filled->flush_denormals != 0,
        .is_tuned = filled->is_tuned != 0,
        .precision = (int)filled->precision,
        .max_bytes = filled->max_bytes,
        .dump_dir = dump_dir && *dump_dir ? dump_dir : NULL,
    };
    check_precision(scope, filled, compilation->pipeline.machine);
    if (compilation->pipeline.is_tuned) check_tuning(scope, compilation->pipeline.machine);
    if (!(compilation->pipeline.machine->cpu_features & ~kiln_cpu_features()))
        compilation->pipeline.run_constant = run_constant;
    compilation->pipeline.run_constant_user = compilation;
    if (filled->open_batch) kiln_batch_open(compilation);
    return compilation;
}

/* From the cache where it is there, else made and stored. */
static kiln_artifact *find_artifact(kiln_compilation *compilation)
{
    kiln_cache *cache = kiln_cache_open(compilation);
    kiln_artifact *artifact = kiln_cache_load(cache, compilation);
    if (artifact) {
        artifact->report.n_compiled = 0;
        kiln_artifact_load(compilation->scope, artifact);
    } else {
        kiln_compilation_run(compilation);
        artifact = kiln_artifact_create(compilation, true);
        kiln_cache_store(cache, compilation, artifact);
    }
    artifact->report.cache = cache->use;
    return artifact;
}

kiln_status kiln_compile(const kiln_graph *graph, const kiln_compile_options *options,
                         kiln_executable **out_executable)
{
    if (!graph || !out_executable) return KILN_INVALID;
    double start = now_seconds();
    kiln_error error = {0};
    kiln_executable *volatile executable = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation = kiln_compilation_open(&scope, graph, options, true);
        kiln_artifact *artifact = find_artifact(compilation);
        artifact->report.seconds = now_seconds() - start;
        kiln_executable *made = NULL;
        kiln_status status = kiln_executable_adopt(graph->context, &artifact->program, artifact,
                                                   kiln_artifact_destroy, &made);
        if (status != KILN_OK) {
            kiln_fail(&scope, status, "%s", kiln_context_message(graph->context));
        }
        kiln_scope_keep(&scope, artifact);
        executable = made;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_OK) {
        *out_executable = executable;
    } else {
        kiln_graph_set_message(graph, &error);
    }
    return status;
}

void kiln_executable_report(const kiln_executable *executable, kiln_compile_report *out_report)
{
    if (!out_report) return;
    const kiln_artifact *artifact = kiln_executable_owner(executable, kiln_artifact_destroy);
    *out_report = artifact ? artifact->report : (kiln_compile_report){0};
}

/* Up to machine code that need not run here. */
static kiln_compilation *compile_ahead(kiln_scope *scope, const kiln_graph *graph,
                                       const kiln_compile_options *options)
{
    kiln_compilation *compilation = kiln_compilation_open(scope, graph, options, false);
    if (compilation->pipeline.machine->kind == KILN_MACHINE_GPU) {
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "compile_library: target cuda has no shared objects yet; expected target cpu");
    }
    kiln_compilation_run(compilation);
    return compilation;
}

const kiln_artifact *kiln_compile_ahead(kiln_scope *scope, const kiln_graph *graph,
                                        const kiln_compile_options *options)
{
    return kiln_artifact_create(compile_ahead(scope, graph, options), false);
}

kiln_status kiln_compile_library(const kiln_graph *graph, const kiln_compile_options *options,
                                 const char *path, const char *header, const char *prefix)
{
    if (!graph || !path) return KILN_INVALID;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation = compile_ahead(&scope, graph, options);
        kiln_artifact *artifact = kiln_artifact_create(compilation, false);
        kiln_library_spec spec = {
            .program = &artifact->program,
            .objects = artifact->objects,
            .path = path,
            .header = header,
            .prefix = prefix ? prefix : "model",
        };
        report_progress(compilation, "link", 0, 1);
        kiln_library_write(&scope, &spec);
        report_progress(compilation, "link", 1, 1);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) kiln_graph_set_message(graph, &error);
    return status;
}

/* Reports: `passes` NULL explains. */
static kiln_status report_compilation(const kiln_graph *graph, const kiln_compile_options *options,
                                      const char *passes, char **out_text)
{
    kiln_error error = {0};
    char *volatile text = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_text report = {.arena = &scope.arena};
        kiln_compilation *compilation = kiln_compilation_open(&scope, graph, options, false);
        if (passes) {
            kiln_print_compilation(compilation, passes, &report);
        } else {
            kiln_explain_compilation(compilation, &report);
        }
        text = strdup(kiln_text_string(&report));
        if (!text) kiln_fail(&scope, KILN_NO_MEMORY, "report: %zu bytes", report.n);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_OK) {
        *out_text = text;
    } else {
        kiln_graph_set_message(graph, &error);
    }
    return status;
}

kiln_status kiln_explain(const kiln_graph *graph, const kiln_compile_options *options,
                         char **out_text)
{
    if (!graph || !out_text) return KILN_INVALID;
    return report_compilation(graph, options, NULL, out_text);
}

kiln_status kiln_print_passes(const kiln_graph *graph, const kiln_compile_options *options,
                              const char *passes, char **out_text)
{
    if (!graph || !passes || !out_text) return KILN_INVALID;
    return report_compilation(graph, options, passes, out_text);
}

/* Folding's way to run a constant graph: a compile of its own, for this machine. */
static kiln_status run_constant(void *user, const kiln_graph *graph, kiln_tensor *outputs,
                                kiln_error *error)
{
    kiln_compilation *outer = user;
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    kiln_executable *volatile executable = NULL;
    kiln_workspace *volatile workspace = NULL;
    if (kiln_scope_try(&scope)) {
        kiln_compilation *compilation = kiln_compilation_open(&scope, graph, NULL, true);
        compilation->pipeline.context = outer->pipeline.context;
        bool is_cpu = outer->pipeline.machine->kind == KILN_MACHINE_CPU;
        if (is_cpu) compilation->pipeline.machine = outer->pipeline.machine;
        compilation->pipeline.run_constant = NULL;
        compilation->pipeline.dump_dir = NULL;
        kiln_compilation_run(compilation);
        kiln_artifact *artifact = kiln_artifact_create(compilation, true);
        kiln_executable *made = NULL;
        kiln_workspace *space = NULL;
        kiln_context *context = outer->pipeline.context;
        kiln_status status = kiln_executable_create(context, &artifact->program, &made);
        executable = made;
        if (status == KILN_OK) status = kiln_workspace_create(made, &space);
        workspace = space;
        if (status == KILN_OK) status = kiln_run(space, NULL, 0, outputs, graph->outputs.n);
        if (status != KILN_OK)
            kiln_fail(&scope, status, "folding: %s", kiln_context_message(context));
    }
    kiln_workspace_destroy(workspace);
    kiln_executable_destroy(executable);
    return kiln_scope_close(&scope);
}
