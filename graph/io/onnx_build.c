/* Building blocks of operators: broadcasting, constants, slices, indices with checks. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/describe.h"
#include "graph/io/onnx_extent.h"

int64_t *kiln_onnx_dims(kiln_onnx_call *call, uint32_t n)
{
    return kiln_new_array(&call->scope->arena, int64_t, (size_t)n + 1);
}

kiln_value kiln_onnx_scalar(kiln_onnx_call *call, kiln_dtype dtype, double value)
{
    return kiln_add_splat(call->graph, dtype, 0, NULL, value);
}

kiln_value kiln_onnx_with(kiln_onnx_call *call, kiln_op op, kiln_value a, double value)
{
    return kiln_add_binary(call->graph, op, a, kiln_add_splat_like(call->graph, a, value));
}

kiln_value kiln_onnx_constant_ints(kiln_onnx_call *call, kiln_dtype dtype, kiln_ints values)
{
    int64_t dims[1] = {values.n};
    const kiln_type *type = kiln_graph_tensor(call->graph, dtype, 1, dims);
    size_t width = kiln_dtype_bytes(dtype);
    char *data = kiln_arena_alloc(&call->scope->arena, (size_t)type->bytes + 16);
    for (uint32_t i = 0; i < values.n; i++) {
        if (dtype == KILN_i64) {
            memcpy(data + i * width, &values.at[i], width);
        } else {
            kiln_element_from_double(dtype, (double)values.at[i], data + i * width);
        }
    }
    return kiln_add_constant(call->graph, type, data);
}

static const char *shapes_string(kiln_onnx_call *call, uint32_t n, const kiln_value *values)
{
    kiln_text text = {.arena = &call->scope->arena};
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *type = kiln_graph_type(call->graph, values[i]);
        kiln_text_append(&text, i ? " and " : "");
        kiln_text_type(&text, type->dtype, type->rank, type->dims);
    }
    return kiln_text_string(&text);
}

void kiln_onnx_broadcast(kiln_onnx_call *call, uint32_t n, kiln_value *values)
{
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t own = kiln_graph_type(call->graph, values[i])->rank;
        if (own > rank) rank = own;
    }
    for (uint32_t axis = 0; axis < rank; axis++) {
        dims[axis] = 1;
        for (uint32_t i = 0; i < n; i++) {
            const kiln_type *type = kiln_graph_type(call->graph, values[i]);
            int64_t dim = axis + type->rank < rank ? 1 : type->dims[axis + type->rank - rank];
            if (dim == 1 || dim == dims[axis]) continue;
            if (dims[axis] != 1)
                kiln_onnx_fail(call, "operands are %s; expected dims that broadcast",
                               shapes_string(call, n, values));
            dims[axis] = dim;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        values[i] = kiln_add_broadcast_to(call->graph, values[i], rank, dims);
    }
}

kiln_value kiln_onnx_binary(kiln_onnx_call *call, kiln_op op, kiln_value a, kiln_value b)
{
    kiln_value values[] = {a, b};
    kiln_onnx_broadcast(call, 2, values);
    return kiln_add_binary(call->graph, op, values[0], values[1]);
}

kiln_value kiln_onnx_select(kiln_onnx_call *call, kiln_value c, kiln_value a, kiln_value b)
{
    kiln_value values[] = {c, a, b};
    kiln_onnx_broadcast(call, 3, values);
    return kiln_graph_add(call->graph,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = values, .n_inputs = 3});
}

kiln_value kiln_onnx_reshape(kiln_onnx_call *call, kiln_value a, uint32_t rank, const int64_t *dims)
{
    return kiln_add_reshape(call->graph, a, rank, dims);
}

kiln_value kiln_onnx_slice(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t from,
                           int64_t to)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    if (from == 0 && to == type->dims[axis]) return a;
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = type->dims[i];
        strides[i] = 1;
    }
    starts[axis] = from;
    limits[axis] = to;
    kiln_attrs attrs = {
        KILN_FAMILY_slice,
        .slice = {{type->rank, starts}, {type->rank, limits}, {type->rank, strides}}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_slice, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

kiln_value kiln_onnx_pad_high(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t high,
                              double value)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t zeros[KILN_MAX_RANK] = {0}, ends[KILN_MAX_RANK] = {0};
    kiln_value inputs[] = {a, kiln_onnx_scalar(call, type->dtype, value)};
    ends[axis] = high;
    kiln_attrs attrs = {KILN_FAMILY_pad,
                        .pad = {{type->rank, zeros}, {type->rank, ends}, {type->rank, zeros}}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_pad, .inputs = inputs, .n_inputs = 2, .attrs = &attrs});
}

kiln_value kiln_onnx_concat(kiln_onnx_call *call, uint32_t n, const kiln_value *parts,
                            uint32_t axis)
{
    if (n == 1) return parts[0];
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_concat, .inputs = parts, .n_inputs = n, .attrs = &attrs});
}

kiln_value kiln_onnx_take(kiln_onnx_call *call, kiln_value a, kiln_value index, uint32_t axis)
{
    kiln_value inputs[] = {a, index};
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_take, .inputs = inputs, .n_inputs = 2, .attrs = &attrs});
}

kiln_value kiln_onnx_iota(kiln_onnx_call *call, kiln_dtype dtype, uint32_t rank,
                          const int64_t *dims, uint32_t axis)
{
    const kiln_type *type = kiln_graph_tensor(call->graph, dtype, rank, dims);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    return kiln_graph_add(call->graph,
                          &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &attrs});
}

kiln_value kiln_onnx_along(kiln_onnx_call *call, kiln_value vector, uint32_t axis, uint32_t rank)
{
    const kiln_type *type = kiln_graph_type(call->graph, vector);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) dims[i] = 1;
    dims[axis] = type->n_elements;
    return kiln_add_reshape(call->graph, vector, rank, dims);
}

/* Every index of a known value made plain, or MODEL when one is out of range. */
kiln_value kiln_onnx_cast_float(kiln_onnx_call *call, kiln_value a, kiln_dtype dtype,
                                bool is_saturating)
{
    kiln_dtype from = kiln_graph_type(call->graph, a)->dtype;
    if (!is_saturating || kiln_dtype_bits(dtype) != 8)
        return kiln_add_convert(call->graph, a, dtype);
    uint8_t top = (uint8_t)kiln_float_format_of(dtype)->top;
    double largest = kiln_element_to_double(dtype, &top);
    if (!kiln_onnx_is_float(from) || kiln_dtype_bits(from) < 16)
        a = kiln_add_convert(call->graph, a, KILN_f32);
    a = kiln_onnx_with(call, KILN_OP_max, a, -largest);
    return kiln_add_convert(call->graph, kiln_onnx_with(call, KILN_OP_min, a, largest), dtype);
}

static kiln_value indices_known(kiln_onnx_call *call, kiln_value indices, const void *data,
                                int64_t dim)
{
    const kiln_type *type = kiln_graph_type(call->graph, indices);
    int64_t *plain = kiln_new_array(&call->scope->arena, int64_t, type->n_elements + 1);
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t index = kiln_onnx_int_at(type->dtype, data, i);
        if (index < -dim || index >= dim)
            kiln_onnx_fail(call,
                           "index %" PRId64 " of dim %" PRId64 "; expected one in [-%" PRId64
                           ", %" PRId64 ")",
                           index, dim, dim, dim);
        plain[i] = index < 0 ? index + dim : index;
    }
    type = kiln_graph_tensor(call->graph, KILN_i64, type->rank, type->dims);
    return kiln_add_constant(call->graph, type, plain);
}

void kiln_onnx_check_size(kiln_onnx_call *call, uint32_t rank, const int64_t *dims)
{
    int64_t n;
    bool is_large = !kiln_checked_product(dims, rank, &n) || n > KILN_MAX_ELEMENTS;
    for (uint32_t i = 0; i < rank; i++) is_large |= dims[i] > KILN_MAX_DIM;
    if (is_large)
        kiln_fail(call->scope, KILN_LIMIT,
                  "a result of dims %s; expected dims to 2^40 and at most 2^48 elements",
                  kiln_ints_string(&call->scope->arena, (kiln_ints){rank, dims}));
}

void kiln_onnx_check(kiln_onnx_call *call, kiln_value is_bad, const char *what)
{
    bool is_read = call->is_extent_read; /* a check serves no operand */
    is_bad = kiln_onnx_extent_fill(call, is_bad, 0);
    call->is_extent_read = is_read;
    int64_t axes[KILN_MAX_RANK];
    const kiln_type *type = kiln_graph_type(call->graph, is_bad);
    for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
    kiln_value count = kiln_add_convert(call->graph, is_bad, KILN_i64);
    if (type->rank)
        count = kiln_add_reduce(call->graph, KILN_OP_reduce_sum, count, type->rank, axes);
    const char *name =
        call->node->name && *call->node->name ? call->node->name : call->node->op_type;
    const char *sentence =
        kiln_arena_format(&call->scope->arena, "node %s (%s): %s",
                          kiln_onnx_quote(&call->scope->arena, name), call->row->op, what);
    kiln_add_check(call->graph, count, sentence);
}

kiln_value kiln_onnx_indices(kiln_onnx_call *call, kiln_value indices, int64_t dim)
{
    const kiln_type *type = kiln_graph_type(call->graph, indices);
    if (type->dtype != KILN_i32 && type->dtype != KILN_i64)
        kiln_onnx_fail(call, "indices are %s; expected i32 or i64", kiln_dtype_name(type->dtype));
    const void *data = kiln_onnx_known(call, indices);
    if (data) return indices_known(call, indices, data, dim);
    kiln_value wide = kiln_add_convert(call->graph, indices, KILN_i64);
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, wide, (double)-dim);
    kiln_value is_high = kiln_onnx_with(call, KILN_OP_ge, wide, (double)dim);
    kiln_onnx_check(call, kiln_add_binary(call->graph, KILN_OP_or, is_low, is_high),
                    "indices out of range");
    kiln_value is_negative = kiln_onnx_with(call, KILN_OP_lt, wide, 0);
    kiln_value shifted = kiln_onnx_with(call, KILN_OP_add, wide, (double)dim);
    return kiln_onnx_select(call, is_negative, shifted, wide);
}
