/* Normalisations. All compute in f32 for bf16 and f16 and round once at the end; the reciprocal of
 * the deviation is taken per row or channel, never per element. Scale, offset and statistics may
 * have the operand's dtype or the compute dtype. */
#include <string.h>

#include "graph/rules/rules.h"

/* A parameter in the compute dtype of `a`, after checking that its dtype fits. */
static kiln_value parameter_widen(kiln_graph *graph, const char *op, kiln_value a, kiln_value p)
{
    kiln_dtype own = kiln_graph_type(graph, a)->dtype, compute = kiln_rule_compute_dtype(own);
    kiln_dtype found = kiln_graph_type(graph, p)->dtype;
    if (found != own && found != compute) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: parameter is %s; expected dtype %s", op,
                  kiln_rule_type(graph, p), kiln_dtype_name(own));
    }
    return kiln_rule_narrow(graph, p, compute);
}

/* Checks that p's dims are the last dims of a (at least one), and lists those axes of a. */
static kiln_ints trailing_axes(kiln_graph *graph, const char *op, kiln_value a, kiln_value p)
{
    const kiln_type *whole = kiln_graph_type(graph, a), *part = kiln_graph_type(graph, p);
    bool fits = part->rank >= 1 && part->rank <= whole->rank;
    if (fits) {
        const int64_t *tail = whole->dims + (whole->rank - part->rank);
        fits = memcmp(tail, part->dims, part->rank * sizeof *tail) == 0;
    }
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: parameter is %s; expected the last dims of %s",
                  op, kiln_rule_type(graph, p), kiln_rule_type(graph, a));
    }
    int64_t *axes = kiln_new_array(&graph->scope->arena, int64_t, part->rank);
    for (uint32_t i = 0; i < part->rank; i++) axes[i] = whole->rank - part->rank + i;
    return (kiln_ints){part->rank, axes};
}

/* 1 / sqrt(square + epsilon) */
static kiln_value inverse_deviation(kiln_graph *graph, kiln_value square, double epsilon)
{
    return kiln_add_unary(graph, KILN_OP_rsqrt, kiln_rule_add_number(graph, square, epsilon));
}

kiln_value kiln_expand_layer_norm(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    kiln_ints axes = trailing_axes(graph, "layer_norm", inputs[0], inputs[1]);
    trailing_axes(graph, "layer_norm", inputs[0], inputs[2]);
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    if (kiln_graph_type(graph, inputs[2])->rank != axes.n) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "layer_norm: offset is %s; expected the dims of scale %s",
                  kiln_rule_type(graph, inputs[2]), kiln_rule_type(graph, inputs[1]));
    }
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value scale = parameter_widen(graph, "layer_norm", inputs[0], inputs[1]);
    kiln_value offset = parameter_widen(graph, "layer_norm", inputs[0], inputs[2]);

    kiln_value mean = kiln_add_unreduce(graph, kiln_rule_mean(graph, a, axes), a, axes.n, axes.at);
    kiln_value distance = kiln_add_binary(graph, KILN_OP_sub, a, mean);
    kiln_value square = kiln_add_binary(graph, KILN_OP_mul, distance, distance);
    kiln_value r =
        inverse_deviation(graph, kiln_rule_mean(graph, square, axes), attrs->norm.epsilon);
    r = kiln_add_unreduce(graph, r, a, axes.n, axes.at);
    kiln_value y = kiln_add_binary(graph, KILN_OP_mul, distance, r);
    y = kiln_add_binary(graph, KILN_OP_mul, y,
                        kiln_add_broadcast_to(graph, scale, type->rank, type->dims));
    y = kiln_add_binary(graph, KILN_OP_add, y,
                        kiln_add_broadcast_to(graph, offset, type->rank, type->dims));
    return kiln_rule_narrow(graph, y, type->dtype);
}

kiln_value kiln_expand_rms_norm(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                const kiln_attrs *attrs)
{
    kiln_ints axes = trailing_axes(graph, "rms_norm", inputs[0], inputs[1]);
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value scale = parameter_widen(graph, "rms_norm", inputs[0], inputs[1]);
    kiln_value square = kiln_add_binary(graph, KILN_OP_mul, a, a);
    kiln_value r =
        inverse_deviation(graph, kiln_rule_mean(graph, square, axes), attrs->norm.epsilon);
    kiln_value y =
        kiln_add_binary(graph, KILN_OP_mul, a, kiln_add_unreduce(graph, r, a, axes.n, axes.at));
    y = kiln_add_binary(graph, KILN_OP_mul, y,
                        kiln_add_broadcast_to(graph, scale, type->rank, type->dims));
    return kiln_rule_narrow(graph, y, type->dtype);
}

/* A per-channel vector broadcast to the dims of `like`. */
static kiln_value channel_broadcast(kiln_graph *graph, kiln_value vector, kiln_value like,
                                    int64_t axis)
{
    const kiln_type *type = kiln_graph_type(graph, like);
    return kiln_add_broadcast(graph, vector, type->rank, type->dims, &axis);
}

kiln_value kiln_expand_batch_norm(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                  const kiln_attrs *attrs)
{
    int64_t axis = attrs->batch_norm.axis;
    kiln_rule_check_axis(graph, "batch_norm", inputs[0], axis);
    const kiln_type *type = kiln_graph_type(graph, inputs[0]);
    kiln_value p[4]; /* scale, offset, mean, variance */
    for (uint32_t i = 0; i < 4; i++) {
        const kiln_type *found = kiln_graph_type(graph, inputs[i + 1]);
        if (found->rank != 1 || found->dims[0] != type->dims[axis]) {
            kiln_fail(graph->scope, KILN_INVALID,
                      "batch_norm: operand %u is %s; expected dims [%lld]", i + 1,
                      kiln_rule_type(graph, inputs[i + 1]), (long long)type->dims[axis]);
        }
        p[i] = parameter_widen(graph, "batch_norm", inputs[0], inputs[i + 1]);
    }
    kiln_value a = kiln_rule_widen(graph, inputs[0]);
    kiln_value factor = inverse_deviation(graph, p[3], attrs->batch_norm.epsilon);
    factor = kiln_add_binary(graph, KILN_OP_mul, factor, p[0]);
    kiln_value y = kiln_add_binary(graph, KILN_OP_sub, a, channel_broadcast(graph, p[2], a, axis));
    y = kiln_add_binary(graph, KILN_OP_mul, y, channel_broadcast(graph, factor, a, axis));
    y = kiln_add_binary(graph, KILN_OP_add, y, channel_broadcast(graph, p[1], a, axis));
    return kiln_rule_narrow(graph, y, type->dtype);
}
