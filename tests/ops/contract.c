/* Cases of contractions. References sum by index formulas, result element by result element;
 * integers stay small enough to be exact before they wrap. */
#include <math.h>

#include "ops/cases.h"

static kiln_dtype accumulator(kiln_dtype dtype)
{
    return kiln_dtype_accumulator(dtype);
}

static bool is_float_case(const op_batch *batch)
{
    return kiln_dtype_kind_of(batch->dtype) == KILN_DTYPE_KIND_FLOAT;
}

static void unravel(uint32_t rank, const int64_t *dims, int64_t linear, int64_t *out)
{
    for (uint32_t i = rank; i-- > 0;) {
        out[i] = linear % dims[i];
        linear /= dims[i];
    }
}

static int64_t ravel(const kiln_type *type, const int64_t *at)
{
    int64_t linear = 0;
    for (uint32_t i = 0; i < type->rank; i++) linear = linear * type->dims[i] + at[i];
    return linear;
}

/* A sum and the rounding that f64 may add to it. */
typedef struct sum_state {
    long double value;
    double size;
} sum_state;

static void sum_add(sum_state *sum, long double a, long double b)
{
    sum->value += a * b;
    sum->size += (double)fabsl(a * b);
}

static void set_expected(const op_batch *batch, op_reference *reference, int64_t i, sum_state sum)
{
    if (is_float_case(batch)) {
        reference->expected[i] = sum.value;
        if (batch->dtype == KILN_f64) reference->tolerance[i] = 1e4 * 0x1p-53 * sum.size;
        return;
    }
    uint64_t bits = (uint64_t)(int64_t)sum.value, element = 0;
    double wide;
    kiln_element_store_int(batch->dtype, &element, 0, 1, &bits, true);
    kiln_element_load_double(batch->dtype, &element, 0, 1, &wide);
    reference->expected[i] = wide;
}

static op_reference reference_open(op_batch *batch, int64_t n)
{
    op_reference reference = op_reference_new(batch, n, 0);
    reference.tolerance = kiln_new_array(&batch->scope->arena, double, n + 1);
    return reference;
}

static bool contains(kiln_ints list, int64_t axis)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.at[i] == axis) return true;
    }
    return false;
}

/* Fills an operand's index: batch axes from the front of `out`, free axes from position `*at`,
 * contracted axes from `k`. */
static void dot_index(const kiln_type *type, kiln_ints batch, kiln_ints contract,
                      const int64_t *out, uint32_t *at, const int64_t *k, int64_t *index)
{
    for (uint32_t i = 0; i < batch.n; i++) index[batch.at[i]] = out[i];
    for (uint32_t i = 0; i < contract.n; i++) index[contract.at[i]] = k[i];
    for (uint32_t i = 0; i < type->rank; i++) {
        if (!contains(batch, i) && !contains(contract, i)) index[i] = out[(*at)++];
    }
}

static void add_dot(op_batch *batch, kiln_value a, kiln_value b, kiln_attrs attrs,
                    const char *variant)
{
    attrs.family = KILN_FAMILY_dot;
    attrs.dot.accumulate = accumulator(batch->dtype);
    kiln_value pair[] = {a, b};
    kiln_value y = op_node(batch, KILN_OP_dot_general, 2, pair, &attrs);
    const kiln_type *type = op_type(batch, y), *left = op_type(batch, a),
                    *right = op_type(batch, b);
    int64_t k_dims[KILN_MAX_RANK], n_k = 1;
    for (uint32_t i = 0; i < attrs.dot.lhs_contract.n; i++) {
        n_k *= k_dims[i] = left->dims[attrs.dot.lhs_contract.at[i]];
    }
    op_reference reference = reference_open(batch, type->n_elements);
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t out[KILN_MAX_RANK], k[KILN_MAX_RANK], x[KILN_MAX_RANK], w[KILN_MAX_RANK];
        sum_state sum = {0};
        unravel(type->rank, type->dims, i, out);
        for (int64_t j = 0; j < n_k; j++) {
            uint32_t at = attrs.dot.lhs_batch.n;
            unravel(attrs.dot.lhs_contract.n, k_dims, j, k);
            dot_index(left, attrs.dot.lhs_batch, attrs.dot.lhs_contract, out, &at, k, x);
            dot_index(right, attrs.dot.rhs_batch, attrs.dot.rhs_contract, out, &at, k, w);
            sum_add(&sum, op_element(batch, a, ravel(left, x)),
                    op_element(batch, b, ravel(right, w)));
        }
        set_expected(batch, &reference, i, sum);
    }
    op_case(batch, y, variant, &reference);
}

static kiln_value small(op_batch *batch, uint32_t rank, const int64_t *dims)
{
    return op_input(batch, batch->dtype, rank, dims, OP_VALUES_SMALL);
}

static void add_dots(op_batch *batch)
{
    kiln_attrs nn = {.dot = {.lhs_contract = OP_INTS(1), .rhs_contract = OP_INTS(0)}};
    kiln_attrs nt = {.dot = {.lhs_contract = OP_INTS(1), .rhs_contract = OP_INTS(1)}};
    kiln_attrs tn = {.dot = {.lhs_contract = OP_INTS(0), .rhs_contract = OP_INTS(0)}};
    static const int64_t sizes[][3] = {{1, 1, 1},     {7, 9, 5},    {17, 33, 16}, {33, 65, 31},
                                       {1, 64, 63},   {65, 1, 40},  {16, 0, 5},   {0, 3, 4},
                                       {5, 4100, 17}, {3, 4100, 2}, {130, 70, 50}};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t m = sizes[i][0], k = sizes[i][1], n = sizes[i][2];
        add_dot(batch, small(batch, OP_DIMS(m, k)), small(batch, OP_DIMS(k, n)), nn, "nn");
        if (i > 3) continue;
        add_dot(batch, small(batch, OP_DIMS(m, k)), small(batch, OP_DIMS(n, k)), nt, "nt");
        add_dot(batch, small(batch, OP_DIMS(k, m)), small(batch, OP_DIMS(k, n)), tn, "tn");
    }
    kiln_attrs vector = {.dot = {.lhs_contract = OP_INTS(0), .rhs_contract = OP_INTS(0)}};
    add_dot(batch, small(batch, OP_DIMS(70)), small(batch, OP_DIMS(70)), vector, "dot");
    kiln_attrs outer = {0};
    add_dot(batch, small(batch, OP_DIMS(5)), small(batch, OP_DIMS(17)), outer, "outer");
    kiln_attrs batched = {.dot = {.lhs_batch = OP_INTS(0),
                                  .rhs_batch = OP_INTS(0),
                                  .lhs_contract = OP_INTS(2),
                                  .rhs_contract = OP_INTS(1)}};
    add_dot(batch, small(batch, OP_DIMS(3, 9, 17)), small(batch, OP_DIMS(3, 17, 8)), batched,
            "batched");
    kiln_attrs heads = {.dot = {.lhs_batch = OP_INTS(0, 2),
                                .rhs_batch = OP_INTS(0, 1),
                                .lhs_contract = OP_INTS(3),
                                .rhs_contract = OP_INTS(3)}};
    add_dot(batch, small(batch, OP_DIMS(2, 7, 3, 8)), small(batch, OP_DIMS(2, 3, 5, 8)), heads,
            "heads");
    kiln_attrs two = {.dot = {.lhs_contract = OP_INTS(2, 0), .rhs_contract = OP_INTS(0, 1)}};
    add_dot(batch, small(batch, OP_DIMS(3, 4, 5)), small(batch, OP_DIMS(5, 3, 6)), two, "two axes");
}

static void add_conv(op_batch *batch, kiln_value x, kiln_value w, kiln_attrs attrs,
                     const char *variant)
{
    attrs.family = KILN_FAMILY_conv;
    attrs.conv.accumulate = accumulator(batch->dtype);
    kiln_value pair[] = {x, w};
    kiln_value y = op_node(batch, KILN_OP_convolution, 2, pair, &attrs);
    const kiln_type *type = op_type(batch, y), *in = op_type(batch, x), *kernel = op_type(batch, w);
    const int64_t *in_axes = attrs.conv.input_axes.at, *out_axes = attrs.conv.output_axes.at;
    const int64_t *kernel_axes = attrs.conv.kernel_axes.at;
    int64_t per_group = kernel->dims[kernel_axes[0]] / attrs.conv.groups;
    op_reference reference = reference_open(batch, type->n_elements);
    for (int64_t i = 0; i < type->n_elements; i++) {
        int64_t out[KILN_MAX_RANK];
        sum_state sum = {0};
        unravel(type->rank, type->dims, i, out);
        for (int64_t j = 0; j < kernel->n_elements; j++) {
            int64_t tap[KILN_MAX_RANK], at[KILN_MAX_RANK];
            unravel(kernel->rank, kernel->dims, j, tap);
            bool is_inside = tap[kernel_axes[0]] == out[out_axes[1]];
            at[in_axes[0]] = out[out_axes[0]];
            at[in_axes[1]] =
                out[out_axes[1]] / (per_group ? per_group : 1) * kernel->dims[kernel_axes[1]] +
                tap[kernel_axes[1]];
            for (uint32_t s = 0; s + 2 < type->rank; s++) {
                int64_t dilation = attrs.conv.lhs_dilation.at[s];
                int64_t position = out[out_axes[s + 2]] * attrs.conv.strides.at[s] -
                                   attrs.conv.low.at[s] +
                                   tap[kernel_axes[s + 2]] * attrs.conv.rhs_dilation.at[s];
                is_inside &= position >= 0 && position % dilation == 0 &&
                             position / dilation < in->dims[in_axes[s + 2]];
                at[in_axes[s + 2]] = position / dilation;
            }
            if (is_inside)
                sum_add(&sum, op_element(batch, x, ravel(in, at)), op_element(batch, w, j));
        }
        set_expected(batch, &reference, i, sum);
    }
    op_case(batch, y, variant, &reference);
}

#define NCHW OP_INTS(0, 1, 2, 3)
#define NHWC OP_INTS(0, 3, 1, 2)

static void add_convs(op_batch *batch)
{
    const kiln_attrs plain = {.conv = {OP_INTS(1, 1), OP_INTS(1, 1), OP_INTS(1, 1), OP_INTS(1, 1),
                                       OP_INTS(1, 1), 1, NCHW, NCHW, NCHW}};
    kiln_value image = small(batch, OP_DIMS(2, 3, 9, 7)),
               narrow = small(batch, OP_DIMS(1, 6, 8, 8));
    add_conv(batch, image, small(batch, OP_DIMS(5, 3, 3, 3)), plain, "3x3");
    kiln_attrs attrs = plain;
    attrs.conv.low = attrs.conv.high = OP_INTS(0, 0);
    add_conv(batch, image, small(batch, OP_DIMS(17, 3, 1, 1)), attrs, "1x1");
    attrs = plain;
    attrs.conv.strides = OP_INTS(2, 3);
    attrs.conv.rhs_dilation = OP_INTS(2, 1);
    add_conv(batch, image, small(batch, OP_DIMS(4, 3, 3, 2)), attrs, "strided dilated");
    attrs = plain;
    attrs.conv.groups = 6;
    add_conv(batch, narrow, small(batch, OP_DIMS(6, 1, 3, 3)), attrs, "depthwise");
    attrs.conv.groups = 2;
    add_conv(batch, narrow, small(batch, OP_DIMS(8, 3, 3, 3)), attrs, "grouped");
    attrs = plain;
    attrs.conv.lhs_dilation = OP_INTS(2, 2);
    attrs.conv.low = OP_INTS(2, 1);
    attrs.conv.high = OP_INTS(1, -1);
    add_conv(batch, narrow, small(batch, OP_DIMS(3, 6, 3, 3)), attrs, "transposed");
    attrs = plain;
    attrs.conv.input_axes = attrs.conv.output_axes = NHWC;
    attrs.conv.kernel_axes = OP_INTS(3, 2, 0, 1);
    add_conv(batch, small(batch, OP_DIMS(1, 10, 9, 5)), small(batch, OP_DIMS(3, 3, 5, 18)), attrs,
             "nhwc");
    attrs.conv.strides = OP_INTS(2, 2);
    attrs.conv.low = OP_INTS(3, 3);
    attrs.conv.high = OP_INTS(2, 3);
    add_conv(batch, small(batch, OP_DIMS(1, 15, 15, 3)), small(batch, OP_DIMS(7, 7, 3, 16)), attrs,
             "nhwc stem");
    kiln_attrs line = {.conv = {OP_INTS(1), OP_INTS(2), OP_INTS(0), OP_INTS(1), OP_INTS(1), 1,
                                OP_INTS(0, 1, 2), OP_INTS(0, 1, 2), OP_INTS(0, 1, 2)}};
    add_conv(batch, small(batch, OP_DIMS(2, 4, 19)), small(batch, OP_DIMS(3, 4, 3)), line,
             "1d causal");
}

/* Several tiles of every kind; the references of all dtypes would take long. */
static void add_large_convs(op_batch *batch)
{
    const kiln_attrs plain = {.conv = {OP_INTS(1, 1), OP_INTS(1, 1), OP_INTS(1, 1), OP_INTS(1, 1),
                                       OP_INTS(1, 1), 1, NHWC, OP_INTS(3, 2, 0, 1), NHWC}};
    kiln_value image = small(batch, OP_DIMS(1, 14, 30, 19));
    add_conv(batch, image, small(batch, OP_DIMS(3, 3, 19, 20)), plain, "nhwc 3x3");
    kiln_attrs attrs = plain;
    attrs.conv.low = attrs.conv.high = OP_INTS(0, 0);
    add_conv(batch, image, small(batch, OP_DIMS(1, 1, 19, 67)), attrs, "nhwc 1x1");
    attrs = plain;
    attrs.conv.strides = OP_INTS(2, 2);
    attrs.conv.groups = 19;
    add_conv(batch, image, small(batch, OP_DIMS(3, 3, 1, 19)), attrs, "nhwc depthwise");
}

void op_cases_dot(op_batch *batch)
{
    if (batch->dtype != KILN_bool) add_dots(batch);
}

void op_cases_convolution(op_batch *batch)
{
    if (batch->dtype != KILN_bool) add_convs(batch);
    if (batch->dtype == KILN_f32 || batch->dtype == KILN_bf16) add_large_convs(batch);
}
