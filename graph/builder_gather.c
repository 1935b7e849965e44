/* The public builder: gather and the scatters in their general form. */
#include "graph/builder.h"

static _Noreturn void fail_list(kiln_graph *graph, const kiln_request *request, const char *name)
{
    kiln_fail(graph->scope, KILN_INVALID, "%s: %s is NULL or has more than %d entries",
              kiln_op_rows[request->op].name, name, KILN_MAX_RANK);
}

static kiln_ints list_of(kiln_graph *graph, const kiln_request *request, const char *name,
                         kiln_ints given)
{
    if (given.n > KILN_MAX_RANK || (given.n && !given.at)) fail_list(graph, request, name);
    return given;
}

static kiln_value gather_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_gather_options *o = request->options;
    if (!o) kiln_fail(graph->scope, KILN_INVALID, "gather: options is NULL");
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_gather};
    attrs.gather.offset_axes =
        list_of(graph, request, "offset_axes", (kiln_ints){o->n_offset, o->offset_axes});
    attrs.gather.collapsed_axes =
        list_of(graph, request, "collapsed_axes", (kiln_ints){o->n_collapsed, o->collapsed_axes});
    attrs.gather.operand_batch =
        list_of(graph, request, "operand_batch", (kiln_ints){o->n_batch, o->operand_batch});
    attrs.gather.indices_batch =
        list_of(graph, request, "indices_batch", (kiln_ints){o->n_batch, o->indices_batch});
    attrs.gather.start_map =
        list_of(graph, request, "start_map", (kiln_ints){o->n_map, o->start_map});
    attrs.gather.index_axis = o->index_axis;
    attrs.gather.sizes = list_of(graph, request, "sizes", (kiln_ints){rank, o->sizes});
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_gather(kiln_graph *graph, kiln_value a, kiln_value indices,
                       const kiln_gather_options *options)
{
    kiln_request request = {KILN_OP_gather, .inputs = {a, indices}, .n = 2, .options = options};
    return kiln_build(graph, gather_body, &request);
}

kiln_attrs kiln_build_scatter(kiln_graph *graph, const kiln_request *request)
{
    const kiln_scatter_options *o = request->options;
    if (!o)
        kiln_fail(graph->scope, KILN_INVALID, "%s: options is NULL",
                  kiln_op_rows[request->op].name);
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes =
        list_of(graph, request, "window_axes", (kiln_ints){o->n_window, o->window_axes});
    attrs.scatter.inserted_axes =
        list_of(graph, request, "inserted_axes", (kiln_ints){o->n_inserted, o->inserted_axes});
    attrs.scatter.operand_batch =
        list_of(graph, request, "operand_batch", (kiln_ints){o->n_batch, o->operand_batch});
    attrs.scatter.indices_batch =
        list_of(graph, request, "indices_batch", (kiln_ints){o->n_batch, o->indices_batch});
    attrs.scatter.start_map =
        list_of(graph, request, "start_map", (kiln_ints){o->n_map, o->start_map});
    attrs.scatter.index_axis = o->index_axis;
    return attrs;
}

static kiln_value scatter_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = kiln_build_scatter(graph, request);
    return kiln_build_node(graph, request, &attrs);
}

#define SCATTER(op_)                                                                               \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, kiln_value indices, kiln_value updates, \
                          const kiln_scatter_options *options)                                     \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a, indices, updates}, .n = 3,            \
                                .options = options};                                               \
        return kiln_build(graph, scatter_body, &request);                                          \
    }

SCATTER(scatter)
SCATTER(scatter_add)
SCATTER(scatter_mul)
SCATTER(scatter_max)
SCATTER(scatter_min)
