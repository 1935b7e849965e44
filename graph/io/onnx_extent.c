/* Sizes that depend on the data: which values have one, and how it passes through the nodes of the
 * graph. Extents are set where an operator makes them (NonZero, Compress, …) and follow from node
 * to node by class, so an operator need not know of them: where its nodes keep the axis apart from
 * others the result has the extent too, else it is refused. */
#include "graph/io/onnx_extent.h"

#include "base/checked.h"

#define BLOCKED UINT32_MAX /* axis of a value that mixes what is there with what is not */
#define MAX_EXPANSIONS 16

/* The extents of a graph's values by id; axis BLOCKED or count.id 0: none. */
typedef struct extent_map {
    const kiln_graph *graph;
    kiln_onnx_extent *at;
} extent_map;

static const kiln_onnx_extent none, blocked = {BLOCKED, {0}};

static bool is_some(kiln_onnx_extent extent)
{
    return extent.count.id != 0 || extent.axis == BLOCKED;
}

/* `extent` along another axis. */
static kiln_onnx_extent moved(kiln_onnx_extent extent, uint32_t axis)
{
    return (kiln_onnx_extent){axis, extent.count};
}

static kiln_onnx_extent merged(kiln_onnx_extent a, kiln_onnx_extent b)
{
    if (!is_some(a)) return b;
    if (!is_some(b)) return a;
    return a.axis == b.axis && a.count.id == b.count.id ? a : blocked;
}

static uint32_t list_find(kiln_ints list, uint32_t value)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (list.at[i] == value) return i;
    return UINT32_MAX;
}

/* Where the axis stands after axes of `list` are gone. */
static kiln_onnx_extent without(kiln_onnx_extent extent, kiln_ints list)
{
    uint32_t axis = extent.axis;
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == extent.axis) return blocked;
        if (list.at[i] < extent.axis) axis--;
    }
    return moved(extent, axis);
}

/* The axis of `to` with as many elements before it and the same dim. */
static kiln_onnx_extent reshaped(kiln_onnx_extent extent, const kiln_type *from,
                                 const kiln_type *to)
{
    int64_t before = 1, passed = 1;
    for (uint32_t i = 0; i < extent.axis; i++) before *= from->dims[i];
    for (uint32_t i = 0; i < to->rank && passed <= before; i++) {
        if (passed == before && to->dims[i] == from->dims[extent.axis]) return moved(extent, i);
        passed *= to->dims[i];
    }
    return blocked;
}

static kiln_onnx_extent dotted(const kiln_node *node, uint32_t side, kiln_onnx_extent extent,
                               const kiln_type *const *types)
{
    kiln_ints batch = side ? node->attrs->dot.rhs_batch : node->attrs->dot.lhs_batch;
    kiln_ints contract = side ? node->attrs->dot.rhs_contract : node->attrs->dot.lhs_contract;
    uint32_t at = list_find(batch, extent.axis), skipped = 0, first = batch.n;
    if (list_find(contract, extent.axis) != UINT32_MAX) return blocked;
    if (at != UINT32_MAX) return moved(extent, at);
    for (uint32_t i = 0; i < extent.axis; i++) {
        if (list_find(batch, i) != UINT32_MAX || list_find(contract, i) != UINT32_MAX) skipped++;
    }
    if (side) first = types[0]->rank - contract.n;
    return moved(extent, first + extent.axis - skipped);
}

static kiln_onnx_extent viewed(const kiln_node *node, kiln_onnx_extent extent,
                               const kiln_type *from)
{
    const kiln_attrs *attrs = node->attrs;
    uint32_t axis = extent.axis;
    switch (node->op) {
    case KILN_OP_broadcast:
        return moved(extent, (uint32_t)attrs->axes.axes.at[axis]);
    case KILN_OP_reshape:
        return reshaped(extent, from, node->type);
    case KILN_OP_transpose:
        return moved(extent, list_find(attrs->permutation.permutation, axis));
    case KILN_OP_slice:
        return node->type->dims[axis] == from->dims[axis] ? extent : blocked;
    case KILN_OP_reverse:
        return list_find(attrs->axes.axes, axis) == UINT32_MAX ? extent : blocked;
    default:
        return blocked;
    }
}

static kiln_onnx_extent taken(const kiln_node *node, uint32_t side, kiln_onnx_extent extent,
                              const kiln_type *const *types)
{
    uint32_t axis = (uint32_t)node->attrs->axis.axis;
    if (side) return moved(extent, axis + extent.axis);
    if (extent.axis == axis) return blocked;
    return moved(extent, extent.axis < axis ? extent.axis : extent.axis + types[1]->rank - 1);
}

/* What operand `side` of a node that is no composite gives to the result. */
static kiln_onnx_extent passed(const kiln_node *node, uint32_t side, kiln_onnx_extent extent,
                               const kiln_type *const *types)
{
    kiln_class class_ = kiln_node_row(node)->class_;
    if (extent.axis == BLOCKED) return blocked;
    if (class_ == KILN_ELEMENTWISE) return extent;
    if (class_ == KILN_VIEW) return viewed(node, extent, types[0]);
    if (class_ == KILN_REDUCE && node->attrs->family == KILN_FAMILY_axes)
        return without(extent, node->attrs->axes.axes);
    if (class_ == KILN_REDUCE && node->attrs->family == KILN_FAMILY_arg)
        return without(extent, (kiln_ints){1, &node->attrs->arg.axis});
    if (node->op == KILN_OP_take) return taken(node, side, extent, types);
    if (node->op == KILN_OP_concat)
        return extent.axis == (uint32_t)node->attrs->axis.axis ? blocked : extent;
    if (node->op == KILN_OP_dot_general) return dotted(node, side, extent, types);
    if (node->op == KILN_OP_convolution && side == 0 &&
        extent.axis == (uint32_t)node->attrs->conv.input_axes.at[0])
        return moved(extent, (uint32_t)node->attrs->conv.output_axes.at[0]);
    if (node->op == KILN_OP_argsort)
        return extent.axis == (uint32_t)node->attrs->sort.axis ? blocked : extent;
    return blocked;
}

static kiln_onnx_extent node_extent(kiln_scope *scope, const extent_map *map, const kiln_node *node,
                                    uint32_t depth);

/* A composite is as its expansion is. */
static kiln_onnx_extent expanded(kiln_scope *scope, const extent_map *map, const kiln_node *node,
                                 uint32_t depth)
{
    if (depth == MAX_EXPANSIONS) return blocked;
    kiln_graph *graph = kiln_graph_open(scope, map->graph->context, "extent");
    kiln_value *inputs = kiln_new_array(&scope->arena, kiln_value, node->n_inputs + 1);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_type *type = kiln_graph_type(map->graph, node->inputs[i]);
        inputs[i] = kiln_add_input(graph, kiln_graph_retype(graph, type),
                                   kiln_arena_format(&graph->arena, "p%u", i), false);
    }
    kiln_value result = kiln_expand_rules[node->op](graph, inputs, node->n_inputs, node->attrs);
    extent_map inner = {graph, kiln_new_array(&scope->arena, kiln_onnx_extent, graph->nodes.n)};
    for (uint32_t i = 0; i < node->n_inputs; i++)
        inner.at[inputs[i].id] = map->at[node->inputs[i].id];
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *each = graph->nodes.at[id];
        if (each->op != KILN_OP_input) inner.at[id] = node_extent(scope, &inner, each, depth + 1);
    }
    return inner.at[result.id];
}

static kiln_onnx_extent node_extent(kiln_scope *scope, const extent_map *map, const kiln_node *node,
                                    uint32_t depth)
{
    const kiln_type **types = NULL;
    kiln_onnx_extent result = none;
    uint32_t n_some = 0;
    for (uint32_t i = 0; i < node->n_inputs; i++) n_some += is_some(map->at[node->inputs[i].id]);
    if (n_some == 0) return none;
    if (kiln_node_row(node)->class_ == KILN_COMPOSITE) return expanded(scope, map, node, depth);
    types = kiln_new_array(&scope->arena, const kiln_type *, node->n_inputs + 1);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        types[i] = kiln_graph_type(map->graph, node->inputs[i]);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_onnx_extent extent = map->at[node->inputs[i].id];
        if (is_some(extent)) result = merged(result, passed(node, i, extent, types));
    }
    bool is_partial = node->op == KILN_OP_concat && n_some < node->n_inputs;
    return is_partial ? blocked : result;
}

/* The level of the graph that the value is in. */
static kiln_onnx_level *level_of(const kiln_onnx_call *call, kiln_value value)
{
    kiln_onnx_level *level = call->onnx->level;
    while (level->outer && level->graph->id != value.graph) level = level->outer;
    return level;
}

/* Extents of all nodes made so far; nothing to do while no value has one. */
static void extents_update(kiln_onnx_call *call, kiln_onnx_level *level)
{
    if (!level->has_extents) return;
    for (uint32_t id = level->extents.n; id < level->graph->nodes.n; id++) {
        const kiln_node *node = level->graph->nodes.at[id];
        extent_map map = {level->graph, level->extents.at};
        kiln_onnx_extent extent = node ? node_extent(call->scope, &map, node, 0) : none;
        kiln_vec_push(&level->extents, &call->onnx->scope->arena, extent);
    }
}

const kiln_onnx_extent *kiln_onnx_extent_find(kiln_onnx_call *call, kiln_value value)
{
    if (value.graph == KILN_ONNX_SEQUENCE) return NULL;
    kiln_onnx_level *level = level_of(call, value);
    extents_update(call, level);
    if (!value.id || !level->has_extents || !is_some(level->extents.at[value.id])) return NULL;
    return &level->extents.at[value.id];
}

void kiln_onnx_extent_set(kiln_onnx_call *call, kiln_value value, uint32_t axis, kiln_value count)
{
    kiln_onnx_level *level = level_of(call, value);
    level->has_extents = true;
    extents_update(call, level);
    level->extents.at[value.id] = (kiln_onnx_extent){axis, count};
}

kiln_value kiln_onnx_extent_mask(kiln_onnx_call *call, kiln_value value)
{
    kiln_onnx_extent extent = *kiln_onnx_extent_find(call, value);
    const kiln_type *type = kiln_graph_type(call->graph, value);
    if (extent.axis == BLOCKED)
        kiln_onnx_refuse(call, "a size that depends on the data; expected a fixed one");
    kiln_value at = kiln_onnx_iota(call, KILN_i64, type->rank, type->dims, extent.axis);
    kiln_value count = kiln_add_broadcast(call->graph, extent.count, type->rank, type->dims, NULL);
    return kiln_add_binary(call->graph, KILN_OP_lt, at, count);
}

kiln_value kiln_onnx_extent_fill(kiln_onnx_call *call, kiln_value value, double filler)
{
    if (!kiln_onnx_extent_find(call, value)) return value;
    kiln_value mask = kiln_onnx_extent_mask(call, value);
    kiln_value filled =
        kiln_onnx_select(call, mask, value, kiln_add_splat_like(call->graph, value, filler));
    call->is_extent_read = true;
    kiln_onnx_extent_set(call, filled, 0, (kiln_value){0});
    return filled;
}

void kiln_onnx_extents_check(kiln_onnx_call *call)
{
    bool has_some = false;
    for (uint32_t i = 0; i < call->n_inputs && !has_some; i++)
        has_some = call->inputs[i].id && kiln_onnx_extent_find(call, call->inputs[i]);
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        const kiln_onnx_extent *extent = kiln_onnx_extent_find(call, call->outputs[i]);
        bool is_lost = has_some && !extent && !call->is_extent_read && call->outputs[i].id;
        if (is_lost || (extent && extent->axis == BLOCKED))
            kiln_onnx_refuse(call, "an operand has a size that depends on the data; expected a "
                                   "fixed one for this operator");
    }
}

kiln_value kiln_onnx_extent_pack(kiln_onnx_call *call, kiln_value value)
{
    kiln_graph *graph = call->graph;
    kiln_onnx_extent extent = *kiln_onnx_extent_find(call, value);
    const kiln_type *type = kiln_graph_type(graph, value);
    int64_t before = 1, after = 1, total = type->n_elements;
    for (uint32_t i = 0; i < extent.axis; i++) before *= type->dims[i];
    for (uint32_t i = extent.axis + 1; i < type->rank; i++) after *= type->dims[i];
    if (before == 1 || total == 0) return value;
    if (kiln_dtype_bits(type->dtype) < 8)
        kiln_onnx_refuse(call, "an output of %s whose size depends on the data",
                         kiln_dtype_name(type->dtype));
    kiln_value count = kiln_onnx_with(call, KILN_OP_max, extent.count, 1);
    kiln_value block = kiln_add_broadcast(
        graph, kiln_onnx_with(call, KILN_OP_mul, count, (double)after), 1, &total, NULL);
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 1, &total, 0);
    kiln_value row = kiln_add_binary(graph, KILN_OP_div, at, block);
    kiln_value rest =
        kiln_add_binary(graph, KILN_OP_sub, at, kiln_add_binary(graph, KILN_OP_mul, row, block));
    row = kiln_onnx_with(call, KILN_OP_mul, row, (double)(type->dims[extent.axis] * after));
    kiln_value flat = kiln_onnx_take(call, kiln_add_reshape(graph, value, 1, &total),
                                     kiln_add_binary(graph, KILN_OP_add, row, rest), 0);
    return kiln_add_reshape(graph, flat, type->rank, type->dims);
}

kiln_value kiln_onnx_put(kiln_onnx_call *call, kiln_op op, kiln_value base, kiln_value places,
                         kiln_value updates)
{
    int64_t zero = 0;
    kiln_value inputs[3] = {base, places, updates};
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &zero};
    attrs.scatter.index_axis = 1;
    return kiln_graph_add(
        call->graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = 3, .attrs = &attrs});
}

kiln_value kiln_onnx_places(kiln_onnx_call *call, kiln_value mask, kiln_value *out_count)
{
    kiln_graph *graph = call->graph;
    int64_t zero = 0, n = kiln_graph_type(graph, mask)->n_elements;
    kiln_value ones = kiln_add_convert(graph, mask, KILN_i64);
    kiln_attrs sum = {KILN_FAMILY_cumulative, .cumulative = {0, true, false}};
    kiln_value place = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_cumulative_sum, .inputs = &ones, .n_inputs = 1, .attrs = &sum});
    place = kiln_onnx_select(call, mask, place, kiln_add_splat_like(graph, place, (double)n));
    *out_count = kiln_add_reduce(graph, KILN_OP_reduce_sum, ones, 1, &zero);
    return kiln_onnx_put(call, KILN_OP_scatter, kiln_add_splat_like(graph, place, 0), place,
                         kiln_onnx_iota(call, KILN_i64, 1, &n, 0));
}
