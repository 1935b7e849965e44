/* Seeds one after the other in a process of their own, which this one watches: a graph on which it
 * dies, or takes longer than a limit, is named and counted, and a new process goes on behind it. */
#ifndef KILN_TESTS_FUZZ_WATCH_H
#define KILN_TESTS_FUZZ_WATCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In memory that both processes see. */
typedef struct fuzz_watch {
    uint64_t first, count; /* seeds */
    double seconds;        /* for all, 0: no end */
    double limit;          /* processor seconds for one graph, and for one try to shrink it */
    bool keeps_going;      /* behind a failure */
    uint64_t done, n_lost; /* seeds; those that died or took too long */
    bool has_failed;
    volatile double cpu_start, start; /* of the graph at work */
} fuzz_watch;

/* What the process does: opens, runs seeds (false: failed), closes. `clear` removes what one that
 * was killed has left. */
typedef struct fuzz_work {
    bool (*open)(void *user);
    bool (*run)(void *user, uint64_t seed);
    void (*close)(void *user);
    void (*clear)(void *user);
    void *user; /* in shared memory */
} fuzz_work;

/* Zeroed memory that later processes share; NULL when there is none. */
void *fuzz_watch_alloc(size_t bytes);
/* Until all seeds are done, the time is over, something fails or a signal ends it: then a graph at
 * work has a moment to finish. */
void fuzz_watch_run(fuzz_watch *watch, const fuzz_work *work);
/* The limit counts from here on. */
void fuzz_watch_beat(fuzz_watch *watch);
double fuzz_watch_now(void);
#endif
