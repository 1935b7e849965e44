/* The objects of a context's compiles, by the text of their kernels: a kernel is compiled once a
 * context, whichever graphs it comes from. Bounded: what was not asked for longest goes first. */
#ifndef KILN_CODEGEN_KERNEL_MEMO_H
#define KILN_CODEGEN_KERNEL_MEMO_H

#include "codegen/compile.h"

/* Fills unit->object from the context's memory into `arena`; false when it is not there. */
bool kiln_kernel_memo_find(kiln_context *context, kiln_arena *arena, kiln_unit *unit);
/* Keeps a copy of unit->object. Without memory it keeps nothing. */
void kiln_kernel_memo_keep(kiln_context *context, const kiln_unit *unit);
#endif
