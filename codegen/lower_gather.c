/* gather while lowering: first the entries of the index vector that applies to the element at hand,
 * then the operand's element there. Entries that are the same in all lanes stay scalar, so slices
 * with contiguous elements are read by vectors. */
#include "codegen/lower_value.h"
#include "graph/gather.h"

static void ask_vector(kiln_lower *lower, kiln_frame *frame, const kiln_gather_plan *plan,
                       kiln_value indices)
{
    const kiln_site site = *kiln_frame_site(lower, frame);
    for (uint32_t c = 0; c < plan->n_components; c++) {
        kiln_index index = {.rank = plan->index_rank};
        for (uint32_t i = 0; i < plan->index_rank; i++) {
            index.axis[i] = plan->walk[i] < 0 ? kiln_axis_scalar(kiln_lower_i64(lower, c), c)
                                              : site.index.axis[plan->walk[i]];
        }
        kiln_frame_ask(lower, frame, indices, &index, site.guard);
    }
}

static kiln_axis_index axis_at(kiln_lower *lower, kiln_frame *frame, const kiln_gather_plan *plan,
                               uint32_t axis, int64_t dim)
{
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_axis_index at = kiln_axis_zero(lower);
    if (plan->batch[axis] >= 0) return site.index.axis[plan->batch[axis]];
    if (plan->offset[axis] >= 0) at = site.index.axis[plan->offset[axis]];
    if (plan->component[axis] >= 0 && plan->sizes[axis] < dim) {
        kiln_kv raw = kiln_frame_raw(lower, frame, (uint32_t)plan->component[axis]);
        kiln_kv start = kiln_lower_clamp_index(lower, raw, dim - plan->sizes[axis]);
        bool is_scalar = kiln_kernel_at(lower->kernel, start)->lanes == 1;
        kiln_axis_index shift =
            is_scalar ? kiln_axis_scalar(start, 1) : (kiln_axis_index){.lanes = start};
        at = plan->offset[axis] >= 0 ? kiln_axis_add(lower, &at, &shift) : shift;
        at.extent = dim;
    }
    return at;
}

kiln_kv kiln_lower_gather(kiln_lower *lower, kiln_frame *frame)
{
    const kiln_node *node = kiln_graph_node(lower->graph, frame->node);
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    const kiln_type *indices = kiln_graph_type(lower->graph, node->inputs[1]);
    kiln_gather_plan plan;
    if (operand->n_elements == 0) return kiln_lower_zero(lower, frame);
    kiln_gather_plan_make(node->attrs, operand, indices, node->type, &plan);
    if (frame->phase == 0 && plan.n_components > 0) {
        ask_vector(lower, frame, &plan, node->inputs[1]);
        return 0;
    }
    if (frame->subs.n > plan.n_components) return kiln_frame_sub(lower, frame, plan.n_components);
    const kiln_site site = *kiln_frame_site(lower, frame);
    kiln_index index = {.rank = operand->rank};
    for (uint32_t i = 0; i < operand->rank; i++)
        index.axis[i] = axis_at(lower, frame, &plan, i, operand->dims[i]);
    kiln_frame_ask(lower, frame, node->inputs[0], &index, site.guard);
    return 0;
}
