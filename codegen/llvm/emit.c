/* Kernel to LLVM IR: the function, the loops and the walk over the list. One function comes out,
 * `symbol(args, i32 begin, i32 end)`: a wrapper around one whose parameters are the pointers takes
 * 0.4 ms of passes that find nothing in it.
 *
 * Loops are emitted bottom-tested behind a guard, so no pass has to rotate them; unrolled ones by
 * walking the body once per trip. */
#include "codegen/llvm/emit.h"

#include <llvm-c/Analysis.h>

#define UNROLL_LIMIT                                                                               \
    8192 /* instructions that one unrolled loop may become; else it stays a loop                   \
          */

LLVMTypeRef kiln_llvm_type(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes)
{
    LLVMTypeRef element = NULL;
    if (dtype == KILN_f32) element = LLVMFloatTypeInContext(e->context);
    if (dtype == KILN_f64) element = LLVMDoubleTypeInContext(e->context);
    if (dtype == KILN_bool) element = LLVMInt1TypeInContext(e->context);
    if (!element) element = LLVMIntTypeInContext(e->context, 8 * (unsigned)kiln_dtype_bytes(dtype));
    return lanes == 1 ? element : LLVMVectorType(element, lanes);
}

LLVMTypeRef kiln_llvm_memory_type(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes)
{
    return kiln_llvm_type(e, dtype == KILN_bool ? KILN_u8 : dtype, lanes);
}

static LLVMValueRef splat_constant(LLVMValueRef element, uint32_t lanes)
{
    LLVMValueRef all[KILN_K_MAX_LANES];
    if (lanes == 1) return element;
    for (uint32_t i = 0; i < lanes; i++) all[i] = element;
    return LLVMConstVector(all, lanes);
}

LLVMValueRef kiln_llvm_const(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes, uint64_t bits)
{
    LLVMValueRef element;
    if (kiln_dtype_is_float(dtype)) {
        LLVMTypeRef word = LLVMIntTypeInContext(e->context, dtype == KILN_f32 ? 32 : 64);
        element = LLVMConstBitCast(LLVMConstInt(word, bits, false), kiln_llvm_type(e, dtype, 1));
    } else {
        element = LLVMConstInt(kiln_llvm_type(e, dtype, 1), bits, false);
    }
    return splat_constant(element, lanes);
}

LLVMValueRef kiln_llvm_i32(const kiln_llvm *e, int64_t value)
{
    return LLVMConstInt(LLVMInt32TypeInContext(e->context), (uint64_t)value, true);
}

static LLVMValueRef lane_numbers(const kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef all[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < instr->lanes; i++) all[i] = kiln_llvm_const(e, instr->dtype, 1, i);
    return instr->lanes == 1 ? all[0] : LLVMConstVector(all, instr->lanes);
}

static LLVMValueRef from_nowhere(kiln_llvm *e, const kiln_instr *instr)
{
    switch ((int)instr->op) {
    case KILN_K_tile_begin:
        return e->tile_begin;
    case KILN_K_tile_end:
        return e->tile_end;
    case KILN_K_address:
        return LLVMBuildPtrToInt(e->builder, e->pointers[instr->imm],
                                 LLVMInt64TypeInContext(e->context), "");
    case KILN_K_lanes:
        return lane_numbers(e, instr);
    default:
        return kiln_llvm_const(e, instr->dtype, instr->lanes, (uint64_t)instr->imm);
    }
}

LLVMValueRef kiln_llvm_operand(kiln_llvm *e, kiln_kv value)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, value);
    bool is_open = kiln_instr_rule_of(instr->op) == KILN_RULE_VALUE;
    if (!e->values[value] && is_open) e->values[value] = from_nowhere(e, instr);
    if (!e->values[value])
        kiln_fail(e->scope, KILN_INTERNAL, "kernel %s: %%%u has no value", e->kernel->label, value);
    return e->values[value];
}

LLVMValueRef kiln_llvm_intrinsic(kiln_llvm *e, const kiln_llvm_call *call)
{
    unsigned id = LLVMLookupIntrinsicID(call->name, strlen(call->name));
    if (!id)
        kiln_fail(e->scope, KILN_INTERNAL, "llvm: no intrinsic %s in this version", call->name);
    LLVMTypeRef types[2] = {call->types[0], call->types[1]};
    LLVMValueRef args[5];
    for (unsigned i = 0; i < call->n_args; i++) args[i] = call->args[i];
    LLVMValueRef function = LLVMGetIntrinsicDeclaration(e->module, id, types, call->n_types);
    LLVMTypeRef type = LLVMIntrinsicGetType(e->context, id, types, call->n_types);
    return LLVMBuildCall2(e->builder, type, function, args, call->n_args, "");
}

/* Loops. */

static int64_t loop_trips(const kiln_llvm *e, kiln_kv loop)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, loop);
    int64_t begin, end;
    bool is_known = kiln_kernel_is_const(e->kernel, instr->args[0], &begin) &&
                    kiln_kernel_is_const(e->kernel, instr->args[1], &end);
    if (!is_known || end - begin > UNROLL_LIMIT) return -1;
    return end <= begin ? 0 : (end - begin + instr->imm - 1) / instr->imm;
}

static kiln_kv loop_end(const kiln_llvm *e, kiln_kv loop)
{
    kiln_kv v = loop + 1;
    while (e->kernel->instrs.at[v].op != KILN_K_end || e->kernel->instrs.at[v].imm != (int64_t)loop)
        v++;
    return v;
}

/* Instructions of the loop's trips with those of the loops inside; no more than one over the limit
 * is counted. */
static int64_t unrolled_size(const kiln_llvm *e, kiln_kv number, int64_t trips)
{
    kiln_vec(int64_t) outer = {0};
    int64_t size = 0;
    for (kiln_kv v = number + 1; size <= UNROLL_LIMIT && trips <= UNROLL_LIMIT; v++) {
        const kiln_instr *instr = kiln_kernel_at(e->kernel, v);
        size += trips;
        if (instr->op == KILN_K_end && instr->imm == (int64_t)number) return size;
        if (instr->op == KILN_K_end) trips = outer.at[--outer.n];
        if (instr->op != KILN_K_loop) continue;
        int64_t inner = instr->flags == KILN_LOOP_UNROLL ? loop_trips(e, v) : 1;
        kiln_vec_push(&outer, &e->scope->arena, trips);
        if (inner > 1) trips *= inner;
    }
    return UNROLL_LIMIT + 1;
}

static void carry_first(kiln_llvm *e, kiln_kv carry)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, carry);
    const kiln_llvm_loop *loop = &e->loops.at[e->loops.n - 1];
    LLVMValueRef first = kiln_llvm_operand(e, instr->args[0]);
    e->nexts[carry] = NULL;
    e->values[carry] = first;
    if (loop->is_unrolled) return;
    e->values[carry] = LLVMBuildPhi(e->builder, LLVMTypeOf(first), "");
    LLVMAddIncoming(e->values[carry], &first, (LLVMBasicBlockRef[]){loop->before}, 1);
}

/* The carries of a loop stand at its head, with nothing but values from nowhere between them. */
static kiln_kv carry_after(const kiln_llvm *e, kiln_kv v)
{
    for (v++; v < e->kernel->instrs.n; v++) {
        kiln_instr_op op = e->kernel->instrs.at[v].op;
        if (op == KILN_K_carry) return v;
        if (kiln_instr_rule_of(op) != KILN_RULE_VALUE) return 0;
    }
    return 0;
}

/* Opens a loop; returns the number of the instruction to go on after. */
static kiln_kv loop_open(kiln_llvm *e, kiln_kv number)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, number);
    kiln_llvm_loop loop = {.loop = number};
    kiln_kv end = loop_end(e, number);
    int64_t trips = instr->flags == KILN_LOOP_UNROLL ? loop_trips(e, number) : -1;
    loop.is_unrolled = trips >= 0 && unrolled_size(e, number, trips) <= UNROLL_LIMIT;
    if (loop.is_unrolled) {
        kiln_kernel_is_const(e->kernel, instr->args[0], &loop.trip_value);
        kiln_kernel_is_const(e->kernel, instr->args[1], &loop.end_value);
        e->values[number] = kiln_llvm_operand(e, instr->args[0]);
        kiln_vec_push(&e->loops, &e->scope->arena, loop);
        for (kiln_kv c = carry_after(e, number); c; c = carry_after(e, c)) carry_first(e, c);
        if (trips) return number;
        for (kiln_kv c = carry_after(e, number); c; c = carry_after(e, c))
            e->lasts[c] = e->values[c];
        e->loops.n--;
        return end;
    }
    LLVMValueRef begin = kiln_llvm_operand(e, instr->args[0]),
                 bound = kiln_llvm_operand(e, instr->args[1]);
    loop.before = LLVMGetInsertBlock(e->builder);
    loop.body = LLVMAppendBasicBlockInContext(e->context, e->function, "");
    loop.after = LLVMAppendBasicBlockInContext(e->context, e->function, "");
    LLVMValueRef is_entered = LLVMBuildICmp(e->builder, LLVMIntSLT, begin, bound, "");
    LLVMBuildCondBr(e->builder, is_entered, loop.body, loop.after);
    LLVMPositionBuilderAtEnd(e->builder, loop.body);
    e->values[number] = LLVMBuildPhi(e->builder, LLVMTypeOf(begin), "");
    LLVMAddIncoming(e->values[number], &begin, &loop.before, 1);
    kiln_vec_push(&e->loops, &e->scope->arena, loop);
    for (kiln_kv c = carry_after(e, number); c; c = carry_after(e, c)) carry_first(e, c);
    return number;
}

/* One more trip of an unrolled loop, or its end. */
static kiln_kv unrolled_close(kiln_llvm *e, kiln_kv number)
{
    kiln_llvm_loop *loop = &e->loops.at[e->loops.n - 1];
    const kiln_instr *instr = kiln_kernel_at(e->kernel, loop->loop);
    for (kiln_kv c = carry_after(e, loop->loop); c; c = carry_after(e, c)) {
        e->values[c] = e->nexts[c];
        e->lasts[c] = e->nexts[c];
    }
    loop->trip_value += instr->imm;
    if (loop->trip_value < loop->end_value) {
        e->values[loop->loop] = kiln_llvm_const(e, KILN_i64, 1, (uint64_t)loop->trip_value);
        return loop->loop;
    }
    e->loops.n--;
    return number;
}

static kiln_kv loop_close(kiln_llvm *e, kiln_kv number)
{
    const kiln_llvm_loop loop = e->loops.at[e->loops.n - 1];
    if (loop.is_unrolled) return unrolled_close(e, number);
    const kiln_instr *instr = kiln_kernel_at(e->kernel, loop.loop);
    LLVMValueRef step = kiln_llvm_const(e, KILN_i64, 1, (uint64_t)instr->imm);
    LLVMValueRef next = LLVMBuildAdd(e->builder, e->values[loop.loop], step, "");
    LLVMValueRef bound = kiln_llvm_operand(e, instr->args[1]);
    LLVMValueRef is_again = LLVMBuildICmp(e->builder, LLVMIntSLT, next, bound, "");
    LLVMBuildCondBr(e->builder, is_again, loop.body, loop.after);
    LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->builder);
    LLVMAddIncoming(e->values[loop.loop], &next, &latch, 1);
    LLVMPositionBuilderAtEnd(e->builder, loop.after);
    for (kiln_kv c = carry_after(e, loop.loop); c; c = carry_after(e, c)) {
        LLVMAddIncoming(e->values[c], &e->nexts[c], &latch, 1);
        LLVMValueRef first = kiln_llvm_operand(e, kiln_kernel_at(e->kernel, c)->args[0]);
        e->lasts[c] = LLVMBuildPhi(e->builder, LLVMTypeOf(first), "");
        LLVMAddIncoming(e->lasts[c], (LLVMValueRef[]){first, e->nexts[c]},
                        (LLVMBasicBlockRef[]){loop.before, latch}, 2);
    }
    e->loops.n--;
    return number;
}

static kiln_kv emit_flow(kiln_llvm *e, kiln_kv v)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, v);
    switch ((int)instr->op) {
    case KILN_K_loop:
        return loop_open(e, v);
    case KILN_K_end:
        return loop_close(e, v);
    case KILN_K_next:
        e->nexts[instr->args[0]] = kiln_llvm_operand(e, instr->args[1]);
        break;
    case KILN_K_last:
        e->values[v] = e->lasts[instr->args[0]];
        break;
    case KILN_K_barrier:
        kiln_fail(e->scope, KILN_INTERNAL, "llvm: barrier in a CPU kernel");
    default:
        break; /* carries are made with their loop */
    }
    return v;
}

/* Integer operations in a row up to which LLVM may look: it asks for the known bits of an operand
 * by way of both operands of its operands, six deep and again for every user, which took half of
 * the compile of random numbers. */
#define MAX_CHAIN 4

static bool is_bit_chain(const kiln_instr *instr)
{
    kiln_instr_rule rule = kiln_instr_rule_of(instr->op);
    bool is_whole = instr->dtype != KILN_bool && !kiln_dtype_is_float(instr->dtype);
    return is_whole && instr->lanes > 1 && kiln_dtype_bytes(instr->dtype) >= 4 &&
           (rule == KILN_RULE_NUMBER || rule == KILN_RULE_BITS || rule == KILN_RULE_INTEGER ||
            rule == KILN_RULE_CONVERT);
}

/* Ends a long chain by a fence that is no instruction of the machine; not within a rotation. */
static void cut_chain(kiln_llvm *e, kiln_kv v, const kiln_instr *instr)
{
    uint8_t depth = 0;
    if (!is_bit_chain(instr)) return;
    for (uint32_t i = 0; i < kiln_instr_n_args(instr->op); i++)
        if (e->chains[instr->args[i]] > depth) depth = e->chains[instr->args[i]];
    e->chains[v] = (uint8_t)(depth < MAX_CHAIN ? depth + 1 : depth);
    bool is_sum = instr->op == KILN_K_add || instr->op == KILN_K_sub || instr->op == KILN_K_xor;
    if (depth + 1 < MAX_CHAIN || !is_sum || LLVMIsConstant(e->values[v])) return;
    bool is_wide = kiln_dtype_bytes(instr->dtype) == 8;
    LLVMTypeRef type = kiln_llvm_type(e, is_wide ? KILN_f64 : KILN_f32, instr->lanes);
    LLVMTypeRef own = LLVMTypeOf(e->values[v]);
    kiln_llvm_call fence = {.name = "llvm.arithmetic.fence", .n_types = 1, .n_args = 1};
    fence.types[0] = type;
    fence.args[0] = LLVMBuildBitCast(e->builder, e->values[v], type, "");
    e->values[v] = LLVMBuildBitCast(e->builder, kiln_llvm_intrinsic(e, &fence), own, "");
    e->chains[v] = 0;
}

static void emit_body(kiln_llvm *e)
{
    const kiln_kernel *k = e->kernel;
    for (kiln_kv v = 1; v < k->instrs.n; v++) {
        const kiln_instr *instr = kiln_kernel_at(k, v);
        switch ((int)kiln_instr_rule_of(instr->op)) {
        case KILN_RULE_VALUE:
            break;
        case KILN_RULE_LOOP:
            v = emit_flow(e, v);
            break;
        case KILN_RULE_MEMORY:
            e->values[v] = kiln_llvm_emit_memory(e, instr);
            break;
        case KILN_RULE_TILE:
            kiln_llvm_emit_tile(e, instr);
            break;
        default:
            e->values[v] = kiln_llvm_emit_value(e, instr);
            cut_chain(e, v, instr);
            break;
        }
    }
}

/* Functions. */

static LLVMAttributeRef attribute(const kiln_llvm *e, const char *name, uint64_t value)
{
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    return LLVMCreateEnumAttribute(e->context, kind, value);
}

static void set_text(const kiln_llvm *e, LLVMValueRef function, const char *name, const char *value)
{
    LLVMAttributeRef text = LLVMCreateStringAttribute(e->context, name, (unsigned)strlen(name),
                                                      value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, text);
}

static void set_function_attributes(const kiln_llvm *e, LLVMValueRef function)
{
    const kiln_machine *machine = kiln_kernel_target(e->kernel);
    const char *width = kiln_arena_format(&e->scope->arena, "%u", machine->vector_bytes * 8);
    set_text(e, function, "target-cpu", machine->llvm_cpu);
    set_text(e, function, "target-features", machine->llvm_features);
    set_text(e, function, "prefer-vector-width", width);
    set_text(e, function, "min-legal-vector-width", "512");
    set_text(e, function, "no-builtins", "");
    LLVMAddAttributeAtIndex(function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                            attribute(e, "nounwind", 0));
}

static LLVMValueRef load_pointer(const kiln_llvm *e, LLVMValueRef base, int64_t offset)
{
    LLVMTypeRef byte = LLVMInt8TypeInContext(e->context);
    LLVMValueRef at = kiln_llvm_const(e, KILN_i64, 1, (uint64_t)offset);
    LLVMValueRef address = LLVMBuildGEP2(e->builder, byte, base, &at, 1, "");
    return LLVMBuildLoad2(e->builder, LLVMPointerTypeInContext(e->context, 0), address, "");
}

/* `pointer` with what LLVM may believe of the memory behind it. These are attributes of what a call
 * returns; the call is one of an annotation, which is no instruction. */
static LLVMValueRef annotate_pointer(kiln_llvm *e, LLVMValueRef pointer, const kiln_param *param)
{
    LLVMTypeRef type = LLVMPointerTypeInContext(e->context, 0);
    LLVMValueRef none = LLVMConstNull(type), line = kiln_llvm_i32(e, 0);
    LLVMValueRef call =
        kiln_llvm_intrinsic(e, &(kiln_llvm_call){.name = "llvm.ptr.annotation",
                                                 .types = {type, type},
                                                 .n_types = 2,
                                                 .args = {pointer, none, none, line, none},
                                                 .n_args = 5});
    uint64_t bytes = (uint64_t)param->n_elements * kiln_dtype_bytes(param->dtype);
    LLVMAttributeIndex at = LLVMAttributeReturnIndex;
    if (!param->may_overlap) LLVMAddCallSiteAttribute(call, at, attribute(e, "noalias", 0));
    if (param->alignment > 1)
        LLVMAddCallSiteAttribute(call, at, attribute(e, "align", param->alignment));
    if (bytes) LLVMAddCallSiteAttribute(call, at, attribute(e, "dereferenceable", bytes));
    return call;
}

static void open_function(kiln_llvm *e, const char *symbol)
{
    const kiln_kernel *k = e->kernel;
    LLVMTypeRef word = LLVMInt32TypeInContext(e->context);
    LLVMTypeRef types[] = {LLVMPointerTypeInContext(e->context, 0), word, word};
    LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(e->context), types, 3, false);
    e->function = LLVMAddFunction(e->module, symbol, type);
    LLVMSetVisibility(e->function, LLVMHiddenVisibility);
    set_function_attributes(e, e->function);
    LLVMPositionBuilderAtEnd(e->builder,
                             LLVMAppendBasicBlockInContext(e->context, e->function, ""));
    LLVMValueRef args = LLVMGetParam(e->function, 0), buffers = load_pointer(e, args, 0);
    for (uint32_t i = 0; i < k->params.n; i++) {
        LLVMValueRef pointer = load_pointer(e, buffers, 8 * (int64_t)i);
        e->pointers[i] = annotate_pointer(e, pointer, &k->params.at[i]);
    }
    LLVMValueRef scratch = k->locals.n ? load_pointer(e, args, 16) : NULL;
    for (uint32_t i = 0; i < k->locals.n; i++) {
        kiln_param local = {.dtype = k->locals.at[i].dtype,
                            .n_elements = k->locals.at[i].n_elements,
                            .alignment = 64};
        LLVMValueRef at = kiln_llvm_const(e, KILN_i64, 1, (uint64_t)k->locals.at[i].offset);
        LLVMValueRef pointer =
            LLVMBuildGEP2(e->builder, LLVMInt8TypeInContext(e->context), scratch, &at, 1, "");
        e->pointers[k->params.n + i] = annotate_pointer(e, pointer, &local);
    }
    LLVMTypeRef wide = LLVMInt64TypeInContext(e->context);
    e->tile_begin = LLVMBuildZExt(e->builder, LLVMGetParam(e->function, 1), wide, "");
    e->tile_end = LLVMBuildZExt(e->builder, LLVMGetParam(e->function, 2), wide, "");
}

/* Streaming stores are ordered with nothing until a fence: the next step may run on another core.
 */
static void close_function(kiln_llvm *e)
{
    bool has_stream = false;
    for (kiln_kv v = 1; v < e->kernel->instrs.n; v++) {
        const kiln_instr *instr = kiln_kernel_at(e->kernel, v);
        has_stream |= instr->op == KILN_K_store && (instr->flags & KILN_MEM_STREAM);
    }
    if (has_stream) kiln_llvm_intrinsic(e, &(kiln_llvm_call){.name = "llvm.x86.sse.sfence"});
    LLVMBuildRetVoid(e->builder);
}

static void release_context(void *context)
{
    LLVMContextDispose(context);
}

static void release_module(void *module)
{
    LLVMDisposeModule(module);
}

static void release_builder(void *builder)
{
    LLVMDisposeBuilder(builder);
}

static void release_message(void *message)
{
    LLVMDisposeMessage(message);
}

void kiln_llvm_emit(kiln_scope *scope, const kiln_kernel *kernel, const char *symbol,
                    kiln_llvm *out_llvm)
{
    kiln_llvm *e = out_llvm;
    uint32_t n = kernel->instrs.n;
    *e = (kiln_llvm){.scope = scope, .kernel = kernel};
    e->context = LLVMContextCreate();
    kiln_scope_defer(scope, release_context, e->context);
    e->module = LLVMModuleCreateWithNameInContext("kernel", e->context);
    kiln_scope_defer(scope, release_module, e->module);
    e->builder = LLVMCreateBuilderInContext(e->context);
    kiln_scope_defer(scope, release_builder, e->builder);
    e->values = kiln_new_array(&scope->arena, LLVMValueRef, n);
    e->chains = kiln_new_array(&scope->arena, uint8_t, n);
    e->nexts = kiln_new_array(&scope->arena, LLVMValueRef, n);
    e->lasts = kiln_new_array(&scope->arena, LLVMValueRef, n);
    e->tables = kiln_new_array(&scope->arena, LLVMValueRef, kernel->tables.n + 1);
    e->pointers =
        kiln_new_array(&scope->arena, LLVMValueRef, kernel->params.n + kernel->locals.n + 1);
    open_function(e, symbol);
    bool has_tiles = kiln_kernel_has_tiles(kernel);
    if (has_tiles) kiln_llvm_open_tiles(e);
    emit_body(e);
    if (has_tiles) kiln_llvm_close_tiles(e);
    close_function(e);
    char *message = NULL;
    bool is_broken = LLVMVerifyModule(e->module, LLVMReturnStatusAction, &message);
    kiln_scope_defer(scope, release_message, message);
    if (is_broken) kiln_fail(scope, KILN_INTERNAL, "llvm: kernel %s: %s", kernel->label, message);
}
