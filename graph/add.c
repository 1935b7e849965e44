/* Shorthands over kiln_graph_add for rules and passes, and constants: which literal kind holds
 * them. */
#include <string.h>

#include "base/hash.h"
#include "graph/describe.h"
#include "graph/element.h"

static kiln_value add_one(kiln_graph *graph, kiln_op op, const kiln_type *given, kiln_value a,
                          const kiln_attrs *attrs)
{
    kiln_node_spec spec = {op, given, &a, 1, attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

/* An operand is looked at here before kiln_graph_add can check it. */
static const kiln_type *operand_type(kiln_graph *graph, const char *where, kiln_value a)
{
    if (a.graph != graph->id || a.id == 0 || a.id >= graph->nodes.n) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand 0 is no value of graph %s", where,
                  kiln_quoted(&graph->scope->arena, graph->name));
    }
    return kiln_graph_type(graph, a);
}

kiln_value kiln_add_unary(kiln_graph *graph, kiln_op op, kiln_value a)
{
    return add_one(graph, op, NULL, a, NULL);
}

kiln_value kiln_add_binary(kiln_graph *graph, kiln_op op, kiln_value a, kiln_value b)
{
    kiln_value inputs[] = {a, b};
    return kiln_graph_add(graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = 2});
}

kiln_value kiln_add_convert(kiln_graph *graph, kiln_value a, kiln_dtype dtype)
{
    const kiln_type *type = operand_type(graph, "convert", a);
    if (type->dtype == dtype) return a;
    type = kiln_graph_tensor(graph, dtype, type->rank, type->dims);
    return add_one(graph, KILN_OP_convert, type, a, NULL);
}

kiln_value kiln_add_reshape(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims)
{
    const kiln_type *type = operand_type(graph, "reshape", a);
    const kiln_type *given = kiln_graph_tensor(graph, type->dtype, rank, dims);
    return given == type ? a : add_one(graph, KILN_OP_reshape, given, a, NULL);
}

kiln_value kiln_add_transpose(kiln_graph *graph, kiln_value a, const int64_t *permutation)
{
    uint32_t rank = operand_type(graph, "transpose", a)->rank, n_fixed = 0;
    while (n_fixed < rank && permutation[n_fixed] == n_fixed) n_fixed++;
    if (n_fixed == rank) return a;
    kiln_attrs attrs = {KILN_FAMILY_permutation, .permutation = {{rank, permutation}}};
    return add_one(graph, KILN_OP_transpose, NULL, a, &attrs);
}

kiln_value kiln_add_reduce(kiln_graph *graph, kiln_op op, kiln_value a, uint32_t n_axes,
                           const int64_t *axes)
{
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{n_axes, axes}}};
    return add_one(graph, op, NULL, a, &attrs);
}

kiln_value kiln_add_broadcast(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims,
                              const int64_t *axes)
{
    const kiln_type *type = operand_type(graph, "broadcast", a);
    const kiln_type *given = kiln_graph_tensor(graph, type->dtype, rank, dims);
    if (given == type) return a;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{type->rank, axes}}};
    return add_one(graph, KILN_OP_broadcast, given, a, &attrs);
}

kiln_value kiln_add_broadcast_to(kiln_graph *graph, kiln_value a, uint32_t rank,
                                 const int64_t *dims)
{
    const kiln_type *type = operand_type(graph, "broadcast", a);
    int64_t axes[KILN_MAX_RANK];
    if (rank < type->rank) {
        kiln_fail(graph->scope, KILN_INVALID, "broadcast: operand is %s; expected rank %u or less",
                  kiln_type_string(&graph->scope->arena, type), rank);
    }
    for (uint32_t i = 0; i < type->rank; i++) axes[i] = rank - type->rank + i;
    return kiln_add_broadcast(graph, a, rank, dims, axes);
}

kiln_value kiln_add_unreduce(kiln_graph *graph, kiln_value a, kiln_value like, uint32_t n_axes,
                             const int64_t *axes)
{
    const kiln_type *type = operand_type(graph, "broadcast", a);
    const kiln_type *full = operand_type(graph, "broadcast", like);
    int64_t kept[KILN_MAX_RANK];
    uint32_t n_kept = 0;
    for (uint32_t axis = 0, dropped = 0; axis < full->rank; axis++) {
        if (dropped < n_axes && axes[dropped] == axis) {
            dropped++;
        } else {
            kept[n_kept++] = axis;
        }
    }
    if (n_kept != type->rank) {
        kiln_fail(graph->scope, KILN_INVALID, "broadcast: operand is %s; expected rank %u",
                  kiln_type_string(&graph->scope->arena, type), n_kept);
    }
    return kiln_add_broadcast(graph, a, full->rank, full->dims, kept);
}

kiln_value kiln_add_move_groups(kiln_graph *graph, kiln_value a, int64_t from, int64_t to,
                                int64_t groups)
{
    const kiln_type *type = operand_type(graph, "reshape", a);
    int64_t split[KILN_MAX_RANK + 1], order[KILN_MAX_RANK + 1], dims[KILN_MAX_RANK];
    uint32_t n = 0, at = 0;
    if (groups == 1) return a;
    for (uint32_t i = 0; i < type->rank; i++) {
        int64_t dim = i == from ? type->dims[i] / groups : type->dims[i];
        if (i == from) split[n++] = groups;
        split[n++] = dim;
        dims[i] = i == to ? dim * groups : dim;
    }
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i == to) order[at++] = from;
        order[at++] = i + (i >= from);
    }
    a = kiln_add_transpose(graph, kiln_add_reshape(graph, a, n, split), order);
    return kiln_add_reshape(graph, a, type->rank, dims);
}

/* Constants */

kiln_value kiln_add_splat(kiln_graph *graph, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                          double value)
{
    const kiln_type *type = kiln_graph_tensor(graph, dtype, rank, dims);
    char element[KILN_ELEMENT_BYTES_MAX] = {0};
    kiln_element_from_double(dtype, value, element);
    kiln_literal literal = {KILN_LITERAL_SPLAT, element, (int64_t)kiln_dtype_bytes(dtype)};
    return kiln_add_literal(graph, type, &literal);
}

kiln_value kiln_add_splat_like(kiln_graph *graph, kiln_value like, double value)
{
    const kiln_type *type = operand_type(graph, "constant", like);
    return kiln_add_splat(graph, type->dtype, type->rank, type->dims, value);
}

/* A number for a new blob: its place in memory or in a file, and the graph, which is unique. */
static uint64_t fresh_origin(const kiln_graph *graph, const kiln_literal *literal)
{
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, (uint64_t)(uintptr_t)literal->data);
    hash = kiln_hash_u64(hash, (uint64_t)literal->bytes);
    if (literal->kind == KILN_LITERAL_FILE && literal->file) {
        hash = kiln_hash_bytes(hash, literal->file, strlen(literal->file));
        hash = kiln_hash_u64(hash, (uint64_t)literal->offset);
    }
    return kiln_hash_u64(hash, graph->id) | 1;
}

kiln_value kiln_add_literal(kiln_graph *graph, const kiln_type *type, const kiln_literal *literal)
{
    kiln_attrs attrs = {KILN_FAMILY_literal, .literal = {*literal}};
    kiln_literal *value = &attrs.literal.value;
    bool is_blob = value->kind == KILN_LITERAL_BLOB || value->kind == KILN_LITERAL_FILE;
    if (is_blob && value->origin == 0) value->origin = fresh_origin(graph, value);
    if (!is_blob) value->origin = 0;
    kiln_node_spec spec = {KILN_OP_constant, type, NULL, 0, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

/* `element_bytes` of packed elements is 1 too: then all elements of a byte must be the same. */
static bool is_uniform(const char *data, int64_t bytes, int64_t element_bytes, size_t bits)
{
    if (bytes < element_bytes) return false;
    for (size_t done = bits; done < 8; done += bits) {
        if (((unsigned char)data[0] >> done & ((1u << bits) - 1)) !=
            ((unsigned char)data[0] & ((1u << bits) - 1)))
            return false;
    }
    /* Every element equals its right neighbour. */
    return memcmp(data, data + element_bytes, (size_t)(bytes - element_bytes)) == 0;
}

kiln_value kiln_add_constant(kiln_graph *graph, const kiln_type *type, const void *data)
{
    int64_t element_bytes = (int64_t)kiln_dtype_bytes(type->dtype);
    kiln_literal literal = {KILN_LITERAL_BYTES, data, type->bytes};
    char element[KILN_ELEMENT_BYTES_MAX] = {0};
    if (is_uniform(data, type->bytes, element_bytes, kiln_dtype_bits(type->dtype))) {
        kiln_element_copy(type->dtype, element, 0, data, 0);
        literal = (kiln_literal){KILN_LITERAL_SPLAT, element, element_bytes};
    } else if (type->bytes > KILN_LITERAL_BYTES_MAX) {
        literal.kind = KILN_LITERAL_BLOB;
        literal.data = kiln_arena_copy(&graph->arena, data, (size_t)type->bytes);
    }
    return kiln_add_literal(graph, type, &literal);
}
