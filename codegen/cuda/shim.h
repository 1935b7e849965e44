/* CUDA text on a CPU, for tests: blocks run one after the other; the threads of a block are
 * coroutines that switch at barriers, so shared memory and __syncthreads mean what they mean on a
 * device. A barrier that some threads of a block never reach makes the entry return 1. Include
 * before the text. */
#ifndef KILN_CUDA_SHIM_H
#define KILN_CUDA_SHIM_H

#include <stdlib.h>
#include <ucontext.h>

#define KILN_SHIM 1
#define KILN_SHIM_STACK 65536

#define __restrict__ __restrict
#define KILN_SHARED_MEMORY kiln_b16 *kiln_shared = (kiln_b16 *)kiln_shim_shared
#define KILN_KERNEL(threads) static void

typedef struct kiln_shim_index {
    unsigned x;
} kiln_shim_index;

static kiln_shim_index blockIdx, threadIdx;
static char *kiln_shim_shared;
static ucontext_t kiln_shim_home, *kiln_shim_self;
static int kiln_shim_is_done;
static void (*kiln_shim_thread)(void *const *buffers);
static void *const *kiln_shim_buffers;

static inline __attribute__((unused)) void __syncthreads(void)
{
    kiln_shim_is_done = 0;
    swapcontext(kiln_shim_self, &kiln_shim_home);
}

static void kiln_shim_start(void)
{
    kiln_shim_thread(kiln_shim_buffers);
    kiln_shim_is_done = 1;
}

/* One block: rounds from barrier to barrier. Returns 1 when threads part ways at one. */
static int kiln_shim_block(unsigned threads, char *stacks, ucontext_t *contexts)
{
    for (unsigned t = 0; t < threads; t++) {
        getcontext(&contexts[t]);
        contexts[t].uc_stack.ss_sp = stacks + (size_t)t * KILN_SHIM_STACK;
        contexts[t].uc_stack.ss_size = KILN_SHIM_STACK;
        contexts[t].uc_link = &kiln_shim_home;
        makecontext(&contexts[t], kiln_shim_start, 0);
    }
    for (;;) {
        unsigned done = 0;
        for (unsigned t = 0; t < threads; t++) {
            threadIdx.x = t;
            kiln_shim_self = &contexts[t];
            swapcontext(&kiln_shim_home, &contexts[t]);
            done += kiln_shim_is_done != 0;
        }
        if (done) return done != threads;
    }
}

static int kiln_shim_run(void (*thread)(void *const *), void *const *buffers,
                         const unsigned sizes[3], int has_barrier)
{
    unsigned blocks = sizes[0], threads = sizes[1];
    char *stacks = has_barrier ? malloc((size_t)threads * KILN_SHIM_STACK) : NULL;
    ucontext_t *contexts = has_barrier ? malloc(threads * sizeof *contexts) : NULL;
    int failure = 0;
    kiln_shim_shared = aligned_alloc(64, (sizes[2] + 127u) & ~63u);
    kiln_shim_thread = thread;
    kiln_shim_buffers = buffers;
    for (blockIdx.x = 0; blockIdx.x < blocks && !failure; blockIdx.x++) {
        if (has_barrier) failure = kiln_shim_block(threads, stacks, contexts);
        for (threadIdx.x = 0; !has_barrier && threadIdx.x < threads; threadIdx.x++) thread(buffers);
    }
    free(kiln_shim_shared);
    free(stacks);
    free(contexts);
    return failure;
}

#define KILN_SHIM_ENTRY(symbol, threads, shared_bytes, has_barrier)                                \
    int symbol##_shim(void *const *buffers, unsigned n_blocks);                                    \
    int symbol##_shim(void *const *buffers, unsigned n_blocks)                                     \
    {                                                                                              \
        const unsigned sizes[3] = {n_blocks, threads, shared_bytes};                               \
        return kiln_shim_run(symbol##_thread, buffers, sizes, has_barrier);                        \
    }
#endif
