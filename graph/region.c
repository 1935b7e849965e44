/* Regions: closed graphs that nodes hold as attributes. A region is shared, not copied: graphs
 * count who holds them, and a closed one never changes. Its hash and equality follow its structure,
 * so that equal bodies make equal nodes. */
#include <string.h>

#include "base/hash.h"
#include "graph/attrs.h"
#include "graph/describe.h"

static uint64_t hash_tensor(uint64_t hash, const kiln_type *type)
{
    hash = kiln_hash_u64(hash, (uint64_t)type->dtype << 32 | type->rank);
    return kiln_hash_bytes(hash, type->dims, type->rank * sizeof *type->dims);
}

static uint64_t hash_types(uint64_t hash, const kiln_type *type)
{
    if (!type->n_items) return hash_tensor(hash, type);
    for (uint32_t i = 0; i < type->n_items; i++) hash = hash_tensor(hash, type->items[i]);
    return kiln_hash_u64(hash, type->n_items);
}

static uint64_t hash_node(uint64_t hash, const kiln_node *node)
{
    hash = kiln_hash_u64(hash, (uint64_t)node->op << 32 | node->n_inputs);
    hash = hash_types(hash, node->type);
    for (uint32_t i = 0; i < node->n_inputs; i++) hash = kiln_hash_u64(hash, node->inputs[i].id);
    return kiln_attrs_hash(hash, node->attrs);
}

void kiln_region_close(kiln_scope *scope, kiln_graph *region)
{
    if (region->error.status != KILN_OK) kiln_fail_with(scope, &region->error);
    if (region->is_closed) return;
    if (!region->outputs.n) {
        kiln_fail(scope, KILN_INVALID, "region %s: it has no outputs; expected at least one",
                  kiln_quoted(&scope->arena, region->name));
    }
    uint64_t hash = KILN_HASH_SEED;
    for (uint32_t id = 1; id < region->nodes.n; id++) hash = hash_node(hash, region->nodes.at[id]);
    for (uint32_t i = 0; i < region->outputs.n; i++)
        hash = kiln_hash_u64(hash, region->outputs.at[i].value.id);
    for (uint32_t i = 0; i < region->checks.n; i++)
        hash = kiln_hash_u64(hash, region->checks.at[i].value.id);
    region->region_hash = hash;
    region->is_closed = true;
}

static bool are_nodes_equal(const kiln_node *a, const kiln_node *b)
{
    if (a->op != b->op || a->n_inputs != b->n_inputs) return false;
    if (!kiln_type_equal(a->type, b->type)) return false;
    for (uint32_t i = 0; i < a->n_inputs; i++) {
        if (a->inputs[i].id != b->inputs[i].id) return false;
    }
    return kiln_attrs_equal(a->attrs, b->attrs);
}

/* Nested regions come back here through their node's attributes: at most KILN_MAX_NESTING deep. */
static bool are_graphs_equal(const kiln_graph *a, const kiln_graph *b)
{
    if (a == b) return true;
    if (a->region_hash != b->region_hash || a->nodes.n != b->nodes.n) return false;
    if (a->outputs.n != b->outputs.n || a->checks.n != b->checks.n) return false;
    for (uint32_t i = 0; i < a->outputs.n; i++) {
        if (a->outputs.at[i].value.id != b->outputs.at[i].value.id) return false;
    }
    for (uint32_t i = 0; i < a->checks.n; i++) {
        const kiln_graph_check *x = &a->checks.at[i], *y = &b->checks.at[i];
        if (x->value.id != y->value.id || strcmp(x->sentence, y->sentence) != 0) return false;
    }
    for (uint32_t id = 1; id < a->nodes.n; id++) {
        if (!are_nodes_equal(a->nodes.at[id], b->nodes.at[id])) return false;
    }
    return true;
}

bool kiln_regions_equal(kiln_regions a, kiln_regions b)
{
    if (a.n != b.n) return false;
    for (uint32_t i = 0; i < a.n; i++) {
        if (!are_graphs_equal(a.at[i], b.at[i])) return false;
    }
    return true;
}

/* By id: whether an output or a check needs the node. */
static bool *find_live(kiln_arena *arena, const kiln_graph *graph)
{
    bool *is_live = kiln_new_array(arena, bool, graph->nodes.n);
    for (uint32_t i = 0; i < graph->outputs.n; i++) is_live[graph->outputs.at[i].value.id] = true;
    for (uint32_t i = 0; i < graph->checks.n; i++) is_live[graph->checks.at[i].value.id] = true;
    for (uint32_t id = graph->nodes.n; id-- > 1;) {
        const kiln_node *node = graph->nodes.at[id];
        for (uint32_t i = 0; is_live[id] && i < node->n_inputs; i++)
            is_live[node->inputs[i].id] = true;
    }
    return is_live;
}

/* A barrier of a body that is put in several times is another one each time. */
static kiln_value copy_node(kiln_graph *graph, const kiln_graph *source, const kiln_node *node,
                            const kiln_value *map)
{
    if (kiln_node_row(node)->attrs != KILN_FAMILY_serial)
        return kiln_graph_copy(graph, source, node, map);
    kiln_attrs attrs = {KILN_FAMILY_serial, .serial = {graph->n_serials}};
    kiln_node_spec spec = {(kiln_op)node->op, NULL,   &map[node->inputs[0].id],
                           node->n_inputs,    &attrs, node->label};
    return kiln_graph_add(graph, &spec);
}

void kiln_graph_inline(kiln_graph *graph, const kiln_graph *source, const kiln_value *args,
                       kiln_value *out_results)
{
    kiln_arena *arena = &graph->scope->arena;
    kiln_value *map = kiln_new_array(arena, kiln_value, source->nodes.n);
    const bool *is_live = find_live(arena, source);
    for (uint32_t i = 0; i < source->inputs.n; i++) map[source->inputs.at[i].id] = args[i];
    for (uint32_t id = 1; id < source->nodes.n; id++) {
        const kiln_node *node = source->nodes.at[id];
        if (!is_live[id] || node->op == KILN_OP_input) continue;
        map[id] = copy_node(graph, source, node, map);
    }
    for (uint32_t i = 0; i < source->outputs.n; i++)
        out_results[i] = map[source->outputs.at[i].value.id];
    for (uint32_t i = 0; i < source->checks.n; i++)
        kiln_add_check(graph, map[source->checks.at[i].value.id], source->checks.at[i].sentence);
}

kiln_value kiln_add_item(kiln_graph *graph, kiln_value tuple, uint32_t index)
{
    kiln_attrs attrs = {KILN_FAMILY_item, .item = {index}};
    kiln_node_spec spec = {KILN_OP_item, NULL, &tuple, 1, &attrs, NULL};
    return kiln_graph_add(graph, &spec);
}

bool kiln_node_is_scalar_region(const kiln_node *node)
{
    switch (node->op) {
    case KILN_OP_map:
    case KILN_OP_reduce:
    case KILN_OP_reduce_window:
    case KILN_OP_select_and_scatter:
    case KILN_OP_scatter_with:
    case KILN_OP_sort_by:
        return true;
    default:
        return false;
    }
}
