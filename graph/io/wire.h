/* Protobuf messages being written: small bytes in memory, weights as places that are filled in when
 * the message goes to a file. A message is built first and then put into the one around it, so that
 * its length is known; what is copied on the way is never the weights. */
#ifndef KILN_GRAPH_IO_WIRE_H
#define KILN_GRAPH_IO_WIRE_H

#include "graph/io/sink.h"

typedef struct kiln_wire_weight {
    size_t at; /* in the text: its elements stand before this byte */
    const kiln_type *type;
    const kiln_literal *literal;
} kiln_wire_weight;

typedef struct kiln_wire {
    kiln_text text;
    kiln_vec(kiln_wire_weight) weights;
    int64_t weight_bytes;
} kiln_wire;

kiln_wire kiln_wire_new(kiln_arena *arena);
void kiln_wire_int(kiln_wire *wire, uint32_t field, int64_t value);
void kiln_wire_float(kiln_wire *wire, uint32_t field, float value);
void kiln_wire_fixed64(kiln_wire *wire, uint32_t field, uint64_t value);
void kiln_wire_string(kiln_wire *wire, uint32_t field, const char *string);
void kiln_wire_bytes(kiln_wire *wire, uint32_t field, const void *data, size_t n);
/* Packed varints. */
void kiln_wire_ints(kiln_wire *wire, uint32_t field, uint32_t n, const int64_t *values);
/* A bytes field of all elements of a constant. */
void kiln_wire_literal(kiln_wire *wire, uint32_t field, const kiln_type *type,
                       const kiln_literal *literal);
void kiln_wire_message(kiln_wire *wire, uint32_t field, const kiln_wire *inner);
/* The fields of `more` after those of `wire`. */
void kiln_wire_append(kiln_wire *wire, const kiln_wire *more);
int64_t kiln_wire_size(const kiln_wire *wire);
void kiln_wire_write(const kiln_wire *wire, kiln_sink *sink);
#endif
