/* The tables of a program, from the schedules of its parts: one buffer row per place, one step per
 * group, ports from the graph. Everything lives in the artifact's arena, so the schedules may
 * go. */
#include "codegen/tables.h"

#include <string.h>

#include "base/checked.h"
#include "runtime/batch.h"
#include "runtime/context.h"

static void fill_port(kiln_tables *tables, kiln_port_row *port, const kiln_type *type,
                      const char *name)
{
    *port = (kiln_port_row){
        .name = kiln_arena_string(tables->arena, name ? name : ""),
        .dtype = type->dtype,
        .rank = type->rank,
        .dims = kiln_arena_copy(tables->arena, type->dims, type->rank * sizeof *type->dims),
        .bytes = type->bytes,
        .donated_to = KILN_NONE,
    };
}

/* In the dtypes of the user's graph; those of the compiled one have the same bytes. */
static void fill_ports(kiln_tables *tables)
{
    const kiln_graph *graph = tables->compilation->source;
    kiln_program *program = tables->program;
    program->n_inputs = graph->inputs.n;
    program->n_outputs = graph->outputs.n;
    kiln_port_row *inputs = kiln_new_array(tables->arena, kiln_port_row, graph->inputs.n);
    kiln_port_row *outputs = kiln_new_array(tables->arena, kiln_port_row, graph->outputs.n);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
        fill_port(tables, &inputs[i], node->type, node->label);
        inputs[i].donated_to = tables->compilation->schedule->donations.at[i];
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        fill_port(tables, &outputs[i], kiln_graph_type(graph, output->value), output->name);
        if (output->counted_by == KILN_NOT_COUNTED) continue;
        outputs[i].donated_to = output->counted_by;
        outputs[i].counted_axis = output->counted_axis;
    }
    program->inputs = inputs;
    program->outputs = outputs;
}

uint32_t kiln_tables_row(kiln_tables *tables, kiln_buffer_row row)
{
    kiln_vec_push(&tables->rows, tables->arena, row);
    return tables->rows.n - 1;
}

/* An input or output: the caller's, or what the part around a region has for it. */
static kiln_buffer_row port_row(const kiln_tables *tables, uint32_t part, bool is_input,
                                uint32_t port)
{
    uint32_t kind = is_input ? KILN_BUFFER_INPUT : KILN_BUFFER_OUTPUT;
    if (part == 0) return (kiln_buffer_row){.kind = kind, .index = port};
    uint32_t row = is_input ? kiln_region_input_row(tables, part, port)
                            : kiln_region_output_row(tables, part, port);
    return tables->rows.at[row];
}

static kiln_buffer_row place_row(const kiln_tables *tables, uint32_t number, uint32_t place_number)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    const kiln_place *place = &part->schedule->places.at[place_number];
    const kiln_part_tables *own = &tables->parts[number];
    kiln_buffer_row row = {.index = KILN_NONE};
    switch (place->kind) {
    case KILN_PLACE_INPUT:
    case KILN_PLACE_OUTPUT:
        row = port_row(tables, number, place->kind == KILN_PLACE_INPUT, place->index);
        break;
    case KILN_PLACE_CONSTANT:
        row.kind = KILN_BUFFER_CONSTANT;
        row.offset = own->constant_offsets[place_number];
        break;
    case KILN_PLACE_ARENA:
        row.kind = KILN_BUFFER_ARENA;
        row.offset = own->arena_base + place->offset;
        break;
    }
    row.bytes = place->bytes;
    return row;
}

/* Where the memory of a region's part begins: behind what its region needs itself. */
static int64_t arena_base(const kiln_tables *tables, uint32_t number)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    if (part->parent == KILN_NONE) return 0;
    const kiln_part *outer = &tables->compilation->parts.at[part->parent];
    uint32_t g = outer->group_of[part->node];
    return tables->parts[part->parent].arena_base +
           outer->schedule->groups.at[g].scratch_offset + outer->layouts[g].arena;
}

static void fill_rows(kiln_tables *tables, uint32_t number)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    const kiln_schedule *schedule = part->schedule;
    kiln_part_tables *own = &tables->parts[number];
    own->arena_base = arena_base(tables, number);
    own->first_row = tables->rows.n;
    for (uint32_t i = 0; i < schedule->places.n; i++)
        kiln_tables_row(tables, place_row(tables, number, i));
    for (uint32_t i = 0; i < schedule->copies.n; i++) {
        uint32_t port = schedule->copies.at[i].port;
        kiln_buffer_row row = port_row(tables, number, false, port);
        row.bytes = kiln_graph_type(part->graph, part->graph->outputs.at[port].value)->bytes;
        kiln_tables_row(tables, row);
    }
    kiln_region_fill_rows(tables, number);
}

uint32_t kiln_tables_string(kiln_tables *tables, const char *string)
{
    for (uint32_t i = 0; i < tables->strings.n; i++) {
        if (strcmp(tables->strings.at[i], string) == 0) return i;
    }
    kiln_vec_push(&tables->strings, tables->arena, kiln_arena_string(tables->arena, string));
    return tables->strings.n - 1;
}

static uint32_t operand_row(const kiln_tables *tables, uint32_t number, kiln_operand operand)
{
    const kiln_schedule *schedule = tables->compilation->parts.at[number].schedule;
    const kiln_place *place = kiln_schedule_place(schedule, operand);
    return tables->parts[number].first_row + (uint32_t)(place - schedule->places.at);
}

uint32_t kiln_tables_value(const kiln_tables *tables, uint32_t number, kiln_value value)
{
    const kiln_graph *graph = tables->compilation->parts.at[number].graph;
    kiln_operand operand = {.value = kiln_stored_value(graph, value)};
    return operand_row(tables, number, operand);
}

/* The group's, and the record of what was tuned. */
static const char *step_label(kiln_arena *arena, const kiln_group *group)
{
    const kiln_tuned *tuned = &group->tuned;
    if (!tuned->rows) return group->label;
    return kiln_arena_format(arena, "%s, tuned: tiles of %u rows x %u vectors, %u x %u blocks",
                             group->label, tuned->rows, tuned->vectors, tuned->row_blocks,
                             tuned->column_blocks);
}

static kiln_step_row group_step(kiln_tables *tables, uint32_t number, uint32_t g)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    const kiln_group *group = &part->schedule->groups.at[g];
    kiln_step_row step = {
        .kind = group->kind == KILN_GROUP_PACK ? KILN_STEP_PACK : KILN_STEP_KERNEL,
        .target = part->unit_of[g],
        .first_operand = tables->operands.n,
        .n_operands = group->n_inputs + group->n_outputs,
        .n_tiles = part->kernels[g]->n_tiles,
        .region = 1,
        .cost = group->ns < 1 ? 1 : (uint64_t)group->ns,
        .label = kiln_tables_string(tables, step_label(tables->arena, group)),
        .n_written = group->n_outputs,
    };
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        uint32_t row = operand_row(tables, number, group->inputs[i]);
        kiln_vec_push(&tables->operands, tables->arena, row);
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        uint32_t row = operand_row(tables, number, group->outputs[i]);
        kiln_vec_push(&tables->operands, tables->arena, row);
    }
    return step;
}

static kiln_step_row copy_step(kiln_tables *tables, uint32_t number, uint32_t copy)
{
    const kiln_schedule *schedule = tables->compilation->parts.at[number].schedule;
    uint32_t first = tables->parts[number].first_row;
    kiln_step_row step = {
        .kind = KILN_STEP_COPY,
        .first_operand = tables->operands.n,
        .n_operands = 2,
        .label = KILN_NONE,
    };
    kiln_vec_push(&tables->operands, tables->arena, first + schedule->copies.at[copy].from);
    kiln_vec_push(&tables->operands, tables->arena, first + schedule->places.n + copy);
    return step;
}

static kiln_step_row check_step(kiln_tables *tables, uint32_t number, const kiln_graph_check *check)
{
    kiln_step_row step = {
        .kind = KILN_STEP_CHECK,
        .target = kiln_tables_string(tables, check->sentence),
        .first_operand = tables->operands.n,
        .n_operands = 1,
        .label = KILN_NONE,
    };
    uint32_t row = kiln_tables_value(tables, number, check->value);
    kiln_vec_push(&tables->operands, tables->arena, row);
    return step;
}

static void fill_steps(kiln_tables *tables, uint32_t number)
{
    const kiln_part *part = &tables->compilation->parts.at[number];
    const kiln_schedule *schedule = part->schedule;
    kiln_part_tables *own = &tables->parts[number];
    for (uint32_t i = 0; i < schedule->groups.n; i++) {
        if (schedule->groups.at[i].kind == KILN_GROUP_REGION)
            kiln_region_fill_steps(tables, number, i);
        else
            kiln_vec_push(&own->steps, tables->arena, group_step(tables, number, i));
    }
    for (uint32_t i = 0; i < schedule->copies.n; i++)
        kiln_vec_push(&own->steps, tables->arena, copy_step(tables, number, i));
    for (uint32_t i = 0; i < part->graph->checks.n; i++)
        kiln_vec_push(&own->steps, tables->arena,
                      check_step(tables, number, &part->graph->checks.at[i]));
}

static void fill_tables(kiln_tables *tables)
{
    kiln_program *program = tables->program;
    uint32_t n = tables->compilation->parts.n;
    for (uint32_t i = 0; i < n; i++) fill_rows(tables, i);
    for (uint32_t i = n; i-- > 0;) fill_steps(tables, i);
    program->buffers = tables->rows.at;
    program->n_buffers = tables->rows.n;
    program->steps = tables->parts[0].steps.at;
    program->n_steps = tables->parts[0].steps.n;
    program->operands = tables->operands.at;
    program->n_operands = tables->operands.n;
    program->strings = tables->strings.at;
    program->n_strings = tables->strings.n;
}

/* Zeros for the first trip of loops. */
static bool needs_zeros(const kiln_compilation *compilation)
{
    return compilation->parts.n > 1;
}

static int64_t bound_constants(kiln_compilation *head)
{
    int64_t total = 0;
    for (uint32_t s = 0; s <= head->n_larger; s++) {
        const kiln_compilation *size = kiln_compilation_size(head, s);
        for (uint32_t i = 0; i < size->parts.n; i++)
            total = kiln_bound_constants(size->parts.at[i].schedule, total);
        if (needs_zeros(size) && !kiln_checked_add(total, 64, &total))
            kiln_fail(head->scope, KILN_LIMIT, "constants: more than 2^63 bytes");
    }
    return total;
}

static void open_block(kiln_compilation *head, kiln_artifact *artifact, kiln_constant_block *block)
{
    int64_t capacity = bound_constants(head);
    if (!capacity) return;
    artifact->context = head->source->context;
    artifact->constants = kiln_context_allocate(artifact->context, capacity);
    artifact->constant_capacity = capacity;
    if (!artifact->constants)
        kiln_fail(head->scope, KILN_NO_MEMORY, "constants: %lld bytes", (long long)capacity);
    block->memory = artifact->constants;
}

/* Constants of all parts of one size, one after the other. */
static void fill_constants(kiln_tables *tables, kiln_constant_block *block)
{
    const kiln_compilation *compilation = tables->compilation;
    block->n_former = block->kept.n;
    for (uint32_t i = 0; i < compilation->parts.n; i++) {
        const kiln_schedule *schedule = compilation->parts.at[i].schedule;
        int64_t *offsets = kiln_new_array(tables->arena, int64_t, schedule->places.n + 1);
        kiln_fill_constants(compilation->scope, schedule, block, offsets);
        tables->parts[i].constant_offsets = offsets;
    }
    tables->zero_row = KILN_NONE;
    if (!needs_zeros(compilation)) return;
    kiln_buffer_row zeros = {.kind = KILN_BUFFER_CONSTANT, .index = KILN_NONE, .bytes = 8};
    zeros.offset = block->end;
    memset(block->memory + block->end, 0, 64);
    block->end += 64;
    tables->zero_row = kiln_tables_row(tables, zeros);
}

static void fill_kernels(const kiln_compilation *compilation, kiln_artifact *artifact)
{
    kiln_program *program = &artifact->program;
    const char **names = kiln_new_array(&artifact->arena, const char *, compilation->units.n);
    for (uint32_t i = 0; i < compilation->units.n; i++) {
        names[i] = kiln_arena_string(&artifact->arena, compilation->units.at[i].symbol);
    }
    program->kernel_names = names;
    program->n_kernels = compilation->units.n;
    for (uint32_t i = 0; i < compilation->units.n; i++) {
        int64_t bytes = compilation->units.at[i].kernel->scratch_bytes;
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

static void fill_size(kiln_compilation *compilation, kiln_artifact *artifact,
                      kiln_program *program, kiln_constant_block *block)
{
    kiln_tables tables = {
        .compilation = compilation,
        .program = program,
        .arena = &artifact->arena,
        .parts = kiln_new_array(&artifact->arena, kiln_part_tables, compilation->parts.n),
    };
    program->arena_bytes = compilation->schedule->arena_bytes;
    program->rows = compilation->rows;
    fill_constants(&tables, block);
    fill_ports(&tables);
    fill_tables(&tables);
}

/* By port; a proved batch has rows in every output. */
static const unsigned char *list_batched(const kiln_compilation *head, kiln_arena *arena)
{
    uint32_t n_inputs = head->source->inputs.n, n_outputs = head->source->outputs.n;
    unsigned char *is_batched = kiln_new_array(arena, unsigned char, n_inputs + n_outputs + 1);
    for (uint32_t i = 0; i < n_inputs; i++) is_batched[i] = head->is_batched[i];
    for (uint32_t i = 0; i < n_outputs; i++) is_batched[n_inputs + i] = 1;
    return is_batched;
}

void kiln_artifact_share(kiln_artifact *artifact)
{
    const kiln_program *program = &artifact->program;
    for (uint32_t i = 0; i < program->n_larger; i++) {
        kiln_program *larger = artifact->larger[i];
        larger->kernels = program->kernels;
        larger->kernel_names = program->kernel_names;
        larger->n_kernels = program->n_kernels;
        larger->device_kernels = program->device_kernels;
        larger->constants = program->constants;
        larger->constant_bytes = program->constant_bytes;
    }
}

/* Larger sizes begin as copies of the smallest. */
static void fill_larger(kiln_compilation *head, kiln_artifact *artifact, kiln_constant_block *block)
{
    kiln_arena *arena = &artifact->arena;
    kiln_program *program = &artifact->program;
    artifact->larger = kiln_new_array(arena, kiln_program *, head->n_larger + 1);
    for (uint32_t i = 0; i < head->n_larger; i++) {
        artifact->larger[i] = kiln_arena_copy(arena, program, sizeof *program);
        fill_size(head->larger[i], artifact, artifact->larger[i], block);
    }
    if (head->rows) {
        program->is_batched = list_batched(head, arena);
        int64_t pad = kiln_batch_pad_bytes(program, program->n_inputs + program->n_outputs);
        program->arena_bytes = kiln_round_up(program->arena_bytes, 64) + pad;
    }
    program->larger = (const kiln_program *const *)artifact->larger;
    program->n_larger = head->n_larger;
}

void kiln_fill_program(kiln_compilation *compilation, kiln_artifact *artifact, const char *name)
{
    kiln_constant_block block = {0};
    kiln_program *program = &artifact->program;
    *program = (kiln_program){
        .abi = KILN_PROGRAM_ABI,
        .struct_bytes = sizeof *program,
        .name = kiln_arena_string(&artifact->arena, name),
        .target = kiln_arena_string(&artifact->arena, compilation->schedule->machine->name),
        .producer = "kiln " KILN_VERSION,
        .cpu_features = needed_features(compilation),
        .flags = compilation->options->flush_denormals ? KILN_PROGRAM_FLUSH_DENORMALS : 0,
    };
    open_block(compilation, artifact, &block);
    fill_kernels(compilation, artifact);
    fill_size(compilation, artifact, program, &block);
    fill_larger(compilation, artifact, &block);
    program->constants = artifact->constants;
    program->constant_bytes = block.end;
    kiln_artifact_share(artifact);
}
