/* Random graphs: elementwise steps, reductions put back, products, moves, views and windows over
 * values of a few shapes that fit together. */
#include "random_graph.h"

#include <string.h>

uint32_t random_graph_number(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

typedef struct maker {
    kiln_graph *graph;
    uint64_t seed;
    kiln_value values[64];
    uint32_t n;
} maker;

static kiln_value any_value(maker *make)
{
    return make->values[random_graph_number(&make->seed, make->n)];
}

/* Another value of the dims of `like`, broadcast where one fits, else `like` itself. */
static kiln_value match(maker *make, kiln_value like)
{
    const kiln_type *type = kiln_graph_type(make->graph, like);
    uint32_t start = random_graph_number(&make->seed, make->n);
    for (uint32_t i = 0; i < make->n; i++) {
        kiln_value value = make->values[(start + i) % make->n];
        const kiln_type *other = kiln_graph_type(make->graph, value);
        if (other == type && value.id != like.id) return value;
        if (other->rank + 1 == type->rank &&
            memcmp(other->dims, type->dims + 1, other->rank * sizeof *other->dims) == 0) {
            return kiln_add_broadcast_to(make->graph, value, type->rank, type->dims);
        }
    }
    return like;
}

static kiln_value add_attrs(maker *make, kiln_op op, kiln_value a, kiln_value b,
                            const kiln_attrs *attrs)
{
    kiln_value inputs[] = {a, b};
    kiln_node_spec spec = {.op = op, .inputs = inputs, .n_inputs = b.id ? 2 : 1, .attrs = attrs};
    return kiln_graph_add(make->graph, &spec);
}

static kiln_value make_reduce(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    if (!type->rank) return a;
    int64_t axis = type->rank - 1;
    if (random_graph_number(&make->seed, 3) == 0)
        axis = random_graph_number(&make->seed, type->rank);
    kiln_op op = random_graph_number(&make->seed, 2) ? KILN_OP_reduce_sum : KILN_OP_reduce_max;
    kiln_value r = kiln_add_reduce(make->graph, op, a, 1, &axis);
    if (random_graph_number(&make->seed, 3) == 0) return r;
    return kiln_add_binary(make->graph, KILN_OP_sub, a,
                           kiln_add_unreduce(make->graph, r, a, 1, &axis));
}

static kiln_value make_dot(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    if (type->rank < 2) return a;
    for (uint32_t i = 0; i < 8; i++) {
        kiln_value b = any_value(make);
        const kiln_type *other = kiln_graph_type(make->graph, b);
        int64_t last = type->rank - 1, zero = 0;
        if (other->rank != 2 || other->dims[0] != type->dims[last]) continue;
        kiln_attrs attrs = {.family = KILN_FAMILY_dot};
        attrs.dot.lhs_contract = (kiln_ints){1, &last};
        attrs.dot.rhs_contract = (kiln_ints){1, &zero};
        attrs.dot.accumulate = KILN_f32;
        return add_attrs(make, KILN_OP_dot_general, a, b, &attrs);
    }
    return a;
}

static kiln_value make_move(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t ones[4] = {1, 1, 1, 1}, zeros[4] = {0}, starts[4] = {0};
    if (!type->rank) return a;
    uint32_t axis = random_graph_number(&make->seed, type->rank), n = type->rank;
    kiln_attrs attrs = {.family = KILN_FAMILY_axis};
    if (random_graph_number(&make->seed, 2)) {
        attrs.axis.axis = axis;
        return add_attrs(make, KILN_OP_concat, a, match(make, a), &attrs);
    }
    if (random_graph_number(&make->seed, 2)) {
        attrs.family = KILN_FAMILY_pad;
        attrs.pad.low = (kiln_ints){n, ones};
        attrs.pad.high = attrs.pad.interior = (kiln_ints){n, zeros};
        return add_attrs(make, KILN_OP_pad, a, kiln_add_splat(make->graph, KILN_f32, 0, NULL, 2),
                         &attrs);
    }
    attrs.family = KILN_FAMILY_slice;
    starts[axis] = type->dims[axis] > 1;
    attrs.slice.starts = (kiln_ints){n, starts};
    attrs.slice.limits = (kiln_ints){n, type->dims};
    attrs.slice.strides = (kiln_ints){n, ones};
    return add_attrs(make, KILN_OP_slice, a, (kiln_value){0}, &attrs);
}

static kiln_value make_view(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t reversed[KILN_MAX_RANK];
    for (uint32_t i = 0; i < type->rank; i++) reversed[i] = type->rank - 1 - i;
    if (random_graph_number(&make->seed, 2)) return kiln_add_transpose(make->graph, a, reversed);
    if (type->rank == 2) {
        int64_t split[] = {type->dims[0], 1, type->dims[1]};
        if (type->dims[0] % 2 == 0) {
            split[0] = 2;
            split[1] = type->dims[0] / 2;
        }
        return kiln_add_reshape(make->graph, a, 3, split);
    }
    if (type->rank != 3) return a;
    int64_t flat[] = {type->dims[0] * type->dims[1], type->dims[2]};
    return kiln_add_reshape(make->graph, a, 2, flat);
}

static kiln_value make_window(maker *make, kiln_value a)
{
    const kiln_type *type = kiln_graph_type(make->graph, a);
    int64_t sizes[4] = {2, 2, 2, 2}, ones[4] = {1, 1, 1, 1};
    if (type->rank > 4) return a;
    kiln_ints list = {type->rank, ones};
    kiln_attrs attrs = {.family = KILN_FAMILY_window};
    attrs.window.sizes = (kiln_ints){type->rank, sizes};
    attrs.window.strides = attrs.window.low = attrs.window.dilations = list;
    attrs.window.high = list;
    return add_attrs(make, KILN_OP_window_max, a, (kiln_value){0}, &attrs);
}

static kiln_value make_value(maker *make)
{
    kiln_value a = any_value(make);
    if (kiln_graph_type(make->graph, a)->n_elements > 4096) return a;
    switch (random_graph_number(&make->seed, 10)) {
    case 0:
    case 1:
        return make_reduce(make, a);
    case 2:
        return make_dot(make, a);
    case 3:
        return make_move(make, a);
    case 4:
        return make_view(make, a);
    case 5:
        return make_window(make, a);
    case 6:
        return kiln_add_unary(make->graph, KILN_OP_tanh, a);
    default:
        return kiln_add_binary(make->graph,
                               random_graph_number(&make->seed, 2) ? KILN_OP_add : KILN_OP_mul, a,
                               match(make, a));
    }
}

void random_graph_build(kiln_graph *graph, uint64_t seed)
{
    static const int64_t sizes[][2] = {{4, 6}, {4, 6}, {4, 6}, {1, 6},
                                       {4, 1}, {1, 1}, {0, 6}, {4, 0}};
    const int64_t m = sizes[seed % 8][0], n = sizes[seed % 8][1];
    const int64_t shapes[][3] = {{m, n}, {n, n}, {n}, {2, m, n}};
    static const uint32_t ranks[] = {2, 2, 1, 3};
    maker state = {.graph = graph, .seed = seed}, *make = &state;
    for (uint32_t i = 0; i < 4; i++) {
        const kiln_type *type = kiln_graph_tensor(graph, KILN_f32, ranks[i], shapes[i]);
        const char *names[] = {"a", "b", "c", "d"};
        make->values[make->n++] = kiln_add_input(graph, type, names[i], false);
    }
    float weights[36];
    for (uint32_t i = 0; i < 36; i++) weights[i] = (float)i / 36 - 0.5f;
    const kiln_type *square = kiln_graph_tensor(graph, KILN_f32, 2, shapes[1]);
    make->values[make->n++] = kiln_add_constant(graph, square, weights);
    while (make->n < 32) {
        kiln_value value = make_value(make);
        make->values[make->n++] = value;
    }
    for (uint32_t i = 0; i < 4; i++) kiln_add_output(graph, any_value(make), NULL);
    kiln_add_output(graph, make->values[make->n - 1], NULL);
}

/* Largest difference, relative to the largest magnitude; the evaluator sums in f64 either way, but
 * a value stored between groups is rounded. */
bool random_graph_is_near(const kiln_tensor *a, const kiln_tensor *b)
{
    const float *x = a->data, *y = b->data;
    double most = 1e-3, difference = 0;
    for (size_t i = 0; i < a->bytes / sizeof *x; i++) {
        bool are_nan = x[i] != x[i] && y[i] != y[i]; /* all NaNs are equal, whatever their bits */
        if (are_nan || memcmp(&x[i], &y[i], sizeof *x) == 0) continue;
        double d = (double)x[i] - y[i], magnitude = x[i] < 0 ? -x[i] : x[i];
        if (d < 0) d = -d;
        if (!(d <= difference)) difference = d;
        if (magnitude > most) most = magnitude;
    }
    return difference <= 1e-5 * most;
}

void random_graph_fill(uint64_t seed, float *data, size_t n)
{
    for (size_t i = 0; i < n; i++) data[i] = (float)random_graph_number(&seed, 1000) / 500 - 1;
}
