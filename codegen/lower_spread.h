/* Lanes whose numbers are a scalar and constants: what a digit of base + lane is when its divisor
 * divides base. Only the scalar is computed, and what is read nearby is loaded and shuffled. */
#ifndef KILN_CODEGEN_LOWER_SPREAD_H
#define KILN_CODEGEN_LOWER_SPREAD_H

#include "codegen/lower.h"

/* What each lane of an axis adds to base; false where that is not known. Writes lower->lanes
 * numbers. */
bool kiln_spread_of(const kiln_lower *lower, const kiln_axis_index *axis, int64_t *out_values);
/* Has the lanes of an axis add these: as a step where they are one. */
void kiln_spread_set(kiln_lower *lower, kiln_axis_index *axis, const int64_t *values);
/* a / b or a % b (`op` is div or rem) in lanes; false where the lanes' constants are not known. */
bool kiln_spread_divide(kiln_lower *lower, const kiln_axis_index *a, kiln_instr_op op, int64_t b,
                        kiln_axis_index *out);
/* The constants as lanes of an integer dtype, without base. */
kiln_kv kiln_spread_lanes(kiln_lower *lower, const kiln_axis_index *axis, kiln_dtype dtype);
/* The lanes that lie within one vector: that, loaded whole and shuffled, with zeros where the mask
 * is off; none where they lie further apart or the mask is not known. */
kiln_kv kiln_spread_load(const kiln_lower *lower, const kiln_access *access);
#endif
