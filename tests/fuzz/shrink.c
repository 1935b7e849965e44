/* Greedy shrinking: candidates are rebuilt graphs; the first that still fails becomes the case, and
 * the search begins again, until none does or the tries are used up. */
#include "fuzz/shrink.h"

#include "graph/eval.h"

#include <string.h>

#define TRIES 400

/* How to rebuild a graph: which output to keep, which node becomes an input, which node stands for
 * another. */
typedef struct rebuild_plan {
    int32_t output; /* -1: all */
    uint32_t value; /* id of what becomes the only output, or 0 */
    uint32_t cut;   /* id, or 0 */
    uint32_t bypass, by;
} rebuild_plan;

static void mark_needed(const kiln_graph *graph, const rebuild_plan *plan, bool *is_needed)
{
    is_needed[plan->value] = plan->value != 0;
    for (uint32_t i = 0; !plan->value && i < graph->outputs.n; i++) {
        if (plan->output < 0 || (uint32_t)plan->output == i)
            is_needed[graph->outputs.at[i].value.id] = true;
    }
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        if (!is_needed[id] || id == plan->cut) continue;
        if (id == plan->bypass) {
            is_needed[plan->by] = true;
            continue;
        }
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; i < node->n_inputs; i++) is_needed[node->inputs[i].id] = true;
    }
}

static const kiln_tensor *input_of(const fuzz_case *from, uint32_t id)
{
    for (uint32_t i = 0; i < from->graph->inputs.n; i++) {
        if (from->graph->inputs.at[i].id == id) return &from->inputs[i];
    }
    return NULL;
}

static kiln_value add_input(kiln_graph *graph, const kiln_type *type, uint32_t number)
{
    kiln_arena *arena = &graph->scope->arena;
    const kiln_type *own = kiln_graph_tensor(graph, type->dtype, type->rank, type->dims);
    return kiln_add_input(graph, own, kiln_arena_format(arena, "in%u", number), false);
}

/* The graph rebuilt to plan. `values` are those of the evaluator, by id. */
static fuzz_case rebuild(kiln_scope *scope, const fuzz_case *from, void **values,
                         const rebuild_plan *plan)
{
    uint32_t n = from->graph->nodes.n, n_inputs = 0;
    bool *is_needed = kiln_new_array(&scope->arena, bool, n);
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, n);
    kiln_tensor *inputs = kiln_new_array(&scope->arena, kiln_tensor, from->graph->inputs.n + 2);
    kiln_graph *graph = kiln_graph_open(scope, from->graph->context, from->graph->name);
    mark_needed(from->graph, plan, is_needed);
    for (uint32_t id = 1; id < n; id++) {
        const kiln_node *node = from->graph->nodes.at[id];
        if (!is_needed[id]) continue;
        if (id == plan->cut || node->op == KILN_OP_input) {
            const kiln_type *type = node->type;
            kiln_tensor cut = {type->dtype, type->rank, type->dims, values[id],
                               (size_t)type->bytes};
            inputs[n_inputs] = id == plan->cut ? cut : *input_of(from, id);
            map[id] = add_input(graph, type, n_inputs++);
        } else if (id == plan->bypass) {
            map[id] = map[plan->by];
        } else {
            map[id] = kiln_graph_copy(graph, from->graph, node, map);
        }
    }
    if (plan->value) kiln_add_output(graph, map[plan->value], NULL);
    for (uint32_t i = 0; !plan->value && i < from->graph->outputs.n; i++) {
        const kiln_graph_output *output = &from->graph->outputs.at[i];
        if (is_needed[output->value.id] && (plan->output < 0 || (uint32_t)plan->output == i)) {
            kiln_add_output(graph, map[output->value.id], output->name);
        }
    }
    return (fuzz_case){graph, inputs};
}

/* The evaluator's values by id of the graph as it stands; NULL for composites' insides and what no
 * output needs. */
static void **values_of(kiln_scope *scope, const fuzz_case *c)
{
    uint32_t n = c->graph->nodes.n;
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, n);
    const kiln_graph *expanded = kiln_eval_expand(scope, c->graph, map);
    void **values = kiln_eval_nodes(scope, expanded, c->inputs);
    void **out = kiln_new_array(&scope->arena, void *, n);
    for (uint32_t id = 1; id < n; id++) out[id] = values[map[id].id];
    return out;
}

typedef struct shrink_run {
    kiln_scope *scope;
    fuzz_case best;
    fuzz_still_fails *still_fails;
    void *user;
    void **values;
    uint32_t n_tries;
} shrink_run;

static bool try_plan(shrink_run *run, const rebuild_plan *plan)
{
    if (run->n_tries++ >= TRIES) return false;
    fuzz_case candidate = rebuild(run->scope, &run->best, run->values, plan);
    if (!run->still_fails(run->user, &candidate)) return false;
    run->best = candidate;
    run->values = values_of(run->scope, &candidate);
    return true;
}

static bool is_same_type(const kiln_type *a, const kiln_type *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0);
}

static bool try_node(shrink_run *run, uint32_t id)
{
    const kiln_graph *graph = run->best.graph;
    const kiln_node *node = graph->nodes.at[id];
    if (node->op == KILN_OP_input) return false;
    bool is_tensor = !node->type->n_items && run->values[id];
    if (is_tensor && try_plan(run, &(rebuild_plan){.output = -1, .cut = id})) return true;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t by = node->inputs[i].id;
        if (!is_same_type(node->type, graph->nodes.at[by]->type)) continue;
        if (try_plan(run, &(rebuild_plan){.output = -1, .bypass = id, .by = by})) return true;
    }
    return false;
}

/* An input of zeros. */
static bool try_zeros(shrink_run *run, uint32_t i)
{
    const kiln_tensor *old = &run->best.inputs[i];
    kiln_arena *arena = &run->scope->arena;
    if (run->n_tries >= TRIES) return false;
    kiln_tensor *inputs = kiln_new_array(arena, kiln_tensor, run->best.graph->inputs.n + 1);
    memcpy(inputs, run->best.inputs, run->best.graph->inputs.n * sizeof *inputs);
    char *data = kiln_arena_alloc(arena, old->bytes + 16);
    if (memcmp(data, old->data, old->bytes) == 0) return false;
    inputs[i].data = data;
    fuzz_case candidate = {run->best.graph, inputs};
    run->n_tries++;
    if (!run->still_fails(run->user, &candidate)) return false;
    run->best = candidate;
    run->values = values_of(run->scope, &candidate);
    return true;
}

/* An operand of the only output in its place. */
static bool try_operands(shrink_run *run)
{
    const kiln_graph *graph = run->best.graph;
    if (graph->outputs.n != 1) return false;
    const kiln_node *node = kiln_graph_node(graph, graph->outputs.at[0].value);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t id = node->inputs[i].id;
        if (graph->nodes.at[id]->type->n_items) continue;
        if (try_plan(run, &(rebuild_plan){.output = -1, .value = id})) return true;
    }
    return false;
}

static bool shrink_once(shrink_run *run)
{
    for (uint32_t i = 0; run->best.graph->outputs.n > 1 && i < run->best.graph->outputs.n; i++) {
        if (try_plan(run, &(rebuild_plan){.output = (int32_t)i})) return true;
    }
    if (try_operands(run)) return true;
    for (uint32_t id = run->best.graph->nodes.n; id-- > 1;) {
        if (try_node(run, id)) return true;
    }
    for (uint32_t i = 0; i < run->best.graph->inputs.n; i++) {
        if (try_zeros(run, i)) return true;
    }
    return false;
}

fuzz_case fuzz_shrink(kiln_scope *scope, fuzz_case start, fuzz_still_fails *still_fails, void *user)
{
    shrink_run run = {scope, start, still_fails, user, values_of(scope, &start), 0};
    while (run.n_tries < TRIES && shrink_once(&run)) {
    }
    return run.best;
}
