/* Values known at import: shapes, axes, starts and what is computed from them. They are built in
 * the graph like any other value; when an operator must know one, the constants that it hangs on
 * are copied into a scratch graph and evaluated, once per value. Nothing that depends on an input
 * is ever known. */
#include <stdlib.h>
#include <string.h>

#include "graph/element.h"
#include "graph/io/onnx_op.h"

#define KNOWN_MAX_ELEMENTS ((int64_t)1 << 20) /* of all values that one evaluation computes */

/* Only inputs of the model itself have fixed values. */
static kiln_onnx_bound *bound_find(kiln_onnx *onnx, const kiln_onnx_level *level, uint32_t id)
{
    if (level->outer) return NULL;
    for (uint32_t i = 0; i < onnx->options->n_values; i++) {
        if (onnx->bound[i].id == id) return &onnx->bound[i];
    }
    return NULL;
}

void kiln_onnx_bound_check(kiln_onnx *onnx)
{
    kiln_graph *graph = onnx->graph;
    for (uint32_t i = 0; i < onnx->options->n_values; i++) {
        const kiln_onnx_bound *bound = &onnx->bound[i];
        if (!bound->is_used) continue;
        kiln_value input = {bound->id, graph->id};
        const kiln_type *type = kiln_graph_type(graph, input);
        int64_t axes[KILN_MAX_RANK];
        for (uint32_t k = 0; k < type->rank; k++) axes[k] = k;
        kiln_value differs =
            kiln_add_binary(graph, KILN_OP_ne, input, kiln_add_constant(graph, type, bound->data));
        kiln_value count = kiln_add_convert(graph, differs, KILN_i64);
        if (type->rank) count = kiln_add_reduce(graph, KILN_OP_reduce_sum, count, type->rank, axes);
        kiln_add_check(graph, count,
                       kiln_arena_format(
                           &onnx->scope->arena, "input %s: another value than at import",
                           kiln_onnx_quote(&onnx->scope->arena, onnx->options->values[i].input)));
    }
}

/* Extends `constness` to all nodes made so far: a value is constant when all its operands are. */
static void constness_update(kiln_onnx *onnx, kiln_onnx_level *level)
{
    const kiln_graph *graph = level->graph;
    kiln_arena *arena = &onnx->scope->arena;
    while (level->constness.n < graph->nodes.n) {
        const kiln_node *node = graph->nodes.at[level->constness.n];
        const void *given = NULL;
        uint8_t is_constant = node && node->op != KILN_OP_barrier;
        if (node && node->op == KILN_OP_input) {
            const kiln_onnx_bound *bound = bound_find(onnx, level, level->constness.n);
            given = bound ? bound->data : NULL;
            is_constant = given != NULL;
        }
        for (uint32_t i = 0; is_constant && i < node->n_inputs; i++) {
            is_constant = level->constness.at[node->inputs[i].id];
        }
        kiln_vec_push(&level->constness, arena, is_constant);
        kiln_vec_push(&level->known, arena, given);
        kiln_vec_push(&level->copies, arena, (kiln_value){0});
        kiln_vec_push(&level->seen, arena, 0);
    }
}

typedef struct known_set {
    kiln_vec(uint32_t) ids; /* ascending after sorting */
    int64_t n_elements;
} known_set;

/* Collects what must be evaluated for `id`, stopping at values that are known already. */
static bool collect(kiln_onnx_call *call, kiln_onnx_level *level, uint32_t id, known_set *set)
{
    kiln_onnx *onnx = call->onnx;
    kiln_arena *arena = &call->scope->arena;
    uint32_t *seen = level->seen.at, stamp = ++onnx->n_stamps;
    kiln_vec(uint32_t) stack = {0};
    kiln_vec_push(&stack, arena, id);
    seen[id] = stamp;
    while (stack.n) {
        uint32_t at = stack.at[--stack.n];
        const kiln_node *node = level->graph->nodes.at[at];
        set->n_elements += node->type->n_elements;
        if (set->n_elements > KNOWN_MAX_ELEMENTS) return false;
        kiln_vec_push(&set->ids, arena, at);
        if (node->op == KILN_OP_input) bound_find(onnx, level, at)->is_used = true;
        if (level->known.at[at]) continue;
        for (uint32_t i = 0; i < node->n_inputs; i++) {
            uint32_t input = node->inputs[i].id;
            if (seen[input] == stamp) continue;
            seen[input] = stamp;
            kiln_vec_push(&stack, arena, input);
        }
    }
    return true;
}

static int id_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void evaluate(kiln_onnx_call *call, kiln_onnx_level *level, uint32_t id, known_set *set)
{
    kiln_onnx *onnx = call->onnx;
    kiln_graph *scratch = kiln_graph_open(call->scope, level->graph->context, "known");
    qsort(set->ids.at, set->ids.n, sizeof *set->ids.at, id_compare);
    for (uint32_t i = 0; i < set->ids.n; i++) {
        uint32_t at = set->ids.at[i];
        const kiln_node *node = level->graph->nodes.at[at];
        if (level->known.at[at]) {
            const kiln_type *type =
                kiln_graph_tensor(scratch, node->type->dtype, node->type->rank, node->type->dims);
            level->copies.at[at] = kiln_add_constant(scratch, type, level->known.at[at]);
        } else {
            level->copies.at[at] = kiln_graph_copy(scratch, level->graph, node, level->copies.at);
        }
    }
    kiln_add_output(scratch, level->copies.at[id], NULL);
    const kiln_type *type = level->graph->nodes.at[id]->type;
    void *data = kiln_arena_alloc(&onnx->scope->arena, (size_t)type->bytes + 16);
    kiln_tensor output = {type->dtype, type->rank, type->dims, data, (size_t)type->bytes};
    kiln_eval(call->scope, scratch, NULL, &output);
    level->known.at[id] = data;
}

const void *kiln_onnx_known(kiln_onnx_call *call, kiln_value value)
{
    kiln_onnx *onnx = call->onnx;
    kiln_onnx_level *level = onnx->level;
    while (level->outer && level->graph->id != value.graph) level = level->outer;
    constness_update(onnx, level);
    if (!level->constness.at[value.id]) return NULL;
    const kiln_node *node = kiln_graph_node(level->graph, value);
    if (node->op == KILN_OP_input) bound_find(onnx, level, value.id)->is_used = true;
    if (!level->known.at[value.id] && node->op == KILN_OP_constant) {
        if (node->type->n_elements > KNOWN_MAX_ELEMENTS) return NULL;
        void *data = kiln_arena_alloc(&onnx->scope->arena, (size_t)node->type->bytes + 16);
        kiln_literal_read(call->scope, node->type, &node->attrs->literal.value, data);
        level->known.at[value.id] = data;
    }
    known_set set = {0};
    if (!level->known.at[value.id] && collect(call, level, value.id, &set))
        evaluate(call, level, value.id, &set);
    return level->known.at[value.id];
}

int64_t kiln_onnx_int_at(kiln_dtype dtype, const void *data, int64_t i)
{
    const char *element = (const char *)data + i * (int64_t)kiln_dtype_bytes(dtype);
    int64_t wide;
    if (dtype == KILN_i64 || dtype == KILN_u64) {
        memcpy(&wide, element, sizeof wide);
        return wide;
    }
    double value = kiln_element_to_double(dtype, element);
    return value >= -0x1p62 && value <= 0x1p62 ? (int64_t)value : 0;
}

double kiln_onnx_float_at(kiln_dtype dtype, const void *data, int64_t i)
{
    return kiln_element_to_double(dtype, (const char *)data + i * (int64_t)kiln_dtype_bytes(dtype));
}

static void *known_operand(kiln_onnx_call *call, uint32_t i)
{
    const void *data = kiln_onnx_known(call, kiln_onnx_operand(call, i));
    if (!data)
        kiln_onnx_refuse(call, "operand %u depends on the data; expected a value known at import",
                         i);
    return (void *)(uintptr_t)data;
}

kiln_ints kiln_onnx_known_ints(kiln_onnx_call *call, uint32_t i)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank > 1 || kiln_onnx_is_float(type->dtype))
        kiln_onnx_fail(call, "operand %u is %s of rank %u; expected integers of rank 1", i,
                       kiln_dtype_name(type->dtype), type->rank);
    if (type->n_elements == 0) return (kiln_ints){0, kiln_onnx_dims(call, 0)};
    const void *data = known_operand(call, i);
    int64_t *values = kiln_onnx_dims(call, (uint32_t)type->n_elements);
    for (int64_t k = 0; k < type->n_elements; k++)
        values[k] = kiln_onnx_int_at(type->dtype, data, k);
    return (kiln_ints){(uint32_t)type->n_elements, values};
}

int64_t kiln_onnx_known_int(kiln_onnx_call *call, uint32_t i)
{
    kiln_ints ints = kiln_onnx_known_ints(call, i);
    if (ints.n != 1) kiln_onnx_fail(call, "operand %u has %u elements; expected one", i, ints.n);
    return ints.at[0];
}

uint32_t kiln_onnx_known_floats(kiln_onnx_call *call, uint32_t i, const double **out)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    const void *data = known_operand(call, i);
    double *values = kiln_new_array(&call->scope->arena, double, type->n_elements + 1);
    for (int64_t k = 0; k < type->n_elements; k++)
        values[k] = kiln_onnx_float_at(type->dtype, data, k);
    *out = values;
    return (uint32_t)type->n_elements;
}
