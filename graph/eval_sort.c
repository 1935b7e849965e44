/* The evaluator of what runs along one axis: argsort (a merge sort of places) and the cumulative
 * ops, row by row. */
#include <math.h>
#include <string.h>

#include "graph/eval.h"

/* One row: element i is at start + i * stride. */
typedef struct row_walk {
    int64_t n, stride, n_rows;
} row_walk;

static row_walk rows_of(const kiln_type *type, int64_t axis)
{
    row_walk walk = {type->dims[axis], 1, 0};
    for (uint32_t i = (uint32_t)axis + 1; i < type->rank; i++) walk.stride *= type->dims[i];
    if (walk.n > 0) walk.n_rows = type->n_elements / walk.n;
    return walk;
}

static int64_t row_start(const row_walk *walk, int64_t row)
{
    return row / walk->stride * walk->stride * walk->n + row % walk->stride;
}

typedef struct sort_run {
    kiln_eval_values values;
    bool is_float, is_signed, is_descending;
    int64_t start, stride;
} sort_run;

/* Whether element a stands before b, both of the row; NaN is the largest. */
static bool is_before(const sort_run *run, int64_t a, int64_t b)
{
    int64_t x = run->start + a * run->stride, y = run->start + b * run->stride;
    if (run->is_descending) {
        int64_t swap = x;
        x = y;
        y = swap;
    }
    if (!run->is_float) {
        uint64_t p = run->values.i[x], q = run->values.i[y];
        return run->is_signed ? (int64_t)p < (int64_t)q : p < q;
    }
    double p = run->values.f[x], q = run->values.f[y];
    return isnan(q) ? !isnan(p) : p < q;
}

/* Merges runs of `width` places of `from` into `to`. */
static void merge_runs(const sort_run *run, int64_t n, int64_t width, const int64_t *from,
                       int64_t *to)
{
    for (int64_t low = 0; low < n; low += 2 * width) {
        int64_t middle = low + width < n ? low + width : n;
        int64_t high = low + 2 * width < n ? low + 2 * width : n;
        int64_t a = low, b = middle;
        for (int64_t i = low; i < high; i++) {
            bool is_right = a == middle || (b < high && is_before(run, from[b], from[a]));
            to[i] = is_right ? from[b++] : from[a++];
        }
    }
}

void kiln_eval_argsort(const kiln_eval_call *call)
{
    row_walk walk = rows_of(call->node->type, call->node->attrs->sort.axis);
    sort_run run = {kiln_eval_load(call, 0),
                    kiln_eval_is_float(call->types[0]),
                    kiln_eval_int_of(call->types[0]->dtype).is_signed,
                    call->node->attrs->sort.descending,
                    0,
                    walk.stride};
    int64_t *from = kiln_new_array(call->scratch, int64_t, walk.n + 1);
    int64_t *to = kiln_new_array(call->scratch, int64_t, walk.n + 1), *out = call->out;
    for (int64_t row = 0; row < walk.n_rows; row++) {
        run.start = row_start(&walk, row);
        for (int64_t i = 0; i < walk.n; i++) from[i] = i;
        for (int64_t width = 1; width < walk.n; width *= 2) {
            merge_runs(&run, walk.n, width, from, to);
            int64_t *swap = from;
            from = to;
            to = swap;
        }
        for (int64_t i = 0; i < walk.n; i++) out[run.start + i * walk.stride] = from[i];
    }
}

typedef struct scan_run {
    const kiln_eval_call *call;
    const kiln_eval_scalar *scalar;
    kiln_eval_values in, out;
    kiln_eval_int kind;
    bool is_float;
} scan_run;

/* The value before the first step: the empty sum, product, maximum or minimum. */
static void scan_identity(const scan_run *run, double *out_f, uint64_t *out_i)
{
    kiln_op op = (kiln_op)run->call->node->op;
    uint64_t top = (uint64_t)1 << (run->kind.bits - 1);
    uint64_t least = run->kind.is_signed ? 0 - top : 0;
    uint64_t most = run->kind.is_signed ? top - 1 : top - 1 + top;
    bool is_max = op == KILN_OP_cumulative_max, is_min = op == KILN_OP_cumulative_min;
    *out_f = is_max ? -INFINITY : is_min ? INFINITY : op == KILN_OP_cumulative_prod;
    *out_i = is_max ? least : is_min ? most : op == KILN_OP_cumulative_prod;
}

static void scan_row(const scan_run *run, const row_walk *walk, int64_t start)
{
    const kiln_attrs *attrs = run->call->node->attrs;
    double f;
    uint64_t i;
    scan_identity(run, &f, &i);
    for (int64_t step = 0; step < walk->n; step++) {
        int64_t at = attrs->cumulative.reverse ? walk->n - 1 - step : step;
        at = start + at * walk->stride;
        if (attrs->cumulative.exclusive) {
            if (run->is_float)
                run->out.f[at] = f;
            else
                run->out.i[at] = i;
        }
        if (run->is_float)
            f = run->scalar->binary(f, run->in.f[at]);
        else
            i = run->scalar->binary_int(i, run->in.i[at], &run->kind);
        if (attrs->cumulative.exclusive) continue;
        if (run->is_float)
            run->out.f[at] = f;
        else
            run->out.i[at] = i;
    }
}

void kiln_eval_cumulative(const kiln_eval_call *call)
{
    static const kiln_op steps[KILN_N_OPS] = {
        [KILN_OP_cumulative_sum] = KILN_OP_add,
        [KILN_OP_cumulative_prod] = KILN_OP_mul,
        [KILN_OP_cumulative_max] = KILN_OP_max,
        [KILN_OP_cumulative_min] = KILN_OP_min,
    };
    const kiln_type *type = call->node->type;
    row_walk walk = rows_of(type, call->node->attrs->cumulative.axis);
    scan_run run = {.call = call,
                    .scalar = &kiln_eval_scalars[steps[call->node->op]],
                    .in = kiln_eval_load(call, 0),
                    .out = kiln_eval_values_new(call, type->n_elements),
                    .kind = kiln_eval_int_of(type->dtype),
                    .is_float = kiln_eval_is_float(type)};
    for (int64_t row = 0; row < walk.n_rows; row++) scan_row(&run, &walk, row_start(&walk, row));
    kiln_eval_store(call, run.out, run.kind.is_signed);
}
