/* The parts of a compile: the user's graph, and one graph for every region that a part still has
 * after its passes. Each part goes through passes, fusion, planning and lowering on its own; a
 * region's steps are then put in where its group stands, over places of the part around it.
 *
 * A part's children by op: if: [true, false]; case: [chooser, regions…]; while: [condition, body];
 * scan: [clock, body]; call: [region]. What is more than the region itself:
 *
 *     chooser    (index)               -> bool for every region but the last
 *     condition  (parameters, trip)    -> stop: bool, over: i64 (trips past the limit), next trip
 *     clock      (trip)                -> stop, next trip
 *     scan body  (…, whole sequences, …, trip): takes its slices itself
 *
 * Results nobody reads are left out of branches, and of a scan's stacks. */
#ifndef KILN_CODEGEN_PART_H
#define KILN_CODEGEN_PART_H

#include "codegen/kernel.h"
#include "passes/schedule.h"

struct kiln_compilation;

#define KILN_MAX_PARTS 65536u

/* Offsets of what a region's steps need beside its operands, from the group's scratch on. */
typedef struct kiln_region_layout {
    int64_t trip, next, stop, over; /* loops */
    int64_t *flags;                 /* case: by region but the last */
    int64_t *items;                 /* by item: -1 when it has a place of its own */
    int64_t *results;               /* loops, by result of the body: -1 when it lies in its item */
    int64_t arena;                  /* of the children, one at a time */
} kiln_region_layout;

typedef struct kiln_part {
    const kiln_graph *source, *graph; /* before and after the passes */
    kiln_schedule *schedule;
    kiln_kernel **kernels; /* by group; NULL for a region */
    uint32_t *unit_of;     /* by group: which unit is its code */
    uint32_t parent, number; /* child `number` of a region of that part; KILN_NONE for the whole */
    uint32_t node;           /* the region, in the parent's graph */
    uint32_t *first_child;   /* by node id: the first part of a region; the others follow it */
    uint32_t *group_of;      /* by node id: the group of a region */
    const bool **is_read;    /* by node id, for regions: by item, whether anybody reads it */
    kiln_region_layout *layouts; /* by group; for regions */
} kiln_part;

/* Runs the passes over the source and over every region, adding parts as they appear. */
void kiln_parts_open(struct kiln_compilation *compilation);
/* Fuses and plans all parts, the innermost first. */
void kiln_parts_plan(struct kiln_compilation *compilation);

/* part_graph.c: the graph of child `number` of region `node`, and how many children there are.
 * `is_read` says, by item, whether anybody reads it. */
const kiln_graph *kiln_part_graph(kiln_scope *scope, const kiln_graph *graph, const kiln_node *node,
                                  uint32_t number, const bool *is_read);
uint32_t kiln_part_n_children(const kiln_node *node);
#endif
