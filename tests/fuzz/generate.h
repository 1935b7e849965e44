/* Random graphs, valid by construction: each op picks operands that fit it or makes them fit. The
 * same seed gives the same graph and the same inputs on every machine. */
#ifndef KILN_TESTS_FUZZ_GENERATE_H
#define KILN_TESTS_FUZZ_GENERATE_H

#include "ops/cases.h"

#define FUZZ_SIZES 3

typedef struct fuzz_graph {
    op_batch batch;              /* graph, inputs with their data */
    kiln_vec(kiln_value) values; /* what later nodes may read */
    kiln_vec(uint32_t) uses;     /* by index in values */
    int64_t max_elements;        /* of one value */
    uint32_t n_wanted;           /* nodes to add */
    int64_t sizes[FUZZ_SIZES];   /* of most axes */
} fuzz_graph;

fuzz_graph *fuzz_generate(kiln_scope *scope, uint64_t seed);

/* Inside generation. */
uint64_t fuzz_below(fuzz_graph *g, uint64_t n);
bool fuzz_chance(fuzz_graph *g, uint32_t percent);
int64_t fuzz_size(fuzz_graph *g);
kiln_value fuzz_pick(fuzz_graph *g);
/* A value of a dtype in `set`: one there is, or a fresh input. */
kiln_value fuzz_pick_in(fuzz_graph *g, kiln_dtype_set set);
/* A value of exactly this type: one there is, one broadcast or converted to it, a splat or an
 * input. */
kiln_value fuzz_operand(fuzz_graph *g, const kiln_type *type);
kiln_value fuzz_input(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims);
const kiln_type *fuzz_type(const fuzz_graph *g, kiln_value value);
/* A node that becomes a value for later ones. */
kiln_value fuzz_node(fuzz_graph *g, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                     const kiln_attrs *attrs);
void fuzz_note(fuzz_graph *g, kiln_value value);
bool fuzz_fits(const fuzz_graph *g, uint32_t rank, const int64_t *dims);

/* One random node of a class; false when no operand suits (nothing was added). */
typedef bool fuzz_step_fn(fuzz_graph *g);
fuzz_step_fn fuzz_step_elementwise, fuzz_step_convert, fuzz_step_select, fuzz_step_reduce,
    fuzz_step_window, fuzz_step_view, fuzz_step_move, fuzz_step_dot, fuzz_step_convolution,
    fuzz_step_composite;
#endif
