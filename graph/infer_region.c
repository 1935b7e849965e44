/* Type rules of regions: a region is a function from the types of its inputs to those of its
 * outputs; what an op passes in and hands on must fit them. */
#include <string.h>

#include "graph/describe.h"
#include "graph/infer.h"

static const kiln_type *parameter(const kiln_graph *region, uint32_t i)
{
    return kiln_graph_type(region, region->inputs.at[i]);
}

static const kiln_type *result(const kiln_graph *region, uint32_t i)
{
    return kiln_graph_type(region, region->outputs.at[i].value);
}

static const char *region_string(const kiln_infer_call *call, const kiln_graph *region)
{
    return kiln_quoted(&call->graph->scope->arena, region->name);
}

static const char *type_string(const kiln_infer_call *call, const kiln_type *type)
{
    return kiln_type_string(&call->graph->scope->arena, type);
}

void kiln_infer_regions(const kiln_infer_call *call, kiln_regions regions, uint32_t least,
                        uint32_t most)
{
    if (regions.n < least || regions.n > most)
        kiln_infer_fail(call, "%u regions; expected %u to %u", regions.n, least, most);
    for (uint32_t i = 0; i < regions.n; i++) {
        const kiln_graph *region = regions.at[i];
        if (!region || !region->is_closed)
            kiln_infer_fail(call, "region %u is %s; expected a finished graph", i,
                            region ? "open" : "NULL");
        if (region->depth >= KILN_MAX_NESTING)
            kiln_fail(call->graph->scope, KILN_LIMIT,
                      "%s: regions nest deeper than %d; expected less", call->row->name,
                      KILN_MAX_NESTING);
    }
}

static void check_count(const kiln_infer_call *call, const kiln_graph *region, uint32_t n)
{
    if (region->inputs.n != n)
        kiln_infer_fail(call, "region %s has %u parameters; expected %u",
                        region_string(call, region), region->inputs.n, n);
}

static void check_parameter(const kiln_infer_call *call, const kiln_graph *region, uint32_t i,
                            const kiln_type *type)
{
    if (kiln_type_equal(parameter(region, i), type)) return;
    kiln_infer_fail(call, "parameter %u of region %s is %s; expected %s", i,
                    region_string(call, region), type_string(call, parameter(region, i)),
                    type_string(call, type));
}

static void check_result(const kiln_infer_call *call, const kiln_graph *region, uint32_t i,
                         const kiln_type *type)
{
    if (kiln_type_equal(result(region, i), type)) return;
    kiln_infer_fail(call, "result %u of region %s is %s; expected %s", i,
                    region_string(call, region), type_string(call, result(region, i)),
                    type_string(call, type));
}

/* Parameters are the operands from `first` on. */
static void check_parameters(const kiln_infer_call *call, const kiln_graph *region, uint32_t first)
{
    check_count(call, region, call->n - first);
    for (uint32_t i = first; i < call->n; i++)
        check_parameter(call, region, i - first, call->types[i]);
}

static const kiln_type *results_tuple(const kiln_infer_call *call, const kiln_graph *region)
{
    kiln_graph *graph = call->graph;
    uint32_t n = region->outputs.n;
    const kiln_type **items = kiln_new_array(&graph->scope->arena, const kiln_type *, n);
    for (uint32_t i = 0; i < n; i++) items[i] = kiln_graph_retype(graph, result(region, i));
    return kiln_graph_tuple(graph, n, items);
}

const kiln_type *kiln_infer_item(const kiln_infer_call *call)
{
    const kiln_type *tuple = call->types[0];
    int64_t index = call->attrs->item.index;
    if (!tuple->n_items)
        kiln_infer_fail(call, "operand 0 is %s; expected a tuple", type_string(call, tuple));
    if (index < 0 || index >= tuple->n_items)
        kiln_infer_fail(call, "index is %lld for %s; expected 0 to %u", (long long)index,
                        type_string(call, tuple), tuple->n_items - 1);
    return kiln_graph_retype(call->graph, tuple->items[index]);
}

const kiln_type *kiln_infer_call_op(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->regions.regions;
    kiln_infer_regions(call, regions, 1, 1);
    check_parameters(call, regions.at[0], 0);
    return results_tuple(call, regions.at[0]);
}

/* Of `if` and `case`. */
const kiln_type *kiln_infer_branches(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->regions.regions;
    bool is_if = call->op == KILN_OP_if;
    kiln_infer_regions(call, regions, is_if ? 2 : 1, is_if ? 2 : KILN_MAX_REGIONS);
    const kiln_type *choice = call->types[0];
    bool is_index = choice->dtype == KILN_i32 || choice->dtype == KILN_i64;
    if (choice->rank != 0 || !(is_if || is_index))
        kiln_infer_fail(call, "operand 0 is %s; expected %s", type_string(call, choice),
                        is_if ? "bool[]" : "i32[] or i64[]");
    for (uint32_t r = 0; r < regions.n; r++) {
        const kiln_graph *region = regions.at[r];
        check_parameters(call, region, 1);
        if (region->outputs.n != regions.at[0]->outputs.n)
            kiln_infer_fail(call, "region %u has %u results; expected %u as the first one has", r,
                            region->outputs.n, regions.at[0]->outputs.n);
        for (uint32_t i = 0; i < region->outputs.n; i++)
            check_result(call, region, i, result(regions.at[0], i));
    }
    return results_tuple(call, regions.at[0]);
}

static void check_carried(const kiln_infer_call *call, int64_t n_carried, int64_t most)
{
    if (n_carried >= 0 && n_carried <= most) return;
    kiln_infer_fail(call, "n_carried is %lld; expected 0 to %lld", (long long)n_carried,
                    (long long)most);
}

const kiln_type *kiln_infer_while(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->loop.regions;
    int64_t n_carried = call->attrs->loop.n_carried, limit = call->attrs->loop.limit;
    kiln_infer_regions(call, regions, 2, 2);
    check_carried(call, n_carried, call->n);
    if (limit < 1) kiln_infer_fail(call, "limit is %lld; expected 1 or more", (long long)limit);
    const kiln_graph *condition = regions.at[0], *body = regions.at[1];
    check_parameters(call, condition, 0);
    check_parameters(call, body, 0);
    bool is_flag = condition->outputs.n == 1 && result(condition, 0)->dtype == KILN_bool &&
                   result(condition, 0)->rank == 0;
    if (!is_flag)
        kiln_infer_fail(call, "the condition gives %u results, the first %s; expected bool[]",
                        condition->outputs.n, type_string(call, result(condition, 0)));
    if (body->outputs.n != (uint64_t)n_carried)
        kiln_infer_fail(call, "the body gives %u results; expected %lld, as many as are carried",
                        body->outputs.n, (long long)n_carried);
    for (uint32_t i = 0; i < n_carried; i++) check_result(call, body, i, call->types[i]);
    return results_tuple(call, body);
}

/* Slices lie behind each other, in whole bytes. */
static void check_whole(const kiln_infer_call *call, const kiln_type *type)
{
    if (kiln_dtype_bits(type->dtype) >= 8) return;
    kiln_infer_fail(call, "a slice or stack is %s; expected a dtype of whole bytes",
                    type_string(call, type));
}

/* The type with a new first dim, or without it. */
static const kiln_type *stacked(const kiln_infer_call *call, const kiln_type *type, int64_t length)
{
    check_whole(call, type);
    int64_t dims[KILN_MAX_RANK + 1] = {length};
    for (uint32_t i = 0; i < type->rank; i++) dims[i + 1] = type->dims[i];
    return kiln_graph_tensor(call->graph, type->dtype, type->rank + 1, dims);
}

static const kiln_type *slice_of(const kiln_infer_call *call, const kiln_type *type)
{
    int64_t length = call->attrs->scan.length;
    check_whole(call, type);
    if (type->rank == 0 || type->dims[0] != length)
        kiln_infer_fail(call, "a sequence is %s; expected a first dim of %lld",
                        type_string(call, type), (long long)length);
    return kiln_graph_tensor(call->graph, type->dtype, type->rank - 1, type->dims + 1);
}

const kiln_type *kiln_infer_scan(const kiln_infer_call *call)
{
    kiln_regions regions = call->attrs->scan.regions;
    int64_t n_carried = call->attrs->scan.n_carried, n_slices = call->attrs->scan.n_slices;
    int64_t length = call->attrs->scan.length;
    kiln_infer_regions(call, regions, 1, 1);
    check_carried(call, n_carried, call->n);
    if (n_slices < 0 || n_slices > call->n - n_carried)
        kiln_infer_fail(call, "n_slices is %lld; expected 0 to %lld", (long long)n_slices,
                        (long long)(call->n - n_carried));
    if (length < 0 || length > KILN_MAX_DIM)
        kiln_infer_fail(call, "length is %lld; expected 0 to 2^40", (long long)length);
    const kiln_graph *body = regions.at[0];
    check_count(call, body, call->n);
    for (uint32_t i = 0; i < call->n; i++) {
        bool is_slice = i >= n_carried && i < n_carried + n_slices;
        check_parameter(call, body, i,
                        is_slice ? slice_of(call, call->types[i]) : call->types[i]);
    }
    if (body->outputs.n < n_carried)
        kiln_infer_fail(call, "the body gives %u results; expected %lld or more", body->outputs.n,
                        (long long)n_carried);
    const kiln_type **items =
        kiln_new_array(&call->graph->scope->arena, const kiln_type *, body->outputs.n);
    for (uint32_t i = 0; i < body->outputs.n; i++) {
        bool is_carried = i < n_carried;
        if (is_carried) check_result(call, body, i, call->types[i]);
        items[i] = is_carried ? kiln_graph_retype(call->graph, call->types[i])
                              : stacked(call, result(body, i), length);
    }
    return kiln_graph_tuple(call->graph, body->outputs.n, items);
}

const kiln_type *kiln_infer_custom(const kiln_infer_call *call)
{
    const char *target = call->attrs->custom.target;
    if (!target || !*target || strchr(target, '('))
        kiln_infer_fail(call, "target is %s; expected a name without (",
                        target ? kiln_quoted(&call->graph->scope->arena, target) : "NULL");
    if (!call->given->n_items)
        kiln_infer_fail(call, "the result is %s; expected a tuple",
                        type_string(call, call->given));
    return kiln_graph_retype(call->graph, call->given);
}
