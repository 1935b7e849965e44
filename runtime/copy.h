/* COPY steps with a number: which stretch of the target is meant. One place for all that run
 * them. */
#ifndef KILN_RUNTIME_COPY_H
#define KILN_RUNTIME_COPY_H

#include <stdint.h>

/* Where stretch k of `bytes` begins in `total` bytes; -1 when there is none. */
static inline int64_t kiln_copy_stretch(int64_t k, int64_t bytes, int64_t total)
{
    return k >= 0 && k < total / bytes ? k * bytes : -1;
}
#endif
