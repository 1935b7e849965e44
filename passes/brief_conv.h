/* Convolutions that run faster than they compile; fusion and lowering must agree on them. */
#ifndef KILN_PASSES_BRIEF_CONV_H
#define KILN_PASSES_BRIEF_CONV_H

#include "passes/schedule.h"

/* Whether a contraction is a convolution that, by its shape, dtypes and operands, is to become one
 * short kernel that reads image and kernel in place (codegen/conv_brief.c): the columns of the
 * image lie together, the kernel is no constant and is not packed. */
bool kiln_conv_is_brief(const kiln_graph *graph, kiln_value contraction);
#endif
