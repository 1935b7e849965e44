/* Derivatives of reductions, cumulative operations, softmax and normalisations. Composites compute
 * in f32 for narrower types, as their expansions do. */
#include "graph/rules/derive.h"

static kiln_value total(kiln_graph *g, kiln_value a, kiln_ints axes)
{
    return kiln_add_reduce(g, KILN_OP_reduce_sum, a, axes.n, axes.at);
}

static kiln_value spread(kiln_graph *g, kiln_value a, kiln_value like, kiln_ints axes)
{
    return kiln_add_unreduce(g, a, like, axes.n, axes.at);
}

/* The mean over axes, in every place again. */
static kiln_value spread_mean(kiln_graph *g, kiln_value a, kiln_ints axes)
{
    return spread(g, kiln_rule_mean(g, a, axes), a, axes);
}

void kiln_derive_reduce_sum(kiln_derivation *d)
{
    d->out[0] = spread(d->graph, d->gradients[0], d->node->inputs[0], d->node->attrs->axes.axes);
}

/* Equal extremes share alike. */
static void derive_extreme(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value a = d->node->inputs[0];
    kiln_ints axes = d->node->attrs->axes.axes;
    kiln_value is_hit = kiln_add_binary(g, KILN_OP_eq, a, spread(g, d->result, a, axes));
    kiln_value zero = kiln_derive_zeros(d, 0);
    kiln_value count = total(g, choose(g, is_hit, kiln_add_splat_like(g, a, 1), zero), axes);
    kiln_value share = over(g, d->gradients[0], count);
    d->out[0] = choose(g, is_hit, spread(g, share, a, axes), zero);
}

void kiln_derive_reduce_max(kiln_derivation *d)
{
    derive_extreme(d);
}

void kiln_derive_reduce_min(kiln_derivation *d)
{
    derive_extreme(d);
}

static kiln_value cumulate(kiln_graph *g, kiln_op op, kiln_value a, const kiln_attrs *attrs)
{
    return kiln_derive_node(g, op, 1, &a, attrs);
}

/* The product of all others: of those before times those after, with the reduced axes moved to the
 * end and made one. A quotient would fail at 0. */
void kiln_derive_reduce_prod(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    const kiln_type *type = kiln_derive_type(d, 0);
    kiln_ints axes = d->node->attrs->axes.axes;
    int64_t order[KILN_MAX_RANK], back[KILN_MAX_RANK], flat[2] = {1, 1};
    uint32_t n = 0;
    for (uint32_t i = 0, next = 0; i < type->rank; i++) {
        bool is_reduced = next < axes.n && axes.at[next] == i;
        next += is_reduced;
        flat[is_reduced] *= type->dims[i];
        if (!is_reduced) order[n++] = i;
    }
    for (uint32_t i = 0; i < axes.n; i++) order[n++] = axes.at[i];
    for (uint32_t i = 0; i < n; i++) back[order[i]] = i;
    kiln_value rows = kiln_add_transpose(g, d->node->inputs[0], order);
    const kiln_type *moved = kiln_graph_type(g, rows);
    rows = kiln_add_reshape(g, rows, 2, flat);
    kiln_attrs before = {KILN_FAMILY_cumulative, .cumulative = {1, true, false}};
    kiln_attrs after = {KILN_FAMILY_cumulative, .cumulative = {1, true, true}};
    kiln_value others = times(g, cumulate(g, KILN_OP_cumulative_prod, rows, &before),
                              cumulate(g, KILN_OP_cumulative_prod, rows, &after));
    others = kiln_add_transpose(g, kiln_add_reshape(g, others, moved->rank, moved->dims), back);
    d->out[0] = times(g, spread(g, d->gradients[0], others, axes), others);
}

void kiln_derive_cumulative_sum(kiln_derivation *d)
{
    kiln_attrs attrs = *d->node->attrs;
    attrs.cumulative.reverse = !attrs.cumulative.reverse;
    d->out[0] = cumulate(d->graph, KILN_OP_cumulative_sum, d->gradients[0], &attrs);
}

/* The gradient moved by one place along the axis, from where an exclusive one has it to where the
 * inclusive one of the same elements would; the first of an exclusive one is a constant. */
static kiln_value make_inclusive(kiln_derivation *d)
{
    uint32_t rank = d->node->type->rank;
    int64_t low[KILN_MAX_RANK] = {0}, high[KILN_MAX_RANK] = {0};
    const kiln_attrs *attrs = d->node->attrs;
    if (!attrs->cumulative.exclusive || rank == 0) return d->gradients[0];
    int64_t by = attrs->cumulative.reverse ? 1 : -1;
    low[attrs->cumulative.axis] = by;
    high[attrs->cumulative.axis] = -by;
    return kiln_derive_padded(d->graph, d->gradients[0], low, high, NULL);
}

/* Each element of the gradient goes to the place that held the extreme there: the last one so far
 * that exceeded all before it. */
static void derive_running(kiln_derivation *d, kiln_op beyond)
{
    kiln_graph *g = d->graph;
    kiln_value a = d->node->inputs[0];
    const kiln_type *type = d->node->type;
    int64_t axis = d->node->attrs->cumulative.axis;
    bool is_reverse = d->node->attrs->cumulative.reverse;
    if (type->n_elements == 0) {
        d->out[0] = d->gradients[0];
        return;
    }
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {axis}};
    kiln_attrs before = {KILN_FAMILY_cumulative, .cumulative = {axis, true, is_reverse}};
    kiln_attrs so_far = {KILN_FAMILY_cumulative, .cumulative = {axis, false, is_reverse}};
    const kiln_type *places = kiln_graph_tensor(g, KILN_i64, type->rank, type->dims);
    kiln_value place =
        kiln_graph_add(g, &(kiln_node_spec){KILN_OP_iota, places, NULL, 0, &along, NULL});
    kiln_value is_new =
        kiln_add_binary(g, beyond, a, cumulate(g, (kiln_op)d->node->op, a, &before));
    double first = is_reverse ? (double)type->dims[axis] - 1 : 0;
    place = choose(g, is_new, place, kiln_add_splat_like(g, place, first));
    kiln_op latest = is_reverse ? KILN_OP_cumulative_min : KILN_OP_cumulative_max;
    d->out[0] =
        kiln_derive_put_along(d, cumulate(g, latest, place, &so_far), axis, make_inclusive(d));
}

void kiln_derive_cumulative_max(kiln_derivation *d)
{
    derive_running(d, KILN_OP_gt);
}

void kiln_derive_cumulative_min(kiln_derivation *d)
{
    derive_running(d, KILN_OP_lt);
}

/* 2 / n * (a - mean) */
void kiln_derive_variance(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_ints axes = d->node->attrs->axes.axes;
    kiln_value a = kiln_rule_widen(g, d->node->inputs[0]);
    kiln_value dy = kiln_rule_widen(g, d->gradients[0]);
    double n = 1;
    for (uint32_t i = 0; i < axes.n; i++) n *= (double)kiln_derive_type(d, 0)->dims[axes.at[i]];
    kiln_value slope = times_n(g, less(g, a, spread_mean(g, a, axes)), 2 / n);
    d->out[0] = narrow_like(g, times(g, spread(g, dy, a, axes), slope), d->result);
}

/* y (dy - sum(y dy)) */
void kiln_derive_softmax(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_ints axes = {1, &d->node->attrs->axis.axis};
    kiln_value y = kiln_rule_widen(g, d->result), dy = kiln_rule_widen(g, d->gradients[0]);
    kiln_value common = spread(g, total(g, times(g, y, dy), axes), y, axes);
    d->out[0] = narrow_like(g, times(g, y, less(g, dy, common)), d->result);
}

/* dy - e^y sum(dy) */
void kiln_derive_log_softmax(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_ints axes = {1, &d->node->attrs->axis.axis};
    kiln_value y = kiln_rule_widen(g, d->result), dy = kiln_rule_widen(g, d->gradients[0]);
    kiln_value common = times(g, power(g, y), spread(g, total(g, dy, axes), y, axes));
    d->out[0] = narrow_like(g, less(g, dy, common), d->result);
}

/* A normalisation x = d r over the last axes, times a scale: r is 1 / sqrt(mean(d^2) + epsilon). */
typedef struct norm_run {
    kiln_graph *g;
    kiln_value r, x, dy;
    kiln_ints axes;
} norm_run;

static norm_run open_norm(kiln_derivation *d, kiln_value distance)
{
    norm_run run = {.g = d->graph, .dy = kiln_rule_widen(d->graph, d->gradients[0])};
    uint32_t n = kiln_derive_type(d, 1)->rank, first = d->node->type->rank - n;
    run.axes = (kiln_ints){n, kiln_derive_axes(d, d->node->type->rank) + first};
    kiln_value square = kiln_rule_mean(run.g, times(run.g, distance, distance), run.axes);
    kiln_value r = plus_n(run.g, square, d->node->attrs->norm.epsilon);
    r = kiln_add_unary(run.g, KILN_OP_rsqrt, r);
    run.r = spread(run.g, r, distance, run.axes);
    run.x = times(run.g, distance, run.r);
    return run;
}

/* The sum over the rows, for parameters of the last axes. */
static kiln_value sum_rows(const norm_run *run, kiln_derivation *d, uint32_t operand,
                           kiln_value each)
{
    uint32_t n = d->node->type->rank - run->axes.n;
    kiln_ints rows = {n, kiln_derive_axes(d, n)};
    return narrow_like(run->g, n ? total(run->g, each, rows) : each, d->node->inputs[operand]);
}

/* What the gradient of the scaled result leaves of that of x, by way of r. */
static kiln_value through_deviation(const norm_run *run, kiln_derivation *d, bool is_centred)
{
    kiln_graph *g = run->g;
    const kiln_type *type = kiln_graph_type(g, run->dy);
    kiln_value scale = narrow_like(g, d->node->inputs[1], run->dy);
    scale = kiln_add_broadcast_to(g, scale, type->rank, type->dims);
    kiln_value dx = times(g, run->dy, scale);
    kiln_value along = times(g, run->x, spread_mean(g, times(g, dx, run->x), run->axes));
    kiln_value rest = less(g, dx, along);
    if (is_centred) rest = less(g, rest, spread_mean(g, dx, run->axes));
    return narrow_like(g, times(g, run->r, rest), d->result);
}

void kiln_derive_layer_norm(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value a = kiln_rule_widen(g, d->node->inputs[0]);
    uint32_t n = kiln_derive_type(d, 1)->rank, first = d->node->type->rank - n;
    kiln_ints axes = {n, kiln_derive_axes(d, d->node->type->rank) + first};
    norm_run run = open_norm(d, less(g, a, spread_mean(g, a, axes)));
    if (d->is_wanted[0]) d->out[0] = through_deviation(&run, d, true);
    if (d->is_wanted[1]) d->out[1] = sum_rows(&run, d, 1, times(g, run.dy, run.x));
    if (d->is_wanted[2]) d->out[2] = sum_rows(&run, d, 2, run.dy);
}

void kiln_derive_rms_norm(kiln_derivation *d)
{
    norm_run run = open_norm(d, kiln_rule_widen(d->graph, d->node->inputs[0]));
    if (d->is_wanted[0]) d->out[0] = through_deviation(&run, d, false);
    if (d->is_wanted[1]) d->out[1] = sum_rows(&run, d, 1, times(run.g, run.dy, run.x));
}

/* By the composites for it, which take the statistics of the batch. */
void kiln_derive_batch_norm_training(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    int64_t axis = d->node->attrs->batch_norm.axis, others[KILN_MAX_RANK];
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->node->type->rank; i++) {
        if (i != axis) others[n++] = i;
    }
    kiln_attrs axes = {KILN_FAMILY_axes, .axes = {{n, others}}};
    kiln_value a = d->node->inputs[0], scale = d->node->inputs[1];
    kiln_value inputs[5] = {a, scale, kiln_derive_node(g, KILN_OP_mean, 1, &a, &axes),
                            kiln_derive_node(g, KILN_OP_variance, 1, &a, &axes), d->gradients[0]};
    if (d->is_wanted[0])
        d->out[0] = kiln_derive_node(g, KILN_OP_batch_norm_grad, 5, inputs, d->node->attrs);
    if (d->is_wanted[1])
        d->out[1] = kiln_derive_node(g, KILN_OP_batch_norm_grad_scale, 5, inputs, d->node->attrs);
    if (d->is_wanted[2]) d->out[2] = total(g, d->gradients[0], (kiln_ints){n, others});
}
