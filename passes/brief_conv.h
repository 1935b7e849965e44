/* Convolutions that run faster than they compile; fusion and lowering must agree on them. */
#ifndef KILN_PASSES_BRIEF_CONV_H
#define KILN_PASSES_BRIEF_CONV_H

#include "passes/schedule.h"

typedef enum kiln_conv_form {
    KILN_CONV_LONG,        /* everything else */
    KILN_CONV_BY_COLUMNS,  /* columns of the image lie together: both operands are read in place
                              (codegen/conv_brief.c) */
    KILN_CONV_BY_FEATURES, /* features of the image and of the results in the kernel do, and it is
                              the graph's only convolution: the window is copied, the kernel read
                              in place (codegen/lower_conv.c) */
} kiln_conv_form;

/* What a contraction is to become by its shape, dtypes and operands: one short kernel where it is a
 * convolution of little work whose kernel is no constant; that is not packed then. */
kiln_conv_form kiln_conv_choose_form(const kiln_graph *graph, kiln_value contraction,
                                     const kiln_machine *machine);
#endif
