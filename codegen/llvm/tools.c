/* Target machines by model and level, made when first asked for: making one and filling its
 * subtarget from the list of features takes 0.3 ms of the 4 that a small kernel takes. The only
 * process-wide effect is LLVM's table of targets, filled once. */
#include "codegen/llvm/tools.h"

#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct kept_machine {
    struct kept_machine *next;
    const kiln_machine *model; /* models are constants of the library */
    LLVMCodeGenOptLevel level;
    LLVMTargetMachineRef machine;
} kept_machine;

struct kiln_tools {
    kept_machine *machines;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void initialize_targets(void)
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
}

static void release_machine(void *machine)
{
    LLVMDisposeTargetMachine(machine);
}

static void release_message(void *message)
{
    LLVMDisposeMessage(message);
}

kiln_tools *kiln_llvm_tools_open(kiln_scope *scope)
{
    kiln_tools *tools = calloc(1, sizeof *tools);
    if (!tools) kiln_fail(scope, KILN_NO_MEMORY, "llvm: %zu bytes of tools", sizeof *tools);
    return tools;
}

void kiln_llvm_tools_close(kiln_tools *tools)
{
    if (!tools) return;
    while (tools->machines) {
        kept_machine *kept = tools->machines;
        tools->machines = kept->next;
        LLVMDisposeTargetMachine(kept->machine);
        free(kept);
    }
    free(tools);
}

static LLVMTargetMachineRef make_machine(kiln_scope *scope, const kiln_machine *model,
                                         LLVMCodeGenOptLevel level)
{
    LLVMTargetRef target;
    char *message = NULL;
    pthread_once(&once, initialize_targets);
    if (LLVMGetTargetFromTriple(KILN_LLVM_TRIPLE, &target, &message)) {
        kiln_scope_defer(scope, release_message, message);
        kiln_fail(scope, KILN_INTERNAL, "llvm: %s", message);
    }
    LLVMTargetMachineRef out =
        LLVMCreateTargetMachine(target, KILN_LLVM_TRIPLE, model->llvm_cpu, model->llvm_features,
                                level, LLVMRelocPIC, LLVMCodeModelSmall);
    if (!out) kiln_fail(scope, KILN_INTERNAL, "llvm: no target machine for %s", model->name);
    return out;
}

LLVMTargetMachineRef kiln_llvm_machine(kiln_scope *scope, kiln_tools *tools,
                                       const kiln_machine *machine, LLVMCodeGenOptLevel level)
{
    if (machine->kind != KILN_MACHINE_CPU)
        kiln_fail(scope, KILN_INTERNAL, "llvm: machine %s is not a CPU", machine->name);
    const kept_machine *known = tools ? tools->machines : NULL;
    for (; known; known = known->next) {
        if (strcmp(known->model->name, machine->name) == 0 && known->level == level)
            return known->machine;
    }
    LLVMTargetMachineRef made = make_machine(scope, machine, level);
    kept_machine *kept = tools ? malloc(sizeof *kept) : NULL;
    if (!kept) {
        kiln_scope_defer(scope, release_machine, made);
        return made;
    }
    *kept = (kept_machine){tools->machines, machine, level, made};
    tools->machines = kept;
    return made;
}
