/* Inside kiln_lower_value: frames and sites, shared by its files (lower_value.c, lower_move.c). */
#ifndef KILN_CODEGEN_LOWER_VALUE_H
#define KILN_CODEGEN_LOWER_VALUE_H

#include "codegen/lower.h"

/* Where a value is wanted. `mask` are the lanes of the tail that exist (lane 0 always does);
 * `guard` the lanes for which a MOVE above needs the value (lane 0 may be off), none for all. */
typedef struct kiln_site {
    uint32_t lanes;
    bool is_address; /* the place in memory is wanted, not the value: kiln_lower_address */
    kiln_kv mask, guard;
    kiln_index index;
} kiln_site;

typedef struct kiln_lower_sub {
    kiln_value node;
    uint32_t site;
} kiln_lower_sub;

/* A node at work. Its function runs with phase 0, then, whenever all subs have values, with the
 * next phase, until it returns the value (0: not yet). */
typedef struct kiln_frame {
    kiln_value node;
    uint32_t site, phase;
    kiln_vec(kiln_lower_sub) subs;
    kiln_vec(kiln_kv) conditions; /* made in an early phase, used in the last */
} kiln_frame;

const kiln_site *kiln_frame_site(const kiln_lower *lower, const kiln_frame *frame);
/* Asks for the value of `node` at `index`. Moves nothing of the frame but its subs. */
void kiln_frame_ask(kiln_lower *lower, kiln_frame *frame, kiln_value node, const kiln_index *index,
                    kiln_kv guard);
/* The value of sub `number`: as it is (one lane when it is the same in all), or in the site's
 * lanes. */
kiln_kv kiln_frame_raw(const kiln_lower *lower, const kiln_frame *frame, uint32_t number);
kiln_kv kiln_frame_sub(kiln_lower *lower, const kiln_frame *frame, uint32_t number);

/* Functions of the classes MOVE and SOURCE. */
kiln_kv kiln_lower_move(kiln_lower *lower, kiln_frame *frame);
kiln_kv kiln_lower_source(kiln_lower *lower, kiln_frame *frame);
kiln_kv kiln_lower_gather(kiln_lower *lower, kiln_frame *frame); /* a row of MOVE */
/* An index value of any integer dtype to i64, clamped to 0 … last. */
kiln_kv kiln_lower_clamp_index(kiln_lower *lower, kiln_kv value, int64_t last);
/* Zero in the frame's lanes: of a node whose operand has no elements. */
kiln_kv kiln_lower_zero(kiln_lower *lower, const kiln_frame *frame);
#endif
