/* ONNX export of sources, views and moves. */
#include <inttypes.h>

#include "base/checked.h"
#include "graph/io/export.h"

int64_t *kiln_export_filled(kiln_export_call *call, uint32_t n, int64_t value)
{
    int64_t *list = kiln_new_array(call->export->arena, int64_t, n + 1u);
    for (uint32_t i = 0; i < n; i++) list[i] = value;
    return list;
}

const char *kiln_export_reshape(kiln_export_call *call, const char *name, uint32_t rank,
                                const int64_t *dims)
{
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "allowzero", 1);
    const char *list = kiln_export_ints(call, (kiln_ints){rank, dims});
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] == 0) return kiln_export_emit(call, "Reshape", &attrs, name, list);
    }
    return kiln_export_emit(call, "Reshape", NULL, name, list);
}

const char *kiln_export_transpose(kiln_export_call *call, const char *name, kiln_ints permutation)
{
    bool is_same = true;
    for (uint32_t i = 0; i < permutation.n; i++) is_same = is_same && permutation.at[i] == i;
    if (is_same) return name;
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_ints(&attrs, "perm", permutation);
    return kiln_export_emit(call, "Transpose", &attrs, name);
}

/* Sources */

const char *kiln_export_iota(kiln_export_call *call)
{
    int64_t axis = call->node->attrs->axis.axis, n = call->type->dims[axis];
    uint32_t rank = call->type->rank;
    int64_t *dims = kiln_export_filled(call, rank, 1);
    dims[axis] = n;
    const char *range = kiln_export_emit(call, "Range", NULL, kiln_export_scalar(call, KILN_i64, 0),
                                         kiln_export_scalar(call, KILN_i64, (double)n),
                                         kiln_export_scalar(call, KILN_i64, 1));
    if (call->type->dtype != KILN_i64) range = kiln_export_cast(call, range, call->type->dtype);
    uint32_t left = rank - (uint32_t)axis; /* leading axes come from broadcasting */
    if (left > 1) range = kiln_export_reshape(call, range, left, dims + axis);
    kiln_export_set_small(call, range, left, dims + axis);
    return NULL;
}

/* Views */

/* Axes that the operand lacks are dims of 1; the rest is ONNX's own broadcasting. */
const char *kiln_export_broadcast(kiln_export_call *call)
{
    const kiln_type *from = kiln_export_type(call, 0);
    kiln_ints axes = call->node->attrs->axes.axes;
    int64_t *dims = kiln_export_filled(call, call->type->rank, 1);
    for (uint32_t i = 0; i < axes.n; i++) dims[axes.at[i]] = from->dims[i];
    uint32_t first = axes.n ? (uint32_t)axes.at[0] : call->type->rank;
    uint32_t rank = call->type->rank - first;
    const char *name = kiln_export_operand(call, 0);
    bool is_trailing = rank == from->rank;
    if (!is_trailing) name = kiln_export_reshape(call, name, rank, dims + first);
    kiln_export_set_small(call, name, rank, dims + first);
    return NULL;
}

const char *kiln_export_reshape_node(kiln_export_call *call)
{
    return kiln_export_reshape(call, kiln_export_operand(call, 0), call->type->rank,
                               call->type->dims);
}

const char *kiln_export_transpose_node(kiln_export_call *call)
{
    const char *name = kiln_export_operand(call, 0);
    kiln_ints permutation = call->node->attrs->permutation.permutation;
    return kiln_export_transpose(call, name, permutation);
}

typedef struct slice_range {
    kiln_ints starts, ends, steps;
} slice_range;

static const char *emit_slice(kiln_export_call *call, const char *name, const slice_range *range)
{
    int64_t *axes = kiln_export_filled(call, range->starts.n, 0);
    for (uint32_t i = 0; i < range->starts.n; i++) axes[i] = i;
    return kiln_export_emit(call, "Slice", NULL, name, kiln_export_ints(call, range->starts),
                            kiln_export_ints(call, range->ends),
                            kiln_export_ints(call, (kiln_ints){range->starts.n, axes}),
                            kiln_export_ints(call, range->steps));
}

const char *kiln_export_slice(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    slice_range range = {attrs->slice.starts, attrs->slice.limits, attrs->slice.strides};
    return emit_slice(call, kiln_export_operand(call, 0), &range);
}

const char *kiln_export_reverse(kiln_export_call *call)
{
    kiln_ints axes = call->node->attrs->axes.axes;
    if (axes.n == 0) return kiln_export_operand(call, 0);
    kiln_ints last = {axes.n, kiln_export_filled(call, axes.n, -1)};
    kiln_ints least = {axes.n, kiln_export_filled(call, axes.n, INT64_MIN)};
    return kiln_export_emit(call, "Slice", NULL, kiln_export_operand(call, 0),
                            kiln_export_ints(call, last), kiln_export_ints(call, least),
                            kiln_export_ints(call, axes), kiln_export_ints(call, last));
}

/* Moves */

/* x -> [d, 1] padded to [d, 1 + gap] -> d * (1 + gap), of which the last gap is cut off */
static const char *dilate(kiln_export_call *call, const char *name, int64_t *dims,
                          kiln_ints interior, const char *value)
{
    uint32_t rank = interior.n;
    int64_t wide[2 * KILN_MAX_RANK], pads[4 * KILN_MAX_RANK] = {0}, grown[KILN_MAX_RANK];
    int64_t ends[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        wide[2 * i] = dims[i];
        wide[2 * i + 1] = 1;
        pads[2 * rank + 2 * i + 1] = interior.at[i];
        grown[i] = dims[i] * (1 + interior.at[i]);
        ends[i] = kiln_max_i64(grown[i] - interior.at[i], 0);
    }
    name = kiln_export_reshape(call, name, 2 * rank, wide);
    name = kiln_export_emit(call, "Pad", NULL, name,
                            kiln_export_ints(call, (kiln_ints){4 * rank, pads}), value);
    name = kiln_export_reshape(call, name, rank, grown);
    slice_range range = {{rank, kiln_export_filled(call, rank, 0)},
                         {rank, ends},
                         {rank, kiln_export_filled(call, rank, 1)}};
    memcpy(dims, ends, rank * sizeof *dims);
    return emit_slice(call, name, &range);
}

static bool is_all(kiln_ints values, int64_t value)
{
    for (uint32_t i = 0; i < values.n; i++) {
        if (values.at[i] != value) return false;
    }
    return true;
}

/* Cropping is a Slice, so that no runtime needs negative pads. */
static const char *crop(kiln_export_call *call, const char *name, const int64_t *dims,
                        const kiln_export_padding *padding)
{
    uint32_t rank = padding->low.n;
    int64_t starts[KILN_MAX_RANK], ends[KILN_MAX_RANK];
    bool is_needed = false;
    for (uint32_t i = 0; i < rank; i++) {
        starts[i] = kiln_max_i64(-padding->low.at[i], 0);
        ends[i] = kiln_max_i64(dims[i] + kiln_min_i64(padding->high.at[i], 0), starts[i]);
        is_needed = is_needed || starts[i] || ends[i] != dims[i];
    }
    if (!is_needed) return name;
    slice_range range = {{rank, starts}, {rank, ends}, {rank, kiln_export_filled(call, rank, 1)}};
    return emit_slice(call, name, &range);
}

const char *kiln_export_pad(kiln_export_call *call, const char *name, const kiln_type *type,
                            const kiln_export_padding *padding, const char *value)
{
    uint32_t rank = type->rank;
    int64_t pads[2 * KILN_MAX_RANK], dims[KILN_MAX_RANK];
    bool is_needed = false;
    if (rank == 0) return name;
    if (rank > KILN_MAX_RANK / 2 && !is_all(padding->interior, 0))
        kiln_export_refuse(call, "interior padding of rank %u; expected at most %d", rank,
                           KILN_MAX_RANK / 2);
    memcpy(dims, type->dims, rank * sizeof *dims);
    if (!is_all(padding->interior, 0)) name = dilate(call, name, dims, padding->interior, value);
    for (uint32_t i = 0; i < rank; i++) {
        pads[i] = kiln_max_i64(padding->low.at[i], 0);
        pads[rank + i] = kiln_max_i64(padding->high.at[i], 0);
        is_needed = is_needed || pads[i] || pads[rank + i];
        if (padding->low.at[i] + dims[i] < 0 || padding->high.at[i] + dims[i] < 0)
            kiln_export_refuse(call, "crops more than axis %u has; expected less", i);
    }
    name = crop(call, name, dims, padding);
    if (!is_needed) return name;
    return kiln_export_emit(call, "Pad", NULL, name,
                            kiln_export_ints(call, (kiln_ints){2 * rank, pads}), value);
}

const char *kiln_export_pad_node(kiln_export_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    kiln_export_padding padding = {attrs->pad.low, attrs->pad.high, attrs->pad.interior};
    return kiln_export_pad(call, kiln_export_operand(call, 0), kiln_export_type(call, 0), &padding,
                           kiln_export_operand(call, 1));
}

const char *kiln_export_concat(kiln_export_call *call)
{
    const char **inputs = kiln_new_array(call->export->arena, const char *, call->node->n_inputs);
    for (uint32_t i = 0; i < call->node->n_inputs; i++) inputs[i] = kiln_export_operand(call, i);
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", call->node->attrs->axis.axis);
    return kiln_export_emit_list(call, "Concat", &attrs, call->node->n_inputs, inputs);
}

/* min(max(name, low), high), of i64 */
static const char *clamp_to(kiln_export_call *call, const char *name, const char *low,
                            const char *high)
{
    return kiln_export_emit(call, "Min", NULL, kiln_export_emit(call, "Max", NULL, name, low),
                            high);
}

/* Constant indices within the axis need no clamp. */
static bool is_within(kiln_export_call *call, uint32_t i, int64_t dim)
{
    const kiln_node *node = kiln_graph_node(call->export->graph, call->node->inputs[i]);
    if (node->op != KILN_OP_constant || node->type->bytes > KILN_LITERAL_BYTES_MAX) return false;
    char *data = kiln_arena_alloc(call->export->arena, (size_t)node->type->bytes + 8);
    kiln_literal_read(call->export->scope, node->type, &node->attrs->literal.value, data);
    for (int64_t k = 0; k < node->type->n_elements; k++) {
        uint64_t value;
        kiln_element_load_int(node->type->dtype, data, k, 1, &value);
        if (value >= (uint64_t)dim) return false;
    }
    return true;
}

const char *kiln_export_take(kiln_export_call *call)
{
    int64_t axis = call->node->attrs->axis.axis, dim = kiln_export_type(call, 0)->dims[axis];
    kiln_dtype dtype = kiln_export_type(call, 1)->dtype;
    const char *index = kiln_export_operand(call, 1);
    if (dtype != KILN_i64 && dtype != KILN_i32) index = kiln_export_cast(call, index, KILN_i64);
    if (dtype != KILN_i32) dtype = KILN_i64;
    if (!is_within(call, 1, dim))
        index = clamp_to(call, index, kiln_export_scalar(call, dtype, 0),
                         kiln_export_scalar(call, dtype, (double)(dim - 1)));
    kiln_wire attrs = kiln_export_attrs(call);
    kiln_export_attr_int(&attrs, "axis", axis);
    return kiln_export_emit(call, "Gather", &attrs, kiln_export_operand(call, 0), index);
}

/* Start indices so that a block of `sizes` fits. */
static const char *fitting_starts(kiln_export_call *call, uint32_t operand, const int64_t *sizes)
{
    const kiln_type *type = kiln_export_type(call, 0);
    int64_t *room = kiln_export_filled(call, type->rank, 0);
    for (uint32_t i = 0; i < type->rank; i++) room[i] = type->dims[i] - sizes[i];
    return clamp_to(call, kiln_export_operand(call, operand), kiln_export_scalar(call, KILN_i64, 0),
                    kiln_export_ints(call, (kiln_ints){type->rank, room}));
}

const char *kiln_export_dynamic_slice(kiln_export_call *call)
{
    kiln_ints sizes = call->node->attrs->sizes.sizes;
    if (sizes.n == 0) return kiln_export_operand(call, 0);
    const char *starts = fitting_starts(call, 1, sizes.at);
    const char *ends = kiln_export_emit(call, "Add", NULL, starts, kiln_export_ints(call, sizes));
    return kiln_export_emit(call, "Slice", NULL, kiln_export_operand(call, 0), starts, ends);
}

/* Indices of every element of a block, counted from its start: [block dims…, rank]. */
static const char *block_grid(kiln_export_call *call, const kiln_type *block)
{
    int64_t count = block->n_elements * block->rank, dims[KILN_MAX_RANK + 1];
    if (block->n_elements > 1 << 22 || block->rank == KILN_MAX_RANK)
        kiln_export_refuse(call, "a block of %" PRId64 " elements; expected at most 2^22",
                           block->n_elements);
    int64_t *grid = kiln_export_filled(call, (uint32_t)count, 0);
    for (int64_t i = 0; i < block->n_elements; i++) {
        int64_t rest = i;
        for (uint32_t axis = block->rank; axis-- > 0; rest /= block->dims[axis])
            grid[i * block->rank + axis] = rest % block->dims[axis];
    }
    memcpy(dims, block->dims, block->rank * sizeof *dims);
    dims[block->rank] = block->rank;
    const kiln_type type = {KILN_i64, block->rank + 1, dims, count, 8 * count, 0, NULL};
    return kiln_export_constant(call, &type, grid);
}

const char *kiln_export_dynamic_update(kiln_export_call *call)
{
    const kiln_type *block = kiln_export_type(call, 1);
    if (block->rank == 0) return kiln_export_operand(call, 1);
    if (block->n_elements == 0) return kiln_export_operand(call, 0);
    const char *places = kiln_export_emit(call, "Add", NULL, block_grid(call, block),
                                          fitting_starts(call, 2, block->dims));
    return kiln_export_emit(call, "ScatterND", NULL, kiln_export_operand(call, 0), places,
                            kiln_export_operand(call, 1));
}
