/* The evaluator of nodes that compute with complex values: pairs of doubles in C's own arithmetic,
 * each part rounded once to the result's dtype. Nodes that only move elements need nothing here. */
#include <complex.h>
#include <math.h>

#include "graph/eval.h"

typedef double complex pair;

/* CMPLX without its multiplication, which spoils infinities. */
static pair pair_of(double re, double im)
{
    union {
        double parts[2];
        pair value;
    } made = {{re, im}};
    return made.value;
}

static pair z_mul(pair a, pair b)
{
    double x = creal(a), y = cimag(a), u = creal(b), v = cimag(b);
    return pair_of(x * u - y * v, x * v + y * u);
}

/* The divisor is scaled to about 1; by 0 both parts are divided. */
static pair z_div(pair a, pair b)
{
    if (creal(b) == 0 && cimag(b) == 0) return pair_of(creal(a) / 0.0, cimag(a) / 0.0);
    int scale;
    frexp(fmax(fabs(creal(b)), fabs(cimag(b))), &scale);
    double u = ldexp(creal(b), -scale), v = ldexp(cimag(b), -scale), size = u * u + v * v;
    double x = creal(a), y = cimag(a);
    return pair_of(ldexp((x * u + y * v) / size, -scale), ldexp((y * u - x * v) / size, -scale));
}

static pair z_add(pair a, pair b)
{
    return a + b;
}
static pair z_sub(pair a, pair b)
{
    return a - b;
}
static pair z_neg(pair a)
{
    return -a;
}
static pair z_pow(pair a, pair b)
{
    if (a == 0) return b == 0 ? 1 : 0;
    return cexp(z_mul(b, clog(a)));
}
static pair z_sign(pair a)
{
    return a == 0 ? a : a / cabs(a);
}
static pair z_rsqrt(pair a)
{
    return z_div(1, csqrt(a));
}
static pair z_logistic(pair a)
{
    return z_div(1, 1 + cexp(-a));
}
static pair z_expm1(pair a)
{
    double half = sin(cimag(a) / 2);
    return pair_of(expm1(creal(a)) * cos(cimag(a)) - 2 * half * half,
                   exp(creal(a)) * sin(cimag(a)));
}
static pair z_log1p(pair a)
{
    double x = creal(a), y = cimag(a);
    bool is_small = fabs(x) < 0.5 && fabs(y) < 0.5;
    double size = is_small ? log1p(x * (2 + x) + y * y) / 2 : log(hypot(1 + x, y));
    return pair_of(size, atan2(y, 1 + x));
}
static pair z_abs(pair a)
{
    return cabs(a);
}
static pair z_real(pair a)
{
    return creal(a);
}
static pair z_imag(pair a)
{
    return cimag(a);
}
static pair z_finite(pair a)
{
    return isfinite(creal(a)) && isfinite(cimag(a));
}
static pair z_join(pair a, pair b)
{
    return pair_of(creal(a), creal(b));
}
static pair z_eq(pair a, pair b)
{
    return creal(a) == creal(b) && cimag(a) == cimag(b);
}
static pair z_ne(pair a, pair b)
{
    return !(creal(a) == creal(b) && cimag(a) == cimag(b));
}

/* By the real part, then by the imaginary one. */
static pair z_lt(pair a, pair b)
{
    return creal(a) < creal(b) || (creal(a) == creal(b) && cimag(a) < cimag(b));
}
static pair z_gt(pair a, pair b)
{
    return z_lt(b, a);
}
static pair z_le(pair a, pair b)
{
    return z_lt(a, b) != 0 || z_eq(a, b) != 0;
}
static pair z_ge(pair a, pair b)
{
    return z_le(b, a);
}
static bool is_nan(pair a)
{
    return isnan(creal(a)) || isnan(cimag(a));
}
static pair z_max(pair a, pair b)
{
    if (is_nan(a) || is_nan(b)) return is_nan(a) ? a : b;
    return z_lt(a, b) != 0 ? b : a;
}
static pair z_min(pair a, pair b)
{
    if (is_nan(a) || is_nan(b)) return is_nan(a) ? a : b;
    return z_lt(b, a) != 0 ? b : a;
}
/* Scaled where squares would leave the range. */
static pair z_atan2(pair a, pair b)
{
    double size = fmax(fmax(fabs(creal(a)), fabs(cimag(a))), fmax(fabs(creal(b)), fabs(cimag(b))));
    double scale = size > 0x1p400 ? 0x1p-800 : size < 0x1p-400 ? 0x1p800 : 1;
    a = pair_of(creal(a) * scale, cimag(a) * scale);
    b = pair_of(creal(b) * scale, cimag(b) * scale);
    pair turned = pair_of(creal(b) - cimag(a), cimag(b) + creal(a)); /* b + a i */
    pair log = clog(z_div(turned, csqrt(z_mul(a, a) + z_mul(b, b))));
    return pair_of(cimag(log), -creal(log));
}

typedef struct pair_row {
    pair (*unary)(pair a);
    pair (*binary)(pair a, pair b);
} pair_row;

static const pair_row rows[KILN_N_OPS] = {
    [KILN_OP_neg] = {.unary = z_neg},          [KILN_OP_abs] = {.unary = z_abs},
    [KILN_OP_sign] = {.unary = z_sign},        [KILN_OP_exp] = {.unary = cexp},
    [KILN_OP_expm1] = {.unary = z_expm1},      [KILN_OP_log] = {.unary = clog},
    [KILN_OP_log1p] = {.unary = z_log1p},      [KILN_OP_sqrt] = {.unary = csqrt},
    [KILN_OP_rsqrt] = {.unary = z_rsqrt},      [KILN_OP_sin] = {.unary = csin},
    [KILN_OP_cos] = {.unary = ccos},           [KILN_OP_tan] = {.unary = ctan},
    [KILN_OP_tanh] = {.unary = ctanh},         [KILN_OP_logistic] = {.unary = z_logistic},
    [KILN_OP_is_finite] = {.unary = z_finite}, [KILN_OP_real] = {.unary = z_real},
    [KILN_OP_imag] = {.unary = z_imag},        [KILN_OP_complex] = {.binary = z_join},
    [KILN_OP_add] = {.binary = z_add},         [KILN_OP_sub] = {.binary = z_sub},
    [KILN_OP_mul] = {.binary = z_mul},         [KILN_OP_div] = {.binary = z_div},
    [KILN_OP_pow] = {.binary = z_pow},         [KILN_OP_eq] = {.binary = z_eq},
    [KILN_OP_ne] = {.binary = z_ne},           [KILN_OP_reduce_sum] = {.binary = z_add},
    [KILN_OP_reduce_prod] = {.binary = z_mul}, [KILN_OP_lt] = {.binary = z_lt},
    [KILN_OP_le] = {.binary = z_le},           [KILN_OP_gt] = {.binary = z_gt},
    [KILN_OP_ge] = {.binary = z_ge},           [KILN_OP_max] = {.binary = z_max},
    [KILN_OP_min] = {.binary = z_min},         [KILN_OP_atan2] = {.binary = z_atan2},
    [KILN_OP_clamp] = {.binary = z_max}, /* and then min */
};

static bool is_complex(const kiln_type *type)
{
    return kiln_dtype_in(type->dtype, KILN_TYPES_COMPLEX);
}

bool kiln_eval_is_complex(const kiln_eval_call *call)
{
    bool has_complex = is_complex(call->node->type);
    for (uint32_t i = 0; i < call->node->n_inputs; i++) has_complex |= is_complex(call->types[i]);
    uint16_t op = call->node->op;
    return has_complex && (rows[op].unary || rows[op].binary || op == KILN_OP_convert ||
                           op == KILN_OP_dot_general || op == KILN_OP_convolution);
}

/* A whole operand; the imaginary part of a real one is 0. */
static pair *load_pairs(const kiln_eval_call *call, uint32_t operand)
{
    const kiln_type *type = call->types[operand];
    pair *pairs = kiln_new_array(call->scratch, pair, type->n_elements);
    for (int64_t i = 0; i < type->n_elements; i++) {
        double parts[2] = {0, 0};
        if (is_complex(type)) {
            kiln_element_load_double(kiln_dtype_part(type->dtype), call->in[operand], 2 * i, 2,
                                     parts);
        } else {
            kiln_element_load_double(type->dtype, call->in[operand], i, 1, parts);
        }
        pairs[i] = pair_of(parts[0], parts[1]);
    }
    return pairs;
}

static void store_pair(const kiln_eval_call *call, int64_t i, pair value)
{
    kiln_dtype dtype = call->node->type->dtype;
    double parts[] = {creal(value), cimag(value)};
    if (is_complex(call->node->type)) {
        kiln_element_store_double(kiln_dtype_part(dtype), call->out, 2 * i, 2, parts);
    } else {
        if (dtype == KILN_bool) parts[0] = value != 0;
        kiln_element_store_double(dtype, call->out, i, 1, parts);
    }
}

static void eval_reduce(const kiln_eval_call *call)
{
    const kiln_type *from = call->types[0], *type = call->node->type;
    kiln_ints axes = call->node->attrs->axes.axes;
    int64_t natural[KILN_MAX_RANK], strides[KILN_MAX_RANK] = {0};
    kiln_eval_strides(type->rank, type->dims, natural);
    for (uint32_t axis = 0, dropped = 0, kept = 0; axis < from->rank; axis++) {
        bool is_dropped = dropped < axes.n && axes.at[dropped] == (int64_t)axis;
        if (is_dropped)
            dropped++;
        else
            strides[axis] = natural[kept++];
    }
    pair *in = load_pairs(call, 0), *sums = kiln_new_array(call->scratch, pair, type->n_elements);
    pair first = call->node->op == KILN_OP_reduce_prod;
    for (int64_t i = 0; i < type->n_elements; i++) sums[i] = first;
    kiln_eval_walk walk = {.rank = from->rank, .dims = from->dims, .strides = {strides, NULL}};
    for (int64_t i = 0; i < from->n_elements; i++, kiln_eval_walk_next(&walk)) {
        pair *sum = &sums[walk.offset[0]];
        *sum = rows[call->node->op].binary(*sum, in[i]);
    }
    for (int64_t i = 0; i < type->n_elements; i++) store_pair(call, i, sums[i]);
}

/* One operand of dot_general: where each of its batch, free and contracted elements lies. */
typedef struct dot_side {
    pair *values;
    int64_t *outer, *inner; /* offsets: of [batch][free], and of contracted elements */
    int64_t n_batch, n_free, n_inner;
} dot_side;

/* Offsets of the elements over some axes, row-major. */
static int64_t *offsets_over(const kiln_eval_call *call, uint32_t operand, const int64_t *axes,
                             uint32_t n, int64_t *out_count)
{
    int64_t strides[KILN_MAX_RANK], dims[KILN_MAX_RANK], steps[KILN_MAX_RANK], count = 1;
    kiln_eval_strides(call->types[operand]->rank, call->types[operand]->dims, strides);
    for (uint32_t i = 0; i < n; i++) {
        dims[i] = call->types[operand]->dims[axes[i]];
        steps[i] = strides[axes[i]];
        count *= dims[i];
    }
    int64_t *offsets = kiln_new_array(call->scratch, int64_t, count);
    kiln_eval_walk walk = {.rank = n, .dims = dims, .strides = {steps, NULL}};
    for (int64_t i = 0; i < count; i++, kiln_eval_walk_next(&walk)) offsets[i] = walk.offset[0];
    *out_count = count;
    return offsets;
}

static dot_side open_side(const kiln_eval_call *call, uint32_t operand, kiln_ints batch,
                          kiln_ints contract)
{
    dot_side side = {.values = load_pairs(call, operand), .n_batch = 1};
    int64_t axes[KILN_MAX_RANK], n_outer;
    uint32_t n = batch.n;
    for (uint32_t i = 0; i < batch.n; i++) {
        axes[i] = batch.at[i];
        side.n_batch *= call->types[operand]->dims[batch.at[i]];
    }
    for (uint32_t axis = 0; axis < call->types[operand]->rank; axis++) {
        bool is_taken = false;
        for (uint32_t i = 0; i < batch.n; i++) is_taken |= batch.at[i] == (int64_t)axis;
        for (uint32_t i = 0; i < contract.n; i++) is_taken |= contract.at[i] == (int64_t)axis;
        if (!is_taken) axes[n++] = axis;
    }
    side.outer = offsets_over(call, operand, axes, n, &n_outer);
    side.inner = offsets_over(call, operand, contract.at, contract.n, &side.n_inner);
    side.n_free = side.n_batch ? n_outer / side.n_batch : 0;
    return side;
}

static void eval_dot(const kiln_eval_call *call)
{
    const kiln_attrs *attrs = call->node->attrs;
    dot_side a = open_side(call, 0, attrs->dot.lhs_batch, attrs->dot.lhs_contract);
    dot_side b = open_side(call, 1, attrs->dot.rhs_batch, attrs->dot.rhs_contract);
    int64_t n = call->node->type->n_elements;
    for (int64_t to = 0; to < n; to++) {
        int64_t column = to % b.n_free, row = to / b.n_free;
        const pair *x = a.values + a.outer[row];
        const pair *y = b.values + b.outer[row / a.n_free * b.n_free + column];
        pair sum = 0;
        for (int64_t k = 0; k < a.n_inner; k++) sum += z_mul(x[a.inner[k]], y[b.inner[k]]);
        store_pair(call, to, sum);
    }
}

/* One part of an operand as a whole array. */
static double *part_of(const kiln_eval_call *call, const pair *values, uint32_t operand, bool is_im)
{
    int64_t n = call->types[operand]->n_elements;
    double *part = kiln_new_array(call->scratch, double, n + 1);
    for (int64_t i = 0; i < n; i++) part[i] = is_im ? cimag(values[i]) : creal(values[i]);
    return part;
}

static kiln_type as_double(const kiln_type *type)
{
    kiln_type real = *type;
    real.dtype = KILN_f64;
    real.bytes = 8 * type->n_elements;
    return real;
}

/* The node over real arrays of doubles. */
static double *real_result(const kiln_eval_call *call, const double *a, const double *b)
{
    kiln_type type = as_double(call->node->type), lhs = as_double(call->types[0]),
              rhs = as_double(call->types[1]);
    kiln_attrs attrs = *call->node->attrs;
    attrs.conv.accumulate = KILN_f64;
    kiln_node node = *call->node;
    node.type = &type;
    node.attrs = &attrs;
    double *out = kiln_new_array(call->scratch, double, type.n_elements + 1);
    kiln_eval_contract(&(kiln_eval_call){call->scope, call->scratch, &node,
                                         (const kiln_type *[]){&lhs, &rhs}, (const void *[]){a, b},
                                         out, call->context});
    return out;
}

/* (a + b i)(c + d i) with convolutions for products. */
static void eval_convolution(const kiln_eval_call *call)
{
    pair *x = load_pairs(call, 0), *y = load_pairs(call, 1);
    double *a = part_of(call, x, 0, false), *b = part_of(call, x, 0, true);
    double *c = part_of(call, y, 1, false), *d = part_of(call, y, 1, true);
    double *ac = real_result(call, a, c), *bd = real_result(call, b, d);
    double *ad = real_result(call, a, d), *bc = real_result(call, b, c);
    for (int64_t i = 0; i < call->node->type->n_elements; i++)
        store_pair(call, i, pair_of(ac[i] - bd[i], ad[i] + bc[i]));
}

void kiln_eval_complex(const kiln_eval_call *call)
{
    uint16_t op = call->node->op;
    if (op == KILN_OP_convolution) {
        eval_convolution(call);
        return;
    }
    if (op == KILN_OP_dot_general) {
        eval_dot(call);
        return;
    }
    if (kiln_node_row(call->node)->class_ == KILN_REDUCE) {
        eval_reduce(call);
        return;
    }
    pair *a = load_pairs(call, 0), *b = call->node->n_inputs > 1 ? load_pairs(call, 1) : NULL;
    pair *high = op == KILN_OP_clamp ? load_pairs(call, 2) : NULL;
    for (int64_t i = 0; i < call->node->type->n_elements; i++) {
        pair value = a[i];
        if (rows[op].unary) value = rows[op].unary(a[i]);
        if (rows[op].binary) value = rows[op].binary(a[i], b[i]);
        if (high) value = z_min(value, high[i]);
        store_pair(call, i, value);
    }
}
