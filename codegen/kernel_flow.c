/* The builders of kernel.h for memory and loops, and the i64 shorthands. */
#include "codegen/kernel.h"

static const kiln_instr *at(const kiln_kernel *k, kiln_kv value)
{
    return kiln_kernel_at(k, value);
}

/* Sorts out constant masks: `*mask` becomes none when all lanes are on; false when none is. */
static bool mask_is_live(const kiln_kernel *k, kiln_kv *mask)
{
    int64_t value;
    if (!*mask || !kiln_kernel_is_const(k, *mask, &value)) return true;
    if (value) *mask = 0;
    return value != 0;
}

kiln_kv kiln_k_load(kiln_kernel *k, uint32_t buffer, kiln_kv offset, uint32_t lanes, kiln_kv mask,
                    uint32_t flags)
{
    kiln_dtype dtype = kiln_kernel_buffer_dtype(k, buffer);
    if (!mask_is_live(k, &mask)) return kiln_k_const_bits(k, dtype, lanes, 0);
    kiln_instr instr = {.op = KILN_K_load,
                        .dtype = (uint8_t)dtype,
                        .lanes = (uint16_t)lanes,
                        .flags = flags,
                        .args = {offset, mask},
                        .imm = buffer};
    return kiln_kernel_push(k, &instr);
}

void kiln_k_store(kiln_kernel *k, uint32_t buffer, kiln_kv offset, kiln_kv value, kiln_kv mask,
                  uint32_t flags)
{
    if (!mask_is_live(k, &mask)) return;
    kiln_instr instr = {.op = KILN_K_store,
                        .dtype = at(k, value)->dtype,
                        .lanes = at(k, value)->lanes,
                        .flags = flags,
                        .args = {offset, value, mask},
                        .imm = buffer};
    kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_gather(kiln_kernel *k, uint32_t buffer, kiln_kv offsets, kiln_kv mask)
{
    kiln_dtype dtype = kiln_kernel_buffer_dtype(k, buffer);
    uint16_t lanes = at(k, offsets)->lanes;
    if (!mask_is_live(k, &mask)) return kiln_k_const_bits(k, dtype, lanes, 0);
    kiln_instr instr = {.op = KILN_K_gather,
                        .dtype = (uint8_t)dtype,
                        .lanes = lanes,
                        .args = {offsets, mask},
                        .imm = buffer};
    return kiln_kernel_push(k, &instr);
}

void kiln_k_scatter(kiln_kernel *k, uint32_t buffer, kiln_kv offsets, kiln_kv value, kiln_kv mask)
{
    if (!mask_is_live(k, &mask)) return;
    kiln_instr instr = {.op = KILN_K_scatter,
                        .dtype = at(k, value)->dtype,
                        .lanes = at(k, value)->lanes,
                        .args = {offsets, value, mask},
                        .imm = buffer};
    kiln_kernel_push(k, &instr);
}

static void push_prefetch(kiln_kernel *k, uint32_t buffer, kiln_kv offset, uint32_t flags)
{
    kiln_dtype dtype = kiln_kernel_buffer_dtype(k, buffer);
    kiln_instr instr = {.op = KILN_K_prefetch,
                        .dtype = (uint8_t)dtype,
                        .lanes = 1,
                        .flags = flags,
                        .args = {offset},
                        .imm = buffer};
    kiln_kernel_push(k, &instr);
}

void kiln_k_prefetch(kiln_kernel *k, uint32_t buffer, kiln_kv offset)
{
    push_prefetch(k, buffer, offset, 0);
}

void kiln_k_prefetch_far(kiln_kernel *k, uint32_t buffer, kiln_kv offset)
{
    push_prefetch(k, buffer, offset, KILN_MEM_FAR);
}

kiln_kv kiln_k_loop(kiln_kernel *k, kiln_loop_kind kind, kiln_kv begin, kiln_kv end, int64_t step)
{
    kiln_instr instr = {.op = KILN_K_loop,
                        .dtype = KILN_i64,
                        .lanes = 1,
                        .flags = kind,
                        .args = {begin, end},
                        .imm = step};
    kiln_kv loop = kiln_kernel_push(k, &instr);
    kiln_vec_push(&k->open_loops, &k->scope->arena, loop);
    return loop;
}

kiln_kv kiln_k_carry(kiln_kernel *k, kiln_kv first)
{
    kiln_instr instr = {.op = KILN_K_carry,
                        .dtype = at(k, first)->dtype,
                        .lanes = at(k, first)->lanes,
                        .args = {first}};
    return kiln_kernel_push(k, &instr);
}

void kiln_k_next(kiln_kernel *k, kiln_kv carry, kiln_kv value)
{
    kiln_instr instr = {.op = KILN_K_next, .args = {carry, value}};
    kiln_kernel_push(k, &instr);
}

void kiln_k_end(kiln_kernel *k)
{
    if (k->open_loops.n == 0)
        kiln_fail(k->scope, KILN_INTERNAL, "kernel %s: end without an open loop", k->label);
    kiln_instr instr = {.op = KILN_K_end, .imm = k->open_loops.at[--k->open_loops.n]};
    kiln_kernel_push(k, &instr);
}

kiln_kv kiln_k_last(kiln_kernel *k, kiln_kv carry)
{
    kiln_instr instr = {.op = KILN_K_last,
                        .dtype = at(k, carry)->dtype,
                        .lanes = at(k, carry)->lanes,
                        .args = {carry}};
    return kiln_kernel_push(k, &instr);
}

void kiln_k_barrier(kiln_kernel *k)
{
    kiln_kernel_push(k, &(kiln_instr){.op = KILN_K_barrier});
}

kiln_kv kiln_k_add_imm(kiln_kernel *k, kiln_kv a, int64_t b)
{
    return kiln_k_binary(k, KILN_K_add, a, kiln_k_const_i64(k, b));
}

kiln_kv kiln_k_mul_imm(kiln_kernel *k, kiln_kv a, int64_t b)
{
    return kiln_k_binary(k, KILN_K_mul, a, kiln_k_const_i64(k, b));
}

static bool is_power_of_two(int64_t b)
{
    return b > 0 && (b & (b - 1)) == 0;
}

static void check_divisor(const kiln_kernel *k, int64_t b)
{
    if (b <= 0)
        kiln_fail(k->scope, KILN_INTERNAL, "kernel %s: divisor is %lld; expected at least 1",
                  k->label, (long long)b);
}

kiln_kv kiln_k_div_imm(kiln_kernel *k, kiln_kv a, int64_t b)
{
    check_divisor(k, b);
    if (is_power_of_two(b))
        return kiln_k_binary(k, KILN_K_shr, a, kiln_k_const_i64(k, __builtin_ctzll((uint64_t)b)));
    return kiln_k_binary(k, KILN_K_div, a, kiln_k_const_i64(k, b));
}

kiln_kv kiln_k_rem_imm(kiln_kernel *k, kiln_kv a, int64_t b)
{
    check_divisor(k, b);
    if (is_power_of_two(b)) return kiln_k_binary(k, KILN_K_and, a, kiln_k_const_i64(k, b - 1));
    return kiln_k_binary(k, KILN_K_rem, a, kiln_k_const_i64(k, b));
}

kiln_kv kiln_k_min(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(k, KILN_K_min, a, b);
}

kiln_kv kiln_k_max(kiln_kernel *k, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(k, KILN_K_max, a, b);
}

kiln_kv kiln_k_active(kiln_kernel *k, uint32_t lanes, kiln_kv n)
{
    int64_t count;
    if (kiln_kernel_is_const(k, n, &count) && count >= (int64_t)lanes) return 0;
    if (lanes == 1) return kiln_k_binary(k, KILN_K_gt, n, kiln_k_const_i64(k, 0));
    /* bytes compare in one instruction for many lanes; up to 16, i32 has the lanes' usual width */
    kiln_dtype dtype = lanes > 16 ? KILN_i8 : KILN_i32;
    kiln_kv bound =
        kiln_k_max(k, kiln_k_min(k, n, kiln_k_const_i64(k, lanes)), kiln_k_const_i64(k, 0));
    bound = kiln_k_splat(k, kiln_k_convert(k, bound, dtype), lanes);
    return kiln_k_binary(k, KILN_K_lt, kiln_k_lanes(k, dtype, lanes), bound);
}
