/* Models in files: ONNX, text and binary graphs, SafeTensors and .npy tensors, in and out.
 *
 *     kiln_import_options options = {sizeof options};
 *     kiln_graph *graph;
 *     if (kiln_import_onnx(context, "model.onnx", &options, &graph))
 *         puts(kiln_context_message(context)); */
#ifndef KILN_MODEL_H
#define KILN_MODEL_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Binds one symbolic dimension of the model ("batch") to a size; "INPUT:AXIS" names one that has no
 * name of its own. One that no input has is INVALID, and a size that is not the file's or the
 * bound shape's. */
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

/* Reads an ONNX model (operator sets 1 to 28). MODEL for a malformed file; UNSUPPORTED lists all
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

typedef struct kiln_write_options {
    size_t struct_bytes; /* sizeof(kiln_write_options) */
    /* A SafeTensors file beside the model that takes its large constants: a path below the model's
     * folder (INVALID with ..). NULL: they stand in the model where they can, else in a file named
     * as the model with the ending .safetensors. */
    const char *weights;
} kiln_write_options;

/* Writes a graph as an ONNX model (docs/onnx.md), of the least operator set from 18 on that has its
 * operators. Over 2 GB of weights stand beside it. UNSUPPORTED lists all nodes that have no form in
 * ONNX. Constants are streamed, never held; files are written whole or not at all. Conditions that
 * a run checks are left out. Sentence on the graph. `options` may be NULL. */
KILN_API kiln_status kiln_export_onnx(const kiln_graph *graph, const char *path,
                                      const kiln_write_options *options);

/* Text graphs (docs/ir.md). Files that a text names are looked up from its own folder, or from the
 * working directory for text in memory. */
KILN_API kiln_status kiln_read_text(kiln_context *context, const char *path,
                                    kiln_graph **out_graph);
KILN_API kiln_status kiln_parse_text(kiln_context *context, const char *text, size_t bytes,
                                     kiln_graph **out_graph);
/* The text of a graph; the caller frees it with kiln_free. */
KILN_API kiln_status kiln_print_text(const kiln_graph *graph, char **out_text);
/* The text as a file; constants over 64 KiB stand in a SafeTensors file beside it. */
KILN_API kiln_status kiln_write_text(const kiln_graph *graph, const char *path,
                                     const kiln_write_options *options);

/* Binary graphs (docs/files.md), .kilnb: the same graph, read without parsing numbers. Constants
 * over 64 KiB are read from the file when the graph is compiled: keep it unchanged until then. ABI
 * for a file that wants a newer reader. */
KILN_API kiln_status kiln_read_binary(kiln_context *context, const char *path,
                                      kiln_graph **out_graph);
KILN_API kiln_status kiln_write_binary(const kiln_graph *graph, const char *path,
                                       const kiln_write_options *options);

/* The constants of a graph, splats apart, as a SafeTensors file, under their labels. */
KILN_API kiln_status kiln_write_weights(const kiln_graph *graph, const char *path);

/* SafeTensors files. Opening checks the whole header: sizes, places and names; tensors are read
 * when they are needed. */
typedef struct kiln_safetensors kiln_safetensors;

/* One tensor of an open file, which owns name and dims. */
typedef struct kiln_safetensor {
    const char *name;
    kiln_dtype dtype;
    uint32_t rank;
    const int64_t *dims;
    int64_t offset; /* from the start of the file */
    int64_t bytes;
} kiln_safetensor;

/* MODEL for a malformed file, UNSUPPORTED for a dtype without a counterpart, LIMIT for a header
 * over 100 MB or a rank over 16. Sentence on the context, which must outlive the file. */
KILN_API kiln_status kiln_safetensors_open(kiln_context *context, const char *path,
                                           kiln_safetensors **out_file);
KILN_API void kiln_safetensors_close(kiln_safetensors *file);
/* Tensors in the order of their place; NULL for an index or a name that is not there. */
KILN_API uint32_t kiln_safetensors_count(const kiln_safetensors *file);
KILN_API const kiln_safetensor *kiln_safetensors_at(const kiln_safetensors *file, uint32_t index);
KILN_API const kiln_safetensor *kiln_safetensors_find(const kiln_safetensors *file,
                                                      const char *name);
/* A text of the file's __metadata__, or NULL. */
KILN_API const char *kiln_safetensors_metadata(const kiln_safetensors *file, const char *key);
/* Copies a tensor's elements; `bytes` is its size. IO when the file has become shorter. bool is 0
 * or 1, whatever byte stands there. */
KILN_API kiln_status kiln_safetensors_read(const kiln_safetensors *file,
                                           const kiln_safetensor *tensor, void *out, size_t bytes);
/* A tensor of the file as a constant, labelled with its name. Over 64 KiB it stays in the file and
 * is read straight into its place when the graph is compiled; the open file may be closed, but must
 * not change until then (IO). `like`, of which dtype and dims count, is what it must be; NULL
 * accepts any. */
KILN_API kiln_value kiln_constant_safetensor(kiln_graph *graph, const kiln_safetensors *file,
                                             const char *name, const kiln_tensor *like);

typedef struct kiln_named_tensor {
    const char *name;
    kiln_tensor tensor;
} kiln_named_tensor;

/* Writes a file of tensors with distinct names, larger elements first, each aligned to its element.
 * The file is written whole or not at all. */
KILN_API kiln_status kiln_write_safetensors(kiln_context *context, const char *path,
                                            uint32_t n_tensors, const kiln_named_tensor *tensors);

/* NumPy .npy files, version 1 to 3, row-major, little-endian. The tensor's dims and data are one
 * block that kiln_tensor_free releases. Dtypes that NumPy lacks are stored raw and read back as
 * unsigned integers: bf16 as |V2, 8-bit floats as |V1, 4-bit elements as a list of |V1, the bytes
 * they are packed in. */
KILN_API kiln_status kiln_read_npy(kiln_context *context, const char *path,
                                   kiln_tensor *out_tensor);
KILN_API kiln_status kiln_write_npy(kiln_context *context, const char *path,
                                    const kiln_tensor *tensor);
KILN_API void kiln_tensor_free(kiln_tensor *tensor);

/* One element, counted in row-major order, as a double, and set to the nearest value of its dtype
 * (docs/ops.md, convert); of complex elements the real part. The index is not checked. */
KILN_API double kiln_tensor_get(const kiln_tensor *tensor, int64_t index);
KILN_API void kiln_tensor_set(const kiln_tensor *tensor, int64_t index, double value);

#ifdef __cplusplus
}
#endif
#endif
