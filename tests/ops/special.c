/* Cases of special functions, of random numbers and of Fourier transforms. References are those of
 * the C library in long double, or sums over their definitions. */
#include <math.h>

#include "ops/cases.h"

static bool is_float_batch(const op_batch *batch)
{
    return kiln_dtype_kind_of(batch->dtype) == KILN_DTYPE_KIND_FLOAT;
}

static op_reference reference_open(op_batch *batch, int64_t n)
{
    op_reference reference = op_reference_new(batch, n, 0);
    reference.tolerance = kiln_new_array(&batch->scope->arena, double, n + 1);
    return reference;
}

typedef long double unary_fn(long double a);

/* Where the series for large numbers is exact enough, and back by the recurrence. */
static long double r_digamma(long double a)
{
    long double steps = 0, r;
    if (a <= 0 && a == floorl(a)) return NAN;
    if (a < 0) return r_digamma(1 - a) - M_PI / tanl(acosl(-1) * a);
    for (; a < 40; a++) steps += 1 / a;
    r = 1 / (a * a);
    return logl(a) - 0.5L / a - r * (1 / 12.0L - r * (1 / 120.0L - r / 252.0L)) - steps;
}

static long double r_erf_inv(long double a)
{
    long double low = -8, high = 8;
    if (!(a > -1 && a < 1)) return fabsl(a) == 1 ? copysignl(INFINITY, a) : NAN;
    for (int i = 0; i < 100; i++) {
        long double middle = (low + high) / 2;
        if (erfl(middle) < a)
            low = middle;
        else
            high = middle;
    }
    return a == 0 ? a : low;
}

/* Tolerances in units of 2^-53: of the result and of 1. Beside the rounding, results of f32 and
 * fewer bits may be off by `single` 2^-24 of the result: their polynomials are shorter. */
static const struct {
    kiln_op op;
    unary_fn *reference;
    double relative, absolute, single;
} functions[] = {
    {KILN_OP_cbrt, cbrtl, 8, 0},
    {KILN_OP_asin, asinl, 8, 0},
    {KILN_OP_acos, acosl, 8, 0},
    {KILN_OP_sinh, sinhl, 16, 0},
    {KILN_OP_cosh, coshl, 16, 0},
    {KILN_OP_asinh, asinhl, 16, 0},
    {KILN_OP_acosh, acoshl, 16, 0},
    {KILN_OP_atanh, atanhl, 16, 0},
    {KILN_OP_erfc, erfcl, 32, 0, 0.05},
    {KILN_OP_erf_inv, r_erf_inv, 32, 0, 0.2},
    {KILN_OP_lgamma, lgammal, 32, 128},
    {KILN_OP_digamma, r_digamma, 512, 512},
    {KILN_OP_round_half_away, roundl, 0, 0},
};

static void add_functions(op_batch *batch)
{
    int64_t n = 203;
    kiln_value x = op_input(batch, batch->dtype, 1, &n, OP_VALUES_SMALL);
    kiln_value any = op_input(batch, batch->dtype, OP_DIMS(3, 37), OP_VALUES_ANY);
    for (uint32_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        op_reference reference = reference_open(batch, n);
        for (int64_t at = 0; at < n; at++) {
            long double y = functions[i].reference(op_element(batch, x, at));
            reference.expected[at] = y;
            double single = batch->dtype == KILN_f64 ? 0 : functions[i].single * 0x1p29;
            reference.tolerance[at] = 0x1p-53 * ((functions[i].relative + single) *
                                                 (double)fabsl(y) + functions[i].absolute);
        }
        op_case(batch, op_node(batch, functions[i].op, 1, &x, NULL), "", &reference);
        op_case(batch, op_node(batch, functions[i].op, 1, &any, NULL), "anywhere", NULL);
    }
}

static void add_bits(op_batch *batch)
{
    int64_t n = 37 * 37;
    kiln_value a = op_input(batch, batch->dtype, 1, &n, OP_VALUES_LEFT);
    kiln_value b = op_input(batch, batch->dtype, 1, &n, OP_VALUES_RIGHT);
    op_reference infinite = op_reference_new(batch, n, 0), nan = op_reference_new(batch, n, 0);
    for (int64_t i = 0; i < n; i++) {
        infinite.expected[i] = isinf(op_element(batch, a, i)) != 0;
        nan.expected[i] = isnan(op_element(batch, a, i)) != 0;
    }
    op_case(batch, op_node(batch, KILN_OP_is_inf, 1, &a, NULL), "", &infinite);
    op_case(batch, op_node(batch, KILN_OP_is_nan, 1, &a, NULL), "", &nan);
    op_reference next = op_reference_new(batch, n, 0);
    for (int64_t i = 0; i < n; i++) {
        double x = (double)op_element(batch, a, i), y = (double)op_element(batch, b, i);
        next.expected[i] =
            batch->dtype == KILN_f64 ? nextafter(x, y) : (double)nextafterf((float)x, (float)y);
    }
    bool has_reference = batch->dtype == KILN_f32 || batch->dtype == KILN_f64;
    kiln_value pair[] = {a, b};
    op_case(batch, op_node(batch, KILN_OP_next_after, 2, pair, NULL), "",
            has_reference ? &next : NULL);
    kiln_attrs whole = {KILN_FAMILY_reduce_precision, .reduce_precision = {11, 52}};
    kiln_attrs few = {KILN_FAMILY_reduce_precision, .reduce_precision = {4, 3}};
    op_case(batch, op_node(batch, KILN_OP_reduce_precision, 1, &a, &whole), "whole", NULL);
    op_case(batch, op_node(batch, KILN_OP_reduce_precision, 1, &a, &few), "few", NULL);
}

typedef struct fft_case {
    kiln_ints dims; /* without the pair */
    kiln_ints axes;
    bool is_inverse;
} fft_case;

/* The sum over the definition along one axis, in place. */
static void transform(long double *x, const fft_case *c, int64_t axis)
{
    int64_t n = c->dims.at[axis], inner = 1, outer = 1;
    long double y[128][2];
    for (uint32_t i = 0; i < c->dims.n; i++) {
        if (i < axis) outer *= c->dims.at[i];
        if (i > axis) inner *= c->dims.at[i];
    }
    for (int64_t row = 0; row < outer * inner; row++) {
        long double *at = x + 2 * (row / inner * n * inner + row % inner);
        for (int64_t j = 0; j < n; j++) {
            y[j][0] = y[j][1] = 0;
            for (int64_t k = 0; k < n; k++) {
                long double angle = 2 * acosl(-1) * (long double)(j * k % n) / (long double)n;
                long double s = c->is_inverse ? sinl(angle) : -sinl(angle), cosine = cosl(angle);
                const long double *z = at + 2 * k * inner;
                y[j][0] += z[0] * cosine - z[1] * s;
                y[j][1] += z[0] * s + z[1] * cosine;
            }
        }
        for (int64_t j = 0; j < n; j++) {
            at[2 * j * inner] = y[j][0] / (c->is_inverse ? (long double)n : 1);
            at[2 * j * inner + 1] = y[j][1] / (c->is_inverse ? (long double)n : 1);
        }
    }
}

static void add_fft(op_batch *batch, const fft_case *c)
{
    int64_t dims[KILN_MAX_RANK], n = 2, length = 1;
    for (uint32_t i = 0; i < c->dims.n; i++) n *= dims[i] = c->dims.at[i];
    dims[c->dims.n] = 2;
    kiln_value x = op_input(batch, batch->dtype, c->dims.n + 1, dims, OP_VALUES_SMALL);
    op_reference reference = reference_open(batch, n);
    for (int64_t i = 0; i < n; i++) reference.expected[i] = op_element(batch, x, i);
    for (uint32_t i = 0; i < c->axes.n; i++) {
        transform(reference.expected, c, c->axes.at[i]);
        length *= c->dims.at[c->axes.at[i]];
    }
    double roundoff = batch->dtype == KILN_f64 ? 0x1p-53 : 0x1p-24;
    for (int64_t i = 0; i < n; i++)
        reference.tolerance[i] = 16 * roundoff * (c->is_inverse ? 1 : sqrt((double)length) * 2);
    kiln_attrs attrs = {KILN_FAMILY_fft, .fft = {c->axes, c->is_inverse}};
    op_case(batch, op_node(batch, KILN_OP_fft, 1, &x, &attrs), c->is_inverse ? "inverse" : "",
            &reference);
}

static void add_training(op_batch *batch)
{
    kiln_value a = op_input(batch, batch->dtype, OP_DIMS(3, 2, 5), OP_VALUES_SMALL);
    kiln_value g = op_input(batch, batch->dtype, OP_DIMS(3, 2, 5), OP_VALUES_SMALL);
    kiln_value c = op_input(batch, batch->dtype, OP_DIMS(2), OP_VALUES_UNIT);
    kiln_attrs norm = {KILN_FAMILY_batch_norm, .batch_norm = {1, 0.5}};
    op_case(batch, op_node(batch, KILN_OP_batch_norm_training, 3, (kiln_value[]){a, c, c}, &norm),
            "", NULL);
    kiln_value all[] = {a, c, c, c, g};
    op_case(batch, op_node(batch, KILN_OP_batch_norm_grad, 5, all, &norm), "", NULL);
    op_case(batch, op_node(batch, KILN_OP_batch_norm_grad_scale, 5, all, &norm), "", NULL);
}

void op_cases_special(op_batch *batch)
{
    const fft_case transforms[] = {
        {OP_INTS(3, 12), OP_INTS(1), false}, {OP_INTS(3, 100), OP_INTS(1), true},
        {OP_INTS(2, 37), OP_INTS(1), false}, {OP_INTS(4, 6, 5), OP_INTS(0, 1), false},
        {OP_INTS(128), OP_INTS(0), false},   {OP_INTS(5, 1), OP_INTS(1), true},
        {OP_INTS(0, 4), OP_INTS(1), false},  {OP_INTS(2, 3, 4), OP_INTS(0, 1, 2), true},
    };
    if (!is_float_batch(batch)) return;
    add_functions(batch);
    add_bits(batch);
    add_training(batch);
    for (size_t i = 0; i < sizeof transforms / sizeof *transforms; i++)
        add_fft(batch, &transforms[i]);
}

/* Each source number goes to the first largest element of its window. */
void op_cases_select(op_batch *batch)
{
    if (batch->dtype == KILN_bool) return;
    kiln_value a = op_input(batch, batch->dtype, OP_DIMS(2, 7, 9), OP_VALUES_SMALL);
    kiln_value source = op_input(batch, batch->dtype, OP_DIMS(2, 4, 4), OP_VALUES_SMALL);
    kiln_attrs window = {KILN_FAMILY_window,
                         .window = {OP_INTS(1, 3, 2), OP_INTS(1, 2, 2), OP_INTS(0, 1, 0),
                                    OP_INTS(0, 1, 0), OP_INTS(1, 1, 2)}};
    kiln_value pair[] = {a, source};
    op_case(batch, op_node(batch, KILN_OP_window_max_grad, 2, pair, &window), "", NULL);
    kiln_value none = op_input(batch, batch->dtype, OP_DIMS(0, 4), OP_VALUES_SMALL);
    kiln_attrs plain = {KILN_FAMILY_window, .window = {OP_INTS(1, 4), OP_INTS(1, 1), OP_INTS(0, 0),
                                                       OP_INTS(0, 0), OP_INTS(1, 1)}};
    kiln_value empty[] = {none, op_input(batch, batch->dtype, OP_DIMS(0, 1), OP_VALUES_SMALL)};
    op_case(batch, op_node(batch, KILN_OP_window_max_grad, 2, empty, &plain), "empty", NULL);
}

void op_cases_random(op_batch *batch)
{
    kiln_dtype dtype = batch->dtype;
    kiln_value key = op_input(batch, KILN_u32, OP_DIMS(2), OP_VALUES_ANY);
    if (dtype == KILN_u32) {
        kiln_attrs sizes = {KILN_FAMILY_sizes, .sizes = {OP_INTS(3, 7)}};
        kiln_attrs none = {KILN_FAMILY_sizes, .sizes = {OP_INTS(0, 7)}};
        kiln_attrs count = {KILN_FAMILY_count, .count = {5}};
        kiln_value two = op_input(batch, dtype, OP_DIMS(2, 33), OP_VALUES_ANY);
        kiln_value four = op_input(batch, dtype, OP_DIMS(4, 3, 5), OP_VALUES_ANY);
        op_case(batch, op_node(batch, KILN_OP_random_bits, 1, &key, &sizes), "", NULL);
        op_case(batch, op_node(batch, KILN_OP_random_bits, 1, &key, &none), "none", NULL);
        op_case(batch, op_node(batch, KILN_OP_random_split, 1, &key, &count), "", NULL);
        op_case(batch, op_node(batch, KILN_OP_threefry2x32, 2, (kiln_value[]){key, two}, NULL), "",
                NULL);
        op_case(batch, op_node(batch, KILN_OP_philox4x32, 2, (kiln_value[]){key, four}, NULL), "",
                NULL);
    }
    if (!is_float_batch(batch)) return;
    kiln_attrs random = {KILN_FAMILY_random, .random = {dtype, OP_INTS(3, 7), -1, 2}};
    kiln_attrs rate = {KILN_FAMILY_rate, .rate = {0.25}};
    kiln_value a = op_input(batch, dtype, OP_DIMS(5, 9), OP_VALUES_SMALL);
    op_case(batch, op_node(batch, KILN_OP_random_uniform, 1, &key, &random), "", NULL);
    op_case(batch, op_node(batch, KILN_OP_random_normal, 1, &key, &random), "", NULL);
    op_case(batch, op_node(batch, KILN_OP_dropout, 2, (kiln_value[]){a, key}, &rate), "", NULL);
}
