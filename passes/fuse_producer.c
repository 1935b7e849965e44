/* Producers: POINTWISE clusters merge into what reads them, as a prologue or as part of a larger
 * pointwise group; whole values that others need as well become further outputs. What is left and
 * cheap is computed again by each reader:
 *
 *     group: %3 = add %1, %2 -> stored        each reader: %3 = add %1, %2, then its own work
 *
 * The cost model decides; the rules here only say what a group of each kind can express. */
#include <math.h>
#include <string.h>

#include "kiln/program.h"
#include "passes/fuse.h"
#include "passes/row_move.h"

#define MAX_NODES 512
#define MAX_EPILOGUE_NODES 128

static bool is_same_dims(const kiln_type *a, const kiln_type *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

const kiln_type *kiln_fusion_stored_type(kiln_fusion *fusion, uint32_t number)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    for (uint32_t i = cluster->nodes.n; i-- > 0;) {
        uint32_t id = cluster->nodes.at[i];
        if (kiln_fusion_is_stored(fusion, id, number, KILN_NONE))
            return kiln_fusion_node(fusion, id)->type;
    }
    return kiln_fusion_node(fusion, cluster->nodes.at[cluster->nodes.n - 1])->type;
}

static bool is_row_shaped(const kiln_row_space *space, const kiln_type *type)
{
    if (is_same_dims(space->type, type)) return true;
    return type->rank == space->n_row_axes &&
           memcmp(type->dims, space->type->dims, type->rank * sizeof *type->dims) == 0;
}

/* Whether the consumer's group can also store a value of this type. */
static bool can_store(kiln_fusion *fusion, uint32_t consumer, const kiln_type *type)
{
    const kiln_cluster *cluster = &fusion->clusters.at[consumer];
    if (cluster->kind == KILN_GROUP_ROW) return is_row_shaped(&cluster->space, type);
    if (cluster->kind == KILN_GROUP_POINTWISE)
        return is_same_dims(kiln_fusion_stored_type(fusion, consumer), type);
    return false;
}

static bool stores_fit(kiln_fusion *fusion, uint32_t producer, uint32_t consumer)
{
    const kiln_cluster *cluster = &fusion->clusters.at[producer];
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        if (!kiln_fusion_is_stored(fusion, id, producer, consumer)) continue;
        if (!can_store(fusion, consumer, kiln_fusion_node(fusion, id)->type)) return false;
    }
    return true;
}

/* Whether node `id` belongs to the producer, or reads it through floating nodes. */
static bool reads_producer(kiln_fusion *fusion, uint32_t producer, uint32_t id)
{
    kiln_ids *sources = &fusion->found;
    if (fusion->cluster_of[id] == producer) return true;
    if (fusion->cluster_of[id] != KILN_NONE || !fusion->is_floating[id]) return false;
    sources->n = 0;
    kiln_fusion_sources(fusion, id, sources);
    for (uint32_t i = 0; i < sources->n; i++) {
        if (fusion->cluster_of[sources->at[i]] == producer) return true;
    }
    return false;
}

/* Queries of an attention: a block of rows is copied once, for all keys, so what makes them runs in
 * the copy. In bf16 keys and values are packed once as well. */
static bool is_copied_once(const kiln_fusion *fusion, const kiln_cluster *cluster, uint32_t id,
                           uint32_t operand)
{
    if (cluster->kind != KILN_GROUP_ATTENTION) return false;
    const kiln_node *node = kiln_fusion_node(fusion, id);
    if (id == cluster->anchor && operand == 0) return false;
    bool is_f32 = kiln_graph_type(fusion->graph, node->inputs[0])->dtype == KILN_f32;
    return is_f32 ? id != cluster->anchor && operand == 0 : true;
}

/* The move whose rows product `id` may read where they stand, when this cluster is its group. */
static kiln_value rows_read(kiln_fusion *fusion, const kiln_cluster *cluster, uint32_t id)
{
    kiln_value none = {0}, product = kiln_fusion_value(fusion, id);
    bool is_plain = kiln_format_parts((kiln_format)fusion->packing[id]) == 0;
    bool is_cpu = fusion->machine->kind == KILN_MACHINE_CPU;
    if (cluster->kind != KILN_GROUP_DOT || !is_plain || !is_cpu) return none;
    kiln_value move = kiln_dot_row_move(fusion->arena, fusion->graph, product);
    if (!move.id) return none;
    kiln_value table = kiln_fusion_node(fusion, move.id)->inputs[0];
    table = kiln_stored_value(fusion->graph, table);
    return fusion->is_floating[table.id] ? none : move;
}

/* Whether such rows are made by the producer, and what they are read from is not. */
static bool is_read_in_rows(kiln_fusion *fusion, uint32_t producer, kiln_value move)
{
    if (!move.id || fusion->cluster_of[move.id] != producer) return false;
    return !reads_producer(fusion, producer, kiln_fusion_node(fusion, move.id)->inputs[0].id);
}

/* Whether a contraction reads the producer as an operand, which it can only do from memory. */
static bool is_contraction_operand(kiln_fusion *fusion, uint32_t producer, uint32_t consumer)
{
    const kiln_cluster *cluster = &fusion->clusters.at[consumer];
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        if (kiln_fusion_class(fusion, id) != KILN_CONTRACT) continue;
        const kiln_node *node = kiln_fusion_node(fusion, id);
        kiln_value move = rows_read(fusion, cluster, id);
        bool is_inside = move.id && fusion->cluster_of[move.id] == consumer;
        if (is_inside &&
            reads_producer(fusion, producer, kiln_fusion_node(fusion, move.id)->inputs[0].id))
            return true;
        for (uint32_t operand = 0; operand < node->n_inputs; operand++) {
            if (is_copied_once(fusion, cluster, id, operand)) continue;
            if (operand == 0 && is_read_in_rows(fusion, producer, move)) continue;
            if (reads_producer(fusion, producer, node->inputs[operand].id)) return true;
        }
    }
    return false;
}

/* Why `producer` cannot be computed inside `consumer`'s kernel; NULL when it can. */
static const char *refusal(kiln_fusion *fusion, uint32_t producer, uint32_t consumer)
{
    const kiln_cluster *cluster = &fusion->clusters.at[consumer];
    uint32_t n = cluster->nodes.n + fusion->clusters.at[producer].nodes.n, most = MAX_NODES;
    switch (cluster->kind) {
    case KILN_GROUP_POINTWISE:
    case KILN_GROUP_ROW:
    case KILN_GROUP_COLUMN:
    case KILN_GROUP_WINDOW:
        break;
    case KILN_GROUP_DOT:
    case KILN_GROUP_CONV:
    case KILN_GROUP_ATTENTION:
        most = MAX_EPILOGUE_NODES;
        if (is_contraction_operand(fusion, producer, consumer))
            return "operands of contractions are stored";
        break;
    case KILN_GROUP_BAND:
    case KILN_GROUP_HORIZONTAL:
    case KILN_GROUP_PACK:
    case KILN_GROUP_ROUTINE:
    case KILN_GROUP_REGION:
        return "operands of routines are stored";
    }
    return n > most ? "the group is full" : NULL;
}

static bool absorb(kiln_fusion *fusion, uint32_t producer, uint32_t consumer)
{
    if (!kiln_fusion_may_meet(fusion, producer, consumer)) return false;
    const char *reason = refusal(fusion, producer, consumer);
    if (!reason && !stores_fit(fusion, producer, consumer)) {
        reason = "its value is also stored, with other dims";
    }
    if (!reason && kiln_fusion_has_detour(fusion, producer, consumer)) {
        reason = "another group lies between them";
    }
    if (!reason) reason = kiln_fusion_objection(fusion, producer, consumer);
    if (!reason) {
        kiln_fusion_merge(fusion, producer, consumer);
        fusion->known = consumer;
        fusion->known_cost = fusion->joint;
        return true;
    }
    const kiln_cluster *from = &fusion->clusters.at[producer], *to = &fusion->clusters.at[consumer];
    if (fusion->is_last_round) {
        kiln_fusion_refuse(fusion, from->nodes.at[from->nodes.n - 1], to->nodes.at[0], reason);
    }
    return false;
}

/* The clusters that read `number`, ascending by number, its own not included. */
static void list_consumers(kiln_fusion *fusion, uint32_t number, kiln_ids *out)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    out->n = 0;
    fusion->stamp++;
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        kiln_fusion_more_readers(fusion, cluster->nodes.at[i], out);
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < out->n; i++) {
        if (out->at[i] != number) out->at[n++] = out->at[i];
    }
    out->n = n;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t item = out->at[i], at = i;
        for (; at > 0 && out->at[at - 1] > item; at--) out->at[at] = out->at[at - 1];
        out->at[at] = item;
    }
}

/* With very many readers only the first are tried: the rest read what is stored. */
#define MAX_CONSUMERS 64

static bool absorb_all(kiln_fusion *fusion)
{
    kiln_ids consumers = {0};
    bool has_changed = false;
    for (uint32_t number = fusion->clusters.n; number-- > 0;) {
        const kiln_cluster *cluster = &fusion->clusters.at[number];
        if (!cluster->is_alive || cluster->kind != KILN_GROUP_POINTWISE) continue;
        list_consumers(fusion, number, &consumers);
        for (uint32_t i = 0; i < consumers.n && i < MAX_CONSUMERS; i++) {
            if (!absorb(fusion, number, consumers.at[i])) continue;
            has_changed = true;
            break;
        }
    }
    fusion->known = KILN_NONE;
    return has_changed;
}

/* Slots of one element up to which a value may be computed by every reader: four cheap operations.
 */
#define MAX_REPEATED_SLOTS 8

static bool may_repeat(kiln_fusion *fusion, uint32_t number)
{
    const kiln_cluster *cluster = &fusion->clusters.at[number];
    double slots = 0;
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        uint32_t id = cluster->nodes.at[i];
        const kiln_node *node = kiln_fusion_node(fusion, id);
        kiln_class class_ = kiln_fusion_class(fusion, id);
        if (fusion->is_kept[id] || (class_ != KILN_ELEMENTWISE && class_ != KILN_VIEW))
            return false;
        slots += kiln_op_slots(node);
    }
    return slots <= MAX_REPEATED_SLOTS;
}

static void set_floating(kiln_fusion *fusion, const kiln_cluster *cluster, uint32_t number,
                         bool is_floating)
{
    for (uint32_t i = 0; i < cluster->nodes.n; i++) {
        fusion->is_floating[cluster->nodes.at[i]] = is_floating;
        fusion->cluster_of[cluster->nodes.at[i]] = is_floating ? KILN_NONE : number;
    }
}

static double largest_bytes(kiln_fusion *fusion, const kiln_ids *clusters)
{
    double most = 0;
    for (uint32_t i = 0; i < clusters->n; i++) {
        kiln_cost cost = kiln_fusion_cost(fusion, clusters->at[i], KILN_NONE);
        if (cost.bytes > most) most = cost.bytes;
    }
    return most;
}

static double total_cost(kiln_fusion *fusion, const kiln_ids *clusters, double footprint)
{
    double ns = 0;
    for (uint32_t i = 0; i < clusters->n; i++) {
        kiln_cost cost = kiln_fusion_cost(fusion, clusters->at[i], KILN_NONE);
        ns += kiln_cost_is_long(&cost) ? INFINITY : kiln_cost_ns(fusion, &cost, footprint);
    }
    return ns;
}

/* Dissolves a cheap cluster into all its readers when that is no slower. */
static void repeat(kiln_fusion *fusion, uint32_t number, kiln_ids *consumers)
{
    kiln_cluster *cluster = &fusion->clusters.at[number];
    if (!cluster->is_alive || cluster->kind != KILN_GROUP_POINTWISE || !may_repeat(fusion, number))
        return;
    list_consumers(fusion, number, consumers);
    if (consumers->n > 16) return;
    for (uint32_t i = 0; i < consumers->n; i++) {
        if (refusal(fusion, number, consumers->at[i])) return;
        if (fusion->clusters.at[consumers->at[i]].kind == KILN_GROUP_WINDOW) return;
    }
    kiln_cost own = kiln_fusion_cost(fusion, number, KILN_NONE);
    double footprint = largest_bytes(fusion, consumers);
    double before =
        total_cost(fusion, consumers, footprint) + kiln_cost_ns(fusion, &own, footprint);
    set_floating(fusion, cluster, number, true);
    double after = total_cost(fusion, consumers, footprint);
    if (after <= before && isfinite(after)) {
        cluster->is_alive = false;
    } else {
        set_floating(fusion, cluster, number, false);
    }
}

#define MAX_ROUNDS 8

void kiln_fuse_producers(kiln_fusion *fusion)
{
    for (uint32_t round = 0; round < MAX_ROUNDS && absorb_all(fusion); round++) continue;
    if (!fusion->schedule->is_unfused) {
        kiln_ids consumers = {0};
        for (uint32_t number = fusion->clusters.n; number-- > 0;)
            repeat(fusion, number, &consumers);
    }
    fusion->is_last_round = true;
    absorb_all(fusion);
    fusion->has_producers = true;
}
