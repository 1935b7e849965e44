/* requantize: scales around quantised numbers meet before a result is rounded, and pools keep
 * bytes.
 *
 *     round((max(i32 sum * s + b, 0)) / t)  =>  round(max(sum * (s / t) + b / t, 0))
 *     quantise(window_max(dequantise(q)))   =>  window_max(q)      (the same scale and zero point)
 *     f32(u8(round(x) + z) - z)             =>  clamp(round(x), -z, 255 - z)
 *
 * Divisions cost more than all the rest of such an epilogue; where no product takes the factor in,
 * they stay as they are. ROUND: a sum within an f32 rounding of a tie may fall to its other side.
 */
#include "graph/element.h"
#include "passes/quantize.h"

#define MOST_DEPTH 6

static const kiln_value none = {0, 0};

typedef struct requantizing {
    bool *is_known; /* by id of the source: computed from constants alone */
    bool *is_byte;  /* conversions to f32 that stay: what they read is stored in bytes */
} requantizing;

static bool is_known(const kiln_rewrite *rewrite, kiln_value value)
{
    return ((const requantizing *)rewrite->user)->is_known[value.id];
}

static void find_known(const kiln_graph *graph, bool *known)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id];
        kiln_class class_ = kiln_node_row(node)->class_;
        known[id] = node->op == KILN_OP_constant ||
                    (node->n_inputs && (class_ == KILN_ELEMENTWISE || class_ == KILN_VIEW));
        for (uint32_t i = 0; i < node->n_inputs; i++) known[id] &= known[node->inputs[i].id];
    }
}

static bool is_zero(const kiln_rewrite *rewrite, kiln_spread spread)
{
    double *numbers;
    int64_t n;
    if (!spread.from.id) return true;
    if (!kiln_spread_read(rewrite->pipeline->scope, rewrite->source, spread, &numbers, &n))
        return false;
    for (int64_t i = 0; i < n; i++)
        if (numbers[i] != 0) return false;
    return true;
}

static bool is_zero_value(const kiln_rewrite *rewrite, kiln_value value)
{
    kiln_spread spread;
    return kiln_match_spread(rewrite->source, value, &spread) && is_zero(rewrite, spread);
}

static kiln_value scale_value(kiln_rewrite *rewrite, kiln_value value, kiln_value factor,
                              uint32_t depth);

static kiln_value times(kiln_rewrite *rewrite, kiln_value value, kiln_value factor)
{
    return kiln_add_binary(rewrite->target, KILN_OP_mul, kiln_mapped(rewrite, value), factor);
}

/* a + b, a - b, max and min of what takes the factor. */
static kiln_value scale_both(kiln_rewrite *rewrite, const kiln_node *node, kiln_value factor,
                             uint32_t depth)
{
    kiln_value scaled[2];
    for (uint32_t i = 0; i < 2; i++) {
        if (is_zero_value(rewrite, node->inputs[i]))
            scaled[i] = kiln_mapped(rewrite, node->inputs[i]);
        else if (is_known(rewrite, node->inputs[i]))
            scaled[i] = times(rewrite, node->inputs[i], factor);
        else
            scaled[i] = scale_value(rewrite, node->inputs[i], factor, depth + 1);
        if (!scaled[i].id) return none;
    }
    return kiln_add_binary(rewrite->target, (kiln_op)node->op, scaled[0], scaled[1]);
}

/* value * factor, the factor (positive, known) taken in by a product with a known number; else the
 * zero value. The depth is bounded: further down it stays a product of its own. */
static kiln_value scale_value(kiln_rewrite *rewrite, kiln_value value, kiln_value factor,
                              uint32_t depth)
{
    const kiln_node *node = rewrite->source->nodes.at[value.id];
    bool is_scaled = node->op == KILN_OP_mul || node->op == KILN_OP_div, is_taken = false;
    if ((!is_scaled && rewrite->n_users[value.id] != 1) || depth > MOST_DEPTH ||
        node->type->dtype != KILN_f32)
        return none;
    while (node->op == KILN_OP_mul || node->op == KILN_OP_div) {
        uint32_t i = is_known(rewrite, node->inputs[1]);
        if (!i && (node->op == KILN_OP_div || !is_known(rewrite, node->inputs[0]))) return none;
        kiln_value number = kiln_mapped(rewrite, node->inputs[i]);
        factor = node->op == KILN_OP_mul
                     ? kiln_add_binary(rewrite->target, KILN_OP_mul, number, factor)
                     : kiln_add_binary(rewrite->target, KILN_OP_div, factor, number);
        is_taken = true;
        value = node->inputs[1 - i];
        if (rewrite->n_users[value.id] != 1) break;
        node = rewrite->source->nodes.at[value.id];
    }
    if (is_taken) return times(rewrite, value, factor);
    bool is_linear = node->op == KILN_OP_add || node->op == KILN_OP_sub ||
                     node->op == KILN_OP_max || node->op == KILN_OP_min;
    return is_linear ? scale_both(rewrite, node, factor, depth) : none;
}

/* round_even(div(x, scale)), plus the zero point: what QuantizeLinear rounds. */
typedef struct rounding {
    const kiln_node *round, *quotient;
    kiln_spread scale, zero;
} rounding;

/* round_even(x), plus the zero point. */
static bool match_round(const kiln_rewrite *rewrite, const kiln_node *node, rounding *out)
{
    *out = (rounding){.round = kiln_operand_node(rewrite, node, 0)};
    if (out->round->op == KILN_OP_add) {
        const kiln_node *sum = out->round;
        if (!kiln_match_spread(rewrite->source, sum->inputs[1], &out->zero)) return false;
        out->round = kiln_operand_node(rewrite, sum, 0);
    }
    return out->round->op == KILN_OP_round_even && out->round->type->dtype == KILN_f32;
}

static bool match_rounding(const kiln_rewrite *rewrite, const kiln_node *node, rounding *out)
{
    if (!match_round(rewrite, node, out)) return false;
    out->quotient = kiln_match(rewrite, out->round, 0, KILN_OP_div);
    return out->quotient &&
           kiln_match_spread(rewrite->source, out->quotient->inputs[1], &out->scale);
}

/* Whether a vector is known, with all numbers above 0. */
static bool is_positive(const kiln_rewrite *rewrite, kiln_spread spread)
{
    double *numbers;
    int64_t n;
    if (!kiln_spread_read(rewrite->pipeline->scope, rewrite->source, spread, &numbers, &n))
        return false;
    for (int64_t i = 0; i < n; i++)
        if (!(numbers[i] > 0x1p-100 && numbers[i] < 0x1p100)) return false;
    return true;
}

static bool is_same_number(const kiln_rewrite *rewrite, kiln_spread a, kiln_spread b)
{
    double *x, *y;
    int64_t n, m;
    kiln_scope *scope = rewrite->pipeline->scope;
    if (is_zero(rewrite, a) && is_zero(rewrite, b)) return true;
    if (!a.from.id || !b.from.id || a.axis >= 0 || b.axis >= 0) return false;
    return kiln_spread_read(scope, rewrite->source, a, &x, &n) &&
           kiln_spread_read(scope, rewrite->source, b, &y, &m) && x[0] == y[0];
}

/* Maxima of windows and views of dequantised bytes, quantised as they were: the bytes' own. */
static kiln_value keep_bytes(kiln_rewrite *rewrite, const kiln_node *node, const rounding *r)
{
    const kiln_node *steps[MOST_DEPTH];
    uint32_t n = 0;
    kiln_value value = r->quotient->inputs[0];
    kiln_quantized q;
    for (; n < MOST_DEPTH; n++) {
        steps[n] = rewrite->source->nodes.at[value.id];
        bool is_view = kiln_node_row(steps[n])->class_ == KILN_VIEW;
        if (!is_view && steps[n]->op != KILN_OP_window_max) break;
        value = steps[n]->inputs[0];
    }
    if (n == 0 || n == MOST_DEPTH || !kiln_match_quantized(rewrite->source, value, true, &q))
        return none;
    if (q.n_views || kiln_graph_type(rewrite->source, q.q)->dtype != node->type->dtype ||
        !is_positive(rewrite, q.scale) || !is_same_number(rewrite, q.scale, r->scale) ||
        !is_same_number(rewrite, q.zero, r->zero))
        return none;
    kiln_value at = kiln_mapped(rewrite, q.q);
    while (n-- > 0) {
        kiln_node_spec spec = {(kiln_op)steps[n]->op, NULL,           &at, 1,
                               steps[n]->attrs,       steps[n]->label};
        if (kiln_node_row(steps[n])->result == KILN_RESULT_GIVEN)
            spec.given = kiln_graph_tensor(rewrite->target, node->type->dtype, steps[n]->type->rank,
                                           steps[n]->type->dims);
        at = kiln_graph_add(rewrite->target, &spec);
    }
    return at;
}

/* What the conversion to u8 does anyway: max(x, 0), where nothing is added after it. */
static kiln_value under_relu(const kiln_rewrite *rewrite, kiln_value x)
{
    const kiln_node *node = rewrite->source->nodes.at[x.id];
    bool is_relu = node->op == KILN_OP_max && rewrite->n_users[x.id] == 1 &&
                   is_zero_value(rewrite, node->inputs[1]);
    return is_relu ? node->inputs[0] : x;
}

static kiln_value visit_quantized(kiln_rewrite *rewrite, const kiln_node *node)
{
    rounding r;
    kiln_graph *target = rewrite->target;
    bool is_byte = node->type->dtype == KILN_i8 || node->type->dtype == KILN_u8;
    if (node->op != KILN_OP_convert || !is_byte || !match_rounding(rewrite, node, &r)) return none;
    if (!is_positive(rewrite, r.scale)) return none;
    kiln_value kept = keep_bytes(rewrite, node, &r);
    if (kept.id) return kept;
    bool is_plain = is_zero(rewrite, r.zero);
    kiln_value x = r.quotient->inputs[0];
    if (is_plain && node->type->dtype == KILN_u8) x = under_relu(rewrite, x);
    kiln_value one = kiln_spread_build(rewrite, r.scale, KILN_f32);
    kiln_value factor = kiln_add_splat_like(target, one, 1);
    factor = kiln_add_binary(target, KILN_OP_div, factor, one);
    factor = kiln_spread_over(target, factor, r.scale.axis, node->type);
    kiln_value y = scale_value(rewrite, x, factor, 0);
    if (!y.id) return none;
    y = kiln_add_unary(target, KILN_OP_round_even, y);
    if (!is_plain) {
        kiln_value zero = kiln_spread_build(rewrite, r.zero, KILN_f32);
        zero = kiln_spread_over(target, zero, r.zero.axis, node->type);
        y = kiln_add_binary(target, KILN_OP_add, y, zero);
    }
    return kiln_add_convert(target, y, node->type->dtype);
}

/* Whether a value is computed from integers and known numbers: never a NaN. */
static bool is_number(const kiln_rewrite *rewrite, kiln_value value, uint32_t depth)
{
    const kiln_node *node = rewrite->source->nodes.at[value.id];
    if (is_known(rewrite, value)) return true;
    if (node->op == KILN_OP_convert)
        return kiln_node_is_integer(kiln_operand_node(rewrite, node, 0));
    bool is_plain = node->op == KILN_OP_add || node->op == KILN_OP_sub || node->op == KILN_OP_mul ||
                    node->op == KILN_OP_max || node->op == KILN_OP_min || node->op == KILN_OP_clamp;
    if (!is_plain || depth > MOST_DEPTH) return false;
    for (uint32_t i = 0; i < node->n_inputs; i++)
        if (!is_number(rewrite, node->inputs[i], depth + 1)) return false;
    return true;
}

/* The conversion to f32 under known scales and offsets, or NULL. */
static const kiln_node *conversion_under(const kiln_graph *graph, const bool *is_known,
                                         kiln_value value)
{
    const kiln_node *node = graph->nodes.at[value.id];
    while (node->op == KILN_OP_mul || node->op == KILN_OP_add || node->op == KILN_OP_sub) {
        uint32_t i = is_known[node->inputs[0].id];
        if (!is_known[node->inputs[1 - i].id]) return NULL;
        node = graph->nodes.at[node->inputs[i].id];
    }
    return node->op == KILN_OP_convert && node->type->dtype == KILN_f32 ? node : NULL;
}

/* Of two such numbers that meet, the later one is at hand where they do: the other is stored. */
static void find_bytes(const kiln_graph *graph, requantizing *state)
{
    for (uint32_t id = 1; id < graph->nodes.n; id++) {
        const kiln_node *node = graph->nodes.at[id], *met[2];
        if (kiln_node_row(node)->class_ != KILN_ELEMENTWISE || node->n_inputs != 2) continue;
        for (uint32_t i = 0; i < 2; i++)
            met[i] = conversion_under(graph, state->is_known, node->inputs[i]);
        if (!met[0] || !met[1] || met[0] == met[1]) continue;
        state->is_byte[met[0]->id < met[1]->id ? met[0]->id : met[1]->id] = true;
    }
}

/* A number that was rounded to a byte and is centred again, in f32 all the way. */
static kiln_value visit_dequantized(kiln_rewrite *rewrite, const kiln_node *node)
{
    if (node->op != KILN_OP_convert || node->type->dtype != KILN_f32) return none;
    if (((const requantizing *)rewrite->user)->is_byte[node->id]) return none;
    const kiln_node *q = kiln_operand_node(rewrite, node, 0);
    kiln_spread zero = {none, -1, 1};
    if (q->op == KILN_OP_sub && q->type->dtype == KILN_i32) {
        if (!kiln_match_spread(rewrite->source, q->inputs[1], &zero)) return none;
        q = kiln_match(rewrite, q, 0, KILN_OP_convert);
        if (q) q = kiln_operand_node(rewrite, q, 0);
    }
    rounding r;
    bool is_byte = q && (q->type->dtype == KILN_i8 || q->type->dtype == KILN_u8);
    if (!is_byte || q->op != KILN_OP_convert || !match_round(rewrite, q, &r)) return none;
    if (rewrite->n_users[q->id] != 1 || !is_same_number(rewrite, zero, r.zero) ||
        !is_number(rewrite, r.round->inputs[0], 0))
        return none;
    double *numbers, offset = 0;
    int64_t n;
    if (r.zero.from.id) {
        kiln_scope *scope = rewrite->pipeline->scope;
        if (!kiln_spread_read(scope, rewrite->source, r.zero, &numbers, &n) || n != 1) return none;
        offset = numbers[0];
    }
    double low = q->type->dtype == KILN_i8 ? -128 : 0;
    kiln_value x = kiln_mapped(rewrite, (kiln_value){r.round->id, rewrite->source->id});
    kiln_value operands[] = {kiln_rewrite_splat(rewrite, node, low - offset), x,
                             kiln_rewrite_splat(rewrite, node, low + 255 - offset)};
    kiln_node_spec spec = {.op = KILN_OP_clamp, .inputs = operands, .n_inputs = 3};
    return kiln_graph_add(rewrite->target, &spec);
}

kiln_graph *kiln_requantize(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    requantizing state = {.is_known =
                              kiln_new_array(&pipeline->scope->arena, bool, graph->nodes.n)};
    find_known(graph, state.is_known);
    kiln_graph *joined = kiln_rewrite_sweep(pipeline, graph, visit_quantized, &state, NULL);
    state.is_known = kiln_new_array(&pipeline->scope->arena, bool, joined->nodes.n);
    state.is_byte = kiln_new_array(&pipeline->scope->arena, bool, joined->nodes.n);
    find_known(joined, state.is_known);
    find_bytes(joined, &state);
    return kiln_rewrite_sweep(pipeline, joined, visit_dequantized, &state, NULL);
}
