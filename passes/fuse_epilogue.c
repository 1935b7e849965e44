/* Epilogues and rows: nodes that depend on a reduction, contraction or window join its cluster.
 *
 *     %3 = reduce_max %2   %4 = broadcast %3   %5 = sub %2, %4   %6 = exp %5   %7 = reduce_sum %6 …
 *
 * becomes one ROW group, because every value lies at `row` or at `row * cols + col` of one space.
 * The nodes are visited by ascending id, so a node finds what it depends on already in place. */
#include "kiln/program.h"
#include "passes/column.h"
#include "passes/fuse.h"
#include "passes/row_move.h"

#define MAX_NODES 256
#define MAX_CHAIN 64

/* Whether a broadcast sends element `row` of a per-row value to elements row * cols + col. */
static bool is_row_broadcast(const kiln_row_space *space, const kiln_type *from,
                             const kiln_node *node)
{
    if (node->type->n_elements != space->rows * space->cols) return false;
    kiln_ints axes = node->attrs->axes.axes;
    int64_t last = -1;
    for (uint32_t i = 0; i < from->rank; i++) {
        if (from->dims[i] == 1) continue;
        if (axes.at[i] <= last) return false;
        last = axes.at[i];
    }
    int64_t rows = 1;
    uint32_t axis = 0;
    for (; axis <= last; axis++) rows *= node->type->dims[axis];
    return rows == space->rows || (last < 0 && space->rows == 1);
}

/* Whether a transpose only moves axes of one element. */
static bool is_trivial_transpose(const kiln_type *from, const kiln_node *node)
{
    int64_t last = -1;
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t axis = node->attrs->permutation.permutation.at[i];
        if (from->dims[axis] == 1) continue;
        if (axis < last) return false;
        last = axis;
    }
    return true;
}

static kiln_role view_role(const kiln_fusion *fusion, const kiln_cluster *cluster, uint32_t id,
                           kiln_role role)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    const kiln_type *from = kiln_graph_type(fusion->graph, node->inputs[0]);
    if (role == KILN_ROLE_FREE || role == KILN_ROLE_LOST) return role;
    if (cluster->kind == KILN_GROUP_COLUMN) {
        const kiln_node *anchor = kiln_fusion_node(fusion, cluster->anchor);
        bool is_spread = role == KILN_ROLE_ROW && node->type->n_elements &&
                         kiln_is_column_broadcast(fusion->graph, anchor, node);
        return is_spread ? KILN_ROLE_FULL : KILN_ROLE_LOST;
    }
    /* empty values have no rows to tell apart; they are not worth the thought */
    if (cluster->kind != KILN_GROUP_ROW || !node->type->n_elements) return KILN_ROLE_LOST;
    if (node->op == KILN_OP_reshape) return role;
    if (node->op == KILN_OP_transpose && is_trivial_transpose(from, node)) return role;
    if (node->op != KILN_OP_broadcast) return KILN_ROLE_LOST;
    bool is_per_row = role == KILN_ROLE_ROW || cluster->space.cols == 1;
    if (is_per_row && is_row_broadcast(&cluster->space, from, node)) return KILN_ROLE_FULL;
    if (node->type->n_elements != from->n_elements) return KILN_ROLE_LOST;
    kiln_ints axes = node->attrs->axes.axes;
    int64_t last = -1;
    for (uint32_t i = 0; i < from->rank; i++) {
        if (from->dims[i] == 1) continue;
        if (axes.at[i] < last) return KILN_ROLE_LOST;
        last = axes.at[i];
    }
    return role;
}

kiln_role kiln_fusion_role(const kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    uint32_t chain[MAX_CHAIN], n = 0;
    while (fusion->cluster_of[id] == KILN_NONE && fusion->is_floating[id] &&
           kiln_fusion_class(fusion, id) == KILN_VIEW) {
        if (n == MAX_CHAIN) return KILN_ROLE_LOST;
        chain[n++] = id;
        id = kiln_fusion_node(fusion, id)->inputs[0].id;
    }
    if (fusion->cluster_of[id] != number) return KILN_ROLE_FREE;
    kiln_role role = (kiln_role)fusion->role[id];
    while (n-- > 0) role = view_role(fusion, &fusion->clusters.at[number], chain[n], role);
    return role;
}

/* The role of an elementwise node from those of its operands. */
static kiln_role elementwise_role(const kiln_fusion *fusion, uint32_t number, const kiln_node *node)
{
    kiln_role role = KILN_ROLE_FREE;
    bool is_thin = fusion->clusters.at[number].kind == KILN_GROUP_ROW &&
                   fusion->clusters.at[number].space.cols == 1;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_role operand = kiln_fusion_role(fusion, number, node->inputs[i].id);
        if (operand == KILN_ROLE_FREE) continue;
        if (operand == KILN_ROLE_LOST) return KILN_ROLE_LOST;
        if (role != KILN_ROLE_FREE && role != operand && !is_thin) return KILN_ROLE_LOST;
        role = operand;
    }
    return role;
}

static kiln_role reduce_role(const kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    const kiln_node *node = kiln_fusion_node(fusion, id);
    kiln_row_space space;
    if (cluster->kind != KILN_GROUP_ROW && cluster->kind != KILN_GROUP_COLUMN)
        return KILN_ROLE_LOST;
    if (kiln_fusion_role(fusion, number, node->inputs[0].id) != KILN_ROLE_FULL)
        return KILN_ROLE_LOST;
    if (cluster->kind == KILN_GROUP_COLUMN) {
        const kiln_node *anchor = kiln_fusion_node(fusion, cluster->anchor);
        return kiln_is_same_columns(fusion->graph, anchor, node) ? KILN_ROLE_ROW : KILN_ROLE_LOST;
    }
    if (!kiln_reduce_row_space(fusion->graph, kiln_fusion_value(fusion, id), &space))
        return KILN_ROLE_LOST;
    bool is_same = space.rows == cluster->space.rows && space.cols == cluster->space.cols;
    return is_same ? KILN_ROLE_ROW : KILN_ROLE_LOST;
}

/* Why a map of all that a ROW or COLUMN cluster reduces is better alone, or NULL. */
static const char *map_objection(kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    if (cluster->kind == KILN_GROUP_COLUMN) return kiln_fusion_column_objection(fusion, number, id);
    bool is_serial = cluster->kind == KILN_GROUP_ROW && cluster->space.cols > 65536 &&
                     cluster->space.rows < fusion->pipeline->n_threads;
    return is_serial ? "too few rows to share among threads; the map is shared alone" : NULL;
}

static bool is_contraction(kiln_group_kind kind)
{
    return kind == KILN_GROUP_DOT || kind == KILN_GROUP_CONV || kind == KILN_GROUP_ATTENTION;
}

/* A transpose that must be stored anyway leaves a contraction as its output. */
static kiln_role stored_view_role(const kiln_fusion *fusion, uint32_t number, const kiln_node *node)
{
    kiln_group_kind kind = fusion->clusters.at[number].kind;
    uint32_t operand = node->inputs[0].id;
    bool is_result =
        fusion->cluster_of[operand] == number && fusion->role[operand] == KILN_ROLE_FULL;
    if (!is_contraction(kind)) return KILN_ROLE_LOST;
    return node->op == KILN_OP_transpose && is_result ? KILN_ROLE_FREE : KILN_ROLE_LOST;
}

/* The role node `id` would have in the cluster; LOST when it cannot join. `*out_reason` says why.
 */
static kiln_role joining_role(kiln_fusion *fusion, uint32_t number, uint32_t id,
                              const char **out_reason)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    const char *objection = NULL;
    kiln_role role = KILN_ROLE_LOST;
    switch (kiln_fusion_class(fusion, id)) {
    case KILN_ELEMENTWISE:
        role = elementwise_role(fusion, number, node);
        *out_reason = "it reads the result at other indices than its own";
        objection = role == KILN_ROLE_FULL ? map_objection(fusion, number, id) : NULL;
        if (objection) *out_reason = objection;
        return role == KILN_ROLE_FREE || objection ? KILN_ROLE_LOST : role;
    case KILN_REDUCE:
        *out_reason = "a reduction of the result needs a pass of its own";
        if (cluster->kind == KILN_GROUP_ROW) *out_reason = "it does not reduce the same rows";
        if (cluster->kind == KILN_GROUP_COLUMN) *out_reason = "it does not reduce the same columns";
        return reduce_role(fusion, number, id);
    case KILN_VIEW:
        *out_reason = "only a transpose of the result can be written directly";
        return stored_view_role(fusion, number, node);
    case KILN_SOURCE:
    case KILN_WINDOW:
    case KILN_MOVE:
    case KILN_CONTRACT:
    case KILN_ROUTINE:
    case KILN_REGION:
    case KILN_COMPOSITE:
        *out_reason = "it cannot run on the result in registers";
        return KILN_ROLE_LOST;
    }
    return role;
}

/* What node `id` computes with beside constants, if that is one operand; else 0. */
static uint32_t only_operand(const kiln_fusion *fusion, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    uint32_t n_others = 0, other = 0;
    if (kiln_fusion_class(fusion, id) != KILN_ELEMENTWISE) return 0;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value base = kiln_view_base(fusion->graph, node->inputs[i]);
        if (kiln_graph_node(fusion->graph, base)->op == KILN_OP_constant) continue;
        n_others++;
        other = node->inputs[i].id;
    }
    return n_others == 1 ? other : 0;
}

/* What known scales and offsets make of node `id`, where nothing else reads it. */
static uint32_t rescaled(const kiln_fusion *fusion, uint32_t id)
{
    for (;;) {
        uint32_t first = fusion->first_user[id], n = fusion->first_user[id + 1] - first;
        if (fusion->is_kept[id] || n != 1 || !only_operand(fusion, fusion->users[first])) return id;
        id = fusion->users[first];
    }
}

/* The contraction's cluster that node `id` belongs to, or will with its epilogue. */
static uint32_t contraction_under(const kiln_fusion *fusion, uint32_t id)
{
    for (; id; id = only_operand(fusion, id)) {
        uint32_t number = fusion->cluster_of[id];
        if (number != KILN_NONE && is_contraction(fusion->clusters.at[number].kind)) return number;
    }
    return KILN_NONE;
}

/* Whether one of the clusters that read node `id` computes a contraction of its own: another one
 * than `number`. */
static bool meets_contraction(kiln_fusion *fusion, uint32_t id, uint32_t number)
{
    kiln_ids readers = {0}, sources = {0};
    kiln_fusion_readers(fusion, id, &readers);
    for (uint32_t i = 0; i < readers.n; i++) {
        const kiln_cluster *reader = &fusion->clusters.at[readers.at[i]];
        if (reader->nodes.n == 1) kiln_fusion_sources(fusion, reader->nodes.at[0], &sources);
        if (readers.at[i] != number && is_contraction(reader->kind)) return true;
    }
    for (uint32_t i = 0; i < sources.n; i++) {
        uint32_t source = contraction_under(fusion, sources.at[i]);
        if (source != KILN_NONE && source != number) return true;
    }
    return false;
}

/* A value that is stored in few bytes for a contraction, or could be, widened for what another
 * contraction's epilogue adds to it (a residual): that reads the few bytes. */
static bool is_widened_elsewhere(kiln_fusion *fusion, uint32_t number, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (node->op != KILN_OP_convert || fusion->is_kept[id] || fusion->schedule->is_unfused)
        return false;
    uint32_t input = node->inputs[0].id;
    if (kiln_fusion_node(fusion, input)->type->bytes >= node->type->bytes) return false;
    if (kiln_fusion_is_stored(fusion, input, number, fusion->cluster_of[id]))
        return meets_contraction(fusion, id, number);
    return is_contraction(fusion->clusters.at[number].kind) &&
           meets_contraction(fusion, rescaled(fusion, id), number);
}

static bool join(kiln_fusion *fusion, uint32_t number, uint32_t producer, uint32_t id)
{
    uint32_t from = fusion->cluster_of[id];
    const char *reason = NULL;
    kiln_role role = joining_role(fusion, number, id, &reason);
    if (role != KILN_ROLE_LOST && is_widened_elsewhere(fusion, number, id)) {
        reason = "its readers widen what is stored anyway";
    } else if (role != KILN_ROLE_LOST) {
        reason = NULL;
        if (!kiln_fusion_may_meet(fusion, number, from)) return false;
        if (fusion->clusters.at[number].nodes.n >= MAX_NODES) {
            reason = "the group is full";
        } else if (kiln_fusion_has_detour(fusion, number, from)) {
            reason = "another group lies between them";
        }
    }
    if (!reason) reason = kiln_fusion_objection(fusion, number, from);
    if (reason) {
        kiln_fusion_refuse(fusion, producer, id, reason);
        return false;
    }
    kiln_fusion_merge(fusion, from, number);
    /* what is written transposed is at hand at no index */
    bool is_view = kiln_fusion_class(fusion, id) == KILN_VIEW;
    fusion->role[id] = (uint8_t)(is_view ? KILN_ROLE_LOST : role);
    return true;
}

/* Reductions on the longest way through two clusters and what both compute for themselves. */
static uint32_t longest_chain(const kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    uint32_t n = fusion->graph->nodes.n, longest = 0;
    uint32_t *levels = kiln_new_array(fusion->arena, uint32_t, n);
    for (uint32_t id = 1; id < n; id++) {
        bool is_inside = fusion->cluster_of[id] == a || fusion->cluster_of[id] == b;
        if (!is_inside && !fusion->is_floating[id]) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; i < node->n_inputs; i++)
            if (levels[node->inputs[i].id] > levels[id]) levels[id] = levels[node->inputs[i].id];
        levels[id] += kiln_fusion_class(fusion, id) == KILN_REDUCE;
        if (levels[id] > longest) longest = levels[id];
    }
    return longest;
}

static uint32_t count_reductions(const kiln_fusion *fusion, uint32_t number)
{
    const kiln_ids *nodes = &fusion->clusters.at[number].nodes;
    uint32_t n = 0;
    for (uint32_t i = 0; i < nodes->n; i++)
        n += kiln_fusion_class(fusion, nodes->at[i]) == KILN_REDUCE;
    return n;
}

static kiln_cost cost_alone(kiln_fusion *fusion, uint32_t number)
{
    if (number == fusion->known) return fusion->known_cost;
    return kiln_fusion_cost(fusion, number, KILN_NONE);
}

const char *kiln_fusion_objection(kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    if (kiln_fusion_meets_weights(fusion, a, b))
        return "it reads the weights that the product widens";
    if (count_reductions(fusion, a) + count_reductions(fusion, b) > KILN_MAX_CHAIN &&
        longest_chain(fusion, a, b) > KILN_MAX_CHAIN)
        return "the chain of reductions would be too long";
    kiln_cost first = cost_alone(fusion, a), second = cost_alone(fusion, b);
    kiln_cost both = fusion->joint = kiln_fusion_cost(fusion, a, b);
    double footprint = first.bytes > second.bytes ? first.bytes : second.bytes;
    if (both.bytes > footprint) footprint = both.bytes;
    double apart =
        kiln_cost_ns(fusion, &first, footprint) + kiln_cost_ns(fusion, &second, footprint);
    if (kiln_cost_ns(fusion, &both, footprint) > apart)
        return "recomputing costs more than it saves";
    return kiln_cost_is_long(&both) ? "the kernel would be too long" : NULL;
}

static bool is_same_row_space(const kiln_cluster *a, const kiln_cluster *b)
{
    return a->kind == KILN_GROUP_ROW && b->kind == KILN_GROUP_ROW &&
           a->space.rows == b->space.rows && a->space.cols == b->space.cols;
}

static bool is_same_column_space(const kiln_fusion *fusion, const kiln_cluster *a,
                                 const kiln_cluster *b)
{
    if (a->kind != KILN_GROUP_COLUMN || b->kind != KILN_GROUP_COLUMN) return false;
    return kiln_is_same_columns(fusion->graph, kiln_fusion_node(fusion, a->anchor),
                                kiln_fusion_node(fusion, b->anchor));
}

/* Pointwise clusters that store at the same dims, when the values that both read are a good part of
 * what they move; then it does not matter much that all their results live at the same time. */
static bool is_same_pointwise_space(kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    const kiln_cluster *x = &fusion->clusters.at[a], *y = &fusion->clusters.at[b];
    if (x->kind != KILN_GROUP_POINTWISE || y->kind != KILN_GROUP_POINTWISE) return false;
    const kiln_type *tx = kiln_fusion_stored_type(fusion, a),
                    *ty = kiln_fusion_stored_type(fusion, b);
    if (tx->rank != ty->rank || memcmp(tx->dims, ty->dims, tx->rank * sizeof *tx->dims) != 0)
        return false;
    double apart =
        kiln_fusion_cost(fusion, a, KILN_NONE).bytes + kiln_fusion_cost(fusion, b, KILN_NONE).bytes;
    return kiln_fusion_cost(fusion, a, b).bytes <= 0.8 * apart;
}

bool kiln_fusion_merge_siblings(kiln_fusion *fusion, uint32_t a, uint32_t b)
{
    const kiln_cluster *x = &fusion->clusters.at[a], *y = &fusion->clusters.at[b];
    if (a == b || !x->is_alive || !y->is_alive) return false;
    bool is_same = is_same_row_space(x, y) || is_same_column_space(fusion, x, y) ||
                   (fusion->has_producers && is_same_pointwise_space(fusion, a, b));
    if (!is_same) return false;
    if (x->nodes.n + y->nodes.n > MAX_NODES || !kiln_fusion_may_meet(fusion, a, b)) return false;
    if (kiln_fusion_reaches(fusion, a, b) || kiln_fusion_reaches(fusion, b, a)) return false;
    if (kiln_fusion_objection(fusion, a, b)) return false;
    bool keeps_a = x->anchor < y->anchor;
    kiln_fusion_merge(fusion, keeps_a ? b : a, keeps_a ? a : b);
    return true;
}

/* A node that reads two row clusters of one space brings them together. */
static void merge_row_sources(kiln_fusion *fusion, const kiln_ids *sources)
{
    for (uint32_t i = 0; i < sources->n; i++) {
        for (uint32_t j = i + 1; j < sources->n; j++) {
            uint32_t a = fusion->cluster_of[sources->at[i]], b = fusion->cluster_of[sources->at[j]];
            kiln_fusion_merge_siblings(fusion, a, b);
        }
    }
}

/* Larger edges first: what saves most; of equals, the later producer. */
static void sort_sources(const kiln_fusion *fusion, kiln_ids *sources)
{
    for (uint32_t i = 1; i < sources->n; i++) {
        uint32_t id = sources->at[i], at = i;
        int64_t bytes = kiln_fusion_node(fusion, id)->type->bytes;
        for (; at > 0; at--) {
            uint32_t before = sources->at[at - 1];
            int64_t other = kiln_fusion_node(fusion, before)->type->bytes;
            if (other > bytes || (other == bytes && before > id)) break;
            sources->at[at] = before;
        }
        sources->at[at] = id;
    }
}

static bool is_single(const kiln_fusion *fusion, uint32_t id)
{
    uint32_t number = fusion->cluster_of[id];
    if (number == KILN_NONE) return false;
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    return cluster->nodes.n == 1 &&
           (cluster->kind == KILN_GROUP_POINTWISE || cluster->kind == KILN_GROUP_ROW ||
            cluster->kind == KILN_GROUP_COLUMN);
}

void kiln_fuse_epilogues(kiln_fusion *fusion)
{
    kiln_ids sources = {0};
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        if (!is_single(fusion, id)) continue;
        sources.n = 0;
        kiln_fusion_sources(fusion, id, &sources);
        merge_row_sources(fusion, &sources);
        sort_sources(fusion, &sources);
        for (uint32_t i = 0; i < sources.n; i++) {
            uint32_t number = fusion->cluster_of[sources.at[i]];
            kiln_group_kind kind = fusion->clusters.at[number].kind;
            bool is_alone = kind == KILN_GROUP_ROUTINE || kind == KILN_GROUP_REGION;
            if (kind == KILN_GROUP_POINTWISE || is_alone) continue;
            if (join(fusion, number, sources.at[i], id)) break;
        }
    }
}

/* Reductions of one space that read one value share the reading. */
void kiln_fuse_siblings(kiln_fusion *fusion)
{
    kiln_ids readers = {0};
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        if (!fusion->is_live[id] || fusion->is_floating[id]) continue;
        readers.n = 0;
        kiln_fusion_readers(fusion, id, &readers);
        for (uint32_t i = 0; i < readers.n && readers.n <= 64; i++) {
            for (uint32_t j = i + 1; j < readers.n; j++) {
                kiln_fusion_merge_siblings(fusion, readers.at[i], readers.at[j]);
            }
        }
    }
}
