/* The evaluator of gather and the scatters: element by element; scatters in row-major order of the
 * index vectors, the elements of each one's block in theirs. */
#include <string.h>

#include "graph/eval.h"
#include "graph/gather.h"

typedef struct gather_run {
    const kiln_eval_call *call;
    const kiln_type *operand, *indices, *slice;
    const void *index_data;
    kiln_gather_plan plan;
    int64_t strides[KILN_MAX_RANK], index_strides[KILN_MAX_RANK];
} gather_run;

static void gather_open(gather_run *run, const kiln_eval_call *call, const kiln_type *slice)
{
    run->call = call;
    run->operand = call->types[0];
    run->indices = call->types[1];
    run->slice = slice;
    run->index_data = call->in[1];
    kiln_gather_plan_make(call->node->attrs, run->operand, run->indices, slice, &run->plan);
    kiln_eval_strides(run->operand->rank, run->operand->dims, run->strides);
    kiln_eval_strides(run->indices->rank, run->indices->dims, run->index_strides);
}

/* Component `component` of the index vector of slice element `at`, kept within low … high. */
static int64_t start_at(const gather_run *run, const int64_t *at, uint32_t component,
                        const int64_t *bounds)
{
    int64_t place = 0;
    uint64_t value;
    for (uint32_t i = 0; i < run->indices->rank; i++) {
        int32_t axis = run->plan.walk[i];
        place += (axis < 0 ? (int64_t)component : at[axis]) * run->index_strides[i];
    }
    kiln_element_load_int(run->indices->dtype, run->index_data, place, 1, &value);
    bool is_signed = kiln_eval_int_of(run->indices->dtype).is_signed;
    if (is_signed && (int64_t)value < bounds[0]) return bounds[0];
    if ((is_signed && (int64_t)value < 0) || value <= (uint64_t)bounds[1]) return (int64_t)value;
    return bounds[1];
}

/* The operand's element that slice element `at` is about; -1 when it is outside. */
static int64_t element_of(const gather_run *run, const int64_t *at, bool is_clamped)
{
    const kiln_gather_plan *plan = &run->plan;
    int64_t linear = 0;
    for (uint32_t i = 0; i < plan->rank; i++) {
        int64_t dim = run->operand->dims[i], size = plan->sizes[i], index = 0;
        int64_t bounds[2] = {is_clamped ? 0 : -size, is_clamped ? dim - size : dim};
        if (plan->component[i] >= 0)
            index = start_at(run, at, (uint32_t)plan->component[i], bounds);
        if (plan->batch[i] >= 0) index = at[plan->batch[i]];
        if (plan->offset[i] >= 0) index += at[plan->offset[i]];
        if (index < 0 || index >= dim) return -1;
        linear += index * run->strides[i];
    }
    return linear;
}

void kiln_eval_gather(const kiln_eval_call *call)
{
    gather_run run;
    const kiln_type *type = call->node->type;
    size_t element = kiln_dtype_bytes(type->dtype);
    kiln_eval_walk walk = {.rank = type->rank, .dims = type->dims};
    if (type->n_elements == 0) return;
    gather_open(&run, call, type);
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t from = element_of(&run, walk.at, true);
        memcpy((char *)call->out + (size_t)i * element,
               (const char *)call->in[0] + (size_t)from * element, element);
        kiln_eval_walk_next(&walk);
    }
}

/* out[to] = out[to] op update[from], rounded to the dtype. */
static void combine(const kiln_eval_call *call, kiln_op op, int64_t to, int64_t from)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[op];
    kiln_dtype dtype = call->node->type->dtype, part = kiln_dtype_part(dtype);
    int n = part == dtype ? 1 : 2; /* sums of complex numbers are sums of their parts */
    if (n == 2 || kiln_eval_is_float(call->node->type)) {
        double a[2], b[2];
        kiln_element_load_double(part, call->out, n * to, n, a);
        kiln_element_load_double(part, call->in[2], n * from, n, b);
        for (int i = 0; i < n; i++) a[i] = scalar->binary(a[i], b[i]);
        kiln_element_store_double(part, call->out, n * to, n, a);
        return;
    }
    uint64_t a, b;
    kiln_eval_int kind = kiln_eval_int_of(dtype);
    kiln_element_load_int(dtype, call->out, to, 1, &a);
    kiln_element_load_int(dtype, call->in[2], from, 1, &b);
    a = scalar->binary_int(a, b, &kind);
    kiln_element_store_int(dtype, call->out, to, 1, &a, kind.is_signed);
}

/* Walks the updates with the axes of the index vectors before those of the blocks. */
typedef struct updates_walk {
    kiln_eval_walk walk; /* offset[0]: the element of the updates */
    int64_t dims[KILN_MAX_RANK], strides[KILN_MAX_RANK];
    uint32_t axes[KILN_MAX_RANK]; /* of the updates, in the order they are walked in */
} updates_walk;

static void updates_open(updates_walk *out, const kiln_type *updates, kiln_ints window_axes)
{
    int64_t strides[KILN_MAX_RANK];
    uint32_t is_window = 0, n = 0;
    for (uint32_t i = 0; i < window_axes.n; i++) is_window |= 1u << window_axes.at[i];
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < updates->rank; i++) {
            if ((is_window >> i & 1) == pass) out->axes[n++] = i;
        }
    }
    kiln_eval_strides(updates->rank, updates->dims, strides);
    for (uint32_t i = 0; i < n; i++) {
        out->dims[i] = updates->dims[out->axes[i]];
        out->strides[i] = strides[out->axes[i]];
    }
    out->walk = (kiln_eval_walk){.rank = n, .dims = out->dims, .strides = {out->strides}};
}

void kiln_eval_scatter_places(const kiln_eval_call *call, int64_t *out_places, int64_t *out_from)
{
    gather_run run;
    updates_walk order;
    const kiln_type *updates = call->types[2];
    int64_t at[KILN_MAX_RANK];
    if (updates->n_elements == 0) return;
    gather_open(&run, call, updates);
    updates_open(&order, updates, call->node->attrs->scatter.window_axes);
    for (int64_t i = 0; i < updates->n_elements; i++) {
        for (uint32_t axis = 0; axis < updates->rank; axis++)
            at[order.axes[axis]] = order.walk.at[axis];
        out_from[i] = order.walk.offset[0];
        out_places[i] = element_of(&run, at, false);
        kiln_eval_walk_next(&order.walk);
    }
}

void kiln_eval_scatter(const kiln_eval_call *call)
{
    static const kiln_op combining[KILN_N_OPS] = {
        [KILN_OP_scatter_add] = KILN_OP_add,
        [KILN_OP_scatter_mul] = KILN_OP_mul,
        [KILN_OP_scatter_max] = KILN_OP_max,
        [KILN_OP_scatter_min] = KILN_OP_min,
    };
    const kiln_type *type = call->node->type, *updates = call->types[2];
    kiln_op op = combining[call->node->op];
    int64_t *places = kiln_new_array(call->scratch, int64_t, updates->n_elements + 1);
    int64_t *from = kiln_new_array(call->scratch, int64_t, updates->n_elements + 1);
    for (int64_t i = 0; i < type->n_elements; i++)
        kiln_element_copy(type->dtype, call->out, i, call->in[0], i);
    kiln_eval_scatter_places(call, places, from);
    for (int64_t i = 0; i < updates->n_elements; i++) {
        if (places[i] >= 0 && op)
            combine(call, op, places[i], from[i]);
        else if (places[i] >= 0)
            kiln_element_copy(type->dtype, call->out, places[i], call->in[2], from[i]);
    }
}
