/* Operators that make values from nothing but attributes and shapes. */
#include <inttypes.h>
#include <math.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

static kiln_value constant_floats(kiln_onnx_call *call, uint32_t n, const float *values,
                                  uint32_t rank)
{
    int64_t dims[1] = {n};
    const kiln_type *type = kiln_graph_tensor(call->graph, KILN_f32, rank, dims);
    return kiln_add_constant(call->graph, type, values);
}

static kiln_value import_constant(kiln_onnx_call *call)
{
    kiln_ints ints;
    uint32_t n = 0;
    const float *floats = NULL;
    const Kiln__Onnx__Tensor *tensor = kiln_onnx_tensor_attribute(call, "value");
    if (tensor) return kiln_onnx_tensor(call->onnx, tensor, "attr 'value'");
    if (kiln_onnx_ints(call, "value_ints", &ints))
        return kiln_onnx_constant_ints(call, KILN_i64, ints);
    if (kiln_onnx_floats(call, "value_floats", &n, &floats))
        return constant_floats(call, n, floats, 1);
    if (kiln_onnx_has_attribute(call, "value_float")) {
        float value = (float)kiln_onnx_float(call, "value_float", 0);
        return constant_floats(call, 1, &value, 0);
    }
    if (kiln_onnx_has_attribute(call, "value_int")) {
        int64_t value = kiln_onnx_int(call, "value_int", 0);
        return kiln_add_reshape(
            call->graph, kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){1, &value}), 0, NULL);
    }
    if (call->node->n_attribute == 0)
        kiln_onnx_fail(call, "attr 'value' is missing; expected a value");
    kiln_onnx_refuse(call, "a constant that is no dense number tensor");
}

static kiln_value import_constant_of_shape(kiln_onnx_call *call)
{
    kiln_ints shape = kiln_onnx_known_ints(call, 0);
    const Kiln__Onnx__Tensor *tensor = kiln_onnx_tensor_attribute(call, "value");
    kiln_value one = tensor ? kiln_onnx_tensor(call->onnx, tensor, "attr 'value'")
                            : kiln_onnx_scalar(call, KILN_f32, 0);
    const kiln_node *node = kiln_graph_node(call->graph, one);
    for (uint32_t i = 0; i < shape.n; i++) {
        if (shape.at[i] < 0)
            kiln_onnx_fail(call, "shape[%u] is %" PRId64 "; expected 0 or more", i, shape.at[i]);
    }
    if (node->type->n_elements != 1)
        kiln_onnx_fail(call, "attr 'value' has %" PRId64 " elements; expected one",
                       node->type->n_elements);
    one = kiln_add_reshape(call->graph, one, 0, NULL);
    if (node->op != KILN_OP_constant || node->attrs->literal.value.kind != KILN_LITERAL_SPLAT)
        return kiln_add_broadcast_to(call->graph, one, shape.n, shape.at);
    const kiln_type *type = kiln_graph_tensor(call->graph, node->type->dtype, shape.n, shape.at);
    return kiln_add_literal(call->graph, type, &node->attrs->literal.value);
}

static kiln_value range_of_ints(kiln_onnx_call *call, kiln_dtype dtype)
{
    int64_t start = kiln_onnx_known_int(call, 0), limit = kiln_onnx_known_int(call, 1);
    int64_t delta = kiln_onnx_known_int(call, 2), span, n = 0;
    if (delta == 0 || !kiln_checked_sub(limit, start, &span))
        kiln_onnx_fail(call, "from %" PRId64 " to %" PRId64 " by %" PRId64 "; expected a range",
                       start, limit, delta);
    if ((span > 0) == (delta > 0) && span != 0) n = (span - (delta > 0 ? 1 : -1)) / delta + 1;
    if (n > 1 << 24)
        kiln_fail(call->scope, KILN_LIMIT, "%" PRId64 " elements; expected at most 2^24", n);
    int64_t *values = kiln_new_array(&call->scope->arena, int64_t, n + 1);
    for (int64_t i = 0; i < n; i++) values[i] = start + i * delta;
    return kiln_onnx_constant_ints(call, dtype, (kiln_ints){(uint32_t)n, values});
}

static kiln_value import_range(kiln_onnx_call *call)
{
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype;
    for (uint32_t i = 0; i < 3; i++) {
        if (kiln_onnx_type(call, i)->n_elements != 1)
            kiln_onnx_fail(call, "operand %u is not a scalar; expected one", i);
    }
    if (!kiln_onnx_is_float(dtype)) return range_of_ints(call, dtype);
    const double *start, *limit, *delta;
    kiln_onnx_known_floats(call, 0, &start);
    kiln_onnx_known_floats(call, 1, &limit);
    kiln_onnx_known_floats(call, 2, &delta);
    double n = ceil((*limit - *start) / *delta);
    if (isnan(n) || n > 1 << 24)
        kiln_onnx_fail(call, "from %g to %g by %g; expected at most 2^24 elements", *start, *limit,
                       *delta);
    int64_t dims[1] = {n > 0 ? (int64_t)n : 0};
    kiln_value steps = kiln_onnx_iota(call, dtype, 1, dims, 0);
    return kiln_onnx_with(call, KILN_OP_add, kiln_onnx_with(call, KILN_OP_mul, steps, *delta),
                          *start);
}

static kiln_value import_eye_like(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    kiln_dtype dtype = type->dtype;
    if (kiln_onnx_has_attribute(call, "dtype"))
        dtype = kiln_onnx_dtype(call->onnx, kiln_onnx_int(call, "dtype", 0), "attr 'dtype'");
    kiln_value row = kiln_onnx_iota(call, KILN_i64, type->rank, type->dims, 0);
    kiln_value column = kiln_onnx_iota(call, KILN_i64, type->rank, type->dims, 1);
    double k = (double)kiln_onnx_int(call, "k", 0);
    kiln_value is_one =
        kiln_add_binary(call->graph, KILN_OP_eq, kiln_onnx_with(call, KILN_OP_add, row, k), column);
    return kiln_add_convert(call->graph, is_one, dtype);
}

/* a - b cos(2 pi i / n) + c cos(4 pi i / n) */
static kiln_value import_window(kiln_onnx_call *call)
{
    static const double hann[3] = {0.5, 0.5, 0}, hamming[3] = {25.0 / 46, 1 - 25.0 / 46, 0},
                        blackman[3] = {0.42, 0.5, 0.08};
    const double *terms = call->row->op[0] == 'B'   ? blackman
                          : call->row->op[2] == 'n' ? hann
                                                    : hamming;
    int64_t size = kiln_onnx_known_int(call, 0), dims[1] = {size};
    bool is_periodic = kiln_onnx_flag(call, "periodic", true);
    kiln_dtype dtype = kiln_onnx_dtype(call->onnx, kiln_onnx_int(call, "output_datatype", 1),
                                       "attr 'output_datatype'");
    if (size < 0 || size > 1 << 24)
        kiln_onnx_fail(call, "size %" PRId64 "; expected 0 to 2^24", size);
    const kiln_type *type = kiln_graph_tensor(call->graph, dtype, 1, dims);
    size_t width = kiln_dtype_bytes(dtype);
    char *data = kiln_arena_alloc(&call->scope->arena, (size_t)type->bytes + 16);
    double turn = 2 * acos(-1.0) / (double)kiln_max_i64(is_periodic ? size : size - 1, 1);
    for (int64_t i = 0; i < size; i++) {
        double at = turn * (double)i,
               value = terms[0] - terms[1] * cos(at) + terms[2] * cos(2 * at);
        kiln_element_from_double(dtype, value, data + (size_t)i * width);
    }
    return kiln_add_constant(call->graph, type, data);
}

const kiln_onnx_row kiln_onnx_source_rows[] = {
    {"HannWindow", 17, KILN_ONNX_NEWEST, 1, 1, import_window},
    {"HammingWindow", 17, KILN_ONNX_NEWEST, 1, 1, import_window},
    {"BlackmanWindow", 17, KILN_ONNX_NEWEST, 1, 1, import_window},
    {"Constant", 6, KILN_ONNX_NEWEST, 0, 0, import_constant},
    {"ConstantOfShape", 9, KILN_ONNX_NEWEST, 1, 1, import_constant_of_shape},
    {"Range", 11, KILN_ONNX_NEWEST, 3, 3, import_range},
    {"EyeLike", 9, KILN_ONNX_NEWEST, 1, 1, import_eye_like},
    {0},
};
