/* Row bands: chains of groups that run through the rows of their results together. In: groups as
 * fusion made them. Out: what may be a band, which rows its members read, how it is cut into tiles.
 * Shared by fuse_band.c, the verifier and the lowering. */
#ifndef KILN_PASSES_BAND_H
#define KILN_PASSES_BAND_H

#include "passes/schedule.h"

/* Rows (axis 1 of four) of a convolution's or window's operand and result: row r of the result
 * reads rows r * stride - low … r * stride - low + extent - 1 of the operand, as far as they
 * exist. */
typedef struct kiln_band_rows {
    int64_t in, out, stride, low, extent;
} kiln_band_rows;
kiln_band_rows kiln_band_rows_of(const kiln_graph *graph, kiln_value anchor);
/* Whether a group can stand first in a band; whether `consumer` can follow `producer` in one, the
 * value between them being read by no other group. Rounding is that of the groups on their own. */
bool kiln_band_may_begin(const kiln_graph *graph, const kiln_group *group,
                         const kiln_machine *machine);
bool kiln_band_may_follow(const kiln_graph *graph, const kiln_group *producer,
                          const kiln_group *consumer, const kiln_machine *machine);
#define KILN_MAX_BAND 8 /* members */
/* How a band is cut for so many threads: a tile makes `rows` rows of the last result of one image,
 * `step` at a time. What a member makes for a step, at most, and how much of its work is done
 * twice, because two tiles need it (0: none, 1: all). The rows that are kept between members take
 * `ring_bytes`. */
typedef struct kiln_band_cut {
    int64_t rows, n_blocks, step, ring_bytes;
    int64_t window[KILN_MAX_BAND];
    double repeated[KILN_MAX_BAND];
} kiln_band_cut;
kiln_band_cut kiln_band_choose(const kiln_schedule *schedule, const kiln_group *members,
                               uint32_t n);
#endif
