/* What each kind of group demands of its nodes. For reductions and contractions every node that
 * depends on a result is followed: it must lie at the index at which the kernel has that result. */
#include <string.h>

#include "kiln/program.h"
#include "passes/band.h"
#include "passes/column.h"
#include "passes/verify.h"

/* What a group's reductions share: in ROW groups the rows, in COLUMN groups the anchor's dims. */
typedef struct reduced_space {
    const kiln_row_space *rows;
    const kiln_node *columns;
} reduced_space;

typedef enum lie { LIES_FREE, LIES_WHOLE, LIES_PER_ROW, LIES_LOST } lie;

static bool is_equal_dims(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static uint32_t count_class(const kiln_schedule *schedule, const kiln_group *group,
                            kiln_class class_)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        n += kiln_node_row(kiln_graph_node(schedule->graph, group->nodes[i]))->class_ == class_;
    }
    return n;
}

/* Product of dims of more than one element that axes [0, end) of a type have. */
static int64_t leading(const kiln_type *type, uint32_t end)
{
    int64_t product = 1;
    for (uint32_t i = 0; i < end; i++) product *= type->dims[i];
    return product;
}

/* A broadcast keeps "element row" when the axes it adds all lie behind those it keeps. */
static lie broadcast_lie(const kiln_row_space *space, const kiln_type *from, const kiln_node *node,
                         lie was)
{
    kiln_ints axes = node->attrs->axes.axes;
    uint32_t end = 0;
    for (uint32_t i = 0; i < from->rank; i++) {
        if (from->dims[i] == 1) continue;
        if ((uint32_t)axes.at[i] < end) return LIES_LOST;
        end = (uint32_t)axes.at[i] + 1;
    }
    int64_t n = node->type->n_elements;
    if (n == from->n_elements) return was;
    bool is_per_row = was == LIES_PER_ROW || space->cols == 1;
    if (!is_per_row || n != space->rows * space->cols) return LIES_LOST;
    return leading(node->type, end) == space->rows ? LIES_WHOLE : LIES_LOST;
}

static lie view_lie(const kiln_graph *graph, const reduced_space *space, const kiln_node *node,
                    lie was)
{
    const kiln_type *from = kiln_graph_type(graph, node->inputs[0]);
    if (was == LIES_FREE || was == LIES_LOST) return was;
    if (space->columns)
        return was == LIES_PER_ROW && kiln_is_column_broadcast(graph, space->columns, node)
                   ? LIES_WHOLE
                   : LIES_LOST;
    if (!space->rows) return LIES_LOST;
    if (node->op == KILN_OP_reshape) return was;
    if (node->op == KILN_OP_broadcast) return broadcast_lie(space->rows, from, node, was);
    if (node->op != KILN_OP_transpose) return LIES_LOST;
    int64_t last = -1;
    for (uint32_t i = 0; i < from->rank; i++) {
        int64_t axis = node->attrs->permutation.permutation.at[i];
        if (from->dims[axis] > 1 && axis < last) return LIES_LOST;
        if (from->dims[axis] > 1) last = axis;
    }
    return was;
}

/* How a node lies, from its operands. */
static lie node_lie(const kiln_check_state *check, const reduced_space *space, kiln_value value)
{
    const kiln_graph *graph = check->schedule->graph;
    const kiln_node *node = kiln_graph_node(graph, value);
    kiln_class class_ = kiln_node_row(node)->class_;
    lie all = LIES_FREE;
    bool is_thin = space->rows && space->rows->cols == 1;
    if (!node->type->n_elements) return LIES_FREE; /* nothing is read anywhere */
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t id = node->inputs[i].id;
        lie one = check->mark[id] == check->stamp ? (lie)check->lies[id] : LIES_FREE;
        if (class_ == KILN_VIEW) one = view_lie(graph, space, node, one);
        if (one == LIES_FREE) continue;
        bool is_mixed = all != LIES_FREE && all != one && !is_thin;
        all = is_mixed ? LIES_LOST : one;
    }
    if (is_thin && all == LIES_PER_ROW) all = LIES_WHOLE;
    if (class_ == KILN_REDUCE && (space->rows || space->columns))
        return all == LIES_FREE || all == LIES_WHOLE ? LIES_PER_ROW : LIES_LOST;
    if (class_ == KILN_REDUCE || class_ == KILN_CONTRACT || class_ == KILN_WINDOW) {
        return all == LIES_FREE ? LIES_WHOLE : LIES_LOST;
    }
    if (class_ != KILN_ELEMENTWISE && class_ != KILN_VIEW && all != LIES_FREE) return LIES_LOST;
    return all;
}

static void follow(kiln_check_state *check, const kiln_group *group, reduced_space space)
{
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        check->lies[group->nodes[i].id] = (uint8_t)node_lie(check, &space, group->nodes[i]);
    }
}

static kiln_status check_row(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_graph *graph = check->schedule->graph;
    kiln_row_space space = {0}, other;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        if (kiln_node_row(node)->class_ != KILN_REDUCE) continue;
        if (!kiln_reduce_row_space(graph, group->nodes[i], &other)) {
            return kiln_check_fail(check, g, "a reduction is not over trailing axes");
        }
        if (!space.type) space = other;
        if (other.rows != space.rows || other.cols != space.cols) {
            return kiln_check_fail(check, g, "two reductions have different rows");
        }
    }
    if (!space.type) return kiln_check_fail(check, g, "it has no reduction");
    follow(check, group, (reduced_space){.rows = &space});
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        bool is_lost = check->lies[group->nodes[i].id] == LIES_LOST;
        if (is_lost && kiln_node_row(node)->class_ == KILN_REDUCE) {
            return kiln_check_fail(check, g, "a reduction reads other rows");
        }
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        kiln_value value = group->outputs[i].value;
        int64_t n = kiln_graph_type(graph, value)->n_elements;
        bool is_shaped = n == space.rows || n == space.rows * space.cols;
        if (!is_shaped || check->lies[value.id] == LIES_LOST) {
            return kiln_check_fail(check, g, "an output is neither whole nor one element a row");
        }
    }
    return KILN_OK;
}

static kiln_status check_column(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_graph *graph = check->schedule->graph;
    const kiln_node *anchor = kiln_graph_node(graph, group->anchor);
    const kiln_type *full = kiln_graph_type(graph, anchor->inputs[0]);
    follow(check, group, (reduced_space){.columns = anchor});
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        if (kiln_node_row(node)->class_ != KILN_REDUCE) continue;
        if (!kiln_is_same_columns(graph, anchor, node))
            return kiln_check_fail(check, g, "two reductions have different operands");
        if (check->lies[group->nodes[i].id] == LIES_LOST)
            return kiln_check_fail(check, g, "a reduction reads other columns");
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        kiln_value value = group->outputs[i].value;
        const kiln_type *type = kiln_graph_type(graph, value);
        bool is_shaped = is_equal_dims(type, anchor->type) || is_equal_dims(type, full);
        if (!is_shaped || check->lies[value.id] == LIES_LOST) {
            return kiln_check_fail(check, g, "an output is neither whole nor one element a column");
        }
    }
    return KILN_OK;
}

/* One node of the class at the heart, outputs at its index; a contraction may write a transpose. */
static kiln_status check_single(kiln_check_state *check, uint32_t g, const kiln_group *group,
                                kiln_class class_)
{
    const kiln_graph *graph = check->schedule->graph;
    const kiln_node *anchor = kiln_graph_node(graph, group->anchor);
    if (count_class(check->schedule, group, class_) != 1) {
        return kiln_check_fail(check, g, "it has not exactly one node of its kind");
    }
    follow(check, group, (reduced_space){0});
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        kiln_value value = group->outputs[i].value;
        const kiln_node *node = kiln_graph_node(graph, value);
        if (class_ == KILN_CONTRACT && node->op == KILN_OP_transpose) value = node->inputs[0];
        bool is_inside = check->mark[value.id] == check->stamp;
        bool is_shaped = is_equal_dims(kiln_graph_type(graph, value), anchor->type);
        if (!is_inside || !is_shaped || check->lies[value.id] == LIES_LOST) {
            return kiln_check_fail(check, g, "an output does not have the result's dims");
        }
    }
    return KILN_OK;
}

/* Each member as a group of its own; a value between two of them is given to the second one. */
static kiln_status check_band(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_graph *graph = check->schedule->graph;
    const kiln_machine *machine = check->schedule->machine;
    if (group->n_members < 2) return kiln_check_fail(check, g, "it has fewer than two members");
    for (uint32_t i = 0; i < group->n_members; i++) {
        const kiln_group *member = &group->members[i];
        bool is_right = i ? kiln_band_may_follow(graph, member - 1, member, machine)
                          : kiln_band_may_begin(graph, member, machine);
        if (!is_right) return kiln_check_fail(check, g, "a member does not fit in a band");
        follow(check, member, (reduced_space){0});
        uint32_t made = member->outputs[0].value.id;
        if (check->lies[made] != LIES_WHOLE)
            return kiln_check_fail(check, g, "a member's result does not have its anchor's dims");
        bool is_last = i + 1 == group->n_members;
        if (is_last ? made != group->outputs[0].value.id : check->maker[made] != KILN_NONE)
            return kiln_check_fail(check, g, "it does not store just what its last member makes");
        check->lies[made] = LIES_FREE;
    }
    return KILN_OK;
}

static kiln_status check_attention(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    kiln_attention_match match;
    if (!kiln_match_attention(check->arena, check->schedule->graph, group->anchor, &match)) {
        return kiln_check_fail(check, g, "it is no softmax between two products");
    }
    uint32_t n_reductions = count_class(check->schedule, group, KILN_REDUCE);
    if (n_reductions != match.n_reductions ||
        count_class(check->schedule, group, KILN_CONTRACT) != 2) {
        return kiln_check_fail(check, g, "it has other products or reductions");
    }
    for (uint32_t id = match.scores.id; id <= match.weights.id; id++) {
        if (!match.is_inside[id]) continue;
        if (check->mark[id] != check->stamp || check->maker[id] != KILN_NONE) {
            return kiln_check_fail(check, g, "a part of its softmax is not its own");
        }
    }
    return KILN_OK;
}

static kiln_status check_pointwise(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_graph *graph = check->schedule->graph;
    static const kiln_class refused[] = {KILN_REDUCE,  KILN_WINDOW, KILN_CONTRACT,
                                         KILN_ROUTINE, KILN_REGION, KILN_COMPOSITE};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (!count_class(check->schedule, group, refused[i])) continue;
        return kiln_check_fail(check, g, "it holds a node that is not pointwise");
    }
    const kiln_type *first = kiln_graph_type(graph, group->outputs[0].value);
    for (uint32_t i = 1; i < group->n_outputs; i++) {
        const kiln_type *type = kiln_graph_type(graph, group->outputs[i].value);
        if (!is_equal_dims(first, type))
            return kiln_check_fail(check, g, "its outputs have different dims");
    }
    return KILN_OK;
}

static kiln_status check_pack(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_operand *output = &group->outputs[0];
    if (group->n_outputs != 1 || output->format == KILN_FORMAT_DENSE) {
        return kiln_check_fail(check, g, "it does not store one packed operand");
    }
    const kiln_node *consumer = kiln_graph_node(check->schedule->graph, output->consumer);
    bool is_contraction = kiln_node_row(consumer)->class_ == KILN_CONTRACT;
    if (!is_contraction || consumer->inputs[1].id != output->value.id) {
        return kiln_check_fail(check, g, "its consumer is no contraction of that operand");
    }
    return KILN_OK;
}

/* The region and its items, nothing else. */
static kiln_status check_region(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    const kiln_graph *graph = check->schedule->graph;
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(graph, group->nodes[i]);
        bool is_anchor = group->nodes[i].id == group->anchor.id && node->type->n_items;
        bool is_item = node->op == KILN_OP_item && node->inputs[0].id == group->anchor.id;
        if (!is_anchor && !is_item)
            return kiln_check_fail(check, g, "it holds more than a region and its items");
    }
    for (uint32_t i = 0; i < group->n_outputs; i++) {
        if (kiln_graph_node(graph, group->outputs[i].value)->op != KILN_OP_item)
            return kiln_check_fail(check, g, "it stores what is no item");
    }
    return KILN_OK;
}

static kiln_status check_shape(kiln_check_state *check, uint32_t g, const kiln_group *group)
{
    bool needs_anchor = group->kind != KILN_GROUP_POINTWISE && group->kind != KILN_GROUP_PACK &&
                        group->kind != KILN_GROUP_HORIZONTAL;
    if (needs_anchor && (!group->anchor.id || check->mark[group->anchor.id] != check->stamp)) {
        return kiln_check_fail(check, g, "its anchor is not one of its nodes");
    }
    switch (group->kind) {
    case KILN_GROUP_POINTWISE:
        return check_pointwise(check, g, group);
    case KILN_GROUP_ROW:
        return check_row(check, g, group);
    case KILN_GROUP_COLUMN:
        return check_column(check, g, group);
    case KILN_GROUP_WINDOW:
        return check_single(check, g, group, KILN_WINDOW);
    case KILN_GROUP_DOT:
    case KILN_GROUP_CONV:
        return check_single(check, g, group, KILN_CONTRACT);
    case KILN_GROUP_BAND:
        return check_band(check, g, group);
    case KILN_GROUP_HORIZONTAL:
        return kiln_check_fail(check, g, "a member has members");
    case KILN_GROUP_PACK:
        return check_pack(check, g, group);
    case KILN_GROUP_ROUTINE:
        return check_single(check, g, group, KILN_ROUTINE);
    case KILN_GROUP_REGION:
        return check_region(check, g, group);
    case KILN_GROUP_ATTENTION:
        return check_attention(check, g, group);
    }
    return kiln_check_fail(check, g, "its kind is unknown");
}

/* Each member as a group of its own; together they store what the group does, in its order. */
static kiln_status check_horizontal(kiln_check_state *check, uint32_t g)
{
    const kiln_group *group = &check->schedule->groups.at[g];
    uint32_t n = 0;
    if (group->n_members < 2) return kiln_check_fail(check, g, "it has fewer than two members");
    for (uint32_t i = 0; i < group->n_members; i++) {
        const kiln_group *member = &group->members[i];
        bool is_allowed = member->kind == KILN_GROUP_POINTWISE || member->kind == KILN_GROUP_ROW ||
                          member->kind == KILN_GROUP_COLUMN;
        if (!is_allowed) return kiln_check_fail(check, g, "a member's kind is not one of its");
        for (uint32_t j = 0; j < member->n_outputs; j++, n++) {
            bool is_same = n < group->n_outputs &&
                           kiln_operand_compare(group->outputs[n], member->outputs[j]) == 0;
            if (!is_same) return kiln_check_fail(check, g, "its outputs are not its members'");
        }
        kiln_status status = kiln_check_group_closed(check, g, member);
        if (!status) status = check_shape(check, g, member);
        if (status) return status;
    }
    bool is_all = n == group->n_outputs;
    return is_all ? KILN_OK : kiln_check_fail(check, g, "it stores what no member does");
}

kiln_status kiln_check_group_shape(kiln_check_state *check, uint32_t g)
{
    const kiln_group *group = &check->schedule->groups.at[g];
    if (group->kind == KILN_GROUP_HORIZONTAL) return check_horizontal(check, g);
    return check_shape(check, g, group);
}
