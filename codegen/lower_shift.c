/* What is known of maxima that shift exponentials, as in a softmax. Of x less the maximum of x:
 * that it is not above 0. Of a maximum that only shifts exponentials of which one takes shares: the
 * group's nodes -> whether NaNs and the signs of zeros may go unseen in it. Where an element is NaN
 * its exponential is, and with the sum every share; and what is shifted by a zero of either sign
 * has the same exponential. */
#include "codegen/lower_stage.h"

#include "kiln/program.h"

/* What a node of the group is to the maximum. */
typedef enum role { OTHER, SHIFT, SHIFTED, EXPONENTIAL, SUM } role;

typedef struct shift_walk {
    const kiln_lower *lower;
    const kiln_node *max;
    role *roles; /* by position in the group */
} shift_walk;

static bool is_same_list(kiln_ints a, kiln_ints b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n * sizeof *a.at) == 0);
}

static role role_of(const shift_walk *w, const kiln_node *node, uint32_t operand)
{
    if (operand >= node->n_inputs) return OTHER;
    uint32_t at = kiln_lower_position(w->lower, node->inputs[operand]);
    return at == KILN_NONE ? OTHER : w->roles[at];
}

/* Puts the axes of a reduction back, every other one where it was. */
static bool spreads_rows(const kiln_lower *lower, const kiln_node *reduction, const kiln_node *node)
{
    const kiln_type *full = kiln_graph_type(lower->graph, reduction->inputs[0]);
    kiln_ints reduced = reduction->attrs->axes.axes;
    if (node->op != KILN_OP_broadcast || node->type->rank != full->rank) return false;
    if (memcmp(node->type->dims, full->dims, full->rank * sizeof *full->dims) != 0) return false;
    kiln_ints axes = node->attrs->axes.axes;
    uint32_t n = 0;
    for (uint32_t i = 0; i < full->rank; i++) {
        bool is_reduced = false;
        for (uint32_t j = 0; j < reduced.n; j++) is_reduced |= reduced.at[j] == i;
        if (is_reduced) continue;
        if (n >= axes.n || axes.at[n++] != i) return false;
    }
    return n == axes.n && n + reduced.n == full->rank;
}

static bool is_sum_or_other(role a)
{
    return a == SUM || a == OTHER;
}

/* Sets the role of a node that uses one with a role; false where the maximum must be exact. */
static bool takes_part(const shift_walk *w, const kiln_node *node, role *out_role)
{
    role a = role_of(w, node, 0), b = role_of(w, node, 1), c = role_of(w, node, 2);
    bool is_sum = node->op == KILN_OP_reduce_sum &&
                  is_same_list(node->attrs->axes.axes, w->max->attrs->axes.axes);
    bool is_share = node->op == KILN_OP_mul || node->op == KILN_OP_div;
    *out_role = OTHER;
    if (c != OTHER) return false;
    if (node->op == KILN_OP_sub && b == SHIFT && node->inputs[0].id == w->max->inputs[0].id)
        *out_role = SHIFTED;
    else if (a == SHIFT && spreads_rows(w->lower, w->max, node))
        *out_role = SHIFT;
    else if (a == SHIFTED && node->op == KILN_OP_exp)
        *out_role = EXPONENTIAL;
    else if (a == EXPONENTIAL && is_sum)
        *out_role = SUM;
    else if ((a == SUM && spreads_rows(w->lower, w->max, node)) ||
             (b == SUM && node->op == KILN_OP_div && !a))
        *out_role = SUM;
    else
        return (is_share && a == EXPONENTIAL && b == SUM) ||
               (is_sum_or_other(a) && is_sum_or_other(b));
    return true;
}

bool kiln_lower_is_shifted(const kiln_lower *lower, kiln_value value)
{
    const kiln_node *node = kiln_graph_node(lower->graph, value);
    if (node->op != KILN_OP_sub) return false;
    const kiln_node *spread = kiln_graph_node(lower->graph, node->inputs[1]);
    if (spread->op != KILN_OP_broadcast) return false;
    const kiln_node *max = kiln_graph_node(lower->graph, spread->inputs[0]);
    return max->op == KILN_OP_reduce_max && max->inputs[0].id == node->inputs[0].id &&
           spreads_rows(lower, max, spread);
}

bool kiln_lower_is_shift(const kiln_lower *lower, kiln_value node)
{
    const kiln_group *group = lower->group;
    shift_walk w = {.lower = lower, .max = kiln_graph_node(lower->graph, node)};
    uint32_t own = kiln_lower_position(lower, node);
    if (w.max->op != KILN_OP_reduce_max || own == KILN_NONE) return false;
    w.roles = kiln_new_array(&lower->scope->arena, role, group->n_nodes);
    memset(w.roles, 0, group->n_nodes * sizeof *w.roles);
    w.roles[own] = SHIFT;
    bool has_sum = false;
    for (uint32_t i = own + 1; i < group->n_nodes; i++) {
        const kiln_node *user = kiln_graph_node(lower->graph, group->nodes[i]);
        bool is_user = false;
        for (uint32_t j = 0; j < user->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, user->inputs[j]);
            is_user |= at != KILN_NONE && w.roles[at] != OTHER;
        }
        if (is_user && !takes_part(&w, user, &w.roles[i])) return false;
        has_sum |= w.roles[i] == SUM;
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        uint32_t at = kiln_lower_position(lower, group->outputs[i].value);
        if (at != KILN_NONE && w.roles[at] != OTHER && w.roles[at] != SUM) return false;
    }
    return has_sum;
}
