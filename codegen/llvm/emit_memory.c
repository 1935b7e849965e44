/* Kernel to LLVM IR: loads, stores, gathers, scatters and tables. Memory of bool is bytes.
 * Addresses carry no inbounds claim: only the kernel's verifier has proved anything. */
#include "codegen/llvm/emit.h"

#include "kiln/program.h"

static LLVMValueRef buffer_pointer(const kiln_llvm *e, int64_t buffer)
{
    bool is_local = buffer >= KILN_LOCAL_FIRST;
    int64_t number = is_local ? e->kernel->params.n + buffer - KILN_LOCAL_FIRST : buffer;
    return e->pointers[number];
}

LLVMValueRef kiln_llvm_address(kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef offset = kiln_llvm_operand(e, instr->args[0]);
    LLVMTypeRef element = kiln_llvm_memory_type(e, instr->dtype, 1);
    return LLVMBuildGEP2(e->builder, element, buffer_pointer(e, instr->imm), &offset, 1, "");
}

/* Bytes to bool lanes and back. */
static LLVMValueRef from_memory(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef value)
{
    if (instr->dtype != KILN_bool) return value;
    return LLVMBuildICmp(e->builder, LLVMIntNE, value, LLVMConstNull(LLVMTypeOf(value)), "");
}

static LLVMValueRef to_memory(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef value)
{
    if (instr->dtype != KILN_bool) return value;
    return LLVMBuildZExt(e->builder, value, kiln_llvm_memory_type(e, KILN_bool, instr->lanes), "");
}

static bool is_power_of_two(uint32_t n)
{
    return (n & (n - 1)) == 0;
}

static uint32_t access_alignment(const kiln_instr *instr)
{
    uint32_t bytes = (uint32_t)kiln_dtype_bytes(instr->dtype), whole = bytes * instr->lanes;
    bool is_aligned = instr->flags & (KILN_MEM_ALIGNED | KILN_MEM_STREAM);
    return is_aligned && is_power_of_two(whole) ? whole : bytes;
}

/* Masked intrinsics take vectors: a scalar goes in and out as a vector of one lane. */
static LLVMValueRef as_vector(kiln_llvm *e, LLVMValueRef value)
{
    if (LLVMGetTypeKind(LLVMTypeOf(value)) == LLVMVectorTypeKind) return value;
    LLVMValueRef none = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(value), 1));
    return LLVMBuildInsertElement(e->builder, none, value, kiln_llvm_i32(e, 0), "");
}

static LLVMValueRef as_value(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef vector)
{
    if (instr->lanes > 1) return vector;
    return LLVMBuildExtractElement(e->builder, vector, kiln_llvm_i32(e, 0), "");
}

static LLVMValueRef mask_operand(kiln_llvm *e, const kiln_instr *instr, kiln_kv mask)
{
    if (mask) return as_vector(e, kiln_llvm_operand(e, mask));
    return as_vector(e, kiln_llvm_const(e, KILN_bool, instr->lanes, 1));
}

/* Result lanes that are off are 0. `name` loads from `at`: one address, or one per lane. */
static LLVMValueRef masked_read(kiln_llvm *e, const kiln_instr *instr, const char *name,
                                LLVMValueRef at)
{
    LLVMTypeRef vector = LLVMVectorType(kiln_llvm_memory_type(e, instr->dtype, 1), instr->lanes);
    kiln_llvm_call call = {.name = name, .n_types = 2, .n_args = 4};
    call.types[0] = vector;
    call.types[1] = LLVMTypeOf(at);
    call.args[0] = at;
    call.args[1] = kiln_llvm_i32(e, access_alignment(instr));
    call.args[2] = mask_operand(e, instr, instr->args[1]);
    call.args[3] = LLVMConstNull(vector);
    return from_memory(e, instr, as_value(e, instr, kiln_llvm_intrinsic(e, &call)));
}

static void masked_write(kiln_llvm *e, const kiln_instr *instr, const char *name, LLVMValueRef at)
{
    LLVMValueRef value = as_vector(e, to_memory(e, instr, kiln_llvm_operand(e, instr->args[1])));
    kiln_llvm_call call = {.name = name, .n_types = 2, .n_args = 4};
    call.types[0] = LLVMTypeOf(value);
    call.types[1] = LLVMTypeOf(at);
    call.args[0] = value;
    call.args[1] = at;
    call.args[2] = kiln_llvm_i32(e, access_alignment(instr));
    call.args[3] = mask_operand(e, instr, instr->args[2]);
    kiln_llvm_intrinsic(e, &call);
}

static LLVMValueRef emit_load(kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef at = kiln_llvm_address(e, instr);
    if (instr->args[1]) return masked_read(e, instr, "llvm.masked.load", at);
    LLVMTypeRef type = kiln_llvm_memory_type(e, instr->dtype, instr->lanes);
    LLVMValueRef value = LLVMBuildLoad2(e->builder, type, at, "");
    LLVMSetAlignment(value, access_alignment(instr));
    return from_memory(e, instr, value);
}

static void emit_store(kiln_llvm *e, const kiln_instr *instr)
{
    LLVMValueRef at = kiln_llvm_address(e, instr);
    if (instr->args[2]) {
        masked_write(e, instr, "llvm.masked.store", at);
        return;
    }
    LLVMValueRef value = to_memory(e, instr, kiln_llvm_operand(e, instr->args[1]));
    LLVMValueRef store = LLVMBuildStore(e->builder, value, at);
    uint32_t alignment = access_alignment(instr);
    LLVMSetAlignment(store, alignment);
    if (!(instr->flags & KILN_MEM_STREAM) || alignment < 16) return;
    LLVMMetadataRef one = LLVMValueAsMetadata(kiln_llvm_i32(e, 1));
    LLVMMetadataRef node = LLVMMDNodeInContext2(e->context, &one, 1);
    unsigned kind = LLVMGetMDKindIDInContext(e->context, "nontemporal", strlen("nontemporal"));
    LLVMSetMetadata(store, kind, LLVMMetadataAsValue(e->context, node));
}

/* Lanes of one or two bytes, some of them off, which LLVM would read by a branch a lane: the
 * aligned words of four bytes that hold them, shifted. Such a word lies in the page of its element.
 */
static LLVMValueRef gather_words(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef at)
{
    LLVMBuilderRef b = e->builder;
    uint32_t lanes = instr->lanes;
    LLVMTypeRef narrow = LLVMIntTypeInContext(e->context, 8 * kiln_dtype_bytes(instr->dtype));
    LLVMTypeRef word = kiln_llvm_type(e, KILN_u32, lanes), i64 = kiln_llvm_type(e, KILN_i64, lanes);
    LLVMValueRef past = LLVMBuildPtrToInt(b, at, i64, "");
    past = LLVMBuildAnd(b, past, kiln_llvm_const(e, KILN_i64, lanes, 3), "");
    LLVMValueRef back = LLVMBuildNeg(b, past, "");
    at = LLVMBuildGEP2(b, LLVMInt8TypeInContext(e->context), at, &back, 1, "");
    const kiln_instr words = {.op = KILN_K_gather,
                              .dtype = KILN_u32,
                              .lanes = lanes,
                              .args = {instr->args[0], instr->args[1]}};
    LLVMValueRef value = masked_read(e, &words, "llvm.masked.gather", at);
    LLVMValueRef bits = LLVMBuildTrunc(b, past, word, "");
    bits = LLVMBuildShl(b, bits, kiln_llvm_const(e, KILN_u32, lanes, 3), "");
    value = LLVMBuildLShr(b, value, bits, "");
    value = LLVMBuildTrunc(b, value, LLVMVectorType(narrow, lanes), "");
    value = LLVMBuildBitCast(b, value, kiln_llvm_memory_type(e, instr->dtype, lanes), "");
    return from_memory(e, instr, value);
}

/* One lane needs no gather: it is a load (the offset is a scalar of i32 or i64). */
static LLVMValueRef emit_gather(kiln_llvm *e, const kiln_instr *instr)
{
    if (instr->lanes == 1) return emit_load(e, instr);
    LLVMValueRef at = kiln_llvm_address(e, instr);
    if (instr->args[1] && kiln_dtype_bytes(instr->dtype) <= 2) return gather_words(e, instr, at);
    return masked_read(e, instr, "llvm.masked.gather", at);
}

static void emit_scatter(kiln_llvm *e, const kiln_instr *instr)
{
    if (instr->lanes == 1) {
        emit_store(e, instr);
        return;
    }
    masked_write(e, instr, "llvm.masked.scatter", kiln_llvm_address(e, instr));
}

static void emit_prefetch(kiln_llvm *e, const kiln_instr *instr)
{
    kiln_llvm_call call = {.name = "llvm.prefetch", .n_types = 1, .n_args = 4};
    call.types[0] = LLVMPointerTypeInContext(e->context, 0);
    call.args[0] = kiln_llvm_address(e, instr);
    call.args[1] = kiln_llvm_i32(e, 0); /* for reading */
    bool is_far = instr->flags & KILN_MEM_FAR;
    call.args[2] = kiln_llvm_i32(e, is_far ? 2 : 3); /* into all levels, or not the first */
    call.args[3] = kiln_llvm_i32(e, 1);              /* data */
    kiln_llvm_intrinsic(e, &call);
}

LLVMValueRef kiln_llvm_emit_memory(kiln_llvm *e, const kiln_instr *instr)
{
    switch ((int)instr->op) {
    case KILN_K_load:
        return emit_load(e, instr);
    case KILN_K_gather:
        return emit_gather(e, instr);
    case KILN_K_store:
        emit_store(e, instr);
        return NULL;
    case KILN_K_scatter:
        emit_scatter(e, instr);
        return NULL;
    default:
        emit_prefetch(e, instr);
        return NULL;
    }
}

/* Tables. */

static uint64_t table_bits(const kiln_table *table, uint32_t i)
{
    uint64_t bits = 0;
    size_t bytes = kiln_dtype_bytes(table->dtype);
    if (i < table->n) memcpy(&bits, (const char *)table->data + i * bytes, bytes);
    return bits;
}

static LLVMValueRef table_in_memory(kiln_llvm *e, uint32_t number)
{
    const kiln_table *table = &e->kernel->tables.at[number];
    LLVMTypeRef element = kiln_llvm_memory_type(e, table->dtype, 1);
    LLVMValueRef items[KILN_K_MAX_TABLE];
    kiln_dtype dtype = table->dtype == KILN_bool ? KILN_u8 : table->dtype;
    if (e->tables[number]) return e->tables[number];
    for (uint32_t i = 0; i < table->n; i++)
        items[i] = kiln_llvm_const(e, dtype, 1, table_bits(table, i));
    LLVMValueRef global = LLVMAddGlobal(e->module, LLVMArrayType2(element, table->n), "table");
    LLVMSetInitializer(global, LLVMConstArray2(element, items, table->n));
    LLVMSetGlobalConstant(global, true);
    LLVMSetLinkage(global, LLVMPrivateLinkage);
    LLVMSetAlignment(global, 64);
    e->tables[number] = global;
    return global;
}

static LLVMValueRef lookup_in_memory(kiln_llvm *e, const kiln_instr *instr, LLVMValueRef index)
{
    LLVMTypeRef element = kiln_llvm_memory_type(e, instr->dtype, 1);
    LLVMValueRef base = table_in_memory(e, (uint32_t)instr->imm);
    LLVMValueRef at = LLVMBuildGEP2(e->builder, element, base, &index, 1, "");
    if (instr->lanes == 1)
        return from_memory(e, instr, LLVMBuildLoad2(e->builder, element, at, ""));
    kiln_instr plain = *instr;
    plain.args[1] = 0;
    return masked_read(e, &plain, "llvm.masked.gather", at);
}

/* Entries first … first + lanes - 1 as floats; beyond the table 0. */
static LLVMValueRef table_vector(const kiln_llvm *e, const kiln_table *table, uint32_t first,
                                 uint32_t lanes)
{
    LLVMValueRef items[16];
    for (uint32_t i = 0; i < lanes; i++)
        items[i] = kiln_llvm_const(e, KILN_f32, 1, table_bits(table, first + i));
    return LLVMConstVector(items, lanes);
}

/* 16 lanes of a table of up to 32 words held in two registers. */
static LLVMValueRef permute_512(kiln_llvm *e, const kiln_table *table, LLVMValueRef index)
{
    kiln_llvm_call call = {.args = {table_vector(e, table, 0, 16), index}, .n_args = 2};
    call.name = "llvm.x86.avx512.permvar.sf.512";
    if (table->n > 16) {
        call.name = "llvm.x86.avx512.vpermi2var.ps.512";
        call.args[call.n_args++] = table_vector(e, table, 16, 16);
    }
    return kiln_llvm_intrinsic(e, &call);
}

/* 8 lanes: each group of 8 entries is one permutation; the index picks between them. */
static LLVMValueRef permute_256(kiln_llvm *e, const kiln_table *table, LLVMValueRef index)
{
    LLVMValueRef result = NULL;
    for (uint32_t first = 0; first < table->n; first += 8) {
        kiln_llvm_call call = {.name = "llvm.x86.avx2.permps", .n_args = 2};
        call.args[0] = table_vector(e, table, first, 8);
        call.args[1] = index;
        LLVMValueRef group = kiln_llvm_intrinsic(e, &call),
                     bound = kiln_llvm_const(e, KILN_i32, 8, first);
        if (!result) {
            result = group;
            continue;
        }
        LLVMValueRef is_here = LLVMBuildICmp(e->builder, LLVMIntSGE, index, bound, "");
        result = LLVMBuildSelect(e->builder, is_here, group, result, "");
    }
    return result;
}

/* An index without the mask that keeps it in a table as long as one or two registers: the
 * permutation reads no other bits. */
static LLVMValueRef unmasked_index(kiln_llvm *e, kiln_kv index, uint32_t n)
{
    const kiln_instr *instr = kiln_kernel_at(e->kernel, index);
    if (instr->op != KILN_K_and) return kiln_llvm_operand(e, index);
    const kiln_instr *mask = kiln_kernel_at(e->kernel, instr->args[1]);
    bool is_whole = mask->op == KILN_K_const && (uint32_t)mask->imm == n - 1;
    return kiln_llvm_operand(e, is_whole ? instr->args[0] : index);
}

LLVMValueRef kiln_llvm_emit_lookup(kiln_llvm *e, const kiln_instr *instr)
{
    const kiln_table *table = &e->kernel->tables.at[instr->imm];
    uint64_t features = e->kernel->machine->cpu_features;
    LLVMValueRef index = kiln_llvm_operand(e, instr->args[0]);
    bool is_word = kiln_dtype_bytes(instr->dtype) == 4 && instr->lanes > 1;
    if (!is_word || !(features & KILN_CPU_AVX2)) return lookup_in_memory(e, instr, index);
    uint32_t width = features & KILN_CPU_AVX512 ? 16 : 8, lanes = instr->lanes;
    if (width == 16 && (table->n == 16 || table->n == 32))
        index = unmasked_index(e, instr->args[0], table->n);
    LLVMValueRef result = NULL;
    for (uint32_t first = 0; first < lanes; first += width) {
        LLVMValueRef part = kiln_llvm_part(e, index, lanes, first, width);
        part = width == 16 ? permute_512(e, table, part) : permute_256(e, table, part);
        result = kiln_llvm_join(e, result, lanes, first, part);
    }
    LLVMTypeRef type = kiln_llvm_type(e, instr->dtype, lanes);
    return LLVMBuildBitCast(e->builder, result, type, "");
}
