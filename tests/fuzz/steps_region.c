/* Regions: random graphs as branches and bodies, regions over scalars, functions of the caller's.
 * What decides a path is exact: an integer comparison, a flag, a count of trips. What combines
 * elements is the same in any order. */
#include <string.h>

#include "fuzz/generate.h"
#include "passes/legalize.h"

kiln_value fuzz_items(fuzz_graph *g, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                      const kiln_attrs *attrs)
{
    kiln_value tuple = op_node(&g->batch, op, n_inputs, inputs, attrs), item = tuple;
    for (uint32_t i = 0; i < n_inputs; i++) fuzz_note_use(g, inputs[i]);
    uint32_t n = fuzz_type(g, tuple)->n_items;
    for (uint32_t i = 0; i < n; i++) {
        item = kiln_add_item(g->batch.graph, tuple, i);
        fuzz_note(g, item);
    }
    return item;
}

/* A generator of a region's graph: what it makes is of its parameters and of constants. */
static fuzz_graph *region_open(fuzz_graph *g, const char *name, bool is_scalar)
{
    fuzz_graph *inner = kiln_new(&g->batch.scope->arena, fuzz_graph);
    inner->batch = (op_batch){.name = g->batch.name, .scope = g->batch.scope};
    inner->batch.random = op_random(&g->batch);
    inner->batch.graph = kiln_graph_open(g->batch.scope, NULL, name);
    inner->max_elements = g->max_elements;
    inner->max_work = g->max_work;
    inner->depth = g->depth + 1;
    inner->is_scalar = is_scalar;
    memcpy(inner->sizes, g->sizes, sizeof g->sizes);
    return inner;
}

static kiln_value add_parameter(fuzz_graph *inner, const kiln_type *type)
{
    kiln_graph *graph = inner->batch.graph;
    const char *name = kiln_arena_format(&inner->batch.scope->arena, "p%u", graph->inputs.n);
    kiln_value value = kiln_add_input(graph, kiln_graph_retype(graph, type), name, false);
    fuzz_note(inner, value);
    return value;
}

static const kiln_graph *region_close(fuzz_graph *inner)
{
    kiln_region_close(inner->batch.scope, inner->batch.graph);
    return inner->batch.graph;
}

static void add_random_steps(fuzz_graph *inner)
{
    uint64_t n = 1 + fuzz_below(inner, 3);
    for (uint64_t i = 0; i < n; i++) fuzz_add_step(inner);
}

static kiln_value add_number(fuzz_graph *g, int64_t number)
{
    return kiln_add_constant(g->batch.graph, kiln_graph_tensor(g->batch.graph, KILN_i64, 0, NULL),
                             &number);
}

/* Branches and bodies */

typedef struct body_spec {
    uint32_t n_parameters, n_results;
    const kiln_type *parameters[6], *results[6];
} body_spec;

static const kiln_graph *add_body(fuzz_graph *g, const body_spec *spec)
{
    fuzz_graph *inner = region_open(g, "body", false);
    for (uint32_t i = 0; i < spec->n_parameters; i++) add_parameter(inner, spec->parameters[i]);
    add_random_steps(inner);
    for (uint32_t i = 0; i < spec->n_results; i++) {
        const kiln_type *type = kiln_graph_retype(inner->batch.graph, spec->results[i]);
        kiln_add_output(inner->batch.graph, fuzz_operand(inner, type), NULL);
    }
    return region_close(inner);
}

/* n operands after `first` and what the region makes of them. */
static uint32_t pick_operands(fuzz_graph *g, kiln_value *in, body_spec *spec)
{
    uint32_t n = 1 + (uint32_t)fuzz_below(g, 3);
    for (uint32_t i = 0; i < n; i++) {
        in[i] = fuzz_pick(g);
        spec->parameters[i] = fuzz_type(g, in[i]);
    }
    spec->n_parameters = n;
    spec->n_results = 1 + (uint32_t)fuzz_below(g, 2);
    for (uint32_t i = 0; i < spec->n_results; i++)
        spec->results[i] = spec->parameters[fuzz_below(g, n)];
    return n;
}

static kiln_value add_choice(fuzz_graph *g, bool is_if)
{
    const kiln_type *number = kiln_graph_tensor(g->batch.graph, KILN_i64, 0, NULL);
    kiln_value n = fuzz_small_input(g, KILN_i64, 0, NULL);
    if (!is_if) return n;
    kiln_value flag = fuzz_small_input(g, KILN_bool, 0, NULL);
    kiln_value bound = kiln_add_constant(g->batch.graph, number, &(int64_t){0});
    return fuzz_chance(g, 50) ? flag : kiln_add_binary(g->batch.graph, KILN_OP_lt, n, bound);
}

static bool add_branches(fuzz_graph *g)
{
    body_spec spec = {0};
    kiln_value in[8];
    const kiln_graph *regions[4];
    uint64_t kind = fuzz_below(g, 3);
    uint32_t first = kind > 0, n = pick_operands(g, in + first, &spec);
    uint32_t n_regions = kind == 0 ? 1 : kind == 1 ? 2 : 1 + (uint32_t)fuzz_below(g, 4);
    if (first) in[0] = add_choice(g, kind == 1);
    for (uint32_t i = 0; i < n_regions; i++) regions[i] = add_body(g, &spec);
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {{n_regions, regions}}};
    kiln_op op = (kiln_op[]){KILN_OP_call, KILN_OP_if, KILN_OP_case}[kind];
    fuzz_items(g, op, first + n, in, &attrs);
    return true;
}

/* while trip < most: the trips and one or two values go around, one stays. */
static const kiln_graph *add_condition(fuzz_graph *g, const body_spec *spec, bool is_given)
{
    fuzz_graph *inner = region_open(g, "condition", false);
    kiln_value trip = {0}, last = {0};
    for (uint32_t i = 0; i < spec->n_parameters; i++) {
        last = add_parameter(inner, spec->parameters[i]);
        if (i == 0) trip = last;
    }
    kiln_value most = is_given ? last : add_number(inner, (int64_t)fuzz_below(inner, 5));
    kiln_add_output(inner->batch.graph, kiln_add_binary(inner->batch.graph, KILN_OP_lt, trip, most),
                    NULL);
    return region_close(inner);
}

static bool add_while(fuzz_graph *g)
{
    body_spec spec = {0};
    kiln_value in[6] = {add_number(g, 0)};
    bool is_given = fuzz_chance(g, 50);
    uint32_t n = 1 + pick_operands(g, in + 1, &spec), n_carried = 1 + (uint32_t)fuzz_below(g, n);
    if (is_given) in[n++] = fuzz_small_input(g, KILN_i64, 0, NULL);
    for (uint32_t i = 0; i < n; i++) spec.parameters[i] = fuzz_type(g, in[i]);
    spec.n_parameters = n;
    fuzz_graph *inner = region_open(g, "body", false);
    kiln_value trip = {0};
    for (uint32_t i = 0; i < n; i++) {
        kiln_value value = add_parameter(inner, spec.parameters[i]);
        if (i == 0) trip = value;
    }
    add_random_steps(inner);
    kiln_graph *body = inner->batch.graph;
    kiln_add_output(body, kiln_add_binary(body, KILN_OP_add, trip, add_number(inner, 1)), NULL);
    for (uint32_t i = 1; i < n_carried; i++)
        kiln_add_output(body, fuzz_operand(inner, kiln_graph_retype(body, spec.parameters[i])),
                        NULL);
    const kiln_graph *regions[] = {add_condition(g, &spec, is_given), region_close(inner)};
    kiln_attrs attrs = {KILN_FAMILY_loop, .loop = {n_carried, 100, {2, regions}}};
    fuzz_items(g, KILN_OP_while, n, in, &attrs);
    return true;
}

static bool add_scan(fuzz_graph *g)
{
    body_spec spec = {0};
    kiln_value in[4];
    uint32_t n = pick_operands(g, in, &spec), n_carried = (uint32_t)fuzz_below(g, n), n_slices = 1;
    const kiln_type *rows = spec.parameters[n_carried];
    if (rows->rank == 0 || rows->dims[0] > 24) return false;
    for (uint32_t i = 0; i < n; i++) {
        bool is_packed = kiln_dtype_bits(spec.parameters[i]->dtype) < 8;
        if (is_packed || fuzz_type(g, in[i])->n_elements > 3000) return false;
    }
    int64_t length = rows->dims[0];
    spec.parameters[n_carried] =
        kiln_graph_tensor(g->batch.graph, rows->dtype, rows->rank - 1, rows->dims + 1);
    spec.n_results = n_carried + (uint32_t)fuzz_below(g, 3);
    if (spec.n_results == 0) spec.n_results = 1;
    for (uint32_t i = 0; i < spec.n_results; i++)
        spec.results[i] = spec.parameters[i < n_carried ? i : fuzz_below(g, n)];
    for (uint32_t i = n_carried; i < spec.n_results; i++) {
        if (spec.results[i]->n_elements * length > g->max_elements) return false;
        if (spec.results[i]->rank > 4) return false;
    }
    const kiln_graph *region = add_body(g, &spec);
    kiln_attrs attrs = {KILN_FAMILY_scan, .scan = {n_carried, n_slices, length, {1, &region}}};
    fuzz_items(g, KILN_OP_scan, n, in, &attrs);
    return true;
}

bool fuzz_step_region(fuzz_graph *g)
{
    if (g->depth >= 2) return false;
    uint64_t kind = fuzz_below(g, 10);
    if (kind < 5) return add_branches(g);
    return kind < 8 ? add_while(g) : add_scan(g);
}

/* Scalars */

/* (a, b) -> a op b; with two dtypes (a, i), (b, j) -> the larger a with its i, the least of equal
 * ones. */
const kiln_graph *fuzz_combination(fuzz_graph *g, uint32_t n, const kiln_dtype *dtypes)
{
    fuzz_graph *inner = region_open(g, "combine", true);
    kiln_graph *graph = inner->batch.graph;
    kiln_value in[4];
    for (uint32_t i = 0; i < 2 * n; i++)
        in[i] = add_parameter(inner, kiln_graph_tensor(graph, dtypes[i % n], 0, NULL));
    if (n == 1) {
        bool is_number = kiln_dtype_in(dtypes[0], KILN_TYPES_NUMBER);
        kiln_op op = is_number ? (kiln_op[]){KILN_OP_add, KILN_OP_mul, KILN_OP_max,
                                             KILN_OP_min}[fuzz_below(g, 4)]
                               : (kiln_op[]){KILN_OP_and, KILN_OP_or}[fuzz_below(g, 2)];
        kiln_add_output(graph, kiln_add_binary(graph, op, in[0], in[1]), NULL);
        return region_close(inner);
    }
    kiln_value more = kiln_add_binary(graph, KILN_OP_gt, in[0], in[2]);
    kiln_value same = kiln_add_binary(graph, KILN_OP_eq, in[0], in[2]);
    kiln_value first = kiln_add_binary(graph, KILN_OP_le, in[1], in[3]);
    same = kiln_add_binary(graph, KILN_OP_and, same, first);
    kiln_value keep = kiln_add_binary(graph, KILN_OP_or, more, same);
    for (uint32_t i = 0; i < 2; i++) {
        kiln_value choice[] = {keep, in[i], in[2 + i]};
        kiln_add_output(graph, op_node(&inner->batch, KILN_OP_select, 3, choice, NULL), NULL);
    }
    return region_close(inner);
}

static bool add_map(fuzz_graph *g)
{
    kiln_value in[3] = {fuzz_pick_in(g, KILN_TYPES_ORDERED)};
    const kiln_type *type = fuzz_type(g, in[0]);
    if (kiln_dtype_bits(type->dtype) < 8) return false;
    uint32_t n = 1 + (uint32_t)fuzz_below(g, 3);
    fuzz_graph *inner = region_open(g, "each", true);
    for (uint32_t i = 0; i < n; i++) {
        if (i) in[i] = fuzz_operand(g, type);
        add_parameter(inner, kiln_graph_tensor(inner->batch.graph, type->dtype, 0, NULL));
    }
    add_random_steps(inner);
    kiln_add_output(inner->batch.graph, inner->values.at[inner->values.n - 1], NULL);
    const kiln_graph *region = region_close(inner);
    kiln_attrs attrs = {KILN_FAMILY_regions, .regions = {{1, &region}}};
    fuzz_items(g, KILN_OP_map, n, in, &attrs);
    return true;
}

/* The neutral element of (a, i) pairs is below all numbers that inputs have. */
static bool add_reduce(fuzz_graph *g)
{
    kiln_graph *graph = g->batch.graph;
    bool is_pair = fuzz_chance(g, 30);
    kiln_value x = fuzz_pick_in(g, is_pair ? KILN_TYPES_INTEGER : KILN_TYPES_ORDERED), in[4] = {x};
    const kiln_type *type = fuzz_type(g, x);
    int64_t axes[KILN_MAX_RANK];
    if (type->rank == 0 || kiln_dtype_bits(type->dtype) < 8) return false;
    uint32_t n = is_pair ? 2 : 1, n_axes = fuzz_axes(g, type->rank, axes);
    kiln_dtype dtypes[] = {type->dtype, KILN_i64};
    if (is_pair) {
        kiln_attrs axis = {KILN_FAMILY_axis, .axis = {axes[0]}};
        const kiln_type *index = kiln_graph_tensor(graph, KILN_i64, type->rank, type->dims);
        in[1] = op_node_given(&g->batch, KILN_OP_iota, index, (kiln_value){0}, &axis);
    }
    for (uint32_t i = 0; i < n; i++) in[n + i] = fuzz_small_input(g, dtypes[i], 0, NULL);
    const kiln_graph *region = fuzz_combination(g, n, dtypes);
    kiln_attrs attrs = {KILN_FAMILY_reduce, .reduce = {{n_axes, axes}, {1, &region}}};
    fuzz_items(g, KILN_OP_reduce, 2 * n, in, &attrs);
    return true;
}

static const kiln_graph *add_selection(fuzz_graph *g, kiln_dtype dtype)
{
    fuzz_graph *inner = region_open(g, "select", true);
    kiln_graph *graph = inner->batch.graph;
    const kiln_type *scalar = kiln_graph_tensor(graph, dtype, 0, NULL);
    kiln_value a = add_parameter(inner, scalar), b = add_parameter(inner, scalar);
    kiln_op op = fuzz_chance(g, 50) ? KILN_OP_ge : KILN_OP_le;
    kiln_add_output(graph, kiln_add_binary(graph, op, a, b), NULL);
    return region_close(inner);
}

static bool add_windows(fuzz_graph *g)
{
    kiln_value x = fuzz_pick_in(g, KILN_TYPES_NUMBER);
    const kiln_type *type = fuzz_type(g, x);
    fuzz_window window;
    if (kiln_dtype_bits(type->dtype) < 8 || !fuzz_pick_window(g, type, &window)) return false;
    kiln_dtype dtype = type->dtype;
    const kiln_graph *regions[2];
    kiln_attrs attrs = {.family = KILN_FAMILY_reduce_window};
    attrs.window = window.attrs.window; /* its first fields are the same */
    kiln_value start = fuzz_small_input(g, dtype, 0, NULL);
    if (fuzz_chance(g, 50)) {
        regions[0] = fuzz_combination(g, 1, &dtype);
        attrs.reduce_window.regions = (kiln_regions){1, regions};
        fuzz_items(g, KILN_OP_reduce_window, 2, (kiln_value[]){x, start}, &attrs);
        return true;
    }
    regions[0] = add_selection(g, dtype);
    regions[1] = fuzz_combination(g, 1, &dtype);
    attrs.reduce_window.regions = (kiln_regions){2, regions};
    kiln_value probe = op_node(&g->batch, KILN_OP_window_max, 1, &x, &window.attrs);
    kiln_value in[] = {x, fuzz_operand(g, fuzz_type(g, probe)), start};
    fuzz_items(g, KILN_OP_select_and_scatter, 3, in, &attrs);
    return true;
}

/* By an integer key, up or down; the other operands go along. */
static bool add_sort(fuzz_graph *g)
{
    kiln_value in[3] = {fuzz_pick_in(g, KILN_TYPES_INTEGER)};
    const kiln_type *type = fuzz_type(g, in[0]);
    if (type->rank == 0 || kiln_dtype_bits(type->dtype) < 8) return false;
    for (uint32_t i = 0; i < type->rank; i++) /* the evaluator compares every pair of a line */
        if (type->n_elements * type->dims[i] > 2000000) return false;
    uint32_t n = 1 + (uint32_t)fuzz_below(g, 3);
    fuzz_graph *inner = region_open(g, "before", true);
    kiln_graph *graph = inner->batch.graph;
    kiln_value keys[2] = {{0}};
    for (uint32_t i = 0; i < n; i++) {
        kiln_dtype dtype = i ? KILN_f32 : type->dtype;
        if (i)
            in[i] =
                fuzz_operand(g, kiln_graph_tensor(g->batch.graph, dtype, type->rank, type->dims));
        for (uint32_t side = 0; side < 2; side++) {
            kiln_value p = add_parameter(inner, kiln_graph_tensor(graph, dtype, 0, NULL));
            if (i == 0) keys[side] = p;
        }
    }
    kiln_op op = fuzz_chance(g, 50) ? KILN_OP_lt : KILN_OP_gt;
    kiln_add_output(graph, kiln_add_binary(graph, op, keys[0], keys[1]), NULL);
    const kiln_graph *region = region_close(inner);
    kiln_attrs attrs = {KILN_FAMILY_sort_by,
                        .sort_by = {(int64_t)fuzz_below(g, type->rank), {1, &region}}};
    fuzz_items(g, KILN_OP_sort_by, n, in, &attrs);
    return true;
}

bool fuzz_step_scalar_region(fuzz_graph *g)
{
    switch (fuzz_below(g, 4)) {
    case 0:
        return add_map(g);
    case 1:
        return add_reduce(g);
    case 2:
        return add_windows(g);
    default:
        return add_sort(g);
    }
}

/* A function that the checker registers: its operand from the last element to the first. */
bool fuzz_step_custom(fuzz_graph *g)
{
    kiln_value x = fuzz_pick(g);
    const kiln_type *type = fuzz_type(g, x);
    if (g->depth || !kiln_dtype_is_legal(type->dtype)) return false;
    kiln_node_spec spec = {.op = KILN_OP_custom_call, .inputs = &x, .n_inputs = 1};
    kiln_attrs attrs = {KILN_FAMILY_custom, .custom = {FUZZ_CUSTOM}};
    spec.given = kiln_graph_tuple(g->batch.graph, 1, &type);
    spec.attrs = &attrs;
    kiln_value tuple = kiln_graph_add(g->batch.graph, &spec);
    fuzz_note_use(g, x);
    fuzz_note(g, kiln_add_item(g->batch.graph, tuple, 0));
    return true;
}
