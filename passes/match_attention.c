/* Finding attention: from the second contraction down to the first one. Spellings differ (scale
 * before or after, masks added or selected, exponents divided or multiplied by a reciprocal); what
 * counts is that full rows pass from reduction to reduction and that nothing else of the scores is
 * needed. */
#include <string.h>

#include "passes/schedule.h"

typedef struct search {
    kiln_arena *arena;
    const kiln_graph *graph;
    kiln_attention_match *attention;
    const kiln_type *weights; /* type of the rows */
    bool *is_seen;
    kiln_vec(uint32_t) stack;
} search;

static bool is_dot(const kiln_node *node)
{
    return node->op == KILN_OP_dot_general;
}

/* Full rows: as many elements as the weights, the same last dim. */
static bool is_full(const search *s, const kiln_type *type)
{
    return type->rank > 0 && type->n_elements == s->weights->n_elements &&
           type->dims[type->rank - 1] == s->weights->dims[s->weights->rank - 1];
}

static bool is_row_reduction(const search *s, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_REDUCE ||
        kiln_node_row(node)->attrs != KILN_FAMILY_axes) {
        return false;
    }
    const kiln_type *operand = kiln_graph_type(s->graph, node->inputs[0]);
    kiln_ints axes = node->attrs->axes.axes;
    return is_full(s, operand) && axes.n == 1 && axes.at[0] == (int64_t)operand->rank - 1;
}

static void push(search *s, uint32_t id)
{
    if (s->is_seen[id]) return;
    s->is_seen[id] = true;
    kiln_vec_push(&s->stack, s->arena, id);
}

/* Notes a reduction in order of ids. False when there are too many. */
static bool note_reduction(kiln_attention_match *attention, kiln_value reduction,
                           kiln_value operand)
{
    uint32_t at = attention->n_reductions++;
    if (at == KILN_MAX_ATTENTION_REDUCTIONS) return false;
    for (; at > 0 && attention->reductions[at - 1].id > reduction.id; at--) {
        attention->reductions[at] = attention->reductions[at - 1];
        attention->operands[at] = attention->operands[at - 1];
    }
    attention->reductions[at] = reduction;
    attention->operands[at] = operand;
    return true;
}

/* Collects the reductions and the one contraction under the weights. Elementwise nodes and views
 * are walked through; anything else is an input of the group. */
static bool collect(search *s)
{
    kiln_attention_match *attention = s->attention;
    push(s, attention->weights.id);
    while (s->stack.n) {
        uint32_t id = s->stack.at[--s->stack.n];
        const kiln_node *node = s->graph->nodes.at[id];
        kiln_value value = {id, s->graph->id};
        kiln_class class_ = kiln_node_row(node)->class_;
        if (is_dot(node) && is_full(s, node->type)) {
            if (attention->scores.id && attention->scores.id != id) return false;
            attention->scores = value;
            continue;
        }
        if (is_row_reduction(s, node)) {
            if (!note_reduction(attention, value, node->inputs[0])) return false;
        } else if (class_ != KILN_ELEMENTWISE && class_ != KILN_VIEW) {
            continue;
        }
        for (uint32_t i = 0; i < node->n_inputs; i++) push(s, node->inputs[i].id);
    }
    return attention->scores.id && attention->n_reductions > 0;
}

/* By id: whether the scores' full rows reach the node on a path without reductions. */
static bool *find_rows(search *s)
{
    const kiln_graph *graph = s->graph;
    bool *is_row = kiln_new_array(s->arena, bool, graph->nodes.n);
    is_row[s->attention->scores.id] = true;
    for (uint32_t id = s->attention->scores.id + 1; id <= s->attention->weights.id; id++) {
        const kiln_node *node = graph->nodes.at[id];
        kiln_class class_ = kiln_node_row(node)->class_;
        if (!s->is_seen[id] || (class_ != KILN_ELEMENTWISE && class_ != KILN_VIEW)) continue;
        for (uint32_t i = 0; i < node->n_inputs; i++)
            is_row[id] = is_row[id] || is_row[node->inputs[i].id];
    }
    return is_row;
}

/* Rows keep their order: only elementwise nodes and reshapes that leave the last dim touch them. */
static bool rows_keep_order(const search *s, const bool *is_row)
{
    for (uint32_t id = s->attention->scores.id + 1; id <= s->attention->weights.id; id++) {
        const kiln_node *node = s->graph->nodes.at[id];
        bool is_view = kiln_node_row(node)->class_ == KILN_VIEW;
        if (is_row[id] && (!is_full(s, node->type) || (is_view && node->op != KILN_OP_reshape))) {
            return false;
        }
    }
    return true;
}

/* Whether `target` gets at the rows of `from` without passing `cut`. */
static bool leaks(search *s, const bool *is_row, kiln_value target, kiln_value cut)
{
    memset(s->is_seen, 0, s->graph->nodes.n);
    s->stack.n = 0;
    push(s, target.id);
    while (s->stack.n) {
        uint32_t id = s->stack.at[--s->stack.n];
        if (id == cut.id || !is_row[id]) continue;
        if (id == s->attention->scores.id) return true;
        const kiln_node *node = s->graph->nodes.at[id];
        for (uint32_t i = 0; i < node->n_inputs; i++) push(s, node->inputs[i].id);
    }
    return false;
}

static bool is_chain(search *s, const bool *is_row)
{
    const kiln_attention_match *attention = s->attention;
    uint32_t n = attention->n_reductions;
    for (uint32_t i = 0; i < n; i++) {
        if (!is_row[attention->operands[i].id]) return false;
        if (i > 0 && leaks(s, is_row, attention->operands[i], attention->operands[i - 1]))
            return false;
    }
    return is_row[attention->weights.id] &&
           !leaks(s, is_row, attention->weights, attention->operands[n - 1]);
}

/* Nodes that depend on the scores, those of one element a row included. */
static void mark_inside(search *s, bool *is_inside)
{
    kiln_attention_match *attention = s->attention;
    is_inside[attention->scores.id] = true;
    for (uint32_t id = attention->scores.id + 1; id <= attention->weights.id; id++) {
        const kiln_node *node = s->graph->nodes.at[id];
        for (uint32_t i = 0; s->is_seen[id] && i < node->n_inputs; i++) {
            is_inside[id] = is_inside[id] || is_inside[node->inputs[i].id];
        }
    }
    attention->is_inside = is_inside;
}

static bool is_last(kiln_ints axes, uint32_t rank)
{
    return axes.n == 1 && axes.at[0] == (int64_t)rank - 1;
}

bool kiln_match_attention(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                          kiln_attention_match *out_attention)
{
    const kiln_node *node = kiln_graph_node(graph, dot);
    if (!is_dot(node)) return false;
    *out_attention = (kiln_attention_match){.weights = node->inputs[0]};
    search s = {arena, graph, out_attention, kiln_graph_type(graph, node->inputs[0]), NULL, {0}};
    kiln_matmul_roles first, second;
    kiln_dot_roles(arena, graph, dot, &second);
    for (uint32_t i = 0; i < second.a_batch.n; i++) {
        if (second.a_batch.at[i] != (int64_t)i) return false;
    }
    bool is_float = s.weights->dtype == KILN_f32 || s.weights->dtype == KILN_bf16;
    if (!is_float || !is_last(second.a_k, s.weights->rank)) return false;
    s.is_seen = kiln_new_array(arena, bool, graph->nodes.n);
    if (!collect(&s)) return false;
    bool *is_inside = kiln_new_array(arena, bool, graph->nodes.n);
    mark_inside(&s, is_inside);
    kiln_dot_roles(arena, graph, out_attention->scores, &first);
    const kiln_type *scores = kiln_graph_type(graph, out_attention->scores);
    out_attention->rows = second.m_size;
    out_attention->columns = second.k_size;
    bool fits = scores->dtype == KILN_f32 && is_last(first.n, scores->rank) &&
                first.batch_size == second.batch_size && first.m_size == second.m_size;
    const bool *is_row = fits ? find_rows(&s) : NULL;
    return fits && rows_keep_order(&s, is_row) && is_chain(&s, is_row);
}
