/* Packing constant operands of contractions on the host: dense row-major elements to panels of 16
 * columns, [batch][ceil(n / 16)][k][16], columns past n zero. What lower_pack.c does at run
 * time. */
#ifndef KILN_CODEGEN_PACK_H
#define KILN_CODEGEN_PACK_H

#include "passes/schedule.h"

/* Element offsets of an operand by role: element (batch, k, n) is at batch[…] + k[…] + n[…]. For a
 * convolution batch is the group, k is (spatial…, in feature) row-major and n the out feature of
 * the group. In the arena. */
typedef struct kiln_pack_offsets {
    int64_t n_batch, n_k, n_n;
    const int64_t *batch, *k, *n;
} kiln_pack_offsets;
void kiln_pack_find_offsets(kiln_arena *arena, const kiln_graph *graph, kiln_operand operand,
                            kiln_pack_offsets *out_offsets);

/* The bits of the size of a number from which on the first of three bf16 parts is cut, not rounded:
 * rounded it would be infinite. */
#define KILN_BF16_CUT 0x7f7f8000u

/* The same in the tile formats; kiln_pack_operand calls it. */
void kiln_pack_tiles(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                     const void *dense, void *out);

/* A table in its format, read through its views. */
void kiln_pack_table(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand, void *out);

/* Packs the dense elements of operand.value to `out` (kiln_operand_bytes, any content before). */
void kiln_pack_operand(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                       const void *dense, void *out);
#endif
