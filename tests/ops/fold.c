/* Cases of reductions and windows. References walk the operand by index arithmetic, result element
 * by result element, in long double. */
#include <math.h>
#include <string.h>

#include "ops/cases.h"

static bool is_float_case(const op_batch *batch)
{
    return kiln_dtype_kind_of(batch->dtype) == KILN_DTYPE_KIND_FLOAT;
}

typedef enum fold_op { FOLD_SUM, FOLD_PROD, FOLD_MAX, FOLD_MIN, FOLD_ANY, FOLD_ALL } fold_op;

/* Integers are folded modulo 2^64 and wrapped once. */
typedef struct fold_state {
    fold_op op;
    long double value;
    double size; /* of the terms, for the rounding allowed in f64 */
    uint64_t bits;
} fold_state;

static fold_state fold_start(fold_op op, kiln_dtype dtype)
{
    bool is_float = kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT;
    bool is_signed = kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
    int bits = dtype == KILN_bool ? 1 : (int)kiln_dtype_bytes(dtype) * 8;
    long double top = is_float ? INFINITY : ldexpl(1, bits - is_signed) - 1;
    long double least = is_float ? -INFINITY : is_signed ? -ldexpl(1, bits - 1) : 0;
    fold_state state = {.op = op, .bits = op == FOLD_PROD};
    state.value = op == FOLD_PROD || op == FOLD_ALL ? 1
                  : op == FOLD_MAX                  ? least
                  : op == FOLD_MIN                  ? top
                                                    : 0;
    return state;
}

static void fold_step(fold_state *state, long double x)
{
    uint64_t bits = x < 0 ? 0 - (uint64_t)-x : isfinite(x) && x < 0x1p64L ? (uint64_t)x : 0;
    bool is_nan = isnan(x) || isnan(state->value);
    state->size += isfinite(x) ? (double)fabsl(x) : 0;
    switch (state->op) {
    case FOLD_SUM:
        state->value += x;
        state->bits += bits;
        return;
    case FOLD_PROD:
        state->value *= x;
        state->bits *= bits;
        return;
    case FOLD_MAX:
        state->value = is_nan ? NAN : fmaxl(state->value, x);
        return;
    case FOLD_MIN:
        state->value = is_nan ? NAN : fminl(state->value, x);
        return;
    case FOLD_ANY:
        state->value = state->value != 0 || x != 0;
        return;
    case FOLD_ALL:
        state->value = state->value != 0 && x != 0;
        return;
    }
}

static long double fold_end(const op_batch *batch, const fold_state *state)
{
    if (is_float_case(batch) || state->op > FOLD_PROD) return state->value;
    double unused;
    uint64_t element = 0, wide = 0;
    kiln_element_store_int(batch->dtype, &element, 0, 1, &state->bits, false);
    kiln_element_load_int(batch->dtype, &element, 0, 1, &wide);
    (void)unused;
    return kiln_dtype_kind_of(batch->dtype) == KILN_DTYPE_KIND_INT ? (long double)(int64_t)wide
                                                                   : (long double)wide;
}

/* Splits a row-major linear index. */
static void unravel(uint32_t rank, const int64_t *dims, int64_t linear, int64_t *out)
{
    for (uint32_t i = rank; i-- > 0;) {
        out[i] = linear % dims[i];
        linear /= dims[i];
    }
}

static bool has_axis(kiln_ints axes, int64_t axis)
{
    for (uint32_t i = 0; i < axes.n; i++) {
        if (axes.at[i] == axis) return true;
    }
    return false;
}

/* The result element that operand element `linear` belongs to. */
static int64_t reduced_index(const kiln_type *type, kiln_ints axes, int64_t linear)
{
    int64_t at[KILN_MAX_RANK], result = 0;
    unravel(type->rank, type->dims, linear, at);
    for (uint32_t i = 0; i < type->rank; i++) {
        if (!has_axis(axes, i)) result = result * type->dims[i] + at[i];
    }
    return result;
}

static void finish_fold(op_batch *batch, op_reference *reference, const fold_state *states,
                        int64_t n)
{
    reference->tolerance = kiln_new_array(&batch->scope->arena, double, n + 1);
    for (int64_t i = 0; i < n; i++) {
        reference->expected[i] = fold_end(batch, &states[i]);
        double size = states[i].op == FOLD_PROD ? fabs((double)states[i].value) : states[i].size;
        if (batch->dtype == KILN_f64 && states[i].op <= FOLD_PROD) {
            reference->tolerance[i] = 2e4 * 0x1p-53 * size; /* fewer than 20,000 terms */
        }
    }
}

static const struct {
    kiln_op reduce, window;
    fold_op fold;
    op_values values;
} folds[] = {
    {KILN_OP_reduce_sum, KILN_OP_window_sum, FOLD_SUM, OP_VALUES_SMALL},
    {KILN_OP_reduce_prod, KILN_OP_window_prod, FOLD_PROD, OP_VALUES_UNIT},
    {KILN_OP_reduce_max, KILN_OP_window_max, FOLD_MAX, OP_VALUES_ANY},
    {KILN_OP_reduce_min, KILN_OP_window_min, FOLD_MIN, OP_VALUES_ANY},
    {KILN_OP_reduce_any, 0, FOLD_ANY, OP_VALUES_ANY},
    {KILN_OP_reduce_all, 0, FOLD_ALL, OP_VALUES_ANY},
};
#define N_FOLDS (sizeof folds / sizeof *folds)

static void add_reduce(op_batch *batch, uint32_t fold, kiln_value x, kiln_ints axes)
{
    if (!kiln_dtype_in(batch->dtype, kiln_op_rows[folds[fold].reduce].types)) return;
    const kiln_type *type = op_type(batch, x);
    kiln_value y = kiln_add_reduce(batch->graph, folds[fold].reduce, x, axes.n, axes.at);
    int64_t n = op_type(batch, y)->n_elements;
    fold_state *states = kiln_new_array(&batch->scope->arena, fold_state, n + 1);
    for (int64_t i = 0; i < n; i++) states[i] = fold_start(folds[fold].fold, batch->dtype);
    for (int64_t i = 0; i < type->n_elements; i++) {
        fold_step(&states[reduced_index(type, axes, i)], op_element(batch, x, i));
    }
    op_reference reference = op_reference_new(batch, n, 0);
    finish_fold(batch, &reference, states, n);
    op_case(batch, y, "", &reference);
}

static void add_arg(op_batch *batch, kiln_value x, int64_t axis, bool is_max, bool last)
{
    const kiln_type *type = op_type(batch, x);
    kiln_attrs attrs = {KILN_FAMILY_arg, .arg = {axis, last}};
    kiln_value y = op_node(batch, is_max ? KILN_OP_argmax : KILN_OP_argmin, 1, &x, &attrs);
    int64_t n = op_type(batch, y)->n_elements;
    op_reference reference = op_reference_new(batch, n, 0);
    long double *best = kiln_arena_array(&batch->scope->arena, (size_t)n + 1, sizeof *best);
    bool *is_started = kiln_new_array(&batch->scope->arena, bool, n + 1);
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t at[KILN_MAX_RANK], to = reduced_index(type, (kiln_ints){1, &axis}, i);
        unravel(type->rank, type->dims, i, at);
        long double value = op_element(batch, x, i), old = best[to];
        bool wins = is_max ? value > old : value < old;
        if (isnan(value))
            wins = !isnan(old) || last;
        else if (isnan(old))
            wins = false;
        else if (value == old)
            wins = last;
        if (is_started[to] && !wins) continue;
        is_started[to] = true;
        best[to] = value;
        reference.expected[to] = at[axis];
    }
    op_case(batch, y, last ? "last" : "first", &reference);
}

void op_cases_reduce(op_batch *batch)
{
    static const struct {
        uint32_t rank;
        int64_t dims[3];
        uint32_t n_axes;
        int64_t axes[3];
    } shapes[] = {
        {1, {1}, 1, {0}},
        {1, {17}, 1, {0}},
        {1, {129}, 1, {0}},
        {2, {5, 31}, 1, {1}},
        {2, {33, 9}, 1, {0}},
        {2, {3, 200}, 1, {1}},
        {3, {4, 5, 7}, 2, {0, 2}},
        {3, {4, 5, 7}, 1, {1}},
        {3, {2, 3, 65}, 2, {1, 2}},
        {2, {0, 3}, 1, {0}},
        {2, {3, 0}, 1, {0}},
        {2, {3, 5}, 0, {0}},
        /* Beyond one chunk, and rows and columns beyond a tile. */
        {1, {10007}, 1, {0}},
        {2, {3, 4097}, 1, {1}},
        {2, {4097, 3}, 1, {0}},
        {2, {70, 130}, 1, {0}},
    };
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        kiln_ints axes = {shapes[s].n_axes, shapes[s].axes};
        kiln_value any =
            op_input(batch, batch->dtype, shapes[s].rank, shapes[s].dims, OP_VALUES_ANY);
        for (uint32_t f = 0; f < N_FOLDS; f++) {
            kiln_value x = folds[f].values == OP_VALUES_ANY
                               ? any
                               : op_input(batch, batch->dtype, shapes[s].rank, shapes[s].dims,
                                          folds[f].values);
            add_reduce(batch, f, x, axes);
        }
        bool is_empty = op_type(batch, any)->n_elements == 0;
        if (axes.n == 1 && !is_empty && batch->dtype != KILN_bool) {
            add_arg(batch, any, axes.at[0], s % 2 == 0, s % 3 == 0);
            add_arg(batch, any, axes.at[0], s % 2 != 0, s % 3 != 0);
        }
    }
}

static void add_window(op_batch *batch, uint32_t fold, kiln_value x, const kiln_attrs *attrs)
{
    const kiln_type *type = op_type(batch, x);
    kiln_value y = op_node(batch, folds[fold].window, 1, &x, attrs);
    const kiln_type *result = op_type(batch, y);
    int64_t n_window = 1;
    for (uint32_t i = 0; i < type->rank; i++) n_window *= attrs->window.sizes.at[i];
    op_reference reference = op_reference_new(batch, result->n_elements, 0);
    fold_state *states = kiln_new_array(&batch->scope->arena, fold_state, result->n_elements + 1);
    for (int64_t i = 0; i < result->n_elements; i++) {
        int64_t out[KILN_MAX_RANK], offset[KILN_MAX_RANK];
        states[i] = fold_start(folds[fold].fold, batch->dtype);
        unravel(type->rank, result->dims, i, out);
        for (int64_t w = 0; w < n_window; w++) {
            int64_t linear = 0;
            bool is_inside = true;
            unravel(type->rank, attrs->window.sizes.at, w, offset);
            for (uint32_t axis = 0; axis < type->rank; axis++) {
                int64_t at = out[axis] * attrs->window.strides.at[axis] -
                             attrs->window.low.at[axis] +
                             offset[axis] * attrs->window.dilations.at[axis];
                is_inside &= at >= 0 && at < type->dims[axis];
                linear = linear * type->dims[axis] + at;
            }
            if (is_inside) fold_step(&states[i], op_element(batch, x, linear));
        }
    }
    finish_fold(batch, &reference, states, result->n_elements);
    op_case(batch, y, "", &reference);
}

void op_cases_window(op_batch *batch)
{
    if (batch->dtype == KILN_bool) return;
    const struct {
        uint32_t rank;
        int64_t dims[4];
        kiln_attrs attrs;
    } shapes[] = {
        {1,
         {19},
         {KILN_FAMILY_window,
          .window = {OP_INTS(3), OP_INTS(2), OP_INTS(1), OP_INTS(1), OP_INTS(1)}}},
        {2,
         {9, 33},
         {KILN_FAMILY_window,
          .window = {OP_INTS(1, 5), OP_INTS(1, 1), OP_INTS(0, 4), OP_INTS(0, 0), OP_INTS(1, 1)}}},
        {4,
         {1, 7, 9, 5},
         {KILN_FAMILY_window,
          .window = {OP_INTS(1, 3, 3, 1), OP_INTS(1, 2, 2, 1), OP_INTS(0, 1, 1, 0),
                     OP_INTS(0, 1, 1, 0), OP_INTS(1, 1, 1, 1)}}},
        {4,
         {2, 3, 8, 8},
         {KILN_FAMILY_window,
          .window = {OP_INTS(1, 1, 2, 2), OP_INTS(1, 1, 2, 2), OP_INTS(0, 0, 0, 0),
                     OP_INTS(0, 0, 0, 0), OP_INTS(1, 1, 1, 1)}}},
        {2,
         {11, 10},
         {KILN_FAMILY_window,
          .window = {OP_INTS(2, 3), OP_INTS(1, 2), OP_INTS(-1, 2), OP_INTS(3, -2), OP_INTS(3, 2)}}},
    };
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (uint32_t f = 0; f <= FOLD_MIN; f++) {
            kiln_value x =
                op_input(batch, batch->dtype, shapes[s].rank, shapes[s].dims, folds[f].values);
            add_window(batch, f, x, &shapes[s].attrs);
        }
    }
}
