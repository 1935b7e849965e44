/* Cases of row bands: chains of convolutions, some with a pool at the end, that the schedule makes
 * one group of (tests/golden/schedule/bands.kiln holds what it chooses). No references: compiled
 * code is compared with the evaluator. */
#include "ops/cases.h"

#define NHWC OP_INTS(0, 3, 1, 2)

typedef struct layer {
    int64_t features; /* of the result; 0: as many as before, each for itself */
    int64_t size[2], stride[2], low[2], high[2], dilation[2];
} layer;

#define POINTWISE(n)                                                                               \
    {                                                                                              \
        n, {1, 1}, {1, 1}, {0, 0}, {0, 0},                                                         \
        {                                                                                          \
            1, 1                                                                                   \
        }                                                                                          \
    }

static kiln_value small(op_batch *batch, uint32_t rank, const int64_t *dims)
{
    return op_input(batch, batch->dtype, rank, dims, OP_VALUES_SMALL);
}

static kiln_ints pair(const int64_t *two)
{
    return (kiln_ints){2, two};
}

static kiln_value add_layer(op_batch *batch, kiln_value x, const layer *l)
{
    int64_t before = op_type(batch, x)->dims[3], groups = l->features ? 1 : before;
    int64_t after = l->features ? l->features : before;
    kiln_value w = small(batch, OP_DIMS(l->size[0], l->size[1], before / groups, after));
    kiln_attrs attrs = {.family = KILN_FAMILY_conv,
                        .conv = {pair(l->stride), pair(l->low), pair(l->high), OP_INTS(1, 1),
                                 pair(l->dilation), groups, NHWC, OP_INTS(3, 2, 0, 1), NHWC}};
    attrs.conv.accumulate = batch->dtype;
    return op_node(batch, KILN_OP_convolution, 2, (kiln_value[]){x, w}, &attrs);
}

static kiln_value relu(op_batch *batch, kiln_value x)
{
    return op_node(batch, KILN_OP_relu, 1, &x, NULL);
}

static kiln_value add_pool(op_batch *batch, kiln_value x, kiln_op op, const layer *l)
{
    const int64_t *p = l->low, *q = l->high;
    kiln_attrs attrs = {.family = KILN_FAMILY_window};
    attrs.window.sizes = OP_INTS(1, l->size[0], l->size[1], 1);
    attrs.window.strides = OP_INTS(1, l->stride[0], l->stride[1], 1);
    attrs.window.low = OP_INTS(0, p[0], p[1], 0);
    attrs.window.high = OP_INTS(0, q[0], q[1], 0);
    attrs.window.dilations = OP_INTS(1, l->dilation[0], l->dilation[1], 1);
    return op_node(batch, op, 1, &x, &attrs);
}

/* Expand, one filter a feature, project; the residual where the shapes agree. */
static void add_inverted(op_batch *batch, kiln_value x, int64_t expanded, const layer *depthwise,
                         const char *variant)
{
    int64_t features = op_type(batch, x)->dims[3];
    kiln_value y = relu(batch, add_layer(batch, x, &(layer)POINTWISE(expanded)));
    y = relu(batch, add_layer(batch, y, depthwise));
    y = add_layer(batch, y, &(layer)POINTWISE(features));
    bool is_same = op_type(batch, y)->n_elements == op_type(batch, x)->n_elements;
    if (is_same) y = op_node(batch, KILN_OP_add, 2, (kiln_value[]){y, x}, NULL);
    op_case(batch, y, variant, NULL);
}

static void add_inverted_blocks(op_batch *batch)
{
    static const struct {
        const char *name;
        int64_t image[4], expanded;
        layer depthwise;
    } rows[] = {
        {"3x3", {1, 9, 13, 8}, 40, {0, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}},
        {"stride 2", {2, 11, 10, 5}, 19, {0, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}}},
        {"stride 2, even", {1, 8, 8, 16}, 32, {0, {3, 3}, {2, 2}, {0, 0}, {1, 1}, {1, 1}}},
        {"5x5", {1, 7, 21, 3}, 17, {0, {5, 5}, {1, 1}, {2, 2}, {2, 2}, {1, 1}}},
        {"dilated", {1, 12, 9, 4}, 16, {0, {3, 3}, {1, 1}, {2, 2}, {2, 2}, {2, 2}}},
        {"stride above the size", {1, 13, 9, 4}, 16, {0, {1, 1}, {3, 3}, {0, 0}, {0, 0}, {1, 1}}},
        {"uneven", {3, 6, 5, 18}, 35, {0, {4, 2}, {1, 2}, {3, 0}, {1, 1}, {1, 1}}},
        {"tall", {1, 40, 1, 2}, 33, {0, {7, 1}, {1, 1}, {3, 0}, {3, 0}, {1, 1}}},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++)
        add_inverted(batch, small(batch, 4, rows[i].image), rows[i].expanded, &rows[i].depthwise,
                     rows[i].name);
}

static void add_pooled(op_batch *batch)
{
    static const struct {
        const char *name;
        int64_t image[4];
        kiln_op op;
        layer conv, pool;
    } rows[] = {
        {"stem, max",
         {1, 21, 18, 3},
         KILN_OP_window_max,
         {16, {7, 7}, {2, 2}, {3, 3}, {3, 3}, {1, 1}},
         {0, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}}},
        {"max 2x2",
         {2, 9, 8, 3},
         KILN_OP_window_max,
         {20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
         {0, {2, 2}, {2, 2}, {0, 0}, {0, 0}, {1, 1}}},
        {"sum",
         {1, 10, 7, 4},
         KILN_OP_window_sum,
         {9, {2, 3}, {1, 1}, {0, 1}, {0, 1}, {1, 1}},
         {0, {3, 2}, {1, 2}, {2, 0}, {0, 1}, {2, 1}}},
        {"whole",
         {1, 8, 6, 4},
         KILN_OP_window_sum,
         {24, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
         {0, {8, 6}, {1, 1}, {0, 0}, {0, 0}, {1, 1}}},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_value x = small(batch, 4, rows[i].image);
        kiln_value y = relu(batch, add_layer(batch, x, &rows[i].conv));
        op_case(batch, add_pool(batch, y, rows[i].op, &rows[i].pool), rows[i].name, NULL);
    }
}

/* More members: two blocks in a row after a strided convolution, then a pool. */
static void add_long_chain(op_batch *batch)
{
    static const layer layers[] = {{12, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
                                   {0, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
                                   POINTWISE(7),
                                   POINTWISE(33),
                                   {0, {3, 3}, {2, 1}, {1, 1}, {0, 1}, {1, 1}},
                                   POINTWISE(10)};
    static const layer pool = {0, {2, 3}, {1, 2}, {0, 1}, {1, 0}, {1, 1}};
    kiln_value x = small(batch, OP_DIMS(2, 19, 23, 3));
    for (uint32_t i = 0; i < sizeof layers / sizeof *layers; i++)
        x = relu(batch, add_layer(batch, x, &layers[i]));
    op_case(batch, add_pool(batch, x, KILN_OP_window_max, &pool), "seven", NULL);
}

void op_cases_band(op_batch *batch)
{
    if (batch->dtype != KILN_f32 && batch->dtype != KILN_f64) return;
    add_inverted_blocks(batch);
    add_pooled(batch);
    add_long_chain(batch);
}
