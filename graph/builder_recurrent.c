/* The public builder: recurrent layers. What depends on the inputs only is one product for all
 * steps; the body of the scan adds the product of the state. Gates are put into one order first:
 * LSTM i o f c, GRU z r h. A reverse direction runs over reversed rows, so that steps beyond a
 * length come first and leave the state as it was. */
#include <string.h>

#include "graph/builder.h"
#include "graph/element.h"
#include "graph/rules/rules.h"
#include "kiln/layers.h"
#include "kiln/recurrent.h"

typedef struct recurrent {
    kiln_graph *graph;
    const kiln_recurrent_options *options;
    uint32_t n_gates, n_directions;
    kiln_dtype dtype, wide;
    int64_t length, batch, input, hidden;
} recurrent;

typedef struct dims_of {
    uint32_t rank;
    int64_t at[3];
} dims_of;

static void check_operand(kiln_graph *graph, const kiln_request *request, uint32_t i, dims_of dims)
{
    if (!request->inputs[i].id) return;
    const kiln_type *type = kiln_build_type(graph, request, i);
    bool fits = type->rank == dims.rank;
    for (uint32_t axis = 0; fits && axis < dims.rank; axis++)
        fits = type->dims[axis] == dims.at[axis];
    if (fits) return;
    int64_t *at = dims.at;
    kiln_fail(graph->scope, KILN_INVALID, "%s: operand is %s; expected %s%lld,%lld%s%lld]",
              request->name, kiln_rule_type(graph, request->inputs[i]), "dims [", (long long)at[0],
              (long long)at[1], dims.rank == 3 ? "," : "; of rank 2: ", (long long)at[2]);
}

/* inputs: x, weights, recurrent; request->axis gates, ->rank directions. */
static kiln_value check_weights(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *x = kiln_build_type(graph, request, 0);
    const kiln_type *r = kiln_build_type(graph, request, 2);
    int64_t gates = request->axis, directions = request->rank;
    kiln_build_type(graph, request, 1);
    bool is_float = kiln_dtype_in(x->dtype, KILN_TYPES_FLOAT);
    if (x->rank != 3 || r->rank != 3 || !is_float) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "%s: operands %s and %s; expected floats [length, batch, input] and recurrent "
                  "weights [directions, gates * hidden, hidden]",
                  request->name, kiln_rule_type(graph, request->inputs[0]),
                  kiln_rule_type(graph, request->inputs[2]));
    }
    int64_t hidden = r->dims[2];
    check_operand(graph, request, 1, (dims_of){3, {directions, gates * hidden, x->dims[2]}});
    check_operand(graph, request, 2, (dims_of){3, {directions, gates * hidden, hidden}});
    return (kiln_value){0};
}

/* inputs: biases, peepholes, states; request->dims batch, hidden. */
static kiln_value check_states(kiln_graph *graph, const kiln_request *request)
{
    int64_t gates = request->axis, directions = request->rank, hidden = request->dims[1];
    dims_of bias = {2, {directions, gates * hidden}};
    dims_of state = {3, {directions, request->dims[0], hidden}};
    check_operand(graph, request, 0, bias);
    check_operand(graph, request, 1, bias);
    check_operand(graph, request, 2, (dims_of){2, {directions, 3 * hidden}});
    check_operand(graph, request, 3, state);
    check_operand(graph, request, 4, state);
    return (kiln_value){0};
}

static kiln_value check_lengths(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    bool is_integer = kiln_dtype_in(type->dtype, KILN_TYPES_INTEGER);
    if (is_integer && type->rank == 1 && type->dims[0] == request->dims[0]) return (kiln_value){0};
    kiln_fail(graph->scope, KILN_INVALID, "%s: lengths are %s; expected integers [%lld]",
              request->name, kiln_rule_type(graph, request->inputs[0]),
              (long long)request->dims[0]);
}

static const char *const names[] = {[1] = "rnn", [3] = "gru", [4] = "lstm"};

static bool open_layer(recurrent *layer, kiln_value x)
{
    static const kiln_recurrent_options none;
    if (!layer->options) layer->options = &none;
    const kiln_recurrent_options *o = layer->options;
    layer->n_directions = o->direction == KILN_DIRECTION_BOTH ? 2 : 1;
    kiln_request request = {.name = names[layer->n_gates],
                            .axis = layer->n_gates,
                            .rank = layer->n_directions,
                            .n = 3,
                            .inputs = {x, o->weights, o->recurrent}};
    if (!kiln_build_check(layer->graph, check_weights, &request)) return false;
    const int64_t *dims = kiln_value_dims(layer->graph, x);
    layer->length = dims[0];
    layer->batch = dims[1];
    layer->input = dims[2];
    layer->hidden = kiln_value_dims(layer->graph, o->recurrent)[2];
    layer->dtype = kiln_value_dtype(layer->graph, x);
    layer->wide = kiln_rule_compute_dtype(layer->dtype);
    request.dims = (int64_t[]){layer->batch, layer->hidden};
    request.n = 5;
    memcpy(request.inputs, (kiln_value[]){o->bias, o->recurrent_bias, o->peepholes, o->h, o->c},
           5 * sizeof o->bias);
    if (!kiln_build_check(layer->graph, check_states, &request)) return false;
    request.inputs[0] = o->lengths;
    return !o->lengths.id || kiln_build_check(layer->graph, check_lengths, &request);
}

/* Elements from … limit - 1 of one axis. */
static kiln_value cut(kiln_graph *graph, kiln_value a, uint32_t axis, const int64_t *range)
{
    int64_t starts[3] = {0}, limits[3] = {0};
    const int64_t *dims = kiln_value_dims(graph, a);
    for (uint32_t i = 0; dims && i < kiln_value_rank(graph, a); i++) limits[i] = dims[i];
    starts[axis] = range[0];
    limits[axis] = range[1];
    return kiln_slice(graph, a, &(kiln_slice_options){starts, limits, NULL});
}

/* Entry `direction` of the first axis; the zero value stays. */
static kiln_value entry_of(const recurrent *layer, kiln_value a, uint32_t direction)
{
    if (!a.id) return a;
    kiln_graph *graph = layer->graph;
    a = cut(graph, kiln_convert(graph, a, layer->wide), 0, (int64_t[]){direction, direction + 1});
    const int64_t *dims = kiln_value_dims(graph, a);
    if (!dims) return a;
    int64_t rest[2] = {dims[1], dims[kiln_value_rank(graph, a) - 1]};
    return kiln_reshape(graph, a, kiln_value_rank(graph, a) - 1, rest);
}

/* Rows of gates in our order, from where they stand in the caller's. */
static kiln_value ordered(const recurrent *layer, kiln_value a, uint32_t direction)
{
    static const uint8_t lstm[] = {0, 3, 1, 2}, gru[] = {1, 0, 2};
    bool is_lstm = layer->n_gates == 4 && layer->options->order != KILN_GATES_ONNX;
    bool is_gru = layer->n_gates == 3 && layer->options->order == KILN_GATES_PYTORCH;
    a = entry_of(layer, a, direction);
    if (!a.id || (!is_lstm && !is_gru)) return a;
    kiln_value parts[4];
    for (uint32_t i = 0; i < layer->n_gates; i++) {
        int64_t at = (is_lstm ? lstm[i] : gru[i]) * layer->hidden;
        parts[i] = cut(layer->graph, a, 0, (int64_t[]){at, at + layer->hidden});
    }
    return kiln_concat(layer->graph, layer->n_gates, parts, 0);
}

/* a [..., k] times b [n, k] turned over */
static kiln_value product(kiln_graph *graph, kiln_value a, kiln_value b)
{
    return kiln_linear(graph, a, kiln_transpose(graph, b, NULL), (kiln_value){0});
}

/* The body of one direction's scan. */
typedef struct step {
    const recurrent *layer;
    const kiln_activation *activations;
    kiln_graph *graph;
    kiln_value x, h, c, weights, bias, peepholes;
} step;

static kiln_value number(const step *s, double value)
{
    return kiln_scalar(s->graph, s->layer->wide, value);
}

static kiln_value line(const step *s, kiln_value a, const kiln_activation *by)
{
    kiln_value scaled = kiln_mul(s->graph, a, number(s, by->alpha));
    return kiln_add(s->graph, scaled, number(s, by->beta));
}

static kiln_value activate(const step *s, uint32_t place, kiln_value a)
{
    const kiln_activation *by = &s->activations[place];
    kiln_activation_kind kind = by->kind;
    double clip = s->layer->options->clip;
    kiln_graph *graph = s->graph;
    bool is_gate = place == 0 && s->layer->n_gates > 1;
    if (kind == KILN_ACTIVATION_STANDARD)
        kind = is_gate ? KILN_ACTIVATION_LOGISTIC : KILN_ACTIVATION_TANH;
    if (clip > 0) a = kiln_hard_tanh(graph, a, -clip, clip);
    switch (kind) {
    case KILN_ACTIVATION_STANDARD:
    case KILN_ACTIVATION_LOGISTIC:
        return kiln_logistic(graph, a);
    case KILN_ACTIVATION_TANH:
        return kiln_tanh(graph, a);
    case KILN_ACTIVATION_RELU:
        return kiln_relu(graph, a);
    case KILN_ACTIVATION_SOFTPLUS:
        return kiln_softplus(graph, a);
    case KILN_ACTIVATION_SOFTSIGN:
        return kiln_softsign(graph, a);
    case KILN_ACTIVATION_LEAKY_RELU:
        return kiln_leaky_relu(graph, a, by->alpha);
    case KILN_ACTIVATION_ELU:
        return kiln_elu(graph, a, by->alpha);
    case KILN_ACTIVATION_THRESHOLDED_RELU:
        return kiln_threshold(graph, a, by->alpha, 0);
    case KILN_ACTIVATION_HARD_SIGMOID:
        return kiln_hard_sigmoid(graph, a, by->alpha, by->beta);
    case KILN_ACTIVATION_SCALED_TANH:
        a = kiln_tanh(graph, kiln_mul(graph, a, number(s, by->beta)));
        return kiln_mul(graph, a, number(s, by->alpha));
    case KILN_ACTIVATION_AFFINE:
        return line(s, a, by);
    }
    return a;
}

static kiln_value gate(const step *s, kiln_value gates, int64_t i)
{
    int64_t hidden = s->layer->hidden;
    return cut(s->graph, gates, 1, (int64_t[]){i * hidden, (i + 1) * hidden});
}

static kiln_value with_peephole(const step *s, kiln_value gates, int64_t i, kiln_value c)
{
    int64_t hidden = s->layer->hidden;
    kiln_value own = gate(s, gates, i);
    if (!s->peepholes.id) return own;
    kiln_value w = cut(s->graph, s->peepholes, 0, (int64_t[]){i * hidden, (i + 1) * hidden});
    return kiln_add(s->graph, own, kiln_mul(s->graph, w, c));
}

static kiln_value rest_of_one(const step *s, kiln_value a)
{
    return kiln_sub(s->graph, number(s, 1), a);
}

static void step_lstm(step *s)
{
    kiln_graph *graph = s->graph;
    kiln_value gates = kiln_add(graph, s->x, product(graph, s->h, s->weights));
    kiln_value i = activate(s, 0, with_peephole(s, gates, 0, s->c));
    kiln_value f = activate(s, 0, with_peephole(s, gates, 2, s->c));
    kiln_value c = activate(s, 1, gate(s, gates, 3));
    if (s->layer->options->is_coupled) f = rest_of_one(s, i);
    s->c = kiln_add(graph, kiln_mul(graph, f, s->c), kiln_mul(graph, i, c));
    kiln_value o = activate(s, 0, with_peephole(s, gates, 1, s->c));
    s->h = kiln_mul(graph, o, activate(s, 2, s->c));
}

static void step_gru(step *s)
{
    kiln_graph *graph = s->graph;
    int64_t hidden = s->layer->hidden, first[] = {0, 2 * hidden}, last[] = {2 * hidden, 3 * hidden};
    kiln_value outer = cut(graph, s->weights, 0, first), inner = cut(graph, s->weights, 0, last);
    kiln_value gates = kiln_add(graph, cut(graph, s->x, 1, first), product(graph, s->h, outer));
    kiln_value z = activate(s, 0, gate(s, gates, 0)), r = activate(s, 0, gate(s, gates, 1)), n;
    if (s->layer->options->is_reset_first) {
        n = product(graph, kiln_mul(graph, r, s->h), inner);
        if (s->bias.id) n = kiln_add(graph, n, s->bias);
    } else {
        n = product(graph, s->h, inner);
        if (s->bias.id) n = kiln_add(graph, n, s->bias);
        n = kiln_mul(graph, r, n);
    }
    n = activate(s, 1, kiln_add(graph, cut(graph, s->x, 1, last), n));
    s->h = kiln_add(graph, kiln_mul(graph, rest_of_one(s, z), n), kiln_mul(graph, z, s->h));
}

/* Values that the body takes, and where they come from outside. */
typedef struct ports {
    kiln_value carried[2], sequences[2], fixed[4];
    uint32_t n_carried, n_sequences, n_fixed;
} ports;

static kiln_value body_input(kiln_graph *body, const kiln_graph *graph, const char *name,
                             kiln_value like)
{
    return kiln_input(body, name, kiln_value_dtype(graph, like), kiln_value_rank(graph, like),
                      kiln_value_dims(graph, like));
}

/* States, row and place, then what stays: in the order of `p`. */
static kiln_graph *make_body(const recurrent *layer, uint32_t direction, const ports *p)
{
    kiln_graph *body, *graph = layer->graph;
    if (kiln_graph_create(graph->context, names[layer->n_gates], &body)) return NULL;
    const kiln_recurrent_options *o = layer->options;
    int64_t row[] = {layer->batch, layer->n_gates * layer->hidden}, axis = 0;
    uint32_t next = 0;
    step s = {.layer = layer, .activations = o->activations[direction], .graph = body};
    s.h = body_input(body, graph, "h", p->carried[0]);
    if (layer->n_gates == 4) s.c = body_input(body, graph, "c", p->carried[1]);
    kiln_value h = s.h, c = s.c, place = {0};
    s.x = kiln_input(body, "x", layer->wide, 2, row);
    if (o->lengths.id) place = kiln_input(body, "place", KILN_i64, 0, NULL);
    s.weights = body_input(body, graph, "weights", p->fixed[next++]);
    if (layer->n_gates == 3 && o->recurrent_bias.id)
        s.bias = body_input(body, graph, "bias", p->fixed[next++]);
    if (layer->n_gates == 4 && o->peepholes.id)
        s.peepholes = body_input(body, graph, "peepholes", p->fixed[next++]);
    if (layer->n_gates == 4) step_lstm(&s);
    if (layer->n_gates == 3) step_gru(&s);
    if (layer->n_gates == 1)
        s.h = activate(&s, 0, kiln_add(body, s.x, product(body, s.h, s.weights)));
    kiln_value y = s.h;
    if (o->lengths.id) {
        kiln_value lengths = body_input(body, graph, "lengths", p->fixed[next++]);
        kiln_value is_on = kiln_broadcast(body, kiln_lt(body, place, lengths), 2,
                                          (int64_t[]){layer->batch, layer->hidden}, &axis);
        s.h = kiln_select(body, is_on, s.h, h);
        if (c.id) s.c = kiln_select(body, is_on, s.c, c);
        y = kiln_select(body, is_on, y, number(&s, 0));
    }
    kiln_output(body, NULL, s.h);
    if (c.id) kiln_output(body, NULL, s.c);
    kiln_output(body, NULL, y);
    return body;
}

/* x W^T with the biases; GRU's recurrent bias of h stays apart where r multiplies it. */
static kiln_value input_products(const recurrent *layer, kiln_value x, uint32_t direction,
                                 kiln_value *out_bias)
{
    kiln_graph *graph = layer->graph;
    const kiln_recurrent_options *o = layer->options;
    int64_t kept[] = {0, 2 * layer->hidden}, apart[] = {2 * layer->hidden, 3 * layer->hidden};
    kiln_value y = product(graph, x, ordered(layer, o->weights, direction));
    kiln_value bias = ordered(layer, o->bias, direction);
    kiln_value again = ordered(layer, o->recurrent_bias, direction);
    *out_bias = (kiln_value){0};
    if (layer->n_gates == 3 && again.id) {
        *out_bias = cut(graph, again, 0, apart);
        kiln_value zeros = kiln_splat(graph, layer->wide, 1, &layer->hidden, 0);
        again = kiln_concat(graph, 2, (kiln_value[]){cut(graph, again, 0, kept), zeros}, 0);
    }
    if (bias.id) y = kiln_add(graph, y, bias);
    return again.id ? kiln_add(graph, y, again) : y;
}

static kiln_value first_state(const recurrent *layer, kiln_value given, uint32_t direction)
{
    int64_t dims[] = {layer->batch, layer->hidden};
    if (given.id) return entry_of(layer, given, direction);
    return kiln_splat(layer->graph, layer->wide, 2, dims, 0);
}

static kiln_recurrent_result run_direction(const recurrent *layer, kiln_value x, uint32_t direction)
{
    kiln_graph *graph = layer->graph;
    const kiln_recurrent_options *o = layer->options;
    bool is_reversed = direction == 1 || o->direction == KILN_DIRECTION_REVERSE;
    int64_t time = 0;
    kiln_value bias;
    ports p = {.n_carried = layer->n_gates == 4 ? 2 : 1, .n_sequences = o->lengths.id ? 2 : 1};
    p.carried[0] = first_state(layer, o->h, direction);
    if (layer->n_gates == 4) p.carried[1] = first_state(layer, o->c, direction);
    p.sequences[0] = input_products(layer, x, direction, &bias);
    p.sequences[1] = kiln_iota(graph, KILN_i64, 1, &layer->length, 0);
    for (uint32_t i = 0; is_reversed && i < 2; i++)
        p.sequences[i] = kiln_reverse(graph, p.sequences[i], 1, &time);
    p.fixed[p.n_fixed++] = ordered(layer, o->recurrent, direction);
    if (bias.id) p.fixed[p.n_fixed++] = bias;
    if (layer->n_gates == 4 && o->peepholes.id)
        p.fixed[p.n_fixed++] = entry_of(layer, o->peepholes, direction);
    if (o->lengths.id) p.fixed[p.n_fixed++] = kiln_convert(graph, o->lengths, KILN_i64);
    kiln_graph *body = make_body(layer, direction, &p);
    kiln_scan_options scan = {body,      p.n_carried, p.n_sequences, p.n_fixed,
                              p.carried, p.sequences, p.fixed,       layer->length};
    kiln_value tuple = kiln_scan(graph, &scan);
    kiln_graph_destroy(body);
    kiln_recurrent_result result = {
        kiln_item(graph, tuple, p.n_carried), kiln_item(graph, tuple, 0), {0}};
    if (layer->n_gates == 4) result.c = kiln_item(graph, tuple, 1);
    if (is_reversed) result.y = kiln_reverse(graph, result.y, 1, &time);
    return result;
}

static kiln_value stack(const recurrent *layer, const kiln_value *states)
{
    int64_t dims[] = {1, layer->batch, layer->hidden};
    kiln_value parts[2];
    for (uint32_t i = 0; i < layer->n_directions; i++)
        parts[i] = kiln_reshape(layer->graph, states[i], 3, dims);
    kiln_value all = kiln_concat(layer->graph, layer->n_directions, parts, 0);
    return kiln_convert(layer->graph, all, layer->dtype);
}

static kiln_recurrent_result run_layer(recurrent layer, kiln_value x)
{
    kiln_recurrent_result result = {0};
    kiln_value y[2], h[2], c[2];
    if (!open_layer(&layer, x)) return result;
    kiln_value wide = kiln_convert(layer.graph, x, layer.wide);
    for (uint32_t i = 0; i < layer.n_directions; i++) {
        kiln_recurrent_result one = run_direction(&layer, wide, i);
        y[i] = one.y;
        h[i] = one.h;
        c[i] = one.c;
    }
    result.y = kiln_concat(layer.graph, layer.n_directions, y, 2);
    result.y = kiln_convert(layer.graph, result.y, layer.dtype);
    result.h = stack(&layer, h);
    if (layer.n_gates == 4) result.c = stack(&layer, c);
    return result;
}

kiln_recurrent_result kiln_rnn(kiln_graph *graph, kiln_value x,
                               const kiln_recurrent_options *options)
{
    return run_layer((recurrent){.graph = graph, .options = options, .n_gates = 1}, x);
}

kiln_recurrent_result kiln_gru(kiln_graph *graph, kiln_value x,
                               const kiln_recurrent_options *options)
{
    return run_layer((recurrent){.graph = graph, .options = options, .n_gates = 3}, x);
}

kiln_recurrent_result kiln_lstm(kiln_graph *graph, kiln_value x,
                                const kiln_recurrent_options *options)
{
    return run_layer((recurrent){.graph = graph, .options = options, .n_gates = 4}, x);
}
