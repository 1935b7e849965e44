/* quantize: contractions of quantised numbers multiply bytes and sum in i32.
 *
 *     %3 = mul (f32 %a - %z), %s           %5: i32[…] = dot_general %a, %b {… wide = 1}
 *     %4 = mul (f32 %b), %t            =>  %6 = sub %5, (%z * sums of %b over k)
 *     %5 = dot_general %3, %4              %7 = mul (f32 %6), (%s * %t)
 *
 * The sums are exact, whereas f32 products of dequantised numbers are rounded after every addition:
 * of f32 contractions the rewrite is ROUND, and strict compiles keep them. Contractions in i32 of
 * q - zero (MatMulInteger, QLinearConv, …) give the same bits in the same way. Zero points of
 * constant weights are taken off when compiling; where x has one, padding is written out as that.
 * It comes before weights are folded, while their dequantisation can be seen. */
#include "passes/quantize.h"
#include "graph/element.h"

static const kiln_value none = {0, 0};

/* An operand of the contraction as bytes. */
typedef struct side {
    kiln_quantized quantized;
    kiln_value bytes; /* in the target */
    kiln_value zero;  /* in the target: i32[], or none */
    const kiln_type *type;
    bool is_constant;
    const void *dense; /* constant: its elements */
    kiln_dtype dtype;  /* of them */
} side;

typedef struct product {
    kiln_rewrite *rewrite;
    const kiln_node *node;
    const kiln_type *result; /* i32, in the target */
    bool is_dot;
    side a, b;
} product;

static bool is_all_zero(const double *numbers, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (numbers[i] != 0) return false;
    return true;
}

/* Drops a zero point that is known to be 0. */
static void drop_zero(product *p, side *s)
{
    double *numbers;
    int64_t n;
    if (!s->quantized.zero.from.id) return;
    if (kiln_spread_read(p->rewrite->pipeline->scope, p->rewrite->source, s->quantized.zero,
                         &numbers, &n) &&
        is_all_zero(numbers, n))
        s->quantized.zero.from = none;
}

static kiln_value add_bytes(kiln_graph *target, const kiln_type *like, kiln_dtype dtype,
                            const void *data)
{
    const kiln_type *type = kiln_graph_tensor(target, dtype, like->rank, like->dims);
    if (type->bytes <= KILN_LITERAL_BYTES_MAX) return kiln_add_constant(target, type, data);
    kiln_literal literal = {KILN_LITERAL_BLOB, data, type->bytes};
    return kiln_add_literal(target, type, &literal);
}

/* Elements of one index of an axis: [outer][dim][inner]. */
static int64_t axis_inner(const kiln_type *type, int64_t axis)
{
    int64_t inner = 1;
    for (uint32_t i = type->rank; i-- > (uint32_t)axis + 1;) inner *= type->dims[i];
    return inner;
}

/* Constant weights less their zero point, where bytes hold that. */
static bool centre_constant(product *p, side *s)
{
    kiln_spread zero = s->quantized.zero;
    kiln_graph *target = p->rewrite->target;
    double *numbers;
    int64_t n_numbers, n = s->type->n_elements, low = 0, high = 0;
    if (!kiln_spread_read(p->rewrite->pipeline->scope, p->rewrite->source, zero, &numbers,
                          &n_numbers))
        return false;
    int64_t inner = zero.axis < 0 ? 1 : axis_inner(s->type, zero.axis);
    uint8_t *out = kiln_arena_alloc(&target->arena, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        int64_t q =
            s->dtype == KILN_i8 ? ((const int8_t *)s->dense)[i] : ((const uint8_t *)s->dense)[i];
        q -= (int64_t)numbers[n_numbers == 1 ? 0 : i / inner % n_numbers];
        low = q < low ? q : low;
        high = q > high ? q : high;
        out[i] = (uint8_t)q;
    }
    if (high - low > 255 || (low < 0 && high > 127) || low < -128) return false;
    s->dtype = low < 0 ? KILN_i8 : KILN_u8;
    s->dense = out;
    s->bytes = add_bytes(target, s->type, s->dtype, out);
    s->quantized.zero.from = none;
    return true;
}

/* Bytes and zero point of an operand in the target; false where it cannot be had. */
static bool build_side(product *p, side *s, kiln_value value)
{
    kiln_rewrite *rewrite = p->rewrite;
    const kiln_graph *source = rewrite->source;
    s->type = kiln_graph_type(source, value);
    s->dtype = kiln_graph_type(source, s->quantized.q)->dtype;
    kiln_value base = kiln_view_base(source, s->quantized.q);
    s->is_constant = kiln_graph_node(source, base)->op == KILN_OP_constant;
    drop_zero(p, s);
    s->bytes = kiln_quantized_build(rewrite, &s->quantized);
    if (s->is_constant && s == &p->b) {
        uint8_t *dense = kiln_arena_alloc(&rewrite->target->arena, (size_t)s->type->n_elements);
        kiln_constant_read(rewrite->pipeline->scope, rewrite->target, s->bytes, dense);
        s->dense = dense;
        if (s->quantized.zero.from.id && centre_constant(p, s)) return true;
    }
    if (!s->quantized.zero.from.id) return true;
    if (s->quantized.zero.axis >= 0) return false;
    s->zero = kiln_spread_build(rewrite, s->quantized.zero, KILN_i32);
    return true;
}

/* The result's axis for axis `axis` of b's free ones, or -1. */
static int64_t result_axis(const product *p, int64_t axis)
{
    const kiln_attrs *attrs = p->node->attrs;
    if (!p->is_dot)
        return attrs->conv.kernel_axes.at[0] == axis ? attrs->conv.output_axes.at[1] : -1;
    kiln_matmul_roles roles;
    kiln_value value = {p->node->id, p->rewrite->source->id};
    kiln_dot_roles(&p->rewrite->pipeline->scope->arena, p->rewrite->source, value, &roles);
    for (uint32_t i = 0; i < roles.b_n.n; i++)
        if (roles.b_n.at[i] == axis) return roles.n.at[i];
    return -1;
}

/* Sums of constant weights for each index of `axis`, over the result. */
static kiln_value constant_sums(product *p, int64_t axis)
{
    const side *b = &p->b;
    kiln_graph *target = p->rewrite->target;
    int64_t dim = b->type->dims[axis], inner = axis_inner(b->type, axis);
    int32_t *sums = kiln_new_array(&target->arena, int32_t, dim);
    const uint8_t *bytes = b->dense;
    for (int64_t i = 0; i < b->type->n_elements; i++) {
        int32_t q = b->dtype == KILN_i8 ? (int8_t)bytes[i] : bytes[i];
        sums[i / inner % dim] += q;
    }
    const kiln_type *type = kiln_graph_tensor(target, KILN_i32, 1, &dim);
    kiln_literal literal = {KILN_LITERAL_BLOB, sums, type->bytes};
    kiln_value vector = type->bytes <= KILN_LITERAL_BYTES_MAX
                            ? kiln_add_constant(target, type, sums)
                            : kiln_add_literal(target, type, &literal);
    return kiln_spread_over(target, vector, result_axis(p, axis), p->result);
}

static bool contains(kiln_ints list, int64_t value)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (list.at[i] == value) return true;
    return false;
}

/* Sums of a product's operand over k, over the result; the zero value where its axes stand in
 * another order than the result's. */
static kiln_value dynamic_sums(product *p, const side *s)
{
    kiln_graph *target = p->rewrite->target;
    kiln_matmul_roles roles;
    kiln_value value = {p->node->id, p->rewrite->source->id};
    kiln_dot_roles(&p->rewrite->pipeline->scope->arena, p->rewrite->source, value, &roles);
    bool is_a = s == &p->a;
    kiln_ints batch = is_a ? roles.a_batch : roles.b_batch, sum = is_a ? roles.a_k : roles.b_k;
    int64_t axes[KILN_MAX_RANK], n_free = 0, last = -1;
    uint32_t n = 0;
    for (uint32_t axis = 0; axis < s->type->rank; axis++) {
        if (contains(sum, axis)) continue;
        int64_t at = is_a ? roles.m.n ? roles.m.at[0] : 0 : roles.n.n ? roles.n.at[0] : 0;
        at += n_free;
        n_free += !contains(batch, axis);
        for (uint32_t i = 0; i < batch.n; i++)
            if (batch.at[i] == axis) at = i;
        if (at <= last) return none;
        axes[n++] = last = at;
    }
    kiln_value wide = kiln_add_convert(target, s->bytes, KILN_i32);
    wide = kiln_add_reduce(target, KILN_OP_reduce_sum, wide, sum.n, sum.at);
    return kiln_add_broadcast(target, wide, p->result->rank, p->result->dims, axes);
}

/* The sums that x's zero point is multiplied by. */
static kiln_value weight_sums(product *p)
{
    const side *b = &p->b;
    int64_t axis = p->is_dot ? -1 : p->node->attrs->conv.kernel_axes.at[0];
    for (uint32_t i = 0; p->is_dot && i < b->type->rank; i++)
        if (!contains(p->node->attrs->dot.rhs_contract, i)) axis = axis == -1 ? (int64_t)i : -2;
    if (b->is_constant && axis >= 0) return constant_sums(p, axis);
    return p->is_dot ? dynamic_sums(p, b) : none;
}

static kiln_value zero_over(product *p, const side *s)
{
    return kiln_add_broadcast_to(p->rewrite->target, s->zero, p->result->rank, p->result->dims);
}

/* sum - za * sums of b - zb * sums of a + k * za * zb */
static kiln_value take_zeros(product *p, kiln_value sum)
{
    kiln_graph *target = p->rewrite->target;
    if (p->a.zero.id) {
        kiln_value sums = weight_sums(p);
        if (!sums.id) return none;
        sums = kiln_add_binary(target, KILN_OP_mul, sums, zero_over(p, &p->a));
        sum = kiln_add_binary(target, KILN_OP_sub, sum, sums);
    }
    if (!p->b.zero.id) return sum;
    kiln_value sums = p->is_dot ? dynamic_sums(p, &p->a) : none;
    if (!sums.id) return none;
    if (p->a.zero.id) {
        int64_t k = 1;
        for (uint32_t i = 0; i < p->node->attrs->dot.lhs_contract.n; i++)
            k *= p->a.type->dims[p->node->attrs->dot.lhs_contract.at[i]];
        kiln_value all = kiln_add_splat_like(target, sums, (double)(int32_t)k);
        all = kiln_add_binary(target, KILN_OP_mul, all, zero_over(p, &p->a));
        sums = kiln_add_binary(target, KILN_OP_sub, sums, all);
    }
    sums = kiln_add_binary(target, KILN_OP_mul, sums, zero_over(p, &p->b));
    return kiln_add_binary(target, KILN_OP_sub, sum, sums);
}

/* Taps in the padding are skipped, and stand for 0: written out, they are the zero point. */
static bool pad_with_zero(product *p, kiln_attrs *attrs)
{
    kiln_graph *target = p->rewrite->target;
    kiln_ints axes = attrs->conv.input_axes;
    int64_t low[KILN_MAX_RANK] = {0}, high[KILN_MAX_RANK] = {0}, interior[KILN_MAX_RANK] = {0};
    bool is_padded = false;
    for (uint32_t i = 0; i + 2 < axes.n; i++) {
        if (attrs->conv.lhs_dilation.at[i] != 1) return false;
        low[axes.at[i + 2]] = attrs->conv.low.at[i];
        high[axes.at[i + 2]] = attrs->conv.high.at[i];
        is_padded |= attrs->conv.low.at[i] > 0 || attrs->conv.high.at[i] > 0;
    }
    if (!is_padded) return true;
    kiln_attrs pad = {KILN_FAMILY_pad, .pad = {{axes.n, low}, {axes.n, high}, {axes.n, interior}}};
    kiln_value inputs[] = {p->a.bytes, kiln_add_convert(target, p->a.zero, p->a.dtype)};
    p->a.bytes = kiln_graph_add(
        target,
        &(kiln_node_spec){.op = KILN_OP_pad, .inputs = inputs, .n_inputs = 2, .attrs = &pad});
    int64_t *zeros = kiln_new_array(&p->rewrite->pipeline->scope->arena, int64_t, axes.n);
    attrs->conv.low = attrs->conv.high = (kiln_ints){axes.n - 2, zeros};
    return true;
}

/* The contraction in i32, or the zero value. */
static kiln_value build_product(product *p)
{
    kiln_rewrite *rewrite = p->rewrite;
    kiln_attrs attrs = *p->node->attrs;
    const kiln_type *type = p->node->type;
    p->result = kiln_graph_tensor(rewrite->target, KILN_i32, type->rank, type->dims);
    if (!build_side(p, &p->a, p->node->inputs[0]) || !build_side(p, &p->b, p->node->inputs[1]))
        return none;
    if (!p->is_dot && (p->b.zero.id || (p->a.zero.id && !p->b.is_constant))) return none;
    if (!p->is_dot && p->a.zero.id && !pad_with_zero(p, &attrs)) return none;
    *(p->is_dot ? &attrs.dot.accumulate : &attrs.conv.accumulate) = KILN_i32;
    *(p->is_dot ? &attrs.dot.wide : &attrs.conv.wide) = 1;
    kiln_value inputs[] = {p->a.bytes, p->b.bytes};
    return take_zeros(p, kiln_rewrite_with(rewrite, p->node, inputs, &attrs));
}

/* The scales of both operands, over the result. */
static kiln_value product_scale(product *p, const kiln_type *like)
{
    kiln_rewrite *rewrite = p->rewrite;
    kiln_spread a = p->a.quantized.scale, b = p->b.quantized.scale;
    int64_t axis = b.axis < 0 ? -1 : result_axis(p, b.axis);
    if (a.axis >= 0 || (b.axis >= 0 && axis < 0)) return none;
    kiln_value one = kiln_spread_build(rewrite, a, KILN_f32);
    kiln_value all = kiln_spread_build(rewrite, b, KILN_f32);
    const kiln_type *type = kiln_graph_type(rewrite->target, all);
    one = kiln_add_broadcast_to(rewrite->target, one, type->rank, type->dims);
    all = kiln_add_binary(rewrite->target, KILN_OP_mul, one, all);
    if (axis >= 0) return kiln_spread_over(rewrite->target, all, axis, like);
    return kiln_add_broadcast_to(rewrite->target, all, like->rank, like->dims);
}

static kiln_value visit_contraction(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_CONTRACT || node->type->n_elements == 0) return none;
    product p = {.rewrite = rewrite, .node = node, .is_dot = node->op == KILN_OP_dot_general};
    kiln_dtype sum = p.is_dot ? node->attrs->dot.accumulate : node->attrs->conv.accumulate;
    const kiln_type *a = kiln_graph_type(rewrite->source, node->inputs[0]);
    bool is_scaled = a->dtype == KILN_f32;
    if (node->type->dtype != a->dtype || sum != a->dtype || a->n_elements == 0) return none;
    if (is_scaled ? rewrite->pipeline->is_strict : a->dtype != KILN_i32) return none;
    if (!kiln_match_quantized(rewrite->source, node->inputs[0], is_scaled, &p.a.quantized) ||
        !kiln_match_quantized(rewrite->source, node->inputs[1], is_scaled, &p.b.quantized))
        return none;
    kiln_value scale = is_scaled ? product_scale(&p, node->type) : none;
    if (is_scaled && !scale.id) return none;
    kiln_value value = build_product(&p);
    if (!value.id || !is_scaled) return value;
    value = kiln_add_convert(rewrite->target, value, KILN_f32);
    return kiln_add_binary(rewrite->target, KILN_OP_mul, value, scale);
}

static bool has_bytes(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        bool is_convert = node->op == KILN_OP_convert && node->n_inputs == 1;
        if (!is_convert) continue;
        kiln_dtype from = kiln_graph_type(graph, node->inputs[0])->dtype;
        if (from == KILN_i8 || from == KILN_u8) return true;
    }
    return false;
}

kiln_graph *kiln_pass_quantize(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    if (!has_bytes(graph)) return kiln_rewrite_sweep(pipeline, graph, NULL, NULL, NULL);
    kiln_graph *result = kiln_rewrite_sweep(pipeline, graph, visit_contraction, NULL, NULL);
    return pipeline->is_strict ? result : kiln_requantize(pipeline, result);
}
