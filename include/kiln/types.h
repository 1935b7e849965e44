/* Element types, shapes and tensor views, shared by the builder and the runtime.
 *
 *     int64_t dims[] = {2, 3};
 *     float data[6];
 *     kiln_tensor x = {KILN_f32, 2, dims, data, sizeof data};
 */
#ifndef KILN_TYPES_H
#define KILN_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "kiln/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KILN_MAX_RANK 16

typedef enum kiln_dtype {
    KILN_NO_DTYPE = 0,
#define KILN_DTYPE(name, number, bits, kind) KILN_##name = number,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
} kiln_dtype;

/* A dense, row-major tensor in the caller's memory, aligned to its element. `bytes` is the size of
 * `data` and must be the product of dims times the element's bits, in whole bytes. Rank 0 is a
 * scalar; a dim may be 0, and then `data` may be NULL.
 *   bool              one byte, read as != 0 and written as 0 or 1
 *   bf16, f16, f8…    patterns of 16 and 8 bits, little-endian; f8 by the names of OCP and ONNX:
 *                     fn has no infinity, fnuz no -0 either (its pattern is the one NaN)
 *   i4, u4, f4e2m1    two elements a byte in row-major order, rows not padded: element 2i is the
 *                     low half of byte i, element 2i + 1 the high half; behind an odd number of
 *                     elements the last high half is not read, and written as 0
 *   i2, u2            four elements a byte, the first one lowest, else the same
 *   c64, c128         pairs of f32 or f64, real part first, as in C */
typedef struct kiln_tensor {
    kiln_dtype dtype;
    uint32_t rank;
    const int64_t *dims;
    void *data;
    size_t bytes;
} kiln_tensor;

/* Bits of one element; 0 for a number that names no dtype. */
KILN_API size_t kiln_dtype_bits(kiln_dtype dtype);

/* Bytes of one element alone: bits / 8, and 1 for 2 and 4 bits. */
KILN_API size_t kiln_dtype_bytes(kiln_dtype dtype);

/* The spelling of the text form ("f32"); "?" for a number that names no dtype. */
KILN_API const char *kiln_dtype_name(kiln_dtype dtype);

/* The dtype of that spelling, or KILN_NO_DTYPE; so for NULL. */
KILN_API kiln_dtype kiln_dtype_parse(const char *name);

#ifdef __cplusplus
}
#endif
#endif
