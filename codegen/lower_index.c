/* Index arithmetic of the lowering: axes as scalar base + step per lane, as lanes, or as digits of
 * a merged index. Everything that can stay scalar does; a digit is divided out only when a use
 * needs it alone, and neighbouring digits whose strides follow from one another join again without
 * arithmetic. That is how a loop over merged axes reads a dense operand by its plain loop variable.
 */
#include "codegen/lower.h"

#include "base/checked.h"
#include "codegen/lower_spread.h"

kiln_kv kiln_lower_i64(kiln_lower *lower, int64_t value)
{
    return kiln_k_const_i64(lower->kernel, value);
}

kiln_kv kiln_lower_op(kiln_lower *lower, kiln_instr_op op, kiln_kv a, kiln_kv b)
{
    kiln_memo_key key = {(uint64_t)op, a, b};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    value = b ? kiln_k_binary(lower->kernel, op, a, b) : kiln_k_unary(lower->kernel, op, a);
    kiln_memo_add(lower->memo, key, value);
    return value;
}

/* Division and remainder are of numbers >= 0, so powers of two are shifts and masks. */
kiln_kv kiln_lower_op_imm(kiln_lower *lower, kiln_instr_op op, kiln_kv a, int64_t b)
{
    kiln_kernel *k = lower->kernel;
    kiln_memo_key key = {(uint64_t)op | 1u << 16, a, (uint64_t)b};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    if (op == KILN_K_div)
        value = kiln_k_div_imm(k, a, b);
    else if (op == KILN_K_rem)
        value = kiln_k_rem_imm(k, a, b);
    else
        value = kiln_k_binary(k, op, a, kiln_k_const_i64(k, b));
    kiln_memo_add(lower->memo, key, value);
    return value;
}

static kiln_kv memo_splat(kiln_lower *lower, kiln_kv a, uint32_t n)
{
    kiln_memo_key key = {(uint64_t)KILN_K_splat | 2u << 16, a, n};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    value = kiln_k_splat(lower->kernel, a, n);
    kiln_memo_add(lower->memo, key, value);
    return value;
}

static kiln_kv memo_convert(kiln_lower *lower, kiln_kv a, kiln_dtype dtype)
{
    kiln_memo_key key = {(uint64_t)KILN_K_convert | 3u << 16, a, dtype};
    kiln_kv value = kiln_memo_find(lower->memo, key);
    if (value) return value;
    value = kiln_k_convert(lower->kernel, a, dtype);
    kiln_memo_add(lower->memo, key, value);
    return value;
}

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}

static int64_t scaled(int64_t multiple, int64_t scale)
{
    int64_t product;
    if (__builtin_mul_overflow(multiple, scale < 0 ? -scale : scale, &product)) return 1;
    return product;
}

kiln_axis_index kiln_axis_zero(kiln_lower *lower)
{
    return (kiln_axis_index){.base = kiln_lower_i64(lower, 0), .extent = 1};
}

kiln_axis_index kiln_axis_scalar(kiln_kv base, int64_t multiple)
{
    return (kiln_axis_index){.base = base, .multiple = multiple};
}

kiln_axis_index kiln_axis_vector(kiln_kv base, int64_t multiple)
{
    return (kiln_axis_index){.base = base, .multiple = multiple, .step = 1};
}

static bool is_plain(const kiln_axis_index *axis)
{
    return axis->divide <= 1 && axis->modulo == 0;
}

kiln_kv kiln_axis_lanes(kiln_lower *lower, const kiln_axis_index *axis, uint32_t n)
{
    kiln_kernel *k = lower->kernel;
    kiln_axis_index plain = kiln_axis_plain(lower, axis);
    if (plain.lanes) return plain.lanes;
    if (n == 1) return plain.base;
    kiln_kv base = memo_splat(lower, plain.base, n);
    if (kiln_axis_is_uniform(&plain)) return base;
    if (plain.spread)
        return kiln_lower_op(lower, KILN_K_add, base, kiln_spread_lanes(lower, &plain, KILN_i64));
    kiln_kv steps = kiln_k_lanes(k, KILN_i64, n);
    kiln_kv step = kiln_k_const_int(k, KILN_i64, n, plain.step);
    steps = kiln_lower_op(lower, KILN_K_mul, steps, step);
    return kiln_lower_op(lower, KILN_K_add, base, steps);
}

/* Division of lanes: as u32 where the numbers allow it, since no machine divides or multiplies
 * 64-bit lanes well. */
static kiln_kv lanes_divide(kiln_lower *lower, kiln_instr_op op, const kiln_axis_index *a,
                            int64_t b)
{
    kiln_kernel *k = lower->kernel;
    kiln_kv lanes = kiln_axis_lanes(lower, a, lower->lanes);
    uint32_t n = kiln_kernel_at(k, lanes)->lanes;
    if (a->is_guarded)
        lanes = kiln_lower_op(lower, KILN_K_max, lanes, kiln_k_const_int(k, KILN_i64, n, 0));
    bool is_power = (b & (b - 1)) == 0;
    int64_t amount = op == KILN_K_div ? __builtin_ctzll((uint64_t)b) : b - 1;
    kiln_instr_op cheap = op == KILN_K_div ? KILN_K_shr : KILN_K_and;
    if (is_power)
        return kiln_lower_op(lower, cheap, lanes, kiln_k_const_int(k, KILN_i64, n, amount));
    bool is_small = a->extent > 0 && a->extent < INT32_MAX && b < INT32_MAX;
    if (!is_small) return kiln_lower_op(lower, op, lanes, kiln_k_const_int(k, KILN_i64, n, b));
    kiln_kv narrow = memo_convert(lower, lanes, KILN_u32);
    kiln_kv result = kiln_lower_op(lower, op, narrow, kiln_k_const_int(k, KILN_u32, n, b));
    return memo_convert(lower, result, KILN_i64);
}

/* All lanes lie between the same two multiples of b: base % b is a multiple of the gcd, and the
 * lanes span less than it. */
static bool lanes_stay_within(const kiln_lower *lower, const kiln_axis_index *a, int64_t b)
{
    if (kiln_axis_is_uniform(a)) return true;
    int64_t span = 0;
    for (uint32_t i = 0; a->spread && i < lower->lanes; i++)
        span = kiln_max_i64(span, a->spread[i]);
    if (a->spread) return span < gcd(a->multiple, b);
    if (a->step < 0 || __builtin_mul_overflow((int64_t)lower->lanes - 1, a->step, &span))
        return false;
    return span < gcd(a->multiple, b);
}

/* A guarded axis may be below 0 in base: only lanes, clamped, divide right. */
static bool must_divide_lanes(const kiln_axis_index *a)
{
    return a->lanes || (a->is_guarded && !kiln_axis_is_uniform(a));
}

static kiln_axis_index axis_divide(kiln_lower *lower, const kiln_axis_index *a, int64_t b)
{
    if (b <= 1) return *a;
    kiln_axis_index out = {.extent = a->extent ? kiln_ceil_div(a->extent, b) : 0};
    bool is_scalar = !must_divide_lanes(a), is_same = !a->spread && a->step % b == 0;
    if (is_scalar && (is_same || lanes_stay_within(lower, a, b))) {
        out.base = kiln_lower_op_imm(lower, KILN_K_div, a->base, b);
        out.step = is_same ? a->step / b : 0;
        out.multiple = a->multiple % b == 0 ? a->multiple / b : 1;
        return out;
    }
    if (is_scalar && kiln_spread_divide(lower, a, KILN_K_div, b, &out)) return out;
    out.lanes = lanes_divide(lower, KILN_K_div, a, b);
    return out;
}

static kiln_axis_index axis_modulo(kiln_lower *lower, const kiln_axis_index *a, int64_t b)
{
    kiln_axis_index out = {.extent = b};
    if (b == 0 || (a->extent > 0 && a->extent <= b)) return *a;
    if (b == 1) return kiln_axis_zero(lower);
    bool is_scalar = !must_divide_lanes(a);
    bool is_same = !a->spread && a->step % b == 0;
    if (is_scalar && (is_same || lanes_stay_within(lower, a, b))) {
        out.base = kiln_lower_op_imm(lower, KILN_K_rem, a->base, b);
        out.step = is_same ? 0 : a->step;
        out.spread = a->spread;
        out.multiple = a->multiple == 0 ? 0 : gcd(a->multiple, b);
        return out;
    }
    if (is_scalar && kiln_spread_divide(lower, a, KILN_K_rem, b, &out)) return out;
    out.lanes = lanes_divide(lower, KILN_K_rem, a, b);
    return out;
}

kiln_axis_index kiln_axis_plain(kiln_lower *lower, const kiln_axis_index *axis)
{
    if (is_plain(axis)) return *axis;
    kiln_axis_index number = *axis;
    number.divide = number.modulo = 0;
    number = axis_divide(lower, &number, axis->divide);
    return axis_modulo(lower, &number, axis->modulo);
}

static void spread_scaled(kiln_lower *lower, kiln_axis_index *axis, const int64_t *spread,
                          int64_t scale)
{
    int64_t values[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < lower->lanes; i++) values[i] = spread[i] * scale;
    kiln_spread_set(lower, axis, values);
}

static void spread_sum(kiln_lower *lower, kiln_axis_index *axis, const kiln_axis_index *a,
                       const kiln_axis_index *b)
{
    int64_t values[KILN_K_MAX_LANES], more[KILN_K_MAX_LANES];
    kiln_spread_of(lower, a, values);
    kiln_spread_of(lower, b, more);
    for (uint32_t i = 0; i < lower->lanes; i++) values[i] += more[i];
    axis->step = 0;
    kiln_spread_set(lower, axis, values);
}

kiln_axis_index kiln_axis_affine(kiln_lower *lower, const kiln_axis_index *axis, int64_t scale,
                                 int64_t offset)
{
    kiln_kernel *k = lower->kernel;
    if (scale == 1 && offset == 0) return *axis;
    kiln_axis_index a = kiln_axis_plain(lower, axis), out = {.is_guarded = a.is_guarded};
    if (a.lanes) {
        uint32_t n = kiln_kernel_at(k, a.lanes)->lanes;
        out.lanes =
            kiln_lower_op(lower, KILN_K_mul, a.lanes, kiln_k_const_int(k, KILN_i64, n, scale));
        out.lanes =
            kiln_lower_op(lower, KILN_K_add, out.lanes, kiln_k_const_int(k, KILN_i64, n, offset));
    } else {
        out.base = kiln_lower_op_imm(lower, KILN_K_mul, a.base, scale);
        out.base = kiln_lower_op_imm(lower, KILN_K_add, out.base, offset);
        out.step = a.step * scale;
        out.multiple = gcd(scaled(a.multiple, scale), offset);
        if (a.spread) spread_scaled(lower, &out, a.spread, scale);
    }
    if (a.extent > 0 && scale > 0 && offset >= 0) {
        int64_t last;
        bool is_known = !__builtin_mul_overflow(a.extent - 1, scale, &last) &&
                        !__builtin_add_overflow(last, offset + 1, &last);
        out.extent = is_known ? last : 0;
    }
    return out;
}

static bool is_const_zero(const kiln_axis_index *a)
{
    return !a->lanes && a->multiple == 0 && kiln_axis_is_uniform(a);
}

kiln_axis_index kiln_axis_add(kiln_lower *lower, const kiln_axis_index *a, const kiln_axis_index *b)
{
    kiln_axis_index left = kiln_axis_plain(lower, a), right = kiln_axis_plain(lower, b);
    if (is_const_zero(&left)) return right;
    if (is_const_zero(&right)) return left;
    kiln_axis_index out = {.is_guarded = left.is_guarded || right.is_guarded};
    int64_t extent;
    if (left.extent && right.extent && !__builtin_add_overflow(left.extent, right.extent, &extent))
        out.extent = extent - 1;
    if (left.lanes || right.lanes) {
        kiln_kv x = left.lanes ? left.lanes : right.lanes;
        uint32_t n = kiln_kernel_at(lower->kernel, x)->lanes;
        out.lanes = kiln_lower_op(lower, KILN_K_add, kiln_axis_lanes(lower, &left, n),
                                  kiln_axis_lanes(lower, &right, n));
        return out;
    }
    out.base = kiln_lower_op(lower, KILN_K_add, left.base, right.base);
    out.step = left.step + right.step;
    out.multiple = gcd(left.multiple, right.multiple);
    if (left.spread || right.spread) spread_sum(lower, &out, &left, &right);
    return out;
}

/* (number / d0 % m0) / d1 % m1 is (number / (d0 * d1)) % m1 when d1 * m1 divides m0. */
static kiln_axis_index axis_digit(kiln_lower *lower, const kiln_axis_index *linear, int64_t divide,
                                  int64_t modulo)
{
    kiln_axis_index a = *linear;
    int64_t before = a.divide > 1 ? a.divide : 1;
    bool is_composable = a.modulo == 0 || (modulo > 0 && a.modulo % (divide * modulo) == 0);
    if (!is_composable) {
        a = kiln_axis_plain(lower, &a);
        before = 1;
    }
    a.divide = before * divide;
    a.modulo = modulo;
    if (a.modulo > 0 && a.extent > 0 && kiln_ceil_div(a.extent, a.divide) <= a.modulo) a.modulo = 0;
    return a;
}

void kiln_lower_delinearize(kiln_lower *lower, kiln_axis_index linear, uint32_t rank,
                            const int64_t *dims, kiln_axis_index *out_axes)
{
    int64_t divide = 1;
    bool is_wrapped = linear.modulo != 0;
    uint32_t top = rank;
    for (uint32_t i = rank; i-- > 0;)
        if (dims[i] != 1) top = i;
    for (uint32_t i = rank; i-- > 0;) {
        if (dims[i] == 1) {
            out_axes[i] = kiln_axis_zero(lower);
            continue;
        }
        int64_t modulo = i == top && !is_wrapped ? 0 : dims[i];
        if (i == top && divide == 1)
            out_axes[i] = linear;
        else
            out_axes[i] = axis_digit(lower, &linear, divide, modulo);
        divide *= dims[i] > 0 ? dims[i] : 1;
    }
}

typedef struct sum_term {
    kiln_axis_index axis;
    int64_t dim, stride;
} sum_term;

static bool is_same_number(const kiln_axis_index *a, const kiln_axis_index *b)
{
    return a->base == b->base && a->step == b->step && a->lanes == b->lanes &&
           a->spread == b->spread && a->is_guarded == b->is_guarded;
}

/* Joins the digit `outer` to `inner`, the next lower one of the same number, when the strides say
 * that they walk memory as one. */
static bool join_digits(const sum_term *outer, sum_term *inner)
{
    int64_t stride, divide, low = inner->axis.divide > 1 ? inner->axis.divide : 1;
    if (!is_same_number(&outer->axis, &inner->axis) || inner->axis.modulo != inner->dim)
        return false;
    if (__builtin_mul_overflow(inner->stride, inner->dim, &stride) || stride != outer->stride)
        return false;
    if (__builtin_mul_overflow(low, inner->dim, &divide) || divide != outer->axis.divide)
        return false;
    inner->axis.modulo = outer->axis.modulo ? outer->axis.modulo * inner->dim : 0;
    inner->dim *= outer->dim;
    return true;
}

/* Takes a constant that was added to a number out of it and returns it. */
static int64_t take_constant(const kiln_lower *lower, kiln_axis_index *axis)
{
    const kiln_instr *base = kiln_kernel_at(lower->kernel, axis->base);
    int64_t value;
    if (axis->lanes || axis->divide > 1 || axis->modulo) return 0;
    if (kiln_axis_is_uniform(axis) && kiln_kernel_is_const(lower->kernel, axis->base, &value)) {
        *axis = kiln_axis_zero((kiln_lower *)lower);
        return value;
    }
    if (base->op != KILN_K_add) return 0;
    if (!kiln_kernel_is_const(lower->kernel, base->args[1], &value)) return 0;
    axis->base = base->args[0];
    axis->multiple = 1;
    axis->extent = 0;
    return value;
}

/* The same for all terms; their constants, each times its stride, are added to `origin`. */
static int64_t take_constants(const kiln_lower *lower, sum_term *terms, uint32_t n, int64_t origin)
{
    for (uint32_t i = 0; lower->is_short && i < n; i++) {
        kiln_axis_index axis = terms[i].axis;
        int64_t value = take_constant(lower, &axis), sum;
        if (__builtin_mul_overflow(value, terms[i].stride, &sum) ||
            __builtin_add_overflow(origin, sum, &sum))
            continue;
        terms[i].axis = axis;
        origin = sum;
    }
    return origin;
}

kiln_axis_index kiln_lower_sum(kiln_lower *lower, const kiln_axis_sum *sum)
{
    sum_term terms[KILN_MAX_RANK];
    uint32_t n = 0;
    for (uint32_t i = sum->rank; i-- > 0;) {
        sum_term term = {sum->axes[i], sum->dims[i], sum->strides[i]};
        if (term.dim == 1 || is_const_zero(&term.axis)) continue;
        if (n > 0 && join_digits(&term, &terms[n - 1])) continue;
        terms[n++] = term;
    }
    if (n == 1 && terms[0].stride == 1 && sum->origin == 0) return terms[0].axis;
    kiln_axis_index total = kiln_axis_zero(lower);
    int64_t origin = take_constants(lower, terms, n, sum->origin);
    for (uint32_t i = n; i-- > 0;) {
        if (terms[i].stride == 0) continue;
        kiln_axis_index part = kiln_axis_affine(lower, &terms[i].axis, terms[i].stride, 0);
        total = kiln_axis_add(lower, &total, &part);
    }
    return kiln_axis_affine(lower, &total, 1, origin);
}

kiln_axis_index kiln_lower_linearize(kiln_lower *lower, const kiln_index *index,
                                     const int64_t *dims)
{
    int64_t strides[KILN_MAX_RANK], stride = 1;
    for (uint32_t i = index->rank; i-- > 0;) {
        strides[i] = stride;
        stride *= dims[i];
    }
    return kiln_lower_sum(lower, &(kiln_axis_sum){index->rank, index->axis, dims, strides, 0});
}

kiln_axis_index kiln_lower_offset(kiln_lower *lower, const kiln_place *place,
                                  const kiln_index *index)
{
    const kiln_type *type = kiln_graph_type(lower->graph, place->operand.value);
    kiln_axis_sum sum = {type->rank, index->axis, type->dims, place->strides, place->origin};
    kiln_axis_index offset = kiln_lower_sum(lower, &sum);
    return kiln_axis_plain(lower, &offset);
}

kiln_axis_index kiln_lower_operand_offset(kiln_lower *lower, uint32_t position,
                                          const kiln_index *index)
{
    const kiln_place *place = lower->place_of[position];
    if (!lower->ring_of || !lower->ring_of[position].rows)
        return kiln_lower_offset(lower, place, index);
    kiln_index at = *index;
    kiln_axis_index *row = &at.axis[lower->ring_of[position].axis];
    *row = kiln_axis_plain(lower, row);
    if (!kiln_axis_is_uniform(row))
        kiln_fail(lower->scope, KILN_INTERNAL, "lower %s: rows of a ring are read across",
                  lower->group->label);
    int64_t rows = lower->ring_of[position].rows;
    *row = kiln_axis_scalar(kiln_lower_op_imm(lower, KILN_K_rem, row->base, rows), 1);
    return kiln_lower_offset(lower, place, &at);
}
