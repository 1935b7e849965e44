/* TreeEnsemble of ai.onnx.ml. Nodes and leaves share one numbering, leaves after the nodes and each
 * its own successor; all rows go down all trees at once, one step a level, by lookups in tables of
 * constants. Leaves reached are then gathered by target. */
#include <math.h>
#include <string.h>

#include "graph/element.h"
#include "graph/io/onnx_op.h"

#define MAX_LEVELS 64 /* a step of the walk each */

enum { LESS_EQUAL, LESS, GREATER_EQUAL, GREATER, EQUAL, NOT_EQUAL, MEMBER, N_MODES };

typedef struct forest {
    kiln_onnx_call *call;
    uint32_t n_nodes, n_leaves, n_roots, levels;
    int64_t rows, features;
    const int64_t *features_of, *next[2], *roots; /* successors in the common numbering */
    uint8_t *modes;
    bool has_mode[N_MODES];
    kiln_value splits, members; /* members: values, or none */
    const int64_t *member_nodes;
    uint32_t n_members;
} forest;

static kiln_ints ints_read(kiln_onnx_call *call, const char *name, uint32_t n)
{
    kiln_ints list = {0};
    if (!kiln_onnx_ints(call, name, &list) || (n && list.n != n))
        kiln_onnx_fail(call, "attr '%s' has %u entries; expected %u", name, list.n, n);
    return list;
}

/* A tensor attribute of one axis, or none. */
static kiln_value tensor_read(kiln_onnx_call *call, const char *name)
{
    const Kiln__Onnx__Tensor *tensor = kiln_onnx_tensor_attribute(call, name);
    return tensor ? kiln_onnx_tensor(call->onnx, tensor, name) : (kiln_value){0};
}

static const void *known_tensor(kiln_onnx_call *call, const char *name, kiln_dtype *out_dtype,
                                uint32_t *out_n)
{
    kiln_value value = tensor_read(call, name);
    if (!value.id) return NULL;
    *out_dtype = kiln_graph_type(call->graph, value)->dtype;
    *out_n = (uint32_t)kiln_graph_type(call->graph, value)->n_elements;
    return kiln_onnx_known(call, value);
}

/* Successors, checked: a node's own is another node or a leaf. */
static void links_read(forest *f, uint32_t side, const char *ids, const char *leafs)
{
    kiln_onnx_call *call = f->call;
    kiln_ints to = ints_read(call, ids, f->n_nodes), is_leaf = ints_read(call, leafs, f->n_nodes);
    int64_t *next = kiln_onnx_dims(call, f->n_nodes + f->n_leaves);
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        int64_t limit = is_leaf.at[i] ? f->n_leaves : f->n_nodes;
        if (to.at[i] < 0 || to.at[i] >= limit)
            kiln_onnx_fail(call, "attr '%s' [%u] is %lld; expected below %lld", ids, i,
                           (long long)to.at[i], (long long)limit);
        next[i] = to.at[i] + (is_leaf.at[i] ? f->n_nodes : 0);
    }
    for (uint32_t i = 0; i < f->n_leaves; i++) next[f->n_nodes + i] = f->n_nodes + i;
    f->next[side] = next;
}

/* Levels below the roots; a root with one leaf on both sides is that leaf. Rows of nodes, level by
 * level: a tree of n nodes ends after n of them, else it has a cycle. */
static void levels_count(forest *f)
{
    kiln_onnx_call *call = f->call;
    kiln_ints roots = {0};
    kiln_onnx_ints(call, "tree_roots", &roots);
    int64_t *at = kiln_onnx_dims(call, f->n_nodes + roots.n),
            *starts = kiln_onnx_dims(call, roots.n);
    uint32_t n = 0, seen = 0;
    for (uint32_t i = 0; i < roots.n; i++) {
        if (roots.at[i] < 0 || roots.at[i] >= f->n_nodes)
            kiln_onnx_fail(call, "attr 'tree_roots' [%u] is %lld; expected below %u", i,
                           (long long)roots.at[i], f->n_nodes);
        starts[i] = roots.at[i];
        bool is_leaf = f->next[0][starts[i]] == f->next[1][starts[i]];
        if (is_leaf) starts[i] = f->next[0][starts[i]];
        if (starts[i] < f->n_nodes) at[n++] = starts[i];
    }
    f->roots = starts, f->n_roots = roots.n;
    for (; n; f->levels++) {
        int64_t *below = kiln_onnx_dims(call, f->n_nodes + 2 * n);
        uint32_t m = 0;
        seen += n;
        if (seen > f->n_nodes + roots.n)
            kiln_onnx_fail(call, "the nodes form a cycle or share nodes; expected trees");
        for (uint32_t i = 0; i < 2 * n; i++) {
            int64_t to = f->next[i % 2][at[i / 2]];
            if (to < f->n_nodes) below[m++] = to;
        }
        at = below, n = m;
    }
    if (f->levels > MAX_LEVELS || !f->n_roots)
        kiln_onnx_refuse(call, "%u trees of %u levels; expected some, of at most %d levels",
                         f->n_roots, f->levels, MAX_LEVELS);
}

/* The values of `membership_values`, in sets that end with NaN, one for each MEMBER node in order.
 */
static void members_read(forest *f)
{
    kiln_onnx_call *call = f->call;
    kiln_dtype dtype = KILN_f32;
    uint32_t n = 0, node = 0;
    const void *data = known_tensor(call, "membership_values", &dtype, &n);
    double *values = kiln_new_array(&call->scope->arena, double, n + 1);
    int64_t *nodes = kiln_onnx_dims(call, n + 1), count = 0;
    for (uint32_t i = 0; i < n; i++) {
        double value = kiln_onnx_float_at(dtype, data, i);
        while (node < f->n_nodes && f->modes[node] != MEMBER) node++;
        if (node == f->n_nodes) break;
        if (value != value) {
            node++;
            continue;
        }
        values[count] = value;
        nodes[count++] = node;
    }
    f->n_members = (uint32_t)count, f->member_nodes = nodes;
    if (!count) return;
    void *elements = kiln_arena_alloc(&call->scope->arena, (size_t)count * 8 + 16);
    dtype = kiln_onnx_type(call, 0)->dtype;
    kiln_element_store_double(dtype, elements, 0, count, values);
    f->members =
        kiln_add_constant(call->graph, kiln_graph_tensor(call->graph, dtype, 1, &count), elements);
}

static void forest_read(forest *f)
{
    kiln_onnx_call *call = f->call;
    kiln_dtype dtype = KILN_u8;
    uint32_t n = 0;
    kiln_ints features = ints_read(call, "nodes_featureids", 0);
    f->n_nodes = features.n;
    f->n_leaves = ints_read(call, "leaf_targetids", 0).n;
    const void *modes = known_tensor(call, "nodes_modes", &dtype, &n);
    f->splits = tensor_read(call, "nodes_splits");
    if (!modes || n != f->n_nodes || !f->splits.id || !f->n_leaves || f->n_nodes > 1 << 24 ||
        f->n_leaves > 1 << 24 || kiln_graph_type(call->graph, f->splits)->n_elements != n)
        kiln_onnx_fail(call,
                       "modes or splits for %u of %u nodes; expected them for all, and leaves", n,
                       f->n_nodes);
    f->modes = kiln_new_array(&call->scope->arena, uint8_t, f->n_nodes + 1);
    for (uint32_t i = 0; i < f->n_nodes; i++) {
        int64_t mode = kiln_onnx_int_at(dtype, modes, i);
        if (mode < 0 || mode >= N_MODES || features.at[i] < 0 || features.at[i] >= f->features)
            kiln_onnx_fail(call, "node %u has mode %lld and feature %lld; expected ones that exist",
                           i, (long long)mode, (long long)features.at[i]);
        f->modes[i] = (uint8_t)mode;
        f->has_mode[mode] = true;
    }
    f->features_of = features.at;
    links_read(f, 1, "nodes_truenodeids", "nodes_trueleafs");
    links_read(f, 0, "nodes_falsenodeids", "nodes_falseleafs");
    levels_count(f);
    members_read(f);
}

/* A table over nodes, and zeros for leaves, looked up at `at`. */
static kiln_value lookup(const forest *f, const int64_t *table, uint32_t n, kiln_value at)
{
    int64_t all = f->n_nodes + f->n_leaves, *whole = kiln_onnx_dims(f->call, (uint32_t)all);
    memcpy(whole, table, n * sizeof *table);
    kiln_ints list = {(uint32_t)all, whole};
    return kiln_onnx_take(f->call, kiln_onnx_constant_ints(f->call, KILN_i64, list), at, 0);
}

/* Whether the feature is one of the set of the node: over all values of all sets. */
static kiln_value is_member(const forest *f, kiln_value at, kiln_value feature)
{
    kiln_graph *graph = f->call->graph;
    static const int64_t own[2] = {0, 1}, last = 2;
    int64_t dims[3] = {f->rows, f->n_roots, f->n_members};
    kiln_ints list = {f->n_members, f->member_nodes};
    kiln_value nodes = kiln_onnx_constant_ints(f->call, KILN_i64, list);
    kiln_value is_node =
        kiln_add_binary(graph, KILN_OP_eq, kiln_add_broadcast(graph, at, 3, dims, own),
                        kiln_add_broadcast(graph, nodes, 3, dims, &last));
    kiln_value is_value =
        kiln_add_binary(graph, KILN_OP_eq, kiln_add_broadcast(graph, feature, 3, dims, own),
                        kiln_add_broadcast(graph, f->members, 3, dims, &last));
    kiln_value both = kiln_add_binary(graph, KILN_OP_and, is_node, is_value);
    return kiln_add_reduce(graph, KILN_OP_reduce_any, both, 1, &last);
}

static kiln_value is_true(const forest *f, kiln_value at, kiln_value feature)
{
    static const kiln_op ops[] = {
        [LESS_EQUAL] = KILN_OP_le, [LESS] = KILN_OP_lt,  [GREATER_EQUAL] = KILN_OP_ge,
        [GREATER] = KILN_OP_gt,    [EQUAL] = KILN_OP_eq, [NOT_EQUAL] = KILN_OP_ne};
    kiln_graph *graph = f->call->graph;
    kiln_value split = kiln_onnx_take(f->call, f->splits, at, 0), result = {0}, mode = {0};
    int64_t *modes = kiln_onnx_dims(f->call, f->n_nodes);
    for (uint32_t i = 0; i < f->n_nodes; i++) modes[i] = f->modes[i];
    mode = lookup(f, modes, f->n_nodes, at);
    for (uint32_t i = 0; i < N_MODES; i++) {
        if (!f->has_mode[i] || (i == MEMBER && !f->n_members)) continue;
        kiln_value each = i == MEMBER ? is_member(f, at, feature)
                                      : kiln_add_binary(graph, ops[i], feature, split);
        kiln_value is_mode = kiln_onnx_with(f->call, KILN_OP_eq, mode, i);
        result = result.id ? kiln_onnx_select(f->call, is_mode, each, result) : each;
    }
    return result.id ? result
                     : kiln_add_splat_like(graph, kiln_onnx_with(f->call, KILN_OP_eq, at, 0), 0);
}

/* Where NaN counts as true. */
static kiln_value tracks(const forest *f, kiln_value at, kiln_value feature, kiln_value go)
{
    kiln_graph *graph = f->call->graph;
    kiln_ints list = {0};
    if (!kiln_onnx_ints(f->call, "nodes_missing_value_tracks_true", &list) || !list.n) return go;
    if (list.n != f->n_nodes)
        kiln_onnx_fail(f->call,
                       "attr 'nodes_missing_value_tracks_true' has %u entries; expected %u", list.n,
                       f->n_nodes);
    kiln_value is_on = kiln_onnx_with(f->call, KILN_OP_ne, lookup(f, list.at, list.n, at), 0);
    kiln_value is_nan = kiln_add_binary(graph, KILN_OP_ne, feature, feature);
    return kiln_add_binary(graph, KILN_OP_or, go,
                           kiln_add_binary(graph, KILN_OP_and, is_on, is_nan));
}

/* [rows, trees]: the leaf that each row reaches in each tree, in the common numbering. */
static kiln_value walk(const forest *f)
{
    kiln_onnx_call *call = f->call;
    kiln_graph *graph = call->graph;
    static const int64_t second = 1;
    int64_t dims[2] = {f->rows, f->n_roots}, flat = f->rows * f->features;
    uint32_t n_all = f->n_nodes + f->n_leaves;
    kiln_value x = kiln_add_reshape(graph, call->inputs[0], 1, &flat);
    kiln_value at = kiln_onnx_constant_ints(call, KILN_i64, (kiln_ints){f->n_roots, f->roots});
    kiln_value row = kiln_onnx_iota(call, KILN_i64, 2, dims, 0);
    row = kiln_onnx_with(call, KILN_OP_mul, row, (double)f->features);
    at = kiln_add_broadcast(graph, at, 2, dims, &second);
    for (uint32_t level = 0; level < f->levels; level++) {
        kiln_value place =
            kiln_add_binary(graph, KILN_OP_add, row, lookup(f, f->features_of, f->n_nodes, at));
        kiln_value feature = kiln_onnx_take(call, x, place, 0);
        kiln_value go = tracks(f, at, feature, is_true(f, at, feature));
        at = kiln_onnx_select(call, go, lookup(f, f->next[1], n_all, at),
                              lookup(f, f->next[0], n_all, at));
        kiln_onnx_count(call);
    }
    return kiln_onnx_with(call, KILN_OP_sub, at, f->n_nodes);
}

/* [rows, targets] of the weights [rows, trees] whose targets those are. */
static kiln_value aggregate(const forest *f, kiln_value weights, kiln_value targets, int64_t n)
{
    static const kiln_op ops[] = {KILN_OP_reduce_sum, KILN_OP_reduce_sum, KILN_OP_reduce_min,
                                  KILN_OP_reduce_max};
    static const double fillers[] = {0, 0, INFINITY, -INFINITY};
    static const int64_t own[2] = {0, 1}, trees = 1;
    kiln_onnx_call *call = f->call;
    kiln_graph *graph = call->graph;
    int64_t how = kiln_onnx_int(call, "aggregate_function", 1), dims[3] = {f->rows, f->n_roots, n};
    if (how < 0 || how > 3)
        kiln_onnx_fail(call, "attr 'aggregate_function' is %lld; expected 0 to 3", (long long)how);
    kiln_value is_target =
        kiln_add_binary(graph, KILN_OP_eq, kiln_add_broadcast(graph, targets, 3, dims, own),
                        kiln_onnx_iota(call, KILN_i64, 3, dims, 2));
    kiln_value each = kiln_add_broadcast(graph, weights, 3, dims, own);
    each = kiln_onnx_select(call, is_target, each, kiln_add_splat_like(graph, each, fillers[how]));
    kiln_value result = kiln_add_reduce(graph, ops[how], each, 1, &trees);
    return how == 0 ? kiln_onnx_with(call, KILN_OP_div, result, f->n_roots) : result;
}

kiln_value kiln_onnx_import_trees(kiln_onnx_call *call)
{
    const kiln_type *type = kiln_onnx_ranked(call, 0, 1);
    forest f = {.call = call, .rows = type->rank == 1 ? 1 : type->dims[0]};
    f.features = f.rows ? type->n_elements / f.rows : 0;
    int64_t n = kiln_onnx_int(call, "n_targets", 1),
            after = kiln_onnx_int(call, "post_transform", 0);
    if (type->rank > 2 || f.features < 1 || !kiln_onnx_is_float(type->dtype) || n < 1 ||
        n > 1 << 20)
        kiln_onnx_fail(call, "%s of rank %u for %lld targets; expected rows of floats",
                       kiln_dtype_name(type->dtype), type->rank, (long long)n);
    forest_read(&f);
    kiln_onnx_ignore(call, "nodes_hitrates");
    kiln_value leaf = walk(&f), weights = tensor_read(call, "leaf_weights");
    kiln_ints targets = ints_read(call, "leaf_targetids", f.n_leaves);
    if (!weights.id || kiln_graph_type(call->graph, weights)->n_elements != f.n_leaves)
        kiln_onnx_fail(call, "attr 'leaf_weights' does not fit; expected %u weights", f.n_leaves);
    weights = kiln_add_convert(call->graph, kiln_onnx_take(call, weights, leaf, 0), type->dtype);
    kiln_value target =
        kiln_onnx_take(call, kiln_onnx_constant_ints(call, KILN_i64, targets), leaf, 0);
    kiln_value result = aggregate(&f, weights, target, n);
    if (after == 2) return kiln_add_unary(call->graph, KILN_OP_logistic, result);
    if (after)
        kiln_onnx_refuse(call, "attr 'post_transform' is %lld; expected 0 or 2", (long long)after);
    return result;
}
