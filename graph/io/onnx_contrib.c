/* Operators of com.microsoft, which ONNX Runtime's optimiser and exporters write: products,
 * activations and normalisations with their neighbours joined in. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

static kiln_value add(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_add, a, b);
}

static kiln_value gelu(kiln_onnx_call *call, kiln_value a, bool is_tanh)
{
    kiln_attrs attrs = {KILN_FAMILY_gelu, .gelu = {is_tanh}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_gelu, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

/* Gelu, BiasGelu and FastGelu: the second operand is added first. */
static kiln_value import_gelu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    if (kiln_onnx_has(call, 1)) a = add(call, a, call->inputs[1]);
    return gelu(call, a, call->row->op[0] == 'F');
}

static kiln_value import_quick_gelu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value gate = kiln_onnx_with(call, KILN_OP_mul, a, kiln_onnx_float(call, "alpha", 1.702f));
    return kiln_add_binary(call->graph, KILN_OP_mul, a,
                           kiln_add_unary(call->graph, KILN_OP_logistic, gate));
}

static kiln_value turn_last(kiln_onnx_call *call, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t order[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) order[i] = i;
    if (type->rank < 2) return a;
    order[type->rank - 1] = type->rank - 2;
    order[type->rank - 2] = type->rank - 1;
    return kiln_add_transpose(call->graph, a, order);
}

static kiln_value import_fused_matmul(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0), b = kiln_onnx_operand(call, 1);
    if (kiln_onnx_flag(call, "transBatchA", false) || kiln_onnx_flag(call, "transBatchB", false))
        kiln_onnx_refuse(call, "attr 'transBatchA' or 'transBatchB' is 1");
    if (kiln_onnx_flag(call, "transA", false)) a = turn_last(call, a);
    if (kiln_onnx_flag(call, "transB", false)) b = turn_last(call, b);
    double alpha = kiln_onnx_float(call, "alpha", 1);
    kiln_value product =
        kiln_onnx_matmul(call, a, b, kiln_dtype_accumulator(kiln_onnx_type(call, 0)->dtype));
    return alpha == 1 ? product : kiln_onnx_with(call, KILN_OP_mul, product, alpha);
}

/* The activation of FusedConv and FusedGemm, by name. */
static kiln_value activate(kiln_onnx_call *call, kiln_value a)
{
    static const struct {
        const char *name;
        kiln_op op;
    } plain[] = {{"Relu", KILN_OP_relu}, {"Sigmoid", KILN_OP_logistic}, {"Tanh", KILN_OP_tanh}};
    const char *name = kiln_onnx_string(call, "activation", "");
    const float *params = NULL;
    uint32_t n = 0;
    kiln_onnx_floats(call, "activation_params", &n, &params);
    if (!*name) return a;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (!strcmp(plain[i].name, name)) return kiln_add_unary(call->graph, plain[i].op, a);
    }
    if (!strcmp(name, "Clip") && n == 2) {
        a = kiln_onnx_with(call, KILN_OP_max, a, (double)params[0]);
        return kiln_onnx_with(call, KILN_OP_min, a, (double)params[1]);
    }
    kiln_attrs slope = {KILN_FAMILY_slope, .slope = {n ? (double)params[0] : 0.01f}};
    kiln_attrs affine = {KILN_FAMILY_affine,
                         .affine = {n ? (double)params[0] : 0.2f, n > 1 ? (double)params[1] : 0.5}};
    bool is_leaky = !strcmp(name, "LeakyRelu");
    if (!is_leaky && strcmp(name, "HardSigmoid"))
        kiln_onnx_refuse(call, "activation %s", kiln_onnx_quote(&call->scope->arena, name));
    kiln_node_spec spec = {.op = is_leaky ? KILN_OP_leaky_relu : KILN_OP_hard_sigmoid,
                           .inputs = &a,
                           .n_inputs = 1,
                           .attrs = is_leaky ? &slope : &affine};
    return kiln_graph_add(call->graph, &spec);
}

static kiln_value import_fused_conv(kiln_onnx_call *call)
{
    const kiln_type *input = kiln_onnx_ranked(call, 0, 3), *kernel = kiln_onnx_ranked(call, 1, 3);
    int64_t groups = kiln_onnx_int(call, "group", 1), per_group, axes[1] = {1};
    kiln_onnx_window window;
    if (groups < 1 || kernel->rank != input->rank ||
        !kiln_checked_mul(kernel->dims[1], groups, &per_group) || per_group != input->dims[1])
        kiln_onnx_fail(call,
                       "attr 'group' is %" PRId64 " for %" PRId64 " channels; expected a divisor",
                       groups, input->dims[1]);
    kiln_onnx_window_read(call, kernel->dims + 2, &window);
    kiln_onnx_window_same(call, &window);
    kiln_value sum = kiln_onnx_convolution(call, call->inputs, groups, &window);
    const kiln_type *type = kiln_graph_type(call->graph, sum);
    if (kiln_onnx_has(call, 2))
        sum = kiln_add_binary(
            call->graph, KILN_OP_add, sum,
            kiln_add_broadcast(call->graph, call->inputs[2], type->rank, type->dims, axes));
    if (kiln_onnx_has(call, 3)) sum = add(call, sum, call->inputs[3]);
    return activate(call, sum);
}

/* The same with the channels last: the compiler chooses the order that it computes in. */
static kiln_value import_nhwc_conv(kiln_onnx_call *call)
{
    static const uint32_t images[2] = {0, 3};
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    int64_t first[KILN_MAX_RANK] = {0, type->rank - 1}, last[KILN_MAX_RANK] = {0};
    for (uint32_t i = 2; i < type->rank; i++) first[i] = i - 1;
    for (uint32_t i = 1; i < type->rank; i++) last[i] = i + 1 < type->rank ? i + 1 : 1;
    for (uint32_t i = 0; i < 2; i++) {
        if (!kiln_onnx_has(call, images[i])) continue;
        if (kiln_onnx_type(call, images[i])->rank != type->rank)
            kiln_onnx_fail(call, "operand %u has rank %u; expected %u", images[i],
                           kiln_onnx_type(call, images[i])->rank, type->rank);
        call->inputs[images[i]] = kiln_add_transpose(call->graph, call->inputs[images[i]], first);
    }
    return kiln_add_transpose(call->graph, import_fused_conv(call), last);
}

static kiln_value import_fused_gemm(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0), b = kiln_onnx_operand(call, 1);
    double alpha = kiln_onnx_float(call, "alpha", 1), beta = kiln_onnx_float(call, "beta", 1);
    if (kiln_onnx_flag(call, "transA", false)) a = turn_last(call, a);
    if (kiln_onnx_flag(call, "transB", false)) b = turn_last(call, b);
    const char *const parameters[] = {"activation_alpha", "activation_beta", "activation_gamma"};
    for (size_t i = 0; i < 3; i++) {
        if (kiln_onnx_has_attribute(call, parameters[i]))
            kiln_onnx_refuse(call, "attr '%s'", parameters[i]);
    }
    kiln_value sum =
        kiln_onnx_matmul(call, a, b, kiln_dtype_accumulator(kiln_onnx_type(call, 0)->dtype));
    if (alpha != 1) sum = kiln_onnx_with(call, KILN_OP_mul, sum, alpha);
    if (kiln_onnx_has(call, 2)) {
        kiln_value bias = call->inputs[2];
        if (beta != 1) bias = kiln_onnx_with(call, KILN_OP_mul, bias, beta);
        sum = add(call, sum, bias);
    }
    return activate(call, sum);
}

/* Layer or root-mean-square normalisation over the last axis, f16 and bf16 in f32. */
static kiln_value last_norm(kiln_onnx_call *call, kiln_value a, kiln_value scale, kiln_value offset)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    kiln_dtype wide = kiln_dtype_accumulator(type->dtype);
    bool is_rms = call->row->kiln == KILN_OP_rms_norm;
    kiln_attrs attrs = {KILN_FAMILY_norm,
                        .norm = {kiln_onnx_float(call, "epsilon", is_rms ? 1e-5f : 1e-12f)}};
    kiln_value operands[3] = {kiln_add_convert(call->graph, a, wide),
                              kiln_add_convert(call->graph, scale, wide)};
    if (!is_rms)
        operands[2] = offset.id ? kiln_add_convert(call->graph, offset, wide)
                                : kiln_add_splat_like(call->graph, operands[1], 0);
    kiln_node_spec spec = {
        .op = call->row->kiln, .inputs = operands, .n_inputs = is_rms ? 2 : 3, .attrs = &attrs};
    return kiln_add_convert(call->graph, kiln_graph_add(call->graph, &spec), type->dtype);
}

/* (input + skip (+ bias)) normalised; output 3 is the sum. */
static kiln_value import_skip_norm(kiln_onnx_call *call)
{
    uint32_t bias = call->row->kiln == KILN_OP_rms_norm ? 3 : 4;
    kiln_value offset = bias == 4 && kiln_onnx_has(call, 3) ? call->inputs[3] : (kiln_value){0};
    kiln_value sum = add(call, kiln_onnx_operand(call, 0), kiln_onnx_operand(call, 1));
    kiln_onnx_ranked(call, 0, 1);
    if (kiln_onnx_has(call, bias)) sum = add(call, sum, call->inputs[bias]);
    kiln_onnx_result(call, 3, sum);
    return last_norm(call, sum, kiln_onnx_operand(call, 2), offset);
}

static kiln_value import_simplified_norm(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    kiln_onnx_ignore(call, "stash_type");
    if (kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), type->rank) + 1 != type->rank)
        kiln_onnx_refuse(call, "attr 'axis' is not the last axis");
    return last_norm(call, call->inputs[0], kiln_onnx_operand(call, 1), (kiln_value){0});
}

/* Attention */

static kiln_value heads_split(kiln_onnx_call *call, kiln_value a, int64_t heads)
{
    static const int64_t order[4] = {0, 2, 1, 3};
    const kiln_type *type = kiln_graph_type(call->graph, a);
    if (type->rank == 4) return a;
    if (type->rank != 3 || heads < 1 || type->dims[2] % heads)
        kiln_onnx_fail(call, "attr 'num_heads' is %" PRId64 "; expected a divisor of the width",
                       heads);
    int64_t dims[4] = {type->dims[0], type->dims[1], heads, type->dims[2] / heads};
    return kiln_add_transpose(call->graph, kiln_add_reshape(call->graph, a, 4, dims), order);
}

/* Which keys count: [batch, keys] of 0 and 1, or [batch] of lengths; as bool [batch, 1, 1, keys].
 */
static kiln_value key_mask(kiln_onnx_call *call, uint32_t i, int64_t keys)
{
    if (!kiln_onnx_has(call, i)) return (kiln_value){0};
    const kiln_type *type = kiln_onnx_type(call, i);
    kiln_value mask = kiln_add_convert(call->graph, call->inputs[i], KILN_i64);
    int64_t dims[4] = {type->rank ? type->dims[0] : 1, 1, 1, type->rank == 2 ? type->dims[1] : 1};
    if (type->rank < 1 || type->rank > 2 || (type->rank == 2 && type->dims[1] != keys))
        kiln_onnx_refuse(call, "a mask of rank %u", type->rank);
    mask = kiln_add_reshape(call->graph, mask, 4, dims);
    if (type->rank == 2) return kiln_onnx_with(call, KILN_OP_ne, mask, 0);
    return kiln_onnx_binary(call, KILN_OP_lt, kiln_onnx_iota(call, KILN_i64, 1, &keys, 0), mask);
}

/* softmax(scale q k^T + bias where key) v, heads joined again. `mask` and `bias` may be none. */
static kiln_value attend(kiln_onnx_call *call, const kiln_value *qkv, kiln_value mask,
                         kiln_value bias)
{
    static const int64_t order[4] = {0, 2, 1, 3};
    const kiln_type *q = kiln_graph_type(call->graph, qkv[0]);
    kiln_value operands[4] = {qkv[0], qkv[1], qkv[2], bias.id ? bias : mask};
    if (bias.id && mask.id) {
        kiln_dtype dtype = kiln_graph_type(call->graph, bias)->dtype;
        operands[3] = kiln_onnx_select(call, mask, bias, kiln_onnx_scalar(call, dtype, -INFINITY));
    }
    double scale = kiln_onnx_float(call, "scale", 0);
    if (scale == 0) scale = 1 / sqrt((double)kiln_max_i64(q->dims[3], 1));
    kiln_attrs attrs = {KILN_FAMILY_attention,
                        .attention = {scale, kiln_onnx_flag(call, "unidirectional", false)}};
    kiln_node_spec spec = {.op = KILN_OP_attention,
                           .inputs = operands,
                           .n_inputs = operands[3].id ? 4 : 3,
                           .attrs = &attrs};
    kiln_value y = kiln_graph_add(call->graph, &spec);
    const kiln_type *type = kiln_graph_type(call->graph, y);
    int64_t dims[3] = {type->dims[0], type->dims[2], type->dims[1] * type->dims[3]};
    return kiln_add_reshape(call->graph, kiln_add_transpose(call->graph, y, order), 3, dims);
}

/* Attention: one product with [width, 3 hidden] gives queries, keys and values. */
static kiln_value import_attention(kiln_onnx_call *call)
{
    int64_t heads = kiln_onnx_int(call, "num_heads", 0);
    kiln_ints sizes;
    kiln_onnx_ignore(call, "mask_filter_value");
    if (kiln_onnx_ints(call, "qkv_hidden_sizes", &sizes))
        kiln_onnx_refuse(call, "attr 'qkv_hidden_sizes'");
    if (kiln_onnx_has(call, 4) || kiln_onnx_flag(call, "do_rotary", false))
        kiln_onnx_refuse(call, "a past or rotary");
    kiln_value a = kiln_onnx_matmul(call, kiln_onnx_operand(call, 0), kiln_onnx_operand(call, 1),
                                    kiln_dtype_accumulator(kiln_onnx_type(call, 0)->dtype));
    if (kiln_onnx_has(call, 2)) a = add(call, a, call->inputs[2]);
    const kiln_type *type = kiln_graph_type(call->graph, a);
    if (type->rank != 3 || type->dims[2] % 3)
        kiln_onnx_fail(call, "weights of rank %u; expected 3 x hidden", type->rank);
    int64_t hidden = type->dims[2] / 3;
    kiln_value qkv[3];
    for (uint32_t i = 0; i < 3; i++)
        qkv[i] =
            heads_split(call, kiln_onnx_slice(call, a, 2, i * hidden, (i + 1) * hidden), heads);
    kiln_value bias = kiln_onnx_has(call, 5) ? call->inputs[5] : (kiln_value){0};
    return attend(call, qkv, key_mask(call, 3, type->dims[1]), bias);
}

static kiln_value import_multi_head(kiln_onnx_call *call)
{
    int64_t heads = kiln_onnx_int(call, "num_heads", 0), at = 0;
    kiln_value qkv[3];
    kiln_onnx_ignore(call, "mask_filter_value");
    for (uint32_t i = 0; i < 3; i++) {
        const kiln_type *type = kiln_onnx_ranked(call, i, 3);
        kiln_value a = call->inputs[i];
        int64_t width = type->dims[type->rank - 1];
        if (kiln_onnx_has(call, 3) && type->rank == 3)
            a = add(call, a, kiln_onnx_slice(call, call->inputs[3], 0, at, at + width));
        at += width;
        qkv[i] = heads_split(call, a, heads);
        if (i && kiln_onnx_has(call, 5 + i))
            qkv[i] = kiln_onnx_concat(call, 2, (kiln_value[]){call->inputs[5 + i], qkv[i]}, 2);
        if (i) kiln_onnx_result(call, i, qkv[i]);
    }
    kiln_value bias = kiln_onnx_has(call, 5) ? call->inputs[5] : (kiln_value){0};
    return attend(call, qkv, key_mask(call, 4, kiln_graph_type(call->graph, qkv[1])->dims[2]),
                  bias);
}

/* Weights of 4 or 8 bits [n, blocks, bytes] with a scale a block: unpacked, then a product. */
static kiln_value bits_unpack(kiln_onnx_call *call, kiln_value packed, int64_t bits, int64_t n)
{
    const kiln_type *type = kiln_graph_type(call->graph, packed);
    int64_t wide[2] = {type->n_elements, 1},
            flat[2] = {n, n ? type->n_elements * (8 / bits) / n : 0};
    if (bits == 8) return kiln_add_reshape(call->graph, packed, 2, flat);
    kiln_value column = kiln_add_reshape(call->graph, packed, 2, wide);
    kiln_value low = kiln_onnx_with(call, KILN_OP_and, column, 15);
    kiln_value high = kiln_onnx_with(call, KILN_OP_shift_right_logical, column, 4);
    return kiln_add_reshape(call->graph, kiln_onnx_concat(call, 2, (kiln_value[]){low, high}, 1), 2,
                            flat);
}

static kiln_value import_matmul_bits(kiln_onnx_call *call)
{
    int64_t k = kiln_onnx_int(call, "K", 0), n = kiln_onnx_int(call, "N", 0),
            bits = kiln_onnx_int(call, "bits", 4);
    int64_t block = kiln_onnx_int(call, "block_size", 0), axes[2] = {0, 1}, order[2] = {1, 0};
    const kiln_type *packed = kiln_onnx_type(call, 1);
    kiln_onnx_ignore(call, "accuracy_level");
    if ((bits != 4 && bits != 8) || block < 16 || block > 1 << 20 || k < 1 || n < 1 ||
        k > KILN_MAX_DIM || n > KILN_MAX_DIM)
        kiln_onnx_refuse(call, "%" PRId64 " bits in blocks of %" PRId64, bits, block);
    int64_t blocks = kiln_ceil_div(k, block), wide[3] = {n, blocks, block}, grid[2] = {n, blocks};
    if (packed->dtype != KILN_u8 || packed->n_elements != n * blocks * (block * bits / 8) ||
        kiln_onnx_has(call, 4))
        kiln_onnx_refuse(call, "weights of %" PRId64 " bytes", packed->n_elements);
    kiln_value w =
        kiln_add_convert(call->graph, bits_unpack(call, call->inputs[1], bits, n), KILN_f32);
    w = kiln_add_reshape(call->graph, w, 3, wide);
    kiln_value scale = kiln_add_convert(
        call->graph, kiln_add_reshape(call->graph, kiln_onnx_operand(call, 2), 2, grid), KILN_f32);
    if (kiln_onnx_has(call, 3)) {
        if (kiln_onnx_type(call, 3)->dtype != KILN_u8)
            kiln_onnx_refuse(call, "zero points that are not packed");
        kiln_value zero = bits_unpack(call, call->inputs[3], bits, n);
        zero = kiln_onnx_slice(call, zero, 1, 0, blocks);
        zero = kiln_add_broadcast(call->graph, kiln_add_convert(call->graph, zero, KILN_f32), 3,
                                  wide, axes);
        w = kiln_add_binary(call->graph, KILN_OP_sub, w, zero);
    } else {
        w = kiln_onnx_with(call, KILN_OP_sub, w, bits == 4 ? 8 : 128);
    }
    w = kiln_add_binary(call->graph, KILN_OP_mul, w,
                        kiln_add_broadcast(call->graph, scale, 3, wide, axes));
    w = kiln_onnx_slice(call, kiln_add_reshape(call->graph, w, 2, (int64_t[]){n, blocks * block}),
                        1, 0, k);
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype;
    w = kiln_add_convert(call->graph, kiln_add_transpose(call->graph, w, order), dtype);
    kiln_value product = kiln_onnx_matmul(call, call->inputs[0], w, kiln_dtype_accumulator(dtype));
    return kiln_onnx_has(call, 5) ? add(call, product, call->inputs[5]) : product;
}

#define ROW(op, least, most, function)                                                             \
    {                                                                                              \
        op, 1, KILN_ONNX_NEWEST, least, most, function                                             \
    }

const kiln_onnx_row kiln_onnx_contrib_rows[] = {
    ROW("Gelu", 1, 1, import_gelu),
    ROW("BiasGelu", 2, 2, import_gelu),
    ROW("FastGelu", 1, 2, import_gelu),
    ROW("QuickGelu", 1, 1, import_quick_gelu),
    ROW("FusedMatMul", 2, 2, import_fused_matmul),
    ROW("FusedConv", 2, 4, import_fused_conv),
    ROW("FusedGemm", 2, 3, import_fused_gemm),
    ROW("Attention", 2, 6, import_attention),
    ROW("MultiHeadAttention", 3, 8, import_multi_head),
    ROW("GroupQueryAttention", 7, 12, kiln_onnx_import_group_query),
    ROW("RotaryEmbedding", 4, 4, kiln_onnx_import_rotary),
    ROW("NhwcConv", 2, 3, import_nhwc_conv),
    ROW("NhwcFusedConv", 2, 4, import_nhwc_conv),
    ROW("TransposeMatMul", 2, 2, import_fused_matmul),
    ROW("MatMulNBits", 3, 6, import_matmul_bits),
    {"SkipLayerNormalization", 1, KILN_ONNX_NEWEST, 3, 5, import_skip_norm, KILN_OP_layer_norm},
    {"SkipSimplifiedLayerNormalization", 1, KILN_ONNX_NEWEST, 3, 4, import_skip_norm,
     KILN_OP_rms_norm},
    {"SimplifiedLayerNormalization", 1, KILN_ONNX_NEWEST, 2, 2, import_simplified_norm,
     KILN_OP_rms_norm},
    {0},
};

/* ONNX Runtime puts this one in the default domain. */
const kiln_onnx_row kiln_onnx_contrib_default_rows[] = {
    {"SimplifiedLayerNormalization", 1, KILN_ONNX_NEWEST, 2, 2, import_simplified_norm,
     KILN_OP_rms_norm},
    {0},
};
