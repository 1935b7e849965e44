/* Kernel to CUDA text: one __global__ function with a pointer per parameter. Tiles are blocks, the
 * threads loop is threadIdx.x, locals are dynamic shared memory of kernel->scratch_bytes. The same
 * text compiles as C with KILN_SHIM defined and codegen/cuda/shim.h before it, which gives blocks,
 * threads and barriers their meaning on a CPU; it then also defines SYMBOL_shim(buffers, n_blocks).
 */
#ifndef KILN_CODEGEN_CUDA_PRINT_CUDA_H
#define KILN_CODEGEN_CUDA_PRINT_CUDA_H

#include "codegen/kernel.h"

/* The function without the prelude. The kernel's machine is a GPU. */
void kiln_kernel_print_cuda(const kiln_kernel *kernel, const char *symbol, kiln_text *text);
/* Prelude and function: what NVRTC takes. */
void kiln_kernel_print_cuda_file(const kiln_kernel *kernel, const char *symbol, kiln_text *text);
#endif
