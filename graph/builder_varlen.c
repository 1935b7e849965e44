/* The public builder: attention over sequences that lie one after the other. Every token has the
 * number of its sequence; a mask keeps the scores of tokens of one sequence, so that all run as one
 * attention of one example. */
#include "graph/builder.h"
#include "graph/element.h"
#include "graph/rules/rules.h"
#include "kiln/layers.h"

static kiln_value check_varlen(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *q = kiln_build_type(graph, request, 0),
                    *k = kiln_build_type(graph, request, 1);
    const kiln_type *v = kiln_build_type(graph, request, 2);
    bool fits = q->rank == 3 && k->rank == 3 && v->rank == 3;
    for (uint32_t i = 3; i < 5 && fits; i++) {
        const kiln_type *ends = kiln_build_type(graph, request, i);
        fits =
            ends->rank == 1 && ends->dims[0] >= 1 && kiln_dtype_in(ends->dtype, KILN_TYPES_INTEGER);
    }
    fits = fits && kiln_build_type(graph, request, 3)->dims[0] ==
                       kiln_build_type(graph, request, 4)->dims[0];
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "attention_varlen: operands %s, %s, %s; expected [tokens, heads, width] and as "
                  "many ends of queries as of keys, integers",
                  kiln_rule_type(graph, request->inputs[0]),
                  kiln_rule_type(graph, request->inputs[1]),
                  kiln_rule_type(graph, request->inputs[2]));
    }
    return (kiln_value){0};
}

/* What a token knows of its sequence: how many ends are at or before it (0: none yet, n + 1: behind
 * the last), and the end of it, i64 [tokens]. */
typedef struct token_places {
    kiln_value number, end;
} token_places;

static token_places find_places(kiln_graph *graph, kiln_value ends, int64_t tokens)
{
    int64_t n = kiln_value_dims(graph, ends)[0], dims[] = {tokens, n}, column = 1;
    kiln_value token = kiln_iota(graph, KILN_i64, 2, dims, 0);
    kiln_value wide = kiln_broadcast(graph, kiln_convert(graph, ends, KILN_i64), 2, dims, &column);
    kiln_value is_past = kiln_ge(graph, token, wide);
    token_places places;
    places.number = kiln_reduce_sum(graph, kiln_convert(graph, is_past, KILN_i64), 1, &column);
    kiln_value far = kiln_scalar(graph, KILN_i64, 0x1p52);
    kiln_value ahead = kiln_select(graph, is_past, far, wide);
    places.end = kiln_reduce_min(graph, ahead, 1, &column);
    return places;
}

/* bool [rows, columns]: which keys a query sees. */
static kiln_value make_mask(kiln_graph *graph, kiln_value query_ends, kiln_value key_ends,
                            const int64_t *dims, int is_causal)
{
    int64_t row = 0, column = 1, n = kiln_value_dims(graph, query_ends)[0];
    token_places q = find_places(graph, query_ends, dims[0]);
    token_places k = find_places(graph, key_ends, dims[1]);
    kiln_value number = kiln_broadcast(graph, q.number, 2, dims, &row);
    kiln_value mask = kiln_eq(graph, number, kiln_broadcast(graph, k.number, 2, dims, &column));
    kiln_value zero = kiln_scalar(graph, KILN_i64, 0);
    mask = kiln_and(graph, mask, kiln_gt(graph, number, zero));
    mask = kiln_and(graph, mask, kiln_lt(graph, number, kiln_scalar(graph, KILN_i64, (double)n)));
    if (!is_causal) return mask;
    /* counted from the ends: the last query sees the last key */
    kiln_value left_q = kiln_sub(graph, q.end, kiln_iota(graph, KILN_i64, 1, &dims[0], 0));
    kiln_value left_k = kiln_sub(graph, k.end, kiln_iota(graph, KILN_i64, 1, &dims[1], 0));
    kiln_value is_seen = kiln_ge(graph, kiln_broadcast(graph, left_k, 2, dims, &column),
                                 kiln_broadcast(graph, left_q, 2, dims, &row));
    return kiln_and(graph, mask, is_seen);
}

/* [tokens, heads, width] to [1, heads, tokens, width] */
static kiln_value heads_first(kiln_graph *graph, kiln_value a)
{
    static const int64_t swap[] = {1, 0, 2};
    a = kiln_transpose(graph, a, swap);
    const int64_t *dims = kiln_value_dims(graph, a);
    if (!dims) return a;
    return kiln_reshape(graph, a, 4, (int64_t[]){1, dims[0], dims[1], dims[2]});
}

kiln_value kiln_attention_varlen(kiln_graph *graph, kiln_value query, kiln_value key,
                                 kiln_value value, const kiln_varlen_options *options)
{
    static const kiln_varlen_options none;
    static const int64_t swap[] = {1, 0, 2};
    if (!options) options = &none;
    kiln_value ends = options->key_ends.id ? options->key_ends : options->query_ends;
    kiln_request request = {.inputs = {query, key, value, options->query_ends, ends},
                            .n = 5,
                            .name = "attention_varlen"};
    if (!kiln_build_check(graph, check_varlen, &request)) return (kiln_value){0};
    const int64_t *q = kiln_value_dims(graph, query), *k = kiln_value_dims(graph, key);
    int64_t dims[] = {q[0], k[0]}, heads = q[1], column = 1;
    kiln_value mask = make_mask(graph, options->query_ends, ends, dims, options->is_causal);
    kiln_attention_options attention = {.mask = mask, .scale = options->scale};
    kiln_value y = kiln_attention(graph, heads_first(graph, query), heads_first(graph, key),
                                  heads_first(graph, value), &attention);
    const int64_t *out = kiln_value_dims(graph, y);
    if (!out) return (kiln_value){0};
    int64_t flat[] = {heads, dims[0], out[3]};
    y = kiln_transpose(graph, kiln_reshape(graph, y, 3, flat), swap);
    kiln_value sees = kiln_reduce_any(graph, mask, 1, &column);
    sees = kiln_reshape(graph, sees, 3, (int64_t[]){dims[0], 1, 1});
    return kiln_select(graph, sees, y, kiln_scalar(graph, kiln_value_dtype(graph, y), 0));
}
