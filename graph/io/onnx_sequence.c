/* Sequences of tensors whose lengths and places are known at import: lists of values, which no
 * graph ever holds. A handle stands for one where a value would; only the operators here take it.
 */
#include <inttypes.h>

#include "graph/io/onnx_op.h"

#define MAX_LISTED (1 << 23) /* each change of a sequence is a new list */

typedef struct sequence {
    uint32_t n;
    const kiln_value *at;
} sequence;

static sequence list_of(kiln_onnx_call *call, uint32_t i)
{
    kiln_value handle = kiln_onnx_operand(call, i);
    if (handle.graph != KILN_ONNX_SEQUENCE)
        kiln_onnx_fail(call, "operand %u is a tensor; expected a sequence", i);
    const kiln_onnx_sequence *found = &call->onnx->sequences.at[handle.id - 1];
    return (sequence){found->n, found->at};
}

static kiln_value list_keep(kiln_onnx_call *call, uint32_t n, const kiln_value *values)
{
    call->onnx->n_listed += n;
    if (call->onnx->n_listed > MAX_LISTED)
        kiln_fail(call->scope, KILN_LIMIT, "sequences of over %d tensors in all; expected less",
                  MAX_LISTED);
    kiln_arena *arena = &call->onnx->scope->arena;
    kiln_onnx_sequence kept = {n, kiln_arena_copy(arena, values, n * sizeof *values)};
    kiln_vec_push(&call->onnx->sequences, arena, kept);
    return (kiln_value){call->onnx->sequences.n, KILN_ONNX_SEQUENCE};
}

static kiln_value tensor_operand(kiln_onnx_call *call, uint32_t i)
{
    kiln_value value = kiln_onnx_operand(call, i);
    if (value.graph == KILN_ONNX_SEQUENCE)
        kiln_onnx_fail(call, "operand %u is a sequence; expected a tensor", i);
    return value;
}

/* Operand i, a place in a list of n: from the end where it is below 0. */
static uint32_t place_read(kiln_onnx_call *call, uint32_t i, uint32_t n)
{
    tensor_operand(call, i);
    int64_t at = kiln_onnx_known_int(call, i);
    if (at < -(int64_t)n || at >= n)
        kiln_onnx_fail(call, "place %" PRId64 " of %u; expected one in range", at, n);
    return (uint32_t)(at < 0 ? at + n : at);
}

static kiln_value import_empty(kiln_onnx_call *call)
{
    kiln_onnx_ignore(call, "dtype");
    return list_keep(call, 0, NULL);
}

static kiln_value import_construct(kiln_onnx_call *call)
{
    for (uint32_t i = 0; i < call->n_inputs; i++) tensor_operand(call, i);
    return list_keep(call, call->n_inputs, call->inputs);
}

static kiln_value import_insert(kiln_onnx_call *call)
{
    sequence list = list_of(call, 0);
    kiln_value *values = kiln_new_array(&call->scope->arena, kiln_value, list.n + 1);
    uint32_t at = list.n;
    if (kiln_onnx_has(call, 2)) {
        tensor_operand(call, 2);
        int64_t place = kiln_onnx_known_int(call, 2);
        at = place == list.n ? list.n : place_read(call, 2, list.n);
    }
    for (uint32_t i = 0; i < list.n; i++) values[i + (i >= at)] = list.at[i];
    values[at] = tensor_operand(call, 1);
    return list_keep(call, list.n + 1, values);
}

static kiln_value import_erase(kiln_onnx_call *call)
{
    sequence list = list_of(call, 0);
    if (list.n == 0) kiln_onnx_fail(call, "nothing to erase; expected a sequence with tensors");
    uint32_t at = kiln_onnx_has(call, 1) ? place_read(call, 1, list.n) : list.n - 1;
    kiln_value *values = kiln_new_array(&call->scope->arena, kiln_value, list.n);
    for (uint32_t i = 0; i + 1 < list.n; i++) values[i] = list.at[i + (i >= at)];
    return list_keep(call, list.n - 1, values);
}

static kiln_value import_at(kiln_onnx_call *call)
{
    sequence list = list_of(call, 0);
    return kiln_onnx_capture_value(call, list.at[place_read(call, 1, list.n)]);
}

static kiln_value import_length(kiln_onnx_call *call)
{
    return kiln_onnx_scalar(call, KILN_i64, list_of(call, 0).n);
}

static kiln_value with_axis(kiln_onnx_call *call, kiln_value a, uint32_t axis)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t dims[KILN_MAX_RANK];
    if (type->rank == KILN_MAX_RANK) kiln_onnx_refuse(call, "tensors of rank %u", type->rank);
    for (uint32_t i = 0; i <= type->rank; i++) dims[i] = i == axis ? 1 : type->dims[i - (i > axis)];
    return kiln_add_reshape(call->graph, a, type->rank + 1, dims);
}

static kiln_value import_concat(kiln_onnx_call *call)
{
    sequence list = list_of(call, 0);
    bool is_new = kiln_onnx_flag(call, "new_axis", false);
    if (list.n == 0) kiln_onnx_fail(call, "an empty sequence; expected one with tensors");
    kiln_value *parts = kiln_new_array(&call->scope->arena, kiln_value, list.n);
    for (uint32_t i = 0; i < list.n; i++) parts[i] = kiln_onnx_capture_value(call, list.at[i]);
    uint32_t rank = kiln_graph_type(call->graph, parts[0])->rank + is_new;
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), rank);
    for (uint32_t i = 0; is_new && i < list.n; i++) parts[i] = with_axis(call, parts[i], axis);
    return kiln_onnx_concat(call, list.n, parts, axis);
}

/* Parts of one length, the last maybe shorter, or of those that operand 1 lists. */
static kiln_value import_split(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_graph_type(call->graph, tensor_operand(call, 0));
    if (type->rank == 0) kiln_onnx_fail(call, "operand 0 has rank 0; expected at least 1");
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    bool is_listed = kiln_onnx_has(call, 1), is_kept = kiln_onnx_flag(call, "keepdims", true);
    kiln_ints lengths = is_listed ? kiln_onnx_known_ints(call, 1) : (kiln_ints){0};
    bool is_even = !is_listed || kiln_onnx_type(call, 1)->rank == 0;
    int64_t dim = type->dims[axis], each = is_listed && is_even ? lengths.at[0] : 1, from = 0;
    if (each < 1) kiln_onnx_fail(call, "parts of %" PRId64 "; expected 1 or more", each);
    int64_t n = is_even ? (dim + each - 1) / each : lengths.n;
    if (n > 1 << 16) kiln_onnx_refuse(call, "%" PRId64 " parts", n);
    kiln_value *parts = kiln_new_array(&call->scope->arena, kiln_value, n + 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t length = is_even ? each : lengths.at[i];
        if (is_even && length > dim - from) length = dim - from;
        if (length < 0 || length > dim - from)
            kiln_onnx_fail(call,
                           "part %" PRId64 " has length %" PRId64
                           "; expected them to add up to %" PRId64,
                           i, length, dim);
        parts[i] = kiln_onnx_slice(call, call->inputs[0], axis, from, from + length);
        from += length;
        if (is_listed || is_kept) continue;
        int64_t dims[KILN_MAX_RANK];
        for (uint32_t k = 0; k + 1 < type->rank; k++) dims[k] = type->dims[k + (k >= axis)];
        parts[i] = kiln_add_reshape(call->graph, parts[i], type->rank - 1, dims);
    }
    if (from != dim)
        kiln_onnx_fail(call, "parts of %" PRId64 " in all; expected %" PRId64, from, dim);
    return list_keep(call, (uint32_t)n, parts);
}

#define ROW(op, least, most, function)                                                             \
    {                                                                                              \
        op, 11, KILN_ONNX_NEWEST, least, most, function, KILN_OP_none, true                        \
    }

const kiln_onnx_row kiln_onnx_sequence_rows[] = {
    ROW("SequenceEmpty", 0, 0, import_empty),
    ROW("SequenceConstruct", 1, KILN_ONNX_ANY, import_construct),
    ROW("SequenceInsert", 2, 3, import_insert),
    ROW("SequenceErase", 1, 2, import_erase),
    ROW("SequenceAt", 2, 2, import_at),
    ROW("SequenceLength", 1, 1, import_length),
    ROW("ConcatFromSequence", 1, 1, import_concat),
    ROW("SplitToSequence", 1, 2, import_split),
    {0},
};
