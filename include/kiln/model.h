/* Models in files: ONNX in, text graphs in and out, .npy tensors.
 *
 *     kiln_import_options options = {sizeof options};
 *     kiln_graph *graph;
 *     if (kiln_import_onnx(context, "model.onnx", &options, &graph))
 * puts(kiln_context_message(context)); */
#ifndef KILN_MODEL_H
#define KILN_MODEL_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Binds one symbolic dimension of the model ("batch") to a size; "INPUT:AXIS" names one that has no
 * name of its own. One that no input has is INVALID. */
typedef struct kiln_dim_binding {
    const char *name;
    int64_t size;
} kiln_dim_binding;

/* Binds all dims of one input. */
typedef struct kiln_shape_binding {
    const char *input;
    uint32_t rank;
    const int64_t *dims;
} kiln_shape_binding;

/* Fixes the value of one input: a shape, axes or a count that the graph must know. The input stays
 * a port of the graph; a run in which it has another value returns RANGE. */
typedef struct kiln_value_binding {
    const char *input;
    kiln_tensor value;
} kiln_value_binding;

typedef struct kiln_import_options {
    size_t struct_bytes; /* sizeof(kiln_import_options) */
    const kiln_dim_binding *dims;
    uint32_t n_dims;
    const kiln_shape_binding *shapes;
    uint32_t n_shapes;
    uint32_t reserved;
    /* Called for each node that cannot be imported, with its line; the sentence on the context
     * holds as many lines as fit. May be NULL. */
    void (*report)(void *user, const char *line);
    void *report_user;
    const kiln_value_binding *values;
    uint32_t n_values;
    uint32_t reserved_values;
} kiln_import_options;

/* Reads an ONNX model (operator sets 6 to 28). MODEL for a malformed file; UNSUPPORTED lists all
 * nodes that cannot be imported, one a line; INVALID names dims that nothing binds. Weights over 64
 * KiB stay in the file and are read when the graph is compiled: keep it unchanged until then.
 * Sentence on the context. */
KILN_API kiln_status kiln_import_onnx(kiln_context *context, const char *path,
                                      const kiln_import_options *options, kiln_graph **out_graph);
/* The same from memory, which may be freed afterwards: weights are copied, external data is
 * refused. */
KILN_API kiln_status kiln_import_onnx_memory(kiln_context *context, const void *data, size_t bytes,
                                             const kiln_import_options *options,
                                             kiln_graph **out_graph);

/* Text graphs (docs/ir.md). */
KILN_API kiln_status kiln_read_text(kiln_context *context, const char *path,
                                    kiln_graph **out_graph);
KILN_API kiln_status kiln_parse_text(kiln_context *context, const char *text, size_t bytes,
                                     kiln_graph **out_graph);
/* The text of a graph; the caller frees it with kiln_free. */
KILN_API kiln_status kiln_print_text(const kiln_graph *graph, char **out_text);

/* NumPy .npy files, version 1 to 3, row-major, little-endian. The tensor's dims and data are one
 * block that kiln_tensor_free releases. bf16 is stored as raw |V2, which reads back as u16. */
KILN_API kiln_status kiln_read_npy(kiln_context *context, const char *path,
                                   kiln_tensor *out_tensor);
KILN_API kiln_status kiln_write_npy(kiln_context *context, const char *path,
                                    const kiln_tensor *tensor);
KILN_API void kiln_tensor_free(kiln_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
