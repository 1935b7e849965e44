/* Attention: softmax(f(Q K^T)) V in one group. By now the first product with its epilogue f (scale,
 * mask, whatever is elementwise) is one cluster, the softmax of its rows a second, the product with
 * V a third; where nothing in between is needed elsewhere, they become one, and the scores never
 * reach memory:
 *
 *     dot(Q, K) -> scores -> row(max, exp, sum, 1 / sum, mul) -> probabilities -> dot(., V)
 *
 * Both right operands are read from panels. Not in strict compiles: the kernel rescales its sums.
 */
#include <string.h>

#include "kiln/program.h"
#include "passes/fuse.h"

/* The operand of a broadcast that stretches one element per row over the last axis; else none. */
static kiln_value under_row_broadcast(const kiln_graph *graph, kiln_value value)
{
    kiln_value none = {0};
    const kiln_node *node = kiln_graph_node(graph, value);
    if (node->op != KILN_OP_broadcast) return none;
    kiln_value from = node->inputs[0];
    const kiln_type *type = kiln_graph_type(graph, from);
    kiln_ints axes = node->attrs->axes.axes;
    uint32_t last = node->type->rank - 1;
    for (uint32_t i = 0; i < type->rank; i++) {
        bool is_last = axes.at[i] == last;
        if (axes.at[i] != i || (is_last && type->dims[i] != 1)) return none;
        if (!is_last && type->dims[i] != node->type->dims[i]) return none;
    }
    if (type->rank < last) return none;
    return kiln_stored_value(graph, from);
}

static bool is_last_axis_reduce(const kiln_graph *graph, kiln_value value, kiln_op op)
{
    const kiln_node *node = kiln_graph_node(graph, value);
    if (node->op != op || node->attrs->axes.axes.n != 1) return false;
    return node->attrs->axes.axes.at[0] + 1 == kiln_graph_type(graph, node->inputs[0])->rank;
}

/* exp(scores - max(scores)); fills scores and maximum. */
static bool match_exponential(const kiln_graph *graph, kiln_value value,
                              kiln_attention_parts *found)
{
    const kiln_node *exp = kiln_graph_node(graph, value);
    if (exp->op != KILN_OP_exp) return false;
    const kiln_node *sub = kiln_graph_node(graph, exp->inputs[0]);
    if (sub->op != KILN_OP_sub) return false;
    found->scores = sub->inputs[0];
    found->maximum = under_row_broadcast(graph, sub->inputs[1]);
    if (!found->maximum.id || !is_last_axis_reduce(graph, found->maximum, KILN_OP_reduce_max))
        return false;
    return kiln_graph_node(graph, found->maximum)->inputs[0].id == found->scores.id;
}

/* The operand of 1 / x; else none. */
static kiln_value under_reciprocal(const kiln_graph *graph, kiln_value value)
{
    const kiln_node *div = kiln_graph_node(graph, value);
    if (div->op != KILN_OP_div || div->type->dtype != KILN_f32) return (kiln_value){0};
    const kiln_node *one = kiln_graph_node(graph, kiln_view_base(graph, div->inputs[0]));
    if (one->op != KILN_OP_constant || one->attrs->literal.value.kind != KILN_LITERAL_SPLAT)
        return (kiln_value){0};
    float number;
    memcpy(&number, one->attrs->literal.value.data, sizeof number);
    return number == 1.0f ? div->inputs[1] : (kiln_value){0};
}

/* exponentials / sum, or exponentials * (1 / sum) with the operands in any order. */
static bool match_softmax(const kiln_graph *graph, kiln_value value, kiln_attention_parts *found)
{
    const kiln_node *node = kiln_graph_node(graph, value);
    bool is_div = node->op == KILN_OP_div, is_mul = node->op == KILN_OP_mul;
    if ((!is_div && !is_mul) || node->type->dtype != KILN_f32 || node->type->rank < 2) return false;
    uint32_t at = is_mul && kiln_graph_node(graph, node->inputs[0])->op != KILN_OP_exp ? 1 : 0;
    found->probabilities = value;
    found->exponentials = node->inputs[at];
    found->sum = under_row_broadcast(graph, node->inputs[1 - at]);
    if (found->sum.id && is_mul) found->sum = under_reciprocal(graph, found->sum);
    if (found->sum.id) found->sum = kiln_stored_value(graph, found->sum);
    if (!found->sum.id || !is_last_axis_reduce(graph, found->sum, KILN_OP_reduce_sum)) return false;
    if (kiln_graph_node(graph, found->sum)->inputs[0].id != found->exponentials.id) return false;
    return match_exponential(graph, found->exponentials, found);
}

static bool is_leading(kiln_ints axes, uint32_t n)
{
    for (uint32_t i = 0; i < axes.n; i++) {
        if (axes.at[i] != i) return false;
    }
    return axes.n == n;
}

/* probabilities[batch…, m, n] times V[batch…, n, width]; the result is [batch…, m, width]. */
static bool match_second(const kiln_graph *graph, kiln_attention_parts *found)
{
    const kiln_node *dot = kiln_graph_node(graph, found->second);
    const kiln_type *type = kiln_graph_type(graph, dot->inputs[0]);
    if (dot->op != KILN_OP_dot_general || dot->type->dtype != KILN_f32) return false;
    if (!is_leading(dot->attrs->dot.lhs_batch, type->rank - 2) || dot->type->rank != type->rank)
        return false;
    kiln_ints contract = dot->attrs->dot.lhs_contract;
    return contract.n == 1 && contract.at[0] + 1 == type->rank;
}

static bool match_first(kiln_arena *arena, const kiln_graph *graph, kiln_attention_parts *found)
{
    const kiln_type *scores = kiln_graph_type(graph, found->scores);
    const kiln_node *dot = kiln_graph_node(graph, found->first);
    if (dot->op != KILN_OP_dot_general || dot->type->dtype != KILN_f32) return false;
    if (dot->type->rank != scores->rank) return false;
    kiln_matmul_roles roles;
    kiln_dot_roles(arena, graph, found->first, &roles);
    return roles.m.n == 1 && roles.n.n == 1 && roles.batch.n + 2 == scores->rank;
}

/* The contraction in a group or cluster that is not `second`. */
static kiln_value other_contraction(const kiln_graph *graph, const kiln_value *nodes, uint32_t n,
                                    kiln_value second)
{
    for (uint32_t i = 0; i < n; i++) {
        bool is_contraction =
            kiln_node_row(kiln_graph_node(graph, nodes[i]))->class_ == KILN_CONTRACT;
        if (is_contraction && nodes[i].id != second.id) return nodes[i];
    }
    return (kiln_value){0};
}

bool kiln_group_attention(kiln_arena *arena, const kiln_graph *graph, const kiln_group *group,
                          kiln_attention_parts *out_found)
{
    kiln_attention_parts found = {.second = group->anchor};
    if (!group->anchor.id || !match_second(graph, &found)) return false;
    if (!match_softmax(graph, kiln_graph_node(graph, group->anchor)->inputs[0], &found))
        return false;
    found.first = other_contraction(graph, group->nodes, group->n_nodes, group->anchor);
    if (!found.first.id || !match_first(arena, graph, &found)) return false;
    *out_found = found;
    return true;
}

/* The only node of the cluster that is stored, when no cluster but `reader` reads it; else 0. */
static uint32_t only_result(kiln_fusion *fusion, uint32_t number, uint32_t reader)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    uint32_t result = 0;
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        if (!kiln_fusion_is_stored(fusion, id, number, KILN_NONE)) continue;
        if (result || kiln_fusion_is_stored(fusion, id, number, reader)) return 0;
        result = id;
    }
    return result;
}

/* Few rows of queries read V once anyway: packing it would cost more than the scores. A tile of
 * rows keeps its scores in scratch memory, and sums over columns are one chain: both end at
 * MAX_COLUMNS. */
#define MIN_ROWS 32
#define MAX_COLUMNS 4096
#define MAX_WIDTH 256

static bool is_worth_it(const kiln_fusion *fusion, const kiln_attention_parts *found)
{
    const kiln_type *scores = kiln_graph_type(fusion->graph, found->scores);
    const kiln_type *result = kiln_graph_type(fusion->graph, found->second);
    int64_t columns = scores->dims[scores->rank - 1];
    return scores->dims[scores->rank - 2] >= MIN_ROWS && columns >= 16 && columns <= MAX_COLUMNS &&
           result->dims[result->rank - 1] <= MAX_WIDTH && result->n_elements > 0;
}

static uint32_t cluster_at(const kiln_fusion *fusion, kiln_value value)
{
    return value.id ? fusion->cluster_of[value.id] : KILN_NONE;
}

static void try_attention(kiln_fusion *fusion, uint32_t last)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_cluster *cluster = &fusion->clusters.at[last];
    kiln_attention_parts found = {.second = kiln_fusion_value(fusion, cluster->anchor)};
    if (!match_second(graph, &found)) return;
    kiln_value probabilities = kiln_graph_node(graph, found.second)->inputs[0];
    if (!match_softmax(graph, probabilities, &found)) return;
    uint32_t row = cluster_at(fusion, probabilities), first = cluster_at(fusion, found.scores);
    if (row == KILN_NONE || first == KILN_NONE || first == row) return;
    /* max, sub, exp, sum and div (or 1 / sum and mul), and nothing else */
    uint32_t n = kiln_graph_node(graph, probabilities)->op == KILN_OP_mul ? 6 : 5;
    if (fusion->clusters.at[row].kind != KILN_GROUP_ROW || fusion->clusters.at[row].nodes.n != n) return;
    if (fusion->clusters.at[first].kind != KILN_GROUP_DOT) return;
    found.first = kiln_fusion_value(fusion, fusion->clusters.at[first].anchor);
    if (!match_first(fusion->arena, graph, &found) || !is_worth_it(fusion, &found)) return;
    if (!kiln_fusion_may_meet(fusion, first, row) || !kiln_fusion_may_meet(fusion, row, last))
        return;
    if (only_result(fusion, first, row) != found.scores.id) return;
    if (only_result(fusion, row, last) != found.probabilities.id) return;
    if (kiln_fusion_has_detour(fusion, first, row) || kiln_fusion_has_detour(fusion, row, last))
        return;
    fusion->is_packed[found.first.id] = fusion->is_packed[found.second.id] = true;
    kiln_fusion_merge(fusion, row, last);
    kiln_fusion_merge(fusion, first, last);
    fusion->clusters.at[last].kind = KILN_GROUP_ATTENTION;
}

void kiln_fuse_attention(kiln_fusion *fusion)
{
    if (fusion->pipeline->is_strict || !fusion->pipeline->has_attention) return;
    for (uint32_t number = 0; number < fusion->clusters.n; number++) {
        const kiln_cluster *cluster = &fusion->clusters.at[number];
        if (cluster->is_alive && cluster->kind == KILN_GROUP_DOT) try_attention(fusion, number);
    }
}
