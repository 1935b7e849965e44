/* RNN, GRU and LSTM, unrolled over the sequence. What depends on the inputs only is one product for
 * all steps; a step adds the product of the state. Gates come in ONNX's order: LSTM i o f c, GRU z
 * r h. */
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_op.h"

#define MAX_STEPS 4096

typedef struct recurrent_cell {
    uint32_t n_gates;
    int64_t length, batch, hidden, directions;
    bool is_batch_first, is_reset_late; /* GRU: linear_before_reset */
    bool is_coupled;                    /* LSTM: input_forget */
    double clip;                        /* 0: none */
    kiln_value x;                       /* [length, batch, input] */
} recurrent_cell;

/* One direction at work. */
typedef struct recurrent_run {
    const recurrent_cell *cell;
    uint32_t direction;
    bool is_reversed;
    kiln_value inputs;        /* [length, batch, n_gates * hidden]: x W^T + biases */
    kiln_value weights, bias; /* R [n_gates * hidden, hidden]; recurrent bias of GRU's h */
    kiln_value h, c;          /* [batch, hidden] */
    kiln_value peepholes;     /* [3 * hidden], or none */
    const char *activations[3];
    double alpha[3], beta[3];
} recurrent_run;

static kiln_value add(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_add, a, b);
}

static kiln_value mul(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_mul, a, b);
}

/* Entry `direction` of the first axis of operand i; none when it is left out. */
static kiln_value direction_of(kiln_onnx_call *call, uint32_t i, uint32_t direction, uint32_t rank)
{
    if (!kiln_onnx_has(call, i)) return (kiln_value){0};
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank != rank || type->dims[0] <= direction)
        kiln_onnx_fail(call, "operand %u has rank %u; expected rank %u and one entry a direction",
                       i, type->rank, rank);
    kiln_value part = kiln_onnx_slice(call, call->inputs[i], 0, direction, direction + 1);
    return kiln_add_reshape(call->graph, part, rank - 1, type->dims + 1);
}

/* a [batch, k] times b [n, k] turned over */
static kiln_value product(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t last[1] = {type->rank - 1}, one[1] = {1};
    kiln_value operands[] = {a, b};
    kiln_attrs attrs = {
        KILN_FAMILY_dot,
        .dot = {{0}, {0}, {1, last}, {1, one}, kiln_dtype_accumulator(type->dtype)}};
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_dot_general,
                                                         .inputs = operands,
                                                         .n_inputs = 2,
                                                         .attrs = &attrs});
}

static kiln_value activate(kiln_onnx_call *call, const recurrent_run *run, uint32_t i, kiln_value a)
{
    const char *name = run->activations[i];
    double alpha = run->alpha[i], beta = run->beta[i];
    if (run->cell->clip > 0) {
        a = kiln_onnx_with(call, KILN_OP_max, a, -run->cell->clip);
        a = kiln_onnx_with(call, KILN_OP_min, a, run->cell->clip);
    }
    if (!strcmp(name, "Sigmoid")) return kiln_add_unary(call->graph, KILN_OP_logistic, a);
    if (!strcmp(name, "Tanh")) return kiln_add_unary(call->graph, KILN_OP_tanh, a);
    if (!strcmp(name, "Relu")) return kiln_add_unary(call->graph, KILN_OP_relu, a);
    if (!strcmp(name, "Softplus")) return kiln_add_unary(call->graph, KILN_OP_softplus, a);
    if (!strcmp(name, "Affine"))
        return kiln_onnx_with(call, KILN_OP_add, kiln_onnx_with(call, KILN_OP_mul, a, alpha), beta);
    kiln_attrs slope = {KILN_FAMILY_slope, .slope = {alpha}},
               affine = {KILN_FAMILY_affine, .affine = {alpha, beta}};
    kiln_node_spec spec = {.inputs = &a, .n_inputs = 1, .attrs = &slope};
    if (!strcmp(name, "LeakyRelu")) spec.op = KILN_OP_leaky_relu;
    if (!strcmp(name, "Elu")) spec.op = KILN_OP_elu;
    if (!strcmp(name, "HardSigmoid")) {
        spec.op = KILN_OP_hard_sigmoid;
        spec.attrs = &affine;
    }
    if (spec.op == KILN_OP_none)
        kiln_onnx_refuse(call, "activation %s", kiln_onnx_quote(&call->scope->arena, name));
    return kiln_graph_add(call->graph, &spec);
}

static kiln_value gate(kiln_onnx_call *call, const recurrent_run *run, kiln_value gates, uint32_t i)
{
    int64_t hidden = run->cell->hidden;
    return kiln_onnx_slice(call, gates, 1, i * hidden, (i + 1) * hidden);
}

static kiln_value peephole(kiln_onnx_call *call, const recurrent_run *run, kiln_value gates,
                           uint32_t i, kiln_value c)
{
    if (!run->peepholes.id) return gates;
    int64_t hidden = run->cell->hidden;
    kiln_value weights = kiln_onnx_slice(call, run->peepholes, 0, i * hidden, (i + 1) * hidden);
    return add(call, gates, mul(call, weights, c));
}

static void step_lstm(kiln_onnx_call *call, recurrent_run *run, kiln_value x)
{
    kiln_value gates = add(call, x, product(call, run->h, run->weights));
    kiln_value i =
        activate(call, run, 0, peephole(call, run, gate(call, run, gates, 0), 0, run->c));
    kiln_value f =
        activate(call, run, 0, peephole(call, run, gate(call, run, gates, 2), 2, run->c));
    kiln_value c = activate(call, run, 1, gate(call, run, gates, 3));
    if (run->cell->is_coupled)
        f = kiln_add_binary(call->graph, KILN_OP_sub, kiln_add_splat_like(call->graph, i, 1), i);
    run->c = add(call, mul(call, f, run->c), mul(call, i, c));
    kiln_value o =
        activate(call, run, 0, peephole(call, run, gate(call, run, gates, 1), 1, run->c));
    run->h = mul(call, o, activate(call, run, 2, run->c));
}

static void step_gru(kiln_onnx_call *call, recurrent_run *run, kiln_value x)
{
    int64_t hidden = run->cell->hidden;
    kiln_value first = kiln_onnx_slice(call, run->weights, 0, 0, 2 * hidden);
    kiln_value last = kiln_onnx_slice(call, run->weights, 0, 2 * hidden, 3 * hidden);
    kiln_value gates =
        add(call, kiln_onnx_slice(call, x, 1, 0, 2 * hidden), product(call, run->h, first));
    kiln_value z = activate(call, run, 0, gate(call, run, gates, 0));
    kiln_value r = activate(call, run, 0, gate(call, run, gates, 1)), inner;
    if (run->cell->is_reset_late) {
        inner = product(call, run->h, last);
        if (run->bias.id) inner = add(call, inner, run->bias);
        inner = mul(call, r, inner);
    } else {
        inner = product(call, mul(call, r, run->h), last);
        if (run->bias.id) inner = add(call, inner, run->bias);
    }
    kiln_value n = activate(call, run, 1,
                            add(call, kiln_onnx_slice(call, x, 1, 2 * hidden, 3 * hidden), inner));
    kiln_value rest =
        kiln_add_binary(call->graph, KILN_OP_sub, kiln_add_splat_like(call->graph, z, 1), z);
    run->h = add(call, mul(call, rest, n), mul(call, z, run->h));
}

static void step_rnn(kiln_onnx_call *call, recurrent_run *run, kiln_value x)
{
    run->h = activate(call, run, 0, add(call, x, product(call, run->h, run->weights)));
}

/* Names and parameters of this direction's activations. */
static void activations_read(kiln_onnx_call *call, recurrent_run *run)
{
    static const char *const usual[3][3] = {
        {"Tanh"}, {"Sigmoid", "Tanh"}, {"Sigmoid", "Tanh", "Tanh"}};
    uint32_t kind = run->cell->n_gates == 1 ? 0 : run->cell->n_gates == 3 ? 1 : 2, n = kind + 1;
    uint32_t n_names = kiln_onnx_strings(call, "activations", NULL, 0), n_alpha = 0, n_beta = 0;
    const float *alpha = NULL, *beta = NULL;
    kiln_onnx_floats(call, "activation_alpha", &n_alpha, &alpha);
    kiln_onnx_floats(call, "activation_beta", &n_beta, &beta);
    if (n_names && n_names != n * run->cell->directions)
        kiln_onnx_fail(call, "attr 'activations' has %u entries; expected %u a direction", n_names,
                       n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = run->direction * n + i;
        run->activations[i] = usual[kind][i];
        if (n_names) kiln_onnx_strings(call, "activations", &run->activations[i], at);
        bool is_hard = !strcmp(run->activations[i], "HardSigmoid"),
             is_leaky = !strcmp(run->activations[i], "LeakyRelu");
        run->alpha[i] = at < n_alpha ? (double)alpha[at] : is_hard ? 0.2f : is_leaky ? 0.01f : 1;
        run->beta[i] = at < n_beta ? (double)beta[at] : is_hard ? 0.5 : 0;
    }
}

/* x W^T + Wb + Rb for all steps; the recurrent bias of GRU's last gate stays apart. */
static void inputs_make(kiln_onnx_call *call, recurrent_run *run)
{
    const recurrent_cell *cell = run->cell;
    int64_t width = cell->n_gates * cell->hidden,
            kept = cell->n_gates == 3 ? 2 * cell->hidden : width;
    run->inputs = product(call, cell->x, direction_of(call, 1, run->direction, 3));
    run->weights = direction_of(call, 2, run->direction, 3);
    kiln_value bias = direction_of(call, 3, run->direction, 2);
    if (!bias.id) return;
    if (kiln_graph_type(call->graph, bias)->dims[0] != 2 * width)
        kiln_onnx_fail(call, "operand 3 has the wrong size; expected 2 x %" PRId64, width);
    run->inputs = add(call, run->inputs, kiln_onnx_slice(call, bias, 0, 0, width));
    kiln_value recurrent = kiln_onnx_slice(call, bias, 0, width, width + kept);
    if (kept < width) {
        run->bias = kiln_onnx_slice(call, bias, 0, width + kept, 2 * width);
        recurrent = kiln_onnx_concat(
            call, 2, (kiln_value[]){recurrent, kiln_add_splat_like(call->graph, run->bias, 0)}, 0);
    }
    run->inputs = add(call, run->inputs, recurrent);
}

static kiln_value state_of(kiln_onnx_call *call, const recurrent_run *run, uint32_t i)
{
    const recurrent_cell *cell = run->cell;
    int64_t dims[2] = {cell->batch, cell->hidden};
    kiln_dtype dtype = kiln_graph_type(call->graph, cell->x)->dtype;
    if (!kiln_onnx_has(call, i)) return kiln_add_splat(call->graph, dtype, 2, dims, 0);
    if (!cell->is_batch_first) return direction_of(call, i, run->direction, 3);
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank != 3) kiln_onnx_fail(call, "operand %u has rank %u; expected 3", i, type->rank);
    kiln_value part = kiln_onnx_slice(call, call->inputs[i], 1, run->direction, run->direction + 1);
    return kiln_add_reshape(call->graph, part, 2, dims);
}

/* Where a sequence has ended the state stays and the output is 0. */
static kiln_value step_mask(kiln_onnx_call *call, recurrent_run *run, int64_t at, kiln_value h,
                            kiln_value c)
{
    if (!kiln_onnx_has(call, 4)) return run->h;
    kiln_value lengths = kiln_add_convert(call->graph, call->inputs[4], KILN_i64);
    int64_t dims[2] = {run->cell->batch, 1};
    kiln_value is_on = kiln_onnx_with(call, KILN_OP_gt,
                                      kiln_add_reshape(call->graph, lengths, 2, dims), (double)at);
    run->h = kiln_onnx_select(call, is_on, run->h, h);
    if (c.id) run->c = kiln_onnx_select(call, is_on, run->c, c);
    return kiln_onnx_select(call, is_on, run->h, kiln_add_splat_like(call->graph, run->h, 0));
}

/* All steps of one direction; the outputs stacked as [length, 1, batch, hidden]. */
static kiln_value direction_run(kiln_onnx_call *call, recurrent_run *run)
{
    const recurrent_cell *cell = run->cell;
    kiln_value *rows = kiln_new_array(&call->scope->arena, kiln_value, cell->length + 1);
    int64_t wide[4] = {1, 1, cell->batch, cell->hidden},
            flat[2] = {cell->batch, cell->n_gates * cell->hidden};
    activations_read(call, run);
    inputs_make(call, run);
    run->h = state_of(call, run, 5);
    if (cell->n_gates == 4) run->c = state_of(call, run, 6);
    if (cell->n_gates == 4) run->peepholes = direction_of(call, 7, run->direction, 2);
    for (int64_t step = 0; step < cell->length; step++) {
        int64_t at = run->is_reversed ? cell->length - 1 - step : step;
        kiln_value h = run->h, c = run->c;
        kiln_value x = kiln_add_reshape(call->graph,
                                        kiln_onnx_slice(call, run->inputs, 0, at, at + 1), 2, flat);
        if (cell->n_gates == 4) step_lstm(call, run, x);
        if (cell->n_gates == 3) step_gru(call, run, x);
        if (cell->n_gates == 1) step_rnn(call, run, x);
        rows[at] = kiln_add_reshape(call->graph, step_mask(call, run, at, h, c), 4, wide);
    }
    return kiln_onnx_concat(call, (uint32_t)cell->length, rows, 0);
}

static recurrent_cell cell_read(kiln_onnx_call *call)
{
    static const int64_t swap[3] = {1, 0, 2};
    const kiln_type *type = kiln_onnx_type(call, 0), *weights = kiln_onnx_type(call, 2);
    recurrent_cell made = {.n_gates = call->row->op[0] == 'L'   ? 4
                                      : call->row->op[0] == 'G' ? 3
                                                                : 1};
    made.is_batch_first = kiln_onnx_flag(call, "layout", false);
    if (type->rank != 3 || weights->rank != 3)
        kiln_onnx_fail(call, "operands 0 and 2 have rank %u and %u; expected 3", type->rank,
                       weights->rank);
    made.x = call->inputs[0];
    if (made.is_batch_first) made.x = kiln_add_transpose(call->graph, made.x, swap);
    type = kiln_graph_type(call->graph, made.x);
    made.length = type->dims[0];
    made.batch = type->dims[1];
    made.hidden = weights->dims[2];
    made.directions = weights->dims[0];
    made.clip = kiln_onnx_float(call, "clip", 0);
    if (made.n_gates == 3) made.is_reset_late = kiln_onnx_flag(call, "linear_before_reset", false);
    if (made.n_gates == 4) made.is_coupled = kiln_onnx_flag(call, "input_forget", false);
    if (kiln_onnx_int(call, "hidden_size", made.hidden) != made.hidden ||
        weights->dims[1] != made.n_gates * made.hidden)
        kiln_onnx_fail(call,
                       "weights are [%" PRId64 ", %" PRId64 ", %" PRId64
                       "]; expected %u gates of hidden_size",
                       weights->dims[0], weights->dims[1], weights->dims[2], made.n_gates);
    if (made.length < 1 || made.length > MAX_STEPS)
        kiln_onnx_refuse(call, "a sequence of %" PRId64 " steps", made.length);
    return made;
}

static kiln_value import_recurrent(kiln_onnx_call *call)
{
    static const int64_t first[4] = {2, 0, 1, 3}, swap[3] = {1, 0, 2};
    recurrent_cell cell = cell_read(call);
    const char *direction = kiln_onnx_string(call, "direction", "forward");
    bool is_both = !strcmp(direction, "bidirectional"), is_back = !strcmp(direction, "reverse");
    int64_t state[3] = {1, cell.batch, cell.hidden};
    kiln_value rows[2], h[2], c[2];
    uint32_t n = is_both ? 2 : 1;
    if (cell.directions != n || (!is_both && !is_back && strcmp(direction, "forward")))
        kiln_onnx_fail(call, "attr 'direction' is %s; expected weights for it",
                       kiln_onnx_quote(&call->scope->arena, direction));
    for (uint32_t i = 0; i < n; i++) {
        recurrent_run run = {.cell = &cell, .direction = i, .is_reversed = is_back || i == 1};
        rows[i] = direction_run(call, &run);
        h[i] = kiln_add_reshape(call->graph, run.h, 3, state);
        if (run.c.id) c[i] = kiln_add_reshape(call->graph, run.c, 3, state);
    }
    kiln_value y = kiln_onnx_concat(call, n, rows, 1), last = kiln_onnx_concat(call, n, h, 0);
    kiln_value memory = cell.n_gates == 4 ? kiln_onnx_concat(call, n, c, 0) : (kiln_value){0};
    if (cell.is_batch_first) {
        y = kiln_add_transpose(call->graph, y, first);
        last = kiln_add_transpose(call->graph, last, swap);
        if (memory.id) memory = kiln_add_transpose(call->graph, memory, swap);
    }
    kiln_onnx_result(call, 1, last);
    kiln_onnx_result(call, 2, memory);
    return y;
}

const kiln_onnx_row kiln_onnx_recurrent_rows[] = {
    {"RNN", 7, KILN_ONNX_NEWEST, 3, 6, import_recurrent},
    {"GRU", 7, KILN_ONNX_NEWEST, 3, 6, import_recurrent},
    {"LSTM", 7, KILN_ONNX_NEWEST, 3, 8, import_recurrent},
    {0},
};
