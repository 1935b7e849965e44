/* The pool. A job is announced by a new generation; a worker that sees it passes the gate, works
 * and leaves; the caller works too, shuts the gate and waits for those inside only. A worker that
 * wakes too late finds the gate shut, so a sleeper never delays a job. Idle workers spin for 20 µs,
 * then sleep on the generation (a futex): between steps of one run a fork costs a cache miss or
 * two. */
#define _GNU_SOURCE
#include "runtime/threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 20000
/* Twice what a kernel may need (kernels too long for the register allocator keep all their values
 * on the stack); pages that none needs are never there. */
#define STACK_BYTES ((size_t)8 << 20)

/* The gate: generation in the high half, then the shut bit, then how many passed. */
#define GATE_SHUT 0x80000000u
#define GATE_COUNT 0x7fffffffu

typedef struct worker {
    kiln_threads *threads;
    pthread_t thread;
    uint32_t number;
} worker;

struct kiln_threads {
    _Alignas(64) _Atomic uint32_t generation;
    _Atomic uint32_t n_sleepers;
    _Atomic bool is_ending;
    _Alignas(64) _Atomic uint64_t gate;
    kiln_threads_body *body; /* these two are constant while the gate is open or somebody inside */
    void *state;
    _Alignas(64) _Atomic uint32_t n_left;
    _Alignas(64) _Atomic bool is_busy;
    unsigned char *is_ours; /* 1; a page of its own that the kernel clears in a forked child */
    uint32_t n;
    worker workers[];
};

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void pause_turn(void)
{
    __builtin_ia32_pause();
}

void kiln_threads_spin(uint32_t *turns)
{
    if (++*turns < 1000) { /* 15 to 50 µs, by what a pause takes */
        pause_turn();
    } else {
        sched_yield();
    }
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Waits until the generation is not `seen`. */
static uint32_t wait_for_job(kiln_threads *threads, uint32_t seen)
{
    int64_t end = now_ns() + SPIN_NS;
    for (uint32_t turn = 1;; turn++) {
        uint32_t found = atomic_load_explicit(&threads->generation, memory_order_acquire);
        if (found != seen) return found;
        pause_turn();
        if (turn % 8 == 0 && now_ns() > end) break;
    }
    for (;;) {
        atomic_fetch_add(&threads->n_sleepers, 1);
        futex_wait(&threads->generation, seen);
        atomic_fetch_sub(&threads->n_sleepers, 1);
        uint32_t found = atomic_load_explicit(&threads->generation, memory_order_acquire);
        if (found != seen) return found;
    }
}

static bool gate_pass(kiln_threads *threads, uint32_t generation)
{
    uint64_t gate = atomic_load_explicit(&threads->gate, memory_order_relaxed);
    do {
        if (gate >> 32 != generation || gate & GATE_SHUT) return false;
    } while (!atomic_compare_exchange_weak_explicit(&threads->gate, &gate, gate + 1,
                                                    memory_order_acquire, memory_order_relaxed));
    return true;
}

static void *worker_main(void *argument)
{
    worker *self = argument;
    kiln_threads *threads = self->threads;
    uint32_t generation = 0;
    for (;;) {
        generation = wait_for_job(threads, generation);
        if (atomic_load_explicit(&threads->is_ending, memory_order_acquire)) return NULL;
        if (!gate_pass(threads, generation)) continue;
        threads->body(threads->state, self->number);
        atomic_fetch_add_explicit(&threads->n_left, 1, memory_order_release);
    }
}

static void announce(kiln_threads *threads, uint32_t generation)
{
    /* Sequentially consistent with the sleeper's count: one of the two sees the other. */
    atomic_store(&threads->generation, generation);
    if (atomic_load(&threads->n_sleepers)) futex_wake_all(&threads->generation);
}

bool kiln_threads_run(kiln_threads *threads, kiln_threads_body *body, void *state)
{
    if (atomic_exchange_explicit(&threads->is_busy, true, memory_order_acquire)) return false;
    if (threads->is_ours && !*threads->is_ours) return false;
    uint32_t generation =
        atomic_load_explicit(&threads->generation, memory_order_relaxed) + 1;
    threads->body = body;
    threads->state = state;
    atomic_store_explicit(&threads->n_left, 0, memory_order_relaxed);
    atomic_store_explicit(&threads->gate, (uint64_t)generation << 32, memory_order_release);
    announce(threads, generation);
    body(state, 0);
    uint64_t gate =
        atomic_fetch_or_explicit(&threads->gate, GATE_SHUT, memory_order_acq_rel);
    uint32_t n_passed = (uint32_t)gate & GATE_COUNT, turns = 0;
    while (atomic_load_explicit(&threads->n_left, memory_order_acquire) != n_passed) {
        kiln_threads_spin(&turns);
    }
    atomic_store_explicit(&threads->is_busy, false, memory_order_release);
    return true;
}

/* Signals stay with the caller's threads. */
static bool worker_start(worker *self)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return false;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_made = pthread_create(&self->thread, &attributes, worker_main, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (is_made) {
        char name[16];
        snprintf(name, sizeof name, "kiln-%u", self->number);
        pthread_setname_np(self->thread, name);
    }
    return is_made;
}

static unsigned char *fork_mark_create(void)
{
    unsigned char *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    if (madvise(page, 1, MADV_WIPEONFORK)) {
        munmap(page, 1);
        return NULL;
    }
    *page = 1;
    return page;
}

kiln_threads *kiln_threads_create(uint32_t n)
{
    size_t bytes = sizeof(kiln_threads) + n * sizeof(worker);
    kiln_threads *threads = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!threads) return NULL;
    *threads = (kiln_threads){.n = 1, .is_ours = fork_mark_create()};
    for (uint32_t i = 1; i < n; i++) {
        threads->workers[i] = (worker){.threads = threads, .number = i};
        if (!worker_start(&threads->workers[i])) break;
        threads->n = i + 1;
    }
    if (threads->n > 1) return threads;
    kiln_threads_destroy(threads);
    return NULL;
}

void kiln_threads_destroy(kiln_threads *threads)
{
    if (!threads) return;
    bool is_child = threads->is_ours && !*threads->is_ours;
    if (!is_child) {
        atomic_store(&threads->is_ending, true);
        announce(threads, atomic_load(&threads->generation) + 1);
        for (uint32_t i = 1; i < threads->n; i++) pthread_join(threads->workers[i].thread, NULL);
    }
    if (threads->is_ours) munmap(threads->is_ours, 1);
    free(threads);
}

uint32_t kiln_threads_count(const kiln_threads *threads)
{
    return threads->n;
}
