/* ONNX export of values: as small as broadcasting allows or at full size, in a wider dtype where
 * ONNX lacks their own, and back. */
#include "graph/io/export.h"

const kiln_type *kiln_export_type(const kiln_export_call *call, uint32_t i)
{
    return kiln_graph_type(call->export->graph, call->node->inputs[i]);
}

void kiln_export_set_small(kiln_export_call *call, const char *name, uint32_t rank,
                           const int64_t *dims)
{
    kiln_export_value *value = &call->export->values[call->node->id];
    value->small = name;
    value->rank = rank;
    value->dims = kiln_arena_copy(call->export->arena, dims, rank * sizeof *dims);
}

const char *kiln_export_plain(kiln_export_call *call, uint32_t i)
{
    kiln_value input = call->node->inputs[i];
    kiln_export_value *value = &call->export->values[input.id];
    const kiln_type *type = kiln_graph_type(call->export->graph, input);
    if (!value->full && value->small) {
        const char *dims = kiln_export_ints(call, (kiln_ints){type->rank, type->dims});
        value->full = kiln_export_emit(call, "Expand", NULL, value->small, dims);
    }
    return value->full ? value->full : "refused";
}

/* Small operands suffice when together they stretch to the whole result, and to all of its axes. */
static bool covers(kiln_export_call *call)
{
    bool has_rank = call->type->rank == 0;
    for (uint32_t i = 0; i < call->node->n_inputs && !has_rank; i++) {
        const kiln_export_value *value = &call->export->values[call->node->inputs[i].id];
        uint32_t rank = value->small ? value->rank : kiln_export_type(call, i)->rank;
        has_rank = rank == call->type->rank;
    }
    if (!has_rank) return false;
    for (uint32_t axis = 0; axis < call->type->rank; axis++) {
        bool is_whole = call->type->dims[axis] == 1;
        for (uint32_t i = 0; i < call->node->n_inputs && !is_whole; i++) {
            const kiln_export_value *value = &call->export->values[call->node->inputs[i].id];
            uint32_t from_end = call->type->rank - axis;
            bool is_small = value->small != NULL;
            is_whole = !is_small || (from_end <= value->rank &&
                                     value->dims[value->rank - from_end] == call->type->dims[axis]);
        }
        if (!is_whole) return false;
    }
    return true;
}

/* u64 as i64 of the same order, and back. */
static bool is_flipped(const kiln_export_call *call)
{
    return call->own == KILN_u64 && call->row->wide & KILN_EXPORT_U64_ORDER;
}

static const char *flip_top(kiln_export_call *call, const char *name)
{
    const uint64_t top = (uint64_t)1 << 63;
    const kiln_type type = {KILN_u64, 0, NULL, 1, 8, 0, NULL};
    return kiln_export_emit(call, "BitwiseXor", NULL, name,
                            kiln_export_constant(call, &type, &top));
}

static const char *operand_widen(kiln_export_call *call, uint32_t i, const char *name)
{
    bool is_wide = call->dtype != call->own && kiln_export_type(call, i)->dtype == call->own;
    if (!is_wide) return name;
    if (is_flipped(call)) name = flip_top(call, name);
    return kiln_export_cast(call, name, call->dtype);
}

const char *kiln_export_operand(kiln_export_call *call, uint32_t i)
{
    return operand_widen(call, i, kiln_export_plain(call, i));
}

const char *kiln_export_small(kiln_export_call *call, uint32_t i)
{
    const kiln_export_value *value = &call->export->values[call->node->inputs[i].id];
    bool is_small = value->small && (i > 0 || covers(call));
    return operand_widen(call, i, is_small ? value->small : kiln_export_plain(call, i));
}

kiln_dtype kiln_export_wide_dtype(const kiln_export_call *call)
{
    uint16_t wide = call->row->wide;
    kiln_dtype dtype = call->own;
    kiln_dtype_kind kind = kiln_dtype_kind_of(dtype);
    bool is_integer = kind == KILN_DTYPE_KIND_INT || kind == KILN_DTYPE_KIND_UINT;
    if (kind == KILN_DTYPE_KIND_BOOL) return wide & KILN_EXPORT_BOOL ? KILN_i32 : dtype;
    if (is_integer && kiln_dtype_bytes(dtype) < 4)
        return wide & KILN_EXPORT_SMALL ? KILN_i32 : dtype;
    bool is_wide = (dtype == KILN_u32 && wide & KILN_EXPORT_U32) ||
                   (dtype == KILN_u64 && wide & (KILN_EXPORT_U64 | KILN_EXPORT_U64_ORDER));
    if (is_wide) return KILN_i64;
    bool is_narrow =
        dtype == KILN_bf16 || (kind == KILN_DTYPE_KIND_FLOAT && kiln_dtype_bits(dtype) <= 8);
    is_wide =
        (is_narrow && wide & KILN_EXPORT_NARROW) || (dtype == KILN_f16 && wide & KILN_EXPORT_F16);
    return is_wide ? KILN_f32 : dtype;
}

const char *kiln_export_bring_back(kiln_export_call *call, const char *name)
{
    if (call->dtype == call->own || call->type->dtype != call->own) return name;
    name = kiln_export_cast(call, name, call->own);
    return is_flipped(call) ? flip_top(call, name) : name;
}
