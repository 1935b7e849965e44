/* How the public builder enters the graph: one request struct, one entry that is sticky, opens a
 * scope and runs a body. Private to builder*.c. */
#ifndef KILN_GRAPH_BUILDER_H
#define KILN_GRAPH_BUILDER_H

#include "graph/graph.h"

#define KILN_REQUEST_INPUTS 5

/* The arguments of any builder call; a body reads those that its call filled. */
typedef struct kiln_request {
    kiln_op op;
    kiln_value inputs[KILN_REQUEST_INPUTS];
    uint32_t n;
    const kiln_value *list; /* concat */
    const void *options, *data;
    const char *name;
    kiln_dtype dtype;
    uint32_t rank; /* of dims, or the number of axes */
    const int64_t *dims;
    int64_t axis;
    double number, other;
    bool flag;
} kiln_request;

typedef kiln_value kiln_build_fn(kiln_graph *graph, const kiln_request *request);

/* The zero value when the graph is NULL or has an error, or when body fails. */
kiln_value kiln_build(kiln_graph *graph, kiln_build_fn *body, const kiln_request *request);

/* For calls made of other calls, which have request->name and no op: runs `check`, which builds
 * nothing; whether the graph has no error then. */
bool kiln_build_check(kiln_graph *graph, kiln_build_fn *check, const kiln_request *request);

/* kiln_graph_add of the request's op and inputs. */
kiln_value kiln_build_node(kiln_graph *graph, const kiln_request *request, const kiln_attrs *attrs);

/* The type of an operand, which is checked to be a value of this graph. */
const kiln_type *kiln_build_type(kiln_graph *graph, const kiln_request *request, uint32_t operand);

/* A list given by the caller, or `standard` in all n entries where it is NULL. */
kiln_ints kiln_build_list(kiln_graph *graph, const int64_t *list, uint32_t n, int64_t standard);

/* The axis counted from 0; fails out of range. */
int64_t kiln_build_axis(kiln_graph *graph, const kiln_request *request, int64_t axis,
                        uint32_t rank);

/* The request's axes, counted from 0 and sorted; all where there are none. */
kiln_ints kiln_build_axes(kiln_graph *graph, const kiln_request *request, uint32_t rank);

/* kiln_build_node with the numbers and the flag of the request as attributes. */
kiln_value kiln_build_numbers(kiln_graph *graph, const kiln_request *request);

/* The attributes of a scatter from the request's options. */
kiln_attrs kiln_build_scatter(kiln_graph *graph, const kiln_request *request);

/* Broadcasts the request's inputs to a common shape and adds the node. */
kiln_value kiln_build_elementwise(kiln_graph *graph, const kiln_request *request);

/* The common shape of two; false when they do not broadcast. */
bool kiln_build_broadcast(uint32_t *rank, int64_t *dims, uint32_t other_rank, const int64_t *other);
#endif
