/* Elements of tensors as the command needs them: random ones, and any of them as a number. */
#include <math.h>
#include <string.h>

#include "codegen/cli/cli.h"

/* A counter through a 64-bit mixer: element i of input n is the same whatever the order of
 * filling. */
static uint64_t random_bits(uint64_t seed, uint64_t number)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + number * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint16_t half_of(float value, bool is_bf16)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (is_bf16) return (uint16_t)(bits >> 16);
    /* |value| < 1 with few bits set: exponents from -14 on are representable, smaller become 0 */
    int exponent = (int)(bits >> 23 & 255) - 127;
    if (exponent < -14) return 0;
    return (uint16_t)((bits >> 16 & 0x8000) | (uint32_t)(exponent + 15) << 10 |
                      (bits >> 13 & 0x3ff));
}

void cli_fill_random(kiln_tensor *tensor, uint64_t seed)
{
    size_t size = kiln_dtype_bytes(tensor->dtype);
    for (size_t i = 0; size && i < tensor->bytes / size; i++) {
        uint64_t bits = random_bits(seed, i);
        float value = (float)((double)(int64_t)bits * 0x1p-63);
        char *at = (char *)tensor->data + i * size;
        if (tensor->dtype == KILN_f32) {
            memcpy(at, &value, 4);
        } else if (tensor->dtype == KILN_f64) {
            memcpy(at, &(double){value}, 8);
        } else if (tensor->dtype == KILN_bf16 || tensor->dtype == KILN_f16) {
            memcpy(at, &(uint16_t){half_of(value, tensor->dtype == KILN_bf16)}, 2);
        } else {
            memset(at, 0, size);
            *at = (char)(bits & 1);
        }
    }
}

void cli_type_string(const kiln_tensor *tensor, char *out, size_t bytes)
{
    size_t n = (size_t)snprintf(out, bytes, "%s[", kiln_dtype_name(tensor->dtype));
    for (uint32_t i = 0; i < tensor->rank && n < bytes; i++) {
        n += (size_t)snprintf(out + n, bytes - n, "%s%lld", i ? "," : "",
                              (long long)tensor->dims[i]);
    }
    if (n < bytes) snprintf(out + n, bytes - n, "]");
}

double cli_element(const kiln_tensor *tensor, size_t i)
{
    const char *at = (const char *)tensor->data + i * kiln_dtype_bytes(tensor->dtype);
    switch (tensor->dtype) {
#define READ(name, type) \
    case KILN_##name: return (double)*(const type *)at;
        READ(bool, uint8_t)
        READ(i8, int8_t)
        READ(u8, uint8_t)
        READ(i16, int16_t)
        READ(u16, uint16_t)
        READ(i32, int32_t)
        READ(u32, uint32_t)
        READ(i64, int64_t)
        READ(u64, uint64_t)
        READ(f32, float)
        READ(f64, double)
#undef READ
    case KILN_bf16: {
        uint32_t bits = (uint32_t)*(const uint16_t *)at << 16;
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
    case KILN_f16: {
        uint16_t half = *(const uint16_t *)at;
        int exponent = half >> 10 & 31, fraction = half & 1023;
        double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
        return half & 0x8000 ? -value : value;
    }
    case KILN_NO_DTYPE: break;
    }
    return NAN;
}
