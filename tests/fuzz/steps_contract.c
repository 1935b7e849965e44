/* Contractions: products over any axes with batches, convolutions of any layout. */
#include <string.h>

#include "fuzz/generate.h"

/* Products of narrow numbers may keep the dtype of their sums: i32 of bytes, and then i8 meets u8,
 * f32 of 16 bits; f64 now and then. The dtype of the other operand. */
static kiln_dtype pick_wide(fuzz_graph *g, kiln_dtype dtype, int64_t *out_wide, kiln_dtype *out_sum)
{
    bool is_byte = dtype == KILN_i8 || dtype == KILN_u8;
    *out_sum = kiln_dtype_accumulator(dtype);
    bool is_float = dtype == KILN_f32 || dtype == KILN_bf16 || dtype == KILN_f16;
    if (is_float && fuzz_chance(g, 8)) *out_sum = KILN_f64;
    *out_wide = (is_byte || *out_sum != dtype) && fuzz_chance(g, 50);
    if (!is_byte || !*out_wide) return dtype;
    *out_sum = KILN_i32;
    return fuzz_chance(g, 50) ? KILN_i8 : KILN_u8;
}

/* Each axis of a is shared (batch), summed or kept; b has the first two kinds and one of its own,
 * in an order of its own. */
typedef struct dot_plan {
    int64_t lhs_batch[KILN_MAX_RANK], rhs_batch[KILN_MAX_RANK], lhs_sum[KILN_MAX_RANK],
        rhs_sum[KILN_MAX_RANK], rhs[KILN_MAX_RANK];
    uint32_t n_batch, n_sum, n_rhs;
} dot_plan;

static void plan_axes(fuzz_graph *g, const kiln_type *type, dot_plan *plan)
{
    uint64_t always = fuzz_below(g, type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        uint64_t role = fuzz_below(g, 10);
        if (i == always || role == 9)
            plan->lhs_sum[plan->n_sum++] = i;
        else if (role < 2)
            plan->lhs_batch[plan->n_batch++] = i;
    }
}

/* The axes of b in a random order: those of a, and its own. */
static void plan_rhs(fuzz_graph *g, const kiln_type *type, dot_plan *plan)
{
    int64_t places[KILN_MAX_RANK];
    uint32_t n_own = fuzz_chance(g, 80) ? 1 : 2 * (uint32_t)fuzz_below(g, 2);
    plan->n_rhs = plan->n_batch + plan->n_sum + n_own;
    for (uint32_t i = 0; i < plan->n_rhs; i++) places[i] = i;
    for (uint32_t i = plan->n_rhs; i > 1 && fuzz_chance(g, 80); i--) {
        uint64_t other = fuzz_below(g, i);
        int64_t moved = places[i - 1];
        places[i - 1] = places[other];
        places[other] = moved;
    }
    for (uint32_t i = 0; i < plan->n_rhs; i++) {
        int64_t dim = 1 + (int64_t)fuzz_below(g, fuzz_chance(g, 60) ? 5 : 40);
        if (g->is_large && fuzz_chance(g, 80)) dim = fuzz_size(g);
        if (i < plan->n_batch) {
            plan->rhs_batch[i] = places[i];
            dim = type->dims[plan->lhs_batch[i]];
        } else if (i < plan->n_batch + plan->n_sum) {
            plan->rhs_sum[i - plan->n_batch] = places[i];
            dim = type->dims[plan->lhs_sum[i - plan->n_batch]];
        }
        plan->rhs[places[i]] = dim;
    }
}

bool fuzz_step_dot(fuzz_graph *g)
{
    kiln_value a = fuzz_pick_in(g, KILN_TYPES_ARITHMETIC);
    const kiln_type *type = fuzz_type(g, a);
    dot_plan plan = {.n_batch = 0};
    if (type->rank == 0) return false;
    plan_axes(g, type, &plan);
    plan_rhs(g, type, &plan);
    int64_t work = 1, result = 1; /* as if nothing were empty: sums of nothing fill results */
    for (uint32_t i = 0; i < type->rank; i++) work *= type->dims[i] > 0 ? type->dims[i] : 1;
    for (uint32_t i = 0; i < plan.n_rhs; i++) work *= plan.rhs[i] > 0 ? plan.rhs[i] : 1;
    for (uint32_t i = 0; i < plan.n_sum + plan.n_batch; i++) {
        int64_t axis = i < plan.n_sum ? plan.lhs_sum[i] : plan.lhs_batch[i - plan.n_sum];
        if (type->dims[axis] > 0) work /= type->dims[axis];
        if (i < plan.n_sum && type->dims[axis] > 0) result *= type->dims[axis];
    }
    result = work / result;
    uint32_t rank = type->rank - plan.n_sum + plan.n_rhs - plan.n_sum - plan.n_batch;
    int64_t most = g->is_large ? g->max_work : 200000;
    if (rank > 6 || work > most || result > g->max_elements) return false;
    if (!fuzz_fits(g, plan.n_rhs, plan.rhs)) return false;
    kiln_attrs attrs = {KILN_FAMILY_dot, .dot = {{plan.n_batch, plan.lhs_batch},
                                                 {plan.n_batch, plan.rhs_batch},
                                                 {plan.n_sum, plan.lhs_sum},
                                                 {plan.n_sum, plan.rhs_sum}}};
    kiln_dtype other = pick_wide(g, type->dtype, &attrs.dot.wide, &attrs.dot.accumulate);
    const kiln_type *rhs = kiln_graph_tensor(g->batch.graph, other, plan.n_rhs, plan.rhs);
    fuzz_node(g, KILN_OP_dot_general, 2, (kiln_value[]){a, fuzz_operand(g, rhs)}, &attrs);
    return true;
}

/* Which axis plays each role, and the other way round. */
static void pick_layout(fuzz_graph *g, uint32_t n, const int64_t *usual, int64_t *axes)
{
    for (uint32_t i = 0; i < n; i++) axes[i] = usual[i];
    if (!fuzz_chance(g, 20)) return;
    for (uint32_t i = n; i > 1; i--) {
        uint64_t other = fuzz_below(g, i);
        int64_t moved = axes[i - 1];
        axes[i - 1] = axes[other];
        axes[other] = moved;
    }
}

typedef struct conv_plan {
    int64_t input[5], kernel[5], output[5], dims[5], strides[3], low[3], high[3], lhs[3], rhs[3];
    int64_t groups, work;
    uint32_t n; /* spatial axes */
} conv_plan;

static void plan_layouts(fuzz_graph *g, conv_plan *plan)
{
    static const int64_t first[] = {0, 1, 2, 3, 4};
    static const int64_t last[3][5] = {{0, 2, 1}, {0, 3, 1, 2}, {0, 4, 1, 2, 3}};
    static const int64_t kernel_last[3][5] = {{2, 1, 0}, {3, 2, 0, 1}, {4, 3, 0, 1, 2}};
    uint32_t rank = plan->n + 2;
    bool is_last = fuzz_chance(g, 50);
    pick_layout(g, rank, is_last ? last[plan->n - 1] : first, plan->input);
    pick_layout(g, rank, is_last ? kernel_last[plan->n - 1] : first, plan->kernel);
    pick_layout(g, rank, is_last ? last[plan->n - 1] : first, plan->output);
}

/* Sizes, strides, padding and dilations of the spatial axes; false where the window is larger than
 * the padded image. */
static bool plan_windows(fuzz_graph *g, const kiln_type *type, conv_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        int64_t size = 1 + (int64_t)fuzz_below(g, 3), dim = type->dims[plan->input[i + 2]];
        plan->dims[plan->kernel[i + 2]] = size;
        plan->strides[i] = 1 + (int64_t)fuzz_below(g, 2);
        plan->low[i] = (int64_t)fuzz_below(g, 3);
        plan->high[i] = (int64_t)fuzz_below(g, 3);
        plan->lhs[i] = fuzz_chance(g, 85) ? 1 : 2;
        plan->rhs[i] = fuzz_chance(g, 85) ? 1 : 2;
        plan->work *= size;
        int64_t wide = dim > 0 ? (dim - 1) * plan->lhs[i] + 1 : 0;
        if (wide + plan->low[i] + plan->high[i] < (size - 1) * plan->rhs[i] + 1) return false;
    }
    return true;
}

/* A small image of its own or one there is. */
bool fuzz_step_convolution(fuzz_graph *g)
{
    kiln_value x = fuzz_pick_in(g, KILN_TYPES_NUMBER);
    conv_plan plan = {.n = fuzz_chance(g, 75) ? 2 : 1 + 2 * (uint32_t)fuzz_below(g, 2)};
    if (fuzz_type(g, x)->rank != plan.n + 2) {
        int64_t dims[5];
        for (uint32_t i = 0; i < plan.n + 2; i++) dims[i] = 1 + (int64_t)fuzz_below(g, 9);
        dims[0] = 1 + (int64_t)fuzz_below(g, 2);
        if (!fuzz_fits(g, plan.n + 2, dims)) return false;
        x = fuzz_input(g, fuzz_type(g, x)->dtype, plan.n + 2, dims);
    }
    const kiln_type *type = fuzz_type(g, x);
    plan_layouts(g, &plan);
    int64_t features = type->dims[plan.input[1]];
    if (features == 0) return false;
    plan.groups = fuzz_chance(g, 70) ? 1 : fuzz_chance(g, 60) ? features : features % 2 ? 1 : 2;
    int64_t results = plan.groups * (1 + (int64_t)fuzz_below(g, plan.groups > 1 ? 2 : 18));
    plan.work = type->n_elements * results;
    if (!plan_windows(g, type, &plan) || plan.work > 300000) return false;
    plan.dims[plan.kernel[0]] = results;
    plan.dims[plan.kernel[1]] = features / plan.groups;
    uint32_t n = plan.n, rank = n + 2;
    kiln_attrs attrs = {KILN_FAMILY_conv, .conv = {{n, plan.strides},
                                                   {n, plan.low},
                                                   {n, plan.high},
                                                   {n, plan.lhs},
                                                   {n, plan.rhs},
                                                   plan.groups,
                                                   {rank, plan.input},
                                                   {rank, plan.kernel},
                                                   {rank, plan.output}}};
    kiln_dtype other = pick_wide(g, type->dtype, &attrs.conv.wide, &attrs.conv.accumulate);
    const kiln_type *kernel = kiln_graph_tensor(g->batch.graph, other, rank, plan.dims);
    fuzz_node(g, KILN_OP_convolution, 2, (kiln_value[]){x, fuzz_operand(g, kernel)}, &attrs);
    return true;
}
