/* Operators that give the same elements another shape or dtype. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_extent.h"

/* The dims of the operand, or those from `start` to `end`. */
static kiln_value import_shape(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t rank = type->rank, start = kiln_onnx_int(call, "start", 0),
            end = kiln_onnx_int(call, "end", rank);
    start = kiln_min_i64(kiln_max_i64(start < 0 ? start + rank : start, 0), rank);
    end = kiln_min_i64(kiln_max_i64(end < 0 ? end + rank : end, start), rank);
    kiln_value dims = kiln_onnx_constant_ints(
        call, KILN_i64, (kiln_ints){(uint32_t)(end - start), type->dims + start});
    const kiln_onnx_extent *extent = kiln_onnx_extent_find(call, call->inputs[0]);
    if (!extent) return dims;
    call->is_extent_read = true;
    if (extent->axis < start || extent->axis >= end) return dims;
    int64_t n = end - start;
    kiln_value is_axis = kiln_onnx_with(call, KILN_OP_eq, kiln_onnx_iota(call, KILN_i64, 1, &n, 0),
                                        (double)(extent->axis - start));
    return kiln_onnx_select(call, is_axis, extent->count, dims);
}

static kiln_value import_size(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_graph_tensor(call->graph, KILN_i64, 0, NULL);
    const kiln_type *given = kiln_onnx_type(call, 0);
    const kiln_onnx_extent *extent = kiln_onnx_extent_find(call, call->inputs[0]);
    if (!extent) return kiln_add_constant(call->graph, type, &given->n_elements);
    call->is_extent_read = true;
    int64_t row = given->n_elements / kiln_max_i64(given->dims[extent->axis], 1);
    return kiln_onnx_with(call, KILN_OP_mul, extent->count, (double)row);
}

/* Fills in 0 (the dim at the same place) and -1 (what is left over). */
static void reshape_resolve(kiln_onnx_call *call, int64_t *dims, uint32_t rank, bool is_zero_plain)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t open = -1, rest = 1;
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] == 0 && !is_zero_plain) {
            if (i >= type->rank)
                kiln_onnx_fail(call,
                               "shape[%u] is 0, but operand 0 has rank %u; expected a dim to copy",
                               i, type->rank);
            dims[i] = type->dims[i];
        }
        if (dims[i] < -1 || (dims[i] == -1 && open >= 0))
            kiln_onnx_fail(
                call, "shape[%u] is %" PRId64 "; expected dims of 0 or more and at most one -1", i,
                dims[i]);
        if (dims[i] == -1) {
            open = i;
        } else if (!kiln_checked_mul(rest, dims[i], &rest)) {
            kiln_onnx_fail(call, "the shape's element count overflows; expected %" PRId64,
                           type->n_elements);
        }
    }
    if (open >= 0) {
        if (rest == 0 || type->n_elements % rest)
            kiln_onnx_fail(call,
                           "shape[%" PRId64 "] is -1 beside %" PRId64 " elements of %" PRId64
                           "; expected a divisor",
                           open, rest, type->n_elements);
        dims[open] = type->n_elements / rest;
    }
}

static kiln_value import_reshape(kiln_onnx_call *call)
{
    kiln_ints shape = kiln_onnx_known_ints(call, 1);
    bool is_zero_plain = kiln_onnx_flag(call, "allowzero", false);
    if (shape.n > KILN_MAX_RANK)
        kiln_onnx_fail(call, "shape has %u dims; expected at most %d", shape.n, KILN_MAX_RANK);
    int64_t *dims = kiln_onnx_dims(call, shape.n);
    if (shape.n) memcpy(dims, shape.at, shape.n * sizeof *dims);
    reshape_resolve(call, dims, shape.n, is_zero_plain);
    return kiln_add_reshape(call->graph, call->inputs[0], shape.n, dims);
}

static kiln_value import_flatten(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t axis = kiln_onnx_int(call, "axis", 1), dims[2] = {1, 1};
    if (axis < -(int64_t)type->rank || axis > (int64_t)type->rank)
        kiln_onnx_fail(call, "axis %" PRId64 " of rank %u; expected one in [-%u, %u]", axis,
                       type->rank, type->rank, type->rank);
    if (axis < 0) axis += type->rank;
    for (uint32_t i = 0; i < type->rank; i++) dims[i >= axis] *= type->dims[i];
    return kiln_add_reshape(call->graph, call->inputs[0], 2, dims);
}

/* axes: an attribute before operator set 13, then operand 1 */
static bool axes_given(kiln_onnx_call *call, kiln_ints *out_axes)
{
    if (call->opset < 13) return kiln_onnx_ints(call, "axes", out_axes);
    if (!kiln_onnx_has(call, 1)) return false;
    *out_axes = kiln_onnx_known_ints(call, 1);
    return true;
}

static kiln_value import_squeeze(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints axes;
    bool is_dropped[KILN_MAX_RANK] = {0}, is_given = axes_given(call, &axes);
    for (uint32_t i = 0; is_given && i < axes.n; i++) {
        uint32_t axis = kiln_onnx_axis(call, axes.at[i], type->rank);
        if (type->dims[axis] != 1)
            kiln_onnx_fail(call, "dim %u is %" PRId64 "; expected 1", axis, type->dims[axis]);
        is_dropped[axis] = true;
    }
    int64_t dims[KILN_MAX_RANK];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (is_given ? !is_dropped[i] : type->dims[i] != 1) dims[rank++] = type->dims[i];
    }
    return kiln_add_reshape(call->graph, call->inputs[0], rank, dims);
}

static kiln_value import_unsqueeze(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints axes;
    if (!axes_given(call, &axes)) kiln_onnx_fail(call, "attr 'axes' is missing; expected axes");
    uint32_t rank = type->rank + axes.n;
    if (rank > KILN_MAX_RANK)
        kiln_onnx_fail(call, "rank %u; expected at most %d", rank, KILN_MAX_RANK);
    axes = kiln_onnx_axes(call, axes, rank);
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0, added = 0; i < rank; i++) {
        bool is_new = added < axes.n && axes.at[added] == i;
        dims[i] = is_new ? 1 : type->dims[i - added];
        added += is_new;
    }
    return kiln_add_reshape(call->graph, call->inputs[0], rank, dims);
}

static kiln_value import_transpose(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    int64_t order[KILN_MAX_RANK];
    bool has[KILN_MAX_RANK] = {0};
    kiln_ints given;
    bool is_given = kiln_onnx_ints(call, "perm", &given);
    if (is_given && given.n != type->rank)
        kiln_onnx_fail(call, "attr 'perm' has %u entries; expected %u", given.n, type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        order[i] = is_given ? given.at[i] : type->rank - 1 - i;
        if (order[i] < 0 || order[i] >= (int64_t)type->rank || has[order[i]])
            kiln_onnx_fail(call,
                           "attr 'perm' has %" PRId64 " at %u; expected a permutation of %u axes",
                           order[i], i, type->rank);
        has[order[i]] = true;
    }
    return kiln_add_transpose(call->graph, call->inputs[0], order);
}

static kiln_value import_expand(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints shape = kiln_onnx_known_ints(call, 1);
    if (shape.n > KILN_MAX_RANK)
        kiln_onnx_fail(call, "shape has %u dims; expected at most %d", shape.n, KILN_MAX_RANK);
    uint32_t rank = shape.n > type->rank ? shape.n : type->rank;
    int64_t dims[KILN_MAX_RANK];
    for (uint32_t i = 0; i < rank; i++) {
        int64_t own = i + type->rank < rank ? 1 : type->dims[i + type->rank - rank];
        int64_t wanted = i + shape.n < rank ? 1 : shape.at[i + shape.n - rank];
        if (own != wanted && own != 1 && wanted != 1)
            kiln_onnx_fail(call, "dim %u is %" PRId64 "; expected %" PRId64 " or 1", i, own,
                           wanted);
        dims[i] = own == 1 ? wanted : own;
    }
    kiln_onnx_check_size(call, rank, dims);
    return kiln_add_broadcast_to(call->graph, call->inputs[0], rank, dims);
}

/* [a, b] tiled [1, r]: [a, r, b] by broadcast, then [a, r b]. */
static kiln_value import_tile(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_ints repeats = kiln_onnx_known_ints(call, 1);
    if (repeats.n != type->rank)
        kiln_onnx_fail(call, "%u repeats; expected %u", repeats.n, type->rank);
    int64_t wide[KILN_MAX_RANK], axes[KILN_MAX_RANK], dims[KILN_MAX_RANK];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < type->rank; i++) {
        if (repeats.at[i] < 0)
            kiln_onnx_fail(call, "repeat %u is %" PRId64 "; expected 0 or more", i, repeats.at[i]);
        if (rank + 2 > KILN_MAX_RANK)
            kiln_onnx_refuse(call, "rank %u is too high to tile", type->rank);
        kiln_onnx_check_size(call, 2, (int64_t[]){type->dims[i], repeats.at[i]});
        if (repeats.at[i] != 1) wide[rank++] = repeats.at[i];
        axes[i] = rank;
        wide[rank++] = type->dims[i];
        dims[i] = type->dims[i] * repeats.at[i]; /* within range by the check of these factors */
    }
    kiln_value spread = kiln_add_broadcast(call->graph, call->inputs[0], rank, wide, axes);
    return kiln_add_reshape(call->graph, spread, type->rank, dims);
}

static kiln_value import_identity(kiln_onnx_call *call)
{
    return kiln_onnx_operand(call, 0);
}

/* Numbers become integers of 4 and 2 bits by way of i32: what does not fit wraps. */
static kiln_value cast(kiln_onnx_call *call, kiln_dtype dtype)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    kiln_dtype from = kiln_onnx_type(call, 0)->dtype;
    bool is_saturating = kiln_onnx_int(call, "saturate", 1) != 0; /* counts for f8 alone */
    if (dtype == KILN_bool && from != KILN_bool) return kiln_onnx_with(call, KILN_OP_ne, a, 0);
    if (dtype == from) return a;
    if (kiln_onnx_is_float(dtype)) return kiln_onnx_cast_float(call, a, dtype, is_saturating);
    if (kiln_dtype_bits(dtype) < 8) a = kiln_add_convert(call->graph, a, KILN_i32);
    return kiln_add_convert(call->graph, a, dtype);
}

/* The same where one side is float8e8m0. */
static kiln_value cast_scale(kiln_onnx_call *call, bool is_result, kiln_dtype dtype)
{
    kiln_value a = kiln_onnx_operand(call, 0);
    bool is_saturating = kiln_onnx_int(call, "saturate", 1) != 0;
    bool is_operand = kiln_onnx_is_scale(call->onnx, a);
    if (is_operand && is_result) return a;
    if (is_operand) return kiln_onnx_scale_decode(call, a, dtype);
    if (!kiln_onnx_is_float(kiln_onnx_type(call, 0)->dtype))
        kiln_onnx_refuse(call, "float8e8m0 from %s; expected a float",
                         kiln_dtype_name(kiln_onnx_type(call, 0)->dtype));
    return kiln_onnx_scale_encode(call, a, is_saturating);
}

static kiln_value import_cast(kiln_onnx_call *call)
{
    if (!kiln_onnx_has_attribute(call, "to"))
        kiln_onnx_fail(call, "attr 'to' is missing; expected a dtype");
    int64_t to = kiln_onnx_int(call, "to", 0);
    bool is_result = to == KILN_ONNX_E8M0;
    kiln_onnx_ignore(call, "round_mode");
    kiln_dtype dtype = is_result ? KILN_u8 : kiln_onnx_dtype(call->onnx, to, "attr 'to'");
    bool is_scale = is_result || kiln_onnx_is_scale(call->onnx, kiln_onnx_operand(call, 0));
    return is_scale ? cast_scale(call, is_result, dtype) : cast(call, dtype);
}

static kiln_value import_cast_like(kiln_onnx_call *call)
{
    kiln_dtype dtype = kiln_onnx_type(call, 1)->dtype;
    bool is_result = kiln_onnx_is_scale(call->onnx, call->inputs[1]);
    kiln_onnx_ignore(call, "round_mode");
    bool is_scale = is_result || kiln_onnx_is_scale(call->onnx, kiln_onnx_operand(call, 0));
    return is_scale ? cast_scale(call, is_result, dtype) : cast(call, dtype);
}

static kiln_value import_bit_cast(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_dtype dtype = kiln_onnx_dtype(call->onnx, kiln_onnx_int(call, "to", 0), "attr 'to'");
    if (type->dtype == KILN_bool || dtype == KILN_bool) return cast(call, dtype);
    type = kiln_graph_tensor(call->graph, dtype, type->rank, type->dims);
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = KILN_OP_bitcast,
                                                         .given = type,
                                                         .inputs = call->inputs,
                                                         .n_inputs = 1});
}

/* One reshape, one transpose, one reshape. */
static kiln_value shuffle(kiln_onnx_call *call, const int64_t *split, const int64_t *order,
                          const int64_t *dims)
{
    kiln_value wide = kiln_add_reshape(call->graph, call->inputs[0], 6, split);
    return kiln_add_reshape(call->graph, kiln_add_transpose(call->graph, wide, order), 4, dims);
}

static int64_t block_size(kiln_onnx_call *call, const kiln_type *type)
{
    int64_t size = kiln_onnx_int(call, "blocksize", 0);
    if (size < 1 || size > 1 << 20 || type->rank != 4)
        kiln_onnx_fail(call,
                       "attr 'blocksize' is %" PRId64 " on rank %u; expected 1 or more on rank 4",
                       size, type->rank);
    return size;
}

static kiln_value import_depth_to_space(kiln_onnx_call *call)
{
    static const int64_t dcr[6] = {0, 3, 4, 1, 5, 2}, crd[6] = {0, 1, 4, 2, 5, 3};
    const kiln_type *type = kiln_onnx_type(call, 0);
    const int64_t *d = type->dims;
    int64_t b = block_size(call, type), c = d[1] / (b * b);
    bool is_crd = !strcmp(kiln_onnx_string(call, "mode", "DCR"), "CRD");
    if (d[1] % (b * b))
        kiln_onnx_fail(call, "%" PRId64 " channels; expected a multiple of %" PRId64, d[1], b * b);
    int64_t split_dcr[6] = {d[0], b, b, c, d[2], d[3]}, split_crd[6] = {d[0], c, b, b, d[2], d[3]};
    int64_t dims[4] = {d[0], c, d[2] * b, d[3] * b};
    return shuffle(call, is_crd ? split_crd : split_dcr, is_crd ? crd : dcr, dims);
}

static kiln_value import_space_to_depth(kiln_onnx_call *call)
{
    static const int64_t dcr[6] = {0, 3, 5, 1, 2, 4}, crd[6] = {0, 1, 3, 5, 2, 4};
    const kiln_type *type = kiln_onnx_type(call, 0);
    const int64_t *d = type->dims;
    int64_t b = block_size(call, type);
    bool is_crd = !strcmp(kiln_onnx_string(call, "mode", "DCR"), "CRD");
    if (d[2] % b || d[3] % b)
        kiln_onnx_fail(call,
                       "spatial dims %" PRId64 " and %" PRId64 "; expected multiples of %" PRId64,
                       d[2], d[3], b);
    int64_t split[6] = {d[0], d[1], d[2] / b, b, d[3] / b, b};
    int64_t dims[4] = {d[0], d[1] * b * b, d[2] / b, d[3] / b};
    return shuffle(call, split, is_crd ? crd : dcr, dims);
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_shape_rows[] = {
    ROW("Shape", 6, 1, 1, import_shape),
    ROW("Size", 6, 1, 1, import_size),
    ROW("Reshape", 6, 2, 2, import_reshape),
    ROW("Flatten", 6, 1, 1, import_flatten),
    ROW("Squeeze", 6, 1, 2, import_squeeze),
    ROW("Unsqueeze", 6, 1, 2, import_unsqueeze),
    ROW("Transpose", 6, 1, 1, import_transpose),
    ROW("Expand", 8, 2, 2, import_expand),
    ROW("Tile", 6, 2, 2, import_tile),
    ROW("Identity", 6, 1, 1, import_identity),
    ROW("Cast", 6, 1, 1, import_cast),
    ROW("CastLike", 15, 2, 2, import_cast_like),
    ROW("BitCast", 26, 1, 1, import_bit_cast),
    ROW("DepthToSpace", 6, 1, 1, import_depth_to_space),
    ROW("SpaceToDepth", 6, 1, 1, import_space_to_depth),
    {0},
};
