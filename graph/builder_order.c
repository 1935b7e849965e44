/* The public builder: what runs along one axis. */
#include "graph/builder.h"

static int64_t request_axis(kiln_graph *graph, const kiln_request *request)
{
    return kiln_build_axis(graph, request, request->axis, kiln_build_type(graph, request, 0)->rank);
}

static kiln_value sort_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_sort, .sort = {request_axis(graph, request), request->flag}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_argsort(kiln_graph *graph, kiln_value a, int64_t axis, int descending)
{
    kiln_request request = {KILN_OP_argsort, .inputs = {a}, .n = 1, .axis = axis,
                            .flag = descending != 0};
    return kiln_build(graph, sort_body, &request);
}

kiln_value kiln_sort(kiln_graph *graph, kiln_value a, int64_t axis, int descending)
{
    kiln_request request = {KILN_OP_sort, .inputs = {a}, .n = 1, .axis = axis,
                            .flag = descending != 0};
    return kiln_build(graph, sort_body, &request);
}

static kiln_value along_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {request_axis(graph, request)}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_take_along(kiln_graph *graph, kiln_value a, kiln_value indices, int64_t axis)
{
    kiln_request request = {KILN_OP_take_along, .inputs = {a, indices}, .n = 2, .axis = axis};
    return kiln_build(graph, along_body, &request);
}

/* The first `k` places of argsort; request->dims[0] is k. */
static kiln_value top_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    int64_t axis = request_axis(graph, request), k = request->dims[0];
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    if (k < 0 || k > type->dims[axis]) {
        kiln_fail(graph->scope, KILN_INVALID, "top_k: k is %lld; expected 0 to %lld", (long long)k,
                  (long long)type->dims[axis]);
    }
    kiln_attrs sort = {KILN_FAMILY_sort, .sort = {axis, !request->flag}};
    kiln_value order = kiln_build_node(graph, request, &sort);
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = i == axis ? k : type->dims[i];
        strides[i] = 1;
    }
    kiln_attrs slice = {KILN_FAMILY_slice};
    slice.slice.starts = (kiln_ints){type->rank, starts};
    slice.slice.limits = (kiln_ints){type->rank, limits};
    slice.slice.strides = (kiln_ints){type->rank, strides};
    return kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_slice, .inputs = &order, .n_inputs = 1, .attrs = &slice});
}

kiln_value kiln_top_k(kiln_graph *graph, kiln_value a, int64_t k, int64_t axis, int smallest)
{
    kiln_request request = {KILN_OP_argsort, .inputs = {a}, .n = 1,
                            .axis = axis,    .dims = &k,    .flag = smallest != 0};
    return kiln_build(graph, top_body, &request);
}

static kiln_value cumulative_body(kiln_graph *graph, const kiln_request *request)
{
    static const kiln_cumulative_options standard;
    const kiln_cumulative_options *options = request->options ? request->options : &standard;
    kiln_attrs attrs = {KILN_FAMILY_cumulative,
                        .cumulative = {request_axis(graph, request), options->exclusive != 0,
                                       options->reverse != 0}};
    return kiln_build_node(graph, request, &attrs);
}

#define CUMULATIVE(op_)                                                                            \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, int64_t axis,                           \
                          const kiln_cumulative_options *options)                                  \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .axis = axis,                \
                                .options = options};                                               \
        return kiln_build(graph, cumulative_body, &request);                                       \
    }

CUMULATIVE(cumulative_sum)
CUMULATIVE(cumulative_prod)
CUMULATIVE(cumulative_max)
CUMULATIVE(cumulative_min)
