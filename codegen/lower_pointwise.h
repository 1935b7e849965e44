/* Between the files of the pointwise lowering. */
#ifndef KILN_CODEGEN_LOWER_POINTWISE_H
#define KILN_CODEGEN_LOWER_POINTWISE_H

#include "codegen/lower.h"

/* Lowers the group, all outputs of which have `type`'s dims, by transposed blocks, if it has
 * transposed operands and that is estimated to take less than `cost_of_rows`; else emits nothing,
 * returns false. */
bool kiln_lower_blocks(kiln_lower *lower, const kiln_type *type, double cost_of_rows);
#endif
