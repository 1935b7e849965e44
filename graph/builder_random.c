/* The public builder: random numbers, transforms, systems of equations and fewer bits. */
#include "graph/builder.h"
#include "graph/describe.h"
#include "graph/element.h"

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

/* A complex value as pairs on a new last axis, and back. */
static kiln_value to_pairs(kiln_graph *graph, kiln_value a)
{
    const int64_t *given = kiln_value_dims(graph, a);
    int64_t dims[KILN_MAX_RANK + 1];
    uint32_t rank = kiln_value_rank(graph, a);
    for (uint32_t i = 0; i < rank; i++) dims[i] = given[i];
    dims[rank] = 1;
    kiln_value parts[] = {kiln_reshape(graph, kiln_real(graph, a), rank + 1, dims),
                          kiln_reshape(graph, kiln_imag(graph, a), rank + 1, dims)};
    return kiln_concat(graph, 2, parts, -1);
}

static kiln_value from_pairs(kiln_graph *graph, kiln_value a)
{
    const int64_t *dims = kiln_value_dims(graph, a);
    uint32_t last = kiln_value_rank(graph, a) - 1;
    kiln_value parts[2];
    if (!dims) return (kiln_value){0};
    for (int64_t i = 0; i < 2; i++) {
        int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK];
        for (uint32_t axis = 0; axis < last; axis++) limits[axis] = dims[axis];
        starts[last] = i;
        limits[last] = i + 1;
        parts[i] = kiln_slice(graph, a, &(kiln_slice_options){starts, limits, NULL});
        parts[i] = kiln_reshape(graph, parts[i], last, limits);
    }
    return kiln_complex(graph, parts[0], parts[1]);
}

/* Elements before `limit` along the last of the axes. */
static kiln_value first_along(kiln_graph *graph, kiln_value a, int64_t axis, int64_t limit)
{
    const int64_t *dims = kiln_value_dims(graph, a);
    int64_t limits[KILN_MAX_RANK];
    if (!dims) return (kiln_value){0};
    for (uint32_t i = 0; i < kiln_value_rank(graph, a); i++) limits[i] = dims[i];
    limits[axis] = limit;
    return kiln_slice(graph, a, &(kiln_slice_options){NULL, limits, NULL});
}

/* request->axis: the length of the last axis of an irfft. */
static kiln_value check_real_fft(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    bool fits = request->rank >= 1 && request->dims && type->rank < KILN_MAX_RANK;
    fits =
        fits && kiln_dtype_in(type->dtype, request->flag ? KILN_TYPES_COMPLEX : KILN_TYPES_FLOAT);
    if (!fits) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: operand %s, %u axes; expected %s and an axis",
                  request->name, kiln_type_string(&graph->scope->arena, type), request->rank,
                  request->flag ? "complex values" : "floats");
    }
    int64_t dim = 0;
    for (uint32_t i = 0; i < request->rank; i++)
        dim = type->dims[kiln_build_axis(graph, request, request->dims[i], type->rank)];
    if (!request->flag || (request->axis >= 1 && request->axis / 2 + 1 == dim))
        return (kiln_value){0};
    kiln_fail(graph->scope, KILN_INVALID,
              "irfft: length %lld for a dim of %lld; expected twice as "
              "much less 2 or 1",
              (long long)request->axis, (long long)dim);
}

static int64_t last_axis(const kiln_graph *graph, kiln_value a, uint32_t n_axes,
                         const int64_t *axes)
{
    int64_t axis = axes[n_axes - 1];
    return axis < 0 ? axis + kiln_value_rank(graph, a) : axis;
}

kiln_value kiln_rfft(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes)
{
    kiln_request request = {.name = "rfft", .inputs = {a}, .n = 1, .rank = n_axes, .dims = axes};
    if (!kiln_build_check(graph, check_real_fft, &request)) return (kiln_value){0};
    int64_t axis = last_axis(graph, a, n_axes, axes), n = kiln_value_dims(graph, a)[axis];
    kiln_value zero = kiln_scalar(graph, kiln_value_dtype(graph, a), 0);
    kiln_value imag =
        kiln_broadcast(graph, zero, kiln_value_rank(graph, a), kiln_value_dims(graph, a), NULL);
    kiln_value y = kiln_fft(graph, kiln_complex(graph, a, imag), n_axes, axes, 0);
    return first_along(graph, y, axis, n / 2 + 1);
}

/* What is left out along the last axis are conjugates: of the element at the mirrored place of
 * every axis that is transformed. */
kiln_value kiln_irfft(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes,
                      int64_t length)
{
    kiln_request request = {.name = "irfft",
                            .inputs = {a},
                            .n = 1,
                            .rank = n_axes,
                            .dims = axes,
                            .axis = length,
                            .flag = true};
    if (!kiln_build_check(graph, check_real_fft, &request)) return (kiln_value){0};
    int64_t axis = last_axis(graph, a, n_axes, axes), half = length / 2 + 1;
    if (n_axes > 1) a = kiln_fft(graph, a, n_axes - 1, axes, 1);
    if (length > 2) {
        int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK];
        const int64_t *dims = kiln_value_dims(graph, a);
        for (uint32_t i = 0; dims && i < kiln_value_rank(graph, a); i++) limits[i] = dims[i];
        starts[axis] = 1;
        limits[axis] = 1 + length - half;
        kiln_value rest = kiln_slice(graph, a, &(kiln_slice_options){starts, limits, NULL});
        rest = kiln_conj(graph, kiln_reverse(graph, rest, 1, &axis));
        a = kiln_concat(graph, 2, (kiln_value[]){a, rest}, axis);
    }
    return kiln_real(graph, kiln_fft(graph, a, 1, &axis, 1));
}

kiln_value kiln_fft(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes,
                    int inverse)
{
    if (kiln_dtype_in(kiln_value_dtype(graph, a), KILN_TYPES_COMPLEX)) {
        int64_t plain[KILN_MAX_RANK]; /* counted from the start: pairs have an axis more */
        uint32_t rank = kiln_value_rank(graph, a);
        for (uint32_t i = 0; axes && i < n_axes && i < KILN_MAX_RANK; i++)
            plain[i] = axes[i] < 0 ? axes[i] + rank : axes[i];
        a = kiln_fft(graph, to_pairs(graph, a), n_axes, axes ? plain : NULL, inverse);
        return from_pairs(graph, a);
    }
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

/* Transposed, and of complex values the conjugate. */
static kiln_value adjoint(kiln_graph *graph, kiln_value a, uint32_t rank)
{
    a = swapped(graph, a, rank);
    bool is_complex = kiln_dtype_in(kiln_graph_type(graph, a)->dtype, KILN_TYPES_COMPLEX);
    return is_complex ? kiln_add_unary(graph, KILN_OP_conj, a) : a;
}

static kiln_value cholesky_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_request turned = *request;
    if (request->flag || rank < 2) return kiln_build_node(graph, request, NULL);
    turned.inputs[0] = adjoint(graph, request->inputs[0], rank);
    return adjoint(graph, kiln_build_node(graph, &turned, NULL), rank);
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
