/* A brief convolution: where its operands stand, how its register tile is cut, and what is at work.
 * Shared by conv_brief.c (the tile) and conv_brief_plan.c (how it is cut). */
#ifndef KILN_CODEGEN_CONV_BRIEF_H
#define KILN_CODEGEN_CONV_BRIEF_H

#include "codegen/lower_conv.h"

/* What a tap is along an axis: kernel elements and input positions. */
typedef struct kiln_tap_axis {
    kiln_kv first;           /* kernel element of tap 0 */
    kiln_kv position;        /* its input position, of the output at work */
    int64_t n;               /* taps */
    int64_t step, move;      /* kernel elements and positions from one tap to the next */
    int64_t in_step, k_step; /* elements of image and kernel from one position to the next */
    bool is_exact;           /* every tap is in the kernel and every position in the image */
} kiln_tap_axis;

typedef struct kiln_brief_conv {
    kiln_conv *conv;
    kiln_strided image, kernel;
    kiln_tile_source features;   /* where elements of the kernel are read: */
    int64_t n_widened;           /* so many stand there in the dtype of the sums; or 0 */
    int64_t rows, down, across;  /* of a tile: features, output rows, vectors of columns */
    int64_t n_phases, n_columns; /* remainders of columns by the dilation; most columns of one */
    int64_t column_tiles;        /* of them */
    int64_t n_rows;              /* of outputs */
    int64_t block_rows, block_columns, block_features;
    bool is_flat; /* rows follow each other in image and result, which have the same columns: they
                     count as one row */
    kiln_kv flat_row[KILN_TILE_VECTORS], flat_column[KILN_TILE_VECTORS]; /* of such lanes */
    kiln_kv group, row, feature;                                         /* of the tile at work */
    kiln_kv column, phase;
    kiln_tap_axis taps[KILN_CONV_AXES];
    bool is_paired; /* columns have stride 2: two vectors are loaded, every other element is kept */
    kiln_kv masks[KILN_TILE_VECTORS][2]; /* of these two */
    kiln_tile *tile;
} kiln_brief_conv;

/* Columns of a tile. */
static inline int64_t kiln_brief_conv_width(const kiln_brief_conv *b)
{
    return b->across * b->conv->lanes;
}

/* Chooses the register tile and the blocks of the threads; needs the operands, n_rows, n_columns
 * and n_phases. */
void kiln_brief_conv_plan(kiln_brief_conv *b);
#endif
