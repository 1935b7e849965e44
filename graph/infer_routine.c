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

static bool is_square(const kiln_type *type)
{
    return type->rank >= 2 && type->dims[type->rank - 2] == type->dims[type->rank - 1];
}

const kiln_type *kiln_infer_cholesky(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    if (!is_square(type))
        kiln_infer_fail(call, "operand is %s; expected square matrices",
                        kiln_infer_types_string(call));
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, type->dims);
}

const kiln_type *kiln_infer_forward_solve(const kiln_infer_call *call)
{
    const kiln_type *a = call->types[0], *b = call->types[1];
    bool fits = is_square(a) && a->dtype == b->dtype && a->rank == b->rank;
    for (uint32_t i = 0; fits && i + 1 < a->rank; i++) fits = a->dims[i] == b->dims[i];
    if (!fits)
        kiln_infer_fail(call, "operands are %s; expected square matrices and right sides of as "
                              "many rows",
                        kiln_infer_types_string(call));
    return kiln_graph_tensor(call->graph, b->dtype, b->rank, b->dims);
}
