/* kiln_bitcast between dtypes of any sizes. Of one size it is the row; else the last axis, which a
 * larger dtype takes and a smaller one brings, counts the parts of an element, lowest bits first:
 * they are shifted out of the larger word, or shifted into it and added. */
#include "graph/builder.h"
#include "graph/describe.h"
#include "graph/element.h"

static kiln_value cast(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    const kiln_type *given = kiln_graph_tensor(graph, dtype, type->rank, type->dims);
    if (given == type) return a;
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_bitcast, given, &a, 1, NULL, NULL});
}

static kiln_dtype word_of(uint32_t bits)
{
    switch (bits) {
    case 2:
        return KILN_u2;
    case 4:
        return KILN_u4;
    case 8:
        return KILN_u8;
    case 16:
        return KILN_u16;
    case 32:
        return KILN_u32;
    default:
        return KILN_u64;
    }
}

/* By element of `dims`: how far its part lies from the lowest bit, in words of that dtype. */
static kiln_value distances(kiln_graph *graph, kiln_dtype word, uint32_t rank, const int64_t *dims,
                            uint32_t part_bits)
{
    const kiln_type *type = kiln_graph_tensor(graph, word, rank, dims);
    kiln_attrs last = {KILN_FAMILY_axis, .axis = {rank - 1}};
    kiln_value number =
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_iota, type, NULL, 0, &last, NULL});
    return kiln_add_binary(graph, KILN_OP_mul, number,
                           kiln_add_splat(graph, word, rank, dims, part_bits));
}

static kiln_value split_words(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    uint32_t bits = (uint32_t)kiln_dtype_bits(type->dtype);
    uint32_t part_bits = (uint32_t)kiln_dtype_bits(dtype), rank = type->rank + 1;
    kiln_dtype word = word_of(bits), work = bits < 8 ? KILN_u8 : word;
    int64_t dims[KILN_MAX_RANK + 1], axes[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = type->dims[i];
        axes[i] = i;
    }
    dims[type->rank] = bits / part_bits;
    kiln_value whole = kiln_add_convert(graph, cast(graph, a, word), work);
    whole = kiln_add_broadcast(graph, whole, rank, dims, axes);
    kiln_value parts = kiln_add_binary(graph, KILN_OP_shift_right_logical, whole,
                                       distances(graph, work, rank, dims, part_bits));
    return cast(graph, kiln_add_convert(graph, parts, word_of(part_bits)), dtype);
}

static kiln_value join_words(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    uint32_t bits = (uint32_t)kiln_dtype_bits(dtype);
    uint32_t part_bits = (uint32_t)kiln_dtype_bits(type->dtype);
    kiln_dtype word = word_of(bits), work = bits < 8 ? KILN_u8 : word;
    int64_t last = (int64_t)type->rank - 1;
    kiln_value parts = kiln_add_convert(graph, cast(graph, a, word_of(part_bits)), work);
    parts = kiln_add_binary(graph, KILN_OP_shift_left, parts,
                            distances(graph, work, type->rank, type->dims, part_bits));
    parts = kiln_add_reduce(graph, KILN_OP_reduce_sum, parts, 1, &last); /* they share no bit */
    return cast(graph, kiln_add_convert(graph, parts, word), dtype);
}

static kiln_value bitcast_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    size_t from = kiln_dtype_bits(type->dtype), to = kiln_dtype_bits(request->dtype);
    bool are_numbers = kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER) &&
                       kiln_dtype_in(request->dtype, KILN_TYPES_NUMBER);
    if (from == to || !are_numbers) return cast(graph, request->inputs[0], request->dtype);
    if (from > to) return split_words(graph, request->inputs[0], request->dtype);
    if (type->rank == 0 || type->dims[type->rank - 1] != (int64_t)(to / from))
        kiln_fail(graph->scope, KILN_INVALID, "bitcast: from %s to %s; expected a last dim of %zu",
                  kiln_type_string(&graph->scope->arena, type), kiln_dtype_name(request->dtype),
                  to / from);
    return join_words(graph, request->inputs[0], request->dtype);
}

kiln_value kiln_bitcast(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    kiln_request request = {KILN_OP_bitcast, .inputs = {a}, .n = 1, .dtype = dtype};
    return kiln_build(graph, bitcast_body, &request);
}
