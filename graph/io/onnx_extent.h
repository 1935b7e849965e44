/* Values whose size depends on the data. Such a value has the dims of a bound; of one axis only the
 * first `count` entries are there. The others hold values that no result may depend on. */
#ifndef KILN_GRAPH_IO_ONNX_EXTENT_H
#define KILN_GRAPH_IO_ONNX_EXTENT_H

#include "graph/io/onnx_op.h"

/* The extent of a value, or NULL when its size is fixed. */
const kiln_onnx_extent *kiln_onnx_extent_find(kiln_onnx_call *call, kiln_value value);
/* Of `axis` only `count` (an i64 scalar) entries are there. */
void kiln_onnx_extent_set(kiln_onnx_call *call, kiln_value value, uint32_t axis, kiln_value count);
/* A bool for each element of a value that has an extent: whether it is there. */
kiln_value kiln_onnx_extent_mask(kiln_onnx_call *call, kiln_value value);
/* `value` of fixed size: what is not there is `filler`. Itself when it has no extent. */
kiln_value kiln_onnx_extent_fill(kiln_onnx_call *call, kiln_value value, double filler);
/* After a node: UNSUPPORTED when a result has no extent that is understood. */
void kiln_onnx_extents_check(kiln_onnx_call *call);
/* The elements of the size that it has dense at the front, as an output wants them. */
kiln_value kiln_onnx_extent_pack(kiln_onnx_call *call, kiln_value value);

/* onnx_suppression.c */
kiln_value kiln_onnx_import_suppression(kiln_onnx_call *call);

/* The places at which a bool vector is true, in order, then zeros; and how many they are. */
kiln_value kiln_onnx_places(kiln_onnx_call *call, kiln_value mask, kiln_value *out_count);
/* `base` with updates[i] at places[i], all vectors; those beyond its end are dropped. */
kiln_value kiln_onnx_put(kiln_onnx_call *call, kiln_op op, kiln_value base, kiln_value places,
                         kiln_value updates);

#endif
