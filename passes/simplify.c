/* simplify: the rules of rules_*.c, applied in sweeps until none fires. A node with no elements is
 * a constant; views and moves that do nothing vanish; constants stand second and are collected;
 * scales move into the weights of contractions.
 *
 *     %1: f32[2,3] = transpose %0 {permutation = [1, 0]}
 *     %2: f32[3,2] = transpose %1 {permutation = [1, 0]}      =>   (nothing: users read %0) */
#include "passes/rewrite.h"

const kiln_rule *const kiln_rule_families[] = {
    kiln_rules_lift,
    kiln_rules_view,
    kiln_rules_move,
    kiln_rules_arithmetic,
    kiln_rules_logic,
    kiln_rules_linear,
    NULL,
};

#define MAX_RULES 256
#define MAX_SWEEPS 64

/* How often each rule fired, in the order of the tables. */
typedef struct tally {
    uint32_t n[MAX_RULES];
    uint32_t n_changed; /* by the last sweep */
} tally;

static kiln_value apply_rules(kiln_rewrite *rewrite, const kiln_node *node)
{
    tally *counts = rewrite->user;
    uint32_t number = 0;
    if (node->n_inputs == 0) return (kiln_value){0, 0}; /* rules look at operands */
    for (const kiln_rule *const *family = kiln_rule_families; *family; family++) {
        for (const kiln_rule *rule = *family; rule->name; rule++, number++) {
            if (rule->op && rule->op != node->op) continue;
            if (rule->grade == KILN_GRADE_ROUND && rewrite->pipeline->is_strict) continue;
            kiln_value value = rule->apply(rewrite, node);
            if (!value.id) continue;
            counts->n[number % MAX_RULES]++;
            return value;
        }
    }
    return (kiln_value){0, 0};
}

static void log_rules(kiln_pipeline *pipeline, const tally *counts)
{
    uint32_t number = 0;
    for (const kiln_rule *const *family = kiln_rule_families; *family; family++) {
        for (const kiln_rule *rule = *family; rule->name; rule++, number++) {
            uint32_t n = counts->n[number % MAX_RULES];
            if (n) kiln_text_printf(pipeline->log, "simplify: rule %s, %u times\n", rule->name, n);
        }
    }
}

kiln_graph *kiln_pass_simplify(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    tally *counts = kiln_new(&pipeline->scope->arena, tally);
    kiln_graph *result =
        kiln_rewrite_sweep(pipeline, graph, apply_rules, counts, &counts->n_changed);
    uint32_t n_sweeps = 1;
    for (; counts->n_changed && n_sweeps < MAX_SWEEPS; n_sweeps++) {
        result = kiln_rewrite_sweep(pipeline, result, apply_rules, counts, &counts->n_changed);
    }
    if (!pipeline->log) return result;
    log_rules(pipeline, counts);
    /* The graph is right all the same, only not as simple as it could be. */
    if (counts->n_changed) {
        kiln_text_printf(pipeline->log, "simplify: still changing after %u sweeps\n", n_sweeps);
    }
    return result;
}
