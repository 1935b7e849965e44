/* Blocks and threads: the shells of GPU kernels. */
#ifndef KILN_CODEGEN_LOWER_GPU_H
#define KILN_CODEGEN_LOWER_GPU_H

#include "codegen/lower.h"

#define KILN_GPU_BLOCK 256

/* Opens blocks and threads; returns the thread's number in its block. */
kiln_kv kiln_gpu_open_threads(kiln_lower *lower, int64_t n_blocks, kiln_kv *out_block);
void kiln_gpu_close_threads(kiln_lower *lower);
/* Opens them with a thread for each of `n` elements and, inside, a loop of one trip where the
 * thread has an element; returns its number. */
kiln_kv kiln_gpu_open_elements(kiln_lower *lower, int64_t n);
void kiln_gpu_close_elements(kiln_lower *lower);
#endif
