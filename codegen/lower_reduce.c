/* Partial results of reductions in vectors: steps, merges and the fixed tree. The bits do not
 * depend on the vector width: a row has 64 logical lanes, and the tree halves them in the same
 * order however many lanes share a vector. Sums start at +0. */
#include "codegen/lower_stage.h"

#include <math.h>

#include "codegen/math.h"

/* Positions start outside of every axis, so that the first element always wins. */
static kiln_kv arg_start(kiln_lower *lower, const kiln_partials *p)
{
    int64_t most = p->position == KILN_i32 ? INT32_MAX : INT64_MAX;
    return kiln_k_const_int(lower->kernel, p->position, p->lanes, p->is_last ? -1 : most);
}

void kiln_partials_begin(kiln_lower *lower, kiln_value node, uint32_t n,
                         kiln_partials *out_partials)
{
    const kiln_node *reduction = kiln_graph_node(lower->graph, node);
    const kiln_type *operand = kiln_graph_type(lower->graph, reduction->inputs[0]);
    kiln_partials p = {.op = (kiln_op)reduction->op,
                       .dtype = operand->dtype,
                       .n = n,
                       .compute = kiln_compute_dtype(operand->dtype),
                       .lanes = lower->lanes};
    p.is_arg = p.op == KILN_OP_argmax || p.op == KILN_OP_argmin;
    if (p.is_arg) {
        p.is_last = reduction->attrs->arg.last;
        p.position = operand->n_elements < INT32_MAX ? KILN_i32 : KILN_i64;
    }
    kiln_op like = p.op == KILN_OP_argmax ? KILN_OP_reduce_max : KILN_OP_reduce_min;
    for (uint32_t i = 0; i < n; i++) {
        p.value[i] = kiln_math_identity(lower->kernel, p.is_arg ? like : p.op, p.compute, p.lanes);
        p.at[i] = p.is_arg ? arg_start(lower, &p) : 0;
    }
    *out_partials = p;
}

static kiln_kv is_nan(kiln_lower *lower, kiln_kv value)
{
    return kiln_k_binary(lower->kernel, KILN_K_ne, value, value);
}

/* b wins over a: it is beyond it, or NaN against a number, or equal (or both NaN) at a position
 * that counts more. */
static kiln_kv arg_wins(kiln_lower *lower, const kiln_partials *p, const kiln_kv a[2],
                        const kiln_kv b[2])
{
    kiln_kernel *k = lower->kernel;
    kiln_instr_op beyond = p->op == KILN_OP_argmax ? KILN_K_gt : KILN_K_lt;
    kiln_kv wins = kiln_k_binary(k, beyond, b[0], a[0]);
    kiln_kv tie = kiln_k_binary(k, KILN_K_eq, a[0], b[0]);
    if (kiln_dtype_is_float(p->compute)) {
        kiln_kv a_nan = is_nan(lower, a[0]), b_nan = is_nan(lower, b[0]);
        kiln_kv a_number = kiln_k_unary(k, KILN_K_not, a_nan);
        wins = kiln_k_binary(k, KILN_K_or, wins, kiln_k_binary(k, KILN_K_and, b_nan, a_number));
        tie = kiln_k_binary(k, KILN_K_or, tie, kiln_k_binary(k, KILN_K_and, a_nan, b_nan));
    }
    kiln_kv counts = kiln_k_binary(k, p->is_last ? KILN_K_gt : KILN_K_lt, b[1], a[1]);
    return kiln_k_binary(k, KILN_K_or, wins, kiln_k_binary(k, KILN_K_and, tie, counts));
}

static void combine(kiln_lower *lower, const kiln_partials *p, kiln_kv a[2], const kiln_kv b[2])
{
    kiln_kernel *k = lower->kernel;
    if (!p->is_arg) {
        a[0] = kiln_math_combine(k, p->op, a[0], b[0]);
        return;
    }
    kiln_kv wins = arg_wins(lower, p, a, b);
    a[0] = kiln_k_select(k, wins, b[0], a[0]);
    a[1] = kiln_k_select(k, wins, b[1], a[1]);
}

static kiln_dtype bits_dtype(const kiln_partials *p)
{
    return p->compute == KILN_f64 ? KILN_i64 : KILN_i32;
}

static bool is_max(const kiln_partials *p)
{
    return p->op == KILN_OP_reduce_max || p->op == KILN_OP_window_max;
}

/* f16 has ways of its own for extremes. */
void kiln_partials_hurry(kiln_lower *lower, kiln_partials *p)
{
    bool is_min = p->op == KILN_OP_reduce_min || p->op == KILN_OP_window_min;
    bool is_extreme = is_max(p) || is_min;
    p->is_fast = is_extreme && kiln_dtype_is_float(p->compute) && p->dtype != KILN_f16;
    if (!p->is_fast) return;
    p->nan = kiln_k_const_int(lower->kernel, bits_dtype(p), p->lanes, 0);
    p->signs = kiln_k_const_int(lower->kernel, bits_dtype(p), p->lanes, is_max(p) ? -1 : 0);
}

static kiln_kv fast_extreme(kiln_lower *lower, const kiln_partials *p, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(lower->kernel, is_max(p) ? KILN_K_max_fast : KILN_K_min_fast, a, b);
}

static kiln_kv join_signs(kiln_lower *lower, const kiln_partials *p, kiln_kv a, kiln_kv b)
{
    return kiln_k_binary(lower->kernel, is_max(p) ? KILN_K_and : KILN_K_or, a, b);
}

static void fast_step(kiln_lower *lower, kiln_partials *p, uint32_t i, kiln_kv value)
{
    kiln_kernel *k = lower->kernel;
    if (lower->mask) {
        kiln_kv nothing = kiln_math_identity(k, p->op, p->compute, p->lanes);
        value = kiln_k_select(k, lower->mask, value, nothing);
    }
    p->value[i] = fast_extreme(lower, p, value, p->value[i]);
    if (p->is_shift) return;
    kiln_kv is_new = is_nan(lower, value);
    p->news = p->news ? kiln_k_binary(k, KILN_K_or, p->news, is_new) : is_new;
    p->signs = join_signs(lower, p, p->signs, kiln_k_bitcast(k, value, bits_dtype(p)));
}

static void keep_news(kiln_lower *lower, kiln_partials *p)
{
    kiln_kernel *k = lower->kernel;
    if (!p->news) return;
    kiln_kv ones = kiln_k_const_int(k, bits_dtype(p), p->lanes, -1);
    p->nan = kiln_k_select(k, p->news, ones, p->nan);
    p->news = 0;
}

static void fast_merge(kiln_lower *lower, kiln_partials *a, const kiln_partials *b)
{
    kiln_partials other = *b;
    for (uint32_t i = 0; i < a->n; i++)
        a->value[i] = fast_extreme(lower, a, other.value[i], a->value[i]);
    if (a->is_shift) return;
    keep_news(lower, a);
    keep_news(lower, &other);
    a->nan = kiln_k_binary(lower->kernel, KILN_K_or, a->nan, other.nan);
    a->signs = join_signs(lower, a, a->signs, other.signs);
}

/* What the lanes have seen: a zero is the best of zeros, any NaN is NaN. */
static kiln_kv exact_extreme(kiln_lower *lower, const kiln_partials *p, kiln_kv best)
{
    kiln_kernel *k = lower->kernel;
    kiln_kv zero = kiln_k_const_float(k, p->compute, p->lanes, 0);
    kiln_kv is_zero = kiln_k_binary(k, KILN_K_eq, best, zero);
    kiln_kv signs = kiln_k_bitcast(k, p->signs, p->compute);
    best = kiln_k_select(k, is_zero, kiln_k_binary(k, KILN_K_copysign, zero, signs), best);
    kiln_kv none = kiln_k_const_int(k, bits_dtype(p), p->lanes, 0);
    kiln_kv nan = kiln_k_const_float(k, p->compute, p->lanes, is_max(p) ? NAN : -NAN);
    kiln_kv is_number = kiln_k_binary(k, KILN_K_eq, p->nan, none);
    return kiln_k_select(k, is_number, best, nan);
}

/* One vector is left. */
static void fast_end(kiln_lower *lower, kiln_partials *p)
{
    keep_news(lower, p);
    kiln_kv best = p->value[0];
    for (uint32_t i = 1; i < p->n; i++) best = fast_extreme(lower, p, p->value[i], best);
    p->value[0] = p->is_shift ? best : exact_extreme(lower, p, best);
    p->n = 1;
    p->is_fast = false;
}

void kiln_partials_settle(kiln_lower *lower, kiln_partials *p)
{
    if (p->is_fast) fast_end(lower, p);
}

static kiln_kv positions(kiln_lower *lower, const kiln_partials *p, const kiln_axis_index *element)
{
    kiln_kernel *k = lower->kernel;
    if (element->lanes || element->step != 1)
        return kiln_k_convert(k, kiln_axis_lanes(lower, element, p->lanes), p->position);
    kiln_kv base = kiln_k_splat(k, kiln_k_convert(k, element->base, p->position), p->lanes);
    return kiln_k_binary(k, KILN_K_add, kiln_k_lanes(k, p->position, p->lanes), base);
}

void kiln_partials_step(kiln_lower *lower, kiln_partials *p, uint32_t i, kiln_kv value,
                        const kiln_axis_index *element)
{
    kiln_kernel *k = lower->kernel;
    if (p->is_fast) {
        fast_step(lower, p, i, value);
        return;
    }
    kiln_kv a[2] = {p->value[i], p->at[i]}, b[2] = {value, 0};
    if (p->is_arg) b[1] = positions(lower, p, element);
    combine(lower, p, a, b);
    if (lower->mask) {
        a[0] = kiln_k_select(k, lower->mask, a[0], p->value[i]);
        if (p->is_arg) a[1] = kiln_k_select(k, lower->mask, a[1], p->at[i]);
    }
    p->value[i] = a[0];
    p->at[i] = a[1];
}

void kiln_partials_merge(kiln_lower *lower, kiln_partials *a, const kiln_partials *b)
{
    if (a->is_fast) {
        fast_merge(lower, a, b);
        return;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        kiln_kv left[2] = {a->value[i], a->at[i]}, right[2] = {b->value[i], b->at[i]};
        combine(lower, a, left, right);
        a->value[i] = left[0];
        a->at[i] = left[1];
    }
}

void kiln_partials_carry(kiln_lower *lower, kiln_partials *p)
{
    if (p->is_fast && !p->is_shift) {
        keep_news(lower, p);
        p->nan = kiln_k_carry(lower->kernel, p->nan);
        p->signs = kiln_k_carry(lower->kernel, p->signs);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        p->value[i] = kiln_k_carry(lower->kernel, p->value[i]);
        if (p->is_arg) p->at[i] = kiln_k_carry(lower->kernel, p->at[i]);
    }
}

void kiln_partials_next(kiln_lower *lower, const kiln_partials *carries, const kiln_partials *p)
{
    if (p->is_fast && !p->is_shift) {
        kiln_partials last = *p;
        keep_news(lower, &last);
        kiln_k_next(lower->kernel, carries->nan, last.nan);
        kiln_k_next(lower->kernel, carries->signs, last.signs);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        kiln_k_next(lower->kernel, carries->value[i], p->value[i]);
        if (p->is_arg) kiln_k_next(lower->kernel, carries->at[i], p->at[i]);
    }
}

void kiln_partials_last(kiln_lower *lower, const kiln_partials *carries,
                        kiln_partials *out_partials)
{
    kiln_partials p = *carries;
    if (p.is_fast && !p.is_shift) {
        p.nan = kiln_k_last(lower->kernel, carries->nan);
        p.signs = kiln_k_last(lower->kernel, carries->signs);
    }
    for (uint32_t i = 0; i < p.n; i++) {
        p.value[i] = kiln_k_last(lower->kernel, carries->value[i]);
        if (p.is_arg) p.at[i] = kiln_k_last(lower->kernel, carries->at[i]);
    }
    *out_partials = p;
}

/* Lanes 0 … half - 1 and half … 2 half - 1. Vectors of less than 16 bytes are dear to compile: they
 * stay that wide, with lanes of no account behind. */
static void split_halves(kiln_lower *lower, const kiln_kv pair[2], uint32_t half, kiln_kv low[2],
                         kiln_kv high[2])
{
    kiln_kernel *k = lower->kernel;
    int64_t first[KILN_K_MAX_LANES], second[KILN_K_MAX_LANES];
    uint32_t n = half, lanes = kiln_kernel_at(k, pair[0])->lanes;
    for (uint32_t j = 0; j < 2 && pair[j]; j++) {
        kiln_dtype dtype = (kiln_dtype)kiln_kernel_at(k, pair[j])->dtype;
        uint32_t least = 16 / (uint32_t)kiln_dtype_bytes(dtype);
        if (dtype != KILN_bool && least <= lanes && least > n) n = least;
    }
    for (uint32_t i = 0; i < n; i++) {
        first[i] = i;
        second[i] = half + i % half;
    }
    for (uint32_t j = 0; j < 2; j++) {
        low[j] = pair[j] ? kiln_k_shuffle(k, pair[j], 0, n, first) : 0;
        high[j] = pair[j] ? kiln_k_shuffle(k, pair[j], 0, n, second) : 0;
    }
}

/* Integers in the order of the floats, the NaN of fast_end beyond all; its own inverse. */
static kiln_kv ordered_bits(kiln_lower *lower, const kiln_partials *p, kiln_kv bits)
{
    kiln_kernel *k = lower->kernel;
    uint32_t lanes = kiln_kernel_at(k, bits)->lanes;
    int64_t top = p->compute == KILN_f64 ? 63 : 31;
    kiln_kv sign =
        kiln_k_binary(k, KILN_K_shr, bits, kiln_k_const_int(k, bits_dtype(p), lanes, top));
    kiln_kv flip = kiln_k_const_int(k, bits_dtype(p), lanes, (int64_t)(((uint64_t)1 << top) - 1));
    return kiln_k_binary(k, KILN_K_xor, bits, kiln_k_binary(k, KILN_K_and, sign, flip));
}

/* The tree over one vector's lanes, one instruction a level: by integers where zeros and NaNs
 * count.
 */
static kiln_kv fast_tree(kiln_lower *lower, kiln_partials *p)
{
    kiln_kernel *k = lower->kernel;
    kiln_instr_op op = is_max(p) ? KILN_K_max : KILN_K_min;
    fast_end(lower, p);
    kiln_kv pair[2] = {p->value[0], 0};
    if (p->is_shift)
        op = KILN_K_max_fast;
    else
        pair[0] = ordered_bits(lower, p, kiln_k_bitcast(k, pair[0], bits_dtype(p)));
    for (uint32_t half = p->lanes / 2; half > 0; half /= 2) {
        kiln_kv low[2], high[2];
        split_halves(lower, pair, half, low, high);
        pair[0] = kiln_k_binary(k, op, low[0], high[0]);
    }
    p->value[0] = kiln_k_extract(k, pair[0], 0);
    if (!p->is_shift)
        p->value[0] = kiln_k_bitcast(k, ordered_bits(lower, p, p->value[0]), p->compute);
    return kiln_partials_result(lower, p, 0);
}

kiln_kv kiln_partials_tree(kiln_lower *lower, kiln_partials *p)
{
    uint32_t n = 1;
    if (p->is_fast) return fast_tree(lower, p);
    while (n < p->n) n *= 2;
    for (uint32_t half = n / 2; half > 0; half /= 2) {
        for (uint32_t i = 0; i < half && i + half < p->n; i++) {
            kiln_kv a[2] = {p->value[i], p->at[i]}, b[2] = {p->value[i + half], p->at[i + half]};
            combine(lower, p, a, b);
            p->value[i] = a[0];
            p->at[i] = a[1];
        }
        if (p->n > half) p->n = half;
    }
    kiln_kv pair[2] = {p->value[0], p->at[0]};
    for (uint32_t half = p->lanes / 2; half > 0; half /= 2) {
        kiln_kv low[2], high[2];
        split_halves(lower, pair, half, low, high);
        combine(lower, p, low, high);
        memcpy(pair, low, sizeof pair);
    }
    p->value[0] = kiln_k_extract(lower->kernel, pair[0], 0);
    p->at[0] = pair[1] ? kiln_k_extract(lower->kernel, pair[1], 0) : 0;
    return kiln_partials_result(lower, p, 0);
}

kiln_kv kiln_partials_result(kiln_lower *lower, const kiln_partials *p, uint32_t i)
{
    if (p->is_arg) return kiln_k_convert(lower->kernel, p->at[i], KILN_i64);
    return kiln_math_round_to(lower->kernel, p->value[i], p->dtype);
}
