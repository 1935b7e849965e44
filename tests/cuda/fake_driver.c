/* libcuda.so.1 for tests: device memory is host memory, a module is a shared object that the shim
 * made (codegen/cuda/shim.h), a launch runs its blocks at once. Tests load it by path before the
 * runtime asks for the name. $KILN_FAKE_CUDA names a capability (default 90), "none" for no device.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct function {
    int (*run)(void *const *buffers, unsigned n_blocks);
    unsigned n_params;
} function;

static int n_live; /* allocations and modules that are not freed */
static int n_launches;

int fake_cuda_live(void);
int fake_cuda_live(void)
{
    return n_live;
}

int fake_cuda_launches(void);
int fake_cuda_launches(void)
{
    return n_launches;
}

static const char *setting(void)
{
    const char *text = getenv("KILN_FAKE_CUDA");
    return text ? text : "90";
}

#define ENTRY(name, ...)                                                                           \
    int name(__VA_ARGS__);                                                                         \
    int name(__VA_ARGS__)

ENTRY(cuInit, unsigned flags)
{
    return flags ? 1 : 0;
}

ENTRY(cuDeviceGetCount, int *n)
{
    *n = strcmp(setting(), "none") != 0;
    return 0;
}

ENTRY(cuDeviceGet, int *device, int number)
{
    *device = 7;
    return number ? 101 : 0;
}

ENTRY(cuDeviceGetAttribute, int *value, int attribute, int device)
{
    int capability = atoi(setting());
    *value = attribute == 75 ? capability / 10 : capability % 10;
    return device != 7 || (attribute != 75 && attribute != 76);
}

ENTRY(cuDevicePrimaryCtxRetain, void **context, int device)
{
    n_live++;
    *context = &n_live;
    return device != 7;
}

ENTRY(cuDevicePrimaryCtxRelease_v2, int device)
{
    n_live--;
    return device != 7;
}

static int depth;

ENTRY(cuCtxPushCurrent_v2, void *context)
{
    depth++;
    return context != &n_live;
}

ENTRY(cuCtxPopCurrent_v2, void **context)
{
    *context = &n_live;
    return depth-- <= 0;
}

ENTRY(cuCtxSynchronize, void)
{
    return depth != 1;
}

/* The image does not say how long it is: an ELF file ends with its section table. */
ENTRY(cuModuleLoadData, void **module, const void *image)
{
    const Elf64_Ehdr *head = image;
    size_t bytes = head->e_shoff + (size_t)head->e_shnum * head->e_shentsize;
    char path[64];
    int file = memfd_create("module", 0);
    if (depth != 1 || write(file, image, bytes) != (ssize_t)bytes) return 200;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    close(file);
    n_live++;
    return *module ? 0 : 200;
}

ENTRY(cuModuleUnload, void *module)
{
    n_live--;
    return dlclose(module);
}

ENTRY(cuModuleGetFunction, void **out, void *module, const char *name)
{
    static function functions[256];
    static unsigned n;
    char symbol[256];
    function *at = &functions[n++ % 256];
    snprintf(symbol, sizeof symbol, "%s_shim", name);
    *(void **)&at->run = dlsym(module, symbol);
    snprintf(symbol, sizeof symbol, "%s_shim_params", name);
    const unsigned *n_params = dlsym(module, symbol);
    if (!at->run || !n_params) return 500;
    at->n_params = *n_params;
    *out = at;
    return 0;
}

ENTRY(cuFuncSetAttribute, void *at, int attribute, int value)
{
    return !at || attribute != 8 || value < 49152;
}

ENTRY(cuMemAlloc_v2, uint64_t *memory, size_t bytes)
{
    *memory = (uint64_t)(uintptr_t)aligned_alloc(256, (bytes + 255) & ~(size_t)255);
    n_live++;
    return *memory ? 0 : 2;
}

ENTRY(cuMemFree_v2, uint64_t memory)
{
    free((void *)(uintptr_t)memory);
    n_live--;
    return 0;
}

ENTRY(cuMemcpyHtoD_v2, uint64_t to, const void *from, size_t bytes)
{
    memcpy((void *)(uintptr_t)to, from, bytes);
    return 0;
}

ENTRY(cuMemcpyDtoH_v2, void *to, uint64_t from, size_t bytes)
{
    memcpy(to, (const void *)(uintptr_t)from, bytes);
    return 0;
}

ENTRY(cuMemcpyDtoD_v2, uint64_t to, uint64_t from, size_t bytes)
{
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    return 0;
}

ENTRY(cuLaunchKernel, void *at, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
      unsigned bz, unsigned shared_bytes, void *stream, void **params, void **extra)
{
    const function *f = at;
    void *buffers[64];
    if (depth != 1 || y * z * by * bz != 1 || !bx || stream || extra || f->n_params > 64) return 1;
    if (shared_bytes > 232448) return 1;
    for (unsigned i = 0; i < f->n_params; i++) memcpy(&buffers[i], params[i], sizeof buffers[i]);
    n_launches++;
    return f->run(buffers, x) ? 719 : 0;
}

ENTRY(cuGetErrorString, int code, const char **text)
{
    *text = code == 2 ? "out of memory" : "a fault of the fake device";
    return 0;
}
