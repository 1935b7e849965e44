/* What the C and CUDA texts of kernels stand on: types by the names of dtypes, and one function for
 * each operation that C has no exact operator for. Compile with -ffp-contract=off (CUDA:
 * --fmad=false, with precise division and square root). On a device a row has a second body. */
#ifndef KILN_PRELUDE
#define KILN_PRELUDE

#ifdef __CUDACC__
#define KILN_FN static __device__ __forceinline__
#define KILN_UNROLL _Pragma("unroll")
#define KILN_TABLE static __device__ const
#define KILN_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define KILN_SHARED_MEMORY extern __shared__ kiln_b16 kiln_shared[]
#define KILN_WIDE __align__(16)
#define KILN_PUNNED(bytes) __align__(bytes)
#else
#define KILN_FN static inline __attribute__((unused))
#define KILN_UNROLL
#define KILN_TABLE static const
#define KILN_WIDE __attribute__((aligned(16)))
#define KILN_PUNNED(bytes) __attribute__((aligned(bytes), may_alias))
#endif

typedef unsigned char kiln_bool;
typedef signed char kiln_i8;
typedef unsigned char kiln_u8;
typedef short kiln_i16;
typedef unsigned short kiln_u16;
typedef int kiln_i32;
typedef unsigned kiln_u32;
typedef long long kiln_i64;
typedef unsigned long long kiln_u64;
typedef unsigned short kiln_bf16;
typedef unsigned short kiln_f16;
typedef float kiln_f32;
typedef double kiln_f64;

#ifdef __CUDACC__
KILN_FN kiln_u32 kiln_bits_f32(float x) { return __float_as_uint(x); }
KILN_FN float kiln_from_f32(kiln_u32 bits) { return __uint_as_float(bits); }
KILN_FN kiln_u64 kiln_bits_f64(double x) { return (kiln_u64)__double_as_longlong(x); }
KILN_FN double kiln_from_f64(kiln_u64 bits) { return __longlong_as_double((long long)bits); }
KILN_FN int kiln_popcnt(kiln_u64 x) { return __popcll(x); }
KILN_FN int kiln_clz(kiln_u64 x) { return __clzll((long long)x); }
KILN_FN float kiln_fma_f32(float a, float b, float c) { return __fmaf_rn(a, b, c); }
KILN_FN double kiln_fma_f64(double a, double b, double c) { return __fma_rn(a, b, c); }
KILN_FN float kiln_sqrt_f32(float a) { return __fsqrt_rn(a); }
KILN_FN double kiln_sqrt_f64(double a) { return __dsqrt_rn(a); }
KILN_FN float kiln_div_f32(float a, float b) { return __fdiv_rn(a, b); }
KILN_FN double kiln_div_f64(double a, double b) { return __ddiv_rn(a, b); }
KILN_FN float kiln_floor_f32(float a) { return floorf(a); }
KILN_FN double kiln_floor_f64(double a) { return floor(a); }
KILN_FN float kiln_ceil_f32(float a) { return ceilf(a); }
KILN_FN double kiln_ceil_f64(double a) { return ceil(a); }
KILN_FN float kiln_trunc_f32(float a) { return truncf(a); }
KILN_FN double kiln_trunc_f64(double a) { return trunc(a); }
KILN_FN float kiln_round_even_f32(float a) { return rintf(a); }
KILN_FN double kiln_round_even_f64(double a) { return rint(a); }
KILN_FN float kiln_f16_to_f32(kiln_f16 x)
{
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
    return out;
}
KILN_FN kiln_f16 kiln_f32_to_f16(float x)
{
    kiln_f16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
    return out;
}
#else
KILN_FN kiln_u32 kiln_bits_f32(float x) { kiln_u32 out; __builtin_memcpy(&out, &x, 4); return out; }
KILN_FN float kiln_from_f32(kiln_u32 bits)
{
    float out;
    __builtin_memcpy(&out, &bits, 4);
    return out;
}
KILN_FN kiln_u64 kiln_bits_f64(double x)
{
    kiln_u64 out;
    __builtin_memcpy(&out, &x, 8);
    return out;
}
KILN_FN double kiln_from_f64(kiln_u64 bits)
{
    double out;
    __builtin_memcpy(&out, &bits, 8);
    return out;
}
KILN_FN int kiln_popcnt(kiln_u64 x) { return __builtin_popcountll(x); }
KILN_FN int kiln_clz(kiln_u64 x) { return x ? __builtin_clzll(x) : 64; }
KILN_FN float kiln_fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
KILN_FN double kiln_fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }
KILN_FN float kiln_sqrt_f32(float a) { return __builtin_sqrtf(a); }
KILN_FN double kiln_sqrt_f64(double a) { return __builtin_sqrt(a); }
KILN_FN float kiln_div_f32(float a, float b) { return a / b; }
KILN_FN double kiln_div_f64(double a, double b) { return a / b; }
KILN_FN float kiln_floor_f32(float a) { return __builtin_floorf(a); }
KILN_FN double kiln_floor_f64(double a) { return __builtin_floor(a); }
KILN_FN float kiln_ceil_f32(float a) { return __builtin_ceilf(a); }
KILN_FN double kiln_ceil_f64(double a) { return __builtin_ceil(a); }
KILN_FN float kiln_trunc_f32(float a) { return __builtin_truncf(a); }
KILN_FN double kiln_trunc_f64(double a) { return __builtin_trunc(a); }
KILN_FN float kiln_round_even_f32(float a) { return __builtin_rintf(a); }
KILN_FN double kiln_round_even_f64(double a) { return __builtin_rint(a); }
/* Exact in double, so it rounds once. */
KILN_FN float kiln_scale_f32(float a, float b)
{
    long long n = b > 400 ? 400 : b > -400 ? (long long)b : -400;
    return (float)(a * kiln_from_f64((kiln_u64)(n + 1023) << 52));
}

/* Subnormal halves are a fraction of 2^-24; all else moves the exponent's bias from 15 to 127. */
KILN_FN float kiln_f16_to_f32(kiln_f16 x)
{
    kiln_u32 sign = (kiln_u32)(x & 0x8000) << 16, exponent = (x >> 10) & 31, fraction = x & 1023;
    if (exponent == 0) return kiln_from_f32(sign | kiln_bits_f32((float)fraction * 0x1p-24f));
    if (exponent == 31) {
        kiln_u32 quiet = fraction ? 0x400000u : 0;
        return kiln_from_f32(sign | 0x7f800000u | fraction << 13 | quiet);
    }
    return kiln_from_f32(sign | (exponent + 112) << 23 | fraction << 13);
}
/* Round to nearest even by adding half an ulp less one, plus the lowest kept bit. */
KILN_FN kiln_f16 kiln_f32_to_f16(float x)
{
    kiln_u32 bits = kiln_bits_f32(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000u) return (kiln_f16)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    if (size >= 0x477ff000u) return (kiln_f16)(sign | 0x7c00);
    if (size < 0x38800000u) {
        /* the ulp of 0.5 is 2^-24: the addition rounds */
        float shifted = kiln_from_f32(size) + 0.5f;
        return (kiln_f16)(sign | (kiln_bits_f32(shifted) - 0x3f000000u));
    }
    return (kiln_f16)(sign | ((size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13));
}
#endif

#ifndef __CUDACC__
/* Matrix tiles: 16 rows of 64 bytes. */
typedef struct kiln_tile { kiln_u8 row[16][64]; } kiln_tile;
KILN_FN void kiln_tile_zero(kiln_tile *t) { __builtin_memset(t, 0, sizeof *t); }
KILN_FN void kiln_tile_load(kiln_tile *t, const void *from, kiln_i64 bytes)
{
    for (int m = 0; m < 16; m++) __builtin_memcpy(t->row[m], (const char *)from + m * bytes, 64);
}
KILN_FN void kiln_tile_store(const kiln_tile *t, void *to, kiln_i64 bytes)
{
    for (int m = 0; m < 16; m++) __builtin_memcpy((char *)to + m * bytes, t->row[m], 64);
}
KILN_FN float kiln_flush(float x) { return __builtin_fabsf(x) < 0x1p-126f ? 0 * x : x; }
/* The bf16 number in the upper half. */
KILN_FN float kiln_upper(kiln_u32 x) { return kiln_flush(kiln_from_f32(x & 0xffff0000u)); }
KILN_FN float kiln_tile_bf16(const kiln_tile *t, int m, int at)
{
    kiln_u16 bits;
    __builtin_memcpy(&bits, &t->row[m][2 * at], 2);
    return kiln_upper((kiln_u32)bits << 16);
}
KILN_FN void kiln_tile_dot_bf16(kiln_tile *c, const kiln_tile *a, const kiln_tile *b)
{
    for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 16; n++) {
            float sum[2] = {0, 0}, old;
            for (int j = 0; j < 32; j++) {
                float x = kiln_tile_bf16(a, m, j), y = kiln_tile_bf16(b, j / 2, 2 * n + j % 2);
                sum[j % 2] = kiln_flush(kiln_fma_f32(x, y, sum[j % 2]));
            }
            __builtin_memcpy(&old, &c->row[m][4 * n], 4);
            old = kiln_flush(kiln_flush(old) + kiln_flush(sum[0] + sum[1]));
            __builtin_memcpy(&c->row[m][4 * n], &old, 4);
        }
    }
}
#define KILN_TILE_DOT(name, type_a, type_b)                                                        \
    KILN_FN void kiln_tile_dot_##name(kiln_tile *c, const kiln_tile *a, const kiln_tile *b)        \
    {                                                                                              \
        for (int m = 0; m < 16; m++) {                                                             \
            for (int n = 0; n < 16; n++) {                                                         \
                kiln_u32 sum;                                                                      \
                __builtin_memcpy(&sum, &c->row[m][4 * n], 4);                                      \
                for (int j = 0; j < 64; j++)                                                       \
                    sum +=                                                                         \
                        (kiln_u32)((type_a)a->row[m][j] * (type_b)b->row[j / 4][4 * n + j % 4]);   \
                __builtin_memcpy(&c->row[m][4 * n], &sum, 4);                                      \
            }                                                                                      \
        }                                                                                          \
    }
KILN_TILE_DOT(i8, kiln_i8, kiln_i8)
KILN_TILE_DOT(u8i8, kiln_u8, kiln_i8)
KILN_TILE_DOT(i8u8, kiln_i8, kiln_u8)
KILN_TILE_DOT(u8, kiln_u8, kiln_u8)
#endif

/* Accesses of 8 and 16 bytes to aligned places. */
typedef struct KILN_PUNNED(8) kiln_b8 { kiln_u32 word[2]; } kiln_b8;
typedef struct KILN_PUNNED(16) kiln_b16 { kiln_u32 word[4]; } kiln_b16;
KILN_FN void kiln_copy8(void *to, const void *from) { *(kiln_b8 *)to = *(const kiln_b8 *)from; }
KILN_FN void kiln_copy16(void *to, const void *from) { *(kiln_b16 *)to = *(const kiln_b16 *)from; }

#define KILN_FLOAT_ROWS(S, mask)                                                                   \
    KILN_FN kiln_##S kiln_abs_##S(kiln_##S a) { return kiln_from_##S(kiln_bits_##S(a) & (mask)); } \
    KILN_FN kiln_##S kiln_neg_##S(kiln_##S a)                                                      \
    {                                                                                              \
        return kiln_from_##S(kiln_bits_##S(a) ^ ~(mask));                                          \
    }                                                                                              \
    KILN_FN kiln_##S kiln_copysign_##S(kiln_##S a, kiln_##S b)                                     \
    {                                                                                              \
        return kiln_from_##S((kiln_bits_##S(a) & (mask)) | (kiln_bits_##S(b) & ~(mask)));          \
    }                                                                                              \
    KILN_FN kiln_##S kiln_max_##S(kiln_##S a, kiln_##S b)                                          \
    {                                                                                              \
        if (a > b) return a;                                                                       \
        if (a < b) return b;                                                                       \
        if (a == b) return kiln_from_##S(kiln_bits_##S(a) & kiln_bits_##S(b));                     \
        return a + b;                                                                              \
    }                                                                                              \
    KILN_FN kiln_##S kiln_min_##S(kiln_##S a, kiln_##S b)                                          \
    {                                                                                              \
        if (a < b) return a;                                                                       \
        if (a > b) return b;                                                                       \
        if (a == b) return kiln_from_##S(kiln_bits_##S(a) | kiln_bits_##S(b));                     \
        return a + b;                                                                              \
    }
KILN_FLOAT_ROWS(f32, 0x7fffffffu)
KILN_FLOAT_ROWS(f64, 0x7fffffffffffffffull)

/* Float to integer: truncates, saturates, NaN gives 0. `low` and `high` are powers of two (or 0):
 * the first value too small to be exact is at most low, the first too large at least high. */
#define KILN_INT_ROW(F, I, low, high, least, most)                                                 \
    KILN_FN kiln_##I kiln_##F##_to_##I(kiln_##F x)                                                 \
    {                                                                                              \
        if (x >= (kiln_##F)(high)) return (most);                                                  \
        if (x <= (kiln_##F)(low)) return (least);                                                  \
        return x == x ? (kiln_##I)x : 0;                                                           \
    }
#define KILN_INT_ROWS(F)                                                                           \
    KILN_INT_ROW(F, i8, -128.0, 128.0, -128, 127)                                                  \
    KILN_INT_ROW(F, u8, 0.0, 256.0, 0, 255)                                                        \
    KILN_INT_ROW(F, i16, -32768.0, 32768.0, -32768, 32767)                                         \
    KILN_INT_ROW(F, u16, 0.0, 65536.0, 0, 65535)                                                   \
    KILN_INT_ROW(F, i32, -2147483648.0, 2147483648.0, -2147483647 - 1, 2147483647)                 \
    KILN_INT_ROW(F, u32, 0.0, 4294967296.0, 0, 4294967295u)                                        \
    KILN_INT_ROW(F, i64, -9223372036854775808.0, 9223372036854775808.0,                            \
                 -9223372036854775807ll - 1, 9223372036854775807ll)                                \
    KILN_INT_ROW(F, u64, 0.0, 18446744073709551616.0, 0, 18446744073709551615ull)
KILN_INT_ROWS(f32)
KILN_INT_ROWS(f64)
#endif
