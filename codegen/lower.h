/* Lowering: one group to one kernel. The core is kiln_lower_value: the value of a node of the group
 * at an index, as kernel instructions. ELEMENTWISE nodes evaluate their operands at the same index,
 * VIEW nodes change the index, MOVE nodes guard it, inputs of the group become loads. Nodes that
 * the schedule of the group computes otherwise (accumulators, reduced rows) are bound to their
 * values. */
#ifndef KILN_CODEGEN_LOWER_H
#define KILN_CODEGEN_LOWER_H

#include "codegen/kernel.h"
#include "passes/schedule.h"

/* The index along one axis, for all lanes of a vector: lane i is at base + i * step, at base +
 * spread[i] (step is 0), or at lanes[i] (base and step mean nothing). With a divide or a modulo the
 * axis is a digit of that number, (number / divide) % modulo: several axes walked by one loop
 * variable. Digits are written out only where needed; neighbouring ones join again in offsets. */
typedef struct kiln_axis_index {
    kiln_kv base;          /* i64 scalar */
    kiln_kv lanes;         /* i64 lanes */
    int64_t step;          /* 0: the same in every lane */
    const int64_t *spread; /* constants >= 0, one a lane, interned; or NULL */
    int64_t multiple;      /* at least 1, known to divide base; 0 when base is the constant 0 */
    int64_t divide;        /* 0 and 1: none */
    int64_t modulo;        /* 0: none */
    int64_t extent;        /* number (before divide) < this in lanes that count; 0: not known */
    bool is_guarded;       /* lanes that a guard switches off may be out of range, below 0 too */
} kiln_axis_index;

typedef struct kiln_index {
    uint32_t rank;
    kiln_axis_index axis[KILN_MAX_RANK];
} kiln_index;

/* A node that is not evaluated: it has a value (scalar or of the lanes at work), whatever the
 * index, or it stands in a buffer at the strides of `place`. */
typedef struct kiln_binding {
    kiln_value node;
    kiln_kv value;
    uint32_t buffer;
    const kiln_place *place; /* NULL: value */
    kiln_kv base;            /* added to the place's offsets (i64 scalar), or none */
    bool is_operand;         /* the place is that of input `position` of the group */
    uint32_t position;
} kiln_binding;

/* How an operand lies in a local that keeps only its last rows: row r along `axis` stands at
 * r % rows. */
typedef struct kiln_ring {
    uint32_t axis;
    int64_t rows; /* 0: all of it is there */
} kiln_ring;

typedef struct kiln_memo kiln_memo;   /* values at hand; lower_memo.c */
typedef struct kiln_sites kiln_sites; /* where values were wanted; lower_value.c */

typedef struct kiln_lower {
    kiln_scope *scope;
    const kiln_schedule *schedule;
    const kiln_graph *graph;
    const kiln_group *group;
    const kiln_machine *machine;
    kiln_kernel *kernel;
    uint32_t lanes; /* of the vectors being computed now */
    kiln_kv mask;   /* lanes that exist now, lane 0 always among them; none for all. Loads and
                       stores use it */
    const uint32_t
        *buffer_of; /* by position in group->inputs, then group->outputs: buffer number */
    const kiln_place *const *place_of; /* by the same position */
    const kiln_ring *ring_of;          /* by the same position; NULL: none is a ring */
    uint32_t store_flags; /* KILN_MEM_STREAM: outputs begin at multiples of 64 bytes and go past the
                             caches */
    bool is_short; /* offsets that differ by constants are written as one sum and these: less code
                      to compile */
    kiln_memo *memo;
    kiln_sites *sites;
    struct kiln_spreads *spreads; /* constants of lanes, each once; lower_spread.c */
    kiln_vec(kiln_binding) bindings;
} kiln_lower;

/* Lowers group `number`. The kernel's parameters are the group's inputs in order, then outputs. */
kiln_kernel *kiln_lower_group(kiln_scope *scope, const kiln_schedule *schedule, uint32_t number);
/* A member of the group at work as a kernel of its own, parameters in the order of its operands. */
kiln_kernel *kiln_lower_member(const kiln_lower *lower, const kiln_group *member);

/* One file each: lower_pointwise.c, lower_row.c, … They fill lower->kernel. */
void kiln_lower_pointwise(kiln_lower *lower);
void kiln_lower_row(kiln_lower *lower);
void kiln_lower_column(kiln_lower *lower);
void kiln_lower_window(kiln_lower *lower);
void kiln_lower_dot(kiln_lower *lower);
void kiln_lower_attention(kiln_lower *lower);
void kiln_lower_conv(kiln_lower *lower);
void kiln_lower_band(kiln_lower *lower);
void kiln_lower_horizontal(kiln_lower *lower);
void kiln_lower_pack(kiln_lower *lower);
void kiln_lower_routine(kiln_lower *lower);
/* The same for GPU machines: blocks and threads. */
void kiln_lower_gpu_pointwise(kiln_lower *lower);
void kiln_lower_gpu_row(kiln_lower *lower);
void kiln_lower_gpu_column(kiln_lower *lower);
void kiln_lower_gpu_window(kiln_lower *lower);
void kiln_lower_gpu_routine(kiln_lower *lower);

/* Members of a band: what makes rows begin … end - 1 (axis 1) of the group's result, at most `most`
 * at once. To be made before the loops around it are open. */
typedef struct kiln_row_maker {
    void (*emit)(void *user, kiln_kv image, kiln_kv begin, kiln_kv end);
    void *user;
} kiln_row_maker;
kiln_row_maker kiln_conv_row_maker(kiln_lower *lower, int64_t most);
kiln_row_maker kiln_window_row_maker(kiln_lower *lower);

/* The value of `node` at `index` in its compute dtype, lower->lanes lanes. Memoised for the loops
 * that are open; a shared node is computed once per index, and once for all lanes where they agree.
 * No recursion on the depth of the graph. */
kiln_kv kiln_lower_value(kiln_lower *lower, kiln_value node, const kiln_index *index);
/* The same where `guard` (bool lanes, none: everywhere) is on; axes of the index that are out of
 * range elsewhere are marked is_guarded. The value in other lanes is any. */
kiln_kv kiln_lower_value_where(kiln_lower *lower, kiln_value node, const kiln_index *index,
                               kiln_kv guard);

/* Where the element of `node` stands, as an offset of i64 in what the group reads: for nodes that
 * are an input of the group, seen through views, take, gather and dynamic_slice. The index is a
 * scalar. */
kiln_kv kiln_lower_address(kiln_lower *lower, kiln_value node, const kiln_index *index);

/* Binds `node` to `value` whatever the index, until unbound (bindings form a stack). */
void kiln_lower_bind(kiln_lower *lower, kiln_value node, kiln_kv value);
/* Binds `node` to what stands in `buffer` (a local) in compute form at these strides per axis. */
void kiln_lower_bind_local(kiln_lower *lower, kiln_value node, uint32_t buffer,
                           const int64_t *strides);
void kiln_lower_unbind(kiln_lower *lower, uint32_t n);
/* Marks and cuts the memo: values made inside a loop do not survive it, and values that depended on
 * a binding do not survive that. Call mark after opening a loop and cut before closing it. */
uint32_t kiln_lower_mark(const kiln_lower *lower);
void kiln_lower_cut(kiln_lower *lower, uint32_t mark);

/* Stores `value` (compute dtype) as element `index` of output `number` of the group. */
void kiln_lower_store(kiln_lower *lower, uint32_t number, const kiln_index *index, kiln_kv value);

/* Element offset of `index` in a place: scalar base plus step per lane, or lanes; never a digit. */
kiln_axis_index kiln_lower_offset(kiln_lower *lower, const kiln_place *place,
                                  const kiln_index *index);

/* The same in the place of an operand, by position. */
kiln_axis_index kiln_lower_operand_offset(kiln_lower *lower, uint32_t position,
                                          const kiln_index *index);

/* An index on which all axes are 0 / whose axis is `base` scalar / base + lane. */
kiln_axis_index kiln_axis_zero(kiln_lower *lower);
kiln_axis_index kiln_axis_scalar(kiln_kv base, int64_t multiple);
kiln_axis_index kiln_axis_vector(kiln_kv base, int64_t multiple);
/* The axis without divide and modulo, instructions emitted where needed. */
kiln_axis_index kiln_axis_plain(kiln_lower *lower, const kiln_axis_index *axis);
/* The i64 lanes of an axis, `n` of them. */
kiln_kv kiln_axis_lanes(kiln_lower *lower, const kiln_axis_index *axis, uint32_t n);
/* axis * scale + offset. */
kiln_axis_index kiln_axis_affine(kiln_lower *lower, const kiln_axis_index *axis, int64_t scale,
                                 int64_t offset);
kiln_axis_index kiln_axis_add(kiln_lower *lower, const kiln_axis_index *a,
                              const kiln_axis_index *b);
static inline bool kiln_axis_is_uniform(const kiln_axis_index *axis)
{
    return axis->step == 0 && axis->lanes == 0 && !axis->spread;
}

/* The index of element number `linear` (row-major) of dims, for any lanes. Writes rank axes. */
void kiln_lower_delinearize(kiln_lower *lower, kiln_axis_index linear, uint32_t rank,
                            const int64_t *dims, kiln_axis_index *out_axes);
/* Sum of axes[i] * strides[i] + origin; joins neighbouring digits. Strides may be any numbers. */
typedef struct kiln_axis_sum {
    uint32_t rank;
    const kiln_axis_index *axes;
    const int64_t *dims, *strides;
    int64_t origin;
} kiln_axis_sum;
kiln_axis_index kiln_lower_sum(kiln_lower *lower, const kiln_axis_sum *sum);
/* Element number of `index` in row-major dims. */
kiln_axis_index kiln_lower_linearize(kiln_lower *lower, const kiln_index *index,
                                     const int64_t *dims);
/* The index of the operand of a VIEW node at `index` of its result. */
void kiln_lower_view(kiln_lower *lower, const kiln_node *node, const kiln_index *index,
                     kiln_index *out_index);

/* i64 scalar and lane arithmetic that remembers what it emitted for the loops that are open. */
kiln_kv kiln_lower_i64(kiln_lower *lower, int64_t value);
kiln_kv kiln_lower_op(kiln_lower *lower, kiln_instr_op op, kiln_kv a, kiln_kv b);
kiln_kv kiln_lower_op_imm(kiln_lower *lower, kiln_instr_op op, kiln_kv a, int64_t b);

/* A value of a group seen through its views as strided memory: node's element i… is at
 * origin + sum of i * strides of input `input` of the group. False when it is not strided. */
typedef struct kiln_strided {
    uint32_t input;
    int64_t origin;
    int64_t strides[KILN_MAX_RANK];
} kiln_strided;
bool kiln_lower_strided(const kiln_lower *lower, kiln_value node, kiln_strided *out_strided);
/* The same of what elementwise nodes of the group compute it from: of the first operand of each
 * that is no constant. */
bool kiln_lower_strided_under(const kiln_lower *lower, kiln_value node, kiln_strided *out_strided);

/* Elements below which a group is little work: its compile takes longer than many runs, so it gets
 * as little code as can be. */
#define KILN_SMALL_ELEMENTS 32768

/* Vector lanes of a compute dtype on this machine. */
uint32_t kiln_machine_lanes(const kiln_machine *machine, kiln_dtype compute);
/* Lanes of a group: those of its widest compute dtype, but never fewer than f32 has. */
uint32_t kiln_lower_group_lanes(const kiln_lower *lower);

/* A lowering of the same group into a kernel of its own, to try something and count. */
kiln_lower kiln_lower_scratch(const kiln_lower *lower);
/* Estimated cycles of one execution of the instructions from number `first` on. */
double kiln_lower_cost(const kiln_kernel *kernel, uint32_t first);
/* The gathers' part of that. */
double kiln_lower_gather_cost(const kiln_kernel *kernel, uint32_t first);

/* lane i: axis < n (i64 scalar); and both conditions, none being true. */
kiln_kv kiln_axis_below(kiln_lower *lower, const kiln_axis_index *axis, kiln_kv n);
kiln_kv kiln_lower_and(kiln_lower *lower, kiln_kv a, kiln_kv b);

/* Position in group->inputs (dense ones) / group->nodes, or KILN_NONE. */
uint32_t kiln_lower_input(const kiln_lower *lower, kiln_value node);
uint32_t kiln_lower_position(const kiln_lower *lower, kiln_value node);

/* Loads and stores at an offset: contiguous, splat, or gathered, in compute form. `mask` has the
 * lanes of the access or is none; `guard` says that it is more than a tail (lane 0 may be off). */
typedef struct kiln_access {
    uint32_t buffer;
    kiln_dtype dtype; /* of the graph; KILN_NO_DTYPE: the buffer is in compute form */
    uint32_t lanes;
    kiln_kv mask;
    bool is_guarded;
    uint32_t flags; /* for stores */
    kiln_axis_index offset;
} kiln_access;
kiln_kv kiln_lower_load_at(kiln_lower *lower, const kiln_access *access);
void kiln_lower_store_at(kiln_lower *lower, const kiln_access *access, kiln_kv value);

/* Transposes n vectors of n lanes, n a power of two, in registers. */
void kiln_lower_transpose(kiln_kernel *k, kiln_kv *rows, uint32_t n);

/* The memo, for lower_*.c: values by what made them. */
typedef struct kiln_memo_key {
    uint64_t what, a, b;
} kiln_memo_key;
kiln_memo *kiln_memo_create(kiln_scope *scope);
kiln_kv kiln_memo_find(const kiln_memo *memo, kiln_memo_key key);
void kiln_memo_add(kiln_memo *memo, kiln_memo_key key, kiln_kv value);
#endif
