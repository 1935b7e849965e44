/* Fused groups give the bits of the groups that they are made of: a graph is compiled unfused, and
 * fused for one and two threads, x86-64-v3 and -v4, and every output is compared. */
#ifndef KILN_TESTS_FUSED_BITS_H
#define KILN_TESTS_FUSED_BITS_H

#include "ops/compiled.h"

/* What else is expected of a fused variant and the kernels it has. */
typedef void fused_count_fn(const compiled_variant *variant, uint32_t n_kernels,
                            uint32_t n_unfused);

/* `text` is a graph with at most 8 inputs in f32 or i32, which get random numbers. */
void fused_bits_check(const char *text, fused_count_fn *count);
#endif
