/* Discrete Fourier transforms over pairs (real, imaginary) on the last axis. A transform of a small
 * or prime length is one product with a matrix of cosines and sines; a length n1 n2 is n2 of length
 * n1, a multiplication by twiddle factors, and n1 of length n2 (Cooley and Tukey 1965). Of a few
 * small n1 the first two are sums of n1 terms in place, tables hold their factors; all else is
 * matrix products of good size. */
#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

#define DENSE 32  /* lengths up to here are one product */
#define MOST 4096 /* the largest prime factor */
#define TERMS 4   /* the longest sums of terms: longer ones, and more in turn, move too much */
#define RUN 8     /* pairs that tables and terms are walked by, so that rows are whole vectors */

typedef struct fft_run {
    kiln_graph *g;
    kiln_dtype dtype;
    bool is_inverse;
} fft_run;

/* e^(-+2 pi i number / n) by the octant, so that symmetric entries are equal. */
static void turn(const fft_run *run, int64_t number, int64_t n, double *out_cos, double *out_sin)
{
    number %= n;
    double angle = 2 * M_PI * (double)number / (double)n;
    *out_cos = 4 * number == n || 4 * number == 3 * n ? 0 : cos(angle);
    *out_sin = 2 * number == n ? 0 : sin(angle);
    if (run->is_inverse) *out_sin = -*out_sin;
}

static kiln_value constant_of(const fft_run *run, uint32_t rank, const int64_t *dims,
                              const double *values)
{
    kiln_arena *arena = &run->g->scope->arena;
    const kiln_type *type = kiln_graph_tensor(run->g, run->dtype, rank, dims);
    if (run->dtype == KILN_f64) return kiln_add_constant(run->g, type, values);
    float *narrow = kiln_new_array(arena, float, type->n_elements);
    for (int64_t i = 0; i < type->n_elements; i++) narrow[i] = (float)values[i];
    return kiln_add_constant(run->g, type, narrow);
}

/* The last two axes [n, 2] times the matrix of the transform. */
static kiln_value transform_dense(const fft_run *run, kiln_value x, int64_t n)
{
    kiln_graph *g = run->g;
    const kiln_type *type = kiln_graph_type(g, x);
    int64_t size = 2 * n, flat[2] = {type->n_elements / size, size}, square[2] = {size, size};
    double *matrix = kiln_new_array(&g->scope->arena, double, size *size);
    for (int64_t k = 0; k < n; k++) {
        for (int64_t j = 0; j < n; j++) {
            double c, s, *at = matrix + 2 * k * size + 2 * j;
            turn(run, k * j, n, &c, &s);
            at[0] = at[size + 1] = c;
            at[1] = -s;
            at[size] = s;
        }
    }
    int64_t one = 1, zero = 0;
    kiln_attrs dot = {KILN_FAMILY_dot};
    dot.dot.lhs_contract = (kiln_ints){1, &one};
    dot.dot.rhs_contract = (kiln_ints){1, &zero};
    dot.dot.accumulate = run->dtype;
    kiln_value pair[] = {kiln_add_reshape(g, x, 2, flat), constant_of(run, 2, square, matrix)};
    kiln_value y = kiln_graph_add(
        g,
        &(kiln_node_spec){.op = KILN_OP_dot_general, .inputs = pair, .n_inputs = 2, .attrs = &dot});
    return kiln_add_reshape(g, y, type->rank, type->dims);
}

/* z, broadcast to dims [m, a, b, 2], times `direct`, and the same with the parts of pairs changed
 * times `crossed`; both [a, b, 2]. */
static kiln_value turned(const fft_run *run, kiln_value z, const int64_t *dims,
                         const double *direct, const double *crossed)
{
    kiln_graph *g = run->g;
    int64_t last = 3;
    kiln_attrs axes = {KILN_FAMILY_axes, .axes = {{1, &last}}};
    kiln_value swapped = kiln_graph_add(
        g, &(kiln_node_spec){.op = KILN_OP_reverse, .inputs = &z, .n_inputs = 1, .attrs = &axes});
    kiln_value a = kiln_add_broadcast_to(g, constant_of(run, 3, dims + 1, direct), 4, dims);
    kiln_value b = kiln_add_broadcast_to(g, constant_of(run, 3, dims + 1, crossed), 4, dims);
    z = kiln_add_broadcast_to(g, z, 4, dims);
    return sum(g, times(g, z, a), times(g, kiln_add_broadcast_to(g, swapped, 4, dims), b));
}

/* z [m, n2, n1, 2] times e^(-2 pi i k2 j1 / n) */
static kiln_value twiddle(const fft_run *run, kiln_value z, int64_t n2, int64_t n1)
{
    kiln_graph *g = run->g;
    double *direct = kiln_new_array(&g->scope->arena, double, 2 * n1 * n2);
    double *crossed = kiln_new_array(&g->scope->arena, double, 2 * n1 * n2);
    for (int64_t i = 0; i < n1 * n2; i++) {
        double c, s;
        turn(run, i / n1 * (i % n1), n1 * n2, &c, &s);
        direct[2 * i] = direct[2 * i + 1] = c;
        crossed[2 * i] = s;
        crossed[2 * i + 1] = -s;
    }
    return turned(run, z, kiln_graph_type(g, z)->dims, direct, crossed);
}

/* [m, 1, n2, 2] of z [m, n1, n2, 2] */
static kiln_value term_of(kiln_graph *g, kiln_value z, int64_t i1)
{
    const kiln_type *type = kiln_graph_type(g, z);
    int64_t starts[4] = {0, i1}, limits[4], ones[4] = {1, 1, 1, 1};
    for (int i = 0; i < 4; i++) limits[i] = type->dims[i];
    limits[1] = i1 + 1;
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{4, starts}, {4, limits}, {4, ones}}};
    return kiln_graph_add(
        g, &(kiln_node_spec){.op = KILN_OP_slice, .inputs = &z, .n_inputs = 1, .attrs = &attrs});
}

/* Each of the terms i1 < n1 of z [m, n1, n2, 2] times e^(-2 pi i j1 (i1 n2 + i2) / n), added up for
 * every j1. */
static kiln_value transform_terms(const fft_run *run, kiln_value z, int64_t n1, int64_t n2)
{
    kiln_graph *g = run->g;
    const kiln_type *type = kiln_graph_type(g, z);
    int64_t dims[4] = {type->dims[0], n1, n2, 2};
    double *direct = kiln_new_array(&g->scope->arena, double, 2 * n1 * n2);
    double *crossed = kiln_new_array(&g->scope->arena, double, 2 * n1 * n2);
    kiln_value y = {0};
    for (int64_t i1 = 0; i1 < n1; i1++) {
        for (int64_t at = 0; at < n1 * n2; at++) {
            double c, s;
            turn(run, at / n2 * (i1 * n2 + at % n2), n1 * n2, &c, &s);
            direct[2 * at] = direct[2 * at + 1] = c;
            crossed[2 * at] = s;
            crossed[2 * at + 1] = -s;
        }
        kiln_value part = turned(run, term_of(g, z, i1), dims, direct, crossed);
        y = i1 == 0 ? part : sum(g, y, part);
    }
    return y;
}

/* The largest factor up to DENSE, or the smallest prime factor. */
static int64_t first_factor(int64_t n)
{
    if (n <= DENSE) return n;
    for (int64_t factor = DENSE; factor > 1; factor--) {
        if (n % factor == 0) return factor;
    }
    for (int64_t factor = DENSE + 1; factor * factor <= n; factor++) {
        if (n % factor == 0) return factor;
    }
    return n;
}

/* The factor up to TERMS that leaves one product, the largest; 1 where there is none. */
static int64_t terms_of(int64_t n)
{
    if (n <= DENSE) return 1;
    for (int64_t terms = 2; terms <= TERMS; terms++)
        if (n % (terms * RUN) == 0 && n / terms <= DENSE) return terms;
    return 1;
}

/* Factors are split off one by one; each step adds its digit of the result before what is left. */
static kiln_value transform_last(const fft_run *run, kiln_value x, int64_t n)
{
    kiln_graph *g = run->g;
    const kiln_type *type = kiln_graph_type(g, x);
    int64_t swap[4] = {0, 2, 1, 3}, factors[64], left = n;
    uint32_t n_factors = 0;
    for (; left > 1; left /= factors[n_factors++]) {
        factors[n_factors] = left == n ? terms_of(n) : 1;
        if (factors[n_factors] == 1) factors[n_factors] = first_factor(left);
    }
    left = n;
    for (uint32_t i = 0; i < n_factors; i++) {
        int64_t n1 = factors[i], n2 = left / n1;
        if (n1 > MOST)
            kiln_fail(g->scope, KILN_UNSUPPORTED,
                      "fft: length %lld has the prime factor %lld; expected at most %d",
                      (long long)n, (long long)n1, MOST);
        int64_t split[4] = {type->n_elements / (2 * left), n1, n2, 2};
        kiln_value z = kiln_add_reshape(g, x, 4, split);
        bool is_sum = i == 0 && n1 == terms_of(n);
        left = n2;
        if (is_sum) {
            x = transform_terms(run, z, n1, n2);
            continue;
        }
        z = kiln_add_transpose(g, z, swap);
        z = transform_dense(run, z, n1);
        if (n2 > 1) z = twiddle(run, z, n2, n1);
        x = kiln_add_transpose(g, z, swap); /* [m, n1, n2, 2] */
    }
    /* digits j1, j2, … stand with the first one slowest: turn them round */
    if (n_factors > 1) {
        int64_t dims[KILN_MAX_RANK], order[KILN_MAX_RANK];
        dims[0] = type->n_elements / (2 * n);
        order[0] = 0;
        for (uint32_t i = 0; i < n_factors; i++) {
            dims[i + 1] = factors[i];
            order[i + 1] = n_factors - i;
        }
        dims[n_factors + 1] = 2;
        order[n_factors + 1] = n_factors + 1;
        x = kiln_add_transpose(g, kiln_add_reshape(g, x, n_factors + 2, dims), order);
    }
    x = kiln_add_reshape(g, x, type->rank, type->dims);
    return run->is_inverse && n > 1 ? times_n(g, x, 1 / (double)n) : x;
}

/* Along `axis` of pairs on the last axis. */
static kiln_value transform_axis(const fft_run *run, kiln_value x, int64_t axis)
{
    const kiln_type *type = kiln_graph_type(run->g, x);
    int64_t order[KILN_MAX_RANK], n = type->dims[axis];
    for (uint32_t i = 0; i < type->rank; i++) order[i] = i;
    order[axis] = type->rank - 2;
    order[type->rank - 2] = axis;
    if (type->n_elements == 0) return x;
    if (axis + 2 == (int64_t)type->rank) return transform_last(run, x, n);
    x = kiln_add_transpose(run->g, x, order);
    return kiln_add_transpose(run->g, transform_last(run, x, n), order);
}

RULE(fft)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]);
    kiln_ints axes = attrs->fft.axes;
    bool fits = type->rank >= 1 && type->dims[type->rank - 1] == 2;
    for (uint32_t i = 0; i < axes.n; i++)
        fits = fits && axes.at[i] >= 0 && axes.at[i] + 1 < (int64_t)type->rank;
    if (!fits) {
        kiln_fail(g->scope, KILN_INVALID,
                  "fft: operand %s; expected pairs on the last axis and axes before it",
                  kiln_rule_type(g, inputs[0]));
    }
    kiln_value x = kiln_rule_widen(g, inputs[0]);
    fft_run run = {g, kiln_graph_type(g, x)->dtype, attrs->fft.inverse};
    for (uint32_t i = axes.n; i-- > 0;) x = transform_axis(&run, x, axes.at[i]);
    return narrow_like(g, x, inputs[0]);
}
