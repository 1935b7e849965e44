/* tanh and erf: 32 equal intervals over |x|, a polynomial each, its coefficients looked up by lane.
 * The interval is found by adding 2^mantissa: its number stands in the low bits. 32 intervals of
 * f32 are two registers and one instruction where vectors are 64 bytes wide, which beats a quotient
 * of polynomials, and 16 intervals by two terms. */
#include "codegen/math_build.h"
#include "codegen/math_tables.h"

#define N_INTERVALS 32

typedef struct table_function {
    kiln_dtype dtype;
    const void *rows;    /* n_rows tables of N_INTERVALS */
    uint32_t n_rows;
    double step, limit;  /* the value is the same (rounded) from limit on */
    bool is_slope_split; /* row 1 is less 1 */
} table_function;

/* From its limit on tanh is 1, which is within 1 ULP. */
static const table_function tanh_single = {KILN_f32, tanh_f32, 6, 141.0 / 512, 8.67, false};
static const table_function erf_single = {KILN_f32, erf_f32, 5, 0.125, 3.935, true};
static const table_function erf_double = {KILN_f64, erf_f64, 13, 0.1875, 5.9, true};

static kiln_kv coefficient(kiln_kernel *k, const table_function *f, uint32_t row, kiln_kv interval)
{
    const char *rows = f->rows;
    size_t bytes = N_INTERVALS * kiln_dtype_bytes(f->dtype);
    uint32_t table = kiln_kernel_add_table(k, f->dtype, N_INTERVALS, rows + row * bytes);
    return kiln_k_lookup(k, table, interval);
}

static kiln_kv table_value(kiln_kernel *k, const table_function *f, kiln_kv x)
{
    double magic = f->dtype == KILN_f64 ? 0x1p52 : 0x1p23;
    kiln_kv size = at_most(k, absolute(k, x), f->limit);
    kiln_kv sum = fma_scale(k, size, 1.0 / f->step, num(k, x, magic));
    kiln_kv u = fma_scale(k, add_num(k, sum, -magic), -f->step, size);
    kiln_kv interval = int_op(k, KILN_K_and, bits_of(k, sum), N_INTERVALS - 1);
    interval = kiln_k_convert(k, interval, KILN_i32);
    kiln_kv p = coefficient(k, f, f->n_rows - 1, interval);
    for (uint32_t row = f->n_rows - 2; row > 0; row--)
        p = kiln_k_fma(k, p, u, coefficient(k, f, row, interval));
    if (f->is_slope_split) p = add_num(k, p, 1.0);
    p = kiln_k_fma(k, p, u, coefficient(k, f, 0, interval));
    return copy_sign(k, p, x);
}

/* By m = e^(2|x|) - 1: m / (m + 2), or 1 - 2 / (m + 2) where that is beyond 1/3. */
static kiln_kv tanh_wide(kiln_kernel *k, kiln_kv x)
{
    kiln_kv m = kiln_math_expm1(k, mul_num(k, absolute(k, x), 2.0));
    kiln_kv is_large = compare_num(k, KILN_K_gt, m, 1.0);
    kiln_kv over = num_where(k, is_large, -2.0, m);
    kiln_kv value = quotient(k, over, add_num(k, m, 2.0));
    value = kiln_k_select(k, is_large, add_num(k, value, 1.0), value);
    return copy_sign(k, value, x);
}

kiln_kv kiln_math_tanh(kiln_kernel *k, kiln_kv x)
{
    return is_f64(k, x) ? tanh_wide(k, x) : table_value(k, &tanh_single, x);
}

kiln_kv kiln_math_erf(kiln_kernel *k, kiln_kv x)
{
    return table_value(k, is_f64(k, x) ? &erf_double : &erf_single, x);
}
