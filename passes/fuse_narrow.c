/* What a group widens at its end for others stays with those: they read the narrow value.
 *
 *     group: … %5: u8 = convert …, %6: f32 = convert %5, %7 = mul %6, %scale -> stored in f32
 *     =>  group: … %5 -> stored in u8        another: %6 = convert %5, %7 = mul %6, %scale
 *
 * The chain from the conversion to the stored value becomes a cluster of its own; producers then
 * join their readers (fuse_producer.c). */
#include "passes/fuse.h"

#define MOST_CHAIN 8

typedef struct chain {
    uint32_t number; /* of the cluster */
    uint32_t nodes[MOST_CHAIN], n;
} chain;

/* The only user of `id` inside the cluster, 0 where others read it all; false where it has several,
 * or both, or readers that want it in memory. */
static bool next_user(const kiln_fusion *fusion, uint32_t number, uint32_t id, uint32_t *out_next)
{
    uint32_t n_inside = 0, n_outside = 0;
    *out_next = 0;
    for (uint32_t i = fusion->first_user[id]; i < fusion->first_user[id + 1]; i++) {
        uint32_t user = fusion->users[i];
        kiln_class class_ = kiln_fusion_class(fusion, user);
        if (class_ != KILN_ELEMENTWISE && class_ != KILN_REDUCE) return false;
        bool is_inside = fusion->cluster_of[user] == number;
        if (is_inside && *out_next == user) continue;
        n_inside += is_inside;
        n_outside += !is_inside;
        if (is_inside) *out_next = user;
    }
    return n_inside + (n_outside != 0) == 1;
}

/* Whether `id` reads no node of the cluster but `from`. */
static bool reads_only(kiln_fusion *fusion, uint32_t number, uint32_t id, uint32_t from)
{
    kiln_ids sources = {0};
    kiln_fusion_sources(fusion, id, &sources);
    for (uint32_t i = 0; i < sources.n; i++) {
        if (fusion->cluster_of[sources.at[i]] == number && sources.at[i] != from) return false;
    }
    return kiln_fusion_class(fusion, id) == KILN_ELEMENTWISE;
}

/* The chain from the widening node `id` to what is stored. */
static bool find_chain(kiln_fusion *fusion, uint32_t number, uint32_t id, chain *out)
{
    *out = (chain){.number = number};
    int64_t narrow = kiln_graph_type(fusion->graph, kiln_fusion_node(fusion, id)->inputs[0])->bytes;
    for (uint32_t next; out->n < MOST_CHAIN; id = next) {
        if (fusion->is_kept[id] || !next_user(fusion, number, id, &next)) return false;
        out->nodes[out->n++] = id;
        if (!next) return kiln_fusion_node(fusion, id)->type->bytes > narrow;
        if (!reads_only(fusion, number, next, id)) return false;
    }
    return false;
}

static void detach(kiln_fusion *fusion, const chain *c)
{
    kiln_cluster *from = &fusion->clusters.at[c->number];
    kiln_cluster cluster = {.is_alive = true, .kind = KILN_GROUP_POINTWISE, .origin = from->origin};
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; i < from->nodes.n; i++) {
        uint32_t id = from->nodes.at[i];
        bool is_moved = at < c->n && c->nodes[at] == id;
        at += is_moved;
        if (!is_moved) from->nodes.at[n++] = id;
    }
    from->nodes.n = n;
    for (uint32_t i = 0; i < c->n; i++) {
        kiln_vec_push(&cluster.nodes, fusion->arena, c->nodes[i]);
        fusion->cluster_of[c->nodes[i]] = fusion->clusters.n;
        fusion->role[c->nodes[i]] = KILN_ROLE_FREE;
    }
    kiln_vec_push(&fusion->clusters, fusion->arena, cluster);
}

static bool is_widening(const kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (node->op != KILN_OP_convert || fusion->cluster_of[node->inputs[0].id] != number)
        return false;
    return kiln_graph_type(fusion->graph, node->inputs[0])->bytes < node->type->bytes;
}

void kiln_fuse_narrow(kiln_fusion *fusion)
{
    if (fusion->schedule->is_unfused) return;
    uint32_t n_clusters = fusion->clusters.n;
    for (uint32_t number = 0; number < n_clusters; number++) {
        kiln_group_kind kind = fusion->clusters.at[number].kind;
        if (kind != KILN_GROUP_DOT && kind != KILN_GROUP_CONV) continue;
        for (uint32_t i = fusion->clusters.at[number].nodes.n; i-- > 0;) {
            chain c;
            uint32_t id = fusion->clusters.at[number].nodes.at[i];
            if (!is_widening(fusion, number, id) || !find_chain(fusion, number, id, &c)) continue;
            detach(fusion, &c);
            break;
        }
    }
}
