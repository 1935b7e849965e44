/* Pooling. Windows that stand partly in the padding: a maximum ignores it, an average divides by
 * the elements that count. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

typedef struct pool_plan {
    kiln_onnx_window window;
    int64_t out[KILN_MAX_RANK];  /* spatial dims of the result */
    int64_t high[KILN_MAX_RANK]; /* pads as given; window.high is stretched to the last window */
} pool_plan;

/* ceil_mode adds a window that starts inside the operand or its low padding. */
static void plan_make(kiln_onnx_call *call, pool_plan *plan)
{
    kiln_onnx_window *window = &plan->window;
    kiln_onnx_window_read(call, NULL, window);
    kiln_onnx_window_same(call, window);
    bool is_ceil = kiln_onnx_flag(call, "ceil_mode", false);
    const int64_t *dims = kiln_onnx_type(call, 0)->dims + 2;
    for (uint32_t i = 0; i < window->n; i++) {
        int64_t reach = (window->kernel[i] - 1) * window->dilations[i] + 1,
                stride = window->strides[i];
        int64_t room = dims[i] + window->low[i] + window->high[i] - reach;
        if (room < 0 || window->low[i] < 0 || window->high[i] < 0)
            kiln_onnx_fail(call,
                           "spatial dim %u is %" PRId64 " with pads %" PRId64 " and %" PRId64
                           "; expected pads of 0 or more and room for a window of %" PRId64,
                           i, dims[i], window->low[i], window->high[i], reach);
        plan->high[i] = window->high[i];
        plan->out[i] = room / stride + 1;
        if (is_ceil && !window->same && room % stride &&
            plan->out[i] * stride < dims[i] + window->low[i])
            plan->out[i]++;
        window->high[i] = (plan->out[i] - 1) * stride + reach - dims[i] - window->low[i];
    }
}

static kiln_value windowed(kiln_onnx_call *call, kiln_op op, kiln_value a,
                           const kiln_onnx_window *window)
{
    uint32_t rank = window->n + 2;
    int64_t list[5][KILN_MAX_RANK];
    const int64_t *const sources[5] = {window->kernel, window->strides, window->low, window->high,
                                       window->dilations};
    for (uint32_t k = 0; k < 5; k++) {
        list[k][0] = list[k][1] = k != 2 && k != 3;
        memcpy(list[k] + 2, sources[k], window->n * sizeof(int64_t));
    }
    kiln_attrs attrs = {
        KILN_FAMILY_window,
        .window = {
            {rank, list[0]}, {rank, list[1]}, {rank, list[2]}, {rank, list[3]}, {rank, list[4]}}};
    return kiln_graph_add(
        call->graph, &(kiln_node_spec){.op = op, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

static kiln_value import_max_pool(kiln_onnx_call *call)
{
    pool_plan plan;
    plan_make(call, &plan);
    bool is_column = kiln_onnx_flag(call, "storage_order", false);
    if (kiln_onnx_wants(call, 1))
        kiln_onnx_result(call, 1, kiln_onnx_max_places(call, &plan.window, plan.out, is_column));
    return windowed(call, KILN_OP_window_max, kiln_onnx_operand(call, 0), &plan.window);
}

/* How many elements of window `at` along axis i count. */
static int64_t count_at(const pool_plan *plan, int64_t dim, uint32_t i, int64_t at,
                        bool is_pad_counted)
{
    const kiln_onnx_window *window = &plan->window;
    int64_t low = is_pad_counted ? -window->low[i] : 0,
            high = dim + (is_pad_counted ? plan->high[i] : 0), n = 0;
    for (int64_t k = 0; k < window->kernel[i]; k++) {
        int64_t place = at * window->strides[i] - window->low[i] + k * window->dilations[i];
        n += place >= low && place < high;
    }
    return n;
}

/* 1 / counts along one axis as a vector that stands on that axis; id 0 when all are full windows.
 */
static kiln_value counts_along(kiln_onnx_call *call, const pool_plan *plan, uint32_t i,
                               bool is_pad_counted)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    bool is_full = true;
    if (plan->out[i] > 1 << 24 || plan->window.kernel[i] > 1 << 24)
        kiln_onnx_refuse(call, "windows of %" PRId64, plan->window.kernel[i]);
    int64_t *counts = kiln_new_array(&call->scope->arena, int64_t, plan->out[i] + 1);
    for (int64_t at = 0; at < plan->out[i]; at++) {
        counts[at] = kiln_max_i64(count_at(plan, type->dims[i + 2], i, at, is_pad_counted), 1);
        is_full = is_full && counts[at] == plan->window.kernel[i];
    }
    if (is_full) return (kiln_value){0};
    kiln_value vector =
        kiln_onnx_constant_ints(call, type->dtype, (kiln_ints){(uint32_t)plan->out[i], counts});
    return kiln_onnx_along(call, vector, i + 2, type->rank);
}

static kiln_value import_average_pool(kiln_onnx_call *call)
{
    pool_plan plan;
    plan_make(call, &plan);
    bool is_pad_counted = kiln_onnx_flag(call, "count_include_pad", false);
    kiln_value sum = windowed(call, KILN_OP_window_sum, kiln_onnx_operand(call, 0), &plan.window),
               counts = {0};
    double full = 1;
    for (uint32_t i = 0; i < plan.window.n; i++) {
        kiln_value along = counts_along(call, &plan, i, is_pad_counted);
        if (!along.id) {
            full *= (double)plan.window.kernel[i];
        } else {
            counts = counts.id ? kiln_onnx_binary(call, KILN_OP_mul, counts, along) : along;
        }
    }
    if (!counts.id) return kiln_onnx_with(call, KILN_OP_div, sum, full);
    if (full != 1) counts = kiln_onnx_with(call, KILN_OP_mul, counts, full);
    return kiln_onnx_binary(call, KILN_OP_div, sum, counts);
}

static kiln_value power(kiln_onnx_call *call, kiln_value a, double p)
{
    if (p == 1) return a;
    if (p == 2) return kiln_add_unary(call->graph, KILN_OP_square, a);
    return p == 0.5 ? kiln_add_unary(call->graph, KILN_OP_sqrt, a)
                    : kiln_onnx_with(call, KILN_OP_pow, a, p);
}

static int64_t norm_read(kiln_onnx_call *call)
{
    int64_t p = kiln_onnx_int(call, "p", 2);
    if (p < 1) kiln_onnx_fail(call, "attr 'p' is %" PRId64 "; expected 1 or more", p);
    return p;
}

static kiln_value import_lp_pool(kiln_onnx_call *call)
{
    pool_plan plan;
    plan_make(call, &plan);
    double p = (double)norm_read(call);
    kiln_value each =
        power(call, kiln_add_unary(call->graph, KILN_OP_abs, kiln_onnx_operand(call, 0)), p);
    return power(call, windowed(call, KILN_OP_window_sum, each, &plan.window), 1 / p);
}

/* Reduces all spatial dims and keeps them as ones. */
static kiln_value global(kiln_onnx_call *call, kiln_op op, kiln_value a)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    int64_t axes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = i < 2 ? type->dims[i] : 1;
        if (i >= 2) axes[i - 2] = i;
    }
    return kiln_add_reshape(call->graph, kiln_add_reduce(call->graph, op, a, type->rank - 2, axes),
                            type->rank, dims);
}

static kiln_value import_global(kiln_onnx_call *call)
{
    return global(call, call->row->kiln, kiln_onnx_operand(call, 0));
}

static kiln_value import_global_lp(kiln_onnx_call *call)
{
    double p = (double)norm_read(call);
    kiln_value each =
        power(call, kiln_add_unary(call->graph, KILN_OP_abs, kiln_onnx_operand(call, 0)), p);
    return power(call, global(call, KILN_OP_reduce_sum, each), 1 / p);
}

const kiln_onnx_row kiln_onnx_pool_rows[] = {
    {"MaxPool", 6, KILN_ONNX_NEWEST, 1, 1, import_max_pool},
    {"AveragePool", 6, KILN_ONNX_NEWEST, 1, 1, import_average_pool},
    {"LpPool", 6, KILN_ONNX_NEWEST, 1, 1, import_lp_pool},
    {"GlobalAveragePool", 6, KILN_ONNX_NEWEST, 1, 1, import_global, KILN_OP_mean},
    {"GlobalMaxPool", 6, KILN_ONNX_NEWEST, 1, 1, import_global, KILN_OP_reduce_max},
    {"GlobalLpPool", 6, KILN_ONNX_NEWEST, 1, 1, import_global_lp},
    {0},
};
