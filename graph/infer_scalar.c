/* Type rules of regions over scalars: what they hold, how many parameters they take of which
 * dtypes, and the dims that come out. */
#include "graph/describe.h"
#include "graph/element.h"
#include "graph/infer.h"

static const char *region_string(const kiln_infer_call *call, const kiln_graph *region)
{
    return kiln_quoted(&call->graph->scope->arena, region->name);
}

/* Scalars only, of operations that mean the same at every index of a tensor. */
static void check_nodes(const kiln_infer_call *call, const kiln_graph *region)
{
    for (uint32_t id = 1; id < region->nodes.n; id++) {
        const kiln_node *node = region->nodes.at[id];
        kiln_class class_ = kiln_node_row(node)->class_;
        bool is_source = node->op == KILN_OP_input || node->op == KILN_OP_constant;
        bool is_good = is_source || class_ == KILN_ELEMENTWISE || class_ == KILN_COMPOSITE ||
                       class_ == KILN_VIEW;
        bool is_scalar = !node->type->n_items && node->type->rank == 0;
        if (is_good && is_scalar && kiln_dtype_bits(node->type->dtype) >= 8) continue;
        kiln_infer_fail(call,
                        "region %s holds %s of %s; expected elementwise operations of scalars",
                        region_string(call, region), kiln_node_row(node)->name,
                        kiln_type_string(&call->graph->scope->arena, node->type));
    }
    if (region->checks.n)
        kiln_infer_fail(call, "region %s has checks; expected none", region_string(call, region));
}

/* Parameter i has the dtype of types[i / each % n]; results those of the first ones, or bool. */
typedef struct scalar_rule {
    uint32_t n_parameters, n_types, each, n_results;
    bool is_condition;
} scalar_rule;

static void check_parameters(const kiln_infer_call *call, const kiln_graph *region,
                             const kiln_type *const *types, const scalar_rule *rule)
{
    check_nodes(call, region);
    if (region->inputs.n != rule->n_parameters || region->outputs.n != rule->n_results)
        kiln_infer_fail(call, "region %s has %u parameters and %u results; expected %u and %u",
                        region_string(call, region), region->inputs.n, region->outputs.n,
                        rule->n_parameters, rule->n_results);
    for (uint32_t i = 0; i < rule->n_parameters; i++) {
        kiln_dtype found = kiln_graph_type(region, region->inputs.at[i])->dtype;
        kiln_dtype wanted = types[i / rule->each % rule->n_types]->dtype;
        if (found != wanted)
            kiln_infer_fail(call, "parameter %u of region %s is %s; expected %s", i,
                            region_string(call, region), kiln_dtype_name(found),
                            kiln_dtype_name(wanted));
    }
}

static void check_region(const kiln_infer_call *call, const kiln_graph *region,
                         const kiln_type *const *types, const scalar_rule *rule)
{
    check_parameters(call, region, types, rule);
    for (uint32_t i = 0; i < rule->n_results; i++) {
        kiln_dtype found = kiln_graph_type(region, region->outputs.at[i].value)->dtype;
        kiln_dtype wanted = rule->is_condition ? KILN_bool : types[i]->dtype;
        if (found != wanted)
            kiln_infer_fail(call, "result %u of region %s is %s; expected %s", i,
                            region_string(call, region), kiln_dtype_name(found),
                            kiln_dtype_name(wanted));
    }
}

static bool has_same_dims(const kiln_type *a, const kiln_type *b)
{
    kiln_type like = *b;
    like.dtype = a->dtype;
    return kiln_type_equal(a, &like);
}

static void check_equal_dims(const kiln_infer_call *call, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (!has_same_dims(call->types[0], call->types[i]))
            kiln_infer_fail(call, "operands are %s; expected equal dims",
                            kiln_infer_types_string(call));
    }
}

/* A tuple of tensors with the dims of `like` and the dtypes given. */
static const kiln_type *tuple_like(const kiln_infer_call *call, const kiln_type *like, uint32_t n,
                                   const kiln_type *const *dtypes)
{
    const kiln_type **items = kiln_new_array(&call->graph->scope->arena, const kiln_type *, n);
    for (uint32_t i = 0; i < n; i++)
        items[i] = kiln_graph_tensor(call->graph, dtypes[i]->dtype, like->rank, like->dims);
    return kiln_graph_tuple(call->graph, n, items);
}

const kiln_type *kiln_infer_map(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->regions.regions;
    kiln_infer_regions(call, regions, 1, 1);
    check_equal_dims(call, call->n);
    const kiln_graph *region = regions.at[0];
    uint32_t n = region->outputs.n;
    check_parameters(call, region, call->types, &(scalar_rule){call->n, call->n, 1, n, false});
    const kiln_type **results = kiln_new_array(&call->graph->scope->arena, const kiln_type *, n);
    for (uint32_t i = 0; i < n; i++)
        results[i] = kiln_graph_type(region, region->outputs.at[i].value);
    return tuple_like(call, call->types[0], n, results);
}

/* Values of equal dims, then as many scalars of their dtypes. */
static uint32_t check_halves(const kiln_infer_call *call)
{
    uint32_t n = call->n / 2;
    bool fits = n > 0 && call->n == 2 * n;
    for (uint32_t i = 0; fits && i < n; i++) {
        const kiln_type *initial = call->types[n + i];
        fits = initial->rank == 0 && initial->dtype == call->types[i]->dtype;
    }
    if (!fits)
        kiln_infer_fail(call, "operands are %s; expected values, then a scalar of each dtype",
                        kiln_infer_types_string(call));
    check_equal_dims(call, n);
    return n;
}

const kiln_type *kiln_infer_reduce(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->reduce.regions;
    kiln_ints axes = call->attrs->reduce.axes;
    const kiln_type *type = call->types[0];
    kiln_infer_regions(call, regions, 1, 1);
    uint32_t n = check_halves(call), rank = 0;
    kiln_infer_axes(call, "axes", axes, type->rank, true);
    check_region(call, regions.at[0], call->types, &(scalar_rule){2 * n, n, 1, n, false});
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t axis = 0, dropped = 0; axis < type->rank; axis++) {
        if (dropped < axes.n && axes.at[dropped] == axis)
            dropped++;
        else
            dims[rank++] = type->dims[axis];
    }
    const kiln_type *like = kiln_graph_tensor(call->graph, type->dtype, rank, dims);
    return tuple_like(call, like, n, call->types);
}

/* `reduce_window` begins with the fields of `window`. */
static const kiln_type *window_type(const kiln_infer_call *call)
{
    kiln_infer_call window = *call;
    window.n = 1;
    return kiln_infer_window(&window);
}

const kiln_type *kiln_infer_reduce_window(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->reduce_window.regions;
    kiln_infer_regions(call, regions, 1, 1);
    uint32_t n = check_halves(call);
    check_region(call, regions.at[0], call->types, &(scalar_rule){2 * n, n, 1, n, false});
    return tuple_like(call, window_type(call), n, call->types);
}

const kiln_type *kiln_infer_select_and_scatter(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->reduce_window.regions;
    kiln_infer_regions(call, regions, 2, 2);
    const kiln_type *type = call->types[0], *window = window_type(call);
    bool fits = kiln_type_equal(call->types[1], window) && call->types[2]->rank == 0 &&
                call->types[2]->dtype == type->dtype;
    if (!fits)
        kiln_infer_fail(call, "operands are %s; expected a source of %s and a scalar",
                        kiln_infer_types_string(call),
                        kiln_type_string(&call->graph->scope->arena, window));
    check_region(call, regions.at[0], call->types, &(scalar_rule){2, 1, 1, 1, true});
    check_region(call, regions.at[1], call->types, &(scalar_rule){2, 1, 1, 1, false});
    return tuple_like(call, type, 1, call->types);
}

const kiln_type *kiln_infer_scatter_with(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->scatter_with.regions;
    kiln_infer_regions(call, regions, 1, 1);
    uint32_t n = call->n / 2;
    if (call->n != 2 * n + 1 || !n)
        kiln_infer_fail(call, "%u operands; expected values, indices and as many updates", call->n);
    check_equal_dims(call, n);
    for (uint32_t i = 0; i < n; i++) {
        const kiln_type *types[] = {call->types[i], call->types[n], call->types[n + 1 + i]};
        kiln_infer_call one = *call; /* the family begins with the fields of scatter */
        one.types = types;
        one.n = 3;
        kiln_infer_scatter(&one);
        if (!has_same_dims(call->types[n + 1], types[2]))
            kiln_infer_fail(call, "updates are %s; expected equal dims",
                            kiln_infer_types_string(call));
    }
    check_region(call, regions.at[0], call->types, &(scalar_rule){2 * n, n, 1, n, false});
    return tuple_like(call, call->types[0], n, call->types);
}

const kiln_type *kiln_infer_sort_by(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->sort_by.regions;
    kiln_infer_regions(call, regions, 1, 1);
    kiln_infer_axis(call, call->attrs->sort_by.axis, call->types[0]->rank);
    check_equal_dims(call, call->n);
    check_region(call, regions.at[0], call->types,
                 &(scalar_rule){2 * call->n, call->n, 2, 1, true});
    return tuple_like(call, call->types[0], call->n, call->types);
}
