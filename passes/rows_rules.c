/* How each class of operations hands rows on. An operation that works along other axes than the
 * rows' keeps them apart; a value without rows may meet them where it is the same for all of them;
 * everything else mixes. */
#include "passes/rows_rules.h"
#include "graph/gather.h"

static const kiln_type *operand_type(const kiln_rows *rows, const kiln_node *node, uint32_t i)
{
    return kiln_graph_type(rows->graph, node->inputs[i]);
}

static const kiln_row_state *operand_state(const kiln_rows *rows, const kiln_node *node, uint32_t i)
{
    return &rows->states[node->inputs[i].id];
}

static kiln_row_state mixed(const kiln_node *node, const char *why)
{
    return (kiln_row_state){.kind = KILN_ROW_MIXED, .at = node->id, .why = why};
}

static kiln_row_state fixed(uint32_t varies)
{
    return (kiln_row_state){.kind = KILN_ROW_FIXED, .varies = varies};
}

static kiln_row_state each_along(const kiln_row_state *from, uint32_t axis)
{
    return (kiln_row_state){.kind = KILN_ROW_EACH, .axis = axis, .each = from->each};
}

/* Every axis with more than one entry. */
static uint32_t all_axes(const kiln_type *type)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < type->rank; i++) set |= (uint32_t)(type->dims[i] > 1) << i;
    return set;
}

static bool ints_have(kiln_ints list, int64_t value)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == value) return true;
    }
    return false;
}

/* Operands first … first + n - 1 side by side: axis i of one is axis i of all. */
static kiln_row_state join(const kiln_rows *rows, const kiln_node *node, uint32_t first, uint32_t n)
{
    const kiln_row_state *found = NULL;
    uint32_t varies = 0;
    for (uint32_t i = first; i < first + n; i++) {
        const kiln_row_state *state = operand_state(rows, node, i);
        if (state->kind == KILN_ROW_FIXED) {
            varies |= state->varies;
        } else if (!found) {
            found = state;
        } else if (found->axis != state->axis || found->each != state->each) {
            return mixed(node, "its operands have their rows along different axes");
        }
    }
    if (!found) return fixed(varies);
    for (uint32_t i = first; i < first + n; i++) {
        const kiln_row_state *state = operand_state(rows, node, i);
        if (state->kind == KILN_ROW_FIXED && (state->varies >> found->axis & 1))
            return mixed(node, "an operand without rows differs from row to row");
    }
    return *found;
}

/* One or more operands side by side, of which the op works along some axes in a way of its own. */
static kiln_row_state join_beside(const kiln_rows *rows, const kiln_node *node, uint32_t n,
                                  kiln_ints axes)
{
    kiln_row_state state = join(rows, node, 0, n);
    for (uint32_t i = 0; i < axes.n; i++) state.varies |= 1u << axes.at[i];
    if (state.kind == KILN_ROW_FIXED) return fixed(state.varies & all_axes(node->type));
    if (state.kind == KILN_ROW_EACH && ints_have(axes, state.axis))
        return mixed(node, "it works along the axis of the rows");
    return state;
}

/* Drops reduced axes. */
static kiln_row_state visit_reduce(const kiln_rows *rows, const kiln_node *node)
{
    bool is_arg = node->attrs->family == KILN_FAMILY_arg;
    kiln_ints axes = is_arg ? (kiln_ints){1, &node->attrs->arg.axis} : node->attrs->axes.axes;
    const kiln_row_state *state = operand_state(rows, node, 0);
    if (state->kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
    if (ints_have(axes, state->axis)) {
        const kiln_node *summed = kiln_graph_node(rows->graph, node->inputs[0]);
        bool is_count = node->op == KILN_OP_reduce_sum && node->type->dtype == KILN_i64 &&
                        summed->op == KILN_OP_convert &&
                        operand_type(rows, summed, 0)->dtype == KILN_bool;
        kiln_row_state result = mixed(node, "it reduces over the rows");
        if (is_count) result.kind = KILN_ROW_COUNT;
        return result;
    }
    uint32_t before = 0;
    for (uint32_t i = 0; i < axes.n; i++) before += axes.at[i] < state->axis;
    return each_along(state, state->axis - before);
}

static kiln_row_state visit_window(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    if (state->kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
    uint32_t a = state->axis;
    bool is_apart = node->attrs->window.sizes.at[a] == 1 &&
                    node->attrs->window.strides.at[a] == 1 && node->attrs->window.low.at[a] == 0 &&
                    node->attrs->window.high.at[a] == 0;
    return is_apart ? *state : mixed(node, "its windows go over several rows");
}

static kiln_row_state visit_broadcast(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    const kiln_type *type = operand_type(rows, node, 0);
    const int64_t *axes = node->attrs->axes.axes.at;
    if (state->kind == KILN_ROW_FIXED) {
        uint32_t varies = 0;
        for (uint32_t i = 0; i < type->rank; i++) varies |= (state->varies >> i & 1) << axes[i];
        return fixed(varies);
    }
    uint32_t to = (uint32_t)axes[state->axis];
    if (type->dims[state->axis] != node->type->dims[to]) return mixed(node, "it repeats the rows");
    return each_along(state, to);
}

/* Axes of a reshape that only adds or drops dims of 1 keep their meaning; else all may vary. */
static uint32_t reshape_varies(uint32_t varies, const kiln_type *from, const kiln_type *to)
{
    uint32_t result = 0, i = 0, j = 0;
    if (!varies) return 0;
    for (;; i++, j++) {
        while (i < from->rank && from->dims[i] == 1) i++;
        while (j < to->rank && to->dims[j] == 1) j++;
        if (i == from->rank || j == to->rank) break;
        if (from->dims[i] != to->dims[j]) return all_axes(to);
        result |= (varies >> i & 1) << j;
    }
    return i == from->rank && j == to->rank ? result : all_axes(to);
}

static int64_t dims_before(const kiln_type *type, uint32_t axis)
{
    int64_t product = 1; /* of a type's dims: in range */
    for (uint32_t i = 0; i < axis; i++) product *= type->dims[i];
    return product;
}

/* The rows stay apart along an axis that has as many elements before it, and n times something. */
static kiln_row_state visit_reshape(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    const kiln_type *from = operand_type(rows, node, 0), *to = node->type;
    if (state->kind == KILN_ROW_FIXED) return fixed(reshape_varies(state->varies, from, to));
    int64_t before = dims_before(from, state->axis);
    for (uint32_t a = 0; a < to->rank; a++) {
        bool is_there = dims_before(to, a) == before && to->dims[a] > 0;
        if (!is_there || to->dims[a] % rows->n != 0) continue;
        return (kiln_row_state){.kind = KILN_ROW_EACH, .axis = a, .each = to->dims[a] / rows->n};
    }
    return mixed(node, "no axis of its result counts rows");
}

static kiln_row_state visit_transpose(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    const int64_t *from = node->attrs->permutation.permutation.at;
    uint32_t varies = 0;
    for (uint32_t i = 0; i < node->type->rank; i++) {
        if (state->kind == KILN_ROW_EACH && from[i] == state->axis) return each_along(state, i);
        varies |= (state->varies >> from[i] & 1) << i;
    }
    return fixed(varies);
}

static kiln_row_state visit_slice(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    if (state->kind == KILN_ROW_FIXED) return fixed(state->varies & all_axes(node->type));
    uint32_t a = state->axis;
    bool is_whole = node->attrs->slice.strides.at[a] == 1 &&
                    node->type->dims[a] == operand_type(rows, node, 0)->dims[a];
    return is_whole ? *state : mixed(node, "it takes some of the rows");
}

static kiln_row_state visit_pad(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *state = operand_state(rows, node, 0);
    if (operand_state(rows, node, 1)->kind != KILN_ROW_FIXED)
        return mixed(node, "it pads with a value made of rows");
    if (state->kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
    uint32_t a = state->axis;
    bool is_whole = node->attrs->pad.low.at[a] == 0 && node->attrs->pad.high.at[a] == 0 &&
                    node->attrs->pad.interior.at[a] == 0;
    return is_whole ? *state : mixed(node, "it pads between or around rows");
}

static kiln_row_state visit_take(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *data = operand_state(rows, node, 0),
                         *index = operand_state(rows, node, 1);
    uint32_t axis = (uint32_t)node->attrs->axis.axis;
    uint32_t index_rank = operand_type(rows, node, 1)->rank;
    if (data->kind == KILN_ROW_FIXED && index->kind == KILN_ROW_FIXED)
        return fixed(all_axes(node->type));
    if (data->kind == KILN_ROW_FIXED) return each_along(index, axis + index->axis);
    if (index->kind != KILN_ROW_FIXED || data->axis == axis)
        return mixed(node, "it takes from other rows");
    return each_along(data, data->axis < axis ? data->axis : data->axis + index_rank - 1);
}

static kiln_row_state visit_dynamic(const kiln_rows *rows, const kiln_node *node)
{
    bool is_update = node->op == KILN_OP_dynamic_update;
    uint32_t n_blocks = is_update ? 2 : 1;
    if (operand_state(rows, node, n_blocks)->kind != KILN_ROW_FIXED)
        return mixed(node, "its place depends on rows");
    kiln_row_state state = join(rows, node, 0, n_blocks);
    if (state.kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
    if (state.kind != KILN_ROW_EACH) return state;
    const kiln_type *block = is_update ? operand_type(rows, node, 1) : node->type;
    bool is_whole = block->dims[state.axis] == operand_type(rows, node, 0)->dims[state.axis];
    return is_whole ? state : mixed(node, "it takes or writes some of the rows");
}

/* The state along slice axis `slice` of indices that must go with row-wise slices there. */
static bool index_goes_along(const kiln_rows *rows, const kiln_node *node,
                             const kiln_gather_plan *plan, uint32_t slice, int64_t each)
{
    const kiln_row_state *index = operand_state(rows, node, 1);
    for (uint32_t j = 0; j < plan->index_rank; j++) {
        if (plan->walk[j] != (int32_t)slice) continue;
        if (index->kind == KILN_ROW_FIXED) return !(index->varies >> j & 1);
        return index->axis == j && index->each == each;
    }
    return false;
}

static kiln_row_state visit_gather(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *data = operand_state(rows, node, 0),
                         *index = operand_state(rows, node, 1);
    const kiln_type *type = operand_type(rows, node, 0);
    kiln_gather_plan plan;
    kiln_gather_plan_make(node->attrs, type, operand_type(rows, node, 1), node->type, &plan);
    if (data->kind == KILN_ROW_FIXED) {
        if (index->kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
        int32_t to = plan.walk[index->axis];
        if (to < 0) return mixed(node, "rows are the places it gathers from");
        for (uint32_t i = 0; i < plan.rank; i++) {
            if (plan.batch[i] == to && (data->varies >> i & 1))
                return mixed(node, "an operand without rows differs from row to row");
        }
        return each_along(index, (uint32_t)to);
    }
    int32_t batch = plan.batch[data->axis], offset = plan.offset[data->axis];
    if (batch >= 0 && index_goes_along(rows, node, &plan, (uint32_t)batch, data->each))
        return each_along(data, (uint32_t)batch);
    bool is_whole = offset >= 0 && plan.sizes[data->axis] == type->dims[data->axis];
    if (is_whole && index->kind == KILN_ROW_FIXED) return each_along(data, (uint32_t)offset);
    return mixed(node, "it gathers from other rows");
}

/* Rows that are a batch axis of the scatter: of the operand, its indices and its updates. */
static kiln_row_state visit_scatter(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *data = operand_state(rows, node, 0),
                         *index = operand_state(rows, node, 1);
    const kiln_row_state *block = operand_state(rows, node, 2), *found = data;
    if (found->kind == KILN_ROW_FIXED) found = block;
    if (found->kind == KILN_ROW_FIXED && index->kind == KILN_ROW_FIXED)
        return fixed(all_axes(node->type));
    kiln_gather_plan plan;
    kiln_gather_plan_make(node->attrs, node->type, operand_type(rows, node, 1),
                          operand_type(rows, node, 2), &plan);
    for (uint32_t i = 0; i < plan.rank && found->kind == KILN_ROW_EACH; i++) {
        if (plan.batch[i] < 0) continue;
        uint32_t slice = (uint32_t)plan.batch[i];
        bool is_data = data->kind == KILN_ROW_FIXED ? !(data->varies >> i & 1)
                                                    : data->axis == i && data->each == found->each;
        bool is_block = block->kind == KILN_ROW_FIXED
                            ? !(block->varies >> slice & 1)
                            : block->axis == slice && block->each == found->each;
        if (is_data && is_block && index_goes_along(rows, node, &plan, slice, found->each))
            return each_along(found, i);
    }
    return mixed(node, "it scatters over the rows");
}

static int64_t place_of(kiln_ints list, int64_t value)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == value) return i;
    }
    return -1;
}

/* Where a free axis of operand `side` stands in the result, behind the batch axes. */
static uint32_t free_place(const kiln_rows *rows, const kiln_node *node, uint32_t side,
                           uint32_t axis)
{
    kiln_ints batch[] = {node->attrs->dot.lhs_batch, node->attrs->dot.rhs_batch};
    kiln_ints contract[] = {node->attrs->dot.lhs_contract, node->attrs->dot.rhs_contract};
    uint32_t place = batch[0].n;
    if (side) place += operand_type(rows, node, 0)->rank - batch[0].n - contract[0].n;
    for (uint32_t i = 0; i < axis; i++)
        place += !ints_have(batch[side], i) && !ints_have(contract[side], i);
    return place;
}

/* A product of values without rows: batch axes differ where an operand does, free ones as theirs.
 */
static kiln_row_state fixed_dot(const kiln_rows *rows, const kiln_node *node)
{
    kiln_ints batch[] = {node->attrs->dot.lhs_batch, node->attrs->dot.rhs_batch};
    kiln_ints contract[] = {node->attrs->dot.lhs_contract, node->attrs->dot.rhs_contract};
    uint32_t varies = 0;
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t own = operand_state(rows, node, side)->varies;
        for (uint32_t axis = 0; axis < operand_type(rows, node, side)->rank; axis++) {
            int64_t at = place_of(batch[side], axis);
            if (!(own >> axis & 1) || ints_have(contract[side], axis)) continue;
            varies |= 1u << (at >= 0 ? (uint32_t)at : free_place(rows, node, side, axis));
        }
    }
    return fixed(varies);
}

static kiln_row_state visit_dot(const kiln_rows *rows, const kiln_node *node)
{
    kiln_ints batch[] = {node->attrs->dot.lhs_batch, node->attrs->dot.rhs_batch};
    kiln_ints contract[] = {node->attrs->dot.lhs_contract, node->attrs->dot.rhs_contract};
    uint32_t side = operand_state(rows, node, 0)->kind == KILN_ROW_FIXED;
    const kiln_row_state *state = operand_state(rows, node, side);
    const kiln_row_state *other = operand_state(rows, node, !side);
    if (state->kind == KILN_ROW_FIXED) return fixed_dot(rows, node);
    if (ints_have(contract[side], state->axis)) return mixed(node, "it sums over the rows");
    int64_t at = place_of(batch[side], state->axis);
    if (at < 0 && other->kind == KILN_ROW_FIXED)
        return each_along(state, free_place(rows, node, side, state->axis));
    if (at < 0) return mixed(node, "it multiplies rows with other rows");
    int64_t pair = batch[!side].at[at];
    bool is_apart = other->kind == KILN_ROW_FIXED
                        ? !(other->varies >> pair & 1)
                        : other->axis == pair && other->each == state->each;
    return is_apart ? each_along(state, (uint32_t)at)
                    : mixed(node, "it multiplies rows with other rows");
}

static kiln_row_state visit_convolution(const kiln_rows *rows, const kiln_node *node)
{
    const kiln_row_state *image = operand_state(rows, node, 0),
                         *kernel = operand_state(rows, node, 1);
    if (kernel->kind != KILN_ROW_FIXED) return mixed(node, "its kernel is made of rows");
    if (image->kind == KILN_ROW_FIXED) return fixed(all_axes(node->type));
    if (node->attrs->conv.input_axes.at[0] != image->axis)
        return mixed(node, "it sums over the rows");
    return each_along(image, (uint32_t)node->attrs->conv.output_axes.at[0]);
}

/* Which axes the op works along, of those that keep the shape. */
static kiln_row_state visit_routine(const kiln_rows *rows, const kiln_node *node)
{
    const int64_t last[] = {(int64_t)node->type->rank - 2, (int64_t)node->type->rank - 1};
    switch (node->op) {
    case KILN_OP_argsort:
        return join_beside(rows, node, 1, (kiln_ints){1, &node->attrs->sort.axis});
    case KILN_OP_cumulative_sum:
    case KILN_OP_cumulative_prod:
    case KILN_OP_cumulative_max:
    case KILN_OP_cumulative_min:
        return join_beside(rows, node, 1, (kiln_ints){1, &node->attrs->cumulative.axis});
    case KILN_OP_cholesky:
        return join_beside(rows, node, 1, (kiln_ints){2, last});
    case KILN_OP_forward_solve:
        return join_beside(rows, node, 2, (kiln_ints){2, last});
    case KILN_OP_barrier:
        return *operand_state(rows, node, 0);
    default:
        return visit_scatter(rows, node);
    }
}

static kiln_row_state visit_view(const kiln_rows *rows, const kiln_node *node)
{
    switch (node->op) {
    case KILN_OP_broadcast:
        return visit_broadcast(rows, node);
    case KILN_OP_reshape:
        return visit_reshape(rows, node);
    case KILN_OP_transpose:
        return visit_transpose(rows, node);
    case KILN_OP_slice:
        return visit_slice(rows, node);
    default:
        return join_beside(rows, node, 1, node->attrs->axes.axes); /* reverse */
    }
}

static kiln_row_state visit_move(const kiln_rows *rows, const kiln_node *node)
{
    switch (node->op) {
    case KILN_OP_pad:
        return visit_pad(rows, node);
    case KILN_OP_concat:
        return join_beside(rows, node, node->n_inputs, (kiln_ints){1, &node->attrs->axis.axis});
    case KILN_OP_take:
        return visit_take(rows, node);
    case KILN_OP_gather:
        return visit_gather(rows, node);
    default:
        return visit_dynamic(rows, node);
    }
}

static kiln_row_state visit_source(const kiln_node *node)
{
    if (node->op == KILN_OP_iota) return fixed(all_axes(node->type) & 1u << node->attrs->axis.axis);
    bool is_splat =
        node->op == KILN_OP_constant && node->attrs->literal.value.kind == KILN_LITERAL_SPLAT;
    return fixed(is_splat ? 0 : all_axes(node->type));
}

static kiln_row_state visit_region(const kiln_rows *rows, const kiln_node *node, bool is_fixed)
{
    if (node->op == KILN_OP_item) {
        const kiln_row_state *items = rows->items[node->inputs[0].id];
        return items ? items[node->attrs->item.index] : fixed(all_axes(node->type));
    }
    bool is_opaque = node->op == KILN_OP_custom_call || kiln_node_is_scalar_region(node);
    if (!is_opaque) return kiln_row_visit_region(rows, node);
    return is_fixed ? fixed(0) : mixed(node, "what happens to rows inside is not known");
}

kiln_row_state kiln_row_visit(const kiln_rows *rows, const kiln_node *node)
{
    bool is_fixed = true;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_row_state *state = operand_state(rows, node, i);
        is_fixed = is_fixed && state->kind == KILN_ROW_FIXED;
        if (state->kind != KILN_ROW_MIXED && state->kind != KILN_ROW_COUNT) continue;
        kiln_row_state result = *state;
        result.kind = KILN_ROW_MIXED;
        return result;
    }
    switch (kiln_node_row(node)->class_) {
    case KILN_SOURCE:
        return visit_source(node);
    case KILN_ELEMENTWISE:
        return join(rows, node, 0, node->n_inputs);
    case KILN_REDUCE:
        return visit_reduce(rows, node);
    case KILN_WINDOW:
        return visit_window(rows, node);
    case KILN_VIEW:
        return visit_view(rows, node);
    case KILN_MOVE:
        return visit_move(rows, node);
    case KILN_CONTRACT:
        return node->op == KILN_OP_dot_general ? visit_dot(rows, node)
                                               : visit_convolution(rows, node);
    case KILN_ROUTINE:
        return visit_routine(rows, node);
    case KILN_REGION:
        return visit_region(rows, node, is_fixed);
    case KILN_COMPOSITE:
        break;
    }
    return is_fixed ? fixed(all_axes(node->type)) : mixed(node, "its expansion is not known");
}
