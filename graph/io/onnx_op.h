/* What an operator's function works with: operands, attributes, values known at import, and
 * building blocks over kiln_graph_add. Everything fails through the call's scope; sentences of
 * kiln_onnx_fail and kiln_onnx_refuse get the node's name put before them. */
#ifndef KILN_GRAPH_IO_ONNX_OP_H
#define KILN_GRAPH_IO_ONNX_OP_H

#include "graph/io/onnx.h"

/* Operands. */
static inline bool kiln_onnx_has(const kiln_onnx_call *call, uint32_t i)
{
    return i < call->n_inputs && call->inputs[i].id != 0;
}
/* Operand i; MODEL when it is left out. */
kiln_value kiln_onnx_operand(kiln_onnx_call *call, uint32_t i);
/* Its type. */
const kiln_type *kiln_onnx_type(kiln_onnx_call *call, uint32_t i);
/* Fails with MODEL unless operand i has a rank of at least `least`. */
const kiln_type *kiln_onnx_ranked(kiln_onnx_call *call, uint32_t i, uint32_t least);
/* Counts a node or a trip of a loop; LIMIT when there are too many. */
void kiln_onnx_count(kiln_onnx_call *call);
bool kiln_onnx_wants(const kiln_onnx_call *call, uint32_t output);
void kiln_onnx_result(kiln_onnx_call *call, uint32_t output, kiln_value value);

/* Attributes: MODEL when one has another type or stands twice. */
bool kiln_onnx_has_attribute(kiln_onnx_call *call, const char *name);
int64_t kiln_onnx_int(kiln_onnx_call *call, const char *name, int64_t fallback);
bool kiln_onnx_flag(kiln_onnx_call *call, const char *name, bool fallback);
double kiln_onnx_float(kiln_onnx_call *call, const char *name, double fallback);
const char *kiln_onnx_string(kiln_onnx_call *call, const char *name, const char *fallback);
/* False when it is absent. */
bool kiln_onnx_ints(kiln_onnx_call *call, const char *name, kiln_ints *out_ints);
bool kiln_onnx_floats(kiln_onnx_call *call, const char *name, uint32_t *out_n, const float **out);
/* Number of strings of a list; entry `at` in *out unless it is NULL. */
uint32_t kiln_onnx_strings(kiln_onnx_call *call, const char *name, const char **out, uint32_t at);
const Kiln__Onnx__Tensor *kiln_onnx_tensor_attribute(kiln_onnx_call *call, const char *name);
const Kiln__Onnx__Graph *kiln_onnx_graph_attribute(kiln_onnx_call *call, const char *name);
/* Marks attributes that say nothing here as read. */
void kiln_onnx_ignore(kiln_onnx_call *call, const char *name);

/* An axis or index counted from the end made plain; MODEL outside -rank … rank - 1. */
uint32_t kiln_onnx_axis(kiln_onnx_call *call, int64_t axis, uint32_t rank);
/* Axes made plain, sorted; MODEL when one stands twice. */
kiln_ints kiln_onnx_axes(kiln_onnx_call *call, kiln_ints axes, uint32_t rank);

/* What is known at import. The value of a node that hangs on constants only, or NULL. */
const void *kiln_onnx_known(kiln_onnx_call *call, kiln_value value);
/* Operand i as integers; UNSUPPORTED when it depends on the data. */
kiln_ints kiln_onnx_known_ints(kiln_onnx_call *call, uint32_t i);
int64_t kiln_onnx_known_int(kiln_onnx_call *call, uint32_t i);
/* Operand i as doubles; returns their number. */
uint32_t kiln_onnx_known_floats(kiln_onnx_call *call, uint32_t i, const double **out);
/* Adds the checks for inputs whose fixed value was used. */
void kiln_onnx_bound_check(kiln_onnx *onnx);
/* Element i of known bytes. */
int64_t kiln_onnx_int_at(kiln_dtype dtype, const void *data, int64_t i);
double kiln_onnx_float_at(kiln_dtype dtype, const void *data, int64_t i);

/* Building. */
int64_t *kiln_onnx_dims(kiln_onnx_call *call, uint32_t n); /* zeroed, in the call's arena */
kiln_value kiln_onnx_scalar(kiln_onnx_call *call, kiln_dtype dtype, double value);
/* `value` as a splat of the type of `like`, and an operation with such a splat. */
kiln_value kiln_onnx_with(kiln_onnx_call *call, kiln_op op, kiln_value a, double value);
kiln_value kiln_onnx_constant_ints(kiln_onnx_call *call, kiln_dtype dtype, kiln_ints values);
/* Broadcasts n values to their common dims, in place; MODEL when there are none. */
void kiln_onnx_broadcast(kiln_onnx_call *call, uint32_t n, kiln_value *values);
kiln_value kiln_onnx_binary(kiln_onnx_call *call, kiln_op op, kiln_value a, kiln_value b);
kiln_value kiln_onnx_select(kiln_onnx_call *call, kiln_value c, kiln_value a, kiln_value b);
kiln_value kiln_onnx_reshape(kiln_onnx_call *call, kiln_value a, uint32_t rank,
                             const int64_t *dims);
kiln_value kiln_onnx_slice(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t from,
                           int64_t to);
/* Elements of `value` added at the high end of an axis. */
kiln_value kiln_onnx_pad_high(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t high,
                              double value);
kiln_value kiln_onnx_concat(kiln_onnx_call *call, uint32_t n, const kiln_value *parts,
                            uint32_t axis);
kiln_value kiln_onnx_take(kiln_onnx_call *call, kiln_value a, kiln_value index, uint32_t axis);
kiln_value kiln_onnx_iota(kiln_onnx_call *call, kiln_dtype dtype, uint32_t rank,
                          const int64_t *dims, uint32_t axis);
/* Reshapes a vector [n] so that it stands along `axis` of `rank` axes, by dims of 1. */
kiln_value kiln_onnx_along(kiln_onnx_call *call, kiln_value vector, uint32_t axis, uint32_t rank);
/* Indices of dim `dim`: negative ones counted from the end; a check where they depend on the data.
 */
kiln_value kiln_onnx_indices(kiln_onnx_call *call, kiln_value indices, int64_t dim);
/* A run in which an element of `is_bad` is true returns RANGE: "node 'n' (Op): WHAT". */
void kiln_onnx_check(kiln_onnx_call *call, kiln_value is_bad, const char *what);
/* LIMIT unless a result of these dims, all 0 or more, is within the limits of a graph. */
void kiln_onnx_check_size(kiln_onnx_call *call, uint32_t rank, const int64_t *dims);
/* Spatial attributes of Conv and pooling, one entry per spatial dim, defaults filled in. */
typedef struct kiln_onnx_window {
    uint32_t n; /* spatial dims */
    int64_t kernel[KILN_MAX_RANK], strides[KILN_MAX_RANK], dilations[KILN_MAX_RANK];
    int64_t low[KILN_MAX_RANK], high[KILN_MAX_RANK];
    char same; /* auto_pad SAME_UPPER 'U' or SAME_LOWER 'L', else 0 */
} kiln_onnx_window;
/* Reads kernel_shape (or takes `kernel`, when not NULL), strides, dilations, pads and auto_pad of
 * an operand [batch, channel, spatial…]; MODEL when they do not fit. */
void kiln_onnx_window_read(kiln_onnx_call *call, const int64_t *kernel,
                           kiln_onnx_window *out_window);
/* Sets the pads of auto_pad from the dims of the operand. */
void kiln_onnx_window_same(kiln_onnx_call *call, kiln_onnx_window *window);
/* Convolution of NCHW a and OIHW w over the window. */
kiln_value kiln_onnx_convolution(kiln_onnx_call *call, const kiln_value *operands, int64_t groups,
                                 const kiln_onnx_window *window);
/* The first place of the maximum of each window of operand 0, counted through all of it; `out` are
 * the spatial dims of the result, is_column counts the first spatial dim fastest. */
kiln_value kiln_onnx_max_places(kiln_onnx_call *call, const kiln_onnx_window *window,
                                const int64_t *out, bool is_column);
/* Operand 2 scattered over operand 0, seen as [n, block]: row i of the updates goes to row
 * places[i], as the attribute `reduction` says. */
kiln_value kiln_onnx_scatter(kiln_onnx_call *call, kiln_value places, int64_t n, int64_t block);
/* a[..., m, k] b[..., k, n] as NumPy's matmul, summed in `accumulate`. */
kiln_value kiln_onnx_matmul(kiln_onnx_call *call, kiln_value a, kiln_value b,
                            kiln_dtype accumulate);
/* `a` in a float dtype; with is_saturating what is beyond the largest number of an 8-bit one,
 * infinities too, becomes that number. */
kiln_value kiln_onnx_cast_float(kiln_onnx_call *call, kiln_value a, kiln_dtype dtype,
                                bool is_saturating);

/* onnx_decoder.c: RotaryEmbedding and GroupQueryAttention of com.microsoft. */
kiln_value kiln_onnx_import_rotary(kiln_onnx_call *call);
kiln_value kiln_onnx_import_group_query(kiln_onnx_call *call);
/* float8e8m0, u8 patterns in the graph: whether a value is one, making it known as one, to a float
 * and from one as the attribute round_mode says. */
bool kiln_onnx_is_scale(const kiln_onnx *onnx, kiln_value value);
kiln_value kiln_onnx_scale_note(kiln_onnx *onnx, kiln_value value);
kiln_value kiln_onnx_scale_decode(kiln_onnx_call *call, kiln_value a, kiln_dtype dtype);
kiln_value kiln_onnx_scale_encode(kiln_onnx_call *call, kiln_value a, bool is_saturating);
/* onnx_moving.c: Slice at a place that depends on the data. */
bool kiln_onnx_slice_moves(kiln_onnx_call *call);
kiln_value kiln_onnx_import_moving_slice(kiln_onnx_call *call);
/* onnx_tree.c: TreeEnsemble. */
kiln_value kiln_onnx_import_trees(kiln_onnx_call *call);

static inline bool kiln_onnx_is_float(kiln_dtype dtype)
{
    return kiln_dtype_kind_of(dtype) == KILN_DTYPE_KIND_FLOAT;
}
#endif
