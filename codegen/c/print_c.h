/* Kernel to C text: a function of the kernel ABI, standing on kiln_prelude. Values of several lanes
 * are arrays, each instruction a loop over the lanes: any C99 compiler with __builtin_memcpy takes
 * it, and unrolls. Exact as the other printers, given -ffp-contract=off. */
#ifndef KILN_CODEGEN_C_PRINT_C_H
#define KILN_CODEGEN_C_PRINT_C_H

#include "codegen/kernel.h"

extern const char kiln_prelude[]; /* the text of prelude.h */

/* The function, without the prelude and without the ABI's struct (kiln/program.h). */
void kiln_kernel_print_c(const kiln_kernel *kernel, const char *symbol, kiln_text *text);
/* Prelude, ABI struct and function: a file that compiles alone. */
void kiln_kernel_print_c_file(const kiln_kernel *kernel, const char *symbol, kiln_text *text);

/* Where the texts of C and CUDA differ. Shared with codegen/cuda. */
typedef struct kiln_c_dialect {
    bool is_device; /* tiles are blocks, threads loops are threads, barriers are barriers */
} kiln_c_dialect;
/* The instructions of the kernel as statements, and its tables as definitions before the function.
 */
void kiln_c_print_body(const kiln_kernel *kernel, const kiln_c_dialect *dialect, kiln_text *text);
void kiln_c_print_tables(const kiln_kernel *kernel, const char *symbol,
                         const kiln_c_dialect *dialect, kiln_text *text);
#endif
