/* simplify, contractions: constant scales move into constant weights and constant offsets are
 * collected, so that a batch normalisation after a convolution costs nothing. All are ROUND.
 *
 *     %2 = convolution %x, %w {…}            %1 = mul %w, (%scale over out features)
 *     %3 = mul %2, (%scale over channels)    %2 = convolution %x, %1 {…}
 *     %4 = add %3, (%offset)             =>  %3 = add %2, (%offset) */
#include <float.h>
#include <math.h>
#include <string.h>

#include "graph/element.h"
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static bool is_contraction(const kiln_node *node)
{
    return kiln_node_row(node)->class_ == KILN_CONTRACT && kiln_node_is_float(node);
}

/* f32 and f64: the operands of a narrower product must not be rounded once more, since what they
 * lose does not shrink where its terms cancel. */
static bool is_wide(const kiln_node *node)
{
    return node->type->dtype == KILN_f32 || node->type->dtype == KILN_f64;
}

/* A contraction with constant weights and one user, or such a one plus a constant. */
static bool is_affine(const kiln_rewrite *rewrite, const kiln_node *node)
{
    if (rewrite->n_users[node->id] != 1) return false;
    if (node->op == KILN_OP_add &&
        kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1))) {
        node = kiln_operand_node(rewrite, node, 0);
        if (rewrite->n_users[node->id] != 1) return false;
    }
    return is_contraction(node) && kiln_match_literal(kiln_operand_node(rewrite, node, 1));
}

/* (y + c) * k => y * k + c * k, y a contraction with constant weights */
static kiln_value rule_scale_sum(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *sum = kiln_match(rewrite, node, 0, KILN_OP_add);
    if (!sum || !kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1))) return none;
    if (!kiln_match_constant(rewrite, kiln_operand_node(rewrite, sum, 1)) ||
        !is_affine(rewrite, sum))
        return none;
    kiln_graph *target = rewrite->target;
    kiln_value k = kiln_mapped(rewrite, node->inputs[1]);
    kiln_value y = kiln_add_binary(target, KILN_OP_mul, kiln_mapped(rewrite, sum->inputs[0]), k);
    kiln_value c = kiln_add_binary(target, KILN_OP_mul, kiln_mapped(rewrite, sum->inputs[1]), k);
    return kiln_add_binary(target, KILN_OP_add, y, c);
}

/* (y + c) + d => y + (c + d), y a contraction */
static kiln_value rule_sum_sum(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *sum = kiln_match(rewrite, node, 0, KILN_OP_add);
    if (!sum || !kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1))) return none;
    if (!kiln_match_constant(rewrite, kiln_operand_node(rewrite, sum, 1)) ||
        rewrite->n_users[sum->id] != 1) {
        return none;
    }
    if (!is_contraction(kiln_operand_node(rewrite, sum, 0))) return none;
    kiln_value offset =
        kiln_add_binary(rewrite->target, KILN_OP_add, kiln_mapped(rewrite, sum->inputs[1]),
                        kiln_mapped(rewrite, node->inputs[1]));
    return kiln_add_binary(rewrite->target, KILN_OP_add, kiln_mapped(rewrite, sum->inputs[0]),
                           offset);
}

/* The largest finite size of the elements; infinity where that is not known. */
static double literal_max(const kiln_node *node)
{
    const kiln_literal *literal = kiln_match_literal(node);
    size_t bytes = kiln_dtype_bytes(node->type->dtype);
    if (!literal || literal->kind == KILN_LITERAL_FILE) return (double)INFINITY;
    double largest = 0;
    if (node->type->dtype == KILN_f32 && literal->kind != KILN_LITERAL_SPLAT) {
        const char *at = literal->data;
        for (int64_t i = 0; i < literal->bytes; i += 4) {
            float value;
            memcpy(&value, at + i, sizeof value);
            largest = fmax(largest, (double)fabsf(value));
        }
        return largest;
    }
    for (int64_t i = 0; i < literal->bytes; i += (int64_t)bytes) {
        largest =
            fmax(largest,
                 fabs(kiln_element_to_double(node->type->dtype, (const char *)literal->data + i)));
    }
    return largest;
}

/* Scaled weights must not overflow where the scaled sum would not. */
static bool is_scale_safe(const kiln_node *weights, const kiln_node *scale)
{
    double top = weights->type->dtype == KILN_f64   ? DBL_MAX
                 : weights->type->dtype == KILN_f16 ? 65504.0
                                                    : (double)FLT_MAX;
    return literal_max(weights) * literal_max(scale) <= top;
}

/* The axis of the weights that is axis `axis` of the contraction's result, or -1. */
static int64_t weight_axis(const kiln_rewrite *rewrite, const kiln_node *node, int64_t axis)
{
    if (node->op == KILN_OP_convolution) {
        bool is_feature = axis == node->attrs->conv.output_axes.at[1];
        return is_feature ? node->attrs->conv.kernel_axes.at[0] : -1;
    }
    uint32_t used = 0, rank = kiln_operand_node(rewrite, node, 1)->type->rank;
    kiln_ints batch = node->attrs->dot.rhs_batch, sum = node->attrs->dot.rhs_contract;
    for (uint32_t i = 0; i < batch.n; i++) used |= 1u << batch.at[i];
    for (uint32_t i = 0; i < sum.n; i++) used |= 1u << sum.at[i];
    int64_t result = (int64_t)node->type->rank - (rank - batch.n - sum.n);
    for (uint32_t i = 0; i < rank; i++) {
        if (used >> i & 1) continue;
        if (result++ == axis) return i;
    }
    return -1;
}

/* The scale over the dims of the weights: a splat, or a vector along their axis of out features.
 * The zero value where it is neither, or where scaled weights could overflow. */
static kiln_value weight_scale(kiln_rewrite *rewrite, const kiln_node *inner,
                               const kiln_node *scale)
{
    const kiln_node *weights = kiln_operand_node(rewrite, inner, 1);
    kiln_graph *target = rewrite->target;
    double number;
    if (kiln_match_splat(scale, &number)) {
        if (!is_scale_safe(weights, scale)) return none;
        return kiln_add_literal(target, kiln_rewrite_type(rewrite, weights->type),
                                kiln_match_literal(scale));
    }
    if (scale->op != KILN_OP_broadcast || scale->attrs->axes.axes.n != 1) return none;
    const kiln_node *vector = kiln_operand_node(rewrite, scale, 0);
    int64_t axis = weight_axis(rewrite, inner, scale->attrs->axes.axes.at[0]);
    if (axis < 0 || !kiln_match_literal(vector) ||
        vector->type->dims[0] != weights->type->dims[axis] || !is_scale_safe(weights, vector)) {
        return none;
    }
    return kiln_add_broadcast(target, kiln_mapped(rewrite, scale->inputs[0]), weights->type->rank,
                              weights->type->dims, &axis);
}

/* contraction(x, w) * k => contraction(x, w * k), k per out feature or one number */
static kiln_value rule_scale_weights(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0),
                    *scale = kiln_operand_node(rewrite, node, 1);
    if (!is_wide(node) || !is_contraction(inner) || !is_affine(rewrite, inner)) return none;
    if (kiln_operand_node(rewrite, inner, 1)->type->dtype != node->type->dtype) return none;
    kiln_value factor = weight_scale(rewrite, inner, scale);
    if (!factor.id) return none;
    kiln_value weights = kiln_mapped(rewrite, inner->inputs[1]);
    kiln_value scaled = kiln_add_binary(rewrite->target, KILN_OP_mul, weights, factor);
    kiln_value inputs[] = {kiln_mapped(rewrite, inner->inputs[0]), scaled};
    return kiln_rewrite_with(rewrite, inner, inputs, NULL);
}

/* The other operand of a product with one number that nothing else reads, and that number. */
static const kiln_node *match_scaled(const kiln_rewrite *rewrite, const kiln_node *node,
                                     uint32_t number, double *out_scale)
{
    const kiln_node *scaled = kiln_match(rewrite, node, number, KILN_OP_mul);
    if (!scaled || rewrite->n_users[scaled->id] != 1) return NULL;
    return kiln_match_splat(kiln_operand_node(rewrite, scaled, 1), out_scale) ? scaled : NULL;
}

/* dot(a * s, b * t) => dot(a * (s t), b): one operand less to write, as attention scales queries
 * and keys. With |t| <= 1 nothing grows, so nothing overflows that did not. */
static kiln_value rule_scale_once(kiln_rewrite *rewrite, const kiln_node *node)
{
    double left, right;
    const kiln_node *a = match_scaled(rewrite, node, 0, &left),
                    *b = match_scaled(rewrite, node, 1, &right);
    if (!a || !b || !is_wide(a) || !(fabs(right) <= 1)) return none;
    kiln_value from = kiln_mapped(rewrite, a->inputs[0]);
    kiln_value scale = kiln_add_splat_like(rewrite->target, from, left * right);
    kiln_value inputs[] = {kiln_add_binary(rewrite->target, KILN_OP_mul, from, scale),
                           kiln_mapped(rewrite, b->inputs[0])};
    return kiln_rewrite_with(rewrite, node, inputs, NULL);
}

/* convolution(pad(x, 0)) over spatial axes => convolution(x) with that padding */
static kiln_value rule_conv_pad(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *pad = kiln_match(rewrite, node, 0, KILN_OP_pad);
    double value;
    if (!pad || !kiln_match_splat(kiln_operand_node(rewrite, pad, 1), &value) || value != 0)
        return none;
    kiln_ints axes = node->attrs->conv.input_axes;
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK];
    for (uint32_t i = 0; i < axes.n; i++) {
        int64_t axis = axes.at[i], below = pad->attrs->pad.low.at[axis],
                above = pad->attrs->pad.high.at[axis];
        bool is_spatial = i >= 2;
        if (below < 0 || above < 0 || pad->attrs->pad.interior.at[axis] != 0) return none;
        if (!is_spatial && (below || above)) return none;
        if (!is_spatial) continue;
        if (node->attrs->conv.lhs_dilation.at[i - 2] != 1) return none;
        low[i - 2] = node->attrs->conv.low.at[i - 2] + below;
        high[i - 2] = node->attrs->conv.high.at[i - 2] + above;
        if (node->attrs->conv.low.at[i - 2] < 0 || node->attrs->conv.high.at[i - 2] < 0)
            return none;
    }
    kiln_attrs attrs = *node->attrs;
    attrs.conv.low = (kiln_ints){axes.n - 2, low};
    attrs.conv.high = (kiln_ints){axes.n - 2, high};
    kiln_value inputs[] = {kiln_mapped(rewrite, pad->inputs[0]),
                           kiln_mapped(rewrite, node->inputs[1])};
    return kiln_rewrite_with(rewrite, node, inputs, &attrs);
}

const kiln_rule kiln_rules_linear[] = {
    {"scale-sum", "(contraction + c) * k => contraction * k + c * k", KILN_GRADE_ROUND, KILN_OP_mul,
     rule_scale_sum},
    {"sum-sum", "(contraction + c) + d => contraction + (c + d)", KILN_GRADE_ROUND, KILN_OP_add,
     rule_sum_sum},
    {"scale-weights", "contraction(x, w) * k => contraction(x, w * k)", KILN_GRADE_ROUND,
     KILN_OP_mul, rule_scale_weights},
    {"scale-once", "dot(a * s, b * t) => dot(a * (s t), b)", KILN_GRADE_ROUND, KILN_OP_dot_general,
     rule_scale_once},
    {"conv-pad", "convolution(pad(x, 0)) => convolution(x)", KILN_GRADE_ROUND, KILN_OP_convolution,
     rule_conv_pad},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
