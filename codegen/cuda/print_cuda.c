/* Kernel to CUDA C, on the shared body printer of codegen/c. */
#include "codegen/cuda/print_cuda.h"

#include "codegen/c/print_c.h"

static void print_params(const kiln_kernel *kernel, kiln_text *text)
{
    for (uint32_t i = 0; i < kernel->params.n; i++) {
        const kiln_param *param = &kernel->params.at[i];
        kiln_text_printf(text, "%s%skiln_%s *%s p%u", i ? ", " : "",
                         param->is_written ? "" : "const ", kiln_dtype_name(param->dtype),
                         param->may_overlap ? "" : "__restrict__", i);
    }
}

static void print_memory(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    if (kernel->locals.n) kiln_text_append(text, "    KILN_SHARED_MEMORY;\n");
    for (uint32_t i = 0; i < kernel->locals.n; i++) {
        const kiln_local *local = &kernel->locals.at[i];
        kiln_text_printf(text, "    kiln_%s *l%u = (kiln_%s *)(kiln_shared + %lld);\n",
                         kiln_dtype_name(local->dtype), i, kiln_dtype_name(local->dtype),
                         (long long)(local->offset / 16));
    }
    for (uint32_t i = 0; i < kernel->tables.n; i++) {
        kiln_dtype dtype = kernel->tables.at[i].dtype;
        const char *name = kiln_dtype_name(dtype);
        if (kiln_dtype_is_float(dtype)) name = dtype == KILN_f32 ? "u32" : "u64";
        kiln_text_printf(text, "    const kiln_%s *t%u = (const kiln_%s *)%s_t%u;\n", name, i, name,
                         symbol, i);
    }
}

static bool has_barrier(const kiln_kernel *kernel)
{
    for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
        if (kernel->instrs.at[v].op == KILN_K_barrier) return true;
    }
    return false;
}

/* How a CPU calls the kernel: with its pointers in an array. */
static void print_shim(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    kiln_text_printf(text,
                     "#ifdef KILN_SHIM\nstatic void %s_thread(void *const *buffers)\n{\n    %s(",
                     symbol, symbol);
    for (uint32_t i = 0; i < kernel->params.n; i++)
        kiln_text_printf(text, "%sbuffers[%u]", i ? ", " : "", i);
    kiln_text_printf(text,
                     ");\n}\nKILN_SHIM_ENTRY(%s, %u, %lld, %d)\n"
                     "const unsigned %s_shim_params = %u;\n#endif\n",
                     symbol, kernel->block_threads, (long long)kernel->scratch_bytes,
                     has_barrier(kernel), symbol, kernel->params.n);
}

void kiln_kernel_print_cuda(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    static const kiln_c_dialect dialect = {.is_device = true};
    kiln_c_print_tables(kernel, symbol, &dialect, text);
    kiln_text_printf(text, "KILN_KERNEL(%u) %s(", kernel->block_threads, symbol);
    print_params(kernel, text);
    kiln_text_append(text, ")\n{\n");
    print_memory(kernel, symbol, text);
    kiln_c_print_body(kernel, &dialect, text);
    kiln_text_append(text, "}\n");
    print_shim(kernel, symbol, text);
}

void kiln_kernel_print_cuda_file(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    kiln_text_append(text, kiln_prelude);
    kiln_kernel_print_cuda(kernel, symbol, text);
}
