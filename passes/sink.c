/* sink: weights that are computed from constants before they are turned to what a product reads are
 * computed in that shape, so that its kernel can widen them as it reads (weights.h).
 *
 *     %1: f32[n,b,32] = mul (convert %q), (broadcast %s)
 *     %2: f32[k,n] = transpose (reshape %1)
 *     %3 = dot_general %x, %2
 *  => %1: f32[k,n] = mul (convert (transpose (reshape %q))), (transpose (reshape (broadcast %s)))
 *     %3 = dot_general %x, %1
 *
 * Constants are read through their views when compiling. The same bits. */
#include "kiln/program.h"
#include "passes/rewrite.h"
#include "passes/weights.h"

static const kiln_value none = {0, 0};

/* By source id: whether it is, through views and elementwise nodes, a product's second operand. */
static bool *find_weights(kiln_scope *scope, const kiln_graph *graph)
{
    bool *is_weight = kiln_new_array(&scope->arena, bool, graph->nodes.n + 1);
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        const kiln_node *node = graph->nodes.at[id];
        kiln_class class_ = kiln_node_row(node)->class_;
        if (node->op == KILN_OP_dot_general) is_weight[node->inputs[1].id] = true;
        if (!is_weight[id] || (class_ != KILN_VIEW && class_ != KILN_ELEMENTWISE)) continue;
        for (uint32_t i = 0; i < node->n_inputs; i++) is_weight[node->inputs[i].id] = true;
    }
    return is_weight;
}

/* An expression of the target over constants: its elementwise nodes and what they read. */
typedef struct expression {
    uint32_t n;
    kiln_value nodes[2 * KILN_WEIGHT_NODES], moved[2 * KILN_WEIGHT_NODES];
} expression;

static uint32_t find_node(const expression *e, kiln_value value)
{
    for (uint32_t i = 0; i < e->n; i++)
        if (e->nodes[i].id == value.id) return i;
    return KILN_NONE;
}

static bool is_elementwise(const kiln_graph *graph, kiln_value value)
{
    return kiln_node_row(kiln_graph_node(graph, value))->class_ == KILN_ELEMENTWISE;
}

static bool collect(const kiln_graph *graph, kiln_value root, expression *e)
{
    *e = (expression){.n = 1, .nodes = {root}};
    for (uint32_t i = 0; i < e->n; i++) {
        const kiln_node *node = kiln_graph_node(graph, e->nodes[i]);
        if (!is_elementwise(graph, e->nodes[i])) {
            kiln_value base = kiln_view_base(graph, e->nodes[i]);
            if (kiln_graph_node(graph, base)->op != KILN_OP_constant) return false;
            continue;
        }
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            if (find_node(e, node->inputs[j]) != KILN_NONE) continue;
            if (e->n == 2 * KILN_WEIGHT_NODES) return false;
            e->nodes[e->n++] = node->inputs[j];
        }
    }
    return true;
}

/* Ids ascending: operands before their users. */
static void sort_nodes(expression *e)
{
    for (uint32_t i = 1; i < e->n; i++) {
        kiln_value node = e->nodes[i];
        uint32_t at = i;
        for (; at > 0 && e->nodes[at - 1].id > node.id; at--) e->nodes[at] = e->nodes[at - 1];
        e->nodes[at] = node;
    }
}

/* `view` of a leaf; of a splat a splat. */
static kiln_value move_leaf(kiln_graph *target, const kiln_node *view, kiln_value leaf)
{
    const kiln_node *node = kiln_graph_node(target, leaf);
    const kiln_type *type =
        kiln_graph_tensor(target, node->type->dtype, view->type->rank, view->type->dims);
    if (node->op == KILN_OP_constant && node->attrs->literal.value.kind == KILN_LITERAL_SPLAT)
        return kiln_add_literal(target, type, &node->attrs->literal.value);
    kiln_node_spec spec = {
        .op = (kiln_op)view->op, .inputs = &leaf, .n_inputs = 1, .attrs = view->attrs};
    if (kiln_node_row(view)->result == KILN_RESULT_GIVEN) spec.given = type;
    return kiln_graph_add(target, &spec);
}

static kiln_value move_node(kiln_graph *target, const kiln_node *view, const expression *e,
                            kiln_value value)
{
    const kiln_node *node = kiln_graph_node(target, value);
    if (!is_elementwise(target, value)) return move_leaf(target, view, value);
    kiln_value inputs[3] = {{0}};
    for (uint32_t i = 0; i < node->n_inputs; i++)
        inputs[i] = e->moved[find_node(e, node->inputs[i])];
    kiln_node_spec spec = {.op = (kiln_op)node->op,
                           .inputs = inputs,
                           .n_inputs = node->n_inputs,
                           .attrs = node->attrs};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN)
        spec.given =
            kiln_graph_tensor(target, node->type->dtype, view->type->rank, view->type->dims);
    return kiln_graph_add(target, &spec);
}

static kiln_value visit_view(kiln_rewrite *rewrite, const kiln_node *node)
{
    const bool *is_weight = rewrite->user;
    kiln_graph *target = rewrite->target;
    if (kiln_node_row(node)->class_ != KILN_VIEW || !is_weight[node->id]) return none;
    kiln_value operand = kiln_mapped(rewrite, node->inputs[0]);
    expression e;
    if (!is_elementwise(target, operand) || !collect(target, operand, &e)) return none;
    sort_nodes(&e);
    for (uint32_t i = 0; i < e.n; i++) e.moved[i] = move_node(target, node, &e, e.nodes[i]);
    return e.moved[e.n - 1];
}

kiln_graph *kiln_pass_sink(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    bool *is_weight = find_weights(pipeline->scope, graph);
    uint32_t n_changed;
    kiln_graph *sunk = kiln_rewrite_sweep(pipeline, graph, visit_view, is_weight, &n_changed);
    return n_changed ? kiln_rewrite_sweep(pipeline, sunk, NULL, NULL, NULL) : sunk;
}
