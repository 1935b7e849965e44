/* The schedule's checker at work; shared by its three files and by nothing else. */
#ifndef KILN_PASSES_VERIFY_H
#define KILN_PASSES_VERIFY_H

#include "passes/schedule.h"

typedef struct kiln_check_state {
    const kiln_schedule *schedule;
    const char *where;
    kiln_error *error;
    kiln_arena *arena;
    uint32_t n_nodes;
    uint32_t *maker, *packer; /* group that stores, by value id; that packs, by contraction id */
    uint32_t *mark, stamp;    /* nodes of the group at hand */
    uint8_t *lies;            /* verify_group.c: how a node lies to the group's reductions */
} kiln_check_state;

/* Fills the error with a sentence about one group; returns INTERNAL. */
kiln_status kiln_check_fail(kiln_check_state *check, uint32_t group, const char *sentence);

/* The group that stores the operand, or KILN_NONE. */
uint32_t kiln_check_maker(const kiln_check_state *check, kiln_operand operand);

/* Marks the group's nodes: every operand of them is a node or an input of it, which is there when
 * group number `g` runs. `group` is that one or a member of it. */
kiln_status kiln_check_group_closed(kiln_check_state *check, uint32_t g, const kiln_group *group);

/* What a group's kind demands of its nodes and outputs. */
kiln_status kiln_check_group_shape(kiln_check_state *check, uint32_t g);

/* Places: kinds, bounds, alignment, and no overlap in space and time. */
kiln_status kiln_check_memory(kiln_check_state *check);
#endif
