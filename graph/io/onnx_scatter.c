/* Orders and scatters. TopK ranks every element against all others of its row: it costs the square
 * of the length, fused into one reduction, and is refused where that is too much. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

#define MAX_WORK ((int64_t)1 << 30)

static kiln_value reduce(kiln_onnx_call *call, kiln_op op, kiln_value a, int64_t axis)
{
    return kiln_add_reduce(call->graph, op, a, 1, &axis);
}

static void work_check(kiln_onnx_call *call, int64_t rows, int64_t a, int64_t b)
{
    int64_t work;
    if (!kiln_checked_mul(a, b, &work) || !kiln_checked_mul(work, kiln_max_i64(rows, 1), &work) ||
        work > MAX_WORK)
        kiln_onnx_refuse(call, "%" PRId64 " x %" PRId64 " comparisons in %" PRId64 " rows", a, b,
                         rows);
}

/* Integers in the order of the floats, NaN above all: the sign-magnitude bits turned to two's
 * complement. */
static kiln_value order_keys(kiln_onnx_call *call, kiln_value a)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_graph_type(graph, a);
    kiln_dtype whole = type->dtype == KILN_f64   ? KILN_i64
                       : type->dtype == KILN_f32 ? KILN_i32
                                                 : KILN_i16;
    if (kiln_dtype_kind_of(type->dtype) != KILN_DTYPE_KIND_FLOAT) return a;
    a = kiln_onnx_with(call, KILN_OP_add, a, 0); /* -0 becomes +0 */
    const kiln_type *given = kiln_graph_tensor(graph, whole, type->rank, type->dims);
    kiln_value bits = kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_bitcast, .given = given, .inputs = &a, .n_inputs = 1});
    kiln_value zero = kiln_add_splat_like(graph, bits, 0);
    kiln_value is_low = kiln_add_binary(graph, KILN_OP_lt, bits, zero);
    kiln_value top = kiln_add_unary(graph, KILN_OP_not, zero);
    top = kiln_add_binary(graph, KILN_OP_shift_right_logical, top,
                          kiln_add_splat_like(graph, bits, 1));
    kiln_value turned = kiln_add_binary(graph, KILN_OP_xor, bits, top);
    kiln_value is_nan = kiln_add_binary(graph, KILN_OP_ne, a, a);
    return kiln_onnx_select(call, is_nan, top, kiln_onnx_select(call, is_low, turned, bits));
}

/* rank[r, i]: how many of row r stand before element i; ties by place. */
static kiln_value ranks(kiln_onnx_call *call, kiln_value keys, bool is_largest)
{
    kiln_graph *graph = call->graph;
    const int64_t *rows = kiln_graph_type(graph, keys)->dims;
    int64_t dims[3] = {rows[0], rows[1], rows[1]}, own[2] = {0, 1}, other[2] = {0, 2};
    kiln_value a = kiln_add_broadcast(graph, keys, 3, dims, own),
               b = kiln_add_broadcast(graph, keys, 3, dims, other);
    kiln_value i = kiln_onnx_iota(call, KILN_i32, 3, dims, 1),
               j = kiln_onnx_iota(call, KILN_i32, 3, dims, 2);
    kiln_value is_before = kiln_add_binary(graph, is_largest ? KILN_OP_gt : KILN_OP_lt, b, a);
    kiln_value is_tie = kiln_add_binary(graph, KILN_OP_eq, a, b);
    is_tie = kiln_add_binary(graph, KILN_OP_and, is_tie, kiln_add_binary(graph, KILN_OP_lt, j, i));
    is_before = kiln_add_binary(graph, KILN_OP_or, is_before, is_tie);
    return reduce(call, KILN_OP_reduce_sum, kiln_add_convert(graph, is_before, KILN_i32), 2);
}

/* index[r, p]: which element of row r has rank p, for p below k. */
static kiln_value ranked(kiln_onnx_call *call, kiln_value rank, int64_t k)
{
    kiln_graph *graph = call->graph;
    const int64_t *rows = kiln_graph_type(graph, rank)->dims;
    int64_t dims[3] = {rows[0], k, rows[1]}, axes[2] = {0, 2};
    kiln_value wide = kiln_add_broadcast(graph, rank, 3, dims, axes);
    kiln_value is_it =
        kiln_add_binary(graph, KILN_OP_eq, wide, kiln_onnx_iota(call, KILN_i32, 3, dims, 1));
    kiln_value at = kiln_onnx_iota(call, KILN_i32, 3, dims, 2);
    at = kiln_onnx_select(call, is_it, at, kiln_add_splat_like(graph, at, 0));
    return kiln_add_convert(graph, reduce(call, KILN_OP_reduce_sum, at, 2), KILN_i64);
}

/* Rows [n, width] back to the dims of operand 0 with `width` along `axis`. */
static kiln_value rows_restore(kiln_onnx_call *call, kiln_value rows, uint32_t axis, int64_t width)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t dims[KILN_MAX_RANK], order[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = i + 1 == type->rank ? width : type->dims[i + (i >= axis)];
        order[i] = i < axis ? i : i == axis ? type->rank - 1 : i - 1;
    }
    return kiln_add_transpose(call->graph, kiln_add_reshape(call->graph, rows, type->rank, dims),
                              order);
}

static kiln_value import_top_k(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), type->rank);
    int64_t n = type->dims[axis],
            k = call->opset < 10 ? kiln_onnx_int(call, "k", -1) : kiln_onnx_known_int(call, 1);
    int64_t order[KILN_MAX_RANK], flat[2] = {n ? type->n_elements / n : 0, n};
    bool is_largest = kiln_onnx_flag(call, "largest", true);
    kiln_onnx_ignore(call, "sorted");
    if (k < 0 || k > n)
        kiln_onnx_fail(call, "k is %" PRId64 " of %" PRId64 "; expected at most that", k, n);
    work_check(call, flat[0], n, n);
    for (uint32_t i = 0; i < type->rank; i++)
        order[i] = i + 1 == type->rank ? axis : i + (i >= axis);
    kiln_value rows = kiln_add_transpose(graph, call->inputs[0], order);
    rows = kiln_add_reshape(graph, rows, 2, flat);
    kiln_value index = ranked(call, ranks(call, order_keys(call, rows), is_largest), k);
    int64_t picked[2] = {flat[0], k};
    kiln_value base =
        kiln_onnx_with(call, KILN_OP_mul, kiln_onnx_iota(call, KILN_i64, 2, picked, 0), (double)n);
    kiln_value place = kiln_add_binary(graph, KILN_OP_add, base, index);
    kiln_value all = kiln_add_reshape(graph, rows, 1, &type->n_elements);
    kiln_onnx_result(call, 1, rows_restore(call, index, axis, k));
    return rows_restore(call, kiln_onnx_take(call, all, place, 0), axis, k);
}

/* Scatter */

static kiln_op reduction_read(kiln_onnx_call *call)
{
    static const struct {
        const char *name;
        kiln_op op;
    } rows[] = {{"none", KILN_OP_scatter},
                {"add", KILN_OP_scatter_add},
                {"mul", KILN_OP_scatter_mul},
                {"max", KILN_OP_scatter_max},
                {"min", KILN_OP_scatter_min}};
    const char *given = kiln_onnx_string(call, "reduction", "none");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!strcmp(rows[i].name, given)) return rows[i].op;
    }
    kiln_onnx_fail(call, "attr 'reduction' is %s; expected none, add, mul, max or min",
                   kiln_onnx_quote(&call->scope->arena, given));
}

kiln_value kiln_onnx_scatter(kiln_onnx_call *call, kiln_value places, int64_t n, int64_t block)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t m = kiln_graph_type(graph, places)->n_elements, flat[2] = {n, block},
            updates[2] = {m, block}, zero = 0, one = 1;
    kiln_op op = reduction_read(call);
    if (type->n_elements == 0 || m == 0 || block == 0) return call->inputs[0];
    uint32_t rank = block == 1 ? 1 : 2;
    kiln_value inputs[3] = {kiln_add_reshape(graph, call->inputs[0], rank, flat),
                            kiln_add_reshape(graph, places, 1, &m),
                            kiln_add_reshape(graph, kiln_onnx_operand(call, 2), rank, updates)};
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = (kiln_ints){rank - 1, &one};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &zero};
    attrs.scatter.index_axis = 1;
    kiln_value result = kiln_graph_add(
        graph, &(kiln_node_spec){.op = op, .inputs = inputs, .n_inputs = 3, .attrs = &attrs});
    return kiln_add_reshape(graph, result, type->rank, type->dims);
}

const kiln_onnx_row kiln_onnx_scatter_rows[] = {
    {"TopK", 6, 9, 1, 1, import_top_k},
    {"TopK", 10, KILN_ONNX_NEWEST, 2, 2, import_top_k},
    {0},
};
