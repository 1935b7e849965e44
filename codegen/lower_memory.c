/* Loads and stores of the lowering: contiguous, one element for all lanes, reversed, or gathered,
 * whichever the offset allows; and the conversion between storage form and compute form. */
#include "codegen/lower.h"

#include "codegen/lower_spread.h"
#include "codegen/math.h"
#include "kiln/program.h"

/* The low half of i64 lanes, made by 32-bit arithmetic as far as they are sums and products: two
 * vectors become one. Deep ones are cut. */
static kiln_kv low_half(kiln_kernel *k, kiln_kv value, uint32_t depth)
{
    const kiln_instr of = *kiln_kernel_at(k, value);
    bool is_sum = of.op == KILN_K_add || of.op == KILN_K_sub || of.op == KILN_K_mul;
    if (of.op == KILN_K_convert) {
        kiln_dtype from = (kiln_dtype)kiln_kernel_at(k, of.args[0])->dtype;
        if (from == KILN_i32 || from == KILN_u32) return kiln_k_convert(k, of.args[0], KILN_i32);
    }
    if (of.op == KILN_K_splat)
        return kiln_k_splat(k, kiln_k_convert(k, of.args[0], KILN_i32), of.lanes);
    if (!is_sum || depth == 0) return kiln_k_convert(k, value, KILN_i32);
    kiln_kv a = low_half(k, of.args[0], depth - 1), b = low_half(k, of.args[1], depth - 1);
    return kiln_k_binary(k, (kiln_instr_op)of.op, a, b);
}

/* Offsets of a gather: i32 lanes where the buffer is small enough for them. */
static kiln_kv gather_offsets(kiln_lower *lower, const kiln_access *access)
{
    kiln_kernel *k = lower->kernel;
    const kiln_axis_index *at = &access->offset;
    bool is_narrow = kiln_kernel_buffer_elements(k, access->buffer) < INT32_MAX;
    if (!is_narrow) return kiln_axis_lanes(lower, at, access->lanes);
    if (at->lanes) return low_half(k, at->lanes, 4);
    kiln_kv base = kiln_k_splat(k, kiln_k_convert(k, at->base, KILN_i32), access->lanes);
    if (kiln_axis_is_uniform(at)) return base;
    if (at->spread)
        return kiln_k_binary(k, KILN_K_add, base, kiln_spread_lanes(lower, at, KILN_i32));
    kiln_kv steps = kiln_k_lanes(k, KILN_i32, access->lanes);
    steps =
        kiln_k_binary(k, KILN_K_mul, steps, kiln_k_const_int(k, KILN_i32, access->lanes, at->step));
    return kiln_k_binary(k, KILN_K_add, base, steps);
}

static bool is_aligned(const kiln_kernel *k, const kiln_access *access)
{
    bool is_local = access->buffer >= KILN_LOCAL_FIRST;
    bool is_known = is_local || (access->flags & KILN_MEM_STREAM) != 0;
    uint32_t alignment = is_known ? 64 : k->params.at[access->buffer].alignment;
    size_t bytes = access->lanes * kiln_dtype_bytes(kiln_kernel_buffer_dtype(k, access->buffer));
    if (alignment < bytes || bytes > 64 || access->lanes == 1) return false;
    return access->offset.multiple % access->lanes == 0;
}

static kiln_kv load_reversed(kiln_lower *lower, const kiln_access *access)
{
    kiln_kernel *k = lower->kernel;
    int64_t from[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < access->lanes; i++) from[i] = (int64_t)access->lanes - 1 - i;
    kiln_kv first = kiln_k_add_imm(k, access->offset.base, 1 - (int64_t)access->lanes);
    kiln_kv value = kiln_k_load(k, access->buffer, first, access->lanes, 0, 0);
    return kiln_k_shuffle(k, value, 0, access->lanes, from);
}

static kiln_kv load_storage(kiln_lower *lower, const kiln_access *access)
{
    kiln_kernel *k = lower->kernel;
    const kiln_axis_index *at = &access->offset;
    if (access->lanes == 1) {
        kiln_kv offset = at->lanes ? at->lanes : at->base;
        return kiln_k_load(k, access->buffer, offset, 1, access->mask, 0);
    }
    if (!at->lanes && at->step == 1) {
        uint32_t flags = is_aligned(k, access) ? KILN_MEM_ALIGNED : 0;
        return kiln_k_load(k, access->buffer, at->base, access->lanes, access->mask, flags);
    }
    if (kiln_axis_is_uniform(at) && !access->is_guarded)
        return kiln_k_splat(k, kiln_k_load(k, access->buffer, at->base, 1, 0, 0), access->lanes);
    if (!at->lanes && at->step == -1 && !access->mask) return load_reversed(lower, access);
    kiln_kv value = at->spread ? kiln_spread_load(lower, access) : 0;
    if (value) return value;
    return kiln_k_gather(k, access->buffer, gather_offsets(lower, access), access->mask);
}

kiln_kv kiln_lower_load_at(kiln_lower *lower, const kiln_access *access)
{
    kiln_kv value = load_storage(lower, access);
    if (access->dtype == KILN_NO_DTYPE) return value;
    return kiln_math_from_storage(lower->kernel, value, access->dtype);
}

void kiln_lower_store_at(kiln_lower *lower, const kiln_access *access, kiln_kv value)
{
    kiln_kernel *k = lower->kernel;
    const kiln_axis_index *at = &access->offset;
    if (access->dtype != KILN_NO_DTYPE) value = kiln_math_to_storage(k, value, access->dtype);
    if (access->lanes == 1) {
        kiln_k_store(k, access->buffer, at->lanes ? at->lanes : at->base, value, access->mask, 0);
    } else if (!at->lanes && at->step == 1) {
        uint32_t flags = is_aligned(k, access) ? KILN_MEM_ALIGNED | access->flags : 0;
        kiln_k_store(k, access->buffer, at->base, value, access->mask, flags);
    } else {
        kiln_k_scatter(k, access->buffer, gather_offsets(lower, access), value, access->mask);
    }
}

void kiln_lower_store(kiln_lower *lower, uint32_t number, const kiln_index *index, kiln_kv value)
{
    uint32_t position = lower->group->n_inputs + number;
    const kiln_place *place = lower->place_of[position];
    const kiln_type *type = kiln_graph_type(lower->graph, place->operand.value);
    kiln_access access = {.buffer = lower->buffer_of[position],
                          .dtype = type->dtype,
                          .lanes = lower->lanes,
                          .mask = lower->mask,
                          .flags = lower->store_flags,
                          .offset = kiln_lower_operand_offset(lower, position, index)};
    kiln_lower_store_at(lower, &access, kiln_k_splat(lower->kernel, value, lower->lanes));
}
