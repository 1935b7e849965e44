/* Checked int64 arithmetic: the only place where sizes from input are multiplied or added.
 * Each returns false on overflow and leaves *out unspecified. */
#ifndef KILN_BASE_CHECKED_H
#define KILN_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool kiln_checked_mul(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool kiln_checked_add(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool kiln_checked_sub(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_sub_overflow(a, b, out);
}

/* Rounds a >= 0 up to a multiple of `unit` > 0. */
static inline bool kiln_checked_align(int64_t a, int64_t unit, int64_t *out)
{
    int64_t sum;
    if (!kiln_checked_add(a, unit - 1, &sum)) return false;
    *out = sum - sum % unit;
    return true;
}

/* Product of n dims >= 0. A zero dim does not hide an overflow of the others. */
static inline bool kiln_checked_product(const int64_t *dims, uint32_t n, int64_t *out)
{
    int64_t product = 1;
    bool has_zero = false;
    for (uint32_t i = 0; i < n; i++) {
        if (dims[i] == 0) {
            has_zero = true;
        } else if (!kiln_checked_mul(product, dims[i], &product)) {
            return false;
        }
    }
    *out = has_zero ? 0 : product;
    return true;
}

/* Bytes of n >= 0 elements of `bits` bits, packed where bits < 8. */
static inline bool kiln_checked_bytes(int64_t n, size_t bits, int64_t *out)
{
    if (bits < 8) {
        int64_t a_byte = 8 / (int64_t)(bits ? bits : 8);
        *out = n / a_byte + (n % a_byte != 0);
        return true;
    }
    return kiln_checked_mul(n, (int64_t)bits / 8, out);
}

static inline int64_t kiln_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t kiln_round_up(int64_t a, int64_t unit)
{
    return kiln_ceil_div(a, unit) * unit;
}

static inline int64_t kiln_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t kiln_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
#endif
