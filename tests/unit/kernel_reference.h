/* Elements as bits, and what each instruction makes of them, in plain C: the reference of
 * kernel_bench.h. */
#ifndef KILN_TESTS_KERNEL_REFERENCE_H
#define KILN_TESTS_KERNEL_REFERENCE_H

#include "codegen/kernel.h"

#define MAX_EXPONENT 300 /* of the second operand of scale */

/* An element: its bits, low bytes first. */
typedef uint64_t element;

int64_t as_int(kiln_dtype dtype, element x);
element from_int(kiln_dtype dtype, int64_t x);
float as_f32(element x);
double as_f64(element x);
element from_f32(float x);
element from_f64(double x);
double as_double(kiln_dtype dtype, element x);
element from_double(kiln_dtype dtype, double x);

/* All NaNs count as equal. */
bool is_same(kiln_dtype dtype, element a, element b);

/* The result of an instruction of one to three operands, and of a conversion. */
element reference(kiln_dtype dtype, kiln_instr_op op, element a, element b, element c);
element reference_convert(kiln_dtype from, kiln_dtype to, element a);

/* Reproducible data with the values at the edges; a guarded one may divide and shift. */
uint64_t random_bits(void);
element random_float(kiln_dtype dtype);
element random_element(kiln_dtype dtype);
element random_guarded(kiln_dtype dtype);
#endif
