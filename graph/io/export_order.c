/* ONNX export of operations along one axis: sorting by TopK, cumulative sums by CumSum, the other
 * cumulative ones in doubling steps, each combining with what stands 1, 2, 4, … places before. */
#include "graph/io/export.h"

const char *kiln_export_argsort(kiln_export_call *call)
{
    const kiln_attrs *given = call->node->attrs;
    int64_t n = kiln_export_type(call, 0)->dims[given->sort.axis];
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", given->sort.axis);
    kiln_export_attr_int(&attrs, "largest", given->sort.descending);
    const char *count = kiln_export_ints(call, (kiln_ints){1, &n});
    const char *inputs[] = {kiln_export_operand(call, 0), count};
    const char *second;
    kiln_export_emit_two(call, "TopK", &attrs, inputs, &second);
    return second;
}

/* `name` moved by `by` places along the axis, the places left filled with `none`. */
static const char *move_by(kiln_export_call *call, const char *name, int64_t by, const char *none)
{
    const kiln_attrs *given = call->node->attrs;
    uint32_t rank = call->type->rank;
    int64_t *low = kiln_export_filled(call, rank, 0), *high = kiln_export_filled(call, rank, 0);
    low[given->cumulative.axis] = given->cumulative.reverse ? -by : by;
    high[given->cumulative.axis] = given->cumulative.reverse ? by : -by;
    kiln_export_padding padding = {
        {rank, low}, {rank, high}, {rank, kiln_export_filled(call, rank, 0)}};
    return kiln_export_pad(call, name, call->type, &padding, none);
}

const char *kiln_export_cumulative(kiln_export_call *call)
{
    const kiln_attrs *given = call->node->attrs;
    int64_t n = call->type->dims[given->cumulative.axis];
    const char *name = kiln_export_operand(call, 0);
    if (call->type->n_elements == 0) return name;
    const char *none = kiln_export_identity_scalar(call);
    for (int64_t by = 1; by < n; by *= 2) {
        name = kiln_export_emit(call, call->row->onnx, NULL, name, move_by(call, name, by, none));
    }
    return given->cumulative.exclusive ? move_by(call, name, 1, none) : name;
}

const char *kiln_export_cumulative_sum(kiln_export_call *call)
{
    const kiln_attrs *given = call->node->attrs;
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "exclusive", given->cumulative.exclusive);
    kiln_export_attr_int(&attrs, "reverse", given->cumulative.reverse);
    const char *axis = kiln_export_scalar(call, KILN_i64, (double)given->cumulative.axis);
    return kiln_export_emit(call, "CumSum", &attrs, kiln_export_operand(call, 0), axis);
}
