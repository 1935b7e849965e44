/* rotary: position as rotation (Su and others, RoFormer, 2021). Of each pair (x, y) of the last
 * axis (x cos - y sin, x sin + y cos); pairs are element i and i + width / 2, or neighbours. */
#include "graph/element.h"
#include "graph/rules/terms.h"

static kiln_value cut_last(kiln_graph *g, kiln_value a, const int64_t *range)
{
    const kiln_type *type = kiln_graph_type(g, a);
    int64_t starts[KILN_MAX_RANK] = {0}, limits[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    uint32_t n = type->rank;
    for (uint32_t i = 0; i < n; i++) {
        limits[i] = type->dims[i];
        strides[i] = 1;
    }
    starts[n - 1] = range[0];
    limits[n - 1] = range[1];
    strides[n - 1] = range[2];
    kiln_attrs attrs = {KILN_FAMILY_slice, .slice = {{n, starts}, {n, limits}, {n, strides}}};
    return kiln_graph_add(g, &(kiln_node_spec){KILN_OP_slice, NULL, &a, 1, &attrs, NULL});
}

static kiln_value join_last(kiln_graph *g, uint32_t n, const kiln_value *parts)
{
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {kiln_graph_type(g, parts[0])->rank - 1}};
    return kiln_graph_add(g, &(kiln_node_spec){KILN_OP_concat, NULL, parts, n, &attrs, NULL});
}

/* Dims of the operand with `half` as the last one, which cosine and sine broadcast to. */
static void check_angles(kiln_graph *g, const kiln_value *inputs, int64_t half)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]);
    for (uint32_t operand = 1; operand < 3; operand++) {
        const kiln_type *angle = kiln_graph_type(g, inputs[operand]);
        bool fits = kiln_dtype_in(angle->dtype, KILN_TYPES_FLOAT) && angle->rank >= 1 &&
                    angle->rank <= type->rank && angle->dims[angle->rank - 1] == half &&
                    2 * half <= type->dims[type->rank - 1];
        for (uint32_t i = 0; fits && i + 1 < angle->rank; i++) {
            int64_t dim = type->dims[type->rank - angle->rank + i];
            fits = angle->dims[i] == 1 || angle->dims[i] == dim;
        }
        if (fits) continue;
        kiln_fail(g->scope, KILN_INVALID,
                  "rotary: operand %u is %s; expected half the last dim of %s, or less, and dims "
                  "that broadcast",
                  operand, kiln_rule_type(g, inputs[operand]), kiln_rule_type(g, inputs[0]));
    }
}

static kiln_value turned_pairs(kiln_graph *g, kiln_value a, const kiln_value *angles,
                               bool is_interleaved)
{
    const kiln_type *type = kiln_graph_type(g, a);
    int64_t half = kiln_graph_type(g, angles[0])->dims[kiln_graph_type(g, angles[0])->rank - 1];
    int64_t first[] = {0, is_interleaved ? 2 * half : half, is_interleaved ? 2 : 1};
    int64_t second[] = {is_interleaved ? 1 : half, 2 * half, first[2]};
    kiln_value x = cut_last(g, a, first), y = cut_last(g, a, second), parts[2];
    const kiln_type *wide = kiln_graph_type(g, x);
    kiln_value c = kiln_add_broadcast_to(g, angles[0], wide->rank, wide->dims);
    kiln_value s = kiln_add_broadcast_to(g, angles[1], wide->rank, wide->dims);
    parts[0] = less(g, times(g, x, c), times(g, y, s));
    parts[1] = sum(g, times(g, x, s), times(g, y, c));
    if (!is_interleaved) return join_last(g, 2, parts);
    int64_t dims[KILN_MAX_RANK + 1];
    if (type->rank == KILN_MAX_RANK) {
        kiln_fail(g->scope, KILN_LIMIT, "rotary: operand %s; expected a rank of 15 or less",
                  kiln_rule_type(g, a));
    }
    for (uint32_t i = 0; i < wide->rank; i++) dims[i] = wide->dims[i];
    dims[wide->rank] = 1;
    for (uint32_t i = 0; i < 2; i++) parts[i] = kiln_add_reshape(g, parts[i], wide->rank + 1, dims);
    dims[wide->rank - 1] = 2 * half;
    return kiln_add_reshape(g, join_last(g, 2, parts), wide->rank, dims);
}

kiln_value kiln_expand_rotary(kiln_graph *g, const kiln_value *inputs, uint32_t n_inputs,
                              const kiln_attrs *attrs)
{
    const kiln_type *type = kiln_graph_type(g, inputs[0]), *angle = kiln_graph_type(g, inputs[1]);
    int64_t half = angle->rank ? angle->dims[angle->rank - 1] : -1;
    if (type->rank == 0) half = -1;
    check_angles(g, inputs, half);
    kiln_value a = kiln_rule_widen(g, inputs[0]), angles[2];
    for (uint32_t i = 0; i < 2; i++)
        angles[i] = kiln_rule_narrow(g, inputs[i + 1], kiln_graph_type(g, a)->dtype);
    kiln_value y = turned_pairs(g, a, angles, attrs->rotary.interleaved);
    int64_t width = type->dims[type->rank - 1], rest[] = {2 * half, width, 1};
    if (2 * half < width) y = join_last(g, 2, (kiln_value[]){y, cut_last(g, a, rest)});
    return narrow_like(g, y, inputs[0]);
}
