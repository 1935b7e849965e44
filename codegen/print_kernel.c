/* Text of a kernel, for dumps, golden tests and identity: everything but the label, in the order of
 * the list, so that equal kernels print equal. i64 scalar constants stand where they are used:
 *
 *     %4 = loop tiles %1 %2 step 1 {
 *       %6 = load f32x16 p0[%5] aligned
 *       store p1[%5] %7 mask %8
 *     } */
#include "codegen/kernel.h"

static const char *const loop_names[] = {
    [KILN_LOOP_SERIAL] = "serial",
    [KILN_LOOP_TILES] = "tiles",
    [KILN_LOOP_THREADS] = "threads",
    [KILN_LOOP_UNROLL] = "unroll",
};

static const kiln_instr *at(const kiln_kernel *k, kiln_kv value)
{
    return kiln_kernel_at(k, value);
}

static bool is_inline(const kiln_instr *instr)
{
    return instr->op == KILN_K_const && instr->dtype == KILN_i64 && instr->lanes == 1;
}

static void print_type(kiln_text *text, const kiln_instr *instr)
{
    kiln_text_append(text, kiln_dtype_name(instr->dtype));
    if (instr->lanes > 1) kiln_text_printf(text, "x%u", instr->lanes);
}

static void print_value(const kiln_kernel *k, kiln_text *text, kiln_kv value)
{
    const kiln_instr *instr = at(k, value);
    if (is_inline(instr)) {
        kiln_text_printf(text, "%lld", (long long)instr->imm);
    } else {
        kiln_text_printf(text, "%%%u", value);
    }
}

static void print_buffer(kiln_text *text, int64_t number)
{
    bool is_local = number >= KILN_LOCAL_FIRST;
    kiln_text_printf(text, "%c%lld", is_local ? 'l' : 'p',
                     (long long)(is_local ? number - KILN_LOCAL_FIRST : number));
}

/* An element by its bits: integers as numbers, floats as hex bits (exact, in every locale). */
static void print_bits(kiln_text *text, kiln_dtype dtype, uint64_t bits)
{
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    if (kiln_dtype_is_signed(dtype)) {
        kiln_text_printf(text, "%lld", (long long)((int64_t)(bits << shift) >> shift));
    } else if (kiln_dtype_is_int(dtype) || dtype == KILN_bool) {
        kiln_text_printf(text, "%llu", (unsigned long long)bits);
    } else {
        kiln_text_printf(text, "0x%0*llx", (int)kiln_dtype_bytes(dtype) * 2,
                         (unsigned long long)bits);
    }
}

static void print_access(const kiln_kernel *k, kiln_text *text, const kiln_instr *instr)
{
    bool is_write = instr->op == KILN_K_store || instr->op == KILN_K_scatter;
    kiln_kv mask = instr->op == KILN_K_prefetch ? 0 : instr->args[is_write ? 2 : 1];
    if (!is_write && instr->op != KILN_K_prefetch) {
        print_type(text, instr);
        kiln_text_append(text, " ");
    }
    print_buffer(text, instr->imm);
    kiln_text_append(text, "[");
    print_value(k, text, instr->args[0]);
    kiln_text_append(text, is_write ? "] " : "]");
    if (is_write) print_value(k, text, instr->args[1]);
    if (mask) kiln_text_append(text, " mask ");
    if (mask) print_value(k, text, mask);
    if (instr->flags & KILN_MEM_ALIGNED) kiln_text_append(text, " aligned");
    if (instr->flags & KILN_MEM_STREAM) kiln_text_append(text, " stream");
    if (instr->flags & KILN_MEM_FAR) kiln_text_append(text, " far");
}

static void print_operands(const kiln_kernel *k, kiln_text *text, const kiln_instr *instr)
{
    for (uint32_t i = 0; i < kiln_instr_n_args(instr->op) && instr->args[i]; i++) {
        kiln_text_append(text, " ");
        print_value(k, text, instr->args[i]);
    }
}

/* "tile_load t4 l0[%9] by 64", "tile_dot_bf16 t0 t4 t6". */
static void print_tiles(const kiln_kernel *k, kiln_text *text, const kiln_instr *instr)
{
    bool is_access = instr->op == KILN_K_tile_load || instr->op == KILN_K_tile_store;
    kiln_text_printf(text, "t%u", instr->flags & 0xff);
    if (is_access) {
        kiln_text_append(text, " ");
        print_buffer(text, instr->imm);
        kiln_text_append(text, "[");
        print_value(k, text, instr->args[0]);
        kiln_text_append(text, "] by ");
        print_value(k, text, instr->args[1]);
        if (instr->flags & KILN_TILE_STREAM) kiln_text_append(text, " stream");
    } else if (instr->op != KILN_K_tile_zero) {
        kiln_text_printf(text, " t%u t%u", instr->flags >> 8 & 0xff, instr->flags >> 16 & 0xff);
    }
}

static void print_rest(const kiln_kernel *k, kiln_text *text, const kiln_instr *instr)
{
    if (instr->op == KILN_K_loop) {
        kiln_text_append(text, loop_names[instr->flags]);
        print_operands(k, text, instr);
        kiln_text_printf(text, " step %lld {", (long long)instr->imm);
        return;
    }
    if (kiln_instr_rule_of(instr->op) == KILN_RULE_MEMORY) {
        print_access(k, text, instr);
        return;
    }
    if (kiln_instr_rule_of(instr->op) == KILN_RULE_TILE) {
        print_tiles(k, text, instr);
        return;
    }
    if (instr->op == KILN_K_next) {
        print_operands(k, text, instr);
        return;
    }
    print_type(text, instr);
    if (instr->op == KILN_K_const) {
        kiln_text_append(text, " ");
        print_bits(text, instr->dtype, (uint64_t)instr->imm);
    }
    if (instr->op == KILN_K_address) kiln_text_printf(text, " p%lld", (long long)instr->imm);
    if (instr->op == KILN_K_lookup) kiln_text_printf(text, " t%lld", (long long)instr->imm);
    print_operands(k, text, instr);
    if (instr->op == KILN_K_shuffle) {
        kiln_text_append(text, " ");
        kiln_text_ints(text, k->ints.at + instr->imm, instr->lanes);
    }
}

static void print_instr(const kiln_kernel *k, kiln_text *text, kiln_kv number, int depth)
{
    const kiln_instr *instr = at(k, number);
    kiln_instr_op op = instr->op;
    if (is_inline(instr)) return;
    kiln_text_printf(text, "%*s", 2 * depth, "");
    if (op == KILN_K_end) {
        kiln_text_append(text, "}\n");
        return;
    }
    bool is_void = kiln_instr_rule_of(op) == KILN_RULE_TILE || op == KILN_K_store ||
                   op == KILN_K_scatter || op == KILN_K_prefetch || op == KILN_K_next ||
                   op == KILN_K_barrier;
    if (!is_void) kiln_text_printf(text, "%%%u = ", number);
    kiln_text_append(text, kiln_instr_name(op));
    if (op != KILN_K_barrier && op != KILN_K_next) kiln_text_append(text, " ");
    if (op != KILN_K_barrier) print_rest(k, text, instr);
    kiln_text_append(text, "\n");
}

static void print_declarations(const kiln_kernel *k, kiln_text *text)
{
    for (uint32_t i = 0; i < k->params.n; i++) {
        const kiln_param *param = &k->params.at[i];
        kiln_text_printf(text, "  p%u: %s[%lld]%s%s align %u%s\n", i, kiln_dtype_name(param->dtype),
                         (long long)param->n_elements, param->is_read ? " read" : "",
                         param->is_written ? " write" : "", param->alignment,
                         param->may_overlap ? " overlap" : "");
    }
    for (uint32_t i = 0; i < k->locals.n; i++) {
        const kiln_local *local = &k->locals.at[i];
        kiln_text_printf(text, "  l%u: %s[%lld] at %lld\n", i, kiln_dtype_name(local->dtype),
                         (long long)local->n_elements, (long long)local->offset);
    }
    for (uint32_t i = 0; i < k->tables.n; i++) {
        const kiln_table *table = &k->tables.at[i];
        size_t bytes = kiln_dtype_bytes(table->dtype);
        kiln_text_printf(text, "  t%u: %s[%u] =", i, kiln_dtype_name(table->dtype), table->n);
        for (uint32_t j = 0; j < table->n; j++) {
            uint64_t bits = 0;
            memcpy(&bits, (const char *)table->data + j * bytes, bytes);
            kiln_text_append(text, " ");
            print_bits(text, table->dtype, bits);
        }
        kiln_text_append(text, "\n");
    }
}

void kiln_kernel_print(const kiln_kernel *kernel, kiln_text *text)
{
    kiln_text_printf(text, "kernel %s tiles %u", kernel->machine->name, kernel->n_tiles);
    if (kernel->block_threads) kiln_text_printf(text, " threads %u", kernel->block_threads);
    if (kernel->is_quick) kiln_text_append(text, " quick");
    kiln_text_append(text, kernel->is_pack ? " pack {\n" : " {\n");
    print_declarations(kernel, text);
    int depth = 1;
    for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
        uint8_t op = kernel->instrs.at[v].op;
        if (op == KILN_K_end && depth > 1) depth--;
        print_instr(kernel, text, v, depth);
        if (op == KILN_K_loop) depth++;
    }
    kiln_text_append(text, "}\n");
}
