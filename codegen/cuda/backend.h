/* The CUDA backend: kernels of GPU machines to cubins by NVRTC. In libkiln itself: nothing is
 * linked. Objects are cubins; the runtime loads them (kiln/program.h, device_kernels), not `load`.
 */
#ifndef KILN_CODEGEN_CUDA_BACKEND_H
#define KILN_CODEGEN_CUDA_BACKEND_H

#include "codegen/backend.h"

const kiln_backend *kiln_backend_cuda(void);
#endif
