/* Lanes as a scalar and constants. Of pairs (re, im), for example, which are walked by one loop
 * over [n, 2] from an even number on, the digits are base / 2 and 0 0 1 1 2 2 …, and 0 and 0 1 0 1
 * …; those of a pair swapped add up to base and 1 0 3 2 …: a load and a shuffle. */
#include "codegen/lower_spread.h"

#include <string.h>

#include "base/checked.h"

typedef struct constants {
    const int64_t *values;
    uint32_t lanes;
} constants;

struct kiln_spreads {
    kiln_vec(constants) all;
};

static const int64_t *intern(kiln_lower *lower, const int64_t *values)
{
    kiln_arena *arena = &lower->scope->arena;
    uint32_t n = lower->lanes;
    if (!lower->spreads) lower->spreads = kiln_new(arena, struct kiln_spreads);
    for (uint32_t i = 0; i < lower->spreads->all.n; i++) {
        const constants *at = &lower->spreads->all.at[i];
        if (at->lanes == n && !memcmp(at->values, values, n * sizeof *values)) return at->values;
    }
    int64_t *copy = kiln_new_array(arena, int64_t, n);
    memcpy(copy, values, n * sizeof *copy);
    constants entry = {copy, n};
    kiln_vec_push(&lower->spreads->all, arena, entry);
    return copy;
}

bool kiln_spread_of(const kiln_lower *lower, const kiln_axis_index *axis, int64_t *out_values)
{
    if (axis->lanes) return false;
    for (uint32_t i = 0; i < lower->lanes; i++)
        out_values[i] = axis->spread ? axis->spread[i] : (int64_t)i * axis->step;
    return true;
}

void kiln_spread_set(kiln_lower *lower, kiln_axis_index *axis, const int64_t *values)
{
    uint32_t n = lower->lanes;
    int64_t least = values[0], step = n > 1 ? values[1] - values[0] : 0;
    bool is_even = true;
    for (uint32_t i = 0; i < n; i++) {
        least = kiln_min_i64(least, values[i]);
        is_even = is_even && values[i] == values[0] + (int64_t)i * step;
    }
    if (is_even) least = values[0];
    *axis = kiln_axis_affine(lower, axis, 1, least);
    axis->step = is_even ? step : 0;
    axis->spread = NULL;
    if (is_even) return;
    int64_t spread[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < n; i++) spread[i] = values[i] - least;
    axis->spread = intern(lower, spread);
}

bool kiln_spread_divide(kiln_lower *lower, const kiln_axis_index *a, kiln_instr_op op, int64_t b,
                        kiln_axis_index *out)
{
    int64_t values[KILN_K_MAX_LANES], extent = out->extent;
    bool is_division = op == KILN_K_div;
    if (lower->lanes == 1 || a->is_guarded || a->multiple % b != 0) return false;
    if (!kiln_spread_of(lower, a, values)) return false;
    for (uint32_t i = 0; i < lower->lanes; i++) {
        if (values[i] < 0) return false;
        values[i] = is_division ? values[i] / b : values[i] % b;
    }
    *out = is_division ? kiln_axis_scalar(kiln_lower_op_imm(lower, op, a->base, b), a->multiple / b)
                       : kiln_axis_zero(lower);
    kiln_spread_set(lower, out, values);
    out->extent = extent;
    return true;
}

/* Numbers below n are lanes picked from 0, 1, 2, …; larger ones are such a number times a constant
 * and the rest. The backend folds them to one constant. */
static kiln_kv emit(kiln_kernel *k, kiln_dtype dtype, uint32_t n, const int64_t *values)
{
    int64_t most = 0, picked[KILN_K_MAX_LANES], rest[KILN_K_MAX_LANES];
    bool is_whole = true;
    for (uint32_t i = 0; i < n; i++) most = kiln_max_i64(most, values[i]);
    int64_t unit = most / (int64_t)n + 1;
    for (uint32_t i = 0; i < n; i++) {
        picked[i] = values[i] / unit;
        rest[i] = values[i] % unit;
        is_whole = is_whole && rest[i] == 0;
    }
    kiln_kv value = kiln_k_shuffle(k, kiln_k_lanes(k, dtype, n), 0, n, picked);
    if (unit > 1) value = kiln_k_binary(k, KILN_K_mul, value, kiln_k_const_int(k, dtype, n, unit));
    return is_whole ? value : kiln_k_binary(k, KILN_K_add, value, emit(k, dtype, n, rest));
}

kiln_kv kiln_spread_lanes(kiln_lower *lower, const kiln_axis_index *axis, kiln_dtype dtype)
{
    uint32_t number = 0;
    while (lower->spreads->all.at[number].values != axis->spread) number++;
    kiln_memo_key key = {4ull << 32, number, dtype};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    value = emit(lower->kernel, dtype, lower->lanes, axis->spread);
    kiln_memo_add(lower->memo, key, value);
    return value;
}

#define MOST_STEPS 6 /* of a mask's arithmetic */

/* The lanes of a value that is made of constants. */
static bool find_constants(const kiln_kernel *k, kiln_kv value, uint32_t steps, int64_t *out)
{
    const kiln_instr instr = *kiln_kernel_at(k, value);
    int64_t args[2][KILN_K_MAX_LANES] = {0};
    bool is_lanes = instr.op == KILN_K_lanes;
    bool is_const = kiln_kernel_is_const(k, value, &args[0][0]);
    if (steps == 0 || kiln_dtype_is_float((kiln_dtype)instr.dtype)) return false;
    for (uint32_t i = 0; i < 2 && !is_lanes && !is_const; i++)
        if (instr.args[i] && !find_constants(k, instr.args[i], steps - 1, args[i])) return false;
    for (uint32_t i = 0; i < instr.lanes; i++) {
        int64_t a = args[0][i], b = args[1][i];
        switch ((int)instr.op) {
        case KILN_K_const:
            out[i] = args[0][0];
            break;
        case KILN_K_lanes:
            out[i] = i;
            break;
        case KILN_K_add:
            out[i] = a + b;
            break;
        case KILN_K_lt:
            out[i] = a < b;
            break;
        case KILN_K_not:
            out[i] = !a;
            break;
        case KILN_K_and:
            out[i] = a & b;
            break;
        case KILN_K_shuffle:
            if (instr.args[1]) return false;
            out[i] = args[0][k->ints.at[instr.imm + i]];
            break;
        default:
            return false;
        }
    }
    return true;
}

kiln_kv kiln_spread_load(const kiln_lower *lower, const kiln_access *access)
{
    kiln_kernel *k = lower->kernel;
    const int64_t *spread = access->offset.spread;
    int64_t is_on[KILN_K_MAX_LANES], from[KILN_K_MAX_LANES], least = INT64_MAX, most = 0;
    bool is_known = access->mask && find_constants(k, access->mask, MOST_STEPS, is_on);
    if (!is_known && (access->mask || access->is_guarded)) return 0;
    for (uint32_t i = 0; i < access->lanes; i++) {
        if (is_known && !is_on[i]) continue;
        least = kiln_min_i64(least, spread[i]);
        most = kiln_max_i64(most, spread[i]);
    }
    int64_t reach = most - least + 1;
    if (reach < 2 || reach > access->lanes || (reach & (reach - 1))) return 0;
    bool is_whole = true;
    for (uint32_t i = 0; i < access->lanes; i++) {
        bool is_read = !is_known || is_on[i];
        from[i] = is_read ? spread[i] - least : reach;
        is_whole = is_whole && is_read;
    }
    kiln_kv first = kiln_k_add_imm(k, access->offset.base, least);
    kiln_kv value = kiln_k_load(k, access->buffer, first, (uint32_t)reach, 0, 0);
    kiln_dtype dtype = (kiln_dtype)kiln_kernel_at(k, value)->dtype;
    kiln_kv zero = is_whole ? 0 : kiln_k_const_bits(k, dtype, (uint32_t)reach, 0);
    return kiln_k_shuffle(k, value, zero, access->lanes, from);
}
