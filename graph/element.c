/* Single elements of any dtype to and from double. Narrow floats go through one routine that rounds
 * a double to a format given by its exponent and fraction widths. */
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

/* An IEEE format of 16 bits: sign, exponent, `fraction` bits. */
typedef struct narrow_format {
    int fraction, bias;
} narrow_format;

static const narrow_format format_f16 = {10, 15}, format_bf16 = {7, 127};

static double narrow_to_double(narrow_format format, uint16_t bits)
{
    int max_exponent = 2 * format.bias + 1;
    int exponent = (bits & 0x7fff) >> format.fraction;
    int fraction = bits & ((1 << format.fraction) - 1);
    double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == max_exponent) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - format.bias - format.fraction);
    return sign * ldexp(fraction + (1 << format.fraction), exponent - format.bias - format.fraction);
}

static uint16_t narrow_from_double(narrow_format format, double value)
{
    int infinity = (2 * format.bias + 1) << format.fraction;
    int sign = signbit(value) ? 0x8000 : 0;
    if (isnan(value)) return (uint16_t)(sign | infinity | 1 << (format.fraction - 1));
    double size = fabs(value);
    if (size == 0) return (uint16_t)sign;
    int exponent;
    frexp(size, &exponent);
    int lowest = 2 - format.bias; /* frexp's exponent of the least normal number */
    if (exponent < lowest) exponent = lowest;
    if (isinf(size) || exponent > format.bias + 1) return (uint16_t)(sign | infinity);
    /* In units of the last place the value is at most 2^(fraction + 1); the sum of exponent and
     * rounded units carries into the next binade by itself. */
    double units = rint(ldexp(size, format.fraction + 1 - exponent));
    int bits = ((exponent - lowest) << format.fraction) + (int)units;
    return (uint16_t)(sign | (bits < infinity ? bits : infinity));
}

double kiln_element_to_double(kiln_dtype dtype, const void *element)
{
    switch (kiln_dtype_kind_of(dtype)) {
    case KILN_DTYPE_KIND_NONE:
        return 0;
    case KILN_DTYPE_KIND_BOOL:
        return *(const uint8_t *)element != 0;
    case KILN_DTYPE_KIND_INT: {
        int64_t value = 0;
        size_t bytes = kiln_dtype_bytes(dtype);
        memcpy(&value, element, bytes);
        int unused = 64 - 8 * (int)bytes;
        return (double)((int64_t)((uint64_t)value << unused) >> unused);
    }
    case KILN_DTYPE_KIND_UINT: {
        uint64_t value = 0;
        memcpy(&value, element, kiln_dtype_bytes(dtype));
        return (double)value;
    }
    case KILN_DTYPE_KIND_FLOAT:
        break;
    }
    if (dtype == KILN_f64) {
        double value;
        memcpy(&value, element, sizeof value);
        return value;
    }
    if (dtype == KILN_f32) {
        float value;
        memcpy(&value, element, sizeof value);
        return (double)value;
    }
    uint16_t bits;
    memcpy(&bits, element, sizeof bits);
    return narrow_to_double(dtype == KILN_f16 ? format_f16 : format_bf16, bits);
}

/* Truncates and saturates to `bits` bits; the low bytes of the result are the element. */
static uint64_t integer_from_double(double value, int bits, bool is_signed)
{
    if (isnan(value)) return 0;
    double top = ldexp(1.0, is_signed ? bits - 1 : bits);
    if (value >= top) return is_signed ? (UINT64_MAX >> (65 - bits)) : (UINT64_MAX >> (64 - bits));
    if (!is_signed) return value <= 0 ? 0 : (uint64_t)value;
    return value <= -top ? (uint64_t)1 << (bits - 1) : (uint64_t)(int64_t)value;
}

void kiln_element_from_double(kiln_dtype dtype, double value, void *out_element)
{
    size_t bytes = kiln_dtype_bytes(dtype);
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    if (kind == KILN_DTYPE_KIND_BOOL) {
        *(uint8_t *)out_element = value != 0;
    } else if (kind == KILN_DTYPE_KIND_INT || kind == KILN_DTYPE_KIND_UINT) {
        uint64_t bits = integer_from_double(value, 8 * (int)bytes, kind == KILN_DTYPE_KIND_INT);
        memcpy(out_element, &bits, bytes);
    } else if (dtype == KILN_f64) {
        memcpy(out_element, &value, sizeof value);
    } else if (dtype == KILN_f32) {
        float rounded = (float)value;
        memcpy(out_element, &rounded, sizeof rounded);
    } else if (bytes == 2) {
        uint16_t bits = narrow_from_double(dtype == KILN_f16 ? format_f16 : format_bf16, value);
        memcpy(out_element, &bits, sizeof bits);
    }
}
