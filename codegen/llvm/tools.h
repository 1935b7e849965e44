/* What the LLVM backend keeps between compiles: target machines, which know their subtargets once
 * they have been used. Nothing of a compiled kernel stays in them, so its bytes do not depend on
 * what was compiled before. */
#ifndef KILN_CODEGEN_LLVM_TOOLS_H
#define KILN_CODEGEN_LLVM_TOOLS_H

#include <llvm-c/TargetMachine.h>

#include "codegen/backend.h"

/* The one triple: objects do not depend on where they are made. */
#define KILN_LLVM_TRIPLE "x86_64-unknown-linux-gnu"

kiln_tools *kiln_llvm_tools_open(kiln_scope *scope);
void kiln_llvm_tools_close(kiln_tools *tools);

/* A target machine for that model and level: of `tools`, whose it stays; without tools the scope's.
 * Errors: INTERNAL for a model that is no CPU or unknown to LLVM. */
LLVMTargetMachineRef kiln_llvm_machine(kiln_scope *scope, kiln_tools *tools,
                                       const kiln_machine *machine, LLVMCodeGenOptLevel level);
#endif
