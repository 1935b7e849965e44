/* Elements as doubles and integers: conversions between storage and the two working forms. Bits of
 * an element are read and written in one place; what they mean follows from the dtype's kind and,
 * for narrow floats, from a table of formats, to which integer code rounds a double. */
#include "graph/element.h"

#include <math.h>
#include <string.h>

#include "kiln/model.h"

kiln_dtype_kind kiln_dtype_kind_of(kiln_dtype dtype)
{
    static const kiln_dtype_kind kinds[] = {
#define KILN_DTYPE(name, number, bits, kind) [number] = KILN_DTYPE_KIND_##kind,
#include "kiln/dtypes.def"
#undef KILN_DTYPE
    };
    return (unsigned)dtype < sizeof kinds / sizeof *kinds ? kinds[dtype] : KILN_DTYPE_KIND_NONE;
}

#define KIND(name) (1u << KILN_DTYPE_KIND_##name)
#define KIND_INTEGER (KIND(INT) | KIND(UINT))

bool kiln_dtype_in(kiln_dtype dtype, kiln_dtype_set set)
{
    static const unsigned kinds[] = {
        [KILN_TYPES_FLOAT] = KIND(FLOAT),
        [KILN_TYPES_INTEGER] = KIND_INTEGER,
        [KILN_TYPES_NUMBER] = KIND_INTEGER | KIND(FLOAT),
        [KILN_TYPES_BITS] = KIND_INTEGER | KIND(BOOL),
        [KILN_TYPES_BOOL] = KIND(BOOL),
        [KILN_TYPES_ANY] = KIND_INTEGER | KIND(FLOAT) | KIND(BOOL) | KIND(COMPLEX),
        [KILN_TYPES_ORDERED] = KIND_INTEGER | KIND(FLOAT) | KIND(BOOL),
        [KILN_TYPES_FIELD] = KIND(FLOAT) | KIND(COMPLEX),
        [KILN_TYPES_ARITHMETIC] = KIND_INTEGER | KIND(FLOAT) | KIND(COMPLEX),
        [KILN_TYPES_COMPLEX] = KIND(COMPLEX),
    };
    return kinds[set] >> kiln_dtype_kind_of(dtype) & 1;
}

kiln_dtype kiln_dtype_part(kiln_dtype dtype)
{
    if (dtype == KILN_c128) return KILN_f64;
    return dtype == KILN_c64 ? KILN_f32 : dtype;
}

kiln_dtype kiln_dtype_accumulator(kiln_dtype dtype)
{
    if (kiln_dtype_bytes(dtype) >= 4) return dtype;
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    if (kind == KILN_DTYPE_KIND_FLOAT) return KILN_f32;
    return kind == KILN_DTYPE_KIND_UINT ? KILN_u32 : KILN_i32;
}

const kiln_float_format *kiln_float_format_of(kiln_dtype dtype)
{
    static const kiln_float_format formats[] = {
        [KILN_bf16] = {7, 8, 127, false, 0x7f7f, 0x7f80, 0x7fc0},
        [KILN_f16] = {10, 5, 15, false, 0x7bff, 0x7c00, 0x7e00},
        [KILN_f4e2m1] = {1, 2, 1, false, 7, 7, 8},
        [KILN_f8e4m3fn] = {3, 4, 7, false, 0x7e, 0x7f, 0x7f},
        [KILN_f8e5m2] = {2, 5, 15, false, 0x7b, 0x7c, 0x7e},
        [KILN_f8e4m3fnuz] = {3, 4, 8, true, 0x7f, 0x80, 0x80},
        [KILN_f8e5m2fnuz] = {2, 5, 16, true, 0x7f, 0x80, 0x80},
    };
    bool is_row = (unsigned)dtype < sizeof formats / sizeof *formats;
    return is_row && formats[dtype].top ? &formats[dtype] : NULL;
}

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
static double float_widen(uint64_t bits, const kiln_float_format *format)
{
    int fraction = format->fraction;
    uint64_t hidden = (uint64_t)1 << fraction, sign = (uint64_t)1 << (fraction + format->exponent);
    uint64_t size = bits & (sign - 1);
    int exponent = (int)(size >> fraction);
    if (format->is_unsigned_zero && bits == sign) return NAN;
    double value;
    if (size > format->top) {
        value = size == format->over && format->over != format->nan ? INFINITY : NAN;
    } else if (exponent == 0) {
        value = ldexp((double)size, 1 - format->bias - fraction);
    } else {
        uint64_t mantissa = (size & (hidden - 1)) | hidden;
        value = ldexp((double)mantissa, exponent - format->bias - fraction);
    }
    return bits & sign ? -value : value;
}

/* The magnitude of the nearest such float, ties to even. A carry out of the fraction moves to the
 * next exponent by itself. */
static uint64_t float_round(uint64_t bits, const kiln_float_format *format)
{
    int fraction = format->fraction, least = 1 - format->bias;
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = bits & 0xfffffffffffff;
    if (exponent == 1024 && mantissa) return format->nan;
    if (exponent > format->bias + 1) return format->over;
    if (exponent == -1023) return 0; /* a denormal double is far below any narrower float */
    int shift = 52 - fraction + (exponent < least ? least - exponent : 0);
    if (shift > 54) return 0;
    mantissa |= (uint64_t)1 << 52;
    uint64_t kept = mantissa >> shift, rest = mantissa & (((uint64_t)1 << shift) - 1);
    uint64_t half = (uint64_t)1 << (shift - 1);
    if (rest > half || (rest == half && kept & 1)) kept++;
    if (exponent >= least) kept += (uint64_t)(exponent - least) << fraction;
    return kept > format->top ? format->over : kept;
}

static uint64_t float_narrow(double value, const kiln_float_format *format)
{
    uint64_t bits = bits_of_wide(value), size = float_round(bits, format);
    uint64_t sign = (uint64_t)1 << (format->fraction + format->exponent);
    bool is_unsigned = size >= sign || (format->is_unsigned_zero && size == 0);
    return bits >> 63 && !is_unsigned ? size | sign : size;
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

/* The bits of one element (of a complex one, its real part), zero-extended, and back. */
static uint64_t bits_load(kiln_dtype dtype, const void *data, int64_t i)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    const char *at = (const char *)data + (size_t)i * bytes;
    uint64_t bits = 0;
    if (kiln_dtype_bits(dtype) < 8) {
        const kiln_packed_place place = kiln_packed_at(dtype, i);
        return ((const uint8_t *)data)[place.byte] >> place.shift & place.mask;
    }
    memcpy(&bits, at, kiln_dtype_bytes(kiln_dtype_part(dtype)));
    return bits;
}

static void bits_store(kiln_dtype dtype, void *data, int64_t i, uint64_t bits)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    if (kiln_dtype_bits(dtype) < 8) {
        const kiln_packed_place place = kiln_packed_at(dtype, i);
        uint8_t *at = (uint8_t *)data + place.byte;
        unsigned kept = *at & ~(place.mask << place.shift);
        *at = (uint8_t)(kept | ((unsigned)bits & place.mask) << place.shift);
        return;
    }
    char *at = (char *)data + (size_t)i * bytes;
    memset(at, 0, bytes);
    memcpy(at, &bits, kiln_dtype_bytes(kiln_dtype_part(dtype)));
}

static uint64_t sign_extend(uint64_t bits, int width)
{
    return (uint64_t)((int64_t)(bits << (64 - width)) >> (64 - width));
}

static double double_of(kiln_dtype dtype, uint64_t bits)
{
    int width = (int)kiln_dtype_bits(dtype);
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
    case KILN_DTYPE_KIND_COMPLEX:
        break;
    }
    dtype = kiln_dtype_part(dtype);
    if (dtype == KILN_f64) return wide_of(bits);
    return dtype == KILN_f32 ? single_of((uint32_t)bits)
                             : float_widen(bits, kiln_float_format_of(dtype));
}

static uint64_t bits_of_double(kiln_dtype dtype, double value)
{
    int width = (int)kiln_dtype_bits(dtype);
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
    case KILN_DTYPE_KIND_COMPLEX:
        break;
    }
    dtype = kiln_dtype_part(dtype);
    if (dtype == KILN_f64) return bits_of_wide(value);
    return dtype == KILN_f32 ? bits_of_single((float)value)
                             : float_narrow(value, kiln_float_format_of(dtype));
}

static uint64_t int_of(kiln_dtype dtype, uint64_t bits)
{
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return 0;
    case KILN_DTYPE_KIND_BOOL:
        return bits != 0;
    case KILN_DTYPE_KIND_INT:
        return sign_extend(bits, (int)kiln_dtype_bits(dtype));
    case KILN_DTYPE_KIND_UINT:
        return bits;
    case KILN_DTYPE_KIND_FLOAT:
    case KILN_DTYPE_KIND_COMPLEX:
        break;
    }
    return double_to_int(double_of(dtype, bits), -0x1p63, 0x1p63, INT64_MAX);
}

static uint64_t bits_of_int(kiln_dtype dtype, uint64_t value, bool is_signed)
{
    if (dtype == KILN_bool) return value != 0;
    if (!kiln_dtype_in(dtype, KILN_TYPES_FIELD)) return value;
    if (kiln_dtype_part(dtype) != KILN_f64)
        return bits_of_double(dtype, int_to_odd_double(value, is_signed));
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

void kiln_element_copy(kiln_dtype dtype, void *to, int64_t to_at, const void *from, int64_t from_at)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    if (kiln_dtype_bits(dtype) < 8) {
        bits_store(dtype, to, to_at, bits_load(dtype, from, from_at));
    } else {
        memcpy((char *)to + (size_t)to_at * bytes, (const char *)from + (size_t)from_at * bytes,
               bytes);
    }
}

double kiln_tensor_get(const kiln_tensor *tensor, int64_t index)
{
    return tensor && tensor->data
               ? double_of(tensor->dtype, bits_load(tensor->dtype, tensor->data, index))
               : 0;
}

void kiln_tensor_set(const kiln_tensor *tensor, int64_t index, double value)
{
    if (tensor && tensor->data)
        kiln_element_store_double(tensor->dtype, tensor->data, index, 1, &value);
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
