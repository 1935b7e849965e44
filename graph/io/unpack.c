/* Compacted bytes -> messages, by protobuf-c on an allocator that refuses beyond a budget.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "graph/io/prescan_format.h"

/* A bump allocator for protobuf-c: refuses beyond the budget, frees everything with the scope. */
typedef struct pool_chunk {
    struct pool_chunk *next;
} pool_chunk;

typedef struct unpack_pool {
    pool_chunk *chunks;
    char *at;
    size_t left;
    int64_t budget;
    bool is_over;
} unpack_pool;

static void pool_release(void *object)
{
    unpack_pool *pool = object;
    while (pool->chunks) {
        pool_chunk *chunk = pool->chunks;
        pool->chunks = chunk->next;
        free(chunk);
    }
}

static void *pool_alloc(void *user, size_t bytes)
{
    unpack_pool *pool = user;
    if (bytes > (size_t)1 << 40) return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (pool->left < bytes) {
        size_t size = bytes > 65536 ? bytes : 65536;
        if ((int64_t)size > pool->budget) {
            pool->is_over = true;
            return NULL;
        }
        pool_chunk *chunk = malloc(size + 16);
        if (!chunk) return NULL;
        pool->budget -= (int64_t)size;
        chunk->next = pool->chunks;
        pool->chunks = chunk;
        pool->at = (char *)chunk + 16;
        pool->left = size;
    }
    void *memory = pool->at;
    pool->at += bytes;
    pool->left -= bytes;
    return memory;
}

static void pool_free(void *user, void *memory)
{
    (void)user;
    (void)memory;
}

static void *copy_unpack(const kiln_source *source, const kiln_scan_format *format,
                         const ProtobufCMessageDescriptor *descriptor, const kiln_scan_copy *copy)
{
    unpack_pool *pool = kiln_new(&source->scope->arena, unpack_pool);
    pool->budget = copy->budget + (1 << 20);
    kiln_scope_defer(source->scope, pool_release, pool);
    ProtobufCAllocator allocator = {pool_alloc, pool_free, pool};
    void *message = protobuf_c_message_unpack(descriptor, &allocator, copy->n, copy->at);
    if (message) return message;
    if (pool->is_over)
        kiln_fail(source->scope, KILN_LIMIT,
                  "%s: proto memory over %" PRId64 " bytes; expected less", source->where,
                  copy->budget);
    kiln_fail(source->scope, KILN_MODEL, "%s: not %s; expected its fields", source->where,
              format->title);
}

void *kiln_proto_unpack(const kiln_source *source, const kiln_scan_format *format,
                        const ProtobufCMessageDescriptor *descriptor)
{
    kiln_scope *scope = source->scope;
    if (source->bytes == 0)
        kiln_fail(scope, KILN_MODEL, "%s: byte 0: the file is empty or truncated; expected %s",
                  source->where, format->title);
    kiln_scan_copy copy;
    kiln_prescan(source, format, &copy);
    return copy_unpack(source, format, descriptor, &copy);
}

Kiln__Onnx__Model *kiln_onnx_unpack(const kiln_source *source)
{
    if (source->bytes > KILN_ONNX_MAX_BYTES)
        kiln_fail(source->scope, KILN_LIMIT,
                  "%s: %" PRId64 " bytes; expected at most 2 GiB (external data for more)",
                  source->where, source->bytes);
    return kiln_proto_unpack(source, &kiln_scan_onnx, &kiln__onnx__model__descriptor);
}
