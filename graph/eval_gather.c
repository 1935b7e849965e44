/* The evaluator of gather and the scatters: element by element, in row-major order of the slices.
 */
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

void kiln_eval_scatter(const kiln_eval_call *call)
{
    static const kiln_op combining[KILN_N_OPS] = {
        [KILN_OP_scatter_add] = KILN_OP_add,
        [KILN_OP_scatter_mul] = KILN_OP_mul,
        [KILN_OP_scatter_max] = KILN_OP_max,
        [KILN_OP_scatter_min] = KILN_OP_min,
    };
    gather_run run;
    const kiln_type *type = call->node->type, *updates = call->types[2];
    size_t element = kiln_dtype_bytes(type->dtype);
    kiln_op op = combining[call->node->op];
    kiln_eval_walk walk = {.rank = updates->rank, .dims = updates->dims};
    if (type->bytes) memcpy(call->out, call->in[0], (size_t)type->bytes);
    if (updates->n_elements == 0) return;
    gather_open(&run, call, updates);
    for (int64_t i = 0; i < updates->n_elements; i++) {
        int64_t to = element_of(&run, walk.at, false);
        if (to >= 0 && op)
            combine(call, op, to, i);
        else if (to >= 0)
            memcpy((char *)call->out + (size_t)to * element,
                   (const char *)call->in[2] + (size_t)i * element, element);
        kiln_eval_walk_next(&walk);
    }
}

void kiln_eval_scatter_places(const kiln_eval_call *call, int64_t *out_places)
{
    gather_run run;
    const kiln_type *updates = call->types[2];
    kiln_eval_walk walk = {.rank = updates->rank, .dims = updates->dims};
    if (updates->n_elements == 0) return;
    gather_open(&run, call, updates);
    for (int64_t i = 0; i < updates->n_elements; i++) {
        out_places[i] = element_of(&run, walk.at, false);
        kiln_eval_walk_next(&walk);
    }
}
