/* Scalar meanings of instructions, written without the printers in mind, and random elements. */
#include "kernel_reference.h"

#include <math.h>

int64_t as_int(kiln_dtype dtype, element x)
{
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    return kiln_dtype_is_signed(dtype) ? (int64_t)(x << shift) >> shift
                                       : (int64_t)(x << shift >> shift);
}

element from_int(kiln_dtype dtype, int64_t x)
{
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    return (uint64_t)x << shift >> shift;
}

float as_f32(element x)
{
    float out;
    memcpy(&out, &x, sizeof out);
    return out;
}

double as_f64(element x)
{
    double out;
    memcpy(&out, &x, sizeof out);
    return out;
}

element from_f32(float x)
{
    element out = 0;
    memcpy(&out, &x, sizeof x);
    return out;
}

element from_f64(double x)
{
    element out;
    memcpy(&out, &x, sizeof x);
    return out;
}

double as_double(kiln_dtype dtype, element x)
{
    return dtype == KILN_f32 ? (double)as_f32(x) : as_f64(x);
}

element from_double(kiln_dtype dtype, double x)
{
    return dtype == KILN_f32 ? from_f32((float)x) : from_f64(x);
}

bool is_same(kiln_dtype dtype, element a, element b)
{
    if (kiln_dtype_is_float(dtype) && isnan(as_double(dtype, a))) return isnan(as_double(dtype, b));
    return a == b;
}

/* The reference. Sums, products and quotients of f32 are exact enough in double to round right. */

static element float_minmax(kiln_dtype dtype, kiln_instr_op op, element a, element b)
{
    double x = as_double(dtype, a), y = as_double(dtype, b);
    bool is_max = op == KILN_K_max;
    if (isnan(x) || isnan(y)) return from_double(dtype, NAN);
    if (x == 0 && y == 0) return is_max == !signbit(x) ? a : b;
    return is_max == (x > y) ? a : b;
}

/* The exponent is made small and whole first. */
static double reference_scale(double x, double y)
{
    y = y < MAX_EXPONENT ? y : MAX_EXPONENT;
    return ldexp(x, (int)(y > -MAX_EXPONENT ? y : -MAX_EXPONENT));
}

static element float_op(kiln_dtype dtype, kiln_instr_op op, element a, element b, element c)
{
    double x = as_double(dtype, a), y = as_double(dtype, b), z = as_double(dtype, c);
    switch ((int)op) {
    case KILN_K_add:
        return from_double(dtype, x + y);
    case KILN_K_sub:
        return from_double(dtype, x - y);
    case KILN_K_mul:
        return from_double(dtype, x * y);
    case KILN_K_div:
        return from_double(dtype, x / y);
    case KILN_K_neg:
        return a ^ (dtype == KILN_f32 ? 0x80000000u : 1ull << 63);
    case KILN_K_abs:
        return a & (dtype == KILN_f32 ? 0x7fffffffu : ~(1ull << 63));
    case KILN_K_copysign:
        return from_double(dtype, copysign(x, y));
    case KILN_K_fma:
        return dtype == KILN_f32 ? from_f32(fmaf((float)x, (float)y, (float)z))
                                 : from_f64(fma(x, y, z));
    case KILN_K_sqrt:
        return from_double(dtype, sqrt(x));
    case KILN_K_floor:
        return from_double(dtype, floor(x));
    case KILN_K_ceil:
        return from_double(dtype, ceil(x));
    case KILN_K_trunc:
        return from_double(dtype, trunc(x));
    case KILN_K_round_even:
        return from_double(dtype, rint(x));
    case KILN_K_scale:
        return from_double(dtype, reference_scale(x, y));
    case KILN_K_max_fast:
        return x > y ? a : b;
    case KILN_K_min_fast:
        return x < y ? a : b;
    case KILN_K_eq:
        return x == y;
    case KILN_K_ne:
        return x != y;
    case KILN_K_lt:
        return x < y;
    case KILN_K_le:
        return x <= y;
    case KILN_K_gt:
        return x > y;
    case KILN_K_ge:
        return x >= y;
    default:
        return float_minmax(dtype, op, a, b);
    }
}

static int64_t unsigned_op(kiln_instr_op op, uint64_t x, uint64_t y)
{
    switch ((int)op) {
    case KILN_K_div:
        return (int64_t)(x / y);
    case KILN_K_rem:
        return (int64_t)(x % y);
    case KILN_K_shr:
        return (int64_t)(x >> y);
    case KILN_K_max:
    case KILN_K_max_fast:
        return (int64_t)(x > y ? x : y);
    case KILN_K_min:
    case KILN_K_min_fast:
        return (int64_t)(x < y ? x : y);
    case KILN_K_lt:
        return x < y;
    case KILN_K_le:
        return x <= y;
    case KILN_K_gt:
        return x > y;
    default:
        return x >= y;
    }
}

static int64_t signed_op(kiln_instr_op op, int64_t x, int64_t y)
{
    switch ((int)op) {
    case KILN_K_div:
        return x / y;
    case KILN_K_rem:
        return x % y;
    case KILN_K_shr:
        return x >> y;
    case KILN_K_max:
    case KILN_K_max_fast:
        return x > y ? x : y;
    case KILN_K_min:
    case KILN_K_min_fast:
        return x < y ? x : y;
    case KILN_K_lt:
        return x < y;
    case KILN_K_le:
        return x <= y;
    case KILN_K_gt:
        return x > y;
    default:
        return x >= y;
    }
}

static int64_t count_bits(kiln_dtype dtype, kiln_instr_op op, element a)
{
    if (op == KILN_K_popcnt) return __builtin_popcountll(a);
    int64_t bits = 8 * (int64_t)kiln_dtype_bytes(dtype);
    return a ? __builtin_clzll(a) - (64 - bits) : bits;
}

static int64_t int_op(kiln_dtype dtype, kiln_instr_op op, element a, element b)
{
    uint64_t x = (uint64_t)as_int(dtype, a), y = (uint64_t)as_int(dtype, b);
    switch ((int)op) {
    case KILN_K_add:
        return (int64_t)(x + y);
    case KILN_K_sub:
        return (int64_t)(x - y);
    case KILN_K_mul:
        return (int64_t)(x * y);
    case KILN_K_neg:
        return (int64_t)-x;
    case KILN_K_eq:
        return x == y;
    case KILN_K_ne:
        return x != y;
    case KILN_K_and:
        return (int64_t)(x & y);
    case KILN_K_or:
        return (int64_t)(x | y);
    case KILN_K_xor:
        return (int64_t)(x ^ y);
    case KILN_K_not:
        return dtype == KILN_bool ? !x : (int64_t)~x;
    case KILN_K_shl:
        return (int64_t)(x << y);
    case KILN_K_popcnt:
    case KILN_K_clz:
        return count_bits(dtype, op, a);
    default:
        return kiln_dtype_is_signed(dtype) ? signed_op(op, (int64_t)x, (int64_t)y)
                                           : unsigned_op(op, x, y);
    }
}

static int64_t dot4(kiln_instr_op op, element a, element b, element c)
{
    bool is_a_signed = op == KILN_K_dot4_i8 || op == KILN_K_dot4_i8u8;
    bool is_b_signed = op == KILN_K_dot4_i8 || op == KILN_K_dot4_u8i8;
    int64_t sum = (int32_t)c;
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        uint8_t x = (uint8_t)(a >> shift), y = (uint8_t)(b >> shift);
        sum += (is_a_signed ? (int8_t)x : x) * (is_b_signed ? (int8_t)y : y);
    }
    return sum;
}

static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

/* The bf16 number in the upper half, below 2^-126 zero. */
static float upper_half(uint32_t bits)
{
    float value;
    bits &= 0xffff0000;
    memcpy(&value, &bits, 4);
    return flush(value);
}

static element dot2(element a, element b, element c)
{
    uint32_t bits = (uint32_t)c;
    float sum;
    memcpy(&sum, &bits, 4);
    sum = flush(sum);
    for (uint32_t shift = 0; shift <= 16; shift += 16)
        sum = flush(fmaf(upper_half((uint32_t)a << shift), upper_half((uint32_t)b << shift), sum));
    memcpy(&bits, &sum, 4);
    return bits;
}

element reference(kiln_dtype dtype, kiln_instr_op op, element a, element b, element c)
{
    if (op >= KILN_K_dot4_i8 && op <= KILN_K_dot4_u8) return from_int(dtype, dot4(op, a, b, c));
    if (op == KILN_K_dot2_bf16) return dot2(a, b, c);
    if (op == KILN_K_select) return a & 1 ? b : c;
    if (kiln_dtype_is_float(dtype)) return float_op(dtype, op, a, b, c);
    bool is_compare = kiln_instr_rule_of(op) == KILN_RULE_COMPARE;
    return from_int(is_compare ? KILN_bool : dtype, int_op(dtype, op, a, b));
}

static element float_to_int(kiln_dtype to, double x)
{
    uint32_t bits = 8 * (uint32_t)kiln_dtype_bytes(to);
    bool is_signed = kiln_dtype_is_signed(to);
    double high = ldexp(1, (int)bits - is_signed), low = is_signed ? -high : 0;
    if (isnan(x)) return 0;
    if (x >= high) return is_signed ? (1ull << (bits - 1)) - 1 : ~0ull >> (64 - bits);
    if (x <= low) return is_signed ? from_int(to, INT64_MIN >> (64 - bits)) : 0;
    return is_signed ? from_int(to, (int64_t)x) : (uint64_t)x;
}

element reference_convert(kiln_dtype from, kiln_dtype to, element a)
{
    bool is_from_float = kiln_dtype_is_float(from), is_to_float = kiln_dtype_is_float(to);
    if (to == KILN_bool) return is_from_float ? as_double(from, a) != 0 : a != 0;
    if (is_from_float && is_to_float) return from_double(to, as_double(from, a));
    if (is_from_float) return float_to_int(to, as_double(from, a));
    int64_t x = as_int(from, a);
    if (!is_to_float) return from_int(to, x);
    if (to == KILN_f32) return from_f32(from == KILN_u64 ? (float)(uint64_t)x : (float)x);
    return from_f64(from == KILN_u64 ? (double)(uint64_t)x : (double)x);
}

/* Data. */

uint64_t random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

element random_float(kiln_dtype dtype)
{
    static const double special[] = {0.0,  -0.0, INFINITY, -INFINITY, NAN,    1e-310, 1.5,
                                     -2.5, 0.5,  3e9,      -3e9,      1.8e19, 255.5,  1e-42};
    uint64_t bits = random_bits();
    if (bits % 3 == 0)
        return from_double(dtype, special[bits / 3 % (sizeof special / sizeof *special)]);
    if (bits % 3 == 1) return from_double(dtype, (double)(int64_t)(bits >> 40) / 1024 - 8000);
    return dtype == KILN_f32 ? bits >> 32 : bits;
}

element random_element(kiln_dtype dtype)
{
    static const int64_t special[] = {0,    1,   -1,    INT64_MAX, INT64_MIN, 127,
                                      -128, 255, 32767, INT32_MAX, INT32_MIN, 65535};
    uint64_t bits = random_bits();
    if (dtype == KILN_bool) return bits & 1;
    if (kiln_dtype_is_float(dtype)) return random_float(dtype);
    if (bits % 2) return from_int(dtype, special[bits / 2 % (sizeof special / sizeof *special)]);
    return from_int(dtype, (int64_t)(bits >> (bits % 60)));
}

/* The second operand of div, rem, shl and shr. */
element random_guarded(kiln_dtype dtype)
{
    return kiln_dtype_is_int(dtype) ? 1 + random_bits() % (8 * kiln_dtype_bytes(dtype) - 1)
                                    : random_element(dtype);
}
