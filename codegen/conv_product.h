/* A convolution as an implicit product: how it is cut into tiles and register tiles, and what the
 * tile at work is. Shared by lower_conv.c (the tiles) and conv_blocks.c (how it is cut). */
#ifndef KILN_CODEGEN_CONV_PRODUCT_H
#define KILN_CODEGEN_CONV_PRODUCT_H

#include "codegen/ahead.h"
#include "codegen/lower_conv.h"

typedef struct kiln_conv_product {
    kiln_conv *conv;
    kiln_tile_source kernel;
    bool is_packed;
    int64_t kernel_step, kernel_origin; /* elements from one k to the next, when not packed */
    int64_t k_size;                     /* taps x input features of a group */
    bool is_row_joined;    /* the taps of a kernel row and their features are one run of A */
    int64_t height, width; /* output pixels of a register tile */
    uint32_t vectors;
    int64_t block_rows, block_features, n_feature_blocks, n_row_blocks;
    kiln_kv group;     /* of the tile at work */
    kiln_kv block_row; /* its first output row */
    kiln_kv row_end;   /* behind its last one; none: as many as a block has */
    bool is_band;      /* it is a few rows of a band */
    bool is_brief;     /* one register tile, of which the last ones begin earlier */
    int64_t ring;      /* rows of A that its buffer has room for; 0: the window is copied, or all
                          rows are there */
    bool is_in_place;  /* A is read where it stands: no window is copied */
    int64_t image_stride, row_stride, origin; /* of such an A, by rows of the result */
    kiln_kv features_end;                     /* of the tile at work */
    kiln_kv next_kernel;                      /* the kernel's element where the next tile begins */
    kiln_ahead ahead;
} kiln_conv_product;

/* Rows, width and vectors of a register tile and, but for a band, the blocks that go with them, for
 * the least time; needs k_size, and whether it is in place. */
void kiln_conv_choose_tile(kiln_conv_product *p);
#endif
