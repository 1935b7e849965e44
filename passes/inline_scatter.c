/* inline, regions that put elements somewhere. A scatter with a known combination is that op; any
 * other takes its updates one after the other, in a loop over a flat copy. What windows select is
 * found tap by tap over the whole source, and then put down tap by tap. */
#include "graph/attrs.h"
#include "graph/gather.h"
#include "passes/inline.h"

#define MAX_TAPS 4096 /* of a window that selects */

static kiln_value node1(kiln_graph *graph, kiln_op op, kiln_value a, const kiln_attrs *attrs)
{
    return kiln_graph_add(graph, &(kiln_node_spec){op, NULL, &a, 1, attrs, NULL});
}

static kiln_value node3(kiln_graph *graph, kiln_op op, const kiln_value *inputs,
                        const kiln_attrs *attrs)
{
    return kiln_graph_add(graph, &(kiln_node_spec){op, NULL, inputs, 3, attrs, NULL});
}

static kiln_value select3(kiln_graph *graph, kiln_value condition, kiln_value a, kiln_value b)
{
    return node3(graph, KILN_OP_select, (kiln_value[]){condition, a, b}, NULL);
}

static kiln_value splat_long(kiln_graph *graph, const kiln_type *like, int64_t value)
{
    const kiln_type *scalar = kiln_graph_tensor(graph, KILN_i64, 0, NULL);
    return kiln_add_broadcast(graph, kiln_add_constant(graph, scalar, &value), like->rank,
                              like->dims, NULL);
}

/* Component `component` of the index vector, at every element of the updates, as i64. */
static kiln_value index_at(kiln_graph *graph, const kiln_gather_plan *plan, kiln_value indices,
                           const kiln_type *updates, uint32_t component)
{
    const kiln_type *type = kiln_graph_type(graph, indices);
    int64_t starts[KILN_MAX_RANK], limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK];
    uint32_t n = type->rank, rank = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool is_vector = plan->walk[i] < 0;
        starts[i] = is_vector ? component : 0;
        limits[i] = is_vector ? component + 1 : type->dims[i];
        strides[i] = 1;
        if (is_vector) continue;
        dims[rank] = type->dims[i];
        axes[rank++] = plan->walk[i];
    }
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    kiln_value part = node1(graph, KILN_OP_slice, indices, &attrs);
    part = kiln_add_convert(graph, kiln_add_reshape(graph, part, rank, dims), KILN_i64);
    return kiln_add_broadcast(graph, part, updates->rank, updates->dims, axes);
}

/* The index along operand axis `axis` at every element of the updates. */
static kiln_value index_along(kiln_graph *graph, const kiln_gather_plan *plan, kiln_value indices,
                              const kiln_type *long_type, uint32_t axis)
{
    kiln_value index = splat_long(graph, long_type, 0);
    int32_t component = plan->component[axis];
    int32_t walked = plan->batch[axis] >= 0 ? plan->batch[axis] : plan->offset[axis];
    if (component >= 0) index = index_at(graph, plan, indices, long_type, (uint32_t)component);
    if (walked < 0) return index;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {walked}};
    kiln_node_spec spec = {KILN_OP_iota, long_type, NULL, 0, &attrs, NULL};
    return kiln_add_binary(graph, KILN_OP_add, index, kiln_graph_add(graph, &spec));
}

/* By element of the updates: its place in the flat operand, or -1. */
static kiln_value find_places(kiln_graph *graph, const kiln_node *node, const kiln_value *inputs)
{
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    const kiln_type *updates = kiln_graph_type(graph, inputs[2]);
    kiln_gather_plan plan;
    kiln_gather_plan_make(node->attrs, type, kiln_graph_type(graph, inputs[1]), updates, &plan);
    const kiln_type *long_type = kiln_graph_tensor(graph, KILN_i64, updates->rank, updates->dims);
    kiln_value zero = splat_long(graph, long_type, 0), place = zero, is_out = {0};
    for (uint32_t i = 0; i < type->rank; i++) {
        kiln_value index = index_along(graph, &plan, inputs[1], long_type, i);
        kiln_value dim = splat_long(graph, long_type, type->dims[i]);
        kiln_value is_low = kiln_add_binary(graph, KILN_OP_lt, index, zero);
        kiln_value is_high = kiln_add_binary(graph, KILN_OP_ge, index, dim);
        kiln_value is_bad = kiln_add_binary(graph, KILN_OP_or, is_low, is_high);
        is_out = is_out.id ? kiln_add_binary(graph, KILN_OP_or, is_out, is_bad) : is_bad;
        kiln_value before = kiln_add_binary(graph, KILN_OP_mul, place, dim);
        place = kiln_add_binary(graph, KILN_OP_add, before, index);
    }
    if (!is_out.id) return place;
    return select3(graph, is_out, splat_long(graph, long_type, -1), place);
}

/* A value over the updates in the order of the index vectors: the axes of windows last, flat. */
static kiln_value in_order(kiln_graph *graph, const kiln_node *node, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    kiln_ints windows = node->attrs->scatter_with.window_axes;
    int64_t axes[KILN_MAX_RANK], n_elements = type->n_elements;
    uint32_t n = 0, in_window = 0;
    for (uint32_t i = 0; i < windows.n; i++) in_window |= 1u << windows.at[i];
    for (uint32_t i = 0; i < type->rank; i++)
        if (!(in_window >> i & 1)) axes[n++] = i;
    for (uint32_t i = 0; i < type->rank; i++)
        if (in_window >> i & 1) axes[n++] = i;
    return kiln_add_reshape(graph, kiln_add_transpose(graph, a, axes), 1, &n_elements);
}

/* The element of a vector at `start`, a vector of one. */
static kiln_value element_at(kiln_graph *graph, kiln_value flat, kiln_value start)
{
    int64_t single = 1;
    kiln_attrs sizes = {KILN_FAMILY_sizes, .sizes = {{1, &single}}};
    kiln_value pair[] = {flat, start};
    kiln_node_spec spec = {KILN_OP_dynamic_slice, NULL, pair, 2, &sizes, NULL};
    return kiln_add_reshape(graph, kiln_graph_add(graph, &spec), 0, NULL);
}

/* One trip: (flat values, place, updates) -> flat values. */
static kiln_graph *update_region(kiln_rewrite *rewrite, const kiln_graph *region, uint32_t n,
                                 const kiln_value *flat)
{
    kiln_scope *scope = rewrite->pipeline->scope;
    kiln_graph *body = kiln_graph_open(scope, region->context, "update");
    kiln_value *all = kiln_new_array(&scope->arena, kiln_value, 3 * n), *args = all + n;
    kiln_value *next = kiln_new_array(&scope->arena, kiln_value, n);
    const kiln_type *number = kiln_graph_tensor(body, KILN_i64, 0, NULL);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *type = kiln_graph_type(rewrite->target, flat[i]);
        const char *name = kiln_arena_format(&body->arena, "all%u", i);
        all[i] = kiln_add_input(body, kiln_graph_retype(body, type), name, false);
    }
    kiln_value place = kiln_add_input(body, number, "place", false);
    int64_t single = 1;
    kiln_value start = kiln_add_reshape(body, place, 1, &single);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *type = kiln_graph_type(rewrite->target, flat[i]);
        const kiln_type *one = kiln_graph_tensor(body, type->dtype, 0, NULL);
        args[i] = element_at(body, all[i], start);
        const char *name = kiln_arena_format(&body->arena, "update%u", i);
        args[n + i] = kiln_add_input(body, one, name, false);
    }
    kiln_region_widen(body, region, number, args, next);
    kiln_value zero = kiln_add_splat(body, KILN_i64, 0, NULL, 0);
    kiln_value is_inside = kiln_add_binary(body, KILN_OP_ge, place, zero);
    for (uint32_t i = 0; i < n; i++) {
        kiln_value made = select3(body, is_inside, next[i], args[i]);
        kiln_value block = kiln_add_reshape(body, made, 1, &single);
        kiln_value operands[] = {all[i], block, start};
        kiln_add_output(body, node3(body, KILN_OP_dynamic_update, operands, NULL), NULL);
    }
    kiln_region_close(scope, body);
    return body;
}

/* The updates one after the other, each into all values. */
static void put_updates(kiln_rewrite *rewrite, const kiln_node *node, const kiln_value *inputs,
                        kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    uint32_t n = node->n_inputs / 2;
    const kiln_type *type = node->type->items[0];
    int64_t n_updates = kiln_graph_type(graph, inputs[n + 1])->n_elements, all = type->n_elements;
    kiln_value first[] = {inputs[0], inputs[n], inputs[n + 1]};
    kiln_value *operands =
        kiln_new_array(&rewrite->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < n; i++) {
        operands[i] = kiln_add_reshape(graph, inputs[i], 1, &all);
        operands[n + 1 + i] = in_order(graph, node, inputs[n + 1 + i]);
    }
    operands[n] = in_order(graph, node, find_places(graph, node, first));
    const kiln_graph *body =
        update_region(rewrite, node->attrs->scatter_with.regions.at[0], n, operands);
    kiln_attrs scan = {KILN_FAMILY_scan, .scan = {n, n + 1, n_updates, {1, &body}}};
    kiln_node_spec spec = {KILN_OP_scan, NULL, operands, node->n_inputs, &scan, NULL};
    kiln_value tuple = kiln_graph_add(graph, &spec);
    for (uint32_t i = 0; i < n; i++)
        out[i] = kiln_add_reshape(graph, kiln_add_item(graph, tuple, i), type->rank, type->dims);
}

kiln_value *kiln_inline_scatter_with(kiln_rewrite *rewrite, const kiln_node *node,
                                     kiln_value *inputs, kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    uint32_t n = node->n_inputs / 2;
    const kiln_type *type = node->type->items[0], *updates = kiln_graph_type(graph, inputs[n + 1]);
    kiln_op known = KILN_OP_none;
    if (n == 1)
        known = kiln_region_scatter(node->attrs->scatter_with.regions.at[0], type->dtype);
    for (uint32_t i = 0; i < n; i++) out[i] = inputs[i];
    if (!updates->n_elements || !type->n_elements) return out;
    kiln_attrs attrs = kiln_attrs_scatter(node->attrs);
    if (known)
        out[0] = node3(graph, known, inputs, &attrs);
    else
        put_updates(rewrite, node, inputs, out);
    return out;
}

/* select_and_scatter */

typedef struct select_state {
    kiln_graph *graph;
    const kiln_attrs *attrs;
    uint32_t rank;
    const kiln_type *source;
    int64_t padded[KILN_MAX_RANK];
} select_state;

static kiln_value pad(select_state *state, kiln_value value, kiln_value scalar,
                      const kiln_ints *low_high_interior)
{
    kiln_attrs attrs = {KILN_FAMILY_pad};
    attrs.pad.low = low_high_interior[0];
    attrs.pad.high = low_high_interior[1];
    attrs.pad.interior = low_high_interior[2];
    kiln_value operands[] = {value, scalar};
    return kiln_graph_add(state->graph,
                          &(kiln_node_spec){KILN_OP_pad, NULL, operands, 2, &attrs, NULL});
}

/* What every window has under one tap. */
static kiln_value under_tap(select_state *state, kiln_value padded, const int64_t *tap)
{
    int64_t starts[KILN_MAX_RANK], limits[KILN_MAX_RANK];
    uint32_t n = state->rank;
    kiln_ints strides = state->attrs->reduce_window.strides;
    for (uint32_t i = 0; i < n; i++) {
        starts[i] = tap[i] * state->attrs->reduce_window.dilations.at[i];
        limits[i] = starts[i] + (state->source->dims[i] - 1) * strides.at[i] + 1;
    }
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides.at}}};
    return node1(state->graph, KILN_OP_slice, padded, &attrs);
}

/* The source under one tap again, where the operand lies; elsewhere `scalar`. */
static kiln_value from_tap(select_state *state, kiln_value value, kiln_value scalar,
                           const int64_t *tap, const kiln_type *type)
{
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK], interior[KILN_MAX_RANK];
    uint32_t n = state->rank;
    for (uint32_t i = 0; i < n; i++) {
        int64_t stride = state->attrs->reduce_window.strides.at[i];
        int64_t length = (state->source->dims[i] - 1) * stride + 1;
        low[i] = tap[i] * state->attrs->reduce_window.dilations.at[i] -
                 state->attrs->reduce_window.low.at[i];
        high[i] = type->dims[i] - low[i] - length;
        interior[i] = stride - 1;
    }
    return pad(state, value, scalar, (kiln_ints[]){{n, low}, {n, high}, {n, interior}});
}

static bool next_tap(const select_state *state, int64_t *tap)
{
    for (uint32_t i = state->rank; i-- > 0;) {
        if (++tap[i] < state->attrs->reduce_window.sizes.at[i]) return true;
        tap[i] = 0;
    }
    return false;
}

/* By window: the number of the tap that is selected; -1 where all is padding. */
static kiln_value find_selected(select_state *state, kiln_value operand)
{
    kiln_graph *graph = state->graph;
    const kiln_type *type = kiln_graph_type(graph, operand);
    const kiln_graph *region = state->attrs->reduce_window.regions.at[0];
    int64_t zeros[KILN_MAX_RANK] = {0}, tap[KILN_MAX_RANK] = {0}, number = 0;
    kiln_ints pads[] = {state->attrs->reduce_window.low, state->attrs->reduce_window.high,
                        {state->rank, zeros}};
    kiln_value zero = kiln_add_splat(graph, type->dtype, 0, NULL, 0);
    kiln_value all = pad(state, operand, zero, pads);
    kiln_value inside = kiln_add_splat(graph, KILN_bool, type->rank, type->dims, 1);
    inside = pad(state, inside, kiln_add_splat(graph, KILN_bool, 0, NULL, 0), pads);
    const kiln_type *source = state->source;
    kiln_value best = {0};
    kiln_value selected = kiln_add_splat(graph, KILN_i32, source->rank, source->dims, -1);
    kiln_value has_one = kiln_add_splat(graph, KILN_bool, source->rank, source->dims, 0);
    do {
        kiln_value other = under_tap(state, all, tap), is_valid = under_tap(state, inside, tap);
        kiln_value keeps, now = kiln_add_splat_like(graph, selected, (double)number++);
        if (!best.id) best = other;
        kiln_region_widen(graph, region, source, (kiln_value[]){best, other}, &keeps);
        keeps = kiln_add_binary(graph, KILN_OP_and, keeps, has_one);
        kiln_value is_taken = kiln_add_binary(graph, KILN_OP_and, is_valid,
                                              kiln_add_unary(graph, KILN_OP_not, keeps));
        best = select3(graph, is_taken, other, best);
        selected = select3(graph, is_taken, now, selected);
        has_one = kiln_add_binary(graph, KILN_OP_or, has_one, is_valid);
    } while (next_tap(state, tap));
    return selected;
}

kiln_value *kiln_inline_select(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                               kiln_value *out)
{
    kiln_graph *graph = rewrite->target;
    const kiln_type *type = node->type->items[0];
    const kiln_graph *region = node->attrs->reduce_window.regions.at[1];
    select_state state = {.graph = graph, .attrs = node->attrs, .rank = type->rank};
    state.source = kiln_graph_type(graph, inputs[1]);
    int64_t n_taps = 1, tap[KILN_MAX_RANK] = {0}, number = 0;
    for (uint32_t i = 0; i < type->rank && n_taps <= MAX_TAPS; i++)
        n_taps *= node->attrs->reduce_window.sizes.at[i];
    if (n_taps > MAX_TAPS)
        kiln_fail(graph->scope, KILN_LIMIT,
                  "select_and_scatter: a window of over %d elements; expected fewer", MAX_TAPS);
    out[0] = kiln_add_broadcast(graph, inputs[2], type->rank, type->dims, NULL);
    if (!state.source->n_elements || !type->n_elements) return out;
    kiln_value selected = find_selected(&state, inputs[0]), made;
    kiln_value off = kiln_add_splat(graph, KILN_bool, 0, NULL, 0);
    do {
        kiln_value now = kiln_add_splat_like(graph, selected, (double)number++);
        kiln_value is_it = kiln_add_binary(graph, KILN_OP_eq, selected, now);
        is_it = from_tap(&state, is_it, off, tap, type);
        kiln_value update = from_tap(&state, inputs[1], inputs[2], tap, type);
        kiln_region_widen(graph, region, type, (kiln_value[]){out[0], update}, &made);
        out[0] = select3(graph, is_it, made, out[0]);
    } while (next_tap(&state, tap));
    return out;
}
