/* Stages of a group with reductions: a reduction whose operand needs no other one belongs to stage
 * 0, one that needs those of stage 0 (the variance after the mean) to stage 1, and so on. Each
 * stage is one walk over the reduced elements; outputs of the full shape are stored in the first
 * stage that has all they need. A value that several stages need is kept when evaluating it again
 * costs more. */
#ifndef KILN_CODEGEN_LOWER_STAGE_H
#define KILN_CODEGEN_LOWER_STAGE_H

#include "codegen/lower.h"
#include "passes/row_move.h"

#define KILN_MAX_STAGES (KILN_MAX_CHAIN + 1)

typedef struct kiln_stage {
    kiln_vec(kiln_value) reductions;
    kiln_vec(uint32_t) outputs; /* of the full shape, by number */
    kiln_vec(kiln_value) kept;  /* made in this stage, read in later ones */
    kiln_vec(kiln_value) maps;  /* ELEMENTWISE nodes of the full shape between what is read and what
                                   the stage makes, ids ascending */
} kiln_stage;

typedef struct kiln_stages {
    uint32_t n;
    kiln_stage stage[KILN_MAX_STAGES];
    int64_t n_results, n_reduced;     /* the full shape has n_results * n_reduced elements */
    const kiln_type *full;            /* operand of the first reduction */
    kiln_vec(uint32_t) small_outputs; /* one element per result, by number */
} kiln_stages;

/* `keep_bytes`: room for kept values, n_reduced elements each; 0 keeps none. `is_parted`: what
 * reductions read is made and kept in a stage of its own where that is more than a few
 * instructions. */
void kiln_stages_find(kiln_lower *lower, int64_t keep_bytes, bool is_parted,
                      kiln_stages *out_stages);

/* An output may lie in the place of an input. */
bool kiln_lower_writes_over_inputs(const kiln_lower *lower);

/* A reduction in progress: vectors of partial values, and for argmax and argmin their positions. */
#define KILN_MAX_PARTIALS 16
typedef struct kiln_partials {
    kiln_op op;
    kiln_dtype compute, dtype; /* of the operand */
    bool is_arg, is_last;
    kiln_dtype position; /* dtype of positions */
    uint32_t n, lanes;
    kiln_kv value[KILN_MAX_PARTIALS], at[KILN_MAX_PARTIALS];
    /* Maxima and minima of floats that only the tree reads, one instruction a vector: `value` loses
     * NaNs and the signs of zeros, which these keep for all vectors together. */
    bool is_fast;
    bool is_shift; /* … and nobody asks for those */
    kiln_kv nan;   /* bits: lanes that have seen one are all ones */
    kiln_kv signs; /* bits: of all elements, and for max, or for min */
    kiln_kv news;  /* bool: NaNs that `nan` does not have yet, or none */
} kiln_partials;

/* `n` vectors of the identity for reduction `node` over n_reduced elements. */
void kiln_partials_begin(kiln_lower *lower, kiln_value node, uint32_t n,
                         kiln_partials *out_partials);
/* Whether the value is x less the maximum of x over some axes: at most 0, or NaN. */
bool kiln_lower_is_shifted(const kiln_lower *lower, kiln_value value);
/* Whether what comes of maximum `node` does not depend on the NaNs and the signs of zeros in it. */
bool kiln_lower_is_shift(const kiln_lower *lower, kiln_value node);
/* Lets the partials be fast where that pays; is_shift may be set then. The next use but steps,
 * merges and carries is the tree or settling: one vector with the lanes' results. */
void kiln_partials_hurry(kiln_lower *lower, kiln_partials *partials);
void kiln_partials_settle(kiln_lower *lower, kiln_partials *partials);
/* Combines vector `i` with `value`, lanes off in lower->mask stay; `element` is the number of the
 * reduced element in each lane (an axis). */
void kiln_partials_step(kiln_lower *lower, kiln_partials *partials, uint32_t i, kiln_kv value,
                        const kiln_axis_index *element);
/* a[i] = a[i] combined with b[i], for all i. */
void kiln_partials_merge(kiln_lower *lower, kiln_partials *a, const kiln_partials *b);
/* Opens carries for all vectors, sets their next values, and reads them after the loop's end. */
void kiln_partials_carry(kiln_lower *lower, kiln_partials *partials);
void kiln_partials_next(kiln_lower *lower, const kiln_partials *carries,
                        const kiln_partials *partials);
void kiln_partials_last(kiln_lower *lower, const kiln_partials *carries,
                        kiln_partials *out_partials);
/* The fixed tree over all lanes: halves of the vectors, then halves of the lanes. One lane. */
kiln_kv kiln_partials_tree(kiln_lower *lower, kiln_partials *partials);
/* The result in the compute dtype of the reduction's type, from one vector of values and positions.
 */
kiln_kv kiln_partials_result(kiln_lower *lower, const kiln_partials *partials, uint32_t i);
#endif
