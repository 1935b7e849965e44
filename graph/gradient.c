/* Gradients: results and cotangents -> gradients of values, as nodes of the same graph.
 *
 * One sweep collects the nodes below its results, marks those that depend on a value, and calls the
 * rule of each from the last to the first: ids ascend in topological order, so what a node gets is
 * complete when its turn comes. A composite without a rule of its own is expanded in place and
 * swept by itself, its operands being the values. */
#include "graph/gradient.h"

#include <stdlib.h>

#include "graph/builder.h"
#include "graph/describe.h"
#include "graph/element.h"

struct kiln_differentiation {
    kiln_graph *graph;
    kiln_vec(uint32_t) marks; /* by id: the last sweep that collected it */
    uint32_t n_sweeps;
};

/* A node of a sweep; `gradients` has one value, or one an item. */
typedef struct sweep_node {
    uint32_t id;
    bool is_value, depends, is_passed; /* passed: an operand depends */
    kiln_value *gradients;
} sweep_node;

typedef struct sweep {
    kiln_differentiation *run;
    kiln_graph *graph;
    const kiln_gradient_request *request;
    kiln_arena *arena;
    kiln_vec(uint32_t) ids; /* ascending once collected */
    sweep_node *nodes;
} sweep;

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static sweep_node *find_node(const sweep *s, uint32_t id)
{
    const uint32_t *at = bsearch(&id, s->ids.at, s->ids.n, sizeof id, compare_ids);
    return at ? &s->nodes[at - s->ids.at] : NULL;
}

static void mark_id(sweep *s, uint32_t id)
{
    kiln_differentiation *run = s->run;
    while (run->marks.n <= id) kiln_vec_push(&run->marks, s->arena, 0);
    if (run->marks.at[id] == run->n_sweeps) return;
    run->marks.at[id] = run->n_sweeps;
    kiln_vec_push(&s->ids, s->arena, id);
}

static bool is_cut_at(const sweep *s, uint32_t id)
{
    for (uint32_t i = 0; s->request->is_cut && i < s->request->n_values; i++) {
        if (s->request->values[i].id == id) return true;
    }
    return false;
}

/* The nodes below the results; ids.at is the list of those still to look at, too. */
static void collect_nodes(sweep *s)
{
    s->run->n_sweeps++;
    for (uint32_t i = 0; i < s->request->n_of; i++) mark_id(s, s->request->of[i].id);
    for (uint32_t at = 0; at < s->ids.n; at++) {
        const kiln_node *node = s->graph->nodes.at[s->ids.at[at]];
        if (is_cut_at(s, node->id)) continue;
        for (uint32_t i = 0; i < node->n_inputs; i++) mark_id(s, node->inputs[i].id);
    }
    qsort(s->ids.at, s->ids.n, sizeof *s->ids.at, compare_ids);
    s->nodes = kiln_new_array(s->arena, sweep_node, s->ids.n);
    for (uint32_t i = 0; i < s->ids.n; i++) s->nodes[i].id = s->ids.at[i];
}

static bool is_differentiable(const kiln_type *type)
{
    return type->n_items || kiln_dtype_in(type->dtype, KILN_TYPES_FIELD);
}

static void mark_dependent(sweep *s)
{
    for (uint32_t i = 0; i < s->request->n_values; i++) {
        sweep_node *found = find_node(s, s->request->values[i].id);
        if (!found) continue;
        found->is_value = true;
        found->depends |= !s->request->is_wanted || s->request->is_wanted[i];
    }
    for (uint32_t at = 0; at < s->ids.n; at++) {
        sweep_node *entry = &s->nodes[at];
        const kiln_node *node = s->graph->nodes.at[entry->id];
        if (!is_differentiable(node->type)) continue;
        if (kiln_derivative_rows[node->op].kind == KILN_DERIVATIVE_CONSTANT) continue;
        if (entry->is_value && s->request->is_cut) continue;
        for (uint32_t i = 0; i < node->n_inputs && !entry->is_passed; i++)
            entry->is_passed = find_node(s, node->inputs[i].id)->depends;
        entry->depends |= entry->is_passed;
    }
}

static void add_gradient(sweep *s, sweep_node *entry, uint32_t item, kiln_value gradient)
{
    const kiln_type *type = s->graph->nodes.at[entry->id]->type;
    uint32_t n = type->n_items ? type->n_items : 1;
    if (!entry->gradients) entry->gradients = kiln_new_array(s->arena, kiln_value, n);
    const kiln_type *expected = type->n_items ? type->items[item] : type;
    if (kiln_graph_type(s->graph, gradient) != expected) {
        kiln_fail(s->graph->scope, KILN_INTERNAL, "gradient: %s of %s; expected %s",
                  kiln_type_string(s->arena, kiln_graph_type(s->graph, gradient)),
                  kiln_op_rows[s->graph->nodes.at[entry->id]->op].name,
                  kiln_type_string(s->arena, expected));
    }
    kiln_value *sum = &entry->gradients[item];
    *sum = sum->id ? kiln_add_binary(s->graph, KILN_OP_add, *sum, gradient) : gradient;
}

void kiln_derive_refuse(const kiln_derivation *d, const char *why)
{
    kiln_text text = {.arena = &d->graph->scope->arena};
    kiln_value_print(&text, d->graph, d->result);
    kiln_fail(d->graph->scope, KILN_UNSUPPORTED, "gradient: %s %s has no derivative: %s",
              kiln_op_rows[d->node->op].name, kiln_text_string(&text), why);
}

static bool is_complex(const kiln_type *type)
{
    return !type->n_items && kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX);
}

static void expand_composite(kiln_derivation *d)
{
    kiln_value meaning = kiln_expand_rules[d->node->op](d->graph, d->node->inputs,
                                                        d->node->n_inputs, d->node->attrs);
    kiln_derive_through(d, &meaning);
}

static void derive_node(kiln_derivation *d)
{
    const kiln_derivative_row *row = &kiln_derivative_rows[d->node->op];
    for (uint32_t i = 0; i < d->node->n_inputs; i++) {
        if (d->is_wanted[i] && is_complex(kiln_graph_type(d->graph, d->node->inputs[i])))
            kiln_derive_refuse(d, "it takes complex values; expected real ones");
    }
    if (is_complex(d->node->type))
        kiln_derive_refuse(d, "it gives complex values; expected real ones");
    switch (row->kind) {
    case KILN_DERIVATIVE_RULE:
        row->derive(d);
        return;
    case KILN_DERIVATIVE_EXPANSION:
        expand_composite(d);
        return;
    case KILN_DERIVATIVE_REFUSED:
        kiln_derive_refuse(d, row->what);
    case KILN_DERIVATIVE_CONSTANT:
    case KILN_DERIVATIVE_NONE:
        return;
    }
}

/* What one node passes on to its operands. */
static void pass_on(sweep *s, sweep_node *entry)
{
    kiln_graph *graph = s->graph;
    const kiln_node *node = graph->nodes.at[entry->id];
    bool *is_wanted = kiln_new_array(s->arena, bool, node->n_inputs);
    kiln_derivation d = {graph, node,  {node->id, graph->id}, entry->gradients, is_wanted, NULL,
                         0,     s->run};
    d.out = kiln_new_array(s->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        is_wanted[i] = find_node(s, node->inputs[i].id)->depends;
    derive_node(&d);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (is_wanted[i] && d.out[i].id)
            add_gradient(s, find_node(s, node->inputs[i].id), d.item, d.out[i]);
    }
}

static void run_sweep(kiln_differentiation *run, const kiln_gradient_request *request,
                      kiln_value *out)
{
    sweep s = {run, run->graph, request, &run->graph->scope->arena, {0}, NULL};
    collect_nodes(&s);
    mark_dependent(&s);
    for (uint32_t i = 0; i < request->n_of; i++) {
        sweep_node *entry = find_node(&s, request->of[i].id);
        if (entry->depends && request->cotangents[i].id)
            add_gradient(&s, entry, 0, request->cotangents[i]);
    }
    for (uint32_t at = s.ids.n; at-- > 0;) {
        if (s.nodes[at].is_passed && s.nodes[at].gradients) pass_on(&s, &s.nodes[at]);
    }
    for (uint32_t i = 0; i < request->n_values; i++) {
        sweep_node *found = find_node(&s, request->values[i].id);
        out[i] = found && found->gradients ? found->gradients[0] : (kiln_value){0, 0};
    }
}

void kiln_graph_gradient(kiln_graph *graph, const kiln_gradient_request *request, kiln_value *out)
{
    kiln_differentiation run = {.graph = graph};
    run_sweep(&run, request, out);
}

/* An operand that stands twice gets its whole gradient at its first place. */
void kiln_derive_through(kiln_derivation *d, const kiln_value *meanings)
{
    uint32_t n = d->node->n_inputs, n_of = d->node->type->n_items;
    kiln_gradient_request request = {.n_of = n_of ? n_of : 1,
                                     .n_values = n,
                                     .of = meanings,
                                     .cotangents = d->gradients,
                                     .values = d->node->inputs,
                                     .is_wanted = d->is_wanted,
                                     .is_cut = true};
    run_sweep(d->run, &request, d->out);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (d->node->inputs[i].id == d->node->inputs[j].id) d->out[i] = (kiln_value){0, 0};
        }
    }
}

/* The public call */

typedef struct gradient_call {
    const kiln_arguments *values;
    kiln_value *out;
} gradient_call;

static void check_float(kiln_graph *graph, const char *what, const kiln_type *type)
{
    if (!type->n_items && kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT)) return;
    kiln_fail(graph->scope, KILN_INVALID, "gradient: %s is %s; expected a float", what,
              kiln_type_string(&graph->scope->arena, type));
}

static kiln_value cotangent_of(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    check_float(graph, "the result", type);
    if (request->inputs[1].id) {
        const kiln_type *given = kiln_build_type(graph, request, 1);
        if (given == type) return request->inputs[1];
        kiln_fail(graph->scope, KILN_INVALID, "gradient: the cotangent is %s; expected %s",
                  kiln_type_string(&graph->scope->arena, given),
                  kiln_type_string(&graph->scope->arena, type));
    }
    if (type->n_elements != 1) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "gradient: the result is %s and there is no cotangent; expected one element",
                  kiln_type_string(&graph->scope->arena, type));
    }
    return kiln_add_splat_like(graph, request->inputs[0], 1);
}

static kiln_value gradient_body(kiln_graph *graph, const kiln_request *request)
{
    const gradient_call *call = request->options;
    const kiln_arguments *values = call->values;
    if (!values || !call->out || (values->n && !values->values))
        kiln_fail(graph->scope, KILN_INVALID,
                  "gradient: %s is NULL; expected values to differentiate by, and room for as many",
                  call->out ? "values" : "out_gradients");
    kiln_value cotangent = cotangent_of(graph, request);
    for (uint32_t i = 0; i < values->n; i++) {
        kiln_request one = {.inputs = {values->values[i]}, .name = "gradient"};
        check_float(graph, "a value", kiln_build_type(graph, &one, 0));
    }
    kiln_value *out = kiln_new_array(&graph->scope->arena, kiln_value, values->n);
    kiln_gradient_request sweep_request = {
        1, values->n, request->inputs, &cotangent, values->values, NULL, false};
    kiln_graph_gradient(graph, &sweep_request, out);
    for (uint32_t i = 0; i < values->n; i++)
        call->out[i] = out[i].id ? out[i] : kiln_add_splat_like(graph, values->values[i], 0);
    return request->inputs[0];
}

void kiln_gradient(kiln_graph *graph, kiln_value of, kiln_value cotangent,
                   const kiln_arguments *values, kiln_value *out_gradients)
{
    for (uint32_t i = 0; values && out_gradients && i < values->n; i++)
        out_gradients[i] = (kiln_value){0, 0};
    gradient_call call = {values, out_gradients};
    kiln_request request = {
        .inputs = {of, cotangent}, .n = 2, .name = "gradient", .options = &call};
    kiln_build(graph, gradient_body, &request);
}
