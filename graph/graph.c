/* The graph as a store: interned types and nodes, inputs, outputs and checks. Nodes are found again
 * by op, type, operands and attributes, so that asking twice for the same thing gives the same
 * id. */
#include "graph/graph.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "base/hash.h"
#include "graph/attrs.h"
#include "graph/describe.h"
#include "graph/table.h"

/* Handles of two graphs of a process must differ, also when one graph takes the memory of another
 * that was freed; there is no global to count with, so address and time make the number. */
static uint32_t fresh_id(const kiln_graph *graph)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, (uint64_t)(uintptr_t)graph);
    hash = kiln_hash_u64(hash, (uint64_t)now.tv_sec);
    hash = kiln_hash_u64(hash, (uint64_t)now.tv_nsec);
    return (uint32_t)hash ? (uint32_t)hash : 1;
}

/* The first region that nobody else holds, taken off the graph; NULL when none is left. */
static kiln_graph *take_region(kiln_graph *graph)
{
    while (graph->regions.n) {
        kiln_graph *region = graph->regions.at[--graph->regions.n];
        if (atomic_fetch_sub(&region->n_holders, 1) == 1) return region;
    }
    return NULL;
}

/* Regions are a tree under the graph, at most KILN_MAX_NESTING deep, and so under its scratch. */
void kiln_graph_free(kiln_graph *graph)
{
    kiln_graph *path[2 * KILN_MAX_NESTING + 4];
    uint32_t n = 0;
    if (!graph || atomic_fetch_sub(&graph->n_holders, 1) != 1) return;
    path[n++] = graph;
    while (n) {
        kiln_graph *last = path[n - 1], *region = take_region(last);
        if (region) {
            path[n++] = region;
            continue;
        }
        n--;
        kiln_graph *scratch = last->table ? last->table->scratch : NULL;
        kiln_arena_fini(&last->arena);
        free(last);
        if (scratch) path[n++] = scratch;
    }
}

static void release_graph(void *graph)
{
    kiln_graph_free(graph);
}

kiln_graph *kiln_graph_open(kiln_scope *scope, kiln_context *context, const char *name)
{
    kiln_graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        kiln_fail(scope, KILN_NO_MEMORY, "graph: %zu bytes were not available", sizeof *graph);
    kiln_arena_init(&graph->arena, scope);
    graph->scope = scope;
    kiln_scope_defer(scope, release_graph, graph);
    graph->id = fresh_id(graph);
    graph->context = context;
    atomic_init(&graph->n_holders, 1);
    graph->name = kiln_arena_string(&graph->arena, name ? name : "graph");
    graph->table = kiln_new(&graph->arena, kiln_graph_table);
    kiln_vec_push(&graph->nodes, &graph->arena, NULL);
    kiln_vec_push(&graph->origins, &graph->arena, 0);
    return graph;
}

/* Types */

static bool is_type(const kiln_type *type, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    return !type->n_items && type->dtype == dtype && type->rank == rank &&
           (rank == 0 || memcmp(type->dims, dims, rank * sizeof *dims) == 0);
}

static uint64_t hash_type(kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, (uint64_t)dtype << 32 | rank);
    return kiln_hash_bytes(hash, dims, rank * sizeof *dims);
}

const kiln_type *kiln_graph_find_type(const kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                      const int64_t *dims)
{
    const kiln_graph_table *table = graph->table;
    uint64_t hash = hash_type(dtype, rank, dims);
    for (uint32_t at = kiln_slots_first(&table->types, hash), found;
         (found = kiln_slots_next(&table->types, hash, &at));) {
        if (is_type(table->type_list.at[found - 1], dtype, rank, dims)) {
            return table->type_list.at[found - 1];
        }
    }
    return NULL;
}

static const kiln_type *type_new(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                 const int64_t *dims)
{
    int64_t elements, bytes;
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            kiln_fail(graph->scope, KILN_INVALID, "shape: dim %u is %lld; expected 0 or more", i,
                      (long long)dims[i]);
        }
    }
    if (!kiln_checked_product(dims, rank, &elements) ||
        !kiln_checked_bytes(elements, kiln_dtype_bits(dtype), &bytes)) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "shape: the size of %s overflows; expected at most 2^48 elements",
                  kiln_dims_string(&graph->scope->arena, dtype, rank, dims));
    }
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] <= KILN_MAX_DIM && elements <= KILN_MAX_ELEMENTS) continue;
        kiln_fail(graph->scope, KILN_LIMIT,
                  "shape: %s; expected dims to 2^40 and at most 2^48 elements",
                  kiln_dims_string(&graph->scope->arena, dtype, rank, dims));
    }
    kiln_type *type = kiln_new(&graph->arena, kiln_type);
    type->dtype = dtype;
    type->rank = rank;
    type->dims = kiln_arena_copy(&graph->arena, dims, rank * sizeof *dims);
    type->n_elements = elements;
    type->bytes = bytes;
    return type;
}

const kiln_type *kiln_graph_tensor(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                   const int64_t *dims)
{
    kiln_graph_table *table = graph->table;
    if (kiln_dtype_bytes(dtype) == 0) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "type: dtype number %d; expected a dtype of kiln/types.h", (int)dtype);
    }
    if (rank > KILN_MAX_RANK) {
        kiln_fail(graph->scope, KILN_INVALID, "shape: rank is %u; expected at most %d", rank,
                  KILN_MAX_RANK);
    }
    const kiln_type *type = kiln_graph_find_type(graph, dtype, rank, dims);
    if (type) return type;
    type = type_new(graph, dtype, rank, dims);
    kiln_slots_reserve(&table->types, &graph->arena);
    kiln_vec_push(&table->type_list, &graph->arena, type);
    kiln_slots_insert(&table->types, hash_type(dtype, rank, dims), table->type_list.n);
    return type;
}

static bool is_tuple(const kiln_type *type, uint32_t n, const kiln_type *const *items)
{
    return type->n_items == n && memcmp(type->items, items, n * sizeof *items) == 0;
}

const kiln_type *kiln_graph_find_tuple(const kiln_graph *graph, uint32_t n,
                                       const kiln_type *const *items)
{
    const kiln_graph_table *table = graph->table;
    uint64_t hash = kiln_hash_bytes(KILN_HASH_SEED, items, n * sizeof *items);
    for (uint32_t at = kiln_slots_first(&table->types, hash), found;
         (found = kiln_slots_next(&table->types, hash, &at));) {
        const kiln_type *type = table->type_list.at[found - 1];
        if (type->n_items && is_tuple(type, n, items)) return type;
    }
    return NULL;
}

const kiln_type *kiln_graph_tuple(kiln_graph *graph, uint32_t n, const kiln_type *const *items)
{
    kiln_graph_table *table = graph->table;
    const kiln_type *known = kiln_graph_find_tuple(graph, n, items);
    if (known) return known;
    kiln_type *type = kiln_new(&graph->arena, kiln_type);
    type->n_items = n;
    type->items = kiln_arena_copy(&graph->arena, items, n * sizeof *items);
    type->n_elements = n;
    for (uint32_t i = 0; i < n; i++) {
        int64_t begin = type->bytes;
        if (!kiln_checked_add(begin, items[i]->bytes, &type->bytes) ||
            !kiln_checked_align(type->bytes, KILN_ITEM_ALIGN, &type->bytes)) {
            kiln_fail(graph->scope, KILN_LIMIT, "tuple: more than 2^63 bytes");
        }
    }
    kiln_slots_reserve(&table->types, &graph->arena);
    kiln_vec_push(&table->type_list, &graph->arena, type);
    uint64_t hash = kiln_hash_bytes(KILN_HASH_SEED, items, n * sizeof *items);
    kiln_slots_insert(&table->types, hash, table->type_list.n);
    return type;
}

const kiln_type *kiln_graph_retype(kiln_graph *graph, const kiln_type *type)
{
    if (!type->n_items) return kiln_graph_tensor(graph, type->dtype, type->rank, type->dims);
    const kiln_type **items =
        kiln_new_array(&graph->scope->arena, const kiln_type *, type->n_items);
    for (uint32_t i = 0; i < type->n_items; i++) {
        const kiln_type *item = type->items[i];
        items[i] = kiln_graph_tensor(graph, item->dtype, item->rank, item->dims);
    }
    return kiln_graph_tuple(graph, type->n_items, items);
}

bool kiln_type_equal(const kiln_type *a, const kiln_type *b)
{
    if (a->n_items != b->n_items) return false;
    if (!a->n_items) return is_type(a, b->dtype, b->rank, b->dims);
    for (uint32_t i = 0; i < a->n_items; i++) {
        const kiln_type *item = b->items[i];
        if (!is_type(a->items[i], item->dtype, item->rank, item->dims)) return false;
    }
    return true;
}

int64_t kiln_type_item_offset(const kiln_type *tuple, uint32_t index)
{
    int64_t offset = 0;
    for (uint32_t i = 0; i < index; i++) {
        int64_t bytes = tuple->items[i]->bytes;
        offset += (bytes + KILN_ITEM_ALIGN - 1) / KILN_ITEM_ALIGN * KILN_ITEM_ALIGN;
    }
    return offset;
}

/* Nodes */

static uint64_t hash_spec(const kiln_node_spec *spec, const kiln_type *type)
{
    uint64_t hash = kiln_hash_u64(KILN_HASH_SEED, (uint64_t)spec->op << 32 | spec->n_inputs);
    hash = kiln_hash_u64(hash, (uint64_t)(uintptr_t)type);
    for (uint32_t i = 0; i < spec->n_inputs; i++) hash = kiln_hash_u64(hash, spec->inputs[i].id);
    return kiln_attrs_hash(hash, spec->attrs);
}

static bool is_same_node(const kiln_node *node, const kiln_node_spec *spec, const kiln_type *type)
{
    if (node->op != spec->op || node->type != type || node->n_inputs != spec->n_inputs)
        return false;
    for (uint32_t i = 0; i < spec->n_inputs; i++) {
        if (node->inputs[i].id != spec->inputs[i].id) return false;
    }
    return kiln_attrs_equal(node->attrs, spec->attrs);
}

static kiln_node *node_new(kiln_graph *graph, const kiln_node_spec *spec, const kiln_type *type)
{
    if (graph->nodes.n >= KILN_MAX_NODES) {
        kiln_fail(graph->scope, KILN_LIMIT, "graph: more than %u nodes", KILN_MAX_NODES);
    }
    size_t operand_bytes = spec->n_inputs * sizeof(kiln_value);
    kiln_node *node = kiln_arena_alloc(&graph->arena, sizeof *node + operand_bytes);
    kiln_value *operands = (kiln_value *)(node + 1);
    if (operand_bytes) memcpy(operands, spec->inputs, operand_bytes);
    node->op = (uint16_t)spec->op;
    node->n_inputs = spec->n_inputs;
    node->type = type;
    node->inputs = operands;
    node->attrs = kiln_attrs_copy(&graph->arena, spec->attrs);
    if (spec->label) node->label = kiln_arena_string(&graph->arena, spec->label);
    return node;
}

uint64_t kiln_name_hash(const char *name)
{
    return kiln_hash_bytes(KILN_HASH_SEED, name, strlen(name));
}

/* Names of inputs, and those of outputs, are sets. */
static bool name_is_taken(const kiln_graph_table *table, const kiln_slots *set, const char *name)
{
    uint64_t hash = kiln_name_hash(name);
    for (uint32_t at = kiln_slots_first(set, hash), found;
         (found = kiln_slots_next(set, hash, &at));) {
        if (strcmp(table->names.at[found - 1], name) == 0) return true;
    }
    return false;
}

static void name_note(kiln_graph *graph, kiln_slots *set, const char *name)
{
    kiln_slots_reserve(set, &graph->arena);
    kiln_vec_push(&graph->table->names, &graph->arena, name);
    kiln_slots_insert(set, kiln_name_hash(name), graph->table->names.n);
}

/* Serials of nodes that come from elsewhere stay, and later ones must differ from them. */
static void note_serial(kiln_graph *graph, const kiln_attrs *attrs)
{
    int64_t serial = -1;
    if (attrs && attrs->family == KILN_FAMILY_input) serial = attrs->input.serial;
    if (attrs && attrs->family == KILN_FAMILY_serial) serial = attrs->serial.serial;
    if (serial >= graph->n_serials && serial < UINT32_MAX) graph->n_serials = (uint32_t)serial + 1;
}

static void check_open(kiln_graph *graph)
{
    if (!graph->is_closed) return;
    kiln_fail(graph->scope, KILN_INVALID,
              "graph: %s is a region of another graph; expected one that is not finished",
              kiln_quoted(&graph->scope->arena, graph->name));
}

static void hold_regions(kiln_graph *graph, const kiln_node *node)
{
    kiln_regions regions = kiln_attrs_regions(node->attrs);
    for (uint32_t i = 0; i < regions.n; i++) {
        kiln_graph *region = (kiln_graph *)regions.at[i]; /* its count is all that changes */
        kiln_vec_push(&graph->regions, &graph->arena, region);
        atomic_fetch_add(&region->n_holders, 1);
        if (region->depth + 1 > graph->depth) graph->depth = region->depth + 1;
    }
}

kiln_value kiln_graph_intern(kiln_graph *graph, const kiln_node_spec *spec, const kiln_type *type)
{
    kiln_graph_table *table = graph->table;
    uint64_t hash = hash_spec(spec, type);
    for (uint32_t at = kiln_slots_first(&table->nodes, hash), found;
         (found = kiln_slots_next(&table->nodes, hash, &at));) {
        kiln_node *node = graph->nodes.at[found];
        if (!is_same_node(node, spec, type)) continue;
        if (!node->label && spec->label)
            node->label = kiln_arena_string(&graph->arena, spec->label);
        return (kiln_value){found, graph->id};
    }
    check_open(graph);
    kiln_node *node = node_new(graph, spec, type);
    hold_regions(graph, node);
    kiln_value value = {graph->nodes.n, graph->id};
    node->id = value.id;
    kiln_slots_reserve(&table->nodes, &graph->arena);
    if (spec->op == KILN_OP_input) kiln_vec_push(&graph->inputs, &graph->arena, value);
    if (spec->op == KILN_OP_input && node->label)
        name_note(graph, &table->input_names, node->label);
    uint32_t origin = graph->current_origin ? graph->current_origin : value.id;
    kiln_vec_push(&graph->origins, &graph->arena, origin);
    kiln_vec_push(&graph->nodes, &graph->arena, node);
    kiln_slots_insert(&table->nodes, hash, value.id);
    note_serial(graph, spec->attrs);
    return value;
}

static void check_operands(kiln_graph *graph, const char *where, const kiln_value *inputs,
                           uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (inputs[i].graph == graph->id && inputs[i].id > 0 && inputs[i].id < graph->nodes.n)
            continue;
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand %u %s; expected a value of graph %s",
                  where, i, inputs[i].id == 0 ? "is no value" : "belongs to another graph",
                  kiln_quoted(&graph->scope->arena, graph->name));
    }
}

static const char *spec_name(const kiln_node_spec *spec)
{
    return (unsigned)spec->op < KILN_N_OPS ? kiln_op_rows[spec->op].name : "?";
}

kiln_value kiln_graph_add(kiln_graph *graph, const kiln_node_spec *spec)
{
    check_operands(graph, spec_name(spec), spec->inputs, spec->n_inputs);
    return kiln_graph_intern(graph, spec, kiln_infer(graph, spec));
}

static bool are_operand_types_kept(const kiln_graph *graph, const kiln_graph *source,
                                   const kiln_node *node, const kiln_value *inputs)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        const kiln_type *old = kiln_graph_type(source, node->inputs[i]);
        const kiln_type *now = kiln_graph_type(graph, inputs[i]);
        if (!kiln_type_equal(now, old)) return false;
    }
    return true;
}

kiln_value kiln_graph_copy(kiln_graph *graph, const kiln_graph *source, const kiln_node *node,
                           const kiln_value *map)
{
    kiln_value few[8], *inputs = few;
    if (node->n_inputs > 8)
        inputs = kiln_new_array(&graph->scope->arena, kiln_value, node->n_inputs);
    for (uint32_t i = 0; i < node->n_inputs; i++) inputs[i] = map[node->inputs[i].id];
    kiln_node_spec spec = {(kiln_op)node->op, NULL,        inputs,
                           node->n_inputs,    node->attrs, node->label};
    check_operands(graph, spec_name(&spec), inputs, node->n_inputs);
    const kiln_type *type = kiln_graph_retype(graph, node->type);
    if (kiln_node_row(node)->result == KILN_RESULT_GIVEN) spec.given = type;
    /* Equal operand types and attributes infer to an equal type, so the rule need not run again. */
    if (!are_operand_types_kept(graph, source, node, inputs)) type = kiln_infer(graph, &spec);
    uint32_t outer = graph->current_origin;
    graph->current_origin = source->origins.at[node->id];
    kiln_value copy = kiln_graph_intern(graph, &spec, type);
    graph->current_origin = outer;
    return copy;
}

/* Inputs, outputs, checks */

kiln_value kiln_add_input(kiln_graph *graph, const kiln_type *type, const char *name, bool donated)
{
    if (!name) kiln_fail(graph->scope, KILN_INVALID, "input: the name is NULL; expected a text");
    if (name_is_taken(graph->table, &graph->table->input_names, name)) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "input: the name %s is taken; expected a name of its own",
                  kiln_quoted(&graph->scope->arena, name));
    }
    kiln_attrs attrs = {KILN_FAMILY_input, .input = {graph->n_serials, donated}};
    kiln_node_spec spec = {KILN_OP_input, type, NULL, 0, &attrs, name};
    return kiln_graph_add(graph, &spec);
}

void kiln_output_name(char name[KILN_OUTPUT_NAME_BYTES], uint32_t index)
{
    snprintf(name, KILN_OUTPUT_NAME_BYTES, index ? "y%u" : "y", index);
}

void kiln_add_output(kiln_graph *graph, kiln_value value, const char *name)
{
    char standard[KILN_OUTPUT_NAME_BYTES];
    kiln_output_name(standard, graph->outputs.n);
    if (!name) name = standard;
    check_operands(graph, "output", &value, 1);
    check_open(graph);
    if (kiln_graph_type(graph, value)->n_items) {
        kiln_fail(graph->scope, KILN_INVALID, "output: the value is %s; expected a tensor",
                  kiln_type_string(&graph->scope->arena, kiln_graph_type(graph, value)));
    }
    if (name_is_taken(graph->table, &graph->table->output_names, name)) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "output: the name %s is taken; expected a name of its own",
                  kiln_quoted(&graph->scope->arena, name));
    }
    kiln_graph_output output = {value, kiln_arena_string(&graph->arena, name), KILN_NOT_COUNTED, 0};
    name_note(graph, &graph->table->output_names, output.name);
    kiln_vec_push(&graph->outputs, &graph->arena, output);
}

void kiln_copy_output(kiln_graph *graph, kiln_value value, const kiln_graph_output *output)
{
    kiln_add_output(graph, value, output->name);
    kiln_count_output(graph, graph->outputs.n - 1, output->counted_axis, output->counted_by);
}

void kiln_count_output(kiln_graph *graph, uint32_t output, uint32_t axis, uint32_t by)
{
    graph->outputs.at[output].counted_axis = axis;
    graph->outputs.at[output].counted_by = by;
}

void kiln_add_check(kiln_graph *graph, kiln_value failures, const char *sentence)
{
    check_operands(graph, "check", &failures, 1);
    check_open(graph);
    const kiln_type *type = kiln_graph_type(graph, failures);
    if (type->n_items || type->dtype != KILN_i64 || type->rank != 0) {
        kiln_fail(graph->scope, KILN_INVALID, "check: the value is %s; expected i64[]",
                  kiln_type_string(&graph->scope->arena, type));
    }
    kiln_graph_check check = {
        failures, kiln_arena_string(&graph->arena, sentence ? sentence : "check failed")};
    kiln_vec_push(&graph->checks, &graph->arena, check);
}
