/* What losses share: operands in the dtype that sums are in, numbers of it, the reduction. */
#ifndef KILN_GRAPH_BUILDER_LOSS_H
#define KILN_GRAPH_BUILDER_LOSS_H

#include "kiln/losses.h"

typedef struct kiln_loss {
    kiln_graph *graph;
    kiln_dtype dtype, wide; /* of the first operand, of the sums */
    uint32_t n;
    kiln_value in[3]; /* in the wide dtype; none after a mistake */
} kiln_loss;

/* `n` up to 3 float operands; the graph has an error when they are none. */
kiln_loss kiln_loss_open(kiln_graph *graph, const char *name, uint32_t n,
                         const kiln_value *operands);
kiln_value kiln_loss_number(const kiln_loss *loss, double number);
/* max(a, 0) */
kiln_value kiln_loss_positive(const kiln_loss *loss, kiln_value a);
/* In the dtype of the first operand. */
kiln_value kiln_loss_reduce(const kiln_loss *loss, kiln_value a, kiln_reduction reduction);
#endif
