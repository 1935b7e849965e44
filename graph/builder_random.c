/* The public builder: random numbers, transforms, systems of equations and fewer bits. */
#include "graph/builder.h"

static kiln_value plain_body(kiln_graph *graph, const kiln_request *request)
{
    return kiln_build_node(graph, request, NULL);
}

kiln_value kiln_threefry2x32(kiln_graph *graph, kiln_value key, kiln_value counter)
{
    kiln_request request = {KILN_OP_threefry2x32, .inputs = {key, counter}, .n = 2};
    return kiln_build(graph, plain_body, &request);
}

kiln_value kiln_philox4x32(kiln_graph *graph, kiln_value key, kiln_value counter)
{
    kiln_request request = {KILN_OP_philox4x32, .inputs = {key, counter}, .n = 2};
    return kiln_build(graph, plain_body, &request);
}

static kiln_value next_after_body(kiln_graph *graph, const kiln_request *request)
{
    return kiln_build_elementwise(graph, request);
}

kiln_value kiln_next_after(kiln_graph *graph, kiln_value a, kiln_value b)
{
    kiln_request request = {KILN_OP_next_after, .inputs = {a, b}, .n = 2};
    return kiln_build(graph, next_after_body, &request);
}

static kiln_value precision_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_reduce_precision,
                        .reduce_precision = {request->axis, request->rank}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_reduce_precision(kiln_graph *graph, kiln_value a, int64_t exponent_bits,
                                 int64_t mantissa_bits)
{
    bool fits = mantissa_bits >= 0 && mantissa_bits < 64;
    kiln_request request = {KILN_OP_reduce_precision, .inputs = {a}, .n = 1, .axis = exponent_bits,
                            .rank = fits ? (uint32_t)mantissa_bits : 64};
    return kiln_build(graph, precision_body, &request);
}

static kiln_value split_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_count, .count = {request->axis}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_random_split(kiln_graph *graph, kiln_value key, int64_t n)
{
    kiln_request request = {KILN_OP_random_split, .inputs = {key}, .n = 1, .axis = n};
    return kiln_build(graph, split_body, &request);
}

static kiln_ints dims_of(kiln_graph *graph, kiln_op op, uint32_t rank, const int64_t *dims)
{
    if (rank > KILN_MAX_RANK || (rank && !dims)) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: dims is NULL or has more than %d entries",
                  kiln_op_rows[op].name, KILN_MAX_RANK);
    }
    return (kiln_ints){rank, dims};
}

static kiln_value bits_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_sizes};
    attrs.sizes.sizes = dims_of(graph, request->op, request->rank, request->dims);
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_random_bits(kiln_graph *graph, kiln_value key, uint32_t rank, const int64_t *dims)
{
    kiln_request request = {KILN_OP_random_bits, .inputs = {key}, .n = 1, .rank = rank,
                            .dims = dims};
    return kiln_build(graph, bits_body, &request);
}

static kiln_value random_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_random_options *options = request->options;
    if (!options)
        kiln_fail(graph->scope, KILN_INVALID, "%s: options is NULL",
                  kiln_op_rows[request->op].name);
    kiln_attrs attrs = {KILN_FAMILY_random};
    attrs.random.dtype = options->dtype ? options->dtype : KILN_f32;
    attrs.random.dims = dims_of(graph, request->op, options->rank, options->dims);
    attrs.random.offset = options->offset;
    attrs.random.scale = options->scale != 0 ? options->scale : 1;
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_random_uniform(kiln_graph *graph, kiln_value key,
                               const kiln_random_options *options)
{
    kiln_request request = {KILN_OP_random_uniform, .inputs = {key}, .n = 1, .options = options};
    return kiln_build(graph, random_body, &request);
}

kiln_value kiln_random_normal(kiln_graph *graph, kiln_value key, const kiln_random_options *options)
{
    kiln_request request = {KILN_OP_random_normal, .inputs = {key}, .n = 1, .options = options};
    return kiln_build(graph, random_body, &request);
}

static kiln_value dropout_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_rate, .rate = {request->number}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_dropout(kiln_graph *graph, kiln_value a, kiln_value key, double rate)
{
    kiln_request request = {KILN_OP_dropout, .inputs = {a, key}, .n = 2, .number = rate};
    return kiln_build(graph, dropout_body, &request);
}

static kiln_value fft_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    if (request->rank && !request->dims)
        kiln_fail(graph->scope, KILN_INVALID, "fft: axes is NULL; expected %u", request->rank);
    kiln_attrs attrs = {KILN_FAMILY_fft, .fft = {{0}, request->flag}};
    if (request->rank) attrs.fft.axes = kiln_build_axes(graph, request, rank);
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_fft(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes,
                    int inverse)
{
    kiln_request request = {KILN_OP_fft,    .inputs = {a}, .n = 1,
                            .rank = n_axes, .dims = axes,  .flag = inverse != 0};
    return kiln_build(graph, fft_body, &request);
}

static kiln_value swapped(kiln_graph *graph, kiln_value a, uint32_t rank)
{
    int64_t order[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) order[i] = i;
    order[rank - 1] = rank - 2;
    order[rank - 2] = rank - 1;
    return kiln_add_transpose(graph, a, order);
}

static kiln_value cholesky_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_request turned = *request;
    if (request->flag || rank < 2) return kiln_build_node(graph, request, NULL);
    turned.inputs[0] = swapped(graph, request->inputs[0], rank);
    return swapped(graph, kiln_build_node(graph, &turned, NULL), rank);
}

kiln_value kiln_cholesky(kiln_graph *graph, kiln_value a, int lower)
{
    kiln_request request = {KILN_OP_cholesky, .inputs = {a}, .n = 1, .flag = lower != 0};
    return kiln_build(graph, cholesky_body, &request);
}

static kiln_value triangular_body(kiln_graph *graph, const kiln_request *request)
{
    static const kiln_triangular_options standard;
    const kiln_triangular_options *options = request->options ? request->options : &standard;
    kiln_attrs attrs = {KILN_FAMILY_triangular,
                        .triangular = {!options->right, !options->upper, options->transpose != 0,
                                       options->unit_diagonal != 0}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_triangular_solve(kiln_graph *graph, kiln_value a, kiln_value b,
                                 const kiln_triangular_options *options)
{
    kiln_request request = {KILN_OP_triangular_solve, .inputs = {a, b}, .n = 2, .options = options};
    return kiln_build(graph, triangular_body, &request);
}

static kiln_value forward_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_unit, .unit = {request->flag}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_forward_solve(kiln_graph *graph, kiln_value a, kiln_value b, int unit_diagonal)
{
    kiln_request request = {KILN_OP_forward_solve, .inputs = {a, b}, .n = 2,
                            .flag = unit_diagonal != 0};
    return kiln_build(graph, forward_body, &request);
}
