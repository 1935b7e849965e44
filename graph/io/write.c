/* Writing a model: constants that do not stand in the model go first, to a SafeTensors file of the
 * same folder; both files get their names when both are complete. */
#include "graph/io/write.h"

#include <libgen.h>

#include "graph/describe.h"
#include "graph/io/safetensors.h"

static bool is_weight(const kiln_node *node, int64_t least)
{
    return node->op == KILN_OP_constant && node->type->bytes >= least &&
           node->attrs->literal.value.kind != KILN_LITERAL_SPLAT;
}

int64_t kiln_weights_bytes(const kiln_graph *graph, int64_t least)
{
    int64_t sum = 0;
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (is_weight(node, least) && __builtin_add_overflow(sum, node->type->bytes, &sum))
            return INT64_MAX;
    }
    return sum;
}

static const char *default_name(kiln_scope *scope, const char *path)
{
    char *name = basename(kiln_arena_string(&scope->arena, path));
    char *dot = strrchr(name, '.');
    if (dot && dot != name) *dot = 0;
    return kiln_arena_format(&scope->arena, "%s.safetensors", name);
}

void kiln_weights_place(kiln_weights_plan *plan, const kiln_graph *graph)
{
    kiln_scope *scope = plan->scope;
    plan->offsets = kiln_new_array(&scope->arena, int64_t, graph->nodes.n);
    if (plan->is_needed && !plan->name) plan->name = default_name(scope, plan->path);
    if (!plan->name) return;
    if (!kiln_path_is_inside(plan->name))
        kiln_fail(scope, KILN_INVALID,
                  "weights: path %s leaves the model's folder; expected a relative path in it",
                  kiln_quoted(&scope->arena, plan->name));
    const char *folder = dirname(kiln_arena_string(&scope->arena, plan->path));
    const char *whole = kiln_arena_format(&scope->arena, "%s/%s", folder, plan->name);
    kiln_weight *weights;
    uint32_t n = kiln_weights_collect(scope, graph, plan->least, &weights);
    plan->sink = kiln_weights_write(scope, whole, weights, n);
    for (uint32_t i = 0; i < n; i++) plan->offsets[weights[i].id] = weights[i].offset;
}

void kiln_weights_commit(kiln_weights_plan *plan)
{
    if (plan->sink) kiln_sink_commit(plan->sink);
}

static void run_body(kiln_weights_plan *plan, const kiln_graph *graph,
                     const kiln_write_options *options, kiln_write_fn *body)
{
    if (!plan->path)
        kiln_fail(plan->scope, KILN_INVALID, "write: path is NULL; expected that of a file");
    if (options && options->struct_bytes != sizeof *options)
        kiln_fail(plan->scope, KILN_INVALID, "write options: struct_bytes is %zu; expected %zu",
                  options->struct_bytes, sizeof *options);
    if (options) plan->name = options->weights;
    if (graph->outputs.n == 0)
        kiln_fail(plan->scope, KILN_INVALID, "write: the graph has no outputs; expected one");
    body(plan, graph);
}

kiln_status kiln_write_model(const kiln_graph *graph, const char *path,
                             const kiln_write_options *options, kiln_write_fn *body)
{
    if (!graph) return KILN_INVALID;
    if (graph->error.status != KILN_OK) return graph->error.status;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_weights_plan *plan = kiln_new(&scope.arena, kiln_weights_plan);
        *plan = (kiln_weights_plan){.scope = &scope, .path = path};
        run_body(plan, graph, options, body);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) kiln_graph_set_message(graph, &error);
    return status;
}
