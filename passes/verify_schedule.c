/* The schedule's checker, written apart from fuse and plan_memory: it trusts only the graph and
 * what stands in the schedule. Groups first (closed, ordered, of the shape their kind demands),
 * then memory (live ranges computed anew, alignment, bounds, no two live values in the same bytes).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kiln/program.h"
#include "passes/schedule.h"
#include "passes/verify.h"

/* By value id: the group that stores it dense, and by contraction id: the group that packs for it.
 */
static kiln_status index_makers(kiln_check_state *check)
{
    const kiln_schedule *schedule = check->schedule;
    for (uint32_t id = 0; id < check->n_nodes; id++)
        check->maker[id] = check->packer[id] = KILN_NONE;
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        const kiln_group *group = &schedule->groups.at[g];
        if (!group->n_outputs)
            return kiln_check_fail(check, g, "it stores nothing; expected an output");
        for (uint32_t i = 0; i < group->n_outputs; i++) {
            kiln_operand output = group->outputs[i];
            bool is_dense = output.format == KILN_FORMAT_DENSE;
            uint32_t id = is_dense ? output.value.id : output.consumer.id;
            if (!id || id >= check->n_nodes)
                return kiln_check_fail(check, g, "an output is no node");
            uint32_t *maker = is_dense ? &check->maker[id] : &check->packer[id];
            if (*maker != KILN_NONE)
                return kiln_check_fail(check, g, "it stores what another group stores");
            *maker = g;
        }
    }
    return KILN_OK;
}

/* An assembled concat is there when the last group that stores a part of it has run. */
static kiln_status index_assembled(kiln_check_state *check)
{
    const kiln_schedule *schedule = check->schedule;
    for (uint32_t i = 0; i < schedule->assembled.n; i++) {
        kiln_value value = schedule->assembled.at[i];
        const kiln_node *node = kiln_graph_node(schedule->graph, value);
        bool is_fresh = node->op == KILN_OP_concat && check->maker[value.id] == KILN_NONE;
        uint32_t last = 0;
        for (uint32_t j = 0; is_fresh && j < node->n_inputs; j++) {
            uint32_t maker = check->maker[node->inputs[j].id];
            is_fresh = maker != KILN_NONE;
            if (maker > last) last = maker;
        }
        if (!is_fresh) {
            return kiln_error_set(check->error, KILN_INTERNAL,
                                  "%s: assembled %%%u is no concat of parts that groups store",
                                  check->where, value.id);
        }
        check->maker[value.id] = last;
    }
    return KILN_OK;
}

uint32_t kiln_check_maker(const kiln_check_state *check, kiln_operand operand)
{
    bool is_dense = operand.format == KILN_FORMAT_DENSE;
    return is_dense ? check->maker[operand.value.id] : check->packer[operand.consumer.id];
}

/* Whether the operand is there before any group runs. */
static bool is_given(const kiln_check_state *check, kiln_operand operand)
{
    const kiln_graph *graph = check->schedule->graph;
    if (kiln_graph_node(graph, operand.value)->op == KILN_OP_input) {
        return operand.format == KILN_FORMAT_DENSE;
    }
    return kiln_graph_node(graph, kiln_view_base(graph, operand.value))->op == KILN_OP_constant;
}

static bool is_elementwise(const kiln_graph *graph, kiln_value value)
{
    return kiln_node_row(kiln_graph_node(graph, value))->class_ == KILN_ELEMENTWISE;
}

static bool has_operand(const kiln_check_state *check, const kiln_group *group, kiln_value node,
                        uint32_t position)
{
    const kiln_graph *graph = check->schedule->graph;
    kiln_value value = kiln_graph_node(graph, node)->inputs[position];
    if (group->kind == KILN_GROUP_REGION && node.id == group->anchor.id)
        value = kiln_stored_value(graph, value);
    if (check->mark[value.id] == check->stamp) return true;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        kiln_operand input = group->inputs[i];
        if (input.value.id != value.id) continue;
        if (input.format == KILN_FORMAT_DENSE) return true;
        if (input.consumer.id == node.id && position == 1) return true;
        bool is_widened = kiln_graph_node(graph, input.consumer)->op == KILN_OP_dot_general &&
                          input.consumer.id == group->anchor.id;
        if (is_widened && is_elementwise(graph, node)) return true;
    }
    return false;
}

kiln_status kiln_check_group_closed(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    check->stamp++;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        uint32_t id = group->nodes[i].id;
        if (!id || id >= check->n_nodes)
            return kiln_check_fail(check, g, "it evaluates no node of the graph");
        if (i && group->nodes[i - 1].id >= id)
            return kiln_check_fail(check, g, "its nodes do not ascend");
        if (kiln_graph_node(check->schedule->graph, group->nodes[i])->op == KILN_OP_input) {
            return kiln_check_fail(check, g, "it evaluates an input of the graph");
        }
        check->mark[id] = check->stamp;
    }
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(check->schedule->graph, group->nodes[i]);
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            if (has_operand(check, group, group->nodes[i], j)) continue;
            return kiln_check_fail(check, g,
                                   "an operand of one of its nodes is neither a node nor an input");
        }
    }
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        kiln_operand input = group->inputs[i];
        if (!input.value.id || input.value.id >= check->n_nodes)
            return kiln_check_fail(check, g, "an input is no node");
        uint32_t maker = kiln_check_maker(check, input);
        if (maker != KILN_NONE ? maker >= g : !is_given(check, input)) {
            return kiln_check_fail(check, g, "an input is not there when it runs");
        }
    }
    for (uint32_t i = 0; i < group->n_outputs && group->kind != KILN_GROUP_PACK; i++) {
        bool is_node = check->mark[group->outputs[i].value.id] == check->stamp;
        if (!is_node) return kiln_check_fail(check, g, "an output is not one of its nodes");
    }
    return KILN_OK;
}

static kiln_status check_outputs(kiln_check_state *check)
{
    const kiln_graph *graph = check->schedule->graph;
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        kiln_operand operand = {.value = kiln_stored_value(graph, graph->outputs.at[i].value)};
        if (check->maker[operand.value.id] == KILN_NONE && !is_given(check, operand)) {
            return kiln_error_set(check->error, KILN_INTERNAL,
                                  "%s: no group stores output %u; expected one", check->where, i);
        }
    }
    return KILN_OK;
}

kiln_status kiln_check_fail(kiln_check_state *check, uint32_t group, const char *sentence)
{
    const char *kind = kiln_group_kind_name(check->schedule->groups.at[group].kind);
    return kiln_error_set(check->error, KILN_INTERNAL, "%s: group %u (%s): %s", check->where, group,
                          kind, sentence);
}

static kiln_status check_all(kiln_check_state *check)
{
    kiln_status status = index_makers(check);
    if (!status) status = index_assembled(check);
    for (uint32_t g = 0; !status && g < check->schedule->groups.n; g++) {
        status = kiln_check_group_closed(check, g, &check->schedule->groups.at[g]);
        if (!status) status = kiln_check_group_shape(check, g);
    }
    if (!status) status = check_outputs(check);
    if (!status && check->schedule->places.n) status = kiln_check_memory(check);
    return status;
}

kiln_status kiln_schedule_verify(const kiln_schedule *schedule, const char *where,
                                 kiln_error *error)
{
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    volatile kiln_status status = KILN_INTERNAL;
    if (kiln_scope_try(&scope)) {
        uint32_t n = schedule->graph->nodes.n;
        kiln_check_state check = {
            .schedule = schedule,
            .where = where,
            .error = error,
            .arena = &scope.arena,
            .n_nodes = n,
            .maker = kiln_new_array(&scope.arena, uint32_t, n + 1),
            .packer = kiln_new_array(&scope.arena, uint32_t, n + 1),
            .mark = kiln_new_array(&scope.arena, uint32_t, n + 1),
            .lies = kiln_new_array(&scope.arena, uint8_t, n + 1),
        };
        status = check_all(&check);
    }
    kiln_status closed = kiln_scope_close(&scope);
    return closed ? closed : status;
}
