/* What fusion, lowering and explanation must agree on: of the operands of products, rows that a
 * MOVE finds and columns that tiles pack; of rows, how many reductions follow each other. */
#ifndef KILN_PASSES_ROW_MOVE_H
#define KILN_PASSES_ROW_MOVE_H

#include "passes/schedule.h"

/* Reductions of one group of which each needs the one before. */
#define KILN_MAX_CHAIN 31

/* The take, gather or dynamic_slice that the first operand of a dot_general is, seen through
 * reshapes, when every row of the operand lies together in what is read, whatever the indices are:
 * a product can read such rows where they stand. id 0: none. */
kiln_value kiln_dot_row_move(kiln_arena *arena, const kiln_graph *graph, kiln_value dot);

/* Whether the tiles of a dot of f32 pack a dynamic right operand on their own, when its columns
 * lie together in memory: no step packs it then. */
bool kiln_dot_packs_itself(const kiln_matmul_roles *roles, uint32_t n_threads);
#endif
