/* The first reader of a protobuf file: an iterative scan that checks what protobuf-c does not
 * (depth, lengths, text, memory) and hands protobuf-c a compacted copy on a budgeted allocator. */
#ifndef KILN_GRAPH_IO_PRESCAN_H
#define KILN_GRAPH_IO_PRESCAN_H

#include "base/scope.h"
#include "graph/io/onnx.pb-c.h"

/* Bytes of a model: in memory, or behind a file descriptor. */
typedef struct kiln_source {
    kiln_scope *scope;
    const char *where;     /* opens every sentence */
    const char *path;      /* absolute; NULL when the bytes are in memory */
    const uint8_t *memory; /* NULL when behind `file` */
    int file;
    int64_t bytes;
    uint64_t stamp; /* kiln_file_stamp, 0 in memory */
} kiln_source;

#define KILN_ONNX_MAX_BYTES ((int64_t)1 << 31)
#define KILN_ONNX_MAX_DEPTH 200 /* a graph within a graph takes three */
#define KILN_ONNX_MAX_NODES 1000000

/* Opens a regular file for reading; its release is deferred to the scope. IO when it cannot be
 * read. */
void kiln_source_open(kiln_source *source, kiln_scope *scope, const char *path);

/* Copies [offset, offset + bytes), which must lie within the source, to `out`. */
void kiln_source_read(const kiln_source *source, int64_t offset, int64_t bytes, void *out);

/* Length of the UTF-8 sequence at `at`, or 0 when it is not one or is a NUL. */
size_t kiln_utf8_length(const uint8_t *at, size_t left);

/* What protobuf-c gets to see; lives until the scope closes. */
typedef struct kiln_scan_copy {
    const uint8_t *at;
    size_t n;
    int64_t budget; /* bytes that unpacking may take */
} kiln_scan_copy;

typedef struct kiln_scan_format kiln_scan_format; /* graph/io/prescan_format.h */
extern const kiln_scan_format kiln_scan_onnx, kiln_scan_own;

void kiln_prescan(const kiln_source *source, const kiln_scan_format *format,
                  kiln_scan_copy *out_copy);

/* Scans and unpacks a file of that format; it lives until the scope closes. Fails with MODEL
 * (truncated, wrong wire type, bad text) or LIMIT (depth, memory, lengths), naming byte and field
 * path. */
void *kiln_proto_unpack(const kiln_source *source, const kiln_scan_format *format,
                        const ProtobufCMessageDescriptor *descriptor);

/* An ONNX model. Payloads of raw_data are not copied: Tensor.raw_offset and raw_bytes say where
 * they are. */
Kiln__Onnx__Model *kiln_onnx_unpack(const kiln_source *source);
#endif
