/* Contractions by matrix tiles: bf16 products summed in f32, bytes summed in i32. Shared by
 * lower_amx.c (blocks), amx_plan.c, amx.c (the tiles of a block), amx_copy.c (the first operand),
 * amx_conv.c and amx_band.c (convolutions), amx_store.c (the results), bf16_parts.c and the
 * packers.
 *
 * A block is rows x vectors tiles of sums (at most 6 of the 8 there are); its steps are 32 deep, or
 * 64 bytes. The order of additions of one element depends on the shape alone: not on blocks,
 * threads or the machine.
 */
#ifndef KILN_CODEGEN_AMX_H
#define KILN_CODEGEN_AMX_H

#include "codegen/lower_dot.h"

#define KILN_TILE_SIDE 16        /* rows and columns of a tile of sums */
#define KILN_TILE_WORDS 256      /* 4-byte elements of a tile */
#define KILN_AMX_MOVE 0x80808080 /* 128 more or less for each of four bytes */
#define KILN_X6_CHUNK 128        /* k that fresh sums run over in x6 */

typedef struct kiln_amx kiln_amx;
struct kiln_amx {
    kiln_dot dot;          /* roles, operands, batch, epilogue; rows and vectors count tiles */
    uint32_t n_parts;      /* 1: bf16 or bytes; 3: x6 */
    int64_t tile_k;        /* k of a step: 32, of bytes 64 */
    kiln_instr_op product; /* the instruction that multiplies tiles */
    kiln_dtype element;    /* of a local of A: u16 or bytes */
    /* Products by vpdpbusd want bytes with sign on one side and without on the other: where both
     * sides are alike, those of A are 128 more or less, from its copy on or, read in place, at
     * every use. What that adds to a sum of each vector of columns, for the run at work, is
     * `added`. */
    bool is_moved;
    kiln_kv added[KILN_TILE_VECTORS];
    int64_t k_padded, k_block; /* A is copied k_block at a time */
    int64_t run;               /* steps of k until the sums of a block leave the registers */
    kiln_kv k_first;           /* the block of k at work: its first k, how many there are, padded */
    int64_t k_here, k_here_padded;
    kiln_kv row_end, column_end; /* of the work tile */
    bool is_by_m;                /* A stands in a local of pairs (u32), not of elements (u16) */
    /* A: elements from a row to the next of a tile, from a tile to the one below it, from a step of
     * k to the next, from a part to the next. A local holds whole tiles, one after the other. */
    int64_t a_row, a_tile, a_step, a_part;
    /* Where step `number` of all k stands, in elements from its row. NULL: one after the other. */
    kiln_kv (*step_place)(kiln_amx *amx, kiln_kv number);
    bool is_near;        /* all of B stays in the cache: work tiles of few rows */
    int64_t near_rows;   /* of a work tile where all of B stays in the cache; 0: the usual number */
    uint32_t b_buffer;   /* u32 */
    int64_t panel_words; /* elements of a panel of 16 columns, all parts */
    bool is_ahead;       /* runs fetch what the next one reads of B */
    bool is_fresh;       /* every run begins at zero and is added to the sums of the runs before */
    bool is_deferred;    /* the results of a group of columns wait for all runs of the next one */
    /* Locals of the sums' dtype: scratch holds those of two blocks, [2][rows * 16][vectors * 16];
     * sums those of all blocks of a group of columns, [block_rows][vectors * 16], of two groups
     * where they wait, of all groups, one by one, where runs are fresh. One run of k uses the
     * scratch only. */
    uint32_t scratch, sums;
    kiln_kv is_aligned; /* i64: 1 where the outputs are written past the caches; none: never */
    /* How A is read where it is not an operand with rows and k: adds the local, and copies rows of
     * it. NULL: amx_copy.c. */
    void (*add_local)(kiln_amx *amx);
    void (*copy)(kiln_amx *amx, kiln_kv first, kiln_kv end);
    /* Where row `row` of A stands, and which row of the result it is, if it is one (i64: 1 or 0).
     * NULL: amx_copy.c; every row is its own. */
    kiln_kv (*row_offset)(kiln_amx *amx, kiln_kv row);
    kiln_kv (*result_row)(kiln_amx *amx, kiln_kv row, kiln_kv *out_exists);
};

/* The input that the group's anchor reads in a tile format, or KILN_NONE. */
uint32_t kiln_amx_input(const kiln_lower *lower);
/* What depends on the format of B: parts, steps, instruction. */
void kiln_amx_set_format(kiln_amx *amx, kiln_format format);
/* Lowers the anchor, a contraction with such an input and sums in `dtype`. */
void kiln_lower_amx(kiln_lower *lower, const kiln_matmul_roles *roles, kiln_dtype dtype);
/* The same for an amx whose dot has its roles and dims, copy and add_local. */
void kiln_amx_lower(kiln_amx *amx);
/* A PACK group whose format is a tile format. */
void kiln_lower_pack_tiles(kiln_lower *lower);

/* What is left to do with sums that are ready, done between steps, while tiles multiply: emit
 * handles rows begin … end - 1 of its n_rows, `step` at a time. */
typedef struct kiln_amx_rest {
    void (*emit)(kiln_amx *amx, const struct kiln_amx_rest *rest, const kiln_kv range[2],
                 uint32_t step);
    /* Asks for what emit meets in memory in n rows from `row` on, or NULL. */
    void (*fetch)(kiln_amx *amx, const struct kiln_amx_rest *rest, kiln_kv row, uint32_t n);
    const void *user;
    kiln_kv row;
    int64_t n_rows;
    bool is_short;   /* little code, which may stand in many places */
    kiln_kv exists;  /* i64: 1, or 0 where nothing is left */
    int64_t n_steps; /* of the runs that share in it; 0: this one alone */
    kiln_kv begin;   /* there: the first step of this one */
} kiln_amx_rest;

/* Adds `n` steps to sums of rows x vectors tiles, which begin as zeros or stand in `sums` at `at`,
 * and puts them there. */
typedef struct kiln_amx_block {
    uint32_t rows, vectors;
    int64_t n;
    kiln_kv a, b;  /* element offsets of the first step; where steps have places, A's of step 0 */
    kiln_kv first; /* there: the number of the first step */
    bool is_fresh; /* the sums begin as zeros */
    uint32_t sums;
    kiln_kv at;
    int64_t pitch;  /* elements from a row of sums to the next; 0: those of a group of panels */
    kiln_kv ahead;  /* element of B from which on steps fetch lines for later, or none */
    uint32_t lines; /* how many of each tile */
    const kiln_amx_rest *rest; /* or NULL */
} kiln_amx_block;
void kiln_amx_run(kiln_amx *amx, const kiln_amx_block *block);
/* Computes `added` for blocks with the columns and steps of this one. */
void kiln_amx_find_added(kiln_amx *amx, const kiln_amx_block *block);
/* The same on machines without tiles; what is left of the block before apart. */
void kiln_amx_run_vectors(kiln_amx *amx, const kiln_amx_block *block);
/* Elements from a row of the block's sums to the next; elements of A from the block's start to a
 * step of it. */
int64_t kiln_amx_pitch(const kiln_amx *amx, const kiln_amx_block *block);
kiln_kv kiln_amx_step_offset(kiln_amx *amx, const kiln_amx_block *block, kiln_kv step);

/* Decides how A is read and k, rows and columns are cut. */
void kiln_amx_plan(kiln_amx *amx);

/* Decides how A is read, adds its local; then copies rows first … end of the batch and the
 * block of k at work. */
void kiln_amx_find_rows(kiln_amx *amx);
void kiln_amx_add_local(kiln_amx *amx);
/* Element of A for row `row` at the first k of the block. */
kiln_kv kiln_amx_row_offset(kiln_amx *amx, kiln_kv row);
void kiln_amx_copy_rows(kiln_amx *amx, kiln_kv first, kiln_kv end);
/* Elements of A, or words of bytes, as its local has them. */
kiln_kv kiln_amx_moved(const kiln_amx *amx, kiln_kv value);

/* Decides how outputs are written; at the start of a work tile. */
void kiln_amx_find_streams(kiln_amx *amx);
/* Computes and stores the outputs of rows row + range[0] … row + range[1] - 1, `step` at a time,
 * and `vectors` panels from `column` on, `last` columns of the last one; sums of `row` are at
 * `sums`, those of the last run at `fresh` of the scratch where runs are fresh, alone if there was
 * no other. */
typedef struct kiln_amx_result {
    kiln_kv row, column, sums, fresh;
    bool is_alone;
    uint32_t vectors, last;
} kiln_amx_result;
void kiln_amx_store(kiln_amx *amx, const kiln_amx_result *result, const kiln_kv range[2],
                    uint32_t step);
/* Asks for the lines of large outputs that rows `row` … row + n - 1 of the result are written to,
 * where they are not written past the caches. */
void kiln_amx_fetch_lines(kiln_amx *amx, const kiln_amx_result *result, kiln_kv row, uint32_t n);

/* Packs the dot's B of the batch at work to a u32 local in the tile format, one part. */
void kiln_amx_pack_local(kiln_dot *dot, uint32_t local);

/* An f32 value as the sum of n_parts bf16 values, each as the u32 pattern of an f32 (low half 0):
 * one is the value rounded; three are exact but for the last rounding, and infinities have zeros
 * after them. */
void kiln_bf16_parts(kiln_kernel *k, kiln_kv value, uint32_t n_parts, kiln_kv *out_parts);
/* `value` holds a number of graph dtype `dtype`: bf16 values are their own single part. */
void kiln_bf16_parts_of(kiln_kernel *k, kiln_kv value, kiln_dtype dtype, uint32_t n_parts,
                        kiln_kv *out_parts);
/* The u32 of four bytes, and of two u16, the first one lowest. */
kiln_kv kiln_byte_word(kiln_kernel *k, const kiln_kv *bytes);
kiln_kv kiln_half_word(kiln_kernel *k, const kiln_kv *halves);
/* The u32 of two such patterns: the first in the low half. */
kiln_kv kiln_bf16_pair(kiln_kernel *k, kiln_kv first, kiln_kv second);
#endif
