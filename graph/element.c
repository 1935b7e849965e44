/* Elements as doubles and integers: conversions between storage and the two working forms. Bits of
 * an element are read and written in one place; what they mean follows from the dtype's kind and,
 * for narrow floats, from a table of formats, to which integer code rounds a double. */
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

/* How a narrow float dtype lays out its bits below the sign; f32 and f64 are C's own. */
typedef struct float_format {
    int fraction, exponent; /* bits */
    int bias;
} float_format;

static const float_format formats[] = {
    [KILN_bf16] = {7, 8, 127},
    [KILN_f16] = {10, 5, 15},
};

static double wide_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double single_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static uint64_t bits_of_wide(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint64_t bits_of_single(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A float pattern as a double; exact. */
static double float_widen(uint64_t bits, const float_format *format)
{
    int top = (1 << format->exponent) - 1;
    int exponent = (int)(bits >> format->fraction) & top;
    uint64_t mantissa = bits & (((uint64_t)1 << format->fraction) - 1);
    uint64_t hidden = (uint64_t)1 << format->fraction;
    double size;
    if (exponent == top) {
        size = mantissa ? NAN : INFINITY;
    } else if (exponent == 0) {
        size = ldexp((double)mantissa, 1 - format->bias - format->fraction);
    } else {
        size = ldexp((double)(mantissa | hidden), exponent - format->bias - format->fraction);
    }
    return bits >> (format->fraction + format->exponent) & 1 ? -size : size;
}

/* The nearest such float, ties to even. A carry out of the fraction moves to the next exponent by
 * itself, up to infinity. */
static uint64_t float_narrow(double value, const float_format *format)
{
    int fraction = format->fraction, least = 1 - format->bias;
    uint64_t infinity = (((uint64_t)1 << format->exponent) - 1) << fraction;
    uint64_t bits = bits_of_wide(value);
    uint64_t sign = (bits >> 63) << (fraction + format->exponent);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = bits & 0xfffffffffffff;
    if (exponent == 1024) return sign | infinity | (mantissa ? (uint64_t)1 << (fraction - 1) : 0);
    if (exponent > format->bias) return sign | infinity;
    if (exponent == -1023) return sign; /* a denormal double is far below any narrower float */

    int shift = 52 - fraction + (exponent < least ? least - exponent : 0);
    if (shift > 54) return sign;
    mantissa |= (uint64_t)1 << 52;
    uint64_t kept = mantissa >> shift, rest = mantissa & (((uint64_t)1 << shift) - 1);
    uint64_t half = (uint64_t)1 << (shift - 1);
    if (rest > half || (rest == half && kept & 1)) kept++;
    if (exponent >= least) kept += (uint64_t)(exponent - least) << fraction;
    return sign | (kept > infinity ? infinity : kept);
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

/* The bits of one element, zero-extended, and back. */
static uint64_t bits_load(kiln_dtype dtype, const void *data, int64_t i)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    uint64_t bits = 0;
    memcpy(&bits, (const char *)data + (size_t)i * bytes, bytes);
    return bits;
}

static void bits_store(kiln_dtype dtype, void *data, int64_t i, uint64_t bits)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    memcpy((char *)data + (size_t)i * bytes, &bits, bytes);
}

static uint64_t sign_extend(uint64_t bits, int width)
{
    return (uint64_t)((int64_t)(bits << (64 - width)) >> (64 - width));
}

static double double_of(kiln_dtype dtype, uint64_t bits)
{
    int width = 8 * (int)kiln_dtype_bytes(dtype);
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return 0;
    case KILN_DTYPE_KIND_BOOL:
        return bits != 0;
    case KILN_DTYPE_KIND_INT:
        return (double)(int64_t)sign_extend(bits, width);
    case KILN_DTYPE_KIND_UINT:
        return (double)bits;
    case KILN_DTYPE_KIND_FLOAT:
        break;
    }
    if (dtype == KILN_f64) return wide_of(bits);
    return dtype == KILN_f32 ? single_of((uint32_t)bits) : float_widen(bits, &formats[dtype]);
}

static uint64_t bits_of_double(kiln_dtype dtype, double value)
{
    int width = 8 * (int)kiln_dtype_bytes(dtype);
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return 0;
    case KILN_DTYPE_KIND_BOOL:
        return value != 0;
    case KILN_DTYPE_KIND_INT:
        return double_to_int(value, -ldexp(1, width - 1), ldexp(1, width - 1),
                             UINT64_MAX >> (65 - width));
    case KILN_DTYPE_KIND_UINT:
        return double_to_int(value, 0, ldexp(1, width), UINT64_MAX >> (64 - width));
    case KILN_DTYPE_KIND_FLOAT:
        break;
    }
    if (dtype == KILN_f64) return bits_of_wide(value);
    return dtype == KILN_f32 ? bits_of_single((float)value) : float_narrow(value, &formats[dtype]);
}

static uint64_t int_of(kiln_dtype dtype, uint64_t bits)
{
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return 0;
    case KILN_DTYPE_KIND_BOOL:
        return bits != 0;
    case KILN_DTYPE_KIND_INT:
        return sign_extend(bits, 8 * (int)kiln_dtype_bytes(dtype));
    case KILN_DTYPE_KIND_UINT:
        return bits;
    case KILN_DTYPE_KIND_FLOAT:
        break;
    }
    return double_to_int(double_of(dtype, bits), -0x1p63, 0x1p63, INT64_MAX);
}

static uint64_t bits_of_int(kiln_dtype dtype, uint64_t value, bool is_signed)
{
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    if (kind == KILN_DTYPE_KIND_BOOL) return value != 0;
    if (kind != KILN_DTYPE_KIND_FLOAT) return value;
    if (dtype != KILN_f64) return bits_of_double(dtype, int_to_odd_double(value, is_signed));
    return bits_of_double(dtype, is_signed ? (double)(int64_t)value : (double)value);
}

void kiln_element_load_double(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                              double *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = double_of(dtype, bits_load(dtype, data, first + i));
}

void kiln_element_load_int(kiln_dtype dtype, const void *data, int64_t first, int64_t n,
                           uint64_t *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = int_of(dtype, bits_load(dtype, data, first + i));
}

void kiln_element_store_double(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                               const double *in)
{
    for (int64_t i = 0; i < n; i++)
        bits_store(dtype, data, first + i, bits_of_double(dtype, in[i]));
}

void kiln_element_store_int(kiln_dtype dtype, void *data, int64_t first, int64_t n,
                            const uint64_t *in, bool is_signed)
{
    for (int64_t i = 0; i < n; i++)
        bits_store(dtype, data, first + i, bits_of_int(dtype, in[i], is_signed));
}

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
