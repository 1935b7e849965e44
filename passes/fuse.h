/* Fusion at work. Every node that computes (not a view, not a source) starts in a cluster of its
 * own; clusters merge along edges until nothing is gained; each cluster then becomes a group.
 *
 * Floating nodes belong to no cluster: views, iota, small constants, and producers so cheap that
 * every reader computes them again. A group takes the floating nodes that it reads through.
 *
 * Clusters stay acyclic: a merge that would make one wait for itself is refused. */
#ifndef KILN_PASSES_FUSE_H
#define KILN_PASSES_FUSE_H

#include "passes/pass.h"
#include "passes/weights.h"

typedef kiln_vec(uint32_t) kiln_ids;

/* How a node of a ROW cluster that depends on a reduction lies in the row space; of a COLUMN
 * cluster in the operand's dims (FULL) or the result's (ROW). */
typedef enum kiln_role {
    KILN_ROLE_FREE, /* depends on no node of the cluster (or cluster's result, for contractions) */
    KILN_ROLE_FULL, /* element row * cols + col */
    KILN_ROLE_ROW,  /* element row */
    KILN_ROLE_LOST, /* depends on it at other indices */
} kiln_role;

typedef struct kiln_cluster {
    kiln_group_kind kind;
    bool is_alive;
    uint32_t anchor;      /* node; 0 for POINTWISE */
    uint32_t origin;      /* of its nodes, in unfused schedules */
    kiln_ids nodes;       /* ascending */
    kiln_row_space space; /* ROW */
} kiln_cluster;

typedef struct kiln_cost {
    double flops, bytes, slots; /* slots: issue slots, a flop counted by what it costs */
    double threads;             /* that share it */
    double one_core_ns;         /* of a run on one core, without launch */
    double instrs;              /* roughly, of one vector's way through the kernel */
} kiln_cost;

typedef struct kiln_fusion {
    kiln_pipeline *pipeline;
    const kiln_graph *graph;
    const kiln_machine *machine;
    kiln_schedule *schedule;
    kiln_arena *arena;
    uint32_t n_nodes;
    bool *is_live, *is_floating, *is_kept; /* kept: an output or a check, must be stored */
    bool *is_assembled, *is_part;          /* concats without a group; what is stored inside one */
    uint8_t *packing;                      /* contraction: kiln_format of its second operand */
    const kiln_weights **weights;          /* contraction: what it widens as it reads, or NULL */
    uint8_t *role;                         /* kiln_role of nodes in clusters */
    uint32_t *cluster_of;                  /* KILN_NONE: floating or source */
    uint32_t *first_user, *users; /* users of id: users[first_user[id] … first_user[id + 1]) */
    kiln_vec(kiln_cluster) clusters;
    uint32_t *node_stamp, *cluster_stamp, stamp; /* marks of searches */
    kiln_ids stack, reached, walked, found;      /* scratch of searches */
    bool is_last_round;                          /* refusals are noted now */
    bool has_producers;                          /* kiln_fuse_producers has run */
    double *evals, *evals_elsewhere;             /* scratch of the cost model */
    double *copies, *copies_elsewhere;           /* the same of instructions */
    kiln_cost joint;      /* of the clusters of the last kiln_fusion_objection */
    uint32_t known;       /* a cluster whose cost is known while producers join, or KILN_NONE */
    kiln_cost known_cost; /* such a group grows by one node at a time */
} kiln_fusion;

static inline const kiln_node *kiln_fusion_node(const kiln_fusion *fusion, uint32_t id)
{
    return fusion->graph->nodes.at[id];
}

static inline kiln_class kiln_fusion_class(const kiln_fusion *fusion, uint32_t id)
{
    return kiln_node_row(fusion->graph->nodes.at[id])->class_;
}

/* A node with regions: not the items that read it. */
static inline bool kiln_fusion_is_region(const kiln_fusion *fusion, uint32_t id)
{
    return kiln_fusion_class(fusion, id) == KILN_REGION &&
           fusion->graph->nodes.at[id]->op != KILN_OP_item;
}

static inline kiln_value kiln_fusion_value(const kiln_fusion *fusion, uint32_t id)
{
    return (kiln_value){id, fusion->graph->id};
}

/* fuse_scan.c: liveness, users, floating nodes, first clusters. */
void kiln_fusion_scan(kiln_fusion *fusion);
bool kiln_fusion_is_small_constant(const kiln_node *node);
/* fuse_weights.c: finds the contractions that widen weights as they read them; what the weights are
 * computed by floats. Comes once floating nodes are marked and formats chosen. */
void kiln_fuse_weights(kiln_fusion *fusion);
/* Whether one of two clusters has a product that widens weights which the other computes too: the
 * codes are at hand in one form only. */
bool kiln_fusion_meets_weights(kiln_fusion *fusion, uint32_t a, uint32_t b);
/* fuse_tiles.c: the format of a contraction's second operand when matrix tiles multiply it, else
 * DENSE. */
kiln_format kiln_fusion_tile_format(kiln_fusion *fusion, uint32_t id);
/* Whether tiles can read the first operand as it lies: a convolution's features must lie together,
 * for it is copied by stretches. Else it is stored in the order that the contraction wants. */
bool kiln_fusion_is_readable(const kiln_fusion *fusion, uint32_t id);

/* fuse_cluster.c: relations between clusters. */
/* Appends the clusters that read node `id`, through floating nodes: each once, `id`'s own
 * included. */
void kiln_fusion_readers(kiln_fusion *fusion, uint32_t id, kiln_ids *out_clusters);
/* The same without a new search: adds to the clusters that earlier calls have found. */
void kiln_fusion_more_readers(kiln_fusion *fusion, uint32_t id, kiln_ids *out_clusters);
/* Whether `id` must be stored when clusters `inside` and `other` are one group. */
bool kiln_fusion_is_stored(kiln_fusion *fusion, uint32_t id, uint32_t inside, uint32_t other);
/* Nodes of clusters that node `id` reads, through floating nodes: each once. */
void kiln_fusion_sources(kiln_fusion *fusion, uint32_t id, kiln_ids *out_nodes);
/* Whether a path leads from cluster `from` to cluster `to` through at least one other cluster. */
bool kiln_fusion_has_detour(kiln_fusion *fusion, uint32_t from, uint32_t to);
/* Whether a path leads from one cluster to another at all. */
bool kiln_fusion_reaches(kiln_fusion *fusion, uint32_t from, uint32_t to);
/* Moves the nodes of `from` to `to`; `to` keeps its kind and anchor. */
void kiln_fusion_merge(kiln_fusion *fusion, uint32_t from, uint32_t to);
/* Notes why the nodes of an edge stay apart. */
void kiln_fusion_refuse(kiln_fusion *fusion, uint32_t producer, uint32_t consumer,
                        const char *reason);
/* In unfused schedules only nodes of one origin meet. */
bool kiln_fusion_may_meet(const kiln_fusion *fusion, uint32_t a, uint32_t b);

/* fuse_attention.c: merges two contractions and what lies between them. Comes first, while every
 * node is a cluster of its own. */
void kiln_fuse_attention(kiln_fusion *fusion);

/* fuse_epilogue.c: how node `id` lies in the row space of cluster `number` (or in the index space
 * of a contraction's or window's result: FULL is the result's own index). */
kiln_role kiln_fusion_role(const kiln_fusion *fusion, uint32_t number, uint32_t id);
/* fuse_column.c: why a map of all that a COLUMN cluster reduces is better alone, or NULL. */
const char *kiln_fusion_column_objection(kiln_fusion *fusion, uint32_t number, uint32_t id);
/* Merges nodes that depend on a reduction, contraction or window into its cluster, ids
 * ascending. */
void kiln_fuse_epilogues(kiln_fusion *fusion);
/* Why two clusters are better apart, or NULL: as one they would be slower, or their kernel so long
 * that compiling it takes its time. */
const char *kiln_fusion_objection(kiln_fusion *fusion, uint32_t a, uint32_t b);
/* The type of what a POINTWISE cluster stores; all of it has these dims. */
const kiln_type *kiln_fusion_stored_type(kiln_fusion *fusion, uint32_t number);
/* Merges two clusters over the same space that do not wait for each other: reductions, and once
 * producers have joined their readers, pointwise ones. */
bool kiln_fusion_merge_siblings(kiln_fusion *fusion, uint32_t a, uint32_t b);
/* Merges clusters with equal spaces that read the same values. */
void kiln_fuse_siblings(kiln_fusion *fusion);
/* fuse_narrow.c: what is widened at the end of a contraction's cluster leaves it. */
void kiln_fuse_narrow(kiln_fusion *fusion);
/* fuse_producer.c: merges producers into consumers; then computes cheap ones again instead of
 * storing them. */
void kiln_fuse_producers(kiln_fusion *fusion);

/* fuse_concat.c: concats whose parts can be stored in place need no group. Parts of POINTWISE
 * clusters count when `takes_pointwise`. */
void kiln_fuse_concats(kiln_fusion *fusion, bool takes_pointwise);

/* cost.c */
/* Cost of one cluster; of two as if merged when `other` is not KILN_NONE. */
kiln_cost kiln_fusion_cost(kiln_fusion *fusion, uint32_t number, uint32_t other);
/* Whether a kernel of that cost is longer than is compiled in a moment. */
bool kiln_cost_is_long(const kiln_cost *cost);
/* One core's bandwidth to the level that holds `footprint` bytes of all threads. */
double kiln_fusion_bandwidth(const kiln_fusion *fusion, double footprint);
/* Time on all threads with launch, at the bandwidth of the level that holds `footprint` bytes. */
double kiln_cost_ns(const kiln_fusion *fusion, const kiln_cost *cost, double footprint);
/* Issue slots of one element of an op, in f32 flops; flops by the usual count. */
double kiln_op_slots(const kiln_node *node);
double kiln_op_flops(const kiln_graph *graph, const kiln_node *node);

/* fuse_group.c: clusters to groups, in an order that keeps the peak of live bytes low (order.c). */
void kiln_fusion_emit(kiln_fusion *fusion);
/* fuse_band.c: chains of convolutions and a pool whose rows stay in the cache become one group. */
void kiln_fuse_bands(kiln_fusion *fusion);
/* fuse_horizontal.c: small groups that do not wait for each other become one kernel. */
void kiln_fuse_horizontal(kiln_fusion *fusion);
/* fuse_ahead.c: contractions learn what weights the next one begins with. */
void kiln_fuse_ahead(kiln_fusion *fusion);
/* A permutation of `groups`, which are not in the schedule yet, that respects their operands. */
void kiln_order_groups(const kiln_schedule *schedule, const kiln_group *groups, uint32_t n,
                       uint32_t *out_order);
#endif
