/* Contractions learn what weights the next one begins with: where the second caches do not hold all
 * weights of a network, a group gets the packed constant of the next contraction as one more input,
 * so that its kernel can ask for the first lines in time (codegen/ahead.c). Winograd's products
 * begin with so little that nothing is gained. */
#include <string.h>

#include "passes/fuse.h"

#define GROUPS_AHEAD 4 /* small ones between two contractions leave the second cache as it is */

/* The packed constant in f32 that is the second operand of a group's contraction, or NULL. */
static const kiln_operand *find_weights(const kiln_fusion *fusion, const kiln_group *group)
{
    const kiln_graph *graph = fusion->graph;
    if (group->kind != KILN_GROUP_DOT && group->kind != KILN_GROUP_CONV) return NULL;
    for (uint32_t i = 0; i < group->n_inputs; i++) {
        const kiln_operand *input = &group->inputs[i];
        bool is_own = input->consumer.id == group->anchor.id && !fusion->weights[group->anchor.id];
        bool is_packed =
            input->format == KILN_FORMAT_PANEL16 || input->format == KILN_FORMAT_WINOGRAD_N16;
        if (!is_own || !is_packed) continue;
        kiln_value base = kiln_view_base(graph, input->value);
        bool is_constant = kiln_graph_node(graph, base)->op == KILN_OP_constant;
        if (is_constant && kiln_graph_type(graph, input->value)->dtype == KILN_f32) return input;
    }
    return NULL;
}

static double all_weights(const kiln_fusion *fusion)
{
    double bytes = 0;
    for (uint32_t g = 0; g < fusion->schedule->groups.n; g++) {
        const kiln_operand *weights = find_weights(fusion, &fusion->schedule->groups.at[g]);
        if (weights) bytes += (double)kiln_operand_bytes(fusion->graph, *weights);
    }
    return bytes;
}

void kiln_fuse_ahead(kiln_fusion *fusion)
{
    kiln_group *groups = fusion->schedule->groups.at;
    uint32_t n = fusion->schedule->groups.n;
    double kept = (double)fusion->machine->l2_bytes * fusion->pipeline->n_threads;
    if (fusion->machine->kind != KILN_MACHINE_CPU || all_weights(fusion) <= kept) return;
    for (uint32_t g = 0; g < n; g++) {
        if (!find_weights(fusion, &groups[g])) continue;
        const kiln_operand *next = NULL;
        for (uint32_t i = g + 1; !next && i < n && i <= g + GROUPS_AHEAD; i++)
            next = find_weights(fusion, &groups[i]);
        if (!next || next->format != KILN_FORMAT_PANEL16) continue;
        uint32_t n_inputs = groups[g].n_inputs;
        kiln_operand *inputs = kiln_new_array(fusion->arena, kiln_operand, n_inputs + 1);
        memcpy(inputs, groups[g].inputs, n_inputs * sizeof *inputs);
        inputs[n_inputs] = *next;
        groups[g].inputs = inputs;
        groups[g].n_inputs++;
    }
}
