/* Cases of gather and the scatters: window, inserted and batch axes, starts beyond both ends,
 * duplicates, empty and single elements, every kind of indices. Compiled code is compared with the
 * evaluator, whose own test has the examples of StableHLO's specification. */
#include "ops/cases.h"

static kiln_value any_input(op_batch *batch, uint32_t rank, const int64_t *dims)
{
    return op_input(batch, batch->dtype, rank, dims, OP_VALUES_ANY);
}

static kiln_value index_input(op_batch *batch, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    return op_input(batch, dtype, rank, dims, OP_VALUES_SMALL);
}

#define NO_INTS ((kiln_ints){0})

static void add_gather(op_batch *batch, kiln_value a, kiln_value at, const kiln_attrs *attrs,
                       const char *variant)
{
    op_case(batch, op_node(batch, KILN_OP_gather, 2, (kiln_value[]){a, at}, attrs), variant, NULL);
}

void op_cases_gather(op_batch *batch)
{
    kiln_value a = any_input(batch, OP_DIMS(5, 7, 18));
    kiln_attrs rows = {KILN_FAMILY_gather, .gather = {OP_INTS(1), OP_INTS(0, 1), NO_INTS, NO_INTS,
                                                      OP_INTS(1, 0), 1, OP_INTS(1, 1, 18)}};
    add_gather(batch, a, index_input(batch, KILN_i64, OP_DIMS(11, 2)), &rows, "rows");
    kiln_attrs blocks = {KILN_FAMILY_gather, .gather = {OP_INTS(0, 2, 3), NO_INTS, NO_INTS, NO_INTS,
                                                        OP_INTS(0, 2), 0, OP_INTS(2, 7, 3)}};
    add_gather(batch, a, index_input(batch, KILN_i32, OP_DIMS(2, 9)), &blocks, "blocks");
    kiln_attrs points = {KILN_FAMILY_gather, .gather = {NO_INTS, OP_INTS(0, 1, 2), NO_INTS, NO_INTS,
                                                        OP_INTS(2, 0, 1), 2, OP_INTS(1, 1, 1)}};
    add_gather(batch, a, index_input(batch, KILN_i8, OP_DIMS(4, 5, 3)), &points, "points");
    kiln_attrs along = {KILN_FAMILY_gather,
                        .gather = {NO_INTS, OP_INTS(2), OP_INTS(0, 1), OP_INTS(0, 1), OP_INTS(2), 3,
                                   OP_INTS(1, 1, 1)}};
    add_gather(batch, a, index_input(batch, KILN_i64, OP_DIMS(5, 7, 20)), &along, "along");
    add_gather(batch, a, index_input(batch, KILN_u64, OP_DIMS(5, 7, 0)), &along, "empty");
    kiln_attrs batched = {KILN_FAMILY_gather,
                          .gather = {OP_INTS(1, 3), NO_INTS, OP_INTS(1), OP_INTS(1), OP_INTS(2, 0),
                                     2, OP_INTS(3, 1, 4)}};
    add_gather(batch, a, index_input(batch, KILN_u8, OP_DIMS(3, 7, 2)), &batched, "batched");
    kiln_attrs whole = {KILN_FAMILY_gather, .gather = {OP_INTS(0, 1), NO_INTS, NO_INTS, NO_INTS,
                                                       NO_INTS, 0, OP_INTS(1, 1)}};
    add_gather(batch, any_input(batch, OP_DIMS(1, 1)), index_input(batch, KILN_i64, OP_DIMS(0)),
               &whole, "of one element");
}

typedef struct scatter_case {
    const char *variant;
    kiln_dtype dtype; /* of the indices */
    kiln_ints dims, indices, updates;
    kiln_ints window, inserted, operand_batch, indices_batch, map;
    int64_t axis;
} scatter_case;

static void add_scatter(op_batch *batch, kiln_op op, const scatter_case *c)
{
    kiln_value inputs[3];
    /* sums that cannot cancel to nothing but rounding: every step is the evaluator's */
    op_values values = op == KILN_OP_scatter_mul ? OP_VALUES_UNIT : OP_VALUES_SMALL;
    if (op != KILN_OP_scatter_add && op != KILN_OP_scatter_mul) values = OP_VALUES_ANY;
    inputs[0] = op_input(batch, batch->dtype, c->dims.n, c->dims.at, values);
    inputs[1] = index_input(batch, c->dtype, c->indices.n, c->indices.at);
    inputs[2] = op_input(batch, batch->dtype, c->updates.n, c->updates.at, values);
    kiln_attrs attrs = {KILN_FAMILY_scatter, .scatter = {c->window, c->inserted, c->operand_batch,
                                                         c->indices_batch, c->map, c->axis}};
    op_case(batch, op_node(batch, op, 3, inputs, &attrs), c->variant, NULL);
}

void op_cases_scatter(op_batch *batch)
{
    static const kiln_op ops[] = {KILN_OP_scatter, KILN_OP_scatter_add, KILN_OP_scatter_mul,
                                  KILN_OP_scatter_max, KILN_OP_scatter_min};
    const scatter_case cases[] = {
        {"rows", KILN_i64, OP_INTS(7, 37), OP_INTS(12, 1), OP_INTS(12, 37), OP_INTS(1), OP_INTS(0),
         NO_INTS, NO_INTS, OP_INTS(0), 1},
        {"points", KILN_i32, OP_INTS(6, 5), OP_INTS(2, 19), OP_INTS(19), NO_INTS, OP_INTS(0, 1),
         NO_INTS, NO_INTS, OP_INTS(1, 0), 0},
        {"scalars", KILN_i8, OP_INTS(9), OP_INTS(23), OP_INTS(23), NO_INTS, OP_INTS(0), NO_INTS,
         NO_INTS, OP_INTS(0), 1},
        {"blocks that leave", KILN_i64, OP_INTS(6, 4, 8), OP_INTS(5, 2), OP_INTS(3, 5, 4, 3),
         OP_INTS(0, 2, 3), NO_INTS, NO_INTS, NO_INTS, OP_INTS(2, 0), 1},
        {"along", KILN_u8, OP_INTS(3, 6, 4), OP_INTS(3, 9, 4), OP_INTS(3, 9, 4), NO_INTS,
         OP_INTS(1), OP_INTS(0, 2), OP_INTS(0, 2), OP_INTS(1), 3},
        {"batched", KILN_u64, OP_INTS(3, 5, 17), OP_INTS(4, 3, 1), OP_INTS(4, 3, 17), OP_INTS(2),
         OP_INTS(1), OP_INTS(0), OP_INTS(1), OP_INTS(1), 2},
        {"no updates", KILN_i64, OP_INTS(3, 4), OP_INTS(0, 1), OP_INTS(0, 4), OP_INTS(1),
         OP_INTS(0), NO_INTS, NO_INTS, OP_INTS(0), 1},
        {"to nothing", KILN_i64, OP_INTS(0, 4), OP_INTS(2, 1), OP_INTS(2, 4), OP_INTS(1),
         OP_INTS(0), NO_INTS, NO_INTS, OP_INTS(0), 1},
        {"to one element", KILN_i64, NO_INTS, OP_INTS(4, 0), OP_INTS(4), NO_INTS, NO_INTS, NO_INTS,
         NO_INTS, NO_INTS, 1},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        bool is_arithmetic = ops[i] == KILN_OP_scatter_add || ops[i] == KILN_OP_scatter_mul;
        if (is_arithmetic && batch->dtype == KILN_bool) continue;
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
            add_scatter(batch, ops[i], &cases[c]);
    }
}
