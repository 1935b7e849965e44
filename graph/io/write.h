/* Files of models, what their writers share: the entry, and large constants in a SafeTensors file
 * beside the model. */
#ifndef KILN_GRAPH_IO_WRITE_H
#define KILN_GRAPH_IO_WRITE_H

#include "graph/io/wire.h"
#include "kiln/model.h"

typedef struct kiln_weights_plan {
    kiln_scope *scope;
    const char *path; /* of the model */
    const char *name; /* of the weights file, from the model's folder; NULL: none */
    int64_t least;    /* bytes of a constant that goes there */
    bool is_needed;   /* also when the caller named no file */
    int64_t *offsets; /* by node id: where the constant stands in the file, or 0 */
    kiln_sink *sink;
} kiln_weights_plan;

/* Bytes of the constants of at least that size, splats apart. */
int64_t kiln_weights_bytes(const kiln_graph *graph, int64_t least);
/* Writes the file where it is wanted or needed, and fills name and offsets. */
void kiln_weights_place(kiln_weights_plan *plan, const kiln_graph *graph);
/* Gives the file its name. */
void kiln_weights_commit(kiln_weights_plan *plan);

/* An entry: checks arguments, runs the body with the caller's options in the plan, leaves the
 * sentence on the graph. */
typedef void kiln_write_fn(kiln_weights_plan *plan, const kiln_graph *graph);
kiln_status kiln_write_model(const kiln_graph *graph, const char *path,
                             const kiln_write_options *options, kiln_write_fn *body);
#endif
