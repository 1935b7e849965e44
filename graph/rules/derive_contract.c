/* Derivatives of contractions: each operand's is a contraction of the gradient with the other one.
 * Sums are kept in the dtype that the node names; a wide result's gradient has it already, and
 * operands are brought to it. */
#include "graph/rules/derive.h"

/* The axes in neither list, ascending. */
static kiln_ints free_axes(const kiln_derivation *d, uint32_t rank, kiln_ints a, kiln_ints b)
{
    int64_t *axes = kiln_derive_axes(d, rank);
    uint32_t used = 0, n = 0;
    for (uint32_t i = 0; i < a.n; i++) used |= 1u << a.at[i];
    for (uint32_t i = 0; i < b.n; i++) used |= 1u << b.at[i];
    for (uint32_t i = 0; i < rank; i++) {
        if (!(used >> i & 1)) axes[n++] = i;
    }
    return (kiln_ints){n, axes};
}

static kiln_ints range(const kiln_derivation *d, uint32_t first, uint32_t n)
{
    return (kiln_ints){n, kiln_derive_axes(d, first + n) + first};
}

/* One product of the two that a dot has: which axes of the operand play which role. */
typedef struct side {
    kiln_value value;
    kiln_ints batch, summed, rest;
} side;

/* The numbers of the sorted list's entries in the order of `pairs`: entry j of `pairs` is `to[j]`
 * of the other operand. Appends to a list of operand axes by place in the result. */
static void append_pairs(kiln_ints from, kiln_ints to, int64_t *out, uint32_t *n)
{
    for (int64_t axis = 0; axis < KILN_MAX_RANK; axis++) {
        for (uint32_t j = 0; j < from.n; j++) {
            if (from.at[j] == axis) out[(*n)++] = to.at[j];
        }
    }
}

static void append_list(kiln_ints list, int64_t *out, uint32_t *n)
{
    for (uint32_t i = 0; i < list.n; i++) out[(*n)++] = list.at[i];
}

/* Result axis i of `product` is operand axis axes[i]. */
static kiln_value put_in_order(kiln_derivation *d, kiln_value product, const int64_t *axes,
                               uint32_t operand)
{
    int64_t back[KILN_MAX_RANK];
    uint32_t rank = kiln_derive_type(d, operand)->rank;
    for (uint32_t i = 0; i < rank; i++) back[axes[i]] = i;
    product = kiln_add_transpose(d->graph, product, back);
    return narrow_like(d->graph, product, d->node->inputs[operand]);
}

static kiln_value dot(kiln_derivation *d, const side *a, const side *b)
{
    kiln_attrs attrs = *d->node->attrs;
    attrs.dot.lhs_batch = a->batch;
    attrs.dot.rhs_batch = b->batch;
    attrs.dot.lhs_contract = a->summed;
    attrs.dot.rhs_contract = b->summed;
    attrs.dot.wide = 0;
    kiln_value inputs[2] = {narrow_like(d->graph, a->value, d->gradients[0]),
                            narrow_like(d->graph, b->value, d->gradients[0])};
    return kiln_derive_node(d->graph, KILN_OP_dot_general, 2, inputs, &attrs);
}

void kiln_derive_dot_general(kiln_derivation *d)
{
    const kiln_attrs *attrs = d->node->attrs;
    side a = {d->node->inputs[0], attrs->dot.lhs_batch, attrs->dot.lhs_contract, {0}};
    side b = {d->node->inputs[1], attrs->dot.rhs_batch, attrs->dot.rhs_contract, {0}};
    a.rest = free_axes(d, kiln_derive_type(d, 0)->rank, a.batch, a.summed);
    b.rest = free_axes(d, kiln_derive_type(d, 1)->rank, b.batch, b.summed);
    kiln_ints batch = range(d, 0, a.batch.n), of_a = range(d, batch.n, a.rest.n);
    kiln_ints of_b = range(d, batch.n + a.rest.n, b.rest.n);
    int64_t axes[2 * KILN_MAX_RANK];
    uint32_t n = 0;
    if (d->is_wanted[0]) {
        side y = {d->gradients[0], batch, of_b, {0}}, other = {b.value, b.batch, b.rest, {0}};
        append_list(a.batch, axes, &n);
        append_list(a.rest, axes, &n);
        append_pairs(b.summed, a.summed, axes, &n);
        d->out[0] = put_in_order(d, dot(d, &y, &other), axes, 0);
    }
    n = 0;
    if (d->is_wanted[1]) {
        side y = {d->gradients[0], batch, of_a, {0}}, other = {a.value, a.batch, a.rest, {0}};
        append_list(b.batch, axes, &n);
        append_pairs(a.summed, b.summed, axes, &n);
        append_list(b.rest, axes, &n);
        d->out[1] = put_in_order(d, dot(d, &other, &y), axes, 1);
    }
}

/* Along spatial dim i: sizes of operand, kernel and result, and how far they reach dilated. */
typedef struct conv_dim {
    int64_t in, kernel, out, in_reach, kernel_reach, out_reach;
} conv_dim;

static int64_t reach(int64_t n, int64_t dilation)
{
    return (n - 1) * dilation + 1;
}

static conv_dim dim_of(const kiln_derivation *d, uint32_t i)
{
    const kiln_attrs *a = d->node->attrs;
    conv_dim dim = {kiln_derive_type(d, 0)->dims[a->conv.input_axes.at[i + 2]],
                    kiln_derive_type(d, 1)->dims[a->conv.kernel_axes.at[i + 2]],
                    d->node->type->dims[a->conv.output_axes.at[i + 2]],
                    0,
                    0,
                    0};
    dim.in_reach = reach(dim.in, a->conv.lhs_dilation.at[i]);
    dim.kernel_reach = reach(dim.kernel, a->conv.rhs_dilation.at[i]);
    dim.out_reach = reach(dim.out, a->conv.strides.at[i]);
    return dim;
}

/* The first two roles exchanged: batch and feature, or features out and in. */
static kiln_ints exchanged(const kiln_derivation *d, kiln_ints axes)
{
    int64_t *out = kiln_derive_axes(d, axes.n);
    for (uint32_t i = 0; i < axes.n; i++) out[i] = axes.at[i < 2 ? 1 - i : i];
    return (kiln_ints){axes.n, out};
}

static kiln_value convolve(kiln_derivation *d, kiln_value a, kiln_value kernel, kiln_attrs *attrs)
{
    attrs->conv.winograd = attrs->conv.wide = 0;
    kiln_value inputs[2] = {narrow_like(d->graph, a, d->gradients[0]),
                            narrow_like(d->graph, kernel, d->gradients[0])};
    return kiln_derive_node(d->graph, KILN_OP_convolution, 2, inputs, attrs);
}

/* The gradient, spread by the strides, against the kernel turned around with its features
 * exchanged in each group. */
static kiln_value input_gradient(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_attrs attrs = *d->node->attrs;
    kiln_ints axes = attrs.conv.kernel_axes;
    uint32_t n = axes.n - 2;
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK], sorted[KILN_MAX_RANK];
    uint32_t n_sorted = 0;
    for (uint32_t i = 0; i < n; i++) {
        conv_dim dim = dim_of(d, i);
        low[i] = dim.kernel_reach - 1 - attrs.conv.low.at[i];
        high[i] = dim.in_reach + dim.kernel_reach - 1 - dim.out_reach - low[i];
    }
    for (int64_t i = 0; i < axes.n; i++) {
        if (i != axes.at[0] && i != axes.at[1]) sorted[n_sorted++] = i;
    }
    kiln_attrs turned = {KILN_FAMILY_axes, .axes = {{n_sorted, sorted}}};
    kiln_value kernel = d->node->inputs[1];
    if (n) kernel = kiln_derive_node(g, KILN_OP_reverse, 1, &kernel, &turned);
    kernel = kiln_add_move_groups(g, kernel, axes.at[0], axes.at[1], attrs.conv.groups);
    kiln_ints strides = attrs.conv.strides;
    attrs.conv.strides = attrs.conv.lhs_dilation;
    attrs.conv.lhs_dilation = strides;
    attrs.conv.low = (kiln_ints){n, low};
    attrs.conv.high = (kiln_ints){n, high};
    attrs.conv.kernel_axes = exchanged(d, axes);
    attrs.conv.input_axes = d->node->attrs->conv.output_axes;
    attrs.conv.output_axes = d->node->attrs->conv.input_axes;
    return narrow_like(g, convolve(d, d->gradients[0], kernel, &attrs), d->node->inputs[0]);
}

/* The operand against the gradient, spread by the strides, summed over the batch, which stands
 * where features do; the groups of features stand with it. */
static kiln_value kernel_gradient(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_attrs attrs = *d->node->attrs;
    kiln_ints axes = attrs.conv.input_axes;
    uint32_t n = axes.n - 2;
    int64_t high[KILN_MAX_RANK];
    for (uint32_t i = 0; i < n; i++) {
        conv_dim dim = dim_of(d, i);
        high[i] = dim.kernel_reach + dim.out_reach - 1 - dim.in_reach - attrs.conv.low.at[i];
    }
    kiln_value a =
        kiln_add_move_groups(g, d->node->inputs[0], axes.at[1], axes.at[0], attrs.conv.groups);
    kiln_ints strides = attrs.conv.strides;
    attrs.conv.strides = attrs.conv.rhs_dilation;
    attrs.conv.rhs_dilation = strides;
    attrs.conv.high = (kiln_ints){n, high};
    attrs.conv.input_axes = exchanged(d, axes);
    attrs.conv.kernel_axes = exchanged(d, d->node->attrs->conv.output_axes);
    attrs.conv.output_axes = exchanged(d, d->node->attrs->conv.kernel_axes);
    return narrow_like(g, convolve(d, a, d->gradients[0], &attrs), d->node->inputs[1]);
}

void kiln_derive_convolution(kiln_derivation *d)
{
    bool is_empty = kiln_derive_type(d, 0)->n_elements == 0 ||
                    kiln_derive_type(d, 1)->n_elements == 0 || d->node->type->n_elements == 0;
    if (is_empty) return;
    if (d->is_wanted[0]) d->out[0] = input_gradient(d);
    if (d->is_wanted[1]) d->out[1] = kernel_gradient(d);
}
