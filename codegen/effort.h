/* How much work LLVM puts into the kernels of a small program. */
#ifndef KILN_CODEGEN_EFFORT_H
#define KILN_CODEGEN_EFFORT_H

#include "codegen/kernel.h"
#include "passes/schedule.h"

/* Marks all kernels of a program of one or a few steps as quick where their compile would take
 * longer than a user of one operation waits and their run is short beside what that saves. By
 * shapes and the machine's model alone, so that programs stay the same from run to run. `kernels`
 * has one for each group, NULL for regions. */
void kiln_choose_effort(const kiln_schedule *schedule, kiln_kernel *const *kernels);
#endif
