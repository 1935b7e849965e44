/* ONNX export of regions: a call in its place, If and Loop with subgraphs. A subgraph of ONNX sees
 * the names around it, so what a region is passed needs no ports of its own but for what goes
 * around a loop. */
#include "graph/attrs.h"
#include "graph/io/export.h"

enum { ATTRIBUTE_GRAPH = 5 };

/* A subgraph under construction. */
typedef struct region_body {
    kiln_export_call *call;
    kiln_wire nodes, inputs, outputs; /* fields of its GraphProto */
} region_body;

static region_body body_new(kiln_export_call *call)
{
    kiln_wire empty = kiln_export_attrs(call);
    return (region_body){call, empty, empty, empty};
}

static const char *body_input(region_body *body, const kiln_type *type)
{
    const char *name = kiln_export_fresh(body->call->export);
    kiln_wire port = kiln_export_port(body->call->export, name, type);
    kiln_wire_message(&body->inputs, 11, &port);
    return name;
}

/* An output has a name of its own that a node of the subgraph makes. */
static void body_output(region_body *body, const char *name, const kiln_type *type)
{
    kiln_export *export = body->call->export;
    const char *own = kiln_export_fresh(export);
    kiln_wire port = kiln_export_port(export, own, type), node = kiln_export_attrs(body->call);
    kiln_wire_string(&node, 1, name);
    kiln_wire_string(&node, 2, own);
    kiln_wire_string(&node, 4, "Identity");
    kiln_wire_message(&body->nodes, 1, &node);
    kiln_wire_message(&body->outputs, 12, &port);
}

static void attr_body(kiln_wire *attrs, const char *name, region_body *body)
{
    kiln_wire graph = body->nodes, attr = kiln_export_attrs(body->call);
    kiln_wire_string(&graph, 2, name);
    kiln_wire_append(&graph, &body->inputs);
    kiln_wire_append(&graph, &body->outputs);
    kiln_wire_string(&attr, 1, name);
    kiln_wire_message(&attr, 6, &graph);
    kiln_wire_int(&attr, 20, ATTRIBUTE_GRAPH);
    kiln_wire_message(attrs, 5, &attr);
}

static const char **operands(kiln_export_call *call, uint32_t from)
{
    const char **names =
        kiln_new_array(call->export->arena, const char *, call->node->n_inputs + 1);
    for (uint32_t i = from; i < call->node->n_inputs; i++)
        names[i - from] = kiln_export_operand(call, i);
    return names;
}

static void set_items(kiln_export_call *call, const char *const *names)
{
    call->export->values[call->node->id].items = names;
}

static const kiln_graph *region_of(const kiln_export_call *call, uint32_t i)
{
    return kiln_attrs_regions(call->node->attrs).at[i];
}

const char *kiln_export_item(kiln_export_call *call)
{
    const char *const *items = call->export->values[call->node->inputs[0].id].items;
    return items ? items[call->node->attrs->item.index] : "refused";
}

const char *kiln_export_call_region(kiln_export_call *call)
{
    set_items(call, kiln_export_region(call, region_of(call, 0), operands(call, 0),
                                       &call->export->nodes));
    return NULL;
}

const char *kiln_export_if(kiln_export_call *call)
{
    static const char *const names[2] = {"then_branch", "else_branch"};
    kiln_wire attrs = kiln_export_attrs(call);
    const char *condition = kiln_export_operand(call, 0);
    const char **args = operands(call, 1);
    for (uint32_t i = 0; i < 2; i++) {
        region_body body = body_new(call);
        const char **results = kiln_export_region(call, region_of(call, i), args, &body.nodes);
        for (uint32_t k = 0; k < call->type->n_items; k++)
            body_output(&body, results[k], call->type->items[k]);
        attr_body(&attrs, names[i], &body);
    }
    set_items(call, kiln_export_emit_many(call, "If", &attrs, 1, &condition));
    return NULL;
}

/* Loop's operands are count, condition and what goes around; its body's ports the trip's number,
 * the condition and the same. */
static void emit_loop(kiln_export_call *call, kiln_wire *attrs, const char *const *head,
                      uint32_t n_carried)
{
    const char **inputs = kiln_new_array(call->export->arena, const char *, n_carried + 2);
    const char **args = operands(call, 0);
    inputs[0] = head[0];
    inputs[1] = head[1];
    for (uint32_t i = 0; i < n_carried; i++) inputs[2 + i] = args[i];
    set_items(call, kiln_export_emit_many(call, "Loop", attrs, n_carried + 2, inputs));
}

const char *kiln_export_while(kiln_export_call *call)
{
    static const kiln_type scalar = {KILN_i64, 0, NULL, 1, 8, 0, NULL},
                           truth = {KILN_bool, 0, NULL, 1, 1, 0, NULL};
    uint32_t n = (uint32_t)call->node->attrs->loop.n_carried;
    const char **args = operands(call, 0);
    const char *head[2] = {
        "", kiln_export_region(call, region_of(call, 0), args, &call->export->nodes)[0]};
    region_body body = body_new(call);
    body_input(&body, &scalar);
    body_input(&body, &truth);
    for (uint32_t i = 0; i < n; i++) args[i] = body_input(&body, call->type->items[i]);
    const char **results = kiln_export_region(call, region_of(call, 1), args, &body.nodes);
    for (uint32_t i = 0; i < n; i++) args[i] = results[i];
    body_output(&body, kiln_export_region(call, region_of(call, 0), args, &body.nodes)[0], &truth);
    for (uint32_t i = 0; i < n; i++) body_output(&body, results[i], call->type->items[i]);
    kiln_wire attrs = kiln_export_attrs(call);
    attr_body(&attrs, "body", &body);
    emit_loop(call, &attrs, head, n);
    return NULL;
}

/* Of no trips: what is carried stays, and what is stacked is empty. */
static void set_no_trips(kiln_export_call *call, uint32_t n_carried)
{
    const char **names = operands(call, 0);
    const char **items = kiln_new_array(call->export->arena, const char *, call->type->n_items + 1);
    for (uint32_t i = 0; i < call->type->n_items; i++)
        items[i] = i < n_carried ? names[i] : kiln_export_constant(call, call->type->items[i], "");
    set_items(call, items);
}

/* A loop of a known length; a slice of a sequence is taken at the trip's number. */
const char *kiln_export_scan(kiln_export_call *call)
{
    static const kiln_type scalar = {KILN_i64, 0, NULL, 1, 8, 0, NULL},
                           truth = {KILN_bool, 0, NULL, 1, 1, 0, NULL};
    const kiln_attrs *given = call->node->attrs;
    const kiln_graph *region = region_of(call, 0);
    uint32_t n = (uint32_t)given->scan.n_carried, n_slices = (uint32_t)given->scan.n_slices;
    if (given->scan.length == 0) {
        set_no_trips(call, n);
        return NULL;
    }
    const char **args = operands(call, 0);
    const char *head[2] = {kiln_export_scalar(call, KILN_i64, (double)given->scan.length), ""};
    region_body body = body_new(call);
    const char *trip = body_input(&body, &scalar), *go = body_input(&body, &truth);
    for (uint32_t i = 0; i < n; i++) args[i] = body_input(&body, call->type->items[i]);
    kiln_wire outer = call->export->nodes;
    call->export->nodes = body.nodes;
    for (uint32_t i = n; i < n + n_slices; i++)
        args[i] = kiln_export_emit(call, "Gather", NULL, args[i], trip);
    body.nodes = call->export->nodes;
    call->export->nodes = outer;
    const char **results = kiln_export_region(call, region, args, &body.nodes);
    body_output(&body, go, &truth);
    for (uint32_t i = 0; i < call->type->n_items; i++) {
        kiln_value value = region->outputs.at[i].value;
        body_output(&body, results[i], kiln_graph_type(region, value));
    }
    kiln_wire attrs = kiln_export_attrs(call);
    attr_body(&attrs, "body", &body);
    emit_loop(call, &attrs, head, n);
    return NULL;
}
