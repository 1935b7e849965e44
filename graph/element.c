/* Elements as doubles and integers: conversions between storage and the two working forms. 16-bit
 * floats go through integer code that rounds a double to a format given by its fraction bits. */
#include "graph/element.h"

#include <math.h>
#include <string.h>

kiln_dtype_kind kiln_dtype_kind_of(kiln_dtype dtype)
{
    static const kiln_dtype_kind kinds[] = {
#define KILN_DTYPE(name, number, bytes, kind) [number] = KILN_DTYPE_KIND_##kind,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    };
    return (unsigned)dtype < sizeof kinds / sizeof *kinds ? kinds[dtype] : KILN_DTYPE_KIND_NONE;
}

bool kiln_dtype_in(kiln_dtype dtype, kiln_dtype_set set)
{
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    bool is_integer = kind == KILN_DTYPE_KIND_INT || kind == KILN_DTYPE_KIND_UINT;
    switch (set) {
    case KILN_TYPES_FLOAT:
        return kind == KILN_DTYPE_KIND_FLOAT;
    case KILN_TYPES_INTEGER:
        return is_integer;
    case KILN_TYPES_NUMBER:
        return is_integer || kind == KILN_DTYPE_KIND_FLOAT;
    case KILN_TYPES_BITS:
        return is_integer || kind == KILN_DTYPE_KIND_BOOL;
    case KILN_TYPES_BOOL:
        return kind == KILN_DTYPE_KIND_BOOL;
    case KILN_TYPES_ANY:
        return kind != KILN_DTYPE_KIND_NONE;
    }
    return false;
}

kiln_dtype kiln_dtype_accumulator(kiln_dtype dtype)
{
    if (kiln_dtype_bytes(dtype) >= 4) return dtype;
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    if (kind == KILN_DTYPE_KIND_FLOAT) return KILN_f32;
    return kind == KILN_DTYPE_KIND_UINT ? KILN_u32 : KILN_i32;
}

/* A 16-bit float with so many fraction bits as a double; exact. */
static double small_widen(uint16_t bits, int fraction)
{
    int exponent_bits = 15 - fraction, bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = bits >> fraction & ((1 << exponent_bits) - 1);
    int mantissa = bits & ((1 << fraction) - 1);
    double size;
    if (exponent == (1 << exponent_bits) - 1) {
        size = mantissa ? NAN : INFINITY;
    } else if (exponent == 0) {
        size = ldexp(mantissa, 1 - bias - fraction);
    } else {
        size = ldexp(mantissa | 1 << fraction, exponent - bias - fraction);
    }
    return bits >> 15 ? -size : size;
}

/* The nearest such float, ties to even. A carry out of the fraction moves to the next exponent by
 * itself, up to infinity. */
static uint16_t small_narrow(double value, int fraction)
{
    int exponent_bits = 15 - fraction, bias = (1 << (exponent_bits - 1)) - 1;
    unsigned infinity = ((1u << exponent_bits) - 1) << fraction;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    unsigned sign = (unsigned)(bits >> 48) & 0x8000;
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = bits & 0xfffffffffffff;
    if (exponent == 1024)
        return (uint16_t)(sign | infinity | (mantissa ? 1u << (fraction - 1) : 0));
    if (exponent > bias) return (uint16_t)(sign | infinity);
    if (exponent == -1023) return (uint16_t)sign; /* a denormal double is far below any half */

    int least = 1 - bias;
    int shift = 52 - fraction + (exponent < least ? least - exponent : 0);
    if (shift > 54) return (uint16_t)sign;
    mantissa |= (uint64_t)1 << 52;
    uint64_t kept = mantissa >> shift, rest = mantissa & (((uint64_t)1 << shift) - 1);
    uint64_t half = (uint64_t)1 << (shift - 1);
    if (rest > half || (rest == half && kept & 1)) kept++;
    if (exponent >= least) kept += (uint64_t)(exponent - least) << fraction;
    return (uint16_t)(sign | (kept > infinity ? infinity : kept));
}

/* A double that rounds to any narrower float as the integer does: bits below the 53 kept are folded
 * into the last one (rounding to odd), so that the later rounding is the only one. */
static double int_to_odd_double(uint64_t value, bool is_signed)
{
    bool is_negative = is_signed && (int64_t)value < 0;
    uint64_t size = is_negative ? 0 - value : value;
    int shift = size >> 53 ? 11 - __builtin_clzll(size) : 0;
    uint64_t kept = size >> shift;
    if (kept << shift != size) kept |= 1;
    double result = ldexp((double)kept, shift);
    return is_negative ? -result : result;
}

static uint64_t double_to_int(double value, double least, double beyond, uint64_t top)
{
    if (isnan(value)) return 0;
    if (value >= beyond) return top;
    if (value <= least) return least < 0 ? (uint64_t)(int64_t)least : 0;
    return value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
}

/* The range of each integer dtype: least, one beyond the largest, the largest. */
typedef struct int_range {
    double least, beyond;
    uint64_t top;
} int_range;

static int_range range_of(kiln_dtype dtype)
{
    int bits = (int)kiln_dtype_bytes(dtype) * 8;
    if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_UINT) {
        return (int_range){0, ldexp(1, bits), UINT64_MAX >> (64 - bits)};
    }
    return (int_range){-ldexp(1, bits - 1), ldexp(1, bits - 1), UINT64_MAX >> (65 - bits)};
}

#define EACH(type, expression)                                                                     \
    do {                                                                                           \
        const type *at = (const type *)data + first;                                               \
        for (int64_t i = 0; i < n; i++) out[i] = (expression);                                     \
    } while (0)

void kiln_element_load_double(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                              double *out)
{
    switch (dtype) {
    case KILN_NO_DTYPE:
        break;
    case KILN_bool:
        EACH(uint8_t, at[i] != 0);
        break;
    case KILN_i8:
        EACH(int8_t, at[i]);
        break;
    case KILN_u8:
        EACH(uint8_t, at[i]);
        break;
    case KILN_i16:
        EACH(int16_t, at[i]);
        break;
    case KILN_u16:
        EACH(uint16_t, at[i]);
        break;
    case KILN_i32:
        EACH(int32_t, at[i]);
        break;
    case KILN_u32:
        EACH(uint32_t, at[i]);
        break;
    case KILN_i64:
        EACH(int64_t, (double)at[i]);
        break;
    case KILN_u64:
        EACH(uint64_t, (double)at[i]);
        break;
    case KILN_bf16:
        EACH(uint16_t, small_widen(at[i], 7));
        break;
    case KILN_f16:
        EACH(uint16_t, small_widen(at[i], 10));
        break;
    case KILN_f32:
        EACH(float, (double)at[i]);
        break;
    case KILN_f64:
        EACH(double, at[i]);
        break;
    }
}

static uint64_t saturate(double value)
{
    return double_to_int(value, -0x1p63, 0x1p63, INT64_MAX);
}

void kiln_element_load_int(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                           uint64_t *out)
{
    switch (dtype) {
    case KILN_NO_DTYPE:
        break;
    case KILN_bool:
        EACH(uint8_t, at[i] != 0);
        break;
    case KILN_i8:
        EACH(int8_t, (uint64_t)at[i]);
        break;
    case KILN_u8:
        EACH(uint8_t, at[i]);
        break;
    case KILN_i16:
        EACH(int16_t, (uint64_t)at[i]);
        break;
    case KILN_u16:
        EACH(uint16_t, at[i]);
        break;
    case KILN_i32:
        EACH(int32_t, (uint64_t)at[i]);
        break;
    case KILN_u32:
        EACH(uint32_t, at[i]);
        break;
    case KILN_i64:
        EACH(int64_t, (uint64_t)at[i]);
        break;
    case KILN_u64:
        EACH(uint64_t, at[i]);
        break;
    case KILN_bf16:
        EACH(uint16_t, saturate(small_widen(at[i], 7)));
        break;
    case KILN_f16:
        EACH(uint16_t, saturate(small_widen(at[i], 10)));
        break;
    case KILN_f32:
        EACH(float, saturate((double)at[i]));
        break;
    case KILN_f64:
        EACH(double, saturate(at[i]));
        break;
    }
}
#undef EACH

#define EACH(type, expression)                                                                     \
    do {                                                                                           \
        type *at = (type *)data + first;                                                           \
        for (int64_t i = 0; i < n; i++) at[i] = (type)(expression);                                \
    } while (0)

static void store_ints(kiln_dtype dtype, void *data, int64_t first, int64_t n, const uint64_t *in)
{
    switch (kiln_dtype_bytes(dtype)) {
    case 1:
        EACH(uint8_t, in[i]);
        break;
    case 2:
        EACH(uint16_t, in[i]);
        break;
    case 4:
        EACH(uint32_t, in[i]);
        break;
    case 8:
        EACH(uint64_t, in[i]);
        break;
    }
}

void kiln_element_store_double(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                               const double *in)
{
    if (kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_NONE) return;
    switch ((int)dtype) {
    case KILN_bool:
        EACH(uint8_t, in[i] != 0);
        return;
    case KILN_bf16:
        EACH(uint16_t, small_narrow(in[i], 7));
        return;
    case KILN_f16:
        EACH(uint16_t, small_narrow(in[i], 10));
        return;
    case KILN_f32:
        EACH(float, in[i]);
        return;
    case KILN_f64:
        EACH(double, in[i]);
        return;
    }
    int_range range = range_of(dtype);
    for (int64_t i = 0; i < n; i++) {
        uint64_t value = double_to_int(in[i], range.least, range.beyond, range.top);
        store_ints(dtype, data, first + i, 1, &value);
    }
}

void kiln_element_store_int(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                            const uint64_t *in, bool is_signed)
{
    switch ((int)dtype) {
    case KILN_bool:
        EACH(uint8_t, in[i] != 0);
        return;
    case KILN_bf16:
        EACH(uint16_t, small_narrow(int_to_odd_double(in[i], is_signed), 7));
        return;
    case KILN_f16:
        EACH(uint16_t, small_narrow(int_to_odd_double(in[i], is_signed), 10));
        return;
    case KILN_f32:
        EACH(float, int_to_odd_double(in[i], is_signed));
        return;
    case KILN_f64:
        EACH(double, is_signed ? (double)(int64_t)in[i] : (double)in[i]);
        return;
    }
    store_ints(dtype, data, first, n, in);
}
#undef EACH

double kiln_element_to_double(kiln_dtype dtype, const void *element)
{
    double value = 0;
    kiln_element_load_double(dtype, element, 0, 1, &value);
    return value;
}

void kiln_element_from_double(kiln_dtype dtype, double value, void *out_element)
{
    kiln_element_store_double(dtype, out_element, 0, 1, &value);
}
