/* Elementwise maths as kernel instructions, written once for all targets: polynomials with stated
 * bounds (docs/accuracy.md), no estimates, no fast-math. Values are in the compute dtype: f32 or
 * f64 for floats (bf16 and f16 values are carried as f32 already rounded to their type), else the
 * dtype itself. Every function works for any number of lanes and gives the same bits for each. */
#ifndef KILN_CODEGEN_MATH_H
#define KILN_CODEGEN_MATH_H

#include "codegen/kernel.h"

/* The dtype in which a value of `dtype` is computed: f32 for bf16 and f16, else itself. */
kiln_dtype kiln_compute_dtype(kiln_dtype dtype);

/* One ELEMENTWISE op. args are in compute dtypes; `dtype` is the graph dtype of the operands (of
 * the second one for select), `result` that of the result; returns in result's compute dtype,
 * rounded to `result`. */
kiln_kv kiln_math_op(kiln_kernel *k, kiln_op op, kiln_dtype dtype, kiln_dtype result,
                     const kiln_kv *args);

/* e^x of an x that is at most 0 or NaN, with the bits of the op exp, in fewer instructions. */
kiln_kv kiln_math_exp_down(kiln_kernel *k, kiln_kv x);

/* Rounds an f32 value to bf16 or f16, staying in f32; nothing for other dtypes. */
kiln_kv kiln_math_round_to(kiln_kernel *k, kiln_kv value, kiln_dtype dtype);
/* Storage form to compute form and back: bf16 and f16 are u16 patterns in memory and in kernels. */
kiln_kv kiln_math_from_storage(kiln_kernel *k, kiln_kv bits, kiln_dtype dtype);
kiln_kv kiln_math_to_storage(kiln_kernel *k, kiln_kv value, kiln_dtype dtype);
/* The dtype that kernels load and store for a graph dtype: u16 for bf16 and f16, else itself. */
kiln_dtype kiln_storage_dtype(kiln_dtype dtype);

/* The combining step and the identity of a reduction or window op (reduce_sum, window_max, …). */
kiln_kv kiln_math_combine(kiln_kernel *k, kiln_op op, kiln_kv a, kiln_kv b);
kiln_kv kiln_math_identity(kiln_kernel *k, kiln_op op, kiln_dtype compute, uint32_t lanes);
#endif
