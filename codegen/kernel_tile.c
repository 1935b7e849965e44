/* Matrix tiles in kernels: builders, the rule that the verifier applies, and whether a kernel needs
 * a machine that has them. */
#include "codegen/kernel.h"
#include "kiln/program.h"

#define FAIL(...) kiln_error_set(error, KILN_INTERNAL, __VA_ARGS__)

void kiln_k_tile_zero(kiln_kernel *k, uint32_t tile)
{
    kiln_kernel_push(k, &(kiln_instr){.op = KILN_K_tile_zero, .flags = tile});
}

static void push_access(kiln_kernel *k, kiln_instr *instr, uint32_t buffer, int64_t stride)
{
    instr->dtype = (uint8_t)kiln_kernel_buffer_dtype(k, buffer);
    instr->args[1] = kiln_k_const_i64(k, stride);
    instr->lanes = 1;
    instr->imm = buffer;
    kiln_kernel_push(k, instr);
}

void kiln_k_tile_load(kiln_kernel *k, uint32_t tile, uint32_t buffer, kiln_kv offset,
                      int64_t stride)
{
    kiln_instr instr = {.op = KILN_K_tile_load, .flags = tile, .args = {offset}};
    push_access(k, &instr, buffer, stride);
}

void kiln_k_tile_store(kiln_kernel *k, uint32_t tile, uint32_t buffer, kiln_kv offset,
                       int64_t stride)
{
    kiln_instr instr = {.op = KILN_K_tile_store, .flags = tile, .args = {offset}};
    push_access(k, &instr, buffer, stride);
}

void kiln_k_tile_dot(kiln_kernel *k, kiln_instr_op op, uint32_t c, uint32_t a, uint32_t b)
{
    kiln_kernel_push(k, &(kiln_instr){.op = (uint8_t)op, .flags = KILN_TILES(c, a, b)});
}

bool kiln_kernel_has_tiles(const kiln_kernel *kernel)
{
    for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
        if (kiln_instr_rule_of(kernel->instrs.at[v].op) == KILN_RULE_TILE) return true;
    }
    return false;
}

/* Whether `plain` does without what the instruction has on `machine`. */
static bool is_lost(const kiln_machine *machine, const kiln_machine *plain,
                    const kiln_instr *instr)
{
    kiln_instr_op op = (kiln_instr_op)instr->op;
    bool is_dot4 = op >= KILN_K_dot4_i8 && op <= KILN_K_dot4_u8;
    if (kiln_instr_rule_of(op) == KILN_RULE_TILE) return !plain->has_amx;
    bool is_rounding = op == KILN_K_convert && instr->dtype == KILN_bf16;
    if (op == KILN_K_dot2_bf16 || is_rounding) return !plain->has_bf16_dot;
    return is_dot4 && machine->has_vnni && !plain->has_vnni;
}

const kiln_machine *kiln_kernel_target(const kiln_kernel *kernel)
{
    const kiln_machine *machine = kernel->machine;
    while (machine->plain) {
        const kiln_machine *plain = kiln_machine_find(machine->plain);
        for (kiln_kv v = 1; v < kernel->instrs.n; v++) {
            if (is_lost(machine, plain, &kernel->instrs.at[v])) return machine;
        }
        machine = plain;
    }
    return machine;
}

static kiln_status check_access(const kiln_kernel *k, const kiln_instr *instr, kiln_error *error)
{
    const char *name = kiln_instr_name(instr->op);
    for (uint32_t i = 0; i < 2; i++) {
        const kiln_instr *operand = kiln_kernel_at(k, instr->args[i]);
        if (operand->dtype != KILN_i64 || operand->lanes != 1)
            return FAIL("%s: operand %u is %sx%u; expected i64", name, i,
                        kiln_dtype_name(operand->dtype), operand->lanes);
    }
    bool is_local = instr->imm >= KILN_LOCAL_FIRST;
    int64_t number = is_local ? instr->imm - KILN_LOCAL_FIRST : instr->imm;
    if (number < 0 || number >= (is_local ? k->locals.n : k->params.n))
        return FAIL("%s: buffer %lld is not declared", name, (long long)instr->imm);
    if (instr->dtype != kiln_kernel_buffer_dtype(k, (uint32_t)instr->imm))
        return FAIL("%s: dtype is %s; expected that of buffer %lld", name,
                    kiln_dtype_name(instr->dtype), (long long)instr->imm);
    if (instr->dtype == KILN_bool) return FAIL("%s: of bool", name);
    if (is_local) return KILN_OK;
    bool is_write = instr->op == KILN_K_tile_store;
    const kiln_param *param = &k->params.at[number];
    if (is_write ? param->is_written : param->is_read) return KILN_OK;
    return FAIL("%s: buffer %lld is not declared %s", name, (long long)instr->imm,
                is_write ? "written" : "read");
}

kiln_status kiln_tile_check(const kiln_kernel *kernel, const kiln_instr *instr, kiln_error *error)
{
    const char *name = kiln_instr_name(instr->op);
    bool is_access = instr->op == KILN_K_tile_load || instr->op == KILN_K_tile_store;
    bool is_zero = instr->op == KILN_K_tile_zero;
    if (!kernel->machine->has_amx)
        return FAIL("%s: machine %s lacks it", name, kernel->machine->name);
    uint32_t c = instr->flags & 0xff, a = instr->flags >> 8 & 0xff, b = instr->flags >> 16 & 0xff;
    if (c >= KILN_N_TILES || a >= KILN_N_TILES || b >= KILN_N_TILES)
        return FAIL("%s: tiles %u, %u and %u; expected 0 to %d", name, c, a, b, KILN_N_TILES - 1);
    if (is_access) return check_access(kernel, instr, error);
    if (!is_zero && (c == a || c == b || a == b))
        return FAIL("%s: tiles %u, %u and %u; expected three different ones", name, c, a, b);
    return KILN_OK;
}
