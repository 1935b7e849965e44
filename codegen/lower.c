/* Group -> kernel: parameters from places, then the lowering of the group's kind. Also bindings and
 * the small questions about a group that several lowerings ask. */
#include "codegen/lower.h"

#include "base/checked.h"
#include "codegen/math.h"
#include "kiln/program.h"

uint32_t kiln_machine_lanes(const kiln_machine *machine, kiln_dtype compute)
{
    size_t bytes = kiln_dtype_bytes(compute);
    return machine->vector_bytes / (uint32_t)(bytes ? bytes : 1);
}

uint32_t kiln_lower_input(const kiln_lower *lower, kiln_value node)
{
    for (uint32_t i = 0; i < lower->group->n_inputs; i++)
        if (kiln_operand_compare(lower->group->inputs[i], (kiln_operand){.value = node}) == 0)
            return i;
    return KILN_NONE;
}

uint32_t kiln_lower_position(const kiln_lower *lower, kiln_value node)
{
    uint32_t low = 0, high = lower->group->n_nodes;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (lower->group->nodes[middle].id < node.id)
            low = middle + 1;
        else
            high = middle;
    }
    bool is_found = low < lower->group->n_nodes && lower->group->nodes[low].id == node.id;
    return is_found ? low : KILN_NONE;
}

uint32_t kiln_lower_group_lanes(const kiln_lower *lower)
{
    size_t widest = 1;
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        kiln_dtype dtype = kiln_graph_type(lower->graph, lower->group->nodes[i])->dtype;
        size_t bytes = kiln_dtype_bytes(kiln_compute_dtype(dtype));
        if (bytes > widest) widest = bytes;
    }
    if (widest > 4) widest = 4;
    uint32_t lanes = lower->machine->vector_bytes / (uint32_t)widest;
    return lanes < KILN_K_MAX_LANES ? lanes : KILN_K_MAX_LANES;
}

void kiln_lower_bind(kiln_lower *lower, kiln_value node, kiln_kv value)
{
    kiln_binding binding = {.node = node, .value = value};
    kiln_vec_push(&lower->bindings, &lower->scope->arena, binding);
}

void kiln_lower_bind_local(kiln_lower *lower, kiln_value node, uint32_t buffer,
                           const int64_t *strides)
{
    uint32_t rank = kiln_graph_type(lower->graph, node)->rank;
    kiln_place *place = kiln_new(&lower->scope->arena, kiln_place);
    place->operand.value = node;
    place->strides = kiln_arena_copy(&lower->scope->arena, strides, rank * sizeof *strides);
    kiln_binding binding = {.node = node, .buffer = buffer, .place = place};
    kiln_vec_push(&lower->bindings, &lower->scope->arena, binding);
}

void kiln_lower_unbind(kiln_lower *lower, uint32_t n)
{
    lower->bindings.n = n < lower->bindings.n ? lower->bindings.n - n : 0;
}

static uint32_t add_param(kiln_lower *lower, const kiln_place *place, bool is_output)
{
    kiln_dtype dtype = kiln_graph_type(lower->graph, place->operand.value)->dtype;
    kiln_dtype storage = kiln_format_dtype(place->operand.format, kiln_storage_dtype(dtype));
    bool is_port = place->kind == KILN_PLACE_INPUT || place->kind == KILN_PLACE_OUTPUT;
    uint32_t element = (uint32_t)kiln_dtype_bytes(storage);
    kiln_param param = {.dtype = storage,
                        .n_elements = place->bytes / element,
                        .is_read = !is_output || lower->group->kind == KILN_GROUP_ROUTINE,
                        .is_written = is_output,
                        .alignment = is_port ? element : 64,
                        .may_overlap = true};
    return kiln_kernel_add_param(lower->kernel, &param);
}

static bool is_donated(const kiln_lower *lower, const kiln_place *place)
{
    const kiln_node *node = kiln_graph_node(lower->graph, place->operand.value);
    return place->kind == KILN_PLACE_INPUT && node->op == KILN_OP_input &&
           node->attrs->input.donated;
}

/* Two places that may be the same memory: parts of one stretch of the arena, or a donated input and
 * an output; the runtime refuses any other overlap of ports. */
static bool places_may_overlap(const kiln_lower *lower, const kiln_place *a, const kiln_place *b)
{
    if (a->kind == KILN_PLACE_OUTPUT) return is_donated(lower, b);
    if (b->kind == KILN_PLACE_OUTPUT) return is_donated(lower, a);
    if (a->kind != KILN_PLACE_ARENA || b->kind != KILN_PLACE_ARENA) return false;
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* A parameter is free of aliases unless it shares bytes with one that is written. */
static void mark_overlaps(kiln_lower *lower)
{
    uint32_t n_inputs = lower->group->n_inputs, n = n_inputs + lower->group->n_outputs;
    for (uint32_t i = 0; i < n; i++) {
        bool is_shared = false;
        for (uint32_t j = i < n_inputs ? n_inputs : 0; j < n; j++)
            is_shared = is_shared || (j != i && places_may_overlap(lower, lower->place_of[i],
                                                                   lower->place_of[j]));
        lower->kernel->params.at[lower->buffer_of[i]].may_overlap = is_shared;
    }
}

static void add_params(kiln_lower *lower)
{
    const kiln_group *group = lower->group;
    kiln_arena *arena = &lower->scope->arena;
    uint32_t n = group->n_inputs + group->n_outputs;
    uint32_t *buffers = kiln_new_array(arena, uint32_t, n);
    const kiln_place **places = kiln_arena_array(arena, n, sizeof *places);
    for (uint32_t i = 0; i < n; i++) {
        bool is_output = i >= group->n_inputs;
        kiln_operand operand = is_output ? group->outputs[i - group->n_inputs] : group->inputs[i];
        places[i] = kiln_schedule_place(lower->schedule, operand);
        buffers[i] = add_param(lower, places[i], is_output);
    }
    lower->buffer_of = buffers;
    lower->place_of = places;
    mark_overlaps(lower);
}

typedef void lower_fn(kiln_lower *lower);

/* A kind whose lowering is not in the tree has NULL: its groups are refused by name. */
static lower_fn *const cpu_rows[] = {
    [KILN_GROUP_POINTWISE] = kiln_lower_pointwise,
    [KILN_GROUP_ROW] = kiln_lower_row,
    [KILN_GROUP_COLUMN] = kiln_lower_column,
    [KILN_GROUP_WINDOW] = kiln_lower_window,
    [KILN_GROUP_DOT] = kiln_lower_dot,
    [KILN_GROUP_CONV] = kiln_lower_conv,
    [KILN_GROUP_BAND] = kiln_lower_band,
    [KILN_GROUP_HORIZONTAL] = kiln_lower_horizontal,
    [KILN_GROUP_PACK] = kiln_lower_pack,
    [KILN_GROUP_ATTENTION] = kiln_lower_attention,
    [KILN_GROUP_ROUTINE] = kiln_lower_routine,
};

static lower_fn *const gpu_rows[] = {
    [KILN_GROUP_POINTWISE] = kiln_lower_gpu_pointwise,
    [KILN_GROUP_ROW] = kiln_lower_gpu_row,
    [KILN_GROUP_COLUMN] = kiln_lower_gpu_column,
    [KILN_GROUP_WINDOW] = kiln_lower_gpu_window,
    [KILN_GROUP_DOT] = NULL,
    [KILN_GROUP_CONV] = NULL,
    [KILN_GROUP_BAND] = NULL,
    [KILN_GROUP_HORIZONTAL] = NULL,
    [KILN_GROUP_PACK] = NULL,
    [KILN_GROUP_ATTENTION] = NULL,
    [KILN_GROUP_ROUTINE] = kiln_lower_gpu_routine,
};

kiln_lower kiln_lower_scratch(const kiln_lower *lower)
{
    kiln_lower scratch = {.scope = lower->scope,
                          .schedule = lower->schedule,
                          .graph = lower->graph,
                          .group = lower->group,
                          .machine = lower->machine,
                          .lanes = lower->lanes};
    scratch.kernel = kiln_kernel_create(lower->scope, lower->machine, lower->group->label);
    scratch.memo = kiln_memo_create(lower->scope);
    add_params(&scratch);
    return scratch;
}

/* Rough costs in cycles: a vector of up to 64 bytes a half, gathers an element a cycle, integer
 * division of lanes as many multiplications. */
double kiln_lower_cost(const kiln_kernel *kernel, uint32_t first)
{
    double cost = 0;
    for (uint32_t i = first; i < kernel->instrs.n; i++) {
        const kiln_instr *instr = &kernel->instrs.at[i];
        size_t bytes = instr->lanes * kiln_dtype_bytes(instr->dtype);
        double width = bytes > 64 ? (double)bytes / 64 : 1;
        bool is_division = instr->op == KILN_K_div || instr->op == KILN_K_rem;
        bool is_integer = !kiln_dtype_is_float(instr->dtype);
        if (instr->op == KILN_K_const || instr->op == KILN_K_lanes)
            continue;
        else if (instr->op == KILN_K_gather || instr->op == KILN_K_scatter)
            cost += instr->lanes;
        else if (is_division)
            cost += (is_integer ? 6 : 8) * width;
        else
            cost += 0.5 * width;
    }
    return cost;
}

double kiln_lower_gather_cost(const kiln_kernel *kernel, uint32_t first)
{
    double cost = 0;
    for (uint32_t i = first; i < kernel->instrs.n; i++)
        if (kernel->instrs.at[i].op == KILN_K_gather) cost += kernel->instrs.at[i].lanes;
    return cost;
}

static kiln_kernel *lower_one(kiln_scope *scope, const kiln_schedule *schedule,
                              const kiln_group *group)
{
    bool is_gpu = schedule->machine->kind == KILN_MACHINE_GPU;
    lower_fn *run = is_gpu ? gpu_rows[group->kind] : cpu_rows[group->kind];
    if (!run)
        kiln_fail(scope, KILN_UNSUPPORTED,
                  "group %s: kind %s has no kernel on %s; expected another kind", group->label,
                  kiln_group_kind_name(group->kind), schedule->machine->name);
    kiln_lower lower = {.scope = scope,
                        .schedule = schedule,
                        .graph = schedule->graph,
                        .group = group,
                        .machine = schedule->machine};
    lower.kernel = kiln_kernel_create(scope, schedule->machine, group->label);
    lower.memo = kiln_memo_create(scope);
    add_params(&lower);
    lower.lanes = kiln_lower_group_lanes(&lower);
    run(&lower);
    return lower.kernel;
}

kiln_kernel *kiln_lower_member(const kiln_lower *lower, const kiln_group *member)
{
    return lower_one(lower->scope, lower->schedule, member);
}

kiln_kernel *kiln_lower_group(kiln_scope *scope, const kiln_schedule *schedule, uint32_t number)
{
    return lower_one(scope, schedule, &schedule->groups.at[number]);
}
