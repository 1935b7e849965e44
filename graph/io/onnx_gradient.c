/* Gradient of ai.onnx.preview.training: attributes name values of the model, y a function of the xs
 * and zs; operands say at which values of these the gradients of y with respect to the xs are
 * taken. They are built for the values that the names have, and copied for those given where these
 * are others. */
#include "graph/gradient.h"
#include "graph/io/onnx_op.h"

static kiln_value named_value(kiln_onnx_call *call, const char *name)
{
    const kiln_onnx_name *found = kiln_onnx_name_find(call->frame, name);
    const char *quoted = kiln_onnx_quote(&call->scope->arena, name);
    if (!found) kiln_onnx_fail(call, "%s is not defined; expected a value of the graph", quoted);
    if (found->is_tainted) {
        call->is_tainted = true;
        return (kiln_value){0, 0};
    }
    if (!found->value.id)
        kiln_onnx_fail(call, "%s hangs on this node; expected a value before it", quoted);
    if (found->value.graph != call->graph->id)
        kiln_onnx_refuse(call, "%s is not a tensor of the same graph", quoted);
    return found->value;
}

/* xs, then zs; their number in *out_n, that of the xs in *out_xs. */
static kiln_value *read_names(kiln_onnx_call *call, uint32_t *out_n, uint32_t *out_xs)
{
    uint32_t n_xs = kiln_onnx_strings(call, "xs", NULL, 0);
    uint32_t n_zs = kiln_onnx_strings(call, "zs", NULL, 0);
    if (n_xs == 0 || n_xs + n_zs != call->n_inputs || call->n_outputs > n_xs)
        kiln_onnx_fail(call,
                       "%u operands and %u outputs for %u xs and %u zs; expected one operand "
                       "for each and an output for each of the xs",
                       call->n_inputs, call->n_outputs, n_xs, n_zs);
    kiln_value *values = kiln_new_array(&call->scope->arena, kiln_value, n_xs + n_zs);
    for (uint32_t i = 0; i < n_xs + n_zs; i++) {
        const char *name = "";
        kiln_onnx_strings(call, i < n_xs ? "xs" : "zs", &name, i < n_xs ? i : i - n_xs);
        values[i] = named_value(call, name);
    }
    *out_n = n_xs + n_zs;
    *out_xs = n_xs;
    return values;
}

/* `n` values as they are where `from` are replaced by the call's operands. */
static void substitute(kiln_onnx_call *call, uint32_t n_from, const kiln_value *from, uint32_t n,
                       kiln_value *values)
{
    kiln_graph *graph = call->graph;
    uint32_t n_nodes = graph->nodes.n;
    kiln_value *map = kiln_new_array(&call->scope->arena, kiln_value, n_nodes);
    for (uint32_t i = 0; i < n_from; i++) map[from[i].id] = kiln_onnx_operand(call, i);
    for (uint32_t id = 1; id < n_nodes; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (map[id].id) continue;
        map[id] = (kiln_value){id, graph->id};
        bool is_other = false;
        kiln_value *inputs = kiln_new_array(&call->scope->arena, kiln_value, node->n_inputs);
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            inputs[i] = map[node->inputs[i].id];
            is_other |= inputs[i].id != node->inputs[i].id;
        }
        const kiln_type *given =
            kiln_node_row(node)->result == KILN_RESULT_GIVEN ? node->type : NULL;
        kiln_node_spec spec = {(kiln_op)node->op, given,       inputs,
                               node->n_inputs,    node->attrs, node->label};
        if (is_other) map[id] = kiln_graph_add(graph, &spec);
    }
    for (uint32_t i = 0; i < n; i++) values[i] = values[i].id ? map[values[i].id] : values[i];
}

static kiln_value import_gradient(kiln_onnx_call *call)
{
    kiln_arena *arena = &call->scope->arena;
    const char *name = kiln_onnx_string(call, "y", NULL);
    if (!name) kiln_onnx_fail(call, "attr 'y' is missing; expected the name of a value");
    uint32_t n, n_xs;
    kiln_value y = named_value(call, name), *values = read_names(call, &n, &n_xs);
    if (call->is_tainted) return (kiln_value){0, 0};
    bool is_given = false, *is_wanted = kiln_new_array(arena, bool, n);
    for (uint32_t i = 0; i < n; i++) {
        if (kiln_onnx_type(call, i) != kiln_graph_type(call->graph, values[i]))
            kiln_onnx_fail(call, "operand %u has another type than the value it stands for", i);
        is_given |= call->inputs[i].id != values[i].id;
        is_wanted[i] = i < n_xs && kiln_onnx_wants(call, i);
        bool is_float = kiln_onnx_is_float(kiln_onnx_type(call, i)->dtype);
        if (is_wanted[i] && !is_float)
            kiln_onnx_fail(call, "operand %u is no float; expected one", i);
    }
    if (!kiln_onnx_is_float(kiln_graph_type(call->graph, y)->dtype))
        kiln_onnx_fail(call, "y is no float; expected one");
    kiln_value one = kiln_add_splat_like(call->graph, y, 1);
    kiln_value *gradients = kiln_new_array(arena, kiln_value, n);
    kiln_gradient_request request = {1, n, &y, &one, values, is_wanted, true};
    kiln_graph_gradient(call->graph, &request, gradients);
    if (is_given) substitute(call, n, values, n_xs, gradients);
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        if (!is_wanted[i]) continue;
        bool is_zero = gradients[i].id == 0;
        kiln_onnx_result(call, i,
                         is_zero ? kiln_add_splat_like(call->graph, values[i], 0) : gradients[i]);
    }
    return call->outputs[0];
}

const kiln_onnx_row kiln_onnx_gradient_rows[] = {
    {"Gradient", 1, KILN_ONNX_NEWEST, 1, KILN_ONNX_ANY, import_gradient, KILN_OP_none},
    {0},
};
