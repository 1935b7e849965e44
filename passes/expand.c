/* expand: composites become what graph/rules says they mean, until only primitives are left.
 *
 *     %1: f32[4] = relu %0        →        %1: f32[4] = constant splat 0
 *                                          %2: f32[4] = max %0, %1
 */
#include "passes/rewrite.h"

/* A rule may use composites; each sweep peels one level, so the depth of rules bounds the sweeps.
 */
#define MAX_LEVELS 16

static kiln_value expand_node(kiln_rewrite *rewrite, uint32_t id, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_COMPOSITE) return kiln_rewrite_copy(rewrite, node);
    kiln_scope *scope = rewrite->pipeline->scope;
    kiln_value *inputs = kiln_new_array(&scope->arena, kiln_value, node->n_inputs + 1);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = rewrite->map[node->inputs[i].id];
    return kiln_expand_rules[node->op](rewrite->graph, inputs, node->n_inputs, node->attrs);
}

static bool has_composite(kiln_scope *scope, const kiln_graph *graph)
{
    bool *is_live = kiln_live_nodes(scope, graph);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (is_live[id] && kiln_node_row(graph->nodes.at[id])->class_ == KILN_COMPOSITE)
            return true;
    }
    return false;
}

kiln_graph *kiln_pass_expand(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    kiln_graph *expanded = kiln_rewrite_graph(pipeline, graph, expand_node, NULL);
    for (int level = 1; has_composite(pipeline->scope, expanded); level++) {
        if (level == MAX_LEVELS) {
            kiln_fail(pipeline->scope, KILN_INTERNAL, "expand: composites are left after %d levels",
                      level);
        }
        expanded = kiln_rewrite_graph(pipeline, expanded, expand_node, NULL);
    }
    return expanded;
}
