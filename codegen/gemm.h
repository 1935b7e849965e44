/* Register tiles of contractions: rows x vectors of sums that stay in registers while k runs. One
 * generator serves dot and convolution: rows of A are broadcast element by element, vectors of B
 * are loaded, every element of the result is one chain of fma over ascending k. */
#ifndef KILN_CODEGEN_GEMM_H
#define KILN_CODEGEN_GEMM_H

#include "codegen/lower.h"

#define KILN_TILE_ROWS 28
#define KILN_TILE_VECTORS 8
#define KILN_TILE_SUMS 32
#define KILN_CHUNK 4096 /* elements of one chain; chains are added in order */
#define KILN_PANEL 16

/* An operand in memory. dtype: of the graph, or KILN_NO_DTYPE when it stands there in compute
 * form. */
typedef struct kiln_tile_source {
    uint32_t buffer;
    kiln_dtype dtype;
} kiln_tile_source;

/* Where an operand of the epilogue has the elements of a tile: the first at `at`, rows `stride`
 * apart. */
typedef struct kiln_tile_beside {
    uint32_t buffer;
    kiln_kv at;
    int64_t stride;
} kiln_tile_beside;

#define KILN_TILE_BESIDE 2

typedef struct kiln_tile {
    kiln_lower *lower;
    kiln_dtype dtype; /* of the sums: f32, f64 or an integer */
    uint32_t lanes, rows, vectors;
    kiln_tile_source a, b;
    int64_t a_row[KILN_TILE_ROWS], a_k;       /* offsets of the rows from the base, step of k */
    kiln_kv a_place[KILN_TILE_ROWS];          /* added to them: rows that lie anywhere, or none */
    int64_t b_vector[KILN_TILE_VECTORS], b_k; /* the same for vectors of B */
    kiln_kv b_mask;                           /* of the last vector's loads, or none */
    kiln_kv masks[KILN_TILE_VECTORS]; /* of loads and stores, where which columns exist is not known
                                         here; or none */
    uint32_t unroll;                  /* steps of k in a trip of its loop; 0: four */
    bool b_is_aligned;
    bool b_is_near; /* in the first cache: nothing is fetched ahead */
    kiln_kv far;    /* element of far_buffer from where lines go into the second cache as k runs; 0:
                       lines of this tile's own steps go into the first one */
    uint32_t far_buffer; /* B's as a rule */
    int64_t far_lines;   /* of them in four steps of k: one from each of as many runs of
                            far_stream lines, which come from memory faster than a single run; or
                            neighbours, when that is 0 */
    int64_t far_stream;
    /* What the epilogue reads and writes: its lines go into the second cache as k runs. */
    kiln_tile_beside beside[KILN_TILE_BESIDE];
    uint32_t n_beside;
    int64_t beside_rows; /* of them; 0: as many as the tile has */
    /* NULL, or gives vector `vector` of B at k number at + step, in the dtype of the sums: then B's
       offset is the number of k. */
    kiln_kv (*widen)(void *user, uint32_t vector, kiln_kv at, int64_t step);
    void *widen_user;
    kiln_kv sums[KILN_TILE_SUMS]; /* row * vectors + vector */
} kiln_tile;

/* Sets the sums to +0. */
void kiln_tile_zero(kiln_tile *tile);
/* Adds a * b for k = 0 … n - 1, A from element `a`, B from element `b` on. */
void kiln_tile_accumulate(kiln_tile *tile, kiln_kv a, kiln_kv b, int64_t n);
/* Element `at` + offset of A in all lanes. */
kiln_kv kiln_tile_load_row(kiln_tile *tile, kiln_kv at, int64_t offset);
/* a * b + sum: fma for floats. */
kiln_kv kiln_tile_multiply_add(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv sum);
/* Opens a loop whose carries are the sums, and closes it. */
kiln_kv kiln_tile_loop(kiln_tile *tile, kiln_kv begin, kiln_kv end, int64_t step);
void kiln_tile_loop_end(kiln_tile *tile);

/* Lets tile `number` of `n_tiles`, each of `steps` of k, fetch its share of the panels that come
 * next into the second cache: the first `size` lines of n_panels of them from element `from` on,
 * `panel` elements apart. Nothing where the tiles cannot ask for all. */
typedef struct kiln_tile_next {
    uint32_t buffer;
    kiln_kv from, number;
    int64_t n_tiles, steps, n_panels, size, panel;
    bool goes_on; /* tiles that have none of these left ask for those behind them */
} kiln_tile_next;
void kiln_tile_fetch(kiln_tile *tile, const kiln_tile_next *next);
/* The most lines that so many tiles ask for. */
int64_t kiln_tile_most_lines(int64_t steps, int64_t n_tiles);
/* Panels of B beside each other in a tile. */
int64_t kiln_tile_panels(const kiln_tile *tile);

/* The offsets of B's vectors in panels of 16 of k_size rows. */
void kiln_tile_use_panels(kiln_tile *tile, int64_t k_size);

/* The result of a contraction, tile by tile: where the group's outputs are computed from the
 * sums. */
typedef struct kiln_epilogue {
    kiln_lower *lower;
    kiln_value node;     /* the contraction */
    kiln_dtype from, to; /* graph dtypes: of the sums, of the node */
    uint32_t local;      /* buffer for sums while a loop walks their rows; 0: unrolled */
    uint32_t work;       /* rough instructions of one vector */
    /* The index of the node's element in `row` (any numbering), columns from `column` on. */
    void (*index)(void *user, kiln_kv row, kiln_axis_index column, kiln_index *out_index);
    void *user;
} kiln_epilogue;

#define KILN_EPILOGUE_WORK 600 /* more of it does not stand side by side: loops walk it */

/* Unrolled over the tile; and by choice between that and looped, by what the group computes after
 * the contraction. */
kiln_epilogue kiln_epilogue_plain(kiln_lower *lower, kiln_value node, kiln_dtype from);
kiln_epilogue kiln_epilogue_create(kiln_lower *lower, kiln_value node, kiln_dtype from);
/* Lets a tile ask, as its k runs, for the lines that the epilogue reads and writes at its rows and
 * columns; its rows must follow each other in the result. */
void kiln_epilogue_follow(kiln_epilogue *epilogue, kiln_tile *tile, kiln_kv row,
                          kiln_axis_index column);
/* Stores a tile: row r of the sums is row `row` + r, vector v starts at `column` + v * lanes; the
 * last vector has `last` lanes that exist. */
void kiln_epilogue_emit(kiln_epilogue *epilogue, const kiln_tile *tile, kiln_kv row,
                        kiln_axis_index column, uint32_t last);

/* Cycles of one register tile, k steps and its stores. */
double kiln_tile_cycles(const kiln_machine *machine, uint32_t rows, uint32_t vectors, int64_t k);
/* Rows and vectors of the cheapest tile for [m, n] with k, and what all tiles cost in cycles. */
typedef struct kiln_tile_choice {
    uint32_t rows, vectors;
    double cycles;
} kiln_tile_choice;
/* The `most` cheapest tiles, the best first; returns how many there are. */
typedef struct kiln_tile_shape {
    uint32_t lanes;
    int64_t m, n, k;
    uint32_t most_rows; /* of a tile; 0: any number */
} kiln_tile_shape;
uint32_t kiln_tile_rank(const kiln_machine *machine, const kiln_tile_shape *shape, uint32_t most,
                        kiln_tile_choice *out_tiles);
kiln_tile_choice kiln_tile_choose(const kiln_machine *machine, uint32_t lanes, int64_t m, int64_t n,
                                  int64_t k);
#endif
