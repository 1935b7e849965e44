/* Distances between a compiled graph and the evaluator, by class of node. Linear classes (views,
 * moves, sums, contractions) evaluate the node itself on the operands' distances in f64. */
#include <math.h>
#include <string.h>

#include "ops/bound_run.h"

const kiln_type *bound_operand_type(const bound_run *run, uint32_t i)
{
    return kiln_graph_type(run->out->graph, run->node->inputs[i]);
}

const double *bound_operand_error(const bound_run *run, uint32_t i)
{
    return run->out->errors[run->node->inputs[i].id];
}

const void *bound_operand_data(const bound_run *run, uint32_t i)
{
    return run->out->values[run->node->inputs[i].id];
}

/* Floats */

typedef struct float_shape {
    int fraction, least; /* fraction bits, exponent of the least normal number */
} float_shape;

static float_shape shape_of(kiln_dtype dtype)
{
    switch ((int)dtype) {
    case KILN_bf16:
        return (float_shape){7, -126};
    case KILN_f16:
        return (float_shape){10, -14};
    case KILN_f32:
        return (float_shape){23, -126};
    default:
        return (float_shape){52, -1022};
    }
}

double bound_ulp(kiln_dtype dtype, double x)
{
    float_shape shape = shape_of(dtype);
    if (x == 0 || !isfinite(x)) return ldexp(1, shape.least - shape.fraction);
    int exponent = ilogb(x);
    return ldexp(1, (exponent < shape.least ? shape.least : exponent) - shape.fraction);
}

double bound_largest(kiln_dtype dtype)
{
    static const double tops[] = {
        [KILN_bf16] = 0x1.fep127, [KILN_f16] = 65504, [KILN_f32] = 0x1.fffffep127};
    bool is_known = dtype < sizeof tops / sizeof *tops && tops[dtype] > 0;
    return is_known ? tops[dtype] : 0x1.fffffffffffffp1023;
}

bool bound_reaches_top(kiln_dtype dtype, double x, double error)
{
    double largest = bound_largest(dtype);
    return isinf(x) ? error >= bound_ulp(dtype, largest) : fabs(x) + error > largest;
}

double bound_ulps(kiln_op op)
{
    static const double ulps[KILN_N_OPS] = {
        [KILN_OP_exp] = 1,  [KILN_OP_log] = 1,      [KILN_OP_sin] = 1,     [KILN_OP_cos] = 1,
        [KILN_OP_atan] = 1, [KILN_OP_rsqrt] = 1,    [KILN_OP_expm1] = 1.5, [KILN_OP_log1p] = 1.5,
        [KILN_OP_tanh] = 2, [KILN_OP_logistic] = 2, [KILN_OP_erf] = 2,     [KILN_OP_tan] = 2,
        [KILN_OP_pow] = 2,  [KILN_OP_atan2] = 2,
    };
    return ulps[op];
}

/* Half a unit of the dtype in which sums are kept, and at which a chain of roundings grows. */
static double unit_roundoff(kiln_dtype dtype)
{
    return dtype == KILN_f64 ? 0x1p-53 : 0x1p-24;
}

static double gamma_of(kiln_dtype dtype, double n)
{
    double u = unit_roundoff(dtype) * n;
    return u < 0.5 ? u / (1 - u) : INFINITY;
}

/* The node on other data: operands replaced by f64 arrays where `data` has one. */

static const kiln_type *type_f64(const bound_run *run, const kiln_type *type)
{
    kiln_type *copy = kiln_new(&run->scope->arena, kiln_type);
    *copy = *type;
    copy->dtype = KILN_f64;
    copy->bytes = type->n_elements * 8;
    return copy;
}

static double *evaluate_f64(const bound_run *run, kiln_op op, const double *const *data)
{
    kiln_arena *arena = &run->scope->arena;
    kiln_node node = *run->node;
    node.op = (uint16_t)op;
    node.type = type_f64(run, run->node->type);
    const kiln_type **types = kiln_new_array(arena, const kiln_type *, node.n_inputs);
    const void **in = kiln_new_array(arena, const void *, node.n_inputs);
    for (uint32_t i = 0; i < node.n_inputs; i++) {
        types[i] = data[i] ? type_f64(run, bound_operand_type(run, i)) : bound_operand_type(run, i);
        in[i] = data[i] ? (const void *)data[i] : bound_operand_data(run, i);
    }
    double *out = kiln_new_array(arena, double, node.type->n_elements + 1);
    kiln_eval_node(&(kiln_eval_call){run->scope, arena, &node, types, in, out});
    return out;
}

/* An operand's distances, zeros where there are none. */
static double *errors_or_zero(const bound_run *run, uint32_t i)
{
    int64_t n = bound_operand_type(run, i)->n_elements;
    double *copy = kiln_new_array(&run->scope->arena, double, n + 1);
    if (bound_operand_error(run, i))
        memcpy(copy, bound_operand_error(run, i), (size_t)n * sizeof *copy);
    return copy;
}

/* |x| of an operand; 0 where x is not finite: that decides the class, not the error. */
static double *sizes_of(const bound_run *run, uint32_t i)
{
    int64_t n = bound_operand_type(run, i)->n_elements;
    double *sizes = kiln_new_array(&run->scope->arena, double, n + 1);
    kiln_element_load_double(bound_operand_type(run, i)->dtype, bound_operand_data(run, i), 0, n,
                             sizes);
    for (int64_t at = 0; at < n; at++) sizes[at] = isfinite(sizes[at]) ? fabs(sizes[at]) : 0;
    return sizes;
}

bool bound_has_errors(const bound_run *run)
{
    for (uint32_t i = 0; i < run->node->n_inputs; i++) {
        if (bound_operand_error(run, i)) return true;
    }
    return false;
}

static void all_unknown(bound_run *run)
{
    for (int64_t i = 0; i < run->node->type->n_elements; i++) run->error[i] = INFINITY;
}

static void bound_moved(bound_run *run)
{
    if (!bound_has_errors(run)) return;
    const double *data[run->node->n_inputs];
    bool is_indexed = run->node->op == KILN_OP_take || run->node->op == KILN_OP_dynamic_slice ||
                      run->node->op == KILN_OP_dynamic_update || run->node->op == KILN_OP_gather;
    for (uint32_t i = 0; i < run->node->n_inputs; i++) {
        bool is_index = is_indexed && i == run->node->n_inputs - 1;
        if (is_index && bound_operand_error(run, i)) {
            all_unknown(run);
            return;
        }
        data[i] = is_index ? NULL : errors_or_zero(run, i);
    }
    const double *moved = evaluate_f64(run, (kiln_op)run->node->op, data);
    memcpy(run->error, moved, (size_t)run->node->type->n_elements * sizeof *moved);
}

/* Adds what rounding once to the result's dtype may differ by. */
static void add_rounding(bound_run *run, double ulps)
{
    kiln_dtype dtype = run->node->type->dtype;
    int64_t n = run->node->type->n_elements;
    const void *values = run->out->values[run->node->id];
    for (int64_t i = 0; i < n; i++) {
        double value;
        kiln_element_load_double(dtype, values, i, 1, &value);
        run->error[i] += ulps * bound_ulp(dtype, value);
        if (isnan(run->error[i])) run->error[i] = INFINITY;
    }
}

/* Sums near the largest number may overflow in another order. */
static double overflow_guard(const bound_run *run, double size)
{
    double top = bound_largest(run->node->type->dtype);
    if (run->node->type->dtype == KILN_bf16 || run->node->type->dtype == KILN_f16) {
        return size > top * 0.99 ? INFINITY : 0;
    }
    return size > top / 4 ? INFINITY : 0;
}

static void bound_sum(bound_run *run, double n_terms)
{
    const double *sizes[] = {sizes_of(run, 0)}, *errors[] = {errors_or_zero(run, 0)};
    const double *size = evaluate_f64(run, (kiln_op)run->node->op, sizes);
    const double *error = evaluate_f64(run, (kiln_op)run->node->op, errors);
    double gamma = gamma_of(run->node->type->dtype, n_terms) * 2;
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        run->error[i] = error[i] + gamma * (size[i] + error[i]) + overflow_guard(run, size[i]);
    }
    add_rounding(run, 1);
}

/* |prod (x + d) - prod x| <= prod (|x| + e) - prod |x|, each factor with its rounding. Partial
 * products that leave the range depend on the order. */
static void bound_product(bound_run *run)
{
    double *sizes = sizes_of(run, 0), *errors = errors_or_zero(run, 0);
    int64_t n = bound_operand_type(run, 0)->n_elements;
    double *large = kiln_new_array(&run->scope->arena, double, n + 1);
    double *small = kiln_new_array(&run->scope->arena, double, n + 1);
    double *grown = kiln_new_array(&run->scope->arena, double, n + 1);
    for (int64_t i = 0; i < n; i++) {
        large[i] = fmax(1, sizes[i] + errors[i]);
        small[i] = fmin(1, fmax(0, sizes[i] - errors[i]));
        grown[i] = (sizes[i] + errors[i]) * (1 + 4 * unit_roundoff(run->node->type->dtype));
    }
    kiln_op op = (kiln_op)run->node->op;
    const double *size = evaluate_f64(run, op, (const double *[]){sizes});
    const double *most = evaluate_f64(run, op, (const double *[]){large});
    const double *least = evaluate_f64(run, op, (const double *[]){small});
    const double *reach = evaluate_f64(run, op, (const double *[]){grown});
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        run->error[i] = reach[i] - size[i] + overflow_guard(run, most[i]);
        if (least[i] < ldexp(1, shape_of(run->node->type->dtype).least + 24))
            run->error[i] = INFINITY;
    }
    add_rounding(run, 1);
}

/* max and min move by no more than their operands. */
static void bound_extreme(bound_run *run)
{
    if (!bound_has_errors(run)) return;
    kiln_op op =
        kiln_node_row(run->node)->class_ == KILN_WINDOW ? KILN_OP_window_max : KILN_OP_reduce_max;
    const double *errors[] = {errors_or_zero(run, 0)};
    const double *error = evaluate_f64(run, op, errors);
    for (int64_t i = 0; i < run->node->type->n_elements; i++) run->error[i] = fmax(error[i], 0);
}

static void bound_fold(bound_run *run)
{
    switch (run->node->op) {
    case KILN_OP_reduce_sum: {
        int64_t n = bound_operand_type(run, 0)->n_elements, m = run->node->type->n_elements;
        bound_sum(run, m ? (double)(n / m) : 0);
        return;
    }
    case KILN_OP_window_sum: {
        double n = 1;
        kiln_ints sizes = run->node->attrs->window.sizes;
        for (uint32_t i = 0; i < sizes.n; i++) n *= (double)sizes.at[i];
        bound_sum(run, n);
        return;
    }
    case KILN_OP_reduce_prod:
    case KILN_OP_window_prod:
        bound_product(run);
        return;
    case KILN_OP_argmax:
    case KILN_OP_argmin:
        if (bound_has_errors(run)) all_unknown(run);
        return;
    default:
        bound_extreme(run);
    }
}

static double contract_terms(const bound_run *run)
{
    const kiln_attrs *attrs = run->node->attrs;
    double n = 1;
    if (run->node->op == KILN_OP_dot_general) {
        for (uint32_t i = 0; i < attrs->dot.lhs_contract.n; i++) {
            n *= (double)bound_operand_type(run, 0)->dims[attrs->dot.lhs_contract.at[i]];
        }
        return n;
    }
    for (uint32_t i = 1; i < attrs->conv.kernel_axes.n; i++) {
        n *= (double)bound_operand_type(run, 1)->dims[attrs->conv.kernel_axes.at[i]];
    }
    return n;
}

/* A convolution may read its padding as zeros: weights that are infinite or NaN, or may be within
 * their distance, then give NaN where the evaluator skips the tap. */
static bool has_loose_padding(const bound_run *run)
{
    const kiln_type *type = bound_operand_type(run, 1);
    if (run->node->op != KILN_OP_convolution) return false;
    for (int64_t i = 0; i < type->n_elements; i++) {
        double weight, error = bound_operand_error(run, 1) ? bound_operand_error(run, 1)[i] : 0;
        kiln_element_load_double(type->dtype, bound_operand_data(run, 1), i, 1, &weight);
        if (!(fabs(weight) + error <= bound_largest(type->dtype))) return true;
    }
    return false;
}

/* An operand of a product, element by element: 1 where it may be 0 or of either sign, where it is
 * or may be 0, where it is not finite, where it may be infinite or not. */
typedef struct product_side {
    double *open, *zero, *endless, *unsure;
} product_side;

static product_side side_of(const bound_run *run, uint32_t operand, const double *errors)
{
    kiln_arena *arena = &run->scope->arena;
    const kiln_type *type = bound_operand_type(run, operand);
    int64_t n = type->n_elements;
    product_side side = {kiln_new_array(arena, double, n + 1), kiln_new_array(arena, double, n + 1),
                         kiln_new_array(arena, double, n + 1),
                         kiln_new_array(arena, double, n + 1)};
    for (int64_t i = 0; i < n; i++) {
        double x;
        kiln_element_load_double(type->dtype, bound_operand_data(run, operand), i, 1, &x);
        side.open[i] = errors[i] > 0 && fabs(x) <= errors[i];
        side.zero[i] = fabs(x) <= errors[i];
        side.endless[i] = !isfinite(x);
        side.unsure[i] = errors[i] > 0 && bound_reaches_top(type->dtype, x, errors[i]);
    }
    return side;
}

/* By result: how many products of an infinite or NaN element with one that may be 0, or of either
 * sign, within its distance; or of one that may be infinite with one that may be 0. */
static const double *count_open_products(const bound_run *run, const double *ea, const double *eb)
{
    product_side a = side_of(run, 0, ea), b = side_of(run, 1, eb);
    const double *pairs[][2] = {
        {a.open, b.endless}, {a.endless, b.open}, {a.zero, b.unsure}, {a.unsure, b.zero}};
    int64_t n = run->node->type->n_elements;
    double *sum = kiln_new_array(&run->scope->arena, double, n + 1);
    for (size_t pair = 0; pair < sizeof pairs / sizeof *pairs; pair++) {
        const double *count = evaluate_f64(run, (kiln_op)run->node->op, pairs[pair]);
        for (int64_t i = 0; i < n; i++) sum[i] += count[i];
    }
    return sum;
}

#define LEAST_NORMAL 0x1p-126 /* of bf16 and f32 */

/* Matrix tiles, which no strict compile uses, take subnormal bf16 numbers as zeros. */
static bool may_flush(const bound_run *run)
{
    return bound_operand_type(run, 0)->dtype == KILN_bf16 && !run->out->is_strict;
}

/* Adds what operand i loses so; false where it loses nothing. */
static bool add_flushed(const bound_run *run, uint32_t i, double *errors)
{
    bool is_any = false;
    for (int64_t at = 0; may_flush(run) && at < bound_operand_type(run, i)->n_elements; at++) {
        double x;
        kiln_element_load_double(KILN_bf16, bound_operand_data(run, i), at, 1, &x);
        bool is_zero = x == 0 && errors[at] == 0;
        if (is_zero || !(fabs(x) - errors[at] < LEAST_NORMAL)) continue;
        errors[at] += LEAST_NORMAL;
        is_any = true;
    }
    return is_any;
}

/* (|a| + ea)(|b| + eb) - |a||b| + gamma |a||b|, all by the contraction itself. */
static void bound_contract(bound_run *run)
{
    if (has_loose_padding(run)) {
        all_unknown(run);
        return;
    }
    double *a = sizes_of(run, 0), *b = sizes_of(run, 1);
    kiln_op op = (kiln_op)run->node->op;
    const double *size = evaluate_f64(run, op, (const double *[]){a, b}), *reach = size;
    const double *n_open = NULL;
    double *ea = errors_or_zero(run, 0), *eb = errors_or_zero(run, 1);
    bool is_a_flushed = add_flushed(run, 0, ea), is_b_flushed = add_flushed(run, 1, eb);
    if (bound_has_errors(run) || is_a_flushed || is_b_flushed) {
        n_open = count_open_products(run, ea, eb);
        for (int64_t i = 0; i < bound_operand_type(run, 0)->n_elements; i++) ea[i] += a[i];
        for (int64_t i = 0; i < bound_operand_type(run, 1)->n_elements; i++) eb[i] += b[i];
        reach = evaluate_f64(run, op, (const double *[]){ea, eb});
    }
    kiln_dtype dtype = run->node->type->dtype;
    double gamma = gamma_of(dtype, contract_terms(run) + 2) * 2;
    /* products that underflow lose up to half a denormal each, however small the sum of sizes is */
    double least = dtype == KILN_f64 ? 0x1p-1074 : may_flush(run) ? LEAST_NORMAL : 0x1p-149;
    double underflow = contract_terms(run) * least;
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        run->error[i] =
            reach[i] - size[i] + gamma * reach[i] + underflow + overflow_guard(run, size[i]);
        if (n_open && n_open[i] > 0) run->error[i] = INFINITY;
    }
    add_rounding(run, 1);
}

/* Of well-conditioned systems, which is what the cases have: rounding grows with the rows. */
static void bound_solution(bound_run *run)
{
    const kiln_type *type = run->node->type;
    double n = type->rank ? (double)type->dims[type->rank - 2] : 1, largest_value = 0, value;
    for (int64_t i = 0; i < type->n_elements; i++) {
        kiln_element_load_double(type->dtype, run->out->values[run->node->id], i, 1, &value);
        largest_value = fmax(largest_value, fabs(value));
    }
    for (int64_t i = 0; i < type->n_elements; i++)
        run->error[i] =
            bound_has_errors(run) ? INFINITY : gamma_of(type->dtype, n) * 8 * largest_value;
    add_rounding(run, 1);
}

/* Routines give the evaluator's bits where their operands are exact; but sums and products are in
 * an order of their own. */
static void bound_routine(bound_run *run)
{
    int64_t n = 1;
    if (run->node->attrs && run->node->attrs->family == KILN_FAMILY_cumulative)
        n = run->node->type->dims[run->node->attrs->cumulative.axis];
    if (kiln_eval_is_float(run->node->type) && run->node->op == KILN_OP_cumulative_sum)
        bound_sum(run, (double)n);
    else if (kiln_eval_is_float(run->node->type) && run->node->op == KILN_OP_cumulative_prod)
        bound_product(run);
    else if (run->node->op == KILN_OP_cholesky || run->node->op == KILN_OP_forward_solve)
        bound_solution(run);
    else if (bound_has_errors(run))
        all_unknown(run);
}

static void bound_node(bound_run *run)
{
    const kiln_type *type = run->node->type;
    switch (kiln_node_row(run->node)->class_) {
    case KILN_SOURCE:
        return;
    case KILN_ELEMENTWISE:
        bound_elementwise(run);
        return;
    case KILN_VIEW:
    case KILN_MOVE:
        bound_moved(run);
        return;
    case KILN_REDUCE:
    case KILN_WINDOW:
    case KILN_CONTRACT:
        break;
    default:
        if (run->node->op != KILN_OP_barrier) {
            bound_routine(run);
        } else if (bound_operand_error(run, 0)) {
            memcpy(run->error, bound_operand_error(run, 0),
                   (size_t)type->n_elements * sizeof(double));
        }
        return;
    }
    if (!kiln_eval_is_float(bound_operand_type(run, 0))) {
        if (bound_has_errors(run)) all_unknown(run);
    } else if (kiln_node_row(run->node)->class_ == KILN_CONTRACT) {
        bound_contract(run);
    } else {
        bound_fold(run);
    }
}

bounds *bounds_open(kiln_scope *scope, const kiln_graph *graph, const kiln_tensor *inputs,
                    bool is_strict)
{
    bounds *out = kiln_new(&scope->arena, bounds);
    out->is_strict = is_strict;
    out->map = kiln_new_array(&scope->arena, kiln_value, graph->nodes.n);
    out->graph = kiln_eval_expand(scope, graph, out->map);
    out->values = kiln_eval_nodes(scope, out->graph, inputs);
    uint32_t n = out->graph->nodes.n;
    out->errors = kiln_new_array(&scope->arena, double *, n);
    for (uint32_t id = 1; id < n; id++) {
        const kiln_node *node = out->graph->nodes.at[id];
        bound_run run = {scope, out, node, NULL};
        run.error = kiln_new_array(&scope->arena, double, node->type->n_elements + 1);
        bound_node(&run);
        for (int64_t i = 0; i < node->type->n_elements; i++) {
            if (isnan(run.error[i])) run.error[i] = INFINITY;
            if (run.error[i] != 0) out->errors[id] = run.error;
        }
    }
    return out;
}
