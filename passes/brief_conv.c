/* Which convolutions are brief: of little to middle work, columns of the image side by side in
 * memory (as in NCHW) or features of image and kernel (as in NHWC), a kernel that is known only
 * when running, operands in the dtype of the sums or easily widened to it. */
#include "passes/brief_conv.h"

#include "base/checked.h"

#define MOST_WORK (1 << 25)      /* multiplications: half a millisecond on a core */
#define SHORT_SUM 256            /* elements; operands of longer ones leave the first cache, … */
#define MOST_LONG_WORK (1 << 22) /* … where packed ones run up to twice as fast */
#define MOST_STRIDED_WORK (1 << 24) /* of halves, which lie closer together in a copied window */
#define MOST_EXTENT (1 << 30)       /* positions along an axis are counted in 32 bits */

/* Constants are packed when compiling; an iota is written into code, not into memory. */
static bool is_known(const kiln_graph *graph, kiln_value value)
{
    kiln_op op = kiln_graph_node(graph, kiln_view_base(graph, value))->op;
    return op == KILN_OP_constant || op == KILN_OP_iota;
}

static bool has_columns_together(const kiln_graph *graph, const kiln_node *node)
{
    kiln_view_strides at;
    kiln_value image = node->inputs[0];
    kiln_ints axes = node->attrs->conv.input_axes;
    if (!kiln_view_is_strided(graph, image, kiln_view_base(graph, image), &at)) return false;
    return at.strides[axes.at[axes.n - 1]] == 1;
}

/* Extents that fit, and of input dilation what falls apart into plain convolutions: columns of one
 * remainder by the taps that meet elements. */
static bool has_plain_axes(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_attrs *attrs = node->attrs;
    const kiln_type *image = kiln_graph_type(graph, node->inputs[0]);
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    uint32_t n_spatial = attrs->conv.strides.n;
    for (uint32_t i = 0; i < n_spatial; i++) {
        int64_t apart = attrs->conv.lhs_dilation.at[i], low = attrs->conv.low.at[i];
        int64_t extents[] = {image->dims[attrs->conv.input_axes.at[i + 2]],
                             kernel->dims[attrs->conv.kernel_axes.at[i + 2]],
                             node->type->dims[attrs->conv.output_axes.at[i + 2]],
                             attrs->conv.strides.at[i],
                             attrs->conv.rhs_dilation.at[i],
                             low < 0 ? -low : low,
                             apart};
        for (uint32_t j = 0; j < sizeof extents / sizeof *extents; j++)
            if (extents[j] >= MOST_EXTENT) return false;
        if (extents[2] * extents[3] + extents[1] * extents[4] >= MOST_EXTENT) return false;
        if (apart > 1 && attrs->conv.rhs_dilation.at[i] > 1) return false;
        if (apart > 1 && i + 1 == n_spatial && attrs->conv.strides.at[i] > 1) return false;
    }
    return n_spatial >= 1 && n_spatial <= 3;
}

/* Taps that meet elements only. */
static bool is_little_work(const kiln_graph *graph, const kiln_node *node)
{
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    kiln_ints axes = node->attrs->conv.kernel_axes;
    int64_t work, sizes[2 + KILN_MAX_RANK] = {node->type->n_elements, kernel->dims[axes.at[1]]};
    uint32_t n = 2;
    for (uint32_t i = 2; i < axes.n; i++)
        sizes[n++] =
            kiln_ceil_div(kernel->dims[axes.at[i]], node->attrs->conv.lhs_dilation.at[i - 2]);
    if (!kiln_checked_product(sizes, n, &work)) return false;
    if (kernel->n_elements / kernel->dims[axes.at[0]] > SHORT_SUM) return work <= MOST_LONG_WORK;
    kiln_ints strides = node->attrs->conv.strides;
    bool is_half = kernel->dtype != node->attrs->conv.accumulate;
    bool is_strided_half = is_half && strides.at[strides.n - 1] > 1;
    return work <= (is_strided_half ? MOST_STRIDED_WORK : MOST_WORK);
}

/* A kernel that is one matrix of taps and input features by output features, an image of pixels;
 * several taps, since one is a product, and more than one input feature, which is a sum of taps. */
static bool has_features_together(const kiln_graph *graph, const kiln_node *node)
{
    kiln_view_strides at;
    kiln_value image = node->inputs[0], kernel = node->inputs[1];
    kiln_ints axes = node->attrs->conv.kernel_axes;
    const int64_t *dims = kiln_graph_type(graph, kernel)->dims;
    if (!kiln_view_is_strided(graph, image, kiln_view_base(graph, image), &at)) return false;
    if (at.strides[node->attrs->conv.input_axes.at[1]] != 1) return false;
    if (!kiln_view_is_strided(graph, kernel, kiln_view_base(graph, kernel), &at)) return false;
    int64_t distance = at.strides[axes.at[1]] * dims[axes.at[1]], n_taps = 1;
    for (uint32_t i = axes.n; i-- > 2;) {
        if (dims[axes.at[i]] != 1 && at.strides[axes.at[i]] != distance) return false;
        distance *= dims[axes.at[i]];
        n_taps *= dims[axes.at[i]];
    }
    return at.strides[axes.at[0]] == 1 && n_taps > 1 && dims[axes.at[1]] > 1;
}

/* Between several convolutions pixels go on by rows (bands), kernels in panels. */
static bool is_only_convolution(const kiln_graph *graph)
{
    uint32_t n = 0;
    for (uint32_t id = 1; id < graph->nodes.n && n <= 1; id++)
        n += graph->nodes.at[id]->op == KILN_OP_convolution;
    return n == 1;
}

/* Whether an operand is in the dtype of the sums, or in halves of it that are widened as they are
 * loaded: where loads of halves have masks, which are a branch for each lane elsewhere. */
static bool is_sum_dtype(kiln_dtype dtype, kiln_dtype sum, const kiln_machine *machine)
{
    if (dtype == sum) return true;
    if (sum != KILN_f32 || machine->kind != KILN_MACHINE_CPU || machine->has_amx) return false;
    return (dtype == KILN_bf16 || dtype == KILN_f16) && machine->vector_bytes >= 64;
}

/* Whether operands are such, in memory, and there are results. */
static bool has_plain_operands(const kiln_graph *graph, const kiln_node *node,
                               const kiln_machine *machine)
{
    const kiln_type *image = kiln_graph_type(graph, node->inputs[0]);
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    kiln_dtype dtype = node->attrs->conv.accumulate;
    if (!is_sum_dtype(image->dtype, dtype, machine)) return false;
    if (!is_sum_dtype(kernel->dtype, dtype, machine)) return false;
    if (is_known(graph, node->inputs[0]) || is_known(graph, node->inputs[1])) return false;
    if (node->type->n_elements == 0 || image->n_elements == 0 || kernel->n_elements == 0)
        return false;
    return true;
}

kiln_conv_form kiln_conv_choose_form(const kiln_graph *graph, kiln_value contraction,
                                     const kiln_machine *machine)
{
    const kiln_node *node = kiln_graph_node(graph, contraction);
    if (node->op != KILN_OP_convolution || node->attrs->conv.winograd) return KILN_CONV_LONG;
    if (!has_plain_operands(graph, node, machine)) return KILN_CONV_LONG;
    if (!has_plain_axes(graph, node)) return KILN_CONV_LONG;
    if (!is_little_work(graph, node)) return KILN_CONV_LONG;
    if (has_columns_together(graph, node)) return KILN_CONV_BY_COLUMNS;
    bool is_by_features = has_features_together(graph, node) && is_only_convolution(graph);
    return is_by_features ? KILN_CONV_BY_FEATURES : KILN_CONV_LONG;
}
