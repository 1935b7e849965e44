/* What the runtime finds out about the machine: features against the compiler's own detection,
 * their names, cores under an affinity mask, memory, and the default allocator. */
#define _GNU_SOURCE
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "runtime/cpu.h"
#include "runtime/host.h"

static bool has(uint64_t feature)
{
    return (kiln_cpu_features() & feature) != 0;
}

static void test_features_agree_with_the_compilers(void **state)
{
    (void)state;
    __builtin_cpu_init();
    assert_int_equal(has(KILN_CPU_SSE41), __builtin_cpu_supports("sse4.1") != 0);
    assert_int_equal(has(KILN_CPU_AVX), __builtin_cpu_supports("avx") != 0);
    assert_int_equal(has(KILN_CPU_AVX2), __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(has(KILN_CPU_FMA), __builtin_cpu_supports("fma") != 0);
    assert_int_equal(has(KILN_CPU_BMI2), __builtin_cpu_supports("bmi2") != 0);
    int is_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512cd");
    assert_int_equal(has(KILN_CPU_AVX512), is_avx512 != 0);
    assert_int_equal(has(KILN_CPU_AVX512_VNNI), __builtin_cpu_supports("avx512vnni") != 0);
    assert_int_equal(has(KILN_CPU_AVX512_BF16), __builtin_cpu_supports("avx512bf16") != 0);
}

/* Tiles make up for the dots of pairs; no other feature depends on who made the processor. */
static void test_worthwhile_features(void **state)
{
    (void)state;
    uint64_t all = ~0ull, plain = all & ~(KILN_CPU_AMX_BF16 | KILN_CPU_AVX512_BF16);
    assert_int_equal(kiln_cpu_worthwhile(all), all);
    assert_int_equal(kiln_cpu_worthwhile(plain), plain);
    uint64_t some = kiln_cpu_worthwhile(plain | KILN_CPU_AVX512_BF16);
    bool is_intel = __builtin_cpu_is("intel") != 0;
    assert_int_equal(some, is_intel ? plain : plain | KILN_CPU_AVX512_BF16);
}

static void test_names_of_features(void **state)
{
    (void)state;
    char text[64];
    kiln_cpu_names(KILN_CPU_AVX2 | KILN_CPU_FMA, text, sizeof text);
    assert_string_equal(text, "avx2, fma");
    kiln_cpu_names(KILN_CPU_FMA | 1ull << 50, text, sizeof text);
    assert_string_equal(text, "fma, a newer one");
    kiln_cpu_names(0, text, sizeof text);
    assert_string_equal(text, "");
    for (size_t bytes = 1; bytes < sizeof text; bytes++) { /* cut, never torn or too long */
        memset(text, 'x', sizeof text);
        kiln_cpu_names(~0ull, text, bytes);
        assert_true(strlen(text) < bytes);
    }
}

static void test_default_threads_follow_the_affinity_mask(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    uint32_t cores = kiln_host_cores();
    assert_in_range(cores, 1, CPU_COUNT(&before));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    kiln_context *context;
    kiln_status status = kiln_context_create(NULL, &context);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(status, KILN_OK);
    assert_int_equal(kiln_context_threads(context), 1);
    assert_null(kiln_context_pool(context));
    kiln_context_destroy(context);
}

static void test_large_memory_is_aligned_and_writable(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 64, 4097, (2 << 20) - 1, 2 << 20, (6 << 20) + 5};
    kiln_context *context;
    assert_true(kiln_host_memory() > 1 << 20);
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *memory = kiln_context_allocate(context, sizes[i]);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        if (sizes[i] >= 2 << 20) assert_int_equal((uintptr_t)memory % (2 << 20), 0);
        memset(memory, 1, (size_t)sizes[i]);
        kiln_context_release(context, memory, sizes[i]);
    }
    assert_null(kiln_context_allocate(context, 0));
    assert_null(kiln_context_allocate(context, INT64_MAX));
    assert_null(kiln_context_allocate(context, INT64_MAX / 2));
    kiln_context_destroy(context);
}

static void test_sentences_outlive_the_next_failures(void **state)
{
    (void)state;
    kiln_context *context;
    assert_int_equal(kiln_context_create(NULL, &context), KILN_OK);
    assert_string_equal(kiln_context_message(context), "");
    assert_int_equal(kiln_context_fail(context, KILN_IO, "first: %d", 1), KILN_IO);
    const char *first = kiln_context_message(context);
    for (int i = 2; i < 9; i++) kiln_context_fail(context, KILN_IO, "later: %d", i);
    assert_string_equal(first, "first: 1");
    assert_string_equal(kiln_context_message(context), "later: 8");
    kiln_context_destroy(kiln_context_retain(context));
    assert_string_equal(kiln_context_message(context), "later: 8");
    kiln_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_agree_with_the_compilers),
        cmocka_unit_test(test_worthwhile_features),
        cmocka_unit_test(test_names_of_features),
        cmocka_unit_test(test_default_threads_follow_the_affinity_mask),
        cmocka_unit_test(test_large_memory_is_aligned_and_writable),
        cmocka_unit_test(test_sentences_outlive_the_next_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
