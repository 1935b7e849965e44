/* split: a long reduction with few results becomes two, so that several threads share the first;
 * what decides the rounding of sums so stands in the graph, the same on every target. Sums and
 * products of floats stay whole in strict compiles.
 *
 *     %1: f32[] = reduce_sum %x {axes = [0]}          %1: f32[64,16384] = reshape %x
 *                                               =>    %2: f32[64] = reduce_sum %1 {axes = [1]}
 *                                                     %3: f32[] = reduce_sum %2 {axes = [0]}
 *
 * Axes on both sides of kept ones (the statistics of channels in NCHW) are reduced one side after
 * the other. */
#include <string.h>

#include "graph/element.h"
#include "passes/rewrite.h"

#define MIN_ELEMENTS (1 << 19) /* below, one core is done before another would help much */
#define MAX_PARTS 64
#define MIN_PARTS 8
#define MIN_TASKS 4 /* as many rows, or strips of columns, are parallel enough */
#define MIN_ROW 8   /* shorter rows are walked as columns */
#define STRIP 64    /* columns of one task */

static const kiln_value none = {0, 0};

typedef struct reduction {
    const kiln_node *node;
    const kiln_type *operand;
    bool is_reduced[KILN_MAX_RANK];
    uint32_t first;   /* reduced axis */
    bool is_trailing; /* the reduced axes are the last ones */
} reduction;

static bool find_reduction(const kiln_rewrite *rewrite, const kiln_node *node, reduction *out)
{
    memset(out, 0, sizeof *out);
    if (kiln_node_row(node)->class_ != KILN_REDUCE || node->attrs->family != KILN_FAMILY_axes)
        return false;
    kiln_ints axes = node->attrs->axes.axes;
    out->node = node;
    out->operand = kiln_operand_node(rewrite, node, 0)->type;
    if (axes.n == 0 || node->type->n_elements == 0) return false;
    for (uint32_t i = 0; i < axes.n; i++) out->is_reduced[axes.at[i]] = true;
    out->first = (uint32_t)axes.at[0];
    out->is_trailing = axes.at[0] + axes.n == out->operand->rank;
    return true;
}

static bool is_worth_it(const reduction *r)
{
    int64_t n = r->node->type->n_elements, tasks = r->is_trailing ? n : (n + STRIP - 1) / STRIP;
    return r->operand->n_elements >= MIN_ELEMENTS && tasks < MIN_TASKS;
}

static int64_t parts_of(int64_t dim)
{
    for (int64_t parts = MAX_PARTS; parts >= MIN_PARTS; parts--)
        if (dim % parts == 0 && dim > parts) return parts;
    return 0;
}

/* Dims with the first reduced axis cut in two; trailing reduced axes are merged before. */
static bool split_dims(const reduction *r, uint32_t *out_rank, int64_t *out_dims)
{
    uint32_t rank = 0, end = r->is_trailing ? r->operand->rank : r->first + 1;
    int64_t length = 1;
    for (uint32_t i = r->first; i < end; i++) length *= r->operand->dims[i];
    int64_t parts = parts_of(length);
    if (parts == 0 || r->operand->rank + 1 > KILN_MAX_RANK) return false;
    for (uint32_t i = 0; i < r->first; i++) out_dims[rank++] = r->operand->dims[i];
    out_dims[rank++] = parts;
    out_dims[rank++] = length / parts;
    for (uint32_t i = end; i < r->operand->rank; i++) out_dims[rank++] = r->operand->dims[i];
    *out_rank = rank;
    return true;
}

/* Sums and products of floats change their rounding; narrow ones would round twice. */
static bool may_split(const kiln_rewrite *rewrite, const kiln_node *node)
{
    bool rounds = node->op == KILN_OP_reduce_sum || node->op == KILN_OP_reduce_prod;
    if (!rounds || !kiln_dtype_in(node->type->dtype, KILN_TYPES_FLOAT)) return true;
    return !rewrite->pipeline->is_strict && kiln_dtype_bytes(node->type->dtype) >= 4;
}

/* Reduced axes on both sides of kept ones: the trailing ones first, which lie together in memory.
 */
static kiln_value split_mixed(kiln_rewrite *rewrite, const reduction *r)
{
    int64_t trailing[KILN_MAX_RANK], leading[KILN_MAX_RANK], length = 1;
    uint32_t rank = r->operand->rank, n_trailing = 0, n_leading = 0, start = rank;
    while (start > 0 && r->is_reduced[start - 1]) length *= r->operand->dims[--start];
    if (r->is_trailing || length < MIN_ROW) return none;
    for (uint32_t i = 0; i < rank; i++) {
        if (!r->is_reduced[i]) continue;
        if (i < start)
            leading[n_leading++] = i;
        else
            trailing[n_trailing++] = i;
    }
    kiln_graph *target = rewrite->target;
    kiln_op op = (kiln_op)r->node->op;
    kiln_value x = kiln_mapped(rewrite, r->node->inputs[0]);
    x = kiln_add_reduce(target, op, x, n_trailing, trailing);
    return kiln_add_reduce(target, op, x, n_leading, leading);
}

static kiln_value split_long(kiln_rewrite *rewrite, const reduction *r)
{
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK], parts_axis = r->first;
    uint32_t rank, n_axes = 0;
    if (!is_worth_it(r) || !split_dims(r, &rank, dims)) return none;
    axes[n_axes++] = r->first + 1;
    for (uint32_t i = r->first + 1; i < r->operand->rank && !r->is_trailing; i++)
        if (r->is_reduced[i]) axes[n_axes++] = i + 1;
    kiln_graph *target = rewrite->target;
    kiln_op op = (kiln_op)r->node->op;
    kiln_value x = kiln_mapped(rewrite, r->node->inputs[0]);
    x = kiln_add_reduce(target, op, kiln_add_reshape(target, x, rank, dims), n_axes, axes);
    return kiln_add_reduce(target, op, x, 1, &parts_axis);
}

static kiln_value split_reduction(kiln_rewrite *rewrite, const kiln_node *node)
{
    reduction r;
    if (!find_reduction(rewrite, node, &r) || !may_split(rewrite, node)) return none;
    kiln_value value = split_mixed(rewrite, &r);
    return value.id ? value : split_long(rewrite, &r);
}

kiln_graph *kiln_pass_split(kiln_pipeline *pipeline, const kiln_graph *graph)
{
    return kiln_rewrite_sweep(pipeline, graph, split_reduction, NULL, NULL);
}
