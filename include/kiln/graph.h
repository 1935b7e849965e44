/* The graph builder. Calls return a value and nest freely; the first mistake is kept on the graph,
 * later calls do nothing and return the zero value, and kiln_compile reports it.
 *
 *     kiln_graph *graph;
 *     kiln_graph_create(context, "mlp", &graph);
 *     kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){32, 784});
 *     kiln_value y = kiln_softmax(graph, kiln_linear(graph, x, w, b), 1);
 *     kiln_output(graph, "y", y);
 */
#ifndef KILN_GRAPH_H
#define KILN_GRAPH_H

#include "kiln/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_context kiln_context;
typedef struct kiln_graph kiln_graph;

/* A node's value. id 0: no value, an error was recorded. `graph` catches foreign handles. */
typedef struct kiln_value {
    uint32_t id, graph;
} kiln_value;

#ifdef __cplusplus
}
#endif
#endif
