/* Relations between clusters: who reads whom, whether a merge would close a cycle, and the merge.
 * All searches use stamps instead of cleared marks and a stack instead of recursion. */
#include "kiln/program.h"
#include "passes/fuse.h"

static bool first_visit(uint32_t *stamps, uint32_t id, uint32_t stamp)
{
    if (stamps[id] == stamp) return false;
    stamps[id] = stamp;
    return true;
}

/* Pushes what lies behind `id` on the search's stack: its users or its operands. */
static void push_users(kiln_fusion *fusion, uint32_t id)
{
    for (uint32_t i = fusion->first_user[id]; i < fusion->first_user[id + 1]; i++) {
        kiln_vec_push(&fusion->stack, fusion->arena, fusion->users[i]);
    }
}

void kiln_fusion_more_readers(kiln_fusion *fusion, uint32_t id, kiln_ids *out_clusters)
{
    fusion->stack.n = 0;
    push_users(fusion, id);
    while (fusion->stack.n) {
        uint32_t user = fusion->stack.at[--fusion->stack.n];
        if (!first_visit(fusion->node_stamp, user, fusion->stamp)) continue;
        uint32_t cluster = fusion->cluster_of[user];
        if (cluster == KILN_NONE) {
            push_users(fusion, user);
        } else if (first_visit(fusion->cluster_stamp, cluster, fusion->stamp)) {
            kiln_vec_push(out_clusters, fusion->arena, cluster);
        }
    }
}

void kiln_fusion_readers(kiln_fusion *fusion, uint32_t id, kiln_ids *out_clusters)
{
    fusion->stamp++;
    kiln_fusion_more_readers(fusion, id, out_clusters);
}

bool kiln_fusion_is_stored(kiln_fusion *fusion, uint32_t id, uint32_t inside, uint32_t other)
{
    if (fusion->is_kept[id]) return true;
    fusion->stamp++;
    fusion->stack.n = 0;
    push_users(fusion, id);
    while (fusion->stack.n) {
        uint32_t user = fusion->stack.at[--fusion->stack.n];
        if (!first_visit(fusion->node_stamp, user, fusion->stamp)) continue;
        uint32_t cluster = fusion->cluster_of[user];
        if (cluster != KILN_NONE && cluster != inside && cluster != other) return true;
        if (cluster != KILN_NONE) continue;
        if (fusion->is_assembled[user]) return true;
        push_users(fusion, user);
    }
    return false;
}

void kiln_fusion_sources(kiln_fusion *fusion, uint32_t id, kiln_ids *out_nodes)
{
    fusion->stamp++;
    fusion->stack.n = 0;
    kiln_vec_push(&fusion->stack, fusion->arena, id);
    while (fusion->stack.n) {
        const kiln_node *node = kiln_fusion_node(fusion, fusion->stack.at[--fusion->stack.n]);
        for (uint32_t i = node->n_inputs; i-- > 0;) {
            uint32_t input = node->inputs[i].id;
            if (!first_visit(fusion->node_stamp, input, fusion->stamp)) continue;
            if (fusion->cluster_of[input] != KILN_NONE) {
                kiln_vec_push(out_nodes, fusion->arena, input);
            } else if (fusion->is_floating[input]) {
                kiln_vec_push(&fusion->stack, fusion->arena, input);
            }
        }
    }
}

/* A search this long counts as a detour: better two groups than a compile that takes seconds. */
#define MAX_VISITS 20000

/* Appends the clusters that read cluster `number`. */
static void visit_successors(kiln_fusion *fusion, uint32_t number, kiln_ids *reached)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    for (uint32_t i = 0; i < cluster->nodes.n; i++)
        kiln_fusion_more_readers(fusion, cluster->nodes.at[i], reached);
}

bool kiln_fusion_has_detour(kiln_fusion *fusion, uint32_t from, uint32_t to)
{
    kiln_ids *reached = &fusion->reached;
    reached->n = 0;
    fusion->cluster_stamp[from] = ++fusion->stamp;
    visit_successors(fusion, from, reached);
    /* A second search from the direct readers: only it may come to `to`. */
    fusion->cluster_stamp[from] = ++fusion->stamp;
    uint32_t n_direct = 0;
    for (uint32_t i = 0; i < reached->n; i++) {
        if (reached->at[i] == to) continue;
        fusion->cluster_stamp[reached->at[i]] = fusion->stamp;
        reached->at[n_direct++] = reached->at[i];
    }
    reached->n = n_direct;
    for (uint32_t at = 0; at < reached->n; at++) {
        if (reached->at[at] == to || reached->n > MAX_VISITS) return true;
        visit_successors(fusion, reached->at[at], reached);
    }
    return false;
}

bool kiln_fusion_reaches(kiln_fusion *fusion, uint32_t from, uint32_t to)
{
    kiln_ids *reached = &fusion->reached;
    reached->n = 0;
    fusion->cluster_stamp[from] = ++fusion->stamp;
    visit_successors(fusion, from, reached);
    for (uint32_t at = 0; at < reached->n; at++) {
        if (reached->at[at] == to || reached->n > MAX_VISITS) return true;
        visit_successors(fusion, reached->at[at], reached);
    }
    return false;
}

void kiln_fusion_merge(kiln_fusion *fusion, uint32_t from, uint32_t to)
{
    kiln_cluster *source = &fusion->clusters.at[from], *target = &fusion->clusters.at[to];
    kiln_ids merged = {0};
    uint32_t s = 0, t = 0;
    while (s < source->nodes.n || t < target->nodes.n) {
        bool takes_source = t == target->nodes.n ||
                            (s < source->nodes.n && source->nodes.at[s] < target->nodes.at[t]);
        uint32_t id = takes_source ? source->nodes.at[s++] : target->nodes.at[t++];
        fusion->cluster_of[id] = to;
        kiln_vec_push(&merged, fusion->arena, id);
    }
    target->nodes = merged;
    source->is_alive = false;
    source->nodes.n = 0;
}

void kiln_fusion_refuse(kiln_fusion *fusion, uint32_t producer, uint32_t consumer,
                        const char *reason)
{
    const kiln_graph *graph = fusion->graph;
    kiln_text text = {.arena = fusion->arena};
    kiln_value_print(&text, graph, kiln_fusion_value(fusion, producer));
    kiln_text_printf(&text, " %s -> ", kiln_node_row(graph->nodes.at[producer])->name);
    kiln_value_print(&text, graph, kiln_fusion_value(fusion, consumer));
    kiln_text_printf(&text, " %s: %s", kiln_node_row(graph->nodes.at[consumer])->name, reason);
    const char *sentence = kiln_text_string(&text);
    kiln_vec_push(&fusion->schedule->refusals, fusion->arena, sentence);
}

bool kiln_fusion_may_meet(const kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    if (!fusion->schedule->is_unfused) return true;
    return fusion->clusters.at[a].origin == fusion->clusters.at[b].origin;
}
