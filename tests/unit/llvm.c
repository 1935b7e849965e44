/* The LLVM backend against plain C: every instruction for every dtype and several lane counts, on every
 * CPU model that this machine can run (the others are compiled, not run, which the output says). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/backend.h"
#include "kiln/runtime.h"

#define LANES_MAX 16
#define SLOTS 64 /* results of one kernel */

static const char *const machines[] = {"x86-64", "x86-64-v3", "x86-64-v4"};
static const uint32_t lane_counts[] = {1, 8, 13, 16};
static const kiln_dtype dtypes[] = {KILN_bool, KILN_i8,  KILN_u8,  KILN_i16, KILN_u16, KILN_i32,
                                    KILN_u32,  KILN_i64, KILN_u64, KILN_f32, KILN_f64};
#define N_DTYPES (sizeof dtypes / sizeof *dtypes)

/* An element: its bits, low bytes first. */
typedef uint64_t element;

static bool is_runnable(const char *name)
{
    return (kiln_machine_find(name)->cpu_features & ~kiln_cpu_features()) == 0;
}

static int64_t as_int(kiln_dtype dtype, element x)
{
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    return kiln_dtype_is_signed(dtype) ? (int64_t)(x << shift) >> shift : (int64_t)(x << shift >> shift);
}

static element from_int(kiln_dtype dtype, int64_t x)
{
    uint32_t shift = 64 - 8 * (uint32_t)kiln_dtype_bytes(dtype);
    return (uint64_t)x << shift >> shift;
}

static float as_f32(element x)
{
    float out;
    memcpy(&out, &x, sizeof out);
    return out;
}

static double as_f64(element x)
{
    double out;
    memcpy(&out, &x, sizeof out);
    return out;
}

static element from_f32(float x)
{
    element out = 0;
    memcpy(&out, &x, sizeof x);
    return out;
}

static element from_f64(double x)
{
    element out;
    memcpy(&out, &x, sizeof x);
    return out;
}

static double as_double(kiln_dtype dtype, element x)
{
    return dtype == KILN_f32 ? (double)as_f32(x) : as_f64(x);
}

static element from_double(kiln_dtype dtype, double x)
{
    return dtype == KILN_f32 ? from_f32((float)x) : from_f64(x);
}

static bool is_same(kiln_dtype dtype, element a, element b)
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

static element float_op(kiln_dtype dtype, kiln_instr_op op, element a, element b, element c)
{
    double x = as_double(dtype, a), y = as_double(dtype, b), z = as_double(dtype, c);
    switch ((int)op) {
    case KILN_K_add: return from_double(dtype, x + y);
    case KILN_K_sub: return from_double(dtype, x - y);
    case KILN_K_mul: return from_double(dtype, x * y);
    case KILN_K_div: return from_double(dtype, x / y);
    case KILN_K_neg: return a ^ (dtype == KILN_f32 ? 0x80000000u : 1ull << 63);
    case KILN_K_abs: return a & (dtype == KILN_f32 ? 0x7fffffffu : ~(1ull << 63));
    case KILN_K_copysign: return from_double(dtype, copysign(x, y));
    case KILN_K_fma: return dtype == KILN_f32 ? from_f32(fmaf((float)x, (float)y, (float)z)) : from_f64(fma(x, y, z));
    case KILN_K_sqrt: return from_double(dtype, sqrt(x));
    case KILN_K_floor: return from_double(dtype, floor(x));
    case KILN_K_ceil: return from_double(dtype, ceil(x));
    case KILN_K_trunc: return from_double(dtype, trunc(x));
    case KILN_K_round_even: return from_double(dtype, rint(x));
    case KILN_K_max_fast: return x > y ? a : b;
    case KILN_K_min_fast: return x < y ? a : b;
    case KILN_K_eq: return x == y;
    case KILN_K_ne: return x != y;
    case KILN_K_lt: return x < y;
    case KILN_K_le: return x <= y;
    case KILN_K_gt: return x > y;
    case KILN_K_ge: return x >= y;
    default: return float_minmax(dtype, op, a, b);
    }
}

static int64_t unsigned_op(kiln_instr_op op, uint64_t x, uint64_t y)
{
    switch ((int)op) {
    case KILN_K_div: return (int64_t)(x / y);
    case KILN_K_rem: return (int64_t)(x % y);
    case KILN_K_shr: return (int64_t)(x >> y);
    case KILN_K_max: case KILN_K_max_fast: return (int64_t)(x > y ? x : y);
    case KILN_K_min: case KILN_K_min_fast: return (int64_t)(x < y ? x : y);
    case KILN_K_lt: return x < y;
    case KILN_K_le: return x <= y;
    case KILN_K_gt: return x > y;
    default: return x >= y;
    }
}

static int64_t signed_op(kiln_instr_op op, int64_t x, int64_t y)
{
    switch ((int)op) {
    case KILN_K_div: return x / y;
    case KILN_K_rem: return x % y;
    case KILN_K_shr: return x >> y;
    case KILN_K_max: case KILN_K_max_fast: return x > y ? x : y;
    case KILN_K_min: case KILN_K_min_fast: return x < y ? x : y;
    case KILN_K_lt: return x < y;
    case KILN_K_le: return x <= y;
    case KILN_K_gt: return x > y;
    default: return x >= y;
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
    case KILN_K_add: return (int64_t)(x + y);
    case KILN_K_sub: return (int64_t)(x - y);
    case KILN_K_mul: return (int64_t)(x * y);
    case KILN_K_neg: return (int64_t)-x;
    case KILN_K_eq: return x == y;
    case KILN_K_ne: return x != y;
    case KILN_K_and: return (int64_t)(x & y);
    case KILN_K_or: return (int64_t)(x | y);
    case KILN_K_xor: return (int64_t)(x ^ y);
    case KILN_K_not: return dtype == KILN_bool ? !x : (int64_t)~x;
    case KILN_K_shl: return (int64_t)(x << y);
    case KILN_K_popcnt: case KILN_K_clz: return count_bits(dtype, op, a);
    default: return kiln_dtype_is_signed(dtype) ? signed_op(op, (int64_t)x, (int64_t)y) : unsigned_op(op, x, y);
    }
}

static element reference(kiln_dtype dtype, kiln_instr_op op, element a, element b, element c)
{
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

static element reference_convert(kiln_dtype from, kiln_dtype to, element a)
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

static uint64_t random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static element random_float(kiln_dtype dtype)
{
    static const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-310, 1.5, -2.5, 0.5, 3e9, -3e9, 1.8e19, 255.5, 1e-42};
    uint64_t bits = random_bits();
    if (bits % 3 == 0) return from_double(dtype, special[bits / 3 % (sizeof special / sizeof *special)]);
    if (bits % 3 == 1) return from_double(dtype, (double)(int64_t)(bits >> 40) / 1024 - 8000);
    return dtype == KILN_f32 ? bits >> 32 : bits;
}

static element random_element(kiln_dtype dtype)
{
    static const int64_t special[] = {0, 1, -1, INT64_MAX, INT64_MIN, 127, -128, 255, 32767, INT32_MAX, INT32_MIN, 65535};
    uint64_t bits = random_bits();
    if (dtype == KILN_bool) return bits & 1;
    if (kiln_dtype_is_float(dtype)) return random_float(dtype);
    if (bits % 2) return from_int(dtype, special[bits / 2 % (sizeof special / sizeof *special)]);
    return from_int(dtype, (int64_t)(bits >> (bits % 60)));
}

/* The second operand of div, rem, shl and shr. */
static element random_guarded(kiln_dtype dtype)
{
    return kiln_dtype_is_int(dtype) ? 1 + random_bits() % (8 * kiln_dtype_bytes(dtype) - 1) : random_element(dtype);
}

/* One kernel at work: parameters are arrays of SLOTS * LANES_MAX elements, owned by the scope. */
typedef struct bench {
    kiln_scope scope;
    kiln_error error;
    const kiln_backend *backend;
    const kiln_machine *machine;
    kiln_kernel *k;
    kiln_vec(void *) buffers;
    uint32_t lanes;
    kiln_kv zero, tile;
} bench;

static bench b;

#define CHECKED(call)                                                                              \
    do {                                                                                           \
        if (!(call)) fail_msg("%s lanes %u: %s", b.machine->name, b.lanes, b.error.message);       \
    } while (0)

static void bench_open(const char *machine, uint32_t lanes)
{
    memset(&b, 0, sizeof b);
    kiln_scope_open(&b.scope, &b.error);
    b.machine = kiln_machine_find(machine);
    b.lanes = lanes;
    b.k = kiln_kernel_create(&b.scope, b.machine, "test");
    b.zero = kiln_k_const_i64(b.k, 0);
}

static uint32_t bench_param(kiln_dtype dtype, bool is_written)
{
    kiln_param param = {.dtype = dtype, .n_elements = SLOTS * LANES_MAX, .is_read = true,
                        .is_written = is_written, .alignment = 16};
    kiln_vec_push(&b.buffers, &b.scope.arena, kiln_arena_alloc(&b.scope.arena, 8 * SLOTS * LANES_MAX));
    return kiln_kernel_add_param(b.k, &param);
}

static void bench_body(void)
{
    kiln_kv begin = kiln_k_tile_begin(b.k), end = kiln_k_tile_end(b.k);
    b.tile = kiln_k_loop(b.k, KILN_LOOP_TILES, begin, end, 1);
}

static element get(uint32_t buffer, uint32_t i)
{
    size_t bytes = kiln_dtype_bytes(b.k->params.at[buffer].dtype);
    element out = 0;
    memcpy(&out, (char *)b.buffers.at[buffer] + i * bytes, bytes);
    return out;
}

static void put(uint32_t buffer, uint32_t i, element x)
{
    size_t bytes = kiln_dtype_bytes(b.k->params.at[buffer].dtype);
    memcpy((char *)b.buffers.at[buffer] + i * bytes, &x, bytes);
}

/* Compiles, and runs tiles 0 … n_tiles - 1 where the machine can. False: not run. */
static bool bench_run(uint32_t n_tiles)
{
    kiln_object object;
    kiln_code *code;
    while (b.k->open_loops.n) kiln_k_end(b.k);
    if (!kiln_scope_try(&b.scope)) fail_msg("%s lanes %u: %s", b.machine->name, b.lanes, b.error.message);
    b.backend = kiln_backend_open(&b.scope, "llvm");
    b.backend->compile(&b.scope, b.k, "k_1", &object);
    if (!is_runnable(b.machine->name)) return false;
    b.backend->load(&b.scope, &object, 1, &code);
    void *scratch = aligned_alloc(64, (size_t)b.k->scratch_bytes + 64);
    kiln_kernel_args args = {.buffers = b.buffers.at, .scratch = scratch};
    b.backend->function(code, 0)(&args, 0, n_tiles);
    free(scratch);
    b.backend->unload(code);
    return true;
}

static void bench_close(void)
{
    kiln_scope_close(&b.scope);
}

static kiln_kv load_at(uint32_t buffer, uint32_t slot)
{
    return kiln_k_load(b.k, buffer, kiln_k_const_i64(b.k, slot * b.lanes), b.lanes, 0, 0);
}

static void store_at(uint32_t buffer, uint32_t slot, kiln_kv value)
{
    kiln_k_store(b.k, buffer, kiln_k_const_i64(b.k, slot * b.lanes), value, 0, 0);
}

/* Arithmetic. */

static bool has_op(kiln_dtype dtype, kiln_instr_op op)
{
    bool is_float = kiln_dtype_is_float(dtype), is_int = kiln_dtype_is_int(dtype);
    bool is_equality = op == KILN_K_eq || op == KILN_K_ne;
    if (op == KILN_K_fma) return is_float && b.machine->has_fma;
    if (op >= KILN_K_floor && op <= KILN_K_round_even) return is_float && b.machine->has_round;
    switch ((int)kiln_instr_rule_of(op)) {
    case KILN_RULE_NUMBER: return is_float || is_int;
    case KILN_RULE_FLOAT: return is_float;
    case KILN_RULE_INTEGER: return is_int;
    case KILN_RULE_BITS: return !is_float;
    case KILN_RULE_COMPARE: return is_float || is_int || is_equality;
    default: return op == KILN_K_select;
    }
}

static bool is_guarded(kiln_instr_op op)
{
    return op == KILN_K_div || op == KILN_K_rem || op == KILN_K_shl || op == KILN_K_shr;
}

/* Buffers: 0 and 1 operands, 2 guarded second operands, 3 conditions, 4 results, 5 bool results. */
static void build_ops(kiln_dtype dtype)
{
    for (uint32_t i = 0; i < 3; i++) bench_param(dtype, false);
    bench_param(KILN_bool, false);
    bench_param(dtype, true);
    bench_param(KILN_bool, true);
    bench_body();
    for (kiln_instr_op op = KILN_K_add; op <= KILN_K_select; op++) {
        if (!has_op(dtype, op)) continue;
        kiln_kv x = load_at(0, op), y = load_at(is_guarded(op) ? 2 : 1, op), z = load_at(2, op), out;
        uint32_t n = kiln_instr_n_args(op), buffer = kiln_instr_rule_of(op) == KILN_RULE_COMPARE ? 5 : 4;
        if (op == KILN_K_select) {
            out = kiln_k_select(b.k, load_at(3, op), y, z);
        } else if (op == KILN_K_fma) {
            out = kiln_k_fma(b.k, x, y, z);
        } else {
            out = n == 1 ? kiln_k_unary(b.k, op, x) : kiln_k_binary(b.k, op, x, y);
        }
        store_at(buffer, op, out);
    }
}

static void check_ops(kiln_dtype dtype)
{
    for (kiln_instr_op op = KILN_K_add; op <= KILN_K_select; op++) {
        for (uint32_t i = op * b.lanes; has_op(dtype, op) && i < (op + 1) * b.lanes; i++) {
            bool is_compare = kiln_instr_rule_of(op) == KILN_RULE_COMPARE;
            element x = get(op == KILN_K_select ? 3 : 0, i), y = get(is_guarded(op) ? 2 : 1, i);
            element expected = reference(dtype, op, x, y, get(2, i)), found = get(is_compare ? 5 : 4, i);
            if (!is_same(is_compare ? KILN_bool : dtype, expected, found))
                fail_msg("%s: %s %sx%u of %llx, %llx, %llx: %llx; expected %llx", b.machine->name,
                         kiln_instr_name(op), kiln_dtype_name(dtype), b.lanes, (long long)x, (long long)y,
                         (long long)get(2, i), (long long)found, (long long)expected);
        }
    }
}

static void try_ops(const char *machine, uint32_t lanes, kiln_dtype dtype)
{
    bench_open(machine, lanes);
    CHECKED(kiln_scope_try(&b.scope));
    build_ops(dtype);
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) {
        put(0, i, random_element(dtype));
        put(1, i, random_element(dtype));
        put(2, i, random_guarded(dtype));
        put(3, i, random_bits() & 1);
    }
    if (bench_run(1)) check_ops(dtype);
    bench_close();
}

static void test_every_operation(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        if (!is_runnable(machines[m])) printf("SKIP running %s: not this processor\n", machines[m]);
        for (size_t l = 0; l < 4; l++) {
            for (size_t d = 0; d < N_DTYPES; d++) try_ops(machines[m], lane_counts[l], dtypes[d]);
        }
    }
}

/* Conversions: buffer 0 the operands, 1 + d the results of dtypes[d]. */

static void check_convert(kiln_dtype from)
{
    for (uint32_t d = 0; d < N_DTYPES; d++) {
        for (uint32_t i = 0; i < 4 * b.lanes && dtypes[d] != from; i++) {
            element x = get(0, i), expected = reference_convert(from, dtypes[d], x), found = get(1 + d, i);
            if (!is_same(dtypes[d], expected, found))
                fail_msg("%s: convert %sx%u %llx to %s: %llx; expected %llx", b.machine->name,
                         kiln_dtype_name(from), b.lanes, (long long)x, kiln_dtype_name(dtypes[d]),
                         (long long)found, (long long)expected);
        }
    }
}

static void try_convert(const char *machine, uint32_t lanes, kiln_dtype from)
{
    bench_open(machine, lanes);
    CHECKED(kiln_scope_try(&b.scope));
    bench_param(from, false);
    for (uint32_t d = 0; d < N_DTYPES; d++) bench_param(dtypes[d], true);
    bench_body();
    for (uint32_t d = 0; d < N_DTYPES; d++) {
        for (uint32_t slot = 0; slot < 4 && dtypes[d] != from; slot++)
            store_at(1 + d, slot, kiln_k_convert(b.k, load_at(0, slot), dtypes[d]));
    }
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) put(0, i, random_element(from));
    if (bench_run(1)) check_convert(from);
    bench_close();
}

static void test_every_conversion(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        for (size_t l = 0; l < 4; l++) {
            for (size_t d = 0; d < N_DTYPES; d++) try_convert(machines[m], lane_counts[l], dtypes[d]);
        }
    }
}

/* Half precision goes through the machine's own instructions: there and back is the identity. */
static void try_half(const char *machine, uint32_t lanes)
{
    bench_open(machine, lanes);
    CHECKED(kiln_scope_try(&b.scope));
    bench_param(KILN_f16, false);
    bench_param(KILN_f16, true);
    bench_param(KILN_f32, true);
    bench_body();
    for (uint32_t slot = 0; slot < 8; slot++) {
        kiln_kv wide = kiln_k_convert(b.k, load_at(0, slot), KILN_f32);
        store_at(1, slot, kiln_k_convert(b.k, wide, KILN_f16));
        store_at(2, slot, wide);
    }
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) put(0, i, random_bits() % 0x7c00);
    put(0, 0, 0x3e00);
    if (bench_run(1)) {
        for (uint32_t i = 0; i < 8 * lanes; i++) assert_int_equal(get(0, i), get(1, i));
        assert_true(as_f32(get(2, 0)) == 1.5f);
    }
    bench_close();
}

static void test_half_round_trip(void **state)
{
    (void)state;
    for (size_t m = 1; m < 3; m++) {
        for (size_t l = 0; l < 4; l++) try_half(machines[m], lane_counts[l]);
    }
}

/* Memory, lanes and loops. */

/* y[i] = 2 x[i] + 1 over 37 elements with a masked tail, in tiles of one vector. */
static void try_pointwise(const char *machine, kiln_dtype dtype, uint32_t flags)
{
    bench_open(machine, 8);
    CHECKED(kiln_scope_try(&b.scope));
    bench_param(dtype, false);
    bench_param(dtype, true);
    bench_body();
    kiln_kv at = kiln_k_mul_imm(b.k, b.tile, 8);
    kiln_kv left = kiln_k_binary(b.k, KILN_K_sub, kiln_k_const_i64(b.k, 37), at);
    kiln_kv mask = kiln_k_active(b.k, 8, left);
    kiln_kv x = kiln_k_load(b.k, 0, at, 8, mask, flags), one = kiln_k_const_int(b.k, KILN_i32, 8, 1);
    one = kiln_k_convert(b.k, one, dtype);
    kiln_kv y = kiln_k_binary(b.k, KILN_K_add, kiln_k_binary(b.k, KILN_K_add, x, x), one);
    kiln_k_store(b.k, 1, at, y, mask, flags);
    for (uint32_t i = 0; i < 100; i++) {
        put(0, i, kiln_dtype_is_float(dtype) ? from_double(dtype, i) : i);
        put(1, i, 99);
    }
    if (bench_run(5)) {
        for (uint32_t i = 0; i < 37; i++) {
            element y_i = kiln_dtype_is_float(dtype) ? from_double(dtype, 2.0 * i + 1) : 2 * i + 1;
            assert_int_equal(get(1, i), y_i);
        }
        for (uint32_t i = 37; i < 100; i++) assert_int_equal(get(1, i), 99);
    }
    bench_close();
}

static void test_pointwise_with_a_masked_tail(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        for (size_t d = 1; d < N_DTYPES; d++) try_pointwise(machines[m], dtypes[d], 0);
        try_pointwise(machines[m], KILN_u16, KILN_MEM_ALIGNED);
    }
}

/* Rows of 20: a carried sum and a carried count, an inner unrolled loop, a loop of no trips, a local. */
static void try_reduction(const char *machine, kiln_loop_kind kind)
{
    bench_open(machine, 4);
    CHECKED(kiln_scope_try(&b.scope));
    bench_param(KILN_f32, false);
    bench_param(KILN_f32, true);
    bench_param(KILN_i64, true);
    uint32_t local = kiln_kernel_add_local(b.k, KILN_f32, 4);
    bench_body();
    kiln_kv start = kiln_k_const_float(b.k, KILN_f32, 4, 0), width = kiln_k_const_i64(b.k, 20);
    kiln_kv base = kiln_k_mul_imm(b.k, b.tile, 20);
    kiln_kv i = kiln_k_loop(b.k, kind, b.zero, width, 4);
    kiln_kv sum = kiln_k_carry(b.k, start), count = kiln_k_carry(b.k, b.zero);
    kiln_kv x = kiln_k_load(b.k, 0, kiln_k_binary(b.k, KILN_K_add, base, i), 4, 0, 0);
    kiln_k_next(b.k, count, kiln_k_binary(b.k, KILN_K_add, count, i));
    kiln_k_next(b.k, sum, kiln_k_binary(b.k, KILN_K_add, sum, x));
    kiln_k_end(b.k);
    kiln_kv total = kiln_k_last(b.k, count);
    kiln_k_store(b.k, local, b.zero, kiln_k_last(b.k, sum), 0, KILN_MEM_ALIGNED);
    kiln_kv j = kiln_k_loop(b.k, kind, b.zero, kiln_k_const_i64(b.k, 4), 1);
    kiln_kv scalar = kiln_k_carry(b.k, kiln_k_const_float(b.k, KILN_f32, 1, 0));
    kiln_kv lane = kiln_k_load(b.k, local, j, 1, 0, 0);
    kiln_k_next(b.k, scalar, kiln_k_binary(b.k, KILN_K_add, scalar, lane));
    kiln_k_end(b.k);
    kiln_k_store(b.k, 1, b.tile, kiln_k_last(b.k, scalar), 0, 0);
    kiln_k_loop(b.k, kind, width, b.zero, 1);
    kiln_kv same = kiln_k_carry(b.k, total);
    kiln_k_next(b.k, same, kiln_k_const_i64(b.k, -1));
    kiln_k_end(b.k);
    kiln_k_store(b.k, 2, b.tile, kiln_k_last(b.k, same), 0, 0);
    for (uint32_t n = 0; n < 100; n++) put(0, n, from_f32((float)n));
    if (bench_run(3)) {
        for (uint32_t row = 0; row < 3; row++) {
            assert_true(as_f32(get(1, row)) == (float)(20 * 20 * row + 190));
            assert_int_equal(get(2, row), 40);
        }
        assert_int_equal(get(2, 3), 0);
    }
    bench_close();
}

static void test_loops_carry_values(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        try_reduction(machines[m], KILN_LOOP_SERIAL);
        try_reduction(machines[m], KILN_LOOP_UNROLL);
    }
}

/* Gather backwards with a mask, scatter to every second place, reverse and widen, look up. */
static void try_lanes(const char *machine, uint32_t lanes, kiln_dtype dtype)
{
    enum { LOOKUP = 0, GATHER = 1, SHUFFLE = 2, SCATTER = 4, SPLAT = 6, BITCAST = 7 };
    int64_t reverse[2 * LANES_MAX];
    uint64_t table[32];
    bench_open(machine, lanes);
    CHECKED(kiln_scope_try(&b.scope));
    bench_param(dtype, false);
    bench_param(dtype, true);
    bench_param(KILN_bool, false);
    for (uint32_t i = 0; i < 32; i++) {
        element x = random_element(dtype);
        memcpy((char *)table + i * kiln_dtype_bytes(dtype), &x, kiln_dtype_bytes(dtype));
    }
    uint32_t n = lanes == 8 ? 32 : lanes == 13 ? 11 : 8;
    uint32_t number = kiln_kernel_add_table(b.k, dtype, n, table);
    bench_body();
    kiln_kv lane32 = kiln_k_lanes(b.k, KILN_i32, lanes), lane64 = kiln_k_lanes(b.k, KILN_i64, lanes);
    kiln_kv turn = kiln_k_binary(b.k, KILN_K_mul, lane32, kiln_k_const_int(b.k, KILN_i32, lanes, 5));
    turn = kiln_k_binary(b.k, KILN_K_rem, turn, kiln_k_const_int(b.k, KILN_i32, lanes, n));
    store_at(1, LOOKUP, kiln_k_lookup(b.k, number, turn));
    kiln_kv back = kiln_k_binary(b.k, KILN_K_sub, kiln_k_const_int(b.k, KILN_i64, lanes, lanes - 1), lane64);
    kiln_kv mask = kiln_k_load(b.k, 2, b.zero, lanes, 0, 0);
    store_at(1, GATHER, kiln_k_gather(b.k, 0, back, mask));
    for (uint32_t i = 0; i < 2 * lanes; i++) reverse[i] = 2 * lanes - 1 - i;
    kiln_kv x = load_at(0, 0), y = load_at(0, 1);
    kiln_kv both = kiln_k_shuffle(b.k, x, y, 2 * lanes, reverse);
    kiln_k_store(b.k, 1, kiln_k_const_i64(b.k, SHUFFLE * lanes), both, 0, 0);
    kiln_kv even = kiln_k_binary(b.k, KILN_K_mul, lane32, kiln_k_const_int(b.k, KILN_i32, lanes, 2));
    even = kiln_k_binary(b.k, KILN_K_add, even, kiln_k_const_int(b.k, KILN_i32, lanes, SCATTER * lanes));
    kiln_k_scatter(b.k, 1, even, x, mask);
    store_at(1, SPLAT, kiln_k_splat(b.k, kiln_k_extract(b.k, x, lanes / 2), lanes));
    store_at(1, BITCAST, x);
    for (uint32_t i = 0; i < 2 * lanes; i++) put(0, i, random_element(dtype));
    for (uint32_t i = 0; i < lanes; i++) put(2, i, random_bits() & 1);
    element zero = 0, lookup_i;
    if (bench_run(1)) {
        for (uint32_t i = 0; i < lanes; i++) {
            lookup_i = 0;
            size_t bytes = kiln_dtype_bytes(dtype);
            memcpy(&lookup_i, (char *)table + i * 5 % n * bytes, bytes);
            assert_int_equal(get(1, LOOKUP * lanes + i), lookup_i);
            assert_int_equal(get(1, GATHER * lanes + i), get(2, i) ? get(0, lanes - 1 - i) : zero);
            assert_int_equal(get(1, SHUFFLE * lanes + i), get(0, 2 * lanes - 1 - i));
            assert_int_equal(get(1, SHUFFLE * lanes + lanes + i), get(0, lanes - 1 - i));
            assert_int_equal(get(1, SCATTER * lanes + 2 * i), get(2, i) ? get(0, i) : zero);
            assert_int_equal(get(1, SPLAT * lanes + i), get(0, lanes / 2));
        }
    }
    bench_close();
}

static void test_lane_moves_and_tables(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        for (size_t l = 0; l < 4; l++) {
            for (size_t d = 0; d < N_DTYPES; d++) try_lanes(machines[m], lane_counts[l], dtypes[d]);
        }
    }
}

/* The same kernel gives the same bytes; streaming and prefetching change no result. */
static void test_compile_is_deterministic(void **state)
{
    (void)state;
    kiln_object first, second;
    for (int stream = 0; stream < 2; stream++) {
        bench_open("x86-64", 4);
        CHECKED(kiln_scope_try(&b.scope));
        bench_param(KILN_f32, false);
        bench_param(KILN_f32, true);
        bench_body();
        kiln_k_prefetch(b.k, 0, kiln_k_add_imm(b.k, b.tile, 4096));
        kiln_k_store(b.k, 1, b.zero, load_at(0, 0), 0, stream ? KILN_MEM_STREAM : 0);
        for (uint32_t i = 0; i < 4; i++) put(0, i, from_f32((float)i));
        assert_true(bench_run(1));
        for (uint32_t i = 0; i < 4; i++) assert_int_equal(get(0, i), get(1, i));
        b.backend->compile(&b.scope, b.k, "k_1", &first);
        b.backend->compile(&b.scope, b.k, "k_1", &second);
        assert_int_equal(first.bytes, second.bytes);
        assert_memory_equal(first.data, second.data, first.bytes);
        kiln_text text = {.arena = &b.scope.arena};
        b.backend->emit(&b.scope, b.k, "k_1", &text);
        assert_int_equal(!strstr(kiln_text_string(&text), "sfence"), !stream);
        bench_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compile_is_deterministic),
        cmocka_unit_test(test_pointwise_with_a_masked_tail),
        cmocka_unit_test(test_loops_carry_values),
        cmocka_unit_test(test_lane_moves_and_tables),
        cmocka_unit_test(test_half_round_trip),
        cmocka_unit_test(test_every_operation),
        cmocka_unit_test(test_every_conversion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
