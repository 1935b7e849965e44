/* The public builder: graphs, inputs, outputs, constants and elementwise operations. Each call
 * opens a scope on the graph's error, so that the first mistake stays and later calls do
 * nothing. */
#include "graph/builder.h"

#include <string.h>

#include "base/context.h"
#include "graph/describe.h"
#include "graph/element.h"

/* Entry */

kiln_value kiln_build(kiln_graph *graph, kiln_build_fn *body, const kiln_request *request)
{
    if (!graph || graph->error.status != KILN_OK) return (kiln_value){0, 0};
    volatile kiln_value value = {0, 0};
    kiln_scope scope;
    kiln_scope_open(&scope, &graph->error);
    kiln_graph_attach(graph, &scope);
    if (kiln_scope_try(&scope)) {
        kiln_value made = body(graph, request);
        value.id = made.id;
        value.graph = made.graph;
    }
    kiln_graph_attach(graph, NULL);
    kiln_status status = kiln_scope_close(&scope);
    return status == KILN_OK ? (kiln_value){value.id, value.graph} : (kiln_value){0, 0};
}

static const char *request_name(const kiln_request *request)
{
    return request->op == KILN_OP_none && request->name ? request->name
                                                        : kiln_op_rows[request->op].name;
}

bool kiln_build_check(kiln_graph *graph, kiln_build_fn *check, const kiln_request *request)
{
    kiln_build(graph, check, request);
    return graph && graph->error.status == KILN_OK;
}

const kiln_type *kiln_build_type(kiln_graph *graph, const kiln_request *request, uint32_t operand)
{
    kiln_value value = request->list ? request->list[operand] : request->inputs[operand];
    if (value.graph != graph->id || value.id == 0 || value.id >= graph->nodes.n) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand %u %s; expected a value of graph %s",
                  request_name(request), operand,
                  value.id == 0 ? "is no value" : "belongs to another graph",
                  kiln_quoted(&graph->scope->arena, graph->name));
    }
    return kiln_graph_type(graph, value);
}

kiln_value kiln_build_node(kiln_graph *graph, const kiln_request *request, const kiln_attrs *attrs)
{
    const kiln_value *inputs = request->list ? request->list : request->inputs;
    kiln_node_spec spec = {request->op, NULL, inputs, request->n, attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

kiln_ints kiln_build_list(kiln_graph *graph, const int64_t *list, uint32_t n, int64_t standard)
{
    if (list) return (kiln_ints){n, list};
    int64_t *filled = kiln_new_array(&graph->scope->arena, int64_t, n);
    for (uint32_t i = 0; i < n; i++) filled[i] = standard;
    return (kiln_ints){n, filled};
}

int64_t kiln_build_axis(kiln_graph *graph, const kiln_request *request, int64_t axis, uint32_t rank)
{
    if (axis < -(int64_t)rank || axis >= rank) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: axis is %lld for rank %u; expected %lld to %lld",
                  request_name(request), (long long)axis, rank, -(long long)rank,
                  (long long)rank - 1);
    }
    return axis < 0 ? axis + rank : axis;
}

kiln_ints kiln_build_axes(kiln_graph *graph, const kiln_request *request, uint32_t rank)
{
    uint32_t n = request->dims || request->rank ? request->rank : rank, set = 0;
    if (request->rank && !request->dims) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: axes is NULL; expected %u entries",
                  request_name(request), n);
    }
    if (n > rank) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: %u axes for rank %u; expected at most as many",
                  request_name(request), n, rank);
    }
    for (uint32_t i = 0; i < n; i++) {
        int64_t axis = request->dims ? kiln_build_axis(graph, request, request->dims[i], rank) : i;
        if (set >> axis & 1) {
            kiln_fail(graph->scope, KILN_INVALID,
                      "%s: axis %lld comes twice; expected distinct axes", request_name(request),
                      (long long)axis);
        }
        set |= 1u << axis;
    }
    int64_t *sorted = kiln_new_array(&graph->scope->arena, int64_t, n);
    for (uint32_t axis = 0, i = 0; axis < rank; axis++) {
        if (set >> axis & 1) sorted[i++] = axis;
    }
    return (kiln_ints){n, sorted};
}

/* Graphs */

kiln_status kiln_graph_create(kiln_context *context, const char *name, kiln_graph **out_graph)
{
    if (!context) return KILN_INVALID;
    if (!out_graph) return kiln_context_fail(context, KILN_INVALID, "graph: out_graph is NULL");
    kiln_error error = {0};
    kiln_graph *volatile graph = NULL;
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        kiln_graph *made = kiln_graph_open(&scope, context, name);
        kiln_scope_keep(&scope, made);
        kiln_graph_attach(made, NULL);
        graph = made;
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) return kiln_context_fail(context, status, "%s", error.message);
    *out_graph = graph;
    return KILN_OK;
}

void kiln_graph_destroy(kiln_graph *graph)
{
    kiln_graph_free(graph);
}

kiln_status kiln_graph_status(const kiln_graph *graph)
{
    return graph ? graph->error.status : KILN_INVALID;
}

const char *kiln_graph_message(const kiln_graph *graph)
{
    if (!graph) return "graph: is NULL; expected a graph";
    return graph->error.status != KILN_OK ? graph->error.message : graph->report.message;
}

void kiln_graph_set_message(const kiln_graph *graph, const kiln_error *error)
{
    /* The one thing about a graph that a call which takes it as const may change. */
    ((kiln_graph *)graph)->report = *error;
}

/* Inputs, outputs, names */

static const kiln_type *request_tensor(kiln_graph *graph, const kiln_request *request)
{
    if (request->rank && !request->dims) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: dims is NULL; expected %u entries",
                  request_name(request), request->rank);
    }
    return kiln_graph_tensor(graph, request->dtype, request->rank, request->dims);
}

static kiln_value input_body(kiln_graph *graph, const kiln_request *request)
{
    return kiln_add_input(graph, request_tensor(graph, request), request->name, request->flag);
}

kiln_value kiln_input(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t rank,
                      const int64_t *dims)
{
    kiln_request request = {KILN_OP_input, .name = name, .dtype = dtype, .rank = rank,
                            .dims = dims};
    return kiln_build(graph, input_body, &request);
}

kiln_value kiln_input_donated(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t rank,
                              const int64_t *dims)
{
    kiln_request request = {KILN_OP_input, .name = name, .dtype = dtype, .rank = rank, .dims = dims,
                            .flag = true};
    return kiln_build(graph, input_body, &request);
}

static kiln_value output_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_add_output(graph, request->inputs[0], request->name);
    return request->inputs[0];
}

void kiln_output(kiln_graph *graph, const char *name, kiln_value value)
{
    kiln_build(graph, output_body, &(kiln_request){.inputs = {value}, .name = name});
}

static kiln_value require_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_add_check(graph, request->inputs[0], request->name);
    return request->inputs[0];
}

void kiln_require_zero(kiln_graph *graph, kiln_value count, const char *sentence)
{
    kiln_build(graph, require_body, &(kiln_request){.inputs = {count}, .name = sentence});
}

static kiln_value label_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_build_type(graph, request, 0);
    kiln_node *node = graph->nodes.at[request->inputs[0].id];
    /* An input's label is its name, by which the caller finds it. */
    if (node->op == KILN_OP_input || !request->name) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "label: %s; expected a text for a node other than an input",
                  request->name ? kiln_quoted(&graph->scope->arena, request->name) : "NULL");
    }
    node->label = kiln_arena_string(&graph->arena, request->name);
    return request->inputs[0];
}

kiln_value kiln_label(kiln_graph *graph, kiln_value value, const char *label)
{
    return kiln_build(graph, label_body, &(kiln_request){.inputs = {value}, .name = label});
}

static const kiln_type *value_type(const kiln_graph *graph, kiln_value value)
{
    if (!graph || value.graph != graph->id || value.id == 0 || value.id >= graph->nodes.n)
        return NULL;
    return kiln_graph_type(graph, value);
}

kiln_dtype kiln_value_dtype(const kiln_graph *graph, kiln_value value)
{
    const kiln_type *type = value_type(graph, value);
    return type ? type->dtype : KILN_NO_DTYPE;
}

uint32_t kiln_value_rank(const kiln_graph *graph, kiln_value value)
{
    const kiln_type *type = value_type(graph, value);
    return type ? type->rank : 0;
}

const int64_t *kiln_value_dims(const kiln_graph *graph, kiln_value value)
{
    const kiln_type *type = value_type(graph, value);
    return type ? type->dims : NULL;
}

/* Constants */

static kiln_value constant_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = request_tensor(graph, request);
    if (!request->data && type->bytes) {
        kiln_fail(graph->scope, KILN_INVALID, "constant: data is NULL; expected %lld bytes",
                  (long long)type->bytes);
    }
    return kiln_add_constant(graph, type, request->data);
}

kiln_value kiln_constant(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                         const void *data)
{
    kiln_request request = {KILN_OP_constant, .data = data, .dtype = dtype, .rank = rank,
                            .dims = dims};
    return kiln_build(graph, constant_body, &request);
}

static kiln_value tensor_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_tensor *tensor = request->options;
    if (!tensor) kiln_fail(graph->scope, KILN_INVALID, "constant: tensor is NULL");
    kiln_request inner = {KILN_OP_constant, .data = tensor->data, .dtype = tensor->dtype,
                          .rank = tensor->rank, .dims = tensor->dims};
    const kiln_type *type = request_tensor(graph, &inner);
    if (tensor->bytes != (uint64_t)type->bytes) {
        kiln_fail(graph->scope, KILN_INVALID, "constant: %zu bytes for %s; expected %lld",
                  tensor->bytes, kiln_type_string(&graph->scope->arena, type),
                  (long long)type->bytes);
    }
    bool is_borrowed = request->flag && type->bytes > KILN_LITERAL_BYTES_MAX && tensor->data;
    if (!is_borrowed) return constant_body(graph, &inner);
    kiln_literal literal = {KILN_LITERAL_BLOB, tensor->data, type->bytes};
    return kiln_add_literal(graph, type, &literal);
}

kiln_value kiln_constant_tensor(kiln_graph *graph, const kiln_tensor *tensor)
{
    return kiln_build(graph, tensor_body, &(kiln_request){KILN_OP_constant, .options = tensor});
}

kiln_value kiln_constant_borrowed(kiln_graph *graph, const kiln_tensor *tensor)
{
    kiln_request request = {KILN_OP_constant, .options = tensor, .flag = true};
    return kiln_build(graph, tensor_body, &request);
}

static kiln_value splat_body(kiln_graph *graph, const kiln_request *request)
{
    request_tensor(graph, request);
    return kiln_add_splat(graph, request->dtype, request->rank, request->dims, request->number);
}

kiln_value kiln_scalar(kiln_graph *graph, kiln_dtype dtype, double value)
{
    return kiln_splat(graph, dtype, 0, NULL, value);
}

kiln_value kiln_splat(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                      double value)
{
    kiln_request request = {KILN_OP_constant, .dtype = dtype, .rank = rank, .dims = dims,
                            .number = value};
    return kiln_build(graph, splat_body, &request);
}

static kiln_value iota_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = request_tensor(graph, request);
    kiln_attrs attrs = {KILN_FAMILY_axis,
                        .axis = {kiln_build_axis(graph, request, request->axis, type->rank)}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &attrs, NULL});
}

kiln_value kiln_iota(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                     int64_t axis)
{
    kiln_request request = {KILN_OP_iota, .dtype = dtype, .rank = rank, .dims = dims, .axis = axis};
    return kiln_build(graph, iota_body, &request);
}
