/* The public builder: reductions, windows, views, moves and contractions. Bodies fill attributes
 * from the caller's lists and their defaults. */
#include "base/checked.h"
#include "graph/builder.h"
#include "graph/describe.h"
#include "graph/element.h"

static _Noreturn void fail_null(kiln_graph *graph, const kiln_request *request, const char *what)
{
    kiln_fail(graph->scope, KILN_INVALID, "%s: %s is NULL", kiln_op_rows[request->op].name, what);
}

/* Reductions */

static kiln_value axes_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {kiln_build_axes(graph, request, rank)}};
    return kiln_build_node(graph, request, &attrs);
}

static kiln_value arg_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    int64_t axis = kiln_build_axis(graph, request, request->axis, rank);
    kiln_attrs attrs = {KILN_FAMILY_arg, .arg = {axis, request->flag}};
    return kiln_build_node(graph, request, &attrs);
}

#define OVER_AXES(op_)                                                                             \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes)   \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .rank = n_axes,              \
                                .dims = axes};                                                     \
        return kiln_build(graph, axes_body, &request);                                             \
    }
#define ARG(op_)                                                                                   \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, int64_t axis, int last)                 \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .axis = axis,                \
                                .flag = last != 0};                                                \
        return kiln_build(graph, arg_body, &request);                                              \
    }

OVER_AXES(reduce_sum)
OVER_AXES(reduce_prod)
OVER_AXES(reduce_max)
OVER_AXES(reduce_min)
OVER_AXES(reduce_any)
OVER_AXES(reduce_all)
OVER_AXES(mean)
OVER_AXES(variance)
OVER_AXES(reverse)
ARG(argmax)
ARG(argmin)

/* Windows */

static kiln_value window_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_window_options *options = request->options;
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    if (!options) fail_null(graph, request, "options");
    kiln_attrs attrs = {KILN_FAMILY_window};
    attrs.window.sizes = kiln_build_list(graph, options->sizes, rank, 1);
    attrs.window.strides = kiln_build_list(graph, options->strides, rank, 1);
    attrs.window.low = kiln_build_list(graph, options->low, rank, 0);
    attrs.window.high = kiln_build_list(graph, options->high, rank, 0);
    attrs.window.dilations = kiln_build_list(graph, options->dilations, rank, 1);
    return kiln_build_node(graph, request, &attrs);
}

#define WINDOW(op_)                                                                                \
    kiln_value kiln_##op_(kiln_graph *graph, kiln_value a, const kiln_window_options *options)     \
    {                                                                                              \
        kiln_request request = {KILN_OP_##op_, .inputs = {a}, .n = 1, .options = options};         \
        return kiln_build(graph, window_body, &request);                                           \
    }

WINDOW(window_sum)
WINDOW(window_prod)
WINDOW(window_max)
WINDOW(window_min)

/* Views */

static kiln_value broadcast_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    if (request->rank && !request->dims) fail_null(graph, request, "dims");
    kiln_graph_tensor(graph, type->dtype, request->rank, request->dims);
    kiln_value a = request->inputs[0];
    const int64_t *axes = request->data;
    return axes ? kiln_add_broadcast(graph, a, request->rank, request->dims, axes)
                : kiln_add_broadcast_to(graph, a, request->rank, request->dims);
}

kiln_value kiln_broadcast(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims,
                          const int64_t *axes)
{
    kiln_request request = {KILN_OP_broadcast, .inputs = {a}, .n = 1,
                            .rank = rank,      .dims = dims,  .data = axes};
    return kiln_build(graph, broadcast_body, &request);
}

static kiln_value reshape_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *type = kiln_build_type(graph, request, 0);
    int64_t dims[KILN_MAX_RANK], known = 1, *rest = NULL;
    if (request->rank && !request->dims) fail_null(graph, request, "dims");
    for (uint32_t i = 0; i < request->rank && i < KILN_MAX_RANK; i++) {
        dims[i] = request->dims[i];
        if (dims[i] != -1 || rest) continue;
        rest = &dims[i];
        *rest = 1;
    }
    if (rest && request->rank <= KILN_MAX_RANK) {
        known = kiln_graph_tensor(graph, type->dtype, request->rank, dims)->n_elements;
        if (known == 0 || type->n_elements % known != 0) {
            kiln_fail(graph->scope, KILN_INVALID,
                      "reshape: %s into multiples of %lld; expected a whole number",
                      kiln_type_string(&graph->scope->arena, type), (long long)known);
        }
        *rest = type->n_elements / known;
    }
    return kiln_add_reshape(graph, request->inputs[0], request->rank, dims);
}

kiln_value kiln_reshape(kiln_graph *graph, kiln_value a, uint32_t rank, const int64_t *dims)
{
    kiln_request request = {KILN_OP_reshape, .inputs = {a}, .n = 1, .rank = rank, .dims = dims};
    return kiln_build(graph, reshape_body, &request);
}

static kiln_value transpose_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    int64_t permutation[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        permutation[i] =
            request->dims ? kiln_build_axis(graph, request, request->dims[i], rank) : rank - 1 - i;
    }
    return kiln_add_transpose(graph, request->inputs[0], permutation);
}

kiln_value kiln_transpose(kiln_graph *graph, kiln_value a, const int64_t *permutation)
{
    kiln_request request = {KILN_OP_transpose, .inputs = {a}, .n = 1, .dims = permutation};
    return kiln_build(graph, transpose_body, &request);
}

static kiln_value slice_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_slice_options *options = request->options;
    const kiln_type *type = kiln_build_type(graph, request, 0);
    if (!options) fail_null(graph, request, "options");
    kiln_attrs attrs = {KILN_FAMILY_slice};
    attrs.slice.starts = kiln_build_list(graph, options->starts, type->rank, 0);
    attrs.slice.limits = (kiln_ints){type->rank, options->limits ? options->limits : type->dims};
    attrs.slice.strides = kiln_build_list(graph, options->strides, type->rank, 1);
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_slice(kiln_graph *graph, kiln_value a, const kiln_slice_options *options)
{
    kiln_request request = {KILN_OP_slice, .inputs = {a}, .n = 1, .options = options};
    return kiln_build(graph, slice_body, &request);
}

/* Moves */

static kiln_value pad_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_pad_options *options = request->options;
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    if (!options) fail_null(graph, request, "options");
    kiln_attrs attrs = {KILN_FAMILY_pad};
    attrs.pad.low = kiln_build_list(graph, options->low, rank, 0);
    attrs.pad.high = kiln_build_list(graph, options->high, rank, 0);
    attrs.pad.interior = kiln_build_list(graph, options->interior, rank, 0);
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_pad(kiln_graph *graph, kiln_value a, kiln_value value,
                    const kiln_pad_options *options)
{
    kiln_request request = {KILN_OP_pad, .inputs = {a, value}, .n = 2, .options = options};
    return kiln_build(graph, pad_body, &request);
}

static kiln_value axis_body(kiln_graph *graph, const kiln_request *request)
{
    if (request->n == 0 || (request->op == KILN_OP_concat && !request->list)) {
        kiln_fail(graph->scope, KILN_INVALID, "%s: no operands; expected at least one",
                  kiln_op_rows[request->op].name);
    }
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    kiln_attrs attrs = {KILN_FAMILY_axis,
                        .axis = {kiln_build_axis(graph, request, request->axis, rank)}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_concat(kiln_graph *graph, uint32_t n_values, const kiln_value *values, int64_t axis)
{
    kiln_request request = {KILN_OP_concat, .list = values, .n = n_values, .axis = axis};
    return kiln_build(graph, axis_body, &request);
}

kiln_value kiln_take(kiln_graph *graph, kiln_value a, kiln_value indices, int64_t axis)
{
    kiln_request request = {KILN_OP_take, .inputs = {a, indices}, .n = 2, .axis = axis};
    return kiln_build(graph, axis_body, &request);
}

kiln_value kiln_softmax(kiln_graph *graph, kiln_value a, int64_t axis)
{
    kiln_request request = {KILN_OP_softmax, .inputs = {a}, .n = 1, .axis = axis};
    return kiln_build(graph, axis_body, &request);
}

kiln_value kiln_log_softmax(kiln_graph *graph, kiln_value a, int64_t axis)
{
    kiln_request request = {KILN_OP_log_softmax, .inputs = {a}, .n = 1, .axis = axis};
    return kiln_build(graph, axis_body, &request);
}

static kiln_value sizes_body(kiln_graph *graph, const kiln_request *request)
{
    uint32_t rank = kiln_build_type(graph, request, 0)->rank;
    if (rank && !request->dims) fail_null(graph, request, "sizes");
    kiln_attrs attrs = {KILN_FAMILY_sizes, .sizes = {{rank, request->dims}}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_dynamic_slice(kiln_graph *graph, kiln_value a, kiln_value starts,
                              const int64_t *sizes)
{
    kiln_request request = {KILN_OP_dynamic_slice, .inputs = {a, starts}, .n = 2, .dims = sizes};
    return kiln_build(graph, sizes_body, &request);
}

static kiln_value plain_body(kiln_graph *graph, const kiln_request *request)
{
    return kiln_build_node(graph, request, NULL);
}

kiln_value kiln_dynamic_update(kiln_graph *graph, kiln_value a, kiln_value block, kiln_value starts)
{
    kiln_request request = {KILN_OP_dynamic_update, .inputs = {a, block, starts}, .n = 3};
    return kiln_build(graph, plain_body, &request);
}

/* Contractions */

/* Bytes of two signs meet in i32. */
static kiln_dtype sum_dtype(kiln_graph *graph, const kiln_request *request, kiln_dtype wanted)
{
    kiln_dtype a = kiln_build_type(graph, request, 0)->dtype;
    kiln_dtype b = kiln_build_type(graph, request, 1)->dtype;
    if (wanted) return wanted;
    return a == b ? kiln_dtype_accumulator(a) : KILN_i32;
}

static kiln_value dot_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_dot_options *options = request->options;
    if (!options) fail_null(graph, request, "options");
    uint32_t n_batch = options->n_batch, n_sum = options->n_contract;
    if (n_batch > KILN_MAX_RANK || n_sum > KILN_MAX_RANK ||
        (n_batch && (!options->lhs_batch || !options->rhs_batch)) ||
        (n_sum && (!options->lhs_contract || !options->rhs_contract))) {
        kiln_fail(
            graph->scope, KILN_INVALID,
            "dot_general: %u batch and %u contracted axes; expected at most 16 and a list for each "
            "operand",
            n_batch, n_sum);
    }
    kiln_attrs attrs = {KILN_FAMILY_dot};
    attrs.dot.lhs_batch = (kiln_ints){n_batch, options->lhs_batch};
    attrs.dot.rhs_batch = (kiln_ints){n_batch, options->rhs_batch};
    attrs.dot.lhs_contract = (kiln_ints){n_sum, options->lhs_contract};
    attrs.dot.rhs_contract = (kiln_ints){n_sum, options->rhs_contract};
    attrs.dot.accumulate = sum_dtype(graph, request, options->accumulate);
    attrs.dot.wide = options->is_wide != 0;
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_dot_general(kiln_graph *graph, kiln_value a, kiln_value b,
                            const kiln_dot_options *options)
{
    kiln_request request = {KILN_OP_dot_general, .inputs = {a, b}, .n = 2, .options = options};
    return kiln_build(graph, dot_body, &request);
}

/* Leading axes are broadcast to a common shape and become batch axes. */
static kiln_value matmul_body(kiln_graph *graph, const kiln_request *request)
{
    const kiln_type *types[] = {kiln_build_type(graph, request, 0),
                                kiln_build_type(graph, request, 1)};
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK];
    uint32_t rank = types[0]->rank < 2 ? 0 : types[0]->rank - 2;
    for (uint32_t i = 0; i < rank; i++) dims[i] = types[0]->dims[i];
    if (types[0]->rank < 2 || types[1]->rank < 2 ||
        !kiln_build_broadcast(&rank, dims, types[1]->rank - 2, types[1]->dims)) {
        kiln_fail(
            graph->scope, KILN_INVALID,
            "matmul: operands are %s; expected ranks of 2 or more and leading axes that broadcast",
            kiln_types_string(&graph->scope->arena, types, 2));
    }
    kiln_request wide = *request;
    for (uint32_t i = 0; i < 2; i++) {
        dims[rank] = types[i]->dims[types[i]->rank - 2];
        dims[rank + 1] = types[i]->dims[types[i]->rank - 1];
        wide.inputs[i] = kiln_add_broadcast_to(graph, request->inputs[i], rank + 2, dims);
    }
    for (uint32_t i = 0; i < rank; i++) axes[i] = i;
    int64_t lhs = rank + 1, rhs = rank;
    kiln_dot_options options = {rank, 1, axes, axes, &lhs, &rhs, KILN_NO_DTYPE, 0};
    wide.options = &options;
    return dot_body(graph, &wide);
}

kiln_value kiln_matmul(kiln_graph *graph, kiln_value a, kiln_value b)
{
    kiln_request request = {KILN_OP_dot_general, .inputs = {a, b}, .n = 2};
    return kiln_build(graph, matmul_body, &request);
}

static kiln_ints axes_or_order(kiln_graph *graph, const int64_t *axes, uint32_t rank)
{
    int64_t *order = kiln_new_array(&graph->scope->arena, int64_t, rank);
    for (uint32_t i = 0; i < rank; i++) order[i] = axes ? axes[i] : i;
    return (kiln_ints){rank, order};
}

/* Moves the groups of the batch in front of the features: [g n, c] becomes [n, g c], so that groups
 * of features do what groups of the batch should. */
static kiln_value batch_groups_fold(kiln_graph *graph, kiln_value a, const kiln_conv_options *o)
{
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t batch = o->input_axes ? o->input_axes[0] : 0, g = o->batch_groups;
    int64_t feature = o->input_axes ? o->input_axes[1] : 1;
    bool fits = type->rank < KILN_MAX_RANK && batch >= 0 && batch < type->rank && feature >= 0 &&
                feature < type->rank && feature != batch && o->groups <= 1 && g > 0;
    if (!fits || type->dims[batch] % g) {
        kiln_fail(graph->scope, KILN_INVALID,
                  "convolution: %lld batch groups of %s; expected a divisor of the batch and no "
                  "other groups",
                  (long long)g, kiln_type_string(&graph->scope->arena, type));
    }
    return kiln_add_move_groups(graph, a, batch, feature, g);
}

static kiln_value conv_body(kiln_graph *graph, const kiln_request *request)
{
    static const kiln_conv_options standard;
    const kiln_conv_options *options = request->options ? request->options : &standard;
    const kiln_type *type = kiln_build_type(graph, request, 0);
    uint32_t rank = type->rank, n = rank < 2 ? 0 : rank - 2;
    kiln_attrs attrs = {KILN_FAMILY_conv};
    attrs.conv.strides = kiln_build_list(graph, options->strides, n, 1);
    attrs.conv.low = kiln_build_list(graph, options->low, n, 0);
    attrs.conv.high = kiln_build_list(graph, options->high, n, 0);
    attrs.conv.lhs_dilation = kiln_build_list(graph, options->lhs_dilation, n, 1);
    attrs.conv.rhs_dilation = kiln_build_list(graph, options->rhs_dilation, n, 1);
    attrs.conv.groups = options->groups ? options->groups : 1;
    attrs.conv.input_axes = axes_or_order(graph, options->input_axes, rank);
    attrs.conv.kernel_axes = axes_or_order(graph, options->kernel_axes, rank);
    attrs.conv.output_axes = axes_or_order(graph, options->output_axes, rank);
    attrs.conv.accumulate = sum_dtype(graph, request, options->accumulate);
    attrs.conv.wide = options->is_wide != 0;
    if (options->batch_groups == 0 || options->batch_groups == 1)
        return kiln_build_node(graph, request, &attrs);
    kiln_request folded = *request;
    folded.inputs[0] = batch_groups_fold(graph, request->inputs[0], options);
    attrs.conv.groups = options->batch_groups;
    return kiln_build_node(graph, &folded, &attrs);
}

kiln_value kiln_convolution(kiln_graph *graph, kiln_value a, kiln_value kernel,
                            const kiln_conv_options *options)
{
    kiln_request request = {KILN_OP_convolution, .inputs = {a, kernel}, .n = 2, .options = options};
    return kiln_build(graph, conv_body, &request);
}

static kiln_value barrier_body(kiln_graph *graph, const kiln_request *request)
{
    kiln_attrs attrs = {KILN_FAMILY_serial, .serial = {graph->n_serials}};
    return kiln_build_node(graph, request, &attrs);
}

kiln_value kiln_barrier(kiln_graph *graph, kiln_value a)
{
    return kiln_build(graph, barrier_body, &(kiln_request){KILN_OP_barrier, .inputs = {a}, .n = 1});
}
