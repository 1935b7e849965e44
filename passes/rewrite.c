/* The sweep from a source graph to a target graph, and what patterns are matched with. */
#include "passes/rewrite.h"

#include <string.h>

#include "graph/element.h"

#define MAX_SWEEPS 64

/* Counts uses by live nodes; users have larger ids, so one pass downwards settles who lives. */
static void count_users(kiln_rewrite *rewrite)
{
    const kiln_graph *source = rewrite->source;
    uint32_t *n_users = rewrite->n_users;
    for (uint32_t i = 0; i < source->outputs.n; i++) n_users[source->outputs.at[i].value.id]++;
    for (uint32_t i = 0; i < source->checks.n; i++) n_users[source->checks.at[i].value.id]++;
    for (uint32_t id = source->nodes.n; id-- > 1;) {
        const kiln_node *node = source->nodes.at[id];
        for (uint32_t i = 0; n_users[id] && i < node->n_inputs; i++) n_users[node->inputs[i].id]++;
    }
}

bool *kiln_live_nodes(kiln_scope *scope, const kiln_graph *source)
{
    bool *is_live = kiln_new_array(&scope->arena, bool, source->nodes.n);
    for (uint32_t i = 0; i < source->outputs.n; i++) is_live[source->outputs.at[i].value.id] = true;
    for (uint32_t i = 0; i < source->checks.n; i++) is_live[source->checks.at[i].value.id] = true;
    for (uint32_t id = source->nodes.n; id-- > 1;) {
        const kiln_node *node = source->nodes.at[id];
        for (uint32_t i = 0; is_live[id] && i < node->n_inputs; i++)
            is_live[node->inputs[i].id] = true;
    }
    return is_live;
}

/* The label of the node that was replaced goes to what stands for it, unless that has one. */
static void keep_label(kiln_graph *target, kiln_value value, const char *label)
{
    kiln_node *node = target->nodes.at[value.id];
    if (label && !node->label) node->label = kiln_arena_string(&target->arena, label);
}

static kiln_value place_node(kiln_rewrite *rewrite, const kiln_node *node, kiln_visit_fn *visit)
{
    kiln_graph *target = rewrite->target;
    target->current_origin = rewrite->source->origins.at[node->id];
    kiln_value value = visit ? visit(rewrite, node) : (kiln_value){0, 0};
    if (!value.id) {
        target->current_origin = 0;
        return kiln_graph_copy(target, rewrite->source, node, rewrite->map);
    }
    const kiln_type *type = kiln_rewrite_type(rewrite, node->type);
    if (kiln_graph_type(target, value) != type) {
        kiln_fail(target->scope, KILN_INTERNAL, "rewrite: %s became %s",
                  kiln_node_string(&target->scope->arena, rewrite->source,
                                   (kiln_value){node->id, rewrite->source->id}),
                  kiln_node_string(&target->scope->arena, target, value));
    }
    keep_label(target, value, node->label);
    target->current_origin = 0;
    rewrite->n_changed++;
    return value;
}

kiln_graph *kiln_rewrite_sweep(kiln_pipeline *pipeline, const kiln_graph *source,
                               kiln_visit_fn *visit, void *user, uint32_t *out_n_changed)
{
    kiln_arena *arena = &pipeline->scope->arena;
    kiln_rewrite rewrite = {pipeline, source};
    rewrite.target = kiln_graph_open(pipeline->scope, source->context, source->name);
    rewrite.map = kiln_new_array(arena, kiln_value, source->nodes.n);
    rewrite.n_users = kiln_new_array(arena, uint32_t, source->nodes.n);
    rewrite.user = user;
    count_users(&rewrite);
    for (uint32_t i = 0; i < source->inputs.n; i++) {
        uint32_t id = source->inputs.at[i].id;
        rewrite.map[id] =
            kiln_graph_copy(rewrite.target, source, source->nodes.at[id], rewrite.map);
    }
    for (uint32_t id = 1; id < source->nodes.n; id++) {
        if (!rewrite.n_users[id] || rewrite.map[id].id) continue;
        rewrite.map[id] = place_node(&rewrite, source->nodes.at[id], visit);
    }
    for (uint32_t i = 0; i < source->outputs.n; i++) {
        const kiln_graph_output *output = &source->outputs.at[i];
        kiln_copy_output(rewrite.target, rewrite.map[output->value.id], output);
    }
    for (uint32_t i = 0; i < source->checks.n; i++) {
        const kiln_graph_check *check = &source->checks.at[i];
        kiln_add_check(rewrite.target, rewrite.map[check->value.id], check->sentence);
    }
    if (out_n_changed) *out_n_changed = rewrite.n_changed;
    return rewrite.target;
}

kiln_graph *kiln_rewrite_run(kiln_pipeline *pipeline, const kiln_graph *source,
                             kiln_visit_fn *visit, void *user, const char *where)
{
    uint32_t n_changed;
    for (int i = 0; i < MAX_SWEEPS; i++) {
        kiln_graph *target = kiln_rewrite_sweep(pipeline, source, visit, user, &n_changed);
        if (n_changed == 0) return target;
        source = target;
    }
    kiln_fail(pipeline->scope, KILN_INTERNAL, "%s: still changing after %d sweeps", where,
              MAX_SWEEPS);
}

const kiln_node *kiln_match(const kiln_rewrite *rewrite, const kiln_node *node, uint32_t operand,
                            kiln_op op)
{
    const kiln_node *found = kiln_operand_node(rewrite, node, operand);
    return found->op == op ? found : NULL;
}

const kiln_literal *kiln_match_literal(const kiln_node *node)
{
    return node->op == KILN_OP_constant ? &node->attrs->literal.value : NULL;
}

bool kiln_match_splat(const kiln_node *node, double *out_value)
{
    const kiln_literal *literal = kiln_match_literal(node);
    if (!literal || literal->kind != KILN_LITERAL_SPLAT) return false;
    if (kiln_dtype_in(node->type->dtype, KILN_TYPES_COMPLEX)) return false;
    *out_value = kiln_element_to_double(node->type->dtype, literal->data);
    return true;
}

bool kiln_match_constant(const kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op == KILN_OP_constant) return true;
    return node->op == KILN_OP_broadcast && kiln_match(rewrite, node, 0, KILN_OP_constant);
}

bool kiln_node_is_float(const kiln_node *node)
{
    return kiln_dtype_in(node->type->dtype, KILN_TYPES_FLOAT);
}

bool kiln_node_is_integer(const kiln_node *node)
{
    return kiln_dtype_in(node->type->dtype, KILN_TYPES_INTEGER);
}

const kiln_type *kiln_rewrite_type(kiln_rewrite *rewrite, const kiln_type *type)
{
    return kiln_graph_retype(rewrite->target, type);
}

kiln_value kiln_rewrite_splat(kiln_rewrite *rewrite, const kiln_node *like, double value)
{
    const kiln_type *type = like->type;
    return kiln_add_splat(rewrite->target, type->dtype, type->rank, type->dims, value);
}

kiln_value kiln_rewrite_with(kiln_rewrite *rewrite, const kiln_node *node, const kiln_value *inputs,
                             const kiln_attrs *attrs)
{
    kiln_graph *target = rewrite->target;
    kiln_node_spec spec = {(kiln_op)node->op,           NULL,       inputs, node->n_inputs,
                           attrs ? attrs : node->attrs, node->label};
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) {
        spec.given = kiln_rewrite_type(rewrite, node->type);
    }
    uint32_t outer = target->current_origin;
    target->current_origin = rewrite->source->origins.at[node->id];
    kiln_value value = kiln_graph_add(target, &spec);
    target->current_origin = outer;
    return value;
}
