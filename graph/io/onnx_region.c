/* If, Loop and Scan as regions. A body is imported into a graph of its own; what it reads of the
 * graphs outside becomes a parameter there, or the constant again. The region of the node is then
 * made from that graph, with the parameters in the order of the op. */
#include <string.h>

#include "graph/describe.h"
#include "graph/io/onnx_extent.h"
#include "graph/io/onnx_region.h"

#define MAX_STACKED (1 << 20) /* trips of a loop that may end before */

kiln_onnx_level *kiln_onnx_level_enter(kiln_onnx_call *call, const char *name)
{
    kiln_onnx *onnx = call->onnx;
    kiln_onnx_level *level = kiln_new(&onnx->scope->arena, kiln_onnx_level);
    level->outer = onnx->level;
    level->graph = kiln_graph_open(call->scope, onnx->graph->context, name);
    onnx->level = level;
    onnx->graph = level->graph;
    return level;
}

void kiln_onnx_level_leave(kiln_onnx *onnx, kiln_onnx_level *outer)
{
    onnx->level = outer;
    onnx->graph = outer->graph;
}

static kiln_value parameter_new(kiln_graph *graph, const kiln_type *type)
{
    const char *name = kiln_arena_format(&graph->arena, "p%u", graph->inputs.n);
    return kiln_add_input(graph, kiln_graph_retype(graph, type), name, false);
}

/* A value of the graph around `level` inside it. */
static kiln_value capture(kiln_onnx_call *call, kiln_onnx_level *level, kiln_value value)
{
    kiln_arena *arena = &call->onnx->scope->arena;
    const kiln_node *node = kiln_graph_node(level->outer->graph, value);
    kiln_onnx_capture made = {.outer = value};
    for (uint32_t i = 0; i < level->captures.n; i++) {
        if (level->captures.at[i].outer.id == value.id) return level->captures.at[i].inner;
    }
    if (kiln_onnx_is_scale(call->onnx, value))
        kiln_onnx_refuse(call, "the body reads a value of float8e8m0");
    if (kiln_onnx_extent_find(call, value))
        kiln_onnx_refuse(call, "the body reads a value whose size depends on the data");
    const kiln_type *type = kiln_graph_retype(level->graph, node->type);
    const void *known = node->op == KILN_OP_input || node->op == KILN_OP_constant
                            ? NULL
                            : kiln_onnx_known(call, value);
    if (node->op == KILN_OP_constant) {
        made.inner = kiln_add_literal(level->graph, type, &node->attrs->literal.value);
    } else if (known) {
        made.inner = kiln_add_constant(level->graph, type, known);
    } else {
        made.inner = parameter_new(level->graph, type);
        kiln_vec_push(&level->fixed, arena, value);
    }
    kiln_vec_push(&level->captures, arena, made);
    return made.inner;
}

kiln_value kiln_onnx_capture_value(kiln_onnx_call *call, kiln_value value)
{
    kiln_onnx_level *path[KILN_MAX_NESTING + 1], *level = call->onnx->level;
    uint32_t n = 0;
    if (!value.id || value.graph == KILN_ONNX_SEQUENCE) return value;
    for (; level->outer && level->graph->id != value.graph; level = level->outer) {
        if (n == KILN_MAX_NESTING)
            kiln_fail(call->scope, KILN_LIMIT, "graphs nest deeper than %d; expected less", n);
        path[n++] = level;
    }
    while (n) value = capture(call, path[--n], value);
    return value;
}

/* A body in a graph of its own: parameters of the types given, then captures. */
typedef struct body_graph {
    kiln_onnx_level *level;
    uint32_t n_outputs;
    kiln_value *outputs;
} body_graph;

/* False, with the call tainted, when the body cannot be imported. `inputs` of id 0 become
 * parameters of those types; others are values of the graph around it. */
static bool body_open(kiln_onnx_call *call, const Kiln__Onnx__Graph *body, uint32_t n,
                      const kiln_type *const *types, body_graph *out)
{
    kiln_arena *arena = &call->scope->arena;
    kiln_value *inputs = kiln_new_array(arena, kiln_value, n + 1);
    out->level = kiln_onnx_level_enter(call, body->name ? body->name : "body");
    out->n_outputs = (uint32_t)body->n_output;
    out->outputs = kiln_new_array(arena, kiln_value, body->n_output + 1);
    for (uint32_t i = 0; i < n; i++) {
        bool is_true = types[i] == NULL; /* the condition: within the body it holds */
        inputs[i] = is_true ? kiln_add_splat(out->level->graph, KILN_bool, 0, NULL, 1)
                            : parameter_new(out->level->graph, types[i]);
    }
    kiln_onnx_ports ports = {n, out->n_outputs, inputs, out->outputs};
    bool is_good = kiln_onnx_body(call, body, &ports);
    for (uint32_t i = 0; is_good && i < ports.n_outputs; i++) {
        if (ports.outputs[i].graph == KILN_ONNX_SEQUENCE)
            kiln_onnx_refuse(call, "result %u of the body is a sequence; expected a tensor", i);
        if (kiln_onnx_extent_find(call, ports.outputs[i]))
            kiln_onnx_refuse(call, "result %u of the body has a size that depends on the data", i);
    }
    kiln_onnx_level_leave(call->onnx, out->level->outer);
    return is_good;
}

static const kiln_type *output_type(const body_graph *body, uint32_t i)
{
    return kiln_graph_type(body->level->graph, body->outputs[i]);
}

/* What the body computes from `args` in another graph. */
static kiln_value *body_put(kiln_onnx_call *call, body_graph *body, kiln_graph *graph,
                            const kiln_value *args)
{
    kiln_graph *source = body->level->graph;
    kiln_value *results = kiln_new_array(&call->scope->arena, kiln_value, body->n_outputs + 1);
    while (source->outputs.n < body->n_outputs)
        kiln_add_output(source, body->outputs[source->outputs.n], NULL);
    kiln_graph_inline(graph, source, args, results);
    kiln_arena_adopt(&graph->arena, &source->arena); /* large constants lie there */
    return results;
}

typedef struct node_maker {
    kiln_onnx_call *call;
    kiln_vec(kiln_value) inputs;
    kiln_vec(const kiln_graph *) regions;
} node_maker;

static void add_input(node_maker *make, kiln_value value)
{
    kiln_vec_push(&make->inputs, &make->call->scope->arena, value);
}

/* A graph with a parameter for every operand from `first` on. */
static kiln_graph *region_open(const node_maker *make, uint32_t first, const char *name)
{
    const kiln_graph *outer = make->call->graph;
    kiln_graph *graph = kiln_graph_open(make->call->scope, outer->context, name);
    for (uint32_t i = first; i < make->inputs.n; i++)
        parameter_new(graph, kiln_graph_type(outer, make->inputs.at[i]));
    return graph;
}

static void region_close(node_maker *make, kiln_graph *graph)
{
    kiln_region_close(make->call->scope, graph);
    kiln_vec_push(&make->regions, &make->call->scope->arena, graph);
}

static kiln_value finish(const node_maker *make, kiln_op op, const kiln_attrs *attrs)
{
    kiln_node_spec spec = {op, NULL, make->inputs.at, make->inputs.n, attrs, NULL};
    return kiln_graph_add(make->call->graph, &spec);
}

static kiln_regions regions_of(const node_maker *make)
{
    return (kiln_regions){make->regions.n, make->regions.at};
}

/* Where an operand stands among the fixed ones, which start at `first`; adds it. */
static uint32_t fixed_position(node_maker *make, uint32_t first, kiln_value value)
{
    for (uint32_t i = first; i < make->inputs.n; i++) {
        if (make->inputs.at[i].id == value.id) return i - first;
    }
    add_input(make, value);
    return make->inputs.n - 1 - first;
}

kiln_value kiln_onnx_if_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *const *bodies)
{
    node_maker make = {.call = call};
    body_graph branches[2];
    uint32_t *positions[2];
    for (uint32_t i = 0; i < 2; i++) /* then, else */
        if (!body_open(call, bodies[1 - i], 0, NULL, &branches[i])) return (kiln_value){0};
    add_input(&make, kiln_add_reshape(call->graph, call->inputs[0], 0, NULL));
    for (uint32_t i = 0; i < 2; i++) {
        const kiln_onnx_level *level = branches[i].level;
        positions[i] = kiln_new_array(&call->scope->arena, uint32_t, level->fixed.n + 1);
        for (uint32_t k = 0; k < level->fixed.n; k++)
            positions[i][k] = fixed_position(&make, 1, level->fixed.at[k]);
    }
    for (uint32_t k = 0; k < call->n_outputs; k++) {
        if (branches[0].n_outputs != call->n_outputs || branches[1].n_outputs != call->n_outputs)
            kiln_onnx_fail(call, "the branches have %u and %u outputs; expected %u",
                           branches[0].n_outputs, branches[1].n_outputs, call->n_outputs);
        if (!kiln_type_equal(output_type(&branches[0], k), output_type(&branches[1], k)))
            kiln_onnx_refuse(call, "output %u has another type in each branch", k);
    }
    for (uint32_t i = 0; i < 2; i++) {
        kiln_graph *graph = region_open(&make, 1, i ? "else" : "then");
        const kiln_onnx_level *level = branches[i].level;
        kiln_value *args = kiln_new_array(&call->scope->arena, kiln_value, level->fixed.n + 1);
        for (uint32_t k = 0; k < level->fixed.n; k++) args[k] = graph->inputs.at[positions[i][k]];
        kiln_value *results = body_put(call, &branches[i], graph, args);
        for (uint32_t k = 0; k < call->n_outputs; k++) kiln_add_output(graph, results[k], NULL);
        region_close(&make, graph);
    }
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {regions_of(&make)}};
    kiln_value tuple = finish(&make, KILN_OP_if, &attrs);
    for (uint32_t k = 0; k < call->n_outputs; k++)
        call->outputs[k] = kiln_add_item(call->graph, tuple, k);
    return call->outputs[0];
}

/* Loops: parameters of the body are the number of the trip, the carried values, captures. */

static void check_carried(kiln_onnx_call *call, const body_graph *body, uint32_t n_carried,
                          uint32_t n_fixed_inputs, uint32_t n_fixed_outputs)
{
    for (uint32_t i = 0; i < n_carried; i++) {
        const kiln_type *before = kiln_onnx_type(call, n_fixed_inputs + i);
        const kiln_type *after = output_type(body, n_fixed_outputs + i);
        if (!kiln_type_equal(before, after))
            kiln_onnx_refuse(call,
                             "carried value %u is %s before a trip and %s after it; expected one "
                             "type, or trips whose number is known at import",
                             i, kiln_type_string(&call->scope->arena, before),
                             kiln_type_string(&call->scope->arena, after));
    }
}

static void add_fixed(node_maker *make, const body_graph *body)
{
    for (uint32_t i = 0; i < body->level->fixed.n; i++)
        add_input(make, body->level->fixed.at[i]);
}

/* Room for the rows that scan output `i` of a body collects in at most that many trips. */
static kiln_value stack_new(kiln_onnx_call *call, const body_graph *body, uint32_t i, int64_t trips)
{
    const kiln_type *row = output_type(body, i);
    int64_t dims[KILN_MAX_RANK] = {trips};
    if (row->rank == KILN_MAX_RANK) kiln_onnx_refuse(call, "scan outputs of rank %u", row->rank);
    for (uint32_t k = 0; k < row->rank; k++) dims[k + 1] = row->dims[k];
    return kiln_add_splat(call->graph, row->dtype, row->rank + 1, dims, 0);
}

/* `stack` with `row` as its entry `trip`. */
static kiln_value stack_put(kiln_graph *graph, kiln_value stack, kiln_value row, kiln_value trip)
{
    const kiln_type *type = kiln_graph_type(graph, stack);
    int64_t dims[KILN_MAX_RANK] = {1}, one = 1, rest = type->rank - 1;
    for (uint32_t k = 1; k < type->rank; k++) dims[k] = type->dims[k];
    kiln_value at = kiln_add_reshape(graph, trip, 1, &one);
    kiln_value starts[2] = {at, kiln_add_splat(graph, KILN_i64, 1, &rest, 0)};
    kiln_attrs first = {KILN_FAMILY_axis, .axis = {0}};
    if (rest)
        at = kiln_graph_add(
            graph, &(kiln_node_spec){
                       .op = KILN_OP_concat, .inputs = starts, .n_inputs = 2, .attrs = &first});
    kiln_value inputs[3] = {stack, kiln_add_reshape(graph, row, type->rank, dims), at};
    return kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_dynamic_update, .inputs = inputs, .n_inputs = 3});
}

/* Operands: trip number, condition, carried values, stacks of at most `trips` rows for the scan
 * outputs, most trips, captures. */
static kiln_value loop_while(kiln_onnx_call *call, body_graph *body, uint32_t n_values,
                             int64_t trips)
{
    uint32_t n_stacks = body->n_outputs - 1 - n_values, n_carried = n_values + n_stacks;
    node_maker make = {.call = call};
    kiln_graph *graph = call->graph;
    bool has_most = kiln_onnx_has(call, 0);
    int64_t zero = 0, one = 1;
    const kiln_type *scalar = kiln_graph_tensor(graph, KILN_i64, 0, NULL);
    add_input(&make, kiln_add_constant(graph, scalar, &zero));
    add_input(&make, kiln_onnx_has(call, 1) ? kiln_add_reshape(graph, call->inputs[1], 0, NULL)
                                            : kiln_onnx_scalar(call, KILN_bool, 1));
    for (uint32_t i = 0; i < n_values; i++) add_input(&make, call->inputs[i + 2]);
    for (uint32_t i = n_values; i < n_carried; i++)
        add_input(&make, stack_new(call, body, i + 1, trips));
    if (has_most)
        add_input(&make, kiln_add_reshape(graph, kiln_add_convert(graph, call->inputs[0], KILN_i64),
                                          0, NULL));
    add_fixed(&make, body);
    kiln_graph *condition = region_open(&make, 0, "condition");
    kiln_value is_on = condition->inputs.at[1];
    if (has_most) {
        kiln_value most = condition->inputs.at[n_carried + 2];
        kiln_value left = kiln_add_binary(condition, KILN_OP_lt, condition->inputs.at[0], most);
        is_on = kiln_add_binary(condition, KILN_OP_and, is_on, left);
    }
    kiln_add_output(condition, is_on, NULL);
    region_close(&make, condition);
    kiln_graph *region = region_open(&make, 0, "body");
    uint32_t n_fixed = body->level->fixed.n, first = make.inputs.n - n_fixed;
    kiln_value *args = kiln_new_array(&call->scope->arena, kiln_value, make.inputs.n + 1);
    args[0] = region->inputs.at[0];
    for (uint32_t i = 0; i < n_values; i++) args[i + 1] = region->inputs.at[i + 2];
    for (uint32_t i = 0; i < n_fixed; i++) args[n_values + 1 + i] = region->inputs.at[first + i];
    kiln_value *results = body_put(call, body, region, args);
    const kiln_type *inner = kiln_graph_tensor(region, KILN_i64, 0, NULL);
    kiln_value step = kiln_add_constant(region, inner, &one);
    kiln_add_output(region, kiln_add_binary(region, KILN_OP_add, args[0], step), NULL);
    kiln_add_output(region, kiln_add_reshape(region, results[0], 0, NULL), NULL);
    for (uint32_t i = n_values; i < n_carried; i++)
        results[i + 1] = stack_put(region, region->inputs.at[i + 2], results[i + 1], args[0]);
    for (uint32_t i = 0; i < n_carried; i++) kiln_add_output(region, results[i + 1], NULL);
    region_close(&make, region);
    kiln_attrs attrs = {KILN_FAMILY_loop, .loop = {n_carried + 2, INT32_MAX, regions_of(&make)}};
    return finish(&make, KILN_OP_while, &attrs);
}

/* Operands: carried values, sequences, captures. Parameters of the body: `n_first` slices that come
 * before the carried values, these, the other slices, captures. */
typedef struct scan_shape {
    uint32_t n_carried, n_first, n_slices, skipped; /* results of the body before the carried */
    int64_t length;
    const kiln_value *carried, *sequences;
} scan_shape;

static kiln_value loop_scan(kiln_onnx_call *call, body_graph *body, const scan_shape *shape)
{
    node_maker make = {.call = call};
    uint32_t n_carried = shape->n_carried, n_slices = shape->n_slices, n = 0;
    for (uint32_t i = 0; i < n_carried; i++) add_input(&make, shape->carried[i]);
    for (uint32_t i = 0; i < n_slices; i++) add_input(&make, shape->sequences[i]);
    add_fixed(&make, body);
    kiln_graph *region =
        kiln_graph_open(call->scope, call->graph->context, body->level->graph->name);
    for (uint32_t i = 0; i < make.inputs.n; i++) {
        const kiln_type *type = kiln_graph_type(call->graph, make.inputs.at[i]);
        bool is_slice = i >= n_carried && i < n_carried + n_slices;
        if (is_slice)
            type = kiln_graph_tensor(region, type->dtype, type->rank - 1, type->dims + 1);
        parameter_new(region, type);
    }
    const kiln_value *own = region->inputs.at;
    kiln_value *args = kiln_new_array(&call->scope->arena, kiln_value, make.inputs.n + 1);
    for (uint32_t i = 0; i < shape->n_first; i++) args[n++] = own[n_carried + i];
    for (uint32_t i = 0; i < n_carried; i++) args[n++] = own[i];
    for (uint32_t i = shape->n_first; i < make.inputs.n - n_carried; i++)
        args[n++] = own[n_carried + i];
    kiln_value *results = body_put(call, body, region, args);
    for (uint32_t i = shape->skipped; i < body->n_outputs; i++)
        kiln_add_output(region, results[i], NULL);
    region_close(&make, region);
    kiln_attrs attrs = {KILN_FAMILY_scan,
                        .scan = {n_carried, n_slices, shape->length, regions_of(&make)}};
    return finish(&make, KILN_OP_scan, &attrs);
}

/* Whether the body, imported with the condition true, says so for the next trip as well. */
static bool stays_on(kiln_onnx_call *call, const body_graph *body)
{
    kiln_onnx_level *level = call->onnx->level;
    kiln_onnx_level_leave(call->onnx, body->level); /* to ask there */
    const void *known = kiln_onnx_known(call, body->outputs[0]);
    bool is_on = known && kiln_onnx_int_at(KILN_bool, known, 0);
    kiln_onnx_level_leave(call->onnx, level);
    if (!is_on || !kiln_onnx_has(call, 1)) return is_on;
    known = kiln_onnx_known(call, call->inputs[1]);
    return known && kiln_onnx_int_at(KILN_bool, known, 0);
}

kiln_value kiln_onnx_loop_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *source,
                                 int64_t trips)
{
    kiln_graph *graph = call->graph;
    uint32_t n_carried = call->n_inputs > 2 ? call->n_inputs - 2 : 0;
    const kiln_type **types =
        kiln_new_array(&call->scope->arena, const kiln_type *, n_carried + 2);
    body_graph body;
    types[0] = kiln_graph_tensor(graph, KILN_i64, 0, NULL);
    for (uint32_t i = 0; i < n_carried; i++) {
        if (call->inputs[i + 2].graph == KILN_ONNX_SEQUENCE)
            kiln_onnx_refuse(call,
                             "carried value %u is a sequence; expected trips whose number is known "
                             "at import",
                             i);
        types[i + 2] = kiln_onnx_type(call, i + 2);
    }
    if (!body_open(call, source, n_carried + 2, types, &body)) return (kiln_value){0};
    check_carried(call, &body, n_carried, 2, 1);
    if (output_type(&body, 0)->dtype != KILN_bool || output_type(&body, 0)->n_elements != 1)
        kiln_onnx_fail(call, "the body's condition is no bool; expected one");
    bool has_rows = call->n_outputs > n_carried, is_scan = false;
    if (trips >= 0 && trips <= INT32_MAX) is_scan = stays_on(call, &body);
    if (has_rows && !is_scan && (trips < 1 || trips > MAX_STACKED))
        kiln_onnx_refuse(call, "scan outputs of a loop without a known limit of trips up to %d",
                         MAX_STACKED);
    if (!has_rows) body.n_outputs = n_carried + 1;
    if (!is_scan) {
        kiln_value tuple = loop_while(call, &body, n_carried, trips);
        for (uint32_t i = 0; i < call->n_outputs; i++) {
            call->outputs[i] = kiln_add_item(graph, tuple, i + 2);
            if (i >= n_carried)
                kiln_onnx_extent_set(call, call->outputs[i], 0, kiln_add_item(graph, tuple, 0));
        }
        return call->outputs[0];
    }
    kiln_value numbers = kiln_onnx_iota(call, KILN_i64, 1, &trips, 0);
    scan_shape shape = {n_carried, 1, 1, 1, trips, call->inputs + 2, &numbers};
    kiln_value tuple = loop_scan(call, &body, &shape);
    for (uint32_t i = 0; i < call->n_outputs; i++)
        if (kiln_onnx_wants(call, i)) call->outputs[i] = kiln_add_item(graph, tuple, i);
    return call->outputs[0];
}

/* Axis `from` moved to `to`. */
static kiln_value move_axis(kiln_onnx_call *call, kiln_value value, uint32_t from, uint32_t to)
{
    uint32_t rank = kiln_graph_type(call->graph, value)->rank;
    int64_t permutation[KILN_MAX_RANK];
    uint32_t next = 0;
    for (uint32_t i = 0; i < rank; i++) {
        if (next == from) next++;
        permutation[i] = i == to ? from : next++;
    }
    return kiln_add_transpose(call->graph, value, permutation);
}

static kiln_value turn(kiln_onnx_call *call, kiln_value value, bool is_reversed)
{
    int64_t axis = 0;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{1, &axis}}};
    kiln_node_spec spec = {KILN_OP_reverse, NULL, &value, 1, &attrs, NULL};
    return is_reversed ? kiln_graph_add(call->graph, &spec) : value;
}

kiln_value kiln_onnx_scan_region(kiln_onnx_call *call, const Kiln__Onnx__Graph *source,
                                 uint32_t n_scan)
{
    kiln_arena *arena = &call->scope->arena;
    uint32_t n_carried = call->n_inputs - n_scan;
    kiln_value *sequences = kiln_new_array(arena, kiln_value, n_scan + 1);
    const kiln_type **types = kiln_new_array(arena, const kiln_type *, call->n_inputs + 1);
    body_graph body;
    int64_t length = 0;
    for (uint32_t i = 0; i < n_carried; i++) types[i] = kiln_onnx_type(call, i);
    for (uint32_t i = 0; i < n_scan; i++) {
        uint32_t rank = kiln_onnx_ranked(call, n_carried + i, 1)->rank;
        int64_t axis = kiln_onnx_list_entry(call, "scan_input_axes", i);
        kiln_value moved = move_axis(call, call->inputs[n_carried + i],
                                     kiln_onnx_axis(call, axis, rank), 0);
        sequences[i] = turn(call, moved, kiln_onnx_scan_is_back(call, i));
        const kiln_type *type = kiln_graph_type(call->graph, moved);
        if (i && type->dims[0] != length)
            kiln_onnx_fail(call, "scan input %u has length %lld; expected %lld", i,
                           (long long)type->dims[0], (long long)length);
        length = type->dims[0];
        types[n_carried + i] =
            kiln_graph_tensor(call->graph, type->dtype, rank - 1, type->dims + 1);
    }
    if (!body_open(call, source, call->n_inputs, types, &body)) return (kiln_value){0};
    check_carried(call, &body, n_carried, 0, 0);
    scan_shape shape = {n_carried, 0, n_scan, 0, length, call->inputs, sequences};
    kiln_value tuple = loop_scan(call, &body, &shape);
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        kiln_value item = kiln_add_item(call->graph, tuple, i);
        call->outputs[i] = item;
        if (i < n_carried) continue;
        uint32_t k = i - n_carried, rank = kiln_graph_type(call->graph, item)->rank;
        int64_t axis = kiln_onnx_list_entry(call, "scan_output_axes", k);
        item = turn(call, item, kiln_onnx_list_entry(call, "scan_output_directions", k) != 0);
        call->outputs[i] = move_axis(call, item, 0, kiln_onnx_axis(call, axis, rank));
    }
    return call->outputs[0];
}
