/* Writes ONNX models as wire bytes, so that tests can also write wrong ones. Messages are built
 * inside out: a message is a byte string that becomes a field of the next. */
#ifndef TESTS_UNIT_ONNX_BYTES_H
#define TESTS_UNIT_ONNX_BYTES_H

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    size_t n;
    uint8_t at[8192];
} bytes;

enum { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, INT64 = 7, BOOL = 9 };
enum {
    ATTRIBUTE_FLOAT = 1,
    ATTRIBUTE_INT = 2,
    ATTRIBUTE_STRING = 3,
    ATTRIBUTE_TENSOR = 4,
    ATTRIBUTE_INTS = 7,
    ATTRIBUTE_STRINGS = 8
};

static inline void put_raw(bytes *out, const void *data, size_t n)
{
    if (out->n + n > sizeof out->at) abort();
    if (n) memcpy(out->at + out->n, data, n);
    out->n += n;
}

static inline void put_varint(bytes *out, uint64_t value)
{
    uint8_t byte;
    for (; value > 127; value >>= 7) {
        byte = (uint8_t)(value | 128);
        put_raw(out, &byte, 1);
    }
    byte = (uint8_t)value;
    put_raw(out, &byte, 1);
}

static inline void put_int(bytes *out, uint32_t field, int64_t value)
{
    put_varint(out, field << 3);
    put_varint(out, (uint64_t)value);
}

static inline void put_float(bytes *out, uint32_t field, float value)
{
    put_varint(out, field << 3 | 5);
    put_raw(out, &value, 4);
}

static inline void put_data(bytes *out, uint32_t field, const void *data, size_t n)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, n);
    put_raw(out, data, n);
}

static inline void put_text(bytes *out, uint32_t field, const char *text)
{
    put_data(out, field, text, strlen(text));
}

static inline void put(bytes *out, uint32_t field, bytes inner)
{
    put_data(out, field, inner.at, inner.n);
}

static inline bytes attribute_int(const char *name, int64_t value)
{
    bytes out = {0};
    put_text(&out, 1, name);
    put_int(&out, 3, value);
    put_int(&out, 20, ATTRIBUTE_INT);
    return out;
}

static inline bytes attribute_float(const char *name, float value)
{
    bytes out = {0};
    put_text(&out, 1, name);
    put_float(&out, 2, value);
    put_int(&out, 20, ATTRIBUTE_FLOAT);
    return out;
}

static inline bytes attribute_text(const char *name, const char *value)
{
    bytes out = {0};
    put_text(&out, 1, name);
    put_text(&out, 4, value);
    put_int(&out, 20, ATTRIBUTE_STRING);
    return out;
}

static inline bytes attribute_ints(const char *name, uint32_t n, const int64_t *values)
{
    bytes out = {0};
    put_text(&out, 1, name);
    for (uint32_t i = 0; i < n; i++) put_int(&out, 8, values[i]);
    put_int(&out, 20, ATTRIBUTE_INTS);
    return out;
}

/* A tensor whose data is raw_data. */
static inline bytes tensor(const char *name, int dtype, uint32_t rank, const int64_t *dims,
                           const void *data, size_t n)
{
    bytes out = {0};
    for (uint32_t i = 0; i < rank; i++) put_int(&out, 1, dims[i]);
    put_int(&out, 2, dtype);
    put_text(&out, 8, name);
    put_data(&out, 9, data, n);
    return out;
}

static inline bytes value(const char *name, int dtype, uint32_t rank, const int64_t *dims)
{
    bytes shape = {0}, type = {0}, outer = {0}, out = {0};
    for (uint32_t i = 0; i < rank; i++) {
        bytes dim = {0};
        put_int(&dim, 1, dims[i]);
        put(&shape, 1, dim);
    }
    put_int(&type, 1, dtype);
    put(&type, 2, shape);
    put(&outer, 1, type);
    put_text(&out, 1, name);
    put(&out, 2, outer);
    return out;
}

/* Names are separated by commas: node("Add", "a,b", "c"). */
static inline void put_names(bytes *out, uint32_t field, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, ",");
        put_data(out, field, names, n);
        names += n + (names[n] == ',');
    }
}

/* An f32 input of a dim that goes by a name, and one of a size. */
static inline bytes open_value(const char *name, const char *dim_name, int64_t width)
{
    bytes open = {0}, fixed = {0}, shape = {0}, type = {0}, outer = {0}, input = {0};
    put_text(&open, 2, dim_name);
    put_int(&fixed, 1, width);
    put(&shape, 1, open);
    put(&shape, 1, fixed);
    put_int(&type, 1, FLOAT);
    put(&type, 2, shape);
    put(&outer, 1, type);
    put_text(&input, 1, name);
    put(&input, 2, outer);
    return input;
}

static inline bytes node(const char *op, const char *inputs, const char *outputs)
{
    bytes out = {0};
    put_names(&out, 1, inputs);
    put_names(&out, 2, outputs);
    put_text(&out, 3, op);
    put_text(&out, 4, op);
    return out;
}

/* Wraps a graph: operator set `opset` of ai.onnx; 0 for none. */
static inline bytes model(bytes graph, int64_t opset)
{
    bytes id = {0}, out = {0};
    put_int(&out, 1, 8);
    put(&out, 7, graph);
    put_int(&id, 2, opset);
    if (opset) put(&out, 8, id);
    return out;
}

/* One node over f32 inputs of those dims, with up to three initializers, which may be empty. */
typedef struct one_node {
    const char *op, *inputs, *outputs;
    uint32_t n_attributes;
    bytes attributes[6];
    uint32_t rank;
    int64_t dims[8]; /* of the input "x" */
    int dtype;       /* of "x"; 0 is FLOAT */
    int64_t opset;   /* 0 is 17 */
    uint32_t n_initializers;
    bytes initializers[5];
} one_node;

static inline bytes one_node_model(const one_node *one)
{
    bytes graph = {0}, made = node(one->op, one->inputs, one->outputs);
    for (uint32_t i = 0; i < one->n_attributes; i++) put(&made, 5, one->attributes[i]);
    put(&graph, 1, made);
    put_text(&graph, 2, "g");
    for (uint32_t i = 0; i < one->n_initializers; i++) put(&graph, 5, one->initializers[i]);
    put(&graph, 11, value("x", one->dtype ? one->dtype : FLOAT, one->rank, one->dims));
    bytes output = {0};
    put_text(&output, 1, "y");
    put(&graph, 12, output);
    return model(graph, one->opset ? one->opset : 17);
}
#endif
