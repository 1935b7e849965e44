/* Convolutions. ConvTranspose is a convolution over a spread-out operand (lhs_dilation = strides)
 * with the kernel turned over. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

#define WINDOW_MAX ((int64_t)1 << 20)

/* Copies a list attribute of `n` entries in [least, WINDOW_MAX], or the fallback. */
static void list_read(kiln_onnx_call *call, const char *name, uint32_t n, int64_t least,
                      int64_t *out)
{
    kiln_ints given;
    if (!kiln_onnx_ints(call, name, &given)) return;
    if (given.n != n)
        kiln_onnx_fail(call, "attr '%s' has %u entries; expected %u", name, given.n, n);
    for (uint32_t i = 0; i < n; i++) {
        if (given.at[i] < least || given.at[i] > WINDOW_MAX)
            kiln_onnx_fail(call, "attr '%s' has %" PRId64 "; expected at least %" PRId64, name,
                           given.at[i], least);
        out[i] = given.at[i];
    }
}

static void auto_pad_read(kiln_onnx_call *call, kiln_onnx_window *window)
{
    const char *mode = kiln_onnx_string(call, "auto_pad", "NOTSET");
    int64_t pads[2 * KILN_MAX_RANK] = {0};
    list_read(call, "pads", 2 * window->n, -WINDOW_MAX, pads);
    if (!strcmp(mode, "SAME_UPPER") || !strcmp(mode, "SAME_LOWER")) {
        window->same = mode[5];
    } else if (!strcmp(mode, "NOTSET") || !*mode) {
        memcpy(window->low, pads, window->n * sizeof *pads);
        memcpy(window->high, pads + window->n, window->n * sizeof *pads);
    } else if (strcmp(mode, "VALID")) {
        kiln_onnx_fail(call,
                       "attr 'auto_pad' is %s; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER",
                       kiln_onnx_quote(&call->scope->arena, mode));
    }
}

void kiln_onnx_window_read(kiln_onnx_call *call, const int64_t *kernel,
                           kiln_onnx_window *out_window)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    memset(out_window, 0, sizeof *out_window);
    uint32_t n = out_window->n = type->rank - 2;
    for (uint32_t i = 0; i < n; i++) {
        out_window->strides[i] = out_window->dilations[i] = 1;
        out_window->kernel[i] = kernel ? kernel[i] : 0;
    }
    list_read(call, "kernel_shape", n, 1, out_window->kernel);
    list_read(call, "strides", n, 1, out_window->strides);
    list_read(call, "dilations", n, 1, out_window->dilations);
    auto_pad_read(call, out_window);
    for (uint32_t i = 0; i < n; i++) {
        if (out_window->kernel[i] < 1 || (kernel && out_window->kernel[i] != kernel[i]))
            kiln_onnx_fail(call, "attr 'kernel_shape' has %" PRId64 "; expected %" PRId64,
                           out_window->kernel[i], kernel ? kernel[i] : 1);
    }
}

void kiln_onnx_window_same(kiln_onnx_call *call, kiln_onnx_window *window)
{
    const int64_t *dims = kiln_onnx_type(call, 0)->dims + 2;
    for (uint32_t i = 0; window->same && i < window->n; i++) {
        int64_t reach = (window->kernel[i] - 1) * window->dilations[i] + 1;
        int64_t out = kiln_ceil_div(dims[i], window->strides[i]);
        int64_t total = kiln_max_i64((out - 1) * window->strides[i] + reach - dims[i], 0);
        window->low[i] = window->same == 'U' ? total / 2 : total - total / 2;
        window->high[i] = total - window->low[i];
    }
}

static void reach_check(kiln_onnx_call *call, const kiln_onnx_window *window)
{
    const int64_t *dims = kiln_onnx_type(call, 0)->dims + 2;
    for (uint32_t i = 0; i < window->n; i++) {
        int64_t reach = (window->kernel[i] - 1) * window->dilations[i] + 1;
        if (dims[i] + window->low[i] + window->high[i] >= reach) continue;
        kiln_onnx_fail(call,
                       "spatial dim %u is %" PRId64 " with pads %" PRId64 " and %" PRId64
                       "; expected at least the kernel's %" PRId64,
                       i, dims[i], window->low[i], window->high[i], reach);
    }
}

kiln_value kiln_onnx_convolution(kiln_onnx_call *call, const kiln_value *operands, int64_t groups,
                                 const kiln_onnx_window *window)
{
    int64_t ones[KILN_MAX_RANK], axes[KILN_MAX_RANK + 2];
    uint32_t n = window->n;
    reach_check(call, window);
    for (uint32_t i = 0; i < n; i++) ones[i] = 1;
    for (uint32_t i = 0; i < n + 2; i++) axes[i] = i;
    kiln_ints order = {n + 2, axes};
    kiln_dtype dtype = kiln_graph_type(call->graph, operands[0])->dtype;
    kiln_attrs attrs = {KILN_FAMILY_conv, .conv = {.strides = {n, window->strides},
                                                   .low = {n, window->low},
                                                   .high = {n, window->high},
                                                   .lhs_dilation = {n, ones},
                                                   .rhs_dilation = {n, window->dilations},
                                                   .groups = groups,
                                                   .input_axes = order,
                                                   .kernel_axes = order,
                                                   .output_axes = order,
                                                   .accumulate = kiln_dtype_accumulator(dtype)}};
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_convolution,
                                                         .inputs = operands,
                                                         .n_inputs = 2,
                                                         .attrs = &attrs});
}

static int64_t groups_read(kiln_onnx_call *call, const kiln_type *input, const kiln_type *kernel)
{
    int64_t groups = kiln_onnx_int(call, "group", 1);
    if (kernel->rank != input->rank || input->rank < 3)
        kiln_onnx_fail(call, "operand of rank %u, weights of rank %u; expected equal ranks from 3",
                       input->rank, kernel->rank);
    if (groups < 1 || input->dims[1] % groups)
        kiln_onnx_fail(call,
                       "attr 'group' is %" PRId64 " for %" PRId64 " channels; expected a divisor",
                       groups, input->dims[1]);
    return groups;
}

static kiln_value bias_add(kiln_onnx_call *call, kiln_value result)
{
    if (!kiln_onnx_has(call, 2)) return result;
    const kiln_type *type = kiln_graph_type(call->graph, result), *bias = kiln_onnx_type(call, 2);
    if (bias->rank != 1 || bias->dims[0] != type->dims[1])
        kiln_onnx_fail(call, "bias has rank %u; expected %" PRId64 " elements", bias->rank,
                       type->dims[1]);
    int64_t axes[1] = {1};
    kiln_value wide =
        kiln_add_broadcast(call->graph, call->inputs[2], type->rank, type->dims, axes);
    return kiln_add_binary(call->graph, KILN_OP_add, result, wide);
}

static kiln_value import_conv(kiln_onnx_call *call)
{
    const kiln_type *input = kiln_onnx_type(call, 0), *kernel = kiln_onnx_type(call, 1);
    int64_t groups = groups_read(call, input, kernel), per_group;
    kiln_onnx_window window;
    if (!kiln_checked_mul(kernel->dims[1], groups, &per_group) || per_group != input->dims[1] ||
        kernel->dims[0] % groups)
        kiln_onnx_fail(call,
                       "weights [%" PRId64 ", %" PRId64 ", …] in %" PRId64
                       " groups; expected %" PRId64 " input channels",
                       kernel->dims[0], kernel->dims[1], groups, input->dims[1]);
    kiln_onnx_window_read(call, kernel->dims + 2, &window);
    kiln_onnx_window_same(call, &window);
    return bias_add(call, kiln_onnx_convolution(call, call->inputs, groups, &window));
}

/* Weights [C, M/g, …] as [M, C/g, …], turned over in the spatial dims. */
static kiln_value kernel_turn(kiln_onnx_call *call, int64_t groups)
{
    const kiln_type *type = kiln_onnx_type(call, 1);
    int64_t split[KILN_MAX_RANK + 1], order[KILN_MAX_RANK + 1], joined[KILN_MAX_RANK],
        axes[KILN_MAX_RANK];
    uint32_t rank = type->rank;
    if (rank == KILN_MAX_RANK) kiln_onnx_refuse(call, "weights of rank %u", rank);
    split[0] = groups;
    split[1] = type->dims[0] / groups;
    split[2] = type->dims[1];
    joined[0] = groups * type->dims[1];
    joined[1] = type->dims[0] / groups;
    for (uint32_t i = 2; i < rank; i++) {
        split[i + 1] = joined[i] = type->dims[i];
        axes[i - 2] = i;
    }
    for (uint32_t i = 0; i < rank + 1; i++) order[i] = i;
    order[1] = 2;
    order[2] = 1;
    kiln_value wide = kiln_add_reshape(call->graph, call->inputs[1], rank + 1, split);
    wide =
        kiln_add_reshape(call->graph, kiln_add_transpose(call->graph, wide, order), rank, joined);
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{rank - 2, axes}}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_reverse, .inputs = &wide, .n_inputs = 1, .attrs = &attrs});
}

/* Pads of the forward convolution turned into those of the transposed one. */
static void pads_turn(kiln_onnx_call *call, kiln_onnx_window *window)
{
    const int64_t *dims = kiln_onnx_type(call, 0)->dims + 2;
    int64_t extra[KILN_MAX_RANK] = {0}, wanted[KILN_MAX_RANK] = {0};
    list_read(call, "output_padding", window->n, 0, extra);
    list_read(call, "output_shape", window->n, 0, wanted);
    bool has_shape = kiln_onnx_has_attribute(call, "output_shape");
    for (uint32_t i = 0; i < window->n; i++) {
        int64_t reach = (window->kernel[i] - 1) * window->dilations[i] + 1;
        if (has_shape || window->same) {
            int64_t out = has_shape ? wanted[i] : dims[i] * window->strides[i];
            int64_t total = window->strides[i] * (dims[i] - 1) + extra[i] + reach - out;
            int64_t cut = kiln_max_i64(total, 0);
            window->low[i] = window->same == 'U' ? cut / 2 : cut - cut / 2;
            window->high[i] = total - window->low[i];
        }
        window->low[i] = reach - 1 - window->low[i];
        window->high[i] = reach - 1 - window->high[i] + extra[i];
    }
}

static kiln_value import_conv_transpose(kiln_onnx_call *call)
{
    const kiln_type *input = kiln_onnx_type(call, 0), *kernel = kiln_onnx_type(call, 1);
    int64_t groups = groups_read(call, input, kernel), ones[KILN_MAX_RANK], axes[KILN_MAX_RANK + 2];
    kiln_onnx_window window;
    if (kernel->dims[0] != input->dims[1])
        kiln_onnx_fail(call, "weights for %" PRId64 " channels; expected %" PRId64, kernel->dims[0],
                       input->dims[1]);
    kiln_onnx_window_read(call, kernel->dims + 2, &window);
    pads_turn(call, &window);
    for (uint32_t i = 0; i < window.n; i++) ones[i] = 1;
    for (uint32_t i = 0; i < window.n + 2; i++) axes[i] = i;
    kiln_ints order = {window.n + 2, axes};
    kiln_attrs attrs = {KILN_FAMILY_conv,
                        .conv = {.strides = {window.n, ones},
                                 .low = {window.n, window.low},
                                 .high = {window.n, window.high},
                                 .lhs_dilation = {window.n, window.strides},
                                 .rhs_dilation = {window.n, window.dilations},
                                 .groups = groups,
                                 .input_axes = order,
                                 .kernel_axes = order,
                                 .output_axes = order,
                                 .accumulate = kiln_dtype_accumulator(input->dtype)}};
    kiln_value operands[] = {call->inputs[0], kernel_turn(call, groups)};
    kiln_value result = kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_convolution,
                                                                      .inputs = operands,
                                                                      .n_inputs = 2,
                                                                      .attrs = &attrs});
    return bias_add(call, result);
}

const kiln_onnx_row kiln_onnx_conv_rows[] = {
    {"Conv", 6, KILN_ONNX_NEWEST, 2, 3, import_conv},
    {"ConvTranspose", 6, KILN_ONNX_NEWEST, 2, 3, import_conv_transpose},
    {0},
};
