/* What the expansion rules of graph/rules share. A rule builds over its operands with graph/graph.h
 * and returns the value; it fails through graph->scope with INVALID when operands do not fit. The
 * op's row has already been checked: operand count, dtype set of the first operand, attribute
 * family. */
#ifndef KILN_GRAPH_RULES_H
#define KILN_GRAPH_RULES_H

#include "graph/graph.h"

/* bf16 and f16 become f32, in which composites compute; other dtypes stay. */
kiln_dtype kiln_rule_compute_dtype(kiln_dtype dtype);
kiln_value kiln_rule_widen(kiln_graph *graph, kiln_value a);
/* The value in `dtype`; `a` itself when it is that already. */
kiln_value kiln_rule_narrow(kiln_graph *graph, kiln_value a, kiln_dtype dtype);

/* a + constant and a * constant of a's type. */
kiln_value kiln_rule_add_number(kiln_graph *graph, kiln_value a, double number);
kiln_value kiln_rule_mul_number(kiln_graph *graph, kiln_value a, double number);

/* The sum over axes divided by the number of summed elements; drops the axes. */
kiln_value kiln_rule_mean(kiln_graph *graph, kiln_value a, kiln_ints axes);
/* e^(a - max) / sum over one axis. */
kiln_value kiln_rule_softmax(kiln_graph *graph, kiln_value a, int64_t axis);

/* "f32[2,3]", in the scope's arena, for sentences. */
const char *kiln_rule_type(const kiln_graph *graph, kiln_value a);
/* Fails unless 0 <= axis < rank of a. */
void kiln_rule_check_axis(kiln_graph *graph, const char *op, kiln_value a, int64_t axis);

#define KILN_OP(name, class_, n_inputs, types, result, attrs, meaning) KILN_RULE_##class_(name)
#define KILN_RULE_SOURCE(name)
#define KILN_RULE_ELEMENTWISE(name)
#define KILN_RULE_REDUCE(name)
#define KILN_RULE_WINDOW(name)
#define KILN_RULE_VIEW(name)
#define KILN_RULE_MOVE(name)
#define KILN_RULE_CONTRACT(name)
#define KILN_RULE_ROUTINE(name)
#define KILN_RULE_REGION(name)
#define KILN_RULE_COMPOSITE(name) kiln_expand_fn kiln_expand_##name;
#include "kiln/ops.def"
#undef KILN_OP
#undef KILN_RULE_COMPOSITE
#endif
