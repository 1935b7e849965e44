/* Members of a group, in: groups. Out: what the group that they make evaluates and reads: all nodes
 * and inputs of the members, each once, but for what one member hands to the next. */
#include "passes/members.h"

#include <stdlib.h>

static int compare_operands(const void *a, const void *b)
{
    return kiln_operand_compare(*(const kiln_operand *)a, *(const kiln_operand *)b);
}

static int compare_values(const void *a, const void *b)
{
    uint32_t x = ((const kiln_value *)a)->id, y = ((const kiln_value *)b)->id;
    return x < y ? -1 : x > y ? 1 : 0;
}

static bool is_between(const kiln_group *group, kiln_value value)
{
    for (uint32_t i = 0; i + 1 < group->n_members; i++)
        if (group->members[i].outputs[0].value.id == value.id) return true;
    return false;
}

void kiln_group_join_members(kiln_arena *arena, kiln_group *group)
{
    kiln_vec(kiln_value) nodes = {0};
    kiln_vec(kiln_operand) inputs = {0};
    for (uint32_t i = 0; i < group->n_members; i++) {
        const kiln_group *member = &group->members[i];
        for (uint32_t j = 0; j < member->n_nodes; j++)
            kiln_vec_push(&nodes, arena, member->nodes[j]);
        for (uint32_t j = 0; j < member->n_inputs; j++)
            if (!is_between(group, member->inputs[j].value))
                kiln_vec_push(&inputs, arena, member->inputs[j]);
    }
    qsort(nodes.at, nodes.n, sizeof *nodes.at, compare_values);
    if (inputs.n) qsort(inputs.at, inputs.n, sizeof *inputs.at, compare_operands);
    uint32_t n = 0;
    for (uint32_t i = 0; i < nodes.n; i++)
        if (!n || nodes.at[n - 1].id != nodes.at[i].id) nodes.at[n++] = nodes.at[i];
    group->n_nodes = n;
    group->nodes = nodes.at;
    n = 0;
    for (uint32_t i = 0; i < inputs.n; i++)
        if (!n || kiln_operand_compare(inputs.at[n - 1], inputs.at[i]))
            inputs.at[n++] = inputs.at[i];
    group->n_inputs = n;
    group->inputs = inputs.at;
}

static bool has_operand(const kiln_operand *operands, uint32_t n, kiln_value value)
{
    for (uint32_t i = 0; i < n; i++)
        if (operands[i].value.id == value.id) return true;
    return false;
}

const kiln_group *kiln_group_own_member(const kiln_group *group, kiln_value value, kiln_value input)
{
    const kiln_group *owner = NULL;
    for (uint32_t i = 0; i < group->n_members; i++) {
        const kiln_group *member = &group->members[i];
        bool is_reader = has_operand(member->inputs, member->n_inputs, input);
        if (has_operand(member->outputs, member->n_outputs, value))
            owner = member;
        else if (is_reader)
            return NULL;
    }
    return owner;
}
