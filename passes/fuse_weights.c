/* Weights that products widen as they read them (weights.h): what computes them floats, so that it
 * is never stored, and the constants under it are what the product's group reads. All that reads
 * such weights must be able to compute them, else they are stored once, as before. */
#include "passes/fuse.h"

/* Whether node `id` may be computed by each of its readers: through views and elementwise nodes
 * they are products that widen it, or groups that compute what they read. */
static bool is_computable_by_readers(kiln_fusion *fusion, uint32_t id)
{
    kiln_ids *pending = &fusion->reached;
    pending->n = 0;
    fusion->stamp++;
    kiln_vec_push(pending, fusion->arena, id);
    while (pending->n > 0) {
        uint32_t at = pending->at[--pending->n];
        if (fusion->is_kept[at]) return false;
        for (uint32_t i = fusion->first_user[at]; i < fusion->first_user[at + 1]; i++) {
            uint32_t user = fusion->users[i];
            if (!fusion->is_live[user] || fusion->node_stamp[user] == fusion->stamp) continue;
            const kiln_node *node = kiln_fusion_node(fusion, user);
            kiln_class class_ = kiln_fusion_class(fusion, user);
            bool is_widened =
                fusion->weights[user] && node->inputs[1].id == at && node->inputs[0].id != at;
            if (is_widened || class_ == KILN_MOVE) continue;
            if (class_ != KILN_VIEW && class_ != KILN_ELEMENTWISE) return false;
            fusion->node_stamp[user] = fusion->stamp;
            if (class_ == KILN_VIEW) kiln_vec_push(pending, fusion->arena, user);
        }
    }
    return true;
}

static void find_weights(kiln_fusion *fusion, uint32_t id)
{
    kiln_weights weights;
    kiln_format packing = (kiln_format)fusion->packing[id];
    if (packing != KILN_FORMAT_DENSE && packing != KILN_FORMAT_PANEL16) return;
    if (!kiln_match_weights(fusion->arena, fusion->graph, kiln_fusion_value(fusion, id), &weights))
        return;
    kiln_weights *kept = kiln_new(fusion->arena, kiln_weights);
    *kept = weights;
    fusion->weights[id] = kept;
}

static bool is_possible(kiln_fusion *fusion, const kiln_weights *weights)
{
    for (uint32_t i = 0; i < weights->n_nodes; i++) {
        uint32_t id = weights->nodes[i].id;
        bool is_splat = kiln_fusion_class(fusion, id) == KILN_SOURCE;
        if (!is_splat && !is_computable_by_readers(fusion, id)) return false;
    }
    return true;
}

void kiln_fuse_weights(kiln_fusion *fusion)
{
    const kiln_machine *machine = fusion->machine;
    bool has_kernels = machine->kind == KILN_MACHINE_CPU;
    if (fusion->schedule->is_unfused || !has_kernels) return;
    for (uint32_t id = 1; id < fusion->n_nodes; id++)
        if (fusion->is_live[id] && kiln_fusion_class(fusion, id) == KILN_CONTRACT)
            find_weights(fusion, id);
    for (bool is_settled = false; !is_settled;) { /* one that cannot takes others along */
        is_settled = true;
        for (uint32_t id = 1; id < fusion->n_nodes; id++) {
            if (!fusion->weights[id] || is_possible(fusion, fusion->weights[id])) continue;
            fusion->weights[id] = NULL;
            is_settled = false;
        }
    }
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        const kiln_weights *weights = fusion->weights[id];
        if (!weights) continue;
        fusion->packing[id] =
            (uint8_t)kiln_weights_format(fusion->pipeline->scope, fusion->graph, weights);
        for (uint32_t i = 0; i < weights->n_nodes; i++)
            fusion->is_floating[weights->nodes[i].id] = true;
    }
}

static bool has_node(const kiln_weights *weights, uint32_t id)
{
    bool result = false;
    for (uint32_t i = 0; i < weights->n_nodes; i++) result |= weights->nodes[i].id == id;
    return result;
}

/* Whether what node `id` computes for itself has some of the weights in it. */
static bool computes_weights(kiln_fusion *fusion, uint32_t id, const kiln_weights *weights)
{
    kiln_ids *pending = &fusion->reached;
    pending->n = 0;
    fusion->stamp++;
    kiln_vec_push(pending, fusion->arena, id);
    while (pending->n > 0) {
        const kiln_node *node = kiln_fusion_node(fusion, pending->at[--pending->n]);
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            uint32_t input = node->inputs[i].id;
            if (has_node(weights, input)) return true;
            if (!fusion->is_floating[input] || fusion->node_stamp[input] == fusion->stamp) continue;
            fusion->node_stamp[input] = fusion->stamp;
            kiln_vec_push(pending, fusion->arena, input);
        }
    }
    return false;
}

bool kiln_fusion_meets_weights(kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    const kiln_ids *lists[] = {&fusion->clusters.at[a].nodes, &fusion->clusters.at[b].nodes};
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < lists[i]->n; j++) {
            const kiln_weights *weights = fusion->weights[lists[i]->at[j]];
            const kiln_ids *others = lists[1 - i];
            for (uint32_t k = 0; weights && k < others->n; k++)
                if (computes_weights(fusion, others->at[k], weights)) return true;
        }
    }
    return false;
}
