/* In-place reuse: an output may lie where a dying input lies when the kernel reads each element of
 * the input, for the last time, before it writes that element of the output. That holds when the
 * input is read only at the index at which the output is written (POINTWISE), or within the same
 * row by the reductions that the output waits for (ROW). The values that a loop carries begin in
 * the memory of its operands (REGION). */
#include <string.h>

#include "kiln/program.h"
#include "passes/plan.h"
#include "passes/members.h"

/* Ways in which a node is evaluated, as bits. */
#define AT_OUTPUT 1u /* at the index of the output */
#define IN_ROW 2u    /* by a reduction, at all columns of the output's row */
#define ELSEWHERE 4u

static bool is_same_dims(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static uint32_t position(const kiln_value *nodes, uint32_t n, kiln_value value)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (nodes[middle].id < value.id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && nodes[low].id == value.id ? low : KILN_NONE;
}

typedef struct share_walk {
    const kiln_graph *graph;
    const kiln_group *group;
    const kiln_type *space;  /* dims of the output */
    uint8_t *nodes, *inputs; /* bits by position */
} share_walk;

static void note(share_walk *walk, kiln_value value, uint8_t bits)
{
    const kiln_group *group = walk->group;
    if (!is_same_dims(kiln_graph_type(walk->graph, value), walk->space) &&
        (bits & (AT_OUTPUT | IN_ROW))) {
        bits = ELSEWHERE;
    }
    uint32_t at = position(group->nodes, group->n_nodes, value);
    if (at != KILN_NONE) {
        walk->nodes[at] |= bits;
        return;
    }
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        if (group->inputs[i].value.id == value.id) walk->inputs[i] |= bits;
    }
}

static void spread(share_walk *walk, uint32_t at)
{
    const kiln_node *node = kiln_graph_node(walk->graph, walk->group->nodes[at]);
    uint8_t bits = walk->nodes[at];
    kiln_class class_ = kiln_node_row(node)->class_;
    if (class_ == KILN_REDUCE)
        bits = IN_ROW;
    else if (class_ != KILN_ELEMENTWISE)
        bits = ELSEWHERE;
    for (uint32_t i = 0; i < node->n_inputs; i++) note(walk, node->inputs[i], bits);
}

/* A loop's item starts as its carried operand, if the loop reads that value in no other way. */
static uint32_t carried_input(const kiln_schedule *schedule, kiln_output_ref output,
                              const bool *can_take)
{
    const kiln_group *group = &schedule->groups.at[output.group];
    const kiln_graph *graph = schedule->graph;
    const kiln_node *loop = kiln_graph_node(graph, group->anchor);
    const kiln_node *item = kiln_graph_node(graph, group->outputs[output.number].value);
    int64_t index = item->attrs->item.index;
    if (index >= kiln_region_n_carried(loop)) return KILN_NONE;
    kiln_value value = kiln_stored_value(graph, loop->inputs[index]);
    for (uint32_t i = 0; i < loop->n_inputs; i++) {
        if (i != index && kiln_stored_value(graph, loop->inputs[i]).id == value.id)
            return KILN_NONE;
    }
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        if (group->inputs[i].value.id == value.id && can_take[i]) return i;
    }
    return KILN_NONE;
}

/* Input of a group of kind POINTWISE or ROW. */
static uint32_t read_input(kiln_scope *scope, const kiln_schedule *schedule,
                           const kiln_group *group, kiln_value value, const bool *can_take)
{
    bool is_pointwise = group->kind == KILN_GROUP_POINTWISE;
    if (!is_pointwise && (group->kind != KILN_GROUP_ROW || group->n_outputs != 1)) return KILN_NONE;
    const kiln_type *type = kiln_graph_type(schedule->graph, value);
    share_walk walk = {
        .graph = schedule->graph,
        .group = group,
        .space = type,
        .nodes = kiln_new_array(&scope->arena, uint8_t, group->n_nodes + 1),
        .inputs = kiln_new_array(&scope->arena, uint8_t, group->n_inputs + 1),
    };
    for (uint32_t i = 0; i < group->n_outputs; i++) note(&walk, group->outputs[i].value, AT_OUTPUT);
    for (uint32_t at = group->n_nodes; at-- > 0;) {
        if (walk.nodes[at]) spread(&walk, at);
    }
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_type *from = kiln_graph_type(schedule->graph, group->inputs[i].value);
        if (!can_take[i] || group->inputs[i].format != KILN_FORMAT_DENSE) continue;
        if (from->bytes != type->bytes || from->dtype != type->dtype) continue;
        if (walk.inputs[i] && !(walk.inputs[i] & ELSEWHERE)) return i;
    }
    return KILN_NONE;
}

static uint32_t find_input(const kiln_group *group, kiln_operand operand)
{
    for (uint32_t i = 0; i < group->n_inputs; i++)
        if (kiln_operand_compare(group->inputs[i], operand) == 0) return i;
    return KILN_NONE;
}

/* Members run side by side: an input must be read by nobody but the member that writes. */
static uint32_t member_input(kiln_scope *scope, const kiln_schedule *schedule,
                             const kiln_group *group, kiln_value value, const bool *can_take)
{
    const kiln_group *owner = NULL;
    bool *own_can_take = kiln_new_array(&scope->arena, bool, group->n_inputs + 1);
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        if (!can_take[i]) continue;
        const kiln_group *member = kiln_group_own_member(group, value, group->inputs[i].value);
        uint32_t at = member ? find_input(member, group->inputs[i]) : KILN_NONE;
        if (at == KILN_NONE) continue;
        owner = member;
        own_can_take[at] = true;
    }
    if (!owner) return KILN_NONE;
    uint32_t found = read_input(scope, schedule, owner, value, own_can_take);
    return found == KILN_NONE ? KILN_NONE : find_input(group, owner->inputs[found]);
}

uint32_t kiln_shared_input(kiln_scope *scope, const kiln_schedule *schedule, kiln_output_ref output,
                           const bool *can_take)
{
    const kiln_group *group = &schedule->groups.at[output.group];
    kiln_value value = group->outputs[output.number].value;
    if (group->kind == KILN_GROUP_REGION) return carried_input(schedule, output, can_take);
    if (group->kind == KILN_GROUP_HORIZONTAL)
        return member_input(scope, schedule, group, value, can_take);
    return read_input(scope, schedule, group, value, can_take);
}
