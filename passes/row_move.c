/* Rows of a product's first operand that a MOVE finds: before, the rows are copied and the product
 * reads the copy; after, it reads each row where it stands in what the MOVE reads:
 *
 *     %1 = take %table, %ids   %2 = dot_general %1, %w        %2 = dot_general %table[%ids], %w
 */
#include "passes/row_move.h"

#include "graph/gather.h"

/* How many of the last axes of a slice walk the last axes of the operand one by one. */
static uint32_t walked_axes(const kiln_gather_plan *plan)
{
    uint32_t n = 0;
    while (n < plan->rank && n < plan->slice_rank &&
           plan->offset[plan->rank - n - 1] == (int32_t)(plan->slice_rank - n - 1))
        n++;
    return n;
}

/* Elements that lie together in the result of a MOVE as in its first operand: the product of the
 * last dims, up to one that is not read in whole. 0 where indices do not say where each stretch
 * begins. */
static int64_t stretch_of(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
    uint32_t n = 0;
    kiln_gather_plan plan;
    if (node->op == KILN_OP_take) {
        n = from->rank - (uint32_t)node->attrs->axis.axis - 1;
    } else if (node->op == KILN_OP_dynamic_slice) {
        n = from->rank;
    } else if (node->op == KILN_OP_gather) {
        kiln_gather_plan_make(node->attrs, from, kiln_graph_type(graph, node->inputs[1]),
                              node->type, &plan);
        n = walked_axes(&plan);
    } else {
        return 0;
    }
    int64_t stretch = 1;
    for (uint32_t i = 1; i <= n; i++) {
        int64_t dim = node->type->dims[node->type->rank - i];
        stretch *= dim;
        if (dim != from->dims[from->rank - i]) break;
    }
    return stretch;
}

/* Rows of a matrix: no batch, the axes of k last and in order. */
static bool is_row_major(const kiln_matmul_roles *roles)
{
    for (uint32_t i = 0; i < roles->a_k.n; i++) {
        if (roles->a_k.at[i] != roles->a_m.n + i) return false;
    }
    return roles->a_batch.n == 0;
}

kiln_value kiln_dot_row_move(kiln_arena *arena, const kiln_graph *graph, kiln_value dot)
{
    const kiln_node *node = kiln_graph_node(graph, dot);
    kiln_value none = {0}, move = kiln_stored_value(graph, node->inputs[0]);
    const kiln_node *from = kiln_graph_node(graph, move);
    if (node->op != KILN_OP_dot_general || kiln_node_row(from)->class_ != KILN_MOVE) return none;
    kiln_matmul_roles roles;
    kiln_dot_roles(arena, graph, dot, &roles);
    if (!is_row_major(&roles) || node->type->n_elements == 0 || roles.k_size == 0) return none;
    kiln_dtype dtype = from->type->dtype; /* narrow ones are widened while they are copied */
    if (dtype != node->attrs->dot.accumulate || kiln_dtype_bytes(dtype) < 4) return none;
    kiln_value table = from->inputs[0];
    for (uint32_t i = 1; i < from->n_inputs; i++) {
        if (from->inputs[i].id == table.id) return none;
    }
    const kiln_node *stored = kiln_graph_node(graph, kiln_stored_value(graph, table));
    if (kiln_node_row(stored)->class_ == KILN_VIEW || stored->type->n_elements == 0) return none;
    int64_t stretch = stretch_of(graph, from);
    return stretch > 0 && stretch % roles.k_size == 0 ? move : none;
}
