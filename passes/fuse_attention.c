/* Attention: two contractions with a softmax between them become one group where nothing else needs
 * the scores. They are found by what they compute (match_attention.c), in any spelling. */
#include "kiln/program.h"
#include "passes/fuse.h"

#define MAX_COLUMNS                                                                                \
    4096 /* one chain of the second product; rows of scores stay in the second cache */
#define MIN_RESULTS 16 /* fewer elements are row reductions */

/* Whether all that read node `id` are inside, or the second contraction. */
static bool is_private(const kiln_fusion *fusion, const kiln_attention_match *match, uint32_t id,
                       uint32_t dot)
{
    if (fusion->is_kept[id]) return false;
    for (uint32_t i = fusion->first_user[id]; i < fusion->first_user[id + 1]; i++) {
        uint32_t user = fusion->users[i];
        bool is_weights = user == dot && id == match->weights.id;
        if (fusion->is_live[user] && !match->is_inside[user] && !is_weights) return false;
    }
    return true;
}

static bool fits(const kiln_fusion *fusion, const kiln_attention_match *match, uint32_t dot)
{
    const kiln_type *scores = kiln_graph_type(fusion->graph, match->scores);
    const kiln_type *result = kiln_fusion_node(fusion, dot)->type;
    if (match->columns < 1 || match->columns > MAX_COLUMNS || scores->n_elements < MIN_RESULTS ||
        result->n_elements < MIN_RESULTS || result->dtype != KILN_f32) {
        return false;
    }
    /* Scores that another attention makes are its result. */
    uint32_t made_by = fusion->cluster_of[match->scores.id];
    if (made_by != KILN_NONE && fusion->clusters.at[made_by].kind == KILN_GROUP_ATTENTION)
        return false;
    /* Products of bf16 only where both run by tiles: the sums stay the same. */
    if (fusion->weights[match->scores.id] || fusion->weights[dot]) return false;
    bool is_first = fusion->packing[match->scores.id] == KILN_FORMAT_BF16_K2N16;
    bool is_second = fusion->packing[dot] == KILN_FORMAT_BF16_K2N16;
    bool is_short = kiln_graph_type(fusion->graph, match->weights)->dtype != KILN_f32;
    if (is_first != is_second || is_second != is_short) return false;
    for (uint32_t id = match->scores.id; id <= match->weights.id; id++) {
        if (match->is_inside[id] && fusion->is_live[id] && !is_private(fusion, match, id, dot))
            return false;
    }
    return true;
}

static void merge(kiln_fusion *fusion, const kiln_attention_match *match, uint32_t dot)
{
    uint32_t number = fusion->cluster_of[dot];
    for (uint32_t id = match->scores.id; id <= match->weights.id; id++) {
        uint32_t cluster = fusion->cluster_of[id];
        if (!match->is_inside[id] || cluster == KILN_NONE || cluster == number) continue;
        kiln_fusion_merge(fusion, cluster, number);
    }
    fusion->clusters.at[number].kind = KILN_GROUP_ATTENTION;
    fusion->packing[dot] = fusion->packing[match->scores.id] = KILN_FORMAT_DENSE;
}

void kiln_fuse_attention(kiln_fusion *fusion)
{
    if (fusion->schedule->is_unfused || fusion->machine->kind != KILN_MACHINE_CPU) return;
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        if (!fusion->is_live[id] || kiln_fusion_class(fusion, id) != KILN_CONTRACT) continue;
        kiln_attention_match match;
        if (!kiln_match_attention(fusion->arena, fusion->graph, kiln_fusion_value(fusion, id),
                                  &match)) {
            continue;
        }
        /* Nothing outside reads what is inside, so the merged group cannot wait for itself. */
        if (fits(fusion, &match, id)) merge(fusion, &match, id);
    }
}
