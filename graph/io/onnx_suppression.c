/* NonMaxSuppression. A loop with at most max_output_boxes_per_class trips: each takes the best box
 * that is left of every batch and class, and drops those that overlap it too much; it ends when no
 * class has one above the threshold. The picks [trips, batches, classes] are then brought in order,
 * those that exist to the front. */
#include <math.h>

#include "graph/io/onnx_extent.h"

/* Operands of the loop: carried values, then fixed ones. */
enum {
    TRIP,
    IS_ON,
    LIVE,
    PICKS,
    N_CARRIED,
    SIDES = N_CARRIED,
    OVERLAP = SIDES + 4,
    LEAST,
    MOST,
    N
};

typedef struct suppression {
    kiln_onnx_call *call;
    int64_t batches, classes, boxes, trips;
    kiln_value operands[N];
} suppression;

static kiln_value scalar_operand(kiln_onnx_call *call, uint32_t i, kiln_dtype dtype,
                                 double fallback)
{
    if (!kiln_onnx_has(call, i)) return kiln_onnx_scalar(call, dtype, fallback);
    if (kiln_onnx_type(call, i)->n_elements != 1)
        kiln_onnx_fail(call, "operand %u has %lld elements; expected one", i,
                       (long long)kiln_onnx_type(call, i)->n_elements);
    kiln_value value = kiln_add_convert(call->graph, call->inputs[i], dtype);
    return kiln_add_reshape(call->graph, value, 0, NULL);
}

/* Bottom, left, top and right of all boxes [batches, boxes], whatever the order of the corners. */
static void sides_read(suppression *s)
{
    kiln_onnx_call *call = s->call;
    kiln_graph *graph = call->graph;
    kiln_value part[4], *sides = s->operands + SIDES;
    int64_t dims[2] = {s->batches, s->boxes};
    bool is_centered = kiln_onnx_flag(call, "center_point_box", false);
    for (int64_t i = 0; i < 4; i++)
        part[i] =
            kiln_add_reshape(graph, kiln_onnx_slice(call, call->inputs[0], 2, i, i + 1), 2, dims);
    for (uint32_t i = 0; i < 2; i++) {
        if (is_centered) {
            kiln_value half = kiln_onnx_with(call, KILN_OP_mul, part[i + 2], 0.5);
            sides[i] = kiln_add_binary(graph, KILN_OP_sub, part[i], half);
            sides[i + 2] = kiln_add_binary(graph, KILN_OP_add, part[i], half);
        } else {
            sides[i] = kiln_add_binary(graph, KILN_OP_min, part[i], part[i + 2]);
            sides[i + 2] = kiln_add_binary(graph, KILN_OP_max, part[i], part[i + 2]);
        }
    }
}

/* `a` with axis i along axes[i] of the dims of `like`. */
static kiln_value along(kiln_graph *graph, kiln_value a, kiln_value like, const int64_t *axes)
{
    const kiln_type *type = kiln_graph_type(graph, like);
    return kiln_add_broadcast(graph, a, type->rank, type->dims, axes);
}

/* The length that two intervals share, or the length of one; never below 0. */
static kiln_value length(kiln_graph *graph, kiln_value low, kiln_value high)
{
    kiln_value span = kiln_add_binary(graph, KILN_OP_sub, high, low);
    return kiln_add_binary(graph, KILN_OP_max, span, kiln_add_splat_like(graph, span, 0));
}

/* Whether each box [batches, classes, boxes] overlaps the picked one of its class too much. */
static kiln_value overlaps(const suppression *s, kiln_graph *graph, kiln_value best,
                           kiln_value like)
{
    static const int64_t rows[2] = {0, 2}, picks[2] = {0, 1};
    const kiln_value *own = graph->inputs.at;
    kiln_value low[2], high[2], area[2], flat, side[2][4], shared;
    int64_t count = s->batches * s->boxes;
    const kiln_type *type = kiln_graph_type(graph, best);
    kiln_attrs first = {KILN_FAMILY_axis, .axis = {0}};
    kiln_value base = kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &first});
    base = kiln_add_binary(graph, KILN_OP_mul, base,
                           kiln_add_splat_like(graph, base, (double)s->boxes));
    base = kiln_add_binary(graph, KILN_OP_add, base, best);
    for (uint32_t i = 0; i < 4; i++) {
        flat = kiln_add_reshape(graph, own[SIDES + i], 1, &count);
        kiln_value inputs[] = {flat, base};
        kiln_value picked = kiln_graph_add(
            graph, &(kiln_node_spec){
                       .op = KILN_OP_take, .inputs = inputs, .n_inputs = 2, .attrs = &first});
        side[0][i] = along(graph, own[SIDES + i], like, rows);
        side[1][i] = along(graph, picked, like, picks);
    }
    for (uint32_t i = 0; i < 2; i++) {
        low[i] = kiln_add_binary(graph, KILN_OP_max, side[0][i], side[1][i]);
        high[i] = kiln_add_binary(graph, KILN_OP_min, side[0][i + 2], side[1][i + 2]);
        area[i] = kiln_add_binary(graph, KILN_OP_mul, length(graph, side[i][0], side[i][2]),
                                  length(graph, side[i][1], side[i][3]));
    }
    shared = kiln_add_binary(graph, KILN_OP_mul, length(graph, low[0], high[0]),
                             length(graph, low[1], high[1]));
    kiln_value all = kiln_add_binary(graph, KILN_OP_sub,
                                     kiln_add_binary(graph, KILN_OP_add, area[0], area[1]), shared);
    kiln_value ratio = kiln_add_binary(graph, KILN_OP_div, shared, all);
    return kiln_add_binary(graph, KILN_OP_gt, ratio, along(graph, own[OVERLAP], like, NULL));
}

static kiln_graph *region_open(const suppression *s, const char *name)
{
    const kiln_graph *outer = s->call->graph;
    kiln_graph *graph = kiln_graph_open(s->call->scope, outer->context, name);
    for (uint32_t i = 0; i < N; i++)
        kiln_add_input(graph, kiln_graph_retype(graph, kiln_graph_type(outer, s->operands[i])),
                       kiln_arena_format(&graph->arena, "p%u", i), false);
    return graph;
}

static kiln_graph *condition_make(const suppression *s)
{
    kiln_graph *graph = region_open(s, "condition");
    const kiln_value *own = graph->inputs.at;
    kiln_value is_on = kiln_add_binary(graph, KILN_OP_lt, own[TRIP], own[MOST]);
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_and, own[IS_ON], is_on), NULL);
    kiln_region_close(s->call->scope, graph);
    return graph;
}

/* The picks with those of this trip. */
static kiln_value picks_update(const suppression *s, kiln_graph *graph, kiln_value picked)
{
    int64_t row[3] = {1, s->batches, s->classes}, one = 1, two = 2;
    kiln_value start[2] = {kiln_add_reshape(graph, graph->inputs.at[TRIP], 1, &one),
                           kiln_add_splat(graph, KILN_i64, 1, &two, 0)};
    kiln_attrs first = {KILN_FAMILY_axis, .axis = {0}};
    kiln_value at = kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_concat, .inputs = start, .n_inputs = 2, .attrs = &first});
    kiln_value inputs[3] = {graph->inputs.at[PICKS], kiln_add_reshape(graph, picked, 3, row), at};
    return kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_dynamic_update, .inputs = inputs, .n_inputs = 3});
}

static kiln_graph *body_make(const suppression *s)
{
    static const int64_t last = 2, pair[2] = {0, 1};
    kiln_graph *graph = region_open(s, "body");
    const kiln_value *own = graph->inputs.at;
    kiln_value live = own[LIVE];
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {2, false}}, boxes = {KILN_FAMILY_axis, .axis = {2}};
    kiln_value best = kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_argmax, .inputs = &live, .n_inputs = 1, .attrs = &arg});
    kiln_value score = kiln_add_reduce(graph, KILN_OP_reduce_max, live, 1, &last);
    kiln_value is_good =
        kiln_add_binary(graph, KILN_OP_gt, score, along(graph, own[LEAST], score, NULL));
    kiln_value at = kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_iota,
                                 .given = kiln_graph_tensor(graph, KILN_i64, 3,
                                                            kiln_graph_type(graph, live)->dims),
                                 .attrs = &boxes});
    kiln_value is_gone = kiln_add_binary(graph, KILN_OP_eq, at, along(graph, best, live, pair));
    is_gone = kiln_add_binary(graph, KILN_OP_or, is_gone, overlaps(s, graph, best, live));
    kiln_value drop[3] = {is_gone, kiln_add_splat_like(graph, live, -INFINITY), live};
    kiln_value pick[3] = {is_good, best, kiln_add_splat_like(graph, best, -1)};
    live = kiln_graph_add(graph,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = drop, .n_inputs = 3});
    kiln_value picked = kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_select, .inputs = pick, .n_inputs = 3});
    kiln_value one = kiln_add_splat(graph, KILN_i64, 0, NULL, 1);
    kiln_add_output(graph, kiln_add_binary(graph, KILN_OP_add, own[TRIP], one), NULL);
    kiln_add_output(graph, kiln_add_reduce(graph, KILN_OP_reduce_any, is_good, 2, pair), NULL);
    kiln_add_output(graph, live, NULL);
    kiln_add_output(graph, picks_update(s, graph, picked), NULL);
    kiln_region_close(s->call->scope, graph);
    return graph;
}

/* [batch, class, box] of each pick, in this order of importance. */
static kiln_value picks_order(const suppression *s, kiln_value picks)
{
    kiln_onnx_call *call = s->call;
    static const int64_t classes_first[3] = {1, 2, 0};
    int64_t n = s->trips * s->batches * s->classes, column[2] = {n, 1};
    kiln_value flat = kiln_add_transpose(call->graph, picks, classes_first), count, parts[3];
    flat = kiln_add_reshape(call->graph, flat, 1, &n);
    kiln_value places = kiln_onnx_places(call, kiln_onnx_with(call, KILN_OP_ge, flat, 0), &count);
    kiln_value group = kiln_onnx_with(call, KILN_OP_div, places, (double)s->trips);
    parts[0] = kiln_onnx_with(call, KILN_OP_div, group, (double)s->classes);
    parts[1] = kiln_onnx_with(call, KILN_OP_rem, group, (double)s->classes);
    parts[2] = kiln_onnx_with(call, KILN_OP_max, kiln_onnx_take(call, flat, places, 0), 0);
    for (uint32_t i = 0; i < 3; i++) parts[i] = kiln_add_reshape(call->graph, parts[i], 2, column);
    kiln_value result = kiln_onnx_concat(call, 3, parts, 1);
    kiln_onnx_extent_set(call, result, 0, count);
    return result;
}

static void operands_read(suppression *s)
{
    kiln_onnx_call *call = s->call;
    kiln_graph *graph = call->graph;
    const kiln_type *boxes = kiln_onnx_type(call, 0), *scores = kiln_onnx_type(call, 1);
    if (boxes->rank != 3 || scores->rank != 3 || boxes->dims[2] != 4 ||
        boxes->dims[0] != scores->dims[0] || boxes->dims[1] != scores->dims[2] ||
        boxes->dtype != scores->dtype)
        kiln_onnx_fail(call, "operands do not fit; expected boxes [batches, boxes, 4] and scores "
                             "[batches, classes, boxes]");
    s->batches = scores->dims[0], s->classes = scores->dims[1], s->boxes = scores->dims[2];
    s->operands[MOST] = scalar_operand(call, 2, KILN_i64, 0);
    s->operands[OVERLAP] = scalar_operand(call, 3, boxes->dtype, 0);
    s->operands[LEAST] = scalar_operand(call, 4, boxes->dtype, -INFINITY);
    const void *most = kiln_onnx_known(call, s->operands[MOST]);
    s->trips = s->boxes;
    if (most) {
        int64_t limit = kiln_onnx_int_at(KILN_i64, most, 0);
        if (limit < s->trips) s->trips = limit > 0 ? limit : 0;
    }
    int64_t picks[3] = {s->trips, s->batches, s->classes};
    kiln_value score = call->inputs[1], low = kiln_add_splat_like(graph, score, -INFINITY);
    s->operands[TRIP] = kiln_onnx_scalar(call, KILN_i64, 0);
    s->operands[IS_ON] = kiln_onnx_scalar(call, KILN_bool, 1);
    s->operands[LIVE] =
        kiln_onnx_select(call, kiln_add_binary(graph, KILN_OP_eq, score, score), score, low);
    s->operands[PICKS] = kiln_add_splat(graph, KILN_i64, 3, picks, -1);
    sides_read(s);
}

kiln_value kiln_onnx_import_suppression(kiln_onnx_call *call)
{
    suppression s = {.call = call};
    const int64_t empty[2] = {0, 3};
    operands_read(&s);
    if (s.trips * s.batches * s.classes == 0)
        return kiln_add_splat(call->graph, KILN_i64, 2, empty, 0);
    s.operands[MOST] = kiln_onnx_with(call, KILN_OP_min, s.operands[MOST], (double)s.trips);
    const kiln_graph *regions[2] = {condition_make(&s), body_make(&s)};
    kiln_attrs attrs = {KILN_FAMILY_loop, .loop = {N_CARRIED, INT32_MAX, {2, regions}}};
    kiln_value tuple = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_while,
                                                                     .inputs = s.operands,
                                                                     .n_inputs = N,
                                                                     .attrs = &attrs});
    return picks_order(&s, kiln_add_item(call->graph, tuple, PICKS));
}
