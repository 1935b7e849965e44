/* Operators of com.microsoft that decoders are made of: rotary embedding by position and
 * GroupQueryAttention, whose keys and values are written behind those of the past, row by row where
 * each sequence has a length of its own. */
#include <inttypes.h>
#include <math.h>

#include "graph/io/onnx_op.h"

typedef struct decoder {
    kiln_onnx_call *call;
    int64_t batch, rows, past, columns; /* new positions, room in the past, room after it */
    int64_t heads, groups, width;
    kiln_value start; /* i64[batch]: the position of the first new row */
    kiln_value total; /* i64[batch]: positions after it */
} decoder;

static kiln_value as_wide(kiln_onnx_call *call, kiln_value a)
{
    return kiln_add_convert(call->graph, a, KILN_i64);
}

/* [batch, rows]: the position of each row, from a first one or one for all. */
static kiln_value positions_from(kiln_onnx_call *call, kiln_value first, int64_t batch,
                                 int64_t rows)
{
    int64_t dims[2] = {batch, rows}, zero = 0, n = kiln_graph_type(call->graph, first)->n_elements;
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 2, dims, 1);
    if (n == 1)
        first = kiln_add_broadcast(call->graph, kiln_add_reshape(call->graph, first, 0, NULL), 2,
                                   dims, NULL);
    else
        first = kiln_add_broadcast(call->graph, first, 2, dims, &zero);
    return kiln_add_binary(call->graph, KILN_OP_add, at, first);
}

/* Rows of a cache [positions, pairs] at those of a [batch, rows, heads, width]. */
static kiln_value cache_rows(kiln_onnx_call *call, uint32_t i, kiln_value positions,
                             const kiln_type *like, int64_t pairs)
{
    static const int64_t axes[3] = {0, 1, 3};
    const kiln_type *type = kiln_onnx_type(call, i);
    int64_t dims[4] = {like->dims[0], like->dims[1], like->dims[2], pairs};
    if (type->rank != 2 || type->dims[1] < pairs || type->dims[0] < 1)
        kiln_onnx_fail(call, "operand %u has rank %u; expected rows of %" PRId64, i, type->rank,
                       pairs);
    kiln_value cache = kiln_onnx_slice(call, call->inputs[i], 1, 0, pairs);
    cache = kiln_onnx_take(call, cache, positions, 0);
    return kiln_add_broadcast(call->graph, cache, 4, dims, axes);
}

typedef struct rotation {
    uint32_t cosine, sine; /* operands */
    int64_t width;         /* 0: all */
    bool is_interleaved;
} rotation;

/* Pairs of a [batch, rows, heads, width] turned by an angle: (cos x1 - sin x2, sin x1 + cos x2). */
static kiln_value rotate(kiln_onnx_call *call, kiln_value a, kiln_value positions,
                         const rotation *r)
{
    kiln_graph *graph = call->graph;
    const kiln_type *type = kiln_graph_type(graph, a);
    int64_t full = type->dims[3], width = r->width ? r->width : full, pairs = width / 2;
    if (width < 2 || width % 2 || width > full)
        kiln_onnx_fail(call, "a rotary width of %" PRId64 "; expected an even one up to %" PRId64,
                       width, full);
    int64_t split[5] = {type->dims[0], type->dims[1], type->dims[2], 2, pairs},
            half[4] = {split[0], split[1], split[2], pairs},
            whole[4] = {split[0], split[1], split[2], width};
    uint32_t axis = r->is_interleaved ? 4 : 3;
    if (r->is_interleaved) split[3] = pairs, split[4] = 2;
    kiln_value wide = kiln_add_reshape(graph, kiln_onnx_slice(call, a, 3, 0, width), 5, split),
               x[2], y[2];
    kiln_value cosine = cache_rows(call, r->cosine, positions, type, pairs);
    kiln_value sine = cache_rows(call, r->sine, positions, type, pairs);
    for (uint32_t i = 0; i < 2; i++)
        x[i] = kiln_add_reshape(graph, kiln_onnx_slice(call, wide, axis, i, i + 1), 4, half);
    split[axis] = 1;
    for (uint32_t i = 0; i < 2; i++) {
        kiln_value own = kiln_add_binary(graph, KILN_OP_mul, x[i], cosine);
        kiln_value other = kiln_add_binary(graph, KILN_OP_mul, x[1 - i], sine);
        y[i] = kiln_add_binary(graph, i ? KILN_OP_add : KILN_OP_sub, own, other);
        y[i] = kiln_add_reshape(graph, y[i], 5, split);
    }
    kiln_value turned = kiln_add_reshape(graph, kiln_onnx_concat(call, 2, y, axis), 4, whole);
    kiln_value parts[2] = {turned,
                           width < full ? kiln_onnx_slice(call, a, 3, width, full) : turned};
    return width < full ? kiln_onnx_concat(call, 2, parts, 3) : turned;
}

static kiln_value swap_middle(kiln_onnx_call *call, kiln_value a)
{
    static const int64_t order[4] = {0, 2, 1, 3};
    return kiln_add_transpose(call->graph, a, order);
}

kiln_value kiln_onnx_import_rotary(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3), *given = kiln_onnx_type(call, 1);
    int64_t heads = kiln_onnx_int(call, "num_heads", 0);
    rotation r = {2, 3, kiln_onnx_int(call, "rotary_embedding_dim", 0),
                  kiln_onnx_flag(call, "interleaved", false)};
    if (kiln_onnx_flag(call, "is_packed_batching", false) || kiln_onnx_float(call, "scale", 1) != 1)
        kiln_onnx_refuse(call, "packed batches or a scale");
    kiln_value a = call->inputs[0], at = as_wide(call, call->inputs[1]);
    if (type->rank == 3 && r.width == 0 && heads == 0 && kiln_onnx_ranked(call, 2, 2)->dims[1])
        heads = type->dims[2] / (2 * kiln_onnx_type(call, 2)->dims[1]);
    if (type->rank == 3) {
        if (heads < 1 || type->dims[2] % heads)
            kiln_onnx_fail(call, "attr 'num_heads' is %" PRId64 "; expected a divisor of %" PRId64,
                           heads, type->dims[2]);
        int64_t dims[4] = {type->dims[0], type->dims[1], heads, type->dims[2] / heads};
        a = kiln_add_reshape(call->graph, a, 4, dims);
    } else {
        a = swap_middle(call, a);
    }
    const kiln_type *split = kiln_graph_type(call->graph, a);
    if (given->rank != 2) at = positions_from(call, at, split->dims[0], split->dims[1]);
    a = rotate(call, a, at, &r);
    if (type->rank != 3) return swap_middle(call, a);
    return kiln_add_reshape(call->graph, a, 3, type->dims);
}

/* GroupQueryAttention */

/* Queries, keys and values as [batch, rows, heads, width], from three operands or one. */
static void parts_read(decoder *d, kiln_value *qkv)
{
    kiln_onnx_call *call = d->call;
    const kiln_type *type = kiln_onnx_ranked(call, 0, 3);
    bool is_packed = !kiln_onnx_has(call, 1);
    int64_t n = is_packed ? d->heads + 2 * d->groups : d->heads, from = 0;
    if (type->rank != 3 || d->heads < 1 || d->groups < 1 || d->heads % d->groups ||
        type->dims[2] % n || n > type->dims[2])
        kiln_onnx_fail(call,
                       "%" PRId64 " heads in %" PRId64 " groups; expected divisors of the width",
                       d->heads, d->groups);
    d->batch = type->dims[0], d->rows = type->dims[1], d->width = type->dims[2] / n;
    for (uint32_t i = 0; i < 3; i++) {
        int64_t own = i ? d->groups : d->heads, dims[4] = {d->batch, d->rows, own, d->width};
        kiln_value a = is_packed ? kiln_onnx_slice(call, call->inputs[0], 2, from * d->width,
                                                   (from + own) * d->width)
                                 : kiln_onnx_operand(call, i);
        from += own;
        if (kiln_graph_type(call->graph, a)->n_elements != d->batch * d->rows * own * d->width)
            kiln_onnx_fail(call, "operand %u does not fit the queries; expected %" PRId64 " heads",
                           i, own);
        qkv[i] = kiln_add_reshape(call->graph, a, 4, dims);
    }
}

/* Operand 5 are the lengths after the new rows less one, operand 6 the longest of them. */
static void lengths_read(decoder *d)
{
    kiln_onnx_call *call = d->call;
    const kiln_type *past = kiln_onnx_has(call, 3) ? kiln_onnx_ranked(call, 3, 4) : NULL;
    const void *longest = kiln_onnx_known(call, kiln_onnx_operand(call, 6));
    d->past = past ? past->dims[2] : 0;
    d->columns = d->past + d->rows;
    if (longest) {
        int64_t given = kiln_onnx_int_at(kiln_onnx_type(call, 6)->dtype, longest, 0);
        d->columns = given > d->past ? given : d->past;
        if (given > d->past + d->rows || given < 1)
            kiln_onnx_fail(call, "operand 6 is %" PRId64 "; expected at most %" PRId64, given,
                           d->past + d->rows);
    }
    if (kiln_onnx_type(call, 5)->n_elements != d->batch ||
        (past && (past->rank != 4 || past->dims[0] != d->batch || past->dims[1] != d->groups ||
                  past->dims[3] != d->width)))
        kiln_onnx_fail(
            call, "the past or the lengths do not fit; expected those of %" PRId64 " sequences",
            d->batch);
    kiln_value total = kiln_onnx_with(call, KILN_OP_add, as_wide(call, call->inputs[5]), 1);
    d->total = kiln_add_reshape(call->graph, total, 1, &d->batch);
    d->start = kiln_onnx_with(call, KILN_OP_sub, d->total, (double)d->rows);
    d->start = kiln_onnx_with(call, KILN_OP_max, d->start, 0);
    if (d->past == 0) d->start = kiln_add_splat_like(call->graph, d->start, 0);
}

/* [batch, columns, groups, width]: the past, and from `start` on the new rows. */
static kiln_value present(const decoder *d, uint32_t past, kiln_value a)
{
    kiln_onnx_call *call = d->call;
    kiln_graph *graph = call->graph;
    static const int64_t own[2] = {0, 1}, first = 0;
    int64_t each = d->groups * d->width, flat[2] = {d->batch * d->rows, each};
    int64_t grid[2] = {d->batch, d->columns}, dims[4] = {grid[0], grid[1], d->groups, d->width};
    kiln_value start = kiln_add_broadcast(graph, d->start, 2, grid, &first);
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 2, grid, 1);
    kiln_value row = kiln_add_binary(graph, KILN_OP_sub, at, start);
    kiln_value is_new = kiln_onnx_with(call, KILN_OP_ge, row, 0);
    kiln_value is_below = kiln_onnx_with(call, KILN_OP_lt, row, (double)d->rows);
    is_new = kiln_add_binary(graph, KILN_OP_and, is_new, is_below);
    row = kiln_onnx_with(call, KILN_OP_max, row, 0);
    row = kiln_onnx_with(call, KILN_OP_min, row, (double)(d->rows - 1));
    kiln_value sequence = kiln_onnx_iota(call, KILN_i64, 2, grid, 0);
    row = kiln_add_binary(graph, KILN_OP_add, row,
                          kiln_onnx_with(call, KILN_OP_mul, sequence, (double)d->rows));
    kiln_value made = kiln_onnx_take(call, kiln_add_reshape(graph, a, 2, flat), row, 0), old;
    made = kiln_add_reshape(graph, made, 4, dims);
    old = kiln_add_splat_like(graph, made, 0);
    if (d->past) {
        old = swap_middle(call, call->inputs[past]);
        old = kiln_onnx_pad_high(call, old, 1, d->columns - d->past, 0);
    }
    kiln_value choice[3] = {kiln_add_broadcast(graph, is_new, 4, dims, own), made, old};
    return kiln_graph_add(graph,
                          &(kiln_node_spec){.op = KILN_OP_select, .inputs = choice, .n_inputs = 3});
}

/* bool[batch, 1, rows, columns]: which positions a row sees. */
static kiln_value sight(const decoder *d, int64_t window)
{
    kiln_onnx_call *call = d->call;
    kiln_graph *graph = call->graph;
    static const int64_t first = 0, rows_too[2] = {0, 2};
    int64_t dims[4] = {d->batch, 1, d->rows, d->columns};
    kiln_value at = kiln_onnx_iota(call, KILN_i64, 4, dims, 3);
    kiln_value own = kiln_add_broadcast(graph, positions_from(call, d->start, d->batch, d->rows), 4,
                                        dims, rows_too);
    kiln_value total = kiln_add_broadcast(graph, d->total, 4, dims, &first);
    kiln_value is_seen =
        kiln_add_binary(graph, KILN_OP_and, kiln_add_binary(graph, KILN_OP_le, at, own),
                        kiln_add_binary(graph, KILN_OP_lt, at, total));
    if (window <= 0) return is_seen;
    own = kiln_onnx_with(call, KILN_OP_sub, own, (double)window);
    return kiln_add_binary(graph, KILN_OP_and, is_seen,
                           kiln_add_binary(graph, KILN_OP_gt, at, own));
}

/* What is not served yet. */
static void options_check(kiln_onnx_call *call)
{
    if (kiln_onnx_float(call, "softcap", 0) != 0 || kiln_onnx_int(call, "smooth_softmax", 0) > 0 ||
        kiln_onnx_int(call, "qk_output", 0) || kiln_onnx_has(call, 11))
        kiln_onnx_refuse(call, "a soft cap, a smooth softmax, a sink or scores as an output");
    static const char *const kinds[] = {"k_quant_type", "v_quant_type"};
    for (uint32_t i = 0; i < 2; i++) {
        const char *kind = kiln_onnx_string(call, kinds[i], "NONE");
        if (kind[0] != 'N') kiln_onnx_refuse(call, "attr '%s'", kinds[i]);
    }
    kiln_onnx_ignore(call, "kv_cache_bit_width");
}

kiln_value kiln_onnx_import_group_query(kiln_onnx_call *call)
{
    kiln_graph *graph = call->graph;
    decoder d = {.call = call, .heads = kiln_onnx_int(call, "num_heads", 0)};
    d.groups = kiln_onnx_int(call, "kv_num_heads", 0);
    double scale = kiln_onnx_float(call, "scale", 0);
    int64_t window = kiln_onnx_int(call, "local_window_size", -1);
    bool is_rotary = kiln_onnx_flag(call, "do_rotary", false);
    rotation r = {7, 8, 0, kiln_onnx_flag(call, "rotary_interleaved", false)};
    kiln_value qkv[3];
    options_check(call);
    parts_read(&d, qkv);
    lengths_read(&d);
    if (is_rotary) {
        r.width = 2 * kiln_onnx_ranked(call, 7, 2)->dims[1];
        kiln_value at = kiln_onnx_has(call, 9) ? as_wide(call, call->inputs[9])
                                               : positions_from(call, d.start, d.batch, d.rows);
        for (uint32_t i = 0; i < 2; i++) qkv[i] = rotate(call, qkv[i], at, &r);
    }
    for (uint32_t i = 1; i < 3; i++) {
        qkv[i] = swap_middle(call, present(&d, i + 2, qkv[i]));
        kiln_onnx_result(call, i, qkv[i]);
    }
    kiln_value mask = sight(&d, window);
    if (kiln_onnx_has(call, 10)) {
        kiln_dtype dtype = kiln_onnx_type(call, 10)->dtype;
        mask = kiln_onnx_select(call, mask, call->inputs[10],
                                kiln_onnx_scalar(call, dtype, -INFINITY));
    }
    kiln_value operands[4] = {swap_middle(call, qkv[0]), qkv[1], qkv[2], mask};
    kiln_attrs attrs = {KILN_FAMILY_attention,
                        .attention = {scale == 0 ? 1 / sqrt((double)d.width) : scale, false}};
    kiln_value y = kiln_graph_add(
        graph, &(kiln_node_spec){
                   .op = KILN_OP_attention, .inputs = operands, .n_inputs = 4, .attrs = &attrs});
    int64_t dims[3] = {d.batch, d.rows, d.heads * d.width};
    return kiln_add_reshape(graph, swap_middle(call, y), 3, dims);
}
