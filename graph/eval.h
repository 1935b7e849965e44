/* Inside the evaluator: one call evaluates one node from dense operands to a dense result. bool
 * bytes are 0 or 1. Working forms are double for floats and 64-bit integers for the rest, rounded
 * or wrapped to the node's dtype when stored. */
#ifndef KILN_GRAPH_EVAL_H
#define KILN_GRAPH_EVAL_H

#include "graph/element.h"
#include "graph/graph.h"

typedef struct kiln_eval_call {
    kiln_scope *scope;   /* where it fails */
    kiln_arena *scratch; /* freed after the call */
    const kiln_node *node;
    const kiln_type *const *types; /* of the operands */
    const void *const *in;         /* operands */
    void *out;                     /* node->type->bytes */
    struct kiln_context *context;  /* whose functions custom calls are */
} kiln_eval_call;

typedef void kiln_eval_fn(const kiln_eval_call *call);

/* The evaluators by class; the node's row says which one applies. */
void kiln_eval_source(const kiln_eval_call *call); /* constant and iota */
void kiln_eval_elementwise(const kiln_eval_call *call);
void kiln_eval_reduce(const kiln_eval_call *call);
void kiln_eval_window(const kiln_eval_call *call);
void kiln_eval_view(const kiln_eval_call *call);
void kiln_eval_move(const kiln_eval_call *call);
void kiln_eval_contract(const kiln_eval_call *call);
void kiln_eval_region(const kiln_eval_call *call); /* a tuple's items lie one after the other */
void kiln_eval_routine(const kiln_eval_call *call);
/* The rows of the two above that have a file of their own. */
void kiln_eval_gather(const kiln_eval_call *call);
void kiln_eval_scatter(const kiln_eval_call *call);
void kiln_eval_cholesky(const kiln_eval_call *call);
void kiln_eval_forward_solve(const kiln_eval_call *call);
void kiln_eval_argsort(const kiln_eval_call *call);
void kiln_eval_cumulative(const kiln_eval_call *call);

/* Nodes that move elements of 4 bits: the elements get a byte each, then the class moves them. */
bool kiln_eval_is_packed_move(const kiln_eval_call *call);
void kiln_eval_packed_move(const kiln_eval_call *call);

/* A region to evaluate again and again; each time in a scope of its own. */
typedef struct kiln_eval_region_run {
    const kiln_eval_call *call;
    const kiln_graph *region; /* without composites */
    kiln_error *error;
} kiln_eval_region_run;
kiln_eval_region_run kiln_eval_region_open(const kiln_eval_call *call, const kiln_graph *region);
void kiln_eval_region_run_once(const kiln_eval_region_run *run, const kiln_tensor *inputs,
                               kiln_tensor *outputs);
/* Regions over scalars. */
kiln_eval_fn kiln_eval_map, kiln_eval_reduce_region, kiln_eval_reduce_window;
kiln_eval_fn kiln_eval_select_and_scatter, kiln_eval_scatter_with, kiln_eval_sort_by;
/* eval_gather.c: in the order of the law, elements of the updates and their places in the operand;
 * -1 when outside. */
void kiln_eval_scatter_places(const kiln_eval_call *call, int64_t *out_places, int64_t *out_from);
/* Nodes that compute with complex values. */
bool kiln_eval_is_complex(const kiln_eval_call *call);
void kiln_eval_complex(const kiln_eval_call *call);

/* One node of a class above (not input or COMPOSITE). */
void kiln_eval_node(const kiln_eval_call *call);

/* The graph without composites: itself, or a new one in the scope. map[id] (graph->nodes.n entries)
 * says where each value went. */
const kiln_graph *kiln_eval_expand(kiln_scope *scope, const kiln_graph *graph, kiln_value *map);

/* Scalar meanings. Integers come extended to 64 bits and leave unwrapped; `bits` and `is_signed`
 * describe the operands' dtype. NULL where an op has none. */
typedef struct kiln_eval_int {
    int bits;
    bool is_signed, is_bool;
} kiln_eval_int;
typedef double kiln_eval_unary_fn(double a);
typedef double kiln_eval_binary_fn(double a, double b);
typedef uint64_t kiln_eval_unary_int_fn(uint64_t a, const kiln_eval_int *kind);
typedef uint64_t kiln_eval_binary_int_fn(uint64_t a, uint64_t b, const kiln_eval_int *kind);
typedef struct kiln_eval_scalar {
    kiln_eval_unary_fn *unary;
    kiln_eval_binary_fn *binary;
    kiln_eval_unary_int_fn *unary_int;
    kiln_eval_binary_int_fn *binary_int;
} kiln_eval_scalar;
extern const kiln_eval_scalar kiln_eval_scalars[KILN_N_OPS];

/* Walks the index space `dims` in row-major order, keeping two linear offsets. */
typedef struct kiln_eval_walk {
    uint32_t rank;
    const int64_t *dims;
    const int64_t *strides[2];
    int64_t at[KILN_MAX_RANK];
    int64_t offset[2];
} kiln_eval_walk;

/* Steps to the next index; false after the last (the walk then stands at the first again). */
bool kiln_eval_walk_next(kiln_eval_walk *walk);
/* Row-major strides of dims, in elements. */
void kiln_eval_strides(uint32_t rank, const int64_t *dims, int64_t *out_strides);
/* Copies a box of `dims` elements; strides and starts are in elements. */
typedef struct kiln_eval_box {
    uint32_t rank;
    const int64_t *dims;
    size_t element;
    void *to;
    int64_t to_start;
    const int64_t *to_strides;
    const void *from;
    int64_t from_start;
    const int64_t *from_strides;
} kiln_eval_box;
void kiln_eval_copy(const kiln_eval_box *box);

/* The whole operand in its working form: doubles for floats, 64-bit integers otherwise. */
typedef union kiln_eval_values {
    double *f;
    uint64_t *i;
} kiln_eval_values;
static inline bool kiln_eval_is_float(const kiln_type *type)
{
    return kiln_dtype_kind_of(type->dtype) == KILN_DTYPE_KIND_FLOAT;
}
kiln_eval_int kiln_eval_int_of(kiln_dtype dtype);
kiln_eval_values kiln_eval_load(const kiln_eval_call *call, uint32_t operand);
/* Scratch of n working elements, zeroed. */
kiln_eval_values kiln_eval_values_new(const kiln_eval_call *call, int64_t n);
/* Stores working elements of the result; integers are taken as those of `is_signed`. */
void kiln_eval_store(const kiln_eval_call *call, kiln_eval_values values, bool is_signed);
#endif
