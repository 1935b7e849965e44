/* The CUDA printer and NVRTC as a backend. */
#include "codegen/cuda/backend.h"

#include "codegen/cuda/nvrtc.h"
#include "codegen/cuda/print_cuda.h"

static void check_kernel(kiln_scope *scope, const kiln_kernel *kernel)
{
    kiln_error error = {0};
    if (kernel->machine->kind != KILN_MACHINE_GPU)
        kiln_fail(scope, KILN_INTERNAL, "cuda: machine %s is not a GPU", kernel->machine->name);
    if (kiln_kernel_verify(kernel, &error)) kiln_fail_with(scope, &error);
}

static void cuda_emit(kiln_scope *scope, const kiln_kernel *kernel, const char *symbol,
                      kiln_text *text)
{
    check_kernel(scope, kernel);
    kiln_kernel_print_cuda(kernel, symbol, text);
}

static kiln_tools *cuda_open_tools(kiln_scope *scope)
{
    return NULL;
}

static void cuda_close_tools(kiln_tools *tools)
{
}

static void cuda_compile(kiln_scope *scope, kiln_tools *tools, const kiln_kernel *kernel,
                         const char *symbol, kiln_object *out_object)
{
    kiln_cubin cubin;
    kiln_text text = {.arena = &scope->arena};
    check_kernel(scope, kernel);
    kiln_kernel_print_cuda_file(kernel, symbol, &text);
    kiln_nvrtc_compile(scope, kiln_text_string(&text), kernel->machine->name, &cubin);
    *out_object = (kiln_object){cubin.data, cubin.bytes, kiln_arena_string(&scope->arena, symbol)};
}

static void cuda_load(kiln_scope *scope, const kiln_object *objects, uint32_t n,
                      kiln_code **out_code)
{
    kiln_fail(scope, KILN_INTERNAL, "cuda: %u kernels are not code of this process", n);
}

static kiln_kernel_fn *cuda_function(const kiln_code *code, uint32_t number)
{
    return NULL;
}

static void cuda_unload(kiln_code *code)
{
}

const kiln_backend *kiln_backend_cuda(void)
{
    static const kiln_backend backend = {
        .struct_bytes = sizeof backend,
        .name = "cuda",
        .version = "nvrtc",
        .emit = cuda_emit,
        .open_tools = cuda_open_tools,
        .compile = cuda_compile,
        .close_tools = cuda_close_tools,
        .load = cuda_load,
        .function = cuda_function,
        .unload = cuda_unload,
    };
    return &backend;
}
