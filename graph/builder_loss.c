/* The public builder: losses of elements, kiln/losses.h. Made of other calls, in f32 for narrower
 * floats, which the result has again. */
#include <math.h>

#include "graph/builder.h"
#include "graph/builder_loss.h"
#include "graph/element.h"
#include "graph/rules/rules.h"

static kiln_value check_floats(kiln_graph *graph, const kiln_request *request)
{
    for (uint32_t i = 0; i < request->n; i++) {
        const kiln_type *type = kiln_build_type(graph, request, i);
        if (kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT)) continue;
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand %u is %s; expected a float dtype",
                  request->name, i, kiln_rule_type(graph, request->inputs[i]));
    }
    return (kiln_value){0};
}

kiln_loss kiln_loss_open(kiln_graph *graph, const char *name, uint32_t n,
                         const kiln_value *operands)
{
    kiln_loss loss = {.graph = graph, .n = n};
    kiln_request request = {.name = name, .n = n};
    for (uint32_t i = 0; i < n; i++) request.inputs[i] = operands[i];
    if (!kiln_build_check(graph, check_floats, &request)) return loss;
    loss.dtype = kiln_value_dtype(graph, operands[0]);
    loss.wide = kiln_rule_compute_dtype(loss.dtype);
    for (uint32_t i = 0; i < n; i++) loss.in[i] = kiln_convert(graph, operands[i], loss.wide);
    return loss;
}

kiln_value kiln_loss_number(const kiln_loss *loss, double number)
{
    return kiln_scalar(loss->graph, loss->wide, number);
}

kiln_value kiln_loss_positive(const kiln_loss *loss, kiln_value a)
{
    return kiln_max(loss->graph, a, kiln_loss_number(loss, 0));
}

kiln_value kiln_loss_reduce(const kiln_loss *loss, kiln_value a, kiln_reduction reduction)
{
    kiln_graph *graph = loss->graph;
    if (reduction == KILN_REDUCTION_NONE) return kiln_convert(graph, a, loss->dtype);
    const int64_t *dims = kiln_value_dims(graph, a);
    uint32_t rank = kiln_value_rank(graph, a);
    double count = 1;
    for (uint32_t i = 0; dims && i < rank; i++) {
        if (reduction == KILN_REDUCTION_MEAN || (reduction == KILN_REDUCTION_BATCH_MEAN && i == 0))
            count *= (double)dims[i];
    }
    kiln_value y = kiln_reduce_sum(graph, a, 0, NULL);
    if (reduction != KILN_REDUCTION_SUM) y = kiln_div(graph, y, kiln_loss_number(loss, count));
    return kiln_convert(graph, y, loss->dtype);
}

static kiln_loss open_pair(kiln_graph *graph, const char *name, kiln_value p, kiln_value t)
{
    return kiln_loss_open(graph, name, 2, (kiln_value[]){p, t});
}

static kiln_value distance(const kiln_loss *loss)
{
    return kiln_abs(loss->graph, kiln_sub(loss->graph, loss->in[0], loss->in[1]));
}

static kiln_value times(const kiln_loss *loss, kiln_value a, double number)
{
    return kiln_mul(loss->graph, a, kiln_loss_number(loss, number));
}

static kiln_value plus(const kiln_loss *loss, kiln_value a, double number)
{
    return kiln_add(loss->graph, a, kiln_loss_number(loss, number));
}

kiln_value kiln_l1_loss(kiln_graph *graph, kiln_value p, kiln_value t, kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "l1_loss", p, t);
    return kiln_loss_reduce(&loss, distance(&loss), reduction);
}

kiln_value kiln_mse_loss(kiln_graph *graph, kiln_value p, kiln_value t, kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "mse_loss", p, t);
    kiln_value d = kiln_sub(graph, loss.in[0], loss.in[1]);
    return kiln_loss_reduce(&loss, kiln_square(graph, d), reduction);
}

/* scale * d^2 up to `limit`, then slope * (d - limit / 2). */
static kiln_value bent(const kiln_loss *loss, double scale, double limit, double slope)
{
    kiln_graph *graph = loss->graph;
    kiln_value d = distance(loss);
    kiln_value is_near = kiln_lt(graph, d, kiln_loss_number(loss, limit));
    kiln_value near = times(loss, kiln_square(graph, d), scale);
    return kiln_select(graph, is_near, near, times(loss, plus(loss, d, -limit / 2), slope));
}

kiln_value kiln_smooth_l1_loss(kiln_graph *graph, kiln_value p, kiln_value t, double beta,
                               kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "smooth_l1_loss", p, t);
    double scale = beta > 0 ? 0.5 / beta : 0;
    return kiln_loss_reduce(&loss, bent(&loss, scale, beta, 1), reduction);
}

kiln_value kiln_huber_loss(kiln_graph *graph, kiln_value p, kiln_value t, double delta,
                           kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "huber_loss", p, t);
    return kiln_loss_reduce(&loss, bent(&loss, 0.5, delta, delta), reduction);
}

/* d + log1p(e^-2d) - log 2: no overflow, and no cancellation but near 0, where it is d^2 / 2. */
kiln_value kiln_log_cosh_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                              kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "log_cosh_loss", p, t);
    kiln_value d = distance(&loss), half = kiln_sinh(graph, times(&loss, d, 0.5));
    kiln_value near = kiln_log1p(graph, times(&loss, kiln_square(graph, half), 2));
    kiln_value tail = kiln_log1p(graph, kiln_exp(graph, times(&loss, d, -2)));
    kiln_value far = kiln_add(graph, plus(&loss, d, -M_LN2), tail);
    kiln_value is_near = kiln_lt(graph, d, kiln_loss_number(&loss, 1));
    return kiln_loss_reduce(&loss, kiln_select(graph, is_near, near, far), reduction);
}

kiln_value kiln_hinge_loss(kiln_graph *graph, kiln_value p, kiln_value t, int power,
                           kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "hinge_loss", p, t);
    kiln_value y = plus(&loss, kiln_neg(graph, kiln_mul(graph, loss.in[0], loss.in[1])), 1);
    y = kiln_loss_positive(&loss, y);
    return kiln_loss_reduce(&loss, power == 2 ? kiln_square(graph, y) : y, reduction);
}

kiln_value kiln_soft_margin_loss(kiln_graph *graph, kiln_value p, kiln_value t,
                                 kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "soft_margin_loss", p, t);
    kiln_value y = kiln_softplus(graph, kiln_neg(graph, kiln_mul(graph, loss.in[0], loss.in[1])));
    return kiln_loss_reduce(&loss, y, reduction);
}

kiln_value kiln_hinge_embedding_loss(kiln_graph *graph, kiln_value p, kiln_value t, double margin,
                                     kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "hinge_embedding_loss", p, t);
    kiln_value far = kiln_loss_positive(&loss, plus(&loss, kiln_neg(graph, loss.in[0]), margin));
    kiln_value is_near = kiln_eq(graph, loss.in[1], kiln_loss_number(&loss, 1));
    return kiln_loss_reduce(&loss, kiln_select(graph, is_near, loss.in[0], far), reduction);
}

static const kiln_binary_options plain;

static kiln_value weigh(const kiln_loss *loss, kiln_value a, const kiln_binary_options *options)
{
    if (options->weight.id)
        a = kiln_mul(loss->graph, a, kiln_convert(loss->graph, options->weight, loss->wide));
    return kiln_loss_reduce(loss, a, options->reduction);
}

kiln_value kiln_binary_cross_entropy(kiln_graph *graph, kiln_value p, kiln_value t,
                                     const kiln_binary_options *options)
{
    kiln_loss loss = open_pair(graph, "binary_cross_entropy", p, t);
    kiln_value least = kiln_loss_number(&loss, -100);
    kiln_value yes = kiln_max(graph, kiln_log(graph, loss.in[0]), least);
    kiln_value no = kiln_max(graph, kiln_log1p(graph, kiln_neg(graph, loss.in[0])), least);
    kiln_value rest = kiln_sub(graph, loss.in[1], kiln_loss_number(&loss, 1)); /* t - 1 */
    kiln_value y = kiln_sub(graph, kiln_mul(graph, rest, no), kiln_mul(graph, loss.in[1], yes));
    return weigh(&loss, y, options ? options : &plain);
}

/* (1 - t) a + (1 + (w - 1) t) softplus(-a) */
kiln_value kiln_binary_cross_entropy_logits(kiln_graph *graph, kiln_value a, kiln_value t,
                                            const kiln_binary_options *options)
{
    kiln_loss loss = open_pair(graph, "binary_cross_entropy_logits", a, t);
    if (!options) options = &plain;
    kiln_value one = kiln_loss_number(&loss, 1);
    kiln_value tail = kiln_softplus(graph, kiln_neg(graph, loss.in[0]));
    if (options->positive_weight.id) {
        kiln_value more = kiln_convert(graph, options->positive_weight, loss.wide);
        more = kiln_mul(graph, kiln_sub(graph, more, one), loss.in[1]);
        tail = kiln_mul(graph, tail, kiln_add(graph, more, one));
    }
    kiln_value y = kiln_mul(graph, kiln_sub(graph, one, loss.in[1]), loss.in[0]);
    return weigh(&loss, kiln_add(graph, y, tail), options);
}

kiln_value kiln_kl_divergence(kiln_graph *graph, kiln_value a, kiln_value t, int is_log,
                              kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "kl_divergence", a, t);
    kiln_value target = is_log ? kiln_exp(graph, loss.in[1]) : loss.in[1];
    kiln_value log = is_log ? loss.in[1] : kiln_log(graph, loss.in[1]);
    kiln_value zero = kiln_loss_number(&loss, 0);
    kiln_value own =
        kiln_select(graph, kiln_eq(graph, target, zero), zero, kiln_mul(graph, target, log));
    kiln_value y = kiln_sub(graph, own, kiln_mul(graph, target, loss.in[0]));
    return kiln_loss_reduce(&loss, y, reduction);
}

kiln_value kiln_poisson_loss(kiln_graph *graph, kiln_value a, kiln_value t,
                             kiln_reduction reduction)
{
    kiln_loss loss = open_pair(graph, "poisson_loss", a, t);
    kiln_value y = kiln_mul(graph, loss.in[1], loss.in[0]);
    return kiln_loss_reduce(&loss, kiln_sub(graph, kiln_exp(graph, loss.in[0]), y), reduction);
}

kiln_value kiln_gaussian_loss(kiln_graph *graph, kiln_value p, kiln_value t, kiln_value variance,
                              const kiln_gaussian_options *options)
{
    kiln_loss loss = kiln_loss_open(graph, "gaussian_loss", 3, (kiln_value[]){p, t, variance});
    double epsilon = options && options->epsilon != 0 ? options->epsilon : 1e-6;
    kiln_value v = kiln_max(graph, loss.in[2], kiln_loss_number(&loss, epsilon));
    kiln_value square = kiln_square(graph, kiln_sub(graph, loss.in[0], loss.in[1]));
    kiln_value y = kiln_add(graph, kiln_log(graph, v), kiln_div(graph, square, v));
    return kiln_loss_reduce(&loss, times(&loss, y, 0.5),
                            options ? options->reduction : KILN_REDUCTION_MEAN);
}
