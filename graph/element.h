/* Elements of any dtype as doubles and as 64-bit integers, one or a row of them. Everything outside
 * the code generators that must know a dtype's bits goes through here. Conversions follow the op
 * `convert`: to nearest even and once, whatever the source; integers truncate and saturate, NaN
 * gives 0. */
#ifndef KILN_GRAPH_ELEMENT_H
#define KILN_GRAPH_ELEMENT_H

#include <string.h>

#include "graph/graph.h"

typedef enum kiln_dtype_kind {
    KILN_DTYPE_KIND_NONE,
    KILN_DTYPE_KIND_BOOL,
    KILN_DTYPE_KIND_INT,
    KILN_DTYPE_KIND_UINT,
    KILN_DTYPE_KIND_FLOAT,
    KILN_DTYPE_KIND_COMPLEX,
} kiln_dtype_kind;

kiln_dtype_kind kiln_dtype_kind_of(kiln_dtype dtype);
bool kiln_dtype_in(kiln_dtype dtype, kiln_dtype_set set);

/* The dtype of the two parts of a complex dtype; other dtypes are their own. */
kiln_dtype kiln_dtype_part(kiln_dtype dtype);

/* How a float of at most 16 bits is laid out: sign, exponent, fraction. A magnitude above `top`,
 * the largest finite one, is infinite if it is `over` and `over` is not `nan`, else NaN. Rounding
 * beyond `top` gives `over`, a NaN gives `nan`, both with the sign unless they have it: in the fnuz
 * types, whose only zero is 0, that is the one NaN; f4e2m1, which has none, takes -0 for NaN. */
typedef struct kiln_float_format {
    uint8_t fraction, exponent; /* bits */
    uint8_t bias;
    bool is_unsigned_zero;
    uint16_t top, over, nan;
} kiln_float_format;

/* NULL for all other dtypes. */
const kiln_float_format *kiln_float_format_of(kiln_dtype dtype);

#define KILN_ELEMENT_BYTES_MAX 16

/* Where element i of a dtype of fewer than 8 bits stands. */
typedef struct kiln_packed_place {
    int64_t byte;
    unsigned shift, mask;
} kiln_packed_place;

static inline kiln_packed_place kiln_packed_at(kiln_dtype dtype, int64_t i)
{
    int64_t bits = (int64_t)kiln_dtype_bits(dtype), a_byte = 8 / (bits ? bits : 8);
    return (kiln_packed_place){i / a_byte, (unsigned)(i % a_byte * bits), (1u << bits) - 1};
}

/* The dtype in which sums of `dtype` are kept by default: f32 for narrower floats, i32 or u32 for
 * narrower integers, else itself. */
kiln_dtype kiln_dtype_accumulator(kiln_dtype dtype);

/* Exact for every dtype but i64 and u64 beyond 2^53; of a complex element the real part. An element
 * of 2 or 4 bits alone stands in the low bits of a byte. */
double kiln_element_to_double(kiln_dtype dtype, const void *element);
void kiln_element_from_double(kiln_dtype dtype, double value, void *out_element);

/* Elements first … first + n - 1 of `data` as doubles; bool gives 0 or 1. Stores of elements
 * of 2 or 4 bits leave the others of a byte alone. */
void kiln_element_load_double(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                              double *out);
/* The same as integers: signed dtypes sign-extended, unsigned ones zero-extended, bool 0 or 1;
 * floats truncate and saturate to int64. */
void kiln_element_load_int(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                           uint64_t *out);

/* Copies one element of an array to a place in another, bit for bit. */
void kiln_element_copy(kiln_dtype dtype, void *to, int64_t to_at, const void *from,
                       int64_t from_at);

void kiln_element_store_double(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                               const double *in);
/* Stores 64-bit integers, signed or unsigned: integers wrap, floats round once, bool is != 0. */
void kiln_element_store_int(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                            const uint64_t *in, bool is_signed);

/* To nearest even, as the pattern of an f32 whose low half is 0; a NaN stays one. */
static inline uint32_t kiln_bf16_pattern(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bits | 0x400000) & 0xffff0000;
    return (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
}
#endif
