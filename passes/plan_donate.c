/* Donated inputs: which output may lie in the memory of which input. The caller need not make use
 * of it, so the schedule is right either way: nothing reads the input after the group that writes
 * the output, and that group, if it reads the input, reads each element before it writes it. An
 * input prefers the output that is computed from it (a parameter and its update). */
#include "kiln/program.h"
#include "passes/plan.h"

static uint32_t input_place(const kiln_schedule *schedule, uint32_t input)
{
    kiln_operand operand = {.value = schedule->graph->inputs.at[input]};
    return kiln_schedule_find_place(schedule, operand);
}

/* The output of a group that writes port `port`, if one does. */
static bool find_writer(const kiln_schedule *schedule, uint32_t port, kiln_output_ref *out_writer)
{
    kiln_operand operand = {
        .value = kiln_stored_value(schedule->graph, schedule->graph->outputs.at[port].value)};
    uint32_t number = kiln_schedule_find_place(schedule, operand);
    if (number == KILN_NONE) return false;
    const kiln_place *place = &schedule->places.at[number];
    if (place->kind != KILN_PLACE_OUTPUT || place->index != port) return false;
    const kiln_group *group = &schedule->groups.at[place->first_step];
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        if (kiln_operand_compare(group->outputs[i], operand) != 0) continue;
        *out_writer = (kiln_output_ref){place->first_step, i};
        return true;
    }
    return false;
}

/* Whether the group computes its output from the input; nodes ascend, so one sweep suffices. */
static bool is_made_from(kiln_scope *scope, const kiln_schedule *schedule, kiln_output_ref writer,
                         uint32_t input)
{
    const kiln_group *group = &schedule->groups.at[writer.group];
    const kiln_graph *graph = schedule->graph;
    bool *is_from = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    is_from[graph->inputs.at[input].id] = true;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            if (is_from[node->inputs[j].id]) is_from[group->nodes[i].id] = true;
        }
    }
    return is_from[group->outputs[writer.number].value.id];
}

/* Whether the group that writes the output may write over the input that it reads. */
static bool is_read_first(kiln_scope *scope, const kiln_schedule *schedule, kiln_output_ref writer,
                          uint32_t input)
{
    const kiln_group *group = &schedule->groups.at[writer.group];
    bool *can_take = kiln_new_array(&scope->arena, bool, group->n_inputs + 1);
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        can_take[i] = group->inputs[i].value.id == schedule->graph->inputs.at[input].id;
    }
    return kiln_shared_input(scope, schedule, writer, can_take) != KILN_NONE;
}

static bool may_donate(kiln_scope *scope, const kiln_schedule *schedule, uint32_t input,
                       uint32_t port, bool is_update)
{
    const kiln_graph *graph = schedule->graph;
    if (kiln_graph_type(graph, graph->outputs.at[port].value) !=
        kiln_graph_type(graph, graph->inputs.at[input])) {
        return false;
    }
    kiln_output_ref writer;
    if (!find_writer(schedule, port, &writer)) return false;
    uint32_t number = input_place(schedule, input);
    if (number == KILN_NONE) return !is_update;
    uint32_t last = schedule->places.at[number].last_step;
    if (last != writer.group) return !is_update && last < writer.group;
    bool is_from_it = is_made_from(scope, schedule, writer, input);
    return is_update == is_from_it && is_read_first(scope, schedule, writer, input);
}

void kiln_plan_donations(kiln_scope *scope, kiln_schedule *schedule)
{
    const kiln_graph *graph = schedule->graph;
    bool *is_taken = kiln_new_array(&scope->arena, bool, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        kiln_vec_push(&schedule->donations, &scope->arena, KILN_NONE);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < graph->inputs.n; i++) {
            const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
            if (!node->attrs->input.donated || schedule->donations.at[i] != KILN_NONE) continue;
            for (uint32_t port = 0; port < graph->outputs.n; port++) {
                if (is_taken[port] || !may_donate(scope, schedule, i, port, pass == 0)) continue;
                schedule->donations.at[i] = port;
                is_taken[port] = true;
                break;
            }
        }
    }
}
