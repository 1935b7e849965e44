/* A convolution for the tile generator. The input window of a block of output rows is copied once
 * per tile into a local, with padding and input dilation written out as zeros; after that every
 * convolution is dense: pixels are rows of A at constant distances. Shared by lower_conv.c
 * (products), lower_depthwise.c and conv_source.c (the copy). */
#ifndef KILN_CODEGEN_LOWER_CONV_H
#define KILN_CODEGEN_LOWER_CONV_H

#include "codegen/gemm.h"

/* One spatial dim. A kernel of 1 takes every stride-th position only, so the local holds just
 * those. */
typedef struct kiln_conv_axis {
    int64_t in, out, kernel, stride, low, lhs_dilation, rhs_dilation;
    int64_t step;         /* positions of the padded input from one local element to the next */
    int64_t local_stride; /* local elements from one output to the next */
} kiln_conv_axis;

/* Local elements that `n` neighbouring outputs read. */
int64_t kiln_conv_axis_local(const kiln_conv_axis *axis, int64_t n);

enum { KILN_CONV_D, KILN_CONV_H, KILN_CONV_W, KILN_CONV_AXES };

typedef struct kiln_conv {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *input, *kernel;
    kiln_ints input_axes, kernel_axes, output_axes;
    uint32_t n_spatial;                  /* 0 to 3: the last ones of D, H, W */
    kiln_conv_axis axis[KILN_CONV_AXES]; /* those that the graph lacks have one element */
    int64_t batch, groups, in_features, out_features; /* features of one group */
    kiln_dtype dtype;                                 /* of the sums */
    uint32_t lanes;
    /* the local: [kernel depth][rows][width][features] */
    uint32_t local;
    int64_t local_features, pitch, row_pitch, slice, block_rows, local_rows, local_width;
    /* the tile at work */
    kiln_kv image, depth, first_row, feature; /* feature: first input feature that is copied */
    int64_t n_features;                       /* that are copied */
    int64_t feature_divide; /* depthwise: outputs of one input feature, copied each */
    kiln_kv row, column;    /* of the register tile at work */
    int64_t tile_width;     /* its pixels in a row */
    kiln_epilogue epilogue;
} kiln_conv;

void kiln_conv_describe(kiln_lower *lower, kiln_value anchor, kiln_conv *out_conv);
/* Sizes the local for blocks of `rows` output rows and n features. */
void kiln_conv_add_local(kiln_conv *conv, int64_t rows, int64_t n_features);
/* Fills it for the tile at work. */
void kiln_conv_copy(kiln_conv *conv);
/* Opens the epilogue of its sums. */
void kiln_conv_open_epilogue(kiln_conv *conv);
/* The frame of every convolution: counts the tiles (LIMIT when 2^32 or more), opens the epilogue,
 * and lets `emit` write the tile of that number. */
void kiln_conv_lower_tiles(kiln_conv *conv, kiln_ints sizes,
                           void (*emit)(void *user, kiln_kv number), void *user);
/* The index of the result at pixel `row` of the register tile: an epilogue's callback. */
void kiln_conv_result_index(void *conv, kiln_kv row, kiln_axis_index column, kiln_index *out_index);

/* One that is brief (passes/brief_conv.h), both operands read in place (conv_brief.c); false where
 * it is not. */
bool kiln_conv_lower_brief(kiln_conv *conv);
/* Whether results may be computed twice: what is read is not what they are stored over. */
bool kiln_conv_is_repeatable(const kiln_conv *conv);

/* By matrix tiles (amx_conv.c): one group, no input dilation. */
void kiln_lower_amx_conv(kiln_conv *conv);

/* groups = input features: every output reads one input feature. */
void kiln_conv_lower_depthwise(kiln_conv *conv);
/* The same without a copy, for dense inputs; false where it does not fit. */
bool kiln_conv_lower_direct(kiln_conv *conv);
kiln_row_maker kiln_conv_direct_row_maker(kiln_conv *conv);
/* The kernel's elements at a tap for a vector of features. */
kiln_kv kiln_conv_load_tap(kiln_conv *conv, const kiln_kv taps[KILN_CONV_AXES], kiln_kv feature,
                           kiln_kv mask);
#endif
