/* Orders and scatters: TopK is the head of an argsort. */
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_op.h"

static kiln_value import_top_k(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), type->rank);
    int64_t n = type->dims[axis],
            k = call->opset < 10 ? kiln_onnx_int(call, "k", -1) : kiln_onnx_known_int(call, 1);
    kiln_attrs sort = {KILN_FAMILY_sort, .sort = {axis, kiln_onnx_flag(call, "largest", true)}};
    kiln_onnx_ignore(call, "sorted");
    if (k < 0 || k > n)
        kiln_onnx_fail(call, "k is %" PRId64 " of %" PRId64 "; expected at most that", k, n);
    kiln_value order = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_argsort, .inputs = call->inputs, .n_inputs = 1, .attrs = &sort});
    kiln_value pair[] = {call->inputs[0], kiln_onnx_slice(call, order, axis, 0, k)};
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {axis}};
    kiln_onnx_result(call, 1, pair[1]);
    return kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_take_along, .inputs = pair, .n_inputs = 2, .attrs = &along});
}

/* Scatter */

static kiln_op reduction_read(kiln_onnx_call *call)
{
    static const struct {
        const char *name;
        kiln_op op;
    } rows[] = {{"none", KILN_OP_scatter},
                {"add", KILN_OP_scatter_add},
                {"mul", KILN_OP_scatter_mul},
                {"max", KILN_OP_scatter_max},
                {"min", KILN_OP_scatter_min}};
    const char *given = kiln_onnx_string(call, "reduction", "none");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!strcmp(rows[i].name, given)) return rows[i].op;
    }
    kiln_onnx_fail(call, "attr 'reduction' is %s; expected none, add, mul, max or min",
                   kiln_onnx_quote(&call->scope->arena, given));
}

kiln_value kiln_onnx_scatter(kiln_onnx_call *call, kiln_value places, int64_t n, int64_t block)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t m = kiln_graph_type(graph, places)->n_elements, flat[2] = {n, block},
            updates[2] = {m, block}, zero = 0, one = 1;
    kiln_op op = reduction_read(call);
    if (type->n_elements == 0 || m == 0 || block == 0) return call->inputs[0];
    uint32_t rank = block == 1 ? 1 : 2;
    kiln_value inputs[3] = {kiln_add_reshape(graph, call->inputs[0], rank, flat),
                            kiln_add_reshape(graph, places, 1, &m),
                            kiln_add_reshape(graph, kiln_onnx_operand(call, 2), rank, updates)};
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = (kiln_ints){rank - 1, &one};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &zero};
    attrs.scatter.index_axis = 1;
    kiln_value result = kiln_graph_add(
        graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = 3, .attrs = &attrs});
    return kiln_add_reshape(graph, result, type->rank, type->dims);
}

const kiln_onnx_row kiln_onnx_scatter_rows[] = {
    {"TopK", 6, 9, 1, 1, import_top_k},
    {"TopK", 10, KILN_ONNX_NEWEST, 2, 2, import_top_k},
    {0},
};
