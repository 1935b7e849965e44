/* Derivatives of nodes with regions. */
#include "graph/rules/derive.h"

void kiln_derive_item(kiln_derivation *d)
{
    d->out[0] = d->gradients[0];
    d->item = (uint32_t)d->node->attrs->item.index;
}
