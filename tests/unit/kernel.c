/* Kernels: what the builders fold, how a kernel prints, and that the verifier refuses broken ones.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/kernel.h"

typedef struct fixture {
    kiln_scope scope;
    kiln_error error;
    kiln_kernel *k;
    kiln_kv tile;
} fixture;

static fixture fix;

static kiln_kernel *begin(const char *machine)
{
    fix = (fixture){0};
    kiln_scope_open(&fix.scope, &fix.error);
    fix.k = kiln_kernel_create(&fix.scope, kiln_machine_find(machine), "test");
    fix.k->n_tiles = 4;
    kiln_param in = {.dtype = KILN_f32, .n_elements = 100, .is_read = true, .alignment = 64};
    kiln_param out = {.dtype = KILN_f32, .n_elements = 100, .is_written = true, .alignment = 4};
    kiln_kernel_add_param(fix.k, &in);
    kiln_kernel_add_param(fix.k, &out);
    return fix.k;
}

static kiln_kv open_tiles(kiln_kernel *k)
{
    kiln_kv begin_tile = kiln_k_tile_begin(k), end_tile = kiln_k_tile_end(k);
    return kiln_k_loop(k, KILN_LOOP_TILES, begin_tile, end_tile, 1);
}

static void finish(void)
{
    kiln_scope_close(&fix.scope);
}

static int64_t value_of(kiln_kv value)
{
    int64_t out = INT64_MIN;
    assert_true(kiln_kernel_is_const(fix.k, value, &out));
    return out;
}

static void test_constants_are_interned_and_folded(void **state)
{
    (void)state;
    kiln_kernel *k = begin("x86-64-v3");
    kiln_kv two = kiln_k_const_i64(k, 2), three = kiln_k_const_i64(k, 3);
    assert_int_equal(two, kiln_k_const_i64(k, 2));
    assert_int_equal(value_of(kiln_k_binary(k, KILN_K_add, two, three)), 5);
    assert_int_equal(value_of(kiln_k_div_imm(k, kiln_k_const_i64(k, 17), 4)), 4);
    assert_int_equal(value_of(kiln_k_rem_imm(k, kiln_k_const_i64(k, 17), 5)), 2);
    assert_int_equal(value_of(kiln_k_min(k, two, three)), 2);
    assert_int_equal(value_of(kiln_k_max(k, kiln_k_const_i64(k, -1), three)), 3);
    kiln_kv x = kiln_k_tile_begin(k);
    assert_int_equal(kiln_k_add_imm(k, x, 0), x);
    assert_int_equal(kiln_k_mul_imm(k, x, 1), x);
    assert_int_equal(value_of(kiln_k_mul_imm(k, x, 0)), 0);
    kiln_kv six = kiln_k_add_imm(k, kiln_k_add_imm(k, x, 2), 4);
    assert_int_equal(kiln_kernel_at(k, six)->args[0], x);
    assert_int_equal(value_of(kiln_kernel_at(k, six)->args[1]), 6);
    kiln_kv is_less = kiln_k_binary(k, KILN_K_lt, two, three);
    assert_int_equal(kiln_k_select(k, is_less, x, two), x);
    kiln_kv big = kiln_k_const_int(k, KILN_u64, 8, -1), one = kiln_k_const_int(k, KILN_u64, 8, 1);
    assert_int_equal(value_of(kiln_k_binary(k, KILN_K_lt, big, one)), 0);
    assert_int_equal(value_of(kiln_k_max(k, big, one)), -1);
    kiln_kv byte = kiln_k_const_int(k, KILN_u8, 4, 200);
    assert_int_equal(value_of(kiln_k_binary(k, KILN_K_add, byte, byte)), 144);
    assert_int_equal(value_of(kiln_k_convert(k, byte, KILN_i8)), -56);
    finish();
}

static void test_masks_that_are_constant_vanish(void **state)
{
    (void)state;
    kiln_kernel *k = begin("x86-64-v3");
    kiln_kv zero = kiln_k_const_i64(k, 0);
    assert_int_equal(kiln_k_active(k, 8, kiln_k_const_i64(k, 8)), 0);
    assert_int_not_equal(kiln_k_active(k, 8, kiln_k_const_i64(k, 7)), 0);
    kiln_kv off = kiln_k_const_int(k, KILN_bool, 8, 0), on = kiln_k_const_int(k, KILN_bool, 8, 1);
    open_tiles(k);
    kiln_kv all = kiln_k_load(k, 0, zero, 8, on, 0);
    assert_int_equal(kiln_kernel_at(k, all)->args[1], 0);
    assert_int_equal(kiln_kernel_at(k, kiln_k_load(k, 0, zero, 8, off, 0))->op, KILN_K_const);
    uint32_t n = k->instrs.n;
    kiln_k_store(k, 1, zero, all, off, 0);
    assert_int_equal(k->instrs.n, n);
    finish();
}

/* A sum over rows of 20 with a masked tail. */
static void build_row_sum(kiln_kernel *k)
{
    kiln_kv zero = kiln_k_const_i64(k, 0), width = kiln_k_const_i64(k, 20);
    kiln_kv row = open_tiles(k);
    kiln_kv base = kiln_k_mul_imm(k, row, 20);
    kiln_kv start = kiln_k_const_float(k, KILN_f32, 8, 0.0);
    kiln_kv i = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, width, 8);
    kiln_kv sum = kiln_k_carry(k, start);
    kiln_kv mask = kiln_k_active(k, 8, kiln_k_binary(k, KILN_K_sub, width, i));
    kiln_kv x = kiln_k_load(k, 0, kiln_k_binary(k, KILN_K_add, base, i), 8, mask, 0);
    kiln_k_next(k, sum, kiln_k_binary(k, KILN_K_add, sum, x));
    kiln_k_end(k);
    kiln_kv low = kiln_k_extract(k, kiln_k_last(k, sum), 0);
    kiln_k_store(k, 1, row, low, 0, KILN_MEM_ALIGNED);
    kiln_k_end(k);
}

static void test_text(void **state)
{
    (void)state;
    kiln_kernel *k = begin("x86-64-v3");
    uint32_t local = kiln_kernel_add_local(k, KILN_u8, 100);
    kiln_kernel_add_local(k, KILN_f64, 1);
    kiln_kernel_add_table(k, KILN_i32, 2, (int32_t[]){5, -6});
    assert_int_equal(local, KILN_LOCAL_FIRST);
    build_row_sum(k);
    assert_int_equal(kiln_kernel_verify(k, &fix.error), KILN_OK);
    kiln_text text = {.arena = &fix.scope.arena};
    kiln_kernel_print(k, &text);
    assert_string_equal(kiln_text_string(&text), "kernel x86-64-v3 tiles 4 {\n"
                                                 "  p0: f32[100] read align 64\n"
                                                 "  p1: f32[100] write align 4\n"
                                                 "  l0: u8[100] at 0\n"
                                                 "  l1: f64[1] at 128\n"
                                                 "  t0: i32[2] = 5 -6\n"
                                                 "  %3 = tile_begin i64\n"
                                                 "  %4 = tile_end i64\n"
                                                 "  %5 = loop tiles %3 %4 step 1 {\n"
                                                 "    %6 = mul i64 %5 20\n"
                                                 "    %7 = const f32x8 0x00000000\n"
                                                 "    %8 = loop serial 0 20 step 8 {\n"
                                                 "      %9 = carry f32x8 %7\n"
                                                 "      %10 = sub i64 20 %8\n"
                                                 "      %12 = min i64 %10 8\n"
                                                 "      %13 = max i64 %12 0\n"
                                                 "      %14 = convert i32 %13\n"
                                                 "      %15 = splat i32x8 %14\n"
                                                 "      %16 = lanes i32x8\n"
                                                 "      %17 = lt boolx8 %16 %15\n"
                                                 "      %18 = add i64 %6 %8\n"
                                                 "      %19 = load f32x8 p0[%18] mask %17\n"
                                                 "      %20 = add f32x8 %9 %19\n"
                                                 "      next %9 %20\n"
                                                 "    }\n"
                                                 "    %23 = last f32x8 %9\n"
                                                 "    %24 = shuffle f32 %23 [0]\n"
                                                 "    store p1[%5] %24 aligned\n"
                                                 "  }\n"
                                                 "}\n");
    finish();
}

/* Builds something wrong; true when the builder itself refuses. */
typedef void build_fn(kiln_kernel *k);

static void wrong_dtype(kiln_kernel *k)
{
    kiln_k_binary(k, KILN_K_add, kiln_k_tile_begin(k), kiln_k_lanes(k, KILN_i32, 8));
}

static void wrong_buffer(kiln_kernel *k)
{
    kiln_k_load(k, 7, kiln_k_const_i64(k, 0), 8, 0, 0);
}

static void wrong_direction(kiln_kernel *k)
{
    kiln_k_load(k, 1, kiln_k_const_i64(k, 0), 8, 0, 0);
}

static void wrong_place(kiln_kernel *k)
{
    kiln_k_load(k, 0, kiln_k_const_i64(k, 93), 8, 0, 0);
}

static void wrong_lanes(kiln_kernel *k)
{
    kiln_k_const_float(k, KILN_f32, 65, 1.0);
}

static void wrong_shuffle(kiln_kernel *k)
{
    kiln_kv a =
        kiln_k_binary(k, KILN_K_add, kiln_k_lanes(k, KILN_i32, 4), kiln_k_lanes(k, KILN_i32, 4));
    kiln_k_shuffle(k, a, 0, 2, (int64_t[]){0, 4});
}

static void wrong_float_op(kiln_kernel *k)
{
    kiln_k_unary(k, KILN_K_sqrt, kiln_k_tile_begin(k));
}

static void wrong_convert(kiln_kernel *k)
{
    kiln_k_convert(k, kiln_k_tile_begin(k), KILN_bf16);
}

static void wrong_step(kiln_kernel *k)
{
    kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_tile_begin(k), kiln_k_tile_end(k), 0);
}

static void wrong_lookup(kiln_kernel *k)
{
    kiln_k_lookup(k, 3, kiln_k_lanes(k, KILN_i32, 4));
}

static void unclosed(kiln_kernel *k)
{
    open_tiles(k);
}

static void outside_tiles(kiln_kernel *k)
{
    kiln_k_load(k, 0, kiln_k_const_i64(k, 0), 8, 0, 0);
}

static void escaped(kiln_kernel *k)
{
    kiln_kv tile = open_tiles(k);
    kiln_kv i = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), tile, 1);
    kiln_kv inside = kiln_k_add_imm(k, i, 1);
    kiln_k_end(k);
    kiln_k_load(k, 0, inside, 1, 0, 0);
    kiln_k_end(k);
}

static void no_next(kiln_kernel *k)
{
    kiln_kv tile = open_tiles(k);
    kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), tile, 1);
    kiln_k_carry(k, tile);
    kiln_k_end(k);
    kiln_k_end(k);
}

static void late_carry(kiln_kernel *k)
{
    kiln_kv tile = open_tiles(k);
    kiln_kv i = kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), tile, 1);
    kiln_kv inside = kiln_k_add_imm(k, i, 1);
    kiln_k_next(k, kiln_k_carry(k, tile), inside);
    kiln_k_end(k);
    kiln_k_end(k);
}

static void early_last(kiln_kernel *k)
{
    kiln_kv tile = open_tiles(k);
    kiln_k_loop(k, KILN_LOOP_SERIAL, kiln_k_const_i64(k, 0), tile, 1);
    kiln_kv carry = kiln_k_carry(k, tile);
    kiln_k_next(k, carry, tile);
    kiln_k_last(k, carry);
    kiln_k_end(k);
    kiln_k_end(k);
}

static void two_tiles(kiln_kernel *k)
{
    open_tiles(k);
    kiln_k_end(k);
    open_tiles(k);
    kiln_k_end(k);
}

static void threads_on_cpu(kiln_kernel *k)
{
    open_tiles(k);
    kiln_k_loop(k, KILN_LOOP_THREADS, kiln_k_const_i64(k, 0), kiln_k_const_i64(k, 64), 1);
    kiln_k_end(k);
    kiln_k_end(k);
}

static void barrier_on_cpu(kiln_kernel *k)
{
    open_tiles(k);
    kiln_k_barrier(k);
    kiln_k_end(k);
}

static void test_broken_kernels_are_refused(void **state)
{
    (void)state;
    static const struct {
        build_fn *build;
        const char *sentence;
    } rows[] = {
        {wrong_dtype, "operand 1 is lanes i32x8"},
        {wrong_buffer, "buffer 7 is not declared"},
        {wrong_direction, "buffer 1 is not declared read"},
        {wrong_place, "8 lanes at 93; buffer 0 has 100 elements"},
        {wrong_lanes, "f32x65; expected 1 to 64 lanes"},
        {wrong_shuffle, "lane 1 is from 4; operands have 4"},
        {wrong_float_op, "sqrt: dtype is i64, which it is not for"},
        {wrong_convert, "convert of bf16x1: operand 0 is tile_begin i64x1"},
        {wrong_step, "step is 0"},
        {wrong_lookup, "lookup: type is ?x4"},
        {unclosed, "is not closed"},
        {outside_tiles, "load outside the tiles loop"},
        {escaped, "inside a loop that is closed"},
        {no_next, "has no next"},
        {late_carry, "carry is not at the head of its loop"},
        {early_last, "not one just closed here"},
        {two_tiles, "not the one outermost loop"},
        {threads_on_cpu, "threads loop on machine x86-64"},
        {barrier_on_cpu, "barrier on machine x86-64"},
    };
    for (volatile size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin("x86-64");
        if (kiln_scope_try(&fix.scope)) {
            rows[i].build(fix.k);
            kiln_error error;
            if (kiln_kernel_verify(fix.k, &error)) kiln_fail_with(&fix.scope, &error);
        }
        if (!strstr(fix.error.message, rows[i].sentence))
            fail_msg("row %zu: '%s' is not in '%s'", (size_t)i, rows[i].sentence,
                     fix.error.message);
        assert_int_equal(kiln_scope_close(&fix.scope), KILN_INTERNAL);
    }
}

static void *verify_often(void *argument)
{
    const kiln_kernel *k = argument;
    for (int i = 0; i < 2000; i++) {
        kiln_error error = {0};
        if (kiln_kernel_verify(k, &error)) return argument;
    }
    return NULL;
}

/* Compiles run side by side on kernels of one scope. */
static void test_threads_share_a_finished_kernel(void **state)
{
    (void)state;
    pthread_t threads[4];
    kiln_kernel *k = begin("x86-64-v3");
    build_row_sum(k);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, verify_often, k), 0);
    for (int i = 0; i < 4; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
    finish();
}

static void test_fma_needs_the_machine(void **state)
{
    (void)state;
    kiln_kernel *k = begin("x86-64");
    kiln_kv x = kiln_k_const_float(k, KILN_f32, 4, 1.5);
    assert_int_equal(kiln_kernel_at(k, kiln_k_fma(k, x, x, x))->op, KILN_K_add);
    finish();
    k = begin("x86-64-v3");
    x = kiln_k_const_float(k, KILN_f32, 4, 1.5);
    assert_int_equal(kiln_kernel_at(k, kiln_k_fma(k, x, x, x))->op, KILN_K_fma);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constants_are_interned_and_folded),
        cmocka_unit_test(test_masks_that_are_constant_vanish),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_broken_kernels_are_refused),
        cmocka_unit_test(test_threads_share_a_finished_kernel),
        cmocka_unit_test(test_fma_needs_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
