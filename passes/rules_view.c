/* simplify, views: identities vanish, chains become one view, views of splats are splats. */
#include <string.h>

#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static bool same_dims(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0);
}

/* op of no elements => constant of no elements */
static kiln_value rule_empty(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->type->n_elements != 0) return none;
    return kiln_rewrite_splat(rewrite, node, 0);
}

/* view(splat) => splat */
static kiln_value rule_view_splat(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_VIEW) return none;
    const kiln_literal *literal = kiln_match_literal(kiln_operand_node(rewrite, node, 0));
    if (!literal || literal->kind != KILN_LITERAL_SPLAT) return none;
    return kiln_add_literal(rewrite->target, kiln_rewrite_type(rewrite, node->type), literal);
}

/* transpose(transpose(x, p), q) => transpose(x, p[q]) */
static kiln_value rule_transpose_transpose(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_transpose);
    if (!inner) return none;
    int64_t permutation[KILN_MAX_RANK];
    for (uint32_t i = 0; i < node->type->rank; i++) {
        int64_t axis = node->attrs->permutation.permutation.at[i];
        permutation[i] = inner->attrs->permutation.permutation.at[axis];
    }
    return kiln_add_transpose(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]), permutation);
}

/* transpose that moves only dims of 1 => reshape */
static kiln_value rule_transpose_unit(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_type *type = kiln_operand_node(rewrite, node, 0)->type;
    int64_t last = -1;
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t axis = node->attrs->permutation.permutation.at[i];
        if (type->dims[axis] == 1) continue;
        if (axis < last) return none;
        last = axis;
    }
    return kiln_add_reshape(rewrite->target, kiln_mapped(rewrite, node->inputs[0]),
                            node->type->rank, node->type->dims);
}

/* reshape to the same dims => x; reshape(reshape(x)) => reshape(x) */
static kiln_value rule_reshape(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (same_dims(inner->type, node->type)) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_reshape) return none;
    return kiln_add_reshape(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]),
                            node->type->rank, node->type->dims);
}

/* broadcast to the same dims => x; broadcast(broadcast(x)) => broadcast(x) */
static kiln_value rule_broadcast(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (same_dims(inner->type, node->type)) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_broadcast) return none;
    int64_t axes[KILN_MAX_RANK];
    kiln_ints first = inner->attrs->axes.axes, second = node->attrs->axes.axes;
    for (uint32_t i = 0; i < first.n; i++) axes[i] = second.at[first.at[i]];
    return kiln_add_broadcast(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]),
                              node->type->rank, node->type->dims, axes);
}

/* The dims of the operand that are not 1, and their axes in the result. */
static uint32_t without_units(const kiln_type *type, const int64_t *all, int64_t *dims,
                              int64_t *axes)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (type->dims[i] == 1) continue;
        dims[rank] = type->dims[i];
        axes[rank++] = all[i];
    }
    return rank;
}

/* broadcast(constant with dims of 1) => broadcast(constant without them) */
static kiln_value rule_broadcast_unit(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *constant = kiln_match(rewrite, node, 0, KILN_OP_constant);
    if (!constant) return none;
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK];
    uint32_t rank = without_units(constant->type, node->attrs->axes.axes.at, dims, axes);
    if (rank == constant->type->rank) return none;
    const kiln_type *type = kiln_graph_tensor(rewrite->target, node->type->dtype, rank, dims);
    kiln_value small = kiln_add_literal(rewrite->target, type, kiln_match_literal(constant));
    return kiln_add_broadcast(rewrite->target, small, node->type->rank, node->type->dims, axes);
}

/* broadcast(x with dims of 1) => broadcast(reshape(x)) without them */
static kiln_value broadcast_without_units(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_type *type = kiln_operand_node(rewrite, node, 0)->type;
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK];
    uint32_t rank = without_units(type, node->attrs->axes.axes.at, dims, axes);
    if (rank == type->rank) return none;
    kiln_value small =
        kiln_add_reshape(rewrite->target, kiln_mapped(rewrite, node->inputs[0]), rank, dims);
    return kiln_add_broadcast(rewrite->target, small, node->type->rank, node->type->dims, axes);
}

/* The axes of dims greater than 1 of x, given those of its reshape: they must be the same dims. */
static bool match_dims(const kiln_type *from, const kiln_type *to, const int64_t *axes,
                       int64_t *out)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < from->rank; i++) {
        out[i] = -1;
        if (from->dims[i] == 1) continue;
        while (at < to->rank && to->dims[at] == 1) at++;
        if (at == to->rank || to->dims[at] != from->dims[i]) return false;
        out[i] = axes[at++];
    }
    while (at < to->rank && to->dims[at] == 1) at++;
    return at == to->rank;
}

/* Gives each dim of 1 of x an axis between its neighbours', one of length 1 if there is; false
 * where there is no room. */
static bool place_units(const kiln_type *from, const kiln_type *result, int64_t *axes)
{
    int64_t last = -1;
    for (uint32_t i = 0; i < from->rank; i++) {
        if (axes[i] >= 0) {
            last = axes[i];
            continue;
        }
        uint32_t next = i, n_units = 0;
        for (; next < from->rank && axes[next] < 0; next++) n_units++;
        int64_t limit = (next < from->rank ? axes[next] : (int64_t)result->rank) - (int64_t)n_units;
        if (limit <= last) return false;
        axes[i] = last + 1;
        for (int64_t axis = limit; axis > last; axis--) {
            if (result->dims[axis] == 1) axes[i] = axis;
        }
        last = axes[i];
    }
    return true;
}

/* broadcast(reshape(x)) that only adds or drops dims of 1 => broadcast(x) */
static kiln_value rule_broadcast_reshape(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *reshape = kiln_match(rewrite, node, 0, KILN_OP_reshape);
    if (!reshape) return none;
    /* Two reshapes become one first: taking this one off would bring back the dims that
     * broadcast_without_units took off below it, for ever. */
    if (kiln_match(rewrite, reshape, 0, KILN_OP_reshape)) return none;
    const kiln_type *from = kiln_operand_node(rewrite, reshape, 0)->type;
    int64_t axes[KILN_MAX_RANK];
    if (!match_dims(from, reshape->type, node->attrs->axes.axes.at, axes)) return none;
    if (!place_units(from, node->type, axes)) return broadcast_without_units(rewrite, node);
    return kiln_add_broadcast(rewrite->target, kiln_mapped(rewrite, reshape->inputs[0]),
                              node->type->rank, node->type->dims, axes);
}

/* slice of everything => x; slice(slice(x)) => slice(x) */
static kiln_value rule_slice(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (same_dims(inner->type, node->type)) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_slice) return none;
    int64_t starts[KILN_MAX_RANK], limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    uint32_t rank = node->type->rank;
    for (uint32_t i = 0; i < rank; i++) {
        int64_t step = inner->attrs->slice.strides.at[i], n = node->type->dims[i];
        starts[i] = inner->attrs->slice.starts.at[i] + node->attrs->slice.starts.at[i] * step;
        strides[i] = n > 1 ? node->attrs->slice.strides.at[i] * step : 1;
        limits[i] = starts[i] + (n - 1) * strides[i] + 1;
    }
    kiln_attrs attrs = {KILN_FAMILY_slice,
                        .slice = {{rank, starts}, {rank, limits}, {rank, strides}}};
    kiln_value a = kiln_mapped(rewrite, inner->inputs[0]);
    return kiln_graph_add(rewrite->target,
                          &(kiln_node_spec){KILN_OP_slice, NULL, &a, 1, &attrs, NULL});
}

/* reverse of axes of 1 => x; reverse(reverse(x)) => reverse of the axes that one of them names */
static kiln_value rule_reverse(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_reverse);
    kiln_ints axes = node->attrs->axes.axes;
    int64_t kept[KILN_MAX_RANK];
    uint32_t set = 0, n = 0;
    for (uint32_t i = 0; i < axes.n; i++) set ^= 1u << axes.at[i];
    for (uint32_t i = 0; inner && i < inner->attrs->axes.axes.n; i++) {
        set ^= 1u << inner->attrs->axes.axes.at[i];
    }
    for (uint32_t axis = 0; axis < node->type->rank; axis++) {
        if ((set >> axis & 1) && node->type->dims[axis] > 1) kept[n++] = axis;
    }
    if (!inner && n == axes.n) return none;
    kiln_value a = kiln_mapped(rewrite, inner ? inner->inputs[0] : node->inputs[0]);
    if (n == 0) return a;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{n, kept}}};
    return kiln_graph_add(rewrite->target,
                          &(kiln_node_spec){KILN_OP_reverse, NULL, &a, 1, &attrs, NULL});
}

/* slice(broadcast(x)) that cuts only repeated axes => broadcast(x) */
static kiln_value rule_slice_broadcast(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_broadcast);
    if (!inner) return none;
    kiln_ints axes = inner->attrs->axes.axes;
    for (uint32_t i = 0; i < axes.n; i++) {
        if (inner->type->dims[axes.at[i]] != node->type->dims[axes.at[i]]) return none;
    }
    return kiln_add_broadcast(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]),
                              node->type->rank, node->type->dims, axes.at);
}

const kiln_rule kiln_rules_view[] = {
    {"empty", "op of no elements => constant", KILN_GRADE_EXACT, KILN_OP_none, rule_empty},
    {"view-splat", "view(splat) => splat", KILN_GRADE_EXACT, KILN_OP_none, rule_view_splat},
    {"transpose-transpose", "transpose(transpose(x)) => transpose(x)", KILN_GRADE_EXACT,
     KILN_OP_transpose, rule_transpose_transpose},
    {"transpose-unit", "transpose that moves only dims of 1 => reshape", KILN_GRADE_EXACT,
     KILN_OP_transpose, rule_transpose_unit},
    {"reshape", "reshape(reshape(x)) => reshape(x) or x", KILN_GRADE_EXACT, KILN_OP_reshape,
     rule_reshape},
    {"broadcast", "broadcast(broadcast(x)) => broadcast(x) or x", KILN_GRADE_EXACT,
     KILN_OP_broadcast, rule_broadcast},
    {"broadcast-unit", "broadcast(constant with dims of 1) => broadcast(constant without)",
     KILN_GRADE_EXACT, KILN_OP_broadcast, rule_broadcast_unit},
    {"broadcast-reshape", "broadcast(reshape(x)) of dims of 1 => broadcast(x)", KILN_GRADE_EXACT,
     KILN_OP_broadcast, rule_broadcast_reshape},
    {"slice", "slice(slice(x)) => slice(x) or x", KILN_GRADE_EXACT, KILN_OP_slice, rule_slice},
    {"slice-broadcast", "slice(broadcast(x)) of repeated axes => broadcast(x)", KILN_GRADE_EXACT,
     KILN_OP_slice, rule_slice_broadcast},
    {"reverse", "reverse(reverse(x)) => reverse(x) or x", KILN_GRADE_EXACT, KILN_OP_reverse,
     rule_reverse},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
