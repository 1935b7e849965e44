/* Graphs within graphs: If, Loop, Scan and the model's own functions. What is known at import is
 * imported in place: the branch that is taken, the trips of short loops one after the other. The
 * rest become regions (onnx_region.c). */
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_region.h"

#define MAX_DEPTH 64
#define MAX_TRIPS 4096
#define MAX_UNROLLED 16384 /* nodes of all trips */
#define MAX_CHANGING 131072 /* of a loop that nothing else can stand for: its shapes change */

/* Imports what a frame holds and looks its outputs up. False when one of them is tainted. */
static bool frame_import(kiln_onnx_call *call, kiln_onnx_frame *frame, uint32_t n,
                         char *const *names, kiln_value *out)
{
    kiln_onnx *onnx = call->onnx;
    bool is_good = true;
    if (onnx->depth >= MAX_DEPTH)
        kiln_fail(call->scope, KILN_LIMIT, "graphs nest deeper than %d; expected less", MAX_DEPTH);
    onnx->depth++;
    kiln_onnx_nodes(onnx, frame);
    onnx->depth--;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_onnx_name *found = kiln_onnx_name_find(frame, names[i]);
        if (!found)
            kiln_onnx_fail(call, "output %s of the body is not defined; expected a node's output",
                           kiln_onnx_quote(&call->scope->arena, names[i]));
        out[i] = kiln_onnx_capture_value(call, found->value);
        is_good = is_good && !found->is_tainted;
    }
    return is_good;
}

static void input_name(kiln_onnx_call *call, kiln_onnx_frame *frame, const char *name,
                       kiln_value value)
{
    kiln_onnx_name made = {.name = name ? name : "", .origin = KILN_ONNX_INPUT, .value = value};
    if (*made.name) kiln_onnx_name_add(call->onnx, frame, &made);
}

bool kiln_onnx_body(kiln_onnx_call *call, const Kiln__Onnx__Graph *body,
                    const kiln_onnx_ports *ports)
{
    kiln_onnx_frame *frame = kiln_new(&call->scope->arena, kiln_onnx_frame);
    char **names = kiln_new_array(&call->scope->arena, char *, body->n_output + 1);
    frame->parent = call->frame;
    frame->arena = &call->scope->arena;
    frame->nodes = body->node;
    frame->n_nodes = (uint32_t)body->n_node;
    if (body->n_input != ports->n_inputs || body->n_output != ports->n_outputs)
        kiln_onnx_fail(call, "the body has %zu inputs and %zu outputs; expected %u and %u",
                       body->n_input, body->n_output, ports->n_inputs, ports->n_outputs);
    kiln_onnx_initializers(call->onnx, frame, body);
    for (uint32_t i = 0; i < ports->n_inputs; i++)
        input_name(call, frame, body->input[i]->name, ports->inputs[i]);
    for (uint32_t i = 0; i < ports->n_outputs; i++)
        names[i] = body->output[i]->name ? body->output[i]->name : "";
    bool is_good = frame_import(call, frame, ports->n_outputs, names, ports->outputs);
    if (!is_good) call->is_tainted = true;
    return is_good;
}

static const Kiln__Onnx__Graph *body_read(kiln_onnx_call *call, const char *name)
{
    const Kiln__Onnx__Graph *body = kiln_onnx_graph_attribute(call, name);
    if (!body) kiln_onnx_fail(call, "attr '%s' is missing; expected a graph", name);
    return body;
}

static kiln_value import_if(kiln_onnx_call *call)
{
    const Kiln__Onnx__Graph *bodies[2] = {body_read(call, "else_branch"),
                                          body_read(call, "then_branch")};
    const kiln_type *type = kiln_onnx_type(call, 0);
    if (type->n_elements != 1 || type->dtype != KILN_bool)
        kiln_onnx_fail(call, "operand 0 is no bool; expected one");
    const void *known = kiln_onnx_known(call, call->inputs[0]);
    if (!known) return kiln_onnx_if_region(call, bodies);
    kiln_onnx_ports ports = {0, call->n_outputs, NULL, call->outputs};
    kiln_onnx_body(call, bodies[kiln_onnx_int_at(KILN_bool, known, 0) != 0], &ports);
    return call->outputs[0];
}

/* Rows collected over the trips, one after the other along a new first axis. */
static kiln_value rows_join(kiln_onnx_call *call, uint32_t n, const kiln_value *rows, uint32_t axis,
                            bool is_reversed)
{
    if (n == 0) kiln_onnx_refuse(call, "a loop of no trips has scan outputs of unknown shape");
    if (rows[0].graph == KILN_ONNX_SEQUENCE)
        kiln_onnx_refuse(call, "a scan output is a sequence; expected a tensor");
    const kiln_type *type = kiln_graph_type(call->graph, rows[0]);
    kiln_value *parts = kiln_new_array(&call->scope->arena, kiln_value, n);
    int64_t dims[KILN_MAX_RANK];
    if (type->rank == KILN_MAX_RANK) kiln_onnx_refuse(call, "scan outputs of rank %u", type->rank);
    for (uint32_t i = 0; i <= type->rank; i++) dims[i] = i == axis ? 1 : type->dims[i - (i > axis)];
    for (uint32_t i = 0; i < n; i++)
        parts[is_reversed ? n - 1 - i : i] =
            kiln_add_reshape(call->graph, rows[i], type->rank + 1, dims);
    return kiln_onnx_concat(call, n, parts, axis);
}

/* A trip takes the number of the trip and a condition, in Loop only, then the carried values; it
 * gives a condition, in Loop only, the carried values and a row of each scan output. */
typedef struct loop_state {
    const Kiln__Onnx__Graph *body;
    uint32_t n_fixed; /* results before the carried values; twice as many operands are */
    uint32_t n_inputs, n_carried, n_scanned, n_trips;
    bool is_changing; /* a carried value had another type after a trip than before it */
    kiln_value *inputs, *outputs;
    kiln_vec(kiln_value) rows[KILN_ONNX_ANY]; /* of scan output i, by trip */
} loop_state;

static void loop_open(kiln_onnx_call *call, loop_state *loop, uint32_t n_fixed, uint32_t n_in)
{
    kiln_arena *arena = &call->scope->arena;
    if (loop->body->n_output < (size_t)n_fixed + loop->n_carried ||
        loop->body->n_output > KILN_ONNX_ANY)
        kiln_onnx_fail(call, "the body has %zu outputs; expected at least %u", loop->body->n_output,
                       n_fixed + loop->n_carried);
    loop->n_fixed = n_fixed;
    loop->n_inputs = n_in;
    loop->n_scanned = (uint32_t)loop->body->n_output - n_fixed - loop->n_carried;
    if (call->n_outputs > loop->n_carried + loop->n_scanned)
        kiln_onnx_fail(call, "%u outputs; expected at most %u", call->n_outputs,
                       loop->n_carried + loop->n_scanned);
    loop->inputs = kiln_new_array(arena, kiln_value, n_in + 1);
    loop->outputs = kiln_new_array(arena, kiln_value, loop->body->n_output + 1);
}

/* Whether a carried value that was `before` is of another type, or a sequence, when it is `after`.
 */
static bool is_change(const kiln_graph *graph, kiln_value before, kiln_value after)
{
    if (before.graph == KILN_ONNX_SEQUENCE || after.graph == KILN_ONNX_SEQUENCE) return true;
    return !kiln_type_equal(kiln_graph_type(graph, before), kiln_graph_type(graph, after));
}

/* One trip: the body on loop->inputs; keeps its rows, and what it carries for the next. */
static bool loop_trip(kiln_onnx_call *call, loop_state *loop)
{
    kiln_onnx_ports ports = {loop->n_inputs, (uint32_t)loop->body->n_output, loop->inputs,
                             loop->outputs};
    kiln_onnx_count(call);
    if (!kiln_onnx_body(call, loop->body, &ports)) return false;
    const kiln_value *results = loop->outputs + loop->n_fixed;
    kiln_value *carried = loop->inputs + 2 * loop->n_fixed;
    for (uint32_t i = 0; i < loop->n_carried; i++) {
        loop->is_changing |= is_change(call->graph, carried[i], results[i]);
        carried[i] = results[i];
    }
    for (uint32_t i = 0; i < loop->n_scanned; i++)
        kiln_vec_push(&loop->rows[i], &call->scope->arena, results[loop->n_carried + i]);
    loop->n_trips++;
    return true;
}

/* Whether so many trips are left to a region, where there can be one. */
static bool is_long(const loop_state *loop, int64_t n_trips)
{
    int64_t n_nodes = n_trips * (int64_t)(loop->body->n_node + 1);
    return loop->is_changing ? n_nodes > MAX_CHANGING
                             : n_trips >= MAX_TRIPS || n_nodes > MAX_UNROLLED;
}

/* Unrolls while the condition is known to be true. False when it depends on the data, or when there
 * are too many trips, as many as the limit if that is short; the first one shows whether shapes
 * change. The call is tainted when the body cannot be imported. */
static bool loop_unroll(kiln_onnx_call *call, loop_state *loop, int64_t limit)
{
    kiln_value condition = kiln_onnx_has(call, 1) ? call->inputs[1] : (kiln_value){0};
    for (int64_t trip = 0; trip < limit; trip++) {
        const void *known = condition.id ? kiln_onnx_known(call, condition) : NULL;
        int64_t n_trips = trip && limit <= INT32_MAX ? limit : trip;
        if ((condition.id && !known) || is_long(loop, n_trips)) return false;
        if (known && !kiln_onnx_int_at(KILN_bool, known, 0)) break;
        const kiln_type *scalar = kiln_graph_tensor(call->graph, KILN_i64, 0, NULL);
        loop->inputs[0] = kiln_add_constant(call->graph, scalar, &trip);
        loop->inputs[1] = condition.id ? condition : kiln_onnx_scalar(call, KILN_bool, 1);
        if (!loop_trip(call, loop)) return true;
        condition = loop->outputs[0];
    }
    return true;
}

static kiln_value import_loop(kiln_onnx_call *call)
{
    loop_state loop = {.body = body_read(call, "body"),
                       .n_carried = call->n_inputs > 2 ? call->n_inputs - 2 : 0};
    const void *known = kiln_onnx_has(call, 0) ? kiln_onnx_known(call, call->inputs[0]) : NULL;
    loop_open(call, &loop, 1, loop.n_carried + 2);
    for (uint32_t i = 0; i < loop.n_carried; i++)
        loop.inputs[i + 2] = kiln_onnx_operand(call, i + 2);
    for (uint32_t i = 0; i < 2; i++)
        if (kiln_onnx_has(call, i) && call->inputs[i].graph == KILN_ONNX_SEQUENCE)
            kiln_onnx_fail(call, "operand %u is a sequence; expected a tensor", i);
    if (kiln_onnx_has(call, 1) && kiln_onnx_type(call, 1)->dtype != KILN_bool)
        kiln_onnx_fail(call, "operand 1 is no bool; expected one");
    if (kiln_onnx_has(call, 0) && kiln_onnx_type(call, 0)->n_elements != 1)
        kiln_onnx_fail(call, "operand 0 has %lld elements; expected one",
                       (long long)kiln_onnx_type(call, 0)->n_elements);
    bool is_open = kiln_onnx_has(call, 0) && !known; /* who knows how many trips */
    int64_t limit = known ? kiln_onnx_int_at(kiln_onnx_type(call, 0)->dtype, known, 0) : INT64_MAX;
    if (is_open || !loop_unroll(call, &loop, limit))
        return kiln_onnx_loop_region(call, loop.body, known ? limit : -1);
    if (call->is_tainted) return (kiln_value){0};
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        bool is_carried = i < loop.n_carried;
        if (!kiln_onnx_wants(call, i)) continue;
        const kiln_value *rows = is_carried ? NULL : loop.rows[i - loop.n_carried].at;
        call->outputs[i] =
            is_carried ? loop.inputs[i + 2] : rows_join(call, loop.n_trips, rows, 0, false);
    }
    return call->outputs[0];
}

int64_t kiln_onnx_list_entry(kiln_onnx_call *call, const char *name, uint32_t i)
{
    kiln_ints list;
    if (!kiln_onnx_ints(call, name, &list)) return 0;
    if (i >= list.n) kiln_onnx_fail(call, "attr '%s' has %u entries; expected more", name, list.n);
    return list.at[i];
}

bool kiln_onnx_scan_is_back(kiln_onnx_call *call, uint32_t i)
{
    const char *name = call->opset < 9 ? "directions" : "scan_input_directions";
    return kiln_onnx_list_entry(call, name, i) != 0;
}

/* Element `at` of operand i along its scan axis, without that axis. */
static kiln_value scan_element(kiln_onnx_call *call, uint32_t i, uint32_t axis, int64_t at)
{
    const kiln_type *type = kiln_onnx_ranked(call, i, 1);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t k = 0; k + 1 < type->rank; k++) dims[k] = type->dims[k + (k >= axis)];
    kiln_value part = kiln_onnx_slice(call, call->inputs[i], axis, at, at + 1);
    return kiln_add_reshape(call->graph, part, type->rank - 1, dims);
}

static kiln_value import_scan(kiln_onnx_call *call)
{
    loop_state loop = {.body = body_read(call, "body")};
    int64_t n_scan = kiln_onnx_int(call, "num_scan_inputs", 0), trips = 0;
    if (n_scan < 1 || n_scan > call->n_inputs)
        kiln_onnx_fail(call, "attr 'num_scan_inputs' is %" PRId64 "; expected 1 to %u", n_scan,
                       call->n_inputs);
    loop.n_carried = call->n_inputs - (uint32_t)n_scan;
    loop_open(call, &loop, 0, call->n_inputs);
    for (uint32_t i = 0; i < loop.n_carried; i++) loop.inputs[i] = kiln_onnx_operand(call, i);
    for (int64_t trip = 0; trip == 0 || trip < trips; trip++) {
        for (uint32_t i = 0; i < n_scan; i++) {
            const kiln_type *type = kiln_onnx_ranked(call, loop.n_carried + i, 1);
            uint32_t axis =
                kiln_onnx_axis(call, kiln_onnx_list_entry(call, "scan_input_axes", i),
                               type->rank);
            if (trip == 0 && i == 0) trips = type->dims[axis];
            if (trips * (int64_t)loop.body->n_node > MAX_UNROLLED || trips > MAX_TRIPS)
                return kiln_onnx_scan_region(call, loop.body, (uint32_t)n_scan);
            if (type->dims[axis] != trips || trips < 1)
                kiln_onnx_fail(call, "scan input %u has length %" PRId64 "; expected %" PRId64, i,
                               type->dims[axis], trips);
            int64_t at = kiln_onnx_scan_is_back(call, i) ? trips - 1 - trip : trip;
            loop.inputs[loop.n_carried + i] = scan_element(call, loop.n_carried + i, axis, at);
        }
        if (!loop_trip(call, &loop)) return (kiln_value){0};
    }
    for (uint32_t i = 0; i < call->n_outputs; i++) {
        uint32_t k = i - loop.n_carried;
        call->outputs[i] = loop.inputs[i];
        if (i < loop.n_carried) continue;
        uint32_t rank = kiln_graph_type(call->graph, loop.rows[k].at[0])->rank + 1;
        int64_t given = kiln_onnx_list_entry(call, "scan_output_axes", k);
        uint32_t axis = kiln_onnx_axis(call, given, rank);
        bool is_reversed = kiln_onnx_list_entry(call, "scan_output_directions", k) != 0;
        call->outputs[i] = rows_join(call, loop.n_trips, loop.rows[k].at, axis, is_reversed);
    }
    return call->outputs[0];
}

/* Operator set 8: operand 0 are lengths, all others have a first axis over the batch. */
static kiln_value import_scan_batch(kiln_onnx_call *call)
{
    kiln_arena *arena = &call->scope->arena;
    if (kiln_onnx_has(call, 0)) kiln_onnx_refuse(call, "sequence_lens; expected full sequences");
    int64_t n = kiln_onnx_ranked(call, 1, 1)->dims[0];
    if (n < 1 || n > MAX_TRIPS)
        kiln_onnx_refuse(call, "a batch of %" PRId64 "; expected 1 to %d", n, MAX_TRIPS);
    kiln_value *rows = kiln_new_array(arena, kiln_value, (size_t)n * call->n_outputs + 1);
    for (int64_t b = 0; b < n; b++) {
        kiln_onnx_call one = *call; /* element b of the batch */
        one.n_inputs = call->n_inputs - 1;
        one.inputs = kiln_new_array(arena, kiln_value, call->n_inputs);
        one.outputs = kiln_new_array(arena, kiln_value, call->n_outputs + 1);
        for (uint32_t i = 1; i < call->n_inputs; i++) {
            if (kiln_onnx_ranked(call, i, 1)->dims[0] != n)
                kiln_onnx_fail(call, "operand %u has a batch of another size than operand 1", i);
            one.inputs[i - 1] = scan_element(call, i, 0, b);
        }
        import_scan(&one);
        call->read |= one.read;
        call->is_tainted |= one.is_tainted;
        if (call->is_tainted) return (kiln_value){0};
        for (uint32_t i = 0; i < call->n_outputs; i++) rows[i * n + b] = one.outputs[i];
    }
    for (uint32_t i = 0; i < call->n_outputs; i++)
        call->outputs[i] = rows_join(call, (uint32_t)n, rows + i * n, 0, false);
    return call->outputs[0];
}

/* Functions of the model */

const Kiln__Onnx__Function *kiln_onnx_function_find(const kiln_onnx *onnx, const char *domain,
                                                    const char *op)
{
    for (size_t i = 0; i < onnx->model->n_function; i++) {
        const Kiln__Onnx__Function *function = onnx->model->function[i];
        if (!strcmp(function->name ? function->name : "", op) &&
            !strcmp(function->domain ? function->domain : "", domain))
            return function;
    }
    return NULL;
}

void kiln_onnx_function(kiln_onnx_call *call, const Kiln__Onnx__Function *function)
{
    kiln_onnx_frame *frame = kiln_new(&call->scope->arena, kiln_onnx_frame);
    for (const kiln_onnx_frame *at = call->frame; at;
         at = at->function ? at->function->frame : at->parent) {
        if (at->body == function)
            kiln_onnx_fail(call,
                           "recursion %s -> %s; expected functions that do not call themselves",
                           call->node->op_type, call->node->op_type);
    }
    if (call->n_inputs > function->n_input || call->n_outputs > function->n_output)
        kiln_onnx_fail(call, "%u operands and %u outputs; expected at most %zu and %zu",
                       call->n_inputs, call->n_outputs, function->n_input, function->n_output);
    frame->arena = &call->scope->arena;
    frame->nodes = function->node;
    frame->n_nodes = (uint32_t)function->n_node;
    frame->function = call;
    frame->body = function;
    for (uint32_t i = 0; i < function->n_input; i++) {
        kiln_value given = i < call->n_inputs ? call->inputs[i] : (kiln_value){0};
        input_name(call, frame, function->input[i], given);
    }
    call->read = UINT64_MAX;
    if (!frame_import(call, frame, call->n_outputs, function->output, call->outputs))
        call->is_tainted = true;
}

/* Of optional values only tensors, which are there, and operands that are left out. */
static kiln_value import_has_element(kiln_onnx_call *call)
{
    return kiln_onnx_scalar(call, KILN_bool, kiln_onnx_has(call, 0));
}

static kiln_value import_get_element(kiln_onnx_call *call)
{
    return kiln_onnx_operand(call, 0);
}

const kiln_onnx_row kiln_onnx_flow_rows[] = {
    {"If", 6, KILN_ONNX_NEWEST, 1, 1, import_if},
    {"Loop", 6, KILN_ONNX_NEWEST, 0, KILN_ONNX_ANY, import_loop, .takes_sequences = true},
    {"Scan", 8, 8, 2, KILN_ONNX_ANY, import_scan_batch},
    {"Scan", 9, KILN_ONNX_NEWEST, 1, KILN_ONNX_ANY, import_scan},
    {"OptionalHasElement", 15, KILN_ONNX_NEWEST, 0, 1, import_has_element},
    {"OptionalGetElement", 15, KILN_ONNX_NEWEST, 1, 1, import_get_element},
    {0},
};
