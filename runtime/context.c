/* Contexts: options in, a counted object out that holds what runs share. The default allocator maps
 * memory of 2 MiB and more on huge pages of its own: a reused arena costs no page fault per run. */
#define _GNU_SOURCE
#include "runtime/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/cpu.h"
#include "runtime/custom.h"
#include "runtime/host.h"

#define HUGE_PAGE ((size_t)2 << 20)

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* Maps one huge page more than asked and gives the unaligned ends back. */
static void *map_huge(size_t bytes)
{
    size_t rounded = round_up(bytes, HUGE_PAGE);
    char *memory = mmap(NULL, rounded + HUGE_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    size_t before = round_up((uintptr_t)memory, HUGE_PAGE) - (uintptr_t)memory;
    if (before) munmap(memory, before);
    if (before < HUGE_PAGE) munmap(memory + before + rounded, HUGE_PAGE - before);
    madvise(memory + before, rounded, MADV_HUGEPAGE);
    return memory + before;
}

static void *default_allocate(void *user, size_t bytes, size_t alignment)
{
    if (bytes >= (size_t)PTRDIFF_MAX - 2 * HUGE_PAGE) return NULL;
    if (bytes >= HUGE_PAGE) return map_huge(bytes);
    return aligned_alloc(alignment, round_up(bytes, alignment));
}

static void default_release(void *user, void *memory, size_t bytes)
{
    if (bytes >= HUGE_PAGE) {
        munmap(memory, round_up(bytes, HUGE_PAGE));
    } else {
        free(memory);
    }
}

static const kiln_allocator default_allocator = {default_allocate, default_release, NULL};

static kiln_status options_check(const kiln_context_options *options)
{
    if (options->struct_bytes != sizeof *options) return KILN_INVALID;
    if (options->threads > KILN_MAX_THREADS || options->reserved) return KILN_INVALID;
    if (options->max_bytes < 0) return KILN_INVALID;
    const kiln_allocator *allocator = options->allocator;
    if (allocator && (!allocator->allocate || !allocator->release)) return KILN_INVALID;
    return KILN_OK;
}

kiln_status kiln_context_create(const kiln_context_options *options, kiln_context **out_context)
{
    static const kiln_context_options defaults = {.struct_bytes = sizeof defaults};
    if (!out_context) return KILN_INVALID;
    if (!options) options = &defaults;
    kiln_status status = options_check(options);
    if (status) return status;
    kiln_context *context = calloc(1, sizeof *context);
    if (!context) return KILN_NO_MEMORY;
    if (pthread_mutex_init(&context->lock, NULL)) {
        free(context);
        return KILN_NO_MEMORY;
    }
    atomic_init(&context->refs, 1);
    context->threads = options->threads ? options->threads : kiln_host_cores();
    if (context->threads > KILN_MAX_THREADS) context->threads = KILN_MAX_THREADS;
    context->cpu_features = kiln_cpu_detect();
    context->max_bytes = options->max_bytes ? options->max_bytes : kiln_host_memory() / 5 * 4;
    context->allocator = options->allocator ? *options->allocator : default_allocator;
    context->parallel = options->parallel;
    context->parallel_user = options->parallel_user;
    *out_context = context;
    return KILN_OK;
}

kiln_context *kiln_context_retain(kiln_context *context)
{
    if (context) atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void kiln_context_destroy(kiln_context *context)
{
    if (!context) return;
    if (atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) != 1) return;
    kiln_threads_destroy(context->pool);
    if (context->memo) context->memo_release(context->memo);
    if (context->tools) context->tools_release(context->tools);
    kiln_customs_free(context->customs);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

const char *kiln_context_message(const kiln_context *context)
{
    if (!context) return "context: options out of range (threads are 0 to 1024) or no memory; see "
                         "kiln_context_options";
    uint32_t at = atomic_load_explicit(&context->sentence, memory_order_acquire);
    return context->sentences[at % KILN_CONTEXT_SENTENCES];
}

kiln_status kiln_context_fail(kiln_context *context, kiln_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&context->lock);
    uint32_t next = atomic_load_explicit(&context->sentence, memory_order_relaxed) + 1;
    vsnprintf(context->sentences[next % KILN_CONTEXT_SENTENCES], KILN_MESSAGE_BYTES, format, args);
    atomic_store_explicit(&context->sentence, next, memory_order_release);
    pthread_mutex_unlock(&context->lock);
    va_end(args);
    return status;
}

uint32_t kiln_context_threads(const kiln_context *context)
{
    return context ? context->threads : 0;
}

uint64_t kiln_cpu_features(void)
{
    return kiln_cpu_detect();
}

void *kiln_context_allocate(kiln_context *context, int64_t bytes)
{
    if (bytes <= 0) return NULL;
    return context->allocator.allocate(context->allocator.user, (size_t)bytes, 64);
}

void kiln_context_release(kiln_context *context, void *memory, int64_t bytes)
{
    if (memory) context->allocator.release(context->allocator.user, memory, (size_t)bytes);
}

kiln_threads *kiln_context_pool(kiln_context *context)
{
    if (context->threads < 2 || context->parallel) return NULL;
    kiln_threads *pool = atomic_load_explicit(&context->pool, memory_order_acquire);
    if (pool) return pool;
    pthread_mutex_lock(&context->lock);
    pool = atomic_load_explicit(&context->pool, memory_order_relaxed);
    if (!pool) {
        pool = kiln_threads_create(context->threads);
        atomic_store_explicit(&context->pool, pool, memory_order_release);
    }
    pthread_mutex_unlock(&context->lock);
    return pool;
}
