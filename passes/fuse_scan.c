/* The start of fusion: which nodes live, who reads them, which float, and one cluster for each that
 * computes. Operands of contractions that are not strided memory become copies of their own. */
#include "kiln/program.h"
#include "passes/brief.h"
#include "passes/brief_conv.h"
#include "passes/fuse.h"
#include "passes/row_move.h"

/* A repeated element is written out as a constant of the program up to here. */
#define MAX_CONSTANT_BYTES 4096

bool kiln_fusion_is_small_constant(const kiln_node *node)
{
    if (node->op != KILN_OP_constant) return false;
    const kiln_literal *literal = &node->attrs->literal.value;
    if (literal->kind == KILN_LITERAL_SPLAT) return true;
    return literal->kind == KILN_LITERAL_BYTES && node->type->n_elements <= 16;
}

/* A region reads its operands where they lie in memory: constants, or values that are stored. */
static void keep_operands(kiln_fusion *fusion, const kiln_node *node)
{
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value stored = kiln_stored_value(fusion->graph, node->inputs[i]);
        const kiln_node *operand = kiln_graph_node(fusion->graph, stored);
        if (operand->op == KILN_OP_constant && operand->type->bytes <= MAX_CONSTANT_BYTES) continue;
        fusion->is_kept[stored.id] = true;
    }
}

static void mark_live(kiln_fusion *fusion)
{
    const kiln_graph *graph = fusion->graph;
    for (uint32_t i = 0; i < graph->outputs.n; i++) {
        fusion->is_live[graph->outputs.at[i].value.id] = true;
        fusion->is_kept[kiln_stored_value(graph, graph->outputs.at[i].value).id] = true;
    }
    for (uint32_t i = 0; i < graph->checks.n; i++) {
        fusion->is_live[graph->checks.at[i].value.id] = true;
        fusion->is_kept[kiln_stored_value(graph, graph->checks.at[i].value).id] = true;
    }
    for (uint32_t id = fusion->n_nodes; id-- > 1;) {
        if (!fusion->is_live[id]) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; i < node->n_inputs; i++) fusion->is_live[node->inputs[i].id] = true;
        if (kiln_fusion_is_region(fusion, id)) keep_operands(fusion, node);
    }
}

/* Users in ascending order, each once per operand position. */
static void list_users(kiln_fusion *fusion)
{
    uint32_t n = fusion->n_nodes, *first = kiln_new_array(fusion->arena, uint32_t, n + 2);
    for (uint32_t id = 1; id < n; id++) {
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; fusion->is_live[id] && i < node->n_inputs; i++)
            first[node->inputs[i].id + 2]++;
    }
    for (uint32_t id = 1; id <= n; id++) first[id + 1] += first[id];
    fusion->users = kiln_new_array(fusion->arena, uint32_t, first[n + 1] + 1);
    for (uint32_t id = 1; id < n; id++) {
        const kiln_node *node = kiln_fusion_node(fusion, id);
        for (uint32_t i = 0; fusion->is_live[id] && i < node->n_inputs; i++) {
            fusion->users[first[node->inputs[i].id + 1]++] = id;
        }
    }
    fusion->first_user = first;
}

static bool is_on_constant(const kiln_fusion *fusion, kiln_value value)
{
    kiln_value base = kiln_view_base(fusion->graph, value);
    return kiln_graph_node(fusion->graph, base)->op == KILN_OP_constant;
}

/* Makes the lowest view under `value` that lets it be strided memory a node that is stored. */
static void store_unstrided(kiln_fusion *fusion, kiln_value value)
{
    const kiln_graph *graph = fusion->graph;
    kiln_view_strides strides;
    kiln_value best = {0}, at = value;
    while (kiln_node_row(kiln_graph_node(graph, at))->class_ == KILN_VIEW &&
           fusion->is_floating[at.id]) {
        if (kiln_view_is_strided(graph, value, at, &strides)) best = at;
        at = kiln_graph_node(graph, at)->inputs[0];
    }
    if (kiln_view_is_strided(graph, value, at, &strides)) return;
    if (best.id) fusion->is_floating[best.id] = false;
}

static void store_contraction_operands(kiln_fusion *fusion, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    bool has_tiles = kiln_format_parts((kiln_format)fusion->packing[id]) > 0;
    if (has_tiles && !kiln_fusion_is_readable(fusion, id))
        fusion->is_floating[node->inputs[0].id] = false;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        kiln_value operand = node->inputs[i];
        if (is_on_constant(fusion, operand)) continue;
        if (i == 1 && fusion->packing[id]) continue;
        store_unstrided(fusion, operand);
    }
}

/* Rows per register tile of the products; packing pays from four such tiles on. */
#define TILE_ROWS 12

/* Whether the tiles of a dot pack its right operand themselves: one that stands in memory anyway,
 * since a step that packs computes others as it reads them. Rows of A are met by every block of
 * columns, so they are read in place. */
static bool packs_itself(const kiln_fusion *fusion, uint32_t id, const kiln_matmul_roles *roles)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    kiln_value rows = node->inputs[0], base = kiln_view_base(graph, node->inputs[1]);
    kiln_view_strides at;
    bool is_strided = kiln_view_is_strided(graph, rows, kiln_view_base(graph, rows), &at);
    int64_t inner = roles->a_k.n ? roles->a_k.at[roles->a_k.n - 1] : -1;
    if (!is_strided || inner < 0 || at.strides[inner] != 1) return false;
    return kiln_graph_node(graph, base)->op == KILN_OP_input &&
           node->attrs->dot.accumulate == KILN_f32 &&
           kiln_graph_type(graph, base)->dtype == KILN_f32 &&
           fusion->machine->kind == KILN_MACHINE_CPU &&
           kiln_dot_packs_itself(roles, fusion->pipeline->n_threads);
}

/* Packing a constant costs nothing when it runs; where its rows are whole vectors and the product
 * is brief, reading it in place is as fast and compiles in a third of the time. */
static bool is_left_unpacked(const kiln_fusion *fusion, uint32_t id, const kiln_matmul_roles *roles)
{
    const kiln_graph *graph = fusion->graph;
    kiln_value weights = kiln_fusion_node(fusion, id)->inputs[1];
    const kiln_type *type = kiln_graph_type(graph, weights);
    int64_t row = roles->n_size * (int64_t)kiln_dtype_bytes(type->dtype);
    return kiln_graph_node(graph, weights)->op == KILN_OP_constant && roles->b_n.n == 1 &&
           roles->b_n.at[0] + 1 == type->rank && row % fusion->machine->vector_bytes == 0 &&
           fusion->machine->kind == KILN_MACHINE_CPU &&
           kiln_dot_may_be_brief(fusion->arena, graph, kiln_fusion_value(fusion, id));
}

static bool wants_panels(kiln_fusion *fusion, uint32_t id)
{
    const kiln_graph *graph = fusion->graph;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (node->op == KILN_OP_convolution) {
        if (kiln_conv_choose_form(graph, kiln_fusion_value(fusion, id), fusion->machine) !=
            KILN_CONV_LONG)
            return false;
        const kiln_type *kernel = kiln_graph_type(graph, node->inputs[1]);
        int64_t in = kernel->dims[node->attrs->conv.kernel_axes.at[1]];
        return !(node->attrs->conv.groups > 1 && in == 1);
    }
    kiln_matmul_roles roles;
    kiln_dot_roles(fusion->arena, graph, kiln_fusion_value(fusion, id), &roles);
    kiln_value operand = node->inputs[1];
    if (is_on_constant(fusion, operand)) return !is_left_unpacked(fusion, id, &roles);
    kiln_view_strides at;
    bool is_strided = kiln_view_is_strided(graph, operand, kiln_view_base(graph, operand), &at);
    int64_t inner = roles.b_n.n ? roles.b_n.at[roles.b_n.n - 1] : -1;
    bool is_unit = is_strided && (inner < 0 || roles.n_size == 1 || at.strides[inner] == 1);
    if (roles.n_size * roles.m_size < 16) return false;
    kiln_value value = kiln_fusion_value(fusion, id);
    if (kiln_dot_may_pack_briefly(fusion->arena, graph, value, fusion->machine)) return false;
    if (!is_unit) return true;
    if (packs_itself(fusion, id, &roles)) return false;
    bool is_brief = kiln_dot_may_be_brief(fusion->arena, graph, value);
    return roles.m_size >= 4 * TILE_ROWS && !is_brief;
}

/* Where the kernel is not a constant or features do not fill panels (in graphs from outside) the
 * sums are direct. */
static bool is_winograd(kiln_fusion *fusion, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (node->op != KILN_OP_convolution || !node->attrs->conv.winograd) return false;
    const kiln_type *kernel = kiln_graph_type(fusion->graph, node->inputs[1]);
    const int64_t *axes = node->attrs->conv.kernel_axes.at;
    return kernel->dims[axes[0]] % 16 == 0 && kernel->dims[axes[1]] % 16 == 0 &&
           is_on_constant(fusion, node->inputs[1]);
}

static void mark_floating(kiln_fusion *fusion)
{
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        const kiln_node *node = kiln_fusion_node(fusion, id);
        kiln_class class_ = kiln_fusion_class(fusion, id);
        bool is_free =
            class_ == KILN_VIEW || node->op == KILN_OP_iota || kiln_fusion_is_small_constant(node);
        fusion->is_floating[id] = is_free && !fusion->is_kept[id];
    }
    for (uint32_t id = 1; id < fusion->n_nodes; id++) {
        if (!fusion->is_live[id] || kiln_fusion_class(fusion, id) != KILN_CONTRACT) continue;
        fusion->packing[id] = kiln_fusion_tile_format(fusion, id);
        if (!fusion->packing[id] && is_winograd(fusion, id))
            fusion->packing[id] = KILN_FORMAT_WINOGRAD_N16;
        if (!fusion->packing[id] && wants_panels(fusion, id))
            fusion->packing[id] = KILN_FORMAT_PANEL16;
    }
    kiln_fuse_weights(fusion);
    for (uint32_t id = 1; id < fusion->n_nodes; id++)
        if (fusion->is_live[id] && kiln_fusion_class(fusion, id) == KILN_CONTRACT)
            store_contraction_operands(fusion, id);
}

static kiln_group_kind first_kind(kiln_fusion *fusion, uint32_t id, kiln_row_space *out_space)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    switch (kiln_fusion_class(fusion, id)) {
    case KILN_REDUCE:
        return kiln_reduce_row_space(fusion->graph, kiln_fusion_value(fusion, id), out_space)
                   ? KILN_GROUP_ROW
                   : KILN_GROUP_COLUMN;
    case KILN_WINDOW:
        return KILN_GROUP_WINDOW;
    case KILN_CONTRACT:
        return node->op == KILN_OP_convolution ? KILN_GROUP_CONV : KILN_GROUP_DOT;
    case KILN_ROUTINE:
        return KILN_GROUP_ROUTINE;
    case KILN_SOURCE:
    case KILN_ELEMENTWISE:
    case KILN_VIEW:
    case KILN_MOVE:
        return KILN_GROUP_POINTWISE;
    case KILN_REGION:
        if (!kiln_node_is_scalar_region(node)) return KILN_GROUP_REGION;
        break;
    case KILN_COMPOSITE:
        break;
    }
    kiln_fail(fusion->pipeline->scope, KILN_UNSUPPORTED,
              "fuse: %s: no group computes it; expected an operation that the passes before have "
              "replaced",
              kiln_node_string(fusion->arena, fusion->graph, kiln_fusion_value(fusion, id)));
}

/* Inputs and large constants are read where they lie; only kept splats and iotas are written. */
static bool is_read_in_place(const kiln_fusion *fusion, uint32_t id)
{
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (node->op == KILN_OP_input) return true;
    return node->op == KILN_OP_constant && !kiln_fusion_is_small_constant(node);
}

static void start_clusters(kiln_fusion *fusion)
{
    for (uint32_t id = 0; id < fusion->n_nodes; id++) {
        fusion->cluster_of[id] = KILN_NONE;
        if (!id || !fusion->is_live[id] || fusion->is_floating[id]) continue;
        if (is_read_in_place(fusion, id)) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        if (node->op == KILN_OP_item) {
            uint32_t number = fusion->cluster_of[node->inputs[0].id];
            kiln_vec_push(&fusion->clusters.at[number].nodes, fusion->arena, id);
            fusion->cluster_of[id] = number;
            continue;
        }
        kiln_cluster cluster = {.is_alive = true};
        cluster.kind = first_kind(fusion, id, &cluster.space);
        if (cluster.kind != KILN_GROUP_POINTWISE) {
            cluster.anchor = id;
            bool is_per_row = cluster.kind == KILN_GROUP_ROW || cluster.kind == KILN_GROUP_COLUMN;
            fusion->role[id] = (uint8_t)(is_per_row ? KILN_ROLE_ROW : KILN_ROLE_FULL);
        }
        const kiln_graph *graph = fusion->graph;
        cluster.origin =
            id < graph->origins.n && graph->origins.at[id] ? graph->origins.at[id] : id;
        kiln_vec_push(&cluster.nodes, fusion->arena, id);
        fusion->cluster_of[id] = fusion->clusters.n;
        kiln_vec_push(&fusion->clusters, fusion->arena, cluster);
    }
}

void kiln_fusion_scan(kiln_fusion *fusion)
{
    uint32_t n = fusion->n_nodes;
    fusion->is_live = kiln_new_array(fusion->arena, bool, n + 1);
    fusion->is_kept = kiln_new_array(fusion->arena, bool, n + 1);
    fusion->is_floating = kiln_new_array(fusion->arena, bool, n + 1);
    fusion->is_assembled = kiln_new_array(fusion->arena, bool, n + 1);
    fusion->is_part = kiln_new_array(fusion->arena, bool, n + 1);
    fusion->packing = kiln_new_array(fusion->arena, uint8_t, n + 1);
    fusion->weights = kiln_new_array(fusion->arena, const kiln_weights *, n + 1);
    fusion->role = kiln_new_array(fusion->arena, uint8_t, n + 1);
    fusion->cluster_of = kiln_new_array(fusion->arena, uint32_t, n + 1);
    fusion->node_stamp = kiln_new_array(fusion->arena, uint32_t, n + 1);
    fusion->cluster_stamp = kiln_new_array(fusion->arena, uint32_t, n + 1);
    fusion->evals = kiln_new_array(fusion->arena, double, n + 1);
    fusion->evals_elsewhere = kiln_new_array(fusion->arena, double, n + 1);
    fusion->copies = kiln_new_array(fusion->arena, double, n + 1);
    fusion->copies_elsewhere = kiln_new_array(fusion->arena, double, n + 1);
    mark_live(fusion);
    list_users(fusion);
    mark_floating(fusion);
    start_clusters(fusion);
}
