/* Winograd's algorithm for 3 x 3 convolutions with stride 1. A tile of side x side outputs comes
 * from a patch of reach x reach inputs, reach = side + 2: both patch and kernel are transformed to
 * reach^2 points, multiplied point by point and summed over input features, and transformed back.
 * lower_winograd.c makes the kernel; here stand the transforms. */
#ifndef KILN_CODEGEN_WINOGRAD_H
#define KILN_CODEGEN_WINOGRAD_H

#include "codegen/lower_conv.h"

#define KILN_WINOGRAD_REACH 6 /* the largest */

typedef struct kiln_winograd_rule {
    int64_t side;
    double kernel[KILN_WINOGRAD_REACH][3]; /* of a kernel's line */
    /* Lines of vectors: `reach` inputs to `reach` points, and `reach` points to `side` outputs. */
    void (*data)(kiln_kernel *k, const kiln_kv *in, kiln_kv *out);
    void (*sums)(kiln_kernel *k, const kiln_kv *in, kiln_kv *out);
} kiln_winograd_rule;

/* The rule of a side that the graph may name: 2 or 4. */
const kiln_winograd_rule *kiln_winograd_find(int64_t side);

/* Transforms the dense elements of a kernel into KILN_FORMAT_WINOGRAD_N16; kiln_pack_operand calls
 * it. Computed in f64, rounded once. */
void kiln_pack_winograd(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                        const void *dense, void *out);

/* The group by that algorithm, when its kernel is so packed; else false. */
bool kiln_conv_lower_winograd(kiln_conv *conv);
#endif
