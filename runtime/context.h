/* The context: options, the pool, the allocator and the last sentences. Shared by threads.
 *
 * Invariants: everything but `pool`, the sentences and `refs` is constant after creation; `pool` is
 * created once, under `lock`; a sentence is written under `lock` into the slot after the current
 * one and then published, so a reader's sentence stays whole for seven further failures. */
#ifndef KILN_RUNTIME_CONTEXT_H
#define KILN_RUNTIME_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/context.h"
#include "kiln/runtime.h"
#include "runtime/threads.h"

#define KILN_CONTEXT_SENTENCES 8u
#define KILN_MAX_THREADS 1024u

struct kiln_context {
    _Atomic uint32_t refs;
    uint32_t threads; /* workers of a run, the caller included */
    uint64_t cpu_features;
    int64_t max_bytes;
    kiln_allocator allocator;
    kiln_parallel_fn *parallel; /* NULL: the pool */
    void *parallel_user;

    pthread_mutex_t lock;
    kiln_threads *_Atomic pool; /* NULL until the first workspace that needs it */
    void *memo;                   /* the compiler's, under `lock`; opaque here */
    void (*memo_release)(void *); /* called once with `memo` */
    void *tools;                  /* the compiler's too, like memo */
    void (*tools_release)(void *);
    struct kiln_custom_entry *customs; /* under `lock`; entries stay as they are */
    _Atomic uint32_t sentence;
    char sentences[KILN_CONTEXT_SENTENCES][KILN_MESSAGE_BYTES];
};

/* Large memory, 64-byte aligned; NULL when there is none. Bytes > 0; both calls get the same. */
void *kiln_context_allocate(kiln_context *context, int64_t bytes);
void kiln_context_release(kiln_context *context, void *memory, int64_t bytes);

/* The pool, created now if there is none; NULL when the context has one thread, the caller's own
 * parallel function, or no thread could be made: work then runs on the caller. */
kiln_threads *kiln_context_pool(kiln_context *context);
#endif
