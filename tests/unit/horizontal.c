/* Horizontal groups give the bits of the groups that they are made of, also where another member
 * reads a donated input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fused_bits.h"

enum { N_KERNELS = 1 };

/* Maps, a row, a column and a table of 32 numbers beside each other, all of odd sizes. */
static const char mixed[] =
    "kiln 1\n"
    "graph f(%p: f32[77], %q: f32[9,13], %x: f32[5,70], %i: i32[19], %d: f32[77] donated) {\n"
    "  %0: f32[77] = tanh %p\n"
    "  %1: f32[13,9] = transpose %q {permutation = [1, 0]}\n"
    "  %2: f32[13,9] = erf %1\n"
    "  %3: f32[5] = reduce_sum %x {axes = [1]}\n"
    "  %4: f32[70] = reduce_max %x {axes = [0]}\n"
    "  %5: i32[19] = mul %i, %i\n"
    "  %6: f32[7] = slice %d {starts = [3], limits = [10], strides = [1]}\n"
    "  %7: f32[7] = exp %6\n"
    "  return %0, %2, %3, %4, %5, %7\n}\n";

static void count(const compiled_variant *variant, uint32_t n_kernels, uint32_t n_unfused)
{
    (void)n_unfused;
    if (variant->threads == 2) assert_int_equal(n_kernels, N_KERNELS);
}

static void test_members(void **state)
{
    (void)state;
    fused_bits_check(mixed, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_members)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
