/* Which products are brief. In place: a few million multiplications, operands that stay in the
 * caches and are of the dtype of the sums, rows that no move gathers. Packed by their tiles: some
 * hundred million, a second operand that stands in memory anyway. */
#include "passes/brief.h"

#include "base/checked.h"
#include "passes/row_move.h"

#define MOST_WORK (1 << 22)    /* multiplications: some 70 us on a core */
#define MOST_WEIGHTS (1 << 18) /* elements of the second operand: they stay in the second cache */
#define MOST_K 512
#define MOST_PACKED_WORK (1 << 28) /* multiplications: some 3 ms on a core */
#define MOST_FAR_WORK (1 << 24)    /* the same where each k of a row is far from the next */
#define MOST_CHAIN 4096            /* elements of one sum */
#define LEAST_ROWS 16              /* for which columns that lie together are packed */

/* False where a move gathers its rows. */
static bool find_roles(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction,
                       kiln_matmul_roles *out_roles)
{
    if (kiln_graph_node(graph, contraction)->op != KILN_OP_dot_general) return false;
    kiln_dot_roles(arena, graph, contraction, out_roles);
    return !kiln_dot_row_move(arena, graph, contraction).id;
}

static bool is_at_most(const kiln_matmul_roles *roles, int64_t most)
{
    int64_t work, sizes[] = {roles->batch_size, roles->m_size, roles->n_size, roles->k_size};
    return kiln_checked_product(sizes, 4, &work) && work > 0 && work <= most;
}

bool kiln_dot_may_be_brief(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction)
{
    const kiln_node *node = kiln_graph_node(graph, contraction);
    kiln_matmul_roles roles;
    if (!find_roles(arena, graph, contraction, &roles)) return false;
    for (uint32_t i = 0; i < 2; i++)
        if (kiln_graph_type(graph, node->inputs[i])->dtype != node->attrs->dot.accumulate)
            return false;
    int64_t most_k = roles.n_size == 1 ? MOST_CHAIN : MOST_K;
    return is_at_most(&roles, MOST_WORK) && roles.k_size <= most_k &&
           roles.k_size * roles.n_size <= MOST_WEIGHTS;
}

static bool is_unit(const kiln_graph *graph, kiln_value operand, kiln_ints axes)
{
    kiln_view_strides at;
    if (!kiln_view_is_strided(graph, operand, kiln_view_base(graph, operand), &at)) return false;
    return axes.n == 0 || at.strides[axes.at[axes.n - 1]] == 1;
}

bool kiln_dot_may_pack_briefly(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction,
                               const kiln_machine *machine)
{
    kiln_matmul_roles roles;
    if (machine->kind != KILN_MACHINE_CPU) return false;
    if (!find_roles(arena, graph, contraction, &roles)) return false;
    const kiln_value *inputs = kiln_graph_node(graph, contraction)->inputs;
    kiln_value base = kiln_view_base(graph, inputs[1]);
    if (kiln_graph_node(graph, base)->op != KILN_OP_input) return false;
    bool is_far = !is_unit(graph, inputs[0], roles.a_k);
    return is_at_most(&roles, is_far ? MOST_FAR_WORK : MOST_PACKED_WORK) &&
           roles.k_size <= MOST_CHAIN && roles.n_size > 1 &&
           (roles.m_size >= LEAST_ROWS || !is_unit(graph, inputs[1], roles.b_n));
}
