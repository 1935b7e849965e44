/* What a dot_general is to the tile generator: sizes, where its operands stand, how it is cut.
 * Shared by lower_dot.c (tiles), dot_blocks.c (how it is cut), dot_source.c (operands),
 * dot_panels.c (columns packed by their tile), dot_stream.c and dot_small.c (few rows of results,
 * few elements). */
#ifndef KILN_CODEGEN_LOWER_DOT_H
#define KILN_CODEGEN_LOWER_DOT_H

#include "codegen/ahead.h"
#include "codegen/gemm.h"

/* How an operand is read: in place, or copied for each tile into a local in compute form. */
typedef enum kiln_dot_mode {
    KILN_DOT_DIRECT,
    KILN_DOT_ROWS, /* of A: in place, each row at an address of its own, which a move gives */
    KILN_DOT_PANELS,
    KILN_DOT_OWN_PANELS, /* of B: the tile at work packs its columns into a local */
    KILN_DOT_STRIPS,     /* of B: the same in a brief product */
    KILN_DOT_COPY_K, /* local [m][k]; of B: [k][columns of a tile] */
    KILN_DOT_COPY_M, /* local [k][m] */
    KILN_DOT_WIDEN,  /* of B: codes are widened in registers, once for all rows */
} kiln_dot_mode;

typedef struct kiln_dot_widen kiln_dot_widen; /* dot_widen.c */

typedef struct kiln_dot_operand {
    kiln_dot_mode mode;
    kiln_value value;
    kiln_tile_source source;
    kiln_strided strided;
    int64_t step,
        k_step; /* elements from one row (column) and one k to the next, in memory or local */
} kiln_dot_operand;

typedef struct kiln_dot {
    kiln_lower *lower;
    kiln_matmul_roles roles;
    const int64_t *batch_dims, *m_dims, *n_dims, *k_dims;
    kiln_dtype dtype; /* of the sums */
    uint32_t lanes, rows, vectors;
    kiln_dot_operand a, b;
    const kiln_tuned *tuned; /* the group's choice, or NULL: the cost model's */
    int64_t block_rows, n_row_blocks, block_columns, n_column_blocks;
    int64_t n_k_blocks, k_block_size; /* the last one may be shorter, when k has several chunks */
    int64_t share_columns, share_blocks; /* of each thread, with own panels */
    kiln_kv share_begin;                 /* the share's of the tile at work */
    uint32_t panels;                     /* local for them */
    bool b_is_by_k;                      /* strips: k of a column lie together in memory */
    uint32_t totals;   /* local for sums of chunks, when k has several: a register tile's, or of the
                          whole tile when k is cut */
    uint32_t partial;  /* local for a tile's sums between blocks of k, when there are several */
    kiln_kv batch;     /* of the tile at work */
    kiln_kv first_row; /* of the block at work */
    kiln_kv first_column, column_end; /* of the tile at work */
    kiln_kv k_block;                  /* at work, when there are several */
    bool is_streamed;                 /* by dot_stream.c: `partial` holds the sums of a strip */
    bool is_last;                     /* the last one is at work: sums become results */
    kiln_dot_widen *widen; /* B is weights that are widened (passes/weights.h), or NULL */
    kiln_epilogue epilogue;
    kiln_ahead ahead;
} kiln_dot;

/* Lowers a contraction (the group's anchor) whose roles are given; sums in `dtype`. */
void kiln_dot_lower_roles(kiln_lower *lower, const kiln_matmul_roles *roles, kiln_dtype dtype);
/* Where a product of these roles, with packed weights in f32, begins to read them. */
bool kiln_dot_roles_first_weights(kiln_lower *lower, const kiln_matmul_roles *roles,
                                  kiln_first_weights *out_first);
/* Operands, sizes and lanes of a contraction of dot->lower's group; needs lower, roles and
 * dtype. */
void kiln_dot_describe(kiln_dot *dot, kiln_value contraction);
/* Cuts rows, columns and k; needs rows and vectors, and what all tiles cost in cycles. */
void kiln_dot_choose_blocks(kiln_dot *dot, double cycles);
/* Whether few rows are best summed a wide strip of B's columns at a time; needs the operands. Cuts
 * the columns into strips. Sums the strip at work and stores its results. */
bool kiln_dot_is_streamed(const kiln_dot *dot);
void kiln_dot_choose_strips(kiln_dot *dot);
void kiln_dot_emit_strip(kiln_dot *dot);
/* dot_panels.c: whether tiles pack their columns of B themselves; needs the operands. Cuts the
 * columns, adds the local, and sets and packs the columns of a tile. */
bool kiln_dot_has_own_panels(const kiln_dot *dot);
void kiln_dot_choose_panels(kiln_dot *dot);
void kiln_dot_add_panels(kiln_dot *dot);
void kiln_dot_place_panels(kiln_dot *dot, kiln_kv number);
void kiln_dot_pack_panels(kiln_dot *dot);
/* dot_strips.c: lets the tiles of a brief product pack their columns of B; needs the operands, sets
 * the (padded) k_block_size. Bytes of a strip, the columns of a register tile. Adds the local for
 * block_columns. The strip at `column` in it; packs the one at `place`, from `column` on. */
void kiln_dot_use_strips(kiln_dot *dot);
int64_t kiln_dot_strip_bytes(const kiln_dot *dot);
void kiln_dot_add_strips(kiln_dot *dot);
kiln_kv kiln_dot_strip_offset(kiln_dot *dot, kiln_kv column);
void kiln_dot_pack_strip(kiln_dot *dot, kiln_kv place, kiln_kv column);
/* dot_widen.c: whether B is weights to be widened; sets dot->widen. */
bool kiln_dot_find_weights(kiln_dot *dot);
/* Chooses between registers and copies by the rows; a register tile may get fewer vectors. */
void kiln_dot_choose_widening(kiln_dot *dot);
/* Makes a tile read B, from `column` on, through the widening: its offset of B is the number of
 * k. */
void kiln_dot_use_widening(kiln_dot *dot, kiln_tile *tile, kiln_kv column);
/* Adds a * b for n k from number `k_at` on, where a block of the tables begins. */
void kiln_dot_accumulate_widened(kiln_dot *dot, kiln_tile *tile, kiln_kv a, kiln_kv k_at,
                                 int64_t n);
/* Widens k of the block at work, `vectors` vectors from `column` on, into B's local. */
void kiln_dot_copy_widened(kiln_dot *dot, kiln_kv column, uint32_t vectors);
/* Whether the group gathers the rows of A, which are read in place. */
bool kiln_dot_has_row_move(const kiln_dot *dot);
/* Finds the operands and decides how they are read; needs rows and vectors. */
void kiln_dot_find_operands(kiln_dot *dot);
/* Whether A has one distance between rows and one between k; sets its source, step and k_step. */
bool kiln_dot_rows_are_regular(kiln_dot *dot);
/* Whether the k of a column of B lie together in memory and its columns apart; of an operand that
 * is computed, what it is computed from. */
bool kiln_dot_columns_are_along_k(kiln_dot *dot);
/* Adds the locals of copied operands; needs the blocks. */
void kiln_dot_add_locals(kiln_dot *dot);
/* Copies rows first … end of A, or columns of B, for the tile at work. */
void kiln_dot_copy_rows(kiln_dot *dot, kiln_kv first, kiln_kv end);
void kiln_dot_copy_columns(kiln_dot *dot, kiln_kv column, uint32_t vectors, uint32_t last);
/* Asks for the memory of row `at` of A of the batch at work, or of column `at` of B or row `at` of
 * k of B, whichever lies together: it comes into the second cache. Nothing where the operand is
 * computed or spread. */
void kiln_dot_fetch_a(kiln_dot *dot, kiln_kv at);
void kiln_dot_fetch_b(kiln_dot *dot, kiln_kv at);
/* Lets a tile read its rows of A from `row` on; returns the element offset of k 0 in them. */
kiln_kv kiln_dot_use_rows(kiln_dot *dot, kiln_tile *tile, kiln_kv row);
/* Element offset of row / column `at` of the batch at work. */
kiln_kv kiln_dot_row_offset(kiln_dot *dot, kiln_kv at);
kiln_kv kiln_dot_column_offset(kiln_dot *dot, kiln_kv at);
/* The same where B lies in memory, strided. */
kiln_kv kiln_dot_b_offset(kiln_dot *dot, kiln_kv at);

/* The index of an operand's element from its batch, free and k numbers. */
kiln_index kiln_dot_a_index(kiln_dot *dot, kiln_axis_index m, kiln_axis_index k);
kiln_index kiln_dot_b_index(kiln_dot *dot, kiln_axis_index n, kiln_axis_index k);
/* The index of the result: an epilogue's callback on a kiln_dot. */
void kiln_dot_result_index(void *dot, kiln_kv row, kiln_axis_index column, kiln_index *out_index);

/* Whether one short piece of code is to serve the whole product (dot_brief.c). */
bool kiln_dot_is_brief(kiln_dot *dot);
void kiln_dot_lower_brief(kiln_dot *dot);
/* Fewer than 16 results: each a row reduction of 64 lanes. */
void kiln_dot_lower_small(kiln_dot *dot);
#endif
