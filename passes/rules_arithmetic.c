/* simplify, arithmetic: neutral elements, constants to the second place, powers, conversions. */
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

/* x / c => x * (1 / c) for a number |c| >= 1: one and a half units in the last place where a
 * division has half a unit, for a tenth of its time; the product cannot overflow */
static kiln_value rule_div_number(kiln_rewrite *rewrite, const kiln_node *node)
{
    double divisor;
    if (!kiln_node_is_float(node) ||
        !kiln_match_splat(kiln_operand_node(rewrite, node, 1), &divisor)) {
        return none;
    }
    if (!isfinite(divisor) || fabs(divisor) < 1 || fabs(divisor) > 0x1p13) return none;
    kiln_value factor = kiln_rewrite_splat(rewrite, node, 1 / divisor);
    return kiln_add_binary(rewrite->target, KILN_OP_mul, kiln_mapped(rewrite, node->inputs[0]),
                           factor);
}

/* x / broadcast(sqrt(y)) => x * broadcast(1 / sqrt(y)): one division a row. The inverse of a root
 * is finite, or infinite where the quotient is too. */
static kiln_value rule_div_root(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *repeat = kiln_match(rewrite, node, 1, KILN_OP_broadcast);
    const kiln_node *root = repeat ? kiln_match(rewrite, repeat, 0, KILN_OP_sqrt) : NULL;
    if (!root || root->type->n_elements > node->type->n_elements / 2) return none;
    kiln_value one = kiln_rewrite_splat(rewrite, root, 1);
    kiln_value inverse =
        kiln_add_binary(rewrite->target, KILN_OP_div, one, kiln_mapped(rewrite, repeat->inputs[0]));
    inverse = kiln_add_broadcast(rewrite->target, inverse, node->type->rank, node->type->dims,
                                 repeat->attrs->axes.axes.at);
    return kiln_add_binary(rewrite->target, KILN_OP_mul, kiln_mapped(rewrite, node->inputs[0]),
                           inverse);
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

/* |-x| => |x| (not where -x wraps and has no sign), ||x|| => |x| */
static kiln_value rule_abs(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (inner->op == KILN_OP_abs) return kiln_mapped(rewrite, node->inputs[0]);
    bool has_sign = kiln_dtype_kind_of(inner->type->dtype) != KILN_DTYPE_KIND_UINT;
    if (inner->op != KILN_OP_neg || !has_sign) return none;
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

/* Whether x as `through` becomes the same `to` as x itself: floats saturate where integers wrap. */
static bool is_direct(kiln_dtype from, kiln_dtype through, kiln_dtype to)
{
    if (!is_lossless(from, through)) return false;
    bool was_integer = kiln_dtype_in(from, KILN_TYPES_INTEGER);
    bool is_integer = kiln_dtype_in(to, KILN_TYPES_INTEGER);
    bool is_float = kiln_dtype_in(through, KILN_TYPES_FLOAT);
    return !was_integer || !is_integer || !is_float || is_lossless(from, to);
}

/* convert to the same dtype => x; convert(convert(x)) => convert(x) when the first loses nothing */
static kiln_value rule_convert(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_operand_node(rewrite, node, 0);
    if (inner->type->dtype == node->type->dtype) return kiln_mapped(rewrite, node->inputs[0]);
    if (inner->op != KILN_OP_convert) return none;
    kiln_dtype from = kiln_operand_node(rewrite, inner, 0)->type->dtype;
    if (!is_direct(from, inner->type->dtype, node->type->dtype)) return none;
    return kiln_add_convert(rewrite->target, kiln_mapped(rewrite, inner->inputs[0]),
                            node->type->dtype);
}

const kiln_rule kiln_rules_arithmetic[] = {
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
    {"div-number", "x / c => x * (1 / c) for numbers |c| >= 1", KILN_GRADE_ROUND, KILN_OP_div,
     rule_div_number},
    {"div-root", "x / broadcast(sqrt(y)) => x * broadcast(1 / sqrt(y))", KILN_GRADE_ROUND,
     KILN_OP_div, rule_div_root},
    {"pow-small", "x ^ 2 => x * x, x ^ -1 => 1 / x, x ^ 1/2 => sqrt(x)", KILN_GRADE_ROUND,
     KILN_OP_pow, rule_pow_small},
    {"neg-neg", "-(-x) => x", KILN_GRADE_EXACT, KILN_OP_neg, rule_neg_neg},
    {"abs", "|-x|, ||x|| => |x|; the first not unsigned", KILN_GRADE_EXACT, KILN_OP_abs, rule_abs},
    {"add-neg", "x + -y => x - y, x - -y => x + y", KILN_GRADE_EXACT, KILN_OP_none, rule_add_neg},
    {"convert", "convert(convert(x)) => convert(x) or x", KILN_GRADE_EXACT, KILN_OP_convert,
     rule_convert},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
