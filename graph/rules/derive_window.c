/* Derivatives of windows: a sum's goes to every element of its window, an extreme's to the first
 * one that has it. */
#include "graph/rules/derive.h"

/* Element i belongs to the windows whose gradients, spread by the strides, lie within the reach of
 * a window before it: again a sum over windows. */
void kiln_derive_window_sum(kiln_derivation *d)
{
    const kiln_type *type = kiln_derive_type(d, 0), *to = d->node->type;
    uint32_t n = type->rank;
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK], interior[KILN_MAX_RANK];
    int64_t one[KILN_MAX_RANK], none[KILN_MAX_RANK] = {0};
    kiln_attrs attrs = *d->node->attrs;
    if (to->n_elements == 0 || type->n_elements == 0) return;
    for (uint32_t i = 0; i < n; i++) {
        int64_t reach = (attrs.window.sizes.at[i] - 1) * attrs.window.dilations.at[i];
        int64_t stride = to->dims[i] > 1 ? attrs.window.strides.at[i] : 1;
        interior[i] = stride - 1;
        low[i] = reach - attrs.window.low.at[i];
        high[i] = type->dims[i] + reach - ((to->dims[i] - 1) * stride + 1) - low[i];
        one[i] = 1;
    }
    kiln_value dy = kiln_derive_padded(d->graph, d->gradients[0], low, high, interior);
    attrs.window.strides = (kiln_ints){n, one};
    attrs.window.low = attrs.window.high = (kiln_ints){n, none};
    d->out[0] = kiln_derive_node(d->graph, KILN_OP_window_sum, 1, &dy, &attrs);
}

void kiln_derive_window_max(kiln_derivation *d)
{
    kiln_value inputs[2] = {d->node->inputs[0], d->gradients[0]};
    d->out[0] = kiln_derive_node(d->graph, KILN_OP_window_max_grad, 2, inputs, d->node->attrs);
}

void kiln_derive_window_min(kiln_derivation *d)
{
    kiln_value inputs[2] = {minus(d->graph, d->node->inputs[0]), d->gradients[0]};
    d->out[0] = kiln_derive_node(d->graph, KILN_OP_window_max_grad, 2, inputs, d->node->attrs);
}
