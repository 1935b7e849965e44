/* inline: regions that need not be any. A call becomes what it calls, a choice on a constant the
 * chosen branch, a short scan or loop its trips one after the other; operands that are constants,
 * or that no region reads, go into the regions or away.
 *
 *     %0: (f32[4]) = call %x {regions = [graph g(%a: f32[4]) { … %1 = neg %a return %1 }]}
 *     %1: f32[4] = item %0 {index = 0}                     =>   %0: f32[4] = neg %x
 *
 * A region's node has a tuple for which nothing else stands, so it is the items that change; the
 * node then has no user. */
#include <string.h>

#include "graph/attrs.h"
#include "graph/element.h"
#include "passes/inline.h"

#define MAX_SWEEPS (2 * KILN_MAX_NESTING)
#define MAX_GROWTH (1u << 20)  /* nodes of a graph up to which calls go in */
#define MAX_TRIPS 16           /* of a scan that is unrolled */
#define MAX_UNROLLED_NODES 256 /* of all its trips */

typedef struct inline_state {
    kiln_value **results; /* by source id of a region: its values in the target, or NULL */
    bool *is_known;       /* results has been looked for */
} inline_state;

static const kiln_value none = {0, 0};

static bool is_region(const kiln_node *node)
{
    return kiln_node_row(node)->class_ == KILN_REGION && node->op != KILN_OP_item;
}

static const kiln_node *target_node(const kiln_rewrite *rewrite, kiln_value value)
{
    return kiln_graph_node(rewrite->target, kiln_mapped(rewrite, value));
}

static kiln_value *mapped_inputs(kiln_rewrite *rewrite, const kiln_node *node, uint32_t first)
{
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    kiln_value *values = kiln_new_array(arena, kiln_value, node->n_inputs + 1);
    for (uint32_t i = first; i < node->n_inputs; i++)
        values[i - first] = kiln_mapped(rewrite, node->inputs[i]);
    return values;
}

static kiln_value *new_results(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    return kiln_new_array(arena, kiln_value, node->type->n_items + 1);
}

static kiln_value *put_in(kiln_rewrite *rewrite, const kiln_node *node, const kiln_graph *region,
                          uint32_t first)
{
    if (rewrite->target->nodes.n > MAX_GROWTH) return NULL;
    kiln_value *results = new_results(rewrite, node);
    kiln_graph_inline(rewrite->target, region, mapped_inputs(rewrite, node, first), results);
    return results;
}

static kiln_value *put_choice(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    if (regions.n == 1) return put_in(rewrite, node, regions.at[0], 1);
    const kiln_node *choice = target_node(rewrite, node->inputs[0]);
    const kiln_literal *literal = kiln_match_literal(choice);
    if (!literal || literal->kind != KILN_LITERAL_SPLAT) return NULL;
    double value = kiln_element_to_double(choice->type->dtype, literal->data);
    uint32_t number = value >= 0 && value < regions.n ? (uint32_t)value : regions.n - 1;
    if (node->op == KILN_OP_if) number = value == 0;
    return put_in(rewrite, node, regions.at[number], 1);
}

/* Row `trip` of a sequence, or a row as one of a stack. */
static kiln_value row_of(kiln_graph *graph, kiln_value sequence, int64_t trip)
{
    const kiln_type *type = kiln_graph_type(graph, sequence);
    int64_t starts[KILN_MAX_RANK] = {trip}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = i ? type->dims[i] : trip + 1;
        strides[i] = 1;
    }
    uint32_t n = type->rank;
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    kiln_node_spec spec = {KILN_OP_slice, NULL, &sequence, 1, &attrs, NULL};
    return kiln_add_reshape(graph, kiln_graph_add(graph, &spec), type->rank - 1, type->dims + 1);
}

static kiln_value stack_of(kiln_graph *graph, kiln_value *rows, int64_t n)
{
    const kiln_type *type = kiln_graph_type(graph, rows[0]);
    int64_t dims[KILN_MAX_RANK] = {1};
    memcpy(dims + 1, type->dims, type->rank * sizeof *dims);
    for (int64_t i = 0; i < n; i++)
        rows[i] = kiln_add_reshape(graph, rows[i], type->rank + 1, dims);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    kiln_node_spec spec = {KILN_OP_concat, NULL, rows, (uint32_t)n, &attrs, NULL};
    return n == 1 ? rows[0] : kiln_graph_add(graph, &spec);
}

static bool is_short(const kiln_node *node)
{
    int64_t length = node->attrs->scan.length;
    const kiln_graph *body = node->attrs->scan.regions.at[0];
    return length == 1 ||
           (length <= MAX_TRIPS && length * (int64_t)body->nodes.n <= MAX_UNROLLED_NODES);
}

static kiln_value *put_scan(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_graph *target = rewrite->target;
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    const kiln_graph *body = node->attrs->scan.regions.at[0];
    uint32_t n_carried = (uint32_t)node->attrs->scan.n_carried, n_items = node->type->n_items;
    uint32_t end = n_carried + (uint32_t)node->attrs->scan.n_slices;
    int64_t length = node->attrs->scan.length;
    if (!is_short(node)) return NULL;
    kiln_value *values = mapped_inputs(rewrite, node, 0), *results = new_results(rewrite, node);
    kiln_value *rows = kiln_new_array(arena, kiln_value, length * n_items + 1);
    kiln_value *sequences = mapped_inputs(rewrite, node, 0);
    for (int64_t trip = 0; trip < length; trip++) {
        for (uint32_t i = n_carried; i < end; i++) values[i] = row_of(target, sequences[i], trip);
        kiln_graph_inline(target, body, values, results);
        memcpy(values, results, n_carried * sizeof *values);
        for (uint32_t i = n_carried; i < n_items; i++) rows[i * length + trip] = results[i];
    }
    for (uint32_t i = 0; i < n_items; i++) {
        const kiln_type *type = node->type->items[i];
        if (i < n_carried)
            results[i] = values[i];
        else if (length)
            results[i] = stack_of(target, rows + i * length, length);
        else
            results[i] = kiln_add_splat(target, type->dtype, type->rank, type->dims, 0);
    }
    return results;
}

static kiln_value *find_results(kiln_rewrite *rewrite, const kiln_node *node)
{
    switch (node->op) {
    case KILN_OP_call:
        return put_in(rewrite, node, node->attrs->regions.regions.at[0], 0);
    case KILN_OP_if:
    case KILN_OP_case:
        return put_choice(rewrite, node);
    case KILN_OP_scan:
        return put_scan(rewrite, node);
    default:
        return kiln_inline_scalar(rewrite, node);
    }
}

static kiln_value visit_item(kiln_rewrite *rewrite, const kiln_node *node)
{
    inline_state *state = rewrite->user;
    const kiln_node *region = kiln_operand_node(rewrite, node, 0);
    if (!state->is_known[region->id]) {
        state->is_known[region->id] = true;
        state->results[region->id] = find_results(rewrite, region);
    }
    const kiln_value *results = state->results[region->id];
    return results ? results[node->attrs->item.index] : none;
}

/* The first operand that is the same in every trip. */
static uint32_t first_fixed(const kiln_node *node)
{
    if (node->op == KILN_OP_while) return (uint32_t)node->attrs->loop.n_carried;
    if (node->op == KILN_OP_scan)
        return (uint32_t)(node->attrs->scan.n_carried + node->attrs->scan.n_slices);
    return node->op != KILN_OP_call;
}

static bool is_constant(const kiln_graph *graph, const kiln_node *node)
{
    if (node->op == KILN_OP_broadcast) node = kiln_graph_node(graph, node->inputs[0]);
    return node->op == KILN_OP_constant || node->op == KILN_OP_iota;
}

static kiln_value copy_constant(kiln_graph *graph, const kiln_graph *from, const kiln_node *node)
{
    kiln_value input = none;
    kiln_node_spec spec = {(kiln_op)node->op, kiln_graph_retype(graph, node->type), &input,
                           node->n_inputs, node->attrs, NULL};
    if (node->n_inputs) {
        const kiln_node *root = kiln_graph_node(from, node->inputs[0]);
        kiln_node_spec inner = {(kiln_op)root->op, kiln_graph_retype(graph, root->type), NULL, 0,
                                root->attrs, NULL};
        input = kiln_graph_add(graph, &inner);
    }
    return kiln_graph_add(graph, &spec);
}

static bool reads_parameter(kiln_scope *scope, const kiln_graph *region, uint32_t i)
{
    return kiln_live_nodes(scope, region)[region->inputs.at[i].id];
}

/* Which operands leave the node, by position; how many stay is returned. */
static uint32_t choose_bound(kiln_rewrite *rewrite, const kiln_node *node, bool *is_bound)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    uint32_t first = first_fixed(node), shift = node->op == KILN_OP_if || node->op == KILN_OP_case;
    uint32_t n_left = node->n_inputs;
    bool is_scalar = kiln_node_is_scalar_region(node) || !regions.n; /* all operands count */
    for (uint32_t i = first; i < node->n_inputs && n_left > 1 && !is_scalar; i++) {
        is_bound[i] = is_constant(rewrite->target, target_node(rewrite, node->inputs[i]));
        bool is_read = false;
        for (uint32_t r = 0; r < regions.n && !is_bound[i] && !is_read; r++)
            is_read = reads_parameter(rewrite->pipeline->scope, regions.at[r], i - shift);
        is_bound[i] = is_bound[i] || !is_read;
        n_left -= is_bound[i];
    }
    return n_left;
}

/* The region without the parameters of bound operands, which stand in it as constants. */
static kiln_graph *bind_region(kiln_rewrite *rewrite, const kiln_node *node,
                               const kiln_graph *region, const bool *is_bound)
{
    kiln_scope *scope = rewrite->pipeline->scope;
    kiln_graph *bound = kiln_graph_open(scope, region->context, region->name);
    uint32_t shift = node->n_inputs - region->inputs.n;
    kiln_value *values = kiln_new_array(&scope->arena, kiln_value, region->inputs.n + 1);
    for (uint32_t i = 0; i < region->inputs.n; i++) {
        const kiln_node *input = kiln_graph_node(region, region->inputs.at[i]);
        const kiln_node *operand = target_node(rewrite, node->inputs[i + shift]);
        if (!is_bound[i + shift])
            values[i] = kiln_add_input(bound, kiln_graph_retype(bound, input->type), input->label,
                                       false);
        else if (is_constant(rewrite->target, operand))
            values[i] = copy_constant(bound, rewrite->target, operand);
        else /* nobody reads it */
            values[i] = kiln_add_splat(bound, input->type->dtype, input->type->rank,
                                       input->type->dims, 0);
    }
    kiln_value *results = kiln_new_array(&scope->arena, kiln_value, region->outputs.n);
    kiln_graph_inline(bound, region, values, results);
    for (uint32_t i = 0; i < region->outputs.n; i++) kiln_add_output(bound, results[i], NULL);
    kiln_region_close(scope, bound);
    return bound;
}

static kiln_value bind_operands(kiln_rewrite *rewrite, const kiln_node *node)
{
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    bool *is_bound = kiln_new_array(arena, bool, node->n_inputs + 1);
    uint32_t n_left = choose_bound(rewrite, node, is_bound), n = 0;
    if (n_left == node->n_inputs) return none;
    const kiln_graph **graphs = kiln_new_array(arena, const kiln_graph *, regions.n);
    kiln_value *inputs = kiln_new_array(arena, kiln_value, n_left + 1);
    for (uint32_t i = 0; i < regions.n; i++)
        graphs[i] = bind_region(rewrite, node, regions.at[i], is_bound);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (!is_bound[i]) inputs[n++] = kiln_mapped(rewrite, node->inputs[i]);
    kiln_attrs attrs = *node->attrs;
    kiln_attrs_set_regions(&attrs, (kiln_regions){regions.n, graphs});
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, n_left, &attrs, node->label};
    return kiln_graph_add(rewrite->target, &spec);
}

static kiln_value visit(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op == KILN_OP_item) return visit_item(rewrite, node);
    return is_region(node) ? bind_operands(rewrite, node) : none;
}

kiln_graph *kiln_pass_inline(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    kiln_arena *arena = &pipeline->scope->arena;
    uint32_t n_changed = 1;
    if (!graph->depth) return (kiln_graph *)graph; /* as it is: no node has a region */
    for (uint32_t i = 0; i < MAX_SWEEPS && n_changed; i++) {
        inline_state state = {
            .results = kiln_new_array(arena, kiln_value *, graph->nodes.n),
            .is_known = kiln_new_array(arena, bool, graph->nodes.n),
        };
        graph = kiln_rewrite_sweep(pipeline, graph, visit, &state, &n_changed);
    }
    return (kiln_graph *)graph;
}
