/* attention: softmax(scale * q k^T + mask) v over [batch, heads, length, width]. Scores are
 * computed in f32 for bf16 and f16. With fewer key heads than query heads, the query heads that
 * share a key head are stacked along length ([batch, key heads, group * length, width]), so that
 * keys and values are never copied. A causal row i sees columns 0 … i. */
#include <math.h>

#include "graph/rules/rules.h"

typedef struct shapes {
    int64_t batch, heads, key_heads, rows, columns, width, value_width;
} shapes;

static void check_shapes(kiln_graph *graph, const kiln_value *inputs, shapes *out)
{
    const kiln_type *q = kiln_graph_type(graph, inputs[0]);
    const kiln_type *k = kiln_graph_type(graph, inputs[1]);
    const kiln_type *v = kiln_graph_type(graph, inputs[2]);
    bool fits = q->rank == 4 && k->rank == 4 && v->rank == 4 && q->dtype == k->dtype &&
                q->dtype == v->dtype;
    if (fits) {
        *out = (shapes){q->dims[0], q->dims[1], k->dims[1], q->dims[2],
                        k->dims[2], q->dims[3], v->dims[3]};
        fits = k->dims[0] == out->batch && v->dims[0] == out->batch &&
               v->dims[1] == out->key_heads && v->dims[2] == out->columns &&
               k->dims[3] == out->width &&
               (out->key_heads ? out->heads % out->key_heads == 0 : out->heads == 0);
    }
    if (!fits) {
        kiln_fail(
            graph->scope, KILN_INVALID,
            "attention: operands are %s, %s and %s; expected [batch, heads, length, width] with "
            "heads a multiple of the key heads",
            kiln_rule_type(graph, inputs[0]), kiln_rule_type(graph, inputs[1]),
            kiln_rule_type(graph, inputs[2]));
    }
}

static kiln_value reshape_to(kiln_graph *graph, kiln_value a, const int64_t *dims)
{
    return kiln_add_reshape(graph, a, 4, dims);
}

/* a * b over batch and heads, summing axis 3 of a with axis `rhs` of b. */
static kiln_value contract(kiln_graph *graph, kiln_value a, kiln_value b, int64_t rhs)
{
    static const int64_t batch[] = {0, 1}, last = 3;
    kiln_attrs dot = {.family = KILN_FAMILY_dot};
    dot.dot.lhs_batch = dot.dot.rhs_batch = (kiln_ints){2, batch};
    dot.dot.lhs_contract = (kiln_ints){1, &last};
    dot.dot.rhs_contract = (kiln_ints){1, &rhs};
    dot.dot.accumulate = kiln_graph_type(graph, a)->dtype;
    kiln_value inputs[] = {a, b};
    kiln_node_spec spec = {
        .op = KILN_OP_dot_general, .inputs = inputs, .n_inputs = 2, .attrs = &dot};
    return kiln_graph_add(graph, &spec);
}

/* scores where `keep`, else -inf */
static kiln_value keep_scores(kiln_graph *graph, kiln_value scores, kiln_value keep)
{
    kiln_value inputs[] = {keep, scores, kiln_add_splat_like(graph, scores, -INFINITY)};
    kiln_node_spec spec = {.op = KILN_OP_select, .inputs = inputs, .n_inputs = 3};
    return kiln_graph_add(graph, &spec);
}

static kiln_value apply_mask(kiln_graph *graph, kiln_value scores, kiln_value mask)
{
    const kiln_type *type = kiln_graph_type(graph, scores), *found = kiln_graph_type(graph, mask);
    bool fits = found->rank <= 4;
    for (uint32_t i = 0; fits && i < found->rank; i++) {
        int64_t dim = found->dims[i];
        fits = dim == 1 || dim == type->dims[4 - found->rank + i];
    }
    bool is_float = found->dtype == KILN_bf16 || found->dtype == KILN_f16 ||
                    found->dtype == KILN_f32 || found->dtype == KILN_f64;
    if (!fits || (!is_float && found->dtype != KILN_bool)) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "attention: mask is %s; expected bool or float that broadcasts to %s",
                  kiln_rule_type(graph, mask), kiln_rule_type(graph, scores));
    }
    if (is_float) mask = kiln_rule_narrow(graph, mask, type->dtype);
    mask = kiln_add_broadcast_to(graph, mask, 4, type->dims);
    return is_float ? kiln_add_binary(graph, KILN_OP_add, scores, mask)
                    : keep_scores(graph, scores, mask);
}

static kiln_value apply_causal(kiln_graph *graph, kiln_value scores)
{
    const kiln_type *type = kiln_graph_type(graph, scores);
    const int64_t *dims = type->dims + 2;
    kiln_dtype dtype = dims[0] <= INT32_MAX && dims[1] <= INT32_MAX ? KILN_i32 : KILN_i64;
    kiln_value at[2];
    for (int64_t axis = 0; axis < 2; axis++) {
        kiln_attrs attrs = {.family = KILN_FAMILY_axis, .axis = {axis}};
        kiln_node_spec spec = {
            .op = KILN_OP_iota, .given = kiln_graph_tensor(graph, dtype, 2, dims), .attrs = &attrs};
        at[axis] = kiln_graph_add(graph, &spec);
    }
    kiln_value keep = kiln_add_binary(graph, KILN_OP_ge, at[0], at[1]);
    return keep_scores(graph, scores, kiln_add_broadcast_to(graph, keep, 4, type->dims));
}

kiln_value kiln_expand_attention(kiln_graph *graph, const kiln_value *inputs, uint32_t n_inputs,
                                 const kiln_attrs *attrs)
{
    shapes s;
    check_shapes(graph, inputs, &s);
    kiln_value q = kiln_rule_widen(graph, inputs[0]);
    kiln_value k = kiln_rule_widen(graph, inputs[1]);
    kiln_value v = kiln_rule_widen(graph, inputs[2]);
    bool is_grouped = s.heads != s.key_heads;
    int64_t stacked = is_grouped ? s.heads / s.key_heads * s.rows : s.rows;
    if (is_grouped) q = reshape_to(graph, q, (int64_t[]){s.batch, s.key_heads, stacked, s.width});

    kiln_value scores = contract(graph, q, k, 3);
    if (is_grouped) {
        scores = reshape_to(graph, scores, (int64_t[]){s.batch, s.heads, s.rows, s.columns});
    }
    double scale = attrs->attention.scale;
    if (scale == 0) scale = s.width ? 1 / sqrt((double)s.width) : 1;
    scores = kiln_rule_mul_number(graph, scores, scale);
    if (n_inputs > 3) scores = apply_mask(graph, scores, inputs[3]);
    if (attrs->attention.causal) scores = apply_causal(graph, scores);

    kiln_value weights = kiln_rule_softmax(graph, scores, 3);
    if (is_grouped) {
        weights = reshape_to(graph, weights, (int64_t[]){s.batch, s.key_heads, stacked, s.columns});
    }
    kiln_value y = contract(graph, weights, v, 2);
    if (is_grouped) y = reshape_to(graph, y, (int64_t[]){s.batch, s.heads, s.rows, s.value_width});
    return kiln_rule_narrow(graph, y, kiln_graph_type(graph, inputs[0])->dtype);
}
