/* From regions to graphs that a program can run: a branch without the results that nobody reads, a
 * condition that also counts the trips, a body that takes its slices by the number of the trip. */
#include "codegen/part.h"

#include "graph/attrs.h"

typedef struct maker {
    kiln_graph *graph;
    const kiln_node *node;
    uint32_t n_inputs;
} maker;

static kiln_value input_new(maker *make, const kiln_type *type, bool is_donated)
{
    const char *name = kiln_arena_format(&make->graph->arena, "p%u", make->n_inputs++);
    return kiln_add_input(make->graph, kiln_graph_retype(make->graph, type), name, is_donated);
}

static kiln_value trip_new(maker *make)
{
    return input_new(make, kiln_graph_tensor(make->graph, KILN_i64, 0, NULL), false);
}

/* The region's parameters; the first n_donated may be written over. */
static kiln_value *parameters(maker *make, const kiln_graph *region, uint32_t n_donated)
{
    kiln_value *values =
        kiln_new_array(&make->graph->scope->arena, kiln_value, region->inputs.n + 1);
    for (uint32_t i = 0; i < region->inputs.n; i++)
        values[i] =
            input_new(make, kiln_graph_type(region, region->inputs.at[i]), i < n_donated);
    return values;
}

static kiln_value *results_of(maker *make, const kiln_graph *region, const kiln_value *values)
{
    kiln_value *results =
        kiln_new_array(&make->graph->scope->arena, kiln_value, region->outputs.n);
    kiln_graph_inline(make->graph, region, values, results);
    return results;
}

static void branch_graph(maker *make, const kiln_graph *region, const bool *is_read)
{
    kiln_value *results = results_of(make, region, parameters(make, region, 0));
    for (uint32_t i = 0; i < region->outputs.n; i++)
        if (is_read[i]) kiln_add_output(make->graph, results[i], NULL);
}

static void chooser_graph(maker *make, const kiln_graph *from)
{
    kiln_graph *graph = make->graph;
    kiln_value index = input_new(make, kiln_graph_type(from, make->node->inputs[0]), false);
    uint32_t n = kiln_attrs_regions(make->node->attrs).n;
    for (uint32_t i = 0; i + 1 < n; i++) {
        kiln_value number = kiln_add_splat_like(graph, index, i);
        kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_eq, index, number), NULL);
    }
}

static kiln_value long_scalar(kiln_graph *graph, int64_t value)
{
    return kiln_add_constant(graph, kiln_graph_tensor(graph, KILN_i64, 0, NULL), &value);
}

static kiln_value next_trip(kiln_graph *graph, kiln_value trip)
{
    return kiln_add_binary(graph, KILN_OP_add, trip, long_scalar(graph, 1));
}

static void condition_graph(maker *make)
{
    kiln_graph *graph = make->graph;
    const kiln_graph *region = make->node->attrs->loop.regions.at[0];
    kiln_value *values = parameters(make, region, 0), trip = trip_new(make);
    kiln_value is_on = results_of(make, region, values)[0];
    kiln_value limit = long_scalar(graph, make->node->attrs->loop.limit);
    kiln_value is_late = kiln_add_binary(graph, KILN_OP_ge, trip, limit);
    kiln_value over = kiln_add_binary(graph, KILN_OP_and, is_on, is_late);
    kiln_add_output(graph, kiln_add_unary(graph, KILN_OP_not, is_on), NULL);
    kiln_add_output(graph, kiln_add_convert(graph, over, KILN_i64), NULL);
    kiln_add_output(graph, next_trip(graph, trip), NULL);
}

static void while_graph(maker *make)
{
    const kiln_graph *region = make->node->attrs->loop.regions.at[1];
    uint32_t n_carried = (uint32_t)make->node->attrs->loop.n_carried;
    kiln_value *results = results_of(make, region, parameters(make, region, n_carried));
    for (uint32_t i = 0; i < n_carried; i++) kiln_add_output(make->graph, results[i], NULL);
}

static void clock_graph(maker *make)
{
    kiln_graph *graph = make->graph;
    kiln_value trip = trip_new(make);
    kiln_value length = long_scalar(graph, make->node->attrs->scan.length);
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_ge, trip, length), NULL);
    kiln_add_output(graph, next_trip(graph, trip), NULL);
}

/* Row `trip` of a sequence. */
static kiln_value slice_at(kiln_graph *graph, kiln_value sequence, kiln_value trip)
{
    const kiln_type *type = kiln_graph_type(graph, sequence);
    int64_t one = 1, n_rest = (int64_t)type->rank - 1, sizes[KILN_MAX_RANK] = {1};
    for (uint32_t i = 1; i < type->rank; i++) sizes[i] = type->dims[i];
    kiln_value starts = kiln_add_reshape(graph, trip, 1, &one);
    if (n_rest) {
        kiln_value parts[] = {starts, kiln_add_splat(graph, KILN_i64, 1, &n_rest, 0)};
        kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
        starts = kiln_graph_add(graph, &(kiln_node_spec){KILN_OP_concat, NULL, parts, 2, &axis});
    }
    kiln_value operands[] = {sequence, starts};
    kiln_attrs attrs = {KILN_FAMILY_sizes, .sizes = {{type->rank, sizes}}};
    kiln_node_spec spec = {KILN_OP_dynamic_slice, NULL, operands, 2, &attrs, NULL};
    return kiln_add_reshape(graph, kiln_graph_add(graph, &spec), type->rank - 1, type->dims + 1);
}

static void scan_graph(maker *make, const kiln_graph *from, const bool *is_read)
{
    const kiln_node *node = make->node;
    const kiln_graph *region = node->attrs->scan.regions.at[0];
    uint32_t n_carried = (uint32_t)node->attrs->scan.n_carried;
    uint32_t end = n_carried + (uint32_t)node->attrs->scan.n_slices;
    kiln_value *values = kiln_new_array(&make->graph->scope->arena, kiln_value, node->n_inputs + 1);
    for (uint32_t i = 0; i < node->n_inputs; i++)
        values[i] = input_new(make, kiln_graph_type(from, node->inputs[i]), i < n_carried);
    kiln_value trip = trip_new(make);
    for (uint32_t i = n_carried; i < end; i++) values[i] = slice_at(make->graph, values[i], trip);
    kiln_value *results = results_of(make, region, values);
    for (uint32_t i = 0; i < region->outputs.n; i++)
        if (i < n_carried || is_read[i]) kiln_add_output(make->graph, results[i], NULL);
}

uint32_t kiln_part_n_children(const kiln_node *node)
{
    if (node->op == KILN_OP_scan) return 2;
    return kiln_attrs_regions(node->attrs).n + (node->op == KILN_OP_case);
}

const kiln_graph *kiln_part_graph(kiln_scope *scope, const kiln_graph *graph, const kiln_node *node,
                                  uint32_t number, const bool *is_read)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    bool is_extra = number == 0 && (node->op == KILN_OP_case || node->op == KILN_OP_scan);
    const char *name = is_extra ? kiln_node_row(node)->name
                                : regions.at[number - (node->op == KILN_OP_case) -
                                             (node->op == KILN_OP_scan)]->name;
    maker make = {.graph = kiln_graph_open(scope, graph->context, name), .node = node};
    if (node->op == KILN_OP_while && number == 0)
        condition_graph(&make);
    else if (node->op == KILN_OP_while)
        while_graph(&make);
    else if (node->op == KILN_OP_scan && number == 0)
        clock_graph(&make);
    else if (node->op == KILN_OP_scan)
        scan_graph(&make, graph, is_read);
    else if (is_extra)
        chooser_graph(&make, graph);
    else
        branch_graph(&make, regions.at[number - (node->op == KILN_OP_case)], is_read);
    return make.graph;
}
