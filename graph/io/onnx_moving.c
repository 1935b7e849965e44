/* A Slice whose starts depend on the data while its sizes do not: a place in a cache, a window that
 * moves. Its ends are its starts and known numbers, which the nodes that made both show. */
#include "base/checked.h"
#include "graph/io/onnx_op.h"

#define MAX_DEPTH 64 /* of nodes that a value is followed through */

typedef struct gap_search {
    kiln_onnx_call *call;
    uint32_t n;   /* elements of both */
    int64_t *gap; /* what was found to lie between them so far */
} gap_search;

/* Adds sign * value where that is known. */
static bool add_known(const gap_search *search, kiln_value value, int64_t sign)
{
    kiln_dtype dtype = kiln_graph_type(search->call->graph, value)->dtype;
    const void *data = kiln_onnx_known(search->call, value);
    for (uint32_t i = 0; data && i < search->n; i++) {
        uint64_t term = (uint64_t)sign * (uint64_t)kiln_onnx_int_at(dtype, data, i);
        search->gap[i] = (int64_t)((uint64_t)search->gap[i] + term);
    }
    return data != NULL;
}

/* The value without the known terms of the sum that it is, which are noted. */
static bool strip_term(const gap_search *search, const kiln_node *node, int64_t sign,
                       kiln_value *value)
{
    bool is_sum = node->op == KILN_OP_add;
    if (!is_sum && node->op != KILN_OP_sub) return false;
    uint32_t term = kiln_onnx_known(search->call, node->inputs[1]) ? 1 : 0;
    if (term == 0 && !is_sum) return false;
    *value = node->inputs[1 - term];
    return add_known(search, node->inputs[term], is_sum ? sign : -sign);
}

/* The same integers in the same order, in other dims or 32 or 64 bits. */
static bool is_pass(const kiln_graph *graph, const kiln_node *node)
{
    if (node->op == KILN_OP_reshape) return true;
    if (node->op != KILN_OP_broadcast && node->op != KILN_OP_convert) return false;
    const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
    bool is_int = from->dtype == KILN_i64 || from->dtype == KILN_i32;
    return is_int && from->n_elements == node->type->n_elements;
}

static kiln_value strip(const gap_search *search, kiln_value value, int64_t sign)
{
    const kiln_graph *graph = search->call->graph;
    for (int i = 0; i < MAX_DEPTH && value.graph == graph->id; i++) {
        const kiln_node *node = kiln_graph_node(graph, value);
        if (is_pass(graph, node))
            value = node->inputs[0];
        else if (!strip_term(search, node, sign, &value))
            break;
    }
    return value;
}

/* Adds to - from, element by element; false when it is not known. */
static bool find_gap(const gap_search *search, kiln_value to, kiln_value from)
{
    const kiln_graph *graph = search->call->graph;
    to = strip(search, to, 1);
    from = strip(search, from, -1);
    if (to.id == from.id && to.graph == from.graph) return true;
    if (to.graph != graph->id || from.graph != graph->id) return false;
    const kiln_node *a = kiln_graph_node(graph, to), *b = kiln_graph_node(graph, from);
    if (a->op != KILN_OP_concat || b->op != KILN_OP_concat)
        return add_known(search, to, 1) && add_known(search, from, -1);
    bool is_found = a->n_inputs == b->n_inputs && a->type->rank == 1 && b->type->rank == 1;
    uint32_t at = 0;
    for (uint32_t i = 0; is_found && i < a->n_inputs; i++) {
        uint32_t n = (uint32_t)kiln_graph_type(graph, a->inputs[i])->n_elements;
        gap_search part = {search->call, n, search->gap + at};
        is_found = n == kiln_graph_type(graph, b->inputs[i])->n_elements &&
                   find_gap(&part, a->inputs[i], b->inputs[i]);
        at += n;
    }
    return is_found;
}

/* Starts that count from the end are brought to the front; what leaves the axis fails the run. */
static kiln_value start_along(kiln_onnx_call *call, kiln_value start, int64_t dim, int64_t size)
{
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, start, 0);
    kiln_value end = kiln_onnx_with(call, KILN_OP_add, start, (double)size);
    kiln_value is_split =
        kiln_onnx_binary(call, KILN_OP_and, is_low, kiln_onnx_with(call, KILN_OP_ge, end, 0));
    start = kiln_onnx_select(call, is_low, kiln_onnx_with(call, KILN_OP_add, start, (double)dim),
                             start);
    kiln_value is_out =
        kiln_onnx_binary(call, KILN_OP_or, kiln_onnx_with(call, KILN_OP_lt, start, 0),
                         kiln_onnx_with(call, KILN_OP_gt, start, (double)(dim - size)));
    kiln_onnx_check(call, kiln_onnx_binary(call, KILN_OP_or, is_split, is_out),
                    "a slice leaves its axis; expected starts and ends within it");
    return start;
}

bool kiln_onnx_slice_moves(kiln_onnx_call *call)
{
    return call->opset >= 10 && call->n_inputs > 2 && kiln_onnx_has(call, 1) &&
           kiln_onnx_has(call, 2) && !kiln_onnx_known(call, kiln_onnx_operand(call, 1));
}

kiln_value kiln_onnx_import_moving_slice(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0), *list = kiln_onnx_ranked(call, 1, 1);
    uint32_t rank = type->rank, n = (uint32_t)list->n_elements;
    bool has_axes = kiln_onnx_has(call, 3), has_steps = kiln_onnx_has(call, 4);
    kiln_ints axes = has_axes ? kiln_onnx_known_ints(call, 3) : (kiln_ints){0};
    kiln_ints steps = has_steps ? kiln_onnx_known_ints(call, 4) : (kiln_ints){0};
    if (n > rank || kiln_onnx_type(call, 2)->n_elements != n || (has_axes && axes.n != n) ||
        (has_steps && steps.n != n))
        kiln_onnx_fail(call, "%u starts; expected as many ends, axes and steps, at most %u", n,
                       rank);
    gap_search search = {call, n, kiln_onnx_dims(call, n)};
    kiln_value starts = kiln_onnx_operand(call, 1), at[KILN_MAX_RANK];
    if (!find_gap(&search, kiln_onnx_operand(call, 2), starts))
        kiln_onnx_refuse(call, "starts depend on the data and ends do not follow them; expected "
                               "ends that are the starts and a known number");
    int64_t *sizes = kiln_onnx_dims(call, rank);
    for (uint32_t i = 0; i < rank; i++) {
        sizes[i] = type->dims[i];
        at[i] = kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){1, (int64_t[]){0}});
    }
    starts = kiln_add_convert(call->graph, starts, KILN_i64);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t axis = kiln_onnx_axis(call, has_axes ? axes.at[i] : i, rank);
        if (has_steps && steps.at[i] != 1)
            kiln_onnx_refuse(call, "a step beside starts that depend on the data; expected 1");
        sizes[axis] = kiln_max_i64(0, kiln_min_i64(search.gap[i], type->dims[axis]));
        at[axis] = start_along(call, kiln_onnx_slice(call, starts, 0, i, i + 1), type->dims[axis],
                               sizes[axis]);
    }
    kiln_attrs attrs = {KILN_FAMILY_sizes, .sizes = {{rank, sizes}}};
    kiln_value inputs[2] = {call->inputs[0], kiln_onnx_concat(call, rank, at, 0)};
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dynamic_slice,
                                                         .inputs = inputs,
                                                         .n_inputs = 2,
                                                         .attrs = &attrs});
}
