/* Kernels made of kernels. */
#ifndef KILN_CODEGEN_KERNEL_JOIN_H
#define KILN_CODEGEN_KERNEL_JOIN_H

#include "codegen/kernel.h"

/* A kernel as a part of another: where its parameters and its tiles are there. */
typedef struct kiln_kernel_part {
    const kiln_kernel *kernel; /* for a CPU, without matrix tiles */
    const uint32_t *params;    /* by parameter of the part: that of the whole */
    int64_t first_tile;
} kiln_kernel_part;
/* Appends the part, which comes behind all others that `k` has. */
void kiln_kernel_join(kiln_kernel *k, const kiln_kernel_part *part);
#endif
