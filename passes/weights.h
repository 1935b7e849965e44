/* Weights that are not stored as they are multiplied: the second operand of a product is a short
 * elementwise expression over constants, one of which (the codes) has fewer bytes an element than
 * the product multiplies and every other stays the same along stretches of k (scales, zero points).
 * The codes stay packed in memory; the product's kernel widens them as it reads. */
#ifndef KILN_PASSES_WEIGHTS_H
#define KILN_PASSES_WEIGHTS_H

#include "passes/schedule.h"

#define KILN_WEIGHT_TABLES 4
#define KILN_WEIGHT_NODES 16

typedef struct kiln_weights {
    kiln_value codes; /* a constant or views of one, with the operand's dims */
    uint32_t n_tables, n_nodes;
    kiln_value tables[KILN_WEIGHT_TABLES]; /* the same; they are one value along `block` k */
    kiln_value nodes[KILN_WEIGHT_NODES];   /* ids ascending: elementwise, and splats that they read;
                                              the last one is the operand */
    int64_t block;                         /* at least KILN_WEIGHT_BLOCK, or all of k */
} kiln_weights;
#define KILN_WEIGHT_BLOCK 16

/* Whether the second operand of `dot` is such weights. */
bool kiln_match_weights(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                        kiln_weights *out_weights);

/* PANEL16, or NIBBLE16 where the codes are integers of four bits; reads them. */
kiln_format kiln_weights_format(kiln_scope *scope, const kiln_graph *graph,
                                const kiln_weights *weights);

/* How a view of a constant repeats along the axes of a product's operand: entry (k, n) of it is
 * element origin + k_at[k / block] + n_at[n] of `base`. */
typedef struct kiln_repeat {
    kiln_value base;
    int64_t origin, block, n_blocks, n_columns;
    const int64_t *k_at, *n_at; /* in the arena */
} kiln_repeat;
/* False where it is no such thing. */
bool kiln_repeat_find(kiln_arena *arena, const kiln_graph *graph, kiln_operand operand,
                      kiln_repeat *out_repeat);
/* The block alone: 1 where it differs from k to k, 0 where it is no such thing. */
int64_t kiln_repeat_block(const kiln_graph *graph, kiln_operand operand);
#endif
