/* Lowering: one group to one kernel. The core is kiln_lower_value: the value of a node of the group at
 * an index, as kernel instructions. ELEMENTWISE nodes recurse into their operands at the same index,
 * VIEW nodes change the index, MOVE nodes guard it, inputs of the group become loads. Nodes that the
 * schedule of the group computes otherwise (accumulators, reduced rows) are bound to their values. */
#ifndef KILN_CODEGEN_LOWER_H
#define KILN_CODEGEN_LOWER_H

#include "codegen/kernel.h"
#include "passes/schedule.h"

/* The index along one axis, for all lanes of a vector: lane i is at base + i * step, or at lanes[i]
 * when `lanes` is not none (then base and step mean nothing). */
typedef struct kiln_axis_index {
    kiln_kv base;     /* i64 scalar */
    int64_t step;     /* 0: the same in every lane */
    int64_t multiple; /* a number that is known to divide base; at least 1; 0 when base is the constant 0 */
    kiln_kv lanes;    /* i64 lanes */
} kiln_axis_index;

typedef struct kiln_index {
    uint32_t rank;
    kiln_axis_index axis[KILN_MAX_RANK];
} kiln_index;

typedef struct kiln_binding kiln_binding; /* a node bound to a value; lower_value.c */

typedef struct kiln_lower {
    kiln_scope *scope;
    const kiln_schedule *schedule;
    const kiln_graph *graph;
    const kiln_group *group;
    const kiln_machine *machine;
    kiln_kernel *kernel;
    uint32_t lanes;       /* of the vectors being computed now */
    kiln_kv mask;         /* lanes that exist now, or none for all; loads use it */
    const uint32_t *buffer_of; /* by position in group->inputs, then group->outputs: buffer number */
    kiln_vec(struct kiln_memo) memo; /* values at hand: (node, index) -> value, a stack */
    kiln_vec(kiln_binding) bindings;
} kiln_lower;

/* Lowers group `number`. The kernel's parameters are the group's inputs in order, then its outputs. */
kiln_kernel *kiln_lower_group(kiln_scope *scope, const kiln_schedule *schedule, uint32_t number);

/* One file each: lower_pointwise.c, lower_row.c, … They fill lower->kernel. */
void kiln_lower_pointwise(kiln_lower *lower);
void kiln_lower_row(kiln_lower *lower);
void kiln_lower_column(kiln_lower *lower);
void kiln_lower_window(kiln_lower *lower);
void kiln_lower_dot(kiln_lower *lower);
void kiln_lower_conv(kiln_lower *lower);
void kiln_lower_pack(kiln_lower *lower);
/* The same for GPU machines: blocks and threads. */
void kiln_lower_gpu_pointwise(kiln_lower *lower);
void kiln_lower_gpu_row(kiln_lower *lower);

/* The value of `node` at `index` in its compute dtype, lower->lanes lanes. Memoised for the loops that
 * are open; a shared node is computed once per index. No recursion on the depth of the graph. */
kiln_kv kiln_lower_value(kiln_lower *lower, kiln_value node, const kiln_index *index);

/* Binds `node` to `value` whatever the index, until unbound (bindings form a stack). */
void kiln_lower_bind(kiln_lower *lower, kiln_value node, kiln_kv value);
void kiln_lower_unbind(kiln_lower *lower, uint32_t n);
/* Marks and cuts the memo: values made inside a loop do not survive it. Call mark after opening a
 * loop and cut before closing it. */
uint32_t kiln_lower_mark(const kiln_lower *lower);
void kiln_lower_cut(kiln_lower *lower, uint32_t mark);

/* Stores `value` (compute dtype) as element `index` of output `number` of the group. */
void kiln_lower_store(kiln_lower *lower, uint32_t number, const kiln_index *index, kiln_kv value);

/* Element offset of `index` in a place: scalar base plus step per lane, or lanes. */
kiln_axis_index kiln_lower_offset(kiln_lower *lower, const kiln_place *place, const kiln_index *index);

/* An index on which all axes are 0 / whose axis is `base` scalar / base + lane. */
kiln_axis_index kiln_axis_zero(kiln_lower *lower);
kiln_axis_index kiln_axis_scalar(kiln_kv base, int64_t multiple);
kiln_axis_index kiln_axis_vector(kiln_kv base, int64_t multiple);

/* The index of element number `linear` (row-major) of dims, exact for any lanes. */
void kiln_lower_delinearize(kiln_lower *lower, kiln_axis_index linear, uint32_t rank, const int64_t *dims,
                            kiln_index *out_index);
kiln_axis_index kiln_lower_linearize(kiln_lower *lower, const kiln_index *index, const int64_t *dims);

/* A value of a group seen through its views as strided memory: node's element i… is at
 * origin + sum of i * strides of input `input` of the group. False when it is not strided. */
typedef struct kiln_strided {
    uint32_t input;
    int64_t origin;
    int64_t strides[KILN_MAX_RANK];
} kiln_strided;
bool kiln_lower_strided(const kiln_lower *lower, kiln_value node, kiln_strided *out_strided);

/* Vector lanes of a compute dtype on this machine. */
uint32_t kiln_machine_lanes(const kiln_machine *machine, kiln_dtype compute);
#endif
