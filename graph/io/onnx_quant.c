/* Quantised operators. A quantised number stands for (q - zero point) * scale; integer products are
 * exact in i32. Scales and zero points are one number, one per entry of an axis, or one per block.
 */
#include <inttypes.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

/* Operand i spread over the dims of `like`: a scalar, a vector along `axis`, or blocks along it. */
static kiln_value spread(kiln_onnx_call *call, kiln_value a, const kiln_type *like, uint32_t axis,
                         int64_t block)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t axes[KILN_MAX_RANK] = {axis}, wide[KILN_MAX_RANK + 1], dims[KILN_MAX_RANK];
    if (type->n_elements == 1 && type->rank <= 1)
        return kiln_add_broadcast_to(call->graph, kiln_add_reshape(call->graph, a, 0, NULL),
                                     like->rank, like->dims);
    if (type->rank == 1) {
        if (axis >= like->rank || type->dims[0] != like->dims[axis])
            kiln_onnx_fail(call,
                           "a scale of %" PRId64 " entries; expected one per entry of axis %u",
                           type->dims[0], axis);
        return kiln_add_broadcast(call->graph, a, like->rank, like->dims, axes);
    }
    if (type->rank != like->rank || like->rank == KILN_MAX_RANK || block < 1)
        kiln_onnx_fail(call, "a scale of rank %u; expected a scalar, a vector or blocks",
                       type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        axes[i] = i + (i > axis);
        wide[axes[i]] = dims[i] = type->dims[i];
        if (i != axis && type->dims[i] != like->dims[i])
            kiln_onnx_fail(call, "dim %u of the scale is %" PRId64 "; expected %" PRId64, i,
                           type->dims[i], like->dims[i]);
    }
    wide[axis + 1] = block;
    if (!kiln_checked_mul(dims[axis], block, &dims[axis]) || dims[axis] < like->dims[axis])
        kiln_onnx_fail(call, "blocks of %" PRId64 " do not cover axis %u; expected more", block,
                       axis);
    a = kiln_add_broadcast(call->graph, a, type->rank + 1, wide, axes);
    a = kiln_add_reshape(call->graph, a, type->rank, dims);
    return kiln_onnx_slice(call, a, axis, 0, like->dims[axis]);
}

static uint32_t axis_read(kiln_onnx_call *call, const kiln_type *type, int64_t *out_block)
{
    int64_t axis = kiln_onnx_int(call, "axis", 1);
    *out_block = kiln_onnx_int(call, "block_size", 0);
    if (type->rank <= 1 && axis == 1) axis = 0;
    return type->rank ? kiln_onnx_axis(call, axis, type->rank) : 0;
}

/* saturate(round(a) + zero point) */
static kiln_value quantize(kiln_onnx_call *call, kiln_value a, kiln_value zero, kiln_dtype dtype)
{
    a = kiln_add_unary(call->graph, KILN_OP_round_even, a);
    if (zero.id)
        a = kiln_onnx_binary(call, KILN_OP_add, a, kiln_add_convert(call->graph, zero, KILN_f32));
    return kiln_add_convert(call->graph, a, dtype);
}

/* The dtype of the result: the zero point's, else output_dtype, else u8. */
static kiln_dtype quantized_dtype(kiln_onnx_call *call, uint32_t zero)
{
    int64_t named = kiln_onnx_int(call, "output_dtype", 0);
    if (kiln_onnx_has(call, zero)) return kiln_onnx_type(call, zero)->dtype;
    return named ? kiln_onnx_dtype(call->onnx, named, "attr 'output_dtype'") : KILN_u8;
}

static kiln_value import_quantize(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t block;
    uint32_t axis = axis_read(call, type, &block);
    bool is_saturating = kiln_onnx_int(call, "saturate", 1) != 0;
    kiln_onnx_ignore(call, "precision");
    kiln_dtype dtype = quantized_dtype(call, 2);
    kiln_value a = kiln_add_convert(call->graph, call->inputs[0], KILN_f32), zero = {0};
    kiln_value scale = kiln_add_convert(call->graph, kiln_onnx_operand(call, 1), KILN_f32);
    a = kiln_add_binary(call->graph, KILN_OP_div, a, spread(call, scale, type, axis, block));
    if (kiln_onnx_is_float(dtype)) return kiln_onnx_cast_float(call, a, dtype, is_saturating);
    if (kiln_onnx_has(call, 2)) zero = spread(call, call->inputs[2], type, axis, block);
    return quantize(call, a, zero, dtype);
}

static kiln_value import_dequantize(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0), *scale_type = kiln_onnx_type(call, 1);
    int64_t block, named = kiln_onnx_int(call, "output_dtype", 0);
    uint32_t axis = axis_read(call, type, &block);
    kiln_dtype dtype =
        named ? kiln_onnx_dtype(call->onnx, named, "attr 'output_dtype'") : scale_type->dtype;
    kiln_dtype whole = kiln_onnx_is_float(type->dtype) ? KILN_f32 : KILN_i32;
    kiln_value a = kiln_add_convert(call->graph, call->inputs[0], whole);
    if (kiln_onnx_has(call, 2)) {
        kiln_value zero = kiln_add_convert(call->graph, call->inputs[2], whole);
        a = kiln_add_binary(call->graph, KILN_OP_sub, a, spread(call, zero, type, axis, block));
    }
    kiln_value scale = kiln_add_convert(call->graph, call->inputs[1], KILN_f32);
    a = kiln_add_convert(call->graph, a, KILN_f32);
    a = kiln_add_binary(call->graph, KILN_OP_mul, a, spread(call, scale, type, axis, block));
    return kiln_add_convert(call->graph, a, dtype);
}

static kiln_value reduce_all(kiln_onnx_call *call, kiln_op op, kiln_value a)
{
    int64_t axes[KILN_MAX_RANK];
    const kiln_type *type = kiln_graph_type(call->graph, a);
    for (uint32_t i = 0; i < type->rank; i++) axes[i] = i;
    return type->rank ? kiln_add_reduce(call->graph, op, a, type->rank, axes) : a;
}

static kiln_value import_dynamic_quantize(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value high = kiln_onnx_with(call, KILN_OP_max, reduce_all(call, KILN_OP_reduce_max, a), 0);
    kiln_value low = kiln_onnx_with(call, KILN_OP_min, reduce_all(call, KILN_OP_reduce_min, a), 0);
    kiln_value scale = kiln_onnx_with(call, KILN_OP_div,
                                      kiln_add_binary(call->graph, KILN_OP_sub, high, low), 255);
    kiln_value is_flat = kiln_onnx_with(call, KILN_OP_eq, scale, 0);
    kiln_value divisor =
        kiln_onnx_select(call, is_flat, kiln_add_splat_like(call->graph, scale, 1), scale);
    kiln_value zero = kiln_add_binary(call->graph, KILN_OP_div, low, divisor);
    zero = kiln_add_unary(call->graph, KILN_OP_round_even,
                          kiln_add_unary(call->graph, KILN_OP_neg, zero));
    zero = kiln_add_convert(call->graph, zero, KILN_u8);
    kiln_onnx_result(call, 1, scale);
    kiln_onnx_result(call, 2, zero);
    return quantize(call, kiln_onnx_binary(call, KILN_OP_div, a, divisor), zero, KILN_u8);
}

/* a - zero point in i32; a vector of zero points stands along `axis` counted from the end. */
static kiln_value centred(kiln_onnx_call *call, uint32_t i, uint32_t zero, uint32_t from_end)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    kiln_value a = kiln_add_convert(call->graph, call->inputs[i], KILN_i32);
    if (!kiln_onnx_has(call, zero)) return a;
    kiln_value z = kiln_add_convert(call->graph, call->inputs[zero], KILN_i32);
    const kiln_type *own = kiln_graph_type(call->graph, z);
    if (own->rank == 1 && own->n_elements > 1 && type->rank >= from_end)
        z = kiln_onnx_along(call, z, type->rank - from_end, type->rank);
    return kiln_onnx_binary(call, KILN_OP_sub, a, z);
}

static kiln_value import_matmul_integer(kiln_onnx_call *call)
{
    return kiln_onnx_matmul(call, centred(call, 0, 2, 2), centred(call, 1, 3, 1), KILN_i32);
}

/* A scale that multiplies a product: a vector of rows or columns stands along that axis. */
static kiln_value scaled(kiln_onnx_call *call, kiln_value a, kiln_op op, uint32_t i,
                         uint32_t from_end)
{
    const kiln_type *type = kiln_graph_type(call->graph, a), *own = kiln_onnx_type(call, i);
    kiln_value scale = kiln_add_convert(call->graph, call->inputs[i], KILN_f32);
    if (own->rank == 1 && own->n_elements > 1 && type->rank >= from_end)
        scale = kiln_onnx_along(call, scale, type->rank - from_end, type->rank);
    if (own->rank == 1 && own->n_elements == 1)
        scale = kiln_add_reshape(call->graph, scale, 0, NULL);
    return kiln_onnx_binary(call, op, a, scale);
}

static kiln_value import_qlinear_matmul(kiln_onnx_call *call)
{
    kiln_value product =
        kiln_onnx_matmul(call, centred(call, 0, 2, 2), centred(call, 3, 5, 1), KILN_i32);
    product = kiln_add_convert(call->graph, product, KILN_f32);
    product = scaled(call, product, KILN_OP_mul, 1, 2);
    product = scaled(call, product, KILN_OP_mul, 4, 1);
    product = scaled(call, product, KILN_OP_div, 6, 2);
    return quantize(call, product, kiln_onnx_operand(call, 7), kiln_onnx_type(call, 7)->dtype);
}

/* The convolution of operand x and weights w, both centred, in i32. */
static kiln_value convolve(kiln_onnx_call *call, uint32_t weights, kiln_value x, kiln_value w)
{
    const kiln_type *input = kiln_onnx_ranked(call, 0, 3),
                    *kernel = kiln_onnx_ranked(call, weights, 3);
    int64_t groups = kiln_onnx_int(call, "group", 1), per_group;
    if (groups < 1 || kernel->rank != input->rank ||
        !kiln_checked_mul(kernel->dims[1], groups, &per_group) || per_group != input->dims[1] ||
        kernel->dims[0] % groups)
        kiln_onnx_fail(call,
                       "weights of %" PRId64 " channels in %" PRId64 " groups; expected %" PRId64,
                       kernel->dims[1], groups, input->dims[1]);
    kiln_onnx_window window;
    kiln_onnx_window_read(call, kernel->dims + 2, &window);
    kiln_onnx_window_same(call, &window);
    return kiln_onnx_convolution(call, (kiln_value[]){x, w}, groups, &window);
}

static kiln_value import_conv_integer(kiln_onnx_call *call)
{
    uint32_t rank = kiln_onnx_ranked(call, 1, 3)->rank;
    return convolve(call, 1, centred(call, 0, 2, 1), centred(call, 1, 3, rank));
}

static kiln_value import_qlinear_conv(kiln_onnx_call *call)
{
    uint32_t rank = kiln_onnx_ranked(call, 3, 3)->rank;
    kiln_value sum = convolve(call, 3, centred(call, 0, 2, 1), centred(call, 3, 5, rank));
    const kiln_type *type = kiln_graph_type(call->graph, sum);
    if (kiln_onnx_has(call, 8))
        sum = kiln_onnx_binary(call, KILN_OP_add, sum,
                               kiln_onnx_along(call, call->inputs[8], 1, type->rank));
    sum = kiln_add_convert(call->graph, sum, KILN_f32);
    sum = scaled(call, sum, KILN_OP_mul, 1, 1);
    sum = scaled(call, sum, KILN_OP_mul, 4, rank - 1);
    sum = scaled(call, sum, KILN_OP_div, 6, 1);
    return quantize(call, sum, kiln_onnx_operand(call, 7), kiln_onnx_type(call, 7)->dtype);
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_quant_rows[] = {
    ROW("QuantizeLinear", 10, 2, 3, import_quantize),
    ROW("DequantizeLinear", 10, 2, 3, import_dequantize),
    ROW("DynamicQuantizeLinear", 11, 1, 1, import_dynamic_quantize),
    ROW("MatMulInteger", 10, 2, 4, import_matmul_integer),
    ROW("ConvInteger", 10, 2, 4, import_conv_integer),
    ROW("QLinearMatMul", 10, 8, 8, import_qlinear_matmul),
    ROW("QLinearConv", 10, 8, 9, import_qlinear_conv),
    {0},
};
