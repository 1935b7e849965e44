/* Kernel to LLVM IR: matrix tiles by the intrinsics with fixed register numbers, which become the
 * instructions as they stand here; LLVM's own tile type and its register allocator are not used. */
#include "codegen/llvm/emit.h"

static const char *const names[KILN_N_INSTRS] = {
    [KILN_K_tile_zero] = "llvm.x86.tilezero",      [KILN_K_tile_load] = "llvm.x86.tileloadd64",
    [KILN_K_tile_store] = "llvm.x86.tilestored64", [KILN_K_tile_dot_bf16] = "llvm.x86.tdpbf16ps",
    [KILN_K_tile_dot_i8] = "llvm.x86.tdpbssd",     [KILN_K_tile_dot_u8i8] = "llvm.x86.tdpbusd",
    [KILN_K_tile_dot_i8u8] = "llvm.x86.tdpbsud",   [KILN_K_tile_dot_u8] = "llvm.x86.tdpbuud",
};

static LLVMValueRef number(const kiln_llvm *e, uint32_t value)
{
    return LLVMConstInt(LLVMInt8TypeInContext(e->context), value & 0xff, false);
}

/* Palette 1: bytes of a row are 16-bit numbers from byte 16 on, rows bytes from byte 48 on. */
void kiln_llvm_open_tiles(kiln_llvm *e)
{
    LLVMTypeRef byte = LLVMInt8TypeInContext(e->context);
    LLVMValueRef bytes[64];
    for (uint32_t i = 0; i < 64; i++) bytes[i] = number(e, i == 0);
    for (uint32_t i = 0; i < KILN_N_TILES; i++) {
        bytes[16 + 2 * i] = number(e, KILN_TILE_BYTES);
        bytes[48 + i] = number(e, 16);
    }
    LLVMValueRef shapes = LLVMAddGlobal(e->module, LLVMArrayType2(byte, 64), "tiles");
    LLVMSetInitializer(shapes, LLVMConstArray2(byte, bytes, 64));
    LLVMSetGlobalConstant(shapes, true);
    LLVMSetLinkage(shapes, LLVMPrivateLinkage);
    LLVMSetAlignment(shapes, 64);
    kiln_llvm_call call = {.name = "llvm.x86.ldtilecfg", .args = {shapes}, .n_args = 1};
    kiln_llvm_intrinsic(e, &call);
}

void kiln_llvm_close_tiles(kiln_llvm *e)
{
    kiln_llvm_intrinsic(e, &(kiln_llvm_call){.name = "llvm.x86.tilerelease"});
}

void kiln_llvm_emit_tile(kiln_llvm *e, const kiln_instr *instr)
{
    kiln_llvm_call call = {.name = names[instr->op], .n_args = 1};
    if (instr->flags & KILN_TILE_STREAM) call.name = "llvm.x86.tileloaddt164";
    call.args[0] = number(e, instr->flags);
    if (instr->op == KILN_K_tile_load || instr->op == KILN_K_tile_store) {
        LLVMValueRef bytes =
            kiln_llvm_const(e, KILN_i64, 1, (uint64_t)kiln_dtype_bytes(instr->dtype));
        LLVMValueRef stride = kiln_llvm_operand(e, instr->args[1]);
        call.args[call.n_args++] = kiln_llvm_address(e, instr);
        call.args[call.n_args++] = LLVMBuildMul(e->builder, stride, bytes, "");
    } else if (instr->op != KILN_K_tile_zero) {
        call.args[call.n_args++] = number(e, instr->flags >> 8);
        call.args[call.n_args++] = number(e, instr->flags >> 16);
    }
    kiln_llvm_intrinsic(e, &call);
}
