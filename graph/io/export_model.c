/* ONNX files out: composites without an operator of their own are expanded, then the model is
 * built and written. */
#include "graph/io/export_model.h"

#include "graph/io/export.h"
#include "graph/io/write.h"

/* ONNX files end at 2 GiB, less a reserve for everything but weights. */
#define ONNX_WEIGHTS_MAX (((int64_t)1 << 31) - ((int64_t)64 << 20))
#define WEIGHT_BYTES_LEAST 1024 /* smaller constants stay in the model */

/* Expanding */

static bool is_expanded(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_export_row *row = &kiln_export_rows[node->op];
    if (kiln_node_row(node)->class_ != KILN_COMPOSITE) return false;
    return !row->export || (row->fits && !row->fits(graph, node));
}

static bool has_expanded(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (is_expanded(graph, graph->nodes.at[id])) return true;
    }
    return false;
}

static kiln_value node_expand(kiln_graph *to, const kiln_node *node, const kiln_value *map)
{
    kiln_value *inputs = kiln_new_array(&to->scope->arena, kiln_value, node->n_inputs + 1u);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = map[node->inputs[i].id];
    return kiln_expand_rules[node->op](to, inputs, node->n_inputs, node->attrs);
}

static kiln_graph *expand_once(kiln_scope *scope, const kiln_graph *graph)
{
    kiln_graph *to = kiln_graph_open(scope, graph->context, graph->name);
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        map[id] = is_expanded(graph, node) ? node_expand(to, node, map)
                                           : kiln_graph_copy(to, graph, node, map);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        kiln_copy_output(to, map[graph->outputs.at[i].value.id], &graph->outputs.at[i]);
    return to;
}

/* An expansion may hold composites itself, each simpler than the one before. */
const kiln_graph *kiln_export_expand(kiln_scope *scope, const kiln_graph *graph)
{
    for (int sweep = 0; sweep < 16 && has_expanded(graph); sweep++)
        graph = expand_once(scope, graph);
    return graph;
}

/* Writing */

static void write_onnx(kiln_weights_plan *plan, const kiln_graph *given)
{
    const kiln_graph *graph = kiln_export_expand(plan->scope, given);
    plan->least = WEIGHT_BYTES_LEAST;
    plan->is_needed = kiln_weights_bytes(graph, 0) > ONNX_WEIGHTS_MAX;
    kiln_sink *sink = kiln_sink_open(plan->scope, plan->path);
    kiln_weights_place(plan, graph);
    kiln_wire model = kiln_export_model(plan->scope, graph, plan->name, plan->offsets);
    if (kiln_wire_size(&model) > INT32_MAX)
        kiln_fail(plan->scope, KILN_LIMIT, "export: a model of %lld bytes; expected below 2 GiB",
                  (long long)kiln_wire_size(&model));
    kiln_wire_write(&model, sink);
    kiln_weights_commit(plan);
    kiln_sink_commit(sink);
}

kiln_status kiln_export_onnx(const kiln_graph *graph, const char *path,
                             const kiln_write_options *options)
{
    return kiln_write_model(graph, path, options, write_onnx);
}
