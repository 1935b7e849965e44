/* Cases of the elementwise ops. References: the long double functions of the C library for floats,
 * exact 128-bit arithmetic for integers. */
#include <math.h>

#include "ops/cases.h"

typedef long double float_ref(long double a, long double b);
typedef __int128 int_ref(__int128 a, __int128 b, int bits);

/* One argument where only one is used: the second is ignored. */
#define UNARY(name, expression)                                                                    \
    static long double name(long double a, long double b)                                          \
    {                                                                                              \
        return expression;                                                                         \
    }
UNARY(r_neg, -a)
UNARY(r_abs, fabsl(a))
UNARY(r_sign, isnan(a) || a == 0 ? a : copysignl(1, a))
UNARY(r_floor, floorl(a))
UNARY(r_ceil, ceill(a))
UNARY(r_trunc, truncl(a))
UNARY(r_round_even, rintl(a))
UNARY(r_exp, expl(a))
UNARY(r_expm1, expm1l(a))
UNARY(r_log, logl(a))
UNARY(r_log1p, log1pl(a))
UNARY(r_sqrt, sqrtl(a))
UNARY(r_rsqrt, 1 / sqrtl(a))
UNARY(r_sin, sinl(a))
UNARY(r_cos, cosl(a))
UNARY(r_tan, tanl(a))
UNARY(r_atan, atanl(a))
UNARY(r_tanh, tanhl(a))
UNARY(r_erf, erfl(a))
UNARY(r_logistic, 1 / (1 + expl(-a)))
UNARY(r_is_finite, a - a == 0)
UNARY(r_add, a + b)
UNARY(r_sub, a - b)
UNARY(r_mul, a *b)
UNARY(r_div, a / b)
UNARY(r_rem, fmodl(a, b))
UNARY(r_max, isnan(a) || isnan(b) ? NAN : a == 0 && b == 0 ? (signbit(a) ? b : a) : fmaxl(a, b))
UNARY(r_min, isnan(a) || isnan(b) ? NAN : a == 0 && b == 0 ? (signbit(a) ? a : b) : fminl(a, b))
UNARY(r_pow, powl(a, b))
UNARY(r_atan2, atan2l(a, b))
UNARY(r_eq, a == b)
UNARY(r_ne, !(a == b))
UNARY(r_lt, a < b)
UNARY(r_le, a <= b)
UNARY(r_gt, a > b)
UNARY(r_ge, a >= b)

static unsigned __int128 unsigned_of(__int128 a, int bits)
{
    return (unsigned __int128)a & (((unsigned __int128)1 << bits) - 1);
}

#define INTEGER(name, expression)                                                                  \
    static __int128 name(__int128 a, __int128 b, int bits)                                         \
    {                                                                                              \
        return expression;                                                                         \
    }
INTEGER(i_neg, -a)
INTEGER(i_abs, a < 0 ? -a : a)
INTEGER(i_sign, (a > 0) - (a < 0))
INTEGER(i_not, bits == 1 ? !a : -1 - a)
INTEGER(i_add, a + b)
INTEGER(i_sub, a - b)
INTEGER(i_mul, (__int128)((unsigned __int128)a *(unsigned __int128)b))
INTEGER(i_div, b == 0 ? -1 : a / b)
INTEGER(i_rem, b == 0 ? a : a % b)
INTEGER(i_max, a > b ? a : b)
INTEGER(i_min, a < b ? a : b)
INTEGER(i_and, a &b)
INTEGER(i_or, a | b)
INTEGER(i_xor, a ^ b)
INTEGER(i_eq, a == b)
INTEGER(i_ne, a != b)
INTEGER(i_lt, a < b)
INTEGER(i_le, a <= b)
INTEGER(i_gt, a > b)
INTEGER(i_ge, a >= b)
INTEGER(i_shl, b < 0 || b >= bits ? 0 : (__int128)(unsigned_of(a, bits) << b))
INTEGER(i_shr, b < 0 || b >= bits ? 0 : (__int128)(unsigned_of(a, bits) >> b))

/* Arithmetic shifts see the top bit of the dtype, also of an unsigned one. */
static __int128 i_sar(__int128 a, __int128 b, int bits)
{
    __int128 top = (__int128)1 << (bits - 1);
    __int128 value = (__int128)unsigned_of(a, bits);
    if (value & top) value -= top * 2;
    __int128 divisor = (__int128)1 << (b < 0 || b >= bits ? bits - 1 : b);
    return value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor);
}

static __int128 i_popcnt(__int128 a, __int128 b, int bits)
{
    int n = 0;
    for (unsigned __int128 left = unsigned_of(a, bits); left; left /= 2) n += (int)(left % 2);
    return n;
}

static __int128 i_clz(__int128 a, __int128 b, int bits)
{
    int n = bits;
    for (unsigned __int128 left = unsigned_of(a, bits); left; left /= 2) n--;
    return n;
}

static __int128 i_pow(__int128 a, __int128 b, int bits)
{
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
    unsigned __int128 result = 1, power = (unsigned __int128)a;
    for (; b; b /= 2, power *= power) {
        if (b % 2) result *= power;
    }
    return (__int128)result;
}

typedef struct elementwise_row {
    kiln_op op;
    double ulps; /* of the evaluator against the reference, beside its one rounding */
    float_ref *of_floats;
    int_ref *of_ints;
} elementwise_row;

/* The evaluator computes functions in double: its error shows in f64 only. */
#define FLOAT(name)                                                                                \
    {                                                                                              \
        KILN_OP_##name, 1.5, r_##name, NULL                                                        \
    }
#define EXACT(name)                                                                                \
    {                                                                                              \
        KILN_OP_##name, 0, r_##name, NULL                                                          \
    }
static const elementwise_row unary_rows[] = {
    {KILN_OP_neg, 0, r_neg, i_neg},
    {KILN_OP_abs, 0, r_abs, i_abs},
    {KILN_OP_sign, 0, r_sign, i_sign},
    EXACT(floor),
    EXACT(ceil),
    EXACT(trunc),
    EXACT(round_even),
    FLOAT(exp),
    FLOAT(expm1),
    FLOAT(log),
    FLOAT(log1p),
    EXACT(sqrt),
    FLOAT(rsqrt),
    FLOAT(sin),
    FLOAT(cos),
    FLOAT(tan),
    FLOAT(atan),
    FLOAT(tanh),
    FLOAT(erf),
    FLOAT(logistic),
    EXACT(is_finite),
    {KILN_OP_not, 0, NULL, i_not},
    {KILN_OP_popcnt, 0, NULL, i_popcnt},
    {KILN_OP_clz, 0, NULL, i_clz},
};
static const elementwise_row binary_rows[] = {
    {KILN_OP_add, 0, r_add, i_add},
    {KILN_OP_sub, 0, r_sub, i_sub},
    {KILN_OP_mul, 0, r_mul, i_mul},
    {KILN_OP_div, 0, r_div, i_div},
    {KILN_OP_rem, 0, r_rem, i_rem},
    {KILN_OP_max, 0, r_max, i_max},
    {KILN_OP_min, 0, r_min, i_min},
    {KILN_OP_pow, 1.5, r_pow, i_pow},
    FLOAT(atan2),
    {KILN_OP_and, 0, NULL, i_and},
    {KILN_OP_or, 0, NULL, i_or},
    {KILN_OP_xor, 0, NULL, i_xor},
    {KILN_OP_shift_left, 0, NULL, i_shl},
    {KILN_OP_shift_right_logical, 0, NULL, i_shr},
    {KILN_OP_shift_right_arithmetic, 0, NULL, i_sar},
    {KILN_OP_eq, 0, r_eq, i_eq},
    {KILN_OP_ne, 0, r_ne, i_ne},
    {KILN_OP_lt, 0, r_lt, i_lt},
    {KILN_OP_le, 0, r_le, i_le},
    {KILN_OP_gt, 0, r_gt, i_gt},
    {KILN_OP_ge, 0, r_ge, i_ge},
};

static bool is_float_dtype(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT;
}

/* An exact integer as an element of dtype: wrapped, then widened again. */
static long double wrapped(kiln_dtype dtype, __int128 value)
{
    if (dtype == KILN_bool) return value & 1;
    int bits = (int)kiln_dtype_bytes(dtype) * 8;
    unsigned __int128 low = unsigned_of(value, bits);
    bool is_signed = kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_INT;
    if (is_signed && low >> (bits - 1)) return -(long double)(((unsigned __int128)1 << bits) - low);
    return (long double)low;
}

static op_reference reference_of(op_batch *batch, const elementwise_row *row, kiln_value a,
                                 kiln_value b, kiln_dtype result)
{
    int64_t n = op_type(batch, a)->n_elements;
    kiln_dtype dtype = batch->dtype;
    op_reference reference =
        op_reference_new(batch, n, dtype == KILN_f64 ? row->ulps : row->ulps * 1e-3);
    for (int64_t i = 0; i < n; i++) {
        long double x = op_element(batch, a, i), y = op_element(batch, b, i);
        if (is_float_dtype(dtype)) {
            reference.expected[i] = row->of_floats(x, y);
        } else {
            int bits = dtype == KILN_bool ? 1 : (int)kiln_dtype_bytes(dtype) * 8;
            reference.expected[i] = wrapped(result, row->of_ints((__int128)x, (__int128)y, bits));
        }
    }
    return reference;
}

static const struct {
    uint32_t rank;
    int64_t dims[3];
} odd_shapes[] = {
    {1, {0}},  {1, {1}},    {1, {7}},       {1, {8}},      {1, {9}},       {1, {15}},
    {1, {16}}, {1, {17}},   {1, {31}},      {1, {33}},     {1, {63}},      {1, {65}},
    {0, {0}},  {2, {3, 5}}, {3, {2, 0, 3}}, {2, {17, 16}}, {3, {5, 1, 9}}, {2, {1, 1}},
};
#define N_ODD_SHAPES (sizeof odd_shapes / sizeof *odd_shapes)

/* Every op on all pairs of special values, and on one odd shape, another for each op and dtype. */
static void add_rows(op_batch *batch, const elementwise_row *rows, uint32_t n_rows,
                     uint32_t n_inputs)
{
    int64_t n = op_n_specials(batch->dtype);
    n = (n_inputs == 1 ? n : n * n) + 101;
    kiln_value pair[] = {
        op_input(batch, batch->dtype, 1, &n, n_inputs == 1 ? OP_VALUES_ANY : OP_VALUES_LEFT),
        op_input(batch, batch->dtype, 1, &n, OP_VALUES_RIGHT)};
    kiln_value odd[N_ODD_SHAPES][2] = {0};
    for (uint32_t i = 0; i < n_rows; i++) {
        const elementwise_row *row = &rows[i];
        if (!kiln_dtype_in(batch->dtype, kiln_op_rows[row->op].types)) continue;
        kiln_value y = op_node(batch, row->op, n_inputs, pair, NULL);
        op_reference reference =
            reference_of(batch, row, pair[0], pair[1], op_type(batch, y)->dtype);
        op_case(batch, y, "", &reference);
        uint32_t shape = (i * 5 + batch->dtype) % N_ODD_SHAPES;
        for (uint32_t j = 0; j < 2 && odd[shape][j].id == 0; j++) {
            odd[shape][j] = op_input(batch, batch->dtype, odd_shapes[shape].rank,
                                     odd_shapes[shape].dims, OP_VALUES_SMALL);
        }
        y = op_node(batch, row->op, n_inputs, odd[shape], NULL);
        reference =
            reference_of(batch, row, odd[shape][0], odd[shape][1], op_type(batch, y)->dtype);
        op_case(batch, y, "", &reference);
    }
}

void op_cases_unary(op_batch *batch)
{
    if (batch->dtype == KILN_bool) return; /* `not` of bool is among the binary cases' shapes */
    add_rows(batch, unary_rows, sizeof unary_rows / sizeof *unary_rows, 1);
}

static void add_clamp(op_batch *batch)
{
    int64_t n = op_n_specials(batch->dtype);
    n = n * n + 9;
    kiln_value in[3];
    for (int i = 0; i < 3; i++) {
        in[i] = op_input(batch, batch->dtype, 1, &n,
                         i == 0   ? OP_VALUES_LEFT
                         : i == 1 ? OP_VALUES_RIGHT
                                  : OP_VALUES_SMALL);
    }
    op_reference reference = op_reference_new(batch, n, 0);
    for (int64_t i = 0; i < n; i++) {
        long double low = r_max(op_element(batch, in[0], i), op_element(batch, in[1], i));
        reference.expected[i] = r_min(low, op_element(batch, in[2], i));
    }
    op_case(batch, op_node(batch, KILN_OP_clamp, 3, in, NULL), "", &reference);
}

static void add_select(op_batch *batch)
{
    int64_t n = 131;
    kiln_value in[] = {op_input(batch, KILN_bool, 1, &n, OP_VALUES_ANY),
                       op_input(batch, batch->dtype, 1, &n, OP_VALUES_ANY),
                       op_input(batch, batch->dtype, 1, &n, OP_VALUES_SMALL)};
    op_reference reference = op_reference_new(batch, n, 0);
    for (int64_t i = 0; i < n; i++) {
        reference.expected[i] = op_element(batch, in[op_element(batch, in[0], i) != 0 ? 1 : 2], i);
    }
    op_case(batch, op_node(batch, KILN_OP_select, 3, in, NULL), "", &reference);
}

/* Products and their neighbours by one of the factors: a quotient that is rounded, not cut, shows
 * just below a multiple. */
static void add_division(op_batch *batch)
{
    int64_t n = 4099;
    kiln_value in[3];
    for (int i = 0; i < 3; i++)
        in[i] = op_input(batch, batch->dtype, 1, &n, i < 2 ? OP_VALUES_WIDE : OP_VALUES_SMALL);
    kiln_value near[2] = {op_node(batch, KILN_OP_mul, 2, in, NULL), in[2]};
    kiln_value pair[2] = {op_node(batch, KILN_OP_sub, 2, near, NULL), in[1]};
    op_case(batch, op_node(batch, KILN_OP_div, 2, pair, NULL), "near multiples", NULL);
    op_case(batch, op_node(batch, KILN_OP_rem, 2, pair, NULL), "near multiples", NULL);
}

void op_cases_binary(op_batch *batch)
{
    bool is_int = !is_float_dtype(batch->dtype) && batch->dtype != KILN_bool;
    if (is_int) add_division(batch);
    add_rows(batch, binary_rows, sizeof binary_rows / sizeof *binary_rows, 2);
    add_select(batch);
    if (batch->dtype != KILN_bool) add_clamp(batch);
    if (batch->dtype == KILN_bool) {
        static const elementwise_row row = {KILN_OP_not, 0, NULL, i_not};
        add_rows(batch, &row, 1, 1);
    }
}

/* A number as the nearest element: what `convert` gives, worked out in long double. */
static long double converted(kiln_dtype to, long double x)
{
    if (is_float_dtype(to)) return x; /* rounded by the comparison */
    if (to == KILN_bool) return x != 0;
    if (isnan(x)) return 0;
    int bits = (int)kiln_dtype_bytes(to) * 8;
    bool is_signed = kiln_dtype_kind_of(to) == KILN_DTYPE_KIND_INT;
    long double top = ldexpl(1, bits - is_signed) - 1, least = is_signed ? -ldexpl(1, bits - 1) : 0;
    return x >= top ? top : x <= least ? least : truncl(x);
}

void op_cases_convert(op_batch *batch)
{
    int64_t n = op_n_specials(batch->dtype) + 77;
    kiln_value x = op_input(batch, batch->dtype, 1, &n, OP_VALUES_ANY);
    for (int to = KILN_bool; to <= KILN_f64; to++) {
        if (to == (int)batch->dtype) continue;
        const kiln_type *type = kiln_graph_tensor(batch->graph, (kiln_dtype)to, 1, &n);
        op_reference reference = op_reference_new(batch, n, 0);
        for (int64_t i = 0; i < n; i++) {
            long double value = op_element(batch, x, i);
            reference.expected[i] = is_float_dtype(batch->dtype) || is_float_dtype((kiln_dtype)to)
                                        ? converted((kiln_dtype)to, value)
                                    : to == KILN_bool ? value != 0
                                                      : wrapped((kiln_dtype)to, (__int128)value);
        }
        op_case(batch, op_node_given(batch, KILN_OP_convert, type, x, NULL),
                kiln_dtype_name((kiln_dtype)to), &reference);
        if (to == KILN_bool || batch->dtype == KILN_bool ||
            kiln_dtype_bytes((kiln_dtype)to) != kiln_dtype_bytes(batch->dtype)) {
            continue;
        }
        reference = op_reference_new(batch, n, 0);
        for (int64_t i = 0; i < n; i++) {
            const char *from =
                (const char *)op_data(batch, x) + (size_t)i * kiln_dtype_bytes(batch->dtype);
            if (is_float_dtype((kiln_dtype)to)) {
                reference.expected[i] = kiln_element_to_double((kiln_dtype)to, from);
            } else {
                uint64_t value;
                kiln_element_load_int((kiln_dtype)to, from, 0, 1, &value);
                reference.expected[i] = wrapped((kiln_dtype)to, (__int128)value);
            }
        }
        op_case(batch, op_node_given(batch, KILN_OP_bitcast, type, x, NULL),
                kiln_dtype_name((kiln_dtype)to), &reference);
    }
}
