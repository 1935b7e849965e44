/* Views while lowering: the index of the operand from the index of the result, and strides through
 * a chain of views. A reshape is factored into groups of axes of equal product, so that untouched
 * axes map directly and only true splits and merges cost arithmetic. */
#include "codegen/lower.h"

#include "base/checked.h"
#include "kiln/program.h"

/* The next groups of axes of `a` and `b` with the same product: from *i and *j on, to *i_end,
 * *j_end. Axes of 1 go with the group they stand in. */
typedef struct axis_groups {
    const kiln_type *a, *b;
    uint32_t i, i_end, j, j_end;
} axis_groups;

static bool next_groups(axis_groups *g)
{
    g->i = g->i_end;
    g->j = g->j_end;
    if (g->i == g->a->rank && g->j == g->b->rank) return false;
    int64_t left = g->i_end < g->a->rank ? g->a->dims[g->i_end++] : 1;
    int64_t right = g->j_end < g->b->rank ? g->b->dims[g->j_end++] : 1;
    while (left != right) {
        if (left < right && g->i_end < g->a->rank)
            left *= g->a->dims[g->i_end++];
        else if (g->j_end < g->b->rank)
            right *= g->b->dims[g->j_end++];
        else
            break;
    }
    while (g->i_end < g->a->rank && g->a->dims[g->i_end] == 1) g->i_end++;
    while (g->j_end < g->b->rank && g->b->dims[g->j_end] == 1) g->j_end++;
    return true;
}

static void view_reshape(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                         kiln_index *out)
{
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    axis_groups g = {.a = node->type, .b = operand};
    if (operand->n_elements == 0) {
        for (uint32_t j = 0; j < operand->rank; j++) out->axis[j] = kiln_axis_zero(lower);
        return;
    }
    while (next_groups(&g)) {
        int64_t strides[KILN_MAX_RANK], stride = 1;
        for (uint32_t i = g.i_end; i-- > g.i;) {
            strides[i] = stride;
            stride *= node->type->dims[i];
        }
        kiln_axis_sum sum = {g.i_end - g.i, index->axis + g.i, node->type->dims + g.i,
                             strides + g.i, 0};
        kiln_axis_index linear = kiln_lower_sum(lower, &sum);
        if (linear.extent == 0 && linear.divide <= 1) linear.extent = stride;
        kiln_lower_delinearize(lower, linear, g.j_end - g.j, operand->dims + g.j, out->axis + g.j);
    }
}

static void view_broadcast(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                           kiln_index *out)
{
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    const int64_t *axes = node->attrs->axes.axes.at;
    for (uint32_t i = 0; i < operand->rank; i++)
        out->axis[i] = operand->dims[i] == 1 ? kiln_axis_zero(lower) : index->axis[axes[i]];
}

static void view_transpose(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                           kiln_index *out)
{
    (void)lower;
    const int64_t *permutation = node->attrs->permutation.permutation.at;
    for (uint32_t i = 0; i < index->rank; i++) out->axis[permutation[i]] = index->axis[i];
}

static void view_slice(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                       kiln_index *out)
{
    const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
    for (uint32_t i = 0; i < index->rank; i++) {
        int64_t start = node->attrs->slice.starts.at[i], stride = node->attrs->slice.strides.at[i];
        out->axis[i] = kiln_axis_affine(lower, &index->axis[i], stride, start);
        if (start != 0 || stride != 1) out->axis[i].extent = operand->dims[i];
    }
}

static void view_reverse(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                         kiln_index *out)
{
    for (uint32_t i = 0; i < index->rank; i++) out->axis[i] = index->axis[i];
    for (uint32_t i = 0; i < node->attrs->axes.axes.n; i++) {
        uint32_t axis = (uint32_t)node->attrs->axes.axes.at[i];
        int64_t dim = node->type->dims[axis];
        if (dim == 1) continue;
        out->axis[axis] = kiln_axis_affine(lower, &index->axis[axis], -1, dim - 1);
        out->axis[axis].extent = dim;
    }
}

typedef void view_fn(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                     kiln_index *out);

static view_fn *const view_rows[KILN_N_OPS] = {
    [KILN_OP_broadcast] = view_broadcast, [KILN_OP_reshape] = view_reshape,
    [KILN_OP_transpose] = view_transpose, [KILN_OP_slice] = view_slice,
    [KILN_OP_reverse] = view_reverse,
};

void kiln_lower_view(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                     kiln_index *out_index)
{
    if (!view_rows[node->op])
        kiln_fail(lower->scope, KILN_INTERNAL, "lower: %s is no view; expected one",
                  kiln_node_row(node)->name);
    out_index->rank = kiln_graph_type(lower->graph, node->inputs[0])->rank;
    view_rows[node->op](lower, node, index, out_index);
}

/* Strides of the result of a reshape, where its axes walk the operand's memory evenly. */
static bool strided_reshape(const kiln_type *from, const kiln_type *to, kiln_strided *s)
{
    int64_t out[KILN_MAX_RANK] = {0};
    axis_groups g = {.a = from, .b = to};
    if (from->n_elements == 0) return false;
    while (next_groups(&g)) {
        int64_t stride = 0, expected = 0;
        bool is_first = true;
        for (uint32_t i = g.i_end; i-- > g.i;) {
            if (from->dims[i] == 1) continue;
            if (is_first) stride = s->strides[i];
            if (!is_first && s->strides[i] != expected) return false;
            expected = s->strides[i] * from->dims[i];
            is_first = false;
        }
        for (uint32_t j = g.j_end; j-- > g.j;) {
            out[j] = stride;
            stride *= to->dims[j];
        }
    }
    memcpy(s->strides, out, sizeof out);
    return true;
}

typedef bool strided_fn(const kiln_type *from, const kiln_node *node, const kiln_strided *old,
                        kiln_strided *s);

static bool strided_of_reshape(const kiln_type *from, const kiln_node *node,
                               const kiln_strided *old, kiln_strided *s)
{
    (void)old;
    return strided_reshape(from, node->type, s);
}

static bool strided_broadcast(const kiln_type *from, const kiln_node *node, const kiln_strided *old,
                              kiln_strided *s)
{
    memset(s->strides, 0, sizeof s->strides);
    for (uint32_t i = 0; i < from->rank; i++)
        if (from->dims[i] != 1) s->strides[node->attrs->axes.axes.at[i]] = old->strides[i];
    return true;
}

static bool strided_transpose(const kiln_type *from, const kiln_node *node, const kiln_strided *old,
                              kiln_strided *s)
{
    for (uint32_t i = 0; i < from->rank; i++)
        s->strides[i] = old->strides[node->attrs->permutation.permutation.at[i]];
    return true;
}

static bool strided_slice(const kiln_type *from, const kiln_node *node, const kiln_strided *old,
                          kiln_strided *s)
{
    for (uint32_t i = 0; i < from->rank; i++) {
        s->origin += old->strides[i] * node->attrs->slice.starts.at[i];
        s->strides[i] = old->strides[i] * node->attrs->slice.strides.at[i];
    }
    return true;
}

static bool strided_reverse(const kiln_type *from, const kiln_node *node, const kiln_strided *old,
                            kiln_strided *s)
{
    for (uint32_t i = 0; i < node->attrs->axes.axes.n; i++) {
        int64_t axis = node->attrs->axes.axes.at[i];
        s->origin += old->strides[axis] * (from->dims[axis] - 1);
        s->strides[axis] = -old->strides[axis];
    }
    return true;
}

static strided_fn *const strided_rows[KILN_N_OPS] = {
    [KILN_OP_broadcast] = strided_broadcast, [KILN_OP_reshape] = strided_of_reshape,
    [KILN_OP_transpose] = strided_transpose, [KILN_OP_slice] = strided_slice,
    [KILN_OP_reverse] = strided_reverse,
};

static bool is_on_constant(const kiln_graph *graph, kiln_value value)
{
    return kiln_graph_node(graph, kiln_view_base(graph, value))->op == KILN_OP_constant;
}

/* The first operand of an elementwise node that is no constant. */
static kiln_value main_operand(const kiln_graph *graph, const kiln_node *node)
{
    uint32_t i = 0;
    while (i + 1 < node->n_inputs && is_on_constant(graph, node->inputs[i])) i++;
    return node->inputs[i];
}

static bool find_strided(const kiln_lower *lower, kiln_value node, bool is_under,
                         kiln_strided *out_strided)
{
    kiln_vec(const kiln_node *) chain = {0};
    kiln_value at = node;
    while (kiln_lower_input(lower, at) == KILN_NONE) {
        const kiln_node *step = kiln_graph_node(lower->graph, at);
        kiln_class class_ = kiln_node_row(step)->class_;
        if (is_under && class_ == KILN_ELEMENTWISE) {
            at = main_operand(lower->graph, step);
            continue;
        }
        if (class_ != KILN_VIEW) return false;
        kiln_vec_push(&chain, &lower->scope->arena, step);
        at = step->inputs[0];
    }
    *out_strided = (kiln_strided){.input = kiln_lower_input(lower, at)};
    const kiln_place *place = lower->place_of[out_strided->input];
    if (!place->strides) return false;
    out_strided->origin = place->origin;
    for (uint32_t i = 0; i < kiln_graph_type(lower->graph, at)->rank; i++)
        out_strided->strides[i] = place->strides[i];
    for (uint32_t i = chain.n; i-- > 0;) {
        const kiln_type *from = kiln_graph_type(lower->graph, chain.at[i]->inputs[0]);
        const kiln_strided old = *out_strided;
        if (!strided_rows[chain.at[i]->op](from, chain.at[i], &old, out_strided)) return false;
    }
    return true;
}

bool kiln_lower_strided(const kiln_lower *lower, kiln_value node, kiln_strided *out_strided)
{
    return find_strided(lower, node, false, out_strided);
}

bool kiln_lower_strided_under(const kiln_lower *lower, kiln_value node, kiln_strided *out_strided)
{
    return find_strided(lower, node, true, out_strided);
}
