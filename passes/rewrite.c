/* The sweep over a graph that builds the next one. */
#include "passes/rewrite.h"

bool *kiln_live_nodes(kiln_scope *scope, const kiln_graph *graph)
{
    bool *is_live = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) is_live[graph->outputs.at[i].value.id] = true;
    for (uint32_t i = 0; i < graph->checks.n; i++) is_live[graph->checks.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; is_live[id] && i < node->n_inputs; i++)
            is_live[node->inputs[i].id] = true;
    }
    return is_live;
}

kiln_value kiln_rewrite_copy(kiln_rewrite *rewrite, const kiln_node *node)
{
    return kiln_graph_copy(rewrite->graph, rewrite->source, node, rewrite->map);
}

static void check_type(kiln_rewrite *rewrite, uint32_t id)
{
    const kiln_type *old = rewrite->source->nodes.at[id]->type;
    const kiln_type *now = kiln_graph_type(rewrite->graph, rewrite->map[id]);
    if (kiln_graph_tensor(rewrite->graph, old->dtype, old->rank, old->dims) == now) return;
    kiln_fail(rewrite->pipeline->scope, KILN_INTERNAL, "%s: a pass changed its type",
              kiln_node_string(&rewrite->pipeline->scope->arena, rewrite->source,
                               (kiln_value){id, rewrite->source->id}));
}

kiln_graph *kiln_rewrite_graph(kiln_pipeline *pipeline, const kiln_graph *source,
                               kiln_rewrite_fn *rewrite, void *user)
{
    kiln_scope *scope = pipeline->scope;
    kiln_rewrite state = {
        .pipeline = pipeline,
        .source = source,
        .graph = kiln_graph_open(scope, pipeline->context, source->name),
        .map = kiln_new_array(&scope->arena, kiln_value, source->nodes.n),
        .is_live = kiln_live_nodes(scope, source),
        .user = user,
    };
    for (uint32_t i = 0; i < source->inputs.n; i++) {
        kiln_value input = source->inputs.at[i];
        state.map[input.id] = kiln_rewrite_copy(&state, kiln_graph_node(source, input));
    }
    for (uint32_t id = 1; id < source->nodes.n; id++) {
        const kiln_node *node = source->nodes.at[id];
        if (!state.is_live[id] || node->op == KILN_OP_input) continue;
        state.graph->current_origin = source->origins.at[id];
        state.map[id] = rewrite(&state, id, node);
        state.graph->current_origin = 0;
        check_type(&state, id);
    }
    for (uint32_t i = 0; i < source->outputs.n; i++) {
        const kiln_graph_output *output = &source->outputs.at[i];
        kiln_add_output(state.graph, state.map[output->value.id], output->name);
    }
    for (uint32_t i = 0; i < source->checks.n; i++) {
        const kiln_graph_check *check = &source->checks.at[i];
        kiln_add_check(state.graph, state.map[check->value.id], check->sentence);
    }
    return state.graph;
}
