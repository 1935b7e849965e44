/* Clusters to groups: each takes the floating nodes that it reads through; packed operands get PACK
 * groups; then the groups are put in order. */
#include <stdlib.h>
#include <string.h>

#include "kiln/program.h"
#include "passes/fuse.h"

typedef struct group_builder {
    kiln_fusion *fusion;
    uint32_t number; /* cluster */
    kiln_ids nodes, pending;
    kiln_vec(kiln_operand) inputs, outputs;
} group_builder;

static bool is_on_constant(const kiln_fusion *fusion, kiln_value value)
{
    kiln_value base = kiln_view_base(fusion->graph, value);
    return kiln_graph_node(fusion->graph, base)->op == KILN_OP_constant;
}

static void add_input(group_builder *builder, kiln_operand operand)
{
    for (uint32_t i = 0; i < builder->inputs.n; i++) {
        if (kiln_operand_compare(builder->inputs.at[i], operand) == 0) return;
    }
    kiln_vec_push(&builder->inputs, builder->fusion->arena, operand);
}

static void visit_operand(group_builder *builder, kiln_value value)
{
    kiln_fusion *fusion = builder->fusion;
    bool is_own = builder->number != KILN_NONE && fusion->cluster_of[value.id] == builder->number;
    bool is_inside = is_own || fusion->is_floating[value.id];
    if (!is_inside) {
        add_input(builder, (kiln_operand){.value = value, .format = KILN_FORMAT_DENSE});
    } else if (fusion->node_stamp[value.id] != fusion->stamp) {
        fusion->node_stamp[value.id] = fusion->stamp;
        kiln_vec_push(&builder->pending, fusion->arena, value.id);
    }
}

/* Weights that are widened as they are read: the constants under them, and how. */
static void visit_weights(group_builder *builder, uint32_t id)
{
    kiln_fusion *fusion = builder->fusion;
    const kiln_weights *weights = fusion->weights[id];
    kiln_operand operand = {.value = weights->codes,
                            .format = (kiln_format)fusion->packing[id],
                            .consumer = kiln_fusion_value(fusion, id)};
    add_input(builder, operand);
    operand.format = KILN_FORMAT_TABLE16;
    for (uint32_t i = 0; i < weights->n_tables; i++) {
        operand.value = weights->tables[i];
        add_input(builder, operand);
    }
    for (uint32_t i = 0; i < weights->n_nodes; i++) {
        uint32_t node = weights->nodes[i].id;
        if (fusion->node_stamp[node] == fusion->stamp) continue;
        fusion->node_stamp[node] = fusion->stamp;
        kiln_vec_push(&builder->nodes, fusion->arena, node);
    }
}

/* Operands of a contraction on constants are constants in the form that the contraction reads. */
static void visit_contraction(group_builder *builder, uint32_t id)
{
    kiln_fusion *fusion = builder->fusion;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_operand operand = {.value = node->inputs[i], .format = KILN_FORMAT_DENSE};
        if (i == 1 && fusion->weights[id]) {
            visit_weights(builder, id);
        } else if (i == 1 && fusion->packing[id]) {
            operand.format = (kiln_format)fusion->packing[id];
            operand.consumer = kiln_fusion_value(fusion, id);
            add_input(builder, operand);
        } else if (is_on_constant(fusion, operand.value)) {
            add_input(builder, operand);
        } else {
            visit_operand(builder, operand.value);
        }
    }
}

static void visit_region(group_builder *builder, const kiln_node *node)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value stored = kiln_stored_value(builder->fusion->graph, node->inputs[i]);
        add_input(builder, (kiln_operand){.value = stored, .format = KILN_FORMAT_DENSE});
    }
}

static void collect_nodes(group_builder *builder)
{
    kiln_fusion *fusion = builder->fusion;
    while (builder->pending.n) {
        uint32_t id = builder->pending.at[--builder->pending.n];
        kiln_vec_push(&builder->nodes, fusion->arena, id);
        const kiln_node *node = kiln_fusion_node(fusion, id);
        if (kiln_node_row(node)->class_ == KILN_CONTRACT) {
            visit_contraction(builder, id);
            continue;
        }
        if (kiln_fusion_is_region(fusion, id)) {
            visit_region(builder, node);
            continue;
        }
        for (uint32_t i = 0; i < node->n_inputs; i++) visit_operand(builder, node->inputs[i]);
    }
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static int compare_operands(const void *a, const void *b)
{
    return kiln_operand_compare(*(const kiln_operand *)a, *(const kiln_operand *)b);
}

/* The user's name for what the group ends in; else the op at its heart. */
static const char *group_label(const kiln_fusion *fusion, const kiln_group *group)
{
    for (uint32_t i = group->n_nodes; i-- > 0;) {
        const kiln_node *node = kiln_graph_node(fusion->graph, group->nodes[i]);
        if (node->label) return node->label;
    }
    kiln_value heart = group->anchor;
    if (!heart.id && group->n_outputs) heart = group->outputs[group->n_outputs - 1].value;
    return heart.id ? kiln_node_row(kiln_graph_node(fusion->graph, heart))->name : "";
}

static kiln_group finish_group(group_builder *builder, kiln_group group)
{
    kiln_fusion *fusion = builder->fusion;
    if (builder->nodes.n) qsort(builder->nodes.at, builder->nodes.n, sizeof(uint32_t), compare_ids);
    if (builder->inputs.n) {
        qsort(builder->inputs.at, builder->inputs.n, sizeof(kiln_operand), compare_operands);
    }
    kiln_value *nodes = kiln_new_array(fusion->arena, kiln_value, builder->nodes.n + 1);
    for (uint32_t i = 0; i < builder->nodes.n; i++) {
        nodes[i] = kiln_fusion_value(fusion, builder->nodes.at[i]);
    }
    group.n_nodes = builder->nodes.n;
    group.nodes = nodes;
    group.n_inputs = builder->inputs.n;
    group.inputs = builder->inputs.at;
    group.n_outputs = builder->outputs.n;
    group.outputs = builder->outputs.at;
    group.label = group_label(fusion, &group);
    return group;
}

static kiln_group cluster_group(kiln_fusion *fusion, uint32_t number)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    group_builder builder = {.fusion = fusion, .number = number};
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        if (!kiln_fusion_is_stored(fusion, id, number, KILN_NONE)) continue;
        kiln_operand operand = {.value = kiln_fusion_value(fusion, id),
                                .format = KILN_FORMAT_DENSE};
        kiln_vec_push(&builder.outputs, fusion->arena, operand);
    }
    kiln_group group = {.kind = cluster->kind};
    kiln_cost cost = kiln_fusion_cost(fusion, number, KILN_NONE);
    group.flops = (int64_t)cost.flops;
    group.bytes = (int64_t)cost.bytes;
    group.ns = cost.one_core_ns;
    if (cluster->anchor) group.anchor = kiln_fusion_value(fusion, cluster->anchor);
    fusion->stamp++;
    for (uint32_t i = 0; i < builder.outputs.n; i++)
        visit_operand(&builder, builder.outputs.at[i].value);
    collect_nodes(&builder);
    return finish_group(&builder, group);
}

static kiln_group pack_group(kiln_fusion *fusion, uint32_t id)
{
    kiln_operand operand = {
        .value = kiln_fusion_node(fusion, id)->inputs[1],
        .format = (kiln_format)fusion->packing[id],
        .consumer = kiln_fusion_value(fusion, id),
    };
    group_builder builder = {.fusion = fusion, .number = KILN_NONE};
    fusion->stamp++;
    bool is_view = fusion->is_floating[operand.value.id];
    if (is_view)
        visit_operand(&builder, operand.value);
    else
        add_input(&builder, (kiln_operand){.value = operand.value, .format = KILN_FORMAT_DENSE});
    collect_nodes(&builder);
    kiln_vec_push(&builder.outputs, fusion->arena, operand);
    kiln_group group = {.kind = KILN_GROUP_PACK, .anchor = operand.consumer};
    int64_t bytes = kiln_operand_bytes(fusion->graph, operand);
    group.bytes = bytes + kiln_graph_type(fusion->graph, operand.value)->bytes;
    group.ns = (double)group.bytes / fusion->machine->l3_bytes_per_ns;
    return finish_group(&builder, group);
}

static bool needs_pack_group(const kiln_fusion *fusion, uint32_t id)
{
    return fusion->packing[id] && !fusion->weights[id] &&
           !is_on_constant(fusion, kiln_fusion_node(fusion, id)->inputs[1]);
}

void kiln_fusion_emit(kiln_fusion *fusion)
{
    kiln_vec(kiln_group) groups = {0};
    for (uint32_t number = 0; number < fusion->clusters.n; number++) {
        const kiln_cluster *cluster = &fusion->clusters.at[number];
        if (!cluster->is_alive) continue;
        for (uint32_t i = 0; i < cluster->nodes.n; i++) {
            if (!needs_pack_group(fusion, cluster->nodes.at[i])) continue;
            kiln_vec_push(&groups, fusion->arena, pack_group(fusion, cluster->nodes.at[i]));
        }
        kiln_vec_push(&groups, fusion->arena, cluster_group(fusion, number));
    }
    uint32_t *order = kiln_new_array(fusion->arena, uint32_t, groups.n + 1);
    kiln_order_groups(fusion->schedule, groups.at, groups.n, order);
    for (uint32_t i = 0; i < groups.n; i++) {
        kiln_vec_push(&fusion->schedule->groups, fusion->arena, groups.at[order[i]]);
    }
}
