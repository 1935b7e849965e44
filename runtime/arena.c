/* Arenas: chunks that double from 4 KiB to 1 MiB; a larger request gets a chunk of its own. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/scope.h"

struct kiln_arena_chunk {
    kiln_arena_chunk *next;
    size_t bytes;
    _Alignas(16) char data[];
};

#define CHUNK_MIN ((size_t)4096)
#define CHUNK_MAX ((size_t)1 << 20)

void kiln_arena_init(kiln_arena *arena, struct kiln_scope *scope)
{
    *arena = (kiln_arena){.scope = scope};
}

void kiln_arena_fini(kiln_arena *arena)
{
    kiln_arena_chunk *chunk = arena->chunks;
    while (chunk) {
        kiln_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (kiln_arena){.scope = arena->scope};
}

void kiln_arena_adopt(kiln_arena *to, kiln_arena *from)
{
    kiln_arena_chunk **end = &to->chunks;
    while (*end) end = &(*end)->next;
    *end = from->chunks;
    to->bytes += from->bytes;
    *from = (kiln_arena){.scope = from->scope};
}

static kiln_arena_chunk *add_chunk(kiln_arena *arena, size_t bytes)
{
    kiln_arena_chunk *chunk = calloc(1, sizeof *chunk + bytes);
    if (!chunk) {
        kiln_fail(arena->scope, KILN_NO_MEMORY, "arena: %zu bytes were not available", bytes);
    }
    chunk->bytes = bytes;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->bytes += bytes;
    return chunk;
}

void *kiln_arena_alloc(kiln_arena *arena, size_t bytes)
{
    if (bytes > PTRDIFF_MAX - 64) {
        kiln_fail(arena->scope, KILN_LIMIT, "arena: a request of %zu bytes", bytes);
    }
    size_t padded = (bytes + 15) & ~(size_t)15;
    if (!arena->next || padded > (size_t)(arena->end - arena->next)) {
        size_t grown = arena->bytes < CHUNK_MIN ? CHUNK_MIN : arena->bytes;
        if (grown > CHUNK_MAX) grown = CHUNK_MAX;
        if (padded > grown / 4) return add_chunk(arena, padded)->data;
        kiln_arena_chunk *chunk = add_chunk(arena, grown);
        arena->next = chunk->data;
        arena->end = chunk->data + grown;
    }
    void *memory = arena->next;
    arena->next += padded;
    return memory;
}

void *kiln_arena_array(kiln_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        kiln_fail(arena->scope, KILN_LIMIT, "arena: an array of %zu items of %zu bytes", count,
                  size);
    }
    return kiln_arena_alloc(arena, bytes);
}

void *kiln_arena_copy(kiln_arena *arena, const void *data, size_t bytes)
{
    void *copy = kiln_arena_alloc(arena, bytes);
    if (bytes) memcpy(copy, data, bytes);
    return copy;
}

char *kiln_arena_string(kiln_arena *arena, const char *text)
{
    return kiln_arena_copy(arena, text, strlen(text) + 1);
}

char *kiln_arena_format(kiln_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = kiln_arena_alloc(arena, n < 0 ? 1 : (size_t)n + 1);
    if (n >= 0) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}
