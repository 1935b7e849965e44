/* simplify, choices and bits: select, clamp, max and min, and, or, xor, not, shifts. */
#include <math.h>

#include "graph/element.h"
#include "passes/rewrite.h"

static const kiln_value none = {0, 0};

/* not(not(x)) => x */
static kiln_value rule_not_not(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *inner = kiln_match(rewrite, node, 0, KILN_OP_not);
    return inner ? kiln_mapped(rewrite, inner->inputs[0]) : none;
}

/* and, or, max, min of x with itself => x; xor => 0 */
static kiln_value rule_self(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->n_inputs != 2 || node->inputs[0].id != node->inputs[1].id) return none;
    switch (node->op) {
    case KILN_OP_and:
    case KILN_OP_or:
    case KILN_OP_max:
    case KILN_OP_min:
        return kiln_mapped(rewrite, node->inputs[0]);
    case KILN_OP_xor:
        return kiln_rewrite_splat(rewrite, node, 0);
    default:
        return none;
    }
}

/* All bits of the splat are 0, or all are 1 (bool: true). */
static bool is_bits(const kiln_node *node, bool ones)
{
    const kiln_literal *literal = kiln_match_literal(node);
    if (!literal || literal->kind != KILN_LITERAL_SPLAT) return false;
    const uint8_t *bytes = literal->data;
    for (int64_t i = 0; i < literal->bytes; i++) {
        if (node->type->dtype == KILN_bool ? (bytes[i] != 0) != ones
                                           : bytes[i] != (ones ? 0xff : 0)) {
            return false;
        }
    }
    return true;
}

/* x & 1…, x | 0, x ^ 0, x << 0, x >> 0 => x; x & 0 => 0; x | 1… => 1… */
static kiln_value rule_bits(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->n_inputs != 2) return none;
    const kiln_node *second = kiln_operand_node(rewrite, node, 1);
    bool zeros = is_bits(second, false), ones = is_bits(second, true);
    switch (node->op) {
    case KILN_OP_and:
        return ones    ? kiln_mapped(rewrite, node->inputs[0])
               : zeros ? kiln_mapped(rewrite, node->inputs[1])
                       : none;
    case KILN_OP_or:
        return zeros  ? kiln_mapped(rewrite, node->inputs[0])
               : ones ? kiln_mapped(rewrite, node->inputs[1])
                      : none;
    case KILN_OP_xor:
    case KILN_OP_shift_left:
    case KILN_OP_shift_right_logical:
    case KILN_OP_shift_right_arithmetic:
        return zeros ? kiln_mapped(rewrite, node->inputs[0]) : none;
    default:
        return none;
    }
}

static bool is_infinite(const kiln_node *node, double sign)
{
    double value;
    return kiln_node_is_float(node) && kiln_match_splat(node, &value) &&
           value == sign * (double)INFINITY;
}

/* max(x, -inf) => x, min(x, inf) => x; max(max(x, c), c) => max(x, c), so for min */
static kiln_value rule_extreme(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op != KILN_OP_max && node->op != KILN_OP_min) return none;
    double neutral = node->op == KILN_OP_max ? -1.0 : 1.0;
    if (is_infinite(kiln_operand_node(rewrite, node, 1), neutral))
        return kiln_mapped(rewrite, node->inputs[0]);
    const kiln_node *inner = kiln_match(rewrite, node, 0, (kiln_op)node->op);
    if (!inner) return none;
    bool is_again =
        inner->inputs[0].id == node->inputs[1].id || inner->inputs[1].id == node->inputs[1].id;
    return is_again ? kiln_mapped(rewrite, node->inputs[0]) : none;
}

/* clamp(-inf, x, inf) => x; one open side => max or min */
static kiln_value rule_clamp(kiln_rewrite *rewrite, const kiln_node *node)
{
    bool is_open_below = is_infinite(kiln_operand_node(rewrite, node, 0), -1);
    bool is_open_above = is_infinite(kiln_operand_node(rewrite, node, 2), 1);
    kiln_value x = kiln_mapped(rewrite, node->inputs[1]);
    if (is_open_below && is_open_above) return x;
    if (is_open_below)
        return kiln_add_binary(rewrite->target, KILN_OP_min, x,
                               kiln_mapped(rewrite, node->inputs[2]));
    if (is_open_above)
        return kiln_add_binary(rewrite->target, KILN_OP_max, x,
                               kiln_mapped(rewrite, node->inputs[0]));
    return none;
}

/* select(constant, a, b) => a or b; select(c, a, a) => a; select(not c, a, b) => select(c, b, a) */
static kiln_value rule_select(kiln_rewrite *rewrite, const kiln_node *node)
{
    const kiln_node *condition = kiln_operand_node(rewrite, node, 0);
    if (is_bits(condition, true)) return kiln_mapped(rewrite, node->inputs[1]);
    if (is_bits(condition, false)) return kiln_mapped(rewrite, node->inputs[2]);
    if (node->inputs[1].id == node->inputs[2].id) return kiln_mapped(rewrite, node->inputs[1]);
    if (condition->op != KILN_OP_not) return none;
    kiln_value inputs[] = {kiln_mapped(rewrite, condition->inputs[0]),
                           kiln_mapped(rewrite, node->inputs[2]),
                           kiln_mapped(rewrite, node->inputs[1])};
    return kiln_rewrite_with(rewrite, node, inputs, NULL);
}

const kiln_rule kiln_rules_logic[] = {
    {"not-not", "not(not(x)) => x", KILN_GRADE_EXACT, KILN_OP_not, rule_not_not},
    {"self", "and, or, max, min of x and x => x; xor => 0", KILN_GRADE_EXACT, KILN_OP_none,
     rule_self},
    {"bits", "x & ones, x | 0, x ^ 0, shifts by 0 => x; x & 0 => 0", KILN_GRADE_EXACT, KILN_OP_none,
     rule_bits},
    {"extreme", "max(x, -inf) => x, max(max(x, c), c) => max(x, c); so for min", KILN_GRADE_EXACT,
     KILN_OP_none, rule_extreme},
    {"clamp", "clamp(-inf, x, inf) => x, one open side => max or min", KILN_GRADE_EXACT,
     KILN_OP_clamp, rule_clamp},
    {"select", "select(constant or not c or twice the same)", KILN_GRADE_EXACT, KILN_OP_select,
     rule_select},
    {NULL, NULL, KILN_GRADE_EXACT, KILN_OP_none, NULL},
};
