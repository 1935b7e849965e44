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

/* Neighbouring Winograd tiles of an axis whose patches have the same positions inside the image:
 * first … end of the tiles, low … high of the patch. */
typedef struct kiln_winograd_part {
    int64_t first, end, low, high;
} kiln_winograd_part;

#define KILN_WINOGRAD_PARTS 4

/* Where patches are read: the image where it stands, or the window of a row of Winograd tiles in
 * the convolution's local, which has its padding. */
typedef struct kiln_winograd_input {
    bool is_local;
    kiln_tile_source source;
    int64_t origin, image, row, column; /* the first element; distances */
    uint32_t n_row_parts, n_column_parts;
    kiln_winograd_part row_parts[KILN_WINOGRAD_PARTS], column_parts[KILN_WINOGRAD_PARTS];
} kiln_winograd_input;

typedef struct kiln_winograd {
    kiln_conv *conv;
    const kiln_winograd_rule *rule;
    kiln_tile_source kernel;
    kiln_winograd_input input;
    int64_t reach, points;
    int64_t height, width;     /* of the result, in pixels */
    int64_t n_rows, n_columns; /* Winograd tiles of an image */
    int64_t block_rows, n_row_blocks, block_features, n_feature_blocks;
    uint32_t rows, vectors;                     /* of a register tile: Winograd tiles by features */
    int64_t strip;                              /* features of a register tile */
    uint32_t data, sums;                        /* locals */
    int64_t data_pitch, data_point, sums_point; /* from a Winograd tile, a point to the next */
    kiln_kv first_row, end_row, n_tiles; /* of the block: rows over all images, Winograd tiles */
} kiln_winograd;

/* Fills w->input, and sizes the convolution's local where there has to be one. */
void kiln_winograd_find_input(kiln_winograd *w);
/* Sets the image of row `row` of Winograd tiles, counted over all images; gives its row within it.
 */
kiln_kv kiln_winograd_enter_row(kiln_winograd *w, kiln_kv row);
/* Transforms the patches of the block at work into w->data. */
void kiln_winograd_transform(kiln_winograd *w);

/* Transforms the dense elements of a kernel into KILN_FORMAT_WINOGRAD_N16; kiln_pack_operand calls
 * it. Computed in f64, rounded once. */
void kiln_pack_winograd(kiln_scope *scope, const kiln_graph *graph, kiln_operand operand,
                        const void *dense, void *out);

/* The group by that algorithm, when its kernel is so packed; else false. */
bool kiln_conv_lower_winograd(kiln_conv *conv);
#endif
