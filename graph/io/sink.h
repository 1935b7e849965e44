/* Files that are written whole or not at all: bytes go to a temporary file beside the target, which
 * the commit renames over it. Weights are streamed from where they are, in pieces, so that writing
 * a model never holds them a second time. */
#ifndef KILN_GRAPH_IO_SINK_H
#define KILN_GRAPH_IO_SINK_H

#include "graph/graph.h"

typedef struct kiln_sink {
    kiln_scope *scope;
    const char *path; /* the target */
    char *temporary;  /* NULL once it is renamed */
    int file;
    int64_t bytes; /* written so far, those in the buffer included */
    char *buffer;
    size_t n_buffered;
} kiln_sink;

/* Opens the temporary file; closing the scope before the commit removes it. IO where the folder
 * cannot be written. */
kiln_sink *kiln_sink_open(kiln_scope *scope, const char *path);
void kiln_sink_write(kiln_sink *sink, const void *data, size_t n);
/* The elements of a constant. */
void kiln_sink_literal(kiln_sink *sink, const kiln_type *type, const kiln_literal *literal);
void kiln_sink_commit(kiln_sink *sink);

/* Whether a path written in a model may be followed: relative, below the folder, no drive. */
bool kiln_path_is_inside(const char *path);
#endif
