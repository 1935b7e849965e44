/* Which maps join a COLUMN cluster. As one kernel a strip of columns is walked once for each
 * statistic and once for the map, and found in the second cache after the first walk; apart, each
 * is a walk through memory, but in its order, which processors look ahead in. That pays when it
 * saves two such walks, or when there is so little that launching and compiling count. */
#include "passes/column.h"
#include "passes/fuse.h"

#define STRIP_BYTES 256
#define SMALL 65536 /* elements */
#define WAYS 8      /* of the second cache */

/* Whether all elements of a strip stay in a quarter of the second cache: lines that lie a power of
 * two apart share its sets. */
static bool stays_near(const kiln_fusion *fusion, const kiln_node *reduction)
{
    const kiln_type *full = kiln_graph_type(fusion->graph, reduction->inputs[0]);
    int64_t n_results = reduction->type->n_elements, l2 = fusion->machine->l2_bytes;
    int64_t n_reduced = n_results ? full->n_elements / n_results : 0;
    int64_t step = (int64_t)kiln_dtype_bytes(full->dtype);
    kiln_ints axes = kiln_reduced_axes(reduction);
    for (uint32_t i = (uint32_t)axes.at[axes.n - 1] + 1; i < full->rank; i++) step *= full->dims[i];
    int64_t apart = step & -step, way = l2 / WAYS;
    int64_t n_places = apart < way ? way / apart : 1;
    return n_reduced * STRIP_BYTES <= l2 / 4 &&
           (apart < STRIP_BYTES || n_reduced <= n_places * WAYS);
}

/* Whether a reduction of the same columns follows on node `id`, through maps. */
static bool is_reduced_again(kiln_fusion *fusion, const kiln_node *anchor, uint32_t id)
{
    kiln_ids *stack = &fusion->stack;
    fusion->stamp++;
    stack->n = 0;
    kiln_vec_push(stack, fusion->arena, id);
    while (stack->n) {
        uint32_t at = stack->at[--stack->n];
        for (uint32_t i = fusion->first_user[at]; i < fusion->first_user[at + 1]; i++) {
            uint32_t user = fusion->users[i];
            const kiln_node *node = kiln_fusion_node(fusion, user);
            kiln_class class_ = kiln_fusion_class(fusion, user);
            if (fusion->node_stamp[user] == fusion->stamp) continue;
            fusion->node_stamp[user] = fusion->stamp;
            if (class_ == KILN_REDUCE && kiln_is_same_columns(fusion->graph, anchor, node))
                return true;
            if (class_ == KILN_ELEMENTWISE) kiln_vec_push(stack, fusion->arena, user);
        }
    }
    return false;
}

const char *kiln_fusion_column_objection(kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    const kiln_node *anchor = kiln_fusion_node(fusion, cluster->anchor);
    int64_t n_elements = kiln_graph_type(fusion->graph, anchor->inputs[0])->n_elements;
    int64_t strips = anchor->type->n_elements * (int64_t)sizeof(float) / STRIP_BYTES;
    uint32_t n_reductions = 0;
    if (fusion->machine->kind != KILN_MACHINE_CPU) return "threads of columns make no maps";
    if (n_elements < SMALL) return NULL;
    for (uint32_t i = 0; i < cluster->nodes.n; i++)
        n_reductions += kiln_fusion_class(fusion, cluster->nodes.at[i]) == KILN_REDUCE;
    if (strips < fusion->pipeline->n_threads)
        return "too few columns to share among threads; the map is shared alone";
    if (!stays_near(fusion, anchor)) return "the columns do not stay in the cache";
    if (n_reductions < 2 && !is_reduced_again(fusion, anchor, id))
        return "reading the columns again costs as much";
    return NULL;
}
