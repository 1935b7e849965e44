/* The public builder: connectionist temporal classification. The target with blanks around and
 * between its labels has 2 n + 1 states; a scan over time keeps the logarithm of the probability of
 * being in each, where one stays, goes on by one, or by two over a blank between different labels.
 * Logarithms of 0 are -infinity throughout. */
#include <math.h>

#include "graph/builder.h"
#include "graph/builder_loss.h"
#include "graph/element.h"
#include "graph/rules/rules.h"

static kiln_value check_ctc(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *types[4];
    for (uint32_t i = 0; i < 4; i++) types[i] = kiln_build_type(graph, request, i);
    bool fits =
        types[0]->rank == 3 && types[1]->rank == 2 && types[1]->dims[0] == types[0]->dims[1];
    for (uint32_t i = 1; i < 4; i++)
        fits = fits && kiln_dtype_in(types[i]->dtype, KILN_TYPES_INTEGER);
    for (uint32_t i = 2; i < 4 && fits; i++)
        fits = types[i]->rank == 1 && types[i]->dims[0] == types[0]->dims[1];
    fits = fits && request->axis >= 0 && request->axis < types[0]->dims[2];
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "ctc_loss: logs %s, targets %s, blank %lld; expected [length, batch, class], "
                  "integers [batch, longest], a class and lengths [batch]",
                  kiln_rule_type(graph, request->inputs[0]),
                  kiln_rule_type(graph, request->inputs[1]), (long long)request->axis);
    }
    return (kiln_value){0};
}

typedef struct ctc {
    kiln_loss loss;
    int64_t length, batch, longest, states;
    kiln_value labels, may_skip; /* by [batch, state]: i64; bool */
} ctc;

/* One axis of two: elements `by` places before, `value` where there are none. */
static kiln_value shifted(kiln_graph *graph, kiln_value a, int64_t by, kiln_value value)
{
    kiln_pad_options options = {.low = (int64_t[]){0, by}, .high = (int64_t[]){0, -by}};
    return kiln_pad(graph, a, value, &options);
}

/* Labels between blanks, and where the state two before is another label. */
static void find_states(ctc *self, kiln_value targets, int64_t blank)
{
    kiln_graph *graph = self->loss.graph;
    kiln_value none = kiln_constant(graph, KILN_i64, 0, NULL, &blank);
    int64_t inside = self->longest > 0;
    kiln_pad_options apart = {
        .low = (int64_t[]){0, 1}, .high = (int64_t[]){0, inside}, .interior = (int64_t[]){0, 1}};
    self->labels = kiln_pad(graph, kiln_convert(graph, targets, KILN_i64), none, &apart);
    kiln_value before = shifted(graph, self->labels, 2, none);
    if (self->states < 2) before = self->labels;
    self->may_skip =
        kiln_and(graph, kiln_ne(graph, self->labels, none), kiln_ne(graph, self->labels, before));
}

/* log(e^a + e^b) */
static kiln_value log_sum(kiln_graph *graph, kiln_value a, kiln_value b)
{
    kiln_dtype dtype = kiln_value_dtype(graph, a);
    kiln_value most = kiln_max(graph, a, b), low = kiln_scalar(graph, dtype, -INFINITY);
    kiln_value is_none = kiln_eq(graph, most, low);
    kiln_value base = kiln_select(graph, is_none, kiln_scalar(graph, dtype, 0), most);
    kiln_value sum = kiln_add(graph, kiln_exp(graph, kiln_sub(graph, a, base)),
                              kiln_exp(graph, kiln_sub(graph, b, base)));
    return kiln_add(graph, base, kiln_log(graph, sum));
}

/* (alpha, time; emitted; may_skip, lengths) to (alpha, time + 1) */
static kiln_graph *make_step(const ctc *self)
{
    kiln_graph *body;
    kiln_dtype dtype = self->loss.wide;
    int64_t dims[] = {self->batch, self->states}, row = 0;
    if (kiln_graph_create(self->loss.graph->context, "ctc", &body)) return NULL;
    kiln_value alpha = kiln_input(body, "alpha", dtype, 2, dims);
    kiln_value time = kiln_input(body, "time", KILN_i64, 0, NULL);
    kiln_value emitted = kiln_input(body, "emitted", dtype, 2, dims);
    kiln_value may_skip = kiln_input(body, "may_skip", KILN_bool, 2, dims);
    kiln_value lengths = kiln_input(body, "lengths", KILN_i64, 1, dims);
    kiln_value none = kiln_scalar(body, dtype, -INFINITY), next = alpha;
    if (self->states > 1) {
        next = log_sum(body, next, shifted(body, alpha, 1, none));
        kiln_value far = shifted(body, alpha, 2, none);
        next = log_sum(body, next, kiln_select(body, may_skip, far, none));
    }
    next = kiln_add(body, next, emitted);
    kiln_value is_on = kiln_broadcast(body, kiln_lt(body, time, lengths), 2, dims, &row);
    kiln_output(body, NULL, kiln_select(body, is_on, next, alpha));
    kiln_output(body, NULL, kiln_add(body, time, kiln_scalar(body, KILN_i64, 1)));
    return body;
}

static kiln_value run_steps(const ctc *self, kiln_value input_lengths)
{
    kiln_graph *graph = self->loss.graph, *body = make_step(self);
    int64_t dims[] = {self->batch, self->states}, axes[] = {1, 2};
    int64_t all[] = {self->length, self->batch, self->states};
    kiln_value state = kiln_iota(graph, KILN_i64, 2, dims, 1);
    kiln_value is_first = kiln_eq(graph, state, kiln_scalar(graph, KILN_i64, 0));
    kiln_value carried[] = {kiln_select(graph, is_first, kiln_loss_number(&self->loss, 0),
                                        kiln_loss_number(&self->loss, -INFINITY)),
                            kiln_scalar(graph, KILN_i64, 0)};
    kiln_value labels = kiln_broadcast(graph, self->labels, 3, all, axes);
    kiln_value emitted = kiln_take_along(graph, self->loss.in[0], labels, 2);
    kiln_value fixed[] = {self->may_skip, kiln_convert(graph, input_lengths, KILN_i64)};
    kiln_scan_options scan = {body, 2, 1, 2, carried, &emitted, fixed, self->length};
    kiln_value alpha = kiln_item(graph, kiln_scan(graph, &scan), 0);
    kiln_graph_destroy(body);
    return alpha;
}

kiln_value kiln_ctc_loss(kiln_graph *graph, kiln_value logs, kiln_value targets,
                         const kiln_ctc_options *options)
{
    static const kiln_ctc_options none;
    if (!options) options = &none;
    kiln_request request = {
        .name = "ctc_loss",
        .inputs = {logs, targets, options->input_lengths, options->target_lengths},
        .n = 4,
        .axis = options->blank};
    if (!kiln_build_check(graph, check_ctc, &request)) return (kiln_value){0};
    const int64_t *dims = kiln_value_dims(graph, logs);
    ctc self = {.length = dims[0], .batch = dims[1], .longest = kiln_value_dims(graph, targets)[1]};
    self.states = 2 * self.longest + 1;
    self.loss = kiln_loss_open(graph, "ctc_loss", 1, &logs);
    find_states(&self, targets, options->blank);
    kiln_value alpha = run_steps(&self, options->input_lengths);
    /* the last label or the blank behind it */
    int64_t column[] = {self.batch, 1};
    kiln_value n = kiln_convert(graph, options->target_lengths, KILN_i64);
    kiln_value last = kiln_mul(graph, n, kiln_scalar(graph, KILN_i64, 2));
    kiln_value before = kiln_sub(graph, last, kiln_scalar(graph, KILN_i64, 1));
    kiln_value empty = kiln_loss_number(&self.loss, -INFINITY);
    kiln_value b = kiln_take_along(graph, alpha, kiln_reshape(graph, last, 2, column), 1);
    kiln_value a = kiln_take_along(graph, alpha, kiln_reshape(graph, before, 2, column), 1);
    kiln_value has_label = kiln_gt(graph, n, kiln_scalar(graph, KILN_i64, 0));
    a = kiln_select(graph, kiln_reshape(graph, has_label, 2, column), a, empty);
    kiln_value y = kiln_neg(graph, kiln_reshape(graph, log_sum(graph, a, b), 1, column));
    if (options->is_zero_infinite) {
        kiln_value is_finite = kiln_is_finite(graph, y);
        y = kiln_select(graph, is_finite, y, kiln_loss_number(&self.loss, 0));
    }
    if (options->reduction == KILN_REDUCTION_MEAN) {
        kiln_value size = kiln_convert(graph, n, self.loss.wide);
        y = kiln_div(graph, y, kiln_max(graph, size, kiln_loss_number(&self.loss, 1)));
    }
    return kiln_loss_reduce(&self.loss, y, options->reduction);
}
