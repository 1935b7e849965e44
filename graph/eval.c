/* The evaluator: the oracle of the compiler. A graph is first rewritten without composites, then
 * its nodes are evaluated in order of their ids into dense arrays, each freed after its last
 * reader. Rounding is to nearest with denormals, whatever the caller's mode. */
#include "graph/eval.h"

#include <fenv.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "graph/describe.h"

/* Expanding a composite may give composites; deeper than this is a rule that expands to itself. */
#define EXPANSION_DEPTH 16

typedef struct eval_run {
    kiln_scope *scope;
    const kiln_graph *graph;
    const kiln_tensor *inputs;
    void **values;      /* by id */
    bool *is_needed;    /* by id */
    uint32_t *last_use; /* by id; 0 keeps the value */
    bool keeps;         /* all values stay, in the scope's arena */
    int64_t live_bytes, max_bytes;
    kiln_arena scratch;
    fenv_t mode; /* the caller's */
} eval_run;

static bool has_composites(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (kiln_node_row(graph->nodes.at[id])->class_ == KILN_COMPOSITE) return true;
    }
    return false;
}

static kiln_value copy_or_expand(kiln_graph *to, const kiln_graph *from, const kiln_node *node,
                                 const kiln_value *map)
{
    if (kiln_node_row(node)->class_ != KILN_COMPOSITE) return kiln_graph_copy(to, from, node, map);
    kiln_value *inputs = kiln_new_array(&to->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = map[node->inputs[i].id];
    return kiln_expand_rules[node->op](to, inputs, node->n_inputs, node->attrs);
}

/* The graph with every composite replaced by its expansion, once; map[id] is updated in place from
 * values of `from` to values of the result. */
static kiln_graph *expand_once(kiln_scope *scope, const kiln_graph *from, kiln_value *map,
                               uint32_t n_map)
{
    kiln_graph *to = kiln_graph_open(scope, from->context, from->name);
    kiln_value *step = kiln_new_array(&scope->arena, kiln_value, from->nodes.n);
    for (uint32_t id = 1; id < from->nodes.n; id++) {
        step[id] = copy_or_expand(to, from, from->nodes.at[id], step);
    }
    for (uint32_t i = 0; i < from->outputs.n; i++) {
        kiln_copy_output(to, step[from->outputs.at[i].value.id], &from->outputs.at[i]);
    }
    for (uint32_t i = 0; i < from->checks.n; i++) {
        kiln_add_check(to, step[from->checks.at[i].value.id], from->checks.at[i].sentence);
    }
    for (uint32_t i = 1; i < n_map; i++) map[i] = step[map[i].id];
    return to;
}

const kiln_graph *kiln_eval_expand(kiln_scope *scope, const kiln_graph *graph, kiln_value *map)
{
    uint32_t n_map = graph->nodes.n;
    for (uint32_t i = 0; i < n_map; i++) map[i] = (kiln_value){i, graph->id};
    for (int depth = 0; has_composites(graph); depth++) {
        if (depth == EXPANSION_DEPTH) {
            kiln_fail(scope, KILN_INTERNAL, "evaluator: composites expand to composites %d times",
                      depth);
        }
        graph = expand_once(scope, graph, map, n_map);
    }
    return graph;
}

static void release_run(void *object)
{
    eval_run *run = object;
    for (uint32_t id = 1; !run->keeps && id < run->graph->nodes.n; id++) free(run->values[id]);
    kiln_arena_fini(&run->scratch);
    fesetenv(&run->mode);
}

/* Values beyond this would not fit the machine's memory. */
static int64_t memory_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) return INT64_MAX;
    return (int64_t)((double)pages * (double)page * 0.8);
}

static eval_run *open_run(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
                          bool keeps)
{
    eval_run *run = kiln_new(&scope->arena, eval_run);
    run->scope = scope;
    run->graph = graph;
    run->inputs = inputs;
    run->keeps = keeps;
    run->max_bytes = memory_limit();
    run->values = kiln_new_array(&scope->arena, void *, graph->nodes.n);
    run->is_needed = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    run->last_use = kiln_new_array(&scope->arena, uint32_t, graph->nodes.n);
    kiln_arena_init(&run->scratch, scope);
    kiln_scope_defer(scope, release_run, run);
    fegetenv(&run->mode);
    fesetenv(FE_DFL_ENV);
    return run;
}

/* Marks what outputs and checks read, and the last reader of every value but theirs. */
static void find_needed(eval_run *run)
{
    const kiln_graph *graph = run->graph;
    bool *is_final = kiln_new_array(&run->scope->arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) is_final[graph->outputs.at[i].value.id] = true;
    for (uint32_t i = 0; i < graph->checks.n; i++) is_final[graph->checks.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        if (is_final[id] || run->keeps) run->is_needed[id] = true;
        if (!run->is_needed[id]) continue;
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            uint32_t operand = node->inputs[i].id;
            if (!run->is_needed[operand] && !is_final[operand]) run->last_use[operand] = id;
            run->is_needed[operand] = true;
        }
    }
}

static void *allocate_value(eval_run *run, uint32_t id)
{
    int64_t bytes = run->graph->nodes.at[id]->type->bytes;
    if (!kiln_checked_add(run->live_bytes, bytes, &run->live_bytes) ||
        run->live_bytes > run->max_bytes) {
        const kiln_node *node = run->graph->nodes.at[id];
        kiln_fail(run->scope, KILN_LIMIT,
                  "evaluator: %s of %s: %lld bytes with other values; expected at most %lld",
                  kiln_node_row(node)->name, kiln_type_string(&run->scope->arena, node->type),
                  (long long)run->live_bytes, (long long)run->max_bytes);
    }
    size_t size = bytes > 0 ? (size_t)bytes : 1;
    if (run->keeps) return kiln_arena_alloc(&run->scope->arena, size);
    char *value = malloc(size);
    if (!value) kiln_fail(run->scope, KILN_NO_MEMORY, "evaluator: no memory for %zu bytes", size);
    value[size - 1] = 0; /* half of it may be beyond the last element */
    return value;
}

static void copy_bytes(kiln_dtype dtype, void *to, const void *from, int64_t bytes)
{
    if (bytes > 0) memcpy(to, from, (size_t)bytes);
    uint8_t *at = to;
    for (int64_t i = 0; dtype == KILN_bool && i < bytes; i++) at[i] = at[i] != 0;
}

void kiln_eval_node(const kiln_eval_call *call)
{
    static kiln_eval_fn *const classes[] = {
        [KILN_SOURCE] = kiln_eval_source,     [KILN_ELEMENTWISE] = kiln_eval_elementwise,
        [KILN_REDUCE] = kiln_eval_reduce,     [KILN_WINDOW] = kiln_eval_window,
        [KILN_VIEW] = kiln_eval_view,         [KILN_MOVE] = kiln_eval_move,
        [KILN_CONTRACT] = kiln_eval_contract, [KILN_ROUTINE] = kiln_eval_routine,
        [KILN_COMPOSITE] = NULL,
    };
    const kiln_op_row *row = kiln_node_row(call->node);
    if (kiln_eval_is_packed_move(call)) {
        kiln_eval_packed_move(call);
    } else if (kiln_eval_is_complex(call)) {
        kiln_eval_complex(call);
    } else if (row->class_ == KILN_REGION) {
        kiln_eval_region(call);
    } else if (classes[row->class_]) {
        classes[row->class_](call);
    } else {
        kiln_fail(call->scope, KILN_INTERNAL, "evaluator: %s has no meaning", row->name);
    }
}

static void free_dead(eval_run *run, uint32_t id)
{
    const kiln_node *node = run->graph->nodes.at[id];
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t operand = node->inputs[i].id;
        if (run->keeps || run->last_use[operand] != id || !run->values[operand]) continue;
        free(run->values[operand]);
        run->values[operand] = NULL;
        run->live_bytes -= run->graph->nodes.at[operand]->type->bytes;
    }
}

static void evaluate_one(eval_run *run, uint32_t id)
{
    const kiln_node *node = run->graph->nodes.at[id];
    kiln_arena_init(&run->scratch, run->scope);
    const void **in = kiln_new_array(&run->scratch, const void *, node->n_inputs);
    const kiln_type **types = kiln_new_array(&run->scratch, const kiln_type *, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        in[i] = run->values[node->inputs[i].id];
        types[i] = run->graph->nodes.at[node->inputs[i].id]->type;
    }
    run->values[id] = allocate_value(run, id);
    kiln_eval_node(&(kiln_eval_call){run->scope, &run->scratch, node, types, in, run->values[id],
                                     run->graph->context});
    kiln_arena_fini(&run->scratch);
    free_dead(run, id);
}

static void evaluate_graph(eval_run *run)
{
    const kiln_graph *graph = run->graph;
    find_needed(run);
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        uint32_t id = graph->inputs.at[i].id;
        const kiln_type *type = graph->nodes.at[id]->type;
        if (!run->is_needed[id]) continue;
        run->values[id] = allocate_value(run, id);
        copy_bytes(type->dtype, run->values[id], run->inputs[i].data, type->bytes);
    }
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (run->is_needed[id] && graph->nodes.at[id]->op != KILN_OP_input) evaluate_one(run, id);
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        int64_t failures;
        memcpy(&failures, run->values[graph->checks.at[i].value.id], sizeof failures);
        if (failures) kiln_fail(run->scope, KILN_RANGE, "%s", graph->checks.at[i].sentence);
    }
}

void kiln_eval(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
               kiln_tensor *outputs)
{
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, graph->nodes.n);
    const kiln_graph *expanded = kiln_eval_expand(scope, graph, map);
    eval_run *run = open_run(scope, expanded, inputs, false);
    evaluate_graph(run);
    for (uint32_t i = 0; i < expanded->outputs.n; i++) {
        kiln_value value = expanded->outputs.at[i].value;
        int64_t bytes = kiln_graph_type(expanded, value)->bytes;
        if (bytes) memcpy(outputs[i].data, run->values[value.id], (size_t)bytes);
    }
}

void **kiln_eval_nodes(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs)
{
    kiln_value *map = kiln_new_array(&scope->arena, kiln_value, graph->nodes.n);
    eval_run *run = open_run(scope, kiln_eval_expand(scope, graph, map), inputs, true);
    evaluate_graph(run);
    void **values = kiln_new_array(&scope->arena, void *, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) values[id] = run->values[map[id].id];
    return values;
}
