/* Spectra: DFT, STFT and the mel filter bank, over the composite fft, and TfIdfVectorizer, which
 * counts n-grams of a sequence. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "graph/io/onnx_op.h"

#define MAX_LENGTH ((int64_t)1 << 24)

/* Real values [..., 1] as pairs [..., 2]. */
static kiln_value pairs_of(kiln_onnx_call *call, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t width = type->dims[type->rank - 1];
    if (width == 2) return a;
    if (width != 1) kiln_onnx_fail(call, "the last dim is %" PRId64 "; expected 1 or 2", width);
    return kiln_onnx_pad_high(call, a, type->rank - 1, 1, 0);
}

static kiln_value fit_length(kiln_onnx_call *call, kiln_value a, uint32_t axis, int64_t length)
{
    int64_t n = kiln_graph_type(call->graph, a)->dims[axis];
    if (n > length) return kiln_onnx_slice(call, a, axis, 0, length);
    return n < length ? kiln_onnx_pad_high(call, a, axis, length - n, 0) : a;
}

static kiln_value transform(kiln_onnx_call *call, kiln_value a, int64_t axis, bool is_inverse)
{
    kiln_attrs attrs = {KILN_FAMILY_fft, .fft = {{1, &axis}, is_inverse}};
    return kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_fft, .inputs = &a, .n_inputs = 1, .attrs = &attrs});
}

/* The spectrum of real values out of its first half: the rest is conjugate, from the end. */
static kiln_value mirrored(kiln_onnx_call *call, kiln_value half, uint32_t axis, int64_t length)
{
    const kiln_type *type = kiln_graph_type(call->graph, half);
    int64_t along = axis, signs[2] = {1, -1}, n_rest = (length - 1) / 2;
    if (n_rest == 0) return half;
    kiln_attrs axes = {KILN_FAMILY_axes, .axes = {{1, &along}}};
    kiln_value rest = kiln_onnx_slice(call, half, axis, 1, 1 + n_rest);
    rest = kiln_graph_add(
        call->graph,
        &(kiln_node_spec){.op = KILN_OP_reverse, .inputs = &rest, .n_inputs = 1, .attrs = &axes});
    kiln_value sign = kiln_onnx_constant_ints(call, type->dtype, (kiln_ints){2, signs});
    kiln_value parts[] = {half, kiln_onnx_binary(call, KILN_OP_mul, rest, sign)};
    return kiln_onnx_concat(call, 2, parts, axis);
}

static void length_check(kiln_onnx_call *call, int64_t length)
{
    if (length < 1 || length > MAX_LENGTH)
        kiln_onnx_fail(call, "a transform of length %" PRId64 "; expected 1 to %" PRId64, length,
                       MAX_LENGTH);
}

static kiln_value import_dft(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    bool is_new = call->opset >= 20, is_inverse = kiln_onnx_flag(call, "inverse", false);
    bool is_half = kiln_onnx_flag(call, "onesided", false);
    int64_t given = is_new ? -2 : kiln_onnx_int(call, "axis", 1);
    if (is_new && kiln_onnx_has(call, 2)) given = kiln_onnx_known_int(call, 2);
    uint32_t axis = kiln_onnx_axis(call, given, type->rank), last = type->rank - 1;
    if (axis == last) kiln_onnx_fail(call, "axis is the last; expected one before it");
    int64_t length = type->dims[axis];
    if (is_inverse && is_half) length = 2 * (length - 1);
    if (kiln_onnx_has(call, 1)) length = kiln_onnx_known_int(call, 1);
    length_check(call, length);
    kiln_value a = pairs_of(call, call->inputs[0]);
    if (is_inverse && is_half) {
        a = mirrored(call, fit_length(call, a, axis, length / 2 + 1), axis, length);
        return kiln_onnx_slice(call, transform(call, a, axis, true), last, 0, 1);
    }
    a = transform(call, fit_length(call, a, axis, length), axis, is_inverse);
    return is_half ? kiln_onnx_slice(call, a, axis, 0, length / 2 + 1) : a;
}

static kiln_value import_stft(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 2);
    int64_t n = type->dims[1], step = kiln_onnx_known_int(call, 1), length = n;
    bool is_half = kiln_onnx_flag(call, "onesided", true);
    if (kiln_onnx_has(call, 2)) length = kiln_onnx_type(call, 2)->n_elements;
    if (kiln_onnx_has(call, 3)) length = kiln_onnx_known_int(call, 3);
    length_check(call, length);
    if (step < 1 || length > n || type->rank > 3)
        kiln_onnx_fail(call, "frames of %" PRId64 " by %" PRId64 "; expected at most %" PRId64,
                       length, step, n);
    int64_t wide[3] = {type->dims[0], n, 1}, grid[2] = {1 + (n - length) / step, length};
    kiln_value a = call->inputs[0];
    if (type->rank == 2) a = kiln_add_reshape(call->graph, a, 3, wide);
    kiln_value at =
        kiln_onnx_with(call, KILN_OP_mul, kiln_onnx_iota(call, KILN_i64, 2, grid, 0), (double)step);
    at = kiln_add_binary(call->graph, KILN_OP_add, at, kiln_onnx_iota(call, KILN_i64, 2, grid, 1));
    a = kiln_onnx_take(call, a, at, 1); /* [batch, frames, length, 1 or 2] */
    if (kiln_onnx_has(call, 2)) {
        kiln_value window = kiln_add_convert(call->graph, call->inputs[2], type->dtype);
        a = kiln_onnx_binary(call, KILN_OP_mul, a, kiln_onnx_along(call, window, 2, 4));
    }
    a = transform(call, pairs_of(call, a), 2, false);
    return is_half ? kiln_onnx_slice(call, a, 2, 0, length / 2 + 1) : a;
}

static double scalar_known(kiln_onnx_call *call, uint32_t i)
{
    const double *values;
    if (kiln_onnx_known_floats(call, i, &values) != 1)
        kiln_onnx_fail(call, "operand %u is no scalar; expected one", i);
    return values[0];
}

/* Edge `i` of `n` mel bands as a bin of the spectrum. */
static int64_t mel_edge(kiln_onnx_call *call, int64_t i, int64_t n, int64_t length)
{
    double low = 2595 * log1p(scalar_known(call, 3) / 700) / log(10);
    double high = 2595 * log1p(scalar_known(call, 4) / 700) / log(10);
    double mel = (double)i * (high - low) / (double)(n + 2) + low;
    double hertz = 700 * expm1(mel / 2595 * log(10));
    double bin = floor((double)(length + 1) * hertz / scalar_known(call, 2));
    if (!(bin >= 0 && bin < (double)MAX_LENGTH))
        kiln_onnx_fail(call, "a band begins at bin %g; expected one of the spectrum", bin);
    return (int64_t)bin;
}

/* Triangles over the bins, rising to the middle edge and falling to the upper one. */
static kiln_value import_mel(kiln_onnx_call *call)
{
    int64_t n = kiln_onnx_known_int(call, 0), length = kiln_onnx_known_int(call, 1);
    kiln_dtype dtype = kiln_onnx_dtype(call->onnx, kiln_onnx_int(call, "output_datatype", 1),
                                       "attr 'output_datatype'");
    int64_t dims[2] = {length / 2 + 1, n};
    if (n < 1 || n > 65536 || length < 1 || length > 1 << 20)
        kiln_onnx_fail(call, "%" PRId64 " bands of length %" PRId64 "; expected 1 or more", n,
                       length);
    const kiln_type *type = kiln_graph_tensor(call->graph, KILN_f64, 2, dims);
    double *values = kiln_new_array(&call->scope->arena, double, type->n_elements);
    for (int64_t i = 0; i < n; i++) {
        int64_t low = mel_edge(call, i, n, length), middle = mel_edge(call, i + 1, n, length);
        int64_t high = mel_edge(call, i + 2, n, length);
        for (int64_t j = 0; j < dims[0]; j++) {
            double *at = &values[j * n + i];
            if (middle == low && j == middle) *at = 1;
            if (middle > low && j >= low && j <= middle)
                *at = (double)(j - low) / (double)(middle - low);
            if (j >= middle && j < high) *at = (double)(high - j) / (double)(high - middle);
        }
    }
    return kiln_add_convert(call->graph, kiln_add_constant(call->graph, type, values), dtype);
}

typedef struct gram_plan {
    int64_t least, most, skips, n_columns;
    kiln_ints starts, pool, columns; /* starts[m - 1]: where the grams of m entries begin */
    kiln_vec(kiln_value) counts;     /* [rows, grams of one length] each, then a column of 0 */
    int64_t n_counted;
    int64_t *source; /* by column: place among the counted grams, or -1 */
} gram_plan;

static void gram_read(kiln_onnx_call *call, gram_plan *plan)
{
    plan->least = kiln_onnx_int(call, "min_gram_length", 1);
    plan->most = kiln_onnx_int(call, "max_gram_length", 1);
    plan->skips = kiln_onnx_int(call, "max_skip_count", 0);
    bool has_all = kiln_onnx_ints(call, "ngram_counts", &plan->starts) &&
                   kiln_onnx_ints(call, "ngram_indexes", &plan->columns);
    if (!kiln_onnx_ints(call, "pool_int64s", &plan->pool))
        kiln_onnx_refuse(call, "a pool of strings; expected integers");
    bool fits = has_all && plan->least >= 1 && plan->most >= plan->least && plan->most <= 64 &&
                plan->skips >= 0 && plan->skips <= 4096 && plan->starts.n <= 64;
    for (uint32_t i = 0; fits && i < plan->columns.n; i++) {
        fits = plan->columns.at[i] >= 0 && plan->columns.at[i] < 1 << 24;
        plan->n_columns = kiln_max_i64(plan->n_columns, fits ? plan->columns.at[i] + 1 : 0);
    }
    for (uint32_t i = 0; fits && i < plan->starts.n; i++)
        fits = plan->starts.at[i] >= (i ? plan->starts.at[i - 1] : 0) &&
               plan->starts.at[i] <= plan->pool.n;
    if (!fits) kiln_onnx_fail(call, "the grams' lengths, counts and indexes do not fit");
    plan->source = kiln_new_array(&call->scope->arena, int64_t, plan->n_columns + 1);
    for (int64_t i = 0; i < plan->n_columns; i++) plan->source[i] = -1;
}

/* Entry `at` of each of n grams of `length` from `first` on, as [1, 1, n]. */
static kiln_value gram_entries(kiln_onnx_call *call, const gram_plan *plan, int64_t first,
                               const int64_t *shape)
{
    int64_t n = shape[0], length = shape[1], at = shape[2], dims[3] = {1, 1, n};
    int64_t *entries = kiln_onnx_dims(call, (uint32_t)n);
    for (int64_t i = 0; i < n; i++) entries[i] = plan->pool.at[first + i * length + at];
    kiln_value all = kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){(uint32_t)n, entries});
    return kiln_add_reshape(call->graph, all, 3, dims);
}

/* How often each gram of `length` stands in the rows a[rows, width] with such a distance between
 * its entries. */
static kiln_value gram_count(kiln_onnx_call *call, const gram_plan *plan, kiln_value a,
                             const int64_t *gram)
{
    int64_t first = gram[0], n = gram[1], length = gram[2], skip = gram[3], one = 1;
    const kiln_type *type = kiln_graph_type(call->graph, a);
    int64_t places = type->dims[1] - skip * (length - 1), dims[3] = {type->dims[0], places, 1};
    kiln_value is_hit = {0};
    if (places < 1) return is_hit;
    for (int64_t j = 0; j < length; j++) {
        kiln_value entry = kiln_onnx_slice(call, a, 1, j * skip, j * skip + places);
        entry = kiln_add_reshape(call->graph, entry, 3, dims);
        kiln_value wanted = gram_entries(call, plan, first, (int64_t[]){n, length, j});
        kiln_value is_equal = kiln_onnx_binary(call, KILN_OP_eq, entry, wanted);
        is_hit = j ? kiln_add_binary(call->graph, KILN_OP_and, is_hit, is_equal) : is_equal;
    }
    return kiln_add_reduce(call->graph, KILN_OP_reduce_sum,
                           kiln_add_convert(call->graph, is_hit, KILN_f32), 1, &one);
}

/* Adds the counts of all grams of `length`; single entries know no distance. */
static void gram_count_all(kiln_onnx_call *call, gram_plan *plan, kiln_value a, int64_t length)
{
    int64_t first = plan->starts.at[length - 1], number = 0;
    int64_t end = length < plan->starts.n ? plan->starts.at[length] : plan->pool.n;
    int64_t n = (end - first) / length, dims[2] = {kiln_graph_type(call->graph, a)->dims[0], n};
    kiln_value sum = kiln_add_splat(call->graph, KILN_f32, 2, dims, 0);
    for (int64_t i = 1; i < length; i++)
        number += (plan->starts.at[i] - plan->starts.at[i - 1]) / i;
    if (number + n > plan->columns.n)
        kiln_onnx_fail(call, "%" PRId64 " grams; expected an index each", number + n);
    for (int64_t i = 0; i < n; i++)
        plan->source[plan->columns.at[number + i]] = plan->n_counted + i;
    for (int64_t skip = 1; skip <= (length > 1 ? plan->skips + 1 : 1); skip++) {
        kiln_value more = gram_count(call, plan, a, (int64_t[]){first, n, length, skip});
        if (more.id) sum = kiln_add_binary(call->graph, KILN_OP_add, sum, more);
    }
    kiln_vec_push(&plan->counts, &call->scope->arena, sum);
    plan->n_counted += n;
}

static kiln_value gram_weigh(kiln_onnx_call *call, kiln_value counts, int64_t n)
{
    const char *mode = kiln_onnx_string(call, "mode", "TF");
    const float *weights;
    uint32_t n_weights = 0;
    bool has_weights = kiln_onnx_floats(call, "weights", &n_weights, &weights);
    bool is_idf = !strcmp(mode, "IDF"), is_both = !strcmp(mode, "TFIDF");
    if (!is_idf && !is_both && strcmp(mode, "TF"))
        kiln_onnx_fail(call, "attr 'mode' is %s; expected TF, IDF or TFIDF",
                       kiln_onnx_quote(&call->scope->arena, mode));
    if (is_idf)
        counts =
            kiln_add_convert(call->graph, kiln_onnx_with(call, KILN_OP_gt, counts, 0), KILN_f32);
    if (!has_weights || !(is_idf || is_both)) return counts;
    if (n_weights != n) kiln_onnx_fail(call, "%u weights; expected %" PRId64, n_weights, n);
    int64_t dims[1] = {n};
    kiln_value scale =
        kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, KILN_f32, 1, dims), weights);
    return kiln_onnx_binary(call, KILN_OP_mul, counts, scale);
}

static kiln_value import_tf_idf(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    int64_t rows = type->rank == 1 ? 1 : type->dims[0];
    int64_t flat[2] = {rows, rows ? type->n_elements / rows : 0}, column[2] = {rows, 1};
    gram_plan plan = {0};
    if (type->rank > 2) kiln_onnx_fail(call, "rank %u; expected 1 or 2", type->rank);
    gram_read(call, &plan);
    kiln_value a = kiln_add_convert(call->graph, call->inputs[0], KILN_i64);
    a = kiln_add_reshape(call->graph, a, 2, flat);
    for (int64_t length = plan.least; length <= plan.most && length <= plan.starts.n; length++)
        gram_count_all(call, &plan, a, length);
    kiln_value zero = kiln_add_splat(call->graph, KILN_f32, 2, column, 0);
    kiln_vec_push(&plan.counts, &call->scope->arena, zero);
    for (int64_t i = 0; i < plan.n_columns; i++)
        if (plan.source[i] < 0) plan.source[i] = plan.n_counted;
    kiln_value all = kiln_onnx_concat(call, plan.counts.n, plan.counts.at, 1);
    kiln_value at =
        kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){(uint32_t)plan.n_columns, plan.source});
    all = gram_weigh(call, kiln_onnx_take(call, all, at, 1), plan.n_columns);
    return type->rank == 1 ? kiln_add_reshape(call->graph, all, 1, &plan.n_columns) : all;
}

#define ROW(op, since, least, most, function)                                                      \
    {                                                                                              \
        op, since, KILN_ONNX_NEWEST, least, most, function                                         \
    }

const kiln_onnx_row kiln_onnx_signal_rows[] = {
    ROW("DFT", 17, 1, 3, import_dft),
    ROW("STFT", 17, 2, 4, import_stft),
    ROW("MelWeightMatrix", 17, 5, 5, import_mel),
    ROW("TfIdfVectorizer", 9, 1, 1, import_tf_idf),
    {0},
};
