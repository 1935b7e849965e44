/* Derivatives of gather and scatter: what was read at indices is added there, what was written is
 * read there. Reads clamp their indices and writes drop what falls outside, so indices of a read
 * are clamped before they are written to, and a write is read from an operand with a margin of
 * zeros. */
#include "graph/element.h"
#include "graph/gather.h"
#include "graph/rules/derive.h"

static kiln_value clamp_to(kiln_graph *g, kiln_value a, kiln_value low, kiln_value high)
{
    kiln_value inputs[3] = {low, a, high};
    return kiln_derive_node(g, KILN_OP_clamp, 3, inputs, NULL);
}

/* Indices as i64; those of u64 beyond it as its largest number. */
static kiln_value widen_indices(kiln_graph *g, kiln_value indices)
{
    kiln_dtype dtype = kiln_graph_type(g, indices)->dtype;
    if (dtype == KILN_u64)
        indices = kiln_add_binary(g, KILN_OP_min, indices, kiln_add_splat_like(g, indices, 0x1p62));
    return kiln_add_convert(g, indices, KILN_i64);
}

/* Entry c of `list` at component c of every index vector. */
static kiln_value component_numbers(kiln_graph *g, kiln_value indices, int64_t index_axis,
                                    kiln_ints list)
{
    const kiln_type *type = kiln_graph_type(g, indices);
    if (index_axis == type->rank || list.n == 0)
        return kiln_add_splat_like(g, indices, list.n ? (double)list.at[0] : 0);
    const kiln_type *vector = kiln_graph_tensor(g, KILN_i64, 1, &(int64_t){list.n});
    kiln_value numbers = kiln_add_constant(g, vector, list.at);
    return kiln_add_broadcast(g, numbers, type->rank, type->dims, &index_axis);
}

static kiln_value add_at(kiln_graph *g, kiln_value zeros, kiln_value indices, kiln_value updates,
                         const kiln_attrs *attrs)
{
    kiln_value inputs[3] = {zeros, indices, updates};
    return kiln_derive_node(g, KILN_OP_scatter_add, 3, inputs, attrs);
}

void kiln_derive_take(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    const kiln_type *type = kiln_derive_type(d, 0), *places = kiln_derive_type(d, 1);
    int64_t axis = d->node->attrs->axis.axis, window[KILN_MAX_RANK];
    uint32_t n = 0;
    if (d->node->type->n_elements == 0) {
        d->out[0] = kiln_derive_zeros(d, 0);
        return;
    }
    for (uint32_t i = 0; i < d->node->type->rank; i++) {
        if (i < axis || i >= axis + places->rank) window[n++] = i;
    }
    kiln_value indices = widen_indices(g, d->node->inputs[1]);
    indices = clamp_to(g, indices, kiln_add_splat_like(g, indices, 0),
                       kiln_add_splat_like(g, indices, (double)type->dims[axis] - 1));
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = (kiln_ints){n, window};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &axis};
    attrs.scatter.index_axis = places->rank;
    d->out[0] = add_at(g, kiln_derive_zeros(d, 0), indices, d->gradients[0], &attrs);
}

/* Adds up `values` at `places` along an axis; all have the dims of the operand. */
kiln_value kiln_derive_put_along(kiln_derivation *d, kiln_value places, int64_t axis,
                                 kiln_value values)
{
    const kiln_type *type = kiln_derive_type(d, 0);
    int64_t batch[KILN_MAX_RANK];
    uint32_t n = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i != axis) batch[n++] = i;
    }
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.inserted_axes = attrs.scatter.start_map = (kiln_ints){1, &axis};
    attrs.scatter.operand_batch = attrs.scatter.indices_batch = (kiln_ints){n, batch};
    attrs.scatter.index_axis = type->rank;
    return add_at(d->graph, kiln_derive_zeros(d, 0), places, values, &attrs);
}

void kiln_derive_gather(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    const kiln_attrs *from = d->node->attrs;
    const kiln_type *type = kiln_derive_type(d, 0);
    int64_t most[KILN_MAX_RANK];
    if (d->node->type->n_elements == 0) {
        d->out[0] = kiln_derive_zeros(d, 0);
        return;
    }
    kiln_ints map = from->gather.start_map;
    for (uint32_t c = 0; c < map.n; c++)
        most[c] = type->dims[map.at[c]] - from->gather.sizes.at[map.at[c]];
    kiln_value indices = widen_indices(g, d->node->inputs[1]);
    kiln_value high =
        component_numbers(g, indices, from->gather.index_axis, (kiln_ints){map.n, most});
    indices = clamp_to(g, indices, kiln_add_splat_like(g, indices, 0), high);
    kiln_attrs attrs = {KILN_FAMILY_scatter};
    attrs.scatter.window_axes = from->gather.offset_axes;
    attrs.scatter.inserted_axes = from->gather.collapsed_axes;
    attrs.scatter.operand_batch = from->gather.operand_batch;
    attrs.scatter.indices_batch = from->gather.indices_batch;
    attrs.scatter.start_map = map;
    attrs.scatter.index_axis = from->gather.index_axis;
    d->out[0] = add_at(g, kiln_derive_zeros(d, 0), indices, d->gradients[0], &attrs);
}

/* The elements of `a`, like the operand of the scatter, that its updates stand for; 0 outside. */
static kiln_value read_updates(kiln_derivation *d, kiln_value a)
{
    kiln_graph *g = d->graph;
    const kiln_attrs *from = d->node->attrs;
    const kiln_type *type = kiln_derive_type(d, 0);
    kiln_gather_plan plan;
    int64_t margin[KILN_MAX_RANK] = {0}, least[KILN_MAX_RANK], most[KILN_MAX_RANK];
    int64_t by[KILN_MAX_RANK];
    kiln_gather_plan_make(from, type, kiln_derive_type(d, 1), kiln_derive_type(d, 2), &plan);
    kiln_ints map = from->scatter.start_map;
    for (uint32_t c = 0; c < map.n; c++) {
        by[c] = margin[map.at[c]] = plan.sizes[map.at[c]];
        least[c] = -by[c];
        most[c] = type->dims[map.at[c]];
    }
    kiln_value indices = widen_indices(g, d->node->inputs[1]);
    int64_t axis = from->scatter.index_axis;
    indices = clamp_to(g, indices, component_numbers(g, indices, axis, (kiln_ints){map.n, least}),
                       component_numbers(g, indices, axis, (kiln_ints){map.n, most}));
    indices = sum(g, indices, component_numbers(g, indices, axis, (kiln_ints){map.n, by}));
    kiln_attrs attrs = {KILN_FAMILY_gather};
    attrs.gather.offset_axes = from->scatter.window_axes;
    attrs.gather.collapsed_axes = from->scatter.inserted_axes;
    attrs.gather.operand_batch = from->scatter.operand_batch;
    attrs.gather.indices_batch = from->scatter.indices_batch;
    attrs.gather.start_map = map;
    attrs.gather.index_axis = axis;
    attrs.gather.sizes = (kiln_ints){type->rank, plan.sizes};
    kiln_value inputs[2] = {kiln_derive_padded(g, a, margin, margin, NULL), indices};
    return kiln_derive_node(g, KILN_OP_gather, 2, inputs, &attrs);
}

static bool is_updated(kiln_derivation *d)
{
    return kiln_derive_type(d, 2)->n_elements && d->node->type->n_elements;
}

void kiln_derive_scatter_add(kiln_derivation *d)
{
    if (d->is_wanted[0]) d->out[0] = d->gradients[0];
    if (d->is_wanted[2] && is_updated(d)) d->out[2] = read_updates(d, d->gradients[0]);
}

/* Updates are numbered from 1 on and scattered too: those that read their own number have stayed.
 */
static kiln_value is_last(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    const kiln_type *type = d->node->type, *updates = kiln_derive_type(d, 2);
    kiln_attrs first = {KILN_FAMILY_axis, .axis = {0}};
    const kiln_type *flat = kiln_graph_tensor(g, KILN_i64, 1, &(int64_t){updates->n_elements});
    kiln_value own =
        kiln_graph_add(g, &(kiln_node_spec){KILN_OP_iota, flat, NULL, 0, &first, NULL});
    own = kiln_add_reshape(g, plus_n(g, own, 1), updates->rank, updates->dims);
    kiln_value inputs[3] = {kiln_add_splat(g, KILN_i64, type->rank, type->dims, 0),
                            d->node->inputs[1], own};
    kiln_value written = kiln_derive_node(g, KILN_OP_scatter, 3, inputs, d->node->attrs);
    return kiln_add_binary(g, KILN_OP_eq, read_updates(d, written), own);
}

void kiln_derive_scatter(kiln_derivation *d)
{
    kiln_graph *g = d->graph;
    kiln_value cleared[3] = {d->gradients[0], d->node->inputs[1], kiln_derive_zeros(d, 2)};
    if (d->is_wanted[0])
        d->out[0] = kiln_derive_node(g, KILN_OP_scatter, 3, cleared, d->node->attrs);
    if (d->is_wanted[2] && is_updated(d))
        d->out[2] =
            choose(g, is_last(d), read_updates(d, d->gradients[0]), kiln_derive_zeros(d, 2));
}
