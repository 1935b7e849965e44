/* Complex values as two real ones: arithmetic and functions spelled in real operations, so that
 * each part is as fast as its formula. Formulas keep intermediates within range and avoid
 * cancellation where the result is near 0 by size (Kahan, "Branch cuts for complex elementary
 * functions"). */
#include <math.h>

#include "passes/legalize.h"

typedef kiln_parts unary_fn(kiln_graph *graph, kiln_parts a);
typedef kiln_parts binary_fn(kiln_graph *graph, kiln_parts a, kiln_parts b);

static kiln_value op1(kiln_graph *graph, kiln_op op, kiln_value a)
{
    return kiln_add_unary(graph, op, a);
}

static kiln_value op2(kiln_graph *graph, kiln_op op, kiln_value a, kiln_value b)
{
    return kiln_add_binary(graph, op, a, b);
}

/* a * b + c * d, a * b - c * d */
static kiln_value sum_of_products(kiln_graph *graph, kiln_op op, const kiln_value *factors)
{
    kiln_value first = op2(graph, KILN_OP_mul, factors[0], factors[1]);
    kiln_value second = op2(graph, KILN_OP_mul, factors[2], factors[3]);
    return op2(graph, op, first, second);
}

static kiln_value half_of(kiln_graph *graph, kiln_value a)
{
    return kiln_legal_with(graph, KILN_OP_mul, a, 0.5);
}

/* Larger and smaller of |re|, |im|. */
static kiln_parts sorted_sizes(kiln_graph *graph, kiln_parts a)
{
    kiln_value re = op1(graph, KILN_OP_abs, a.re), im = op1(graph, KILN_OP_abs, a.im);
    kiln_value large = op2(graph, KILN_OP_max, re, im);
    return (kiln_parts){large, op2(graph, KILN_OP_min, re, im)};
}

/* a / b, and 0 where a is 0. */
static kiln_value ratio(kiln_graph *graph, kiln_value a, kiln_value b)
{
    kiln_value is_zero = kiln_legal_with(graph, KILN_OP_eq, a, 0);
    return kiln_legal_select(graph, is_zero, a, op2(graph, KILN_OP_div, a, b));
}

/* |a| = large sqrt(1 + (small / large)^2) */
static kiln_value size_of(kiln_graph *graph, kiln_parts a)
{
    kiln_parts sizes = sorted_sizes(graph, a);
    kiln_value slope = ratio(graph, sizes.im, sizes.re);
    kiln_value square = op2(graph, KILN_OP_mul, slope, slope);
    kiln_value root = op1(graph, KILN_OP_sqrt, kiln_legal_with(graph, KILN_OP_add, square, 1));
    return op2(graph, KILN_OP_mul, sizes.re, root);
}

static kiln_parts part_wise(kiln_graph *graph, kiln_op op, kiln_parts a, kiln_parts b)
{
    kiln_value re = op2(graph, op, a.re, b.re);
    return (kiln_parts){re, op2(graph, op, a.im, b.im)};
}

static kiln_parts z_add(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return part_wise(graph, KILN_OP_add, a, b);
}

static kiln_parts z_sub(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return part_wise(graph, KILN_OP_sub, a, b);
}

static kiln_parts z_neg(kiln_graph *graph, kiln_parts a)
{
    kiln_value re = op1(graph, KILN_OP_neg, a.re);
    return (kiln_parts){re, op1(graph, KILN_OP_neg, a.im)};
}

static kiln_parts z_mul(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_value re[] = {a.re, b.re, a.im, b.im}, im[] = {a.re, b.im, a.im, b.re};
    kiln_value real = sum_of_products(graph, KILN_OP_sub, re);
    return (kiln_parts){real, sum_of_products(graph, KILN_OP_add, im)};
}

/* Smith's way: with the larger part of the divisor c and the smaller d, r = d / c, the quotient is
 * (x + y r) / (c + d r), parts of the dividend in the order of the divisor's. */
static kiln_parts z_div(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_parts sizes = {op1(graph, KILN_OP_abs, b.re), op1(graph, KILN_OP_abs, b.im)};
    kiln_value is_re = op2(graph, KILN_OP_ge, sizes.re, sizes.im);
    kiln_value c = kiln_legal_select(graph, is_re, b.re, b.im);
    kiln_value d = kiln_legal_select(graph, is_re, b.im, b.re);
    kiln_value x = kiln_legal_select(graph, is_re, a.re, a.im);
    kiln_value y = kiln_legal_select(graph, is_re, a.im, a.re);
    kiln_value r = ratio(graph, d, c);
    kiln_value below = op2(graph, KILN_OP_add, c, op2(graph, KILN_OP_mul, d, r));
    kiln_value re = op2(graph, KILN_OP_add, x, op2(graph, KILN_OP_mul, y, r));
    kiln_value im = op2(graph, KILN_OP_sub, y, op2(graph, KILN_OP_mul, x, r));
    im = kiln_legal_select(graph, is_re, im, op1(graph, KILN_OP_neg, im));
    re = op2(graph, KILN_OP_div, re, below);
    return (kiln_parts){re, op2(graph, KILN_OP_div, im, below)};
}

static kiln_parts real_parts(kiln_graph *graph, kiln_value re)
{
    return (kiln_parts){re, kiln_add_splat_like(graph, re, 0)};
}

static kiln_parts reciprocal_of(kiln_graph *graph, kiln_parts a)
{
    return z_div(graph, real_parts(graph, kiln_add_splat_like(graph, a.re, 1)), a);
}

static kiln_parts z_sign(kiln_graph *graph, kiln_parts a)
{
    kiln_value size = size_of(graph, a), re = ratio(graph, a.re, size);
    return (kiln_parts){re, ratio(graph, a.im, size)};
}

/* e^re (cos im, sin im); a real argument stays real where e^re overflows. */
static kiln_parts z_exp(kiln_graph *graph, kiln_parts a)
{
    kiln_value size = op1(graph, KILN_OP_exp, a.re);
    kiln_value re = op2(graph, KILN_OP_mul, size, op1(graph, KILN_OP_cos, a.im));
    kiln_value im = op2(graph, KILN_OP_mul, size, op1(graph, KILN_OP_sin, a.im));
    kiln_value is_real = kiln_legal_with(graph, KILN_OP_eq, a.im, 0);
    return (kiln_parts){re, kiln_legal_select(graph, is_real, a.im, im)};
}

/* re: expm1(x) cos y - 2 sin(y / 2)^2 */
static kiln_parts z_expm1(kiln_graph *graph, kiln_parts a)
{
    kiln_value half = op1(graph, KILN_OP_sin, half_of(graph, a.im));
    kiln_value size = op1(graph, KILN_OP_expm1, a.re);
    kiln_value re = op2(graph, KILN_OP_mul, size, op1(graph, KILN_OP_cos, a.im));
    kiln_value drop = kiln_legal_with(graph, KILN_OP_mul, op2(graph, KILN_OP_mul, half, half), 2);
    return (kiln_parts){op2(graph, KILN_OP_sub, re, drop), z_exp(graph, a).im};
}

/* log |a|: near 1 by log1p((m - 1)(m + 1) + n^2) / 2 of the larger m and the smaller n, elsewhere
 * log m + log1p((n / m)^2) / 2. */
static kiln_value log_size(kiln_graph *graph, kiln_parts a)
{
    kiln_parts sizes = sorted_sizes(graph, a);
    kiln_value m = sizes.re, n = sizes.im;
    kiln_value near[] = {kiln_legal_with(graph, KILN_OP_sub, m, 1),
                         kiln_legal_with(graph, KILN_OP_add, m, 1), n, n};
    kiln_value inner = op1(graph, KILN_OP_log1p, sum_of_products(graph, KILN_OP_add, near));
    kiln_value slope = ratio(graph, n, m);
    slope = op1(graph, KILN_OP_log1p, op2(graph, KILN_OP_mul, slope, slope));
    kiln_value outer = op1(graph, KILN_OP_log, m);
    outer = op2(graph, KILN_OP_add, outer, half_of(graph, slope));
    kiln_value is_near = kiln_legal_with(graph, KILN_OP_gt, m, 0.5);
    is_near = op2(graph, KILN_OP_and, is_near, kiln_legal_with(graph, KILN_OP_lt, m, 2));
    return kiln_legal_select(graph, is_near, half_of(graph, inner), outer);
}

static kiln_parts z_log(kiln_graph *graph, kiln_parts a)
{
    kiln_value size = log_size(graph, a);
    return (kiln_parts){size, op2(graph, KILN_OP_atan2, a.im, a.re)};
}

/* re: log1p(x (2 + x) + y^2) / 2 for small parts, else log |1 + a| */
static kiln_parts z_log1p(kiln_graph *graph, kiln_parts a)
{
    kiln_parts one_more = {kiln_legal_with(graph, KILN_OP_add, a.re, 1), a.im};
    kiln_value factors[] = {a.re, kiln_legal_with(graph, KILN_OP_add, a.re, 2), a.im, a.im};
    kiln_value small = sum_of_products(graph, KILN_OP_add, factors);
    small = half_of(graph, op1(graph, KILN_OP_log1p, small));
    kiln_value is_small = kiln_legal_with(graph, KILN_OP_lt, sorted_sizes(graph, a).re, 0.5);
    kiln_parts large = z_log(graph, one_more);
    return (kiln_parts){kiln_legal_select(graph, is_small, small, large.re), large.im};
}

/* -0 too, on which side of a branch cut it lies. */
static kiln_value has_sign(kiln_graph *graph, kiln_value a)
{
    bool is_wide = kiln_graph_type(graph, a)->dtype == KILN_f64;
    kiln_value pattern = kiln_legal_bitcast(graph, a, is_wide ? KILN_i64 : KILN_i32);
    return kiln_legal_with(graph, KILN_OP_lt, pattern, 0);
}

/* t = sqrt((|a| + |re|) / 2) is the larger part, |im| / (2 t) the smaller. */
static kiln_parts z_sqrt(kiln_graph *graph, kiln_parts a)
{
    kiln_value re = half_of(graph, op1(graph, KILN_OP_abs, a.re));
    kiln_value sum = op2(graph, KILN_OP_add, half_of(graph, size_of(graph, a)), re);
    kiln_value t = op1(graph, KILN_OP_sqrt, sum);
    kiln_value im = op1(graph, KILN_OP_abs, a.im);
    kiln_value other = half_of(graph, ratio(graph, im, t));
    kiln_value is_right = kiln_legal_with(graph, KILN_OP_ge, a.re, 0);
    kiln_value size = kiln_legal_select(graph, is_right, other, t);
    kiln_value is_below = has_sign(graph, a.im);
    kiln_value down = op1(graph, KILN_OP_neg, size);
    return (kiln_parts){kiln_legal_select(graph, is_right, t, other),
                        kiln_legal_select(graph, is_below, down, size)};
}

static kiln_parts z_rsqrt(kiln_graph *graph, kiln_parts a)
{
    return reciprocal_of(graph, z_sqrt(graph, a));
}

static kiln_parts z_logistic(kiln_graph *graph, kiln_parts a)
{
    kiln_parts power = z_exp(graph, z_neg(graph, a));
    power.re = kiln_legal_with(graph, KILN_OP_add, power.re, 1);
    return reciprocal_of(graph, power);
}

/* Hyperbolic cosine and sine. */
static kiln_parts hyperbolic(kiln_graph *graph, kiln_value a)
{
    kiln_value down = op1(graph, KILN_OP_neg, a);
    kiln_value sum =
        op2(graph, KILN_OP_add, op1(graph, KILN_OP_exp, a), op1(graph, KILN_OP_exp, down));
    kiln_value difference =
        op2(graph, KILN_OP_sub, op1(graph, KILN_OP_expm1, a), op1(graph, KILN_OP_expm1, down));
    return (kiln_parts){half_of(graph, sum), half_of(graph, difference)};
}

static kiln_parts z_sin(kiln_graph *graph, kiln_parts a)
{
    kiln_parts h = hyperbolic(graph, a.im);
    kiln_value re = op2(graph, KILN_OP_mul, op1(graph, KILN_OP_sin, a.re), h.re);
    return (kiln_parts){re, op2(graph, KILN_OP_mul, op1(graph, KILN_OP_cos, a.re), h.im)};
}

static kiln_parts z_cos(kiln_graph *graph, kiln_parts a)
{
    kiln_parts h = hyperbolic(graph, a.im);
    kiln_value re = op2(graph, KILN_OP_mul, op1(graph, KILN_OP_cos, a.re), h.re);
    kiln_value im = op2(graph, KILN_OP_mul, op1(graph, KILN_OP_sin, a.re), h.im);
    return (kiln_parts){re, op1(graph, KILN_OP_neg, im)};
}

/* tanh(x + y i) = (sinh x cosh x + sin y cos y i) / (sinh^2 x + cos^2 y); beyond |x| = 20 it is its
 * limit. */
static kiln_parts z_tanh(kiln_graph *graph, kiln_parts a)
{
    kiln_value x = kiln_legal_with(graph, KILN_OP_max, a.re, -20);
    kiln_parts h = hyperbolic(graph, kiln_legal_with(graph, KILN_OP_min, x, 20));
    kiln_value sine = op1(graph, KILN_OP_sin, a.im), cosine = op1(graph, KILN_OP_cos, a.im);
    kiln_value below[] = {h.im, h.im, cosine, cosine};
    kiln_value size = sum_of_products(graph, KILN_OP_add, below);
    kiln_value re = op2(graph, KILN_OP_div, op2(graph, KILN_OP_mul, h.im, h.re), size);
    return (kiln_parts){re, op2(graph, KILN_OP_div, op2(graph, KILN_OP_mul, sine, cosine), size)};
}

/* tan a = -i tanh(i a) */
static kiln_parts z_tan(kiln_graph *graph, kiln_parts a)
{
    kiln_parts turned = z_tanh(graph, (kiln_parts){op1(graph, KILN_OP_neg, a.im), a.re});
    return (kiln_parts){turned.im, op1(graph, KILN_OP_neg, turned.re)};
}

static kiln_value is_zero(kiln_graph *graph, kiln_parts a)
{
    kiln_value re = kiln_legal_with(graph, KILN_OP_eq, a.re, 0);
    return op2(graph, KILN_OP_and, re, kiln_legal_with(graph, KILN_OP_eq, a.im, 0));
}

/* e^(b log a); 0^b is 0, 0^0 is 1. */
static kiln_parts z_pow(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_parts power = z_exp(graph, z_mul(graph, b, z_log(graph, a)));
    kiln_value zero = kiln_add_splat_like(graph, a.re, 0);
    kiln_value edge = kiln_add_splat_like(graph, a.re, 1);
    edge = kiln_legal_select(graph, is_zero(graph, b), edge, zero);
    kiln_value is_edge = is_zero(graph, a);
    return (kiln_parts){kiln_legal_select(graph, is_edge, edge, power.re),
                        kiln_legal_select(graph, is_edge, zero, power.im)};
}

static kiln_parts z_eq(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_parts same = part_wise(graph, KILN_OP_eq, a, b);
    return (kiln_parts){.re = op2(graph, KILN_OP_and, same.re, same.im)};
}

static kiln_parts z_ne(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_parts other = part_wise(graph, KILN_OP_ne, a, b);
    return (kiln_parts){.re = op2(graph, KILN_OP_or, other.re, other.im)};
}

/* By the real part, then by the imaginary one. */
static kiln_value is_less(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_value im = op2(graph, KILN_OP_lt, a.im, b.im);
    im = op2(graph, KILN_OP_and, op2(graph, KILN_OP_eq, a.re, b.re), im);
    return op2(graph, KILN_OP_or, op2(graph, KILN_OP_lt, a.re, b.re), im);
}

static kiln_parts z_lt(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return (kiln_parts){.re = is_less(graph, a, b)};
}

static kiln_parts z_gt(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return z_lt(graph, b, a);
}

static kiln_parts z_le(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_value is_same = z_eq(graph, a, b).re;
    return (kiln_parts){.re = op2(graph, KILN_OP_or, is_less(graph, a, b), is_same)};
}

static kiln_parts z_ge(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return z_le(graph, b, a);
}

/* b where it is chosen or has a NaN, but a where that has one. */
static kiln_parts choose_parts(kiln_graph *graph, kiln_value is_b, kiln_parts a, kiln_parts b)
{
    is_b = op2(graph, KILN_OP_or, is_b, z_ne(graph, b, b).re);
    is_b = op2(graph, KILN_OP_and, is_b, z_eq(graph, a, a).re);
    kiln_value re = kiln_legal_select(graph, is_b, b.re, a.re);
    return (kiln_parts){re, kiln_legal_select(graph, is_b, b.im, a.im)};
}

static kiln_parts z_max(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return choose_parts(graph, is_less(graph, a, b), a, b);
}

static kiln_parts z_min(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return choose_parts(graph, is_less(graph, b, a), a, b);
}

/* A power of two that takes a size above 2^reach or below 2^-reach to where its square is a normal
 * number, else 1: products by it are exact. */
static kiln_value squarable(kiln_graph *graph, kiln_value size)
{
    bool is_double = kiln_graph_type(graph, size)->dtype == KILN_f64;
    double reach = is_double ? 400 : 40, step = is_double ? 800 : 100;
    kiln_value one = kiln_add_splat_like(graph, size, 1);
    kiln_value is_large = kiln_legal_with(graph, KILN_OP_gt, size, exp2(reach));
    kiln_value is_small = kiln_legal_with(graph, KILN_OP_lt, size, exp2(-reach));
    kiln_value up =
        kiln_legal_select(graph, is_small, kiln_add_splat_like(graph, size, exp2(step)), one);
    return kiln_legal_select(graph, is_large, kiln_add_splat_like(graph, size, exp2(-step)), up);
}

/* -i log((b + a i) / sqrt(a^2 + b^2)) */
static kiln_parts z_atan2(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    kiln_value size = op2(graph, KILN_OP_max, sorted_sizes(graph, a).re, sorted_sizes(graph, b).re);
    kiln_value scale = squarable(graph, size);
    a = part_wise(graph, KILN_OP_mul, a, (kiln_parts){scale, scale});
    b = part_wise(graph, KILN_OP_mul, b, (kiln_parts){scale, scale});
    kiln_value re = op2(graph, KILN_OP_sub, b.re, a.im);
    kiln_parts turned = {re, op2(graph, KILN_OP_add, b.im, a.re)};
    kiln_parts length = z_add(graph, z_mul(graph, a, a), z_mul(graph, b, b));
    kiln_parts log = z_log(graph, z_div(graph, turned, z_sqrt(graph, length)));
    return (kiln_parts){log.im, op1(graph, KILN_OP_neg, log.re)};
}

static kiln_parts z_finite(kiln_graph *graph, kiln_parts a)
{
    kiln_value re = op1(graph, KILN_OP_is_finite, a.re);
    return (kiln_parts){.re = op2(graph, KILN_OP_and, re, op1(graph, KILN_OP_is_finite, a.im))};
}

static kiln_parts z_abs(kiln_graph *graph, kiln_parts a)
{
    return (kiln_parts){.re = size_of(graph, a)};
}

static kiln_parts z_real(kiln_graph *graph, kiln_parts a)
{
    return (kiln_parts){.re = a.re};
}

static kiln_parts z_imag(kiln_graph *graph, kiln_parts a)
{
    return (kiln_parts){.re = a.im};
}

static kiln_parts z_join(kiln_graph *graph, kiln_parts a, kiln_parts b)
{
    return (kiln_parts){a.re, b.re};
}

const kiln_parts_row kiln_parts_rows[KILN_N_OPS] = {
    [KILN_OP_neg] = {.unary = z_neg},          [KILN_OP_abs] = {.unary = z_abs},
    [KILN_OP_sign] = {.unary = z_sign},        [KILN_OP_exp] = {.unary = z_exp},
    [KILN_OP_expm1] = {.unary = z_expm1},      [KILN_OP_log] = {.unary = z_log},
    [KILN_OP_log1p] = {.unary = z_log1p},      [KILN_OP_sqrt] = {.unary = z_sqrt},
    [KILN_OP_rsqrt] = {.unary = z_rsqrt},      [KILN_OP_sin] = {.unary = z_sin},
    [KILN_OP_cos] = {.unary = z_cos},          [KILN_OP_tan] = {.unary = z_tan},
    [KILN_OP_tanh] = {.unary = z_tanh},        [KILN_OP_logistic] = {.unary = z_logistic},
    [KILN_OP_real] = {.unary = z_real},        [KILN_OP_imag] = {.unary = z_imag},
    [KILN_OP_is_finite] = {.unary = z_finite}, [KILN_OP_complex] = {.binary = z_join},
    [KILN_OP_add] = {.binary = z_add},         [KILN_OP_sub] = {.binary = z_sub},
    [KILN_OP_mul] = {.binary = z_mul},         [KILN_OP_div] = {.binary = z_div},
    [KILN_OP_pow] = {.binary = z_pow},         [KILN_OP_eq] = {.binary = z_eq},
    [KILN_OP_ne] = {.binary = z_ne},           [KILN_OP_lt] = {.binary = z_lt},
    [KILN_OP_le] = {.binary = z_le},           [KILN_OP_gt] = {.binary = z_gt},
    [KILN_OP_ge] = {.binary = z_ge},           [KILN_OP_max] = {.binary = z_max},
    [KILN_OP_min] = {.binary = z_min},         [KILN_OP_atan2] = {.binary = z_atan2},
};
