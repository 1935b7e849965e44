/* Composites: functions, norms, attention, random numbers, transforms. */
#include <string.h>

#include "fuzz/generate.h"

static kiln_value add_vector(fuzz_graph *g, kiln_dtype dtype, int64_t n)
{
    return fuzz_operand(g, kiln_graph_tensor(g->batch.graph, dtype, 1, &n));
}

static bool add_norm(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank == 0) return false;
    int64_t n = type->dims[type->rank - 1];
    kiln_value in[] = {x, add_vector(g, type->dtype, n), add_vector(g, type->dtype, n)};
    kiln_attrs attrs = {KILN_FAMILY_norm, .norm = {1e-3}};
    bool is_layer = fuzz_chance(g, 60);
    fuzz_node(g, is_layer ? KILN_OP_layer_norm : KILN_OP_rms_norm, is_layer ? 3 : 2, in, &attrs);
    return true;
}

static bool add_batch_norm(fuzz_graph *g, kiln_value x)
{
    static const kiln_op ops[] = {KILN_OP_batch_norm, KILN_OP_batch_norm_training,
                                  KILN_OP_batch_norm_grad, KILN_OP_batch_norm_grad_scale};
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank == 0) return false;
    int64_t axis = (int64_t)fuzz_below(g, type->rank), n = type->dims[axis];
    kiln_op op = ops[fuzz_below(g, 4)];
    kiln_value in[5] = {x};
    for (uint32_t i = 1; i < 4; i++) in[i] = add_vector(g, type->dtype, n);
    bool is_gradient = op == KILN_OP_batch_norm_grad || op == KILN_OP_batch_norm_grad_scale;
    in[4] = is_gradient ? fuzz_operand(g, type) : add_vector(g, type->dtype, n);
    uint32_t variance = is_gradient ? 3 : 4;
    in[variance] = kiln_add_unary(g->batch.graph, KILN_OP_abs, in[variance]);
    kiln_attrs attrs = {KILN_FAMILY_batch_norm, .batch_norm = {axis, 1e-3}};
    fuzz_node(g, op, op == KILN_OP_batch_norm_training ? 3 : 5, in, &attrs);
    return true;
}

static bool add_linear(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    int64_t dims[2] = {0, 1 + (int64_t)fuzz_below(g, 33)};
    if (type->rank == 0 || type->n_elements * dims[1] > 200000) return false;
    dims[0] = type->dims[type->rank - 1];
    kiln_value in[] = {x, fuzz_operand(g, kiln_graph_tensor(g->batch.graph, type->dtype, 2, dims)),
                       add_vector(g, type->dtype, dims[1])};
    fuzz_node(g, KILN_OP_linear, fuzz_chance(g, 60) ? 3 : 2, in, NULL);
    return true;
}

/* Rows and columns of attention. */
static int64_t pick_length(fuzz_graph *g, bool is_long, uint64_t long_size)
{
    if (g->is_large) return fuzz_size(g) + 1;
    return 1 + (int64_t)fuzz_below(g, is_long ? long_size : 9);
}

bool fuzz_step_attention(fuzz_graph *g)
{
    kiln_graph *graph = g->batch.graph;
    kiln_dtype dtype = fuzz_type(g, fuzz_pick_in(g, KILN_TYPES_FLOAT))->dtype;
    int64_t key_heads = 1 + (int64_t)fuzz_below(g, 2);
    int64_t heads = key_heads * (1 + (int64_t)fuzz_below(g, 2)), batch = 1 + fuzz_chance(g, 30);
    bool is_long = fuzz_chance(g, 25);
    int64_t rows = pick_length(g, is_long, 36), columns = pick_length(g, is_long, 70);
    int64_t width = 1 + (int64_t)fuzz_below(g, g->is_large ? 70 : 17),
            out = 1 + (int64_t)fuzz_below(g, g->is_large ? 70 : 17);
    if (batch * heads * rows * columns * (width + out) > g->max_work) return false;
    int64_t q[] = {batch, heads, rows, width}, k[] = {batch, key_heads, columns, width},
            v[] = {batch, key_heads, columns, out}, mask[] = {batch, heads, rows, columns};
    kiln_value in[] = {fuzz_operand(g, kiln_graph_tensor(graph, dtype, 4, q)),
                       fuzz_operand(g, kiln_graph_tensor(graph, dtype, 4, k)),
                       fuzz_operand(g, kiln_graph_tensor(graph, dtype, 4, v)),
                       {0}};
    kiln_attrs attrs = {KILN_FAMILY_attention,
                        .attention = {fuzz_chance(g, 80) ? 0 : 0.5, fuzz_chance(g, 40)}};
    bool is_masked = fuzz_chance(g, 40);
    uint32_t rank = 2 + (uint32_t)fuzz_below(g, 3);
    kiln_dtype kind = fuzz_chance(g, 50) ? KILN_bool : KILN_f32;
    if (is_masked) in[3] = fuzz_operand(g, kiln_graph_tensor(graph, kind, rank, mask + (4 - rank)));
    fuzz_node(g, KILN_OP_attention, 3 + is_masked, in, &attrs);
    return true;
}

/* Numbers for a family that has nothing else; false for any other family. */
static bool fill_numbers(fuzz_graph *g, kiln_attrs *attrs)
{
    switch ((int)attrs->family) {
    case KILN_FAMILY_gelu:
        attrs->gelu.tanh = fuzz_chance(g, 50);
        return true;
    case KILN_FAMILY_slope:
        attrs->slope.slope = fuzz_chance(g, 50) ? 0.2 : 1.5;
        return true;
    case KILN_FAMILY_affine:
        attrs->affine.scale = 0.2;
        attrs->affine.offset = 0.5;
        return true;
    case KILN_FAMILY_range:
        attrs->range.low = -0.75;
        attrs->range.high = 1.25;
        return true;
    case KILN_FAMILY_threshold:
        attrs->threshold.threshold = 0.25;
        attrs->threshold.value = -3;
        return true;
    case KILN_FAMILY_reduce_precision:
        attrs->reduce_precision.exponent_bits = 1 + (int64_t)fuzz_below(g, 11);
        attrs->reduce_precision.mantissa_bits = (int64_t)fuzz_below(g, 25);
        return true;
    default:
        return false;
    }
}

/* Rows of one operand whose attributes are numbers. */
static bool add_shaped_function(fuzz_graph *g, kiln_value x)
{
    kiln_op fitting[KILN_N_OPS];
    uint32_t n = 0;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        const kiln_op_row *row = &kiln_op_rows[op];
        if (row->class_ != KILN_COMPOSITE || row->max_inputs != 1) continue;
        if (fill_numbers(g, &(kiln_attrs){row->attrs})) fitting[n++] = (kiln_op)op;
    }
    kiln_op op = fitting[fuzz_below(g, n)];
    kiln_attrs attrs = {kiln_op_rows[op].attrs};
    fill_numbers(g, &attrs);
    fuzz_node(g, op, 1, &x, &attrs);
    return true;
}

/* Rows without attributes, of one or two operands of one type. */
bool fuzz_step_function(fuzz_graph *g)
{
    kiln_value in[2] = {fuzz_pick_in(g, KILN_TYPES_ARITHMETIC)};
    const kiln_type *type = fuzz_type(g, in[0]);
    if (fuzz_chance(g, 25) && kiln_dtype_in(type->dtype, KILN_TYPES_FLOAT))
        return add_shaped_function(g, in[0]);
    uint32_t n = fuzz_chance(g, 95) ? 1 : 2;
    kiln_op op = fuzz_pick_op(g, KILN_COMPOSITE, n, type->dtype);
    if (op == KILN_OP_none) return false;
    if (n == 2) in[1] = fuzz_operand(g, type);
    fuzz_node(g, op, n, in, NULL);
    return true;
}

/* In groups of the second axis, or over neighbours along one. */
static bool add_group(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank < 2 || type->n_elements == 0) return false;
    if (fuzz_chance(g, 50)) {
        int64_t axis = (int64_t)fuzz_below(g, type->rank), most = type->dims[axis] < 4 ? 1 : 3;
        kiln_attrs local = {KILN_FAMILY_local_norm,
                            .local_norm = {axis, (int64_t)fuzz_below(g, (uint64_t)most),
                                           (int64_t)fuzz_below(g, (uint64_t)most), 1e-2, 0.75, 1}};
        fuzz_node(g, KILN_OP_local_norm, 1, &x, &local);
        return true;
    }
    int64_t n = type->dims[1], groups = n % 2 == 0 && fuzz_chance(g, 60) ? 2 : 1;
    kiln_value in[] = {x, add_vector(g, type->dtype, n), add_vector(g, type->dtype, n)};
    kiln_attrs attrs = {KILN_FAMILY_group_norm, .group_norm = {groups, 1e-3}};
    fuzz_node(g, KILN_OP_group_norm, 3, in, &attrs);
    return true;
}

static bool add_rotary(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank == 0 || type->dims[type->rank - 1] < 2) return false;
    int64_t half = 1 + (int64_t)fuzz_below(g, (uint64_t)type->dims[type->rank - 1] / 2);
    kiln_value in[] = {x, add_vector(g, type->dtype, half), add_vector(g, type->dtype, half)};
    kiln_attrs attrs = {KILN_FAMILY_rotary, .rotary = {fuzz_chance(g, 50)}};
    fuzz_node(g, KILN_OP_rotary, 3, in, &attrs);
    return true;
}

static bool add_along(fuzz_graph *g, kiln_value x)
{
    static const kiln_op ops[] = {KILN_OP_softmax, KILN_OP_softmax, KILN_OP_log_softmax,
                                  KILN_OP_sparsemax, KILN_OP_glu};
    const kiln_type *type = fuzz_type(g, x);
    kiln_op op = ops[fuzz_below(g, sizeof ops / sizeof *ops)];
    int64_t axis = (int64_t)fuzz_below(g, type->rank);
    if (op == KILN_OP_glu && type->dims[axis] % 2) op = KILN_OP_softmax;
    kiln_attrs attrs = {KILN_FAMILY_axis, .axis = {axis}};
    fuzz_node(g, op, 1, &x, &attrs);
    return true;
}

static bool add_row(fuzz_graph *g, kiln_value x)
{
    const kiln_type *type = fuzz_type(g, x);
    if (type->rank == 0) return false;
    if (fuzz_chance(g, 50)) return add_along(g, x);
    int64_t axes[KILN_MAX_RANK];
    kiln_attrs attrs = {KILN_FAMILY_axes, .axes = {{fuzz_axes(g, type->rank, axes), axes}}};
    fuzz_node(g, fuzz_chance(g, 50) ? KILN_OP_mean : KILN_OP_variance, 1, &x, &attrs);
    return true;
}

/* Over one or two axes before the pairs. */
static bool add_fft(fuzz_graph *g, kiln_dtype dtype)
{
    int64_t dims[3] = {1 + (int64_t)fuzz_below(g, 4), 1 + (int64_t)fuzz_below(g, 40), 2}, axes[2];
    uint32_t n = 0;
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 1 || fuzz_chance(g, 30)) axes[n++] = i;
    }
    kiln_value x = fuzz_operand(g, kiln_graph_tensor(g->batch.graph, dtype, 3, dims));
    kiln_attrs attrs = {KILN_FAMILY_fft, .fft = {{n, axes}, fuzz_chance(g, 50)}};
    fuzz_node(g, KILN_OP_fft, 1, &x, &attrs);
    return true;
}

bool fuzz_step_composite(fuzz_graph *g)
{
    kiln_value x = fuzz_pick_in(g, KILN_TYPES_FLOAT);
    switch (fuzz_below(g, 10)) {
    case 0:
        return add_norm(g, x);
    case 1:
        return add_linear(g, x);
    case 2:
        return fuzz_step_attention(g);
    case 3:
        return add_batch_norm(g, x);
    case 4:
        return fuzz_chance(g, 40) && add_fft(g, fuzz_type(g, x)->dtype);
    case 5:
        return add_group(g, x);
    case 6:
        return add_rotary(g, x);
    default:
        return add_row(g, x);
    }
}

bool fuzz_step_random(fuzz_graph *g)
{
    static const kiln_op ops[] = {
        KILN_OP_threefry2x32,   KILN_OP_philox4x32,    KILN_OP_random_bits, KILN_OP_random_split,
        KILN_OP_random_uniform, KILN_OP_random_normal, KILN_OP_dropout};
    static const kiln_dtype dtypes[] = {KILN_f32, KILN_f32, KILN_f64, KILN_bf16, KILN_f16};
    kiln_op op = ops[fuzz_below(g, sizeof ops / sizeof *ops)];
    int64_t two = 2, dims[2] = {fuzz_size(g), fuzz_size(g)};
    kiln_value in[2] = {fuzz_input(g, KILN_u32, 1, &two)};
    kiln_attrs attrs = {kiln_op_rows[op].attrs};
    if (!fuzz_fits(g, 2, dims)) return false;
    switch ((int)op) {
    case KILN_OP_threefry2x32:
    case KILN_OP_philox4x32:
        dims[0] = op == KILN_OP_philox4x32 ? 4 : 2;
        in[1] = fuzz_input(g, KILN_u32, 2, dims);
        break;
    case KILN_OP_random_bits:
        attrs.sizes.sizes = (kiln_ints){2, dims};
        break;
    case KILN_OP_random_split:
        attrs.count.n = (int64_t)fuzz_below(g, 9);
        break;
    case KILN_OP_dropout:
        in[1] = in[0];
        in[0] = fuzz_pick_in(g, KILN_TYPES_FLOAT);
        attrs.rate.rate = 0.25;
        break;
    default:
        attrs.random.dtype = dtypes[fuzz_below(g, sizeof dtypes / sizeof *dtypes)];
        attrs.random.dims = (kiln_ints){2, dims};
        attrs.random.scale = 1;
    }
    fuzz_node(g, op, kiln_op_rows[op].min_inputs, in, attrs.family ? &attrs : NULL);
    return true;
}
