/* Chains of column reductions and maps are one kernel with the bits of the groups they are made
 * of: strips that end inside a vector, that overlap, that stay unmasked, of one column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fused_bits.h"

static void is_one(const compiled_variant *variant, uint32_t n_kernels, uint32_t n_unfused)
{
    if (n_kernels != 1)
        fail_msg("%s: %u kernels of %u; expected one", variant->name, n_kernels, n_unfused);
}

static void check(const char *op, int64_t before, int64_t reduced, int64_t after)
{
    char text[400];
    snprintf(text, sizeof text,
             "kiln 1\ngraph f(%%x: f32[%d,%d,%d]) {\n"
             "  %%0: f32[%d,%d,%d] = %s %%x {axis = 1}\n  return %%0\n}\n",
             (int)before, (int)reduced, (int)after, (int)before, (int)reduced, (int)after, op);
    fused_bits_check(text, is_one);
}

static void test_softmax(void **state)
{
    (void)state;
    const int64_t widths[] = {1, 3, 16, 33, 47, 64, 121};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        check("softmax", 2, 37, widths[i]);
        check("log_softmax", 3, 5, widths[i]);
    }
}

static void test_long_columns(void **state)
{
    (void)state;
    check("softmax", 2, 900, 70);
    check("log_softmax", 1, 3001, 19);
}

/* A mean and what it is taken from: two statistics, a map that is read again, three outputs. */
static void test_statistics(void **state)
{
    (void)state;
    fused_bits_check("kiln 1\n"
                     "graph f(%x: f32[90,35], %w: f32[35]) {\n"
                     "  %0: f32[35] = reduce_sum %x {axes = [0]}\n"
                     "  %1: f32[90,35] = broadcast %0 {axes = [1]}\n"
                     "  %2: f32[90,35] = sub %x, %1\n"
                     "  %3: f32[90,35] = exp %2\n"
                     "  %4: f32[35] = reduce_max %3 {axes = [0]}\n"
                     "  %5: f32[35] = mul %4, %w\n"
                     "  %6: f32[90,35] = broadcast %5 {axes = [1]}\n"
                     "  %7: f32[90,35] = mul %3, %6\n"
                     "  return %7, %5, %0\n}\n",
                     is_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_softmax),
                                       cmocka_unit_test(test_long_columns),
                                       cmocka_unit_test(test_statistics)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
