/* The tables of a program, from a schedule: one buffer row per place, one step per group, ports
 * from the graph. Everything lives in the artifact's arena, so the schedule may go. */
#include "codegen/compile.h"

#include <string.h>

#include "runtime/context.h"

typedef struct table_builder {
    kiln_compilation *compilation;
    kiln_artifact *artifact;
    kiln_arena *arena;
    const int64_t *constant_offsets;
    kiln_vec(uint32_t) operands;
    kiln_vec(const char *) strings;
} table_builder;

static void fill_port(table_builder *builder, kiln_port_row *port, const kiln_type *type,
                      const char *name)
{
    *port = (kiln_port_row){
        .name = kiln_arena_string(builder->arena, name ? name : ""),
        .dtype = type->dtype,
        .rank = type->rank,
        .dims = kiln_arena_copy(builder->arena, type->dims, type->rank * sizeof *type->dims),
        .bytes = type->bytes,
        .donated_to = KILN_NONE,
    };
}

static void fill_ports(table_builder *builder)
{
    const kiln_graph *graph = builder->compilation->graph;
    kiln_program *program = &builder->artifact->program;
    program->n_inputs = graph->inputs.n;
    program->n_outputs = graph->outputs.n;
    kiln_port_row *inputs = kiln_new_array(builder->arena, kiln_port_row, graph->inputs.n);
    kiln_port_row *outputs = kiln_new_array(builder->arena, kiln_port_row, graph->outputs.n);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
        fill_port(builder, &inputs[i], node->type, node->label);
        inputs[i].donated_to = builder->compilation->schedule->donations.at[i];
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        fill_port(builder, &outputs[i], kiln_graph_type(graph, output->value), output->name);
    }
    program->inputs = inputs;
    program->outputs = outputs;
}

static void fill_buffers(table_builder *builder)
{
    const kiln_schedule *schedule = builder->compilation->schedule;
    kiln_program *program = &builder->artifact->program;
    uint32_t n_rows = schedule->places.n + schedule->copies.n;
    kiln_buffer_row *rows = kiln_new_array(builder->arena, kiln_buffer_row, n_rows);
    for (uint32_t i = 0; i < schedule->places.n; i++) {
        static const uint32_t kinds[] = {
            [KILN_PLACE_INPUT] = KILN_BUFFER_INPUT,
            [KILN_PLACE_OUTPUT] = KILN_BUFFER_OUTPUT,
            [KILN_PLACE_CONSTANT] = KILN_BUFFER_CONSTANT,
            [KILN_PLACE_ARENA] = KILN_BUFFER_ARENA,
        };
        const kiln_place *place = &schedule->places.at[i];
        bool is_port = place->kind == KILN_PLACE_INPUT || place->kind == KILN_PLACE_OUTPUT;
        bool is_constant = place->kind == KILN_PLACE_CONSTANT;
        rows[i] = (kiln_buffer_row){
            .kind = kinds[place->kind],
            .index = is_port ? place->index : KILN_NONE,
            .offset = is_port ? 0 : is_constant ? builder->constant_offsets[i] : place->offset,
            .bytes = place->bytes,
        };
    }
    for (uint32_t i = 0; i < schedule->copies.n; i++) {
        uint32_t port = schedule->copies.at[i].port;
        rows[schedule->places.n + i] = (kiln_buffer_row){
            .kind = KILN_BUFFER_OUTPUT,
            .index = port,
            .bytes = program->outputs[port].bytes,
        };
    }
    program->buffers = rows;
    program->n_buffers = n_rows;
}

static uint32_t add_string(table_builder *builder, const char *string)
{
    for (uint32_t i = 0; i < builder->strings.n; i++) {
        if (strcmp(builder->strings.at[i], string) == 0) return i;
    }
    kiln_vec_push(&builder->strings, builder->arena, kiln_arena_string(builder->arena, string));
    return builder->strings.n - 1;
}

static void add_operand(table_builder *builder, kiln_operand operand)
{
    const kiln_schedule *schedule = builder->compilation->schedule;
    const kiln_place *place = kiln_schedule_place(schedule, operand);
    kiln_vec_push(&builder->operands, builder->arena, (uint32_t)(place - schedule->places.at));
}

static kiln_step_row group_step(table_builder *builder, uint32_t number)
{
    const kiln_compilation *compilation = builder->compilation;
    const kiln_group *group = &compilation->schedule->groups.at[number];
    const kiln_kernel *kernel = compilation->kernels[number];
    kiln_step_row step = {
        .kind = group->kind == KILN_GROUP_PACK ? KILN_STEP_PACK : KILN_STEP_KERNEL,
        .target = compilation->unit_of[number],
        .first_operand = builder->operands.n,
        .n_operands = group->n_inputs + group->n_outputs,
        .n_tiles = kernel->n_tiles,
        .region = 1,
        .cost = group->ns < 1 ? 1 : (uint64_t)group->ns,
        .label = add_string(builder, group->label),
    };
    for (uint32_t i = 0; i < group->n_inputs; i++) add_operand(builder, group->inputs[i]);
    for (uint32_t i = 0; i < group->n_outputs; i++) add_operand(builder, group->outputs[i]);
    return step;
}

static kiln_step_row copy_step(table_builder *builder, uint32_t number)
{
    const kiln_schedule *schedule = builder->compilation->schedule;
    kiln_step_row step = {
        .kind = KILN_STEP_COPY,
        .first_operand = builder->operands.n,
        .n_operands = 2,
        .label = KILN_NONE,
    };
    kiln_vec_push(&builder->operands, builder->arena, schedule->copies.at[number].from);
    kiln_vec_push(&builder->operands, builder->arena, schedule->places.n + number);
    return step;
}

static kiln_step_row check_step(table_builder *builder, const kiln_graph_check *check)
{
    const kiln_graph *graph = builder->compilation->graph;
    kiln_step_row step = {
        .kind = KILN_STEP_CHECK,
        .target = add_string(builder, check->sentence),
        .first_operand = builder->operands.n,
        .n_operands = 1,
        .label = KILN_NONE,
    };
    kiln_value stored = kiln_stored_value(graph, check->value);
    add_operand(builder, (kiln_operand){.value = stored, .format = KILN_FORMAT_DENSE});
    return step;
}

static void fill_steps(table_builder *builder)
{
    const kiln_schedule *schedule = builder->compilation->schedule;
    const kiln_graph *graph = builder->compilation->graph;
    kiln_program *program = &builder->artifact->program;
    uint32_t n_steps = schedule->groups.n + schedule->copies.n + graph->checks.n, n = 0;
    kiln_step_row *steps = kiln_new_array(builder->arena, kiln_step_row, n_steps);
    for (uint32_t i = 0; i < schedule->groups.n; i++) steps[n++] = group_step(builder, i);
    for (uint32_t i = 0; i < schedule->copies.n; i++) steps[n++] = copy_step(builder, i);
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        steps[n++] = check_step(builder, &graph->checks.at[i]);
    }
    program->steps = steps;
    program->n_steps = n_steps;
    program->operands = builder->operands.at;
    program->n_operands = builder->operands.n;
    program->strings = builder->strings.at;
    program->n_strings = builder->strings.n;
}

static void fill_kernels(table_builder *builder)
{
    const kiln_compilation *compilation = builder->compilation;
    kiln_program *program = &builder->artifact->program;
    const char **names = kiln_new_array(builder->arena, const char *, compilation->units.n);
    for (uint32_t i = 0; i < compilation->units.n; i++) {
        names[i] = kiln_arena_string(builder->arena, compilation->units.at[i].symbol);
    }
    program->kernel_names = names;
    program->n_kernels = compilation->units.n;
    for (uint32_t i = 0; i < compilation->schedule->groups.n; i++) {
        int64_t bytes = compilation->kernels[i]->scratch_bytes;
        if (bytes > program->scratch_bytes) program->scratch_bytes = bytes;
    }
}

/* What the kernels need, not all that the machine has: a program without matrix tiles runs without
 * them. */
static uint64_t needed_features(const kiln_compilation *compilation)
{
    const kiln_machine *machine = compilation->schedule->machine;
    uint64_t features = machine->plain ? kiln_machine_find(machine->plain)->cpu_features
                                       : machine->cpu_features;
    for (uint32_t i = 0; i < compilation->units.n; i++)
        features |= kiln_kernel_target(compilation->units.at[i].kernel)->cpu_features;
    return features;
}

void kiln_fill_program(kiln_compilation *compilation, kiln_artifact *artifact, const char *name)
{
    const kiln_schedule *schedule = compilation->schedule;
    int64_t *offsets = kiln_new_array(&artifact->arena, int64_t, schedule->places.n + 1);
    table_builder builder = {
        .compilation = compilation,
        .artifact = artifact,
        .arena = &artifact->arena,
        .constant_offsets = offsets,
    };
    kiln_program *program = &artifact->program;
    *program = (kiln_program){
        .abi = KILN_PROGRAM_ABI,
        .struct_bytes = sizeof *program,
        .name = kiln_arena_string(&artifact->arena, name),
        .target = kiln_arena_string(&artifact->arena, schedule->machine->name),
        .producer = "kiln " KILN_VERSION,
        .cpu_features = needed_features(compilation),
        .flags = compilation->options->flush_denormals ? KILN_PROGRAM_FLUSH_DENORMALS : 0,
        .constant_bytes = kiln_layout_constants(schedule, offsets),
        .arena_bytes = schedule->arena_bytes,
    };
    fill_ports(&builder);
    fill_buffers(&builder);
    fill_kernels(&builder);
    fill_steps(&builder);
    if (program->constant_bytes) {
        artifact->context = compilation->source->context;
        artifact->constants = kiln_context_allocate(artifact->context, program->constant_bytes);
        if (!artifact->constants) {
            kiln_fail(compilation->scope, KILN_NO_MEMORY, "constants: %lld bytes",
                      (long long)program->constant_bytes);
        }
        memset(artifact->constants, 0, (size_t)program->constant_bytes);
        kiln_fill_constants(compilation, offsets, artifact->constants);
    }
    program->constants = artifact->constants;
}
