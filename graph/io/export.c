/* ONNX export, the driver: a graph -> nodes and initializers by name -> a model file, into which
 * weights are streamed from where they are, or beside which they stand in a SafeTensors file. */
#include "graph/io/export.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/context.h"
#include "base/hash.h"
#include "graph/describe.h"

/* Names */

static bool is_taken(const kiln_export *export, const char *name)
{
    uint64_t hash = kiln_name_hash(name);
    for (uint32_t at = kiln_slots_first(&export->slots, hash), i;
         (i = kiln_slots_next(&export->slots, hash, &at));) {
        if (strcmp(export->names.at[i - 1], name) == 0) return true;
    }
    return *name == 0;
}

/* The name itself where it is free, else with a number. */
static const char *take_name(kiln_export *export, const char *wanted)
{
    const char *name = wanted;
    for (uint32_t i = 1; is_taken(export, name); i++)
        name = kiln_arena_format(export->arena, "%s_%u", wanted, i);
    kiln_slots_reserve(&export->slots, export->arena);
    kiln_vec_push(&export->names, export->arena, name);
    kiln_slots_insert(&export->slots, kiln_name_hash(name), export->names.n);
    return name;
}

const char *kiln_export_fresh(kiln_export *export)
{
    return take_name(export, kiln_arena_format(export->arena, "v%u", export->n_names++));
}

/* Nodes */

kiln_wire kiln_export_attrs(kiln_export_call *call)
{
    return kiln_wire_new(call->export->arena);
}

enum { ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_STRING = 3, ATTRIBUTE_INTS = 7 };

static kiln_wire attr_begin(kiln_wire *attrs, const char *name)
{
    kiln_wire attr = kiln_wire_new(attrs->text.arena);
    kiln_wire_string(&attr, 1, name);
    return attr;
}

static void attr_end(kiln_wire *attrs, kiln_wire *attr, int kind)
{
    kiln_wire_int(attr, 20, kind);
    kiln_wire_message(attrs, 5, attr);
}

void kiln_export_attr_int(kiln_wire *attrs, const char *name, int64_t value)
{
    kiln_wire attr = attr_begin(attrs, name);
    kiln_wire_int(&attr, 3, value);
    attr_end(attrs, &attr, ATTRIBUTE_INT);
}

void kiln_export_attr_float(kiln_wire *attrs, const char *name, double value)
{
    kiln_wire attr = attr_begin(attrs, name);
    kiln_wire_float(&attr, 2, (float)value);
    attr_end(attrs, &attr, ATTRIBUTE_FLOAT);
}

void kiln_export_attr_string(kiln_wire *attrs, const char *name, const char *value)
{
    kiln_wire attr = attr_begin(attrs, name);
    kiln_wire_string(&attr, 4, value);
    attr_end(attrs, &attr, ATTRIBUTE_STRING);
}

void kiln_export_attr_ints(kiln_wire *attrs, const char *name, kiln_ints values)
{
    kiln_wire attr = attr_begin(attrs, name);
    for (uint32_t i = 0; i < values.n; i++) kiln_wire_int(&attr, 8, values.at[i]);
    attr_end(attrs, &attr, ATTRIBUTE_INTS);
}

static void emit_named(kiln_export *export, const char *op, const char *output, const char *input)
{
    kiln_wire node = kiln_wire_new(export->arena);
    kiln_wire_string(&node, 1, input);
    kiln_wire_string(&node, 2, output);
    kiln_wire_string(&node, 4, op);
    kiln_wire_message(&export->nodes, 1, &node);
}

/* A name is the label and the output, because names of nodes must be distinct. */
static void node_put(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                     kiln_wire *names)
{
    kiln_export *export = call->export;
    if (call->node->label)
        kiln_wire_string(names, 3,
                         kiln_arena_format(export->arena, "%s/%s", call->node->label,
                                           export->names.at[export->names.n - 1]));
    kiln_wire_string(names, 4, op);
    if (attrs) kiln_wire_append(names, attrs);
    kiln_wire_message(&call->export->nodes, 1, names);
}

const char *kiln_export_emit_list(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                  uint32_t n, const char *const *inputs)
{
    const char *output = kiln_export_fresh(call->export);
    kiln_wire names = kiln_wire_new(call->export->arena);
    for (uint32_t i = 0; i < n; i++) kiln_wire_string(&names, 1, inputs[i]);
    kiln_wire_string(&names, 2, output);
    node_put(call, op, attrs, &names);
    return output;
}

const char *kiln_export_emit_two(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                 const char *const inputs[2], const char **out_second)
{
    const char *first = kiln_export_fresh(call->export);
    kiln_wire names = kiln_wire_new(call->export->arena);
    *out_second = kiln_export_fresh(call->export);
    for (uint32_t i = 0; i < 2; i++) kiln_wire_string(&names, 1, inputs[i]);
    kiln_wire_string(&names, 2, first);
    kiln_wire_string(&names, 2, *out_second);
    node_put(call, op, attrs, &names);
    return first;
}

const char **kiln_export_emit_many(kiln_export_call *call, const char *op, const kiln_wire *attrs,
                                   uint32_t n, const char *const *inputs)
{
    uint32_t n_outputs = call->type->n_items;
    const char **outputs = kiln_new_array(call->export->arena, const char *, n_outputs + 1u);
    kiln_wire names = kiln_wire_new(call->export->arena);
    for (uint32_t i = 0; i < n; i++) kiln_wire_string(&names, 1, inputs[i]);
    for (uint32_t i = 0; i < n_outputs; i++) {
        outputs[i] = kiln_export_fresh(call->export);
        kiln_wire_string(&names, 2, outputs[i]);
    }
    node_put(call, op, attrs, &names);
    return outputs;
}

/* Constants */

static kiln_wire tensor_begin(kiln_export *export, const kiln_type *type, const char *name)
{
    kiln_wire tensor = kiln_wire_new(export->arena);
    for (uint32_t i = 0; i < type->rank; i++) kiln_wire_int(&tensor, 1, type->dims[i]);
    kiln_wire_int(&tensor, 2, kiln_onnx_number(type->dtype));
    kiln_wire_string(&tensor, 8, name);
    return tensor;
}

static void entry_put(kiln_wire *tensor, const char *key, const char *value)
{
    kiln_wire entry = kiln_wire_new(tensor->text.arena);
    kiln_wire_string(&entry, 1, key);
    kiln_wire_string(&entry, 2, value);
    kiln_wire_message(tensor, 13, &entry);
}

static const char *literal_put(kiln_export *export, const kiln_node *node)
{
    kiln_arena *arena = export->arena;
    const char *name = take_name(
        export, node->label ? node->label : kiln_arena_format(arena, "constant_%u", node->id));
    kiln_wire tensor = tensor_begin(export, node->type, name);
    int64_t at = export->external[node->id];
    if (at) {
        entry_put(&tensor, "location", export->weights);
        entry_put(&tensor, "offset", kiln_arena_format(arena, "%lld", (long long)at));
        entry_put(&tensor, "length",
                  kiln_arena_format(arena, "%lld", (long long)node->type->bytes));
        kiln_wire_int(&tensor, 14, 1);
    } else {
        kiln_wire_literal(&tensor, 9, node->type, &node->attrs->literal.value);
    }
    kiln_wire_message(&export->initializers, 5, &tensor);
    return name;
}

const char *kiln_export_constant(kiln_export_call *call, const kiln_type *type, const void *data)
{
    kiln_export *export = call->export;
    const char *name = kiln_export_fresh(export);
    kiln_wire tensor = tensor_begin(export, type, name);
    kiln_wire_bytes(&tensor, 9, data, (size_t)type->bytes);
    kiln_wire_message(&export->initializers, 5, &tensor);
    return name;
}

const char *kiln_export_ints(kiln_export_call *call, kiln_ints values)
{
    const int64_t dims[1] = {values.n};
    const kiln_type type = {KILN_i64, 1, dims, values.n, 8 * (int64_t)values.n, 0, NULL};
    return kiln_export_constant(call, &type, values.at);
}

const char *kiln_export_scalar(kiln_export_call *call, kiln_dtype dtype, double value)
{
    char element[16] = {0};
    const kiln_type type = {dtype, 0, NULL, 1, (int64_t)kiln_dtype_bytes(dtype), 0, NULL};
    kiln_element_from_double(dtype, value, element);
    return kiln_export_constant(call, &type, element);
}

/* A splat is one element, which a broadcast stretches. */
const char *kiln_export_constant_node(kiln_export_call *call)
{
    const kiln_literal *literal = &call->node->attrs->literal.value;
    if (literal->kind != KILN_LITERAL_SPLAT || call->type->rank == 0)
        return literal_put(call->export, call->node);
    kiln_dtype dtype = call->type->dtype;
    const kiln_type type = {dtype, 0, NULL, 1, (int64_t)kiln_dtype_bytes(dtype), 0, NULL};
    kiln_export_set_small(call, kiln_export_constant(call, &type, literal->data), 0, NULL);
    return NULL;
}

/* Refusals */

_Noreturn void kiln_export_refuse(kiln_export_call *call, const char *format, ...)
{
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    kiln_scope *scope = call->export->scope;
    kiln_fail(scope, KILN_UNSUPPORTED, "%s: %s",
              kiln_node_string(&scope->arena, call->export->graph,
                               (kiln_value){call->node->id, call->export->graph->id}),
              reason);
}

const char *kiln_export_none(kiln_export_call *call)
{
    kiln_export_refuse(call, "no operator of ONNX; expected one");
}

static void node_export(kiln_export *export, const kiln_node *node)
{
    kiln_export_call call = {export, node, node->type, &kiln_export_rows[node->op]};
    if (!call.row->export) kiln_export_none(&call);
    if (call.row->opset > export->opset) export->opset = call.row->opset;
    call.own = node->n_inputs ? kiln_export_type(&call, 0)->dtype : node->type->dtype;
    call.dtype = kiln_export_wide_dtype(&call);
    bool is_complex = kiln_dtype_kind_of(call.own) == KILN_DTYPE_KIND_COMPLEX;
    if (is_complex && call.row->wide & KILN_EXPORT_NARROW)
        kiln_export_refuse(&call, "arithmetic of %s, which ONNX can only move",
                           kiln_dtype_name(call.own));
    const char *name = call.row->export(&call);
    if (!name) return;
    export->values[node->id].full = kiln_export_bring_back(&call, name);
}

/* What outputs need: a value needed only by a check is left out with it. */
static bool *find_needed(kiln_arena *arena, const kiln_graph *graph)
{
    bool *is_needed = kiln_new_array(arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) is_needed[graph->outputs.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n - 1; id > 0; id--) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; is_needed[id] && i < node->n_inputs; i++)
            is_needed[node->inputs[i].id] = true;
    }
    return is_needed;
}

const char **kiln_export_region(kiln_export_call *call, const kiln_graph *region,
                                const char *const *args, kiln_wire *nodes)
{
    kiln_export *export = call->export;
    const kiln_graph *graph = kiln_export_expand(export->region_scope, region);
    kiln_export *sub = kiln_new(export->arena, kiln_export);
    const char **results = kiln_new_array(export->arena, const char *, graph->outputs.n + 1);
    const bool *is_needed = find_needed(export->arena, graph);
    *sub = *export;
    sub->graph = graph;
    sub->nodes = *nodes;
    sub->values = kiln_new_array(export->arena, kiln_export_value, graph->nodes.n);
    sub->external = kiln_new_array(export->arena, int64_t, graph->nodes.n);
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        sub->values[graph->inputs.at[i].id].full = args[i];
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (is_needed[id] && node->op != KILN_OP_input) node_export(sub, node);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        kiln_value value = graph->outputs.at[i].value;
        kiln_node user = {.inputs = &value, .n_inputs = 1};
        kiln_export_call inner = {sub, &user, kiln_graph_type(graph, value), NULL, 0, 0};
        results[i] = kiln_export_operand(&inner, 0);
    }
    *nodes = sub->nodes;
    export->initializers = sub->initializers;
    export->names.at = sub->names.at;
    export->names.n = sub->names.n;
    export->names.capacity = sub->names.capacity;
    export->slots = sub->slots;
    export->n_names = sub->n_names;
    export->opset = sub->opset;
    return results;
}

/* One node at a time, so that one export reports all that it cannot do. */
static void node_try(kiln_export *export, const kiln_node *node)
{
    kiln_error *error = kiln_new(export->arena, kiln_error);
    kiln_scope *outer = export->scope;
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    export->scope = export->arena->scope = &scope;
    if (kiln_scope_try(&scope)) node_export(export, node);
    export->scope = export->arena->scope = outer;
    kiln_status status = kiln_scope_close(&scope);
    if (status == KILN_OK) return;
    if (status != KILN_UNSUPPORTED) kiln_fail_with(outer, error);
    kiln_vec_push(&export->refused, export->arena,
                  kiln_arena_string(export->arena, error->message));
    export->values[node->id].full = "refused";
}

static void refused_fail(const kiln_export *export)
{
    kiln_text text = {.arena = export->arena};
    for (uint32_t i = 0; i < export->refused.n; i++)
        kiln_text_printf(&text, "\n  %s", export->refused.at[i]);
    kiln_fail(export->scope, KILN_UNSUPPORTED, "export: %u nodes have no form in ONNX:%s",
              export->refused.n, kiln_text_string(&text));
}

/* The graph */

static kiln_wire port_make(kiln_export *export, const char *name, const kiln_type *type,
                           uint32_t open_axis)
{
    kiln_wire shape = kiln_wire_new(export->arena), tensor = shape, outer = shape, port = shape;
    for (uint32_t i = 0; i < type->rank; i++) {
        kiln_wire dim = kiln_wire_new(export->arena);
        if (i != open_axis) kiln_wire_int(&dim, 1, type->dims[i]);
        kiln_wire_message(&shape, 1, &dim);
    }
    kiln_wire_int(&tensor, 1, kiln_onnx_number(type->dtype));
    kiln_wire_message(&tensor, 2, &shape);
    kiln_wire_message(&outer, 1, &tensor);
    kiln_wire_string(&port, 1, name);
    kiln_wire_message(&port, 2, &outer);
    return port;
}

kiln_wire kiln_export_port(kiln_export *export, const char *name, const kiln_type *type)
{
    return port_make(export, name, type, UINT32_MAX);
}

static void inputs_take(kiln_export *export, kiln_wire *ports)
{
    const kiln_graph *graph = export->graph;
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
        const char *name = take_name(export, node->label);
        kiln_wire port = kiln_export_port(export, name, node->type);
        export->values[node->id].full = name;
        kiln_wire_message(ports, 11, &port);
    }
}

static const char **output_names_take(kiln_export *export)
{
    const kiln_graph *graph = export->graph;
    const char **names = kiln_new_array(export->arena, const char *, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->outputs.n; i++)
        names[i] = take_name(export, graph->outputs.at[i].name);
    return names;
}

/* The front of an output that is counted, in the shape that it has. */
static const char *counted_emit(kiln_export_call *call, const kiln_graph_output *output)
{
    int64_t open = -1, zero = 0;
    kiln_ints one = {1, &open};
    const char *dims[3] = {NULL}, *shape, *flat, *part;
    uint32_t n = 0, axis = output->counted_axis, rank = call->type->rank;
    if (axis) dims[n++] = kiln_export_ints(call, (kiln_ints){axis, call->type->dims});
    dims[n++] = kiln_export_emit(call, "Reshape", NULL, kiln_export_operand(call, 1),
                                 kiln_export_ints(call, one));
    if (axis + 1 < rank)
        dims[n++] =
            kiln_export_ints(call, (kiln_ints){rank - 1 - axis, call->type->dims + axis + 1});
    kiln_wire attrs = kiln_wire_new(call->export->arena), keep = attrs, plain = attrs;
    kiln_export_attr_int(&attrs, "axis", 0);
    kiln_export_attr_int(&keep, "keepdims", 1);
    kiln_export_attr_int(&plain, "allowzero", 1);
    shape = kiln_export_emit_list(call, "Concat", &attrs, n, dims);
    flat = kiln_export_emit(call, "Reshape", NULL, kiln_export_operand(call, 0),
                            kiln_export_ints(call, one));
    part =
        kiln_export_emit(call, "Slice", NULL, flat, kiln_export_ints(call, (kiln_ints){1, &zero}),
                         kiln_export_emit(call, "ReduceProd", &keep, shape));
    return kiln_export_emit(call, "Reshape", &plain, part, shape);
}

static void outputs_put(kiln_export *export, const char *const *names, kiln_wire *ports)
{
    const kiln_graph *graph = export->graph;
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        bool is_counted = output->counted_by != KILN_NOT_COUNTED;
        kiln_value values[2] = {output->value};
        if (is_counted) values[1] = graph->outputs.at[output->counted_by].value;
        kiln_node as_user = {.inputs = values, .n_inputs = 1 + is_counted};
        kiln_export_call call = {export, &as_user, kiln_graph_type(graph, output->value),
                                 NULL,   0,        0};
        const char *value =
            is_counted ? counted_emit(&call, output) : kiln_export_operand(&call, 0);
        emit_named(export, "Identity", names[i], value);
        kiln_wire port =
            port_make(export, names[i], call.type, is_counted ? output->counted_axis : UINT32_MAX);
        kiln_wire_message(ports, 12, &port);
    }
}

static void types_check(kiln_export *export)
{
    for (uint32_t id = 1; id < export->graph->nodes.n; id++) {
        const kiln_node *node = export->graph->nodes.at[id];
        if (!node->type->n_items && kiln_onnx_number(node->type->dtype) == 0)
            kiln_fail(export->scope, KILN_UNSUPPORTED, "export: %s: no dtype of ONNX",
                      kiln_node_string(export->arena, export->graph,
                                       (kiln_value){id, export->graph->id}));
    }
}

/* The fields of a GraphProto. */
static kiln_wire graph_make(kiln_export *export)
{
    const kiln_graph *graph = export->graph;
    kiln_wire ports = kiln_wire_new(export->arena), whole = ports;
    const bool *is_needed = find_needed(export->arena, graph);
    types_check(export);
    inputs_take(export, &ports);
    const char **names = output_names_take(export);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (is_needed[id] && node->op != KILN_OP_input) node_try(export, node);
    }
    if (export->refused.n) refused_fail(export);
    outputs_put(export, names, &ports);
    kiln_wire_append(&whole, &export->nodes);
    kiln_wire_string(&whole, 2, *graph->name ? graph->name : "graph");
    kiln_wire_append(&whole, &export->initializers);
    kiln_wire_append(&whole, &ports);
    return whole;
}

/* IR versions by operator set, from 18 on. */
static int64_t ir_version(int64_t opset)
{
    static const uint8_t versions[] = {8, 9, 9, 10, 10, 11, 12, 13, 13, 13, 14};
    return versions[opset - KILN_EXPORT_OPSET];
}

kiln_wire kiln_export_model(kiln_scope *scope, const kiln_graph *graph, const char *weights,
                            int64_t *external)
{
    kiln_export *export = kiln_new(&scope->arena, kiln_export);
    *export = (kiln_export){.scope = scope,
                            .arena = &scope->arena,
                            .graph = graph,
                            .external = external,
                            .weights = weights,
                            .opset = KILN_EXPORT_OPSET,
                            .region_scope = scope};
    export->nodes = export->initializers = kiln_wire_new(export->arena);
    export->values = kiln_new_array(export->arena, kiln_export_value, graph->nodes.n);
    kiln_wire body = graph_make(export), opset = kiln_wire_new(export->arena), model = opset;
    kiln_wire_string(&opset, 1, "");
    kiln_wire_int(&opset, 2, export->opset);
    kiln_wire_int(&model, 1, ir_version(export->opset));
    kiln_wire_string(&model, 2, "kiln");
    kiln_wire_string(&model, 3, KILN_VERSION);
    kiln_wire_message(&model, 7, &body);
    kiln_wire_message(&model, 8, &opset);
    return model;
}
