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
    bool is_large;               /* one or two operations on larger values */
    bool is_rounded;             /* layers of f32 round what they multiply to bf16 */
    int64_t max_elements;        /* of one value */
    int64_t max_work;            /* multiplications of one layer: the evaluator makes them singly */
    uint32_t n_wanted;           /* nodes to add */
    int64_t sizes[FUZZ_SIZES];   /* of most axes */
    uint32_t depth;              /* of the region that is made; 0: the graph */
    bool is_scalar;              /* a region over scalars */
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

void fuzz_note_use(fuzz_graph *g, kiln_value value);
/* An input of small numbers, as it is. */
kiln_value fuzz_small_input(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims);
kiln_dtype fuzz_dtype(fuzz_graph *g);
/* One of the steps below, by weight. */
void fuzz_add_step(fuzz_graph *g);
/* A random op of a class without attributes of its own that takes n operands of such a dtype; 0
 * when the table has none. */
kiln_op fuzz_pick_op(fuzz_graph *g, kiln_class class_, uint32_t n_inputs, kiln_dtype dtype);
/* Ascending axes, at least one. */
uint32_t fuzz_axes(fuzz_graph *g, uint32_t rank, int64_t *out);
typedef struct fuzz_window {
    int64_t sizes[KILN_MAX_RANK], strides[KILN_MAX_RANK], low[KILN_MAX_RANK], high[KILN_MAX_RANK],
        dilations[KILN_MAX_RANK];
    kiln_attrs attrs; /* of these lists */
} fuzz_window;
bool fuzz_pick_window(fuzz_graph *g, const kiln_type *type, fuzz_window *out);
/* A node of a tuple and its items, the last one returned. */
kiln_value fuzz_items(fuzz_graph *g, kiln_op op, uint32_t n_inputs, const kiln_value *inputs,
                      const kiln_attrs *attrs);
/* A region that combines two times n scalars of these dtypes, n at most 2, the same in any order.
 */
const kiln_graph *fuzz_combination(fuzz_graph *g, uint32_t n, const kiln_dtype *dtypes);

#define FUZZ_CUSTOM "reversed" /* the function that custom calls name */

/* One random node of a kind; false when no operand suits (nothing was added but inputs). */
typedef bool fuzz_step_fn(fuzz_graph *g);
fuzz_step_fn fuzz_step_elementwise, fuzz_step_convert, fuzz_step_select, fuzz_step_iota,
    fuzz_step_reduce, fuzz_step_window, fuzz_step_view, fuzz_step_move, fuzz_step_take_along,
    fuzz_step_gather, fuzz_step_scatter, fuzz_step_order, fuzz_step_barrier, fuzz_step_solve,
    fuzz_step_dot, fuzz_step_convolution, fuzz_step_attention, fuzz_step_function,
    fuzz_step_composite, fuzz_step_random, fuzz_step_region, fuzz_step_scalar_region,
    fuzz_step_custom, fuzz_step_image, fuzz_step_layers;
#endif
