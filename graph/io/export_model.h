/* A graph as the message of an ONNX file. */
#ifndef KILN_GRAPH_IO_EXPORT_MODEL_H
#define KILN_GRAPH_IO_EXPORT_MODEL_H

#include "graph/io/wire.h"

/* The number of a dtype in ONNX, or 0. */
int64_t kiln_onnx_number(kiln_dtype dtype);

/* The graph with those composites expanded that have no operator of their own; `graph` itself when
 * there are none. */
const kiln_graph *kiln_export_expand(kiln_scope *scope, const kiln_graph *graph);

/* The fields of a ModelProto. external[id]: where the constant stands in the file `weights`, or 0.
 */
kiln_wire kiln_export_model(kiln_scope *scope, const kiln_graph *graph, const char *weights,
                            int64_t *external);
#endif
