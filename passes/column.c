/* Which reductions and broadcasts belong to one space of columns; see column.h. */
#include "passes/column.h"

#include <string.h>

static bool is_equal_dims(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

kiln_ints kiln_reduced_axes(const kiln_node *reduction)
{
    if (reduction->attrs->family == KILN_FAMILY_axes) return reduction->attrs->axes.axes;
    return (kiln_ints){.n = 1, .at = &reduction->attrs->arg.axis};
}

bool kiln_is_same_columns(const kiln_graph *graph, const kiln_node *a, const kiln_node *b)
{
    if (!is_equal_dims(kiln_graph_type(graph, a->inputs[0]), kiln_graph_type(graph, b->inputs[0])))
        return false;
    kiln_ints x = kiln_reduced_axes(a), y = kiln_reduced_axes(b);
    return x.n == y.n && memcmp(x.at, y.at, x.n * sizeof *x.at) == 0;
}

bool kiln_is_column_broadcast(const kiln_graph *graph, const kiln_node *reduction,
                              const kiln_node *broadcast)
{
    if (broadcast->op != KILN_OP_broadcast) return false;
    const kiln_type *full = kiln_graph_type(graph, reduction->inputs[0]);
    const kiln_type *from = kiln_graph_type(graph, broadcast->inputs[0]);
    kiln_ints reduced = kiln_reduced_axes(reduction), axes = broadcast->attrs->axes.axes;
    bool is_shaped = is_equal_dims(broadcast->type, full) && is_equal_dims(from, reduction->type) &&
                     axes.n + reduced.n == full->rank;
    for (uint32_t i = 0; is_shaped && i < axes.n; i++) {
        is_shaped = i == 0 || axes.at[i] > axes.at[i - 1];
        for (uint32_t j = 0; j < reduced.n; j++) is_shaped &= axes.at[i] != reduced.at[j];
    }
    return is_shaped;
}
