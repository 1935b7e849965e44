/* The kernel: how one group runs, for every target. A linear list of typed instructions in SSA
 * form; a value is the number of the instruction that defines it; loops are bracketed (loop … end)
 * and carry values by name. Vectors are explicit; masks are bool vectors; address arithmetic is i64
 * scalars. Printers (LLVM IR, C, CUDA C) translate row by row and decide nothing.
 *
 * Invariants (codegen/verify_kernel.c): operands are defined earlier, in this or an enclosing loop;
 * values from nowhere (const, lanes, tile_begin, tile_end, address) are equal to defined at the
 * start, so they are interned per kernel and serve everywhere after their number; types are as
 * kernel.def says; loops nest; buffers are accessed as declared (reads, writes).
 *
 * Shape of every CPU kernel: one outermost KILN_LOOP_TILES loop from tile_begin to tile_end whose
 * variable is the tile number 0 … n_tiles - 1; everything else is inside it. A kernel made of parts
 * has one such loop each, from max(tile_begin, first) to min(tile_end, end) of the part, in order.
 * On a GPU that loop is the block index, and one KILN_LOOP_THREADS loop inside is the thread
 * index. */
#ifndef KILN_CODEGEN_KERNEL_H
#define KILN_CODEGEN_KERNEL_H

#include "base/text.h"
#include "base/vec.h"
#include "graph/graph.h"
#include "passes/machine.h"

typedef uint32_t kiln_kv; /* kernel value: number of the defining instruction; 0 = none */

typedef enum kiln_instr_op {
    KILN_K_none = 0,
#define KILN_INSTR(name, n_args, rule, meaning) KILN_K_##name,
#include "codegen/kernel.def"
#undef KILN_INSTR
    KILN_N_INSTRS
} kiln_instr_op;

typedef enum kiln_loop_kind {
    KILN_LOOP_SERIAL,
    KILN_LOOP_TILES,   /* the outermost: tiles of this call (CPU), blocks (GPU) */
    KILN_LOOP_THREADS, /* GPU: threads of a block; end is a constant, the block's size */
    KILN_LOOP_UNROLL,  /* small constant trips that the printer should unroll */
} kiln_loop_kind;

/* flags of load and store */
#define KILN_MEM_ALIGNED 1u /* address is a multiple of the vector's bytes */
#define KILN_MEM_STREAM 2u  /* store past the caches: not read again soon; implies ALIGNED */
#define KILN_MEM_FAR 4u /* prefetch: into the second cache only */

/* flags of tile instructions: the tiles they work on */
#define KILN_N_TILES 8
#define KILN_TILE_BYTES 64 /* of a row; 16 rows */
#define KILN_TILE_STREAM (1u << 24) /* load: not read again soon, keeps out of the first cache */
#define KILN_TILES(c, a, b) ((uint32_t)(c) | (uint32_t)(a) << 8 | (uint32_t)(b) << 16)

typedef struct kiln_instr {
    uint8_t op;     /* kiln_instr_op */
    uint8_t dtype;  /* of the result; of the value stored; KILN_NO_DTYPE for end and barrier */
    uint16_t lanes; /* of the result, or of the access; 1 = scalar, any number up to 64 */
    uint32_t flags; /* loop: kiln_loop_kind; load, store: KILN_MEM_; tiles: KILN_TILES */
    kiln_kv args[3];
    int64_t imm;
} kiln_instr;

/* A parameter of the kernel, in the order of the step's operands. */
typedef struct kiln_param {
    kiln_dtype dtype;
    int64_t n_elements; /* that may be touched */
    bool is_read, is_written;
    uint32_t
        alignment;    /* bytes the base is known to be aligned to: 64, or the element's for ports */
    bool may_overlap; /* may be the memory of another parameter (an output in the place of a dying
                         or donated input): accesses keep their order. Set on both; else both are
                         noalias */
} kiln_param;

/* Scratch memory of one tile: in registers' overflow space (CPU: the worker's scratch; GPU:
 * shared). */
typedef struct kiln_local {
    kiln_dtype dtype;
    int64_t n_elements;
    int64_t offset; /* bytes into scratch, multiple of 64; set by kiln_kernel_add_local */
} kiln_local;

#define KILN_LOCAL_FIRST 1024 /* buffer numbers from here on are locals: number - 1024 */

/* A constant table for lookup: at most 32 elements. */
typedef struct kiln_table {
    kiln_dtype dtype;
    uint32_t n;
    const void *data;
} kiln_table;

typedef struct kiln_kernel {
    kiln_scope *scope; /* whose arena holds it all, and who fails */
    const kiln_machine *machine;
    const char *label; /* for people; not part of identity */
    kiln_vec(kiln_param) params;
    kiln_vec(kiln_local) locals;
    kiln_vec(kiln_table) tables;
    kiln_vec(int64_t) ints;       /* shuffles' lists */
    kiln_vec(kiln_instr) instrs;  /* at[0] is none */
    kiln_vec(kiln_kv) open_loops; /* while building */
    uint32_t n_tiles;
    uint32_t block_threads; /* GPU */
    int64_t scratch_bytes;  /* of the locals */
    bool is_pack;
    bool is_quick;          /* to be compiled with little effort (effort.h) */
    uint32_t n_blocks[2];   /* a product in register tiles: of rows and columns; else 0 */
    struct kiln_kernel_consts *consts; /* interned values from nowhere; kernel.c */
} kiln_kernel;

/* How the types of an instruction hang together; see kernel.def. */
typedef enum kiln_instr_rule {
    KILN_RULE_VALUE,
    KILN_RULE_NUMBER,
    KILN_RULE_FLOAT,
    KILN_RULE_INTEGER,
    KILN_RULE_BITS,
    KILN_RULE_COMPARE,
    KILN_RULE_SELECT,
    KILN_RULE_CONVERT,
    KILN_RULE_BITCAST,
    KILN_RULE_SPLAT,
    KILN_RULE_SHUFFLE,
    KILN_RULE_LOOKUP,
    KILN_RULE_MEMORY,
    KILN_RULE_TILE,
    KILN_RULE_LOOP,
} kiln_instr_rule;

#define KILN_K_MAX_LANES 64
#define KILN_K_MAX_TABLE 32

const char *kiln_instr_name(kiln_instr_op op);
uint32_t kiln_instr_n_args(kiln_instr_op op);
kiln_instr_rule kiln_instr_rule_of(kiln_instr_op op);
bool kiln_dtype_is_float(kiln_dtype dtype);  /* f32, f64: what kernels compute in */
bool kiln_dtype_is_int(kiln_dtype dtype);    /* integers, not bool */
bool kiln_dtype_is_signed(kiln_dtype dtype); /* signed integers */

kiln_kernel *kiln_kernel_create(kiln_scope *scope, const kiln_machine *machine, const char *label);
uint32_t kiln_kernel_add_param(kiln_kernel *kernel, const kiln_param *param);
/* Returns a buffer number >= KILN_LOCAL_FIRST. */
uint32_t kiln_kernel_add_local(kiln_kernel *kernel, kiln_dtype dtype, int64_t n_elements);
uint32_t kiln_kernel_add_table(kiln_kernel *kernel, kiln_dtype dtype, uint32_t n, const void *data);
kiln_dtype kiln_kernel_buffer_dtype(const kiln_kernel *kernel, uint32_t buffer);
int64_t kiln_kernel_buffer_elements(const kiln_kernel *kernel, uint32_t buffer);
/* True for const instructions of an integer dtype or bool; the value of each lane, extended by its
 * signedness. */
bool kiln_kernel_is_const(const kiln_kernel *kernel, kiln_kv value, int64_t *out_value);

static inline const kiln_instr *kiln_kernel_at(const kiln_kernel *kernel, kiln_kv value)
{
    return &kernel->instrs.at[value];
}

/* Appends an instruction as it is, after kiln_instr_check. The builders below are made of it. */
kiln_kv kiln_kernel_push(kiln_kernel *kernel, const kiln_instr *instr);

/* Builders. They fold what costs nothing to fold: i64 scalar arithmetic on constants, x + 0, x * 1,
 * select on a constant; of floats nothing. Types follow from operands; a mismatch fails with
 * INTERNAL. Masks that are constant true are dropped; constant false makes a load 0, a store
 * nothing. Name operands in variables rather than nest two builder calls in one argument list: C
 * leaves their order open, and the numbering (so the text, so the identity) would depend on the C
 * compiler. */
kiln_kv kiln_k_const_i64(kiln_kernel *k, int64_t value);
kiln_kv kiln_k_const_int(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes, int64_t value);
kiln_kv kiln_k_const_float(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes,
                           double value); /* f32, f64 */
kiln_kv kiln_k_const_bits(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes, uint64_t bits);
kiln_kv kiln_k_lanes(kiln_kernel *k, kiln_dtype dtype, uint32_t lanes);
kiln_kv kiln_k_tile_begin(kiln_kernel *k);
kiln_kv kiln_k_tile_end(kiln_kernel *k);
kiln_kv kiln_k_address(kiln_kernel *k, uint32_t param);
kiln_kv kiln_k_unary(kiln_kernel *k, kiln_instr_op op, kiln_kv a);
kiln_kv kiln_k_binary(kiln_kernel *k, kiln_instr_op op, kiln_kv a,
                      kiln_kv b); /* compares included */
/* On machines without fma: mul then add. */
kiln_kv kiln_k_fma(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv c);
/* a · b + c by words of four bytes; `op` is a dot4 row, or the row of tiles with its signs. */
kiln_kv kiln_k_dot4(kiln_kernel *k, kiln_instr_op op, kiln_kv a, kiln_kv b, kiln_kv c);
/* The same by words of two bf16 numbers, all three f32. */
kiln_kv kiln_k_dot2(kiln_kernel *k, kiln_kv a, kiln_kv b, kiln_kv c);
kiln_kv kiln_k_select(kiln_kernel *k, kiln_kv condition, kiln_kv a, kiln_kv b);
kiln_kv kiln_k_convert(kiln_kernel *k, kiln_kv a, kiln_dtype dtype);
kiln_kv kiln_k_bitcast(kiln_kernel *k, kiln_kv a, kiln_dtype dtype);
/* Returns `a` when it already has that many lanes. */
kiln_kv kiln_k_splat(kiln_kernel *k, kiln_kv a, uint32_t lanes);
kiln_kv kiln_k_shuffle(kiln_kernel *k, kiln_kv a, kiln_kv b, uint32_t lanes, const int64_t *from);
kiln_kv kiln_k_extract(kiln_kernel *k, kiln_kv a, uint32_t lane);
kiln_kv kiln_k_lookup(kiln_kernel *k, uint32_t table, kiln_kv index);

/* bool values are one i1 per lane; memory of dtype bool is bytes: a load compares with 0, a store
 * writes 0 or 1. */
kiln_kv kiln_k_load(kiln_kernel *k, uint32_t buffer, kiln_kv offset, uint32_t lanes, kiln_kv mask,
                    uint32_t flags);
void kiln_k_store(kiln_kernel *k, uint32_t buffer, kiln_kv offset, kiln_kv value, kiln_kv mask,
                  uint32_t flags);
kiln_kv kiln_k_gather(kiln_kernel *k, uint32_t buffer, kiln_kv offsets, kiln_kv mask);
void kiln_k_scatter(kiln_kernel *k, uint32_t buffer, kiln_kv offsets, kiln_kv value, kiln_kv mask);
void kiln_k_prefetch(kiln_kernel *k, uint32_t buffer, kiln_kv offset);
void kiln_k_prefetch_far(kiln_kernel *k, uint32_t buffer, kiln_kv offset);

/* Matrix tiles (kernel_tile.c); `stride` elements from row to row; a load's tile may carry
 * KILN_TILE_STREAM. */
void kiln_k_tile_zero(kiln_kernel *k, uint32_t tile);
void kiln_k_tile_load(kiln_kernel *k, uint32_t tile, uint32_t buffer, kiln_kv offset,
                      int64_t stride);
void kiln_k_tile_store(kiln_kernel *k, uint32_t tile, uint32_t buffer, kiln_kv offset,
                       int64_t stride);
void kiln_k_tile_dot(kiln_kernel *k, kiln_instr_op op, uint32_t c, uint32_t a, uint32_t b);
bool kiln_kernel_has_tiles(const kiln_kernel *kernel);
/* The machine model whose features the kernel's code needs: its own, or a plain model under it
 * that has all that the instructions use. */
const kiln_machine *kiln_kernel_target(const kiln_kernel *kernel);
/* The rule of the rows of kind TILE; for kiln_instr_check. */
kiln_status kiln_tile_check(const kiln_kernel *kernel, const kiln_instr *instr, kiln_error *error);

/* Opens a loop and returns its variable; then come the carries, the body, one next per carry, end.
 *
 *     kiln_kv i = kiln_k_loop(k, KILN_LOOP_SERIAL, zero, n, 1);
 *     kiln_kv sum = kiln_k_carry(k, start);
 *     kiln_k_next(k, sum, kiln_k_binary(k, KILN_K_add, sum, x));
 *     kiln_k_end(k);
 *     kiln_kv total = kiln_k_last(k, sum); */
kiln_kv kiln_k_loop(kiln_kernel *k, kiln_loop_kind kind, kiln_kv begin, kiln_kv end, int64_t step);
kiln_kv kiln_k_carry(kiln_kernel *k, kiln_kv first);
void kiln_k_next(kiln_kernel *k, kiln_kv carry, kiln_kv value);
void kiln_k_end(kiln_kernel *k);
kiln_kv kiln_k_last(kiln_kernel *k, kiln_kv carry);
void kiln_k_barrier(kiln_kernel *k);

/* i64 scalar shorthands. */
kiln_kv kiln_k_add_imm(kiln_kernel *k, kiln_kv a, int64_t b);
kiln_kv kiln_k_mul_imm(kiln_kernel *k, kiln_kv a, int64_t b);
kiln_kv kiln_k_div_imm(kiln_kernel *k, kiln_kv a, int64_t b); /* a >= 0, b > 0 */
kiln_kv kiln_k_rem_imm(kiln_kernel *k, kiln_kv a, int64_t b); /* a >= 0, b > 0 */
kiln_kv kiln_k_min(kiln_kernel *k, kiln_kv a, kiln_kv b);
kiln_kv kiln_k_max(kiln_kernel *k, kiln_kv a, kiln_kv b);
/* bool lanes: lane number < n (i64 scalar); none when `n` is a constant >= lanes. */
kiln_kv kiln_k_active(kiln_kernel *k, uint32_t lanes, kiln_kv n);

/* The text form: the same kernel prints the same, whatever its label. Identity of kernels. */
void kiln_kernel_print(const kiln_kernel *kernel, kiln_text *text);
kiln_status kiln_kernel_verify(const kiln_kernel *kernel, kiln_error *error);
/* Types of one instruction against its operands, by its rule. */
kiln_status kiln_instr_check(const kiln_kernel *kernel, const kiln_instr *instr, kiln_error *error);
#endif
