/* The weights that the next contraction of the schedule reads first: whoever computes the last
 * columns of its share asks for them as k runs, for they come from the third cache or from memory,
 * and a contraction that begins with cold panels waits 5 to 50 µs for them. Hints only. */
#ifndef KILN_CODEGEN_AHEAD_H
#define KILN_CODEGEN_AHEAD_H

#include "codegen/gemm.h"

/* Where a contraction begins to read its packed weights, and how its tiles share them. */
typedef struct kiln_first_weights {
    int64_t n_panels, size, panel; /* side by side in a register tile; lines of each that come
                                      first; elements from one to the next */
    int64_t n_tiles, n_blocks;     /* of features; neighbouring tiles have neighbouring ones */
    int64_t block;                 /* elements from one block of features to the next */
} kiln_first_weights;

typedef struct kiln_ahead {
    uint32_t buffer;
    bool is_planned;
    bool is_at_work; /* in the columns that are being emitted */
    kiln_first_weights first;
    kiln_kv is_end, from; /* the tile at work is a worker's last one; that worker's first element */
} kiln_ahead;

/* Decides what is asked for, when `n_tiles` register tiles of `steps` of k do so. */
void kiln_ahead_plan(kiln_lower *lower, int64_t steps, int64_t n_tiles, kiln_ahead *out_ahead);
/* For tile `number` of the kernel, whose n_tiles are known. */
void kiln_ahead_begin(kiln_lower *lower, kiln_ahead *ahead, kiln_kv number);
/* Where among columns first … end those begin that ask: the last `width` of a worker's last tile.
 */
kiln_kv kiln_ahead_columns(kiln_lower *lower, const kiln_ahead *ahead, kiln_kv first, kiln_kv end,
                           int64_t width);
/* Lets register tile `number` of `n_tiles` ask for its share during `steps` of k. */
void kiln_ahead_fetch(const kiln_ahead *ahead, kiln_tile *tile, kiln_kv number, int64_t n_tiles,
                      int64_t steps);

/* By kind of contraction; false where another kernel than the one that reads panels is made. */
bool kiln_dot_first_weights(kiln_lower *lower, kiln_value anchor, kiln_first_weights *out_first);
bool kiln_conv_first_weights(kiln_lower *lower, kiln_value anchor, kiln_first_weights *out_first);
#endif
