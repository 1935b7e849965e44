/* Which stage a reduction, an output and a kept value of a group belong to; see lower_stage.h. */
#include "codegen/lower_stage.h"

#include "base/checked.h"
#include "codegen/math.h"
#include "kiln/program.h"

/* Keeping costs a store and a load for each later stage; a value cheaper than this is made again.
 */
#define KEEP_COST 2.5

/* A stage is parted when what it reduces costs more than this, in cycles of a vector. */
#define PART_COST 4.0

typedef struct stage_node {
    uint32_t level;  /* reductions of stages below this one must be known */
    uint32_t needed; /* set of stages that evaluate it */
    double cost;     /* of evaluating it with all below it, in cycles of a vector */
    bool is_moved;   /* a view or a copy reads it, or what is computed of it, at other elements */
} stage_node;

static bool is_reduction(const kiln_node *node)
{
    return kiln_node_row(node)->class_ == KILN_REDUCE;
}

/* Cycles of one ELEMENTWISE op on a vector: what its instructions come to. */
static double op_cost(kiln_lower *lower, const kiln_node *node)
{
    kiln_lower scratch = {.scope = lower->scope, .machine = lower->machine};
    scratch.kernel = kiln_kernel_create(lower->scope, lower->machine, "cost");
    kiln_kv args[3] = {0};
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_dtype dtype =
            kiln_compute_dtype(kiln_graph_type(lower->graph, node->inputs[i])->dtype);
        kiln_kv zero = kiln_k_const_i64(scratch.kernel, 0);
        uint32_t local = kiln_kernel_add_local(scratch.kernel, dtype, 64);
        args[i] = kiln_k_load(scratch.kernel, local, zero, lower->lanes, 0, 0);
    }
    uint32_t first = scratch.kernel->instrs.n;
    kiln_value typed = node->inputs[node->op == KILN_OP_select ? 1 : 0];
    kiln_dtype dtype = kiln_graph_type(lower->graph, typed)->dtype;
    kiln_math_op(scratch.kernel, (kiln_op)node->op, dtype, node->type->dtype, args);
    return kiln_lower_cost(scratch.kernel, first);
}

static double node_cost(kiln_lower *lower, const stage_node *nodes, const kiln_node *node)
{
    kiln_class class_ = kiln_node_row(node)->class_;
    double cost = 0;
    if (class_ == KILN_REDUCE) return 0;
    if (class_ == KILN_ELEMENTWISE) cost = op_cost(lower, node);
    if (class_ == KILN_MOVE) cost = 8;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        uint32_t at = kiln_lower_position(lower, node->inputs[i]);
        cost += at == KILN_NONE ? 0.5 : nodes[at].cost;
    }
    return cost;
}

static void find_levels(kiln_lower *lower, stage_node *nodes)
{
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            if (at == KILN_NONE) continue;
            uint32_t level = nodes[at].level;
            nodes[i].level = level > nodes[i].level ? level : nodes[i].level;
        }
        nodes[i].cost = node_cost(lower, nodes, node);
        if (is_reduction(node)) nodes[i].level++;
        if (nodes[i].level >= KILN_MAX_STAGES)
            kiln_fail(lower->scope, KILN_LIMIT,
                      "group %s: more than %d reductions in a chain; expected fewer",
                      lower->group->label, KILN_MAX_STAGES - 1);
    }
}

static void find_shape(kiln_lower *lower, kiln_stages *stages)
{
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        if (!is_reduction(node)) continue;
        const kiln_type *operand = kiln_graph_type(lower->graph, node->inputs[0]);
        int64_t n = node->type->n_elements;
        int64_t reduced = n > 0 ? operand->n_elements / n : 0;
        bool is_first = stages->full == NULL;
        if (is_first) stages->full = operand;
        if (is_first) stages->n_results = n, stages->n_reduced = reduced;
        if (stages->n_results != n || stages->n_reduced != reduced)
            kiln_fail(lower->scope, KILN_INTERNAL,
                      "group %s: reductions over %lld and %lld elements; "
                      "expected one domain",
                      lower->group->label, (long long)stages->n_reduced, (long long)reduced);
    }
    if (!stages->full)
        kiln_fail(lower->scope, KILN_INTERNAL, "group %s: no reduction; expected one",
                  lower->group->label);
}

bool kiln_lower_writes_over_inputs(const kiln_lower *lower)
{
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        uint32_t buffer = lower->buffer_of[lower->group->n_inputs + i];
        bool is_local = buffer >= KILN_LOCAL_FIRST; /* of a member of a band */
        if (!is_local && lower->kernel->params.at[buffer].may_overlap) return true;
    }
    return false;
}

static uint32_t last_stage(const kiln_lower *lower, const stage_node *nodes)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        uint32_t at = nodes[i].level - (is_reduction(node) ? 1 : 0);
        last = at > last ? at : last;
    }
    return last;
}

/* Reductions into their stages, outputs of the full shape into the first that can make them; into
 * the last when an output lies over an input, which later stages may read again. */
static void place_roots(kiln_lower *lower, stage_node *nodes, kiln_stages *stages)
{
    kiln_arena *arena = &lower->scope->arena;
    uint32_t least = kiln_lower_writes_over_inputs(lower) ? last_stage(lower, nodes) : 0;
    for (uint32_t i = 0; i < lower->group->n_nodes; i++) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        if (!is_reduction(node)) continue;
        uint32_t at = nodes[i].level - 1, operand = kiln_lower_position(lower, node->inputs[0]);
        kiln_vec_push(&stages->stage[at].reductions, arena, lower->group->nodes[i]);
        if (operand != KILN_NONE) nodes[operand].needed |= 1u << at;
        if (at >= stages->n) stages->n = at + 1;
    }
    for (uint32_t i = 0; i < lower->group->n_outputs; i++) {
        kiln_value value = lower->group->outputs[i].value;
        if (kiln_graph_type(lower->graph, value)->n_elements == stages->n_results) {
            kiln_vec_push(&stages->small_outputs, arena, i);
            continue;
        }
        uint32_t position = kiln_lower_position(lower, value);
        uint32_t at = position == KILN_NONE ? 0 : nodes[position].level;
        if (at < least) at = least;
        kiln_vec_push(&stages->stage[at].outputs, arena, i);
        if (position != KILN_NONE) nodes[position].needed |= 1u << at;
        if (at >= stages->n) stages->n = at + 1;
    }
}

static bool is_full_shape(const kiln_type *full, const kiln_type *type)
{
    return type->rank == full->rank &&
           memcmp(type->dims, full->dims, full->rank * sizeof *full->dims) == 0;
}

/* Which nodes are read at other elements than the one at work, perhaps of another row. */
static void find_moved(const kiln_lower *lower, stage_node *nodes)
{
    for (uint32_t i = lower->group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        if (is_reduction(node)) continue;
        bool is_in_place =
            kiln_node_row(node)->class_ == KILN_ELEMENTWISE || node->op == KILN_OP_reshape;
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            if (at != KILN_NONE) nodes[at].is_moved |= nodes[i].is_moved || !is_in_place;
        }
    }
}

/* From the last node to the first: a node needed in several stages is kept if it is dear and only
 * read where it was made, and then what is below it is needed in the first of them only. */
static void find_kept(kiln_lower *lower, stage_node *nodes, int64_t keep_bytes, kiln_stages *stages)
{
    for (uint32_t i = lower->group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(lower->graph, lower->group->nodes[i]);
        uint32_t needed = nodes[i].needed;
        bool is_map = kiln_node_row(node)->class_ == KILN_ELEMENTWISE;
        if (is_reduction(node) || needed == 0) continue;
        int64_t bytes =
            stages->n_reduced * (int64_t)kiln_dtype_bytes(kiln_compute_dtype(node->type->dtype));
        bool is_shared = (needed & (needed - 1)) != 0;
        if (is_shared && is_map && !nodes[i].is_moved && is_full_shape(stages->full, node->type) &&
            nodes[i].cost >= KEEP_COST && bytes <= keep_bytes) {
            needed &= ~needed + 1;
            keep_bytes -= bytes;
            kiln_stage *stage = &stages->stage[__builtin_ctz(needed)];
            kiln_vec_push(&stage->kept, &lower->scope->arena, lower->group->nodes[i]);
        }
        for (uint32_t j = 0; j < node->n_inputs; j++) {
            uint32_t at = kiln_lower_position(lower, node->inputs[j]);
            if (at != KILN_NONE) nodes[at].needed |= needed;
        }
    }
}

static bool is_kept_before(const kiln_stages *stages, uint32_t stage, kiln_value node)
{
    for (uint32_t s = 0; s < stage; s++)
        for (uint32_t i = 0; i < stages->stage[s].kept.n; i++)
            if (stages->stage[s].kept.at[i].id == node.id) return true;
    return false;
}

static void reach(const kiln_lower *lower, bool *is_reached, kiln_value value)
{
    uint32_t at = kiln_lower_position(lower, value);
    if (at != KILN_NONE) is_reached[at] = true;
}

static void find_maps(kiln_lower *lower, uint32_t number, kiln_stages *stages)
{
    const kiln_group *group = lower->group;
    kiln_stage *stage = &stages->stage[number];
    bool *is_map = kiln_new_array(&lower->scope->arena, bool, group->n_nodes + 1);
    for (uint32_t i = 0; i < stage->reductions.n; i++)
        reach(lower, is_map, kiln_graph_node(lower->graph, stage->reductions.at[i])->inputs[0]);
    for (uint32_t i = 0; i < stage->outputs.n; i++)
        reach(lower, is_map, group->outputs[stage->outputs.at[i]].value);
    for (uint32_t i = 0; i < stage->kept.n; i++) reach(lower, is_map, stage->kept.at[i]);
    for (uint32_t i = group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(lower->graph, group->nodes[i]);
        is_map[i] = is_map[i] && kiln_node_row(node)->class_ == KILN_ELEMENTWISE &&
                    is_full_shape(stages->full, node->type) &&
                    !is_kept_before(stages, number, group->nodes[i]);
        for (uint32_t j = 0; is_map[i] && j < node->n_inputs; j++)
            reach(lower, is_map, node->inputs[j]);
    }
    for (uint32_t i = 0; i < group->n_nodes; i++)
        if (is_map[i]) kiln_vec_push(&stage->maps, &lower->scope->arena, group->nodes[i]);
}

/* Whether the operand of a reduction may be kept for it, and is worth it. */
static bool is_dear(const kiln_lower *lower, const stage_node *nodes, const kiln_stages *stages,
                    kiln_value reduction)
{
    kiln_value operand = kiln_graph_node(lower->graph, reduction)->inputs[0];
    const kiln_node *node = kiln_graph_node(lower->graph, operand);
    uint32_t at = kiln_lower_position(lower, operand);
    return at != KILN_NONE && nodes[at].cost > PART_COST && !nodes[at].is_moved &&
           kiln_node_row(node)->class_ == KILN_ELEMENTWISE &&
           is_full_shape(stages->full, node->type);
}

static bool is_kept(const kiln_stage *stage, kiln_value node)
{
    for (uint32_t i = 0; i < stage->kept.n; i++)
        if (stage->kept.at[i].id == node.id) return true;
    return false;
}

/* Stage `number` becomes two: one that makes and keeps what its reductions read, with the outputs,
 * and one that reduces. */
static void part_stage(kiln_lower *lower, const stage_node *nodes, uint32_t number,
                       kiln_stages *stages)
{
    kiln_stage *made = &stages->stage[number];
    uint32_t n_dear = 0;
    for (uint32_t i = 0; i < made->reductions.n; i++)
        n_dear += is_dear(lower, nodes, stages, made->reductions.at[i]);
    if (n_dear == 0 || n_dear < made->reductions.n || stages->n == KILN_MAX_STAGES) return;
    for (uint32_t i = stages->n++; i > number + 1; i--) stages->stage[i] = stages->stage[i - 1];
    stages->stage[number + 1] = (kiln_stage){.reductions = made->reductions};
    for (uint32_t i = 0; i < made->reductions.n; i++) {
        kiln_value operand = kiln_graph_node(lower->graph, made->reductions.at[i])->inputs[0];
        if (!is_kept(made, operand)) kiln_vec_push(&made->kept, &lower->scope->arena, operand);
    }
    memset(&made->reductions, 0, sizeof made->reductions);
}

void kiln_stages_find(kiln_lower *lower, int64_t keep_bytes, bool is_parted,
                      kiln_stages *out_stages)
{
    stage_node *nodes = kiln_new_array(&lower->scope->arena, stage_node, lower->group->n_nodes);
    memset(out_stages, 0, sizeof *out_stages);
    find_shape(lower, out_stages);
    find_levels(lower, nodes);
    place_roots(lower, nodes, out_stages);
    find_moved(lower, nodes);
    find_kept(lower, nodes, keep_bytes, out_stages);
    for (uint32_t i = out_stages->n; is_parted && i-- > 0;)
        part_stage(lower, nodes, i, out_stages);
    for (uint32_t i = 0; i < out_stages->n; i++) find_maps(lower, i, out_stages);
}
