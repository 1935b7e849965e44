/* Cases along one axis: argsort, sort, take_along and the cumulative ops, with ties, NaN and zeros
 * of both signs, rows of every awkward length. */
#include "ops/cases.h"

static void add_orders(op_batch *batch, uint32_t rank, const int64_t *dims, int64_t axis)
{
    kiln_value a = op_input(batch, batch->dtype, rank, dims, OP_VALUES_ANY);
    kiln_value ties = op_input(batch, batch->dtype, rank, dims, OP_VALUES_SMALL);
    for (int down = 0; down < 2; down++) {
        kiln_attrs sort = {KILN_FAMILY_sort, .sort = {axis, down}};
        op_case(batch, op_node(batch, KILN_OP_argsort, 1, &a, &sort), down ? "down" : "up", NULL);
        op_case(batch, op_node(batch, KILN_OP_argsort, 1, &ties, &sort), "with ties", NULL);
    }
    kiln_attrs up = {KILN_FAMILY_sort, .sort = {axis, false}};
    op_case(batch, op_node(batch, KILN_OP_sort, 1, &a, &up), "", NULL);
    kiln_attrs along = {KILN_FAMILY_axis, .axis = {axis}};
    kiln_value index = op_input(batch, KILN_i32, rank, dims, OP_VALUES_SMALL);
    op_case(batch, op_node(batch, KILN_OP_take_along, 2, (kiln_value[]){a, index}, &along), "",
            NULL);
}

static void add_cumulative(op_batch *batch, uint32_t rank, const int64_t *dims, int64_t axis)
{
    static const kiln_op ops[] = {KILN_OP_cumulative_sum, KILN_OP_cumulative_prod,
                                  KILN_OP_cumulative_max, KILN_OP_cumulative_min};
    static const char *const variants[] = {"", "exclusive", "reverse", "exclusive reverse"};
    for (int i = 0; i < 16; i++) {
        kiln_op op = ops[i / 4];
        op_values values = op == KILN_OP_cumulative_sum    ? OP_VALUES_SMALL
                           : op == KILN_OP_cumulative_prod ? OP_VALUES_UNIT
                                                           : OP_VALUES_ANY;
        kiln_value a = op_input(batch, batch->dtype, rank, dims, values);
        kiln_attrs attrs = {KILN_FAMILY_cumulative, .cumulative = {axis, i & 1, (i & 2) != 0}};
        op_case(batch, op_node(batch, op, 1, &a, &attrs), variants[i % 4], NULL);
    }
}

void op_cases_order(op_batch *batch)
{
    add_orders(batch, OP_DIMS(3, 100), 1);
    if (batch->dtype == KILN_f32) add_orders(batch, OP_DIMS(1, 3000), 1);
    if (batch->dtype == KILN_f32) add_orders(batch, OP_DIMS(2, 170), 1);
    add_orders(batch, OP_DIMS(2, 33, 5), 1);
    add_orders(batch, OP_DIMS(1, 5), 0);
    add_orders(batch, OP_DIMS(3, 0), 1);
    if (batch->dtype == KILN_bool) return;
    add_cumulative(batch, OP_DIMS(3, 37), 1);
    add_cumulative(batch, OP_DIMS(3, 9, 21), 1);
    if (batch->dtype == KILN_f32) add_cumulative(batch, OP_DIMS(5), 0);
    add_cumulative(batch, OP_DIMS(0, 3), 0);
    add_cumulative(batch, OP_DIMS(4, 1), 1);
}
