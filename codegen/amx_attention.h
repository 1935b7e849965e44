/* The two products of an attention by matrix tiles, for lower_attention.c: keys and values are
 * packed to locals in the tile format, scores stand in a local of f32 where the rows find them, and
 * the weights are rounded to a local before they meet the values. Every element is computed as the
 * separate products would. */
#ifndef KILN_CODEGEN_AMX_ATTENTION_H
#define KILN_CODEGEN_AMX_ATTENTION_H

#include "codegen/amx.h"

#define KILN_AMX_ATTENTION_ROWS 32 /* most rows of a block */

typedef struct kiln_amx_attention {
    kiln_amx first, second;
    uint32_t scores; /* f32 local, rows `pitch` elements apart */
    int64_t pitch;
    uint32_t weights; /* u16 local */
    int64_t block;    /* rows */
} kiln_amx_attention;

/* Sets all up for blocks of `block` rows; the dots have their roles and operands. */
void kiln_amx_attention_prepare(kiln_amx_attention *t, const kiln_dot *first,
                                const kiln_dot *second, int64_t block);
/* Packs keys and values of batch element `batch`, which is then at work. */
void kiln_amx_attention_pack(kiln_amx_attention *t, kiln_kv batch);
/* Scores of `rows` rows from `row` on; and, from the weights that stand in their place, the
 * outputs. */
void kiln_amx_attention_scores(kiln_amx_attention *t, kiln_kv row, int64_t rows);
void kiln_amx_attention_outputs(kiln_amx_attention *t, kiln_kv row, int64_t rows);
#endif
