/* Whether elements are within their bounds of what is expected. */
#include <math.h>
#include <string.h>

#include "graph/element.h"
#include "ops/bound.h"

const double *bound_scaled(kiln_arena *arena, const double *errors, int64_t n, double slack)
{
    if (!errors) return NULL;
    double *copy = kiln_new_array(arena, double, n + 1);
    for (int64_t i = 0; i < n; i++) copy[i] = errors[i] * slack;
    return copy;
}

static bool is_within(kiln_dtype dtype, double found, double expected, double bound)
{
    if (isnan(expected) || isnan(found)) return isinf(bound) || (isnan(expected) && isnan(found));
    if (found == expected) return bound > 0 || signbit(found) == signbit(expected);
    if (isinf(bound)) return true;
    double beyond = 2 * ldexp(1, ilogb(bound_largest(dtype)));
    if (isinf(found)) found = copysign(beyond, found);
    if (isinf(expected)) expected = copysign(beyond, expected);
    return fabs(found - expected) <= bound;
}

bound_miss bound_compare(const kiln_type *type, const void *found, const void *expected,
                         const double *errors)
{
    bound_miss miss = {.index = -1};
    bool is_inexact = kiln_eval_is_float(type);
    size_t element = kiln_dtype_bytes(type->dtype);
    for (int64_t i = 0; i < type->n_elements; i++) {
        double bound = errors ? errors[i] : 0, x, y;
        kiln_element_load_double(type->dtype, found, i, 1, &x);
        kiln_element_load_double(type->dtype, expected, i, 1, &y);
        size_t at = (size_t)i * element;
        bool is_good = is_inexact ? is_within(type->dtype, x, y, bound)
                                  : bound > 0 || !memcmp((const char *)found + at,
                                                         (const char *)expected + at, element);
        if (is_good) continue;
        if (miss.n_missed++ == 0) {
            miss =
                (bound_miss){.index = i, .found = x, .expected = y, .bound = bound, .n_missed = 1};
        }
    }
    return miss;
}
