/* The evaluator of REDUCE and WINDOW nodes. Accumulators are doubles or 64-bit integers, one per
 * result element, folded in row-major order of the operand and rounded once at the end. */
#include <math.h>
#include <string.h>

#include "graph/eval.h"

kiln_eval_values kiln_eval_values_new(const kiln_eval_call *call, int64_t n)
{
    return (kiln_eval_values){.f = kiln_new_array(call->scratch, double, n)};
}

kiln_eval_values kiln_eval_load(const kiln_eval_call *call, uint32_t operand)
{
    const kiln_type *type = call->types[operand];
    const void *data = call->in[operand];
    kiln_eval_values values = kiln_eval_values_new(call, type->n_elements);
    if (kiln_eval_is_float(type)) {
        kiln_element_load_double(type->dtype, data, 0, type->n_elements, values.f);
    } else {
        kiln_element_load_int(type->dtype, data, 0, type->n_elements, values.i);
    }
    return values;
}

void kiln_eval_store(const kiln_eval_call *call, kiln_eval_values values, bool is_signed)
{
    const kiln_type *type = call->node->type;
    if (kiln_eval_is_float(type)) {
        kiln_element_store_double(type->dtype, call->out, 0, type->n_elements, values.f);
    } else {
        kiln_element_store_int(type->dtype, call->out, 0, type->n_elements, values.i, is_signed);
    }
}

typedef enum fold_kind { FOLD_SUM, FOLD_PROD, FOLD_MAX, FOLD_MIN } fold_kind;

static fold_kind fold_of(uint16_t op)
{
    static const uint8_t kinds[KILN_N_OPS] = {
        [KILN_OP_reduce_prod] = FOLD_PROD, [KILN_OP_window_prod] = FOLD_PROD,
        [KILN_OP_reduce_max] = FOLD_MAX,   [KILN_OP_window_max] = FOLD_MAX,
        [KILN_OP_reduce_min] = FOLD_MIN,   [KILN_OP_window_min] = FOLD_MIN,
        [KILN_OP_reduce_all] = FOLD_PROD, /* identity 1 */
    };
    return (fold_kind)kinds[op];
}

static double identity_float(fold_kind fold)
{
    static const double identities[] = {0, 1, -INFINITY, INFINITY};
    return identities[fold];
}

static uint64_t identity_int(fold_kind fold, kiln_eval_int kind)
{
    if (fold == FOLD_SUM || fold == FOLD_PROD) return fold == FOLD_PROD;
    if (kind.is_bool) return fold == FOLD_MIN;
    uint64_t top = UINT64_MAX >> (64 - kind.bits + kind.is_signed);
    uint64_t least = kind.is_signed ? ~top : 0;
    return fold == FOLD_MAX ? least : top;
}

/* Accumulators of the result, all identity. */
static kiln_eval_values accumulators(const kiln_eval_call *call)
{
    int64_t n = call->node->type->n_elements;
    kiln_eval_values acc = kiln_eval_values_new(call, n);
    fold_kind fold = fold_of(call->node->op);
    if (kiln_eval_is_float(call->types[0])) {
        for (int64_t i = 0; i < n; i++) acc.f[i] = identity_float(fold);
    } else {
        uint64_t value = identity_int(fold, kiln_eval_int_of(call->types[0]->dtype));
        for (int64_t i = 0; i < n; i++) acc.i[i] = value;
    }
    return acc;
}

/* Strides of the result over the operand's axes: 0 along the axes that are dropped. */
static void result_strides(const kiln_type *from, kiln_ints dropped, int64_t *out_strides)
{
    int64_t stride = 1;
    for (uint32_t axis = from->rank; axis-- > 0;) {
        bool is_dropped = false;
        for (uint32_t i = 0; i < dropped.n; i++) is_dropped |= dropped.at[i] == (int64_t)axis;
        out_strides[axis] = is_dropped ? 0 : stride;
        if (!is_dropped) stride *= from->dims[axis];
    }
}

/* acc[to + i * to_step] = fold(acc, in[from + i * from_step]) for n elements. */
typedef struct fold_run {
    const kiln_eval_scalar *scalar;
    kiln_eval_int kind;
    bool is_float;
    kiln_eval_values acc, in;
} fold_run;

static void fold_row(const fold_run *run, int64_t n, int64_t to, int64_t to_step, int64_t from,
                     int64_t from_step)
{
    if (run->is_float) {
        kiln_eval_binary_fn *step = run->scalar->binary;
        for (; n-- > 0; to += to_step, from += from_step) {
            run->acc.f[to] = step(run->acc.f[to], run->in.f[from]);
        }
    } else {
        kiln_eval_binary_int_fn *step = run->scalar->binary_int;
        for (; n-- > 0; to += to_step, from += from_step) {
            run->acc.i[to] = step(run->acc.i[to], run->in.i[from], &run->kind);
        }
    }
}

static fold_run fold_open(const kiln_eval_call *call)
{
    return (fold_run){&kiln_eval_scalars[call->node->op], kiln_eval_int_of(call->types[0]->dtype),
                      kiln_eval_is_float(call->types[0]), accumulators(call),
                      kiln_eval_load(call, 0)};
}

/* Folds a box of the operand into a box of the result; starts and strides in elements. */
static void fold_box(const fold_run *run, const kiln_eval_box *box)
{
    for (uint32_t i = 0; i < box->rank; i++) {
        if (box->dims[i] <= 0) return;
    }
    uint32_t last = box->rank ? box->rank - 1 : 0;
    int64_t n = box->rank ? box->dims[last] : 1;
    kiln_eval_walk walk = {.rank = last,
                           .dims = box->dims,
                           .strides = {box->to_strides, box->from_strides},
                           .offset = {box->to_start, box->from_start}};
    do {
        fold_row(run, n, walk.offset[0], box->rank ? box->to_strides[last] : 0, walk.offset[1],
                 box->rank ? box->from_strides[last] : 0);
    } while (kiln_eval_walk_next(&walk));
}

/* argmax and argmin: the best so far and its index, per result element. NaN beats everything; of
 * equals the first wins, or the last where asked. */
static bool is_better(const fold_run *run, bool is_max, bool last, const kiln_eval_values best,
                      int64_t at, int64_t from)
{
    if (run->is_float) {
        double a = run->in.f[from], b = best.f[at];
        if (isnan(b)) return last && isnan(a);
        return isnan(a) || (is_max ? a > b : a < b) || (last && a == b);
    }
    uint64_t a = run->in.i[from], b = best.i[at];
    if (a == b) return last;
    uint64_t is_less = kiln_eval_scalars[KILN_OP_lt].binary_int(a, b, &run->kind);
    return is_max ? !is_less : is_less != 0;
}

static void eval_arg(const kiln_eval_call *call)
{
    const kiln_type *from = call->types[0], *type = call->node->type;
    int64_t axis = call->node->attrs->arg.axis, strides[KILN_MAX_RANK];
    bool last = call->node->attrs->arg.last, is_max = call->node->op == KILN_OP_argmax;
    fold_run run = {.kind = kiln_eval_int_of(from->dtype),
                    .is_float = kiln_eval_is_float(from),
                    .in = kiln_eval_load(call, 0)};
    kiln_eval_values best = kiln_eval_values_new(call, type->n_elements);
    kiln_eval_values index = kiln_eval_values_new(call, type->n_elements); /* zeroed */
    result_strides(from, (kiln_ints){1, &axis}, strides);
    kiln_eval_walk walk = {.rank = from->rank, .dims = from->dims, .strides = {strides, NULL}};
    for (int64_t i = 0; i < from->n_elements; i++, kiln_eval_walk_next(&walk)) {
        int64_t to = walk.offset[0];
        if (walk.at[axis] != 0 && !is_better(&run, is_max, last, best, to, i)) continue;
        best.i[to] = run.in.i[i];
        index.i[to] = (uint64_t)walk.at[axis];
    }
    kiln_eval_store(call, index, true);
}

void kiln_eval_reduce(const kiln_eval_call *call)
{
    if (call->node->op == KILN_OP_argmax || call->node->op == KILN_OP_argmin) {
        eval_arg(call);
        return;
    }
    const kiln_type *from = call->types[0];
    int64_t to[KILN_MAX_RANK], in[KILN_MAX_RANK];
    fold_run run = fold_open(call);
    result_strides(from, call->node->attrs->axes.axes, to);
    kiln_eval_strides(from->rank, from->dims, in);
    fold_box(&run,
             &(kiln_eval_box){
                 .rank = from->rank, .dims = from->dims, .to_strides = to, .from_strides = in});
    kiln_eval_store(call, run.acc, run.kind.is_signed);
}

/* Result positions o of one axis with 0 <= o * stride + shift < dim: first and count. */
static int64_t window_range(int64_t n_out, int64_t stride, int64_t shift, int64_t dim,
                            int64_t *out_first)
{
    int64_t first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    int64_t room = dim - 1 - shift;
    int64_t last = room < 0 ? -1 : room / stride;
    if (last > n_out - 1) last = n_out - 1;
    *out_first = first;
    return last - first + 1;
}

/* Window offset by window offset: each one folds a strided box of the operand into a box of the
 * result. */
void kiln_eval_window(const kiln_eval_call *call)
{
    const kiln_type *from = call->types[0], *type = call->node->type;
    const kiln_attrs *attrs = call->node->attrs;
    uint32_t rank = type->rank;
    int64_t to[KILN_MAX_RANK], in[KILN_MAX_RANK], steps[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    fold_run run = fold_open(call);
    kiln_eval_strides(rank, type->dims, to);
    kiln_eval_strides(rank, from->dims, in);
    for (uint32_t i = 0; i < rank; i++) steps[i] = in[i] * attrs->window.strides.at[i];
    kiln_eval_walk offset = {.rank = rank, .dims = attrs->window.sizes.at};
    do {
        int64_t to_start = 0, from_start = 0;
        for (uint32_t i = 0; i < rank; i++) {
            int64_t shift = offset.at[i] * attrs->window.dilations.at[i] - attrs->window.low.at[i],
                    first;
            int64_t stride = attrs->window.strides.at[i];
            dims[i] = window_range(type->dims[i], stride, shift, from->dims[i], &first);
            to_start += first * to[i];
            from_start += (first * stride + shift) * in[i];
        }
        fold_box(&run, &(kiln_eval_box){.rank = rank,
                                        .dims = dims,
                                        .to_start = to_start,
                                        .to_strides = to,
                                        .from_start = from_start,
                                        .from_strides = steps});
    } while (kiln_eval_walk_next(&offset));
    kiln_eval_store(call, run.acc, run.kind.is_signed);
}
