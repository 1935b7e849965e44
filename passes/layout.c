/* layout: convolutions read and write channels last (NHWC) with kernels HWIO, and what lies between
 * them follows, so that a network has one transpose where it begins and at most one where it ends.
 *
 * One sweep. A value of the target may hold its axes in another order than the source says; a
 * convolution asks for its order, elementwise nodes, reductions, windows, pads, concats, slices and
 * reversals keep the order of their operand, and everything else asks for the source's order. A
 * transpose is written only where two orders meet; those of constants are folded later.
 *
 *     %1 = convolution %x, %w {… input_axes = [0, 1, 2, 3] …}        %2 = transpose %x {[0, 2, 3,
 * 1]}
 *                                                              =>    %4 = convolution %2, %3 {… [0,
 * 3, 1, 2] …} %2 = relu %1                                                   %5 = relu %4 … */
#include <string.h>

#include "passes/rewrite.h"

/* Axis i of what the target holds is axis at[i] of the source's value. */
typedef struct axis_order {
    int64_t at[KILN_MAX_RANK];
} axis_order;

typedef struct layout_state {
    kiln_pipeline *pipeline;
    const kiln_graph *source;
    kiln_graph *target;
    kiln_value *map;           /* by source id */
    const axis_order **orders; /* by source id; NULL: the source's own */
} layout_state;

static axis_order natural_order(uint32_t rank)
{
    axis_order order = {{0}};
    for (uint32_t i = 0; i < rank; i++) order.at[i] = i;
    return order;
}

static bool same_order(const axis_order *a, const axis_order *b, uint32_t rank)
{
    return rank == 0 || memcmp(a->at, b->at, rank * sizeof *a->at) == 0;
}

static axis_order order_of(const layout_state *state, kiln_value value)
{
    const axis_order *order = state->orders[value.id];
    return order ? *order : natural_order(kiln_graph_type(state->source, value)->rank);
}

static void set_order(layout_state *state, const kiln_node *node, kiln_value value,
                      axis_order order)
{
    axis_order natural = natural_order(node->type->rank);
    state->map[node->id] = value;
    if (same_order(&order, &natural, node->type->rank)) return;
    state->orders[node->id] = kiln_arena_copy(&state->pipeline->scope->arena, &order, sizeof order);
}

/* Where axis `axis` of the source stands in that order. */
static uint32_t position(const axis_order *order, int64_t axis)
{
    uint32_t i = 0;
    while (order->at[i] != axis) i++;
    return i;
}

/* A broadcast in any order is a broadcast of the operand with its axes sorted by where they go. */
static kiln_value broadcast_in(layout_state *state, const kiln_node *node, const axis_order *wanted)
{
    const kiln_type *type = node->type;
    kiln_ints axes = node->attrs->axes.axes;
    axis_order from = order_of(state, node->inputs[0]);
    int64_t dims[KILN_MAX_RANK], sorted[KILN_MAX_RANK], permutation[KILN_MAX_RANK];
    uint32_t n = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = type->dims[wanted->at[i]];
        for (uint32_t j = 0; j < axes.n; j++) {
            if (axes.at[j] != wanted->at[i]) continue;
            permutation[n] = position(&from, j);
            sorted[n++] = i;
        }
    }
    kiln_value operand =
        kiln_add_transpose(state->target, state->map[node->inputs[0].id], permutation);
    return kiln_add_broadcast(state->target, operand, type->rank, dims, sorted);
}

/* The value in the wanted order. */
static kiln_value value_in(layout_state *state, kiln_value value, const axis_order *wanted)
{
    const kiln_node *node = kiln_graph_node(state->source, value);
    uint32_t rank = node->type->rank;
    axis_order order = order_of(state, value);
    if (same_order(&order, wanted, rank)) return state->map[value.id];
    if (node->op == KILN_OP_broadcast) return broadcast_in(state, node, wanted);
    int64_t dims[KILN_MAX_RANK], permutation[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        dims[i] = node->type->dims[wanted->at[i]];
        permutation[i] = position(&order, wanted->at[i]);
    }
    const kiln_literal *literal = kiln_match_literal(node);
    if (literal && literal->kind == KILN_LITERAL_SPLAT) {
        return kiln_add_literal(state->target,
                                kiln_graph_tensor(state->target, node->type->dtype, rank, dims),
                                literal);
    }
    return kiln_add_transpose(state->target, state->map[value.id], permutation);
}

static kiln_value value_natural(layout_state *state, kiln_value value)
{
    axis_order natural = natural_order(kiln_graph_type(state->source, value)->rank);
    return value_in(state, value, &natural);
}

/* A list with one entry per axis, in that order. */
static kiln_ints list_in(layout_state *state, kiln_ints list, const axis_order *order)
{
    int64_t *sorted = kiln_new_array(&state->pipeline->scope->arena, int64_t, list.n);
    for (uint32_t i = 0; i < list.n; i++) sorted[i] = list.at[order->at[i]];
    return (kiln_ints){list.n, sorted};
}

/* A set of axes, sorted, in that order of a tensor of that rank. */
static kiln_ints axes_in(layout_state *state, kiln_ints axes, const axis_order *order,
                         uint32_t rank)
{
    int64_t *sorted = kiln_new_array(&state->pipeline->scope->arena, int64_t, axes.n);
    uint32_t set = 0, n = 0;
    for (uint32_t i = 0; i < axes.n; i++) set |= 1u << axes.at[i];
    for (uint32_t i = 0; i < rank; i++) {
        if (set >> order->at[i] & 1) sorted[n++] = i;
    }
    return (kiln_ints){n, sorted};
}

/* The order that is left when the axes in `dropped` (a set, of the source) are gone. */
static axis_order order_without(const axis_order *order, uint32_t rank, uint32_t dropped)
{
    axis_order left = {{0}};
    uint32_t n = 0;
    for (uint32_t i = 0; i < rank; i++) {
        int64_t axis = order->at[i];
        if (dropped >> axis & 1) continue;
        left.at[n++] = axis - __builtin_popcount(dropped & ((1u << axis) - 1));
    }
    return left;
}

/* Convolutions */

static axis_order conv_order(kiln_ints axes, bool is_kernel)
{
    axis_order order = {{0}};
    uint32_t n = 0;
    if (!is_kernel) order.at[n++] = axes.at[0];
    for (uint32_t i = 2; i < axes.n; i++) order.at[n++] = axes.at[i];
    order.at[n++] = axes.at[1];
    if (is_kernel) order.at[n++] = axes.at[0];
    return order;
}

static void place_convolution(layout_state *state, const kiln_node *node)
{
    uint32_t rank = node->type->rank;
    int64_t image[KILN_MAX_RANK], kernel[KILN_MAX_RANK];
    image[0] = 0;
    image[1] = kernel[0] = rank - 1;
    kernel[1] = rank - 2;
    for (uint32_t i = 2; i < rank; i++) {
        image[i] = i - 1;
        kernel[i] = i - 2;
    }
    kiln_attrs attrs = *node->attrs;
    attrs.conv.input_axes = attrs.conv.output_axes = (kiln_ints){rank, image};
    attrs.conv.kernel_axes = (kiln_ints){rank, kernel};
    axis_order in = conv_order(node->attrs->conv.input_axes, false);
    axis_order weights = conv_order(node->attrs->conv.kernel_axes, true);
    kiln_value inputs[] = {value_in(state, node->inputs[0], &in),
                           value_in(state, node->inputs[1], &weights)};
    kiln_node_spec spec = {KILN_OP_convolution, NULL, inputs, 2, &attrs, node->label};
    set_order(state, node, kiln_graph_add(state->target, &spec),
              conv_order(node->attrs->conv.output_axes, false));
}

/* Nodes that keep the order of their operands */

/* The order of the largest operand that has the rank of the node and is not made up on the spot. */
static axis_order leading_order(const layout_state *state, const kiln_node *node, uint32_t n_inputs)
{
    int64_t most = -1;
    axis_order order = natural_order(node->type->rank);
    for (uint32_t i = 0; i < n_inputs; i++) {
        const kiln_node *operand = kiln_graph_node(state->source, node->inputs[i]);
        if (operand->op == KILN_OP_constant || operand->op == KILN_OP_broadcast) continue;
        int64_t weight = 2 * operand->type->bytes + (state->orders[operand->id] != NULL);
        if (weight <= most) continue;
        most = weight;
        order = order_of(state, node->inputs[i]);
    }
    return order;
}

/* The attributes of a node of the same rank as its operand, in that order; false where they have
 * axes. */
static kiln_attrs attrs_in(layout_state *state, const kiln_node *node, const axis_order *order)
{
    kiln_attrs attrs = *node->attrs;
    switch (attrs.family) {
    case KILN_FAMILY_window:
        attrs.window.sizes = list_in(state, attrs.window.sizes, order);
        attrs.window.strides = list_in(state, attrs.window.strides, order);
        attrs.window.low = list_in(state, attrs.window.low, order);
        attrs.window.high = list_in(state, attrs.window.high, order);
        attrs.window.dilations = list_in(state, attrs.window.dilations, order);
        break;
    case KILN_FAMILY_pad:
        attrs.pad.low = list_in(state, attrs.pad.low, order);
        attrs.pad.high = list_in(state, attrs.pad.high, order);
        attrs.pad.interior = list_in(state, attrs.pad.interior, order);
        break;
    case KILN_FAMILY_slice:
        attrs.slice.starts = list_in(state, attrs.slice.starts, order);
        attrs.slice.limits = list_in(state, attrs.slice.limits, order);
        attrs.slice.strides = list_in(state, attrs.slice.strides, order);
        break;
    case KILN_FAMILY_axes:
        attrs.axes.axes = axes_in(state, attrs.axes.axes, order,
                                  kiln_graph_type(state->source, node->inputs[0])->rank);
        break;
    case KILN_FAMILY_axis:
        attrs.axis.axis = position(order, attrs.axis.axis);
        break;
    case KILN_FAMILY_arg:
        attrs.arg.axis = position(order, attrs.arg.axis);
        break;
    default:
        break;
    }
    return attrs;
}

/* A node whose result has the axes of its operands. */
static void place_like(layout_state *state, const kiln_node *node, uint32_t n_ordered)
{
    axis_order order = leading_order(state, node, n_ordered);
    kiln_value *inputs = kiln_new_array(&state->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        inputs[i] = i < n_ordered ? value_in(state, node->inputs[i], &order)
                                  : value_natural(state, node->inputs[i]);
    }
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, node->n_inputs, NULL, node->label};
    kiln_attrs attrs;
    if (node->attrs) {
        attrs = attrs_in(state, node, &order);
        spec.attrs = &attrs;
    }
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < node->type->rank; i++) dims[i] = node->type->dims[order.at[i]];
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) {
        spec.given = kiln_graph_tensor(state->target, node->type->dtype, node->type->rank, dims);
    }
    set_order(state, node, kiln_graph_add(state->target, &spec), order);
}

static void place_reduce(layout_state *state, const kiln_node *node)
{
    axis_order order = order_of(state, node->inputs[0]);
    uint32_t rank = kiln_graph_type(state->source, node->inputs[0])->rank, dropped = 0;
    kiln_attrs attrs = attrs_in(state, node, &order);
    if (attrs.family == KILN_FAMILY_arg) dropped = 1u << node->attrs->arg.axis;
    for (uint32_t i = 0; attrs.family == KILN_FAMILY_axes && i < node->attrs->axes.axes.n; i++) {
        dropped |= 1u << node->attrs->axes.axes.at[i];
    }
    kiln_node_spec spec = {(kiln_op)node->op, NULL, &state->map[node->inputs[0].id], 1, &attrs,
                           node->label};
    set_order(state, node, kiln_graph_add(state->target, &spec),
              order_without(&order, rank, dropped));
}

/* A transpose of a value in an order of its own only changes what the axes are called. */
static void place_transpose(layout_state *state, const kiln_node *node)
{
    axis_order order = order_of(state, node->inputs[0]), called;
    for (uint32_t i = 0; i < node->type->rank; i++) {
        int64_t axis = 0;
        while (node->attrs->permutation.permutation.at[axis] != order.at[i]) axis++;
        called.at[i] = axis;
    }
    set_order(state, node, state->map[node->inputs[0].id], called);
}

static bool has_ordered_operand(const layout_state *state, const kiln_node *node)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (state->orders[node->inputs[i].id]) return true;
    }
    return false;
}

/* A node that knows nothing of orders: operands in the source's. */
static void place_plainly(layout_state *state, const kiln_node *node)
{
    if (!has_ordered_operand(state, node)) {
        state->map[node->id] = kiln_graph_copy(state->target, state->source, node, state->map);
        return;
    }
    kiln_value *inputs = kiln_new_array(&state->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = value_natural(state, node->inputs[i]);
    kiln_node_spec spec = {(kiln_op)node->op, NULL,        inputs,
                           node->n_inputs,    node->attrs, node->label};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN)
        spec.given = kiln_graph_retype(state->target, node->type);
    state->map[node->id] = kiln_graph_add(state->target, &spec);
}

/* Repeated axes stand after the axis before them, so that a reshape can join the two (as in
 * resizing by repetition). */
static void place_broadcast(layout_state *state, const kiln_node *node)
{
    const kiln_type *type = node->type;
    kiln_ints axes = node->attrs->axes.axes;
    axis_order held = order_of(state, node->inputs[0]), order = {{0}};
    int64_t dims[KILN_MAX_RANK], sorted[KILN_MAX_RANK];
    uint32_t n = 0, n_sorted = 0, kept = 0;
    for (uint32_t i = 0; i < axes.n; i++) order.at[n++] = axes.at[held.at[i]];
    for (uint32_t i = 0; i < axes.n; i++) kept |= 1u << axes.at[i];
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        if (kept >> axis & 1) continue;
        uint32_t at = axis ? position(&order, axis - 1) + 1 : 0;
        memmove(&order.at[at + 1], &order.at[at], (n++ - at) * sizeof *order.at);
        order.at[at] = axis;
    }
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = type->dims[order.at[i]];
        if (kept >> order.at[i] & 1) sorted[n_sorted++] = i;
    }
    kiln_value value = state->map[node->inputs[0].id];
    set_order(state, node, kiln_add_broadcast(state->target, value, type->rank, dims, sorted),
              order);
}

/* A reshape as runs of axes: axes of the operand and axes of the result with the same elements. */
typedef struct axis_runs {
    uint32_t run_of[KILN_MAX_RANK];                          /* by axis of the operand */
    uint32_t first[2 * KILN_MAX_RANK], n[2 * KILN_MAX_RANK]; /* axes of the result, by run */
    uint32_t n_runs, n_front; /* n_front: result axes before all runs */
} axis_runs;

static axis_runs find_runs(const kiln_type *from, const kiln_type *to)
{
    axis_runs runs = {{0}};
    uint32_t i = 0, j = 0;
    uint32_t *last = &runs.n_front; /* counts the axes of the latest run that has some */
    while (i < from->rank || j < to->rank) {
        if (j < to->rank && to->dims[j] == 1) {
            (*last)++;
            j++;
            continue;
        }
        uint32_t run = runs.n_runs++;
        int64_t have = from->dims[i], want = 1;
        runs.run_of[i++] = run;
        runs.first[run] = j;
        if (have == 1) continue; /* alone, with no axis of the result */
        last = &runs.n[run];
        while (have != want) {
            if (have > want) {
                want *= to->dims[j++];
                (*last)++;
            } else {
                have *= from->dims[i];
                runs.run_of[i++] = run;
            }
        }
    }
    return runs;
}

/* The order of the result when the operand is reshaped as it is held; false when a run is torn
 * apart. */
static bool reshape_order(const kiln_type *from, const kiln_type *to, const axis_order *held,
                          axis_order *out)
{
    axis_runs runs = find_runs(from, to);
    uint32_t n = 0, seen = 0;
    for (uint32_t k = 0; k < runs.n_front; k++) out->at[n++] = k;
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t axis = held->at[i];
        uint32_t run = runs.run_of[axis];
        bool goes_on = i > 0 && runs.run_of[held->at[i - 1]] == run;
        bool is_first = axis == 0 || runs.run_of[axis - 1] != run;
        if (goes_on ? held->at[i - 1] + 1 != axis : !is_first || (seen >> run & 1)) return false;
        seen |= 1u << run;
        for (uint32_t k = 0; !goes_on && k < runs.n[run]; k++) out->at[n++] = runs.first[run] + k;
    }
    return true;
}

static void place_reshape(layout_state *state, const kiln_node *node)
{
    const kiln_type *from = kiln_graph_type(state->source, node->inputs[0]);
    axis_order held = order_of(state, node->inputs[0]), order = {{0}};
    int64_t dims[KILN_MAX_RANK];
    if (node->type->n_elements == 0 || !reshape_order(from, node->type, &held, &order)) {
        place_plainly(state, node);
        return;
    }
    for (uint32_t i = 0; i < node->type->rank; i++) dims[i] = node->type->dims[order.at[i]];
    kiln_value value = state->map[node->inputs[0].id];
    set_order(state, node, kiln_add_reshape(state->target, value, node->type->rank, dims), order);
}

static void place_node(layout_state *state, const kiln_node *node)
{
    const kiln_op_row *row = kiln_node_row(node);
    if (node->op == KILN_OP_convolution) {
        place_convolution(state, node);
    } else if (!has_ordered_operand(state, node)) {
        place_plainly(state, node);
    } else if (row->class_ == KILN_ELEMENTWISE || node->op == KILN_OP_concat) {
        place_like(state, node, node->n_inputs);
    } else if (row->class_ == KILN_WINDOW || node->op == KILN_OP_pad || node->op == KILN_OP_slice ||
               node->op == KILN_OP_reverse || node->op == KILN_OP_barrier) {
        place_like(state, node, 1);
    } else if (row->class_ == KILN_REDUCE) {
        place_reduce(state, node);
    } else if (node->op == KILN_OP_transpose) {
        place_transpose(state, node);
    } else if (node->op == KILN_OP_broadcast) {
        place_broadcast(state, node);
    } else if (node->op == KILN_OP_reshape) {
        place_reshape(state, node);
    } else {
        place_plainly(state, node);
    }
}

kiln_graph *kiln_pass_layout(kiln_pipeline *pipeline, const kiln_graph *source)
{
    kiln_scope *scope = pipeline->scope;
    layout_state state = {pipeline, source};
    state.target = kiln_graph_open(scope, source->context, source->name);
    state.map = kiln_new_array(&scope->arena, kiln_value, source->nodes.n);
    state.orders = kiln_new_array(&scope->arena, const axis_order *, source->nodes.n);
    const bool *is_live = kiln_live_nodes(scope, source);
    for (uint32_t i = 0; i < source->inputs.n; i++) {
        place_plainly(&state, kiln_graph_node(source, source->inputs.at[i]));
    }
    for (uint32_t id = 1; id < source->nodes.n; id++) {
        if (!is_live[id] || state.map[id].id) continue;
        state.target->current_origin = source->origins.at[id];
        place_node(&state, source->nodes.at[id]);
    }
    for (uint32_t i = 0; i < source->outputs.n; i++) {
        const kiln_graph_output *output = &source->outputs.at[i];
        state.target->current_origin = source->origins.at[output->value.id];
        kiln_copy_output(state.target, value_natural(&state, output->value), output);
    }
    for (uint32_t i = 0; i < source->checks.n; i++) {
        kiln_value value = value_natural(&state, source->checks.at[i].value);
        kiln_add_check(state.target, value, source->checks.at[i].sentence);
    }
    state.target->current_origin = 0;
    /* Without the values that found readers in another order only. */
    return kiln_rewrite_sweep(pipeline, state.target, NULL, NULL, NULL);
}
