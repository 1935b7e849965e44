/* The truth of f32 functions for many values at once, in double precision: four at a time where the
 * C library has vector functions (4 ULP of double, 1e-8 of f32), else one by one. All of it needs a
 * processor with AVX2. */
#ifndef KILN_TESTS_REFERENCE_H
#define KILN_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

/* truth[i] = f(x[i]) for n values, a multiple of 4; where f(x[i]) rounds to the same f32 for all
 * larger x, that of a smaller x. */
typedef void truth_fn(double *truth, const double *x, size_t n);

/* The function of that name, NULL where there is none. */
truth_fn *find_truth(const char *name);

/* The same of one value, beyond double precision. */
long double true_erf_inv(long double a);
long double true_digamma(long double a);

/* The largest distance of got[i] from truth[i] in f32 units in the last place. *out_is_odd: some
 * result differs in its kind (NaN, infinite, sign) and has to be looked at one by one. */
double farthest_from_truth(const float *got, const double *truth, size_t n, bool *out_is_odd);

/* out[i] = x[i] */
void widen(double *out, const float *x, size_t n);
#endif
