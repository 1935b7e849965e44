/* The public builder: losses of classes, kiln/losses.h. A target's class is picked by comparing it
 * with all classes, so that a target outside of them picks nothing. */
#include "graph/builder.h"
#include "graph/builder_loss.h"
#include "graph/element.h"
#include "graph/rules/rules.h"

static const kiln_class_options plain;

typedef struct class_loss {
    kiln_loss loss;
    const kiln_class_options *options;
    int64_t axis;                /* of the classes */
    kiln_value targets, weights; /* i64; [class] along the axis of the scores' dims, or none */
    double n_classes;
} class_loss;

/* inputs: scores, targets; number: whether targets may be probabilities. */
static kiln_value check_classes(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *a = kiln_build_type(graph, request, 0),
                    *t = kiln_build_type(graph, request, 1);
    uint32_t axis = a->rank > 1;
    bool is_index = kiln_dtype_in(t->dtype, KILN_TYPES_INTEGER), fits = a->rank >= 1;
    bool is_same = kiln_dtype_in(t->dtype, KILN_TYPES_FLOAT) && request->flag;
    fits = fits && t->rank == (is_index ? a->rank - 1 : a->rank) && (is_index || is_same);
    for (uint32_t i = 0; fits && i < t->rank; i++)
        fits = t->dims[i] == a->dims[i + (is_index && i >= axis)];
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "%s: scores %s, targets %s; expected [batch, class, …] and integers without the "
                  "classes%s",
                  request->name, kiln_rule_type(graph, request->inputs[0]),
                  kiln_rule_type(graph, request->inputs[1]),
                  request->flag ? ", or probabilities of all" : "");
    }
    if (request->n < 3) return (kiln_value){0};
    const kiln_type *w = kiln_build_type(graph, request, 2);
    if (w->rank == 1 && w->dims[0] == a->dims[axis]) return (kiln_value){0};
    kiln_fail(graph->scope, KILN_INVALID, "%s: weights %s; expected [%lld]", request->name,
              kiln_rule_type(graph, request->inputs[2]), (long long)a->dims[axis]);
}

static bool open_classes(class_loss *self, kiln_graph *graph, const kiln_request *request)
{
    const kiln_class_options *options = request->options ? request->options : &plain;
    kiln_request full = *request;
    full.inputs[2] = options->weights;
    full.n = options->weights.id ? 3 : 2;
    *self = (class_loss){.options = options};
    if (!kiln_build_check(graph, check_classes, &full)) return false;
    self->loss = kiln_loss_open(graph, request->name, 1, request->inputs);
    uint32_t rank = kiln_value_rank(graph, request->inputs[0]);
    const int64_t *dims = kiln_value_dims(graph, request->inputs[0]);
    self->axis = rank > 1;
    self->n_classes = (double)dims[self->axis];
    self->targets = request->inputs[1];
    if (!options->weights.id) return true;
    kiln_value weights = kiln_convert(graph, options->weights, self->loss.wide);
    self->weights = kiln_broadcast(graph, weights, rank, dims, &self->axis);
    return true;
}

/* Element [n, …] of [n, class, …] by the target of [n, …], or 0. */
static kiln_value pick(const class_loss *self, kiln_value a)
{
    kiln_graph *graph = self->loss.graph;
    uint32_t rank = kiln_value_rank(graph, a);
    const int64_t *dims = kiln_value_dims(graph, a);
    int64_t axes[KILN_MAX_RANK];
    if (!dims) return (kiln_value){0};
    for (uint32_t i = 0; i < rank; i++) axes[i] = i + (i >= self->axis);
    kiln_value targets = kiln_convert(graph, self->targets, KILN_i64);
    targets = kiln_broadcast(graph, targets, rank, dims, axes);
    kiln_value classes = kiln_iota(graph, KILN_i64, rank, dims, self->axis);
    kiln_value zero = kiln_loss_number(&self->loss, 0);
    kiln_value picked = kiln_select(graph, kiln_eq(graph, targets, classes), a, zero);
    return kiln_reduce_sum(graph, picked, 1, &self->axis);
}

static kiln_value sum_classes(const class_loss *self, kiln_value a)
{
    kiln_graph *graph = self->loss.graph;
    if (self->weights.id) a = kiln_mul(graph, a, self->weights);
    return kiln_reduce_sum(graph, a, 1, &self->axis);
}

/* -log of the target's probability times its weight, smoothed; a mean is over the weights. */
static kiln_value indexed(const class_loss *self, kiln_value logs, double smoothing)
{
    kiln_graph *graph = self->loss.graph;
    kiln_value y = kiln_neg(graph, pick(self, logs));
    kiln_value zero = kiln_loss_number(&self->loss, 0), weight;
    if (self->weights.id)
        weight = pick(self, self->weights);
    else
        weight = kiln_splat(graph, self->loss.wide, kiln_value_rank(graph, y),
                            kiln_value_dims(graph, y), 1);
    y = kiln_mul(graph, y, weight);
    if (smoothing != 0) {
        kiln_value all = kiln_neg(graph, sum_classes(self, logs));
        all = kiln_mul(graph, all, kiln_loss_number(&self->loss, smoothing / self->n_classes));
        y = kiln_mul(graph, y, kiln_loss_number(&self->loss, 1 - smoothing));
        y = kiln_add(graph, y, all);
    }
    if (self->options->has_ignored) {
        kiln_value ignored = kiln_constant(graph, KILN_i64, 0, NULL, &self->options->ignored);
        kiln_value is_out = kiln_eq(graph, kiln_convert(graph, self->targets, KILN_i64), ignored);
        y = kiln_select(graph, is_out, zero, y);
        weight = kiln_select(graph, is_out, zero, weight);
    }
    if (self->options->reduction != KILN_REDUCTION_MEAN)
        return kiln_loss_reduce(&self->loss, y, self->options->reduction);
    y = kiln_div(graph, kiln_reduce_sum(graph, y, 0, NULL),
                 kiln_reduce_sum(graph, weight, 0, NULL));
    return kiln_convert(graph, y, self->loss.dtype);
}

kiln_value kiln_nll_loss(kiln_graph *graph, kiln_value logs, kiln_value targets,
                         const kiln_class_options *options)
{
    kiln_request request = {.name = "nll_loss", .inputs = {logs, targets}, .options = options};
    class_loss self;
    if (!open_classes(&self, graph, &request)) return (kiln_value){0};
    return indexed(&self, self.loss.in[0], 0);
}

kiln_value kiln_cross_entropy(kiln_graph *graph, kiln_value scores, kiln_value targets,
                              const kiln_class_options *options)
{
    kiln_request request = {
        .name = "cross_entropy", .inputs = {scores, targets}, .options = options, .flag = true};
    class_loss self;
    if (!open_classes(&self, graph, &request)) return (kiln_value){0};
    kiln_value logs = kiln_log_softmax(graph, self.loss.in[0], self.axis);
    double smoothing = self.options->smoothing;
    if (!kiln_dtype_in(kiln_value_dtype(graph, targets), KILN_TYPES_FLOAT))
        return indexed(&self, logs, smoothing);
    kiln_value share = kiln_convert(graph, targets, self.loss.wide);
    if (smoothing != 0) {
        share = kiln_mul(graph, share, kiln_loss_number(&self.loss, 1 - smoothing));
        share = kiln_add(graph, share, kiln_loss_number(&self.loss, smoothing / self.n_classes));
    }
    kiln_value y = kiln_neg(graph, sum_classes(&self, kiln_mul(graph, share, logs)));
    return kiln_loss_reduce(&self.loss, y, self.options->reduction);
}

kiln_value kiln_multi_margin_loss(kiln_graph *graph, kiln_value a, kiln_value targets,
                                  const kiln_margin_options *options)
{
    static const kiln_margin_options none;
    kiln_request request = {.name = "multi_margin_loss", .inputs = {a, targets}};
    class_loss self;
    if (!open_classes(&self, graph, &request)) return (kiln_value){0};
    if (!options) options = &none;
    double margin = options->margin != 0 ? options->margin : 1;
    uint32_t rank = kiln_value_rank(graph, a);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) dims[i] = i == self.axis ? 1 : kiln_value_dims(graph, a)[i];
    kiln_value own = kiln_reshape(graph, pick(&self, self.loss.in[0]), rank, dims);
    kiln_value y = kiln_sub(graph, self.loss.in[0], own);
    y = kiln_loss_positive(&self.loss, kiln_add(graph, y, kiln_loss_number(&self.loss, margin)));
    if (options->power == 2) y = kiln_square(graph, y);
    /* the target's own term is margin^power */
    double extra = options->power == 2 ? margin * margin : margin;
    y = kiln_sub(graph, sum_classes(&self, y), kiln_loss_number(&self.loss, extra));
    y = kiln_mul(graph, y, kiln_loss_number(&self.loss, 1 / self.n_classes));
    return kiln_loss_reduce(&self.loss, y, options->reduction);
}

kiln_value kiln_multilabel_loss(kiln_graph *graph, kiln_value a, kiln_value t,
                                kiln_reduction reduction)
{
    static const kiln_binary_options each = {.reduction = KILN_REDUCTION_NONE};
    kiln_loss loss = kiln_loss_open(graph, "multilabel_loss", 2, (kiln_value[]){a, t});
    kiln_value y = kiln_binary_cross_entropy_logits(graph, loss.in[0], loss.in[1], &each);
    int64_t last = -1;
    return kiln_loss_reduce(&loss, kiln_mean(graph, y, 1, &last), reduction);
}
