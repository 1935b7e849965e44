/* The public builder: every row of ops.def has a call that works; mistakes stick; handles are
 * checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/graph.h"
#include "kiln/compile.h"
#include "kiln/layers.h"
#include "kiln/runtime.h"

#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}

static kiln_context *context;

/* One value of each kind that the calls below need, in a fresh graph. */
typedef struct operands {
    kiln_graph *graph;
    kiln_value f, f2, row, number, i, bits, flag, flags, image, kernel, matrix, starts, block,
        heads, channel, square, key, counters, counters4, pairs;
} operands;

static operands operands_open(void)
{
    operands o;
    assert_int_equal(kiln_graph_create(context, "test", &o.graph), KILN_OK);
    kiln_graph *g = o.graph;
    o.f = kiln_input(g, "f", KILN_f32, DIMS(2, 3));
    o.f2 = kiln_input(g, "f2", KILN_f32, DIMS(2, 3));
    o.row = kiln_input(g, "row", KILN_f32, DIMS(3));
    o.number = kiln_scalar(g, KILN_f32, 2);
    o.i = kiln_input(g, "i", KILN_i32, DIMS(2, 3));
    o.bits = kiln_input(g, "bits", KILN_i32, DIMS(3));
    o.flag = kiln_input(g, "flag", KILN_bool, DIMS(2, 1));
    o.flags = kiln_input(g, "flags", KILN_bool, DIMS(2, 3));
    o.image = kiln_input(g, "image", KILN_f32, DIMS(1, 4, 8, 8));
    o.kernel = kiln_input(g, "kernel", KILN_f32, DIMS(6, 4, 3, 3));
    o.matrix = kiln_input(g, "matrix", KILN_f32, DIMS(3, 5));
    o.starts = kiln_input(g, "starts", KILN_i64, DIMS(2));
    o.block = kiln_input(g, "block", KILN_f32, DIMS(1, 2));
    o.heads = kiln_input(g, "heads", KILN_f32, DIMS(1, 2, 7, 4));
    o.channel = kiln_input(g, "channel", KILN_f32, DIMS(4));
    o.key = kiln_input(g, "key", KILN_u32, DIMS(2));
    o.counters = kiln_input(g, "counters", KILN_u32, DIMS(2, 3));
    o.counters4 = kiln_input(g, "counters4", KILN_u32, DIMS(4, 3));
    o.pairs = kiln_input(g, "pairs", KILN_f32, DIMS(3, 12, 2));
    o.square = kiln_input(g, "square", KILN_f32, DIMS(3, 3));
    assert_string_equal(kiln_graph_message(g), "");
    return o;
}

typedef kiln_value call_fn(const operands *o);

#define CALL(op, ...)                                                                              \
    static kiln_value call_##op(const operands *o)                                                 \
    {                                                                                              \
        return kiln_##op(o->graph, __VA_ARGS__);                                                   \
    }
#define FLOAT_UNARY(op) CALL(op, o->f)
#define BROADCAST_BINARY(op) CALL(op, o->f, o->row)
#define BITS_BINARY(op) CALL(op, o->i, o->bits)
#define OVER_AXES(op) CALL(op, o->f, 1, (int64_t[]){-1})
#define WINDOW(op) CALL(op, o->f, &(kiln_window_options){.sizes = (int64_t[]){1, 2}})

CALL(input, "another", KILN_f32, 0, NULL)
CALL(constant, KILN_f32, DIMS(2), (float[]){1, 2})
CALL(iota, KILN_i64, DIMS(2, 3), -1)
FLOAT_UNARY(neg) FLOAT_UNARY(abs) FLOAT_UNARY(sign) FLOAT_UNARY(floor) FLOAT_UNARY(ceil)
FLOAT_UNARY(trunc) FLOAT_UNARY(round_even) FLOAT_UNARY(exp) FLOAT_UNARY(expm1) FLOAT_UNARY(log)
FLOAT_UNARY(log1p) FLOAT_UNARY(sqrt) FLOAT_UNARY(rsqrt) FLOAT_UNARY(sin) FLOAT_UNARY(cos)
FLOAT_UNARY(tan) FLOAT_UNARY(atan) FLOAT_UNARY(tanh) FLOAT_UNARY(erf) FLOAT_UNARY(logistic)
FLOAT_UNARY(is_finite)
CALL(not, o->flags) CALL(popcnt, o->i) CALL(clz, o->i)
CALL(convert, o->f, KILN_bf16)
CALL(bitcast, o->f, KILN_u32)
BROADCAST_BINARY(add) BROADCAST_BINARY(sub) BROADCAST_BINARY(mul) BROADCAST_BINARY(div)
BROADCAST_BINARY(rem) BROADCAST_BINARY(max) BROADCAST_BINARY(min) BROADCAST_BINARY(pow)
BROADCAST_BINARY(atan2)
BITS_BINARY(and) BITS_BINARY(or) BITS_BINARY(xor) BITS_BINARY(shift_left)
BITS_BINARY(shift_right_logical) BITS_BINARY(shift_right_arithmetic)
BROADCAST_BINARY(eq) BROADCAST_BINARY(ne) BROADCAST_BINARY(lt) BROADCAST_BINARY(le)
BROADCAST_BINARY(gt) BROADCAST_BINARY(ge)
CALL(select, o->flag, o->row, o->f)
CALL(clamp, o->number, o->f, o->row)
OVER_AXES(reduce_sum) OVER_AXES(reduce_prod) OVER_AXES(reduce_max) OVER_AXES(reduce_min)
CALL(reduce_any, o->flags, 0, NULL) CALL(reduce_all, o->flags, 0, NULL)
CALL(argmax, o->f, 1, 0) CALL(argmin, o->f, -1, 1)
WINDOW(window_sum) WINDOW(window_prod) WINDOW(window_max) WINDOW(window_min)
CALL(broadcast, o->row, DIMS(4, 3), NULL)
CALL(reshape, o->f, DIMS(3, -1))
CALL(transpose, o->f, NULL)
CALL(slice, o->f, &(kiln_slice_options){.starts = (int64_t[]){1, 0}})
OVER_AXES(reverse)
CALL(pad, o->f, o->number, &(kiln_pad_options){.low = (int64_t[]){1, 0}})
CALL(concat, 2, (kiln_value[]){o->f, o->f2}, -1)
CALL(take, o->f, o->bits, 0)
CALL(dynamic_slice, o->f, o->starts, (int64_t[]){1, 2})
CALL(dynamic_update, o->f, o->block, o->starts)
CALL(gather, o->f, o->bits,
     &(kiln_gather_options){.n_offset = 1, .n_collapsed = 1, .n_map = 1,
                            .offset_axes = (int64_t[]){1}, .collapsed_axes = (int64_t[]){0},
                            .start_map = (int64_t[]){0}, .index_axis = 1,
                            .sizes = (int64_t[]){1, 3}})
#define SCATTER(op)                                                                                \
    CALL(op, o->f, o->bits, o->square,                                                             \
         &(kiln_scatter_options){.n_window = 1, .n_inserted = 1, .n_map = 1,                       \
                                 .window_axes = (int64_t[]){1}, .inserted_axes = (int64_t[]){0},   \
                                 .start_map = (int64_t[]){0}, .index_axis = 1})
SCATTER(scatter) SCATTER(scatter_add) SCATTER(scatter_mul) SCATTER(scatter_max)
SCATTER(scatter_min)
CALL(argsort, o->f, -1, 1) CALL(sort, o->f, 0, 0) CALL(take_along, o->f, o->i, 1)
CALL(cumulative_sum, o->f, -1, NULL) CALL(cumulative_prod, o->f, 0, NULL)
CALL(cumulative_max, o->f, 1, NULL)
CALL(cumulative_min, o->f, 1, &(kiln_cumulative_options){.reverse = 1})
FLOAT_UNARY(cbrt) FLOAT_UNARY(asin) FLOAT_UNARY(acos) FLOAT_UNARY(sinh)
FLOAT_UNARY(cosh) FLOAT_UNARY(asinh) FLOAT_UNARY(acosh) FLOAT_UNARY(atanh)
FLOAT_UNARY(erfc) FLOAT_UNARY(erf_inv) FLOAT_UNARY(lgamma) FLOAT_UNARY(digamma)
FLOAT_UNARY(round_half_away) FLOAT_UNARY(is_nan) FLOAT_UNARY(is_inf)
BROADCAST_BINARY(next_after)
CALL(reduce_precision, o->f, 5, 10)
CALL(threefry2x32, o->key, o->counters) CALL(philox4x32, o->key, o->counters4)
CALL(random_bits, o->key, DIMS(3, 5)) CALL(random_split, o->key, 3)
CALL(random_uniform, o->key, &(kiln_random_options){.rank = 1, .dims = (int64_t[]){5}})
CALL(random_normal, o->key,
     &(kiln_random_options){.dtype = KILN_f64, .rank = 1, .dims = (int64_t[]){5}, .scale = 2})
CALL(dropout, o->f, o->key, 0.5)
CALL(fft, o->pairs, 1, (int64_t[]){-2}, 0)
CALL(cholesky, o->square, 1) CALL(forward_solve, o->square, o->matrix, 1)
CALL(triangular_solve, o->square, o->matrix, NULL)
CALL(batch_norm_training, o->image,
     &(kiln_batch_norm_operands){.scale = o->channel, .offset = o->channel}, 1, 1e-5)
#define NORM_GRAD(op)                                                                              \
    CALL(op, o->image,                                                                             \
         &(kiln_batch_norm_grad_operands){o->channel, o->channel, o->channel, o->image}, 1, 1e-5)
NORM_GRAD(batch_norm_grad) NORM_GRAD(batch_norm_grad_scale)
CALL(window_max_grad, o->f, o->block,
     &(kiln_window_options){.sizes = (int64_t[]){2, 2}})
CALL(dot_general, o->f, o->matrix,
     &(kiln_dot_options){.n_contract = 1, .lhs_contract = (int64_t[]){1},
                                                       .rhs_contract = (int64_t[]){0}})
CALL(convolution, o->image, o->kernel, NULL)
CALL(barrier, o->f)

/* A region over f32[2,3]: the operand twice, or whether its sum is positive. */
static kiln_graph *region_of(const char *name, int is_condition)
{
    kiln_graph *region;
    assert_int_equal(kiln_graph_create(context, name, &region), KILN_OK);
    kiln_value x = kiln_input(region, "x", KILN_f32, DIMS(2, 3));
    kiln_value zero = kiln_scalar(region, KILN_f32, 0);
    kiln_output(region, NULL,
                is_condition ? kiln_gt(region, kiln_reduce_sum(region, x, 0, NULL), zero)
                             : kiln_add(region, x, x));
    return region;
}

/* A call with two regions, which are destroyed at once. */
#define REGIONS(op, is_condition, ...)                                                             \
    static kiln_value call_##op(const operands *o)                                                 \
    {                                                                                              \
        kiln_graph *a = region_of("a", is_condition), *b = region_of("b", 0);                      \
        kiln_value value = kiln_##op(o->graph, __VA_ARGS__);                                       \
        kiln_graph_destroy(a);                                                                     \
        kiln_graph_destroy(b);                                                                     \
        return value;                                                                              \
    }
#define ARGUMENT (&(kiln_arguments){1, &o->f})
REGIONS(call, 0, a, ARGUMENT)
REGIONS(item, 0, kiln_call(o->graph, a, ARGUMENT), 0)
REGIONS(if, 0, kiln_reshape(o->graph, kiln_reduce_any(o->graph, o->flag, 0, NULL), 0, NULL), a, b,
        ARGUMENT)
REGIONS(case, 0, kiln_scalar(o->graph, KILN_i64, 1), 2, (kiln_graph *[]){a, b}, ARGUMENT)
REGIONS(while, 1,
        &(kiln_while_options){.condition = a, .body = b, .n_carried = 1, .carried = &o->f})
REGIONS(scan, 0,
        &(kiln_scan_options){.body = b, .n_sequences = 1,
                             .sequences = (kiln_value[]){kiln_reshape(o->graph, o->f,
                                                                      DIMS(1, 2, 3))},
                             .length = 1})

CALL(custom_call, "mine", &(kiln_arguments){1, &o->f}, 1,
     &(kiln_tensor){KILN_f32, 1, (int64_t[]){3}})

/* A region over scalars: the sum of two, or whether the first is smaller. */
static kiln_graph *scalar_region(int is_condition)
{
    kiln_graph *region;
    assert_int_equal(kiln_graph_create(context, "scalar", &region), KILN_OK);
    kiln_value a = kiln_input(region, "a", KILN_f32, 0, NULL);
    kiln_value b = kiln_input(region, "b", KILN_f32, 0, NULL);
    kiln_output(region, NULL, is_condition ? kiln_lt(region, a, b) : kiln_add(region, a, b));
    return region;
}

#define SCALARS(op, ...)                                                                           \
    static kiln_value call_##op(const operands *o)                                                 \
    {                                                                                              \
        kiln_graph *sum = scalar_region(0), *less = scalar_region(1);                              \
        kiln_value value = kiln_##op(o->graph, __VA_ARGS__);                                       \
        kiln_graph_destroy(sum);                                                                   \
        kiln_graph_destroy(less);                                                                  \
        return value;                                                                              \
    }
SCALARS(map, less, &(kiln_arguments){2, (kiln_value[]){o->f, o->f2}})
SCALARS(reduce,
        &(kiln_reduce_options){.region = sum, .n = 1, .values = &o->f,
                                      .initial = &o->number, .n_axes = 1,
                                      .axes = (int64_t[]){-1}})
SCALARS(reduce_window,
        &(kiln_reduce_window_options){.region = sum, .n = 1, .values = &o->f,
                                             .initial = &o->number, .sizes = (int64_t[]){1, 2},
                                             .base_dilations = (int64_t[]){1, 2}})
SCALARS(select_and_scatter, o->f,
        &(kiln_select_and_scatter_options){.select = less, .scatter = sum, .source = o->f2,
                                           .initial = o->number})
SCALARS(scatter_with, sum,
        (kiln_value[]){o->row, kiln_iota(o->graph, KILN_i64, DIMS(3), 0), o->row},
        &(kiln_scatter_options){.n_inserted = 1, .inserted_axes = (int64_t[]){0}, .n_map = 1,
                                .start_map = (int64_t[]){0}, .index_axis = 1})
SCALARS(sort_by, less, &(kiln_arguments){1, &o->f}, -1)

CALL(complex, o->f, o->f2)
CALL(real, kiln_complex(o->graph, o->f, o->f2)) CALL(imag, kiln_complex(o->graph, o->f, o->f2))
CALL(conj, kiln_complex(o->graph, o->f, o->f2))
FLOAT_UNARY(square) FLOAT_UNARY(reciprocal) FLOAT_UNARY(relu)
CALL(leaky_relu, o->f, 0.1) CALL(elu, o->f, 1) CALL(gelu, o->f, 1)
FLOAT_UNARY(silu) FLOAT_UNARY(softplus) FLOAT_UNARY(mish)
CALL(hard_sigmoid, o->f, 0.2, 0.5)
FLOAT_UNARY(hard_swish)
FLOAT_UNARY(log_sigmoid) FLOAT_UNARY(softsign) FLOAT_UNARY(tanh_shrink) FLOAT_UNARY(selu)
FLOAT_UNARY(relu6) FLOAT_UNARY(sparse_plus)
BROADCAST_BINARY(prelu)
CALL(swish, o->f, 1.702) CALL(softplus_beta, o->f, 2) CALL(squareplus, o->f, 4)
CALL(celu, o->f, 1) CALL(hard_shrink, o->f, 0.5) CALL(soft_shrink, o->f, 0.5)
CALL(hard_tanh, o->f, -1, 1) CALL(threshold, o->f, 0, 1)
CALL(glu, o->f, 0) CALL(sparsemax, o->f, -1)
CALL(group_norm, o->image, &(kiln_group_norm_options){o->channel, {0}, 2, 1e-5})
CALL(local_norm, o->image, &(kiln_local_norm_options){1, 2, 2, 1e-4, 0.75, 1})
CALL(rotary, o->heads, kiln_splat(o->graph, KILN_f32, DIMS(7, 2), 1),
     kiln_splat(o->graph, KILN_f32, DIMS(7, 2), 0), 1)
OVER_AXES(mean) OVER_AXES(variance)
CALL(softmax, o->f, -1) CALL(log_softmax, o->f, 1)
CALL(layer_norm, o->f, o->row, o->row, 1e-5)
CALL(rms_norm, o->f, o->row, 1e-5)
CALL(batch_norm, o->image,
     &(kiln_batch_norm_operands){o->channel, o->channel, o->channel, o->channel}, 1, 1e-5)
CALL(linear, o->f, o->matrix, (kiln_value){0})
CALL(attention, o->heads, o->heads, o->heads, NULL)

/* A row without a call does not compile. */
static call_fn *const calls[KILN_N_OPS] = {
#define KILN_OP(name, class_, n_inputs, types, result, attrs, meaning)                             \
    [KILN_OP_##name] = call_##name,
#include "kiln/ops.def"
#undef KILN_OP
};

static void test_every_row_has_a_call_that_works(void **state)
{
    (void)state;
    for (uint32_t op = 1; op < KILN_N_OPS; op++) {
        operands o = operands_open();
        kiln_value value = calls[op](&o);
        assert_string_equal(kiln_graph_message(o.graph), "");
        assert_int_not_equal(value.id, 0);
        assert_string_equal(kiln_op_rows[kiln_graph_node(o.graph, value)->op].name,
                            kiln_op_rows[op].name);
        bool is_tuple = kiln_graph_type(o.graph, value)->n_items > 0;
        kiln_output(o.graph, NULL, is_tuple ? kiln_item(o.graph, value, 0) : value);
        kiln_error error = {0};
        kiln_graph_verify(o.graph, "built", &error);
        assert_string_equal(error.message, "");
        kiln_graph_destroy(o.graph);
    }
}

static void test_shapes_broadcast_and_defaults_hold(void **state)
{
    (void)state;
    operands o = operands_open();
    kiln_value sum = kiln_add(o.graph, o.flag.id ? o.row : o.f,
                              kiln_input(o.graph, "tall", KILN_f32, DIMS(4, 2, 1)));
    assert_int_equal(kiln_value_rank(o.graph, sum), 3);
    assert_memory_equal(kiln_value_dims(o.graph, sum), ((int64_t[]){4, 2, 3}), 24);
    kiln_value product =
        kiln_matmul(o.graph, kiln_input(o.graph, "stack", KILN_bf16, DIMS(5, 1, 2, 3)),
                    kiln_convert(o.graph, o.matrix, KILN_bf16));
    assert_memory_equal(kiln_value_dims(o.graph, product), ((int64_t[]){5, 1, 2, 5}), 32);
    assert_int_equal(kiln_graph_node(o.graph, product)->attrs->dot.accumulate, KILN_f32);
    assert_int_equal(kiln_value_rank(o.graph, kiln_reduce_max(o.graph, o.image, 0, NULL)), 0);
    kiln_value some = kiln_reduce_max(o.graph, o.image, 2, (int64_t[]){-1, 1});
    assert_memory_equal(kiln_value_dims(o.graph, some), ((int64_t[]){1, 8}), 16);
    kiln_output(o.graph, NULL, sum);
    kiln_output(o.graph, NULL, some);
    assert_string_equal(o.graph->outputs.at[0].name, "y");
    assert_string_equal(o.graph->outputs.at[1].name, "y1");
    assert_string_equal(kiln_graph_message(o.graph), "");
    kiln_graph_destroy(o.graph);
}

static void test_the_first_mistake_stays(void **state)
{
    (void)state;
    operands o = operands_open();
    const char *sentence =
        "add: operands are f32[2,3] and i32[2,3]; expected one dtype (convert first)";
    kiln_value wrong = kiln_add(o.graph, o.f, o.i);
    assert_int_equal(wrong.id, 0);
    uint32_t n_nodes = o.graph->nodes.n;
    assert_int_equal(kiln_mul(o.graph, kiln_exp(o.graph, wrong), o.f).id, 0);
    assert_int_equal(kiln_exp(o.graph, o.f).id, 0);
    kiln_output(o.graph, "y", wrong);
    assert_int_equal(o.graph->nodes.n, n_nodes);
    assert_int_equal(kiln_graph_status(o.graph), KILN_INVALID);
    assert_string_equal(kiln_graph_message(o.graph), sentence);
    assert_int_equal(kiln_value_dtype(o.graph, wrong), KILN_NO_DTYPE);
    kiln_graph_destroy(o.graph);
}

/* Part i of the batch meets part i of the output features. */
static void test_batch_groups(void **state)
{
    (void)state;
    kiln_graph *g;
    float in[4] = {2, 3, 5, 7}, weights[2] = {10, 100}, out[4];
    assert_int_equal(kiln_graph_create(context, "test", &g), KILN_OK);
    kiln_value a = kiln_input(g, "a", KILN_f32, DIMS(4, 1, 1));
    kiln_value w = kiln_input(g, "w", KILN_f32, DIMS(2, 1, 1));
    kiln_output(g, "y", kiln_convolution(g, a, w, &(kiln_conv_options){.batch_groups = 2}));
    kiln_tensor inputs[] = {{KILN_f32, 3, (int64_t[]){4, 1, 1}, in, sizeof in},
                            {KILN_f32, 3, (int64_t[]){2, 1, 1}, weights, sizeof weights}};
    kiln_tensor output = {KILN_f32, 3, (int64_t[]){2, 2, 1}, out, sizeof out};
    assert_int_equal(kiln_evaluate(g, inputs, 2, &output, 1), KILN_OK);
    static const float expected[4] = {20, 500, 30, 700};
    assert_memory_equal(out, expected, sizeof out);
    kiln_convolution(g, a, w, &(kiln_conv_options){.batch_groups = 3});
    assert_int_equal(kiln_graph_status(g), KILN_INVALID);
    kiln_graph_destroy(g);
}

typedef void mistake_fn(const operands *o);

static void mistake_shape(const operands *o) { kiln_mul(o->graph, o->f, o->matrix); }
static void mistake_matmul(const operands *o) { kiln_matmul(o->graph, o->f, o->f2); }
static void mistake_zero_value(const operands *o) { kiln_exp(o->graph, (kiln_value){0}); }
static void mistake_large_id(const operands *o)
{
    kiln_exp(o->graph, (kiln_value){99999, o->graph->id});
}
static void mistake_foreign(const operands *o)
{
    operands other = operands_open();
    kiln_exp(o->graph, other.f);
    kiln_graph_destroy(other.graph);
}
static void mistake_null_dims(const operands *o) { kiln_input(o->graph, "n", KILN_f32, 2, NULL); }
static void mistake_null_name(const operands *o) { kiln_input(o->graph, NULL, KILN_f32, 0, NULL); }
static void mistake_null_data(const operands *o)
{
    kiln_constant(o->graph, KILN_f32, DIMS(2), NULL);
}
static void mistake_bytes(const operands *o)
{
    int64_t dims[] = {3};
    kiln_constant_tensor(o->graph, &(kiln_tensor){KILN_f32, 1, dims, "abcdefg", 8});
}
static void mistake_rank(const operands *o)
{
    int64_t dims[17] = {1};
    kiln_input(o->graph, "deep", KILN_f32, 17, dims);
}
static void mistake_axis(const operands *o) { kiln_softmax(o->graph, o->f, 2); }
static void mistake_axes(const operands *o)
{
    kiln_reduce_sum(o->graph, o->f, 2, (int64_t[]){1, -1});
}
static void mistake_null_axes(const operands *o) { kiln_reduce_sum(o->graph, o->f, 2, NULL); }
static void mistake_many_axes(const operands *o)
{
    kiln_reduce_sum(o->graph, o->f, 3, (int64_t[]){0, 1, 1});
}
static void mistake_gradient(const operands *o)
{
    kiln_value out;
    kiln_gradient(o->graph, o->number, (kiln_value){0}, NULL, &out);
}
static void mistake_dtype(const operands *o) { kiln_convert(o->graph, o->f, (kiln_dtype)77); }
static void mistake_options(const operands *o) { kiln_pad(o->graph, o->f, o->number, NULL); }
static void mistake_groups(const operands *o)
{
    kiln_convolution(o->graph, o->image, o->kernel, &(kiln_conv_options){.groups = 3});
}
static void mistake_stride(const operands *o)
{
    kiln_convolution(o->graph, o->image, o->kernel,
                     &(kiln_conv_options){.strides = (int64_t[]){0, 1}});
}
static void mistake_reshape(const operands *o) { kiln_reshape(o->graph, o->f, DIMS(-1, 4)); }
static void mistake_two_rests(const operands *o) { kiln_reshape(o->graph, o->f, DIMS(-1, -1)); }
static void mistake_check(const operands *o) { kiln_require_zero(o->graph, o->f, "never"); }
static void mistake_concat(const operands *o) { kiln_concat(o->graph, 0, NULL, 0); }
static void mistake_label(const operands *o) { kiln_label(o->graph, o->f, "new name"); }

static const struct {
    mistake_fn *make;
    const char *sentence;
} mistakes[] = {
    {mistake_shape, "mul: operands are f32[2,3] and f32[3,5]; expected shapes that broadcast"},
    {mistake_matmul,
     "dot_general: operands are f32[2,3] and f32[2,3]; expected equal batch and contracted dims"},
    {mistake_zero_value, "exp: operand 0 is no value; expected a value of graph \"test\""},
    {mistake_large_id,
     "exp: operand 0 belongs to another graph; expected a value of graph \"test\""},
    {mistake_foreign,
     "exp: operand 0 belongs to another graph; expected a value of graph \"test\""},
    {mistake_null_dims, "input: dims is NULL; expected 2 entries"},
    {mistake_null_name, "input: the name is NULL; expected a text"},
    {mistake_null_data, "constant: data is NULL; expected 8 bytes"},
    {mistake_bytes, "constant: 8 bytes for f32[3]; expected 12"},
    {mistake_rank, "shape: rank is 17; expected at most 16"},
    {mistake_axis, "softmax: axis is 2 for rank 2; expected -2 to 1"},
    {mistake_null_axes, "reduce_sum: axes is NULL; expected 2 entries"},
    {mistake_many_axes, "reduce_sum: 3 axes for rank 2; expected at most as many"},
    {mistake_gradient,
     "gradient: values is NULL; expected values to differentiate by, and room for as many"},
    {mistake_axes, "reduce_sum: axis 1 comes twice; expected distinct axes"},
    {mistake_dtype, "type: dtype number 77; expected a dtype of kiln/types.h"},
    {mistake_options, "pad: options is NULL"},
    {mistake_groups,
     "convolution: groups is 3, input features 4, kernel 4 to 6; expected features that "
     "groups divides and a kernel from 4 / groups"},
    {mistake_stride, "convolution: strides is [0, 1]; expected entries in 1 to 1099511627776"},
    {mistake_reshape, "reshape: f32[2,3] into multiples of 4; expected a whole number"},
    {mistake_two_rests, "shape: dim 1 is -1; expected 0 or more"},
    {mistake_check, "check: the value is f32[2,3]; expected i64[]"},
    {mistake_concat, "concat: no operands; expected at least one"},
    {mistake_label, "label: \"new name\"; expected a text for a node other than an input"},
};

static void test_mistakes_have_sentences(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        operands o = operands_open();
        mistakes[i].make(&o);
        assert_string_equal(kiln_graph_message(o.graph), mistakes[i].sentence);
        assert_int_equal(kiln_graph_status(o.graph), KILN_INVALID);
        kiln_graph_destroy(o.graph);
    }
}

static void test_null_graphs_are_harmless(void **state)
{
    (void)state;
    kiln_graph *graph = NULL;
    assert_int_equal(kiln_graph_create(NULL, "x", &graph), KILN_INVALID);
    assert_int_equal(kiln_graph_create(context, "x", NULL), KILN_INVALID);
    assert_int_equal(kiln_exp(NULL, (kiln_value){1, 1}).id, 0);
    kiln_output(NULL, "y", (kiln_value){0});
    kiln_graph_destroy(NULL);
    assert_int_equal(kiln_value_rank(NULL, (kiln_value){1, 1}), 0);
    assert_non_null(kiln_graph_message(NULL));
}

static void test_borrowed_memory_is_not_copied(void **state)
{
    (void)state;
    operands o = operands_open();
    int64_t dims[] = {50000};
    float *data = calloc(50000, sizeof *data);
    data[1] = 1;
    kiln_tensor tensor = {KILN_f32, 1, dims, data, 200000};
    kiln_value borrowed = kiln_constant_borrowed(o.graph, &tensor);
    assert_ptr_equal(kiln_graph_node(o.graph, borrowed)->attrs->literal.value.data, data);
    assert_int_equal(borrowed.id, kiln_constant_borrowed(o.graph, &tensor).id);
    kiln_value copied = kiln_constant_tensor(o.graph, &tensor);
    assert_ptr_not_equal(kiln_graph_node(o.graph, copied)->attrs->literal.value.data, data);
    kiln_graph_destroy(o.graph);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row_has_a_call_that_works),
        cmocka_unit_test(test_batch_groups),
        cmocka_unit_test(test_shapes_broadcast_and_defaults_hold),
        cmocka_unit_test(test_the_first_mistake_stays),
        cmocka_unit_test(test_mistakes_have_sentences),
        cmocka_unit_test(test_null_graphs_are_harmless),
        cmocka_unit_test(test_borrowed_memory_is_not_copied),
    };
    kiln_context_create(
        &(kiln_context_options){.struct_bytes = sizeof(kiln_context_options), .threads = 1},
        &context);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kiln_context_destroy(context);
    return failed;
}
