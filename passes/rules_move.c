/* simplify, moves, reductions and windows: those that do nothing vanish, padding goes into windows
 * and convolutions, indices known now become slices. */
#include <math.h>
#include <string.h>

#include "graph/element.h"
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static kiln_value add_slice(kiln_rewrite *rewrite, kiln_value a, const int64_t *starts,
                            const int64_t *sizes)
{
    uint32_t rank = kiln_graph_type(rewrite->target, a)->rank;
    int64_t limits[KILN_MAX_RANK], ones[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        limits[i] = starts[i] + sizes[i];
        ones[i] = 1;
    }
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{rank, starts}, {rank, limits}, {rank, ones}}};
    return kiln_graph_add(rewrite->target,
                          &(kiln_node_spec){KILN_OP_slice, NULL, &a, 1, &attrs, NULL});
}

static bool is_all(kiln_ints ints, int64_t value)
{
    for (uint32_t i = 0; i < ints.n; i++) {
        if (ints.at[i] != value) return false;
    }
    return true;
}

static bool is_at_least(kiln_ints ints, int64_t value)
{
    for (uint32_t i = 0; i < ints.n; i++) {
        if (ints.at[i] < value) return false;
    }
    return true;
}

/* pad of nothing => x; pad(pad(x, v), v) without interior => pad(x, v) */
static kiln_value rule_pad(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_ints low = node->attrs->pad.low, high = node->attrs->pad.high;
    kiln_ints interior = node->attrs->pad.interior;
    uint32_t rank = node->type->rank;
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_pad);
    if (is_all(low, 0) && is_all(high, 0) && is_all(interior, 0))
        return kiln_mapped(rewrite, node->inputs[0]);
    if (!inner || inner->inputs[1].id != node->inputs[1].id) return none;
    if (!is_all(interior, 0) || !is_at_least(low, 0) || !is_at_least(high, 0)) return none;
    int64_t lows[KILN_MAX_RANK], highs[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        lows[i] = low.at[i] + inner->attrs->pad.low.at[i];
        highs[i] = high.at[i] + inner->attrs->pad.high.at[i];
        /* A crop inside cannot be undone by padding outside. */
        if (inner->attrs->pad.low.at[i] < 0 || inner->attrs->pad.high.at[i] < 0) return none;
    }
    kiln_attrs attrs = {KILN_FAMILY_pad,
                        .pad = {{rank, lows}, {rank, highs}, inner->attrs->pad.interior}};
    kiln_value inputs[] = {kiln_mapped(rewrite, inner->inputs[0]),
                           kiln_mapped(rewrite, node->inputs[1])};
    return kiln_rewrite_with(rewrite, node, inputs, &attrs);
}

/* concat of one => x; concat(concat(…), …) on one axis => concat(…); operands of no elements go */
static kiln_value rule_concat(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_vec(kiln_value) parts = {0};
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    bool is_changed = node->n_inputs == 1;
    int64_t axis = node->attrs->axis.axis;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *part = kiln_operand_node(rewrite, node, i);
        bool is_concat = part->op == KILN_OP_concat && part->attrs->axis.axis == axis &&
                         rewrite->n_users[part->id] == 1;
        is_changed |= is_concat || part->type->dims[axis] == 0;
        if (part->type->dims[axis] == 0) continue;
        if (!is_concat) kiln_vec_push(&parts, arena, kiln_mapped(rewrite, node->inputs[i]));
        for (uint32_t j = 0; is_concat && j < part->n_inputs; j++) {
            kiln_vec_push(&parts, arena, kiln_mapped(rewrite, part->inputs[j]));
        }
    }
    if (!is_changed || parts.n == 0) return none;
    if (parts.n == 1) return parts.at[0];
    kiln_node_spec spec = {KILN_OP_concat, NULL, parts.at, parts.n, node->attrs, NULL};
    return kiln_graph_add(rewrite->target, &spec);
}

/* Whether `next` reads what follows `part` of the same value along an axis, alike beside it. */
static bool adjoins(const kiln_node *part, const kiln_node *next, int64_t axis)
{
    const kiln_attrs *a = part->attrs, *b = next->attrs;
    if (next->op != KILN_OP_slice || next->inputs[0].id != part->inputs[0].id) return false;
    for (uint32_t i = 0; i < part->type->rank; i++) {
        int64_t start = a->slice.starts.at[i], limit = a->slice.limits.at[i];
        if (i == axis) start = limit;
        if (b->slice.starts.at[i] != start || b->slice.strides.at[i] != 1) return false;
        if (i != axis && b->slice.limits.at[i] != limit) return false;
    }
    return true;
}

/* concat(slice(x), slice(x), …) that adjoin => slice(x): what takes complex values apart and what
 * joins them meet so */
static kiln_value rule_concat_slices(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *first = kiln_match(rewrite, node, 0, KILN_OP_slice), *part = first;
    if (!first || !is_all(first->attrs->slice.strides, 1)) return none;
    for (uint32_t i = 1; i < node->n_inputs; i++) {
        const kiln_node *next = kiln_operand_node(rewrite, node, i);
        if (!adjoins(part, next, node->attrs->axis.axis)) return none;
        part = next;
    }
    kiln_value x = kiln_mapped(rewrite, first->inputs[0]);
    return add_slice(rewrite, x, first->attrs->slice.starts.at, node->type->dims);
}

/* The slice of operand `i`, which begins at `begin` along the axis of the concat. */
static kiln_value slice_part(kiln_rewrite *rewrite, const kiln_node *node, uint32_t i,
                             int64_t begin)
{
    const kiln_node *concat = kiln_operand_node(rewrite, node, 0);
    int64_t axis = concat->attrs->axis.axis, starts[KILN_MAX_RANK], limits[KILN_MAX_RANK];
    uint32_t rank = node->type->rank;
    memcpy(starts, node->attrs->slice.starts.at, rank * sizeof *starts);
    memcpy(limits, node->attrs->slice.limits.at, rank * sizeof *limits);
    starts[axis] -= begin;
    limits[axis] -= begin;
    kiln_attrs attrs = {KILN_FAMILY_slice,
                        .slice = {{rank, starts}, {rank, limits}, node->attrs->slice.strides}};
    kiln_value part = kiln_mapped(rewrite, concat->inputs[i]);
    return kiln_rewrite_with(rewrite, node, &part, &attrs);
}

/* slice(concat(…)) within one operand => slice(operand) */
static kiln_value rule_slice_concat(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *concat = kiln_match(rewrite, node, 0, KILN_OP_concat);
    if (!concat) return none;
    int64_t axis = concat->attrs->axis.axis, begin = 0;
    int64_t from = node->attrs->slice.starts.at[axis], to = node->attrs->slice.limits.at[axis];
    for (uint32_t i = 0; i < concat->n_inputs; i++) {
        int64_t end = begin + kiln_operand_node(rewrite, concat, i)->type->dims[axis];
        if (from >= begin && to <= end) return slice_part(rewrite, node, i, begin);
        begin = end;
    }
    return none;
}

/* Reads element `i` of an integer constant that is in memory. */
static bool constant_int(const kiln_node *node, int64_t i, int64_t *out)
{
    const kiln_literal *literal = kiln_match_literal(node);
    if (!literal || literal->kind == KILN_LITERAL_FILE || !kiln_node_is_integer(node)) return false;
    size_t bytes = kiln_dtype_bytes(node->type->dtype);
    const char *at = literal->data;
    if (literal->kind != KILN_LITERAL_SPLAT) at += (size_t)i * bytes;
    double value = kiln_element_to_double(node->type->dtype, at);
    /* What a double cannot hold is clamped to the axis anyway, on the same side. */
    *out = value >= 0x1p62 ? INT64_MAX : value <= -0x1p62 ? INT64_MIN : (int64_t)value;
    return true;
}

static int64_t clamp_start(int64_t start, int64_t dim, int64_t size)
{
    return start < 0 ? 0 : start > dim - size ? dim - size : start;
}

/* take(x, scalar constant) => reshape(slice(x)) */
static kiln_value rule_take_constant(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *indices = kiln_operand_node(rewrite, node, 1);
    const kiln_type *type = kiln_operand_node(rewrite, node, 0)->type;
    int64_t axis = node->attrs->axis.axis, index, starts[KILN_MAX_RANK] = {0}, sizes[KILN_MAX_RANK];
    if (indices->type->n_elements != 1 || !constant_int(indices, 0, &index)) return none;
    for (uint32_t i = 0; i < type->rank; i++) sizes[i] = type->dims[i];
    sizes[axis] = 1;
    starts[axis] = clamp_start(index, type->dims[axis], 1);
    kiln_value part = add_slice(rewrite, kiln_mapped(rewrite, node->inputs[0]), starts, sizes);
    return kiln_add_reshape(rewrite->target, part, node->type->rank, node->type->dims);
}

/* dynamic_slice(x, constant) => slice(x); of full size => x */
static kiln_value rule_dynamic_slice(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_type *type = kiln_operand_node(rewrite, node, 0)->type;
    const kiln_node *indices = kiln_operand_node(rewrite, node, 1);
    kiln_ints sizes = node->attrs->sizes.sizes;
    int64_t starts[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        starts[i] = 0;
        if (sizes.at[i] == type->dims[i]) continue;
        if (!constant_int(indices, i, &starts[i])) return none;
        starts[i] = clamp_start(starts[i], type->dims[i], sizes.at[i]);
    }
    return add_slice(rewrite, kiln_mapped(rewrite, node->inputs[0]), starts, sizes.at);
}

/* dynamic_update(x, block as large as x) => block */
static kiln_value rule_dynamic_update(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_type *block = kiln_operand_node(rewrite, node, 1)->type;
    if (memcmp(block->dims, node->type->dims, block->rank * sizeof *block->dims) != 0) return none;
    return kiln_mapped(rewrite, node->inputs[1]);
}

/* Whether reducing one element gives that element: a float sum starts at +0 and would lose a -0. */
static bool is_transparent(const kiln_node *node, kiln_op sum)
{
    return node->op != sum || !kiln_node_is_float(node);
}

/* reduce over axes of 1 (or none) => reshape(x) */
static kiln_value rule_reduce_unit(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_type *type = kiln_operand_node(rewrite, node, 0)->type;
    if (kiln_node_row(node)->attrs != KILN_FAMILY_axes ||
        kiln_node_row(node)->class_ != KILN_REDUCE) {
        return none;
    }
    kiln_ints axes = node->attrs->axes.axes;
    for (uint32_t i = 0; i < axes.n; i++) {
        if (type->dims[axes.at[i]] != 1) return none;
    }
    if (!is_transparent(node, KILN_OP_reduce_sum)) return none;
    return kiln_add_reshape(rewrite->target, kiln_mapped(rewrite, node->inputs[0]),
                            node->type->rank, node->type->dims);
}

/* max(max(x)) => max(x) over both sets of axes; so for min, any, all and for integer sums, products
 */
static kiln_value rule_reduce_reduce(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->attrs != KILN_FAMILY_axes ||
        kiln_node_row(node)->class_ != KILN_REDUCE) {
        return none;
    }
    const kiln_node *inner = kiln_match(rewrite, node, 0, (kiln_op)node->op);
    bool rounds = node->op == KILN_OP_reduce_sum || node->op == KILN_OP_reduce_prod;
    if (!inner || (rounds && kiln_node_is_float(node)) || rewrite->n_users[inner->id] > 1)
        return none;
    kiln_ints first = inner->attrs->axes.axes, second = node->attrs->axes.axes;
    int64_t axes[KILN_MAX_RANK];
    uint32_t n = 0, i1 = 0, i2 = 0, rank = kiln_operand_node(rewrite, inner, 0)->type->rank;
    for (uint32_t axis = 0, kept = 0; axis < rank; axis++) {
        bool is_first = i1 < first.n && first.at[i1] == axis;
        bool is_second = !is_first && i2 < second.n && second.at[i2] == kept;
        if (is_first || is_second) axes[n++] = axis;
        i1 += is_first;
        i2 += is_second;
        kept += !is_first;
    }
    return kiln_add_reduce(rewrite->target, (kiln_op)node->op,
                           kiln_mapped(rewrite, inner->inputs[0]), n, axes);
}

/* window of one element without padding => x */
static kiln_value rule_window_unit(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_WINDOW || !is_transparent(node, KILN_OP_window_sum))
        return none;
    if (!is_all(node->attrs->window.sizes, 1) || !is_all(node->attrs->window.strides, 1) ||
        !is_all(node->attrs->window.low, 0) || !is_all(node->attrs->window.high, 0)) {
        return none;
    }
    return kiln_mapped(rewrite, node->inputs[0]);
}

/* The padding that a window ignores: its identity. */
static bool is_identity(const kiln_node *window, double value)
{
    bool is_float = kiln_node_is_float(window);
    switch (window->op) {
    case KILN_OP_window_sum:
        return value == 0;
    case KILN_OP_window_prod:
        return value == 1;
    case KILN_OP_window_max:
        return is_float && value == -(double)INFINITY;
    case KILN_OP_window_min:
        return is_float && value == (double)INFINITY;
    default:
        return false;
    }
}

/* window(pad(x, identity)) => window(x) with that padding */
static kiln_value rule_window_pad(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_WINDOW) return none;
    const kiln_node *pad = kiln_match(rewrite, node, 0, KILN_OP_pad);
    double value;
    if (!pad || !kiln_match_splat(kiln_operand_node(rewrite, pad, 1), &value) ||
        !is_identity(node, value)) {
        return none;
    }
    if (!is_all(pad->attrs->pad.interior, 0) || !is_at_least(pad->attrs->pad.low, 0) ||
        !is_at_least(pad->attrs->pad.high, 0) || !is_at_least(node->attrs->window.low, 0) ||
        !is_at_least(node->attrs->window.high, 0)) {
        return none;
    }
    uint32_t rank = node->type->rank;
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        low[i] = node->attrs->window.low.at[i] + pad->attrs->pad.low.at[i];
        high[i] = node->attrs->window.high.at[i] + pad->attrs->pad.high.at[i];
    }
    kiln_attrs attrs = *node->attrs;
    attrs.window.low = (kiln_ints){rank, low};
    attrs.window.high = (kiln_ints){rank, high};
    kiln_value a = kiln_mapped(rewrite, pad->inputs[0]);
    return kiln_rewrite_with(rewrite, node, &a, &attrs);
}

const kiln_rule kiln_rules_move[] = {
    {"pad", "pad(pad(x, v), v) => pad(x, v) or x", KILN_GRADE_EXACT, KILN_OP_pad, rule_pad},
    {"concat", "concat(concat(…), …) => concat(…) or its only part", KILN_GRADE_EXACT,
     KILN_OP_concat, rule_concat},
    {"concat-slices", "concat(slice(x), slice(x)) that adjoin => slice(x)", KILN_GRADE_EXACT,
     KILN_OP_concat, rule_concat_slices},
    {"slice-concat", "slice(concat(…)) within one part => slice(part)", KILN_GRADE_EXACT,
     KILN_OP_slice, rule_slice_concat},
    {"take-constant", "take(x, constant) => reshape(slice(x))", KILN_GRADE_EXACT, KILN_OP_take,
     rule_take_constant},
    {"dynamic-slice", "dynamic_slice(x, constant) => slice(x)", KILN_GRADE_EXACT,
     KILN_OP_dynamic_slice, rule_dynamic_slice},
    {"dynamic-update", "dynamic_update(x, all of it) => block", KILN_GRADE_EXACT,
     KILN_OP_dynamic_update, rule_dynamic_update},
    {"reduce-unit", "reduce over dims of 1 => reshape(x)", KILN_GRADE_EXACT, KILN_OP_none,
     rule_reduce_unit},
    {"reduce-reduce", "max(max(x)) => max(x)", KILN_GRADE_EXACT, KILN_OP_none, rule_reduce_reduce},
    {"window-unit", "window of one element => x", KILN_GRADE_EXACT, KILN_OP_none, rule_window_unit},
    {"window-pad", "window(pad(x, identity)) => window(x)", KILN_GRADE_EXACT, KILN_OP_none,
     rule_window_pad},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
