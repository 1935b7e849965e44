/* Random operators. Numbers are functions of a key: the attribute `seed` and, without one, the
 * number of the node, so that a model gives the same numbers in every run. They are not those of
 * other frameworks. */
#include <inttypes.h>
#include <string.h>

#include "graph/io/onnx_op.h"

static kiln_onnx_fn import_dropout;

static kiln_value key_of(kiln_onnx_call *call)
{
    bool has_seed = kiln_onnx_has_attribute(call, "seed");
    uint32_t words[2] = {0, has_seed ? 1 : call->onnx->n_imported};
    int64_t dims[1] = {2};
    if (has_seed && call->row->import == import_dropout) {
        words[0] = (uint32_t)kiln_onnx_int(call, "seed", 0);
    } else if (has_seed) {
        float seed = (float)kiln_onnx_float(call, "seed", 0);
        memcpy(words, &seed, sizeof seed);
    }
    return kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, KILN_u32, 1, dims), words);
}

static kiln_value draw(kiln_onnx_call *call, kiln_op op, const kiln_attrs *attrs)
{
    kiln_value key = key_of(call);
    return kiln_graph_add(
        call->graph, &(kiln_node_spec){.op = op, .inputs = &key, .n_inputs = 1, .attrs = attrs});
}

/* RandomUniform, RandomNormal, and the same like operand 0. */
static kiln_value import_random(kiln_onnx_call *call)
{
    bool is_uniform = call->row->kiln == KILN_OP_random_uniform;
    double low = is_uniform ? kiln_onnx_float(call, "low", 0) : kiln_onnx_float(call, "mean", 0);
    double wide =
        is_uniform ? kiln_onnx_float(call, "high", 1) - low : kiln_onnx_float(call, "scale", 1);
    kiln_dtype dtype = call->n_inputs ? kiln_onnx_type(call, 0)->dtype : KILN_f32;
    int64_t given = kiln_onnx_int(call, "dtype", 0);
    kiln_attrs attrs = {KILN_FAMILY_random, .random = {dtype, {0}, low, wide}};
    if (given) attrs.random.dtype = kiln_onnx_dtype(call->onnx, given, "attr 'dtype'");
    if (call->n_inputs)
        attrs.random.dims =
            (kiln_ints){kiln_onnx_type(call, 0)->rank, kiln_onnx_type(call, 0)->dims};
    else if (!kiln_onnx_ints(call, "shape", &attrs.random.dims))
        kiln_onnx_fail(call, "attr 'shape' is missing; expected dims");
    return draw(call, call->row->kiln, &attrs);
}

static kiln_value uniform_like(kiln_onnx_call *call, const kiln_type *type)
{
    kiln_dtype dtype = type->dtype == KILN_f64 ? KILN_f64 : KILN_f32;
    kiln_attrs attrs = {KILN_FAMILY_random, .random = {dtype, {type->rank, type->dims}, 0, 1}};
    return draw(call, KILN_OP_random_uniform, &attrs);
}

/* 1 with the probability that the operand says */
static kiln_value import_bernoulli(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t given = kiln_onnx_int(call, "dtype", 0);
    kiln_dtype dtype = given ? kiln_onnx_dtype(call->onnx, given, "attr 'dtype'") : type->dtype;
    kiln_value u = uniform_like(call, type);
    kiln_value p =
        kiln_add_convert(call->graph, call->inputs[0], kiln_graph_type(call->graph, u)->dtype);
    return kiln_add_convert(call->graph, kiln_add_binary(call->graph, KILN_OP_lt, u, p), dtype);
}

/* Classes by unnormalised log probabilities: the largest of x - log(-log u) (Gumbel). */
static kiln_value import_multinomial(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    int64_t n = kiln_onnx_int(call, "sample_size", 1), dtype = kiln_onnx_int(call, "dtype", 6);
    int64_t dims[3] = {type->dims[0], n, type->dims[1]}, axes[2] = {0, 2};
    if (n < 0 || n > 1 << 24 || type->rank != 2)
        kiln_onnx_fail(call, "%" PRId64 " samples; expected 0 or more of a matrix", n);
    kiln_value x = kiln_add_convert(graph, call->inputs[0], KILN_f32);
    x = kiln_add_broadcast(graph, x, 3, dims, axes);
    kiln_value u = uniform_like(call, kiln_graph_type(graph, x));
    u = kiln_onnx_with(call, KILN_OP_max, u, 0x1p-25);
    u = kiln_add_unary(graph, KILN_OP_neg, kiln_add_unary(graph, KILN_OP_log, u));
    x = kiln_add_binary(graph, KILN_OP_sub, x, kiln_add_unary(graph, KILN_OP_log, u));
    kiln_attrs arg = {KILN_FAMILY_arg, .arg = {2, false}};
    x = kiln_graph_add(
        graph, &(kiln_node_spec){.op = KILN_OP_argmax, .inputs = &x, .n_inputs = 1, .attrs = &arg});
    return kiln_add_convert(graph, x, kiln_onnx_dtype(call->onnx, dtype, "attr 'dtype'"));
}

/* Operand 0 as it is, unless training_mode is known to be true: then elements are dropped with
 * probability `ratio` and the others divided by what is left. */
static kiln_value import_dropout(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    kiln_value a = kiln_onnx_operand(call, 0);
    const kiln_type *type = kiln_onnx_type(call, 0);
    bool is_training = kiln_onnx_has(call, 2) && kiln_onnx_known_int(call, 2);
    const double *ratios = NULL, half = 0.5;
    kiln_onnx_ignore(call, "ratio");
    kiln_onnx_ignore(call, "seed");
    if (call->opset < 7) kiln_onnx_ignore(call, "is_test");
    kiln_value is_kept = kiln_add_splat(graph, KILN_bool, type->rank, type->dims, 1);
    if (is_training) {
        uint32_t n = kiln_onnx_has(call, 1) ? kiln_onnx_known_floats(call, 1, &ratios) : 1;
        double ratio = ratios ? ratios[0] : half;
        if (n != 1 || !(ratio >= 0 && ratio <= 1))
            kiln_onnx_fail(call, "ratio of %u elements; expected one of 0 to 1", n);
        if (ratio > 0) {
            kiln_value u = uniform_like(call, type);
            is_kept = kiln_onnx_with(call, KILN_OP_ge, u, ratio);
            a = kiln_onnx_with(call, KILN_OP_mul, a, ratio < 1 ? 1 / (1 - ratio) : 1);
            a = kiln_onnx_select(call, is_kept, a, kiln_add_splat_like(graph, a, 0));
        }
    }
    kiln_onnx_result(call, 1, is_kept);
    return a;
}

const kiln_onnx_row kiln_onnx_random_rows[] = {
    {"RandomUniform", 6, KILN_ONNX_NEWEST, 0, 0, import_random, KILN_OP_random_uniform},
    {"RandomNormal", 6, KILN_ONNX_NEWEST, 0, 0, import_random, KILN_OP_random_normal},
    {"RandomUniformLike", 6, KILN_ONNX_NEWEST, 1, 1, import_random, KILN_OP_random_uniform},
    {"RandomNormalLike", 6, KILN_ONNX_NEWEST, 1, 1, import_random, KILN_OP_random_normal},
    {"Bernoulli", 15, KILN_ONNX_NEWEST, 1, 1, import_bernoulli, KILN_OP_none},
    {"Multinomial", 7, KILN_ONNX_NEWEST, 1, 1, import_multinomial, KILN_OP_none},
    {"Dropout", 6, KILN_ONNX_NEWEST, 1, 3, import_dropout, KILN_OP_none},
    {0},
};
