/* Binary graphs (docs/files.md): what the writer and the reader share. */
#ifndef KILN_GRAPH_IO_BINARY_H
#define KILN_GRAPH_IO_BINARY_H

#define KILN_BINARY_MAGIC "kiln graph"
#define KILN_BINARY_VERSION 1       /* of what is written */
#define KILN_BINARY_OLDEST_READER 1 /* that understands it */
#endif
