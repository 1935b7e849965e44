/* The driver API as far as it is used: types and entry points as NVIDIA documents them. */
#ifndef KILN_RUNTIME_CUDA_DRIVER_H
#define KILN_RUNTIME_CUDA_DRIVER_H

#include <stdint.h>

#include "base/scope.h"

typedef uint64_t kiln_cuda_memory; /* CUdeviceptr */

#define KILN_CUDA_OUT_OF_MEMORY 2
#define KILN_CUDA_CAPABILITY_MAJOR 75
#define KILN_CUDA_CAPABILITY_MINOR 76
#define KILN_CUDA_MAX_DYNAMIC_SHARED 8 /* function attribute */

typedef struct kiln_cuda_driver {
    void *library;
    int (*init)(unsigned flags);
    int (*count)(int *n);
    int (*device)(int *device, int number);
    int (*attribute)(int *value, int attribute, int device);
    int (*retain)(void **context, int device);
    int (*release)(int device);
    int (*push)(void *context);
    int (*pop)(void **context);
    int (*synchronize)(void);
    int (*load)(void **module, const void *image);
    int (*unload)(void *module);
    int (*function)(void **function, void *module, const char *name);
    int (*set)(void *function, int attribute, int value);
    int (*allocate)(kiln_cuda_memory *memory, size_t bytes);
    int (*free)(kiln_cuda_memory memory);
    int (*to_device)(kiln_cuda_memory to, const void *from, size_t bytes);
    int (*to_host)(void *to, kiln_cuda_memory from, size_t bytes);
    int (*copy)(kiln_cuda_memory to, kiln_cuda_memory from, size_t bytes);
    int (*launch)(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                  unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                  void *stream, void **params, void **extra);
    int (*error_string)(int code, const char **text);
} kiln_cuda_driver;

/* Opens the driver and starts it; DEVICE when it is not there or finds no device. */
kiln_status kiln_cuda_driver_open(kiln_cuda_driver *driver, kiln_error *error);
void kiln_cuda_driver_close(kiln_cuda_driver *driver);
/* The status of a call that returned `code`, with a sentence naming `what`; KILN_OK for 0. */
kiln_status kiln_cuda_check(const kiln_cuda_driver *driver, int code, const char *what,
                            kiln_error *error);
#endif
