/* The wire format of protobuf, written: tags, varints, fixed numbers, length-delimited fields. */
#include "graph/io/wire.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

kiln_wire kiln_wire_new(kiln_arena *arena)
{
    return (kiln_wire){.text = {.arena = arena}};
}

static void put_varint(kiln_text *text, uint64_t value)
{
    char bytes[10];
    size_t n = 0;
    for (; value > 127; value >>= 7) bytes[n++] = (char)(value | 128);
    bytes[n++] = (char)value;
    kiln_text_append_n(text, bytes, n);
}

static void put_tag(kiln_wire *wire, uint32_t field, uint32_t kind)
{
    put_varint(&wire->text, field << 3 | kind);
}

static void put_fixed(kiln_wire *wire, uint64_t value, int n)
{
    char bytes[8];
    for (int i = 0; i < n; i++) bytes[i] = (char)(value >> 8 * i);
    kiln_text_append_n(&wire->text, bytes, (size_t)n);
}

void kiln_wire_int(kiln_wire *wire, uint32_t field, int64_t value)
{
    put_tag(wire, field, WIRE_VARINT);
    put_varint(&wire->text, (uint64_t)value);
}

void kiln_wire_float(kiln_wire *wire, uint32_t field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_tag(wire, field, WIRE_FIXED32);
    put_fixed(wire, bits, 4);
}

void kiln_wire_fixed64(kiln_wire *wire, uint32_t field, uint64_t value)
{
    put_tag(wire, field, WIRE_FIXED64);
    put_fixed(wire, value, 8);
}

void kiln_wire_bytes(kiln_wire *wire, uint32_t field, const void *data, size_t n)
{
    put_tag(wire, field, WIRE_BYTES);
    put_varint(&wire->text, n);
    if (n) kiln_text_append_n(&wire->text, data, n);
}

void kiln_wire_string(kiln_wire *wire, uint32_t field, const char *string)
{
    kiln_wire_bytes(wire, field, string, strlen(string));
}

void kiln_wire_ints(kiln_wire *wire, uint32_t field, uint32_t n, const int64_t *values)
{
    kiln_text packed = {.arena = wire->text.arena};
    for (uint32_t i = 0; i < n; i++) put_varint(&packed, (uint64_t)values[i]);
    kiln_wire_bytes(wire, field, packed.at, packed.n);
}

void kiln_wire_literal(kiln_wire *wire, uint32_t field, const kiln_type *type,
                       const kiln_literal *literal)
{
    put_tag(wire, field, WIRE_BYTES);
    put_varint(&wire->text, (uint64_t)type->bytes);
    kiln_wire_weight weight = {wire->text.n, type, literal};
    kiln_vec_push(&wire->weights, wire->text.arena, weight);
    wire->weight_bytes += type->bytes;
}

int64_t kiln_wire_size(const kiln_wire *wire)
{
    return (int64_t)wire->text.n + wire->weight_bytes;
}

void kiln_wire_append(kiln_wire *wire, const kiln_wire *more)
{
    for (uint32_t i = 0; i < more->weights.n; i++) {
        kiln_wire_weight weight = more->weights.at[i];
        weight.at += wire->text.n;
        kiln_vec_push(&wire->weights, wire->text.arena, weight);
    }
    wire->weight_bytes += more->weight_bytes;
    if (more->text.n) kiln_text_append_n(&wire->text, more->text.at, more->text.n);
}

void kiln_wire_message(kiln_wire *wire, uint32_t field, const kiln_wire *inner)
{
    put_tag(wire, field, WIRE_BYTES);
    put_varint(&wire->text, (uint64_t)kiln_wire_size(inner));
    kiln_wire_append(wire, inner);
}

void kiln_wire_write(const kiln_wire *wire, kiln_sink *sink)
{
    size_t at = 0;
    for (uint32_t i = 0; i < wire->weights.n; i++) {
        const kiln_wire_weight *weight = &wire->weights.at[i];
        kiln_sink_write(sink, wire->text.at + at, weight->at - at);
        kiln_sink_literal(sink, weight->type, weight->literal);
        at = weight->at;
    }
    if (wire->text.n > at) kiln_sink_write(sink, wire->text.at + at, wire->text.n - at);
}
