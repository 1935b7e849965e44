/* kiln_plan_memory: a place for every stored operand. Inputs and outputs lie with the caller,
 * constants in the program, everything else in one arena: live ranges over the order of the groups,
 * memory taken over from inputs that die (plan_share.c), offsets by greedy search (place_blocks.c).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "kiln/program.h"
#include "passes/plan.h"

/* One appearance of an operand: in a group, or as an output of the graph. */
typedef struct appearance {
    kiln_operand operand;
    uint32_t step;
    bool is_made; /* the group stores it */
} appearance;

typedef struct planner {
    kiln_pipeline *pipeline;
    kiln_schedule *schedule;
    kiln_arena *arena;
    kiln_vec(appearance) seen;
    kiln_vec(kiln_block) blocks;
    uint32_t *block_of; /* by place */
    uint32_t *scratch_block; /* by group */
    uint32_t *host_of;  /* by value */
} planner;

static int compare_appearances(const void *a, const void *b)
{
    const appearance *x = a, *y = b;
    int order = kiln_operand_compare(x->operand, y->operand);
    if (order) return order;
    if (x->is_made != y->is_made) return x->is_made ? -1 : 1;
    return x->step < y->step ? -1 : x->step > y->step ? 1 : 0;
}

static void see(planner *plan, kiln_operand operand, uint32_t step, bool is_made)
{
    appearance item = {operand, step, is_made};
    kiln_vec_push(&plan->seen, plan->arena, item);
}

/* By value: the assembled concat that it is a part of, or 0. */
static void find_hosts(planner *plan)
{
    const kiln_schedule *schedule = plan->schedule;
    plan->host_of = kiln_new_array(plan->arena, uint32_t, schedule->graph->nodes.n + 1);
    for (uint32_t i = 0; i < schedule->assembled.n; i++) {
        kiln_value host = schedule->assembled.at[i];
        const kiln_node *node = kiln_graph_node(schedule->graph, host);
        for (uint32_t j = 0; j < node->n_inputs; j++) plan->host_of[node->inputs[j].id] = host.id;
    }
}

/* What a group stores; a part of an assembled concat makes that too. */
static void see_output(planner *plan, kiln_operand output, uint32_t step)
{
    see(plan, output, step, true);
    kiln_value host = {plan->host_of[output.value.id], plan->schedule->graph->id};
    bool is_part = host.id && output.format == KILN_FORMAT_DENSE;
    if (is_part) see(plan, (kiln_operand){.value = host}, step, true);
}

static void list_appearances(planner *plan)
{
    const kiln_schedule *schedule = plan->schedule;
    const kiln_graph *graph = schedule->graph;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        const kiln_group *group = &schedule->groups.at[g];
        for (uint32_t i = 0; i < group->n_inputs; i++) see(plan, group->inputs[i], g, false);
        for (uint32_t i = 0; i < group->n_outputs; i++) see_output(plan, group->outputs[i], g);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        kiln_operand operand = {.value = kiln_stored_value(graph, graph->outputs.at[i].value)};
        see(plan, operand, schedule->groups.n, false);
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        kiln_operand operand = {.value = kiln_stored_value(graph, graph->checks.at[i].value)};
        see(plan, operand, schedule->groups.n, false);
    }
    if (plan->seen.n)
        qsort(plan->seen.at, plan->seen.n, sizeof *plan->seen.at, compare_appearances);
}

static const int64_t *dense_strides(kiln_arena *arena, const kiln_type *type)
{
    int64_t *strides = kiln_new_array(arena, int64_t, type->rank + 1), stride = 1;
    for (uint32_t axis = type->rank; axis-- > 0;) {
        strides[axis] = stride;
        stride *= type->dims[axis];
    }
    return strides;
}

static uint32_t find_port(const kiln_graph *graph, kiln_value value, bool is_input)
{
    uint32_t n = is_input ? graph->inputs.n : graph->outputs.n;
    for (uint32_t i = 0; i < n; i++) {
        kiln_value port =
            is_input ? graph->inputs.at[i] : kiln_stored_value(graph, graph->outputs.at[i].value);
        if (port.id == value.id) return i;
    }
    return KILN_NONE;
}

static void set_kind(planner *plan, kiln_place *place, bool is_made, uint32_t *n_constants)
{
    const kiln_graph *graph = plan->schedule->graph;
    kiln_value value = place->operand.value;
    if (is_made) {
        bool is_dense = place->operand.format == KILN_FORMAT_DENSE;
        place->index = is_dense ? find_port(graph, value, false) : KILN_NONE;
        place->kind = place->index == KILN_NONE ? KILN_PLACE_ARENA : KILN_PLACE_OUTPUT;
    } else if (kiln_graph_node(graph, value)->op == KILN_OP_input) {
        place->kind = KILN_PLACE_INPUT;
        place->index = find_port(graph, value, true);
    } else if (kiln_graph_node(graph, kiln_view_base(graph, value))->op == KILN_OP_constant) {
        place->kind = KILN_PLACE_CONSTANT;
        place->index = (*n_constants)++;
    } else {
        kiln_fail(plan->pipeline->scope, KILN_INTERNAL, "plan memory: no group stores %%%u",
                  value.id);
    }
}

static void make_places(planner *plan)
{
    kiln_schedule *schedule = plan->schedule;
    uint32_t n_constants = 0;
    for (uint32_t i = 0; i < plan->seen.n;) {
        const appearance *first = &plan->seen.at[i];
        kiln_place place = {
            .operand = first->operand,
            .bytes = kiln_operand_bytes(schedule->graph, first->operand),
            .inside = KILN_NONE,
            .shares = KILN_NONE,
            .first_step = first->step,
        };
        if (first->operand.format == KILN_FORMAT_DENSE) {
            place.strides =
                dense_strides(plan->arena, kiln_graph_type(schedule->graph, first->operand.value));
        }
        set_kind(plan, &place, first->is_made, &n_constants);
        for (; i < plan->seen.n; i++) {
            if (kiln_operand_compare(plan->seen.at[i].operand, place.operand) != 0) break;
            if (plan->seen.at[i].step > place.last_step) place.last_step = plan->seen.at[i].step;
        }
        if (!first->is_made) place.first_step = 0;
        kiln_vec_push(&schedule->places, plan->arena, place);
    }
}

/* Parts of an assembled concat lie in its place, one after the other along its axis. */
static void place_parts(planner *plan, kiln_value host_value)
{
    kiln_schedule *schedule = plan->schedule;
    const kiln_node *node = kiln_graph_node(schedule->graph, host_value);
    uint32_t number = kiln_schedule_find_place(schedule, (kiln_operand){.value = host_value});
    kiln_place *host = &schedule->places.at[number];
    int64_t axis = node->attrs->axis.axis, start = 0;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_operand operand = {.value = node->inputs[i]};
        kiln_place *part = &schedule->places.at[kiln_schedule_find_place(schedule, operand)];
        part->kind = host->kind;
        part->index = host->index;
        part->bytes = host->bytes;
        part->strides = host->strides;
        part->origin = start * host->strides[axis];
        part->inside = number;
        if (part->last_step > host->last_step) host->last_step = part->last_step;
        start += kiln_graph_type(schedule->graph, node->inputs[i])->dims[axis];
    }
}

/* Outputs that no group writes at their own port. */
static void list_copies(planner *plan)
{
    kiln_schedule *schedule = plan->schedule;
    const kiln_graph *graph = schedule->graph;
    for (uint32_t port = 0; port < graph->outputs.n; port++) {
        kiln_operand operand = {.value = kiln_stored_value(graph, graph->outputs.at[port].value)};
        uint32_t from = kiln_schedule_find_place(schedule, operand);
        const kiln_place *place = &schedule->places.at[from];
        if (place->kind == KILN_PLACE_OUTPUT && place->index == port) continue;
        kiln_output_copy copy = {from, port};
        kiln_vec_push(&schedule->copies, plan->arena, copy);
    }
}

static uint32_t add_block(planner *plan, const kiln_place *place)
{
    kiln_block block = {.first = place->first_step, .last = place->last_step};
    if (!kiln_checked_align(place->bytes, 64, &block.bytes)) {
        kiln_fail(plan->pipeline->scope, KILN_LIMIT, "plan memory: %%%u has more than 2^63 bytes",
                  place->operand.value.id);
    }
    kiln_vec_push(&plan->blocks, plan->arena, block);
    return plan->blocks.n - 1;
}

/* The part's block is its host's, which the first part brings. */
static void give_host_block(planner *plan, uint32_t part)
{
    kiln_schedule *schedule = plan->schedule;
    uint32_t host = schedule->places.at[part].inside;
    if (plan->block_of[host] == KILN_NONE) {
        plan->block_of[host] = add_block(plan, &schedule->places.at[host]);
    }
    plan->block_of[part] = plan->block_of[host];
}

/* A block for what group `g` stores in the arena; that of a dying input where it may be taken over.
 */
static void give_blocks(planner *plan, uint32_t g)
{
    kiln_schedule *schedule = plan->schedule;
    const kiln_group *group = &schedule->groups.at[g];
    plan->scratch_block[g] = KILN_NONE;
    if (group->scratch_bytes > 0) {
        kiln_block block = {.bytes = group->scratch_bytes, .first = g, .last = g};
        plan->scratch_block[g] = plan->blocks.n;
        kiln_vec_push(&plan->blocks, plan->arena, block);
    }
    bool *can_take = kiln_new_array(plan->arena, bool, group->n_inputs + 1);
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_place *place = kiln_schedule_place(schedule, group->inputs[i]);
        bool is_alone = place->inside == KILN_NONE &&
                        !kiln_schedule_is_assembled(schedule, place->operand.value);
        can_take[i] = is_alone && place->kind == KILN_PLACE_ARENA && place->last_step == g;
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        uint32_t number = kiln_schedule_find_place(schedule, group->outputs[i]);
        kiln_place *place = &schedule->places.at[number];
        if (place->kind != KILN_PLACE_ARENA) continue;
        if (place->inside != KILN_NONE) {
            give_host_block(plan, number);
            continue;
        }
        kiln_output_ref output = {g, i};
        uint32_t input = kiln_shared_input(plan->pipeline->scope, schedule, output, can_take);
        if (input != KILN_NONE) {
            can_take[input] = false;
            place->shares = kiln_schedule_find_place(schedule, group->inputs[input]);
            plan->block_of[number] = plan->block_of[place->shares];
            plan->blocks.at[plan->block_of[number]].last = place->last_step;
            continue;
        }
        plan->block_of[number] = add_block(plan, place);
    }
}

static void check_total(planner *plan)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < plan->blocks.n; i++) {
        if (!kiln_checked_add(total, plan->blocks.at[i].bytes, &total)) {
            kiln_fail(plan->pipeline->scope, KILN_LIMIT,
                      "plan memory: all values together have more than "
                      "2^63 bytes");
        }
    }
}

/* The step at which most bytes are alive. */
static uint32_t peak_step(const planner *plan)
{
    int64_t most = -1;
    uint32_t peak = 0;
    for (uint32_t step = 0; step < plan->schedule->groups.n; step++) {
        int64_t live = 0;
        for (uint32_t i = 0; i < plan->blocks.n; i++) {
            const kiln_block *block = &plan->blocks.at[i];
            if (block->first <= step && step <= block->last) live += block->bytes;
        }
        if (live > most) {
            most = live;
            peak = step;
        }
    }
    return peak;
}

static void fail_over_limit(planner *plan)
{
    const kiln_schedule *schedule = plan->schedule;
    uint32_t step = peak_step(plan);
    kiln_text text = {.arena = plan->arena};
    int64_t below = INT64_MAX;
    for (uint32_t n = 0; n < 3; n++) {
        const kiln_place *largest = NULL;
        for (uint32_t i = 0; i < schedule->places.n; i++) {
            const kiln_place *place = &schedule->places.at[i];
            if (place->kind != KILN_PLACE_ARENA || place->bytes >= below) continue;
            if (place->first_step > step || place->last_step < step) continue;
            if (!largest || place->bytes > largest->bytes) largest = place;
        }
        if (!largest) break;
        below = largest->bytes;
        kiln_value value = largest->operand.value;
        const char *name = kiln_node_string(plan->arena, schedule->graph, value);
        kiln_text_printf(&text, "%s%s (%" PRId64 " bytes)", n ? ", " : "", name, below);
    }
    kiln_fail(plan->pipeline->scope, KILN_LIMIT,
              "memory: the arena takes %" PRId64 " bytes; expected at most %" PRId64
              "; largest values alive at group %u: %s",
              schedule->arena_bytes, plan->pipeline->max_bytes, step, kiln_text_string(&text));
}

void kiln_plan_memory(kiln_pipeline *pipeline, kiln_schedule *schedule)
{
    planner plan = {.pipeline = pipeline, .schedule = schedule, .arena = &pipeline->scope->arena};
    find_hosts(&plan);
    list_appearances(&plan);
    make_places(&plan);
    for (uint32_t i = 0; i < schedule->assembled.n; i++)
        place_parts(&plan, schedule->assembled.at[i]);
    list_copies(&plan);
    plan.block_of = kiln_new_array(plan.arena, uint32_t, schedule->places.n + 1);
    for (uint32_t i = 0; i < schedule->places.n; i++) plan.block_of[i] = KILN_NONE;
    plan.scratch_block = kiln_new_array(plan.arena, uint32_t, schedule->groups.n + 1);
    for (uint32_t g = 0; g < schedule->groups.n; g++) give_blocks(&plan, g);
    check_total(&plan);
    schedule->arena_bytes = kiln_place_blocks(pipeline->scope, plan.blocks.at, plan.blocks.n,
                                              &schedule->lower_bound_bytes);
    for (uint32_t i = 0; i < schedule->places.n; i++) {
        kiln_place *place = &schedule->places.at[i];
        if (place->kind == KILN_PLACE_ARENA)
            place->offset = plan.blocks.at[plan.block_of[i]].offset;
    }
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        if (plan.scratch_block[g] == KILN_NONE) continue;
        schedule->groups.at[g].scratch_offset = plan.blocks.at[plan.scratch_block[g]].offset;
    }
    kiln_plan_donations(pipeline->scope, schedule);
    if (pipeline->max_bytes > 0 && schedule->arena_bytes > pipeline->max_bytes)
        fail_over_limit(&plan);
    kiln_error error = {0};
    if (kiln_schedule_verify(schedule, "after plan memory", &error) != KILN_OK) {
        kiln_fail_with(pipeline->scope, &error);
    }
}
