/* The schedule: in which groups, order and memory a graph runs. It stands beside the graph (which
 * it borrows): one graph may have several schedules, and unfused is one of them.
 *
 * A group computes its `outputs` from its `inputs` in one kernel; `nodes` are everything it
 * evaluates on the way, ids ascending. A node may be in several groups when computing it again is
 * cheaper than storing it. Views of stored values are never stored: each consumer's group holds the
 * view node and reads through it. Groups stand in execution order.
 *
 * Invariants (passes/verify_schedule.c, after fuse and again after plan_memory):
 *   every output of the graph (through reshapes: see kiln_stored_value) that is not in `copies` is
 * the output of exactly one group, and so is every group input that is neither a graph input nor a
 *   constant, in an earlier group; every operand of a node of a group is a
 *   node or an input of it; a group has the shape its kind demands; after planning no two values
 * that live at the same step overlap, except a place declared inside another. */
#ifndef KILN_PASSES_SCHEDULE_H
#define KILN_PASSES_SCHEDULE_H

#include "graph/graph.h"
#include "passes/machine.h"

typedef enum kiln_group_kind {
    KILN_GROUP_POINTWISE, /* any mix of ELEMENTWISE, VIEW, MOVE and iota; all outputs have the same
                             dims, and each is computed at the index it is stored at; anchor 0 */
    KILN_GROUP_ROW,    /* reductions over the trailing axes of one row space, chained with maps. The
                          space is kiln_row_space of the anchor: every reduction has its rows and
                          cols (its operand's dims may split them differently); a value that depends
                          on a reduction has element number row * cols + col, or row, in row-major
                          order, and reads others of its row only; so have the outputs */
    KILN_GROUP_COLUMN, /* reductions with the same operand dims and axes, not all trailing, chained
                          with maps: what depends on one has the operand's or the result's dims */
    KILN_GROUP_WINDOW, /* one WINDOW node, prologue on its operand, ELEMENTWISE epilogue */
    KILN_GROUP_DOT,    /* one dot_general, views on its operands, ELEMENTWISE epilogue on its result
                          (values that do not depend on the result enter through any views). An
                          output has the result's dims, or is a transpose of such a value */
    KILN_GROUP_CONV,   /* one convolution (NHWC, HWIO), the rest as for DOT */
    KILN_GROUP_BAND,   /* CONV groups in a chain, the last one perhaps a WINDOW: its members. Each
                          reads a few rows of what the one before it makes, which stay with the tile
                          and are stored nowhere. The anchor is the last member's; see band.h */
    KILN_GROUP_HORIZONTAL, /* POINTWISE, ROW and COLUMN groups that do not wait for each other, its
                              members: it has their outputs and tiles, in order; no anchor */
    KILN_GROUP_PACK,   /* copies one operand of a later contraction to a packed format */
    KILN_GROUP_ATTENTION, /* softmax(f(Q K^T)) V in one kernel, see kiln_match_attention; the anchor
                             is the second product, outputs as for DOT */
    KILN_GROUP_ROUTINE,   /* one ROUTINE node (barrier is a copy) */
    KILN_GROUP_REGION,    /* one REGION node, the anchor, and the items that others read, its
                             outputs; the inputs are its operands as they are stored. No kernel: the
                             region's own schedule runs in its place */
} kiln_group_kind;

const char *kiln_group_kind_name(kiln_group_kind kind);

/* How the bytes of a stored operand are arranged. */
typedef enum kiln_format {
    KILN_FORMAT_DENSE,   /* strides of its place */
    KILN_FORMAT_PANEL16, /* [batch…][ceil(n / 16)][k][16] of the element; columns past n are zero. n
                            and k are the roles the contraction gives the operand's axes: for a
                            convolution k is (kh, kw, ic) row-major and n the output channel within
                            its group, groups outermost. f32_n16 and f64_n16 in dumps */
    KILN_FORMAT_BF16_K2N16, /* [batch…][ceil(n / 16)][ceil(k / 32)][16][16][2] of bf16: 16 pairs of
                               k by 16 columns are a matrix tile; f32 values rounded; zeros past n
                               and k. The contraction multiplies bf16 and sums in f32 by tiles of 32
                               k, in order */
    KILN_FORMAT_BF16X3_K2N16, /* [batch…][ceil(n / 16)][3] of such k: an f32 value as the sum of
                                 three bf16 ones. The contraction is "x6": per 32 k the products of
                                 parts (2, 0), (1, 0), (1, 1), (0, 1), (0, 0), (0, 2), summed for
                                 128 k, then added in f32 */
    KILN_FORMAT_I8_K4N16, /* [batch…][ceil(n / 16)][ceil(k / 64)][16][16][4] of i8 or u8: 16 times
                             four k by 16 columns are a matrix tile; zeros past n and k. Sums are
                             integers, the same in any order */
    KILN_FORMAT_WINOGRAD_N16, /* the kernel of a convolution with the attribute winograd = m, after
                                 its transform: [ceil(n / 16)][(m + 2)^2][ic][16] of f32 */
    KILN_FORMAT_NIBBLE16, /* [ceil(n / 16)][ceil(k / 2)][16] bytes of two codes, even k low */
    KILN_FORMAT_TABLE16,  /* [ceil(n / 16)][blocks of k][16]: what stays the same along a block */
} kiln_format;

typedef struct kiln_operand {
    kiln_value value;    /* a constant operand of a contraction may be views of a constant */
    kiln_format format;
    kiln_value consumer; /* packed: the contraction whose roles apply; else 0 */
} kiln_operand;

/* A product's register tile and blocks found by timing. Zeros: the cost model chooses. */
typedef struct kiln_tuned {
    uint32_t rows, vectors, row_blocks, column_blocks;
} kiln_tuned;

typedef struct kiln_group {
    kiln_group_kind kind;
    kiln_value anchor; /* contraction, window, routine; ROW and COLUMN: the first reduction */
    uint32_t n_nodes, n_inputs, n_outputs;
    const kiln_value *nodes;    /* ids ascending; inputs are not among them */
    const kiln_operand
        *inputs; /* constants included unless splat: splats and scalars of at most 16
                    elements known at compile time are nodes, written into the code. A DOT may have
                    the packed weights of a later one too, to ask for them while it is at work */
    const kiln_operand *outputs;
    int64_t flops, bytes;       /* one run, by the cost model */
    double ns;                  /* on one core */
    const char *label;          /* of the anchor or root, for profiles; never NULL */
    kiln_tuned tuned;
    int64_t scratch_bytes, scratch_offset; /* REGION: arena that its steps need beside operands */
    uint32_t n_members;
    const struct kiln_group *members; /* each as if it were a group of its own */
} kiln_group;

/* The first carried operands of a loop are its first items; 0 for other nodes. */
uint32_t kiln_region_n_carried(const kiln_node *node);

typedef enum kiln_place_kind {
    KILN_PLACE_INPUT,
    KILN_PLACE_OUTPUT,
    KILN_PLACE_CONSTANT,
    KILN_PLACE_ARENA,
} kiln_place_kind;

/* Where a stored operand lives. `strides` are in elements, per axis of the value; a value placed
 * inside another (`inside`: an assembled concat) has that one's buffer and its own origin. */
typedef struct kiln_place {
    kiln_operand operand;
    kiln_place_kind kind;
    uint32_t index;            /* INPUT and OUTPUT: port number; CONSTANT: number of the constant */
    int64_t offset;            /* ARENA: bytes from its start, multiple of 64 */
    int64_t bytes;             /* of the buffer */
    int64_t origin;            /* elements from the buffer's start to element 0 of the value */
    const int64_t *strides;    /* rank entries; NULL for packed formats */
    uint32_t inside;           /* place number of the enclosing value, or KILN_NONE */
    uint32_t shares; /* the place whose memory this one takes over while its group reads it (same
                        dims, each element read before it is written), or KILN_NONE */
    uint32_t first_step, last_step; /* live range, as group numbers; n groups: to the end */
} kiln_place;

/* An output of the graph that no group writes, because it is (a reshape of) an input, a constant or
 * another output: copied whole from place `from` to output `port` when the groups have run. */
typedef struct kiln_output_copy {
    uint32_t from, port;
} kiln_output_copy;

typedef struct kiln_schedule {
    const kiln_graph *graph;
    const kiln_machine *machine;
    kiln_scope *scope;         /* whose arena holds it all */
    bool is_unfused;
    uint32_t n_threads;
    kiln_vec(kiln_group) groups;
    kiln_vec(kiln_place) places;   /* filled by plan_memory */
    int64_t arena_bytes, lower_bound_bytes;
    kiln_vec(const char *) refusals; /* one sentence per edge not fused, for explain */
    kiln_vec(kiln_output_copy) copies;
    kiln_vec(kiln_value) assembled; /* concats that no group computes: the groups that make their
                                       operands store them into the concat's place */
    kiln_vec(
        uint32_t) donations; /* by input of the graph: the output that may lie in its memory, or
                                KILN_NONE; nothing reads the input once the output is written */
} kiln_schedule;

/* Whether the value is in schedule->assembled. */
bool kiln_schedule_is_assembled(const kiln_schedule *schedule, kiln_value value);

/* Places stand in this order: value, format, consumer. */
int kiln_operand_compare(kiln_operand a, kiln_operand b);

/* The number of an operand's place, or KILN_NONE. */
uint32_t kiln_schedule_find_place(const kiln_schedule *schedule, kiln_operand operand);

/* The place of an operand; fails with INTERNAL when it has none. */
const kiln_place *kiln_schedule_place(const kiln_schedule *schedule, kiln_operand operand);

void kiln_schedule_print(const kiln_schedule *schedule, kiln_text *text);
kiln_status kiln_schedule_verify(const kiln_schedule *schedule, const char *where,
                                 kiln_error *error);

/* What kernels load and store of an operand, `dtype` being its own: pairs of bf16 are u32. */
kiln_dtype kiln_format_dtype(kiln_format format, kiln_dtype dtype);
/* How many numbers of a tile stand for a value: 1, or 3 for bf16; 0 for the formats of plain
 * elements. */
uint32_t kiln_format_parts(kiln_format format);
/* k of one step of a tile format, which pads it to a multiple of that: 64 bytes of a row. */
int64_t kiln_format_step(kiln_format format);
#define KILN_TILE_K 32 /* that of bf16 */

/* Bytes of an operand in its format. */
int64_t kiln_operand_bytes(const kiln_graph *graph, kiln_operand operand);

/* The roles of the axes of a contraction: how a dot_general or a (NHWC, HWIO) convolution is a
 * batched matrix product out[batch, m, n] = sum_k a[batch, m, k] * b[batch, k, n]. */
typedef struct kiln_matmul_roles {
    kiln_ints batch, m, n, k;  /* result axes for batch, m, n; lhs axes for k */
    kiln_ints a_batch, a_m, a_k, b_batch, b_k, b_n; /* axes of the operands */
    int64_t batch_size, m_size, n_size, k_size;
} kiln_matmul_roles;
void kiln_dot_roles(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                    kiln_matmul_roles *out_roles);

/* Whether a contraction's shape is one for matrix tiles of 16 x 16 sums and n_parts numbers a
 * value. Matrices that are small in a direction do not fill tiles; a second operand that is packed
 * at run time wants rows that pay for it; a few rows against constants are bound by their bytes,
 * which three parts make half as many again. Convolutions: constant kernel, one group, no input
 * dilation. */
bool kiln_contraction_fits_tiles(kiln_arena *arena, const kiln_graph *graph, kiln_value contraction,
                                 uint32_t n_parts);

/* The row space of a reduction over trailing axes: the first n_row_axes of its operand are rows. */
typedef struct kiln_row_space {
    const kiln_type *type; /* of the operand */
    uint32_t n_row_axes;
    int64_t rows, cols;
} kiln_row_space;
/* False when the axes are not the trailing ones. */
bool kiln_reduce_row_space(const kiln_graph *graph, kiln_value reduce, kiln_row_space *out_space);

/* softmax(…q k^T…) v in any spelling: between two dot_generals lies a chain of elementwise work and
 * reductions over the rows of the scores. Operand i of the chain is all that reduction i and what
 * follows need of the scores, so a row runs through reduction after reduction in one buffer. */
#define KILN_MAX_ATTENTION_REDUCTIONS 4
typedef struct kiln_attention_match {
    kiln_value scores;  /* the first contraction, [batch…, m…, columns] */
    kiln_value weights; /* the first operand of the second one, rows as they stand in `scores` */
    uint32_t n_reductions;
    kiln_value reductions[KILN_MAX_ATTENTION_REDUCTIONS]; /* in order */
    kiln_value operands[KILN_MAX_ATTENTION_REDUCTIONS];   /* full rows */
    int64_t rows, columns;  /* of one batch element */
    bool *is_inside;        /* by node id: scores, weights and what lies between; in the arena */
} kiln_attention_match;
/* Whether `dot` is the second contraction of an attention. */
bool kiln_match_attention(kiln_arena *arena, const kiln_graph *graph, kiln_value dot,
                          kiln_attention_match *out_attention);

/* The value whose bytes hold `value`: reshapes of a dense value are that value. */
kiln_value kiln_stored_value(const kiln_graph *graph, kiln_value value);

/* The value under the views of `value`. */
kiln_value kiln_view_base(const kiln_graph *graph, kiln_value value);

/* Whether `value` is strided memory over `base`, a value under its views that lies dense in memory:
 * element i… is at origin + sum of i * strides. */
typedef struct kiln_view_strides {
    int64_t origin;
    int64_t strides[KILN_MAX_RANK];
} kiln_view_strides;
bool kiln_view_is_strided(const kiln_graph *graph, kiln_value value, kiln_value base,
                          kiln_view_strides *out_strides);

/* Writes the elements of a value that is a constant, or views of one, dense to `out` (type->bytes).
 * What a place of kind CONSTANT with a DENSE format holds. */
void kiln_constant_read(kiln_scope *scope, const kiln_graph *graph, kiln_value value, void *out);

/* What the schedule does, for people: groups with bytes, flops, estimated time and share of the
 * machine's limit, what fusion saves, and each refused fusion with its reason. */
void kiln_schedule_explain(const kiln_schedule *schedule, kiln_text *text);
#endif
