/* What the derivative rules share; each is a function kiln_derive_NAME for a RULE row of
 * graph/rules/derivatives.def. */
#ifndef KILN_GRAPH_RULES_DERIVE_H
#define KILN_GRAPH_RULES_DERIVE_H

#include "graph/gradient.h"
#include "graph/rules/terms.h"

#define KILN_DERIVATIVE(name, kind, what) KILN_DERIVE_DECLARE_##kind(name)
#define KILN_DERIVE_DECLARE_RULE(name) kiln_derive_fn kiln_derive_##name;
#define KILN_DERIVE_DECLARE_EXPANSION(name)
#define KILN_DERIVE_DECLARE_CONSTANT(name)
#define KILN_DERIVE_DECLARE_REFUSED(name)
#include "graph/rules/derivatives.def"
#undef KILN_DERIVATIVE

static inline const kiln_type *kiln_derive_type(const kiln_derivation *d, uint32_t operand)
{
    return kiln_graph_type(d->graph, d->node->inputs[operand]);
}

/* Any node, for rules that spell attributes. */
static inline kiln_value kiln_derive_node(kiln_graph *graph, kiln_op op, uint32_t n,
                                          const kiln_value *inputs, const kiln_attrs *attrs)
{
    kiln_node_spec spec = {.op = op, .inputs = inputs, .n_inputs = n, .attrs = attrs};
    return kiln_graph_add(graph, &spec);
}

static inline kiln_value kiln_derive_zeros(const kiln_derivation *d, uint32_t operand)
{
    return kiln_add_splat_like(d->graph, d->node->inputs[operand], 0);
}

/* 0, 1, … in a vector of n from the graph's arena. */
static inline int64_t *kiln_derive_axes(const kiln_derivation *d, uint32_t n)
{
    int64_t *axes = kiln_new_array(&d->graph->scope->arena, int64_t, n);
    for (uint32_t i = 0; i < n; i++) axes[i] = i;
    return axes;
}

/* `a` padded with zeros, or cropped where entries of low and high are negative. */
kiln_value kiln_derive_padded(kiln_graph *graph, kiln_value a, const int64_t *low,
                              const int64_t *high, const int64_t *interior);
/* Zeros like operand 0 with `values` added at `places` (i64) along an axis; all have its dims. */
kiln_value kiln_derive_put_along(kiln_derivation *d, kiln_value places, int64_t axis,
                                 kiln_value values);
#endif
