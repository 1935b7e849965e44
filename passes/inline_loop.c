/* inline, loops of few trips that no data decides: their trips one after the other. What the
 * condition hangs on, over all trips, must be constants and cheap; the evaluator then counts them.
 *
 *     %0 = constant {value = splat 0}
 *     %1 = while %0, %x {n_carried = 2, regions = [graph condition(%i, %v) { … return %i < 2 },
 *                                                  graph body(%i, %v) { … return %i + 1, -%v }]}
 *     %2 = item %1 {index = 1}                  =>   %2 = neg %x  %3 = neg %2 */
#include <string.h>

#include "passes/inline.h"

#define MAX_TRIPS 16
#define MAX_NODES 256     /* of all trips; one trip may have more */
#define MAX_ELEMENTS 4096 /* of a value that decides */

/* Parameter i of both regions; the carried ones are the body's results too. */
typedef struct loop_state {
    kiln_scope *scope;
    const kiln_graph *condition, *body;
    uint32_t n_parameters, n_carried;
    bool *is_deciding; /* by parameter: the condition of some trip depends on it */
} loop_state;

/* By id: what the chosen outputs need; all of them where `is_chosen` is NULL. */
static bool *find_needed(kiln_scope *scope, const kiln_graph *graph, const bool *is_chosen)
{
    bool *is_needed = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        if (!is_chosen || is_chosen[i]) is_needed[graph->outputs.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; is_needed[id] && i < node->n_inputs; i++)
            is_needed[node->inputs[i].id] = true;
    }
    return is_needed;
}

/* Adds the parameters that are needed; true when one is new. */
static bool decide_by(loop_state *loop, const kiln_graph *region, const bool *is_needed)
{
    bool is_new = false;
    for (uint32_t i = 0; i < loop->n_parameters; i++) {
        if (!is_needed[region->inputs.at[i].id] || loop->is_deciding[i]) continue;
        is_new = loop->is_deciding[i] = true;
    }
    return is_new;
}

static void find_deciding(loop_state *loop)
{
    loop->is_deciding = kiln_new_array(&loop->scope->arena, bool, loop->n_parameters + 1);
    bool is_new = decide_by(loop, loop->condition, find_needed(loop->scope, loop->condition, NULL));
    while (is_new)
        is_new = decide_by(loop, loop->body,
                           find_needed(loop->scope, loop->body, loop->is_deciding));
}

/* Whether the evaluator may compute the node at compile time. */
static bool is_cheap(const kiln_node *node)
{
    switch (kiln_node_row(node)->class_) {
    case KILN_SOURCE:
    case KILN_ELEMENTWISE:
    case KILN_REDUCE:
    case KILN_VIEW:
    case KILN_MOVE:
        return node->type->n_elements <= MAX_ELEMENTS;
    case KILN_WINDOW:
    case KILN_CONTRACT:
    case KILN_ROUTINE:
    case KILN_REGION:
    case KILN_COMPOSITE:
        return false;
    }
    return false;
}

/* The region over deciding parameters alone, which gives the chosen outputs; NULL where that is
 * not cheap. */
static kiln_graph *restrict_region(const loop_state *loop, const kiln_graph *region,
                                   const bool *is_chosen)
{
    kiln_graph *graph = kiln_graph_open(loop->scope, region->context, region->name);
    kiln_value *map = kiln_new_array(&loop->scope->arena, kiln_value, region->nodes.n);
    const bool *is_needed = find_needed(loop->scope, region, is_chosen);
    for (uint32_t i = 0; i < loop->n_parameters; i++) {
        const kiln_node *input = kiln_graph_node(region, region->inputs.at[i]);
        if (!loop->is_deciding[i]) continue;
        map[region->inputs.at[i].id] =
            kiln_add_input(graph, kiln_graph_retype(graph, input->type), input->label, false);
    }
    for (uint32_t id = 1; id < region->nodes.n; id++) {
        const kiln_node *node = region->nodes.at[id];
        if (!is_needed[id] || node->op == KILN_OP_input) continue;
        if (!is_cheap(node)) return NULL;
        map[id] = kiln_graph_copy(graph, region, node, map);
    }
    for (uint32_t i = 0; i < region->outputs.n; i++)
        if (!is_chosen || is_chosen[i])
            kiln_add_output(graph, map[region->outputs.at[i].value.id], NULL);
    return graph;
}

/* The deciding parameters of the first trip: false where one is no constant. */
static bool read_deciding(const loop_state *loop, kiln_rewrite *rewrite, const kiln_node *node,
                          kiln_tensor *out)
{
    for (uint32_t i = 0; i < loop->n_parameters; i++) {
        if (!loop->is_deciding[i]) continue;
        const kiln_node *operand =
            kiln_graph_node(rewrite->target, kiln_mapped(rewrite, node->inputs[i]));
        const kiln_literal *literal = kiln_match_literal(operand);
        const kiln_type *type = operand->type;
        if (!literal || type->n_elements > MAX_ELEMENTS) return false;
        void *data = kiln_arena_alloc(&loop->scope->arena, (size_t)type->bytes + 16);
        kiln_literal_read(loop->scope, type, literal, data);
        *out++ = (kiln_tensor){type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
    }
    return true;
}

/* How many trips there are, or -1 when they are more than `most` or hard to count. Deciding
 * parameters come in the order of the region's: those that go around first, which a trip writes. */
static int64_t count_trips(const loop_state *loop, kiln_tensor *values, int64_t most)
{
    kiln_graph *condition = restrict_region(loop, loop->condition, NULL);
    kiln_graph *body = restrict_region(loop, loop->body, loop->is_deciding);
    if (!condition || !body) return -1;
    bool is_on = false;
    kiln_tensor flag = {KILN_bool, 0, NULL, &is_on, 1}, *next;
    next = kiln_arena_copy(&loop->scope->arena, values, (body->outputs.n + 1) * sizeof *values);
    for (uint32_t i = 0; i < body->outputs.n; i++)
        next[i].data = kiln_arena_alloc(&loop->scope->arena, values[i].bytes + 16);
    for (int64_t trip = 0; trip <= most; trip++) {
        kiln_eval(loop->scope, condition, values, &flag);
        if (!is_on) return trip;
        if (body->outputs.n) kiln_eval(loop->scope, body, values, next);
        for (uint32_t i = 0; i < body->outputs.n; i++)
            memcpy(values[i].data, next[i].data, values[i].bytes);
    }
    return -1;
}

kiln_value *kiln_inline_while(kiln_rewrite *rewrite, const kiln_node *node, kiln_value *inputs,
                              kiln_value *out)
{
    kiln_regions regions = node->attrs->loop.regions;
    loop_state loop = {.scope = rewrite->pipeline->scope,
                       .condition = regions.at[0],
                       .body = regions.at[1],
                       .n_parameters = node->n_inputs,
                       .n_carried = (uint32_t)node->attrs->loop.n_carried};
    int64_t most = MAX_NODES / (int64_t)loop.body->nodes.n;
    most = most < 1 ? 1 : most > MAX_TRIPS ? MAX_TRIPS : most;
    if (most > node->attrs->loop.limit) most = node->attrs->loop.limit;
    if (loop.condition->checks.n) return NULL; /* they would be lost */
    find_deciding(&loop);
    kiln_tensor *values = kiln_new_array(&loop.scope->arena, kiln_tensor, loop.n_parameters + 1);
    if (!read_deciding(&loop, rewrite, node, values)) return NULL;
    int64_t n_trips = count_trips(&loop, values, most);
    if (n_trips < 0) return NULL;
    for (uint32_t i = 0; i < loop.n_carried; i++) out[i] = inputs[i];
    for (int64_t trip = 0; trip < n_trips; trip++) {
        kiln_graph_inline(rewrite->target, loop.body, inputs, out);
        memcpy(inputs, out, loop.n_carried * sizeof *out);
    }
    return out;
}
