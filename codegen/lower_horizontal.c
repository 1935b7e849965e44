/* Horizontal groups: each member is lowered as the group that it is; their kernels become one. */
#include "codegen/kernel_join.h"
#include "codegen/lower.h"
#include "kiln/program.h"

/* Position of a member's operand among those of the group. */
static uint32_t find_operand(const kiln_lower *lower, kiln_operand operand, bool is_output)
{
    const kiln_group *group = lower->group;
    const kiln_operand *all = is_output ? group->outputs : group->inputs;
    uint32_t n = is_output ? group->n_outputs : group->n_inputs;
    for (uint32_t i = 0; i < n; i++)
        if (kiln_operand_compare(all[i], operand) == 0) return is_output ? group->n_inputs + i : i;
    kiln_fail(lower->scope, KILN_INTERNAL, "group %s: a member's operand is not the group's",
              group->label);
}

static const uint32_t *list_params(const kiln_lower *lower, const kiln_group *member)
{
    uint32_t n = member->n_inputs + member->n_outputs;
    uint32_t *params = kiln_new_array(&lower->scope->arena, uint32_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        bool is_output = i >= member->n_inputs;
        kiln_operand operand =
            is_output ? member->outputs[i - member->n_inputs] : member->inputs[i];
        params[i] = lower->buffer_of[find_operand(lower, operand, is_output)];
    }
    return params;
}

void kiln_lower_horizontal(kiln_lower *lower)
{
    const kiln_group *group = lower->group;
    int64_t n_tiles = 0;
    for (uint32_t i = 0; i < group->n_members; i++) {
        const kiln_group *member = &group->members[i];
        kiln_kernel_part part = {
            .kernel = kiln_lower_member(lower, member),
            .params = list_params(lower, member),
            .first_tile = n_tiles,
        };
        kiln_kernel_join(lower->kernel, &part);
        n_tiles += part.kernel->n_tiles;
    }
    if (n_tiles > UINT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: %lld tiles; expected at most 2^32 - 1",
                  group->label, (long long)n_tiles);
    lower->kernel->n_tiles = (uint32_t)n_tiles;
}
