/* inline, regions over scalars: the region's operations over whole tensors. What combines the
 * elements of one axis does so pairwise, in order, so that n elements take log n rounds. Regions
 * that are one of the known combinations become the op of that combination.
 *
 *     reduce %x, %0 {axes = [0], regions = [graph f(%a: f32[], %b: f32[]) {
 *       %0 = add %a, %b  return %0 }]}                     =>   reduce_sum %x {axes = [0]} */
#include <math.h>
#include <string.h>

#include "graph/attrs.h"
#include "graph/element.h"
#include "passes/inline.h"

static kiln_value node1(kiln_graph *graph, kiln_op op, kiln_value a, const kiln_attrs *attrs)
{
    return kiln_graph_add(graph, &(kiln_node_spec){op, NULL, &a, 1, attrs, NULL});
}

static kiln_value splat_of(kiln_graph *graph, kiln_value scalar, const kiln_type *like)
{
    return kiln_add_broadcast(graph, scalar, like->rank, like->dims, NULL);
}

/* A scalar constant, or node of the region, with the dims of `like`. */
static kiln_value widen_node(kiln_graph *graph, const kiln_node *node, const kiln_value *map,
                             const kiln_type *like)
{
    const kiln_type *given =
        kiln_graph_tensor(graph, node->type->dtype, like->rank, like->dims);
    kiln_value inputs[8];
    if (node->op == KILN_OP_constant) {
        kiln_literal literal = node->attrs->literal.value;
        literal.kind = KILN_LITERAL_SPLAT; /* of one element */
        return kiln_add_literal(graph, given, &literal);
    }
    if (kiln_node_row(node)->class_ == KILN_VIEW) return map[node->inputs[0].id];
    for (uint32_t i = 0; i < node->n_inputs && i < 8; i++) inputs[i] = map[node->inputs[i].id];
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, node->n_inputs, node->attrs, NULL};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) spec.given = given;
    return kiln_graph_add(graph, &spec);
}

void kiln_region_widen(kiln_graph *graph, const kiln_graph *region, const kiln_type *like,
                       const kiln_value *args, kiln_value *out)
{
    kiln_value *map = kiln_new_array(&graph->scope->arena, kiln_value, region->nodes.n);
    for (uint32_t i = 0; i < region->inputs.n; i++) map[region->inputs.at[i].id] = args[i];
    for (uint32_t id = 1; id < region->nodes.n; id++) {
        const kiln_node *node = region->nodes.at[id];
        if (node->op != KILN_OP_input) map[id] = widen_node(graph, node, map, like);
    }
    for (uint32_t i = 0; i < region->outputs.n; i++) out[i] = map[region->outputs.at[i].value.id];
}

/* The op of a region of one op over its two parameters; KILN_OP_input for "the second one". */
static kiln_op known_op(const kiln_graph *region)
{
    if (region->inputs.n != 2 || region->outputs.n != 1) return KILN_OP_none;
    const kiln_node *node = kiln_graph_node(region, region->outputs.at[0].value);
    uint32_t a = region->inputs.at[0].id, b = region->inputs.at[1].id;
    if (node->id == b) return KILN_OP_input;
    if (node->n_inputs != 2) return KILN_OP_none;
    bool is_pair = (node->inputs[0].id == a && node->inputs[1].id == b) ||
                   (node->inputs[0].id == b && node->inputs[1].id == a);
    return is_pair ? (kiln_op)node->op : KILN_OP_none;
}

/* What a region combines, as ops of this table's columns. */
typedef struct combination {
    kiln_op op, reduce, window, scatter;
    double identity, integer_identity; /* of floats, of integers */
} combination;

static const combination combinations[] = {
    {KILN_OP_add, KILN_OP_reduce_sum, KILN_OP_window_sum, KILN_OP_scatter_add, 0, 0},
    {KILN_OP_mul, KILN_OP_reduce_prod, KILN_OP_window_prod, KILN_OP_scatter_mul, 1, 1},
    {KILN_OP_max, KILN_OP_reduce_max, KILN_OP_window_max, KILN_OP_scatter_max, -INFINITY, NAN},
    {KILN_OP_min, KILN_OP_reduce_min, KILN_OP_window_min, KILN_OP_scatter_min, INFINITY, NAN},
    {KILN_OP_or, KILN_OP_reduce_any, KILN_OP_none, KILN_OP_none, 0, 0},
    {KILN_OP_and, KILN_OP_reduce_all, KILN_OP_none, KILN_OP_none, 1, 1},
    {KILN_OP_input, KILN_OP_none, KILN_OP_none, KILN_OP_scatter, NAN, NAN},
};

static const combination *find_combination(const kiln_graph *region, kiln_dtype dtype)
{
    kiln_op op = known_op(region);
    for (size_t i = 0; op && i < sizeof combinations / sizeof *combinations; i++) {
        const combination *found = &combinations[i];
        bool is_logic = found->op == KILN_OP_or || found->op == KILN_OP_and;
        if (found->op == op && is_logic == (dtype == KILN_bool && is_logic)) return found;
    }
    return NULL;
}

static bool has_dtype(kiln_op op, kiln_dtype dtype)
{
    return op && kiln_dtype_in(dtype, kiln_op_rows[op].types);
}

kiln_op kiln_region_scatter(const kiln_graph *region, kiln_dtype dtype)
{
    const combination *kind = find_combination(region, dtype);
    bool is_known = kind && !(dtype == KILN_bool && kind->op != KILN_OP_input);
    return is_known && has_dtype(kind->scatter, dtype) ? kind->scatter : KILN_OP_none;
}

/* Whether the scalar, as it stands in the target, changes nothing. */
static bool is_identity(const kiln_graph *graph, kiln_value scalar, const combination *kind)
{
    const kiln_node *node = kiln_graph_node(graph, scalar);
    double value;
    if (!kiln_match_splat(node, &value)) return false;
    double identity = kiln_node_is_float(node) ? kind->identity : kind->integer_identity;
    return value == identity && !(value == 0 && signbit(value));
}

static kiln_value with_initial(kiln_graph *graph, const combination *kind, kiln_value value,
                               kiln_value initial)
{
    if (is_identity(graph, initial, kind)) return value;
    kiln_value wide = splat_of(graph, initial, kiln_graph_type(graph, value));
    return kiln_add_binary(graph, kind->op, wide, value);
}

/* Elements from, from + step, … below `limit` along one axis. */
static kiln_value cut(kiln_graph *graph, kiln_value a, uint32_t axis, const int64_t *range)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = type->dims[i];
        strides[i] = 1;
    }
    starts[axis] = range[0];
    limits[axis] = range[1];
    strides[axis] = range[2];
    uint32_t n = type->rank;
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    return node1(graph, KILN_OP_slice, a, &attrs);
}

static kiln_value join(kiln_graph *graph, kiln_value a, kiln_value b, uint32_t axis)
{
    kiln_value parts[] = {a, b};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_concat, NULL, parts, 2, &attrs, NULL});
}

/* n values at once. */
typedef struct fold_state {
    kiln_graph *graph;
    const kiln_graph *region;
    uint32_t n;
    kiln_value *args; /* 2 n: what comes first, what follows */
} fold_state;

static fold_state fold_open(kiln_rewrite *rewrite, const kiln_graph *region, uint32_t n)
{
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    return (fold_state){rewrite->target, region, n, kiln_new_array(arena, kiln_value, 2 * n)};
}

static void fold_pair(fold_state *fold, kiln_value *out)
{
    const kiln_type *like = kiln_graph_type(fold->graph, fold->args[0]);
    kiln_region_widen(fold->graph, fold->region, like, fold->args, out);
}

/* Combines along axis 0 until one element is left: neighbours, then neighbours of these. */
static void fold_axis(fold_state *fold, kiln_value *values)
{
    kiln_graph *graph = fold->graph;
    int64_t length;
    while ((length = kiln_graph_type(graph, values[0])->dims[0]) > 1) {
        int64_t even[] = {0, length / 2 * 2, 2}, odd[] = {1, length / 2 * 2, 2};
        int64_t last[] = {length - 1, length, 1};
        kiln_value rest[32];
        for (uint32_t i = 0; i < fold->n; i++) {
            fold->args[i] = cut(graph, values[i], 0, even);
            fold->args[fold->n + i] = cut(graph, values[i], 0, odd);
            if (length % 2) rest[i] = cut(graph, values[i], 0, last);
        }
        fold_pair(fold, values);
        for (uint32_t i = 0; length % 2 && i < fold->n; i++)
            values[i] = join(graph, values[i], rest[i], 0);
    }
}

/* values = region(initial, values) */
static void fold_initial(fold_state *fold, kiln_value *values, const kiln_value *initial)
{
    const kiln_type *like = kiln_graph_type(fold->graph, values[0]);
    for (uint32_t i = 0; i < fold->n; i++) {
        fold->args[i] = splat_of(fold->graph, initial[i], like);
        fold->args[fold->n + i] = values[i];
    }
    fold_pair(fold, values);
}

/* The reduced axes first, as one. */
static kiln_value gather_axes(kiln_graph *graph, kiln_value value, kiln_ints axes)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    int64_t permutation[KILN_MAX_RANK], dims[KILN_MAX_RANK + 1] = {1};
    uint32_t n = 0, rank = 1, next = 0;
    for (uint32_t i = 0; i < axes.n; i++) permutation[n++] = axes.at[i];
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        bool is_reduced = next < axes.n && axes.at[next] == axis;
        next += is_reduced;
        if (is_reduced) dims[0] *= type->dims[axis];
        if (!is_reduced) dims[rank++] = type->dims[axis];
        if (!is_reduced) permutation[n++] = axis;
    }
    return kiln_add_reshape(graph, kiln_add_transpose(graph, value, permutation), rank, dims);
}

static kiln_value *put_reduce(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                              kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    const kiln_graph *region = node->attrs->reduce.regions.at[0];
    kiln_ints axes = node->attrs->reduce.axes;
    uint32_t n = node->n_inputs / 2;
    const kiln_type *item = node->type->items[0];
    const combination *kind = n == 1 ? find_combination(region, item->dtype) : NULL;
    if (kind && has_dtype(kind->reduce, item->dtype)) {
        kiln_value value = kiln_add_reduce(graph, kind->reduce, inputs[0], axes.n, axes.at);
        out[0] = with_initial(graph, kind, value, inputs[1]);
        return out;
    }
    if (n > 32 || item->rank + 1 > KILN_MAX_RANK) return NULL;
    fold_state fold = fold_open(rewrite, region, n);
    for (uint32_t i = 0; i < n; i++) out[i] = gather_axes(graph, inputs[i], axes);
    bool is_empty = kiln_graph_type(graph, out[0])->dims[0] == 0;
    for (uint32_t i = 0; is_empty && i < n; i++) out[i] = splat_of(graph, inputs[n + i], item);
    if (is_empty) return out;
    fold_axis(&fold, out);
    for (uint32_t i = 0; i < n; i++)
        out[i] = kiln_add_reshape(graph, out[i], item->rank, item->dims);
    fold_initial(&fold, out, inputs + n);
    return out;
}

static kiln_value pad_with(kiln_graph *graph, kiln_value value, kiln_value scalar,
                           const kiln_ints *low_high_interior)
{
    kiln_attrs attrs = {KILN_FAMILY_pad};
    attrs.pad.low = low_high_interior[0];
    attrs.pad.high = low_high_interior[1];
    attrs.pad.interior = low_high_interior[2];
    kiln_value operands[] = {value, scalar};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_pad, NULL, operands, 2, &attrs, NULL});
}

/* Windows of `size` elements, `dilation` apart, along one axis: pairs of windows of 1, 2, 4, …
 * elements; those that make up `size`, one after the other. */
static void fold_windows(fold_state *fold, kiln_value *values, uint32_t axis, const int64_t *window)
{
    kiln_graph *graph = fold->graph;
    int64_t size = window[0], dilation = window[1], start = 0, power = 1;
    int64_t length = kiln_graph_type(graph, values[0])->dims[axis];
    int64_t n_out = length - (size - 1) * dilation;
    kiln_value done[32] = {{0}};
    for (; size; size >>= 1, power *= 2) {
        int64_t now = kiln_graph_type(graph, values[0])->dims[axis];
        int64_t range[] = {start, start + n_out, 1}, left[] = {0, now - power * dilation, 1};
        int64_t right[] = {power * dilation, now, 1};
        for (uint32_t i = 0; size & 1 && i < fold->n; i++) {
            fold->args[i] = done[i];
            fold->args[fold->n + i] = cut(graph, values[i], axis, range);
        }
        if (size & 1 && done[0].id)
            fold_pair(fold, done);
        else if (size & 1)
            memcpy(done, fold->args + fold->n, fold->n * sizeof *done);
        if (size & 1) start += power * dilation;
        for (uint32_t i = 0; size > 1 && i < fold->n; i++) {
            fold->args[i] = cut(graph, values[i], axis, left);
            fold->args[fold->n + i] = cut(graph, values[i], axis, right);
        }
        if (size > 1) fold_pair(fold, values);
    }
    memcpy(values, done, fold->n * sizeof *done);
}

static bool put_known_window(kiln_rewrite *rewrite, const kiln_node *node,
                             const kiln_value *inputs, kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    const kiln_graph *region = node->attrs->reduce_window.regions.at[0];
    const combination *kind = find_combination(region, node->type->items[0]->dtype);
    bool is_padded = false;
    for (uint32_t i = 0; i < node->type->items[0]->rank; i++) {
        is_padded |= node->attrs->reduce_window.low.at[i] > 0;
        is_padded |= node->attrs->reduce_window.high.at[i] > 0;
    }
    if (!kind || !has_dtype(kind->window, node->type->items[0]->dtype)) return false;
    if (is_padded && !is_identity(graph, inputs[1], kind)) return false;
    kiln_attrs attrs = {KILN_FAMILY_window};
    attrs.window.sizes = node->attrs->reduce_window.sizes;
    attrs.window.strides = node->attrs->reduce_window.strides;
    attrs.window.low = node->attrs->reduce_window.low;
    attrs.window.high = node->attrs->reduce_window.high;
    attrs.window.dilations = node->attrs->reduce_window.dilations;
    out[0] = with_initial(graph, kind, node1(graph, kind->window, inputs[0], &attrs), inputs[1]);
    return true;
}

static kiln_value *put_window(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                              kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    const kiln_attrs *attrs = node->attrs;
    uint32_t n = node->n_inputs / 2, rank = node->type->items[0]->rank;
    const kiln_type *item = node->type->items[0];
    if (n == 1 && put_known_window(rewrite, node, inputs, out)) return out;
    if (n > 32) return NULL;
    fold_state fold = fold_open(rewrite, attrs->reduce_window.regions.at[0], n);
    int64_t zeros[KILN_MAX_RANK] = {0};
    kiln_ints pads[] = {attrs->reduce_window.low, attrs->reduce_window.high, {rank, zeros}};
    if (item->n_elements == 0) {
        for (uint32_t i = 0; i < n; i++)
            out[i] = splat_of(graph, inputs[n + i], node->type->items[i]);
        return out;
    }
    for (uint32_t i = 0; i < n; i++) out[i] = pad_with(graph, inputs[i], inputs[n + i], pads);
    for (uint32_t axis = rank; axis-- > 0;) { /* the last first: in row-major order */
        int64_t window[] = {attrs->reduce_window.sizes.at[axis],
                            attrs->reduce_window.dilations.at[axis]};
        fold_windows(&fold, out, axis, window);
        int64_t stride = attrs->reduce_window.strides.at[axis];
        int64_t range[] = {0, (item->dims[axis] - 1) * stride + 1, stride};
        for (uint32_t i = 0; i < n; i++) out[i] = cut(graph, out[i], axis, range);
    }
    fold_initial(&fold, out, inputs + n);
    return out;
}

static kiln_value *put_map(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                           kiln_value *out)
{
    const kiln_graph *region = node->attrs->regions.regions.at[0];
    kiln_region_widen(rewrite->target, region, node->type->items[0], inputs, out);
    return out;
}

/* Whether the comparator is a < b, or a > b, of one operand: its number, else KILN_MAX_REGIONS. */
static uint32_t find_key(const kiln_graph *region, bool *out_is_descending)
{
    const kiln_node *node = kiln_graph_node(region, region->outputs.at[0].value);
    bool is_less = node->op == KILN_OP_lt;
    if (!is_less && node->op != KILN_OP_gt) return KILN_MAX_REGIONS;
    for (uint32_t i = 0; i + 1 < region->inputs.n; i += 2) {
        uint32_t a = region->inputs.at[i].id, b = region->inputs.at[i + 1].id;
        bool is_straight = node->inputs[0].id == a && node->inputs[1].id == b;
        bool is_swapped = node->inputs[0].id == b && node->inputs[1].id == a;
        *out_is_descending = is_less == is_swapped;
        if (is_straight || is_swapped) return i / 2;
    }
    return KILN_MAX_REGIONS;
}

/* An axis moved to the end, or back from there. */
static kiln_value move_axis(kiln_graph *graph, kiln_value value, uint32_t axis, bool is_back)
{
    uint32_t rank = kiln_graph_type(graph, value)->rank, last = rank - 1;
    int64_t permutation[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        uint32_t there = i < axis ? i : i == axis ? last : i - 1; /* of axis i */
        permutation[is_back ? i : there] = is_back ? there : i;
    }
    return kiln_add_transpose(graph, value, permutation);
}

static kiln_value place_along(kiln_graph *graph, const kiln_type *pairs, uint32_t axis)
{
    const kiln_type *type = kiln_graph_tensor(graph, KILN_i64, pairs->rank, pairs->dims);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &attrs, NULL});
}

/* By element: how many come before it along the axis. Every pair is compared, in one kernel. */
static kiln_value rank_along(kiln_rewrite *rewrite, const kiln_node *node, const kiln_value *inputs)
{
    kiln_graph *graph = rewrite->target;
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    const kiln_graph *region = node->attrs->sort_by.regions.at[0];
    uint32_t axis = (uint32_t)node->attrs->sort_by.axis, rank = node->type->items[0]->rank;
    int64_t dims[KILN_MAX_RANK + 1], own[KILN_MAX_RANK], other[KILN_MAX_RANK], last = rank;
    kiln_value *args = kiln_new_array(arena, kiln_value, 2 * node->n_inputs);
    kiln_value *back = kiln_new_array(arena, kiln_value, 2 * node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value moved = move_axis(graph, inputs[i], axis, false);
        const kiln_type *type = kiln_graph_type(graph, moved);
        for (uint32_t k = 0; k < rank; k++) {
            dims[k] = type->dims[k];
            own[k] = k;
            other[k] = k + 1 == rank ? rank : k;
        }
        dims[rank] = dims[rank - 1];
        args[2 * i + 1] = kiln_add_broadcast(graph, moved, rank + 1, dims, own);
        args[2 * i] = kiln_add_broadcast(graph, moved, rank + 1, dims, other);
        back[2 * i] = args[2 * i + 1];
        back[2 * i + 1] = args[2 * i];
    }
    const kiln_type *pairs = kiln_graph_tensor(graph, KILN_bool, rank + 1, dims);
    kiln_value before, after;
    kiln_region_widen(graph, region, pairs, args, &before);
    kiln_region_widen(graph, region, pairs, back, &after);
    kiln_value row = place_along(graph, pairs, rank - 1), column = place_along(graph, pairs, rank);
    kiln_value is_earlier = kiln_add_binary(graph, KILN_OP_lt, column, row);
    kiln_value is_free = kiln_add_unary(graph, KILN_OP_not, after);
    kiln_value is_tie = kiln_add_binary(graph, KILN_OP_and, is_earlier, is_free);
    kiln_value comes = kiln_add_binary(graph, KILN_OP_or, before, is_tie);
    kiln_value counts = kiln_add_convert(graph, comes, KILN_i64);
    counts = kiln_add_reduce(graph, KILN_OP_reduce_sum, counts, 1, &last);
    return move_axis(graph, counts, axis, true);
}

static kiln_value *put_sort(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                            kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    const kiln_graph *region = node->attrs->sort_by.regions.at[0];
    int64_t axis = node->attrs->sort_by.axis;
    bool is_descending = false;
    uint32_t key = find_key(region, &is_descending);
    bool is_known = key != KILN_MAX_REGIONS;
    if (is_known && !has_dtype(KILN_OP_argsort, kiln_graph_type(graph, inputs[key])->dtype))
        key = KILN_MAX_REGIONS;
    if (key == KILN_MAX_REGIONS && node->type->items[0]->rank + 1 > KILN_MAX_RANK) return NULL;
    kiln_attrs attrs = {KILN_FAMILY_sort, .sort = {axis, is_descending}};
    if (key == KILN_MAX_REGIONS) attrs.sort.descending = false;
    kiln_value keys =
        key == KILN_MAX_REGIONS ? rank_along(rewrite, node, inputs) : inputs[key];
    kiln_value order = node1(graph, KILN_OP_argsort, keys, &attrs);
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {axis}};
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value pair[] = {inputs[i], order};
        kiln_node_spec spec = {KILN_OP_take_along, NULL, pair, 2, &along, NULL};
        out[i] = kiln_graph_add(graph, &spec);
    }
    return out;
}

kiln_value *kiln_inline_scalar(kiln_rewrite *rewrite, const kiln_node *node)
{
    static kiln_inline_fn *const rows[KILN_N_OPS] = {
        [KILN_OP_map] = put_map,
        [KILN_OP_reduce] = put_reduce,
        [KILN_OP_reduce_window] = put_window,
        [KILN_OP_sort_by] = put_sort,
        [KILN_OP_scatter_with] = kiln_inline_scatter_with,
        [KILN_OP_select_and_scatter] = kiln_inline_select,
        [KILN_OP_while] = kiln_inline_while,
    };
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    kiln_value *inputs = kiln_new_array(arena, kiln_value, node->n_inputs + 1);
    kiln_value *out = kiln_new_array(arena, kiln_value, node->type->n_items + 64);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = kiln_mapped(rewrite, node->inputs[i]);
    return rows[node->op] ? rows[node->op](rewrite, node, inputs, out) : NULL;
}
