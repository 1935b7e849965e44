/* Elements of any dtype as doubles and as 64-bit integers, one or a row of them. Everything outside
 * the code generators that must know a dtype's bits goes through here. Conversions follow the op
 * `convert`: to nearest even and once, whatever the source; integers truncate and saturate, NaN
 * gives 0. */
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

/* Elements first … first + n - 1 of `data` as doubles; bool gives 0 or 1. */
void kiln_element_load_double(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                              double *out);
/* The same as integers: signed dtypes sign-extended, unsigned ones zero-extended, bool 0 or 1;
 * floats truncate and saturate to int64. */
void kiln_element_load_int(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                           uint64_t *out);

void kiln_element_store_double(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                               const double *in);
/* Stores 64-bit integers, signed or unsigned: integers wrap, floats round once, bool is != 0. */
void kiln_element_store_int(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                            const uint64_t *in, bool is_signed);
#endif
