/* Op cases: what each op must give, as batches of nodes that one graph holds. A family file adds
 * the cases of its ops for one dtype; each case is an output with operands that include the dtype's
 * special values, and, where it has one, a reference that shares nothing with the evaluator. */
#ifndef KILN_TESTS_OPS_CASES_H
#define KILN_TESTS_OPS_CASES_H

#include "ops/bound.h"

/* What the reference says about one output: element i is expected[i], within ulps of the dtype (or
 * within tolerance[i] where that is given). Integers and bool compare by value. */
typedef struct op_reference {
    long double
        *expected; /* NULL: no reference, compiled code is compared with the evaluator only */
    double ulps;
    double *tolerance;
} op_reference;

typedef struct op_batch {
    const char *name;
    kiln_scope *scope;
    kiln_graph *graph;
    kiln_dtype dtype;
    uint64_t random;
    kiln_vec(kiln_tensor) inputs;
    kiln_vec(op_reference) references; /* one an output */
} op_batch;

typedef enum op_values {
    OP_VALUES_SMALL, /* within -2 … 2 for floats, -9 … 9 for integers (0 … 9 unsigned) */
    OP_VALUES_ANY,   /* the special values, then numbers of every size */
    OP_VALUES_LEFT,  /* with RIGHT: every pair of special values, then numbers of every size */
    OP_VALUES_RIGHT,
    OP_VALUES_WIDE, /* every exponent, or number of bits, as often */
    OP_VALUES_UNIT, /* 0.25 … 1.75: factors of products, variances */
} op_values;

#define OP_DIMS(...)                                                                               \
    (uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[])                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define OP_INTS(...)                                                                               \
    ((kiln_ints){(uint32_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}})

uint64_t op_random(op_batch *batch);
/* Elements of such values. */
void *op_values_new(op_batch *batch, const kiln_type *type, op_values values);
/* A new input filled with such values. */
kiln_value op_input(op_batch *batch, kiln_dtype dtype, uint32_t rank, const int64_t *dims,
                    op_values values);
/* Elements of an input made by op_input. */
const void *op_data(const op_batch *batch, kiln_value input);
long double op_element(const op_batch *batch, kiln_value input, int64_t index);
/* The number of special values of a dtype: pairs of them fill SPECIALS * SPECIALS elements. */
int64_t op_n_specials(kiln_dtype dtype);

kiln_value op_node(op_batch *batch, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                   const kiln_attrs *attrs);
kiln_value op_node_given(op_batch *batch, kiln_op op, const kiln_type *given, kiln_value input,
                         const kiln_attrs *attrs);
/* Makes the value an output; its name tells op, variant and type. The reference may be NULL. */
void op_case(op_batch *batch, kiln_value value, const char *variant, const op_reference *reference);
/* A reference of n elements to be filled in. */
op_reference op_reference_new(op_batch *batch, int64_t n, double ulps);
const kiln_type *op_type(const op_batch *batch, kiln_value value);

/* A family adds nothing for a dtype its ops do not allow. */
typedef void op_family_fn(op_batch *batch);
typedef struct op_family {
    const char *name;
    op_family_fn *add;
} op_family;
extern const op_family op_families[];
extern const uint32_t op_n_families;
op_family_fn op_cases_unary, op_cases_binary, op_cases_convert, op_cases_reduce, op_cases_window,
    op_cases_view, op_cases_move, op_cases_gather, op_cases_scatter, op_cases_order, op_cases_dot,
    op_cases_convolution, op_cases_band, op_cases_activation, op_cases_row, op_cases_attention,
    op_cases_special, op_cases_random, op_cases_solve, op_cases_select;
#endif
