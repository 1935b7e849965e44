/* Concats without a kernel: where every operand is computed by a group of this schedule and nothing
 * else wants it elsewhere, the groups store their parts straight into the concat's place:
 *
 *     %3 = concat %1, %2      group of %1 -> first part of %3      group of %2 -> second part of %3
 *
 * Concats of what contractions, reductions and windows compute come first: their parts are stored
 * in any case. Others get the chance to join their readers, so that nothing is stored; those that
 * joined nothing come last. */
#include "kiln/program.h"
#include "passes/fuse.h"

/* Products read an operand fastest where it is dense and its views are strided. */
static bool is_read_by_product(kiln_fusion *fusion, uint32_t id, kiln_ids *readers)
{
    readers->n = 0;
    kiln_fusion_readers(fusion, id, readers);
    for (uint32_t i = 0; i < readers->n; i++) {
        kiln_group_kind kind = fusion->clusters.at[readers->at[i]].kind;
        if (kind == KILN_GROUP_DOT || kind == KILN_GROUP_ATTENTION) return true;
    }
    return false;
}

static bool is_part(kiln_fusion *fusion, uint32_t id, bool takes_pointwise, kiln_ids *readers)
{
    uint32_t number = fusion->cluster_of[id];
    if (number == KILN_NONE || fusion->is_kept[id] || fusion->is_part[id]) return false;
    if (fusion->clusters.at[number].kind == KILN_GROUP_REGION) return false; /* writes it dense */
    if (!takes_pointwise && fusion->clusters.at[number].kind == KILN_GROUP_POINTWISE) return false;
    return !is_read_by_product(fusion, id, readers);
}

static bool can_assemble(kiln_fusion *fusion, uint32_t id, bool takes_pointwise, kiln_ids *readers)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    uint32_t number = fusion->cluster_of[id];
    if (node->op != KILN_OP_concat || number == KILN_NONE || fusion->is_part[id]) return false;
    if (fusion->clusters.at[number].nodes.n != 1 || !node->type->n_elements) return false;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (!is_part(fusion, node->inputs[i].id, takes_pointwise, readers)) return false;
        for (uint32_t j = 0; j < i; j++) {
            if (node->inputs[j].id == node->inputs[i].id) return false;
        }
    }
    return true;
}

void kiln_fuse_concats(kiln_fusion *fusion, bool takes_pointwise)
{
    if (fusion->schedule->is_unfused) return;
    kiln_ids readers = {0};
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        if (!fusion->is_live[id] || !can_assemble(fusion, id, takes_pointwise, &readers)) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; i < node->n_inputs; i++) fusion->is_part[node->inputs[i].id] = true;
        fusion->is_assembled[id] = fusion->is_part[id] = true; /* and lies in nothing else */
        fusion->clusters.at[fusion->cluster_of[id]].is_alive = false;
        fusion->cluster_of[id] = KILN_NONE;
        kiln_value value = kiln_fusion_value(fusion, id);
        kiln_vec_push(&fusion->schedule->assembled, fusion->arena, value);
    }
}
