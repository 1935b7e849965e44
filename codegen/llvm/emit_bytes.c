/* Kernel to LLVM IR: dots of words, of two bf16 numbers and of four bytes. With vpdpbusd (bytes
 * without sign by bytes with one) a sign is moved by 128, and what that adds is taken off again: it
 * depends on the other operand alone, so LLVM computes it once for all rows. Else bytes become
 * 16-bit numbers, the even and the odd ones, and are multiplied in pairs; nothing saturates. */
#include "codegen/llvm/emit.h"

typedef struct signs {
    bool a, b;
} signs;

static LLVMValueRef words(kiln_llvm *e, uint32_t lanes, uint32_t bits)
{
    return kiln_llvm_const(e, KILN_i32, lanes, bits);
}

static LLVMValueRef busd(kiln_llvm *e, LLVMValueRef c, LLVMValueRef a, LLVMValueRef b)
{
    bool is_short = LLVMGetVectorSize(LLVMTypeOf(c)) == 8;
    kiln_llvm_call call = {.args = {c, a, b}, .n_args = 3};
    call.name = is_short ? "llvm.x86.avx512.vpdpbusd.256" : "llvm.x86.avx512.vpdpbusd.512";
    return kiln_llvm_intrinsic(e, &call);
}

static LLVMValueRef dot_by_busd(kiln_llvm *e, signs has_sign, uint32_t lanes,
                                const LLVMValueRef *args)
{
    LLVMValueRef a = args[0], b = args[1], c = args[2], extra;
    LLVMValueRef half = words(e, lanes, 0x80808080), zero = words(e, lanes, 0);
    if (!has_sign.a && has_sign.b) return busd(e, c, a, b);
    if (has_sign.a && !has_sign.b) return busd(e, c, b, a);
    if (has_sign.a) {
        extra = busd(e, zero, half, b);
        a = LLVMBuildXor(e->builder, a, half, "");
    } else {
        extra = busd(e, zero, a, half);
        b = LLVMBuildXor(e->builder, b, half, "");
    }
    return LLVMBuildSub(e->builder, busd(e, c, a, b), extra, "");
}

/* The even or odd bytes as numbers of 16 bits. */
static LLVMValueRef halves(kiln_llvm *e, LLVMValueRef a, uint32_t lanes, bool is_signed,
                           bool is_odd)
{
    LLVMValueRef eight = kiln_llvm_const(e, KILN_i16, 2 * lanes, 8);
    a = LLVMBuildBitCast(e->builder, a, kiln_llvm_type(e, KILN_i16, 2 * lanes), "");
    if (!is_odd && !is_signed)
        return LLVMBuildAnd(e->builder, a, kiln_llvm_const(e, KILN_i16, 2 * lanes, 255), "");
    if (!is_odd) a = LLVMBuildShl(e->builder, a, eight, "");
    return is_signed ? LLVMBuildAShr(e->builder, a, eight, "")
                     : LLVMBuildLShr(e->builder, a, eight, "");
}

static LLVMValueRef dot_by_pairs(kiln_llvm *e, signs has_sign, uint32_t lanes,
                                 const LLVMValueRef *args)
{
    static const char *const names[] = {[4] = "llvm.x86.sse2.pmadd.wd",
                                        [8] = "llvm.x86.avx2.pmadd.wd",
                                        [16] = "llvm.x86.avx512.pmaddw.d.512"};
    LLVMValueRef sum = args[2];
    for (uint32_t i = 0; i < 2; i++) {
        kiln_llvm_call call = {.name = names[lanes], .n_args = 2};
        call.args[0] = halves(e, args[0], lanes, has_sign.a, i);
        call.args[1] = halves(e, args[1], lanes, has_sign.b, i);
        sum = LLVMBuildAdd(e->builder, sum, kiln_llvm_intrinsic(e, &call), "");
    }
    return sum;
}

/* One lane: no vector. */
static LLVMValueRef dot_alone(kiln_llvm *e, signs has_sign, const LLVMValueRef *args)
{
    LLVMValueRef sum = args[2], top = words(e, 1, 24);
    for (uint32_t i = 0; i < 4; i++) {
        LLVMValueRef up = words(e, 1, 24 - 8 * i);
        LLVMValueRef a = LLVMBuildShl(e->builder, args[0], up, "");
        LLVMValueRef b = LLVMBuildShl(e->builder, args[1], up, "");
        a = has_sign.a ? LLVMBuildAShr(e->builder, a, top, "")
                       : LLVMBuildLShr(e->builder, a, top, "");
        b = has_sign.b ? LLVMBuildAShr(e->builder, b, top, "")
                       : LLVMBuildLShr(e->builder, b, top, "");
        sum = LLVMBuildAdd(e->builder, sum, LLVMBuildMul(e->builder, a, b, ""), "");
    }
    return sum;
}

LLVMValueRef kiln_llvm_emit_dot4(kiln_llvm *e, const kiln_instr *instr)
{
    const kiln_machine *machine = kiln_kernel_target(e->kernel);
    uint32_t width = machine->vector_bytes / 4;
    signs has_sign = {.a = instr->op == KILN_K_dot4_i8 || instr->op == KILN_K_dot4_i8u8,
                      .b = instr->op == KILN_K_dot4_i8 || instr->op == KILN_K_dot4_u8i8};
    LLVMValueRef args[3], whole = NULL;
    for (uint32_t i = 0; i < 3; i++) args[i] = kiln_llvm_operand(e, instr->args[i]);
    if (instr->lanes == 1) return dot_alone(e, has_sign, args);
    for (uint32_t first = 0; first < instr->lanes; first += width) {
        LLVMValueRef parts[3], dot;
        for (uint32_t i = 0; i < 3; i++)
            parts[i] = kiln_llvm_part(e, args[i], instr->lanes, first, width);
        dot = machine->has_vnni ? dot_by_busd(e, has_sign, width, parts)
                                : dot_by_pairs(e, has_sign, width, parts);
        whole = kiln_llvm_join(e, whole, instr->lanes, first, dot);
    }
    return whole;
}

LLVMValueRef kiln_llvm_emit_dot2(kiln_llvm *e, const kiln_instr *instr)
{
    enum { WIDTH = 16 };
    LLVMTypeRef words = LLVMVectorType(LLVMBFloatTypeInContext(e->context), 2 * WIDTH);
    LLVMValueRef args[3], whole = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        args[i] = kiln_llvm_operand(e, instr->args[i]);
        if (instr->lanes > 1) continue;
        LLVMTypeRef single = kiln_llvm_type(e, KILN_f32, 2); /* a part is taken of a vector */
        args[i] = LLVMBuildInsertElement(e->builder, LLVMConstNull(single), args[i],
                                         kiln_llvm_i32(e, 0), "");
    }
    uint32_t lanes = instr->lanes > 1 ? instr->lanes : 2;
    for (uint32_t first = 0; first < lanes; first += WIDTH) {
        kiln_llvm_call call = {.name = "llvm.x86.avx512bf16.dpbf16ps.512", .n_args = 3};
        call.args[0] = kiln_llvm_part(e, args[2], lanes, first, WIDTH);
        for (uint32_t i = 0; i < 2; i++) {
            LLVMValueRef part = kiln_llvm_part(e, args[i], lanes, first, WIDTH);
            call.args[1 + i] = LLVMBuildBitCast(e->builder, part, words, "");
        }
        whole = kiln_llvm_join(e, whole, lanes, first, kiln_llvm_intrinsic(e, &call));
    }
    if (instr->lanes > 1) return whole;
    return LLVMBuildExtractElement(e->builder, whole, kiln_llvm_i32(e, 0), "");
}
