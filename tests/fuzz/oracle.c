/* Regions written out by running them: each trip and each branch taken is inlined, and what decided
 * it becomes an output, to see that it is exact. */
#include "fuzz/oracle.h"

#include <string.h>

#include "passes/pass.h"

#define MAX_DEPTH 8

typedef struct flatten_run {
    kiln_scope *scope;
    const kiln_graph *from; /* without composites */
    void **values;          /* by id, of the evaluator */
    kiln_graph *to;
    kiln_value *map;     /* by id of `from`; of a tuple: nothing */
    kiln_value **tuples; /* by id of `from`: the items of what was written out */
    kiln_vec(kiln_value) decisions;
} flatten_run;

static bool is_path(const kiln_node *node)
{
    return node->op == KILN_OP_call || node->op == KILN_OP_if || node->op == KILN_OP_case ||
           node->op == KILN_OP_while || node->op == KILN_OP_scan;
}

static bool has_paths(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (is_path(graph->nodes.at[id])) return true;
    }
    return false;
}

static kiln_tensor tensor_of(const kiln_type *type, const void *data)
{
    return (kiln_tensor){type->dtype, type->rank, type->dims, (void *)(uintptr_t)data,
                         (size_t)type->bytes};
}

static kiln_tensor *tensors_new(kiln_scope *scope, const kiln_graph *graph)
{
    kiln_tensor *tensors = kiln_new_array(&scope->arena, kiln_tensor, graph->outputs.n + 1);
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const kiln_type *type = kiln_graph_type(graph, graph->outputs.at[i].value);
        tensors[i] = tensor_of(type, kiln_arena_alloc(&scope->arena, (size_t)type->bytes + 16));
    }
    return tensors;
}

/* The value decides a path: it joins the outputs, after the graph's own. */
static void add_decision(flatten_run *run, kiln_value value)
{
    kiln_vec_push(&run->decisions, &run->scope->arena, value);
}

static kiln_value *operands(flatten_run *run, const kiln_node *node, uint32_t first)
{
    kiln_value *values = kiln_new_array(&run->scope->arena, kiln_value, node->n_inputs + 1);
    for (uint32_t i = first; i < node->n_inputs; i++)
        values[i - first] = run->map[node->inputs[i].id];
    return values;
}

static kiln_value *inline_region(flatten_run *run, const kiln_graph *region, const kiln_value *args)
{
    kiln_value *out = kiln_new_array(&run->scope->arena, kiln_value, region->outputs.n + 1);
    kiln_graph_inline(run->to, region, args, out);
    return out;
}

static int64_t load_int(const kiln_type *type, const void *data)
{
    uint64_t value;
    kiln_element_load_int(type->dtype, data, 0, 1, &value);
    return (int64_t)value;
}

static kiln_value *write_choice(flatten_run *run, const kiln_node *node)
{
    kiln_regions regions = node->attrs->regions.regions;
    if (node->op == KILN_OP_call) return inline_region(run, regions.at[0], operands(run, node, 0));
    uint32_t choice = node->inputs[0].id;
    int64_t number = load_int(run->from->nodes.at[choice]->type, run->values[choice]);
    if (node->op == KILN_OP_if) number = number ? 0 : 1;
    if (number < 0 || number >= regions.n) number = regions.n - 1;
    add_decision(run, run->map[choice]);
    return inline_region(run, regions.at[number], operands(run, node, 1));
}

/* The trips are those that the evaluator makes. */
static kiln_value *write_while(flatten_run *run, const kiln_node *node)
{
    const kiln_graph *condition = node->attrs->loop.regions.at[0];
    const kiln_graph *body = node->attrs->loop.regions.at[1];
    kiln_tensor *at = kiln_new_array(&run->scope->arena, kiln_tensor, node->n_inputs + 1);
    kiln_value *args = operands(run, node, 0);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t id = node->inputs[i].id;
        at[i] = tensor_of(run->from->nodes.at[id]->type, run->values[id]);
    }
    for (;;) {
        kiln_tensor *flag = tensors_new(run->scope, condition);
        kiln_eval(run->scope, condition, at, flag);
        add_decision(run, inline_region(run, condition, args)[0]);
        if (!*(const uint8_t *)flag->data) return args;
        kiln_tensor *next = tensors_new(run->scope, body);
        kiln_eval(run->scope, body, at, next);
        memcpy(at, next, body->outputs.n * sizeof *at);
        const kiln_value *results = inline_region(run, body, args);
        memcpy(args, results, body->outputs.n * sizeof *args);
    }
}

/* Row `number` of a sequence. */
static kiln_value slice_row(kiln_graph *graph, kiln_value x, int64_t number)
{
    const kiln_type *type = kiln_graph_type(graph, x);
    int64_t starts[KILN_MAX_RANK] = {number}, limits[KILN_MAX_RANK], ones[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        limits[i] = i ? type->dims[i] : number + 1;
        ones[i] = 1;
    }
    kiln_attrs attrs = {KILN_FAMILY_slice,
                        .slice = {{type->rank, starts}, {type->rank, limits}, {type->rank, ones}}};
    kiln_value row =
        kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_slice, NULL, &x, 1, &attrs, NULL});
    return kiln_add_reshape(graph, row, type->rank - 1, type->dims + 1);
}

/* Rows one after the other; none at all is empty. */
static kiln_value stack_rows(kiln_graph *graph, const kiln_type *stacked, const kiln_value *rows)
{
    if (stacked->dims[0] == 0)
        return kiln_add_splat(graph, stacked->dtype, stacked->rank, stacked->dims, 0);
    uint32_t n = (uint32_t)stacked->dims[0];
    kiln_value *parts = kiln_new_array(&graph->scope->arena, kiln_value, n);
    int64_t dims[KILN_MAX_RANK];
    memcpy(dims, stacked->dims, stacked->rank * sizeof *dims);
    dims[0] = 1;
    for (uint32_t i = 0; i < n; i++)
        parts[i] = kiln_add_reshape(graph, rows[i], stacked->rank, dims);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {0}};
    return kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_concat, NULL, parts, n, &attrs, NULL});
}

static kiln_value *write_scan(flatten_run *run, const kiln_node *node)
{
    uint32_t n_carried = (uint32_t)node->attrs->scan.n_carried;
    uint32_t n_slices = (uint32_t)node->attrs->scan.n_slices, n_items = node->type->n_items;
    int64_t length = node->attrs->scan.length;
    const kiln_graph *body = node->attrs->scan.regions.at[0];
    kiln_arena *arena = &run->scope->arena;
    kiln_value *args = operands(run, node, 0), *out = kiln_new_array(arena, kiln_value, n_items);
    kiln_value *rows = kiln_new_array(arena, kiln_value, n_items * (uint64_t)length + 1);
    for (int64_t t = 0; t < length; t++) {
        for (uint32_t i = n_carried; i < n_carried + n_slices; i++)
            args[i] = slice_row(run->to, run->map[node->inputs[i].id], t);
        const kiln_value *results = inline_region(run, body, args);
        memcpy(args, results, n_carried * sizeof *args);
        for (uint32_t i = n_carried; i < n_items; i++) rows[i * length + t] = results[i];
    }
    for (uint32_t i = 0; i < n_items; i++) {
        out[i] =
            i < n_carried ? args[i] : stack_rows(run->to, node->type->items[i], rows + i * length);
    }
    return out;
}

static void write_node(flatten_run *run, const kiln_node *node)
{
    if (node->op == KILN_OP_while) {
        run->tuples[node->id] = write_while(run, node);
    } else if (node->op == KILN_OP_scan) {
        run->tuples[node->id] = write_scan(run, node);
    } else if (is_path(node)) {
        run->tuples[node->id] = write_choice(run, node);
    } else if (node->op == KILN_OP_item && run->tuples[node->inputs[0].id]) {
        run->map[node->id] = run->tuples[node->inputs[0].id][node->attrs->item.index];
    } else {
        run->map[node->id] = kiln_graph_copy(run->to, run->from, node, run->map);
    }
}

static bool *find_needed(kiln_scope *scope, const kiln_graph *graph)
{
    bool *is_needed = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) is_needed[graph->outputs.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; is_needed[id] && i < node->n_inputs; i++)
            is_needed[node->inputs[i].id] = true;
    }
    return is_needed;
}

/* One level of regions less, no composites. */
static const kiln_graph *flatten(kiln_scope *scope, const kiln_graph *graph,
                                 const kiln_tensor *inputs)
{
    kiln_value *expanded = kiln_new_array(&scope->arena, kiln_value, graph->nodes.n);
    flatten_run run = {.scope = scope, .from = kiln_eval_expand(scope, graph, expanded)};
    if (!has_paths(run.from)) return run.from;
    uint32_t n = run.from->nodes.n;
    run.values = kiln_eval_nodes(scope, run.from, inputs);
    run.to = kiln_graph_open(scope, graph->context, graph->name);
    run.map = kiln_new_array(&scope->arena, kiln_value, n);
    run.tuples = kiln_new_array(&scope->arena, kiln_value *, n);
    const bool *is_needed = find_needed(scope, run.from);
    for (uint32_t id = 1; id < n; id++) {
        const kiln_node *node = run.from->nodes.at[id];
        if (is_needed[id] || node->op == KILN_OP_input) write_node(&run, node);
    }
    for (uint32_t i = 0; i < run.from->outputs.n; i++) {
        const kiln_graph_output *output = &run.from->outputs.at[i];
        kiln_add_output(run.to, run.map[output->value.id], output->name);
    }
    for (uint32_t i = 0; i < run.decisions.n; i++)
        kiln_add_output(run.to, run.decisions.at[i],
                        kiln_arena_format(&scope->arena, "decision%u", run.to->outputs.n));
    return run.to;
}

static bool has_class(const kiln_graph *graph, kiln_class class_)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        if (kiln_node_row(graph->nodes.at[id])->class_ == class_) return true;
    }
    return false;
}

static bool has_dtype(const kiln_graph *graph, bool (*is_such)(kiln_dtype dtype))
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_type *type = graph->nodes.at[id]->type;
        if (!type->n_items && is_such(type->dtype)) return true;
    }
    return false;
}

static bool is_small_float(kiln_dtype dtype)
{
    return kiln_dtype_in(dtype, KILN_TYPES_FLOAT) && kiln_dtype_bits(dtype) == 8;
}

static bool is_strange(kiln_dtype dtype)
{
    return kiln_dtype_in(dtype, KILN_TYPES_COMPLEX) || kiln_dtype_bits(dtype) < 8 ||
           is_small_float(dtype);
}

/* Sums that the evaluator takes one after the other, rounding each; the op that they become does
 * not. */
static bool has_chains(const kiln_graph *graph)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        bool is_chain = node->op == KILN_OP_reduce || node->op == KILN_OP_reduce_window ||
                        node->op == KILN_OP_select_and_scatter || node->op == KILN_OP_scatter_with;
        if (!is_chain) continue;
        if (kiln_dtype_in(node->type->items[0]->dtype, KILN_TYPES_FLOAT)) return true;
    }
    return false;
}

static bool is_complex(kiln_dtype dtype)
{
    return kiln_dtype_in(dtype, KILN_TYPES_COMPLEX);
}

/* Functions of complex values that jump at a cut, waves of what came of complex values: on which
 * side, how many waves away a computed value lies, the evaluator's formulas decide in another
 * precision. */
static bool has_cuts(kiln_scope *scope, const kiln_graph *graph)
{
    static const bool jumps[KILN_N_OPS] = {
        [KILN_OP_log] = true,  [KILN_OP_log1p] = true, [KILN_OP_sqrt] = true,
        [KILN_OP_cbrt] = true, [KILN_OP_rsqrt] = true, [KILN_OP_pow] = true,
        [KILN_OP_sign] = true, [KILN_OP_atan2] = true, [KILN_OP_tan] = true,
    };
    static const bool waves[KILN_N_OPS] = {
        [KILN_OP_sin] = true, [KILN_OP_cos] = true, [KILN_OP_tan] = true};
    bool *is_other = kiln_new_array(&scope->arena, bool, graph->nodes.n);
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            uint32_t from = node->inputs[i].id;
            const kiln_node *operand = graph->nodes.at[from];
            bool is_given = kiln_node_row(operand)->class_ == KILN_SOURCE;
            bool is_of_complex = !operand->type->n_items && is_complex(operand->type->dtype);
            if (jumps[node->op] && !is_given && is_of_complex) return true;
            if (waves[node->op] && is_other[from]) return true;
            is_other[id] |= is_of_complex || is_other[from];
        }
    }
    return false;
}

static const kiln_graph *run_pass(kiln_pipeline *pipeline, const kiln_graph *graph,
                                  const char *name)
{
    return kiln_pass_run(pipeline, kiln_pass_find(name, strlen(name)), graph);
}

/* The graph as passes and bounds can follow it. */
static const kiln_graph *write_out(kiln_scope *scope, const fuzz_case *c, fuzz_oracle *oracle)
{
    const kiln_graph *graph = c->graph;
    for (int depth = 0; depth < MAX_DEPTH; depth++) {
        const kiln_graph *next = flatten(scope, graph, c->inputs);
        if (next == graph) break;
        graph = next;
    }
    kiln_pipeline pipeline = {.scope = scope,
                              .context = c->graph->context,
                              .machine = kiln_machine_find("x86-64-v3"),
                              .n_threads = 1,
                              .is_strict = true};
    oracle->has_chains = has_chains(graph);
    oracle->has_cuts = has_cuts(scope, graph);
    bool has_regions = has_class(graph, KILN_REGION), has_strange = has_dtype(graph, is_strange);
    if (has_regions) graph = run_pass(&pipeline, graph, "inline");
    if (has_regions) graph = run_pass(&pipeline, graph, "expand");
    if (has_strange) graph = run_pass(&pipeline, graph, "legalize");
    return graph;
}

/* `n` outputs are the case's own, those behind them decide paths. */
static fuzz_bound bound_of(kiln_scope *scope, const bounds *b, const kiln_graph *graph, uint32_t n)
{
    fuzz_bound out = {.errors = kiln_new_array(&scope->arena, const double *, n + 1)};
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        const double *errors = b->errors[b->map[graph->outputs.at[i].value.id].id];
        if (i < n)
            out.errors[i] = errors;
        else
            out.is_loose |= errors != NULL;
    }
    return out;
}

fuzz_oracle *fuzz_oracle_open(kiln_scope *scope, const fuzz_case *c)
{
    kiln_arena *arena = &scope->arena;
    fuzz_oracle *oracle = kiln_new(arena, fuzz_oracle);
    const kiln_graph *graph = write_out(scope, c, oracle);
    uint32_t n = c->graph->outputs.n;
    kiln_tensor *inputs = kiln_new_array(arena, kiln_tensor, graph->inputs.n + 1);
    for (uint32_t i = 0; i < graph->inputs.n; i++)
        inputs[i] = tensor_of(kiln_graph_type(graph, graph->inputs.at[i]), c->inputs[i].data);
    const bounds *b = bounds_open(scope, graph, inputs, false);
    oracle->bounds = b;
    oracle->free = oracle->strict = bound_of(scope, b, graph, n);
    if (b->has_inverses)
        oracle->strict = bound_of(scope, bounds_open(scope, graph, inputs, true), graph, n);
    oracle->is_complex = has_dtype(c->graph, is_complex);
    oracle->types = kiln_new_array(arena, const kiln_type *, n + 1);
    oracle->values = kiln_new_array(arena, const void *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        kiln_value value = b->map[graph->outputs.at[i].value.id];
        oracle->types[i] = kiln_graph_type(b->graph, value);
        const kiln_type *own = kiln_graph_type(c->graph, c->graph->outputs.at[i].value);
        if (is_small_float(own->dtype)) oracle->types[i] = own; /* all NaNs are one */
        oracle->values[i] = b->values[value.id];
    }
    oracle->evaluated = tensors_new(scope, c->graph);
    kiln_eval(scope, c->graph, c->inputs, oracle->evaluated);
    return oracle;
}
