/* The walk of a gather or scatter out of its attributes. */
#include "graph/gather.h"

/* The fields that both families have. */
typedef struct index_fields {
    kiln_ints slice_axes, dropped, operand_batch, indices_batch, start_map;
    int64_t index_axis;
} index_fields;

static index_fields fields_of(const kiln_attrs *attrs)
{
    if (attrs->family == KILN_FAMILY_gather) {
        return (index_fields){attrs->gather.offset_axes,   attrs->gather.collapsed_axes,
                              attrs->gather.operand_batch, attrs->gather.indices_batch,
                              attrs->gather.start_map,     attrs->gather.index_axis};
    }
    return (index_fields){attrs->scatter.window_axes,   attrs->scatter.inserted_axes,
                          attrs->scatter.operand_batch, attrs->scatter.indices_batch,
                          attrs->scatter.start_map,     attrs->scatter.index_axis};
}

static int32_t position(kiln_ints list, int64_t axis)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == axis) return (int32_t)i;
    }
    return -1;
}

void kiln_gather_plan_make(const kiln_attrs *attrs, const kiln_type *operand,
                           const kiln_type *indices, const kiln_type *slice,
                           kiln_gather_plan *out_plan)
{
    index_fields fields = fields_of(attrs);
    kiln_gather_plan *plan = out_plan;
    uint32_t next = 0, index = 0;
    plan->rank = operand->rank;
    plan->slice_rank = slice->rank;
    plan->index_rank = indices->rank;
    plan->n_components = fields.start_map.n;
    for (uint32_t i = 0; i < slice->rank; i++) {
        if (position(fields.slice_axes, i) >= 0) continue;
        if (index == fields.index_axis) index++;
        plan->walk[index++] = (int32_t)i;
    }
    if (fields.index_axis < indices->rank) plan->walk[fields.index_axis] = -1;
    for (uint32_t i = 0; i < operand->rank; i++) {
        int32_t batch = position(fields.operand_batch, i);
        plan->component[i] = position(fields.start_map, i);
        plan->batch[i] = batch < 0 ? -1 : plan->walk[fields.indices_batch.at[batch]];
        plan->offset[i] = -1;
        plan->sizes[i] = 1;
        if (batch >= 0 || position(fields.dropped, i) >= 0) continue;
        plan->offset[i] = (int32_t)fields.slice_axes.at[next++];
        plan->sizes[i] = slice->dims[plan->offset[i]];
    }
}

bool kiln_gather_is_apart(const kiln_gather_plan *plan, const kiln_type *operand, uint32_t axis)
{
    if (plan->batch[axis] >= 0) return true;
    return plan->component[axis] < 0 && plan->sizes[axis] == operand->dims[axis];
}
