/* Cases of composites. References are the textbook formulas in long double, computed from the
 * definition and not from the expansion; the tolerance is what rounding the expansion's steps to
 * the compute dtype may add, as multiples of the result's last place and of the terms' size. */
#include <math.h>

#include "ops/cases.h"

static bool is_float_case(const op_batch *batch)
{
    return kiln_dtype_kind_of(batch->dtype) == KILN_DTYPE_KIND_FLOAT;
}

/* The roundoff of the dtype that the composite computes in. */
static double roundoff(const op_batch *batch)
{
    return batch->dtype == KILN_f64 ? 0x1p-53 : 0x1p-24;
}

static op_reference reference_open(op_batch *batch, int64_t n)
{
    op_reference reference = op_reference_new(batch, n, 0);
    reference.tolerance = kiln_new_array(&batch->scope->arena, double, n + 1);
    return reference;
}

typedef long double activation_fn(long double a);

static long double a_square(long double a)
{
    return a * a;
}
static long double a_reciprocal(long double a)
{
    return 1 / a;
}
static long double a_relu(long double a)
{
    return a > 0 || isnan(a) ? a : 0;
}
static long double a_leaky(long double a)
{
    return a >= 0 ? a : 0.125L * a;
}
static long double a_elu(long double a)
{
    return a > 0 ? a : 1.5L * expm1l(a);
}
static long double a_gelu(long double a)
{
    return a * erfcl(-a * sqrtl(0.5L)) / 2;
}
static long double a_silu(long double a)
{
    return a / (1 + expl(-a));
}
static long double a_softplus(long double a)
{
    return a > 60 ? a : log1pl(expl(a));
}
static long double a_mish(long double a)
{
    return a * tanhl(a_softplus(a));
}
static long double a_hard_sigmoid(long double a)
{
    return isnan(a) ? a : fminl(1, fmaxl(0, 0.25L * a + 0.5L));
}
static long double a_hard_swish(long double a)
{
    return a * (isnan(a) ? a : fminl(1, fmaxl(0, a / 6 + 0.5L)));
}

static long double a_gelu_tanh(long double a)
{
    return a * (1 + tanhl(sqrtl(2 / acosl(-1)) * (a + 0.044715L * a * a * a))) / 2;
}

static long double a_swish(long double a)
{
    return a / (1 + expl(-0.5L * a));
}
static long double a_softplus_beta(long double a)
{
    return a_softplus(4 * a) / 4;
}
static long double a_squareplus(long double a)
{
    return (a + sqrtl(a * a + 4)) / 2;
}
static long double a_log_sigmoid(long double a)
{
    return -a_softplus(-a);
}
static long double a_softsign(long double a)
{
    return a / (1 + fabsl(a));
}
static long double a_tanh_shrink(long double a)
{
    return a - tanhl(a);
}
static long double a_selu(long double a)
{
    return 1.0507009873554804934193L * (a > 0 ? a : 1.6732632423543772848L * expm1l(a));
}
static long double a_celu(long double a)
{
    return a > 0 ? a : 2 * expm1l(a / 2);
}
static long double a_relu6(long double a)
{
    return fminl(fmaxl(a, 0), 6);
}
static long double a_hard_tanh(long double a)
{
    return fminl(fmaxl(a, -0.75L), 1.5L);
}
static long double a_threshold(long double a)
{
    return a > 0.25L ? a : -3;
}
static long double a_hard_shrink(long double a)
{
    return fabsl(a) > 0.5L ? a : 0;
}
static long double a_soft_shrink(long double a)
{
    return fabsl(a) > 0.5L ? a - copysignl(0.5L, a) : 0;
}
static long double a_sparse_plus(long double a)
{
    return a <= -1 ? 0 : a < 1 ? (a + 1) * (a + 1) / 4 : a;
}

/* `size` scales the tolerance: the error of the sum inside is relative to 1, not to the result. */
static const struct {
    kiln_op op;
    kiln_attrs attrs;
    activation_fn *reference;
    double roundings;
    bool is_relative_to_operand;
} activations[] = {
    {KILN_OP_square, {0}, a_square, 1, false},
    {KILN_OP_reciprocal, {0}, a_reciprocal, 1, false},
    {KILN_OP_relu, {0}, a_relu, 0, false},
    {KILN_OP_leaky_relu, {KILN_FAMILY_slope, .slope = {0.125}}, a_leaky, 1, false},
    {KILN_OP_elu, {KILN_FAMILY_slope, .slope = {1.5}}, a_elu, 3, false},
    {KILN_OP_gelu, {KILN_FAMILY_gelu, .gelu = {false}}, a_gelu, 8, true},
    {KILN_OP_gelu, {KILN_FAMILY_gelu, .gelu = {true}}, a_gelu_tanh, 16, true},
    {KILN_OP_silu, {0}, a_silu, 3, false},
    {KILN_OP_softplus, {0}, a_softplus, 200, false},
    {KILN_OP_mish, {0}, a_mish, 200, false},
    {KILN_OP_hard_sigmoid, {KILN_FAMILY_affine, .affine = {0.25, 0.5}}, a_hard_sigmoid, 2, false},
    {KILN_OP_hard_swish, {0}, a_hard_swish, 3, true},
    {KILN_OP_swish, {KILN_FAMILY_slope, .slope = {0.5}}, a_swish, 3, false},
    {KILN_OP_softplus_beta, {KILN_FAMILY_slope, .slope = {4}}, a_softplus_beta, 200, false},
    {KILN_OP_squareplus, {KILN_FAMILY_slope, .slope = {4}}, a_squareplus, 4, false},
    {KILN_OP_log_sigmoid, {0}, a_log_sigmoid, 200, false},
    {KILN_OP_softsign, {0}, a_softsign, 2, false},
    {KILN_OP_tanh_shrink, {0}, a_tanh_shrink, 4, true},
    {KILN_OP_selu, {0}, a_selu, 4, false},
    {KILN_OP_celu, {KILN_FAMILY_slope, .slope = {2}}, a_celu, 3, false},
    {KILN_OP_relu6, {0}, a_relu6, 0, false},
    {KILN_OP_hard_tanh, {KILN_FAMILY_range, .range = {-0.75, 1.5}}, a_hard_tanh, 0, false},
    {KILN_OP_threshold, {KILN_FAMILY_threshold, .threshold = {0.25, -3}}, a_threshold, 0, false},
    {KILN_OP_hard_shrink, {KILN_FAMILY_slope, .slope = {0.5}}, a_hard_shrink, 0, false},
    {KILN_OP_soft_shrink, {KILN_FAMILY_slope, .slope = {0.5}}, a_soft_shrink, 1, true},
    {KILN_OP_sparse_plus, {0}, a_sparse_plus, 4, false},
};

void op_cases_activation(op_batch *batch)
{
    if (batch->dtype == KILN_bool) return;
    int64_t n = 331;
    kiln_value x = op_input(batch, batch->dtype, 1, &n, OP_VALUES_SMALL);
    kiln_value any = op_input(batch, batch->dtype, OP_DIMS(5, 33), OP_VALUES_ANY);
    kiln_value scalar = op_input(batch, batch->dtype, 0, NULL, OP_VALUES_SMALL);
    for (uint32_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        kiln_op op = activations[i].op;
        if (!kiln_dtype_in(batch->dtype, kiln_op_rows[op].types)) continue;
        const kiln_attrs *attrs = activations[i].attrs.family ? &activations[i].attrs : NULL;
        const char *variant = op == KILN_OP_gelu && attrs->gelu.tanh ? "tanh" : "";
        op_reference reference = reference_open(batch, n);
        for (int64_t at = 0; at < n; at++) {
            long double a = op_element(batch, x, at), y = activations[i].reference(a);
            double size =
                activations[i].is_relative_to_operand ? (double)fabsl(a) : (double)fabsl(y);
            reference.expected[at] = y;
            reference.tolerance[at] =
                is_float_case(batch) ? activations[i].roundings * roundoff(batch) * size : 0;
        }
        op_case(batch, op_node(batch, op, 1, &x, attrs), variant, &reference);
        op_case(batch, op_node(batch, op, 1, &any, attrs), variant, NULL);
        op_case(batch, op_node(batch, op, 1, &scalar, attrs), variant, NULL);
    }
}

/* Rows: x is [outer, n], everything happens along the last axis. */

typedef struct row_stats {
    long double mean, variance, largest, exponentials, squares;
} row_stats;

static row_stats stats_of(const op_batch *batch, kiln_value x, int64_t row, int64_t n)
{
    row_stats s = {.largest = -INFINITY};
    for (int64_t i = 0; i < n; i++) {
        long double a = op_element(batch, x, row * n + i);
        s.mean += a / (long double)n;
        s.squares += a * a / (long double)n;
        s.largest = fmaxl(s.largest, a);
    }
    for (int64_t i = 0; i < n; i++) {
        long double a = op_element(batch, x, row * n + i);
        s.variance += (a - s.mean) * (a - s.mean) / (long double)n;
        s.exponentials += expl(a - s.largest);
    }
    return s;
}

#define EPSILON 1e-5L

typedef struct row_case {
    kiln_value x, scale, offset;
    int64_t rows, n;
} row_case;

static long double row_expected(const op_batch *batch, const row_case *c, kiln_op op,
                                const row_stats *s, int64_t row, int64_t i)
{
    long double a = op_element(batch, c->x, row * c->n + i);
    long double scale = op_element(batch, c->scale, i), offset = op_element(batch, c->offset, i);
    switch ((int)op) {
    case KILN_OP_softmax:
        return expl(a - s->largest) / s->exponentials;
    case KILN_OP_log_softmax:
        return a - s->largest - logl(s->exponentials);
    case KILN_OP_layer_norm:
        return (a - s->mean) / sqrtl(s->variance + EPSILON) * scale + offset;
    case KILN_OP_rms_norm:
        return a / sqrtl(s->squares + EPSILON) * scale;
    case KILN_OP_mean:
        return s->mean;
    default:
        return s->variance;
    }
}

static void add_row_op(op_batch *batch, const row_case *c, kiln_op op, const kiln_attrs *attrs)
{
    kiln_value in[] = {c->x, c->scale, c->offset};
    kiln_value y = op_node(batch, op, kiln_op_rows[op].min_inputs, in, attrs);
    int64_t n = op_type(batch, y)->n_elements, per_row = c->rows ? n / c->rows : 0;
    op_reference reference = reference_open(batch, n);
    for (int64_t row = 0; row < c->rows; row++) {
        row_stats s = stats_of(batch, c->x, row, c->n);
        for (int64_t i = 0; i < per_row; i++) {
            int64_t at = row * per_row + i;
            reference.expected[at] = row_expected(batch, c, op, &s, row, i);
            /* Operands are within 2, parameters within 2, a row's deviation at least 1/8 of them.
             */
            reference.tolerance[at] = roundoff(batch) * ((double)c->n + 64) * 8;
        }
    }
    op_case(batch, y, "", &reference);
}

static void add_batch_norm(op_batch *batch)
{
    kiln_value in[5] = {op_input(batch, batch->dtype, OP_DIMS(2, 5, 3, 7), OP_VALUES_SMALL)};
    for (int i = 1; i < 5; i++)
        in[i] =
            op_input(batch, batch->dtype, OP_DIMS(5), i == 4 ? OP_VALUES_UNIT : OP_VALUES_SMALL);
    kiln_attrs attrs = {KILN_FAMILY_batch_norm, .batch_norm = {1, 1e-5}};
    kiln_value y = op_node(batch, KILN_OP_batch_norm, 5, in, &attrs);
    op_reference reference = reference_open(batch, 210);
    for (int64_t i = 0; i < 210; i++) {
        int64_t channel = i / 21 % 5;
        long double deviation = sqrtl(op_element(batch, in[4], channel) + EPSILON);
        long double centered = op_element(batch, in[0], i) - op_element(batch, in[3], channel);
        reference.expected[i] = centered / deviation * op_element(batch, in[1], channel) +
                                op_element(batch, in[2], channel);
        reference.tolerance[i] = 200 * roundoff(batch);
    }
    op_case(batch, y, "", &reference);
}

static void add_linear(op_batch *batch)
{
    kiln_value in[] = {op_input(batch, batch->dtype, OP_DIMS(3, 5, 17), OP_VALUES_SMALL),
                       op_input(batch, batch->dtype, OP_DIMS(17, 33), OP_VALUES_SMALL),
                       op_input(batch, batch->dtype, OP_DIMS(33), OP_VALUES_SMALL)};
    for (uint32_t n_inputs = 2; n_inputs < 4; n_inputs++) {
        kiln_value y = op_node(batch, KILN_OP_linear, n_inputs, in, NULL);
        op_reference reference = reference_open(batch, 15 * 33);
        for (int64_t i = 0; i < 15 * 33; i++) {
            long double sum = n_inputs == 3 ? op_element(batch, in[2], i % 33) : 0,
                        size = fabsl(sum);
            for (int64_t k = 0; k < 17; k++) {
                long double term = op_element(batch, in[0], i / 33 * 17 + k) *
                                   op_element(batch, in[1], k * 33 + i % 33);
                sum += term;
                size += fabsl(term);
            }
            reference.expected[i] = sum;
            reference.tolerance[i] = (double)size * 40 * roundoff(batch);
            /* the product is rounded to the operands' dtype before the offset is added */
            if (n_inputs == 3) reference.tolerance[i] += (double)size * bound_ulp(batch->dtype, 1);
        }
        op_case(batch, y, n_inputs == 3 ? "offset" : "", &reference);
    }
}

void op_cases_row(op_batch *batch)
{
    if (!is_float_case(batch)) return;
    static const int64_t shapes[][2] = {{3, 7},  {5, 16}, {4, 33},   {2, 129},
                                        {17, 8}, {0, 5},  {2, 4099}, {70, 96}};
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        row_case c = {.rows = shapes[i][0], .n = shapes[i][1]};
        c.x = op_input(batch, batch->dtype, 2, shapes[i], OP_VALUES_SMALL);
        c.scale = op_input(batch, batch->dtype, 1, &c.n, OP_VALUES_UNIT);
        c.offset = op_input(batch, batch->dtype, 1, &c.n, OP_VALUES_SMALL);
        kiln_attrs axis = {KILN_FAMILY_axis, .axis = {1}},
                   axes = {KILN_FAMILY_axes, .axes = {OP_INTS(1)}};
        kiln_attrs norm = {KILN_FAMILY_norm, .norm = {(double)EPSILON}};
        add_row_op(batch, &c, KILN_OP_softmax, &axis);
        add_row_op(batch, &c, KILN_OP_log_softmax, &axis);
        add_row_op(batch, &c, KILN_OP_mean, &axes);
        add_row_op(batch, &c, KILN_OP_variance, &axes);
        add_row_op(batch, &c, KILN_OP_layer_norm, &norm);
        add_row_op(batch, &c, KILN_OP_rms_norm, &norm);
    }
    kiln_value any = op_input(batch, batch->dtype, OP_DIMS(4, 9, 17), OP_VALUES_ANY);
    for (int64_t i = 0; i < 3; i++) {
        kiln_attrs axis = {KILN_FAMILY_axis, .axis = {i}};
        op_case(batch, op_node(batch, KILN_OP_softmax, 1, &any, &axis), "special values", NULL);
        op_case(batch, op_node(batch, KILN_OP_log_softmax, 1, &any, &axis), "special values", NULL);
    }
    add_batch_norm(batch);
    add_linear(batch);
}

/* Attention by its definition, one query row at a time. */

typedef struct attention_case {
    int64_t batch, heads, key_heads, rows, columns, width, value_width;
    bool causal;
    char mask; /* 0, 'b' bool [columns], 'f' float [rows, columns] */
} attention_case;

static long double score_of(const op_batch *batch, const kiln_value *in, const attention_case *c,
                            const int64_t *at, int64_t column)
{
    int64_t key_head = at[1] / (c->heads / c->key_heads);
    int64_t q = ((at[0] * c->heads + at[1]) * c->rows + at[2]) * c->width;
    int64_t k = ((at[0] * c->key_heads + key_head) * c->columns + column) * c->width;
    long double sum = 0;
    for (int64_t i = 0; i < c->width; i++)
        sum += op_element(batch, in[0], q + i) * op_element(batch, in[1], k + i);
    sum /= sqrtl((long double)c->width);
    if (c->mask == 'f') sum += op_element(batch, in[3], at[2] * c->columns + column);
    bool is_masked = c->mask == 'b' && op_element(batch, in[3], column) == 0;
    return is_masked || (c->causal && column > at[2]) ? -INFINITY : sum;
}

static long double attention_expected(const op_batch *batch, const kiln_value *in,
                                      const attention_case *c, int64_t index)
{
    int64_t at[] = {index / c->value_width / c->rows / c->heads,
                    index / c->value_width / c->rows % c->heads, index / c->value_width % c->rows,
                    index % c->value_width};
    int64_t key_head = at[1] / (c->heads / c->key_heads);
    int64_t v = (at[0] * c->key_heads + key_head) * c->columns * c->value_width + at[3];
    long double sum = 0, weights = 0;
    for (int64_t column = 0; column < c->columns; column++) {
        long double weight = expl(score_of(batch, in, c, at, column));
        weights += weight;
        sum += weight * op_element(batch, in[2], v + column * c->value_width);
    }
    return sum / weights;
}

void op_cases_attention(op_batch *batch)
{
    if (!is_float_case(batch)) return;
    static const attention_case rows[] = {
        {2, 3, 3, 5, 7, 8, 8, false, 0},
        {1, 4, 2, 9, 9, 16, 5, true, 0},
        {1, 2, 2, 3, 17, 4, 9, false, 'f'},
        {2, 4, 1, 6, 5, 8, 8, true, 'b'},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        attention_case c = rows[i];
        kiln_value in[4] = {
            op_input(batch, batch->dtype, OP_DIMS(c.batch, c.heads, c.rows, c.width),
                     OP_VALUES_SMALL),
            op_input(batch, batch->dtype, OP_DIMS(c.batch, c.key_heads, c.columns, c.width),
                     OP_VALUES_SMALL),
            op_input(batch, batch->dtype, OP_DIMS(c.batch, c.key_heads, c.columns, c.value_width),
                     OP_VALUES_SMALL)};
        if (c.mask == 'f')
            in[3] = op_input(batch, batch->dtype, OP_DIMS(c.rows, c.columns), OP_VALUES_SMALL);
        if (c.mask == 'b') in[3] = op_input(batch, KILN_bool, OP_DIMS(c.columns), OP_VALUES_UNIT);
        kiln_attrs attrs = {KILN_FAMILY_attention, .attention = {0, c.causal}};
        kiln_value y = op_node(batch, KILN_OP_attention, c.mask ? 4 : 3, in, &attrs);
        int64_t n = op_type(batch, y)->n_elements;
        op_reference reference = reference_open(batch, n);
        for (int64_t at = 0; at < n; at++) {
            reference.expected[at] = attention_expected(batch, in, &c, at);
            reference.tolerance[at] = roundoff(batch) * 2000;
        }
        op_case(batch, y, c.causal ? "causal" : "", &reference);
    }
}
