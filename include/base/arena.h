/* Arenas: memory that is freed all at once. Allocations are zeroed and aligned to 16 bytes. When
 * memory runs out, the arena fails through the scope it is attached to; an arena of a long-lived
 * object (a graph) is attached to the scope of the API entry at work and detached on the way
 * out. */
#ifndef KILN_BASE_ARENA_H
#define KILN_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct kiln_scope;

typedef struct kiln_arena_chunk kiln_arena_chunk;

typedef struct kiln_arena {
    kiln_arena_chunk *chunks;
    char *next, *end;
    size_t bytes;             /* total taken from the system */
    struct kiln_scope *scope; /* who is told when memory runs out; never NULL while allocating */
} kiln_arena;

void kiln_arena_init(kiln_arena *arena, struct kiln_scope *scope);
void kiln_arena_fini(kiln_arena *arena);

/* All that was taken from `from` belongs to `to`, where it lies; `from` starts anew. */
void kiln_arena_adopt(kiln_arena *to, kiln_arena *from);

void *kiln_arena_alloc(kiln_arena *arena, size_t bytes);
void *kiln_arena_copy(kiln_arena *arena, const void *data, size_t bytes);

/* `count * size` checked: fails with LIMIT on overflow. */
void *kiln_arena_array(kiln_arena *arena, size_t count, size_t size);

/* NUL-terminated copies. */
char *kiln_arena_string(kiln_arena *arena, const char *text);
char *kiln_arena_format(kiln_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define kiln_new(arena, type) ((type *)kiln_arena_alloc((arena), sizeof(type)))
#define kiln_new_array(arena, type, count) \
    ((type *)kiln_arena_array((arena), (size_t)(count), sizeof(type)))
#endif
