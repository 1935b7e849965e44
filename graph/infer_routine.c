/* Type rules of routines that keep the dims of their operand. */
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"

const kiln_type *kiln_infer_argsort(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    kiln_infer_axis(call, call->attrs->sort.axis, type->rank);
    return kiln_graph_tensor(call->graph, KILN_i64, type->rank, type->dims);
}

const kiln_type *kiln_infer_cumulative(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    kiln_infer_axis(call, call->attrs->cumulative.axis, type->rank);
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, type->dims);
}
