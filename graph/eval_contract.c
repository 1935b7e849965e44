/* The evaluator of contractions. Operands are gathered into plain row-major arrays of working
 * elements; sums are doubles or wrapping 64-bit integers, rounded once (integers wrap to the
 * accumulation dtype first). Loops are naive. */
#include "graph/eval.h"

/* The operand as working elements with axes in the order `axes`. */
static kiln_eval_values gather_axes(const kiln_eval_call *call, uint32_t operand,
                                    const int64_t *axes)
{
    const kiln_type *type = call->types[operand];
    kiln_eval_values plain = kiln_eval_load(call, operand);
    kiln_eval_values moved = kiln_eval_values_new(call, type->n_elements);
    int64_t natural[KILN_MAX_RANK], dims[KILN_MAX_RANK], from[KILN_MAX_RANK], to[KILN_MAX_RANK];
    kiln_eval_strides(type->rank, type->dims, natural);
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = type->dims[axes[i]];
        from[i] = natural[axes[i]];
    }
    kiln_eval_strides(type->rank, dims, to);
    kiln_eval_copy(
        &(kiln_eval_box){type->rank, dims, sizeof(double), moved.f, 0, to, plain.f, 0, from});
    return moved;
}

/* Wraps integer sums to the accumulation dtype before the result's dtype takes them. */
static void wrap_sums(kiln_dtype accumulate, kiln_eval_values sums, int64_t n)
{
    kiln_dtype_kind kind = kiln_dtype_kind_of(accumulate);
    if (kind != KILN_DTYPE_KIND_INT && kind != KILN_DTYPE_KIND_UINT) return;
    for (int64_t i = 0; i < n; i++) {
        uint64_t wrapped = 0;
        kiln_element_store_int(accumulate, &wrapped, 0, 1, &sums.i[i], kind == KILN_DTYPE_KIND_INT);
        kiln_element_load_int(accumulate, &wrapped, 0, 1, &sums.i[i]);
    }
}

static void store_sums(const kiln_eval_call *call, kiln_dtype accumulate, kiln_eval_values sums)
{
    bool is_signed = kiln_eval_int_of(call->types[0]->dtype).is_signed;
    if (!kiln_eval_is_float(call->types[0])) {
        wrap_sums(accumulate, sums, call->node->type->n_elements);
        is_signed = kiln_eval_int_of(accumulate).is_signed;
    }
    kiln_eval_store(call, sums, is_signed);
}

/* Appends the axes below rank that are in neither list; returns how many. */
static uint32_t free_axes(uint32_t rank, kiln_ints a, kiln_ints b, int64_t *out_axes)
{
    uint32_t n = 0;
    for (uint32_t axis = 0; axis < rank; axis++) {
        bool is_taken = false;
        for (uint32_t i = 0; i < a.n; i++) is_taken |= a.at[i] == (int64_t)axis;
        for (uint32_t i = 0; i < b.n; i++) is_taken |= b.at[i] == (int64_t)axis;
        if (!is_taken) out_axes[n++] = axis;
    }
    return n;
}

static int64_t product_over(const kiln_type *type, const int64_t *axes, uint32_t n)
{
    int64_t product = 1;
    for (uint32_t i = 0; i < n; i++) product *= type->dims[axes[i]];
    return product;
}

/* One operand of dot_general as [batch][free][contracted]. */
typedef struct dot_side {
    kiln_eval_values values;
    int64_t batch, free, contract;
} dot_side;

static dot_side dot_gather(const kiln_eval_call *call, uint32_t operand, kiln_ints batch,
                           kiln_ints contract)
{
    const kiln_type *type = call->types[operand];
    int64_t axes[KILN_MAX_RANK];
    for (uint32_t i = 0; i < batch.n; i++) axes[i] = batch.at[i];
    uint32_t n_free = free_axes(type->rank, batch, contract, axes + batch.n);
    for (uint32_t i = 0; i < contract.n; i++) axes[batch.n + n_free + i] = contract.at[i];
    return (dot_side){gather_axes(call, operand, axes), product_over(type, axes, batch.n),
                      product_over(type, axes + batch.n, n_free),
                      product_over(type, contract.at, contract.n)};
}

static double dot_float(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static uint64_t dot_int(const uint64_t *a, const uint64_t *b, int64_t n)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void eval_dot(const kiln_eval_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    dot_side a = dot_gather(call, 0, attrs->dot.lhs_batch, attrs->dot.lhs_contract);
    dot_side b = dot_gather(call, 1, attrs->dot.rhs_batch, attrs->dot.rhs_contract);
    kiln_eval_values sums = kiln_eval_values_new(call, call->node->type->n_elements);
    bool is_float = kiln_eval_is_float(call->types[0]);
    int64_t k = a.contract, to = 0;
    for (int64_t row = 0; row < a.batch * a.free; row++) {
        int64_t first = row / a.free * b.free;
        for (int64_t column = first; column < first + b.free; column++, to++) {
            if (is_float)
                sums.f[to] = dot_float(a.values.f + row * k, b.values.f + column * k, k);
            else
                sums.i[to] = dot_int(a.values.i + row * k, b.values.i + column * k, k);
        }
    }
    store_sums(call, attrs->dot.accumulate, sums);
}

/* A convolution in the order [batch][out feature][spatial…], [batch][in feature][spatial…] and
 * [out feature][in feature of a group][spatial…]. */
typedef struct conv_run {
    const kiln_eval_call *call;
    bool is_float;
    uint32_t n_spatial;
    int64_t in_dims[KILN_MAX_RANK], kernel_dims[KILN_MAX_RANK], out_dims[KILN_MAX_RANK];
    int64_t in_strides[KILN_MAX_RANK], out_strides[KILN_MAX_RANK]; /* spatial */
    int64_t n_in, n_kernel, n_out;                                 /* spatial elements */
    kiln_eval_values in, kernel, sums;
} conv_run;

/* One axis at one kernel position: the results that see an element are those from `first` in steps
 * of `step`, `count` of them; the element of the first is `from`, the next is `from_step` on. */
typedef struct conv_axis {
    int64_t first, step, count, from, from_step;
} conv_axis;

static conv_axis conv_axis_at(const conv_run *run, uint32_t axis, int64_t kernel_at)
{
    const kiln_attrs *attrs = run->call->node->attrs;
    int64_t stride = attrs->conv.strides.at[axis], dilation = attrs->conv.lhs_dilation.at[axis];
    int64_t shift = kernel_at * attrs->conv.rhs_dilation.at[axis] - attrs->conv.low.at[axis];
    int64_t extent = run->in_dims[axis] ? (run->in_dims[axis] - 1) * dilation + 1 : 0;
    conv_axis result = {0};
    int64_t second = -1;
    for (int64_t o = 0; o < run->out_dims[axis]; o++) {
        int64_t at = o * stride + shift;
        if (at < 0 || at % dilation != 0) continue;
        if (at >= extent) break;
        if (result.count == 0) {
            result.first = o;
            result.from = at / dilation;
        }
        if (result.count == 1) {
            second = o;
            result.from_step = at / dilation - result.from;
        }
        result.count++;
    }
    result.step = second < 0 ? 1 : second - result.first;
    return result;
}

/* sums += in * weight over the box of results that one kernel position reaches. */
static void conv_add(const conv_run *run, const conv_axis *axes, int64_t to, int64_t from,
                     int64_t kernel)
{
    int64_t dims[KILN_MAX_RANK], out_steps[KILN_MAX_RANK], in_steps[KILN_MAX_RANK];
    uint32_t n = run->n_spatial;
    for (uint32_t i = 0; i < n; i++) {
        if (axes[i].count == 0) return;
        dims[i] = axes[i].count;
        to += axes[i].first * run->out_strides[i];
        from += axes[i].from * run->in_strides[i];
        out_steps[i] = axes[i].step * run->out_strides[i];
        in_steps[i] = axes[i].from_step * run->in_strides[i];
    }
    uint32_t last = n ? n - 1 : 0;
    int64_t row = n ? dims[last] : 1, to_step = n ? out_steps[last] : 0,
            from_step = n ? in_steps[last] : 0;
    kiln_eval_walk walk = {
        .rank = last, .dims = dims, .strides = {out_steps, in_steps}, .offset = {to, from}};
    do {
        int64_t o = walk.offset[0], i = walk.offset[1];
        if (run->is_float) {
            double weight = run->kernel.f[kernel];
            for (int64_t x = 0; x < row; x++)
                run->sums.f[o + x * to_step] += run->in.f[i + x * from_step] * weight;
        } else {
            uint64_t weight = run->kernel.i[kernel];
            for (int64_t x = 0; x < row; x++)
                run->sums.i[o + x * to_step] += run->in.i[i + x * from_step] * weight;
        }
    } while (kiln_eval_walk_next(&walk));
}

/* Operands and sizes in the run's order. */
static void conv_open(conv_run *run)
{
    const kiln_eval_call *call = run->call;
    const kiln_attrs *attrs = call->node->attrs;
    run->is_float = kiln_eval_is_float(call->types[0]);
    run->n_spatial = call->node->type->rank - 2;
    run->in = gather_axes(call, 0, attrs->conv.input_axes.at);
    run->kernel = gather_axes(call, 1, attrs->conv.kernel_axes.at);
    run->sums = kiln_eval_values_new(call, call->node->type->n_elements);
    run->n_in = run->n_kernel = run->n_out = 1;
    for (uint32_t i = 0; i < run->n_spatial; i++) {
        run->n_in *= run->in_dims[i] = call->types[0]->dims[attrs->conv.input_axes.at[i + 2]];
        run->n_kernel *= run->kernel_dims[i] =
            call->types[1]->dims[attrs->conv.kernel_axes.at[i + 2]];
        run->n_out *= run->out_dims[i] = call->node->type->dims[attrs->conv.output_axes.at[i + 2]];
    }
    kiln_eval_strides(run->n_spatial, run->in_dims, run->in_strides);
    kiln_eval_strides(run->n_spatial, run->out_dims, run->out_strides);
}

/* Moves sums from the run's order to the result's axes. */
static void conv_store(const conv_run *run)
{
    const kiln_type *type = run->call->node->type;
    const int64_t *axes = run->call->node->attrs->conv.output_axes.at;
    int64_t natural[KILN_MAX_RANK], dims[KILN_MAX_RANK], to[KILN_MAX_RANK], from[KILN_MAX_RANK];
    kiln_eval_strides(type->rank, type->dims, natural);
    for (uint32_t i = 0; i < type->rank; i++) {
        dims[i] = type->dims[axes[i]];
        to[i] = natural[axes[i]];
    }
    kiln_eval_strides(type->rank, dims, from);
    kiln_eval_values moved = kiln_eval_values_new(run->call, type->n_elements);
    kiln_eval_copy(
        &(kiln_eval_box){type->rank, dims, sizeof(double), moved.f, 0, to, run->sums.f, 0, from});
    store_sums(run->call, run->call->node->attrs->conv.accumulate, moved);
}

static void eval_convolution(const kiln_eval_call *call)
{
    conv_run run = {.call = call};
    conv_open(&run);
    const kiln_attrs *attrs = call->node->attrs;
    int64_t n_batch = call->types[0]->dims[attrs->conv.input_axes.at[0]];
    int64_t n_features = call->types[0]->dims[attrs->conv.input_axes.at[1]];
    int64_t n_results = call->types[1]->dims[attrs->conv.kernel_axes.at[0]];
    int64_t group_in = call->types[1]->dims[attrs->conv.kernel_axes.at[1]];
    int64_t group_out = n_results / attrs->conv.groups;
    kiln_eval_walk position = {.rank = run.n_spatial, .dims = run.kernel_dims};
    for (int64_t p = 0; p < run.n_kernel; p++, kiln_eval_walk_next(&position)) {
        conv_axis axes[KILN_MAX_RANK];
        for (uint32_t i = 0; i < run.n_spatial; i++)
            axes[i] = conv_axis_at(&run, i, position.at[i]);
        for (int64_t job = 0; job < n_batch * n_results * group_in; job++) {
            int64_t feature = job % group_in, plane = job / group_in; /* plane = batch, result */
            int64_t result = plane % n_results, batch = plane / n_results;
            int64_t source = batch * n_features + result / group_out * group_in + feature;
            conv_add(&run, axes, plane * run.n_out, source * run.n_in,
                     (result * group_in + feature) * run.n_kernel + p);
        }
    }
    conv_store(&run);
}

void kiln_eval_contract(const kiln_eval_call *call)
{
    if (call->node->op == KILN_OP_dot_general)
        eval_dot(call);
    else
        eval_convolution(call);
}
