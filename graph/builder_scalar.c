/* The public builder of regions over scalars. */
#include <string.h>

#include "graph/attrs.h"
#include "graph/builder.h"
#include "graph/describe.h"

/* Finishes a region and returns it as the list of an attribute. */
static kiln_regions take_regions(kiln_graph *graph, kiln_op op, uint32_t n,
                                 kiln_graph *const *regions)
{
    const kiln_graph **list = kiln_new_array(&graph->scope->arena, const kiln_graph *, n);
    for (uint32_t i = 0; i < n; i++) {
        if (!regions[i] || regions[i] == graph || regions[i]->context != graph->context) {
            kiln_fail(graph->scope, KILN_INVALID,
                      "%s: region %u is %s; expected a graph of its own in the same context",
                      kiln_op_rows[op].name, i, regions[i] ? "of another kind" : "NULL");
        }
        kiln_region_close(graph->scope, regions[i]);
        list[i] = regions[i];
    }
    return (kiln_regions){n, list};
}

static kiln_value add(kiln_graph *graph, const kiln_request *request, const kiln_attrs *attrs)
{
    if (request->n && !request->list) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: values is NULL; expected %u",
                  kiln_op_rows[request->op].name, request->n);
    }
    return kiln_build_node(graph, request, attrs);
}

/* Values, then initial values, in one list. */
static const kiln_value *halves(kiln_graph *graph, const kiln_request *request, uint32_t n,
                                const kiln_value *values, const kiln_value *initial)
{
    if (n == 0 || !values || !initial || n > UINT32_MAX / 2) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: %u values%s; expected values and initial ones",
                  kiln_op_rows[request->op].name, n, values && initial ? "" : " at NULL");
    }
    kiln_value *all = kiln_new_array(&graph->scope->arena, kiln_value, (size_t)n * 2);
    memcpy(all, values, n * sizeof *all);
    memcpy(all + n, initial, n * sizeof *all);
    return all;
}

static kiln_value map_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_graph *region = (kiln_graph *)(uintptr_t)request->data;
    kiln_attrs attrs = {KILN_FAMILY_regions,
                        .regions = {take_regions(graph, request->op, 1, &region)}};
    return add(graph, request, &attrs);
}

kiln_value kiln_map(kiln_graph *graph, kiln_graph *region, const kiln_arguments *arguments)
{
    kiln_request request = {KILN_OP_map, .data = region};
    if (arguments) request.list = arguments->values;
    if (arguments) request.n = arguments->n;
    return kiln_build(graph, map_body, &request);
}

static kiln_value reduce_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_reduce_options *o = request->options;
    if (!o) kiln_fail(graph->scope, KILN_INVALID, "reduce: options is NULL");
    kiln_request all = *request;
    all.list = halves(graph, request, o->n, o->values, o->initial);
    all.n = 2 * o->n;
    all.rank = o->n_axes;
    all.dims = o->axes;
    kiln_attrs attrs = {KILN_FAMILY_reduce};
    attrs.reduce.axes = kiln_build_axes(graph, &all, kiln_build_type(graph, &all, 0)->rank);
    attrs.reduce.regions = take_regions(graph, request->op, 1, &o->region);
    return add(graph, &all, &attrs);
}

kiln_value kiln_reduce(kiln_graph *graph, const kiln_reduce_options *options)
{
    return kiln_build(graph, reduce_body, &(kiln_request){KILN_OP_reduce, .options = options});
}

/* A value with initial scalars between its elements. */
static kiln_value dilate(kiln_graph *graph, const int64_t *dilations, kiln_value value,
                         kiln_value initial)
{
    uint32_t rank = kiln_graph_type(graph, value)->rank;
    int64_t zeros[KILN_MAX_RANK] = {0}, interior[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) interior[i] = dilations[i] - 1;
    kiln_attrs attrs = {KILN_FAMILY_pad, .pad = {{rank, zeros}, {rank, zeros}, {rank, interior}}};
    kiln_value operands[] = {value, initial};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_pad, NULL, operands, 2, &attrs, NULL});
}

static kiln_value window_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_reduce_window_options *o = request->options;
    if (!o) kiln_fail(graph->scope, KILN_INVALID, "reduce_window: options is NULL");
    kiln_request all = *request;
    kiln_value *list = (kiln_value *)halves(graph, request, o->n, o->values, o->initial);
    all.list = list;
    all.n = 2 * o->n;
    uint32_t rank = kiln_build_type(graph, &all, 0)->rank;
    for (uint32_t i = 0; o->base_dilations && i < o->n; i++) {
        if (kiln_build_type(graph, &all, i)->rank == rank)
            list[i] = dilate(graph, o->base_dilations, list[i], list[o->n + i]);
    }
    kiln_attrs attrs = {KILN_FAMILY_reduce_window};
    attrs.reduce_window.sizes = kiln_build_list(graph, o->sizes, rank, 1);
    attrs.reduce_window.strides = kiln_build_list(graph, o->strides, rank, 1);
    attrs.reduce_window.low = kiln_build_list(graph, o->low, rank, 0);
    attrs.reduce_window.high = kiln_build_list(graph, o->high, rank, 0);
    attrs.reduce_window.dilations = kiln_build_list(graph, o->dilations, rank, 1);
    attrs.reduce_window.regions = take_regions(graph, request->op, 1, &o->region);
    return add(graph, &all, &attrs);
}

kiln_value kiln_reduce_window(kiln_graph *graph, const kiln_reduce_window_options *options)
{
    kiln_request request = {KILN_OP_reduce_window, .options = options};
    return kiln_build(graph, window_body, &request);
}

static kiln_value select_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_select_and_scatter_options *o = request->options;
    if (!o) kiln_fail(graph->scope, KILN_INVALID, "select_and_scatter: options is NULL");
    kiln_value list[] = {request->inputs[0], o->source, o->initial};
    kiln_graph *regions[] = {o->select, o->scatter};
    kiln_request all = {request->op, .list = list, .n = 3};
    uint32_t rank = kiln_build_type(graph, &all, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_reduce_window};
    attrs.reduce_window.sizes = kiln_build_list(graph, o->sizes, rank, 1);
    attrs.reduce_window.strides = kiln_build_list(graph, o->strides, rank, 1);
    attrs.reduce_window.low = kiln_build_list(graph, o->low, rank, 0);
    attrs.reduce_window.high = kiln_build_list(graph, o->high, rank, 0);
    attrs.reduce_window.dilations = kiln_build_list(graph, NULL, rank, 1);
    attrs.reduce_window.regions = take_regions(graph, request->op, 2, regions);
    return add(graph, &all, &attrs);
}

kiln_value kiln_select_and_scatter(kiln_graph *graph, kiln_value a,
                                   const kiln_select_and_scatter_options *options)
{
    kiln_request request = {KILN_OP_select_and_scatter, .inputs = {a}, .options = options};
    return kiln_build(graph, select_body, &request);
}

static kiln_value scatter_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_scatter_options *o = request->options;
    kiln_graph *region = (kiln_graph *)(uintptr_t)request->data;
    kiln_attrs attrs = kiln_build_scatter(graph, request);
    kiln_request all = *request;
    all.n = 2 * (o->n_values ? o->n_values : 1) + 1;
    attrs = kiln_attrs_scatter_with(&attrs, take_regions(graph, request->op, 1, &region));
    return add(graph, &all, &attrs);
}

kiln_value kiln_scatter_with(kiln_graph *graph, kiln_graph *region, const kiln_value *operands,
                             const kiln_scatter_options *options)
{
    kiln_request request = {KILN_OP_scatter_with, .list = operands, .data = region,
                            .options = options};
    return kiln_build(graph, scatter_body, &request);
}

static kiln_value sort_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_graph *region = (kiln_graph *)(uintptr_t)request->data;
    if (!request->n || !request->list)
        kiln_fail(graph->scope, KILN_INVALID, "sort_by: no values; expected one or more");
    int64_t axis = kiln_build_axis(graph, request, request->axis,
                                   kiln_build_type(graph, request, 0)->rank);
    kiln_attrs attrs = {KILN_FAMILY_sort_by,
                        .sort_by = {axis, take_regions(graph, request->op, 1, &region)}};
    return add(graph, request, &attrs);
}

kiln_value kiln_sort_by(kiln_graph *graph, kiln_graph *comparator, const kiln_arguments *values,
                        int64_t axis)
{
    kiln_request request = {KILN_OP_sort_by, .data = comparator, .axis = axis};
    if (values) request.list = values->values;
    if (values) request.n = values->n;
    return kiln_build(graph, sort_body, &request);
}
