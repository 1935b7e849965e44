/* Operators of models that carry a state from call to call: linear attention with its decay and
 * delta rules, causal convolutions, caches written in place; and SwiGLU. The recurrence of linear
 * attention is unrolled over its steps. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "graph/io/onnx_op.h"
#include "graph/io/onnx_region.h"

#define MAX_STEPS 4096

static kiln_value add(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_add, a, b);
}

static kiln_value mul(kiln_onnx_call *call, kiln_value a, kiln_value b)
{
    return kiln_onnx_binary(call, KILN_OP_mul, a, b);
}

static kiln_value wide(kiln_onnx_call *call, kiln_value a)
{
    return kiln_add_convert(call->graph, a, KILN_f32);
}

typedef struct linear_plan {
    int64_t batch, steps, q_heads, heads, d_k, d_v;
    bool is_gated, is_delta;
    double scale;
} linear_plan;

static void linear_read(kiln_onnx_call *call, linear_plan *plan)
{
    const kiln_type *q = kiln_onnx_ranked(call, 0, 3), *v = kiln_onnx_ranked(call, 2, 3);
    const kiln_type *k = kiln_onnx_ranked(call, 1, 3);
    const char *rule = kiln_onnx_string(call, "update_rule", "gated_delta");
    plan->q_heads = kiln_onnx_int(call, "q_num_heads", 0);
    plan->heads = kiln_onnx_int(call, "kv_num_heads", 0);
    kiln_onnx_ignore(call, "chunk_size");
    plan->is_gated = !strcmp(rule, "gated") || !strcmp(rule, "gated_delta");
    plan->is_delta = !strcmp(rule, "delta") || !strcmp(rule, "gated_delta");
    if (!plan->is_gated && !plan->is_delta && strcmp(rule, "linear"))
        kiln_onnx_fail(call,
                       "attr 'update_rule' is %s; expected linear, gated, delta or "
                       "gated_delta",
                       kiln_onnx_quote(&call->scope->arena, rule));
    bool fits = plan->heads > 0 && plan->q_heads > 0 && plan->q_heads % plan->heads == 0 &&
                q->rank == 3 && v->rank == 3 && k->rank == 3 && q->dims[2] % plan->q_heads == 0 &&
                v->dims[2] % plan->heads == 0 &&
                k->dims[2] == q->dims[2] / plan->q_heads * plan->heads;
    if (!fits || kiln_onnx_has(call, 4) != plan->is_gated ||
        kiln_onnx_has(call, 5) != plan->is_delta)
        kiln_onnx_fail(call,
                       "%" PRId64 " query heads over %" PRId64 "; expected widths and "
                       "operands that fit them and the rule",
                       plan->q_heads, plan->heads);
    plan->batch = q->dims[0];
    plan->steps = q->dims[1];
    plan->d_k = q->dims[2] / plan->q_heads;
    plan->d_v = v->dims[2] / plan->heads;
    plan->scale = kiln_onnx_float(call, "scale", 0);
    if (plan->scale == 0) plan->scale = 1 / sqrt((double)plan->d_k);
    if (plan->steps > MAX_STEPS)
        kiln_onnx_refuse(call, "%" PRId64 " steps; expected at most %d", plan->steps, MAX_STEPS);
}

/* Step `at` of a[batch, steps, heads * width] as f32[batch, heads, rows, columns]. */
static kiln_value step_of(kiln_onnx_call *call, kiln_value a, int64_t at, const int64_t *dims)
{
    kiln_value part = kiln_onnx_slice(call, a, 1, at, at + 1);
    return wide(call, kiln_add_reshape(call->graph, part, 4, dims));
}

/* [batch, heads, 1, n] · [batch, heads, n, m] */
static kiln_value apply(kiln_onnx_call *call, kiln_value row, kiln_value matrix)
{
    return kiln_onnx_matmul(call, row, matrix, KILN_f32);
}

/* One step; returns the output row and replaces the state. */
static kiln_value linear_step(kiln_onnx_call *call, const linear_plan *p, int64_t at,
                              kiln_value *state)
{
    int64_t q_dims[4] = {p->batch, p->q_heads, 1, p->d_k},
            k_dims[4] = {p->batch, p->heads, 1, p->d_k};
    int64_t v_dims[4] = {p->batch, p->heads, 1, p->d_v},
            column[4] = {p->batch, p->heads, p->d_k, 1};
    kiln_value q = step_of(call, call->inputs[0], at, q_dims);
    kiln_value k = step_of(call, call->inputs[1], at, k_dims);
    kiln_value v = step_of(call, call->inputs[2], at, v_dims);
    if (p->is_gated) {
        int64_t width = kiln_onnx_type(call, 4)->dims[2] / p->heads;
        int64_t dims[4] = {p->batch, p->heads, width, 1};
        kiln_value decay = step_of(call, call->inputs[4], at, dims);
        *state = mul(call, *state, kiln_add_unary(call->graph, KILN_OP_exp, decay));
    }
    if (p->is_delta) {
        int64_t dims[4] = {p->batch, kiln_onnx_type(call, 5)->dims[2], 1, 1};
        kiln_value rest = kiln_onnx_binary(call, KILN_OP_sub, v, apply(call, k, *state));
        v = mul(call, step_of(call, call->inputs[5], at, dims), rest);
    }
    k = kiln_add_reshape(call->graph, k, 4, column);
    *state = add(call, *state, mul(call, k, v));
    int64_t group[5] = {p->batch, p->heads, p->q_heads / p->heads, p->d_k, p->d_v};
    int64_t all[4] = {p->batch, p->q_heads, p->d_k, p->d_v}, axes[4] = {0, 1, 3, 4};
    kiln_value shared = kiln_add_broadcast(call->graph, *state, 5, group, axes);
    return apply(call, q, kiln_add_reshape(call->graph, shared, 4, all));
}

static kiln_value import_linear_attention(kiln_onnx_call *call)
{
    linear_plan plan;
    linear_read(call, &plan);
    kiln_dtype dtype = kiln_onnx_type(call, 0)->dtype, kept = dtype;
    int64_t dims[4] = {plan.batch, plan.heads, plan.d_k, plan.d_v};
    int64_t row[3] = {plan.batch, 1, plan.q_heads * plan.d_v};
    kiln_value state = kiln_add_splat(call->graph, KILN_f32, 4, dims, 0);
    kiln_value *rows = kiln_new_array(&call->scope->arena, kiln_value, plan.steps + 1);
    if (kiln_onnx_has(call, 3)) {
        kept = kiln_onnx_type(call, 3)->dtype;
        state = wide(call, kiln_add_reshape(call->graph, call->inputs[3], 4, dims));
    }
    for (int64_t at = 0; at < plan.steps; at++) {
        kiln_onnx_count(call);
        kiln_value y = linear_step(call, &plan, at, &state);
        y = kiln_onnx_with(call, KILN_OP_mul, y, plan.scale);
        rows[at] = kiln_add_reshape(call->graph, y, 3, row);
    }
    kiln_onnx_result(call, 1, kiln_add_convert(call->graph, state, kept));
    if (plan.steps == 0) {
        row[1] = 0;
        return kiln_add_splat(call->graph, dtype, 3, row, 0);
    }
    kiln_value all = kiln_onnx_concat(call, (uint32_t)plan.steps, rows, 1);
    return kiln_add_convert(call->graph, all, dtype);
}

/* A depthwise convolution over the past state and the operand, one after the other. */
static kiln_value import_causal_conv(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3), *kernel = kiln_onnx_ranked(call, 1, 3);
    const char *activation = kiln_onnx_string(call, "activation", "none");
    if (type->rank != 3 || kernel->rank != 3 || kernel->dims[0] != type->dims[1] ||
        kernel->dims[1] != 1)
        kiln_onnx_fail(call, "weights of %" PRId64 " channels; expected [%" PRId64 ", 1, k]",
                       kernel->dims[0], type->dims[1]);
    int64_t k = kernel->dims[2], dims[3] = {type->dims[0], type->dims[1], k - 1};
    kiln_value parts[2] = {kiln_onnx_has(call, 3) ? call->inputs[3]
                                                  : kiln_add_splat(graph, type->dtype, 3, dims, 0),
                           call->inputs[0]};
    kiln_value padded = kiln_onnx_concat(call, 2, parts, 2);
    int64_t length = kiln_graph_type(graph, padded)->dims[2];
    kiln_onnx_window window = {.n = 1, .kernel = {k}, .strides = {1}, .dilations = {1}};
    kiln_value operands[2] = {padded, call->inputs[1]};
    call->inputs[0] = padded; /* what the window must fit */
    if (length < k) kiln_onnx_fail(call, "length %" PRId64 "; expected at least 1", length - k + 1);
    kiln_value y = kiln_onnx_convolution(call, operands, type->dims[1], &window);
    if (kiln_onnx_has(call, 2)) y = add(call, y, kiln_onnx_along(call, call->inputs[2], 1, 3));
    if (!strcmp(activation, "silu") || !strcmp(activation, "swish"))
        y = kiln_add_unary(graph, KILN_OP_silu, y);
    else if (strcmp(activation, "none"))
        kiln_onnx_fail(call, "attr 'activation' is %s; expected none, silu or swish",
                       kiln_onnx_quote(&call->scope->arena, activation));
    kiln_onnx_result(call, 1, kiln_onnx_slice(call, padded, 2, length - (k - 1), length));
    return y;
}

/* Row i of the update goes to row write_indices[batch] + i of the cache, modulo its length when
 * circular; rows outside are dropped. */
static kiln_value import_tensor_scatter(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2), *update = kiln_onnx_type(call, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -2), type->rank), n = 0;
    const char *mode = kiln_onnx_string(call, "mode", "linear");
    if (update->rank != type->rank || axis == 0)
        kiln_onnx_fail(call,
                       "update of rank %u along axis %u; expected rank %u and an axis after "
                       "the first",
                       update->rank, axis, type->rank);
    int64_t grid[2] = {type->dims[0], update->dims[axis]}, first = 0;
    kiln_value row = kiln_onnx_iota(call, KILN_i64, 2, grid, 1);
    if (kiln_onnx_has(call, 2)) {
        kiln_value start = kiln_add_convert(graph, call->inputs[2], KILN_i64);
        row = kiln_add_binary(graph, KILN_OP_add, row,
                              kiln_add_broadcast(graph, start, 2, grid, &first));
    }
    if (!strcmp(mode, "circular"))
        row = kiln_onnx_with(call, KILN_OP_rem, row, (double)type->dims[axis]);
    else if (strcmp(mode, "linear"))
        kiln_onnx_fail(call, "attr 'mode' is %s; expected linear or circular",
                       kiln_onnx_quote(&call->scope->arena, mode));
    int64_t windows[KILN_MAX_RANK], along = axis;
    for (uint32_t i = 1; i < type->rank; i++) {
        if (i != axis) windows[n++] = i;
    }
    /* updates stand as [batch, …, rows, …]: batch and rows are those of the indices */
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = (kiln_ints){n, windows};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &along};
    attrs.scatter.operand_batch = attrs.scatter.indices_batch = (kiln_ints){1, &first};
    attrs.scatter.index_axis = 2;
    kiln_value inputs[3] = {call->inputs[0], row, call->inputs[1]};
    return kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_scatter, .inputs = inputs, .n_inputs = 3, .attrs = &attrs});
}

/* a * logistic(alpha a) * b */
static kiln_value import_swiglu(kiln_onnx_call *call)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_value inner = kiln_onnx_with(call, KILN_OP_mul, a, kiln_onnx_float(call, "alpha", 1));
    kiln_value gate = kiln_add_unary(call->graph, KILN_OP_logistic, inner);
    return mul(call, mul(call, a, gate), kiln_onnx_operand(call, 1));
}

/* The operand through a modifier graph, or as it is when there is none. */
static bool modify(kiln_onnx_call *call, const char *name, kiln_value *value)
{
    const Kiln__Onnx__Graph *body = kiln_onnx_graph_attribute(call, name);
    kiln_value from = *value;
    if (body && !kiln_onnx_body(call, body, &(kiln_onnx_ports){1, 1, &from, value})) return false;
    if (value->graph == KILN_ONNX_SEQUENCE)
        kiln_onnx_refuse(call, "graph '%s' gives a sequence; expected a tensor", name);
    return true;
}

static kiln_value heads_shared(kiln_onnx_call *call, kiln_value a, int64_t heads)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t own = type->dims[1];
    if (own == heads || own == 0) return a;
    int64_t group[5] = {type->dims[0], own, heads / own, type->dims[2], type->dims[3]};
    int64_t all[4] = {type->dims[0], heads, type->dims[2], type->dims[3]}, axes[4] = {0, 1, 3, 4};
    return kiln_add_reshape(call->graph, kiln_add_broadcast(call->graph, a, 5, group, axes), 4,
                            all);
}

static kiln_value import_flex_attention(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *q = kiln_onnx_ranked(call, 0, 4), *k = kiln_onnx_ranked(call, 1, 4);
    const kiln_type *v = kiln_onnx_ranked(call, 2, 4);
    kiln_dtype inner = q->dtype == KILN_f64 ? KILN_f64 : KILN_f32;
    int64_t swap[4] = {0, 1, 3, 2}, precision = kiln_onnx_int(call, "softmax_precision", 0);
    double scale = kiln_onnx_float(call, "scale", 0);
    if (precision) inner = kiln_onnx_dtype(call->onnx, precision, "attr 'softmax_precision'");
    if (q->rank != 4 || k->rank != 4 || v->rank != 4 || k->dims[1] == 0 ||
        q->dims[1] % k->dims[1] || v->dims[1] != k->dims[1])
        kiln_onnx_fail(call, "%" PRId64 " query heads over %" PRId64 "; expected a multiple",
                       q->dims[1], k->dims[1]);
    if (scale == 0) scale = 1 / sqrt((double)q->dims[3]);
    kiln_value keys = heads_shared(call, call->inputs[1], q->dims[1]);
    kiln_value values = heads_shared(call, call->inputs[2], q->dims[1]);
    kiln_value scores =
        kiln_onnx_matmul(call, call->inputs[0], kiln_add_transpose(graph, keys, swap),
                         kiln_dtype_accumulator(q->dtype));
    scores = kiln_onnx_with(call, KILN_OP_mul, kiln_add_convert(graph, scores, inner), scale);
    if (!modify(call, "score_mod", &scores)) return (kiln_value){0};
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {3}};
    kiln_value weights = kiln_graph_add(
        graph,
        &(kiln_node_spec){.op = KILN_OP_softmax, .inputs = &scores, .n_inputs = 1, .attrs = &axis});
    if (!modify(call, "prob_mod", &weights)) return (kiln_value){0};
    weights = kiln_add_convert(graph, weights, v->dtype);
    return kiln_add_convert(
        graph, kiln_onnx_matmul(call, weights, values, kiln_dtype_accumulator(v->dtype)), q->dtype);
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_state_rows[] = {
    ROW("LinearAttention", 27, 3, 6, import_linear_attention),
    ROW("CausalConvWithState", 27, 2, 4, import_causal_conv),
    ROW("TensorScatter", 24, 2, 3, import_tensor_scatter),
    ROW("SwiGLU", 28, 2, 2, import_swiglu),
    {0},
};

const kiln_onnx_row kiln_onnx_preview_rows[] = {
    ROW("FlexAttention", 1, 3, 3, import_flex_attention),
    {0},
};
