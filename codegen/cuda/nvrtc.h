/* CUDA text to a cubin by NVRTC, opened at run time: nothing of CUDA is linked, and a machine
 * without it gets a sentence. No device is needed. */
#ifndef KILN_CODEGEN_CUDA_NVRTC_H
#define KILN_CODEGEN_CUDA_NVRTC_H

#include "base/scope.h"

typedef struct kiln_cubin {
    const void *data; /* in the scope's arena */
    size_t bytes;
    int major, minor; /* version of NVRTC that made it */
} kiln_cubin;

/* Compiles for `arch` ("sm_90a") with exact arithmetic: no contraction, no flushing, precise
 * division and square root. UNSUPPORTED when NVRTC is not installed, INTERNAL with its log when it
 * refuses. */
void kiln_nvrtc_compile(kiln_scope *scope, const char *text, const char *arch,
                        kiln_cubin *out_cubin);
#endif
