/* Attention and RotaryEmbedding. Masks of all kinds become one operand of the composite
 * `attention`, which the compiler recognises; rows that see nothing give 0. */
#include <inttypes.h>
#include <math.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

/* [batch, length, heads * width] as [batch, heads, length, width]; rank 4 stays. */
static kiln_value heads_split(kiln_onnx_call *call, uint32_t i, const char *attribute)
{
    static const int64_t order[4] = {0, 2, 1, 3};
    const kiln_type *type = kiln_onnx_type(call, i);
    if (type->rank == 4) return call->inputs[i];
    int64_t heads = kiln_onnx_int(call, attribute, 0);
    if (type->rank != 3 || heads < 1 || type->dims[2] % heads)
        kiln_onnx_fail(call,
                       "attr '%s' is %" PRId64
                       " for operand %u of rank %u; expected a divisor of its width",
                       attribute, heads, i, type->rank);
    int64_t dims[4] = {type->dims[0], type->dims[1], heads, type->dims[2] / heads};
    return kiln_add_transpose(call->graph, kiln_add_reshape(call->graph, call->inputs[i], 4, dims),
                              order);
}

static kiln_value heads_join(kiln_onnx_call *call, kiln_value a)
{
    static const int64_t order[4] = {0, 2, 1, 3};
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t dims[3] = {type->dims[0], type->dims[2], type->dims[1] * type->dims[3]};
    return kiln_add_reshape(call->graph, kiln_add_transpose(call->graph, a, order), 3, dims);
}

typedef struct attention_plan {
    kiln_value q, k, v; /* [batch, heads, length, width] */
    kiln_value keep;    /* bool, broadcasting to the scores; none: all */
    kiln_value bias;    /* float, the same; none: 0 */
    int64_t rows, columns;
    double scale, softcap;
} attention_plan;

static void keep_also(kiln_onnx_call *call, attention_plan *plan, kiln_value condition)
{
    plan->keep =
        plan->keep.id ? kiln_onnx_binary(call, KILN_OP_and, plan->keep, condition) : condition;
}

/* Per row and column: how far the column stands behind the row, which is `offset` into the past. */
static kiln_value distance(kiln_onnx_call *call, const attention_plan *plan, kiln_value offset)
{
    int64_t dims[2] = {plan->rows, plan->columns};
    kiln_value row = kiln_onnx_iota(call, KILN_i64, 2, dims, 0),
               column = kiln_onnx_iota(call, KILN_i64, 2, dims, 1);
    return kiln_onnx_binary(call, KILN_OP_sub, kiln_onnx_binary(call, KILN_OP_add, row, offset),
                            column);
}

/* Operand 3: bool or float, its last dim maybe short of the columns. */
static void mask_read(kiln_onnx_call *call, attention_plan *plan)
{
    if (!kiln_onnx_has(call, 3)) return;
    const kiln_type *type = kiln_onnx_ranked(call, 3, 1);
    kiln_value mask = call->inputs[3];
    bool is_bool = type->dtype == KILN_bool;
    int64_t last = type->dims[type->rank - 1];
    if (last != 1 && last < plan->columns) {
        double outside = is_bool ? 0 : -INFINITY;
        mask = kiln_onnx_pad_high(call, mask, type->rank - 1, plan->columns - last, outside);
    }
    if (is_bool) {
        keep_also(call, plan, mask);
    } else {
        plan->bias = mask;
    }
}

/* Causal and sliding windows; operand 6 has the lengths that are not padding. True when plain
 * causal masking from the top left is left to the composite. */
static bool limits_read(kiln_onnx_call *call, attention_plan *plan)
{
    int64_t left = kiln_onnx_int(call, "left_window_size", -1),
            right = kiln_onnx_int(call, "right_window_size", -1);
    bool is_causal = kiln_onnx_flag(call, "is_causal", false), has_past = kiln_onnx_has(call, 4);
    bool has_lengths = kiln_onnx_has(call, 6);
    int64_t past = has_past ? kiln_onnx_ranked(call, 4, 4)->dims[2] : 0,
            column[1] = {plan->columns};
    kiln_value offset = kiln_onnx_scalar(call, KILN_i64, (double)past), lengths = {0};
    if (left < -1 || right < -1) kiln_onnx_fail(call, "a window below -1; expected -1 or more");
    if (has_lengths) {
        int64_t dims[4] = {kiln_onnx_type(call, 6)->n_elements, 1, 1, 1};
        lengths = kiln_add_reshape(
            call->graph, kiln_add_convert(call->graph, call->inputs[6], KILN_i64), 4, dims);
        if (!has_past) offset = kiln_onnx_with(call, KILN_OP_sub, lengths, (double)plan->rows);
        kiln_value at = kiln_onnx_iota(call, KILN_i64, 1, column, 0);
        keep_also(call, plan, kiln_onnx_binary(call, KILN_OP_lt, at, lengths));
    }
    if (is_causal && !past && !has_lengths && left < 0 && right < 0 && !plan->keep.id &&
        !plan->bias.id)
        return true;
    if (!is_causal && left < 0 && right < 0) return false;
    kiln_value apart = distance(call, plan, offset);
    if (is_causal) keep_also(call, plan, kiln_onnx_with(call, KILN_OP_ge, apart, 0));
    if (left >= 0) keep_also(call, plan, kiln_onnx_with(call, KILN_OP_le, apart, (double)left));
    if (right >= 0) keep_also(call, plan, kiln_onnx_with(call, KILN_OP_ge, apart, -(double)right));
    return false;
}

/* One mask from both kinds, and where a row of it sees nothing ([…, rows, 1]). */
static kiln_value mask_join(kiln_onnx_call *call, const attention_plan *plan, kiln_value *out_blind)
{
    kiln_value mask = plan->keep;
    bool is_float = plan->bias.id != 0;
    if (is_float && mask.id) {
        kiln_dtype dtype = kiln_graph_type(call->graph, plan->bias)->dtype;
        mask = kiln_onnx_select(call, mask, plan->bias, kiln_onnx_scalar(call, dtype, -INFINITY));
    } else if (is_float) {
        mask = plan->bias;
    }
    if (!mask.id) return mask;
    const kiln_type *type = kiln_graph_type(call->graph, mask);
    int64_t axis[1] = {type->rank - 1}, dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) dims[i] = i + 1 < type->rank ? type->dims[i] : 1;
    kiln_value best = kiln_add_reduce(
        call->graph, is_float ? KILN_OP_reduce_max : KILN_OP_reduce_any, mask, 1, axis);
    best = is_float ? kiln_onnx_with(call, KILN_OP_eq, best, -INFINITY)
                    : kiln_add_unary(call->graph, KILN_OP_not, best);
    *out_blind = kiln_add_reshape(call->graph, best, type->rank, dims);
    return mask;
}

static kiln_value zero_where(kiln_onnx_call *call, kiln_value is_blind, kiln_value a)
{
    if (!is_blind.id) return a;
    return kiln_onnx_select(call, is_blind,
                            kiln_onnx_scalar(call, kiln_graph_type(call->graph, a)->dtype, 0), a);
}

static kiln_value fused(kiln_onnx_call *call, const attention_plan *plan, bool is_causal,
                        kiln_value mask)
{
    kiln_value operands[4] = {plan->q, plan->k, plan->v, mask};
    kiln_attrs attrs = {KILN_FAMILY_attention, .attention = {plan->scale, is_causal}};
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_attention,
                                                         .inputs = operands,
                                                         .n_inputs = mask.id ? 4 : 3,
                                                         .attrs = &attrs});
}

/* Key heads repeated for the query heads that share them. */
static kiln_value heads_repeat(kiln_onnx_call *call, kiln_value a, int64_t heads)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    if (type->dims[1] == heads) return a;
    if (type->dims[1] == 0 || heads % type->dims[1])
        kiln_onnx_fail(call, "%" PRId64 " query heads for %" PRId64 "; expected a multiple", heads,
                       type->dims[1]);
    int64_t wide[5] = {type->dims[0], type->dims[1], heads / type->dims[1], type->dims[2],
                       type->dims[3]};
    int64_t axes[4] = {0, 1, 3, 4}, dims[4] = {type->dims[0], heads, type->dims[2], type->dims[3]};
    return kiln_add_reshape(call->graph, kiln_add_broadcast(call->graph, a, 5, wide, axes), 4,
                            dims);
}

/* Step by step, for softcap and for the scores as an output. */
static kiln_value stepwise(kiln_onnx_call *call, const attention_plan *plan, kiln_value mask,
                           kiln_value is_blind)
{
    static const int64_t turn[4] = {0, 1, 3, 2};
    kiln_graph *graph = call->graph;
    kiln_dtype dtype = kiln_graph_type(graph, plan->q)->dtype, wide = kiln_dtype_accumulator(dtype);
    int64_t heads = kiln_graph_type(graph, plan->q)->dims[1],
            mode = kiln_onnx_int(call, "qk_matmul_output_mode", 0);
    kiln_value k = kiln_add_transpose(graph, heads_repeat(call, plan->k, heads), turn);
    kiln_value q = kiln_add_convert(graph, plan->q, wide), stages[4];
    stages[0] = kiln_onnx_with(call, KILN_OP_mul,
                               kiln_onnx_matmul(call, q, kiln_add_convert(graph, k, wide), wide),
                               plan->scale);
    stages[1] = stages[0];
    if (plan->softcap > 0) {
        stages[1] = kiln_add_unary(graph, KILN_OP_tanh,
                                   kiln_onnx_with(call, KILN_OP_div, stages[0], plan->softcap));
        stages[1] = kiln_onnx_with(call, KILN_OP_mul, stages[1], plan->softcap);
    }
    stages[2] = stages[1];
    if (mask.id && plan->bias.id) {
        stages[2] =
            kiln_onnx_binary(call, KILN_OP_add, stages[1], kiln_add_convert(graph, mask, wide));
    } else if (mask.id) {
        stages[2] =
            kiln_onnx_select(call, mask, stages[1], kiln_onnx_scalar(call, wide, -INFINITY));
    }
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {3}};
    stages[3] = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_softmax, .inputs = &stages[2], .n_inputs = 1, .attrs = &attrs});
    stages[3] = zero_where(call, is_blind, stages[3]);
    if (mode < 0 || mode > 3)
        kiln_onnx_fail(call, "attr 'qk_matmul_output_mode' is %" PRId64 "; expected 0 to 3", mode);
    kiln_onnx_result(call, 3, kiln_add_convert(graph, stages[mode], dtype));
    kiln_value v = heads_repeat(call, plan->v, heads);
    return kiln_onnx_matmul(call, kiln_add_convert(graph, stages[3], dtype), v, wide);
}

static kiln_value past_join(kiln_onnx_call *call, uint32_t past, kiln_value a)
{
    if (!kiln_onnx_has(call, past)) return a;
    return kiln_onnx_concat(call, 2, (kiln_value[]){call->inputs[past], a}, 2);
}

static kiln_value import_attention(kiln_onnx_call *call)
{
    attention_plan plan = {.q = heads_split(call, 0, "q_num_heads")};
    plan.k = past_join(call, 4, heads_split(call, 1, "kv_num_heads"));
    plan.v = past_join(call, 5, heads_split(call, 2, "kv_num_heads"));
    kiln_onnx_ignore(call, "q_num_heads");
    kiln_onnx_ignore(call, "kv_num_heads");
    kiln_onnx_ignore(call, "softmax_precision");
    kiln_onnx_ignore(call, "qk_matmul_output_mode");
    const kiln_type *q = kiln_graph_type(call->graph, plan.q);
    plan.rows = q->dims[2];
    plan.columns = kiln_graph_type(call->graph, plan.k)->dims[2];
    plan.scale = kiln_onnx_float(call, "scale", q->dims[3] ? 1 / sqrt((double)q->dims[3]) : 1);
    plan.softcap = kiln_onnx_float(call, "softcap", 0);
    kiln_value is_blind = {0};
    mask_read(call, &plan);
    bool is_causal = limits_read(call, &plan),
         is_plain = plan.softcap <= 0 && !kiln_onnx_wants(call, 3);
    if (is_causal && !is_plain) {
        kiln_value apart = distance(call, &plan, kiln_onnx_scalar(call, KILN_i64, 0));
        keep_also(call, &plan, kiln_onnx_with(call, KILN_OP_ge, apart, 0));
    }
    kiln_value mask = mask_join(call, &plan, &is_blind);
    kiln_value y = is_plain ? zero_where(call, is_blind, fused(call, &plan, is_causal, mask))
                            : stepwise(call, &plan, mask, is_blind);
    kiln_onnx_result(call, 1, plan.k);
    kiln_onnx_result(call, 2, plan.v);
    return kiln_onnx_type(call, 0)->rank == 3 ? heads_join(call, y) : y;
}

/* Rows of a cache picked by position and made to stand over the heads: [batch, 1, length, width /
 * 2]. */
static kiln_value cache_read(kiln_onnx_call *call, uint32_t i, int64_t width)
{
    const kiln_type *type = kiln_onnx_type(call, i);
    kiln_value cache = call->inputs[i];
    if (kiln_onnx_has(call, 3)) {
        kiln_value index =
            kiln_onnx_indices(call, call->inputs[3], kiln_onnx_ranked(call, i, 2)->dims[0]);
        cache = kiln_onnx_take(call, cache, index, 0);
    }
    type = kiln_graph_type(call->graph, cache);
    if (type->rank != 3 || type->dims[2] < width / 2)
        kiln_onnx_fail(call, "operand %u has rank %u; expected rows of %" PRId64, i, type->rank,
                       width / 2);
    cache = kiln_onnx_slice(call, cache, 2, 0, width / 2);
    int64_t dims[4] = {type->dims[0], 1, type->dims[1], width / 2};
    return kiln_add_reshape(call->graph, cache, 4, dims);
}

/* Pairs (x1, x2) turned by an angle: (cos x1 - sin x2, sin x1 + cos x2). */
static kiln_value import_rotary(kiln_onnx_call *call)
{
    kiln_value a = heads_split(call, 0, "num_heads"), halves[2], turned[2];
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t width = kiln_onnx_int(call, "rotary_embedding_dim", 0), full = type->dims[3];
    bool is_interleaved = kiln_onnx_flag(call, "interleaved", false);
    kiln_onnx_ignore(call, "num_heads");
    if (width == 0) width = full;
    if (width < 2 || width % 2 || width > full)
        kiln_onnx_fail(call, "a rotary width of %" PRId64 "; expected an even one up to %" PRId64,
                       width, full);
    kiln_value part = kiln_onnx_slice(call, a, 3, 0, width);
    int64_t pairs[5] = {type->dims[0], type->dims[1], type->dims[2], is_interleaved ? width / 2 : 2,
                        is_interleaved ? 2 : width / 2};
    int64_t half[4] = {pairs[0], pairs[1], pairs[2], width / 2},
            whole[4] = {pairs[0], pairs[1], pairs[2], width};
    int64_t one[5] = {pairs[0], pairs[1], pairs[2], is_interleaved ? width / 2 : 1,
                      is_interleaved ? 1 : width / 2};
    uint32_t axis = is_interleaved ? 4 : 3;
    kiln_value wide = kiln_add_reshape(call->graph, part, 5, pairs);
    kiln_value cosine = cache_read(call, 1, width), sine = cache_read(call, 2, width);
    for (uint32_t i = 0; i < 2; i++)
        halves[i] =
            kiln_add_reshape(call->graph, kiln_onnx_slice(call, wide, axis, i, i + 1), 4, half);
    for (uint32_t i = 0; i < 2; i++) {
        kiln_value own = kiln_onnx_binary(call, KILN_OP_mul, halves[i], cosine);
        kiln_value other = kiln_onnx_binary(call, KILN_OP_mul, halves[1 - i], sine);
        turned[i] = kiln_add_binary(call->graph, i ? KILN_OP_add : KILN_OP_sub, own, other);
        turned[i] = kiln_add_reshape(call->graph, turned[i], 5, one);
    }
    kiln_value y = kiln_add_reshape(call->graph, kiln_onnx_concat(call, 2, turned, axis), 4, whole);
    if (width < full)
        y = kiln_onnx_concat(call, 2, (kiln_value[]){y, kiln_onnx_slice(call, a, 3, width, full)},
                             3);
    return kiln_onnx_type(call, 0)->rank == 3 ? heads_join(call, y) : y;
}

const kiln_onnx_row kiln_onnx_attention_rows[] = {
    {"Attention", 23, KILN_ONNX_NEWEST, 3, 7, import_attention},
    {"RotaryEmbedding", 23, KILN_ONNX_NEWEST, 3, 4, import_rotary},
    {0},
};
