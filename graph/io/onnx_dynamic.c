/* Operators whose results have a size that depends on the data: NonZero, Compress, Unique. The
 * result has the dims of its bound and an extent (onnx_extent.h): where a bool says which entries
 * stay, their places come to the front. Operands known at import give plain constants. */
#include <string.h>

#include "graph/io/onnx_extent.h"

static kiln_value flatten(kiln_onnx_call *call, kiln_value a)
{
    return kiln_add_reshape(call->graph, a, 1, &kiln_graph_type(call->graph, a)->n_elements);
}

/* NonZero */

static kiln_value non_zero_known(kiln_onnx_call *call, const kiln_type *type, const void *data)
{
    int64_t n = 0, found = 0, dims[2] = {type->rank, 0};
    for (int64_t i = 0; i < type->n_elements; i++)
        n += kiln_onnx_float_at(type->dtype, data, i) != 0;
    dims[1] = n;
    int64_t *places = kiln_new_array(&call->scope->arena, int64_t, (size_t)(n * dims[0]) + 1);
    for (int64_t i = 0; i < type->n_elements; i++) {
        if (kiln_onnx_float_at(type->dtype, data, i) == 0) continue;
        int64_t rest = i;
        for (uint32_t k = type->rank; k-- > 0; rest /= type->dims[k])
            places[k * n + found] = rest % type->dims[k];
        found++;
    }
    return kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, KILN_i64, 2, dims),
                             places);
}

/* True where an element is not 0, and there. */
static kiln_value mask_of(kiln_onnx_call *call, kiln_value a)
{
    if (kiln_graph_type(call->graph, a)->dtype != KILN_bool)
        a = kiln_onnx_with(call, KILN_OP_ne, a, 0);
    return flatten(call, kiln_onnx_extent_fill(call, a, 0));
}

static kiln_value import_non_zero(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_type(call, 0);
    const void *data = kiln_onnx_known(call, call->inputs[0]);
    if (data) return non_zero_known(call, type, data);
    kiln_value count, places = kiln_onnx_places(call, mask_of(call, call->inputs[0]), &count);
    int64_t n = type->n_elements, row[2] = {1, n}, stride = 1;
    uint32_t rank = type->rank ? type->rank : 1;
    kiln_value *rows = kiln_new_array(&call->scope->arena, kiln_value, rank);
    for (uint32_t k = rank; k-- > 0;) {
        kiln_value at = kiln_onnx_with(call, KILN_OP_div, places, (double)stride);
        int64_t dim = type->rank ? type->dims[k] : 1;
        if (k) at = kiln_onnx_with(call, KILN_OP_rem, at, (double)dim);
        rows[k] = kiln_add_reshape(graph, at, 2, row);
        stride *= dim;
    }
    kiln_value result = kiln_onnx_concat(call, rank, rows, 0);
    if (n) kiln_onnx_extent_set(call, result, 1, count);
    return result;
}

/* Compress */

static kiln_value compress_known(kiln_onnx_call *call, kiln_value a, uint32_t axis)
{
    kiln_ints condition = kiln_onnx_known_ints(call, 1);
    int64_t *places = kiln_onnx_dims(call, condition.n), n = 0;
    for (uint32_t i = 0; i < condition.n; i++) {
        if (condition.at[i] && i < kiln_graph_type(call->graph, a)->dims[axis]) places[n++] = i;
    }
    kiln_ints list = {(uint32_t)n, places};
    return kiln_onnx_take(call, a, kiln_onnx_constant_ints(call, KILN_i64, list), axis);
}

static kiln_value import_compress(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0), condition = kiln_onnx_operand(call, 1);
    bool has_axis = kiln_onnx_has_attribute(call, "axis");
    if (!has_axis) a = flatten(call, a);
    const kiln_type *type = kiln_graph_type(call->graph, a), *given = kiln_onnx_type(call, 1);
    uint32_t axis = 0;
    if (has_axis) axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    if (given->rank != 1 || given->dtype != KILN_bool)
        kiln_onnx_fail(call, "operand 1 is %s of rank %u; expected bool of rank 1",
                       kiln_dtype_name(given->dtype), given->rank);
    if (kiln_onnx_known(call, condition)) return compress_known(call, a, axis);
    condition = mask_of(call, condition);
    if (given->dims[0] > type->dims[axis])
        condition = kiln_onnx_slice(call, condition, 0, 0, type->dims[axis]);
    if (type->n_elements == 0 || given->dims[0] == 0)
        kiln_onnx_refuse(call, "an operand without elements");
    kiln_value count, places = kiln_onnx_places(call, condition, &count);
    kiln_value result = kiln_onnx_take(call, a, places, axis);
    kiln_onnx_extent_set(call, result, axis, count);
    return result;
}

/* Unique: the n rows [n, m] in the order of their values, equal ones in their own; where a row
 * differs from the one before a group begins. */

#define UNIQUE_MAX_COLUMNS 256 /* each is a sort */

typedef struct unique_rows {
    kiln_value rows; /* [n, m], or [n] */
    int64_t n, m;
    kiln_value order;  /* [n]: which row comes i-th */
    kiln_value starts; /* bool[n]: whether the i-th begins a group */
} unique_rows;

static kiln_value column(kiln_onnx_call *call, const unique_rows *u, int64_t at)
{
    if (u->m == 1) return flatten(call, u->rows);
    return flatten(call, kiln_onnx_slice(call, u->rows, 1, at, at + 1));
}

/* By the last column first: each sort keeps the order of equal elements. */
static void rows_order(kiln_onnx_call *call, unique_rows *u)
{
    kiln_attrs attrs = {KILN_FAMILY_sort, .sort = {0, false}};
    u->order = (kiln_value){0};
    for (int64_t k = u->m; k-- > 0;) {
        kiln_value keys = column(call, u, k);
        if (u->order.id) keys = kiln_onnx_take(call, keys, u->order, 0);
        kiln_value order = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_argsort,
                                                                         .inputs = &keys,
                                                                         .n_inputs = 1,
                                                                         .attrs = &attrs});
        u->order = u->order.id ? kiln_onnx_take(call, u->order, order, 0) : order;
    }
}

/* NaN equals NaN here. */
static kiln_value differ(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    kiln_graph *graph = call->graph;
    kiln_value is_other = kiln_add_binary(graph, KILN_OP_ne, a, b);
    if (!kiln_onnx_is_float(kiln_graph_type(graph, a)->dtype)) return is_other;
    kiln_value is_number =
        kiln_add_binary(graph, KILN_OP_or, kiln_add_binary(graph, KILN_OP_eq, a, a),
                        kiln_add_binary(graph, KILN_OP_eq, b, b));
    return kiln_add_binary(graph, KILN_OP_and, is_other, is_number);
}

static void rows_group(kiln_onnx_call *call, unique_rows *u)
{
    kiln_graph *graph = call->graph;
    int64_t one = 1;
    kiln_value sorted = kiln_onnx_take(call, u->rows, u->order, 0), parts[2];
    parts[0] = kiln_add_splat(graph, KILN_bool, 1, &one, 1);
    parts[1] = differ(call, kiln_onnx_slice(call, sorted, 0, 1, u->n),
                      kiln_onnx_slice(call, sorted, 0, 0, u->n - 1));
    if (u->m > 1) parts[1] = kiln_add_reduce(graph, KILN_OP_reduce_any, parts[1], 1, &one);
    u->starts = kiln_onnx_concat(call, 2, parts, 0);
}

static kiln_value running(kiln_onnx_call *call, kiln_op op, kiln_value a, bool is_exclusive)
{
    kiln_attrs attrs = {KILN_FAMILY_cumulative, .cumulative = {0, is_exclusive, false}};
    return kiln_graph_add(
        call->graph, &(kiln_node_spec){.op = op, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

/* All outputs but the first; returns the places of the first rows of the groups. */
static kiln_value groups_number(kiln_onnx_call *call, const unique_rows *u, kiln_value *out_count)
{
    kiln_graph *graph = call->graph;
    bool is_sorted = kiln_onnx_flag(call, "sorted", true);
    kiln_value zeros = kiln_add_splat(graph, KILN_i64, 1, &u->n, 0);
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 1, &u->n, 0), inverse, places;
    kiln_value group = kiln_onnx_with(
        call, KILN_OP_sub,
        running(call, KILN_OP_cumulative_sum, kiln_add_convert(graph, u->starts, KILN_i64), false),
        1);
    places = kiln_onnx_take(call, u->order, kiln_onnx_places(call, u->starts, out_count), 0);
    if (!is_sorted) {
        /* numbered by their first rows instead */
        kiln_value is_first =
            kiln_onnx_put(call, KILN_OP_scatter, zeros,
                          kiln_onnx_select(call, u->starts, u->order,
                                           kiln_onnx_with(call, KILN_OP_add, zeros, (double)u->n)),
                          kiln_add_splat_like(graph, zeros, 1));
        kiln_value number = running(call, KILN_OP_cumulative_sum, is_first, true);
        group = kiln_onnx_take(call, kiln_onnx_take(call, number, places, 0), group, 0);
        places = kiln_onnx_places(call, kiln_onnx_with(call, KILN_OP_ne, is_first, 0), out_count);
    }
    inverse = kiln_onnx_put(call, KILN_OP_scatter, zeros, u->order, group);
    kiln_value is_there = kiln_add_binary(graph, KILN_OP_lt, at,
                                          kiln_add_broadcast(graph, *out_count, 1, &u->n, NULL));
    places = kiln_onnx_select(call, is_there, places, zeros);
    kiln_value counts = kiln_onnx_put(call, KILN_OP_scatter_add, zeros, group,
                                      kiln_add_splat_like(graph, zeros, 1));
    kiln_onnx_extent_set(call, places, 0, *out_count);
    kiln_onnx_extent_set(call, counts, 0, *out_count);
    kiln_onnx_result(call, 1, places);
    kiln_onnx_result(call, 2, inverse);
    kiln_onnx_result(call, 3, counts);
    return places;
}

static kiln_value import_unique(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    kiln_value a = kiln_onnx_operand(call, 0), count;
    bool has_axis = kiln_onnx_has_attribute(call, "axis");
    if (!has_axis) a = flatten(call, a);
    const kiln_type *type = kiln_graph_type(graph, a);
    uint32_t axis = 0;
    if (has_axis) axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    unique_rows u = {.n = type->dims[axis]};
    u.m = u.n ? type->n_elements / u.n : 0;
    if (u.m < 1 || u.m > UNIQUE_MAX_COLUMNS)
        kiln_onnx_refuse(call, "%lld slices of %lld elements; expected some, of at most %d",
                         (long long)u.n, (long long)u.m, UNIQUE_MAX_COLUMNS);
    int64_t order[KILN_MAX_RANK] = {axis}, flat[2] = {u.n, u.m};
    for (uint32_t i = 1; i < type->rank; i++) order[i] = i <= axis ? i - 1 : i;
    u.rows = type->rank > 1 ? kiln_add_transpose(graph, a, order) : a;
    u.rows = kiln_add_reshape(graph, u.rows, u.m == 1 ? 1 : 2, flat);
    if (type->dtype == KILN_bool) u.rows = kiln_add_convert(graph, u.rows, KILN_u8);
    rows_order(call, &u);
    rows_group(call, &u);
    kiln_value places = groups_number(call, &u, &count);
    return kiln_onnx_take(call, a, places, axis);
}

const kiln_onnx_row kiln_onnx_dynamic_rows[] = {
    {"NonZero", 9, KILN_ONNX_NEWEST, 1, 1, import_non_zero},
    {"Compress", 9, KILN_ONNX_NEWEST, 2, 2, import_compress},
    {"Unique", 11, KILN_ONNX_NEWEST, 1, 1, import_unique},
    {"NonMaxSuppression", 10, KILN_ONNX_NEWEST, 2, 5, kiln_onnx_import_suppression},
    {0},
};
