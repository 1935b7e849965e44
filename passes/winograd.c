/* winograd: which convolutions run by Winograd's algorithm, and by which. F(m x m, 3 x 3) computes
 * m x m outputs from (m + 2)^2 products per pair of features instead of 9 m^2; the rest is sums.
 * Decided by shapes alone, for kernels known when compiling (their transform is a constant); never
 * in strict compiles, because it rounds differently.
 *
 *     convolution %x, %w {…}  =>  convolution %x, %w {… winograd = 4}
 *
 * Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2016. */
#include "base/checked.h"
#include "passes/rewrite.h"

#define LEAST_FEATURES 32
#define MOST_FEATURES 4096 /* one chain of sums */
#define UNIT_FEATURES 16   /* columns of a panel */

/* Products that take as long as one more element of the kernel read from memory, or as one element
 * of a tile transformed there and back. */
#define PRODUCTS_PER_WEIGHT 30.0
#define PRODUCTS_PER_TRANSFORM 130.0
#define LEAST_GAIN 0.9 /* a larger tile rounds worse and its kernel takes more memory */

typedef struct conv_shape {
    double batch, height, width, in, out; /* of the result; features */
} conv_shape;

/* Products that take as long as the convolution; side 0 is the direct sum. */
static double products(const conv_shape *s, int64_t side)
{
    int64_t reach = side + 2;
    double points = side ? (double)(reach * reach) : 9;
    double pixels = s->batch * s->height * s->width, tiles = pixels;
    if (side)
        tiles = s->batch * (double)(kiln_ceil_div((int64_t)s->height, side) *
                                    kiln_ceil_div((int64_t)s->width, side));
    double work = tiles * points * s->in * s->out;
    double transforms = side ? tiles * points * (s->in + s->out) * PRODUCTS_PER_TRANSFORM / 16 : 0;
    return work + transforms + points * s->in * s->out * PRODUCTS_PER_WEIGHT;
}

static bool all_ones(kiln_ints list)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (list.at[i] != 1) return false;
    return true;
}

static bool is_fit(const kiln_rewrite *rewrite, const kiln_node *node, conv_shape *out_shape)
{
    const kiln_attrs *attrs = node->attrs;
    const kiln_type *kernel = kiln_operand_node(rewrite, node, 1)->type;
    const int64_t *k = attrs->conv.kernel_axes.at, *out = attrs->conv.output_axes.at;
    if (kernel->dtype != KILN_f32 || attrs->conv.accumulate != KILN_f32) return false;
    if (kernel->rank != 4 || kernel->dims[k[2]] != 3 || kernel->dims[k[3]] != 3) return false;
    bool is_plain = attrs->conv.groups == 1 && all_ones(attrs->conv.strides) &&
                    all_ones(attrs->conv.lhs_dilation) && all_ones(attrs->conv.rhs_dilation);
    int64_t in = kernel->dims[k[1]], features = kernel->dims[k[0]];
    if (!is_plain || in % UNIT_FEATURES || features % UNIT_FEATURES) return false;
    if (in < LEAST_FEATURES || in > MOST_FEATURES || features < LEAST_FEATURES) return false;
    const int64_t *dims = node->type->dims;
    *out_shape = (conv_shape){(double)dims[out[0]], (double)dims[out[2]], (double)dims[out[3]],
                              (double)in, (double)features};
    return node->type->n_elements > 0;
}

static kiln_value choose_algorithm(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_value none = {0, 0};
    conv_shape shape;
    if (node->op != KILN_OP_convolution || node->attrs->conv.winograd) return none;
    kiln_value base = kiln_view_base(rewrite->source, node->inputs[1]);
    if (kiln_graph_node(rewrite->source, base)->op != KILN_OP_constant) return none;
    if (!is_fit(rewrite, node, &shape)) return none;
    double best = products(&shape, 0);
    kiln_attrs attrs = *node->attrs;
    for (int64_t side = 2; side <= 4; side += 2) {
        double cost = products(&shape, side);
        if (cost >= best * LEAST_GAIN) continue;
        best = cost;
        attrs.conv.winograd = side;
    }
    if (!attrs.conv.winograd) return none;
    kiln_value inputs[] = {kiln_mapped(rewrite, node->inputs[0]),
                           kiln_mapped(rewrite, node->inputs[1])};
    return kiln_rewrite_with(rewrite, node, inputs, &attrs);
}

kiln_graph *kiln_pass_winograd(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    kiln_visit_fn *visit = pipeline->is_strict ? NULL : choose_algorithm;
    return kiln_rewrite_sweep(pipeline, graph, visit, NULL, NULL);
}
