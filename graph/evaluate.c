/* kiln_evaluate: the public door to the evaluator. Ports are checked against the graph's inputs and
 * outputs, then everything is evaluated into the caller's memory. */
#include <string.h>

#include "graph/graph.h"
#include "kiln/compile.h"

static const char *type_string(kiln_scope *scope, kiln_dtype dtype, uint32_t rank,
                               const int64_t *dims)
{
    kiln_text text = {.arena = &scope->arena};
    kiln_text_type(&text, dtype, rank, dims);
    return kiln_text_string(&text);
}

static const char *name_string(kiln_scope *scope, const char *name)
{
    kiln_text text = {.arena = &scope->arena};
    if (name) kiln_text_quoted(&text, name, strlen(name));
    return kiln_text_string(&text);
}

/* One caller's tensor against the type of its port. */
static void check_port(kiln_scope *scope, const char *side, const char *name,
                       const kiln_tensor *tensor, const kiln_type *type)
{
    bool fits = tensor->dtype == type->dtype && tensor->rank == type->rank &&
                (type->rank == 0 || tensor->dims != NULL);
    if (fits && type->rank) {
        fits = memcmp(tensor->dims, type->dims, type->rank * sizeof *type->dims) == 0;
    }
    bool is_printable = tensor->rank <= KILN_MAX_RANK && (tensor->rank == 0 || tensor->dims);
    if (!fits) {
        kiln_fail(scope, KILN_INVALID, "%s %s: type is %s; expected %s", side,
                  name_string(scope, name),
                  is_printable ? type_string(scope, tensor->dtype, tensor->rank, tensor->dims)
                               : "unreadable",
                  type_string(scope, type->dtype, type->rank, type->dims));
    }
    if (tensor->bytes != (size_t)type->bytes) {
        kiln_fail(scope, KILN_INVALID, "%s %s: has %zu bytes; expected %lld", side,
                  name_string(scope, name), tensor->bytes, (long long)type->bytes);
    }
    size_t element = kiln_dtype_bytes(type->dtype);
    if (type->bytes && (!tensor->data || (uintptr_t)tensor->data % element)) {
        kiln_fail(scope, KILN_INVALID, "%s %s: data is %s; expected memory aligned to %zu bytes",
                  side, name_string(scope, name), tensor->data ? "misaligned" : "NULL", element);
    }
}

static void check_count(kiln_scope *scope, const char *side, uint32_t found, uint32_t expected,
                        const kiln_tensor *tensors)
{
    if (found != expected || (found && !tensors)) {
        kiln_fail(scope, KILN_INVALID, "%ss: %u given; expected %u", side, tensors ? found : 0,
                  expected);
    }
}

/* Evaluates once the ports fit; outputs are written at the very end only. */
static void evaluate_ports(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
                           const kiln_tensor *outputs)
{
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        const kiln_node *node = kiln_graph_node(graph, graph->inputs.at[i]);
        check_port(scope, "input", node->label, &inputs[i], node->type);
    }
    kiln_tensor *results = kiln_new_array(&scope->arena, kiln_tensor, graph->outputs.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_graph_output *output = &graph->outputs.at[i];
        check_port(scope, "output", output->name, &outputs[i],
                   kiln_graph_type(graph, output->value));
        results[i] = outputs[i];
    }
    kiln_eval(scope, graph, inputs, results);
}

kiln_status kiln_evaluate(const kiln_graph *graph, const kiln_tensor *inputs, uint32_t n_inputs,
                          const kiln_tensor *outputs, uint32_t n_outputs)
{
    if (!graph) return KILN_INVALID;
    if (graph->error.status != KILN_OK) return graph->error.status;
    kiln_error error = {0};
    kiln_scope scope;
    kiln_scope_open(&scope, &error);
    if (kiln_scope_try(&scope)) {
        check_count(&scope, "input", n_inputs, graph->inputs.n, inputs);
        check_count(&scope, "output", n_outputs, graph->outputs.n, outputs);
        evaluate_ports(&scope, graph, inputs, outputs);
    }
    kiln_status status = kiln_scope_close(&scope);
    if (status != KILN_OK) kiln_graph_set_message(graph, &error);
    return status;
}

kiln_status kiln_graph_output_dims(const kiln_graph *graph, uint32_t output,
                                   const kiln_tensor *outputs, int64_t out_dims[KILN_MAX_RANK])
{
    if (!graph || graph->error.status || !outputs || !out_dims || output >= graph->outputs.n)
        return KILN_INVALID;
    const kiln_graph_output *port = &graph->outputs.at[output];
    const kiln_type *type = kiln_graph_type(graph, port->value);
    for (uint32_t i = 0; i < type->rank; i++) out_dims[i] = type->dims[i];
    if (port->counted_by == KILN_NOT_COUNTED) return KILN_OK;
    if (port->counted_by >= graph->outputs.n) return KILN_INVALID;
    const kiln_tensor *counter = &outputs[port->counted_by];
    if (counter->dtype != KILN_i64 || counter->rank || !counter->data) return KILN_INVALID;
    int64_t count;
    memcpy(&count, counter->data, sizeof count);
    int64_t bound = type->dims[port->counted_axis];
    out_dims[port->counted_axis] = count < 0 ? 0 : count < bound ? count : bound;
    return KILN_OK;
}
