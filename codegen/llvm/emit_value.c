/* Kernel to LLVM IR: arithmetic, comparisons, conversions and lane moves. No flag that would let
 * LLVM change a bit is ever set; what has no instruction on the machine is expanded here, never a
 * call. */
#include "codegen/llvm/emit.h"

static LLVMValueRef arg(kiln_llvm *e, const kiln_instr *instr, uint32_t i)
{
    return kiln_llvm_operand(e, instr->args[i]);
}

static kiln_dtype arg_dtype(const kiln_llvm *e, const kiln_instr *instr, uint32_t i)
{
    return kiln_kernel_at(e->kernel, instr->args[i])->dtype;
}

/* Opcodes for float, signed and unsigned operands; 0: not an instruction of LLVM. */
static const struct {
    LLVMOpcode floats, is_signed, is_unsigned;
} binary_rows[KILN_N_INSTRS] = {
    [KILN_K_add] = {LLVMFAdd, LLVMAdd, LLVMAdd}, [KILN_K_sub] = {LLVMFSub, LLVMSub, LLVMSub},
    [KILN_K_mul] = {LLVMFMul, LLVMMul, LLVMMul}, [KILN_K_div] = {LLVMFDiv, LLVMSDiv, LLVMUDiv},
    [KILN_K_rem] = {0, LLVMSRem, LLVMURem},      [KILN_K_and] = {0, LLVMAnd, LLVMAnd},
    [KILN_K_or] = {0, LLVMOr, LLVMOr},           [KILN_K_xor] = {0, LLVMXor, LLVMXor},
    [KILN_K_shl] = {0, LLVMShl, LLVMShl},        [KILN_K_shr] = {0, LLVMAShr, LLVMLShr},
};

/* Intrinsics overloaded on the result's type. */
static const struct {
    const char *floats, *is_signed, *is_unsigned;
} intrinsic_rows[KILN_N_INSTRS] = {
    [KILN_K_abs] = {"llvm.fabs"},
    [KILN_K_copysign] = {"llvm.copysign"},
    [KILN_K_fma] = {"llvm.fma"},
    [KILN_K_sqrt] = {"llvm.sqrt"},
    [KILN_K_floor] = {"llvm.floor"},
    [KILN_K_ceil] = {"llvm.ceil"},
    [KILN_K_trunc] = {"llvm.trunc"},
    [KILN_K_round_even] = {"llvm.roundeven"},
    [KILN_K_max] = {"llvm.maximum", "llvm.smax", "llvm.umax"},
    [KILN_K_min] = {"llvm.minimum", "llvm.smin", "llvm.umin"},
    [KILN_K_max_fast] = {NULL, "llvm.smax", "llvm.umax"},
    [KILN_K_min_fast] = {NULL, "llvm.smin", "llvm.umin"},
    [KILN_K_popcnt] = {NULL, "llvm.ctpop", "llvm.ctpop"},
    [KILN_K_clz] = {NULL, "llvm.ctlz", "llvm.ctlz"},
};

static const struct {
    LLVMRealPredicate floats;
    LLVMIntPredicate is_signed, is_unsigned;
} compare_rows[KILN_N_INSTRS] = {
    [KILN_K_eq] = {LLVMRealOEQ, LLVMIntEQ, LLVMIntEQ},
    [KILN_K_ne] = {LLVMRealUNE, LLVMIntNE, LLVMIntNE},
    [KILN_K_lt] = {LLVMRealOLT, LLVMIntSLT, LLVMIntULT},
    [KILN_K_le] = {LLVMRealOLE, LLVMIntSLE, LLVMIntULE},
    [KILN_K_gt] = {LLVMRealOGT, LLVMIntSGT, LLVMIntUGT},
    [KILN_K_ge] = {LLVMRealOGE, LLVMIntSGE, LLVMIntUGE},
};

static LLVMValueRef emit_compare(kiln_llvm *e, const kiln_instr *instr)
{
    kiln_dtype dtype = arg_dtype(e, instr, 0);
    LLVMValueRef a = arg(e, instr, 0), b = arg(e, instr, 1);
    if (kiln_dtype_is_float(dtype))
        return LLVMBuildFCmp(e->builder, compare_rows[instr->op].floats, a, b, "");
    bool is_signed = kiln_dtype_is_signed(dtype);
    LLVMIntPredicate order =
        is_signed ? compare_rows[instr->op].is_signed : compare_rows[instr->op].is_unsigned;
    return LLVMBuildICmp(e->builder, order, a, b, "");
}

static LLVMValueRef emit_intrinsic(kiln_llvm *e, const kiln_instr *instr, const char *name)
{
    kiln_llvm_call call = {.name = name, .n_types = 1, .n_args = kiln_instr_n_args(instr->op)};
    call.types[0] = kiln_llvm_type(e, instr->dtype, instr->lanes);
    for (uint32_t i = 0; i < call.n_args; i++) call.args[i] = arg(e, instr, i);
    if (instr->op == KILN_K_clz) call.args[call.n_args++] = kiln_llvm_const(e, KILN_bool, 1, 0);
    return kiln_llvm_intrinsic(e, &call);
}

/* Quotient or remainder of vectors of up to 32 bits by way of floating point, where machines divide
 * vectors; LLVM would divide lane by lane. The rounded quotient of integers below 2^b never
 * reaches the next integer when the format has more than b bits: the true one stays 1 / divisor
 * below it, which is 2^-b of it or more. Divisors of 0 and overflows were replaced before. */
static LLVMValueRef divide_lanes(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef a,
                                 LLVMValueRef b)
{
    bool is_signed = kiln_dtype_is_signed(instr->dtype);
    bool is_narrow = kiln_dtype_bytes(instr->dtype) <= 2;
    bool is_u32 = !is_signed && !is_narrow;
    LLVMOpcode widen = is_signed ? LLVMSIToFP : LLVMUIToFP;
    LLVMOpcode cut = is_u32 ? LLVMFPToUI : LLVMFPToSI;
    LLVMTypeRef type = kiln_llvm_type(e, is_narrow ? KILN_f32 : KILN_f64, instr->lanes);
    LLVMValueRef quotient = LLVMBuildFDiv(e->builder, LLVMBuildCast(e->builder, widen, a, type, ""),
                                          LLVMBuildCast(e->builder, widen, b, type, ""), "");
    type = kiln_llvm_type(e, is_u32 ? KILN_u32 : KILN_i32, instr->lanes);
    quotient = LLVMBuildCast(e->builder, cut, quotient, type, "");
    if (is_narrow) quotient = LLVMBuildTrunc(e->builder, quotient, LLVMTypeOf(a), "");
    if (instr->op == KILN_K_div) return quotient;
    return LLVMBuildSub(e->builder, a, LLVMBuildMul(e->builder, quotient, b, ""), "");
}

static bool is_division_of_lanes(const kiln_instr *instr, LLVMValueRef divisor)
{
    return (instr->op == KILN_K_div || instr->op == KILN_K_rem) && instr->lanes > 1 &&
           !kiln_dtype_is_float(instr->dtype) && kiln_dtype_bytes(instr->dtype) <= 4 &&
           !LLVMIsConstant(divisor);
}

static LLVMValueRef emit_arithmetic(kiln_llvm *e, const kiln_instr *instr)
{
    bool is_float = kiln_dtype_is_float(instr->dtype),
         is_signed = kiln_dtype_is_signed(instr->dtype);
    const char *name = intrinsic_rows[instr->op].is_unsigned;
    if (is_float) name = intrinsic_rows[instr->op].floats;
    if (is_signed) name = intrinsic_rows[instr->op].is_signed;
    if (name) return emit_intrinsic(e, instr, name);
    LLVMValueRef a = arg(e, instr, 0);
    if (instr->op == KILN_K_neg)
        return is_float ? LLVMBuildFNeg(e->builder, a, "") : LLVMBuildNeg(e->builder, a, "");
    if (instr->op == KILN_K_not) return LLVMBuildNot(e->builder, a, "");
    LLVMValueRef b = arg(e, instr, 1);
    if (instr->op == KILN_K_max_fast || instr->op == KILN_K_min_fast) {
        LLVMRealPredicate order = instr->op == KILN_K_max_fast ? LLVMRealOGT : LLVMRealOLT;
        return LLVMBuildSelect(e->builder, LLVMBuildFCmp(e->builder, order, a, b, ""), a, b, "");
    }
    if (is_division_of_lanes(instr, b)) return divide_lanes(e, instr, a, b);
    LLVMOpcode op = binary_rows[instr->op].is_unsigned;
    if (is_float) op = binary_rows[instr->op].floats;
    if (is_signed) op = binary_rows[instr->op].is_signed;
    return LLVMBuildBinOp(e->builder, op, a, b, "");
}

/* To 8 or 16 bits: clamped, then by way of i32. LLVM converts such vectors lane by lane. */
static LLVMValueRef float_to_narrow(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef a)
{
    bool is_signed = kiln_dtype_is_signed(instr->dtype);
    uint32_t bits = 8 * (uint32_t)kiln_dtype_bytes(instr->dtype) - is_signed;
    LLVMTypeRef type = LLVMTypeOf(a);
    LLVMValueRef top = LLVMConstReal(LLVMGetElementType(type), (double)(1u << bits) - 1),
                 high[KILN_K_MAX_LANES], low[KILN_K_MAX_LANES];
    double least = is_signed ? -(double)(1u << bits) : 0;
    for (uint32_t i = 0; i < instr->lanes; i++) {
        high[i] = top;
        low[i] = LLVMConstReal(LLVMGetElementType(type), least);
    }
    LLVMValueRef most = LLVMConstVector(high, instr->lanes);
    LLVMValueRef floor = LLVMConstVector(low, instr->lanes);
    if (is_signed) {
        LLVMValueRef is_number = LLVMBuildFCmp(e->builder, LLVMRealORD, a, a, "");
        a = LLVMBuildSelect(e->builder, is_number, a, LLVMConstNull(type), "");
    }
    LLVMValueRef above = LLVMBuildFCmp(e->builder, LLVMRealOGT, a, floor, "");
    a = LLVMBuildSelect(e->builder, above, a, floor, "");
    LLVMValueRef below = LLVMBuildFCmp(e->builder, LLVMRealOLT, a, most, "");
    a = LLVMBuildSelect(e->builder, below, a, most, "");
    a = LLVMBuildFPToSI(e->builder, a, kiln_llvm_type(e, KILN_i32, instr->lanes), "");
    return LLVMBuildTrunc(e->builder, a, kiln_llvm_type(e, instr->dtype, instr->lanes), "");
}

static LLVMValueRef float_to_int(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef a)
{
    if (instr->lanes > 1 && kiln_dtype_bytes(instr->dtype) <= 2)
        return float_to_narrow(e, instr, a);
    kiln_llvm_call call = {.n_types = 2, .n_args = 1, .args = {a}};
    call.name = kiln_dtype_is_signed(instr->dtype) ? "llvm.fptosi.sat" : "llvm.fptoui.sat";
    call.types[0] = kiln_llvm_type(e, instr->dtype, instr->lanes);
    call.types[1] = LLVMTypeOf(a);
    return kiln_llvm_intrinsic(e, &call);
}

/* What is widened stays wide: LLVM would compare and select halves, and calls fminf for it. */
static LLVMValueRef convert_half(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef a)
{
    LLVMTypeRef half = LLVMHalfTypeInContext(e->context);
    LLVMTypeRef type = kiln_llvm_type(e, instr->dtype, instr->lanes);
    if (instr->lanes > 1) half = LLVMVectorType(half, instr->lanes);
    if (instr->dtype == KILN_f32) {
        a = LLVMBuildFPExt(e->builder, LLVMBuildBitCast(e->builder, a, half, ""), type, "");
        kiln_llvm_call fence = {.name = "llvm.arithmetic.fence",
                                .types = {type},
                                .n_types = 1,
                                .args = {a},
                                .n_args = 1};
        return kiln_llvm_intrinsic(e, &fence);
    }
    return LLVMBuildBitCast(e->builder, LLVMBuildFPTrunc(e->builder, a, half, ""), type, "");
}

/* A register, or two of them to one. */
static LLVMValueRef round_bf16(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef a)
{
    enum { WIDTH = 16 };
    bool is_wide = instr->lanes > WIDTH;
    uint32_t step = is_wide ? 2 * WIDTH : WIDTH;
    LLVMTypeRef type = kiln_llvm_type(e, KILN_bf16, step);
    LLVMValueRef result = NULL;
    kiln_llvm_call call = {.name = is_wide ? "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
                                           : "llvm.x86.avx512bf16.cvtneps2bf16.512",
                           .n_args = is_wide ? 2 : 1};
    for (uint32_t first = 0; first < instr->lanes; first += step) {
        call.args[is_wide] = kiln_llvm_part(e, a, instr->lanes, first, WIDTH);
        if (is_wide) call.args[0] = kiln_llvm_part(e, a, instr->lanes, first + WIDTH, WIDTH);
        LLVMValueRef part = LLVMBuildBitCast(e->builder, kiln_llvm_intrinsic(e, &call), type, "");
        result = kiln_llvm_join(e, result, instr->lanes, first, part);
    }
    if (instr->lanes > 1) return result;
    return LLVMBuildExtractElement(e->builder, result, kiln_llvm_i32(e, 0), "");
}

static LLVMValueRef emit_convert(kiln_llvm *e, const kiln_instr *instr)
{
    kiln_dtype from = arg_dtype(e, instr, 0), to = instr->dtype;
    LLVMValueRef a = arg(e, instr, 0), zero = LLVMConstNull(LLVMTypeOf(a));
    LLVMTypeRef type = kiln_llvm_type(e, to, instr->lanes);
    bool is_from_float = kiln_dtype_is_float(from), is_to_float = kiln_dtype_is_float(to);
    bool is_signed = kiln_dtype_is_signed(from);
    if (to == KILN_bf16) return round_bf16(e, instr, a);
    if (from == KILN_f16 || to == KILN_f16) return convert_half(e, instr, a);
    if (to == KILN_bool && is_from_float)
        return LLVMBuildFCmp(e->builder, LLVMRealUNE, a, zero, "");
    if (to == KILN_bool) return LLVMBuildICmp(e->builder, LLVMIntNE, a, zero, "");
    if (is_from_float && is_to_float) return LLVMBuildFPCast(e->builder, a, type, "");
    if (is_from_float) return float_to_int(e, instr, a);
    LLVMOpcode op =
        is_to_float ? (is_signed ? LLVMSIToFP : LLVMUIToFP) : (is_signed ? LLVMSExt : LLVMZExt);
    size_t wide = from == KILN_bool ? 0 : kiln_dtype_bytes(from);
    if (!is_to_float && wide == kiln_dtype_bytes(to)) return a;
    if (!is_to_float && wide > kiln_dtype_bytes(to)) op = LLVMTrunc;
    return LLVMBuildCast(e->builder, op, a, type, "");
}

static LLVMValueRef to_vector(kiln_llvm *e, LLVMValueRef a)
{
    if (LLVMGetTypeKind(LLVMTypeOf(a)) == LLVMVectorTypeKind) return a;
    LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(a), 1));
    return LLVMBuildInsertElement(e->builder, none, a, kiln_llvm_i32(e, 0), "");
}

LLVMValueRef kiln_llvm_shuffle(kiln_llvm *e, LLVMValueRef a, LLVMValueRef b, uint32_t lanes,
                               const int64_t *from)
{
    LLVMValueRef mask[KILN_K_MAX_LANES];
    LLVMTypeRef word = LLVMInt32TypeInContext(e->context);
    a = to_vector(e, a);
    b = b ? to_vector(e, b) : LLVMGetPoison(LLVMTypeOf(a));
    for (uint32_t i = 0; i < lanes; i++)
        mask[i] = from[i] < 0 ? LLVMGetPoison(word) : kiln_llvm_i32(e, from[i]);
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, lanes), "");
}

static LLVMValueRef emit_shuffle(kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef a = arg(e, instr, 0), b = instr->args[1] ? arg(e, instr, 1) : NULL;
    const int64_t *from = e->kernel->ints.at + instr->imm;
    if (instr->lanes > 1) return kiln_llvm_shuffle(e, a, b, instr->lanes, from);
    int64_t lanes = kiln_kernel_at(e->kernel, instr->args[0])->lanes;
    LLVMValueRef lane = kiln_llvm_i32(e, from[0] % lanes), source = from[0] < lanes ? a : b;
    return lanes == 1 ? source : LLVMBuildExtractElement(e->builder, source, lane, "");
}

LLVMValueRef kiln_llvm_part(kiln_llvm *e, LLVMValueRef a, uint32_t lanes, uint32_t first,
                            uint32_t width)
{
    int64_t from[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < width; i++) from[i] = first + i < lanes ? first + i : lanes;
    return kiln_llvm_shuffle(e, a, LLVMConstNull(LLVMTypeOf(a)), width, from);
}

LLVMValueRef kiln_llvm_join(kiln_llvm *e, LLVMValueRef whole, uint32_t lanes, uint32_t first,
                            LLVMValueRef part)
{
    uint32_t width = LLVMGetVectorSize(LLVMTypeOf(part));
    int64_t from[KILN_K_MAX_LANES] = {0};
    for (uint32_t i = 0; i < lanes; i++)
        from[i] = i >= first && i < first + width ? (int64_t)(i - first) : -1;
    part = kiln_llvm_shuffle(e, part, NULL, lanes, from);
    for (uint32_t i = 0; i < lanes; i++) from[i] = i < first ? i : lanes + i;
    return whole ? kiln_llvm_shuffle(e, whole, part, lanes, from) : part;
}

/* Whole registers; LLVM folds a select of the result into the mask. */
static LLVMValueRef emit_scale(kiln_llvm *e, const kiln_instr *instr)
{
    enum { WIDTH = 16, CURRENT_ROUNDING = 4 };
    LLVMValueRef a = arg(e, instr, 0), b = arg(e, instr, 1), result = NULL;
    LLVMTypeRef mask = LLVMIntTypeInContext(e->context, WIDTH);
    for (uint32_t first = 0; first < instr->lanes; first += WIDTH) {
        kiln_llvm_call call = {.name = "llvm.x86.avx512.mask.scalef.ps.512", .n_args = 5};
        call.args[0] = kiln_llvm_part(e, a, instr->lanes, first, WIDTH);
        call.args[1] = kiln_llvm_part(e, b, instr->lanes, first, WIDTH);
        call.args[2] = LLVMConstNull(LLVMTypeOf(call.args[0]));
        call.args[3] = LLVMConstAllOnes(mask);
        call.args[4] = kiln_llvm_i32(e, CURRENT_ROUNDING);
        result = kiln_llvm_join(e, result, instr->lanes, first, kiln_llvm_intrinsic(e, &call));
    }
    if (instr->lanes > 1) return result;
    return LLVMBuildExtractElement(e->builder, result, kiln_llvm_i32(e, 0), "");
}

/* The form that LLVM knows as one: a shuffle of a vector of one lane is joined lane by lane. */
static LLVMValueRef emit_splat(kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef a = arg(e, instr, 0), lane = kiln_llvm_i32(e, 0);
    if (instr->lanes == 1) return a;
    LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(a), instr->lanes));
    LLVMTypeRef mask = LLVMVectorType(LLVMTypeOf(lane), instr->lanes);
    a = LLVMBuildInsertElement(e->builder, none, a, lane, "");
    return LLVMBuildShuffleVector(e->builder, a, none, LLVMConstNull(mask), "");
}

LLVMValueRef kiln_llvm_emit_value(kiln_llvm *e, const kiln_instr *instr)
{
    switch ((int)instr->op) {
    case KILN_K_select:
        return LLVMBuildSelect(e->builder, arg(e, instr, 0), arg(e, instr, 1), arg(e, instr, 2),
                               "");
    case KILN_K_convert:
        return emit_convert(e, instr);
    case KILN_K_bitcast:
        return LLVMBuildBitCast(e->builder, arg(e, instr, 0),
                                kiln_llvm_type(e, instr->dtype, instr->lanes), "");
    case KILN_K_scale:
        return emit_scale(e, instr);
    case KILN_K_splat:
        return emit_splat(e, instr);
    case KILN_K_shuffle:
        return emit_shuffle(e, instr);
    case KILN_K_dot4_i8:
    case KILN_K_dot4_u8i8:
    case KILN_K_dot4_i8u8:
    case KILN_K_dot4_u8:
        return kiln_llvm_emit_dot4(e, instr);
    case KILN_K_dot2_bf16:
        return kiln_llvm_emit_dot2(e, instr);
    case KILN_K_lookup:
        return kiln_llvm_emit_lookup(e, instr);
    default:
        break;
    }
    if (kiln_instr_rule_of(instr->op) == KILN_RULE_COMPARE) return emit_compare(e, instr);
    return emit_arithmetic(e, instr);
}
