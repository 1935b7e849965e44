/* Type rules by operand types alone, so that graph building and the verifier share the rules and
 * nothing else. infer.c checks what the row states and finds the rule; infer_*.c hold the rules. */
#ifndef KILN_GRAPH_INFER_H
#define KILN_GRAPH_INFER_H

#include "graph/graph.h"

typedef struct kiln_infer_call {
    kiln_graph *graph; /* interns the result type, and fails */
    kiln_op op;
    const kiln_op_row *row;
    const kiln_type *const *types; /* of the operands */
    uint32_t n;
    const kiln_attrs *attrs;
    const kiln_type *given;
} kiln_infer_call;

/* The result type; INVALID with "op: found; expected" otherwise. Type pointers of the call may come
 * from any graph; the result is interned in call->graph. */
const kiln_type *kiln_infer_call_type(const kiln_infer_call *call);

/* Fails with INVALID and "op: " before the sentence. */
_Noreturn void kiln_infer_fail(const kiln_infer_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Checks that an attribute list has `n` entries within low … high. */
void kiln_infer_ints(const kiln_infer_call *call, const char *name, kiln_ints ints, uint32_t n);
void kiln_infer_range(const kiln_infer_call *call, const char *name, kiln_ints ints, int64_t low,
                      int64_t high);
/* Checks that `axes` are distinct axes of a tensor of that rank; ascending where asked. */
void kiln_infer_axes(const kiln_infer_call *call, const char *name, kiln_ints axes, uint32_t rank,
                     bool is_ascending);
/* Checks one axis of a tensor of that rank. */
void kiln_infer_axis(const kiln_infer_call *call, int64_t axis, uint32_t rank);

const char *kiln_infer_types_string(const kiln_infer_call *call);

/* Positions of a window along one padded, dilated axis. */
typedef struct kiln_window_axis {
    int64_t dim, size, stride, low, high, base_dilation, dilation;
} kiln_window_axis;
int64_t kiln_infer_window_dim(const kiln_infer_call *call, uint32_t axis, kiln_window_axis window);

typedef const kiln_type *kiln_infer_fn(const kiln_infer_call *call);
kiln_infer_fn kiln_infer_window, kiln_infer_dot, kiln_infer_convolution;
kiln_infer_fn kiln_infer_slice, kiln_infer_pad, kiln_infer_concat, kiln_infer_take;
kiln_infer_fn kiln_infer_dynamic_slice, kiln_infer_dynamic_update;
kiln_infer_fn kiln_infer_item, kiln_infer_call_op, kiln_infer_branches;
kiln_infer_fn kiln_infer_while, kiln_infer_scan, kiln_infer_map, kiln_infer_reduce;
kiln_infer_fn kiln_infer_reduce_window, kiln_infer_select_and_scatter, kiln_infer_scatter_with;
kiln_infer_fn kiln_infer_sort_by, kiln_infer_custom;
/* Checks that the regions are finished and as many as allowed. */
void kiln_infer_regions(const kiln_infer_call *call, kiln_regions regions, uint32_t least,
                        uint32_t most);
kiln_infer_fn kiln_infer_gather, kiln_infer_scatter;
kiln_infer_fn kiln_infer_argsort, kiln_infer_cumulative;
kiln_infer_fn kiln_infer_cholesky, kiln_infer_forward_solve;
kiln_infer_fn kiln_infer_broadcast, kiln_infer_reshape, kiln_infer_transpose;
#endif
