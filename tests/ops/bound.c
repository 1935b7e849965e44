/* Distances between a compiled graph and the evaluator, by class of node. Linear classes (views,
 * moves, sums, contractions) evaluate the node itself on the operands' distances in f64;
 * elementwise nodes are evaluated at the corners of the box that the operands may be in. */
#include "ops/bound.h"

#include <math.h>
#include <string.h>

typedef struct bound_run {
    kiln_scope *scope;
    bounds *out;
    const kiln_node *node;
    double *error; /* of the node, zeroed */
} bound_run;

static const kiln_type *operand_type(const bound_run *run, uint32_t i)
{
    return kiln_graph_type(run->out->graph, run->node->inputs[i]);
}

static const double *operand_error(const bound_run *run, uint32_t i)
{
    return run->out->errors[run->node->inputs[i].id];
}

static const void *operand_data(const bound_run *run, uint32_t i)
{
    return run->out->values[run->node->inputs[i].id];
}

static bool is_float(const kiln_type *type)
{
    return kiln_eval_is_float(type);
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
        types[i] = data[i] ? type_f64(run, operand_type(run, i)) : operand_type(run, i);
        in[i] = data[i] ? (const void *)data[i] : operand_data(run, i);
    }
    double *out = kiln_new_array(arena, double, node.type->n_elements + 1);
    kiln_eval_node(&(kiln_eval_call){run->scope, arena, &node, types, in, out});
    return out;
}

/* An operand's distances, zeros where there are none. */
static double *errors_or_zero(const bound_run *run, uint32_t i)
{
    int64_t n = operand_type(run, i)->n_elements;
    double *copy = kiln_new_array(&run->scope->arena, double, n + 1);
    if (operand_error(run, i)) memcpy(copy, operand_error(run, i), (size_t)n * sizeof *copy);
    return copy;
}

/* |x| of an operand; 0 where x is not finite: that decides the class, not the error. */
static double *sizes_of(const bound_run *run, uint32_t i)
{
    int64_t n = operand_type(run, i)->n_elements;
    double *sizes = kiln_new_array(&run->scope->arena, double, n + 1);
    kiln_element_load_double(operand_type(run, i)->dtype, operand_data(run, i), 0, n, sizes);
    for (int64_t at = 0; at < n; at++) sizes[at] = isfinite(sizes[at]) ? fabs(sizes[at]) : 0;
    return sizes;
}

static bool has_errors(const bound_run *run)
{
    for (uint32_t i = 0; i < run->node->n_inputs; i++) {
        if (operand_error(run, i)) return true;
    }
    return false;
}

static void all_unknown(bound_run *run)
{
    for (int64_t i = 0; i < run->node->type->n_elements; i++) run->error[i] = INFINITY;
}

static void bound_moved(bound_run *run)
{
    if (!has_errors(run)) return;
    const double *data[run->node->n_inputs];
    bool is_indexed = run->node->op == KILN_OP_take || run->node->op == KILN_OP_dynamic_slice ||
                      run->node->op == KILN_OP_dynamic_update || run->node->op == KILN_OP_gather;
    for (uint32_t i = 0; i < run->node->n_inputs; i++) {
        bool is_index = is_indexed && i == run->node->n_inputs - 1;
        if (is_index && operand_error(run, i)) {
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
    int64_t n = operand_type(run, 0)->n_elements;
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
    if (!has_errors(run)) return;
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
        int64_t n = operand_type(run, 0)->n_elements, m = run->node->type->n_elements;
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
        if (has_errors(run)) all_unknown(run);
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
            n *= (double)operand_type(run, 0)->dims[attrs->dot.lhs_contract.at[i]];
        }
        return n;
    }
    for (uint32_t i = 1; i < attrs->conv.kernel_axes.n; i++) {
        n *= (double)operand_type(run, 1)->dims[attrs->conv.kernel_axes.at[i]];
    }
    return n;
}

/* A convolution may read its padding as zeros: weights that are infinite or NaN, or may be within
 * their distance, then give NaN where the evaluator skips the tap. */
static bool has_loose_padding(const bound_run *run)
{
    const kiln_type *type = operand_type(run, 1);
    if (run->node->op != KILN_OP_convolution) return false;
    for (int64_t i = 0; i < type->n_elements; i++) {
        double weight, error = operand_error(run, 1) ? operand_error(run, 1)[i] : 0;
        kiln_element_load_double(type->dtype, operand_data(run, 1), i, 1, &weight);
        if (!(fabs(weight) + error <= bound_largest(type->dtype))) return true;
    }
    return false;
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
    if (has_errors(run)) {
        double *ea = errors_or_zero(run, 0), *eb = errors_or_zero(run, 1);
        for (int64_t i = 0; i < operand_type(run, 0)->n_elements; i++) ea[i] += a[i];
        for (int64_t i = 0; i < operand_type(run, 1)->n_elements; i++) eb[i] += b[i];
        reach = evaluate_f64(run, op, (const double *[]){ea, eb});
    }
    kiln_dtype dtype = run->node->type->dtype;
    double gamma = gamma_of(dtype, contract_terms(run) + 2) * 2;
    /* products that underflow lose up to half a denormal each, however small the sum of sizes is */
    double underflow = contract_terms(run) * (dtype == KILN_f64 ? 0x1p-1074 : 0x1p-149);
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        run->error[i] =
            reach[i] - size[i] + gamma * reach[i] + underflow + overflow_guard(run, size[i]);
    }
    add_rounding(run, 1);
}

/* Elementwise: the value at the corners of the box of operands. */

static double apply(const bound_run *run, const double *x)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[run->node->op];
    if (run->node->op == KILN_OP_convert) {
        kiln_dtype to = run->node->type->dtype;
        if (is_float(run->node->type)) return x[0];
        double value;
        uint64_t element;
        kiln_element_store_double(to, &element, 0, 1, x);
        kiln_element_load_double(to, &element, 0, 1, &value);
        return value;
    }
    if (run->node->op == KILN_OP_clamp) {
        double low = kiln_eval_scalars[KILN_OP_max].binary(x[0], x[1]);
        return kiln_eval_scalars[KILN_OP_min].binary(low, x[2]);
    }
    return run->node->n_inputs == 1 ? scalar->unary(x[0]) : scalar->binary(x[0], x[1]);
}

/* Functions whose corners do not enclose the box: discontinuities and poles inside it. */
static bool is_broken_between(kiln_op op, const double *x, const double *e)
{
    switch ((int)op) {
    case KILN_OP_rem:
        return true;
    case KILN_OP_div:
        return fabs(x[1]) <= e[1];
    case KILN_OP_tan:
        return floor((x[0] - e[0]) / M_PI + 0.5) != floor((x[0] + e[0]) / M_PI + 0.5);
    case KILN_OP_pow:
        return x[0] - e[0] <= 0;
    case KILN_OP_atan2:
        return x[1] - e[1] <= 0 && fabs(x[0]) <= e[0];
    default:
        return false;
    }
}

static double corner_distance(const bound_run *run, uint32_t n, const double *x, const double *e)
{
    kiln_op op = (kiln_op)run->node->op;
    if (op == KILN_OP_sin || op == KILN_OP_cos) return e[0];
    if (is_broken_between(op, x, e)) return INFINITY;
    double center = apply(run, x), distance = 0;
    for (unsigned corner = 0; corner < 1u << n; corner++) {
        double at[3];
        for (uint32_t i = 0; i < n; i++) at[i] = corner >> i & 1 ? x[i] + e[i] : x[i] - e[i];
        double value = apply(run, at);
        if (isnan(value) != isnan(center)) return INFINITY;
        if (isnan(value) || value == center) continue;
        distance = fmax(distance, fabs(value - center));
    }
    return distance;
}

/* Results that are not floats: exact, or unknown where the distance reaches another one. */
static bool is_result_exact(const bound_run *run)
{
    return !is_float(run->node->type);
}

static bool is_exact_op(kiln_op op)
{
    switch ((int)op) {
    case KILN_OP_neg:
    case KILN_OP_abs:
    case KILN_OP_sign:
    case KILN_OP_floor:
    case KILN_OP_ceil:
    case KILN_OP_trunc:
    case KILN_OP_round_even:
    case KILN_OP_max:
    case KILN_OP_min:
    case KILN_OP_clamp:
        return true;
    default:
        return false;
    }
}

static double element_distance(const bound_run *run, const double *x, const double *e)
{
    uint32_t n = run->node->n_inputs;
    bool is_moved = false;
    for (uint32_t i = 0; i < n; i++) {
        if (isinf(e[i])) return INFINITY;
        is_moved |= e[i] > 0;
    }
    if (!is_moved) return 0;
    if (!is_float(operand_type(run, 0))) return INFINITY; /* an integer that may be another one */
    double distance = corner_distance(run, n, x, e);
    if (is_result_exact(run)) return distance > 0 ? INFINITY : 0;
    return distance;
}

/* Quotients that rules of grade ROUND make products with an inverse: by one number from 1 to 2^13,
 * by roots of rows. */
static bool is_by_inverse(const bound_run *run)
{
    if (run->node->op != KILN_OP_div || run->out->is_strict) return false;
    const kiln_graph *graph = run->out->graph;
    const kiln_node *divisor = kiln_graph_node(graph, run->node->inputs[1]);
    if (divisor->op == KILN_OP_broadcast)
        if (kiln_graph_node(graph, divisor->inputs[0])->op == KILN_OP_sqrt) return true;
    size_t bytes = kiln_dtype_bytes(divisor->type->dtype);
    const char *data = operand_data(run, 1);
    double number = 0;
    for (int64_t i = 1; i < divisor->type->n_elements; i++)
        if (memcmp(data, data + (size_t)i * bytes, bytes) != 0) return false;
    if (divisor->type->n_elements)
        kiln_element_load_double(divisor->type->dtype, data, 0, 1, &number);
    return fabs(number) >= 1 && fabs(number) <= 0x1p13;
}

/* Rounding of the node itself: none where both sides round the same exact result. */
static double own_ulps(const bound_run *run, bool is_moved)
{
    kiln_op op = (kiln_op)run->node->op;
    if (is_result_exact(run) || is_exact_op(op)) return 0;
    bool is_inverse = is_by_inverse(run);
    run->out->has_inverses |= is_inverse;
    double ulps = is_inverse ? 1.5 : bound_ulps(op);
    bool is_narrow = run->node->type->dtype == KILN_bf16 || run->node->type->dtype == KILN_f16;
    bool is_wide =
        run->node->type->dtype == KILN_f64; /* where the evaluator's library rounds too */
    if (ulps > 0) return is_narrow ? 1 : is_wide ? ulps + 2 : ulps + 0.5;
    return is_moved ? 1 : 0;
}

static void bound_select(bound_run *run)
{
    const uint8_t *condition = operand_data(run, 0);
    const double *unsure = operand_error(run, 0);
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        const double *chosen = operand_error(run, condition[i] ? 1 : 2);
        run->error[i] = unsure && unsure[i] > 0 ? INFINITY : chosen ? chosen[i] : 0;
    }
}

/* A power that a rule of grade ROUND makes a root, where the root is no number: of -infinity. */
static bool is_by_root(const bound_run *run, const double *x)
{
    bool is_root = run->node->op == KILN_OP_pow && !run->out->is_strict && fabs(x[1]) == 0.5;
    if (is_root) run->out->has_inverses = true;
    return is_root && isinf(x[0]) && x[0] < 0;
}

static void bound_elementwise(bound_run *run)
{
    kiln_op op = (kiln_op)run->node->op;
    if (op == KILN_OP_select) {
        bound_select(run);
        return;
    }
    kiln_dtype dtype = run->node->type->dtype;
    const void *values = run->out->values[run->node->id];
    double still = own_ulps(run, false), moved = own_ulps(run, true);
    if (!has_errors(run) && still == 0) return;
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        double x[3] = {0}, e[3] = {0}, value;
        for (uint32_t j = 0; j < run->node->n_inputs; j++) {
            kiln_element_load_double(operand_type(run, j)->dtype, operand_data(run, j), i, 1,
                                     &x[j]);
            e[j] = operand_error(run, j) ? operand_error(run, j)[i] : 0;
        }
        double distance =
            op == KILN_OP_bitcast && e[0] > 0 ? INFINITY : element_distance(run, x, e);
        run->error[i] = is_by_root(run, x) ? INFINITY : distance;
        if (!is_float(run->node->type)) continue;
        kiln_element_load_double(dtype, values, i, 1, &value);
        double reach = isfinite(value) && isfinite(distance) ? fabs(value) + distance : value;
        bool is_moved = e[0] > 0 || e[1] > 0 || e[2] > 0;
        run->error[i] += (is_moved ? moved : still) * bound_ulp(dtype, reach);
    }
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
        run->error[i] = has_errors(run) ? INFINITY : gamma_of(type->dtype, n) * 8 * largest_value;
    add_rounding(run, 1);
}

/* Routines give the evaluator's bits where their operands are exact; but sums and products are in
 * an order of their own. */
static void bound_routine(bound_run *run)
{
    int64_t n = 1;
    if (run->node->attrs && run->node->attrs->family == KILN_FAMILY_cumulative)
        n = run->node->type->dims[run->node->attrs->cumulative.axis];
    if (is_float(run->node->type) && run->node->op == KILN_OP_cumulative_sum)
        bound_sum(run, (double)n);
    else if (is_float(run->node->type) && run->node->op == KILN_OP_cumulative_prod)
        bound_product(run);
    else if (run->node->op == KILN_OP_cholesky || run->node->op == KILN_OP_forward_solve)
        bound_solution(run);
    else if (has_errors(run))
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
        } else if (operand_error(run, 0)) {
            memcpy(run->error, operand_error(run, 0), (size_t)type->n_elements * sizeof(double));
        }
        return;
    }
    if (!is_float(operand_type(run, 0))) {
        if (has_errors(run)) all_unknown(run);
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
