/* Type rules of views and moves. */
#include "base/checked.h"
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"

const kiln_type *kiln_infer_broadcast(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0], *given = call->given;
    kiln_ints axes = call->attrs->axes.axes;
    kiln_infer_ints(call, "axes", axes, type->rank);
    kiln_infer_axes(call, "axes", axes, given->rank, true);
    bool fits = type->dtype == given->dtype;
    for (uint32_t i = 0; i < axes.n; i++) {
        fits &= type->dims[i] == 1 || type->dims[i] == given->dims[axes.at[i]];
    }
    if (!fits) {
        kiln_infer_fail(
            call, "operand %s to %s by axes %s; expected one dtype and dims that are equal or 1",
            kiln_infer_types_string(call), kiln_type_string(&call->graph->scope->arena, given),
            kiln_ints_string(&call->graph->scope->arena, axes));
    }
    return given;
}

const kiln_type *kiln_infer_reshape(const kiln_infer_call *call)
{
    if (call->types[0]->dtype != call->given->dtype ||
        call->types[0]->n_elements != call->given->n_elements) {
        kiln_infer_fail(call, "from %s to %s; expected one dtype and as many elements",
                        kiln_infer_types_string(call),
                        kiln_type_string(&call->graph->scope->arena, call->given));
    }
    return call->given;
}

const kiln_type *kiln_infer_transpose(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    kiln_ints permutation = call->attrs->permutation.permutation;
    kiln_infer_ints(call, "permutation", permutation, type->rank);
    kiln_infer_axes(call, "permutation", permutation, type->rank, false);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) dims[i] = type->dims[permutation.at[i]];
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, dims);
}

const kiln_type *kiln_infer_slice(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    kiln_ints starts = call->attrs->slice.starts, limits = call->attrs->slice.limits;
    kiln_ints strides = call->attrs->slice.strides;
    kiln_infer_ints(call, "starts", starts, type->rank);
    kiln_infer_ints(call, "limits", limits, type->rank);
    kiln_infer_ints(call, "strides", strides, type->rank);
    kiln_infer_range(call, "strides", strides, 1, KILN_MAX_DIM);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t start = starts.at[i], limit = limits.at[i];
        if (start < 0 || start > limit || limit > type->dims[i]) {
            kiln_infer_fail(call,
                            "axis %u of %s from %lld to %lld; expected a range within the axis", i,
                            kiln_infer_types_string(call), (long long)start, (long long)limit);
        }
        dims[i] = kiln_ceil_div(limit - start, strides.at[i]);
    }
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, dims);
}

const kiln_type *kiln_infer_pad(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0], *value = call->types[1];
    kiln_ints low = call->attrs->pad.low, high = call->attrs->pad.high;
    kiln_ints interior = call->attrs->pad.interior;
    kiln_infer_ints(call, "low", low, type->rank);
    kiln_infer_ints(call, "high", high, type->rank);
    kiln_infer_ints(call, "interior", interior, type->rank);
    kiln_infer_range(call, "low", low, -KILN_MAX_DIM, KILN_MAX_DIM);
    kiln_infer_range(call, "high", high, -KILN_MAX_DIM, KILN_MAX_DIM);
    kiln_infer_range(call, "interior", interior, 0, KILN_MAX_DIM);
    if (value->rank != 0 || value->dtype != type->dtype) {
        kiln_infer_fail(call, "operands are %s; expected a scalar of the same dtype as the second",
                        kiln_infer_types_string(call));
    }
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        kiln_window_axis axis = {type->dims[i], 1, 1, low.at[i], high.at[i], interior.at[i] + 1, 1};
        dims[i] = kiln_infer_window_dim(call, i, axis);
    }
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, dims);
}

const kiln_type *kiln_infer_concat(const kiln_infer_call *call)
{
    const kiln_type *first = call->types[0];
    int64_t axis = call->attrs->axis.axis, sum = 0, dims[KILN_MAX_RANK];
    kiln_infer_axis(call, axis, first->rank);
    for (uint32_t i = 0; i < call->n; i++) {
        const kiln_type *type = call->types[i];
        bool fits = type->dtype == first->dtype && type->rank == first->rank;
        for (uint32_t j = 0; fits && j < type->rank; j++) {
            fits = j == axis || type->dims[j] == first->dims[j];
        }
        if (!fits) {
            const kiln_type *pair[] = {first, type};
            kiln_infer_fail(
                call, "operands 0 and %u are %s; expected types equal but for axis %lld", i,
                kiln_types_string(&call->graph->scope->arena, pair, 2), (long long)axis);
        }
        if (!kiln_checked_add(sum, type->dims[axis], &sum)) {
            kiln_infer_fail(call, "axis %lld overflows", (long long)axis);
        }
    }
    for (uint32_t j = 0; j < first->rank; j++) dims[j] = j == axis ? sum : first->dims[j];
    return kiln_graph_tensor(call->graph, first->dtype, first->rank, dims);
}

const kiln_type *kiln_infer_take(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0], *index = call->types[1];
    int64_t axis = call->attrs->axis.axis, dims[2 * KILN_MAX_RANK];
    uint32_t rank = 0;
    kiln_infer_axis(call, axis, type->rank);
    if (!kiln_dtype_in(index->dtype, KILN_TYPES_INTEGER)) {
        kiln_infer_fail(call, "operands are %s; expected integer indices",
                        kiln_infer_types_string(call));
    }
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i != axis) {
            dims[rank++] = type->dims[i];
            continue;
        }
        for (uint32_t j = 0; j < index->rank; j++) dims[rank++] = index->dims[j];
    }
    const kiln_type *result = kiln_graph_tensor(call->graph, type->dtype, rank, dims);
    if (type->dims[axis] == 0 && result->n_elements > 0) {
        kiln_infer_fail(call, "axis %lld of %s is empty; expected at least one element",
                        (long long)axis, kiln_infer_types_string(call));
    }
    return result;
}

static void check_starts(const kiln_infer_call *call, const kiln_type *starts, uint32_t rank)
{
    if (starts->dtype == KILN_i64 && starts->rank == 1 && starts->dims[0] == rank) return;
    kiln_infer_fail(call, "operands are %s; expected starts of type i64[%u]",
                    kiln_infer_types_string(call), rank);
}

const kiln_type *kiln_infer_dynamic_slice(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0];
    kiln_ints sizes = call->attrs->sizes.sizes;
    check_starts(call, call->types[1], type->rank);
    kiln_infer_ints(call, "sizes", sizes, type->rank);
    for (uint32_t i = 0; i < sizes.n; i++) {
        if (sizes.at[i] >= 0 && sizes.at[i] <= type->dims[i]) continue;
        kiln_infer_fail(call, "sizes is %s for %s; expected 0 up to the dim",
                        kiln_ints_string(&call->graph->scope->arena, sizes),
                        kiln_infer_types_string(call));
    }
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, sizes.at);
}

const kiln_type *kiln_infer_dynamic_update(const kiln_infer_call *call)
{
    const kiln_type *type = call->types[0], *block = call->types[1];
    check_starts(call, call->types[2], type->rank);
    bool fits = block->dtype == type->dtype && block->rank == type->rank;
    for (uint32_t i = 0; fits && i < type->rank; i++) fits = block->dims[i] <= type->dims[i];
    if (!fits) {
        kiln_infer_fail(call,
                        "operands are %s; expected a block of the same dtype and rank that fits",
                        kiln_infer_types_string(call));
    }
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, type->dims);
}
