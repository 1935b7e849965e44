/* Bodies of If, Loop and Scan: imported in place (onnx_flow.c) or as regions (onnx_region.c). */
#ifndef KILN_GRAPH_IO_ONNX_REGION_H
#define KILN_GRAPH_IO_ONNX_REGION_H

#include "graph/io/onnx_op.h"

typedef struct kiln_onnx_ports {
    uint32_t n_inputs, n_outputs;
    const kiln_value *inputs;
    kiln_value *outputs;
} kiln_onnx_ports;

/* Imports a body into the innermost graph. False, with the call tainted, when it cannot be. */
bool kiln_onnx_body(kiln_onnx_call *call, const Kiln__Onnx__Graph *body,
                    const kiln_onnx_ports *ports);

/* Entry i of a list attribute; 0 when it is absent. */
int64_t kiln_onnx_list_entry(kiln_onnx_call *call, const char *name, uint32_t i);

/* Whether Scan takes its sequence i from the end. */
bool kiln_onnx_scan_is_back(kiln_onnx_call *call, uint32_t i);

/* If on data; bodies are [else, then]. */
kiln_value kiln_onnx_if_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *const *bodies);
/* Loop; trips is -1 when nobody knows how many at most. */
kiln_value kiln_onnx_loop_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *body,
                                 int64_t trips);
/* Scan over n_scan sequences. */
kiln_value kiln_onnx_scan_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *body,
                                 uint32_t n_scan);
#endif
