/* Type rules of gather and scatter, after StableHLO's constraints. */
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"

/* What the rules of both share: how index vectors lie in the indices and move the operand. */
typedef struct index_rule {
    const kiln_infer_call *call;
    const char *slice_name, *dropped_name;
    kiln_ints slice_axes, dropped, operand_batch, indices_batch, start_map;
    int64_t index_axis;
} index_rule;

static uint32_t bits_of(kiln_ints axes)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < axes.n; i++) bits |= 1u << axes.at[i];
    return bits;
}

static void check_map(const index_rule *rule)
{
    const kiln_infer_call *call = rule->call;
    const kiln_type *type = call->types[0], *indices = call->types[1];
    int64_t axis = rule->index_axis;
    if (axis < 0 || axis > indices->rank) {
        kiln_infer_fail(call, "index_axis is %lld for %s; expected 0 to the rank of the indices",
                        (long long)axis, kiln_infer_types_string(call));
    }
    int64_t n = axis == indices->rank ? 1 : indices->dims[axis];
    if (rule->start_map.n != n) {
        kiln_infer_fail(call, "start_map has %u entries for %s; expected %lld", rule->start_map.n,
                        kiln_infer_types_string(call), (long long)n);
    }
    kiln_infer_axes(call, "start_map", rule->start_map, type->rank, false);
    kiln_infer_axes(call, rule->dropped_name, rule->dropped, type->rank, true);
    kiln_infer_axes(call, "operand_batch", rule->operand_batch, type->rank, true);
    kiln_infer_axes(call, "indices_batch", rule->indices_batch, indices->rank, false);
}

static void check_batch(const index_rule *rule)
{
    const kiln_infer_call *call = rule->call;
    uint32_t batch = bits_of(rule->operand_batch);
    if (batch & (bits_of(rule->start_map) | bits_of(rule->dropped))) {
        kiln_infer_fail(call,
                        "operand_batch is %s; expected axes that are neither in start_map "
                        "nor in %s",
                        kiln_ints_string(&call->graph->scope->arena, rule->operand_batch),
                        rule->dropped_name);
    }
    bool fits = rule->operand_batch.n == rule->indices_batch.n;
    for (uint32_t i = 0; fits && i < rule->operand_batch.n; i++) {
        int64_t a = rule->operand_batch.at[i], b = rule->indices_batch.at[i];
        fits = b != rule->index_axis && call->types[0]->dims[a] == call->types[1]->dims[b];
    }
    if (!fits) {
        kiln_infer_fail(call, "operand_batch and indices_batch do not pair equal dims of %s",
                        kiln_infer_types_string(call));
    }
}

/* Checks all but the sizes; returns the rank of a slice. */
static uint32_t check_rule(const index_rule *rule)
{
    const kiln_infer_call *call = rule->call;
    const kiln_type *type = call->types[0], *indices = call->types[1];
    if (!kiln_dtype_in(indices->dtype, KILN_TYPES_INTEGER)) {
        kiln_infer_fail(call, "operands are %s; expected integer indices",
                        kiln_infer_types_string(call));
    }
    check_map(rule);
    check_batch(rule);
    uint32_t walked = type->rank - rule->dropped.n - rule->operand_batch.n;
    uint32_t rank = indices->rank - (rule->index_axis < indices->rank) + walked;
    kiln_infer_ints(call, rule->slice_name, rule->slice_axes, walked);
    kiln_infer_axes(call, rule->slice_name, rule->slice_axes, rank < 32 ? rank : 32, true);
    if (rank > KILN_MAX_RANK)
        kiln_infer_fail(call, "a result of %u axes; expected at most %d", rank, KILN_MAX_RANK);
    return rank;
}

/* Dims of the slices: those of the indices, and `sizes` of the walked operand axes among them. */
static void slice_dims(const index_rule *rule, uint32_t rank, const int64_t *sizes, int64_t *dims)
{
    const kiln_type *indices = rule->call->types[1];
    uint32_t gone = bits_of(rule->dropped) | bits_of(rule->operand_batch), axis = 0, index = 0;
    uint32_t own = bits_of(rule->slice_axes);
    for (uint32_t i = 0; i < rank; i++) {
        if (own >> i & 1) {
            while (gone >> axis & 1) axis++;
            dims[i] = sizes[axis++];
            continue;
        }
        if (index == rule->index_axis) index++;
        dims[i] = indices->dims[index++];
    }
}

const kiln_type *kiln_infer_gather(const kiln_infer_call *call)
{
    const kiln_attrs *attrs = call->attrs;
    const kiln_type *type = call->types[0];
    kiln_ints sizes = attrs->gather.sizes;
    index_rule rule = {call,
                       "offset_axes",
                       "collapsed_axes",
                       attrs->gather.offset_axes,
                       attrs->gather.collapsed_axes,
                       attrs->gather.operand_batch,
                       attrs->gather.indices_batch,
                       attrs->gather.start_map,
                       attrs->gather.index_axis};
    uint32_t rank = check_rule(&rule);
    uint32_t single = bits_of(rule.dropped) | bits_of(rule.operand_batch);
    int64_t dims[KILN_MAX_RANK];
    kiln_infer_ints(call, "sizes", sizes, type->rank);
    for (uint32_t i = 0; i < sizes.n; i++) {
        int64_t most = (single >> i & 1) && type->dims[i] > 1 ? 1 : type->dims[i];
        if (sizes.at[i] >= 0 && sizes.at[i] <= most) continue;
        kiln_infer_fail(call,
                        "sizes is %s for %s; expected 0 up to the dim, 1 where the axis is "
                        "dropped",
                        kiln_ints_string(&call->graph->scope->arena, sizes),
                        kiln_infer_types_string(call));
    }
    slice_dims(&rule, rank, sizes.at, dims);
    const kiln_type *result = kiln_graph_tensor(call->graph, type->dtype, rank, dims);
    if (type->n_elements == 0 && result->n_elements > 0) {
        kiln_infer_fail(call, "operands are %s; expected elements to read",
                        kiln_infer_types_string(call));
    }
    return result;
}

const kiln_type *kiln_infer_scatter(const kiln_infer_call *call)
{
    const kiln_attrs *attrs = call->attrs;
    const kiln_type *type = call->types[0], *updates = call->types[2];
    index_rule rule = {call,
                       "window_axes",
                       "inserted_axes",
                       attrs->scatter.window_axes,
                       attrs->scatter.inserted_axes,
                       attrs->scatter.operand_batch,
                       attrs->scatter.indices_batch,
                       attrs->scatter.start_map,
                       attrs->scatter.index_axis};
    uint32_t rank = check_rule(&rule), gone = bits_of(rule.dropped) | bits_of(rule.operand_batch);
    bool fits = updates->rank == rank && updates->dtype == type->dtype;
    int64_t sizes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0, next = 0; fits && i < type->rank; i++) {
        if (gone >> i & 1) continue;
        sizes[i] = updates->dims[rule.slice_axes.at[next++]];
        fits = sizes[i] <= type->dims[i];
    }
    if (fits) slice_dims(&rule, rank, sizes, dims);
    for (uint32_t i = 0; fits && i < rank; i++) fits = dims[i] == updates->dims[i];
    if (!fits) {
        kiln_infer_fail(call,
                        "operands are %s; expected updates of the operand's dtype with the "
                        "dims of the indices and windows that fit",
                        kiln_infer_types_string(call));
    }
    return kiln_graph_tensor(call->graph, type->dtype, type->rank, type->dims);
}
