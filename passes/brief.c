/* Which products are brief: a few million multiplications, operands that stay in the caches and are
 * of the dtype of the sums, rows that no move gathers. */
#include "passes/brief.h"

#include "base/checked.h"
#include "passes/row_move.h"

#define MOST_WORK (1 << 22)    /* multiplications: some 70 us on a core */
#define MOST_WEIGHTS (1 << 18) /* elements of the second operand: they stay in the second cache */
#define MOST_K 512

bool kiln_dot_may_be_brief(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction)
{
    const kiln_node *node = kiln_graph_node(graph, contraction);
    if (node->op != KILN_OP_dot_general) return false;
    for (uint32_t i = 0; i < 2; i++)
        if (kiln_graph_type(graph, node->inputs[i])->dtype != node->attrs->dot.accumulate)
            return false;
    kiln_matmul_roles roles;
    kiln_dot_roles(arena, graph, contraction, &roles);
    int64_t work, sizes[] = {roles.batch_size, roles.m_size, roles.n_size, roles.k_size};
    if (!kiln_checked_product(sizes, 4, &work) || work == 0 || work > MOST_WORK) return false;
    if (roles.k_size > MOST_K || roles.k_size * roles.n_size > MOST_WEIGHTS) return false;
    return !kiln_dot_row_move(arena, graph, contraction).id;
}
