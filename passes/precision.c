/* precision: the contractions that a compile in bf16 rounds say so in the graph: operands are
 * converted (where they are computed, once for all who read them; constants here), the result keeps
 * the dtype of the sums. Decided by shapes alone.
 *
 *                                              %1: bf16[8,32] = convert %x
 *     %1: f32[8,16] = dot_general %x, %w  =>   %2: bf16[32,16] = constant {…}
 *                                              %3: f32[8,16] = dot_general %1, %2 {… wide = 1}
 *
 * A computed value that is rounded for a contraction is rounded for all who read it, so that its
 * f32 form is never stored (outputs of the graph aside). */
#include "base/checked.h"
#include "graph/element.h"
#include "kiln/compile.h"
#include "passes/rewrite.h"

#define MOST_VIEWS 8 /* between a value and the contraction that reads it */

static const kiln_value none = {0, 0};

static bool is_on_constant(const kiln_graph *graph, kiln_value value)
{
    return kiln_graph_node(graph, kiln_view_base(graph, value))->op == KILN_OP_constant;
}

static bool is_rounded(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (kiln_node_row(node)->class_ != KILN_CONTRACT || node->type->n_elements == 0) return false;
    const kiln_graph *source = rewrite->source;
    bool is_dot = node->op == KILN_OP_dot_general;
    kiln_dtype sum = is_dot ? node->attrs->dot.accumulate : node->attrs->conv.accumulate;
    kiln_dtype dtype = kiln_graph_type(source, node->inputs[0])->dtype;
    if (dtype != KILN_f32 || sum != KILN_f32) return false;
    kiln_value value = {node->id, source->id};
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    return kiln_contraction_fits_tiles(arena, source, value, 1);
}

/* Writes the rounded elements of a constant, or of views of one. */
static kiln_status read_rounded(const kiln_graph *graph, kiln_value value, uint16_t *out,
                                kiln_error *error)
{
    const kiln_type *type = kiln_graph_type(graph, value);
    kiln_scope scope;
    kiln_scope_open(&scope, error);
    if (kiln_scope_try(&scope)) {
        float *dense = kiln_arena_alloc(&scope.arena, (size_t)type->bytes);
        kiln_constant_read(&scope, graph, value, dense);
        for (int64_t i = 0; i < type->n_elements; i++)
            out[i] = (uint16_t)(kiln_bf16_pattern(dense[i]) >> 16);
    }
    return kiln_scope_close(&scope);
}

static kiln_value round_constant(kiln_rewrite *rewrite, kiln_value value)
{
    const kiln_type *type = kiln_graph_type(rewrite->source, value);
    kiln_graph *target = rewrite->target;
    kiln_error error = {0};
    type = kiln_graph_tensor(target, KILN_bf16, type->rank, type->dims);
    uint16_t *data = kiln_arena_alloc(&target->arena, (size_t)type->bytes);
    if (read_rounded(rewrite->source, value, data, &error))
        kiln_fail_with(rewrite->pipeline->scope, &error);
    if (type->bytes <= KILN_LITERAL_BYTES_MAX) return kiln_add_constant(target, type, data);
    kiln_literal literal = {KILN_LITERAL_BLOB, data, type->bytes};
    return kiln_add_literal(target, type, &literal);
}

/* The operand rounded: under its views, so that it is stored rounded where it is computed. */
static kiln_value round_value(kiln_rewrite *rewrite, kiln_value value)
{
    const kiln_graph *source = rewrite->source;
    kiln_graph *target = rewrite->target;
    kiln_value views[MOST_VIEWS], at = value;
    uint32_t n = 0;
    const kiln_node *node = kiln_graph_node(source, at);
    while (kiln_node_row(node)->class_ == KILN_VIEW && n < MOST_VIEWS &&
           kiln_graph_type(source, node->inputs[0])->n_elements <= node->type->n_elements) {
        views[n++] = at;
        at = node->inputs[0];
        node = kiln_graph_node(source, at);
    }
    /* an input of the graph is read once more anyway: better in the order that the contraction
     * wants */
    if (kiln_node_row(node)->class_ == KILN_SOURCE) {
        at = value;
        n = 0;
    }
    kiln_value rounded = kiln_add_convert(target, kiln_mapped(rewrite, at), KILN_bf16);
    while (n-- > 0) {
        node = kiln_graph_node(source, views[n]);
        kiln_node_spec spec = {(kiln_op)node->op, NULL, &rounded, 1, node->attrs, node->label};
        if (kiln_node_row(node)->result == KILN_RESULT_GIVEN)
            spec.given = kiln_graph_tensor(target, KILN_bf16, node->type->rank, node->type->dims);
        rounded = kiln_graph_add(target, &spec);
    }
    return rounded;
}

static kiln_value round_contraction(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (!is_rounded(rewrite, node)) return none;
    kiln_value inputs[2];
    kiln_attrs attrs = *node->attrs;
    for (uint32_t i = 0; i < 2; i++) {
        kiln_value from = node->inputs[i];
        bool is_constant = is_on_constant(rewrite->source, from);
        inputs[i] = is_constant ? round_constant(rewrite, from) : round_value(rewrite, from);
    }
    if (node->op == KILN_OP_dot_general)
        attrs.dot.wide = 1;
    else
        attrs.conv.wide = 1;
    return kiln_rewrite_with(rewrite, node, inputs, &attrs);
}

static bool is_rounding(const kiln_graph *graph, const kiln_node *node)
{
    return node->op == KILN_OP_convert && node->type->dtype == KILN_bf16 &&
           kiln_graph_type(graph, node->inputs[0])->dtype == KILN_f32;
}

/* By id: the rounding of a computed f32 value, or 0. */
static uint32_t *find_roundings(kiln_scope *scope, const kiln_graph *graph)
{
    uint32_t *rounding = kiln_new_array(&scope->arena, uint32_t, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        if (!is_rounding(graph, node)) continue;
        kiln_class class_ = kiln_node_row(kiln_graph_node(graph, node->inputs[0]))->class_;
        if (class_ == KILN_ELEMENTWISE || class_ == KILN_REDUCE || class_ == KILN_CONTRACT)
            rounding[node->inputs[0].id] = id;
    }
    return rounding;
}

/* The node over rounded operands. */
static kiln_value read_rounded_values(kiln_rewrite *rewrite, const kiln_node *node)
{
    const uint32_t *rounding = rewrite->user;
    bool is_changed = false;
    if (is_rounding(rewrite->source, node) || node->n_inputs == 0) return none;
    kiln_arena *arena = &rewrite->pipeline->scope->arena;
    kiln_value *inputs = kiln_new_array(arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        inputs[i] = kiln_mapped(rewrite, node->inputs[i]);
        if (!rounding[node->inputs[i].id]) continue;
        kiln_value rounded = kiln_add_convert(rewrite->target, inputs[i], KILN_bf16);
        inputs[i] = kiln_add_convert(rewrite->target, rounded, KILN_f32);
        is_changed = true;
    }
    return is_changed ? kiln_rewrite_with(rewrite, node, inputs, NULL) : none;
}

kiln_graph *kiln_pass_precision(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    if (pipeline->precision != KILN_PRECISION_BF16)
        return kiln_rewrite_sweep(pipeline, graph, NULL, NULL, NULL);
    uint32_t n_changed;
    kiln_graph *rounded = kiln_rewrite_sweep(pipeline, graph, round_contraction, NULL, &n_changed);
    if (n_changed == 0) return rounded;
    uint32_t *rounding = find_roundings(pipeline->scope, rounded);
    return kiln_rewrite_sweep(pipeline, rounded, read_rounded_values, rounding, NULL);
}
