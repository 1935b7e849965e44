/* The public builder of kiln/layers.h: rows with attributes, and calls made of other calls. */
#include "kiln/layers.h"

#include "graph/builder.h"
#include "graph/element.h"
#include "graph/rules/rules.h"

#define ONE_NUMBER(op_)                                                                            \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, double number)                          \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .number = number};           \
        return kiln_build(graph, kiln_build_numbers, &request);                                    \
    }
#define TWO_NUMBERS(op_)                                                                           \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, double number, double other)            \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .number = number,            \
                                .other = other};                                                   \
        return kiln_build(graph, kiln_build_numbers, &request);                                    \
    }

ONE_NUMBER(swish)
ONE_NUMBER(softplus_beta)
ONE_NUMBER(squareplus)
ONE_NUMBER(celu)
ONE_NUMBER(hard_shrink)
ONE_NUMBER(soft_shrink)
TWO_NUMBERS(hard_tanh)
TWO_NUMBERS(threshold)

kiln_value kiln_sparse_sigmoid(kiln_graph *graph, kiln_value a)
{
    return kiln_hard_sigmoid(graph, a, 0.5, 0.5);
}

kiln_value kiln_rrelu(kiln_graph *graph, kiln_value a, kiln_value key, double low, double high)
{
    if (!key.id) return kiln_leaky_relu(graph, a, (low + high) / 2);
    kiln_random_options options = {kiln_value_dtype(graph, a), kiln_value_rank(graph, a),
                                   kiln_value_dims(graph, a), low, high - low};
    if (high == low) return kiln_leaky_relu(graph, a, low);
    return kiln_prelu(graph, a, kiln_random_uniform(graph, key, &options));
}

static kiln_value axis_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_axis,
                        .axis = {kiln_build_axis(graph, request, request->axis, rank)}};
    return kiln_build_node(graph, request, &attrs);
}

#define ALONG(op_)                                                                                 \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, int64_t axis)                           \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .axis = axis};               \
        return kiln_build(graph, axis_body, &request);                                             \
    }
ALONG(glu)
ALONG(sparsemax)

kiln_value kiln_softmin(kiln_graph *graph, kiln_value a, int64_t axis)
{
    return kiln_softmax(graph, kiln_neg(graph, a), axis);
}

/* Norms. A group count of 0 stands for as many as features. */

static kiln_value group_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    kiln_request full = *request;
    if (type->rank < 2) {
        kiln_fail(graph->scope, KILN_INVALID, "group_norm: operand %s; expected rank 2 or more",
                  kiln_rule_type(graph, request->inputs[0]));
    }
    kiln_dtype dtype = kiln_rule_compute_dtype(type->dtype);
    for (uint32_t i = 1; i < 3; i++) {
        if (!full.inputs[i].id)
            full.inputs[i] = kiln_add_splat(graph, dtype, 1, &type->dims[1], i == 1);
        kiln_build_type(graph, &full, i);
    }
    kiln_attrs attrs = {
        KILN_FAMILY_group_norm,
        .group_norm = {request->axis ? request->axis : type->dims[1], request->number}};
    if (attrs.group_norm.groups == 0) return request->inputs[0]; /* no features */
    return kiln_build_node(graph, &full, &attrs);
}

kiln_value kiln_instance_norm(kiln_graph *graph, kiln_value a, kiln_value scale, kiln_value offset,
                              double epsilon)
{
    kiln_request request = {KILN_OP_group_norm, .inputs = {a, scale, offset}, .n = 3,
                            .number = epsilon};
    return kiln_build(graph, group_body, &request);
}

kiln_value kiln_group_norm(kiln_graph *graph, kiln_value a, const kiln_group_norm_options *options)
{
    static const kiln_group_norm_options none;
    if (!options) options = &none;
    kiln_request request = {KILN_OP_group_norm, .inputs = {a, options->scale, options->offset},
                            .n = 3, .axis = options->groups ? options->groups : -1,
                            .number = options->epsilon};
    return kiln_build(graph, group_body, &request);
}

static kiln_value local_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_local_norm_options *options = request->options;
    if (!options) kiln_fail(graph->scope, KILN_INVALID, "local_norm: options is NULL");
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_local_norm,
                        .local_norm = {kiln_build_axis(graph, request, options->axis, rank),
                                       options->before, options->after, options->alpha,
                                       options->beta, options->bias}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_local_norm(kiln_graph *graph, kiln_value a, const kiln_local_norm_options *options)
{
    kiln_request request = {KILN_OP_local_norm, .inputs = {a}, .n = 1, .options = options};
    return kiln_build(graph, local_body, &request);
}

static kiln_value check_float_axis(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    kiln_build_axis(graph, request, request->axis, type->rank);
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT)) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand %s; expected a float dtype",
                  request->name, kiln_rule_type(graph, request->inputs[0]));
    }
    return (kiln_value){0};
}

kiln_value kiln_normalize(kiln_graph *graph, kiln_value a, int64_t axis, double epsilon)
{
    kiln_request request = {.inputs = {a}, .n = 1, .name = "normalize", .axis = axis};
    if (!kiln_build_check(graph, check_float_axis, &request)) return (kiln_value){0};
    kiln_dtype dtype = kiln_value_dtype(graph, a), wide = kiln_rule_compute_dtype(dtype);
    kiln_value x = kiln_convert(graph, a, wide);
    uint32_t rank = kiln_value_rank(graph, a);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) dims[i] = kiln_value_dims(graph, a)[i];
    dims[axis < 0 ? axis + rank : axis] = 1;
    kiln_value length = kiln_sqrt(graph, kiln_reduce_sum(graph, kiln_square(graph, x), 1, &axis));
    length = kiln_max(graph, length, kiln_scalar(graph, wide, epsilon));
    kiln_value y = kiln_div(graph, x, kiln_reshape(graph, length, rank, dims));
    return kiln_convert(graph, y, dtype);
}

/* Look-up */

kiln_value kiln_embedding(kiln_graph *graph, kiln_value table, kiln_value indices)
{
    return kiln_take(graph, table, indices, 0);
}

static kiln_value check_one_hot(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    kiln_build_axis(graph, request, request->axis, type->rank + 1);
    if (!kiln_dtype_in(type->dtype, KILN_TYPES_INTEGER) || request->dims[0] < 0) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "one_hot: indices %s, depth %lld; expected integers and a depth of 0 or more",
                  kiln_rule_type(graph, request->inputs[0]), (long long)request->dims[0]);
    }
    return (kiln_value){0};
}

kiln_value kiln_one_hot(kiln_graph *graph, kiln_value indices, int64_t depth, int64_t axis,
                        kiln_dtype dtype)
{
    kiln_request request = {
        .inputs = {indices}, .n = 1, .name = "one_hot", .axis = axis, .dims = &depth};
    if (!kiln_build_check(graph, check_one_hot, &request)) return (kiln_value){0};
    int64_t dims[KILN_MAX_RANK + 1], axes[KILN_MAX_RANK];
    uint32_t rank = kiln_value_rank(graph, indices),
             at = (uint32_t)(axis < 0 ? axis + rank + 1 : axis);
    for (uint32_t i = 0; i < rank; i++) {
        axes[i] = i + (i >= at);
        dims[axes[i]] = kiln_value_dims(graph, indices)[i];
    }
    dims[at] = depth;
    kiln_value wide = kiln_broadcast(graph, kiln_convert(graph, indices, KILN_i64), rank + 1, dims,
                                     rank ? axes : NULL);
    kiln_value place = kiln_iota(graph, KILN_i64, rank + 1, dims, at);
    return kiln_convert(graph, kiln_eq(graph, wide, place), dtype);
}

kiln_value kiln_rotary(kiln_graph *graph, kiln_value a, kiln_value cosine, kiln_value sine,
                       int interleaved)
{
    kiln_request request = {KILN_OP_rotary, .inputs = {a, cosine, sine}, .n = 3,
                            .flag = interleaved != 0};
    return kiln_build(graph, kiln_build_numbers, &request);
}
