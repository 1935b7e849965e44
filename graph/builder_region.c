/* The public builder of regions: finishes the graphs that become regions and gathers operands in
 * the order of the op: what chooses, carried values, sequences, fixed values. */
#include "graph/builder.h"
#include "graph/describe.h"

#define TRIPS_STANDARD INT32_MAX

/* A node's operands and regions while they are gathered. */
typedef struct region_node {
    kiln_graph *graph;
    kiln_op op;
    kiln_vec(kiln_value) inputs;
    kiln_vec(const kiln_graph *) regions;
} region_node;

static const char *node_name(const region_node *node)
{
    return kiln_op_rows[node->op].name;
}

static void add_region(region_node *node, kiln_graph *region)
{
    kiln_graph *graph = node->graph;
    if (!region || region == graph || region->context != graph->context) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "%s: region %u is %s; expected a graph of its own in the same context",
                  node_name(node), node->regions.n,
                  !region           ? "NULL"
                  : region == graph ? "the graph itself"
                                    : "of another context");
    }
    kiln_region_close(graph->scope, region);
    kiln_vec_push(&node->regions, &graph->scope->arena, region);
}

static void add_values(region_node *node, const char *what, uint32_t n, const kiln_value *values)
{
    kiln_graph *graph = node->graph;
    if (n && !values) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: %s is NULL; expected %u values",
                  node_name(node), what, n);
    }
    for (uint32_t i = 0; i < n; i++)
        kiln_vec_push(&node->inputs, &graph->scope->arena, values[i]);
}

static void add_arguments(region_node *node, const kiln_arguments *arguments)
{
    if (arguments) add_values(node, "arguments", arguments->n, arguments->values);
}

static kiln_regions regions_of(const region_node *node)
{
    return (kiln_regions){node->regions.n, node->regions.at};
}

static kiln_value finish(region_node *node, const kiln_attrs *attrs)
{
    kiln_node_spec spec = {node->op, NULL, node->inputs.at, node->inputs.n, attrs, NULL};
    return kiln_graph_add(node->graph, &spec);
}

static kiln_value item_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_item, .item = {request->axis}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_item(kiln_graph *graph, kiln_value tuple, uint32_t index)
{
    kiln_request request = {KILN_OP_item, .inputs = {tuple}, .n = 1, .axis = index};
    return kiln_build(graph, item_body, &request);
}

/* call, if and case: request->data are the regions, request->n how many. */
static kiln_value choice_body(kiln_graph *graph, const kiln_request *request)
{
    region_node node = {.graph = graph, .op = request->op};
    kiln_graph *const *regions = request->data;
    if (!regions) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: regions is NULL; expected %u graphs",
                  node_name(&node), request->n);
    }
    for (uint32_t i = 0; i < request->n; i++) add_region(&node, regions[i]);
    if (request->op != KILN_OP_call) add_values(&node, "the choice", 1, request->inputs);
    add_arguments(&node, request->options);
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {regions_of(&node)}};
    return finish(&node, &attrs);
}

kiln_value kiln_call(kiln_graph *graph, kiln_graph *region, const kiln_arguments *arguments)
{
    kiln_request request = {KILN_OP_call, .data = &region, .n = 1, .options = arguments};
    return kiln_build(graph, choice_body, &request);
}

kiln_value kiln_if(kiln_graph *graph, kiln_value condition, kiln_graph *if_true,
                   kiln_graph *if_false, const kiln_arguments *arguments)
{
    kiln_graph *regions[] = {if_true, if_false};
    kiln_request request = {KILN_OP_if, .inputs = {condition}, .data = regions, .n = 2,
                            .options = arguments};
    return kiln_build(graph, choice_body, &request);
}

kiln_value kiln_case(kiln_graph *graph, kiln_value index, uint32_t n_regions,
                     kiln_graph *const *regions, const kiln_arguments *arguments)
{
    kiln_request request = {KILN_OP_case, .inputs = {index}, .data = regions, .n = n_regions,
                            .options = arguments};
    return kiln_build(graph, choice_body, &request);
}

static kiln_value while_body(kiln_graph *graph, const kiln_request *request)
{
    region_node node = {.graph = graph, .op = KILN_OP_while};
    const kiln_while_options *options = request->options;
    if (!options) kiln_fail(graph->scope, KILN_INVALID, "while: options is NULL");
    add_region(&node, options->condition);
    add_region(&node, options->body);
    add_values(&node, "carried", options->n_carried, options->carried);
    add_values(&node, "fixed", options->n_fixed, options->fixed);
    int64_t limit = options->limit ? options->limit : TRIPS_STANDARD;
    kiln_attrs attrs = {KILN_FAMILY_loop,
                        .loop = {options->n_carried, limit, regions_of(&node)}};
    return finish(&node, &attrs);
}

kiln_value kiln_while(kiln_graph *graph, const kiln_while_options *options)
{
    return kiln_build(graph, while_body, &(kiln_request){KILN_OP_while, .options = options});
}

static kiln_value scan_body(kiln_graph *graph, const kiln_request *request)
{
    region_node node = {.graph = graph, .op = KILN_OP_scan};
    const kiln_scan_options *options = request->options;
    if (!options) kiln_fail(graph->scope, KILN_INVALID, "scan: options is NULL");
    add_region(&node, options->body);
    add_values(&node, "carried", options->n_carried, options->carried);
    add_values(&node, "sequences", options->n_sequences, options->sequences);
    add_values(&node, "fixed", options->n_fixed, options->fixed);
    kiln_attrs attrs = {KILN_FAMILY_scan,
                        .scan = {options->n_carried, options->n_sequences, options->length,
                                 regions_of(&node)}};
    return finish(&node, &attrs);
}

kiln_value kiln_scan(kiln_graph *graph, const kiln_scan_options *options)
{
    return kiln_build(graph, scan_body, &(kiln_request){KILN_OP_scan, .options = options});
}

/* request->rank results of the types in request->data. */
static kiln_value custom_body(kiln_graph *graph, const kiln_request *request)
{
    region_node node = {.graph = graph, .op = request->op};
    const kiln_tensor *results = request->data;
    if (!request->name || !request->rank || !results) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "custom_call: the target is %s, %u results%s; expected a name and results",
                  request->name ? kiln_quoted(&graph->scope->arena, request->name) : "NULL",
                  request->rank, results ? "" : " at NULL");
    }
    const kiln_type **items =
        kiln_new_array(&graph->scope->arena, const kiln_type *, request->rank);
    for (uint32_t i = 0; i < request->rank; i++)
        items[i] = kiln_graph_tensor(graph, results[i].dtype, results[i].rank, results[i].dims);
    add_arguments(&node, request->options);
    kiln_attrs attrs = {KILN_FAMILY_custom, .custom = {request->name}};
    kiln_node_spec spec = {node.op, kiln_graph_tuple(graph, request->rank, items),
                           node.inputs.at, node.inputs.n, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

kiln_value kiln_custom_call(kiln_graph *graph, const char *target, const kiln_arguments *arguments,
                            uint32_t n_results, const kiln_tensor *results)
{
    kiln_request request = {KILN_OP_custom_call, .name = target, .options = arguments,
                            .rank = n_results, .data = results};
    return kiln_build(graph, custom_body, &request);
}
