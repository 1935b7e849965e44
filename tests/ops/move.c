/* Cases of views and moves. References map each result index to the operand element it must hold;
 * elements are compared bit by bit, so every value is the special ones first. */
#include <math.h>
#include <string.h>

#include "ops/cases.h"

static void unravel(uint32_t rank, const int64_t *dims, int64_t linear, int64_t *out)
{
    for (uint32_t i = rank; i-- > 0;) {
        out[i] = linear % dims[i];
        linear /= dims[i];
    }
}

static int64_t ravel(const kiln_type *type, const int64_t *at)
{
    int64_t linear = 0;
    for (uint32_t i = 0; i < type->rank; i++) linear = linear * type->dims[i] + at[i];
    return linear;
}

static int64_t clamp_index(long double index, int64_t top)
{
    return index < 0 ? 0 : index > (long double)top ? top : (int64_t)index;
}

/* Which operand and which of its elements a result index holds. */
typedef struct source {
    uint32_t operand;
    int64_t linear;
} source;

static source view_source(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    const kiln_type *from = op_type(batch, node->inputs[0]);
    int64_t in[KILN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < from->rank; i++) {
        if (node->op == KILN_OP_broadcast) {
            in[i] = from->dims[i] == 1 ? 0 : at[node->attrs->axes.axes.at[i]];
        } else if (node->op == KILN_OP_transpose) {
            in[node->attrs->permutation.permutation.at[i]] = at[i];
        } else if (node->op == KILN_OP_slice) {
            in[i] = node->attrs->slice.starts.at[i] + at[i] * node->attrs->slice.strides.at[i];
        } else {
            in[i] = at[i];
        }
    }
    for (uint32_t i = 0; node->op == KILN_OP_reverse && i < node->attrs->axes.axes.n; i++) {
        int64_t axis = node->attrs->axes.axes.at[i];
        in[axis] = from->dims[axis] - 1 - at[axis];
    }
    if (node->op == KILN_OP_reshape) return (source){0, ravel(node->type, at)};
    return (source){0, ravel(from, in)};
}

static source pad_source(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    const kiln_type *from = op_type(batch, node->inputs[0]);
    int64_t in[KILN_MAX_RANK];
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t step = node->attrs->pad.interior.at[i] + 1,
                shifted = at[i] - node->attrs->pad.low.at[i];
        if (shifted < 0 || shifted % step || shifted / step >= from->dims[i]) return (source){1, 0};
        in[i] = shifted / step;
    }
    return (source){0, ravel(from, in)};
}

static source concat_source(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    int64_t axis = node->attrs->axis.axis, in[KILN_MAX_RANK];
    memcpy(in, at, sizeof in);
    uint32_t operand = 0;
    for (; in[axis] >= op_type(batch, node->inputs[operand])->dims[axis]; operand++) {
        in[axis] -= op_type(batch, node->inputs[operand])->dims[axis];
    }
    return (source){operand, ravel(op_type(batch, node->inputs[operand]), in)};
}

static source take_source(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    const kiln_type *from = op_type(batch, node->inputs[0]),
                    *indices = op_type(batch, node->inputs[1]);
    int64_t axis = node->attrs->axis.axis, in[KILN_MAX_RANK];
    long double index = op_element(batch, node->inputs[1], ravel(indices, at + axis));
    for (uint32_t i = 0; i < from->rank; i++) {
        in[i] = (int64_t)i < axis ? at[i] : at[i + indices->rank - 1];
    }
    in[axis] = clamp_index(index, from->dims[axis] - 1);
    return (source){0, ravel(from, in)};
}

static source block_source(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    bool is_update = node->op == KILN_OP_dynamic_update;
    const kiln_type *whole = op_type(batch, node->inputs[0]);
    const kiln_type *part = is_update ? op_type(batch, node->inputs[1]) : node->type;
    int64_t in[KILN_MAX_RANK];
    bool is_inside = true;
    for (uint32_t i = 0; i < whole->rank; i++) {
        long double start = op_element(batch, node->inputs[is_update ? 2 : 1], i);
        int64_t first = clamp_index(start, whole->dims[i] - part->dims[i]);
        in[i] = is_update ? at[i] - first : at[i] + first;
        is_inside &= in[i] >= 0 && in[i] < part->dims[i];
    }
    if (!is_update) return (source){0, ravel(whole, in)};
    return is_inside ? (source){1, ravel(part, in)} : (source){0, ravel(whole, at)};
}

static source source_of(const op_batch *batch, const kiln_node *node, const int64_t *at)
{
    switch ((int)node->op) {
    case KILN_OP_pad:
        return pad_source(batch, node, at);
    case KILN_OP_concat:
        return concat_source(batch, node, at);
    case KILN_OP_take:
        return take_source(batch, node, at);
    case KILN_OP_dynamic_slice:
    case KILN_OP_dynamic_update:
        return block_source(batch, node, at);
    default:
        return view_source(batch, node, at);
    }
}

static void add_moved(op_batch *batch, kiln_value value, const char *variant)
{
    const kiln_node *node = kiln_graph_node(batch->graph, value);
    op_reference reference = op_reference_new(batch, node->type->n_elements, 0);
    for (int64_t i = 0; i < node->type->n_elements; i++) {
        int64_t at[2 * KILN_MAX_RANK] = {0};
        unravel(node->type->rank, node->type->dims, i, at);
        source from = source_of(batch, node, at);
        reference.expected[i] = op_element(batch, node->inputs[from.operand], from.linear);
    }
    op_case(batch, value, variant, &reference);
}

static kiln_value any_input(op_batch *batch, uint32_t rank, const int64_t *dims)
{
    return op_input(batch, batch->dtype, rank, dims, OP_VALUES_ANY);
}

static void add_broadcasts(op_batch *batch)
{
    static const struct {
        uint32_t from_rank, rank;
        int64_t from[3], dims[3], axes[3];
    } rows[] = {
        {0, 1, {0}, {17}, {0}},
        {1, 2, {5}, {3, 5}, {1}},
        {1, 2, {3}, {3, 9}, {0}},
        {2, 2, {3, 1}, {3, 33}, {0, 1}},
        {2, 3, {7, 1}, {2, 7, 8}, {1, 2}},
        {1, 1, {1}, {0}, {0}},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_value x = any_input(batch, rows[i].from_rank, rows[i].from);
        add_moved(batch,
                  kiln_add_broadcast(batch->graph, x, rows[i].rank, rows[i].dims, rows[i].axes),
                  "");
    }
}

static kiln_value permuted(op_batch *batch, kiln_value x, kiln_ints permutation)
{
    kiln_attrs attrs = {KILN_FAMILY_permutation, .permutation = {permutation}};
    return op_node(batch, KILN_OP_transpose, 1, &x, &attrs);
}

static kiln_value sliced(op_batch *batch, kiln_value x, kiln_ints starts, kiln_ints limits,
                         kiln_ints strides)
{
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {starts, limits, strides}};
    return op_node(batch, KILN_OP_slice, 1, &x, &attrs);
}

static kiln_value reversed(op_batch *batch, kiln_value x, kiln_ints axes)
{
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {axes}};
    return op_node(batch, KILN_OP_reverse, 1, &x, &attrs);
}

void op_cases_view(op_batch *batch)
{
    add_broadcasts(batch);
    kiln_value x = any_input(batch, OP_DIMS(3, 4, 5)), m = any_input(batch, OP_DIMS(17, 33));
    kiln_value e = any_input(batch, OP_DIMS(2, 0, 3)), q = any_input(batch, OP_DIMS(2, 3, 4, 9));
    add_moved(batch, kiln_add_reshape(batch->graph, x, OP_DIMS(12, 5)), "");
    add_moved(batch, kiln_add_reshape(batch->graph, x, OP_DIMS(60)), "");
    add_moved(batch, kiln_add_reshape(batch->graph, e, OP_DIMS(0, 7)), "");
    add_moved(batch, permuted(batch, x, OP_INTS(2, 0, 1)), "[2,0,1]");
    add_moved(batch, permuted(batch, m, OP_INTS(1, 0)), "[1,0]");
    add_moved(batch, permuted(batch, q, OP_INTS(0, 2, 1, 3)), "[0,2,1,3]");
    add_moved(batch, permuted(batch, q, OP_INTS(0, 3, 1, 2)), "[0,3,1,2]");
    add_moved(batch, permuted(batch, e, OP_INTS(1, 2, 0)), "[1,2,0]");
    add_moved(batch, sliced(batch, m, OP_INTS(3, 1), OP_INTS(16, 33), OP_INTS(1, 1)), "");
    add_moved(batch, sliced(batch, m, OP_INTS(0, 2), OP_INTS(17, 32), OP_INTS(4, 3)), "strided");
    add_moved(batch, sliced(batch, x, OP_INTS(1, 4, 0), OP_INTS(2, 4, 5), OP_INTS(1, 1, 1)),
              "empty");
    add_moved(batch, reversed(batch, m, OP_INTS(1)), "[1]");
    add_moved(batch, reversed(batch, m, OP_INTS(0)), "[0]");
    add_moved(batch, reversed(batch, x, OP_INTS(0, 2)), "[0,2]");
    add_moved(batch, reversed(batch, e, OP_INTS(0, 1)), "[0,1]");
}

static void add_pads(op_batch *batch)
{
    kiln_value fill = op_input(batch, batch->dtype, 0, NULL, OP_VALUES_SMALL);
    kiln_value x = any_input(batch, OP_DIMS(7, 9)), e = any_input(batch, OP_DIMS(0, 3));
    const kiln_attrs rows[] = {
        {KILN_FAMILY_pad, .pad = {OP_INTS(1, 0), OP_INTS(0, 7), OP_INTS(0, 0)}},
        {KILN_FAMILY_pad, .pad = {OP_INTS(-2, 3), OP_INTS(1, -5), OP_INTS(0, 0)}},
        {KILN_FAMILY_pad, .pad = {OP_INTS(0, 2), OP_INTS(2, 0), OP_INTS(1, 2)}},
        {KILN_FAMILY_pad, .pad = {OP_INTS(-3, -1), OP_INTS(-1, -2), OP_INTS(2, 1)}},
        {KILN_FAMILY_pad, .pad = {OP_INTS(2, 0), OP_INTS(1, 0), OP_INTS(3, 0)}},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        kiln_value pair[] = {i == 4 ? e : x, fill};
        add_moved(batch, op_node(batch, KILN_OP_pad, 2, pair, &rows[i]), "");
    }
}

static void add_takes(op_batch *batch)
{
    kiln_value x = any_input(batch, OP_DIMS(5, 7, 3));
    static const kiln_dtype dtypes[] = {KILN_i64, KILN_i32, KILN_u8};
    for (int64_t axis = 0; axis < 3; axis++) {
        kiln_value indices = axis == 1
                                 ? op_input(batch, dtypes[axis], OP_DIMS(2, 9), OP_VALUES_SMALL)
                                 : op_input(batch, dtypes[axis], OP_DIMS(17), OP_VALUES_ANY);
        kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
        add_moved(batch, op_node(batch, KILN_OP_take, 2, (kiln_value[]){x, indices}, &attrs), "");
    }
    kiln_value one = op_input(batch, KILN_i64, 0, NULL, OP_VALUES_SMALL);
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {1}};
    add_moved(batch, op_node(batch, KILN_OP_take, 2, (kiln_value[]){x, one}, &attrs), "scalar");
}

void op_cases_move(op_batch *batch)
{
    add_pads(batch);
    add_takes(batch);
    kiln_value x = any_input(batch, OP_DIMS(3, 9)), y = any_input(batch, OP_DIMS(3, 8));
    kiln_value z = any_input(batch, OP_DIMS(3, 0)), w = any_input(batch, OP_DIMS(2, 9));
    kiln_attrs last = {KILN_FAMILY_axis, .axis = {1}}, first = {KILN_FAMILY_axis, .axis = {0}};
    add_moved(batch, op_node(batch, KILN_OP_concat, 4, (kiln_value[]){x, z, y, x}, &last),
              "axis 1");
    add_moved(batch, op_node(batch, KILN_OP_concat, 2, (kiln_value[]){x, w}, &first), "axis 0");
    add_moved(batch, op_node(batch, KILN_OP_concat, 1, (kiln_value[]){w}, &first), "one");
    for (int i = 0; i < 3; i++) {
        kiln_value start =
            op_input(batch, KILN_i64, OP_DIMS(2), i ? OP_VALUES_SMALL : OP_VALUES_UNIT);
        kiln_attrs sizes = {KILN_FAMILY_sizes, .sizes = {OP_INTS(2, 5)}};
        add_moved(batch, op_node(batch, KILN_OP_dynamic_slice, 2, (kiln_value[]){x, start}, &sizes),
                  "");
        kiln_value block = any_input(batch, OP_DIMS(2, 4));
        add_moved(batch,
                  op_node(batch, KILN_OP_dynamic_update, 3, (kiln_value[]){x, block, start}, NULL),
                  "");
    }
    if (batch->dtype == KILN_bool) return;
    for (int64_t axis = 0; axis < 2; axis++) {
        kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
        const kiln_type *type = kiln_graph_tensor(batch->graph, batch->dtype, OP_DIMS(9, 17));
        kiln_value iota = op_node_given(batch, KILN_OP_iota, type, (kiln_value){0}, &attrs);
        op_reference reference = op_reference_new(batch, type->n_elements, 0);
        for (int64_t i = 0; i < type->n_elements; i++)
            reference.expected[i] = axis ? i % 17 : i / 17;
        op_case(batch, iota, axis ? "axis 1" : "axis 0", &reference);
    }
}
