/* Derivatives of views and of moves at known places: every element goes back where it came from. */
#include "graph/rules/derive.h"

kiln_value kiln_derive_padded(kiln_graph *graph, kiln_value a, const int64_t *low,
                              const int64_t *high, const int64_t *interior)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    uint32_t n = type->rank;
    int64_t none[KILN_MAX_RANK] = {0};
    kiln_attrs attrs = {KILN_FAMILY_pad,
                        .pad = {{n, low}, {n, high}, {n, interior ? interior : none}}};
    kiln_value inputs[2] = {a, kiln_add_splat(graph, type->dtype, 0, NULL, 0)};
    return kiln_derive_node(graph, KILN_OP_pad, 2, inputs, &attrs);
}

/* The sum over what was repeated, then the dims of 1 put back. */
void kiln_derive_broadcast(kiln_derivation *d)
{
    const kiln_type *from = kiln_derive_type(d, 0), *to = d->node->type;
    kiln_ints axes = d->node->attrs->axes.axes;
    int64_t summed[KILN_MAX_RANK];
    uint32_t n = 0, next = 0;
    for (uint32_t i = 0; i < to->rank; i++) {
        bool is_kept = next < axes.n && axes.at[next] == i;
        bool is_stretched = is_kept && from->dims[next] != to->dims[i];
        if (!is_kept || is_stretched) summed[n++] = i;
        next += is_kept;
    }
    kiln_value y = d->gradients[0];
    if (n) y = kiln_add_reduce(d->graph, KILN_OP_reduce_sum, y, n, summed);
    d->out[0] = kiln_add_reshape(d->graph, y, from->rank, from->dims);
}

void kiln_derive_reshape(kiln_derivation *d)
{
    const kiln_type *from = kiln_derive_type(d, 0);
    d->out[0] = kiln_add_reshape(d->graph, d->gradients[0], from->rank, from->dims);
}

void kiln_derive_transpose(kiln_derivation *d)
{
    kiln_ints permutation = d->node->attrs->permutation.permutation;
    int64_t back[KILN_MAX_RANK];
    for (uint32_t i = 0; i < permutation.n; i++) back[permutation.at[i]] = i;
    d->out[0] = kiln_add_transpose(d->graph, d->gradients[0], back);
}

void kiln_derive_reverse(kiln_derivation *d)
{
    d->out[0] = kiln_derive_node(d->graph, KILN_OP_reverse, 1, d->gradients, d->node->attrs);
}

void kiln_derive_slice(kiln_derivation *d)
{
    const kiln_type *from = kiln_derive_type(d, 0), *to = d->node->type;
    const kiln_attrs *attrs = d->node->attrs;
    int64_t high[KILN_MAX_RANK], interior[KILN_MAX_RANK];
    if (to->n_elements == 0) {
        d->out[0] = kiln_derive_zeros(d, 0);
        return;
    }
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t stride = to->dims[i] > 1 ? attrs->slice.strides.at[i] : 1;
        interior[i] = stride - 1;
        high[i] = from->dims[i] - attrs->slice.starts.at[i] - (to->dims[i] - 1) * stride - 1;
    }
    d->out[0] =
        kiln_derive_padded(d->graph, d->gradients[0], attrs->slice.starts.at, high, interior);
}

/* The elements low, low + 1 + interior, … of what pad gave; those it cropped get zeros. */
static kiln_value unpad(kiln_derivation *d)
{
    const kiln_type *from = kiln_derive_type(d, 0);
    const kiln_attrs *attrs = d->node->attrs;
    uint32_t n = from->rank;
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK], limits[KILN_MAX_RANK], zero[KILN_MAX_RANK];
    int64_t strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < n; i++) {
        low[i] = -attrs->pad.low.at[i];
        high[i] = -attrs->pad.high.at[i];
        zero[i] = 0;
        strides[i] = attrs->pad.interior.at[i] + 1;
        limits[i] = from->dims[i] ? (from->dims[i] - 1) * strides[i] + 1 : 0;
    }
    kiln_value y = kiln_derive_padded(d->graph, d->gradients[0], low, high, NULL);
    kiln_attrs slice = {KILN_FAMILY_slice, .slice = {{n, zero}, {n, limits}, {n, strides}}};
    return kiln_derive_node(d->graph, KILN_OP_slice, 1, &y, &slice);
}

/* The padding value gets the sum of what stands where no element came from. */
void kiln_derive_pad(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value dy = d->gradients[0];
    if (d->is_wanted[0]) {
        bool is_empty = kiln_derive_type(d, 0)->n_elements == 0;
        d->out[0] = is_empty ? kiln_derive_zeros(d, 0) : unpad(d);
    }
    if (!d->is_wanted[1]) return;
    kiln_value ones[2] = {kiln_derive_zeros(d, 0), kiln_add_splat_like(g, d->node->inputs[1], 1)};
    kiln_value is_padding = kiln_derive_node(g, KILN_OP_pad, 2, ones, d->node->attrs);
    const int64_t *axes = kiln_derive_axes(d, d->node->type->rank);
    kiln_value outside = choose(g, is_number(g, is_padding, 1), dy, kiln_add_splat_like(g, dy, 0));
    d->out[1] = kiln_add_reduce(g, KILN_OP_reduce_sum, outside, d->node->type->rank, axes);
}

void kiln_derive_concat(kiln_derivation *d)
{
    const kiln_type *to = d->node->type;
    int64_t axis = d->node->attrs->axis.axis;
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    for (uint32_t i = 0; i < to->rank; i++) {
        limits[i] = to->dims[i];
        strides[i] = 1;
    }
    limits[axis] = 0;
    uint32_t n = to->rank;
    /* the lists change from operand to operand */
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    for (uint32_t i = 0; i < d->node->n_inputs; i++) {
        starts[axis] = limits[axis];
        limits[axis] += kiln_derive_type(d, i)->dims[axis];
        if (d->is_wanted[i])
            d->out[i] = kiln_derive_node(d->graph, KILN_OP_slice, 1, d->gradients, &attrs);
    }
}

void kiln_derive_dynamic_slice(kiln_derivation *d)
{
    kiln_value inputs[3] = {kiln_derive_zeros(d, 0), d->gradients[0], d->node->inputs[1]};
    d->out[0] = kiln_derive_node(d->graph, KILN_OP_dynamic_update, 3, inputs, NULL);
}

void kiln_derive_dynamic_update(kiln_derivation *d)
{
    const kiln_type *block = kiln_derive_type(d, 1);
    kiln_value starts = d->node->inputs[2];
    kiln_value cleared[3] = {d->gradients[0], kiln_derive_zeros(d, 1), starts};
    if (d->is_wanted[0])
        d->out[0] = kiln_derive_node(d->graph, KILN_OP_dynamic_update, 3, cleared, NULL);
    kiln_value cut[2] = {d->gradients[0], starts};
    kiln_attrs attrs = {KILN_FAMILY_sizes, .sizes = {{block->rank, block->dims}}};
    if (d->is_wanted[1])
        d->out[1] = kiln_derive_node(d->graph, KILN_OP_dynamic_slice, 2, cut, &attrs);
}
