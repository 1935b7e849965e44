/* The cases of kernel_bench.h and the reference they are held against. */
#include "kernel_bench.h"

#include <math.h>

#include "kernel_reference.h"

#define LANES_MAX 16
#define SLOTS 52 /* results of one kernel */

const kiln_dtype bench_dtypes[] = {KILN_bool, KILN_i8,  KILN_u8,  KILN_i16, KILN_u16, KILN_i32,
                                   KILN_u32,  KILN_i64, KILN_u64, KILN_f32, KILN_f64};
const size_t n_bench_dtypes = sizeof bench_dtypes / sizeof *bench_dtypes;
#define N_DTYPES ((uint32_t)(sizeof bench_dtypes / sizeof *bench_dtypes))

/* Building. */

static uint32_t add_param(bench *b, kiln_dtype dtype, bool is_written)
{
    kiln_param param = {.dtype = dtype,
                        .n_elements = SLOTS * LANES_MAX,
                        .is_read = true,
                        .is_written = is_written,
                        .alignment = 16};
    kiln_vec_push(&b->buffers, &b->scope->arena,
                  kiln_arena_alloc(&b->scope->arena, 8 * SLOTS * LANES_MAX));
    return kiln_kernel_add_param(b->k, &param);
}

static void open_body(bench *b)
{
    kiln_kv begin = kiln_k_tile_begin(b->k), end = kiln_k_tile_end(b->k);
    b->tile = kiln_k_loop(b->k, KILN_LOOP_TILES, begin, end, 1);
    if (b->machine->kind == KILN_MACHINE_GPU)
        kiln_k_loop(b->k, KILN_LOOP_THREADS, b->zero, kiln_k_const_i64(b->k, 1), 1);
}

static element get(const bench *b, uint32_t buffer, uint32_t i)
{
    size_t bytes = kiln_dtype_bytes(b->k->params.at[buffer].dtype);
    element out = 0;
    memcpy(&out, (char *)b->buffers.at[buffer] + i * bytes, bytes);
    return out;
}

static void put(const bench *b, uint32_t buffer, uint32_t i, element x)
{
    size_t bytes = kiln_dtype_bytes(b->k->params.at[buffer].dtype);
    memcpy((char *)b->buffers.at[buffer] + i * bytes, &x, bytes);
}

static kiln_kv load_at(bench *b, uint32_t buffer, uint32_t slot)
{
    return kiln_k_load(b->k, buffer, kiln_k_const_i64(b->k, slot * b->lanes), b->lanes, 0, 0);
}

static void store_at(bench *b, uint32_t buffer, uint32_t slot, kiln_kv value)
{
    kiln_k_store(b->k, buffer, kiln_k_const_i64(b->k, slot * b->lanes), value, 0, 0);
}

static kiln_kv splat_int(bench *b, kiln_dtype dtype, int64_t value)
{
    return kiln_k_const_int(b->k, dtype, b->lanes, value);
}

static void expect(const bench *b, const char *what, kiln_dtype dtype, element found,
                   element expected)
{
    if (!is_same(dtype, expected, found))
        fail_msg("%s %sx%u: %s is %llx; expected %llx", b->machine->name, kiln_dtype_name(b->dtype),
                 b->lanes, what, (long long)found, (long long)expected);
}

/* Arithmetic. Buffers: 0 and 1 operands, 2 guarded second operands, 3 conditions, 4 results, 5 bool
 * ones. */

static bool has_op(const bench *b, kiln_instr_op op)
{
    bool is_float = kiln_dtype_is_float(b->dtype), is_int = kiln_dtype_is_int(b->dtype);
    bool is_equality = op == KILN_K_eq || op == KILN_K_ne;
    if (op >= KILN_K_dot4_i8 && op <= KILN_K_dot4_u8) return b->dtype == KILN_i32;
    if (op == KILN_K_dot2_bf16) return b->dtype == KILN_f32 && b->machine->has_bf16_dot;
    if (op == KILN_K_fma) return is_float && b->machine->has_fma;
    if (op == KILN_K_scale) return b->dtype == KILN_f32 && b->machine->has_scale;
    if (op >= KILN_K_floor && op <= KILN_K_round_even) return is_float && b->machine->has_round;
    switch ((int)kiln_instr_rule_of(op)) {
    case KILN_RULE_NUMBER:
        return is_float || is_int;
    case KILN_RULE_FLOAT:
        return is_float;
    case KILN_RULE_INTEGER:
        return is_int;
    case KILN_RULE_BITS:
        return !is_float;
    case KILN_RULE_COMPARE:
        return is_float || is_int || is_equality;
    default:
        return op == KILN_K_select;
    }
}

static bool is_guarded(kiln_instr_op op)
{
    return op == KILN_K_div || op == KILN_K_rem || op == KILN_K_shl || op == KILN_K_shr;
}

/* What reference_scale does to its second operand. */
static kiln_kv clamped_exponent(bench *b, kiln_kv y)
{
    kiln_kv most = kiln_k_const_float(b->k, KILN_f32, b->lanes, MAX_EXPONENT);
    kiln_kv least = kiln_k_const_float(b->k, KILN_f32, b->lanes, -MAX_EXPONENT);
    y = kiln_k_binary(b->k, KILN_K_min_fast, y, most);
    return kiln_k_unary(b->k, KILN_K_trunc, kiln_k_binary(b->k, KILN_K_max_fast, y, least));
}

static kiln_kv build_op(bench *b, kiln_instr_op op)
{
    kiln_kv x = load_at(b, 0, op), y = load_at(b, is_guarded(op) ? 2 : 1, op),
            z = load_at(b, 2, op);
    if (op == KILN_K_select) return kiln_k_select(b->k, load_at(b, 3, op), y, z);
    if (op == KILN_K_fma) return kiln_k_fma(b->k, x, y, z);
    if (op >= KILN_K_dot4_i8 && op <= KILN_K_dot4_u8) return kiln_k_dot4(b->k, op, x, y, z);
    if (op == KILN_K_dot2_bf16) return kiln_k_dot2(b->k, x, y, z);
    if (op == KILN_K_scale) y = clamped_exponent(b, y);
    return kiln_instr_n_args(op) == 1 ? kiln_k_unary(b->k, op, x) : kiln_k_binary(b->k, op, x, y);
}

static void build_ops(bench *b)
{
    for (uint32_t i = 0; i < 3; i++) add_param(b, b->dtype, false);
    add_param(b, KILN_bool, false);
    add_param(b, b->dtype, true);
    add_param(b, KILN_bool, true);
    open_body(b);
    for (kiln_instr_op op = KILN_K_add; op <= KILN_K_select; op++) {
        uint32_t buffer = kiln_instr_rule_of(op) == KILN_RULE_COMPARE ? 5 : 4;
        if (has_op(b, op)) store_at(b, buffer, op, build_op(b, op));
    }
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) {
        put(b, 0, i, random_element(b->dtype));
        put(b, 1, i, random_element(b->dtype));
        put(b, 2, i, random_guarded(b->dtype));
        put(b, 3, i, random_bits() & 1);
    }
}

static void check_ops(const bench *b)
{
    for (kiln_instr_op op = KILN_K_add; op <= KILN_K_select; op++) {
        bool is_compare = kiln_instr_rule_of(op) == KILN_RULE_COMPARE;
        for (uint32_t i = op * b->lanes; has_op(b, op) && i < (op + 1) * b->lanes; i++) {
            element x = get(b, op == KILN_K_select ? 3 : 0, i),
                    y = get(b, is_guarded(op) ? 2 : 1, i);
            element expected = reference(b->dtype, op, x, y, get(b, 2, i)),
                    found = get(b, is_compare ? 5 : 4, i);
            if (!is_same(is_compare ? KILN_bool : b->dtype, expected, found))
                fail_msg("%s: %s %sx%u of %llx, %llx, %llx: %llx; expected %llx", b->machine->name,
                         kiln_instr_name(op), kiln_dtype_name(b->dtype), b->lanes, (long long)x,
                         (long long)y, (long long)get(b, 2, i), (long long)found,
                         (long long)expected);
        }
    }
}

/* Conversions: buffer 0 the operands, 1 + d the results of dtype d. */

static void build_convert(bench *b)
{
    add_param(b, b->dtype, false);
    for (uint32_t d = 0; d < N_DTYPES; d++) add_param(b, bench_dtypes[d], true);
    open_body(b);
    for (uint32_t d = 0; d < N_DTYPES; d++) {
        for (uint32_t slot = 0; slot < 3 && bench_dtypes[d] != b->dtype; slot++)
            store_at(b, 1 + d, slot, kiln_k_convert(b->k, load_at(b, 0, slot), bench_dtypes[d]));
    }
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) put(b, 0, i, random_element(b->dtype));
}

static void check_convert(const bench *b)
{
    for (uint32_t d = 0; d < N_DTYPES; d++) {
        for (uint32_t i = 0; i < 3 * b->lanes && bench_dtypes[d] != b->dtype; i++) {
            element x = get(b, 0, i);
            char what[64];
            snprintf(what, sizeof what, "%llx to %s", (long long)x,
                     kiln_dtype_name(bench_dtypes[d]));
            expect(b, what, bench_dtypes[d], get(b, 1 + d, i),
                   reference_convert(b->dtype, bench_dtypes[d], x));
        }
    }
}

/* Half precision: there and back is the identity, and every half is what its bits say; back from
 * any float is the nearest half. Buffers: halves, halves, floats, floats, halves. */

static bool has_half(const bench *b)
{
    return b->machine->has_f16 && b->dtype == KILN_f32;
}

static void build_half(bench *b)
{
    add_param(b, KILN_f16, false);
    add_param(b, KILN_f16, true);
    add_param(b, KILN_f32, true);
    add_param(b, KILN_f32, false);
    add_param(b, KILN_f16, true);
    open_body(b);
    for (uint32_t slot = 0; slot < 8; slot++) {
        kiln_kv wide = kiln_k_convert(b->k, load_at(b, 0, slot), KILN_f32);
        store_at(b, 1, slot, kiln_k_convert(b->k, wide, KILN_f16));
        store_at(b, 2, slot, wide);
        store_at(b, 4, slot, kiln_k_convert(b->k, load_at(b, 3, slot), KILN_f16));
    }
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++) {
        put(b, 0, i, random_bits() % 0x7c00 | (random_bits() & 0x8000));
        double spread = ldexp((double)(random_bits() >> 20), (int)(random_bits() % 50) - 80);
        put(b, 3, i, from_f32(i % 7 ? (float)spread : as_f32(random_float(KILN_f32))));
    }
    put(b, 0, 0, 0x7c00);
    put(b, 3, 0, from_f32(65520.0f));
}

static float half_value(element x)
{
    int exponent = (int)(x >> 10 & 31), fraction = (int)(x & 1023);
    float size =
        exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    if (exponent == 31) size = fraction ? NAN : INFINITY;
    return x & 0x8000 ? -size : size;
}

/* The half nearest to x, found by looking: 0x7c00 counts as 65536 for this. */
static element nearest_half(float x)
{
    element best = 0;
    double least = INFINITY, size = fabs((double)x);
    if (isnan(x)) return 0x7e00;
    for (element h = 0; h <= 0x7c00; h++) {
        double distance = fabs((h == 0x7c00 ? 65536.0 : (double)half_value(h)) - size);
        if (size >= 65536.0) distance = h == 0x7c00 ? 0 : INFINITY;
        if (distance < least || (distance == least && h % 2 == 0)) best = h;
        if (distance < least) least = distance;
    }
    return best | (signbit(x) ? 0x8000 : 0);
}

static void check_half(const bench *b)
{
    for (uint32_t i = 0; i < 8 * b->lanes; i++) {
        float x = as_f32(get(b, 3, i));
        element found = get(b, 4, i);
        expect(b, "half there and back", KILN_u16, get(b, 1, i), get(b, 0, i));
        expect(b, "half to float", KILN_f32, get(b, 2, i), from_f32(half_value(get(b, 0, i))));
        if (i < 24 && !(isnan(x) && (found & 0x7fff) > 0x7c00))
            expect(b, "float to half", KILN_u16, found, nearest_half(x));
    }
}

/* bf16 from floats, numbers of every size. Buffers: floats, bf16 patterns. */

static bool has_short(const bench *b)
{
    return b->machine->has_bf16_dot && b->dtype == KILN_f32;
}

static void build_short(bench *b)
{
    add_param(b, KILN_f32, false);
    add_param(b, KILN_bf16, true);
    open_body(b);
    for (uint32_t slot = 0; slot < 8; slot++)
        store_at(b, 1, slot, kiln_k_convert(b->k, load_at(b, 0, slot), KILN_bf16));
    for (uint32_t i = 0; i < SLOTS * LANES_MAX; i++)
        put(b, 0, i, i % 3 ? random_bits() >> 32 : random_float(KILN_f32));
    static const uint32_t edges[] = {0x3f808000, 0x3f818000, 0x7f7fffff, 0x007fffff, 0x80400000};
    put(b, 0, 0, edges[random_bits() % 5]);
}

static void check_short(const bench *b)
{
    for (uint32_t i = 0; i < 8 * b->lanes; i++) {
        uint32_t bits = (uint32_t)get(b, 0, i);
        float x = as_f32(bits);
        if (fabsf(x) < 0x1p-126f) bits &= 0x80000000;
        uint32_t expected = isnan(x) ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        expect(b, "float to bf16", KILN_u16, get(b, 1, i), expected);
    }
}

/* y[i] = 2 x[i] + 1 over 37 elements with a masked tail, in tiles of one vector. */

static void build_pointwise(bench *b)
{
    add_param(b, b->dtype, false);
    add_param(b, b->dtype, true);
    open_body(b);
    kiln_kv at = kiln_k_mul_imm(b->k, b->tile, b->lanes);
    kiln_kv left = kiln_k_binary(b->k, KILN_K_sub, kiln_k_const_i64(b->k, 37), at);
    kiln_kv mask = kiln_k_active(b->k, b->lanes, left);
    kiln_kv x = kiln_k_load(b->k, 0, at, b->lanes, mask, b->flags);
    kiln_kv one = kiln_k_convert(b->k, splat_int(b, KILN_i32, 1), b->dtype);
    kiln_kv y = kiln_k_binary(b->k, KILN_K_add, kiln_k_binary(b->k, KILN_K_add, x, x), one);
    kiln_k_store(b->k, 1, at, y, mask, b->flags);
    for (uint32_t i = 0; i < 100; i++) {
        put(b, 0, i, kiln_dtype_is_float(b->dtype) ? from_double(b->dtype, i) : i);
        put(b, 1, i, 99);
    }
}

static void check_pointwise(const bench *b)
{
    uint32_t n = 40 * b->lanes < 37 ? 40 * b->lanes : 37;
    for (uint32_t i = 0; i < 100; i++) {
        element y = kiln_dtype_is_float(b->dtype) ? from_double(b->dtype, 2.0 * i + 1) : 2 * i + 1;
        expect(b, "pointwise", b->dtype, get(b, 1, i), i < n ? y : 99);
    }
}

static bool is_number(const bench *b)
{
    return b->dtype != KILN_bool;
}

/* Rows of 20: a carried sum and a carried count, two carries that swap, an inner loop over a local,
 * a loop of no trips. */

static kiln_kv build_lane_sum(bench *b, kiln_kv sum)
{
    uint32_t local = kiln_kernel_add_local(b->k, KILN_f32, 4);
    kiln_k_store(b->k, local, b->zero, sum, 0, KILN_MEM_ALIGNED);
    kiln_kv j = kiln_k_loop(b->k, b->kind, b->zero, kiln_k_const_i64(b->k, 4), 1);
    kiln_kv scalar = kiln_k_carry(b->k, kiln_k_const_float(b->k, KILN_f32, 1, 0));
    kiln_kv lane = kiln_k_load(b->k, local, j, 1, 0, 0);
    kiln_k_next(b->k, scalar, kiln_k_binary(b->k, KILN_K_add, scalar, lane));
    kiln_k_end(b->k);
    return kiln_k_last(b->k, scalar);
}

static void build_reduction(bench *b)
{
    add_param(b, KILN_f32, false);
    add_param(b, KILN_f32, true);
    add_param(b, KILN_i64, true);
    open_body(b);
    kiln_kv start = kiln_k_const_float(b->k, KILN_f32, 4, 0), width = kiln_k_const_i64(b->k, 20);
    kiln_kv base = kiln_k_mul_imm(b->k, b->tile, 20);
    kiln_kv i = kiln_k_loop(b->k, b->kind, b->zero, width, 4);
    kiln_kv sum = kiln_k_carry(b->k, start), count = kiln_k_carry(b->k, b->zero);
    kiln_kv odd = kiln_k_carry(b->k, b->zero), even = kiln_k_carry(b->k, kiln_k_const_i64(b->k, 1));
    kiln_kv x = kiln_k_load(b->k, 0, kiln_k_binary(b->k, KILN_K_add, base, i), 4, 0, 0);
    kiln_k_next(b->k, count, kiln_k_binary(b->k, KILN_K_add, count, i));
    kiln_k_next(b->k, odd, even);
    kiln_k_next(b->k, even, odd);
    kiln_k_next(b->k, sum, kiln_k_binary(b->k, KILN_K_add, sum, x));
    kiln_k_end(b->k);
    kiln_kv total =
        kiln_k_binary(b->k, KILN_K_add, kiln_k_last(b->k, count), kiln_k_last(b->k, odd));
    kiln_k_store(b->k, 1, b->tile, build_lane_sum(b, kiln_k_last(b->k, sum)), 0, 0);
    kiln_k_loop(b->k, b->kind, width, b->zero, 1);
    kiln_kv same = kiln_k_carry(b->k, total);
    kiln_k_next(b->k, same, kiln_k_const_i64(b->k, -1));
    kiln_k_end(b->k);
    kiln_k_store(b->k, 2, b->tile, kiln_k_last(b->k, same), 0, 0);
    for (uint32_t n = 0; n < 100; n++) put(b, 0, n, from_f32((float)n));
}

static void check_reduction(const bench *b)
{
    for (uint32_t row = 0; row < 3; row++) {
        expect(b, "row sum", KILN_f32, get(b, 1, row), from_f32((float)(20 * 20 * row + 190)));
        expect(b, "row count", KILN_i64, get(b, 2, row),
               41); /* 0 + 4 + … + 16, and five swaps from 0 */
    }
    expect(b, "past the last row", KILN_i64, get(b, 2, 3), 0);
}

static bool is_float_of_four(const bench *b)
{
    return b->dtype == KILN_f32 && b->lanes <= 4;
}

/* Look up, gather backwards with a mask, reverse two, scatter to every second place, splat. */

enum { LOOKUP = 0, GATHER = 1, SHUFFLE = 2, SCATTER = 4, SPLAT = 6 };

static uint32_t table_entries(const bench *b)
{
    return b->lanes == 8 ? 32 : b->lanes == 13 ? 11 : 8;
}

static void build_gathers(bench *b)
{
    int64_t reverse[2 * LANES_MAX];
    kiln_kv lane32 = kiln_k_lanes(b->k, KILN_i32, b->lanes),
            lane64 = kiln_k_lanes(b->k, KILN_i64, b->lanes);
    kiln_kv back = kiln_k_binary(b->k, KILN_K_sub, splat_int(b, KILN_i64, b->lanes - 1), lane64);
    kiln_kv mask = kiln_k_load(b->k, 2, b->zero, b->lanes, 0, 0), x = load_at(b, 0, 0),
            y = load_at(b, 0, 1);
    store_at(b, 1, GATHER, kiln_k_gather(b->k, 0, back, mask));
    for (uint32_t i = 0; i < 2 * b->lanes; i++) reverse[i] = 2 * b->lanes - 1 - i;
    kiln_kv both = kiln_k_shuffle(b->k, x, y, 2 * b->lanes, reverse);
    kiln_k_store(b->k, 1, kiln_k_const_i64(b->k, SHUFFLE * b->lanes), both, 0, 0);
    kiln_kv even = kiln_k_binary(b->k, KILN_K_mul, lane32, splat_int(b, KILN_i32, 2));
    even = kiln_k_binary(b->k, KILN_K_add, even, splat_int(b, KILN_i32, SCATTER * b->lanes));
    kiln_k_scatter(b->k, 1, even, x, mask);
    store_at(b, 1, SPLAT, kiln_k_splat(b->k, kiln_k_extract(b->k, x, b->lanes / 2), b->lanes));
}

static void build_lanes(bench *b)
{
    uint64_t table[32];
    uint32_t n = table_entries(b);
    add_param(b, b->dtype, false);
    add_param(b, b->dtype, true);
    add_param(b, KILN_bool, false);
    for (uint32_t i = 0; i < 32; i++) {
        element x = random_element(b->dtype);
        memcpy((char *)table + i * kiln_dtype_bytes(b->dtype), &x, kiln_dtype_bytes(b->dtype));
    }
    uint32_t number = kiln_kernel_add_table(b->k, b->dtype, n, table);
    b->table = b->k->tables.at[number].data;
    open_body(b);
    kiln_kv turn = kiln_k_binary(b->k, KILN_K_mul, kiln_k_lanes(b->k, KILN_i32, b->lanes),
                                 splat_int(b, KILN_i32, 5));
    turn = kiln_k_binary(b->k, KILN_K_rem, turn, splat_int(b, KILN_i32, n));
    store_at(b, 1, LOOKUP, kiln_k_lookup(b->k, number, turn));
    build_gathers(b);
    for (uint32_t i = 0; i < 2 * b->lanes; i++) put(b, 0, i, random_element(b->dtype));
    for (uint32_t i = 0; i < b->lanes; i++) put(b, 2, i, random_bits() & 1);
}

static void check_lanes(const bench *b)
{
    uint32_t n = b->lanes;
    size_t bytes = kiln_dtype_bytes(b->dtype);
    for (uint32_t i = 0; i < n; i++) {
        element entry = 0;
        memcpy(&entry, (const char *)b->table + i * 5 % table_entries(b) * bytes, bytes);
        expect(b, "lookup", b->dtype, get(b, 1, LOOKUP * n + i), entry);
        expect(b, "gather", b->dtype, get(b, 1, GATHER * n + i),
               get(b, 2, i) ? get(b, 0, n - 1 - i) : 0);
        expect(b, "shuffle", b->dtype, get(b, 1, SHUFFLE * n + i), get(b, 0, 2 * n - 1 - i));
        expect(b, "shuffle", b->dtype, get(b, 1, SHUFFLE * n + n + i), get(b, 0, n - 1 - i));
        expect(b, "scatter", b->dtype, get(b, 1, SCATTER * n + 2 * i),
               get(b, 2, i) ? get(b, 0, i) : 0);
        expect(b, "splat", b->dtype, get(b, 1, SPLAT * n + i), get(b, 0, n / 2));
    }
}

const bench_case bench_cases[] = {
    {"ops", 1, 1, NULL, build_ops, check_ops},
    {"convert", 1, 1, NULL, build_convert, check_convert},
    {"half", 1, 1, has_half, build_half, check_half},
    {"short", 1, 1, has_short, build_short, check_short},
    {"pointwise", 40, 1, is_number, build_pointwise, check_pointwise},
    {"reduction", 3, 2, is_float_of_four, build_reduction, check_reduction},
    {"lanes", 1, 1, NULL, build_lanes, check_lanes},
};
const size_t n_bench_cases = sizeof bench_cases / sizeof *bench_cases;

bench *bench_create(kiln_scope *scope, const bench_case *row, const bench_spec *spec)
{
    const kiln_machine *machine = kiln_machine_find(spec->machine);
    bench *b = kiln_new(&scope->arena, bench);
    *b = (bench){.scope = scope,
                 .machine = machine,
                 .dtype = spec->dtype,
                 .lanes = spec->lanes,
                 .kind = spec->variant ? KILN_LOOP_UNROLL : KILN_LOOP_SERIAL};
    if (row->fits && !row->fits(b)) return NULL;
    b->k = kiln_kernel_create(scope, machine, row->name);
    b->k->n_tiles = row->n_tiles;
    b->k->block_threads = machine->kind == KILN_MACHINE_GPU;
    b->zero = kiln_k_const_i64(b->k, 0);
    row->build(b);
    while (b->k->open_loops.n) kiln_k_end(b->k);
    return b;
}
