/* Opening the driver: libcuda.so.1, which comes with the device's kernel module, not with a
 * toolkit. */
#include "runtime/cuda_driver.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} symbols[] = {
    {"cuInit", offsetof(kiln_cuda_driver, init)},
    {"cuDeviceGetCount", offsetof(kiln_cuda_driver, count)},
    {"cuDeviceGet", offsetof(kiln_cuda_driver, device)},
    {"cuDeviceGetAttribute", offsetof(kiln_cuda_driver, attribute)},
    {"cuDevicePrimaryCtxRetain", offsetof(kiln_cuda_driver, retain)},
    {"cuDevicePrimaryCtxRelease_v2", offsetof(kiln_cuda_driver, release)},
    {"cuCtxPushCurrent_v2", offsetof(kiln_cuda_driver, push)},
    {"cuCtxPopCurrent_v2", offsetof(kiln_cuda_driver, pop)},
    {"cuCtxSynchronize", offsetof(kiln_cuda_driver, synchronize)},
    {"cuModuleLoadData", offsetof(kiln_cuda_driver, load)},
    {"cuModuleUnload", offsetof(kiln_cuda_driver, unload)},
    {"cuModuleGetFunction", offsetof(kiln_cuda_driver, function)},
    {"cuFuncSetAttribute", offsetof(kiln_cuda_driver, set)},
    {"cuMemAlloc_v2", offsetof(kiln_cuda_driver, allocate)},
    {"cuMemFree_v2", offsetof(kiln_cuda_driver, free)},
    {"cuMemcpyHtoD_v2", offsetof(kiln_cuda_driver, to_device)},
    {"cuMemcpyDtoH_v2", offsetof(kiln_cuda_driver, to_host)},
    {"cuMemcpyDtoD_v2", offsetof(kiln_cuda_driver, copy)},
    {"cuLaunchKernel", offsetof(kiln_cuda_driver, launch)},
    {"cuGetErrorString", offsetof(kiln_cuda_driver, error_string)},
};

kiln_status kiln_cuda_check(const kiln_cuda_driver *driver, int code, const char *what,
                            kiln_error *error)
{
    const char *text = NULL;
    if (code == 0) return KILN_OK;
    if (driver->error_string(code, &text) || !text) text = "unknown error";
    kiln_status status = code == KILN_CUDA_OUT_OF_MEMORY ? KILN_NO_MEMORY : KILN_DEVICE;
    return kiln_error_set(error, status, "cuda: %s: %s (error %d)", what, text, code);
}

void kiln_cuda_driver_close(kiln_cuda_driver *driver)
{
    if (driver->library) dlclose(driver->library);
    driver->library = NULL;
}

static kiln_status start(kiln_cuda_driver *driver, kiln_error *error)
{
    int n = 0;
    kiln_status status =
        kiln_cuda_check(driver, driver->init(0), "the driver does not start", error);
    if (!status)
        status = kiln_cuda_check(driver, driver->count(&n), "devices cannot be counted", error);
    if (!status && n < 1)
        status = kiln_error_set(error, KILN_DEVICE, "cuda: the driver finds no CUDA device");
    return status;
}

kiln_status kiln_cuda_driver_open(kiln_cuda_driver *driver, kiln_error *error)
{
    memset(driver, 0, sizeof *driver);
    driver->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!driver->library)
        return kiln_error_set(error, KILN_DEVICE,
                              "cuda: no CUDA device: this machine has no libcuda.so.1; expected "
                              "NVIDIA's driver");
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(driver->library, symbols[i].name);
        memcpy((char *)driver + symbols[i].offset, &symbol, sizeof symbol);
        if (symbol) continue;
        kiln_cuda_driver_close(driver);
        return kiln_error_set(error, KILN_DEVICE,
                              "cuda: the driver lacks %s; expected version 12 or later",
                              symbols[i].name);
    }
    kiln_status status = start(driver, error);
    if (status) kiln_cuda_driver_close(driver);
    return status;
}
