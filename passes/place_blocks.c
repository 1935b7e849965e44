/* Greedy placement of intervals (Pisarchyk and Lee, arXiv 2001.03288, with several orders and two
 * ways to choose a gap): blocks are taken in some order, and each goes to a gap between the blocks
 * already placed that live at the same time. Then the best order is improved: the block that makes
 * the arena as large as it is goes first in the next round. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "passes/plan.h"

typedef struct sort_row {
    double key; /* smaller first */
    uint32_t block;
} sort_row;

static int compare_rows(const void *a, const void *b)
{
    const sort_row *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->block < y->block ? -1 : x->block > y->block ? 1 : 0;
}

typedef enum placing_order {
    BY_SIZE,
    BY_DURATION,
    BY_AREA,
    BY_FIRST_USE,
    N_PLACING_ORDERS
} placing_order;

static double order_key(const kiln_block *block, placing_order order)
{
    double duration = (double)(block->last - block->first) + 1;
    switch (order) {
    case BY_SIZE:
        return -(double)block->bytes * 4096 - duration;
    case BY_DURATION:
        return -duration * 1e15 - (double)block->bytes;
    case BY_AREA:
        return -(double)block->bytes * duration;
    case BY_FIRST_USE:
    case N_PLACING_ORDERS:
        return (double)block->first;
    }
    return 0;
}

static int64_t find_offset(const kiln_block *blocks, const uint32_t *placed, uint32_t n,
                           const kiln_block *block, bool is_best_fit)
{
    int64_t end = 0, best = -1, best_gap = INT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const kiln_block *other = &blocks[placed[i]];
        if (other->last < block->first || other->first > block->last) continue;
        int64_t gap = other->offset - end;
        if (gap >= block->bytes && gap < best_gap) {
            best = end;
            best_gap = gap;
            if (!is_best_fit) break;
        }
        end = kiln_max_i64(end, other->offset + other->bytes);
    }
    return best >= 0 ? best : end;
}

/* Places all blocks in the order of rows; `placed` stays sorted by offset. */
static int64_t place_all(kiln_block *blocks, const sort_row *rows, uint32_t n, uint32_t *placed,
                         bool is_best_fit)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        kiln_block *block = &blocks[rows[i].block];
        block->offset = find_offset(blocks, placed, i, block, is_best_fit);
        total = kiln_max_i64(total, block->offset + block->bytes);
        uint32_t at = i;
        for (; at > 0 && blocks[placed[at - 1]].offset > block->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = rows[i].block;
    }
    return total;
}

static int64_t live_bound(kiln_scope *scope, const kiln_block *blocks, uint32_t n)
{
    uint32_t n_steps = 0;
    for (uint32_t i = 0; i < n; i++)
        n_steps = blocks[i].last + 1 > n_steps ? blocks[i].last + 1 : n_steps;
    int64_t *change = kiln_new_array(&scope->arena, int64_t, (size_t)n_steps + 1);
    for (uint32_t i = 0; i < n; i++) {
        change[blocks[i].first] += blocks[i].bytes;
        change[blocks[i].last + 1] -= blocks[i].bytes;
    }
    int64_t live = 0, bound = 0;
    for (uint32_t step = 0; step < n_steps; step++) {
        live += change[step];
        bound = kiln_max_i64(bound, live);
    }
    return bound;
}

/* Placement is quadratic: very large graphs get one order, and the improvement a budget of
 * steps. */
#define MAX_BLOCKS_FOR_SEARCH 8192
#define IMPROVE_BUDGET 20000000

/* One round of improvement: the block that makes the arena as large as it is goes first next
 * time. */
static void promote_highest(const kiln_block *blocks, sort_row *rows, uint32_t n)
{
    uint32_t highest = 0;
    for (uint32_t i = 1; i < n; i++) {
        const kiln_block *a = &blocks[rows[i].block], *b = &blocks[rows[highest].block];
        if (a->offset + a->bytes > b->offset + b->bytes) highest = i;
    }
    sort_row row = rows[highest];
    memmove(rows + 1, rows, highest * sizeof *rows);
    rows[0] = row;
}

static void keep_offsets(const kiln_block *blocks, uint32_t n, int64_t *offsets)
{
    for (uint32_t i = 0; i < n; i++) offsets[i] = blocks[i].offset;
}

typedef struct search {
    kiln_block *blocks;
    sort_row *rows;
    uint32_t n, *placed;
    int64_t *offsets; /* of the best placement */
} search;

static int64_t improve(search *state, int64_t best, int64_t bound)
{
    uint32_t n = state->n;
    int64_t rounds = kiln_min_i64(IMPROVE_BUDGET / ((int64_t)n * n + 1), 4 * (int64_t)n);
    for (int64_t round = 0; round < rounds && best > bound; round++) {
        promote_highest(state->blocks, state->rows, n);
        int64_t total = place_all(state->blocks, state->rows, n, state->placed, true);
        if (total >= best) continue;
        best = total;
        keep_offsets(state->blocks, n, state->offsets);
    }
    return best;
}

int64_t kiln_place_blocks(kiln_scope *scope, kiln_block *blocks, uint32_t n, int64_t *out_bound)
{
    kiln_arena *arena = &scope->arena;
    sort_row *rows = kiln_new_array(arena, sort_row, n + 1);
    uint32_t *placed = kiln_new_array(arena, uint32_t, n + 1);
    sort_row *best_rows = kiln_new_array(arena, sort_row, n + 1);
    int64_t *offsets = kiln_new_array(arena, int64_t, n + 1);
    int64_t bound = live_bound(scope, blocks, n), best = INT64_MAX;
    uint32_t n_orders = n > MAX_BLOCKS_FOR_SEARCH ? 1 : N_PLACING_ORDERS;
    for (uint32_t trial = 0; trial < 2 * n_orders && best > bound; trial++) {
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (sort_row){order_key(&blocks[i], (placing_order)(trial / 2)), i};
        }
        qsort(rows, n, sizeof *rows, compare_rows);
        int64_t total = place_all(blocks, rows, n, placed, trial % 2 == 0);
        if (total >= best) continue;
        best = total;
        keep_offsets(blocks, n, offsets);
        memcpy(best_rows, rows, n * sizeof *rows);
    }
    search state = {blocks, best_rows, n, placed, offsets};
    best = improve(&state, best, bound);
    for (uint32_t i = 0; i < n; i++) blocks[i].offset = offsets[i];
    *out_bound = bound;
    return n ? best : 0;
}
