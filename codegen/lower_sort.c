/* argsort: a bitonic network over (key, place) pairs of a row in scratch memory. Keys are integers
 * in the order of the elements; the place below the key makes all pairs distinct, so that the order
 * is unique and equal elements keep theirs. Keys of 32 bits share an i64 with their place; longer
 * ones stand beside it. Rows are padded to a power of two with the largest pairs. Every merge
 * begins with a mirrored step, after which all steps go upwards (Batcher 1968).
 *
 * Short rows of little work are ranked instead: the place of an element is the number of pairs
 * below its own. That is a third of the code. */
#include "base/checked.h"
#include "codegen/lower_routine.h"
#include "codegen/math.h"

#define TILE_WORK 4096 /* elements of a tile, about */
/* 137 rows of 137 take 0.20 ms instead of 0.08, and 4 ms less to compile. */
#define MAX_RANKED 160

typedef struct sort_pair {
    kiln_kv key, place; /* place is none where the key holds it */
} sort_pair;

typedef struct sort_walk {
    kiln_lower *lower;
    const kiln_node *node;
    const kiln_type *type; /* of the operand */
    uint32_t axis, width;  /* lanes of a vector of pairs */
    uint32_t levels;       /* the padded row has width << levels pairs */
    int64_t n, padded;
    bool is_wide, is_ranked;
    uint32_t keys, places; /* locals */
    kiln_nest nest;
    kiln_index at;
} sort_walk;

static kiln_kv wide(const sort_walk *w, int64_t value)
{
    return kiln_k_const_int(w->lower->kernel, KILN_i64, w->width, value);
}

/* An integer key of 64 bits, or of 32 bits as i64, ascending in the order wanted. */
static kiln_kv key_of(const sort_walk *w, kiln_kv value)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_dtype dtype = (kiln_dtype)kiln_kernel_at(k, value)->dtype;
    if (kiln_dtype_is_float(dtype)) {
        kiln_dtype whole = dtype == KILN_f64 ? KILN_i64 : KILN_i32;
        int64_t bits = dtype == KILN_f64 ? 63 : 31;
        int64_t most = dtype == KILN_f64 ? INT64_MAX : INT32_MAX;
        kiln_kv top = kiln_k_const_int(k, whole, w->width, most);
        kiln_kv zero = kiln_k_const_float(k, dtype, w->width, 0);
        kiln_kv plain = kiln_k_binary(k, KILN_K_add, value, zero); /* -0 becomes +0 */
        kiln_kv key = kiln_k_bitcast(k, plain, whole);
        kiln_kv sign = kiln_k_const_int(k, whole, w->width, bits);
        sign = kiln_k_binary(k, KILN_K_shr, key, sign);
        key = kiln_k_binary(k, KILN_K_xor, key, kiln_k_binary(k, KILN_K_and, sign, top));
        key = kiln_k_select(k, kiln_k_binary(k, KILN_K_ne, value, value), top, key);
        return kiln_k_convert(k, key, KILN_i64);
    }
    if (dtype == KILN_u64)
        return kiln_k_binary(k, KILN_K_xor, kiln_k_bitcast(k, value, KILN_i64), wide(w, INT64_MIN));
    kiln_kv key = kiln_k_convert(k, value, KILN_i64);
    return dtype == KILN_u32 ? kiln_k_binary(k, KILN_K_sub, key, wide(w, (int64_t)1 << 31)) : key;
}

static sort_pair pair_make(const sort_walk *w, kiln_kv key, kiln_kv place)
{
    kiln_kernel *k = w->lower->kernel;
    if (w->node->attrs->sort.descending) key = kiln_k_unary(k, KILN_K_not, key);
    if (w->is_wide) return (sort_pair){key, place};
    key = kiln_k_binary(k, KILN_K_shl, key, wide(w, 32));
    return (sort_pair){kiln_k_binary(k, KILN_K_or, key, place), 0};
}

static sort_pair pair_load(const sort_walk *w, kiln_kv at)
{
    kiln_kernel *k = w->lower->kernel;
    sort_pair pair = {kiln_k_load(k, w->keys, at, w->width, 0, KILN_MEM_ALIGNED), 0};
    if (w->is_wide) pair.place = kiln_k_load(k, w->places, at, w->width, 0, KILN_MEM_ALIGNED);
    return pair;
}

static void pair_store(const sort_walk *w, kiln_kv at, sort_pair pair)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_k_store(k, w->keys, at, pair.key, 0, KILN_MEM_ALIGNED);
    if (w->is_wide) kiln_k_store(k, w->places, at, pair.place, 0, KILN_MEM_ALIGNED);
}

static sort_pair pair_select(const sort_walk *w, kiln_kv condition, sort_pair a, sort_pair b)
{
    kiln_kernel *k = w->lower->kernel;
    sort_pair pair = {kiln_k_select(k, condition, a.key, b.key), 0};
    if (w->is_wide) pair.place = kiln_k_select(k, condition, a.place, b.place);
    return pair;
}

static sort_pair pair_shuffle(const sort_walk *w, sort_pair a, sort_pair b, const int64_t *from)
{
    kiln_kernel *k = w->lower->kernel;
    sort_pair pair = {kiln_k_shuffle(k, a.key, b.key, w->width, from), 0};
    if (w->is_wide) pair.place = kiln_k_shuffle(k, a.place, b.place, w->width, from);
    return pair;
}

static void pair_order(const sort_walk *w, sort_pair *a, sort_pair *b)
{
    kiln_kernel *k = w->lower->kernel;
    sort_pair low = *a, high = *b;
    if (!w->is_wide) {
        a->key = kiln_k_min(k, low.key, high.key);
        b->key = kiln_k_max(k, low.key, high.key);
        return;
    }
    kiln_kv is_equal = kiln_k_binary(k, KILN_K_eq, low.key, high.key);
    kiln_kv is_less = kiln_k_binary(k, KILN_K_lt, low.key, high.key);
    kiln_kv is_first = kiln_k_binary(k, KILN_K_lt, low.place, high.place);
    is_first = kiln_k_binary(k, KILN_K_and, is_equal, is_first);
    kiln_kv is_below = kiln_k_binary(k, KILN_K_or, is_less, is_first);
    *a = pair_select(w, is_below, low, high);
    *b = pair_select(w, is_below, high, low);
}

/* Lane i against lane i ^ distance; the one without `bit` keeps the lower pair. */
static sort_pair order_lanes(const sort_walk *w, sort_pair pair, uint32_t distance, uint32_t bit)
{
    int64_t partner[KILN_K_MAX_LANES], pick[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < w->width; i++) {
        partner[i] = i ^ distance;
        pick[i] = i & bit ? w->width + i : i;
    }
    sort_pair low = pair, high = pair_shuffle(w, pair, (sort_pair){0}, partner);
    pair_order(w, &low, &high);
    return pair_shuffle(w, low, high, pick);
}

static sort_pair merge_lanes(const sort_walk *w, sort_pair pair, uint32_t stride)
{
    for (; stride > 0; stride /= 2) pair = order_lanes(w, pair, stride, stride);
    return pair;
}

static kiln_kv open_pairs(sort_walk *w, int64_t n)
{
    kiln_lower *lower = w->lower;
    return kiln_nest_loop(&w->nest, kiln_lower_i64(lower, 0), kiln_lower_i64(lower, n), w->width);
}

static void close_loop(sort_walk *w)
{
    kiln_nest_close(&w->nest, w->nest.n - 1);
}

/* Sorts each vector. */
static void sort_vectors(sort_walk *w)
{
    kiln_kv at = open_pairs(w, w->padded);
    sort_pair pair = pair_load(w, at);
    for (uint32_t size = 2; size <= w->width; size *= 2) {
        pair = order_lanes(w, pair, size - 1, size / 2);
        pair = merge_lanes(w, pair, size / 4);
    }
    pair_store(w, at, pair);
    close_loop(w);
}

/* Half of all vectors against their partners: mirrored within blocks of 2 * half, or `half` apart.
 */
static void order_vectors(sort_walk *w, kiln_kv half, bool is_mirrored)
{
    kiln_kernel *k = w->lower->kernel;
    int64_t reversed[KILN_K_MAX_LANES];
    for (uint32_t i = 0; i < w->width; i++) reversed[i] = w->width - 1 - i;
    kiln_kv number = open_pairs(w, w->padded / 2);
    kiln_kv below = kiln_k_binary(k, KILN_K_and, number, kiln_k_add_imm(k, half, -1));
    kiln_kv block = kiln_k_binary(k, KILN_K_sub, number, below);
    block = kiln_k_mul_imm(k, block, 2);
    kiln_kv at = kiln_k_binary(k, KILN_K_add, block, below);
    kiln_kv other = kiln_k_binary(k, KILN_K_add, at, half);
    if (is_mirrored) {
        other = kiln_k_binary(k, KILN_K_add, block, kiln_k_mul_imm(k, half, 2));
        other = kiln_k_binary(k, KILN_K_sub, other, below);
        other = kiln_k_add_imm(k, other, -(int64_t)w->width);
    }
    sort_pair low = pair_load(w, at), high = pair_load(w, other);
    if (is_mirrored) high = pair_shuffle(w, high, (sort_pair){0}, reversed);
    pair_order(w, &low, &high);
    if (is_mirrored) high = pair_shuffle(w, high, (sort_pair){0}, reversed);
    pair_store(w, at, low);
    pair_store(w, other, high);
    close_loop(w);
}

/* Merges sorted blocks of width << level into blocks of twice that, level by level. */
static void merge_vectors(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    kiln_kv width = kiln_lower_i64(lower, w->width), zero = kiln_lower_i64(lower, 0);
    kiln_kv level = kiln_nest_loop(&w->nest, zero, kiln_lower_i64(lower, w->levels), 1);
    order_vectors(w, kiln_k_binary(k, KILN_K_shl, width, level), true);
    kiln_kv step = kiln_nest_loop(&w->nest, zero, level, 1);
    kiln_kv shift = kiln_k_binary(k, KILN_K_sub, kiln_k_add_imm(k, level, -1), step);
    order_vectors(w, kiln_k_binary(k, KILN_K_shl, width, shift), false);
    close_loop(w);
    kiln_kv at = open_pairs(w, w->padded);
    pair_store(w, at, merge_lanes(w, pair_load(w, at), w->width / 2));
    close_loop(w);
    close_loop(w);
}

static kiln_kv places_at(const sort_walk *w, kiln_kv at)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_kv lanes = kiln_k_lanes(k, KILN_i64, w->width);
    return kiln_k_binary(k, KILN_K_add, kiln_k_splat(k, at, w->width), lanes);
}

static void load_vector(sort_walk *w, kiln_kv at)
{
    kiln_lower *lower = w->lower;
    w->at.axis[w->axis] = kiln_axis_vector(at, w->width);
    kiln_kv key = key_of(w, kiln_lower_value(lower, w->node->inputs[0], &w->at));
    sort_pair pair = pair_make(w, key, places_at(w, at));
    if (lower->mask) {
        kiln_kv place = w->is_wide ? places_at(w, at) : 0;
        pair = pair_select(w, lower->mask, pair, (sort_pair){wide(w, INT64_MAX), place});
    }
    pair_store(w, at, pair);
}

static void load_row(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    int64_t whole = w->n / w->width * w->width, covered = kiln_ceil_div(w->n, w->width) * w->width;
    if (whole > 0) {
        load_vector(w, open_pairs(w, whole));
        close_loop(w);
    }
    if (whole < w->n) {
        lower->mask = kiln_k_active(k, w->width, kiln_lower_i64(lower, w->n - whole));
        load_vector(w, kiln_lower_i64(lower, whole));
        lower->mask = 0;
    }
    if (covered == w->padded) return;
    kiln_kv at = kiln_nest_loop(&w->nest, kiln_lower_i64(lower, covered),
                                kiln_lower_i64(lower, w->padded), w->width);
    sort_pair pad = {wide(w, INT64_MAX), w->is_wide ? places_at(w, at) : 0};
    pair_store(w, at, pad);
    close_loop(w);
}

static void store_vector(kiln_lower *lower, void *state, kiln_axis_index at)
{
    sort_walk *w = state;
    sort_pair pair = pair_load(w, at.base);
    kiln_kv place = pair.place;
    if (!w->is_wide)
        place = kiln_k_binary(lower->kernel, KILN_K_and, pair.key, wide(w, UINT32_MAX));
    w->at.axis[w->axis] = at;
    kiln_lower_store(lower, 0, &w->at, place);
}

static void emit_row(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    lower->lanes = w->width;
    load_row(w);
    sort_vectors(w);
    if (w->levels > 0) merge_vectors(w);
    kiln_nest_lanes(lower, &(kiln_lanes_loop){kiln_lower_i64(lower, 0), kiln_lower_i64(lower, w->n),
                                              w->width, store_vector, w});
}

/* From a vector of the row to the next; the last one begins earlier. */
static kiln_kv open_vectors(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kv end = kiln_lower_i64(lower, w->n);
    kiln_kv at = kiln_nest_loop(&w->nest, kiln_lower_i64(lower, 0), end, w->width);
    if (w->n % w->width == 0) return at;
    return kiln_lower_op_imm(lower, KILN_K_min, at, w->n - w->width);
}

static sort_pair pair_splat(const sort_walk *w, kiln_kv at)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_kv key = kiln_k_load(k, w->keys, at, 1, 0, 0);
    return (sort_pair){kiln_k_splat(k, key, w->width), kiln_k_splat(k, at, w->width)};
}

/* Lanes in which pair `a` comes before pair `b`. */
static kiln_kv pair_below(const sort_walk *w, sort_pair a, sort_pair b)
{
    kiln_kernel *k = w->lower->kernel;
    kiln_kv is_less = kiln_k_binary(k, KILN_K_lt, a.key, b.key);
    if (!w->is_wide) return is_less;
    kiln_kv is_equal = kiln_k_binary(k, KILN_K_eq, a.key, b.key);
    kiln_kv is_first = kiln_k_binary(k, KILN_K_lt, a.place, b.place);
    is_first = kiln_k_binary(k, KILN_K_and, is_equal, is_first);
    return kiln_k_binary(k, KILN_K_or, is_less, is_first);
}

static void rank_row(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    kiln_kernel *k = lower->kernel;
    lower->lanes = w->width;
    kiln_kv at = open_vectors(w);
    w->at.axis[w->axis] = kiln_axis_vector(at, 1);
    kiln_kv key = key_of(w, kiln_lower_value(lower, w->node->inputs[0], &w->at));
    kiln_k_store(k, w->keys, at, pair_make(w, key, places_at(w, at)).key, 0, 0);
    close_loop(w);
    at = open_vectors(w);
    sort_pair own = {kiln_k_load(k, w->keys, at, w->width, 0, 0), places_at(w, at)};
    kiln_kv zero = kiln_lower_i64(lower, 0), end = kiln_lower_i64(lower, w->n);
    kiln_kv other = kiln_nest_loop(&w->nest, zero, end, 1);
    kiln_kv rank = kiln_k_carry(k, wide(w, 0));
    kiln_kv next = kiln_k_binary(k, KILN_K_add, rank, wide(w, 1));
    kiln_kv is_below = pair_below(w, pair_splat(w, other), own);
    kiln_k_next(k, rank, kiln_k_select(k, is_below, next, rank));
    close_loop(w);
    w->at.axis[w->axis] = (kiln_axis_index){.lanes = kiln_k_last(k, rank), .extent = w->n};
    kiln_lower_store(lower, 0, &w->at, own.place);
    close_loop(w);
}

static void set_row(sort_walk *w, kiln_kv row, int64_t n_rows)
{
    int64_t dims[KILN_MAX_RANK];
    kiln_axis_index axes[KILN_MAX_RANK], linear = kiln_axis_scalar(row, 1);
    uint32_t rank = 0;
    linear.extent = n_rows;
    for (uint32_t i = 0; i < w->type->rank; i++) {
        if (i != w->axis) dims[rank++] = w->type->dims[i];
    }
    kiln_lower_delinearize(w->lower, linear, rank, dims, axes);
    for (uint32_t i = 0; i < rank; i++) w->at.axis[i + (i >= w->axis)] = axes[i];
}

static void size_row(sort_walk *w)
{
    kiln_lower *lower = w->lower;
    w->width = kiln_machine_lanes(lower->machine, KILN_i64);
    if (w->width < 2) w->width = 2;
    for (w->padded = w->width; w->padded < w->n; w->padded *= 2) w->levels++;
    w->is_wide = kiln_dtype_bytes(kiln_compute_dtype(w->type->dtype)) > 4;
    if (w->n > INT32_MAX)
        kiln_fail(lower->scope, KILN_LIMIT, "group %s: rows of %lld to sort; expected below 2^31",
                  lower->group->label, (long long)w->n);
    w->is_ranked = w->n >= w->width && w->n <= MAX_RANKED &&
                   w->type->n_elements < KILN_SMALL_ELEMENTS;
    w->keys = kiln_kernel_add_local(lower->kernel, KILN_i64, w->padded);
    if (w->is_wide && !w->is_ranked)
        w->places = kiln_kernel_add_local(lower->kernel, KILN_i64, w->padded);
}

void kiln_lower_argsort(kiln_lower *lower)
{
    sort_walk w = {.lower = lower, .node = kiln_routine_node(lower), .nest = {.lower = lower}};
    w.type = kiln_graph_type(lower->graph, w.node->inputs[0]);
    w.axis = (uint32_t)w.node->attrs->sort.axis;
    w.n = w.type->dims[w.axis];
    w.at.rank = w.type->rank;
    int64_t n_rows = w.n > 0 ? w.type->n_elements / w.n : 0;
    size_row(&w);
    int64_t per_tile = kiln_max_i64(1, TILE_WORK / w.padded);
    kiln_kv tile = kiln_nest_tiles(&w.nest, kiln_ceil_div(n_rows, per_tile));
    if (n_rows > 0) {
        kiln_kv first = kiln_lower_op_imm(lower, KILN_K_mul, tile, per_tile);
        kiln_kv end = kiln_lower_op_imm(lower, KILN_K_add, first, per_tile);
        end = kiln_lower_op_imm(lower, KILN_K_min, end, n_rows);
        set_row(&w, kiln_nest_loop(&w.nest, first, end, 1), n_rows);
        if (w.is_ranked)
            rank_row(&w);
        else
            emit_row(&w);
    }
    kiln_nest_close(&w.nest, 0);
}
