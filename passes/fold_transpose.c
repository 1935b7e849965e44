/* Transposes of constants, for weights: blocks of 16 places along the operand by 16 along the
 * result's last axis go through a buffer, so that cache lines are read and written whole. An
 * element at a time would miss the cache, and rows side by side would share its sets where strides
 * are powers of two. */
#include <string.h>

#include "passes/fold.h"

#define TILE 16

/* The walk over all axes but the one that is last in the result, in the operand's order. */
typedef struct transpose_walk {
    const char *from;
    char *to;
    size_t element;
    int64_t stride; /* in the operand, of the axis that is last in the result */
    uint32_t n;
    int64_t dims[KILN_MAX_RANK], to_strides[KILN_MAX_RANK], from_strides[KILN_MAX_RANK];
    int64_t at[KILN_MAX_RANK], to_at, from_at;
} transpose_walk;

/* Steps on; false after the last place, when the walk stands at the first again. */
static bool walk_next(transpose_walk *walk)
{
    for (uint32_t axis = walk->n; axis-- > 0;) {
        walk->to_at += walk->to_strides[axis];
        walk->from_at += walk->from_strides[axis];
        if (++walk->at[axis] < walk->dims[axis]) return true;
        walk->to_at -= walk->to_strides[axis] * walk->dims[axis];
        walk->from_at -= walk->from_strides[axis] * walk->dims[axis];
        walk->at[axis] = 0;
    }
    return false;
}

static inline void copy_element(char *to, const char *from, size_t element)
{
    switch (element) {
    case 1:
        *to = *from;
        return;
    case 2:
        memcpy(to, from, 2);
        return;
    case 4:
        memcpy(to, from, 4);
        return;
    default:
        memcpy(to, from, 8);
    }
}

/* `n` places along the result's last axis, from number `first` on, for the whole walk. */
static void copy_columns(transpose_walk *walk, int64_t first, int64_t n)
{
    size_t element = walk->element;
    char block[TILE * TILE * 8];
    for (bool goes_on = true; goes_on;) {
        int64_t to_at[TILE], from_at[TILE], n_places = 0;
        for (; goes_on && n_places < TILE; n_places++) {
            to_at[n_places] = walk->to_at;
            from_at[n_places] = walk->from_at;
            goes_on = walk_next(walk);
        }
        for (int64_t i = 0; i < n; i++) {
            const char *row = walk->from + (size_t)((first + i) * walk->stride) * element;
            for (int64_t j = 0; j < n_places; j++) {
                copy_element(block + (size_t)(j * TILE + i) * element,
                             row + (size_t)from_at[j] * element, element);
            }
        }
        for (int64_t j = 0; j < n_places; j++) {
            memcpy(walk->to + (size_t)(to_at[j] + first) * element,
                   block + (size_t)(j * TILE) * element, (size_t)n * element);
        }
    }
}

void kiln_fold_transpose(const kiln_type *type, const int64_t *permutation, const void *from,
                         void *to)
{
    uint32_t rank = type->rank;
    size_t element = kiln_dtype_bytes(type->dtype);
    int64_t from_strides[KILN_MAX_RANK], to_strides[KILN_MAX_RANK], n = 1;
    if (type->n_elements == 0) return;
    for (uint32_t i = rank; i-- > 0; n *= type->dims[i]) from_strides[i] = n;
    n = 1;
    for (uint32_t i = rank; i-- > 0; n *= type->dims[permutation[i]])
        to_strides[permutation[i]] = n;
    int64_t last = rank ? permutation[rank - 1] : 0;
    transpose_walk walk = {from, to, element, rank ? from_strides[last] : 1};
    for (uint32_t i = 0; i < rank; i++) {
        if (i == last) continue;
        walk.dims[walk.n] = type->dims[i];
        walk.to_strides[walk.n] = to_strides[i];
        walk.from_strides[walk.n++] = from_strides[i];
    }
    int64_t n_last = rank ? type->dims[last] : 1;
    for (int64_t i = 0; i < n_last; i += TILE) {
        copy_columns(&walk, i, n_last - i < TILE ? n_last - i : TILE);
    }
}
