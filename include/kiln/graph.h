/* The graph builder. Calls return a value and nest freely; the first mistake is kept on the graph,
 * later calls do nothing and return the zero value, and kiln_compile reports it.
 *
 *     kiln_graph *graph;
 *     kiln_graph_create(context, "mlp", &graph);
 *     kiln_value x = kiln_input(graph, "x", KILN_f32, 2, (int64_t[]){32, 784});
 *     kiln_value y = kiln_softmax(graph, kiln_linear(graph, x, w, b), 1);
 *     kiln_output(graph, "y", y);
 *
 * Arrays and strings are copied; a NULL array of n > 0 entries is a mistake unless its default is
 * stated. An axis may be negative: it then counts from the end. What an operation computes is said
 * in kiln/ops.def. One thread at a time may build a graph. */
#ifndef KILN_GRAPH_H
#define KILN_GRAPH_H

#include "kiln/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_context kiln_context;
typedef struct kiln_graph kiln_graph;

/* A node's value. id 0: no value, an error was recorded. `graph` catches foreign handles. */
typedef struct kiln_value {
    uint32_t id, graph;
} kiln_value;

/* An empty graph. The context must outlive it. INVALID without one; sentence on the context. */
KILN_API kiln_status kiln_graph_create(kiln_context *context, const char *name,
                                       kiln_graph **out_graph);
KILN_API void kiln_graph_destroy(kiln_graph *graph);
/* The first mistake of the builder, or KILN_OK. */
KILN_API kiln_status kiln_graph_status(const kiln_graph *graph);
/* Its sentence, else that of the last call that failed on this graph, else ""; never NULL. */
KILN_API const char *kiln_graph_message(const kiln_graph *graph);

/* Inputs, outputs, names */

/* A value that the caller passes to every run. Names are distinct. */
KILN_API kiln_value kiln_input(kiln_graph *graph, const char *name, kiln_dtype dtype, uint32_t rank,
                               const int64_t *dims);
/* The same, and a run may write a result over the caller's memory of this input: the compiler
 * chooses at most one output of its type, `donated_to` of its kiln_port_row, and does not always
 * find one. */
KILN_API kiln_value kiln_input_donated(kiln_graph *graph, const char *name, kiln_dtype dtype,
                                       uint32_t rank, const int64_t *dims);
/* Appends an output. A NULL name is "y" for the first, "y1" for the second, and so on. */
KILN_API void kiln_output(kiln_graph *graph, const char *name, kiln_value value);
/* A run in which `count`, an i64 scalar, is not 0 returns RANGE with this sentence. */
KILN_API void kiln_require_zero(kiln_graph *graph, kiln_value count, const char *sentence);
/* Names the node for profiles and messages; returns `value`. */
KILN_API kiln_value kiln_label(kiln_graph *graph, kiln_value value, const char *label);

/* Of a value of this graph; KILN_NO_DTYPE, 0 and NULL for others. The dims are lent. */
KILN_API kiln_dtype kiln_value_dtype(const kiln_graph *graph, kiln_value value);
KILN_API uint32_t kiln_value_rank(const kiln_graph *graph, kiln_value value);
KILN_API const int64_t *kiln_value_dims(const kiln_graph *graph, kiln_value value);

/* Constants. Elements are dense and row-major; `data` is copied but where it says borrowed. */
KILN_API kiln_value kiln_constant(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                                  const int64_t *dims, const void *data);
/* `tensor->bytes` is checked against the shape. */
KILN_API kiln_value kiln_constant_tensor(kiln_graph *graph, const kiln_tensor *tensor);
/* The memory stays the caller's, unchanged, until the graph is destroyed. */
KILN_API kiln_value kiln_constant_borrowed(kiln_graph *graph, const kiln_tensor *tensor);
KILN_API kiln_value kiln_scalar(kiln_graph *graph, kiln_dtype dtype, double value);
KILN_API kiln_value kiln_splat(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                               const int64_t *dims, double value);
KILN_API kiln_value kiln_iota(kiln_graph *graph, kiln_dtype dtype, uint32_t rank,
                              const int64_t *dims, int64_t axis);

/* Elementwise, one operand */
KILN_API kiln_value kiln_neg(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_abs(kiln_graph *graph, kiln_value a);
/* Complex dtypes: parts of one, one of two parts (f32 or f64), the conjugate. */
KILN_API kiln_value kiln_real(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_imag(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_complex(kiln_graph *graph, kiln_value real, kiln_value imag);
KILN_API kiln_value kiln_conj(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_sign(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_floor(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_ceil(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_trunc(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_round_even(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_exp(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_expm1(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_log(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_log1p(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_sqrt(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_rsqrt(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_sin(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_cos(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_tan(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_atan(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_tanh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_erf(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_logistic(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_is_finite(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_not(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_popcnt(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_clz(kiln_graph *graph, kiln_value a);
/* `a` itself when it has the dtype already. */
KILN_API kiln_value kiln_convert(kiln_graph *graph, kiln_value a, kiln_dtype dtype);
/* The same bits, of two number dtypes or one. A dtype of half the size, say, adds a last axis of 2,
 * low bits first; one of twice the size takes such an axis. */
KILN_API kiln_value kiln_bitcast(kiln_graph *graph, kiln_value a, kiln_dtype dtype);

/* Elementwise, two and three operands. Shapes broadcast as in NumPy: trailing axes line up, dims of
 * 1 stretch. Dtypes must be equal: kiln_convert first. */
KILN_API kiln_value kiln_add(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_sub(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_mul(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_div(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_rem(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_max(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_min(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_pow(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_atan2(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_and(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_or(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_xor(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_shift_left(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_shift_right_logical(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_shift_right_arithmetic(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_eq(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_ne(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_lt(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_le(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_gt(kiln_graph *graph, kiln_value a, kiln_value b);
KILN_API kiln_value kiln_ge(kiln_graph *graph, kiln_value a, kiln_value b);
/* `condition` is bool. */
KILN_API kiln_value kiln_select(kiln_graph *graph, kiln_value condition, kiln_value if_true,
                                kiln_value if_false);
KILN_API kiln_value kiln_clamp(kiln_graph *graph, kiln_value low, kiln_value a, kiln_value high);

/* Reductions drop their axes, in any order; NULL axes (and n_axes 0) are all axes. */
KILN_API kiln_value kiln_reduce_sum(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                    const int64_t *axes);
KILN_API kiln_value kiln_reduce_prod(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                     const int64_t *axes);
KILN_API kiln_value kiln_reduce_max(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                    const int64_t *axes);
KILN_API kiln_value kiln_reduce_min(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                    const int64_t *axes);
KILN_API kiln_value kiln_reduce_any(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                    const int64_t *axes);
KILN_API kiln_value kiln_reduce_all(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                    const int64_t *axes);
/* i64 indices; of equal extremes the first, or the last where `last` is not 0. */
KILN_API kiln_value kiln_argmax(kiln_graph *graph, kiln_value a, int64_t axis, int last);
KILN_API kiln_value kiln_argmin(kiln_graph *graph, kiln_value a, int64_t axis, int last);

/* Windows: lists have one entry per axis of `a`; NULL is all 1, and all 0 for low and high. */
typedef struct kiln_window_options {
    const int64_t *sizes, *strides, *low, *high, *dilations;
} kiln_window_options;
KILN_API kiln_value kiln_window_sum(kiln_graph *graph, kiln_value a,
                                    const kiln_window_options *options);
KILN_API kiln_value kiln_window_prod(kiln_graph *graph, kiln_value a,
                                     const kiln_window_options *options);
KILN_API kiln_value kiln_window_max(kiln_graph *graph, kiln_value a,
                                    const kiln_window_options *options);
KILN_API kiln_value kiln_window_min(kiln_graph *graph, kiln_value a,
                                    const kiln_window_options *options);

/* Views */

/* Axis i of `a` becomes result axis axes[i], ascending; NULL lines trailing axes up. */
KILN_API kiln_value kiln_broadcast(kiln_graph *graph, kiln_value a, uint32_t rank,
                                   const int64_t *dims, const int64_t *axes);
/* One dim may be -1: what remains. */
KILN_API kiln_value kiln_reshape(kiln_graph *graph, kiln_value a, uint32_t rank,
                                 const int64_t *dims);
/* Result axis i is axis permutation[i] of `a`; NULL reverses the axes. */
KILN_API kiln_value kiln_transpose(kiln_graph *graph, kiln_value a, const int64_t *permutation);
/* One entry per axis; NULL is 0 for starts, the dims for limits, 1 for strides. */
typedef struct kiln_slice_options {
    const int64_t *starts, *limits, *strides;
} kiln_slice_options;
KILN_API kiln_value kiln_slice(kiln_graph *graph, kiln_value a, const kiln_slice_options *options);
KILN_API kiln_value kiln_reverse(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                 const int64_t *axes);

/* Moves */

/* One entry per axis, NULL is 0; negative low and high crop. */
typedef struct kiln_pad_options {
    const int64_t *low, *high, *interior;
} kiln_pad_options;
KILN_API kiln_value kiln_pad(kiln_graph *graph, kiln_value a, kiln_value value,
                             const kiln_pad_options *options);
KILN_API kiln_value kiln_concat(kiln_graph *graph, uint32_t n_values, const kiln_value *values,
                                int64_t axis);
KILN_API kiln_value kiln_take(kiln_graph *graph, kiln_value a, kiln_value indices, int64_t axis);
/* `starts` is i64[rank of a]; `sizes` has one entry per axis. */
KILN_API kiln_value kiln_dynamic_slice(kiln_graph *graph, kiln_value a, kiln_value starts,
                                       const int64_t *sizes);
KILN_API kiln_value kiln_dynamic_update(kiln_graph *graph, kiln_value a, kiln_value block,
                                        kiln_value starts);

/* StableHLO's gather. An index vector lies along `index_axis` of the indices (their rank: an index
 * is a scalar); its entry c is the start along axis start_map[c] of `a`, clamped so that a slice of
 * `sizes` (one entry per axis of `a`) fits. The slice without its collapsed and batch axes, which
 * have size 1, stands at offset_axes of the result; the other axes of the result are those of the
 * indices. Axis operand_batch[i] of `a` is the same index as axis indices_batch[i] of the
 * indices. */
typedef struct kiln_gather_options {
    uint32_t n_offset, n_collapsed, n_batch, n_map;
    const int64_t *offset_axes, *collapsed_axes;  /* ascending */
    const int64_t *operand_batch, *indices_batch; /* n_batch each, paired */
    const int64_t *start_map;
    int64_t index_axis;
    const int64_t *sizes;
} kiln_gather_options;
KILN_API kiln_value kiln_gather(kiln_graph *graph, kiln_value a, kiln_value indices,
                                const kiln_gather_options *options);
/* StableHLO's scatter, the reverse: `a` with windows of `updates` set, added, … at the index
 * vectors, in row-major order of the updates; elements that fall outside of `a` are dropped. */
typedef struct kiln_scatter_options {
    uint32_t n_window, n_inserted, n_batch, n_map;
    const int64_t *window_axes;                   /* of the updates, ascending */
    const int64_t *inserted_axes;                 /* of `a`, ascending: windows have one element */
    const int64_t *operand_batch, *indices_batch; /* n_batch each, paired */
    const int64_t *start_map;
    int64_t index_axis;
    uint32_t n_values; /* of kiln_scatter_with; 0 is 1 */
} kiln_scatter_options;
KILN_API kiln_value kiln_scatter(kiln_graph *graph, kiln_value a, kiln_value indices,
                                 kiln_value updates, const kiln_scatter_options *options);
KILN_API kiln_value kiln_scatter_add(kiln_graph *graph, kiln_value a, kiln_value indices,
                                     kiln_value updates, const kiln_scatter_options *options);
KILN_API kiln_value kiln_scatter_mul(kiln_graph *graph, kiln_value a, kiln_value indices,
                                     kiln_value updates, const kiln_scatter_options *options);
KILN_API kiln_value kiln_scatter_max(kiln_graph *graph, kiln_value a, kiln_value indices,
                                     kiln_value updates, const kiln_scatter_options *options);
KILN_API kiln_value kiln_scatter_min(kiln_graph *graph, kiln_value a, kiln_value indices,
                                     kiln_value updates, const kiln_scatter_options *options);

/* Along one axis */

/* i64 places of the elements in ascending order, or in descending order where `descending` is not
 * 0; NaN counts as the largest number, -0 as +0, and equal elements stay in their order. */
KILN_API kiln_value kiln_argsort(kiln_graph *graph, kiln_value a, int64_t axis, int descending);
KILN_API kiln_value kiln_sort(kiln_graph *graph, kiln_value a, int64_t axis, int descending);
/* Element b[…, i, …] of `a` along `axis`: sorts several values by one key with argsort. */
KILN_API kiln_value kiln_take_along(kiln_graph *graph, kiln_value a, kiln_value indices,
                                    int64_t axis);
/* i64 places of the k largest elements along `axis`, from the largest on, or of the k smallest
 * where `smallest` is not 0; kiln_take_along gives the elements. */
KILN_API kiln_value kiln_top_k(kiln_graph *graph, kiln_value a, int64_t k, int64_t axis,
                               int smallest);
/* NULL options are 0: up to and with the element. */
typedef struct kiln_cumulative_options {
    int exclusive, reverse;
} kiln_cumulative_options;
KILN_API kiln_value kiln_cumulative_sum(kiln_graph *graph, kiln_value a, int64_t axis,
                                        const kiln_cumulative_options *options);
KILN_API kiln_value kiln_cumulative_prod(kiln_graph *graph, kiln_value a, int64_t axis,
                                         const kiln_cumulative_options *options);
KILN_API kiln_value kiln_cumulative_max(kiln_graph *graph, kiln_value a, int64_t axis,
                                        const kiln_cumulative_options *options);
KILN_API kiln_value kiln_cumulative_min(kiln_graph *graph, kiln_value a, int64_t axis,
                                        const kiln_cumulative_options *options);

/* Contractions; `accumulate` 0 is f32 for narrower floats, i32 or u32 for narrower integers. The
 * result has the operands' dtype, or that of the sums where is_wide: then i8 may meet u8, in i32.
 */
typedef struct kiln_dot_options {
    uint32_t n_batch, n_contract;
    const int64_t *lhs_batch, *rhs_batch;       /* n_batch axes each, paired */
    const int64_t *lhs_contract, *rhs_contract; /* n_contract axes each, paired */
    kiln_dtype accumulate;
    int is_wide;
} kiln_dot_options;
KILN_API kiln_value kiln_dot_general(kiln_graph *graph, kiln_value a, kiln_value b,
                                     const kiln_dot_options *options);
/* a[…, m, k] · b[…, k, n]; leading axes broadcast. Both ranks are 2 or more. */
KILN_API kiln_value kiln_matmul(kiln_graph *graph, kiln_value a, kiln_value b);
/* Lists over spatial dims; NULL is all 1, and all 0 for low and high. Axes say which axis of the
 * tensor plays the role [batch, feature, spatial…] (kernel: [out feature, in feature, spatial…]);
 * NULL is that very order, NCHW and OIHW. groups 0 is 1. With batch_groups g > 1 part i of g of the
 * batch meets part i of the output features: the result has a g-th of the batch. */
typedef struct kiln_conv_options {
    const int64_t *strides, *low, *high, *lhs_dilation, *rhs_dilation;
    int64_t groups;
    const int64_t *input_axes, *kernel_axes, *output_axes;
    kiln_dtype accumulate;
    int64_t batch_groups; /* 0 is 1; then groups must be 1 */
    int is_wide;
} kiln_conv_options;
KILN_API kiln_value kiln_convolution(kiln_graph *graph, kiln_value a, kiln_value kernel,
                                     const kiln_conv_options *options);

/* `a`; passes neither merge it nor move work across it. */
KILN_API kiln_value kiln_barrier(kiln_graph *graph, kiln_value a);

/* Regions: computations within the computation. A region is a graph of its own of the same context:
 * its inputs are the parameters, in the order in which they were made, its outputs the results. It
 * sees nothing else of the graph around it: what a body needs is passed in. The call that takes a
 * region finishes it: nothing may be added afterwards, several calls may use it, and it may be
 * destroyed at once. All give a tuple, of which kiln_item reads one value. The power x^n by a loop:
 *
 *     kiln_graph *condition, *body;                    (parameters: i, y, n, x)
 *     …                                                i < n       i + 1, y * x
 *     kiln_while_options options = {
 *         .condition = condition, .body = body, .n_carried = 2, .n_fixed = 2,
 *         .carried = (kiln_value[]){zero, one}, .fixed = (kiln_value[]){n, x}};
 *     kiln_value power = kiln_item(graph, kiln_while(graph, &options), 1);
 *     kiln_graph_destroy(condition);
 *     kiln_graph_destroy(body); */
typedef struct kiln_arguments {
    uint32_t n;
    const kiln_value *values;
} kiln_arguments;
KILN_API kiln_value kiln_item(kiln_graph *graph, kiln_value tuple, uint32_t index);
/* NULL arguments are none. */
KILN_API kiln_value kiln_call(kiln_graph *graph, kiln_graph *region,
                              const kiln_arguments *arguments);
/* `condition` is bool[]; both regions have the same parameters and result types. */
KILN_API kiln_value kiln_if(kiln_graph *graph, kiln_value condition, kiln_graph *if_true,
                            kiln_graph *if_false, const kiln_arguments *arguments);
/* `index` is i32[] or i64[]; the last region is also for every index that has none. */
KILN_API kiln_value kiln_case(kiln_graph *graph, kiln_value index, uint32_t n_regions,
                              kiln_graph *const *regions, const kiln_arguments *arguments);
/* Both regions take the carried values, then the fixed ones; the condition gives bool[], the body
 * the carried values of the next trip. A run of more than `limit` trips returns RANGE. */
typedef struct kiln_while_options {
    kiln_graph *condition, *body;
    uint32_t n_carried, n_fixed;
    const kiln_value *carried, *fixed;
    int64_t limit; /* 0: 2^31 - 1 */
} kiln_while_options;
KILN_API kiln_value kiln_while(kiln_graph *graph, const kiln_while_options *options);
/* The body takes the carried values, one slice of each sequence along its first axis, the fixed
 * values; it gives the carried values of the next trip, then values that are stacked along a new
 * first axis of `length`. The tuple holds the last carried values, then the stacks. */
typedef struct kiln_scan_options {
    kiln_graph *body;
    uint32_t n_carried, n_sequences, n_fixed;
    const kiln_value *carried, *sequences, *fixed;
    int64_t length; /* the first dim of every sequence */
} kiln_scan_options;
KILN_API kiln_value kiln_scan(kiln_graph *graph, const kiln_scan_options *options);

/* A call of a function that the context has by that name when the graph is evaluated, compiled or
 * loaded (kiln_context_register in kiln/runtime.h): a tuple of results of the types given, one
 * kiln_tensor each, of which the data is not looked at. */
KILN_API kiln_value kiln_custom_call(kiln_graph *graph, const char *target,
                                     const kiln_arguments *arguments, uint32_t n_results,
                                     const kiln_tensor *results);

/* Regions over scalars: their parameters are scalars, and they hold elementwise operations (also
 * composites of such) and constants only. All give a tuple. `map` takes the region at every index
 * of operands of equal dims. */
KILN_API kiln_value kiln_map(kiln_graph *graph, kiln_graph *region,
                             const kiln_arguments *arguments);
/* The region takes n values so far, then n elements, and gives n values; it should be associative:
 * elements are combined in their order, but in any grouping. */
typedef struct kiln_reduce_options {
    kiln_graph *region;
    uint32_t n;
    const kiln_value *values, *initial; /* n of equal dims; n scalars */
    uint32_t n_axes;
    const int64_t *axes; /* NULL and 0: all */
} kiln_reduce_options;
KILN_API kiln_value kiln_reduce(kiln_graph *graph, const kiln_reduce_options *options);
/* The same over windows. Padding, and base_dilation - 1 elements between two of the values, are
 * initial scalars; NULL lists are as in kiln_window_options. */
typedef struct kiln_reduce_window_options {
    kiln_graph *region;
    uint32_t n;
    const kiln_value *values, *initial;
    const int64_t *sizes, *strides, *low, *high, *dilations, *base_dilations;
} kiln_reduce_window_options;
KILN_API kiln_value kiln_reduce_window(kiln_graph *graph,
                                       const kiln_reduce_window_options *options);
/* `select` says whether the element that comes first in its window stays selected; `scatter`
 * combines what is there with an element of `source`. The window's dims are those of `source`. */
typedef struct kiln_select_and_scatter_options {
    kiln_graph *select, *scatter;
    const int64_t *sizes, *strides, *low, *high;
    kiln_value source, initial;
} kiln_select_and_scatter_options;
KILN_API kiln_value kiln_select_and_scatter(kiln_graph *graph, kiln_value a,
                                            const kiln_select_and_scatter_options *options);
/* `operands`: n_values values of equal dims, the indices, as many updates of equal dims. The region
 * takes what is there in all values, then the updates. Regions that do not add, multiply, take the
 * larger, the smaller or the update itself, and those of several values, are slow. */
KILN_API kiln_value kiln_scatter_with(kiln_graph *graph, kiln_graph *region,
                                      const kiln_value *operands,
                                      const kiln_scatter_options *options);
/* `comparator` takes two elements of each value in turn and says whether those of the first index
 * come first; equal ones stay in their order. */
KILN_API kiln_value kiln_sort_by(kiln_graph *graph, kiln_graph *comparator,
                                 const kiln_arguments *values, int64_t axis);

/* Composites */
KILN_API kiln_value kiln_square(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_reciprocal(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_relu(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_leaky_relu(kiln_graph *graph, kiln_value a, double slope);
KILN_API kiln_value kiln_elu(kiln_graph *graph, kiln_value a, double slope);
/* By erf, or by tanh where `tanh` is not 0. */
KILN_API kiln_value kiln_gelu(kiln_graph *graph, kiln_value a, int tanh);
KILN_API kiln_value kiln_silu(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_softplus(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_mish(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_hard_sigmoid(kiln_graph *graph, kiln_value a, double scale, double offset);
KILN_API kiln_value kiln_hard_swish(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_cbrt(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_asin(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_acos(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_sinh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_cosh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_asinh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_acosh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_atanh(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_erfc(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_erf_inv(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_lgamma(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_digamma(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_round_half_away(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_is_nan(kiln_graph *graph, kiln_value a);
KILN_API kiln_value kiln_is_inf(kiln_graph *graph, kiln_value a);
/* Shapes broadcast. */
KILN_API kiln_value kiln_next_after(kiln_graph *graph, kiln_value a, kiln_value b);
/* `exponent_bits` 1 to 63, `mantissa_bits` 0 to 63; more than the dtype has changes nothing. */
KILN_API kiln_value kiln_reduce_precision(kiln_graph *graph, kiln_value a, int64_t exponent_bits,
                                          int64_t mantissa_bits);

/* Random numbers are functions of a key, u32[2]: the same key gives the same numbers. New keys come
 * from kiln_random_split, u32[n,2]. */
KILN_API kiln_value kiln_random_split(kiln_graph *graph, kiln_value key, int64_t n);
KILN_API kiln_value kiln_random_bits(kiln_graph *graph, kiln_value key, uint32_t rank,
                                     const int64_t *dims);
typedef struct kiln_random_options {
    kiln_dtype dtype; /* a float; 0 is f32 */
    uint32_t rank;
    const int64_t *dims;
    double offset, scale; /* of the result; a scale of 0 is 1 */
} kiln_random_options;
/* 0 <= u < 1, and the normal distribution of mean 0 and variance 1. */
KILN_API kiln_value kiln_random_uniform(kiln_graph *graph, kiln_value key,
                                        const kiln_random_options *options);
KILN_API kiln_value kiln_random_normal(kiln_graph *graph, kiln_value key,
                                       const kiln_random_options *options);
KILN_API kiln_value kiln_dropout(kiln_graph *graph, kiln_value a, kiln_value key, double rate);
/* The block functions: key u32[2], counters and results u32[2,…] or u32[4,…]. */
KILN_API kiln_value kiln_threefry2x32(kiln_graph *graph, kiln_value key, kiln_value counter);
KILN_API kiln_value kiln_philox4x32(kiln_graph *graph, kiln_value key, kiln_value counter);

/* Over the last two axes. cholesky: L with L L^T = a, or U with U^T U = a where `lower` is 0 (of
 * complex values the conjugate transpose); only that triangle of `a` is read, NaN where `a` is not
 * positive definite. */
KILN_API kiln_value kiln_cholesky(kiln_graph *graph, kiln_value a, int lower);
/* x with op(a) x = b, or x op(a) = b where `right` is not 0; a is lower, or upper where `upper` is
 * not 0, op transposes where `transpose` is not 0. NULL options are all 0. */
typedef struct kiln_triangular_options {
    int right, upper, transpose, unit_diagonal;
} kiln_triangular_options;
KILN_API kiln_value kiln_triangular_solve(kiln_graph *graph, kiln_value a, kiln_value b,
                                          const kiln_triangular_options *options);
KILN_API kiln_value kiln_forward_solve(kiln_graph *graph, kiln_value a, kiln_value b,
                                       int unit_diagonal);

/* Along `axes` of `a`, which is complex, or whose last axis holds real and imaginary part; the
 * inverse divides by the lengths. A prime factor of a length is at most 4096. */
KILN_API kiln_value kiln_fft(kiln_graph *graph, kiln_value a, uint32_t n_axes, const int64_t *axes,
                             int inverse);

/* Of real values: elements 0 … n / 2 along the last of the axes, complex; and back, to `length` of
 * them. Floats are f32 or f64. */
KILN_API kiln_value kiln_rfft(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                              const int64_t *axes);
KILN_API kiln_value kiln_irfft(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                               const int64_t *axes, int64_t length);

/* Axes as in reductions. */
KILN_API kiln_value kiln_mean(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                              const int64_t *axes);
KILN_API kiln_value kiln_variance(kiln_graph *graph, kiln_value a, uint32_t n_axes,
                                  const int64_t *axes);
KILN_API kiln_value kiln_softmax(kiln_graph *graph, kiln_value a, int64_t axis);
KILN_API kiln_value kiln_log_softmax(kiln_graph *graph, kiln_value a, int64_t axis);
/* Over the last axes of `a`, as many as `scale` has. */
KILN_API kiln_value kiln_layer_norm(kiln_graph *graph, kiln_value a, kiln_value scale,
                                    kiln_value offset, double epsilon);
KILN_API kiln_value kiln_rms_norm(kiln_graph *graph, kiln_value a, kiln_value scale,
                                  double epsilon);
/* All four have one dim: that of `axis`. */
typedef struct kiln_batch_norm_operands {
    kiln_value scale, offset, mean, variance;
} kiln_batch_norm_operands;
KILN_API kiln_value kiln_batch_norm(kiln_graph *graph, kiln_value a,
                                    const kiln_batch_norm_operands *operands, int64_t axis,
                                    double epsilon);
/* In training: scale and offset of `operands` are read, the statistics are those of the batch,
 * which kiln_mean and kiln_variance over the other axes give. */
KILN_API kiln_value kiln_batch_norm_training(kiln_graph *graph, kiln_value a,
                                             const kiln_batch_norm_operands *operands, int64_t axis,
                                             double epsilon);
typedef struct kiln_batch_norm_grad_operands {
    kiln_value scale, mean, variance; /* one dim: that of the axis */
    kiln_value gradient;              /* of the result */
} kiln_batch_norm_grad_operands;
/* Gradients of `a` and of the scale; that of the offset is kiln_reduce_sum of the gradient. */
KILN_API kiln_value kiln_batch_norm_grad(kiln_graph *graph, kiln_value a,
                                         const kiln_batch_norm_grad_operands *operands,
                                         int64_t axis, double epsilon);
KILN_API kiln_value kiln_batch_norm_grad_scale(kiln_graph *graph, kiln_value a,
                                               const kiln_batch_norm_grad_operands *operands,
                                               int64_t axis, double epsilon);
/* Zeros like `a` with each number of `source`, one a window, added at its first maximum: the
 * gradient of kiln_window_max. */
KILN_API kiln_value kiln_window_max_grad(kiln_graph *graph, kiln_value a, kiln_value source,
                                         const kiln_window_options *options);
/* a[…, k] · b[k, n] + c[n]; c may be the zero value. */
KILN_API kiln_value kiln_linear(kiln_graph *graph, kiln_value a, kiln_value b, kiln_value c);
typedef struct kiln_attention_options {
    kiln_value mask; /* added to the scores; the zero value: none */
    double scale;    /* 0 is 1 / sqrt(width) */
    int is_causal;
} kiln_attention_options;
/* Operands are [batch, heads, length, width]; `options` may be NULL. */
KILN_API kiln_value kiln_attention(kiln_graph *graph, kiln_value query, kiln_value key,
                                   kiln_value value, const kiln_attention_options *options);

/* Gradients, as ordinary nodes: out_gradients[i] is that of the sum of of * cotangent with respect
 * to value i, and has its type; they may be differentiated again. The zero value as cotangent is 1,
 * for an `of` of one element. Values are floats, inputs or anything on the way to `of`, also on the
 * way to each other; one that `of` does not depend on gets zeros. At a kink of relu, abs and clamp
 * the flat side counts; max and min halve between equals; steps such as floor have slope 0.
 * UNSUPPORTED, with the op and the reason, where something between them has no derivative:
 * graph/rules/derivatives.def lists all. On failure out_gradients are zero values. */
KILN_API void kiln_gradient(kiln_graph *graph, kiln_value of, kiln_value cotangent,
                            const kiln_arguments *values, kiln_value *out_gradients);

#ifdef __cplusplus
}
#endif
#endif
