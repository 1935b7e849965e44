/* Kernel to LLVM IR: what the three emit files share. An emitter serves one kernel; its LLVM
 * objects are released with the scope. */
#ifndef KILN_CODEGEN_LLVM_EMIT_H
#define KILN_CODEGEN_LLVM_EMIT_H

#include <llvm-c/Core.h>

#include "codegen/kernel.h"

/* A loop that is open while emitting. An unrolled one has no blocks: its body is walked again. */
typedef struct kiln_llvm_loop {
    kiln_kv loop;
    LLVMBasicBlockRef before, body, after;
    bool is_unrolled;
    int64_t trip_value, end_value; /* unrolled: the loop variable now, and its bound */
} kiln_llvm_loop;

typedef struct kiln_llvm {
    kiln_scope *scope;
    const kiln_kernel *kernel;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef builder;
    LLVMValueRef function;
    LLVMValueRef *pointers;            /* of buffers, then of locals */
    LLVMValueRef tile_begin, tile_end; /* i64 */
    LLVMValueRef *values;              /* by number; values from nowhere are made when asked for */
    uint8_t *chains;                   /* integer operations in a row that made a value */
    LLVMValueRef *nexts;               /* of carries */
    LLVMValueRef *lasts;               /* of carries of closed loops */
    LLVMValueRef *tables;              /* private constants, made when asked for */
    kiln_vec(kiln_llvm_loop) loops;
} kiln_llvm;

/* The module of `kernel`: function `symbol`. Verified by LLVM. */
void kiln_llvm_emit(kiln_scope *scope, const kiln_kernel *kernel, const char *symbol,
                    kiln_llvm *out_llvm);

/* Types of values, and of elements in memory (bool is a byte there). */
LLVMTypeRef kiln_llvm_type(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes);
LLVMTypeRef kiln_llvm_memory_type(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes);
/* A constant of that type by the bits of one element. */
LLVMValueRef kiln_llvm_const(const kiln_llvm *e, kiln_dtype dtype, uint32_t lanes, uint64_t bits);
LLVMValueRef kiln_llvm_i32(const kiln_llvm *e, int64_t value);
LLVMValueRef kiln_llvm_operand(kiln_llvm *e, kiln_kv value);

/* Calls the intrinsic of that name, overloaded on `types`. */
typedef struct kiln_llvm_call {
    const char *name;
    LLVMTypeRef types[2];
    uint32_t n_types;
    LLVMValueRef args[5];
    uint32_t n_args;
} kiln_llvm_call;
LLVMValueRef kiln_llvm_intrinsic(kiln_llvm *e, const kiln_llvm_call *call);

/* A lane-changing view of `a` (a scalar counts as one lane); from[i] < 0 leaves lane i open. */
LLVMValueRef kiln_llvm_shuffle(kiln_llvm *e, LLVMValueRef a, LLVMValueRef b, uint32_t lanes,
                               const int64_t *from);

/* Lanes first … first + width - 1 of `a`, which has `lanes`; 0 beyond its end. And the way back:
 * `whole` (NULL at first) with a part in its place. */
LLVMValueRef kiln_llvm_part(kiln_llvm *e, LLVMValueRef a, uint32_t lanes, uint32_t first,
                            uint32_t width);
LLVMValueRef kiln_llvm_join(kiln_llvm *e, LLVMValueRef whole, uint32_t lanes, uint32_t first,
                            LLVMValueRef part);

/* The value of an instruction that is neither loop nor memory; emit_value.c. */
LLVMValueRef kiln_llvm_emit_value(kiln_llvm *e, const kiln_instr *instr);
LLVMValueRef kiln_llvm_emit_dot4(kiln_llvm *e, const kiln_instr *instr);
LLVMValueRef kiln_llvm_emit_dot2(kiln_llvm *e, const kiln_instr *instr);
LLVMValueRef kiln_llvm_emit_lookup(kiln_llvm *e, const kiln_instr *instr);
/* Loads and stores; NULL for those without a value; emit_memory.c. */
LLVMValueRef kiln_llvm_emit_memory(kiln_llvm *e, const kiln_instr *instr);
/* Where an access is: its buffer at its first operand. */
LLVMValueRef kiln_llvm_address(kiln_llvm *e, const kiln_instr *instr);
/* Matrix tiles: what stands at the start and the end of a kernel that has them; emit_tile.c. */
void kiln_llvm_open_tiles(kiln_llvm *e);
void kiln_llvm_close_tiles(kiln_llvm *e);
void kiln_llvm_emit_tile(kiln_llvm *e, const kiln_instr *instr);
#endif
