/* SafeTensors: eight bytes of header length, a JSON header, the tensors' bytes without gaps.
 * An open file owns a descriptor and a table sorted by place; a constant made of a tensor is a
 * stretch of the file. Private to safetensors*.c and the writers of models. */
#ifndef KILN_GRAPH_IO_SAFETENSORS_H
#define KILN_GRAPH_IO_SAFETENSORS_H

#include "graph/io/prescan.h"
#include "graph/io/sink.h"
#include "graph/table.h"
#include "kiln/model.h"

#define KILN_SAFETENSORS_MAX_HEADER 100000000

typedef struct kiln_safetensors_text {
    const char *key, *value;
} kiln_safetensors_text;

struct kiln_safetensors {
    kiln_context *context;
    kiln_arena arena;
    kiln_source source;
    const char *path; /* absolute */
    kiln_safetensor *tensors;
    uint32_t n;
    kiln_safetensors_text *metadata;
    uint32_t n_metadata;
    kiln_slots slots; /* tensors by name: index + 1 */
};

/* Parses the header: bytes [8, 8 + bytes) of the file, already read. Fills tensors (in the order
 * of the header, offsets from the start of the data), metadata and slots. */
void kiln_safetensors_parse(kiln_safetensors *file, const char *header, int64_t bytes);
/* The index of a tensor, or -1. */
int64_t kiln_safetensors_index(const kiln_safetensors *file, const char *name);

/* The format's word of a dtype, or NULL. */
const char *kiln_safetensors_word(kiln_dtype dtype);
/* The dtype of a word; KILN_NO_DTYPE when we have none, *out_is_known whether the format has. */
kiln_dtype kiln_safetensors_dtype(const char *word, bool *out_is_known);

/* One tensor to be written. */
typedef struct kiln_weight {
    const char *name;
    const kiln_type *type;
    const kiln_literal *literal;
    int64_t offset; /* in the file, once the header is laid out */
    uint32_t id;    /* of the constant, if it is one of a graph */
} kiln_weight;

/* Sorts the weights by falling element size and rising name (so each is aligned), gives them their
 * places in the file and returns the bytes before the first one. Names must be distinct. */
const char *kiln_weights_layout(kiln_scope *scope, kiln_weight *weights, uint32_t n,
                                size_t *out_bytes);
/* The constants of a graph that have at least so many bytes (splats excepted), under their labels
 * where these are distinct text. Returns how many. */
uint32_t kiln_weights_collect(kiln_scope *scope, const kiln_graph *graph, int64_t least,
                              kiln_weight **out_weights);
/* Writes a file of them; the caller commits. */
kiln_sink *kiln_weights_write(kiln_scope *scope, const char *path, kiln_weight *weights,
                              uint32_t n);
#endif
