/* Operators that pick elements by index. Everything is `take`: several indices become one index
 * into the flattened dims. In a scatter with known indices each element of the result has one known
 * source; the others are in onnx_scatter.c. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

static kiln_value import_gather(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    kiln_value index = kiln_onnx_indices(call, kiln_onnx_operand(call, 1), type->dims[axis]);
    return kiln_onnx_take(call, call->inputs[0], index, axis);
}

static kiln_value flatten(kiln_onnx_call *call, kiln_value a)
{
    return kiln_add_reshape(call->graph, a, 1, &kiln_graph_type(call->graph, a)->n_elements);
}

/* Elements of dims after `axis`. */
static int64_t stride_of(const kiln_type *type, uint32_t axis)
{
    int64_t stride = 1;
    for (uint32_t i = axis + 1; i < type->rank; i++) stride *= type->dims[i];
    return stride;
}

/* Operand 1 holds an index along `axis` for each of its places; all as one flat index. */
static kiln_value elements_flatten(kiln_onnx_call *call, uint32_t axis)
{
    const kiln_type *type = kiln_onnx_type(call, 0), *picked = kiln_onnx_type(call, 1);
    if (picked->rank != type->rank)
        kiln_onnx_fail(call, "indices have rank %u; expected %u", picked->rank, type->rank);
    kiln_value index = kiln_onnx_indices(call, call->inputs[1], type->dims[axis]);
    kiln_value place = kiln_onnx_with(call, KILN_OP_mul, index, (double)stride_of(type, axis));
    for (uint32_t i = 0; i < type->rank; i++) {
        if (i != axis && picked->dims[i] > type->dims[i])
            kiln_onnx_fail(call, "indices' dim %u is %" PRId64 "; expected at most %" PRId64, i,
                           picked->dims[i], type->dims[i]);
        if (i == axis || picked->dims[i] == 1) continue;
        kiln_value along = kiln_onnx_iota(call, KILN_i64, picked->rank, picked->dims, i);
        along = kiln_onnx_with(call, KILN_OP_mul, along, (double)stride_of(type, i));
        place = kiln_add_binary(call->graph, KILN_OP_add, place, along);
    }
    return place;
}

static kiln_value import_gather_elements(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    kiln_value place = elements_flatten(call, axis);
    return kiln_onnx_take(call, flatten(call, call->inputs[0]), place, 0);
}

/* The dims that indices[..., k] address, as one flat index of dims[...]. */
static kiln_value tuples_flatten(kiln_onnx_call *call, kiln_value indices, const kiln_type *type,
                                 uint32_t batch)
{
    const kiln_type *given = kiln_graph_type(call->graph, indices);
    uint32_t rank = given->rank - 1, width = (uint32_t)given->dims[rank];
    kiln_value place = {0};
    for (uint32_t i = 0; i < batch + width; i++) {
        kiln_value part;
        int64_t stride = 1;
        for (uint32_t k = i + 1; k < batch + width; k++) stride *= type->dims[k];
        if (i < batch) {
            part = kiln_onnx_iota(call, KILN_i64, rank, given->dims, i);
        } else {
            part = kiln_onnx_slice(call, indices, rank, i - batch, i - batch + 1);
            part = kiln_add_reshape(call->graph, part, rank, given->dims);
            part = kiln_onnx_indices(call, part, type->dims[i]);
        }
        part = kiln_onnx_with(call, KILN_OP_mul, part, (double)stride);
        place = place.id ? kiln_add_binary(call->graph, KILN_OP_add, place, part) : part;
    }
    return place;
}

static kiln_value import_gather_nd(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1), *given = kiln_onnx_ranked(call, 1, 1);
    int64_t batch = kiln_onnx_int(call, "batch_dims", 0), width = given->dims[given->rank - 1];
    if (batch < 0 || batch >= (int64_t)given->rank || width < 1 ||
        width > (int64_t)type->rank - batch)
        kiln_onnx_fail(
            call, "%" PRId64 " batch dims and indices of %" PRId64 "; expected at most rank %u",
            batch, width, type->rank);
    for (int64_t i = 0; i < batch; i++) {
        if (given->dims[i] != type->dims[i])
            kiln_onnx_fail(call, "batch dim %" PRId64 " is %" PRId64 "; expected %" PRId64, i,
                           given->dims[i], type->dims[i]);
    }
    kiln_value place = tuples_flatten(call, call->inputs[1], type, (uint32_t)batch);
    uint32_t n_flat = (uint32_t)(batch + width), rank = type->rank - n_flat + 1;
    int64_t dims[KILN_MAX_RANK] = {1};
    for (uint32_t i = 0; i < n_flat; i++) dims[0] *= type->dims[i];
    for (uint32_t i = 1; i < rank; i++) dims[i] = type->dims[n_flat + i - 1];
    return kiln_onnx_take(call, kiln_add_reshape(call->graph, call->inputs[0], rank, dims), place,
                          0);
}

/* on where the index along `axis` is the one given, else off */
static kiln_value import_one_hot(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    const double *depths;
    uint32_t n = kiln_onnx_known_floats(call, 1, &depths), rank = type->rank + 1;
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", -1), rank);
    if (n != 1 || kiln_onnx_type(call, 2)->n_elements != 2 || rank > KILN_MAX_RANK)
        kiln_onnx_fail(call, "depth of %u elements; expected one, and two values", n);
    if (!(depths[0] >= 1) || depths[0] > (double)(1 << 24))
        kiln_onnx_fail(call, "depth is %g; expected 1 to 2^24", depths[0]);
    int64_t dims[KILN_MAX_RANK], axes[KILN_MAX_RANK], depth = (int64_t)depths[0];
    for (uint32_t i = 0; i < rank; i++) {
        dims[i] = i == axis ? depth : type->dims[i - (i > axis)];
        if (i != axis) axes[i - (i > axis)] = i;
    }
    kiln_value index = kiln_add_convert(call->graph, call->inputs[0], KILN_i64);
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, index, 0);
    index = kiln_onnx_select(call, is_low, kiln_onnx_with(call, KILN_OP_add, index, (double)depth),
                             index);
    kiln_value wide = kiln_add_broadcast(call->graph, index, rank, dims, axes);
    kiln_value is_on = kiln_add_binary(call->graph, KILN_OP_eq, wide,
                                       kiln_onnx_iota(call, KILN_i64, rank, dims, axis));
    kiln_value off =
        kiln_add_reshape(call->graph, kiln_onnx_slice(call, call->inputs[2], 0, 0, 1), 0, NULL);
    kiln_value on =
        kiln_add_reshape(call->graph, kiln_onnx_slice(call, call->inputs[2], 0, 1, 2), 0, NULL);
    return kiln_onnx_select(call, is_on, on, off);
}

/* Scatters with known indices: sources[i] is the element of concat(data, updates) that the result's
 * element i is; the last update of an element wins. */
static kiln_value scatter_known(kiln_onnx_call *call, const int64_t *sources)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    kiln_value parts[] = {flatten(call, call->inputs[0]), flatten(call, call->inputs[2])};
    int64_t dims[1] = {type->n_elements};
    kiln_value places =
        kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, KILN_i64, 1, dims), sources);
    kiln_value flat = kiln_onnx_take(call, kiln_onnx_concat(call, 2, parts, 0), places, 0);
    return kiln_add_reshape(call->graph, flat, type->rank, type->dims);
}

/* NULL when the indices depend on the data, or when updates are combined. */
static const void *scatter_indices(kiln_onnx_call *call, int64_t **out_sources)
{
    const kiln_type *type = kiln_onnx_type(call, 0);
    const void *indices = kiln_onnx_known(call, kiln_onnx_operand(call, 1));
    if (kiln_onnx_type(call, 2)->dtype != type->dtype)
        kiln_onnx_fail(call, "updates of another dtype; expected %s", kiln_dtype_name(type->dtype));
    if (!indices || type->n_elements > 1 << 24 ||
        strcmp(kiln_onnx_string(call, "reduction", "none"), "none"))
        return NULL;
    *out_sources = kiln_new_array(&call->scope->arena, int64_t, type->n_elements + 1);
    for (int64_t i = 0; i < type->n_elements; i++) (*out_sources)[i] = i;
    return indices;
}

static int64_t index_plain(kiln_onnx_call *call, const void *indices, int64_t i, int64_t dim)
{
    int64_t index = kiln_onnx_int_at(kiln_onnx_type(call, 1)->dtype, indices, i);
    if (index < -dim || index >= dim)
        kiln_onnx_fail(call, "index %" PRId64 " of dim %" PRId64 "; expected one in range", index,
                       dim);
    return index < 0 ? index + dim : index;
}

static kiln_value import_scatter_nd(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1), *given = kiln_onnx_ranked(call, 1, 1);
    int64_t *sources, width = given->dims[given->rank - 1], block = 1;
    const void *indices = scatter_indices(call, &sources);
    if (width < 1 || width > type->rank)
        kiln_onnx_fail(call, "indices of %" PRId64 "; expected 1 to %u", width, type->rank);
    for (uint32_t i = (uint32_t)width; i < type->rank; i++) block *= type->dims[i];
    int64_t n = given->n_elements / width;
    if (kiln_onnx_type(call, 2)->n_elements != n * block)
        kiln_onnx_fail(call, "%" PRId64 " updates; expected %" PRId64,
                       kiln_onnx_type(call, 2)->n_elements, n * block);
    if (!indices) {
        int64_t rows = 1;
        for (int64_t i = 0; i < width; i++) rows *= type->dims[i];
        return kiln_onnx_scatter(call, tuples_flatten(call, call->inputs[1], type, 0), rows, block);
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t place = 0;
        for (int64_t k = 0; k < width; k++)
            place =
                place * type->dims[k] + index_plain(call, indices, i * width + k, type->dims[k]);
        for (int64_t k = 0; k < block; k++)
            sources[place * block + k] = type->n_elements + i * block + k;
    }
    return scatter_known(call, sources);
}

static kiln_value import_scatter_elements(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1), *given = kiln_onnx_type(call, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_int(call, "axis", 0), type->rank);
    int64_t *sources, at[KILN_MAX_RANK] = {0};
    const void *indices = scatter_indices(call, &sources);
    if (given->rank != type->rank || kiln_onnx_type(call, 2)->n_elements != given->n_elements)
        kiln_onnx_fail(call, "indices of rank %u; expected rank %u and as many updates",
                       given->rank, type->rank);
    for (uint32_t i = 0; i < type->rank; i++) {
        if (given->dims[i] > type->dims[i] && i != axis)
            kiln_onnx_fail(call, "indices' dim %u is %" PRId64 "; expected at most %" PRId64, i,
                           given->dims[i], type->dims[i]);
    }
    if (!indices) return kiln_onnx_scatter(call, elements_flatten(call, axis), type->n_elements, 1);
    for (int64_t i = 0; i < given->n_elements; i++) {
        int64_t place = 0, rest = i;
        for (uint32_t k = given->rank; k-- > 0; rest /= given->dims[k])
            at[k] = rest % given->dims[k];
        at[axis] = index_plain(call, indices, i, type->dims[axis]);
        for (uint32_t k = 0; k < type->rank; k++) place = place * type->dims[k] + at[k];
        sources[place] = type->n_elements + i;
    }
    return scatter_known(call, sources);
}

static kiln_value import_cumulative(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    uint32_t axis = kiln_onnx_axis(call, kiln_onnx_known_int(call, 1), type->rank);
    bool is_exclusive = kiln_onnx_flag(call, "exclusive", false);
    bool is_back = kiln_onnx_flag(call, "reverse", false);
    kiln_attrs attrs = {KILN_FAMILY_cumulative, .cumulative = {axis, is_exclusive, is_back}};
    return kiln_graph_add(call->graph, &(kiln_node_spec){.op = call->row->kiln,
                                                         .inputs = call->inputs,
                                                         .n_inputs = 1,
                                                         .attrs = &attrs});
}

/* Lengths are within the time axis: at import where they are known, else in every run. */
static void check_lengths(kiln_onnx_call *call, kiln_value lengths, int64_t dim)
{
    const kiln_type *type = kiln_graph_type(call->graph, lengths);
    const void *known = kiln_onnx_known(call, lengths);
    for (int64_t i = 0; known && i < type->n_elements; i++) {
        int64_t length = kiln_onnx_int_at(type->dtype, known, i);
        if (length < 0 || length > dim)
            kiln_onnx_fail(call,
                           "length %" PRId64 " of sequence %" PRId64 "; expected 0 to %" PRId64,
                           length, i, dim);
    }
    if (known) return;
    kiln_value wide = kiln_add_convert(call->graph, lengths, KILN_i64);
    kiln_value is_low = kiln_onnx_with(call, KILN_OP_lt, wide, 0);
    kiln_value is_high = kiln_onnx_with(call, KILN_OP_gt, wide, (double)dim);
    kiln_onnx_check(call, kiln_add_binary(call->graph, KILN_OP_or, is_low, is_high),
                    "lengths out of range");
}

/* Along the time axis of sequence b, place t becomes lengths[b] - 1 - t where t < lengths[b]. */
static kiln_value import_reverse_sequence(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2), *given = kiln_onnx_type(call, 1);
    int64_t batch = kiln_onnx_int(call, "batch_axis", 1),
            time = kiln_onnx_int(call, "time_axis", 0);
    if (batch + time != 1 || batch * time != 0 || given->rank != 1 ||
        given->dims[0] != type->dims[batch])
        kiln_onnx_fail(call,
                       "batch_axis %" PRId64 ", time_axis %" PRId64
                       "; expected 0 and 1 and a length each",
                       batch, time);
    check_lengths(call, call->inputs[1], type->dims[time]);
    int64_t rest = stride_of(type, 1), flat[2] = {type->dims[0] * type->dims[1], rest};
    kiln_value lengths = kiln_add_convert(call->graph, call->inputs[1], KILN_i64);
    lengths = kiln_add_broadcast(call->graph, lengths, 2, type->dims, &batch);
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 2, type->dims, (uint32_t)time);
    kiln_value turned = kiln_onnx_with(call, KILN_OP_sub,
                                       kiln_add_binary(call->graph, KILN_OP_sub, lengths, at), 1);
    kiln_value is_in = kiln_add_binary(call->graph, KILN_OP_lt, at, lengths);
    kiln_value source = kiln_onnx_select(call, is_in, turned, at);
    kiln_value other = kiln_onnx_iota(call, KILN_i64, 2, type->dims, (uint32_t)batch);
    kiln_value rows = time == 0 ? source : other, columns = time == 0 ? other : source;
    rows = kiln_onnx_with(call, KILN_OP_mul, rows, (double)type->dims[1]);
    kiln_value place = kiln_add_binary(call->graph, KILN_OP_add, rows, columns);
    kiln_value picked =
        kiln_onnx_take(call, kiln_add_reshape(call->graph, call->inputs[0], 2, flat), place, 0);
    return kiln_add_reshape(call->graph, picked, type->rank, type->dims);
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_index_rows[] = {
    ROW("Gather", 6, 2, 2, import_gather),
    ROW("GatherElements", 11, 2, 2, import_gather_elements),
    ROW("GatherND", 11, 2, 2, import_gather_nd),
    ROW("OneHot", 9, 3, 3, import_one_hot),
    ROW("ScatterND", 11, 3, 3, import_scatter_nd),
    ROW("ScatterElements", 11, 3, 3, import_scatter_elements),
    {"Scatter", 9, 10, 3, 3, import_scatter_elements},
    {"CumSum", 11, KILN_ONNX_NEWEST, 2, 2, import_cumulative, KILN_OP_cumulative_sum},
    {"CumProd", 26, KILN_ONNX_NEWEST, 2, 2, import_cumulative, KILN_OP_cumulative_prod},
    ROW("ReverseSequence", 10, 2, 2, import_reverse_sequence),
    {0},
};
