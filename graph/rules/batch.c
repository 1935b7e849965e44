/* Batch normalisation in training: by the statistics of the batch, and its gradients, computed in
 * f32 for narrower types. Its statistics are the rows mean and variance; the gradient of the offset
 * is the sum of the gradient. */
#include "graph/rules/terms.h"

/* Operands 1 and on are vectors of the channels, widened; the axes of a batch. */
typedef struct batch_run {
    kiln_graph *g;
    const kiln_type *type;
    kiln_value a;
    int64_t axis, others[KILN_MAX_RANK], count;
    double epsilon;
    kiln_ints axes;
} batch_run;

static void run_open(batch_run *run, kiln_graph *g, const kiln_value *inputs,
                     const kiln_attrs *attrs)
{
    uint32_t n = 0;
    run->g = g;
    run->type = kiln_graph_type(g, inputs[0]);
    run->axis = attrs->batch_norm.axis;
    run->epsilon = attrs->batch_norm.epsilon;
    run->count = 1;
    kiln_rule_check_axis(g, "batch_norm", inputs[0], run->axis);
    for (uint32_t i = 0; i < run->type->rank; i++) {
        if (i == run->axis) continue;
        run->others[n++] = i;
        run->count *= run->type->dims[i];
    }
    run->axes = (kiln_ints){n, run->others};
    run->a = kiln_rule_widen(g, inputs[0]);
}

static kiln_value channel(const batch_run *run, kiln_value vector)
{
    const kiln_type *type = kiln_graph_type(run->g, vector);
    if (type->rank != 1 || type->dims[0] != run->type->dims[run->axis] ||
        type->dtype != run->type->dtype) {
        kiln_fail(run->g->scope, KILN_INVALID, "batch_norm: operand %s; expected dims [%lld]",
                  kiln_rule_type(run->g, vector), (long long)run->type->dims[run->axis]);
    }
    return kiln_rule_widen(run->g, vector);
}

static kiln_value spread(const batch_run *run, kiln_value vector)
{
    return kiln_add_broadcast(run->g, vector, run->type->rank, run->type->dims, &run->axis);
}

static kiln_value reduced(const batch_run *run, kiln_value a)
{
    return kiln_add_reduce(run->g, KILN_OP_reduce_sum, a, run->axes.n, run->axes.at);
}

static kiln_value inverse_deviation(const batch_run *run, kiln_value variance)
{
    return kiln_add_unary(run->g, KILN_OP_rsqrt, plus_n(run->g, variance, run->epsilon));
}

kiln_value kiln_expand_batch_norm_training(kiln_graph *g, const kiln_value *inputs,
                                           uint32_t n_inputs, const kiln_attrs *attrs)
{
    batch_run run;
    run_open(&run, g, inputs, attrs);
    kiln_value mean = kiln_rule_mean(g, run.a, run.axes);
    kiln_value distance = less(g, run.a, spread(&run, mean));
    kiln_value variance = kiln_rule_mean(g, times(g, distance, distance), run.axes);
    kiln_value factor = times(g, inverse_deviation(&run, variance), channel(&run, inputs[1]));
    kiln_value y = times(g, distance, spread(&run, factor));
    return narrow_like(g, sum(g, y, spread(&run, channel(&run, inputs[2]))), inputs[0]);
}

/* The normalised operand: inputs[2] and [3] are mean and variance. */
static kiln_value normalised(const batch_run *run, const kiln_value *inputs)
{
    kiln_value distance = less(run->g, run->a, spread(run, channel(run, inputs[2])));
    kiln_value r = inverse_deviation(run, channel(run, inputs[3]));
    return times(run->g, distance, spread(run, r));
}

static kiln_value gradient_of(const batch_run *run, const kiln_value *inputs)
{
    if (kiln_graph_type(run->g, inputs[4]) != run->type) {
        kiln_fail(run->g->scope, KILN_INVALID, "batch_norm: gradient %s; expected %s",
                  kiln_rule_type(run->g, inputs[4]), kiln_rule_type(run->g, inputs[0]));
    }
    return kiln_rule_widen(run->g, inputs[4]);
}

/* scale / sqrt(variance + epsilon) * (g - mean(g) - x mean(g x)), x the normalised operand */
kiln_value kiln_expand_batch_norm_grad(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,
                                       const kiln_attrs *attrs)
{
    batch_run run;
    run_open(&run, g, inputs, attrs);
    kiln_value gradient = gradient_of(&run, inputs), x = normalised(&run, inputs);
    kiln_value flat = over_n(g, reduced(&run, gradient), (double)run.count);
    kiln_value slope = over_n(g, reduced(&run, times(g, gradient, x)), (double)run.count);
    kiln_value rest = less(g, gradient, spread(&run, flat));
    rest = less(g, rest, times(g, x, spread(&run, slope)));
    kiln_value factor = inverse_deviation(&run, channel(&run, inputs[3]));
    factor = times(g, factor, channel(&run, inputs[1]));
    return narrow_like(g, times(g, rest, spread(&run, factor)), inputs[0]);
}

kiln_value kiln_expand_batch_norm_grad_scale(kiln_graph *g, const kiln_value *inputs,
                                             uint32_t n_inputs, const kiln_attrs *attrs)
{
    batch_run run;
    run_open(&run, g, inputs, attrs);
    kiln_value each = times(g, gradient_of(&run, inputs), normalised(&run, inputs));
    return narrow_like(g, reduced(&run, each), inputs[0]);
}
