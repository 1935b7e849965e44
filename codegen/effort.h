/* How much work LLVM puts into the kernels of an operation that stands alone. */
#ifndef KILN_CODEGEN_EFFORT_H
#define KILN_CODEGEN_EFFORT_H

#include "codegen/kernel.h"
#include "passes/schedule.h"

/* Marks the kernels of a graph of one operation, or two, as quick where their compile would take
 * longer than one waits for an operation and their run is short beside what that saves. Graphs of
 * more are models, which run often. By shapes and the machine's model alone, so that programs stay
 * the same from run to run. `source` is the user's graph; `kernels` has one for each group of its
 * schedule, NULL for regions. */
void kiln_choose_effort(const kiln_graph *source, const kiln_schedule *schedule,
                        kiln_kernel *const *kernels);
#endif
