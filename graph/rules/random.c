/* Random numbers as pure functions of a key: Threefry2x32 and Philox4x32 (Salmon et al., Parallel
 * random numbers: as easy as 1, 2, 3, 2011) in elementwise u32 steps, and what is made of their
 * bits. Element i of random_bits is word i / n of block i % n, n blocks of two words, whose counter
 * is the block's number. */
#include <math.h>

#include "base/checked.h"
#include "graph/rules/terms.h"

#define RULE(name)                                                                                 \
    kiln_value kiln_expand_##name(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,      \
                                  const kiln_attrs *attrs)

#define MAX_WORDS 4

/* Word `i` of a value whose first axis holds words, with the dims of the others. */
static kiln_value word_of(kiln_graph *g, kiln_value a, int64_t i)
{
    const kiln_type *type = kiln_graph_type(g, a);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], ones[KILN_MAX_RANK];
    for (uint32_t k = 0; k < type->rank; k++) {
        limits[k] = type->dims[k];
        ones[k] = 1;
    }
    starts[0] = i;
    limits[0] = i + 1;
    kiln_attrs slice = {KILN_FAMILY_slice,
                        .slice = {{type->rank, starts}, {type->rank, limits}, {type->rank, ones}}};
    kiln_value word = kiln_graph_add(
        g, &(kiln_node_spec){.op = KILN_OP_slice, .inputs = &a, .n_inputs = 1, .attrs = &slice});
    return kiln_add_reshape(g, word, type->rank - 1, type->dims + 1);
}

static kiln_value stack(kiln_graph *g, uint32_t n, kiln_value *words)
{
    const kiln_type *type = kiln_graph_type(g, words[0]);
    int64_t dims[KILN_MAX_RANK + 1] = {1};
    for (uint32_t k = 0; k < type->rank; k++) dims[k + 1] = type->dims[k];
    for (uint32_t i = 0; i < n; i++) words[i] = kiln_add_reshape(g, words[i], type->rank + 1, dims);
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
    return kiln_graph_add(
        g, &(kiln_node_spec){.op = KILN_OP_concat, .inputs = words, .n_inputs = n, .attrs = &axis});
}

static void check_words(kiln_graph *g, const char *op, const kiln_value *inputs, int64_t n)
{
    const kiln_type *key = kiln_graph_type(g, inputs[0]), *counter = kiln_graph_type(g, inputs[1]);
    bool fits = key->dtype == KILN_u32 && key->rank == 1 && key->dims[0] == 2 &&
                counter->dtype == KILN_u32 && counter->rank > 0 && counter->dims[0] == n;
    if (!fits) {
        kiln_fail(g->scope, KILN_INVALID,
                  "%s: key %s and counter %s; expected u32[2] and u32[%d,…]", op,
                  kiln_rule_type(g, inputs[0]), kiln_rule_type(g, inputs[1]), (int)n);
    }
}

static kiln_value key_word(kiln_graph *g, kiln_value key, int64_t i, kiln_value like)
{
    const kiln_type *type = kiln_graph_type(g, like);
    return kiln_add_broadcast_to(g, word_of(g, key, i), type->rank, type->dims);
}

static kiln_value rotated(kiln_graph *g, kiln_value a, int by)
{
    return join(g, left_n(g, a, by), right_n(g, a, 32 - by));
}

/* Twenty rounds; after every fourth the key comes in. */
static void threefry(kiln_graph *g, kiln_value key, kiln_value *x)
{
    static const int rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    kiln_value keys[3] = {key_word(g, key, 0, x[0]), key_word(g, key, 1, x[0]), {0}};
    keys[2] = mix(g, mix(g, keys[0], keys[1]), kiln_add_splat_like(g, x[0], 0x1bd11bda));
    x[0] = sum(g, x[0], keys[0]);
    x[1] = sum(g, x[1], keys[1]);
    for (int round = 0; round < 20; round++) {
        x[0] = sum(g, x[0], x[1]);
        x[1] = mix(g, rotated(g, x[1], rotations[round % 8]), x[0]);
        if (round % 4 != 3) continue;
        int step = round / 4 + 1;
        x[0] = sum(g, x[0], keys[step % 3]);
        x[1] = sum(g, x[1], plus_n(g, keys[(step + 1) % 3], step));
    }
}

RULE(threefry2x32)
{
    check_words(g, "threefry2x32", inputs, 2);
    kiln_value x[MAX_WORDS] = {word_of(g, inputs[1], 0), word_of(g, inputs[1], 1)};
    threefry(g, inputs[0], x);
    return stack(g, 2, x);
}

/* The product of two u32 as high and low word. */
static void multiply_wide(kiln_graph *g, kiln_value a, uint32_t factor, kiln_value out[2])
{
    kiln_value product = times_n(g, kiln_add_convert(g, a, KILN_u64), factor);
    out[0] = kiln_add_convert(g, right_n(g, product, 32), KILN_u32);
    out[1] = kiln_add_convert(g, product, KILN_u32);
}

/* Ten rounds. */
RULE(philox4x32)
{
    check_words(g, "philox4x32", inputs, 4);
    kiln_value x[MAX_WORDS], first[2], second[2];
    for (int i = 0; i < 4; i++) x[i] = word_of(g, inputs[1], i);
    kiln_value keys[2] = {key_word(g, inputs[0], 0, x[0]), key_word(g, inputs[0], 1, x[0])};
    for (int round = 0; round < 10; round++) {
        multiply_wide(g, x[0], 0xd2511f53, first);
        multiply_wide(g, x[2], 0xcd9e8d57, second);
        x[0] = mix(g, mix(g, second[0], x[1]), keys[0]);
        x[2] = mix(g, mix(g, first[0], x[3]), keys[1]);
        x[1] = second[1];
        x[3] = first[1];
        keys[0] = plus_n(g, keys[0], 0x9e3779b9);
        keys[1] = plus_n(g, keys[1], 0xbb67ae85);
    }
    return stack(g, 4, x);
}

/* 0 … n - 1, in u64 where u32 does not hold them. */
static kiln_value numbers_below(kiln_graph *g, int64_t n)
{
    kiln_attrs axis = {KILN_FAMILY_axis, .axis = {0}};
    const kiln_type *type = kiln_graph_tensor(g, n > UINT32_MAX ? KILN_u64 : KILN_u32, 1, &n);
    return kiln_graph_add(g, &(kiln_node_spec){.op = KILN_OP_iota, .given = type, .attrs = &axis});
}

/* The two words of the blocks of these numbers. */
static void blocks(kiln_graph *g, kiln_value key, kiln_value number, kiln_value *words)
{
    const kiln_type *type = kiln_graph_type(g, key);
    if (type->dtype != KILN_u32 || type->rank != 1 || type->dims[0] != 2) {
        kiln_fail(g->scope, KILN_INVALID, "random numbers: key %s; expected u32[2]",
                  kiln_rule_type(g, key));
    }
    bool is_wide = kiln_graph_type(g, number)->dtype == KILN_u64;
    words[0] = kiln_add_convert(g, number, KILN_u32);
    words[1] = is_wide ? kiln_add_convert(g, right_n(g, number, 32), KILN_u32)
                       : kiln_add_splat_like(g, number, 0);
    threefry(g, key, words);
}

/* Word 1 of the blocks where `is_second`, else word 0: a block is made once for each of its words,
 * not both words for each place of a concat. */
static kiln_value one_word(kiln_graph *g, kiln_value key, kiln_value number, kiln_value is_second)
{
    kiln_value words[MAX_WORDS];
    blocks(g, key, number, words);
    return choose(g, is_second, words[1], words[0]);
}

static kiln_value shaped(kiln_graph *g, kiln_value a, kiln_ints dims)
{
    return kiln_add_reshape(g, a, dims.n, dims.at);
}

RULE(random_bits)
{
    kiln_ints dims = attrs->sizes.sizes;
    int64_t n = kiln_graph_tensor(g, KILN_u32, dims.n, dims.at)->n_elements;
    double half = (double)kiln_ceil_div(n, 2);
    kiln_value at = numbers_below(g, n), from = kiln_add_splat_like(g, at, half);
    kiln_value is_second = kiln_add_binary(g, KILN_OP_ge, at, from);
    kiln_value number = choose(g, is_second, less(g, at, from), at);
    return shaped(g, one_word(g, inputs[0], number, is_second), dims);
}

RULE(random_split)
{
    int64_t n = attrs->count.n, dims[2] = {n, 2};
    if (n < 0)
        kiln_fail(g->scope, KILN_INVALID, "random_split: %lld keys; expected 0 or more",
                  (long long)n);
    kiln_value at = numbers_below(g, kiln_graph_tensor(g, KILN_u32, 2, dims)->n_elements);
    kiln_value is_second = is_number(g, mask_n(g, at, 1), 1);
    kiln_value words = one_word(g, inputs[0], right_n(g, at, 1), is_second);
    return kiln_add_reshape(g, words, 2, dims);
}

/* 0 <= u < 1 with as many bits as the dtype's mantissa and one more, so that rounding never gives
 * 1; both words for f64. */
static kiln_value unit_interval(kiln_graph *g, const kiln_value *words, kiln_dtype dtype)
{
    if (dtype == KILN_f64) {
        kiln_value high = kiln_add_convert(g, words[0], KILN_u64);
        kiln_value bits = join(g, left_n(g, high, 32), kiln_add_convert(g, words[1], KILN_u64));
        return times_n(g, kiln_add_convert(g, right_n(g, bits, 11), KILN_f64), 0x1p-53);
    }
    int kept = dtype == KILN_f32 ? 24 : dtype == KILN_f16 ? 11 : 8;
    kiln_value top = kiln_add_convert(g, right_n(g, words[0], 32 - kept), KILN_f32);
    return times_n(g, top, ldexp(1, -kept));
}

/* offset + scale * u, in the compute dtype, then rounded; the dtype must be a float. */
static kiln_value placed(kiln_graph *g, kiln_value u, const kiln_attrs *attrs)
{
    u = plus_n(g, times_n(g, u, attrs->random.scale), attrs->random.offset);
    return shaped(g, kiln_rule_narrow(g, u, attrs->random.dtype), attrs->random.dims);
}

static int64_t random_count(kiln_graph *g, const char *op, const kiln_attrs *attrs)
{
    kiln_dtype dtype = attrs->random.dtype;
    if (dtype != KILN_f32 && dtype != KILN_f64 && dtype != KILN_f16 && dtype != KILN_bf16)
        kiln_fail(g->scope, KILN_INVALID, "%s: dtype %s; expected a float", op,
                  kiln_dtype_name(dtype));
    return kiln_graph_tensor(g, dtype, attrs->random.dims.n, attrs->random.dims.at)->n_elements;
}

RULE(random_uniform)
{
    kiln_value words[MAX_WORDS];
    blocks(g, inputs[0], numbers_below(g, random_count(g, "random_uniform", attrs)), words);
    return placed(g, unit_interval(g, words, attrs->random.dtype), attrs);
}

/* Box and Muller: sqrt(-2 log(1 - u)) cos(2 pi v), u and v the two words of a block. */
RULE(random_normal)
{
    kiln_value words[MAX_WORDS];
    blocks(g, inputs[0], numbers_below(g, random_count(g, "random_normal", attrs)), words);
    kiln_value u = times_n(g, kiln_add_convert(g, right_n(g, words[0], 8), KILN_f32), 0x1p-24);
    kiln_value v = times_n(g, kiln_add_convert(g, right_n(g, words[1], 8), KILN_f32), 0x1p-24);
    if (attrs->random.dtype == KILN_f64) {
        u = times_n(g, kiln_add_convert(g, words[0], KILN_f64), 0x1p-32);
        v = times_n(g, kiln_add_convert(g, words[1], KILN_f64), 0x1p-32);
    }
    kiln_value radius = kiln_add_unary(g, KILN_OP_log1p, minus(g, u));
    radius = root(g, times_n(g, radius, -2));
    kiln_value angle = kiln_add_unary(g, KILN_OP_cos, times_n(g, v, 2 * M_PI));
    return placed(g, times(g, radius, angle), attrs);
}

/* a / (1 - rate) where u >= rate, else 0 */
RULE(dropout)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]);
    double rate = attrs->rate.rate;
    kiln_value words[MAX_WORDS], a = kiln_rule_widen(g, inputs[0]);
    if (!(rate >= 0 && rate <= 1))
        kiln_fail(g->scope, KILN_INVALID, "dropout: rate is %g; expected 0 to 1", rate);
    blocks(g, inputs[1], numbers_below(g, type->n_elements), words);
    kiln_value u = kiln_add_reshape(g, unit_interval(g, words, KILN_f32), type->rank, type->dims);
    kiln_value is_kept = kiln_add_binary(g, KILN_OP_ge, u, kiln_add_splat_like(g, u, rate));
    kiln_value y = rate < 1 ? times_n(g, a, 1 / (1 - rate)) : a;
    y = choose(g, is_kept, y, kiln_add_splat_like(g, y, 0));
    return narrow_like(g, y, inputs[0]);
}
