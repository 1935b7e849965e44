/* simplify, arithmetic: neutral elements, constants to the second place, powers, conversions, and
 * elementwise work on repeated values done before they are repeated. */
#include <float.h>
#include <math.h>

#include "graph/element.h"
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

static bool is_splat_of(const kiln_rewrite *rewrite, const kiln_node *node, uint32_t operand,
                        double value)
{
    double found;
    const kiln_node *splat = kiln_operand_node(rewrite, node, operand);
    return kiln_match_splat(splat, &found) && found == value && signbit(found) == signbit(value);
}

static kiln_value binary(kiln_rewrite *rewrite, kiln_op op, kiln_value a, kiln_value b)
{
    return kiln_add_binary(rewrite->target, op, kiln_mapped(rewrite, a), kiln_mapped(rewrite, b));
}

/* op(constant, x) => op(x, constant) for commutative ops */
static kiln_value rule_constant_second(kiln_rewrite *rewrite, const kiln_node *node)
{
    switch (node->op) {
    case KILN_OP_add:
    case KILN_OP_mul:
    case KILN_OP_max:
    case KILN_OP_min:
    case KILN_OP_and:
    case KILN_OP_or:
    case KILN_OP_xor:
    case KILN_OP_eq:
    case KILN_OP_ne:
        break;
    default:
        return none;
    }
    if (!kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 0)) ||
        kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1))) {
        return none;
    }
    return binary(rewrite, (kiln_op)node->op, node->inputs[1], node->inputs[0]);
}

/* x + -0 => x: of the two zeros only -0 leaves -0 alone; integers have one */
static kiln_value rule_add_zero(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (!is_splat_of(rewrite, node, 1, kiln_node_is_float(node) ? -0.0 : 0.0)) return none;
    return kiln_mapped(rewrite, node->inputs[0]);
}

/* x - 0 => x; x - x => 0 for integers */
static kiln_value rule_sub_zero(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (is_splat_of(rewrite, node, 1, 0.0)) return kiln_mapped(rewrite, node->inputs[0]);
    if (node->inputs[0].id != node->inputs[1].id || kiln_node_is_float(node)) return none;
    return kiln_rewrite_splat(rewrite, node, 0);
}

/* x - constant => x + -constant for floats */
static kiln_value rule_sub_constant(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (!kiln_node_is_float(node) ||
        !kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1)) ||
        kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 0))) {
        return none;
    }
    kiln_value negative =
        kiln_add_unary(rewrite->target, KILN_OP_neg, kiln_mapped(rewrite, node->inputs[1]));
    return kiln_add_binary(rewrite->target, KILN_OP_add, kiln_mapped(rewrite, node->inputs[0]),
                           negative);
}

/* x * 1 => x, x / 1 => x, x ^ 1 => x */
static kiln_value rule_one(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op != KILN_OP_mul && node->op != KILN_OP_div && node->op != KILN_OP_pow) return none;
    return is_splat_of(rewrite, node, 1, 1.0) ? kiln_mapped(rewrite, node->inputs[0]) : none;
}

/* x * 0 => 0 for integers */
static kiln_value rule_mul_zero(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_is_float(node) || !is_splat_of(rewrite, node, 1, 0.0)) return none;
    return kiln_rewrite_splat(rewrite, node, 0);
}

/* x / 2^n => x * 2^-n: both round the same real number */
static kiln_value rule_div_power(kiln_rewrite *rewrite, const kiln_node *node)
{
    double divisor, inverse,
        least = node->type->dtype == KILN_f64   ? DBL_MIN
                : node->type->dtype == KILN_f16 ? 0x1p-14
                                                : (double)FLT_MIN;
    int exponent;
    if (!kiln_node_is_float(node) ||
        !kiln_match_splat(kiln_operand_node(rewrite, node, 1), &divisor)) {
        return none;
    }
    if (divisor == 0 || !isfinite(divisor) || fabs(frexp(divisor, &exponent)) != 0.5) return none;
    inverse = 1 / divisor;
    if (fabs(inverse) < least || fabs(divisor) < least) return none;
    kiln_value factor = kiln_rewrite_splat(rewrite, node, inverse);
    return kiln_add_binary(rewrite->target, KILN_OP_mul, kiln_mapped(rewrite, node->inputs[0]),
                           factor);
}

/* x ^ 2 => x * x, x ^ -1 => 1 / x, x ^ 1/2 => sqrt(x) for floats */
static kiln_value rule_pow_small(kiln_rewrite *rewrite, const kiln_node *node)
{
    double power;
    if (!kiln_node_is_float(node) || !kiln_match_splat(kiln_operand_node(rewrite, node, 1), &power))
        return none;
    kiln_value x = kiln_mapped(rewrite, node->inputs[0]);
    if (power == 2) return kiln_add_binary(rewrite->target, KILN_OP_mul, x, x);
    if (power == 0.5) return kiln_add_unary(rewrite->target, KILN_OP_sqrt, x);
    if (power != -1) return none;
    kiln_value one = kiln_rewrite_splat(rewrite, node, 1);
    return kiln_add_binary(rewrite->target, KILN_OP_div, one, x);
}

/* -(-x) => x */
static kiln_value rule_neg_neg(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_neg);
    return inner ? kiln_mapped(rewrite, inner->inputs[0]) : none;
}

/* |-x| => |x|, ||x|| => |x| */
static kiln_value rule_abs(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (inner->op == KILN_OP_abs) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_neg) return none;
    return kiln_add_unary(rewrite->target, KILN_OP_abs, kiln_mapped(rewrite, inner->inputs[0]));
}

/* x + -y => x - y, x - -y => x + y */
static kiln_value rule_add_neg(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op != KILN_OP_add && node->op != KILN_OP_sub) return none;
    const kiln_node *second = kiln_match(rewrite, node, 1, KILN_OP_neg);
    const kiln_node *first =
        node->op == KILN_OP_add ? kiln_match(rewrite, node, 0, KILN_OP_neg) : NULL;
    kiln_op op = node->op == KILN_OP_add ? KILN_OP_sub : KILN_OP_add;
    /* The negative of a constant is folded, not taken apart again. */
    if (second && !kiln_match_constant(rewrite, kiln_operand_node(rewrite, second, 0))) {
        return binary(rewrite, op, node->inputs[0], second->inputs[0]);
    }
    if (first && !kiln_match_constant(rewrite, kiln_operand_node(rewrite, first, 0)) &&
        !kiln_match_constant(rewrite, kiln_operand_node(rewrite, node, 1))) {
        return binary(rewrite, op, node->inputs[1], first->inputs[0]);
    }
    return none;
}

/* Conversions */

static int fraction_bits(kiln_dtype dtype)
{
    return dtype == KILN_f64 ? 53 : dtype == KILN_f32 ? 24 : dtype == KILN_f16 ? 11 : 8;
}

/* Whether every value of `from` is one of `to`. */
static bool is_lossless(kiln_dtype from, kiln_dtype to)
{
    kiln_dtype_kind a = kiln_dtype_kind_of(from), b = kiln_dtype_kind_of(to);
    size_t n = kiln_dtype_bytes(from), m = kiln_dtype_bytes(to);
    if (from == to || a == KILN_DTYPE_KIND_BOOL) return true;
    if (b == KILN_DTYPE_KIND_BOOL) return false;
    if (a == KILN_DTYPE_KIND_FLOAT) {
        return b == KILN_DTYPE_KIND_FLOAT && m > n && !(from == KILN_bf16 && to == KILN_f16);
    }
    if (b == KILN_DTYPE_KIND_FLOAT) {
        return (int)n * 8 - (a == KILN_DTYPE_KIND_INT) <= fraction_bits(to);
    }
    return a == b ? m >= n : a == KILN_DTYPE_KIND_UINT && m > n;
}

/* convert to the same dtype => x; convert(convert(x)) => convert(x) when the first loses nothing */
static kiln_value rule_convert(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (inner->type->dtype == node->type->dtype) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_convert) return none;
    if (!is_lossless(kiln_operand_node(rewrite, inner, 0)->type->dtype, inner->type->dtype))
        return none;
    return kiln_add_convert(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]),
                            node->type->dtype);
}

/* Broadcasts */

static bool same_ints(uint32_t n, const int64_t *x, const int64_t *y)
{
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] != y[i]) return false;
    }
    return true;
}

/* Whether two broadcasts repeat values of the same dims along the same axes. */
static bool is_alike(const kiln_rewrite *rewrite, const kiln_node *a, const kiln_node *b)
{
    const kiln_type *x = kiln_operand_node(rewrite, a, 0)->type,
                    *y = kiln_operand_node(rewrite, b, 0)->type;
    return x->rank == y->rank && same_ints(x->rank, x->dims, y->dims) &&
           same_ints(x->rank, a->attrs->axes.axes.at, b->attrs->axes.axes.at);
}

/* The first operand that is a broadcast; NULL when one is neither that, alike, nor a splat. */
static const kiln_node *common_broadcast(const kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *common = NULL;
    double unused;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *operand = kiln_operand_node(rewrite, node, i);
        if (kiln_match_splat(operand, &unused)) continue;
        if (operand->op != KILN_OP_broadcast) return NULL;
        const kiln_node *small = kiln_operand_node(rewrite, operand, 0);
        if (small->type->n_elements == operand->type->n_elements) return NULL;
        if (common && !is_alike(rewrite, common, operand)) return NULL;
        if (!common) common = operand;
    }
    return common;
}

/* The elementwise node over what its operands are views of, and over splats of those dims. */
static kiln_value add_over_views(kiln_rewrite *rewrite, const kiln_node *node,
                                 const kiln_type *small)
{
    kiln_value inputs[3];
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *operand = kiln_operand_node(rewrite, node, i);
        if (operand->op != KILN_OP_constant) {
            inputs[i] = kiln_mapped(rewrite, operand->inputs[0]);
            continue;
        }
        const kiln_type *type =
            kiln_graph_tensor(rewrite->target, operand->type->dtype, small->rank, small->dims);
        inputs[i] = kiln_add_literal(rewrite->target, type, kiln_match_literal(operand));
    }
    kiln_node_spec spec = {(kiln_op)node->op, NULL, inputs, node->n_inputs, node->attrs, NULL};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) {
        spec.given =
            kiln_graph_tensor(rewrite->target, node->type->dtype, small->rank, small->dims);
    }
    return kiln_graph_add(rewrite->target, &spec);
}

/* op(broadcast(x), broadcast(y), splat) => broadcast(op(x, y, splat)) */
static kiln_value rule_lift_broadcast(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_ELEMENTWISE) return none;
    const kiln_node *common = common_broadcast(rewrite, node);
    if (!common) return none;
    kiln_value value = add_over_views(rewrite, node, kiln_operand_node(rewrite, common, 0)->type);
    return kiln_add_broadcast(rewrite->target, value, node->type->rank, node->type->dims,
                              common->attrs->axes.axes.at);
}

/* The first operand that is a reshape; NULL when one is neither a reshape of the same dims nor a
 * splat. */
static const kiln_node *common_reshape(const kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *common = NULL;
    double unused;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_node *operand = kiln_operand_node(rewrite, node, i);
        if (kiln_match_splat(operand, &unused)) continue;
        if (operand->op != KILN_OP_reshape) return NULL;
        const kiln_type *from = kiln_operand_node(rewrite, operand, 0)->type;
        const kiln_type *first = common ? kiln_operand_node(rewrite, common, 0)->type : from;
        if (first->rank != from->rank || !same_ints(from->rank, first->dims, from->dims))
            return NULL;
        if (!common) common = operand;
    }
    return common;
}

/* op(reshape(x), reshape(y), splat) => reshape(op(x, y, splat)): views go to where they may meet
 * others */
static kiln_value rule_lift_reshape(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_ELEMENTWISE) return none;
    const kiln_node *common = common_reshape(rewrite, node);
    if (!common) return none;
    kiln_value value = add_over_views(rewrite, node, kiln_operand_node(rewrite, common, 0)->type);
    return kiln_add_reshape(rewrite->target, value, node->type->rank, node->type->dims);
}

const kiln_rule kiln_rules_arithmetic[] = {
    {"lift-broadcast", "op(broadcast(x), broadcast(y)) => broadcast(op(x, y))", KILN_GRADE_EXACT,
     KILN_OP_none, rule_lift_broadcast},
    {"lift-reshape", "op(reshape(x), reshape(y)) => reshape(op(x, y))", KILN_GRADE_EXACT,
     KILN_OP_none, rule_lift_reshape},
    {"constant-second", "op(constant, x) => op(x, constant)", KILN_GRADE_EXACT, KILN_OP_none,
     rule_constant_second},
    {"add-zero", "x + -0 => x", KILN_GRADE_EXACT, KILN_OP_add, rule_add_zero},
    {"sub-zero", "x - 0 => x, x - x => 0 for integers", KILN_GRADE_EXACT, KILN_OP_sub,
     rule_sub_zero},
    {"sub-constant", "x - constant => x + -constant", KILN_GRADE_EXACT, KILN_OP_sub,
     rule_sub_constant},
    {"one", "x * 1, x / 1, x ^ 1 => x", KILN_GRADE_EXACT, KILN_OP_none, rule_one},
    {"mul-zero", "x * 0 => 0 for integers", KILN_GRADE_EXACT, KILN_OP_mul, rule_mul_zero},
    {"div-power", "x / 2^n => x * 2^-n", KILN_GRADE_EXACT, KILN_OP_div, rule_div_power},
    {"pow-small", "x ^ 2 => x * x, x ^ -1 => 1 / x, x ^ 1/2 => sqrt(x)", KILN_GRADE_ROUND,
     KILN_OP_pow, rule_pow_small},
    {"neg-neg", "-(-x) => x", KILN_GRADE_EXACT, KILN_OP_neg, rule_neg_neg},
    {"abs", "|-x|, ||x|| => |x|", KILN_GRADE_EXACT, KILN_OP_abs, rule_abs},
    {"add-neg", "x + -y => x - y, x - -y => x + y", KILN_GRADE_EXACT, KILN_OP_none, rule_add_neg},
    {"convert", "convert(convert(x)) => convert(x) or x", KILN_GRADE_EXACT, KILN_OP_convert,
     rule_convert},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
