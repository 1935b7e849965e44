/* Reverse-mode differentiation: gradients as ordinary nodes of the same graph. How each op passes
 * the gradient of its result on to its operands is a row of graph/rules/derivatives.def. A row's
 * rule sees one node and builds with graph/graph.h; the sweep in gradient.c finds the nodes between
 * results and values, calls their rules from the last to the first and adds up what meets. What a
 * rule builds is differentiable again. */
#ifndef KILN_GRAPH_GRADIENT_H
#define KILN_GRAPH_GRADIENT_H

#include "graph/graph.h"

typedef struct kiln_differentiation kiln_differentiation;

/* One node at work. A rule writes out[i], of the type of operand i, where is_wanted[i]; what it
 * leaves at id 0 is zeros. gradients[k] is that of the result, or of item k of a tuple (id 0:
 * zeros; at least one is there). */
typedef struct kiln_derivation {
    kiln_graph *graph;
    const kiln_node *node;
    kiln_value result;
    const kiln_value *gradients;
    const bool *is_wanted;
    kiln_value *out;
    uint32_t item; /* of a tuple as operand 0, which out[0] is for */
    kiln_differentiation *run;
} kiln_derivation;

typedef void kiln_derive_fn(kiln_derivation *d);

typedef enum kiln_derivative_kind {
    KILN_DERIVATIVE_NONE, /* no row: does not happen, a missing one fails the build */
    KILN_DERIVATIVE_RULE,
    KILN_DERIVATIVE_EXPANSION, /* through what it stands for */
    KILN_DERIVATIVE_CONSTANT,  /* 0 wherever there is one: steps, integers, truths */
    KILN_DERIVATIVE_REFUSED,
} kiln_derivative_kind;

typedef struct kiln_derivative_row {
    kiln_derivative_kind kind;
    kiln_derive_fn *derive; /* of RULE */
    const char *what;       /* the convention, or why it is refused */
} kiln_derivative_row;

extern const kiln_derivative_row kiln_derivative_rows[KILN_N_OPS];

/* Gradients of the sum of of[i] * cotangents[i] with respect to values, in `out`; id 0 is zeros. A
 * cotangent has the type of its result; values are floats. With is_cut values count as independent
 * of each other: nothing passes through them. */
typedef struct kiln_gradient_request {
    uint32_t n_of, n_values;
    const kiln_value *of, *cotangents, *values;
    const bool *is_wanted; /* by value; NULL: all */
    bool is_cut;
} kiln_gradient_request;

/* UNSUPPORTED with a sentence where an op on the way has no derivative. */
void kiln_graph_gradient(kiln_graph *graph, const kiln_gradient_request *request, kiln_value *out);

/* For rules: the gradients of the operands by way of other values with the meaning of the node, one
 * an item for a tuple. */
void kiln_derive_through(kiln_derivation *d, const kiln_value *meanings);
_Noreturn void kiln_derive_refuse(const kiln_derivation *d, const char *why);
#endif
