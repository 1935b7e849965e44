/* Steps of training as operators: Adagrad, Adam and Momentum of ai.onnx.preview.training. Operands
 * are the learning rate, the number of updates so far, then n tensors, their gradients and their
 * states. */
#include <string.h>

#include "graph/io/onnx_op.h"

static kiln_value add(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_add, a, b);
}

static kiln_value mul(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_mul, a, b);
}

static kiln_value scaled(kiln_onnx_call *call, kiln_value a, double factor)
{
    return kiln_onnx_with(call, KILN_OP_mul, a, factor);
}

static kiln_value over(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_div, a, b);
}

static kiln_value less(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_sub, a, b);
}

/* sqrt(h) + epsilon */
static kiln_value root_of(kiln_onnx_call *call, kiln_value h)
{
    h = kiln_add_unary(call->graph, KILN_OP_sqrt, h);
    return kiln_onnx_with(call, KILN_OP_add, h, kiln_onnx_float(call, "epsilon", 0));
}

/* Operands of one tensor; `n` tensors of `width` operands each. */
typedef struct train_plan {
    kiln_value rate, count; /* scalars of f32 */
    uint32_t n, width;
} train_plan;

static void plan_read(kiln_onnx_call *call, train_plan *plan, uint32_t width)
{
    plan->width = width;
    plan->n = (call->n_inputs - 2) / width;
    if (plan->n == 0 || plan->n * width + 2 != call->n_inputs ||
        call->n_outputs > plan->n * (width - 1))
        kiln_onnx_fail(call, "%u operands; expected 2 and %u for each tensor", call->n_inputs,
                       width);
    kiln_value *scalars[2] = {&plan->rate, &plan->count};
    for (uint32_t i = 0; i < 2; i++) {
        if (kiln_onnx_type(call, i)->n_elements != 1)
            kiln_onnx_fail(call, "operand %u is no scalar; expected one", i);
        kiln_value a = kiln_add_reshape(call->graph, call->inputs[i], 0, NULL);
        *scalars[i] = kiln_add_convert(call->graph, a, kiln_onnx_type(call, 2)->dtype);
    }
}

static kiln_value operand(kiln_onnx_call *call, const train_plan *plan, uint32_t kind, uint32_t i)
{
    return kiln_onnx_operand(call, 2 + kind * plan->n + i);
}

static void result(kiln_onnx_call *call, const train_plan *plan, uint32_t kind, uint32_t i,
                   kiln_value value)
{
    kiln_onnx_result(call, kind * plan->n + i, value);
}

/* gradient + norm_coefficient * x */
static kiln_value gradient(kiln_onnx_call *call, const train_plan *plan, uint32_t i)
{
    double norm = kiln_onnx_float(call, "norm_coefficient", 0);
    return add(call, scaled(call, operand(call, plan, 0, i), norm), operand(call, plan, 1, i));
}

static kiln_value import_adagrad(kiln_onnx_call *call)
{
    train_plan plan;
    plan_read(call, &plan, 3);
    kiln_value slow = scaled(call, plan.count, kiln_onnx_float(call, "decay_factor", 0));
    kiln_value rate = over(call, plan.rate, kiln_onnx_with(call, KILN_OP_add, slow, 1));
    for (uint32_t i = 0; i < plan.n; i++) {
        kiln_value g = gradient(call, &plan, i);
        kiln_value h = add(call, operand(call, &plan, 2, i), mul(call, g, g));
        kiln_value step = over(call, mul(call, g, rate), root_of(call, h));
        result(call, &plan, 0, i, less(call, operand(call, &plan, 0, i), step));
        result(call, &plan, 1, i, h);
    }
    return call->outputs[0];
}

/* base^count for the bias corrections. */
static kiln_value power(kiln_onnx_call *call, double base, kiln_value count)
{
    return kiln_onnx_binary(call, KILN_OP_pow, kiln_add_splat_like(call->graph, count, base),
                            count);
}

/* rate * sqrt(1 - beta^t) / (1 - alpha^t) from the first update on */
static kiln_value adam_rate(kiln_onnx_call *call, const train_plan *plan, double alpha, double beta)
{
    kiln_value one = kiln_add_splat_like(call->graph, plan->count, 1);
    kiln_value top = less(call, one, power(call, beta, plan->count));
    top = kiln_add_unary(call->graph, KILN_OP_sqrt, top);
    kiln_value rate =
        over(call, mul(call, plan->rate, top), less(call, one, power(call, alpha, plan->count)));
    kiln_value is_later = kiln_onnx_with(call, KILN_OP_gt, plan->count, 0);
    return kiln_onnx_select(call, is_later, rate, plan->rate);
}

static kiln_value import_adam(kiln_onnx_call *call)
{
    train_plan plan;
    plan_read(call, &plan, 4);
    double alpha = kiln_onnx_float(call, "alpha", 0.9f),
           beta = kiln_onnx_float(call, "beta", 0.999f);
    double after = kiln_onnx_float(call, "norm_coefficient_post", 0);
    kiln_value rate = adam_rate(call, &plan, alpha, beta);
    for (uint32_t i = 0; i < plan.n; i++) {
        kiln_value g = gradient(call, &plan, i), x = operand(call, &plan, 0, i);
        kiln_value v =
            add(call, scaled(call, operand(call, &plan, 2, i), alpha), scaled(call, g, 1 - alpha));
        kiln_value h = add(call, scaled(call, operand(call, &plan, 3, i), beta),
                           scaled(call, mul(call, g, g), 1 - beta));
        x = less(call, x, mul(call, over(call, v, root_of(call, h)), rate));
        result(call, &plan, 0, i, scaled(call, x, 1 - after));
        result(call, &plan, 1, i, v);
        result(call, &plan, 2, i, h);
    }
    return call->outputs[0];
}

static kiln_value import_momentum(kiln_onnx_call *call)
{
    train_plan plan;
    plan_read(call, &plan, 3);
    double alpha = kiln_onnx_float(call, "alpha", 0), beta = kiln_onnx_float(call, "beta", 0);
    const char *mode = kiln_onnx_string(call, "mode", "standard");
    bool is_nesterov = !strcmp(mode, "nesterov");
    if (!is_nesterov && strcmp(mode, "standard"))
        kiln_onnx_fail(call, "attr 'mode' is %s; expected standard or nesterov",
                       kiln_onnx_quote(&call->scope->arena, mode));
    kiln_value one = kiln_add_splat_like(call->graph, plan.count, 1);
    kiln_value share = kiln_onnx_select(call, kiln_onnx_with(call, KILN_OP_gt, plan.count, 0),
                                        kiln_add_splat_like(call->graph, plan.count, beta), one);
    for (uint32_t i = 0; i < plan.n; i++) {
        kiln_value g = gradient(call, &plan, i);
        kiln_value v =
            add(call, scaled(call, operand(call, &plan, 2, i), alpha), mul(call, g, share));
        kiln_value step = is_nesterov ? add(call, g, scaled(call, v, alpha)) : v;
        result(call, &plan, 0, i,
               less(call, operand(call, &plan, 0, i), mul(call, step, plan.rate)));
        result(call, &plan, 1, i, v);
    }
    return call->outputs[0];
}

const kiln_onnx_row kiln_onnx_train_rows[] = {
    {"Adagrad", 1, KILN_ONNX_NEWEST, 5, KILN_ONNX_ANY, import_adagrad, KILN_OP_none},
    {"Adam", 1, KILN_ONNX_NEWEST, 6, KILN_ONNX_ANY, import_adam, KILN_OP_none},
    {"Momentum", 1, KILN_ONNX_NEWEST, 5, KILN_ONNX_ANY, import_momentum, KILN_OP_none},
    {0},
};
