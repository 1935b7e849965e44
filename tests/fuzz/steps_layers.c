/* Chains as models have them, which random nodes seldom form: convolutions over images with their
 * features last, one after the other; products with weights that are known, perhaps as codes and
 * scales. */
#include <string.h>

#include "fuzz/generate.h"

/* Small numbers, more often known than given. */
static kiln_value add_weights(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    if (fuzz_chance(g, 40)) return fuzz_small_input(g, dtype, rank, dims);
    const kiln_type *type = kiln_graph_tensor(g->batch.graph, dtype, rank, dims);
    void *data = op_values_new(&g->batch, type, OP_VALUES_SMALL);
    return kiln_add_constant(g->batch.graph, type, data);
}

/* Codes of a byte as numbers: (code - zero) * scale. */
static kiln_value widen_codes(fuzz_graph *g, kiln_value codes)
{
    kiln_graph *graph = g->batch.graph;
    kiln_value x = kiln_add_convert(graph, codes, KILN_f32);
    bool is_signed = fuzz_type(g, codes)->dtype == KILN_i8;
    double zero = is_signed ? 0 : 3;
    if (fuzz_chance(g, 60))
        x = kiln_add_binary(graph, KILN_OP_sub, x, kiln_add_splat_like(graph, x, zero));
    double scale = fuzz_chance(g, 50) ? 0.037 : 0.25;
    kiln_value in[] = {x, kiln_add_splat_like(graph, x, scale)};
    return fuzz_node(g, KILN_OP_mul, 2, in, NULL);
}

/* Numbers as codes of a byte and back. */
static kiln_value round_to_codes(fuzz_graph *g, kiln_value x)
{
    kiln_graph *graph = g->batch.graph;
    bool is_signed = fuzz_chance(g, 50);
    kiln_value scale = kiln_add_splat_like(graph, x, fuzz_chance(g, 50) ? 0.037 : 0.25);
    x = kiln_add_binary(graph, KILN_OP_div, x, scale);
    x = kiln_add_unary(graph, KILN_OP_round_even, x);
    if (!is_signed) x = kiln_add_binary(graph, KILN_OP_add, x, kiln_add_splat_like(graph, x, 3));
    kiln_value in[] = {kiln_add_splat_like(graph, x, is_signed ? -128 : 0), x,
                       kiln_add_splat_like(graph, x, is_signed ? 127 : 255)};
    x = fuzz_node(g, KILN_OP_clamp, 3, in, NULL);
    return widen_codes(g, kiln_add_convert(graph, x, is_signed ? KILN_i8 : KILN_u8));
}

/* What a chain starts from: small numbers, or codes that are widened. */
static kiln_value add_start(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    if (dtype != KILN_f32 || fuzz_chance(g, 75)) return fuzz_small_input(g, dtype, rank, dims);
    kiln_dtype code = fuzz_chance(g, 50) ? KILN_i8 : KILN_u8;
    return widen_codes(g, fuzz_small_input(g, code, rank, dims));
}

/* Small numbers, or codes that are widened by a scale, each of them perhaps known. */
static kiln_value add_kernel(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    if (dtype != KILN_f32 || fuzz_chance(g, 70)) return add_weights(g, dtype, rank, dims);
    return widen_codes(g, add_weights(g, KILN_i8, rank, dims));
}

/* As a compile in bf16 rounds them: whether the result stays f32. */
static int64_t round_operands(fuzz_graph *g, kiln_value in[2])
{
    bool is_rounded = g->is_rounded && fuzz_type(g, in[0])->dtype == KILN_f32;
    for (uint32_t i = 0; is_rounded && i < 2; i++)
        in[i] = kiln_add_convert(g->batch.graph, in[i], KILN_bf16);
    return is_rounded;
}

/* A bias along the last axis, a function, the value `before`: each now and then. */
static kiln_value add_epilogue(fuzz_graph *g, kiln_value x, kiln_value before)
{
    kiln_graph *graph = g->batch.graph;
    const kiln_type *type = fuzz_type(g, x);
    if (fuzz_chance(g, 50)) {
        kiln_value bias = add_weights(g, type->dtype, 1, &type->dims[type->rank - 1]);
        kiln_value in[] = {x, kiln_add_broadcast_to(graph, bias, type->rank, type->dims)};
        x = fuzz_node(g, fuzz_chance(g, 80) ? KILN_OP_add : KILN_OP_mul, 2, in, NULL);
    }
    if (fuzz_chance(g, 25) && before.id && fuzz_type(g, before) == type)
        x = fuzz_node(g, KILN_OP_add, 2, (kiln_value[]){x, before}, NULL);
    if (fuzz_chance(g, 30)) {
        kiln_op op = fuzz_pick_op(g, KILN_COMPOSITE, 1, type->dtype);
        if (op == KILN_OP_none || fuzz_chance(g, 50)) op = KILN_OP_logistic;
        kiln_value y = fuzz_node(g, op, 1, &x, NULL);
        if (fuzz_type(g, y) == type) x = y;
    } else if (fuzz_chance(g, 60)) {
        kiln_value in[] = {x, kiln_add_splat_like(graph, x, 0)};
        x = fuzz_node(g, KILN_OP_max, 2, in, NULL);
    }
    return type->dtype == KILN_f32 && fuzz_chance(g, 12) ? round_to_codes(g, x) : x;
}

/* One convolution: over all features, over each by itself, or of single pixels. */
static kiln_value add_conv_layer(fuzz_graph *g, kiln_value x)
{
    static const int64_t layout[] = {0, 3, 1, 2}, usual[] = {3, 2, 0, 1}, other[] = {0, 1, 2, 3};
    static const int64_t widths[] = {1, 3, 8, 16, 17, 24, 33};
    const kiln_type *type = fuzz_type(g, x);
    const int64_t *kernel_axes = fuzz_chance(g, 60) ? usual : other;
    int64_t features = type->dims[3], groups = 1, dims[4], n[2];
    int64_t strides[2], low[2], high[2], ones[] = {1, 1}, dilation[2];
    int64_t most = fuzz_chance(g, 40) ? 1 : 2 + (int64_t)fuzz_below(g, 3);
    int64_t results = widths[fuzz_below(g, sizeof widths / sizeof *widths)];
    if (most > 1 && fuzz_chance(g, 50)) groups = results = features;
    bool is_plain = fuzz_chance(g, 70);
    for (uint32_t i = 0; i < 2; i++) {
        int64_t size = is_plain ? most : 1 + (int64_t)fuzz_below(g, (uint64_t)most);
        strides[i] = fuzz_chance(g, 75) ? 1 : 2;
        dilation[i] = is_plain || fuzz_chance(g, 80) ? 1 : 2;
        int64_t reach = (size - 1) * dilation[i];
        low[i] = is_plain ? reach / 2 : (int64_t)fuzz_below(g, (uint64_t)reach + 1);
        high[i] = is_plain ? reach - reach / 2 : (int64_t)fuzz_below(g, (uint64_t)reach + 1);
        n[i] = size;
        if (type->dims[i + 1] + low[i] + high[i] <= reach) return (kiln_value){0};
    }
    if (type->n_elements * results / groups * n[0] * n[1] > g->max_work) return (kiln_value){0};
    dims[kernel_axes[0]] = results;
    dims[kernel_axes[1]] = features / groups;
    dims[kernel_axes[2]] = n[0];
    dims[kernel_axes[3]] = n[1];
    kiln_attrs attrs = {KILN_FAMILY_conv, .conv = {{2, strides},
                                                   {2, low},
                                                   {2, high},
                                                   {2, ones},
                                                   {2, dilation},
                                                   groups,
                                                   {4, layout},
                                                   {4, kernel_axes},
                                                   {4, layout},
                                                   kiln_dtype_accumulator(type->dtype)}};
    kiln_value in[] = {x, add_kernel(g, type->dtype, 4, dims)};
    attrs.conv.wide = round_operands(g, in);
    return add_epilogue(g, fuzz_node(g, KILN_OP_convolution, 2, in, &attrs), x);
}

static kiln_value add_pool_layer(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    int64_t sizes[] = {1, 1, 1, 1}, strides[] = {1, 1, 1, 1}, low[4] = {0}, high[4] = {0};
    int64_t dilations[] = {1, 1, 1, 1};
    for (uint32_t i = 1; i < 3; i++) {
        sizes[i] = 1 + (int64_t)fuzz_below(g, 4);
        strides[i] = 1 + (int64_t)fuzz_below(g, 3);
        low[i] = (int64_t)fuzz_below(g, (uint64_t)sizes[i]);
        high[i] = (int64_t)fuzz_below(g, (uint64_t)sizes[i]);
        if (type->dims[i] + low[i] + high[i] < sizes[i]) return (kiln_value){0};
    }
    kiln_attrs attrs = {KILN_FAMILY_window,
                        .window = {{4, sizes}, {4, strides}, {4, low}, {4, high}, {4, dilations}}};
    kiln_op op = fuzz_chance(g, 60) ? KILN_OP_window_max : KILN_OP_window_sum;
    return fuzz_node(g, op, 1, &x, &attrs);
}

/* Layers over an image; one may be read again, and what comes last may be reduced to its features.
 */
bool fuzz_step_image(fuzz_graph *g)
{
    static const kiln_dtype dtypes[] = {KILN_f32, KILN_f32, KILN_f32, KILN_f32,
                                        KILN_f32, KILN_f64, KILN_f16, KILN_bf16};
    int64_t dims[4] = {1 + fuzz_chance(g, 25)}, axes[] = {1, 2};
    static const int64_t features[] = {1, 3, 4, 8, 16, 19, 32};
    for (uint32_t i = 1; i < 3; i++) dims[i] = 1 + (int64_t)fuzz_below(g, g->is_large ? 60 : 24);
    dims[3] = features[fuzz_below(g, sizeof features / sizeof *features)];
    kiln_value x = add_start(g, dtypes[fuzz_below(g, 8)], 4, dims);
    uint32_t n = g->is_large ? 1 : 2 + (uint32_t)fuzz_below(g, 4);
    for (uint32_t i = 0; i < n; i++) {
        kiln_value next = fuzz_chance(g, 80) ? add_conv_layer(g, x) : add_pool_layer(g, x);
        if (next.id) x = next;
    }
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{2, axes}}};
    if (fuzz_chance(g, 15)) fuzz_node(g, KILN_OP_reduce_sum, 1, &x, &attrs);
    return true;
}

/* Weights of k by n: plain, or codes with a scale, perhaps a zero point, for each block of k. */
static kiln_value add_matrix(fuzz_graph *g, kiln_dtype dtype, int64_t k, int64_t n)
{
    static const kiln_dtype codes[] = {KILN_i8, KILN_u8, KILN_i8, KILN_u8, KILN_i4, KILN_u4};
    kiln_graph *graph = g->batch.graph;
    int64_t dims[] = {k, n}, block = k, parts[3], scales[3];
    if (fuzz_chance(g, 50)) return add_kernel(g, dtype, 2, dims);
    if (k % 16 == 0 && fuzz_chance(g, 60)) block = k % 32 == 0 && fuzz_chance(g, 60) ? 32 : 16;
    kiln_dtype code = codes[fuzz_below(g, sizeof codes / sizeof *codes)];
    memcpy(parts, (int64_t[]){k / block, block, n}, sizeof parts);
    memcpy(scales, (int64_t[]){k / block, 1, fuzz_chance(g, 75) ? n : 1}, sizeof scales);
    kiln_value x = kiln_add_reshape(graph, add_weights(g, code, 2, dims), 3, parts);
    x = kiln_add_convert(graph, x, dtype);
    if (fuzz_chance(g, 40)) {
        kiln_value zero = kiln_add_convert(graph, add_weights(g, code, 3, scales), dtype);
        x = kiln_add_binary(graph, KILN_OP_sub, x, kiln_add_broadcast_to(graph, zero, 3, parts));
    }
    kiln_value scale = kiln_add_broadcast_to(graph, add_weights(g, dtype, 3, scales), 3, parts);
    return kiln_add_reshape(graph, kiln_add_binary(graph, KILN_OP_mul, x, scale), 2, dims);
}

/* Of rows and their length in large graphs: one at least. */
static int64_t pick_length(fuzz_graph *g)
{
    int64_t size = fuzz_size(g);
    return size ? size : 1;
}

static int64_t pick_width(fuzz_graph *g)
{
    static const int64_t widths[] = {1, 5, 16, 17, 32, 48, 64, 96, 130, 256};
    if (g->is_large && fuzz_chance(g, 70)) return pick_length(g);
    return widths[fuzz_below(g, sizeof widths / sizeof *widths)];
}

static kiln_value add_product(fuzz_graph *g, kiln_value x, int64_t width)
{
    static const int64_t left[] = {1}, right[] = {0};
    const kiln_type *type = fuzz_type(g, x);
    kiln_attrs attrs = {KILN_FAMILY_dot};
    attrs.dot.lhs_contract = (kiln_ints){1, left};
    attrs.dot.rhs_contract = (kiln_ints){1, right};
    attrs.dot.accumulate = kiln_dtype_accumulator(type->dtype);
    kiln_value in[] = {x, add_matrix(g, type->dtype, type->dims[1], width)};
    attrs.dot.wide = round_operands(g, in);
    return fuzz_node(g, KILN_OP_dot_general, 2, in, &attrs);
}

/* Rows through layers of weights, now and then gathered first or normed between them. */
bool fuzz_step_layers(fuzz_graph *g)
{
    static const kiln_dtype dtypes[] = {KILN_f32, KILN_f32,  KILN_f32, KILN_f32,
                                        KILN_f32, KILN_bf16, KILN_f16, KILN_f64};
    kiln_dtype dtype = dtypes[fuzz_below(g, 8)];
    int64_t rows = fuzz_chance(g, 30) ? 1 : 1 + (int64_t)fuzz_below(g, 40);
    if (g->is_large && fuzz_chance(g, 70)) rows = pick_length(g);
    int64_t dims[] = {rows, pick_width(g)}, indices = 1 + (int64_t)fuzz_below(g, 20);
    bool is_deep = rows == 1 && fuzz_chance(g, 25); /* sums of more than one chunk */
    if (is_deep) dims[1] = 4100;
    kiln_value x = add_start(g, dtype, 2, dims), before = {0};
    if (fuzz_chance(g, 25)) {
        kiln_value in[] = {x, fuzz_input(g, KILN_i32, 1, &indices)};
        kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
        x = fuzz_node(g, KILN_OP_take, 2, in, &attrs);
    }
    uint32_t n = g->is_large ? 1 : 1 + (uint32_t)fuzz_below(g, 3);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *type = fuzz_type(g, x);
        int64_t width =
            before.id && fuzz_chance(g, 40) ? fuzz_type(g, before)->dims[1] : pick_width(g);
        if (is_deep && i == 0) width = 14;
        if (type->n_elements * width > g->max_work) break;
        kiln_value next = add_product(g, x, width);
        kiln_value kept = x;
        x = add_epilogue(g, next, before);
        before = kept;
        if (!fuzz_chance(g, 30)) continue;
        kiln_attrs along = {KILN_FAMILY_axis, .axis = {1}};
        x = fuzz_node(g, KILN_OP_softmax, 1, &x, &along);
    }
    return true;
}
