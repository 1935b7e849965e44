/* Calls for images, over kiln/graph.h: [batch, feature, spatial…] unless said otherwise.
 *
 *     int64_t sizes[] = {1, 3, 224, 224};
 *     kiln_resize_options options = {.sizes = sizes, .mode = KILN_RESIZE_LINEAR};
 *     kiln_value y = kiln_resize(graph, x, &options); */
#ifndef KILN_IMAGES_H
#define KILN_IMAGES_H

#include "kiln/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Features to space: [n, c r r, h, w] to [n, c, h r, w r], and back; features of g groups
 * interleaved: [n, g c, …] seen as [n, g, c, …] with the two swapped. */
KILN_API kiln_value kiln_pixel_shuffle(kiln_graph *graph, kiln_value a, int64_t factor);
KILN_API kiln_value kiln_pixel_unshuffle(kiln_graph *graph, kiln_value a, int64_t factor);
KILN_API kiln_value kiln_channel_shuffle(kiln_graph *graph, kiln_value a, int64_t groups);

typedef enum kiln_resize_mode {
    KILN_RESIZE_NEAREST,
    KILN_RESIZE_LINEAR,
    KILN_RESIZE_CUBIC
} kiln_resize_mode;
/* Where element i of n results stands among the m operands, s = n / m the scale. */
typedef enum kiln_resize_coordinate {
    KILN_COORDINATE_HALF_PIXEL,     /* (i + 1/2) / s - 1/2 */
    KILN_COORDINATE_HALF_SYMMETRIC, /* the same about the middle, where n is not s m */
    KILN_COORDINATE_PYTORCH_HALF,   /* the same, 0 where n is 1 */
    KILN_COORDINATE_ALIGN_CORNERS,  /* i (m - 1) / (n - 1) */
    KILN_COORDINATE_ASYMMETRIC,     /* i / s */
    KILN_COORDINATE_CROP            /* align_corners of the region from … to, shares of the dim */
} kiln_resize_coordinate;
/* Of nearest: ties down, ties up, always down, always up. */
typedef enum kiln_resize_round {
    KILN_ROUND_PREFER_FLOOR,
    KILN_ROUND_PREFER_CEIL,
    KILN_ROUND_FLOOR,
    KILN_ROUND_CEIL
} kiln_resize_round;

/* ONNX's Resize. Lists have one entry an axis; `scales` or `sizes`, not both. PyTorch's nearest is
 * ASYMMETRIC with FLOOR, its other modes HALF_PIXEL or ALIGN_CORNERS. */
typedef struct kiln_resize_options {
    const int64_t *sizes;
    const double *scales; /* sizes are the dims times these, rounded down */
    kiln_resize_mode mode;
    kiln_resize_coordinate place;
    kiln_resize_round round;
    int is_antialias;        /* where it shrinks, the weights widen */
    int is_outside_excluded; /* taps beyond the border weigh nothing, the others more */
    double cubic;            /* coefficient a; 0 is -0.75 */
    const double *from, *to; /* CROP */
    double outside;          /* CROP: what stands beyond the operand */
} kiln_resize_options;
KILN_API kiln_value kiln_resize(kiln_graph *graph, kiln_value a,
                                const kiln_resize_options *options);

typedef enum kiln_grid_padding {
    KILN_GRID_ZEROS,
    KILN_GRID_BORDER,
    KILN_GRID_REFLECTION
} kiln_grid_padding;
typedef struct kiln_grid_options {
    kiln_resize_mode mode; /* NEAREST (ties to even), LINEAR, CUBIC */
    kiln_grid_padding padding;
    int is_aligned; /* -1 and 1 are the middles of the corner elements, not their outer edges */
} kiln_grid_options;
/* a [n, c, spatial…] with 1 to 3 spatial dims at points of `grid` [n, result dims…, spatial
 * dims], coordinates within -1 … 1, the last axis first: [n, c, result dims…]. */
KILN_API kiln_value kiln_grid_sample(kiln_graph *graph, kiln_value a, kiln_value grid,
                                     const kiln_grid_options *options);

#ifdef __cplusplus
}
#endif
#endif
