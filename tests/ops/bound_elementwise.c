/* Distances of elementwise nodes: evaluated at the corners of the box that the operands may be in,
 * and at the zeros and infinities within it, with the roundings of the node itself and what
 * rewrites of grade ROUND add. */
#include <math.h>
#include <string.h>

#include "ops/bound_run.h"

static double apply(const bound_run *run, const double *x)
{
    const kiln_eval_scalar *scalar = &kiln_eval_scalars[run->node->op];
    if (run->node->op == KILN_OP_convert) {
        kiln_dtype to = run->node->type->dtype;
        if (kiln_eval_is_float(run->node->type)) return x[0];
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
    case KILN_OP_eq:
    case KILN_OP_ne:
        return fabs(x[0] - x[1]) <= e[0] + e[1];
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

#define MAX_PLACES 6

/* Where an operand is looked at: the ends of what it may be, both zeros where they lie between, and
 * what is on the other side of the largest number. */
static uint32_t places_of(kiln_dtype dtype, double x, double e, double *places)
{
    uint32_t n = 0;
    double largest = bound_largest(dtype);
    places[n++] = x - e;
    if (!(e > 0)) return n;
    places[n++] = x + e;
    if (fabs(x) <= e) {
        places[n++] = 0.0;
        places[n++] = -0.0;
    }
    if (isinf(x) && bound_reaches_top(dtype, x, e)) places[n++] = copysign(largest, x);
    if (isfinite(x) && x + e > largest) places[n++] = INFINITY;
    if (isfinite(x) && x - e < -largest) places[n++] = -INFINITY;
    return n;
}

/* How far two results are apart; zeros of other signs by the least that there is. */
static double result_distance(const bound_run *run, double a, double b)
{
    if (isnan(a) != isnan(b)) return INFINITY;
    if (isnan(a)) return 0;
    if (a != b) return fabs(a - b);
    bool is_sign = kiln_eval_is_float(run->node->type) && a == 0 && signbit(a) != signbit(b);
    return is_sign ? bound_ulp(run->node->type->dtype, 0) : 0;
}

static double corner_distance(const bound_run *run, uint32_t n, const double *x, const double *e)
{
    kiln_op op = (kiln_op)run->node->op;
    double places[3][MAX_PLACES], at[3] = {0}, center = apply(run, x), distance = 0;
    uint32_t n_places[3] = {1, 1, 1};
    if (is_broken_between(op, x, e)) return INFINITY;
    for (uint32_t i = 0; i < n; i++)
        n_places[i] = places_of(bound_operand_type(run, i)->dtype, x[i], e[i], places[i]);
    uint32_t n_corners = n_places[0] * n_places[1] * n_places[2];
    for (uint32_t corner = 0; corner < n_corners; corner++) {
        uint32_t rest = corner;
        for (uint32_t i = 0; i < n; i++) {
            at[i] = places[i][rest % n_places[i]];
            rest /= n_places[i];
        }
        distance = fmax(distance, result_distance(run, apply(run, at), center));
    }
    bool is_wave = op == KILN_OP_sin || op == KILN_OP_cos; /* as far as its operand at most */
    return is_wave && isfinite(distance) ? e[0] : distance;
}

/* Results that are not floats: exact, or unknown where the distance reaches another one. */
static bool is_result_exact(const bound_run *run)
{
    return !kiln_eval_is_float(run->node->type);
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
    if (!kiln_eval_is_float(bound_operand_type(run, 0)))
        return INFINITY; /* an integer that may be another one */
    double distance = corner_distance(run, n, x, e);
    if (is_result_exact(run)) return distance > 0 ? INFINITY : 0;
    return distance;
}

/* A root of fewer elements, wherever the passes find the broadcast: before the root or after it. */
static bool is_root_of_rows(const kiln_graph *graph, const kiln_node *node)
{
    bool is_root = false, is_broadcast = false;
    while (node->op == KILN_OP_sqrt || kiln_node_row(node)->class_ == KILN_VIEW) {
        is_root |= node->op == KILN_OP_sqrt;
        is_broadcast |= node->op == KILN_OP_broadcast;
        node = kiln_graph_node(graph, node->inputs[0]);
    }
    return is_root && is_broadcast;
}

/* Quotients that rules of grade ROUND make products with an inverse: by one number from 1 to 2^13,
 * by roots of rows. */
static bool is_by_inverse(const bound_run *run)
{
    if (run->node->op != KILN_OP_div || run->out->is_strict) return false;
    const kiln_node *divisor = kiln_graph_node(run->out->graph, run->node->inputs[1]);
    if (is_root_of_rows(run->out->graph, divisor)) return true;
    size_t bytes = kiln_dtype_bytes(divisor->type->dtype);
    const char *data = bound_operand_data(run, 1);
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
    const uint8_t *condition = bound_operand_data(run, 0);
    const double *unsure = bound_operand_error(run, 0);
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        const double *chosen = bound_operand_error(run, condition[i] ? 1 : 2);
        run->error[i] = unsure && unsure[i] > 0 ? INFINITY : chosen ? chosen[i] : 0;
    }
}

/* Arithmetic leaves the sign and the digits of a NaN open; moving keeps them. */
static bool has_open_nans(const bound_run *run)
{
    const kiln_graph *graph = run->out->graph;
    const kiln_node *node = kiln_graph_node(graph, run->node->inputs[0]);
    if (run->node->op != KILN_OP_bitcast || !kiln_eval_is_float(node->type)) return false;
    kiln_class class_ = kiln_node_row(node)->class_;
    while (class_ == KILN_VIEW) {
        node = kiln_graph_node(graph, node->inputs[0]);
        class_ = kiln_node_row(node)->class_;
    }
    return class_ != KILN_SOURCE;
}

/* A power that a rule of grade ROUND makes a root, where the root is no number: of -infinity. */
static bool is_by_root(const bound_run *run, const double *x)
{
    bool is_root = run->node->op == KILN_OP_pow && !run->out->is_strict && fabs(x[1]) == 0.5;
    if (is_root) run->out->has_inverses = true;
    return is_root && isinf(x[0]) && x[0] < 0;
}

/* The size at which the result is rounded: that of the largest number where it is about there. */
static double reach_of(const bound_run *run, const double *x, double value, double distance)
{
    double largest = bound_largest(run->node->type->dtype);
    if (!isfinite(distance) || isnan(value)) return value;
    if (isfinite(value)) return fmin(fabs(value) + distance, largest);
    return fabs(apply(run, x)) - distance < 2 * largest ? largest : value;
}

void bound_elementwise(bound_run *run)
{
    kiln_op op = (kiln_op)run->node->op;
    if (op == KILN_OP_select) {
        bound_select(run);
        return;
    }
    kiln_dtype dtype = run->node->type->dtype;
    const void *values = run->out->values[run->node->id];
    double still = own_ulps(run, false), moved = own_ulps(run, true);
    bool are_nans_open = has_open_nans(run);
    if (!bound_has_errors(run) && still == 0 && !are_nans_open) return;
    for (int64_t i = 0; i < run->node->type->n_elements; i++) {
        double x[3] = {0}, e[3] = {0}, value;
        for (uint32_t j = 0; j < run->node->n_inputs; j++) {
            kiln_element_load_double(bound_operand_type(run, j)->dtype, bound_operand_data(run, j),
                                     i, 1, &x[j]);
            e[j] = bound_operand_error(run, j) ? bound_operand_error(run, j)[i] : 0;
        }
        bool is_open = op == KILN_OP_bitcast && (e[0] > 0 || (are_nans_open && isnan(x[0])));
        double distance = is_open ? INFINITY : element_distance(run, x, e);
        run->error[i] = is_by_root(run, x) ? INFINITY : distance;
        if (!kiln_eval_is_float(run->node->type)) continue;
        kiln_element_load_double(dtype, values, i, 1, &value);
        double ulps = e[0] > 0 || e[1] > 0 || e[2] > 0 ? moved : still;
        if (ulps > 0)
            run->error[i] += ulps * bound_ulp(dtype, reach_of(run, x, value, run->error[i]));
    }
}
