/* What passes and lowerings must agree on about single nodes: the matrix-product roles of a
 * dot_general's axes, the row space of a reduction, values seen through their views. */
#include "base/checked.h"
#include "passes/row_move.h"

#define MOST_K 65536 /* a block of rows of the first operand lies in the worker's scratch */

static bool ints_contain(kiln_ints list, int64_t value)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == value) return true;
    }
    return false;
}

/* Axes of a tensor of `rank` that are in neither list, ascending. */
static kiln_ints free_axes(kiln_arena *arena, uint32_t rank, kiln_ints a, kiln_ints b)
{
    int64_t *axes = kiln_new_array(arena, int64_t, rank + 1);
    uint32_t n = 0;
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (!ints_contain(a, axis) && !ints_contain(b, axis)) axes[n++] = axis;
    }
    return (kiln_ints){n, axes};
}

static kiln_ints axis_range(kiln_arena *arena, uint32_t first, uint32_t n)
{
    int64_t *axes = kiln_new_array(arena, int64_t, n + 1);
    for (uint32_t i = 0; i < n; i++) axes[i] = first + i;
    return (kiln_ints){n, axes};
}

static int64_t axes_size(const kiln_type *type, kiln_ints axes)
{
    int64_t size = 1;
    for (uint32_t i = 0; i < axes.n; i++) size *= type->dims[axes.at[i]];
    return size;
}

void kiln_dot_roles(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                    kiln_matmul_roles *out_roles)
{
    const kiln_node *node = kiln_graph_node(graph, dot);
    const kiln_type *a = kiln_graph_type(graph, node->inputs[0]);
    const kiln_type *b = kiln_graph_type(graph, node->inputs[1]);
    kiln_matmul_roles roles = {
        .a_batch = node->attrs->dot.lhs_batch,
        .a_k = node->attrs->dot.lhs_contract,
        .b_batch = node->attrs->dot.rhs_batch,
        .b_k = node->attrs->dot.rhs_contract,
    };
    roles.a_m = free_axes(arena, a->rank, roles.a_batch, roles.a_k);
    roles.b_n = free_axes(arena, b->rank, roles.b_batch, roles.b_k);
    roles.k = roles.a_k;
    roles.batch = axis_range(arena, 0, roles.a_batch.n);
    roles.m = axis_range(arena, roles.a_batch.n, roles.a_m.n);
    roles.n = axis_range(arena, roles.a_batch.n + roles.a_m.n, roles.b_n.n);
    roles.batch_size = axes_size(a, roles.a_batch);
    roles.m_size = axes_size(a, roles.a_m);
    roles.k_size = axes_size(a, roles.a_k);
    roles.n_size = axes_size(b, roles.b_n);
    *out_roles = roles;
}

#define OWN_LEAST_ROWS 512 /* that pass by a packed column pay for packing it within a tile */
#define OWN_MOST_ROWS 1024 /* more make tiles long, and a step that packs costs little */
#define OWN_LEAST_K 256
#define OWN_MOST_K 1024 /* longer panels leave the second cache room for few columns */
#define OWN_COLUMNS 384 /* of a thread: fewer read A for too little */
#define PANEL 16

bool kiln_dot_packs_itself(const kiln_matmul_roles *roles, uint32_t n_threads)
{
    int64_t threads = n_threads ? n_threads : 1;
    bool is_cut_evenly = roles->n_size % (PANEL * threads) == 0;
    return roles->batch_size == 1 && is_cut_evenly && roles->n_size / threads >= OWN_COLUMNS &&
           roles->m_size >= OWN_LEAST_ROWS && roles->m_size <= OWN_MOST_ROWS &&
           roles->k_size >= OWN_LEAST_K && roles->k_size <= OWN_MOST_K;
}

/* Sizes of a convolution as a product: pixels by taps and features. False where it is not one. */
static bool conv_sizes(const kiln_graph *graph, const kiln_node *node, kiln_matmul_roles *out_roles)
{
    const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
    const kiln_attrs *attrs = node->attrs;
    if (attrs->conv.groups != 1 || node->type->n_elements == 0) return false;
    for (uint32_t i = 0; i < attrs->conv.lhs_dilation.n; i++)
        if (attrs->conv.lhs_dilation.at[i] != 1) return false;
    out_roles->n_size = kernel->dims[attrs->conv.kernel_axes.at[0]];
    out_roles->k_size = kernel->n_elements / out_roles->n_size;
    out_roles->m_size = node->type->n_elements / out_roles->n_size;
    return true;
}

bool kiln_contraction_fits_tiles(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction,
                                 uint32_t n_parts)
{
    const kiln_node *node = kiln_graph_node(graph, contraction);
    kiln_value base = kiln_view_base(graph, node->inputs[1]);
    bool is_constant = kiln_graph_node(graph, base)->op == KILN_OP_constant;
    kiln_matmul_roles roles = {0};
    if (node->op == KILN_OP_convolution) {
        if (!is_constant || !conv_sizes(graph, node, &roles)) return false;
    } else {
        kiln_dot_roles(arena, graph, contraction, &roles);
    }
    if (roles.k_size < KILN_TILE_K || roles.k_size > MOST_K) return false;
    if (n_parts == 3) return roles.m_size >= 16 && roles.n_size >= 64;
    if (roles.n_size < 16 || roles.m_size * roles.n_size < 32) return false;
    return is_constant || roles.m_size >= 32;
}

bool kiln_reduce_row_space(const kiln_graph *graph, kiln_value reduce, kiln_row_space *out_space)
{
    const kiln_node *node = kiln_graph_node(graph, reduce);
    const kiln_type *type = kiln_graph_type(graph, node->inputs[0]);
    bool is_arg = kiln_node_row(node)->attrs == KILN_FAMILY_arg;
    kiln_ints one = {1, &node->attrs->arg.axis};
    kiln_ints axes = is_arg ? one : node->attrs->axes.axes;
    uint32_t n_rows = type->rank - axes.n;
    kiln_row_space space = {.type = type, .n_row_axes = n_rows, .rows = 1, .cols = 1};
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        if (ints_contain(axes, axis) != (axis >= n_rows)) return false;
        if (axis < n_rows)
            space.rows *= type->dims[axis];
        else
            space.cols *= type->dims[axis];
    }
    *out_space = space;
    return true;
}

kiln_value kiln_stored_value(const kiln_graph *graph, kiln_value value)
{
    while (kiln_graph_node(graph, value)->op == KILN_OP_reshape) {
        value = kiln_graph_node(graph, value)->inputs[0];
    }
    return value;
}

kiln_value kiln_view_base(const kiln_graph *graph, kiln_value value)
{
    while (kiln_node_row(kiln_graph_node(graph, value))->class_ == KILN_VIEW) {
        value = kiln_graph_node(graph, value)->inputs[0];
    }
    return value;
}
