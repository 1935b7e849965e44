/* Growable arrays in an arena. A vec starts zeroed; its items move when it grows.
 *
 *     kiln_vec(uint32_t) ids = {0};
 *     kiln_vec_push(&ids, arena, 7u); */
#ifndef KILN_BASE_VEC_H
#define KILN_BASE_VEC_H

#include <string.h>

#include "base/arena.h"

#define kiln_vec(type)                                                                             \
    struct {                                                                                       \
        type *at;                                                                                  \
        uint32_t n, capacity;                                                                      \
    }

#define kiln_vec_push(vec, arena, item)                                                            \
    do {                                                                                           \
        if ((vec)->n == (vec)->capacity)                                                           \
            (vec)->at = kiln_vec_grow((arena), (vec)->at, &(vec)->capacity, sizeof *(vec)->at);    \
        (vec)->at[(vec)->n++] = (item);                                                            \
    } while (0)

static inline void *kiln_vec_grow(kiln_arena *arena, const void *at, uint32_t *capacity,
                                  size_t size)
{
    uint32_t old = *capacity, grown = old ? old * 2 : 8;
    void *moved = kiln_arena_array(arena, grown, size);
    if (at) memcpy(moved, at, old * size);
    *capacity = grown;
    return moved;
}
#endif
