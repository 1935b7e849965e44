/* The driver of graph passes that rewrite nodes: one sweep over the live nodes of a source graph in
 * order of their ids builds the target graph. A visitor looks at a node of the *source*, whose
 * operands have already found their places in the target, and returns the target value that stands
 * for it, or the zero value to have the node copied. Patterns look deep into the source, where
 * every user is known; what they build is looked at by the next sweep. */
#ifndef KILN_PASSES_REWRITE_H
#define KILN_PASSES_REWRITE_H

#include "passes/pass.h"

typedef struct kiln_rewrite {
    kiln_pipeline *pipeline;
    const kiln_graph *source;
    kiln_graph *target;
    kiln_value *map;    /* by source id: the value in the target; zero where dead */
    uint32_t *n_users;  /* by source id: live operand uses, outputs and checks */
    uint32_t n_changed; /* nodes that the visitor replaced */
    void *user;
} kiln_rewrite;

/* For `node` of the source, whose type the result must have. */
typedef kiln_value kiln_visit_fn(kiln_rewrite *rewrite, const kiln_node *node);

/* One sweep. Inputs, outputs, checks, labels and origins come along. The count of replaced nodes is
 * written to `out_n_changed`, which may be NULL. */
kiln_graph *kiln_rewrite_sweep(kiln_pipeline *pipeline, const kiln_graph *source,
                               kiln_visit_fn *visit, void *user, uint32_t *out_n_changed);

/* Sweeps until nothing changes; INTERNAL when that takes more than 64. `where` names the pass. */
kiln_graph *kiln_rewrite_run(kiln_pipeline *pipeline, const kiln_graph *source,
                             kiln_visit_fn *visit, void *user, const char *where);

/* By id: whether an output or a check needs the node. In the scope's arena. */
bool *kiln_live_nodes(kiln_scope *scope, const kiln_graph *graph);

/* A rewrite rule. Laws: the type stays; never more work than before; one direction only. */
typedef enum kiln_grade {
    KILN_GRADE_EXACT, /* the same bits */
    KILN_GRADE_ROUND, /* the same function with other rounding; off under is_strict */
} kiln_grade;

typedef struct kiln_rule {
    const char *name;
    const char *pattern; /* in words: before => after */
    kiln_grade grade;
    kiln_op op; /* of the node at the root, or KILN_OP_none for a function that looks itself */
    kiln_visit_fn *apply;
} kiln_rule;

/* The rules of simplify by family; each ends with a NULL name. */
extern const kiln_rule kiln_rules_lift[], kiln_rules_arithmetic[], kiln_rules_logic[],
    kiln_rules_view[], kiln_rules_move[], kiln_rules_linear[];
extern const kiln_rule *const kiln_rule_families[]; /* all of them; ends with NULL */

/* Matching. Values and nodes are of the source; kiln_mapped gives the value in the
 * target. */

static inline kiln_value kiln_mapped(const kiln_rewrite *rewrite, kiln_value value)
{
    return rewrite->map[value.id];
}

static inline const kiln_node *kiln_operand_node(const kiln_rewrite *rewrite, const kiln_node *node,
                                                 uint32_t operand)
{
    return rewrite->source->nodes.at[node->inputs[operand].id];
}

/* The operand's node if it has that op, else NULL. */
const kiln_node *kiln_match(const kiln_rewrite *rewrite, const kiln_node *node, uint32_t operand,
                            kiln_op op);

/* The literal of a constant, else NULL. */
const kiln_literal *kiln_match_literal(const kiln_node *node);

/* Whether node is a splat constant; its element as a double. */
bool kiln_match_splat(const kiln_node *node, double *out_value);

/* A constant, or a broadcast of one. */
bool kiln_match_constant(const kiln_rewrite *rewrite, const kiln_node *node);

bool kiln_node_is_float(const kiln_node *node);
bool kiln_node_is_integer(const kiln_node *node);

/* A splat in the target of that node's type. */
kiln_value kiln_rewrite_splat(kiln_rewrite *rewrite, const kiln_node *like, double value);

/* The node again in the target, label and origin too, with other operands and, if not NULL, other
 * attributes. */
kiln_value kiln_rewrite_with(kiln_rewrite *rewrite, const kiln_node *node, const kiln_value *inputs,
                             const kiln_attrs *attrs);

/* The same type in the target. */
const kiln_type *kiln_rewrite_type(kiln_rewrite *rewrite, const kiln_type *type);
#endif
