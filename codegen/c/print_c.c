/* Kernel to a C function of the kernel ABI (kiln/program.h). */
#include "codegen/c/print_c.h"

static const char abi[] = "typedef struct kiln_kernel_args {\n"
                          "    void *const *buffers;\n"
                          "    const long long *sizes;\n"
                          "    void *scratch;\n"
                          "} kiln_kernel_args;\n\n";

static void print_buffers(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    for (uint32_t i = 0; i < kernel->params.n; i++) {
        const kiln_param *param = &kernel->params.at[i];
        kiln_text_printf(text, "    %skiln_%s *%s p%u = args->buffers[%u];\n",
                         param->is_written ? "" : "const ", kiln_dtype_name(param->dtype),
                         param->may_overlap ? "" : "__restrict", i, i);
    }
    for (uint32_t i = 0; i < kernel->locals.n; i++) {
        const kiln_local *local = &kernel->locals.at[i];
        kiln_text_printf(text,
                         "    kiln_%s *__restrict l%u = (void *)((char *)args->scratch + %lld);\n",
                         kiln_dtype_name(local->dtype), i, (long long)local->offset);
    }
    for (uint32_t i = 0; i < kernel->tables.n; i++) {
        const char *word = kiln_dtype_is_float(kernel->tables.at[i].dtype) ? "u" : "";
        size_t bits = 8 * kiln_dtype_bytes(kernel->tables.at[i].dtype);
        const char *name = *word ? kiln_arena_format(text->arena, "u%zu", bits)
                                 : kiln_dtype_name(kernel->tables.at[i].dtype);
        kiln_text_printf(text, "    const kiln_%s *t%u = (const kiln_%s *)%s_t%u;\n", name, i, name,
                         symbol, i);
    }
}

void kiln_kernel_print_c(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    static const kiln_c_dialect dialect = {.is_device = false};
    kiln_c_print_tables(kernel, symbol, &dialect, text);
    kiln_text_printf(
        text, "void %s(const kiln_kernel_args *args, kiln_u32 tile_begin, kiln_u32 tile_end);\n",
        symbol);
    kiln_text_printf(
        text, "void %s(const kiln_kernel_args *args, kiln_u32 tile_begin, kiln_u32 tile_end)\n{\n",
        symbol);
    print_buffers(kernel, symbol, text);
    if (kiln_kernel_has_tiles(kernel)) kiln_text_append(text, "    kiln_tile tiles[8];\n");
    kiln_c_print_body(kernel, &dialect, text);
    kiln_text_append(text, "}\n");
}

void kiln_kernel_print_c_file(const kiln_kernel *kernel, const char *symbol, kiln_text *text)
{
    kiln_text_append(text, kiln_prelude);
    kiln_text_append(text, abi);
    kiln_kernel_print_c(kernel, symbol, text);
}
