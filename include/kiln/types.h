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
#define KILN_DTYPE(name, number, bytes, kind) KILN_##name = number,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
} kiln_dtype;

/* A dense, row-major tensor in the caller's memory, aligned to its element. `bytes` is the size of
 * `data` and must be the product of dims times the element's size. Rank 0 is a scalar; a dim may
 * be 0, and then `data` may be NULL. bool is one byte, read as != 0 and written as 0 or 1; bf16 and
 * f16 are 16-bit patterns. */
typedef struct kiln_tensor {
    kiln_dtype dtype;
    uint32_t rank;
    const int64_t *dims;
    void *data;
    size_t bytes;
} kiln_tensor;

/* Bytes of one element; 0 for a number that names no dtype. */
KILN_API size_t kiln_dtype_bytes(kiln_dtype dtype);

/* The spelling of the text form ("f32"); "?" for a number that names no dtype. */
KILN_API const char *kiln_dtype_name(kiln_dtype dtype);

/* The dtype of that spelling, or KILN_NO_DTYPE; so for NULL. */
KILN_API kiln_dtype kiln_dtype_parse(const char *name);

#ifdef __cplusplus
}
#endif
#endif
