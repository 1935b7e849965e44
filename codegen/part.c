/* Parts: passes over each in the order in which they appear, then schedules from the innermost
 * outwards, because a region's group must know how much memory its parts need. */
#include "codegen/part.h"

#include "base/checked.h"
#include "codegen/compile.h"
#include "graph/attrs.h"
#include "passes/rewrite.h"

static bool is_region(const kiln_node *node)
{
    bool is_scalar = kiln_node_is_scalar_region(node);
    return kiln_node_row(node)->class_ == KILN_REGION && node->op != KILN_OP_item && !is_scalar;
}

static void add_part(kiln_compilation *compilation, const kiln_part *part)
{
    if (compilation->parts.n >= KILN_MAX_PARTS) {
        kiln_fail(compilation->scope, KILN_LIMIT,
                  "compile: the graph has over %u regions; expected fewer", KILN_MAX_PARTS);
    }
    kiln_vec_push(&compilation->parts, &compilation->scope->arena, *part);
}

/* By item of the region: whether a live node reads it. */
static bool *find_read_items(kiln_scope *scope, const kiln_graph *graph, const kiln_node *node,
                             const bool *is_live)
{
    bool *is_read = kiln_new_array(&scope->arena, bool, node->type->n_items);
    for (uint32_t id = node->id + 1; id < graph->nodes.n; id++) {
        const kiln_node *item = graph->nodes.at[id];
        if (is_live[id] && item->op == KILN_OP_item && item->inputs[0].id == node->id)
            is_read[item->attrs->item.index] = true;
    }
    return is_read;
}

static void add_children(kiln_compilation *compilation, uint32_t number)
{
    kiln_scope *scope = compilation->scope;
    const kiln_graph *graph = compilation->parts.at[number].graph;
    uint32_t *first = kiln_new_array(&scope->arena, uint32_t, graph->nodes.n);
    const bool *is_live = kiln_live_nodes(scope, graph);
    const bool **is_read = kiln_new_array(&scope->arena, const bool *, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (!is_live[id] || !is_region(node)) continue;
        is_read[id] = find_read_items(scope, graph, node, is_live);
        uint32_t n = kiln_part_n_children(node);
        first[id] = compilation->parts.n;
        for (uint32_t i = 0; i < n; i++) {
            kiln_part child = {.parent = number, .number = i, .node = id};
            child.source = kiln_part_graph(scope, graph, node, i, is_read[id]);
            add_part(compilation, &child);
        }
    }
    compilation->parts.at[number].first_child = first;
    compilation->parts.at[number].is_read = is_read;
}

void kiln_parts_open(kiln_compilation *compilation)
{
    kiln_part whole = {.source = compilation->source, .parent = KILN_NONE};
    add_part(compilation, &whole);
    for (uint32_t i = 0; i < compilation->parts.n; i++) {
        const kiln_graph *graph =
            kiln_pipeline_run(&compilation->pipeline, compilation->parts.at[i].source);
        compilation->parts.at[i].graph = graph;
        add_children(compilation, i);
    }
    compilation->graph = compilation->parts.at[0].graph;
}

typedef struct layout_maker {
    kiln_scope *scope;
    int64_t end;
} layout_maker;

static int64_t take(layout_maker *make, int64_t bytes)
{
    int64_t begin = make->end;
    if (!kiln_checked_add(begin, bytes, &make->end) ||
        !kiln_checked_align(make->end, 64, &make->end)) {
        kiln_fail(make->scope, KILN_LIMIT, "regions: more than 2^63 bytes of memory");
    }
    return begin;
}

static bool has_item(const kiln_graph *graph, const kiln_group *group, uint32_t index)
{
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        const kiln_node *item = kiln_graph_node(graph, group->outputs[i].value);
        if (item->attrs->item.index == index) return true;
    }
    return false;
}

static void layout_loop(layout_maker *make, const kiln_part *body, const kiln_node *node,
                        kiln_region_layout *layout)
{
    uint32_t n_carried = kiln_region_n_carried(node);
    uint32_t n_outputs = body->graph->outputs.n;
    layout->trip = take(make, 8);
    layout->next = take(make, 8);
    layout->stop = take(make, 1);
    layout->over = take(make, 8);
    layout->results = kiln_new_array(&make->scope->arena, int64_t, n_outputs + 1);
    for (uint32_t i = 0; i < n_outputs; i++) {
        bool is_over = i < n_carried && body->schedule->donations.at[i] == i;
        const kiln_type *type = kiln_graph_type(body->graph, body->graph->outputs.at[i].value);
        layout->results[i] = is_over ? -1 : take(make, type->bytes);
    }
}

static void layout_region(kiln_compilation *compilation, kiln_part *part, uint32_t g)
{
    kiln_group *group = &part->schedule->groups.at[g];
    const kiln_node *node = kiln_graph_node(part->graph, group->anchor);
    const kiln_part *children = &compilation->parts.at[part->first_child[node->id]];
    kiln_region_layout *layout = &part->layouts[g];
    layout_maker make = {.scope = compilation->scope};
    uint32_t n = kiln_part_n_children(node), n_items = node->type->n_items;
    bool is_loop = node->op == KILN_OP_while || node->op == KILN_OP_scan;
    layout->items = kiln_new_array(&make.scope->arena, int64_t, n_items);
    layout->flags = kiln_new_array(&make.scope->arena, int64_t, n);
    for (uint32_t i = 0; i < n_items; i++) {
        bool is_needed = part->is_read[node->id][i] || i < kiln_region_n_carried(node) ||
                         node->op == KILN_OP_custom_call;
        bool is_placed = !is_needed || has_item(part->graph, group, i);
        layout->items[i] = is_placed ? -1 : take(&make, node->type->items[i]->bytes);
    }
    for (uint32_t i = 0; node->op == KILN_OP_case && i < n; i++) layout->flags[i] = take(&make, 1);
    if (is_loop) layout_loop(&make, &children[1], node, layout);
    layout->arena = make.end;
    int64_t most = 0;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_schedule *inner = children[i].schedule;
        if (inner->arena_bytes > most) most = inner->arena_bytes;
        for (uint32_t k = 0; k < inner->groups.n; k++) group->ns += inner->groups.at[k].ns;
    }
    take(&make, most);
    group->scratch_bytes = make.end;
}

static void plan_part(kiln_compilation *compilation, uint32_t number)
{
    kiln_pipeline *pipeline = &compilation->pipeline;
    kiln_part *part = &compilation->parts.at[number];
    kiln_arena *arena = &compilation->scope->arena;
    kiln_schedule *schedule = kiln_fuse(pipeline, part->graph);
    part->schedule = schedule;
    part->group_of = kiln_new_array(arena, uint32_t, part->graph->nodes.n);
    part->layouts = kiln_new_array(arena, kiln_region_layout, schedule->groups.n + 1);
    for (uint32_t g = 0; g < schedule->groups.n; g++) {
        if (schedule->groups.at[g].kind != KILN_GROUP_REGION) continue;
        part->group_of[schedule->groups.at[g].anchor.id] = g;
        layout_region(compilation, part, g);
    }
    kiln_plan_memory(pipeline, schedule);
}

void kiln_parts_plan(kiln_compilation *compilation)
{
    kiln_pipeline *pipeline = &compilation->pipeline;
    int64_t max_bytes = pipeline->max_bytes;
    for (uint32_t i = compilation->parts.n; i-- > 0;) {
        pipeline->max_bytes = i ? 0 : max_bytes; /* the whole arena holds all others */
        plan_part(compilation, i);
    }
    compilation->schedule = compilation->parts.at[0].schedule;
}
