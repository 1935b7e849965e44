/* Row bands give the bits of the groups that they are made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fused_bits.h"

#define CONV(value, operand, kernel, dims, places, groups)                                         \
    "  " value ": f32[" dims "] = convolution " operand ", " kernel " {" places ", "               \
    "lhs_dilation=[1,1], rhs_dilation=[1,1], groups=" groups ", input_axes=[0,3,1,2], "            \
    "kernel_axes=[3,2,0,1], output_axes=[0,3,1,2], accumulate=f32}\n"
#define PLAIN "strides=[1,1], low=[0,0], high=[0,0]"
#define SAME "strides=[1,1], low=[1,1], high=[1,1]"
#define HALF "strides=[2,2], low=[1,1], high=[1,1]"
#define POOL                                                                                       \
    "{sizes=[1,3,3,1], strides=[1,2,2,1], low=[0,1,1,0], high=[0,1,1,0], dilations=[1,1,1,1]}"

/* Odd sizes, a residual, a chain of seven whose tiles share rows, NaN-keeping clamps and a pool. */
static const char inverted[] =
    "kiln 1\n"
    "graph f(%x: f32[2,37,29,24], %e: f32[1,1,24,75], %d: f32[3,3,1,75], %p: f32[1,1,75,24]) "
    "{\n" CONV("%0", "%x", "%e", "2,37,29,75", PLAIN,
               "1") "  %1: f32[2,37,29,75] = relu6 %0\n" CONV("%2", "%1", "%d", "2,37,29,75", SAME,
                                                              "75") "  %3: f32[2,37,29,75] = relu6 "
                                                                    "%2\n" CONV(
                                                                        "%4", "%3", "%p",
                                                                        "2,37,29,24", PLAIN,
                                                                        "1") "  %5: "
                                                                             "f32[2,37,29,24] = "
                                                                             "add %4, %x\n"
                                                                             "  return %5\n}\n";
static const char stem[] =
    "kiln 1\n"
    "graph f(%x: f32[1,45,38,3], %s: f32[3,3,3,32], %d: f32[3,3,1,32], %p: f32[1,1,32,18], "
    "%e: f32[1,1,18,50], %h: f32[3,3,1,50], %q: f32[1,1,50,33]) {\n" CONV(
        "%0", "%x", "%s", "1,23,19,32", HALF,
        "1") "  %1: f32[1,23,19,32] = relu %0\n" CONV("%2", "%1", "%d", "1,23,19,32", SAME, "32")
        CONV("%3", "%2", "%p", "1,23,19,18", PLAIN, "1")
            CONV("%4", "%3", "%e", "1,23,19,50", PLAIN, "1")
                CONV("%5", "%4", "%h", "1,12,10,50", HALF, "50")
                    CONV("%6", "%5", "%q", "1,12,10,33", PLAIN,
                         "1") "  %7: f32[1,6,5,33] = window_max %6 " POOL "\n"
                              "  return %7\n}\n";

/* Where a band pays is for the widest vectors to say. */
static void count(const compiled_variant *variant, uint32_t n_kernels, uint32_t n_unfused)
{
    bool is_widest = variant->target_cpu && strcmp(variant->target_cpu, "x86-64-v4") == 0;
    if (is_widest) assert_true(n_kernels + 3 < n_unfused);
}

static void test_inverted_residual(void **state)
{
    (void)state;
    fused_bits_check(inverted, count);
}

static void test_stem_and_pool(void **state)
{
    (void)state;
    fused_bits_check(stem, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inverted_residual),
        cmocka_unit_test(test_stem_and_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
