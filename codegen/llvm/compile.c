/* The LLVM backend: kernel to object. Each compile has an LLVM context of its own and its
 * target machine to itself, so compiles run side by side. */
#include <llvm-c/Analysis.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdio.h>
#include <string.h>

#include "codegen/llvm/emit.h"
#include "codegen/llvm/tools.h"
#include "codegen/object.h"

/* What long kernels repeat is looked for first (the ocean models run a tenth slower with it); in
 * short ones that takes 3 % of a compile for nothing. */
#define PASSES "loop-mssa(licm),instcombine<no-verify-fixpoint>,simplifycfg"
#define LONG_PASSES "early-cse<memssa>," PASSES
#define MAX_SHORT 1000 /* instructions */

/* Instructions up to which registers are allocated well; from there on that takes longer than what
 * it saves, and its time grows without bound: 12,000 take 19 s, 24,000 minutes; 7 s by the
 * allocator that looks at one instruction after the other. Fusion keeps kernels shorter
 * (passes/cost.c). */
#define MAX_ALLOCATED 6000

/* Of values that have no register: half of a worker's stack (runtime/threads.c). */
#define MAX_STACK_MB 4

static void release_buffer(void *buffer)
{
    LLVMDisposeMemoryBuffer(buffer);
}

static void release_options(void *options)
{
    LLVMDisposePassBuilderOptions(options);
}

static void release_message(void *message)
{
    LLVMDisposeMessage(message);
}

static bool is_allocated_fast(const kiln_kernel *kernel)
{
    return kernel->instrs.n > MAX_ALLOCATED && !kiln_kernel_has_tiles(kernel);
}

static LLVMTargetMachineRef machine_for(kiln_scope *scope, kiln_tools *tools,
                                        const kiln_kernel *kernel)
{
    bool is_long = is_allocated_fast(kernel);
    LLVMCodeGenOptLevel level = is_long ? LLVMCodeGenLevelNone : LLVMCodeGenLevelDefault;
    return kiln_llvm_machine(scope, tools, kiln_kernel_target(kernel), level);
}

static void set_layout(LLVMModuleRef module, LLVMTargetMachineRef machine)
{
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
    LLVMSetTarget(module, KILN_LLVM_TRIPLE);
    LLVMSetModuleDataLayout(module, layout);
    LLVMDisposeTargetData(layout);
}

static void run_passes(kiln_scope *scope, const kiln_kernel *kernel, LLVMModuleRef module,
                       LLVMTargetMachineRef machine)
{
    bool is_long = kernel->instrs.n > MAX_SHORT;
    const char *passes = is_long ? "function(" LONG_PASSES ")" : "function(" PASSES ")";
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    kiln_scope_defer(scope, release_options, options);
    LLVMErrorRef error = LLVMRunPasses(module, passes, machine, options);
    if (!error) return;
    char *message = LLVMGetErrorMessage(error);
    char *copy = kiln_arena_string(&scope->arena, message);
    LLVMDisposeErrorMessage(message);
    kiln_fail(scope, KILN_INTERNAL, "llvm: passes: %s", copy);
}

static bool is_step_of(LLVMValueRef value, LLVMValueRef variable)
{
    LLVMValueRef add = LLVMIsABinaryOperator(value);
    return add && LLVMGetInstructionOpcode(add) == LLVMAdd &&
           (LLVMGetOperand(add, 0) == variable || LLVMGetOperand(add, 1) == variable);
}

static void freeze_step(LLVMBuilderRef builder, LLVMValueRef variable)
{
    for (unsigned i = 0; i < LLVMCountIncoming(variable); i++) {
        LLVMValueRef step = LLVMGetIncomingValue(variable, i);
        if (!is_step_of(step, variable)) continue;
        LLVMPositionBuilderBefore(builder,
                                  LLVMGetBasicBlockTerminator(LLVMGetIncomingBlock(variable, i)));
        LLVMSetOperand(variable, i, LLVMBuildFreeze(builder, step, ""));
    }
}

/* Hides from loop strength reduction that loop variables advance by constants: it takes up to a
 * third of a compile to find new ones, where the addresses of a kernel are sums that the machine
 * adds while loading. A freeze costs no instruction; it comes after the passes, which would move
 * it out of the loop. */
static void freeze_steps(const kiln_llvm *e)
{
    LLVMBasicBlockRef block = LLVMGetFirstBasicBlock(e->function);
    for (; block; block = LLVMGetNextBasicBlock(block)) {
        LLVMValueRef instr = LLVMGetFirstInstruction(block);
        for (; instr && LLVMIsAPHINode(instr); instr = LLVMGetNextInstruction(instr))
            if (LLVMGetTypeKind(LLVMTypeOf(instr)) == LLVMIntegerTypeKind)
                freeze_step(e->builder, instr);
    }
}

static void add_attribute(const kiln_llvm *e, const char *name)
{
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(e->function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(e->context, kind, 0));
}

/* After the passes, which leave such functions as they are. Registers are allocated as well as
 * ever: it is the selection of instructions and their order that LLVM spends less on. */
static void save_effort(const kiln_llvm *e)
{
    add_attribute(e, "noinline"); /* the other one asks for it */
    add_attribute(e, "optnone");
}

/* LLVM's only warning is that of the stack. */
static void note_warning(LLVMDiagnosticInfoRef info, void *user)
{
    bool *is_over = user;
    if (LLVMGetDiagInfoSeverity(info) == LLVMDSWarning) *is_over = true;
}

/* Has LLVM warn where a kernel needs too much stack. */
static void limit_stack(const kiln_llvm *e, bool *is_over)
{
    static const char name[] = "warn-stack-size";
    char bytes[32];
    int n = snprintf(bytes, sizeof bytes, "%d", MAX_STACK_MB << 20);
    LLVMAddAttributeAtIndex(
        e->function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
        LLVMCreateStringAttribute(e->context, name, sizeof name - 1, bytes, (unsigned)n));
    LLVMContextSetDiagnosticHandler(e->context, note_warning, is_over);
}

static void check_kernel(kiln_scope *scope, const kiln_kernel *kernel)
{
    kiln_error error = {0};
    if (kiln_kernel_verify(kernel, &error)) kiln_fail_with(scope, &error);
}

static void llvm_emit(kiln_scope *scope, const kiln_kernel *kernel, const char *symbol,
                      kiln_text *text)
{
    kiln_llvm e;
    check_kernel(scope, kernel);
    LLVMTargetMachineRef machine = machine_for(scope, NULL, kernel);
    kiln_llvm_emit(scope, kernel, symbol, &e);
    set_layout(e.module, machine);
    char *printed = LLVMPrintModuleToString(e.module);
    kiln_scope_defer(scope, release_message, printed);
    kiln_text_append(text, printed);
}

static void emit_object(kiln_scope *scope, LLVMModuleRef module, LLVMTargetMachineRef machine,
                        LLVMCodeGenFileType kind, kiln_object *out_object)
{
    LLVMMemoryBufferRef buffer;
    char *message = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(machine, module, kind, &message, &buffer)) {
        kiln_scope_defer(scope, release_message, message);
        kiln_fail(scope, KILN_INTERNAL, "llvm: %s", message);
    }
    kiln_scope_defer(scope, release_buffer, buffer);
    out_object->bytes = LLVMGetBufferSize(buffer);
    out_object->data =
        kiln_arena_copy(&scope->arena, LLVMGetBufferStart(buffer), out_object->bytes);
}

/* LLVM's objects are released at the end of the compile, not of the caller's scope: an inner scope
 * holds them, and the object moves out. */
typedef struct compile_job {
    kiln_scope *scope;
    kiln_tools *tools;
    const kiln_kernel *kernel;
    const char *symbol;
    kiln_object *object;
} compile_job;

static void compile_inside(kiln_scope *scope, const compile_job *job)
{
    kiln_llvm e;
    check_kernel(scope, job->kernel);
    LLVMTargetMachineRef machine = machine_for(scope, job->tools, job->kernel);
    kiln_llvm_emit(scope, job->kernel, job->symbol, &e);
    set_layout(e.module, machine);
    run_passes(scope, job->kernel, e.module, machine);
    freeze_steps(&e);
    if (job->kernel->is_quick) save_effort(&e);
    kiln_object object = {.symbol = job->symbol};
    bool is_over = false;
    if (is_allocated_fast(job->kernel)) limit_stack(&e, &is_over);
    emit_object(scope, e.module, machine, LLVMObjectFile, &object);
    if (is_over) {
        kiln_fail(scope, KILN_LIMIT,
                  "kernel %s: %u instructions keep more than %d MB of values on the stack; make "
                  "some values on the way outputs, so that they are kernels of their own",
                  job->kernel->label, job->kernel->instrs.n, MAX_STACK_MB);
    }
    kiln_error error = {0};
    if (kiln_object_check(&object, &error)) kiln_fail_with(scope, &error);
    job->object->data = kiln_arena_copy(&job->scope->arena, object.data, object.bytes);
    job->object->bytes = object.bytes;
    job->object->symbol = kiln_arena_string(&job->scope->arena, job->symbol);
}

static void llvm_compile(kiln_scope *scope, kiln_tools *tools, const kiln_kernel *kernel,
                         const char *symbol, kiln_object *out_object)
{
    kiln_error error = {0};
    kiln_scope inner;
    compile_job job = {scope, tools, kernel, symbol, out_object};
    kiln_scope_open(&inner, &error);
    if (kiln_scope_try(&inner)) compile_inside(&inner, &job);
    if (kiln_scope_close(&inner)) kiln_fail_with(scope, &error);
}

static const kiln_backend backend = {
    .struct_bytes = sizeof(kiln_backend),
    .name = "llvm",
    .version = KILN_LLVM_VERSION,
    .emit = llvm_emit,
    .open_tools = kiln_llvm_tools_open,
    .compile = llvm_compile,
    .close_tools = kiln_llvm_tools_close,
    .load = kiln_code_load,
    .function = kiln_code_function,
    .unload = kiln_code_unload,
};

KILN_API const kiln_backend *kiln_backend_llvm(void);

const kiln_backend *kiln_backend_llvm(void)
{
    return &backend;
}
