/* ONNX bytes -> compacted copy for protobuf-c. protobuf-c has no depth limit, no memory limit and
 * no reasons, and copies every weight; so this scan walks the wire format first, with an explicit
 * stack, checks every length and text, drops the fields that nobody reads (documentation, metadata,
 * value_info), writes where raw_data stands instead of its bytes, and gives protobuf-c the
 * compacted copy. A message's length is written as a padded 5-byte varint, patched when the message
 * ends. */
#include "graph/io/prescan_format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/text.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

typedef struct scan_frame {
    uint8_t message;
    const char *name; /* of the field that holds it */
    int64_t end;      /* in the source */
    size_t length_at; /* in the copy: where its length is to be patched */
} scan_frame;

typedef struct scan_state {
    const kiln_source *source;
    const kiln_scan_format *format;
    kiln_scope *scope;
    int64_t at;
    uint8_t *window;
    int64_t window_from, window_to;
    uint8_t *copy; /* malloc'd; freed with the scope through this struct */
    size_t n, capacity;
    int64_t cost, budget;
    uint32_t depth, n_nodes;
    scan_frame frames[KILN_ONNX_MAX_DEPTH];
} scan_state;

#define WINDOW_BYTES 65536
#define PATH_LEVELS 32 /* of a sentence: the innermost */

/* "graph.node.attribute" and the field at work. */
static const char *scan_path(scan_state *scan, const char *field)
{
    kiln_text text = {.arena = &scan->scope->arena};
    uint32_t first = scan->depth > PATH_LEVELS ? scan->depth - PATH_LEVELS : 1;
    if (first > 1) kiln_text_append(&text, "….");
    for (uint32_t i = first; i < scan->depth; i++)
        kiln_text_printf(&text, "%s.", scan->frames[i].name);
    kiln_text_append(&text, field);
    return kiln_text_string(&text);
}

_Noreturn static void scan_fail(scan_state *scan, kiln_status status, const char *field,
                                const char *found)
{
    kiln_fail(scan->scope, status, "%s: byte %" PRId64 ": %s: %s", scan->source->where, scan->at,
              scan_path(scan, field), found);
}

static void scan_charge(scan_state *scan, const char *field, int64_t bytes)
{
    scan->cost += bytes;
    if (scan->cost <= scan->budget) return;
    const char *found = kiln_arena_format(&scan->scope->arena,
                                          "unpacking needs more proto memory than %" PRId64
                                          " bytes; expected at most 8 times the file + 64 MiB",
                                          scan->budget);
    scan_fail(scan, KILN_LIMIT, field, found);
}

static uint8_t *scan_grow(scan_state *scan, size_t bytes)
{
    if (scan->capacity - scan->n < bytes) {
        size_t grown = scan->capacity ? scan->capacity : 4096;
        while (grown - scan->n < bytes) grown *= 2;
        if (grown > (size_t)1 << 32)
            scan_fail(scan, KILN_LIMIT, "model", "structure over 2 GiB; expected less");
        uint8_t *copy = realloc(scan->copy, grown);
        if (!copy) kiln_fail(scan->scope, KILN_NO_MEMORY, "%s: out of memory", scan->source->where);
        scan->copy = copy;
        scan->capacity = grown;
    }
    uint8_t *at = scan->copy + scan->n;
    scan->n += bytes;
    return at;
}

static void emit_varint(scan_state *scan, uint64_t value)
{
    for (; value > 127; value >>= 7) *scan_grow(scan, 1) = (uint8_t)(value | 128);
    *scan_grow(scan, 1) = (uint8_t)value;
}

static void emit_fixed64(scan_state *scan, uint32_t field, uint64_t value)
{
    emit_varint(scan, field << 3 | WIRE_FIXED64);
    uint8_t *at = scan_grow(scan, 8);
    for (int i = 0; i < 8; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static int64_t scan_left(const scan_state *scan)
{
    return scan->frames[scan->depth - 1].end - scan->at;
}

static uint8_t scan_byte(scan_state *scan, const char *field)
{
    if (scan_left(scan) <= 0)
        scan_fail(scan, KILN_MODEL, field, "the file is truncated here; expected more bytes");
    if (scan->source->memory) return scan->source->memory[scan->at++];
    if (scan->at < scan->window_from || scan->at >= scan->window_to) {
        int64_t n = kiln_min_i64(WINDOW_BYTES, scan->source->bytes - scan->at);
        kiln_source_read(scan->source, scan->at, n, scan->window);
        scan->window_from = scan->at;
        scan->window_to = scan->at + n;
    }
    return scan->window[scan->at++ - scan->window_from];
}

static uint64_t scan_varint(scan_state *scan, const char *field)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = scan_byte(scan, field);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return value;
    }
    scan_fail(scan, KILN_MODEL, field, "a number of more than 10 bytes; expected a varint");
}

static int64_t scan_length(scan_state *scan, const char *field)
{
    int64_t from = scan->at, left;
    uint64_t length = scan_varint(scan, field);
    left = scan_left(scan);
    if (length > (uint64_t)left) {
        const char *found = kiln_arena_format(
            &scan->scope->arena,
            "length %" PRIu64 ", but %" PRId64
            " bytes are left: the file is truncated or damaged; expected a complete field",
            length, left);
        scan->at = from;
        scan_fail(scan, KILN_MODEL, field, found);
    }
    return (int64_t)length;
}

static void emit_payload(scan_state *scan, const kiln_scan_rule *rule, int64_t bytes)
{
    emit_varint(scan, (uint32_t)rule->field << 3 | WIRE_BYTES);
    emit_varint(scan, (uint64_t)bytes);
    kiln_source_read(scan->source, scan->at, bytes, scan_grow(scan, (size_t)bytes));
    scan->at += bytes;
}

static void scan_text(scan_state *scan, const kiln_scan_rule *rule, int64_t limit)
{
    int64_t from = scan->at, bytes = scan_length(scan, rule->name);
    if (bytes > limit) {
        const char *found =
            kiln_arena_format(&scan->scope->arena,
                              "text of %" PRId64 " bytes; expected at most %" PRId64, bytes, limit);
        scan_fail(scan, KILN_LIMIT, rule->name, found);
    }
    scan_charge(scan, rule->name, bytes + 48);
    emit_payload(scan, rule, bytes);
    const uint8_t *text = scan->copy + scan->n - bytes;
    for (int64_t i = 0; i < bytes;) {
        size_t n = kiln_utf8_length(text + i, (size_t)(bytes - i));
        if (n == 0) {
            kiln_text quoted = {.arena = &scan->scope->arena};
            kiln_text_quoted(&quoted, (const char *)text, (size_t)kiln_min_i64(bytes, 64));
            scan->at = from;
            scan_fail(scan, KILN_MODEL, rule->name,
                      kiln_arena_format(&scan->scope->arena, "%s; expected UTF-8 text without NUL",
                                        kiln_text_string(&quoted)));
        }
        i += (int64_t)n;
    }
}

static void scan_blob(scan_state *scan, const kiln_scan_rule *rule)
{
    int64_t bytes = scan_length(scan, rule->name);
    if (bytes > 16 << 20)
        scan_fail(scan, KILN_LIMIT, rule->name, "over 16 MiB; expected at most 16 MiB");
    scan_charge(scan, rule->name, bytes + 64);
    emit_payload(scan, rule, bytes);
}

/* Numbers in one field: a single one in its own wire type, or a packed run. */
static void scan_numbers(scan_state *scan, const kiln_scan_rule *rule, uint32_t wire)
{
    int64_t width = rule->action == KILN_SCAN_FLOATS    ? 4
                    : rule->action == KILN_SCAN_DOUBLES ? 8
                                                        : 1;
    if (wire != WIRE_BYTES) {
        emit_varint(scan, (uint32_t)rule->field << 3 | wire);
        scan_charge(scan, rule->name, 48);
        if (wire == WIRE_VARINT) {
            emit_varint(scan, scan_varint(scan, rule->name));
        } else {
            int n = wire == WIRE_FIXED64 ? 8 : 4;
            for (int i = 0; i < n; i++) {
                uint8_t byte = scan_byte(scan, rule->name);
                *scan_grow(scan, 1) = byte;
            }
        }
        return;
    }
    int64_t bytes = scan_length(scan, rule->name);
    if (bytes % width) {
        scan_fail(scan, KILN_MODEL, rule->name,
                  kiln_arena_format(&scan->scope->arena,
                                    "packed run of %" PRId64
                                    " bytes; expected a multiple of %" PRId64,
                                    bytes, width));
    }
    scan_charge(scan, rule->name, width > 1 ? bytes : bytes * 8);
    emit_payload(scan, rule, bytes);
}

static void scan_lift(scan_state *scan, const kiln_scan_rule *rule)
{
    int64_t bytes = scan_length(scan, rule->name);
    emit_fixed64(scan, 1000, (uint64_t)scan->at);
    emit_fixed64(scan, 1001, (uint64_t)bytes);
    scan->at += bytes;
}

static void scan_enter(scan_state *scan, const kiln_scan_rule *rule)
{
    int64_t bytes = scan_length(scan, rule->name);
    if (scan->depth == KILN_ONNX_MAX_DEPTH)
        scan_fail(scan, KILN_LIMIT, rule->name,
                  "messages nest deeper than 200; expected nesting of at most 200");
    if (rule->child == scan->format->node && ++scan->n_nodes > KILN_ONNX_MAX_NODES)
        scan_fail(scan, KILN_LIMIT, rule->name,
                  "more than 1000000 nodes; expected at most 1000000");
    scan_charge(scan, rule->name, scan->format->costs[rule->child]);
    emit_varint(scan, (uint32_t)rule->field << 3 | WIRE_BYTES);
    scan_frame *frame = &scan->frames[scan->depth++];
    *frame = (scan_frame){rule->child, rule->name, scan->at + bytes, scan->n};
    scan_grow(scan, 5);
}

static void scan_leave(scan_state *scan)
{
    const scan_frame *frame = &scan->frames[--scan->depth];
    size_t length = scan->n - frame->length_at - 5;
    if (length > INT32_MAX)
        scan_fail(scan, KILN_LIMIT, frame->name, "structure over 2 GiB; expected less");
    for (int i = 0; i < 5; i++) {
        scan->copy[frame->length_at + (size_t)i] =
            (uint8_t)((length >> 7 * i & 127) | (i < 4 ? 128 : 0));
    }
}

static const kiln_scan_rule *rule_find(const kiln_scan_format *format, uint8_t message,
                                       uint64_t field)
{
    for (const kiln_scan_rule *rule = format->rules; rule->name; rule++) {
        if (rule->message == message && rule->field == field) return rule;
    }
    return NULL;
}

static void scan_skip(scan_state *scan, uint32_t wire)
{
    int64_t bytes = 0;
    switch (wire) {
    case WIRE_VARINT:
        scan_varint(scan, "unknown field");
        return;
    case WIRE_FIXED64:
        bytes = 8;
        break;
    case WIRE_FIXED32:
        bytes = 4;
        break;
    case WIRE_BYTES:
        bytes = scan_length(scan, "unknown field");
        break;
    default:
        scan_fail(scan, KILN_MODEL, "unknown field",
                  "wire type 3, 4, 6 or 7; expected 0, 1, 2 or 5");
    }
    if (bytes > scan_left(scan))
        scan_fail(scan, KILN_MODEL, "unknown field",
                  "the file is truncated here; expected more bytes");
    scan->at += bytes;
}

static bool wire_fits(uint8_t action, uint32_t wire)
{
    switch (action) {
    case KILN_SCAN_VARINT:
        return wire == WIRE_VARINT;
    case KILN_SCAN_INTS:
        return wire == WIRE_VARINT || wire == WIRE_BYTES;
    case KILN_SCAN_FIXED32:
        return wire == WIRE_FIXED32;
    case KILN_SCAN_FLOATS:
        return wire == WIRE_FIXED32 || wire == WIRE_BYTES;
    case KILN_SCAN_FIXED64:
        return wire == WIRE_FIXED64;
    case KILN_SCAN_DOUBLES:
        return wire == WIRE_FIXED64 || wire == WIRE_BYTES;
    default:
        return wire == WIRE_BYTES;
    }
}

static void scan_field(scan_state *scan)
{
    int64_t from = scan->at;
    uint64_t tag = scan_varint(scan, "field tag");
    uint32_t wire = tag & 7;
    if (tag >> 3 == 0 || tag >> 32) {
        scan->at = from;
        scan_fail(scan, KILN_MODEL, "field tag",
                  kiln_arena_format(&scan->scope->arena, "not a field number; expected %s",
                                    scan->format->title));
    }
    const kiln_scan_rule *rule =
        rule_find(scan->format, scan->frames[scan->depth - 1].message, tag >> 3);
    if (!rule && tag >> 3 < scan->format->first_skipped) {
        scan->at = from;
        scan_fail(
            scan, KILN_MODEL, "unknown field",
            kiln_arena_format(&scan->scope->arena,
                              "number %u; expected one that this version knows, or from %u on",
                              (unsigned)(tag >> 3), scan->format->first_skipped));
    }
    if (!rule) {
        scan_skip(scan, wire);
        return;
    }
    if (!wire_fits(rule->action, wire)) {
        scan->at = from;
        scan_fail(scan, KILN_MODEL, rule->name,
                  kiln_arena_format(&scan->scope->arena, "wire type %u; expected that of the field",
                                    wire));
    }
    switch ((kiln_scan_action)rule->action) {
    case KILN_SCAN_NAME:
        scan_text(scan, rule, 4096);
        break;
    case KILN_SCAN_WORD:
        scan_text(scan, rule, 256);
        break;
    case KILN_SCAN_BLOB:
        scan_blob(scan, rule);
        break;
    case KILN_SCAN_LIFT:
        scan_lift(scan, rule);
        break;
    case KILN_SCAN_MESSAGE:
        scan_enter(scan, rule);
        break;
    case KILN_SCAN_VARINT:
    case KILN_SCAN_FIXED32:
    case KILN_SCAN_FIXED64:
    case KILN_SCAN_INTS:
    case KILN_SCAN_FLOATS:
    case KILN_SCAN_DOUBLES:
        scan_numbers(scan, rule, wire);
        break;
    }
}

static void state_release(void *object)
{
    free(((scan_state *)object)->copy);
}

void kiln_prescan(const kiln_source *source, const kiln_scan_format *format,
                  kiln_scan_copy *out_copy)
{
    kiln_scope *scope = source->scope;
    scan_state *scan = kiln_new(&scope->arena, scan_state);
    scan->source = source;
    scan->format = format;
    scan->scope = scope;
    scan->window = kiln_arena_alloc(&scope->arena, WINDOW_BYTES);
    scan->budget = 8 * source->bytes + (64 << 20);
    kiln_scope_defer(scope, state_release, scan);
    scan->frames[0] = (scan_frame){format->root, format->root_name, source->bytes, 0};
    scan->depth = 1;
    while (scan->depth > 1 || scan_left(scan) > 0) {
        if (scan_left(scan) > 0) {
            scan_field(scan);
        } else {
            scan_leave(scan);
        }
    }
    *out_copy = (kiln_scan_copy){scan->copy, scan->n, scan->budget};
}
