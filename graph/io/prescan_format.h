/* What the pre-scan knows of a format: one row for each field that somebody reads. */
#ifndef KILN_GRAPH_IO_PRESCAN_FORMAT_H
#define KILN_GRAPH_IO_PRESCAN_FORMAT_H

#include "graph/io/prescan.h"

typedef enum kiln_scan_action {
    KILN_SCAN_VARINT,
    KILN_SCAN_FIXED32,
    KILN_SCAN_FIXED64,
    KILN_SCAN_NAME,    /* text, at most 4 KiB */
    KILN_SCAN_WORD,    /* text, at most 256 bytes */
    KILN_SCAN_BLOB,    /* bytes, at most 16 MiB */
    KILN_SCAN_INTS,    /* varints, one or packed */
    KILN_SCAN_FLOATS,  /* fixed32, one or packed */
    KILN_SCAN_DOUBLES, /* fixed64, one or packed */
    KILN_SCAN_LIFT,    /* recorded by place, not copied */
    KILN_SCAN_MESSAGE,
} kiln_scan_action;

typedef struct kiln_scan_rule {
    uint8_t message, field, action, child;
    const char *name; /* NULL ends the rules */
} kiln_scan_rule;

struct kiln_scan_format {
    const char *title; /* "an ONNX model" */
    const kiln_scan_rule *rules;
    const int64_t *costs; /* by message, once it is unpacked: struct, pointer, scan records */
    uint8_t root, node;   /* messages: the file, and what counts as a node */
    const char *root_name;
    uint32_t first_skipped; /* unknown fields below this number are MODEL */
};
#endif
