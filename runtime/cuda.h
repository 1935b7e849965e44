/* Programs for NVIDIA devices: the driver is opened at run time, so nothing of CUDA is linked and a
 * machine without it gets a sentence. One kiln_cuda serves one workspace: modules, device memory
 * for ports, arena and constants. The first device is used, through its primary context. */
#ifndef KILN_RUNTIME_CUDA_H
#define KILN_RUNTIME_CUDA_H

#include <stdbool.h>

#include "base/scope.h"
#include "kiln/program.h"

typedef struct kiln_cuda kiln_cuda;

/* The first device's compute capability (90 for sm_90), or DEVICE with a sentence. */
kiln_status kiln_cuda_probe(int *out_capability, kiln_error *error);

/* Loads all kernels and constants of a verified program with device_kernels. */
kiln_status kiln_cuda_open(const kiln_program *program, kiln_cuda **out_cuda, kiln_error *error);

/* Copies inputs to the device, runs all steps, copies outputs back. `ports`: addresses of inputs,
 * then of outputs. `should_stop` is asked between steps; a stopped run returns KILN_OK. */
typedef struct kiln_cuda_run_args {
    void *const *ports;
    bool (*should_stop)(void *user);
    void *user;
    kiln_error *error;
} kiln_cuda_run_args;
kiln_status kiln_cuda_run(kiln_cuda *cuda, const kiln_cuda_run_args *args);

void kiln_cuda_close(kiln_cuda *cuda);
#endif
