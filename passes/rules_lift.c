/* simplify, elementwise nodes over views: the work is done on what the views show, and the view
 * comes after it, where it may meet other views, and the work joins the kernel that computes its
 * operand. On repeated values it is also less work.
 *
 * These rules look at operands as they stand in the target, so that one sweep takes a chain of
 * elementwise nodes through a view. */
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static const kiln_node *target_operand(const kiln_rewrite *rewrite, const kiln_node *node,
                                       uint32_t operand)
{
    return kiln_graph_node(rewrite->target, kiln_mapped(rewrite, node->inputs[operand]));
}

/* What a view in the target shows. */
static const kiln_type *shown_type(const kiln_rewrite *rewrite, const kiln_node *view)
{
    return kiln_graph_type(rewrite->target, view->inputs[0]);
}

static bool is_splat(const kiln_node *node)
{
    double unused;
    return kiln_match_splat(node, &unused);
}

/* Types of one graph are one pointer, but dtypes may differ here. */
static bool same_dims(const kiln_type *a, const kiln_type *b)
{
    bool is_same = a->rank == b->rank;
    for (uint32_t i = 0; is_same && i < a->rank; i++) is_same = a->dims[i] == b->dims[i];
    return is_same;
}

static bool same_axes(const kiln_node *a, const kiln_node *b)
{
    kiln_ints x = a->attrs->axes.axes, y = b->attrs->axes.axes;
    bool is_same = x.n == y.n;
    for (uint32_t i = 0; is_same && i < x.n; i++) is_same = x.at[i] == y.at[i];
    return is_same;
}

/* The first operand that is a view of that op; NULL when another is neither alike nor a splat. */
static const kiln_node *common_view(const kiln_rewrite *rewrite, const kiln_node *node, kiln_op op)
{
    const kiln_node *common = NULL;
    if (kiln_node_row(node)->class_ != KILN_ELEMENTWISE) return NULL;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *operand = target_operand(rewrite, node, i);
        if (is_splat(operand)) continue;
        if (operand->op != op) return NULL;
        if (common && !same_dims(shown_type(rewrite, common), shown_type(rewrite, operand))) {
            return NULL;
        }
        if (common && op == KILN_OP_broadcast && !same_axes(common, operand)) return NULL;
        if (!common) common = operand;
    }
    return common;
}

/* The elementwise node over what its operands are views of, and over splats of those dims. */
static kiln_value add_over_views(kiln_rewrite *rewrite, const kiln_node *node,
                                 const kiln_type *shown)
{
    kiln_graph *target = rewrite->target;
    kiln_value inputs[3];
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *operand = target_operand(rewrite, node, i);
        inputs[i] = operand->op == KILN_OP_constant
                        ? kiln_add_literal(target,
                                           kiln_graph_tensor(target, operand->type->dtype,
                                                             shown->rank, shown->dims),
                                           kiln_match_literal(operand))
                        : operand->inputs[0];
    }
    kiln_node_spec spec = {(kiln_op)node->op, NULL,        inputs,
                           node->n_inputs,    node->attrs, node->label};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) {
        spec.given = kiln_graph_tensor(target, node->type->dtype, shown->rank, shown->dims);
    }
    return kiln_graph_add(target, &spec);
}

/* op(broadcast(x), broadcast(y), splat) => broadcast(op(x, y, splat)) */
static kiln_value rule_lift_broadcast(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *common = common_view(rewrite, node, KILN_OP_broadcast);
    if (!common) return none;
    const kiln_type *shown = shown_type(rewrite, common);
    if (shown->n_elements == node->type->n_elements) return none;
    return kiln_add_broadcast(rewrite->target, add_over_views(rewrite, node, shown),
                              node->type->rank, node->type->dims, common->attrs->axes.axes.at);
}

/* op(reshape(x), reshape(y), splat) => reshape(op(x, y, splat)) */
static kiln_value rule_lift_reshape(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *common = common_view(rewrite, node, KILN_OP_reshape);
    if (!common) return none;
    kiln_value value = add_over_views(rewrite, node, shown_type(rewrite, common));
    return kiln_add_reshape(rewrite->target, value, node->type->rank, node->type->dims);
}

/* Whether a computed value lies under views that move each element to one place. */
static bool is_moved_result(const kiln_rewrite *rewrite, const kiln_node *view)
{
    for (; kiln_node_row(view)->class_ == KILN_VIEW;
         view = kiln_graph_node(rewrite->target, view->inputs[0])) {
        bool is_move = view->op == KILN_OP_reshape || view->op == KILN_OP_transpose ||
                       view->op == KILN_OP_reverse;
        if (!is_move) return false;
    }
    kiln_class class_ = kiln_node_row(view)->class_;
    return class_ == KILN_ELEMENTWISE || class_ == KILN_CONTRACT || class_ == KILN_WINDOW ||
           class_ == KILN_REDUCE;
}

/* The position of the one operand that is no splat, or KILN_MAX_RANK. */
static uint32_t only_operand(const kiln_rewrite *rewrite, const kiln_node *node)
{
    uint32_t only = KILN_MAX_RANK;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (is_splat(target_operand(rewrite, node, i))) continue;
        if (only != KILN_MAX_RANK) return KILN_MAX_RANK;
        only = i;
    }
    return only;
}

/* op(view(x), splat) => view(op(x, splat)) for a computed x that has no other reader */
static kiln_value rule_lower_op(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_ELEMENTWISE) return none;
    uint32_t only = only_operand(rewrite, node);
    if (only == KILN_MAX_RANK || rewrite->n_users[node->inputs[only].id] != 1) return none;
    const kiln_node *view = target_operand(rewrite, node, only);
    if (view->op != KILN_OP_transpose && view->op != KILN_OP_reverse) return none;
    if (!is_moved_result(rewrite, view)) return none;
    kiln_value value = add_over_views(rewrite, node, shown_type(rewrite, view));
    kiln_node_spec spec = {(kiln_op)view->op, NULL, &value, 1, view->attrs, node->label};
    return kiln_graph_add(rewrite->target, &spec);
}

const kiln_rule kiln_rules_lift[] = {
    {"lift-broadcast", "op(broadcast(x), broadcast(y)) => broadcast(op(x, y))", KILN_GRADE_EXACT,
     KILN_OP_none, rule_lift_broadcast},
    {"lift-reshape", "op(reshape(x), reshape(y)) => reshape(op(x, y))", KILN_GRADE_EXACT,
     KILN_OP_none, rule_lift_reshape},
    {"lower-op", "op(transpose(x), splat) => transpose(op(x, splat)) for a computed x; so reverse",
     KILN_GRADE_EXACT, KILN_OP_none, rule_lower_op},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
