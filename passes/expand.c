/* expand: composites become their expansion, until only primitives are left.
 *
 *     %1: f32[4] = relu %x          %0: f32[4] = constant {value = splat 0}
 *                              =>   %1: f32[4] = max %x, %0
 *
 * The label of a composite goes to the value of its expansion. */
#include "passes/rewrite.h"

static kiln_value expand_node(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_COMPOSITE) return (kiln_value){0, 0};
    kiln_value *inputs =
        kiln_new_array(&rewrite->pipeline->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = kiln_mapped(rewrite, node->inputs[i]);
    return kiln_expand_rules[node->op](rewrite->target, inputs, node->n_inputs, node->attrs);
}

kiln_graph *kiln_pass_expand(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    bool has_composites = false;
    for (uint32_t id = 1; id < graph->nodes.n && !has_composites; id++)
        has_composites = kiln_node_row(graph->nodes.at[id])->class_ == KILN_COMPOSITE;
    if (!has_composites) return (kiln_graph *)graph;
    return kiln_rewrite_run(pipeline, graph, expand_node, NULL, "expand");
}
