/* Routines and indexed moves: orders and running values along an axis, gathers and scatters in full
 * generality, systems of equations. */
#include <string.h>

#include "fuzz/generate.h"
#include "graph/attrs.h"

bool fuzz_step_order(fuzz_graph *g)
{
    kiln_value x = fuzz_pick_in(g, KILN_TYPES_ORDERED);
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank == 0) return false;
    int64_t axis = (int64_t)fuzz_below(g, type->rank);
    bool is_number = kiln_dtype_in(type->dtype, KILN_TYPES_NUMBER);
    if (is_number && fuzz_chance(g, 50)) {
        static const kiln_op ops[] = {KILN_OP_cumulative_sum, KILN_OP_cumulative_prod,
                                      KILN_OP_cumulative_max, KILN_OP_cumulative_min};
        kiln_attrs attrs = {KILN_FAMILY_cumulative,
                            .cumulative = {axis, fuzz_chance(g, 30), fuzz_chance(g, 30)}};
        fuzz_node(g, ops[fuzz_below(g, 4)], 1, &x, &attrs);
        return true;
    }
    kiln_attrs attrs = {KILN_FAMILY_sort, .sort = {axis, fuzz_chance(g, 50)}};
    fuzz_node(g, fuzz_chance(g, 50) ? KILN_OP_sort : KILN_OP_argsort, 1, &x, &attrs);
    return true;
}

bool fuzz_step_barrier(fuzz_graph *g)
{
    kiln_value x = fuzz_pick(g);
    kiln_attrs attrs = {KILN_FAMILY_serial, .serial = {g->batch.graph->n_serials}};
    fuzz_node(g, KILN_OP_barrier, 1, &x, &attrs);
    return true;
}

bool fuzz_step_take_along(fuzz_graph *g)
{
    kiln_value x = fuzz_pick(g);
    const kiln_type *type = fuzz_type(g, x);
    int64_t dims[KILN_MAX_RANK];
    if (type->rank == 0 || type->n_elements == 0) return false;
    int64_t axis = (int64_t)fuzz_below(g, type->rank);
    memcpy(dims, type->dims, type->rank * sizeof *dims);
    dims[axis] = 1 + (int64_t)fuzz_below(g, 5);
    if (!fuzz_fits(g, type->rank, dims)) return false;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    kiln_dtype index = fuzz_chance(g, 50) ? KILN_i64 : KILN_i32;
    fuzz_node(g, KILN_OP_take_along, 2, (kiln_value[]){x, fuzz_input(g, index, type->rank, dims)},
              &attrs);
    return true;
}

/* Gather and scatter: which operand axes are shared with the indices (batch), dropped or walked by
 * the slices, and where the axes of the slices lie. */
typedef struct index_plan {
    int64_t slice_axes[KILN_MAX_RANK], dropped[KILN_MAX_RANK], batch[KILN_MAX_RANK],
        index_batch[KILN_MAX_RANK], map[KILN_MAX_RANK], sizes[KILN_MAX_RANK],
        index_dims[KILN_MAX_RANK], slice_dims[KILN_MAX_RANK];
    uint32_t n_slice_axes, n_dropped, n_batch, n_map, index_rank, slice_rank;
    int64_t index_axis;
} index_plan;

static void insert_dim(int64_t *dims, uint32_t *rank, uint32_t at, int64_t dim)
{
    memmove(dims + at + 1, dims + at, (*rank - at) * sizeof *dims);
    dims[at] = dim;
    ++*rank;
}

/* The roles of the operand's axes. Slice_dims gets the slices' own sizes only; those of the indices
 * are put between them by the caller. */
static void plan_axes(fuzz_graph *g, const kiln_type *type, index_plan *plan)
{
    for (uint32_t i = 0; i < type->rank; i++) {
        uint64_t role = fuzz_below(g, 10);
        plan->sizes[i] = type->dims[i] > 0;
        if (role < 2) {
            plan->batch[plan->n_batch++] = i;
            continue;
        }
        if (role < 5 && type->dims[i] > 0) {
            plan->dropped[plan->n_dropped++] = i;
        } else {
            plan->sizes[i] = fuzz_chance(g, 40)
                                 ? type->dims[i]
                                 : (int64_t)fuzz_below(g, (uint64_t)type->dims[i] + 1);
            plan->slice_dims[plan->n_slice_axes++] = plan->sizes[i];
        }
        bool is_moved = role < 5 || fuzz_chance(g, 40);
        if (!is_moved) continue;
        uint64_t at = fuzz_below(g, plan->n_map + 1);
        insert_dim(plan->map, &plan->n_map, (uint32_t)at, i);
    }
}

/* Dims of the indices: free ones, batch ones anywhere, the axis of the vectors anywhere. */
static void plan_indices(fuzz_graph *g, const kiln_type *type, index_plan *plan)
{
    uint32_t n_free = (uint32_t)fuzz_below(g, 3);
    int64_t owner[KILN_MAX_RANK];
    uint32_t n_owner = 0;
    for (uint32_t i = 0; i < n_free; i++) {
        insert_dim(plan->index_dims, &plan->index_rank, i,
                   fuzz_chance(g, 4) ? 0 : 1 + (int64_t)fuzz_below(g, 5));
        insert_dim(owner, &n_owner, i, -1);
    }
    for (uint32_t i = 0; i < plan->n_batch; i++) {
        uint32_t at = (uint32_t)fuzz_below(g, plan->index_rank + 1);
        insert_dim(plan->index_dims, &plan->index_rank, at, type->dims[plan->batch[i]]);
        insert_dim(owner, &n_owner, at, i);
    }
    plan->index_axis = plan->index_rank;
    if (plan->n_map != 1 || fuzz_chance(g, 50)) {
        uint32_t at = (uint32_t)fuzz_below(g, plan->index_rank + 1);
        insert_dim(plan->index_dims, &plan->index_rank, at, plan->n_map);
        insert_dim(owner, &n_owner, at, -1);
        plan->index_axis = at;
    }
    for (uint32_t i = 0; i < n_owner; i++) {
        if (owner[i] >= 0) plan->index_batch[owner[i]] = i;
    }
}

/* The dims of the slices, their own axes among those of the indices. */
static void plan_slices(fuzz_graph *g, index_plan *plan)
{
    int64_t own[KILN_MAX_RANK];
    uint32_t n_own = plan->n_slice_axes, next = 0, rest = plan->index_rank;
    memcpy(own, plan->slice_dims, sizeof own);
    if (plan->index_axis < plan->index_rank) rest--;
    uint32_t index = 0, rank = rest + n_own;
    for (uint32_t i = 0; i < rank; i++) {
        uint32_t left = rank - i;
        if (fuzz_below(g, left) < n_own - next) {
            plan->slice_axes[next] = i;
            plan->slice_dims[i] = own[next++];
            continue;
        }
        if (index == plan->index_axis) index++;
        plan->slice_dims[i] = plan->index_dims[index++];
    }
    plan->slice_rank = rank;
}

static bool plan_make(fuzz_graph *g, const kiln_type *type, index_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    if (type->rank == 0 || type->n_elements == 0) return false;
    plan_axes(g, type, plan);
    plan_indices(g, type, plan);
    plan_slices(g, plan);
    return plan->n_map > 0 && plan->slice_rank <= 6 &&
           fuzz_fits(g, plan->slice_rank, plan->slice_dims) &&
           fuzz_fits(g, plan->index_rank, plan->index_dims);
}

static kiln_value add_indices(fuzz_graph *g, const index_plan *plan)
{
    kiln_dtype dtype = fuzz_chance(g, 50) ? KILN_i64 : KILN_i32;
    return fuzz_input(g, dtype, plan->index_rank, plan->index_dims);
}

bool fuzz_step_gather(fuzz_graph *g)
{
    index_plan plan;
    kiln_value x = fuzz_pick(g);
    if (!plan_make(g, fuzz_type(g, x), &plan)) return false;
    kiln_attrs attrs = {KILN_FAMILY_gather, .gather = {{plan.n_slice_axes, plan.slice_axes},
                                                       {plan.n_dropped, plan.dropped},
                                                       {plan.n_batch, plan.batch},
                                                       {plan.n_batch, plan.index_batch},
                                                       {plan.n_map, plan.map},
                                                       plan.index_axis,
                                                       {fuzz_type(g, x)->rank, plan.sizes}}};
    fuzz_node(g, KILN_OP_gather, 2, (kiln_value[]){x, add_indices(g, &plan)}, &attrs);
    return true;
}

static kiln_attrs scatter_attrs(const index_plan *plan)
{
    return (kiln_attrs){KILN_FAMILY_scatter, .scatter = {{plan->n_slice_axes, plan->slice_axes},
                                                         {plan->n_dropped, plan->dropped},
                                                         {plan->n_batch, plan->batch},
                                                         {plan->n_batch, plan->index_batch},
                                                         {plan->n_map, plan->map},
                                                         plan->index_axis}};
}

/* The larger of pairs of a value and a number, which go to the same places. */
static void scatter_pairs(fuzz_graph *g, const kiln_value *in, const index_plan *plan)
{
    kiln_graph *graph = g->batch.graph;
    const kiln_type *values = fuzz_type(g, in[0]), *updates = fuzz_type(g, in[2]);
    const kiln_type *numbers = kiln_graph_tensor(graph, KILN_i32, values->rank, values->dims);
    const kiln_type *others = kiln_graph_tensor(graph, KILN_i32, updates->rank, updates->dims);
    kiln_dtype dtypes[] = {values->dtype, KILN_i32};
    const kiln_graph *region = fuzz_combination(g, 2, dtypes);
    kiln_attrs scatter = scatter_attrs(plan);
    kiln_attrs attrs = kiln_attrs_scatter_with(&scatter, (kiln_regions){1, &region});
    kiln_value all[] = {in[0], fuzz_operand(g, numbers), in[1], in[2], fuzz_operand(g, others)};
    fuzz_items(g, KILN_OP_scatter_with, 5, all, &attrs);
}

/* Regions that combine two scalars in any order alike: see steps_region.c. */
static kiln_value scatter_node(fuzz_graph *g, const kiln_value *in, const index_plan *plan)
{
    kiln_attrs attrs = scatter_attrs(plan);
    kiln_dtype dtype = fuzz_type(g, in[0])->dtype;
    bool is_number = kiln_dtype_in(dtype, KILN_TYPES_NUMBER);
    if (fuzz_chance(g, 30)) {
        const kiln_graph *region = fuzz_combination(g, 1, &dtype);
        kiln_attrs with = kiln_attrs_scatter_with(&attrs, (kiln_regions){1, &region});
        return fuzz_items(g, KILN_OP_scatter_with, 3, in, &with);
    }
    kiln_op op =
        (kiln_op[]){KILN_OP_scatter, KILN_OP_scatter_max, KILN_OP_scatter_min, KILN_OP_scatter_add,
                    KILN_OP_scatter_mul}[fuzz_below(g, is_number ? 5 : 3)];
    return fuzz_node(g, op, 3, in, &attrs);
}

bool fuzz_step_scatter(fuzz_graph *g)
{
    index_plan plan;
    kiln_value x = fuzz_pick_in(g, KILN_TYPES_ORDERED);
    const kiln_type *type = fuzz_type(g, x);
    if (kiln_dtype_bits(type->dtype) < 8 || !plan_make(g, type, &plan)) return false;
    const kiln_type *updates =
        kiln_graph_tensor(g->batch.graph, type->dtype, plan.slice_rank, plan.slice_dims);
    kiln_value in[] = {x, add_indices(g, &plan), fuzz_operand(g, updates)};
    if (updates->n_elements < 100 && fuzz_chance(g, 10))
        scatter_pairs(g, in, &plan);
    else
        scatter_node(g, in, &plan);
    return true;
}

/* A heavy diagonal: integers that no rounding touches, and eighths of small numbers beside it. */
static kiln_value add_heavy(fuzz_graph *g, kiln_dtype dtype, uint32_t rank, const int64_t *dims)
{
    kiln_graph *graph = g->batch.graph;
    kiln_value x = fuzz_small_input(g, dtype, rank, dims), at[2];
    const kiln_type *index = kiln_graph_tensor(graph, KILN_i32, rank, dims);
    for (uint32_t i = 0; i < 2; i++) {
        kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {rank - 2 + i}};
        at[i] = op_node_given(&g->batch, KILN_OP_iota, index, (kiln_value){0}, &attrs);
    }
    kiln_value small = kiln_add_binary(graph, KILN_OP_mul, x, kiln_add_splat_like(graph, x, 0.125));
    kiln_value in[] = {kiln_add_binary(graph, KILN_OP_eq, at[0], at[1]),
                       kiln_add_splat_like(graph, x, (double)dims[rank - 1] + 1), small};
    return fuzz_node(g, KILN_OP_select, 3, in, NULL);
}

bool fuzz_step_solve(fuzz_graph *g)
{
    static const kiln_dtype dtypes[] = {KILN_f32, KILN_f32, KILN_f64, KILN_bf16, KILN_f16};
    kiln_dtype dtype = dtypes[fuzz_below(g, 5)];
    int64_t n = (int64_t)fuzz_below(g, 20), dims[3] = {1 + (int64_t)fuzz_below(g, 3), n, n};
    uint32_t rank = 2 + fuzz_chance(g, 50);
    kiln_value a = add_heavy(g, dtype, rank, dims + (3 - rank));
    if (fuzz_chance(g, 35)) {
        fuzz_node(g, KILN_OP_cholesky, 1, &a, NULL);
        return true;
    }
    bool is_forward = fuzz_chance(g, 40), is_left = is_forward || fuzz_chance(g, 50);
    dims[is_left ? 2 : 1] = 1 + (int64_t)fuzz_below(g, 9);
    kiln_value in[] = {a, fuzz_small_input(g, dtype, rank, dims + (3 - rank))};
    kiln_attrs unit = {KILN_FAMILY_unit, .unit = {false}};
    kiln_attrs solve = {KILN_FAMILY_triangular,
                        .triangular = {is_left, fuzz_chance(g, 50), fuzz_chance(g, 50), false}};
    fuzz_node(g, is_forward ? KILN_OP_forward_solve : KILN_OP_triangular_solve, 2, in,
              is_forward ? &unit : &solve);
    return true;
}
