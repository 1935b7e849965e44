/* Single elements of any dtype, to and from double: splats, text, shorthands. Conversions follow the
 * op `convert`: to nearest even, integers truncate and saturate, NaN gives 0. */
#ifndef KILN_GRAPH_ELEMENT_H
#define KILN_GRAPH_ELEMENT_H

#include "graph/graph.h"

typedef enum kiln_dtype_kind {
    KILN_DTYPE_KIND_NONE,
    KILN_DTYPE_KIND_BOOL,
    KILN_DTYPE_KIND_INT,
    KILN_DTYPE_KIND_UINT,
    KILN_DTYPE_KIND_FLOAT,
} kiln_dtype_kind;

kiln_dtype_kind kiln_dtype_kind_of(kiln_dtype dtype);
bool kiln_dtype_in(kiln_dtype dtype, kiln_dtype_set set);

/* The dtype in which sums of `dtype` are kept by default: f32 for narrower floats, i32 or u32 for
 * narrower integers, else itself. */
kiln_dtype kiln_dtype_accumulator(kiln_dtype dtype);

/* Exact for every dtype but i64 and u64 beyond 2^53. */
double kiln_element_to_double(kiln_dtype dtype, const void *element);
void kiln_element_from_double(kiln_dtype dtype, double value, void *out_element);
#endif
